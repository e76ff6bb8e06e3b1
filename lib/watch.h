/* SPDX-License-Identifier: MIT */
/*
 * watch.h - what happens outside of the pool: pressure, other limits
 * (layer 12).
 *
 * One thread for the process sleeps in poll(2) on two things:
 *
 *	pressure	a source that os/psi.h found.  An event is counted in
 *			each pool, whose reclaimd is woken.
 *	limits		inotify on the files that limit the control groups.
 *			When one is written, the limit auto is worked out again
 *			and told to each pool, whose reclaimd follows.
 *
 * Every so often it looks by itself: whether the process is in another group,
 * or has other resource limits; every minute where inotify works, every 5 s
 * where it does not.
 *
 * Its descriptors are in a table of its own, and none of the program's is in
 * there: so a program that closes all descriptors closes none of these, the
 * next one that it opens has the number that it expects, and no pipe stays open
 * because of us.  Where the kernel or a filter refuses such a table there is no
 * watch.
 *
 * It does nothing else: what it finds out is a word in each pool, and reclaimd
 * is who acts.  It is not reclaimd itself, because one thread cannot sleep on a
 * futex and in poll(2) at once, and to be woken by a descriptor would need one
 * in the program's table.
 *
 * A program that confines itself by a filter of system calls may have one that
 * kills: from then on there are no further looks, only what is open already.
 *
 * I1: state is WATCH_RUNNING iff there is a thread that goes on
 */
#ifndef PP_WATCH_H
#define PP_WATCH_H

#include "pool.h"

enum watch_state {
	WATCH_NONE,
	WATCH_STARTING,
	WATCH_RUNNING,
	WATCH_IDLE,	/* there was nothing to watch; the thread has ended */
	WATCH_REFUSED,	/* for good, likewise */
};

/**
 * watch_start() - make the thread, if there is something to watch.
 * @pool: whose reclaimd was to be started just now; without it no watch.
 *
 * Context: not from inside an allocation; no lock held.
 */
void watch_start(struct pp_pool *pool);

/* In the child of a fork, while it is alone: the thread is not there. */
void watch_forget(void);

/* A pool is gone: joins the thread if it has ended.  No lock held. */
void watch_reap(void);

/* For tests. */
enum watch_state watch_state(void);

#endif
