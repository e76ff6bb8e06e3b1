/* SPDX-License-Identifier: MIT */
/*
 * slowpath.h - a run or an object, or the reason why not (layer 10).
 *
 * What a request does before it gives up, as slowpath_run() has it:
 *
 *	ATTEMPT --------------------------------------------> SERVED
 *	   |  ^ ^ ^  ^                                          ^
 *	   v  | | |  |                                          |
 *	  FIT | | |  |    could waiting help?  no: FAIL; who    |
 *	   |  | | |  |    works for a victim that is to end:    |
 *	   v  | | |  |    half of the reserve, or FAIL          |
 *	RESERVE ---------- a thread in its grace, small --------+
 *	   v  | | |  |
 *	  WAKE | | | |    reclaimd; MIN is told; who does not wait: FAIL
 *	   |\ | | |  |
 *	   | CLEAN |  |   who reclaims already: shrinkers that neither allocate
 *	   v    | |  |    nor wait, once; then FAIL
 *	RECLAIM-+ |  |    shrinkers, harder and harder
 *	   v      |  |
 *	 DRAIN ---+  |    B2: what other threads' caches hide
 *	   v         |
 *	 AGAIN ------+    others are at it: wait for what they free
 *	   v         |
 *	  OOM -------+    victims, one after another; the thread has a claim on
 *	   v         |    what is freed (claim.h)
 *	  FAIL       |    OOM is told: NULL, but for PP_NOFAIL:
 *	   v         |
 *	  WAIT ------+    the reserves, then whatever anybody gives back
 *
 * The thread's cache is entered for an attempt, and left for what lies between
 * two: the thread waits there, or calls back itself if nobody else can.
 *
 * Every way back to ATTEMPT is bounded:
 * B1: RECLAIM: each time something was freed, and before the deadline
 * B2: CLEAN: once in a request; DRAIN: the same, and once more after each time
 *     that OOM made progress
 * B3: AGAIN: SLOWPATH_MAX_RETRIES times in a row in which nothing was freed; it
 *     waits for others no longer than until the deadline
 * B4: OOM: each time a notifier, a victim or somebody else's release made
 *     progress, and before the deadline
 * B5: WAIT: PP_NOFAIL alone, which has no other end
 *
 * Nothing is begun after the deadline, oom_timeout after the first attempt.
 * Nobody asks for a drain when what others hold would not make up for what is
 * missing, and below min their frees pass the caches by (pcp.c), so that an
 * episode at the limit needs one drain, and not one for each failure.
 *
 * Source of the order: Linux mm/page_alloc.c, __alloc_pages_slowpath(); there
 * small requests never fail, here all do, after a time.
 */
#ifndef PP_SLOWPATH_H
#define PP_SLOWPATH_H

#include "inline_reclaim.h"
#include "page_alloc.h"
#include "scope.h"

/* Linux: MAX_RECLAIM_RETRIES. */
#define SLOWPATH_MAX_RETRIES	16u

/* Beside PP_* and PAGE_CLAIMANT: malloc's, which is let have a grace. */
#define SLOWPATH_MAY_GRACE	0x20000u

struct slow_request {
	/* set by the caller */
	struct pcp_registry *reg;
	/* Once more, with @flags; enters and leaves the thread's cache.  NULL
	 * with ->why. */
	void		*(*attempt)(struct slow_request *s, unsigned flags);
	unsigned	flags;		/* PP_*, the scope's included */
	unsigned	node;		/* as in struct page_request */
	uint64_t	nr_pages;	/* that would do */
	uint64_t	bytes;		/* asked for */
	enum failure	why;		/* the first attempt failed */

	/* slowpath_run()'s own; 0 */
	bool		made_progress, has_more, drained, cleaned, has_claim;
	bool		had_last_try, was_oom;
	unsigned	nr_no_progress;
	uint64_t	start_ns, deadline_ns, since_ns, next_line_ns;
};

/**
 * slowpath_run() - whatever helps, after the first attempt has failed.
 *
 * Context: no lock held, the thread's cache left; has callbacks run and waits,
 * if the flags allow it.
 * Return: what an attempt returned; NULL with @s->why.
 */
void *slowpath_run(struct slow_request *s);

/**
 * alloc_pages() - an attempt, for the caller, who has entered @pcp or has
 * none.
 * @req: with the scope's flags.
 *
 * From the cache and the zones; then, but with PP_NORETRY, what the thread can
 * do by itself: its own cache, small objects included, the depots of all size
 * classes, and after a fork the caches of threads that are gone, go back; and
 * once more.
 * Return: the run; NULL with result->why.
 */
void *alloc_pages(struct pcp_registry *reg, struct pcp *pcp,
		  const struct page_request *req, struct page_result *result);

#endif
