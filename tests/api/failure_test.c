/* SPDX-License-Identifier: MIT */
/*
 * What follows a NULL: one reason counted for each, by whatever call; the
 * thread's last one; the report, read back from the standard error of a child;
 * and the end of the program, if the setting oom says so.
 */
#include "testing.h"

#include <pagepool/cache.h>
#include <pagepool/numa.h>
#include <pagepool/reclaim.h>

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define SAID_BYTES	65536
#define MAX_RUNS	8192
#define MAX_OBJECTS	4096

/* Pools without a page to spare */

struct full_pool {
	struct pp_pool	*pool;
	size_t		nr_runs;
	void		*run[MAX_RUNS];
};

/* Takes what there is, and the reserve as well. */
static void fill_more(struct full_pool *full)
{
	void *run;

	while ((run = pp_alloc_pages(full->pool, 1, PP_MEMALLOC | PP_NOWARN))) {
		assert_in_range(full->nr_runs, 0, MAX_RUNS - 1);
		full->run[full->nr_runs++] = run;
	}
}

static void fill(struct full_pool *full, const char *limit)
{
	full->pool = pool_make_one_zone(limit);
	full->nr_runs = 0;
	fill_more(full);
	assert_true(full->nr_runs > 500);
}

static void empty(struct full_pool *full)
{
	pp_free_bulk(full->pool, full->nr_runs, full->run);
	pool_end(full->pool);
}

static int64_t reason_sum(const struct pp_stats *s)
{
	return s->failures_limit + s->failures_too_big +
	       s->failures_address_space + s->failures_os +
	       s->failures_purge + s->failures_nested +
	       s->failures_cannot_wait + s->failures_in_reclaim +
	       s->failures_scope + s->failures_timeout + s->failures_injected;
}

static int64_t failures(struct pp_pool *pool)
{
	struct pp_stats s = pool_stats(pool);

	assert_int_equal(reason_sum(&s), s.failures);
	assert_int_equal(pp_stat_read(pool, PP_STAT_FAILURES), s.failures);
	return s.failures;
}

static int64_t failures_of(struct pp_pool *pool, enum pp_failure why)
{
	return pp_stat_read(pool, (enum pp_stat)(PP_STAT_FAILURES_LIMIT +
						 (int)why - 1));
}

/* Names */

static void test_failure_names_are_those_of_the_statistics(void **state)
{
	struct pp_pool *pool = pool_make("8M");
	char text[16384], want[64];

	(void)state;
	assert_true(pp_report(pool, PP_FORMAT_TEXT, text, sizeof(text)) > 0);
	assert_string_equal(pp_failure_name(PP_FAILURE_NONE), "none");
	for (int i = 1; i < PP_NR_FAILURES; i++) {
		snprintf(want, sizeof(want), "\nfailures_%s 0\n",
			 pp_failure_name((enum pp_failure)i));
		assert_non_null(strstr(text, want));
	}
	assert_null(pp_failure_name(PP_NR_FAILURES));
	assert_null(pp_failure_name((enum pp_failure)-1));
	pool_end(pool);
	reached_end();
}

/* Each call that returns NULL counts once */

static bool by_alloc(struct full_pool *full)
{
	return !pp_alloc_pages(full->pool, 3, PP_NOWARN);
}

static bool by_aligned(struct full_pool *full)
{
	return !pp_alloc_aligned(full->pool, 2, 64, PP_NOWARN);
}

static bool by_zero(struct full_pool *full)
{
	return !pp_alloc_pages(full->pool, 1, PP_ZERO | PP_NOWARN);
}

static bool by_bulk(struct full_pool *full)
{
	void *out[4];

	return pp_alloc_bulk(full->pool, 4, 2, out, PP_NOWARN) == 0 &&
	       errno == ENOMEM;
}

static bool by_node(struct full_pool *full)
{
	return !pp_numa_alloc(full->pool, 0, 1, PP_NOWARN);
}

static bool by_realloc(struct full_pool *full)
{
	return !pp_realloc_pages(full->pool, full->run[7], 600, PP_NOWARN);
}

static bool by_realloc_of_nothing(struct full_pool *full)
{
	return !pp_realloc_pages(full->pool, NULL, 2, PP_NOWARN);
}

static bool by_realloc_too_big(struct full_pool *full)
{
	return !pp_realloc_pages(full->pool, full->run[7], SIZE_MAX,
				 PP_NOWARN);
}

static bool by_too_many_pages(struct full_pool *full)
{
	return !pp_alloc_pages(full->pool, SIZE_MAX, PP_NOWARN);
}

static bool by_more_than_the_limit(struct full_pool *full)
{
	return !pp_alloc_pages(full->pool, 1 << 20, PP_NOWARN);
}

static bool by_huge_alignment(struct full_pool *full)
{
	return !pp_alloc_aligned(full->pool, 1, (size_t)1 << 60, PP_NOWARN);
}

static bool by_not_waiting(struct full_pool *full)
{
	return !pp_alloc_pages(full->pool, 1, PP_NOWAIT | PP_NOWARN);
}

static bool by_not_retrying(struct full_pool *full)
{
	return !pp_alloc_pages(full->pool, 1, PP_NORETRY | PP_NOWARN);
}

static bool by_no_callbacks(struct full_pool *full)
{
	return !pp_alloc_pages(full->pool, 1, PP_NOFS | PP_NOWARN);
}

static bool by_freeing_memory(struct full_pool *full)
{
	unsigned saved = pp_scope_enter(PP_MEMALLOC);
	bool failed = !pp_alloc_pages(full->pool, 1, PP_NOWARN);

	pp_scope_leave(saved);
	return failed;
}

static const struct {
	bool		(*fails)(struct full_pool *full);
	enum pp_failure	why;
} nulls[] = {
	{ by_alloc, PP_FAILURE_LIMIT },
	{ by_aligned, PP_FAILURE_LIMIT },
	{ by_zero, PP_FAILURE_LIMIT },
	{ by_bulk, PP_FAILURE_LIMIT },
	{ by_node, PP_FAILURE_LIMIT },
	{ by_realloc, PP_FAILURE_LIMIT },
	{ by_realloc_of_nothing, PP_FAILURE_LIMIT },
	{ by_realloc_too_big, PP_FAILURE_TOO_BIG },
	{ by_too_many_pages, PP_FAILURE_TOO_BIG },
	{ by_more_than_the_limit, PP_FAILURE_TOO_BIG },
	{ by_huge_alignment, PP_FAILURE_TOO_BIG },
	{ by_not_waiting, PP_FAILURE_CANNOT_WAIT },
	{ by_not_retrying, PP_FAILURE_CANNOT_WAIT },
	{ by_no_callbacks, PP_FAILURE_LIMIT },
	{ by_freeing_memory, PP_FAILURE_IN_RECLAIM },
};

static void test_failure_each_null_counts_one_reason(void **state)
{
	struct full_pool full;

	(void)state;
	fill(&full, "8M");
	for (size_t i = 0; i < COUNT_OF(nulls); i++) {
		int64_t all = failures(full.pool), of_why;
		enum pp_failure why;

		errno = 0;
		assert_true(nulls[i].fails(&full));
		assert_int_equal(errno, ENOMEM);
		why = pp_last_failure();
		assert_int_equal(why, nulls[i].why);
		assert_int_equal(failures(full.pool), all + 1);
		/* It was this counter that grew. */
		of_why = failures_of(full.pool, why);
		assert_true(nulls[i].fails(&full));
		assert_int_equal(failures_of(full.pool, why), of_why + 1);
	}
	empty(&full);
	reached_end();
}

/* Objects: those of the last slabs go first, until the first failure. */
static void test_failure_caches_and_their_objects_count(void **state)
{
	static struct pp_cache *cache[MAX_OBJECTS];
	static void *object[MAX_OBJECTS];
	struct full_pool full;
	struct pp_cache *first;
	int64_t before;
	size_t n = 0;
	int err;

	(void)state;
	full.pool = pool_make_one_zone("8M");
	full.nr_runs = 0;
	assert_int_equal(pp_cache_create(full.pool, "objects", 3000, 0,
					 &first), 0);
	fill_more(&full);
	before = failures(full.pool);
	while ((object[n] = pp_cache_alloc(first, PP_NOWARN)))
		assert_in_range(++n, 0, MAX_OBJECTS - 1);
	assert_int_equal(failures(full.pool), before + 1);
	assert_int_equal(pp_last_failure(), PP_FAILURE_LIMIT);
	while (n)
		pp_cache_free(first, object[--n]);
	/* What that gave back, to runs again. */
	pp_pool_drain(full.pool);
	fill_more(&full);
	before = failures(full.pool);
	while (!(err = pp_cache_create(full.pool, "x", 64, 0, &cache[n])))
		assert_in_range(++n, 0, MAX_OBJECTS - 1);
	assert_int_equal(err, -ENOMEM);
	assert_int_equal(failures(full.pool), before + 1);
	while (n)
		assert_int_equal(pp_cache_destroy(cache[--n]), 0);
	assert_int_equal(pp_cache_destroy(first), 0);
	empty(&full);
	reached_end();
}

static size_t count_nothing(void *arg, struct pp_shrink *shrink)
{
	(void)arg;
	(void)shrink;
	return PP_SHRINK_EMPTY;
}

static size_t scan_nothing(void *arg, struct pp_shrink *shrink)
{
	(void)arg;
	(void)shrink;
	return PP_SHRINK_STOP;
}

static const struct pp_shrinker nothing = {
	.struct_bytes = sizeof(nothing),
	.name = "nothing \"much\"",
	.count = count_nothing,
	.scan = scan_nothing,
	.seeks = PP_SHRINKER_SEEKS,
};

static void test_failure_shrinkers_count(void **state)
{
	static struct pp_shrinker_id *id[MAX_OBJECTS];
	struct full_pool full;
	int64_t before;
	size_t n = 0;
	int err;

	(void)state;
	fill(&full, "8M");
	before = failures(full.pool);
	while (!(err = pp_shrinker_register(full.pool, &nothing, &id[n])))
		assert_in_range(++n, 0, MAX_OBJECTS - 1);
	assert_int_equal(err, -ENOMEM);
	assert_int_equal(failures(full.pool), before + 1);
	while (n)
		pp_shrinker_unregister(id[--n]);
	empty(&full);
	reached_end();
}

/* Neither wrong arguments nor what succeeds without memory is a failure. */
static void test_failure_other_outcomes_do_not_count(void **state)
{
	struct full_pool full;
	int64_t before;
	void *run;

	(void)state;
	fill(&full, "8M");
	assert_null(pp_alloc_pages(full.pool, SIZE_MAX, PP_NOWARN));
	before = failures(full.pool);
	assert_null(pp_alloc_pages(full.pool, 0, 0));
	assert_null(pp_alloc_pages(full.pool, 1, 1u << 31));
	assert_null(pp_alloc_aligned(full.pool, 1, 3, 0));
	assert_null(pp_numa_alloc(full.pool, 77, 1, 0));
	assert_int_equal(errno, ENOENT);
	pp_free_pages(full.pool, full.run[--full.nr_runs]);
	run = pp_alloc_pages(full.pool, 1, PP_MEMALLOC);
	assert_non_null(run);
	errno = 0;
	assert_ptr_equal(pp_realloc_pages(full.pool, run, 1, 0), run);
	assert_int_equal(errno, 0);
	assert_int_equal(failures(full.pool), before);
	assert_int_equal(pp_last_failure(), PP_FAILURE_TOO_BIG);
	pp_free_pages(full.pool, run);
	empty(&full);
	reached_end();
}

/* Threads */

static struct full_pool shared;

static void *fail_too_big(void *arg)
{
	thread_check(pp_last_failure() == PP_FAILURE_NONE);
	for (int i = 0; i < 100; i++) {
		thread_check(by_too_many_pages(&shared));
		thread_check(pp_last_failure() == PP_FAILURE_TOO_BIG);
	}
	return arg;
}

static void *fail_at_limit(void *arg)
{
	thread_check(pp_last_failure() == PP_FAILURE_NONE);
	for (int i = 0; i < 100; i++) {
		thread_check(by_alloc(&shared));
		thread_check(pp_last_failure() == PP_FAILURE_LIMIT);
	}
	return arg;
}

static void *fail_never(void *arg)
{
	struct pp_pool *pool = arg;

	for (int i = 0; i < 100; i++)
		pp_free_pages(pool, pp_alloc_pages(pool, 1, 0));
	thread_check(pp_last_failure() == PP_FAILURE_NONE);
	return arg;
}

static void test_failure_last_reason_is_the_threads_own(void **state)
{
	struct pp_pool *other = pool_make("8M");
	pthread_t thread[6];
	int64_t before;

	(void)state;
	fill(&shared, "8M");
	before = failures(shared.pool);
	for (size_t i = 0; i < COUNT_OF(thread); i++)
		assert_int_equal(pthread_create(&thread[i], NULL, i % 3 == 0 ?
						fail_too_big : i % 3 == 1 ?
						fail_at_limit : fail_never,
						other), 0);
	for (size_t i = 0; i < COUNT_OF(thread); i++)
		pthread_join(thread[i], NULL);
	assert_threads_ok();
	assert_int_equal(failures(shared.pool), before + 400);
	assert_int_equal(failures(other), 0);
	pool_end(other);
	empty(&shared);
	reached_end();
}

/* The report, from a child */

struct said {
	char	text[SAID_BYTES];
	int	status;
	pid_t	pid;
};

static struct said said;

static void child(int err, void (*act)(void))
{
	struct rlimit none = { 0, 0 };

	setrlimit(RLIMIT_CORE, &none);
	signal(SIGABRT, SIG_DFL);
	dup2(err, 2);
	act();
	_exit(0);
}

static void listen_to(void (*act)(void))
{
	size_t len = 0;
	ssize_t got;
	int fd[2];

	fflush(stdout);
	assert_int_equal(pipe(fd), 0);
	said.pid = fork();
	assert_true(said.pid >= 0);
	if (said.pid == 0)
		child(fd[1], act);
	close(fd[1]);
	while (len < SAID_BYTES - 1 &&
	       (got = read(fd[0], said.text + len, SAID_BYTES - 1 - len)) > 0)
		len += (size_t)got;
	said.text[len] = '\0';
	close(fd[0]);
	assert_int_equal(waitpid(said.pid, &said.status, 0), said.pid);
}

static void assert_lived(void)
{
	if (said.status)
		print_message("# status %#x: %s\n", (unsigned)said.status,
			      said.text);
	assert_int_equal(said.status, 0);
}

static void assert_aborted(void)
{
	assert_true(WIFSIGNALED(said.status));
	assert_int_equal(WTERMSIG(said.status), SIGABRT);
}

static unsigned nr_said(const char *what)
{
	const char *at = said.text;
	unsigned n = 0;

	while ((at = strstr(at, what))) {
		at += strlen(what);
		n++;
	}
	return n;
}

static void assert_said(const char *what)
{
	if (!strstr(said.text, what))
		print_message("# no \"%s\" in: %s\n", what, said.text);
	assert_non_null(strstr(said.text, what));
}

/* The value of a key in the line for programs. */
static const char *json_value(const char *key)
{
	const char *line = strstr(said.text, "\npagepool: oom: {");
	char want[64];

	assert_non_null(line);
	snprintf(want, sizeof(want), "\"%s\": ", key);
	line = strstr(line, want);
	assert_non_null(line);
	return line + strlen(want);
}

static long long json_number(const char *key)
{
	return strtoll(json_value(key), NULL, 10);
}

static void assert_json_string(const char *key, const char *want)
{
	assert_int_equal(strncmp(json_value(key), want, strlen(want)), 0);
}

/* Each line begins with the name, and the last one is an object that ends. */
static void assert_whole_report(void)
{
	size_t len = strlen(said.text);
	int depth = 0, nr_objects = 0;

	assert_int_equal(nr_said("pagepool: out of memory: asked "), 1);
	assert_int_equal(nr_said("pagepool: oom: {"), 1);
	assert_int_equal(strncmp(said.text, "pagepool: out of", 16), 0);
	assert_int_equal(nr_said("\npagepool: ") + 1, nr_said("\n"));
	assert_true(len > 3);
	assert_string_equal(said.text + len - 3, "}}\n");
	for (const char *c = strstr(said.text, ": {"); *c; c++) {
		depth += *c == '{' ? 1 : *c == '}' ? -1 : 0;
		nr_objects += *c == '{';
		assert_in_range(depth, 0, 2);
	}
	assert_int_equal(depth, 0);
	assert_int_equal(nr_objects, 2);
}

static void fail_in_a_thread_with_a_name(void)
{
	struct pp_shrinker_id *id;

	pthread_setname_np(pthread_self(), "a \"name\"");
	shared.pool = pool_make_one_zone("8M");
	if (pp_shrinker_register(shared.pool, &nothing, &id))
		_exit(3);
	if (pp_alloc_pages(shared.pool, 1900, 0) == NULL ||
	    pp_alloc_pages(shared.pool, 1700, PP_NOIO | PP_ZERO))
		_exit(4);
}

static void test_failure_report_says_what_and_who(void **state)
{
	(void)state;
	listen_to(fail_in_a_thread_with_a_name);
	assert_lived();
	assert_whole_report();
	assert_said("asked 6963200 bytes (reason: ");
	assert_said("; limit 8388608 used ");
	assert_said("failure_test[");
	assert_said("\npagepool:   why: the limit");
	assert_said(" \"a \\\"name\\\"\", flags PP_ZERO PP_NOIO\n");
	assert_said("\npagepool:   zone 0 (node ");
	assert_said("\npagepool:   users: page runs 76");
	assert_said("\npagepool:   slabs: ");
	assert_said("\npagepool:   shrinkers: \"nothing \\\"much\\\"\" had 0 ");
	assert_said("\npagepool:   failures: ");
	assert_int_equal(nr_said("left out:"), 0);
	assert_int_equal(json_number("asked_bytes"), 6963200);
	assert_int_equal(json_number("pid"), said.pid);
	assert_int_equal(json_number("tid"), said.pid);
	assert_int_equal(json_number("left_out"), 0);
	assert_int_equal(json_number("limit_pages"), 2048);
	assert_int_equal(json_number("failures"), 1);
	assert_in_range(json_number("used_pages"), 1900, 1950);
	assert_json_string("thread", "\"a \\\"name\\\"\",");
	assert_json_string("flags", "[\"PP_ZERO\", \"PP_NOIO\"],");
	assert_json_string("stuck", "null");
	reached_end();
}

/* A callback that does not return: its thread may be any, the pool's own
 * included.  Who waits for it gives up, and the report says because of whom. */

static _Atomic bool is_inside, may_return;

static size_t count_some(void *arg, struct pp_shrink *shrink)
{
	(void)arg;
	(void)shrink;
	return 1000;
}

static size_t scan_and_hang(void *arg, struct pp_shrink *shrink)
{
	(void)arg;
	(void)shrink;
	atomic_store(&is_inside, true);
	while (!atomic_load(&may_return))
		sched_yield();
	return PP_SHRINK_STOP;
}

static const struct pp_shrinker hanging = {
	.struct_bytes = sizeof(hanging),
	.name = "the one that hangs",
	.count = count_some,
	.scan = scan_and_hang,
	.seeks = PP_SHRINKER_SEEKS,
};

static void *enter_shrinker(void *arg)
{
	while (!atomic_load(&is_inside))
		pp_alloc_pages(shared.pool, 1, PP_NOWARN);
	return arg;
}

static void fail_beside_a_stuck_callback(void)
{
	struct pp_shrinker_id *id;
	pthread_t thread;

	shared.pool = pool_make_one_zone("8M");
	if (pp_shrinker_register(shared.pool, &hanging, &id))
		_exit(3);
	if (!pp_alloc_pages(shared.pool, 1900, 0) ||
	    pthread_create(&thread, NULL, enter_shrinker, NULL))
		_exit(4);
	while (!atomic_load(&is_inside))
		sched_yield();
	if (pp_alloc_pages(shared.pool, 1700, 0))
		_exit(5);
	atomic_store(&may_return, true);
	pthread_join(thread, NULL);
	pp_shrinker_unregister(id);
}

static size_t use_some(void *arg)
{
	(void)arg;
	return 1000;
}

static void cancel_and_hang(void *arg)
{
	(void)arg;
	atomic_store(&is_inside, true);
	while (!atomic_load(&may_return))
		sched_yield();
}

static const struct pp_victim deaf = {
	.struct_bytes = sizeof(deaf),
	.name = "the deaf one",
	.usage = use_some,
	.cancel = cancel_and_hang,
};

/* The second waits until it is no use any more; the third fails at once. */
static void fail_beside_a_stuck_victim(void)
{
	struct pp_victim_id *id;
	pthread_t thread;

	shared.pool = pool_make_one_zone("8M");
	if (pp_victim_register(shared.pool, &deaf, &id))
		_exit(3);
	if (!pp_alloc_pages(shared.pool, 1900, 0) ||
	    pthread_create(&thread, NULL, enter_shrinker, NULL))
		_exit(4);
	while (!atomic_load(&is_inside))
		sched_yield();
	if (pp_alloc_pages(shared.pool, 1700, PP_NOWARN) ||
	    pp_alloc_pages(shared.pool, 1700, 0))
		_exit(5);
	atomic_store(&may_return, true);
	pthread_join(thread, NULL);
	pp_victim_unregister(id);
}

static void test_failure_report_names_the_victim_that_is_stuck(void **state)
{
	(void)state;
	listen_to(fail_beside_a_stuck_victim);
	assert_lived();
	assert_whole_report();
	assert_said("\npagepool:   stuck: the callback \"the deaf one\"");
	assert_json_string("stuck", "\"the deaf one\"");
	reached_end();
}

static void test_failure_report_names_the_callback_that_is_stuck(void **state)
{
	(void)state;
	listen_to(fail_beside_a_stuck_callback);
	assert_lived();
	assert_whole_report();
	assert_said("\npagepool:   stuck: the callback \"the one that hangs\"");
	assert_said("\"the one that hangs\" had 1000 objects, 0 put off, "
		    "is at work\n");
	assert_json_string("stuck", "\"the one that hangs\"");
	reached_end();
}

/* Nothing to be had, neither from the pool nor from the kernel. */
static void fail_without_any_memory(void)
{
	struct rlimit none = { 0, 0 };

	fill(&shared, "8M");
	setrlimit(RLIMIT_AS, &none);
	setrlimit(RLIMIT_DATA, &none);
	if (pp_alloc_pages(shared.pool, 1, 0))
		_exit(3);
	if (pp_last_failure() != PP_FAILURE_LIMIT)
		_exit(4);
}

static void test_failure_report_needs_no_memory(void **state)
{
	(void)state;
	if (TEST_SANITIZED) {
		test_skip("a sanitizer needs address space of its own");
		return;
	}
	listen_to(fail_without_any_memory);
	assert_lived();
	assert_whole_report();
	reached_end();
}

static void fail_often(void)
{
	fill(&shared, "8M");
	for (int i = 0; i < 1000; i++)
		if (pp_alloc_pages(shared.pool, 1, 0))
			_exit(3);
	if (failures(shared.pool) != 1001)
		_exit(4);
}

static void fail_often_and_verbosely(void)
{
	setenv("PAGEPOOL_VERBOSE", "1", 1);
	fail_often();
}

static void test_failure_only_the_first_is_reported(void **state)
{
	(void)state;
	listen_to(fail_often);
	assert_lived();
	assert_whole_report();
	listen_to(fail_often_and_verbosely);
	assert_lived();
	assert_whole_report();
	reached_end();
}

static void *fail_a_lot(void *arg)
{
	for (int i = 0; i < 500; i++)
		thread_check(!pp_alloc_pages(shared.pool, 1, 0));
	return arg;
}

static void fail_in_threads(void)
{
	pthread_t thread[8];

	fill(&shared, "8M");
	pp_pool_set(shared.pool, "verbose", "1");
	for (size_t i = 0; i < COUNT_OF(thread); i++)
		if (pthread_create(&thread[i], NULL, fail_a_lot, NULL))
			_exit(3);
	for (size_t i = 0; i < COUNT_OF(thread); i++)
		pthread_join(thread[i], NULL);
	if (failures(shared.pool) != 4001 || thread_failures)
		_exit(4);
}

static void test_failure_threads_do_not_mix_their_reports(void **state)
{
	(void)state;
	listen_to(fail_in_threads);
	assert_lived();
	assert_whole_report();
	reached_end();
}

static void fail_silently(void)
{
	fill(&shared, "8M");
	for (size_t i = 0; i < COUNT_OF(nulls); i++)
		nulls[i].fails(&shared);
}

static void test_failure_nowarn_prints_nothing(void **state)
{
	(void)state;
	listen_to(fail_silently);
	assert_lived();
	assert_string_equal(said.text, "");
	reached_end();
}

/* Stderr that nobody reads, or that is closed, hurts nobody. */
static void fail_with_stderr_closed(void)
{
	fill(&shared, "8M");
	close(2);
	if (pp_alloc_pages(shared.pool, 1, 0))
		_exit(3);
}

static void test_failure_without_stderr_goes_on(void **state)
{
	(void)state;
	listen_to(fail_with_stderr_closed);
	assert_lived();
	assert_string_equal(said.text, "");
	reached_end();
}

/* oom = abort */

static void abort_at_limit(void)
{
	setenv("PAGEPOOL_OOM", "abort", 1);
	fill(&shared, "8M");
	pp_alloc_pages(shared.pool, 1, 0);
}

static void abort_too_big(void)
{
	shared.pool = pool_make("8M");
	pp_pool_set(shared.pool, "oom", "abort");
	pp_alloc_pages(shared.pool, SIZE_MAX, 0);
}

/* Also where a report was made already, and more are not wanted. */
static void abort_after_a_report(void)
{
	fill(&shared, "8M");
	pp_alloc_pages(shared.pool, 1, 0);
	pp_pool_set(shared.pool, "oom", "abort");
	pp_alloc_pages(shared.pool, 1, 0);
}

static void test_failure_aborts_if_told_so(void **state)
{
	(void)state;
	listen_to(abort_at_limit);
	assert_aborted();
	assert_whole_report();
	assert_json_string("reason", "\"limit\"");
	listen_to(abort_too_big);
	assert_aborted();
	assert_whole_report();
	assert_json_string("reason", "\"too_big\"");
	assert_int_equal(strncmp(said.text, "pagepool: out of memory: asked "
				 "18446744073709551615 bytes", 57), 0);
	listen_to(abort_after_a_report);
	assert_aborted();
	assert_int_equal(nr_said("pagepool: oom: {"), 2);
	reached_end();
}

static void abort_in_threads(void)
{
	setenv("PAGEPOOL_OOM", "abort", 1);
	fail_in_threads();
}

static void test_failure_aborts_in_the_middle_of_threads(void **state)
{
	(void)state;
	listen_to(abort_in_threads);
	assert_aborted();
	assert_true(nr_said("pagepool: oom: {") >= 1);
	assert_true(nr_said("}}\n") >= 1);
	reached_end();
}

/* Who forbids something gets NULL, and so does everybody once it is "fail"
 * again. */
static void expect_null(void)
{
	static const unsigned flags[] = {
		PP_NOWARN, PP_NOWAIT, PP_ATOMIC, PP_NORETRY, PP_NOFS, PP_NOIO,
		PP_MEMALLOC, PP_THISNODE, PP_RETRY_MAYFAIL,
	};
	unsigned saved;

	setenv("PAGEPOOL_OOM", "abort", 1);
	fill(&shared, "8M");
	for (size_t i = 0; i < COUNT_OF(flags); i++)
		if (pp_alloc_pages(shared.pool, 1, flags[i]))
			_exit(3);
	saved = pp_scope_enter(PP_NOFS);
	if (pp_alloc_pages(shared.pool, 1, 0))
		_exit(4);
	pp_scope_leave(saved);
	if (pp_pool_set(shared.pool, "oom", "fail") ||
	    pp_alloc_pages(shared.pool, 1, 0))
		_exit(5);
	_exit(failures(shared.pool) == COUNT_OF(flags) + 3 ? 0 : 6);
}

static void test_failure_aborts_nobody_who_expects_null(void **state)
{
	(void)state;
	listen_to(expect_null);
	assert_lived();
	assert_whole_report();
	reached_end();
}

/* Standard error that nobody reads */

static int fail_into(int fd)
{
	struct full_pool *full = test_array(1, sizeof(*full));
	sigset_t pending;

	dup2(fd, 2);
	fill(full, "8M");
	if (pp_alloc_pages(full->pool, 1, 0) ||
	    pp_alloc_pages(full->pool, 1 << 20, 0))
		return 1;
	sigpending(&pending);
	return sigismember(&pending, SIGPIPE) ? 2 : 0;
}

static void expect_to_live(int fd)
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		alarm(60);
		_exit(fail_into(fd));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void test_failure_report_that_nobody_reads_kills_nobody(void **state)
{
	int fd[2];

	(void)state;
	assert_int_equal(pipe(fd), 0);
	close(fd[0]);
	expect_to_live(fd[1]);
	close(fd[1]);
	reached_end();
}

static void test_failure_report_into_a_full_pipe_holds_nobody(void **state)
{
	char text[4096] = "";
	int fd[2], flags;

	(void)state;
	assert_int_equal(pipe(fd), 0);
	flags = fcntl(fd[1], F_GETFL);
	assert_int_equal(fcntl(fd[1], F_SETFL, flags | O_NONBLOCK), 0);
	while (write(fd[1], text, sizeof(text)) > 0)
		;
	assert_int_equal(fcntl(fd[1], F_SETFL, flags), 0);
	expect_to_live(fd[1]);
	close(fd[0]);
	close(fd[1]);
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_failure_report_that_nobody_reads_kills_nobody),
		TEST(test_failure_report_into_a_full_pipe_holds_nobody),
		TEST(test_failure_names_are_those_of_the_statistics),
		TEST(test_failure_each_null_counts_one_reason),
		TEST(test_failure_caches_and_their_objects_count),
		TEST(test_failure_shrinkers_count),
		TEST(test_failure_other_outcomes_do_not_count),
		TEST(test_failure_last_reason_is_the_threads_own),
		TEST(test_failure_report_says_what_and_who),
		TEST(test_failure_report_names_the_callback_that_is_stuck),
		TEST(test_failure_report_names_the_victim_that_is_stuck),
		TEST(test_failure_report_needs_no_memory),
		TEST(test_failure_only_the_first_is_reported),
		TEST(test_failure_threads_do_not_mix_their_reports),
		TEST(test_failure_nowarn_prints_nothing),
		TEST(test_failure_without_stderr_goes_on),
		TEST(test_failure_aborts_if_told_so),
		TEST(test_failure_aborts_in_the_middle_of_threads),
		TEST(test_failure_aborts_nobody_who_expects_null),
	};

	test_clear_environment();
	unsetenv("PAGEPOOL_OOM");
	return cmocka_run_group_tests_name("failure", tests, NULL, NULL);
}
