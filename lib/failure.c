/* SPDX-License-Identifier: MIT */
/* failure.c - see failure.h; pp_last_failure() and pp_failure_name(). */
#include "failure.h"

#include <stdlib.h>

#include "os/os.h"

/* What a thread that is to abort waits for another's report: far more than a
 * terminal takes. */
#define MAX_YIELDS	20000

/* Each of these keeps something from being tried. */
#define FLAGS_EXPECT_NULL \
	(PP_NOWAIT | PP_NORETRY | PP_NOWARN | PP_THISNODE | PP_NOIO | \
	 PP_NOFS | PP_MEMALLOC | PP_RETRY_MAYFAIL)

#define X(id, label, what) \
	static_assert((int)PP_FAILURE_##id == (int)FAILURE_##id + 1, \
		      "one order of " #label);
PP_FAILURES(X)
#undef X
static_assert(PP_NR_FAILURES == NR_FAILURES + 1, "and no more");

/* enum pp_failure: an int, as scope_of_thread, so that both and the pointer are
 * all of the thread-local storage. */
static __thread enum pp_failure last_of_thread;

/* thread_identity() of the one that reports; 0: none. */
static _Atomic uintptr_t printer;

/* The last reason */

enum pp_failure pp_last_failure(void)
{
	return last_of_thread;
}

const char *pp_failure_name(enum pp_failure why)
{
	if (why == PP_FAILURE_NONE)
		return "none";
	return (unsigned)why < PP_NR_FAILURES ?
	       failure_name((enum failure)(why - 1)) : NULL;
}

/* One report at a time */

/* Acquire: pairs with the release in printer_give(), for the report's
 * storage. */
static bool printer_take(void)
{
	uintptr_t none = 0;

	return cas_acquire(&printer, &none, thread_identity());
}

static void printer_give(void)
{
	/* Release: pairs with the acquire in printer_take(). */
	store_release(&printer, 0);
}

static bool printer_is_me(void)
{
	return load_relaxed(&printer) == thread_identity();
}

/* A handler on top of the printer that forks: it goes on in the child. */
void failure_forget_printer(void)
{
	if (!printer_is_me())
		printer_give();
}

static void report(struct pp_pool *pool, const struct failure_request *request)
{
	failure_report(pool, request, xchg_relaxed(&pool->nr_unreported, 0));
}

/* Is it time for one?  Then the caller is the printer. */
static bool may_report(struct pp_pool *pool)
{
	uint64_t now, next = load_relaxed(&pool->next_report_ns);

	if (next && !load_relaxed(&pool->verbose))
		return false;
	/* A report takes locks, which a handler's own thread may hold. */
	if (pool_is_nested(pool))
		return false;
	now = os_now_ns();
	if (now < next || !printer_take())
		return false;
	if (cas_relaxed(&pool->next_report_ns, &next,
			now + FAILURE_INTERVAL_NS))
		return true;
	printer_give();
	return false;
}

bool failure_aborts(unsigned flags, enum failure why)
{
	switch (why) {
	case FAILURE_NESTED:
	case FAILURE_CANNOT_WAIT:
	case FAILURE_IN_RECLAIM:
	case FAILURE_SCOPE:
		return false;
	default:
		return !(flags & FLAGS_EXPECT_NULL);
	}
}

static PP_COLD void die(struct pp_pool *pool,
			const struct failure_request *request)
{
	bool mine = printer_take();

	/* Unless it is a handler on top of the printer, which would wait for
	 * itself. */
	for (unsigned i = 0; !mine && !printer_is_me() && i < MAX_YIELDS; i++) {
		os_yield();
		mine = printer_take();
	}
	if (mine) {
		report(pool, request);
		printer_give();
	}
	abort();
}

void pool_failed(struct pp_pool *pool, size_t bytes, unsigned flags,
		 enum failure why)
{
	const struct failure_request request = {
		.bytes = bytes,
		.flags = scope_add(flags),
		.why = why,
	};

	last_of_thread = (enum pp_failure)(why + 1);
	if (!pool)
		return;
	add_relaxed(&pool->vmstat.failure[why], 1);
	if (unlikely(load_relaxed(&pool->oom_aborts)) &&
	    failure_aborts(request.flags, why) && !pool_is_nested(pool))
		die(pool, &request);
	if (flags & PP_NOWARN)
		return;
	if (!may_report(pool)) {
		add_relaxed(&pool->nr_unreported, 1);
		return;
	}
	report(pool, &request);
	printer_give();
}

/* Those that are to fail */

PP_COLD bool pool_injects_now(struct pp_pool *pool, size_t bytes,
			      unsigned flags)
{
	uint64_t number;

	if (flags & PP_NOFAIL || scope_is_internal() || pool_is_nested(pool))
		return false;
	number = inject_decide(&pool->inject, bytes_to_pages_up(bytes));
	if (!number)
		return false;
	inject_announce(&pool->inject, number, bytes);
	/* Memory is not short: no report of what it went to. */
	pool_failed(pool, bytes, flags | PP_NOWARN, FAILURE_INJECTED);
	return true;
}
