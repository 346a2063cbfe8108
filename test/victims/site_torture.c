/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A target that notices when somebody harms it. site_torture [SECONDS] [THREADS]
 *
 * Threads take, move and give back blocks that carry a pattern, and compute with floating-point and vector registers across these calls; 1 kHz
 * timers interrupt them with handlers that compute too. Beside them: sleepers whose calls must not fail with EINTR; plugins
 * loaded and unloaded; fork and exec, posix_spawn; threads that are born and end. Whatever is not as it should be is counted.
 *
 * One JSON line every STATUS_MS: { "t_s": 1.0, "steps": 12345, "faults": 0, "eintr": 0, "signals": 999, "first_fault": "", "gap_ns": 81000 },
 * gap_ns the longest that any step of any thread took since the last line. Ends on SIGTERM: status 0 where nothing was wrong, the last line has "done": 1.
 */
#include "victim.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define THREADS_MAX 64
#define BLOCKS 127
#define STEPS_AT_ONCE 20
#define STATUS_MS 250
#define TIMER_NS 1000000
#define TIMERS 4

typedef double vector __attribute__((vector_size(32)));

struct block {
	unsigned char *bytes;
	size_t len;
	unsigned char seed;
};

static uint64_t steps, faults, eintr, signals, gap_ns; /* by __atomic only */
static const char *first_fault = "";
static volatile sig_atomic_t stop;
static double end_s;
static uint64_t expected_sum;

static void fault(const char *what)
{
	if (__atomic_fetch_add(&faults, 1, __ATOMIC_RELAXED) == 0)
		__atomic_store_n(&first_fault, what, __ATOMIC_RELAXED);
}

static bool over(void)
{
	return stop || now_s() > end_s;
}

static void on_term(int number)
{
	stop = number;
}

static uint64_t clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* ---- computations whose result is known ---------------------------------------------------------------------------------- */

/* Integers, doubles and vectors that live across a call; `between` may be anything. */
static inline __attribute__((always_inline)) bool computes_right(int n, void (*between)(void))
{
	vector v = { 1, 2, 3, 4 };
	double d = 0.5;
	uint64_t h = 14695981039346656037UL;

	for (int i = 1; i <= n; i++) {
		h = (h ^ (uint64_t)i) * 1099511628211UL;
		d += 0.25 * i;
		v += (vector){ 1, 2, 3, 4 };
		if (between && i % 8 == 0)
			between();
	}
	uint64_t g = 14695981039346656037UL;
	for (volatile int i = 1; i <= n; i = i + 1)
		g = (g ^ (uint64_t)i) * 1099511628211UL;
	return h == g && d == 0.5 + 0.125 * n * (n + 1) && v[0] == n + 1 && v[1] == 2 * (n + 1) &&
	       v[2] == 3 * (n + 1) && v[3] == 4 * (n + 1);
}

static void on_timer(int number)
{
	int saved = errno;

	(void)number;
	if (!computes_right(97, NULL))
		fault("a computation in a signal handler");
	__atomic_fetch_add(&signals, 1, __ATOMIC_RELAXED);
	errno = saved;
}

NOINLINE static void small_block(void)
{
	void *volatile block = must(malloc(61));

	free(block);
}

/* ---- blocks -------------------------------------------------------------------------------------------------------------- */

static void fill(struct block *b, size_t from)
{
	for (size_t i = from; i < b->len; i++)
		b->bytes[i] = (unsigned char)(b->seed + i * 7);
}

static void verify(const struct block *b, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (b->bytes[i] != (unsigned char)(b->seed + i * 7)) {
			fault("the content of a block");
			return;
		}
}

static void take(struct block *b, uint64_t r)
{
	void *bytes = NULL;

	b->len = (r >> 40) % 499 == 0 ? 200003 : 1 + (r >> 32) % 2039;
	b->seed = (unsigned char)(r >> 24);
	switch ((r >> 16) % 4) {
	case 0:
		bytes = must(calloc(1, b->len));
		for (size_t i = 0; i < b->len; i++)
			if (((unsigned char *)bytes)[i]) {
				fault("calloc that is not zero");
				break;
			}
		break;
	case 1:
		if (posix_memalign(&bytes, 256, b->len) != 0 || (uintptr_t)bytes % 256)
			fault("the alignment of a block");
		break;
	default:
		bytes = must(malloc(b->len));
	}
	b->bytes = bytes;
	fill(b, 0);
}

static void move(struct block *b, uint64_t r)
{
	size_t before = b->len, len = 1 + (r >> 30) % 4099;

	b->bytes = must(realloc(b->bytes, len));
	b->len = len;
	verify(b, before < len ? before : len);
	fill(b, before < len ? before : len);
}

static void step(struct block *blocks, uint64_t *random)
{
	uint64_t r = next_random(random);
	struct block *b = &blocks[r % BLOCKS];

	errno = 0;
	if (!b->bytes) {
		take(b, r);
	} else if ((r >> 12) % 4 == 0) {
		move(b, r);
	} else {
		verify(b, b->len);
		free(b->bytes);
		b->bytes = NULL;
	}
	if (errno)
		fault("errno was changed by a call that worked");
	if (r % 16 == 0 && !computes_right(64, small_block))
		fault("a computation across allocations");
}

static void note_gap(uint64_t ns)
{
	uint64_t seen = __atomic_load_n(&gap_ns, __ATOMIC_RELAXED);

	while (ns > seen && !__atomic_compare_exchange_n(&gap_ns, &seen, ns, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

static void *work(void *arg)
{
	struct block blocks[BLOCKS] = { 0 };
	uint64_t random = 4099 + (uint64_t)(uintptr_t)arg;

	while (!over()) {
		uint64_t before = clock_ns(), now;

		for (int i = 0; i < STEPS_AT_ONCE; i++, before = now) {
			step(blocks, &random);
			now = clock_ns();
			note_gap(now - before);
		}
		__atomic_fetch_add(&steps, STEPS_AT_ONCE, __ATOMIC_RELAXED);
		nap_ms(3);
	}
	for (int i = 0; i < BLOCKS; i++)
		if (blocks[i].bytes) {
			verify(&blocks[i], blocks[i].len);
			free(blocks[i].bytes);
		}
	return NULL;
}

/* ---- beside the workers: none of these gets a signal ---------------------------------------------------------------- */

static void asleep(int result, const char *call)
{
	if (result < 0 && errno == EINTR && __atomic_fetch_add(&eintr, 1, __ATOMIC_RELAXED) == 0)
		__atomic_store_n(&first_fault, call, __ATOMIC_RELAXED);
}

/*
 * SIGCHLD is blocked here: of a thread that is traced in that instant the kernel does not drop a signal that is ignored, as ptrace(2) says, but gives it to any
 * thread, and that one's epoll_wait() ends with EINTR. No tracer can help that.
 */
static void *sleep_by_turns(void *arg)
{
	int poller = epoll_create1(0), pipes[2];
	struct epoll_event event;
	sigset_t child;
	sem_t never;

	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	pthread_sigmask(SIG_BLOCK, &child, NULL);

	if (poller < 0 || pipe(pipes) != 0 || sem_init(&never, 0, 0) != 0)
		fault("no epoll, pipe or semaphore");
	while (!over()) {
		struct timespec ts = { 0, 20000000 }, until;
		struct pollfd fd = { .fd = pipes[0], .events = POLLIN };

		asleep(nanosleep(&ts, NULL), "nanosleep: EINTR");
		asleep(poll(&fd, 1, 20), "poll: EINTR");
		asleep(epoll_wait(poller, &event, 1, 20), "epoll_wait: EINTR");
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += 20000000;
		if (until.tv_nsec >= 1000000000) {
			until.tv_sec++;
			until.tv_nsec -= 1000000000;
		}
		asleep(sem_timedwait(&never, &until), "sem_timedwait: EINTR");
	}
	return arg;
}

static bool plugin_path(char *path, size_t size)
{
	ssize_t len = readlink("/proc/self/exe", path, size - sizeof("site_plugin_leak"));
	char *slash;

	path[len > 0 ? len : 0] = '\0';
	slash = strrchr(path, '/');
	if (slash)
		strcpy(slash + 1, "site_plugin_leak");
	return slash;
}

static void *load_and_unload(void *arg)
{
	char path[PATH_MAX];

	if (!plugin_path(path, sizeof(path)))
		fault("no path of the plugin");
	for (uint64_t n = 1; !over(); n++) {
		void *plugin = dlopen(path, n % 2 ? RTLD_NOW : RTLD_LAZY);
		uint64_t (*plugin_work)(uint64_t, size_t) = NULL;

		if (plugin)
			*(void **)&plugin_work = dlsym(plugin, "plugin_work");
		if (!plugin_work || plugin_work(0, 256) != expected_sum)
			fault("a plugin");
		nap_ms(20);
		if (plugin_work && plugin_work(0, 256) != expected_sum)
			fault("a plugin, later");
		if (plugin)
			dlclose(plugin);
		nap_ms(30);
	}
	return arg;
}

static void *start_children(void *arg)
{
	char *argv[] = { "true", NULL }, *environment[] = { NULL };

	for (uint64_t n = 0; !over(); n++, nap_ms(100)) {
		int status = -1;
		pid_t pid;

		if (n % 2) {
			if (posix_spawn(&pid, "/bin/true", NULL, NULL, argv, environment) != 0)
				pid = -1;
		} else if ((pid = fork()) == 0) {
			struct block b = { 0 };
			uint64_t random = 4099 + n, before = faults;

			for (int i = 0; i < 200; i++) {
				take(&b, next_random(&random));
				verify(&b, b.len);
				free(b.bytes);
			}
			if (faults != before)
				_exit(3);
			execve("/bin/true", argv, environment);
			_exit(4);
		}
		if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
			fault(n % 2 ? "a spawned child" : "a forked child");
	}
	return arg;
}

static void *short_life(void *arg)
{
	struct block b = { 0 };

	take(&b, (uint64_t)(uintptr_t)arg * 2654435761);
	verify(&b, b.len);
	free(b.bytes);
	return arg;
}

static void *bear_threads(void *arg)
{
	for (uintptr_t n = 0; !over(); n++, nap_ms(10)) {
		pthread_t thread;
		void *result = NULL;

		if (pthread_create(&thread, NULL, short_life, (void *)n) != 0 || pthread_join(thread, &result) != 0 ||
		    result != (void *)n)
			fault("a thread that was born and ended");
	}
	return arg;
}

static void start_timers(void)
{
	struct itimerspec every = { { 0, TIMER_NS }, { 0, TIMER_NS } };
	struct sigaction action = { .sa_handler = on_timer, .sa_flags = SA_RESTART };

	sigaction(SIGRTMIN, &action, NULL);
	for (int i = 0; i < TIMERS; i++) { /* one pending signal a timer: several timers, several signals */
		struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN };
		timer_t timer;

		if (timer_create(CLOCK_MONOTONIC, &event, &timer) != 0 || timer_settime(timer, 0, &every, NULL) != 0)
			fault("no timers");
	}
}

static void print_status(double start, int done)
{
	printf("{ \"t_s\": %.3f, \"steps\": %llu, \"faults\": %llu, \"eintr\": %llu, \"signals\": %llu, "
	       "\"first_fault\": \"%s\", "
	       "\"gap_ns\": %llu, \"done\": %d }\n",
	       now_s() - start, (unsigned long long)__atomic_load_n(&steps, __ATOMIC_RELAXED),
	       (unsigned long long)__atomic_load_n(&faults, __ATOMIC_RELAXED), (unsigned long long)eintr,
	       (unsigned long long)signals, first_fault,
	       (unsigned long long)__atomic_exchange_n(&gap_ns, 0, __ATOMIC_RELAXED), done);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	void *(*const others[])(void *) = { sleep_by_turns, load_and_unload, start_children, bear_threads };
	pthread_t threads[THREADS_MAX + sizeof(others) / sizeof(*others)];
	long count = long_arg(argc, argv, 2, 16), all = count;
	double start = now_s();
	sigset_t timers;

	if (count < 1 || count > THREADS_MAX)
		return 2;
	end_s = start + seconds_arg(argc, argv);
	for (unsigned int i = 0; i < 256; i++)
		expected_sum += i;
	signal(SIGTERM, on_term);
	sigemptyset(&timers);
	sigaddset(&timers, SIGRTMIN);
	sigaddset(&timers, SIGTERM);
	print_truth("site_torture", "\"stable\"", "");
	for (long i = 0; i < count; i++)
		if (pthread_create(&threads[i], NULL, work, (void *)i) != 0)
			return 1;
	pthread_sigmask(SIG_BLOCK, &timers, NULL); /* handed down */
	for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++)
		if (pthread_create(&threads[all++], NULL, others[i], NULL) != 0)
			return 1;
	start_timers();
	while (!over()) {
		nap_ms(STATUS_MS);
		print_status(start, 0);
	}
	for (long i = 0; i < all; i++)
		pthread_join(threads[i], NULL);
	print_status(start, 1);
	return faults || eintr ? 1 : 0;
}
