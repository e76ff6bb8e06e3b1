/* SPDX-License-Identifier: MIT */
/*
 * vmscan.h - reclaim: the priority loop (layer 9).
 *
 * Frees memory that the program can do without, a little first and then more
 * and more: priority 12 asks each shrinker for next to nothing, priority 0 for
 * all it has.  The loop is that of Linux mm/vmscan.c: balance_pgdat() for the
 * background thread, do_try_to_free_pages() for a request.
 *
 * Callbacks are run by the threads of call_service.h, in a scope of PP_MEMALLOC
 * (shrinker.h): what they allocate comes from the reserve, and never reclaims
 * again (V1).  Those who want memory wait for them.
 *
 * V1: nobody enters with PP_MEMALLOC in its scope, but for vmscan_clean()
 * V2: a run of a zone whose free pages are above high does not begin a pass
 * V3: a zone is hopeless after ZONE_MAX_FAILURES runs in a row that brought no
 *     page back, or at once where there is no shrinker, until somebody's
 *     reclaim frees something or a shrinker is registered
 */
#ifndef PP_VMSCAN_H
#define PP_VMSCAN_H

#include "pcp.h"
#include "shrinker.h"

/* Linux: SWAP_CLUSTER_MAX. */
#define VMSCAN_CLUSTER_PAGES	32u

/* What a request wants freed. */
struct vmscan_want {
	uint64_t	nr_pages;	/* of the request */
	unsigned	flags;		/* PP_*, the scope's included */
	struct zone	*only;		/* it may come from; NULL: any */
	uint64_t	deadline_ns;
};

/* Would it be served, with so many free pages more than there are?  A look. */
bool vmscan_would_serve(struct pcp_registry *reg,
			const struct vmscan_want *want, uint64_t more_pages);

/**
 * vmscan_direct() - free memory for a request that would fail.
 * @has_more: receives whether asking again could bring anything: a shrinker has
 *	      something still, or is busy.
 *
 * Ends with the first pass after which the request would be served, and those
 * that wait for the same pass.
 * Context: no lock held, the thread's cache left; has callbacks run.
 * Return: objects freed: 0 means no progress.
 */
uint64_t vmscan_direct(struct pcp_registry *reg,
		       const struct vmscan_want *want, bool *has_more);

/* The same for one that is reclaiming itself: once over the shrinkers that
 * neither allocate nor wait, in this thread. */
uint64_t vmscan_clean(struct pcp_registry *reg,
		      const struct vmscan_want *want);

/**
 * vmscan_pages() - free about so many pages, because the program asks for it.
 * Return: pages that came back, as far as that can be told.
 */
uint64_t vmscan_pages(struct pcp_registry *reg, const struct vmscan_want *want);

/**
 * vmscan_balance() - a run: free memory until the zone is above high.
 *
 * Runs callbacks in this thread.
 * @flags: of the request, for one that does it on its way; without PP_NOFS.
 * @deadline_ns: for a thread that has something else to do.
 * Return: did any page come back?
 */
bool vmscan_balance(struct pcp_registry *reg, struct zone *zone,
		    unsigned flags, uint64_t deadline_ns);

/* One pass in this thread, a sixteenth of what there is, whatever is free:
 * there is pressure from outside. */
uint64_t vmscan_gently(struct pcp_registry *reg, uint64_t deadline_ns);

/* Has nothing come of the last runs? */
static inline bool vmscan_is_hopeless(struct zone *zone)
{
	return load_relaxed(&zone->reclaim_failures) >= ZONE_MAX_FAILURES;
}

/* Nobody is there to do a run, or nothing to ask: if that is so still. */
void vmscan_give_up(struct pcp_registry *reg, struct zone *zone);

/* There may be something to reclaim from now on: a shrinker was registered. */
void vmscan_revive(struct pcp_registry *reg);

/**
 * vmscan_throttle() - wait while the zones' reserve is half used up and
 * reclaimd works on it.
 *
 * Not longer than a second, or until the deadline.
 * Source: Linux mm/vmscan.c, throttle_direct_reclaim().
 */
void vmscan_throttle(struct pcp_registry *reg,
		     const struct vmscan_want *want);

/* Lets the throttled go that may. */
void vmscan_unthrottle(struct zone *zone);

#endif
