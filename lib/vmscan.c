/* SPDX-License-Identifier: MIT */
/* vmscan.c - see vmscan.h. */
#include "vmscan.h"

#include <string.h>

#include "base/bits.h"
#include "base/waitq.h"
#include "call_service.h"
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
/* Of a zone: what a pass may free for others who wait for it, too. */
#define SHARE_FOR_OTHERS	8u

struct scan {
	struct pcp_registry	*reg;
	struct zone		*zone;		/* to be balanced */
	const struct vmscan_want *want;		/* or what to serve */
	uint64_t		deadline_ns;
	uint64_t		given_before;	/* pages, by this thread */
	unsigned		flags;
	bool			clean_only;
	/* results: of the last pass */
	unsigned		nr_busy;
	bool			has_freeable;
	bool			gave_way;	/* to a request */
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

static bool is_there_hope(struct pcp_registry *reg)
{
	return load_full(&reg->shrinkers->nr) &&
	       call_service_has_threads(reg->calls);
}

void vmscan_give_up(struct pcp_registry *reg, struct zone *zone)
{
	xchg_full(&zone->reclaim_failures, ZONE_MAX_FAILURES);
	/* One may have been registered just now, and revived before us. */
	if (is_there_hope(reg))
		note_progress(reg);
}

static struct shrink_pass one_pass(struct scan *scan, unsigned priority,
				   bool (*enough)(void *))
{
	struct shrink_pass pass = {
		.flags = scan->flags,
		.clean_only = scan->clean_only,
		.priority = priority,
		.deadline_ns = scan->deadline_ns,
		.for_request = scan->want != NULL,
		.enough = enough,
		.arg = scan,
	};

	shrinker_run_all(scan->reg->shrinkers, &pass);
	scan->nr_busy = pass.nr_busy;
	scan->has_freeable = pass.has_freeable;
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

/* What callbacks say that they freed may be nothing of ours. */
static bool gave_enough(void *arg)
{
	const struct scan *scan = arg;

	return pcp_given_pages(scan->reg) - scan->given_before >=
	       scan->want->nr_pages;
}

/* A call of the service: all shrinkers, harder and harder. */
struct scan_call {
	struct call		call;		/* first, and then: */
	struct {
		uint64_t	freed;		/* objects */
		uint64_t	given_pages;	/* that came back for it */
		unsigned	nr_busy;	/* these as in struct scan */
		bool		has_freeable;
	} result;
	struct pcp_registry	*reg;
	struct vmscan_want	want;
	bool			(*enough)(void *arg);
	unsigned		priority;	/* of the first pass */
	bool			is_direct;
};

CALL_ASSERT(struct scan_call);

/* The request's pages, and those of the others that wait for the same call, as
 * far as that is no reason to empty everything. */
static uint64_t pages_wanted(const struct scan_call *c)
{
	uint64_t managed_pages = load_relaxed(&c->reg->zones->managed_pages);

	return c->want.nr_pages +
	       min_u64(c->call.amount - c->want.nr_pages,
		       managed_pages / SHARE_FOR_OTHERS);
}

static void run_scan(struct call *call)
{
	struct scan_call *c = container_of(call, struct scan_call, call);
	struct scan scan = {
		.reg = c->reg,
		.want = &c->want,
		.deadline_ns = c->call.deadline_ns,
		.given_before = pcp_given_pages(c->reg),
		.flags = c->want.flags,
	};
	uint64_t freed = 0;

	c->want.nr_pages = pages_wanted(c);
	for (unsigned p = c->priority + 1; p-- > 0; ) {
		freed += one_pass(&scan, p, c->enough).nr_freed;
		/* Where there is nothing, asking harder brings nothing. */
		if (!scan.has_freeable || c->enough(&scan) ||
		    os_now_ns() >= scan.deadline_ns)
			break;
	}
	c->result.freed = freed;
	c->result.given_pages = pcp_given_pages(c->reg) - scan.given_before;
	c->result.nr_busy = scan.nr_busy;
	c->result.has_freeable = scan.has_freeable;
	if (c->is_direct)
		vmstat_add(c->reg->vmstat, EVENT_DIRECT_PAGES,
			   (int64_t)c->result.given_pages);
}

static struct scan_call scan_call(struct pcp_registry *reg,
				  const struct vmscan_want *want)
{
	return (struct scan_call){
		.call = {
			.run = run_scan,
			.bytes = sizeof(struct scan_call),
			.result_bytes = sizeof(((struct scan_call *)0)->result),
			.amount = want->nr_pages,
		},
		.reg = reg,
		.want = *want,
		.enough = would_be_served,
		.priority = SHRINKER_MAX_PRIORITY,
	};
}

/* Which calls are equal.  Who wants little is not to wait until there is enough
 * for who wants much. */
static uint32_t key_of(const struct scan_call *c)
{
	uint32_t node = c->want.only ? 1 + c->want.only->index : 0;

	return 1u | (c->want.flags & PP_NOIO ? 2u : 0) |
	       (c->priority ? 4u : 0) |
	       (c->want.nr_pages > VMSCAN_CLUSTER_PAGES ? 8u : 0) | node << 4;
}

/* False: the deadline passed. */
static bool make_scan(struct scan_call *c)
{
	/* Each further round passes over one more that is stuck. */
	while (!call_make(c->reg->calls, &c->call, c->want.deadline_ns)) {
		memset(&c->result, 0, sizeof(c->result));
		/* Others may have freed something meanwhile. */
		if (c->is_direct && vmscan_would_serve(c->reg, &c->want, 0)) {
			c->result.freed = 1;
			return true;
		}
		if (os_now_ns() >= c->want.deadline_ns) {
			c->result.has_freeable = true;	/* for all we know */
			return false;
		}
	}
	return true;
}

/* What others free who are inside the shrinkers is as good.  Have they, since
 * @done, or is one left that was passed over? */
static enum callback_wait wait_for_others(struct pcp_registry *reg,
					  uint64_t done, uint64_t deadline_ns)
{
	return callback_list_wait(reg->shrinkers, done, deadline_ns);
}

static uint64_t done_so_far(struct pcp_registry *reg)
{
	return load_relaxed(&reg->shrinkers->nr_done);
}

/* All have been asked in vain that were free, and nothing was done by others
 * since @done: waits for its turn.  Objects freed; those of others are one. */
static uint64_t ask_the_busy(struct scan_call *c, uint64_t done)
{
	enum callback_wait result;

	c->priority = 0;
	c->call.key = key_of(c);
	/* Each round has waited for one that was busy to be left. */
	while (!c->result.freed && c->result.nr_busy) {
		/* The pass has ended because others had freed enough. */
		if (vmscan_would_serve(c->reg, &c->want, 0))
			return 1;
		result = wait_for_others(c->reg, done, c->want.deadline_ns);
		if (result == CALLBACK_PROGRESS)
			return 1;
		if (result == CALLBACK_LATE || !make_scan(c))
			break;
	}
	return c->result.freed;
}

uint64_t vmscan_direct(struct pcp_registry *reg, const struct vmscan_want *want,
		       bool *has_more)
{
	struct scan_call c = scan_call(reg, want);
	uint64_t freed, done = done_so_far(reg);

	VM_BUG_ON(want->flags & PP_MEMALLOC);
	*has_more = false;
	if (!can_call_back(reg, want->flags))
		return 0;
	TRACE(mm_vmscan_direct_reclaim_begin, want->nr_pages, want->flags);
	vmstat_add(reg->vmstat, EVENT_DIRECT_RECLAIMS, 1);
	c.is_direct = true;
	c.call.key = key_of(&c);
	make_scan(&c);
	freed = c.result.freed ? c.result.freed : ask_the_busy(&c, done);
	*has_more = c.result.has_freeable || c.result.nr_busy;
	TRACE(mm_vmscan_direct_reclaim_end, freed);
	return freed;
}

uint64_t vmscan_clean(struct pcp_registry *reg, const struct vmscan_want *want)
{
	struct scan scan = {
		.reg = reg,
		.want = want,
		.deadline_ns = want->deadline_ns,
		.flags = want->flags,
		.clean_only = true,
	};

	return can_call_back(reg, want->flags) ?
	       one_pass(&scan, 0, would_be_served).nr_freed : 0;
}

/* Because the program asks */

uint64_t vmscan_pages(struct pcp_registry *reg, const struct vmscan_want *want)
{
	struct scan_call c = scan_call(reg, want);
	uint64_t given = 0, done;

	if (!can_call_back(reg, want->flags))
		return 0;
	c.enough = gave_enough;
	/* Each further round has waited for somebody else, and ends at the
	 * deadline. */
	do {
		c.want.nr_pages = c.call.amount = want->nr_pages - given;
		make_scan(&c);
		done = done_so_far(reg);
		given += c.result.given_pages;
	} while (c.result.nr_busy && given < want->nr_pages &&
		 wait_for_others(reg, done, want->deadline_ns) !=
		 CALLBACK_LATE);
	return given;
}

/* For a zone */

static bool is_balanced(void *arg)
{
	const struct scan *scan = arg;

	return zone_free_pages(scan->zone) >
	       load_relaxed(&scan->zone->high_pages);
}

/* A request waits for shrinkers to be left, and the run has brought no page
 * yet: else the next pass would be inside again before it. */
static bool has_to_give_way(const struct scan *scan)
{
	return load_relaxed(&scan->reg->shrinkers->nr_waiters) &&
	       pcp_given_pages(scan->reg) == scan->given_before;
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
		done = done_so_far(scan->reg);
		pass = one_pass(scan, priority, is_balanced);
		vmscan_unthrottle(scan->zone);
		scan->gave_way = has_to_give_way(scan);
		if (scan->gave_way || is_balanced(scan) ||
		    os_now_ns() >= scan->deadline_ns)
			break;
		/* No reason to try harder, or to call it a failure. */
		if (!pass.nr_freed && pass.nr_busy &&
		    wait_for_others(scan->reg, done, scan->deadline_ns) <
		    CALLBACK_STUCK)
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
		.given_before = pcp_given_pages(reg),
		.flags = flags,
	};
	uint64_t given;
	uint64_t free_before = zone_free_pages(zone);
	unsigned failures = load_relaxed(&zone->reclaim_failures);

	if (can_call_back(reg, flags) && !is_balanced(&scan))
		balance(&scan);
	given = pcp_given_pages(reg) - scan.given_before;
	/* What callbacks say that they freed may be nothing of ours. */
	if (!given && zone_free_pages(zone) <= free_before &&
	    !is_balanced(&scan) && !scan.nr_busy && !scan.gave_way)
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
		/* It may be what its run is stuck in. */
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
