/* SPDX-License-Identifier: MIT */
/*
 * PP_NOFAIL: a request that waits until it can be served.  It goes to the
 * reserve, is woken by whatever is given back, never returns NULL however many
 * wait, and says so when it waits long.
 */
#include "testing.h"

#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

#define LIMIT		"16M"
#define MAX_RUNS	4096

struct hoard {
	struct pp_pool	*pool;
	size_t		nr;
	void		*run[MAX_RUNS];
};

static struct hoard *hoard_make(void)
{
	struct hoard *h = test_array(1, sizeof(*h));

	h->pool = pool_make_one_zone(LIMIT);
	return h;
}

/* Until NULL; how many pages that were. */
static size_t take_all(struct hoard *h, unsigned flags)
{
	size_t before = h->nr;

	while (h->nr < MAX_RUNS &&
	       (h->run[h->nr] = pp_alloc_pages(h->pool, 1,
					       flags | PP_NOWARN)))
		h->nr++;
	return h->nr - before;
}

static void hoard_end(struct hoard *h)
{
	pp_free_bulk(h->pool, h->nr, h->run);
	assert_int_equal(pp_pool_check(h->pool), 0);
	pool_end(h->pool);
	free(h);
}

static void test_nofail_takes_half_of_the_reserve(void **state)
{
	struct hoard *h = hoard_make();
	int64_t min;

	(void)state;
	take_all(h, 0);
	min = pool_stats(h->pool).min_pages;
	assert_in_range(pool_stats(h->pool).free_pages, 1, min);
	/* Not one of these waits. */
	while (pool_stats(h->pool).free_pages > min - min / 2) {
		h->run[h->nr] = pp_alloc_pages(h->pool, 1, PP_NOFAIL);
		assert_non_null(h->run[h->nr++]);
	}
	assert_null(pp_alloc_pages(h->pool, 1, PP_HIGH | PP_NOWARN));
	hoard_end(h);
	reached_end();
}

struct waiter {
	struct pp_pool	*pool;
	size_t		nr_pages;
	void		*run;
	_Atomic bool	served;
};

static void *wait_for_run(void *arg)
{
	struct waiter *w = arg;

	w->run = pp_alloc_pages(w->pool, w->nr_pages, PP_NOFAIL);
	thread_check(w->run);
	atomic_store(&w->served, true);
	return NULL;
}

/* Until so many requests have found that there is nothing. */
static void await_slow(struct pp_pool *pool, int64_t before, int64_t nr)
{
	while (pp_stat_read(pool, PP_STAT_SLOWPATH) < before + nr)
		sched_yield();
}

static void test_nofail_is_woken_by_what_is_given_back(void **state)
{
	struct hoard *h = hoard_make();
	struct waiter w = { .pool = h->pool, .nr_pages = 8 };
	pthread_t thread;
	int64_t before;

	(void)state;
	take_all(h, 0);
	take_all(h, PP_MEMALLOC);
	before = pp_stat_read(h->pool, PP_STAT_SLOWPATH);
	pthread_create(&thread, NULL, wait_for_run, &w);
	await_slow(h->pool, before, 1);
	assert_false(atomic_load(&w.served));
	/* One by one: what it needs in the end is 8 and half of min. */
	while (!atomic_load(&w.served)) {
		assert_true(h->nr > 0);
		pp_free_pages(h->pool, h->run[--h->nr]);
		if (pool_stats(h->pool).free_pages >
		    pool_stats(h->pool).min_pages + 8)
			break;
	}
	pthread_join(thread, NULL);
	assert_non_null(w.run);
	pp_free_pages(h->pool, w.run);
	assert_threads_ok();
	hoard_end(h);
	reached_end();
}

/* More threads than there are runs: each gets its turn. */

#define CROWD		64
#define ROUNDS		50
#define LONG_PAGES	128

static void *take_turns(void *arg)
{
	struct pp_pool *pool = arg;
	unsigned me = (unsigned)(uintptr_t)pthread_self() | 1;

	for (size_t i = 0; i < test_load(ROUNDS, 5); i++) {
		unsigned *run = pp_alloc_pages(pool, LONG_PAGES, PP_NOFAIL);

		thread_check(run);
		if (!run)
			break;
		for (size_t k = 0; k < LONG_PAGES; k += 16)
			run[k * PAGE / sizeof(*run)] = me;
		sched_yield();
		for (size_t k = 0; k < LONG_PAGES; k += 16)
			thread_check(run[k * PAGE / sizeof(*run)] == me);
		pp_free_pages(pool, run);
	}
	return NULL;
}

static void test_nofail_of_many_threads_ends(void **state)
{
	struct pp_pool *pool = pool_make_one_zone(LIMIT);
	pthread_t thread[CROWD];

	(void)state;
	for (int i = 0; i < CROWD; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, take_turns,
						pool), 0);
	for (int i = 0; i < CROWD; i++)
		pthread_join(thread[i], NULL);
	assert_threads_ok();
	assert_int_equal(pp_pool_check(pool), 0);
	assert_int_equal(pool_stats(pool).failures, 0);
	pool_end(pool);
	reached_end();
}

/* A larger limit is as good as what is given back. */
static void test_nofail_larger_than_the_limit_waits_for_a_larger_one(
		void **state)
{
	struct pp_pool *pool = pool_make_one_zone(LIMIT);
	struct waiter w = { .pool = pool, .nr_pages = 6000 };
	pthread_t thread;

	(void)state;
	pthread_create(&thread, NULL, wait_for_run, &w);
	await_slow(pool, 0, 1);
	assert_false(atomic_load(&w.served));
	assert_int_equal(pp_pool_set(pool, "limit", "64M"), 0);
	pthread_join(thread, NULL);
	assert_non_null(w.run);
	pp_free_pages(pool, w.run);
	assert_threads_ok();
	pool_end(pool);
	reached_end();
}

/* After 10 s a line, on standard error, by the thread that waits. */

static void wait_in_child(int fd)
{
	struct pp_pool *pool = pool_make_one_zone(LIMIT);
	struct waiter w = { .pool = pool, .nr_pages = 6000 };

	alarm(60);
	dup2(fd, 2);
	wait_for_run(&w);
	_exit(1);
}

static void test_nofail_that_waits_long_says_so(void **state)
{
	struct pollfd p = { .events = POLLIN };
	char line[256] = "";
	int fds[2], status;
	pid_t child;

	(void)state;
	assert_int_equal(pipe(fds), 0);
	child = fork();
	if (!child)
		wait_in_child(fds[1]);
	close(fds[1]);
	p.fd = fds[0];
	assert_int_equal(poll(&p, 1, 60000), 1);
	assert_true(read(fds[0], line, sizeof(line) - 1) > 0);
	assert_non_null(strstr(line, "pagepool: a request that must not fail, "
				     "for 24576000 bytes, has waited 10 s "
				     "(reason: too_big; "));
	assert_int_equal(line[strlen(line) - 1], '\n');
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, &status, 0), child);
	close(fds[0]);
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_nofail_takes_half_of_the_reserve),
		TEST(test_nofail_is_woken_by_what_is_given_back),
		TEST(test_nofail_of_many_threads_ends),
		TEST(test_nofail_larger_than_the_limit_waits_for_a_larger_one),
		TEST(test_nofail_that_waits_long_says_so),
	};

	test_clear_environment();
	return cmocka_run_group_tests_name("nofail", tests, NULL, NULL);
}
