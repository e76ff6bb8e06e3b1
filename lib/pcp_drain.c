/* SPDX-License-Identifier: MIT */
/* pcp_drain.c - see pcp_drain.h. */
#include "pcp_drain.h"

#include <errno.h>

#include "base/waitq.h"
#include "os/os.h"

/* Passes over busy caches before the drainer sleeps between two of them, and
 * for how long it does. */
#define DRAIN_YIELDS		64
#define DRAIN_NAP_NS		200000

static bool drain_locked;	/* const after drain_is_known */
static struct once drain_is_known = ONCE_INIT;

static void ask_for_membarrier(void)
{
	drain_locked = os_membarrier_register() != 0;
}

static void do_without_membarrier(void)
{
	drain_locked = true;
}

void pcp_drain_init(void)
{
	once_run(&drain_is_known, ask_for_membarrier);
}

void pcp_drain_without_membarrier(void)
{
	once_run(&drain_is_known, do_without_membarrier);
}

uint32_t pcp_drain_initial(void)
{
	return drain_locked ? DRAIN_LOCKED : DRAIN_NONE;
}

/* The owner's side */

static bool drain_cas(struct pcp *pcp, uint32_t from, uint32_t to)
{
	return cas_acquire(&pcp->drain, &from, to);
}

static bool busy_cas(struct pcp *pcp, uint32_t from, uint32_t to)
{
	return cas_acquire(&pcp->busy, &from, to);
}

/* Busy, and drain was not NONE.  True if the cache is the owner's now. */
static bool owner_wins(struct pcp *pcp)
{
	if (drain_cas(pcp, DRAIN_LIFE, DRAIN_NONE))
		return true;
	if (!drain_cas(pcp, DRAIN_WANTED, DRAIN_MINE))
		return load_acquire(&pcp->drain) == DRAIN_NONE;
	pcp_flush(pcp);
	store_release(&pcp->drain, DRAIN_NONE);
	return true;
}

/* Busy is a lock. */
static bool enter_locked(struct pcp *pcp)
{
	store_relaxed(&pcp->alive, true);
	if (!busy_cas(pcp, PCP_UNLOCKED, PCP_OWNER))
		return false;
	if (unlikely(load_relaxed(&pcp->give_up))) {
		pcp_flush(pcp);
		store_relaxed(&pcp->give_up, false);
	}
	return true;
}

bool pcp_enter_slow(struct pcp *pcp)
{
	if (load_relaxed(&pcp->drain) == DRAIN_LOCKED)
		return enter_locked(pcp);
	if (pcp_enter(pcp))
		return true;
	store_relaxed(&pcp->busy, PCP_OWNER);
	barrier();
	delay_at(DELAY_OWNER);
	if (owner_wins(pcp))
		return true;
	/* Release: as in pcp_leave(), for what was done before this. */
	store_release(&pcp->busy, PCP_FREE);
	return false;
}

void pcp_enter_for_good(struct pcp *pcp)
{
	delay_at(DELAY_EXIT);
	/* As long as the drainer needs for one cache. */
	while (!pcp_enter_slow(pcp))
		os_yield();
}

void pcp_wait_begin(struct pcp *pcp)
{
	/* Release: pairs with the acquire in drain_take(). */
	if (pcp)
		store_release(&pcp->busy, PCP_WAITING);
}

void pcp_wait_end(struct pcp *pcp)
{
	if (pcp)
		store_relaxed(&pcp->busy, PCP_OWNER);
}

/* The drainer's side; REGISTRY is held unless said otherwise */

static bool holds_anything(struct pcp *pcp)
{
	return load_relaxed(&pcp->granted_bytes) != 0;
}

/* Has it to be emptied in this drain?  Its owner may be at it, and lose its
 * processor there. */
static bool is_wanted(struct pcp *pcp)
{
	uint32_t drain = load_relaxed(&pcp->drain);

	return drain == DRAIN_LOCKED ? load_relaxed(&pcp->give_up) :
	       drain == DRAIN_WANTED || drain == DRAIN_MINE;
}

static bool drain_take(struct pcp *pcp, uint32_t from)
{
	if (load_relaxed(&pcp->drain) == DRAIN_LOCKED)
		return busy_cas(pcp, PCP_UNLOCKED, PCP_DRAINER);
	/* Acquire: pairs with the release in pcp_leave(). */
	if (load_acquire(&pcp->busy) != PCP_FREE)
		return false;
	delay_at(DELAY_TAKE);
	return drain_cas(pcp, from, DRAIN_TAKEN);
}

static void drain_give_back(struct pcp *pcp)
{
	/* Release: pairs with the acquire in pcp_enter(), and in busy_cas(). */
	if (load_relaxed(&pcp->drain) == DRAIN_LOCKED) {
		BUG_ON(load_relaxed(&pcp->busy) != PCP_DRAINER);	/* D5 */
		store_relaxed(&pcp->give_up, false);
		store_release(&pcp->busy, PCP_UNLOCKED);
	} else {
		store_release(&pcp->drain, DRAIN_NONE);
	}
}

/* Drops REGISTRY and takes it again; the cache, which is taken, stays. */
static void empty_taken(struct pcp *pcp)
{
	lock_release(&pcp_registry_lock);
	pcp_flush(pcp);
	delay_at(DELAY_EMPTY);
	lock_acquire(&pcp_registry_lock);
	drain_give_back(pcp);
}

static void drain_want(struct pcp *pcp)
{
	if (load_relaxed(&pcp->drain) == DRAIN_LOCKED)
		store_relaxed(&pcp->give_up, true);
	else if (!drain_cas(pcp, DRAIN_NONE, DRAIN_WANTED))
		drain_cas(pcp, DRAIN_LIFE, DRAIN_WANTED);
}

static void drain_unwant(struct pcp *pcp)
{
	store_relaxed(&pcp->give_up, false);
	drain_cas(pcp, DRAIN_WANTED, DRAIN_NONE);
}

static unsigned mark_all(struct pcp_registry *reg, const struct pcp *self)
{
	unsigned nr = 0;

	lock_acquire(&pcp_registry_lock);
	for (struct pcp *pcp = reg->head; pcp; pcp = pcp->next) {
		if (pcp == self || pcp->orphan || !holds_anything(pcp))
			continue;
		drain_want(pcp);
		nr++;
	}
	lock_release(&pcp_registry_lock);
	return nr;
}

/* Empties what is not busy; how many were. */
static unsigned drain_pass(struct pcp_registry *reg, const struct pcp *self)
{
	unsigned nr_busy = 0;

	lock_acquire(&pcp_registry_lock);
	for (struct pcp *pcp = reg->head; pcp; pcp = pcp->next) {
		if (pcp == self || pcp->orphan || !is_wanted(pcp))
			continue;
		if (drain_take(pcp, DRAIN_WANTED))
			empty_taken(pcp);
		else if (load_acquire(&pcp->busy) == PCP_WAITING)
			drain_unwant(pcp);
		else if (is_wanted(pcp))
			nr_busy++;
	}
	lock_release(&pcp_registry_lock);
	return nr_busy;
}

static void unmark_all(struct pcp_registry *reg)
{
	lock_acquire(&pcp_registry_lock);
	for (struct pcp *pcp = reg->head; pcp; pcp = pcp->next)
		drain_unwant(pcp);
	lock_release(&pcp_registry_lock);
}

static void wait_a_little(unsigned nr_waits)
{
	static _Atomic uint32_t nobody_wakes;

	if (nr_waits < DRAIN_YIELDS)
		os_yield();
	else
		waitq_sleep_for(&nobody_wakes, 0, DRAIN_NAP_NS);
}

int pcp_drain_all(struct pcp_registry *reg, struct pcp *self)
{
	uint64_t deadline;
	unsigned i = 0;

	lock_assert_held(&reg->drain_lock);
	if (!mark_all(reg, self))
		return 0;
	delay_at(DELAY_MARK);
	/* Refused since the start, by a filter: owners who come by still find
	 * what is wanted, but nobody may take a cache from a sleeping one. */
	if (!drain_locked && os_membarrier()) {
		unmark_all(reg);
		return -EBUSY;
	}
	deadline = os_now_ns() + PCP_DRAIN_MAX_NS;
	while (drain_pass(reg, self)) {
		if (os_now_ns() > deadline) {
			unmark_all(reg);
			return -EBUSY;
		}
		wait_a_little(i++);
	}
	return 0;
}

/* Idle caches */

/*
 * What was asked at the last look may be taken now, after a barrier: LIFE that
 * nobody answered, and WANTED for holding too much.  Otherwise asks anew.
 */
static bool take_if_asked(struct pcp *pcp)
{
	if (load_relaxed(&pcp->drain) == DRAIN_LOCKED) {
		if (load_relaxed(&pcp->granted_bytes) > pcp_share_bytes(pcp))
			drain_want(pcp);
		return !xchg_relaxed(&pcp->alive, false) &&
		       drain_take(pcp, DRAIN_LOCKED);
	}
	if (drain_take(pcp, DRAIN_WANTED) || drain_take(pcp, DRAIN_LIFE))
		return true;
	if (load_relaxed(&pcp->granted_bytes) > pcp_share_bytes(pcp))
		drain_want(pcp);
	else
		drain_cas(pcp, DRAIN_NONE, DRAIN_LIFE);
	return false;
}

unsigned pcp_drain_idle(struct pcp_registry *reg)
{
	unsigned nr = 0;

	lock_assert_held(&reg->drain_lock);
	if (!drain_locked && os_membarrier())
		return 0;
	lock_acquire(&pcp_registry_lock);
	for (struct pcp *pcp = reg->head; pcp; pcp = pcp->next) {
		if (pcp->orphan || !holds_anything(pcp))
			continue;
		if (take_if_asked(pcp)) {
			empty_taken(pcp);
			vmstat_add(reg->vmstat, EVENT_IDLE_DRAINS, 1);
		} else {
			nr++;
		}
	}
	lock_release(&pcp_registry_lock);
	return nr;
}

bool pcp_flush_if_idle(struct pcp *pcp)
{
	bool is_locked = load_relaxed(&pcp->drain) == DRAIN_LOCKED;
	bool was_idle = is_locked ? !load_relaxed(&pcp->alive) :
			load_relaxed(&pcp->drain) == DRAIN_LIFE;
	bool is_empty;

	if (!pcp_enter_slow(pcp))
		return false;
	if (was_idle)
		pcp_flush(pcp);
	is_empty = !holds_anything(pcp);
	/* The question that stands at the next call, if nobody comes by. */
	if (is_locked)
		store_relaxed(&pcp->alive, false);
	else if (!is_empty)
		drain_cas(pcp, DRAIN_NONE, DRAIN_LIFE);
	pcp_leave_slow(pcp);
	return is_empty;
}

uint64_t pcp_sum_granted_bytes(struct pcp_registry *reg,
			       const struct pcp *self)
{
	uint64_t sum = 0;

	lock_acquire(&pcp_registry_lock);
	for (struct pcp *pcp = reg->head; pcp; pcp = pcp->next)
		/* Full: pairs with grant() in pcp.c. */
		if (pcp != self)
			sum += load_full(&pcp->granted_bytes);
	lock_release(&pcp_registry_lock);
	return sum;
}
