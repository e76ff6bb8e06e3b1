/* SPDX-License-Identifier: MIT */
/*
 * bits.h - pages, bytes, and fields of up to 512 bits (layer 0).
 *
 * Conversions name their rounding.  The bit fields are arrays of 64-bit words
 * whose length the caller passes in bits, a multiple of 64; a range [pos, pos
 * + n) may cross words.
 */
#ifndef PP_BASE_BITS_H
#define PP_BASE_BITS_H

#include <stdbool.h>

#include "base/compiler.h"

#define PP_PAGE_SHIFT		12
#define PP_PAGE_BYTES		((size_t)1 << PP_PAGE_SHIFT)
#define PP_WORD_BITS		64u

static inline uint64_t bytes_to_pages_up(uint64_t bytes)
{
	return (bytes >> PP_PAGE_SHIFT) + ((bytes & (PP_PAGE_BYTES - 1)) != 0);
}

static inline uint64_t bytes_to_pages_down(uint64_t bytes)
{
	return bytes >> PP_PAGE_SHIFT;
}

static inline uint64_t pages_to_bytes(uint64_t pages)
{
	return pages << PP_PAGE_SHIFT;
}

static inline uint64_t div_up(uint64_t n, uint64_t d)
{
	return n / d + (n % d != 0);
}

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* @to: a power of two. */
static inline uint64_t round_up_pow2(uint64_t n, uint64_t to)
{
	return (n + to - 1) & ~(to - 1);
}

static inline bool is_pow2(uint64_t n)
{
	return n && !(n & (n - 1));
}

/* floor(log2(n)); n > 0. */
static inline unsigned log2_down(uint64_t n)
{
	return 63u - (unsigned)__builtin_clzll(n);
}

/* Find last set: the position of the highest bit from 1, 0 for 0. */
static inline unsigned fls_u64(uint64_t n)
{
	return n ? log2_down(n) + 1 : 0;
}

/* The bits of word @w that lie in [pos, pos + n). */
static inline uint64_t bits_word_mask(unsigned w, unsigned pos, unsigned n)
{
	unsigned first = w * PP_WORD_BITS, from, to;

	from = pos > first ? pos - first : 0;
	to = pos + n - first < PP_WORD_BITS ? pos + n - first : PP_WORD_BITS;
	return (~0ull >> (PP_WORD_BITS - (to - from))) << from;
}

#define for_each_word_in(w, pos, n)					\
	for ((w) = (pos) / PP_WORD_BITS;				\
	     (w) <= ((pos) + (n) - 1) / PP_WORD_BITS; (w)++)

static inline unsigned bits_count_range(const uint64_t *map, unsigned pos,
					unsigned n)
{
	unsigned w, sum = 0;

	for_each_word_in(w, pos, n)
		sum += (unsigned)__builtin_popcountll(map[w] &
						bits_word_mask(w, pos, n));
	return sum;
}

static inline void bits_set_range(uint64_t *map, unsigned pos, unsigned n)
{
	unsigned w;

	for_each_word_in(w, pos, n)
		map[w] |= bits_word_mask(w, pos, n);
}

static inline void bits_clear_range(uint64_t *map, unsigned pos, unsigned n)
{
	unsigned w;

	for_each_word_in(w, pos, n)
		map[w] &= ~bits_word_mask(w, pos, n);
}

/*
 * The first position >= @pos whose bit, xor'ed with @flip, is set; @nr_bits
 * if there is none.  @flip is 0 to look for ones and ~0 to look for zeroes.
 */
static inline unsigned bits_next(const uint64_t *map, unsigned nr_bits,
				 unsigned pos, uint64_t flip)
{
	unsigned w = pos / PP_WORD_BITS;
	uint64_t word;

	if (pos >= nr_bits)
		return nr_bits;
	word = (map[w] ^ flip) & (~0ull << (pos % PP_WORD_BITS));
	while (!word) {
		if (++w == nr_bits / PP_WORD_BITS)
			return nr_bits;
		word = map[w] ^ flip;
	}
	return w * PP_WORD_BITS + (unsigned)__builtin_ctzll(word);
}

static inline unsigned bits_next_set(const uint64_t *map, unsigned nr_bits,
				     unsigned pos)
{
	return bits_next(map, nr_bits, pos, 0);
}

static inline unsigned bits_next_zero(const uint64_t *map, unsigned nr_bits,
				      unsigned pos)
{
	return bits_next(map, nr_bits, pos, ~0ull);
}

/* The number of zero bits that end just before @pos. */
static inline unsigned bits_zeroes_before(const uint64_t *map, unsigned pos)
{
	unsigned at = pos;

	while (at) {
		unsigned w = (at - 1) / PP_WORD_BITS;
		uint64_t word = map[w] & bits_word_mask(w, 0, at);

		if (word)
			return pos - (w * PP_WORD_BITS + log2_down(word) + 1);
		at = w * PP_WORD_BITS;
	}
	return pos;
}

#endif
