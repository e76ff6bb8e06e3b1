/* SPDX-License-Identifier: MIT */
/*
 * drain_service.h - one drain for all who want one (layer 9).
 *
 * A request for a drain draws a ticket; a drain serves all tickets that were
 * drawn before it began.  So any number of threads that fail together need
 * one drain.  Between two drains lies at least DRAIN_INTERVAL_NS, and nine
 * times what the last one took: they have a tenth of a CPU at the most.  But a
 * drain may take a second, if a thread has no processor for so long while it
 * is inside; and a request that failed for want of the next would leave memory
 * hidden.  So no rest is longer than an eighth of what a request waits, or
 * DRAIN_INTERVAL_NS.
 * reclaimd drains; where there is no thread, those who want a drain do it
 * themselves under the same rule, one at a time.
 *
 * What drained caches held is nowhere for a moment; who adds everything up sees
 * by the sequence that a drain came in between.
 *
 * T1: done <= wanted, as differences of 32 bits
 * T2: next_ns <= the end of the last drain
 *		  + max(DRAIN_INTERVAL_NS,
 *			min(oom_timeout, DRAIN_WAIT_NS) / DRAIN_REST_DIVISOR)
 *     with oom_timeout as it was then
 */
#ifndef PP_DRAIN_SERVICE_H
#define PP_DRAIN_SERVICE_H

#include "pcp_drain.h"

/* Between two looks at idle caches. */
#define DRAIN_IDLE_NS		1000000000ull
#define DRAIN_INTERVAL_NS	1000000ull
#define DRAIN_REST_FACTOR	9u
/* What a request waits at the most; oom_timeout, if that is less. */
#define DRAIN_WAIT_NS		1000000000ull
#define DRAIN_REST_DIVISOR	8u

struct drain_service {
	/* const after drain_service_init() */
	struct pcp_registry	*reg;

	/* any thread */
	_Atomic uint32_t	wanted;		/* tickets drawn */
	_Atomic uint32_t	done;		/* tickets served; a futex */
	_Atomic uint64_t	next_ns;	/* no drain begins before */
	/* where there is no thread, see inline_reclaim_idle() */
	_Atomic uint64_t	next_idle_ns;	/* at caches */
	_Atomic uint64_t	next_look_ns;	/* at what is spare, too */
	_Atomic bool		has_nothing;	/* there was nothing to do */
	_Atomic bool		has_thread;	/* reclaimd's word */
	_Atomic uint32_t	sequence;	/* odd: a drain is under way */
};

void drain_service_init(struct drain_service *ds, struct pcp_registry *reg);

/* In the child of a fork, while it is alone. */
void drain_service_forget(struct drain_service *ds);

/**
 * drain_ask() - have all caches emptied that hold anything now.
 * @wait_ns: how long to wait, DRAIN_WAIT_NS at the most.
 *
 * reclaimd does it, if there is one; else the caller, when the next drain may
 * begin.
 * Context: no lock held, the thread's cache left.  Waits.
 * Return: false if that time passed.
 */
bool drain_ask(struct drain_service *ds, uint64_t wait_ns);

/**
 * drain_now() - the same at once and by the caller, for a program that asks
 * for it.
 * @self: the caller's own cache, flushed already and marked as waiting by
 *        pcp_wait_begin(), or NULL.
 * Return: 0, or -EBUSY as pcp_drain_all().
 */
int drain_now(struct drain_service *ds, struct pcp *self);

/**
 * drain_idle() - empty the caches that nobody used since the last call.
 * @own: this one only, of the caller; NULL: all.
 * @idle_ns: which was so long ago: as spare memory, what they held need not
 *           wait as long as other memory.
 * Return: how many caches hold anything still.
 */
unsigned drain_idle(struct drain_service *ds, struct pcp *own,
		    uint64_t idle_ns);

/* reclaimd's part: drains if that is wanted and may begin.  How long until it
 * may, in ns; UINT64_MAX: nobody wants one. */
uint64_t drain_serve(struct drain_service *ds, uint64_t now_ns);

#endif
