/* SPDX-License-Identifier: MIT */
/*
 * call_service.h - the threads in which the program is called back (layer 8).
 *
 * A shrinker, a victim or a notifier may do anything, for any time; it may want
 * a lock that the thread holds which needs memory.  So neither a request nor
 * reclaimd is ever inside of one: they have it called by a thread made for
 * that, and wait, if at all, until their own time is over.
 *
 *	QUEUED ---------> RUNNING ---------> TOLD ---------> DONE
 *	   |  a thread       |  the thread has come back
 *	   +--> ABANDONED <--+
 *		its deadline; or the thread is stuck, and another can do better
 *
 * A thread that takes a call works on a copy, and writes back what came of it
 * if anybody still waits.  Whoever abandons a call takes it out of the list
 * that it is in, and its struct is its own again; but one that is TOLD has been
 * taken out by the thread, which is about to write.  These steps are taken
 * under the lock, all but the last, after which nobody but its owner knows the
 * struct.
 *
 * Calls that ask the same (struct call, key) and are queued when a thread takes
 * the first of them are one call, for the sum of what they want.  While a
 * thread makes such a call the next ones wait for it to come back and take them
 * all: but no longer than CALL_MERGE_NS, then another begins beside it.
 *
 * How many threads.  A thread is stuck if it has not got on (see callback.h)
 * for stuck_ns.  One that takes a call and leaves no other idle makes the next
 * one first, so that there is always one that can tell that the others are
 * stuck, and goes on; up to CALL_MAX_THREADS.  But no more than CALL_PARALLEL
 * that are not stuck make calls of one kind, with the same function and key:
 * slow ones of one kind are not to hold the others.  None ends but with the
 * pool.
 *
 * The first three, and the places for all, are made when the program registers
 * something that can be called: for reclaimd, for requests, and one in reserve.
 * At the limit there is no good time for it.  Where there is none, as in the
 * child of a fork until it makes threads or registers something itself, a call
 * is made by whoever wants it.  If it was a callback that forked, the child's
 * first thread is no thread of the service any more; but what it runs on, stack
 * and copy, is not used again, and it ends where its call returns.
 *
 * How no wake-up is lost.  Threads read `posted` under the lock under which
 * they look, and it changes under the same.  Who posts wakes nobody only if a
 * thread looks again by itself, in time; and that one wakes another for the
 * rest if it takes a call then.
 *
 * Requests sleep on a word of the service, so that those whose calls are one
 * are woken at once: to wake 64 one by one takes half as long again.  Calls
 * that are queued before a thread takes their kind have one word, and those
 * that are queued after that the other of two, so as not to be woken with them.
 * The word changes after DONE, and a request reads it before the state.
 *
 * K1: a call is in the queue iff it is QUEUED, and in the list of the thread
 *     that makes it iff it is RUNNING
 * K2: nr_idle == threads that are IDLE, one that is just being made included
 * K3: a call that is QUEUED or RUNNING has one of the two words of its slot
 */
#ifndef PP_CALL_SERVICE_H
#define PP_CALL_SERVICE_H

#include <stddef.h>

#include "base/lock.h"
#include "helper_thread.h"

struct pcp_registry;

#define CALL_MAX_THREADS	16u
#define CALL_PARALLEL		4u
#define CALL_MERGE_NS		1000000ull
/* Keys that are equal modulo this share two words to sleep on; of calls that
 * are equal to none the place decides, so that few wake each other. */
#define CALL_SLOTS		32u
/* The largest struct around a struct call. */
#define CALL_MAX_BYTES		256u

enum call_state {
	CALL_NEW, CALL_QUEUED, CALL_RUNNING, CALL_TOLD, CALL_DONE
};

/* The first member of a struct that says what to do.  What follows it at once,
 * result_bytes long, is the result. */
struct call {
	/* set by the caller */
	void		(*run)(struct call *call);	/* a copy */
	uint32_t	bytes, result_bytes;
	uint32_t	key;		/* of equal calls; 0: none is */
	uint64_t	amount;		/* in the copy: of all that are equal */
	/* call_make()'s */
	uint64_t	deadline_ns;	/* in the copy: the last one's */
	uint32_t	generation;	/* of the service's threads */
	_Atomic uint32_t *ended;	/* what its owner sleeps on */

	/* the service's lock to write, but for DONE */
	_Atomic uint32_t state;
	_Atomic(struct call_thread *) thread;	/* RUNNING */
	struct call	*next;
};

/* Of the struct around it, whose result is called that. */
#define CALL_ASSERT(type)						\
	static_assert(sizeof(type) <= CALL_MAX_BYTES &&			\
		      offsetof(type, call) == 0 &&			\
		      offsetof(type, result) == sizeof(struct call),	\
		      "see struct call")

enum call_thread_state {
	CALL_THREAD_NONE, CALL_THREAD_IDLE, CALL_THREAD_BUSY,
	CALL_THREAD_FORKED	/* in the child: that which forked */
};

struct call_thread {
	struct call_service *service;
	struct helper_thread thread;	/* who starts and joins it */

	/* the service's lock */
	enum call_thread_state state;
	bool		is_started;	/* and may be joined */
	struct call	*calls;		/* waited for */
	uint64_t	merge_until_ns;	/* BUSY */

	/* the thread; any reads: when it last got on */
	_Atomic uint64_t since_ns;
	union {
		struct call	call;
		char		bytes[CALL_MAX_BYTES];
	} copy;
};

struct call_slot {
	/* any thread: futexes */
	_Atomic uint32_t ended[2];
	/* the service's lock: which of the two is for what is queued now */
	unsigned	now;
};

struct call_service {
	/* const after call_service_init() */
	struct pcp_registry *reg;
	void		(*begin)(struct pcp_registry *reg);	/* a thread */

	/* any thread */
	_Atomic uint64_t stuck_ns;
	_Atomic uint32_t nr_threads;
	_Atomic uint32_t generation;	/* forks, in the child */
	_Atomic uint32_t posted;	/* a futex */
	struct call_slot slots[CALL_SLOTS], single[CALL_SLOTS];

	struct lock	lock;		/* rank LEAF */
	/* lock */
	struct call	*head, **tail;
	unsigned	nr_idle;
	uint64_t	watch_until_ns;	/* when an idle one looks again, as far
					 * as is known */
	bool		stop;
	unsigned	nr_places;	/* 0 or CALL_MAX_THREADS */
	struct call_thread *places;
};

/* @begin: each thread's first act. */
void call_service_init(struct call_service *cs, struct pcp_registry *reg,
		       void (*begin)(struct pcp_registry *reg));

/* What is stuck is so after so long. */
void call_service_set_stuck(struct call_service *cs, uint64_t ns);

static inline bool call_service_has_threads(struct call_service *cs)
{
	return cs && load_relaxed(&cs->nr_threads);
}

/**
 * call_service_start() - make the first threads, if they are not there.
 * Context: not from inside an allocation; no lock held.
 */
void call_service_start(struct call_service *cs);

/* reclaimd's part: makes a thread that is wanting, and could not be made.  Not
 * from inside an allocation. */
void call_service_mend(struct call_service *cs);

/* Ends the threads and waits for them.  No callback is registered, and nobody
 * makes a call. */
void call_service_stop(struct call_service *cs);

/**
 * call_make() - have @call made, and wait for its end.
 *
 * Context: no lock held, the thread's cache left.
 * Return: false if it was abandoned: it was not made, or what comes of it is
 * not known.
 */
bool call_make(struct call_service *cs, struct call *call,
	       uint64_t deadline_ns);

/**
 * call_post() - have @call made, some time.
 * @call: the caller's until a thread has begun to run the copy.
 * Return: false if there is no thread for that.
 */
bool call_post(struct call_service *cs, struct call *call);

/* By a call that was posted: it waits for more of the same, and does not count
 * as work. */
void call_rest(void);

/* Is the thread one of a service's, and makes a call that was posted? */
bool call_is_posted(void);

/* In the child of a fork, while it is alone, with the lock held. */
void call_service_forget(struct call_service *cs);

/* K1 to K3, with the lock held; stops the program. */
void call_service_verify(struct call_service *cs);

#endif
