// SPDX-License-Identifier: MIT
/*
 * Each function of the malloc family that fails counts one reason and leaves
 * it for pp_last_failure(); what succeeds counts none.  Linked with libpagepool
 * for the numbers, which are then the preload library's own.
 */
#include "check.h"

#include <pagepool.h>
#include <pagepool/stat.h>

#define HALF_OF_ALL	(SIZE_MAX / 2 + 1)
#define LARGE		((size_t)40 << 20)

static struct pp_pool *pool;

static int64_t failures(void)
{
	return pp_stat_read(pool, PP_STAT_FAILURES);
}

/* One more than before, and it was for that. */
static void check_counted(const char *what, int64_t before,
			  enum pp_failure why)
{
	if (!CHECK(failures() == before + 1))
		check_say("%s: %d failures\n", what,
			  (int)(failures() - before));
	if (!CHECK(pp_last_failure() == why))
		check_say("%s: %s\n", what,
			  pp_failure_name(pp_last_failure()));
}

#define COUNTS(call, why) do { \
	int64_t counted = failures(); \
	CHECK_FAILS(call, ENOMEM); \
	check_counted(#call, counted, PP_FAILURE_##why); \
} while (0)

/* The limit is 64M, of which more than 40M are taken. */
static void *take_most(void)
{
	void *most;

	pool = pp_pool_default();
	REQUIRE(pool != NULL);
	most = malloc(LARGE);
	REQUIRE(most != NULL);
	CHECK(pp_last_failure() == PP_FAILURE_NONE);
	return most;
}

static void each_function_counts_one(void)
{
	/* Volatile, lest the compiler refuses it. */
	volatile size_t no_alignment = SIZE_MAX;
	void *most = take_most(), *p = malloc(100), *out = &out;
	int64_t before;

	COUNTS(malloc(LARGE), LIMIT);
	COUNTS(malloc(HALF_OF_ALL), TOO_BIG);
	COUNTS(malloc((size_t)1 << 40), TOO_BIG);
	COUNTS(calloc(1, LARGE), LIMIT);
	COUNTS(calloc(HALF_OF_ALL, 2), TOO_BIG);
	COUNTS(realloc(p, LARGE), LIMIT);
	COUNTS(realloc(most, LARGE * 2), TOO_BIG);
	COUNTS(realloc(most, HALF_OF_ALL), TOO_BIG);
	COUNTS(reallocarray(p, HALF_OF_ALL, 2), TOO_BIG);
	COUNTS(reallocarray(p, LARGE / 8, 8), LIMIT);
	COUNTS(memalign(64, LARGE), LIMIT);
	COUNTS(memalign(1 << 16, LARGE), LIMIT);
	COUNTS(aligned_alloc(4096, LARGE), LIMIT);
	COUNTS(valloc(LARGE), LIMIT);
	COUNTS(pvalloc(LARGE), LIMIT);
	COUNTS(pvalloc(SIZE_MAX), TOO_BIG);

	before = failures();
	errno = 7;
	CHECK(posix_memalign(&out, 4096, LARGE) == ENOMEM);
	CHECK(errno == 7 && out == &out);
	check_counted("posix_memalign", before, PP_FAILURE_LIMIT);
	/* A wrong alignment is no failure of memory. */
	CHECK(posix_memalign(&out, 3, 100) == EINVAL);
	CHECK_FAILS(memalign(no_alignment, 100), EINVAL);
	CHECK(failures() == before + 1);
	free(p);
	free(most);
	check_end();
}

/* Small ones, and what is made smaller, when nothing at all is left. */
static void smaller_is_no_failure(void)
{
	void *head = NULL, *small, *large, *medium;
	int64_t before;

	pool = pp_pool_default();
	large = malloc(1 << 20);
	medium = malloc(10000);
	memset(large, 1, 1 << 20);
	memset(medium, 2, 10000);
	fill_up_to(&head, 1 << 16, SIZE_MAX);
	fill_up_to(&head, 64, SIZE_MAX);
	before = failures();
	small = malloc(64);
	if (!small)
		check_counted("malloc(64)", before, PP_FAILURE_LIMIT);
	before = failures();
	errno = 5;
	medium = realloc(medium, 3000);
	CHECK(medium && ((char *)medium)[2999] == 2);
	large = realloc(large, 200);
	CHECK(large && ((char *)large)[199] == 1);
	CHECK(errno == 5);
	CHECK(failures() == before);
	drop(&head);
	free(small);
	free(large);
	free(medium);
	check_end();
}

/* For the test's eyes: it fails in a thread with a name, and lives. */
static void fail_and_go_on(void)
{
	void *most = take_most();

	CHECK_FAILS(malloc(LARGE), ENOMEM);
	CHECK_FAILS(malloc(LARGE), ENOMEM);
	free(most);
	check_end();
}

static const struct check_case cases[] = {
	{ "each_function_counts_one", each_function_counts_one },
	{ "smaller_is_no_failure", smaller_is_no_failure },
	{ "fail_and_go_on", fail_and_go_on },
};

CHECK_MAIN(cases)
