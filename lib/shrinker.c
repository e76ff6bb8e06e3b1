/* SPDX-License-Identifier: MIT */
/* shrinker.c - see shrinker.h. */
#include "shrinker.h"

#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "base/bug.h"
#include "base/waitq.h"
#include "os/os.h"
#include "pcp.h"
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

/* The list, and places in it */

void shrinker_list_init(struct shrinker_list *list)
{
	lock_init(&list->lock, LOCK_RANK_SHRINKER);
}

/* Inside, so that a handler on top of us keeps off the lock. */
static void hold(struct shrinker_list *list)
{
	pcp_enter_without();
	lock_acquire(&list->lock);
}

static void let_go(struct shrinker_list *list)
{
	lock_release(&list->lock);
	pcp_leave_without();
}

void shrinker_add(struct shrinker_list *list, struct shrinker *s)
{
	s->list = list;
	hold(list);
	s->next = list->head;
	if (list->head)
		list->head->prev = s;
	list->head = s;
	let_go(list);
	add_relaxed(&list->nr, 1);
}

static struct shrink_frame *own_frame(struct shrinker *s)
{
	struct shrink_frame *frame = s->frames;

	lock_assert_held(&s->list->lock);
	/* As many as threads are in the callback. */
	while (frame && frame->thread != thread_identity())
		frame = frame->next;
	return frame;
}

static void unlink_shrinker(struct shrinker *s)
{
	if (s->prev)
		s->prev->next = s->next;
	else
		s->list->head = s->next;
	if (s->next)
		s->next->prev = s->prev;
}

void shrinker_del(struct shrinker *s)
{
	struct shrinker_list *list = s->list;
	uint32_t seen;

	hold(list);
	if (own_frame(s))
		bug_pointer("pp_shrinker_unregister", "", (uintptr_t)s,
			    " is unregistered by its own callback");
	s->dead = true;
	/* Each round waits for a callback to end. */
	while (s->frames) {
		seen = load_relaxed(&list->ended);
		let_go(list);
		waitq_sleep(&list->ended, seen);
		hold(list);
	}
	unlink_shrinker(s);
	let_go(list);
	sub_relaxed(&list->nr, 1);
}

/* May it be asked by this thread, for such a request?  Lock held. */
static bool may_ask(struct shrinker *s, const struct shrink_pass *pass)
{
	if (s->dead ||
	    (pass->clean_only && !(s->ops.flags & PP_SHRINKER_CLEAN)) ||
	    (pass->flags & PP_NOIO && s->ops.flags & PP_SHRINKER_IO))
		return false;
	return !own_frame(s);
}

static void frame_add(struct shrinker *s, struct shrink_frame *frame)
{
	frame->thread = thread_identity();
	frame->next = s->frames;
	s->frames = frame;
}

static void frame_del(struct shrinker *s, struct shrink_frame *frame)
{
	struct shrink_frame **link = &s->frames;

	while (*link != frame)
		link = &(*link)->next;
	*link = frame->next;
	add_relaxed(&s->list->ended, 1);
}

/* From @s on, the first that may be asked, with a frame in it. */
static struct shrinker *stop_at(struct shrinker *s,
				const struct shrink_pass *pass,
				struct shrink_frame *frame)
{
	while (s && !may_ask(s, pass))
		s = s->next;
	if (s)
		frame_add(s, frame);
	return s;
}

static struct shrinker *first(struct shrinker_list *list,
			      const struct shrink_pass *pass,
			      struct shrink_frame *frame)
{
	struct shrinker *s;

	hold(list);
	s = stop_at(list->head, pass, frame);
	let_go(list);
	return s;
}

static struct shrinker *next(struct shrinker *s,
			     const struct shrink_pass *pass,
			     struct shrink_frame *frame)
{
	struct shrinker_list *list = s->list;
	bool was_waited_for;

	hold(list);
	frame_del(s, frame);
	was_waited_for = s->dead;
	s = stop_at(s->next, pass, frame);
	let_go(list);
	if (was_waited_for)
		waitq_wake_all(&list->ended);
	return s;
}

/* No lock is held in the loop's body, and the shrinker stays. */
#define for_each_shrinker(s, list, pass, frame)				\
	for (struct shrinker *s = first(list, pass, frame); s;		\
	     s = next(s, pass, frame))

/* Asking */

static uint64_t count_one(const struct shrinker *s, unsigned flags)
{
	struct pp_shrink shrink = { .flags = flags & TOLD_FLAGS };
	size_t n = s->ops.count(s->ops.arg, &shrink);

	return n >= PP_SHRINK_EMPTY ? 0 : n;
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
	deferred = xchg_relaxed(&s->deferred, 0);
	plan = shrink_plan(freeable, pass->priority, s->ops.seeks, deferred);
	TRACE(mm_shrink_slab_start, s->name, deferred, pass->flags, freeable,
	      plan.delta, plan.total, pass->priority);
	scanned = scan_batches(s, pass, freeable, plan.total);
	add_relaxed(&s->deferred, left_over(deferred, plan.delta, scanned,
					    freeable));
	pass->nr_scanned += scanned;
	TRACE(mm_shrink_slab_end, s->name, pass->nr_freed - freed_before,
	      load_relaxed(&s->deferred));
}

void shrinker_run_all(struct shrinker_list *list, struct shrink_pass *pass)
{
	unsigned scope = scope_enter(PP_MEMALLOC);
	struct shrink_frame frame;
	int saved = errno;

	VM_BUG_ON(pass->flags & PP_NOFS);
	for_each_shrinker(s, list, pass, &frame)
		shrink_one(s, pass);
	scope_leave(scope);
	/* That of an allocation that succeeds is not theirs to change. */
	errno = saved;
}

uint64_t shrinker_count_all(struct shrinker_list *list, unsigned flags)
{
	const struct shrink_pass pass = { .flags = flags };
	struct shrink_frame frame;
	unsigned scope = scope_enter(PP_MEMALLOC);
	uint64_t sum = 0;
	int saved = errno;

	for_each_shrinker(s, list, &pass, &frame)
		sum += count_one(s, flags);
	scope_leave(scope);
	errno = saved;
	return sum;
}

static struct shrinker_fact fact_of(struct shrinker *s)
{
	struct shrinker_fact fact = {
		.last_count = load_relaxed(&s->last_count),
		.deferred = load_relaxed(&s->deferred),
		.is_inside = s->frames != NULL,
	};

	memcpy(fact.name, s->name, sizeof(fact.name));
	return fact;
}

unsigned shrinker_list_facts(struct shrinker_list *list,
			     struct shrinker_fact *out, unsigned most)
{
	unsigned n = 0;

	hold(list);
	/* Bounded by the list's length. */
	for (struct shrinker *s = list->head; s; s = s->next, n++)
		if (n < most)
			out[n] = fact_of(s);
	let_go(list);
	return n;
}

bool shrinker_is_inside(struct shrinker_list *list)
{
	bool inside = false;

	if (!load_relaxed(&list->nr))
		return false;
	hold(list);
	for (struct shrinker *s = list->head; s && !inside; s = s->next)
		inside = own_frame(s) != NULL;
	let_go(list);
	return inside;
}

void shrinker_forget_others(struct shrinker_list *list)
{
	for (struct shrinker *s = list->head; s; s = s->next) {
		struct shrink_frame **link = &s->frames;

		while (*link)
			if ((*link)->thread == thread_identity())
				link = &(*link)->next;
			else
				*link = (*link)->next;
	}
}
