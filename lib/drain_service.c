/* SPDX-License-Identifier: MIT */
/* drain_service.c - see drain_service.h. */
#include "drain_service.h"

#include "base/bits.h"
#include "base/waitq.h"
#include "node.h"
#include "os/os.h"
#include "purge.h"
#include "trace.h"

/* reclaimd may be ended, as a pool is, while a request waits for it. */
#define KICK_AGAIN_NS	20000000ull

static bool is_served(struct drain_service *ds, uint32_t ticket)
{
	/* Acquire: pairs with the release in serve(). */
	return (int32_t)(load_acquire(&ds->done) - ticket) >= 0;
}

/* drain_lock held.  The fence pairs with the one in snapshot(). */
static void begin_drain(struct drain_service *ds)
{
	add_relaxed(&ds->sequence, 1);
	fence_release();
}

/* A request that begins now has time for a drain that begins after it. */
static uint64_t rest_ns(struct drain_service *ds, uint64_t took_ns)
{
	uint64_t wait_ns = min_u64(load_relaxed(&ds->reg->oom_timeout_ns),
				   DRAIN_WAIT_NS);

	return max_u64(DRAIN_INTERVAL_NS,
		       min_u64(took_ns * DRAIN_REST_FACTOR,
			       wait_ns / DRAIN_REST_DIVISOR));
}

/* drain_lock held. */
static int serve(struct drain_service *ds, struct pcp *self)
{
	uint32_t upto = load_relaxed(&ds->wanted);
	uint64_t begun = os_now_ns(), ended;
	int err;

	TRACE(drain_begin, upto);
	begin_drain(ds);
	err = pcp_drain_all(ds->reg, self);
	ds->reg->drain_small(ds->reg, NULL);
	add_release(&ds->sequence, 1);
	vmstat_add(ds->reg->vmstat, EVENT_DRAINS, 1);
	ended = os_now_ns();
	store_relaxed(&ds->next_ns, ended + rest_ns(ds, ended - begun));
	TRACE(drain_end, upto, err);
	/* Release: pairs with the acquire in is_served(). */
	store_release(&ds->done, upto);
	waitq_wake_all(&ds->done);
	return err;
}

int drain_now(struct drain_service *ds, struct pcp *self)
{
	int err;

	lock_acquire(&ds->reg->drain_lock);
	err = serve(ds, self);
	lock_release(&ds->reg->drain_lock);
	return err;
}

static uint64_t until(uint64_t then_ns, uint64_t now_ns)
{
	return then_ns > now_ns ? then_ns - now_ns : 0;
}

/* Where nobody else does: drains, unless the next drain has to wait. */
static void serve_self(struct drain_service *ds, uint32_t ticket)
{
	pcp_lock(&ds->reg->drain_lock);
	if (!is_served(ds, ticket) &&
	    os_now_ns() >= load_relaxed(&ds->next_ns))
		serve(ds, NULL);
	pcp_unlock(&ds->reg->drain_lock);
}

/* One step of a request: drains, or sleeps until that may be worth while. */
static void pursue(struct drain_service *ds, uint32_t ticket, uint64_t left_ns)
{
	uint32_t seen = load_relaxed(&ds->done);
	uint64_t wait_ns = left_ns;

	if (is_served(ds, ticket))
		return;
	if (load_relaxed(&ds->has_thread)) {
		pcp_kick_reclaimd(ds->reg);
		wait_ns = min_u64(left_ns, KICK_AGAIN_NS);
	} else {
		serve_self(ds, ticket);
		wait_ns = min_u64(left_ns, until(load_relaxed(&ds->next_ns),
						 os_now_ns()));
	}
	if (!is_served(ds, ticket) && wait_ns)
		waitq_sleep_for(&ds->done, seen, wait_ns);
}

bool drain_ask(struct drain_service *ds, uint64_t wait_ns)
{
	uint64_t deadline = os_now_ns() + min_u64(wait_ns, DRAIN_WAIT_NS), left;
	uint32_t ticket = add_relaxed(&ds->wanted, 1) + 1;

	/* Each round sleeps until a drain ends or may begin. */
	while (!is_served(ds, ticket)) {
		left = until(deadline, os_now_ns());
		if (!left)
			return false;
		pursue(ds, ticket, left);
	}
	return true;
}

uint64_t drain_serve(struct drain_service *ds, uint64_t now_ns)
{
	uint64_t wait_ns;

	if (is_served(ds, load_relaxed(&ds->wanted)))
		return UINT64_MAX;
	wait_ns = until(load_relaxed(&ds->next_ns), now_ns);
	if (!wait_ns)
		drain_now(ds, NULL);
	return wait_ns;
}

static unsigned drain_all_idle(struct pcp_registry *reg)
{
	unsigned nr;

	lock_acquire(&reg->drain_lock);
	begin_drain(reg->drain_service);
	nr = pcp_drain_idle(reg);
	if (!nr)
		reg->drain_small(reg, NULL);
	/* Release: pairs with the acquire in snapshot(). */
	add_release(&reg->drain_service->sequence, 1);
	lock_release(&reg->drain_lock);
	return nr;
}

unsigned drain_idle(struct drain_service *ds, struct pcp *own,
		    uint64_t idle_ns)
{
	struct pcp_registry *reg = ds->reg;
	uint64_t delay_ns = load_relaxed(&reg->purge_delay_ns);
	uint64_t before[NODES_MAX], after;
	unsigned nr;

	for_each_zone(zone, reg->zones)
		before[zone->index] = zone_spare_pages(zone);
	if (own) {
		nr = !pcp_flush_if_idle(own);
		/* Nobody is there whom the depots would serve. */
		if (!nr)
			reg->drain_small(reg, NULL);
	} else {
		nr = drain_all_idle(reg);
	}
	for_each_zone(zone, reg->zones) {
		after = zone_spare_pages(zone);
		if (after > before[zone->index])
			purge_add_idle(zone, after - before[zone->index],
				       idle_ns, delay_ns);
	}
	return nr;
}

void drain_service_forget(struct drain_service *ds)
{
	store_relaxed(&ds->has_thread, false);
	store_relaxed(&ds->done, load_relaxed(&ds->wanted));
	store_relaxed(&ds->next_ns, 0);
}

void drain_service_init(struct drain_service *ds, struct pcp_registry *reg)
{
	ds->reg = reg;
}
