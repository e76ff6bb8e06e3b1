/* SPDX-License-Identifier: MIT */
/*
 * mempool.h - elements that are set aside for one user (layer 11).
 *
 * A reserve of the pool is shared by all that may dip into it, so a stranger
 * can eat what somebody needs to finish.  A mempool keeps so many elements for
 * one user alone (Linux mm/mempool.c).  Where they come from is its owner's
 * business, by a table of functions.
 *
 *	ALLOC	1 the source, without waiting and without the pool's reserve
 *		2 an element that is set aside, unless others wait for it
 *		3 the source, with all that helps
 *		4 who must not wait: NULL.  Else sleep, in turn, for elements
 *		  that come back; every MEMPOOL_RETRY_NS step 3 once more
 *	FREE	to who waits, else to what is set aside, else to the source
 *
 * Step 3 is what may bring memory that never was the mempool's; step 4 relies
 * on nothing but that elements come back.
 *
 * A ticket is a list of elements that were set aside for one unit of work: all
 * or none, so that two units never wait for each other's halves.  To draw from
 * it takes no lock and cannot fail.  So k units, each of which holds a ticket
 * for all it needs, finish whatever happens elsewhere, one after the other if
 * there is only enough for one.
 *
 * Who waits stands in a queue, with a word of its own to sleep on.  Elements
 * are granted in the order of the queue, by whoever brings them, under the
 * lock; nobody who comes later gets one while somebody stands there without.
 * Granted elements stay in the list until they are fetched, so that the child
 * of a fork, in which the waiters are gone, finds them there.  The word may
 * belong to another frame by the time it is woken: that is a spurious wake-up
 * for whoever sleeps there.
 *
 *	      free			   queue
 *	mp -> [e]->[e]->[e]		[n=1 granted]->[n=3]->[n=1]
 *	       ^ nr_granted of these
 *
 * What is set aside is linked through its first words, with a check beside the
 * link, so that a mempool needs no memory of its own, however large it is made.
 *
 * M1: nr_free == length of the free list
 * M2: nr_granted == sum of nr over the waiters that are granted <= nr_free
 * M3: the first waiter that is not granted wants more than nr_free - nr_granted
 * M4: each element of the free list is parked
 * M5: nr_free + nr_held + nr_out >= nr_min, but for what a growth could not get
 * M6: nr_free + nr_held <= nr_min, or all of nr_free is granted or waited for
 * M3 and M6 hold when whoever changed something is done settling it.
 */
#ifndef PP_MEMPOOL_H
#define PP_MEMPOOL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/lock.h"

#define MEMPOOL_RETRY_NS	5000000000ull

struct mempool_list {
	void	*first;
	size_t	nr;
};

/* How elements are made, and what becomes of them meanwhile.  All are called
 * with no lock held and @arg of mempool_init(). */
struct mempool_ops {
	/* A new element; @flags with PP_NORETRY: without waiting.  PP_ZERO is
	 * honoured. */
	void	*(*alloc)(void *arg, unsigned flags);
	void	(*free)(void *arg, void *element);
	/* It is set aside from here on: its first 16 bytes are ours. */
	void	(*park)(void *arg, void *element);
	/* It is about to be used or freed; @flags: PP_ZERO. */
	void	(*unpark)(void *arg, void *element, unsigned flags);
	/* For M4; the lock is held. */
	bool	(*is_parked)(void *arg, const void *element);
};

struct mempool {
	/* const after mempool_init() */
	const struct mempool_ops *ops;
	void			*arg;
	uint64_t		retry_ns;	/* MEMPOOL_RETRY_NS, but in
						 * tests */

	/* lock */
	struct lock		lock;		/* rank MEMPOOL */
	void			*free;		/* the newest first */
	size_t			nr_min, nr_free, nr_granted;
	size_t			nr_tickets;
	struct mempool_waiter	*head, *tail;	/* the longest wait first */

	/* any thread */
	_Atomic size_t		nr_held;	/* in tickets, or nearly */
	_Atomic size_t		nr_out;		/* with the user */
};

void mempool_init(struct mempool *mp, const struct mempool_ops *ops, void *arg);

/**
 * mempool_resize() - set aside another number of elements.
 *
 * What is too much goes back at once; what is missing is asked of the source,
 * up to the first refusal, and the rest comes from elements that are freed.
 * Return: how many are missing still.
 */
size_t mempool_resize(struct mempool *mp, size_t nr_min);

/* False: elements are out, tickets held, or somebody waits.  Else there is
 * nothing left in it. */
bool mempool_exit(struct mempool *mp);

/* NULL only with PP_NOWAIT or PP_NORETRY.  No lock held; may wait. */
void *mempool_alloc(struct mempool *mp, unsigned flags);

/* False: none was out. */
bool mempool_free(struct mempool *mp, void *element);

/* An element went to the source by another way. */
bool mempool_forget(struct mempool *mp);

/* @list: receives @nr elements.  -ENOMEM as mempool_alloc(); -EINVAL if there
 * are never to be so many. */
int mempool_hold(struct mempool *mp, size_t nr, unsigned flags,
		 struct mempool_list *list);
/* @list has one.  Takes no lock. */
void *mempool_draw(struct mempool *mp, struct mempool_list *list,
		   unsigned flags);
/* What @list has left goes back. */
void mempool_drop(struct mempool *mp, struct mempool_list *list);

/* How many wait and were not granted anything yet.  Lock held. */
size_t mempool_nr_waiting(struct mempool *mp);

/* In the child of a fork, while it is alone, with the lock held: other threads'
 * waiters are gone. */
void mempool_forget_others(struct mempool *mp);

/* The number of the invariant that does not hold, or 0.  Lock held.  M3, M5
 * and M6 are not looked at: others may be about to make them true. */
int mempool_verify(struct mempool *mp);

#endif
