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

/* Ranges of pages, across blocks.  place_claim() returns how many pages were
 * not backed. */
uint64_t place_claim(struct zone *zone, uint64_t page, uint64_t nr_pages);
void place_back(struct zone *zone, uint64_t page, uint64_t nr_pages);
void place_release(struct zone *zone, uint64_t page, uint64_t nr_pages,
		   bool backed);
bool place_is_free(struct zone *zone, uint64_t page, uint64_t nr_pages);

/* Puts a block where its counts say that it belongs. */
void place_settle(struct zone *zone, uint32_t nr);

/* The kernel did not take the memory of pages in this block. */
void place_refuse(struct zone *zone, uint64_t page);

/* 0, 6 or 7: zone.h's invariants for one block; 100 and more: the block's. */
int place_verify(struct zone *zone, uint32_t nr);

#endif
