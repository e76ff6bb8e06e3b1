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
}

bool grace_is_for(uint64_t bytes)
{
	struct grace *g = &grace_of_thread;

	return g->until_ns && bytes <= GRACE_MAX_BYTES &&
	       os_now_ns() < g->until_ns;
}
