/* SPDX-License-Identifier: MIT */
/*
 * grace.h - what a thread may take that malloc has just refused (layer 2).
 *
 * A program that gets NULL makes an exception, a traceback, a line in a log or
 * an answer that says so, and needs a little memory for that.  For 100 ms, or
 * until it is given pages while more than low is free, the thread's small
 * requests may take half of the reserve, as with PP_HIGH.  What is refused in a
 * grace begins no other: who goes on as if nothing were comes to an end.
 */
#ifndef PP_GRACE_H
#define PP_GRACE_H

#include <stdbool.h>

#include "base/atomic.h"
#include "base/compiler.h"

#define GRACE_NS		100000000ull
/* What counts as small: what comes from slabs. */
#define GRACE_MAX_BYTES		(16u << 10)

#pragma GCC visibility push(hidden)
/* The thread's own; a handler on top of it may end or begin one, and no more.
 * until_ns is 0: none. */
extern __thread struct grace {
	uint64_t	until_ns;
} grace_of_thread;
#pragma GCC visibility pop

/* malloc refuses @bytes. */
void grace_begin(uint64_t bytes);

/* May the thread's request for @bytes, which the zones refused, take from the
 * reserve? */
bool grace_is_for(uint64_t bytes);

/* Has the thread one, or had one that nothing has ended yet? */
static inline bool grace_is_begun(void)
{
	return unlikely(grace_of_thread.until_ns);
}

static inline void grace_end(void)
{
	grace_of_thread.until_ns = 0;
}

#endif
