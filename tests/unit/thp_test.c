/* SPDX-License-Identifier: MIT */
/*
 * Huge pages in a zone of its own, number by number: what one page costs where
 * a huge page may come, who waits for whom, what becomes of advice that the
 * kernel refuses, and how a zone is demoted.  The model that finds what these
 * numbers would hide is zone_test.c's.
 */
#include "../api/testing.h"

#include "backing.h"
#include "base/fault.h"
#include "os/os.h"
#include "page_alloc.h"
#include "thp.h"

#define LIMIT_BYTES	(16ull << 20)
#define MANAGED		4096u
#define BLOCK		PAGEBLOCK_PAGES

struct fixture {
	struct span		span;
	struct zone		zone;
	struct vmstat		vmstat;
	struct pcp_registry	reg;
};

static struct fixture *fixture_make(enum thp_setting setting, uint64_t managed)
{
	struct fixture *f = NULL;

	assert_int_equal(posix_memalign((void **)&f, 64, sizeof(*f)), 0);
	memset(f, 0, sizeof(*f));
	assert_int_equal(span_init(&f->span, LIMIT_BYTES), 0);
	zone_init(&f->zone, &f->span, managed);
	f->zone.tables_blocks = f->span.nr_blocks;
	pcp_registry_init(&f->reg, &f->zone, &f->vmstat);
	store_relaxed(&thp_system, THP_SYSTEM_ALWAYS);
	thp_start(&f->zone, setting);
	return f;
}

static void verify(struct fixture *f)
{
	lock_acquire(&f->zone.lock);
	assert_int_equal(zone_verify(&f->zone), 0);
	lock_release(&f->zone.lock);
}

static void fixture_end(struct fixture *f)
{
	verify(f);
	assert_int_equal(load_relaxed(&f->zone.used_pages), 0);
	span_exit(&f->span);
	free(f);
}

/* As page_alloc.c claims a run; UINT64_MAX: refused. */
static uint64_t claim(struct fixture *f, uint64_t nr_pages)
{
	struct zone_request req = { .nr_pages = nr_pages, .align_pages = 1 };
	struct zone_run run;
	enum failure why;

	if (!backing_claim(&f->zone, &req, 1, &run, &why))
		return UINT64_MAX;
	assert_int_equal(run.filler_pages, 0);
	thp_advise(&f->zone, run.page, nr_pages);
	return run.page;
}

static void give(struct fixture *f, uint64_t page)
{
	page_free(&f->reg, NULL, page, load_relaxed(&f->span.map[page]));
}

static uint64_t purge(struct fixture *f, uint64_t nr_pages)
{
	return backing_purge(&f->zone, ZONE_SPARE_ALL, nr_pages);
}

static uint64_t backed(struct fixture *f)
{
	return load_relaxed(&f->zone.backed_pages);
}

static unsigned huge_ranges(struct fixture *f)
{
	return load_relaxed(&f->zone.nr_huge_ranges);
}

static bool is_always(struct fixture *f)
{
	if (load_relaxed(&f->zone.thp) == ZONE_THP_ALWAYS)
		return true;
	print_message("# no huge pages on this system\n");
	return false;
}

/* always */

static void test_thp_always_one_page_counts_as_a_block(void **state)
{
	struct fixture *f = fixture_make(THP_ALWAYS, MANAGED);
	uint64_t a, b;

	(void)state;
	if (is_always(f)) {
		a = claim(f, 1);
		assert_int_equal(backed(f), BLOCK);
		b = claim(f, 100);
		assert_int_equal(a / BLOCK, b / BLOCK);
		assert_int_equal(backed(f), BLOCK);
		assert_int_equal(zone_spare_pages(&f->zone), BLOCK - 101);
		/* Holes stay. */
		assert_int_equal(purge(f, MANAGED), 0);
		give(f, a);
		assert_int_equal(purge(f, MANAGED), 0);
		give(f, b);
		verify(f);
		/* And the block goes whole, whatever was asked for. */
		assert_int_equal(purge(f, 1), BLOCK);
		assert_int_equal(backed(f), 0);
		assert_int_equal(load_relaxed(&f->zone.thp), ZONE_THP_ALWAYS);
	}
	fixture_end(f);
	reached_end();
}

static void test_thp_always_long_run_counts_its_last_block(void **state)
{
	struct fixture *f = fixture_make(THP_ALWAYS, MANAGED);
	uint64_t a;

	(void)state;
	if (is_always(f)) {
		a = claim(f, 3 * BLOCK + 1);
		assert_int_equal(backed(f), 4 * BLOCK);
		/* A release that gave the memory back is not believed of the
		 * last block: the others in it may be filled. */
		lock_acquire(&f->zone.lock);
		zone_release(&f->zone, a, 3 * BLOCK + 1, false);
		lock_release(&f->zone.lock);
		assert_int_equal(backed(f), BLOCK);
		verify(f);
	}
	fixture_end(f);
	reached_end();
}

/* Claims of @n pages that are in the making, one after the other. */
static void claim_only(struct fixture *f, uint64_t n, struct zone_run *run,
		       bool ready)
{
	struct zone_request req = { .nr_pages = n, .align_pages = 1 };
	uint32_t wanted;

	assert_int_equal(span_commit_blocks(&f->span, &f->zone.range, 16), 0);
	lock_acquire(&f->zone.lock);
	assert_int_equal(zone_claim(&f->zone, &req, run, &wanted), 0);
	assert_int_equal(zone_back(&f->zone, run), ready);
	assert_int_equal(zone_verify(&f->zone), 0);
	lock_release(&f->zone.lock);
}

/* While a block's first claim has no room yet, nobody else is given pages of
 * it, although they are free by number. */
static void test_thp_always_block_in_the_making_is_held(void **state)
{
	struct fixture *f = fixture_make(THP_ALWAYS, 3 * BLOCK / 2);
	struct zone_run first, second, third;

	(void)state;
	if (is_always(f)) {
		claim_only(f, 10, &first, true);
		assert_int_equal(first.fresh_pages, 10);
		claim_only(f, 510, &second, false);
		assert_int_equal(second.filler_pages, 2);
		assert_int_equal(f->zone.filler_pages, 2);
		assert_int_equal(second.credit_pages, BLOCK / 2);
		claim_only(f, 5, &third, true);
		assert_int_equal(third.page / BLOCK, first.page / BLOCK);
		lock_acquire(&f->zone.lock);
		zone_unclaim(&f->zone, &second);
		assert_int_equal(f->zone.filler_pages, 0);
		assert_int_equal(f->zone.promised_pages, 0);
		assert_int_equal(f->zone.making_pages, 0);
		assert_int_equal(zone_verify(&f->zone), 0);
		zone_release(&f->zone, first.page, 10, true);
		zone_release(&f->zone, third.page, 5, true);
		lock_release(&f->zone.lock);
	}
	fixture_end(f);
	reached_end();
}

/* In a forked child nobody ends what another thread was making: its filler
 * stays where it is, and nobody waits for it. */
static void test_thp_filler_is_lost_in_a_child(void **state)
{
	struct fixture *f = fixture_make(THP_ALWAYS, 3 * BLOCK / 2);
	struct zone_run first, second;
	uint64_t a;

	(void)state;
	if (is_always(f)) {
		claim_only(f, 10, &first, true);
		claim_only(f, 510, &second, false);
		lock_acquire(&f->zone.lock);
		zone_adopt_isolated(&f->zone);
		assert_int_equal(f->zone.promised_pages, 0);
		assert_int_equal(f->zone.lost_filler_pages, 2);
		assert_int_equal(zone_verify(&f->zone), 0);
		lock_release(&f->zone.lock);
		a = claim(f, 200);
		assert_int_not_equal(a, UINT64_MAX);
		verify(f);
		give(f, a);
		give(f, first.page);
		verify(f);
		assert_int_equal(load_relaxed(&f->zone.used_pages), 510);
	}
	span_exit(&f->span);
	free(f);
	reached_end();
}

/* Two requests that want room for a whole block each, where there is room for
 * what they asked for: neither fails. */
static void test_thp_always_demotion_gives_room_for_filler_back(void **state)
{
	struct fixture *f = fixture_make(THP_ALWAYS, BLOCK + 40);
	struct zone_run first, second, third;

	(void)state;
	if (is_always(f)) {
		claim_only(f, 512, &first, true);
		claim_only(f, 10, &second, false);
		assert_int_equal(second.credit_pages, 40);
		claim_only(f, 10, &third, false);
		assert_int_equal(third.credit_pages, 0);
		assert_true(backing_finish(&f->zone, &second));
		assert_int_equal(load_relaxed(&f->zone.thp), ZONE_THP_NEVER);
		assert_int_equal(f->zone.promised_pages, 0);
		assert_true(backing_finish(&f->zone, &third));
		assert_int_equal(backed(f), BLOCK + 20);
		assert_int_equal(f->zone.filler_pages, 0);
		give(f, first.page);
		give(f, second.page);
		give(f, third.page);
	}
	fixture_end(f);
	reached_end();
}

/* P2, with a hole beside every page in use. */
static void test_thp_always_holes_are_memory(void **state)
{
	static const uint64_t lengths[] = { 1, 7, 512, 513, 1500, 2048 };

	(void)state;
	for (size_t i = 0; i < COUNT_OF(lengths); i++) {
		struct fixture *f = fixture_make(THP_ALWAYS, MANAGED);
		uint64_t got = 0, page, first[2048];

		for (unsigned n = 0; n < MANAGED; n++)
			assert_int_not_equal(claim(f, 1), UINT64_MAX);
		for (page = 0; page < MANAGED; page += 2)
			give(f, page);
		while ((page = claim(f, lengths[i])) != UINT64_MAX)
			first[got++] = page;
		assert_int_equal(got, MANAGED / 2 / lengths[i]);
		verify(f);
		assert_true(backed(f) <= MANAGED);
		while (got--)
			give(f, first[got]);
		for (page = 1; page < MANAGED; page += 2)
			give(f, page);
		/* After everything is freed, all of it in one piece. */
		page = claim(f, MANAGED);
		assert_int_not_equal(page, UINT64_MAX);
		give(f, page);
		fixture_end(f);
	}
	reached_end();
}

/* While the kernel refuses, requests that need holes fail, others do not, and
 * the next one asks it again. */
static void test_thp_refused_demotion_loses_nothing(void **state)
{
	struct fixture *f = fixture_make(THP_ALWAYS, 2 * BLOCK);
	uint64_t page[2], a;

	(void)state;
	if (is_always(f)) {
		page[0] = claim(f, 100);
		page[1] = claim(f, 500);
		fault_arm(FAULT_HUGE, FAULT_ALWAYS);
		assert_int_equal(claim(f, 424), UINT64_MAX);
		verify(f);
		assert_int_equal(f->zone.filler_pages, 0);
		a = claim(f, 412);	/* beside the first */
		assert_int_not_equal(a, UINT64_MAX);
		give(f, a);
		fault_arm(FAULT_HUGE, 0);
		a = claim(f, 424);
		assert_int_not_equal(a, UINT64_MAX);
		assert_int_equal(load_relaxed(&f->zone.thp), ZONE_THP_NEVER);
		give(f, a);
		give(f, page[0]);
		give(f, page[1]);
	}
	fixture_end(f);
	reached_end();
}

/* auto */

static void test_thp_auto_marks_whole_blocks_of_long_runs(void **state)
{
	struct fixture *f = fixture_make(THP_AUTO, MANAGED);
	uint64_t a, b;

	(void)state;
	a = claim(f, THP_MIN_PAGES - 1);
	assert_int_equal(huge_ranges(f), 0);
	b = claim(f, THP_MIN_PAGES + 100);
	assert_int_equal(huge_ranges(f), 1);
	assert_true(f->span.blocks[b / BLOCK].huge);
	assert_true(f->span.blocks[b / BLOCK + 1].huge);
	assert_false(f->span.blocks[b / BLOCK + 2].huge);
	assert_int_equal(backed(f), 2 * THP_MIN_PAGES + 99);
	verify(f);
	give(f, b);
	assert_int_equal(huge_ranges(f), 0);
	give(f, a);
	store_relaxed(&thp_system, THP_SYSTEM_OTHER);
	a = claim(f, THP_MIN_PAGES);
	assert_int_equal(huge_ranges(f), 0);
	give(f, a);
	fixture_end(f);
	reached_end();
}

static void resize(struct fixture *f, uint64_t page, uint64_t nr_pages)
{
	assert_true(page_resize(&f->reg, page,
				load_relaxed(&f->span.map[page]), nr_pages,
				0));
	verify(f);
}

static void test_thp_auto_follows_a_run_that_changes(void **state)
{
	struct fixture *f = fixture_make(THP_AUTO, MANAGED);
	uint64_t a, b;

	(void)state;
	give(f, claim(f, MANAGED));	/* blocks to grow into */
	a = claim(f, 3 * BLOCK + 5);
	resize(f, a, 6 * BLOCK);
	assert_true(f->span.blocks[a / BLOCK + 5].huge);
	resize(f, a, 2 * BLOCK + 1);
	assert_true(f->span.blocks[a / BLOCK + 1].huge);
	assert_false(f->span.blocks[a / BLOCK + 2].huge);
	/* A short rest keeps nothing. */
	resize(f, a, BLOCK + 1);
	assert_int_equal(huge_ranges(f), 0);
	resize(f, a, 4 * BLOCK);
	assert_int_equal(huge_ranges(f), 1);
	b = span_page_of(&f->span, page_move(&f->reg, a,
					     load_relaxed(&f->span.map[a]),
					     5 * BLOCK, 0));
	assert_int_not_equal(a, b);
	assert_true(load_relaxed(&f->span.map[b]) & MAP_MOVED);
	assert_int_equal(huge_ranges(f), 0);
	verify(f);
	give(f, b);
	fixture_end(f);
	reached_end();
}

/* More rows than the budget has: the rest goes without. */
static void test_thp_auto_keeps_to_its_budget(void **state)
{
	struct fixture *f = fixture_make(THP_AUTO, MANAGED);
	uint64_t a;

	(void)state;
	store_relaxed(&f->zone.nr_huge_ranges, THP_MAX_RANGES);
	a = claim(f, THP_MIN_PAGES);
	assert_int_equal(huge_ranges(f), THP_MAX_RANGES);
	store_relaxed(&f->zone.nr_huge_ranges, 0);
	assert_false(f->span.blocks[a / BLOCK].huge);
	give(f, a);
	fixture_end(f);
	reached_end();
}

static void test_thp_refused_advice_is_none(void **state)
{
	struct fixture *f = fixture_make(THP_AUTO, MANAGED);
	uint64_t a;

	(void)state;
	fault_arm(FAULT_HUGE, 1);
	a = claim(f, THP_MIN_PAGES);
	assert_int_equal(load_relaxed(&fault_countdown[FAULT_HUGE]), 0);
	assert_int_equal(huge_ranges(f), 0);
	verify(f);
	give(f, a);
	assert_false(f->zone.may_demote);
	fixture_end(f);
	reached_end();
}

/*
 * The kernel does not take the advice back: the blocks count whole from then
 * on, for runs of any length, and when memory gets short it is asked again.
 */
static void test_thp_refused_end_of_advice_counts_whole(void **state)
{
	struct fixture *f = fixture_make(THP_AUTO, MANAGED);
	uint64_t a = claim(f, 4 * BLOCK), b, c;

	(void)state;
	fault_arm(FAULT_HUGE, FAULT_ALWAYS);
	assert_null(page_move(&f->reg, a, load_relaxed(&f->span.map[a]),
			      5 * BLOCK, 0));
	verify(f);
	give(f, a);
	assert_int_equal(huge_ranges(f), 1);
	verify(f);
	assert_int_equal(purge(f, MANAGED), 4 * BLOCK);
	b = claim(f, 1);
	assert_int_equal(b / BLOCK, a / BLOCK);
	assert_int_equal(backed(f), BLOCK);
	verify(f);
	/* 4095 pages are free, but 511 of them are beside that one. */
	assert_int_equal(claim(f, 7 * BLOCK + 1), UINT64_MAX);
	c = claim(f, 7 * BLOCK);
	assert_int_not_equal(c, UINT64_MAX);
	give(f, c);
	fault_arm(FAULT_HUGE, 0);
	c = claim(f, MANAGED - 1);
	assert_int_not_equal(c, UINT64_MAX);
	assert_int_equal(load_relaxed(&f->zone.thp), ZONE_THP_NEVER);
	verify(f);
	give(f, b);
	give(f, c);
	fixture_end(f);
	reached_end();
}

/* The checks themselves */

static void test_thp_verify_names_what_is_broken(void **state)
{
	struct fixture *f = fixture_make(THP_AUTO, MANAGED);
	struct zone *z = &f->zone;
	uint64_t a = claim(f, THP_MIN_PAGES), b = claim(f, 1);
	struct pageblock *partly = &f->span.blocks[b / BLOCK];

	(void)state;
	lock_acquire(&z->lock);
	z->filler_pages++;
	assert_int_equal(zone_verify(z), 1);
	z->filler_pages--;
	partly->huge = 1;
	assert_int_equal(zone_verify(z), 10);
	partly->huge = 0;
	f->span.blocks[a / BLOCK].huge = 0;
	f->span.blocks[a / BLOCK + 1].huge = 0;
	assert_int_equal(zone_verify(z), 11);
	f->span.blocks[a / BLOCK].huge = 1;
	f->span.blocks[a / BLOCK + 1].huge = 1;
	lock_release(&z->lock);
	give(f, a);
	give(f, b);
	fixture_end(f);
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_thp_always_one_page_counts_as_a_block),
		TEST(test_thp_always_long_run_counts_its_last_block),
		TEST(test_thp_always_block_in_the_making_is_held),
		TEST(test_thp_filler_is_lost_in_a_child),
		TEST(test_thp_always_demotion_gives_room_for_filler_back),
		TEST(test_thp_always_holes_are_memory),
		TEST(test_thp_refused_demotion_loses_nothing),
		TEST(test_thp_auto_marks_whole_blocks_of_long_runs),
		TEST(test_thp_auto_follows_a_run_that_changes),
		TEST(test_thp_auto_keeps_to_its_budget),
		TEST(test_thp_refused_advice_is_none),
		TEST(test_thp_refused_end_of_advice_counts_whole),
		TEST(test_thp_verify_names_what_is_broken),
	};

	return cmocka_run_group_tests_name("thp", tests, NULL, NULL);
}
