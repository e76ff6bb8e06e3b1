/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <string.h>

#include <pagepool/numa.h>

/* One buffer on each memory node of the pool, and what is left there. */
int main(void)
{
	struct pp_pool *pool = pp_pool_default();
	int nr_nodes = pool ? pp_numa_nr_nodes(pool) : 0;

	for (int i = 0; i < nr_nodes; i++) {
		struct pp_stats s = { .struct_bytes = sizeof(s) };
		void *run = pp_numa_alloc(pool, i, 256, PP_THISNODE);

		if (!run)
			return 1;
		memset(run, 1, 256 * PP_PAGE_SIZE);
		pp_numa_snapshot(pool, i, &s);
		printf("node %d: %p, %lld pages free\n",
		       pp_numa_node_id(pool, i), run,
		       (long long)s.free_pages);
		pp_free_pages(pool, run);
	}
	return nr_nodes < 1;
}
