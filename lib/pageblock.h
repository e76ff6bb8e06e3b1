/* SPDX-License-Identifier: MIT */
/*
 * pageblock.h - the 512 pages of one 2 MiB block (layer 3).
 *
 * Two bit fields say everything about a page: is it handed out, and may there
 * be memory behind it?  Nothing is written into free memory, and a block of
 * which nothing was ever used is all zeroes.
 *
 *	used	1 1 1 1 0 0 1 1 0 0 0 0 ...	0 = free
 *	backed	1 1 1 1 1 0 1 1 1 0 0 0 ...	0 = reads as zeroes
 *	                ^ free, kept for reuse
 *
 * There are no locks and no policy here: the caller holds the zone's lock and
 * chose the block.  The idea of a bit field per 2 MiB is LLFree's (Wrenger et
 * al., USENIX ATC 2023); the code is not.
 *
 * I1: nr_used == popcount(used)
 * I2: nr_spare == popcount(backed & ~used)
 * I3: longest_free(used) <= longest_bound
 * I4: longest_run(backed & ~used) <= spare_bound <= nr_spare
 * (That a page in use is backed is the zone's invariant: there are runs in the
 * making.)
 */
#ifndef PP_PAGEBLOCK_H
#define PP_PAGEBLOCK_H

#include <stdbool.h>

#include "base/bits.h"

#define PAGEBLOCK_SHIFT		9
#define PAGEBLOCK_PAGES		(1u << PAGEBLOCK_SHIFT)
#define PAGEBLOCK_BYTES		(PAGEBLOCK_PAGES * PP_PAGE_BYTES)
#define PAGEBLOCK_WORDS		(PAGEBLOCK_PAGES / PP_WORD_BITS)
#define PAGEBLOCK_NONE		UINT32_MAX
#define PAGEBLOCK_NOT_FOUND	UINT32_MAX

struct pageblock {
	/* zone->lock */
	uint64_t	used[PAGEBLOCK_WORDS];
	uint64_t	backed[PAGEBLOCK_WORDS];
	uint16_t	nr_used;
	uint16_t	nr_spare;	/* free, with memory behind it */
	uint16_t	longest_bound;	/* pages */
	uint8_t		list;		/* of the zone's, see zone_place.c */
	uint8_t		spare_list;	/* of those with spare pages, too */
	uint32_t	prev, next;	/* in that list, by block number */
	uint32_t	spare_prev, spare_next;
	uint16_t	spare_bound;	/* pages */
	uint8_t		refused : 1;	/* the kernel did not take its memory */
	uint8_t		huge : 1;	/* may get a huge page at any time */
	uint8_t		filling : 1;	/* all held for a run in the making */
} PP_ALIGNED(PP_CACHELINE_BYTES);

static_assert(sizeof(struct pageblock) == 192, "the tables' size is published");

/**
 * pageblock_find() - where would a run of @nr_pages go?
 * @nr_pages: 1..512.
 * @align_pages: a power of two up to 512, counted from the block's start.
 *
 * First fit.  When nothing fits, the bound on the longest free run becomes
 * exact for unaligned requests, so that the block is not searched in vain
 * again.
 *
 * Return: the first page's position, or PAGEBLOCK_NOT_FOUND.
 */
unsigned pageblock_find(struct pageblock *b, unsigned nr_pages,
			unsigned align_pages);

/* Are all of [pos, pos + nr_pages) free? */
bool pageblock_range_is_free(const struct pageblock *b, unsigned pos,
			     unsigned nr_pages);

/* Hands out a free range.  Returns how many of its pages are not backed. */
unsigned pageblock_claim(struct pageblock *b, unsigned pos,
			 unsigned nr_pages);

/* The range may hold memory from now on. */
void pageblock_back(struct pageblock *b, unsigned pos, unsigned nr_pages);

/* Takes a range back; its memory stays.  Raises the bound by the free run
 * that it is part of now. */
void pageblock_release(struct pageblock *b, unsigned pos, unsigned nr_pages);

/* The range, which is free, has no memory behind it any more. */
void pageblock_unback(struct pageblock *b, unsigned pos, unsigned nr_pages);

/*
 * The first run at or after @pos of pages that are free and backed; its length
 * goes to *@nr_pages.  PAGEBLOCK_NOT_FOUND if there is none.
 */
unsigned pageblock_find_spare(const struct pageblock *b, unsigned pos,
			      unsigned *nr_pages);

/* A free range whose pages are all backed; as pageblock_find(), also in what a
 * failure does to the bound. */
unsigned pageblock_find_backed(struct pageblock *b, unsigned nr_pages,
			       unsigned align_pages);

/* The number of the first invariant above that does not hold, or 0. */
int pageblock_verify(const struct pageblock *b);

#endif
