/* SPDX-License-Identifier: MIT */
/* inline_reclaim.c - see inline_reclaim.h. */
#include "inline_reclaim.h"

#include "call_service.h"
#include "drain_service.h"
#include "node.h"
#include "os/os.h"
#include "pressure.h"
#include "purge.h"
#include "vmscan.h"

/* What one request does of reclaimd's work where there is no reclaimd. */
#define INLINE_RECLAIM_NS	1000000ull
#define INLINE_PURGE_PAGES	512u

/* The next claim at low asks again, unless there is no hope. */
static void reclaim_inline(struct pcp_registry *reg, struct zone *zone,
			   unsigned flags, uint64_t now)
{
	if (!load_relaxed(&zone->reclaim_wanted) || vmscan_is_hopeless(zone) ||
	    call_service_has_threads(reg->calls))
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

bool inline_reclaim_has_idle_work(struct pcp_registry *reg)
{
	struct drain_service *ds = reg->drain_service;

	return !load_relaxed(&ds->has_nothing) ||
	       load_relaxed(&reg->work_due) ||
	       os_now_ns() >= load_relaxed(&ds->next_look_ns);
}

/* Programs that wait often look once a slot, or once a second where there was
 * nothing to do; a release that makes memory excessive says so. */
uint64_t inline_reclaim_idle(struct pcp_registry *reg)
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

PP_COLD void inline_reclaim_end_slow(struct pcp_registry *reg, unsigned flags)
{
	bool may_reclaim = !(flags & (PP_NOWAIT | PP_NORETRY | PP_NOFS |
				      PP_MEMALLOC));
	uint64_t now = os_now_ns();
	bool more = false;

	store_relaxed(&reg->work_due, false);
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
