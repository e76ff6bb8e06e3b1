/* SPDX-License-Identifier: MIT */
/* victim.c - victims and notifiers of pagepool/reclaim.h: arguments are checked
 * here (layer 12). */
#include <errno.h>
#include <string.h>

#include "os/os.h"
#include "pool.h"

#define NS_PER_MS	1000000ull

struct pp_victim_id {
	struct victim	victim;
	struct pp_pool	*pool;
	const void	*self;		/* while it is registered */
};

struct pp_oom_notifier_id {
	struct oom_notifier notifier;
	struct pp_pool	*pool;
	const void	*self;
};

static_assert(sizeof(struct pp_victim_id) <= SLAB_MAX_BYTES &&
	      sizeof(struct pp_oom_notifier_id) <= SLAB_MAX_BYTES,
	      "they are objects of the pool");

static void check_id(const void *id, const void *self, const char *entry)
{
	if (self != id)
		bug_pointer(entry, "", (uintptr_t)id, " is not registered");
}

/* Victims */

static bool is_valid_victim(const struct pp_victim *v)
{
	return v->struct_bytes == sizeof(*v) && v->name && v->usage &&
	       v->cancel && v->adj >= OOM_ADJ_NEVER && v->adj <= OOM_ADJ_MAX &&
	       !(v->flags & ~PP_VICTIM_NOKILL);
}

int pp_victim_register(struct pp_pool *pool, const struct pp_victim *victim,
		       struct pp_victim_id **out)
{
	struct pp_victim_id *id;
	int err;

	if (!pool || !victim || !out || !is_valid_victim(victim))
		return -EINVAL;
	id = pool_prepare_callback(pool, sizeof(*id), &err);
	if (!id)
		return err;
	id->pool = pool;
	id->victim.ops = *victim;
	callback_set_name(&id->victim.cb, victim->name);
	id->victim.ops.name = id->victim.cb.name;
	id->self = id;
	*out = id;
	victim_add(&pool->oom, &id->victim);
	return 0;
}

void pp_victim_exited(struct pp_victim_id *id)
{
	if (!id)
		return;
	check_id(id, id->self, "pp_victim_exited");
	victim_exited(&id->victim);
}

void pp_victim_unregister(struct pp_victim_id *id)
{
	if (!id)
		return;
	check_id(id, id->self, "pp_victim_unregister");
	victim_del(&id->victim);
	id->self = NULL;
	pool_free_own(id->pool, id);
}

unsigned pp_victim_enter(struct pp_victim_id *id)
{
	unsigned saved = victim_of_thread;

	if (id)
		check_id(id, id->self, "pp_victim_enter");
	victim_of_thread = id ? id->victim.number : 0;
	return saved;
}

void pp_victim_leave(unsigned saved)
{
	victim_of_thread = saved;
}

/* Off and on */

int pp_oom_disable(struct pp_pool *pool, unsigned timeout_ms)
{
	if (!pool)
		return -EINVAL;
	if (pool_is_nested(pool))
		return -EDEADLK;
	return oom_disable(&pool->oom, os_now_ns() + timeout_ms * NS_PER_MS);
}

int pp_oom_enable(struct pp_pool *pool)
{
	if (!pool)
		return -EINVAL;
	return pool_is_nested(pool) ? -EDEADLK : oom_enable(&pool->oom);
}

/* Notifiers */

int pp_oom_notifier_register(struct pp_pool *pool,
			     const struct pp_oom_notifier *notifier,
			     struct pp_oom_notifier_id **out)
{
	struct pp_oom_notifier_id *id;
	int err;

	if (!pool || !notifier || !out ||
	    notifier->struct_bytes != sizeof(*notifier) || !notifier->name ||
	    !notifier->notify)
		return -EINVAL;
	id = pool_prepare_callback(pool, sizeof(*id), &err);
	if (!id)
		return err;
	id->pool = pool;
	id->notifier.ops = *notifier;
	callback_set_name(&id->notifier.cb, notifier->name);
	id->notifier.ops.name = id->notifier.cb.name;
	id->self = id;
	*out = id;
	oom_notifier_add(&pool->oom, &id->notifier);
	return 0;
}

void pp_oom_notifier_unregister(struct pp_oom_notifier_id *id)
{
	if (!id)
		return;
	check_id(id, id->self, "pp_oom_notifier_unregister");
	oom_notifier_del(&id->notifier);
	id->self = NULL;
	pool_free_own(id->pool, id);
}
