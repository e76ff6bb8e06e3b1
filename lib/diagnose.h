/* SPDX-License-Identifier: MIT */
/*
 * diagnose.h - what is wrong with a pointer (layer 12).
 *
 * The fast paths only find out that a pointer is not what it should be; this
 * says why, in the line before the end.
 */
#ifndef PP_DIAGNOSE_H
#define PP_DIAGNOSE_H

#include "pool.h"

/* Stops the program: @p is not a live allocation of the pool. */
__attribute__((noreturn)) PP_COLD
void diagnose_pointer(struct pp_pool *pool, const void *p, const char *entry);

/* The map's word of the live allocation that starts at @p; stops the program
 * with @entry's name if there is none. */
uint32_t diagnose_live(struct pp_pool *pool, const void *p, const char *entry);

#endif
