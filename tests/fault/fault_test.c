/* SPDX-License-Identifier: MIT */
/*
 * Every place where the kernel may say no, one call after the other: for each
 * point of base/fault.h and for n = 1, 2, ... the n-th call from the start of
 * a fixed scene fails, until n is past its last call.  Whatever fails, every
 * refusal has its documented errno, every run still has its one owner and its
 * contents, and in the end nothing is used and the pools can be destroyed.
 */
#include "../api/testing.h"

#include "base/fault.h"
#include "os/os.h"
#include "pagepool/cache.h"
#include "pagepool/reclaim.h"
#include "pagepool/reserve.h"
#include "pool.h"
#include "thp.h"

#define MAX_CALLS	5000	/* of one point in one scene */
#define MAX_RUNS	700

static const char *const point_names[] = {
#define X(name, what) #name,
	PP_FAULT_POINTS(X)
#undef X
};

struct held {
	uint64_t	*p;
	size_t		pages;
};

struct scene {
	struct pp_pool	*pool;
	struct held	run[MAX_RUNS];
	size_t		nr_runs;
	uint64_t	tag;
	size_t		refusals;
};

/* Ownership: each page of a run carries the run's number and its own. */

static void stamp(struct scene *s, size_t i, size_t from)
{
	struct held *h = &s->run[i];

	for (size_t k = from; k < h->pages; k++) {
		h->p[k * 512] = i << 32 | k;
		h->p[k * 512 + 511] = ~(i << 32 | k);
	}
}

static void check_stamp(struct scene *s, size_t i, size_t pages)
{
	struct held *h = &s->run[i];

	for (size_t k = 0; k < pages; k++) {
		assert_true(h->p[k * 512] == (i << 32 | k));
		assert_true(h->p[k * 512 + 511] == ~(i << 32 | k));
	}
}

static void refused(struct scene *s, int err)
{
	assert_int_equal(errno, err);
	errno = 0;
	s->refusals++;
}

static bool take(struct scene *s, size_t n, size_t align, unsigned flags)
{
	struct held *h = &s->run[s->nr_runs];

	assert_true(s->nr_runs < MAX_RUNS);
	h->p = pp_alloc_aligned(s->pool, n, align, flags | PP_NOWARN);
	if (!h->p) {
		refused(s, ENOMEM);
		return false;
	}
	if (flags & PP_ZERO)
		for (size_t k = 0; k < n * 512; k++)
			assert_true(h->p[k] == 0);
	h->pages = n;
	stamp(s, s->nr_runs++, 0);
	return true;
}

static void give(struct scene *s, size_t i)
{
	if (!s->run[i].p)
		return;
	check_stamp(s, i, s->run[i].pages);
	pp_free_pages(s->pool, s->run[i].p);
	s->run[i].p = NULL;
}

static void give_all(struct scene *s)
{
	while (s->nr_runs)
		give(s, --s->nr_runs);
}

static void resize(struct scene *s, size_t i, size_t n)
{
	size_t have = s->run[i].pages;
	void *to;

	if (!s->run[i].p)
		return;
	to = pp_realloc_pages(s->pool, s->run[i].p, n, PP_NOWARN);
	if (!to) {
		refused(s, ENOMEM);
		check_stamp(s, i, have);
		return;
	}
	s->run[i].p = to;
	check_stamp(s, i, n < have ? n : have);
	s->run[i].pages = n;
	stamp(s, i, have < n ? have : n);
}

static void check(struct scene *s)
{
	assert_int_equal(pp_pool_check(s->pool), 0);
	for (size_t i = 0; i < s->nr_runs; i++)
		if (s->run[i].p)
			check_stamp(s, i, s->run[i].pages);
}

/* The parts of the scene */

static void fill_and_free(struct scene *s)
{
	static const size_t lengths[] = { 1, 9, 100, 300, 520, 40 };
	size_t i = 0;

	/* To the limit, then holes, then what needs the holes' memory. */
	while (s->nr_runs < 600 && take(s, lengths[i++ % 6], 1, 0))
		;
	check(s);
	for (size_t k = 0; k < s->nr_runs; k += 2)
		give(s, k);
	take(s, 600, 1, 0);
	take(s, 50, 1, PP_ZERO);
	take(s, 3, 1024, 0);
	take(s, 1, 1, PP_ATOMIC);
	check(s);
	give_all(s);
}

static void realloc_around(struct scene *s)
{
	/* From the first block on, the second run behind the first. */
	pool_drain(s->pool);
	take(s, 600, 1, 0);
	take(s, 600, 1, 0);
	resize(s, 0, 1100);	/* by moving */
	check(s);
	if (s->nr_runs > 1)
		resize(s, 1, 40);
	resize(s, 0, 1300);
	resize(s, 0, 700);
	check(s);
	give_all(s);
}

/* Long enough for huge pages. */
static void stretch(struct scene *s)
{
	pool_drain(s->pool);
	take(s, 1200, 1, PP_ZERO);
	if (s->nr_runs) {
		resize(s, 0, 1600);
		resize(s, 0, 1030);
		resize(s, 0, 300);
	}
	take(s, 1100, 1, 0);
	check(s);
	give_all(s);
	pool_drain(s->pool);
	take(s, 1030, 1, 0);
	if (s->nr_runs)
		resize(s, 0, 1300);	/* by moving, or in place */
	check(s);
	give_all(s);
}

static void use_caches(struct scene *s)
{
	struct pp_cache *cache = NULL;
	void *object[300];
	size_t n = 0;
	int err = pp_cache_create(s->pool, "objects", 700, 0, &cache);

	if (err) {
		assert_int_equal(err, -ENOMEM);
		s->refusals++;
		return;
	}
	for (size_t i = 0; i < COUNT_OF(object); i++) {
		object[n] = pp_cache_alloc(cache, PP_NOWARN);
		if (!object[n]) {
			refused(s, ENOMEM);
			continue;
		}
		memset(object[n], (int)(n & 127), 700);
		n++;
	}
	while (n--) {
		for (size_t k = 0; k < 700; k++)
			assert_int_equal(((char *)object[n])[k], n & 127);
		pp_cache_free(cache, object[n]);
	}
	assert_int_equal(pp_cache_destroy(cache), 0);
}

/* A shrinker that gives the scene's runs back, from the last on. */

static size_t count_runs(void *arg, struct pp_shrink *shrink)
{
	struct scene *s = arg;

	(void)shrink;
	return s->nr_runs;
}

static size_t give_runs(void *arg, struct pp_shrink *shrink)
{
	struct scene *s = arg;
	size_t n = 0;

	while (n < shrink->nr_to_scan && s->nr_runs) {
		give(s, --s->nr_runs);
		n++;
	}
	return n;
}

static struct pp_shrinker_id *offer_runs(struct scene *s)
{
	const struct pp_shrinker ops = {
		.struct_bytes = sizeof(ops), .name = "runs", .arg = s,
		.count = count_runs, .scan = give_runs, .batch = 8, .seeks = 2,
	};
	struct pp_shrinker_id *id = NULL;
	int err = pp_shrinker_register(s->pool, &ops, &id);

	if (err) {
		assert_int_equal(err, -ENOMEM);
		assert_null(id);
		s->refusals++;
	}
	return id;
}

/* Registered with room and without; the runs are this thread's alone, so only
 * its own call asks for them. */
static void reclaim_some(struct scene *s)
{
	struct pp_shrinker_id *id;
	int fd = pp_pressure_fd(s->pool, PP_PRESSURE_LOW);

	if (fd < 0) {
		assert_int_equal(fd, -EMFILE);
		s->refusals++;
	} else {
		close(fd);
	}
	for (unsigned i = 0; i < 20; i++)
		take(s, 20, 1, 0);
	id = offer_runs(s);
	if (id) {
		assert_true(pp_pool_reclaim(s->pool, 100000) >= 0);
		assert_int_equal(s->nr_runs, 0);
	}
	pp_shrinker_unregister(id);
	give_all(s);
	while (s->nr_runs < 600 && take(s, 5, 1, 0))
		;
	while (s->nr_runs < MAX_RUNS && take(s, 1, 1, PP_MEMALLOC))
		;
	/* Whether or not there is room for another object. */
	pp_shrinker_unregister(offer_runs(s));
	check(s);
	give_all(s);
}

static void *thread_main(void *arg)
{
	struct pp_pool *pool = arg;
	void *run[30];

	for (size_t i = 0; i < COUNT_OF(run); i++) {
		errno = 0;
		run[i] = pp_alloc_pages(pool, 1 + i, PP_NOWARN);
		thread_check(run[i] || errno == ENOMEM);
		if (run[i])
			memset(run[i], 1, (1 + i) * PAGE);
	}
	pp_free_bulk(pool, COUNT_OF(run), run);
	return NULL;
}

/* One after the other, so that the n-th call is the same one each time. */
static void use_threads(struct scene *s)
{
	pthread_t thread;

	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(pthread_create(&thread, NULL, thread_main,
						s->pool), 0);
		pthread_join(thread, NULL);
	}
	assert_threads_ok();
}

/* All of a reserve or nothing; and what it has is there, whatever fails. */
static void use_reserve(struct scene *s)
{
	struct pp_reserve *r = NULL;
	struct pp_ticket t;
	void *run;
	int err = pp_reserve_create(s->pool, 4, 200, &r);

	if (err) {
		assert_int_equal(err, -ENOMEM);
		assert_null(r);
		assert_int_equal(pool_stats(s->pool).reserved_pages, 0);
		s->refusals++;
		return;
	}
	err = pp_reserve_resize(r, 7);
	assert_in_range(err, 0, 3);
	s->refusals += err != 0;
	assert_int_equal(pool_stats(s->pool).reserved_pages,
			 (7 - err) * (int)run_length(200));
	assert_int_equal(pp_reserve_hold(r, 4, 0, &t), 0);
	for (size_t i = 0; i < 4; i++) {
		run = pp_reserve_draw(&t);
		assert_non_null(run);
		memset(run, 1, 200 * PAGE);
		pp_reserve_free(r, run);
	}
	pp_reserve_drop(&t);
	pp_reserve_free(r, pp_reserve_alloc(r, 0));
	assert_int_equal(pp_pool_check(s->pool), 0);
	assert_int_equal(pp_reserve_destroy(r), 0);
}

static struct pp_pool *pool_or_null(struct scene *s, const char *limit)
{
	struct pp_config *config = NULL;
	struct pp_pool *pool = NULL;
	int err = pp_config_create(&config);

	if (!err) {
		assert_int_equal(pp_config_set(config, "limit", limit), 0);
		assert_int_equal(pp_config_set(config, "fake_nodes", "1"), 0);
		err = pp_pool_create(config, &pool);
		pp_config_destroy(config);
	}
	if (err) {
		assert_int_equal(err, -ENOMEM);
		assert_null(pool);
		s->refusals++;
	}
	return pool;
}

/* Nothing is left but what threads' caches pay for themselves. */
static void end_pool(struct pp_pool *pool)
{
	struct pp_stats st;
	uint64_t charged = 0;

	assert_int_equal(pp_pool_check(pool), 0);
	pool_drain(pool);
	st = pool_stats(pool);
	assert_int_equal(st.cached_pages, 0);
	assert_int_equal(st.isolated_pages, 0);
	for_each_zone(zone, pool->zones) {
		charged += zone->charged_pages;
		assert_int_equal(zone->making_pages, 0);
		assert_int_equal(zone->promised_pages, 0);
		assert_int_equal(zone->moving_pages, 0);
	}
	assert_int_equal(st.used_pages, charged);
	assert_true(st.nr_threads <= 1 + CALL_MAX_THREADS);
	assert_int_equal(pp_pool_destroy(pool), 0);
}

static void play(struct scene *s)
{
	struct pp_pool *second;

	memset(s, 0, sizeof(*s));
	s->pool = pool_or_null(s, "8M");
	if (!s->pool)
		return;
	fill_and_free(s);
	realloc_around(s);
	stretch(s);
	use_caches(s);
	reclaim_some(s);
	use_threads(s);
	use_reserve(s);
	second = pool_or_null(s, "16M");
	if (second) {
		struct pp_pool *first = s->pool;

		s->pool = second;
		use_reserve(s);
		take(s, 600, 1, 0);
		take(s, 5, 1, 0);
		use_caches(s);
		give_all(s);
		s->pool = first;
		end_pool(second);
	}
	fill_and_free(s);
	end_pool(s->pool);
}

static void *play_in_thread(void *arg)
{
	play(arg);
	return NULL;
}

/* In a thread of its own: its caches, and its exit, are part of the play.  An
 * assertion that fails there ends the program at once. */
static void play_once(struct scene *s)
{
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, play_in_thread, s), 0);
	pthread_join(thread, NULL);
	assert_threads_ok();
}

static void sweep(enum fault_point point, size_t at_least)
{
	struct scene *s = test_array(1, sizeof(*s));
	size_t refusals = 0;
	uint32_t n;

	for (n = 1; n <= MAX_CALLS; n++) {
		fault_arm(point, n);
		play_once(s);
		refusals += s->refusals;
		if (load_relaxed(&fault_countdown[point]))
			break;	/* it was not called so often */
	}
	fault_arm(point, 0);
	print_message("# %s: %u calls, %zu refusals\n", point_names[point],
		      n - 1, refusals);
	assert_true(n > at_least && n <= MAX_CALLS);
	/* With nothing armed all works again. */
	play_once(s);
	free(s);
}

static void test_fault_reserve(void **state)
{
	(void)state;
	sweep(FAULT_RESERVE, 2);
	reached_end();
}

static void test_fault_commit(void **state)
{
	(void)state;
	sweep(FAULT_COMMIT, 4);
	reached_end();
}

static void test_fault_purge(void **state)
{
	(void)state;
	sweep(FAULT_PURGE, 4);
	reached_end();
}

static void test_fault_move(void **state)
{
	(void)state;
	sweep(FAULT_MOVE, 1);
	reached_end();
}

static void test_fault_reset(void **state)
{
	(void)state;
	sweep(FAULT_RESET, 1);
	reached_end();
}

/* Huge pages where programs that say nothing get them, and everywhere. */
static void test_fault_huge(void **state)
{
	(void)state;
	store_relaxed(&thp_system, THP_SYSTEM_ALWAYS);
	setenv("PAGEPOOL_THP", "auto", 1);
	sweep(FAULT_HUGE, 4);
	setenv("PAGEPOOL_THP", "always", 1);
	sweep(FAULT_HUGE, 1);
	sweep(FAULT_PURGE, 4);
	sweep(FAULT_RESET, 1);
	unsetenv("PAGEPOOL_THP");
	reached_end();
}

static void test_fault_storage(void **state)
{
	(void)state;
	sweep(FAULT_STORAGE, 3);
	reached_end();
}

/* The key is made once a process, and set once a thread. */
static void test_fault_key(void **state)
{
	(void)state;
	sweep(FAULT_KEY, 1);
	reached_end();
}

static void test_fault_eventfd(void **state)
{
	(void)state;
	sweep(FAULT_EVENTFD, 1);
	reached_end();
}

/* Requests do what the thread would have done. */
static void test_fault_thread(void **state)
{
	(void)state;
	sweep(FAULT_THREAD, 2);
	reached_end();
}

/* What is due is not purged: it is used again, and purged when it can be. */
static void test_fault_purge_of_idle_memory_loses_nothing(void **state)
{
	struct scene *s = test_array(1, sizeof(*s));
	time_t end = time(NULL) + 60;

	(void)state;
	for (unsigned with_thread = 0; with_thread < 2; with_thread++) {
		fault_arm(FAULT_THREAD, with_thread ? 0 : 1);
		s->pool = pool_or_null(s, "64M");
		fault_arm(FAULT_THREAD, 0);
		assert_int_equal(pp_pool_set(s->pool, "purge_delay", "50ms"),
				 0);
		fault_arm(FAULT_PURGE, FAULT_ALWAYS);
		for (unsigned i = 0; i < 10; i++) {
			while (s->nr_runs < 300 && take(s, 40, 1, 0))
				;
			give_all(s);
			pool_drain(s->pool);
			usleep(20000);
		}
		assert_int_equal(pp_stat_read(s->pool, PP_STAT_PURGED_PAGES),
				 0);
		assert_int_equal(pp_pool_check(s->pool), 0);
		fault_arm(FAULT_PURGE, 0);
		/* What was refused is not tried again until it was used. */
		while (!pp_stat_read(s->pool, PP_STAT_PURGED_PAGES) &&
		       time(NULL) < end) {
			while (s->nr_runs < 300 && take(s, 40, 1, 0))
				;
			give_all(s);
			pool_drain(s->pool);
			usleep(100000);
		}
		assert_true(pp_stat_read(s->pool, PP_STAT_PURGED_PAGES) > 0);
		end_pool(s->pool);
	}
	free(s);
	reached_end();
}

/* Every call of a point, not only the n-th. */
static void test_fault_always(void **state)
{
	static const enum fault_point points[] = {
		FAULT_PURGE, FAULT_MOVE, FAULT_RESET,
	};
	struct scene *s = test_array(1, sizeof(*s));

	(void)state;
	for (size_t i = 0; i < COUNT_OF(points); i++) {
		size_t nth = 1;

		/* Armed anew at each step of the scene that follows. */
		s->pool = pool_make("8M");
		for (; nth < 60; nth++) {
			fault_arm(points[i], 1);
			take(s, 1 + nth * 13, 1, 0);
			fault_arm(points[i], 1);
			if (nth % 3 == 0)
				resize(s, nth % s->nr_runs, nth * 20);
			fault_arm(points[i], 1);
			if (nth % 2 == 0)
				give(s, nth / 2 % s->nr_runs);
			assert_int_equal(pp_pool_check(s->pool), 0);
		}
		fault_arm(points[i], 0);
		give_all(s);
		end_pool(s->pool);
		memset(s, 0, sizeof(*s));
	}
	free(s);
	reached_end();
}

/*
 * Threads that come and go while storage or the key is refused: none is left
 * in a registry, and none is destroyed twice.
 */

struct crowd {
	struct pp_pool		*a, *b;
	pthread_barrier_t	barrier;
};

static void *crowd_thread(void *arg)
{
	struct crowd *c = arg;
	void *in_a, *in_b;

	in_a = pp_alloc_pages(c->a, 3, PP_NOWARN);
	in_b = pp_alloc_pages(c->b, 4, PP_NOWARN);
	pthread_barrier_wait(&c->barrier);
	thread_check(in_a && in_b);	/* without a cache it works too */
	pp_free_pages(c->a, in_a);
	pp_free_pages(c->b, in_b);
	return NULL;
}

static void run_crowd(struct crowd *c, enum fault_point point, uint32_t nth)
{
	pthread_t thread[6];

	pthread_barrier_init(&c->barrier, NULL, COUNT_OF(thread));
	fault_arm(point, nth);
	for (size_t i = 0; i < COUNT_OF(thread); i++)
		assert_int_equal(pthread_create(&thread[i], NULL, crowd_thread,
						c), 0);
	for (size_t i = 0; i < COUNT_OF(thread); i++)
		pthread_join(thread[i], NULL);
	fault_arm(point, 0);
	pthread_barrier_destroy(&c->barrier);
	assert_threads_ok();
	assert_int_equal(load_relaxed(&c->a->registry.nr_pcps), 0);
	assert_int_equal(load_relaxed(&c->b->registry.nr_pcps), 0);
	for_each_zone(zone, c->a->zones)
		assert_int_equal(load_relaxed(&zone->used_pages), 0);
	for_each_zone(zone, c->b->zones)
		assert_int_equal(load_relaxed(&zone->used_pages), 0);
}

static void test_fault_threads_without_caches_come_and_go(void **state)
{
	struct crowd c = { .a = pool_make("16M"), .b = pool_make("16M") };

	(void)state;
	for (uint32_t nth = 1; nth <= 14; nth++) {
		run_crowd(&c, FAULT_KEY, nth);
		run_crowd(&c, FAULT_STORAGE, nth);
		run_crowd(&c, FAULT_PURGE, nth);
	}
	pool_end(c.a);
	pool_end(c.b);
	reached_end();
}

/*
 * The limit is lowered with memory to purge in every block, and the kernel
 * refuses some of it: either other memory does, or nothing has changed.
 */

static struct pp_stats quiet_stats(struct pp_pool *pool)
{
	struct pp_stats s = pool_stats(pool);

	/* What a failed attempt may change. */
	s.backed_pages = s.purged_pages = 0;
	s.drains = s.idle_drains = s.reclaimd_runs = 0;
	return s;
}

static size_t fill_with_holes(struct scene *s)
{
	while (s->nr_runs < MAX_RUNS && take(s, 8, 1, 0))
		;
	for (size_t i = 0; i < s->nr_runs; i++)
		if (i % 3)
			give(s, i);
	return s->nr_runs;
}

static void check_kept(struct scene *s)
{
	for (size_t i = 0; i < s->nr_runs; i++)
		if (s->run[i].p)
			check_stamp(s, i, s->run[i].pages);
}

/* False once the point was not reached any more. */
static bool lower_with_fault(struct scene *s, uint32_t nth)
{
	struct pp_stats before, after;
	bool fired;
	int err;

	s->pool = pool_make("16M");
	assert_true(fill_with_holes(s) > 400);
	pp_pool_set(s->pool, "limit", "16M");	/* empties the cache */
	before = quiet_stats(s->pool);
	fault_arm(FAULT_PURGE, nth);
	err = pp_pool_set(s->pool, "limit", "8M");
	fired = !load_relaxed(&fault_countdown[FAULT_PURGE]);
	fault_arm(FAULT_PURGE, 0);
	after = quiet_stats(s->pool);
	if (err) {
		assert_int_equal(err, -EBUSY);
		assert_memory_equal(&before, &after, sizeof(before));
	} else {
		assert_int_equal(after.limit_pages, 2048);
	}
	assert_int_equal(pp_pool_check(s->pool), 0);
	check_kept(s);
	give_all(s);
	end_pool(s->pool);
	memset(s, 0, sizeof(*s));
	return fired;
}

static void test_fault_while_the_limit_is_lowered(void **state)
{
	struct scene *s = test_array(1, sizeof(*s));
	uint32_t nth = 1;

	(void)state;
	while (lower_with_fault(s, nth))
		assert_true(++nth < MAX_CALLS);
	assert_true(nth > 10);
	free(s);
	reached_end();
}

/* The kernel takes nothing at all, as under a seccomp filter. */
static void test_fault_limit_is_not_lowered_without_purging(void **state)
{
	struct scene *s = test_array(1, sizeof(*s));
	struct pp_stats before, after;
	int err;

	(void)state;
	s->pool = pool_make("16M");
	fill_with_holes(s);
	pp_pool_set(s->pool, "limit", "16M");
	before = quiet_stats(s->pool);
	fault_arm(FAULT_PURGE, FAULT_ALWAYS);
	err = pp_pool_set(s->pool, "limit", "8M");
	fault_arm(FAULT_PURGE, 0);
	assert_int_equal(err, -EBUSY);
	after = quiet_stats(s->pool);
	assert_memory_equal(&before, &after, sizeof(before));
	/* Nothing is withheld: all of it can be had, in pages with memory. */
	while (s->nr_runs < MAX_RUNS && take(s, 1, 1, 0))
		;
	check_kept(s);
	assert_int_equal(pp_pool_check(s->pool), 0);
	give_all(s);
	end_pool(s->pool);
	free(s);
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_fault_key),	/* first: the key is made once */
		TEST(test_fault_reserve),
		TEST(test_fault_commit),
		TEST(test_fault_purge),
		TEST(test_fault_move),
		TEST(test_fault_reset),
		TEST(test_fault_storage),
		TEST(test_fault_eventfd),
		TEST(test_fault_thread),
		TEST(test_fault_purge_of_idle_memory_loses_nothing),
		TEST(test_fault_huge),
		TEST(test_fault_always),
		TEST(test_fault_while_the_limit_is_lowered),
		TEST(test_fault_limit_is_not_lowered_without_purging),
		TEST(test_fault_threads_without_caches_come_and_go),
	};

	test_clear_environment();
	return cmocka_run_group_tests_name("fault", tests, NULL, NULL);
}
