/* SPDX-License-Identifier: MIT */
/* claim.c - see claim.h. */
#include "claim.h"

#include "base/bits.h"
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

/* Of @claimant, who may be the caller. */
static void end_of(struct pcp_registry *reg, uint64_t claimant)
{
	if (load_relaxed(&reg->claimant) != claimant)
		return;
	set_claimed(reg, 0);
	/* Release: pairs with the acquire in claim_begin(), whose stores come
	 * after these. */
	cas_release(&reg->claimant, &claimant, 0);
	memwait_wake_any(&reg->memwait);
}

bool claim_begin(struct pcp_registry *reg, uint64_t nr_pages)
{
	uint64_t me = thread_identity(), nobody = 0, until;

	if (claim_is_others(reg, &until))
		return false;
	/* Acquire: pairs with the release in end_of(). */
	if (!cas_acquire(&reg->claimant, &nobody, me) && nobody != me)
		return false;
	store_relaxed(&reg->claim_until_ns, os_now_ns() +
		      load_relaxed(&reg->oom_timeout_ns) / LAPSE_DIVISOR);
	/* Relaxed: a request that does not see it yet came before. */
	set_claimed(reg, nr_pages);
	return true;
}

void claim_end(struct pcp_registry *reg)
{
	end_of(reg, thread_identity());
}

bool claim_is_others(struct pcp_registry *reg, uint64_t *until_ns)
{
	uint64_t claimant = load_relaxed(&reg->claimant);

	if (!claimant || claimant == thread_identity())
		return false;
	*until_ns = load_relaxed(&reg->claim_until_ns);
	if (os_now_ns() < *until_ns)
		return true;
	end_of(reg, claimant);
	return false;
}

void claim_forget(struct pcp_registry *reg)
{
	if (load_relaxed(&reg->claimant) == thread_identity())
		return;
	set_claimed(reg, 0);
	store_relaxed(&reg->claimant, 0);
}
