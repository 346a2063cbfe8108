/* SPDX-License-Identifier: GPL-3.0-or-later */
/* build: -fno-plt -Wl,-z,now -mno-red-zone */
/*
 * A second thread takes malloc's address out of its slot into a register, sleeps in read(), and calls by the register then, as code does that
 * calls in a loop. With HELD_EPOLL it sleeps in epoll_wait(), which an interruption would end with EINTR.
 *
 *     h starts it, and says its id; r ends its sleep, and says what the sleep returned; c makes an ordinary call
 */
#include "victim.h"

#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/syscall.h>

#ifndef HELD_EPOLL
#define HELD_EPOLL 0
#endif

static int wake[2], epoll;
static _Atomic long tid;

NOINLINE static long hold(char *byte)
{
	struct epoll_event event;
	long number = HELD_EPOLL ? SYS_epoll_wait : SYS_read, slept;
	register long r10 __asm__("r10") = -1;
	void *block, *second = HELD_EPOLL ? (void *)&event : (void *)byte;

	__asm__ volatile("movq malloc@GOTPCREL(%%rip), %%rbx\n\t"
			 "syscall\n\t"
			 "movq %%rax, %%r13\n\t"
			 "movq %%rsp, %%r12\n\t"
			 "andq $-16, %%rsp\n\t"
			 "movl $64, %%edi\n\t"
			 "call *%%rbx\n\t"
			 "movq %%r12, %%rsp\n\t"
			 : "=a"(block), "+r"(r10), "+S"(second)
			 : "0"(number), "D"((long)(HELD_EPOLL ? epoll : wake[0])), "d"(1L)
			 : "rbx", "r8", "r9", "rcx", "r11", "r12", "r13", "memory", "cc");
	__asm__ volatile("movq %%r13, %0" : "=r"(slept));
	memset(must(block), 1, 64);
	free(block);
	return slept;
}

static void *holder(void *arg)
{
	char byte;

	(void)arg;
	tid = syscall(SYS_gettid);
	return (void *)hold(&byte);
}

int main(void)
{
	struct epoll_event input = { .events = EPOLLIN };
	pthread_t thread;
	void *slept;
	char c;

	epoll = epoll_create1(0);
	if (pipe(wake) < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, wake[0], &input) < 0)
		return 1;
	puts("ready");
	fflush(stdout);
	while (read(0, &c, 1) == 1) {
		if (c == 'h' && pthread_create(&thread, NULL, holder, NULL) == 0) {
			while (tid == 0)
				sched_yield();
			printf("%ld 0\n", tid);
		} else if (c == 'r' && write(wake[1], "x", 1) == 1 && pthread_join(thread, &slept) == 0) {
			printf("%ld 0\n", (long)slept);
		} else {
			free(must(malloc(100)));
			puts("1 1");
		}
		fflush(stdout);
	}
	return 0;
}
