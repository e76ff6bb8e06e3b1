/* SPDX-License-Identifier: MIT */
/*
 * thread.h - the one thread-local word of the library (layer 0).
 *
 * pp_self points to the calling thread's cache, or to one of two constants
 * that say why there is none (see pcp.h).  It is the only thread-local
 * storage there is, so that the library can be loaded late by dlopen, and its
 * address doubles as the thread's identity: no two live threads share it.
 */
#ifndef PP_BASE_THREAD_H
#define PP_BASE_THREAD_H

#include "base/compiler.h"

struct pcp;

extern __thread struct pcp *pp_self __attribute__((visibility("hidden")));

static inline uintptr_t thread_identity(void)
{
	return (uintptr_t)&pp_self;
}

#endif
