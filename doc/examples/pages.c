/* SPDX-License-Identifier: MIT */
/* Runs of pages: one that grows, one that is aligned, many at once. */
#include <pagepool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define NR_RUNS 8

static int grow(struct pp_pool *pool)
{
	char *run = pp_alloc_pages(pool, 4, 0), *longer;

	if (!run)
		return 1;
	strcpy(run, "kept");
	longer = pp_realloc_pages(pool, run, 1000, PP_ZERO);
	if (!longer) {
		pp_free_pages(pool, run);	/* it is as it was */
		return 1;
	}
	printf("%s, in %zu pages\n", longer, pp_run_pages(pool, longer));
	pp_free_pages(pool, longer);
	return 0;
}

int main(void)
{
	struct pp_pool *pool = pp_pool_default();
	void *runs[NR_RUNS], *block;
	size_t n;

	if (!pool || grow(pool))
		return 1;

	block = pp_alloc_aligned(pool, 512, 512, PP_ZERO);
	if (!block || (uintptr_t)block % (2 << 20))
		return 1;
	pp_free_pages(pool, block);

	n = pp_alloc_bulk(pool, NR_RUNS, 16, runs, PP_NOWARN);
	if (n < NR_RUNS)
		perror("pp_alloc_bulk");	/* n of them are there */
	pp_free_bulk(pool, n, runs);
	return 0;
}
