/* SPDX-License-Identifier: MIT */
/*
 * testing_callback.h - a pool at its limit, for tests of the threads that call
 * back.
 *
 * Gates decide what is called when; one that nobody opens in time opens itself,
 * and so no test hangs in which a thread could not be made.
 */
#ifndef PP_TESTS_TESTING_CALLBACK_H
#define PP_TESTS_TESTING_CALLBACK_H

#include "testing.h"

#include <semaphore.h>

#include <pagepool/reclaim.h>

#define MAX_RUNS	5000
#define SPARE_PAGES	64
/* What a test waits at the most, in all; nobody is stuck, or late, in that. */
#define PATIENCE_S	40
#define ENDLESS		"400s"

struct runs {
	void	*run[MAX_RUNS];
	size_t	nr;
};

static struct {
	struct pp_pool	*pool;
	struct runs	ballast, spare;
	struct timespec	until;
} scene;

/* Gates */

/* False: it took too long. */
static inline bool gate_pass(sem_t *gate)
{
	int err;

	do
		err = sem_timedwait(gate, &scene.until);
	while (err && errno == EINTR);
	return !err;
}

/* For more: false, too, when the test has failed by now. */
static inline bool has_time(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec < scene.until.tv_sec &&
	       !atomic_load(&thread_failures);
}

static inline void pause_shortly(void)
{
	const struct timespec ms = { 0, 1000000 };

	nanosleep(&ms, NULL);
}

/* The scene */

static inline void fill(unsigned flags)
{
	struct runs *r = &scene.ballast;

	while ((r->run[r->nr] = pp_alloc_pages(scene.pool, 1, flags | PP_NOFS |
					       PP_NOWARN)))
		assert_in_range(++r->nr, 0, MAX_RUNS - 1);
}

static inline void drop(struct runs *r)
{
	pp_free_bulk(scene.pool, r->nr, r->run);
	r->nr = 0;
}

static inline void begin(void)
{
	alarm(120);
	memset(&scene, 0, sizeof(scene));
	scene.pool = pool_make_one_zone("16M");
	assert_int_equal(pp_pool_set(scene.pool, "oom_timeout", ENDLESS), 0);
	clock_gettime(CLOCK_REALTIME, &scene.until);
	scene.until.tv_sec += PATIENCE_S;
	while (scene.spare.nr < SPARE_PAGES) {
		scene.spare.run[scene.spare.nr] =
			pp_alloc_pages(scene.pool, 1, 0);
		assert_non_null(scene.spare.run[scene.spare.nr++]);
	}
}

static inline void end(void)
{
	drop(&scene.ballast);
	drop(&scene.spare);
	pool_end(scene.pool);
	alarm(0);
	assert_threads_ok();
}

/* By one thread at a time. */
static inline size_t free_spare(void)
{
	if (!scene.spare.nr)
		return PP_SHRINK_STOP;
	pp_free_pages(scene.pool, scene.spare.run[--scene.spare.nr]);
	return 1;
}

static inline struct pp_shrinker_id *add_shrinker(
	const struct pp_shrinker *like)
{
	struct pp_shrinker_id *id = NULL;
	struct pp_shrinker ops = *like;

	ops.struct_bytes = sizeof(ops);
	ops.batch = 1;
	thread_check(!pp_shrinker_register(scene.pool, &ops, &id));
	return id;
}

/* Always something, and scan() decides. */
static inline size_t count_many(void *arg, struct pp_shrink *shrink)
{
	(void)arg;
	(void)shrink;
	return 1000;
}

#endif
