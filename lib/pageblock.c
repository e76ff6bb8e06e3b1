/* SPDX-License-Identifier: MIT */
/* pageblock.c - see pageblock.h. */
#include "pageblock.h"

#include "base/bug.h"

/* The next free run at or after @pos; its end goes to *@end. */
static unsigned next_free_run(const struct pageblock *b, unsigned pos,
			      unsigned *end)
{
	pos = bits_next_zero(b->used, PAGEBLOCK_PAGES, pos);
	*end = bits_next_set(b->used, PAGEBLOCK_PAGES, pos);
	return pos;
}

static unsigned find_unaligned(struct pageblock *b, unsigned nr_pages)
{
	unsigned pos = 0, end = 0, longest = 0;

	while (end < PAGEBLOCK_PAGES) {
		pos = next_free_run(b, end, &end);
		if (end - pos >= nr_pages)
			return pos;
		if (end - pos > longest)
			longest = end - pos;
	}
	b->longest_bound = (uint16_t)longest;
	return PAGEBLOCK_NOT_FOUND;
}

static unsigned find_aligned(const struct pageblock *b, unsigned nr_pages,
			     unsigned align_pages)
{
	unsigned pos = 0, end = 0;

	while (end < PAGEBLOCK_PAGES) {
		pos = next_free_run(b, end, &end);
		pos = (unsigned)round_up_pow2(pos, align_pages);
		if (pos + nr_pages <= end)
			return pos;
	}
	return PAGEBLOCK_NOT_FOUND;
}

unsigned pageblock_find(struct pageblock *b, unsigned nr_pages,
			unsigned align_pages)
{
	VM_BUG_ON(nr_pages == 0 || nr_pages > PAGEBLOCK_PAGES);
	VM_BUG_ON(!is_pow2(align_pages) || align_pages > PAGEBLOCK_PAGES);

	if (align_pages == 1)
		return find_unaligned(b, nr_pages);
	return find_aligned(b, nr_pages, align_pages);
}

bool pageblock_range_is_free(const struct pageblock *b, unsigned pos,
			     unsigned nr_pages)
{
	VM_BUG_ON(pos + nr_pages > PAGEBLOCK_PAGES);
	return bits_count_range(b->used, pos, nr_pages) == 0;
}

static void limit_spare_bound(struct pageblock *b)
{
	if (b->spare_bound > b->nr_spare)
		b->spare_bound = b->nr_spare;
}

unsigned pageblock_claim(struct pageblock *b, unsigned pos, unsigned nr_pages)
{
	unsigned w, nr_fresh = 0, nr_free = PAGEBLOCK_PAGES - b->nr_used;
	uint64_t busy = 0;

	VM_BUG_ON(nr_pages == 0 || pos + nr_pages > PAGEBLOCK_PAGES);
	for_each_word_in(w, pos, nr_pages) {
		uint64_t mask = bits_word_mask(w, pos, nr_pages);

		busy |= b->used[w] & mask;
		b->used[w] |= mask;
		nr_fresh += (unsigned)__builtin_popcountll(mask &
							   ~b->backed[w]);
	}
	BUG_ON(busy);
	b->nr_used = (uint16_t)(b->nr_used + nr_pages);
	b->nr_spare = (uint16_t)(b->nr_spare - (nr_pages - nr_fresh));
	limit_spare_bound(b);
	nr_free -= nr_pages;
	if (b->longest_bound > nr_free)
		b->longest_bound = (uint16_t)nr_free;
	return nr_fresh;
}

void pageblock_back(struct pageblock *b, unsigned pos, unsigned nr_pages)
{
	VM_BUG_ON(bits_count_range(b->used, pos, nr_pages) != nr_pages);
	bits_set_range(b->backed, pos, nr_pages);
}

static unsigned free_run_around(const struct pageblock *b, unsigned pos,
				unsigned nr_pages)
{
	unsigned before = bits_zeroes_before(b->used, pos);
	unsigned end = bits_next_set(b->used, PAGEBLOCK_PAGES,
				     pos + nr_pages);

	return before + end - pos;
}

static void find_spare_words(const struct pageblock *b, uint64_t *spare)
{
	for (unsigned w = 0; w < PAGEBLOCK_WORDS; w++)
		spare[w] = b->backed[w] & ~b->used[w];
}

/* Most of the time, but for blocks at the frontier and those that were purged:
 * what goes for free pages goes for spare ones then. */
static bool is_all_spare(const struct pageblock *b)
{
	return b->nr_spare + b->nr_used == PAGEBLOCK_PAGES;
}

/* The run of spare pages that the pages at @pos, @nr_spare of which are, made;
 * from above. */
static unsigned spare_run_around(const struct pageblock *b, unsigned pos,
				 unsigned nr_pages, unsigned nr_spare)
{
	uint64_t other[PAGEBLOCK_WORDS];
	unsigned before, end;

	if (nr_spare < nr_pages)
		return nr_spare ? b->nr_spare : 0;
	find_spare_words(b, other);
	for (unsigned w = 0; w < PAGEBLOCK_WORDS; w++)
		other[w] = ~other[w];
	before = bits_zeroes_before(other, pos);
	end = bits_next_set(other, PAGEBLOCK_PAGES, pos + nr_pages);
	return before + end - pos;
}

void pageblock_release(struct pageblock *b, unsigned pos, unsigned nr_pages)
{
	unsigned merged, nr_spare = bits_count_range(b->backed, pos, nr_pages);

	VM_BUG_ON(nr_pages == 0 || pos + nr_pages > PAGEBLOCK_PAGES);
	BUG_ON(bits_count_range(b->used, pos, nr_pages) != nr_pages);
	bits_clear_range(b->used, pos, nr_pages);
	b->nr_used = (uint16_t)(b->nr_used - nr_pages);
	b->nr_spare = (uint16_t)(b->nr_spare + nr_spare);
	merged = free_run_around(b, pos, nr_pages);
	if (merged > b->longest_bound)
		b->longest_bound = (uint16_t)merged;
	if (!is_all_spare(b))
		merged = spare_run_around(b, pos, nr_pages, nr_spare);
	if (merged > b->spare_bound)
		b->spare_bound = (uint16_t)merged;
}

void pageblock_unback(struct pageblock *b, unsigned pos, unsigned nr_pages)
{
	VM_BUG_ON(!pageblock_range_is_free(b, pos, nr_pages));
	b->nr_spare = (uint16_t)(b->nr_spare -
			bits_count_range(b->backed, pos, nr_pages));
	bits_clear_range(b->backed, pos, nr_pages);
	limit_spare_bound(b);
}

unsigned pageblock_find_spare(const struct pageblock *b, unsigned pos,
			      unsigned *nr_pages)
{
	uint64_t spare[PAGEBLOCK_WORDS];
	unsigned end;

	find_spare_words(b, spare);
	pos = bits_next_set(spare, PAGEBLOCK_PAGES, pos);
	if (pos == PAGEBLOCK_PAGES)
		return PAGEBLOCK_NOT_FOUND;
	end = bits_next_zero(spare, PAGEBLOCK_PAGES, pos);
	*nr_pages = end - pos;
	return pos;
}

unsigned pageblock_find_backed(struct pageblock *b, unsigned nr_pages,
			       unsigned align_pages)
{
	uint64_t spare[PAGEBLOCK_WORDS];
	unsigned pos = 0, end = 0, at, longest = 0;

	if (is_all_spare(b)) {
		pos = pageblock_find(b, nr_pages, align_pages);
		b->spare_bound = b->longest_bound;
		return pos;
	}
	find_spare_words(b, spare);
	while ((pos = bits_next_set(spare, PAGEBLOCK_PAGES, end)) <
	       PAGEBLOCK_PAGES) {
		end = bits_next_zero(spare, PAGEBLOCK_PAGES, pos);
		at = (unsigned)round_up_pow2(pos, align_pages);
		if (at + nr_pages <= end)
			return at;
		if (end - pos > longest)
			longest = end - pos;
	}
	b->spare_bound = (uint16_t)longest;
	return PAGEBLOCK_NOT_FOUND;
}

static unsigned longest_spare(const struct pageblock *b)
{
	unsigned pos = 0, len = 0, longest = 0;

	while ((pos = pageblock_find_spare(b, pos, &len)) !=
	       PAGEBLOCK_NOT_FOUND) {
		if (len > longest)
			longest = len;
		pos += len;
	}
	return longest;
}

int pageblock_verify(const struct pageblock *b)
{
	unsigned pos = 0, end = 0, longest = 0, nr_spare = 0, w;

	if (bits_count_range(b->used, 0, PAGEBLOCK_PAGES) != b->nr_used)
		return 1;
	for (w = 0; w < PAGEBLOCK_WORDS; w++)
		nr_spare += (unsigned)__builtin_popcountll(b->backed[w] &
							   ~b->used[w]);
	if (nr_spare != b->nr_spare)
		return 2;
	if (b->spare_bound > nr_spare || longest_spare(b) > b->spare_bound)
		return 4;
	while (end < PAGEBLOCK_PAGES) {
		pos = next_free_run(b, end, &end);
		if (end - pos > longest)
			longest = end - pos;
	}
	return longest <= b->longest_bound ? 0 : 3;
}
