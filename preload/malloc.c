/* SPDX-License-Identifier: MIT */
/*
 * malloc.c - the malloc family over slabs and page runs.
 *
 * Sizes up to MALLOC_SMALL_BYTES come from slabs, larger ones are page runs.
 * malloc and free are each a screen: they look into the thread's cache and
 * leave everything else to one call.  The rules are those of glibc 2.36's
 * manual: errno is ENOMEM after a failure and untouched after success, and
 * after free on any path.
 */
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "diagnose.h"
#include "early.h"
#include "grace.h"
#include "preload.h"
#include "slowpath.h"

/* The largest class but one: what would be in the largest fits four pages as
 * well, and a run is faster by a tenth. */
#define MALLOC_SMALL_BYTES	(14u << 10)
/* A block is kept in place by realloc if it is at least half full. */
#define REALLOC_KEEP_DIVISOR	2

#ifdef __has_attribute
#if __has_attribute(copy)
#define COPY_ATTRIBUTES(of)	__attribute__((copy(of)))
#endif
#endif
#ifndef COPY_ATTRIBUTES
#define COPY_ATTRIBUTES(of)
#endif
/* A cache line of code is what the processor fetches: worth 5 % here. */
#define FAST	PP_ALIGNED(PP_CACHELINE_BYTES)
/* Keeps the compiler from merging the ends of fast paths that look alike: a
 * jump taken is worth a cycle or two. */
#define KEEP_TAIL(name)	__asm__ __volatile__("# " name)
#define ALIAS(of) \
	__attribute__((alias(#of), visibility("default"))) COPY_ATTRIBUTES(of)

static void *fail(struct pp_pool *pool, size_t bytes, enum failure why)
{
	/* Before that there is no thread-local storage. */
	if (likely(preload_is_relocated())) {
		pool_failed(pool, bytes, 0, why);
		grace_begin(bytes);
	}
	errno = ENOMEM;
	return NULL;
}

static void *alloc_nested(struct pp_pool *pool, size_t bytes,
			  size_t align_bytes)
{
	void *p = early_alloc(bytes, align_bytes);

	return p ? p : fail(pool, bytes, pool ? FAILURE_NESTED :
						FAILURE_ADDRESS_SPACE);
}

/* From the pool, without looking at fast paths.  NULL with result->why, which
 * is not counted yet. */
static void *try_in_pool(struct pp_pool *pool, struct pcp *pcp, size_t bytes,
			 size_t align_bytes, struct page_result *result)
{
	unsigned class = bytes > MALLOC_SMALL_BYTES ? SLAB_NR_CLASSES :
			 slab_class_for(bytes, align_bytes);
	struct page_request req = {
		.nr_pages = bytes_to_pages_up(bytes),
		.align_pages = 1,
		.flags = SLOWPATH_MAY_GRACE,
	};

	if (align_bytes > PP_PAGE_BYTES)
		req.align_pages = align_bytes >> PP_PAGE_SHIFT;
	if (class < SLAB_NR_CLASSES)
		return pool_alloc_object(pool, pcp, class,
					 SLOWPATH_MAY_GRACE, result);
	return pool_alloc_run(pool, pcp, &req, result);
}

/* The same, counted.  *@zeroed is for calloc. */
static void *alloc_in_pool(struct pp_pool *pool, struct pcp *pcp, size_t bytes,
			   size_t align_bytes, bool *zeroed)
{
	struct page_result result = { .zeroed = false };
	void *p = try_in_pool(pool, pcp, bytes, align_bytes, &result);

	*zeroed = p && result.zeroed;
	return p ? p : fail(pool, bytes, result.why);
}

static PP_COLD void *alloc_slow(size_t bytes, size_t align_bytes, bool *zeroed)
{
	struct pp_pool *pool;
	int saved;
	void *p;

	*zeroed = false;
	if (unlikely(!preload_is_relocated()))
		return early_alloc(bytes, align_bytes);
	saved = errno;
	pool = preload_pool();
	if (bytes > PTRDIFF_MAX)
		return fail(pool, bytes, FAILURE_TOO_BIG);
	bytes = bytes ? bytes : 1;
	if (!pool || pool_is_nested(pool))
		return alloc_nested(pool, bytes, align_bytes);
	if (pool_injects(pool, bytes, 0)) {
		errno = ENOMEM;
		return NULL;
	}
	p = alloc_in_pool(pool, pool_enter(pool), bytes, align_bytes, zeroed);
	if (p)
		errno = saved;
	return p;
}

/* The cache is entered and has no such object or run. */
static PP_NOINLINE void *malloc_refill(struct pcp *pcp, size_t bytes)
{
	bool zeroed;

	return alloc_in_pool(&pool_of_process, pcp, bytes ? bytes : 1, 1,
			     &zeroed);
}

static PP_NOINLINE void *malloc_slow(size_t bytes)
{
	struct pcp *pcp = pp_self;
	bool zeroed;
	void *run;

	if (bytes > MALLOC_SMALL_BYTES &&
	    bytes <= pages_to_bytes(PCP_MAX_LONG_PAGES) && pcp_enter(pcp)) {
		run = pcp_take_long(pcp, bytes_to_pages_up(bytes), 1);
		if (!run)
			return malloc_refill(pcp, bytes);
		pcp_leave(pcp);
		return run;
	}

	return alloc_slow(bytes, 1, &zeroed);
}

static PP_ALWAYS_INLINE void *malloc_run(struct pcp *pcp, size_t bytes)
{
	size_t pages;
	void *run;

	if (unlikely(bytes > pages_to_bytes(RUN_MAX_BIN_PAGES) ||
		     !pcp_enter(pcp)))
		return malloc_slow(bytes);
	pages = (bytes + PP_PAGE_BYTES - 1) / PP_PAGE_BYTES;
	run = pcp_pop_run(pcp, run_bin_word[pages]);
	if (unlikely(!run))
		return malloc_refill(pcp, bytes);
	pcp_leave(pcp);
	KEEP_TAIL("run");
	return run;
}

PP_EXPORT FAST void *malloc(size_t bytes)
{
	struct pcp *pcp = pp_self;
	void *object;

	if (unlikely(bytes > MALLOC_SMALL_BYTES))
		return malloc_run(pcp, bytes);
	if (unlikely(!pcp_enter(pcp)))
		return malloc_slow(bytes);
	object = slab_pop(pcp, slab_class_of[(bytes + 15) / 16]);
	if (unlikely(!object))
		return malloc_refill(pcp, bytes);
	pcp_leave(pcp);
	return object;
}

/* Freeing */

static void free_foreign(void *p)
{
	if (early_owns(p))
		early_free(p);
	else if (libc_malloc.free)
		libc_malloc.free(p);
	/* Before our constructor nobody can have a pointer of libc's. */
}

static void free_checked(struct pp_pool *pool, void *p, const char *entry)
{
	uint32_t word = diagnose_live(pool, p, entry);
	struct pcp *pcp;

	if (pool_is_nested(pool)) {
		pool_defer_free(pool, p);
		return;
	}
	pcp = pool_enter(pool);
	pool_free(pool, pcp, p, word);
	pool_leave(pcp);
	inline_reclaim_end(&pool->registry, INLINE_RECLAIM_FREE);
}

static PP_NOINLINE void free_slow(void *p, const char *entry)
{
	struct pp_pool *pool = preload_pool_if_made();
	int saved;

	if (!p)
		return;
	if (unlikely(!preload_is_relocated())) {
		if (early_owns(p))
			early_free(p);
		return;
	}
	saved = errno;
	if (pool && span_contains(&pool->span, p))
		free_checked(pool, p, entry);
	else
		free_foreign(p);
	errno = saved;
}

/* The object is in its magazine, which is over its limit.  No libc function
 * is called that could set errno. */
static PP_NOINLINE void free_overflow(struct pcp *pcp, unsigned class)
{
	slab_overflow(&pool_of_process.heap, pcp, class);
	pcp_leave_slow(pcp);
	inline_reclaim_end(&pool_of_process.registry, INLINE_RECLAIM_FREE);
}

/* @page counts from the cache's base. */
static PP_NOINLINE void free_run(struct pcp *pcp, uint64_t page, uint32_t word)
{
	page_free(&pool_of_process.registry, pcp, pcp_first_page(pcp) + page,
		  word);
	pcp_leave_slow(pcp);
	inline_reclaim_end(&pool_of_process.registry, INLINE_RECLAIM_FREE);
}

/* Not what it seemed: busy is still up. */
static PP_NOINLINE void free_refused(struct pcp *pcp, void *p,
				     const char *entry)
{
	pcp_leave(pcp);
	free_slow(p, entry);
}

static PP_ALWAYS_INLINE void free_object(struct pcp *pcp, void *p,
					 uintptr_t offset, uint32_t word,
					 const char *entry)
{
	unsigned class = slab_word_class(word);

	if (slab_is_last(pcp, p, word)) {
		slab_push_last(pcp, p);
		pcp_leave(pcp);
		KEEP_TAIL("last object");
		return;
	}
	if (unlikely(!slab_is_live(pcp, p, offset, word))) {
		free_refused(pcp, p, entry);
		return;
	}
	if (unlikely(!slab_push(pcp, class, p))) {
		free_overflow(pcp, class);
		return;
	}
	pcp_leave(pcp);
	KEEP_TAIL("object");
}

static PP_ALWAYS_INLINE void free_pages(struct pcp *pcp, void *p,
					uintptr_t offset, uint32_t word,
					const char *entry)
{
	uint64_t page = offset >> PP_PAGE_SHIFT;

	if (likely(pcp_is_last_run(pcp, p, word))) {
		pcp_push_last_run(pcp, p, page, word);
		pcp_leave(pcp);
		KEEP_TAIL("last run");
		return;
	}
	if (unlikely((word & (MAP_RUN | MAP_CACHED | MAP_MOVED)) != MAP_RUN ||
		     offset % PP_PAGE_BYTES)) {
		free_refused(pcp, p, entry);
		return;
	}
	if (unlikely(!pcp_push_run(pcp, page, word))) {
		free_run(pcp, page, word);
		return;
	}
	pcp_leave(pcp);
	KEEP_TAIL("run");
}

static PP_ALWAYS_INLINE void free_from(void *p, const char *entry)
{
	struct pcp *pcp = pp_self;
	uintptr_t offset = (uintptr_t)p - pcp->base;
	uint32_t word;

	if (unlikely(offset >= pcp->span_bytes || !pcp_enter(pcp))) {
		free_slow(p, entry);
		return;
	}
	word = load_relaxed(&pcp->map[offset >> PP_PAGE_SHIFT]);
	if (likely(word & MAP_SLAB))
		free_object(pcp, p, offset, word, entry);
	else
		free_pages(pcp, p, offset, word, entry);
}

PP_EXPORT FAST void free(void *p)
{
	free_from(p, "free");
}

/* C23.  The sizes are hints that we do not need. */
PP_EXPORT void free_sized(void *p, size_t bytes);
PP_EXPORT void free_aligned_sized(void *p, size_t align, size_t bytes);
PP_EXPORT void cfree(void *p);

void free_sized(void *p, size_t bytes PP_UNUSED)
{
	free_from(p, "free_sized");
}

void free_aligned_sized(void *p, size_t align PP_UNUSED,
			size_t bytes PP_UNUSED)
{
	free_from(p, "free_aligned_sized");
}

void cfree(void *p)
{
	free_from(p, "cfree");
}

/* Zeroed and aligned memory */

PP_EXPORT void *calloc(size_t n, size_t size)
{
	bool zeroed = false;
	size_t bytes;
	void *p;

	if (unlikely(__builtin_mul_overflow(n, size, &bytes)))
		return fail(preload_pool(), SIZE_MAX, FAILURE_TOO_BIG);
	p = bytes <= MALLOC_SMALL_BYTES ? malloc(bytes) :
				      alloc_slow(bytes, 1, &zeroed);
	/* What is early is zeroed, and memset may not be there yet. */
	if (p && !zeroed && !early_owns(p))
		memset(p, 0, bytes);
	return p;
}

static void *alloc_aligned(size_t align, size_t bytes)
{
	bool zeroed;

	return align <= SLAB_MIN_BYTES ? malloc(bytes) :
					 alloc_slow(bytes, align, &zeroed);
}

/* glibc rounds an odd alignment up, and refuses what has no next power. */
PP_EXPORT void *memalign(size_t align, size_t bytes)
{
	if (align > SIZE_MAX / 2 + 1) {
		errno = EINVAL;
		return NULL;
	}
	if (align > 1)
		align = (size_t)1 << fls_u64(align - 1);
	return alloc_aligned(align, bytes);
}

PP_EXPORT void *aligned_alloc(size_t align, size_t bytes)
{
	return memalign(align, bytes);
}

PP_EXPORT int posix_memalign(void **out, size_t align, size_t bytes)
{
	int saved = errno;
	void *p;

	if (align % sizeof(void *) || !is_pow2(align))
		return EINVAL;
	p = alloc_aligned(align, bytes);
	errno = saved;
	if (!p)
		return ENOMEM;
	*out = p;
	return 0;
}

PP_EXPORT void *valloc(size_t bytes)
{
	return alloc_aligned(PP_PAGE_BYTES, bytes);
}

PP_EXPORT void *pvalloc(size_t bytes)
{
	if (bytes > PTRDIFF_MAX)
		return fail(preload_pool(), bytes, FAILURE_TOO_BIG);
	return alloc_aligned(PP_PAGE_BYTES,
			     round_up_pow2(bytes, PP_PAGE_BYTES));
}

/* Other sizes */

PP_EXPORT size_t malloc_usable_size(void *p)
{
	struct pp_pool *pool = preload_pool_if_made();

	if (!p)
		return 0;
	if (early_owns(p))
		return early_usable_bytes(p);
	if (!pool || !span_contains(&pool->span, p))
		return libc_malloc.usable_size ? libc_malloc.usable_size(p) :
						 0;
	return pool_usable_bytes(diagnose_live(pool, p, "malloc_usable_size"));
}

/* A new place for a buffer that grows: with free pages behind it, where there
 * are any, so that it need not be copied the next time. */
static void *alloc_growing(struct pp_pool *pool, size_t bytes)
{
	struct page_request req = {
		.nr_pages = bytes_to_pages_up(bytes),
		.align_pages = 1,
		.flags = SLOWPATH_MAY_GRACE,
		.may_grow = true,
	};
	struct page_result result;
	void *run;

	if (bytes > PTRDIFF_MAX)
		return fail(pool, bytes, FAILURE_TOO_BIG);
	run = pool_alloc_run(pool, pool_enter(pool), &req, &result);
	return run ? run : fail(pool, bytes, result.why);
}

/* Without the fast paths, which serve nothing where requests are made to fail:
 * that was asked for this one already. */
static PP_COLD void *alloc_asked(size_t bytes)
{
	unsigned scope = scope_enter_internal();
	bool zeroed;
	void *to = alloc_slow(bytes, 1, &zeroed);

	scope_leave(scope);
	return to;
}

static void *realloc_by_copy(struct pp_pool *pool, void *p, size_t have,
			     size_t bytes)
{
	void *to;

	if (pool && have > MALLOC_SMALL_BYTES && bytes > have &&
	    !pool_is_nested(pool))
		to = alloc_growing(pool, bytes);
	else if (pool && unlikely(inject_is_on(&pool->inject)))
		to = alloc_asked(bytes);
	else
		to = malloc(bytes);

	if (!to)
		return NULL;
	memcpy(to, p, have < bytes ? have : bytes);
	free(p);
	return to;
}

/* Does a block of @have bytes not grow, on purpose?  To become smaller needs no
 * memory. */
static bool realloc_is_injected(struct pp_pool *pool, size_t have,
				size_t bytes)
{
	if (!pool || bytes <= have || bytes > PTRDIFF_MAX ||
	    !pool_injects(pool, bytes, 0))
		return false;
	errno = ENOMEM;
	return true;
}

/* A run in place, or moved; NULL: copy it. */
static void *realloc_run(struct pp_pool *pool, void *p, uint32_t word,
			 size_t bytes)
{
	uint64_t page = span_page_of(&pool->span, p);
	uint64_t want = bytes_to_pages_up(bytes);
	uint64_t floor = page_floor_pages(zone_of_page(pool->zones, page), 0);
	struct pcp *pcp;

	if (bytes > PTRDIFF_MAX || pool_is_nested(pool))
		return NULL;
	pcp = pool_enter(pool);
	if (bytes <= MALLOC_SMALL_BYTES ||
	    !page_resize(&pool->registry, page, word, want, floor))
		p = page_move(&pool->registry, page, word, want, floor);
	pool_leave(pcp);
	inline_reclaim_end(&pool->registry, 0);
	return p;
}

/* As malloc(), but that NULL is no failure yet. */
static void *try_alloc(struct pp_pool *pool, size_t bytes)
{
	struct page_result result;

	if (pool_is_nested(pool))
		return early_alloc(bytes, 1);
	return try_in_pool(pool, pool_enter(pool), bytes, 1, &result);
}

/* The same for a small object, which the thread may have. */
static void *try_object(struct pp_pool *pool, size_t bytes)
{
	struct pcp *pcp = pp_self;
	struct page_result result;
	void *object;

	if (likely(pcp_enter(pcp))) {
		object = slab_pop(pcp, slab_class_of[(bytes + 15) / 16]);
		if (unlikely(!object))
			return try_in_pool(pool, pcp, bytes, 1, &result);
		pcp_leave(pcp);
		return object;
	}
	return try_alloc(pool, bytes);
}

/* To become smaller needs no memory: what cannot be had is no failure. */
static void *realloc_smaller(struct pp_pool *pool, void *p, size_t bytes)
{
	void *to = bytes <= MALLOC_SMALL_BYTES ? try_object(pool, bytes) :
						 try_alloc(pool, bytes);

	if (!to)
		return p;
	memcpy(to, p, bytes);
	free(p);
	return to;
}

static bool may_stay(uint32_t word, size_t have, size_t bytes)
{
	return bytes <= have && bytes >= have / REALLOC_KEEP_DIVISOR &&
	       (word & MAP_SLAB || bytes > MALLOC_SMALL_BYTES);
}

static void *realloc_in_pool(struct pp_pool *pool, void *p, size_t bytes)
{
	uint32_t word = diagnose_live(pool, p, "realloc");
	size_t have = pool_usable_bytes(word);
	void *to = NULL;

	if (realloc_is_injected(pool, have, bytes))
		return NULL;
	if (word & MAP_SLAB) {
		if (may_stay(word, have, bytes))
			return p;
	} else {
		to = realloc_run(pool, p, word, bytes);
	}
	if (to)
		return to;
	return bytes <= have ? realloc_smaller(pool, p, bytes) :
			       realloc_by_copy(pool, p, have, bytes);
}

/* libc's, or early. */
static void *realloc_foreign(struct pp_pool *pool, void *p, size_t bytes)
{
	size_t have = malloc_usable_size(p);

	if (realloc_is_injected(pool, have, bytes))
		return NULL;
	return realloc_by_copy(pool, p, have, bytes);
}

PP_EXPORT void *realloc(void *p, size_t bytes)
{
	struct pp_pool *pool = preload_pool_if_made();

	if (!p)
		return malloc(bytes);
	if (!bytes) {
		free_from(p, "realloc");
		return NULL;
	}
	if (pool && span_contains(&pool->span, p))
		return realloc_in_pool(pool, p, bytes);
	if (unlikely(!preload_is_relocated()))
		return early_realloc(p, bytes);
	return realloc_foreign(pool, p, bytes);
}

PP_EXPORT void *reallocarray(void *p, size_t n, size_t size)
{
	size_t bytes;

	if (__builtin_mul_overflow(n, size, &bytes))
		return fail(preload_pool(), SIZE_MAX, FAILURE_TOO_BIG);
	return realloc(p, bytes);
}

/* The names by which glibc's own parts and old programs call the same */

void *__libc_malloc(size_t) ALIAS(malloc);
void *__libc_calloc(size_t, size_t) ALIAS(calloc);
void *__libc_realloc(void *, size_t) ALIAS(realloc);
void __libc_free(void *) ALIAS(free);
void *__libc_memalign(size_t, size_t) ALIAS(memalign);
void *__libc_valloc(size_t) ALIAS(valloc);
void *__libc_pvalloc(size_t) ALIAS(pvalloc);
int __posix_memalign(void **, size_t, size_t) ALIAS(posix_memalign);
