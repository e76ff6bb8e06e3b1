/* SPDX-License-Identifier: MIT */
/* waitq.c - see waitq.h. */
#include "base/waitq.h"

#include "os/syscall.h"

void waitq_sleep(_Atomic uint32_t *word, uint32_t seen)
{
	sys_futex_wait(word, seen);
}

void waitq_wake_one(_Atomic uint32_t *word)
{
	sys_futex_wake(word, 1);
}
