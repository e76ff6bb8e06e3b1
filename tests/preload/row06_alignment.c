// SPDX-License-Identifier: MIT
/*
 * Row 6: alignment, by glibc's rules: 16 bytes for every size, memalign() and
 * aligned_alloc() round up what is not a power of two (as glibc 2.36 does).
 */
#include "check.h"
#include <malloc.h>

#define NR_OF(array) (sizeof(array) / sizeof((array)[0]))

static void sixteen_for_every_size(void)
{
	void *blocks[64];
	size_t size, i;

	for (size = 0; size < 140000; size += size < 5000 ? 1 : 997) {
		for (i = 0; i < 3; i++) {
			blocks[i] = malloc(size);
			CHECK(blocks[i] && aligned_to(blocks[i], 16));
			blocks[i] = realloc(blocks[i], size + 17);
			CHECK(blocks[i] && aligned_to(blocks[i], 16));
		}
		blocks[i] = calloc(1, size);
		CHECK(blocks[i] && aligned_to(blocks[i], 16));
		do
			free(blocks[i]);
		while (i--);
	}
	check_end();
}

static void try_one(void *block, size_t align, size_t size, int byte)
{
	REQUIRE(block != NULL);
	CHECK(aligned_to(block, align));
	CHECK(malloc_usable_size(block) >= size);
	memset(block, byte, size);
}

static void every_power_with_every_size(void)
{
	size_t sizes[] = { 1, 63, 100, 3000, 4096, 9000, 70000, 3 << 20 };
	void *blocks[3 * NR_OF(sizes)];
	size_t align, i;

	for (align = 8; align <= 4 << 20; align *= 2) {
		for (i = 0; i < NR_OF(sizes); i++) {
			size_t size = opaque(sizes[i]);
			void **three = &blocks[3 * i];

			three[0] = memalign(align, size);
			three[1] = aligned_alloc(align, size);
			CHECK(!posix_memalign(&three[2], align, size));
			try_one(three[0], align, size, 'm');
			try_one(three[1], align, size, 'a');
			try_one(three[2], align, size, 'p');
			CHECK(all_bytes(three[0], 'm', size));
			CHECK(all_bytes(three[1], 'a', size));
		}
		for (i = 0; i < NR_OF(blocks); i++)
			free(blocks[i]);
	}
	check_end();
}

static void other_numbers_are_rounded_up(void)
{
	size_t i, rounds_to[][2] = {
		{ 0, 16 }, { 1, 16 }, { 3, 16 }, { 5, 16 }, { 17, 32 },
		{ 24, 32 }, { 33, 64 }, { 48, 64 }, { 100, 128 },
		{ 1000, 1024 }, { 4097, 8192 }, { 100000, 131072 },
	};

	for (i = 0; i < NR_OF(rounds_to); i++) {
		size_t align = opaque(rounds_to[i][0]);
		void *one = memalign(align, 200);
		void *two = aligned_alloc(align, 200);

		try_one(one, rounds_to[i][1], 200, 1);
		try_one(two, rounds_to[i][1], 200, 2);
		CHECK(all_bytes(one, 1, 200));
		free(one);
		free(two);
	}
	check_end();
}

static void pages(void)
{
	size_t i, sizes[] = { 0, 1, 4096, 4097, 100000, 5 << 20 };

	for (i = 0; i < NR_OF(sizes); i++) {
		size_t up = (sizes[i] + 4095) & ~4095UL;
		void *one = valloc(sizes[i]), *two = pvalloc(sizes[i]);

		try_one(one, 4096, sizes[i], 1);
		try_one(two, 4096, up, 2);
		free(one);
		free(two);
	}
	check_end();
}

/* Far above the page: the addresses are wide apart, the memory is not used. */
static void huge_alignments(void)
{
	size_t align, i, nr = 4;
	void *blocks[4];

	for (align = 2UL << 20; align <= 1UL << 30; align *= 2) {
		for (i = 0; i < nr; i++) {
			blocks[i] = memalign(align, 100 + i * 700000);
			try_one(blocks[i], align, 100 + i * 700000, (int)i);
		}
		for (i = 0; i < nr; i++) {
			CHECK(all_bytes(blocks[i], (int)i, 100 + i * 700000));
			free(blocks[i]);
		}
	}
	check_end();
}

/* The alignment is for the first block alone; the content is kept. */
static void realloc_of_aligned_blocks(void)
{
	size_t align, sizes[] = { 50, 3000, 20000, 1 << 20 }, i;

	for (align = 32; align <= 2 << 20; align *= 4) {
		for (i = 0; i < NR_OF(sizes); i++) {
			char *block = memalign(align, sizes[i]);

			memset(block, 'x', sizes[i]);
			block = realloc(block, 3 * sizes[i]);
			REQUIRE(block != NULL && aligned_to(block, 16));
			CHECK(all_bytes(block, 'x', sizes[i]));
			memset(block, 'y', 3 * sizes[i]);
			block = realloc(block, sizes[i] / 2);
			REQUIRE(block != NULL && aligned_to(block, 16));
			CHECK(all_bytes(block, 'y', sizes[i] / 2));
			free(block);
		}
	}
	check_end();
}

static const struct check_case cases[] = {
	{ "sixteen_for_every_size", sixteen_for_every_size },
	{ "every_power_with_every_size", every_power_with_every_size },
	{ "other_numbers_are_rounded_up", other_numbers_are_rounded_up },
	{ "pages", pages },
	{ "huge_alignments", huge_alignments },
	{ "realloc_of_aligned_blocks", realloc_of_aligned_blocks },
};

CHECK_MAIN(cases)
