/* SPDX-License-Identifier: MIT */
/*
 * Threads that allocate objects, runs and long runs at the limit, and free
 * what others allocated: everything goes through one array that all share.
 * Each allocation carries a pattern that says what it is; whoever takes it out
 * of the array checks all of it.  In the end the books are exact.
 *
 * PP_TEST_SECONDS (8), PP_TEST_THREADS (6), PP_TEST_SEED.
 */
#include "../api/testing.h"

#include "pagepool/cache.h"
#include "pool.h"

#define SLOTS		1024
#define LIMIT		"48M"

static const size_t object_bytes[] = { 32, 48, 100, 256, 1000, 4096, 10000 };

/* What the pool's own tables and caches take, in all zones. */
static uint64_t charged_pages(struct pp_pool *pool)
{
	uint64_t sum = 0;

	for_each_zone(zone, pool->zones)
		sum += zone->charged_pages;
	return sum;
}

/* The head of every allocation; its tag fills the rest. */
struct thing {
	uint64_t	tag;
	uint32_t	cache;		/* 1 + which; 0: a run */
	uint32_t	words;		/* of 8 bytes, with this head */
	uint64_t	fill[];
};

struct arena {
	struct pp_pool		*pool;
	struct pp_cache		*cache[COUNT_OF(object_bytes)];
	_Atomic(struct thing *)	slot[SLOTS];
	_Atomic uint64_t	taken, failed, resized;
	struct timespec		end;
	_Atomic unsigned	next_thread;
};

static bool time_is_up(const struct arena *a)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec > a->end.tv_sec ||
	       (now.tv_sec == a->end.tv_sec && now.tv_nsec >= a->end.tv_nsec);
}

/* Long ones by samples, so that the time goes into the pool. */
static size_t step_of(const struct thing *t)
{
	return t->words < 1024 ? 1 : 61;
}

static void fill(struct thing *t, uint64_t tag, uint32_t cache, size_t bytes)
{
	size_t n = bytes / 8 - 2;

	t->tag = tag;
	t->cache = cache;
	t->words = (uint32_t)(bytes / 8);
	for (size_t i = 0; i < n; i += step_of(t))
		t->fill[i] = tag + i;
}

static bool is_whole(const struct thing *t)
{
	size_t n = t->words - 2;

	for (size_t i = 0; i < n; i += step_of(t))
		if (t->fill[i] != t->tag + i)
			return false;
	return true;
}

static struct thing *make(struct arena *a, struct rng *r)
{
	unsigned what = (unsigned)rng_below(r, 16);
	unsigned flags = PP_NOWARN | (what % 4 ? 0 : PP_ZERO);
	struct thing *t;
	size_t n;

	if (what < 9) {
		unsigned i = (unsigned)rng_below(r, COUNT_OF(object_bytes));

		t = pp_cache_alloc(a->cache[i], flags);
		if (t)
			fill(t, rng_next(r), i + 1, object_bytes[i]);
		return t;
	}
	n = 1 + rng_below(r, what < 14 ? 12 : rng_below(r, 8) ? 100 : 2000);
	t = pp_alloc_pages(a->pool, n, flags);
	if (t)
		fill(t, rng_next(r), 0, n * PAGE);
	return t;
}

static void unmake(struct arena *a, struct thing *t)
{
	thread_check(is_whole(t));
	if (t->cache)
		pp_cache_free(a->cache[t->cache - 1], t);
	else
		pp_free_pages(a->pool, t);
}

/* Another length for a run that nobody else can see just now. */
static struct thing *resize(struct arena *a, struct rng *r, struct thing *t)
{
	size_t n = 1 + rng_below(r, rng_below(r, 4) ? 40 : 1500);
	uint32_t words = t->words;
	struct thing *to;
	uint64_t tag = t->tag;

	thread_check(is_whole(t));
	to = pp_realloc_pages(a->pool, t, n, PP_NOWARN);
	if (!to)
		return t;
	thread_check(to->tag == tag && to->words == words);
	if (n * 512 < words)
		to->words = (uint32_t)(n * 512);
	thread_check(step_of(to) == 1 ? words >= 1024 || is_whole(to) :
					is_whole(to));
	fill(to, tag, 0, n * PAGE);
	atomic_fetch_add_explicit(&a->resized, 1, memory_order_relaxed);
	return to;
}

static void step(struct arena *a, struct rng *r)
{
	_Atomic(struct thing *) *slot = &a->slot[rng_below(r, SLOTS)];
	struct thing *t = NULL;

	if (!atomic_load_explicit(slot, memory_order_relaxed)) {
		t = make(a, r);
		atomic_fetch_add_explicit(t ? &a->taken : &a->failed, 1,
					  memory_order_relaxed);
	} else if (rng_below(r, 8) == 0) {
		t = atomic_exchange(slot, NULL);
		if (t && !t->cache)
			t = resize(a, r, t);
	}
	/* What was there goes, be it ours or another thread's. */
	t = atomic_exchange(slot, t);
	if (t)
		unmake(a, t);
}

static void *stress_thread(void *arg)
{
	struct arena *a = arg;
	struct rng r = rng_make(atomic_fetch_add(&a->next_thread, 1));

	while (!time_is_up(a))
		for (unsigned i = 0; i < 200; i++)
			step(a, &r);
	return NULL;
}

/* The check walks everything while the others go on; they get some work done
 * between two of them. */
static void *checking_thread(void *arg)
{
	struct arena *a = arg;
	uint64_t last = 0;

	while (!time_is_up(a)) {
		struct pp_stats s = { .struct_bytes = sizeof(s) };

		if (atomic_load(&a->taken) < last + 2000) {
			sched_yield();
			continue;
		}
		last = atomic_load(&a->taken);
		thread_check(pp_stat_snapshot(a->pool, &s) == 0);
		thread_check(s.free_pages + s.cached_pages + s.used_pages +
			     s.isolated_pages == s.managed_pages);
		thread_check(s.backed_pages <= s.managed_pages);
		thread_check(pp_pool_check(a->pool) == 0);
	}
	return NULL;
}

static void arena_make(struct arena *a)
{
	memset(a, 0, sizeof(*a));
	a->pool = pool_make(LIMIT);
	for (size_t i = 0; i < COUNT_OF(object_bytes); i++)
		assert_int_equal(pp_cache_create(a->pool, "stress",
						 object_bytes[i], 0,
						 &a->cache[i]), 0);
	clock_gettime(CLOCK_MONOTONIC, &a->end);
	a->end.tv_sec += (time_t)test_number("PP_TEST_SECONDS", 8);
}

static void arena_end(struct arena *a)
{
	struct pp_stats s;

	for (size_t i = 0; i < SLOTS; i++)
		if (atomic_load(&a->slot[i]))
			unmake(a, atomic_load(&a->slot[i]));
	assert_threads_ok();
	for (size_t i = 0; i < COUNT_OF(object_bytes); i++)
		assert_int_equal(pp_cache_destroy(a->cache[i]), 0);
	pool_drain(a->pool);
	s = pool_stats(a->pool);
	assert_int_equal(s.cached_pages, 0);
	assert_int_equal(s.isolated_pages, 0);
	assert_int_equal(s.used_pages, charged_pages(a->pool));
	assert_int_equal(s.nr_threads, 1);
	pool_end(a->pool);
}

static void test_stress_threads_at_the_limit(void **state)
{
	size_t n = test_number("PP_TEST_THREADS", 6);
	struct arena *a = test_array(1, sizeof(*a));
	pthread_t *thread = test_array(n + 1, sizeof(*thread));

	(void)state;
	test_seed();
	arena_make(a);
	for (size_t i = 0; i <= n; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, i < n ?
						stress_thread :
						checking_thread, a), 0);
	for (size_t i = 0; i <= n; i++)
		pthread_join(thread[i], NULL);
	print_message("# %llu allocated, %llu failed, %llu resized\n",
		      (unsigned long long)atomic_load(&a->taken),
		      (unsigned long long)atomic_load(&a->failed),
		      (unsigned long long)atomic_load(&a->resized));
	assert_true(atomic_load(&a->taken) > 1000);
	assert_true(atomic_load(&a->failed) > 10);	/* at the limit */
	assert_true(atomic_load(&a->resized) > 10);
	arena_end(a);
	free(thread);
	free(a);
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_stress_threads_at_the_limit),
	};

	test_clear_environment();
	return cmocka_run_group_tests_name("stress threads", tests, NULL,
					   NULL);
}
