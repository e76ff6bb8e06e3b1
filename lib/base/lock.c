/* SPDX-License-Identifier: MIT */
/* lock.c - see lock.h. */
#include "base/lock.h"

#include "base/bug.h"
#include "base/waitq.h"

/* About 2 us: longer than a hold, shorter than a sleep and a wake. */
#define LOCK_SPINS 100

#if PP_DEBUG > 0
/* Debug builds may pay for a second thread-local word. */
static __thread uint32_t ranks_held;

static void rank_acquired(const struct lock *l)
{
	/* A higher or equal bit set means: taken against the order. */
	BUG_ON(ranks_held >> l->rank);
	ranks_held |= 1u << l->rank;
}

static void rank_released(const struct lock *l)
{
	BUG_ON(!(ranks_held & (1u << l->rank)));
	ranks_held &= ~(1u << l->rank);
}
#else
static void rank_acquired(const struct lock *l PP_UNUSED) { }
static void rank_released(const struct lock *l PP_UNUSED) { }
#endif

void lock_init(struct lock *l, enum lock_rank rank)
{
	store_relaxed(&l->word, 0);
	l->rank = (uint16_t)rank;
	l->fork_taken = false;
}

static bool try_lock(struct lock *l, uint64_t value)
{
	uint64_t seen = 0;

	/* Acquire pairs with the release in lock_release_word(). */
	return load_relaxed(&l->word) == 0 &&
	       cas_acquire(&l->word, &seen, value);
}

/*
 * The kernel looks at 32 bits: the lower half, where the sleepers' bit is.  Two
 * owners may share it; a sleeper that mistakes one for the other is woken by
 * the second one's release as well.
 */
static _Atomic uint32_t *sleep_word(struct lock *l)
{
	static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
		      "the lower half comes first");
	return (_Atomic uint32_t *)(void *)&l->word;
}

static PP_NOINLINE void lock_acquire_slow(struct lock *l)
{
	const uint64_t me = thread_identity();
	uint64_t seen;

	for (unsigned i = 0; i < LOCK_SPINS; i++) {
		if (try_lock(l, me))
			return;
		cpu_relax();
	}
	/* Who has slept cannot know whether it was the last: it says that there
	 * are sleepers, and its release wakes one in vain at worst. */
	while (!try_lock(l, me | LOCK_SLEEPERS)) {
		seen = load_relaxed(&l->word);
		if (!seen)
			continue;
		if (!(seen & LOCK_SLEEPERS) &&
		    !cas_relaxed(&l->word, &seen, seen | LOCK_SLEEPERS))
			continue;
		waitq_sleep(sleep_word(l), (uint32_t)(seen | LOCK_SLEEPERS));
	}
}

static void lock_acquire_word(struct lock *l)
{
	uint64_t seen = 0;

	if (unlikely(!cas_acquire(&l->word, &seen, thread_identity())))
		lock_acquire_slow(l);
}

static void lock_release_word(struct lock *l)
{
	/* Release pairs with the acquire in try_lock() and
	 * lock_acquire_word(): all that was written under the lock is visible
	 * to the next holder. */
	if (unlikely(xchg_release(&l->word, 0) & LOCK_SLEEPERS))
		waitq_wake_one(sleep_word(l));
}

void lock_acquire(struct lock *l)
{
	VM_BUG_ON(lock_held_by_me(l));
	lock_acquire_word(l);
	rank_acquired(l);
}

void lock_release(struct lock *l)
{
	VM_BUG_ON(!lock_held_by_me(l));
	rank_released(l);
	lock_release_word(l);
}

void lock_fork_take(struct lock *l)
{
	if (lock_held_by_me(l))
		return;
	lock_acquire_word(l);
	l->fork_taken = true;
}

void lock_fork_give(struct lock *l)
{
	if (!l->fork_taken)
		return;
	l->fork_taken = false;
	lock_release_word(l);
}

void once_run(struct once *once, void (*fill)(void))
{
	/* Acquire: pairs with the release below. */
	if (load_acquire(&once->done))
		return;
	lock_acquire(&once->lock);
	if (!load_relaxed(&once->done)) {
		fill();
		store_release(&once->done, true);
	}
	lock_release(&once->lock);
}
