/* SPDX-License-Identifier: MIT */
/*
 * P6: at rest free + cached + used + isolated + reserved = managed, to the
 * page (pool_stats() of testing.h checks every snapshot of every test); under
 * load each cheap read is within its published bound.
 */
#include "testing.h"

#include <pagepool/cache.h>

static void test_stat_no_such_number(void **state)
{
	struct pp_pool *pool = pool_make("16M");

	(void)state;
	for (int i = 0; i < PP_NR_STATS; i++) {
		assert_true(pp_stat_read(pool, (enum pp_stat)i) >= 0);
		assert_true(pp_stat_bound(pool, (enum pp_stat)i) >= 0);
	}
	assert_int_equal(pp_stat_read(pool, PP_NR_STATS), -EINVAL);
	assert_int_equal(pp_stat_bound(pool, PP_NR_STATS), -EINVAL);
	assert_int_equal(pp_stat_read(pool, (enum pp_stat)-1), -EINVAL);
	assert_int_equal(pp_stat_bound(pool, (enum pp_stat)-1), -EINVAL);
	pool_end(pool);
	reached_end();
}

static void test_stat_snapshot_fills_what_the_caller_knows(void **state)
{
	struct pp_pool *pool = pool_make("16M");
	struct pp_stats s;

	(void)state;
	memset(&s, 0x55, sizeof(s));
	s.struct_bytes = 0;
	assert_int_equal(pp_stat_snapshot(pool, &s), -EINVAL);
	assert_int_equal(pp_stat_snapshot(pool, NULL), -EINVAL);
	assert_int_equal(pp_stat_snapshot(NULL, &s), -EINVAL);
	/* A program that was built with fewer fields. */
	s.struct_bytes = offsetof(struct pp_stats, free_pages);
	assert_int_equal(pp_stat_snapshot(pool, &s), 0);
	assert_int_equal(s.struct_bytes, offsetof(struct pp_stats, free_pages));
	assert_int_equal(s.limit_pages, 4096);
	assert_true(s.managed_pages > 4000);
	assert_true(s.free_pages == 0x5555555555555555);
	assert_true(s.slowpath_ns == 0x5555555555555555);
	pool_end(pool);
	reached_end();
}

/* A read is where its bound allows it, given what the snapshot says. */
static void expect_near(struct pp_pool *pool, enum pp_stat stat, int64_t truth)
{
	int64_t off = pp_stat_read(pool, stat) - truth;

	assert_true((off < 0 ? -off : off) <= pp_stat_bound(pool, stat));
}

/* The read and the snapshot are two ways to the same numbers. */
static void test_stat_reads_agree_with_the_snapshot_at_rest(void **state)
{
	struct pp_pool *pool = pool_make("32M");
	struct rng r = rng_make(1);
	void *run[200];
	struct pp_stats s;
	int64_t runs;

	(void)state;
	for (size_t i = 0; i < COUNT_OF(run); i++)
		run[i] = pp_alloc_pages(pool, 1 + rng_below(&r, 60),
					PP_NOWARN);
	for (size_t i = 0; i < COUNT_OF(run); i += 2)
		pp_free_pages(pool, run[i]);
	s = pool_stats(pool);
#define SAME(stat, field) \
	assert_int_equal(pp_stat_read(pool, PP_STAT_##stat), s.field)
	SAME(LIMIT_PAGES, limit_pages);
	SAME(MANAGED_PAGES, managed_pages);
	SAME(FREE_PAGES, free_pages);
	expect_near(pool, PP_STAT_CACHED_PAGES, s.cached_pages);
	expect_near(pool, PP_STAT_USED_PAGES, s.used_pages);
	SAME(ISOLATED_PAGES, isolated_pages);
	SAME(RESERVED_PAGES, reserved_pages);
	SAME(BACKED_PAGES, backed_pages);
	SAME(METADATA_PAGES, metadata_pages);
	SAME(MIN_PAGES, min_pages);
	SAME(LOW_PAGES, low_pages);
	SAME(HIGH_PAGES, high_pages);
	SAME(PEAK_PAGES, peak_pages);
	SAME(PURGED_PAGES, purged_pages);
	SAME(NR_THREADS, nr_threads);
	SAME(FAILURES, failures);
	SAME(SLOWPATH, slowpath);
	SAME(SLOWPATH_NS, slowpath_ns);
	/* The snapshot has folded. */
	SAME(REFILL_PAGES, refill_pages);
	SAME(FLUSH_PAGES, flush_pages);
	SAME(SLAB_NEW, slab_new);
	SAME(SLAB_FREED, slab_freed);
	SAME(SLAB_PAGES, slab_pages);
	SAME(SLAB_FREE_BYTES, slab_free_bytes);
	SAME(DRAINS, drains);
	SAME(DRAIN_WAITS, drain_waits);
	/* The thread wakes when it likes. */
	runs = pp_stat_read(pool, PP_STAT_RECLAIMD_RUNS);
	assert_true(runs >= s.reclaimd_runs &&
		    runs <= pool_stats(pool).reclaimd_runs);
	SAME(NODE_FALLBACK, node_fallback);
	SAME(IDLE_DRAINS, idle_drains);
	SAME(RECLAIMD_PAGES, reclaimd_pages);
	SAME(DIRECT_RECLAIMS, direct_reclaims);
	SAME(DIRECT_PAGES, direct_pages);
	SAME(SCANNED, scanned);
	SAME(THROTTLED, throttled);
	SAME(PRESSURE_LOW, pressure_low);
	SAME(PRESSURE_MIN, pressure_min);
	SAME(PRESSURE_OOM, pressure_oom);
	SAME(PRESSURE_EVENTS, pressure_events);
	SAME(OOM_RELEASES, oom_releases);
	SAME(OOM_FORCED, oom_forced);
	SAME(OOM_NOTIFIED, oom_notified);
#undef SAME
	assert_int_equal(s.isolated_pages, 0);
	assert_int_equal(s.nr_threads, 1);
	assert_true(s.backed_pages >= s.used_pages + s.cached_pages);
	assert_true(s.backed_pages <= s.managed_pages);
	for (size_t i = 1; i < COUNT_OF(run); i += 2)
		pp_free_pages(pool, run[i]);
	pool_end(pool);
	reached_end();
}

static void test_stat_used_is_what_was_handed_out(void **state)
{
	struct pp_pool *pool = pool_make("32M");
	struct rng r = rng_make(2);
	int64_t out = 0, base, peak = 0;
	void *run[300] = { NULL };
	size_t rounds = 0;

	(void)state;
	pp_free_pages(pool, pp_alloc_pages(pool, 1, 0));
	base = pool_stats(pool).used_pages;	/* this thread's cache */
	for (; rounds < 3000; rounds++) {
		size_t i = rng_below(&r, COUNT_OF(run));

		if (run[i]) {
			out -= (int64_t)pp_run_pages(pool, run[i]);
			pp_free_pages(pool, run[i]);
			run[i] = NULL;
		} else {
			run[i] = pp_alloc_pages(pool, 1 + rng_below(&r, 300),
						PP_NOWARN);
			if (run[i])
				out += (int64_t)pp_run_pages(pool, run[i]);
		}
		peak = out > peak ? out : peak;
		assert_int_equal(pool_stats(pool).used_pages - base, out);
	}
	assert_true(pool_stats(pool).peak_pages >= peak + base);
	assert_int_equal(rounds, 3000);
	pp_free_bulk(pool, COUNT_OF(run), run);
	assert_int_equal(pool_stats(pool).used_pages, base);
	pool_end(pool);
	reached_end();
}

static void test_stat_events_are_counted(void **state)
{
	struct pp_pool *pool = pool_make_one_zone("16M");
	struct pp_stats before = pool_stats(pool), after;
	void *run;

	(void)state;
	assert_null(pp_alloc_pages(pool, 1ul << 20, PP_NOWARN));
	assert_null(pp_alloc_pages(pool, 4096, PP_NOWARN));
	after = pool_stats(pool);
	assert_int_equal(after.failures, before.failures + 2);
	assert_true(after.slowpath > before.slowpath);
	assert_true(after.slowpath_ns > before.slowpath_ns);
	run = pp_alloc_pages(pool, 1000, 0);
	assert_int_equal(pool_stats(pool).failures, after.failures);
	pp_free_pages(pool, run);
	pool_end(pool);
	reached_end();
}

/* Under load */

#define THREADS	8

struct load {
	struct pp_pool		*pool;
	_Atomic bool		stop;
	pthread_barrier_t	barrier;
	_Atomic unsigned	next;
};

static void *load_thread(void *arg)
{
	struct load *load = arg;
	struct rng r = rng_make(100 + atomic_fetch_add(&load->next, 1));
	void *run[60] = { NULL };

	pthread_barrier_wait(&load->barrier);
	while (!atomic_load(&load->stop)) {
		size_t i = rng_below(&r, COUNT_OF(run));

		if (run[i]) {
			pp_free_pages(load->pool, run[i]);
			run[i] = NULL;
		} else {
			run[i] = pp_alloc_pages(load->pool,
						1 + rng_below(&r, 40),
						PP_NOWARN);
		}
	}
	pthread_barrier_wait(&load->barrier);	/* at rest */
	pthread_barrier_wait(&load->barrier);
	pp_free_bulk(load->pool, COUNT_OF(run), run);
	return NULL;
}

/* What can be said of a number whose truth is changing: it lies where the
 * truth can lie, give or take the bound. */
static void check_read(struct pp_pool *pool, enum pp_stat stat)
{
	int64_t managed = pp_stat_read(pool, PP_STAT_MANAGED_PAGES);
	int64_t bound = pp_stat_bound(pool, stat);
	int64_t value = pp_stat_read(pool, stat);

	assert_true(bound >= 0 && bound <= managed);
	assert_true(value >= -bound);
	assert_true(value <= managed + bound);
}

static void check_under_load(struct pp_pool *pool)
{
	static const enum pp_stat levels[] = {
		PP_STAT_FREE_PAGES, PP_STAT_CACHED_PAGES, PP_STAT_USED_PAGES,
		PP_STAT_ISOLATED_PAGES, PP_STAT_BACKED_PAGES,
		PP_STAT_PEAK_PAGES,
	};
	struct pp_stats s = pool_stats(pool), later;

	for (size_t i = 0; i < COUNT_OF(levels); i++)
		check_read(pool, levels[i]);
	assert_true(s.backed_pages <= s.managed_pages);
	assert_true(s.free_pages >= 0);
	assert_true(s.isolated_pages >= 0);
	assert_in_range(s.nr_threads, 1, THREADS + 1);
	later = pool_stats(pool);
	/* Events only grow. */
	assert_true(later.failures >= s.failures);
	assert_true(later.purged_pages >= s.purged_pages);
	assert_true(later.slowpath >= s.slowpath);
	assert_true(later.slowpath_ns >= s.slowpath_ns);
	assert_true(later.peak_pages >= s.peak_pages);
}

static void test_stat_under_load_is_within_its_bound(void **state)
{
	struct load load = { .pool = pool_make("16M") };
	pthread_t thread[THREADS];
	struct pp_stats s;
	size_t samples = 0;

	(void)state;
	pp_free_pages(load.pool, pp_alloc_pages(load.pool, 1, 0));
	pthread_barrier_init(&load.barrier, NULL, THREADS + 1);
	for (size_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, load_thread,
						&load), 0);
	pthread_barrier_wait(&load.barrier);
	/* Long enough for the load to have been at the limit. */
	while (samples < 3000 ||
	       pp_stat_read(load.pool, PP_STAT_FAILURES) < 200) {
		check_under_load(load.pool);
		samples++;
	}
	atomic_store(&load.stop, true);
	pthread_barrier_wait(&load.barrier);
	s = pool_stats(load.pool);
	expect_near(load.pool, PP_STAT_USED_PAGES, s.used_pages);
	expect_near(load.pool, PP_STAT_CACHED_PAGES, s.cached_pages);
	assert_int_equal(s.isolated_pages, 0);
	assert_int_equal(pp_pool_check(load.pool), 0);
	pthread_barrier_wait(&load.barrier);
	for (size_t i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	s = pool_stats(load.pool);
	assert_int_equal(s.nr_threads, 1);
	assert_int_equal(s.used_pages, s.nr_threads * CACHE_PAGES);
	assert_true(s.refill_pages > 0);
	pthread_barrier_destroy(&load.barrier);
	pool_end(load.pool);
	reached_end();
}

/*
 * In step: in each round every thread allocates and frees for a while, runs
 * and small objects; then all rest, and each cheap read is compared with the
 * truth, which is what the threads say that they hold and a snapshot.
 */

#define STEP_THREADS	12
#define STEP_ROUNDS	2500
#define STEP_HELD	30

struct step_load {
	struct pp_pool		*pool;
	struct pp_cache		*cache;
	pthread_barrier_t	barrier;
	_Atomic unsigned	next;
	int64_t			out_pages[STEP_THREADS];
	bool			end;	/* written between the barriers */
};

struct step_held {
	void	*run[STEP_HELD], *object[STEP_HELD];
};

static int64_t step_run(struct step_load *load, struct rng *r, void **run)
{
	int64_t pages;

	if (*run) {
		pages = -(int64_t)pp_run_pages(load->pool, *run);
		pp_free_pages(load->pool, *run);
		*run = NULL;
		return pages;
	}
	*run = pp_alloc_pages(load->pool, 1 + rng_below(r, rng_below(r, 9) ?
						       12 : 300), PP_NOWARN);
	return *run ? (int64_t)pp_run_pages(load->pool, *run) : 0;
}

static void step_object(struct step_load *load, void **object)
{
	if (*object) {
		pp_cache_free(load->cache, *object);
		*object = NULL;
	} else {
		*object = pp_cache_alloc(load->cache, PP_NOWARN);
	}
}

static void step_end(struct step_load *load, unsigned me, struct rng *r,
		     struct step_held *h)
{
	for (size_t i = 0; i < STEP_HELD; i++) {
		if (h->run[i])
			load->out_pages[me] += step_run(load, r, &h->run[i]);
		if (h->object[i])
			step_object(load, &h->object[i]);
	}
}

static void *step_thread(void *arg)
{
	struct step_load *load = arg;
	unsigned me = atomic_fetch_add(&load->next, 1);
	struct step_held held = { .run = { NULL } };
	struct rng r = rng_make(200 + me);

	for (;;) {
		pthread_barrier_wait(&load->barrier);
		if (load->end)
			break;
		for (size_t n = rng_below(&r, 40); n; n--) {
			size_t i = rng_below(&r, STEP_HELD);

			load->out_pages[me] += step_run(load, &r,
							&held.run[i]);
			step_object(load, &held.object[i]);
		}
		if (rng_below(&r, 100) == 0)
			step_end(load, me, &r, &held);
		pthread_barrier_wait(&load->barrier);
	}
	step_end(load, me, &r, &held);
	return NULL;
}

/* Reads first: a snapshot folds. */
enum { MAX_TABLE_PAGES = 40 };

static void step_check(struct step_load *load)
{
	static const struct {
		enum pp_stat	stat;
		size_t		offset;
	} number[] = {
#define NUMBER(id, field) { PP_STAT_##id, offsetof(struct pp_stats, field) }
		NUMBER(FREE_PAGES, free_pages),
		NUMBER(CACHED_PAGES, cached_pages),
		NUMBER(USED_PAGES, used_pages),
		NUMBER(BACKED_PAGES, backed_pages),
		NUMBER(PEAK_PAGES, peak_pages),
		NUMBER(PURGED_PAGES, purged_pages),
		NUMBER(NR_THREADS, nr_threads),
		NUMBER(FAILURES, failures),
		NUMBER(SLOWPATH, slowpath),
		NUMBER(SLOWPATH_NS, slowpath_ns),
		NUMBER(REFILL_PAGES, refill_pages),
		NUMBER(FLUSH_PAGES, flush_pages),
		NUMBER(SLAB_NEW, slab_new),
		NUMBER(SLAB_FREED, slab_freed),
		NUMBER(SLAB_PAGES, slab_pages),
		NUMBER(SLAB_FREE_BYTES, slab_free_bytes),
#undef NUMBER
	};
	int64_t read[COUNT_OF(number)], bound[COUNT_OF(number)], out = 0;
	struct pp_stats s;

	for (size_t i = 0; i < COUNT_OF(number); i++) {
		read[i] = pp_stat_read(load->pool, number[i].stat);
		bound[i] = pp_stat_bound(load->pool, number[i].stat);
	}
	s = pool_stats(load->pool);
	for (size_t i = 0; i < COUNT_OF(number); i++) {
		int64_t truth, off;

		memcpy(&truth, (char *)&s + number[i].offset, sizeof(truth));
		off = read[i] - truth;
		assert_true((off < 0 ? -off : off) <= bound[i]);
	}
	for (size_t i = 0; i < STEP_THREADS; i++)
		out += load->out_pages[i];
	/* And the tables of blocks beyond those that the limit covers, which
	 * scattered runs may touch: a page for two of them. */
	out += s.slab_pages + s.nr_threads * CACHE_PAGES;
	assert_in_range(s.used_pages - out, 0, MAX_TABLE_PAGES);
}

static void test_stat_in_step_is_within_its_bound(void **state)
{
	struct step_load load = { .pool = pool_make("24M") };
	pthread_t thread[STEP_THREADS];
	struct pp_stats before, after;
	size_t rounds = 0;

	(void)state;
	assert_int_equal(pp_cache_create(load.pool, "step", 1000, 0,
					 &load.cache), 0);
	pthread_barrier_init(&load.barrier, NULL, STEP_THREADS + 1);
	for (size_t i = 0; i < STEP_THREADS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, step_thread,
						&load), 0);
	for (; rounds < test_load(STEP_ROUNDS, 250); rounds++) {
		pthread_barrier_wait(&load.barrier);
		pthread_barrier_wait(&load.barrier);
		step_check(&load);
	}
	before = pool_stats(load.pool);
	load.end = true;
	pthread_barrier_wait(&load.barrier);
	for (size_t i = 0; i < STEP_THREADS; i++)
		pthread_join(thread[i], NULL);
	/* Threads that are gone leave no delta: what is open now is this
	 * thread's own. */
	step_check(&load);
	after = pool_stats(load.pool);
	assert_true(before.slab_new > 0 && before.flush_pages > 0);
	assert_true(after.flush_pages >= before.flush_pages);
	assert_int_equal(after.slab_new - after.slab_freed > 0,
			 after.slab_pages > 0);
	assert_int_equal(pp_cache_destroy(load.cache), 0);
	pthread_barrier_destroy(&load.barrier);
	pool_end(load.pool);
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_stat_no_such_number),
		TEST(test_stat_snapshot_fills_what_the_caller_knows),
		TEST(test_stat_reads_agree_with_the_snapshot_at_rest),
		TEST(test_stat_used_is_what_was_handed_out),
		TEST(test_stat_events_are_counted),
		TEST(test_stat_under_load_is_within_its_bound),
		TEST(test_stat_in_step_is_within_its_bound),
	};

	test_clear_environment();
	return cmocka_run_group_tests_name("stat", tests, NULL, NULL);
}
