/* SPDX-License-Identifier: MIT */
/* pool.c - see pool.h. */
#include "pool.h"

#include <errno.h>
#include <pthread.h>

#include "backing.h"
#include "claim.h"
#include "failure.h"
#include "os/os.h"
#include "os/syscall.h"
#include "reserve.h"
#include "thp.h"
#include "watch.h"

/* What a pool keeps for each of several zones, beside the zone. */
#define ZONE_STORAGE_BYTES	(SLAB_ZONE_BYTES + sizeof(struct reclaimd))

enum { DEFAULT_NONE, DEFAULT_READY, DEFAULT_FAILED };

struct pp_pool pool_of_process;
static _Atomic int default_state;
static unsigned default_bad_settings;	/* const once the state is READY */

bool pool_is_preloaded;
static struct lock default_lock = LOCK_INIT(INIT);
static struct lock pool_list_lock = LOCK_INIT(CONFIG);
static struct pp_pool *pools;		/* pool_list_lock */

/* Fork */

/*
 * Once, when the first pool exists, because pthread_atfork() may allocate.
 * The preload library brings its own handlers, which know about stdio too.
 */
void pool_hook_fork(void)
{
	static _Atomic bool hooked;

	if (!pool_is_preloaded && !xchg_relaxed(&hooked, true))
		pthread_atfork(pool_fork_prepare, pool_fork_parent,
			       pool_fork_child);
}

#define for_each_pool(pool) \
	for (struct pp_pool *pool = pools; pool; pool = pool->next)

/* Every lock of the library, outermost first: the order of base/lock.h. */
void pool_fork_prepare(void)
{
	lock_fork_take(&default_lock);
	lock_fork_take(&pool_list_lock);
	for_each_pool(pool)
		lock_fork_take(&pool->config_lock);
	for_each_pool(pool)
		reserves_fork_take(pool);
	for_each_pool(pool)
		lock_fork_take(&pool->shrinkers.lock);
	for_each_pool(pool) {
		lock_fork_take(&pool->oom.victims.lock);
		lock_fork_take(&pool->oom.notifiers.lock);
	}
	for_each_pool(pool)
		lock_fork_take(&pool->registry.drain_lock);
	lock_fork_take(&pcp_registry_lock);
	for_each_pool(pool)
		for (unsigned i = 0; i < slab_nr_bins(&pool->heap); i++)
			lock_fork_take(&slab_bin_at(&pool->heap, i)->lock);
	for_each_pool(pool)
		lock_fork_take(&pool->span.lock);
	for_each_pool(pool)
		for_each_zone(zone, pool->zones)
			lock_fork_take(&zone->lock);
	for_each_pool(pool) {
		lock_fork_take(&pool->heap.lock);
		lock_fork_take(&pool->pressure.lock);
		lock_fork_take(&pool->registry.claim_lock);
		lock_fork_take(&pool->calls.lock);
	}
}

/* The list's lock last: until then the pools in it cannot go away. */
void pool_fork_parent(void)
{
	for_each_pool(pool) {
		lock_fork_give(&pool->calls.lock);
		lock_fork_give(&pool->registry.claim_lock);
		lock_fork_give(&pool->pressure.lock);
		lock_fork_give(&pool->heap.lock);
		for_each_zone(zone, pool->zones)
			lock_fork_give(&zone->lock);
		lock_fork_give(&pool->span.lock);
		for (unsigned i = 0; i < slab_nr_bins(&pool->heap); i++)
			lock_fork_give(&slab_bin_at(&pool->heap, i)->lock);
		lock_fork_give(&pool->registry.drain_lock);
		lock_fork_give(&pool->oom.notifiers.lock);
		lock_fork_give(&pool->oom.victims.lock);
		lock_fork_give(&pool->shrinkers.lock);
		reserves_fork_give(pool);
		lock_fork_give(&pool->config_lock);
	}
	lock_fork_give(&pcp_registry_lock);
	lock_fork_give(&pool_list_lock);
	lock_fork_give(&default_lock);
}

/* Not if a call of our own is under way: it may be purging. */
static void adopt_isolated(struct pp_pool *pool)
{
	for_each_zone(zone, pool->zones)
		zone_adopt_isolated(zone);
}

void pool_fork_child(void)
{
	bool inside = pcp_is_inside();

	for_each_pool(pool) {
		reclaimd_forget_all(&pool->registry);
		call_service_forget(&pool->calls);
		callback_forget_others(&pool->shrinkers);
		reserves_fork_child(pool);
		oom_forget_others(&pool->oom);
		pressure_forget(&pool->pressure);
		claim_forget(&pool->registry);
		store_relaxed(&pool->registry.memwait.nr, 0);
		pcp_mark_orphans(&pool->registry);
		if (!inside)
			adopt_isolated(pool);
	}
	watch_forget();
	failure_forget_printer();
	pool_fork_parent();
}

/* Bring-up */

static void free_deferred(struct pcp *pcp, void *p)
{
	struct pp_pool *pool = container_of(pcp->registry, struct pp_pool,
					    registry);

	pool_free(pool, pcp, p, pool_word(pool, p));
}

static void list_add(struct pp_pool *pool)
{
	lock_acquire(&pool_list_lock);
	pool->next = pools;
	pools = pool;
	lock_release(&pool_list_lock);
}

static void list_del(struct pp_pool *pool)
{
	struct pp_pool **link = &pools;

	lock_acquire(&pool_list_lock);
	while (*link != pool)
		link = &(*link)->next;
	*link = pool->next;
	lock_release(&pool_list_lock);
}

static bool has_callbacks(struct pp_pool *pool)
{
	return load_relaxed(&pool->shrinkers.nr) ||
	       load_relaxed(&pool->oom.victims.nr) ||
	       load_relaxed(&pool->oom.notifiers.nr);
}

void pool_start_threads(struct pp_pool *pool)
{
	/* Before reclaimd finds that there is nobody to call. */
	if (has_callbacks(pool))
		call_service_start(&pool->calls);
	/* Without it threads that need a drain do it themselves. */
	reclaimd_start_all(&pool->registry);
	watch_start(pool);
}

void *pool_prepare_callback(struct pp_pool *pool, size_t bytes, int *err)
{
	void *id;

	*err = pool_is_nested(pool) ? -EDEADLK : -ENOMEM;
	/* From the reserve: it is what frees memory. */
	id = *err == -ENOMEM ? pool_alloc_own(pool, bytes, PP_MEMALLOC) : NULL;
	if (!id)
		return NULL;
	/* First: reclaimd finds somebody to call. */
	call_service_start(&pool->calls);
	pool_start_threads(pool);
	return id;
}

void pool_start_own_threads(struct pp_pool *pool)
{
	if (!pool_is_preloaded || pool != &pool_of_process)
		pool_start_threads(pool);
}

void pools_visit(void (*visit)(struct pp_pool *pool, void *arg), void *arg)
{
	lock_acquire(&pool_list_lock);
	for_each_pool(pool)
		visit(pool, arg);
	lock_release(&pool_list_lock);
}

static void init_zones(struct pp_pool *pool, const struct pp_config *config,
		       const struct pool_tables *tables)
{
	uint64_t managed = load_relaxed(&pool->limit_pages) -
			   tables->metadata_pages;

	pool->zones = pool->nodes ? pool->nodes->zones : &pool->one_zone;
	if (pool->nodes)
		nodes_start(pool->nodes, &pool->span, managed);
	else
		zone_init(pool->zones, &pool->span, managed);
	for_each_zone(zone, pool->zones)
		zone->tables_blocks = zone->range.first +
				      tables->nr_blocks[zone->index];
	for_each_zone(zone, pool->zones)
		thp_start(zone, config->thp);
	/* Each further zone takes mappings of its own. */
	if (pool->nodes)
		for_each_zone(zone, pool->zones)
			backing_open(zone);
	zones_set_watermarks(pool->zones, config->min_free_bytes,
			     (unsigned)config->watermark_scale);
}

/* With several zones the threads' structs lie behind the slabs'. */
static struct reclaimd *reclaimd_storage(struct pp_pool *pool)
{
	if (!pool->nodes)
		return &pool->one_reclaimd;
	return (struct reclaimd *)(void *)
	       ((char *)nodes_extra(pool->nodes) +
		pool->nodes->nr * SLAB_ZONE_BYTES);
}

/* What it takes to call back is taken now, and not at the limit. */
static void begin_calling(struct pcp_registry *reg)
{
	pool_leave(pool_enter(container_of(reg, struct pp_pool, registry)));
}

static void init_reclaim(struct pp_pool *pool, const struct pp_config *config)
{
	struct pcp_registry *reg = &pool->registry;

	callback_list_init(&pool->shrinkers, LOCK_RANK_SHRINKER);
	reg->shrinkers = &pool->shrinkers;
	oom_init(&pool->oom, &reg->memwait);
	reg->oom = &pool->oom;
	pressure_init(&pool->pressure, (int)config->pressure_signal);
	reg->pressure = &pool->pressure;
	call_service_init(&pool->calls, reg, begin_calling);
	reg->calls = &pool->calls;
	drain_service_init(&pool->drain_service, reg);
	reg->drain_service = &pool->drain_service;
	pool_set_waits(pool, config);
	reclaimd_init_all(reclaimd_storage(pool), reg);
}

/* Malloc's fast paths are never to serve what is to fail. */
static void init_inject(struct pp_pool *pool, const struct pp_config *config)
{
	inject_init(&pool->inject, &config->fault,
		    (os_now_ns() ^ (uint64_t)sys_getpid() << 16) & UINT32_MAX);
	if (!pool_is_preloaded || pool != &pool_of_process)
		inject_start(&pool->inject);
	else if (config->fault.kind != INJECT_OFF)
		pcp_drain_without_membarrier();
}

static void init_parts(struct pp_pool *pool, const struct pp_config *config,
		       const struct pool_tables *tables)
{
	init_zones(pool, config, tables);
	init_inject(pool, config);
	pcp_registry_init(&pool->registry, pool->zones, &pool->vmstat);
	pool->registry.free_deferred = free_deferred;
	pool->registry.follow_limit = pool_follow_limit;
	pool->registry.nodes = pool->nodes;
	init_reclaim(pool, config);
	slab_heap_init(&pool->heap, &pool->registry, tables->nr_slabs,
		       pool->nodes ? nodes_extra(pool->nodes) : NULL);
	lock_init(&pool->config_lock, LOCK_RANK_CONFIG);
	pool->config = *config;
	store_relaxed(&pool->verbose, config->verbose);
	store_relaxed(&pool->oom_aborts, config->oom == OOM_ABORT);
	store_relaxed(&pool->limit_is_auto, !config->limit_bytes);
}

int pool_set_numa(struct pp_pool *pool, const struct numa_setting *setting)
{
	const struct nodemask *named = &setting->nodes;

	if (pool->nodes)
		return mempolicy_set(pool->nodes, setting);
	/* One zone: what it is called is all that can be wrong. */
	for_each_node_in(node, named)
		if (node != pool->node_id)
			return -EINVAL;
	return 0;
}

/* As the settings have it, or by default. */
static int init_numa(struct pp_pool *pool, const struct pp_config *config)
{
	static const struct numa_setting local = {
		.kind = NUMA_LOCAL,
		.is_given = true,
	};
	int err = pool_set_numa(pool, &config->numa);

	if (!err)
		return 0;
	if (config->numa.is_given && !config->numa.by_environment)
		return err;
	if (config->numa.is_given)
		config_report_numa();
	return pool_set_numa(pool, &local);
}

static int init_span(struct pp_pool *pool, uint64_t limit_bytes,
		     struct pool_tables *tables)
{
	uint64_t limit_pages;
	int err = span_init_zones(&pool->span, limit_bytes,
				  pool->nodes ? pool->nodes->nr : 1);

	if (err)
		return err;
	limit_pages = min_u64(bytes_to_pages_down(limit_bytes),
			      pool->span.nr_pages);
	*tables = pool_tables_for(pool->nodes, limit_pages, NULL);
	store_relaxed(&pool->limit_pages, limit_pages);
	store_relaxed(&pool->metadata_pages, tables->metadata_pages);
	return 0;
}

static bool is_too_small(const struct pp_pool *pool)
{
	return load_relaxed(&pool->metadata_pages) >=
	       load_relaxed(&pool->limit_pages) / 2;
}

/* Finds the nodes and reserves the span.  One zone only, where the limit or the
 * address space is too small for more. */
static int init_space(struct pp_pool *pool, const struct pp_config *config,
		      struct pool_tables *tables)
{
	uint64_t limit_bytes = config_limit_bytes(config);
	int err = nodes_find(config, ZONE_STORAGE_BYTES, &pool->nodes,
			     &pool->node_id);

	if (err)
		return err;
	err = init_span(pool, limit_bytes, tables);
	if (!err && pool->nodes &&
	    (pool->span.nr_zones == 1 || is_too_small(pool))) {
		span_exit(&pool->span);
		nodes_free(pool->nodes);
		pool->nodes = NULL;
		err = init_span(pool, limit_bytes, tables);
	}
	if (!err && is_too_small(pool)) {
		span_exit(&pool->span);
		err = -ENOMEM;
	}
	if (err)
		nodes_free(pool->nodes);
	return err;
}

int pool_init(struct pp_pool *pool, const struct pp_config *config)
{
	struct pool_tables tables;
	int err = init_space(pool, config, &tables);

	if (err)
		return err;
	init_parts(pool, config, &tables);
	err = init_numa(pool, config);
	if (err) {
		span_exit(&pool->span);
		nodes_free(pool->nodes);
		return err;
	}
	pcp_hook_thread_exit();	/* without it: no caches, see pcp.h */
	list_add(pool);
	return 0;
}

/* No other thread is at the pool, not even its own. */
static bool is_in_use(struct pp_pool *pool)
{
	uint64_t used = 0, in_slabs;

	pool_drain(pool);
	if (slab_objects_out(&pool->heap, &in_slabs))
		return true;
	for_each_zone(zone, pool->zones) {
		lock_acquire(&zone->lock);
		used += load_relaxed(&zone->used_pages) - zone->charged_pages;
		zone_unlock(zone);
	}
	return used > in_slabs +
	       (uint64_t)pcp_sum_cached_pages(&pool->registry);
}

int pool_exit(struct pp_pool *pool)
{
	bool has_thread;
	int err;

	/* A thread may be in a callback that waits for the caller. */
	if (has_callbacks(pool) || pool->reserves)
		return -EBUSY;
	has_thread = reclaimd_is_running(&pool->registry);
	reclaimd_stop_all(&pool->registry);
	call_service_stop(&pool->calls);
	err = is_in_use(pool) ? -EBUSY : pcp_detach_all(&pool->registry);
	if (err) {
		if (has_thread)
			pool_start_threads(pool);
		return err;
	}
	list_del(pool);
	watch_reap();
	pressure_exit(&pool->pressure);
	span_exit(&pool->span);
	nodes_free(pool->nodes);
	return 0;
}

static PP_COLD void make_default(void)
{
	struct pp_config config;
	int state;

	lock_acquire(&default_lock);
	if (load_relaxed(&default_state) == DEFAULT_NONE) {
		config_defaults(&config);
		default_bad_settings = config_from_environment(&config);
		state = pool_init(&pool_of_process, &config) ?
			DEFAULT_FAILED : DEFAULT_READY;
		/* Release: pairs with pool_default_is_ready(). */
		store_release(&default_state, state);
	}
	lock_release(&default_lock);
	pool_hook_fork();
}

bool pool_default_is_ready(void)
{
	return load_acquire(&default_state) == DEFAULT_READY;
}

unsigned pool_default_bad_settings(void)
{
	return default_bad_settings;
}

struct pp_pool *pool_default(void)
{
	if (unlikely(load_acquire(&default_state) == DEFAULT_NONE))
		make_default();
	return pool_default_is_ready() ? &pool_of_process : NULL;
}

/* Entering */

bool pool_is_nested(struct pp_pool *pool)
{
	if (pcp_is_inside())
		return true;
	for_each_zone(zone, pool->zones)
		if (lock_held_by_me(&zone->lock))
			return true;
	return false;
}

/* What handlers freed while their thread had no cache to defer it to. */
static PP_COLD void free_leftovers(struct pp_pool *pool, struct pcp *pcp)
{
	/* Acquire: pairs with the release in pcp_defer_free(). */
	void *p = xchg_acquire(&pool->registry.deferred, NULL), *next;

	for (; p; p = next) {
		next = *(void **)p;
		pool_free(pool, pcp, p, pool_word(pool, p));
	}
}

struct pcp *pool_enter(struct pp_pool *pool)
{
	struct pcp *pcp;

	/* malloc's own cache comes first in the chain, see pcp.h. */
	pcp = pool == &pool_of_process || !pool_default_is_ready() ||
	      pcp_attach(&pool_of_process.registry) ?
	      pcp_attach(&pool->registry) : NULL;
	if (!pcp || !pcp_enter_slow(pcp)) {
		pcp_enter_without();
		pcp = NULL;
	}
	if (unlikely(load_relaxed(&pool->registry.deferred)))
		free_leftovers(pool, pcp);
	return pcp;
}

void pool_defer_free(struct pp_pool *pool, void *p)
{
	struct pcp *pcp = pcp_find(&pool->registry);

	pcp_defer_free(pcp ? &pcp->deferred : &pool->registry.deferred, p);
}

int pool_drain(struct pp_pool *pool)
{
	struct pcp *pcp = pcp_find(&pool->registry);
	int err;

	if (!pcp || !pcp_enter_slow(pcp)) {
		pcp_enter_without();
		pcp = NULL;
	}
	if (load_relaxed(&pool->registry.has_orphans))
		pcp_adopt_orphans(&pool->registry);
	if (pcp)
		pcp_flush(pcp);
	pcp_wait_begin(pcp);
	err = drain_now(&pool->drain_service, pcp);
	pcp_wait_end(pcp);
	pool_leave(pcp);
	return err;
}
