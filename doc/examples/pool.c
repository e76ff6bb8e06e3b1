/* SPDX-License-Identifier: MIT */
/* A pool of its own is used up, gets some back, and goes away. */
#include <errno.h>
#include <pagepool.h>
#include <stdio.h>

#define MAX_RUNS 4096

int main(void)
{
	static void *runs[MAX_RUNS];
	struct pp_config *config;
	struct pp_pool *pool;
	size_t n = 0;

	if (pp_config_create(&config))
		return 1;
	if (pp_config_set(config, "limit", "32M") ||
	    pp_pool_create(config, &pool)) {
		pp_config_destroy(config);
		return 1;
	}
	pp_config_destroy(config);

	/* 64 KiB at a time, until the limit says no. */
	while (n < MAX_RUNS &&
	       (runs[n] = pp_alloc_pages(pool, 16, PP_NOWARN)) != NULL)
		n++;
	if (n == MAX_RUNS || errno != ENOMEM)
		return 1;
	printf("%zu runs of 16 pages fit\n", n);

	/* Every second run is enough for half as many of another length,
	 * wherever the holes are. */
	for (size_t i = 0; i < n; i += 2) {
		pp_free_pages(pool, runs[i]);
		runs[i] = NULL;
	}
	runs[0] = pp_alloc_pages(pool, n / 2 * 16, 0);
	printf("one of %zu pages %s\n", n / 2 * 16,
	       runs[0] ? "fits in the holes" : "does not fit");

	for (size_t i = 0; i < n; i++)
		pp_free_pages(pool, runs[i]);	/* NULL does no harm */
	return pp_pool_destroy(pool) ? 1 : 0;
}
