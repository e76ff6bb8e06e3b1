/* SPDX-License-Identifier: MIT */
/*
 * reclaimd.h - the background threads of a pool, one a zone (layer 9).
 *
 * The kernel's counterpart is kswapd.  For its zone a thread
 *	balances	when a claim left free memory at low or below: shrinkers
 *			are asked until it is above high again (vmscan.h), by a
 *			thread of call_service.h, for they may be stuck.  Runs
 *			that free nothing are repeated up to a bound; then the
 *			zone is hopeless, and left to those who need memory
 *	purges		what was spare for PURGE_DELAY (purge.h)
 *
 * and the one of the first zone for the whole pool
 *	drains		the caches of other threads, for requests that would
 *			fail otherwise (drain_service.h)
 *	ticks		once a second, and more often while memory is short:
 *			folds all counters' deltas, chooses their thresholds,
 *			and empties the caches that nobody used
 *	answers		pressure from outside, a share at a time
 *	follows		the limit of the container, which the watch has found
 *			to be another (watch.h)
 *
 * A thread that has nothing to do rests, for as long as nothing happens: no
 * memory is in excess, no cache holds anything.  It is kicked by
 *
 *	a claim that leaves free memory at low		reclaim_wanted, kick
 *	a release that makes spare memory excessive	watch_excess, kick
 *	a cache that is granted something		resting, kick
 *	a request for a drain, or pressure		kick
 *	a run that ends with memory low			out, kick
 *
 * Each of these changes its word first and then kick (release), and the thread
 * reads kick (acquire) before it looks at any of them, and whether it is to
 * stop, and sleeps only on the value it read: none is lost.
 *
 * The thread that has made a run waits LINGER_NS for the next one to be wanted.
 * As long as has_balancer says so, a claim that leaves free memory at low wakes
 * that one, by balance_kick, and not reclaimd.
 *
 * The threads are made when the program makes its first own, or a user of the
 * library a pool; never from inside an allocation, since pthread_create()
 * allocates, and the loader's locks may be held.  They have no descriptor (see
 * helper_thread.h for the rest), and do not exist in the child of a fork.
 * Where there is none, requests do a slice of the work
 * (inline_reclaim.h).
 *
 * Allocating nothing, reclaim needs no memory to free some; callbacks of the
 * program that allocate are served from the reserve.
 *
 * I1: state is RUNNING iff there is a thread
 */
#ifndef PP_RECLAIMD_H
#define PP_RECLAIMD_H

#include "call_service.h"
#include "drain_service.h"
#include "helper_thread.h"

enum reclaimd_state { RECLAIMD_NONE, RECLAIMD_STARTING, RECLAIMD_RUNNING };

/* What it has done by others, for callbacks are run. */
struct reclaimd_task {
	struct call		call;	/* first */
	struct reclaimd		*reclaimd;
	uint32_t		number;	/* each time another, never 0 */
	/* reclaimd, and then who does it: the number of the one that is under
	 * way; 0: none.  Not in a copy */
	_Atomic uint32_t	out;
};

struct reclaimd {
	/* const after reclaimd_init_all() */
	struct pcp_registry	*reg;
	struct zone		*zone;

	/* any thread */
	_Atomic int		state;
	_Atomic bool		stop;
	_Atomic uint64_t	next_run_ns;	/* after one in vain */
	_Atomic uint64_t	run_since_ns;	/* the last */

	/* who starts and stops it */
	struct helper_thread	thread;

	/* the thread */
	uint64_t		next_tick_ns;
	uint64_t		tick_ns;
	uint64_t		next_purge_ns;
	uint64_t		purge_delay_ns;	/* as it was then */
	uint64_t		next_outside_ns;
	struct reclaimd_task	run, share;
	uint32_t		seen_outside;	/* events that were answered */
	uint64_t		followed_bytes;	/* see follow_limit() */
	uint64_t		next_follow_ns;
	bool			is_behind;
	bool			purge_rests;	/* until there is an excess */
	bool			has_held;	/* caches may hold something */

	/* reclaimd's list lock */
	struct reclaimd		*next;
};

/* @all: one a zone, zeroed. */
void reclaimd_init_all(struct reclaimd *all, struct pcp_registry *reg);

/**
 * reclaimd_start_all() - make the threads that are not there yet.
 * Context: not from inside an allocation; no lock held.
 * Where one cannot be made, requests do without.
 */
void reclaimd_start_all(struct pcp_registry *reg);
bool reclaimd_is_running(struct pcp_registry *reg);

/* Ends the threads and waits for them.  No lock held. */
void reclaimd_stop_all(struct pcp_registry *reg);

/* In the child of a fork, while it is alone: the threads are not there. */
void reclaimd_forget_all(struct pcp_registry *reg);

#endif
