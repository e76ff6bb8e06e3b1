/* SPDX-License-Identifier: MIT */
/* backing.c - see backing.h. */
#include "backing.h"

#include "base/bug.h"
#include "base/fault.h"
#include "os/os.h"
#include "thp.h"

/*
 * Times that a claim commits more and looks again.  Another thread may take
 * what was committed; that a claim is robbed this often means that the others
 * got their memory.
 */
#define BACKING_MAX_COMMITS	64
/* Far more than a batch's madvise takes, even if its thread is preempted. */
#define BACKING_MAX_YIELDS	20000
/* Pages that malloc_trim takes out at a time. */
#define BACKING_BATCH_PAGES	512

/* All or nothing, so that the zone's books stay simple. */
static bool purge_ranges(struct zone *zone, const struct zone_purge *purge)
{
	bool ok = true;

	for (unsigned i = 0; i < purge->nr_ranges; i++)
		if (os_purge(span_page_address(zone->span,
					       purge->range[i].page),
			     pages_to_bytes(purge->range[i].nr_pages)))
			ok = false;
	return ok;
}

/* Has another thread memory or room that it is about to give back? */
static bool others_hold(const struct zone *zone, const struct zone_run *run)
{
	bool may_demote = zone->may_demote &&
			  (zone->nr_advising || zone->is_demoting);

	return zone->held_pages || may_demote ||
	       zone->filler_pages > zone->lost_filler_pages +
				    run->filler_pages;
}

/* Nothing can be purged.  Is there any point in trying again?  Drops and
 * retakes the zone's lock. */
static bool find_other_room(struct zone *zone, const struct zone_run *run,
			    unsigned *yields)
{
	if (!zone->held_pages && thp_make_holes(zone))
		return true;
	if (!others_hold(zone, run) || !(*yields)--)
		return false;
	zone_unlock(zone);
	os_yield();
	lock_acquire(&zone->lock);
	return true;
}

bool backing_finish(struct zone *zone, struct zone_run *run)
{
	struct zone_purge purge;
	unsigned yields = BACKING_MAX_YIELDS;
	bool ready, purged;

	lock_acquire(&zone->lock);
	/* Each round purges a page at least, or finds blocks that it will not
	 * try again. */
	while (!(ready = zone_back(zone, run))) {
		if (!zone_make_room(zone, run, &purge)) {
			if (!find_other_room(zone, run, &yields))
				break;
			continue;
		}
		zone_unlock(zone);
		purged = purge_ranges(zone, &purge);
		lock_acquire(&zone->lock);
		zone_putback(zone, &purge, purged);
		/* Refused: give the room back, try other blocks' memory. */
		if (!purged)
			zone_renounce(zone, run, purge.nr_pages);
	}
	if (!ready)
		zone_unclaim(zone, run);
	zone_unlock(zone);
	return ready;
}

/* Tables beyond those that the limit covers from the start are memory too. */
static bool charge_tables(struct zone *zone, uint32_t nr_blocks,
			  uint64_t *charged_pages)
{
	uint64_t pages, bytes;
	uint32_t from, end;

	/* What is committed may be used without asking again. */
	end = (uint32_t)min_u64(round_up_pow2(nr_blocks,
					      zone->span->granule_blocks),
				zone->range.end);
	lock_acquire(&zone->lock);
	if (end > zone->asked_blocks)
		zone->asked_blocks = end;
	from = zone->tables_blocks;
	if (nr_blocks > from)
		zone->tables_blocks = nr_blocks;
	zone_unlock(zone);
	if (nr_blocks <= from)
		return true;
	bytes = (uint64_t)(nr_blocks - from) * SPAN_BLOCK_TABLE_BYTES;
	pages = bytes_to_pages_up(bytes);
	if (backing_charge(zone, pages, 0)) {
		*charged_pages += pages;
		lock_acquire(&zone->lock);
		zone->tables_pages += pages;
		zone_unlock(zone);
		return true;
	}
	lock_acquire(&zone->lock);
	if (zone->tables_blocks == nr_blocks)
		zone->tables_blocks = from;
	zone_unlock(zone);
	return false;
}

static bool commit_more(struct zone *zone, uint32_t wanted_blocks,
			uint64_t *charged_pages, enum failure *why)
{
	*why = FAILURE_LIMIT;
	if (!charge_tables(zone, wanted_blocks, charged_pages))
		return false;
	*why = FAILURE_OS;
	return span_commit_blocks(zone->span, &zone->range,
				  wanted_blocks) == 0;
}

void backing_open(struct zone *zone)
{
	uint64_t charged_pages = 0;
	enum failure why;

	commit_more(zone, zone->range.first + 1, &charged_pages, &why);
}

static enum failure failure_of(const struct zone *zone, int refusal,
			       const struct zone_request *req)
{
	if (refusal == ZONE_NO_PLACE)
		return FAILURE_ADDRESS_SPACE;
	return req->nr_pages + req->floor_pages >
	       load_relaxed(&zone->managed_pages) ?
	       FAILURE_TOO_BIG : FAILURE_LIMIT;
}

/*
 * One lock hold: as many runs as can be had without a system call, and maybe a
 * last one, counted in, that has yet to be backed.
 */
static unsigned claim_hold(struct zone *zone, const struct zone_request *req,
			   unsigned nr_runs, struct zone_run *runs,
			   bool *last_ready, int *refusal, uint32_t *wanted)
{
	unsigned n = 0;

	*last_ready = true;
	lock_acquire(&zone->lock);
	while (n < nr_runs && *last_ready) {
		*refusal = zone_claim(zone, req, &runs[n], wanted);
		if (*refusal)
			break;
		*last_ready = zone_back(zone, &runs[n++]);
	}
	zone_unlock(zone);
	return n;
}

/* The kernel took nothing back: pages that have memory need no room. */
static bool claim_backed(struct zone *zone, const struct zone_request *req,
			 struct zone_run *run)
{
	struct zone_request backed = *req;
	uint32_t wanted;
	bool ok;

	backed.only_backed = true;
	lock_acquire(&zone->lock);
	ok = !zone_claim(zone, &backed, run, &wanted);
	if (ok)
		ok = zone_back(zone, run);
	zone_unlock(zone);
	return ok;
}

unsigned backing_claim(struct zone *zone, const struct zone_request *req,
		       unsigned nr_runs, struct zone_run *runs,
		       enum failure *why)
{
	struct zone_request now = *req;
	uint64_t charged_pages = 0;
	uint32_t wanted;
	int refusal = 0;
	bool ready;
	unsigned n = 0;

	*why = FAILURE_LIMIT;
	if (fault_hit(FAULT_CLAIM))
		return 0;
	for (unsigned i = 0; i < BACKING_MAX_COMMITS; i++) {
		n = claim_hold(zone, &now, nr_runs, runs, &ready, &refusal,
			       &wanted);
		if (n || refusal != ZONE_WANTS_COMMIT)
			break;
		if (!commit_more(zone, wanted, &charged_pages, why))
			now.no_commit = true;
		/* The reserve pays for tables, not the request. */
		now.floor_pages = req->floor_pages -
				  min_u64(req->floor_pages, charged_pages);
	}
	if (!n) {
		if (!now.no_commit)
			*why = failure_of(zone, refusal, req);
		return 0;
	}
	if (!ready && !backing_finish(zone, &runs[n - 1])) {
		*why = FAILURE_PURGE;
		n--;
		if (!n && claim_backed(zone, req, runs))
			n = 1;
	}
	return n;
}

bool backing_charge(struct zone *zone, uint64_t nr_pages, uint64_t floor_pages)
{
	struct zone_run run;
	bool granted;

	lock_acquire(&zone->lock);
	granted = zone_charge(zone, nr_pages, floor_pages, &run);
	zone_unlock(zone);
	return granted && backing_finish(zone, &run);
}

uint64_t backing_purge(struct zone *zone, enum zone_spare which,
		       uint64_t nr_pages)
{
	struct zone_purge purge;
	uint64_t done = 0;
	bool purged = true;

	/* Each round purges a page at least, or is the last. */
	while (purged && done < nr_pages) {
		lock_acquire(&zone->lock);
		zone_isolate_spare(zone, which, min_u64(nr_pages - done,
				   BACKING_BATCH_PAGES), &purge);
		zone_unlock(zone);
		if (!purge.nr_pages)
			break;
		purged = purge_ranges(zone, &purge);
		lock_acquire(&zone->lock);
		zone_putback(zone, &purge, purged);
		zone_unlock(zone);
		done += purged ? purge.nr_pages : 0;
	}
	return done;
}

bool backing_make_holes(struct zone *zone)
{
	bool made;

	lock_acquire(&zone->lock);
	made = thp_make_holes(zone);
	zone_unlock(zone);
	return made;
}
