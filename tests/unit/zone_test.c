/* SPDX-License-Identifier: MIT */
/*
 * A zone over a real span with a small limit, against an ownership model: an
 * array says for each page of the span which run holds it, and the memory of
 * each page in use says the same.  So a claim that hands out what another run
 * holds is found, even if all sums stay right, and so is a purge that hits
 * memory in use.  What is resident is looked up page by page: it must be backed
 * in the books.
 *
 * Built a second and a third time with ZONE_TEST_THP, the same with huge pages,
 * and with what khugepaged might do at any time.
 */
#include "../api/testing.h"

#include <sys/mman.h>

#include "backing.h"
#include "os/os.h"
#include "page_alloc.h"
#include "thp.h"

#ifndef ZONE_TEST_THP
#define ZONE_TEST_THP	THP_NEVER
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif
#define LIMIT_BYTES	(16ull << 20)
#define MANAGED		4096u
#define MAX_RUNS	3000
#define MAX_LENGTH	2000

struct held {
	uint64_t	page;
	uint32_t	nr_pages;	/* 0: none */
};

struct fixture {
	struct span		span;
	struct zone		zone;
	struct vmstat		vmstat;
	struct pcp_registry	reg;
	uint32_t		*holder;	/* page -> 1 + index in run */
	struct held		run[MAX_RUNS];
	unsigned		nr_runs;
	uint64_t		used_pages;
	unsigned		refused, moved, extended, shrunk, claimed;
	unsigned		collapsed, huge;
};

static struct fixture *fixture_make(void)
{
	struct fixture *f = NULL;

	assert_int_equal(posix_memalign((void **)&f, 64, sizeof(*f)), 0);
	memset(f, 0, sizeof(*f));
	assert_int_equal(span_init(&f->span, LIMIT_BYTES), 0);
	zone_init(&f->zone, &f->span, MANAGED);
	f->zone.tables_blocks = f->span.nr_blocks;	/* all paid for */
	store_relaxed(&thp_system, THP_SYSTEM_ALWAYS);
	thp_start(&f->zone, ZONE_TEST_THP);
	pcp_registry_init(&f->reg, &f->zone, &f->vmstat);
	/* Mostly untouched: 64 MiB that are never there. */
	f->holder = mmap(NULL, f->span.nr_pages * sizeof(uint32_t),
			 PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_ptr_not_equal(f->holder, MAP_FAILED);
	return f;
}

static void fixture_end(struct fixture *f)
{
	munmap(f->holder, f->span.nr_pages * sizeof(uint32_t));
	span_exit(&f->span);
	free(f);
}

static uint64_t *memory_of(struct fixture *f, uint64_t page)
{
	return span_page_address(&f->span, page);
}

static uint64_t stamp(uint32_t id, uint64_t offset)
{
	return (uint64_t)id << 32 | offset;
}

/* Pages from @from of the run on are its own from now on. */
static void model_take(struct fixture *f, uint32_t id, uint32_t from,
		       bool must_be_zero)
{
	const struct held *h = &f->run[id - 1];

	for (uint32_t i = from; i < h->nr_pages; i++) {
		assert_int_equal(f->holder[h->page + i], 0);
		f->holder[h->page + i] = id;
		if (must_be_zero)
			assert_int_equal(memory_of(f, h->page + i)[511], 0);
		memory_of(f, h->page + i)[0] = stamp(id, i);
		memory_of(f, h->page + i)[511] = stamp(id, i);
	}
	f->used_pages += h->nr_pages - from;
}

static void model_give(struct fixture *f, uint32_t id, uint32_t from)
{
	const struct held *h = &f->run[id - 1];

	for (uint32_t i = from; i < h->nr_pages; i++) {
		assert_int_equal(f->holder[h->page + i], id);
		assert_true(memory_of(f, h->page + i)[0] == stamp(id, i));
		assert_true(memory_of(f, h->page + i)[511] == stamp(id, i));
		f->holder[h->page + i] = 0;
	}
	f->used_pages -= h->nr_pages - from;
}

static uint32_t word_of(struct fixture *f, uint32_t id)
{
	return load_relaxed(&f->span.map[f->run[id - 1].page]);
}

/* Physical memory is only where the books have it. */
static void check_residency(struct fixture *f)
{
	unsigned char resident[PAGEBLOCK_PAGES];

	for (uint32_t nr = 0; nr < f->zone.frontier_block; nr++) {
		const struct pageblock *b = &f->span.blocks[nr];

		assert_int_equal(mincore(memory_of(f, (uint64_t)nr <<
						   PAGEBLOCK_SHIFT),
					 PAGEBLOCK_BYTES, resident), 0);
		for (unsigned i = 0; i < PAGEBLOCK_PAGES; i++)
			if (resident[i] & 1)
				assert_int_equal(bits_count_range(b->backed, i,
								  1), 1);
	}
}

/* khugepaged makes huge pages of what is there, where it may. */
static void collapse_some(struct fixture *f, struct rng *r)
{
	for (uint32_t nr = 0; nr < f->zone.frontier_block; nr++)
		if (f->span.blocks[nr].nr_used && rng_below(r, 3) == 0)
			f->collapsed += !madvise(memory_of(f, (uint64_t)nr <<
							   PAGEBLOCK_SHIFT),
						 PAGEBLOCK_BYTES,
						 MADV_COLLAPSE);
}

/* Every bit of every block, and every word of the map, against the model. */
static void check_against_model(struct fixture *f)
{
	uint64_t end = (uint64_t)f->zone.frontier_block << PAGEBLOCK_SHIFT;

	lock_acquire(&f->zone.lock);
	assert_int_equal(zone_verify(&f->zone), 0);
	lock_release(&f->zone.lock);
	check_residency(f);
	for (uint64_t page = 0; page < end; page++) {
		const struct pageblock *b =
			&f->span.blocks[page >> PAGEBLOCK_SHIFT];
		unsigned pos = (unsigned)(page & (PAGEBLOCK_PAGES - 1));
		uint32_t id = f->holder[page], word;

		assert_int_equal(bits_count_range(b->used, pos, 1), id != 0);
		if (id)
			assert_int_equal(bits_count_range(b->backed, pos, 1),
					 1);
		word = load_relaxed(&f->span.map[page]);
		if (id && f->run[id - 1].page == page)
			assert_int_equal(word & ~MAP_MOVED,
					 run_word(f->run[id - 1].nr_pages));
		else
			assert_int_equal(word, 0);
	}
	assert_int_equal(load_relaxed(&f->zone.used_pages), f->used_pages);
	assert_true(f->zone.backed_pages <= MANAGED);
	assert_int_equal(f->zone.isolated_pages, 0);
	assert_int_equal(f->zone.making_pages, 0);
	assert_int_equal(f->zone.promised_pages, 0);
	assert_int_equal(f->zone.moving_pages, 0);
	assert_int_equal(f->zone.filler_pages, 0);
	assert_int_equal(f->zone.nr_advising, 0);
}

static uint32_t free_id(struct fixture *f)
{
	uint32_t id = 1;

	while (id <= MAX_RUNS && f->run[id - 1].nr_pages)
		id++;
	return id;
}

/* P2: a request succeeds exactly if there are as many pages above its floor. */
static uint32_t do_claim(struct fixture *f, uint64_t n, uint64_t align,
			 uint64_t floor)
{
	struct zone_request req = {
		.nr_pages = n, .align_pages = align, .floor_pages = floor,
	};
	bool fits = MANAGED - f->used_pages >= floor + n;
	uint32_t id = free_id(f);
	enum failure why = FAILURE_OS;
	struct zone_run run;

	if (id > MAX_RUNS)
		return 0;
	if (!backing_claim(&f->zone, &req, 1, &run, &why)) {
		assert_false(fits);
		assert_int_equal(why, n + floor > MANAGED ? FAILURE_TOO_BIG :
							    FAILURE_LIMIT);
		f->refused++;
		return 0;
	}
	assert_true(fits);
	assert_int_equal(run.nr_pages, n);
	assert_int_equal((uintptr_t)memory_of(f, run.page) % (align * 4096),
			 0);
	f->run[id - 1].page = run.page;
	f->run[id - 1].nr_pages = (uint32_t)n;
	thp_advise(&f->zone, run.page, n);
	f->huge += load_relaxed(&f->zone.nr_huge_ranges) != 0;
	model_take(f, id, 0, run.fresh_pages == n);
	f->nr_runs++;
	f->claimed++;
	return id;
}

/* Gives the memory back first, so that the pages come back unbacked. */
static void release_purged(struct fixture *f, const struct held *h)
{
	thp_retire(&f->zone, h->page, h->nr_pages);
	assert_int_equal(os_purge(memory_of(f, h->page),
				  pages_to_bytes(h->nr_pages)), 0);
	lock_acquire(&f->zone.lock);
	zone_release(&f->zone, h->page, h->nr_pages, false);
	lock_release(&f->zone.lock);
}

static void do_release(struct fixture *f, uint32_t id, bool purge)
{
	struct held *h = &f->run[id - 1];

	model_give(f, id, 0);
	if (word_of(f, id) & MAP_MOVED)
		page_free(&f->reg, NULL, h->page, word_of(f, id));
	else if (purge)
		release_purged(f, h);
	else
		page_free(&f->reg, NULL, h->page, word_of(f, id));
	h->nr_pages = 0;
	f->nr_runs--;
}

/* Another length in place, or nothing has changed. */
static void do_resize(struct fixture *f, uint32_t id, uint32_t n,
		      uint64_t floor)
{
	struct held *h = &f->run[id - 1];
	uint32_t want = (uint32_t)run_round_pages(n), have = h->nr_pages;
	bool shrinks;

	/* An odd length is as good as the next even one. */
	if (n <= have && want > have)
		want = have;
	shrinks = want < have;
	if (shrinks)	/* the model gives before the zone takes */
		model_give(f, id, want);
	if (!page_resize(&f->reg, h->page, word_of(f, id), n, floor)) {
		assert_true(want > have);
		assert_int_equal(run_word_pages(word_of(f, id)), have);
		return;
	}
	assert_int_equal(run_word_pages(word_of(f, id)), want);
	h->nr_pages = want;
	if (want > have) {
		assert_true(f->used_pages + want - have + floor <= MANAGED);
		model_take(f, id, have, false);
		f->extended++;
	}
	f->shrunk += shrinks;
}

static void do_move(struct fixture *f, uint32_t id, uint32_t n)
{
	struct held *h = &f->run[id - 1];
	uint32_t have = h->nr_pages;
	uint64_t old = h->page;
	void *to = page_move(&f->reg, old, word_of(f, id), n, 0);

	if (!to)
		return;
	assert_true(have > PAGEBLOCK_PAGES && n > have);
	for (uint32_t i = 0; i < have; i++) {
		assert_int_equal(f->holder[old + i], id);
		f->holder[old + i] = 0;
	}
	h->page = span_page_of(&f->span, to);
	assert_true(h->page != old);
	for (uint32_t i = 0; i < have; i++) {
		assert_int_equal(f->holder[h->page + i], 0);
		f->holder[h->page + i] = id;
		assert_true(memory_of(f, h->page + i)[0] == stamp(id, i));
	}
	h->nr_pages = n;
	model_take(f, id, have, false);
	f->moved++;
}

static uint64_t random_length(struct rng *r)
{
	switch (rng_below(r, 8)) {
	case 0:
		return 1 + rng_below(r, MAX_LENGTH);
	case 1:
		return 480 + rng_below(r, 64);
	case 2: case 3:
		return 1 + rng_below(r, 64);
	default:
		return 1 + rng_below(r, 8);
	}
}

static void random_step(struct fixture *f, struct rng *r, bool grow)
{
	static const uint64_t floors[] = { 0, 0, 0, 50, 128, 1000 };
	uint32_t id = 1 + (uint32_t)rng_below(r, MAX_RUNS);
	uint64_t align = rng_below(r, 6) ? 1 : 1ull << rng_below(r, 13);
	uint64_t floor = floors[rng_below(r, COUNT_OF(floors))];
	unsigned what = (unsigned)rng_below(r, 10);

	/* Search from a random place, so that long runs die young too. */
	while (f->nr_runs && !f->run[id - 1].nr_pages)
		id = id % MAX_RUNS + 1;
	if (!f->nr_runs || what < (grow ? 6 : 2))
		do_claim(f, random_length(r), align, floor);
	else if (what == 7)
		do_resize(f, id, (uint32_t)random_length(r), floor);
	else if (what == 8)
		do_move(f, id, f->run[id - 1].nr_pages +
			       (uint32_t)rng_below(r, 600));
	else
		do_release(f, id, rng_below(r, 8) == 0);
}

static void release_all(struct fixture *f)
{
	for (uint32_t id = 1; id <= MAX_RUNS; id++)
		if (f->run[id - 1].nr_pages)
			do_release(f, id, false);
	check_against_model(f);
	assert_int_equal(f->used_pages, 0);
}

static void random_batches(struct fixture *f, struct rng *r)
{
	for (unsigned batches = 0; batches < 60; batches++) {
		for (unsigned i = 0; i < 200; i++)
			random_step(f, r, batches / 4 % 2 == 0);
		collapse_some(f, r);
		check_against_model(f);
		if (batches % 20 == 19)
			release_all(f);
	}
}

static void test_zone_random_runs_match_the_owners(void **state)
{
	struct fixture *f = fixture_make();
	struct rng r = rng_make(1);

	(void)state;
	random_batches(f, &r);
	print_message("# %u collapsed, %u claims beside huge blocks, %sdemoted"
		      "\n", f->collapsed, f->huge,
		      f->zone.demote_end ? "" : "not ");
	if (ZONE_TEST_THP == THP_NEVER)
		assert_int_equal(f->collapsed + f->huge, 0);
	else
		assert_true(f->huge > 0);
	assert_true(f->claimed > 2000 && f->refused > 100);
	assert_true(f->extended > 5 && f->shrunk > 20 && f->moved > 5);
	release_all(f);
	assert_int_equal(f->zone.nr_moved_runs, 0);
	fixture_end(f);
	reached_end();
}

/* A zone is demoted once in its life: so many lives. */
static void test_zone_short_histories_match_the_owners(void **state)
{
	struct rng r = rng_make(2);
	unsigned collapsed = 0, demoted = 0;

	(void)state;
	for (unsigned life = 0; life < 20; life++) {
		struct fixture *f = fixture_make();

		for (unsigned batches = 0; batches < 15; batches++) {
			for (unsigned i = 0; i < 20; i++)
				random_step(f, &r, batches < 10);
			collapse_some(f, &r);
			check_against_model(f);
		}
		release_all(f);
		collapsed += f->collapsed;
		demoted += f->zone.demote_end != 0;
		fixture_end(f);
	}
	print_message("# %u collapsed, %u demoted\n", collapsed, demoted);
	if (ZONE_TEST_THP == THP_ALWAYS)
		assert_true(demoted > 0);
	else
		assert_int_equal(demoted, 0);
	reached_end();
}

static void test_zone_every_length_and_alignment_is_placed(void **state)
{
	struct fixture *f = fixture_make();

	(void)state;
	for (uint32_t n = 1; n <= MAX_LENGTH; n++) {
		uint32_t a = do_claim(f, n, 1, 0);
		uint32_t b = do_claim(f, n, 1ull << n % 14, 0);

		assert_true(a && b);
		do_release(f, a, false);
		do_release(f, b, n % 50 == 0);
	}
	check_against_model(f);
	assert_int_equal(f->claimed, 2 * MAX_LENGTH);
	fixture_end(f);
	reached_end();
}

/* P2 at its sharpest: no two free pages are neighbours. */
static void test_zone_holes_are_memory_for_any_length(void **state)
{
	struct fixture *f = fixture_make();
	uint32_t first;

	(void)state;
	for (unsigned i = 0; i < MAX_RUNS; i++)
		assert_int_equal(do_claim(f, 1, 1, 0), i + 1);
	for (uint32_t id = 1; id <= MAX_RUNS; id += 2)
		do_release(f, id, false);
	check_against_model(f);
	first = do_claim(f, MANAGED - f->used_pages, 1, 0);
	assert_int_not_equal(first, 0);
	assert_int_equal(f->used_pages, MANAGED);
	assert_int_equal(do_claim(f, 1, 1, 0), 0);
	check_against_model(f);
	release_all(f);
	fixture_end(f);
	reached_end();
}

/* The numbers of backing at the limit, step by step */

/* Fills the zone with single pages, and frees every second one: 2048 spare
 * pages, no two of them neighbours, and no room for fresh ones. */
static void fill_with_holes(struct fixture *f)
{
	struct zone_request req = { .nr_pages = 1, .align_pages = 1 };
	struct zone_run run;
	enum failure why;

	/* Nothing below has to ask for more. */
	assert_int_equal(span_commit_blocks(&f->span, &f->zone.range, 16), 0);
	for (unsigned i = 0; i < MANAGED; i++)
		assert_int_equal(backing_claim(&f->zone, &req, 1, &run, &why),
				 1);
	lock_acquire(&f->zone.lock);
	for (uint64_t page = 0; page < MANAGED; page += 2)
		zone_release(&f->zone, page, 1, true);
	lock_release(&f->zone.lock);
	assert_int_equal(f->zone.backed_pages, MANAGED);
	assert_int_equal(load_relaxed(&f->zone.used_pages), MANAGED / 2);
}

static void claim_fresh(struct fixture *f, struct zone_run *run)
{
	struct zone_request req = { .nr_pages = 100, .align_pages = 1 };
	uint32_t wanted;

	lock_acquire(&f->zone.lock);
	assert_int_equal(zone_claim(&f->zone, &req, run, &wanted), 0);
	assert_int_equal(run->fresh_pages, 100);
	assert_int_equal(f->zone.making_pages, 100);
	assert_false(zone_back(&f->zone, run));
	assert_int_equal(run->credit_pages, 0);
	assert_int_equal(zone_verify(&f->zone), 0);
}

static void test_zone_room_is_made_before_fresh_pages_are_backed(void **state)
{
	struct fixture *f = fixture_make();
	struct zone_purge purge;
	struct zone_run run;
	uint64_t made = 0;
	unsigned rounds = 0;

	(void)state;
	fill_with_holes(f);
	claim_fresh(f, &run);
	while (!zone_back(&f->zone, &run)) {
		assert_int_equal(run.credit_pages, made);
		/* Single pages: as many as a purge has ranges. */
		assert_int_equal(zone_make_room(&f->zone, &run, &purge),
				 ZONE_PURGE_RANGES);
		made += ZONE_PURGE_RANGES;
		if (made > 100)	/* room for the run is all that is kept */
			made = 100;
		assert_int_equal(run.credit_pages, made);
		assert_int_equal(f->zone.promised_pages, made);
		assert_int_equal(f->zone.isolated_pages, ZONE_PURGE_RANGES);
		assert_int_equal(f->zone.backed_pages, MANAGED -
				 (rounds + 1) * ZONE_PURGE_RANGES);
		assert_int_equal(zone_verify(&f->zone), 0);
		zone_putback(&f->zone, &purge, true);
		assert_int_equal(f->zone.isolated_pages, 0);
		rounds++;
		assert_int_equal(f->zone.purged_pages,
				 rounds * ZONE_PURGE_RANGES);
	}
	assert_int_equal(rounds, 4);	/* 100 pages at 32 a round */
	assert_int_equal(f->zone.promised_pages, 0);
	assert_int_equal(f->zone.making_pages, 0);
	assert_int_equal(f->zone.backed_pages, MANAGED - 128 + 100);
	assert_int_equal(zone_verify(&f->zone), 0);
	lock_release(&f->zone.lock);
	fixture_end(f);
	reached_end();
}

static void test_zone_unclaim_gives_all_promises_back(void **state)
{
	struct fixture *f = fixture_make();
	struct zone_purge purge;
	struct zone_run run;

	(void)state;
	fill_with_holes(f);
	claim_fresh(f, &run);
	assert_int_equal(zone_make_room(&f->zone, &run, &purge),
			 ZONE_PURGE_RANGES);
	/* The kernel did not take them: they are spare again, and the room
	 * that was promised stands against I4 until the claim is undone. */
	zone_unclaim(&f->zone, &run);
	zone_putback(&f->zone, &purge, false);
	assert_int_equal(f->zone.promised_pages, 0);
	assert_int_equal(f->zone.making_pages, 0);
	assert_int_equal(f->zone.isolated_pages, 0);
	assert_int_equal(f->zone.backed_pages, MANAGED);
	assert_int_equal(f->zone.purged_pages, 0);
	assert_int_equal(load_relaxed(&f->zone.used_pages), MANAGED / 2);
	assert_int_equal(load_relaxed(&f->span.map[run.page]), 0);
	assert_int_equal(zone_verify(&f->zone), 0);
	lock_release(&f->zone.lock);
	fixture_end(f);
	reached_end();
}

static void test_zone_charges_count_as_used_and_backed(void **state)
{
	struct fixture *f = fixture_make();

	(void)state;
	assert_true(backing_charge(&f->zone, 100, 0));
	assert_int_equal(load_relaxed(&f->zone.used_pages), 100);
	assert_int_equal(f->zone.charged_pages, 100);
	assert_int_equal(f->zone.backed_pages, 100);
	assert_false(backing_charge(&f->zone, MANAGED - 99, 0));
	assert_false(backing_charge(&f->zone, MANAGED - 200, 101));
	assert_true(backing_charge(&f->zone, MANAGED - 200, 100));
	lock_acquire(&f->zone.lock);
	assert_int_equal(zone_verify(&f->zone), 0);
	zone_uncharge(&f->zone, MANAGED - 100);
	assert_int_equal(zone_verify(&f->zone), 0);
	lock_release(&f->zone.lock);
	assert_int_equal(load_relaxed(&f->zone.used_pages), 0);
	assert_int_equal(f->zone.backed_pages, 0);
	fixture_end(f);
	reached_end();
}

static void test_zone_purge_gives_spare_pages_back(void **state)
{
	struct fixture *f = fixture_make();
	uint64_t done;

	(void)state;
	fill_with_holes(f);
	done = backing_purge(&f->zone, ZONE_SPARE_ALL, 1000);
	assert_true(done >= 1000 && done < MANAGED / 2);
	assert_int_equal(f->zone.purged_pages, done);
	assert_int_equal(f->zone.backed_pages, MANAGED - done);
	assert_int_equal(backing_purge(&f->zone, ZONE_SPARE_ALL, MANAGED),
			 MANAGED / 2 - done);
	assert_int_equal(f->zone.backed_pages, MANAGED / 2);
	assert_int_equal(backing_purge(&f->zone, ZONE_SPARE_ALL, 1), 0);
	lock_acquire(&f->zone.lock);
	assert_int_equal(zone_verify(&f->zone), 0);
	lock_release(&f->zone.lock);
	fixture_end(f);
	reached_end();
}

/* The checks themselves */

static void test_zone_verify_names_what_is_broken(void **state)
{
	struct fixture *f = fixture_make();
	struct zone *z = &f->zone;
	uint64_t min, low;

	(void)state;
	do_claim(f, 300, 1, 0);
	do_release(f, do_claim(f, 5, 1, 0), false);
#define EXPECT_BROKEN(number, change, undo) \
	do { \
		change; \
		assert_int_equal(zone_verify(z), number); \
		undo; \
		assert_int_equal(zone_verify(z), 0); \
	} while (0)
	EXPECT_BROKEN(1, z->isolated_pages++, z->isolated_pages--);
	EXPECT_BROKEN(2, z->backed_pages++, z->backed_pages--);
	EXPECT_BROKEN(3, store_relaxed(&z->managed_pages, 299),
		      store_relaxed(&z->managed_pages, MANAGED));
	EXPECT_BROKEN(4, store_relaxed(&z->managed_pages, 304),
		      store_relaxed(&z->managed_pages, MANAGED));
	EXPECT_BROKEN(5, z->promised_pages++, z->promised_pages--);
	EXPECT_BROKEN(6, blockmap_add(&z->empty_backed, 0),
		      blockmap_del(&z->empty_backed, 0));
	EXPECT_BROKEN(7, f->span.blocks[0].spare_list++,
		      f->span.blocks[0].spare_list--);
	EXPECT_BROKEN(9, z->withheld_pages = MANAGED - 299,
		      z->withheld_pages = 0);
	low = z->window.low_pages[z->window.now];
	EXPECT_BROKEN(12, z->window.low_pages[z->window.now] = 6,
		      z->window.low_pages[z->window.now] = low);
	min = load_relaxed(&z->min_pages);
	EXPECT_BROKEN(8, store_relaxed(&z->min_pages, MANAGED),
		      store_relaxed(&z->min_pages, min));
	EXPECT_BROKEN(104, f->span.blocks[0].spare_bound = 4,
		      f->span.blocks[0].spare_bound = 5);
	EXPECT_BROKEN(101, f->span.blocks[0].nr_used++,
		      f->span.blocks[0].nr_used--);
#undef EXPECT_BROKEN
	fixture_end(f);
	reached_end();
}

int main(void)
{
	const struct CMUnitTest model_tests[] = {
		TEST(test_zone_random_runs_match_the_owners),
		TEST(test_zone_short_histories_match_the_owners),
		TEST(test_zone_every_length_and_alignment_is_placed),
		TEST(test_zone_holes_are_memory_for_any_length),
	};
	const struct CMUnitTest tests[] = {
		TEST(test_zone_random_runs_match_the_owners),
		TEST(test_zone_short_histories_match_the_owners),
		TEST(test_zone_every_length_and_alignment_is_placed),
		TEST(test_zone_holes_are_memory_for_any_length),
		TEST(test_zone_room_is_made_before_fresh_pages_are_backed),
		TEST(test_zone_unclaim_gives_all_promises_back),
		TEST(test_zone_charges_count_as_used_and_backed),
		TEST(test_zone_purge_gives_spare_pages_back),
		TEST(test_zone_verify_names_what_is_broken),
	};

	/* The others know how much is backed when. */
	if (ZONE_TEST_THP != THP_NEVER)
		return cmocka_run_group_tests_name("zone", model_tests, NULL,
						   NULL);
	return cmocka_run_group_tests_name("zone", tests, NULL, NULL);
}
