/* SPDX-License-Identifier: MIT */
/* slowpath.c - see slowpath.h. */
#include "slowpath.h"

#include "claim.h"
#include "drain_service.h"
#include "grace.h"
#include "mempolicy.h"
#include "node.h"
#include "oom.h"
#include "os/os.h"
#include "pressure.h"
#include "show_waiting.h"
#include "trace.h"
#include "vmscan.h"

/* Of PP_NOFAIL, between two rounds in which nothing was given back: a limit
 * may have been raised, the kernel may have memory again. */
#define WAIT_ROUND_NS		100000000ull
/* And between two lines that say that it waits. */
#define WAIT_LINE_NS		10000000000ull

/* An attempt */

static void note_time(struct pcp_registry *reg, struct pcp *pcp,
		      uint64_t start_ns)
{
	int64_t took_ns = (int64_t)(os_now_ns() - start_ns);

	pcp_count_in(reg, pcp, EVENT_SLOWPATH, 1);
	pcp_count_in(reg, pcp, EVENT_SLOWPATH_NS, took_ns);
	/* These counts are to be folded within a second. */
	if (unlikely(load_relaxed(&reg->zones->resting)))
		pcp_kick_reclaimd(reg);
}

/* What this thread can do by itself. */
static void give_back_own(struct pcp_registry *reg, struct pcp *pcp)
{
	if (load_relaxed(&reg->has_orphans))
		pcp_adopt_orphans(reg);
	if (pcp)
		pcp_flush(pcp);
	reg->drain_small(reg, NULL);
}

static PP_COLD void *alloc_pages_slow(struct pcp_registry *reg,
				      struct pcp *pcp,
				      const struct page_request *req,
				      struct page_result *result)
{
	uint64_t start_ns = os_now_ns();
	void *run = NULL;

	if (result->why != FAILURE_TOO_BIG && !(req->flags & PP_NORETRY)) {
		give_back_own(reg, pcp);
		run = page_alloc_once(reg, NULL, req, result);
	}
	note_time(reg, pcp, start_ns);
	return run;
}

/* Served with more than low left: there is memory again.  Not if it was only
 * what the thread has just freed itself, on its way to a handler. */
static PP_COLD void end_grace(struct pcp_registry *reg)
{
	for_each_zone(zone, reg->zones)
		if (zone_free_pages(zone) > load_relaxed(&zone->low_pages))
			grace_end();
}

void *alloc_pages(struct pcp_registry *reg, struct pcp *pcp,
		  const struct page_request *req, struct page_result *result)
{
	void *run = page_alloc_once(reg, pcp, req, result);

	if (unlikely(!run))
		run = alloc_pages_slow(reg, pcp, req, result);
	else if (grace_is_begun())
		end_grace(reg);
	TRACE(mm_page_alloc, run, req->nr_pages, req->flags);
	return run;
}

/* DRAIN */

/*
 * Would all that others hide be enough?  From above: what caches hold, what
 * they may hold in small objects, and what is free in slabs, which a few
 * cached objects may keep from being whole.
 */
static uint64_t hidden_pages(struct pcp_registry *reg)
{
	uint64_t granted, pages = 0;

	/* A handler on top of us keeps off the locks taken here. */
	pcp_enter_without();
	granted = pcp_sum_granted_bytes(reg, NULL);
	if (granted)
		pages = (uint64_t)pcp_sum_cached_pages(reg) +
			bytes_to_pages_up(granted + reg->small_free_bytes(reg));
	pcp_leave_without();
	return pages;
}

static bool is_worth_a_drain(struct pcp_registry *reg,
			     const struct vmscan_want *want)
{
	uint64_t hidden = hidden_pages(reg);

	return hidden && vmscan_would_serve(reg, want, hidden);
}

/* The states */

enum slow_state {
	SLOW_ATTEMPT, SLOW_FIT, SLOW_RESERVE, SLOW_WAKE, SLOW_CLEAN,
	SLOW_RECLAIM, SLOW_DRAIN, SLOW_AGAIN, SLOW_OOM, SLOW_FAIL, SLOW_WAIT,
	SLOW_SERVED, SLOW_FAILED	/* the ends */
};

static struct zone *only_zone(const struct slow_request *s)
{
	struct pcp_registry *reg = s->reg;

	if (!reg->nodes || !(s->flags & PP_THISNODE))
		return NULL;
	return &reg->zones[s->node ? s->node - 1 :
			   mempolicy_here(reg->nodes)];
}

static struct vmscan_want want_of(const struct slow_request *s)
{
	return (struct vmscan_want){
		.nr_pages = s->nr_pages,
		.flags = s->flags,
		.only = only_zone(s),
		.deadline_ns = s->deadline_ns,
	};
}

static bool is_late(const struct slow_request *s)
{
	return os_now_ns() >= s->deadline_ns;
}

static enum slow_state fail(struct slow_request *s, enum failure why)
{
	s->why = why;
	return SLOW_FAIL;
}

/* Only the limit gives way to what is done here.  A thread of the victim that
 * is to end gets half of the reserve, once, and does not wait for itself. */
static enum slow_state look_at_reason(struct slow_request *s)
{
	if (s->why != FAILURE_LIMIT)
		return SLOW_FAIL;
	if (!oom_is_own(s->reg))
		return SLOW_RESERVE;
	if (s->flags & PAGE_OF_VICTIM)
		return SLOW_FAIL;
	s->flags |= PAGE_OF_VICTIM;
	return SLOW_ATTEMPT;
}

static void *take_from_reserve(struct slow_request *s)
{
	if (!(s->flags & SLOWPATH_MAY_GRACE) || !grace_is_for(s->bytes))
		return NULL;
	return s->attempt(s, s->flags | PP_HIGH);
}

static enum slow_state wake(struct slow_request *s)
{
	pressure_raise(s->reg, PP_PRESSURE_MIN);
	for_each_zone(zone, s->reg->zones)
		pcp_note_claim(s->reg, zone);
	if (s->flags & (PP_NORETRY | PP_NOWAIT) && !(s->flags & PP_NOFAIL))
		return fail(s, FAILURE_CANNOT_WAIT);
	if (is_late(s))
		return fail(s, FAILURE_TIMEOUT);
	return s->flags & PP_MEMALLOC ? SLOW_CLEAN : SLOW_RECLAIM;
}

static enum slow_state clean(struct slow_request *s)
{
	const struct vmscan_want want = want_of(s);

	if (s->cleaned)
		return fail(s, FAILURE_IN_RECLAIM);
	s->cleaned = true;
	return vmscan_clean(s->reg, &want) ? SLOW_ATTEMPT :
	       fail(s, FAILURE_IN_RECLAIM);
}

static void unclaim(struct slow_request *s)
{
	if (s->has_claim)
		claim_end(s->reg);
	s->has_claim = false;
	s->flags &= ~PAGE_CLAIMANT;
}

/* Whoever frees memory in vain, since others take it, lays claim to it. */
static void claim(struct slow_request *s)
{
	if (claim_begin(s->reg, s->nr_pages)) {
		s->has_claim = true;
		s->flags |= PAGE_CLAIMANT;
	} else {
		unclaim(s);
	}
}

static enum slow_state reclaim(struct slow_request *s)
{
	struct vmscan_want want = want_of(s);
	bool in_vain = s->made_progress;

	s->made_progress = false;
	/* A shrinker may wait for a lock that is held with PP_NOFS. */
	if (!(s->flags & PP_NOFS))
		vmscan_throttle(s->reg, &want);
	if (in_vain) {
		claim(s);
		want.flags = s->flags;
		/* What was freed may be in others' caches. */
		if (!s->drained)
			return SLOW_DRAIN;
	}
	s->made_progress = vmscan_direct(s->reg, &want, &s->has_more) != 0;
	if (!s->made_progress)
		return SLOW_DRAIN;
	s->nr_no_progress = 0;
	return SLOW_ATTEMPT;
}

static enum slow_state drain(struct slow_request *s)
{
	const struct vmscan_want want = want_of(s);
	uint64_t now = os_now_ns();

	if (s->drained || !is_worth_a_drain(s->reg, &want))
		return SLOW_AGAIN;
	s->drained = true;
	vmstat_add(s->reg->vmstat, EVENT_DRAIN_WAITS, 1);
	drain_ask(s->reg->drain_service, want.deadline_ns > now ?
		  want.deadline_ns - now : 0);
	return SLOW_ATTEMPT;
}

/* Would there be enough, if another thread had no claim? */
static bool is_held_off(struct slow_request *s, uint64_t *until_ns)
{
	struct vmscan_want want = want_of(s);

	want.flags |= PAGE_CLAIMANT;
	return claim_is_others(s->reg, until_ns) &&
	       vmscan_would_serve(s->reg, &want, 0);
}

/* Until that claim ends, or may be ended; not at all, if it has ended. */
static void wait_for_claimant(struct slow_request *s)
{
	uint32_t seen = memwait_begin(&s->reg->memwait);
	uint64_t now = os_now_ns(), until;

	if (is_held_off(s, &until)) {
		until = min_u64(until, s->deadline_ns);
		if (now < until)
			memwait_sleep(&s->reg->memwait, seen, until - now);
	}
	memwait_end(&s->reg->memwait);
}

/* Others may have freed something, or a shrinker could not work. */
static enum slow_state again(struct slow_request *s)
{
	uint64_t now = os_now_ns();

	if (now >= s->deadline_ns)
		return fail(s, FAILURE_TIMEOUT);
	if (is_held_off(s, &now)) {
		wait_for_claimant(s);
		return SLOW_ATTEMPT;
	}
	if (s->nr_no_progress++ >= SLOWPATH_MAX_RETRIES || !s->has_more)
		return SLOW_OOM;
	os_yield();
	return SLOW_ATTEMPT;
}

/* Of oom_timeout: a victim has so much to end, then force(), then as much
 * again; there is time for two of them. */
#define GRACE_DIVISOR	4
/* No victims for who asks for none, or could get nothing of theirs, or holds
 * a lock that one may need. */
#define NO_VICTIMS	(PP_RETRY_MAYFAIL | PP_THISNODE | PP_NOFS | PP_NOIO | \
			 PP_NORETRY)

static bool is_enough(struct slow_request *s)
{
	const struct vmscan_want want = want_of(s);

	return vmscan_would_serve(s->reg, &want, 0);
}

/* May what the request's scope or flags forbid have helped? */
static enum failure limit_or_scope(const struct slow_request *s)
{
	bool no_shrinker = shrinker_is_any_forbidden(s->reg->shrinkers,
						     s->flags);
	bool no_victim = s->flags & NO_VICTIMS && oom_is_possible(s->reg);

	return no_shrinker || no_victim ? FAILURE_SCOPE : FAILURE_LIMIT;
}

static enum slow_state out_of_memory(struct slow_request *s)
{
	struct oom_want want = {
		.grace_ns = load_relaxed(&s->reg->oom_timeout_ns) /
			    GRACE_DIVISOR,
	};
	bool may_choose = !(s->flags & NO_VICTIMS) && oom_is_possible(s->reg);

	/* What victims give up is for whoever had them end. */
	if (may_choose)
		claim(s);
	want.want = want_of(s);
	/* Nobody fails or ends if it was just too early to give up: a claim
	 * has lapsed, perhaps. */
	s->had_last_try = !s->had_last_try && is_enough(s);
	if (s->had_last_try)
		return SLOW_ATTEMPT;
	if (!may_choose)
		return fail(s, limit_or_scope(s));
	s->was_oom = true;
	switch (oom_release(s->reg, &want)) {
	case OOM_PROGRESS:
		s->nr_no_progress = 0;
		/* Some of it may be in the cache of whoever gave it up. */
		s->drained = false;
		return SLOW_ATTEMPT;
	case OOM_LATE:
		return fail(s, FAILURE_TIMEOUT);
	default:
		return fail(s, FAILURE_LIMIT);
	}
}

static enum slow_state give_up(struct slow_request *s)
{
	if (s->why != FAILURE_OS && s->why != FAILURE_PURGE &&
	    s->why != FAILURE_TOO_BIG && s->why != FAILURE_ADDRESS_SPACE)
		pressure_raise(s->reg, PP_PRESSURE_OOM);
	if (s->flags & PP_NOFAIL)
		return SLOW_WAIT;
	TRACE(alloc_fail, (int)s->why, s->nr_pages, s->flags);
	return SLOW_FAILED;
}

/* PP_NOFAIL */

static void say_waiting(struct slow_request *s, uint64_t now)
{
	if (now < s->next_line_ns)
		return;
	show_waiting(s->bytes, now - s->start_ns, s->why);
	s->next_line_ns = now + WAIT_LINE_NS;
}

/*
 * Half of the reserve; all of it once after victims were let go in vain.  Then
 * until something is given back, or a round is over; and all begins anew.
 */
static void *wait(struct slow_request *s)
{
	struct memwait *mw = &s->reg->memwait;
	uint32_t seen = memwait_begin(mw);
	uint64_t now = os_now_ns();
	void *run;

	unclaim(s);
	run = s->attempt(s, s->flags | (s->was_oom ? PP_MEMALLOC :
							   PP_HIGH));

	if (!run) {
		say_waiting(s, now);
		memwait_sleep(mw, seen, WAIT_ROUND_NS);
	}
	memwait_end(mw);
	s->made_progress = s->drained = s->cleaned = s->was_oom = false;
	s->nr_no_progress = 0;
	s->deadline_ns = os_now_ns() + load_relaxed(&s->reg->oom_timeout_ns);
	return run;
}

/* The machine */

static void begin(struct slow_request *s)
{
	s->start_ns = s->since_ns = os_now_ns();
	s->deadline_ns = s->start_ns + load_relaxed(&s->reg->oom_timeout_ns);
	s->next_line_ns = s->start_ns + WAIT_LINE_NS;
}

/* Attempts count their own time. */
static void *attempt(struct slow_request *s)
{
	uint64_t until_ns;
	void *run;

	/* Lapsed while we waited for a callback. */
	if (s->has_claim && claim_is_others(s->reg, &until_ns))
		unclaim(s);
	vmstat_add(s->reg->vmstat, EVENT_SLOWPATH_NS,
		   (int64_t)(os_now_ns() - s->since_ns));
	run = s->attempt(s, s->flags);
	s->since_ns = os_now_ns();
	return run;
}

static void end(struct slow_request *s)
{
	unclaim(s);
	vmstat_add(s->reg->vmstat, EVENT_SLOWPATH_NS,
		   (int64_t)(os_now_ns() - s->since_ns));
}

static enum slow_state served_or(void *run, enum slow_state otherwise)
{
	return run ? SLOW_SERVED : otherwise;
}

/* Bounded by B1 to B5. */
PP_COLD void *slowpath_run(struct slow_request *s)
{
	enum slow_state state = SLOW_FIT;
	void *run = NULL;

	begin(s);
	while (state < SLOW_SERVED)
		switch (state) {
		case SLOW_ATTEMPT:
			run = attempt(s);
			state = served_or(run, SLOW_FIT);
			break;
		case SLOW_FIT:
			state = look_at_reason(s);
			break;
		case SLOW_RESERVE:
			run = take_from_reserve(s);
			state = served_or(run, SLOW_WAKE);
			break;
		case SLOW_WAKE:
			state = wake(s);
			break;
		case SLOW_CLEAN:
			state = clean(s);
			break;
		case SLOW_RECLAIM:
			state = reclaim(s);
			break;
		case SLOW_DRAIN:
			state = drain(s);
			break;
		case SLOW_AGAIN:
			state = again(s);
			break;
		case SLOW_OOM:
			state = out_of_memory(s);
			break;
		case SLOW_FAIL:
			state = give_up(s);
			break;
		default:	/* SLOW_WAIT */
			run = wait(s);
			state = served_or(run, SLOW_ATTEMPT);
			break;
		}
	end(s);
	return run;
}
