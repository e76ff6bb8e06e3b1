/* SPDX-License-Identifier: MIT */
/*
 * waitq.h - sleeping on a word, and waking who sleeps there (layer 0).
 *
 * The only user of futex(2).  A waiter names the value that it saw; the
 * kernel lets it sleep only if the word still holds that value, so a wake
 * between the look and the sleep is never lost.  Wake-ups may be spurious:
 * callers look at their condition again.
 */
#ifndef PP_BASE_WAITQ_H
#define PP_BASE_WAITQ_H

#include "base/atomic.h"

void waitq_sleep(_Atomic uint32_t *word, uint32_t seen);
void waitq_sleep_for(_Atomic uint32_t *word, uint32_t seen, uint64_t for_ns);
void waitq_wake_one(_Atomic uint32_t *word);
void waitq_wake_all(_Atomic uint32_t *word);

/* Of those who wait and were counted one goes.  The child of a fork begins with
 * none; a wait that a handler forked on top of ends there, too. */
static inline void waitq_count_off(_Atomic uint32_t *nr)
{
	uint32_t now = load_relaxed(nr);

	/* Each round that fails is another thread's step. */
	while (now && !cas_relaxed(nr, &now, now - 1))
		;
}

#endif
