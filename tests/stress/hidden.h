/* SPDX-License-Identifier: MIT */
/*
 * hidden.h - threads that fill their caches with everything and go to sleep,
 * for hidden_test.c, and what of it is in use all the same.
 */
#ifndef PP_TESTS_HIDDEN_H
#define PP_TESTS_HIDDEN_H

#include "../api/testing.h"

#include "pagepool/cache.h"
#include "pagepool/reclaim.h"
#include "pool.h"

#define LIMIT		(TEST_SANITIZED ? "256M" : "1G")
#define MAX_RUNS	(1u << 18)
#define NR_SMALL	64	/* sizes of objects: every class */
#define NR_LENGTHS	48	/* of runs: every bin of a cache */
#define NR_LONG		3
#define MAX_KEPT	4
#define BURST		128
#define STACK_BYTES	(256u << 10)
/* A cache that nobody used for a second may be emptied by and by. */
#define DECAY_NS	1000000000ull

static const size_t long_pages[NR_LONG] = { 300, 700, 4000 };

/* As thread_check(), but what fails at each sample is told a few times only. */
#define MAX_TOLD	10
#define sample_check(cond)						\
	do {								\
		if (!(cond) && atomic_load(&thread_failures) < MAX_TOLD)\
			thread_check(!"" #cond);			\
	} while (0)

enum order { ORDER_NONE, ORDER_FILL, ORDER_HOT, ORDER_DRAIN, ORDER_EAT,
	     ORDER_FAIL, ORDER_EXIT };

struct sleeper {
	struct hidden		*h;
	size_t			nr;
	pthread_t		thread;
	bool			gone;		/* joined */
	void			*kept[MAX_KEPT];
	size_t			kept_in[MAX_KEPT];	/* which cache */
	size_t			nr_kept;

	pthread_mutex_t		lock;
	pthread_cond_t		wake;
	enum order		order;		/* lock */
};

struct hidden {
	struct pp_pool		*pool;
	struct pp_cache		*cache[NR_SMALL];
	struct sleeper		*sleeper;
	size_t			nr;
	bool			keepers;	/* some keep live objects */
	int64_t			idle_drains;	/* when the filling began */
	void			**run;		/* MAX_RUNS */

	pthread_mutex_t		lock;
	pthread_cond_t		all_done;
	size_t			nr_working;	/* lock */

	/* the hungry thread: what it has asked for, and what it has got */
	_Atomic int64_t		asked_pages, got_pages;
	_Atomic size_t		nr_runs, nr_refused;
	_Atomic bool		stop;

	/* the sampling thread's, while it is asleep */
	pthread_t		sampler;
	pthread_mutex_t		sampler_lock;
	pthread_cond_t		sampler_wake;
	bool			sampling, sampler_idle, sampler_ends;
	struct pp_stats		base;		/* before the meal */
	int64_t			in_use_pages;	/* at least, without the meal */
	int64_t			room;	/* objects that slabs in use take */
	int64_t			nr_threads_least;
	bool			eats_objects;
	uint64_t		nr_samples;
	int64_t			worst_error;
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Every class of objects, every length of runs */

static size_t small_bytes(size_t i)
{
	size_t above = i - 8;

	if (i < 8)
		return (i + 1) * 16;
	return ((size_t)128 << above / 8) +
	       (above % 8 + 1) * ((size_t)16 << above / 8);
}

static size_t length_pages(size_t i)
{
	size_t n = 1;

	while (i--)
		n = run_length(n + 1);
	return n;
}

/* Fills one magazine; with @keep one object of it stays live. */
static void fill_small(struct sleeper *s, size_t which, bool keep)
{
	struct pp_cache *cache = s->h->cache[which];
	size_t n = (32u << 10) / small_bytes(which), got = 0;
	void *object[BURST];

	n = n < 4 ? 4 : n > BURST ? BURST : n;
	while (got < n &&
	       (object[got] = pp_cache_alloc(cache, PP_NOWARN))) {
		memset(object[got], (int)s->nr & 127, 16);
		got++;
	}
	if (keep && got && s->nr_kept < MAX_KEPT) {
		s->kept_in[s->nr_kept] = which;
		s->kept[s->nr_kept++] = object[--got];
	}
	while (got)
		pp_cache_free(cache, object[--got]);
}

static void fill_runs(struct sleeper *s, size_t pages)
{
	size_t n = 64 / pages, got = 0;
	void *run[64];

	n = n < 1 ? 1 : n;
	while (got < n && (run[got] = pp_alloc_pages(s->h->pool, pages,
						     PP_NOWARN)))
		got++;
	pp_free_bulk(s->h->pool, got, run);
}

/* Each begins elsewhere, so that what fits into their shares differs. */
static void fill_all(struct sleeper *s)
{
	const size_t all = NR_SMALL + NR_LENGTHS + NR_LONG;
	bool keeper = s->h->keepers && s->nr % 4 == 1 && !s->nr_kept;

	for (size_t i = 0; i < all; i++) {
		size_t k = (i + s->nr * 7) % all;

		if (k < NR_SMALL)
			fill_small(s, k, keeper && (k + s->nr) % 5 == 0);
		else if (k < NR_SMALL + NR_LENGTHS)
			fill_runs(s, length_pages(k - NR_SMALL));
		else
			fill_runs(s, long_pages[k - NR_SMALL - NR_LENGTHS]);
	}
}

/* What the threads do between sleeps */

/* Nobody else may write to what this thread holds. */
static void be_hot(struct sleeper *s)
{
	struct rng r = rng_make((unsigned)s->nr);
	uint64_t *run[16] = { NULL }, *object[16] = { NULL };
	size_t in[16] = { 0 };

	while (!atomic_load(&s->h->stop)) {
		size_t i = rng_below(&r, 16);

		thread_check(!run[i] || *run[i] == (uintptr_t)run[i]);
		thread_check(!object[i] || *object[i] == (uintptr_t)object[i]);
		pp_free_pages(s->h->pool, run[i]);
		if (object[i])
			pp_cache_free(s->h->cache[in[i]], object[i]);
		in[i] = rng_below(&r, NR_SMALL);
		run[i] = pp_alloc_pages(s->h->pool, 1 + rng_below(&r, 30),
					PP_NOWARN);
		object[i] = pp_cache_alloc(s->h->cache[in[i]], PP_NOWARN);
		if (run[i])
			*run[i] = (uintptr_t)run[i];
		if (object[i])
			*object[i] = (uintptr_t)object[i];
	}
	for (size_t i = 0; i < 16; i++) {
		pp_free_pages(s->h->pool, run[i]);
		if (object[i])
			pp_cache_free(s->h->cache[in[i]], object[i]);
	}
}

/* True if it was complete: a busy thread may be kept from its processor for
 * longer than a drain waits. */
static bool drain_beside_others(struct hidden *h)
{
	int err = pp_pool_drain(h->pool);

	thread_check(err == 0 || err == -EBUSY);
	return err == 0;
}

static void drain_often(struct sleeper *s)
{
	for (unsigned i = 0; i < 25; i++)
		drain_beside_others(s->h);
}

/* Single pages until NULL, together with others. */
static void eat_along(struct sleeper *s)
{
	void *run;

	while ((run = pp_alloc_pages(s->h->pool, 1, PP_NOWARN))) {
		size_t i = atomic_fetch_add(&s->h->nr_runs, 1);

		thread_check(i < MAX_RUNS);
		s->h->run[i] = run;
	}
	thread_check(errno == ENOMEM);
}

/* Asks for more than there is, and leaves something in its cache between. */
static void fail_often(struct sleeper *s)
{
	struct hidden *h = s->h;

	while (!atomic_load(&h->stop)) {
		fill_small(s, s->nr % NR_SMALL, false);
		pp_free_pages(h->pool, pp_alloc_pages(h->pool, 1, PP_NOWARN));
		sample_check(!pp_alloc_pages(h->pool, 256, PP_NOWARN));
		atomic_fetch_add(&h->nr_refused, 1);
	}
}

static void obey(struct sleeper *s, enum order order)
{
	if (order == ORDER_FILL)
		fill_all(s);
	else if (order == ORDER_HOT)
		be_hot(s);
	else if (order == ORDER_DRAIN)
		drain_often(s);
	else if (order == ORDER_EAT)
		eat_along(s);
	else if (order == ORDER_FAIL)
		fail_often(s);
}

static void report_done(struct hidden *h)
{
	pthread_mutex_lock(&h->lock);
	if (--h->nr_working == 0)
		pthread_cond_signal(&h->all_done);
	pthread_mutex_unlock(&h->lock);
}

static void unlock(void *mutex)
{
	pthread_mutex_unlock(mutex);
}

/* Asleep until told what to do; may be cancelled there. */
static enum order await_order(struct sleeper *s)
{
	enum order order;

	pthread_mutex_lock(&s->lock);
	pthread_cleanup_push(unlock, &s->lock);
	while (s->order == ORDER_NONE)
		pthread_cond_wait(&s->wake, &s->lock);
	order = s->order;
	s->order = ORDER_NONE;
	pthread_cleanup_pop(1);
	return order;
}

static void *sleeper_main(void *arg)
{
	struct sleeper *s = arg;
	enum order order;

	while ((order = await_order(s)) != ORDER_EXIT) {
		obey(s, order);
		report_done(s->h);
	}
	return NULL;
}

static void tell(struct sleeper *s, enum order order)
{
	if (order != ORDER_EXIT) {
		pthread_mutex_lock(&s->h->lock);
		s->h->nr_working++;
		pthread_mutex_unlock(&s->h->lock);
	}
	pthread_mutex_lock(&s->lock);
	s->order = order;
	pthread_cond_signal(&s->wake);
	pthread_mutex_unlock(&s->lock);
}

static void await_all(struct hidden *h)
{
	pthread_mutex_lock(&h->lock);
	while (h->nr_working)
		pthread_cond_wait(&h->all_done, &h->lock);
	pthread_mutex_unlock(&h->lock);
}

static void fill_begin(struct hidden *h)
{
	h->idle_drains = pool_stats(h->pool).idle_drains;
}

/* All at once: their shares are equal. */
static void fill_together(struct hidden *h)
{
	fill_begin(h);
	for (size_t i = 0; i < h->nr; i++)
		tell(&h->sleeper[i], ORDER_FILL);
	await_all(h);
}

/* What is live, and where */

static int compare_numbers(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static uint32_t slab_of(struct hidden *h, const void *object)
{
	uint32_t word = pool_word(h->pool, object);

	assert_true(word & MAP_SLAB);
	return slab_word_number(word);
}

/* All live objects' slabs, in order; the caller frees the array. */
static uint32_t *live_slabs(struct hidden *h, size_t *nr)
{
	uint32_t *number = test_array(NR_SMALL + h->nr * MAX_KEPT,
				      sizeof(*number));
	size_t n = 0;

	for (size_t i = 0; i < NR_SMALL; i++)
		number[n++] = slab_of(h, h->cache[i]);
	for (size_t i = 0; i < h->nr; i++)
		for (size_t k = 0; k < h->sleeper[i].nr_kept; k++)
			number[n++] = slab_of(h, h->sleeper[i].kept[k]);
	qsort(number, n, sizeof(*number), compare_numbers);
	*nr = n;
	return number;
}

/* The pages of all slabs that hold a live object. */
static int64_t live_slab_pages(struct hidden *h)
{
	size_t n;
	uint32_t *number = live_slabs(h, &n);
	int64_t pages = 0;

	for (size_t i = 0; i < n; i++)
		if (i == 0 || number[i] != number[i - 1])
			pages += slab_at(&h->pool->span, number[i])->nr_pages;
	free(number);
	return pages;
}

/* Objects of a page for which there is room in those. */
static int64_t live_slab_room(struct hidden *h)
{
	unsigned class = slab_class_for(PAGE, 1);
	int64_t room = 0;
	size_t n;
	uint32_t *number = live_slabs(h, &n);

	for (size_t i = 0; i < n; i++) {
		struct slab *slab = slab_at(&h->pool->span, number[i]);
		uint32_t word = load_relaxed(&h->pool->span.map[slab->page]);

		if (slab_word_class(word) != class)
			continue;
		if (i == 0 || number[i] != number[i - 1])
			room += slab->nr_objects;
		room--;
	}
	free(number);
	return room;
}

/* The caches of the threads, and the tables of many small slabs. */
static int64_t overhead_pages(struct hidden *h)
{
	int64_t pages = CACHE_PAGES *
			pp_stat_read(h->pool, PP_STAT_NR_THREADS);

	for_each_zone(zone, h->pool->zones)
		pages += (int64_t)zone->tables_pages;
	return pages;
}

static int64_t in_use_pages(struct hidden *h)
{
	return overhead_pages(h) + live_slab_pages(h);
}

#endif
