/* SPDX-License-Identifier: MIT */
/*
 * The grace of a thread that malloc has refused: who has one, for what, and how
 * it ends: by being told, and by time.
 */
#include "../api/testing.h"

#include <sched.h>

#include "grace.h"
#include "os/os.h"

static uint64_t until(void)
{
	return grace_of_thread.until_ns;
}

/* The clock goes on: that is all that is waited for. */
static void wait_until(uint64_t ns)
{
	while (os_now_ns() < ns)
		sched_yield();
}

static void test_grace_is_for_small_requests_after_a_refusal(void **state)
{
	(void)state;
	grace_end();
	assert_false(grace_is_begun());
	assert_false(grace_is_for(1));
	grace_begin(100);
	assert_true(grace_is_begun());
	/* Not ended by time yet: or the machine stood still, which counts for
	 * none of these. */
	grace_of_thread.until_ns += 3600 * 1000000000ull;
	assert_true(grace_is_for(0));
	assert_true(grace_is_for(1));
	assert_true(grace_is_for(GRACE_MAX_BYTES));
	assert_false(grace_is_for(GRACE_MAX_BYTES + 1));
	assert_false(grace_is_for(SIZE_MAX));
	grace_end();
	assert_false(grace_is_begun());
	assert_false(grace_is_for(1));
	reached_end();
}

static void test_grace_small_refusal_in_it_begins_no_other(void **state)
{
	uint64_t first;

	(void)state;
	grace_end();
	grace_begin(1);
	grace_of_thread.until_ns += 3600 * 1000000000ull;
	first = until();
	grace_begin(1);
	grace_begin(GRACE_MAX_BYTES);
	assert_true(until() == first);
	/* What it could not have served is a refusal of its own. */
	grace_begin((uint64_t)GRACE_MAX_BYTES + 1);
	assert_true(until() != first);
	grace_end();
	reached_end();
}

static void test_grace_ends_by_time(void **state)
{
	uint64_t before = os_now_ns(), first;

	(void)state;
	grace_end();
	grace_begin(1 << 20);
	first = until();
	assert_true(first >= before + GRACE_NS);
	assert_true(first <= os_now_ns() + GRACE_NS);
	wait_until(first);
	assert_false(grace_is_for(1));
	/* Nobody has ended it; the next refusal begins another. */
	assert_true(grace_is_begun());
	grace_begin(1);
	assert_true(until() >= first + GRACE_NS);
	grace_end();
	reached_end();
}

static void *have_none(void *arg)
{
	thread_check(!grace_is_begun());
	thread_check(!grace_is_for(1));
	grace_begin(1);
	thread_check(grace_is_begun());
	return arg;
}

static void test_grace_is_the_threads_own(void **state)
{
	pthread_t thread;
	uint64_t first;

	(void)state;
	grace_end();
	grace_begin(1);
	first = until();
	assert_int_equal(pthread_create(&thread, NULL, have_none, NULL), 0);
	pthread_join(thread, NULL);
	assert_threads_ok();
	assert_true(until() == first);
	grace_end();
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_grace_is_for_small_requests_after_a_refusal),
		TEST(test_grace_small_refusal_in_it_begins_no_other),
		TEST(test_grace_ends_by_time),
		TEST(test_grace_is_the_threads_own),
	};

	return cmocka_run_group_tests_name("grace", tests, NULL, NULL);
}
