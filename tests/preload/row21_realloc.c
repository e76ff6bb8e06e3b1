// SPDX-License-Identifier: MIT
/*
 * Row 21: realloc() of large blocks, which grow in place, or whose pages move
 * to another address: contents, counters and the limit.
 */
#include "check.h"
#include <malloc.h>
#include <pthread.h>

#define MIB ((size_t)1 << 20)

static size_t used_bytes(void)
{
	struct mallinfo2 info = mallinfo2();

	return info.uordblks + info.hblkhd;
}

/* Every page has a word that says which page of which block it is. */
static void mark(char *block, size_t from, size_t to, size_t tag)
{
	for (from &= ~4095UL; from + 8 <= to; from += 4096)
		*(size_t *)(void *)(block + from) = from ^ tag;
}

static bool marked(const char *block, size_t to, size_t tag)
{
	size_t at;

	for (at = 0; at + 8 <= to; at += 4096)
		if (*(const size_t *)(const void *)(block + at) != (at ^ tag))
			return false;
	return true;
}

static void check_used(size_t before, size_t nr_bytes)
{
	size_t now = used_bytes();

	if (!CHECK(now >= before + nr_bytes &&
		   now <= before + nr_bytes + nr_bytes / 4 + MIB))
		check_say("%zu used, %zu before, %zu allocated\n", now,
			  before, nr_bytes);
}

static void grown_step_by_step(void)
{
	size_t size, before = used_bytes(), step, steps[] = {
		4096, 70000, MIB, 5 * MIB,
	};
	unsigned i;

	for (i = 0; i < 4; i++) {
		char *block = NULL;
		size_t had = 0;

		step = steps[i];
		for (size = step; size <= 800 * step && size <= 64 * MIB;
		     size += step) {
			block = realloc(block, size);
			REQUIRE(block != NULL);
			CHECK(marked(block, had, i));
			mark(block, had, size, i);
			had = size;
		}
		check_used(before, had);
		while (had > step) {
			had -= had / 3;
			block = realloc(block, had);
			REQUIRE(block != NULL);
			CHECK(marked(block, had, i));
			check_used(before, had);
		}
		free(block);
		check_used(before, 0);
	}
	check_end();
}

/* Two blocks that stand in each other's way, so that both have to move. */
static void moved(void)
{
	size_t before = used_bytes(), size, had = 0;
	char *blocks[2] = { NULL, NULL };
	int i;

	for (size = MIB; size <= 64 * MIB; size += 3 * MIB) {
		for (i = 0; i < 2; i++) {
			char *block = realloc(blocks[i], size);

			REQUIRE(block != NULL);
			CHECK(marked(block, had, (size_t)i));
			mark(block, had, size, (size_t)i);
			blocks[i] = block;
		}
		check_used(before, 2 * size);
		had = size;
	}
	free(blocks[0]);
	check_used(before, had);
	CHECK(marked(blocks[1], had, 1));
	free(blocks[1]);
	check_used(before, 0);
	/* Nothing stayed behind at the addresses that were left. */
	malloc_trim(0);
	CHECK(resident_bytes() < 64 * MIB);
	check_end();
}

static void failed_growth_keeps_the_block(void)
{
	size_t limit = limit_bytes(), size = limit / 4, more;
	char *block = malloc(size), *wall = malloc(MIB);
	void *head = NULL;

	REQUIRE(block && wall);
	mark(block, 0, size, 7);
	for (more = limit; more < 8 * limit; more *= 2)
		CHECK_FAILS(realloc(block, opaque(more)), ENOMEM);
	fill(&head, MIB);
	CHECK_FAILS(realloc(block, opaque(size + 8 * MIB)), ENOMEM);
	CHECK(marked(block, size, 7));
	CHECK(malloc_usable_size(block) >= size);
	drop(&head);
	block = realloc(block, size + 8 * MIB);
	REQUIRE(block != NULL);
	CHECK(marked(block, size, 7));
	free(block);
	free(wall);
	check_end();
}

static void shrinking_gives_back(void)
{
	size_t limit = limit_bytes(), size = limit / 4 * 3, i;
	char *block = NULL, *other;

	for (i = 0; i < 10; i++) {
		block = realloc(block, size);
		REQUIRE(block != NULL);
		mark(block, 0, size, i);
		block = realloc(block, MIB);
		REQUIRE(block != NULL);
		CHECK(marked(block, MIB, i));
		other = malloc(limit / 2);
		REQUIRE(other != NULL);
		mark(other, 0, limit / 2, 99);
		CHECK(marked(block, MIB, i));
		free(other);
	}
	free(block);
	check_end();
}

static void *grow_in_thread(void *tag)
{
	size_t size, had = 0;
	char *block = NULL;
	int i;

	for (i = 0; i < 20; i++) {
		for (size = 10000; size < 12 * MIB; size += size / 2) {
			block = realloc(block, size);
			REQUIRE(block != NULL);
			CHECK(marked(block, had, (size_t)tag));
			mark(block, had, size, (size_t)tag);
			had = size;
		}
		block = realloc(block, 5000);
		CHECK(marked(block, 5000, (size_t)tag));
		had = 5000;
	}
	free(block);
	return NULL;
}

static void grown_by_threads(void)
{
	size_t before = used_bytes();
	pthread_t threads[4];
	size_t i;

	for (i = 0; i < 4; i++)
		REQUIRE(!pthread_create(&threads[i], NULL, grow_in_thread,
					(void *)(i << 32)));
	for (i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	CHECK(used_bytes() <= before + MIB);
	check_end();
}

/* Resident memory while a block that fills most of the limit moves about. */
static void resident_stays_under_the_limit(void)
{
	size_t limit = limit_bytes(), start = resident_bytes(), size, had = 0;
	char *block = NULL, *wall = NULL;

	for (size = 8 * MIB; size < limit; size += 8 * MIB) {
		char *grown = realloc(block, size);

		if (!grown) {
			CHECK(errno == ENOMEM);
			CHECK(size > limit / 3);
			break;
		}
		block = grown;
		CHECK(marked(block, had, 3));
		mark(block, had, size, 3);
		had = size;
		free(wall);
		wall = malloc(4096);
		CHECK(resident_bytes() <= start + limit + MIB / 4);
	}
	check_say("grew to %zu of %zu\n", had, limit);
	CHECK(marked(block, had, 3));
	free(block);
	free(wall);
	check_end();
}

static const struct check_case cases[] = {
	{ "grown_step_by_step", grown_step_by_step },
	{ "moved", moved },
	{ "failed_growth_keeps_the_block", failed_growth_keeps_the_block },
	{ "shrinking_gives_back", shrinking_gives_back },
	{ "grown_by_threads", grown_by_threads },
	{ "resident_stays_under_the_limit", resident_stays_under_the_limit },
};

CHECK_MAIN(cases)
