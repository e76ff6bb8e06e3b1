/* SPDX-License-Identifier: MIT */
/*
 * purge.h - giving memory back to the kernel that nobody wants (layer 8).
 *
 * When: what was spare for the whole of PURGE_DELAY (spare_window.h), and under
 * pressure from outside the process a share of what is spare at once.
 * Which: entirely free blocks first, the highest first.  Holes in blocks that
 * are partly used only where there are many, beyond 1/32 of what is used: they
 * cost a system call each and are the first to be used again.  A few MiB always
 * stay (zone_keep_pages()).
 */
#ifndef PP_PURGE_H
#define PP_PURGE_H

#include "pcp.h"

#define PURGE_NEVER_NS	UINT64_MAX

/**
 * purge_look() - purge what is due in one zone.
 * @delay_ns: how long memory may stay spare.
 * @budget_pages: how many pages at the most.
 *
 * Context: no lock held; system calls.
 * Return: when to look again, in ns from now; PURGE_NEVER_NS: not before the
 * zone is kicked for what it has in excess.
 */
uint64_t purge_look(struct zone *zone, uint64_t now_ns, uint64_t delay_ns,
		    uint64_t budget_pages);

/* A quarter of what is spare, but not what always stays.  Returns pages. */
uint64_t purge_share(struct zone *zone);

/* What drained caches gave the zone was idle for @idle_ns already. */
void purge_add_idle(struct zone *zone, uint64_t drained_pages,
		    uint64_t idle_ns, uint64_t delay_ns);

#endif
