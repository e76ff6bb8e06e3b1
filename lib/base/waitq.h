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

#endif
