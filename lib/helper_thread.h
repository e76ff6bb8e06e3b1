/* SPDX-License-Identifier: MIT */
/*
 * helper_thread.h - threads of the pool's own (layer 8).
 *
 * Such a thread blocks all signals, for the program's handlers are not to run
 * on it; but those that one which calls back raises by what it does are the
 * program's.  Its stack is reserved by the pool and small, with a page without
 * access below it: libc would take it from where the program's stacks come
 * from, with the program's default size.  It is made by pthread_create(), which
 * allocates: never from inside an allocation.
 *
 * A process ends with its last thread, so somebody has to know which threads
 * do not count: helper_threads_running() says how many of them are ours.
 *
 * In the child of a fork none of them exists.  The stacks are there, and are
 * used again.
 */
#ifndef PP_HELPER_THREAD_H
#define PP_HELPER_THREAD_H

#include <pthread.h>
#include <stdbool.h>

#include "base/atomic.h"

struct helper_thread {
	/* who starts and joins it, one at a time */
	pthread_t	thread;
	void		*stack;		/* NULL: none yet */
	size_t		stack_bytes;
	const char	*name;		/* at most 15 letters; static */
	void		(*body)(void *arg);
	void		*arg;
	bool		calls_back;
};

/**
 * helper_thread_start() - make a thread that runs @t->body(@t->arg).
 * @t: with name, body and arg set; zero otherwise, or used before and joined.
 *
 * Context: not from inside an allocation; no lock held.
 * Return: 0, or -errno.
 */
int helper_thread_start(struct helper_thread *t);

/* Waits for its end.  The stack stays. */
void helper_thread_join(struct helper_thread *t);

/* Gives the stack back.  There is no thread. */
void helper_thread_drop(struct helper_thread *t);

/* Those that were started and not joined. */
unsigned helper_threads_running(void);

/* By a thread that ends without being told to, as its last act: whoever joins
 * it says so by helper_thread_rejoin(). */
void helper_thread_leave(void);
void helper_thread_rejoin(struct helper_thread *t);

/* In the child of a fork, while it is alone. */
void helper_threads_forget(void);

#endif
