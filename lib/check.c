/* SPDX-License-Identifier: MIT */
/*
 * check.c - a walk over everything (layer 12).
 *
 * Each layer checks the invariants that its header numbers; here they are
 * called in order, the map is compared with the bit fields, and the first one
 * that does not hold is named.
 */
#include <errno.h>

#include "base/strbuf.h"
#include "pagepool/stat.h"
#include "reserve.h"

#define STDERR		2
#define LINE_BYTES	160

static int complain(const char *where, int number)
{
	char text[LINE_BYTES];
	struct strbuf sb = STRBUF(text);

	strbuf_str(&sb, "pagepool: pp_pool_check(): invariant I");
	strbuf_i64(&sb, number > 100 ? number - 100 : number);
	strbuf_str(&sb, " of ");
	strbuf_str(&sb, number > 100 ? "pageblock.h" : where);
	strbuf_str(&sb, " does not hold\n");
	strbuf_write(&sb, STDERR);
	return -EUCLEAN;
}

/* How many pages the allocation that starts at @page has; 0: none starts. */
static uint64_t pages_at(struct pp_pool *pool, uint64_t page)
{
	uint32_t word = load_relaxed(&pool->span.map[page]);
	struct slab *slab;

	if (!(word & MAP_SLAB))
		return word & MAP_RUN ? run_word_pages(word) : 0;
	slab = slab_at(&pool->span, slab_word_number(word));
	return slab->page == page ? slab->nr_pages : 0;
}

static bool range_is_used(struct pp_pool *pool, uint64_t page, uint64_t n)
{
	for (; n; page++, n--) {
		struct pageblock *b =
			&pool->span.blocks[page >> PAGEBLOCK_SHIFT];
		unsigned pos = (unsigned)(page & (PAGEBLOCK_PAGES - 1));

		if (!bits_count_range(b->used, pos, 1))
			return false;
	}
	return true;
}

/*
 * The numbers of span.h's map: M1, every allocation's pages are used; M2, the
 * allocations' pages and the isolated ones are all that are used, so none is
 * in two.  Zone lock held.
 */
static int check_map(struct pp_pool *pool, struct zone *zone)
{
	uint64_t end = (uint64_t)zone->frontier_block << PAGEBLOCK_SHIFT;
	uint64_t sum = 0, page = zone_first_page(zone), n;

	while (page < end) {
		n = pages_at(pool, page);
		if (n && (page + n > end || !range_is_used(pool, page, n)))
			return 1;
		sum += n;
		page += n ? n : 1;
	}
	if (sum + zone->charged_pages != load_relaxed(&zone->used_pages) +
	    zone->moving_pages)
		return 2;
	return 0;
}

static int check_zone(struct pp_pool *pool, struct zone *zone)
{
	int err, map_err = 0;

	lock_acquire(&zone->lock);
	err = zone_verify(zone);
	if (!err)
		map_err = check_map(pool, zone);
	zone_unlock(zone);
	if (map_err)
		return complain("the map (check.c)", map_err);
	return err ? complain("zone.h", err) : 0;
}

int pp_pool_check(struct pp_pool *pool)
{
	struct pcp *pcp;
	int err;

	if (!pool)
		return -EINVAL;
	if (pool_is_nested(pool))
		return -EDEADLK;
	pcp = pool_enter(pool);
	err = pcp ? pcp_verify(pcp) : 0;
	pool_leave(pcp);
	if (err)
		return complain("pcp.h", err);
	err = slab_verify(&pool->heap);
	if (err)
		return complain("slab.h", err);
	err = reserves_verify(pool);
	if (err)
		return complain("mempool.h", err);
	for_each_zone(zone, pool->zones) {
		err = check_zone(pool, zone);
		if (err)
			return err;
	}
	return 0;
}
