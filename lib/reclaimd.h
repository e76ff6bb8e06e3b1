/* SPDX-License-Identifier: MIT */
/*
 * reclaimd.h - the background thread of a pool (layer 9).
 *
 * It does what no allocating thread may do: it empties the caches of other
 * threads, for requests that would fail otherwise, and those of idle threads.
 * The kernel's counterpart is kswapd.
 *
 * A request for a drain draws a ticket; a drain serves all tickets that were
 * drawn before it began.  So any number of threads that fail together need
 * one drain.  Two drains begin at least RECLAIMD_INTERVAL_NS apart.  Where
 * there is no thread, those who want a drain do it themselves under the same
 * rule, one at a time.
 *
 * Once a second the thread folds all counters' deltas, chooses their thresholds
 * by whether memory is short, and looks for caches that nobody used.  When no
 * cache holds anything it rests until one is granted something, a request is
 * not served at once, or a drain is asked for.
 *
 * It is also the one that changes the limit of a pool when its container gets
 * another: what was found out by the watch is here put into effect.
 *
 * The thread is made when the program makes its first own, or a user of the
 * library a pool; never from inside an allocation, since pthread_create()
 * allocates, and the loader's locks may be held.  It has no descriptor (see
 * helper_thread.h for the rest), and does not exist in the child of a fork.
 *
 * I1: done <= wanted, as differences of 32 bits
 * I2: state is RUNNING iff there is a thread
 */
#ifndef PP_RECLAIMD_H
#define PP_RECLAIMD_H

#include "helper_thread.h"
#include "pcp_drain.h"

/* At most twenty drains a second. */
#define RECLAIMD_INTERVAL_NS	50000000ull
/* What a request waits at the most. */
#define RECLAIMD_WAIT_NS	1000000000ull

enum reclaimd_state { RECLAIMD_NONE, RECLAIMD_STARTING, RECLAIMD_RUNNING };

struct reclaimd {
	/* const after reclaimd_init() */
	struct pcp_registry	*reg;

	/* any thread */
	_Atomic uint32_t	wanted;		/* tickets drawn */
	_Atomic uint32_t	done;		/* tickets served; a futex */
	_Atomic uint64_t	next_ns;	/* no drain begins before */
	_Atomic int		state;
	_Atomic bool		stop;

	/* the thread */
	uint64_t		followed_bytes;	/* see follow_limit() */
	uint64_t		next_follow_ns;
	bool			is_behind;

	/* who starts and stops it */
	struct helper_thread	thread;

	/* reclaimd's list lock */
	struct reclaimd		*next;
};

void reclaimd_init(struct reclaimd *r, struct pcp_registry *reg);

/**
 * reclaimd_start() - make the thread, if there is none yet.
 * Context: not from inside an allocation; no lock held.
 * Return: 0, or -errno: requests then drain for themselves.
 */
int reclaimd_start(struct reclaimd *r);

/* Ends the thread and waits for it.  No lock held. */
void reclaimd_stop(struct reclaimd *r);

/* In the child of a fork, while it is alone: the thread is not there. */
void reclaimd_forget(struct reclaimd *r);

/**
 * reclaimd_drain() - have all caches emptied that hold anything now.
 * @self: the caller's own cache, flushed already and marked as waiting by
 *        pcp_wait_begin(), or NULL.
 *
 * Context: no lock held.  Waits, RECLAIMD_WAIT_NS at the most.
 * Return: false if that time passed.
 */
bool reclaimd_drain(struct reclaimd *r, struct pcp *self);

/**
 * reclaimd_drain_now() - the same at once and by the caller, for a program
 * that asks for it.
 * Return: 0, or -EBUSY as pcp_drain_all().
 */
int reclaimd_drain_now(struct reclaimd *r, struct pcp *self);

#endif
