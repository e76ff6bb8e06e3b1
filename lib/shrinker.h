/* SPDX-License-Identifier: MIT */
/*
 * shrinker.h - the program's own caches, asked to give memory back (layer 8).
 *
 * How much a shrinker is asked for follows Linux mm/shrinker.c,
 * do_shrink_slab(): a share of what it has by priority (12: next to nothing, 0:
 * all of it, twice) and by what its objects cost to make again; in batches;
 * what could not be done is put off until the next time, to twice of what it
 * has.  Two things are different.  A pass ends early when there is enough
 * free memory, but each shrinker gets to do a batch first.  And it ends at a
 * deadline, which is looked at between two batches.
 *
 * They are objects of callback.h: one thread at a time is inside a shrinker, to
 * count or to scan.  A walk passes over one that is busy, and tells so.
 *
 * The thread is in a scope of PP_MEMALLOC: what callbacks allocate comes from
 * the reserve, and makes nobody call back.
 *
 * S1: deferred <= 2 * freeable after a pass
 */
#ifndef PP_SHRINKER_H
#define PP_SHRINKER_H

#include "callback.h"
#include "pagepool/reclaim.h"

#define SHRINKER_BATCH		128u
#define SHRINKER_MAX_PRIORITY	12u

struct shrinker {
	struct callback		cb;

	/* const after shrinker_add() */
	struct pp_shrinker	ops;

	/* any thread */
	_Atomic uint64_t	deferred;	/* objects */
	_Atomic uint64_t	last_count;	/* what count() said last */
};

/* One walk over all shrinkers. */
struct shrink_pass {
	unsigned	flags;		/* PP_*, of the request */
	unsigned	priority;	/* 12 .. 0 */
	bool		clean_only;	/* PP_SHRINKER_CLEAN */
	uint64_t	deadline_ns;
	bool		for_request;	/* nobody is asked after it; else each
					 * has a batch, or the last ones would
					 * never be asked */
	bool		(*enough)(void *arg);
	void		*arg;
	/* results */
	uint64_t	nr_scanned, nr_freed;	/* objects */
	bool		has_freeable;
	unsigned	nr_busy;	/* shrinkers passed over, since another
					 * thread was inside; not the stuck */
};

/* What to ask for; pure numbers, with vectors in tests/unit/shrinker_test. */
struct shrink_plan {
	uint64_t	delta;		/* because of this pass */
	uint64_t	total;		/* with what was put off */
};

struct shrink_plan shrink_plan(uint64_t freeable, unsigned priority,
			       unsigned seeks, uint64_t deferred);

/* @s: with ops and a name, zeroes else.  Its callbacks may run from here on. */
void shrinker_add(struct callback_list *list, struct shrinker *s);

/* Waits until no callback runs; stops the program if the caller is in one. */
void shrinker_del(struct shrinker *s);

/* Asks all in turn; not those that a thread is inside, or that the flags
 * forbid.  Not for a request with PP_NOFS.  No lock held; the thread's cache is
 * left. */
void shrinker_run_all(struct callback_list *list, struct shrink_pass *pass);

/* Is there one that @flags, PP_NOFS included, keep from being asked? */
bool shrinker_is_any_forbidden(struct callback_list *list, unsigned flags);

/* What is known of a shrinker without asking it. */
struct shrinker_fact {
	char		name[CALLBACK_NAME_BYTES];
	uint64_t	last_count, deferred;	/* objects */
	bool		is_inside;	/* a thread is in its callback */
};

/* Fills in the first @most; returns how many there are.  No callback runs. */
unsigned shrinker_list_facts(struct callback_list *list,
			     struct shrinker_fact *out, unsigned most);

#endif
