/* SPDX-License-Identifier: MIT */
/*
 * Huge pages and threads: advice, its end, demotion, moves and purges of many
 * threads at the limit, with and without a kernel that refuses some of the
 * advice.  Many short lives, because a zone is demoted once.  Every page
 * carries its owner's stamp; what is asked to be zero is; and after each life
 * all of the limit can be had in one piece.
 */
#include "../api/testing.h"

#include "base/fault.h"
#include "pool.h"
#include "thp.h"

#define NR_SLOTS	48
#define LIMIT		"32M"

struct worker {
	pthread_t	thread;
	struct pp_pool	*pool;
	unsigned	number;
	unsigned	refuse_every;	/* 0: never */
	uint64_t	*run[NR_SLOTS];
	size_t		pages[NR_SLOTS];
};

static uint64_t stamp(const struct worker *w, size_t slot, size_t page)
{
	return (uint64_t)w->number << 48 | (uint64_t)slot << 32 | page;
}

static void mark(struct worker *w, size_t i, size_t from)
{
	for (size_t k = from; k < w->pages[i]; k++)
		w->run[i][k * 512 + 7] = stamp(w, i, k);
}

static void check(struct worker *w, size_t i, size_t pages)
{
	for (size_t k = 0; k < pages; k++)
		thread_check(w->run[i][k * 512 + 7] == stamp(w, i, k));
}

static size_t random_pages(struct rng *r)
{
	switch (rng_below(r, 16)) {
	case 0: case 1:
		return THP_MIN_PAGES + rng_below(r, 1200);
	case 2: case 3:
		return 300 + rng_below(r, 500);
	}
	return 1 + rng_below(r, 30);
}

static void take(struct worker *w, size_t i, struct rng *r)
{
	bool zero = rng_below(r, 4) == 0;

	w->pages[i] = random_pages(r);
	w->run[i] = pp_alloc_pages(w->pool, w->pages[i], PP_NOWARN |
				   (zero ? PP_ZERO : 0));
	if (!w->run[i])
		return;
	for (size_t k = 0; zero && k < w->pages[i]; k++)
		thread_check(w->run[i][k * 512 + 7] == 0);
	mark(w, i, 0);
}

static void give(struct worker *w, size_t i)
{
	check(w, i, w->pages[i]);
	pp_free_pages(w->pool, w->run[i]);
	w->run[i] = NULL;
}

static void resize(struct worker *w, size_t i, struct rng *r)
{
	size_t have = w->pages[i], want = random_pages(r);
	void *to = pp_realloc_pages(w->pool, w->run[i], want, PP_NOWARN);

	if (!to)
		return;
	w->run[i] = to;
	check(w, i, have < want ? have : want);
	w->pages[i] = want;
	mark(w, i, have < want ? have : want);
}

static void *work(void *arg)
{
	struct worker *w = arg;
	struct rng r = rng_make(w->number);

	for (unsigned n = 0; n < 1200; n++) {
		size_t i = rng_below(&r, NR_SLOTS);

		if (w->refuse_every && rng_below(&r, w->refuse_every) == 0)
			fault_arm(FAULT_HUGE, 1);
		if (!w->run[i])
			take(w, i, &r);
		else if (rng_below(&r, 3) == 0)
			resize(w, i, &r);
		else
			give(w, i);
	}
	for (size_t i = 0; i < NR_SLOTS; i++)
		if (w->run[i])
			give(w, i);
	return NULL;
}

static struct pp_pool *pool_with(const char *thp)
{
	struct pp_config *config = NULL;
	struct pp_pool *pool = NULL;

	assert_int_equal(pp_config_create(&config), 0);
	assert_int_equal(pp_config_set(config, "limit", LIMIT), 0);
	assert_int_equal(pp_config_set(config, "fake_nodes", "1"), 0);
	assert_int_equal(pp_config_set(config, "thp", thp), 0);
	assert_int_equal(pp_pool_create(config, &pool), 0);
	pp_config_destroy(config);
	return pool;
}

/* Returns whether the zone was demoted. */
static bool live(const char *thp, unsigned life, unsigned refuse_every)
{
	struct worker *w = test_array(4, sizeof(*w));
	struct pp_pool *pool = pool_with(thp);
	struct pp_stats s;
	bool demoted;
	void *all;

	for (unsigned i = 0; i < 4; i++) {
		w[i].pool = pool;
		w[i].number = life * 4 + i + 1;
		w[i].refuse_every = refuse_every;
		assert_int_equal(pthread_create(&w[i].thread, NULL, work,
						&w[i]), 0);
	}
	for (unsigned i = 0; i < 4; i++)
		pthread_join(w[i].thread, NULL);
	fault_arm(FAULT_HUGE, 0);
	assert_threads_ok();
	assert_int_equal(pp_pool_check(pool), 0);
	pool_drain(pool);
	demoted = pool->zones->demote_end != 0;
	assert_int_equal(pool->zones->filler_pages, 0);
	assert_int_equal(pool->zones->nr_advising, 0);
	s = pool_stats(pool);
	assert_int_equal(s.isolated_pages, 0);
	all = pp_alloc_pages(pool, (size_t)s.free_pages - 2 * CACHE_PAGES,
			     PP_MEMALLOC);
	assert_non_null(all);
	pp_free_pages(pool, all);
	pool_end(pool);
	free(w);
	return demoted;
}

static void lives(const char *thp, unsigned refuse_every)
{
	unsigned nr = (unsigned)test_number("PP_TEST_LIVES", 6), demoted = 0;

	test_seed();	/* before there are threads that want it */
	store_relaxed(&thp_system, THP_SYSTEM_ALWAYS);
	for (unsigned life = 0; life < nr; life++)
		demoted += live(thp, life, refuse_every);
	print_message("# %s: %u of %u demoted\n", thp, demoted, nr);
}

static void test_thp_threads_never(void **state)
{
	(void)state;
	lives("never", 0);
	reached_end();
}

static void test_thp_threads_auto(void **state)
{
	(void)state;
	lives("auto", 0);
	reached_end();
}

static void test_thp_threads_auto_refused(void **state)
{
	(void)state;
	lives("auto", 50);
	reached_end();
}

static void test_thp_threads_always(void **state)
{
	(void)state;
	lives("always", 0);
	reached_end();
}

static void test_thp_threads_always_refused(void **state)
{
	(void)state;
	lives("always", 20);
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_thp_threads_never),
		TEST(test_thp_threads_auto),
		TEST(test_thp_threads_auto_refused),
		TEST(test_thp_threads_always),
		TEST(test_thp_threads_always_refused),
	};

	test_clear_environment();
	return cmocka_run_group_tests_name("thp", tests, NULL, NULL);
}
