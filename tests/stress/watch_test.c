/* SPDX-License-Identifier: MIT */
/*
 * The watch where the kernel withholds something, and when it comes and goes.
 * Each case in a process of its own: the environment is read once.
 */
#include "../api/testing.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/fault.h"
#include "os/os.h"
#include "watch.h"

#define MIB		(1ull << 20)
#define SECOND_NS	1000000000ull

/* What a case is told: what was to be true, or NULL. */
typedef const char *case_fn(void);

/* What there is before the first pool. */
static unsigned nr_before;

static unsigned nr_threads(void)
{
	return os_nr_threads() - nr_before + 1;
}

static void run_case(case_fn *body)
{
	const char *failed;
	pid_t child = fork();
	int status;

	if (!child) {
		nr_before = os_nr_threads();
		failed = body();
		if (failed)
			print_message("# failed: %s\n", failed);
		_exit(failed != NULL);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	reached_end();
}

#define EXPECT(cond) do { if (!(cond)) return #cond; } while (0)
#define WITHIN(seconds, cond) do {					\
	uint64_t end_ns = os_now_ns() + (seconds) * SECOND_NS;		\
	while (!(cond) && os_now_ns() < end_ns)				\
		usleep(5000);						\
	EXPECT(cond);							\
} while (0)

static struct pp_pool *make(const char *limit)
{
	struct pp_config *config;
	struct pp_pool *pool;

	if (pp_config_create(&config) ||
	    pp_config_set(config, "limit", limit) ||
	    pp_pool_create(config, &pool))
		return NULL;
	pp_config_destroy(config);
	return pool;
}

static uint64_t limit_bytes(struct pp_pool *pool)
{
	return (uint64_t)pp_stat_read(pool, PP_STAT_LIMIT_PAGES) * PAGE;
}

static uint64_t told(struct pp_pool *pool)
{
	return load_relaxed(&pool->registry.auto_limit_bytes);
}

static void limit_data(uint64_t bytes)
{
	struct rlimit limit = { bytes, RLIM_INFINITY };

	setrlimit(RLIMIT_DATA, &limit);
}

/* No table of descriptors of its own: no watch, and none is tried again. */
static const char *no_table(void)
{
	struct pp_pool *pool;

	fault_arm(FAULT_UNSHARE, FAULT_ALWAYS);
	pool = make("auto");
	EXPECT(pool);
	WITHIN(2, watch_state() == WATCH_REFUSED);
	fault_arm(FAULT_UNSHARE, 0);
	WITHIN(2, nr_threads() == 2);
	watch_start(pool);
	EXPECT(watch_state() == WATCH_REFUSED && nr_threads() == 2);
	EXPECT(pp_pool_destroy(pool) == 0);
	return NULL;
}

/* Nobody tells of resource limits; where inotify does not work either, a look
 * is at most 5 s away. */
static const char *no_inotify(void)
{
	struct pp_pool *pool;
	uint64_t now;

	fault_arm(FAULT_NOTIFY, FAULT_ALWAYS);
	limit_data(512 * MIB);
	pool = make("auto");
	EXPECT(pool);
	EXPECT(limit_bytes(pool) == 384 * MIB);
	WITHIN(2, told(pool) == 384 * MIB);
	limit_data(256 * MIB);
	now = os_now_ns();
	WITHIN(8, limit_bytes(pool) == 192 * MIB);
	EXPECT(os_now_ns() - now < 6 * SECOND_NS);
	EXPECT(watch_state() == WATCH_RUNNING);
	return NULL;
}

/* With a limit that is set and no pressure to be heard of there is no thread.
 * Then it follows. */
static const char *nothing_then_auto(void)
{
	struct pp_pool *pool;

	setenv("MEMORY_PRESSURE_WATCH", "/dev/null", 1);
	pool = make("64M");
	EXPECT(pool);
	EXPECT(watch_state() == WATCH_IDLE && nr_threads() == 2);
	limit_data(512 * MIB);
	EXPECT(pp_pool_set(pool, "limit", "auto") == 0);
	EXPECT(watch_state() == WATCH_RUNNING);
	WITHIN(2, told(pool) == 384 * MIB);
	EXPECT(limit_bytes(pool) == 384 * MIB);
	return NULL;
}

static const char *new_thread(struct pp_pool *pool)
{
	WITHIN(2, told(pool));
	EXPECT(watch_state() == WATCH_RUNNING);
	return NULL;
}

/* Pools come and go, and the thread stays, for one look at least; the child of
 * a fork begins anew. */
static const char *comes_and_goes(void)
{
	struct pp_pool *pool;
	int status;
	pid_t child;

	for (int i = 0; i < 20; i++) {
		pool = make("auto");
		EXPECT(pool && (i || !new_thread(pool)));
		EXPECT(watch_state() == WATCH_RUNNING);
		EXPECT(pp_pool_destroy(pool) == 0);
		child = fork();
		if (!child) {
			EXPECT(watch_state() == WATCH_NONE);
			pool = make("auto");
			_exit(!pool || new_thread(pool) ||
			      pp_pool_destroy(pool));
		}
		EXPECT(waitpid(child, &status, 0) == child && !status);
	}
	/* Or none, if it looked while there was no pool. */
	WITHIN(2, nr_threads() <= 2);
	return NULL;
}

/* Without the thread that would act there is none that watches. */
static const char *no_thread(void)
{
	struct pp_pool *pool;

	fault_arm(FAULT_THREAD, FAULT_ALWAYS);
	pool = make("auto");
	EXPECT(pool);
	EXPECT(watch_state() == WATCH_NONE && nr_threads() == 1);
	/* The second alone: tried again with the next thread. */
	fault_arm(FAULT_THREAD, 2);
	pool_start_threads(pool);
	EXPECT(watch_state() == WATCH_NONE && nr_threads() == 2);
	pool_start_threads(pool);
	EXPECT(watch_state() == WATCH_RUNNING && nr_threads() == 3);
	return NULL;
}

/* All pools are told, and reclaimd does not rest over it. */
static const char *all_pools_hear(void)
{
	char path[] = "/tmp/pagepool-watch.XXXXXX", fifo[64];
	struct pp_pool *pool[3];
	int fd;

	EXPECT(mkdtemp(path));
	snprintf(fifo, sizeof(fifo), "%s/fifo", path);
	EXPECT(mkfifo(fifo, 0600) == 0);
	setenv("MEMORY_PRESSURE_WATCH", fifo, 1);
	for (int i = 0; i < 3; i++)
		EXPECT((pool[i] = make("16M")));
	fd = open(fifo, O_WRONLY);
	EXPECT(write(fd, "x", 1) == 1);
	for (int i = 0; i < 3; i++) {
		WITHIN(2, load_relaxed(&pool[i]->registry.outside_pressure));
		EXPECT(pp_stat_read(pool[i], PP_STAT_PRESSURE_EVENTS) == 1);
		EXPECT(pp_pool_destroy(pool[i]) == 0);
	}
	unlink(fifo);
	rmdir(path);
	return NULL;
}

#define CASE(name, with_sanitizer)					\
	static void test_watch_##name(void **state)			\
	{								\
		(void)state;						\
		if (TEST_SANITIZED && !(with_sanitizer))		\
			test_skip("not with a sanitizer");		\
		run_case(name);						\
	}

/* Its shadow counts towards RLIMIT_DATA, it has threads, and does not like
 * threads after fork, nor one that nobody joins. */
CASE(no_table, false)
CASE(no_inotify, false)
CASE(nothing_then_auto, false)
CASE(comes_and_goes, false)
CASE(no_thread, false)
CASE(all_pools_hear, true)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_watch_no_table),
		TEST(test_watch_no_inotify),
		TEST(test_watch_nothing_then_auto),
		TEST(test_watch_comes_and_goes),
		TEST(test_watch_no_thread),
		TEST(test_watch_all_pools_hear),
	};

	return cmocka_run_group_tests_name("watch", tests, NULL, NULL);
}
