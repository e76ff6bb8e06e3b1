/* SPDX-License-Identifier: MIT */
/*
 * vmstat.h - what is counted, and how (layer 2).
 *
 * Levels that must be exact (used, backed) are fields of the zone, under its
 * lock.  The rest is one global word an item, for a cheap read, and a delta a
 * thread that has not reached it yet.  The delta is the difference of two
 * words:
 *
 *	count	what the thread has counted; its owner stores, plainly
 *	folded	how much of that is in the global word; whoever folds claims
 *		the difference by compare-and-swap, and then adds it there
 *
 * So the owner's path has no locked instruction, and yet any thread may fold
 * the delta of any other at any time: no word is written by both, but for
 * folded, of which each step is claimed once.  The owner folds when its delta
 * is over the threshold, reclaimd now and then, the registry at thread exit.
 * Both words are differences, so that they may wrap.
 *
 * Thresholds are those of the kernel with threads in place of CPUs (Linux
 * mm/vmstat.c, calculate_normal_threshold() and calculate_pressure_threshold();
 * changed, unlike there, whenever a thread comes or goes, and the drift mark is
 * cleared when it is not needed any more).
 *
 * I3.1: with all deltas folded, global == what was counted
 * I3.2: |global - what was counted| <= threads * max_threshold, one threshold
 *       for whoever folds, and what each thread is just counting
 * I3.3: under pressure threads * threshold <= low - min, if there are no more
 *       threads than that
 * I3.4: what a level counts is there before it is added, and is subtracted
 *       before it is gone
 * I3.5: a thread that is gone leaves no delta: the sum is the same before and
 *       after
 * I3.6: |count - folded| <= threshold + VMSTAT_MAX_CHANGE < 2^31
 */
#ifndef PP_VMSTAT_H
#define PP_VMSTAT_H

#include "base/atomic.h"

/* These only grow. */
#define PP_EVENTS(X) \
	X(REFILL_PAGES,	   "pages that thread caches took from the zone") \
	X(FLUSH_PAGES,	   "pages that thread caches gave back") \
	X(SLAB_NEW,	   "slabs made") \
	X(SLAB_FREED,	   "slabs whose pages went back") \
	X(SLOWPATH,	   "attempts that did not serve a request at once") \
	X(SLOWPATH_NS,	   "time spent on them") \
	X(DRAINS,	   "times that all threads' caches were emptied") \
	X(DRAIN_WAITS,	   "requests that waited for that") \
	X(IDLE_DRAINS,	   "caches of idle threads that were emptied") \
	X(RECLAIMD_RUNS,   "times that reclaimd woke") \
	X(RECLAIMD_PAGES,  "pages that its shrinking gave back") \
	X(DIRECT_RECLAIMS, "requests that reclaimed for themselves") \
	X(DIRECT_PAGES,	   "pages that this gave back") \
	X(SCANNED,	   "objects that shrinkers looked at") \
	X(THROTTLED,	   "requests that waited for reclaimd") \
	X(PRESSURE_LOW,	   "episodes of memory at low") \
	X(PRESSURE_MIN,	   "episodes of memory at min") \
	X(PRESSURE_OOM,	   "episodes of failed requests") \
	X(NODE_FALLBACK,   "runs that came from another node") \
	X(PRESSURE_EVENTS, "times that memory was short outside of the pool") \
	X(OOM_RELEASES,	   "victims that were cancelled") \
	X(OOM_FORCED,	   "victims that were forced") \
	X(OOM_NOTIFIED,	   "times that a notifier freed something")

/* These go up and down, in slow paths. */
#define PP_LEVELS(X) \
	X(SLAB_PAGES,	   "pages in slabs")

enum vm_item {
#define X(name, what) EVENT_##name,
	PP_EVENTS(X)
#undef X
#define X(name, what) LEVEL_##name,
	PP_LEVELS(X)
#undef X
	NR_VM_ITEMS
};

/* Every NULL has one of these reasons. */
#define PP_FAILURES(X) \
	X(LIMIT,	 limit, "the limit, and nothing to be freed") \
	X(TOO_BIG,	 too_big, "more than the limit could ever hold") \
	X(ADDRESS_SPACE, address_space, "no run of addresses that long") \
	X(OS,		 os, "the kernel refused to commit memory") \
	X(PURGE,	 purge, "the kernel did not take memory back") \
	X(NESTED,	 nested, "the area for signal handlers is full") \
	X(CANNOT_WAIT,	 cannot_wait, \
	  "the limit, and the request does not wait") \
	X(IN_RECLAIM,	 in_reclaim, "the limit, asked by what frees memory") \
	X(SCOPE,	 scope, "the limit, and its scope forbids help") \
	X(TIMEOUT,	 timeout, "the limit, and help took too long") \
	X(INJECTED,	 injected, "the setting fault")

enum failure {
#define X(name, label, what) FAILURE_##name,
	PP_FAILURES(X)
#undef X
	NR_FAILURES
};

#define VMSTAT_MAX_THRESHOLD	125
/* More at once does not pass through a delta. */
#define VMSTAT_MAX_CHANGE	(1 << 30)

/* What one thread has counted. */
struct vmstat_delta {
	_Atomic uint32_t count[NR_VM_ITEMS];	/* owner */
	_Atomic uint32_t folded[NR_VM_ITEMS];	/* claimed by whoever folds */
};

struct vmstat {
	_Atomic int64_t	 global[NR_VM_ITEMS];
	_Atomic uint64_t failure[NR_FAILURES];

	/* All threads' caches of runs, as of their last slow paths; and what
	 * they may have at the most. */
	_Atomic int64_t	 cached_pages, may_cache_pages;

	/* written under the registry's lock; any thread reads */
	_Atomic int32_t	 threshold;
	_Atomic int32_t	 max_threshold;	/* since all was folded */
	_Atomic uint64_t drift_mark_pages;	/* 0: not needed */
	_Atomic bool	 under_pressure;
};

/* What the thresholds depend on. */
struct vmstat_basis {
	uint64_t	managed_pages, min_pages, low_pages, high_pages;
	uint32_t	nr_threads;
};

const char *failure_name(enum failure why);

/* The formulas.  No thread counts as one. */
int32_t vmstat_normal_threshold(const struct vmstat_basis *basis);
int32_t vmstat_pressure_threshold(const struct vmstat_basis *basis);
/* Below so many free pages, threads that count with @threshold may make a
 * number near low look like one near min; 0 if they cannot. */
uint64_t vmstat_drift_mark(const struct vmstat_basis *basis,
			   int32_t threshold);

/* The basis has changed, or under_pressure has.  Registry's lock held.  The
 * threshold for pressure is used only where there is a drift mark. */
void vmstat_set_thresholds(struct vmstat *vs,
			   const struct vmstat_basis *basis);
/* All threads' deltas were folded.  Registry's lock held. */
void vmstat_all_folded(struct vmstat *vs);

/* Adds one item's delta, or all, to the global words.  Any thread, for as long
 * as @delta cannot go away. */
void vmstat_fold_item(struct vmstat *vs, struct vmstat_delta *delta,
		      enum vm_item item);
void vmstat_fold(struct vmstat *vs, struct vmstat_delta *delta);

/* For threads without a delta of their own. */
static inline void vmstat_add(struct vmstat *vs, enum vm_item item,
			      int64_t change)
{
	add_relaxed(&vs->global[item], change);
}

/* Counts.  By the delta's owner; true if it was folded. */
static inline bool vmstat_mod(struct vmstat *vs, struct vmstat_delta *delta,
			      enum vm_item item, int64_t change)
{
	int32_t most = load_relaxed(&vs->threshold), open;
	uint32_t count;

	if (unlikely(change > VMSTAT_MAX_CHANGE ||
		     change < -VMSTAT_MAX_CHANGE)) {
		vmstat_add(vs, item, change);
		return true;
	}
	count = load_relaxed(&delta->count[item]) + (uint32_t)change;
	store_relaxed(&delta->count[item], count);
	open = (int32_t)(count - load_relaxed(&delta->folded[item]));
	if (likely(open <= most && open >= -most))
		return false;
	vmstat_fold_item(vs, delta, item);
	return true;
}

/* The global word, which may be below 0 for a moment: never what it says. */
static inline int64_t vmstat_read(struct vmstat *vs, enum vm_item item)
{
	int64_t value = load_relaxed(&vs->global[item]);

	return value > 0 ? value : 0;
}

/* How far vmstat_read() may be off: I3.2, at rest. */
int64_t vmstat_bound(struct vmstat *vs, uint32_t nr_threads);

#endif
