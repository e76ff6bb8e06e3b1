/* SPDX-License-Identifier: MIT */
/*
 * slowpath.h - a run, or the reason why not (layer 10).
 *
 * What an allocation does before it gives up.  Today: one attempt; then the
 * thread's own cache, small objects included, the depots of all size classes,
 * and after a fork the caches of the threads that are gone, go back to the
 * zone; then a second attempt.
 */
#ifndef PP_SLOWPATH_H
#define PP_SLOWPATH_H

#include "page_alloc.h"

/**
 * alloc_pages() - pages for the caller, who has entered @pcp or has none.
 *
 * Return: the run; NULL with result->why, once everything in reach was tried.
 */
void *alloc_pages(struct pcp_registry *reg, struct pcp *pcp,
		  const struct page_request *req, struct page_result *result);

#endif
