/* SPDX-License-Identifier: MIT */
/*
 * delay.h - named places where a test makes threads dawdle (layer 0).
 *
 * Between two steps of a protocol that other threads may come between.  On two
 * processors they hardly ever do, unless somebody gives way there.  Debug
 * builds only: some of the places are on the fast path.
 */
#ifndef PP_BASE_DELAY_H
#define PP_BASE_DELAY_H

#include "base/atomic.h"

#define PP_DELAY_POINTS(X) \
	X(ENTER, "an owner has raised busy and not yet looked at drain") \
	X(INSIDE, "an owner has entered and not yet done anything") \
	X(OWNER, "an owner has found drain and not yet changed it") \
	X(MARK,  "a drainer has marked and not yet issued the barrier") \
	X(TAKE,  "a drainer has seen busy down and not yet taken the cache") \
	X(EMPTY, "a drainer has emptied a cache and not yet given it back") \
	X(EXIT,  "an owner is about to enter for good") \
	X(LOOK,  "reclaimd has read kick and not yet looked why") \
	X(START, "reclaimd may run already, and nobody was told so") \
	X(QUEUED, "who waits for a reserve is about to sleep") \
	X(GRANT, "who waits for a reserve has it, and was not woken yet") \
	X(CLAIM, "a claim begins or ends, what is kept is as it was") \
	X(CALL, "a thread has taken a call and not yet made it") \
	X(REST, "a thread has found no call and does not yet sleep")

enum delay_point {
#define X(name, what) DELAY_##name,
	PP_DELAY_POINTS(X)
#undef X
	NR_DELAY_POINTS
};

/* One passage in so many gives way; 0: none. */
extern _Atomic uint32_t delay_one_in[NR_DELAY_POINTS];

void delay_here(enum delay_point point);

static inline void delay_at(enum delay_point point)
{
	if (PP_DEBUG > 0 && unlikely(load_relaxed(&delay_one_in[point])))
		delay_here(point);
}

#endif
