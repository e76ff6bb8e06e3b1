// SPDX-License-Identifier: MIT
/*
 * Requests that fail on purpose, counted: fault.test runs each case with the
 * setting that the case is made for.
 */
#include "check.h"
#include <pthread.h>

#define NR_THREADS 4
#define NR_EACH 10000

/* every:2: of two calls that each are one request, exactly one fails. */
#define ONE_OF_TWO(call) do { \
	void *first, *second; \
	errno = 0; \
	first = (call); \
	CHECK(first || errno == ENOMEM); \
	errno = 0; \
	second = (call); \
	CHECK(second || errno == ENOMEM); \
	CHECK(!first != !second); \
	free(first); \
	free(second); \
} while (0)

static void *aligned(size_t align, size_t size)
{
	void *out = NULL;
	int err = posix_memalign(&out, align, size);

	CHECK(err == 0 || err == ENOMEM);
	if (err)
		errno = ENOMEM;
	return err ? NULL : out;
}

static void each_function_asks_once(void)
{
	static const size_t sizes[] = {
		0, 1, 24, 1000, 8000, 14336, 14337, 40000, 1 << 20, 3 << 20,
		90 << 20,
	};
	size_t i;

	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		size_t size = opaque(sizes[i]);

		ONE_OF_TWO(malloc(size));
		ONE_OF_TWO(calloc(1, size));
		ONE_OF_TWO(realloc(NULL, size));
		ONE_OF_TWO(reallocarray(NULL, size, 1));
		ONE_OF_TWO(memalign(8, size));
		ONE_OF_TWO(memalign(4096, size));
		ONE_OF_TWO(memalign(1 << 21, size));
		ONE_OF_TWO(aligned_alloc(64, size));
		ONE_OF_TWO(valloc(size));
		ONE_OF_TWO(pvalloc(size));
		ONE_OF_TWO(aligned(256, size));
	}
	check_end();
}

static void *certain(size_t align, size_t size)
{
	void *p = memalign(align, size);

	return p ? p : memalign(align, size);
}

/* What fails is as it was; what grew has its contents. */
static void *grow(void *p, size_t have, size_t size, int *nr_failed)
{
	void *to = realloc(p, size);

	*nr_failed += !to;
	CHECK(all_bytes(to ? to : p, 7, have));
	return to ? to : p;
}

static void growing_asks_once_and_shrinking_never(void)
{
	static const size_t align[] = { 16, 4096 };
	static const size_t steps[] = {
		1000, 5000, 13000, 20000, 100000, 2 << 20, 5 << 20,
	};
	size_t i, k, have;
	int nr_failed;
	void *p;

	for (k = 0; k < 2; k++)
		for (i = 1; i < sizeof(steps) / sizeof(steps[0]); i++) {
			have = steps[i - 1];
			p = certain(align[k], have);
			memset(p, 7, have);
			/* Fails once at the most, and then not: of any two. */
			nr_failed = 0;
			p = grow(p, have, opaque(2 * steps[i]), &nr_failed);
			if (nr_failed) {
				p = grow(p, have, 2 * steps[i], &nr_failed);
			} else {
				ONE_OF_TWO(malloc(10));
				CHECK(!malloc(10));
			}
			CHECK(nr_failed <= 1);
			CHECK(malloc_usable_size(p) >= 2 * steps[i]);
			CHECK(realloc(p, 100) != NULL);
		}
	check_end();
}

/* every:1: all fail, but what makes smaller. */
static void nothing_is_to_be_had(void)
{
	unsigned i;

	for (i = 0; i < 1000; i++) {
		CHECK_FAILS(malloc(24), ENOMEM);
		CHECK_FAILS(malloc(50000), ENOMEM);
		CHECK_FAILS(calloc(3, 100000), ENOMEM);
	}
	check_end();
}

/* every:10: threads share one count. */

static pthread_barrier_t barrier;
static unsigned nr_failed_in_threads;

static void *thread_main(void *arg)
{
	unsigned i, nr_failed = 0;

	(void)arg;
	pthread_barrier_wait(&barrier);
	for (i = 0; i < NR_EACH; i++) {
		void *p = malloc(16 + i % 3000);

		nr_failed += !p;
		free(p);
	}
	__atomic_add_fetch(&nr_failed_in_threads, nr_failed, __ATOMIC_RELAXED);
	return NULL;
}

static void threads_share_one_count(void)
{
	pthread_t thread[NR_THREADS];
	unsigned i, tries, all = NR_THREADS * NR_EACH / 10;

	pthread_barrier_init(&barrier, NULL, NR_THREADS);
	for (i = 0; i < NR_THREADS; i++) {
		/* What libc needs for it may be what fails. */
		for (tries = 0; tries < 10; tries++)
			if (pthread_create(&thread[i], NULL, thread_main,
					   NULL) == 0)
				break;
		REQUIRE(tries < 10);
	}
	for (i = 0; i < NR_THREADS; i++)
		pthread_join(thread[i], NULL);
	CHECK(nr_failed_in_threads >= all - 1);
	CHECK(nr_failed_in_threads <= all + 1);
	check_end();
}

/* nth:30: the child of a fork goes on where its parent was. */

static void thirtieth_fails_from(unsigned from)
{
	unsigned i;

	for (i = from; i <= 100; i++) {
		void *p = malloc(i);

		CHECK(!p == (i == 30));
		free(p);
	}
}

static void a_child_goes_on(void)
{
	unsigned i;
	pid_t pid;

	for (i = 1; i <= 20; i++)
		free(malloc(opaque(i)));
	pid = fork();
	if (pid == 0) {
		thirtieth_fails_from(21);
		check_child_exit();
	}
	CHECK(check_child(pid));
	thirtieth_fails_from(21);
	check_end();
}

static const struct check_case cases[] = {
	{ "each_function_asks_once", each_function_asks_once },
	{ "growing_asks_once_and_shrinking_never",
	  growing_asks_once_and_shrinking_never },
	{ "nothing_is_to_be_had", nothing_is_to_be_had },
	{ "threads_share_one_count", threads_share_one_count },
	{ "a_child_goes_on", a_child_goes_on },
};

CHECK_MAIN(cases)
