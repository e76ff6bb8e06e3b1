/* SPDX-License-Identifier: MIT */
/*
 * The claim by itself: whose it is, how much is kept in which zone, when it
 * lapses, what a fork leaves of it; and that nothing is kept once all is over,
 * whoever ended what at the same time.
 *
 * PP_TEST_CLAIM_ROUNDS: meetings of the threads (20000; 2000 under a
 * sanitizer).
 */
#include "../api/testing.h"

#include <sched.h>
#include <sys/wait.h>

#include "base/delay.h"
#include "claim.h"
#include "node.h"
#include "os/os.h"
#include "pool.h"

static struct pp_pool *make(const char *nr_nodes)
{
	struct pp_config *config = NULL;
	struct pp_pool *pool = NULL;

	assert_int_equal(pp_config_create(&config), 0);
	assert_int_equal(pp_config_set(config, "limit", "64M"), 0);
	assert_int_equal(pp_config_set(config, "fake_nodes", nr_nodes), 0);
	assert_int_equal(pp_pool_create(config, &pool), 0);
	pp_config_destroy(config);
	return pool;
}

/* C1 */
static bool nothing_is_kept(struct pcp_registry *reg)
{
	bool ok = !load_relaxed(&reg->claimant);

	for_each_zone(zone, reg->zones)
		ok = ok && !load_relaxed(&zone->claimed_pages);
	return ok;
}

static void assert_nothing_is_kept(struct pcp_registry *reg)
{
	assert_true(nothing_is_kept(reg));
}

/* What another thread is told. */

struct other {
	struct pcp_registry	*reg;
	bool			begins, is_others, got_it;
	uint64_t		until_ns;
};

static void *look(void *arg)
{
	struct other *o = arg;

	o->is_others = claim_is_others(o->reg, &o->until_ns);
	o->got_it = o->begins && claim_begin(o->reg, 1);
	claim_end(o->reg);
	return NULL;
}

static struct other ask_other(struct pcp_registry *reg, bool begins)
{
	struct other o = { .reg = reg, .begins = begins };
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, look, &o), 0);
	pthread_join(thread, NULL);
	return o;
}

static void test_claim_is_one_threads_until_it_ends_it(void **state)
{
	struct pp_pool *pool = make("1");
	struct pcp_registry *reg = &pool->registry;
	uint64_t until;
	struct other o;

	(void)state;
	assert_false(claim_is_others(reg, &until));
	claim_end(reg);			/* of nobody */
	assert_true(claim_begin(reg, 24));
	assert_false(claim_is_others(reg, &until));
	o = ask_other(reg, true);
	assert_true(o.is_others);
	assert_false(o.got_it);
	assert_true(o.until_ns > os_now_ns());
	/* That one's claim_end() was none of ours. */
	assert_int_equal(load_relaxed(&reg->claimant), thread_identity());
	assert_true(load_relaxed(&pool->zones->claimed_pages) > 0);
	claim_end(reg);
	assert_nothing_is_kept(reg);
	o = ask_other(reg, true);
	assert_false(o.is_others);
	assert_true(o.got_it);
	assert_nothing_is_kept(reg);
	pool_end(pool);
	reached_end();
}

/* Shares, by zone */

static void expect_kept(struct pp_pool *pool, uint64_t asked_pages,
			uint64_t reserve_pages)
{
	assert_true(claim_begin(&pool->registry, asked_pages));
	for_each_zone(zone, pool->zones) {
		uint64_t want = reserve_pages ? reserve_pages :
				load_relaxed(&zone->min_pages) / 8;
		uint64_t most = load_relaxed(&zone->managed_pages) / 8;
		uint64_t min = load_relaxed(&zone->min_pages);

		want = want > asked_pages ? want : asked_pages;
		want = want < most ? want : most;
		assert_true(want > 0);
		assert_int_equal(load_relaxed(&zone->claimed_pages), want);
		assert_int_equal(page_floor_pages(zone, 0), min + want);
		assert_int_equal(page_floor_pages(zone, PAGE_CLAIMANT), min);
		/* Those with a right to the reserve have it as before. */
		assert_int_equal(page_floor_pages(zone, PP_MEMALLOC), 0);
		assert_int_equal(page_floor_pages(zone, PP_HIGH),
				 min - min / 2);
	}
	claim_end(&pool->registry);
	assert_nothing_is_kept(&pool->registry);
}

static void test_claim_keeps_a_share_of_each_zone(void **state)
{
	static const char *const nodes[] = { "1", "3" };

	(void)state;
	for (size_t i = 0; i < COUNT_OF(nodes); i++) {
		struct pp_pool *pool = make(nodes[i]);

		expect_kept(pool, 1, 0);
		expect_kept(pool, 100, 0);
		expect_kept(pool, 1000000, 0);
		assert_int_equal(pp_pool_set(pool, "oom_reserve", "1M"), 0);
		expect_kept(pool, 1, 256);
		expect_kept(pool, 300, 256);
		assert_int_equal(pp_pool_set(pool, "oom_reserve", "1G"), 0);
		expect_kept(pool, 1, 262144);
		pool_end(pool);
	}
	reached_end();
}

/* Time: of oom_timeout half */

static void test_claim_lapses_unless_it_is_renewed(void **state)
{
	struct pp_pool *pool = make("1");
	struct pcp_registry *reg = &pool->registry;
	uint64_t first;
	struct other o;

	(void)state;
	assert_int_equal(pp_pool_set(pool, "oom_timeout", "100s"), 0);
	assert_true(claim_begin(reg, 8));
	first = load_relaxed(&reg->claim_until_ns);
	assert_true(claim_begin(reg, 16));
	assert_true(load_relaxed(&reg->claim_until_ns) >= first);
	assert_int_equal(load_relaxed(&pool->zones->claimed_pages) >= 16, 1);
	/* As if that were long ago. */
	store_relaxed(&reg->claim_until_ns, os_now_ns());
	assert_int_equal(load_relaxed(&reg->claimant), thread_identity());
	assert_true(claim_begin(reg, 8));
	assert_true(ask_other(reg, false).is_others);
	store_relaxed(&reg->claim_until_ns, os_now_ns());
	o = ask_other(reg, false);
	assert_false(o.is_others);
	assert_nothing_is_kept(reg);
	/* With no time at all it is nobody's for long, and none is left. */
	assert_int_equal(pp_pool_set(pool, "oom_timeout", "0"), 0);
	assert_true(claim_begin(reg, 8));
	assert_true(ask_other(reg, true).got_it);
	claim_end(reg);
	assert_nothing_is_kept(reg);
	pool_end(pool);
	reached_end();
}

/* Fork */

static int child_of(struct pcp_registry *reg, bool is_ours)
{
	struct zone *zone = reg->zones;

	lock_acquire(&reg->claim_lock);
	claim_forget(reg);
	lock_release(&reg->claim_lock);
	if (!is_ours)
		return load_relaxed(&reg->claimant) ||
		       load_relaxed(&zone->claimed_pages);
	if (load_relaxed(&reg->claimant) != thread_identity() ||
	    !load_relaxed(&zone->claimed_pages))
		return 2;
	claim_end(reg);
	return load_relaxed(&zone->claimed_pages) ? 3 : 0;
}

static void fork_and_expect(struct pcp_registry *reg, bool is_ours)
{
	int status;
	pid_t pid = fork();

	if (!pid)
		_exit(child_of(reg, is_ours));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

struct keeper {
	struct pcp_registry	*reg;
	pthread_barrier_t	has_it, may_end;
};

static void *keep(void *arg)
{
	struct keeper *k = arg;

	thread_check(claim_begin(k->reg, 8));
	pthread_barrier_wait(&k->has_it);
	pthread_barrier_wait(&k->may_end);
	claim_end(k->reg);
	return NULL;
}

static void test_claim_of_a_lost_thread_is_forgotten_in_a_child(void **state)
{
	struct pp_pool *pool = make("1");
	struct keeper k = { .reg = &pool->registry };
	pthread_t thread;

	(void)state;
	assert_true(claim_begin(k.reg, 8));
	fork_and_expect(k.reg, true);
	claim_end(k.reg);
	pthread_barrier_init(&k.has_it, NULL, 2);
	pthread_barrier_init(&k.may_end, NULL, 2);
	assert_int_equal(pthread_create(&thread, NULL, keep, &k), 0);
	pthread_barrier_wait(&k.has_it);
	fork_and_expect(k.reg, false);
	pthread_barrier_wait(&k.may_end);
	pthread_join(thread, NULL);
	assert_threads_ok();
	assert_nothing_is_kept(k.reg);
	pool_end(pool);
	reached_end();
}

/* Threads make claims, end them, and end those of others, all at once */

#define NR_THREADS	4
#define CLAIM_PAGES	8

struct meeting {
	struct pcp_registry	*reg;
	unsigned		nr_rounds;
	pthread_barrier_t	barrier;
};

static void step(struct pcp_registry *reg)
{
	uint64_t until;

	if (claim_begin(reg, CLAIM_PAGES))
		claim_end(reg);
	else
		claim_is_others(reg, &until);
}

static void *meet(void *arg)
{
	struct meeting *m = arg;

	for (unsigned i = 0; i < m->nr_rounds; i++) {
		step(m->reg);
		if (pthread_barrier_wait(&m->barrier) ==
		    PTHREAD_BARRIER_SERIAL_THREAD)
			thread_check(nothing_is_kept(m->reg));
		pthread_barrier_wait(&m->barrier);
	}
	return NULL;
}

/* C1, with every claim taken for one that has lapsed. */
static void test_claim_that_lapsed_leaves_nothing_kept(void **state)
{
	struct pp_pool *pool = pool_make_one_zone("64M");
	struct meeting m = {
		.reg = &pool->registry,
		.nr_rounds = (unsigned)test_number("PP_TEST_CLAIM_ROUNDS",
						   TEST_SANITIZED ? 2000 :
								    20000),
	};
	pthread_t thread[NR_THREADS];

	(void)state;
	store_relaxed(&m.reg->oom_timeout_ns, 0);
	store_relaxed(&delay_one_in[DELAY_CLAIM], 2);
	pthread_barrier_init(&m.barrier, NULL, NR_THREADS);
	for (size_t i = 0; i < NR_THREADS; i++)
		pthread_create(&thread[i], NULL, meet, &m);
	for (size_t i = 0; i < NR_THREADS; i++)
		pthread_join(thread[i], NULL);
	store_relaxed(&delay_one_in[DELAY_CLAIM], 0);
	assert_threads_ok();
	pthread_barrier_destroy(&m.barrier);
	pool_end(pool);
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_claim_is_one_threads_until_it_ends_it),
		TEST(test_claim_keeps_a_share_of_each_zone),
		TEST(test_claim_lapses_unless_it_is_renewed),
		TEST(test_claim_of_a_lost_thread_is_forgotten_in_a_child),
		TEST(test_claim_that_lapsed_leaves_nothing_kept),
	};

	test_clear_environment();
	return cmocka_run_group_tests_name("claim", tests, NULL, NULL);
}
