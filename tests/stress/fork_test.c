/* SPDX-License-Identifier: MIT */
/*
 * A process whose threads are all over the pool forks, again and again.  Each
 * child allocates, reads and frees what the parent had, forks itself at times,
 * and checks everything; a child that waits for a lock of a thread that is
 * gone is ended by its alarm, which is a failure.
 *
 * PP_TEST_FORKS (300), PP_TEST_THREADS (4), PP_TEST_SEED.
 */
#include "../api/testing.h"

#include <signal.h>
#include <sys/wait.h>

#include "pagepool/cache.h"
#include "pool.h"

#define CHILD_SECONDS	60

/* What the pool's own tables and caches take, in all zones. */
static uint64_t charged_pages(struct pp_pool *pool)
{
	uint64_t sum = 0;

	for_each_zone(zone, pool->zones)
		sum += zone->charged_pages;
	return sum;
}

struct load {
	struct pp_pool		*pool;
	struct pp_cache		*cache;
	_Atomic bool		stop;
	_Atomic unsigned	next_thread;
	_Atomic uint64_t	steps;
};

static void *load_thread(void *arg)
{
	struct load *l = arg;
	struct rng r = rng_make(atomic_fetch_add(&l->next_thread, 1));
	void *run[40] = { NULL }, *object[100] = { NULL };

	while (!atomic_load(&l->stop)) {
		size_t i = rng_below(&r, COUNT_OF(run));
		size_t k = rng_below(&r, COUNT_OF(object));

		pp_free_pages(l->pool, run[i]);
		run[i] = pp_alloc_pages(l->pool,
					1 + rng_below(&r, rng_below(&r, 9) ?
							  20 : 600),
					PP_NOWARN);
		pp_cache_free(l->cache, object[k]);
		object[k] = pp_cache_alloc(l->cache, PP_NOWARN);
		atomic_fetch_add_explicit(&l->steps, 1, memory_order_relaxed);
	}
	pp_free_bulk(l->pool, COUNT_OF(run), run);
	for (size_t k = 0; k < COUNT_OF(object); k++)
		pp_cache_free(l->cache, object[k]);
	return NULL;
}

/* What the forking thread has, and the children free. */
struct heirloom {
	void	*run[20];
	void	*object[20];
};

static void heirloom_make(struct load *l, struct heirloom *h)
{
	for (size_t i = 0; i < COUNT_OF(h->run); i++) {
		/* Below the floor of the others, who are at the limit. */
		h->run[i] = pp_alloc_pages(l->pool, 1 + i, PP_MEMALLOC);
		h->object[i] = pp_cache_alloc(l->cache, PP_MEMALLOC);
		assert_non_null(h->run[i]);
		assert_non_null(h->object[i]);
		memset(h->run[i], (int)i + 1, (1 + i) * PAGE);
		memset(h->object[i], (int)i + 65, 500);
	}
}

static bool bytes_are(const char *p, size_t n, char value)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] != value)
			return false;
	return true;
}

/* The number of what is wrong, or 0. */
static int heirloom_end(struct load *l, struct heirloom *h)
{
	for (size_t i = 0; i < COUNT_OF(h->run); i++) {
		if (!bytes_are(h->run[i], (1 + i) * PAGE, (char)(i + 1)))
			return 11;
		if (!bytes_are(h->object[i], 500, (char)(i + 65)))
			return 12;
		pp_free_pages(l->pool, h->run[i]);
		pp_cache_free(l->cache, h->object[i]);
	}
	return 0;
}

static int child_work(struct load *l)
{
	void *run[100], *object[200];

	for (size_t i = 0; i < COUNT_OF(run); i++) {
		run[i] = pp_alloc_pages(l->pool, 1 + i % 30, PP_NOWARN);
		if (run[i])
			memset(run[i], 0x33, (1 + i % 30) * PAGE);
	}
	for (size_t i = 0; i < COUNT_OF(object); i++) {
		object[i] = pp_cache_alloc(l->cache, PP_NOWARN);
		if (object[i])
			memset(object[i], 0x44, 500);
	}
	if (pp_pool_check(l->pool))
		return 21;
	for (size_t i = 0; i < COUNT_OF(run); i++)
		if (run[i] && !bytes_are(run[i], (1 + i % 30) * PAGE, 0x33))
			return 22;
	for (size_t i = 0; i < COUNT_OF(object); i++)
		if (object[i] && !bytes_are(object[i], 500, 0x44))
			return 23;
	pp_free_bulk(l->pool, COUNT_OF(run), run);
	for (size_t i = 0; i < COUNT_OF(object); i++)
		pp_cache_free(l->cache, object[i]);
	return pp_pool_check(l->pool) ? 24 : 0;
}

/* Others' caches are given up, and count no more. */
static int child_adopts(struct load *l)
{
	pool_drain(l->pool);
	if (pp_stat_read(l->pool, PP_STAT_NR_THREADS) > 1)
		return 31;
	if (pp_stat_read(l->pool, PP_STAT_CACHED_PAGES) != 0)
		return 32;
	return pp_pool_check(l->pool) ? 33 : 0;
}

static int wait_for(pid_t pid)
{
	int status;

	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return 41;
	return status;
}

static int child_main(struct load *l, struct heirloom *h, unsigned nr)
{
	int err;
	pid_t pid;

	alarm(CHILD_SECONDS);
	if (pp_pool_check(l->pool))
		return 10;
	if (nr % 3 == 0) {	/* before anything else has been done */
		pid = fork();
		if (pid == 0)
			_exit(child_work(l));
		if (wait_for(pid))
			return 42;
	}
	err = nr % 2 ? child_adopts(l) : 0;
	if (!err)
		err = child_work(l);
	if (!err)
		err = heirloom_end(l, h);
	if (!err)
		err = child_adopts(l);
	return err;
}

static void fork_once(struct load *l, struct heirloom *h, unsigned nr)
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(child_main(l, h, nr));
	status = wait_for(pid);
	if (status)
		print_message("# child %u: status %#x\n", nr,
			      (unsigned)status);
	assert_int_equal(status, 0);
}

static void test_stress_fork_under_load(void **state)
{
	unsigned forks = (unsigned)test_number("PP_TEST_FORKS",
					       TEST_SANITIZED ? 40 : 300);
	size_t n = test_number("PP_TEST_THREADS", 4);
	struct load l = { .pool = pool_make("24M") };
	pthread_t *thread = test_array(n, sizeof(*thread));
	struct heirloom h;
	uint64_t before;

	(void)state;
	test_seed();
	assert_int_equal(pp_cache_create(l.pool, "load", 500, 0, &l.cache), 0);
	heirloom_make(&l, &h);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, load_thread,
						&l), 0);
	for (unsigned i = 0; i < forks; i++) {
		/* The parent goes on after each: no lock stayed behind. */
		before = atomic_load(&l.steps);
		fork_once(&l, &h, i);
		while (atomic_load(&l.steps) == before)
			sched_yield();
		if (i % 20 == 0)
			assert_int_equal(pp_pool_check(l.pool), 0);
	}
	atomic_store(&l.stop, true);
	for (size_t i = 0; i < n; i++)
		pthread_join(thread[i], NULL);
	assert_int_equal(heirloom_end(&l, &h), 0);
	assert_int_equal(pp_cache_destroy(l.cache), 0);
	pool_drain(l.pool);
	assert_int_equal(pool_stats(l.pool).used_pages,
			 charged_pages(l.pool));
	pool_end(l.pool);
	free(thread);
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_stress_fork_under_load),
	};

	test_clear_environment();
	return cmocka_run_group_tests_name("stress fork", tests, NULL, NULL);
}
