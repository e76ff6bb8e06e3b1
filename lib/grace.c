/* SPDX-License-Identifier: MIT */
/* grace.c - see grace.h. */
#include "grace.h"

#include "os/os.h"

__thread struct grace grace_of_thread;

void grace_begin(uint64_t bytes)
{
	struct grace *g = &grace_of_thread;

	uint64_t now = os_now_ns();

	/* Whoever goes on as if nothing were has had it. */
	if (now < g->until_ns && bytes <= GRACE_MAX_BYTES)
		return;
	g->until_ns = now + GRACE_NS;
	g->nr_dips = 0;
}

bool grace_take(uint64_t bytes)
{
	struct grace *g = &grace_of_thread;

	if (!g->until_ns || bytes > GRACE_MAX_BYTES ||
	    g->nr_dips >= GRACE_MAX_DIPS || os_now_ns() >= g->until_ns)
		return false;
	g->nr_dips++;
	return true;
}
