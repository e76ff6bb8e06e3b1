/* SPDX-License-Identifier: MIT */
/*
 * When the next drain may begin: T2 of drain_service.h.  A drain that takes
 * long is one that meets a thread inside its cache.
 */
#include "../api/testing.h"

#include "drain_service.h"
#include "os/os.h"
#include "pool.h"

#define MS		1000000ull
#define INSIDE_NS	(150 * MS)

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

/* Until a drain has waited for us so long. */
static void *stay_inside(void *arg)
{
	_Atomic bool *is_inside = arg;
	struct pcp *pcp;
	uint64_t until;

	keep_something();
	pcp = pcp_find(&pool->registry);
	thread_check(pcp && pcp_enter_slow(pcp));
	atomic_store(is_inside, true);
	while (!is_waited_for(pcp))
		os_yield();
	until = os_now_ns() + INSIDE_NS;
	while (os_now_ns() < until)
		os_yield();
	pcp_leave_slow(pcp);
	return NULL;
}

static void drain_slowly(void)
{
	_Atomic bool is_inside = false;
	pthread_t thread;
	uint64_t start;

	pthread_create(&thread, NULL, stay_inside, &is_inside);
	while (!atomic_load(&is_inside))
		os_yield();
	start = os_now_ns();
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_drain_rests_after_a_quick_one),
		TEST(test_drain_rest_leaves_time_for_the_next),
	};

	test_clear_environment();
	return cmocka_run_group_tests_name("drain_service", tests, NULL, NULL);
}
