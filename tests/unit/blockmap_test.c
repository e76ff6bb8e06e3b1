/* SPDX-License-Identifier: MIT */
/* A set of blocks against an array of bools, search for search. */
#include "../api/testing.h"

#include "blockmap.h"

#define BLOCKS	8192u

struct fixture {
	struct blockmap	bm;
	void		*memory;
	bool		model[BLOCKS];
	uint32_t	nr_set;
};

static struct fixture *fixture_make(void)
{
	struct fixture *f = test_array(1, sizeof(*f));

	f->memory = test_array(1, blockmap_bytes(BLOCKS));
	blockmap_init(&f->bm, 0, BLOCKS, f->memory);
	return f;
}

static void fixture_end(struct fixture *f)
{
	free(f->memory);
	free(f);
}

static void toggle(struct fixture *f, uint32_t block)
{
	if (f->model[block])
		blockmap_del(&f->bm, block);
	else
		blockmap_add(&f->bm, block);
	f->model[block] = !f->model[block];
	f->nr_set = f->model[block] ? f->nr_set + 1 : f->nr_set - 1;
}

static void set_range(struct fixture *f, uint32_t from, uint32_t n, bool on)
{
	for (uint32_t i = from; i < from + n && i < BLOCKS; i++)
		if (f->model[i] != on)
			toggle(f, i);
}

static uint32_t model_next(struct fixture *f, uint32_t from)
{
	while (from < BLOCKS && !f->model[from])
		from++;
	return from < BLOCKS ? from : BLOCKMAP_NONE;
}

static uint32_t model_find_run(struct fixture *f, uint32_t nr, uint32_t align,
			       uint32_t bias)
{
	for (uint32_t at = 0; at + nr <= BLOCKS; at++) {
		uint32_t n = 0;

		if ((at + bias) % align)
			continue;
		while (n < nr && f->model[at + n])
			n++;
		if (n == nr)
			return at;
	}
	return BLOCKMAP_NONE;
}

static uint32_t model_run_before(struct fixture *f, uint32_t end)
{
	while (end && f->model[end - 1])
		end--;
	return end;
}

/* I1, and the members themselves. */
static void check_members(struct fixture *f)
{
	assert_int_equal(f->bm.nr_set, f->nr_set);
	for (uint32_t i = 0; i < BLOCKS; i++)
		assert_int_equal(blockmap_has(&f->bm, i), f->model[i]);
	for (uint32_t w = 0; w < BLOCKS / 64; w++)
		assert_int_equal(f->bm.summary[w / 64] >> (w % 64) & 1,
				 f->bm.words[w] != 0);
}

static void check_searches(struct fixture *f, struct rng *r)
{
	for (unsigned i = 0; i < 40; i++) {
		uint32_t at = (uint32_t)rng_below(r, BLOCKS + 1);
		uint32_t nr = 1 + (uint32_t)rng_below(r, i < 20 ? 4 : 300);
		uint32_t align = 1u << rng_below(r, 8);
		uint32_t bias = (uint32_t)rng_below(r, align);

		assert_int_equal(blockmap_next(&f->bm, at), model_next(f, at));
		assert_int_equal(blockmap_run_before(&f->bm, at),
				 model_run_before(f, at));
		assert_int_equal(blockmap_find_run(&f->bm, nr, align, bias),
				 model_find_run(f, nr, align, bias));
	}
}

static void test_blockmap_random_members_are_found(void **state)
{
	struct fixture *f = fixture_make();
	struct rng r = rng_make(1);
	unsigned rounds = 0;

	(void)state;
	for (; rounds < 120; rounds++) {
		for (unsigned i = 0; i < 30; i++)
			toggle(f, (uint32_t)rng_below(&r, BLOCKS));
		set_range(f, (uint32_t)rng_below(&r, BLOCKS),
			  1 + (uint32_t)rng_below(&r, 700),
			  rng_below(&r, 2));
		check_members(f);
		check_searches(f, &r);
	}
	assert_int_equal(rounds, 120);
	fixture_end(f);
	reached_end();
}

static void test_blockmap_empty_and_full_are_edges(void **state)
{
	struct fixture *f = fixture_make();

	(void)state;
	assert_int_equal(blockmap_next(&f->bm, 0), BLOCKMAP_NONE);
	assert_int_equal(blockmap_find_run(&f->bm, 1, 1, 0), BLOCKMAP_NONE);
	assert_int_equal(blockmap_run_before(&f->bm, BLOCKS), BLOCKS);
	set_range(f, 0, BLOCKS, true);
	assert_int_equal(blockmap_find_run(&f->bm, BLOCKS, 1, 0), 0);
	assert_int_equal(blockmap_find_run(&f->bm, BLOCKS + 1, 1, 0),
			 BLOCKMAP_NONE);
	assert_int_equal(blockmap_find_run(&f->bm, BLOCKS, 64, 1),
			 BLOCKMAP_NONE);
	assert_int_equal(blockmap_run_before(&f->bm, BLOCKS), 0);
	assert_int_equal(blockmap_next(&f->bm, BLOCKS - 1), BLOCKS - 1);
	assert_int_equal(blockmap_next(&f->bm, BLOCKS), BLOCKMAP_NONE);
	check_members(f);
	set_range(f, 0, BLOCKS, false);
	toggle(f, BLOCKS - 1);
	assert_int_equal(blockmap_next(&f->bm, 0), BLOCKS - 1);
	assert_int_equal(blockmap_find_run(&f->bm, 1, 1, 0), BLOCKS - 1);
	assert_int_equal(blockmap_find_run(&f->bm, 2, 1, 0), BLOCKMAP_NONE);
	check_members(f);
	fixture_end(f);
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_blockmap_random_members_are_found),
		TEST(test_blockmap_empty_and_full_are_edges),
	};

	return cmocka_run_group_tests_name("blockmap", tests, NULL, NULL);
}
