/* SPDX-License-Identifier: MIT */
/*
 * One block against a model that says for each of its 512 pages who holds it
 * and whether it is backed: a bug that keeps the sums equal is found too.
 */
#include "../api/testing.h"

#include "pageblock.h"

#define MAX_RUNS	512

struct model {
	uint16_t	holder[PAGEBLOCK_PAGES];	/* 0: free */
	bool		backed[PAGEBLOCK_PAGES];
	struct { unsigned pos, n; } run[MAX_RUNS + 1];	/* n 0: none */
};

struct fixture {
	struct pageblock	b;
	struct model		m;
};

static struct fixture *fixture_make(void)
{
	struct fixture *f = NULL;

	assert_int_equal(posix_memalign((void **)&f, 64, sizeof(*f)), 0);
	memset(f, 0, sizeof(*f));
	f->b.longest_bound = PAGEBLOCK_PAGES;
	return f;
}

static bool bit(const uint64_t *map, unsigned i)
{
	return map[i / 64] >> (i % 64) & 1;
}

static bool model_free(const struct model *m, unsigned pos, unsigned n)
{
	for (unsigned i = pos; i < pos + n; i++)
		if (m->holder[i])
			return false;
	return true;
}

static unsigned model_find(const struct model *m, unsigned n, unsigned align)
{
	for (unsigned pos = 0; pos + n <= PAGEBLOCK_PAGES; pos += align)
		if (model_free(m, pos, n))
			return pos;
	return PAGEBLOCK_NOT_FOUND;
}

static unsigned model_longest(const struct model *m)
{
	unsigned longest = 0, n = 0;

	for (unsigned i = 0; i < PAGEBLOCK_PAGES; i++) {
		n = m->holder[i] ? 0 : n + 1;
		longest = n > longest ? n : longest;
	}
	return longest;
}

static void check_same(const struct fixture *f)
{
	unsigned used = 0, spare = 0;

	for (unsigned i = 0; i < PAGEBLOCK_PAGES; i++) {
		assert_int_equal(bit(f->b.used, i), f->m.holder[i] != 0);
		assert_int_equal(bit(f->b.backed, i), f->m.backed[i]);
		used += f->m.holder[i] != 0;
		spare += !f->m.holder[i] && f->m.backed[i];
	}
	assert_int_equal(f->b.nr_used, used);
	assert_int_equal(f->b.nr_spare, spare);
	assert_true(model_longest(&f->m) <= f->b.longest_bound);
	assert_int_equal(pageblock_verify(&f->b), 0);
}

static unsigned free_slot(const struct model *m)
{
	unsigned i = 1;

	while (i < MAX_RUNS && m->run[i].n)
		i++;
	return i;
}

static void do_claim(struct fixture *f, unsigned pos, unsigned n)
{
	unsigned id = free_slot(&f->m), fresh = 0;

	for (unsigned i = pos; i < pos + n; i++) {
		assert_int_equal(f->m.holder[i], 0);
		f->m.holder[i] = (uint16_t)id;
		fresh += !f->m.backed[i];
		f->m.backed[i] = true;
	}
	f->m.run[id].pos = pos;
	f->m.run[id].n = n;
	assert_int_equal(pageblock_claim(&f->b, pos, n), fresh);
	pageblock_back(&f->b, pos, n);
}

static void do_release(struct fixture *f, unsigned id)
{
	unsigned pos = f->m.run[id].pos, n = f->m.run[id].n;

	for (unsigned i = pos; i < pos + n; i++) {
		assert_int_equal(f->m.holder[i], id);
		f->m.holder[i] = 0;
	}
	f->m.run[id].n = 0;
	pageblock_release(&f->b, pos, n);
}

static void random_claim(struct fixture *f, struct rng *r)
{
	unsigned align = rng_below(r, 3) ? 1 : 1u << rng_below(r, 10);
	unsigned n = 1 + (unsigned)rng_below(r, rng_below(r, 4) ? 20 : 512);
	unsigned want = model_find(&f->m, n, align);

	assert_int_equal(pageblock_find(&f->b, n, align), want);
	if (want != PAGEBLOCK_NOT_FOUND)
		do_claim(f, want, n);
	else if (align == 1)
		assert_int_equal(f->b.longest_bound, model_longest(&f->m));
}

static void random_unback(struct fixture *f, struct rng *r)
{
	unsigned n, pos = pageblock_find_spare(&f->b,
				(unsigned)rng_below(r, 512), &n);

	if (pos == PAGEBLOCK_NOT_FOUND)
		return;
	for (unsigned i = pos; i < pos + n; i++) {
		assert_true(!f->m.holder[i] && f->m.backed[i]);
		f->m.backed[i] = false;
	}
	pageblock_unback(&f->b, pos, n);
}

static void test_pageblock_random_claims_match_the_model(void **state)
{
	struct fixture *f = fixture_make();
	struct rng r = rng_make(1);
	unsigned claims = 0, releases = 0;

	(void)state;
	for (unsigned i = 0; i < 30000; i++) {
		unsigned id = 1 + (unsigned)rng_below(&r, MAX_RUNS - 1);
		/* Phases, so that the block is now nearly full, now empty. */
		bool up = i / 500 % 2 ? rng_below(&r, 3) : !rng_below(&r, 3);

		if (up) {
			random_claim(f, &r);
			claims++;
		} else if (f->m.run[id].n) {
			do_release(f, id);
			releases++;
		} else {
			random_unback(f, &r);
		}
		check_same(f);
	}
	assert_true(claims > 10000 && releases > 200);
	free(f);
	reached_end();
}

static void test_pageblock_claim_reaches_both_edges(void **state)
{
	struct fixture *f = fixture_make();

	(void)state;
	assert_int_equal(pageblock_find(&f->b, 512, 512), 0);
	do_claim(f, 0, 512);
	assert_int_equal(pageblock_find(&f->b, 1, 1), PAGEBLOCK_NOT_FOUND);
	assert_int_equal(f->b.longest_bound, 0);
	check_same(f);
	do_release(f, 1);
	assert_int_equal(f->b.longest_bound, 512);
	do_claim(f, 0, 511);
	assert_int_equal(pageblock_find(&f->b, 1, 1), 511);
	assert_int_equal(pageblock_find(&f->b, 1, 2), PAGEBLOCK_NOT_FOUND);
	do_claim(f, 511, 1);
	check_same(f);
	do_release(f, 2);
	assert_true(pageblock_range_is_free(&f->b, 511, 1));
	assert_false(pageblock_range_is_free(&f->b, 510, 2));
	check_same(f);
	free(f);
	reached_end();
}

static void test_pageblock_release_raises_the_bound_by_merging(void **state)
{
	struct fixture *f = fixture_make();

	(void)state;
	for (unsigned i = 0; i < PAGEBLOCK_PAGES; i++)
		do_claim(f, i, 1);
	assert_int_equal(f->b.longest_bound, 0);
	do_release(f, 101);
	do_release(f, 103);
	assert_int_equal(f->b.longest_bound, 1);
	do_release(f, 102);
	assert_int_equal(f->b.longest_bound, 3);
	/* An aligned search that fails says nothing of unaligned ones. */
	assert_int_equal(pageblock_find(&f->b, 2, 64), PAGEBLOCK_NOT_FOUND);
	assert_int_equal(f->b.longest_bound, 3);
	assert_int_equal(pageblock_find(&f->b, 3, 1), 100);
	assert_int_equal(pageblock_find(&f->b, 4, 1), PAGEBLOCK_NOT_FOUND);
	check_same(f);
	free(f);
	reached_end();
}

static void test_pageblock_finds_what_has_memory(void **state)
{
	struct fixture *f = fixture_make();

	(void)state;
	/* Pages 0..99 have memory; of 40..49, 60..64 and 80 it is spare. */
	for (unsigned i = 0; i < 100; i++)
		do_claim(f, i, 1);
	pageblock_back(&f->b, 0, 100);
	for (unsigned i = 40; i < 50; i++)
		do_release(f, i + 1);
	assert_int_equal(f->b.spare_bound, 10);
	for (unsigned i = 60; i < 65; i++)
		do_release(f, i + 1);
	do_release(f, 81);
	assert_int_equal(f->b.spare_bound, 10);
	assert_int_equal(pageblock_find_backed(&f->b, 10, 1), 40);
	assert_int_equal(pageblock_find_backed(&f->b, 4, 4), 40);
	assert_int_equal(pageblock_find_backed(&f->b, 1, 16), 48);
	assert_int_equal(pageblock_find_backed(&f->b, 11, 1),
			 PAGEBLOCK_NOT_FOUND);
	/* Taken from its middle: the bound stays, until a search fails. */
	do_claim(f, 44, 2);
	assert_int_equal(f->b.spare_bound, 10);
	assert_int_equal(pageblock_find_backed(&f->b, 6, 1),
			 PAGEBLOCK_NOT_FOUND);
	assert_int_equal(f->b.spare_bound, 5);
	pageblock_unback(&f->b, 40, 4);
	pageblock_unback(&f->b, 46, 4);
	pageblock_unback(&f->b, 60, 5);
	assert_int_equal(f->b.spare_bound, 1);
	assert_int_equal(pageblock_find_backed(&f->b, 1, 1), 80);
	assert_int_equal(pageblock_verify(&f->b), 0);
	free(f);
	reached_end();
}

static void test_pageblock_verify_names_what_is_broken(void **state)
{
	struct fixture *f = fixture_make();

	(void)state;
	do_claim(f, 10, 20);
	do_release(f, 1);
	do_claim(f, 0, 5);
	f->b.nr_used++;
	assert_int_equal(pageblock_verify(&f->b), 1);
	f->b.nr_used--;
	f->b.nr_spare++;
	assert_int_equal(pageblock_verify(&f->b), 2);
	f->b.nr_spare--;
	f->b.longest_bound = 506;
	assert_int_equal(pageblock_verify(&f->b), 3);
	f->b.longest_bound = 507;
	assert_int_equal(pageblock_verify(&f->b), 0);
	f->b.spare_bound++;
	assert_int_equal(pageblock_verify(&f->b), 4);
	f->b.spare_bound = 0;
	assert_int_equal(pageblock_verify(&f->b), 4);
	free(f);
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_pageblock_random_claims_match_the_model),
		TEST(test_pageblock_claim_reaches_both_edges),
		TEST(test_pageblock_release_raises_the_bound_by_merging),
		TEST(test_pageblock_finds_what_has_memory),
		TEST(test_pageblock_verify_names_what_is_broken),
	};

	return cmocka_run_group_tests_name("pageblock", tests, NULL, NULL);
}
