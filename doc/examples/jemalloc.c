/* SPDX-License-Identifier: MIT */
/* Blocks of jemalloc's within a limit, and the whole limit for others again. */
#include <jemalloc/jemalloc.h>
#include <pagepool/jemalloc.h>
#include <pagepool/reclaim.h>
#include <stdio.h>

int main(void)
{
	struct pp_config *config;
	struct pp_jemalloc *je;
	struct pp_pool *pool;
	void **head = NULL, **block;
	unsigned ind, n = 0;
	int flags;

	if (pp_config_create(&config) ||
	    pp_config_set(config, "limit", "32M") ||
	    pp_pool_create(config, &pool))
		return 1;
	pp_config_destroy(config);
	if (pp_jemalloc_arena(pool, &je, &ind))
		return 1;

	while ((block = pp_jemalloc_mallocx(je, 10000, 0))) {
		*block = head;
		head = block;
		n++;
	}
	printf("%u blocks, and the program lives\n", n);
	while ((block = head)) {
		head = *block;
		dallocx(block, MALLOCX_TCACHE_NONE);
	}

	/* By jemalloc's own name: when it fails, once more after reclaim. */
	flags = MALLOCX_ARENA(ind) | MALLOCX_TCACHE_NONE;
	block = mallocx(20 << 20, flags);
	if (!block) {
		pp_pool_reclaim(pool, (20 << 20) / PP_PAGE_SIZE);
		block = mallocx(20 << 20, flags);
	}
	if (!block)
		return 1;
	dallocx(block, flags);
	return pp_jemalloc_destroy(je) || pp_pool_destroy(pool);
}
