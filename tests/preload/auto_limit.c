// SPDX-License-Identifier: MIT
/*
 * Programs that allocate and touch memory without end.  In a control group
 * with a hard limit they are killed, unless something else stops them before.
 */
#include "check.h"
#include <pthread.h>

enum { NR_THREADS = 8, NR_ROUNDS = 3 };

struct block {
	struct block *next;
};

/* Until NULL; true if all went as malloc promises. */
static bool grow(size_t size)
{
	struct block *head = NULL, *block;
	size_t nr = 0;
	int error;

	errno = 0;
	while ((block = malloc(size))) {
		memset(block, 0x5a, size);
		block->next = head;
		head = block;
		nr++;
	}
	error = errno;
	while (head) {
		block = head;
		head = block->next;
		free(block);
	}
	return nr > 0 && error == ENOMEM;
}

static void one_thread(void)
{
	static const size_t sizes[] = { 100000, 500, 3 << 20 };
	size_t i;

	for (i = 0; i < NR_ROUNDS; i++)
		CHECK(grow(sizes[i]));
	check_end();
}

static void *grow_thread(void *size)
{
	int i;

	for (i = 0; i < NR_ROUNDS; i++)
		grow((size_t)(uintptr_t)size);
	return NULL;
}

/* One of them may find nothing while the others have it all. */
static void many_threads(void)
{
	pthread_t thread[NR_THREADS];
	size_t i;

	for (i = 0; i < NR_THREADS; i++)
		REQUIRE(!pthread_create(&thread[i], NULL, grow_thread,
					(void *)(uintptr_t)(200 << i)));
	for (i = 0; i < NR_THREADS; i++)
		pthread_join(thread[i], NULL);
	CHECK(grow(100000));
	check_end();
}

static const struct check_case cases[] = {
	{ "one_thread", one_thread },
	{ "many_threads", many_threads },
};

CHECK_MAIN(cases)
