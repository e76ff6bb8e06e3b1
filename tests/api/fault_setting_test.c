/* SPDX-License-Identifier: MIT */
/*
 * The setting fault in a program's own pool: the requests that are to fail do,
 * with ENOMEM, at once and counted, and no others; nothing else comes of it.
 */
#include "testing.h"

#include <sys/wait.h>

#include <pagepool/cache.h>
#include <pagepool/numa.h>
#include <pagepool/reclaim.h>

static struct pp_pool *pool_with(const char *fault)
{
	struct pp_config *config = NULL;
	struct pp_pool *pool = NULL;

	assert_int_equal(pp_config_create(&config), 0);
	assert_int_equal(pp_config_set(config, "limit", "16M"), 0);
	assert_int_equal(pp_config_set(config, "fault", fault), 0);
	assert_int_equal(pp_pool_create(config, &pool), 0);
	pp_config_destroy(config);
	return pool;
}

/* One page more; false if it was refused as it should be. */
static bool take_one(struct pp_pool *pool, void **out)
{
	errno = 0;
	*out = pp_alloc_pages(pool, 1, 0);
	assert_true(*out || errno == ENOMEM);
	return *out != NULL;
}

static void test_fault_nth_is_the_only_failure(void **state)
{
	char text[40];
	void *run;

	(void)state;
	for (unsigned nth = 1; nth <= 20; nth++) {
		struct pp_pool *pool;

		snprintf(text, sizeof(text), "nth:%u,quiet", nth);
		pool = pool_with(text);
		for (unsigned i = 1; i <= 40; i++) {
			assert_true(take_one(pool, &run) == (i != nth));
			pp_free_pages(pool, run);
		}
		assert_int_equal(pp_stat_read(pool, PP_STAT_FAILURES), 1);
		pool_end(pool);
	}
	reached_end();
}

/* Each call that asks for memory counts once, and fails without side effects;
 * what needs none passes. */
static void test_fault_counts_each_kind_of_request(void **state)
{
	struct pp_pool *pool = pool_with("every:1,after:14,quiet");
	struct pp_cache *cache = NULL;
	void *run, *small, *bulk[4];
	struct pp_stats before, after;

	(void)state;
	run = pp_alloc_pages(pool, 10, 0);
	small = pp_alloc_pages(pool, 4, 0);
	assert_non_null(run);
	assert_non_null(small);
	/* What the pool takes for itself is no request of ours. */
	assert_int_equal(pp_cache_create(pool, "objects", 100, 0, &cache), 0);
	before = pool_stats(pool);
	errno = 0;
	assert_null(pp_alloc_pages(pool, 1, 0));
	assert_null(pp_alloc_pages(pool, 1, PP_NOWAIT));
	assert_null(pp_alloc_pages(pool, 1, PP_MEMALLOC));
	assert_null(pp_alloc_aligned(pool, 4, 4, 0));
	assert_null(pp_numa_alloc(pool, 0, 1, 0));
	assert_int_equal(pp_alloc_bulk(pool, 4, 1, bulk, 0), 0);
	assert_null(pp_cache_alloc(cache, 0));
	assert_null(pp_realloc_pages(pool, NULL, 3, 0));
	assert_null(pp_realloc_pages(pool, run, 11, 0));
	assert_int_equal(errno, ENOMEM);
	assert_int_equal(pp_run_pages(pool, run), 10);
	after = pool_stats(pool);
	assert_int_equal(after.failures - before.failures, 9);
	assert_int_equal(after.used_pages, before.used_pages);
	/* Memory is not short, and nobody is told that it is. */
	assert_int_equal(after.direct_reclaims, 0);
	assert_int_equal(after.slowpath, before.slowpath);
	assert_int_equal(after.pressure_oom + after.pressure_min +
			 after.pressure_low, 0);
	/* To become smaller needs none. */
	run = pp_realloc_pages(pool, run, 2, 0);
	assert_non_null(run);
	assert_int_equal(pp_run_pages(pool, run), 2);
	pp_free_pages(pool, run);
	pp_free_pages(pool, small);
	assert_int_equal(pp_cache_destroy(cache), 0);
	pool_end(pool);
	reached_end();
}

static void test_fault_spares_nofail(void **state)
{
	struct pp_pool *pool = pool_with("every:1,quiet");
	void *run = pp_alloc_pages(pool, 1, PP_NOFAIL);

	(void)state;
	assert_non_null(run);
	assert_int_equal(pp_stat_read(pool, PP_STAT_FAILURES), 0);
	pp_free_pages(pool, run);
	pool_end(pool);
	reached_end();
}

/* A wrong rule is refused, and the setting is for new pools alone. */
static void test_fault_is_a_setting_of_new_pools(void **state)
{
	struct pp_config *config = NULL;
	struct pp_pool *pool = pool_with("nth:2,quiet");
	void *run;

	(void)state;
	assert_int_equal(pp_pool_set(pool, "fault", "off"), -EBUSY);
	assert_true(take_one(pool, &run));
	pp_free_pages(pool, run);
	assert_false(take_one(pool, &run));
	pool_end(pool);
	assert_int_equal(pp_config_create(&config), 0);
	assert_int_equal(pp_config_set(config, "fault", "nth"), -EINVAL);
	assert_int_equal(pp_config_set(config, "fault", "nth:0"), -ERANGE);
	pp_config_destroy(config);
	reached_end();
}

/* The child of a fork goes on where its parent was, and both count alone. */
static void test_fault_goes_on_in_the_child(void **state)
{
	struct pp_pool *pool = pool_with("nth:3,quiet");
	int status = -1;
	pid_t child;
	void *run;

	(void)state;
	assert_true(take_one(pool, &run));
	pp_free_pages(pool, run);
	for (unsigned both = 0; both < 2; both++) {
		child = both ? 0 : fork();
		if (!child) {
			bool ok = pp_alloc_pages(pool, 1, 0) &&
				  !pp_alloc_pages(pool, 1, 0) &&
				  pp_alloc_pages(pool, 1, 0);

			if (!both)
				_exit(ok ? 0 : 1);
			assert_true(ok);
		} else {
			assert_int_equal(waitpid(child, &status, 0), child);
			assert_int_equal(status, 0);
		}
	}
	assert_int_equal(pp_pool_check(pool), 0);
	reached_end();
}

/* One line on standard error, with what it takes to repeat it; not when
 * quiet. */
static size_t said_by(const char *fault, char *text, size_t size)
{
	int ends[2], saved = dup(2);
	struct pp_pool *pool;
	ssize_t len;
	void *run;

	assert_true(saved >= 0);
	assert_int_equal(pipe(ends), 0);
	dup2(ends[1], 2);
	pool = pool_with(fault);
	for (unsigned i = 0; i < 10; i++) {
		take_one(pool, &run);
		pp_free_pages(pool, run);
	}
	pool_end(pool);
	dup2(saved, 2);
	close(saved);
	close(ends[1]);
	len = read(ends[0], text, size - 1);
	close(ends[0]);
	text[len > 0 ? len : 0] = '\0';
	return len > 0 ? (size_t)len : 0;
}

static void test_fault_is_announced_once(void **state)
{
	static const char line[] = "pagepool: fault: request 2, of 4096 "
		"bytes, fails as the setting fault asks (seed 99; ";
	char text[1000];

	(void)state;
	assert_true(said_by("every:2,seed:99", text, sizeof(text)) > 0);
	assert_memory_equal(text, line, sizeof(line) - 1);
	assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
	assert_int_equal(said_by("every:2,quiet", text, sizeof(text)), 0);
	assert_int_equal(said_by("nth:11", text, sizeof(text)), 0);
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_fault_nth_is_the_only_failure),
		TEST(test_fault_counts_each_kind_of_request),
		TEST(test_fault_spares_nofail),
		TEST(test_fault_is_a_setting_of_new_pools),
		TEST(test_fault_goes_on_in_the_child),
		TEST(test_fault_is_announced_once),
	};

	test_clear_environment();
	return cmocka_run_group_tests_name("fault_setting", tests, NULL, NULL);
}
