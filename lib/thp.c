/* SPDX-License-Identifier: MIT */
/* thp.c - see thp.h. */
#include "thp.h"

#include "os/os.h"
#include "zone_place.h"

/* Blocks @first .. @end - 1. */
struct blocks {
	uint32_t	first, end;
};

/* Those that a run has to itself. */
static struct blocks whole_blocks(uint64_t page, uint64_t nr_pages)
{
	return (struct blocks){
		.first = (uint32_t)div_up(page, PAGEBLOCK_PAGES),
		.end = (uint32_t)((page + nr_pages) >> PAGEBLOCK_SHIFT),
	};
}

static int advise(struct zone *zone, struct blocks b, bool huge)
{
	return os_advise_huge(span_page_address(zone->span, (uint64_t)b.first
						<< PAGEBLOCK_SHIFT),
			      (size_t)(b.end - b.first) * PAGEBLOCK_BYTES,
			      huge);
}

static void set_huge(struct zone *zone, struct blocks b, bool huge)
{
	lock_assert_held(&zone->lock);
	for (uint32_t nr = b.first; nr < b.end; nr++)
		place_set_huge(zone, nr, huge);
}

_Atomic int thp_system;

static bool system_is_always(void)
{
	int is = load_relaxed(&thp_system);

	if (is == THP_SYSTEM_UNKNOWN) {
		is = os_system_thp() == OS_THP_ALWAYS ? THP_SYSTEM_ALWAYS :
							THP_SYSTEM_OTHER;
		store_relaxed(&thp_system, is);
	}
	return is == THP_SYSTEM_ALWAYS;
}

void thp_start(struct zone *zone, enum thp_setting setting)
{
	uint32_t thp = ZONE_THP_NEVER;

	if (setting == THP_AUTO) {
		thp = ZONE_THP_AUTO;
	} else if (setting == THP_ALWAYS && os_system_thp() != OS_THP_NEVER &&
		   advise(zone, (struct blocks){ zone->range.first,
						 zone->range.end }, true)
		   == 0) {
		thp = ZONE_THP_ALWAYS;
		zone->may_demote = true;
	}
	store_relaxed(&zone->thp, thp);
}

/* Runs: auto */

/* From here until end_advice() nobody demotes the zone.  Lock held. */
static bool begin_advice(struct zone *zone, enum zone_thp while_thp)
{
	if (load_relaxed(&zone->thp) != while_thp || zone->is_demoting)
		return false;
	zone->nr_advising++;
	return true;
}

static void end_advice(struct zone *zone)
{
	VM_BUG_ON(!zone->nr_advising);
	zone->nr_advising--;
}

PP_COLD void thp_advise_blocks(struct zone *zone, uint64_t page,
			       uint64_t nr_pages)
{
	struct blocks b = whole_blocks(page, nr_pages);
	bool granted;

	if (!system_is_always())
		return;
	lock_acquire(&zone->lock);
	granted = load_relaxed(&zone->nr_huge_ranges) < THP_MAX_RANGES &&
		  begin_advice(zone, ZONE_THP_AUTO);
	if (granted)
		set_huge(zone, b, true);
	zone_unlock(zone);
	if (!granted)
		return;
	/* A part of it may have been advised before it was refused. */
	if (advise(zone, b, true))
		thp_retire_blocks(zone, page, nr_pages);
	lock_acquire(&zone->lock);
	end_advice(zone);
	zone_unlock(zone);
}

static bool any_is_huge(struct zone *zone, struct blocks b)
{
	bool any = false;

	lock_acquire(&zone->lock);
	for (uint32_t nr = b.first; nr < b.end && !any; nr++)
		any = block_at(zone, nr)->huge;
	zone_unlock(zone);
	return any;
}

static bool retire(struct zone *zone, struct blocks b)
{
	int err;

	if (!any_is_huge(zone, b))
		return true;
	err = advise(zone, b, false);
	lock_acquire(&zone->lock);
	if (err)
		zone->may_demote = true;
	else
		set_huge(zone, b, false);
	zone_unlock(zone);
	return !err;
}

PP_COLD bool thp_retire_blocks(struct zone *zone, uint64_t page,
			       uint64_t nr_pages)
{
	return retire(zone, whole_blocks(page, nr_pages));
}

void thp_retire_tail(struct zone *zone, uint64_t page, uint64_t nr_pages,
		     uint64_t keep_pages)
{
	struct blocks b = whole_blocks(page, nr_pages);
	uint32_t keep = whole_blocks(page, keep_pages).end;

	if (!load_relaxed(&zone->nr_huge_ranges) ||
	    load_relaxed(&zone->thp) != ZONE_THP_AUTO)
		return;
	/* What would be left of a short run is not worth a mapping. */
	if (keep_pages >= THP_MIN_PAGES && keep > b.first)
		b.first = keep;
	retire(zone, b);
}

/* Zones: always */

bool thp_redress(struct zone *zone, uint64_t page, uint64_t nr_pages)
{
	bool granted;
	int err;

	if (load_relaxed(&zone->thp) != ZONE_THP_ALWAYS)
		return true;
	lock_acquire(&zone->lock);
	granted = begin_advice(zone, ZONE_THP_ALWAYS);
	zone_unlock(zone);
	if (!granted)
		return true;
	err = os_advise_huge(span_page_address(zone->span, page),
			     pages_to_bytes(nr_pages), true);
	lock_acquire(&zone->lock);
	end_advice(zone);
	zone_unlock(zone);
	return !err;
}

/* The next of the blocks that were huge when the zone was demoted. */
static bool demote_some(struct zone *zone)
{
	struct blocks b = { zone->demote_block, zone->demote_end };

	if (b.first == b.end)
		return false;
	if (b.end - b.first > THP_DEMOTE_BLOCKS)
		b.end = b.first + THP_DEMOTE_BLOCKS;
	set_huge(zone, b, false);
	zone->demote_block = b.end;
	return true;
}

PP_COLD bool thp_make_holes(struct zone *zone)
{
	struct blocks all = { zone->range.first, zone->range.end };
	int err;

	lock_assert_held(&zone->lock);
	if (demote_some(zone))
		return true;
	if (!zone->may_demote || zone->nr_advising || zone->is_demoting)
		return false;
	zone->is_demoting = true;
	zone_unlock(zone);
	err = advise(zone, all, false);
	lock_acquire(&zone->lock);
	zone->is_demoting = false;
	if (err)
		return false;
	zone->may_demote = false;
	store_relaxed(&zone->thp, ZONE_THP_NEVER);
	zone->demote_block = all.first;
	zone->demote_end = zone->frontier_block;
	return true;
}
