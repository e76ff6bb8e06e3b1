/* SPDX-License-Identifier: MIT */
/*
 * testing_fault.h - a test's body, over and over, with something failing.
 *
 * With PP_TEST_FAULT=POINT, or all, each body first runs in children of its
 * own, in which the n-th call of a fault point fails, for n = 1, 2, ... until
 * it is not called so often; then as usual.  A body that meets a refusal may
 * well stop at an assertion.  What is judged is that it does not crash, is not
 * stopped by the library for a contradiction, does not hang, and leaves pools
 * whose books are right.
 *
 * From PP_TEST_FAULT_FINE (default 8) on, n grows by a quarter.
 */
#ifndef PP_TESTS_TESTING_FAULT_H
#define PP_TESTS_TESTING_FAULT_H

#include <signal.h>
#include <sys/wait.h>

#define TEST_FAULT_MAX		2000u	/* calls of a point by one body */
#define TEST_FAULT_STUCK_S	120u

/* How a child ends. */
enum { TEST_FAULT_FIRED, TEST_FAULT_NOT_FIRED, TEST_FAULT_BOOKS };

/* lib/fault_hook.h, where the test is linked with the library. */
#define TEST_WEAK	__attribute__((weak))
const char *pagepool_fault_name(unsigned point) TEST_WEAK;
void pagepool_fault_arm(unsigned point, uint32_t nth) TEST_WEAK;
bool pagepool_fault_fired(unsigned point) TEST_WEAK;
int pagepool_fault_check(void) TEST_WEAK;

static int test_fault_point = -1;	/* in a child */

/* Instead of cmocka's handlers, which take a crash for a failed assertion. */
static inline void test_fault_let_die(void)
{
	static const int deadly[] = {
		SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS,
	};

	for (size_t i = 0; i < sizeof(deadly) / sizeof(deadly[0]); i++)
		signal(deadly[i], SIG_DFL);
}

static inline void test_fault_child(unsigned point, unsigned nth)
{
	test_fault_let_die();
	test_fault_point = (int)point;
	alarm(TEST_FAULT_STUCK_S);
	pagepool_fault_arm(point, nth);
}

/* The end of a child's body, reached or not. */
static inline void test_fault_end(bool passed)
{
	bool fired = pagepool_fault_fired((unsigned)test_fault_point);
	int err;

	pagepool_fault_arm((unsigned)test_fault_point, 0);
	/* It may have been left in the middle of a call, by an assertion in a
	 * callback. */
	err = pagepool_fault_check();
	if (err && err != -EDEADLK)
		_exit(TEST_FAULT_BOOKS);
	/* A body that forks may have met it in its own child. */
	_exit(fired || !passed ? TEST_FAULT_FIRED : TEST_FAULT_NOT_FIRED);
}

/* True in the child, which is to run the body.  *@fired is the parent's. */
static inline bool test_fault_try(const char *body, unsigned point,
				  unsigned nth, bool *fired)
{
	int status = -1;
	pid_t child;

	fflush(NULL);
	child = fork();
	if (!child) {
		test_fault_child(point, nth);
		return true;
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	if (!WIFEXITED(status) || WEXITSTATUS(status) > TEST_FAULT_NOT_FIRED) {
		print_message("# %s: call %u of %s fails: status %#x\n", body,
			      nth, pagepool_fault_name(point), status);
		fail();
	}
	*fired = WEXITSTATUS(status) == TEST_FAULT_FIRED;
	return false;
}

/* Comes back in the parent at last, and before that in each child. */
static inline void test_fault_sweep(const char *body, const char *wanted,
				    unsigned fine)
{
	const char *name;
	unsigned nr_fired = 0;
	bool fired;

	for (unsigned p = 0; (name = pagepool_fault_name(p)); p++) {
		if (strcmp(wanted, name) != 0 && strcmp(wanted, "all") != 0)
			continue;
		fired = true;
		for (unsigned n = 1; fired && n < TEST_FAULT_MAX;
		     n += n < fine || n < 4 ? 1 : n / 4) {
			if (test_fault_try(body, p, n, &fired))
				return;
			nr_fired += fired;
		}
	}
	print_message("# %s: %u failures\n", body, nr_fired);
}

#endif
