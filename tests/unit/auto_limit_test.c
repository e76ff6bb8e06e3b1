/* SPDX-License-Identifier: MIT */
/*
 * What "auto" comes to: the headroom, and what resource limits do to it.  The
 * machine and the groups are those that the test runs in.
 */
#include "../api/testing.h"

#include <sys/resource.h>
#include <sys/wait.h>

#include "auto_limit.h"
#include "config.h"
#include "os/cgroup.h"
#include "os/os.h"

#define MIB	(1ull << 20)

static void test_headroom_is_an_eighth_within_bounds(void **state)
{
	(void)state;
	assert_int_equal(auto_limit_headroom_bytes(0), 0);
	assert_int_equal(auto_limit_headroom_bytes(8 * MIB), 2 * MIB);
	assert_int_equal(auto_limit_headroom_bytes(64 * MIB), 16 * MIB);
	assert_int_equal(auto_limit_headroom_bytes(100 * MIB), 16 * MIB);
	assert_int_equal(auto_limit_headroom_bytes(128 * MIB), 16 * MIB);
	assert_int_equal(auto_limit_headroom_bytes(136 * MIB), 17 * MIB);
	assert_int_equal(auto_limit_headroom_bytes(8192 * MIB), 1024 * MIB);
	reached_end();
}

struct seen {
	unsigned	nr;
	uint64_t	smallest;
	bool		machine, as, data;
};

static void see(void *arg, const struct auto_limit_source *source)
{
	struct seen *seen = arg;

	seen->nr++;
	seen->machine |= strcmp(source->name, "physical memory") == 0;
	seen->as |= strcmp(source->name, "RLIMIT_AS") == 0;
	seen->data |= strcmp(source->name, "RLIMIT_DATA") == 0;
	if (source->bytes == AUTO_LIMIT_NONE)
		return;
	thread_check(source->headroom_bytes <= source->bytes);
	if (source->bytes - source->headroom_bytes < seen->smallest)
		seen->smallest = source->bytes - source->headroom_bytes;
}

static void test_auto_is_the_smallest_source(void **state)
{
	struct seen seen = { .smallest = AUTO_LIMIT_NONE };
	uint64_t bytes = auto_limit_bytes(see, &seen);

	(void)state;
	assert_threads_ok();
	assert_true(bytes == seen.smallest);
	assert_true(bytes == auto_limit_bytes(NULL, NULL));
	assert_true(seen.nr >= 3 && seen.machine && seen.as && seen.data);
	assert_true(bytes <= os_machine_bytes() - os_machine_bytes() / 8);
	assert_true(auto_limit_memory_bytes() <= os_machine_bytes());
	assert_true(auto_limit_memory_bytes() <= cgroup_limit_bytes(""));
	reached_end();
}

static uint64_t auto_under(int resource, uint64_t limit)
{
	struct rlimit before, now;
	uint64_t bytes;

	assert_int_equal(getrlimit(resource, &before), 0);
	now = before;
	now.rlim_cur = limit;
	assert_int_equal(setrlimit(resource, &now), 0);
	bytes = config_auto_limit_bytes();
	assert_int_equal(setrlimit(resource, &before), 0);
	return bytes;
}

static void test_resource_limits_count(void **state)
{
	(void)state;
	assert_int_equal(auto_under(RLIMIT_DATA, 256 * MIB), 192 * MIB);
	if (!TEST_SANITIZED)
		assert_int_equal(auto_under(RLIMIT_AS, 400 * MIB), 200 * MIB);
	/* No smaller than a pool can be. */
	assert_int_equal(auto_under(RLIMIT_DATA, 1 * MIB),
			 CONFIG_MIN_LIMIT_BYTES);
	assert_int_equal(auto_under(RLIMIT_DATA, 0), CONFIG_MIN_LIMIT_BYTES);
	reached_end();
}

/* An explicit limit is taken as it is. */
static void test_an_explicit_limit_is_not_auto(void **state)
{
	struct pp_config config;

	(void)state;
	config_defaults(&config);
	assert_true(config_limit_bytes(&config) == config_auto_limit_bytes());
	assert_int_equal(config_set(&config, "limit", "32M"), 0);
	assert_int_equal(config_limit_bytes(&config), 32 * MIB);
	assert_int_equal(config_set(&config, "limit", "16T"), 0);
	assert_true(config_limit_bytes(&config) == CONFIG_MAX_LIMIT_BYTES);
	assert_int_equal(config_set(&config, "limit", "auto"), 0);
	assert_true(config_limit_bytes(&config) == config_auto_limit_bytes());
	reached_end();
}

/* Descriptors are a scarce thing: none is left open, none is needed. */
static void test_auto_leaves_no_descriptor(void **state)
{
	struct rlimit before, none;
	uint64_t bytes = config_auto_limit_bytes();
	int first = dup(0), second;

	(void)state;
	close(first);
	for (int i = 0; i < 100; i++)
		assert_true(config_auto_limit_bytes() == bytes);
	second = dup(0);
	close(second);
	assert_int_equal(first, second);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = before;
	none.rlim_cur = 0;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	assert_true(config_auto_limit_bytes() >= bytes);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_headroom_is_an_eighth_within_bounds),
		TEST(test_auto_is_the_smallest_source),
		TEST(test_resource_limits_count),
		TEST(test_an_explicit_limit_is_not_auto),
		TEST(test_auto_leaves_no_descriptor),
	};

	test_clear_environment();
	return cmocka_run_group_tests_name("auto_limit", tests, NULL, NULL);
}
