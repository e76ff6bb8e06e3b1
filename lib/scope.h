/* SPDX-License-Identifier: MIT */
/*
 * scope.h - flags that a thread adds to all its requests (layer 2).
 *
 * Code that must not be called back says so once, and not in each request of
 * all that it calls (Linux: memalloc_nofs_save() and its kin).  Scopes nest by
 * saving what was before.  A word of the thread's own, because a scope is left
 * in the thread that entered it, and may be entered before the thread has a
 * cache.
 */
#ifndef PP_SCOPE_H
#define PP_SCOPE_H

#include <stdbool.h>

#include "base/compiler.h"
#include "pagepool.h"

#define SCOPE_FLAGS	(PP_NOIO | PP_NOFS | PP_MEMALLOC)

/* Not for requests: what libc allocates just now is on the pool's behalf, and
 * none of the program's own requests (see pool_injects()). */
#define SCOPE_INTERNAL	0x80000000u

#pragma GCC visibility push(hidden)
extern __thread unsigned scope_of_thread; /* SCOPE_FLAGS, SCOPE_INTERNAL */
#pragma GCC visibility pop

static inline unsigned scope_add(unsigned flags)
{
	return flags | (scope_of_thread & SCOPE_FLAGS);
}

static inline unsigned scope_enter(unsigned flags)
{
	unsigned saved = scope_of_thread;

	scope_of_thread = saved | (flags & SCOPE_FLAGS);
	return saved;
}

static inline unsigned scope_enter_internal(void)
{
	unsigned saved = scope_of_thread;

	scope_of_thread = saved | SCOPE_INTERNAL;
	return saved;
}

static inline bool scope_is_internal(void)
{
	return scope_of_thread & SCOPE_INTERNAL;
}

static inline void scope_leave(unsigned saved)
{
	scope_of_thread = saved;
}

#endif
