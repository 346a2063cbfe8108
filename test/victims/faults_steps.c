/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Touches known numbers of pages, in known functions, one step for each byte that it reads; answers each with an "r" (the first
 * before any). m: 40,009 pages in touch_main(); t: 7 threads, born now, 4,001 pages each in touch_thread(); r: 4,003 pages that read()
 * fills in read_fresh(); d: gives those of m back (madvise); u: unmaps those of t; c: 5,003 rounds of map, touch, unmap 61 pages, in
 * churn_pages(); z: only reads 4,007 fresh pages in read_zeroes(); f: reads its own file's pages, and writes to 3 of a private mapping in
 * copy_file(); h: 8 huge pages in touch_huge(); s: 211 pages, one a ms, in touch_slowly(); k: a child that touches 5,003 pages.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "victim.h"

#define PAGE 4096UL
#define THREADS 7
#define HUGE (2 * MIB)

static char *of_main, *of_threads[THREADS];

static char *map_pages(size_t pages)
{
	char *p = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		abort();
	madvise(p, pages * PAGE, MADV_NOHUGEPAGE);
	return p;
}

NOINLINE static void touch_main(size_t pages)
{
	of_main = map_pages(pages);
	for (size_t i = 0; i < pages; i++)
		of_main[i * PAGE] = 1;
}

NOINLINE static void touch_thread(char *p, size_t pages)
{
	for (size_t i = 0; i < pages; i++)
		p[i * PAGE] = 1;
}

static void *run_thread(void *arg)
{
	char **place = arg;

	*place = map_pages(4001);
	touch_thread(*place, 4001);
	return NULL;
}

NOINLINE static void start_threads(void)
{
	pthread_t threads[THREADS];

	for (int i = 0; i < THREADS; i++)
		if (pthread_create(&threads[i], NULL, run_thread, &of_threads[i]) != 0)
			abort();
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
}

NOINLINE static void read_fresh(size_t pages)
{
	char *p = map_pages(pages);
	int fd = open("/dev/zero", O_RDONLY);

	if (read(fd, p, pages * PAGE) != (ssize_t)(pages * PAGE))
		abort();
	close(fd);
}

NOINLINE static void churn_pages(size_t rounds, size_t pages)
{
	for (size_t k = 0; k < rounds; k++) {
		char *p = map_pages(pages);

		for (size_t i = 0; i < pages; i++)
			p[i * PAGE] = 1;
		munmap(p, pages * PAGE);
	}
}

NOINLINE static void read_zeroes(size_t pages)
{
	volatile char *p = map_pages(pages);

	for (size_t i = 0; i < pages; i++)
		(void)p[i * PAGE];
}

NOINLINE static void copy_file(void)
{
	int fd = open("/proc/self/exe", O_RDONLY);
	volatile char *p = mmap(NULL, 5 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);

	for (size_t i = 0; i < 5; i++)
		(void)p[i * PAGE];
	for (size_t i = 0; i < 3; i++)
		p[i * PAGE] = 1;
	close(fd);
}

NOINLINE static void touch_huge(size_t pages)
{
	char *p = mmap(NULL, (pages + 1) * HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	p = (char *)(((uintptr_t)p + HUGE - 1) / HUGE * HUGE);
	madvise(p, pages * HUGE, MADV_HUGEPAGE);
	for (size_t i = 0; i < pages; i++)
		p[i * HUGE] = 1;
}

NOINLINE static void touch_slowly(size_t pages)
{
	char *p = map_pages(pages);

	for (size_t i = 0; i < pages; i++) {
		p[i * PAGE] = 1;
		nap_ms(1);
	}
}

NOINLINE static void make_child(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		touch_main(5003);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
}

static void step(char c)
{
	switch (c) {
	case 'm':
		touch_main(40009);
		break;
	case 't':
		start_threads();
		break;
	case 'r':
		read_fresh(4003);
		break;
	case 'd':
		madvise(of_main, 40009 * PAGE, MADV_DONTNEED);
		break;
	case 'u':
		for (int i = 0; i < THREADS; i++)
			munmap(of_threads[i], 4001 * PAGE);
		break;
	case 'c':
		churn_pages(5003, 61);
		break;
	case 'z':
		read_zeroes(4007);
		break;
	case 'f':
		copy_file();
		break;
	case 'h':
		touch_huge(8);
		break;
	case 's':
		touch_slowly(211);
		break;
	case 'k':
		make_child();
		break;
	}
}

int main(void)
{
	char c = 0;

	do {
		step(c);
		if (write(STDOUT_FILENO, "r", 1) != 1)
			break;
	} while (read(STDIN_FILENO, &c, 1) == 1);
	return 0;
}
