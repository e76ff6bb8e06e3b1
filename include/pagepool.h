/* SPDX-License-Identifier: MIT */
/*
 * pagepool.h - a page pool with a limit that the program survives.
 *
 * A pool hands out runs of 4 KiB pages.  Memory resident on its behalf, its
 * own tables included, never exceeds its limit; a request that the limit
 * forbids returns NULL with errno = ENOMEM, and any mixture of lengths can
 * use the whole limit.
 *
 * Functions return 0 (or a count) or -errno; functions that return a pointer
 * return NULL and set errno.  All are thread-safe; none may be called from a
 * signal handler, unless it says so.  A pointer that is not what the function
 * asks for stops the program with one line that names it.  A pool, a cache or a
 * place for a result that is NULL is EINVAL, or such a line where nothing is
 * returned.
 */
#ifndef PAGEPOOL_H
#define PAGEPOOL_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

#define PP_PAGE_SIZE	4096

struct pp_config;
struct pp_pool;

/*
 * Flags of a request.  0: an ordinary one, which leaves the reserve (the min
 * watermark) to others.
 */
#define PP_NOWAIT	0x0001u	/* do not wait; takes nothing of the reserve */
#define PP_HIGH		0x0002u	/* half of the reserve may be used */
#define PP_ATOMIC	(PP_NOWAIT | PP_HIGH)	/* five eighths of it */
#define PP_MEMALLOC	0x0004u	/* all of it: the caller is freeing memory */
#define PP_NOMEMALLOC	0x0008u	/* nothing of it, whatever else is said */
#define PP_NORETRY	0x0010u	/* one attempt */
#define PP_ZERO		0x0020u	/* pages read as zeroes */
#define PP_NOWARN	0x0040u	/* a failure prints nothing */
#define PP_THISNODE	0x0080u	/* the caller's memory node or NULL */
#define PP_NOIO		0x0100u	/* reclaim for it does no I/O, no victims */
#define PP_NOFS		0x0200u	/* reclaim for it has no callback called: the
				 * caller holds a lock that one waits for */
#define PP_RETRY_MAYFAIL 0x0400u /* whatever helps, but no victims */
#define PP_NOFAIL	0x0800u	/* waits until it can be served; not with
				 * PP_NOWAIT */

/**
 * pp_config_create() - settings: the defaults, then the environment.
 * @out: receives the settings; pp_config_destroy() frees them.
 *
 * Reads every PAGEPOOL_ variable (pagepool(7)).  A bad value is reported on
 * standard error, once, and the default stays; in set-user-ID programs the
 * environment is ignored.
 *
 * Return: 0, or -ENOMEM.
 */
int pp_config_create(struct pp_config **out);

/**
 * pp_config_set() - change one setting.
 * @name: in lower case, without PAGEPOOL_: "limit".
 * @value: text, as in the environment: "512M".
 *
 * Return: 0; -ENOENT for an unknown name, -EINVAL for a value that is not of
 * the setting's kind, -ERANGE for one out of its range.  Unchanged on error.
 */
int pp_config_set(struct pp_config *config, const char *name,
		  const char *value);
void pp_config_destroy(struct pp_config *config);

/**
 * pp_pool_create() - a pool of its own.
 * @config: settings, copied; NULL: those of pp_config_create().
 * @out: receives the pool.
 *
 * Return: 0, or -ENOMEM when the address range could not be reserved.
 */
int pp_pool_create(const struct pp_config *config, struct pp_pool **out);

/**
 * pp_pool_destroy() - end a pool.
 *
 * No other thread may be using it.  Ends the pool's own threads.  Return: 0;
 * -EBUSY while pages of it are handed out, a shrinker, a victim or a notifier
 * is registered, a reserve exists, or a thread that used it is just exiting;
 * nothing has changed then.
 */
int pp_pool_destroy(struct pp_pool *pool);

/**
 * pp_pool_default() - the pool of the process, made at the first call.
 *
 * It is the preload library's pool where that is loaded.  It is never
 * destroyed.  Return: the pool, or NULL with errno = ENOMEM.
 */
struct pp_pool *pp_pool_default(void);

/**
 * pp_pool_set() - change a setting of a living pool.
 * @name, @value: as for pp_config_set(); "limit", "min_free",
 *		  "watermark_scale", "purge_delay", "oom", "oom_timeout",
 *		  "oom_reserve", "pressure_signal", "numa" and "verbose" can
 *		  be changed.
 *
 * Return: as pp_config_set(), and -EBUSY for a setting that is fixed once the
 * pool exists.
 */
int pp_pool_set(struct pp_pool *pool, const char *name, const char *value);

/**
 * pp_alloc_pages() - a run of contiguous pages.
 * @nr_pages: 1 or more; lengths over 16 are rounded up by at most an eighth.
 * @flags: PP_*.
 *
 * At the limit whatever may help is tried, for as long as the setting
 * oom_timeout says, a second by default.  Callbacks of the program are part of
 * that: others run them, and the caller waits no longer, whatever they do
 * (pagepool/reclaim.h has the exceptions).  With PP_NOFAIL there is no end to
 * it, and a line on standard error each ten seconds.
 *
 * Return: the run, aligned to a page; NULL with errno = ENOMEM at the limit,
 * EINVAL for no pages or unknown flags.  With PP_NOFAIL never, but for EINVAL
 * and more than 2^28 pages.
 */
void *pp_alloc_pages(struct pp_pool *pool, size_t nr_pages, unsigned flags);

/* As pp_alloc_pages(), at a multiple of @align_pages pages: a power of two,
 * or EINVAL. */
void *pp_alloc_aligned(struct pp_pool *pool, size_t nr_pages,
		       size_t align_pages, unsigned flags);

/**
 * pp_alloc_bulk() - several runs of one length.
 * @out: an array of @nr_runs; the first so many as returned are filled in.
 *
 * Return: how many runs could be had, 0 .. @nr_runs; with errno set if fewer.
 */
size_t pp_alloc_bulk(struct pp_pool *pool, size_t nr_runs, size_t nr_pages,
		     void **out, unsigned flags);

/* @run: from any of the functions above, or NULL.  Keeps errno. */
void pp_free_pages(struct pp_pool *pool, void *run);
void pp_free_bulk(struct pp_pool *pool, size_t nr_runs, void **runs);

/* Pages that may be used from @run on: at least what was asked for. */
size_t pp_run_pages(struct pp_pool *pool, const void *run);

/**
 * pp_realloc_pages() - another length, the contents kept.
 * @run: a run, or NULL for a new one.
 * @nr_pages: 1 or more.
 *
 * In place where the pages behind the run are free; otherwise by moving the
 * memory or copying it.  With PP_ZERO the pages added read as zeroes.
 *
 * Return: the run, moved or not; NULL with errno = ENOMEM or EINVAL, and the
 * old run is as it was.
 */
void *pp_realloc_pages(struct pp_pool *pool, void *run, size_t nr_pages,
		       unsigned flags);

/**
 * pp_scope_enter() - flags for all that the thread allocates from here on.
 * @flags: PP_NOIO, PP_NOFS and PP_MEMALLOC, or some of them.
 *
 * For code that holds a lock which a callback waits for, or frees memory, and
 * calls other code which allocates: the flags are added to those of each
 * request, to malloc's too in a preloaded program, and to those of scopes
 * around this one.
 *
 * Return: what pp_scope_leave() takes: the scope before.
 */
unsigned pp_scope_enter(unsigned flags);
void pp_scope_leave(unsigned saved);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
