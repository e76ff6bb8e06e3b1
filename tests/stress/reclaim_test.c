/* SPDX-License-Identifier: MIT */
/*
 * Everything that reclaims at the same time, with more threads than cores: all
 * work at the limit on caches whose shrinkers come and go, while others drain,
 * change the limit and the delay of purging, ask for pages, and fork.  A run
 * has one holder at any time, which its contents prove; in the end the books
 * are exact and nothing is missing.
 *
 * PP_TEST_RECLAIM: gets of each worker (40000).
 */
#include "../api/testing_store.h"

#include <sched.h>
#include <sys/wait.h>

#define NR_STORES	5
#define NR_WORKERS	8
#define KEYS		6000

struct storm {
	struct pp_pool	*pool;
	struct store	*store[NR_STORES];
	_Atomic bool	over;
	_Atomic unsigned gets, misses, forks, limits, drains, asked;
	unsigned	nr_gets;
};

static struct storm storm;

static void *work(void *arg)
{
	static const unsigned flags[] = {
		0, 0, 0, 0, PP_NOIO, PP_HIGH, PP_NOWAIT, PP_NORETRY, PP_NOFS,
		PP_ATOMIC,
	};
	struct rng r = rng_make((unsigned)(uintptr_t)arg);

	for (unsigned i = 0; i < storm.nr_gets; i++) {
		struct store *s = storm.store[rng_below(&r, NR_STORES)];
		unsigned saved = pp_scope_enter(rng_below(&r, 10) ? 0 :
						PP_NOIO);
		unsigned f = flags[rng_below(&r, COUNT_OF(flags))];

		if (!store_get(s, rng_below(&r, s->nr_keys), f))
			atomic_fetch_add(&storm.misses, 1);
		pp_scope_leave(saved);
		atomic_fetch_add(&storm.gets, 1);
	}
	return NULL;
}

/* Each store has one who takes its shrinker away and brings it back. */
static void *come_and_go(void *arg)
{
	struct rng r = rng_make(100 + (unsigned)(uintptr_t)arg);
	struct store *s = storm.store[(uintptr_t)arg];

	while (!atomic_load(&storm.over)) {
		const struct pp_shrinker ops = {
			.struct_bytes = sizeof(ops), .name = "storm", .arg = s,
			.count = store_count, .scan = store_scan,
			.seeks = (unsigned)rng_below(&r, 4),
			.batch = 1 + rng_below(&r, 64),
			.flags = (unsigned)rng_below(&r, 3),
		};
		unsigned counts;

		pp_shrinker_unregister(s->id);
		s->id = NULL;
		counts = atomic_load(&s->counts);
		for (size_t k = rng_below(&r, 20); k; k--)
			sched_yield();
		/* Nobody is called that is not registered. */
		thread_check(atomic_load(&s->counts) == counts);
		while (pp_shrinker_register(storm.pool, &ops, &s->id)) {
			struct pp_shrink some = { .nr_to_scan = 50 };

			/* All may be full, and no shrinker registered. */
			store_scan(s, &some);
			sched_yield();
		}
		usleep((unsigned)rng_below(&r, 3000));
	}
	return NULL;
}

static void fork_one(void)
{
	int status = -1;
	pid_t child = fork();

	if (!child) {
		alarm(100);
		/* No lock is held by nobody, and all goes on. */
		for (unsigned i = 0; i < 200; i++)
			pp_free_pages(storm.pool,
				      pp_alloc_pages(storm.pool, 1 + i % 40,
						     PP_NOFS | PP_NOWARN));
		pp_pool_drain(storm.pool);
		_exit(pp_pool_check(storm.pool) ? 1 : 0);
	}
	thread_check(child > 0);
	thread_check(waitpid(child, &status, 0) == child && status == 0);
	atomic_fetch_add(&storm.forks, 1);
}

static void *disturb(void *arg)
{
	static const char *const limits[] = { "32M", "24M", "40M", "28M" };
	static const char *const delays[] = { "0", "50ms", "10s", "3600s" };
	struct rng r = rng_make(200);
	int err;

	(void)arg;
	while (!atomic_load(&storm.over)) {
		switch (rng_below(&r, 6)) {
		case 0:
			err = pp_pool_set(storm.pool, "limit",
					  limits[rng_below(&r, 4)]);
			thread_check(err == 0 || err == -EBUSY);
			atomic_fetch_add(&storm.limits, !err);
			break;
		case 1:
			thread_check(pp_pool_set(storm.pool, "purge_delay",
					delays[rng_below(&r, 4)]) == 0);
			break;
		case 2:
			pp_pool_drain(storm.pool);
			atomic_fetch_add(&storm.drains, 1);
			break;
		case 3:
			thread_check(pp_pool_reclaim(storm.pool,
					rng_below(&r, 300)) >= 0);
			atomic_fetch_add(&storm.asked, 1);
			break;
		case 4:
			thread_check(pp_pool_check(storm.pool) == 0);
			break;
		default:
			if (!TEST_SANITIZED)
				fork_one();
			break;
		}
		usleep(1000);
	}
	return NULL;
}

static void check_end(int64_t start_used)
{
	struct pp_stats st;
	size_t held = 0;

	for (size_t i = 0; i < NR_STORES; i++)
		held += storm.store[i]->nr_held * storm.store[i]->run_pages;
	pp_pool_drain(storm.pool);
	st = pool_stats(storm.pool);
	assert_int_equal(st.cached_pages, 0);
	/* Slabs of the pool's own objects, and tables, are what else is. */
	assert_in_range(st.used_pages - start_used, held, held + 300);
	for (size_t i = 0; i < NR_STORES; i++)
		store_end(storm.store[i]);
	pp_pool_drain(storm.pool);
	assert_in_range(pool_stats(storm.pool).used_pages, 0, start_used + 300);
}

static void play(const char *nodes)
{
	pthread_t worker[NR_WORKERS], owner[NR_STORES], other;
	int64_t start_used;

	test_seed();	/* before there are threads */
	memset(&storm, 0, sizeof(storm));
	storm.nr_gets = (unsigned)test_number("PP_TEST_RECLAIM", 40000);
	storm.pool = pool_make_with("32M", "fake_nodes", nodes);
	start_used = pool_stats(storm.pool).used_pages;
	for (size_t i = 0; i < NR_STORES; i++) {
		storm.store[i] = store_make(storm.pool, KEYS / (1 + i * 3),
					    1 + i * 3);
		store_register(storm.store[i], 0);
	}
	for (size_t i = 0; i < NR_WORKERS; i++)
		pthread_create(&worker[i], NULL, work, (void *)i);
	for (size_t i = 0; i < NR_STORES; i++)
		pthread_create(&owner[i], NULL, come_and_go, (void *)i);
	pthread_create(&other, NULL, disturb, NULL);
	for (size_t i = 0; i < NR_WORKERS; i++)
		pthread_join(worker[i], NULL);
	atomic_store(&storm.over, true);
	for (size_t i = 0; i < NR_STORES; i++)
		pthread_join(owner[i], NULL);
	pthread_join(other, NULL);
	print_message("# %u gets, %u not served, %u forks, %u limits, "
		      "%u drains, %u times asked\n", storm.gets, storm.misses,
		      storm.forks, storm.limits, storm.drains, storm.asked);
	check_end(start_used);
	pool_end(storm.pool);
	assert_threads_ok();
}

static void test_reclaim_storm_leaves_exact_books(void **state)
{
	(void)state;
	alarm(250);
	play("1");
	alarm(0);
	reached_end();
}

static void test_reclaim_storm_on_several_nodes(void **state)
{
	(void)state;
	alarm(250);
	play("3");
	alarm(0);
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_reclaim_storm_leaves_exact_books),
		TEST(test_reclaim_storm_on_several_nodes),
	};

	test_clear_environment();
	return cmocka_run_group_tests_name("reclaim storm", tests, NULL, NULL);
}
