/* SPDX-License-Identifier: MIT */
/*
 * The background thread misses nothing that it is told while it looks, starts
 * or stops: in debug builds threads give way just there (base/delay.h).
 */
#include "../api/testing.h"

#include <sched.h>
#include <semaphore.h>

#include "base/delay.h"
#include "base/fault.h"
#include "pagepool/reclaim.h"
#include "pool.h"

#define WAIT_S		20
#define MAX_RUNS	4096

static bool wait_for(bool (*cond)(void *), void *arg)
{
	time_t end = time(NULL) + WAIT_S;

	while (!cond(arg)) {
		if (time(NULL) > end)
			return false;
		usleep(1000);
	}
	return true;
}

/* Told to stop at any time, it stops: else this hangs. */
static void test_reclaimd_stops_whenever_it_is_told(void **state)
{
	(void)state;
	alarm(200);
	store_relaxed(&delay_one_in[DELAY_LOOK], 1);
	for (unsigned i = 0; i < 1000; i++) {
		struct pp_pool *pool = pool_make("16M");

		for (unsigned k = 0; k < i % 7; k++)
			sched_yield();
		assert_int_equal(pp_pool_destroy(pool), 0);
	}
	store_relaxed(&delay_one_in[DELAY_LOOK], 0);
	alarm(0);
	reached_end();
}

struct thin {
	struct pp_pool		*pool;
	void			*run[4096];
	_Atomic size_t		nr;
	_Atomic unsigned	calls;
};

static size_t thin_count(void *arg, struct pp_shrink *shrink)
{
	struct thin *t = arg;

	(void)shrink;
	return atomic_load(&t->nr);
}

static size_t thin_scan(void *arg, struct pp_shrink *shrink)
{
	struct thin *t = arg;
	size_t n = 0;

	atomic_fetch_add(&t->calls, 1);
	while (n < shrink->nr_to_scan && atomic_load(&t->nr)) {
		pp_free_pages(t->pool, t->run[atomic_fetch_sub(&t->nr, 1) - 1]);
		n++;
	}
	return n;
}

static void *start(void *arg)
{
	reclaimd_start_all(arg);
	return NULL;
}

static bool was_called(void *arg)
{
	struct thin *t = arg;

	return atomic_load(&t->calls) != 0;
}

/* To low by a claim that may call nobody, at a moment when the thread rests
 * already and its starter has not said yet that there is one.  Was it then? */
static bool play_start(struct thin *t, struct pp_shrinker_id **id)
{
	const struct pp_shrinker ops = {
		.struct_bytes = sizeof(ops), .name = "thin", .arg = t,
		.count = thin_count, .scan = thin_scan, .seeks = 2,
	};
	struct zone *zone;
	pthread_t starter;
	bool in_time;
	void *last;

	memset(t, 0, sizeof(*t));
	fault_arm(FAULT_THREAD, 1);
	t->pool = pool_make_one_zone("8M");
	zone = t->pool->zones;
	assert_false(load_relaxed(&zone->has_reclaimd));
	while (zone_free_pages(zone) > load_relaxed(&zone->low_pages) + 16) {
		t->run[t->nr] = pp_alloc_pages(t->pool, 1, 0);
		assert_non_null(t->run[t->nr++]);
	}
	pp_pool_drain(t->pool);
	assert_int_equal(pp_shrinker_register(t->pool, &ops, id), 0);
	pthread_create(&starter, NULL, start, &t->pool->registry);
	while (!load_relaxed(&zone->resting) &&
	       !load_relaxed(&zone->has_reclaimd))
		cpu_relax();
	last = pp_alloc_pages(t->pool, 32, PP_NOFS | PP_HIGH);
	in_time = !load_relaxed(&zone->has_reclaimd);
	assert_non_null(last);
	pthread_join(starter, NULL);
	assert_true(wait_for(was_called, t));
	pp_free_pages(t->pool, last);
	return in_time;
}

static void test_reclaimd_that_just_starts_misses_no_kick(void **state)
{
	struct thin *t = test_array(1, sizeof(*t));
	struct pp_shrinker_id *id;
	unsigned in_time = 0;

	(void)state;
	store_relaxed(&delay_one_in[DELAY_START], 1);
	for (unsigned i = 0; i < 200; i++) {
		in_time += play_start(t, &id);
		pp_shrinker_unregister(id);
		while (t->nr)
			pp_free_pages(t->pool, t->run[--t->nr]);
		pool_end(t->pool);
	}
	store_relaxed(&delay_one_in[DELAY_START], 0);
	print_message("# %u of 200 before anybody knew of the thread\n",
		      in_time);
	free(t);
	reached_end();
}

/* Pressure from outside */

struct outside {
	struct pp_pool		*pool;
	_Atomic unsigned	counts;
	_Atomic size_t		scanned;
	int64_t			purged;
	uint32_t		runs;
};

#define OUTSIDE_OBJECTS		160000

static size_t outside_count(void *arg, struct pp_shrink *shrink)
{
	struct outside *o = arg;

	(void)shrink;
	atomic_fetch_add(&o->counts, 1);
	return OUTSIDE_OBJECTS;
}

static size_t outside_scan(void *arg, struct pp_shrink *shrink)
{
	struct outside *o = arg;

	atomic_fetch_add(&o->scanned, shrink->nr_to_scan);
	return 0;
}

static void press(struct pp_pool *pool, unsigned nr_events)
{
	add_relaxed(&pool->registry.outside_pressure, nr_events);
	pcp_kick_reclaimd(&pool->registry);
}

static bool was_answered(void *arg)
{
	struct outside *o = arg;

	return atomic_load(&o->counts) >= o->runs;
}

/* A quarter of what is spare, a sixteenth of what a shrinker has, and ten
 * events at once are one. */
static void test_reclaimd_answers_pressure_from_outside_in_shares(void **state)
{
	struct outside o = { .pool = pool_make("64M") };
	const struct pp_shrinker ops = {
		.struct_bytes = sizeof(ops), .name = "outside", .arg = &o,
		.count = outside_count, .scan = outside_scan,
		.seeks = PP_SHRINKER_SEEKS,
	};
	struct pp_shrinker_id *id;
	int64_t spare, keep, purged;
	struct timespec from, to;
	struct pp_stats s;

	(void)state;
	assert_int_equal(pp_shrinker_register(o.pool, &ops, &id), 0);
	/* Longer than the test takes: nothing else purges. */
	assert_int_equal(pp_pool_set(o.pool, "purge_delay", "3600s"), 0);
	pp_free_pages(o.pool, pp_alloc_pages(o.pool, 12000, 0));
	assert_int_equal(pp_pool_drain(o.pool), 0);
	s = pool_stats(o.pool);
	spare = s.backed_pages - s.used_pages - s.cached_pages;
	keep = (int64_t)zone_keep_pages(o.pool->zones);
	assert_int_equal(s.purged_pages, 0);

	clock_gettime(CLOCK_MONOTONIC, &from);
	o.runs = 1;
	press(o.pool, 10);
	assert_true(wait_for(was_answered, &o));
	purged = pool_stats(o.pool).purged_pages;
	assert_in_range(purged, (spare - keep) / 4, (spare - keep) / 4 + 512);
	/* The next is not answered before a second is over. */
	o.runs = 2;
	press(o.pool, 10);
	assert_true(wait_for(was_answered, &o));
	clock_gettime(CLOCK_MONOTONIC, &to);
	assert_true((to.tv_sec - from.tv_sec) * 1000000000ll +
		    to.tv_nsec - from.tv_nsec >= 1000000000ll);
	assert_int_equal(atomic_load(&o.counts), 2);
	pp_shrinker_unregister(id);	/* its callback has ended */
	/* What it put off the first time it did the second time. */
	assert_in_range(atomic_load(&o.scanned), OUTSIDE_OBJECTS / 16 - 128,
			3 * OUTSIDE_OBJECTS / 16);
	s = pool_stats(o.pool);
	assert_in_range(s.purged_pages - purged, (spare - purged - keep) / 4,
			(spare - purged - keep) / 4 + 512);
	pool_end(o.pool);
	reached_end();
}

/* A run that is stuck is replaced, and comes back */

/* Whoever counts it is held there, once. */
struct gate {
	struct pp_pool		*pool;
	sem_t			inside, leave;
	_Atomic bool		was_passed;
	const char		*next_timeout;	/* set by who comes */
};

static size_t gate_count(void *arg, struct pp_shrink *shrink)
{
	struct gate *g = arg;

	(void)shrink;
	if (atomic_exchange(&g->was_passed, true))
		return 0;
	if (g->next_timeout)
		thread_check(pp_pool_set(g->pool, "oom_timeout",
					 g->next_timeout) == 0);
	sem_post(&g->inside);
	while (sem_wait(&g->leave))
		;
	return 0;
}

static size_t gate_scan(void *arg, struct pp_shrink *shrink)
{
	(void)arg;
	(void)shrink;
	return PP_SHRINK_STOP;
}

static struct pp_shrinker_id *add_gate(struct gate *g, struct pp_pool *pool,
				       const char *next_timeout)
{
	const struct pp_shrinker ops = {
		.struct_bytes = sizeof(ops), .name = "gate", .arg = g,
		.count = gate_count, .scan = gate_scan, .seeks = 2,
	};
	struct pp_shrinker_id *id = NULL;

	memset(g, 0, sizeof(*g));
	g->pool = pool;
	g->next_timeout = next_timeout;
	sem_init(&g->inside, 0, 0);
	sem_init(&g->leave, 0, 0);
	assert_int_equal(pp_shrinker_register(pool, &ops, &id), 0);
	return id;
}

/* Somebody is inside. */
static void await_gate(struct gate *g)
{
	while (sem_wait(&g->inside))
		;
}

/* As a claim that finds memory low. */
static void want_run(struct pp_pool *pool)
{
	pcp_note_low(&pool->registry, pool->zones);
}

static bool is_one_at_work(void *arg)
{
	struct call_service *cs = arg;
	bool is;

	pcp_enter_without();
	lock_acquire(&cs->lock);
	is = cs->nr_idle + 1 == load_relaxed(&cs->nr_threads);
	lock_release(&cs->lock);
	pcp_leave_without();
	return is;
}

static bool is_none_out(void *arg)
{
	return load_relaxed(&((struct reclaimd *)arg)->run.out) == 0;
}

/* False: there was a third run, for the second was without a processor. */
static bool play_replaced(void)
{
	struct pp_pool *pool = pool_make_one_zone("16M");
	struct reclaimd *r = &pool->registry.reclaimd[0];
	struct pp_shrinker_id *first_id, *second_id;
	static void *run[MAX_RUNS];
	struct gate first, second;
	size_t nr = 0;
	bool ok;

	assert_int_equal(pp_pool_set(pool, "oom_timeout", "400s"), 0);
	first_id = add_gate(&first, pool, NULL);
	/* Nothing is in this thread's cache that would come back. */
	do {
		assert_non_null(run[nr++] = pp_alloc_pages(pool, 1, PP_NOFS));
		pp_pool_drain(pool);
	} while (zone_free_pages(pool->zones) > pool->zones->low_pages);
	want_run(pool);
	await_gate(&first);
	assert_int_equal(r->run.out, 1);
	second_id = add_gate(&second, pool, "400s");
	/* Now it is stuck. */
	assert_int_equal(pp_pool_set(pool, "oom_timeout", "40ms"), 0);
	while (sem_trywait(&second.inside)) {
		want_run(pool);
		sched_yield();
	}
	sem_post(&first.leave);
	assert_true(wait_for(is_one_at_work, &pool->calls));
	ok = r->run.number == 2;
	assert_true(!ok || load_relaxed(&r->run.out) == 2);
	sem_post(&second.leave);
	assert_true(wait_for(is_none_out, r));
	pp_free_bulk(pool, nr, run);
	pp_shrinker_unregister(first_id);
	pp_shrinker_unregister(second_id);
	pool_end(pool);
	return ok;
}

static void test_reclaimd_run_that_was_replaced_ends_no_other(void **state)
{
	unsigned n = 0;

	(void)state;
	alarm(200);
	while (!play_replaced())
		assert_in_range(++n, 0, 20);
	alarm(0);
	assert_threads_ok();
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_reclaimd_answers_pressure_from_outside_in_shares),
		TEST(test_reclaimd_stops_whenever_it_is_told),
		TEST(test_reclaimd_that_just_starts_misses_no_kick),
		TEST(test_reclaimd_run_that_was_replaced_ends_no_other),
	};

	test_clear_environment();
	return cmocka_run_group_tests_name("reclaimd", tests, NULL, NULL);
}
