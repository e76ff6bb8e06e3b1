// SPDX-License-Identifier: MIT
/*
 * Row 11: the ways out of a process.  Each case leaves from a child and the
 * parent looks at the status; what runs on the way out frees and allocates,
 * and says so by one byte in a pipe.
 */
#include "check.h"
#include <pthread.h>
#include <signal.h>

static char *kept[4];
static int steps[2];

static void step(char which)
{
	if (write(steps[1], &which, 1) != 1)
		_exit(90);
}

static void churn(void)
{
	void *head = NULL;
	size_t size;

	for (size = 20; size < 3 << 20; size *= 5)
		if (fill_up_to(&head, size, 3) != 3)
			_exit(91);
	drop(&head);
}

static void use_kept(int index)
{
	if (!all_bytes(kept[index], 'k', 50000))
		_exit(92);
	kept[index] = realloc(kept[index], 100000);
	free(kept[index]);
	churn();
}

static void keep_some(void)
{
	int i;

	for (i = 0; i < 4; i++) {
		kept[i] = malloc(50000);
		memset(kept[i], 'k', 50000);
	}
}

/* Fork; run the way out; compare the status and the steps that it took. */
static void leaves(void (*way_out)(void), int want, const char *want_steps)
{
	char taken[16] = "";
	int status;
	pid_t pid;

	REQUIRE(pipe(steps) == 0);
	pid = fork();
	if (pid == 0) {
		close(steps[0]);
		way_out();
		_exit(93);
	}
	close(steps[1]);
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK(read(steps[0], taken, sizeof(taken) - 1) >= 0);
	close(steps[0]);
	if (!CHECK(WIFEXITED(status) && WEXITSTATUS(status) == want))
		check_say("status is %#x, steps %s\n", status, taken);
	if (!CHECK(!strcmp(taken, want_steps)))
		check_say("steps are %s, not %s\n", taken, want_steps);
}

static void first_handler(void)
{
	use_kept(0);
	step('1');
}

static void second_handler(void)
{
	use_kept(1);
	step('2');
}

static void handler_with_status(int status, void *arg)
{
	use_kept(2);
	step(status == 5 && arg == &kept ? '3' : '?');
}

static bool in_way_out;

__attribute__((destructor(101))) static void last_destructor(void)
{
	if (in_way_out) {
		use_kept(3);
		step('D');
	}
}

static void exit_with_handlers(void)
{
	keep_some();
	in_way_out = true;
	atexit(first_handler);
	atexit(second_handler);
	on_exit(handler_with_status, &kept);
	exit(5);
}

static void handlers_and_destructors(void)
{
	leaves(exit_with_handlers, 5, "321D");
	check_end();
}

static void quick(void)
{
	keep_some();
	in_way_out = true;
	at_quick_exit(first_handler);
	atexit(second_handler);
	quick_exit(6);
}

static void at_once(void)
{
	keep_some();
	in_way_out = true;
	atexit(second_handler);
	_exit(7);
}

static void quick_exit_and_exit_at_once(void)
{
	leaves(quick, 6, "1");
	leaves(at_once, 7, "");
	check_end();
}

static void *churn_for_ever(void *unused)
{
	for (;;)
		churn();
	return unused;
}

static void start_churning(void)
{
	pthread_t thread;
	int i;

	for (i = 0; i < 3; i++)
		if (pthread_create(&thread, NULL, churn_for_ever, NULL))
			_exit(94);
	churn();
}

static void exit_beside_threads(void)
{
	keep_some();
	start_churning();
	in_way_out = true;
	atexit(first_handler);
	exit(8);
}

static void *exit_thread(void *unused)
{
	churn();
	exit(9);
	return unused;
}

static void exit_from_a_thread(void)
{
	pthread_t thread;

	keep_some();
	start_churning();
	in_way_out = true;
	atexit(second_handler);
	pthread_create(&thread, NULL, exit_thread, NULL);
	pthread_join(thread, NULL);
}

static void while_other_threads_allocate(void)
{
	int i;

	for (i = 0; i < 40; i++) {
		leaves(exit_beside_threads, 8, "1D");
		leaves(exit_from_a_thread, 9, "2D");
	}
	check_end();
}

static pthread_key_t first_key, second_key;
static unsigned nr_rounds;

/* A key destructor may set its key again and is called again: four times. */
static void key_destructor(void *value)
{
	churn();
	free(value);
	nr_rounds++;
	step('k');
	if (nr_rounds < 3)
		pthread_setspecific(first_key, malloc(5000));
}

static void tls_destructor(void *value)
{
	free(realloc(value, 70000));
	churn();
	step('t');
}

extern void *__dso_handle;
extern int __cxa_thread_atexit_impl(void (*)(void *), void *, void *);

static void *thread_with_destructors(void *unused)
{
	churn();
	__cxa_thread_atexit_impl(tls_destructor, malloc(300), &__dso_handle);
	pthread_setspecific(first_key, malloc(3000));
	pthread_setspecific(second_key, malloc(30));
	return unused;
}

static void join_thread_with_destructors(void)
{
	pthread_t thread;

	pthread_key_create(&first_key, key_destructor);
	pthread_key_create(&second_key, free);
	pthread_create(&thread, NULL, thread_with_destructors, NULL);
	pthread_join(thread, NULL);
	churn();
	_exit(10);
}

static void *last_thread(void *main_thread)
{
	pthread_join(*(pthread_t *)main_thread, NULL);
	churn();
	step('L');
	return NULL;
}

/* main() ends by pthread_exit(); the process ends with its last thread. */
static void main_thread_first(void)
{
	static pthread_t self;
	pthread_t thread;

	self = pthread_self();
	keep_some();
	in_way_out = true;
	pthread_key_create(&first_key, key_destructor);
	pthread_setspecific(first_key, malloc(10));
	nr_rounds = 2;
	pthread_create(&thread, NULL, last_thread, &self);
	pthread_exit(NULL);
}

static void destructors_of_threads(void)
{
	leaves(join_thread_with_destructors, 10, "tkkk");
	leaves(main_thread_first, 0, "kLD");
	check_end();
}

static void killed(void)
{
	start_churning();
	raise(SIGKILL);
}

static void aborted(void)
{
	struct rlimit none = { 0, 0 };

	setrlimit(RLIMIT_CORE, &none);
	start_churning();
	abort();
}

static void by_signal(void)
{
	int status, i;

	for (i = 0; i < 2; i++) {
		pid_t pid = fork();

		if (pid == 0)
			(i ? aborted : killed)();
		CHECK(waitpid(pid, &status, 0) == pid);
		CHECK(WIFSIGNALED(status));
		CHECK(WTERMSIG(status) == (i ? SIGABRT : SIGKILL));
	}
	check_end();
}

static const struct check_case cases[] = {
	{ "handlers_and_destructors", handlers_and_destructors },
	{ "quick_exit_and_exit_at_once", quick_exit_and_exit_at_once },
	{ "while_other_threads_allocate", while_other_threads_allocate },
	{ "destructors_of_threads", destructors_of_threads },
	{ "by_signal", by_signal },
};

/* With a number as argument: return it from main() beside busy threads. */
int main(int argc, char **argv)
{
	if (argc > 1 && *argv[1] >= '0' && *argv[1] <= '9') {
		start_churning();
		return atoi(argv[1]);
	}
	return check_main(argc, argv, cases,
			  sizeof(cases) / sizeof(cases[0]));
}
