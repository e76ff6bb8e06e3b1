/* SPDX-License-Identifier: MIT */
/*
 * fault.h - named places that a test can make fail (layer 0).
 *
 * Every place where the kernel may say no asks fault_hit() first.  None is on
 * a fast path, so the points are compiled into every build: what is tested is
 * what is shipped.  A test arms one point to fail its n-th call from now, and
 * asks afterwards whether it fired.
 */
#ifndef PP_BASE_FAULT_H
#define PP_BASE_FAULT_H

#include <stdbool.h>

#include "base/atomic.h"

#define PP_FAULT_POINTS(X) \
	X(RESERVE, "mmap of a pool's address range") \
	X(COMMIT,  "mprotect of a further part of it") \
	X(PURGE,   "madvise(MADV_DONTNEED)") \
	X(HUGE,    "madvise for or against huge pages") \
	X(MOVE,    "mremap of a long run") \
	X(RESET,   "mmap over a range that was moved to") \
	X(STORAGE, "mmap for thread caches") \
	X(KEY,     "pthread_key_create and pthread_setspecific") \
	X(MEMBARRIER, "registering for membarrier(2)") \
	X(THREAD,  "pthread_create of a background thread") \
	X(EVENTFD, "eventfd2 for a level of pressure") \
	X(UNSHARE, "close_range for descriptors of a thread's own") \
	X(NOTIFY,  "inotify_init1 and inotify_add_watch") \
	X(BIND,    "mbind of a zone's address range") \
	X(BARRIER, "the membarrier(2) of a drain") \
	X(OPEN,    "open of a file of the system's or the container's") \
	X(READ,    "read of one") \
	X(POLICY,  "get_mempolicy for nodes and policy of the process") \
	X(DUP,     "fcntl for a second descriptor of an eventfd") \
	X(LISTEN,  "socket, connect and first write for outside pressure") \
	X(CHARGE,  "pages of the pool's own: tables, threads' caches") \
	X(CLAIM,   "pages from a zone, for runs and slabs") \
	X(NUMBER,  "the number of a new slab") \
	X(OBJECT,  "an object of the pool's own: a cache, a shrinker")

enum fault_point {
#define X(name, what) FAULT_##name,
	PP_FAULT_POINTS(X)
#undef X
	NR_FAULT_POINTS
};

/* In place of n: from now on, until armed otherwise. */
#define FAULT_ALWAYS	UINT32_MAX

/* Calls to go until the point fails; 0: not armed. */
extern _Atomic uint32_t fault_countdown[NR_FAULT_POINTS];

static inline void fault_arm(enum fault_point point, uint32_t nth)
{
	store_relaxed(&fault_countdown[point], nth);
}

bool fault_count(enum fault_point point);

static inline bool fault_hit(enum fault_point point)
{
	return unlikely(load_relaxed(&fault_countdown[point])) &&
	       fault_count(point);
}

#endif
