/* SPDX-License-Identifier: MIT */
/*
 * pagepool/reclaim.h - getting memory back that is in use for nobody's good,
 * and hearing about it in time.
 */
#ifndef PAGEPOOL_RECLAIM_H
#define PAGEPOOL_RECLAIM_H

#include <stdint.h>

#include <pagepool.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

/**
 * pp_pool_drain() - give back what the threads of the process have cached.
 *
 * Empties the caches of all threads, those that sleep included, small objects
 * too.  What they freed before the call is free memory of the pool when it
 * returns, fit for requests of any size; slabs that hold an object still in
 * use stay.  The pool does the same by itself before a request fails.
 *
 * Context: any thread; not a signal handler.  Waits for threads that are just
 *          inside the pool, 1 s at the most.
 * Return: 0.
 * Errors: -EINVAL: @pool is NULL.  -EDEADLK: called by a signal handler on top
 *         of a call of the pool.  -EBUSY: a thread stayed inside the pool for
 *         1 s, or the kernel refuses membarrier(2) since the program started;
 *         the other caches are empty.
 */
int pp_pool_drain(struct pp_pool *pool);

/*
 * Callbacks, which are those of shrinkers, victims and notifiers.
 *
 * They run in threads that the pool has for that, called pp-callback, and never
 * in the thread that needs memory: nothing thread-local of that is there, and
 * no lock that it holds is theirs.  Three are made when the first of these
 * objects is registered, up to 16 while some are stuck; they end with the pool.
 * They have a stack of 256 KiB and block all signals but those that a thread
 * raises by what it does, such as SIGSEGV.  In the child of a fork that a
 * callback makes, the return of that callback ends the child, with status 0.
 * Shrinkers with PP_SHRINKER_CLEAN are also called in place, for a callback
 * that allocates and for who is in a scope of PP_MEMALLOC.  The callbacks of
 * one object are called by one thread at a time, those of several at the same
 * time.
 *
 * A request waits for them for one oom_timeout in all, a second by default, and
 * fails then; what they free later is as welcome.  One that has not got on for
 * a quarter of that is stuck: the request has the others called, by another
 * thread, and fails if these do not help.  So a callback that waits for a lock
 * which the requester holds, a recursive one too, makes it wait in vain.
 * Requests under such a lock want PP_NOFS; or the callback only tries the lock.
 *
 * Where there is no such thread, whoever needs memory calls back itself, and
 * waits for that without an end: if none can be made, and in the child of a
 * fork until it registers something itself, or calls pp_pool_default() (for
 * that pool), pp_pool_set(), pp_pool_reclaim() or pp_pressure_fd().  The
 * preload library's own pool has them again when the child makes a thread or
 * registers something.
 */

/*
 * Shrinkers: what the program itself can do without.
 *
 * A cache of the program's own that is made of the pool's memory registers two
 * callbacks: how many objects could be freed, and free so many of them.  The
 * pool has them called in proportion to how short memory is, for its background
 * thread while free memory is below the high watermark, and for a request that
 * would fail otherwise (Linux mm/shrinker.c).
 */

/* What count() returns when there is nothing, and what scan() returns when it
 * cannot work now, as when a lock is taken: the work is put off. */
#define PP_SHRINK_EMPTY	(SIZE_MAX - 1)
#define PP_SHRINK_STOP	SIZE_MAX

/* The usual cost of making an object again, in seeks of a disk. */
#define PP_SHRINKER_SEEKS	2

/* struct pp_shrinker.flags */
#define PP_SHRINKER_IO		1u	/* scan() may do I/O: never with
					 * PP_NOIO */
#define PP_SHRINKER_CLEAN	2u	/* neither callback allocates, does I/O
					 * or waits: may be called where
					 * others may not, in callbacks of
					 * theirs too */

/* What a callback is told. */
struct pp_shrink {
	unsigned	flags;		/* PP_NOIO, PP_MEMALLOC: of the request
					 * that needs memory; 0 for the pool's
					 * background thread */
	size_t		nr_to_scan;	/* objects to free, or to look at */
	size_t		nr_scanned;	/* looked at: nr_to_scan, unless scan()
					 * says something else, but not 0 */
};

/* struct_bytes = sizeof(struct pp_shrinker); later versions append fields. */
struct pp_shrinker {
	size_t		struct_bytes;
	const char	*name;		/* for reports; copied, 31 bytes */
	void		*arg;
	/* How many objects could be freed: a guess, quickly; or
	 * PP_SHRINK_EMPTY. */
	size_t		(*count)(void *arg, struct pp_shrink *shrink);
	/* Frees some; returns how many, or PP_SHRINK_STOP. */
	size_t		(*scan)(void *arg, struct pp_shrink *shrink);
	unsigned	seeks;		/* PP_SHRINKER_SEEKS; more: dearer to
					 * make again, spared; 0: free */
	size_t		batch;		/* objects in one scan; 0: 128 */
	unsigned	flags;		/* PP_SHRINKER_* */
};

struct pp_shrinker_id;

/**
 * pp_shrinker_register() - offer the pool memory that the program can free.
 * @shrinker: copied.
 * @out: receives what pp_shrinker_unregister() takes.
 *
 * The callbacks may be called at once, by the pool's threads (above), with no
 * lock of the pool held.  They free with free(), pp_free_pages() or
 * pp_cache_free(), may wait for locks that nobody holds across an allocation
 * without PP_NOFS, and should return within milliseconds: by returning, not by
 * an exception, longjmp() or the end of the thread.  What they allocate is
 * served from the reserve and has nobody called back but other shrinkers with
 * PP_SHRINKER_CLEAN.
 *
 * Context: any thread, a callback too; not a signal handler.  The first call
 *          makes the pool's threads, its background thread too; where that is
 *          refused it succeeds without.
 * Return: 0.
 * Errors: -EINVAL: NULL, no name or callback, unknown flags or both, a
 *         struct_bytes that is not one.  -ENOMEM.  -EDEADLK: called by a
 *         signal handler on top of a call of the pool.
 */
int pp_shrinker_register(struct pp_pool *pool,
			 const struct pp_shrinker *shrinker,
			 struct pp_shrinker_id **out);

/**
 * pp_shrinker_unregister() - take the offer back.
 * @id: or NULL.
 *
 * Waits for callbacks under way, without an end; none runs after it returns.
 * Called from one of the shrinker's own callbacks, which would wait for itself,
 * it stops the program; two callbacks that take back each other wait for ever.
 *
 * Context: no lock held that the shrinker's callbacks wait for.
 */
void pp_shrinker_unregister(struct pp_shrinker_id *id);

/**
 * pp_pool_reclaim() - have memory freed that the program can do without.
 * @nr_pages: how many pages are wanted.
 *
 * Empties the threads' caches, and has the shrinkers called, harder and harder,
 * until so many pages were freed or nothing more can be.  The flags of the
 * thread's scope hold (pp_scope_enter()).
 *
 * Context: any thread.  Waits, 1 s at the most; in vain, if the thread holds a
 *          lock that a shrinker waits for.
 * Return: the number of pages freed, which may be more or less than asked for;
 *         those of a callback that was not waited for are not in it.
 * Errors: -EINVAL: @pool is NULL.  -EDEADLK: called by a shrinker, in a scope
 *         of PP_MEMALLOC, or by a signal handler on top of a call of the pool.
 */
long pp_pool_reclaim(struct pp_pool *pool, size_t nr_pages);

/*
 * Pressure.  An episode of a level begins when free memory falls to it, and
 * ends when it is above the high watermark again; each level is told once an
 * episode, before the first request fails.
 */
enum pp_pressure {
	PP_PRESSURE_LOW,	/* the low watermark: reclaim begins */
	PP_PRESSURE_MIN,	/* min: requests wait for reclaim */
	PP_PRESSURE_OOM,	/* a request is about to fail */
};

/**
 * pp_pressure_fd() - a descriptor that becomes readable at a level.
 *
 * It is an eventfd, non-blocking and closed on exec; read() returns the number
 * of episodes since the last read.  Each call makes another one, and a second
 * descriptor of the same, numbered 700 or more, which is the pool's.  Close the
 * one that is returned when it is of no use any more: the pool notices.
 * Neither is there for the child of a fork.
 *
 * Return: the descriptor.
 * Errors: -EINVAL: @pool is NULL, or no such level.  -EMFILE, -ENFILE.
 *         -ENOSPC: the pool has PP_PRESSURE_MAX_FDS already.
 */
int pp_pressure_fd(struct pp_pool *pool, enum pp_pressure level);

#define PP_PRESSURE_MAX_FDS	16

/*
 * Victims: what the program gives up before a request fails.
 *
 * A part of the program that can end by itself, such as a query, a session or
 * a tenant, registers how much it uses and how to tell it.  When nothing can be
 * reclaimed any more, the pool tells the one that uses most, one at a time, and
 * requests wait until it says that it has ended (Linux mm/oom_kill.c).
 */

/* struct pp_victim.flags */
#define PP_VICTIM_NOKILL	1u	/* never chosen */

/* struct_bytes = sizeof(struct pp_victim); later versions append fields. */
struct pp_victim {
	size_t		struct_bytes;
	const char	*name;		/* for reports; copied, 31 bytes */
	void		*arg;
	/* Bytes of the pool that it uses: a guess, quickly. */
	size_t		(*usage)(void *arg);
	/* Tells it to end; does not wait for that. */
	void		(*cancel)(void *arg);
	/* Takes its memory away, if it has not ended after a while; or NULL. */
	void		(*force)(void *arg);
	int		adj;		/* -1000 .. 1000 thousandths of the pool
					 * more than it uses; -1000: never */
	unsigned	flags;		/* PP_VICTIM_* */
};

struct pp_victim_id;

/**
 * pp_victim_register() - something that can be given up.
 * @victim: copied.
 * @out: receives what the other functions take.
 *
 * The callbacks may be called at once, by the pool's threads and not by the
 * victim's own, with no lock of the pool held.  What holds for a shrinker's
 * callbacks holds for them.
 *
 * Context: as pp_shrinker_register().
 * Return: 0.
 * Errors: -EINVAL: NULL, no name, usage or cancel, an adj or flags that are
 *         none, a struct_bytes that is not one.  -ENOMEM.  -EDEADLK: called by
 *         a signal handler on top of a call of the pool.
 */
int pp_victim_register(struct pp_pool *pool, const struct pp_victim *victim,
		       struct pp_victim_id **out);

/**
 * pp_victim_exited() - it has ended, and its memory is free.
 * @id: or NULL.
 *
 * Those who wait try again at once.  It is not chosen any more.  Also in its
 * own callbacks; not in a signal handler.
 */
void pp_victim_exited(struct pp_victim_id *id);

/**
 * pp_victim_unregister() - there is nothing to give up any more.
 * @id: or NULL.
 *
 * Counts as having exited.  Waits for callbacks under way, without an end; none
 * runs after it returns.  Called from one of the victim's own, it stops the
 * program.
 */
void pp_victim_unregister(struct pp_victim_id *id);

/**
 * pp_victim_enter() - the calling thread works for a victim.
 * @id: or NULL: for none.
 *
 * From the moment that it is cancelled to the one that it has exited, requests
 * of the thread do not wait, and get half of the reserve before they fail.
 * Return: for pp_victim_leave().
 */
unsigned pp_victim_enter(struct pp_victim_id *id);
void pp_victim_leave(unsigned saved);

/**
 * pp_oom_disable() - choose no victim, and call no notifier.
 * @timeout_ms: to wait for a victim that was chosen before to have exited.
 *
 * Requests fail instead.  Each call needs one of pp_oom_enable().
 * Return: 0.
 * Errors: -EINVAL: @pool is NULL.  -ETIMEDOUT: it has not, and nothing is
 *         disabled.  -EDEADLK, of both: called by a signal handler on top of
 *         a call of the pool.
 */
int pp_oom_disable(struct pp_pool *pool, unsigned timeout_ms);
int pp_oom_enable(struct pp_pool *pool);	/* -EINVAL: was not disabled */

/* struct_bytes = sizeof(struct pp_oom_notifier). */
struct pp_oom_notifier {
	size_t		struct_bytes;
	const char	*name;		/* for reports; copied, 31 bytes */
	void		*arg;
	/* Frees what it can; returns how much: if that is not 0, no victim is
	 * chosen this time. */
	size_t		(*notify)(void *arg, size_t nr_pages);
};

struct pp_oom_notifier_id;

/**
 * pp_oom_notifier_register() - to be asked before a victim is chosen.
 * @notifier: copied.
 *
 * It is called, in a thread of the pool's, for a request that would fail
 * otherwise.
 * Context, return, errors: as pp_victim_register().
 */
int pp_oom_notifier_register(struct pp_pool *pool,
			     const struct pp_oom_notifier *notifier,
			     struct pp_oom_notifier_id **out);

/* Waits for a callback under way, without an end.  NULL does nothing. */
void pp_oom_notifier_unregister(struct pp_oom_notifier_id *id);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
