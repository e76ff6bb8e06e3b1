/* SPDX-License-Identifier: MIT */
/*
 * slowpath.h - a run, or the reason why not (layer 10).
 *
 * What an allocation does before it gives up, each step only if the one before
 * it did not help:
 *
 *	1. one attempt
 *	2. not if it could never fit, and not with PP_NORETRY:
 *	   the thread's own cache, small objects included, the depots of all
 *	   size classes, and after a fork the caches of threads that are gone,
 *	   go back to the zone; a second attempt
 *	3. not if it may not wait, and only where that could be enough:
 *	   the caches of all other threads are drained (reclaimd.h); a third
 *	   attempt, the last
 *
 * Nobody asks for a drain when what others hold would not make up for what is
 * missing, and below min their frees pass the caches by (pcp.c), so that an
 * episode at the limit needs one drain, and not one for each failure.
 */
#ifndef PP_SLOWPATH_H
#define PP_SLOWPATH_H

#include "page_alloc.h"
#include "reclaimd.h"

/**
 * alloc_pages() - pages for the caller, who has entered @pcp or has none.
 *
 * Return: the run; NULL with result->why, once everything in reach was tried.
 */
void *alloc_pages(struct pcp_registry *reg, struct pcp *pcp,
		  const struct page_request *req, struct page_result *result);

#endif
