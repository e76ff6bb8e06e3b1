// SPDX-License-Identifier: MIT
/*
 * Row 12: a program linked with libpagepool and preloaded has one pool: the
 * library's default pool is where malloc() takes from.
 */
#include "check.h"
#include <pagepool.h>
#include <pagepool/stat.h>

static uint64_t used_pages(void)
{
	struct pp_stats stats = { .struct_bytes = sizeof(stats) };

	CHECK(pp_stat_snapshot(pp_pool_default(), &stats) == 0);
	return stats.used_pages + stats.cached_pages;
}

static void malloc_shows_in_the_default_pool(void)
{
	uint64_t before, want = (32 << 20) / 4096;
	char *block;

	if (!on_pagepool())
		check_skip("malloc is libc's");
	REQUIRE(pp_pool_default() != NULL);
	before = used_pages();
	block = malloc(32 << 20);
	REQUIRE(block != NULL);
	memset(block, 1, 32 << 20);
	CHECK(used_pages() >= before + want);
	CHECK(used_pages() < before + want + want / 4);
	free(block);
	CHECK(used_pages() < before + want / 4 ||
	      used_pages() <= before + want + want / 4);
	CHECK(pp_pool_check(pp_pool_default()) == 0);
	check_end();
}

static void they_share_the_limit(void)
{
	size_t limit_pages = limit_bytes() / 4096;
	void *run, *head = NULL;

	if (!on_pagepool())
		check_skip("malloc is libc's");
	run = pp_alloc_pages(pp_pool_default(), limit_pages * 3 / 4, 0);
	REQUIRE(run != NULL);
	CHECK(malloc(limit_bytes() / 2) == NULL);
	CHECK(fill(&head, 65536) * 16 <= limit_pages / 4);
	drop(&head);
	pp_free_pages(pp_pool_default(), run);
	CHECK(fill(&head, 65536) * 16 >= limit_pages * 9 / 10);
	CHECK(pp_alloc_pages(pp_pool_default(), limit_pages / 4, 0) == NULL);
	drop(&head);
	check_end();
}

static void without_the_preload_too(void)
{
	struct pp_pool *pool = pp_pool_default();
	char *run;

	REQUIRE(pool != NULL);
	run = pp_alloc_pages(pool, 100, PP_ZERO);
	REQUIRE(run != NULL);
	CHECK(all_bytes(run, 0, 100 * 4096));
	CHECK(pp_run_pages(pool, run) >= 100);
	pp_free_pages(pool, run);
	free(malloc(1000));
	check_end();
}

static const struct check_case cases[] = {
	{ "malloc_shows_in_the_default_pool",
	  malloc_shows_in_the_default_pool },
	{ "they_share_the_limit", they_share_the_limit },
	{ "without_the_preload_too", without_the_preload_too },
};

CHECK_MAIN(cases)
