/* SPDX-License-Identifier: MIT */
/*
 * bridge.h - between jemalloc's arenas and a pool.
 *
 * jemalloc's words: an extent is a range of pages; active ones hold blocks,
 * dirty ones are kept for reuse; "retained" is address space without memory.
 *
 *	mallocx()		dallocx()
 *	    |			    |
 *	active <--------------- dirty		jemalloc's lists
 *	    ^			    |  purge: the shrinker's scan, decay
 *	alloc hook		dalloc hook
 *	    |			    v
 *	 pagepool_extent_alloc	pagepool_extent_free	(lib/extent.h)
 *
 * Retained extents do not exist: with opt.retain, the default, jemalloc asks
 * for more than it needs, more each time, to cut up later.  Such requests are
 * told by *commit, which is false, and refused; it then asks for what it needs.
 * And what was offered back once is taken (a hook that refuses is not asked
 * again).
 *
 * Which locks are held, of 5.3.0, whose sources assert it: none of an arena's
 * in the alloc and dalloc hooks; that of a list of extents in split and merge;
 * those of a background thread, or of mallctl, may be in dalloc.
 *
 * Locks at fork: the pool's handler, registered later than jemalloc's, takes
 * its locks first, and then jemalloc's its own.  A hook with one of
 * jemalloc's locks that waits for the pool would make both wait for ever.  So
 * split takes no lock, merge does nothing, and dalloc passes a gate that is
 * shut before the pool's handler runs: behind it, extents are put on a list.
 *
 * J1: mapped_pages == pages of extents that jemalloc has; those on the list of
 *     late ones do not count
 */
#ifndef PP_JEMALLOC_BRIDGE_H
#define PP_JEMALLOC_BRIDGE_H

#include <stddef.h>

#include <jemalloc/jemalloc.h>

#include "base/atomic.h"
#include "pagepool/jemalloc.h"
#include "pagepool/reclaim.h"

/* An extent to be given back later, in its own first bytes. */
struct late_extent {
	struct late_extent	*next;
	size_t			nr_pages;
};

struct pp_jemalloc {
	/* const once there is an arena */
	extent_hooks_t		hooks;		/* first: its address */
	struct pp_pool		*pool;
	struct pp_shrinker_id	*shrinker;	/* NULL: none could be had */
	unsigned		ind;
	const size_t		*active_pages;	/* jemalloc's count, live */
	size_t			purge_mib[3];	/* arena.<ind>.purge */

	/* any thread */
	_Atomic size_t		mapped_pages;
	_Atomic uint64_t	returned_pages;	/* so far */
	_Atomic(struct late_extent *) late;

	/* bridge_list_lock */
	struct pp_jemalloc	*next;
};

static_assert(sizeof(struct pp_jemalloc) <= PP_PAGE_SIZE, "it is a page");

/* What the calling thread has given back, to any pool. */
#pragma GCC visibility push(hidden)
extern __thread uint64_t hooks_own_pages;
#pragma GCC visibility pop

/* Fills in je->hooks. */
void hooks_init(struct pp_jemalloc *je);

/* From here on the handlers of fork know the bridge.  -ENOMEM. */
int hooks_register(struct pp_jemalloc *je);
void hooks_unregister(struct pp_jemalloc *je);

/* Gives back what could not be given back before.  Not with a lock held. */
void hooks_free_late(struct pp_jemalloc *je);

#endif
