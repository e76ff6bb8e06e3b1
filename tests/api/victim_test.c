/* SPDX-License-Identifier: MIT */
/*
 * Victims as a program sees them: who is told to end, in which order, one at a
 * time and never some; what happens to those that do not end, and to callbacks
 * that do not return; notifiers before them; off and on; what a victim's own
 * threads may still take.
 */
#include "testing.h"

#include <sched.h>
#include <semaphore.h>

#include <pagepool/cache.h>
#include <pagepool/reclaim.h>

#define MAX_RUNS	5000

/* Runs of one page, which one thread at a time has to do with. */
struct runs {
	void	*run[MAX_RUNS];
	size_t	nr;
};

static bool runs_add(struct runs *r, struct pp_pool *pool, unsigned flags)
{
	assert_true(r->nr < MAX_RUNS);
	r->run[r->nr] = pp_alloc_pages(pool, 1, flags | PP_NOWARN);
	if (!r->run[r->nr])
		return false;
	r->nr++;
	return true;
}

static void runs_fill(struct runs *r, struct pp_pool *pool, unsigned flags)
{
	while (runs_add(r, pool, flags))
		;
}

static void runs_drop(struct runs *r, struct pp_pool *pool)
{
	pp_free_bulk(pool, r->nr, r->run);
	r->nr = 0;
}

/* A part of the program that can end. */
struct tenant {
	struct pp_pool		*pool;
	struct pp_victim_id	*id;
	struct runs		runs;
	_Atomic unsigned	nr_cancels, nr_forces;
	unsigned		turn;		/* when it was cancelled */
	bool			ends;		/* in cancel() */
	bool			blocks;
	sem_t			inside, leave;
};

/* A victim that was skipped stays under way, for the tests. */
static _Atomic unsigned turns, under_way, nr_skipped;

static size_t tenant_usage(void *arg)
{
	struct tenant *t = arg;

	return t->runs.nr * PAGE;
}

static void tenant_end(struct tenant *t)
{
	runs_drop(&t->runs, t->pool);
	atomic_fetch_sub(&under_way, 1);
	pp_victim_exited(t->id);
}

static void tenant_cancel(void *arg)
{
	struct tenant *t = arg;

	thread_check(atomic_fetch_add(&under_way, 1) == nr_skipped);
	atomic_fetch_add(&t->nr_cancels, 1);
	t->turn = atomic_fetch_add(&turns, 1) + 1;
	sem_post(&t->inside);
	if (t->blocks)
		while (sem_wait(&t->leave))
			;
	if (t->ends)
		tenant_end(t);
}

static void tenant_force(void *arg)
{
	struct tenant *t = arg;

	atomic_fetch_add(&t->nr_forces, 1);
	atomic_fetch_add(&nr_skipped, 1);	/* it does not help */
}

static struct tenant *tenant_make(struct pp_pool *pool, size_t nr_pages,
				  int adj, unsigned flags)
{
	struct tenant *t = test_array(1, sizeof(*t));
	const struct pp_victim ops = {
		.struct_bytes = sizeof(ops), .name = "tenant", .arg = t,
		.usage = tenant_usage, .cancel = tenant_cancel,
		.force = tenant_force, .adj = adj, .flags = flags,
	};

	t->pool = pool;
	sem_init(&t->inside, 0, 0);
	sem_init(&t->leave, 0, 0);
	for (size_t i = 0; i < nr_pages; i++)
		assert_true(runs_add(&t->runs, pool, 0));
	assert_int_equal(pp_victim_register(pool, &ops, &t->id), 0);
	return t;
}

static void tenant_free(struct tenant *t)
{
	pp_victim_unregister(t->id);
	runs_drop(&t->runs, t->pool);
	free(t);
}

static struct pp_pool *begin(void)
{
	atomic_store(&turns, 0);
	atomic_store(&under_way, 0);
	atomic_store(&nr_skipped, 0);
	alarm(120);
	return pool_make_one_zone("16M");
}

static void end(struct pp_pool *pool, struct runs *ballast)
{
	if (ballast) {
		runs_drop(ballast, pool);
		free(ballast);
	}
	pool_end(pool);
	alarm(0);
	assert_threads_ok();
}

static size_t no_notify(void *arg, size_t nr_pages)
{
	(void)arg;
	(void)nr_pages;
	return 0;
}

static void test_victim_arguments_are_checked(void **state)
{
	struct pp_pool *pool = begin();
	const struct pp_victim good = {
		.struct_bytes = sizeof(good), .name = "good",
		.usage = tenant_usage, .cancel = tenant_cancel,
	};
	const struct pp_oom_notifier nice = {
		.struct_bytes = sizeof(nice), .name = "nice",
		.notify = no_notify,
	};
	struct pp_victim bad;
	struct pp_oom_notifier mean;
	struct pp_victim_id *id = NULL;
	struct pp_oom_notifier_id *nid = NULL;

	(void)state;
	assert_int_equal(pp_victim_register(NULL, &good, &id), -EINVAL);
	assert_int_equal(pp_victim_register(pool, NULL, &id), -EINVAL);
	assert_int_equal(pp_victim_register(pool, &good, NULL), -EINVAL);
	assert_int_equal(pp_oom_notifier_register(NULL, &nice, &nid), -EINVAL);
	assert_int_equal(pp_oom_notifier_register(pool, NULL, &nid), -EINVAL);
	assert_int_equal(pp_oom_notifier_register(pool, &nice, NULL), -EINVAL);
#define REFUSED(change) \
	do { \
		bad = good; \
		bad.change; \
		assert_int_equal(pp_victim_register(pool, &bad, &id), \
				 -EINVAL); \
		assert_null(id); \
	} while (0)
	REFUSED(struct_bytes--);
	REFUSED(struct_bytes++);
	REFUSED(name = NULL);
	REFUSED(usage = NULL);
	REFUSED(cancel = NULL);
	REFUSED(adj = -1001);
	REFUSED(adj = 1001);
	REFUSED(flags = 2);
#undef REFUSED
	mean = nice;
	mean.struct_bytes = 0;
	assert_int_equal(pp_oom_notifier_register(pool, &mean, &nid), -EINVAL);
	mean = nice;
	mean.name = NULL;
	assert_int_equal(pp_oom_notifier_register(pool, &mean, &nid), -EINVAL);
	mean = nice;
	mean.notify = NULL;
	assert_int_equal(pp_oom_notifier_register(pool, &mean, &nid), -EINVAL);
	assert_null(nid);
	/* A pool goes after what is registered. */
	assert_int_equal(pp_victim_register(pool, &good, &id), 0);
	assert_int_equal(pp_pool_destroy(pool), -EBUSY);
	pp_victim_unregister(NULL);
	pp_victim_exited(NULL);
	pp_victim_unregister(id);
	assert_int_equal(pp_oom_notifier_register(pool, &nice, &nid), 0);
	assert_int_equal(pp_pool_destroy(pool), -EBUSY);
	pp_oom_notifier_unregister(NULL);
	pp_oom_notifier_unregister(nid);
	assert_int_equal(pp_oom_disable(NULL, 0), -EINVAL);
	assert_int_equal(pp_oom_enable(NULL), -EINVAL);
	assert_int_equal(pp_oom_enable(pool), -EINVAL);
	end(pool, NULL);
	reached_end();
}

/* Who, and in which order */

static void test_victim_order_is_by_badness_and_some_are_never(void **state)
{
	struct pp_pool *pool = begin();
	struct runs *b = test_array(1, sizeof(*b));
	/* Managed pages are about 4000: adj 200 is 800 of them. */
	static const struct { size_t pages; int adj; unsigned flags, turn; }
	row[] = {
		{ 700, 0, 0, 2 },
		{ 500, 0, 0, 4 },
		{ 100, 200, 0, 1 },
		{ 800, 0, PP_VICTIM_NOKILL, 0 },
		{ 900, -1000, 0, 0 },
		{ 500, 0, 0, 3 },	/* registered later than the other */
	};
	struct tenant *t[COUNT_OF(row)];

	(void)state;
	for (size_t i = 0; i < COUNT_OF(row); i++) {
		t[i] = tenant_make(pool, row[i].pages, row[i].adj,
				   row[i].flags);
		t[i]->ends = true;
	}
	/* In their stead come runs that nobody gives up. */
	for (unsigned n = 0; n <= 4; n++) {
		while (turns == n && runs_add(b, pool, 0))
			;
		for (size_t i = 0; i < COUNT_OF(row); i++)
			assert_int_equal(t[i]->nr_cancels, row[i].turn &&
					 row[i].turn <= turns);
	}
	assert_int_equal(turns, 4);
	for (size_t i = 0; i < COUNT_OF(row); i++)
		assert_int_equal(t[i]->turn, row[i].turn);
	assert_false(runs_add(b, pool, 0));
	assert_int_equal(pp_stat_read(pool, PP_STAT_OOM_RELEASES), 4);
	assert_int_equal(pp_stat_read(pool, PP_STAT_OOM_FORCED), 0);
	for (size_t i = 0; i < COUNT_OF(row); i++)
		tenant_free(t[i]);
	end(pool, b);
	reached_end();
}

/* Flags that forbid it. */
static void test_victim_none_dies_for_requests_that_give_up(void **state)
{
	static const unsigned flags[] = {
		PP_NOWAIT, PP_NORETRY, PP_RETRY_MAYFAIL, PP_NOFS, PP_MEMALLOC,
		PP_ATOMIC,
	};
	struct pp_pool *pool = begin();
	struct runs *b = test_array(1, sizeof(*b));
	struct tenant *t = tenant_make(pool, 100, 0, 0);
	unsigned saved;

	(void)state;
	t->ends = true;
	for (size_t i = 0; i < COUNT_OF(flags); i++)
		runs_fill(b, pool, flags[i]);
	saved = pp_scope_enter(PP_NOFS);
	assert_false(runs_add(b, pool, 0));
	pp_scope_leave(saved);
	assert_int_equal(t->nr_cancels, 0);
	/* What MEMALLOC took has to come back first. */
	assert_true(runs_add(b, pool, 0) || t->nr_cancels);
	assert_int_equal(t->nr_cancels, 1);
	tenant_free(t);
	end(pool, b);
	reached_end();
}

/* Waiting */

static void *end_when_told(void *arg)
{
	struct tenant *t = arg;

	while (sem_wait(&t->inside))
		;
	tenant_end(t);
	return NULL;
}

static void test_victim_that_exits_wakes_who_waits(void **state)
{
	struct pp_pool *pool = begin();
	struct runs *b = test_array(1, sizeof(*b));
	struct tenant *t = tenant_make(pool, 100, 0, 0);
	pthread_t thread;

	(void)state;
	runs_fill(b, pool, PP_NOFS);
	pthread_create(&thread, NULL, end_when_told, t);
	assert_true(runs_add(b, pool, 0));
	assert_int_equal(t->nr_cancels, 1);
	pthread_join(thread, NULL);
	tenant_free(t);
	end(pool, b);
	reached_end();
}

/* What must not fail but is not tried again has nobody end; it waits. */
static void test_victim_none_dies_for_nofail_without_retry(void **state)
{
	struct pp_pool *pool = begin();
	struct runs *b = test_array(1, sizeof(*b));
	struct tenant *t = tenant_make(pool, 100, 0, 0);

	(void)state;
	t->ends = true;
	runs_fill(b, pool, PP_NOFS);
	assert_true(runs_add(b, pool, PP_NOFAIL | PP_NORETRY));
	assert_int_equal(t->nr_cancels, 0);
	tenant_free(t);
	end(pool, b);
	reached_end();
}

/* A drain that came before the victim's end is not the last one. */

#define OBJECT_BYTES	256
#define NR_OBJECTS	16384
#define PER_PAGE	(PAGE / OBJECT_BYTES)
#define TENANT_PAGES	700	/* more than a claim keeps */

/* Slabs with an object each: so much is free in them that a drain looks worth
 * while, and brings nothing. */
static struct pp_cache *fragment(struct pp_pool *pool, void **object)
{
	struct pp_cache *cache;

	assert_int_equal(pp_cache_create(pool, "fragments", OBJECT_BYTES, 0,
					 &cache), 0);
	for (size_t i = 0; i < NR_OBJECTS; i++) {
		object[i] = pp_cache_alloc(cache, 0);
		assert_non_null(object[i]);
	}
	for (size_t i = 0; i < NR_OBJECTS; i++)
		if (i % PER_PAGE)
			pp_cache_free(cache, object[i]);
	return cache;
}

/* Something is in its cache before, so that there is a drain; and after. */
static void *end_and_stay(void *arg)
{
	struct tenant *t = arg;

	pp_free_pages(t->pool, pp_alloc_pages(t->pool, 1, 0));
	sem_post(&t->leave);
	end_when_told(t);
	while (sem_wait(&t->leave))
		;
	return NULL;
}

static void test_victim_leaves_some_in_its_cache_and_it_is_found(void **state)
{
	struct pp_pool *pool = begin();
	struct runs *b = test_array(1, sizeof(*b));
	void **object = test_array(NR_OBJECTS, sizeof(*object));
	struct pp_cache *cache = fragment(pool, object);
	struct tenant *t = tenant_make(pool, TENANT_PAGES, 0, 0);
	struct pp_stats s;
	pthread_t thread;
	size_t wanted;
	void *run;

	(void)state;
	pthread_create(&thread, NULL, end_and_stay, t);
	while (sem_wait(&t->leave))
		;
	runs_fill(b, pool, PP_NORETRY);
	s = pool_stats(pool);
	wanted = (size_t)(s.free_pages + s.cached_pages - s.min_pages) +
		 TENANT_PAGES - 2 * CACHE_PAGES;
	run = pp_alloc_pages(pool, wanted, 0);
	assert_non_null(run);
	assert_int_equal(pp_stat_read(pool, PP_STAT_DRAIN_WAITS), 2);
	assert_int_equal(t->nr_cancels, 1);
	sem_post(&t->leave);
	pthread_join(thread, NULL);
	pp_free_pages(pool, run);
	for (size_t i = 0; i < NR_OBJECTS; i += PER_PAGE)
		pp_cache_free(cache, object[i]);
	assert_int_equal(pp_cache_destroy(cache), 0);
	free(object);
	tenant_free(t);
	end(pool, b);
	reached_end();
}

/* It frees, and says nothing. */
static void *free_when_told(void *arg)
{
	struct tenant *t = arg;

	while (sem_wait(&t->inside))
		;
	runs_drop(&t->runs, t->pool);
	return NULL;
}

static void test_victim_that_frees_is_enough(void **state)
{
	struct pp_pool *pool = begin();
	struct runs *b = test_array(1, sizeof(*b));
	struct tenant *t = tenant_make(pool, 100, 0, 0);
	pthread_t thread;

	(void)state;
	runs_fill(b, pool, PP_NOFS);
	pthread_create(&thread, NULL, free_when_told, t);
	assert_true(runs_add(b, pool, 0));
	assert_int_equal(t->nr_cancels, 1);
	pthread_join(thread, NULL);
	tenant_free(t);
	end(pool, b);
	reached_end();
}

static void test_victim_that_does_not_end_is_forced_and_skipped(void **state)
{
	struct pp_pool *pool = begin();
	struct runs *b = test_array(1, sizeof(*b));
	struct tenant *t = tenant_make(pool, 1000, 0, 0);
	struct tenant *next = tenant_make(pool, 10, 0, 0);

	(void)state;
	next->ends = true;
	runs_fill(b, pool, PP_NOFS);
	/* Within the second that a request has; more than one if the machine
	 * is slow. */
	for (unsigned i = 0; i < 10 && !next->nr_cancels; i++)
		runs_add(b, pool, 0);
	assert_int_equal(t->nr_cancels, 1);
	assert_int_equal(t->nr_forces, 1);
	assert_int_equal(next->nr_cancels, 1);
	assert_int_equal(next->nr_forces, 0);
	assert_int_equal(pp_stat_read(pool, PP_STAT_OOM_FORCED), 1);
	/* Nobody is left. */
	runs_fill(b, pool, 0);
	assert_int_equal(t->nr_cancels + t->nr_forces, 2);
	tenant_free(t);
	tenant_free(next);
	end(pool, b);
	reached_end();
}

/* Callbacks that do not return */

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

static void test_victim_stuck_in_cancel_holds_nobody(void **state)
{
	struct pp_pool *pool = begin();
	struct runs *b = test_array(1, sizeof(*b));
	struct tenant *t = tenant_make(pool, 100, 0, 0), *next;
	struct asker a = { .pool = pool };
	pthread_t thread;

	(void)state;
	t->blocks = t->ends = true;
	runs_fill(b, pool, PP_NOFS);
	pthread_create(&thread, NULL, ask, &a);
	while (sem_wait(&t->inside))
		;
	/* NULL, and the next who asks too. */
	assert_false(runs_add(b, pool, 0));
	assert_false(runs_add(b, pool, 0));
	assert_int_equal(t->nr_cancels, 1);
	assert_int_equal(t->nr_forces, 0);
	/* With another victim there is help. */
	runs_drop(b, pool);
	next = tenant_make(pool, 10, 0, 0);
	next->ends = true;
	runs_fill(b, pool, PP_NOFS);
	atomic_store(&nr_skipped, 1);
	assert_true(runs_add(b, pool, 0));
	assert_int_equal(next->nr_cancels, 1);
	sem_post(&t->leave);
	pthread_join(thread, NULL);
	pp_free_pages(pool, a.run);
	tenant_free(t);
	tenant_free(next);
	end(pool, b);
	reached_end();
}

/* Notifiers */

struct notified {
	struct pp_pool	*pool;
	struct runs	runs;
	unsigned	nr_calls;
	size_t		wanted;
};

static size_t give_some(void *arg, size_t nr_pages)
{
	struct notified *n = arg;
	size_t nr = n->runs.nr;

	n->nr_calls++;
	n->wanted = nr_pages;
	runs_drop(&n->runs, n->pool);
	return nr;
}

static void test_victim_is_chosen_after_the_notifiers(void **state)
{
	struct pp_pool *pool = begin();
	struct runs *b = test_array(1, sizeof(*b));
	struct tenant *t = tenant_make(pool, 100, 0, 0);
	struct notified *n = test_array(1, sizeof(*n));
	const struct pp_oom_notifier ops = {
		.struct_bytes = sizeof(ops), .name = "giver", .arg = n,
		.notify = give_some,
	};
	struct pp_oom_notifier_id *id;

	(void)state;
	n->pool = pool;
	t->ends = true;
	for (unsigned i = 0; i < 50; i++)
		assert_true(runs_add(&n->runs, pool, 0));
	assert_int_equal(pp_oom_notifier_register(pool, &ops, &id), 0);
	while (!n->nr_calls && runs_add(b, pool, 0))
		;
	assert_int_equal(n->nr_calls, 1);
	assert_int_equal(n->wanted, 1);
	assert_int_equal(t->nr_cancels, 0);
	assert_int_equal(pp_stat_read(pool, PP_STAT_OOM_NOTIFIED), 1);
	/* It has nothing any more. */
	while (!t->nr_cancels && runs_add(b, pool, 0))
		;
	assert_int_equal(n->nr_calls, 2);
	assert_int_equal(t->nr_cancels, 1);
	pp_oom_notifier_unregister(id);
	tenant_free(t);
	free(n);
	end(pool, b);
	reached_end();
}

/* Off and on */

static void test_victim_disabled_is_null_and_nobody_is_told(void **state)
{
	struct pp_pool *pool = begin();
	struct runs *b = test_array(1, sizeof(*b));
	struct tenant *t = tenant_make(pool, 100, 0, 0);
	struct asker a = { .pool = pool };
	pthread_t thread;

	(void)state;
	t->blocks = t->ends = true;
	assert_int_equal(pp_oom_disable(pool, 0), 0);
	assert_int_equal(pp_oom_disable(pool, 0), 0);
	runs_fill(b, pool, 0);
	assert_int_equal(pp_oom_enable(pool), 0);
	assert_false(runs_add(b, pool, 0));	/* once more than enabled */
	assert_int_equal(t->nr_cancels, 0);
	assert_int_equal(pp_oom_enable(pool), 0);
	assert_int_equal(pp_oom_enable(pool), -EINVAL);
	pthread_create(&thread, NULL, ask, &a);
	while (sem_wait(&t->inside))
		;
	/* One is under way: it cannot be disabled, and is not. */
	assert_int_equal(pp_oom_disable(pool, 10), -ETIMEDOUT);
	assert_int_equal(pp_oom_enable(pool), -EINVAL);
	sem_post(&t->leave);
	assert_int_equal(pp_oom_disable(pool, 60000), 0);
	assert_int_equal(pp_oom_enable(pool), 0);
	pthread_join(thread, NULL);
	assert_non_null(a.run);
	pp_free_pages(pool, a.run);
	tenant_free(t);
	end(pool, b);
	reached_end();
}

/* The victim's own threads */

static void test_victim_gets_half_of_the_reserve_to_end(void **state)
{
	struct pp_pool *pool = begin();
	struct runs *b = test_array(1, sizeof(*b));
	struct tenant *t = tenant_make(pool, 100, 0, 0);
	struct asker a = { .pool = pool };
	struct pp_stats st;
	pthread_t thread;
	unsigned saved;
	size_t before;

	(void)state;
	t->blocks = t->ends = true;
	/* As long as it lives it is like any other. */
	saved = pp_victim_enter(t->id);
	assert_int_equal(saved, 0);
	runs_fill(b, pool, PP_NOFS);
	assert_false(runs_add(b, pool, PP_NOFS));
	pp_victim_leave(saved);
	pthread_create(&thread, NULL, ask, &a);
	while (sem_wait(&t->inside))
		;
	saved = pp_victim_enter(t->id);
	before = b->nr;
	runs_fill(b, pool, PP_NOMEMALLOC);
	assert_int_equal(b->nr, before);
	runs_fill(b, pool, 0);
	st = pool_stats(pool);
	assert_true(b->nr > before);
	assert_in_range(st.free_pages, st.min_pages - st.min_pages / 2,
			st.min_pages - st.min_pages / 2 + 1);
	/* Nor more than that in other ways. */
	runs_fill(b, pool, PP_NOWAIT);
	runs_fill(b, pool, PP_NORETRY);
	st = pool_stats(pool);
	assert_true(st.free_pages >= st.min_pages - st.min_pages / 2);
	pp_victim_leave(saved);
	sem_post(&t->leave);
	pthread_join(thread, NULL);
	pp_free_pages(pool, a.run);
	tenant_free(t);
	end(pool, b);
	reached_end();
}

/* Entering nests. */
/* What is left of a slab that it got from there is not for strangers. */
static void test_victim_takes_an_object_and_leaves_none_to_strangers(
	void **state)
{
	struct pp_pool *pool = begin();
	struct runs *b = test_array(1, sizeof(*b));
	void **object = test_array(NR_OBJECTS, sizeof(*object)), *own[2];
	struct tenant *t = tenant_make(pool, 100, 0, 0);
	struct asker a = { .pool = pool };
	struct pp_cache *cache;
	pthread_t thread;
	unsigned saved;
	size_t nr = 0;

	(void)state;
	t->blocks = t->ends = true;
	assert_int_equal(pp_cache_create(pool, "objects", OBJECT_BYTES, 0,
					 &cache), 0);
	runs_fill(b, pool, PP_NOFS);
	while (nr < NR_OBJECTS &&
	       (object[nr] = pp_cache_alloc(cache, PP_NOFS | PP_NOWARN)))
		nr++;
	assert_in_range(nr, 0, NR_OBJECTS - 1);
	pthread_create(&thread, NULL, ask, &a);
	while (sem_wait(&t->inside))
		;
	saved = pp_victim_enter(t->id);
	own[0] = pp_cache_alloc(cache, 0);
	pp_victim_leave(saved);
	assert_non_null(own[0]);
	assert_null(pp_cache_alloc(cache, PP_NORETRY | PP_NOWARN));
	saved = pp_victim_enter(t->id);
	own[1] = pp_cache_alloc(cache, 0);
	pp_victim_leave(saved);
	assert_non_null(own[1]);
	/* One slab, not one for each. */
	assert_int_equal((uintptr_t)own[0] / PAGE, (uintptr_t)own[1] / PAGE);
	pp_cache_free(cache, own[0]);
	pp_cache_free(cache, own[1]);
	sem_post(&t->leave);
	pthread_join(thread, NULL);
	pp_free_pages(pool, a.run);
	while (nr)
		pp_cache_free(cache, object[--nr]);
	assert_int_equal(pp_cache_destroy(cache), 0);
	free(object);
	tenant_free(t);
	end(pool, b);
	reached_end();
}

static void test_victim_scopes_nest(void **state)
{
	struct pp_pool *pool = begin();
	struct tenant *t = tenant_make(pool, 1, 0, 0);
	struct tenant *u = tenant_make(pool, 1, 0, 0);
	unsigned outer, inner;

	(void)state;
	outer = pp_victim_enter(t->id);
	inner = pp_victim_enter(u->id);
	assert_int_equal(outer, 0);
	assert_int_not_equal(inner, 0);
	assert_int_not_equal(pp_victim_enter(NULL), inner);
	pp_victim_leave(inner);
	assert_int_equal(pp_victim_enter(NULL), inner);
	pp_victim_leave(outer);
	tenant_free(u);
	tenant_free(t);
	end(pool, NULL);
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_victim_arguments_are_checked),
		TEST(test_victim_order_is_by_badness_and_some_are_never),
		TEST(test_victim_none_dies_for_requests_that_give_up),
		TEST(test_victim_none_dies_for_nofail_without_retry),
		TEST(test_victim_that_exits_wakes_who_waits),
		TEST(test_victim_leaves_some_in_its_cache_and_it_is_found),
		TEST(test_victim_that_frees_is_enough),
		TEST(test_victim_that_does_not_end_is_forced_and_skipped),
		TEST(test_victim_stuck_in_cancel_holds_nobody),
		TEST(test_victim_is_chosen_after_the_notifiers),
		TEST(test_victim_disabled_is_null_and_nobody_is_told),
		TEST(test_victim_gets_half_of_the_reserve_to_end),
		TEST(test_victim_takes_an_object_and_leaves_none_to_strangers),
		TEST(test_victim_scopes_nest),
	};

	test_clear_environment();
	return cmocka_run_group_tests_name("victim", tests, NULL, NULL);
}
