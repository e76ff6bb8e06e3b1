// SPDX-License-Identifier: MIT
/*
 * Row 7: malloc_usable_size().  Programs write to all of it, and expect that
 * realloc() keeps it and that it does not change while the block lives.
 */
#include "check.h"
#include <malloc.h>

#define NR_OF(array) (sizeof(array) / sizeof((array)[0]))

static size_t next_size(size_t size)
{
	return size < 2100 ? size + 1 : size + size / 9 + 3;
}

static void all_of_it_is_writable(void)
{
	char *blocks[3];
	size_t size, i, usable[3];

	for (size = 0; size < 12 << 20; size = next_size(size)) {
		for (i = 0; i < 3; i++) {
			blocks[i] = i == 2 ? memalign(64, size) : malloc(size);
			usable[i] = malloc_usable_size(blocks[i]);
			CHECK(usable[i] >= size);
			memset(blocks[i], 'a' + (int)i, usable[i]);
		}
		for (i = 0; i < 3; i++) {
			CHECK(all_bytes(blocks[i], 'a' + (int)i, usable[i]));
			CHECK(malloc_usable_size(blocks[i]) == usable[i]);
			free(blocks[i]);
		}
	}
	check_end();
}

static void realloc_keeps_all_of_it(void)
{
	size_t size;

	for (size = 1; size < 6 << 20; size = next_size(size)) {
		char *block = malloc(size);
		size_t usable = malloc_usable_size(block);

		memset(block, 'u', usable);
		block = realloc(block, usable);
		CHECK(all_bytes(block, 'u', usable));
		CHECK(malloc_usable_size(block) >= usable);
		block = realloc(block, usable + 1);
		CHECK(all_bytes(block, 'u', usable));
		block = realloc(block, 2 * usable + 5000);
		CHECK(all_bytes(block, 'u', usable));
		block = realloc(block, usable / 2 + 1);
		CHECK(all_bytes(block, 'u', usable / 2 + 1));
		free(block);
	}
	check_end();
}

static void it_stays_while_others_come_and_go(void)
{
	enum { NR = 3000 };
	static char *blocks[NR];
	static size_t usable[NR];
	unsigned seed = 1, i, round;

	for (i = 0; i < NR; i++) {
		blocks[i] = malloc(i * 11 % 9973);
		usable[i] = malloc_usable_size(blocks[i]);
		memset(blocks[i], (int)i, usable[i]);
	}
	for (round = 0; round < 20000; round++) {
		seed = seed * 1103515245 + 12345;
		i = seed / 65536 % NR;
		CHECK(malloc_usable_size(blocks[i]) == usable[i]);
		CHECK(all_bytes(blocks[i], (int)i, usable[i]));
		free(blocks[i]);
		blocks[i] = malloc(seed % 9973);
		usable[i] = malloc_usable_size(blocks[i]);
		memset(blocks[i], (int)i, usable[i]);
	}
	for (i = 0; i < NR; i++) {
		CHECK(all_bytes(blocks[i], (int)i, usable[i]));
		free(blocks[i]);
	}
	check_end();
}

/* Programs built with _FORTIFY_SOURCE=3 write as far as the compiler was
 * told, systemd and others as far as the allocator says. */
static void users_of_it_may_shrink(void)
{
	size_t size;

	for (size = 100; size < 1 << 20; size = size * 3 / 2) {
		char *block = malloc(size);
		size_t usable = malloc_usable_size(block);

		memset(block, 's', usable);
		block = realloc(block, size / 2);
		CHECK(malloc_usable_size(block) >= size / 2);
		CHECK(all_bytes(block, 's', size / 2));
		memset(block, 't', malloc_usable_size(block));
		free(block);
	}
	CHECK(malloc_usable_size(NULL) == 0);
	check_end();
}

static const struct check_case cases[] = {
	{ "all_of_it_is_writable", all_of_it_is_writable },
	{ "realloc_keeps_all_of_it", realloc_keeps_all_of_it },
	{ "it_stays_while_others_come_and_go",
	  it_stays_while_others_come_and_go },
	{ "users_of_it_may_shrink", users_of_it_may_shrink },
};

CHECK_MAIN(cases)
