/* SPDX-License-Identifier: MIT */
/* diagnose.c - see diagnose.h. */
#include "diagnose.h"

#include "base/bug.h"

static bool page_is_used(struct pp_pool *pool, uint64_t page)
{
	const struct pageblock *b =
		&pool->span.blocks[page >> PAGEBLOCK_SHIFT];
	unsigned pos = (unsigned)(page & (PAGEBLOCK_PAGES - 1));

	return bits_count_range(b->used, pos, 1) != 0;
}

/* The run around a page in the middle of one: its first page is the nearest
 * below that the map says anything of. */
static const char *run_start(struct pp_pool *pool, uint64_t page)
{
	while (page && !load_relaxed(&pool->span.map[page]))
		page--;
	return span_page_address(&pool->span, page);
}

static const char *object_start(struct pp_pool *pool, const void *p,
				uint32_t word)
{
	struct slab *slab = slab_at(&pool->span, slab_word_number(word));
	uint32_t bytes = slab_class[slab_word_class(word)].bytes;
	const char *base = span_page_address(&pool->span, slab->page);

	return base + (size_t)((const char *)p - base) / bytes * bytes;
}

__attribute__((noreturn))
static void diagnose_interior(const void *p, const char *start,
			      const char *entry)
{
	bug_two_pointers(entry, (uintptr_t)p, " is inside the allocation at ",
			 (uintptr_t)start);
}

void diagnose_pointer(struct pp_pool *pool, const void *p, const char *entry)
{
	uint32_t word;
	uint64_t page;

	if (!span_contains(&pool->span, p))
		bug_pointer(entry, "", (uintptr_t)p, " is not in this pool");
	if ((uintptr_t)p % SLAB_MIN_BYTES)
		bug_pointer(entry, "", (uintptr_t)p,
			    " is not aligned to 16 bytes");
	page = span_page_of(&pool->span, p);
	word = pool_word(pool, p);
	if (word & MAP_SLAB) {
		const char *start = object_start(pool, p, word);

		if (start != p)
			diagnose_interior(p, start, entry);
	} else if (word && (uintptr_t)p % PP_PAGE_BYTES) {
		diagnose_interior(p, span_page_address(&pool->span, page),
				  entry);
	} else if (!word && page >> PAGEBLOCK_SHIFT < load_relaxed(
			&zone_of_page(pool->zones, page)->range.committed) &&
		   page_is_used(pool, page)) {
		diagnose_interior(p, run_start(pool, page), entry);
	}
	bug_pointer(entry, "double free of ", (uintptr_t)p, "");
}

static bool object_is_live(struct pp_pool *pool, const void *p, uint32_t word)
{
	struct slab *slab = slab_at(&pool->span, slab_word_number(word));
	const char *base = span_page_address(&pool->span, slab->page);

	return slab_starts_at(slab, (uint32_t)((const char *)p - base)) &&
	       ((const uint64_t *)p)[1] != slab_mark(p);
}

uint32_t diagnose_live(struct pp_pool *pool, const void *p, const char *entry)
{
	uint32_t word = span_contains(&pool->span, p) ? pool_word(pool, p) : 0;
	bool live;

	if (word & MAP_SLAB)
		live = object_is_live(pool, p, word);
	else
		live = (word & MAP_RUN) && !(word & MAP_CACHED) &&
		       (uintptr_t)p % PP_PAGE_BYTES == 0;
	if (!live)
		diagnose_pointer(pool, p, entry);
	return word;
}
