/* SPDX-License-Identifier: MIT */
/*
 * watermark.c - min, low and high of a zone (layer 4).
 *
 * The formulas are those of Linux' mm/page_alloc.c, __setup_per_zone_wmarks(),
 * for a zone that holds all memory: min grows with the square root of the
 * zone, the gaps are a quarter of it or a share of the zone, whichever is
 * more.
 */
#include "trace.h"
#include "zone.h"

#define MARK_MIN_KB		128
#define MARK_MAX_KB		262144

/* floor(sqrt(n)) by bisection; n below 2^62. */
static uint64_t isqrt(uint64_t n)
{
	uint64_t root = 0;

	for (uint64_t bit = 1ull << 31; bit; bit >>= 1)
		if ((root + bit) * (root + bit) <= n)
			root += bit;
	return root;
}

uint64_t watermark_min_bytes(uint64_t managed_pages)
{
	uint64_t kb = isqrt(16 * (pages_to_bytes(managed_pages) >> 10));

	return min_u64(max_u64(kb, MARK_MIN_KB), MARK_MAX_KB) << 10;
}

void zone_set_watermarks(struct zone *zone, uint64_t min_free_bytes,
			 unsigned scale)
{
	uint64_t managed = load_relaxed(&zone->managed_pages);
	uint64_t min, gap;

	min = min_free_bytes ? bytes_to_pages_up(min_free_bytes) :
	      bytes_to_pages_down(watermark_min_bytes(managed));
	min = min_u64(min, managed / 2);
	gap = max_u64(min / 4, managed * scale / 10000);
	store_relaxed(&zone->min_pages, min);
	store_relaxed(&zone->low_pages, min_u64(min + gap, managed));
	store_relaxed(&zone->high_pages, min_u64(min + 2 * gap, managed));
	TRACE(mm_setup_per_zone_wmarks, zone->index, min,
	      load_relaxed(&zone->low_pages), load_relaxed(&zone->high_pages));
}
