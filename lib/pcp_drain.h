/* SPDX-License-Identifier: MIT */
/*
 * pcp_drain.h - emptying the caches of threads from outside (layer 6).
 *
 * What a thread caches is used for its zone and of no use to anybody else, and
 * a thread that sleeps cannot be asked for it.  So a drainer takes it, while
 * the owner's fast path knows nothing of that but one load.
 *
 *	struct pcp.drain	who may set it		the contents are
 *	NONE			drainer, owner		the owner's, while busy
 *	WANTED	NONE ->		drainer			the owner's, while busy
 *	LIFE	NONE ->		drainer			the owner's, while busy
 *	TAKEN	WANTED, LIFE ->	drainer, not busy	the drainer's
 *	MINE	WANTED ->	owner, busy		the owner's
 *	LOCKED	for ever	nobody			whose busy is
 *
 * The owner raises busy and then looks at drain; the drainer sets WANTED and
 * then looks at busy.  One of the two sees the other, if a full barrier stands
 * between the store and the load on both sides.  The drainer's membarrier(2) is
 * that barrier for all threads at once, so that the owner needs none.  A busy
 * owner who finds WANTED, now or when it next enters, empties its cache itself
 * (MINE), and the drainer waits for that.  Each change from WANTED or LIFE is a
 * compare-and-swap, so that one of the two wins; TAKEN and MINE end as NONE.
 *
 * LIFE asks whether the thread is alive: an owner who finds it puts NONE back
 * and goes on.  Where it still stands a second later, nobody was there.
 *
 * Where membarrier is refused, drain is LOCKED in all caches for ever, and busy
 * is a lock that owner and drainer take by compare-and-swap.  When nobody has
 * it, it is UNLOCKED and not FREE, so that the fast path always fails, and
 * before it has written anything.  What is wanted is in a word of its own then,
 * `give_up`, which whoever gets the lock next obeys.
 *
 * D1: only the holder of drain_lock sets WANTED or TAKEN, and it or the owner
 *     LIFE, and no TAKEN is left when it lets go; fork takes the lock, so a
 *     child finds none
 * D2: a cache that is TAKEN stays in the registry: its owner waits to exit
 * D3: an owner who has entered finds no TAKEN until it leaves
 * D4: whoever empties a cache leaves it with nothing granted (I4)
 * D5: where drain is LOCKED, busy is never FREE, and once the cache is in the
 *     registry only who took it by a compare-and-swap writes it
 */
#ifndef PP_PCP_DRAIN_H
#define PP_PCP_DRAIN_H

#include "pcp.h"

/* Once, before the first pool: finds out whether there is a membarrier. */
void pcp_drain_init(void);

/* Before that: as if there were none, so that no request of malloc's gets past
 * its slow path. */
void pcp_drain_without_membarrier(void);

/* What a new cache's drain is. */
uint32_t pcp_drain_initial(void);

/**
 * pcp_enter_slow() - pcp_enter() for an owner who has the time to look why.
 * Return: false while a drainer has the cache: work without.
 */
bool pcp_enter_slow(struct pcp *pcp);

/* The owner is about to exit: no drainer touches the cache from now on.  Waits
 * for one that does. */
void pcp_enter_for_good(struct pcp *pcp);

/* Around a wait in a slow path: the owner has flushed its cache, and drainers
 * need not wait for it. */
void pcp_wait_begin(struct pcp *pcp);
void pcp_wait_end(struct pcp *pcp);

/**
 * pcp_drain_all() - empty all caches that hold anything now.
 * @self: but this one; NULL: none.
 *
 * Context: drain_lock held; takes REGISTRY, SLAB and ZONE.  May wait for
 * threads that are inside a slow path, PCP_DRAIN_MAX_NS at the most.
 * Return: 0; -EBUSY if one of them did not leave in that time.
 */
int pcp_drain_all(struct pcp_registry *reg, struct pcp *self);

#define PCP_DRAIN_MAX_NS	1000000000ull

/**
 * pcp_drain_idle() - empty the caches that were not used since the last call,
 * and have owners empty those that hold more than their share.
 * Context: as pcp_drain_all(), but never waits.
 * Return: how many caches still hold something.
 */
unsigned pcp_drain_idle(struct pcp_registry *reg);

/**
 * pcp_flush_if_idle() - the same for the caller's own cache, where nobody else
 * would.
 * Context: not entered.
 * Return: does it hold nothing now?
 */
bool pcp_flush_if_idle(struct pcp *pcp);

/* Bytes that caches other than @self were granted: at least what they hold. */
uint64_t pcp_sum_granted_bytes(struct pcp_registry *reg,
			       const struct pcp *self);

#endif
