/* SPDX-License-Identifier: MIT */
/*
 * pagepool/jemalloc.h - an arena of jemalloc's on a pool's pages.
 *
 * For programs that use jemalloc by its own names.  The library is of its own:
 * libpagepool-jemalloc, pkg-config pagepool-jemalloc; it needs libpagepool and
 * the program's libjemalloc.so.2, version 5.3 or later, without a prefix.
 */
#ifndef PAGEPOOL_JEMALLOC_H
#define PAGEPOOL_JEMALLOC_H

#include <pagepool.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

struct pp_jemalloc;

/**
 * pp_jemalloc_arena() - make an arena whose memory is the pool's.
 * @out: receives what the other functions take.
 * @arena_ind: receives the arena's number, for MALLOCX_ARENA() and
 *             thread.arena.
 *
 * What the arena keeps for reuse is a shrinker of the pool, and goes back to it
 * in parts of any length, so that all of it can serve others.  An allocation
 * that the limit forbids returns NULL.  jemalloc's own records of the arena
 * are not the pool's: up to a thirtieth of what the arena holds.
 *
 * Use MALLOCX_TCACHE_NONE with MALLOCX_ARENA(), or a cache of
 * tcache.create, to allocate and to free; or set thread.arena once.  What is in
 * jemalloc's thread caches is in use to the pool.
 *
 * Context: any thread; not a signal handler.
 * Return: 0.
 * Errors: -EINVAL: NULL.  -ENOMEM: the pool's limit, or jemalloc has no memory
 *         for an arena.  -ENOTSUP: jemalloc is older than 5.3, or built
 *         without statistics.
 */
int pp_jemalloc_arena(struct pp_pool *pool, struct pp_jemalloc **out,
		      unsigned *arena_ind);

/**
 * pp_jemalloc_mallocx() - mallocx() in the arena that fails only when it must.
 * @bytes: 0 counts as 1.
 * @flags: of mallocx(); MALLOCX_TCACHE_NONE is the default.  The arena's number
 *         is added.
 *
 * jemalloc's mallocx() cannot have memory freed that the arena or another
 * shrinker keeps, since it asks with PP_NOFS; the pool's background thread may
 * be too late.  This one has the shrinkers called, empties the calling thread's
 * cache or the one in @flags, and tries again.
 *
 * Context: as pp_pool_reclaim(): with a lock held that a shrinker waits for it
 *          waits in vain.
 * Return: the block, to be freed by dallocx(), with MALLOCX_TCACHE_NONE unless
 *         @flags name a cache; NULL with errno = ENOMEM.
 */
void *pp_jemalloc_mallocx(struct pp_jemalloc *je, size_t bytes, int flags);

/**
 * pp_jemalloc_destroy() - end the arena.
 *
 * Frees all that is still allocated in it.  No thread may be using it; thread
 * caches that hold blocks of it must have been flushed, all but the calling
 * thread's own.
 *
 * Return: 0.
 * Errors: -EINVAL: NULL.  -EBUSY: a thread has it as its thread.arena; nothing
 *         has changed.
 */
int pp_jemalloc_destroy(struct pp_jemalloc *je);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
