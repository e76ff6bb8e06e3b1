/* SPDX-License-Identifier: MIT */
/*
 * testing.h - what the tests of all folders share.
 *
 * Only the public headers and cmocka are included, so that a test in
 * tests/api/ cannot see internals by accident.
 *
 * A test names itself with TEST(function) in the list and ends in
 * reached_end(): one that returns early is a failure.  Threads other than the
 * first report by thread_check(), because cmocka's assertions leave by
 * longjmp; the first thread then says assert_threads_ok().
 */
#ifndef PP_TESTS_TESTING_H
#define PP_TESTS_TESTING_H

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <pagepool.h>
#include <pagepool/stat.h>

#include "testing_fault.h"

/* lib/fault_hook.h: in a callback, is it called for reclaimd? */
bool pagepool_call_is_background(void);

#define PAGE		((size_t)PP_PAGE_SIZE)
/* What the cache of a thread takes, which counts as used. */
#define CACHE_PAGES	2
#define COUNT_OF(a)	(sizeof(a) / sizeof((a)[0]))

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TEST_SANITIZED	1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define TEST_SANITIZED	1
#endif
#endif
#ifndef TEST_SANITIZED
#define TEST_SANITIZED	0
#endif

/* The end of every test */

static bool test_reached_end, test_skipped;
static _Atomic unsigned thread_failures;

static inline int test_begin(void **state)
{
	(void)state;
	test_reached_end = test_skipped = false;
	atomic_store(&thread_failures, 0);
	return 0;
}

static inline int test_end(void **state)
{
	(void)state;
	if (test_fault_mine)
		test_fault_end(test_skipped ? TEST_FAULT_SKIPPED :
			       test_reached_end ? TEST_FAULT_PASSED :
			       TEST_FAULT_FAILED);
	return test_reached_end ? 0 : -1;
}

static inline void reached_end(void)
{
	test_reached_end = true;
}

/* Instead of skip(), which leaves the test. */
static inline void test_skip(const char *why)
{
	print_message("# %s\n", why);
	reached_end();
	test_skipped = true;
	skip();
}

/* How often a body does the same; @few where it is to be run very often. */
static inline size_t test_load(size_t all, size_t few)
{
	return test_fault_mine ? few : all;
}

static inline size_t test_number(const char *name, size_t otherwise)
{
	const char *given = getenv(name);

	return given && *given ? strtoull(given, NULL, 0) : otherwise;
}

struct test_body {
	const char	*name;
	void		(*run)(void **state);
};

/* Where a body is left by an assertion its threads go on, and wait at what is
 * in its frame: the end of the child is not to overwrite that. */
static __attribute__((noinline)) void test_run_deep(
	const struct test_body *body)
{
	char room[256 * 1024];
	void *none = NULL;

	body->run(&none);
	__asm__ __volatile__("" : : "r"(room) : "memory");
}

/* The body; or, where that is asked for, with one thing failing after the
 * other. */
static inline void test_run(void **state)
{
	const struct test_body *body = *state;
	const char *wanted = getenv("PP_TEST_FAULT");
	void *none = NULL;
	int how;

	if (wanted && pagepool_fault_name) {
		how = test_fault_sweep(body->name, wanted);
		if (test_fault_mine)
			test_run_deep(body);
		else if (how == TEST_FAULT_SKIPPED)
			test_skip("not where nothing fails, either");
		else
			reached_end();
	} else {
		body->run(&none);
	}
}

#define TEST(f)								\
	{ #f, test_run, test_begin, test_end,				\
	  &(struct test_body){ #f, f } }

#define thread_check(cond)						\
	do {								\
		if (!(cond)) {						\
			fprintf(stderr, "%s:%d: %s does not hold\n",	\
				__FILE__, __LINE__, #cond);		\
			atomic_fetch_add(&thread_failures, 1);		\
		}							\
	} while (0)

#define assert_threads_ok() \
	assert_int_equal(atomic_load(&thread_failures), 0)

/* Random numbers: xorshift64*, S. Vigna, 2014 */

struct rng {
	uint64_t	state;
};

/* Printed, and taken from PP_TEST_SEED to repeat a run. */
static inline uint64_t test_seed(void)
{
	static uint64_t seed;
	const char *given = getenv("PP_TEST_SEED");
	struct timespec now;

	if (seed)
		return seed;
	clock_gettime(CLOCK_REALTIME, &now);
	seed = given ? strtoull(given, NULL, 0) :
		       (uint64_t)now.tv_nsec ^ (uint64_t)getpid() << 32;
	seed = seed ? seed : 1;
	printf("# PP_TEST_SEED=%llu\n", (unsigned long long)seed);
	fflush(stdout);
	return seed;
}

static inline struct rng rng_make(unsigned stream)
{
	struct rng r = { test_seed() + stream * 0x9e3779b97f4a7c15ull };

	r.state = r.state ? r.state : 1;
	return r;
}

static inline uint64_t rng_next(struct rng *r)
{
	r->state ^= r->state >> 12;
	r->state ^= r->state << 25;
	r->state ^= r->state >> 27;
	return r->state * 0x2545f4914f6cdd1dull >> 8;
}

/* 0 .. n - 1 */
static inline size_t rng_below(struct rng *r, size_t n)
{
	return (size_t)(rng_next(r) % n);
}

static inline void *test_array(size_t n, size_t size)
{
	void *p = calloc(n, size);

	assert_non_null(p);
	return p;
}

/* Pools */

/* The environment of whoever runs the tests is none of their business. */
static inline void test_clear_environment(void)
{
	static const char *const names[] = {
		"LIMIT", "MIN_FREE", "WATERMARK_SCALE", "STATS", "STRICT",
		"VERBOSE", "NUMA", "FAULT",
	};
	char name[64];

	for (size_t i = 0; i < COUNT_OF(names); i++) {
		snprintf(name, sizeof(name), "PAGEPOOL_%s", names[i]);
		unsetenv(name);
	}
}

static inline struct pp_pool *pool_make(const char *limit)
{
	struct pp_config *config = NULL;
	struct pp_pool *pool = NULL;

	assert_int_equal(pp_config_create(&config), 0);
	assert_int_equal(pp_config_set(config, "limit", limit), 0);
	assert_int_equal(pp_pool_create(config, &pool), 0);
	assert_non_null(pool);
	pp_config_destroy(config);
	return pool;
}

/* For what is only so within one zone, such as a run of nearly all of the
 * limit: the tests may run with PAGEPOOL_FAKE_NODES set. */
static inline struct pp_pool *pool_make_one_zone(const char *limit)
{
	struct pp_config *config = NULL;
	struct pp_pool *pool = NULL;

	assert_int_equal(pp_config_create(&config), 0);
	assert_int_equal(pp_config_set(config, "limit", limit), 0);
	assert_int_equal(pp_config_set(config, "fake_nodes", "1"), 0);
	assert_int_equal(pp_pool_create(config, &pool), 0);
	pp_config_destroy(config);
	return pool;
}

static inline struct pp_stats pool_stats(struct pp_pool *pool)
{
	struct pp_stats s;

	memset(&s, 0, sizeof(s));
	s.struct_bytes = sizeof(s);
	assert_int_equal(pp_stat_snapshot(pool, &s), 0);
	assert_int_equal(s.free_pages + s.cached_pages + s.used_pages +
			 s.isolated_pages + s.reserved_pages,
			 s.managed_pages);
	return s;
}

static inline void pool_end(struct pp_pool *pool)
{
	assert_int_equal(pp_pool_check(pool), 0);
	assert_int_equal(pp_pool_destroy(pool), 0);
}

/* The length that a request of @n pages gets: exact up to 16 and over 256,
 * else rounded up to one of eight lengths for each doubling. */
static inline size_t run_length(size_t n)
{
	size_t step = 1;

	if (n <= 16 || n > 256)
		return n;
	while (step * 16 < n)
		step *= 2;
	return (n + step - 1) / step * step;
}

#endif
