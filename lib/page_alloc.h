/* SPDX-License-Identifier: MIT */
/*
 * page_alloc.h - one attempt at a run, and the way back (layer 7).
 *
 * From the thread's cache if it has a run of that length, else from the zone.
 * Callers have entered the thread's cache, or have none (@pcp is NULL).  The
 * attempt that does not give up so easily is alloc_pages() in slowpath.h.
 */
#ifndef PP_PAGE_ALLOC_H
#define PP_PAGE_ALLOC_H

#include "pagepool.h"
#include "pcp.h"

/* Beside PP_*: the request of the thread that has the claim, see claim.h. */
#define PAGE_CLAIMANT	0x10000u

struct page_request {
	uint64_t	nr_pages;
	uint64_t	align_pages;	/* a power of two */
	unsigned	flags;		/* PP_* */
	unsigned	node;		/* 1 + the zone to begin with; 0: the
					 * policy says which */
	bool		may_grow;	/* reallocated: it will be again */
	bool		exact;		/* no longer than that; not cached */
};

struct page_result {
	bool		zeroed;		/* the run reads as zeroes */
	enum failure	why;		/* valid after NULL */
};

/* Beside PP_*: the thread works for a victim that is to end. */
#define PAGE_OF_VICTIM	0x80000000u

/* Any of these lets a request have what is below min. */
#define PAGE_OF_RESERVE	(PP_HIGH | PP_MEMALLOC | PAGE_OF_VICTIM)

/**
 * page_floor_pages() - what a request must leave free.
 *
 * Source: Linux mm/page_alloc.c since 6.3, __zone_watermark_ok(): HIGH may
 * use half of min, HIGH that cannot wait 5/8 of it, MEMALLOC all; a victim
 * half, whatever else it is.  Who may use nothing of min leaves what another
 * thread has claimed, too.
 */
uint64_t page_floor_pages(struct zone *zone, unsigned flags);

void *page_alloc_once(struct pcp_registry *reg, struct pcp *pcp,
		      const struct page_request *req,
		      struct page_result *result);

/* @page: of the span; @word: its in the map, just read: a live run. */
void page_free(struct pcp_registry *reg, struct pcp *pcp, uint64_t page,
	       uint32_t word);

/*
 * Another length without moving.  True if the run at @page has @nr_pages, or
 * up to an eighth more, now.
 */
bool page_resize(struct pcp_registry *reg, uint64_t page, uint32_t word,
		 uint64_t nr_pages, uint64_t floor_pages);

/*
 * Another place in its zone for a run of whole blocks, by moving the memory
 * (mremap).
 * Return: the new address, or NULL: nothing has changed, copy instead.
 */
void *page_move(struct pcp_registry *reg, uint64_t page, uint32_t word,
		uint64_t nr_pages, uint64_t floor_pages);

#endif
