/* SPDX-License-Identifier: MIT */
/* mempool.c - see mempool.h. */
#include "mempool.h"

#include <errno.h>

#include "base/bug.h"
#include "base/delay.h"
#include "base/waitq.h"
#include "pagepool.h"
#include "pcp.h"

/* Linux mempool_alloc(): without direct reclaim, and nothing of the reserve.
 * PP_NOFAIL is kept by waiting here, and nowhere else. */
#define SOFT_FLAGS	(PP_NOWAIT | PP_NORETRY | PP_NOMEMALLOC | PP_NOWARN)
/* Nobody is cancelled for what will come back by itself. */
#define FULL_FLAGS	(PP_RETRY_MAYFAIL | PP_NOMEMALLOC | PP_NOWARN)

enum waiter_state { WAITER_WAITS, WAITER_GRANTED, WAITER_REFUSED };

/* One thread's wait, on its stack. */
struct mempool_waiter {
	_Atomic uint32_t	state;		/* lock to write; a futex */
	size_t			nr;		/* elements wanted */
	uint64_t		thread;		/* thread_identity() */
	struct mempool_waiter	*prev, *next;
};

/* What lies in the first words of a parked element. */
struct parked {
	void		*next;
	uintptr_t	check;
};

/* What is to be done after a hold of the lock. */
struct settlement {
	_Atomic uint32_t	*wake;
	void			*excess;
	bool			more;
};

/* Lists of parked elements */

static uintptr_t check_of(const struct parked *p)
{
	return ~(uintptr_t)p->next ^ (uintptr_t)p;
}

static void push(void **list, void *element)
{
	struct parked *p = element;

	p->next = *list;
	p->check = check_of(p);
	*list = element;
}

static void *pop(void **list)
{
	struct parked *p = *list;

	if (p->check != check_of(p))
		bug_pointer("pp_reserve_free", "", (uintptr_t)p,
			    " was written to after it was freed");
	*list = p->next;
	return p;
}

static void list_push(struct mempool_list *list, void *element)
{
	push(&list->first, element);
	list->nr++;
}

static void *list_pop(struct mempool_list *list)
{
	list->nr--;
	return pop(&list->first);
}

/* What is free.  Lock held. */

static void push_free(struct mempool *mp, void *element)
{
	push(&mp->free, element);
	mp->nr_free++;
}

static void *pop_free(struct mempool *mp)
{
	mp->nr_free--;
	return pop(&mp->free);
}

/* The queue.  Lock held. */

static uint32_t state_of(struct mempool_waiter *w)
{
	return load_relaxed(&w->state);
}

/* As many steps as there are threads that were granted something and have not
 * fetched it yet. */
static struct mempool_waiter *first_waiting(struct mempool *mp)
{
	struct mempool_waiter *w = mp->head;

	while (w && state_of(w) != WAITER_WAITS)
		w = w->next;
	return w;
}

static void enqueue(struct mempool *mp, struct mempool_waiter *w)
{
	lock_assert_held(&mp->lock);
	w->prev = mp->tail;
	w->next = NULL;
	if (mp->tail)
		mp->tail->next = w;
	else
		mp->head = w;
	mp->tail = w;
}

static void dequeue(struct mempool *mp, struct mempool_waiter *w)
{
	lock_assert_held(&mp->lock);
	if (w->prev)
		w->prev->next = w->next;
	else
		mp->head = w->next;
	if (w->next)
		w->next->prev = w->prev;
	else
		mp->tail = w->prev;
	if (state_of(w) == WAITER_GRANTED)
		mp->nr_granted -= w->nr;
}

static struct mempool_waiter *who_can_go(struct mempool *mp)
{
	struct mempool_waiter *w = first_waiting(mp);

	return w && (w->nr <= mp->nr_free - mp->nr_granted ||
		     w->nr > mp->nr_min) ? w : NULL;
}

/* Relaxed: the waiter looks at what it was granted under the lock. */
static _Atomic uint32_t *let_one_go(struct mempool *mp)
{
	struct mempool_waiter *w = who_can_go(mp);

	if (!w)
		return NULL;
	if (w->nr > mp->nr_min) {
		store_relaxed(&w->state, WAITER_REFUSED);
	} else {
		mp->nr_granted += w->nr;
		store_relaxed(&w->state, WAITER_GRANTED);
	}
	return &w->state;
}

/* M6 */
static bool has_excess(struct mempool *mp)
{
	return mp->nr_free > mp->nr_granted &&
	       mp->nr_free + load_relaxed(&mp->nr_held) > mp->nr_min &&
	       !first_waiting(mp);
}

/* M3 and M6, a step at a time: what it says is done with the lock released. */
static struct settlement settle_step(struct mempool *mp)
{
	struct settlement s;

	lock_assert_held(&mp->lock);
	s.wake = let_one_go(mp);
	s.excess = has_excess(mp) ? pop_free(mp) : NULL;
	s.more = who_can_go(mp) || has_excess(mp);
	return s;
}

static void finish_step(struct mempool *mp, const struct settlement *s)
{
	if (s->wake) {
		delay_at(DELAY_GRANT);
		waitq_wake_all(s->wake);
	}
	if (s->excess) {
		mp->ops->unpark(mp->arg, s->excess, 0);
		mp->ops->free(mp->arg, s->excess);
	}
}

/* Ends the hold of the lock in which something was changed.  Each round wakes a
 * waiter or frees an element. */
static void unlock_settled(struct mempool *mp)
{
	struct settlement s = settle_step(mp);

	pcp_unlock(&mp->lock);
	finish_step(mp, &s);
	while (s.more) {
		pcp_lock(&mp->lock);
		s = settle_step(mp);
		pcp_unlock(&mp->lock);
		finish_step(mp, &s);
	}
}

/* Getting elements */

static bool may_wait(unsigned flags)
{
	return !(flags & (PP_NOWAIT | PP_NORETRY));
}

static void *ask(struct mempool *mp, unsigned flags)
{
	return mp->ops->alloc(mp->arg, flags & ~PP_NOFAIL);
}

/* From the source, until @list has @nr; true if so. */
static bool fill(struct mempool *mp, struct mempool_list *list, size_t nr,
		 unsigned flags)
{
	void *element;

	while (list->nr < nr) {
		element = ask(mp, flags);
		if (!element)
			return false;
		mp->ops->park(mp->arg, element);
		list_push(list, element);
		add_relaxed(&mp->nr_held, 1);
	}
	return true;
}

/* M5: what leaves one number is in the next one before. */
static void move_to(struct mempool *mp, struct mempool_list *list, size_t nr)
{
	add_relaxed(&mp->nr_held, nr - list->nr);
	while (list->nr < nr)
		list_push(list, pop_free(mp));
}

static void move_back(struct mempool *mp, struct mempool_list *list)
{
	sub_relaxed(&mp->nr_held, list->nr);
	while (list->nr)
		push_free(mp, list_pop(list));
}

/* What @list lacks of @nr, if nobody waits for it. */
static bool take(struct mempool *mp, struct mempool_list *list, size_t nr)
{
	bool ok;

	pcp_lock(&mp->lock);
	ok = !first_waiting(mp) &&
	     nr - list->nr <= mp->nr_free - mp->nr_granted;
	if (ok)
		move_to(mp, list, nr);
	pcp_unlock(&mp->lock);
	return ok;
}

static void put_back(struct mempool *mp, struct mempool_list *list)
{
	pcp_lock(&mp->lock);
	move_back(mp, list);
	unlock_settled(mp);
}

/* The place in the queue is given up; true if it was granted, and @list has it
 * then, unless it is full already. */
static bool fetch(struct mempool *mp, struct mempool_waiter *w,
		  struct mempool_list *list)
{
	bool ok;

	pcp_lock(&mp->lock);
	ok = state_of(w) == WAITER_GRANTED;
	dequeue(mp, w);
	if (ok)
		move_to(mp, list, w->nr);
	unlock_settled(mp);
	return ok;
}

/*
 * Step 4.  @list is empty, and gets @nr.  True when it has; false: there are
 * never to be so many.
 *
 * A wake-up is not lost: the state changes under the lock, in which the waiter
 * joined the queue, and the kernel looks at it before it lets the thread sleep.
 * Each round ends by that, or takes MEMPOOL_RETRY_NS.
 */
static bool wait_in_turn(struct mempool *mp, struct mempool_list *list,
			 size_t nr, unsigned flags)
{
	struct mempool_waiter w = { .nr = nr, .thread = thread_identity() };

	pcp_lock(&mp->lock);
	enqueue(mp, &w);
	unlock_settled(mp);
	while (state_of(&w) == WAITER_WAITS) {
		delay_at(DELAY_QUEUED);
		waitq_sleep_for(&w.state, WAITER_WAITS, mp->retry_ns);
		if (state_of(&w) != WAITER_WAITS)
			break;
		if (fill(mp, list, nr, flags | FULL_FLAGS))
			break;
		put_back(mp, list);
	}
	return fetch(mp, &w, list) || list->nr == nr;
}

/* Steps 2 to 4: @list gets what it lacks of @nr, or is empty. */
static int gather(struct mempool *mp, struct mempool_list *list, size_t nr,
		  unsigned flags)
{
	if (take(mp, list, nr) ||
	    (may_wait(flags) && fill(mp, list, nr, flags | FULL_FLAGS)))
		return 0;
	put_back(mp, list);
	if (!may_wait(flags))
		return -ENOMEM;
	return wait_in_turn(mp, list, nr, flags) ? 0 : -EINVAL;
}

void *mempool_alloc(struct mempool *mp, unsigned flags)
{
	struct mempool_list list = { .first = NULL };
	void *element = ask(mp, flags | SOFT_FLAGS);

	if (element) {
		add_relaxed(&mp->nr_out, 1);
		return element;
	}
	/* One is never too many: nr_min is at least that. */
	return gather(mp, &list, 1, flags) ? NULL :
	       mempool_draw(mp, &list, flags);
}

bool mempool_forget(struct mempool *mp)
{
	size_t nr = load_relaxed(&mp->nr_out);

	/* Each round another thread's came first. */
	while (nr && !cas_relaxed(&mp->nr_out, &nr, nr - 1))
		;
	return nr != 0;
}

bool mempool_free(struct mempool *mp, void *element)
{
	if (!load_relaxed(&mp->nr_out))
		return false;
	mp->ops->park(mp->arg, element);
	pcp_lock(&mp->lock);
	push_free(mp, element);
	/* M5: in the list first. */
	mempool_forget(mp);
	unlock_settled(mp);
	return true;
}

/* Tickets */

static bool open_ticket(struct mempool *mp, size_t nr)
{
	bool ok;

	pcp_lock(&mp->lock);
	ok = nr && nr <= mp->nr_min;
	if (ok)
		mp->nr_tickets++;
	pcp_unlock(&mp->lock);
	return ok;
}

static void close_ticket(struct mempool *mp, struct mempool_list *list)
{
	pcp_lock(&mp->lock);
	mp->nr_tickets--;
	move_back(mp, list);
	unlock_settled(mp);
}

/* What is set aside comes first here: a ticket is a part of it.  It is the
 * source's turn when that is not enough. */
int mempool_hold(struct mempool *mp, size_t nr, unsigned flags,
		 struct mempool_list *list)
{
	int err = 0;

	*list = (struct mempool_list){ .first = NULL };
	if (!open_ticket(mp, nr))
		return -EINVAL;
	if (!take(mp, list, nr) && !fill(mp, list, nr, flags | SOFT_FLAGS))
		err = gather(mp, list, nr, flags);
	if (err) {
		close_ticket(mp, list);
		return err;
	}
	/* With new ones it may be more than is to be set aside. */
	pcp_lock(&mp->lock);
	unlock_settled(mp);
	return 0;
}

void *mempool_draw(struct mempool *mp, struct mempool_list *list,
		   unsigned flags)
{
	void *element = list_pop(list);

	/* M5: in both for a moment. */
	add_relaxed(&mp->nr_out, 1);
	sub_relaxed(&mp->nr_held, 1);
	mp->ops->unpark(mp->arg, element, flags);
	return element;
}

void mempool_drop(struct mempool *mp, struct mempool_list *list)
{
	close_ticket(mp, list);
}

/* Size */

void mempool_init(struct mempool *mp, const struct mempool_ops *ops, void *arg)
{
	*mp = (struct mempool){
		.ops = ops,
		.arg = arg,
		.retry_ns = MEMPOOL_RETRY_NS,
	};
	lock_init(&mp->lock, LOCK_RANK_MEMPOOL);
}

static size_t nr_missing(struct mempool *mp)
{
	size_t nr;

	pcp_lock(&mp->lock);
	nr = mp->nr_free + load_relaxed(&mp->nr_held);
	nr = nr < mp->nr_min ? mp->nr_min - nr : 0;
	pcp_unlock(&mp->lock);
	return nr;
}

size_t mempool_resize(struct mempool *mp, size_t nr_min)
{
	struct mempool_list list = { .first = NULL };

	pcp_lock(&mp->lock);
	mp->nr_min = nr_min;
	unlock_settled(mp);
	/* One at a time: who waits has it at once. */
	for (size_t nr = nr_missing(mp); nr; nr--) {
		if (!fill(mp, &list, 1, FULL_FLAGS))
			break;
		put_back(mp, &list);
	}
	return nr_missing(mp);
}

bool mempool_exit(struct mempool *mp)
{
	bool busy;

	pcp_lock(&mp->lock);
	busy = load_relaxed(&mp->nr_out) || mp->nr_tickets || mp->head;
	if (!busy)
		mp->nr_min = 0;
	unlock_settled(mp);
	return !busy;
}

size_t mempool_nr_waiting(struct mempool *mp)
{
	size_t nr = 0;

	lock_assert_held(&mp->lock);
	for (struct mempool_waiter *w = mp->head; w; w = w->next)
		nr += state_of(w) == WAITER_WAITS;
	return nr;
}

void mempool_forget_others(struct mempool *mp)
{
	struct mempool_waiter *next;

	for (struct mempool_waiter *w = mp->head; w; w = next) {
		next = w->next;
		if (w->thread != thread_identity())
			dequeue(mp, w);
	}
}

/* M1 and M4 */
static int verify_free(struct mempool *mp)
{
	struct parked *p = mp->free;
	size_t nr = 0;

	/* A ring would be longer than what is said. */
	for (; p && nr <= mp->nr_free; p = p->next, nr++)
		if (p->check != check_of(p) || !mp->ops->is_parked(mp->arg, p))
			return 4;
	return nr == mp->nr_free ? 0 : 1;
}

int mempool_verify(struct mempool *mp)
{
	size_t nr_granted = 0;
	int err;

	lock_assert_held(&mp->lock);
	err = verify_free(mp);
	if (err)
		return err;
	for (struct mempool_waiter *w = mp->head; w; w = w->next)
		if (state_of(w) == WAITER_GRANTED)
			nr_granted += w->nr;
	if (nr_granted != mp->nr_granted || nr_granted > mp->nr_free)
		return 2;
	return 0;
}
