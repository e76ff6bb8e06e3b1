/* SPDX-License-Identifier: MIT */
/* call_service.c - see call_service.h. */
#include "call_service.h"

#include <string.h>

#include "base/bits.h"
#include "base/bug.h"
#include "base/delay.h"
#include "base/waitq.h"
#include "callback.h"
#include "os/os.h"
#include "pcp_drain.h"

#define THREAD_NAME		"pp-callback"
#define MIN_THREADS		3u
/* Who has no time to wait has none for what takes time. */
#define MIN_STUCK_NS		10000000ull
/* What a thread is waited for that is just telling. */
#define TELLING_NS		1000000ull
#define NEVER_NS		UINT64_MAX

#define for_each_thread(t, cs)						\
	for (struct call_thread *t = (cs)->places;			\
	     t < (cs)->places + (cs)->nr_places; t++)

#define HASH_FACTOR		0x9e3779b97f4a7c15ull	/* 2^64 / 1.618... */

/* Equal calls have the same. */
static struct call_slot *slot_of(struct call_service *cs,
				 const struct call *call)
{
	uint64_t hash = (uintptr_t)call / CALL_MAX_BYTES * HASH_FACTOR;

	return call->key ? &cs->slots[call->key % CALL_SLOTS] :
			   &cs->single[(hash >> 32) % CALL_SLOTS];
}

static bool has_word_of_slot(struct call_service *cs, const struct call *call)
{
	struct call_slot *slot = slot_of(cs, call);

	return call->ended == &slot->ended[0] || call->ended == &slot->ended[1];
}

void call_service_verify(struct call_service *cs)
{
	unsigned nr_idle = 0;

	lock_assert_held(&cs->lock);
	for (struct call *c = cs->head; c; c = c->next) {
		BUG_ON(load_relaxed(&c->state) != CALL_QUEUED);	/* K1 */
		BUG_ON(!has_word_of_slot(cs, c));		/* K3 */
	}
	for_each_thread(t, cs) {
		nr_idle += t->state == CALL_THREAD_IDLE;
		for (struct call *c = t->calls; c; c = c->next) {
			BUG_ON(load_relaxed(&c->state) != CALL_RUNNING ||
			       load_relaxed(&c->thread) != t);	/* K1 */
			BUG_ON(!has_word_of_slot(cs, c));	/* K3 */
		}
	}
	BUG_ON(nr_idle != cs->nr_idle);				/* K2 */
}

static void hold(struct call_service *cs)
{
	pcp_lock(&cs->lock);
}

static void let_go(struct call_service *cs)
{
	if (PP_DEBUG > 0)
		call_service_verify(cs);
	pcp_unlock(&cs->lock);
}

/* When the thread would be stuck, unless it gets on. */
static uint64_t stuck_at_ns(struct call_service *cs, struct call_thread *t)
{
	return load_relaxed(&t->since_ns) + load_relaxed(&cs->stuck_ns);
}

/* The queue; lock held */

static void enqueue(struct call_service *cs, struct call *call)
{
	struct call_slot *slot = slot_of(cs, call);

	call->ended = &slot->ended[slot->now];
	call->next = NULL;
	store_relaxed(&call->state, CALL_QUEUED);
	*cs->tail = call;
	cs->tail = &call->next;
}

static void unlink_call(struct call **list, struct call *call)
{
	while (*list && *list != call)
		list = &(*list)->next;
	if (*list)
		*list = call->next;
}

static void find_tail(struct call_service *cs)
{
	cs->tail = &cs->head;
	while (*cs->tail)
		cs->tail = &(*cs->tail)->next;
}

static void give_to(struct call_thread *t, struct call *call)
{
	/* Release: pairs with the acquire in patience_ns(), for since_ns. */
	store_release(&call->thread, t);
	store_relaxed(&call->state, CALL_RUNNING);
	call->next = t->calls;
	t->calls = call;
}

static bool are_equal(const struct call *a, const struct call *b)
{
	return a->key && a->key == b->key && a->run == b->run;
}

/* Takes @first, and with it those that are equal. */
static void take(struct call_service *cs, struct call_thread *t,
		 struct call *first)
{
	struct call *call, *copy = &t->copy.call, **link = &cs->head;

	memcpy(t->copy.bytes, first, first->bytes);
	/* Who queues the like from now on is not woken with these. */
	slot_of(cs, first)->now ^= 1;
	copy->amount = 0;
	while ((call = *link)) {
		if (call != first && !are_equal(call, copy)) {
			link = &call->next;
			continue;
		}
		*link = call->next;
		copy->amount += call->amount;
		copy->deadline_ns = max_u64(copy->deadline_ns,
					    call->deadline_ns);
		if (call->result_bytes)
			give_to(t, call);
		else	/* posted: the struct is its owner's again */
			store_relaxed(&call->state, CALL_DONE);
	}
	cs->tail = link;
}

/* The threads */

static bool is_there(enum call_thread_state state)
{
	return state == CALL_THREAD_IDLE || state == CALL_THREAD_BUSY;
}

/* Lock held. */
static void set_state(struct call_service *cs, struct call_thread *t,
		      enum call_thread_state state)
{
	cs->nr_idle -= t->state == CALL_THREAD_IDLE;
	cs->nr_idle += state == CALL_THREAD_IDLE;
	if (!is_there(t->state) && is_there(state))
		add_relaxed(&cs->nr_threads, 1);
	if (is_there(t->state) && !is_there(state))
		sub_relaxed(&cs->nr_threads, 1);
	t->state = state;
}

static void look_again_at(uint64_t *until_ns, uint64_t then_ns)
{
	*until_ns = min_u64(*until_ns, then_ns);
}

/* Lock held.  May one more do what @call wants?  If not, @until_ns says when to
 * look again. */
static bool may_begin(struct call_service *cs, const struct call *call,
		      uint64_t now, uint64_t *until_ns)
{
	unsigned nr = 0;

	for_each_thread(t, cs)
		if (t->state == CALL_THREAD_BUSY && stuck_at_ns(cs, t) > now &&
		    t->copy.call.run == call->run &&
		    t->copy.call.key == call->key) {
			look_again_at(until_ns, stuck_at_ns(cs, t));
			nr++;
		}
	return nr < CALL_PARALLEL;
}

/* Lock held.  Is a thread at it, that is to take the next ones together?  Until
 * when? */
static uint64_t merge_until_ns(struct call_service *cs, const struct call *call)
{
	uint64_t until = 0;

	for_each_thread(t, cs)
		if (t->state == CALL_THREAD_BUSY &&
		    are_equal(call, &t->copy.call))
			until = max_u64(until, t->merge_until_ns);
	return until;
}

/* Lock held.  What to begin with; NULL: nothing, before @until_ns. */
static struct call *choose(struct call_service *cs, uint64_t now,
			   uint64_t *until_ns)
{
	struct call *last = NULL;
	uint64_t merge_until;

	*until_ns = NEVER_NS;
	for (struct call *call = cs->head; call; call = call->next) {
		if (last && are_equal(call, last))
			continue;
		last = call;
		if (!may_begin(cs, call, now, until_ns))
			continue;
		merge_until = merge_until_ns(cs, call);
		if (merge_until <= now)
			return call;
		look_again_at(until_ns, merge_until);
	}
	return NULL;
}

/* Lock held, and let go for the sleep. */
static void rest(struct call_service *cs, uint64_t now, uint64_t until_ns)
{
	uint32_t seen = load_relaxed(&cs->posted);

	look_again_at(&cs->watch_until_ns, until_ns);
	let_go(cs);
	delay_at(DELAY_REST);
	if (until_ns == NEVER_NS)
		waitq_sleep(&cs->posted, seen);
	else
		waitq_sleep_for(&cs->posted, seen, until_ns - now);
	hold(cs);
	cs->watch_until_ns = NEVER_NS;
}

/* Lock held.  Is another to be woken for what is queued, since nobody is known
 * to look again in time? */
static bool hand_on(struct call_service *cs)
{
	if (!cs->head || !cs->nr_idle || cs->watch_until_ns != NEVER_NS)
		return false;
	add_relaxed(&cs->posted, 1);
	return true;
}

/* False: the thread is to end. */
static bool next_call(struct call_service *cs, struct call_thread *t)
{
	uint64_t now, until_ns;
	struct call *call = NULL;
	bool is_handed_on = false;

	hold(cs);
	set_state(cs, t, CALL_THREAD_IDLE);
	/* Each round but the last has slept until something was posted, or it
	 * was time to look again. */
	while (!cs->stop) {
		now = os_now_ns();
		call = choose(cs, now, &until_ns);
		if (call)
			break;
		rest(cs, now, until_ns);
	}
	set_state(cs, t, CALL_THREAD_BUSY);
	if (call) {
		store_relaxed(&t->since_ns, now);
		t->merge_until_ns = now + CALL_MERGE_NS;
		take(cs, t, call);
		is_handed_on = hand_on(cs);
	}
	let_go(cs);
	if (is_handed_on)
		waitq_wake_one(&cs->posted);
	return call != NULL;
}

/* What callbacks freed is for those who wait for it. */
static void give_back(struct pcp_registry *reg)
{
	struct pcp *pcp = pcp_find(reg);

	if (!pcp || !load_relaxed(&pcp->granted_bytes) || !pcp_enter_slow(pcp))
		return;
	pcp_flush(pcp);
	pcp_leave_slow(pcp);
}

static struct call *take_out(struct call_service *cs, struct call_thread *t)
{
	struct call *calls;

	hold(cs);
	calls = t->calls;
	t->calls = NULL;
	for (struct call *call = calls; call; call = call->next)
		store_relaxed(&call->state, CALL_TOLD);
	let_go(cs);
	return calls;
}

static void end_calls(struct call_service *cs, struct call_thread *t)
{
	struct call *copy = &t->copy.call, *next;
	_Atomic uint32_t *ended;

	for (struct call *call = take_out(cs, t); call; call = next) {
		next = call->next;
		ended = call->ended;
		memcpy(call + 1, copy + 1, copy->result_bytes);
		/* Release: pairs with the acquire in is_done(). */
		store_release(&call->state, CALL_DONE);
		if (next && next->ended == ended)
			continue;
		/* Release: who sees that it has changed sees DONE. */
		add_release(ended, 1);
		waitq_wake_all(ended);
	}
}

/* Lock held.  A place for another thread, which counts as idle from now on;
 * NULL: none is wanted. */
static struct call_thread *take_place(struct call_service *cs)
{
	uint32_t nr = load_relaxed(&cs->nr_threads);

	if (cs->stop || nr >= CALL_MAX_THREADS ||
	    (nr >= MIN_THREADS && cs->nr_idle))
		return NULL;
	for_each_thread(t, cs)
		if (t->state == CALL_THREAD_NONE) {
			set_state(cs, t, CALL_THREAD_IDLE);
			return t;
		}
	return NULL;
}

static void thread_loop(void *arg);

/* So that one is idle.  Return: is there anything left to be made? */
static bool make_spare(struct call_service *cs)
{
	struct call_thread *t;
	int err;

	hold(cs);
	t = take_place(cs);
	let_go(cs);
	if (!t)
		return false;
	t->service = cs;
	t->thread.name = THREAD_NAME;
	t->thread.body = thread_loop;
	t->thread.arg = t;
	t->thread.calls_back = true;
	err = helper_thread_start(&t->thread);
	hold(cs);
	t->is_started = !err;
	if (err)
		set_state(cs, t, CALL_THREAD_NONE);
	let_go(cs);
	return !err;
}

static void thread_loop(void *arg)
{
	struct call_thread *t = arg;
	struct call_service *cs = t->service;

	callback_got_on = &t->since_ns;
	cs->begin(cs->reg);
	while (next_call(cs, t)) {
		make_spare(cs);
		delay_at(DELAY_CALL);
		t->copy.call.run(&t->copy.call);
		/* In the child of a fork by the callback. */
		if (!callback_got_on)
			return;
		give_back(cs->reg);
		end_calls(cs, t);
	}
}

#define PLACES_BYTES	(CALL_MAX_THREADS * sizeof(struct call_thread))

static void make_places(struct call_service *cs)
{
	void *places;
	bool is_late;

	if (os_map_storage(PLACES_BYTES, &places))
		return;
	hold(cs);
	is_late = cs->nr_places;
	if (!is_late) {
		cs->places = places;
		cs->nr_places = CALL_MAX_THREADS;
	}
	let_go(cs);
	if (is_late)
		os_unreserve(places, PLACES_BYTES);
}

void call_service_start(struct call_service *cs)
{
	bool has_places;

	hold(cs);
	cs->stop = false;
	has_places = cs->nr_places;
	let_go(cs);
	if (!has_places)
		make_places(cs);
	/* Ends with the third. */
	while (make_spare(cs))
		;
}

static void join(struct call_service *cs, struct call_thread *t)
{
	bool is_started;

	hold(cs);
	is_started = t->is_started;
	let_go(cs);
	if (!is_started)
		return;
	helper_thread_join(&t->thread);
	hold(cs);
	t->is_started = false;
	set_state(cs, t, CALL_THREAD_NONE);
	let_go(cs);
}

void call_service_stop(struct call_service *cs)
{
	if (!cs->nr_places)
		return;
	hold(cs);
	cs->stop = true;
	add_relaxed(&cs->posted, 1);
	let_go(cs);
	waitq_wake_all(&cs->posted);
	/* One that is being made is joined in the round after its maker. */
	while (load_relaxed(&cs->nr_threads))
		for_each_thread(t, cs)
			join(cs, t);
	for_each_thread(t, cs)
		helper_thread_drop(&t->thread);
	os_unreserve(cs->places, PLACES_BYTES);
	cs->nr_places = 0;
	/* What reclaimd posted. */
	cs->head = NULL;
	cs->tail = &cs->head;
}

/* Making a call */

static void post(struct call_service *cs, struct call *call)
{
	bool is_seen;

	hold(cs);
	is_seen = merge_until_ns(cs, call) >= cs->watch_until_ns;
	enqueue(cs, call);
	add_relaxed(&cs->posted, 1);
	let_go(cs);
	if (!is_seen)
		waitq_wake_one(&cs->posted);
}

bool call_post(struct call_service *cs, struct call *call)
{
	VM_BUG_ON(call->bytes > CALL_MAX_BYTES || call->result_bytes);
	if (!load_relaxed(&cs->nr_threads))
		return false;
	post(cs, call);
	return true;
}

/* A handler on top of the wait has forked, and this is the child: nobody makes
 * the call. */
static bool is_lost(struct call_service *cs, const struct call *call)
{
	return call->generation != load_relaxed(&cs->generation);
}

/* How long to wait before the next look; 0: it is to be abandoned. */
static uint64_t patience_ns(struct call_service *cs, struct call *call,
			    uint64_t deadline_ns)
{
	/* Acquire: pairs with the release in give_to(). */
	struct call_thread *t = load_acquire(&call->thread);
	uint64_t now = os_now_ns(), until = now + load_relaxed(&cs->stuck_ns);

	if (is_lost(cs, call))
		return 0;
	if (t)
		until = stuck_at_ns(cs, t);
	until = min_u64(until, deadline_ns);
	return until > now ? until - now : 0;
}

/* False: it is done by now, or about to be. */
static bool abandon(struct call_service *cs, struct call *call)
{
	struct call_thread *t;
	bool ok;

	hold(cs);
	t = load_relaxed(&call->thread);
	ok = load_relaxed(&call->state) < CALL_TOLD || is_lost(cs, call);
	if (ok) {
		unlink_call(t ? &t->calls : &cs->head, call);
		find_tail(cs);
	}
	let_go(cs);
	return ok;
}

static void sleep_on(struct call_service *cs, struct call *call, uint32_t seen,
		     uint64_t for_ns)
{
	waitq_sleep_for(call->ended, seen, for_ns);
	/* A thread may be wanting that could not be made. */
	if (load_relaxed(call->ended) == seen &&
	    load_relaxed(&call->state) == CALL_QUEUED)
		pcp_kick_reclaimd(cs->reg);
}

/* If not, @seen is what to sleep on the word with. */
static bool is_done(struct call *call, uint32_t *seen)
{
	/* Acquire: pairs with both releases in end_calls(). */
	*seen = load_acquire(call->ended);
	return load_acquire(&call->state) == CALL_DONE;
}

static bool wait_for(struct call_service *cs, struct call *call,
		     uint64_t deadline_ns)
{
	uint64_t for_ns;
	uint32_t seen;

	/* Each round sleeps until the call is done, or for so long as one may
	 * take that is not stuck; until the deadline, and then until the thread
	 * that was about to tell has told.  Or until its word changes for
	 * others, of an earlier round, or with a key of the same slot. */
	while (!is_done(call, &seen)) {
		for_ns = patience_ns(cs, call, deadline_ns);
		if (for_ns)
			sleep_on(cs, call, seen, for_ns);
		else if (abandon(cs, call))
			return false;
		else
			waitq_sleep_for(call->ended, seen, TELLING_NS);
	}
	return true;
}

bool call_make(struct call_service *cs, struct call *call,
	       uint64_t deadline_ns)
{
	VM_BUG_ON(call->bytes > CALL_MAX_BYTES || !call->result_bytes);
	call->deadline_ns = deadline_ns;
	if (!call_service_has_threads(cs)) {
		call->run(call);
		return true;
	}
	call->generation = load_relaxed(&cs->generation);
	store_relaxed(&call->thread, NULL);
	post(cs, call);
	return wait_for(cs, call, deadline_ns);
}

void call_service_mend(struct call_service *cs)
{
	if (load_relaxed(&cs->nr_threads))
		make_spare(cs);
}

/* As if it were stuck; it is not, once it enters a callback again. */
void call_rest(void)
{
	struct call_service *cs;
	struct call_thread *t;
	bool is_wanted;

	if (!callback_got_on)
		return;
	t = container_of(callback_got_on, struct call_thread, since_ns);
	cs = t->service;
	hold(cs);
	store_relaxed(&t->since_ns, 0);
	/* Who is to look again does so when one is stuck, for all it knows. */
	is_wanted = cs->head && cs->nr_idle;
	if (is_wanted)
		add_relaxed(&cs->posted, 1);
	let_go(cs);
	if (is_wanted)
		waitq_wake_one(&cs->posted);
}

bool call_is_posted(void)
{
	struct call_thread *t;

	if (!callback_got_on)
		return false;
	t = container_of(callback_got_on, struct call_thread, since_ns);
	return !t->copy.call.result_bytes;
}

/* Bring-up */

static void forget_thread(struct call_service *cs, struct call_thread *t)
{
	t->calls = NULL;
	t->is_started = false;
	if (t->state != CALL_THREAD_FORKED)
		set_state(cs, t, CALL_THREAD_NONE);
	/* It is we who forked, and run on it; but none of the pool's. */
	if (callback_got_on == &t->since_ns) {
		callback_got_on = NULL;
		t->thread.stack = NULL;
		t->state = CALL_THREAD_FORKED;
	}
}

/* For a wait on top of which a handler has forked, just before it slept. */
static void change_words(struct call_slot *slots)
{
	for (unsigned i = 0; i < CALL_SLOTS; i++)
		for (unsigned j = 0; j < ARRAY_SIZE(slots->ended); j++)
			add_relaxed(&slots[i].ended[j], 1);
}

void call_service_forget(struct call_service *cs)
{
	change_words(cs->slots);
	change_words(cs->single);
	cs->head = NULL;
	cs->tail = &cs->head;
	cs->watch_until_ns = NEVER_NS;
	add_relaxed(&cs->generation, 1);
	for_each_thread(t, cs)
		forget_thread(cs, t);
}

void call_service_set_stuck(struct call_service *cs, uint64_t ns)
{
	store_relaxed(&cs->stuck_ns, max_u64(ns, MIN_STUCK_NS));
}

void call_service_init(struct call_service *cs, struct pcp_registry *reg,
		       void (*begin)(struct pcp_registry *reg))
{
	cs->reg = reg;
	cs->begin = begin;
	lock_init(&cs->lock, LOCK_RANK_LEAF);
	cs->tail = &cs->head;
	cs->watch_until_ns = NEVER_NS;
	call_service_set_stuck(cs, CALLBACK_STUCK_NS);
}
