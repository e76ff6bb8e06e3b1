/* SPDX-License-Identifier: MIT */
/* zone_place.c - see zone_place.h. */
#include "zone_place.h"

#include "base/bug.h"

/* Blocks of one list that a claim looks into before it takes the next list. */
#define PLACE_SEARCH_BLOCKS	8

/* struct pageblock.list: 0 for a full or never used block. */
enum { LIST_NONE = 0, LIST_FIRST = 1, LIST_EMPTY = LIST_FIRST + ZONE_NR_LISTS };

static unsigned list_for(uint64_t nr_pages)
{
	return LIST_FIRST + log2_down(nr_pages);
}

/* Lists of blocks, linked by number */

static void list_push(struct zone *zone, unsigned list, uint32_t nr)
{
	uint32_t *head = &zone->lists[list - LIST_FIRST];
	struct pageblock *b = block_at(zone, nr);

	b->prev = PAGEBLOCK_NONE;
	b->next = *head;
	if (*head != PAGEBLOCK_NONE)
		block_at(zone, *head)->prev = nr;
	*head = nr;
}

static void list_remove(struct zone *zone, unsigned list, uint32_t nr)
{
	struct pageblock *b = block_at(zone, nr);

	if (b->prev != PAGEBLOCK_NONE)
		block_at(zone, b->prev)->next = b->next;
	else
		zone->lists[list - LIST_FIRST] = b->next;
	if (b->next != PAGEBLOCK_NONE)
		block_at(zone, b->next)->prev = b->prev;
}

static void spare_push(struct zone *zone, unsigned list, uint32_t nr)
{
	uint32_t *head = &zone->spare_lists[list - LIST_FIRST];
	struct pageblock *b = block_at(zone, nr);

	b->spare_prev = PAGEBLOCK_NONE;
	b->spare_next = *head;
	if (*head != PAGEBLOCK_NONE)
		block_at(zone, *head)->spare_prev = nr;
	*head = nr;
}

static void spare_remove(struct zone *zone, unsigned list, uint32_t nr)
{
	struct pageblock *b = block_at(zone, nr);

	if (b->spare_prev != PAGEBLOCK_NONE)
		block_at(zone, b->spare_prev)->spare_next = b->spare_next;
	else
		zone->spare_lists[list - LIST_FIRST] = b->spare_next;
	if (b->spare_next != PAGEBLOCK_NONE)
		block_at(zone, b->spare_next)->spare_prev = b->spare_prev;
}

/*
 * Memory that the kernel refused to take (mlock, seccomp) is not offered to it
 * again before the block has been empty.  Holes in a huge block would be filled
 * again.
 */
static bool can_purge(const struct pageblock *b)
{
	if (likely(!b->refused && !b->huge))
		return b->nr_spare;
	return b->nr_spare && !b->refused && !b->nr_used;
}

static void settle_empty(struct zone *zone, const struct pageblock *b,
			 uint32_t nr, bool is_empty)
{
	bool was = b->list == LIST_EMPTY;
	bool backed = is_empty && can_purge(b);

	if (is_empty && !was)
		blockmap_add(&zone->empty, nr);
	if (!is_empty && was)
		blockmap_del(&zone->empty, nr);
	if (backed != blockmap_has(&zone->empty_backed, nr)) {
		if (backed)
			blockmap_add(&zone->empty_backed, nr);
		else
			blockmap_del(&zone->empty_backed, nr);
	}
}

static unsigned spare_list_of(const struct pageblock *b)
{
	return b->nr_used && can_purge(b) ? list_for(b->spare_bound) :
					    (unsigned)LIST_NONE;
}

static void settle_spare(struct zone *zone, struct pageblock *b, uint32_t nr)
{
	unsigned list = spare_list_of(b);

	if (list == b->spare_list)
		return;
	if (b->spare_list != LIST_NONE)
		spare_remove(zone, b->spare_list, nr);
	if (list != LIST_NONE)
		spare_push(zone, list, nr);
	b->spare_list = (uint8_t)list;
}

/* Puts a block where its counts say that it belongs (I6, I7). */
void place_settle(struct zone *zone, uint32_t nr)
{
	struct pageblock *b = block_at(zone, nr);
	unsigned list = LIST_NONE;

	if (!b->nr_used)
		list = LIST_EMPTY;
	else if (b->longest_bound)
		list = list_for(b->longest_bound);

	if (list == LIST_EMPTY && b->list != LIST_EMPTY)
		b->refused = 0;
	if (list == LIST_EMPTY || b->list == LIST_EMPTY)
		settle_empty(zone, b, nr, list == LIST_EMPTY);
	if (list != b->list) {
		if (b->list != LIST_NONE && b->list != LIST_EMPTY)
			list_remove(zone, b->list, nr);
		if (list != LIST_NONE && list != LIST_EMPTY)
			list_push(zone, list, nr);
		b->list = (uint8_t)list;
	}
	settle_spare(zone, b, nr);
}

void place_refuse(struct zone *zone, uint64_t page)
{
	uint32_t nr = (uint32_t)(page >> PAGEBLOCK_SHIFT);

	block_at(zone, nr)->refused = 1;
	place_settle(zone, nr);
}

/* Parts of a range of pages, one for each block that it touches */

struct part {
	uint32_t	block;
	unsigned	pos, nr_pages;
};

static bool next_part(struct part *part, uint64_t *page, uint64_t end)
{
	if (*page >= end)
		return false;
	part->block = (uint32_t)(*page >> PAGEBLOCK_SHIFT);
	part->pos = (unsigned)(*page & (PAGEBLOCK_PAGES - 1));
	part->nr_pages = (unsigned)min_u64(end - *page,
					   PAGEBLOCK_PAGES - part->pos);
	*page += part->nr_pages;
	return true;
}

#define for_each_part(part, at, page, nr_pages) \
	for ((at) = (page); next_part(&(part), &(at), (page) + (nr_pages));)

/* All of the block but the part: handed out, or taken back. */
static void for_rest(struct pageblock *b, const struct part *part,
		     bool release)
{
	unsigned end = part->pos + part->nr_pages;

	if (part->pos && release)
		pageblock_release(b, 0, part->pos);
	else if (part->pos)
		pageblock_claim(b, 0, part->pos);
	if (end < PAGEBLOCK_PAGES && release)
		pageblock_release(b, end, PAGEBLOCK_PAGES - end);
	else if (end < PAGEBLOCK_PAGES)
		pageblock_claim(b, end, PAGEBLOCK_PAGES - end);
}

/* The first claim in a block that counts whole. */
static PP_COLD unsigned claim_filler(struct pageblock *b,
				     const struct part *part)
{
	if (part->nr_pages == PAGEBLOCK_PAGES || b->nr_used || b->nr_spare)
		return 0;
	for_rest(b, part, false);
	b->filling = 1;
	return PAGEBLOCK_PAGES - part->nr_pages;
}

void place_claim(struct zone *zone, struct zone_run *run)
{
	uint64_t at, page = run->page, nr_pages = run->nr_pages;
	uint64_t nr_fresh = 0, nr_filler = 0;
	struct part part;

	for_each_part(part, at, page, nr_pages) {
		struct pageblock *b = block_at(zone, part.block);

		if (unlikely(b->huge))
			nr_filler += claim_filler(b, &part);
		nr_fresh += pageblock_claim(b, part.pos, part.nr_pages);
		place_settle(zone, part.block);
	}
	run->fresh_pages = nr_fresh + nr_filler;
	run->filler_pages = nr_filler;
}

static PP_COLD void back_filling(struct zone *zone, const struct part *part)
{
	struct pageblock *b = block_at(zone, part->block);

	pageblock_back(b, 0, PAGEBLOCK_PAGES);
	b->filling = 0;
	for_rest(b, part, true);
	place_settle(zone, part->block);
}

void place_back(struct zone *zone, uint64_t page, uint64_t nr_pages)
{
	struct part part;
	uint64_t at;

	for_each_part(part, at, page, nr_pages) {
		struct pageblock *b = block_at(zone, part.block);

		if (unlikely(b->filling))
			back_filling(zone, &part);
		else
			pageblock_back(b, part.pos, part.nr_pages);
	}
}

uint64_t place_drop_filler(struct zone *zone, uint64_t page,
			   uint64_t nr_pages, bool unless_huge)
{
	struct part part;
	uint64_t at, nr_dropped = 0;

	for_each_part(part, at, page, nr_pages) {
		struct pageblock *b = block_at(zone, part.block);

		if (!b->filling || (unless_huge && b->huge))
			continue;
		b->filling = 0;
		for_rest(b, &part, true);
		nr_dropped += PAGEBLOCK_PAGES - part.nr_pages;
		place_settle(zone, part.block);
	}
	return nr_dropped;
}

/* A page of a huge block has memory as long as others of it have. */
static bool can_unback(const struct pageblock *b, const struct part *part)
{
	return !b->huge || part->nr_pages == PAGEBLOCK_PAGES;
}

uint64_t place_release(struct zone *zone, uint64_t page, uint64_t nr_pages,
		       bool backed)
{
	struct part part;
	uint64_t at, nr_unbacked = 0;

	for_each_part(part, at, page, nr_pages) {
		struct pageblock *b = block_at(zone, part.block);

		pageblock_release(b, part.pos, part.nr_pages);
		if (!backed && can_unback(b, &part)) {
			pageblock_unback(b, part.pos, part.nr_pages);
			nr_unbacked += part.nr_pages;
		}
		place_settle(zone, part.block);
	}
	return nr_unbacked;
}

uint64_t place_kept(struct zone *zone, uint64_t page, uint64_t nr_pages)
{
	struct part part;
	uint64_t at, nr_kept = 0;

	for_each_part(part, at, page, nr_pages)
		if (!can_unback(block_at(zone, part.block), &part))
			nr_kept += part.nr_pages;
	return nr_kept;
}

static bool is_huge(struct zone *zone, uint32_t nr)
{
	return nr >= zone->range.first && nr < zone->frontier_block &&
	       block_at(zone, nr)->huge;
}

void place_set_huge(struct zone *zone, uint32_t nr, bool huge)
{
	struct pageblock *b = block_at(zone, nr);
	unsigned beside = is_huge(zone, nr - 1) + is_huge(zone, nr + 1);

	if (b->huge == huge)
		return;
	b->huge = huge;
	/* Between two rows it joins them, alone it is one. */
	add_single_writer(&zone->nr_huge_ranges,
			  huge ? 1 - beside : beside - 1);
	place_settle(zone, nr);
}

bool place_is_free(struct zone *zone, uint64_t page, uint64_t nr_pages)
{
	struct part part;
	uint64_t at;

	for_each_part(part, at, page, nr_pages)
		if (!pageblock_range_is_free(block_at(zone, part.block),
					     part.pos, part.nr_pages))
			return false;
	return true;
}

/* Placing a run: each returns its first page, or PLACE_NONE */

/* In one block, no longer than that. */
static uint64_t place_in_list(struct zone *zone, unsigned list,
			      const struct zone_request *req,
			      unsigned max_blocks)
{
	uint32_t nr = zone->lists[list - LIST_FIRST];

	while (nr != PAGEBLOCK_NONE && max_blocks--) {
		struct pageblock *b = block_at(zone, nr);
		uint32_t next = b->next;
		unsigned pos;

		if (b->longest_bound >= req->nr_pages) {
			pos = pageblock_find(b, (unsigned)req->nr_pages,
					     (unsigned)req->align_pages);
			if (pos != PAGEBLOCK_NOT_FOUND)
				return ((uint64_t)nr << PAGEBLOCK_SHIFT) + pos;
			place_settle(zone, nr);	/* its bound may be lower now */
		}
		nr = next;
	}
	return PLACE_NONE;
}

static uint64_t place_in_partial(struct zone *zone,
				 const struct zone_request *req,
				 unsigned max_blocks)
{
	for (unsigned list = list_for(req->nr_pages); list < LIST_EMPTY;
	     list++) {
		uint64_t page = place_in_list(zone, list, req, max_blocks);

		if (page != PLACE_NONE)
			return page;
	}
	return PLACE_NONE;
}

/* In free pages of one block that have their memory. */
static uint64_t place_in_backed_block(struct zone *zone, uint32_t nr,
				      const struct zone_request *req)
{
	unsigned pos = pageblock_find_backed(block_at(zone, nr),
					     (unsigned)req->nr_pages,
					     (unsigned)req->align_pages);

	if (pos != PAGEBLOCK_NOT_FOUND)
		return ((uint64_t)nr << PAGEBLOCK_SHIFT) + pos;
	place_settle(zone, nr);	/* its bound may be lower now */
	return PLACE_NONE;
}

static uint64_t place_in_spare_list(struct zone *zone, unsigned list,
				    const struct zone_request *req)
{
	uint32_t nr = zone->spare_lists[list - LIST_FIRST], next;
	uint64_t page = PLACE_NONE;

	for (unsigned i = 0; nr != PAGEBLOCK_NONE && page == PLACE_NONE &&
	     i < PLACE_SEARCH_BLOCKS; i++, nr = next) {
		struct pageblock *b = block_at(zone, nr);

		next = b->spare_next;
		if (b->spare_bound >= req->nr_pages)
			page = place_in_backed_block(zone, nr, req);
	}
	return page;
}

/* Where there is memory already. */
static uint64_t place_in_spare(struct zone *zone,
			       const struct zone_request *req)
{
	for (unsigned list = list_for(req->nr_pages); list < LIST_EMPTY;
	     list++) {
		uint64_t page = place_in_spare_list(zone, list, req);

		if (page != PLACE_NONE)
			return page;
	}
	return PLACE_NONE;
}

static uint64_t place_in_empty(struct zone *zone)
{
	uint32_t nr = blockmap_next(&zone->empty_backed, zone->range.first);

	if (nr == BLOCKMAP_NONE)
		nr = blockmap_next(&zone->empty, zone->range.first);
	return nr == BLOCKMAP_NONE ? PLACE_NONE :
	       (uint64_t)nr << PAGEBLOCK_SHIFT;
}

static void open_block(struct zone *zone, uint32_t nr)
{
	block_at(zone, nr)->longest_bound = PAGEBLOCK_PAGES;
	place_settle(zone, nr);
	if (load_relaxed(&zone->thp) == ZONE_THP_ALWAYS)
		place_set_huge(zone, nr, true);
}

/* Blocks never used, from the frontier up; those skipped become empty. */
static uint64_t place_at_frontier(struct zone *zone, uint32_t nr_blocks,
				  uint32_t align_blocks, uint32_t bias,
				  uint32_t *wanted_blocks)
{
	uint32_t first = blockmap_run_before(&zone->empty,
					     zone->frontier_block);
	uint64_t end;

	first = (uint32_t)round_up_pow2(first + bias, align_blocks) - bias;
	end = (uint64_t)first + nr_blocks;
	if (end > zone->range.end)
		return PLACE_NONE;
	if (end > load_relaxed(&zone->range.committed)) {
		*wanted_blocks = (uint32_t)end;
		return PLACE_NONE;
	}
	while (zone->frontier_block < end)
		open_block(zone, zone->frontier_block++);
	return (uint64_t)first << PAGEBLOCK_SHIFT;
}

static uint64_t place_small(struct zone *zone, const struct zone_request *req,
			    uint32_t *wanted_blocks)
{
	uint64_t page = PLACE_NONE;

	if (!req->may_grow) {
		page = place_in_spare(zone, req);
		if (page == PLACE_NONE)
			page = place_in_partial(zone, req,
						PLACE_SEARCH_BLOCKS);
	}
	if (page == PLACE_NONE)
		page = place_in_empty(zone);
	if (page == PLACE_NONE)
		page = place_at_frontier(zone, 1, 1, 0, wanted_blocks);
	if (req->no_commit)
		*wanted_blocks = 0;
	/* The span is used up: now every block counts. */
	if (page == PLACE_NONE && !*wanted_blocks)
		page = place_in_partial(zone, req, UINT32_MAX);
	return page;
}

static uint64_t place_large(struct zone *zone, const struct zone_request *req,
			    uint32_t *wanted_blocks)
{
	uint32_t nr_blocks, align = 1, bias = 0, first;

	if (div_up(req->nr_pages, PAGEBLOCK_PAGES) > zone->span->zone_blocks)
		return PLACE_NONE;
	nr_blocks = (uint32_t)div_up(req->nr_pages, PAGEBLOCK_PAGES);
	if (req->align_pages > PAGEBLOCK_PAGES) {
		/* Alignment is one of addresses, not of block numbers. */
		align = (uint32_t)(req->align_pages >> PAGEBLOCK_SHIFT);
		bias = (uint32_t)((uintptr_t)zone->span->base >>
				  SPAN_BLOCK_SHIFT) & (align - 1);
	}
	/* Blocks that have memory need no room for it. */
	first = blockmap_find_run(&zone->empty_backed, nr_blocks, align, bias);
	if (first == BLOCKMAP_NONE)
		first = blockmap_find_run(&zone->empty, nr_blocks, align,
					  bias);
	if (first != BLOCKMAP_NONE)
		return (uint64_t)first << PAGEBLOCK_SHIFT;
	return place_at_frontier(zone, nr_blocks, align, bias, wanted_blocks);
}

/*
 * The rare way: no memory may be added and none can be given back, so that
 * only free pages that still have theirs will do.
 */
static uint64_t place_in_backed(struct zone *zone,
				const struct zone_request *req)
{
	for (uint32_t nr = zone->range.first; nr < zone->frontier_block; nr++) {
		uint64_t page = PLACE_NONE;

		if (block_at(zone, nr)->nr_spare >= req->nr_pages)
			page = place_in_backed_block(zone, nr, req);
		if (page != PLACE_NONE)
			return page;
	}
	return PLACE_NONE;
}

uint64_t place_find(struct zone *zone, const struct zone_request *req,
		    uint32_t *wanted_blocks)
{
	bool in_block = req->nr_pages <= PAGEBLOCK_PAGES &&
			req->align_pages <= PAGEBLOCK_PAGES;

	if (req->only_backed)
		return in_block ? place_in_backed(zone, req) : PLACE_NONE;
	if (in_block)
		return place_small(zone, req, wanted_blocks);
	return place_large(zone, req, wanted_blocks);
}

/* Checks */

static bool is_placed_right(struct zone *zone, uint32_t nr)
{
	const struct pageblock *b = block_at(zone, nr);
	bool is_empty = !b->nr_used;
	unsigned list = is_empty ? LIST_EMPTY :
			b->longest_bound ? list_for(b->longest_bound) :
			LIST_NONE;

	return b->list == list &&
	       blockmap_has(&zone->empty, nr) == is_empty &&
	       blockmap_has(&zone->empty_backed, nr) ==
			(is_empty && can_purge(b));
}

int place_verify(struct zone *zone, uint32_t nr)
{
	const struct pageblock *b = block_at(zone, nr);
	int err = pageblock_verify(b);

	if (err)
		return 100 + err;
	if (!is_placed_right(zone, nr))
		return 6;
	if (b->huge && (b->nr_used + b->nr_spare) % PAGEBLOCK_PAGES)
		return 10;
	return b->spare_list == spare_list_of(b) ? 0 : 7;
}
