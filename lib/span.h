/* SPDX-License-Identifier: MIT */
/*
 * span.h - the address range of a pool, and the tables beside it (layer 2).
 *
 *	reservation, without access until committed
 *	+-------------------------------+--------+-----+-------+----------+
 *	| pages, in blocks of 2 MiB     | blocks | map | slabs | blockmap |
 *	+-------------------------------+--------+-----+-------+----------+
 *	^ base
 *
 * With several memory nodes the pages are divided into ranges of one size, one
 * for the zone of each node.  A range is a multiple of 4 GiB long, so that
 * the lower half of an address' distance from a slab (slab.h) is the same
 * whether both are counted from the base or from the range's start.
 *
 * Address space is plentiful and memory is not: the range is many times the
 * limit (SPAN_LIMIT_FACTOR), so that a place for a run is found in any state
 * of fragmentation, and only the limit, a number, says no.  Pages, blocks and
 * map are committed together, from the bottom of each range up, in granules.
 *
 * The map has one word per page (see below).  Page numbers count from the
 * base; 2^32 of them, 16 TiB, are the most that a span can have.
 */
#ifndef PP_SPAN_H
#define PP_SPAN_H

#include "base/atomic.h"
#include "base/bits.h"
#include "base/lock.h"
#include "blockmap.h"

#define SPAN_LIMIT_FACTOR	16
#define SPAN_MIN_BYTES		(64ull << 30)
#define SPAN_MAX_BYTES		(16ull << 40)
/* What is committed at a time: a sixteenth of the limit, or of a zone's part of
 * it, 2 to 32 MiB. */
#define SPAN_MAX_GRANULE_BLOCKS	16u
/* What smaps calls it. */
#define SPAN_NAME		"pagepool"
#define SPAN_BLOCK_SHIFT	21
#define SPAN_BLOCK_PAGES	512u
/* What a block takes in the tables: its entry, and a map word per page. */
#define SPAN_BLOCK_ENTRY_BYTES	192u
#define SPAN_BLOCK_TABLE_BYTES	(SPAN_BLOCK_ENTRY_BYTES + SPAN_BLOCK_PAGES * 4)
#define SPAN_SLAB_BYTES		32

/*
 * A word of the map.  Free looks up every pointer here, so the class, or the
 * bin of a run's length (runs.h), lies where one instruction gets it.  The
 * first page of a run says what the run is, the other pages of it say 0; every
 * page of a slab names its slab.
 *
 *	31 30  29  28  27               6 5       0
 *	 1 [   number of the slab        ] [ class ]	slab
 *	 0  1   c   m  [ length, 22 bits ] [  bin  ]	run
 *	 0  0 ...                                0	neither
 *
 * All of the map can be read from the start, so that any address in the range
 * can be looked up; it says 0 where nothing was committed.
 *
 * c: in a thread cache, or set aside (reserve.h).  m: its memory was moved
 * there (see page_move()).
 * The kind and the length change under the zone's lock only, but for a run that
 * its owner cuts in two (extent.h); c is written by whoever owns the run or the
 * cache.
 */
#define MAP_SLAB		0x80000000u
#define MAP_SLAB_CLASS_MASK	63u
#define MAP_SLAB_NUMBER_SHIFT	6
#define MAP_SLAB_MAX_NUMBER	0x01ffffffu
#define MAP_RUN			0x40000000u
#define MAP_CACHED		0x20000000u
#define MAP_MOVED		0x10000000u
#define MAP_LENGTH_SHIFT	6
#define MAP_LENGTH_MAX		0x003fffffu
#define MAP_BIN_MASK		63u

struct span {
	/* const after span_init() */
	char			*base;
	uint64_t		nr_pages;
	uint32_t		nr_blocks;
	uint32_t		nr_zones;
	uint32_t		zone_blocks;	/* nr_blocks / nr_zones */
	struct pageblock	*blocks;
	_Atomic uint32_t	*map;
	char			*slabs;		/* descriptors, see slab.h */
	uint32_t		max_slabs;
	void			*blockmaps;	/* zeroed, always committed */
	size_t			reservation_bytes;
	uint32_t		granule_blocks;	/* a power of two */

	/* lock (rank GROW) to write, any lock to read */
	struct lock		lock;
	_Atomic uint32_t	committed_slabs;
};

/* Blocks @first .. @committed - 1 of a range that ends at @end can be used. */
struct span_range {
	uint32_t		first, end;	/* const */
	_Atomic uint32_t	committed;	/* span.lock; any lock reads */
};

/**
 * span_init() - reserve a range for a pool with this limit.
 * @limit_bytes: what the pool may use; the range is larger.
 * @nr_zones: how many ranges to divide it into.
 *
 * The range is cut down where RLIMIT_AS or the kernel refuses more, below the
 * limit too: the caller then lowers that.  Where a zone would get less than
 * 4 GiB, there is one zone only: span->nr_zones says so.
 *
 * Return: 0, or -ENOMEM when not even 4 MiB could be had.
 */
int span_init_zones(struct span *span, uint64_t limit_bytes,
		    uint32_t nr_zones);
static inline int span_init(struct span *span, uint64_t limit_bytes)
{
	return span_init_zones(span, limit_bytes, 1);
}
void span_exit(struct span *span);

/* The range of one zone, with nothing committed. */
void span_range_init(const struct span *span, uint32_t zone,
		     struct span_range *range);

/* Zeroed memory for two blockmaps of a zone's range, each of so many blocks. */
void *span_blockmaps(const struct span *span, uint32_t zone);
uint32_t span_blockmap_blocks(const struct span *span);

/*
 * Commits the pages and tables of the range's blocks below @end_block, or
 * more.  Takes the GROW lock; no zone lock may be held.  -ENOMEM when the
 * kernel refuses: what was committed before stays so.
 */
int span_commit_blocks(struct span *span, struct span_range *range,
		       uint32_t end_block);
int span_commit_slabs(struct span *span, uint32_t nr_slabs);

static inline void *span_page_address(const struct span *span, uint64_t page)
{
	return span->base + (page << PP_PAGE_SHIFT);
}

/* The zone whose range a page lies in.  A division: not for fast paths. */
static inline uint32_t span_zone_of(const struct span *span, uint64_t page)
{
	return (uint32_t)(page / SPAN_BLOCK_PAGES) / span->zone_blocks;
}

static inline uint64_t span_page_of(const struct span *span, const void *p)
{
	return ((uintptr_t)p - (uintptr_t)span->base) >> PP_PAGE_SHIFT;
}

static inline int span_contains(const struct span *span, const void *p)
{
	return (uintptr_t)p - (uintptr_t)span->base <
	       span->nr_pages << PP_PAGE_SHIFT;
}

#endif
