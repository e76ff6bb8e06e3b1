// SPDX-License-Identifier: MIT
/*
 * Row 14: fork in a signal handler, which interrupts the thread anywhere, in
 * malloc and in fork too.
 */
#include "check.h"
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>

enum { NR_FORKS = 150 };

static volatile unsigned nr_forks, nr_bad;
static unsigned nr_wanted = NR_FORKS;
static bool child_allocates, stop;

static void churn(void)
{
	size_t size;

	for (size = 24; size < 3 << 20; size *= 3) {
		char *block = malloc(size);

		block = realloc(block, size + 100);
		if (block)
			block[size] = 1;
		free(block);
		free(calloc(1, size));
	}
}

static void child(void)
{
	pid_t pid;

	/* A timer is not inherited: no alarm comes in the child. */
	if (!child_allocates)
		_exit(0);
	churn();
	pid = fork();
	if (pid == 0) {
		churn();
		_exit(0);
	}
	_exit(check_child(pid) ? 0 : 1);
}

/* Each alarm sets the next, so that there is always time between two. */
static void set_alarm(void)
{
	struct itimerval next = { { 0, 0 }, { 0, 100 + nr_forks % 7 * 50 } };

	setitimer(ITIMER_REAL, &next, NULL);
}

static void fork_in_handler(int number)
{
	int saved = errno, status;
	pid_t pid = fork();

	(void)number;
	if (pid == 0)
		child();
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (status)
		nr_bad++;
	nr_forks++;
	if (nr_forks < nr_wanted)
		set_alarm();
	errno = saved;
}

static void start_storm(void)
{
	struct sigaction action = { .sa_handler = fork_in_handler,
				    .sa_flags = SA_RESTART };

	REQUIRE(sigaction(SIGALRM, &action, NULL) == 0);
	set_alarm();
}

static void end_storm(void)
{
	CHECK(nr_bad == 0);
	churn();
}

static void one_thread(void)
{
	start_storm();
	while (nr_forks < nr_wanted)
		churn();
	end_storm();
	check_end();
}

/* Handler and interrupted thread are both inside malloc in the child. */
static void one_thread_whose_child_allocates(void)
{
	if (!on_pagepool())
		check_skip("glibc's malloc does not allow it");
	child_allocates = true;
	one_thread();
}

static void at_the_limit(void)
{
	if (!on_pagepool())
		check_skip("glibc's malloc does not allow it");
	child_allocates = true;
	start_storm();
	while (nr_forks < nr_wanted) {
		void *head = NULL;

		fill(&head, 1 << 20);
		fill(&head, 5000);
		drop(&head);
		malloc_trim(0);
	}
	end_storm();
	check_end();
}

static void *churn_thread(void *unused)
{
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
		churn();
	return unused;
}

static void beside_other_threads(void)
{
	pthread_t threads[3];
	int i;

	if (!on_pagepool())
		check_skip("glibc's malloc does not allow it");
	child_allocates = true;
	nr_wanted = NR_FORKS / 3;
	for (i = 0; i < 3; i++)
		REQUIRE(!pthread_create(&threads[i], NULL, churn_thread,
					NULL));
	one_thread();
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	check_end();
}

/* The storm hits fork() itself, with its handlers half run. */
static void while_forking(void)
{
	if (!on_pagepool())
		check_skip("glibc's malloc does not allow it");
	child_allocates = true;
	start_storm();
	while (nr_forks < nr_wanted) {
		pid_t pid = fork();

		if (pid == 0)
			child();
		CHECK(check_child(pid));
		churn();
	}
	end_storm();
	check_end();
}

static const struct check_case cases[] = {
	{ "one_thread", one_thread },
	{ "one_thread_whose_child_allocates",
	  one_thread_whose_child_allocates },
	{ "at_the_limit", at_the_limit },
	{ "beside_other_threads", beside_other_threads },
	{ "while_forking", while_forking },
};

CHECK_MAIN(cases)
