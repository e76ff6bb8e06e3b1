/* SPDX-License-Identifier: MIT */
/*
 * Claims that lapse at once: threads make them, end them, and end those of
 * others, all at the same time.  When nobody is at it nothing is kept for
 * anybody.
 *
 * PP_TEST_CLAIM_ROUNDS: meetings of the threads (20000; 2000 under a
 * sanitizer).
 */
#include "../api/testing.h"

#include "base/delay.h"
#include "claim.h"
#include "pool.h"

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

/* C1 */
static bool nothing_is_kept(struct pcp_registry *reg)
{
	bool ok = !load_relaxed(&reg->claimant);

	for_each_zone(zone, reg->zones)
		ok = ok && !load_relaxed(&zone->claimed_pages);
	return ok;
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
		TEST(test_claim_that_lapsed_leaves_nothing_kept),
	};

	return cmocka_run_group_tests_name("claim", tests, NULL, NULL);
}
