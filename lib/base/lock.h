/* SPDX-License-Identifier: MIT */
/*
 * lock.h - one kind of lock, and the order in which locks nest (layer 0).
 *
 * A word that holds its owner, and a bit that says that others sleep: after U.
 * Drepper, "Futexes Are Tricky", 2011, section 5, with the owner in place of
 * his 1.  An uncontended pair costs two atomic operations and no system call.
 * Waiters spin a bounded while and then sleep, because a holder may have been
 * preempted.  Owner and state are one word so that a signal handler can always
 * tell whether it interrupted the holder.
 *
 * The ranks below are the only place where the order is written: debug builds
 * stop at the first acquisition against it, fork takes the locks in it, and
 * doc/locking.md explains it.  No thread holds two locks of one rank, but for
 * fork, which takes those in the order of their index.
 *
 * I1: word == 0 iff no thread is between lock_acquire() and lock_release()
 * I2: word without LOCK_SLEEPERS == thread_identity() of the holder
 */
#ifndef PP_BASE_LOCK_H
#define PP_BASE_LOCK_H

#include <stdbool.h>

#include "base/atomic.h"
#include "base/thread.h"

#define LOCK_SLEEPERS	1ull

#define PP_LOCK_RANKS(X) \
	X(INIT,     "bring-up of the default pool") \
	X(CONFIG,   "the list of pools; settings of one") \
	X(MEMPOOL,  "what one reserve sets aside, and who waits for it") \
	X(SHRINKER, "a pool's list of shrinkers") \
	X(OOM,      "a pool's victims; its notifiers") \
	X(DRAIN,    "one drain of a pool's thread caches") \
	X(REGISTRY, "the lists of thread caches") \
	X(SLAB,     "the slabs of one size class") \
	X(GROW,     "how much of a span is committed") \
	X(ZONE,     "blocks and counts of one zone") \
	X(LEAF,     "holds nothing else: numbers of slabs")

enum lock_rank {
#define X(name, what) LOCK_RANK_##name,
	PP_LOCK_RANKS(X)
#undef X
	NR_LOCK_RANKS
};

struct lock {
	_Atomic uint64_t	word;
	uint16_t		rank;
	bool			fork_taken;	/* owner, within fork */
};

#define LOCK_INIT(r)	{ .rank = LOCK_RANK_##r }

void lock_init(struct lock *l, enum lock_rank rank);
void lock_acquire(struct lock *l);
void lock_release(struct lock *l);

/* Is it this thread that holds @l?  Also true in a signal handler that
 * interrupted the holder, which is what fork asks. */
static inline bool lock_held_by_me(struct lock *l)
{
	return (load_relaxed(&l->word) & ~LOCK_SLEEPERS) == thread_identity();
}

#define lock_assert_held(l)	VM_BUG_ON(!lock_held_by_me(l))

/*
 * fork: the parent takes what it does not hold already (the fork may come
 * from a signal handler on top of the holder), and both sides give back what
 * was taken.
 */
void lock_fork_take(struct lock *l);
void lock_fork_give(struct lock *l);

/* Tables that are filled once, before the first use. */
struct once {
	struct lock	lock;
	_Atomic bool	done;
};

#define ONCE_INIT	{ .lock = LOCK_INIT(LEAF) }

/* @fill has returned, now or at an earlier call, when this returns. */
void once_run(struct once *once, void (*fill)(void));

#endif
