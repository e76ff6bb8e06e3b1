/* SPDX-License-Identifier: MIT */
/*
 * zone_place.h - which block, and where in it (layer 4, below zone.h's counts).
 *
 * Keeps the zone's lists and maps of blocks (zone.h, I6 and I7) as the blocks
 * change.  Knows nothing of limits: the counts in struct zone are zone.c's.
 * All with the zone's lock held.
 */
#ifndef PP_ZONE_PLACE_H
#define PP_ZONE_PLACE_H

#include "zone.h"

#define PLACE_NONE UINT64_MAX

static inline struct pageblock *block_at(struct zone *zone, uint32_t nr)
{
	return &zone->span->blocks[nr];
}

/* The first page of a free range for the request, or PLACE_NONE: then
 * *@wanted_blocks says how many blocks must be committed first, or 0. */
uint64_t place_find(struct zone *zone, const struct zone_request *req,
		    uint32_t *wanted_blocks);

/*
 * Ranges of pages, across blocks.  place_claim() sets how many of the run's
 * pages are not backed, the filler included; place_back() frees the filler.
 * place_release() returns how many pages are not backed any more.
 */
void place_claim(struct zone *zone, struct zone_run *run);
void place_back(struct zone *zone, uint64_t page, uint64_t nr_pages);
uint64_t place_release(struct zone *zone, uint64_t page, uint64_t nr_pages,
		       bool backed);

/* Frees the filler of a run in the making, which has no memory; @unless_huge:
 * where the block is huge no more.  Returns how many pages. */
uint64_t place_drop_filler(struct zone *zone, uint64_t page,
			   uint64_t nr_pages, bool unless_huge);

/* How many pages place_release() would leave backed whatever it is told. */
uint64_t place_kept(struct zone *zone, uint64_t page, uint64_t nr_pages);

/* A block may get a huge page, or none any more (I10, I11). */
void place_set_huge(struct zone *zone, uint32_t nr, bool huge);
bool place_is_free(struct zone *zone, uint64_t page, uint64_t nr_pages);

/* Puts a block where its counts say that it belongs. */
void place_settle(struct zone *zone, uint32_t nr);

/* The kernel did not take the memory of pages in this block. */
void place_refuse(struct zone *zone, uint64_t page);

/* 0, 6, 7 or 10: zone.h's invariants for one block; 100 and more: the
 * block's. */
int place_verify(struct zone *zone, uint32_t nr);

#endif
