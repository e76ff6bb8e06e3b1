/* SPDX-License-Identifier: MIT */
/* page_alloc.c - see page_alloc.h. */
#include "page_alloc.h"

#include "backing.h"
#include "mempolicy.h"
#include "os/os.h"
#include "thp.h"
#include "trace.h"

uint64_t page_floor_pages(struct zone *zone, unsigned flags)
{
	uint64_t min = load_relaxed(&zone->min_pages);

	if (!(flags & PP_NOMEMALLOC)) {
		if (flags & PP_MEMALLOC)
			return 0;
		if (flags & PAGE_OF_VICTIM)
			return min - min / 2;
		if (flags & PP_HIGH) {
			min -= min / 2;
			return flags & PP_NOWAIT ? min - min / 4 : min;
		}
	}
	if (flags & PAGE_CLAIMANT)
		return min;
	return min + load_relaxed(&zone->claimed_pages);
}

static void *from_zone(struct pcp_registry *reg, struct zone *zone,
		       const struct page_request *req, uint64_t floor_pages,
		       struct page_result *result)
{
	struct zone_request zreq = {
		.nr_pages = req->nr_pages,
		.align_pages = req->align_pages,
		.floor_pages = floor_pages,
		.may_grow = req->may_grow,
	};
	struct zone_run run;

	if (!backing_claim(zone, &zreq, 1, &run, &result->why))
		return NULL;
	if (unlikely(zone_free_pages(zone) < load_relaxed(&zone->min_pages)))
		TRACE(reserve_dip, zone->index, zone_free_pages(zone),
		      req->flags);
	pcp_note_claim(reg, zone);
	result->zeroed = run.fresh_pages == run.nr_pages;
	/* What is cut up later would leave holes in huge blocks. */
	if (!req->exact)
		thp_advise(zone, run.page, run.nr_pages);
	return span_page_address(zone->span, run.page);
}

/* What is to stay free in a zone while others have more: what wakes reclaim in
 * the kernel. */
static uint64_t low_floor_pages(struct zone *zone, unsigned flags)
{
	return max_u64(load_relaxed(&zone->low_pages),
		       page_floor_pages(zone, flags));
}

/*
 * Once through all zones that may be used.  @at_low: only where more than low
 * stays free.  What is said in the end is what the zone said that came closest
 * to it: one where the limit is in the way.
 */
static void *from_choice(struct pcp_registry *reg, struct pcp *pcp,
			 const struct zone_choice *choice,
			 const struct page_request *req, bool at_low,
			 struct page_result *result)
{
	enum failure why = FAILURE_TOO_BIG;

	for_each_chosen(i, choice) {
		struct zone *zone = &reg->zones[i];
		void *run = from_zone(reg, zone, req, at_low ?
				      low_floor_pages(zone, req->flags) :
				      page_floor_pages(zone, req->flags),
				      result);

		if (run) {
			if (i != choice->row[0])
				pcp_count_in(reg, pcp, EVENT_NODE_FALLBACK,
					     1);
			if (pcp)
				pcp_was_served(pcp, choice->row[0]);
			return run;
		}
		if (why != FAILURE_LIMIT && result->why != FAILURE_TOO_BIG)
			why = result->why;
	}
	result->why = why;
	return NULL;
}

static void *from_zones(struct pcp_registry *reg, struct pcp *pcp,
			const struct zone_choice *choice,
			const struct page_request *req,
			struct page_result *result)
{
	void *run = NULL;

	if (choice->nr == 1)
		return from_zone(reg, &reg->zones[choice->row[0]], req,
				 page_floor_pages(&reg->zones[choice->row[0]],
						  req->flags), result);
	run = from_choice(reg, pcp, choice, req, true, result);
	return run ? run :
	       from_choice(reg, pcp, choice, req, false, result);
}

static void *from_cache(struct pcp *pcp, const struct page_request *req,
			struct page_result *result)
{
	struct zone *zone;
	uint32_t word;

	if (req->nr_pages > RUN_MAX_BIN_PAGES)
		return pcp_take_long(pcp, req->nr_pages, req->align_pages);
	if (req->align_pages > 1)
		return NULL;
	word = run_bin_word[req->nr_pages];
	if (!load_relaxed(&pcp->bin[run_word_bin(word)].count) &&
	    !load_relaxed(&pcp->front_run[run_word_bin(word)])) {
		/* Who names a zone knows that the cache is at home there. */
		zone = req->node ? pcp_home(pcp) : pcp_refill_zone(pcp);
		/* What is for a few is not put where all take from: the floor
		 * is that of an ordinary request at least. */
		pcp_refill_runs(pcp, run_word_bin(word), zone,
				pcp->registry->nodes ?
				low_floor_pages(zone, 0) :
				page_floor_pages(zone, 0), &result->why);
	}
	return pcp_pop_run(pcp, word);
}

/* With several zones: where the request is to begin. */
static unsigned first_zone(struct pcp_registry *reg, struct pcp *pcp,
			   const struct page_request *req)
{
	if (req->node)
		return req->node - 1;
	if (req->flags & PP_THISNODE)
		return mempolicy_here(reg->nodes);
	return mempolicy_first(reg->nodes, pcp ? pcp->turn :
			       add_relaxed(&reg->nodes->turn, 1));
}

static const uint8_t row_of_one[1] = { 0 };

static struct zone_choice choose(struct pcp_registry *reg, struct pcp *pcp,
				 const struct page_request *req)
{
	if (!reg->nodes)
		return (struct zone_choice){ row_of_one, 1, 1 };
	return mempolicy_choice(reg->nodes, first_zone(reg, pcp, req),
				req->flags & PP_THISNODE);
}

/* A request that is particular about its node can have what is cached only if
 * all of that is of this node. */
static bool may_use_cache(struct pcp_registry *reg, struct pcp *pcp,
			  const struct page_request *req)
{
	if (!pcp || req->may_grow || req->exact)
		return false;
	if (!reg->nodes || (!req->node && !(req->flags & PP_THISNODE)))
		return true;
	if (!req->node)
		pcp_refill_zone(pcp);
	return pcp_is_home(pcp, first_zone(reg, pcp, req));
}

static uint64_t most_managed(struct pcp_registry *reg)
{
	uint64_t most = 0;

	for_each_zone(zone, reg->zones)
		most = max_u64(most, load_relaxed(&zone->managed_pages));
	return most;
}

void *page_alloc_once(struct pcp_registry *reg, struct pcp *pcp,
		      const struct page_request *req,
		      struct page_result *result)
{
	struct page_request rounded = *req;
	struct zone_choice choice;
	void *run;

	result->zeroed = false;
	result->why = FAILURE_TOO_BIG;
	if (req->nr_pages > RUN_MAX_PAGES ||
	    req->nr_pages > most_managed(reg))
		return NULL;
	if (!req->exact || !run_length_is_valid(req->nr_pages))
		rounded.nr_pages = run_round_pages(req->nr_pages);
	if (may_use_cache(reg, pcp, req)) {
		run = from_cache(pcp, &rounded, result);
		if (run)
			return run;
	}
	choice = choose(reg, pcp, req);
	run = from_zones(reg, pcp, &choice, &rounded, result);
	/* The last pages are worth an odd length. */
	if (!run && run_length_is_valid(req->nr_pages) &&
	    rounded.nr_pages != req->nr_pages)
		run = from_zones(reg, pcp, &choice, req, result);
	return run;
}

/* A run that memory was moved to is made ordinary before it goes back. */
static void free_moved(struct pcp_registry *reg, uint64_t page, uint64_t pages)
{
	struct zone *zone = zone_of_page(reg->zones, page);
	bool backed = os_reset(span_page_address(zone->span, page),
			       pages_to_bytes(pages), SPAN_NAME) != 0;

	bool dressed = !backed && thp_redress(zone, page, pages);

	if (!backed && reg->nodes)
		nodes_prefer(reg->nodes, zone, page, pages);
	lock_acquire(&zone->lock);
	if (dressed)	/* and one mapping with its neighbours */
		zone->nr_moved_runs--;
	zone_release(zone, page, pages, backed);
	zone_unlock_released(zone);
}

void page_free(struct pcp_registry *reg, struct pcp *pcp, uint64_t page,
	       uint32_t word)
{
	uint64_t pages = run_word_pages(word), at;
	struct zone *zone;

	TRACE(mm_page_free, page, pages);
	if (unlikely(word & MAP_MOVED)) {
		free_moved(reg, page, pages);
		return;
	}
	/* What is of another node goes home. */
	if (pcp && pcp_covers(pcp, page)) {
		at = page - pcp_first_page(pcp);
		if (pages > RUN_MAX_BIN_PAGES) {
			if (pcp_keep_long(pcp, at, word))
				return;
		} else {
			pcp_free_run_slow(pcp, at, word);
			return;
		}
	}
	zone = zone_of_page(reg->zones, page);
	thp_retire(zone, page, pages);
	lock_acquire(&zone->lock);
	zone_release(zone, page, pages, true);
	zone_unlock_released(zone);
	if (pcp)
		add_single_writer(&pcp->given_pages, pages);
}

static bool grow_in_place(struct pcp_registry *reg, struct zone *zone,
			  uint64_t page, uint64_t have, uint64_t want,
			  uint64_t floor_pages)
{
	struct zone_run more;
	uint32_t word;
	bool ok;

	lock_acquire(&zone->lock);
	word = load_relaxed(&zone->span->map[page]);
	ok = zone_extend(zone, page, have, want - have, floor_pages, &more);
	zone_unlock(zone);
	if (!ok)
		return false;
	if (backing_finish(zone, &more)) {
		pcp_note_claim(reg, zone);
		if (!(word & MAP_MOVED))
			thp_advise(zone, page, want);
		return true;
	}
	/* Only the run's owner, who waits for us, looks at its length. */
	store_relaxed(&zone->span->map[page], word);
	return false;
}

bool page_resize(struct pcp_registry *reg, uint64_t page, uint32_t word,
		 uint64_t nr_pages, uint64_t floor_pages)
{
	uint64_t have = run_word_pages(word);
	struct zone *zone = zone_of_page(reg->zones, page);
	uint64_t want;

	if (nr_pages > RUN_MAX_PAGES)
		return false;
	want = run_round_pages(nr_pages);
	/* Near the limit a run may have an odd length, below its bin's. */
	if (want == have || (nr_pages <= have && want > have))
		return true;
	if (want > have)
		return grow_in_place(reg, zone, page, have, want, floor_pages);
	thp_retire_tail(zone, page, have, want);
	lock_acquire(&zone->lock);
	zone_shrink(zone, page, have, want);
	zone_unlock_released(zone);
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
	struct zone *zone = zone_of_page(reg->zones, page);
	uint64_t have = run_word_pages(word);
	struct zone_request zreq = {
		.align_pages = 1,
		.floor_pages = floor_pages,
		.moved_pages = have,
		.moved_from = page,
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
	/* What the kernel is to move must be one mapping. */
	moved = thp_retire(zone, page, have) &&
		os_move(span_page_address(zone->span, page), to,
			pages_to_bytes(have)) == 0;
	lock_acquire(&zone->lock);
	if (moved) {
		zone_finish_move(zone, &run, page);
		zone->nr_moved_runs++;
	} else {
		zone_unclaim(zone, &run);
	}
	zone_unlock(zone);
	pcp_note_claim(reg, zone);
	return moved ? to : NULL;
}
