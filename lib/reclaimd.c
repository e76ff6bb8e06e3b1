/* SPDX-License-Identifier: MIT */
/* reclaimd.c - see reclaimd.h. */
#include "reclaimd.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>

#include "base/bits.h"
#include "base/delay.h"
#include "base/fault.h"
#include "base/waitq.h"
#include "node.h"
#include "os/os.h"
#include "purge.h"
#include "trace.h"
#include "vmscan.h"

#define THREAD_NAME		"pp-reclaimd"
#define NEVER_NS		UINT64_MAX
/* Between two looks at idle caches; the second while memory is short. */
#define TICK_NS			1000000000ull
#define SHORT_TICK_NS		100000000ull
/* Of a run, before others who want something are looked at. */
#define RUN_NS			100000000ull
/* After one, for the next, before its thread does something else. */
#define LINGER_NS		20000000ull
/* After one that freed nothing: a shrinker could not get its lock, maybe. */
#define FAILED_RUN_NS		2000000ull
#define PURGE_BUDGET_PAGES	(64u << 10)
#define OUTSIDE_INTERVAL_NS	1000000000ull
/* Between two looks whether the program's other threads are gone. */
#define LAST_LOOK_NS		20000000ull

/* All reclaimds that run, and whether main() has left by pthread_exit(). */
static struct lock list_lock = LOCK_INIT(LEAF);
static struct reclaimd *running;	/* list_lock */
static _Atomic bool main_has_exited;

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
	if (!fault_hit(FAULT_THREAD) &&
	    pthread_create(&last, NULL, end_program, NULL) == 0)
		pthread_join(last, NULL);
	else
		end_program(NULL);	/* a small stack is better than none */
}

static void on_main_exit(void)
{
	store_relaxed(&main_has_exited, true);
	lock_acquire(&list_lock);
	for (struct reclaimd *r = running; r; r = r->next)
		zone_kick(r->zone);
	lock_release(&list_lock);
}

static bool is_first(const struct reclaimd *r)
{
	return r->zone->index == 0;
}

static uint64_t until(uint64_t then_ns, uint64_t now_ns)
{
	return then_ns > now_ns ? then_ns - now_ns : 0;
}

/* Tasks of others */

static_assert(sizeof(struct reclaimd_task) <= CALL_MAX_BYTES &&
	      offsetof(struct reclaimd_task, call) == 0, "see call_post()");

/* False: nobody is there for it, or nothing to call. */
static bool give_task(struct reclaimd *r, struct reclaimd_task *task,
		      void (*run)(struct call *call))
{
	if (!load_relaxed(&r->reg->shrinkers->nr))
		return false;
	if (load_relaxed(&task->call.state) == CALL_QUEUED)
		return true;	/* all threads are stuck in something */
	task->call = (struct call){ .run = run, .bytes = sizeof(*task) };
	task->reclaimd = r;
	task->number += task->number == UINT32_MAX ? 2 : 1;
	store_relaxed(&task->out, task->number);
	if (call_post(r->reg->calls, &task->call))
		return true;
	store_relaxed(&task->out, 0);
	return false;
}

/* Full, as the change in end_task(): reclaimd, who was kicked since @wanted,
 * sees that the task is over, or who ends it sees @wanted. */
static bool is_under_way(struct reclaimd_task *task)
{
	return load_full(&task->out) != 0;
}

static const struct reclaimd_task *task_of(struct call *copy)
{
	return container_of(copy, struct reclaimd_task, call);
}

/* Another was given out since, for this one was stuck. */
static bool is_replaced(const struct reclaimd_task *copy,
			struct reclaimd_task *task)
{
	return load_relaxed(&task->out) != copy->number;
}

/* Is there something that reclaimd may have left for the end?  Of one that was
 * replaced, too, which may have said so after the other had ended. */
static void end_task(struct reclaimd *r, const struct reclaimd_task *copy,
		     struct reclaimd_task *task, _Atomic bool *wanted)
{
	uint32_t number = copy->number;

	cas_full(&task->out, &number, 0);
	if (!wanted || load_full(wanted))
		zone_kick(r->zone);
}

/* Balancing */

static bool is_low(struct zone *zone)
{
	return zone_free_pages(zone) <= load_relaxed(&zone->high_pages);
}

/* False: memory is low still. */
static bool run_once(struct reclaimd *r)
{
	struct zone *zone = r->zone;
	uint64_t now = os_now_ns();
	bool any;

	store_relaxed(&r->run_since_ns, now);
	any = vmscan_balance(r->reg, zone, 0, now + RUN_NS);
	vmscan_unthrottle(zone);
	if (!is_low(zone))
		return true;
	/* Where there is no hope the word stays: nobody kicks in vain. */
	store_relaxed(&zone->reclaim_wanted, true);
	store_relaxed(&r->next_run_ns, any ? 0 : os_now_ns() + FAILED_RUN_NS);
	return false;
}

/* Memory that has just been low will be so again: whoever finds it wakes the
 * thread that has callbacks run, and not reclaimd first.  False: it was not. */
static bool linger(struct reclaimd *r)
{
	struct zone *zone = r->zone;
	uint32_t seen = load_acquire(&zone->balance_kick);

	call_rest();
	/* Full: who wants a run sees us, or we see that it is wanted. */
	xchg_full(&zone->has_balancer, true);
	if (!load_full(&zone->reclaim_wanted) && !load_relaxed(&r->stop))
		waitq_sleep_for(&zone->balance_kick, seen, LINGER_NS);
	xchg_full(&zone->has_balancer, false);
	return !load_relaxed(&r->stop) &&
	       xchg_full(&zone->reclaim_wanted, false);
}

static void run_balance(struct call *call)
{
	const struct reclaimd_task *copy = task_of(call);
	struct reclaimd *r = copy->reclaimd;

	/* Each further round was wanted anew. */
	while (run_once(r) && !is_replaced(copy, &r->run) && linger(r))
		;
	end_task(r, copy, &r->run, &r->zone->reclaim_wanted);
}

/* A run that is stuck in a shrinker leaves the others to the next one. */
static bool is_run_stuck(struct reclaimd *r, uint64_t now)
{
	return now >= load_relaxed(&r->run_since_ns) +
		      load_relaxed(&r->reg->calls->stuck_ns) &&
	       callback_is_any_stuck(r->reg->shrinkers);
}

/*
 * A run, if one is wanted.  Cleared first: a claim that finds memory low after
 * the look below wakes us again.
 */
static uint64_t balance(struct reclaimd *r, uint64_t now)
{
	struct zone *zone = r->zone;
	uint64_t next = load_relaxed(&r->next_run_ns);

	if (vmscan_is_hopeless(zone) || !load_full(&zone->reclaim_wanted))
		return NEVER_NS;
	if (is_under_way(&r->run) && !is_run_stuck(r, now))
		return load_relaxed(&r->reg->calls->stuck_ns);
	if (now < next)
		return next - now;
	xchg_full(&zone->reclaim_wanted, false);
	/* Until it says so itself. */
	store_relaxed(&r->run_since_ns, now);
	if (!is_low(zone) || give_task(r, &r->run, run_balance))
		return NEVER_NS;
	store_relaxed(&zone->reclaim_wanted, true);
	vmscan_give_up(r->reg, zone);
	return NEVER_NS;
}

/* Purging */

static uint64_t purge(struct reclaimd *r, uint64_t now)
{
	uint64_t delay_ns = load_relaxed(&r->reg->purge_delay_ns), wait_ns;

	if (now >= r->next_purge_ns || delay_ns != r->purge_delay_ns) {
		r->purge_delay_ns = delay_ns;
		wait_ns = purge_look(r->zone, now, delay_ns,
				     PURGE_BUDGET_PAGES);
		r->purge_rests = wait_ns == PURGE_NEVER_NS;
		r->next_purge_ns = r->purge_rests ? 0 : now + wait_ns;
	}
	return r->purge_rests ? NEVER_NS : until(r->next_purge_ns, now);
}

/* What the first zone's thread does for the pool */

/* While memory is short counters are to be closer: their reader may be about
 * to decide by them. */
static void set_pressure(struct pcp_registry *reg, bool under_pressure)
{
	if (load_relaxed(&reg->vmstat->under_pressure) != under_pressure)
		pcp_set_pressure(reg, under_pressure);
}

static bool is_short(struct pcp_registry *reg)
{
	for_each_zone(zone, reg->zones)
		if (is_low(zone))
			return true;
	return false;
}

static uint64_t tick(struct reclaimd *r, uint64_t now)
{
	bool short_now;

	if (!r->has_held && pcp_sum_granted_bytes(r->reg, NULL)) {
		r->has_held = true;
		r->next_tick_ns = now + r->tick_ns;
	}
	if (now >= r->next_tick_ns) {
		pcp_fold_all(r->reg);
		short_now = is_short(r->reg);
		set_pressure(r->reg, short_now);
		r->has_held = drain_idle(r->reg->drain_service,
					 NULL, r->tick_ns) != 0;
		r->tick_ns = short_now ? SHORT_TICK_NS : TICK_NS;
		r->next_tick_ns = now + r->tick_ns;
	}
	return r->has_held ? until(r->next_tick_ns, now) : NEVER_NS;
}

/* Memory has become short in the middle of a long tick. */
static void hurry_tick(struct reclaimd *r, uint64_t now)
{
	if (r->tick_ns == TICK_NS && is_short(r->reg))
		r->next_tick_ns = min_u64(r->next_tick_ns,
					  now + SHORT_TICK_NS);
}

static void run_share(struct call *call)
{
	const struct reclaimd_task *copy = task_of(call);
	struct reclaimd *r = copy->reclaimd;

	vmscan_gently(r->reg, os_now_ns() + RUN_NS);
	end_task(r, copy, &r->share, NULL);
}

/* A share at an event, and one event in so much time: caches are there for a
 * reason, and what is taken from them today is made again tomorrow. */
static uint64_t answer_outside(struct reclaimd *r, uint64_t now)
{
	uint32_t events = load_relaxed(&r->reg->outside_pressure);

	if (events == r->seen_outside || is_under_way(&r->share))
		return NEVER_NS;
	if (now < r->next_outside_ns)
		return r->next_outside_ns - now;
	r->seen_outside = events;
	/* Not from @now, which may be before the event. */
	r->next_outside_ns = os_now_ns() + OUTSIDE_INTERVAL_NS;
	for_each_zone(zone, r->reg->zones)
		purge_share(zone);
	give_task(r, &r->share, run_share);
	return NEVER_NS;
}

static uint64_t serve_drains(struct reclaimd *r, uint64_t now)
{
	uint64_t wait_ns = drain_serve(r->reg->drain_service, now);

	if (wait_ns != NEVER_NS)
		set_pressure(r->reg, true);
	/* Just served: counters are looked at again at the next tick. */
	return wait_ns ? wait_ns : NEVER_NS;
}

/*
 * The limit of a container has changed: the pool's follows, at once or, where
 * more is used than it allows, by what is freed, once a second.
 */
static uint64_t follow_limit(struct reclaimd *r, uint64_t now)
{
	uint64_t bytes = load_relaxed(&r->reg->auto_limit_bytes);

	if (bytes != r->followed_bytes ||
	    (r->is_behind && now >= r->next_follow_ns)) {
		r->followed_bytes = bytes;
		r->next_follow_ns = now + TICK_NS;
		r->is_behind = r->reg->follow_limit(r->reg) == -EAGAIN;
		/* What the program can do without brings it nearer. */
		if (r->is_behind)
			for_each_zone(zone, r->reg->zones)
				pcp_note_low(r->reg, zone);
	}
	return r->is_behind ? until(r->next_follow_ns, now) : NEVER_NS;
}

static uint64_t serve_pool(struct reclaimd *r, uint64_t now)
{
	uint64_t wait_ns = serve_drains(r, now);

	call_service_mend(r->reg->calls);
	wait_ns = min_u64(wait_ns, follow_limit(r, now));
	wait_ns = min_u64(wait_ns, answer_outside(r, now));
	hurry_tick(r, now);
	return min_u64(wait_ns, tick(r, now));
}

/* The loop */

/* There is nothing to do: wait until there is. */
static void rest(struct reclaimd *r, uint32_t seen)
{
	/* Full: who is granted something sees this, or we see what it got. */
	xchg_full(&r->zone->resting, true);
	TRACE(mm_vmscan_kswapd_sleep, r->zone->index);
	if (!is_first(r) || !pcp_sum_granted_bytes(r->reg, NULL))
		waitq_sleep(&r->zone->kick, seen);
	TRACE(mm_vmscan_kswapd_wake, r->zone->index);
	store_relaxed(&r->zone->resting, false);
	/* Caches may hold something again, as of now. */
	r->has_held = true;
	r->next_tick_ns = os_now_ns() + TICK_NS;
}

/* Acquire: pairs with the release in zone_kick().  What was asked before the
 * kick, to stop too, is seen after it. */
static bool is_to_go_on(struct reclaimd *r, uint32_t *seen)
{
	*seen = load_acquire(&r->zone->kick);
	delay_at(DELAY_LOOK);
	return !load_relaxed(&r->stop);
}

static void reclaimd_loop(void *arg)
{
	struct reclaimd *r = arg;
	uint32_t seen;

	while (is_to_go_on(r, &seen)) {
		uint64_t now = os_now_ns(), wait_ns;

		vmstat_add(r->reg->vmstat, EVENT_RECLAIMD_RUNS, 1);
		wait_ns = balance(r, now);
		wait_ns = min_u64(wait_ns, purge(r, now));
		if (is_first(r))
			wait_ns = min_u64(wait_ns, serve_pool(r, now));
		if (load_relaxed(&main_has_exited)) {
			end_if_last();
			wait_ns = min_u64(wait_ns, LAST_LOOK_NS);
		}
		if (wait_ns == NEVER_NS)
			rest(r, seen);
		else if (wait_ns)
			waitq_sleep_for(&r->zone->kick, seen, wait_ns);
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

static void set_running(struct reclaimd *r, bool is_running)
{
	/* Full: pairs with the load in zone_kick(). */
	xchg_full(&r->zone->has_reclaimd, is_running);
	if (is_first(r))
		store_relaxed(&r->reg->drain_service->has_thread, is_running);
	store_relaxed(&r->state, is_running ? RECLAIMD_RUNNING :
					      RECLAIMD_NONE);
}

/* Whoever they were given to is gone. */
static void forget_tasks(struct reclaimd *r)
{
	store_relaxed(&r->run.out, 0);
	store_relaxed(&r->share.out, 0);
	/* One that was queued is in no queue now. */
	store_relaxed(&r->run.call.state, CALL_NEW);
	store_relaxed(&r->share.call.state, CALL_NEW);
}

static int reclaimd_start(struct reclaimd *r)
{
	int none = RECLAIMD_NONE, err;

	if (!cas_relaxed(&r->state, &none, RECLAIMD_STARTING))
		return 0;
	pcp_main_exit_hook = on_main_exit;
	pcp_watch_thread_exit();
	store_relaxed(&r->stop, false);
	forget_tasks(r);
	list_add(r);
	err = helper_thread_start(&r->thread);
	if (err)
		list_del(r);
	delay_at(DELAY_START);
	set_running(r, !err);
	/* Whoever had something for it before that has told nobody. */
	if (!err)
		zone_kick(r->zone);
	return err;
}

void reclaimd_start_all(struct pcp_registry *reg)
{
	for_each_zone(zone, reg->zones)
		reclaimd_start(&reg->reclaimd[zone->index]);
}

static void reclaimd_stop(struct reclaimd *r)
{
	if (load_relaxed(&r->state) == RECLAIMD_RUNNING) {
		store_relaxed(&r->stop, true);
		zone_kick(r->zone);
		zone_kick_balancer(r->zone);
		helper_thread_join(&r->thread);
		list_del(r);
		set_running(r, false);
	}
	helper_thread_drop(&r->thread);
}

void reclaimd_stop_all(struct pcp_registry *reg)
{
	for_each_zone(zone, reg->zones)
		reclaimd_stop(&reg->reclaimd[zone->index]);
}

bool reclaimd_is_running(struct pcp_registry *reg)
{
	return load_relaxed(&reg->reclaimd[0].state) == RECLAIMD_RUNNING;
}

void reclaimd_forget_all(struct pcp_registry *reg)
{
	for_each_zone(zone, reg->zones) {
		/* The stack is used again if the child makes threads of its
		 * own. */
		set_running(&reg->reclaimd[zone->index], false);
		forget_tasks(&reg->reclaimd[zone->index]);
		store_relaxed(&zone->resting, false);
		store_relaxed(&zone->nr_throttled, 0);
		store_relaxed(&zone->has_balancer, false);
		/* Whoever comes first looks what there is to do. */
		store_relaxed(&zone->reclaim_wanted, false);
	}
	drain_service_forget(reg->drain_service);
	store_relaxed(&reg->work_due, true);
	helper_threads_forget();
	running = NULL;
	lock_init(&list_lock, LOCK_RANK_LEAF);
}

void reclaimd_init_all(struct reclaimd *all, struct pcp_registry *reg)
{
	reg->reclaimd = all;
	for_each_zone(zone, reg->zones) {
		struct reclaimd *r = &all[zone->index];

		r->reg = reg;
		r->zone = zone;
		r->has_held = true;
		r->tick_ns = TICK_NS;
		r->thread = (struct helper_thread){
			.name = THREAD_NAME,
			.body = reclaimd_loop,
			.arg = r,
		};
		store_relaxed(&r->state, RECLAIMD_NONE);
	}
}
