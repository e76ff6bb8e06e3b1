/* SPDX-License-Identifier: MIT */
/* show_waiting.h - the line about a request that must not fail (layer 9). */
#ifndef PP_SHOW_WAITING_H
#define PP_SHOW_WAITING_H

#include "vmstat.h"

/* A request for @bytes has waited @waited_ns for memory, because of @why.  One
 * line on standard error, without allocating. */
void show_waiting(uint64_t bytes, uint64_t waited_ns, enum failure why);

#endif
