// SPDX-License-Identifier: MIT
/*
 * Row 20: what happens at the limit and after it: any size can use what any
 * other size gave back, resident memory stays under the limit, and thousands
 * of failures print one report.
 */
#include "check.h"
#include <malloc.h>
#include <pthread.h>

static const size_t sizes[] = {
	24, 40, 64, 100, 200, 500, 1024, 2000, 3000, 4096, 6000, 8192, 10000,
	16384, 20000, 40000, 65536, 100000, 131072, 300000, 1 << 20,
	(1 << 20) + 4096, 3 << 20, 5 << 20, 10 << 20, 33 << 20, 64 << 20,
};

#define NR_SIZES (sizeof(sizes) / sizeof(sizes[0]))

/* On libc's malloc no promise is kept, but the cases have to run. */
static size_t percent(size_t of_pool)
{
	return on_pagepool() ? of_pool : 10;
}

static size_t usable_bytes(size_t size)
{
	void *block = malloc(size);
	size_t usable = malloc_usable_size(block);

	free(block);
	return usable;
}

/* As many blocks of a size as 97 % of the reference's bytes can hold. */
static void check_fills(size_t size, size_t reference_bytes)
{
	size_t usable = usable_bytes(size), nr, want;
	void *head = NULL;

	nr = fill(&head, size);
	drop(&head);
	want = reference_bytes / 100 * percent(97) / usable;
	if (!CHECK(nr >= want))
		check_say("size %zu (usable %zu): %zu blocks, %zu wanted, "
			  "%zu of %zu bytes\n", size, usable, nr, want,
			  nr * usable, reference_bytes);
}

static size_t reference(void)
{
	void *head = NULL;
	size_t nr_bytes;

	fill_up_to(&head, 65536, 1);
	nr_bytes = fill(&head, 65536) * 65536 + 65536;
	drop(&head);
	return nr_bytes;
}

static void every_size_after_every_other(void)
{
	size_t nr_bytes = reference(), i;

	CHECK(nr_bytes >= limit_bytes() / 1000 * percent(97) * 10);
	CHECK(nr_bytes <= limit_bytes());
	for (i = 0; i < NR_SIZES; i++)
		check_fills(sizes[i], nr_bytes);
	for (i = NR_SIZES; i-- > 0;)
		check_fills(sizes[i], nr_bytes);
	for (i = 0; i < NR_SIZES; i++)
		check_fills(sizes[i * 11 % NR_SIZES], nr_bytes);
	check_end();
}

/* Freed in another order than allocated, with some blocks kept. */
static void scattered_frees(void)
{
	enum { NR = 4000 };
	static void *blocks[NR];
	size_t limit = limit_bytes(), kept_bytes = 0, nr_bytes;
	unsigned round, i, n, nr;
	void *head = NULL;

	for (round = 0; round < 6; round++) {
		for (nr = 0; nr < NR; nr++) {
			size_t size = sizes[(nr * 7 + round) % 20];

			if (!(blocks[nr] = malloc(size)))
				break;
			memset(blocks[nr], 1, size);
		}
		fill(&head, 1 << 14);
		drop(&head);
		for (n = 0; n < nr; n++) {
			i = (unsigned)(n * 2654435761UL % nr);
			if (i % 97 == 0)
				continue;
			free(blocks[i]);
			blocks[i] = NULL;
		}
		for (i = 0, kept_bytes = 0; i < nr; i++)
			kept_bytes += malloc_usable_size(blocks[i]);
		nr_bytes = fill(&head, 65536) * 65536;
		if (!CHECK(nr_bytes + kept_bytes >=
			   limit / 100 * percent(85)))
			check_say("%zu kept, %zu filled\n", kept_bytes,
				  nr_bytes);
		drop(&head);
		for (i = 0; i < nr; i++)
			free(blocks[i]);
	}
	check_fills(1 << 20, limit);
	check_end();
}

static size_t touch_to_the_limit(void **head, size_t size)
{
	size_t nr = 0;
	void **block;

	limit_bytes();
	while ((block = malloc(size))) {
		memset(block, 0x77, size);
		*block = *head;
		*head = block;
		nr++;
	}
	return nr;
}

/* Promise P1, as the kernel counts it. */
static void resident_stays_under_the_limit(void)
{
	size_t start = resident_bytes(), limit = limit_bytes(), i;

	for (i = 0; i < NR_SIZES; i += 2) {
		void *head = NULL;
		size_t resident;

		CHECK(touch_to_the_limit(&head, sizes[i]) > 0);
		resident = resident_bytes();
		if (!CHECK(resident <= start + limit + (256 << 10)))
			check_say("size %zu: %zu resident, %zu before\n",
				  sizes[i], resident, start);
		drop(&head);
		resident = resident_bytes();
		CHECK(resident <= start + limit + (256 << 10));
	}
	malloc_trim(0);
	CHECK(resident_bytes() <= start + limit / 4);
	check_end();
}

static void need_pool(void)
{
	if (!on_pagepool())
		check_skip("the stand-in for the limit counts thread stacks");
}

static void *fill_and_drop(void *unused)
{
	size_t round;

	for (round = 0; round < 40; round++) {
		void *head = NULL;

		fill_up_to(&head, sizes[round * 5 % NR_SIZES], SIZE_MAX);
		CHECK(errno == ENOMEM);
		drop(&head);
	}
	return unused;
}

static void threads_at_the_limit(void)
{
	size_t nr_bytes, i;
	pthread_t threads[4];

	need_pool();
	nr_bytes = reference();
	for (i = 0; i < 4; i++)
		REQUIRE(!pthread_create(&threads[i], NULL, fill_and_drop,
					NULL));
	for (i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	for (i = 0; i < NR_SIZES; i += 3)
		check_fills(sizes[i], nr_bytes);
	check_end();
}

static void *fail_often(void *limit)
{
	unsigned i;

	for (i = 0; i < 5000; i++) {
		CHECK_FAILS(malloc((size_t)limit), ENOMEM);
		CHECK_FAILS(calloc(i + 1, (size_t)limit), ENOMEM);
		CHECK_FAILS(malloc(1 << 20), ENOMEM);
	}
	return NULL;
}

/* The test counts the reports on stderr. */
static void thousands_of_failures(void)
{
	size_t limit = limit_bytes();
	void *head = NULL;
	pthread_t threads[3];
	int i;

	need_pool();
	fill(&head, 1 << 18);
	fail_often((void *)limit);
	for (i = 0; i < 3; i++)
		REQUIRE(!pthread_create(&threads[i], NULL, fail_often,
					(void *)limit));
	for (i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	drop(&head);
	check_end();
}

/* What a program does after ENOMEM: drops part of it and goes on. */
static void small_steps_at_the_limit(void)
{
	void *head = NULL, **block;
	unsigned i;

	fill(&head, 30000);
	for (i = 0; i < 3000; i++) {
		char *text;

		block = head;
		head = *block;
		free(block);
		text = strdup("room for a little");
		CHECK(text != NULL);
		free(text);
		CHECK(fill(&head, 30000) >= 1 || !on_pagepool());
	}
	drop(&head);
	check_end();
}

static const struct check_case cases[] = {
	{ "every_size_after_every_other", every_size_after_every_other },
	{ "scattered_frees", scattered_frees },
	{ "resident_stays_under_the_limit", resident_stays_under_the_limit },
	{ "threads_at_the_limit", threads_at_the_limit },
	{ "thousands_of_failures", thousands_of_failures },
	{ "small_steps_at_the_limit", small_steps_at_the_limit },
};

CHECK_MAIN(cases)
