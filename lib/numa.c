/* SPDX-License-Identifier: MIT */
/* numa.c - pagepool/numa.h (layer 12). */
#include <errno.h>
#include <string.h>

#include "pagepool/numa.h"
#include "show.h"
#include "slowpath.h"

int pp_numa_nr_nodes(struct pp_pool *pool)
{
	return pool ? (int)zones_nr(pool->zones) : -EINVAL;
}

static bool has_zone(struct pp_pool *pool, unsigned index)
{
	return index < zones_nr(pool->zones);
}

int pp_numa_node_id(struct pp_pool *pool, unsigned index)
{
	if (!pool)
		return -EINVAL;
	if (!has_zone(pool, index))
		return -ENOENT;
	return pool->nodes ? pool->nodes->id[index] : pool->node_id;
}

int pp_numa_node_of(struct pp_pool *pool, const void *p)
{
	if (!pool)
		return -EINVAL;
	if (!span_contains(&pool->span, p))
		return -ENOENT;
	return (int)span_zone_of(&pool->span, span_page_of(&pool->span, p));
}

int pp_numa_snapshot(struct pp_pool *pool, unsigned index,
		     struct pp_stats *out)
{
	if (!pool || !out)
		return -EINVAL;
	if (!has_zone(pool, index))
		return -ENOENT;
	return show_zone_snapshot(pool, &pool->zones[index], out);
}

void *pp_numa_alloc(struct pp_pool *pool, unsigned index, size_t nr_pages,
		    unsigned flags)
{
	struct page_request req = {
		.nr_pages = nr_pages,
		.align_pages = 1,
		.flags = flags,
		.node = pool && pool->nodes ? index + 1 : 0,
	};

	if (!pool || !nr_pages || !pool_flags_are_valid(flags)) {
		errno = EINVAL;
		return NULL;
	}
	if (!has_zone(pool, index)) {
		errno = ENOENT;
		return NULL;
	}
	return api_alloc_run(pool, &req);
}
