/* SPDX-License-Identifier: MIT */
/* shrinker.c - see shrinker.h. */
#include "shrinker.h"

#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "base/bug.h"
#include "os/os.h"
#include "scope.h"
#include "trace.h"

/* Of a request's flags, what callbacks are told. */
#define TOLD_FLAGS	(PP_NOIO | PP_MEMALLOC)

/* Arithmetic */

struct shrink_plan shrink_plan(uint64_t freeable, unsigned priority,
			       unsigned seeks, uint64_t deferred)
{
	struct shrink_plan plan;

	/* An object that costs nothing to make again: half of them. */
	plan.delta = seeks ? (freeable >> priority) * 4 / seeks : freeable / 2;
	plan.total = min_u64((deferred >> priority) + plan.delta,
			     2 * freeable);
	return plan;
}

static uint64_t left_over(uint64_t deferred, uint64_t delta, uint64_t scanned,
			  uint64_t freeable)
{
	uint64_t wanted = deferred + delta;

	return min_u64(wanted > scanned ? wanted - scanned : 0, 2 * freeable);
}

/* The list */

static struct shrinker *shrinker_of(struct callback *cb)
{
	return container_of(cb, struct shrinker, cb);
}

void shrinker_add(struct callback_list *list, struct shrinker *s)
{
	callback_add(list, &s->cb);
}

void shrinker_del(struct shrinker *s)
{
	callback_del(&s->cb, "pp_shrinker_unregister");
}

/* May it be asked for such a request?  Lock held. */
static bool may_ask(const struct callback *cb, const void *arg)
{
	const struct shrinker *s = container_of(cb, const struct shrinker, cb);
	const struct shrink_pass *pass = arg;

	if (pass->for_request && os_now_ns() >= pass->deadline_ns)
		return false;
	return !(pass->clean_only && !(s->ops.flags & PP_SHRINKER_CLEAN)) &&
	       !(pass->flags & PP_NOIO && s->ops.flags & PP_SHRINKER_IO);
}

/* Asking */

static uint64_t count_one(struct shrinker *s, unsigned flags)
{
	struct pp_shrink shrink = { .flags = flags & TOLD_FLAGS };
	size_t n = s->ops.count(s->ops.arg, &shrink);

	callback_progress(&s->cb, 0);
	if (n >= PP_SHRINK_EMPTY)
		n = 0;
	store_relaxed(&s->cb.has_nothing, !n);
	return n;
}

/* One batch of at most @most objects; how many were looked at, 0: none, and
 * none should be. */
static uint64_t scan_batch(struct shrinker *s, struct shrink_pass *pass,
			   uint64_t most)
{
	struct pp_shrink shrink = {
		.flags = pass->flags & TOLD_FLAGS,
		.nr_to_scan = most,
		.nr_scanned = most,
	};
	size_t freed = s->ops.scan(s->ops.arg, &shrink);

	/* PP_SHRINK_EMPTY is count()'s, but means the same. */
	callback_progress(&s->cb, freed >= PP_SHRINK_EMPTY ? 0 : freed);
	if (freed >= PP_SHRINK_EMPTY)
		return 0;
	pass->nr_freed += freed;
	return shrink.nr_scanned;
}

static bool should_go_on(const struct shrink_pass *pass)
{
	return !pass->enough(pass->arg) && os_now_ns() < pass->deadline_ns;
}

/* How many of @total objects were looked at. */
static uint64_t scan_batches(struct shrinker *s, struct shrink_pass *pass,
			     uint64_t freeable, uint64_t total)
{
	uint64_t batch = s->ops.batch ? s->ops.batch : SHRINKER_BATCH;
	uint64_t scanned = 0, n;

	/* Each round looks at an object at least, or is the last. */
	while (total >= batch || total >= freeable) {
		n = scan_batch(s, pass, min_u64(batch, total));
		if (!n)
			break;
		scanned += n;
		total -= min_u64(total, n);
		if (!should_go_on(pass))
			break;
	}
	return scanned;
}

static void shrink_one(struct shrinker *s, struct shrink_pass *pass)
{
	uint64_t freeable = count_one(s, pass->flags), deferred, scanned;
	uint64_t freed_before = pass->nr_freed;
	struct shrink_plan plan;

	store_relaxed(&s->last_count, freeable);
	if (!freeable)
		return;
	pass->has_freeable = true;
	deferred = xchg_relaxed(&s->deferred, 0);
	plan = shrink_plan(freeable, pass->priority, s->ops.seeks, deferred);
	TRACE(mm_shrink_slab_start, s->cb.name, deferred, pass->flags, freeable,
	      plan.delta, plan.total, pass->priority);
	scanned = scan_batches(s, pass, freeable, plan.total);
	add_relaxed(&s->deferred, left_over(deferred, plan.delta, scanned,
					    freeable));
	pass->nr_scanned += scanned;
	TRACE(mm_shrink_slab_end, s->cb.name, pass->nr_freed - freed_before,
	      load_relaxed(&s->deferred));
}

void shrinker_run_all(struct callback_list *list, struct shrink_pass *pass)
{
	struct callback_walk walk = { .may_enter = may_ask, .arg = pass };
	unsigned scope = scope_enter(PP_MEMALLOC);
	int saved = errno;

	VM_BUG_ON(pass->flags & PP_NOFS);
	for_each_callback(cb, list, &walk)
		shrink_one(shrinker_of(cb), pass);
	pass->nr_busy = walk.nr_busy;
	scope_leave(scope);
	/* That of an allocation that succeeds is not theirs to change. */
	errno = saved;
}

/* Because of what a request forbids. */
static bool is_forbidden(const struct callback *cb, unsigned flags)
{
	const struct shrink_pass pass = { .flags = flags };

	return flags & PP_NOFS || !may_ask(cb, &pass);
}

bool shrinker_is_any_forbidden(struct callback_list *list, unsigned flags)
{
	struct callback *cb;

	if (!load_relaxed(&list->nr))
		return false;
	callback_hold(list);
	cb = list->head;
	while (cb && !is_forbidden(cb, flags))
		cb = cb->next;
	callback_let_go(list);
	return cb != NULL;
}

static struct shrinker_fact fact_of(struct callback *cb, uint64_t now_ns)
{
	struct shrinker *s = container_of(cb, struct shrinker, cb);
	struct shrinker_fact fact = {
		.last_count = load_relaxed(&s->last_count),
		.deferred = load_relaxed(&s->deferred),
		.is_inside = callback_state(cb, now_ns) != CALLBACK_IS_FREE,
	};

	memcpy(fact.name, cb->name, sizeof(fact.name));
	return fact;
}

unsigned shrinker_list_facts(struct callback_list *list,
			     struct shrinker_fact *out, unsigned most)
{
	uint64_t now_ns = os_now_ns();
	unsigned n = 0;

	callback_hold(list);
	/* Bounded by the list's length. */
	for (struct callback *cb = list->head; cb; cb = cb->next, n++)
		if (n < most)
			out[n] = fact_of(cb, now_ns);
	callback_let_go(list);
	return n;
}
