/* SPDX-License-Identifier: MIT */
/*
 * callback.h - functions of the program that the pool calls (layer 8).
 *
 * Shrinkers, victims and notifiers are objects in lists.  Their functions run
 * with no lock held, and may do anything, for any time; so
 *
 *	entering	at most one thread is inside an object.  Who comes
 *			second is told that it is busy, and does without.  The
 *			thread inside is the object's place in the list: it
 *			stays there until it is left.
 *	since		when the function that runs was called, or last said
 *			that it gets on.  Longer ago than the list's limit: the
 *			object is stuck.  Nobody waits for it, and a report
 *			names it.  Once its function returns it is ordinary.
 *	unregistering	waits until nobody is inside, stuck or not.
 *	fork		the child makes the objects free that threads are inside
 *			which it does not have, and ends the waits for them that
 *			a handler forked on top of.
 *
 * Why callback_list_wait() loses no wake-up.  It counts itself in nr_waiters,
 * reads `ended`, and then looks under the lock for an object that is busy.  If
 * it finds one, that is left later, also under the lock: whoever leaves sees
 * the waiter counted, and changes `ended` after it was read, so that the sleep
 * either does not begin or is ended.  A batch in between (callback_progress(),
 * which takes no lock) may be missed by a waiter that just comes: the next one
 * or the leaving wakes it.  If none is busy there is nothing to wait for, and
 * no sleep.  Nothing wakes for what becomes stuck: no sleep is longer than the
 * time until the first one may be.
 *
 * C1: an object in the list is alive or a thread is inside
 * C2: nobody enters an object that is dead
 * C3: no thread enters an object that a thread is inside, itself included
 */
#ifndef PP_CALLBACK_H
#define PP_CALLBACK_H

#include <stdbool.h>

#include "base/lock.h"

#define CALLBACK_NAME_BYTES	32
/* Unless the list is told otherwise. */
#define CALLBACK_STUCK_NS	500000000ull

/* Where the thread notes, too, that it gets on: if its job are callbacks. */
#pragma GCC visibility push(hidden)
extern __thread _Atomic uint64_t *callback_got_on;
#pragma GCC visibility pop

struct callback {
	/* const after callback_add() */
	char			name[CALLBACK_NAME_BYTES];
	struct callback_list	*list;

	/* list->lock */
	uintptr_t		inside;	/* thread_identity(); 0: nobody */
	struct callback		*prev, *next;
	bool			dead;

	/* lock, or the thread inside, to write */
	_Atomic uint64_t	since_ns;
	/* the thread inside: it had nothing when it was last asked */
	_Atomic bool		has_nothing;
};

struct callback_list {
	struct lock		lock;
	struct callback		*head;	/* lock */

	/* any thread */
	_Atomic uint32_t	nr;
	_Atomic uint32_t	ended;	/* objects left, batches; a futex */
	_Atomic uint32_t	nr_waiters;
	_Atomic uint64_t	nr_done;	/* what batches did, objects */
	_Atomic uint64_t	stuck_ns;
};

/* One way through a list, from object to object. */
struct callback_walk {
	/* May it be entered?  Lock held. */
	bool		(*may_enter)(const struct callback *cb,
				     const void *arg);
	const void	*arg;
	/* result: of those, how many are worth waiting for: another thread is
	 * inside, not stuck, and it had something when it was last asked */
	unsigned	nr_busy;
};

/* Why callback_list_wait() came back. */
enum callback_wait {
	CALLBACK_NONE_BUSY,	/* and none was: there is nothing to wait for */
	CALLBACK_PROGRESS,	/* somebody got something done */
	CALLBACK_ENDED,		/* an object was left, nothing was done */
	CALLBACK_STUCK,		/* those that were busy are stuck by now */
	CALLBACK_LATE,		/* the deadline */
};

void callback_list_init(struct callback_list *list, enum lock_rank rank);

/* To be called before callback_add(); what does not fit is cut. */
void callback_set_name(struct callback *cb, const char *name);

/* @cb: zeroes but for its name.  It may be entered from here on. */
void callback_add(struct callback_list *list, struct callback *cb);

/* Waits until nobody is inside.  Stops the program in the name of @entry if
 * that is the caller. */
void callback_del(struct callback *cb, const char *entry);

/**
 * callback_next() - leave one object and enter the next that may be entered.
 * @cb: the calling thread is inside; NULL: begin with the head.
 *
 * Return: inside of which the thread is now, with no lock held; NULL: the end.
 */
struct callback *callback_next(struct callback_list *list, struct callback *cb,
			       struct callback_walk *walk);

#define for_each_callback(cb, list, walk)				\
	for (struct callback *cb = callback_next(list, NULL, walk); cb;	\
	     cb = callback_next(list, cb, walk))

/* For those who have the lock: is a thread inside, and for how long? */
enum callback_state { CALLBACK_IS_FREE, CALLBACK_IS_BUSY, CALLBACK_IS_STUCK };
enum callback_state callback_state(const struct callback *cb, uint64_t now_ns);

/* With the lock held: not dead, and free. */
void callback_enter(struct callback *cb);
/* The same; the caller wakes by callback_list_wake() when it has let go. */
void callback_leave(struct callback *cb);
void callback_list_wake(struct callback_list *list);

/* Takes the list's lock, as a signal handler on top of us can see. */
void callback_hold(struct callback_list *list);
void callback_let_go(struct callback_list *list);

/* By the thread inside, after each call of a function: it gets on.  @nr: what
 * it has done. */
void callback_progress(struct callback *cb, uint64_t nr);

/**
 * callback_list_wait() - wait for those that are inside to get on.
 * @done: what nr_done was when the caller began to look.
 *
 * Sleeps until an object that is busy now is left, becomes stuck, or any says
 * that it has done something; not at all if one has since @done was read.
 * Objects that the caller is inside do not count, nor those that had nothing
 * when they were last asked: where there is nothing to be freed, no request is
 * to wait for another that finds this out, too.
 * Context: no lock held, the thread's cache left.
 */
enum callback_wait callback_list_wait(struct callback_list *list, uint64_t done,
				      uint64_t deadline_ns);

/* The name of one that is stuck, for a report; false: none is.  Takes the lock
 * for a moment. */
bool callback_name_stuck(struct callback_list *list, char *buf, size_t size);

bool callback_is_any_stuck(struct callback_list *list);

/* Is the calling thread inside any of them? */
bool callback_is_inside(struct callback_list *list);

/* In the child of a fork, while it is alone, with the lock held. */
void callback_forget_others(struct callback_list *list);

#endif
