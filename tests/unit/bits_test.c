/* SPDX-License-Identifier: MIT */
/* Every function of base/bits.h against one that looks at bit after bit. */
#include "../api/testing.h"

#include "base/bits.h"

#define BITS	512u
#define WORDS	(BITS / PP_WORD_BITS)

static bool bit(const uint64_t *map, unsigned i)
{
	return map[i / 64] >> (i % 64) & 1;
}

/* Sparse, dense, and with long runs. */
static void fill(struct rng *r, uint64_t *map)
{
	unsigned kind = (unsigned)rng_below(r, 4);

	for (unsigned w = 0; w < WORDS; w++) {
		uint64_t a = rng_next(r) << 8 ^ rng_next(r);
		uint64_t b = rng_next(r) << 8 ^ rng_next(r);

		map[w] = kind == 0 ? a : kind == 1 ? a & b & b >> 3 :
			 kind == 2 ? a | b | b >> 3 : (a & 1 ? ~0ull : 0);
	}
}

static void test_pages_and_bytes_round_as_their_names_say(void **state)
{
	(void)state;
	assert_int_equal(bytes_to_pages_up(0), 0);
	assert_int_equal(bytes_to_pages_up(1), 1);
	assert_int_equal(bytes_to_pages_up(4096), 1);
	assert_int_equal(bytes_to_pages_up(4097), 2);
	assert_true(bytes_to_pages_up(UINT64_MAX) == 1ull << 52);
	assert_int_equal(bytes_to_pages_down(4095), 0);
	assert_int_equal(bytes_to_pages_down(8191), 1);
	assert_int_equal(pages_to_bytes(3), 12288);
	assert_int_equal(div_up(0, 7), 0);
	assert_int_equal(div_up(14, 7), 2);
	assert_int_equal(div_up(15, 7), 3);
	assert_true(div_up(UINT64_MAX, 2) == 1ull << 63);
	assert_int_equal(round_up_pow2(0, 16), 0);
	assert_int_equal(round_up_pow2(1, 16), 16);
	assert_int_equal(round_up_pow2(16, 16), 16);
	assert_int_equal(round_up_pow2(17, 1), 17);
	reached_end();
}

static void test_powers_and_logarithms(void **state)
{
	(void)state;
	assert_false(is_pow2(0));
	assert_int_equal(fls_u64(0), 0);
	for (unsigned i = 0; i < 64; i++) {
		uint64_t n = 1ull << i;

		assert_true(is_pow2(n));
		assert_int_equal(log2_down(n), i);
		assert_int_equal(log2_down(n | (n - 1)), i);
		assert_int_equal(fls_u64(n), i + 1);
		if (i > 1) {
			assert_false(is_pow2(n - 1));
			assert_false(is_pow2(n + 1));
		}
	}
	reached_end();
}

static unsigned model_count(const uint64_t *map, unsigned pos, unsigned n)
{
	unsigned sum = 0;

	for (unsigned i = pos; i < pos + n; i++)
		sum += bit(map, i);
	return sum;
}

static unsigned model_next(const uint64_t *map, unsigned pos, bool wanted)
{
	while (pos < BITS && bit(map, pos) != wanted)
		pos++;
	return pos;
}

static unsigned model_zeroes_before(const uint64_t *map, unsigned pos)
{
	unsigned n = 0;

	while (n < pos && !bit(map, pos - n - 1))
		n++;
	return n;
}

static void check_range(const uint64_t *map, unsigned pos, unsigned n)
{
	uint64_t set[WORDS], cleared[WORDS];

	memcpy(set, map, sizeof(set));
	memcpy(cleared, map, sizeof(cleared));
	bits_set_range(set, pos, n);
	bits_clear_range(cleared, pos, n);
	assert_int_equal(bits_count_range(map, pos, n),
			 model_count(map, pos, n));
	for (unsigned i = 0; i < BITS; i++) {
		bool in = i >= pos && i < pos + n;

		assert_int_equal(bit(set, i), in || bit(map, i));
		assert_int_equal(bit(cleared, i), !in && bit(map, i));
	}
}

static void test_ranges_cross_words_and_touch_nothing_else(void **state)
{
	struct rng r = rng_make(1);
	uint64_t map[WORDS];
	unsigned checked = 0;

	(void)state;
	for (unsigned i = 0; i < 3000; i++, checked++) {
		unsigned pos = (unsigned)rng_below(&r, BITS);

		fill(&r, map);
		check_range(map, pos,
			    1 + (unsigned)rng_below(&r, BITS - pos));
	}
	for (unsigned edge = 0; edge < BITS; edge += 64, checked++) {
		check_range(map, edge, 64);
		check_range(map, edge, BITS - edge);
		check_range(map, 0, edge + 64);
		check_range(map, edge + 63, 1);
	}
	assert_int_equal(checked, 3000 + WORDS);
	reached_end();
}

static void test_searches_find_the_first_from_every_position(void **state)
{
	struct rng r = rng_make(2);
	uint64_t map[WORDS];
	unsigned checked = 0;

	(void)state;
	for (unsigned i = 0; i < 300; i++) {
		fill(&r, map);
		for (unsigned pos = 0; pos <= BITS; pos++, checked++) {
			assert_int_equal(bits_next_set(map, BITS, pos),
					 model_next(map, pos, true));
			assert_int_equal(bits_next_zero(map, BITS, pos),
					 model_next(map, pos, false));
			assert_int_equal(bits_zeroes_before(map, pos),
					 model_zeroes_before(map, pos));
		}
	}
	assert_int_equal(checked, 300 * (BITS + 1));
	reached_end();
}

static void test_searches_stop_at_the_end(void **state)
{
	uint64_t none[WORDS] = { 0 }, all[WORDS];

	(void)state;
	memset(all, 0xff, sizeof(all));
	assert_int_equal(bits_next_set(none, BITS, 0), BITS);
	assert_int_equal(bits_next_zero(all, BITS, 0), BITS);
	assert_int_equal(bits_next_set(all, BITS, BITS), BITS);
	assert_int_equal(bits_zeroes_before(none, BITS), BITS);
	assert_int_equal(bits_zeroes_before(all, BITS), 0);
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_pages_and_bytes_round_as_their_names_say),
		TEST(test_powers_and_logarithms),
		TEST(test_ranges_cross_words_and_touch_nothing_else),
		TEST(test_searches_find_the_first_from_every_position),
		TEST(test_searches_stop_at_the_end),
	};

	return cmocka_run_group_tests_name("bits", tests, NULL, NULL);
}
