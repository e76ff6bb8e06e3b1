/* SPDX-License-Identifier: MIT */
/* reclaimd.c - see reclaimd.h. */
#include "reclaimd.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>

#include "base/bits.h"
#include "base/waitq.h"
#include "node.h"
#include "os/os.h"
#include "trace.h"

#define THREAD_NAME		"pp-reclaimd"
#define TICK_NS			1000000000ull
/* Between two looks whether the program's other threads are gone. */
#define LAST_LOOK_NS		20000000ull

/* All reclaimds that run, and whether main() has left by pthread_exit(). */
static struct lock list_lock = LOCK_INIT(LEAF);
static struct reclaimd *running;	/* list_lock */
static _Atomic bool main_has_exited;

/* Draining */

static bool is_served(struct reclaimd *r, uint32_t ticket)
{
	/* Acquire: pairs with the release in serve(). */
	return (int32_t)(load_acquire(&r->done) - ticket) >= 0;
}

/* drain_lock held. */
static int serve(struct reclaimd *r, struct pcp *self)
{
	uint32_t upto = load_relaxed(&r->wanted);
	int err;

	store_relaxed(&r->next_ns, os_now_ns() + RECLAIMD_INTERVAL_NS);
	TRACE(drain_begin, upto);
	err = pcp_drain_all(r->reg, self);
	r->reg->drain_small(r->reg, NULL);
	vmstat_add(r->reg->vmstat, EVENT_DRAINS, 1);
	TRACE(drain_end, upto, err);
	/* Release: pairs with the acquire in is_served(). */
	store_release(&r->done, upto);
	waitq_wake_all(&r->done);
	return err;
}

int reclaimd_drain_now(struct reclaimd *r, struct pcp *self)
{
	int err;

	lock_acquire(&r->reg->drain_lock);
	err = serve(r, self);
	lock_release(&r->reg->drain_lock);
	return err;
}

/* Where there is no thread.  True once the caller has drained, or the next
 * drain has to wait. */
static void serve_self(struct reclaimd *r, struct pcp *self, uint32_t ticket)
{
	lock_acquire(&r->reg->drain_lock);
	if (!is_served(r, ticket) && os_now_ns() >= load_relaxed(&r->next_ns))
		serve(r, self);
	lock_release(&r->reg->drain_lock);
}

static uint64_t until(uint64_t then_ns, uint64_t now_ns)
{
	return then_ns > now_ns ? then_ns - now_ns : 0;
}

/* One step of a request: drains, or sleeps until that may be worth while. */
static void pursue(struct reclaimd *r, struct pcp *self, uint32_t ticket,
		   uint64_t left_ns)
{
	uint32_t seen = load_relaxed(&r->done);
	uint64_t wait_ns = left_ns;

	if (is_served(r, ticket))
		return;
	if (load_relaxed(&r->state) == RECLAIMD_RUNNING) {
		pcp_kick_reclaimd(r->reg);
	} else {
		serve_self(r, self, ticket);
		wait_ns = min_u64(left_ns, until(load_relaxed(&r->next_ns),
						 os_now_ns()));
	}
	if (!is_served(r, ticket) && wait_ns)
		waitq_sleep_for(&r->done, seen, wait_ns);
}

bool reclaimd_drain(struct reclaimd *r, struct pcp *self)
{
	uint64_t deadline = os_now_ns() + RECLAIMD_WAIT_NS, left;
	uint32_t ticket = add_relaxed(&r->wanted, 1) + 1;

	/* Each round sleeps until a drain ends or may begin. */
	while (!is_served(r, ticket)) {
		left = until(deadline, os_now_ns());
		if (!left)
			return false;
		pursue(r, self, ticket, left);
	}
	return true;
}

/* The thread */

/* On a thread of its own, for the program's handlers need a stack. */
static void *end_program(void *unused)
{
	sigset_t none;

	(void)unused;
	sigemptyset(&none);
	pthread_sigmask(SIG_SETMASK, &none, NULL);
	exit(0);
}

/*
 * A process ends when its last thread does, which main() may have left by
 * pthread_exit().  Ours must not keep it alive.  The first thread stays in the
 * list until then.
 */
static void end_if_last(void)
{
	static _Atomic bool is_ending;
	pthread_t last;

	/* One of several pools' threads: exit() is not to be called twice. */
	if (os_nr_threads() != 1 + helper_threads_running() ||
	    xchg_relaxed(&is_ending, true))
		return;
	if (pthread_create(&last, NULL, end_program, NULL) == 0)
		pthread_join(last, NULL);
	else
		end_program(NULL);	/* a small stack is better than none */
}

static void on_main_exit(void)
{
	store_relaxed(&main_has_exited, true);
	lock_acquire(&list_lock);
	for (struct reclaimd *r = running; r; r = r->next)
		pcp_kick_reclaimd(r->reg);
	lock_release(&list_lock);
}

/* While memory is short counters are to be closer: their reader may be about
 * to decide by them. */
static void set_pressure(struct pcp_registry *reg, bool under_pressure)
{
	if (load_relaxed(&reg->vmstat->under_pressure) != under_pressure)
		pcp_set_pressure(reg, under_pressure);
}

/* Serves what is wanted, as early as the rule allows.  How long to sleep, 0:
 * not at all. */
static uint64_t serve_requests(struct reclaimd *r, uint64_t now)
{
	uint32_t wanted = load_relaxed(&r->wanted);
	uint64_t wait_ns;

	if (is_served(r, wanted))
		return UINT64_MAX;
	set_pressure(r->reg, true);
	wait_ns = until(load_relaxed(&r->next_ns), now);
	if (!wait_ns)
		reclaimd_drain_now(r, NULL);
	return wait_ns;
}

/* Nothing is held anywhere: wait until something is. */
static void rest(struct reclaimd *r, uint32_t seen)
{
	/* Full: who is granted something sees this, or we see what it got. */
	xchg_full(&r->reg->resting, true);
	TRACE(mm_vmscan_kswapd_sleep);
	if (!pcp_sum_granted_bytes(r->reg, NULL))
		waitq_sleep(&r->reg->kick, seen);
	TRACE(mm_vmscan_kswapd_wake);
	store_relaxed(&r->reg->resting, false);
}

/* What is due once a second.  How many caches hold anything. */
static unsigned tick(struct reclaimd *r)
{
	bool is_short = false;
	unsigned nr;

	pcp_fold_all(r->reg);
	for_each_zone(zone, r->reg->zones)
		is_short = is_short || zone_free_pages(zone) <=
				       load_relaxed(&zone->high_pages);
	set_pressure(r->reg, is_short);
	lock_acquire(&r->reg->drain_lock);
	nr = pcp_drain_idle(r->reg);
	lock_release(&r->reg->drain_lock);
	/* Nobody is there whom the depots would serve. */
	if (!nr)
		r->reg->drain_small(r->reg, NULL);
	return nr;
}

/*
 * The limit of a container has changed: the pool's follows, at once or, where
 * more is used than it allows, by what is freed, once a second.
 */
static void follow_limit(struct reclaimd *r, uint64_t now)
{
	uint64_t bytes = load_relaxed(&r->reg->auto_limit_bytes);

	if (bytes == r->followed_bytes &&
	    (!r->is_behind || now < r->next_follow_ns))
		return;
	r->followed_bytes = bytes;
	r->next_follow_ns = now + TICK_NS;
	r->is_behind = r->reg->follow_limit(r->reg) == -EAGAIN;
}

static void reclaimd_loop(void *arg)
{
	struct reclaimd *r = arg;
	uint64_t next_tick = os_now_ns() + TICK_NS, now, wait_ns;
	unsigned nr_held = 1;

	while (!load_relaxed(&r->stop)) {
		/* Acquire: pairs with the release in pcp_kick_reclaimd(). */
		uint32_t seen = load_acquire(&r->reg->kick);

		vmstat_add(r->reg->vmstat, EVENT_RECLAIMD_RUNS, 1);
		now = os_now_ns();
		follow_limit(r, now);
		if (now >= next_tick) {
			nr_held = tick(r);
			next_tick = now + TICK_NS;
		}
		wait_ns = min_u64(serve_requests(r, now),
				  until(next_tick, now));
		if (load_relaxed(&main_has_exited)) {
			end_if_last();
			wait_ns = min_u64(wait_ns, LAST_LOOK_NS);
		} else if (!nr_held && wait_ns && !r->is_behind) {
			rest(r, seen);
			nr_held = 1;
			next_tick = os_now_ns() + TICK_NS;
			continue;
		}
		if (wait_ns)
			waitq_sleep_for(&r->reg->kick, seen, wait_ns);
	}
}

/* Starting and stopping */

static void list_add(struct reclaimd *r)
{
	lock_acquire(&list_lock);
	r->next = running;
	running = r;
	lock_release(&list_lock);
}

static void list_del(struct reclaimd *r)
{
	struct reclaimd **link = &running;

	lock_acquire(&list_lock);
	while (*link != r)
		link = &(*link)->next;
	*link = r->next;
	lock_release(&list_lock);
}

int reclaimd_start(struct reclaimd *r)
{
	int none = RECLAIMD_NONE, err;

	if (!cas_relaxed(&r->state, &none, RECLAIMD_STARTING))
		return 0;
	pcp_main_exit_hook = on_main_exit;
	pcp_watch_thread_exit();
	store_relaxed(&r->stop, false);
	list_add(r);
	err = helper_thread_start(&r->thread);
	if (err)
		list_del(r);
	store_relaxed(&r->state, err ? RECLAIMD_NONE : RECLAIMD_RUNNING);
	return err;
}

void reclaimd_stop(struct reclaimd *r)
{
	if (load_relaxed(&r->state) == RECLAIMD_RUNNING) {
		store_relaxed(&r->stop, true);
		pcp_kick_reclaimd(r->reg);
		helper_thread_join(&r->thread);
		list_del(r);
		store_relaxed(&r->state, RECLAIMD_NONE);
	}
	helper_thread_drop(&r->thread);
}

void reclaimd_forget(struct reclaimd *r)
{
	/* The stack is used again if the child makes threads of its own. */
	store_relaxed(&r->state, RECLAIMD_NONE);
	store_relaxed(&r->reg->resting, false);
	store_relaxed(&r->done, load_relaxed(&r->wanted));
	store_relaxed(&r->next_ns, 0);
	helper_threads_forget();
	running = NULL;
	lock_init(&list_lock, LOCK_RANK_LEAF);
}

void reclaimd_init(struct reclaimd *r, struct pcp_registry *reg)
{
	r->reg = reg;
	r->thread = (struct helper_thread){
		.name = THREAD_NAME,
		.body = reclaimd_loop,
		.arg = r,
	};
	store_relaxed(&r->state, RECLAIMD_NONE);
}
