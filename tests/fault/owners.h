/* SPDX-License-Identifier: MIT */
/*
 * owners.h - a model of who has which memory.
 *
 * Sums stay right when a page is handed out twice and another one is lost, so
 * the model knows every holder: what a pool hands out may not touch what it
 * handed out before, keeps its contents, and comes to what the books say.
 */
#ifndef PP_TESTS_FAULT_OWNERS_H
#define PP_TESTS_FAULT_OWNERS_H

#include "../api/testing.h"

#include "pagepool/cache.h"
#include "pagepool/reserve.h"
#include "pool.h"

#define OWNERS_MAX	900

/* A child that finds something wrong says so, and ends. */
#define FOUND_WRONG	2
#define EXPECT(cond)							\
	do {								\
		if (!(cond)) {						\
			fprintf(stderr, "# %s:%d: %s does not hold\n",	\
				__FILE__, __LINE__, #cond);		\
			_exit(FOUND_WRONG);				\
		}							\
	} while (0)

struct holding {
	uint64_t	*p;		/* NULL: free */
	size_t		bytes;		/* that carry the holder's mark */
	struct pp_cache	*cache;		/* NULL: a run */
	struct pp_reserve *reserve;	/* of a run; NULL: the pool's */
};

struct owners {
	struct pp_pool	*pool;
	struct holding	held[OWNERS_MAX];
	size_t		nr;
	size_t		nr_refused;
};

/* One word at both ends of each page, or of an object. */
static inline void owners_mark(struct owners *o, size_t i)
{
	struct holding *h = &o->held[i];

	for (size_t at = 0; at < h->bytes; at += PAGE) {
		size_t end = at + PAGE < h->bytes ? at + PAGE : h->bytes;

		h->p[at / 8] = i << 32 | at;
		h->p[end / 8 - 1] = i << 32 | at;
	}
}

static inline void owners_expect(struct owners *o, size_t i, size_t bytes)
{
	struct holding *h = &o->held[i];

	for (size_t at = 0; at < bytes; at += PAGE) {
		size_t end = at + PAGE < bytes ? at + PAGE : bytes;

		EXPECT(h->p[at / 8] == (i << 32 | at));
		if (end == at + PAGE || bytes == h->bytes)
			EXPECT(h->p[end / 8 - 1] == (i << 32 | at));
	}
}

/* Nobody else's. */
static inline void owners_expect_new(struct owners *o, const void *p,
				     size_t bytes)
{
	const char *from = p;

	for (size_t i = 0; i < o->nr; i++) {
		const char *other = (const char *)o->held[i].p;

		EXPECT(!other || from + bytes <= other ||
		       other + o->held[i].bytes <= from);
	}
}

/* @p is new, or NULL with errno ENOMEM. */
static inline bool owners_add(struct owners *o, void *p, size_t bytes,
			      struct pp_cache *cache)
{
	if (!p) {
		EXPECT(errno == ENOMEM);
		EXPECT(pp_last_failure() != PP_FAILURE_NONE);
		o->nr_refused++;
		return false;
	}
	EXPECT(o->nr < OWNERS_MAX);
	owners_expect_new(o, p, bytes);
	o->held[o->nr] = (struct holding){ p, bytes, cache, NULL };
	owners_mark(o, o->nr++);
	return true;
}

/* A run of @reserve's. */
static inline bool owners_add_reserved(struct owners *o, void *p, size_t pages,
				       struct pp_reserve *reserve)
{
	if (!owners_add(o, p, pages * PAGE, NULL))
		return false;
	o->held[o->nr - 1].reserve = reserve;
	return true;
}

static inline bool owners_take(struct owners *o, size_t pages, size_t align,
			       unsigned flags)
{
	void *p;

	errno = 0;
	p = pp_alloc_aligned(o->pool, pages, align, flags | PP_NOWARN);
	EXPECT(!p || pp_run_pages(o->pool, p) >= pages);
	EXPECT(!p || (uintptr_t)p % (align * PAGE) == 0);
	for (size_t k = 0; p && flags & PP_ZERO && k < pages * 512; k++)
		EXPECT(((uint64_t *)p)[k] == 0);
	return owners_add(o, p, pages * PAGE, NULL);
}

static inline bool owners_take_object(struct owners *o,
				      struct pp_cache *cache, size_t bytes)
{
	errno = 0;
	return owners_add(o, pp_cache_alloc(cache, PP_NOWARN), bytes, cache);
}

static inline void owners_give(struct owners *o, size_t i)
{
	struct holding h = o->held[i];

	if (!h.p)
		return;
	owners_expect(o, i, h.bytes);
	o->held[i].p = NULL;
	if (h.cache)
		pp_cache_free(h.cache, h.p);
	else if (h.reserve)
		pp_reserve_free(h.reserve, h.p);
	else
		pp_free_pages(o->pool, h.p);
}

static inline void owners_give_all(struct owners *o)
{
	while (o->nr)
		owners_give(o, --o->nr);
}

static inline void owners_resize(struct owners *o, size_t i, size_t pages)
{
	struct holding *h = &o->held[i], was = *h;
	void *p;

	if (i >= o->nr || !h->p || h->cache || h->reserve)
		return;
	errno = 0;
	p = pp_realloc_pages(o->pool, h->p, pages, PP_NOWARN);
	if (!p) {
		EXPECT(errno == ENOMEM && pages * PAGE > h->bytes);
		o->nr_refused++;
		owners_expect(o, i, h->bytes);
		return;
	}
	h->p = NULL;
	owners_expect_new(o, p, pages * PAGE);
	h->p = p;
	owners_expect(o, i, was.bytes < pages * PAGE ? was.bytes :
						       pages * PAGE);
	h->bytes = pages * PAGE;
	owners_mark(o, i);
}

/* What threads' caches and tables cost. */
static inline uint64_t owners_charged(struct pp_pool *pool)
{
	uint64_t pages = 0;

	for_each_zone(zone, pool->zones) {
		lock_acquire(&zone->lock);
		pages += zone->charged_pages;
		zone_unlock(zone);
	}
	return pages;
}

static inline struct pp_stats owners_stats(struct pp_pool *pool)
{
	struct pp_stats s = { .struct_bytes = sizeof(s) };

	EXPECT(pp_stat_snapshot(pool, &s) == 0);
	EXPECT(s.free_pages + s.cached_pages + s.used_pages +
	       s.isolated_pages + s.reserved_pages == s.managed_pages);
	EXPECT(s.managed_pages + s.metadata_pages == s.limit_pages);
	EXPECT(s.failures == s.failures_limit + s.failures_too_big +
	       s.failures_address_space + s.failures_os + s.failures_purge +
	       s.failures_nested + s.failures_cannot_wait +
	       s.failures_in_reclaim + s.failures_scope +
	       s.failures_timeout + s.failures_injected);
	return s;
}

static inline bool owners_are_booked(struct owners *o, uint64_t run_pages)
{
	struct pp_stats s = owners_stats(o->pool);

	return (uint64_t)(s.used_pages + s.cached_pages) ==
	       run_pages + (uint64_t)s.slab_pages + owners_charged(o->pool);
}

/* At rest, all books agree with the model, to the page.  A thread that called a
 * victim back, whose pages we may have by now, may be giving back its cache. */
static inline void owners_check(struct owners *o)
{
	time_t end = time(NULL) + 10;
	uint64_t runs = 0;
	bool ok;

	EXPECT(pp_pool_check(o->pool) == 0);
	pp_pool_drain(o->pool);
	for (size_t i = 0; i < o->nr; i++) {
		if (!o->held[i].p)
			continue;
		owners_expect(o, i, o->held[i].bytes);
		if (!o->held[i].cache)
			runs += pp_run_pages(o->pool, o->held[i].p);
	}
	while (!(ok = owners_are_booked(o, runs)) && time(NULL) < end)
		usleep(1000);
	EXPECT(ok);
}

/* Is anything between two steps in any zone, or on its way to the kernel? */
static inline bool zones_are_busy(struct pp_pool *pool)
{
	bool busy = false;

	for_each_zone(zone, pool->zones) {
		lock_acquire(&zone->lock);
		busy = busy || zone->making_pages || zone->promised_pages ||
		       zone->moving_pages || zone->isolated_pages;
		zone_unlock(zone);
	}
	return busy;
}

/* What the background is at just now ends. */
static inline struct pp_stats owners_stats_at_rest(struct pp_pool *pool)
{
	time_t end = time(NULL) + 10;
	bool busy;

	while ((busy = zones_are_busy(pool)) && time(NULL) < end)
		usleep(1000);
	EXPECT(!busy);
	return owners_stats(pool);
}

/* Nothing is left but what the threads' caches cost. */
static inline void owners_end(struct owners *o)
{
	struct pp_stats s;

	owners_give_all(o);
	owners_check(o);
	s = owners_stats_at_rest(o->pool);
	EXPECT(s.cached_pages == 0 && s.slab_pages == 0);
	EXPECT(s.reserved_pages == 0);
	EXPECT(pp_pool_destroy(o->pool) == 0);
	o->pool = NULL;
}

#endif
