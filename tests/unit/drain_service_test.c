/* SPDX-License-Identifier: MIT */
/*
 * A drain that meets a thread inside its cache: until when it waits, and when
 * the next may begin (T2 of drain_service.h).
 */
#include "../api/testing.h"

#include "drain_service.h"
#include "os/os.h"
#include "pool.h"
#include "reclaimd.h"

#define MS		1000000ull
#define INSIDE_NS	(150 * MS)
#define FLUSH_NS	(100 * MS)

static struct pp_pool *pool;
static struct drain_service *ds;

static void keep_something(void)
{
	pp_free_pages(pool, pp_alloc_pages(pool, 1, 0));
}

static bool is_waited_for(struct pcp *pcp)
{
	return load_relaxed(&pcp->drain) == DRAIN_WANTED ||
	       load_relaxed(&pcp->give_up);
}

/* The thread's cache, entered, with something in it.  Each further round is
 * another look of reclaimd's that found it idle before we were inside. */
static struct pcp *enter_with_something(void)
{
	struct pcp *pcp;

	for (;;) {
		keep_something();
		pcp = pcp_find(&pool->registry);
		pcp_enter_for_good(pcp);
		if (load_relaxed(&pcp->granted_bytes))
			return pcp;
		pcp_leave_slow(pcp);
	}
}

/* Until a drain has waited for us so long. */
static void *stay_inside(void *arg)
{
	_Atomic bool *is_inside = arg;
	struct pcp *pcp = enter_with_something();
	uint64_t until;

	atomic_store(is_inside, true);
	while (!is_waited_for(pcp))
		os_yield();
	until = os_now_ns() + INSIDE_NS;
	while (os_now_ns() < until)
		os_yield();
	pcp_leave_slow(pcp);
	return NULL;
}

static pthread_t begin_inside(void *(*stay)(void *is_inside))
{
	_Atomic bool is_inside = false;
	pthread_t thread;

	pthread_create(&thread, NULL, stay, &is_inside);
	while (!atomic_load(&is_inside))
		os_yield();
	return thread;
}

static void drain_slowly(void)
{
	pthread_t thread = begin_inside(stay_inside);
	uint64_t start = os_now_ns();

	pp_pool_drain(pool);
	assert_true(os_now_ns() - start >= INSIDE_NS);
	pthread_join(thread, NULL);
	assert_threads_ok();
}

/* At the most so long after now, if the last drain has just ended. */
static void assert_next_within(uint64_t ns)
{
	assert_true(load_relaxed(&ds->next_ns) <= os_now_ns() + ns);
}

static void begin(const char *oom_timeout)
{
	/* What waits in vain waits no longer. */
	alarm(120);
	pool = pool_make_one_zone("16M");
	ds = &pool->drain_service;
	assert_int_equal(pp_pool_set(pool, "oom_timeout", oom_timeout), 0);
}

static void test_drain_rests_after_a_quick_one(void **state)
{
	uint64_t begun;

	(void)state;
	begin("1s");
	for (unsigned i = 0; i < 100; i++) {
		keep_something();
		begun = os_now_ns();
		assert_int_equal(pp_pool_drain(pool), 0);
		assert_true(load_relaxed(&ds->next_ns) >=
			    begun + DRAIN_INTERVAL_NS);
	}
	pool_end(pool);
	reached_end();
}

static void test_drain_rest_leaves_time_for_the_next(void **state)
{
	static const struct {
		const char	*oom_timeout;
		uint64_t	rest_ns;
	} of[] = {
		{ "1s", 125 * MS }, { "160ms", 20 * MS }, { "10s", 125 * MS },
		{ "0", DRAIN_INTERVAL_NS },
	};

	(void)state;
	for (size_t i = 0; i < COUNT_OF(of); i++) {
		begin(of[i].oom_timeout);
		drain_slowly();
		assert_next_within(of[i].rest_ns);
		pool_end(pool);
	}
	reached_end();
}

/* A flush, as seen by the drain that it is for. */

static struct flush {
	void		(*small)(struct pcp *pcp, unsigned class,
				 uint32_t keep);
	_Atomic(struct pcp *) pcp;	/* whose next flush is slow */
	_Atomic bool	is_drained;
	bool		was_drained;	/* before its end */
} flush;

/* It is no use to wait for the drain: but if it does not wait for us, we see
 * it. */
static void flush_slowly(struct pcp *pcp, unsigned class, uint32_t keep)
{
	uint64_t until = os_now_ns() + FLUSH_NS;

	if (pcp == atomic_load(&flush.pcp)) {
		atomic_store(&flush.pcp, NULL);
		while (!flush.was_drained && os_now_ns() < until) {
			flush.was_drained = atomic_load(&flush.is_drained);
			os_yield();
		}
	}
	flush.small(pcp, class, keep);
}

/* Leaves, and comes back when a drain waits for it. */
static void *come_back(void *arg)
{
	_Atomic bool *is_inside = arg;
	struct pcp *pcp = enter_with_something();

	atomic_store(is_inside, true);
	while (!is_waited_for(pcp))
		os_yield();
	atomic_store(&flush.pcp, pcp);
	pcp_leave_slow(pcp);
	if (pcp_enter_slow(pcp))
		pcp_leave_slow(pcp);
	while (!atomic_load(&flush.is_drained))
		os_yield();
	return NULL;
}

static void test_drain_waits_for_who_empties_its_cache(void **state)
{
	pthread_t thread;

	(void)state;
	for (unsigned i = 0; i < 5; i++) {
		begin("1s");
		/* It may flush, too. */
		reclaimd_stop_all(&pool->registry);
		memset(&flush, 0, sizeof(flush));
		flush.small = pool->registry.flush_small;
		pool->registry.flush_small = flush_slowly;
		thread = begin_inside(come_back);
		assert_int_equal(pp_pool_drain(pool), 0);
		atomic_store(&flush.is_drained, true);
		assert_int_equal(pcp_sum_granted_bytes(&pool->registry, NULL),
				 0);
		pthread_join(thread, NULL);
		assert_false(flush.was_drained);
		assert_threads_ok();
		pool_end(pool);
	}
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_drain_waits_for_who_empties_its_cache),
		TEST(test_drain_rests_after_a_quick_one),
		TEST(test_drain_rest_leaves_time_for_the_next),
	};

	test_clear_environment();
	return cmocka_run_group_tests_name("drain_service", tests, NULL, NULL);
}
