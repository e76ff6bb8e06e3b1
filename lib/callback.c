/* SPDX-License-Identifier: MIT */
/* callback.c - see callback.h. */
#include "callback.h"

#include <string.h>

#include "base/bits.h"
#include "base/bug.h"
#include "base/waitq.h"
#include "os/os.h"
#include "pcp.h"

__thread _Atomic uint64_t *callback_got_on;

/* Now. */
static void note_got_on(struct callback *cb)
{
	uint64_t now = os_now_ns();

	store_relaxed(&cb->since_ns, now);
	if (callback_got_on)
		store_relaxed(callback_got_on, now);
}

void callback_list_init(struct callback_list *list, enum lock_rank rank)
{
	lock_init(&list->lock, rank);
	store_relaxed(&list->stuck_ns, CALLBACK_STUCK_NS);
}

void callback_set_name(struct callback *cb, const char *name)
{
	size_t len = strlen(name);

	len = min_u64(len, CALLBACK_NAME_BYTES - 1);
	memcpy(cb->name, name, len);
	cb->name[len] = '\0';
}

void callback_hold(struct callback_list *list)
{
	pcp_lock(&list->lock);
}

void callback_let_go(struct callback_list *list)
{
	pcp_unlock(&list->lock);
}

void callback_add(struct callback_list *list, struct callback *cb)
{
	cb->list = list;
	callback_hold(list);
	cb->next = list->head;
	if (list->head)
		list->head->prev = cb;
	list->head = cb;
	callback_let_go(list);
	add_relaxed(&list->nr, 1);
}

static void unlink_callback(struct callback *cb)
{
	if (cb->prev)
		cb->prev->next = cb->next;
	else
		cb->list->head = cb->next;
	if (cb->next)
		cb->next->prev = cb->prev;
}

void callback_del(struct callback *cb, const char *entry)
{
	struct callback_list *list = cb->list;
	uint32_t seen;

	callback_hold(list);
	if (cb->inside == thread_identity())
		bug_pointer(entry, "", (uintptr_t)cb,
			    " is unregistered by its own callback");
	cb->dead = true;
	/* Each round waits for an object to be left, or a batch. */
	while (cb->inside) {
		seen = load_relaxed(&list->ended);
		callback_let_go(list);
		waitq_sleep(&list->ended, seen);
		callback_hold(list);
	}
	unlink_callback(cb);
	callback_let_go(list);
	sub_relaxed(&list->nr, 1);
}

/* Places */

enum callback_state callback_state(const struct callback *cb, uint64_t now_ns)
{
	uint64_t since_ns = load_relaxed(&cb->since_ns);

	if (!cb->inside)
		return CALLBACK_IS_FREE;
	return now_ns > since_ns &&
	       now_ns - since_ns >= load_relaxed(&cb->list->stuck_ns) ?
	       CALLBACK_IS_STUCK : CALLBACK_IS_BUSY;
}

void callback_enter(struct callback *cb)
{
	lock_assert_held(&cb->list->lock);
	VM_BUG_ON(cb->dead);		/* C2 */
	VM_BUG_ON(cb->inside);		/* C3 */
	cb->inside = thread_identity();
	note_got_on(cb);
}

void callback_leave(struct callback *cb)
{
	lock_assert_held(&cb->list->lock);
	VM_BUG_ON(cb->inside != thread_identity());
	cb->inside = 0;
	add_relaxed(&cb->list->ended, 1);
}

/* Who unregisters counts as one who waits, for as long as it does. */
void callback_list_wake(struct callback_list *list)
{
	waitq_wake_all(&list->ended);
}

static bool is_worth_waiting(const struct callback *cb, uint64_t now_ns)
{
	return cb->inside != thread_identity() &&
	       callback_state(cb, now_ns) == CALLBACK_IS_BUSY &&
	       !load_relaxed(&cb->has_nothing);
}

/* From @cb on, the first that may be entered, entered. */
static struct callback *stop_at(struct callback *cb, struct callback_walk *walk)
{
	uint64_t now = 0;

	for (; cb; cb = cb->next) {
		if (cb->dead || cb->inside == thread_identity() ||
		    !walk->may_enter(cb, walk->arg))
			continue;
		if (!cb->inside) {
			callback_enter(cb);
			break;
		}
		now = now ? now : os_now_ns();
		walk->nr_busy += is_worth_waiting(cb, now);
	}
	return cb;
}

struct callback *callback_next(struct callback_list *list, struct callback *cb,
			       struct callback_walk *walk)
{
	struct callback *next;
	bool is_waited_for = false;

	callback_hold(list);
	next = cb ? cb->next : list->head;
	if (cb) {
		callback_leave(cb);
		is_waited_for = cb->dead || load_relaxed(&list->nr_waiters);
	}
	next = stop_at(next, walk);
	callback_let_go(list);
	if (is_waited_for)
		callback_list_wake(list);
	return next;
}

/* Waiting */

void callback_progress(struct callback *cb, uint64_t nr)
{
	struct callback_list *list = cb->list;

	note_got_on(cb);
	if (!nr)
		return;
	add_relaxed(&list->nr_done, nr);
	if (!load_relaxed(&list->nr_waiters))
		return;
	add_relaxed(&list->ended, 1);
	callback_list_wake(list);
}

/* When the first that is busy would be stuck; 0: none is. */
static uint64_t first_stuck_ns(struct callback_list *list, uint64_t now_ns)
{
	uint64_t first = UINT64_MAX;

	callback_hold(list);
	for (struct callback *cb = list->head; cb; cb = cb->next)
		if (is_worth_waiting(cb, now_ns))
			first = min_u64(first, load_relaxed(&cb->since_ns) +
					       load_relaxed(&list->stuck_ns));
	callback_let_go(list);
	return first == UINT64_MAX ? 0 : first;
}

/* One sleep, after a look. */
static enum callback_wait wait_counted(struct callback_list *list,
				       uint64_t done, uint64_t deadline_ns)
{
	uint64_t now, until;
	uint32_t seen = load_relaxed(&list->ended);
	bool has_waited = false;

	/* Each round but the last has slept until one could be stuck, and that
	 * one has got on: so many as there are batches without a waiter. */
	for (;;) {
		now = os_now_ns();
		until = first_stuck_ns(list, now);
		if (load_relaxed(&list->nr_done) != done)
			return CALLBACK_PROGRESS;
		if (load_relaxed(&list->ended) != seen)
			return CALLBACK_ENDED;
		if (now >= deadline_ns)
			return CALLBACK_LATE;
		if (!until)
			return has_waited ? CALLBACK_STUCK : CALLBACK_NONE_BUSY;
		/* In the past only if it was set back: looked at again. */
		until = min_u64(until, deadline_ns);
		waitq_sleep_for(&list->ended, seen,
				until > now ? until - now : 1);
		has_waited = true;
	}
}

enum callback_wait callback_list_wait(struct callback_list *list, uint64_t done,
				      uint64_t deadline_ns)
{
	enum callback_wait result;

	/* Before the look under the lock: see callback.h. */
	add_relaxed(&list->nr_waiters, 1);
	result = wait_counted(list, done, deadline_ns);
	waitq_count_off(&list->nr_waiters);
	return result;
}

/* Looks */

/* Lock held. */
static struct callback *first_stuck(struct callback_list *list)
{
	struct callback *cb = list->head;
	uint64_t now = os_now_ns();

	while (cb && callback_state(cb, now) != CALLBACK_IS_STUCK)
		cb = cb->next;
	return cb;
}

bool callback_name_stuck(struct callback_list *list, char *buf, size_t size)
{
	struct callback *cb;
	size_t len;

	if (!load_relaxed(&list->nr) || !size)
		return false;
	callback_hold(list);
	cb = first_stuck(list);
	if (cb) {
		len = min_u64(strlen(cb->name), size - 1);
		memcpy(buf, cb->name, len);
		buf[len] = '\0';
	}
	callback_let_go(list);
	return cb != NULL;
}

bool callback_is_any_stuck(struct callback_list *list)
{
	bool any;

	if (!load_relaxed(&list->nr))
		return false;
	callback_hold(list);
	any = first_stuck(list) != NULL;
	callback_let_go(list);
	return any;
}

bool callback_is_inside(struct callback_list *list)
{
	struct callback *cb;

	if (!load_relaxed(&list->nr))
		return false;
	callback_hold(list);
	cb = list->head;
	while (cb && cb->inside != thread_identity())
		cb = cb->next;
	callback_let_go(list);
	return cb != NULL;
}

void callback_forget_others(struct callback_list *list)
{
	for (struct callback *cb = list->head; cb; cb = cb->next)
		if (cb->inside != thread_identity())
			cb->inside = 0;
	/* Nor does anybody else wait; what a handler on top of us is on top of
	 * looks again. */
	store_relaxed(&list->nr_waiters, 0);
	add_relaxed(&list->ended, 1);
}
