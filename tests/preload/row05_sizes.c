// SPDX-License-Identifier: MIT
/*
 * Row 5: sizes at the ends: beyond PTRDIFF_MAX, products and roundings that
 * overflow, zero.
 */
#include "check.h"
#include <malloc.h>

#define NR_OF(array) (sizeof(array) / sizeof((array)[0]))

static void beyond_ptrdiff_max(void)
{
	size_t i, sizes[] = {
		(size_t)PTRDIFF_MAX + 1, SIZE_MAX, SIZE_MAX - 1,
		SIZE_MAX - 15, SIZE_MAX - 4095, SIZE_MAX - 4096,
		SIZE_MAX - (2 << 20) + 1, SIZE_MAX / 2 + 4096, PTRDIFF_MAX,
		PTRDIFF_MAX - 4096, 1UL << 47, 1UL << 48,
	};
	void *kept = malloc(10), *block;

	for (i = 0; i < NR_OF(sizes); i++) {
		size_t size = opaque(sizes[i]);

		CHECK_FAILS(malloc(size), ENOMEM);
		CHECK_FAILS(calloc(1, size), ENOMEM);
		CHECK_FAILS(calloc(size, 1), ENOMEM);
		CHECK_FAILS(realloc(NULL, size), ENOMEM);
		CHECK_FAILS(realloc(opaque_ptr(kept), size), ENOMEM);
		CHECK_FAILS(reallocarray(opaque_ptr(kept), 1, size), ENOMEM);
		CHECK_FAILS(aligned_alloc(16, size), ENOMEM);
		CHECK_FAILS(valloc(size), ENOMEM);
		CHECK_FAILS(pvalloc(size), ENOMEM);
		CHECK_FAILS(memalign(8, size), ENOMEM);
		CHECK_FAILS(memalign(64, size), ENOMEM);
		CHECK_FAILS(memalign(4096, size), ENOMEM);
		CHECK_FAILS(memalign(1 << 30, size), ENOMEM);
		CHECK(posix_memalign(&block, 64, size) == ENOMEM);
	}
	free(kept);
	check_end();
}

static void products_that_overflow(void)
{
	char *kept = malloc(100);
	size_t half = opaque(1UL << 32), max = opaque(SIZE_MAX);

	memset(kept, 'k', 100);
	CHECK_FAILS(calloc(half, half), ENOMEM);
	CHECK_FAILS(calloc(max, 2), ENOMEM);
	CHECK_FAILS(calloc(2, max), ENOMEM);
	CHECK_FAILS(calloc(max / 2 + 2, 2), ENOMEM);
	CHECK_FAILS(calloc(max / 16 + 2, 16), ENOMEM);
	CHECK_FAILS(calloc(max, max), ENOMEM);
	CHECK_FAILS(reallocarray(NULL, half, half), ENOMEM);
	CHECK_FAILS(reallocarray(opaque_ptr(kept), half, half), ENOMEM);
	CHECK_FAILS(reallocarray(opaque_ptr(kept), max, 2), ENOMEM);
	CHECK_FAILS(reallocarray(opaque_ptr(kept), max / 2 + 2, 2), ENOMEM);
	CHECK(all_bytes(kept, 'k', 100));
	free(kept);
	check_end();
}

/* Size and alignment that are fine each, and overflow when rounded up. */
static void roundings_that_overflow(void)
{
	size_t shift, less;
	void *block;

	for (shift = 4; shift < 64; shift++) {
		size_t align = opaque(1UL << shift);

		for (less = 0; less < 5; less++) {
			size_t size = 0 - align + less - 2;

			if (size <= PTRDIFF_MAX)
				continue;
			CHECK_FAILS(memalign(align, size), ENOMEM);
			CHECK_FAILS(aligned_alloc(align, size), ENOMEM);
			CHECK(posix_memalign(&block, align, size) == ENOMEM);
		}
	}
	CHECK_FAILS(memalign(opaque(1UL << 63), 1), ENOMEM);
	CHECK_FAILS(memalign(opaque(1UL << 62), 1UL << 62), ENOMEM);
	CHECK_FAILS(pvalloc(opaque(SIZE_MAX - 4094)), ENOMEM);
	CHECK_FAILS(valloc(opaque(SIZE_MAX - 4094)), ENOMEM);
	check_end();
}

static void distinct(void *blocks[], size_t nr)
{
	size_t i, j;

	for (i = 0; i < nr; i++) {
		CHECK(blocks[i] != NULL);
		CHECK(aligned_to(blocks[i], 16));
		for (j = 0; j < i; j++)
			CHECK(blocks[i] != blocks[j]);
	}
	for (i = 0; i < nr; i++)
		free(blocks[i]);
}

static void zero_is_a_size(void)
{
	size_t zero = opaque(0), max = opaque(SIZE_MAX);
	void *blocks[] = {
		malloc(zero), malloc(zero), calloc(zero, 8), calloc(8, zero),
		calloc(zero, max), calloc(max, zero),
		realloc(NULL, zero), reallocarray(NULL, zero, 8),
		reallocarray(NULL, max, zero), memalign(64, zero),
		aligned_alloc(64, zero), valloc(zero), pvalloc(zero), NULL,
	};
	size_t last = NR_OF(blocks) - 1;

	CHECK(posix_memalign(&blocks[last], 64, zero) == 0);
	CHECK(aligned_to(blocks[11], 4096) && aligned_to(blocks[12], 4096));
	distinct(blocks, NR_OF(blocks));
	check_end();
}

static size_t used_bytes(void)
{
	struct mallinfo2 info = mallinfo2();

	return info.uordblks + info.hblkhd;
}

static void realloc_to_zero_frees(void)
{
	size_t sizes[] = { 1, 100, 5000, 40000, 1 << 20, 20 << 20 };
	size_t i, round, before = used_bytes();

	for (i = 0; i < NR_OF(sizes); i++) {
		for (round = 0; round < 50; round++) {
			errno = 0;
			CHECK(realloc(malloc(sizes[i]), opaque(0)) == NULL);
			CHECK(reallocarray(malloc(sizes[i]), opaque(0), 8) ==
			      NULL);
			CHECK(errno == 0);
		}
	}
	CHECK(used_bytes() < before + (1 << 20));
	check_end();
}

static void realloc_through_all_sizes(void)
{
	size_t size, had = 0, step = 1;
	char *block = NULL;

	for (size = 1; size < 24 << 20; size += step, step += step / 7 + 1) {
		block = realloc(block, opaque(size));
		REQUIRE(block != NULL);
		CHECK(all_bytes(block, 'r', had));
		memset(block + had, 'r', size - had);
		had = size;
	}
	while (size > 1) {
		size -= size / 5 + 1;
		block = realloc(block, opaque(size ? size : 1));
		REQUIRE(block != NULL);
		CHECK(all_bytes(block, 'r', size));
	}
	free(block);
	check_end();
}

static const struct check_case cases[] = {
	{ "beyond_ptrdiff_max", beyond_ptrdiff_max },
	{ "products_that_overflow", products_that_overflow },
	{ "roundings_that_overflow", roundings_that_overflow },
	{ "zero_is_a_size", zero_is_a_size },
	{ "realloc_to_zero_frees", realloc_to_zero_frees },
	{ "realloc_through_all_sizes", realloc_through_all_sizes },
};

CHECK_MAIN(cases)
