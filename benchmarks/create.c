/* SPDX-License-Identifier: MIT */
/*
 * Does a pool with a large limit take longer to start?
 *
 * Pools with limits from 64M to 1T are created, used for one page, and
 * destroyed, in turn.  The limit is a number and the address space is only
 * reserved, so the time should not depend on it.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <getopt.h>
#include <pagepool.h>
#include <stdio.h>
#include <string.h>

enum { MAX_LAPS = 2000, WARM_UP_LAPS = 5 };

static const char *const limits[] = { "64M", "1G", "16G", "1T" };

enum { NR_LIMITS = sizeof(limits) / sizeof(*limits) };

static double create_us[NR_LIMITS][MAX_LAPS];
static double first_us[NR_LIMITS][MAX_LAPS];
static double destroy_us[NR_LIMITS][MAX_LAPS];
static double ratio[NR_LIMITS][MAX_LAPS];

static double us_between(uint64_t from_ns, uint64_t to_ns)
{
	return (double)(to_ns - from_ns) / 1000;
}

static void one_pool(size_t l, size_t lap)
{
	struct pp_config *config;
	struct pp_pool *pool;
	uint64_t start_ns, created_ns, used_ns;
	char *page;
	int error;

	if (pp_config_create(&config) ||
	    pp_config_set(config, "limit", limits[l]))
		die("create: the limit %s was refused", limits[l]);
	start_ns = now_ns();
	error = pp_pool_create(config, &pool);
	if (error)
		die("create: limit %s: %s", limits[l], strerror(-error));
	created_ns = now_ns();
	page = pp_alloc_pages(pool, 1, 0);
	if (!page)
		die("create: limit %s: no first page", limits[l]);
	page[0] = 1;
	pp_free_pages(pool, page);
	used_ns = now_ns();
	error = pp_pool_destroy(pool);
	if (error)
		die("create: destroy: %s", strerror(-error));
	destroy_us[l][lap] = us_between(used_ns, now_ns());
	create_us[l][lap] = us_between(start_ns, created_ns);
	first_us[l][lap] = us_between(created_ns, used_ns);
	ratio[l][lap] = create_us[l][lap] / create_us[0][lap];
	pp_config_destroy(config);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "laps", required_argument, NULL, 'l' },
		{ 0 },
	};
	size_t nr_laps = 200;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
		if (c != 'l' || !size_parse(optarg, &nr_laps) ||
		    nr_laps < 1 || nr_laps > MAX_LAPS)
			die("usage: create [--laps 1..%d]", MAX_LAPS);
	for (size_t lap = 0; lap < WARM_UP_LAPS; lap++)
		for (size_t l = 0; l < NR_LIMITS; l++)
			one_pool(l, 0);
	for (size_t lap = 0; lap < nr_laps; lap++)
		for (size_t l = 0; l < NR_LIMITS; l++)
			one_pool(l, lap);
	printf("%zu pools of each limit, medians\n%-8s%12s%12s%14s%14s\n",
	       nr_laps, "limit", "create us", "/ 64M", "first page us",
	       "destroy us");
	for (size_t l = 0; l < NR_LIMITS; l++)
		printf("%-8s%12.1f%12.3f%14.1f%14.1f\n", limits[l],
		       median(create_us[l], nr_laps), median(ratio[l], nr_laps),
		       median(first_us[l], nr_laps),
		       median(destroy_us[l], nr_laps));
	return 0;
}
