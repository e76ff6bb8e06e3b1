/* SPDX-License-Identifier: MIT */
/*
 * The report's lines from given facts, to the letter; which failures stop the
 * program; how many are left out; and that a thread that cannot get rid of its
 * report keeps nobody.
 */
#include "../api/testing.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "failure.h"
#include "os/os.h"

#define TEXT_BYTES	16384

static char text[TEXT_BYTES];

/* Lines */

static struct failure_facts some_facts(void)
{
	struct failure_facts f = {
		.request = { 12345, PP_NOFS | PP_ZERO, FAILURE_TIMEOUT },
		.program = "prog",
		.pid = 7,
		.tid = 8,
		.thread = "w\"1\n\xff",
		.stats = {
			.limit_pages = 2048,
			.used_pages = 300,
			.slab_pages = 100,
			.slab_free_bytes = 2048,
			.cached_pages = 2,
			.free_pages = 5,
			.min_pages = 1,
			.nr_threads = 3,
			.reserved_pages = 4,
			.metadata_pages = 6,
			.failures_limit = 10,
			.failures_timeout = 2,
		},
		.nr_classes = 2,
		.class = { { 64, { 60, 1000 } }, { 1024, { 40, 9 } } },
		.nr_shrinkers = 7,
	};

	for (unsigned i = 0; i < FAILURE_MAX_SHRINKERS; i++)
		f.shrinker[i] = (struct shrinker_fact){ "cache", 50, i,
							i == 1 };
	return f;
}

static void test_failure_head_says_what_was_asked(void **state)
{
	struct failure_facts f = some_facts();
	struct strbuf sb = STRBUF(text);

	(void)state;
	failure_add_head(&sb, &f);
	assert_string_equal(text,
		"pagepool: out of memory: asked 12345 bytes (reason: timeout; "
		"limit 8388608 used 1228800 cached 8192 free 20480 "
		"reserve 4096; prog[7])\n"
		"pagepool:   why: the limit, and help took too long\n"
		"pagepool:   who: thread 8 \"w\\\"1??\", "
		"flags PP_ZERO PP_NOFS\n");
	sb.len = 0;
	f.request.flags = 0;
	failure_add_head(&sb, &f);
	assert_non_null(strstr(text, "thread 8 \"w\\\"1??\"\n"));
	reached_end();
}

static void test_failure_zone_says_its_numbers(void **state)
{
	const struct pp_stats s = {
		.free_pages = 1, .min_pages = 2, .low_pages = 3,
		.high_pages = 4, .managed_pages = 500, .used_pages = 490,
		.cached_pages = -1, .backed_pages = 499, .isolated_pages = 9,
	};
	struct strbuf sb = STRBUF(text);

	(void)state;
	failure_add_zone(&sb, 2, 5, &s);
	assert_string_equal(text,
		"pagepool:   zone 2 (node 5): free 4K min 8K low 12K high 16K "
		"managed 2000K used 1960K cached 0K backed 1996K "
		"isolated 36K\n");
	reached_end();
}

static void test_failure_users_are_named(void **state)
{
	struct failure_facts f = some_facts();
	struct strbuf sb = STRBUF(text);

	(void)state;
	strcpy(f.stuck, "slow one");
	failure_add_users(&sb, &f);
	assert_string_equal(text,
		"pagepool:   users: page runs 800K, slabs 400K (2K free), "
		"thread caches 8K (3 threads), reserves 16K, tables 24K\n"
		"pagepool:   slabs: 64 bytes 240K (1000 objects), "
		"1024 bytes 160K (9 objects)\n"
		"pagepool:   shrinkers: \"cache\" had 50 objects, 0 put off, "
		"\"cache\" had 50 objects, 1 put off, is at work, "
		"\"cache\" had 50 objects, 2 put off, "
		"\"cache\" had 50 objects, 3 put off, "
		"\"cache\" had 50 objects, 4 put off, and more: 2\n"
		"pagepool:   stuck: the callback \"slow one\"\n");
	sb.len = 0;
	f.nr_classes = f.nr_shrinkers = 0;
	f.stuck[0] = '\0';
	failure_add_users(&sb, &f);
	assert_null(strchr(strchr(text, '\n') + 1, '\n'));
	reached_end();
}

static void test_failure_counts_leave_out_zeroes(void **state)
{
	struct failure_facts f = some_facts();
	struct strbuf sb = STRBUF(text);

	(void)state;
	failure_add_counts(&sb, &f);
	assert_string_equal(text,
			    "pagepool:   failures: limit 10, timeout 2\n");
	sb.len = 0;
	f.nr_left_out = 77;
	failure_add_counts(&sb, &f);
	assert_string_equal(text,
		"pagepool:   failures: limit 10, timeout 2\n"
		"pagepool:   left out: 77 failures since the last report\n");
	reached_end();
}

static void test_failure_machine_line_is_one_object(void **state)
{
	static const char head[] =
		"pagepool: oom: {\"asked_bytes\": 12345, "
		"\"reason\": \"timeout\", \"program\": \"prog\", \"pid\": 7, "
		"\"tid\": 8, \"thread\": \"w\\\"1??\", "
		"\"flags\": [\"PP_ZERO\", \"PP_NOFS\"], \"left_out\": 0, "
		"\"stuck\": null, \"stats\": {\"limit_pages\": 2048, ";
	struct failure_facts f = some_facts();
	struct strbuf sb = STRBUF(text);

	(void)state;
	failure_add_machine(&sb, &f);
	assert_int_equal(strncmp(text, head, strlen(head)), 0);
	assert_non_null(strstr(text, ", \"failures_limit\": 10, "));
	assert_string_equal(text + strlen(text) - 3, "}}\n");
	assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
	sb.len = 0;
	f.request.flags = 0;
	strcpy(f.stuck, "slow");
	failure_add_machine(&sb, &f);
	assert_non_null(strstr(text, "\"flags\": [], \"left_out\": 0, "
				     "\"stuck\": \"slow\", "));
	reached_end();
}

/* All numbers as long as they get, all names as long as they may be. */
static void test_failure_longest_line_fits(void **state)
{
	struct failure_facts f = some_facts();
	struct strbuf sb = STRBUF(text);

	(void)state;
	memset(&f.stats, 0x80, sizeof(f.stats));
	f.request = (struct failure_request){ SIZE_MAX, UINT32_MAX,
					      FAILURE_ADDRESS_SPACE };
	f.nr_left_out = f.pid = f.tid = UINT64_MAX;
	f.program = "a program with a name that goes on for more than the "
		    "sixty-four characters which are all that is said of it";
	memset(f.thread, '"', sizeof(f.thread) - 1);
	memset(f.stuck, '"', sizeof(f.stuck) - 1);
	failure_add_machine(&sb, &f);
	assert_in_range(sb.len, 1000, 3071);
	assert_int_equal(text[sb.len - 1], '\n');
	reached_end();
}

/* Which failures stop the program */

static void test_failure_abort_needs_a_request_that_tries_all(void **state)
{
	static const unsigned forbid[] = {
		PP_NOWAIT, PP_NORETRY, PP_NOWARN, PP_THISNODE, PP_NOIO,
		PP_NOFS, PP_MEMALLOC, PP_RETRY_MAYFAIL,
	};
	unsigned nr_never = 0;

	(void)state;
	for (unsigned why = 0; why < NR_FAILURES; why++) {
		bool aborts = failure_aborts(0, why);

		nr_never += !aborts;
		assert_int_equal(failure_aborts(PP_ZERO | PP_HIGH, why),
				 aborts);
		for (size_t i = 0; i < COUNT_OF(forbid); i++)
			assert_false(failure_aborts(forbid[i], why));
	}
	assert_int_equal(nr_never, 4);
	assert_true(failure_aborts(0, FAILURE_LIMIT));
	assert_true(failure_aborts(0, FAILURE_TIMEOUT));
	assert_false(failure_aborts(0, FAILURE_NESTED));
	assert_false(failure_aborts(0, FAILURE_IN_RECLAIM));
	reached_end();
}

/* Counting */

static void test_failure_each_reason_has_its_counter(void **state)
{
	struct pp_pool *pool = pool_make("8M");

	(void)state;
	for (unsigned why = 0; why < NR_FAILURES; why++) {
		enum pp_stat stat = PP_STAT_FAILURES_LIMIT + why;

		pool_failed(pool, 1, PP_NOWARN, why);
		pool_failed(pool, 1, PP_NOWARN, why);
		assert_int_equal(pp_stat_read(pool, stat), 2);
		assert_int_equal(pp_stat_bound(pool, stat), 0);
		assert_int_equal(pp_last_failure(), why + 1);
		assert_string_equal(pp_failure_name(pp_last_failure()),
				    failure_name(why));
	}
	assert_int_equal(pool_stats(pool).failures, 2 * NR_FAILURES);
	pool_failed(NULL, 1, 0, FAILURE_OS);
	assert_int_equal(pp_last_failure(), PP_FAILURE_OS);
	pool_end(pool);
	reached_end();
}

/* What is said to a file in place of standard error */

static int saved_stderr, said_fd;

static void listen_begin(void)
{
	saved_stderr = dup(2);
	said_fd = memfd_create("said", 0);
	assert_true(saved_stderr >= 0 && said_fd >= 0);
	assert_int_equal(dup2(said_fd, 2), 2);
}

/* What came since the last call. */
static const char *heard(void)
{
	ssize_t n = pread(said_fd, text, sizeof(text) - 1, 0);

	assert_true(n >= 0);
	text[n] = '\0';
	assert_int_equal(ftruncate(said_fd, 0), 0);
	assert_int_equal(lseek(said_fd, 0, SEEK_SET), 0);
	return text;
}

static void listen_end(void)
{
	dup2(saved_stderr, 2);
	close(saved_stderr);
	close(said_fd);
}

static void fail_at_limit(struct pp_pool *pool)
{
	pool_failed(pool, 4096, 0, FAILURE_LIMIT);
}

static void test_failure_reports_are_rationed(void **state)
{
	struct pp_pool *pool = pool_make("8M");

	(void)state;
	listen_begin();
	fail_at_limit(pool);
	assert_non_null(strstr(heard(), "\"left_out\": 0,"));
	for (int i = 0; i < 5; i++)
		fail_at_limit(pool);
	pool_failed(pool, 4096, PP_NOWARN, FAILURE_LIMIT);
	assert_string_equal(heard(), "");
	/* Ten seconds later, but nobody wants to know. */
	store_relaxed(&pool->next_report_ns, 1);
	fail_at_limit(pool);
	assert_string_equal(heard(), "");
	assert_int_equal(pp_pool_set(pool, "verbose", "1"), 0);
	fail_at_limit(pool);
	heard();
	assert_non_null(strstr(text, "left out: 6 failures since"));
	assert_non_null(strstr(text, "\"left_out\": 6,"));
	assert_non_null(strstr(text, "failures: limit 9\n"));
	/* And not again before ten more are over. */
	assert_true(load_relaxed(&pool->next_report_ns) >
		    os_now_ns() + FAILURE_INTERVAL_NS / 2);
	fail_at_limit(pool);
	assert_string_equal(heard(), "");
	listen_end();
	pool_end(pool);
	reached_end();
}

/* In a signal handler on top of a call: no lock may be taken. */
static void test_failure_nested_neither_reports_nor_aborts(void **state)
{
	struct pp_pool *pool = pool_make("8M");

	(void)state;
	assert_int_equal(pp_pool_set(pool, "oom", "abort"), 0);
	listen_begin();
	pcp_enter_without();
	assert_null(pp_alloc_pages(pool, 1, 0));
	fail_at_limit(pool);
	pcp_leave_without();
	assert_string_equal(heard(), "");
	assert_int_equal(pp_stat_read(pool, PP_STAT_FAILURES_NESTED), 1);
	assert_int_equal(load_relaxed(&pool->nr_unreported), 2);
	assert_int_equal(pp_pool_set(pool, "oom", "fail"), 0);
	fail_at_limit(pool);
	assert_non_null(strstr(heard(), "left out: 2 failures"));
	listen_end();
	pool_end(pool);
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_failure_head_says_what_was_asked),
		TEST(test_failure_zone_says_its_numbers),
		TEST(test_failure_users_are_named),
		TEST(test_failure_counts_leave_out_zeroes),
		TEST(test_failure_machine_line_is_one_object),
		TEST(test_failure_longest_line_fits),
		TEST(test_failure_abort_needs_a_request_that_tries_all),
		TEST(test_failure_each_reason_has_its_counter),
		TEST(test_failure_reports_are_rationed),
		TEST(test_failure_nested_neither_reports_nor_aborts),
	};

	test_clear_environment();
	unsetenv("PAGEPOOL_OOM");
	return cmocka_run_group_tests_name("failure", tests, NULL, NULL);
}
