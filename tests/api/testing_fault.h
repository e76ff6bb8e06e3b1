/* SPDX-License-Identifier: MIT */
/*
 * testing_fault.h - a test's body, over and over, with something failing.
 *
 * With PP_TEST_FAULT=POINT, or all, each body runs not as usual but in children
 * of its own: in one with nothing failing, where it has to pass; then in those
 * in which the n-th call of a fault point fails, for n = 1, 2, ... until it is
 * not called so often.  A body that meets a refusal may well stop at an
 * assertion.  What is judged is that it does not crash, is not stopped by the
 * library for a contradiction, does not hang, and leaves pools whose books are
 * right.
 *
 * Each child also counts the calls of all points.  Tried are as many n as any
 * child has counted in which nothing failed, for it is not the same number each
 * time, and one more.  From PP_TEST_FAULT_FINE (default 250) on, n grows by a
 * sixteenth: threads that ask at the limit, again and again, call CLAIM a
 * million times.
 *
 * Most of what a body does is to wait: PP_TEST_FAULT_JOBS children (default 32)
 * run at a time.  PP_TEST_FAULT=POINT:N tries one n, and shows what the child
 * printed.
 */
#ifndef PP_TESTS_TESTING_FAULT_H
#define PP_TESTS_TESTING_FAULT_H

#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define TEST_FAULT_POINTS	64u	/* at the most, as the next */
#define TEST_FAULT_JOBS		64u
#define TEST_FAULT_NEVER	(UINT32_MAX - 1)	/* n: just count */
#define TEST_FAULT_STUCK_S	120u
/* The same, where a body has set its own alarm, or none. */
#define TEST_FAULT_KILLED_S	300
#define TEST_FAULT_MAX_UNKNOWN	2000u	/* n of calls that nobody counted */
#define TEST_FAULT_MAX_WRONG	20u	/* of one body: by then it is clear */

/* How a child ends. */
enum {
	TEST_FAULT_PASSED,
	TEST_FAULT_FAILED,
	TEST_FAULT_SKIPPED,
	TEST_FAULT_BOOKS,
};

/* lib/fault_hook.h, where the test is linked with the library. */
#define TEST_WEAK	__attribute__((weak))
const char *pagepool_fault_name(unsigned point) TEST_WEAK;
void pagepool_fault_arm(unsigned point, uint32_t nth) TEST_WEAK;
uint32_t pagepool_fault_left(unsigned point) TEST_WEAK;
int pagepool_fault_check(void) TEST_WEAK;

/* What a child tells of itself. */
struct test_fault_told {
	uint32_t	calls[TEST_FAULT_POINTS];
	bool		fired;
	bool		forked;
};

struct test_fault_job {
	pid_t			child;		/* 0: none */
	unsigned		point;
	uint32_t		nth;		/* 0: nothing fails */
	int			output;
	time_t			until_s;
	struct test_fault_told	*told;		/* shared with the child */
};

/* Of one body. */
struct test_fault_sweep {
	const char		*body;
	const char		*wanted;	/* a point, or all */
	size_t			wanted_length;
	uint32_t		only;		/* this n, if not 0 */
	uint32_t		fine;		/* up to which n is each */
	uint32_t		tried[TEST_FAULT_POINTS];  /* the last n */
	uint32_t		called[TEST_FAULT_POINTS]; /* by any child */
	unsigned		nr_fired, nr_failed, nr_wrong;
	unsigned		nr_jobs, nr_children;
	struct test_fault_job	job[TEST_FAULT_JOBS];
};

static struct test_fault_job *test_fault_mine;	/* in a child */

/* In a child */

/* Instead of cmocka's handlers, which take a crash for a failed assertion. */
static inline void test_fault_let_die(void)
{
	static const int deadly[] = {
		SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS,
	};

	for (size_t i = 0; i < sizeof(deadly) / sizeof(deadly[0]); i++)
		signal(deadly[i], SIG_DFL);
}

static inline void test_fault_on_fork(void)
{
	test_fault_mine->told->forked = true;
}

static inline uint32_t test_fault_nth(unsigned point)
{
	const struct test_fault_job *job = test_fault_mine;

	return job->nth && job->point == point ? job->nth : TEST_FAULT_NEVER;
}

/* In a group of its own: whatever it leaves behind is found by that. */
static inline void test_fault_child(struct test_fault_job *job)
{
	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	test_fault_let_die();
	dup2(job->output, STDOUT_FILENO);
	dup2(job->output, STDERR_FILENO);
	alarm(TEST_FAULT_STUCK_S);
	test_fault_mine = job;
	pthread_atfork(NULL, NULL, test_fault_on_fork);
	for (unsigned p = 0; pagepool_fault_name(p); p++)
		pagepool_fault_arm(p, test_fault_nth(p));
}

static inline void test_fault_tell(void)
{
	struct test_fault_told *told = test_fault_mine->told;
	uint32_t left, calls;

	for (unsigned p = 0; pagepool_fault_name(p); p++) {
		left = pagepool_fault_left(p);
		calls = test_fault_nth(p) - left;
		if (told->calls[p] < calls)
			told->calls[p] = calls;
		told->fired = told->fired || !left;
		pagepool_fault_arm(p, 0);
	}
}

/* A body's own child knows what it has called after the fork. */
static inline _Noreturn void test_fault_exit(int how)
{
	if (test_fault_mine)
		test_fault_tell();
	_exit(how);
}

/* The end of a child's body, reached or not. */
static inline void test_fault_end(int how)
{
	int err;

	test_fault_tell();
	/* It may have been left in the middle of a call, by an assertion in a
	 * callback. */
	err = pagepool_fault_check();
	_exit(err && err != -EDEADLK ? TEST_FAULT_BOOKS : how);
}

#define _exit(how)	test_fault_exit(how)

/* In the parent */

static inline time_t test_fault_now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}

/* True in the child, which is to run the body. */
static inline bool test_fault_start(struct test_fault_sweep *s, unsigned point,
				    uint32_t nth)
{
	struct test_fault_job *job = s->job;

	while (job->child)
		job++;
	job->point = point;
	job->nth = nth;
	job->until_s = test_fault_now_s() + TEST_FAULT_KILLED_S;
	job->output = memfd_create("output", MFD_CLOEXEC);
	assert_true(job->output >= 0);
	memset(job->told, 0, sizeof(*job->told));
	fflush(NULL);
	job->child = fork();
	assert_true(job->child >= 0);
	if (!job->child)
		test_fault_child(job);
	else
		s->nr_children++;
	return !job->child;
}

/* What the child printed, such as the library's last words. */
static inline void test_fault_show(const struct test_fault_job *job)
{
	FILE *f = fdopen(dup(job->output), "r");
	char line[512];

	assert_non_null(f);
	rewind(f);
	while (fgets(line, sizeof(line), f))
		print_message("#   | %.*s\n", (int)strcspn(line, "\n"), line);
	fclose(f);
}

static inline bool test_fault_is_wrong(const struct test_fault_job *job,
				       int status)
{
	if (!WIFEXITED(status) || WEXITSTATUS(status) > TEST_FAULT_SKIPPED)
		return true;
	return !job->nth && WEXITSTATUS(status) == TEST_FAULT_FAILED;
}

static inline void test_fault_note_calls(struct test_fault_sweep *s,
					 const struct test_fault_job *job,
					 bool failed)
{
	uint32_t *called = s->called;

	bool fired = job->told->fired;

	for (unsigned p = 0; !fired && pagepool_fault_name(p); p++)
		if (called[p] < job->told->calls[p])
			called[p] = job->told->calls[p];
	/* A child of its own may have met it, and was killed. */
	if (failed && job->nth && job->told->forked)
		fired = job->nth < TEST_FAULT_MAX_UNKNOWN;
	if (fired && called[job->point] < job->nth)
		called[job->point] = job->nth;
}

static inline void test_fault_note(struct test_fault_sweep *s,
				   struct test_fault_job *job, int status)
{
	bool failed = status == W_EXITCODE(TEST_FAULT_FAILED, 0);
	bool wrong = test_fault_is_wrong(job, status);

	if (wrong || s->only) {
		print_message("# %s: call %u of %s fails: status %#x\n",
			      s->body, job->nth, job->nth ?
			      pagepool_fault_name(job->point) : "nothing",
			      (unsigned)status);
		test_fault_show(job);
	}
	test_fault_note_calls(s, job, failed);
	s->nr_fired += job->told->fired;
	s->nr_failed += failed;
	s->nr_wrong += wrong;
	close(job->output);
	job->child = 0;
	s->nr_children--;
}

/* Then all of its group are dead: it may have left children. */
static inline bool test_fault_is_over(const struct test_fault_job *job,
				      int *status)
{
	siginfo_t info = { .si_pid = 0 };

	assert_int_equal(waitid(P_PID, (id_t)job->child, &info,
				WEXITED | WNOHANG | WNOWAIT), 0);
	if (!info.si_pid && test_fault_now_s() < job->until_s)
		return false;
	kill(-job->child, SIGKILL);
	assert_int_equal(waitpid(job->child, status, 0), job->child);
	return true;
}

/* For one child, or more, which end at some time.  Returns how the last did. */
static inline int test_fault_wait(struct test_fault_sweep *s)
{
	unsigned before = s->nr_children;
	int status = 0;

	while (s->nr_children == before) {
		usleep(1000);
		for (unsigned i = 0; i < s->nr_jobs; i++)
			if (s->job[i].child &&
			    test_fault_is_over(&s->job[i], &status))
				test_fault_note(s, &s->job[i], status);
	}
	return status;
}

static inline bool test_fault_is_wanted(const struct test_fault_sweep *s,
					const char *name)
{
	return strcmp(s->wanted, "all") == 0 ||
	       (strlen(name) == s->wanted_length &&
		strncmp(s->wanted, name, s->wanted_length) == 0);
}

/* The last one is to be past all calls. */
static inline bool test_fault_is_swept(const struct test_fault_sweep *s,
				       unsigned point)
{
	const char *name = pagepool_fault_name(point);

	return !test_fault_is_wanted(s, name) ||
	       s->nr_wrong >= TEST_FAULT_MAX_WRONG ||
	       (s->only && s->tried[point]) ||
	       s->tried[point] > s->called[point];
}

static inline bool test_fault_next(const struct test_fault_sweep *s,
				   unsigned *point)
{
	for (unsigned p = 0; pagepool_fault_name(p); p++)
		if (!test_fault_is_swept(s, p)) {
			*point = p;
			return true;
		}
	return false;
}

static inline uint32_t test_fault_step(struct test_fault_sweep *s,
				       unsigned point)
{
	uint32_t nth = s->only ? s->only : s->tried[point] + 1;

	if (nth > s->fine && nth > 16)
		nth += nth / 16 - 1;
	s->tried[point] = nth;
	return nth;
}

static inline size_t test_number(const char *name, size_t otherwise);

static inline struct test_fault_sweep *test_fault_begin(const char *body,
							const char *wanted)
{
	static struct test_fault_sweep sweep;
	const size_t bytes = TEST_FAULT_JOBS * sizeof(struct test_fault_told);
	struct test_fault_sweep *s = &sweep;
	size_t nr_jobs = test_number("PP_TEST_FAULT_JOBS", 32);
	struct test_fault_told *told = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
					    MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_true(told != MAP_FAILED);
	memset(s, 0, sizeof(*s));
	s->body = body;
	s->wanted = wanted;
	s->wanted_length = strcspn(wanted, ":");
	if (wanted[s->wanted_length])
		s->only = (uint32_t)atoi(wanted + s->wanted_length + 1);
	s->fine = (uint32_t)test_number("PP_TEST_FAULT_FINE", 250);
	s->nr_jobs = nr_jobs < 1 ? 1 : nr_jobs > TEST_FAULT_JOBS ?
		     TEST_FAULT_JOBS : (unsigned)nr_jobs;
	for (unsigned i = 0; i < TEST_FAULT_JOBS; i++)
		s->job[i].told = &told[i];
	assert_null(pagepool_fault_name(TEST_FAULT_POINTS));
	return s;
}

static inline void test_fault_over(const struct test_fault_sweep *s)
{
	uint64_t sum = 0;

	for (unsigned p = 0; p < TEST_FAULT_POINTS; p++)
		sum += s->called[p];
	print_message("# %s: %u failures in %llu calls, %u bodies not ended\n",
		      s->body, s->nr_fired, (unsigned long long)sum,
		      s->nr_failed);
	munmap(s->job[0].told, TEST_FAULT_JOBS * sizeof(*s->job[0].told));
	assert_int_equal(s->nr_wrong, 0);
}

/* Comes back in the parent at last, and before that in each child.  Returns how
 * the body ends where nothing fails; or 0. */
static inline int test_fault_sweep(const char *body, const char *wanted)
{
	struct test_fault_sweep *s = test_fault_begin(body, wanted);
	unsigned point;
	int status;

	if (!s->only && test_fault_start(s, 0, 0))
		return 0;
	status = s->only ? 0 : test_fault_wait(s);
	if (status)
		goto over;
	while (s->nr_children || test_fault_next(s, &point)) {
		while (s->nr_children < s->nr_jobs &&
		       test_fault_next(s, &point))
			if (test_fault_start(s, point,
					     test_fault_step(s, point)))
				return 0;
		test_fault_wait(s);
	}
over:
	test_fault_over(s);
	return WEXITSTATUS(status);
}

#endif
