/* SPDX-License-Identifier: MIT */
/*
 * early.h - memory for calls that come when the pool cannot serve.
 *
 * Two kinds of callers.  Before libc is ready: IFUNC resolvers, dlsym,
 * constructors that run before ours.  And signal handlers that interrupted
 * malloc itself, in the same thread.  Neither can take a lock, so the area is
 * a few bit fields claimed by compare-and-swap: static memory of which only
 * what is used is ever touched, without initialisation, without calls into
 * libc.  When it is full, NULL.
 *
 *	word i of the field: 64 chunks of 512 bytes; a block is 1..64 in a row
 *	[ pad | header | block ........ ]
 */
#ifndef PP_EARLY_H
#define PP_EARLY_H

#include <stdbool.h>
#include <stddef.h>

/* The most that one block can hold, at 16 bytes of alignment. */
#define EARLY_MAX_BYTES	(64 * 512 - 16)

/* Zeroed memory, or NULL.  @align_bytes: a power of two. */
void *early_alloc(size_t bytes, size_t align_bytes);
void early_free(void *p);

/* @p: of this area.  NULL: @p is as it was. */
void *early_realloc(void *p, size_t bytes);
bool early_owns(const void *p);
size_t early_usable_bytes(const void *p);

#endif
