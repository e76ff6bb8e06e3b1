/* SPDX-License-Identifier: MIT */
/*
 * pagepool/cache.h - objects of one size, smaller than a run of pages.
 *
 * The same slabs that serve malloc under the preload library: caches of one
 * size share them.
 */
#ifndef PAGEPOOL_CACHE_H
#define PAGEPOOL_CACHE_H

#include <pagepool.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

struct pp_cache;

/**
 * pp_cache_create() - a cache for objects of one size.
 * @name: for reports, copied; up to 31 characters.
 * @object_bytes: 1 .. 16384.
 * @align_bytes: a power of two up to 4096, or 0 for 16.
 * @out: receives the cache.
 *
 * Return: 0; -EINVAL, or -ENOMEM at the pool's limit.
 */
int pp_cache_create(struct pp_pool *pool, const char *name,
		    size_t object_bytes, size_t align_bytes,
		    struct pp_cache **out);

/* @flags: as for pp_alloc_pages().  NULL with errno = ENOMEM or EINVAL. */
void *pp_cache_alloc(struct pp_cache *cache, unsigned flags);

/* @object: of this cache, or NULL.  Keeps errno. */
void pp_cache_free(struct pp_cache *cache, void *object);

/* -EBUSY while objects are out; nothing has changed then. */
int pp_cache_destroy(struct pp_cache *cache);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
