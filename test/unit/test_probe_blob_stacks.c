/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The blob, run in this process: how far it copies which stack, and that it asks nobody for it. */
#include <asm/prctl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "../fixtures/probe_fakes.h"

#define CONTROL_BLOCK 512 /* what code without a library call may want of it: the stack protector's word */
#define TID_AT 256        /* in our control block */
#define PAGES 32
#define BYTES (PAGES * HOST_PAGE)

/* Memory for a stack, with a guard at both ends: whoever reads beyond it ends this program. */
static char *guarded(void)
{
	char *memory = mmap(NULL, BYTES + 2 * HOST_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ck_assert_ptr_ne(memory, MAP_FAILED);
	memory += HOST_PAGE;
	ck_assert_int_eq(mprotect(memory, BYTES, PROT_READ | PROT_WRITE), 0);
	for (size_t i = 0; i < BYTES; i++)
		memory[i] = (char)(i % 251);
	return memory;
}

static void release(char *memory)
{
	munmap(memory - HOST_PAGE, BYTES + 2 * HOST_PAGE);
}

static void malloc_on(char *top)
{
	memset(host.state->keys, 0, sizeof host.state->keys); /* each with its stack */
	host_call_on(&host, host.header->thunk[PROBE_MALLOC], top, HOST_LARGE);
}

/* As another thread, for as long as one call takes. Its stack lies right below its control block, in the same memory. */
static void malloc_as(char *block, char *top)
{
	char *volatile own = __builtin_thread_pointer(); /* else it may be asked for again, later */
	uint64_t pointer = HOST_ADDRESS(block);

	memcpy(block, own, CONTROL_BLOCK);
	memcpy(block, &pointer, sizeof pointer); /* the first word points at itself */
	memset(block + TID_AT, 77, sizeof(uint32_t));
	syscall(SYS_arch_prctl, ARCH_SET_FS, block); /* where it fails, so does the test */
	malloc_on(top);
	syscall(SYS_arch_prctl, ARCH_SET_FS, own);
}

static struct probe_thread *entry_of(const void *thread_pointer)
{
	for (size_t i = 0; i < PROBE_THREADS; i++)
		if (host.state->threads[i].owner == HOST_ADDRESS(thread_pointer))
			return &host.state->threads[i];
	ck_abort_msg("the thread has no entry");
	return NULL;
}

static void publish(struct probe_thread *t, const void *low, const void *top)
{
	t->stack_low = HOST_ADDRESS(low);
	t->stack_top = HOST_ADDRESS(top);
}

/* The last record: of a sample on this stack, with so much of it. */
static void check_slice(const char *sp, size_t bytes, bool whole)
{
	ck_assert_str_eq(records(), "T");
	ck_assert_uint_eq(seen.record.sp, HOST_ADDRESS(sp));
	ck_assert_uint_eq(seen.stack.slice_bytes, bytes);
	ck_assert_uint_eq(seen.stack.whole, whole);
	ck_assert_uint_eq(seen.record.cells, 2 + (bytes + PROBE_CELL - 1) / PROBE_CELL);
	ck_assert_mem_eq(seen.slice, sp, bytes);
}

static void check_cut(const char *sp)
{
	check_slice(sp, -HOST_ADDRESS(sp) % HOST_PAGE, false);
}

START_TEST(a_thread_s_stack_is_copied_whole)
{
	char *memory = guarded(), *block = memory + BYTES - HOST_PAGE + 512;

	host.state->slice_bytes = PROBE_SLICE_MAX;
	malloc_as(block, block - 3 * HOST_PAGE); /* memwatch has not seen this thread yet */
	check_cut(block - 3 * HOST_PAGE);
	publish(entry_of(block), memory, block);
	for (size_t below = 16; below <= 6 * HOST_PAGE; below += 16 * (1 + below / 128)) {
		malloc_as(block, block - below);
		check_slice(block - below, below, true);
		ck_assert_uint_eq(seen.stack.thread_base, HOST_ADDRESS(block));
	}
	ck_assert_uint_eq(host.state->counters.cut_stacks, 1);
	release(memory);
}
END_TEST

START_TEST(a_deep_stack_is_not_whole)
{
	char *memory = guarded(), *block = memory + BYTES - HOST_PAGE;

	host.state->slice_bytes = 8192;
	malloc_as(block, block - HOST_PAGE);
	records();
	publish(entry_of(block), memory, block);
	malloc_as(block, block - 8192);
	check_slice(block - 8192, 8192, true);
	malloc_as(block, block - 8192 - 16);
	check_slice(block - 8192 - 16, 8192, false);
	host.state->slice_bytes = UINT64_MAX; /* a slip of memwatch's: no more than the largest */
	malloc_as(block, block - PROBE_SLICE_MAX - 16);
	check_slice(block - PROBE_SLICE_MAX - 16, PROBE_SLICE_MAX, false);
	host.state->slice_bytes = 0;
	malloc_as(block, block - HOST_PAGE);
	check_slice(block - HOST_PAGE, 0, false);
	ck_assert_uint_eq(host.state->counters.cut_stacks,
			  1); /* the first: where it ended for want of room, it was not the page */
	release(memory);
}
END_TEST

/* The thread's own stack and the first thread's are known, and lie elsewhere. */
START_TEST(a_coroutine_s_stack_is_cut_at_its_page)
{
	char *memory = guarded(), *own = __builtin_thread_pointer();

	host.state->slice_bytes = PROBE_SLICE_MAX;
	for (int known = 0; known < 2; known++) {
		for (size_t below = 0; below <= 3 * HOST_PAGE; below += 16 * (1 + below / 128)) {
			malloc_on(memory + BYTES - below);
			check_cut(memory + BYTES - below);
		}
		publish(entry_of(own), own - 16 * HOST_PAGE, own);
		host_publish_main(&host);
	}
	ck_assert_uint_gt(host.state->counters.cut_stacks, 50);
	release(memory);
}
END_TEST

/* Between a thread's end and memwatch's next look its entry, its thread pointer and the memory of its stack may all be somebody else's. */
START_TEST(what_was_said_of_another_thread_is_not_used)
{
	char *memory = guarded(), *block = memory + BYTES - HOST_PAGE, *sp = memory + 4 * HOST_PAGE - 256;
	struct probe_thread *t;

	host.state->slice_bytes = PROBE_SLICE_MAX;
	ck_assert_int_eq(mprotect(memory + 4 * HOST_PAGE, HOST_PAGE, PROT_NONE), 0); /* a stack of its own, by now */
	malloc_as(block, sp);
	check_cut(sp);
	t = entry_of(block);
	publish(t, memory, memory + BYTES); /* the pointer of the thread before was higher */
	malloc_as(block, sp);
	check_cut(sp);
	publish(t, memory, block - 64); /* lower */
	malloc_as(block, sp);
	check_cut(sp);
	t->tid = 4711;
	t->tid_at = TID_AT;
	publish(t, memory, block); /* the same, and its stack was larger */
	malloc_as(block, sp);
	check_cut(sp);
	memset(&t->tid, 77, sizeof t->tid); /* memwatch has looked again */
	publish(t, memory + 5 * HOST_PAGE, block);
	malloc_as(block, sp);
	check_cut(sp);
	malloc_as(block, block - 256);
	check_slice(block - 256, 256, true);
	publish(t, memory, block); /* an entry that is claimed anew knows nothing */
	t->owner = 0;
	malloc_as(block, sp);
	ck_assert_str_eq(records(), "T");
	ck_assert_uint_eq(seen.stack.slice_bytes, 256);
	ck_assert_uint_eq(seen.stack.whole, 0);
	release(memory);
}
END_TEST

/* All entries that it could have are others': what is said there is not about this thread. */
START_TEST(a_thread_without_an_entry_is_cut)
{
	char *memory = guarded(), *own = __builtin_thread_pointer(), *sp = memory + BYTES - 256;

	host.state->slice_bytes = PROBE_SLICE_MAX;
	for (size_t i = 0; i < PROBE_THREADS; i++) {
		host.state->threads[i].owner = 8 * (i + 1);
		publish(&host.state->threads[i], memory, own);
	}
	malloc_on(sp);
	check_cut(sp);
	release(memory);
}
END_TEST

START_TEST(the_first_thread_s_stack)
{
	char *memory = guarded(), *sp = memory + BYTES - 5 * HOST_PAGE - 16;
	uint64_t left;

	host.state->slice_bytes = PROBE_SLICE_MAX;
	host.state->main_low = HOST_ADDRESS(memory); /* half written: not yet */
	malloc_on(sp);
	check_cut(sp);
	host.state->main_top = HOST_ADDRESS(memory + BYTES);
	malloc_on(sp);
	check_slice(sp, 5 * HOST_PAGE + 16, true);
	host.state->main_low = HOST_ADDRESS(sp + 16); /* it has grown since */
	malloc_on(sp);
	ck_assert_str_eq(records(), "T");
	ck_assert_uint_eq(seen.stack.whole, 0);
	ck_assert_uint_eq(seen.stack.slice_bytes, 16);
	host_publish_main(&host);
	memset(host.state->keys, 0, sizeof host.state->keys);
	p_malloc(HOST_LARGE);
	ck_assert_str_eq(records(), "T");
	left = host.state->main_top - seen.record.sp;
	ck_assert_uint_eq(seen.stack.slice_bytes, left < PROBE_SLICE_MAX ? left : PROBE_SLICE_MAX);
	ck_assert_uint_eq(seen.stack.whole, left <= PROBE_SLICE_MAX);
	release(memory);
}
END_TEST

START_TEST(stacks_are_sent_once)
{
	uint64_t slices;

	for (int i = 0; i < PROBE_RESEND * 4; i++)
		p_malloc(HOST_LARGE);
	host_drain(&host, see, NULL);
	slices = host.state->counters.slices;
	ck_assert_uint_ge(slices, 4);
	ck_assert_uint_le(slices, 6);
	ck_assert_uint_eq(host.state->counters.samples, PROBE_RESEND * 4);
}
END_TEST

/* From here on every system call but one ends the process. */
static void confine(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
	struct sock_fprog program = { sizeof filter / sizeof *filter, filter };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
		_exit(2);
}

/* Samples of every kind, on stacks that are known and unknown. */
static bool samples_in_confinement(char *memory)
{
	const struct probe_counters *c;
	uint64_t taken = 0;

	host_place(&host, fakes()); /* the one before the fork is all zeroes here */
	c = &host.state->counters;
	host_set_mean(&host, 64);
	host_publish_main(&host);
	confine();
	for (int i = 0; i < 20000; i++) {
		void *block = p_realloc(p_malloc(100), i % 2 ? 200 : HOST_LARGE);

		p_munmap(p_mmap(NULL, HOST_LARGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0x5000), HOST_LARGE);
		p_free(block);
		malloc_on(memory + BYTES - 16 * (size_t)(i % 256));
		if (i < 10000) /* and then the ring fills */
			taken += host_drain(&host, NULL, NULL);
	}
	return taken > 10000 && c->slices > c->cut_stacks && c->cut_stacks > 1000 && c->dropped_ring > 1000;
}

START_TEST(no_system_call)
{
	char *memory = guarded();

	for (int control = 0; control < 2; control++) {
		int status;
		pid_t child = fork();

		if (child == 0) {
			bool good = control || samples_in_confinement(memory);

			if (control) {
				confine();
				syscall(SYS_getppid);
			}
			syscall(SYS_exit_group, good ? 0 : 1);
		}
		ck_assert_int_eq(waitpid(child, &status, 0), child);
		if (control)
			ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS, "the filter does not work");
		else
			ck_assert_msg(status == 0, "status %#x", status);
	}
	release(memory);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("probe_blob_stacks");
	TCase *tc = tcase_create("blob");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, a_thread_s_stack_is_copied_whole);
	tcase_add_test(tc, a_deep_stack_is_not_whole);
	tcase_add_test(tc, a_coroutine_s_stack_is_cut_at_its_page);
	tcase_add_test(tc, what_was_said_of_another_thread_is_not_used);
	tcase_add_test(tc, a_thread_without_an_entry_is_cut);
	tcase_add_test(tc, the_first_thread_s_stack);
	tcase_add_test(tc, stacks_are_sent_once);
	tcase_add_test(tc, no_system_call);
	suite_add_tcase(suite, tc);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
