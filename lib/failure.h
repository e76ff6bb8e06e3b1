/* SPDX-License-Identifier: MIT */
/*
 * failure.h - what follows when a request gets NULL (layer 12).
 *
 * pool_failed() (declared in pool.h) is called once for each NULL or -ENOMEM
 * that a caller gets, with its reason:
 *
 *	count	the reason, in the pool; what the thread's last one was, in a
 *		word of the thread's own
 *	abort	if the setting oom says so, after a report
 *	report	the first, unless PP_NOWARN; further ones if the setting
 *		verbose says so, at most one in FAILURE_INTERVAL_NS
 *	else	count that it was left out
 *
 * Abort is for programs that do not handle NULL.  A request that forbids
 * something that might help says that its caller does: such a request never
 * aborts, nor does one from a signal handler on top of a call, nor one from a
 * callback that frees memory.
 *
 * A failure that is not reported costs two additions and no lock.  Nobody waits
 * for a report of another thread's, but for one that is to abort.
 *
 * I1: the sum of the reasons' counts == the number of calls with a pool
 * I2: at most one thread is between printer_take() and printer_give()
 */
#ifndef PP_FAILURE_H
#define PP_FAILURE_H

#include "failure_report.h"

#define FAILURE_INTERVAL_NS	10000000000ull

/* Does a request that failed for @why stop the program, where oom is abort?
 * @flags: the scope's included. */
bool failure_aborts(unsigned flags, enum failure why);

/* In the child of a fork, while it is alone: a thread that was reporting is
 * gone. */
void failure_forget_printer(void);

#endif
