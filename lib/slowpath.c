/* SPDX-License-Identifier: MIT */
/* slowpath.c - see slowpath.h. */
#include "slowpath.h"

#include "mempolicy.h"
#include "node.h"
#include "oom.h"
#include "os/os.h"
#include "pressure.h"
#include "purge.h"
#include "trace.h"
#include "vmscan.h"

/* What one request does of reclaimd's work where there is no reclaimd. */
#define INLINE_RECLAIM_NS	1000000ull
#define INLINE_PURGE_PAGES	512u

static void note_time(struct pcp_registry *reg, struct pcp *pcp,
		      uint64_t start_ns)
{
	int64_t took_ns = (int64_t)(os_now_ns() - start_ns);

	pcp_count_in(reg, pcp, EVENT_SLOWPATH, 1);
	pcp_count_in(reg, pcp, EVENT_SLOWPATH_NS, took_ns);
	/* These counts are to be folded within a second. */
	if (unlikely(load_relaxed(&reg->zones->resting)))
		pcp_kick_reclaimd(reg);
}

/* What this thread can do by itself. */
static void give_back_own(struct pcp_registry *reg, struct pcp *pcp)
{
	if (load_relaxed(&reg->has_orphans))
		pcp_adopt_orphans(reg);
	if (pcp)
		pcp_flush(pcp);
	reg->drain_small(reg, NULL);
}

static PP_COLD void *alloc_pages_slow(struct pcp_registry *reg,
				      struct pcp *pcp,
				      const struct page_request *req,
				      struct page_result *result)
{
	uint64_t start_ns = os_now_ns();
	void *run = NULL;

	if (result->why != FAILURE_TOO_BIG && !(req->flags & PP_NORETRY)) {
		give_back_own(reg, pcp);
		run = page_alloc_once(reg, NULL, req, result);
	}
	note_time(reg, pcp, start_ns);
	return run;
}

void *alloc_pages(struct pcp_registry *reg, struct pcp *pcp,
		  const struct page_request *req, struct page_result *result)
{
	void *run = page_alloc_once(reg, pcp, req, result);

	if (unlikely(!run))
		run = alloc_pages_slow(reg, pcp, req, result);
	TRACE(mm_page_alloc, run, req->nr_pages, req->flags);
	return run;
}

/* Between attempts */

static bool may_serve(const struct vmscan_want *want, struct zone *zone,
		      uint64_t more_pages)
{
	return (!want->only || want->only == zone) &&
	       zone_free_pages(zone) + more_pages >=
	       want->nr_pages + page_floor_pages(zone, want->flags);
}

/*
 * Would all that others hide be enough?  From above: what caches hold, what
 * they may hold in small objects, and what is free in slabs, which a few
 * cached objects may keep from being whole.
 */
static uint64_t hidden_pages(struct pcp_registry *reg)
{
	uint64_t granted, pages = 0;

	/* A handler on top of us keeps off the locks taken here. */
	pcp_enter_without();
	granted = pcp_sum_granted_bytes(reg, NULL);
	if (granted)
		pages = (uint64_t)pcp_sum_cached_pages(reg) +
			bytes_to_pages_up(granted + reg->small_free_bytes(reg));
	pcp_leave_without();
	return pages;
}

static bool is_worth_a_drain(struct pcp_registry *reg,
			     const struct vmscan_want *want)
{
	uint64_t hidden = hidden_pages(reg);

	if (!hidden)
		return false;
	for_each_zone(zone, reg->zones)
		if (may_serve(want, zone, hidden))
			return true;
	return false;
}

static void wake_reclaimd(struct pcp_registry *reg)
{
	for_each_zone(zone, reg->zones)
		pcp_note_claim(reg, zone);
}

/* reclaimd may be in a shrinker that waits for a lock of the caller's. */
static bool may_wait_for_reclaimd(const struct slowpath *sp)
{
	return !(sp->flags & PP_NOFS);
}

/* RECLAIM and DRAIN.  Has anything changed? */
static bool reclaim_or_drain(struct slowpath *sp, struct pcp_registry *reg,
			     const struct vmscan_want *want)
{
	uint64_t freed = 0, now;

	/* Progress that did not help: what was freed is in others' caches. */
	if (!sp->made_progress || sp->drained)
		freed = vmscan_direct(reg, want);
	sp->made_progress = freed != 0;
	if (freed) {
		sp->nr_no_progress = 0;
		return true;
	}
	if (sp->drained || !is_worth_a_drain(reg, want))
		return false;
	sp->drained = true;
	vmstat_add(reg->vmstat, EVENT_DRAIN_WAITS, 1);
	now = os_now_ns();
	drain_ask(reg->drain_service, want->deadline_ns > now ?
		  want->deadline_ns - now : 0, may_wait_for_reclaimd(sp));
	return true;
}

/* AGAIN: others may have freed something, or a shrinker could not work. */
static bool should_retry(struct slowpath *sp, struct pcp_registry *reg)
{
	if (sp->nr_no_progress++ >= SLOWPATH_MAX_RETRIES ||
	    !vmscan_is_reclaimable(reg, sp->flags))
		return false;
	os_yield();
	return true;
}

struct release {
	struct pcp_registry	*reg;
	const struct vmscan_want *want;
};

static bool is_enough(void *arg)
{
	const struct release *r = arg;

	for_each_zone(zone, r->reg->zones)
		if (may_serve(r->want, zone, 0))
			return true;
	return false;
}

/* RELEASE */
static bool release(struct slowpath *sp, struct pcp_registry *reg,
		    const struct vmscan_want *want)
{
	struct release r = { reg, want };
	const struct oom_want oom_want = {
		.nr_pages = want->nr_pages,
		.flags = sp->flags,
		.deadline_ns = sp->deadline_ns,
		.grace_ns = SLOWPATH_GRACE_NS,
		.enough = is_enough,
		.arg = &r,
	};

	if (sp->flags & (PP_NOFS | PP_RETRY_MAYFAIL | PP_THISNODE) ||
	    !oom_is_possible(reg))
		return false;
	/* Nobody ends if it was just too early to give up. */
	sp->had_last_try = !sp->had_last_try && is_enough(&r);
	return sp->had_last_try || oom_release(reg, &oom_want) == OOM_PROGRESS;
}

/* Who works for a victim that is to end. */
static bool retry_as_victim(struct slowpath *sp)
{
	if (sp->flags & PAGE_OF_VICTIM)
		return false;
	sp->flags |= PAGE_OF_VICTIM;
	return true;
}

static bool step(struct slowpath *sp, struct pcp_registry *reg,
		 const struct vmscan_want *want)
{
	pressure_raise(reg, PP_PRESSURE_MIN);
	wake_reclaimd(reg);
	if (sp->flags & (PP_NORETRY | PP_NOWAIT) ||
	    os_now_ns() >= sp->deadline_ns)
		return false;
	if (sp->flags & PP_MEMALLOC) {
		if (sp->cleaned)
			return false;
		sp->cleaned = true;
		return vmscan_clean(reg, want) != 0;
	}
	if (may_wait_for_reclaimd(sp))
		vmscan_throttle(reg, want);
	return reclaim_or_drain(sp, reg, want) || should_retry(sp, reg) ||
	       release(sp, reg, want);
}

static struct zone *only_zone(struct pcp_registry *reg, unsigned flags,
			      unsigned node)
{
	if (!reg->nodes || !(flags & PP_THISNODE))
		return NULL;
	return &reg->zones[node ? node - 1 : mempolicy_here(reg->nodes)];
}

PP_COLD bool slowpath_again(struct slowpath *sp, struct pcp_registry *reg,
			    uint64_t nr_pages, unsigned node,
			    enum failure why)
{
	uint64_t start_ns = os_now_ns();
	struct vmscan_want want = {
		.nr_pages = nr_pages,
		.flags = sp->flags,
		.only = only_zone(reg, sp->flags, node),
	};
	bool again = false;

	if (!sp->deadline_ns)
		sp->deadline_ns = start_ns + SLOWPATH_DEADLINE_NS;
	want.deadline_ns = sp->deadline_ns;
	if (why == FAILURE_LIMIT) {
		again = oom_is_own(reg) ? retry_as_victim(sp) :
					  step(sp, reg, &want);
		vmstat_add(reg->vmstat, EVENT_SLOWPATH_NS,
			   (int64_t)(os_now_ns() - start_ns));
		if (!again)
			pressure_raise(reg, PP_PRESSURE_OOM);
	}
	if (!again)
		TRACE(alloc_fail, (int)why, nr_pages, sp->flags);
	return again;
}

/* The next claim at low asks again, unless there is no hope. */
static void reclaim_inline(struct pcp_registry *reg, struct zone *zone,
			   unsigned flags, uint64_t now)
{
	if (!load_relaxed(&zone->reclaim_wanted) || vmscan_is_hopeless(zone))
		return;
	vmscan_balance(reg, zone, flags, now + INLINE_RECLAIM_NS);
	if (!vmscan_is_hopeless(zone))
		store_relaxed(&zone->reclaim_wanted, false);
}

/* Is there more to be done later? */
static bool purge_inline(struct pcp_registry *reg, struct zone *zone,
			 uint64_t now)
{
	uint64_t next = load_relaxed(&zone->next_look_ns), wait_ns;

	if (now < next)
		return true;
	/* Inside: a fork by a handler on top of us leaves alone what is being
	 * purged. */
	pcp_enter_without();
	wait_ns = purge_look(zone, now, load_relaxed(&reg->purge_delay_ns),
			     INLINE_PURGE_PAGES);
	pcp_leave_without();
	store_relaxed(&zone->next_look_ns, wait_ns == PURGE_NEVER_NS ? 0 :
					   now + wait_ns);
	return wait_ns != PURGE_NEVER_NS;
}

/* Looks at the thread's own cache when it is time.  When it is the next
 * time. */
static uint64_t drain_inline(struct pcp_registry *reg, uint64_t now)
{
	struct drain_service *ds = reg->drain_service;
	struct pcp *pcp = pcp_find(reg);

	if (!pcp || !load_relaxed(&pcp->granted_bytes))
		return PURGE_NEVER_NS;
	if (now >= load_relaxed(&ds->next_idle_ns)) {
		store_relaxed(&ds->next_idle_ns, now + DRAIN_IDLE_NS);
		if (!drain_idle(ds, pcp, DRAIN_IDLE_NS))
			return PURGE_NEVER_NS;
	}
	return load_relaxed(&ds->next_idle_ns) - now;
}

static uint64_t look_idle(struct pcp_registry *reg, uint64_t now)
{
	uint64_t delay_ns = load_relaxed(&reg->purge_delay_ns);
	uint64_t wait_ns = drain_inline(reg, now);

	for_each_zone(zone, reg->zones) {
		wait_ns = min_u64(wait_ns, purge_look(zone, now, delay_ns,
						      UINT64_MAX));
		/* Whoever comes next begins anew. */
		store_relaxed(&zone->next_look_ns, 0);
	}
	return wait_ns ? wait_ns : spare_window_slot_ns(delay_ns);
}

bool slowpath_has_idle_work(struct pcp_registry *reg)
{
	struct drain_service *ds = reg->drain_service;

	return !load_relaxed(&ds->has_nothing) ||
	       load_relaxed(&reg->work_due) ||
	       os_now_ns() >= load_relaxed(&ds->next_look_ns);
}

/* Programs that wait often look once a slot, or once a second where there was
 * nothing to do; a release that makes memory excessive says so. */
uint64_t slowpath_idle(struct pcp_registry *reg)
{
	struct drain_service *ds = reg->drain_service;
	uint64_t now = os_now_ns(), next = load_relaxed(&ds->next_look_ns);
	uint64_t wait_ns;

	if (now >= next || load_relaxed(&reg->work_due)) {
		store_relaxed(&reg->work_due, false);
		wait_ns = look_idle(reg, now);
		next = now + min_u64(wait_ns, DRAIN_IDLE_NS);
		store_relaxed(&ds->has_nothing, wait_ns == PURGE_NEVER_NS);
		store_relaxed(&ds->next_look_ns, next);
	}
	return load_relaxed(&ds->has_nothing) ? PURGE_NEVER_NS : next - now;
}

PP_COLD void slowpath_end_slow(struct pcp_registry *reg, unsigned flags)
{
	bool may_reclaim = !(flags & (PP_NOWAIT | PP_NORETRY | PP_NOFS |
				      PP_MEMALLOC));
	uint64_t now = os_now_ns();
	bool more = false;

	store_relaxed(&reg->work_due, false);
	oom_kick(reg);
	pressure_look(reg);
	for_each_zone(zone, reg->zones) {
		if (load_relaxed(&zone->has_reclaimd))
			continue;
		if (may_reclaim)
			reclaim_inline(reg, zone, flags, now);
		more = purge_inline(reg, zone, now) || more;
	}
	if (more)
		store_relaxed(&reg->work_due, true);
}
