/* SPDX-License-Identifier: MIT */
/*
 * scene.h - how a scene of the sweep (sweep_test.c) begins: with a pool of its
 * own, or without one, if that is what failed.  It ends with owners_end().
 */
#ifndef PP_TESTS_FAULT_SCENE_H
#define PP_TESTS_FAULT_SCENE_H

#include "owners.h"

static inline struct pp_pool *make_pool(const char *limit, const char *nodes)
{
	struct pp_config *config = NULL;
	struct pp_pool *pool = NULL;
	int err = pp_config_create(&config);

	if (!err) {
		EXPECT(pp_config_set(config, "limit", limit) == 0);
		EXPECT(pp_config_set(config, "fake_nodes", nodes) == 0);
		err = pp_pool_create(config, &pool);
		pp_config_destroy(config);
	}
	EXPECT(err == 0 ? pool != NULL : err == -ENOMEM && !pool);
	return pool;
}

static inline bool begin(struct owners *o, const char *limit, const char *nodes)
{
	memset(o, 0, sizeof(*o));
	o->pool = make_pool(limit, nodes);
	return o->pool != NULL;
}

#endif
