/* SPDX-License-Identifier: MIT */
/*
 * cache.c - pp_cache_*: a size class with a name (layer 12).
 *
 * Caches of one size share the slabs of that class with each other and with
 * malloc, as the kernel merges its caches: fewer partly used slabs.  What is a
 * cache's own is the number of its objects.
 */
#include <errno.h>
#include <string.h>

#include "diagnose.h"
#include "pagepool/cache.h"

#define CACHE_NAME_BYTES	32

struct pp_cache {
	struct pp_pool		*pool;
	unsigned		class;
	char			name[CACHE_NAME_BYTES];
	_Atomic int64_t		nr_objects;	/* handed out */
};

static void *object_alloc(struct pp_pool *pool, unsigned class, unsigned flags,
			  struct page_result *result)
{
	if (pool_is_nested(pool)) {
		result->why = FAILURE_NESTED;
		return NULL;
	}
	return pool_alloc_object(pool, pool_enter(pool), class, flags, result);
}

static void object_free(struct pp_pool *pool, void *object, uint32_t word)
{
	struct pcp *pcp;

	if (pool_is_nested(pool)) {
		pool_defer_free(pool, object);
		return;
	}
	pcp = pool_enter(pool);
	pool_free(pool, pcp, object, word);
	pool_leave(pcp);
	inline_reclaim_end(&pool->registry, INLINE_RECLAIM_FREE);
}

int pp_cache_create(struct pp_pool *pool, const char *name,
		    size_t object_bytes, size_t align_bytes,
		    struct pp_cache **out)
{
	struct pp_cache *cache;
	unsigned class;

	if (!pool || !name || !out || !object_bytes ||
	    object_bytes > SLAB_MAX_BYTES ||
	    (align_bytes && !is_pow2(align_bytes)) ||
	    strlen(name) >= CACHE_NAME_BYTES)
		return -EINVAL;
	class = slab_class_for(object_bytes, align_bytes ? align_bytes : 1);
	if (class == SLAB_NR_CLASSES)
		return -EINVAL;
	cache = pool_alloc_own(pool, sizeof(*cache), 0);
	if (!cache)
		return -ENOMEM;
	cache->pool = pool;
	cache->class = class;
	memcpy(cache->name, name, strlen(name) + 1);
	*out = cache;
	return 0;
}

void *pp_cache_alloc(struct pp_cache *cache, unsigned flags)
{
	struct page_result result;
	void *object;

	if (!cache || !pool_flags_are_valid(flags)) {
		errno = EINVAL;
		return NULL;
	}
	if (pool_injects(cache->pool, slab_class[cache->class].bytes, flags)) {
		errno = ENOMEM;
		return NULL;
	}
	object = object_alloc(cache->pool, cache->class, flags, &result);
	if (!object) {
		pool_failed(cache->pool, slab_class[cache->class].bytes, flags,
			    result.why);
		errno = ENOMEM;
		return NULL;
	}
	add_relaxed(&cache->nr_objects, 1);
	if (flags & PP_ZERO)
		memset(object, 0, slab_class[cache->class].bytes);
	return object;
}

void pp_cache_free(struct pp_cache *cache, void *object)
{
	uint32_t word;

	if (!object)
		return;
	if (!cache)
		bug_pointer("pp_cache_free", "", (uintptr_t)object,
			    " is not of a cache: that is NULL");
	word = diagnose_live(cache->pool, object, "pp_cache_free");
	if (!(word & MAP_SLAB) || slab_word_class(word) != cache->class)
		bug_pointer("pp_cache_free", "", (uintptr_t)object,
			    " is not of this cache");
	sub_relaxed(&cache->nr_objects, 1);
	object_free(cache->pool, object, word);
}

int pp_cache_destroy(struct pp_cache *cache)
{
	if (!cache)
		return -EINVAL;
	if (load_relaxed(&cache->nr_objects))
		return -EBUSY;
	object_free(cache->pool, cache, pool_word(cache->pool, cache));
	return 0;
}
