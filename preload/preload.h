/* SPDX-License-Identifier: MIT */
/*
 * preload.h - how the malloc family finds its pool, and libc's own functions.
 *
 * Unlike the other users of the library, these files include its internal
 * headers: the fast paths of malloc and free are those of pcp.h and slab.h,
 * inlined, and a call more would be a quarter of their time.
 */
#ifndef PP_PRELOAD_H
#define PP_PRELOAD_H

#include "pool.h"

/*
 * Has the dynamic linker relocated this library?  Before, nothing may be
 * touched that goes through its tables: no function of libc, no errno.
 */
bool preload_is_relocated(void);

/*
 * The pool, made if need be; NULL while the dynamic linker has not relocated
 * this library: the early area serves then.
 */
struct pp_pool *preload_pool(void);

/* The pool if there is one, without making it. */
static inline struct pp_pool *preload_pool_if_made(void)
{
	return pool_default_is_ready() ? &pool_of_process : NULL;
}

/* libc's own, for pointers that are not ours.  Set by our constructor. */
struct libc_malloc {
	void	(*free)(void *p);
	size_t	(*usable_size)(void *p);
};

extern struct libc_malloc libc_malloc;

/* The @name that comes after this library; never @own, ours.  NULL: none. */
void *preload_next_symbol(const char *name, const void *own);

/* Finds the functions of libc that interpose.c stands in front of. */
void preload_interpose(void);

/* The same for those of idle.c. */
void preload_find_waits(void);

/* Registers the handlers that make fork safe beside stdio; see fork.c. */
void preload_hook_fork(void);

#endif
