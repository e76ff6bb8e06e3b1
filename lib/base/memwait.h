/* SPDX-License-Identifier: MIT */
/*
 * memwait.h - waiting until somebody gives memory back (layer 0).
 *
 * Who waits says so first, then looks whether there is memory by now, under the
 * zone's lock, and only then sleeps.  Who releases looks for waiters in the
 * same hold of the lock in which the pages become free:
 *
 *	waiter			releaser
 *	nr++			lock
 *	seen = freed		pages are free
 *	lock, look, unlock	nr?  (M1)
 *	sleep if freed == seen	unlock
 *				freed++, wake all
 *
 * M1: if the waiter's look comes first, its nr++ came before that hold of the
 *     lock, and the releaser sees it: freed changes, and the waiter does not
 *     sleep or is woken.  Else the look sees the pages.
 *
 * Other things that one may wait for, such as the states of victims, have their
 * own lock in place of the zone's.
 *
 * What becomes memory without a release, such as a higher limit, is found when
 * the waiter's time is over.
 */
#ifndef PP_BASE_MEMWAIT_H
#define PP_BASE_MEMWAIT_H

#include <stdbool.h>

#include "base/waitq.h"

struct memwait {
	/* any thread */
	_Atomic uint32_t nr;	/* who wait, or are about to */
	_Atomic uint32_t freed;	/* a futex */
};

/* Returns what memwait_sleep() takes. */
static inline uint32_t memwait_begin(struct memwait *mw)
{
	add_relaxed(&mw->nr, 1);
	return load_relaxed(&mw->freed);
}

static inline void memwait_sleep(struct memwait *mw, uint32_t seen,
				 uint64_t for_ns)
{
	waitq_sleep_for(&mw->freed, seen, for_ns);
}

static inline void memwait_end(struct memwait *mw)
{
	waitq_count_off(&mw->nr);
}

/* With the lock held under which memory became free. */
static inline bool memwait_has_waiters(struct memwait *mw)
{
	return mw && unlikely(load_relaxed(&mw->nr));
}

/* Without it, after something that some wait for has changed under another. */
static inline void memwait_wake(struct memwait *mw)
{
	add_relaxed(&mw->freed, 1);
	waitq_wake_all(&mw->freed);
}

/* The same, for who has not looked. */
static inline void memwait_wake_any(struct memwait *mw)
{
	if (unlikely(load_relaxed(&mw->nr)))
		memwait_wake(mw);
}

#endif
