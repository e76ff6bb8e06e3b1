/* SPDX-License-Identifier: MIT */
/* spare_window.c - see spare_window.h. */
#include "spare_window.h"

static void next_slot(struct spare_window *w, uint64_t low_pages)
{
	w->now = (w->now + 1) % SPARE_WINDOW_SLOTS;
	w->low_pages[w->now] = low_pages;
}

void spare_window_advance(struct spare_window *w, uint64_t now_ns,
			  uint64_t slot_ns, uint64_t spare_pages)
{
	uint64_t missed;

	if (now_ns < w->end_ns)
		return;
	missed = min_u64((now_ns - w->end_ns) / slot_ns,
			 SPARE_WINDOW_DELAY_SLOTS);
	while (missed--)
		next_slot(w, w->low_pages[w->now]);
	next_slot(w, spare_pages);
	w->end_ns = now_ns + slot_ns;
}

uint64_t spare_window_idle_pages(const struct spare_window *w)
{
	uint64_t least = w->low_pages[0];

	for (unsigned i = 1; i < SPARE_WINDOW_SLOTS; i++)
		least = min_u64(least, w->low_pages[i]);
	return least;
}

void spare_window_take(struct spare_window *w, uint64_t nr_pages)
{
	for (unsigned i = 0; i < SPARE_WINDOW_SLOTS; i++)
		w->low_pages[i] -= min_u64(w->low_pages[i], nr_pages);
}

void spare_window_add_idle(struct spare_window *w, uint64_t nr_pages,
			   unsigned slots)
{
	for (unsigned i = 0; i <= slots && i < SPARE_WINDOW_SLOTS; i++)
		w->low_pages[(w->now + SPARE_WINDOW_SLOTS - i) %
			     SPARE_WINDOW_SLOTS] += nr_pages;
}
