/* SPDX-License-Identifier: MIT */
/*
 * A thread's cache of runs: what it takes, hides and gives back.  After each
 * step the pages outside the zone's free ones are either in the model (handed
 * out) or counted as cached: cached_pages is exact.
 */
#include "../api/testing.h"

#include "base/fault.h"
#include "pool.h"

#define MAX_RUNS	400

struct fixture {
	struct pp_pool	pool;
	struct { void *p; uint64_t pages; } run[MAX_RUNS];
	uint64_t	out_pages;
};

static struct fixture *fixture_make(const char *limit)
{
	struct pp_config config;
	struct fixture *f = NULL;

	assert_int_equal(posix_memalign((void **)&f, 64, sizeof(*f)), 0);
	memset(f, 0, sizeof(*f));
	config_defaults(&config);
	assert_int_equal(config_set(&config, "limit", limit), 0);
	assert_int_equal(pool_init(&f->pool, &config), 0);
	return f;
}

static void fixture_end(struct fixture *f)
{
	assert_int_equal(pp_pool_check(&f->pool), 0);
	assert_int_equal(pool_exit(&f->pool), 0);
	free(f);
}

static uint64_t used_pages(struct fixture *f)
{
	return load_relaxed(&f->pool.zones->used_pages) -
	       f->pool.zones->charged_pages;
}

static uint64_t cached_pages(struct fixture *f)
{
	return (uint64_t)pcp_sum_cached_pages(&f->pool.registry);
}

static void check_counts(struct fixture *f)
{
	struct pcp *pcp = pcp_find(&f->pool.registry);

	assert_int_equal(used_pages(f), f->out_pages + cached_pages(f));
	if (pcp) {
		assert_int_equal(pcp_verify(pcp), 0);
		assert_true(pcp->busy == PCP_FREE ||
			    pcp->busy == PCP_UNLOCKED);
	}
}

static void take(struct fixture *f, unsigned i, size_t n, unsigned flags)
{
	void *p = pp_alloc_pages(&f->pool, n, flags | PP_NOWARN);

	if (!p)
		return;
	f->run[i].p = p;
	f->run[i].pages = pp_run_pages(&f->pool, p);
	f->out_pages += f->run[i].pages;
}

static void give(struct fixture *f, unsigned i)
{
	if (!f->run[i].p)
		return;
	pp_free_pages(&f->pool, f->run[i].p);
	f->run[i].p = NULL;
	f->out_pages -= f->run[i].pages;
}

static void give_all(struct fixture *f)
{
	for (unsigned i = 0; i < MAX_RUNS; i++)
		give(f, i);
}

static void test_runs_round_by_an_eighth_at_most(void **state)
{
	struct fixture *f = fixture_make("16M");

	(void)state;
	for (uint64_t n = 1; n <= 20000; n++) {
		uint64_t got = run_round_pages(n);

		assert_true(got >= n && got <= n + n / 8);
		if (n <= 256)
			assert_int_equal(got, run_length(n));
		assert_int_equal(run_round_pages(got), got);
		assert_int_equal(run_word_pages(run_word(got)), got);
		assert_int_equal(run_word_pages(run_word(n)), n);
	}
	fixture_end(f);
	reached_end();
}

static void test_run_words_hold_every_length(void **state)
{
	struct fixture *f = fixture_make("16M");

	(void)state;
	for (uint64_t n = 1; n <= RUN_MAX_PAGES; n += n / 3 + 1) {
		uint64_t got = run_round_pages(n);
		uint32_t word;

		assert_true(run_length_is_valid(got));
		assert_true(got >= n && got - n <= 64 + n / 8);
		word = run_word(got);
		assert_int_equal(run_word_pages(word), got);
		assert_true(word & MAP_RUN);
		assert_false(word & (MAP_SLAB | MAP_CACHED | MAP_MOVED));
	}
	assert_false(run_length_is_valid(0));
	assert_false(run_length_is_valid(RUN_MAX_PAGES + 1));
	assert_false(run_length_is_valid(RUN_MAX_EXACT_PAGES + 2));
	fixture_end(f);
	reached_end();
}

static void test_pcp_counts_are_exact_after_every_step(void **state)
{
	struct fixture *f = fixture_make("16M");
	struct rng r = rng_make(1);
	unsigned steps = 0;

	(void)state;
	for (; steps < 20000; steps++) {
		unsigned i = (unsigned)rng_below(&r, MAX_RUNS);
		size_t n = 1 + rng_below(&r, rng_below(&r, 10) ? 20 : 700);

		if (f->run[i].p)
			give(f, i);
		else
			take(f, i, n, rng_below(&r, 50) ? 0 : PP_MEMALLOC);
		check_counts(f);
		if (steps % 1000 == 999)
			pool_drain(&f->pool);
	}
	give_all(f);
	check_counts(f);
	pool_drain(&f->pool);
	assert_int_equal(cached_pages(f), 0);
	assert_int_equal(used_pages(f), 0);
	fixture_end(f);
	reached_end();
}

/* A freed run is the next one of its length, and its neighbours came along. */
static void test_pcp_refills_in_batches_and_serves_last_in_first_out(void **s)
{
	struct fixture *f = fixture_make("64M");
	void *last;

	(void)s;
	take(f, 0, 1, 0);
	assert_true(cached_pages(f) > 0 && cached_pages(f) < 64);
	check_counts(f);
	for (size_t n = 1; n <= 256; n += 5) {
		take(f, 1, n, 0);
		last = f->run[1].p;
		give(f, 1);
		assert_true(cached_pages(f) >= n);
		take(f, 1, n, 0);
		assert_ptr_equal(f->run[1].p, last);
		give(f, 1);
		check_counts(f);
	}
	give_all(f);
	fixture_end(f);
	reached_end();
}

static void test_pcp_hides_an_eighth_at_most(void **state)
{
	struct fixture *f = fixture_make("32M");
	uint64_t managed = load_relaxed(&f->pool.zones->managed_pages);
	uint64_t most = 0;

	(void)state;
	for (size_t n = 1; n <= 256; n++) {
		for (unsigned i = 0; i < 60; i++)
			take(f, i, n, 0);
		for (unsigned i = 0; i < 60; i++) {
			give(f, i);
			most = cached_pages(f) > most ? cached_pages(f) : most;
		}
		check_counts(f);
	}
	assert_true(most > 100);	/* it does hide something */
	assert_true(most <= managed / 8);
	fixture_end(f);
	reached_end();
}

/* Below high a thread that starts then may hide low - min at the most. */
static void *frugal_thread(void *arg)
{
	struct fixture *f = arg;
	struct zone *z = f->pool.zones;
	uint64_t gap = load_relaxed(&z->low_pages) -
		       load_relaxed(&z->min_pages);
	struct pcp *mine;
	void *p[40];

	for (size_t n = 1; n <= 8; n++) {
		for (unsigned i = 0; i < COUNT_OF(p); i++)
			p[i] = pp_alloc_pages(&f->pool, n, PP_NOWARN |
					      PP_MEMALLOC);
		for (unsigned i = 0; i < COUNT_OF(p); i++)
			pp_free_pages(&f->pool, p[i]);
		mine = pcp_find(&f->pool.registry);
		thread_check(mine != NULL);
		thread_check(mine && pcp_cached_pages(mine) <= (int64_t)gap);
	}
	return NULL;
}

static void test_pcp_hides_less_when_memory_is_short(void **state)
{
	struct fixture *f = fixture_make("32M");
	struct zone *z = f->pool.zones;
	pthread_t thread;

	(void)state;
	pool_drain(&f->pool);
	take(f, 0, zone_free_pages(z) - load_relaxed(&z->low_pages), 0);
	assert_non_null(f->run[0].p);
	pool_drain(&f->pool);
	assert_true(zone_free_pages(z) <= load_relaxed(&z->high_pages));
	assert_int_equal(pthread_create(&thread, NULL, frugal_thread, f), 0);
	pthread_join(thread, NULL);
	assert_threads_ok();
	give_all(f);
	fixture_end(f);
	reached_end();
}

static void test_pcp_keeps_two_long_runs(void **state)
{
	struct fixture *f = fixture_make("64M");
	void *a, *b;

	(void)state;
	take(f, 0, 400, 0);
	take(f, 1, 500, 0);
	take(f, 2, 600, 0);
	a = f->run[0].p;
	b = f->run[1].p;
	give(f, 0);
	give(f, 1);
	assert_int_equal(cached_pages(f), 900);
	check_counts(f);
	/* The one of that length, or of up to an eighth more. */
	take(f, 3, 450, 0);
	assert_ptr_equal(f->run[3].p, b);
	assert_int_equal(f->run[3].pages, 500);
	take(f, 4, 300, 0);	/* 400 is too long */
	assert_ptr_not_equal(f->run[4].p, a);
	take(f, 5, 400, 0);
	assert_ptr_equal(f->run[5].p, a);
	assert_int_equal(cached_pages(f), 0);
	/* The third takes the place of one of two. */
	give(f, 3);
	give(f, 5);
	give(f, 2);
	check_counts(f);
	assert_true(cached_pages(f) >= 1000 && cached_pages(f) <= 1100);
	give_all(f);
	fixture_end(f);
	reached_end();
}

static void test_pcp_long_runs_are_shared_only_if_aligned(void **s)
{
	struct fixture *f = fixture_make("64M");
	void *p;

	(void)s;
	take(f, 0, 100, 0);
	take(f, 1, 300, 0);	/* not at a block's start */
	assert_int_not_equal((uintptr_t)f->run[1].p % (512 * 4096), 0);
	give(f, 1);
	assert_int_equal(cached_pages(f) >= 300, 1);
	p = pp_alloc_aligned(&f->pool, 300, 512, 0);
	assert_non_null(p);
	assert_int_equal((uintptr_t)p % (512 * 4096), 0);
	pp_free_pages(&f->pool, p);
	give_all(f);
	check_counts(f);
	fixture_end(f);
	reached_end();
}

static void test_pcp_too_long_for_the_share_goes_straight_back(void **state)
{
	struct fixture *f = fixture_make("32M");
	uint64_t managed = load_relaxed(&f->pool.zones->managed_pages);

	(void)state;
	take(f, 0, managed / 8 + 1, 0);
	give(f, 0);
	assert_int_equal(cached_pages(f), 0);
	take(f, 0, managed / 8 - 100, 0);
	give(f, 0);
	assert_int_equal(cached_pages(f), managed / 8 - 100);
	check_counts(f);
	fixture_end(f);
	reached_end();
}

/* Threads */

static void *exiting_thread(void *arg)
{
	struct fixture *f = arg;
	void *p[100];

	for (unsigned i = 0; i < COUNT_OF(p); i++)
		p[i] = pp_alloc_pages(&f->pool, 1 + i % 30, PP_NOWARN);
	for (unsigned i = 0; i < COUNT_OF(p); i++)
		pp_free_pages(&f->pool, p[i]);
	thread_check(pcp_find(&f->pool.registry) != NULL);
	return NULL;
}

static void test_pcp_exit_of_a_thread_returns_everything(void **state)
{
	struct fixture *f = fixture_make("32M");
	pthread_t thread[8];

	(void)state;
	for (unsigned round = 0; round < 30; round++) {
		for (unsigned i = 0; i < COUNT_OF(thread); i++)
			assert_int_equal(pthread_create(&thread[i], NULL,
							exiting_thread, f),
					 0);
		for (unsigned i = 0; i < COUNT_OF(thread); i++)
			pthread_join(thread[i], NULL);
		assert_int_equal(load_relaxed(&f->pool.registry.nr_pcps), 0);
		assert_null(f->pool.registry.head);
		assert_int_equal(cached_pages(f), 0);
		assert_int_equal(used_pages(f), 0);
		assert_int_equal(f->pool.zones->charged_pages, 0);
	}
	assert_threads_ok();
	assert_true(vmstat_read(&f->pool.vmstat, EVENT_FLUSH_PAGES) > 0);
	fixture_end(f);
	reached_end();
}

/* The cache of a pool that is gone is the next pool's: storage does not grow
 * with the number of pools that a thread has seen. */
static void test_pcp_storage_of_ended_pools_is_used_again(void **state)
{
	const uint32_t calls = 1000;
	unsigned rounds = 0;

	(void)state;
	fault_arm(FAULT_STORAGE, calls);
	for (; rounds < 300; rounds++) {
		struct fixture *f = fixture_make("8M");

		take(f, 0, 1, 0);
		assert_non_null(pcp_find(&f->pool.registry));
		give(f, 0);
		fixture_end(f);
	}
	assert_int_equal(rounds, 300);
	assert_true(load_relaxed(&fault_countdown[FAULT_STORAGE]) >=
		    calls - 1);
	fault_arm(FAULT_STORAGE, 0);
	reached_end();
}

/* The more threads, the less each may hide: together no more than one. */

struct sharing {
	struct fixture		*f;
	pthread_barrier_t	barrier;
};

static void *sharing_thread(void *arg)
{
	struct sharing *s = arg;
	struct pp_pool *pool = &s->f->pool;
	void *p[64];

	pp_free_pages(pool, pp_alloc_pages(pool, 1, 0));
	pthread_barrier_wait(&s->barrier);	/* all are registered */
	for (size_t n = 1; n <= 64; n *= 2) {
		for (unsigned i = 0; i < COUNT_OF(p); i++)
			p[i] = pp_alloc_pages(pool, n, PP_NOWARN);
		for (unsigned i = 0; i < COUNT_OF(p); i++)
			pp_free_pages(pool, p[i]);
	}
	pthread_barrier_wait(&s->barrier);	/* all are full */
	pthread_barrier_wait(&s->barrier);	/* and were counted */
	return NULL;
}

static void test_pcp_threads_share_the_eighth(void **state)
{
	struct sharing s = { .f = fixture_make("64M") };
	uint64_t managed = load_relaxed(&s.f->pool.zones->managed_pages);
	pthread_t thread[16];

	(void)state;
	pthread_barrier_init(&s.barrier, NULL, COUNT_OF(thread) + 1);
	for (unsigned i = 0; i < COUNT_OF(thread); i++)
		assert_int_equal(pthread_create(&thread[i], NULL,
						sharing_thread, &s), 0);
	pthread_barrier_wait(&s.barrier);
	pthread_barrier_wait(&s.barrier);
	assert_true(cached_pages(s.f) > 0);
	assert_true(cached_pages(s.f) <= managed / 8);
	check_counts(s.f);
	pthread_barrier_wait(&s.barrier);
	for (unsigned i = 0; i < COUNT_OF(thread); i++)
		pthread_join(thread[i], NULL);
	assert_int_equal(cached_pages(s.f), 0);
	pthread_barrier_destroy(&s.barrier);
	fixture_end(s.f);
	reached_end();
}

/* The thread's first cache, which says that it is inside, may be of a pool that
 * is gone. */
static void test_pcp_is_inside_though_the_first_pool_is_gone(void **state)
{
	struct pp_pool *first = pool_make("8M"), *second = pool_make("8M");

	(void)state;
	pp_free_pages(first, pp_alloc_pages(first, 1, 0));
	pp_free_pages(second, pp_alloc_pages(second, 1, 0));
	assert_false(pcp_is_inside());
	pool_end(first);
	pcp_enter_without();
	assert_true(pcp_is_inside());
	pcp_leave_without();
	assert_false(pcp_is_inside());
	pool_end(second);
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_runs_round_by_an_eighth_at_most),
		TEST(test_run_words_hold_every_length),
		TEST(test_pcp_counts_are_exact_after_every_step),
		TEST(test_pcp_refills_in_batches_and_serves_last_in_first_out),
		TEST(test_pcp_hides_an_eighth_at_most),
		TEST(test_pcp_hides_less_when_memory_is_short),
		TEST(test_pcp_keeps_two_long_runs),
		TEST(test_pcp_long_runs_are_shared_only_if_aligned),
		TEST(test_pcp_too_long_for_the_share_goes_straight_back),
		TEST(test_pcp_exit_of_a_thread_returns_everything),
		TEST(test_pcp_storage_of_ended_pools_is_used_again),
		TEST(test_pcp_threads_share_the_eighth),
		TEST(test_pcp_is_inside_though_the_first_pool_is_gone),
	};

	return cmocka_run_group_tests_name("pcp", tests, NULL, NULL);
}
