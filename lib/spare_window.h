/* SPDX-License-Identifier: MIT */
/*
 * spare_window.h - how much spare memory nobody has wanted for a while
 * (layer 2).
 *
 * The time that memory may stay unused before it goes back to the kernel is cut
 * into slots.  Each slot has the least number of spare pages that there were in
 * it; so many were of no use to anybody in that time, whichever they were.
 *
 *	spare	    ____
 *	  ________/	\___   ____________
 *	 /		    \_/		   \__
 *	|  low  |  low  |  low  |  low  |  now	...  a slot more than the delay
 *			  ^ the least of all: idle for the whole delay
 *
 * The idea of a delay in slots is that of jemalloc's decay (J. Evans, 2016);
 * there each slot counts the pages that became free in it.  Counting the least
 * there was needs no stamp on any page, and memory that is freed and used
 * again in turn is never idle.
 *
 * Plain numbers: the zone's lock guards them.
 */
#ifndef PP_SPARE_WINDOW_H
#define PP_SPARE_WINDOW_H

#include <stdbool.h>

#include "base/bits.h"

#define SPARE_WINDOW_DELAY_SLOTS	32u
/* The slot of now is not over yet. */
#define SPARE_WINDOW_SLOTS		(SPARE_WINDOW_DELAY_SLOTS + 1)
/* Timers are no finer. */
#define SPARE_WINDOW_MIN_SLOT_NS	1000000ull

struct spare_window {
	uint64_t	low_pages[SPARE_WINDOW_SLOTS];
	uint64_t	end_ns;		/* of the slot of now */
	unsigned	now;
};

static inline uint64_t spare_window_slot_ns(uint64_t delay_ns)
{
	return max_u64(delay_ns / SPARE_WINDOW_DELAY_SLOTS,
		       SPARE_WINDOW_MIN_SLOT_NS);
}

/* There are @spare_pages now: after each use of some. */
static inline void spare_window_note(struct spare_window *w,
				     uint64_t spare_pages)
{
	if (spare_pages < w->low_pages[w->now])
		w->low_pages[w->now] = spare_pages;
}

/**
 * spare_window_advance() - on to the slot that @now_ns is in.
 * @spare_pages: as many as there are.
 *
 * Of slots that nobody advanced to when it was time it is only known that
 * spare memory was not below the low of the slot before them.
 */
void spare_window_advance(struct spare_window *w, uint64_t now_ns,
			  uint64_t slot_ns, uint64_t spare_pages);

/* Pages that were spare in all slots. */
uint64_t spare_window_idle_pages(const struct spare_window *w);

/* So many spare pages are none any more, without anybody having used them. */
void spare_window_take(struct spare_window *w, uint64_t nr_pages);

/* So many pages became spare just now which nobody had used for the last @slots
 * slots: they were in the cache of a thread that sleeps. */
void spare_window_add_idle(struct spare_window *w, uint64_t nr_pages,
			   unsigned slots);

#endif
