/* SPDX-License-Identifier: MIT */
/*
 * A request with PP_NOFS, from a thread that holds a lock on which a shrinker
 * waits in the pool's own thread: it neither waits for that thread nor fails
 * for it.
 */
#include "testing.h"

#include <pagepool/reclaim.h>

#define LIMIT		"32M"
#define MAX_RUNS	8192
/* Far from the second for which the pool's thread is waited for elsewhere. */
#define QUICK_MS	300
#define HIDDEN_RUNS	40

static pthread_mutex_t lock_of_program = PTHREAD_MUTEX_INITIALIZER;
static _Atomic bool scan_waits;

static size_t count(void *arg, struct pp_shrink *shrink)
{
	(void)arg;
	(void)shrink;
	return 1000;
}

static size_t scan(void *arg, struct pp_shrink *shrink)
{
	(void)arg;
	(void)shrink;
	atomic_store(&scan_waits, true);
	pthread_mutex_lock(&lock_of_program);
	pthread_mutex_unlock(&lock_of_program);
	return 1;
}

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

struct runs {
	struct pp_pool	*pool;
	size_t		nr;
	uint64_t	longest_ms;
	void		*run[MAX_RUNS];
};

/* Until NULL; how long one took at the most. */
static void fill(struct runs *r, unsigned flags)
{
	uint64_t start, took;

	while (r->nr < MAX_RUNS) {
		start = now_ms();
		r->run[r->nr] = pp_alloc_pages(r->pool, 1, flags);
		took = now_ms() - start;
		r->longest_ms = took > r->longest_ms ? took : r->longest_ms;
		if (!r->run[r->nr])
			break;
		r->nr++;
	}
}

static struct runs *begin(struct pp_shrinker_id **id)
{
	const struct pp_shrinker shrinker = {
		.struct_bytes = sizeof(shrinker),
		.name = "waits",
		.count = count,
		.scan = scan,
	};
	struct runs *r = test_array(1, sizeof(*r));

	r->pool = pool_make_one_zone(LIMIT);
	assert_int_equal(pp_shrinker_register(r->pool, &shrinker, id), 0);
	atomic_store(&scan_waits, false);
	pthread_mutex_lock(&lock_of_program);
	return r;
}

/* Before anything is asserted, which would leave with the lock held. */
static void end(struct runs *r, struct pp_shrinker_id *id)
{
	uint64_t longest_ms = r->longest_ms;

	pthread_mutex_unlock(&lock_of_program);
	pp_shrinker_unregister(id);
	pp_free_bulk(r->pool, r->nr, r->run);
	pool_end(r->pool);
	free(r);
	print_message("# the longest request: %u ms\n", (unsigned)longest_ms);
	assert_true(atomic_load(&scan_waits));
	assert_in_range(longest_ms, 0, QUICK_MS);
}

static void test_nofs_does_not_wait_below_half_of_min(void **state)
{
	struct pp_shrinker_id *id;
	struct runs *r = begin(&id);
	(void)state;

	fill(r, PP_NOFS | PP_HIGH | PP_NOWAIT);
	for (unsigned i = 0; i < 2000 && !atomic_load(&scan_waits); i++)
		usleep(1000);
	fill(r, PP_NOFS | PP_HIGH);
	end(r, id);
	reached_end();
}

/* Caches a few pages, and sleeps. */
struct hider {
	struct runs	*r;
	_Atomic int	step;
};

static void *hide(void *arg)
{
	struct hider *h = arg;
	void *run[HIDDEN_RUNS];
	size_t n = pp_alloc_bulk(h->r->pool, HIDDEN_RUNS, 4, run, 0);

	pp_free_bulk(h->r->pool, n, run);
	atomic_store(&h->step, 1);
	while (atomic_load(&h->step) != 2)
		usleep(1000);
	return NULL;
}

static void test_nofs_finds_what_others_hide(void **state)
{
	struct pp_shrinker_id *id;
	struct runs *r = begin(&id);
	struct hider h = { .r = r };
	pthread_t thread;
	size_t before, found;
	(void)state;

	assert_int_equal(pthread_create(&thread, NULL, hide, &h), 0);
	while (!atomic_load(&h.step))
		usleep(1000);
	fill(r, PP_NOFS | PP_NOWAIT);
	for (unsigned i = 0; i < 2000 && !atomic_load(&scan_waits); i++)
		usleep(1000);
	before = r->nr;
	fill(r, PP_NOFS);
	found = r->nr - before;
	atomic_store(&h.step, 2);
	pthread_join(thread, NULL);
	end(r, id);
	assert_in_range(found, HIDDEN_RUNS, MAX_RUNS);
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_nofs_does_not_wait_below_half_of_min),
		TEST(test_nofs_finds_what_others_hide),
	};

	test_clear_environment();
	return cmocka_run_group_tests_name("nofs", tests, NULL, NULL);
}
