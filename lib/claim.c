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

/*
 * Of @claimant, who may be the caller and may be just beginning or renewing it.
 * First the word, then the pages: whoever writes pages confirms the word after
 * that, in claim_begin(), and takes them back if it is not the claimant any
 * more.  So the last who writes pages without a claimant writes 0.
 */
static void end_of(struct pcp_registry *reg, uint64_t claimant)
{
	/* Acquire: pairs with the releases in is_confirmed(), whose pages come
	 * before these. */
	if (!cas_acquire(&reg->claimant, &claimant, 0))
		return;
	set_claimed(reg, 0);
	memwait_wake_any(&reg->memwait);
}

/* Release: pairs with the acquires in end_of(). */
static bool is_confirmed(struct pcp_registry *reg, uint64_t me)
{
	uint64_t claimant = me;

	return cas_release(&reg->claimant, &claimant, me);
}

bool claim_begin(struct pcp_registry *reg, uint64_t nr_pages)
{
	uint64_t me = thread_identity(), nobody = 0, until;

	if (claim_is_others(reg, &until))
		return false;
	/* Before it is ours, lest it look lapsed; what that adds to a claim of
	 * somebody who was first is little. */
	store_relaxed(&reg->claim_until_ns, os_now_ns() +
		      load_relaxed(&reg->oom_timeout_ns) / LAPSE_DIVISOR);
	/* Relaxed: is_confirmed() and end_of() order what matters. */
	if (!cas_relaxed(&reg->claimant, &nobody, me) && nobody != me)
		return false;
	/* Relaxed: a request that does not see it yet came before. */
	set_claimed(reg, nr_pages);
	if (is_confirmed(reg, me))
		return true;
	/* That may undo the pages of the next claimant, who has them again when
	 * it renews its claim. */
	set_claimed(reg, 0);
	return false;
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
