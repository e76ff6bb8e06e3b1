// SPDX-License-Identifier: MIT
/*
 * Row 22: the limit is for the heap.  Mappings of the program's own, thread
 * stacks, files and the break are not counted and take nothing from it.
 */
#include "check.h"
#include <pthread.h>
#include <sys/mman.h>

#define MIB ((size_t)1 << 20)

static void check_heap_has_its_limit(void)
{
	CHECK(fills_limit(65536, 97));
}

static void need_pool(void)
{
	if (!on_pagepool())
		check_skip("the stand-in for the limit counts all mappings");
}

static void mappings(void)
{
	char *map;

	need_pool();
	map = mmap(NULL, 200 * MIB, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	REQUIRE(map != MAP_FAILED);
	memset(map, 1, 200 * MIB);
	check_heap_has_its_limit();
	CHECK(all_bytes(map, 1, 200 * MIB));
	munmap(map, 200 * MIB);
	check_end();
}

static void files(void)
{
	FILE *file = tmpfile();
	char *map;

	need_pool();
	REQUIRE(file && ftruncate(fileno(file), 100 * (off_t)MIB) == 0);
	map = mmap(NULL, 100 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED,
		   fileno(file), 0);
	REQUIRE(map != MAP_FAILED);
	memset(map, 2, 100 * MIB);
	check_heap_has_its_limit();
	munmap(map, 100 * MIB);
	fclose(file);
	check_end();
}

static pthread_barrier_t gate;

static void *use_stack(void *unused)
{
	volatile char big[2 << 20];
	size_t i;

	for (i = 0; i < sizeof(big); i += 4096)
		big[i] = 1;
	pthread_barrier_wait(&gate);
	pthread_barrier_wait(&gate);
	return unused;
}

static void stacks(void)
{
	pthread_t threads[50];
	int i;

	need_pool();
	pthread_barrier_init(&gate, NULL, 51);
	for (i = 0; i < 50; i++)
		REQUIRE(!pthread_create(&threads[i], NULL, use_stack, NULL));
	pthread_barrier_wait(&gate);
	check_heap_has_its_limit();
	pthread_barrier_wait(&gate);
	for (i = 0; i < 50; i++)
		pthread_join(threads[i], NULL);
	check_end();
}

static void the_break(void)
{
	char *start;

	need_pool();
	start = sbrk(100 * (intptr_t)MIB);
	REQUIRE(start != (void *)-1);
	memset(start, 3, 100 * MIB);
	check_heap_has_its_limit();
	CHECK(all_bytes(start, 3, 100 * MIB));
	CHECK(brk(start) == 0);
	check_heap_has_its_limit();
	check_end();
}

static const struct check_case cases[] = {
	{ "mappings", mappings },
	{ "files", files },
	{ "stacks", stacks },
	{ "the_break", the_break },
};

CHECK_MAIN(cases)
