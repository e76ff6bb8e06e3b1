/* SPDX-License-Identifier: MIT */
/*
 * pagepool/reserve.h - memory that one user can count on.
 *
 * A pool's own reserve is for all; a stranger may have eaten it just when
 * somebody needs a page to be able to free a hundred.  A reserve of this kind
 * keeps a number of runs for one user alone.  While the pool has memory they
 * stay where they are; when it has none they are handed out, and who comes too
 * late waits for one to come back.
 *
 * It works if each unit of work returns its runs without needing more of the
 * same reserve than it has counted on: one run for pp_reserve_alloc(), or all
 * that it needs by a ticket.  Layers on top of each other need one reserve
 * each.
 */
#ifndef PAGEPOOL_RESERVE_H
#define PAGEPOOL_RESERVE_H

#include <pagepool.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

struct pp_reserve;

/**
 * pp_reserve_create() - set runs aside.
 * @nr_runs: so many, 1 or more.
 * @nr_pages: the length of each, as for pp_alloc_pages().
 * @out: receives the reserve.
 *
 * Return: 0.
 * Errors: -EINVAL: NULL or 0.  -ENOMEM: they could not all be had; none was
 *         taken.  -EDEADLK: called by a signal handler on top of a call.
 */
int pp_reserve_create(struct pp_pool *pool, size_t nr_runs, size_t nr_pages,
		      struct pp_reserve **out);

/**
 * pp_reserve_resize() - set more or fewer runs aside.
 *
 * What is too much goes back to the pool at once, or when it is freed.  What is
 * missing is allocated, and what the pool does not have is kept back when runs
 * of the reserve are freed.
 *
 * Return: 0, or how many runs are not set aside yet.
 * Errors: -EINVAL: NULL or 0.  -ENOMEM: the limit will never allow so many.
 *         -EDEADLK: as above.  Nothing has changed then.
 */
int pp_reserve_resize(struct pp_reserve *reserve, size_t nr_runs);

/**
 * pp_reserve_destroy() - give all of it back.
 *
 * No other thread may be using it.  Return: 0; -EBUSY while runs are out or
 * tickets are held, and nothing has changed then; -EINVAL: NULL; -EDEADLK: as
 * above.
 */
int pp_reserve_destroy(struct pp_reserve *reserve);

/**
 * pp_reserve_alloc() - a run from the pool, or else from the reserve.
 * @flags: PP_*, as for pp_alloc_pages().  The pool's own reserve is never
 *	   touched, whatever they say.
 *
 * Never fails, unless it may not wait: where the pool has nothing and the
 * reserve neither, it waits until a run of the reserve comes back, in turn.
 *
 * Return: the run; NULL with errno = ENOMEM with PP_NOWAIT or PP_NORETRY or in
 * a signal handler on top of a call, EINVAL for unknown flags.
 */
void *pp_reserve_alloc(struct pp_reserve *reserve, unsigned flags);

/* @run: of the reserve, or NULL.  Goes to who waits, or is set aside again if
 * runs are missing, or goes back to the pool.  Keeps errno. */
void pp_reserve_free(struct pp_reserve *reserve, void *run);

/* So many runs for one unit of work.  The caller's; its fields are not. */
struct pp_ticket {
	struct pp_reserve	*reserve;
	void			*first;
	size_t			nr_runs;	/* left to be drawn */
	unsigned		flags;
};

/**
 * pp_reserve_hold() - a ticket for several runs, all or none.
 * @nr_runs: no more than are set aside.
 * @flags: as for pp_reserve_alloc(); PP_ZERO holds for each that is drawn.
 * @ticket: is filled in; for one thread at a time.
 *
 * Waits, in turn with pp_reserve_alloc(), until all of them can be had.
 *
 * Return: 0, and each of @nr_runs calls of pp_reserve_draw() will succeed.
 * Errors: -EINVAL: NULL, 0, unknown flags, or more runs than the reserve is to
 *         have, perhaps since it was resized.  -ENOMEM: with PP_NOWAIT or
 *         PP_NORETRY.  -EDEADLK: as above.  The ticket is void then.
 */
int pp_reserve_hold(struct pp_reserve *reserve, size_t nr_runs, unsigned flags,
		    struct pp_ticket *ticket);

/* A run of the ticket's, for pp_reserve_free(): neither waits nor takes a lock
 * nor fails; NULL with errno = EINVAL when none is left. */
void *pp_reserve_draw(struct pp_ticket *ticket);

/* Gives back what was not drawn, to who waits first.  The ticket is void then;
 * to drop a void one does nothing. */
void pp_reserve_drop(struct pp_ticket *ticket);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
