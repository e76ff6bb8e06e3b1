/* SPDX-License-Identifier: MIT */
/*
 * fork.c - fork in a program whose other threads are in malloc and in stdio.
 *
 * glibc runs pthread_atfork's handlers before it takes the lock of the list of
 * streams.  If we took our locks there, a thread that holds a stream and wants
 * memory would wait for us, one that walks the streams would wait for it, and
 * fork would then wait for the list, for ever.  So that lock comes first, as
 * glibc does it for its own malloc: list of streams, then ours in the order of
 * their ranks.  The references are weak: without them fork is as safe as it
 * can be.
 */
#include <pthread.h>
#include <signal.h>

#include "preload.h"

extern void _IO_list_lock(void) __attribute__((weak));
extern void _IO_list_unlock(void) __attribute__((weak));
extern void _IO_list_resetlock(void) __attribute__((weak));

/*
 * The lock is recursive, but taken a moment before its owner is noted, and let
 * go a moment after: a handler that forks in between waits for its own thread.
 */
static void without_signals(void (*work)(void))
{
	sigset_t all, before;
	int err;

	sigfillset(&all);
	err = pthread_sigmask(SIG_BLOCK, &all, &before);
	work();
	if (!err)
		pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void on_prepare(void)
{
	if (_IO_list_lock)
		without_signals(_IO_list_lock);
	pool_fork_prepare();
}

static void on_parent(void)
{
	pool_fork_parent();
	if (_IO_list_unlock)
		without_signals(_IO_list_unlock);
}

static void on_child(void)
{
	pool_fork_child();
	if (_IO_list_resetlock)
		_IO_list_resetlock();
}

/*
 * Handlers for prepare run last registered first, so ours, registered before
 * the program's, run after all others: those may allocate.
 */
void preload_hook_fork(void)
{
	static bool hooked;

	if (hooked)
		return;
	hooked = true;
	pthread_atfork(on_prepare, on_parent, on_child);
}
