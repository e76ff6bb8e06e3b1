/* SPDX-License-Identifier: MIT */
/* vmscan.c - see vmscan.h. */
#include "vmscan.h"

#include "base/waitq.h"
#include "node.h"
#include "os/os.h"
#include "page_alloc.h"
#include "trace.h"

/* The priority of the pass for pressure from outside: 2 / 2^5 of what there
 * is, at the usual cost. */
#define GENTLE_PRIORITY	5u
/* Passes of a run; priority is kept while enough is scanned. */
#define MAX_PASSES	64u
/* Between two looks whether reclaimd still works. */
#define THROTTLE_STEP_NS	100000000ull
#define MAX_THROTTLE_STEPS	10u

struct scan {
	struct pcp_registry	*reg;
	struct zone		*zone;		/* to be balanced */
	const struct vmscan_want *want;		/* or what to serve */
	uint64_t		deadline_ns;
	unsigned		flags;
	unsigned		nr_busy;	/* result: of the last pass */
};

static bool never_enough(void *arg PP_UNUSED)
{
	return false;
}

/* Somebody's reclaim was not in vain. */
static void note_progress(struct pcp_registry *reg)
{
	for_each_zone(zone, reg->zones)
		if (load_relaxed(&zone->reclaim_failures)) {
			store_relaxed(&zone->reclaim_failures, 0);
			store_relaxed(&zone->reclaim_wanted, false);
		}
}

void vmscan_revive(struct pcp_registry *reg)
{
	note_progress(reg);
}

static struct shrink_pass one_pass(struct scan *scan, unsigned priority,
				   bool (*enough)(void *))
{
	struct shrink_pass pass = {
		.flags = scan->flags,
		.priority = priority,
		.deadline_ns = scan->deadline_ns,
		.for_request = scan->want != NULL,
		.enough = enough,
		.arg = scan,
	};

	shrinker_run_all(scan->reg->shrinkers, &pass);
	scan->nr_busy = pass.nr_busy;
	vmstat_add(scan->reg->vmstat, EVENT_SCANNED,
		   (int64_t)pass.nr_scanned);
	if (pass.nr_freed)
		note_progress(scan->reg);
	return pass;
}

static bool can_call_back(struct pcp_registry *reg, unsigned flags)
{
	return load_relaxed(&reg->shrinkers->nr) && !(flags & PP_NOFS);
}

/* For a request */

bool vmscan_would_serve(struct pcp_registry *reg,
			const struct vmscan_want *want, uint64_t more_pages)
{
	for_each_zone(zone, reg->zones)
		if ((!want->only || want->only == zone) &&
		    zone_free_pages(zone) + more_pages >=
		    want->nr_pages + page_floor_pages(zone, want->flags))
			return true;
	return false;
}

static bool would_be_served(void *arg)
{
	const struct scan *scan = arg;

	return vmscan_would_serve(scan->reg, scan->want, 0);
}

/* Harder and harder; objects freed. */
static uint64_t scan_all_priorities(struct scan *scan, bool (*enough)(void *))
{
	struct shrink_pass pass;
	uint64_t freed = 0;

	for (unsigned i = 0; i <= SHRINKER_MAX_PRIORITY; i++) {
		pass = one_pass(scan, SHRINKER_MAX_PRIORITY - i, enough);
		freed += pass.nr_freed;
		/* Where there is nothing, asking harder brings nothing. */
		if (!pass.has_freeable || enough(scan) ||
		    os_now_ns() >= scan->deadline_ns)
			break;
	}
	return freed;
}

/* What others free who are inside the shrinkers is as good.  Have they, since
 * @done, or is one left that was passed over? */
static enum callback_wait wait_for_others(const struct scan *scan,
					  uint64_t done)
{
	return callback_list_wait(scan->reg->shrinkers, done,
				  scan->deadline_ns);
}

static uint64_t done_so_far(const struct scan *scan)
{
	return load_relaxed(&scan->reg->shrinkers->nr_done);
}

/* All have been asked in vain that were free, and nothing was done by others
 * since @done: waits for its turn.  Objects freed; those of others are one. */
static uint64_t ask_the_busy(struct scan *scan, uint64_t done)
{
	enum callback_wait result;
	uint64_t freed = 0;

	/* Each round has waited for one that was busy to be left. */
	while (!freed && scan->nr_busy) {
		result = wait_for_others(scan, done);
		if (result == CALLBACK_PROGRESS)
			return 1;
		if (result == CALLBACK_LATE)
			break;
		freed = one_pass(scan, 0, would_be_served).nr_freed;
	}
	return freed;
}

uint64_t vmscan_direct(struct pcp_registry *reg, const struct vmscan_want *want)
{
	struct scan scan = {
		.reg = reg,
		.want = want,
		.deadline_ns = want->deadline_ns,
		.flags = want->flags,
	};
	uint64_t before, freed, done = done_so_far(&scan);

	VM_BUG_ON(want->flags & PP_MEMALLOC);
	if (!can_call_back(reg, want->flags))
		return 0;
	TRACE(mm_vmscan_direct_reclaim_begin, want->nr_pages, want->flags);
	vmstat_add(reg->vmstat, EVENT_DIRECT_RECLAIMS, 1);
	before = pcp_given_pages(reg);
	freed = scan_all_priorities(&scan, would_be_served);
	if (!freed)
		freed = ask_the_busy(&scan, done);
	vmstat_add(reg->vmstat, EVENT_DIRECT_PAGES,
		   (int64_t)(pcp_given_pages(reg) - before));
	TRACE(mm_vmscan_direct_reclaim_end, freed);
	return freed;
}

uint64_t vmscan_clean(struct pcp_registry *reg, const struct vmscan_want *want)
{
	struct scan scan = { .reg = reg, .want = want };
	struct shrink_pass pass = {
		.flags = want->flags,
		.clean_only = true,
		.deadline_ns = want->deadline_ns,
		.for_request = true,
		.enough = would_be_served,
		.arg = &scan,
	};

	if (can_call_back(reg, want->flags))
		shrinker_run_all(reg->shrinkers, &pass);
	vmstat_add(reg->vmstat, EVENT_SCANNED, (int64_t)pass.nr_scanned);
	return pass.nr_freed;
}

bool vmscan_is_reclaimable(struct pcp_registry *reg, unsigned flags)
{
	unsigned nr_busy;

	if (!can_call_back(reg, flags))
		return false;
	return shrinker_count_all(reg->shrinkers, flags, &nr_busy) || nr_busy;
}

/* Because the program asks */

struct counted_scan {
	struct scan	scan;		/* first: see one_pass() */
	uint64_t	before_pages;
};

static bool gave_enough(void *arg)
{
	const struct counted_scan *cs = arg;

	return pcp_given_pages(cs->scan.reg) - cs->before_pages >=
	       cs->scan.want->nr_pages;
}

uint64_t vmscan_pages(struct pcp_registry *reg, const struct vmscan_want *want)
{
	struct counted_scan cs = {
		.scan = {
			.reg = reg,
			.want = want,
			.deadline_ns = want->deadline_ns,
			.flags = want->flags,
		},
		.before_pages = pcp_given_pages(reg),
	};

	if (!can_call_back(reg, want->flags))
		return 0;
	/* Each further round has waited for somebody else, and ends at the
	 * deadline. */
	do {
		scan_all_priorities(&cs.scan, gave_enough);
	} while (cs.scan.nr_busy && !gave_enough(&cs) &&
		 wait_for_others(&cs.scan, done_so_far(&cs.scan)) !=
		 CALLBACK_LATE);
	return pcp_given_pages(reg) - cs.before_pages;
}

/* For a zone */

static bool is_balanced(void *arg)
{
	const struct scan *scan = arg;

	return zone_free_pages(scan->zone) >
	       load_relaxed(&scan->zone->high_pages);
}

/* From priority 12 to 1; the priority stays while a pass gets as far as the
 * zone's high mark is. */
static void balance(struct scan *scan)
{
	uint64_t target = max_u64(load_relaxed(&scan->zone->high_pages),
				  VMSCAN_CLUSTER_PAGES);
	unsigned priority = SHRINKER_MAX_PRIORITY;
	struct shrink_pass pass;
	uint64_t done;

	for (unsigned i = 0; priority && i < MAX_PASSES; i++) {
		done = done_so_far(scan);
		pass = one_pass(scan, priority, is_balanced);
		vmscan_unthrottle(scan->zone);
		if (is_balanced(scan) ||
		    os_now_ns() >= scan->deadline_ns)
			break;
		/* No reason to try harder, or to call it a failure. */
		if (!pass.nr_freed && pass.nr_busy &&
		    wait_for_others(scan, done) < CALLBACK_STUCK)
			continue;
		if (pass.nr_scanned < target || !pass.nr_freed)
			priority--;
	}
}

bool vmscan_balance(struct pcp_registry *reg, struct zone *zone,
		    unsigned flags, uint64_t deadline_ns)
{
	struct scan scan = {
		.reg = reg,
		.zone = zone,
		.deadline_ns = deadline_ns,
		.flags = flags,
	};
	uint64_t before = pcp_given_pages(reg), given;
	uint64_t free_before = zone_free_pages(zone);
	unsigned failures = load_relaxed(&zone->reclaim_failures);

	if (can_call_back(reg, flags) && !is_balanced(&scan))
		balance(&scan);
	given = pcp_given_pages(reg) - before;
	/* What callbacks say that they freed may be nothing of ours. */
	if (!given && zone_free_pages(zone) <= free_before &&
	    !is_balanced(&scan) && !scan.nr_busy)
		store_relaxed(&zone->reclaim_failures,
			      load_relaxed(&reg->shrinkers->nr) ?
			      failures + 1 : ZONE_MAX_FAILURES);
	vmstat_add(reg->vmstat, EVENT_RECLAIMD_PAGES, (int64_t)given);
	return given || zone_free_pages(zone) > free_before;
}

uint64_t vmscan_gently(struct pcp_registry *reg, uint64_t deadline_ns)
{
	struct scan scan = { .reg = reg, .deadline_ns = deadline_ns };

	return one_pass(&scan, GENTLE_PRIORITY, never_enough).nr_freed;
}

/* Throttling */

/* Half of the reserve must be left in a zone that is worked on. */
static bool must_wait(struct zone *zone)
{
	return zone_free_pages(zone) <= load_relaxed(&zone->min_pages) / 2 &&
	       load_relaxed(&zone->min_pages) && !vmscan_is_hopeless(zone) &&
	       load_relaxed(&zone->has_reclaimd);
}

void vmscan_throttle(struct pcp_registry *reg, const struct vmscan_want *want)
{
	struct zone *zone = want->only ? want->only : reg->zones;
	uint64_t now = os_now_ns();
	uint32_t seen;

	if (!must_wait(zone))
		return;
	vmstat_add(reg->vmstat, EVENT_THROTTLED, 1);
	add_relaxed(&zone->nr_throttled, 1);
	for (unsigned i = 0; i < MAX_THROTTLE_STEPS &&
	     now < want->deadline_ns; i++) {
		seen = load_relaxed(&zone->throttle);
		/* reclaimd may be the one that is stuck. */
		if (!must_wait(zone) || callback_is_any_stuck(reg->shrinkers))
			break;
		pcp_note_low(reg, zone);
		waitq_sleep_for(&zone->throttle, seen,
				min_u64(THROTTLE_STEP_NS,
					want->deadline_ns - now));
		now = os_now_ns();
	}
	sub_relaxed(&zone->nr_throttled, 1);
}

/* Who begins to wait just now looks again before long. */
void vmscan_unthrottle(struct zone *zone)
{
	if (!load_relaxed(&zone->nr_throttled) || must_wait(zone))
		return;
	add_relaxed(&zone->throttle, 1);
	waitq_wake_all(&zone->throttle);
}
