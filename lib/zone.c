/* SPDX-License-Identifier: MIT */
/* zone.c - see zone.h. */
#include "zone.h"

#include <errno.h>

#include "base/bug.h"
#include "base/waitq.h"
#include "zone_place.h"

static_assert(sizeof(struct pageblock) == SPAN_BLOCK_ENTRY_BYTES,
	      "span.c lays out the tables");
static_assert(PAGEBLOCK_PAGES == SPAN_BLOCK_PAGES, "one block, one size");

/* What is purged at the least when anything is: madvise has a fixed cost. */
#define ZONE_PURGE_MIN_PAGES	64
/* See zone_keep_pages(). */
#define ZONE_KEEP_SHARE		64
#define ZONE_KEEP_MAX_PAGES	1024
#define ZONE_KEEP_HOLES_SHARE	32

/* Runs */

static bool fits(struct zone *zone, uint64_t nr_pages, uint64_t floor_pages)
{
	uint64_t free = zone_free_pages(zone) - zone->withheld_pages;

	return free >= floor_pages && free - floor_pages >= nr_pages;
}

static void add_backed(struct zone *zone, uint64_t nr_pages)
{
	add_single_writer(&zone->backed_pages, nr_pages);
}

static void sub_backed(struct zone *zone, uint64_t nr_pages)
{
	add_single_writer(&zone->backed_pages, -nr_pages);
}

/* Of what is managed: may hold memory, or will. */
static uint64_t taken_pages(struct zone *zone)
{
	return load_relaxed(&zone->backed_pages) + zone->promised_pages +
	       zone->held_pages;
}

static void count_used(struct zone *zone, uint64_t nr_pages)
{
	uint64_t used = load_relaxed(&zone->used_pages) + nr_pages;

	store_relaxed(&zone->used_pages, used);
	if (used > zone->peak_used_pages)
		zone->peak_used_pages = used;
}

static void uncount_used(struct zone *zone, uint64_t nr_pages)
{
	uint64_t used = load_relaxed(&zone->used_pages);

	BUG_ON(used < nr_pages);
	used -= nr_pages;
	store_relaxed(&zone->used_pages, used);
	if (used + load_relaxed(&zone->high_pages) <
	    load_relaxed(&zone->managed_pages))
		store_relaxed(&zone->above_high, true);
}

static void note_spare(struct zone *zone)
{
	spare_window_note(&zone->window, zone_spare_now(zone));
}

static void set_map(struct zone *zone, uint64_t page, uint32_t word)
{
	store_relaxed(&zone->span->map[page], word);
}

/* The run's pages, and the filler beside them, are in the making. */
static void take_place(struct zone *zone, struct zone_run *run)
{
	place_claim(zone, run);
	zone->making_pages += run->fresh_pages;
	zone->filler_pages += run->filler_pages;
}

int zone_claim(struct zone *zone, const struct zone_request *req,
	       struct zone_run *run, uint32_t *wanted_blocks)
{
	uint64_t page, more = req->nr_pages - req->moved_pages;

	lock_assert_held(&zone->lock);
	VM_BUG_ON(!run_length_is_valid(req->nr_pages));
	VM_BUG_ON(req->moved_pages > req->nr_pages);
	*wanted_blocks = 0;
	if (!fits(zone, more, req->floor_pages))
		return ZONE_BELOW_FLOOR;
	page = place_find(zone, req, wanted_blocks);
	if (page == PLACE_NONE)
		return *wanted_blocks ? ZONE_WANTS_COMMIT : ZONE_NO_PLACE;

	run->page = page;
	run->nr_pages = req->nr_pages;
	run->moved_pages = req->moved_pages;
	run->kept_pages = !req->moved_pages ? 0 :
			  place_kept(zone, req->moved_from, req->moved_pages);
	run->credit_pages = 0;
	/* Pages stop counting as free before they are taken, and count again
	 * after they can be found: who reads the number without the lock never
	 * sees too many. */
	count_used(zone, more);
	take_place(zone, run);
	set_map(zone, page,
		run_word(req->nr_pages) | req->map_flags);
	zone->moving_pages += req->moved_pages;
	note_spare(zone);
	return 0;
}

/* Moved memory needs no further room, but where it goes on counting. */
static uint64_t room_wanted(const struct zone_run *run)
{
	uint64_t brought = run->moved_pages - run->kept_pages;

	return run->fresh_pages > brought ? run->fresh_pages - brought : 0;
}

static void promise(struct zone *zone, struct zone_run *run)
{
	uint64_t taken = taken_pages(zone);
	uint64_t room = load_relaxed(&zone->managed_pages) -
			zone->withheld_pages;
	uint64_t grant;

	room = room > taken ? room - taken : 0;
	grant = min_u64(room_wanted(run) - run->credit_pages, room);
	run->credit_pages += grant;
	zone->promised_pages += grant;
}

/* The run has memory for all of its blocks: the filler is spare. */
static void end_filler(struct zone *zone, struct zone_run *run)
{
	zone->filler_pages -= run->filler_pages;
	run->fresh_pages -= run->filler_pages;
	run->filler_pages = 0;
}

/* Blocks that are huge no more need no filler, nor room for it. */
static void trim(struct zone *zone, struct zone_run *run)
{
	uint64_t nr = place_drop_filler(zone, run->page, run->nr_pages, true);

	zone->making_pages -= nr;
	zone->filler_pages -= nr;
	run->fresh_pages -= nr;
	run->filler_pages -= nr;
	if (run->credit_pages > room_wanted(run))
		zone_renounce(zone, run, run->credit_pages - room_wanted(run));
}

bool zone_back(struct zone *zone, struct zone_run *run)
{
	lock_assert_held(&zone->lock);
	if (unlikely(run->filler_pages))
		trim(zone, run);
	promise(zone, run);
	if (run->credit_pages < room_wanted(run))
		return false;
	if (run->moved_pages)
		return true;	/* zone_finish_move() does the rest */
	place_back(zone, run->page, run->nr_pages);
	zone->promised_pages -= run->credit_pages;
	zone->making_pages -= run->fresh_pages;
	add_backed(zone, run->fresh_pages);
	if (unlikely(run->filler_pages))
		end_filler(zone, run);
	return true;
}

uint64_t zone_make_room(struct zone *zone, struct zone_run *run,
			struct zone_purge *purge)
{
	uint64_t need = room_wanted(run) - run->credit_pages, credit;

	/* What is taken beyond the need is nobody's before it is purged. */
	credit = min_u64(need, zone_isolate_spare(zone, ZONE_SPARE_ALL, need,
						  purge));
	run->credit_pages += credit;
	zone->promised_pages += credit;
	zone->held_pages -= credit;
	purge->held_pages -= credit;
	return purge->nr_pages;
}

void zone_renounce(struct zone *zone, struct zone_run *run, uint64_t nr_pages)
{
	uint64_t back = min_u64(nr_pages, run->credit_pages);

	run->credit_pages -= back;
	zone->promised_pages -= back;
}

void zone_finish_move(struct zone *zone, const struct zone_run *run,
		      uint64_t old_page)
{
	lock_assert_held(&zone->lock);
	place_back(zone, run->page, run->nr_pages);
	zone->promised_pages -= run->credit_pages;
	zone->making_pages -= run->fresh_pages;
	zone->filler_pages -= run->filler_pages;
	zone->moving_pages -= run->moved_pages;
	set_map(zone, old_page, 0);
	add_backed(zone, run->fresh_pages);
	sub_backed(zone, place_release(zone, old_page, run->moved_pages,
				       false));
}

void zone_unclaim(struct zone *zone, const struct zone_run *run)
{
	lock_assert_held(&zone->lock);
	zone->promised_pages -= run->credit_pages;
	zone->making_pages -= run->fresh_pages;
	zone->moving_pages -= run->moved_pages;
	if (run->nr_pages) {
		set_map(zone, run->page, 0);
		zone->filler_pages -= place_drop_filler(zone, run->page,
							run->nr_pages, false);
		place_release(zone, run->page, run->nr_pages, true);
		uncount_used(zone, run->nr_pages - run->moved_pages);
	} else {
		zone->charged_pages -= run->fresh_pages;
		uncount_used(zone, run->fresh_pages);
	}
}

void zone_release(struct zone *zone, uint64_t page, uint64_t nr_pages,
		  bool backed)
{
	uint64_t gone;

	lock_assert_held(&zone->lock);
	set_map(zone, page, 0);
	gone = place_release(zone, page, nr_pages, backed);
	uncount_used(zone, nr_pages);
	if (!backed)
		sub_backed(zone, gone);
}

bool zone_extend(struct zone *zone, uint64_t page, uint64_t nr_pages,
		 uint64_t more_pages, uint64_t floor_pages,
		 struct zone_run *run)
{
	uint64_t end = page + nr_pages + more_pages;
	uint32_t moved = load_relaxed(&zone->span->map[page]) & MAP_MOVED;
	lock_assert_held(&zone->lock);
	if (end > (uint64_t)zone->frontier_block << PAGEBLOCK_SHIFT ||
	    !run_length_is_valid(nr_pages + more_pages) ||
	    !fits(zone, more_pages, floor_pages) ||
	    !place_is_free(zone, page + nr_pages, more_pages))
		return false;
	*run = (struct zone_run){
		.page = page + nr_pages,
		.nr_pages = more_pages,
	};
	count_used(zone, more_pages);
	take_place(zone, run);
	set_map(zone, page, run_word(nr_pages + more_pages) | moved);
	note_spare(zone);
	return true;
}

void zone_shrink(struct zone *zone, uint64_t page, uint64_t nr_pages,
		 uint64_t keep_pages)
{
	uint32_t moved = load_relaxed(&zone->span->map[page]) & MAP_MOVED;

	lock_assert_held(&zone->lock);
	VM_BUG_ON(keep_pages == 0 || keep_pages >= nr_pages);
	set_map(zone, page, run_word(keep_pages) | moved);
	place_release(zone, page + keep_pages, nr_pages - keep_pages, true);
	uncount_used(zone, nr_pages - keep_pages);
}

void zone_set_map(struct zone *zone, uint64_t page, uint64_t nr_pages,
		  uint32_t first_word, uint32_t other_words)
{
	lock_assert_held(&zone->lock);
	set_map(zone, page, first_word);
	for (uint64_t i = 1; i < nr_pages; i++)
		set_map(zone, page + i, other_words);
}

bool zone_charge(struct zone *zone, uint64_t nr_pages, uint64_t floor_pages,
		 struct zone_run *run)
{
	lock_assert_held(&zone->lock);
	if (!fits(zone, nr_pages, floor_pages))
		return false;
	*run = (struct zone_run){ .fresh_pages = nr_pages };
	zone->charged_pages += nr_pages;
	zone->making_pages += nr_pages;
	count_used(zone, nr_pages);
	return true;
}

void zone_uncharge(struct zone *zone, uint64_t nr_pages)
{
	lock_assert_held(&zone->lock);
	BUG_ON(zone->charged_pages < nr_pages);
	zone->charged_pages -= nr_pages;
	sub_backed(zone, nr_pages);
	uncount_used(zone, nr_pages);
}

/* Purging */

/* Takes spare runs of one block; isolated pages are marked used, so that
 * nobody claims them. */
static void isolate_in_block(struct zone *zone, uint32_t nr, uint64_t want,
			     struct zone_purge *purge)
{
	struct pageblock *b = block_at(zone, nr);
	unsigned pos = 0, len;

	while (purge->nr_pages < want &&
	       purge->nr_ranges < ZONE_PURGE_RANGES) {
		pos = pageblock_find_spare(b, pos, &len);
		if (pos == PAGEBLOCK_NOT_FOUND)
			break;
		if (!b->huge)	/* one with memory is all spare */
			len = (unsigned)min_u64(len, want - purge->nr_pages);
		pageblock_claim(b, pos, len);
		purge->range[purge->nr_ranges].page =
			((uint64_t)nr << PAGEBLOCK_SHIFT) + pos;
		purge->range[purge->nr_ranges++].nr_pages = len;
		purge->nr_pages += len;
		pos += len;
	}
	place_settle(zone, nr);
}

static uint32_t next_spare_block(struct zone *zone, enum zone_spare which)
{
	uint32_t nr = blockmap_last(&zone->empty_backed);

	if (nr != BLOCKMAP_NONE)
		return nr;
	/* Long holes first: a system call each. */
	for (unsigned i = ZONE_NR_LISTS; which == ZONE_SPARE_ALL && i--;)
		if (zone->spare_lists[i] != PAGEBLOCK_NONE)
			return zone->spare_lists[i];
	return PAGEBLOCK_NONE;
}

uint64_t zone_isolate_spare(struct zone *zone, enum zone_spare which,
			    uint64_t want_pages, struct zone_purge *purge)
{
	uint64_t want = max_u64(want_pages, ZONE_PURGE_MIN_PAGES);

	lock_assert_held(&zone->lock);
	purge->nr_ranges = 0;
	purge->nr_pages = 0;
	/* Each round takes a page at least, or is the last. */
	while (purge->nr_pages < want &&
	       purge->nr_ranges < ZONE_PURGE_RANGES) {
		uint32_t nr = next_spare_block(zone, which);

		if (nr == PAGEBLOCK_NONE)
			break;
		isolate_in_block(zone, nr, want, purge);
	}
	spare_window_take(&zone->window, purge->nr_pages);
	sub_backed(zone, purge->nr_pages);
	zone->isolated_pages += purge->nr_pages;
	zone->held_pages += purge->nr_pages;
	purge->held_pages = purge->nr_pages;
	return purge->nr_pages;
}

/* How many pages from @page on belong to an allocation that starts there. */
static uint64_t allocated_at(struct zone *zone, uint64_t page)
{
	uint32_t word = load_relaxed(&zone->span->map[page]);

	if (word & MAP_SLAB)
		return 1;	/* every page of a slab says so */
	return word & MAP_RUN ? run_word_pages(word) : 0;
}

static bool is_isolated(struct zone *zone, uint64_t page)
{
	return !block_at(zone, (uint32_t)(page >> PAGEBLOCK_SHIFT))->filling &&
	       !place_is_free(zone, page, 1);
}

/*
 * Isolated pages are those that are used and in no allocation.  Runs that were
 * in the making stay used, without memory, and so does their filler: their
 * makers' requests are lost with them.
 */
void zone_adopt_isolated(struct zone *zone)
{
	uint64_t end = (uint64_t)zone->frontier_block << PAGEBLOCK_SHIFT;
	uint64_t page = zone->isolated_pages ? zone_first_page(zone) : end, n;

	while (page < end) {
		n = allocated_at(zone, page);
		if (!n && is_isolated(zone, page)) {
			place_release(zone, page, 1, true);
			zone->isolated_pages--;
			add_backed(zone, 1);
		}
		page += n ? n : 1;
	}
	zone->held_pages = 0;
	zone->promised_pages = 0;
	zone->lost_filler_pages = zone->filler_pages;
	zone->nr_advising = 0;
	zone->is_demoting = false;
}

uint64_t zone_spare_now(struct zone *zone)
{
	uint64_t used = load_relaxed(&zone->used_pages) - zone->making_pages +
			zone->moving_pages + zone->filler_pages;
	uint64_t backed = load_relaxed(&zone->backed_pages);

	return backed > used ? backed - used : 0;
}

uint64_t zone_spare_pages(struct zone *zone)
{
	uint64_t spare;

	lock_acquire(&zone->lock);
	spare = zone_spare_now(zone);
	zone_unlock(zone);
	return spare;
}

uint64_t zone_age_spare(struct zone *zone, uint64_t now_ns, uint64_t slot_ns)
{
	lock_assert_held(&zone->lock);
	spare_window_advance(&zone->window, now_ns, slot_ns,
			     zone_spare_now(zone));
	return spare_window_idle_pages(&zone->window);
}

void zone_add_idle(struct zone *zone, uint64_t drained_pages,
		   unsigned idle_slots)
{
	lock_assert_held(&zone->lock);
	spare_window_add_idle(&zone->window, drained_pages, idle_slots);
	/* Others may have used some meanwhile (I12). */
	note_spare(zone);
}

uint64_t zone_keep_pages(const struct zone *zone)
{
	return min_u64(load_relaxed(&zone->managed_pages) / ZONE_KEEP_SHARE,
		       ZONE_KEEP_MAX_PAGES);
}

uint64_t zone_keep_holes_pages(const struct zone *zone)
{
	return load_relaxed(&zone->used_pages) / ZONE_KEEP_HOLES_SHARE;
}

/* Such as can be purged: not in blocks that huge pages fill again. */
static bool has_holes(const struct zone *zone)
{
	for (unsigned i = 0; i < ZONE_NR_LISTS; i++)
		if (zone->spare_lists[i] != PAGEBLOCK_NONE)
			return true;
	return false;
}

bool zone_has_excess(struct zone *zone)
{
	uint64_t spare = zone_spare_now(zone), keep = zone_keep_pages(zone);

	if (spare <= keep)
		return false;
	return zone->empty_backed.nr_set ||
	       (spare > keep + zone_keep_holes_pages(zone) && has_holes(zone));
}

bool zone_was_above_high(struct zone *zone)
{
	/* Many may ask while it is not. */
	return load_relaxed(&zone->above_high) &&
	       xchg_relaxed(&zone->above_high, false);
}

void zone_kick(struct zone *zone)
{
	/* Full: either a thread that is just started finds what this is about,
	 * or we find that it is there. */
	if (zone->work_due && !load_full(&zone->has_reclaimd)) {
		store_relaxed(zone->work_due, true);
		return;
	}
	/* Release: pairs with the acquire in reclaimd_loop(), which then sees
	 * what there is to do. */
	add_release(&zone->kick, 1);
	waitq_wake_one(&zone->kick);
}

void zone_kick_balancer(struct zone *zone)
{
	/* Full, as in reclaimd.c, linger(): whoever stops waiting for this
	 * looks once more, or we see that it has stopped. */
	if (!load_full(&zone->has_balancer)) {
		zone_kick(zone);
		return;
	}
	add_release(&zone->balance_kick, 1);
	waitq_wake_one(&zone->balance_kick);
}

void zone_putback(struct zone *zone, const struct zone_purge *purge,
		  bool purged)
{
	lock_assert_held(&zone->lock);
	for (unsigned i = 0; i < purge->nr_ranges; i++) {
		uint64_t page = purge->range[i].page;

		place_release(zone, page, purge->range[i].nr_pages, !purged);
		if (!purged)
			place_refuse(zone, page);
	}
	zone->isolated_pages -= purge->nr_pages;
	zone->held_pages -= purge->held_pages;
	if (purged)
		zone->purged_pages += purge->nr_pages;
	else
		add_backed(zone, purge->nr_pages);
}

/* Another limit */

void zone_keep_limit(struct zone *zone)
{
	lock_assert_held(&zone->lock);
	zone->withheld_pages = 0;
}

void zone_restore_limit(struct zone *zone, uint64_t managed_pages)
{
	lock_assert_held(&zone->lock);
	zone->withheld_pages = 0;
	store_relaxed(&zone->managed_pages,
		      max_u64(managed_pages, taken_pages(zone)));
}

int zone_set_limit(struct zone *zone, const struct zone_limit *limit,
		   uint64_t *excess_pages)
{
	uint64_t cap = limit->managed_pages + limit->uncharge_pages;
	uint64_t taken = taken_pages(zone);

	lock_assert_held(&zone->lock);
	VM_BUG_ON(limit->uncharge_pages > zone->charged_pages);
	if (load_relaxed(&zone->used_pages) > cap) {
		zone_keep_limit(zone);
		return -EBUSY;
	}
	if (taken > cap) {
		/* By I4 it is being lowered. */
		zone->withheld_pages = load_relaxed(&zone->managed_pages) -
				       cap;
		*excess_pages = taken - cap;
		return -EAGAIN;
	}
	zone->withheld_pages = 0;
	zone_uncharge(zone, limit->uncharge_pages);
	zone->tables_pages = 0;
	zone->tables_blocks = limit->tables_blocks;
	/* As after a rise: an episode of pressure may begin anew. */
	store_relaxed(&zone->above_high, true);
	store_relaxed(&zone->managed_pages, limit->managed_pages);
	zone_set_watermarks(zone, limit->min_free_bytes, limit->scale);
	return 0;
}

/* Bring-up and checks */

void zone_init_range(struct zone *zone, struct span *span, uint32_t index,
		     uint64_t managed_pages)
{
	uint32_t nr = span_blockmap_blocks(span), first;
	char *maps = span_blockmaps(span, index);

	zone->span = span;
	zone->index = index;
	span_range_init(span, index, &zone->range);
	first = zone->range.first;
	zone->frontier_block = first;
	lock_init(&zone->lock, LOCK_RANK_ZONE);
	store_relaxed(&zone->managed_pages, managed_pages);
	store_relaxed(&zone->used_pages, 0);
	for (unsigned i = 0; i < ZONE_NR_LISTS; i++) {
		zone->lists[i] = PAGEBLOCK_NONE;
		zone->spare_lists[i] = PAGEBLOCK_NONE;
	}
	zone->watch_excess = true;
	store_relaxed(&zone->above_high, true);
	blockmap_init(&zone->empty, first, nr, maps);
	blockmap_init(&zone->empty_backed, first, nr,
		      maps + blockmap_bytes(nr));
	zone_set_watermarks(zone, 0, ZONE_DEFAULT_SCALE);
}

struct zone_sums {
	uint64_t	used, used_or_backed;
	uint32_t	huge_ranges;
};

static int verify_blocks(struct zone *zone, struct zone_sums *sums)
{
	bool was_huge = false;

	for (uint32_t nr = zone->range.first; nr < zone->frontier_block; nr++) {
		const struct pageblock *b = block_at(zone, nr);
		int err = place_verify(zone, nr);

		if (err)
			return err;
		sums->used += b->nr_used;
		sums->used_or_backed += (uint64_t)b->nr_used + b->nr_spare;
		sums->huge_ranges += b->huge && !was_huge;
		was_huge = b->huge;
	}
	return 0;
}

static int verify_marks(struct zone *zone)
{
	uint64_t min = load_relaxed(&zone->min_pages);
	uint64_t low = load_relaxed(&zone->low_pages);
	uint64_t high = load_relaxed(&zone->high_pages);

	return min <= low && low <= high &&
	       high <= load_relaxed(&zone->managed_pages) ? 0 : 8;
}

int zone_verify(struct zone *zone)
{
	uint64_t used = load_relaxed(&zone->used_pages);
	uint64_t managed = load_relaxed(&zone->managed_pages);
	struct zone_sums sums = { 0 };
	int err = verify_blocks(zone, &sums);

	if (err)
		return err;
	if (used + zone->isolated_pages + zone->moving_pages +
	    zone->filler_pages != sums.used + zone->charged_pages)
		return 1;
	if (load_relaxed(&zone->backed_pages) + zone->isolated_pages +
	    zone->making_pages != sums.used_or_backed + zone->charged_pages)
		return 2;
	if (used > managed)
		return 3;
	if (taken_pages(zone) > managed)
		return 4;
	if (zone->promised_pages > zone->making_pages)
		return 5;
	if (used + zone->withheld_pages > managed)
		return 9;
	if (zone->window.low_pages[zone->window.now] > zone_spare_now(zone))
		return 12;
	if (sums.huge_ranges != load_relaxed(&zone->nr_huge_ranges))
		return 11;
	return verify_marks(zone);
}
