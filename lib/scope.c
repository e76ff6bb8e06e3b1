/* SPDX-License-Identifier: MIT */
/* scope.c - see scope.h; pp_scope_enter() and pp_scope_leave(). */
#include "scope.h"

__thread unsigned scope_of_thread;

unsigned pp_scope_enter(unsigned flags)
{
	return scope_enter(flags);
}

void pp_scope_leave(unsigned saved)
{
	scope_leave((saved & SCOPE_FLAGS) | (scope_of_thread & SCOPE_INTERNAL));
}
