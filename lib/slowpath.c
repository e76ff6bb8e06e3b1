/* SPDX-License-Identifier: MIT */
/* slowpath.c - see slowpath.h. */
#include "slowpath.h"

#include "node.h"
#include "os/os.h"
#include "trace.h"

static void note_time(struct pcp_registry *reg, struct pcp *pcp,
		      uint64_t start_ns)
{
	int64_t took_ns = (int64_t)(os_now_ns() - start_ns);

	pcp_count_in(reg, pcp, EVENT_SLOWPATH, 1);
	pcp_count_in(reg, pcp, EVENT_SLOWPATH_NS, took_ns);
	/* These counts are to be folded within a second. */
	if (unlikely(load_relaxed(&reg->resting)))
		pcp_kick_reclaimd(reg);
}

/* What this thread can do by itself. */
static void give_back_own(struct pcp_registry *reg, struct pcp *pcp)
{
	if (load_relaxed(&reg->has_orphans))
		pcp_adopt_orphans(reg);
	if (pcp)
		pcp_flush(pcp);
	reg->drain_small(reg, NULL);
}

/*
 * Would all that others hide be enough?  From above: what caches hold, what
 * they may hold in small objects, and what is free in slabs, which a few
 * cached objects may keep from being whole.
 */
static bool is_worth_a_drain(struct pcp_registry *reg, struct pcp *pcp,
			     const struct page_request *req)
{
	uint64_t granted = pcp_sum_granted_bytes(reg, pcp), hidden;

	if (!granted)
		return false;
	hidden = (uint64_t)pcp_sum_cached_pages(reg) +
		 bytes_to_pages_up(granted + reg->small_free_bytes(reg));
	for_each_zone(zone, reg->zones)
		if (zone_free_pages(zone) + hidden >=
		    req->nr_pages + page_floor_pages(zone, req->flags))
			return true;
	return false;
}

static void wait_for_drain(struct pcp_registry *reg, struct pcp *pcp)
{
	pcp_count_in(reg, pcp, EVENT_DRAIN_WAITS, 1);
	pcp_wait_begin(pcp);
	reclaimd_drain(reg->reclaimd, pcp);
	pcp_wait_end(pcp);
}

static void *try_harder(struct pcp_registry *reg, struct pcp *pcp,
			const struct page_request *req,
			struct page_result *result)
{
	void *run;

	give_back_own(reg, pcp);
	run = page_alloc_once(reg, NULL, req, result);
	if (run || req->flags & PP_NOWAIT || result->why != FAILURE_LIMIT ||
	    !is_worth_a_drain(reg, pcp, req))
		return run;
	wait_for_drain(reg, pcp);
	return page_alloc_once(reg, NULL, req, result);
}

static PP_COLD void *alloc_pages_slow(struct pcp_registry *reg,
				      struct pcp *pcp,
				      const struct page_request *req,
				      struct page_result *result)
{
	uint64_t start_ns = os_now_ns();
	void *run = NULL;

	if (result->why != FAILURE_TOO_BIG && !(req->flags & PP_NORETRY))
		run = try_harder(reg, pcp, req, result);
	note_time(reg, pcp, start_ns);
	return run;
}

void *alloc_pages(struct pcp_registry *reg, struct pcp *pcp,
		  const struct page_request *req, struct page_result *result)
{
	void *run = page_alloc_once(reg, pcp, req, result);

	if (unlikely(!run))
		run = alloc_pages_slow(reg, pcp, req, result);
	TRACE(mm_page_alloc, run, req->nr_pages, req->flags);
	if (unlikely(!run))
		TRACE(alloc_fail, (int)result->why, req->nr_pages, req->flags);
	return run;
}
