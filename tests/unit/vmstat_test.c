/* SPDX-License-Identifier: MIT */
/* Counters are folded without loss, and every failure has a name. */
#include "../api/testing.h"

#include <ctype.h>

#include "vmstat.h"

static void test_vmstat_every_failure_has_a_name_of_its_own(void **state)
{
	(void)state;
	for (unsigned i = 0; i < NR_FAILURES; i++) {
		const char *name = failure_name(i);

		assert_non_null(name);
		assert_true(strlen(name) > 1);
		for (const char *c = name; *c; c++)
			assert_true(islower((unsigned char)*c) || *c == '_');
		for (unsigned k = 0; k < i; k++)
			assert_string_not_equal(name, failure_name(k));
	}
	reached_end();
}

static void test_vmstat_fold_moves_and_clears(void **state)
{
	struct vmstat sum = { .event = { 0 } };
	_Atomic int64_t mine[NR_VM_EVENTS];

	(void)state;
	for (int64_t round = 1; round <= 3; round++) {
		for (unsigned i = 0; i < NR_VM_EVENTS; i++)
			store_relaxed(&mine[i], round * 100 + i);
		vmstat_fold(&sum, mine);
		for (unsigned i = 0; i < NR_VM_EVENTS; i++)
			assert_int_equal(load_relaxed(&mine[i]), 0);
	}
	for (unsigned i = 0; i < NR_VM_EVENTS; i++)
		assert_int_equal(load_relaxed(&sum.event[i]), 600 + 3 * i);
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_vmstat_every_failure_has_a_name_of_its_own),
		TEST(test_vmstat_fold_moves_and_clears),
	};

	return cmocka_run_group_tests_name("vmstat", tests, NULL, NULL);
}
