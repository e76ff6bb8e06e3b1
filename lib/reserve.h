/* SPDX-License-Identifier: MIT */
/*
 * reserve.h - the reserves of a pool, all together (layer 12).
 *
 * What they set aside counts as reserved and not as used: runs in them, and in
 * tickets.  In the map such a run is marked as cached, for whoever frees it
 * frees it twice.
 *
 * The list is under the pool's config_lock; fork takes each reserve's lock
 * behind that.
 */
#ifndef PP_RESERVE_H
#define PP_RESERVE_H

#include "mempool.h"
#include "pagepool/reserve.h"
#include "pool.h"

struct pp_reserve {
	/* const after pp_reserve_create() */
	struct pp_pool		*pool;
	size_t			nr_pages;
	const void		*self;		/* while it exists */

	struct mempool		mempool;

	/* pool->config_lock */
	struct pp_reserve	*next;
};

/* Pages set aside in a zone, or in all. */
static inline int64_t reserved_pages_of(struct pp_pool *pool,
					const struct zone *zone)
{
	return load_relaxed(&pool->reserved_pages[zone->index]);
}

static inline int64_t reserved_pages_sum(struct pp_pool *pool)
{
	int64_t sum = 0;

	for_each_zone(zone, pool->zones)
		sum += reserved_pages_of(pool, zone);
	return sum;
}

/* The number of the invariant of mempool.h that does not hold; 0: all do.
 * Takes locks; entered by nobody. */
int reserves_verify(struct pp_pool *pool);

/* fork: with config_lock taken, and before it is given back. */
void reserves_fork_take(struct pp_pool *pool);
void reserves_fork_give(struct pp_pool *pool);
void reserves_fork_child(struct pp_pool *pool);

#endif
