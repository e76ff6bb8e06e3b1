/* SPDX-License-Identifier: MIT */
/* claim.c - see claim.h. */
#include "claim.h"

#include "base/bits.h"
#include "node.h"

/* Of min, where the setting oom_reserve does not say how much. */
#define RESERVE_DIVISOR		8
/* Of a zone, at the most. */
#define CLAIM_MAX_SHARE		8

static uint64_t claim_pages(struct pcp_registry *reg, struct zone *zone,
			    uint64_t nr_pages)
{
	uint64_t bytes = load_relaxed(&reg->oom_reserve_bytes);
	uint64_t pages = bytes ? bytes_to_pages_up(bytes) :
			 load_relaxed(&zone->min_pages) / RESERVE_DIVISOR;

	return min_u64(max_u64(pages, nr_pages),
		       load_relaxed(&zone->managed_pages) / CLAIM_MAX_SHARE);
}

bool claim_begin(struct pcp_registry *reg, uint64_t nr_pages)
{
	uint64_t nobody = 0;

	/* Acquire: pairs with the release in claim_end(). */
	if (!cas_acquire(&reg->claimant, &nobody, thread_identity()))
		return false;
	/* Relaxed: a request that does not see it yet came before. */
	for_each_zone(zone, reg->zones)
		store_relaxed(&zone->claimed_pages,
			      claim_pages(reg, zone, nr_pages));
	return true;
}

void claim_end(struct pcp_registry *reg)
{
	VM_BUG_ON(load_relaxed(&reg->claimant) != thread_identity());
	for_each_zone(zone, reg->zones)
		store_relaxed(&zone->claimed_pages, 0);
	/* Release: pairs with the acquire in claim_begin(), whose stores come
	 * after these. */
	store_release(&reg->claimant, 0);
	memwait_wake_any(&reg->memwait);
}

bool claim_is_others(struct pcp_registry *reg)
{
	uint64_t claimant = load_relaxed(&reg->claimant);

	return claimant && claimant != thread_identity();
}

void claim_forget(struct pcp_registry *reg)
{
	if (!claim_is_others(reg))
		return;
	for_each_zone(zone, reg->zones)
		store_relaxed(&zone->claimed_pages, 0);
	store_relaxed(&reg->claimant, 0);
}
