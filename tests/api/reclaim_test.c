/* SPDX-License-Identifier: MIT */
/*
 * Shrinkers as a program sees them: its caches together are larger than the
 * limit and no request fails; who is called when, and who is not; what a
 * callback may do; the background threads, which keep ahead, give up and come
 * back, and rest; and fork in the middle of it.
 *
 * PP_TEST_RECLAIM: requests of each thread (20000).
 */
#include "testing_store.h"

#include <fcntl.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/wait.h>

#include <pagepool/cache.h>
#include <pagepool/numa.h>

#define NR_THREADS	4
#define MAX_HELD	20000
/* For pp_pool_reclaim(): more than there is. */
#define EVERYTHING	1000000

/* What fills a pool: runs that no shrinker gives back. */
struct ballast {
	struct pp_pool	*pool;
	void		*run[MAX_HELD];
	size_t		nr;
};

static struct ballast *ballast_make(struct pp_pool *pool)
{
	struct ballast *b = test_array(1, sizeof(*b));

	b->pool = pool;
	return b;
}

static bool ballast_add(struct ballast *b, unsigned flags)
{
	assert_true(b->nr < MAX_HELD);
	b->run[b->nr] = pp_alloc_pages(b->pool, 1, flags | PP_NOWARN);
	if (!b->run[b->nr])
		return false;
	b->nr++;
	return true;
}

static size_t ballast_fill(struct ballast *b, unsigned flags)
{
	size_t before = b->nr;

	while (ballast_add(b, flags))
		;
	return b->nr - before;
}

static void ballast_drop(struct ballast *b)
{
	pp_free_bulk(b->pool, b->nr, b->run);
	b->nr = 0;
}

static void ballast_end(struct ballast *b)
{
	ballast_drop(b);
	free(b);
}

/* A shrinker that counts who calls it, and does what a test wants. */
struct spy {
	struct pp_pool		*pool;
	struct pp_shrinker_id	*id;
	_Atomic size_t		freeable;
	_Atomic unsigned	requests, reclaimds;
	_Atomic unsigned	flags;		/* all that were seen, or-ed */
	size_t			(*inside)(struct spy *, struct pp_shrink *);
	_Atomic(void *)		arg;
};

static void spy_note(struct spy *s, const struct pp_shrink *shrink)
{
	atomic_fetch_add(is_reclaimd() ? &s->reclaimds : &s->requests, 1);
	atomic_fetch_or(&s->flags, shrink->flags);
}

static size_t spy_count(void *arg, struct pp_shrink *shrink)
{
	struct spy *s = arg;

	spy_note(s, shrink);
	return s->freeable;
}

static size_t spy_scan(void *arg, struct pp_shrink *shrink)
{
	struct spy *s = arg;

	return s->inside ? s->inside(s, shrink) : 0;
}

static bool spy_try(struct spy *s, struct pp_pool *pool, unsigned flags)
{
	const struct pp_shrinker ops = {
		.struct_bytes = sizeof(ops), .name = "spy", .arg = s,
		.count = spy_count, .scan = spy_scan,
		.seeks = PP_SHRINKER_SEEKS, .flags = flags,
	};

	unsigned saved = pp_scope_enter(PP_MEMALLOC);	/* pools are full */
	int err;

	s->pool = pool;
	if (!s->freeable)
		s->freeable = 1000;
	err = pp_shrinker_register(pool, &ops, &s->id);
	pp_scope_leave(saved);
	return !err;
}

static void spy_register(struct spy *s, struct pp_pool *pool, unsigned flags)
{
	assert_true(spy_try(s, pool, flags));
}

static void test_shrinker_arguments_are_checked(void **state)
{
	struct pp_pool *pool = pool_make("16M");
	struct pp_shrinker good = {
		.struct_bytes = sizeof(good), .name = "good",
		.count = spy_count, .scan = spy_scan,
	}, bad;
	struct pp_shrinker_id *id = NULL, *second = NULL;
	char name[64];

	(void)state;
	assert_int_equal(pp_shrinker_register(NULL, &good, &id), -EINVAL);
	assert_int_equal(pp_shrinker_register(pool, NULL, &id), -EINVAL);
	assert_int_equal(pp_shrinker_register(pool, &good, NULL), -EINVAL);
#define REFUSED(change) \
	do { \
		bad = good; \
		bad.change; \
		assert_int_equal(pp_shrinker_register(pool, &bad, &id), \
				 -EINVAL); \
		assert_null(id); \
	} while (0)
	REFUSED(struct_bytes = 0);
	REFUSED(struct_bytes--);
	REFUSED(struct_bytes++);
	REFUSED(name = NULL);
	REFUSED(count = NULL);
	REFUSED(scan = NULL);
	REFUSED(flags = 4);
#undef REFUSED
	/* The struct and the name are the caller's; twice is two. */
	memset(name, 'n', sizeof(name));
	name[sizeof(name) - 1] = '\0';
	good.name = name;
	assert_int_equal(pp_shrinker_register(pool, &good, &id), 0);
	memset(name, 0x55, sizeof(name));
	good.name = "";
	assert_int_equal(pp_shrinker_register(pool, &good, &second), 0);
	memset(&good, 0x55, sizeof(good));
	assert_ptr_not_equal(id, second);
	assert_int_equal(pp_pool_destroy(pool), -EBUSY);
	pp_shrinker_unregister(NULL);
	pp_shrinker_unregister(id);
	assert_int_equal(pp_pool_destroy(pool), -EBUSY);
	pp_shrinker_unregister(second);
	pool_end(pool);
	reached_end();
}

/* Caches and the limit */

struct user {
	struct store	*store;
	struct rng	rng;
	unsigned	nr_gets;
	unsigned	flags;
};

static void *use_store(void *arg)
{
	struct user *u = arg;

	for (unsigned i = 0; i < u->nr_gets; i++) {
		size_t key = rng_below(&u->rng, u->store->nr_keys);

		thread_check(store_get(u->store, key, u->flags));
	}
	return NULL;
}

static void use_store_by_threads(struct store *s, unsigned nr_gets)
{
	struct user user[NR_THREADS];
	pthread_t thread[NR_THREADS];

	for (size_t i = 0; i < NR_THREADS; i++) {
		user[i] = (struct user){ s, rng_make((unsigned)i), nr_gets, 0 };
		assert_int_equal(pthread_create(&thread[i], NULL, use_store,
						&user[i]), 0);
	}
	for (size_t i = 0; i < NR_THREADS; i++)
		pthread_join(thread[i], NULL);
}

/* Sooner or later: requests may be at it each time that it looks. */
static bool reclaimd_calls(struct store *s)
{
	return wait_until(s->by_reclaimd > 0 ||
			  (use_store_by_threads(s, 200), false), 20000);
}

/* Twice the limit and more, in runs of @run_pages. */
static void play_store(const char *fake_nodes, size_t run_pages)
{
	struct pp_pool *pool = pool_make_with("32M", "fake_nodes", fake_nodes);
	struct store *s = store_make(pool, 20000 / run_pages, run_pages);
	unsigned nr = (unsigned)test_number("PP_TEST_RECLAIM", 20000);
	struct pp_stats st;

	store_register(s, 0);
	use_store_by_threads(s, nr / (unsigned)run_pages + 500);
	st = pool_stats(pool);
	print_message("# runs of %zu on %s nodes: %zu hits, %zu misses, "
		      "%zu dropped, direct %lld, reclaimd %lld runs %lld pages,"
		      " drains %lld, throttled %lld\n", run_pages, fake_nodes,
		      s->hits, s->misses, s->dropped,
		      (long long)st.direct_reclaims,
		      (long long)st.reclaimd_runs, (long long)st.reclaimd_pages,
		      (long long)st.drains, (long long)st.throttled);
	assert_int_equal(s->failures, 0);
	assert_int_equal(st.failures, 0);
	assert_true(s->dropped > 0 && s->hits > 0);
	/* The background thread keeps ahead.  A few long runs are more than
	 * low - min: requests may be first. */
	if (run_pages == 1) {
		assert_true(reclaimd_calls(s));
		assert_true((size_t)st.direct_reclaims < s->misses / 10);
	}
	/* Not everything is dropped each time. */
	assert_true(s->hits > s->misses / 8);
	assert_int_equal(pp_pool_check(pool), 0);
	store_end(s);
	pool_end(pool);
	assert_threads_ok();
}

static void test_reclaim_caches_larger_than_the_limit_fail_nowhere(void **state)
{
	(void)state;
	play_store("1", 1);
	play_store("1", 7);
	play_store("1", 64);
	reached_end();
}

static void test_reclaim_on_several_nodes_fails_nowhere(void **state)
{
	(void)state;
	play_store("4", 1);
	play_store("3", 16);
	reached_end();
}

/* What a callback may do */

static size_t call_everything(struct spy *s, struct pp_shrink *shrink)
{
	struct pp_stats st = { .struct_bytes = sizeof(st) };
	struct spy *second = test_array(1, sizeof(*second));
	struct pp_cache *cache;
	char text[4096];
	void *run;

	run = pp_alloc_pages(s->pool, 3, PP_NOWARN);
	if (run) {
		memset(run, 1, 3 * PAGE);
		run = pp_realloc_pages(s->pool, run, 2, PP_NOWARN);
		pp_free_pages(s->pool, run);
	}
	if (pp_cache_create(s->pool, "inner", 100, 0, &cache) == 0) {
		pp_cache_free(cache, pp_cache_alloc(cache, PP_NOWARN));
		thread_check(pp_cache_destroy(cache) == 0);
	}
	thread_check(pp_pool_check(s->pool) == 0);
	thread_check(pp_stat_snapshot(s->pool, &st) == 0);
	thread_check(pp_report(s->pool, PP_FORMAT_JSON, text,
			       sizeof(text)) > 0);
	thread_check(pp_pool_set(s->pool, "min_free", "1M") == 0);
	thread_check(pp_pool_reclaim(s->pool, 1) == -EDEADLK);
	thread_check(pp_pool_drain(s->pool) == 0);
	/* Maybe in the pool's own thread, which no assertion may leave. */
	thread_check(spy_try(second, s->pool, 0));
	pp_shrinker_unregister(second->id);
	free(second);
	return shrink->nr_to_scan;
}

static void test_reclaim_callbacks_hold_no_lock(void **state)
{
	struct pp_pool *pool = pool_make_one_zone("16M");
	struct ballast *b = ballast_make(pool);
	struct spy s = { .inside = call_everything };

	(void)state;
	alarm(100);
	spy_register(&s, pool, 0);
	assert_true(pp_pool_reclaim(pool, EVERYTHING) >= 0);
	assert_true(s.requests > 0);
	s.requests = 0;
	/* Until requests and the background thread have both called. */
	while (!s.requests && ballast_add(b, 0))
		;
	/* The other may have been inside all the time. */
	assert_true(wait_until((ballast_add(b, 0), s.requests > 0), 10000));
	assert_true(wait_until(s.reclaimds > 0, 10000));
	pp_shrinker_unregister(s.id);
	ballast_end(b);
	pool_end(pool);
	alarm(0);
	assert_threads_ok();
	reached_end();
}

static _Thread_local unsigned depth;

/* Takes what it can get, once. */
static size_t take_reserve(struct spy *s, struct pp_shrink *shrink)
{
	struct ballast *b = s->arg;

	(void)shrink;
	thread_check(++depth == 1);
	if (!is_reclaimd() && !b->nr)
		while (ballast_add(b, 0))
			;
	depth--;
	return 0;
}

static void test_reclaim_callbacks_are_served_from_the_reserve(void **state)
{
	struct pp_pool *pool = pool_make_one_zone("16M");
	struct ballast *b = ballast_make(pool), *inner = ballast_make(pool);
	struct spy s = { .inside = take_reserve, .arg = inner };
	struct pp_stats st;

	(void)state;
	ballast_fill(b, 0);
	assert_int_equal(pp_pool_drain(pool), 0);
	ballast_fill(b, 0);
	spy_register(&s, pool, 0);
	st = pool_stats(pool);
	assert_true(st.free_pages > 0 && st.free_pages <= st.min_pages);
	assert_false(ballast_add(b, 0));
	assert_true(s.requests > 0);
	/* All of it, but for what its own bookkeeping took. */
	assert_in_range(inner->nr, st.free_pages - 16, st.free_pages);
	pp_shrinker_unregister(s.id);
	ballast_end(inner);
	ballast_end(b);
	pool_end(pool);
	assert_threads_ok();
	reached_end();
}

static size_t spoil_errno(struct spy *s, struct pp_shrink *shrink)
{
	struct ballast *b = s->arg;

	errno = EXDEV;
	if (is_reclaimd() || !b->nr)
		return 0;
	pp_free_pages(b->pool, b->run[--b->nr]);
	errno = EXDEV;
	return shrink->nr_to_scan;
}

static void test_reclaim_success_leaves_errno_alone(void **state)
{
	struct pp_pool *pool = pool_make_one_zone("16M");
	struct ballast *b = ballast_make(pool);
	struct spy s = { .inside = spoil_errno, .arg = b };
	void *run;

	(void)state;
	ballast_fill(b, 0);
	spy_register(&s, pool, 0);
	errno = 0;
	run = pp_alloc_pages(pool, 1, 0);
	assert_non_null(run);
	assert_int_equal(errno, 0);
	assert_true(s.requests > 0);
	pp_shrinker_unregister(s.id);
	pp_free_pages(pool, run);
	ballast_end(b);
	pool_end(pool);
	reached_end();
}

/* Scopes and flags */

enum { PLAIN, IO, CLEAN, NR_KINDS };

/* Who of the three is called by requests of this thread, as bits. */
static unsigned called_by(struct ballast *b, struct spy *spies, unsigned flags)
{
	unsigned bits = 0;

	for (unsigned i = 0; i < NR_KINDS; i++)
		atomic_store(&spies[i].requests, 0);
	for (unsigned i = 0; i < 5; i++)
		assert_false(ballast_add(b, flags));
	for (unsigned i = 0; i < NR_KINDS; i++)
		bits |= (atomic_load(&spies[i].requests) != 0) << i;
	return bits;
}

struct scope_fixture {
	struct pp_pool	*pool;
	struct ballast	*b;
	struct spy	spy[NR_KINDS];
};

#define ALL_KINDS	(1u << PLAIN | 1u << IO | 1u << CLEAN)

static void scope_begin(struct scope_fixture *f)
{
	static const unsigned flags[] = {
		0, PP_SHRINKER_IO, PP_SHRINKER_CLEAN,
	};

	memset(f, 0, sizeof(*f));
	f->pool = pool_make_one_zone("16M");
	f->b = ballast_make(f->pool);
	for (unsigned i = 0; i < NR_KINDS; i++)
		spy_register(&f->spy[i], f->pool, flags[i]);
	ballast_fill(f->b, PP_NOFS);
}

static void scope_end(struct scope_fixture *f)
{
	for (unsigned i = 0; i < NR_KINDS; i++)
		pp_shrinker_unregister(f->spy[i].id);
	ballast_end(f->b);
	pool_end(f->pool);
}

static void test_reclaim_flags_decide_who_is_called(void **state)
{
	struct scope_fixture f;

	(void)state;
	scope_begin(&f);
	assert_int_equal(called_by(f.b, f.spy, 0), ALL_KINDS);
	assert_int_equal(called_by(f.b, f.spy, PP_NOIO),
			 ALL_KINDS & ~(1u << IO));
	assert_int_equal(called_by(f.b, f.spy, PP_NOFS), 0);
	assert_int_equal(called_by(f.b, f.spy, PP_NOWAIT), 0);
	assert_int_equal(called_by(f.b, f.spy, PP_NORETRY), 0);
	assert_int_equal(called_by(f.b, f.spy, PP_NOFS | PP_NOIO), 0);
	/* The flags of who is in need are seen. */
	for (unsigned i = 0; i < NR_KINDS; i++)
		f.spy[i].flags = 0;
	called_by(f.b, f.spy, PP_NOIO);
	assert_true(f.spy[PLAIN].flags & PP_NOIO);
	/* Half of the reserve, and then all of it. */
	ballast_fill(f.b, PP_ATOMIC);
	assert_int_equal(called_by(f.b, f.spy, PP_ATOMIC), 0);
	ballast_fill(f.b, PP_MEMALLOC);
	assert_int_equal(called_by(f.b, f.spy, PP_MEMALLOC), 1u << CLEAN);
	assert_int_equal(called_by(f.b, f.spy, PP_MEMALLOC | PP_NOWAIT), 0);
	scope_end(&f);
	reached_end();
}

static void *call_in_thread(void *arg)
{
	struct scope_fixture *f = arg;

	/* The scope is that of the thread that entered it. */
	thread_check(!ballast_add(f->b, 0));
	thread_check(atomic_load(&f->spy[PLAIN].requests) > 0);
	thread_check(atomic_load(&f->spy[IO].requests) > 0);
	thread_check(pp_scope_enter(0) == 0);
	return NULL;
}

static void test_reclaim_scopes_nest_and_are_the_threads_own(void **state)
{
	struct scope_fixture f;
	unsigned outer, inner;
	pthread_t thread;

	(void)state;
	scope_begin(&f);
	outer = pp_scope_enter(PP_NOIO);
	assert_int_equal(called_by(f.b, f.spy, 0), ALL_KINDS & ~(1u << IO));
	inner = pp_scope_enter(PP_NOFS);
	assert_int_equal(called_by(f.b, f.spy, 0), 0);
	pthread_create(&thread, NULL, call_in_thread, &f);
	pthread_join(thread, NULL);
	assert_int_equal(pp_pool_reclaim(f.pool, 1), 0);
	pp_scope_leave(inner);
	assert_int_equal(called_by(f.b, f.spy, 0), ALL_KINDS & ~(1u << IO));
	assert_int_equal(called_by(f.b, f.spy, PP_NOFS), 0);
	/* Entered twice, left twice. */
	inner = pp_scope_enter(PP_NOIO);
	pp_scope_leave(inner);
	assert_int_equal(called_by(f.b, f.spy, 0), ALL_KINDS & ~(1u << IO));
	pp_scope_leave(outer);
	assert_int_equal(called_by(f.b, f.spy, 0), ALL_KINDS);
	/* Nothing but the three can be entered. */
	outer = pp_scope_enter(PP_NOWAIT | PP_HIGH | PP_ZERO);
	assert_int_equal(called_by(f.b, f.spy, 0), ALL_KINDS);
	pp_scope_leave(outer);
	outer = pp_scope_enter(PP_MEMALLOC);
	assert_true(ballast_fill(f.b, 0) > 0);
	assert_true(pool_stats(f.pool).free_pages <= 16);
	assert_int_equal(called_by(f.b, f.spy, 0), 1u << CLEAN);
	assert_int_equal(pp_pool_reclaim(f.pool, 1), -EDEADLK);
	pp_scope_leave(outer);
	assert_int_equal(called_by(f.b, f.spy, 0), ALL_KINDS);
	scope_end(&f);
	assert_threads_ok();
	reached_end();
}

static size_t want_lock(struct spy *s, struct pp_shrink *shrink)
{
	pthread_mutex_lock(s->arg);
	pthread_mutex_unlock(s->arg);
	return shrink->nr_to_scan;
}

/* The background thread waits for a lock whose holder wants memory. */
static void test_reclaim_lock_holder_with_nofs_fails_and_goes_on(void **state)
{
	struct pp_pool *pool = pool_make_one_zone("16M");
	struct ballast *b = ballast_make(pool);
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	struct spy s = { .inside = want_lock, .arg = &lock };
	uint64_t begin;

	(void)state;
	alarm(100);
	spy_register(&s, pool, 0);
	pthread_mutex_lock(&lock);
	ballast_fill(b, PP_NOFS);
	assert_true(wait_until(s.reclaimds > 0, 10000));
	for (unsigned i = 0; i < 3; i++) {
		begin = test_now_ms();
		assert_false(ballast_add(b, PP_NOFS));
		assert_false(ballast_add(b, PP_NOFS | PP_HIGH) &&
			     ballast_fill(b, PP_NOFS | PP_HIGH) == 0);
		assert_true(test_now_ms() - begin < 10000);
	}
	pthread_mutex_unlock(&lock);
	pp_shrinker_unregister(s.id);
	ballast_end(b);
	pool_end(pool);
	alarm(0);
	reached_end();
}

/* pp_pool_reclaim() */

/* Used pages are @pages, and what caches take of threads that have called back
 * for the first time. */
static void expect_used(struct pp_pool *pool, int64_t pages)
{
	assert_in_range(pool_stats(pool).used_pages, pages,
			pages + 16 * (int64_t)CACHE_PAGES);
}

static void test_reclaim_by_request_returns_what_was_freed(void **state)
{
	struct pp_pool *pool = pool_make_one_zone("32M");
	struct store *s = store_make(pool, 3000, 1);
	int64_t used;
	long got;

	(void)state;
	assert_int_equal(pp_pool_reclaim(NULL, 1), -EINVAL);
	assert_int_equal(pp_pool_reclaim(pool, 0), 0);
	assert_int_equal(pp_pool_reclaim(pool, 100), 0);
	store_register(s, 0);
	assert_int_equal(pp_pool_drain(pool), 0);
	assert_int_equal(pp_pool_reclaim(pool, 100), 0);
	for (size_t i = 0; i < 3000; i++)
		assert_true(store_get(s, i, 0));
	assert_int_equal(pp_pool_drain(pool), 0);
	used = pool_stats(pool).used_pages;
	assert_int_equal(pp_pool_reclaim(pool, 0), 0);
	assert_int_equal(s->nr_held, 3000);
	got = pp_pool_reclaim(pool, 100);
	assert_in_range(got, 100, 100 + 128);
	assert_int_equal(s->nr_held, 3000 - got);
	expect_used(pool, used - got);
	/* More than there is: all of it. */
	got = pp_pool_reclaim(pool, EVERYTHING);
	assert_int_equal(s->nr_held, 0);
	expect_used(pool, used - 3000);
	assert_true(got > 2500);
	store_end(s);
	pool_end(pool);
	assert_threads_ok();
	reached_end();
}

/* What threads have cached is freed first. */
static void test_reclaim_by_request_takes_cached_pages_first(void **state)
{
	struct pp_pool *pool = pool_make_one_zone("32M");
	struct store *s = store_make(pool, 100, 1);
	struct ballast *b = ballast_make(pool);
	int64_t cached;

	(void)state;
	store_register(s, 0);
	for (size_t i = 0; i < 100; i++)
		assert_true(store_get(s, i, 0));
	for (unsigned i = 0; i < 40; i++)
		ballast_add(b, 0);
	ballast_drop(b);
	cached = pool_stats(pool).cached_pages;
	assert_true(cached >= 10);
	assert_in_range(pp_pool_reclaim(pool, 10), 10, cached);
	assert_int_equal(s->nr_held, 100);
	ballast_end(b);
	store_end(s);
	pool_end(pool);
	reached_end();
}

/* The background thread */

/* 16 runs of priorities 12 .. 1. */
#define HOPELESS_CALLS	(16 * 12)

static size_t drop_ballast(struct spy *s, struct pp_shrink *shrink)
{
	struct ballast *b = s->arg;
	size_t n = 0;

	if (!b)
		return 0;
	while (n < shrink->nr_to_scan && b->nr) {
		pp_free_pages(b->pool, b->run[--b->nr]);
		n++;
	}
	s->freeable = b->nr;
	return n;
}

/* Callbacks that do not return */

struct gate {
	sem_t	inside, leave;
};

static size_t pass_gate(struct spy *s, struct pp_shrink *shrink)
{
	struct gate *g = s->arg;

	(void)shrink;
	if (!g)
		return 0;	/* it stands open */
	sem_post(&g->inside);
	while (sem_wait(&g->leave))
		;
	return 0;
}

struct asker {
	struct pp_pool	*pool;
	void		*run;
};

static void *ask(void *arg)
{
	struct asker *a = arg;

	a->run = pp_alloc_pages(a->pool, 1, PP_NOWARN);
	return NULL;
}

/* A request, or the background thread, is in a shrinker and stays there. */
static void test_reclaim_stuck_shrinker_holds_nobody(void **state)
{
	struct pp_pool *pool = pool_make_one_zone("16M");
	struct ballast *b = ballast_make(pool), *c = ballast_make(pool);
	struct gate g;
	struct spy stuck = { .inside = pass_gate, .arg = &g };
	struct spy other = { .inside = drop_ballast, .arg = b };
	struct asker a = { .pool = pool };
	pthread_t thread;
	uint64_t begin;

	(void)state;
	alarm(100);
	sem_init(&g.inside, 0, 0);
	sem_init(&g.leave, 0, 0);
	ballast_fill(b, PP_NOFS);
	spy_register(&stuck, pool, 0);
	pthread_create(&thread, NULL, ask, &a);
	while (sem_wait(&g.inside))
		;
	for (unsigned i = 0; i < 3; i++) {
		begin = test_now_ms();
		assert_false(ballast_add(c, 0));
		assert_true(test_now_ms() - begin < 10000);
	}
	/* Others are asked as ever. */
	other.freeable = b->nr;
	spy_register(&other, pool, 0);
	assert_true(ballast_add(c, 0));
	/* And it is asked again once it has returned. */
	stuck.arg = NULL;
	sem_post(&g.leave);
	pthread_join(thread, NULL);
	pp_free_pages(pool, a.run);
	/* Or the background thread, which may take its time. */
	stuck.requests = 0;
	assert_true(wait_until((pp_pool_reclaim(pool, EVERYTHING),
				stuck.requests > 0), 10000));
	pp_shrinker_unregister(other.id);
	pp_shrinker_unregister(stuck.id);
	ballast_end(c);
	ballast_end(b);
	pool_end(pool);
	alarm(0);
	reached_end();
}

static void test_reclaimd_gives_up_after_16_runs_until_a_success(void **state)
{
	struct pp_pool *pool = pool_make_one_zone("16M");
	struct ballast *b = ballast_make(pool), *c = ballast_make(pool);
	struct spy s = { .inside = drop_ballast };

	(void)state;
	spy_register(&s, pool, 0);
	/* Nobody but the background thread calls. */
	while (pool_stats(pool).free_pages > pool_stats(pool).min_pages + 8)
		assert_true(ballast_add(b, PP_NOFS));
	assert_true(wait_until(s.reclaimds >= HOPELESS_CALLS, 20000));
	for (unsigned i = 0; i < 4; i++) {
		ballast_add(b, PP_NOFS);
		usleep(50000);
	}
	assert_int_equal(s.reclaimds, HOPELESS_CALLS);
	assert_int_equal(s.requests, 0);
	/* A request that reclaims in vain changes nothing. */
	ballast_fill(b, PP_NOFS);
	assert_false(ballast_add(b, 0));
	assert_true(s.requests > 0);
	usleep(50000);
	assert_int_equal(s.reclaimds, HOPELESS_CALLS);
	/* One that frees something does. */
	s.freeable = b->nr;
	s.arg = b;
	assert_false(ballast_add(c, 0) && !ballast_add(c, 0));
	s.arg = NULL;
	s.freeable = 1000;
	usleep(100000);
	atomic_store(&s.reclaimds, 0);
	ballast_fill(b, PP_NOFS);
	assert_true(wait_until(s.reclaimds >= HOPELESS_CALLS, 20000));
	usleep(50000);
	assert_int_equal(s.reclaimds, HOPELESS_CALLS);
	pp_shrinker_unregister(s.id);
	ballast_end(c);
	ballast_end(b);
	pool_end(pool);
	reached_end();
}

static void test_reclaimd_is_revived_by_a_new_shrinker(void **state)
{
	struct pp_pool *pool = pool_make_one_zone("16M");
	struct ballast *b = ballast_make(pool), *c = ballast_make(pool);
	struct spy s = { .inside = drop_ballast, .arg = b };
	struct pp_stats st;

	(void)state;
	ballast_fill(b, 0);	/* hopeless: there is no shrinker */
	usleep(50000);
	spy_register(&s, pool, 0);
	s.freeable = b->nr;
	ballast_add(c, PP_HIGH | PP_NOFS);
	assert_true(wait_until(s.reclaimds > 0, 10000));
	assert_true(wait_until(pool_stats(pool).free_pages >
			       pool_stats(pool).high_pages, 10000));
	st = pool_stats(pool);
	/* And not far beyond it. */
	assert_true(st.free_pages < st.high_pages + 1000);
	pp_shrinker_unregister(s.id);
	ballast_end(c);
	ballast_end(b);
	pool_end(pool);
	reached_end();
}

static void test_reclaimd_rests_when_nothing_happens(void **state)
{
	struct pp_pool *pool = pool_make_with("32M", "purge_delay", "500ms");
	struct store *s = store_make(pool, 20000, 1);
	int64_t runs = -1, now;
	unsigned quiet_s = 0;

	(void)state;
	store_register(s, 0);
	use_store_by_threads(s, 3000);
	for (unsigned i = 0; i < 40 && quiet_s < 3; i++) {
		now = pp_stat_read(pool, PP_STAT_RECLAIMD_RUNS);
		quiet_s = now == runs ? quiet_s + 1 : 0;
		runs = now;
		usleep(1000000);
	}
	assert_true(quiet_s >= 3);
	/* And is there again at once. */
	use_store_by_threads(s, 3000);
	assert_true(wait_until(pp_stat_read(pool, PP_STAT_RECLAIMD_RUNS) > runs,
			       10000));
	assert_int_equal(s->failures, 0);
	store_end(s);
	pool_end(pool);
	assert_threads_ok();
	reached_end();
}

/* One thread a node, which has its shrinkers called until there is no hope. */

static void test_reclaimd_is_one_thread_a_node(void **state)
{
	struct pp_pool *pool = pool_make_with("64M", "fake_nodes", "4");
	struct spy s = { .requests = 0 };
	struct ballast *b[4];
	struct pp_stats st = { .struct_bytes = sizeof(st) };

	(void)state;
	assert_true(wait_until(count_reclaimds(NULL, 0) == 4, 10000));
	spy_register(&s, pool, 0);
	for (unsigned i = 0; i < 4; i++) {
		b[i] = ballast_make(pool);
		do {
			b[i]->run[b[i]->nr] =
				pp_numa_alloc(pool, i, 1, PP_THISNODE |
					      PP_NOFS | PP_NOWARN);
			if (!b[i]->run[b[i]->nr])
				break;
			b[i]->nr++;
			assert_int_equal(pp_numa_snapshot(pool, i, &st), 0);
		} while (st.free_pages >= st.low_pages - 8);
		assert_true(wait_until(s.reclaimds == (i + 1) * HOPELESS_CALLS,
				       10000));
	}
	assert_int_equal(count_reclaimds(NULL, 0), 4);
	pp_shrinker_unregister(s.id);
	for (unsigned i = 0; i < 4; i++)
		ballast_end(b[i]);
	pool_end(pool);
	assert_true(wait_until(count_reclaimds(NULL, 0) == 0, 10000));
	reached_end();
}

/* Signals, descriptors, fork */

static void test_reclaimd_takes_no_signal_and_no_descriptor(void **state)
{
	int status;
	pid_t child = fork();

	(void)state;
	if (!child) {
		struct pp_pool *pool;
		struct store *s;
		char path[64], line[256];
		unsigned long long blocked = 0;
		sigset_t all;
		int tid;
		FILE *f;

		alarm(100);
		sigfillset(&all);
		pthread_sigmask(SIG_BLOCK, &all, NULL);
		pool = pool_make_one_zone("16M");
		if (!wait_until(count_reclaimds(&tid, 1) == 1, 10000))
			_exit(1);
		snprintf(path, sizeof(path), "/proc/self/task/%d/status", tid);
		f = fopen(path, "r");
		while (f && fgets(line, sizeof(line), f))
			sscanf(line, "SigBlk: %llx", &blocked);
		/* All but KILL and STOP, and libc's own. */
		if ((blocked | 1ull << 8 | 1ull << 18 | 3ull << 31) != ~0ull)
			_exit(2);
		for (int fd = 0; fd < 1024; fd++)
			close(fd);
		s = store_make(pool, 20000, 1);
		store_register(s, 0);
		use_store_by_threads(s, 5000);
		if (s->failures || thread_failures)
			_exit(3);
		if (!reclaimd_calls(s))
			_exit(4);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	reached_end();
}

/* In the child: no thread, and requests do the work. */
static int child_works_inline(struct store *s, struct spy *io)
{
	struct pp_pool *pool = s->pool;
	int64_t runs = pp_stat_read(pool, PP_STAT_RECLAIMD_RUNS);

	alarm(100);
	if (count_reclaimds(NULL, 0) != 0)
		return 1;
	s->by_reclaimd = 0;
	atomic_store(&io->requests, 0);
	for (size_t i = 0; i < s->nr_keys; i++)
		if (!store_get(s, i, PP_NOIO))
			return 2;
	if (s->by_reclaimd || !s->by_request)
		return 3;
	/* Below low, and that served by what a request did beside itself; but
	 * never by what its flags forbid. */
	if (atomic_load(&io->requests))
		return 4;
	atomic_store(&s->by_request, 0);
	for (size_t i = 0; i < 200; i++)
		store_get(s, i, PP_NORETRY);
	if (atomic_load(&io->requests) || s->by_request)
		return 5;
	for (size_t i = 0; i < s->nr_keys; i++)
		if (!store_get(s, i, 0))
			return 6;
	if (!atomic_load(&io->requests))
		return 7;
	if (pp_stat_read(pool, PP_STAT_RECLAIMD_RUNS) != runs ||
	    pp_pool_check(pool) || thread_failures)
		return 8;
	return 0;
}

static void test_reclaim_child_of_a_fork_does_it_inline(void **state)
{
	struct pp_pool *pool = pool_make_one_zone("16M");
	struct store *s = store_make(pool, 8000, 1);
	struct spy io = { .freeable = 0 };
	int status;
	pid_t child;

	(void)state;
	store_register(s, 0);
	spy_register(&io, pool, PP_SHRINKER_IO);
	use_store_by_threads(s, 1000);
	assert_true(wait_until(count_reclaimds(NULL, 0) == 1, 10000));
	child = fork();
	if (!child)
		_exit(child_works_inline(s, &io));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	/* The parent's is at work as before. */
	s->by_reclaimd = 0;
	use_store_by_threads(s, 5000);
	assert_true(reclaimd_calls(s));
	pp_shrinker_unregister(io.id);
	store_end(s);
	pool_end(pool);
	assert_threads_ok();
	reached_end();
}

struct held_up {
	pthread_barrier_t	inside, leave;
};

static size_t hold_up(struct spy *s, struct pp_shrink *shrink)
{
	struct held_up *h = s->arg;

	(void)shrink;
	if (h && !is_reclaimd()) {
		s->arg = NULL;
		pthread_barrier_wait(&h->inside);
		pthread_barrier_wait(&h->leave);
	}
	return PP_SHRINK_STOP;
}

static void *reclaim_in_thread(void *arg)
{
	pp_pool_reclaim(arg, EVERYTHING);
	return NULL;
}

/* The thread sanitizer takes the child's new thread for the one it lost. */
#ifdef __SANITIZE_THREAD__
#define CHILD_MAY_MAKE_THREADS	0
#else
#define CHILD_MAY_MAKE_THREADS	1
#endif

static void test_reclaim_child_unregisters_under_a_lost_thread(void **state)
{
	struct pp_pool *pool;
	struct held_up h;
	struct spy s = { .inside = hold_up, .arg = &h };
	pthread_t thread;
	int status;
	pid_t child;

	(void)state;
	if (!CHILD_MAY_MAKE_THREADS)
		test_skip("not under the thread sanitizer");
	pool = pool_make_one_zone("16M");
	pthread_barrier_init(&h.inside, NULL, 2);
	pthread_barrier_init(&h.leave, NULL, 2);
	spy_register(&s, pool, 0);
	pthread_create(&thread, NULL, reclaim_in_thread, pool);
	pthread_barrier_wait(&h.inside);
	child = fork();
	if (!child) {
		alarm(60);
		s.arg = NULL;
		if (pp_pool_reclaim(pool, EVERYTHING) < 0)
			_exit(1);
		pp_shrinker_unregister(s.id);
		_exit(pp_pool_check(pool) || pp_pool_destroy(pool));
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	pthread_barrier_wait(&h.leave);
	pthread_join(thread, NULL);
	pp_shrinker_unregister(s.id);
	pool_end(pool);
	reached_end();
}

static size_t fork_inside(struct spy *s, struct pp_shrink *shrink)
{
	struct ballast *b = s->arg;
	int status;
	pid_t child;

	if (is_reclaimd() || !b)
		return PP_SHRINK_STOP;
	s->arg = NULL;
	child = fork();
	if (!child) {
		alarm(60);
		/* Still a callback here, and all of its rules. */
		if (pp_pool_reclaim(s->pool, 1) != -EDEADLK ||
		    !ballast_add(b, 0) || pp_pool_check(s->pool))
			_exit(1);
		_exit(0);
	}
	thread_check(waitpid(child, &status, 0) == child);
	thread_check(status == 0);
	return shrink->nr_to_scan;
}

static void test_reclaim_callback_may_fork(void **state)
{
	struct pp_pool *pool = pool_make_one_zone("16M");
	struct ballast *b = ballast_make(pool);
	struct spy s = { .inside = fork_inside };

	(void)state;
	ballast_fill(b, PP_NOFS);
	s.arg = b;
	spy_register(&s, pool, 0);
	ballast_add(b, 0);
	assert_null(s.arg);
	pp_shrinker_unregister(s.id);
	ballast_end(b);
	pool_end(pool);
	assert_threads_ok();
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_shrinker_arguments_are_checked),
		TEST(test_reclaim_caches_larger_than_the_limit_fail_nowhere),
		TEST(test_reclaim_on_several_nodes_fails_nowhere),
		TEST(test_reclaim_callbacks_hold_no_lock),
		TEST(test_reclaim_callbacks_are_served_from_the_reserve),
		TEST(test_reclaim_success_leaves_errno_alone),
		TEST(test_reclaim_flags_decide_who_is_called),
		TEST(test_reclaim_scopes_nest_and_are_the_threads_own),
		TEST(test_reclaim_lock_holder_with_nofs_fails_and_goes_on),
		TEST(test_reclaim_by_request_returns_what_was_freed),
		TEST(test_reclaim_by_request_takes_cached_pages_first),
		TEST(test_reclaim_stuck_shrinker_holds_nobody),
		TEST(test_reclaimd_gives_up_after_16_runs_until_a_success),
		TEST(test_reclaimd_is_revived_by_a_new_shrinker),
		TEST(test_reclaimd_rests_when_nothing_happens),
		TEST(test_reclaimd_is_one_thread_a_node),
		TEST(test_reclaimd_takes_no_signal_and_no_descriptor),
		TEST(test_reclaim_child_of_a_fork_does_it_inline),
		TEST(test_reclaim_child_unregisters_under_a_lost_thread),
		TEST(test_reclaim_callback_may_fork),
	};

	test_clear_environment();
	return cmocka_run_group_tests_name("reclaim", tests, NULL, NULL);
}
