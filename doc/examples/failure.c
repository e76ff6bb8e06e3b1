/* SPDX-License-Identifier: MIT */
/* Why a request failed decides what the program does about it. */
#include <pagepool/stat.h>
#include <stdio.h>

#define MIB	(1024 * 1024 / PP_PAGE_SIZE)

static const char *advice(enum pp_failure why)
{
	switch (why) {
	case PP_FAILURE_TOO_BIG:
		return "refuse the request: it could never be met";
	case PP_FAILURE_CANNOT_WAIT:
	case PP_FAILURE_SCOPE:
		return "try again where waiting and callbacks are allowed";
	default:
		return "answer \"out of memory\", and go on";
	}
}

static void *get(struct pp_pool *pool, size_t nr_pages)
{
	void *run = pp_alloc_pages(pool, nr_pages, PP_NOWARN);

	if (!run)
		printf("%zu MiB: %s; %s\n", nr_pages / MIB,
		       pp_failure_name(pp_last_failure()),
		       advice(pp_last_failure()));
	return run;
}

int main(void)
{
	struct pp_config *config;
	struct pp_pool *pool;
	void *most;

	if (pp_config_create(&config))
		return 1;
	if (pp_config_set(config, "limit", "64M") ||
	    pp_pool_create(config, &pool))
		return 1;
	pp_config_destroy(config);

	most = get(pool, 40 * MIB);
	if (!most || get(pool, 40 * MIB) || get(pool, 4000 * MIB))
		return 1;
	printf("failures: %lld, %lld of them too big\n",
	       (long long)pp_stat_read(pool, PP_STAT_FAILURES),
	       (long long)pp_stat_read(pool, PP_STAT_FAILURES_TOO_BIG));
	pp_free_pages(pool, most);
	return pp_pool_destroy(pool) ? 1 : 0;
}
