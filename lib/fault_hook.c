/* SPDX-License-Identifier: MIT */
/* fault_hook.c - see fault_hook.h. */
#include "fault_hook.h"

#include <errno.h>

#include "base/fault.h"
#include "call_service.h"
#include "pagepool/stat.h"
#include "pool.h"

/* More than a test has at a time. */
#define MAX_POOLS	16

struct found {
	struct pp_pool	*pool[MAX_POOLS];
	unsigned	nr;
};

const char *pagepool_fault_name(unsigned point)
{
	static const char *const names[] = {
#define X(name, what) #name,
		PP_FAULT_POINTS(X)
#undef X
	};

	return point < NR_FAULT_POINTS ? names[point] : NULL;
}

void pagepool_fault_arm(unsigned point, uint32_t nth)
{
	fault_arm((enum fault_point)point, nth);
}

uint32_t pagepool_fault_left(unsigned point)
{
	return load_relaxed(&fault_countdown[point]);
}

static void find(struct pp_pool *pool, void *arg)
{
	struct found *found = arg;

	if (found->nr < MAX_POOLS)
		found->pool[found->nr++] = pool;
}

/* After the list's lock: a check takes locks that come before it. */
int pagepool_fault_check(void)
{
	struct found found = { .nr = 0 };
	int err = 0, ret;

	pools_visit(find, &found);
	for (unsigned i = 0; i < found.nr; i++) {
		ret = pp_pool_check(found.pool[i]);
		err = err ? err : ret;
	}
	return err;
}

bool pagepool_call_is_background(void)
{
	return call_is_posted();
}
