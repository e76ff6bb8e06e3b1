// SPDX-License-Identifier: MIT
/*
 * Row 15: handlers that allocate and free while their thread is inside malloc.
 * glibc forbids it and programs do it.  Also: our helper threads take no
 * signal of the program's, and a handler may leave by siglongjmp().
 */
#include "check.h"
#include <malloc.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>

enum { NR_THREADS = 3, NR_SIGNALS = 20000, NR_SLOTS = 64 };

static bool stop;
static unsigned nr_handled;
static void *slots[NR_SLOTS];

static void churn(size_t max)
{
	void *head = NULL;
	size_t size;

	for (size = 24; size < max; size *= 3) {
		char *block = malloc(size);

		block = realloc(block, size + 100);
		free(block);
		fill_up_to(&head, size, 3);
	}
	mallinfo2();
	drop(&head);
	malloc_trim(0);
}

/* Sizes of every kind, through slots that all threads share. */
static void allocate_in_handler(int number)
{
	unsigned nr = __atomic_add_fetch(&nr_handled, 1, __ATOMIC_RELAXED);
	size_t size = 16UL << nr % 17;
	char *block = malloc(size);
	int saved = errno;

	(void)number;
	if (block) {
		block[0] = block[size - 1] = 1;
		block = realloc(block, size / 2 + 1);
	}
	free(__atomic_exchange_n(&slots[nr % NR_SLOTS], block,
				 __ATOMIC_ACQ_REL));
	errno = saved;
}

static void handle(int number, void (*handler)(int), int flags)
{
	struct sigaction action = { .sa_handler = handler,
				    .sa_flags = SA_RESTART | flags };

	REQUIRE(sigaction(number, &action, NULL) == 0);
}

static void empty_slots(void)
{
	int i;

	for (i = 0; i < NR_SLOTS; i++)
		free(slots[i]);
}

static void *churn_thread(void *max)
{
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
		churn((size_t)max);
	return NULL;
}

static void need_pool(void)
{
	if (!on_pagepool())
		check_skip("glibc's malloc does not allow it");
}

static void profiling_timer(void)
{
	struct itimerval often = { { 0, 250 }, { 0, 250 } };
	struct itimerval none = { { 0, 0 }, { 0, 0 } };

	need_pool();
	handle(SIGPROF, allocate_in_handler, 0);
	setitimer(ITIMER_PROF, &often, NULL);
	while (__atomic_load_n(&nr_handled, __ATOMIC_RELAXED) < 200)
		churn(4 << 20);
	setitimer(ITIMER_PROF, &none, NULL);
	empty_slots();
	check_end();
}

/* As fast as they can be sent, at threads that do nothing but allocate. */
static void storm(size_t max)
{
	pthread_t threads[NR_THREADS];
	unsigned i;

	need_pool();
	handle(SIGUSR1, allocate_in_handler, 0);
	for (i = 0; i < NR_THREADS; i++)
		REQUIRE(!pthread_create(&threads[i], NULL, churn_thread,
					(void *)max));
	for (i = 0; __atomic_load_n(&nr_handled, __ATOMIC_RELAXED) <
	     NR_SIGNALS; i++)
		CHECK(!pthread_kill(threads[i % NR_THREADS], SIGUSR1));
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (i = 0; i < NR_THREADS; i++)
		pthread_join(threads[i], NULL);
	empty_slots();
}

static void storm_on_small_sizes(void)
{
	storm(3000);
	check_end();
}

static void storm_on_all_sizes(void)
{
	storm(8 << 20);
	check_end();
}

static void *limit_thread(void *unused)
{
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		void *head = NULL;

		fill(&head, 1 << 20);
		fill(&head, 9000);
		drop(&head);
		malloc_trim(0);
	}
	return unused;
}

static void storm_at_the_limit(void)
{
	pthread_t thread;
	unsigned nr = 0;

	need_pool();
	handle(SIGUSR1, allocate_in_handler, 0);
	REQUIRE(!pthread_create(&thread, NULL, limit_thread, NULL));
	while (nr < 5000) {
		CHECK(!pthread_kill(thread, SIGUSR1));
		nr = __atomic_load_n(&nr_handled, __ATOMIC_RELAXED);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	empty_slots();
	malloc_trim(0);
	CHECK(fills_limit(65536, 97));
	check_end();
}

static void nested_handlers(void)
{
	unsigned i;

	need_pool();
	handle(SIGUSR1, allocate_in_handler, SA_NODEFER);
	handle(SIGUSR2, allocate_in_handler, SA_NODEFER);
	for (i = 0; i < 2000; i++) {
		raise(SIGUSR1);
		raise(SIGUSR2);
		churn(100000);
	}
	CHECK(nr_handled == 4000);
	empty_slots();
	check_end();
}

static void on_an_alternate_stack(void)
{
	size_t bytes = 64 << 10;
	stack_t stack = { .ss_size = bytes };
	unsigned i;

	stack.ss_sp = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	REQUIRE(sigaltstack(&stack, NULL) == 0);
	handle(SIGUSR1, allocate_in_handler, SA_ONSTACK);
	for (i = 0; i < 2000; i++) {
		churn(100000);
		raise(SIGUSR1);
	}
	CHECK(nr_handled == 2000);
	empty_slots();
	check_end();
}

static sigjmp_buf back;

static void jump_out(int number)
{
	free(malloc(100));
	siglongjmp(back, number);
}

/* Raised between calls of malloc, by raise() and by a bad access. */
static void leaving_by_siglongjmp(void)
{
	volatile unsigned nr_jumps = 0;
	char *bad = mmap(NULL, 4096, PROT_NONE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	void *volatile block = NULL;

	handle(SIGUSR1, jump_out, 0);
	handle(SIGSEGV, jump_out, 0);
	while (nr_jumps < 2000) {
		block = malloc(1000 + nr_jumps * 17);
		if (!sigsetjmp(back, 1)) {
			if (nr_jumps % 2)
				raise(SIGUSR1);
			*(volatile char *)bad = 1;
		}
		nr_jumps++;
		free(block);
		churn(20000);
	}
	munmap(bad, 4096);
	check_end();
}

static void not_to_be_called(int number)
{
	(void)number;
	__atomic_add_fetch(&nr_handled, 1, __ATOMIC_RELAXED);
}

static void *idle_thread(void *unused)
{
	churn(4 << 20);
	while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE))
		usleep(1000);
	return unused;
}

/* Blocked in every thread of the program, it has to stay pending: a helper
 * thread that takes it would run the program's handler on its small stack. */
static void blocked_signals_stay_pending(void)
{
	static const int numbers[] = { SIGUSR1, SIGTERM, SIGCHLD, SIGHUP };
	sigset_t all, pending;
	pthread_t thread;
	void *head = NULL;
	size_t i;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	REQUIRE(!pthread_create(&thread, NULL, idle_thread, NULL));
	fill(&head, 1 << 20);
	drop(&head);
	for (i = 0; i < 4; i++) {
		handle(numbers[i], not_to_be_called, 0);
		kill(getpid(), numbers[i]);
	}
	churn(4 << 20);
	usleep(20000);
	sigpending(&pending);
	for (i = 0; i < 4; i++)
		CHECK(sigismember(&pending, numbers[i]) == 1);
	CHECK(nr_handled == 0);
	__atomic_store_n(&stop, true, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	check_end();
}

static const struct check_case cases[] = {
	{ "profiling_timer", profiling_timer },
	{ "storm_on_small_sizes", storm_on_small_sizes },
	{ "storm_on_all_sizes", storm_on_all_sizes },
	{ "storm_at_the_limit", storm_at_the_limit },
	{ "nested_handlers", nested_handlers },
	{ "on_an_alternate_stack", on_an_alternate_stack },
	{ "leaving_by_siglongjmp", leaving_by_siglongjmp },
	{ "blocked_signals_stay_pending", blocked_signals_stay_pending },
};

CHECK_MAIN(cases)
