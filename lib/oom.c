/* SPDX-License-Identifier: MIT */
/* oom.c - see oom.h. */
#include "oom.h"

#include <errno.h>

#include "base/bits.h"
#include "base/bug.h"
#include "call_service.h"
#include "node.h"
#include "os/os.h"
#include "scope.h"
#include "trace.h"

__thread uint32_t victim_of_thread;

int64_t oom_badness(uint64_t usage_bytes, int adj, uint64_t managed_pages)
{
	return (int64_t)bytes_to_pages_down(usage_bytes) +
	       (int64_t)adj * (int64_t)managed_pages / 1000;
}

static struct victim *victim_of(struct callback *cb)
{
	return container_of(cb, struct victim, cb);
}

static bool is_killable(const struct victim *v)
{
	return !(v->ops.flags & PP_VICTIM_NOKILL) &&
	       v->ops.adj > OOM_ADJ_NEVER;
}

static bool is_under_way(const struct victim *v)
{
	return v->state == VICTIM_CANCELLED || v->state == VICTIM_FORCED;
}

void oom_verify(struct oom *oom)
{
	struct victim *found = NULL;

	for (struct callback *cb = oom->victims.head; cb; cb = cb->next)
		if (is_under_way(victim_of(cb))) {
			BUG_ON(found);				/* O1 */
			BUG_ON(!is_killable(victim_of(cb)));	/* O2 */
			found = victim_of(cb);
		}
	BUG_ON(found != oom->current);				/* O1 */
	BUG_ON(load_relaxed(&oom->current_number) !=
	       (found ? found->number : 0));			/* O3 */
}

void oom_init(struct oom *oom, struct memwait *memwait)
{
	oom->memwait = memwait;
	callback_list_init(&oom->victims, LOCK_RANK_OOM);
	callback_list_init(&oom->notifiers, LOCK_RANK_OOM);
}

/* The end of each hold in which something changed. */
static void let_go_moved(struct oom *oom)
{
	if (PP_DEBUG > 0)
		oom_verify(oom);
	callback_let_go(&oom->victims);
	memwait_wake_any(oom->memwait);
}

/* States; lock held */

static void set_state(struct victim *v, enum victim_state state)
{
	struct oom *oom = v->oom;
	bool was_choosable = v->state < VICTIM_SKIPPED && is_killable(v);

	VM_BUG_ON(v->state >= state);
	v->state = state;
	if (is_under_way(v)) {
		oom->current = v;
		store_relaxed(&oom->current_number, v->number);
	} else if (oom->current == v) {
		oom->current = NULL;
		store_relaxed(&oom->current_number, 0);
	}
	if (was_choosable && state >= VICTIM_SKIPPED)
		sub_relaxed(&oom->nr_killable, 1);
}

static void set_exited(struct victim *v)
{
	if (v->state == VICTIM_EXITED)
		return;
	if (v->state != VICTIM_ALIVE)
		add_relaxed(&v->oom->nr_released, 1);
	set_state(v, VICTIM_EXITED);
}

/* Of the process: a thread's word names one victim, whatever the pool. */
static uint32_t next_number(void)
{
	static _Atomic uint32_t last;
	uint32_t n = add_relaxed(&last, 1) + 1;

	return n ? n : add_relaxed(&last, 1) + 1;
}

void victim_add(struct oom *oom, struct victim *v)
{
	v->oom = oom;
	v->number = next_number();
	if (is_killable(v))
		add_relaxed(&oom->nr_killable, 1);
	callback_add(&oom->victims, &v->cb);
}

void victim_exited(struct victim *v)
{
	callback_hold(&v->oom->victims);
	set_exited(v);
	let_go_moved(v->oom);
}

void victim_del(struct victim *v)
{
	victim_exited(v);
	callback_del(&v->cb, "pp_victim_unregister");
}

void oom_notifier_add(struct oom *oom, struct oom_notifier *n)
{
	callback_add(&oom->notifiers, &n->cb);
}

void oom_notifier_del(struct oom_notifier *n)
{
	callback_del(&n->cb, "pp_oom_notifier_unregister");
}

/* Steps */

/* Lock held.  Is anybody inside who does not come back in time? */
static bool may_force(const struct victim *v)
{
	return v->state == VICTIM_CANCELLED && !v->cb.inside && !v->cb.dead;
}

/* Lock held.  When there is something to do. */
static uint64_t due_ns(const struct oom *oom, uint64_t grace_ns)
{
	const struct victim *v = oom->current;

	if (!v)
		return oom->chooser ? oom->chooser_since_ns +
			load_relaxed(&oom->victims.stuck_ns) : 0;
	if (v->state == VICTIM_FORCED)
		return v->forced_ns + grace_ns;
	/* If cancel() has not returned: as long again. */
	return v->cancelled_ns + grace_ns * (may_force(v) ? 1 : 2);
}

uint64_t oom_due_ns(struct oom *oom, uint64_t grace_ns)
{
	uint64_t due;

	callback_hold(&oom->victims);
	due = due_ns(oom, grace_ns);
	callback_let_go(&oom->victims);
	return due;
}

/* Lock held.  Its time is over; is the caller to run force()? */
static bool step_current(struct victim *v, uint64_t now_ns)
{
	if (!may_force(v)) {
		set_state(v, VICTIM_SKIPPED);
		return false;
	}
	set_state(v, VICTIM_FORCED);
	v->forced_ns = now_ns;
	if (v->ops.force)
		callback_enter(&v->cb);
	return v->ops.force != NULL;
}

enum oom_todo oom_look(struct oom *oom, uint64_t grace_ns, uint64_t now_ns,
		       uint64_t *until_ns, struct victim **v)
{
	enum oom_todo todo = OOM_TODO_WAIT;
	bool moved = false;

	callback_hold(&oom->victims);
	*until_ns = due_ns(oom, grace_ns);
	/* Each round brings the victim to its next state. */
	while (oom->current && todo == OOM_TODO_WAIT && now_ns >= *until_ns) {
		*v = oom->current;
		moved = true;
		if (step_current(*v, now_ns))
			todo = OOM_TODO_FORCE;
		*until_ns = due_ns(oom, grace_ns);
	}
	if (todo == OOM_TODO_WAIT && now_ns >= *until_ns) {
		oom->chooser = thread_identity();
		oom->chooser_since_ns = now_ns;
		todo = OOM_TODO_CHOOSE;
	}
	if (moved)
		let_go_moved(oom);
	else
		callback_let_go(&oom->victims);
	return todo;
}

/* Runs cancel() or force(), which the caller is inside, and leaves. */
static void call_victim(struct oom *oom, struct victim *v,
			void (*function)(void *arg))
{
	unsigned scope = scope_enter(PP_MEMALLOC);
	int saved = errno;

	function(v->ops.arg);
	scope_leave(scope);
	errno = saved;
	callback_hold(&oom->victims);
	callback_leave(&v->cb);
	let_go_moved(oom);
	/* Who unregisters it. */
	callback_list_wake(&oom->victims);
}

/* Choosing */

/* The chooser has got on; is it still the chooser? */
static bool keep_choosing(struct oom *oom)
{
	bool ok;

	callback_hold(&oom->victims);
	ok = oom->chooser == thread_identity();
	if (ok)
		oom->chooser_since_ns = os_now_ns();
	callback_let_go(&oom->victims);
	return ok;
}

/* Was it still the chooser? */
static bool stop_choosing(struct oom *oom, bool released)
{
	bool was_chooser;

	callback_hold(&oom->victims);
	was_chooser = oom->chooser == thread_identity();
	if (was_chooser)
		oom->chooser = 0;
	if (released)
		add_relaxed(&oom->nr_released, 1);
	let_go_moved(oom);
	return was_chooser;
}

/* @is_chooser: ends when somebody has taken over. */
static bool may_notify(const struct callback *cb PP_UNUSED,
		       const void *is_chooser)
{
	return *(const bool *)is_chooser;
}

/* Runs all; has any freed something? */
static bool notify(struct oom *oom, uint64_t nr_pages)
{
	bool is_chooser = true, any = false;
	struct callback_walk walk = {
		.may_enter = may_notify,
		.arg = &is_chooser,
	};
	unsigned scope = scope_enter(PP_MEMALLOC);
	int saved = errno;

	for_each_callback(cb, &oom->notifiers, &walk) {
		struct oom_notifier *n =
			container_of(cb, struct oom_notifier, cb);

		any = n->ops.notify(n->ops.arg, nr_pages) || any;
		is_chooser = keep_choosing(oom);
	}
	scope_leave(scope);
	errno = saved;
	return any;
}

static bool may_choose(const struct callback *cb, const void *is_chooser)
{
	const struct victim *v = container_of(cb, const struct victim, cb);

	return *(const bool *)is_chooser && v->state == VICTIM_ALIVE &&
	       is_killable(v);
}

/* The number of the worst, the latest of several; 0: there is none. */
static uint32_t worst(struct oom *oom, uint64_t managed_pages)
{
	bool is_chooser = true;
	struct callback_walk walk = {
		.may_enter = may_choose,
		.arg = &is_chooser,
	};
	unsigned scope = scope_enter(PP_MEMALLOC);
	int64_t badness, most = INT64_MIN;
	uint32_t number = 0;
	int saved = errno;

	for_each_callback(cb, &oom->victims, &walk) {
		struct victim *v = victim_of(cb);

		badness = oom_badness(v->ops.usage(v->ops.arg), v->ops.adj,
				      managed_pages);
		if (!number || badness > most ||
		    (badness == most && v->number > number)) {
			most = badness;
			number = v->number;
		}
		is_chooser = keep_choosing(oom);
	}
	scope_leave(scope);
	errno = saved;
	return number;
}

static struct victim *find(struct oom *oom, uint32_t number)
{
	struct callback *cb = oom->victims.head;

	while (cb && victim_of(cb)->number != number)
		cb = cb->next;
	return cb ? victim_of(cb) : NULL;
}

/*
 * Makes the victim of that number the current one, and enters it.  NULL if
 * that is not for us to do any more: the victim is gone, somebody is inside or
 * has replaced us, or it was disabled.
 */
static struct victim *condemn(struct oom *oom, uint32_t number)
{
	struct victim *v = NULL;
	uint64_t now = os_now_ns();

	callback_hold(&oom->victims);
	if (oom->chooser == thread_identity()) {
		oom->chooser = 0;
		if (!oom->current && !load_relaxed(&oom->nr_disabled))
			v = find(oom, number);
	}
	if (v && (v->cb.dead || v->cb.inside || v->state != VICTIM_ALIVE))
		v = NULL;
	if (v) {
		set_state(v, VICTIM_CANCELLED);
		v->cancelled_ns = now;
		callback_enter(&v->cb);
	}
	let_go_moved(oom);
	return v;
}

/* Chooses, and cancels whom it chose.  False: there is nobody. */
static bool choose(struct pcp_registry *reg, const struct vmscan_want *want)
{
	struct oom *oom = reg->oom;
	uint64_t managed_pages = 0;
	struct victim *v;
	uint32_t number;

	if (load_relaxed(&oom->notifiers.nr) && notify(oom, want->nr_pages)) {
		vmstat_add(reg->vmstat, EVENT_OOM_NOTIFIED, 1);
		stop_choosing(oom, true);
		return true;
	}
	for_each_zone(zone, reg->zones)
		managed_pages += load_relaxed(&zone->managed_pages);
	number = worst(oom, managed_pages);
	/* Who was replaced leaves it to the other. */
	if (!number)
		return !stop_choosing(oom, false);
	/* Nobody ends for a request that fails in any case. */
	if (os_now_ns() >= want->deadline_ns) {
		stop_choosing(oom, false);
		return true;
	}
	v = condemn(oom, number);
	if (v) {
		vmstat_add(reg->vmstat, EVENT_OOM_RELEASES, 1);
		TRACE(mark_victim, v->cb.name, v->ops.adj, want->nr_pages);
		call_victim(oom, v, v->ops.cancel);
	}
	return true;
}

/* Releasing */

static void force(struct pcp_registry *reg, struct victim *v)
{
	vmstat_add(reg->vmstat, EVENT_OOM_FORCED, 1);
	call_victim(reg->oom, v, v->ops.force);
}

/* Is it time to go back?  An attempt has just failed, so that what looks like
 * enough counts only when @has_waited. */
static bool is_over(struct pcp_registry *reg, const struct vmscan_want *want,
		    uint32_t released, bool has_waited)
{
	return load_relaxed(&reg->oom->nr_released) != released ||
	       oom_is_own(reg) ||
	       (has_waited && vmscan_would_serve(reg, want, 0));
}

/* A call of the service: the step that is due. */
struct oom_call {
	struct call		call;		/* first, and then: */
	struct {
		bool		is_nobody;
	} result;
	struct pcp_registry	*reg;
	struct oom_want		want;
	uint32_t		released;	/* when the request came */
	bool			has_waited;
};

CALL_ASSERT(struct oom_call);

static void run_step(struct call *call)
{
	struct oom_call *c = container_of(call, struct oom_call, call);
	struct oom *oom = c->reg->oom;
	uint64_t until_ns;
	struct victim *v;

	c->result.is_nobody = false;
	switch (oom_look(oom, c->want.grace_ns, os_now_ns(), &until_ns, &v)) {
	case OOM_TODO_CHOOSE:
		/* One may have exited since. */
		if (is_over(c->reg, &c->want.want, c->released, c->has_waited))
			stop_choosing(oom, false);
		else
			c->result.is_nobody = !choose(c->reg, &c->want.want);
		break;
	case OOM_TODO_FORCE:
		force(c->reg, v);
		break;
	default:
		break;
	}
}

static enum oom_result release_counted(struct pcp_registry *reg,
				       const struct oom_want *want)
{
	struct oom_call c = {
		.call = {
			.run = run_step,
			.bytes = sizeof(c),
			.result_bytes = sizeof(c.result),
		},
		.reg = reg,
		.want = *want,
		.released = load_relaxed(&reg->oom->nr_released),
	};
	uint64_t deadline = want->want.deadline_ns, now, due;
	uint32_t seen;

	/* Each round has had a step of some victim's done, or slept until one
	 * was due; it ends at the deadline. */
	for (;; c.has_waited = true) {
		seen = load_relaxed(&reg->memwait.freed);
		if (is_over(reg, &want->want, c.released, c.has_waited))
			return OOM_PROGRESS;
		now = os_now_ns();
		if (now >= deadline)
			return OOM_LATE;
		if (load_relaxed(&reg->oom->nr_disabled))
			return OOM_NONE;
		due = min_u64(oom_due_ns(reg->oom, want->grace_ns), deadline);
		if (due > now)
			memwait_sleep(&reg->memwait, seen, due - now);
		else if (call_make(reg->calls, &c.call, deadline) &&
			 c.result.is_nobody)
			return OOM_NONE;
	}
}

enum oom_result oom_release(struct pcp_registry *reg,
			    const struct oom_want *want)
{
	enum oom_result result;

	VM_BUG_ON(want->want.flags & (PP_NOFS | PP_MEMALLOC | PP_NOWAIT |
				      PP_NORETRY | PP_RETRY_MAYFAIL));
	memwait_begin(&reg->memwait);
	result = release_counted(reg, want);
	memwait_end(&reg->memwait);
	return result;
}

/* Disabling */

int oom_disable(struct oom *oom, uint64_t deadline_ns)
{
	uint64_t now = 0;
	uint32_t seen;
	int err = 0;

	memwait_begin(oom->memwait);
	callback_hold(&oom->victims);
	add_relaxed(&oom->nr_disabled, 1);
	/* Each round waits for something to move. */
	while (oom->current && !err) {
		seen = load_relaxed(&oom->memwait->freed);
		callback_let_go(&oom->victims);
		now = os_now_ns();
		if (now >= deadline_ns)
			err = -ETIMEDOUT;
		else
			memwait_sleep(oom->memwait, seen, deadline_ns - now);
		callback_hold(&oom->victims);
	}
	if (err)
		sub_relaxed(&oom->nr_disabled, 1);
	let_go_moved(oom);
	memwait_end(oom->memwait);
	return err;
}

int oom_enable(struct oom *oom)
{
	int err = -EINVAL;

	callback_hold(&oom->victims);
	if (load_relaxed(&oom->nr_disabled)) {
		sub_relaxed(&oom->nr_disabled, 1);
		err = 0;
	}
	let_go_moved(oom);
	return err;
}

void oom_forget_others(struct oom *oom)
{
	callback_forget_others(&oom->victims);
	callback_forget_others(&oom->notifiers);
	if (oom->chooser != thread_identity())
		oom->chooser = 0;
}
