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
 * Callbacks run with no lock held.  Who walks the list keeps its place in a
 * frame: a shrinker with frames stays in the list, and whoever unregisters it
 * waits until the last one is gone.  A frame names its thread, so a thread
 * never enters a callback that it is in already, and the child of a fork knows
 * which frames have nobody who will end them.
 *
 * The thread is in a scope of PP_MEMALLOC: what callbacks allocate comes from
 * the reserve, and makes nobody call back.
 *
 * S1: a shrinker in the list is alive or has frames
 * S2: no frame is added to a shrinker that is dead
 * S3: deferred <= 2 * freeable after a pass with no other beside it
 * S4: a thread has at most one frame in each shrinker
 */
#ifndef PP_SHRINKER_H
#define PP_SHRINKER_H

#include <stdbool.h>

#include "base/lock.h"
#include "pagepool/reclaim.h"

#define SHRINKER_NAME_BYTES	32
#define SHRINKER_BATCH		128u
#define SHRINKER_MAX_PRIORITY	12u

struct shrink_frame {
	uint64_t		thread;		/* thread_identity() */
	struct shrink_frame	*next;
};

struct shrinker {
	/* const after shrinker_add() */
	struct pp_shrinker	ops;
	char			name[SHRINKER_NAME_BYTES];
	struct shrinker_list	*list;

	/* any thread */
	_Atomic uint64_t	deferred;	/* objects */
	_Atomic uint64_t	last_count;	/* what count() said last */

	/* list->lock */
	struct shrink_frame	*frames;
	struct shrinker		*prev, *next;
	bool			dead;
};

struct shrinker_list {
	struct lock		lock;		/* rank SHRINKER */
	struct shrinker		*head;		/* lock */

	/* any thread */
	_Atomic uint32_t	nr;
	_Atomic uint32_t	ended;		/* frames; a futex */
};

/* One walk over all shrinkers. */
struct shrink_pass {
	unsigned	flags;		/* PP_*, of the request */
	unsigned	priority;	/* 12 .. 0 */
	bool		clean_only;	/* PP_SHRINKER_CLEAN */
	uint64_t	deadline_ns;
	bool		(*enough)(void *arg);
	void		*arg;
	/* results */
	uint64_t	nr_scanned, nr_freed;	/* objects */
};

/* What to ask for; pure numbers, with vectors in tests/unit/shrinker_test. */
struct shrink_plan {
	uint64_t	delta;		/* because of this pass */
	uint64_t	total;		/* with what was put off */
};

struct shrink_plan shrink_plan(uint64_t freeable, unsigned priority,
			       unsigned seeks, uint64_t deferred);

void shrinker_list_init(struct shrinker_list *list);

/* @s: with ops, zeroes else.  Its callbacks may run from here on. */
void shrinker_add(struct shrinker_list *list, struct shrinker *s);

/* Waits until no callback runs; stops the program if the caller is in one. */
void shrinker_del(struct shrinker *s);

/* Asks all in turn; not those that the thread is in already, or that the flags
 * forbid.  Not for a request with PP_NOFS.  No lock held; the thread's cache is
 * left. */
void shrinker_run_all(struct shrinker_list *list, struct shrink_pass *pass);

/* Objects that could be freed, all together, of those that may be asked. */
uint64_t shrinker_count_all(struct shrinker_list *list, unsigned flags);

/* What is known of a shrinker without asking it. */
struct shrinker_fact {
	char		name[SHRINKER_NAME_BYTES];
	uint64_t	last_count, deferred;	/* objects */
	bool		is_inside;	/* a thread is in its callback */
};

/* Fills in the first @most; returns how many there are.  No callback runs. */
unsigned shrinker_list_facts(struct shrinker_list *list,
			     struct shrinker_fact *out, unsigned most);

/* Is the calling thread in a callback? */
bool shrinker_is_inside(struct shrinker_list *list);

/* In the child of a fork, while it is alone, with the lock held. */
void shrinker_forget_others(struct shrinker_list *list);

#endif
