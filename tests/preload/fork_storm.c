// SPDX-License-Identifier: MIT
/*
 * fork in a program whose 64 threads are all over malloc and stdio.  Each child
 * can allocate, free, print, make threads and fork again; it has no background
 * thread until it makes a thread of its own, and its books are in order.
 */
#include "storm.h"
#include <sched.h>
#include <wchar.h>

enum {
	NR_LOAD = 64,
	NR_FORKS = 1000,
};

static pthread_t load[NR_LOAD];
static bool load_is_ending;
static FILE *sink;		/* all write to it */

static const size_t sizes[] = {
	24, 40, 100, 300, 500, 1000, 5000, 12000, 40000, 300000,
};

enum { NR_SIZES = sizeof(sizes) / sizeof(sizes[0]) };

/* What the limit leaves: any of it may be refused. */
static void churn(uint64_t *random)
{
	size_t size = sizes[storm_random(random) % NR_SIZES];
	char *block = malloc(size), *zeroed = calloc(1, size), *more;

	if (block)
		memset(block, 'c', 24);
	if (zeroed && !all_bytes(zeroed, 0, 24))
		_exit(80);
	more = realloc(block, size + 3000);
	if (more && block && !all_bytes(more, 'c', 24))
		_exit(81);
	free(zeroed);
	free(more ? more : block);
}

/* Streams of their own and one of all, buffers that grow, long numbers. */
static void use_stdio(uint64_t *random)
{
	char *text = NULL, line[64];
	size_t size = 0;
	FILE *own = open_memstream(&text, &size);

	if (own) {
		fprintf(own, "%.300f %ls", 1.0 / 3.0, L"wide");
		fclose(own);
	}
	free(text);
	fprintf(sink, "%.*f\n", (int)(storm_random(random) % 400), 2.0 / 3.0);
	if (storm_random(random) % 16 == 0)
		fflush(NULL);
	snprintf(line, sizeof(line), "/proc/self/task/%d/comm",
		 (int)syscall(SYS_gettid));
	own = fopen(line, "r");
	if (own) {
		if (!fgets(line, sizeof(line), own))
			line[0] = '\0';
		fclose(own);
	}
}

/* Bursts, so that many are inside malloc at any time, and yet the thread that
 * forks gets its turn on two processors. */
static void *load_body(void *arg)
{
	uint64_t random = (uintptr_t)arg * 0x9e3779b97f4a7c15u;

	while (!__atomic_load_n(&load_is_ending, __ATOMIC_RELAXED)) {
		for (unsigned i = 0; i < 4; i++) {
			churn(&random);
			use_stdio(&random);
		}
		storm_nap_us(3000 + (unsigned)(storm_random(&random) % 8000));
	}
	return NULL;
}

static void start_load(size_t nr)
{
	load_is_ending = false;
	for (uintptr_t i = 0; i < nr; i++)
		REQUIRE(!pthread_create(&load[i], NULL, load_body,
					(void *)(i + 1)));
}

static void end_load(size_t nr)
{
	__atomic_store_n(&load_is_ending, true, __ATOMIC_RELAXED);
	for (size_t i = 0; i < nr; i++)
		pthread_join(load[i], NULL);
}

static void use_all(uint64_t *random)
{
	for (unsigned i = 0; i < 12; i++)
		churn(random);
	for (unsigned i = 0; i < 3; i++)
		use_stdio(random);
}

static void check_books(void)
{
	CHECK(storm_pool_call("pp_pool_check") == 0);
}

static void grandchild(uint64_t random)
{
	pid_t pid = fork();

	if (pid == 0) {
		storm_child_begin();
		use_all(&random);
		check_books();
		check_child_exit();
	}
	CHECK(pid > 0 && check_child(pid));
}

static void *own_thread(void *random)
{
	use_all(random);
	return NULL;
}

/* Only now is there a background thread, and it stays. */
static void make_own_thread(uint64_t *random)
{
	pthread_t thread;

	CHECK(storm_find_reclaimd().nr == 0);
	REQUIRE(!pthread_create(&thread, NULL, own_thread, random));
	pthread_join(thread, NULL);
	CHECK(storm_tasks_become(on_pagepool() ? 2 : 1, on_pagepool()));
	REQUIRE(!pthread_create(&thread, NULL, own_thread, random));
	pthread_join(thread, NULL);
	CHECK(storm_tasks_become(on_pagepool() ? 2 : 1, on_pagepool()));
}

static void child(size_t nr, char *inherited)
{
	uint64_t random = nr + 1;

	storm_child_begin();
	/* Before anything else was done here. */
	if (nr % 2)
		grandchild(random);
	CHECK(all_bytes(inherited, 'i', 50000));
	free(inherited);
	use_all(&random);
	check_books();
	if (nr % 4 == 0)
		make_own_thread(&random);
	if (nr % 8 == 0)
		grandchild(random);
	check_books();
	/* Through the handlers of exit at times; the streams are flushed. */
	if (nr % 16 == 5)
		exit(check_nr_failed ? 1 : 0);
	check_child_exit();
}

static void a_thousand_children(void)
{
	size_t nr = storm_scale(NR_FORKS);
	uint64_t start_ns;

	storm_watch_start();
	sink = fopen("/dev/null", "w");
	REQUIRE(sink != NULL);
	start_load(NR_LOAD);
	start_ns = storm_now_ns();
	for (size_t i = 0; i < nr; i++) {
		char *block = malloc(50000);
		pid_t pid;

		REQUIRE(block != NULL);
		memset(block, 'i', 50000);
		pid = fork();
		if (pid == 0)
			child(i, block);
		free(block);
		CHECK(pid > 0 && check_child(pid));
		storm_done_one();
	}
	check_say("%zu children in %llu ms\n", nr, (unsigned long long)
		  (storm_now_ns() - start_ns) / 1000000);
	end_load(NR_LOAD);
	fclose(sink);
	check_books();
	storm_watch_end();
	check_end();
}

/* At the limit, where requests fail and the background thread drains: a child
 * that has none drains for itself, and waits for nobody. */
static void *forking_body(void *arg)
{
	size_t nr = storm_scale(NR_FORKS) / 16 + 4;

	for (size_t i = 0; i < nr; i++) {
		uint64_t random = (uintptr_t)arg + i * 16 + 1;
		pid_t pid = fork();

		if (pid == 0) {
			storm_child_begin();
			CHECK_FAILS(malloc(limit_bytes() - 1), ENOMEM);
			use_all(&random);
			check_books();
			if (i % 4 == 0)
				grandchild(random);
			check_child_exit();
		}
		CHECK(pid > 0 && check_child(pid));
		storm_done_one();
	}
	return NULL;
}

static void from_threads_at_the_limit(void)
{
	pthread_t threads[4];
	void *head = NULL;

	storm_needs_pool();
	storm_watch_start();
	sink = fopen("/dev/null", "w");
	REQUIRE(sink != NULL);
	start_load(8);
	for (uintptr_t i = 0; i < 4; i++)
		REQUIRE(!pthread_create(&threads[i], NULL, forking_body,
					(void *)(i + 1)));
	for (unsigned i = 0; i < 50; i++) {
		fill(&head, 20000);
		storm_nap_us(5000);
		drop(&head);
	}
	for (unsigned i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	end_load(8);
	fclose(sink);
	check_books();
	storm_watch_end();
	check_end();
}

/* What the threads that are gone had cached is the child's. */

static pthread_barrier_t gate;

static void *fill_and_sleep(void *unused)
{
	void *head = NULL;

	for (size_t i = 0; i < NR_SIZES; i++) {
		fill_up_to(&head, sizes[i], 20);
		drop(&head);
	}
	pthread_barrier_wait(&gate);
	pthread_barrier_wait(&gate);
	return unused;
}

static void all_of_the_limit_in_the_child(void)
{
	pid_t pid;

	storm_needs_pool();
	pthread_barrier_init(&gate, NULL, NR_LOAD + 1);
	for (size_t i = 0; i < NR_LOAD; i++)
		REQUIRE(!pthread_create(&load[i], NULL, fill_and_sleep, NULL));
	pthread_barrier_wait(&gate);
	pid = fork();
	if (pid == 0) {
		storm_child_begin();
		CHECK(fills_limit(4096, 95));
		CHECK(fills_limit(100000, 95));
		CHECK(storm_stats().nr_threads <= 1);
		CHECK(storm_used_pages() < (int64_t)limit_bytes() / 4096 / 20);
		check_books();
		check_child_exit();
	}
	CHECK(pid > 0 && check_child(pid));
	/* And it is all there in the parent, asleep as they are. */
	CHECK(fills_limit(4096, 95));
	pthread_barrier_wait(&gate);
	for (size_t i = 0; i < NR_LOAD; i++)
		pthread_join(load[i], NULL);
	check_end();
}

/* Each level has threads, load and a background thread of its own. */
static void descend(unsigned levels)
{
	uint64_t random = levels + 1;
	pid_t pid;

	CHECK(storm_find_reclaimd().nr == 0);
	start_load(6);
	CHECK(!on_pagepool() || storm_tasks_become(1 + 6 + 1, 1));
	use_all(&random);
	if (levels) {
		pid = fork();
		if (pid == 0) {
			storm_child_begin();
			descend(levels - 1);
			check_child_exit();
		}
		CHECK(pid > 0 && check_child(pid));
	}
	end_load(6);
	check_books();
}

static void generations(void)
{
	size_t nr = storm_scale(30);

	sink = fopen("/dev/null", "w");
	REQUIRE(sink != NULL);
	for (size_t i = 0; i < nr; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			storm_child_begin();
			descend(4);
			check_child_exit();
		}
		CHECK(pid > 0 && check_child(pid));
	}
	CHECK(storm_nr_tasks() == 1);
	fclose(sink);
	check_end();
}

static const struct check_case cases[] = {
	{ "a_thousand_children", a_thousand_children },
	{ "from_threads_at_the_limit", from_threads_at_the_limit },
	{ "all_of_the_limit_in_the_child", all_of_the_limit_in_the_child },
	{ "generations", generations },
};

CHECK_MAIN(cases)
