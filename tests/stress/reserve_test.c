/* SPDX-License-Identifier: MIT */
/*
 * The network of the old argument: to send takes a buffer now, and another one
 * later for the acknowledgement, without which the first is never freed.  In
 * between a stranger takes all memory there is.  With one buffer each, senders
 * who share a reserve would wait for each other's second for ever; with a
 * ticket each for both, all of them finish: all at once if there is enough for
 * all, one after the other if there is enough for one.
 *
 * Then everything at the same time: runs, tickets, other sizes and forks, with
 * threads that give way between any two steps (debug builds).  Whose a run is,
 * its contents prove.
 *
 * PP_TEST_RESERVE: rounds of each sender (2000).
 */
#include "../api/testing.h"

#include <sched.h>
#include <sys/wait.h>

#include "base/delay.h"
#include "reserve.h"

#define NR_UNITS	8
#define PAGES		3
#define MAX_TAKEN	3000
#define NR_RANDOM	6
#define LIMIT		"8M"
#define AN_HOUR_NS	3600000000000ull

struct scene {
	struct pp_pool		*pool;
	struct pp_reserve	*r;
	unsigned		rounds;
	pthread_barrier_t	held, taken;
	bool			together;	/* all tickets before the
						 * stranger */
	_Atomic bool		over;
	_Atomic unsigned	sent, acknowledged, not_now, forks, takes;
	_Atomic size_t		most_taken;
};

static struct scene scene;

/* A run's holder writes into it and finds it the same. */

static void stamp(uint64_t *run, uint64_t tag)
{
	for (size_t k = 0; k < PAGES; k++)
		run[k * 512] = run[k * 512 + 511] = tag + k;
}

static void check_stamp(const uint64_t *run, uint64_t tag)
{
	for (size_t k = 0; k < PAGES; k++) {
		thread_check(run[k * 512] == tag + k);
		thread_check(run[k * 512 + 511] == tag + k);
	}
}

/* The stranger */

static size_t take_all(void **run, size_t nr)
{
	while (nr < MAX_TAKEN) {
		void *p = pp_alloc_pages(scene.pool, 1,
					 PP_MEMALLOC | PP_NOWARN);

		if (!p)
			break;
		run[nr++] = p;
	}
	atomic_fetch_add(&scene.takes, 1);
	return nr;
}

/* Takes all, and gives a little of it back now and then. */
static void *be_greedy(void *arg)
{
	void **run = arg;
	size_t nr = 0, give;
	struct rng r = rng_make(77);

	if (scene.together)
		pthread_barrier_wait(&scene.held);
	nr = take_all(run, nr);
	atomic_store(&scene.most_taken, nr);
	if (scene.together)
		pthread_barrier_wait(&scene.taken);
	while (!atomic_load(&scene.over)) {
		if (!scene.together && rng_below(&r, 50) == 0) {
			give = rng_below(&r, nr + 1);
			nr -= give;
			pp_free_bulk(scene.pool, give, run + nr);
		}
		nr = take_all(run, nr);
		sched_yield();
	}
	pp_free_bulk(scene.pool, nr, run);
	return NULL;
}

/* A sender */

static void send_one(struct pp_ticket *t, uint64_t tag)
{
	uint64_t *buffer = pp_reserve_draw(t), *ack;

	thread_check(buffer != NULL);
	if (!buffer)
		return;
	stamp(buffer, tag);
	atomic_fetch_add(&scene.sent, 1);
	sched_yield();
	ack = pp_reserve_draw(t);
	thread_check(ack != NULL && ack != buffer);
	if (ack) {
		stamp(ack, ~tag);
		check_stamp(buffer, tag);
		check_stamp(ack, ~tag);
		pp_reserve_free(scene.r, ack);
		atomic_fetch_add(&scene.acknowledged, 1);
	}
	check_stamp(buffer, tag);
	pp_reserve_free(scene.r, buffer);
}

static void *send_all(void *arg)
{
	uint64_t tag = (uintptr_t)arg << 32;
	struct pp_ticket t;

	for (unsigned i = 0; i < scene.rounds; i++) {
		thread_check(pp_reserve_hold(scene.r, 2, 0, &t) == 0);
		if (scene.together && i == 0) {
			pthread_barrier_wait(&scene.held);
			pthread_barrier_wait(&scene.taken);
		}
		send_one(&t, tag + i * 16);
		pp_reserve_drop(&t);
	}
	return NULL;
}

static void delay_all(uint32_t one_in)
{
	for (size_t i = 0; i < NR_DELAY_POINTS; i++)
		store_relaxed(&delay_one_in[i], 0);
	store_relaxed(&delay_one_in[DELAY_QUEUED], one_in);
	store_relaxed(&delay_one_in[DELAY_GRANT], one_in);
}

static void scene_make(size_t nr_runs, unsigned rounds)
{
	memset(&scene, 0, sizeof(scene));
	test_seed();	/* before there are threads */
	scene.rounds = rounds;
	scene.pool = pool_make_one_zone(LIMIT);
	assert_int_equal(pp_reserve_create(scene.pool, nr_runs, PAGES,
					   &scene.r), 0);
	pthread_barrier_init(&scene.held, NULL, NR_UNITS + 1);
	pthread_barrier_init(&scene.taken, NULL, NR_UNITS + 1);
}

static void scene_end(size_t nr_runs)
{
	assert_int_equal(pp_pool_check(scene.pool), 0);
	assert_int_equal(pool_stats(scene.pool).reserved_pages,
			 nr_runs * PAGES);
	assert_int_equal(load_relaxed(&scene.r->mempool.nr_out), 0);
	assert_int_equal(pp_reserve_destroy(scene.r), 0);
	pool_end(scene.pool);
	assert_threads_ok();
}

static void play_network(size_t nr_runs, bool together, uint32_t one_in)
{
	void **taken = test_array(MAX_TAKEN, sizeof(*taken));
	unsigned rounds = (unsigned)test_number("PP_TEST_RESERVE", 2000);
	pthread_t unit[NR_UNITS], stranger;

	alarm(250);
	delay_all(one_in);
	scene_make(nr_runs, rounds);
	/* A wake-up that is lost is so for good. */
	scene.r->mempool.retry_ns = AN_HOUR_NS;
	scene.together = together;
	for (size_t i = 0; i < NR_UNITS; i++)
		pthread_create(&unit[i], NULL, send_all, (void *)(i + 1));
	pthread_create(&stranger, NULL, be_greedy, taken);
	for (size_t i = 0; i < NR_UNITS; i++)
		pthread_join(unit[i], NULL);
	atomic_store(&scene.over, true);
	pthread_join(stranger, NULL);
	assert_int_equal(scene.sent, NR_UNITS * rounds);
	assert_int_equal(scene.acknowledged, NR_UNITS * rounds);
	assert_true(scene.most_taken > 1000);
	scene_end(nr_runs);
	delay_all(0);
	free(taken);
	alarm(0);
}

/* k units, k tickets, nothing else in the world. */
static void test_reserve_all_units_finish_at_once(void **state)
{
	(void)state;
	play_network(2 * NR_UNITS, true, 0);
	play_network(2 * NR_UNITS, true, 2);
	reached_end();
}

/* Enough for one unit, and a stranger who gives and takes. */
static void test_reserve_for_one_unit_serves_them_all(void **state)
{
	(void)state;
	play_network(2, false, 0);
	play_network(2, false, 2);
	play_network(5, false, 3);
	reached_end();
}

/* All at once */

static void use_one(struct rng *r, uint64_t tag)
{
	static const unsigned flags[] = {
		0, 0, 0, PP_NOWAIT, PP_NORETRY, PP_ATOMIC, PP_NOIO, PP_NOFAIL,
	};
	unsigned f = flags[rng_below(r, COUNT_OF(flags))];
	uint64_t *run = pp_reserve_alloc(scene.r, f | PP_NOWARN);

	thread_check(run || f & (PP_NOWAIT | PP_NORETRY));
	if (!run) {
		atomic_fetch_add(&scene.not_now, 1);
		return;
	}
	stamp(run, tag);
	for (size_t k = rng_below(r, 3); k; k--)
		sched_yield();
	check_stamp(run, tag);
	pp_reserve_free(scene.r, run);
}

static void use_ticket(struct rng *r, uint64_t tag)
{
	size_t n = 1 + rng_below(r, 4), nr = 0;
	uint64_t *run[4];
	struct pp_ticket t;
	int err = pp_reserve_hold(scene.r, n, rng_below(r, 3) ? 0 :
				  PP_NOWAIT | PP_NOWARN, &t);

	/* The reserve may have become smaller than that. */
	thread_check(!err || err == -EINVAL || err == -ENOMEM);
	if (err) {
		atomic_fetch_add(&scene.not_now, 1);
		return;
	}
	for (size_t draws = rng_below(r, n + 1); nr < draws; nr++) {
		run[nr] = pp_reserve_draw(&t);
		stamp(run[nr], tag + nr * 64);
	}
	sched_yield();
	for (size_t i = 0; i < nr; i++) {
		check_stamp(run[i], tag + i * 64);
		pp_reserve_free(scene.r, run[i]);
	}
	pp_reserve_drop(&t);
}

static void *work(void *arg)
{
	struct rng r = rng_make((unsigned)(uintptr_t)arg);
	uint64_t tag = (uintptr_t)arg << 32;

	for (unsigned i = 0; i < scene.rounds; i++) {
		if (rng_below(&r, 2))
			use_one(&r, tag + i * 1024);
		else
			use_ticket(&r, tag + i * 1024);
	}
	return NULL;
}

/* In the child nobody else is there, and what nobody had is not lost: what
 * others had just in hand stays theirs. */
static int use_in_child(void)
{
	void *run;

	alarm(100);
	if (scene.r->mempool.head || pp_pool_check(scene.pool))
		return 1;
	run = pp_reserve_alloc(scene.r, PP_NOWAIT | PP_NOWARN);
	if (!run && scene.r->mempool.nr_free)
		return 2;
	pp_reserve_free(scene.r, run);
	return pp_pool_check(scene.pool) ? 3 : 0;
}

static void fork_one(void)
{
	int status = -1;
	pid_t pid = fork();

	if (!pid)
		_exit(use_in_child());
	thread_check(pid > 0);
	thread_check(waitpid(pid, &status, 0) == pid && status == 0);
	atomic_fetch_add(&scene.forks, 1);
}

static void *disturb(void *arg)
{
	struct rng r = rng_make(200);

	(void)arg;
	while (!atomic_load(&scene.over)) {
		switch (rng_below(&r, 4)) {
		case 0:
			thread_check(pp_reserve_resize(scene.r,
					1 + rng_below(&r, 8)) >= 0);
			break;
		case 1:
			thread_check(pp_pool_check(scene.pool) == 0);
			break;
		case 2:
			if (!TEST_SANITIZED)
				fork_one();
			break;
		default:
			thread_check(pp_stat_read(scene.pool,
					PP_STAT_RESERVED_PAGES) >= 0);
			break;
		}
		sched_yield();
	}
	return NULL;
}

static void play_storm(uint32_t one_in)
{
	void **taken = test_array(MAX_TAKEN, sizeof(*taken));
	pthread_t worker[NR_RANDOM], other, stranger;

	alarm(250);
	delay_all(one_in);
	scene_make(4, (unsigned)test_number("PP_TEST_RESERVE", 2000));
	pthread_create(&stranger, NULL, be_greedy, taken);
	for (size_t i = 0; i < NR_RANDOM; i++)
		pthread_create(&worker[i], NULL, work, (void *)(i + 1));
	pthread_create(&other, NULL, disturb, NULL);
	for (size_t i = 0; i < NR_RANDOM; i++)
		pthread_join(worker[i], NULL);
	atomic_store(&scene.over, true);
	pthread_join(other, NULL);
	pthread_join(stranger, NULL);
	print_message("# %u not now, %u forks, %u times all was taken\n",
		      scene.not_now, scene.forks, scene.takes);
	assert_int_equal(pp_reserve_resize(scene.r, 4), 0);
	scene_end(4);
	delay_all(0);
	free(taken);
	alarm(0);
}

static void test_reserve_storm_loses_no_run(void **state)
{
	(void)state;
	play_storm(0);
	play_storm(2);
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_reserve_all_units_finish_at_once),
		TEST(test_reserve_for_one_unit_serves_them_all),
		TEST(test_reserve_storm_loses_no_run),
	};

	test_clear_environment();
	return cmocka_run_group_tests_name("reserve storm", tests, NULL, NULL);
}
