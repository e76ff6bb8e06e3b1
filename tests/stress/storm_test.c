/* SPDX-License-Identifier: MIT */
/*
 * A storm of short-lived threads, 64 of them alive at any time: each makes a
 * cache, leaves something for another to free, and exits.  Nothing of any of
 * them stays behind.
 *
 * PP_TEST_STORM: how many threads in all (20000).
 */
#include "../api/testing.h"

#include <semaphore.h>

#include "pagepool/cache.h"
#include "pool.h"

#define ALIVE	64

struct storm {
	struct pp_pool		*pool;
	struct pp_cache		*cache;
	_Atomic(void *)		left;	/* for the next thread that comes by */
	sem_t			go[ALIVE];
	pthread_t		thread[ALIVE];
};

struct place {
	struct storm	*s;
	unsigned	nr;
};

static void free_left(struct storm *s, void *run)
{
	if (!run)
		return;
	thread_check(*(uint64_t *)run == 0x1eaf + (uintptr_t)run);
	pp_free_pages(s->pool, run);
}

static void work(struct storm *s, unsigned nr)
{
	void *object[20], *run = pp_alloc_pages(s->pool, 1 + nr % 20, 0);

	thread_check(run != NULL);
	if (!run)
		return;
	*(uint64_t *)run = 0x1eaf + (uintptr_t)run;
	for (size_t i = 0; i < COUNT_OF(object); i++) {
		object[i] = pp_cache_alloc(s->cache, 0);
		thread_check(object[i] != NULL);
		if (object[i])
			memset(object[i], (int)nr & 127, 300);
	}
	for (size_t i = 0; i < COUNT_OF(object); i++) {
		thread_check(object[i] &&
			     ((char *)object[i])[299] == (char)(nr & 127));
		pp_cache_free(s->cache, object[i]);
	}
	free_left(s, atomic_exchange(&s->left, run));
}

static void *storm_thread(void *arg)
{
	struct place *p = arg;

	work(p->s, p->nr);
	/* Till 63 others have come after it. */
	while (sem_wait(&p->s->go[p->nr % ALIVE]) != 0)
		;
	work(p->s, p->nr + 7);
	free(p);
	return NULL;
}

static void start(struct storm *s, unsigned nr)
{
	struct place *p = test_array(1, sizeof(*p));

	p->s = s;
	p->nr = nr;
	assert_int_equal(pthread_create(&s->thread[nr % ALIVE], NULL,
					storm_thread, p), 0);
}

static void finish(struct storm *s, unsigned nr)
{
	sem_post(&s->go[nr % ALIVE]);
	pthread_join(s->thread[nr % ALIVE], NULL);
}

static void test_stress_storm_of_threads(void **state)
{
	unsigned all = (unsigned)test_number("PP_TEST_STORM",
					     TEST_SANITIZED ? 3000 : 20000);
	struct storm *s = test_array(1, sizeof(*s));
	int64_t most = 0, now;

	(void)state;
	s->pool = pool_make("64M");
	assert_int_equal(pp_cache_create(s->pool, "storm", 300, 0, &s->cache),
			 0);
	for (unsigned i = 0; i < ALIVE; i++)
		sem_init(&s->go[i], 0, 0);
	for (unsigned i = 0; i < all; i++) {
		if (i >= ALIVE)
			finish(s, i - ALIVE);
		start(s, i);
		now = pp_stat_read(s->pool, PP_STAT_NR_THREADS);
		most = now > most ? now : most;
		assert_true(now <= ALIVE + 1);
		if (i % 1000 == 999)
			assert_int_equal(pp_pool_check(s->pool), 0);
	}
	for (unsigned i = all - ALIVE; i < all; i++)
		finish(s, i);
	assert_threads_ok();
	assert_true(most > ALIVE / 2);
	free_left(s, atomic_load(&s->left));
	assert_int_equal(pp_cache_destroy(s->cache), 0);
	pool_drain(s->pool);
	assert_int_equal(pp_stat_read(s->pool, PP_STAT_NR_THREADS), 1);
	assert_int_equal(pool_stats(s->pool).cached_pages, 0);
	assert_int_equal(pool_stats(s->pool).used_pages, CACHE_PAGES);
	pool_end(s->pool);
	for (unsigned i = 0; i < ALIVE; i++)
		sem_destroy(&s->go[i]);
	free(s);
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_stress_storm_of_threads),
	};

	test_clear_environment();
	return cmocka_run_group_tests_name("stress storm", tests, NULL, NULL);
}
