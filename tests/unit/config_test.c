/* SPDX-License-Identifier: MIT */
/*
 * Every setting with good values and every kind of bad one; the environment,
 * with the exact lines that are printed.  What is printed once a process is
 * looked at in a child each.
 */
#include "../api/testing.h"

#include <sys/wait.h>

#include "auto_limit.h"
#include "config.h"
#include "os/os.h"

static struct pp_config *made(void)
{
	static struct pp_config config;

	config_defaults(&config);
	return &config;
}

static void expect_limit(const char *value, uint64_t bytes)
{
	struct pp_config *c = made();

	assert_int_equal(config_set(c, "limit", value), 0);
	assert_true(c->limit_bytes == bytes);
}

static void expect_error(const char *name, const char *value, int err)
{
	struct pp_config *c = made(), before = *c;

	if (config_set(c, name, value) != err)
		print_message("# %s=%s\n", name, value);
	assert_int_equal(config_set(c, name, value), err);
	assert_memory_equal(c, &before, sizeof(before));
}

static void test_config_defaults(void **state)
{
	struct pp_config *c = made();

	(void)state;
	assert_int_equal(c->limit_bytes, 0);
	assert_int_equal(c->min_free_bytes, 0);
	assert_int_equal(c->watermark_scale, 10);
	assert_false(c->strict || c->verbose || c->stats_at_exit);
	assert_string_equal(c->stats_path, "");
	assert_int_equal(c->oom, OOM_FAIL);
	assert_true(c->oom_timeout_ns == 1000000000ull);
	assert_int_equal(c->oom_reserve_bytes, 0);
	reached_end();
}

static void test_config_sizes_take_suffixes(void **state)
{
	(void)state;
	expect_limit("4194304", 4ull << 20);
	expect_limit("4096K", 4ull << 20);
	expect_limit("4096k", 4ull << 20);
	expect_limit("512M", 512ull << 20);
	expect_limit("512m", 512ull << 20);
	expect_limit("3G", 3ull << 30);
	expect_limit("3g", 3ull << 30);
	expect_limit("16T", 16ull << 40);
	expect_limit("2t", 2ull << 40);
	expect_limit("0000000000000000000000000512M", 512ull << 20);
	expect_limit("auto", 0);
	reached_end();
}

/* Of the machine or of the container, whichever is smaller. */
static void test_config_limit_takes_percent_of_the_memory(void **state)
{
	uint64_t machine = auto_limit_memory_bytes();

	(void)state;
	assert_true(machine > 0);
	expect_limit("50%", machine / 2);
	expect_limit("100%", machine);
	expect_error("limit", "0%", -ERANGE);
	expect_error("limit", "101%", -ERANGE);
	expect_error("limit", "5%%", -EINVAL);
	expect_error("limit", "5%M", -EINVAL);
	expect_error("limit", "%", -EINVAL);
	expect_error("min_free", "5%", -EINVAL);
	reached_end();
}

static void test_config_bad_sizes_are_invalid(void **state)
{
	static const char *const bad[] = {
		"", " ", "M", "12Q", "12MB", "12 M", " 12M", "12M ", "-1",
		"+5M", "0x1000000", "1.5G", "1e9", "Auto", "auto ", "12MM",
		"\xff", "12\n",
	};

	(void)state;
	for (size_t i = 0; i < COUNT_OF(bad); i++) {
		expect_error("limit", bad[i], -EINVAL);
		expect_error("min_free", bad[i], -EINVAL);
	}
	expect_error("min_free", "auto", -EINVAL);
	reached_end();
}

static void test_config_sizes_out_of_range(void **state)
{
	(void)state;
	expect_limit("4M", 4ull << 20);
	expect_error("limit", "0", -ERANGE);
	expect_error("limit", "4194303", -ERANGE);
	expect_error("limit", "4095K", -ERANGE);
	expect_error("limit", "17T", -ERANGE);
	/* 2^64 and its neighbours, written out and by suffix. */
	expect_error("limit", "18446744073709551615", -ERANGE);
	expect_error("limit", "18446744073709551616", -ERANGE);
	expect_error("limit", "99999999999999999999999999", -ERANGE);
	expect_error("limit", "16777216T", -ERANGE);
	expect_error("limit", "18014398509481984K", -ERANGE);
	expect_error("limit", "17592186044416M", -ERANGE);
	expect_error("limit", "17179869184G", -ERANGE);
	expect_error("limit", "18014398509486080K", -ERANGE);	/* 4M + 2^64 */
	expect_error("min_free", "17T", -ERANGE);
	reached_end();
}

static void test_config_numbers_and_switches(void **state)
{
	struct pp_config *c = made();

	(void)state;
	assert_int_equal(config_set(c, "min_free", "0"), 0);
	assert_int_equal(config_set(c, "min_free", "4M"), 0);
	assert_int_equal(c->min_free_bytes, 4 << 20);
	assert_int_equal(config_set(c, "watermark_scale", "1"), 0);
	assert_int_equal(config_set(c, "watermark_scale", "3000"), 0);
	assert_int_equal(c->watermark_scale, 3000);
	assert_int_equal(config_set(c, "strict", "1"), 0);
	assert_int_equal(config_set(c, "verbose", "1"), 0);
	assert_true(c->strict && c->verbose);
	assert_int_equal(config_set(c, "strict", "0"), 0);
	assert_int_equal(config_set(c, "verbose", "0"), 0);
	assert_false(c->strict || c->verbose);
	expect_error("watermark_scale", "0", -ERANGE);
	expect_error("watermark_scale", "3001", -ERANGE);
	expect_error("watermark_scale", "10K", -EINVAL);
	expect_error("watermark_scale", "", -EINVAL);
	expect_error("watermark_scale", "ten", -EINVAL);
	expect_error("strict", "2", -ERANGE);
	expect_error("strict", "yes", -EINVAL);
	expect_error("verbose", "", -EINVAL);
	expect_error("verbose", "01x", -EINVAL);
	reached_end();
}

static void test_config_what_follows_when_memory_is_out(void **state)
{
	struct pp_config *c = made();

	(void)state;
	assert_int_equal(config_set(c, "oom", "abort"), 0);
	assert_int_equal(c->oom, OOM_ABORT);
	assert_int_equal(config_set(c, "oom", "fail"), 0);
	assert_int_equal(c->oom, OOM_FAIL);
	assert_int_equal(config_set(c, "oom_timeout", "200ms"), 0);
	assert_true(c->oom_timeout_ns == 200000000ull);
	assert_int_equal(config_set(c, "oom_timeout", "0"), 0);
	assert_true(c->oom_timeout_ns == 0);
	assert_int_equal(config_set(c, "oom_timeout", "86400s"), 0);
	assert_true(c->oom_timeout_ns == CONFIG_MAX_DELAY_NS);
	assert_int_equal(config_set(c, "oom_reserve", "3M"), 0);
	assert_int_equal(c->oom_reserve_bytes, 3 << 20);
	assert_int_equal(config_set(c, "oom_reserve", "0"), 0);
	expect_error("oom", "", -EINVAL);
	expect_error("oom", "kill", -EINVAL);
	expect_error("oom", "Abort", -EINVAL);
	expect_error("oom", "abort ", -EINVAL);
	expect_error("oom", "1", -EINVAL);
	expect_error("oom_timeout", "", -EINVAL);
	expect_error("oom_timeout", "1", -EINVAL);
	expect_error("oom_timeout", "-1s", -EINVAL);
	expect_error("oom_timeout", "86401s", -ERANGE);
	expect_error("oom_reserve", "1Q", -EINVAL);
	expect_error("oom_reserve", "10%", -EINVAL);
	expect_error("oom_reserve", "17T", -ERANGE);
	reached_end();
}

static void test_config_stats_is_exit_or_a_path(void **state)
{
	char path[CONFIG_PATH_BYTES + 1];
	struct pp_config *c = made();

	(void)state;
	assert_int_equal(config_set(c, "stats", "/tmp/x"), 0);
	assert_true(c->stats_at_exit);
	assert_string_equal(c->stats_path, "/tmp/x");
	assert_int_equal(config_set(c, "stats", "exit"), 0);
	assert_string_equal(c->stats_path, "");
	memset(path, 'p', sizeof(path));
	path[CONFIG_PATH_BYTES - 1] = '\0';
	assert_int_equal(config_set(c, "stats", path), 0);
	assert_string_equal(c->stats_path, path);
	path[CONFIG_PATH_BYTES - 1] = 'p';
	path[CONFIG_PATH_BYTES] = '\0';
	expect_error("stats", path, -ERANGE);
	expect_error("stats", "", -EINVAL);
	reached_end();
}

static void test_config_fault_is_a_rule(void **state)
{
	struct pp_config *c = made();

	(void)state;
	assert_int_equal(c->fault.kind, INJECT_OFF);
	assert_int_equal(config_set(c, "fault", "every:9,times:2"), 0);
	assert_int_equal(c->fault.kind, INJECT_EVERY);
	assert_int_equal(c->fault.nth, 9);
	assert_int_equal(c->fault.times, 2);
	assert_int_equal(config_set(c, "fault", "off"), 0);
	assert_int_equal(c->fault.kind, INJECT_OFF);
	expect_error("fault", "", -EINVAL);
	expect_error("fault", "often", -EINVAL);
	expect_error("fault", "nth:0", -ERANGE);
	assert_int_equal(config_is_live("fault"), 0);
	reached_end();
}

static void test_config_names(void **state)
{
	static const char *const live[] = {
		"limit", "min_free", "watermark_scale", "verbose",
		"oom", "oom_timeout", "oom_reserve",
	};
	static const char *const fixed[] = { "stats", "strict" };
	static const char *const none[] = { "", "LIMIT", "limi", "limits" };

	(void)state;
	for (size_t i = 0; i < COUNT_OF(live); i++)
		assert_int_equal(config_is_live(live[i]), 1);
	for (size_t i = 0; i < COUNT_OF(fixed); i++)
		assert_int_equal(config_is_live(fixed[i]), 0);
	for (size_t i = 0; i < COUNT_OF(none); i++) {
		assert_int_equal(config_is_live(none[i]), -ENOENT);
		expect_error(none[i], "1", -ENOENT);
	}
	reached_end();
}

static void test_config_auto_leaves_the_machine_an_eighth(void **state)
{
	struct pp_config *c = made();
	uint64_t bytes = config_limit_bytes(c);

	(void)state;
	assert_true(bytes >= CONFIG_MIN_LIMIT_BYTES);
	assert_true(bytes <= os_machine_bytes() - os_machine_bytes() / 8);
	assert_int_equal(config_set(c, "limit", "32M"), 0);
	assert_int_equal(config_limit_bytes(c), 32 << 20);
	reached_end();
}

/* The environment */

struct outcome {
	unsigned		nr_bad;
	struct pp_config	config;
};

static char said[2048];		/* the last child's standard error */

static void read_said(int fd)
{
	size_t len = 0;
	ssize_t got;

	while (len < sizeof(said) - 1 &&
	       (got = read(fd, said + len, sizeof(said) - 1 - len)) > 0)
		len += (size_t)got;
	said[len] = '\0';
	close(fd);
}

/* In a child: what is said is said once a process. */
static struct outcome in_environment(const char *const *entries, unsigned n,
				     unsigned times)
{
	struct outcome o = { .nr_bad = 0 };
	int err[2], result[2], status;
	pid_t pid;

	assert_int_equal(pipe(err), 0);
	assert_int_equal(pipe(result), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		dup2(err[1], 2);
		for (unsigned i = 0; i < n; i++)
			putenv((char *)(uintptr_t)entries[i]);
		for (unsigned i = 0; i < times; i++) {
			config_defaults(&o.config);
			o.nr_bad = config_from_environment(&o.config);
		}
		_exit(write(result[1], &o, sizeof(o)) != sizeof(o));
	}
	close(err[1]);
	close(result[1]);
	read_said(err[0]);
	assert_int_equal(read(result[0], &o, sizeof(o)), sizeof(o));
	close(result[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	return o;
}

static void test_environment_good_values_are_taken_silently(void **state)
{
	static const char *const entries[] = {
		"PAGEPOOL_LIMIT=96M", "PAGEPOOL_VERBOSE=1",
		"PAGEPOOL_MIN_FREE=2M", "PAGEPOOL_WATERMARK_SCALE=200",
		"PAGEPOOL_STATS=exit", "PAGEPOOL_STRICT=1",
		"PAGEPOOL_OOM=abort", "PAGEPOOL_OOM_TIMEOUT=3s",
		"PAGEPOOL_OOM_RESERVE=1M",
		"PAGEPOOLX=1", "XPAGEPOOL_LIMIT=1", "PAGEPOO_LIMIT=2",
	};
	struct outcome o = in_environment(entries, COUNT_OF(entries), 1);

	(void)state;
	assert_int_equal(o.nr_bad, 0);
	assert_string_equal(said, "");
	assert_int_equal(o.config.limit_bytes, 96 << 20);
	assert_int_equal(o.config.min_free_bytes, 2 << 20);
	assert_int_equal(o.config.watermark_scale, 200);
	assert_true(o.config.verbose && o.config.strict);
	assert_true(o.config.stats_at_exit);
	assert_int_equal(o.config.oom, OOM_ABORT);
	assert_true(o.config.oom_timeout_ns == 3000000000ull);
	assert_int_equal(o.config.oom_reserve_bytes, 1 << 20);
	reached_end();
}

static void expect_line(const char *entry, const char *line)
{
	struct outcome o = in_environment(&entry, 1, 3);

	assert_string_equal(said, line);
	assert_int_equal(o.nr_bad, 1);
	/* The default stays. */
	assert_int_equal(o.config.limit_bytes, 0);
	assert_int_equal(o.config.watermark_scale, 10);
	assert_false(o.config.strict || o.config.verbose);
}

static void test_environment_bad_values_are_told_once(void **state)
{
	(void)state;
	expect_line("PAGEPOOL_LIMIT=12Q", "pagepool: PAGEPOOL_LIMIT=12Q: "
		    "expected a size such as 512M, a percentage such as 50%, "
		    "or auto; using auto\n");
	expect_line("PAGEPOOL_LIMIT=1M", "pagepool: PAGEPOOL_LIMIT=1M: "
		    "expected a size such as 512M, a percentage such as 50%, "
		    "or auto; using auto\n");
	expect_line("PAGEPOOL_WATERMARK_SCALE=0",
		    "pagepool: PAGEPOOL_WATERMARK_SCALE=0: expected a number "
		    "from 1 to 3000; using the default\n");
	expect_line("PAGEPOOL_STRICT=maybe",
		    "pagepool: PAGEPOOL_STRICT=maybe: expected 0 or 1; "
		    "using the default\n");
	expect_line("PAGEPOOL_MIN_FREE=-1",
		    "pagepool: PAGEPOOL_MIN_FREE=-1: expected a size such as "
		    "4M, or 0; using the default\n");
	expect_line("PAGEPOOL_OOM=kill", "pagepool: PAGEPOOL_OOM=kill: "
		    "expected fail or abort; using the default\n");
	expect_line("PAGEPOOL_OOM_TIMEOUT=1h", "pagepool: "
		    "PAGEPOOL_OOM_TIMEOUT=1h: expected a time such as 1s or "
		    "200ms; using the default\n");
	expect_line("PAGEPOOL_OOM_RESERVE=x", "pagepool: "
		    "PAGEPOOL_OOM_RESERVE=x: expected a size such as 1M, or 0; "
		    "using the default\n");
	expect_line("PAGEPOOL_FAULT=nth:0", "pagepool: PAGEPOOL_FAULT=nth:0: "
		    "expected nth:N, every:N or share:P%, with times:N, "
		    "after:N, min_pages:N, seed:N or quiet after a comma; or "
		    "off; using the default\n");
	expect_line("PAGEPOOL_STATS=", "pagepool: PAGEPOOL_STATS=: expected "
		    "exit, or the path of a file; using the default\n");
	reached_end();
}

static void expect_nearest(const char *wrong, const char *right)
{
	char entry[128], line[256];

	snprintf(entry, sizeof(entry), "PAGEPOOL_%s=1", wrong);
	snprintf(line, sizeof(line), "pagepool: PAGEPOOL_%s: unknown setting; "
		 "did you mean PAGEPOOL_%s?\n", wrong, right);
	expect_line(entry, line);
}

static void test_environment_unknown_names_get_the_nearest(void **state)
{
	(void)state;
	expect_nearest("LIMT", "LIMIT");
	expect_nearest("LIMITS", "LIMIT");
	expect_nearest("MINFREE", "MIN_FREE");
	expect_nearest("WATERMARK_SCALE_FACTOR", "WATERMARK_SCALE");
	expect_nearest("STAT", "STATS");
	expect_nearest("STRICKT", "STRICT");
	expect_nearest("VERBOS", "VERBOSE");
	reached_end();
}

/* Names as long as anybody likes overrun nothing. */
static void test_environment_long_entries_are_cut(void **state)
{
	char entry[3000] = "PAGEPOOL_";
	const char *entries[] = { entry };
	struct outcome o;

	(void)state;
	for (size_t len = 20; len < sizeof(entry) - 10; len = len * 3 / 2) {
		memset(entry + 9, 'A', len);
		strcpy(entry + 9 + len, "=1");
		o = in_environment(entries, 1, 1);
		assert_int_equal(o.nr_bad, 1);
		assert_int_equal(strncmp(said, "pagepool: PAGEPOOL_AAAA", 23),
				 0);
		assert_true(strlen(said) < 512);
		/* As a value, of a setting that takes none so long. */
		strcpy(entry, "PAGEPOOL_LIMIT=");
		memset(entry + 15, '9', len);
		entry[15 + len] = '\0';
		o = in_environment(entries, 1, 1);
		assert_int_equal(o.nr_bad, 1);
		assert_true(strlen(said) < 512);
		strcpy(entry, "PAGEPOOL_");
	}
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_config_defaults),
		TEST(test_config_sizes_take_suffixes),
		TEST(test_config_limit_takes_percent_of_the_memory),
		TEST(test_config_bad_sizes_are_invalid),
		TEST(test_config_sizes_out_of_range),
		TEST(test_config_numbers_and_switches),
		TEST(test_config_what_follows_when_memory_is_out),
		TEST(test_config_stats_is_exit_or_a_path),
		TEST(test_config_fault_is_a_rule),
		TEST(test_config_names),
		TEST(test_config_auto_leaves_the_machine_an_eighth),
		TEST(test_environment_good_values_are_taken_silently),
		TEST(test_environment_bad_values_are_told_once),
		TEST(test_environment_unknown_names_get_the_nearest),
		TEST(test_environment_long_entries_are_cut),
	};

	test_clear_environment();
	return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
