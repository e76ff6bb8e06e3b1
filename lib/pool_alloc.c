/* SPDX-License-Identifier: MIT */
/* pool_alloc.c - what is taken from a pool and given back to it: see pool.h. */
#include <string.h>

#include "base/fault.h"
#include "pool.h"

/* A request between two attempts */

struct run_request {
	struct slow_request	slow;	/* first */
	struct pp_pool		*pool;
	struct page_request	req;
	struct page_result	*result;
};

static void *attempt_run(struct slow_request *slow, unsigned flags)
{
	struct run_request *r = container_of(slow, struct run_request, slow);
	struct pcp *pcp = pool_enter(r->pool);
	void *run;

	r->req.flags = flags;
	run = alloc_pages(&r->pool->registry, pcp, &r->req, r->result);
	pool_leave(pcp);
	slow->why = r->result->why;
	return run;
}

static PP_COLD void *alloc_run_slow(struct pp_pool *pool,
				    const struct page_request *req,
				    struct page_result *result)
{
	struct run_request r = {
		.slow = {
			.reg = &pool->registry,
			.attempt = attempt_run,
			.flags = req->flags,
			.node = req->node,
			.nr_pages = req->nr_pages,
			.bytes = pages_to_bytes(req->nr_pages),
			.why = result->why,
		},
		.pool = pool,
		.req = *req,
		.result = result,
	};
	void *run = slowpath_run(&r.slow);

	result->why = r.slow.why;
	return run;
}

void *pool_alloc_run(struct pp_pool *pool, struct pcp *pcp,
		     const struct page_request *req,
		     struct page_result *result)
{
	struct page_request now = *req;
	void *run;

	now.flags = scope_add(now.flags);
	run = alloc_pages(&pool->registry, pcp, &now, result);
	pool_leave(pcp);
	if (unlikely(!run))
		run = alloc_run_slow(pool, &now, result);
	inline_reclaim_end(&pool->registry, now.flags);
	return run;
}

struct object_request {
	struct slow_request	slow;	/* first */
	struct pp_pool		*pool;
	unsigned		class;
	struct page_result	*result;
};

static void *object_once(struct pp_pool *pool, struct pcp *pcp, unsigned class,
			 unsigned flags, struct page_result *result)
{
	void *object = NULL;

	if (pcp && slab_may_pop(&pool->heap, flags))
		object = slab_pop(pcp, class);
	return object ? object : slab_alloc_slow(&pool->heap, pcp, class,
						 flags, result);
}

static void *attempt_object(struct slow_request *slow, unsigned flags)
{
	struct object_request *r = container_of(slow, struct object_request,
						slow);
	struct pcp *pcp = pool_enter(r->pool);
	void *object = object_once(r->pool, pcp, r->class, flags, r->result);

	pool_leave(pcp);
	slow->why = r->result->why;
	return object;
}

static PP_COLD void *alloc_object_slow(struct pp_pool *pool, unsigned class,
				       unsigned flags,
				       struct page_result *result)
{
	struct object_request r = {
		.slow = {
			.reg = &pool->registry,
			.attempt = attempt_object,
			.flags = flags,
			.nr_pages = bytes_to_pages_up(slab_class[class].bytes),
			.bytes = slab_class[class].bytes,
			.why = result->why,
		},
		.pool = pool,
		.class = class,
		.result = result,
	};
	void *object = slowpath_run(&r.slow);

	result->why = r.slow.why;
	return object;
}

void *pool_alloc_object(struct pp_pool *pool, struct pcp *pcp, unsigned class,
			unsigned flags, struct page_result *result)
{
	void *object;

	flags = scope_add(flags);
	object = object_once(pool, pcp, class, flags, result);
	pool_leave(pcp);
	if (unlikely(!object))
		object = alloc_object_slow(pool, class, flags, result);
	inline_reclaim_end(&pool->registry, flags);
	return object;
}

void *pool_alloc_own(struct pp_pool *pool, size_t bytes, unsigned flags)
{
	struct page_result result = { .why = FAILURE_NESTED };
	void *object = NULL;

	if (fault_hit(FAULT_OBJECT))
		result.why = FAILURE_OS;
	else if (!pool_is_nested(pool))
		object = pool_alloc_object(pool, pool_enter(pool),
					   slab_class_for(bytes, 1), flags,
					   &result);
	if (!object)
		pool_failed(pool, bytes, flags, result.why);
	return object ? memset(object, 0, bytes) : NULL;
}

void pool_free(struct pp_pool *pool, struct pcp *pcp, void *p, uint32_t word)
{
	unsigned class = slab_word_class(word);

	if (!(word & MAP_SLAB)) {
		page_free(&pool->registry, pcp, span_page_of(&pool->span, p),
			  word);
	} else if (!pcp || !pcp_covers(pcp, span_page_of(&pool->span, p))) {
		slab_free_direct(&pool->heap, pcp, p, word);
	} else if (!slab_push(pcp, class, p)) {
		slab_overflow(&pool->heap, pcp, class);
	}
}

void pool_free_own(struct pp_pool *pool, void *object)
{
	struct pcp *pcp = pool_enter(pool);

	pool_free(pool, pcp, object, pool_word(pool, object));
	pool_leave(pcp);
	inline_reclaim_end(&pool->registry, INLINE_RECLAIM_FREE);
}

size_t pool_usable_bytes(uint32_t word)
{
	if (word & MAP_SLAB)
		return slab_class[slab_word_class(word)].bytes;
	return pages_to_bytes(run_word_pages(word));
}
