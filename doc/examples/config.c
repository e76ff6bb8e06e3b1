/* SPDX-License-Identifier: MIT */
/* Settings: the defaults, the environment, and one of our own. */
#include <pagepool.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
	const char *limit = argc > 1 ? argv[1] : "64M";
	struct pp_config *config;
	struct pp_pool *pool;
	int err;

	err = pp_config_create(&config);	/* reads PAGEPOOL_* too */
	if (err)
		return 1;
	err = pp_config_set(config, "limit", limit);
	if (err) {
		fprintf(stderr, "limit %s: %s\n", limit, strerror(-err));
		pp_config_destroy(config);
		return 1;
	}
	err = pp_pool_create(config, &pool);
	pp_config_destroy(config);		/* the pool has a copy */
	if (err)
		return 1;

	/* A live setting: a larger reserve from now on. */
	err = pp_pool_set(pool, "min_free", "2M");
	if (err)
		fprintf(stderr, "min_free: %s\n", strerror(-err));
	return pp_pool_destroy(pool) ? 1 : 0;
}
