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
 * With several zones each gets its share, one after the other; if one uses more
 * than that, those before it get back what they had.
 *
 * The limit auto follows what the container is given.  It is an order of the
 * container's and no question: what cannot be had at once is had in part, and
 * the rest later.  The limit of a setting that is refused stays what it was.
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
/* Times that others may touch tables while a change is planned. */
#define POOL_MAX_PLANS		16
/* Halvings of the way to a limit that cannot be reached, which end this near
 * to what can. */
#define POOL_MAX_APPROACHES	32
#define POOL_NEAR_PAGES		16
/* Batches that the kernel may refuse in a row. */
#define POOL_MAX_REFUSALS	64

static_assert(sizeof(struct pp_pool) < POOL_FIXED_PAGES * PP_PAGE_BYTES,
	      "the limit covers it");

struct pool_tables pool_tables_for(const struct nodes *nodes,
				   uint64_t limit_pages,
				   const struct pool_tables *least)
{
	const uint32_t per_page = PP_PAGE_BYTES / SPAN_SLAB_BYTES;
	uint64_t share[NODES_MAX] = { limit_pages }, bytes, sum = 0;
	uint64_t slabs = limit_pages / POOL_PAGES_PER_SLAB;
	unsigned nr = nodes ? nodes->nr : 1;
	struct pool_tables t;

	if (nodes)
		nodes_divide(nodes, limit_pages, share);
	for (unsigned i = 0; i < nr; i++) {
		t.nr_blocks[i] = (uint32_t)(POOL_TABLES_FACTOR *
				 (share[i] / PAGEBLOCK_PAGES) + 1);
		if (least && least->nr_blocks[i] > t.nr_blocks[i])
			t.nr_blocks[i] = least->nr_blocks[i];
		sum += t.nr_blocks[i];
	}
	/* Each zone has last pages of its own, which are small slabs. */
	slabs += (nr - 1) * per_page;
	if (least)
		slabs = max_u64(slabs, least->nr_slabs);
	slabs = min_u64(round_up_pow2(slabs, per_page), MAP_SLAB_MAX_NUMBER);
	bytes = sum * SPAN_BLOCK_TABLE_BYTES + slabs * SPAN_SLAB_BYTES +
		2 * sum / 8 + (nodes ? nodes->storage_bytes : 0);
	t.nr_slabs = (uint32_t)slabs;
	t.metadata_pages = bytes_to_pages_up(bytes) + POOL_FIXED_PAGES;
	return t;
}

/* The limit */

struct limit_change {
	struct pp_pool		*pool;
	const struct pp_config	*config;
	uint64_t		limit_pages;
	struct pool_tables	tables;
	uint64_t		managed_pages[NODES_MAX];
	/* of the zones that were changed already */
	uint64_t		before_pages[NODES_MAX];
};

/* Blocks of a zone whose tables may have been touched.  Zone's lock held. */
static uint32_t touched_blocks(const struct zone *zone)
{
	return zone->asked_blocks > zone->range.first ?
	       zone->asked_blocks - zone->range.first : 0;
}

/* What each zone is to have, as things are.  -EBUSY if it does not pay for
 * what is there already, -ERANGE if a zone has no room for its share. */
static int plan_change(struct limit_change *c)
{
	struct pp_pool *pool = c->pool;
	struct pool_tables touched;
	uint64_t managed;

	for_each_zone(zone, pool->zones) {
		lock_acquire(&zone->lock);
		touched.nr_blocks[zone->index] = touched_blocks(zone);
		zone_unlock(zone);
	}
	lock_acquire(&pool->heap.lock);
	touched.nr_slabs = pool->heap.nr_numbers;
	lock_release(&pool->heap.lock);
	c->tables = pool_tables_for(pool->nodes, c->limit_pages, &touched);
	if (c->tables.metadata_pages >= c->limit_pages)
		return -EBUSY;
	managed = c->limit_pages - c->tables.metadata_pages;
	c->managed_pages[0] = managed;
	if (pool->nodes)
		nodes_divide(pool->nodes, managed, c->managed_pages);
	for_each_zone(zone, pool->zones)
		if (c->managed_pages[zone->index] >
		    (uint64_t)pool->span.zone_blocks * PAGEBLOCK_PAGES)
			return -ERANGE;
	return 0;
}

static bool is_last(const struct pp_pool *pool, const struct zone *zone)
{
	return zone->index + 1 == zones_nr(pool->zones);
}

/* The last zone has what it is to have: now the pool has.  Zone's lock and
 * heap's lock held. */
static void finish_change(struct limit_change *c)
{
	c->pool->heap.paid_numbers = c->tables.nr_slabs;
	store_relaxed(&c->pool->limit_pages, c->limit_pages);
	store_relaxed(&c->pool->metadata_pages, c->tables.metadata_pages);
}

/* As zone_set_limit(); -ESTALE if tables were touched since the plan.  Zone's
 * lock and heap's lock held. */
static int try_zone(struct limit_change *c, struct zone *zone,
		    uint64_t *excess_pages)
{
	unsigned i = zone->index;
	struct zone_limit limit = {
		.managed_pages = c->managed_pages[i],
		.uncharge_pages = zone->tables_pages,
		.tables_blocks = zone->range.first + c->tables.nr_blocks[i],
		.min_free_bytes = c->config->min_free_bytes,
		.scale = (unsigned)c->config->watermark_scale,
	};
	int err;

	if (touched_blocks(zone) > c->tables.nr_blocks[i] ||
	    c->pool->heap.nr_numbers > c->tables.nr_slabs) {
		zone_keep_limit(zone);
		return -ESTALE;
	}
	/* What was charged for tables is the new limit's from here on, also if
	 * the change is undone. */
	c->before_pages[i] = load_relaxed(&zone->managed_pages) -
			     limit.uncharge_pages;
	err = zone_set_limit(zone, &limit, excess_pages);
	if (!err && is_last(c->pool, zone))
		finish_change(c);
	return err;
}

/* Purges, or waits for other threads' purges; false if neither helps. */
static bool purge_excess(struct zone *zone, uint64_t excess_pages,
			 unsigned *yields, unsigned *refusals)
{
	bool others;

	if (backing_purge(zone, ZONE_SPARE_ALL, excess_pages) ||
	    backing_make_holes(zone)) {
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

static int change_zone(struct limit_change *c, struct zone *zone)
{
	unsigned yields = 0, refusals = 0;
	uint64_t excess_pages = 0;
	int err;

	for (;;) {
		lock_acquire(&zone->lock);
		lock_acquire(&c->pool->heap.lock);
		err = try_zone(c, zone, &excess_pages);
		lock_release(&c->pool->heap.lock);
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
	return err;
}

/*
 * Gives the zones below @end what they had.  More than now, or as much but for
 * tables: but what others were granted meanwhile cannot be taken back, so a
 * zone that was raised keeps what it uses.
 */
static void undo_change(struct limit_change *c, const struct zone *end)
{
	uint64_t managed = 0;

	for_each_zone(zone, c->pool->zones) {
		lock_acquire(&zone->lock);
		if (zone < end)
			zone_restore_limit(zone,
					   c->before_pages[zone->index]);
		managed += load_relaxed(&zone->managed_pages);
		zone_unlock(zone);
	}
	store_relaxed(&c->pool->metadata_pages,
		      load_relaxed(&c->pool->limit_pages) - managed);
}

static int try_change(struct limit_change *c)
{
	int err = plan_change(c);

	if (err)
		return err;
	for_each_zone(zone, c->pool->zones) {
		err = change_zone(c, zone);
		if (err) {
			undo_change(c, zone);
			return err;
		}
	}
	return 0;
}

static void set_marks(struct pp_pool *pool, const struct pp_config *config)
{
	zones_set_watermarks(pool->zones, config->min_free_bytes,
			     (unsigned)config->watermark_scale);
}

static int set_limit(struct pp_pool *pool, const struct pp_config *config,
		     uint64_t limit_pages)
{
	struct limit_change c = {
		.pool = pool,
		.config = config,
		.limit_pages = limit_pages,
	};
	int err = -ESTALE;

	if (c.limit_pages > pool->span.nr_pages)
		return -ERANGE;
	for (unsigned i = 0; i < POOL_MAX_PLANS && err == -ESTALE; i++)
		err = try_change(&c);
	if (!err)
		slab_heap_size_depots(&pool->heap);
	/* A zone's own formula is not that of its share. */
	if (pool->nodes)
		set_marks(pool, err ? &pool->config : config);
	return err == -ESTALE ? -EBUSY : err;
}

/* The limit that follows */

/*
 * All the way to @target, or else as near as can be: between what is and what
 * is refused lies what is possible.  Never away from it.
 */
static int approach_limit(struct pp_pool *pool, uint64_t target)
{
	uint64_t near = load_relaxed(&pool->limit_pages), far = target, middle;

	if (near == target || !set_limit(pool, &pool->config, target))
		return 0;
	for (unsigned i = 0; i < POOL_MAX_APPROACHES; i++) {
		middle = near / 2 + far / 2;
		if (max_u64(near, far) - min_u64(near, far) <= POOL_NEAR_PAGES)
			break;
		if (set_limit(pool, &pool->config, middle))
			far = middle;
		else
			near = middle;
	}
	return target < near ? -EAGAIN : 0;
}

static int follow_limit(struct pp_pool *pool)
{
	uint64_t bytes = load_relaxed(&pool->registry.auto_limit_bytes);
	uint64_t before = load_relaxed(&pool->limit_pages);
	int err = 0;

	lock_acquire(&pool->config_lock);
	if (bytes && !pool->config.limit_bytes)
		err = approach_limit(pool, min_u64(bytes_to_pages_down(bytes),
						   pool->span.nr_pages));
	lock_release(&pool->config_lock);
	if (load_relaxed(&pool->limit_pages) != before)
		pcp_update_thresholds(&pool->registry);
	return err;
}

int pool_follow_limit(struct pcp_registry *reg)
{
	struct pp_pool *pool = container_of(reg, struct pp_pool, registry);
	int err = follow_limit(pool);

	/* What caches hold counts as used. */
	if (err) {
		drain_now(&pool->drain_service, NULL);
		err = follow_limit(pool);
	}
	return err;
}

/* Waits */

/* Of oom_timeout: then a request that has waited for one that is stuck has time
 * for something else. */
#define STUCK_DIVISOR	4

static void set_stuck(struct callback_list *list, uint64_t timeout_ns)
{
	store_relaxed(&list->stuck_ns, timeout_ns / STUCK_DIVISOR);
}

void pool_set_waits(struct pp_pool *pool, const struct pp_config *config)
{
	struct pcp_registry *reg = &pool->registry;

	store_relaxed(&reg->purge_delay_ns, config->purge_delay_ns);
	store_relaxed(&reg->oom_timeout_ns, config->oom_timeout_ns);
	store_relaxed(&reg->oom_reserve_bytes, config->oom_reserve_bytes);
	set_stuck(&pool->shrinkers, config->oom_timeout_ns);
	set_stuck(&pool->oom.victims, config->oom_timeout_ns);
	set_stuck(&pool->oom.notifiers, config->oom_timeout_ns);
	call_service_set_stuck(&pool->calls,
			       config->oom_timeout_ns / STUCK_DIVISOR);
}

/* By name */

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
		err = set_limit(pool, &config,
			bytes_to_pages_down(config_limit_bytes(&config)));
	else if (!err && strcmp(name, "numa") == 0)
		err = pool_set_numa(pool, &config.numa);
	else if (!err)
		set_marks(pool, &config);
	if (err)
		return err;
	pool->config = config;
	store_relaxed(&pool->verbose, config.verbose);
	store_relaxed(&pool->oom_aborts, config.oom == OOM_ABORT);
	store_relaxed(&pool->pressure.signal, (int)config.pressure_signal);
	pool_set_waits(pool, &config);
	/* What is spare is looked at with the new delay. */
	for_each_zone(zone, pool->zones) {
		store_relaxed(&zone->next_look_ns, 0);
		zone_kick(zone);
	}
	store_relaxed(&pool->limit_is_auto, !config.limit_bytes);
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
