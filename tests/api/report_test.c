/* SPDX-License-Identifier: MIT */
/*
 * pp_report(): the rules of snprintf for every size of buffer, and the three
 * forms, read back by small parsers of their grammars and compared with the
 * snapshot.
 */
#include "testing.h"

#include <pagepool/reclaim.h>

#include <ctype.h>

#define TEXT_MAX	16384

struct field {
	const char	*name;
	size_t		offset;
	bool		level;
};

#define FIELD(f, is_level) { #f, offsetof(struct pp_stats, f), is_level }

static const struct field fields[] = {
	FIELD(limit_pages, true), FIELD(managed_pages, true),
	FIELD(free_pages, true), FIELD(cached_pages, true),
	FIELD(used_pages, true), FIELD(isolated_pages, true),
	FIELD(reserved_pages, true), FIELD(backed_pages, true),
	FIELD(metadata_pages, true), FIELD(min_pages, true),
	FIELD(low_pages, true), FIELD(high_pages, true),
	FIELD(peak_pages, true), FIELD(purged_pages, false),
	FIELD(nr_threads, true), FIELD(failures, false),
	FIELD(slowpath, false), FIELD(slowpath_ns, false),
	FIELD(refill_pages, false), FIELD(flush_pages, false),
	FIELD(slab_new, false), FIELD(slab_freed, false),
	FIELD(slab_pages, true), FIELD(slab_free_bytes, true),
	FIELD(drains, false), FIELD(drain_waits, false),
	FIELD(reclaimd_runs, false), FIELD(node_fallback, false),
	FIELD(idle_drains, false),
	FIELD(reclaimd_pages, false), FIELD(direct_reclaims, false),
	FIELD(direct_pages, false), FIELD(scanned, false),
	FIELD(throttled, false), FIELD(pressure_low, false),
	FIELD(pressure_min, false), FIELD(pressure_oom, false),
	FIELD(pressure_events, false),
	FIELD(oom_releases, false), FIELD(oom_forced, false),
	FIELD(oom_notified, false),
	FIELD(failures_limit, false), FIELD(failures_too_big, false),
	FIELD(failures_address_space, false), FIELD(failures_os, false),
	FIELD(failures_purge, false), FIELD(failures_nested, false),
	FIELD(failures_cannot_wait, false),
	FIELD(failures_in_reclaim, false), FIELD(failures_scope, false),
	FIELD(failures_timeout, false), FIELD(failures_injected, false),
};

static_assert(COUNT_OF(fields) == PP_NR_STATS, "every number has a field");

static struct pp_pool *busy_pool(void **run)
{
	struct pp_pool *pool = pool_make("16M");

	assert_null(pp_alloc_pages(pool, 5000, PP_NOWARN));
	*run = pp_alloc_pages(pool, 100, 0);
	assert_non_null(*run);
	/* Nothing that the background thread could empty. */
	assert_int_equal(pp_pool_drain(pool), 0);
	return pool;
}

static const struct field *field_of(const char *name, size_t len)
{
	for (size_t i = 0; i < COUNT_OF(fields); i++)
		if (strlen(fields[i].name) == len &&
		    strncmp(fields[i].name, name, len) == 0)
			return &fields[i];
	return NULL;
}

static int64_t value_of(const struct pp_stats *s, const struct field *f)
{
	int64_t value;

	memcpy(&value, (const char *)s + f->offset, sizeof(value));
	return value;
}

/* A name and its number, as the snapshot has it.  Returns what is behind. */
static char *expect_number(const struct pp_stats *s, const struct field *f,
			   char *text)
{
	char *end;

	assert_non_null(f);
	assert_true(isdigit((unsigned char)*text) || *text == '-');
	assert_int_equal(strtoll(text, &end, 10), value_of(s, f));
	return end;
}

static char *expect(char *text, const char *what)
{
	if (strncmp(text, what, strlen(what)) != 0)
		print_message("# expected \"%s\" at \"%.40s\"\n", what, text);
	assert_int_equal(strncmp(text, what, strlen(what)), 0);
	return text + strlen(what);
}

static char *report(struct pp_pool *pool, enum pp_format format)
{
	char *text = test_array(1, TEXT_MAX);
	int len = pp_report(pool, format, text, TEXT_MAX);

	assert_in_range(len, 1, TEXT_MAX - 1);
	assert_int_equal(strlen(text), len);
	return text;
}

/* The background thread counts its own steps, at any time. */
static int64_t steps(struct pp_pool *pool)
{
	return pp_stat_read(pool, PP_STAT_RECLAIMD_RUNS) +
	       pp_stat_read(pool, PP_STAT_DRAINS);
}

/* Both from between two of them. */
static char *report_and_stats(struct pp_pool *pool, enum pp_format format,
			      struct pp_stats *s)
{
	char *text = NULL;
	int64_t before;

	do {
		free(text);
		before = steps(pool);
		text = report(pool, format);
		*s = pool_stats(pool);
	} while (steps(pool) != before);
	return text;
}

static void test_report_text_is_a_line_a_number(void **state)
{
	void *run;
	struct pp_pool *pool = busy_pool(&run);
	struct pp_stats s;
	char *text = report_and_stats(pool, PP_FORMAT_TEXT, &s);
	char *at = text;
	size_t n = 0;

	(void)state;
	for (; *at; n++) {
		size_t len = strcspn(at, " \n");

		assert_int_equal(at[len], ' ');
		at = expect_number(&s, field_of(at, len), at + len + 1);
		at = expect(at, "\n");
	}
	assert_int_equal(n, PP_NR_STATS);
	free(text);
	pp_free_pages(pool, run);
	pool_end(pool);
	reached_end();
}

static void test_report_json_is_one_object(void **state)
{
	void *run;
	struct pp_pool *pool = busy_pool(&run);
	struct pp_stats s;
	char *text = report_and_stats(pool, PP_FORMAT_JSON, &s);
	char *at = text;
	size_t n = 0;

	(void)state;
	at = expect(at, "{");
	for (; n < PP_NR_STATS; n++) {
		size_t len;

		if (n)
			at = expect(at, ", ");
		at = expect(at, "\"");
		len = strcspn(at, "\"");
		assert_int_equal(at[len], '"');
		at = expect_number(&s, field_of(at, len),
				   expect(at + len, "\": "));
	}
	at = expect(at, "}\n");
	assert_int_equal(*at, 0);
	free(text);
	pp_free_pages(pool, run);
	pool_end(pool);
	reached_end();
}

/* One metric: its type, its help, its sample, in this order. */
static char *expect_metric(const struct pp_stats *s, char *at)
{
	const struct field *f;
	char line[200];
	size_t len;

	at = expect(at, "# TYPE pagepool_");
	len = strcspn(at, " ");
	f = field_of(at, len);
	assert_non_null(f);
	at = expect(at + len, f->level ? " gauge\n" : " counter\n");
	snprintf(line, sizeof(line), "# HELP pagepool_%s ", f->name);
	at = expect(at, line);
	len = strcspn(at, "\n");
	assert_true(len > 3 && at[len - 1] == '.');
	/* A counter's sample ends in _total, a gauge's does not. */
	snprintf(line, sizeof(line), "\npagepool_%s%s ", f->name,
		 f->level ? "" : "_total");
	at = expect_number(s, f, expect(at + len, line));
	return expect(at, "\n");
}

static void test_report_openmetrics_follows_the_grammar(void **state)
{
	void *run;
	struct pp_pool *pool = busy_pool(&run);
	struct pp_stats s;
	char *text = report_and_stats(pool, PP_FORMAT_OPENMETRICS, &s);
	char *at = text;

	(void)state;
	for (size_t n = 0; n < PP_NR_STATS; n++)
		at = expect_metric(&s, at);
	at = expect(at, "# EOF\n");
	assert_int_equal(*at, 0);
	free(text);
	pp_free_pages(pool, run);
	pool_end(pool);
	reached_end();
}

static void check_size(struct pp_pool *pool, enum pp_format format,
		       size_t size)
{
	char *text = test_array(1, size + 8), *whole = NULL;
	size_t len, fits;
	int64_t before;
	int got;

	do {
		free(whole);
		before = steps(pool);
		memset(text, '#', size + 8);
		got = pp_report(pool, format, text, size);
		whole = report(pool, format);
	} while (steps(pool) != before);
	len = strlen(whole);
	fits = size <= len ? size - 1 : len;
	assert_int_equal(got, len);
	assert_memory_equal(text, whole, fits);
	assert_int_equal(text[fits], 0);
	for (size_t i = size; i < size + 8; i++)
		assert_int_equal(text[i], '#');
	free(whole);
	free(text);
}

static void test_report_has_the_rules_of_snprintf(void **state)
{
	void *run;
	struct pp_pool *pool = busy_pool(&run);
	size_t checked = 0;

	(void)state;
	for (int i = 0; i < 3; i++) {
		enum pp_format format = (enum pp_format)i;
		char *whole = report(pool, format), byte = '#';
		size_t len = strlen(whole);

		for (size_t size = 1; size <= len + 2; size++, checked++)
			check_size(pool, format, size);
		/* A number may have one digit more by now. */
		assert_in_range(pp_report(pool, format, NULL, 0), len,
				len + 3);
		assert_in_range(pp_report(pool, format, &byte, 0), len,
				len + 3);
		assert_int_equal(byte, '#');
		free(whole);
	}
	assert_true(checked > 1000);
	pp_free_pages(pool, run);
	pool_end(pool);
	reached_end();
}

static void test_report_refuses_wrong_arguments(void **state)
{
	struct pp_pool *pool = pool_make("16M");
	char text[64] = "x";

	(void)state;
	assert_int_equal(pp_report(pool, (enum pp_format)3, text, 64),
			 -EINVAL);
	assert_int_equal(pp_report(pool, (enum pp_format)-1, text, 64),
			 -EINVAL);
	assert_int_equal(pp_report(NULL, PP_FORMAT_TEXT, text, 64), -EINVAL);
	assert_int_equal(pp_report(pool, PP_FORMAT_TEXT, NULL, 64), -EINVAL);
	pool_end(pool);
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_report_text_is_a_line_a_number),
		TEST(test_report_json_is_one_object),
		TEST(test_report_openmetrics_follows_the_grammar),
		TEST(test_report_has_the_rules_of_snprintf),
		TEST(test_report_refuses_wrong_arguments),
	};

	test_clear_environment();
	return cmocka_run_group_tests_name("report", tests, NULL, NULL);
}
