# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that people run and that do not leak: no verdict may say that they do."""
import os
import shutil
import socket
import threading
import time

from harness import need, need_program, test

NO_LEAK = ("stable", "warmup", "step", "spike", "retention", "scaling", "insufficient-data")
SECONDS = 20


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Load:
    """Repeats a piece of work in a thread until it is left."""

    def __init__(self, work):
        self.work, self.over, self.done, self.error = work, threading.Event(), 0, None
        self.thread = threading.Thread(target=self.loop, daemon=True)

    def loop(self):
        try:
            while not self.over.is_set():
                self.work(self.done)
                self.done += 1
                time.sleep(0.005)
        except OSError as error:
            self.error = error

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join(10)


def listening(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


def expect_no_leak(bench, pid, *options):
    result = bench.memwatch("--pid", pid, "-d", SECONDS, *options).expect(0)
    entries = result.report["processes"] or [result.report]
    for entry in entries:
        verdict = entry["verdict"]
        assert verdict["class"] in NO_LEAK, f"{entry['target']['comm']}: {verdict['class']}: {verdict['summary']}"
    return result.report


@test(timeout=70)
def test_python_at_work(bench):
    script = ("import time\nd = {}\nend = time.time() + 60\ni = 0\n"
              "while time.time() < end:\n    for _ in range(2000):\n        d[i % 50021] = [i] * (i % 61)\n        i += 1\n    time.sleep(0.01)\n")
    target = bench.start("/usr/bin/python3", "-c", script)
    time.sleep(3)
    expect_no_leak(bench, target.pid)


@test(timeout=70)
def test_python_idle(bench):
    target = bench.start("/usr/bin/python3", "-c", "import time; time.sleep(60)")
    time.sleep(0.5)
    report = expect_no_leak(bench, target.pid)
    assert report["verdict"]["class"] == "stable", report["verdict"]["summary"]


@test(timeout=70)
def test_python_that_leaks_by_malloc(bench):
    """A leak of an extension: 1 MiB/s by malloc, never freed."""
    script = ("import ctypes, time\nm = ctypes.CDLL(None).malloc\nm.restype = ctypes.c_void_p\nstart = time.time()\nn = 0\n"
              "while time.time() < start + 60:\n    while n < (time.time() - start) * 2**20:\n"
              "        ctypes.memset(m(4099), 1, 4099)\n        n += 4099\n    time.sleep(0.01)\n")
    target = bench.start("/usr/bin/python3", "-c", script)
    time.sleep(1)
    result = bench.memwatch("--pid", target.pid, "-d", SECONDS).expect(0)
    assert result.verdict["class"] == "leak" and result.verdict["where"] == "heap", result.verdict["summary"]


def redis_command(sock, *words):
    data = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)
    sock.sendall(data)
    assert sock.recv(65536)


@test(timeout=80)
def test_redis(bench):
    program, port = need_program("redis-server"), free_port()
    server = bench.start(program, "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", bench.dir)
    bench.until(lambda: listening(port) or not server.alive(), "redis to listen", 15)
    need(server.alive(), f"redis does not start here: {server.out[-200:]}")
    with socket.create_connection(("127.0.0.1", port), 5) as sock:
        for key in range(2003): # the keys are there before the watching: afterwards they are only replaced
            redis_command(sock, b"SET", b"key:%d" % key, b"x" * (key % 521))
        with Load(lambda n: redis_command(sock, b"SET", b"key:%d" % (n % 2003), b"y" * (n % 521))) as load:
            expect_no_leak(bench, server.pid)
        assert load.error is None and load.done > 500, (load.error, load.done)


@test(timeout=80)
def test_nginx(bench):
    program, port = need_program("nginx"), free_port()
    with open(os.path.join(bench.dir, "index.html"), "w", encoding="utf-8") as file:
        file.write("x" * 4099)
    config = os.path.join(bench.dir, "nginx.conf")
    with open(config, "w", encoding="utf-8") as file:
        file.write(f"daemon off; pid {bench.dir}/pid; error_log {bench.dir}/error; worker_processes 2; events {{}}\n"
                   f"http {{ access_log off; client_body_temp_path {bench.dir}/b; proxy_temp_path {bench.dir}/p; "
                   f"fastcgi_temp_path {bench.dir}/f; uwsgi_temp_path {bench.dir}/u; scgi_temp_path {bench.dir}/s;\n"
                   f"server {{ listen 127.0.0.1:{port}; root {bench.dir}; }} }}\n")
    server = bench.start(program, "-c", config, "-p", bench.dir, "-e", f"{bench.dir}/start-error")
    bench.until(lambda: listening(port) or not server.alive(), "nginx to listen", 15)
    need(server.alive(), f"nginx does not start here: {server.err[-200:]}")

    def get(_):
        with socket.create_connection(("127.0.0.1", port), 5) as sock:
            sock.sendall(b"GET /index.html HTTP/1.0\r\n\r\n")
            assert sock.recv(65536).startswith(b"HTTP/1.1 200")

    with Load(get) as load:
        report = expect_no_leak(bench, server.pid, "--children")
    assert load.error is None and load.done > 500, (load.error, load.done)
    assert len(report["processes"]) == 3, "a master and two workers"


JAVA = """
public class Work {
    static Object[] kept = new Object[4099];
    public static void main(String[] a) throws Exception {
        long end = System.currentTimeMillis() + Long.parseLong(a[0]) * 1000;
        for (int i = 0; System.currentTimeMillis() < end; i++) {
            kept[i % kept.length] = new byte[1024 + i % 521];
            if (i % 997 == 0) Thread.sleep(5);
        }
    }
}
"""


@test(timeout=90)
def test_java_at_work(bench):
    java = need_program("java")
    need(shutil.which("javac"), "no javac: only a runtime is installed")
    source = os.path.join(bench.dir, "Work.java")
    with open(source, "w", encoding="utf-8") as file:
        file.write(JAVA)
    compiled = bench.start("javac", "-d", bench.dir, source).wait()
    assert compiled.status == 0, compiled.err
    target = bench.start(java, "-Xmx64m", "-XX:+UseSerialGC", "-cp", bench.dir, "Work", 70)
    time.sleep(8)
    assert target.alive(), target.err
    expect_no_leak(bench, target.pid)


@test(timeout=90)
def test_java_idle(bench):
    program = need_program("rmiregistry")
    target = bench.start(program, free_port(), env=dict(os.environ, JDK_JAVA_OPTIONS="-Xmx64m"))
    time.sleep(6)
    need(target.alive(), f"rmiregistry does not start: {target.err[-200:]}")
    expect_no_leak(bench, target.pid)
