/* SPDX-License-Identifier: MIT */
/*
 * Watermarks by their formulas, and how deep each kind of request may go: a
 * zone is filled until nothing more is granted, and what is left is the floor,
 * exactly.
 */
#include "../api/testing.h"

#include "page_alloc.h"
#include "pool.h"

#define LIMIT_BYTES	(16ull << 20)
#define MANAGED		4096u

struct fixture {
	struct span	span;
	struct zone	zone;
};

static struct fixture *fixture_make(uint64_t managed_pages)
{
	struct fixture *f = NULL;

	assert_int_equal(posix_memalign((void **)&f, 64, sizeof(*f)), 0);
	memset(f, 0, sizeof(*f));
	assert_int_equal(span_init(&f->span, LIMIT_BYTES), 0);
	zone_init(&f->zone, &f->span, managed_pages);
	assert_int_equal(span_commit_blocks(&f->span, &f->zone.range, 64), 0);
	f->zone.tables_blocks = f->span.nr_blocks;
	return f;
}

static void fixture_end(struct fixture *f)
{
	span_exit(&f->span);
	free(f);
}

static uint64_t free_pages(struct fixture *f)
{
	return zone_free_pages(&f->zone);
}

/* 0 or an enum zone_refusal; what is claimed stays so. */
static int claim(struct fixture *f, uint64_t nr_pages, uint64_t floor_pages)
{
	struct zone_request req = {
		.nr_pages = nr_pages,
		.align_pages = 1,
		.floor_pages = floor_pages,
	};
	struct zone_run run;
	uint32_t wanted;
	int err;

	lock_acquire(&f->zone.lock);
	err = zone_claim(&f->zone, &req, &run, &wanted);
	if (!err)
		assert_true(zone_back(&f->zone, &run));
	assert_int_equal(zone_verify(&f->zone), 0);
	lock_release(&f->zone.lock);
	return err;
}

static void test_watermarks_follow_the_table(void **state)
{
	static const struct {
		uint64_t mib, min_kib, min, gap, low, high;
	} row[] = {
		{ 4, 256, 64, 16, 80, 96 },
		{ 16, 512, 128, 32, 160, 192 },
		{ 64, 1024, 256, 64, 320, 384 },
		{ 128, 1448, 362, 90, 452, 542 },
		{ 512, 2896, 724, 181, 905, 1086 },
		{ 1024, 4096, 1024, 262, 1286, 1548 },
		{ 4096, 8192, 2048, 1048, 3096, 4144 },
		{ 16384, 16384, 4096, 4194, 8290, 12484 },
		{ 1048576, 131072, 32768, 268435, 301203, 569638 },
	};
	struct fixture *f = fixture_make(MANAGED);
	struct zone *z = &f->zone;

	(void)state;
	for (size_t i = 0; i < COUNT_OF(row); i++) {
		store_relaxed(&z->managed_pages, row[i].mib << 8);
		zone_set_watermarks(z, 0, ZONE_DEFAULT_SCALE);
		assert_int_equal(row[i].min, row[i].min_kib / 4);
		assert_int_equal(load_relaxed(&z->min_pages), row[i].min);
		assert_int_equal(load_relaxed(&z->low_pages), row[i].low);
		assert_int_equal(load_relaxed(&z->high_pages), row[i].high);
		assert_int_equal(row[i].low - row[i].min, row[i].gap);
		assert_int_equal(row[i].high - row[i].low, row[i].gap);
	}
	/* At least 128 KiB, and at most 256 MiB, which 4 TiB have. */
	store_relaxed(&z->managed_pages, 1ull << 8);
	zone_set_watermarks(z, 0, ZONE_DEFAULT_SCALE);
	assert_int_equal(load_relaxed(&z->min_pages), 32);
	for (uint64_t tib = 4; tib <= 16; tib *= 2) {
		store_relaxed(&z->managed_pages, tib << 28);
		zone_set_watermarks(z, 0, ZONE_DEFAULT_SCALE);
		assert_int_equal(load_relaxed(&z->min_pages), 65536);
	}
	fixture_end(f);
	reached_end();
}

/* Marks in order, and the same distance apart, wherever the zone has room. */
static void test_watermarks_are_in_order_for_any_zone(void **state)
{
	struct fixture *f = fixture_make(MANAGED);
	struct zone *z = &f->zone;
	struct rng r = rng_make(1);
	size_t apart = 0;

	(void)state;
	for (size_t i = 0; i < 20000; i++) {
		uint64_t managed = 1 + rng_below(&r, 1ull << (1 +
							rng_below(&r, 32)));
		uint64_t min, low, high;

		store_relaxed(&z->managed_pages, managed);
		zone_set_watermarks(z, rng_below(&r, 2) ?
				    rng_below(&r, managed << 12) : 0,
				    1 + (unsigned)rng_below(&r, 3000));
		min = load_relaxed(&z->min_pages);
		low = load_relaxed(&z->low_pages);
		high = load_relaxed(&z->high_pages);
		assert_true(min <= low && low <= high && high <= managed);
		assert_true(min <= managed / 2);
		if (high < managed) {
			assert_int_equal(high - low, low - min);
			apart++;
		}
	}
	assert_true(apart > 5000);
	fixture_end(f);
	reached_end();
}

static void test_watermarks_can_be_set(void **state)
{
	struct fixture *f = fixture_make(MANAGED);
	struct zone *z = &f->zone;

	(void)state;
	zone_set_watermarks(z, 400 << 12, 10);
	assert_int_equal(load_relaxed(&z->min_pages), 400);
	assert_int_equal(load_relaxed(&z->low_pages), 500);
	zone_set_watermarks(z, (400 << 12) + 1, 3000);
	assert_int_equal(load_relaxed(&z->min_pages), 401);
	assert_int_equal(load_relaxed(&z->low_pages), 401 + 1228);
	assert_int_equal(load_relaxed(&z->high_pages), 401 + 2 * 1228);
	/* Half of the zone at the most, and no mark above it. */
	zone_set_watermarks(z, 1ull << 40, 3000);
	assert_int_equal(load_relaxed(&z->min_pages), MANAGED / 2);
	assert_int_equal(load_relaxed(&z->high_pages), MANAGED);
	fixture_end(f);
	reached_end();
}

/* Each kind of request, and what it must leave of min */

static const struct kind {
	const char	*name;
	unsigned	flags;
	uint64_t	floor[3];	/* for min 100, 33, 4096 */
} kinds[] = {
	{ "ordinary", 0, { 100, 33, 4096 } },
	{ "NOWAIT", PP_NOWAIT, { 100, 33, 4096 } },
	{ "HIGH", PP_HIGH, { 50, 17, 2048 } },
	{ "ATOMIC", PP_ATOMIC, { 38, 13, 1536 } },
	{ "HIGH and NOWAIT", PP_HIGH | PP_NOWAIT, { 38, 13, 1536 } },
	{ "MEMALLOC", PP_MEMALLOC, { 0, 0, 0 } },
	{ "MEMALLOC and ATOMIC", PP_MEMALLOC | PP_ATOMIC, { 0, 0, 0 } },
	{ "NOMEMALLOC", PP_NOMEMALLOC, { 100, 33, 4096 } },
	{ "NOMEMALLOC and ATOMIC", PP_NOMEMALLOC | PP_ATOMIC,
	  { 100, 33, 4096 } },
	{ "NOMEMALLOC and MEMALLOC", PP_NOMEMALLOC | PP_MEMALLOC,
	  { 100, 33, 4096 } },
	{ "NORETRY", PP_NORETRY, { 100, 33, 4096 } },
};

static const uint64_t kinds_min[] = { 100, 33, 4096 };

static void test_watermarks_floors_are_the_tables(void **state)
{
	struct fixture *f = fixture_make(MANAGED);

	(void)state;
	for (size_t i = 0; i < COUNT_OF(kinds); i++)
		for (size_t k = 0; k < COUNT_OF(kinds_min); k++) {
			store_relaxed(&f->zone.min_pages, kinds_min[k]);
			assert_int_equal(page_floor_pages(&f->zone,
							  kinds[i].flags),
					 kinds[i].floor[k]);
		}
	fixture_end(f);
	reached_end();
}

/* Page by page, until each kind is refused at its floor and not before. */
static void test_watermarks_each_kind_goes_down_to_its_floor(void **state)
{
	(void)state;
	for (size_t k = 0; k < 2; k++) {
		struct fixture *f = fixture_make(MANAGED);
		struct zone *z = &f->zone;

		zone_set_watermarks(z, kinds_min[k] << 12, 10);
		assert_int_equal(load_relaxed(&z->min_pages), kinds_min[k]);
		/* In the order of the table each goes as deep or deeper. */
		for (size_t i = 0; i <= 5; i++) {
			uint64_t floor = page_floor_pages(z, kinds[i].flags);

			while (!claim(f, 1, floor))
				assert_true(free_pages(f) >= floor);
			assert_int_equal(free_pages(f), kinds[i].floor[k]);
		}
		assert_int_equal(load_relaxed(&z->used_pages), MANAGED);
		fixture_end(f);
	}
	reached_end();
}

/*
 * Strict: with as many pages free as the mark says, or too few beyond it for
 * the request, nothing is granted.  The kernel's free - (n - 1) > mark.
 */
static void test_watermarks_are_compared_strictly(void **state)
{
	static const struct {
		uint64_t free, nr_pages;
		bool passes;
	} row[] = {
		{ 108, 8, true }, { 107, 8, false }, { 107, 7, true },
		{ 101, 1, true }, { 100, 1, false }, { 99, 1, false },
		{ 102, 2, true }, { 101, 2, false }, { 612, 512, true },
		{ 611, 512, false }, { 1100, 1000, true },
		{ 1099, 1000, false },
	};

	(void)state;
	for (size_t i = 0; i < COUNT_OF(row); i++) {
		struct fixture *f = fixture_make(MANAGED);

		assert_int_equal(claim(f, MANAGED - row[i].free, 0), 0);
		assert_int_equal(free_pages(f), row[i].free);
		assert_int_equal(row[i].passes, row[i].free >=
				 row[i].nr_pages - 1 &&
				 row[i].free - (row[i].nr_pages - 1) > 100);
		assert_int_equal(claim(f, row[i].nr_pages, 100),
				 row[i].passes ? 0 : ZONE_BELOW_FLOOR);
		assert_int_equal(free_pages(f), row[i].free -
				 (row[i].passes ? row[i].nr_pages : 0));
		fixture_end(f);
	}
	reached_end();
}

/* What depends on the marks follows when they change: thresholds and mark. */
static void test_watermarks_change_the_drift_mark(void **state)
{
	struct pp_pool *pool = pool_make_one_zone("16M");
	struct vmstat *vs = &pool->vmstat;

	(void)state;
	pp_free_pages(pool, pp_alloc_pages(pool, 1, 0));
	assert_int_equal(load_relaxed(&vs->drift_mark_pages), 0);
	assert_int_equal(load_relaxed(&vs->threshold), 2);
	/* A gap of one page, which one thread's 2 are more than. */
	assert_int_equal(pp_pool_set(pool, "watermark_scale", "1"), 0);
	assert_int_equal(pp_pool_set(pool, "min_free", "4K"), 0);
	assert_int_equal(load_relaxed(&pool->zones->min_pages), 1);
	assert_int_equal(load_relaxed(&vs->drift_mark_pages),
			 load_relaxed(&pool->zones->high_pages) + 2);
	pcp_set_pressure(&pool->registry, true);
	assert_int_equal(load_relaxed(&vs->threshold), 1);
	assert_int_equal(pp_pool_set(pool, "min_free", "0"), 0);
	assert_int_equal(load_relaxed(&vs->drift_mark_pages), 0);
	assert_int_equal(load_relaxed(&vs->threshold), 2);
	pcp_set_pressure(&pool->registry, false);
	pool_end(pool);
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_watermarks_follow_the_table),
		TEST(test_watermarks_are_in_order_for_any_zone),
		TEST(test_watermarks_can_be_set),
		TEST(test_watermarks_floors_are_the_tables),
		TEST(test_watermarks_each_kind_goes_down_to_its_floor),
		TEST(test_watermarks_are_compared_strictly),
		TEST(test_watermarks_change_the_drift_mark),
	};

	test_clear_environment();
	return cmocka_run_group_tests_name("watermark", tests, NULL, NULL);
}
