// SPDX-License-Identifier: MIT
/*
 * Row 14, another preload whose fork handlers allocate.  Its constructor runs
 * before ours when it is named after ours, so that its prepare handler runs
 * after ours and its child handler before.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Of this thread: others may be forking at the same time. */
static __thread char *kept;

static void allocate(void)
{
	size_t size;

	for (size = 30; size < 1 << 20; size *= 7) {
		char *block = malloc(size);

		if (!block)
			abort();
		memset(block, 'h', size);
		free(kept);
		kept = block;
	}
}

__attribute__((constructor)) static void on_load(void)
{
	if (pthread_atfork(allocate, allocate, allocate))
		abort();
}
