// SPDX-License-Identifier: MIT
/*
 * Row 8: calloc() gives zeroes whatever the memory was used for before:
 * reused at once, by another size, after the limit, after malloc_trim().
 */
#include "check.h"
#include <malloc.h>
#include <pthread.h>

#define NR_OF(array) (sizeof(array) / sizeof((array)[0]))

static const size_t sizes[] = {
	24, 100, 1000, 5000, 12000, 40000, 300000, 3 << 20, 20 << 20,
};

static void dirty_and_free(size_t size, size_t nr)
{
	void *head = NULL, *last = NULL;

	while (nr--) {
		void **block = malloc(size);

		REQUIRE(block != NULL);
		memset(block, 0xff, malloc_usable_size(block));
		*block = last;
		head = last = block;
	}
	drop(&head);
}

static void expect_zeroes(size_t size, size_t nr)
{
	void *head = NULL;

	while (nr--) {
		void **block = calloc(1, size);

		REQUIRE(block != NULL);
		CHECK(all_bytes(block, 0, size));
		*block = head;
		head = block;
	}
	drop(&head);
}

static void reused_at_once(void)
{
	size_t i, round;

	for (i = 0; i < NR_OF(sizes); i++) {
		for (round = 0; round < 10; round++) {
			dirty_and_free(sizes[i], 1);
			expect_zeroes(sizes[i], 1);
		}
		dirty_and_free(sizes[i], (24 << 20) / sizes[i]);
		expect_zeroes(sizes[i], (24 << 20) / sizes[i]);
	}
	check_end();
}

static void reused_by_another_size(void)
{
	size_t i, j;

	for (i = 0; i < NR_OF(sizes); i++) {
		for (j = 0; j < NR_OF(sizes); j++) {
			dirty_and_free(sizes[i], (21 << 20) / sizes[i]);
			expect_zeroes(sizes[j], (21 << 20) / sizes[j]);
		}
	}
	check_end();
}

static size_t dirty_to_the_limit(void **head, size_t size)
{
	size_t nr = 0;
	void **block;

	limit_bytes();
	while ((block = malloc(size))) {
		memset(block, 0xee, size);
		*block = *head;
		*head = block;
		nr++;
	}
	return nr;
}

/* What was freed at the limit was partly purged, partly kept. */
static void after_the_limit(void)
{
	size_t i;

	for (i = 0; i < NR_OF(sizes); i++) {
		size_t j = (i + 4) % NR_OF(sizes);
		/* libc's malloc cannot fill the limit with another size. */
		size_t share = limit_bytes() / (on_pagepool() ? 4 : 40);
		size_t nr = 3 * share / (sizes[j] + sizes[j] / 8 + 8);
		void *head = NULL;

		CHECK(dirty_to_the_limit(&head, sizes[i]) > 0);
		drop(&head);
		expect_zeroes(sizes[j], nr);
	}
	check_end();
}

static void after_malloc_trim(void)
{
	size_t i;

	for (i = 0; i < NR_OF(sizes); i++) {
		size_t nr = (24 << 20) / sizes[i];

		dirty_and_free(sizes[i], nr);
		malloc_trim(0);
		expect_zeroes(sizes[i], nr);
		dirty_and_free(sizes[i], nr);
		malloc_trim(0);
		dirty_and_free(sizes[i], nr / 2);
		expect_zeroes(sizes[(i + 3) % NR_OF(sizes)], 1);
		expect_zeroes(sizes[i], nr);
	}
	check_end();
}

static void *dirty_thread(void *size)
{
	dirty_and_free((size_t)(uintptr_t)size, 100);
	return NULL;
}

static void dirtied_by_a_thread_that_is_gone(void)
{
	size_t i;

	for (i = 0; i < NR_OF(sizes) - 2; i++) {
		pthread_t thread;

		REQUIRE(!pthread_create(&thread, NULL, dirty_thread,
					(void *)sizes[i]));
		pthread_join(thread, NULL);
		expect_zeroes(sizes[i], 100);
	}
	check_end();
}

/* The tail of a block that shrank was dirty; growing does not clear it, the
 * calloc() that gets it next does. */
static void the_tail_after_realloc(void)
{
	size_t i;

	for (i = 4; i < NR_OF(sizes); i++) {
		char *block = malloc(sizes[i]);

		memset(block, 0xdd, sizes[i]);
		block = realloc(block, sizes[i] / 8);
		expect_zeroes(sizes[i] / 2, 3);
		expect_zeroes(4096, 200);
		CHECK(all_bytes(block, 0xdd, sizes[i] / 8));
		free(block);
	}
	check_end();
}

static const struct check_case cases[] = {
	{ "reused_at_once", reused_at_once },
	{ "reused_by_another_size", reused_by_another_size },
	{ "after_the_limit", after_the_limit },
	{ "after_malloc_trim", after_malloc_trim },
	{ "dirtied_by_a_thread_that_is_gone",
	  dirtied_by_a_thread_that_is_gone },
	{ "the_tail_after_realloc", the_tail_after_realloc },
};

CHECK_MAIN(cases)
