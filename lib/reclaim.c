/* SPDX-License-Identifier: MIT */
/* reclaim.c - pagepool/reclaim.h: arguments are checked here (layer 12). */
#include <errno.h>
#include <string.h>

#include "os/os.h"
#include "pool.h"
#include "vmscan.h"

#define RECLAIM_MAX_NS	1000000000ull

struct pp_shrinker_id {
	struct pp_pool	*pool;
	struct shrinker	shrinker;
	const void	*self;		/* while it is registered */
};

static_assert(sizeof(struct pp_shrinker_id) <= SLAB_MAX_BYTES,
	      "it is an object of the pool");

int pp_pool_drain(struct pp_pool *pool)
{
	if (!pool)
		return -EINVAL;
	return pool_is_nested(pool) ? -EDEADLK : pool_drain(pool);
}

static bool is_valid(const struct pp_shrinker *s)
{
	const unsigned all = PP_SHRINKER_IO | PP_SHRINKER_CLEAN;

	return s->struct_bytes == sizeof(*s) && s->name && s->count &&
	       s->scan && !(s->flags & ~all) && s->flags != all;
}

int pp_shrinker_register(struct pp_pool *pool,
			 const struct pp_shrinker *shrinker,
			 struct pp_shrinker_id **out)
{
	struct pp_shrinker_id *id;
	int err;

	if (!pool || !shrinker || !out || !is_valid(shrinker))
		return -EINVAL;
	id = pool_prepare_callback(pool, sizeof(*id), &err);
	if (!id)
		return err;
	id->pool = pool;
	id->shrinker.ops = *shrinker;
	callback_set_name(&id->shrinker.cb, shrinker->name);
	id->shrinker.ops.name = id->shrinker.cb.name;
	id->self = id;
	*out = id;
	shrinker_add(&pool->shrinkers, &id->shrinker);
	vmscan_revive(&pool->registry);
	return 0;
}

void pp_shrinker_unregister(struct pp_shrinker_id *id)
{
	if (!id)
		return;
	if (id->self != id)
		bug_pointer("pp_shrinker_unregister", "", (uintptr_t)id,
			    " is not a registered shrinker");
	shrinker_del(&id->shrinker);
	id->self = NULL;
	pool_free_own(id->pool, id);
}

long pp_pool_reclaim(struct pp_pool *pool, size_t nr_pages)
{
	struct vmscan_want want = {
		.nr_pages = nr_pages,
		.flags = scope_add(0),
		.deadline_ns = os_now_ns() + RECLAIM_MAX_NS,
	};
	int64_t before, after;

	if (!pool)
		return -EINVAL;
	if (pool_is_nested(pool) || want.flags & PP_MEMALLOC ||
	    callback_is_inside(&pool->shrinkers))
		return -EDEADLK;
	pool_start_own_threads(pool);
	/* What threads have cached is as good as freed. */
	before = pcp_sum_cached_pages(&pool->registry);
	pool_drain(pool);
	after = pcp_sum_cached_pages(&pool->registry);
	before = before > after ? before - after : 0;
	if ((size_t)before >= nr_pages)
		return before;
	want.nr_pages -= (size_t)before;
	return before + (long)vmscan_pages(&pool->registry, &want);
}

int pp_pressure_fd(struct pp_pool *pool, enum pp_pressure level)
{
	if (!pool || (unsigned)level >= PRESSURE_NR_LEVELS)
		return -EINVAL;
	pool_start_own_threads(pool);
	return pressure_add_fd(&pool->pressure, level);
}
