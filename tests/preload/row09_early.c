// SPDX-License-Identifier: MIT
/*
 * Row 9: allocation before main(), by the program: in an IFUNC resolver,
 * in preinit_array, in constructors.  main() frees and grows what they got.
 */
#include "check.h"
#include <malloc.h>
#include <pthread.h>

extern int row09_answer(void);
extern int row09_inner_answer(void);
extern char *row09_resolver_block(int index);

enum { NR_EARLY = 40 };

struct early {
	char *blocks[NR_EARLY];
	char *zeroed, *aligned;
	int error;
};

static struct early preinit, first_init, last_init;

static size_t size_of(int index)
{
	return index < 30 ? (size_t)index * 37 + 1 : 1UL << (index - 22);
}

static void allocate_early(struct early *early)
{
	int i;

	errno = 77;
	for (i = 0; i < NR_EARLY; i++) {
		early->blocks[i] = malloc(size_of(i));
		if (early->blocks[i])
			memset(early->blocks[i], 'e', size_of(i));
		free(malloc(size_of(i)));
	}
	early->zeroed = calloc(100, 100);
	early->aligned = memalign(4096, 100);
	early->blocks[0] = realloc(early->blocks[0], size_of(0));
	early->error = errno;
}

static void at_preinit(void)
{
	allocate_early(&preinit);
}

__attribute__((section(".preinit_array"), used))
static void (*const preinit_entry)(void) = at_preinit;

__attribute__((constructor(101))) static void at_first_init(void)
{
	allocate_early(&first_init);
}

__attribute__((constructor)) static void at_last_init(void)
{
	allocate_early(&last_init);
}

static void check_early(struct early *early)
{
	int i;

	CHECK(early->error == 77);
	CHECK(early->zeroed && all_bytes(early->zeroed, 0, 10000));
	CHECK(early->aligned && aligned_to(early->aligned, 4096));
	for (i = 0; i < NR_EARLY; i++) {
		char *block = early->blocks[i];

		REQUIRE(block != NULL);
		CHECK(aligned_to(block, 16));
		CHECK(malloc_usable_size(block) >= size_of(i));
		CHECK(all_bytes(block, 'e', size_of(i)));
		if (i % 2) {
			block = realloc(block, 3 * size_of(i));
			CHECK(block && all_bytes(block, 'e', size_of(i)));
		}
		free(block);
	}
	early->zeroed = realloc(early->zeroed, 100);
	CHECK(all_bytes(early->zeroed, 0, 100));
	free(early->zeroed);
	free(early->aligned);
}

static void in_preinit_array(void)
{
	check_early(&preinit);
	check_end();
}

static void in_constructors(void)
{
	check_early(&first_init);
	check_early(&last_init);
	check_end();
}

static void *free_thread(void *early)
{
	check_early(early);
	return NULL;
}

static void freed_by_a_thread(void)
{
	pthread_t thread;

	CHECK(!pthread_create(&thread, NULL, free_thread, &preinit));
	pthread_join(thread, NULL);
	CHECK(!pthread_create(&thread, NULL, free_thread, &last_init));
	pthread_join(thread, NULL);
	check_end();
}

static void in_ifunc_resolvers(void)
{
	int i;

	CHECK(row09_answer() == 42);
	CHECK(row09_inner_answer() == 42);
	for (i = 0; i < 4; i += 2) {
		char *block = row09_resolver_block(i);

		REQUIRE(block != NULL);
		CHECK(all_bytes(block, 'i', 100));
		block = realloc(block, 9000);
		CHECK(all_bytes(block, 'i', 100));
		free(block);
		block = row09_resolver_block(i + 1);
		CHECK(all_bytes(block, 0, 29999));
		CHECK(block[29999] == 'j');
		free(block);
	}
	check_end();
}

static void with_the_environment_cleared(void)
{
	void *head = NULL;
	char *block;

	clearenv();
	block = malloc(1 << 20);
	CHECK(block != NULL);
	CHECK(setenv("NEW", "value", 1) == 0);
	CHECK(fill_up_to(&head, 5000, 100) == 100);
	environ = NULL;
	CHECK(fill_up_to(&head, 100, 100) == 100);
	CHECK(getenv("NEW") == NULL);
	drop(&head);
	free(block);
	check_end();
}

static const struct check_case cases[] = {
	{ "in_preinit_array", in_preinit_array },
	{ "in_constructors", in_constructors },
	{ "freed_by_a_thread", freed_by_a_thread },
	{ "in_ifunc_resolvers", in_ifunc_resolvers },
	{ "with_the_environment_cleared", with_the_environment_cleared },
};

int main(int argc, char **argv)
{
	/* Together, the third case would free what the first two did. */
	if (argc < 2) {
		check_say("name a case\n");
		return 2;
	}
	return check_main(argc, argv, cases, 5);
}
