/* SPDX-License-Identifier: MIT */
/*
 * inline_reclaim.h - reclaimd's work where there is no reclaimd (layer 10).
 *
 * A program with one thread of its own, and without callbacks, has no
 * background thread: it tells itself what is due, purges on its way, a bounded
 * slice at the end of a request or free, and does the rest while it waits for
 * something.  So it reclaims, too, where it has callbacks and nobody else to
 * call them, as in the child of a fork.
 */
#ifndef PP_INLINE_RECLAIM_H
#define PP_INLINE_RECLAIM_H

#include "pcp.h"

/* After each request and free that was not served from the cache, with that
 * left: tells the program what is due, and does reclaimd's work, a bounded
 * slice, where there is none. */
void inline_reclaim_end_slow(struct pcp_registry *reg, unsigned flags);

/* @flags: of the request, the scope's included; INLINE_RECLAIM_FREE: it was
 * none, and the program may hold any lock. */
static inline void inline_reclaim_end(struct pcp_registry *reg, unsigned flags)
{
	if (unlikely(load_relaxed(&reg->work_due)))
		inline_reclaim_end_slow(reg, flags);
}

#define INLINE_RECLAIM_FREE	(PP_NOWAIT | PP_NOFS)

/**
 * inline_reclaim_idle() - the program waits, and nobody else looks after the
 * pool.
 *
 * Gives back what caches hold that nobody used for a second, and purges what is
 * due, as reclaimd would.
 * Return: ns until there is something to do; UINT64_MAX: nothing.
 */
uint64_t inline_reclaim_idle(struct pcp_registry *reg);

/* Would it do anything, now or later?  A look at a few words. */
bool inline_reclaim_has_idle_work(struct pcp_registry *reg);

#endif
