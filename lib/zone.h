/* SPDX-License-Identifier: MIT */
/*
 * zone.h - the pages of one node, and the part of the limit they may use
 * (layer 4).
 *
 * The limit is a number, not a place.  A run is first granted by number (used
 * pages stay below managed, less the caller's floor) and then placed where it
 * fits; the span is so large that a place is always found.  Memory behind the
 * pages is counted separately: where a run needs more of it than the limit
 * leaves, the same amount of free backed pages ("spare") is purged first.
 * They exist, because used < managed.
 *
 * A zone has a range of the span of its own.  On a machine with one memory node
 * there is one zone, and its range is the span.
 *
 * Blocks that are partly used stand in lists by the power of two of their
 * longest free run; an allocation takes the list that just fits, so that
 * blocks empty out completely.  Those with spare pages stand in lists by their
 * longest run of these as well, and an allocation looks there first: free pages
 * that have memory cost neither a page fault nor, at the limit, a purge.
 * Blocks that are entirely free stand in a blockmap, and those of them with
 * memory in a second one.
 *
 *	  lists[0..8]                empty, empty_backed      frontier
 *	[512 .. partly used .. ] ... [ entirely free ] ... | never used
 *
 * Where the kernel may put a huge page (thp.h), a block is marked `huge` and
 * counts whole: as soon as one page of it is claimed, all 512 are backed, since
 * they may be at any time.  While that claim is in the making the others are
 * its filler: used in the block's bits, so that no second claim touches the
 * block before there is room for all of it, and in no other count.  Holes in
 * such a block cannot be purged before it is huge no more.
 *
 * At every release of the lock, with sums over all blocks:
 * I1: used + isolated + moving + filler == sum(popcount(used)) + charged
 * I2: backed + isolated + making == sum(popcount(used | backed)) + charged
 * I3: used <= managed
 * I4: backed + promised + held <= managed
 * I5: promised <= making
 * I6: a block is in exactly one of: a list (by longest_bound), the empty map,
 *     neither (full)
 * I7: a block is in a spare list (by spare_bound) iff it is partly used, not
 *     huge, and has spare pages that the kernel did not refuse to take
 * I8: min <= low <= high <= managed
 * I9: used + withheld <= managed
 * I10: nr_used + nr_spare of a huge block is 0 or 512
 * I11: nr_huge_ranges == the number of rows that huge blocks stand in
 * I12: the low of the window's slot of now <= spare pages
 */
#ifndef PP_ZONE_H
#define PP_ZONE_H

#include <stdbool.h>

#include "base/bug.h"
#include "base/lock.h"
#include "base/memwait.h"
#include "blockmap.h"
#include "pageblock.h"
#include "runs.h"
#include "span.h"
#include "spare_window.h"

#define ZONE_NR_LISTS		(PAGEBLOCK_SHIFT + 1)
/* The gap between watermarks, in 1/10000 of managed. */
#define ZONE_DEFAULT_SCALE	10
/* Runs of reclaim in a row that free nothing before a zone is given up (Linux:
 * MAX_RECLAIM_RETRIES). */
#define ZONE_MAX_FAILURES	16u
/* Ranges that one round of purging takes out of the zone. */
#define ZONE_PURGE_RANGES	32

/* Where the kernel may use huge pages by itself; see thp.h. */
enum zone_thp {
	ZONE_THP_NEVER,		/* nowhere, or in blocks that were huge */
	ZONE_THP_AUTO,		/* in long runs */
	ZONE_THP_ALWAYS,	/* everywhere */
};

struct zone {
	/* const after zone_init() */
	struct span	*span;
	uint32_t	index;		/* among the pool's zones */
	struct span_range range;

	/* lock to write; any thread reads, a stale value is harmless */
	_Atomic uint64_t managed_pages;
	_Atomic uint64_t min_pages, low_pages, high_pages;
	_Atomic uint64_t used_pages;
	_Atomic uint64_t backed_pages;	/* may hold memory */
	_Atomic uint32_t thp;		/* enum zone_thp */
	_Atomic uint32_t nr_huge_ranges;

	/* any thread: caches whose home this is */
	_Atomic uint32_t nr_caches;

	/* What the zone's reclaimd sleeps on, see reclaimd.h; resting: until
	 * it is kicked, however long. */
	_Atomic uint32_t kick;
	_Atomic bool	resting;
	_Atomic bool	reclaim_wanted;	/* free was at low or below */
	/* Beside reclaimd, a thread waits for that; a futex */
	_Atomic bool	has_balancer;
	_Atomic uint32_t balance_kick;
	_Atomic bool	has_reclaimd;
	_Atomic uint32_t reclaim_failures;	/* runs in a row, up to
						 * ZONE_MAX_FAILURES */
	_Atomic uint32_t throttle;	/* a futex, see vmscan.h */
	_Atomic uint32_t nr_throttled;
	_Atomic uint64_t next_look_ns;	/* at what is spare; no reclaimd */
	_Atomic bool	*work_due;	/* const: the pool's, where there is
					 * no reclaimd */
	struct memwait	*memwait;	/* const: the pool's, or NULL */
	_Atomic uint64_t claimed_pages;	/* see claim.h */

	/* lock */
	struct lock	lock PP_ALIGNED(PP_CACHELINE_BYTES);
	uint64_t	withheld_pages;	/* the limit is being lowered */
	uint64_t	promised_pages;	/* will be backed: room is kept */
	uint64_t	making_pages;	/* used, not backed yet */
	uint64_t	isolated_pages;	/* being purged */
	uint64_t	held_pages;	/* of those, in no run's credit */
	uint64_t	moving_pages;	/* in two runs, to be in one */
	uint32_t	nr_moved_runs;	/* see page_move() */
	uint64_t	charged_pages;	/* in used, but in no block */
	uint64_t	filler_pages;	/* held beside runs in the making */
	uint64_t	lost_filler_pages;	/* in a child, by nobody */
	uint32_t	nr_advising;	/* thp.c: advice under way, */
	bool		is_demoting;	/* the end of all of it under way, */
	bool		may_demote;	/* and worth it */
	uint32_t	demote_block;	/* huge no more: those below, */
	uint32_t	demote_end;	/* and then up to here */
	uint64_t	peak_used_pages;
	uint64_t	purged_pages;	/* events, in pages */
	uint64_t	nr_unlocks;	/* in full debug builds */
	uint32_t	frontier_block;	/* blocks below have been used */
	uint32_t	tables_blocks;	/* whose tables are paid for */
	uint32_t	asked_blocks;	/* that may have been committed */
	uint64_t	tables_pages;	/* charged for tables */
	struct spare_window window;	/* of spare pages */
	bool		watch_excess;	/* nobody else does */
	_Atomic bool	above_high;	/* free was, since somebody asked */
	uint32_t	lists[ZONE_NR_LISTS];
	uint32_t	spare_lists[ZONE_NR_LISTS];
	struct blockmap	empty, empty_backed;
};

struct zone_request {
	uint64_t	nr_pages;
	uint64_t	align_pages;	/* a power of two */
	uint64_t	floor_pages;	/* what must stay free */
	uint64_t	moved_pages;	/* that a run to be moved brings */
	uint64_t	moved_from;	/* its first page */
	uint32_t	map_flags;	/* MAP_CACHED, MAP_MOVED */
	bool		only_backed;	/* no page without memory */
	bool		may_grow;	/* leave room behind it */
	bool		no_commit;	/* look everywhere in what there is */
};

/* A run in the making: what zone_claim() found, before it is backed. */
struct zone_run {
	uint64_t	page;
	uint64_t	nr_pages;
	uint64_t	fresh_pages;	/* of them not backed */
	uint64_t	credit_pages;	/* of those with room kept */
	uint64_t	moved_pages;	/* of those that come from elsewhere */
	uint64_t	kept_pages;	/* of those that still count there */
	uint64_t	filler_pages;	/* fresh ones that are not the run's */
};

/* Free backed pages taken out of the zone to be purged outside its lock. */
struct zone_purge {
	unsigned	nr_ranges;
	uint64_t	nr_pages;
	uint64_t	held_pages;	/* not yet room for anybody */
	struct {
		uint64_t	page;
		uint64_t	nr_pages;
	} range[ZONE_PURGE_RANGES];
};

/* Why a claim failed.  Below zero, so that they fit where -errno does. */
enum zone_refusal {
	ZONE_BELOW_FLOOR = -1,	/* the limit */
	ZONE_NO_PLACE = -2,	/* no run of addresses is that long */
	ZONE_WANTS_COMMIT = -3,	/* span_commit_blocks(wanted), then again */
};

/**
 * zone_init_range() - a zone over one range of a span.
 * @index: which, from 0.
 * @managed_pages: its share of the limit, less what the tables take.
 *
 * The watermarks are computed by zone_set_watermarks() with the defaults.
 */
void zone_init_range(struct zone *zone, struct span *span, uint32_t index,
		     uint64_t managed_pages);

/* A zone over all of a span. */
static inline void zone_init(struct zone *zone, struct span *span,
			     uint64_t managed_pages)
{
	zone_init_range(zone, span, 0, managed_pages);
}

/* The one of a pool's zones that a page lies in. */
static inline struct zone *zone_of_page(struct zone *zones, uint64_t page)
{
	return &zones[span_zone_of(zones->span, page)];
}

static inline uint64_t zone_first_page(const struct zone *zone)
{
	return (uint64_t)zone->range.first << PAGEBLOCK_SHIFT;
}

/**
 * zone_set_watermarks() - min, low and high for the pages managed.
 * @min_free_bytes: sets min; 0: by the formula.
 * @scale: the gap between marks in 1/10000 of managed, 1..3000.
 *
 * Source: Linux mm/page_alloc.c; formulas and vectors in doc/tuning.md.
 */
void zone_set_watermarks(struct zone *zone, uint64_t min_free_bytes,
			 unsigned scale);

/* The formula for min: of the pages that a pool manages in all its zones. */
uint64_t watermark_min_bytes(uint64_t managed_pages);

/**
 * zone_claim() - grant and place a run, with the lock held.
 * @run: filled in on success.  Unless run->fresh_pages is 0 the caller must
 *       call zone_back() before anyone touches the run.
 * @wanted_blocks: set with ZONE_WANTS_COMMIT.
 *
 * The run's first page is a run in the map from then on.
 *
 * Return: 0 or an enum zone_refusal; nothing changed on refusal.
 */
int zone_claim(struct zone *zone, const struct zone_request *req,
	       struct zone_run *run, uint32_t *wanted_blocks);

/*
 * Keeps what room there is for the run's fresh pages, and marks it backed if
 * that is enough.  Lock held.
 */
bool zone_back(struct zone *zone, struct zone_run *run);

/*
 * Takes as many spare pages out of the zone as zone_back() found missing, or
 * as fit into @purge, and keeps the room that this makes for the run.  Returns
 * their number.  Lock held.
 */
uint64_t zone_make_room(struct zone *zone, struct zone_run *run,
			struct zone_purge *purge);

/* The opposite of the promise that zone_make_room() made for @nr_pages, which
 * could not be purged.  Lock held, since they were put back. */
void zone_renounce(struct zone *zone, struct zone_run *run, uint64_t nr_pages);

/* What a zone is to have when its limit changes. */
struct zone_limit {
	uint64_t	managed_pages;
	uint64_t	uncharge_pages;	/* charged now, tables then */
	uint32_t	tables_blocks;	/* whose tables are paid for then */
	uint64_t	min_free_bytes;
	unsigned	scale;
};

/**
 * zone_set_limit() - another number of pages to manage.  Lock held.
 * @excess_pages: set with -EAGAIN.
 *
 * Return: 0, and it is so; -EAGAIN while so many more pages may hold memory:
 * what is beyond the new limit is withheld from then on, so that the caller
 * can purge them and come back, or call zone_keep_limit(); -EBUSY if more is
 * used.  Nothing has changed on error, but for that.
 */
int zone_set_limit(struct zone *zone, const struct zone_limit *limit,
		   uint64_t *excess_pages);
void zone_keep_limit(struct zone *zone);

/* The zone had so much before zone_set_limit(): it has again, or what it uses
 * by now, if that is more.  Lock held. */
void zone_restore_limit(struct zone *zone, uint64_t managed_pages);

/* Puts purged (or not) ranges back as free pages.  Lock held. */
void zone_putback(struct zone *zone, const struct zone_purge *purge,
		  bool purged);

/* Which spare pages: those of entirely free blocks; or then also the holes in
 * blocks that are partly used. */
enum zone_spare { ZONE_SPARE_BLOCKS, ZONE_SPARE_ALL };

/* Takes at least @want_pages of spare pages out, or what there is and fits
 * into @purge; returns how many.  The blocks with the highest numbers come
 * first: they are the last to be used again.  Lock held. */
uint64_t zone_isolate_spare(struct zone *zone, enum zone_spare which,
			    uint64_t want_pages, struct zone_purge *purge);

/* Gives up a run in the making whose pages could not be backed. */
void zone_unclaim(struct zone *zone, const struct zone_run *run);

/**
 * zone_release() - take a run back.  Lock held.
 * @backed: false if its memory has been given back already.
 */
void zone_release(struct zone *zone, uint64_t page, uint64_t nr_pages,
		  bool backed);

/**
 * zone_extend() - claim the @more_pages pages after a run, with the lock held.
 *
 * Changes the run's length in the map.  @run describes the added pages, for
 * zone_back().  Return: false if they are not all free, or the floor forbids
 * it.
 */
bool zone_extend(struct zone *zone, uint64_t page, uint64_t nr_pages,
		 uint64_t more_pages, uint64_t floor_pages,
		 struct zone_run *run);

/* Gives back all but the first @keep_pages of a run.  Lock held. */
void zone_shrink(struct zone *zone, uint64_t page, uint64_t nr_pages,
		 uint64_t keep_pages);

/*
 * The memory of the run at @old_page is behind @run now, which was claimed
 * with its pages as moved_pages.  Backs @run and releases the old addresses.
 * Lock held.
 */
void zone_finish_move(struct zone *zone, const struct zone_run *run,
		      uint64_t old_page);

/* Says in the map what the pages of a used run are.  Lock held. */
void zone_set_map(struct zone *zone, uint64_t page, uint64_t nr_pages,
		  uint32_t first_word, uint32_t other_words);

/* Counts pages that are in no block, such as a thread's cache, as used.  A run
 * of no pages: zone_back() and zone_unclaim() apply.  Lock held. */
bool zone_charge(struct zone *zone, uint64_t nr_pages, uint64_t floor_pages,
		 struct zone_run *run);
void zone_uncharge(struct zone *zone, uint64_t nr_pages);

/* In the child of a fork: purges that other threads had under way have nobody
 * to end them.  Their pages are free again.  Lock held. */
void zone_adopt_isolated(struct zone *zone);

/* Free pages that hold memory. */
uint64_t zone_spare_pages(struct zone *zone);

/* The same with the lock held. */
uint64_t zone_spare_now(struct zone *zone);

/* On to another slot of the window, if it is time for one.  Return: pages that
 * were spare for the whole delay.  Lock held. */
uint64_t zone_age_spare(struct zone *zone, uint64_t now_ns, uint64_t slot_ns);

/* @drained_pages have just become spare, which were of no use to anybody for
 * @idle_slots already.  Lock held. */
void zone_add_idle(struct zone *zone, uint64_t drained_pages,
		   unsigned idle_slots);

/*
 * Spare memory that is worth no system call: 1/64 of the zone, 4 MiB at the
 * most.  Holes in partly used blocks may be 1/32 of what is used beside that.
 */
uint64_t zone_keep_pages(const struct zone *zone);
uint64_t zone_keep_holes_pages(const struct zone *zone);

/* Is there more spare memory than that, which would be purged if it stays so?
 * Lock held. */
bool zone_has_excess(struct zone *zone);

/* Has free memory been above high since the last call?  Any thread. */
bool zone_was_above_high(struct zone *zone);

/* Has the zone's reclaimd look what there is to do; where there is none, the
 * next request. */
void zone_kick(struct zone *zone);

/* The same because memory is low: whoever waits for just that. */
void zone_kick_balancer(struct zone *zone);

/* A racy look, good enough to choose a path by. */
static inline uint64_t zone_free_pages(struct zone *zone)
{
	uint64_t managed = load_relaxed(&zone->managed_pages);
	uint64_t used = load_relaxed(&zone->used_pages);

	return used < managed ? managed - used : 0;
}

/* The number of the first invariant above that does not hold, or 0; the
 * block's own as 100 + number.  Lock held. */
int zone_verify(struct zone *zone);

/* Every release of the lock: --enable-debug=full verifies at one in so many. */
#define ZONE_VERIFY_EVERY	64

static inline void zone_unlock(struct zone *zone)
{
	if (PP_DEBUG > 1 && ++zone->nr_unlocks % ZONE_VERIFY_EVERY == 0)
		BUG_ON(zone_verify(zone));
	lock_release(&zone->lock);
}

/*
 * After a release of pages: spare memory in excess is to be watched until it is
 * used again or purged.  Who watches says so by clearing the flag, and sets it
 * when there is no excess any more, in one hold of the lock with the look.
 */
static inline void zone_unlock_released(struct zone *zone)
{
	bool kick = unlikely(zone->watch_excess) && zone_has_excess(zone);
	/* Nobody waits for the last half of the reserve. */
	bool wake = memwait_has_waiters(zone->memwait) &&
		    zone_free_pages(zone) >=
		    load_relaxed(&zone->min_pages) / 2;

	if (kick)
		zone->watch_excess = false;
	zone_unlock(zone);
	if (unlikely(wake))
		memwait_wake(zone->memwait);
	if (unlikely(kick))
		zone_kick(zone);
}

#endif
