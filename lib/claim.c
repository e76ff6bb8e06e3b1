/* SPDX-License-Identifier: MIT */
/* claim.c - see claim.h. */
#include "claim.h"

#include "base/bits.h"
#include "base/bug.h"
#include "base/delay.h"
#include "node.h"
#include "os/os.h"

/* Of min, where the setting oom_reserve does not say how much. */
#define RESERVE_DIVISOR		8
/* Of a zone, at the most. */
#define CLAIM_MAX_SHARE		8
/* Of oom_timeout: what is stuck for so long holds nobody. */
#define LAPSE_DIVISOR		2

static uint64_t claim_pages(struct pcp_registry *reg, struct zone *zone,
			    uint64_t nr_pages)
{
	uint64_t bytes = load_relaxed(&reg->oom_reserve_bytes);
	uint64_t pages = bytes ? bytes_to_pages_up(bytes) :
			 load_relaxed(&zone->min_pages) / RESERVE_DIVISOR;

	return min_u64(max_u64(pages, nr_pages),
		       load_relaxed(&zone->managed_pages) / CLAIM_MAX_SHARE);
}

static void set_claimed(struct pcp_registry *reg, uint64_t nr_pages)
{
	for_each_zone(zone, reg->zones)
		store_relaxed(&zone->claimed_pages, nr_pages ?
			      claim_pages(reg, zone, nr_pages) : 0);
}

static void hold(struct pcp_registry *reg)
{
	pcp_lock(&reg->claim_lock);
}

static void let_go(struct pcp_registry *reg)
{
	if (PP_DEBUG > 0)
		claim_verify(reg);
	pcp_unlock(&reg->claim_lock);
}

/* Lock held. */
static void set(struct pcp_registry *reg, uint64_t claimant, uint64_t nr_pages)
{
	lock_assert_held(&reg->claim_lock);
	store_relaxed(&reg->claimant, claimant);
	delay_at(DELAY_CLAIM);
	/* Relaxed: a request that does not see it yet came before. */
	set_claimed(reg, nr_pages);
}

static bool is_others(struct pcp_registry *reg)
{
	uint64_t claimant = load_relaxed(&reg->claimant);

	return claimant && claimant != thread_identity();
}

static bool has_lapsed(struct pcp_registry *reg)
{
	return os_now_ns() >= load_relaxed(&reg->claim_until_ns);
}

bool claim_begin(struct pcp_registry *reg, uint64_t nr_pages)
{
	bool ok;

	hold(reg);
	ok = !is_others(reg) || has_lapsed(reg);
	if (ok) {
		store_relaxed(&reg->claim_until_ns, os_now_ns() +
			      load_relaxed(&reg->oom_timeout_ns) /
			      LAPSE_DIVISOR);
		set(reg, thread_identity(), nr_pages);
	}
	let_go(reg);
	return ok;
}

void claim_end(struct pcp_registry *reg)
{
	bool ended;

	hold(reg);
	ended = load_relaxed(&reg->claimant) == thread_identity();
	if (ended)
		set(reg, 0, 0);
	let_go(reg);
	if (ended)
		memwait_wake_any(&reg->memwait);
}

bool claim_is_others(struct pcp_registry *reg, uint64_t *until_ns)
{
	bool is, lapsed;

	/* Whoever waits has been counted, and is woken by the end. */
	if (!is_others(reg))
		return false;
	hold(reg);
	is = is_others(reg);
	lapsed = is && has_lapsed(reg);
	*until_ns = load_relaxed(&reg->claim_until_ns);
	if (lapsed)
		set(reg, 0, 0);
	let_go(reg);
	if (lapsed)
		memwait_wake_any(&reg->memwait);
	return is && !lapsed;
}

void claim_forget(struct pcp_registry *reg)
{
	if (is_others(reg))
		set(reg, 0, 0);
}

void claim_verify(struct pcp_registry *reg)
{
	lock_assert_held(&reg->claim_lock);
	if (load_relaxed(&reg->claimant))
		return;
	for_each_zone(zone, reg->zones)
		BUG_ON(load_relaxed(&zone->claimed_pages));	/* C1 */
}
