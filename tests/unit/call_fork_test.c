/* SPDX-License-Identifier: MIT */
/*
 * The threads that call back, and fork: the child has none of them, and makes
 * its calls by itself until it makes threads of its own; the parent notices
 * nothing.
 */
#include "call_testing.h"

#include <signal.h>
#include <sys/wait.h>

/* A sanitizer's allocator may be locked for good in the child, and one of them
 * stops where a thread has the stack of one of the parent's. */
#define CHILD_MAKES_THREADS	(!TEST_SANITIZED)

/* In the child; it ends there. */
static _Noreturn void end_child(void)
{
	_exit(atomic_load(&thread_failures) ? 1 : 0);
}

static void check_made(bool by_caller)
{
	_Atomic unsigned nr_runs = 0;
	struct job j = job(&nr_runs);

	/* By a thread it may be abandoned, and made again. */
	make_surely(&j);
	thread_check(nr_runs > 0);
	thread_check((j.result.by == thread_identity()) == by_caller);
	thread_check(!j.result.is_posted);
}

static void check_without_threads(void)
{
	thread_check(!call_service_has_threads(cs));
	thread_check(helper_threads_running() == 0);
	thread_check(nr_queued() == 0);
	check_made(true);
}

static void check_child(void)
{
	alarm(60);
	check_without_threads();
	if (!CHILD_MAKES_THREADS)
		return;
	call_service_start(cs);
	thread_check(nr_threads() == MIN_THREADS);
	thread_check(helper_threads_running() == MIN_THREADS);
	for (unsigned i = 0; i < 100; i++)
		check_made(false);
	await_idle();
	call_service_stop(cs);
	check_without_threads();
}

static void fork_and_check(void)
{
	int status;
	pid_t child = fork();

	if (!child) {
		check_child();
		/* And again, for its own child. */
		if (CHILD_MAKES_THREADS)
			call_service_start(cs);
		child = fork();
		if (!child)
			check_child();
		else
			thread_check(waitpid(child, &status, 0) == child &&
				     status == 0);
		end_child();
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

static void test_call_child_has_no_threads_until_it_makes_some(void **state)
{
	(void)state;
	begin(FAR_NS);
	fork_and_check();
	await_idle();
	call_service_stop(cs);
	fork_and_check();
	end();
}

/* Queued and running, waited for and not. */
static void test_call_child_knows_nothing_of_others_calls(void **state)
{
	_Atomic unsigned nr_runs = 0;
	struct gate g[CALL_PARALLEL], mine;
	struct maker m[4];

	(void)state;
	begin(FAR_NS);
	gate_init(&mine);
	for (unsigned i = 0; i + 1 < CALL_PARALLEL; i++)
		block(&g[i], 0);
	for (unsigned i = 0; i < COUNT_OF(m); i++) {
		m[i].job = job(&nr_runs);
		m[i].job.gate = i ? NULL : &mine;
		maker_start(&m[i], FAR_NS);
		if (!i)
			gate_await(&mine);
		await_queued(i);
	}
	fork_and_check();
	assert_int_equal(nr_queued(), COUNT_OF(m) - 1);
	gate_open(&mine);
	for (unsigned i = 0; i + 1 < CALL_PARALLEL; i++)
		gate_open(&g[i]);
	for (unsigned i = 0; i < COUNT_OF(m); i++) {
		maker_end(&m[i]);
		assert_true(m[i].ok);
	}
	assert_int_equal(nr_runs, COUNT_OF(m));
	end();
}

static _Atomic bool is_over;

static void *make_some(void *arg)
{
	_Atomic unsigned *nr_runs = arg;
	struct job j;

	while (!atomic_load(&is_over)) {
		j = job(nr_runs);
		j.call.key = atomic_load(nr_runs) % 2;
		make_or_poison(&j, atomic_load(nr_runs) % 7 * 100000);
	}
	return NULL;
}

/* At any moment. */
static void test_call_child_of_a_busy_program_is_as_others(void **state)
{
	_Atomic unsigned nr_runs = 0;
	pthread_t thread[3];

	(void)state;
	begin(0);
	atomic_store(&is_over, false);
	for (unsigned i = 0; i < COUNT_OF(thread); i++)
		pthread_create(&thread[i], NULL, make_some, &nr_runs);
	for (unsigned i = 0; i < 50; i++)
		fork_and_check();
	atomic_store(&is_over, true);
	for (unsigned i = 0; i < COUNT_OF(thread); i++)
		pthread_join(thread[i], NULL);
	end();
}

/* A handler forks on top of who waits: both come back to the wait. */

static _Atomic pid_t forked;

static void fork_on_top(int sig)
{
	pid_t child;

	(void)sig;
	child = fork();
	if (!child)
		alarm(60);
	atomic_store(&forked, child);
}

/* The first thread sleeps. */
static void await_asleep(void)
{
	char path[64], line[128], *state;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", getpid());
	do {
		sched_yield();
		f = fopen(path, "r");
		state = f && fgets(line, sizeof(line), f) ?
			strrchr(line, ')') : NULL;
		if (f)
			fclose(f);
		thread_check(state);
	} while (state && state[2] != 'S');
}

struct interruption {
	pthread_t	first, thread;
	struct gate	*inside, *open;
	int		status;		/* of the child */
};

static void *interrupt(void *arg)
{
	struct interruption *in = arg;
	pid_t child;

	if (in->inside)
		gate_await(in->inside);
	else
		await_queued(1);
	await_asleep();
	pthread_kill(in->first, SIGUSR1);
	while (!(child = atomic_load(&forked)))
		sched_yield();
	thread_check(waitpid(child, &in->status, 0) == child);
	gate_open(in->open);
	return NULL;
}

/* In the parent it is made, in the child abandoned. */
static void make_interrupted(struct job *j, struct interruption *in)
{
	struct sigaction sa = {
		.sa_handler = fork_on_top,
		.sa_flags = SA_RESTART,
	};
	pid_t me = getpid();
	bool ok;

	sigaction(SIGUSR1, &sa, NULL);
	atomic_store(&forked, 0);
	in->first = pthread_self();
	pthread_create(&in->thread, NULL, interrupt, in);
	ok = make_or_poison(j, FAR_NS);
	if (getpid() != me) {
		thread_check(!ok);
		check_child();
		thread_check(is_poison(j));
		end_child();
	}
	pthread_join(in->thread, NULL);
	assert_true(ok);
	assert_int_equal(in->status, 0);
}

static void test_call_child_forked_on_top_of_a_wait_goes_on(void **state)
{
	_Atomic unsigned nr_runs = 0;
	struct gate g[CALL_PARALLEL], mine;
	struct interruption in = { .inside = &mine, .open = &mine };
	struct job j;

	(void)state;
	if (TEST_SANITIZED)
		test_skip("a sanitizer keeps signals back from who sleeps");
	begin(FAR_NS);
	gate_init(&mine);
	j = job(&nr_runs);
	j.gate = &mine;
	make_interrupted(&j, &in);
	for (unsigned i = 0; i < CALL_PARALLEL; i++)
		block(&g[i], 0);
	in = (struct interruption){ .open = &g[0] };
	j = job(&nr_runs);
	make_interrupted(&j, &in);
	for (unsigned i = 1; i < CALL_PARALLEL; i++)
		gate_open(&g[i]);
	assert_int_equal(nr_runs, 2);
	end();
}

/* A callback forks: what it runs on is no thread of the pool's any more, and
 * its stack is not to be used by those of the child. */
static void run_fork(struct call *call)
{
	struct job *j = container_of(call, struct job, call);
	pid_t child = fork();
	int status = -1;

	if (!child) {
		check_child();
		end_child();
	}
	thread_check(waitpid(child, &status, 0) == child);
	thread_check(status == 0);
	j->result.number = 1;
}

/* With nowhere to return to it ends, and the child with it. */
static void run_fork_and_return(struct call *call)
{
	struct job *j = container_of(call, struct job, call);
	pid_t child = fork();
	int status = -1;

	if (!child) {
		alarm(60);
		thread_check(!call_is_posted());
		if (CHILD_MAKES_THREADS)
			call_service_start(cs);
		check_made(!CHILD_MAKES_THREADS);
		if (CHILD_MAKES_THREADS)
			call_service_stop(cs);
		if (atomic_load(&thread_failures))
			_exit(1);
		return;
	}
	thread_check(waitpid(child, &status, 0) == child);
	thread_check(status == 0);
	j->result.number = 1;
}

static void test_call_child_forked_by_a_callback_makes_threads(void **state)
{
	_Atomic unsigned nr_runs = 0;
	struct job j = job(&nr_runs);

	(void)state;
	begin(FAR_NS);
	j.call.run = run_fork;
	assert_true(make_for(&j, FAR_NS));
	assert_int_equal(j.result.number, 1);
	fflush(NULL);	/* the child ends by exit() */
	j = job(&nr_runs);
	j.call.run = run_fork_and_return;
	assert_true(make_for(&j, FAR_NS));
	assert_int_equal(j.result.number, 1);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_call_child_has_no_threads_until_it_makes_some),
		TEST(test_call_child_knows_nothing_of_others_calls),
		TEST(test_call_child_of_a_busy_program_is_as_others),
		TEST(test_call_child_forked_on_top_of_a_wait_goes_on),
		TEST(test_call_child_forked_by_a_callback_makes_threads),
	};

	test_clear_environment();
	return cmocka_run_group_tests_name("call_fork", tests, NULL, NULL);
}
