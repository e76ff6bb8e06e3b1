/* SPDX-License-Identifier: MIT */
/* helper_thread.c - see helper_thread.h. */
#include "helper_thread.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <sys/prctl.h>

#include "base/bits.h"
#include "base/fault.h"
#include "os/os.h"
#include "os/syscall.h"
#include "pagepool.h"
#include "scope.h"

/* The stack beyond what libc wants of one: shrinkers of the program run on it.
 * Programs with much thread-local storage need more: so often it is doubled. */
#define STACK_BYTES		((256u << 10) * (PP_SANITIZED ? 32 : 1))
#define STACK_MAX_TRIES		8

static _Atomic uint32_t nr_running;

static void *thread_main(void *arg)
{
	struct helper_thread *t = arg;

	sys_prctl(PR_SET_NAME, (long)(uintptr_t)t->name, 0, 0, 0);
	t->body(t->arg);
	return NULL;
}

static int make_thread(struct helper_thread *t)
{
	char *stack = (char *)t->stack + PP_PAGE_BYTES;
	pthread_attr_t attr;
	int err;

	err = pthread_attr_init(&attr);
	if (err)
		return -err;
	err = pthread_attr_setstack(&attr, stack,
				    t->stack_bytes - PP_PAGE_BYTES);
	if (!err)
		err = pthread_create(&t->thread, &attr, thread_main, t);
	pthread_attr_destroy(&attr);
	return -err;
}

void helper_thread_drop(struct helper_thread *t)
{
	if (t->stack)
		os_unreserve(t->stack, t->stack_bytes);
	t->stack = NULL;
}

/* Below it a page without access. */
static int make_stack(struct helper_thread *t)
{
	void *stack;
	int err = os_reserve(t->stack_bytes, PP_PAGE_BYTES, t->name, &stack);

	if (err)
		return err;
	err = os_commit((char *)stack + PP_PAGE_BYTES,
			t->stack_bytes - PP_PAGE_BYTES);
	if (err)
		os_unreserve(stack, t->stack_bytes);
	else
		t->stack = stack;
	return err;
}

/* -EINVAL means that thread-local storage does not fit. */
static int make_thread_and_stack(struct helper_thread *t)
{
	int err = -EINVAL;

	if (!t->stack)
		t->stack_bytes = round_up_pow2(STACK_BYTES +
					       (size_t)PTHREAD_STACK_MIN,
					       PP_PAGE_BYTES);
	for (unsigned i = 0; i < STACK_MAX_TRIES && err == -EINVAL; i++) {
		if (!t->stack && make_stack(t))
			return -ENOMEM;
		err = make_thread(t);
		if (err == -EINVAL) {
			helper_thread_drop(t);
			t->stack_bytes *= 2;
		}
	}
	return err;
}

/* Those that a thread raises by what it does kill if they are blocked. */
static void block_signals(bool calls_back, sigset_t *saved)
{
	static const int own[] = {
		SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP,
	};
	sigset_t blocked;

	sigfillset(&blocked);
	for (size_t i = 0; calls_back && i < ARRAY_SIZE(own); i++)
		sigdelset(&blocked, own[i]);
	pthread_sigmask(SIG_SETMASK, &blocked, saved);
}

int helper_thread_start(struct helper_thread *t)
{
	unsigned scope;
	sigset_t saved;
	int err;

	if (fault_hit(FAULT_THREAD))
		return -EAGAIN;
	block_signals(t->calls_back, &saved);
	scope = scope_enter_internal();
	/* What libc allocates for it: it is what frees memory. */
	scope_enter(PP_MEMALLOC);
	err = make_thread_and_stack(t);
	scope_leave(scope);
	pthread_sigmask(SIG_SETMASK, &saved, NULL);
	/* Until then it counts as the program's, which ends later for it. */
	if (!err)
		add_relaxed(&nr_running, 1);
	return err;
}

void helper_thread_join(struct helper_thread *t)
{
	sub_relaxed(&nr_running, 1);
	pthread_join(t->thread, NULL);
}

void helper_thread_leave(void)
{
	sub_relaxed(&nr_running, 1);
}

void helper_thread_rejoin(struct helper_thread *t)
{
	pthread_join(t->thread, NULL);
}

unsigned helper_threads_running(void)
{
	return load_relaxed(&nr_running);
}

void helper_threads_forget(void)
{
	store_relaxed(&nr_running, 0);
}
