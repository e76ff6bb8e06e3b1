/* SPDX-License-Identifier: MIT */
/*
 * The setting thp: its values, and that none of them changes what the limit
 * promises.  Holes in blocks that may get huge pages are memory for any other
 * length, all of the limit can be used after everything was freed, and what
 * is to be zero is.
 */
#include "testing.h"

#include <pagepool/reclaim.h>

#define LIMIT_PAGES	(64u << 8)

static const char *const settings[] = { "auto", "always", "never" };

static struct pp_pool *pool_with(const char *thp)
{
	struct pp_config *config = NULL;
	struct pp_pool *pool = NULL;

	assert_int_equal(pp_config_create(&config), 0);
	assert_int_equal(pp_config_set(config, "limit", "64M"), 0);
	assert_int_equal(pp_config_set(config, "fake_nodes", "1"), 0);
	assert_int_equal(pp_config_set(config, "thp", thp), 0);
	assert_int_equal(pp_pool_create(config, &pool), 0);
	pp_config_destroy(config);
	return pool;
}

static void test_thp_takes_three_words(void **state)
{
	static const char *const wrong[] = {
		"", "Auto", "1", "always ", "madvise", "neve",
	};
	struct pp_config *config = NULL;
	struct pp_pool *pool = pool_with("auto");

	(void)state;
	assert_int_equal(pp_config_create(&config), 0);
	for (size_t i = 0; i < COUNT_OF(settings); i++)
		assert_int_equal(pp_config_set(config, "thp", settings[i]), 0);
	for (size_t i = 0; i < COUNT_OF(wrong); i++)
		assert_int_equal(pp_config_set(config, "thp", wrong[i]),
				 -EINVAL);
	assert_int_equal(pp_pool_set(pool, "thp", "never"), -EBUSY);
	pp_config_destroy(config);
	pool_end(pool);
	reached_end();
}

static size_t fill(struct pp_pool *pool, void **run, size_t most, size_t n)
{
	size_t nr = 0;

	while (nr < most &&
	       (run[nr] = pp_alloc_pages(pool, n, PP_NOWARN | PP_MEMALLOC))) {
		*(size_t *)run[nr] = nr;
		nr++;
	}
	assert_true(nr < most);
	return nr;
}

static void check_zero(void *run, size_t n)
{
	const uint64_t *word = run;

	for (size_t i = 0; i < n * PAGE / sizeof(*word); i++)
		assert_true(word[i] == 0);
}

/* Single pages, every second one freed, then one run of all that is free. */
static void holes_are_memory(struct pp_pool *pool, void **run)
{
	size_t nr = fill(pool, run, LIMIT_PAGES, 1);
	struct pp_stats s;
	void *rest;

	for (size_t i = 0; i < nr; i += 2)
		pp_free_pages(pool, run[i]);
	pp_pool_drain(pool);
	s = pool_stats(pool);
	assert_true((size_t)s.free_pages >= nr / 2);
	assert_true(s.backed_pages <= s.managed_pages);
	/* The cache's pages, which it takes again, are the only loss. */
	rest = pp_alloc_pages(pool, (size_t)s.free_pages - 2 * CACHE_PAGES,
			      PP_ZERO | PP_MEMALLOC);
	assert_non_null(rest);
	check_zero(rest, (size_t)s.free_pages - 2 * CACHE_PAGES);
	for (size_t i = 1; i < nr; i += 2)
		assert_int_equal(*(size_t *)run[i], i);
	pp_free_pages(pool, rest);
	for (size_t i = 1; i < nr; i += 2)
		pp_free_pages(pool, run[i]);
	assert_int_equal(pp_pool_check(pool), 0);
}

static void any_size_uses_the_limit(struct pp_pool *pool, void **run)
{
	static const size_t lengths[] = { 1, 3, 16, 64, 256, 512, 700, 1024,
					  4000 };

	for (size_t i = 0; i < COUNT_OF(lengths); i++) {
		size_t n = lengths[i], nr = fill(pool, run, LIMIT_PAGES, n);
		size_t most = (size_t)pool_stats(pool).managed_pages;

		/* 99.5 %, but for what is shorter than one more. */
		assert_true(nr * n + n > most - most / 200);
		while (nr)
			pp_free_pages(pool, run[--nr]);
	}
}

static void test_thp_changes_no_promise(void **state)
{
	void **run = test_array(LIMIT_PAGES, sizeof(*run));

	(void)state;
	for (size_t i = 0; i < COUNT_OF(settings); i++) {
		struct pp_pool *pool = pool_with(settings[i]);

		any_size_uses_the_limit(pool, run);
		holes_are_memory(pool, run);
		any_size_uses_the_limit(pool, run);
		pool_end(pool);
	}
	free(run);
	reached_end();
}

/* Reused, fresh and mixed memory, while huge pages come and go. */
static void test_thp_zero_is_zero(void **state)
{
	struct rng r = rng_make(1);
	size_t pages[64] = { 0 };
	void *run[64] = { NULL };

	(void)state;
	for (size_t s = 0; s < COUNT_OF(settings); s++) {
		struct pp_pool *pool = pool_with(settings[s]);

		for (unsigned n = 0; n < test_load(1500, 150); n++) {
			size_t i = rng_below(&r, 64);

			if (run[i]) {
				pp_free_pages(pool, run[i]);
				run[i] = NULL;
				continue;
			}
			pages[i] = 1 + rng_below(&r, rng_below(&r, 4) ? 60 :
								       2500);
			run[i] = pp_alloc_pages(pool, pages[i],
						PP_ZERO | PP_NOWARN);
			if (!run[i])
				continue;
			check_zero(run[i], pages[i]);
			memset(run[i], 0xa5, pages[i] * PAGE);
		}
		for (size_t i = 0; i < 64; i++) {
			if (run[i])
				pp_free_pages(pool, run[i]);
			run[i] = NULL;
		}
		pool_end(pool);
	}
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_thp_takes_three_words),
		TEST(test_thp_changes_no_promise),
		TEST(test_thp_zero_is_zero),
	};

	test_clear_environment();
	return cmocka_run_group_tests_name("thp", tests, NULL, NULL);
}
