/* SPDX-License-Identifier: MIT */
/*
 * The private reserve of the thread that has memory freed: 63 threads that ask
 * for pages all the time do not get what one of them had freed for a longer run
 * of its own; they wait for the end of its claim, and are served then; and one
 * that is stuck in a callback holds them no longer than half of oom_timeout.
 */
#include "testing.h"

#include <sched.h>
#include <semaphore.h>

#include <pagepool/reclaim.h>

#define NR_GREEDY	63
#define NR_ROUNDS	6
/* Of the one; of a victim twice as many come free. */
#define RUN_PAGES	24
#define MAX_RUNS	5000

struct runs {
	void	*run[MAX_RUNS];
	size_t	nr;
};

static bool runs_add(struct runs *r, struct pp_pool *pool)
{
	if (r->nr == MAX_RUNS)
		return false;
	r->run[r->nr] = pp_alloc_pages(pool, 1, PP_NOWARN);
	if (!r->run[r->nr])
		return false;
	r->nr++;
	return true;
}

static void runs_drop(struct runs *r, struct pp_pool *pool)
{
	pp_free_bulk(pool, r->nr, r->run);
	r->nr = 0;
}

/* One round: the one, those who take what they can get, and who frees. */
struct contest {
	struct pp_pool		*pool;
	struct runs		ballast, spare, hoard[NR_GREEDY];
	pthread_t		greedy[NR_GREEDY], freer;
	size_t			nr_got[NR_GREEDY];
	_Atomic unsigned	nr_ready, nr_asking;
	_Atomic bool		may_ask, over;
	struct pp_victim_id	*victim;
	struct pp_shrinker_id	*shrinker;
	sem_t			cancelled;
};

static struct contest contest;

static unsigned nr_greedy(void)
{
	return (unsigned)test_load(NR_GREEDY, 3);
}

static struct pp_pool *make_pool(const char *reserve)
{
	struct pp_pool *pool = pool_make_one_zone("16M");

	assert_int_equal(pp_pool_set(pool, "oom_reserve", reserve), 0);
	assert_int_equal(pp_pool_set(pool, "oom_timeout", "5s"), 0);
	return pool;
}

/* The cache of a thread is pages, too: not to come out of the contest. */
static void get_ready(void)
{
	pp_free_pages(contest.pool, pp_alloc_pages(contest.pool, 1, 0));
	atomic_fetch_add(&contest.nr_ready, 1);
}

static void wait_until_ready(unsigned nr)
{
	while (atomic_load(&contest.nr_ready) < nr)
		sched_yield();
}

static void *take_all_the_time(void *arg)
{
	size_t *nr_got = arg;
	struct runs *hoard = &contest.hoard[nr_got - contest.nr_got];

	get_ready();
	while (!atomic_load(&contest.may_ask) && !atomic_load(&contest.over))
		sched_yield();
	atomic_fetch_add(&contest.nr_asking, 1);
	while (!atomic_load(&contest.over))
		runs_add(hoard, contest.pool);
	*nr_got = hoard->nr;
	return NULL;
}

static void begin(const char *reserve)
{
	memset(&contest, 0, sizeof(contest));
	sem_init(&contest.cancelled, 0, 0);
	contest.pool = make_pool(reserve);
	for (size_t i = 0; i < 2 * RUN_PAGES; i++)
		assert_true(runs_add(&contest.spare, contest.pool));
}

/* To the limit, before there is anybody who could give way. */
static void fill(void)
{
	pp_pool_drain(contest.pool);
	while (runs_add(&contest.ballast, contest.pool))
		;
}

static void start_greedy(void *(*greedy)(void *nr_got))
{
	for (size_t i = 0; i < nr_greedy(); i++)
		assert_int_equal(pthread_create(&contest.greedy[i], NULL,
						greedy, &contest.nr_got[i]),
				 0);
	wait_until_ready(nr_greedy());
}

static size_t stop_greedy(void)
{
	size_t nr = 0;

	atomic_store(&contest.over, true);
	for (size_t i = 0; i < nr_greedy(); i++)
		pthread_join(contest.greedy[i], NULL);
	for (size_t i = 0; i < nr_greedy(); i++) {
		nr += contest.nr_got[i];
		runs_drop(&contest.hoard[i], contest.pool);
	}
	return nr;
}

static void end(void)
{
	runs_drop(&contest.ballast, contest.pool);
	runs_drop(&contest.spare, contest.pool);
	pool_end(contest.pool);
	sem_destroy(&contest.cancelled);
	assert_threads_ok();
}

static void wait_until_all_ask(void)
{
	atomic_store(&contest.may_ask, true);
	while (atomic_load(&contest.nr_asking) < nr_greedy())
		sched_yield();
}

/* A victim that frees its pages one by one */

static size_t victim_usage(void *arg)
{
	struct runs *r = arg;

	return r->nr * PAGE;
}

static void victim_cancel(void *arg)
{
	(void)arg;
	sem_post(&contest.cancelled);
}

/* While all are at it. */
static void *free_one_by_one(void *arg)
{
	struct runs *r = arg;

	get_ready();
	while (sem_wait(&contest.cancelled))
		;
	wait_until_all_ask();
	while (r->nr) {
		pp_free_pages(contest.pool, r->run[--r->nr]);
		sched_yield();
	}
	pp_victim_exited(contest.victim);
	return NULL;
}

static void register_victim(struct runs *r, void (*cancel)(void *arg))
{
	const struct pp_victim ops = {
		.struct_bytes = sizeof(ops), .name = "victim", .arg = r,
		.usage = victim_usage, .cancel = cancel,
	};

	assert_int_equal(pp_victim_register(contest.pool, &ops,
					    &contest.victim), 0);
}

/* Did the one get its run?  *@stolen: what the others got meanwhile. */
static bool round_with_a_victim(const char *reserve, size_t *stolen)
{
	void *run;

	begin(reserve);
	start_greedy(take_all_the_time);
	pthread_create(&contest.freer, NULL, free_one_by_one, &contest.spare);
	wait_until_ready(nr_greedy() + 1);
	fill();
	register_victim(&contest.spare, victim_cancel);
	run = pp_alloc_pages(contest.pool, RUN_PAGES, PP_NOWARN);
	pthread_join(contest.freer, NULL);
	*stolen = stop_greedy();
	pp_victim_unregister(contest.victim);
	pp_free_pages(contest.pool, run);
	end();
	return run != NULL;
}

/* A cache in which all put what they get; its shrinker frees a page a call */

static pthread_mutex_t cache_lock = PTHREAD_MUTEX_INITIALIZER;

static size_t cache_count(void *arg, struct pp_shrink *shrink)
{
	struct runs *cache = arg;
	size_t nr;

	(void)shrink;
	pthread_mutex_lock(&cache_lock);
	nr = cache->nr;
	pthread_mutex_unlock(&cache_lock);
	return nr ? nr : PP_SHRINK_EMPTY;
}

static size_t cache_scan(void *arg, struct pp_shrink *shrink)
{
	struct runs *cache = arg;
	void *run = NULL;

	(void)shrink;
	pthread_mutex_lock(&cache_lock);
	if (cache->nr)
		run = cache->run[--cache->nr];
	pthread_mutex_unlock(&cache_lock);
	if (!run)
		return PP_SHRINK_STOP;
	pp_free_pages(contest.pool, run);
	/* It has more to do, and others are waiting for just this page. */
	sched_yield();
	return 1;
}

static void *cache_all_the_time(void *arg)
{
	struct runs *cache = &contest.spare;
	size_t *nr_got = arg;
	void *run;

	get_ready();
	atomic_fetch_add(&contest.nr_asking, 1);
	while (!atomic_load(&contest.over)) {
		run = pp_alloc_pages(contest.pool, 1, PP_NOWARN);
		pthread_mutex_lock(&cache_lock);
		thread_check(cache->nr < MAX_RUNS);
		if (run) {
			cache->run[cache->nr++] = run;
			++*nr_got;
		}
		pthread_mutex_unlock(&cache_lock);
	}
	return NULL;
}

static bool round_with_a_shrinker(const char *reserve, size_t *stolen)
{
	const struct pp_shrinker ops = {
		.struct_bytes = sizeof(ops), .name = "miser",
		.arg = &contest.spare, .count = cache_count,
		.scan = cache_scan, .seeks = PP_SHRINKER_SEEKS,
	};
	void *run;

	begin(reserve);
	assert_int_equal(pp_shrinker_register(contest.pool, &ops,
					      &contest.shrinker), 0);
	start_greedy(cache_all_the_time);
	wait_until_all_ask();
	/* So that there is nothing but what the cache gives up. */
	while (!pool_stats(contest.pool).direct_reclaims)
		sched_yield();
	run = pp_alloc_pages(contest.pool, RUN_PAGES, PP_NOWARN);
	*stolen = stop_greedy();
	pp_shrinker_unregister(contest.shrinker);
	pp_free_pages(contest.pool, run);
	end();
	return run != NULL;
}

/* The one is served each time, whatever is set. */
static void expect_served(bool (*one_round)(const char *reserve,
					     size_t *stolen))
{
	static const char *const reserve[] = { "0", "4M" };
	const size_t nr_rounds = test_load(NR_ROUNDS, 1);
	size_t nr_served, stolen, sum;

	alarm(280);
	for (size_t i = 0; i < COUNT_OF(reserve); i++) {
		nr_served = sum = 0;
		for (size_t k = 0; k < nr_rounds; k++) {
			nr_served += one_round(reserve[i], &stolen);
			sum += stolen;
		}
		print_message("# oom_reserve %s: served %zu of %zu, others "
			      "got %zu pages\n", reserve[i], nr_served,
			      nr_rounds, sum);
		assert_int_equal(nr_served, nr_rounds);
	}
	alarm(0);
}

static void test_claim_nobody_takes_what_a_victim_gives_up(void **state)
{
	(void)state;
	expect_served(round_with_a_victim);
	reached_end();
}

static void test_claim_nobody_takes_what_a_shrinker_frees(void **state)
{
	(void)state;
	expect_served(round_with_a_shrinker);
	reached_end();
}

/* Those who are held off: the claimant is in cancel(), has freed some, and
 * stays there until it is told, or until the stranger was served. */

static struct {
	_Atomic bool	is_inside, may_go_on, stranger_is_back;
	bool		waits_for_stranger;
	void		*run;
} held;

static void cancel_in_two_parts(void *arg)
{
	struct runs *r = arg;

	for (size_t i = 0; i < RUN_PAGES / 2; i++)
		pp_free_pages(contest.pool, r->run[--r->nr]);
	atomic_store(&held.is_inside, true);
	while (!atomic_load(held.waits_for_stranger ? &held.stranger_is_back :
			    &held.may_go_on))
		sched_yield();
	runs_drop(r, contest.pool);
	pp_victim_exited(contest.victim);
}

static void *ask_for_a_page(void *arg)
{
	held.run = pp_alloc_pages(contest.pool, 1, PP_NOWARN);
	atomic_store(&held.stranger_is_back, true);
	return arg;
}

static void *ask_for_a_run(void *arg)
{
	*(void **)arg = pp_alloc_pages(contest.pool, RUN_PAGES, PP_NOWARN);
	return NULL;
}

static void begin_held(void)
{
	memset(&held, 0, sizeof(held));
	begin("1M");
	fill();
	register_victim(&contest.spare, cancel_in_two_parts);
}

static void end_held(void *run)
{
	pp_victim_unregister(contest.victim);
	pp_free_pages(contest.pool, run);
	pp_free_pages(contest.pool, held.run);
	end();
}

static int64_t slow_requests(void)
{
	return pool_stats(contest.pool).slowpath;
}

static void test_claim_others_wait_for_its_end_and_are_served(void **state)
{
	pthread_t one, stranger;
	void *run = NULL;
	int64_t before;

	(void)state;
	alarm(120);
	begin_held();
	pthread_create(&one, NULL, ask_for_a_run, &run);
	while (!atomic_load(&held.is_inside))
		sched_yield();
	before = slow_requests();
	pthread_create(&stranger, NULL, ask_for_a_page, NULL);
	/* It has been refused: not because there is nothing. */
	while (slow_requests() == before)
		sched_yield();
	assert_true(pool_stats(contest.pool).free_pages >
		    pool_stats(contest.pool).min_pages);
	assert_false(atomic_load(&held.stranger_is_back));
	atomic_store(&held.may_go_on, true);
	pthread_join(one, NULL);
	pthread_join(stranger, NULL);
	assert_non_null(run);
	assert_non_null(held.run);
	end_held(run);
	alarm(0);
	reached_end();
}

/* Else the stranger would not be back while the claimant is inside, but with
 * NULL at its own deadline. */
static void test_claim_of_one_that_is_stuck_lapses(void **state)
{
	pthread_t one, stranger;
	void *run = NULL;

	(void)state;
	alarm(120);
	begin_held();
	held.waits_for_stranger = true;
	assert_int_equal(pp_pool_set(contest.pool, "oom_timeout", "4s"),
			 0);
	pthread_create(&one, NULL, ask_for_a_run, &run);
	while (!atomic_load(&held.is_inside))
		sched_yield();
	pthread_create(&stranger, NULL, ask_for_a_page, NULL);
	pthread_join(stranger, NULL);
	assert_non_null(held.run);
	pthread_join(one, NULL);
	end_held(run);
	alarm(0);
	reached_end();
}

/* The same in a shrinker, and there is no victim.  A call frees a page, so that
 * the claim is made before there are enough: PAGES_BEFORE_STUCK are more than
 * the first round frees, and less than what is asked for. */
#define PAGES_BEFORE_STUCK	18

static size_t count_left(void *arg, struct pp_shrink *shrink)
{
	(void)arg;
	(void)shrink;
	return 1;
}

static size_t scan_and_stay(void *arg, struct pp_shrink *shrink)
{
	struct runs *r = arg;

	(void)shrink;
	if (pagepool_call_is_background())
		return PP_SHRINK_STOP;
	if (r->nr > 2 * RUN_PAGES - PAGES_BEFORE_STUCK) {
		pp_free_pages(contest.pool, r->run[--r->nr]);
		return 1;
	}
	atomic_store(&held.is_inside, true);
	while (!atomic_load(&held.stranger_is_back))
		sched_yield();
	return PP_SHRINK_STOP;
}

static void test_claim_of_one_that_is_stuck_in_a_shrinker_lapses(void **state)
{
	const struct pp_shrinker ops = {
		.struct_bytes = sizeof(ops), .name = "stuck",
		.arg = &contest.spare, .count = count_left,
		.scan = scan_and_stay, .seeks = PP_SHRINKER_SEEKS,
	};
	pthread_t one, stranger;
	void *run = NULL;

	(void)state;
	alarm(120);
	memset(&held, 0, sizeof(held));
	begin("1M");
	fill();
	assert_int_equal(pp_shrinker_register(contest.pool, &ops,
					      &contest.shrinker), 0);
	assert_int_equal(pp_pool_set(contest.pool, "oom_timeout", "4s"), 0);
	pthread_create(&one, NULL, ask_for_a_run, &run);
	while (!atomic_load(&held.is_inside))
		sched_yield();
	pthread_create(&stranger, NULL, ask_for_a_page, NULL);
	pthread_join(stranger, NULL);
	assert_non_null(held.run);
	pthread_join(one, NULL);
	assert_null(run);
	pp_shrinker_unregister(contest.shrinker);
	pp_free_pages(contest.pool, held.run);
	end();
	alarm(0);
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_claim_nobody_takes_what_a_victim_gives_up),
		TEST(test_claim_nobody_takes_what_a_shrinker_frees),
		TEST(test_claim_others_wait_for_its_end_and_are_served),
		TEST(test_claim_of_one_that_is_stuck_lapses),
		TEST(test_claim_of_one_that_is_stuck_in_a_shrinker_lapses),
	};

	test_clear_environment();
	return cmocka_run_group_tests_name("claim", tests, NULL, NULL);
}
