/* SPDX-License-Identifier: MIT */
/*
 * pcp_home.c - which zone a thread's cache is filled from (layer 6).
 *
 * A thread that the scheduler has moved to another node finds out when its
 * cache is next refilled: one system call for a batch.  It then gives what it
 * has back, since all of it is far away, and begins anew.
 */
#include "mempolicy.h"
#include "pcp.h"

static void set_range(struct pcp *pcp, uint64_t first_page, uint64_t nr_pages)
{
	struct span *span = pcp->registry->zones->span;

	pcp->base = (uintptr_t)span_page_address(span, first_page);
	pcp->map = span->map + first_page;
	pcp->span_bytes = pages_to_bytes(nr_pages);
}

/* The cache is empty. */
static void set_home(struct pcp *pcp, struct zone *home, bool is_shared)
{
	struct span *span = home->span;

	store_relaxed(&pcp->home, home);
	store_relaxed(&pcp->is_shared, is_shared);
	add_relaxed(&home->nr_caches, 1);
	if (is_shared)
		set_range(pcp, 0, span->nr_pages);
	else
		set_range(pcp, zone_first_page(home),
			  (uint64_t)span->zone_blocks * PAGEBLOCK_PAGES);
}

/* The home that a cache should have now. */
static struct zone *wanted_home(struct pcp *pcp, bool *is_shared)
{
	struct pcp_registry *reg = pcp->registry;

	*is_shared = mempolicy_is_interleaved(reg->nodes);
	if (*is_shared)
		return pcp_home(pcp) ? pcp_home(pcp) :
		       &reg->zones[nodes_local(reg->nodes)];
	return &reg->zones[mempolicy_first(reg->nodes, 0)];
}

void pcp_move_in(struct pcp *pcp)
{
	struct zone *home = pcp->registry->zones;
	bool is_shared = false;

	if (pcp->registry->nodes)
		home = wanted_home(pcp, &is_shared);
	pcp->turn = home->index;
	set_home(pcp, home, is_shared);
}

void pcp_move_out(struct pcp *pcp)
{
	sub_relaxed(&pcp_home(pcp)->nr_caches, 1);
}

static PP_COLD void move(struct pcp *pcp, struct zone *home, bool is_shared)
{
	pcp_flush(pcp);
	pcp->last = NULL;
	pcp_move_out(pcp);
	set_home(pcp, home, is_shared);
}

struct zone *pcp_refill_zone(struct pcp *pcp)
{
	struct pcp_registry *reg = pcp->registry;
	struct zone *home;
	bool is_shared;

	if (!reg->nodes)
		return pcp_home(pcp);
	home = wanted_home(pcp, &is_shared);
	if (home != pcp_home(pcp) ||
	    is_shared != load_relaxed(&pcp->is_shared))
		move(pcp, home, is_shared);
	if (!is_shared)
		return home;
	return &reg->zones[mempolicy_first(reg->nodes, pcp->turn)];
}

bool pcp_is_home(const struct pcp *pcp, unsigned index)
{
	return !load_relaxed(&pcp->is_shared) &&
	       pcp_home(pcp)->index == index;
}

/* Every cached run says so in the map, at its first page. */
static int64_t count_in_map(struct zone *zone)
{
	uint64_t page = zone_first_page(zone), n;
	uint64_t end = (uint64_t)load_relaxed(&zone->range.committed) <<
		       PAGEBLOCK_SHIFT;
	int64_t sum = 0;

	while (page < end) {
		uint32_t word = load_relaxed(&zone->span->map[page]);

		n = !(word & MAP_SLAB) && word & MAP_RUN ?
		    run_word_pages(word) : 1;
		if (!(word & MAP_SLAB) && word & MAP_CACHED)
			sum += (int64_t)n;
		page += n;
	}
	return sum;
}

int64_t pcp_sum_cached_pages_of(struct pcp_registry *reg, struct zone *zone)
{
	bool any_shared = false;
	int64_t sum = 0;

	lock_acquire(&pcp_registry_lock);
	for (struct pcp *pcp = reg->head; pcp; pcp = pcp->next) {
		any_shared = any_shared || load_relaxed(&pcp->is_shared);
		if (pcp_home(pcp) == zone)
			sum += pcp_cached_pages(pcp);
	}
	lock_release(&pcp_registry_lock);
	return any_shared ? count_in_map(zone) : sum;
}
