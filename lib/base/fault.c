/* SPDX-License-Identifier: MIT */
/* fault.c - see fault.h. */
#include "base/fault.h"

_Atomic uint32_t fault_countdown[NR_FAULT_POINTS];

/* Exactly one caller sees the count go from 1 to 0, however many race. */
bool fault_count(enum fault_point point)
{
	uint32_t left = load_relaxed(&fault_countdown[point]);

	if (left == FAULT_ALWAYS)
		return true;
	while (left)
		if (cas_relaxed(&fault_countdown[point], &left, left - 1))
			return left == 1;
	return false;
}
