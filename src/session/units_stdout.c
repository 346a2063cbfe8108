/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * --unit-stdout: the child writes into a pipe; a process of its own, the forwarder, counts the lines and writes all of it, unchanged, to
 * the standard output that memwatch was given.
 *
 *   child --pipe--> forwarder --> standard output
 *                      | units, in a shared page
 *                   memwatch
 *
 * The forwarder outlives memwatch: it ends when the last writer has closed the pipe. Where standard output takes no more (EPIPE) it
 * closes the pipe, and the child learns that as it would without memwatch. It is no child of memwatch, so that no wait of the tracer
 * and no listing of children meets it.
 *
 * Whether all is counted: memwatch keeps a writing end until the child has ended, to ask for the bytes that wait in the pipe. The
 * forwarder is `busy` from before it reads to after it has counted. So "nothing waits, then not busy" means that all is counted.
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "memwatch/base/clock.h"
#include "session/private.h"
#include "session/units.h"

#define CHUNK_BYTES (64 << 10)           /* a pipe's usual capacity */
#define EXIT_WAIT_NS (20 * NS_PER_MS)    /* the ending child is held for so long until its last lines are counted */
#define HELD_WAIT_NS (300 * NS_PER_MS)   /* all of its output is out, but another process holds the pipe */
#define STUCK_WAIT_NS (5000 * NS_PER_MS) /* it is not, and the reader of standard output takes nothing */
#define POLL_MS 5

struct share { /* between forwarder and memwatch */
	_Atomic uint64_t units;
	_Atomic bool known, numbered, busy;
	_Atomic uint64_t taken, bytes; /* read from the pipe; written */
	_Atomic uint64_t cpu_ns;
	_Atomic int error; /* of writing */
};

struct units_of_stdout {
	struct units units;
	regex_t regex;
	struct share *share;
	int write_fd; /* the pipe's end for the child */
	int life_fd;  /* hung up when the forwarder has ended */
	bool ended;   /* it has */
	bool held, stuck;
};

/* ---- the forwarder: a process of its own, async-signal-safe but for regexec(), which is safe behind a fork of one thread ---- */

struct forwarder {
	int in;
	struct share *share;
	struct unit_lines lines;
	char chunk[CHUNK_BYTES + 1]; /* and a NUL: AddressSanitizer takes what regexec() is given for a string */
};

static void publish(struct forwarder *f)
{
	const struct unit_count *c = &f->lines.count;

	atomic_store(&f->share->units, unit_count_total(c));
	atomic_store(&f->share->numbered, c->numbered);
	atomic_store(&f->share->known, c->known);
	atomic_store(&f->share->cpu_ns, clock_self_cpu_ns());
}

/* Standard output may be non-blocking: its other users decide that. */
static bool write_out(const char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = write(STDOUT_FILENO, data, len);
		struct pollfd ready = { .fd = STDOUT_FILENO, .events = POLLOUT };

		if (n >= 0) {
			data += n;
			len -= (size_t)n;
		} else if (errno == EAGAIN) {
			(void)poll(&ready, 1, -1);
		} else if (errno != EINTR) {
			return false;
		}
	}
	return true;
}

static bool forward_chunk(struct forwarder *f, size_t len)
{
	bool written;

	atomic_fetch_add(&f->share->taken, len);
	unit_lines_feed(&f->lines, f->chunk, len);
	publish(f);
	atomic_store(&f->share->busy, false);
	written = write_out(f->chunk, len);
	if (written)
		atomic_fetch_add(&f->share->bytes, len);
	else
		atomic_store(&f->share->error, errno);
	return written;
}

static void forward(struct forwarder *f)
{
	for (;;) {
		struct pollfd ready = { .fd = f->in, .events = POLLIN };
		ssize_t n;

		if (poll(&ready, 1, -1) < 0)
			continue;
		atomic_store(&f->share->busy, true);
		n = read(f->in, f->chunk, CHUNK_BYTES);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0 || !forward_chunk(f, (size_t)n))
			break;
	}
	unit_lines_end(&f->lines);
	publish(f);
	atomic_store(&f->share->busy, false);
}

/* Signals for the job mean the child: it may catch them, and goes on writing. */
static void settle_signals(void)
{
	static const int ignored[] = { SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGPIPE };
	static const int plain[] = { SIGTSTP, SIGCONT, SIGCHLD, SIGTTOU, SIGTTIN };
	sigset_t none;

	for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
		signal(ignored[i], SIG_IGN);
	for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++)
		signal(plain[i], SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Descriptors 0 in, 1 out, 2 nothing, 3 life; no others. */
static void keep_only(int in, int life)
{
	int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	life = fcntl(life, F_DUPFD, 10); /* out of the way of 0 to 3 */
	if (in != STDIN_FILENO)
		dup2(in, STDIN_FILENO);
	dup2(null_fd, STDERR_FILENO);
	dup2(life, 3);
	if (syscall(SYS_close_range, 4U, ~0U, 0U) < 0)
		for (int fd = 4; fd < 4096; fd++)
			close(fd);
}

__attribute__((noreturn)) static void run_forwarder(const struct units_of_stdout *o, int in, int life)
{
	struct forwarder *f = calloc(1, sizeof(*f));

	if (!f)
		_exit(1);
	settle_signals();
	prctl(PR_SET_NAME, "memwatch-out");
	keep_only(in, life);
	f->in = STDIN_FILENO;
	f->share = o->share;
	f->lines.regex = &o->regex;
	forward(f);
	_exit(0);
}

/* ---- memwatch's side ---- */

/* Forked twice: the forwarder is nobody's child that would be waited for. */
static int start_forwarder(const struct units_of_stdout *o, int in, int life, struct err *err)
{
	pid_t pid = fork();
	int status = 0;

	if (pid < 0)
		return err_set(err, errno, "cannot start a process: %s", strerror(errno));
	if (pid == 0) {
		pid = fork();
		if (pid == 0)
			run_forwarder(o, in, life);
		_exit(pid < 0);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return err_set(err, EAGAIN, "cannot start a process that counts the output");
	return 0;
}

static int start(struct units_of_stdout *o, struct err *err)
{
	int out[2] = { -1, -1 }, life[2] = { -1, -1 };
	int rc;

	if (fcntl(STDOUT_FILENO, F_GETFD) < 0)
		return err_set(err, EBADF,
			       "standard output is closed: there are no lines to count; open it, or use --unit-file");
	if (pipe2(out, O_CLOEXEC) < 0 || pipe2(life, O_CLOEXEC) < 0)
		rc = err_set(err, errno, "cannot make a pipe: %s", strerror(errno));
	else
		rc = start_forwarder(o, out[0], life[1], err);
	if (out[0] >= 0)
		close(out[0]);
	if (life[1] >= 0)
		close(life[1]);
	o->write_fd = out[1];
	o->life_fd = life[0];
	return rc;
}

static struct units_of_stdout *of(struct units *u)
{
	return (struct units_of_stdout *)u;
}

static void stdout_close(struct units *u)
{
	struct units_of_stdout *o = of(u);

	if (o->write_fd >= 0)
		close(o->write_fd);
	if (o->life_fd >= 0)
		close(o->life_fd);
	if (o->share)
		munmap(o->share, sizeof(*o->share));
	regfree(&o->regex);
	free(o);
}

static int stdout_open(const struct session_options *options, struct units **ret, struct err *err)
{
	struct units_of_stdout *o;
	char why[128];
	void *page;
	int rc;

	if (!options->argv)
		return err_set(err, EINVAL,
			       "--unit-stdout needs the output of a program that memwatch runs; use --unit-file");
	o = calloc(1, sizeof(*o));
	if (!o)
		return err_set(err, ENOMEM, "out of memory");
	o->write_fd = o->life_fd = -1;
	rc = regcomp(&o->regex, options->unit_stdout, REG_EXTENDED);
	if (rc != 0) {
		regerror(rc, &o->regex, why, sizeof(why));
		free(o);
		return err_set(err, EINVAL, "invalid --unit-stdout '%.200s': %s", options->unit_stdout, why);
	}
	o->units.argument = options->unit_stdout;
	page = mmap(NULL, sizeof(*o->share), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED) {
		rc = err_set(err, ENOMEM, "out of memory");
	} else {
		o->share = page;
		rc = start(o, err);
	}
	if (rc < 0) {
		stdout_close(&o->units);
		return rc;
	}
	*ret = &o->units;
	return 0;
}

int units_stdout_descriptor(const struct units *u)
{
	return ((const struct units_of_stdout *)u)->write_fd;
}

uint64_t units_stdout_cpu_ns(const struct units *u)
{
	return atomic_load(&((const struct units_of_stdout *)u)->share->cpu_ns);
}

static const char *stdout_noun(const struct units *u)
{
	return atomic_load(&((const struct units_of_stdout *)u)->share->numbered) ? "unit" : "line";
}

static bool has_ended(struct units_of_stdout *o, int timeout_ms)
{
	struct pollfd life = { .fd = o->life_fd, .events = POLLIN };

	if (!o->ended && poll(&life, 1, timeout_ms) > 0)
		o->ended = true;
	return o->ended;
}

static bool all_counted(struct units_of_stdout *o)
{
	int waiting = 0;

	if (o->write_fd < 0 || ioctl(o->write_fd, FIONREAD, &waiting) < 0)
		return true;
	return waiting == 0 && !atomic_load(&o->share->busy);
}

static void take(struct units_of_stdout *o)
{
	o->units.value = (double)atomic_load(&o->share->units);
}

static void stdout_read(struct units *u, struct target *t, bool last)
{
	struct units_of_stdout *o = of(u);
	uint64_t begin = clock_now_ns();

	(void)t;
	while (last && !all_counted(o) && clock_now_ns() - begin < EXIT_WAIT_NS && !has_ended(o, 1))
		;
	take(o);
}

/* How many bytes will have been written when all is out that the child has printed; what comes behind is another process's. */
static uint64_t bytes_due(struct units_of_stdout *o)
{
	int waiting = 0;

	if (o->write_fd >= 0 && ioctl(o->write_fd, FIONREAD, &waiting) < 0)
		waiting = 0;
	return (uint64_t)waiting + atomic_load(&o->share->taken);
}

/* All that the child has written goes out before memwatch's own report does, as far as somebody takes it. */
static void stdout_drain(struct units *u, struct session *s)
{
	struct units_of_stdout *o = of(u);
	uint64_t begin_ns = clock_now_ns(), progress_ns = begin_ns, bytes = atomic_load(&o->share->bytes);
	uint64_t due = bytes_due(o);

	(void)s;
	if (o->write_fd >= 0)
		close(o->write_fd);
	o->write_fd = -1;
	while (!has_ended(o, POLL_MS)) {
		uint64_t now = clock_now_ns(), written = atomic_load(&o->share->bytes);

		if (written != bytes)
			progress_ns = now;
		bytes = written;
		o->held = written >= due && now - begin_ns > HELD_WAIT_NS;
		o->stuck = written < due && now - progress_ns > STUCK_WAIT_NS;
		if (o->held || o->stuck)
			break;
	}
	take(o);
}

static void stdout_gaps(struct units *u, struct session *s)
{
	struct units_of_stdout *o = of(u);
	int error = atomic_load(&o->share->error);
	char text[256];

	if (!atomic_load(&o->share->known)) {
		snprintf(text, sizeof(text), "no line of standard output matched '%.100s'", u->argument);
		session_gap(
			s, "work", text,
			"try it with grep -E; a program that writes into a pipe may keep its lines back: stdbuf -oL");
	}
	if (o->stuck)
		session_gap(s, "work",
			    "the reader of standard output takes nothing: lines at the end may not be counted", NULL);
	else if (o->held)
		session_gap(s, "work",
			    "another process holds the standard output of the ended child: what it prints is passed "
			    "on, but not counted",
			    NULL);
	if (error != 0 && error != EPIPE) {
		snprintf(text, sizeof(text), "standard output took no more: %s", strerror(error));
		session_gap(s, "work", text, NULL);
	}
}

const struct units_ops units_stdout = { .noun = stdout_noun,
					.open = stdout_open,
					.read = stdout_read,
					.drain = stdout_drain,
					.gaps = stdout_gaps,
					.close = stdout_close };
