/* SPDX-License-Identifier: MIT */
/*
 * Memory that nobody wanted for purge_delay goes back to the kernel, whatever
 * it was and wherever it is hidden: within two seconds more no more is backed
 * than what is in use, 8 MiB and 3 %.  Not before the delay, not while it is in
 * use again and again, and without a trace where the kernel refuses.
 */
#include "testing_store.h"

#include <sys/mman.h>
#include <sys/wait.h>

#include <pagepool/cache.h>

#define LIMIT		"128M"
#define MAX_RUNS	40000
#define NR_THREADS	4
#define GRACE_MS	(TEST_SANITIZED ? 10000 : 2000)

struct scene {
	struct pp_pool	*pool;
	void		*run[MAX_RUNS];
	size_t		nr;
};

static struct scene *scene_make(const char *delay)
{
	struct scene *s = test_array(1, sizeof(*s));

	s->pool = pool_make_with(LIMIT, "purge_delay", delay);
	return s;
}

static void scene_end(struct scene *s)
{
	pp_free_bulk(s->pool, s->nr, s->run);
	pool_end(s->pool);
	free(s);
}

static void touch(void *run, size_t nr_pages)
{
	for (size_t i = 0; i < nr_pages; i++)
		((char *)run)[i * PAGE] = 1;
}

/* To the limit, in runs of these lengths by turns. */
static void burst(struct scene *s, const size_t *lengths, size_t nr)
{
	while (s->nr < MAX_RUNS) {
		size_t n = lengths[s->nr % nr];

		s->run[s->nr] = pp_alloc_pages(s->pool, n, PP_NOWARN);
		if (!s->run[s->nr])
			break;
		touch(s->run[s->nr++], n);
	}
	assert_true(s->nr > 0 && s->nr < MAX_RUNS);
}

static void drop(struct scene *s)
{
	pp_free_bulk(s->pool, s->nr, s->run);
	s->nr = 0;
}

static int64_t backed(struct pp_pool *pool)
{
	return pp_stat_read(pool, PP_STAT_BACKED_PAGES);
}

/* The resident pages of the process. */
static int64_t resident(void)
{
	FILE *f = fopen("/proc/self/statm", "r");
	long total, rss = 0;

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%ld %ld", &total, &rss), 2);
	fclose(f);
	return rss;
}

/* Cheap reads: a snapshot would be a use of this thread's cache. */
static bool is_purged(struct pp_pool *pool, int64_t live_pages)
{
	return backed(pool) <= live_pages + 2048 + live_pages * 3 / 100;
}

static void expect_purged_to(struct pp_pool *pool, uint64_t delay_ms,
			     int64_t live_pages)
{
	uint64_t begin = test_now_ms();
	bool ok = wait_until(is_purged(pool, live_pages), delay_ms + GRACE_MS);
	struct pp_stats st = pool_stats(pool);

	print_message("# %lld backed, %lld used, %lld cached after %llu ms of "
		      "%llu\n", (long long)st.backed_pages,
		      (long long)st.used_pages, (long long)st.cached_pages,
		      (unsigned long long)(test_now_ms() - begin),
		      (unsigned long long)delay_ms);
	assert_true(ok);
	assert_int_equal(pp_pool_check(pool), 0);
}

static void expect_purged(struct pp_pool *pool, uint64_t delay_ms)
{
	expect_purged_to(pool, delay_ms, 0);
}

static void test_purge_takes_page_runs_after_the_delay(void **state)
{
	static const size_t lengths[] = { 1, 7, 64, 600, 3, 200 };
	struct scene *s = scene_make("1s");
	int64_t before = resident(), full;

	(void)state;
	burst(s, lengths, COUNT_OF(lengths));
	full = backed(s->pool);
	assert_true(full > pool_stats(s->pool).managed_pages * 9 / 10);
	drop(s);
	/* It is there for who wants it, for most of the delay. */
	usleep(500000);
	if (!TEST_SANITIZED)
		assert_true(backed(s->pool) > full * 9 / 10);
	expect_purged(s->pool, 500);
	if (!TEST_SANITIZED)
		assert_true(resident() < before + 2048 + 1024);
	scene_end(s);
	reached_end();
}

static void test_purge_delay_is_ten_seconds_by_default(void **state)
{
	static const size_t lengths[] = { 5 };
	struct scene *s = test_array(1, sizeof(*s));

	(void)state;
	s->pool = pool_make(LIMIT);
	burst(s, lengths, 1);
	drop(s);
	usleep(7000000);
	assert_true(backed(s->pool) > 20000);
	expect_purged(s->pool, 3000);
	scene_end(s);
	reached_end();
}

static void test_purge_delay_of_nothing_is_at_once(void **state)
{
	static const size_t lengths[] = { 1, 30 };
	struct scene *s = scene_make("0");

	(void)state;
	burst(s, lengths, 2);
	drop(s);
	expect_purged(s->pool, 0);
	scene_end(s);
	reached_end();
}

static void test_purge_takes_holes_between_live_pages(void **state)
{
	static const size_t lengths[] = { 1 };
	struct scene *s = scene_make("1s");
	size_t n = 0;

	(void)state;
	burst(s, lengths, 1);
	for (size_t i = 0; i < s->nr; i++)
		if (i % 50)
			pp_free_pages(s->pool, s->run[i]);
		else
			s->run[n++] = s->run[i];
	s->nr = n;
	expect_purged_to(s->pool, 1000, (int64_t)n);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(*(char *)s->run[i], 1);
	scene_end(s);
	reached_end();
}

/* Small objects of threads that free them and then sleep. */

struct sleeper {
	struct pp_cache		*cache;
	pthread_barrier_t	*held, *freed, *over;
	size_t			nr;
};

static void *burst_and_sleep(void *arg)
{
	struct sleeper *sl = arg;
	void **object = test_array(sl->nr, sizeof(*object));

	for (size_t i = 0; i < sl->nr; i++) {
		object[i] = pp_cache_alloc(sl->cache, 0);
		thread_check(object[i] != NULL);
		if (object[i])
			memset(object[i], 1, 200);
	}
	/* All of them have it at one time. */
	pthread_barrier_wait(sl->held);
	for (size_t i = 0; i < sl->nr; i++)
		pp_cache_free(sl->cache, object[i]);
	free(object);
	pthread_barrier_wait(sl->freed);
	pthread_barrier_wait(sl->over);
	return NULL;
}

static void test_purge_reaches_what_sleeping_threads_freed(void **state)
{
	struct scene *s = scene_make("1s");
	struct sleeper sl = { .nr = 100000 };
	pthread_barrier_t held, freed, over;
	pthread_t thread[NR_THREADS];

	(void)state;
	pthread_barrier_init(&held, NULL, NR_THREADS);
	pthread_barrier_init(&freed, NULL, NR_THREADS + 1);
	pthread_barrier_init(&over, NULL, NR_THREADS + 1);
	sl.held = &held;
	sl.freed = &freed;
	sl.over = &over;
	assert_int_equal(pp_cache_create(s->pool, "small", 200, 0, &sl.cache),
			 0);
	for (size_t i = 0; i < NR_THREADS; i++)
		pthread_create(&thread[i], NULL, burst_and_sleep, &sl);
	pthread_barrier_wait(&freed);
	/* A cache is idle after a tick of a second; then no delay is left for
	 * what was in it. */
	expect_purged(s->pool, 2000);
	assert_true(pool_stats(s->pool).purged_pages > 10000);
	pthread_barrier_wait(&over);
	for (size_t i = 0; i < NR_THREADS; i++)
		pthread_join(thread[i], NULL);
	assert_int_equal(pp_cache_destroy(sl.cache), 0);
	scene_end(s);
	assert_threads_ok();
	reached_end();
}

/* What is freed and used again in turn stays. */
static void test_purge_leaves_what_is_in_use_alone(void **state)
{
	static const size_t lengths[] = { 64 };
	struct scene *s = scene_make("1s");
	uint64_t end;
	int64_t purged;

	(void)state;
	burst(s, lengths, 1);
	drop(s);
	purged = pool_stats(s->pool).purged_pages;
	for (end = test_now_ms() + 3000; test_now_ms() < end; usleep(20000)) {
		burst(s, lengths, 1);
		drop(s);
	}
	if (!TEST_SANITIZED)
		assert_int_equal(pool_stats(s->pool).purged_pages, purged);
	expect_purged(s->pool, 1000);
	scene_end(s);
	reached_end();
}

static void play_new_delay(const char *nodes)
{
	static const size_t lengths[] = { 1, 64 };
	struct scene *s = test_array(1, sizeof(*s));

	s->pool = pool_make_with(LIMIT, "fake_nodes", nodes);
	assert_int_equal(pp_pool_set(s->pool, "purge_delay", "3600s"), 0);
	burst(s, lengths, 2);
	drop(s);
	pp_pool_drain(s->pool);
	usleep(100000);	/* slots of the long delay have begun */
	assert_true(backed(s->pool) > 20000);
	assert_int_equal(pp_pool_set(s->pool, "purge_delay", "200ms"), 0);
	expect_purged(s->pool, 200);
	scene_end(s);
}

static void test_purge_delay_changes_at_once(void **state)
{
	(void)state;
	play_new_delay("1");
	play_new_delay("4");
	reached_end();
}

/* Locked memory cannot be purged, and is as good as any. */
static void test_purge_refused_by_the_kernel_loses_nothing(void **state)
{
	struct scene *s = scene_make("100ms");
	size_t first = 0;
	char *locked;

	(void)state;
	locked = pp_alloc_pages(s->pool, 4000, 0);
	assert_non_null(locked);
	memset(locked, 1, 4000 * PAGE);
	if (mlock(locked + 1000 * PAGE, 10 * PAGE)) {
		pp_free_pages(s->pool, locked);
		scene_end(s);
		test_skip("no memory may be locked");
		return;
	}
	pp_free_pages(s->pool, locked);
	usleep(600000);
	assert_int_equal(pp_pool_check(s->pool), 0);
	/* All of the limit can be used, twice. */
	for (unsigned i = 0; i < 2; i++) {
		static const size_t lengths[] = { 1, 9, 100 };

		burst(s, lengths, 3);
		if (!i)
			first = s->nr;
		assert_in_range(s->nr, first - 10, first + 10);
		drop(s);
		pp_pool_drain(s->pool);
		usleep(300000);
	}
	munlock(locked + 1000 * PAGE, 10 * PAGE);
	scene_end(s);
	reached_end();
}

/* Without a thread the program's own calls do it, a slice each. */
static int child_purges(struct scene *s)
{
	uint64_t end = test_now_ms() + 1000 + 8000;
	void *run;

	alarm(100);
	for (size_t i = 0; i < s->nr; i++) {
		errno = EXDEV;
		pp_free_pages(s->pool, s->run[i]);
		if (errno != EXDEV)
			return 1;
	}
	s->nr = 0;
	while (!is_purged(s->pool, 0) && test_now_ms() < end) {
		errno = EXDEV;
		run = pp_alloc_pages(s->pool, 300, 0);
		if (!run || errno != EXDEV)
			return 2;
		pp_free_pages(s->pool, run);
		pp_pool_drain(s->pool);
		errno = EXDEV;
		run = pp_alloc_pages(s->pool, 1, 0);
		pp_free_pages(s->pool, run);
		if (errno != EXDEV)
			return 3;
		usleep(1000);
	}
	return !is_purged(s->pool, 0) ? 4 : pp_pool_check(s->pool) ? 5 : 0;
}

static void test_purge_is_inline_in_the_child_of_a_fork(void **state)
{
	static const size_t lengths[] = { 1, 64, 700 };
	struct scene *s = scene_make("1s");
	int status;
	pid_t child;

	(void)state;
	burst(s, lengths, 3);
	child = fork();
	if (!child)
		_exit(child_purges(s));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	scene_end(s);
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_purge_takes_page_runs_after_the_delay),
		TEST(test_purge_delay_is_ten_seconds_by_default),
		TEST(test_purge_delay_of_nothing_is_at_once),
		TEST(test_purge_takes_holes_between_live_pages),
		TEST(test_purge_reaches_what_sleeping_threads_freed),
		TEST(test_purge_leaves_what_is_in_use_alone),
		TEST(test_purge_delay_changes_at_once),
		TEST(test_purge_refused_by_the_kernel_loses_nothing),
		TEST(test_purge_is_inline_in_the_child_of_a_fork),
	};

	test_clear_environment();
	return cmocka_run_group_tests_name("purge", tests, NULL, NULL);
}
