/* SPDX-License-Identifier: MIT */
/* extent.c - see extent.h. */
#include "extent.h"

#include <errno.h>

#include "base/bug.h"
#include "pool.h"

/* How many pages the run at @page has. */
static uint64_t run_at(const struct pp_pool *pool, uint64_t page)
{
	uint32_t word = load_relaxed(&pool->span.map[page]);

	BUG_ON(word & (MAP_SLAB | MAP_CACHED | MAP_MOVED));
	BUG_ON(!(word & MAP_RUN));
	return run_word_pages(word);
}

/*
 * Says in the map that a range is one run, or as few as there are words for.
 * The last one first: who walks the map comes by the first, and finds what
 * follows it.
 */
static void lay(struct pp_pool *pool, uint64_t page, uint64_t nr_pages)
{
	uint64_t at = (nr_pages - 1) / RUN_MAX_EXACT_PAGES *
		      RUN_MAX_EXACT_PAGES;

	for (;; at -= RUN_MAX_EXACT_PAGES) {
		/* Release: a walker that sees a run's end sees the next. */
		store_release(&pool->span.map[page + at],
			      run_word(min_u64(nr_pages - at,
					       RUN_MAX_EXACT_PAGES)));
		if (!at)
			break;
	}
}

static void *trim(struct pp_pool *pool, char *extent, uint64_t nr_pages)
{
	uint64_t have = run_at(pool, span_page_of(&pool->span, extent));

	if (have > nr_pages) {
		pagepool_extent_cut(pool, extent, nr_pages);
		pagepool_extent_free(pool, extent + pages_to_bytes(nr_pages),
				     have - nr_pages);
	}
	return extent;
}

void *pagepool_extent_alloc(struct pp_pool *pool, size_t nr_pages,
			    size_t align_pages, unsigned flags, bool *zeroed)
{
	struct page_request req = {
		.nr_pages = nr_pages,
		.align_pages = align_pages,
		.flags = flags,
		.exact = true,
	};
	void *extent = api_alloc_run(pool, &req);

	*zeroed = extent && (flags & PP_ZERO);
	return extent ? trim(pool, extent, nr_pages) : NULL;
}

void pagepool_extent_cut(struct pp_pool *pool, void *extent, size_t nr_pages)
{
	uint64_t page = span_page_of(&pool->span, extent);
	uint64_t end = page + nr_pages, n;

	/* Bounded by the extent's length. */
	while (page < end) {
		n = run_at(pool, page);
		if (n > end - page) {
			lay(pool, end, page + n - end);
			lay(pool, page, end - page);
			return;
		}
		page += n;
	}
}

static void release_run(struct pp_pool *pool, uint64_t page, uint64_t nr_pages)
{
	struct zone *zone = zone_of_page(pool->zones, page);

	lock_acquire(&zone->lock);
	zone_release(zone, page, nr_pages, true);
	zone_unlock_released(zone);
}

/*
 * Past the thread's cache: the user of extents has one of its own, and what it
 * gives back it gives to others.  A hold of the lock for each run.
 */
bool pagepool_extent_free(struct pp_pool *pool, void *extent, size_t nr_pages)
{
	uint64_t page = span_page_of(&pool->span, extent);
	uint64_t end = page + nr_pages, n;
	int saved = errno;
	struct pcp *pcp;

	if (pool_is_nested(pool))
		return false;
	pcp = pool_enter(pool);
	for (; page < end; page += n) {
		n = run_at(pool, page);
		BUG_ON(n > end - page);
		release_run(pool, page, n);
	}
	if (pcp)
		add_single_writer(&pcp->given_pages, nr_pages);
	pool_leave(pcp);
	inline_reclaim_end(&pool->registry, INLINE_RECLAIM_FREE);
	errno = saved;
	return true;
}
