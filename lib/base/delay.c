/* SPDX-License-Identifier: MIT */
/* delay.c - see delay.h. */
#include "base/delay.h"

#include "os/syscall.h"

#define DELAY_YIELDS	3

_Atomic uint32_t delay_one_in[NR_DELAY_POINTS];

void delay_here(enum delay_point point)
{
	static _Atomic uint32_t passages;

	if (add_relaxed(&passages, 1) % load_relaxed(&delay_one_in[point]))
		return;
	for (unsigned i = 0; i < DELAY_YIELDS; i++)
		sys_call3(SYS_sched_yield, 0, 0, 0);
}
