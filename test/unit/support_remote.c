/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "support_remote.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define VECTORS 16
#define VECTOR_BYTES 32
#define ALTERNATE_BYTES 65536

_Atomic uint64_t *done_word;

void open_done_word(void)
{
	done_word = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(done_word, MAP_FAILED);
}

__attribute__((noinline, no_sanitize("address", "undefined"))) static void hold_registers(const void *in, void *out,
											  int with_avx)
{
	__asm__ volatile(
		"sub $256, %%rsp\n\t"
		"mov 512(%[in]), %%r12\n\t"
		"mov 520(%[in]), %%r13\n\t"
		"mov 528(%[in]), %%r14\n\t"
		"mov 536(%[in]), %%r11\n\t"
		"mov %%r12, -8(%%rsp)\n\t"
		"mov %%r13, -128(%%rsp)\n\t"
		"test %[avx], %[avx]\n\t"
		"jz 1f\n\t"
		"vmovdqu (%[in]), %%ymm0\n\tvmovdqu 32(%[in]), %%ymm1\n\tvmovdqu 64(%[in]), %%ymm2\n\t"
		"vmovdqu 96(%[in]), %%ymm3\n\tvmovdqu 352(%[in]), %%ymm11\n\tvmovdqu 480(%[in]), %%ymm15\n\t"
		"jmp 2f\n\t"
		"1: movdqu (%[in]), %%xmm0\n\tmovdqu 32(%[in]), %%xmm1\n\tmovdqu 64(%[in]), %%xmm2\n\t"
		"movdqu 96(%[in]), %%xmm3\n\tmovdqu 352(%[in]), %%xmm11\n\tmovdqu 480(%[in]), %%xmm15\n\t"
		"2: mov $200000, %%ecx\n\t"
		"3: dec %%ecx\n\t"
		"jnz 3b\n\t"
		"test %[avx], %[avx]\n\t"
		"jz 4f\n\t"
		"vmovdqu %%ymm0, (%[out])\n\tvmovdqu %%ymm1, 32(%[out])\n\tvmovdqu %%ymm2, 64(%[out])\n\t"
		"vmovdqu %%ymm3, 96(%[out])\n\tvmovdqu %%ymm11, 352(%[out])\n\tvmovdqu %%ymm15, 480(%[out])\n\t"
		"vzeroupper\n\t"
		"jmp 5f\n\t"
		"4: movdqu %%xmm0, (%[out])\n\tmovdqu %%xmm1, 32(%[out])\n\tmovdqu %%xmm2, 64(%[out])\n\t"
		"movdqu %%xmm3, 96(%[out])\n\tmovdqu %%xmm11, 352(%[out])\n\tmovdqu %%xmm15, 480(%[out])\n\t"
		"5: mov %%r12, 512(%[out])\n\t"
		"mov %%r13, 520(%[out])\n\t"
		"mov %%r14, 528(%[out])\n\t"
		"mov %%r11, 536(%[out])\n\t"
		"mov -8(%%rsp), %%r12\n\t"
		"mov %%r12, 544(%[out])\n\t"
		"mov -128(%%rsp), %%r12\n\t"
		"mov %%r12, 552(%[out])\n\t"
		"add $256, %%rsp\n\t"
		:
		: [in] "r"(in), [out] "r"(out), [avx] "r"(with_avx)
		: "rcx", "r11", "r12", "r13", "r14", "xmm0", "xmm1", "xmm2", "xmm3", "xmm11", "xmm15", "memory", "cc");
}

static void compute_round(uint64_t seed)
{
	static const int used[] = { 0, 1, 2, 3, 11, 15 };
	unsigned char in[VECTORS * VECTOR_BYTES + 48], out[sizeof(in)] = { 0 };
	const int avx = __builtin_cpu_supports("avx") ? 1 : 0;
	bool good = true;

	for (size_t i = 0; i < sizeof(in); i++)
		in[i] = (unsigned char)(seed = seed * 6364136223846793005ULL + 1442695040888963407ULL, seed >> 56);
	memcpy(in + 544, in + 512, 16); /* what lies in the red zone */
	hold_registers(in, out, avx);
	for (size_t i = 0; i < sizeof(used) / sizeof(used[0]); i++)
		good = good &&
		       memcmp(in + 32 * used[i], out + 32 * used[i], avx ? VECTOR_BYTES : VECTOR_BYTES / 2) == 0;
	if (!good || memcmp(in + 512, out + 512, 48) != 0)
		atomic_fetch_add(&board->wrong, 1);
	atomic_fetch_add(&board->rounds, 1);
}

/* The signal mask, and the alternate stack, are as they were set. */
static void check_signals(const stack_t *alternate, const sigset_t *blocked)
{
	sigset_t now;
	stack_t s;

	if (sigaltstack(NULL, &s) < 0 || s.ss_sp != alternate->ss_sp || s.ss_size != alternate->ss_size ||
	    s.ss_flags != alternate->ss_flags)
		atomic_fetch_add(&board->wrong, 1);
	pthread_sigmask(SIG_SETMASK, NULL, &now);
	for (int sig = 1; sig < 64; sig++)
		if (sigismember(&now, sig) != sigismember(blocked, sig))
			atomic_fetch_add(&board->wrong, 1);
}

static void *computing_thread(void *arg)
{
	/* not thread-local: that would be part of every thread's stack mapping, in every unit test */
	const stack_t alternate = { .ss_sp = malloc(ALTERNATE_BYTES), .ss_size = ALTERNATE_BYTES };
	sigset_t blocked;

	sigaltstack(&alternate, NULL);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGUSR2);
	pthread_sigmask(SIG_SETMASK, &blocked, NULL);
	atomic_fetch_add(&board->ready, 1);
	for (uint64_t i = 0; !atomic_load(&board->stop); i++) {
		compute_round((uintptr_t)arg * 1000003 + i);
		check_signals(&alternate, &blocked);
	}
	sigaltstack(&(stack_t){ .ss_flags = SS_DISABLE }, NULL);
	free(alternate.ss_sp);
	return NULL;
}

void compute_alone(void)
{
	computing_thread(NULL);
}

void compute_many(void)
{
	pthread_t id;

	for (uintptr_t i = 1; i < RT_THREADS; i++)
		pthread_create(&id, NULL, computing_thread, (void *)i);
	computing_thread(NULL);
}

/* ---- calls ---- */

__attribute__((noinline, no_sanitize("address", "undefined"))) static void called(uint64_t a, uint64_t b, uint64_t c,
										  uint64_t d, uint64_t e, uint64_t f)
{
	char aligned[16] __attribute__((aligned(16)));

	/* faults where the stack is not as the ABI has it; and leaves nothing in the registers as it was */
	__asm__ volatile(
		"movaps %%xmm0, %0\n\tpcmpeqd %%xmm0, %%xmm0\n\tpcmpeqd %%xmm1, %%xmm1\n\tpcmpeqd %%xmm11, %%xmm11\n\t"
		"pcmpeqd %%xmm15, %%xmm15"
		: "=m"(aligned)
		:
		: "xmm0", "xmm1", "xmm11", "xmm15");
	while (f == 1 && !atomic_load(&board->go))
		;
	if (f == 2)
		__asm__ volatile("movl $1, 8" : : : "memory");
	syscall(SYS_gettid); /* stops of its own */
	atomic_store(&done_word[1], a + 10 * b + 100 * c + 1000 * d + 10000 * e);
	atomic_store(&done_word[0], 77);
}

struct remote_call function_call(uint64_t last, uint64_t deadline_ns)
{
	struct remote_call c = { .number_or_address = (uintptr_t)called,
				 .args = { 1, 2, 3, 4, 5, last },
				 .done_address = (uintptr_t)&done_word[0],
				 .done_value = 77,
				 .deadline_ns = deadline_ns };

	atomic_store(&done_word[0], 0);
	return c;
}

struct remote_result call_in(struct fixture *f, const struct remote_call *c)
{
	struct remote_result r = { 0 };
	struct err err = ERR_INIT;

	ck_assert_msg(tracer_remote_call(f->t, f->pid, f->mem, c, &r, &err) == 0, "%s", err.msg);
	return r;
}

void call_getpid(struct fixture *f)
{
	const struct remote_call c = { .is_syscall = true, .number_or_address = SYS_getpid, .deadline_ns = WAIT_NS };
	struct remote_result r = call_in(f, &c);

	ck_assert_int_eq(r.value, f->pid);
	ck_assert_uint_gt(r.stops, 0);
	ck_assert_uint_ge(r.stopped_ns_total, r.stopped_ns_max);
}

void check_undisturbed(struct fixture *f)
{
	unsigned long before = atomic_load(&board->rounds);

	fixture_check_untraced(f);
	await(atomic_load(&board->rounds) > before + 2);
	ck_assert_int_eq(atomic_load(&board->wrong), 0);
}

static void call_for_ever(pid_t pid)
{
	struct fixture f;

	fixture_open(&f, pid);
	atomic_store(&board->go, true);
	for (;;) {
		struct remote_call c = function_call(0, WAIT_NS);
		struct remote_call get = { .is_syscall = true, .number_or_address = SYS_getpid };
		struct remote_result r;

		(void)!tracer_remote_call(f.t, pid, f.mem, &c, &r, NULL);
		(void)!tracer_remote_call(f.t, pid, f.mem, &get, &r, NULL);
	}
}

void kill_rounds(void (*body)(void), int threads, int rounds)
{
	unsigned int seed = 20260731;
	struct fixture f;

	open_done_word();
	fixture_start(&f, body, threads);
	for (int i = 0; i < rounds; i++) {
		pid_t helper;

		atomic_store(&board->go, false);
		helper = fork();
		ck_assert_int_ge(helper, 0);
		if (helper == 0)
			call_for_ever(f.pid);
		await(atomic_load(&board->go));
		nanosleep(&(struct timespec){ .tv_nsec = rand_r(&seed) % 3000000 }, NULL); /* any instant */
		ck_assert_int_eq(kill(helper, SIGKILL), 0);
		ck_assert_int_eq(waitpid(helper, NULL, 0), helper);
		check_undisturbed(&f);
	}
	fixture_finish(&f);
}
