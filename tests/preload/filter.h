/* SPDX-License-Identifier: MIT */
/*
 * A filter for system calls, for programs that test what happens when some are
 * refused.  Nothing here allocates.
 */
#ifndef FILTER_H
#define FILTER_H

#include "check.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

enum { FILTER_MAX_CALLS = 30 };

/* Does that to them (SECCOMP_RET_...) in all threads of the process, and in
 * what it executes. */
static inline bool filter_calls_by(const int *calls, size_t nr_calls,
				   unsigned action)
{
	struct sock_filter filter[2 * FILTER_MAX_CALLS + 2];
	struct sock_fprog program = { .filter = filter };
	unsigned short nr = 0;
	size_t i;

	filter[nr++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			offsetof(struct seccomp_data, nr));
	for (i = 0; i < nr_calls && i < FILTER_MAX_CALLS; i++) {
		filter[nr++] = (struct sock_filter)BPF_JUMP(
			BPF_JMP | BPF_JEQ | BPF_K, (unsigned)calls[i], 0, 1);
		filter[nr++] = (struct sock_filter)BPF_STMT(
			BPF_RET | BPF_K, action);
	}
	filter[nr++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K,
						    SECCOMP_RET_ALLOW);
	program.len = nr;
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	       syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
		       SECCOMP_FILTER_FLAG_TSYNC, &program) == 0;
}

static inline bool filter_calls(const int *calls, size_t nr_calls, int error)
{
	return filter_calls_by(calls, nr_calls,
			       SECCOMP_RET_ERRNO | (unsigned)error);
}

#endif /* FILTER_H */
