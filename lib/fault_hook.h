/* SPDX-License-Identifier: MIT */
/*
 * fault_hook.h - the fault points, and who calls back, for the project's own
 * tests of the shared library (layer 12).
 *
 * Exported under PAGEPOOL_PRIVATE.  Points have numbers from 0 up, as
 * base/fault.h lists them.
 */
#ifndef PP_FAULT_HOOK_H
#define PP_FAULT_HOOK_H

#include <stdbool.h>
#include <stdint.h>

#pragma GCC visibility push(default)

/* NULL: there is no such point. */
const char *pagepool_fault_name(unsigned point);

/* The @nth call from now fails; 0: none. */
void pagepool_fault_arm(unsigned point, uint32_t nth);

/* Calls to go until it fails; 0 afterwards.  Armed with more than there will
 * ever be, a point counts. */
uint32_t pagepool_fault_left(unsigned point);

/* pp_pool_check() of all pools: 0, or the first error. */
int pagepool_fault_check(void);

/* In a callback: does nobody wait for it, since it is called for reclaimd? */
bool pagepool_call_is_background(void);

#pragma GCC visibility pop

#endif
