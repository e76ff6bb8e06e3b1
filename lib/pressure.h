/* SPDX-License-Identifier: MIT */
/*
 * pressure.h - telling the program that memory is getting short (layer 8).
 *
 *	free	______				    ____
 *	high -- - - - \ - - - - - - - - - - - - - -/- - -   the episode is over
 *	low  -- - - - -\- - - - - - - - - - - - - /- - -   LOW
 *	min  -- - - - - \__  _ - - - - - - - - - /- - - -   MIN
 *			   \/ \_______________/		    OOM: it did not help
 *
 * Each level is told once an episode, lower ones before higher ones, by writing
 * to eventfds and by a signal, in the thread that noticed, outside of all locks
 * and with the thread's cache left.  Zones know whether free memory was above
 * high; that ends an episode, whoever freed it.
 *
 * A descriptor belongs to the program and may be closed at any time, and its
 * number be that of something else then: what it is is looked at before each
 * write, and one that is none of ours is forgotten.
 *
 * R1: told has the bits of all levels up to the highest that was told
 */
#ifndef PP_PRESSURE_H
#define PP_PRESSURE_H

#include "pagepool/reclaim.h"
#include "pcp.h"

#define PRESSURE_NR_LEVELS	3u

struct pressure {
	/* config writes, any thread reads */
	_Atomic int	signal;		/* 0: none */

	/* lock (rank LEAF) to write, any thread reads */
	struct lock	lock;
	_Atomic unsigned told;		/* bit i: level i, in this episode */

	/* lock */
	unsigned	nr_fds;
	struct {
		int			fd;
		enum pp_pressure	level;
	} fds[PP_PRESSURE_MAX_FDS];
};

void pressure_init(struct pressure *p, int signal);

/**
 * pressure_raise() - memory is as short as that, or shorter.
 * @level: it and those below it are told if they were not, this episode.
 * Context: no lock held, the thread's cache left; system calls.
 */
void pressure_raise(struct pcp_registry *reg, enum pp_pressure level);

/* A claim found memory low: raises what is due. */
void pressure_look(struct pcp_registry *reg);

/* Another descriptor; it, -ENOSPC, or what eventfd(2) said. */
int pressure_add_fd(struct pressure *p, enum pp_pressure level);

/* In the child of a fork: the descriptors are the parent's. */
void pressure_forget(struct pressure *p);

#endif
