/* SPDX-License-Identifier: MIT */
/*
 * slowpath.h - a run, or the reason why not (layer 10).
 *
 * What a request does before it gives up, each step only if the one before it
 * did not help.  The thread's cache is entered for an attempt, and left for
 * what lies between two, since callbacks use it.
 *
 *	ATTEMPT		once from cache and zones; then, with PP_NORETRY not:
 *			the thread's own cache, small objects included, the
 *			depots of all size classes, and after a fork the caches
 *			of threads that are gone, go back; and once more
 *	could it fit?	not if it is too big, or something else than the limit
 *			is in the way: NULL
 *	WAKE		reclaimd; PP_PRESSURE_MIN is raised.  PP_NORETRY,
 *			PP_NOWAIT: NULL
 *	CLEAN		who reclaims already (PP_MEMALLOC): shrinkers that
 *			neither allocate nor wait, once; then ATTEMPT, then NULL
 *	THROTTLE	while half of the reserve is gone and reclaimd works;
 *			not with PP_NOFS, which waits for no reclaimd: that may
 *			wait in a shrinker for a lock that the caller holds
 *	RECLAIM		shrinkers, harder and harder: progress leads to ATTEMPT
 *	DRAIN		once, if there was no progress or it did not help, and
 *			what other threads' caches hide could be enough: then
 *			ATTEMPT
 *	AGAIN		up to SLOWPATH_MAX_RETRIES times without progress, as
 *			long as shrinkers say that they have something
 *	RELEASE		notifiers, then victims, one at a time (oom.h): who can
 *			wait and be called back, but not with PP_RETRY_MAYFAIL
 *			or PP_THISNODE.  A victim's own thread tries once more,
 *			with half of the reserve, and waits for nothing
 *	GIVE UP		PP_PRESSURE_OOM is raised: NULL
 *
 * Nothing is begun after the deadline.  Nobody asks for a drain when what
 * others hold would not make up for what is missing, and below min their frees
 * pass the caches by (pcp.c), so that an episode at the limit needs one drain,
 * and not one for each failure.
 */
#ifndef PP_SLOWPATH_H
#define PP_SLOWPATH_H

#include "page_alloc.h"
#include "reclaimd.h"
#include "scope.h"

/* Linux: MAX_RECLAIM_RETRIES. */
#define SLOWPATH_MAX_RETRIES	16u
#define SLOWPATH_DEADLINE_NS	1000000000ull
#define SLOWPATH_GRACE_NS	250000000ull	/* of a victim */

/* One request, from the first attempt to the last. */
struct slowpath {
	unsigned	flags;		/* PP_*, the scope's included */
	unsigned	nr_no_progress;
	bool		drained;
	bool		cleaned;
	bool		made_progress;
	bool		had_last_try;	/* before a victim is chosen */
	uint64_t	deadline_ns;	/* 0: no attempt has failed yet */
};

static inline struct slowpath slowpath_begin(unsigned flags)
{
	return (struct slowpath){ .flags = scope_add(flags) };
}

/**
 * alloc_pages() - an attempt, for the caller, who has entered @pcp or has
 * none.
 * @req: with the flags of slowpath_begin().
 *
 * Return: the run; NULL with result->why.
 */
void *alloc_pages(struct pcp_registry *reg, struct pcp *pcp,
		  const struct page_request *req, struct page_result *result);

/**
 * slowpath_again() - is another attempt worth while?
 * @nr_pages: of the request that failed.
 * @node: of it, as in struct page_request.
 * @why: it failed.
 *
 * Does what may help, as above.  Context: no lock held, the thread's cache
 * left; runs callbacks and waits, if the flags allow it.
 */
bool slowpath_again(struct slowpath *sp, struct pcp_registry *reg,
		    uint64_t nr_pages, unsigned node, enum failure why);

/* After each request and free that was not served from the cache, with that
 * left: tells the program what is due, and does reclaimd's work, a bounded
 * slice, where there is none. */
void slowpath_end_slow(struct pcp_registry *reg, unsigned flags);

/* @flags: of the request, the scope's included; SLOWPATH_FREE: it was none, and
 * the program may hold any lock. */
static inline void slowpath_end(struct pcp_registry *reg, unsigned flags)
{
	if (unlikely(load_relaxed(&reg->work_due)))
		slowpath_end_slow(reg, flags);
}

#define SLOWPATH_FREE	(PP_NOWAIT | PP_NOFS)

/**
 * slowpath_idle() - the program waits, and nobody else looks after the pool.
 *
 * Gives back what caches hold that nobody used for a second, and purges what is
 * due, as reclaimd would.
 * Return: ns until there is something to do; UINT64_MAX: nothing.
 */
uint64_t slowpath_idle(struct pcp_registry *reg);

/* Would it do anything, now or later?  A look at a few words. */
bool slowpath_has_idle_work(struct pcp_registry *reg);

#endif
