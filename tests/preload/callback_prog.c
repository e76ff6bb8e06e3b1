// SPDX-License-Identifier: MIT
/*
 * A program under the preload library that has shrinkers: its malloc waits for
 * none that is stuck, and the threads that call them are made with its malloc,
 * at its limit.  Linked with libpagepool, which is the preload library then.
 */
#include "check.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

#include <pagepool.h>
#include <pagepool/reclaim.h>

#define NR_STUCK	3	/* as many as there are threads at first */
#define NR_PAGES	1000
#define MAX_RUNS	20000
#define NR_REQUESTS	4
/* Of the pool's own small objects, which threads are made of. */
#define MAX_SMALL_BYTES	4096

static struct pp_pool *pool;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static sem_t never;
static _Atomic bool is_armed;

struct store {
	void		*run[MAX_RUNS];
	_Atomic size_t	nr;
};

static struct store ballast, good;

static void add(struct store *s, size_t most, unsigned flags)
{
	void *run;

	while (s->nr < most &&
	       (run = pp_alloc_pages(pool, 1, flags | PP_NOWARN)))
		s->run[s->nr++] = run;
}

static size_t count_good(void *arg, struct pp_shrink *shrink)
{
	(void)arg;
	(void)shrink;
	return is_armed && good.nr ? good.nr : PP_SHRINK_EMPTY;
}

static size_t scan_good(void *arg, struct pp_shrink *shrink)
{
	size_t n = 0;

	(void)arg;
	for (; n < shrink->nr_to_scan && good.nr; n++)
		pp_free_pages(pool, good.run[--good.nr]);
	return n;
}

static size_t count_and_stay(void *arg, struct pp_shrink *shrink)
{
	(void)arg;
	(void)shrink;
	while (is_armed && sem_wait(&never))
		;
	return PP_SHRINK_EMPTY;
}

static size_t count_under_mutex(void *arg, struct pp_shrink *shrink)
{
	(void)arg;
	(void)shrink;
	if (is_armed) {
		pthread_mutex_lock(&mutex);
		pthread_mutex_unlock(&mutex);
	}
	return PP_SHRINK_EMPTY;
}

static struct pp_shrinker_id *
shrinker(size_t (*count)(void *arg, struct pp_shrink *shrink))
{
	const struct pp_shrinker ops = {
		.struct_bytes = sizeof(ops), .name = "shrinker",
		.count = count, .scan = scan_good, .seeks = PP_SHRINKER_SEEKS,
	};
	struct pp_shrinker_id *id = NULL;

	REQUIRE(pp_shrinker_register(pool, &ops, &id) == 0);
	return id;
}

/* To the last small object, so that a thread takes of the reserve. */
static void fill_all(void)
{
	unsigned saved = pp_scope_enter(PP_NOFS);

	add(&ballast, MAX_RUNS, 0);
	for (size_t bytes = 8; bytes <= MAX_SMALL_BYTES; bytes += 8)
		while (malloc(bytes))
			;
	add(&ballast, MAX_RUNS, 0);
	pp_scope_leave(saved);
}

/* What each has a thread of the pool's own for, and one more is wanted.  Ends
 * the process with threads inside. */
static void a_spare_is_made_at_the_limit(void)
{
	pool = pp_pool_default();
	REQUIRE(pool != NULL);
	sem_init(&never, 0, 0);
	add(&good, NR_PAGES, 0);
	shrinker(count_good);
	for (unsigned i = 0; i < NR_STUCK; i++)
		shrinker(count_and_stay);
	fill_all();
	/* The first waits for one after the other to be stuck. */
	CHECK(pp_pool_set(pool, "oom_timeout", "8s") == 0);
	is_armed = true;
	for (unsigned i = 0; i < NR_REQUESTS; i++)
		CHECK(pp_alloc_pages(pool, 1, PP_NOWARN) != NULL);
	check_end();
}

/* There is no other that could let it go. */
static void one_thread_does_not_wait_for_itself(void)
{
	struct pp_shrinker_id *id;
	void *p;

	pool = pp_pool_default();
	REQUIRE(pool != NULL);
	id = shrinker(count_under_mutex);
	fill_all();
	is_armed = true;
	pthread_mutex_lock(&mutex);
	p = malloc(1 << 20);
	CHECK(p == NULL && errno == ENOMEM);
	pthread_mutex_unlock(&mutex);
	is_armed = false;
	pp_shrinker_unregister(id);
	check_end();
}

static const struct check_case cases[] = {
	{ "a_spare_is_made_at_the_limit", a_spare_is_made_at_the_limit },
	{ "one_thread_does_not_wait_for_itself",
	  one_thread_does_not_wait_for_itself },
};

CHECK_MAIN(cases)
