/* SPDX-License-Identifier: MIT */
/*
 * vmstat.h - what is counted, and how (layer 2).
 *
 * Levels that must be exact (used, backed) are fields of the zone, under its
 * lock.  Events are counted where they happen, by the thread that they happen
 * to, in its own array: one writer, no locked instruction.  A read adds the
 * arrays of the live threads to the sum of those that are gone, so it misses
 * at most what is under way in each thread at that moment.
 */
#ifndef PP_VMSTAT_H
#define PP_VMSTAT_H

#include "base/atomic.h"

#define PP_EVENTS(X) \
	X(REFILL_PAGES,	   "pages that thread caches took from the zone") \
	X(FLUSH_PAGES,	   "pages that thread caches gave back") \
	X(SLAB_NEW,	   "slabs made") \
	X(SLAB_FREED,	   "slabs whose pages went back") \
	X(SLOWPATH,	   "requests that the first attempt did not serve") \
	X(SLOWPATH_NS,	   "time spent on them") \
	X(DRAINS,	   "times that the caches of all threads were emptied") \
	X(DRAIN_WAITS,	   "requests that waited for that") \
	X(IDLE_DRAINS,	   "caches of idle threads that were emptied") \
	X(RECLAIMD_RUNS,   "times that reclaimd woke")

enum vm_event {
#define X(name, what) EVENT_##name,
	PP_EVENTS(X)
#undef X
	NR_VM_EVENTS
};

/* Every NULL has one of these reasons. */
#define PP_FAILURES(X) \
	X(LIMIT,	 limit,		"the limit, less the reserve") \
	X(TOO_BIG,	 too_big,	"more than the limit could ever hold") \
	X(ADDRESS_SPACE, address_space,	"no run of addresses that long") \
	X(OS,		 os,		"the kernel refused to commit memory") \
	X(PURGE,	 purge,		"the kernel did not take memory back") \
	X(NESTED,	 nested,	"the area for signal handlers is full")

enum failure {
#define X(name, label, what) FAILURE_##name,
	PP_FAILURES(X)
#undef X
	NR_FAILURES
};

struct vmstat {
	_Atomic int64_t	 event[NR_VM_EVENTS];	/* of threads that are gone */
	_Atomic uint64_t failure[NR_FAILURES];
};

const char *failure_name(enum failure why);

/* Adds the single-writer array @from to @to, and clears it. */
void vmstat_fold(struct vmstat *to, _Atomic int64_t *from);

#endif
