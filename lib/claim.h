/* SPDX-License-Identifier: MIT */
/*
 * claim.h - the private reserve of the thread that has memory freed (layer 8).
 *
 * A thread that reclaims, or has a victim cancelled, is not to work for
 * strangers who take what comes free before it can.  It makes a claim: until
 * that ends, ordinary requests of all others leave so many pages more than min
 * free in every zone, and its own do not.  One thread has it at a time; those
 * that would be served but for the claim wait for its end.
 *
 * A claimant may wait for a callback that is stuck.  So a claim lapses after
 * half of oom_timeout, unless it is renewed: whoever is held off then ends it,
 * or takes it over.
 *
 * Source: J. Weiner's WMARK_OOM (linux-mm, 2015), min/8 for whoever triggered a
 * kill; there a fixed part of every min, here only while there is a claim.
 *
 * All of that changes under a lock of its own, so that what a new claim keeps
 * is never undone, or left behind, by the end of one that lapsed.
 *
 * C1: zone->claimed_pages is 0 in all zones while reg->claimant is 0
 * It holds when the lock is not held.
 */
#ifndef PP_CLAIM_H
#define PP_CLAIM_H

#include "page_alloc.h"

/**
 * claim_begin() - keep memory for the calling thread, or renew that.
 * @nr_pages: what it needs; at least oom_reserve is kept, and at most an eighth
 *	      of a zone.
 * Return: false if another thread has a claim.
 */
bool claim_begin(struct pcp_registry *reg, uint64_t nr_pages);

/* The thread that made it, if it has not lapsed.  Wakes those that wait for
 * memory. */
void claim_end(struct pcp_registry *reg);

/* Is there one of another thread?  Ends one that has lapsed.  @until_ns: when
 * it would. */
bool claim_is_others(struct pcp_registry *reg, uint64_t *until_ns);

/* In the child of a fork, while it is alone, with the lock held. */
void claim_forget(struct pcp_registry *reg);

/* C1, with the lock held; stops the program. */
void claim_verify(struct pcp_registry *reg);

#endif
