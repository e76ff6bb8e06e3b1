// SPDX-License-Identifier: MIT
/*
 * Row 17: how much stack malloc needs: 4 KiB on the slowest path, so that it
 * works on the smallest threads and in handlers on small alternate stacks.
 */
#include "check.h"
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

enum { MAX_DEPTH = 4096, PAINTED = 48 << 10, PAINT = 0xa5 };

static void *kept;
static size_t limit;

/*
 * Paint the stack below, call, and look how far down the paint is gone.  The
 * pages below are touched first, so the kernel need not grow the stack.
 */
__attribute__((noinline)) static size_t depth_of(void (*body)(void))
{
	volatile unsigned char *here = __builtin_frame_address(0);
	volatile unsigned char *low = here - PAINTED, *p;

	for (p = low; p < here - 256; p++)
		*p = PAINT;
	body();
	for (p = low; p < here && *p == PAINT; p++)
		;
	return (size_t)(here - p);
}

static void shallow(const char *name, void (*body)(void))
{
	size_t depth;

	/* Once to have the symbol bound: the loader's stack is not ours. */
	body();
	depth = depth_of(body);
	check_say("%s: %zu bytes of stack\n", name, depth);
	CHECK(depth <= MAX_DEPTH);
}

static void small_pair(void)
{
	free(malloc(opaque(100)));
}

static void large_pair(void)
{
	free(malloc(opaque(300000)));
	free(calloc(1, opaque(3 << 20)));
}

static void aligned_pair(void)
{
	free(memalign(4096, opaque(100)));
	free(memalign(4 << 20, opaque(300000)));
}

static void grow(void)
{
	void *block = malloc(opaque(100));

	block = realloc(block, opaque(5000));
	block = realloc(block, opaque(100000));
	block = realloc(block, opaque(20 << 20));
	free(realloc(block, opaque(100)));
}

static void fail(void)
{
	CHECK(malloc(limit * 2) == NULL);
	CHECK(malloc(opaque(SIZE_MAX)) == NULL);
}

static void fill_and_drop(void)
{
	fill_up_to(&kept, 1 << 20, SIZE_MAX);
	fill_up_to(&kept, 5000, SIZE_MAX);
	fill_up_to(&kept, 24, SIZE_MAX);
	drop(&kept);
}

static void trim(void)
{
	malloc_trim(0);
}

static void measure_ordinary(void)
{
	shallow("small pair", small_pair);
	shallow("large pair", large_pair);
	shallow("aligned pair", aligned_pair);
	shallow("realloc", grow);
	shallow("malloc_trim", trim);
	check_end();
}

static void measure_at_the_limit(void)
{
	limit = limit_bytes();
	shallow("to the limit and back", fill_and_drop);
	shallow("failure", fail);
	fill_up_to(&kept, 1 << 20, SIZE_MAX);
	shallow("failure when full", fail);
	shallow("small pair when full", small_pair);
	shallow("malloc_trim when full", trim);
	drop(&kept);
	check_end();
}

static void fail_for_the_first_time(void)
{
	size_t size = limit * 2;

	CHECK(malloc(size) == NULL);
}

/* The report of the first failure is written from the same stack. */
static void measure_the_first_failure(void)
{
	size_t depth;

	limit = limit_bytes();
	free(malloc(100));
	depth = depth_of(fail_for_the_first_time);
	check_say("first failure: %zu bytes of stack\n", depth);
	CHECK(depth <= MAX_DEPTH);
	check_end();
}

static void *first_call(void *depth)
{
	*(size_t *)depth = depth_of(small_pair);
	return NULL;
}

static void measure_the_first_call_of_a_thread(void)
{
	pthread_t thread;
	size_t depth = 0;

	free(malloc(100));
	pthread_create(&thread, NULL, first_call, &depth);
	pthread_join(thread, NULL);
	check_say("first call of a thread: %zu bytes of stack\n", depth);
	CHECK(depth <= MAX_DEPTH);
	check_end();
}

static void *limit_body(void *unused)
{
	fill_and_drop();
	fail();
	large_pair();
	aligned_pair();
	grow();
	trim();
	return unused;
}

static void *small_body(void *unused)
{
	small_pair();
	large_pair();
	return unused;
}

static void smallest_threads(void)
{
	pthread_attr_t attr;
	pthread_t threads[4];
	int i, round;

	limit = limit_bytes();
	pthread_attr_init(&attr);
	CHECK(!pthread_attr_setstacksize(&attr,
			(size_t)sysconf(_SC_THREAD_STACK_MIN)));
	for (round = 0; round < 10; round++) {
		/* One by one: kept is shared. */
		REQUIRE(!pthread_create(&threads[0], &attr, limit_body,
					NULL));
		pthread_join(threads[0], NULL);
		for (i = 0; i < 4; i++)
			REQUIRE(!pthread_create(&threads[i], &attr,
						small_body, NULL));
		for (i = 0; i < 4; i++)
			pthread_join(threads[i], NULL);
	}
	check_end();
}

static unsigned nr_handled;

static void allocate_in_handler(int number)
{
	(void)number;
	limit_body(NULL);
	nr_handled++;
}

/* What the kernel needs for its frame, and 5 KiB for the handler; the page
 * below it is not there. */
static void small_alternate_stack(void)
{
	struct sigaction action = { .sa_handler = allocate_in_handler,
				    .sa_flags = SA_ONSTACK };
	size_t bytes = (size_t)sysconf(_SC_MINSIGSTKSZ) + (5 << 10), all;
	stack_t stack = { .ss_size = bytes };
	char *map;
	int i;

	limit = limit_bytes();
	limit_body(NULL);
	all = ((bytes + 4095) & ~4095UL) + 4096;
	map = mmap(NULL, all, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	REQUIRE(map != MAP_FAILED && mprotect(map, 4096, PROT_NONE) == 0);
	stack.ss_sp = map + 4096;
	REQUIRE(sigaltstack(&stack, NULL) == 0);
	REQUIRE(sigaction(SIGUSR1, &action, NULL) == 0);
	for (i = 0; i < 10; i++)
		raise(SIGUSR1);
	CHECK(nr_handled == 10);
	check_end();
}

static const struct check_case cases[] = {
	{ "measure_ordinary", measure_ordinary },
	{ "measure_at_the_limit", measure_at_the_limit },
	{ "measure_the_first_failure", measure_the_first_failure },
	{ "measure_the_first_call_of_a_thread",
	  measure_the_first_call_of_a_thread },
	{ "smallest_threads", smallest_threads },
	{ "small_alternate_stack", small_alternate_stack },
};

CHECK_MAIN(cases)
