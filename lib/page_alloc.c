/* SPDX-License-Identifier: MIT */
/* page_alloc.c - see page_alloc.h. */
#include "page_alloc.h"

#include "backing.h"
#include "os/os.h"
#include "trace.h"

uint64_t page_floor_pages(struct zone *zone, unsigned flags)
{
	uint64_t min = load_relaxed(&zone->min_pages);

	if (flags & PP_NOMEMALLOC)
		return min;
	if (flags & PP_MEMALLOC)
		return 0;
	if (flags & PP_HIGH) {
		min -= min / 2;
		if (flags & PP_NOWAIT)
			min -= min / 4;
	}
	return min;
}

static void *from_zone(struct pcp_registry *reg,
		       const struct page_request *req,
		       struct page_result *result)
{
	struct zone_request zreq = {
		.nr_pages = req->nr_pages,
		.align_pages = req->align_pages,
		.floor_pages = page_floor_pages(reg->zone, req->flags),
		.may_grow = req->may_grow,
	};
	struct zone_run run;

	if (!backing_claim(reg->zone, &zreq, 1, &run, &result->why))
		return NULL;
	result->zeroed = run.fresh_pages == run.nr_pages;
	return span_page_address(reg->zone->span, run.page);
}

static void *from_cache(struct pcp *pcp, const struct page_request *req,
			uint64_t floor_pages, struct page_result *result)
{
	uint32_t word;

	if (req->nr_pages > RUN_MAX_BIN_PAGES)
		return pcp_take_long(pcp, req->nr_pages, req->align_pages);
	if (req->align_pages > 1)
		return NULL;
	word = run_bin_word[req->nr_pages];
	if (!load_relaxed(&pcp->bin[run_word_bin(word)].count))
		pcp_refill_runs(pcp, run_word_bin(word), floor_pages,
				&result->why);
	return pcp_pop_run(pcp, word);
}

void *page_alloc_once(struct pcp_registry *reg, struct pcp *pcp,
		      const struct page_request *req,
		      struct page_result *result)
{
	struct page_request rounded = *req;
	void *run;

	result->zeroed = false;
	result->why = FAILURE_TOO_BIG;
	if (req->nr_pages > RUN_MAX_PAGES ||
	    req->nr_pages > load_relaxed(&reg->zone->managed_pages))
		return NULL;
	rounded.nr_pages = run_round_pages(req->nr_pages);
	if (pcp && !req->may_grow) {
		run = from_cache(pcp, &rounded,
				 page_floor_pages(reg->zone, req->flags),
				 result);
		if (run)
			return run;
	}
	run = from_zone(reg, &rounded, result);
	/* The last pages are worth an odd length. */
	if (!run && run_length_is_valid(req->nr_pages) &&
	    rounded.nr_pages != req->nr_pages)
		run = from_zone(reg, req, result);
	return run;
}

/* A run that memory was moved to is made ordinary before it goes back. */
static void free_moved(struct pcp_registry *reg, uint64_t page, uint64_t pages)
{
	struct zone *zone = reg->zone;
	bool backed = os_reset(span_page_address(zone->span, page),
			       pages_to_bytes(pages)) != 0;

	lock_acquire(&zone->lock);
	if (!backed)
		zone->nr_moved_runs--;
	zone_release(zone, page, pages, backed);
	zone_unlock(zone);
}

void page_free(struct pcp_registry *reg, struct pcp *pcp, uint64_t page,
	       uint32_t word)
{
	uint64_t pages = run_word_pages(word);

	TRACE(mm_page_free, page, pages);
	if (unlikely(word & MAP_MOVED)) {
		free_moved(reg, page, pages);
		return;
	}
	if (pcp) {
		if (pages > RUN_MAX_BIN_PAGES) {
			if (pcp_keep_long(pcp, page, word))
				return;
		} else {
			pcp_free_run_slow(pcp, page, word);
			return;
		}
	}
	lock_acquire(&reg->zone->lock);
	zone_release(reg->zone, page, pages, true);
	zone_unlock(reg->zone);
}

static bool grow_in_place(struct zone *zone, uint64_t page, uint64_t have,
			  uint64_t want, uint64_t floor_pages)
{
	struct zone_run more;
	uint32_t word;
	bool ok;

	lock_acquire(&zone->lock);
	word = load_relaxed(&zone->span->map[page]);
	ok = zone_extend(zone, page, have, want - have, floor_pages, &more);
	zone_unlock(zone);
	if (!ok || backing_finish(zone, &more))
		return ok;
	/* Only the run's owner, who waits for us, looks at its length. */
	store_relaxed(&zone->span->map[page], word);
	return false;
}

bool page_resize(struct pcp_registry *reg, uint64_t page, uint32_t word,
		 uint64_t nr_pages, uint64_t floor_pages)
{
	uint64_t have = run_word_pages(word);
	struct zone *zone = reg->zone;
	uint64_t want;

	if (nr_pages > RUN_MAX_PAGES)
		return false;
	want = run_round_pages(nr_pages);
	/* Near the limit a run may have an odd length, below its bin's. */
	if (want == have || (nr_pages <= have && want > have))
		return true;
	if (want > have)
		return grow_in_place(zone, page, have, want, floor_pages);
	lock_acquire(&zone->lock);
	zone_shrink(zone, page, have, want);
	zone_unlock(zone);
	return true;
}

/* Each moved run is up to two mappings more; 65530 is all a process has. */
#define PAGE_MAX_MOVED_RUNS	1024

static bool may_move(struct zone *zone, uint64_t have, uint32_t word)
{
	/* Within a block copying is as fast; and one that was moved before is
	 * two mappings, which mremap does not take. */
	return have > PAGEBLOCK_PAGES && !(word & MAP_MOVED) &&
	       zone->nr_moved_runs < PAGE_MAX_MOVED_RUNS;
}

void *page_move(struct pcp_registry *reg, uint64_t page, uint32_t word,
		uint64_t nr_pages, uint64_t floor_pages)
{
	struct zone *zone = reg->zone;
	uint64_t have = run_word_pages(word);
	struct zone_request zreq = {
		.align_pages = 1,
		.floor_pages = floor_pages,
		.moved_pages = have,
		.map_flags = MAP_MOVED,
	};
	struct zone_run run;
	enum failure why;
	void *to;
	bool moved;

	if (nr_pages <= have || nr_pages > RUN_MAX_PAGES ||
	    !may_move(zone, have, word))
		return NULL;
	zreq.nr_pages = run_round_pages(nr_pages);
	if (!backing_claim(zone, &zreq, 1, &run, &why))
		return NULL;
	to = span_page_address(zone->span, run.page);
	moved = os_move(span_page_address(zone->span, page), to,
			pages_to_bytes(have)) == 0;
	lock_acquire(&zone->lock);
	if (moved) {
		zone_finish_move(zone, &run, page);
		zone->nr_moved_runs++;
	} else {
		zone_unclaim(zone, &run);
	}
	zone_unlock(zone);
	return moved ? to : NULL;
}
