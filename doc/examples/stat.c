/* SPDX-License-Identifier: MIT */
/* What a pool has: one number, all of them, and all of them as text. */
#include <inttypes.h>
#include <pagepool/stat.h>
#include <stdio.h>
#include <stdlib.h>

static int print_report(struct pp_pool *pool)
{
	char text[16384];
	int len = pp_report(pool, PP_FORMAT_OPENMETRICS, text, sizeof(text));

	if (len < 0 || (size_t)len >= sizeof(text))
		return 1;
	fputs(text, stdout);
	return 0;
}

int main(void)
{
	struct pp_pool *pool = pp_pool_default();
	struct pp_stats s = { .struct_bytes = sizeof(s) };
	void *run;

	if (!pool || !(run = pp_alloc_pages(pool, 100, 0)))
		return 1;
	printf("free %" PRId64 " pages, off by at most %" PRId64 "\n",
	       pp_stat_read(pool, PP_STAT_FREE_PAGES),
	       pp_stat_bound(pool, PP_STAT_FREE_PAGES));

	if (pp_stat_snapshot(pool, &s))
		return 1;
	printf("used %" PRId64 ", cached %" PRId64 ", peak %" PRId64 "\n",
	       s.used_pages, s.cached_pages, s.peak_pages);
	if (s.free_pages + s.cached_pages + s.used_pages + s.isolated_pages +
	    s.reserved_pages != s.managed_pages)
		return 1;

	pp_free_pages(pool, run);
	return print_report(pool) || pp_pool_check(pool);
}
