/* SPDX-License-Identifier: MIT */
/* waitq.c - see waitq.h. */
#include "base/waitq.h"

#include <limits.h>

#include "os/syscall.h"

void waitq_sleep(_Atomic uint32_t *word, uint32_t seen)
{
	sys_futex_wait(word, seen, NULL);
}

void waitq_sleep_for(_Atomic uint32_t *word, uint32_t seen, uint64_t for_ns)
{
	struct timespec ts = {
		.tv_sec = (time_t)(for_ns / 1000000000u),
		.tv_nsec = (long)(for_ns % 1000000000u),
	};

	sys_futex_wait(word, seen, &ts);
}

void waitq_wake_one(_Atomic uint32_t *word)
{
	sys_futex_wake(word, 1);
}

void waitq_wake_all(_Atomic uint32_t *word)
{
	sys_futex_wake(word, INT_MAX);
}
