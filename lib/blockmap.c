/* SPDX-License-Identifier: MIT */
/* blockmap.c - see blockmap.h. */
#include "blockmap.h"

#include "base/bug.h"

static uint32_t nr_words(uint32_t nr_blocks)
{
	return nr_blocks / PP_WORD_BITS;
}

size_t blockmap_bytes(uint32_t nr_blocks)
{
	return (nr_words(nr_blocks) + nr_words(nr_words(nr_blocks))) *
	       sizeof(uint64_t);
}

void blockmap_init(struct blockmap *bm, uint32_t first, uint32_t nr_blocks,
		   void *memory)
{
	BUG_ON(nr_blocks % (PP_WORD_BITS * PP_WORD_BITS));
	bm->words = memory;
	bm->summary = bm->words + nr_words(nr_blocks);
	bm->first = first;
	bm->nr_blocks = nr_blocks;
	bm->nr_set = 0;
}

void blockmap_add(struct blockmap *bm, uint32_t block)
{
	uint32_t at = block - bm->first, w = at / PP_WORD_BITS;

	VM_BUG_ON(at >= bm->nr_blocks || blockmap_has(bm, block));
	bm->words[w] |= 1ull << (at % PP_WORD_BITS);
	bm->summary[w / PP_WORD_BITS] |= 1ull << (w % PP_WORD_BITS);
	bm->nr_set++;
}

void blockmap_del(struct blockmap *bm, uint32_t block)
{
	uint32_t at = block - bm->first, w = at / PP_WORD_BITS;

	VM_BUG_ON(at >= bm->nr_blocks || !blockmap_has(bm, block));
	bm->words[w] &= ~(1ull << (at % PP_WORD_BITS));
	if (!bm->words[w])
		bm->summary[w / PP_WORD_BITS] &= ~(1ull << (w % PP_WORD_BITS));
	bm->nr_set--;
}

/* As blockmap_next(), with numbers that count from bm->first. */
static uint32_t next_member(const struct blockmap *bm, uint32_t from)
{
	uint32_t w = from / PP_WORD_BITS;
	uint64_t word;

	if (from >= bm->nr_blocks)
		return BLOCKMAP_NONE;
	word = bm->words[w] & (~0ull << (from % PP_WORD_BITS));
	if (!word) {
		w = bits_next_set(bm->summary, nr_words(bm->nr_blocks), w + 1);
		if (w == nr_words(bm->nr_blocks))
			return BLOCKMAP_NONE;
		word = bm->words[w];
	}
	return w * PP_WORD_BITS + (uint32_t)__builtin_ctzll(word);
}

uint32_t blockmap_next(const struct blockmap *bm, uint32_t from)
{
	uint32_t at = next_member(bm, from - bm->first);

	return at == BLOCKMAP_NONE ? at : bm->first + at;
}

uint32_t blockmap_last(const struct blockmap *bm)
{
	uint32_t nr = nr_words(bm->nr_blocks), w;

	w = nr - bits_zeroes_before(bm->summary, nr);
	if (!w--)
		return BLOCKMAP_NONE;
	return bm->first + w * PP_WORD_BITS + log2_down(bm->words[w]);
}

static uint32_t run_end(const struct blockmap *bm, uint32_t from, uint32_t max)
{
	uint32_t end = bits_next_zero(bm->words, bm->nr_blocks, from);

	return end - from > max ? from + max : end;
}

uint32_t blockmap_find_run(const struct blockmap *bm, uint32_t nr,
			   uint32_t align, uint32_t bias)
{
	uint32_t at = 0;

	if (bm->nr_set < nr)
		return BLOCKMAP_NONE;
	bias += bm->first;
	/* Each round passes at least one member; there are nr_set of them. */
	while ((at = next_member(bm, at)) != BLOCKMAP_NONE) {
		uint32_t first = (uint32_t)round_up_pow2(at + bias, align) -
				 bias;
		uint32_t end = run_end(bm, at, first - at + nr);

		if (end >= first + nr)
			return bm->first + first;
		at = end;
	}
	return BLOCKMAP_NONE;
}

uint32_t blockmap_run_before(const struct blockmap *bm, uint32_t end)
{
	while (end > bm->first && blockmap_has(bm, end - 1))
		end--;
	return end;
}
