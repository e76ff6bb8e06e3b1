/* SPDX-License-Identifier: MIT */
/*
 * pool_set.c - settings that change while a pool is in use (layer 12).
 *
 * The limit is a number, so raising it is an assignment.  Lowering it is one
 * too, once no more memory is backed than the new limit allows: what is beyond
 * it is withheld from requests first, so that the excess cannot grow, and then
 * spare pages are purged outside of the zone's lock.  They are enough, because
 * no more is used than the new limit allows (zone.h, I3 and I4).
 *
 * The limit pays for tables.  When it changes, all tables that may have been
 * touched are paid by the new limit, and those that were charged to used are
 * so no more.
 */
#include <errno.h>
#include <string.h>

#include "backing.h"
#include "os/os.h"
#include "pool.h"

/* The pool's struct, and the stand-ins of pcp.h. */
#define POOL_FIXED_PAGES	5
/* Blocks whose tables the limit covers: so many times a full zone's. */
#define POOL_TABLES_FACTOR	2
#define POOL_PAGES_PER_SLAB	16
/* Far more than other threads' purges take, even if they are preempted. */
#define POOL_MAX_YIELDS		20000
/* Batches that the kernel may refuse in a row. */
#define POOL_MAX_REFUSALS	64

static_assert(sizeof(struct pp_pool) < POOL_FIXED_PAGES * PP_PAGE_BYTES,
	      "the limit covers it");

struct pool_tables pool_tables_for(uint64_t limit_pages,
				   const struct pool_tables *least)
{
	const uint32_t per_page = PP_PAGE_BYTES / SPAN_SLAB_BYTES;
	uint64_t blocks = POOL_TABLES_FACTOR *
			  (limit_pages / PAGEBLOCK_PAGES) + 1;
	uint64_t slabs = limit_pages / POOL_PAGES_PER_SLAB, bytes;

	if (least) {
		blocks = max_u64(blocks, least->nr_blocks);
		slabs = max_u64(slabs, least->nr_slabs);
	}
	slabs = min_u64(round_up_pow2(slabs, per_page), MAP_SLAB_MAX_NUMBER);
	bytes = blocks * SPAN_BLOCK_TABLE_BYTES + slabs * SPAN_SLAB_BYTES +
		2 * blocks / 8;
	return (struct pool_tables){
		.nr_blocks = (uint32_t)blocks,
		.nr_slabs = (uint32_t)slabs,
		.metadata_pages = bytes_to_pages_up(bytes) + POOL_FIXED_PAGES,
	};
}

/* The limit */

/* As zone_set_limit().  Zone's lock and heap's lock held. */
static int try_limit(struct pp_pool *pool, const struct pp_config *config,
		     uint64_t limit_pages, uint64_t *excess_pages)
{
	struct slab_heap *heap = &pool->heap;
	struct zone *zone = &pool->zone;
	struct pool_tables touched = {
		.nr_blocks = zone->asked_blocks,
		.nr_slabs = heap->nr_numbers,
	};
	struct pool_tables tables = pool_tables_for(limit_pages, &touched);
	struct zone_limit limit = {
		.uncharge_pages = zone->tables_pages + heap->charged_pages,
		.tables_blocks = tables.nr_blocks,
		.min_free_bytes = config->min_free_bytes,
		.scale = (unsigned)config->watermark_scale,
	};
	int err;

	if (tables.metadata_pages >= limit_pages) {
		zone_keep_limit(zone);
		return -EBUSY;
	}
	limit.managed_pages = limit_pages - tables.metadata_pages;
	err = zone_set_limit(zone, &limit, excess_pages);
	if (err)
		return err;
	heap->paid_numbers = tables.nr_slabs;
	heap->charged_pages = 0;
	store_relaxed(&pool->limit_pages, limit_pages);
	store_relaxed(&pool->metadata_pages, tables.metadata_pages);
	return 0;
}

/* Purges, or waits for other threads' purges; false if neither helps. */
static bool purge_excess(struct zone *zone, uint64_t excess_pages,
			 unsigned *yields, unsigned *refusals)
{
	bool others;

	if (backing_purge(zone, excess_pages)) {
		*refusals = 0;
		return true;
	}
	lock_acquire(&zone->lock);
	others = zone->held_pages != 0;
	zone_unlock(zone);
	if (!others)
		return ++*refusals < POOL_MAX_REFUSALS;
	os_yield();
	return ++*yields < POOL_MAX_YIELDS;
}

static int set_limit(struct pp_pool *pool, const struct pp_config *config)
{
	uint64_t bytes = config_limit_bytes(config), excess_pages = 0;
	struct zone *zone = &pool->zone;
	unsigned yields = 0, refusals = 0;
	int err;

	if (bytes_to_pages_down(bytes) > pool->span.nr_pages)
		return -ERANGE;
	for (;;) {
		lock_acquire(&zone->lock);
		lock_acquire(&pool->heap.lock);
		err = try_limit(pool, config, bytes_to_pages_down(bytes),
				&excess_pages);
		lock_release(&pool->heap.lock);
		zone_unlock(zone);
		/* Each round purges a page, or is one of the others. */
		if (err != -EAGAIN ||
		    !purge_excess(zone, excess_pages, &yields, &refusals))
			break;
	}
	if (err == -EAGAIN) {
		lock_acquire(&zone->lock);
		zone_keep_limit(zone);
		zone_unlock(zone);
		err = -EBUSY;
	}
	if (!err)
		slab_heap_size_depots(&pool->heap);
	return err;
}

static void set_marks(struct pp_pool *pool, const struct pp_config *config)
{
	lock_acquire(&pool->zone.lock);
	zone_set_watermarks(&pool->zone, config->min_free_bytes,
			    (unsigned)config->watermark_scale);
	zone_unlock(&pool->zone);
}

static bool is_limit(const char *name)
{
	return strcmp(name, "limit") == 0;
}

static int set_locked(struct pp_pool *pool, const char *name,
		      const char *value)
{
	struct pp_config config = pool->config;
	int err = config_set(&config, name, value);

	lock_assert_held(&pool->config_lock);
	if (!err && is_limit(name))
		err = set_limit(pool, &config);
	else if (!err)
		set_marks(pool, &config);
	if (err)
		return err;
	pool->config = config;
	store_relaxed(&pool->verbose, config.verbose);
	pcp_update_thresholds(&pool->registry);
	return 0;
}

int pool_set(struct pp_pool *pool, const char *name, const char *value)
{
	int live = config_is_live(name), err;
	struct pcp *pcp;

	if (live <= 0)
		return live ? live : -EBUSY;
	if (pool_is_nested(pool))
		return -EDEADLK;
	if (is_limit(name))
		pool_drain(pool);
	/* Entered: a handler's malloc keeps off the locks taken here. */
	pcp = pool_enter(pool);
	lock_acquire(&pool->config_lock);
	err = set_locked(pool, name, value);
	lock_release(&pool->config_lock);
	pool_leave(pcp);
	return err;
}
