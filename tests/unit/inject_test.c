/* SPDX-License-Identifier: MIT */
/*
 * The setting fault: what is a rule and what is not, and which requests fail by
 * each kind of rule, to the request.
 */
#include "../api/testing.h"

#include "inject.h"

#define NR_THREADS	4
#define NR_EACH		25000

static struct inject_rule parsed(const char *text)
{
	struct inject_rule rule = { .kind = INJECT_OFF };

	assert_int_equal(inject_parse(text, &rule), 0);
	return rule;
}

static void expect_error(const char *text, int err)
{
	struct inject_rule rule = { .nth = 77 }, before = rule;

	if (inject_parse(text, &rule) != err)
		print_message("# %s\n", text);
	assert_int_equal(inject_parse(text, &rule), err);
	assert_memory_equal(&rule, &before, sizeof(rule));
}

static void test_inject_parses_each_word(void **state)
{
	struct inject_rule r = parsed("nth:100");

	(void)state;
	assert_int_equal(r.kind, INJECT_NTH);
	assert_int_equal(r.nth, 100);
	assert_int_equal(r.times + r.after_pages + r.min_pages + r.seed, 0);
	assert_false(r.quiet);
	r = parsed("times:3,after:10,min_pages:4,seed:9,quiet,every:1000");
	assert_int_equal(r.kind, INJECT_EVERY);
	assert_int_equal(r.nth, 1000);
	assert_int_equal(r.times, 3);
	assert_int_equal(r.after_pages, 10);
	assert_int_equal(r.min_pages, 4);
	assert_int_equal(r.seed, 9);
	assert_true(r.quiet);
	r = parsed("share:1%");
	assert_int_equal(r.kind, INJECT_SHARE);
	assert_int_equal(r.share, INJECT_SHARE_ONE / 100);
	assert_int_equal(parsed("percent:1").share, INJECT_SHARE_ONE / 100);
	assert_int_equal(parsed("share:100%").share, INJECT_SHARE_ONE);
	assert_int_equal(parsed("share:0.5%").share, INJECT_SHARE_ONE / 200);
	assert_int_equal(parsed("share:0.0001%").share, 1);
	assert_int_equal(parsed("share:12.3456%,quiet").share, 123456);
	assert_int_equal(parsed("off").kind, INJECT_OFF);
	assert_int_equal(parsed("nth:18446744073709551599").nth,
			 18446744073709551599ull);
	reached_end();
}

static void test_inject_refuses_what_is_no_rule(void **state)
{
	static const char *const invalid[] = {
		"", "nth", "nth:", "nth:x", "nth:1,", ",nth:1", "nth:1,,quiet",
		"nth:1 ", " nth:1", "nth:-1", "nth:+1", "nth:1.5", "NTH:1",
		"quiet", "times:3", "nth:1,every:2", "every:2,share:1%",
		"nth:1,nth:1", "nth:1,times:2", "share:1", "share:%",
		"share:1%%", "share:.5%", "share:1.%", "share:1.00001%",
		"percent:1%", "off,quiet", "quiet,off", "nth:1,quietly",
		"nth:1;quiet", "1", "on",
	};
	static const char *const range[] = {
		"nth:0", "every:0", "share:0%", "percent:0", "share:101%",
		"share:100.0001%", "every:2,times:0", "share:1%,seed:0",
		"nth:18446744073709551616", "nth:99999999999999999999",
	};

	(void)state;
	for (size_t i = 0; i < COUNT_OF(invalid); i++)
		expect_error(invalid[i], -EINVAL);
	for (size_t i = 0; i < COUNT_OF(range); i++)
		expect_error(range[i], -ERANGE);
	reached_end();
}

/* Deciding */

static void start(struct inject *inject, const char *text)
{
	struct inject_rule rule = parsed(text);

	inject_init(inject, &rule, 1);
	assert_false(inject_is_on(inject));
	inject_start(inject);
	assert_true(inject_is_on(inject) == (rule.kind != INJECT_OFF));
}

/* How many of @nr requests of a page fail; *@first and *@last are the first
 * and the last of them, from 1. */
static size_t count_failures(const char *text, size_t nr, size_t *first,
			     size_t *last)
{
	struct inject inject;
	size_t n = 0;

	start(&inject, text);
	*first = *last = 0;
	for (size_t i = 1; i <= nr; i++)
		if (inject_decide(&inject, 1)) {
			*first = n++ ? *first : i;
			*last = i;
		}
	return n;
}

static void expect_failures(const char *text, size_t nr, size_t want,
			    size_t want_first, size_t want_last)
{
	size_t first, last, n = count_failures(text, nr, &first, &last);

	if (n != want || first != want_first || last != want_last)
		print_message("# %s: %zu, %zu to %zu\n", text, n, first, last);
	assert_int_equal(n, want);
	assert_int_equal(first, want_first);
	assert_int_equal(last, want_last);
}

static void test_inject_nth_fails_that_one_and_no_other(void **state)
{
	char text[32];

	(void)state;
	for (size_t nth = 1; nth < 200; nth++) {
		snprintf(text, sizeof(text), "nth:%zu", nth);
		expect_failures(text, 1000, 1, nth, nth);
		expect_failures(text, nth - 1, 0, 0, 0);
	}
	reached_end();
}

static void test_inject_every_fails_each_nth(void **state)
{
	(void)state;
	expect_failures("every:1", 100, 100, 1, 100);
	expect_failures("every:7", 100, 14, 7, 98);
	expect_failures("every:101", 100, 0, 0, 0);
	reached_end();
}

static void test_inject_times_is_how_many_fail(void **state)
{
	char text[64];

	(void)state;
	for (size_t k = 1; k < 50; k++) {
		snprintf(text, sizeof(text), "every:2,times:%zu", k);
		expect_failures(text, 1000, k, 2, 2 * k);
		snprintf(text, sizeof(text), "share:20%%,seed:5,times:%zu", k);
		assert_int_equal(count_failures(text, 1000, &(size_t){ 0 },
						&(size_t){ 0 }), k);
	}
	reached_end();
}

/* Requests are one page each here: the first ten pass, uncounted. */
static void test_inject_after_and_min_pages_let_pass(void **state)
{
	struct inject inject;

	(void)state;
	expect_failures("every:5,after:10", 100, 18, 15, 100);
	expect_failures("nth:1,after:10", 100, 1, 11, 11);
	expect_failures("every:1,min_pages:2", 100, 0, 0, 0);
	/* By pages; the request that uses up the last of them passes too. */
	start(&inject, "every:1,after:10");
	assert_int_equal(inject_decide(&inject, 9), 0);
	assert_int_equal(inject_decide(&inject, 500), 0);
	assert_int_equal(inject_decide(&inject, 1), 1);
	/* What is too small does not count. */
	start(&inject, "nth:2,min_pages:4");
	assert_int_equal(inject_decide(&inject, 4), 0);
	assert_int_equal(inject_decide(&inject, 3), 0);
	assert_int_equal(inject_decide(&inject, 4), 2);
	reached_end();
}

/* Exactly so many with a seed, the same each time; about the share for any. */
static void test_inject_share_is_repeatable_and_about_right(void **state)
{
	size_t first, last, again, n;
	char text[64];

	(void)state;
	expect_failures("share:1%,seed:7", 1000, 13, 46, 827);
	expect_failures("percent:1,seed:7", 1000, 13, 46, 827);
	expect_failures("share:100%", 1000, 1000, 1, 1000);
	for (unsigned seed = 1; seed <= 100; seed++) {
		snprintf(text, sizeof(text), "share:10%%,seed:%u", seed);
		n = count_failures(text, 10000, &first, &last);
		again = count_failures(text, 10000, &first, &last);
		assert_int_equal(n, again);
		/* Five standard deviations, of 30 each. */
		assert_in_range(n, 850, 1150);
	}
	reached_end();
}

/* Threads share one count. */

static struct inject shared;
static _Atomic size_t nr_failed;

static void *ask(void *arg)
{
	(void)arg;
	for (size_t i = 0; i < NR_EACH; i++)
		if (inject_decide(&shared, 1))
			atomic_fetch_add(&nr_failed, 1);
	return NULL;
}

static size_t failures_of_threads(const char *text)
{
	pthread_t thread[NR_THREADS];

	start(&shared, text);
	atomic_store(&nr_failed, 0);
	for (size_t i = 0; i < NR_THREADS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, ask, NULL),
				 0);
	for (size_t i = 0; i < NR_THREADS; i++)
		pthread_join(thread[i], NULL);
	return atomic_load(&nr_failed);
}

static void test_inject_threads_share_one_count(void **state)
{
	const size_t all = (size_t)NR_THREADS * NR_EACH;
	size_t n;

	(void)state;
	assert_int_equal(failures_of_threads("nth:50000"), 1);
	assert_int_equal(failures_of_threads("every:10"), all / 10);
	assert_int_equal(failures_of_threads("every:10,times:77"), 77);
	assert_int_equal(failures_of_threads("every:1,after:1000"),
			 all - 1000);
	n = failures_of_threads("share:3%,seed:11");
	assert_int_equal(failures_of_threads("share:3%,seed:11"), n);
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_inject_parses_each_word),
		TEST(test_inject_refuses_what_is_no_rule),
		TEST(test_inject_nth_fails_that_one_and_no_other),
		TEST(test_inject_every_fails_each_nth),
		TEST(test_inject_times_is_how_many_fail),
		TEST(test_inject_after_and_min_pages_let_pass),
		TEST(test_inject_share_is_repeatable_and_about_right),
		TEST(test_inject_threads_share_one_count),
	};

	test_clear_environment();
	return cmocka_run_group_tests_name("inject", tests, NULL, NULL);
}
