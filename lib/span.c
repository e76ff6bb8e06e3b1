/* SPDX-License-Identifier: MIT */
/* span.c - see span.h. */
#include "span.h"

#include <errno.h>

#include "base/bug.h"
#include "os/os.h"

/* A multiple of what blockmap_init() wants. */
#define SPAN_BLOCKS_ALIGN	4096u
/* 4 GiB, see span.h. */
#define SPAN_ZONE_UNIT_BLOCKS	2048u
/* What a zone's range is to have where address space is plentiful. */
#define SPAN_ZONE_MIN_BYTES	(8ull << 30)
/* 3/4 of the size at each try: 40 tries go from 16 TiB below 4 MiB. */
#define SPAN_MAX_TRIES		60

/* Byte offsets of the parts, from the base. */
struct span_layout {
	uint32_t	nr_blocks;	/* that can be used */
	uint32_t	nr_zones, zone_blocks;
	uint32_t	max_slabs;
	size_t		blocks, map, slabs, blockmaps, end;
};

static size_t page_align(size_t bytes)
{
	return round_up_pow2(bytes, PP_PAGE_BYTES);
}

static size_t blockmaps_bytes(uint32_t zone_blocks)
{
	return 2 * blockmap_bytes((uint32_t)round_up_pow2(zone_blocks,
							  SPAN_BLOCKS_ALIGN));
}

/* One slab may be as small as a page where memory is short, and the limit may
 * be raised to all of the span. */
static uint32_t slabs_for(uint64_t pages_bytes)
{
	return (uint32_t)min_u64(bytes_to_pages_up(pages_bytes),
				 MAP_SLAB_MAX_NUMBER);
}

static void divide(struct span_layout *l, uint32_t nr_zones)
{
	uint32_t zone_blocks = l->nr_blocks / nr_zones;

	zone_blocks -= zone_blocks % SPAN_ZONE_UNIT_BLOCKS;
	l->nr_zones = 1;
	l->zone_blocks = l->nr_blocks;
	if (nr_zones > 1 && zone_blocks) {
		l->nr_zones = nr_zones;
		l->zone_blocks = zone_blocks;
		l->nr_blocks = zone_blocks * nr_zones;
	}
}

static void span_lay_out(struct span_layout *l, uint64_t pages_bytes,
			 uint32_t nr_zones)
{
	l->nr_blocks = (uint32_t)(pages_bytes >> SPAN_BLOCK_SHIFT);
	divide(l, nr_zones);
	pages_bytes = (uint64_t)l->nr_blocks << SPAN_BLOCK_SHIFT;
	l->max_slabs = slabs_for(pages_bytes);
	l->blocks = pages_bytes;
	l->map = l->blocks + page_align((size_t)l->nr_blocks *
					SPAN_BLOCK_ENTRY_BYTES);
	l->slabs = l->map + page_align((size_t)l->nr_blocks *
				       SPAN_BLOCK_PAGES * sizeof(uint32_t));
	l->blockmaps = l->slabs + page_align((size_t)l->max_slabs *
					     SPAN_SLAB_BYTES);
	l->end = l->blockmaps +
		 page_align(l->nr_zones * blockmaps_bytes(l->zone_blocks));
}

static uint64_t wanted_bytes(uint64_t limit_bytes, uint32_t nr_zones)
{
	uint64_t want = SPAN_MAX_BYTES;

	if (limit_bytes < SPAN_MAX_BYTES / SPAN_LIMIT_FACTOR)
		want = limit_bytes * SPAN_LIMIT_FACTOR;
	want = max_u64(want, SPAN_MIN_BYTES);
	if (nr_zones > 1)
		want = max_u64(want, nr_zones * SPAN_ZONE_MIN_BYTES);
	return round_up_pow2(want, 1ull << SPAN_BLOCK_SHIFT);
}

static uint64_t three_quarters(uint64_t bytes)
{
	return (bytes - bytes / 4) & ~((1ull << SPAN_BLOCK_SHIFT) - 1);
}

/*
 * Under an address limit nobody tells how much of it is left, so sizes are
 * tried, and a quarter of the first that fits is left to the program's stacks
 * and mappings.
 */
static int reserve_some(struct span *span, struct span_layout *l,
			uint64_t limit_bytes, uint32_t nr_zones)
{
	uint64_t bytes = wanted_bytes(limit_bytes, nr_zones);
	uint64_t least = 2ull << SPAN_BLOCK_SHIFT;
	void *base;
	int cut = 0;

	for (unsigned i = 0; i < SPAN_MAX_TRIES && bytes >= least; i++) {
		span_lay_out(l, bytes, nr_zones);
		if (os_reserve(l->end, 1ul << SPAN_BLOCK_SHIFT, SPAN_NAME,
			       &base) == 0) {
			span->base = base;
			span->reservation_bytes = l->end;
			if (cut != 1)
				return 0;
			os_unreserve(base, l->end);
			cut = 2;
		} else if (cut == 0) {
			cut = 1;
		}
		bytes = three_quarters(bytes);
	}
	return -ENOMEM;
}

static uint32_t granule_for(uint64_t limit_bytes)
{
	uint64_t blocks = limit_bytes >> SPAN_BLOCK_SHIFT;
	uint32_t granule = 1;

	while (granule < SPAN_MAX_GRANULE_BLOCKS && granule * 32 <= blocks)
		granule *= 2;
	return granule;
}

void span_exit(struct span *span)
{
	os_unreserve(span->base, span->reservation_bytes);
	span->base = NULL;
}

/* Commits entries from .. to - 1 of a table, in whole pages. */
static int commit_table(char *table, size_t entry_bytes, uint32_t from,
			uint32_t to)
{
	size_t start = (from * entry_bytes) & ~(PP_PAGE_BYTES - 1);

	return os_commit(table + start, page_align(to * entry_bytes) - start);
}

static int commit_range(struct span *span, uint32_t from, uint32_t to)
{
	int err;

	err = commit_table((char *)span->blocks, SPAN_BLOCK_ENTRY_BYTES,
			   from, to);
	if (!err)
		err = commit_table((char *)span->map,
				   SPAN_BLOCK_PAGES * sizeof(uint32_t), from,
				   to);
	if (!err)
		err = commit_table(span->base, 1ul << SPAN_BLOCK_SHIFT, from,
				   to);
	return err;
}

int span_commit_blocks(struct span *span, struct span_range *range,
		       uint32_t end_block)
{
	uint32_t have, want;
	int err = 0;

	BUG_ON(end_block > range->end);
	lock_acquire(&span->lock);
	have = load_relaxed(&range->committed);
	if (have < end_block) {
		want = (uint32_t)min_u64(round_up_pow2(end_block,
						       span->granule_blocks),
					 range->end);
		err = commit_range(span, have, want);
		/* A strict host may refuse the granule and grant the need. */
		if (err && want > end_block) {
			want = end_block;
			err = commit_range(span, have, want);
		}
		if (!err)
			store_relaxed(&range->committed, want);
	}
	lock_release(&span->lock);
	return err;
}

int span_commit_slabs(struct span *span, uint32_t nr_slabs)
{
	const uint32_t per_page = PP_PAGE_BYTES / SPAN_SLAB_BYTES;
	uint32_t have, want;
	int err = 0;

	if (nr_slabs > span->max_slabs)
		return -ENOMEM;
	lock_acquire(&span->lock);
	have = load_relaxed(&span->committed_slabs);
	if (have < nr_slabs) {
		want = (uint32_t)round_up_pow2(nr_slabs, 16 * per_page);
		want = (uint32_t)min_u64(want, span->max_slabs);
		err = commit_table(span->slabs, SPAN_SLAB_BYTES, have, want);
		if (!err)
			store_relaxed(&span->committed_slabs, want);
	}
	lock_release(&span->lock);
	return err;
}

void span_range_init(const struct span *span, uint32_t zone,
		     struct span_range *range)
{
	range->first = zone * span->zone_blocks;
	range->end = range->first + span->zone_blocks;
	store_relaxed(&range->committed, range->first);
}

uint32_t span_blockmap_blocks(const struct span *span)
{
	return (uint32_t)round_up_pow2(span->zone_blocks, SPAN_BLOCKS_ALIGN);
}

void *span_blockmaps(const struct span *span, uint32_t zone)
{
	return (char *)span->blockmaps +
	       zone * blockmaps_bytes(span->zone_blocks);
}

int span_init_zones(struct span *span, uint64_t limit_bytes,
		    uint32_t nr_zones)
{
	struct span_layout l;
	int err = reserve_some(span, &l, limit_bytes, nr_zones);

	if (err)
		return err;
	err = os_commit(span->base + l.blockmaps, l.end - l.blockmaps);
	if (!err)
		err = os_make_readable(span->base + l.map, l.slabs - l.map);
	if (err) {
		os_unreserve(span->base, span->reservation_bytes);
		return err;
	}
	span->nr_blocks = l.nr_blocks;
	span->nr_zones = l.nr_zones;
	span->zone_blocks = l.zone_blocks;
	span->nr_pages = (uint64_t)l.nr_blocks * SPAN_BLOCK_PAGES;
	span->blocks = (struct pageblock *)(void *)(span->base + l.blocks);
	span->map = (_Atomic uint32_t *)(void *)(span->base + l.map);
	span->slabs = span->base + l.slabs;
	span->max_slabs = l.max_slabs;
	span->blockmaps = span->base + l.blockmaps;
	span->granule_blocks = granule_for(limit_bytes / l.nr_zones);
	lock_init(&span->lock, LOCK_RANK_GROW);
	store_relaxed(&span->committed_slabs, 0);
	/* Where mappings are used up, the first small object still fits. */
	err = span_commit_slabs(span, 1);
	if (err)
		span_exit(span);
	return err;
}
