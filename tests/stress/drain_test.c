/* SPDX-License-Identifier: MIT */
/*
 * Caches are emptied from outside while their owners work, come and go: each
 * object and run has one holder at any time, which its contents prove, and in
 * the end nothing is missing.  With membarrier and without, and with threads
 * that give way between any two steps of the protocol (debug builds).
 *
 * PP_TEST_DRAIN: operations of each thread (20000).
 */
#include "../api/testing.h"

#include <sys/wait.h>

#include "base/delay.h"
#include "base/fault.h"
#include "pagepool/cache.h"
#include "pagepool/reclaim.h"
#include "pool.h"

#define NR_WORKERS	8
#define NR_DRAINERS	2
#define NR_SLOTS	96
#define NR_CACHES	4
/* A worker ends, and another takes its place, after so many operations. */
#define LIFE_OPS	1500

struct holding {
	uint64_t	*words;
	size_t		nr_words;
	int		cache;		/* -1: a run */
};

struct drain_run {
	struct pp_pool		*pool;
	struct pp_cache		*cache[NR_CACHES];
	_Atomic(struct holding *) handed;	/* from one worker to another */
	_Atomic bool		over;
	_Atomic unsigned	drains;
	unsigned		nr_ops;
};

static const size_t object_bytes[NR_CACHES] = { 16, 144, 1024, 9000 };

struct worker {
	struct drain_run	*run;
	struct holding		slot[NR_SLOTS];
	struct rng		rng;
	unsigned		ops_left;
};

static uint64_t stamp_of(const struct holding *h, size_t i)
{
	return (uintptr_t)h->words * 3 + i + (uintptr_t)h->cache;
}

static void stamp(struct holding *h)
{
	h->words[0] = stamp_of(h, 0);
	h->words[h->nr_words / 2] = stamp_of(h, h->nr_words / 2);
	h->words[h->nr_words - 1] = stamp_of(h, h->nr_words - 1);
}

/* Nobody else wrote there: it was handed out once. */
static void check_stamp(const struct holding *h)
{
	thread_check(h->words[0] == stamp_of(h, 0));
	thread_check(h->words[h->nr_words / 2] ==
		     stamp_of(h, h->nr_words / 2));
	thread_check(h->words[h->nr_words - 1] ==
		     stamp_of(h, h->nr_words - 1));
}

static void take(struct worker *w, struct holding *h)
{
	uint64_t r = rng_next(&w->rng);

	h->cache = (int)(r % (NR_CACHES + 2)) - 2;
	if (h->cache >= 0) {
		h->nr_words = object_bytes[h->cache] / 8;
		h->words = pp_cache_alloc(w->run->cache[h->cache], 0);
	} else {
		h->cache = -1;
		h->nr_words = (1 + r / 64 % 40) * PAGE / 8;
		h->words = pp_alloc_pages(w->run->pool, h->nr_words * 8 / PAGE,
					  0);
	}
	thread_check(h->words != NULL);
	if (h->words)
		stamp(h);
}

static void give(struct worker *w, struct holding *h)
{
	check_stamp(h);
	if (h->cache >= 0)
		pp_cache_free(w->run->cache[h->cache], h->words);
	else
		pp_free_pages(w->run->pool, h->words);
	h->words = NULL;
}

/* Leaves something for another worker, and frees what one left. */
static void hand_over(struct worker *w, struct holding *h)
{
	struct holding *mine = test_array(1, sizeof(*mine)), *theirs;

	*mine = *h;
	h->words = NULL;
	theirs = atomic_exchange(&w->run->handed, mine);
	if (theirs)
		give(w, theirs);
	free(theirs);
}

/* As malloc does first: in vain where busy is a lock, and without a trace. */
static void try_fast_path(struct worker *w)
{
	struct pcp *pcp = pcp_find(&w->run->pool->registry);

	if (!pcp || !pcp_enter(pcp))
		return;
	thread_check(pcp_drain_initial() != DRAIN_LOCKED);
	pcp_leave(pcp);
}

static void operate(struct worker *w)
{
	struct holding *h = &w->slot[rng_next(&w->rng) % NR_SLOTS];

	try_fast_path(w);
	if (!h->words)
		take(w, h);
	else if (rng_next(&w->rng) % 8 == 0)
		hand_over(w, h);
	else
		give(w, h);
}

static void *life(void *arg)
{
	struct worker *w = arg;

	for (unsigned i = 0; i < LIFE_OPS && w->ops_left; i++, w->ops_left--)
		operate(w);
	return NULL;
}

/* As many lives as it takes, one after the other; the holdings stay. */
static void *work(void *arg)
{
	struct worker *w = arg;
	pthread_t thread;

	while (w->ops_left) {
		if (pthread_create(&thread, NULL, life, w) != 0)
			thread_check(!"pthread_create");
		pthread_join(thread, NULL);
	}
	for (size_t i = 0; i < NR_SLOTS; i++)
		if (w->slot[i].words)
			give(w, &w->slot[i]);
	return NULL;
}

static void *drain(void *arg)
{
	struct drain_run *r = arg;
	int err;

	while (!atomic_load(&r->over)) {
		/* A worker inside may be kept from its processor for long. */
		err = pp_pool_drain(r->pool);
		thread_check(err == 0 || err == -EBUSY);
		atomic_fetch_add(&r->drains, 1);
	}
	return NULL;
}

static void run_threads(struct drain_run *r)
{
	struct worker *w = test_array(NR_WORKERS, sizeof(*w));
	pthread_t worker[NR_WORKERS], drainer[NR_DRAINERS];

	for (size_t i = 0; i < NR_DRAINERS; i++)
		assert_int_equal(pthread_create(&drainer[i], NULL, drain, r),
				 0);
	for (size_t i = 0; i < NR_WORKERS; i++) {
		w[i].run = r;
		w[i].rng = rng_make((unsigned)i);
		w[i].ops_left = r->nr_ops;
		assert_int_equal(pthread_create(&worker[i], NULL, work, &w[i]),
				 0);
	}
	for (size_t i = 0; i < NR_WORKERS; i++)
		pthread_join(worker[i], NULL);
	atomic_store(&r->over, true);
	for (size_t i = 0; i < NR_DRAINERS; i++)
		pthread_join(drainer[i], NULL);
	free(w);
}

static void check_books(struct pp_pool *pool)
{
	struct pp_stats s = { .struct_bytes = sizeof(s) };

	assert_int_equal(pp_pool_drain(pool), 0);
	assert_int_equal(pp_stat_snapshot(pool, &s), 0);
	assert_int_equal(s.cached_pages, 0);
	assert_int_equal(s.free_pages + s.used_pages + s.isolated_pages,
			 s.managed_pages);
	assert_int_equal(pp_pool_check(pool), 0);
}

static void run_all(unsigned nr_ops)
{
	struct drain_run r = { .pool = pool_make("64M"), .nr_ops = nr_ops };
	struct holding *left;
	struct worker w = { .run = &r };

	for (size_t i = 0; i < NR_CACHES; i++)
		assert_int_equal(pp_cache_create(r.pool, "drain",
						 object_bytes[i], 0,
						 &r.cache[i]), 0);
	run_threads(&r);
	left = atomic_load(&r.handed);
	if (left)
		give(&w, left);
	free(left);
	check_books(r.pool);
	assert_true(atomic_load(&r.drains) > 0);
	for (size_t i = 0; i < NR_CACHES; i++)
		assert_int_equal(pp_cache_destroy(r.cache[i]), 0);
	pool_end(r.pool);
}

/* At each point one passage in so many, about; 0: none. */
static void give_way(uint32_t one_in)
{
	for (uint32_t i = 0; i < NR_DELAY_POINTS; i++)
		store_relaxed(&delay_one_in[i], one_in ? one_in + i : 0);
}

static void test_drain_each_thing_has_one_holder(void **state)
{
	(void)state;
	run_all((unsigned)test_number("PP_TEST_DRAIN", 20000));
	assert_threads_ok();
	reached_end();
}

static void test_drain_threads_that_give_way_change_nothing(void **state)
{
	(void)state;
	give_way(5);
	run_all((unsigned)test_number("PP_TEST_DRAIN", 20000) / 4);
	give_way(0);
	assert_threads_ok();
	reached_end();
}

/* In a child, for it is found out once in a process. */
static void run_without_membarrier(void)
{
	fault_arm(FAULT_MEMBARRIER, 1);
	run_all((unsigned)test_number("PP_TEST_DRAIN", 20000) / 4);
	_exit(pcp_drain_initial() == DRAIN_LOCKED &&
	      !atomic_load(&thread_failures) ? 0 : 1);
}

static void test_drain_without_membarrier_each_has_one_holder(void **state)
{
	pid_t child = fork();
	int status;

	(void)state;
	assert_true(child >= 0);
	if (child == 0)
		run_without_membarrier();
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		/* First: the others make a pool in this process. */
		TEST(test_drain_without_membarrier_each_has_one_holder),
		TEST(test_drain_each_thing_has_one_holder),
		TEST(test_drain_threads_that_give_way_change_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
