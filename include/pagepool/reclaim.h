/* SPDX-License-Identifier: MIT */
/*
 * pagepool/reclaim.h - getting memory back that is in use for nobody's good.
 */
#ifndef PAGEPOOL_RECLAIM_H
#define PAGEPOOL_RECLAIM_H

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

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
