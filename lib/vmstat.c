/* SPDX-License-Identifier: MIT */
/* vmstat.c - see vmstat.h. */
#include "vmstat.h"

const char *failure_name(enum failure why)
{
	static const char *const name[NR_FAILURES] = {
#define X(id, label, what) [FAILURE_##id] = #label,
		PP_FAILURES(X)
#undef X
	};

	return name[why];
}

void vmstat_fold(struct vmstat *to, _Atomic int64_t *from)
{
	for (unsigned i = 0; i < NR_VM_EVENTS; i++) {
		add_relaxed(&to->event[i], load_relaxed(&from[i]));
		store_relaxed(&from[i], 0);
	}
}
