// SPDX-License-Identifier: MIT
/*
 * Row 4: errno.  A failure sets ENOMEM, or EINVAL where glibc does; success
 * leaves it alone; free() leaves it alone on every path, purges included.
 */
#include "check.h"
#include <malloc.h>
#include <pthread.h>

#define NR_OF(array) (sizeof(array) / sizeof((array)[0]))
#define UNTOUCHED 1234

static const size_t sizes[] = {
	0, 1, 16, 24, 100, 1000, 4000, 8000, 9000, 16000, 32000, 33000, 65536,
	200000, 1 << 20, (2 << 20) + 1, 9 << 20,
};

static void failure_sets_enomem(void)
{
	size_t i, too_much[] = { PTRDIFF_MAX, PTRDIFF_MAX / 2, 0 };
	void *kept = malloc(100);

	too_much[2] = 2 * limit_bytes();
	for (i = 0; i < NR_OF(too_much); i++) {
		size_t size = opaque(too_much[i]);
		void *untouched = &kept;

		CHECK_FAILS(malloc(size), ENOMEM);
		CHECK_FAILS(calloc(1, size), ENOMEM);
		CHECK_FAILS(calloc(size / 8, 8), ENOMEM);
		CHECK_FAILS(realloc(NULL, size), ENOMEM);
		CHECK_FAILS(realloc(opaque_ptr(kept), size), ENOMEM);
		CHECK_FAILS(reallocarray(NULL, size / 8, 8), ENOMEM);
		CHECK_FAILS(memalign(64, size), ENOMEM);
		CHECK_FAILS(memalign(1 << 21, size), ENOMEM);
		CHECK_FAILS(aligned_alloc(4096, size), ENOMEM);
		CHECK_FAILS(valloc(size), ENOMEM);
		CHECK_FAILS(pvalloc(size), ENOMEM);
		CHECK(posix_memalign(&untouched, 64, size) == ENOMEM);
		CHECK(untouched == &kept);
	}
	free(kept);
	check_end();
}

static void wrong_alignments_give_einval(void)
{
	size_t i, wrong[] = { 0, 1, 2, 4, 3, 12, 24, 4097, SIZE_MAX };
	void *untouched = &untouched;

	for (i = 0; i < NR_OF(wrong); i++) {
		errno = UNTOUCHED;
		CHECK(posix_memalign(&untouched, opaque(wrong[i]), 10) ==
		      EINVAL);
		CHECK(untouched == &untouched);
		CHECK(errno == UNTOUCHED);
	}
	CHECK_FAILS(memalign(opaque(SIZE_MAX / 2 + 2), 10), EINVAL);
	CHECK_FAILS(memalign(opaque(SIZE_MAX), 10), EINVAL);
	CHECK_FAILS(aligned_alloc(opaque(SIZE_MAX), 10), EINVAL);
	check_end();
}

static void keeps(void *block)
{
	CHECK(errno == UNTOUCHED);
	CHECK(block != NULL);
	free(block);
	CHECK(errno == UNTOUCHED);
}

static void success_leaves_errno(void)
{
	size_t i, round;
	void *block;

	for (round = 0; round < 3; round++) {
		errno = UNTOUCHED;
		for (i = 0; i < NR_OF(sizes); i++) {
			size_t size = opaque(sizes[i]);

			keeps(malloc(size));
			keeps(calloc(1, size));
			keeps(realloc(NULL, size));
			keeps(realloc(malloc(100), size + 1));
			keeps(realloc(malloc(size), size / 3 + 1));
			keeps(realloc(malloc(size), size * 2 + 1));
			keeps(memalign(256, size));
			keeps(memalign(2 << 20, size));
			keeps(aligned_alloc(64, size));
			keeps(valloc(size));
			keeps(pvalloc(size));
			CHECK(posix_memalign(&block, 64, size) == 0);
			keeps(block);
			block = malloc(size);
			malloc_usable_size(block);
			CHECK(realloc(block, 0) == NULL);
			CHECK(errno == UNTOUCHED);
		}
		free(NULL);
		CHECK(errno == UNTOUCHED);
	}
	check_end();
}

static void drop_and_watch(void **head)
{
	void **block = *head;

	errno = UNTOUCHED;
	while (block) {
		void **next = *block;

		free(block);
		CHECK(errno == UNTOUCHED);
		block = next;
	}
	*head = NULL;
}

/* At the limit frees flush caches, merge, give pages back to the kernel. */
static void free_at_the_limit_leaves_errno(void)
{
	size_t i;

	for (i = 1; i < NR_OF(sizes); i++) {
		void *head = NULL;

		CHECK(fill(&head, sizes[i] < 24 ? 24 : sizes[i]) > 0);
		CHECK(errno == ENOMEM);
		drop_and_watch(&head);
		malloc_trim(0);
	}
	check_end();
}

static void *drop_thread(void *head)
{
	drop_and_watch(&head);
	return NULL;
}

static void free_by_another_thread_leaves_errno(void)
{
	size_t i;

	for (i = 2; i < NR_OF(sizes) - 1; i++) {
		size_t max = (8 << 20) / sizes[i];
		pthread_t thread;
		void *head = NULL;

		CHECK(fill_up_to(&head, sizes[i], max) == max);
		REQUIRE(!pthread_create(&thread, NULL, drop_thread, head));
		pthread_join(thread, NULL);
	}
	check_end();
}

/* The report of the first failure writes to stderr; it may not show. */
static void failure_with_stderr_closed(void)
{
	void *head = NULL;

	close(STDERR_FILENO);
	fill(&head, 1 << 20);
	CHECK(errno == ENOMEM);
	CHECK_FAILS(malloc(limit_bytes()), ENOMEM);
	drop(&head);
	CHECK_FAILS(malloc(opaque(PTRDIFF_MAX)), ENOMEM);
	check_end();
}

/* A failed realloc() keeps the block, a failed posix_memalign() the pointer. */
static void failures_change_nothing(void)
{
	void *head = NULL, *pointer = &head;
	char *small, *large = malloc(1 << 20);
	size_t i;

	small = malloc(100);
	memset(small, 's', 100);
	memset(large, 'l', 1 << 20);
	fill(&head, 64 << 10);
	for (i = 0; i < 100; i++) {
		CHECK_FAILS(realloc(opaque_ptr(small), 2 << 20), ENOMEM);
		CHECK_FAILS(realloc(opaque_ptr(large), 8 << 20), ENOMEM);
		CHECK(posix_memalign(&pointer, 64, 1 << 20) == ENOMEM);
		CHECK(pointer == &head);
	}
	CHECK(all_bytes(small, 's', 100));
	CHECK(all_bytes(large, 'l', 1 << 20));
	drop(&head);
	free(small);
	free(large);
	check_end();
}

static const struct check_case cases[] = {
	{ "failure_sets_enomem", failure_sets_enomem },
	{ "wrong_alignments_give_einval", wrong_alignments_give_einval },
	{ "success_leaves_errno", success_leaves_errno },
	{ "free_at_the_limit_leaves_errno", free_at_the_limit_leaves_errno },
	{ "free_by_another_thread_leaves_errno",
	  free_by_another_thread_leaves_errno },
	{ "failure_with_stderr_closed", failure_with_stderr_closed },
	{ "failures_change_nothing", failures_change_nothing },
};

CHECK_MAIN(cases)
