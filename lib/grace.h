/* SPDX-License-Identifier: MIT */
/*
 * grace.h - what a thread may take that malloc has just refused (layer 2).
 *
 * A program that gets NULL makes an exception, a traceback, a line in a log or
 * an answer that says so, and needs a little memory for that.  For 100 ms, or
 * until one of its requests is served as any other's, the thread's small
 * requests may take half of the reserve, as with PP_HIGH; not without end,
 * since there may be many such threads and some may never give in.
 *
 * G1: between two refusals that begin a grace, those outside of one or of more
 *     than its requests may be, GRACE_MAX_DIPS requests take from the reserve
 */
#ifndef PP_GRACE_H
#define PP_GRACE_H

#include <stdbool.h>

#include "base/atomic.h"
#include "base/compiler.h"

#define GRACE_NS		100000000ull
/* What counts as small. */
#define GRACE_MAX_BYTES		(64u << 10)
/* Requests that reach the zone; each may fill a magazine or a slab of the
 * smallest size. */
#define GRACE_MAX_DIPS		64u

#pragma GCC visibility push(hidden)
/* The thread's own; a handler on top of it may end or begin one, and no more.
 * until_ns is 0: none. */
extern __thread struct grace {
	uint64_t	until_ns;
	uint32_t	nr_dips;
} grace_of_thread;
#pragma GCC visibility pop

/* malloc refuses @bytes. */
void grace_begin(uint64_t bytes);

/* May the thread's request for @bytes, which the zones refused, take from the
 * reserve?  Counts it. */
bool grace_take(uint64_t bytes);

/* A request was served as any other's. */
static inline void grace_end(void)
{
	if (unlikely(grace_of_thread.until_ns))
		grace_of_thread.until_ns = 0;
}

#endif
