/* SPDX-License-Identifier: MIT */
/*
 * thp.h - transparent huge pages (layer 4).
 *
 * The kernel fills a huge page whole, at the first touch of any part of it or
 * at any later time (khugepaged).  So memory that nobody has asked for could
 * come to be resident, unless it is counted.  Which blocks may get one is what
 * madvise() has said of them, and a block is marked `huge` (zone.h) from before
 * the kernel is told so until after it is told otherwise:
 *
 *	never	none: the span is as os_reserve() leaves it
 *	auto	the whole blocks of long runs, where the system gives huge pages
 *		to programs that say nothing.  Every page of such a block is in
 *		use, so nothing more is counted than without.
 *	always	all of the zone's range: a block counts whole as soon as one
 *		page of it is in use
 *
 * When memory gets so short that holes in huge blocks are needed, the zone is
 * demoted: one madvise() says of all its range that there shall be no more huge
 * pages, and from then on, block by block, its pages count one by one again.
 * There is no way back.  With `auto` that happens only where the kernel has
 * refused to take an advice back, since there are no such holes else.
 *
 * madvise() runs outside of the zone's lock.  Advice for huge pages
 * (nr_advising) and a demotion (is_demoting) keep each other out.
 */
#ifndef PP_THP_H
#define PP_THP_H

#include "config.h"
#include "zone.h"

/* The least run that gets huge pages with `auto`; see doc/tuning.md. */
#define THP_MIN_PAGES	1024u
/* Rows of huge blocks in a zone, each up to two mappings more. */
#define THP_MAX_RANGES	512u
/* Blocks that one lock hold makes huge no more. */
#define THP_DEMOTE_BLOCKS	256u

/* What was read at the first long run of the process; a test may set it. */
enum { THP_SYSTEM_UNKNOWN, THP_SYSTEM_OTHER, THP_SYSTEM_ALWAYS };
extern _Atomic int thp_system;

/* Before the zone is used. */
void thp_start(struct zone *zone, enum thp_setting setting);

void thp_advise_blocks(struct zone *zone, uint64_t page, uint64_t nr_pages);
bool thp_retire_blocks(struct zone *zone, uint64_t page, uint64_t nr_pages);

/* A run that is backed may get huge pages, if it is long enough.  The caller
 * owns it.  No lock held. */
static inline void thp_advise(struct zone *zone, uint64_t page,
			      uint64_t nr_pages)
{
	if (unlikely(nr_pages >= THP_MIN_PAGES) &&
	    load_relaxed(&zone->thp) == ZONE_THP_AUTO)
		thp_advise_blocks(zone, page, nr_pages);
}

/*
 * Pages of a run are about to be free, or to move: with `auto`, the blocks that
 * the run has to itself get no more huge pages.  Returns false if the kernel
 * refused, so that they still may; they go on counting whole.  The caller owns
 * the run.  No lock held.
 */
static inline bool thp_retire(struct zone *zone, uint64_t page,
			      uint64_t nr_pages)
{
	return nr_pages < PAGEBLOCK_PAGES ||
	       !load_relaxed(&zone->nr_huge_ranges) ||
	       load_relaxed(&zone->thp) != ZONE_THP_AUTO ||
	       thp_retire_blocks(zone, page, nr_pages);
}

/* As thp_retire(), for a run that is to be @keep_pages long. */
void thp_retire_tail(struct zone *zone, uint64_t page, uint64_t nr_pages,
		     uint64_t keep_pages);

/* The range has a new mapping, by os_reset(): it is to be as its neighbours
 * are.  Returns false if it is not.  No lock held. */
bool thp_redress(struct zone *zone, uint64_t page, uint64_t nr_pages);

/*
 * Makes pages purgeable that are holes in huge blocks: demotes the zone, or
 * goes on with it.  Drops and retakes the zone's lock.  Returns false if there
 * is nothing to be had, or others are about it.
 */
bool thp_make_holes(struct zone *zone);

#endif
