/* SPDX-License-Identifier: MIT */
/* Pools come and go; settings; what a pool refuses. */
#include "testing.h"

#include <pagepool/cache.h>

static void test_pool_is_made_and_ended(void **state)
{
	struct pp_pool *pool = pool_make("16M");
	struct pp_stats s = pool_stats(pool);

	(void)state;
	assert_int_equal(s.limit_pages, 4096);
	assert_int_equal(s.limit_pages, s.managed_pages + s.metadata_pages);
	/* Nothing is used, but for the caches of threads that have one. */
	assert_int_equal(s.used_pages, s.nr_threads * CACHE_PAGES);
	assert_int_equal(s.free_pages, s.managed_pages - s.used_pages);
	assert_true(s.metadata_pages > 0 && s.metadata_pages < 64);
	pool_end(pool);
	reached_end();
}

static void test_pool_create_without_config_takes_the_environment(void **state)
{
	struct pp_pool *pool = NULL;

	(void)state;
	setenv("PAGEPOOL_LIMIT", "24M", 1);
	assert_int_equal(pp_pool_create(NULL, &pool), 0);
	unsetenv("PAGEPOOL_LIMIT");
	assert_int_equal(pp_stat_read(pool, PP_STAT_LIMIT_PAGES), 6144);
	pool_end(pool);
	reached_end();
}

static void test_pool_destroy_is_busy_while_pages_are_out(void **state)
{
	struct pp_pool *pool = pool_make("16M");
	void *run = pp_alloc_pages(pool, 3, 0);

	(void)state;
	assert_non_null(run);
	memset(run, 1, 3 * PAGE);
	assert_int_equal(pp_pool_destroy(pool), -EBUSY);
	/* Nothing has changed. */
	assert_int_equal(pp_run_pages(pool, run), 3);
	assert_int_equal(((char *)run)[3 * PAGE - 1], 1);
	pp_free_pages(pool, run);
	pool_end(pool);
	reached_end();
}

static void test_pool_destroy_frees_what_this_thread_cached(void **state)
{
	struct pp_pool *pool = pool_make("64M");
	void *run[100];

	(void)state;
	for (size_t i = 0; i < COUNT_OF(run); i++)
		run[i] = pp_alloc_pages(pool, 1 + i, 0);
	for (size_t i = 0; i < COUNT_OF(run); i++)
		pp_free_pages(pool, run[i]);
	assert_true(pool_stats(pool).cached_pages > 0);
	pool_end(pool);
	reached_end();
}

static void test_pools_are_independent(void **state)
{
	struct pp_pool *a = pool_make("16M"), *b = pool_make("32M");
	void *in_a = pp_alloc_pages(a, 5, 0), *in_b = pp_alloc_pages(b, 7, 0);

	(void)state;
	assert_non_null(in_a);
	assert_non_null(in_b);
	memset(in_a, 0xaa, 5 * PAGE);
	memset(in_b, 0xbb, 7 * PAGE);
	/* a at its limit is nothing to b. */
	while (pp_alloc_pages(a, 64, PP_NOWARN))
		;
	assert_int_equal(errno, ENOMEM);
	for (size_t i = 0; i < 50; i++) {
		void *run = pp_alloc_pages(b, 64, 0);

		assert_non_null(run);
		pp_free_pages(b, run);
	}
	assert_int_equal(((unsigned char *)in_a)[5 * PAGE - 1], 0xaa);
	assert_int_equal(((unsigned char *)in_b)[7 * PAGE - 1], 0xbb);
	assert_int_equal(pp_pool_check(a), 0);
	pp_free_pages(b, in_b);
	pool_end(b);
	assert_int_equal(pp_pool_destroy(a), -EBUSY);
	reached_end();
}

static void test_pool_can_be_made_again_and_again(void **state)
{
	struct pp_pool *keep = pool_make("16M"), *pool;
	void *kept = pp_alloc_pages(keep, 2, 0), *run;

	(void)state;
	for (size_t i = 0; i < 50; i++) {
		pool = pool_make_one_zone(i % 2 ? "8M" : "256M");
		run = pp_alloc_pages(pool, 1 + i * 10, 0);
		assert_non_null(run);
		memset(run, 1, (1 + i * 10) * PAGE);
		pp_free_pages(pool, run);
		pool_end(pool);
	}
	assert_int_equal(pp_run_pages(keep, kept), 2);
	pp_free_pages(keep, kept);
	pool_end(keep);
	reached_end();
}

/* A pool that ends under the caches of other, idle threads. */

struct idle {
	pthread_barrier_t	*barrier;
	struct pp_pool		**pool;
};

static void *idle_thread(void *arg)
{
	struct idle *idle = arg;

	for (unsigned round = 0; round < 10; round++) {
		void *run = pp_alloc_pages(*idle->pool, 4, 0);

		thread_check(run != NULL);
		pp_free_pages(*idle->pool, run);
		pthread_barrier_wait(idle->barrier);	/* all have caches */
		pthread_barrier_wait(idle->barrier);	/* a new pool */
	}
	return NULL;
}

static void test_pool_ends_under_caches_of_idle_threads(void **state)
{
	struct pp_pool *pool = pool_make("32M");
	pthread_barrier_t barrier;
	struct idle idle = { &barrier, &pool };
	pthread_t thread[3];

	(void)state;
	pthread_barrier_init(&barrier, NULL, 4);
	for (size_t i = 0; i < COUNT_OF(thread); i++)
		assert_int_equal(pthread_create(&thread[i], NULL, idle_thread,
						&idle), 0);
	for (unsigned round = 0; round < 10; round++) {
		pthread_barrier_wait(&barrier);
		assert_true(pp_stat_read(pool, PP_STAT_NR_THREADS) >= 3);
		pool_end(pool);
		pool = pool_make("32M");
		pthread_barrier_wait(&barrier);
	}
	for (size_t i = 0; i < COUNT_OF(thread); i++)
		pthread_join(thread[i], NULL);
	assert_threads_ok();
	assert_true(pp_stat_read(pool, PP_STAT_NR_THREADS) <= 1);
	pool_end(pool);
	pthread_barrier_destroy(&barrier);
	reached_end();
}

/*
 * A thread whose only cache went with its pool, and who then gets none from a
 * full one, has no cache when it exits: what was its cache is another's.
 */
#define KEEPERS	80	/* more than one chunk of storage has caches for */

struct stale {
	pthread_barrier_t	barrier, keepers;
	struct pp_pool		*gone, *full, *other;
};

static void *stale_thread(void *arg)
{
	struct stale *s = arg;
	void *run = pp_alloc_pages(s->gone, 1, 0);

	pp_free_pages(s->gone, run);
	pthread_barrier_wait(&s->barrier);	/* has a cache */
	pthread_barrier_wait(&s->barrier);	/* the pool is gone */
	thread_check(pp_alloc_pages(s->full, 1, PP_NOWARN) == NULL);
	pthread_barrier_wait(&s->barrier);	/* has none */
	pthread_barrier_wait(&s->barrier);	/* all others have theirs */
	return NULL;
}

static void *keeper_thread(void *arg)
{
	struct stale *s = arg;
	void *run[40];

	pp_free_pages(s->other, pp_alloc_pages(s->other, 1, 0));
	pthread_barrier_wait(&s->keepers);
	pthread_barrier_wait(&s->keepers);	/* the stale one has exited */
	for (size_t i = 0; i < COUNT_OF(run); i++)
		thread_check((run[i] = pp_alloc_pages(s->other, 1, 0)) !=
			     NULL);
	for (size_t i = 0; i < COUNT_OF(run); i++)
		pp_free_pages(s->other, run[i]);
	return NULL;
}

static void *fill_completely(struct pp_pool *pool)
{
	void *chain = NULL, *run;

	while ((run = pp_alloc_pages(pool, 1, PP_MEMALLOC | PP_NOWARN))) {
		*(void **)run = chain;
		chain = run;
	}
	return chain;
}

static void free_chain(struct pp_pool *pool, void *chain)
{
	while (chain) {
		void *next = *(void **)chain;

		pp_free_pages(pool, chain);
		chain = next;
	}
}

static void test_pool_gone_and_next_full_leaves_no_stale_cache(void **state)
{
	struct stale s = { .gone = pool_make("16M"), .full = pool_make("8M"),
			   .other = pool_make("64M") };
	pthread_t stale, keeper[KEEPERS];
	void *chain = fill_completely(s.full);

	(void)state;
	assert_int_equal(pp_stat_read(s.full, PP_STAT_FREE_PAGES), 0);
	pthread_barrier_init(&s.barrier, NULL, 2);
	pthread_barrier_init(&s.keepers, NULL, KEEPERS + 1);
	assert_int_equal(pthread_create(&stale, NULL, stale_thread, &s), 0);
	pthread_barrier_wait(&s.barrier);
	assert_int_equal(pp_pool_destroy(s.gone), 0);
	pthread_barrier_wait(&s.barrier);
	pthread_barrier_wait(&s.barrier);
	for (size_t i = 0; i < KEEPERS; i++)
		assert_int_equal(pthread_create(&keeper[i], NULL,
						keeper_thread, &s), 0);
	pthread_barrier_wait(&s.keepers);
	pthread_barrier_wait(&s.barrier);
	pthread_join(stale, NULL);
	assert_true(pp_stat_read(s.other, PP_STAT_NR_THREADS) >= KEEPERS);
	pthread_barrier_wait(&s.keepers);
	for (size_t i = 0; i < KEEPERS; i++)
		pthread_join(keeper[i], NULL);
	assert_threads_ok();
	free_chain(s.full, chain);
	pool_end(s.full);
	pool_end(s.other);
	pthread_barrier_destroy(&s.barrier);
	pthread_barrier_destroy(&s.keepers);
	reached_end();
}

static void test_config_errors_have_their_numbers(void **state)
{
	struct pp_config *config = NULL;
	struct pp_pool *pool = NULL;

	(void)state;
	assert_int_equal(pp_config_create(&config), 0);
	assert_int_equal(pp_config_set(config, "limit", "16M"), 0);
	assert_int_equal(pp_config_set(config, "limt", "32M"), -ENOENT);
	assert_int_equal(pp_config_set(config, "LIMIT", "32M"), -ENOENT);
	assert_int_equal(pp_config_set(config, "limit", "12Q"), -EINVAL);
	assert_int_equal(pp_config_set(config, "limit", ""), -EINVAL);
	assert_int_equal(pp_config_set(config, "limit", "1M"), -ERANGE);
	assert_int_equal(pp_config_set(config, NULL, "1M"), -EINVAL);
	assert_int_equal(pp_config_set(config, "limit", NULL), -EINVAL);
	assert_int_equal(pp_config_set(NULL, "limit", "16M"), -EINVAL);
	/* After all that, what was set last holds. */
	assert_int_equal(pp_pool_create(config, &pool), 0);
	pp_config_destroy(config);
	pp_config_destroy(NULL);
	assert_int_equal(pp_stat_read(pool, PP_STAT_LIMIT_PAGES), 4096);
	pool_end(pool);
	reached_end();
}

static void test_pool_set_changes_a_living_pool(void **state)
{
	struct pp_pool *pool = pool_make_one_zone("64M");
	int64_t min = pp_stat_read(pool, PP_STAT_MIN_PAGES);
	struct pp_stats s;

	(void)state;
	assert_int_equal(pp_pool_set(pool, "min_free", "4M"), 0);
	s = pool_stats(pool);
	assert_int_equal(s.min_pages, 1024);
	assert_int_equal(s.low_pages, 1024 + 256);
	assert_int_equal(s.high_pages, 1024 + 512);
	assert_int_equal(pp_pool_set(pool, "watermark_scale", "1000"), 0);
	s = pool_stats(pool);
	assert_int_equal(s.low_pages, 1024 + s.managed_pages / 10);
	/* More than half of the pool cannot be kept free. */
	assert_int_equal(pp_pool_set(pool, "min_free", "1G"), 0);
	s = pool_stats(pool);
	assert_int_equal(s.min_pages, s.managed_pages / 2);
	assert_true(s.high_pages <= s.managed_pages);
	assert_int_equal(pp_pool_set(pool, "min_free", "0"), 0);
	assert_int_equal(pp_stat_read(pool, PP_STAT_MIN_PAGES), min);
	assert_int_equal(pp_pool_set(pool, "verbose", "1"), 0);
	pool_end(pool);
	reached_end();
}

static void test_pool_set_refuses_and_changes_nothing(void **state)
{
	struct pp_pool *pool = pool_make("64M");
	struct pp_stats before = pool_stats(pool), after;

	(void)state;
	assert_int_equal(pp_pool_set(pool, "stats", "exit"), -EBUSY);
	assert_int_equal(pp_pool_set(pool, "strict", "1"), -EBUSY);
	assert_int_equal(pp_pool_set(pool, "nonsense", "1"), -ENOENT);
	assert_int_equal(pp_pool_set(pool, "min_free", "x"), -EINVAL);
	assert_int_equal(pp_pool_set(pool, "watermark_scale", "0"), -ERANGE);
	assert_int_equal(pp_pool_set(pool, "watermark_scale", "3001"),
			 -ERANGE);
	assert_int_equal(pp_pool_set(pool, "verbose", "2"), -ERANGE);
	assert_int_equal(pp_pool_set(NULL, "verbose", "1"), -EINVAL);
	assert_int_equal(pp_pool_set(pool, NULL, "1"), -EINVAL);
	assert_int_equal(pp_pool_set(pool, "verbose", NULL), -EINVAL);
	after = pool_stats(pool);
	/* The thread that has just started looks around. */
	before.reclaimd_runs = after.reclaimd_runs;
	assert_memory_equal(&before, &after, sizeof(before));
	pool_end(pool);
	reached_end();
}

static void test_pool_default_is_one_and_stays(void **state)
{
	struct pp_pool *pool = pp_pool_default();
	void *run;

	(void)state;
	assert_non_null(pool);
	assert_ptr_equal(pool, pp_pool_default());
	run = pp_alloc_pages(pool, 10, 0);
	assert_non_null(run);
	memset(run, 1, 10 * PAGE);
	pp_free_pages(pool, run);
	assert_int_equal(pp_pool_check(pool), 0);
	assert_int_equal(pp_pool_destroy(pool), -EBUSY);
	reached_end();
}

/* What is NULL and may not be has an answer, and harms nothing. */
static void test_pool_null_arguments_are_refused(void **state)
{
	struct pp_stats stats = { .struct_bytes = sizeof(stats) };
	void *run = NULL;

	(void)state;
	assert_int_equal(pp_config_create(NULL), -EINVAL);
	assert_int_equal(pp_config_set(NULL, "limit", "8M"), -EINVAL);
	assert_int_equal(pp_pool_create(NULL, NULL), -EINVAL);
	assert_int_equal(pp_pool_destroy(NULL), -EINVAL);
	assert_int_equal(pp_pool_set(NULL, "verbose", "1"), -EINVAL);
	assert_int_equal(pp_pool_check(NULL), -EINVAL);
	assert_int_equal(pp_stat_read(NULL, PP_STAT_FREE_PAGES), -EINVAL);
	assert_int_equal(pp_stat_bound(NULL, PP_STAT_FREE_PAGES), -EINVAL);
	assert_int_equal(pp_stat_snapshot(NULL, &stats), -EINVAL);
	assert_int_equal(pp_report(NULL, PP_FORMAT_TEXT, NULL, 0), -EINVAL);
	assert_int_equal(pp_cache_destroy(NULL), -EINVAL);
	errno = 0;
	assert_null(pp_alloc_pages(NULL, 1, 0));
	assert_int_equal(errno, EINVAL);
	assert_null(pp_cache_alloc(NULL, 0));
	assert_int_equal(pp_alloc_bulk(pp_pool_default(), 1, 1, NULL, 0), 0);
	pp_free_pages(NULL, run);
	pp_cache_free(NULL, run);
	pp_config_destroy(NULL);
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_pool_is_made_and_ended),
		TEST(test_pool_null_arguments_are_refused),
		TEST(test_pool_create_without_config_takes_the_environment),
		TEST(test_pool_destroy_is_busy_while_pages_are_out),
		TEST(test_pool_destroy_frees_what_this_thread_cached),
		TEST(test_pools_are_independent),
		TEST(test_pool_can_be_made_again_and_again),
		TEST(test_pool_ends_under_caches_of_idle_threads),
		TEST(test_pool_gone_and_next_full_leaves_no_stale_cache),
		TEST(test_config_errors_have_their_numbers),
		TEST(test_pool_set_changes_a_living_pool),
		TEST(test_pool_set_refuses_and_changes_nothing),
		TEST(test_pool_default_is_one_and_stays),
	};

	test_clear_environment();
	return cmocka_run_group_tests_name("pool", tests, NULL, NULL);
}
