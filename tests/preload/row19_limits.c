// SPDX-License-Identifier: MIT
/*
 * Row 19: work under limits of the kernel.  The cases are the same ordinary
 * work; the test puts them under each limit.  Those that set one themselves
 * do so because a shell would not survive it.
 */
#include "check.h"
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

static const size_t sizes[] = {
	24, 500, 4096, 12000, 65536, 400000, 3 << 20, 9 << 20,
};

#define NR_SIZES (sizeof(sizes) / sizeof(sizes[0]))

static void churn(void)
{
	void *head = NULL;
	size_t i;

	for (i = 0; i < NR_SIZES; i++) {
		char *block = calloc(1, sizes[i]);

		CHECK(block && all_bytes(block, 0, sizes[i]));
		block = realloc(block, sizes[i] * 2);
		CHECK(block && all_bytes(block, 0, sizes[i]));
		free(block);
		CHECK(fill_up_to(&head, sizes[i], 2) == 2);
	}
	drop(&head);
	malloc_trim(0);
}

static void ordinary(void)
{
	int i;

	for (i = 0; i < 20; i++)
		churn();
	check_end();
}

/* A share in percent of what the limit allows, for every size in turn. */
static void fill_each_size(size_t percent)
{
	size_t i;

	for (i = 0; i < NR_SIZES; i++) {
		errno = 0;
		CHECK(fills_limit(sizes[i], percent));
		CHECK(errno == ENOMEM);
	}
	churn();
}

static void whole_limit(void)
{
	fill_each_size(on_pagepool() ? 97 : 30);
	check_end();
}

/* Another limit is in the way: less can be had, in good order. */
static void less_than_the_limit(void)
{
	fill_each_size(8);
	check_end();
}

/* Where there is room for little, there has to be that little. */
static void a_little(void)
{
	void *head = NULL;
	char *block;
	int i;

	for (i = 0; i < 10; i++) {
		CHECK(fill_up_to(&head, 1000, 2000) == 2000);
		block = calloc(1, 1 << 20);
		CHECK(block && all_bytes(block, 0, 1 << 20));
		free(block);
		drop(&head);
	}
	check_end();
}

static void *churn_thread(void *unused)
{
	churn();
	return unused;
}

static void threads_if_any(void)
{
	pthread_attr_t attr;
	pthread_t thread;
	int i;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 64 << 10);
	for (i = 0; i < 50; i++) {
		int error = pthread_create(&thread, &attr, churn_thread,
					   NULL);

		CHECK(error == 0 || error == EAGAIN || error == EPERM);
		if (!error)
			pthread_join(thread, NULL);
		churn();
	}
	check_end();
}

static size_t max_map_count(void)
{
	char text[32] = "";
	int fd = open("/proc/sys/vm/max_map_count", O_RDONLY);
	ssize_t nr = read(fd, text, sizeof(text) - 1);

	close(fd);
	if (nr <= 0 || strtoul(text, NULL, 10) > 300000)
		check_skip("max_map_count is unknown or large");
	return strtoul(text, NULL, 10);
}

/* Every second page of a mapping gets another protection: two mappings each. */
static void take_mappings(size_t nr)
{
	char *map = mmap(NULL, nr * 4096, PROT_READ, MAP_PRIVATE |
			 MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	size_t i;

	REQUIRE(map != MAP_FAILED);
	for (i = 0; i + 1 < nr; i += 2)
		if (mprotect(map + i * 4096, 4096, PROT_NONE))
			break;
}

static void few_mappings_left(void)
{
	size_t nr = max_map_count() - 150;

	churn();
	take_mappings(nr);
	fill_each_size(on_pagepool() ? 97 : 20);
	ordinary();
}

static void no_mappings_left(void)
{
	size_t nr = max_map_count() + 100;
	void *head = NULL, *second = NULL;
	size_t i;

	churn();
	take_mappings(nr);
	for (i = 0; i < NR_SIZES; i++) {
		fill(&head, sizes[i]);
		drop(&head);
		malloc_trim(0);
	}
	/* Every second block freed: holes, were they to be unmapped. */
	for (i = 0; i < 2000; i++) {
		fill_up_to(&head, 12000, 1);
		fill_up_to(&second, 12000, 1);
	}
	drop(&head);
	malloc_trim(0);
	drop(&second);
	if (on_pagepool())
		fill_each_size(97);
	check_end();
}

/* The program lowers its own address space after the pool was set up. */
static void address_space_lowered_later(void)
{
	struct rlimit now;

	churn();
	now.rlim_cur = now.rlim_max = vsz_bytes() + (1 << 20);
	REQUIRE(setrlimit(RLIMIT_AS, &now) == 0);
	if (on_pagepool())
		fill_each_size(97);
	check_end();
}

static void locked_memory(void)
{
	char *block = malloc(8192);

	if (mlock(block, 8192) == 0)
		munlock(block, 8192);
	free(block);
	ordinary();
}

/* madvise() refuses locked pages.  A program that frees them locked takes
 * them from what can be purged, and nothing else. */
static void freed_while_locked(void)
{
	void *kept[50], *head = NULL;
	int i;

	for (i = 0; i < 50; i++) {
		kept[i] = malloc(20000);
		fill_up_to(&head, 20000, 3);
		if (i % 2 && mlock(kept[i], 20000))
			check_skip("mlock is not allowed here");
	}
	for (i = 0; i < 50; i++)
		free(kept[i]);
	drop(&head);
	malloc_trim(0);
	fill_each_size(on_pagepool() ? 90 : 20);
	check_end();
}

/* With everything locked nothing can be given back, only used again. */
static void all_locked(void)
{
	size_t start;

	if (mlockall(MCL_CURRENT | MCL_FUTURE))
		check_skip("mlockall is not allowed here");
	start = resident_bytes();
	fill_each_size(8);
	if (on_pagepool())
		CHECK(resident_bytes() <= start + limit_bytes() + (1 << 20));
	check_end();
}

static const struct check_case cases[] = {
	{ "ordinary", ordinary },
	{ "whole_limit", whole_limit },
	{ "less_than_the_limit", less_than_the_limit },
	{ "a_little", a_little },
	{ "threads_if_any", threads_if_any },
	{ "few_mappings_left", few_mappings_left },
	{ "no_mappings_left", no_mappings_left },
	{ "address_space_lowered_later", address_space_lowered_later },
	{ "locked_memory", locked_memory },
	{ "freed_while_locked", freed_while_locked },
	{ "all_locked", all_locked },
};

CHECK_MAIN(cases)
