/* SPDX-License-Identifier: MIT */
/* purge.c - see purge.h. */
#include "purge.h"

#include "backing.h"
#include "trace.h"

/* Of what is spare, at one event of pressure from outside. */
#define PURGE_SHARE	4
/* Nothing that was due could be purged: mlock, or a filter. */
#define PURGE_REFUSED_NS	10000000000ull

/* What is to go, with the lock held. */
struct due {
	uint64_t	pages;		/* of blocks, or wherever */
	uint64_t	hole_pages;	/* of these also holes */
	bool		has_more;	/* not due yet */
};

static uint64_t less(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

static struct due what_is_due(struct zone *zone, uint64_t now_ns,
			      uint64_t slot_ns)
{
	uint64_t keep = zone_keep_pages(zone), idle;
	struct due due;

	lock_acquire(&zone->lock);
	idle = zone_age_spare(zone, now_ns, slot_ns);
	due.has_more = zone_has_excess(zone);
	zone->watch_excess = !due.has_more;
	due.pages = less(idle, keep);
	due.hole_pages = less(idle, keep + zone_keep_holes_pages(zone));
	zone_unlock(zone);
	return due;
}

uint64_t purge_look(struct zone *zone, uint64_t now_ns, uint64_t delay_ns,
		    uint64_t budget_pages)
{
	uint64_t slot_ns = spare_window_slot_ns(delay_ns), done = 0;
	struct due due = what_is_due(zone, now_ns, slot_ns);

	if (!due.has_more)
		return PURGE_NEVER_NS;
	if (!due.pages)
		return slot_ns;
	done = backing_purge(zone, ZONE_SPARE_BLOCKS,
			     min_u64(due.pages, budget_pages));
	if (done < min_u64(due.hole_pages, budget_pages))
		done += backing_purge(zone, ZONE_SPARE_ALL,
				      min_u64(due.hole_pages, budget_pages) -
				      done);
	TRACE(purge, zone->index, due.pages, done);
	if (done >= budget_pages)
		return 0;
	return done || !due.hole_pages ? slot_ns : PURGE_REFUSED_NS;
}

uint64_t purge_share(struct zone *zone)
{
	uint64_t spare = less(zone_spare_pages(zone), zone_keep_pages(zone));

	return backing_purge(zone, ZONE_SPARE_ALL, div_up(spare, PURGE_SHARE));
}

void purge_add_idle(struct zone *zone, uint64_t drained_pages,
		    uint64_t idle_ns, uint64_t delay_ns)
{
	uint64_t slots = idle_ns / spare_window_slot_ns(delay_ns);

	lock_acquire(&zone->lock);
	zone_add_idle(zone, drained_pages,
		      (unsigned)min_u64(slots, SPARE_WINDOW_SLOTS));
	zone_unlock(zone);
}
