// SPDX-License-Identifier: MIT
/*
 * Row 10: what runs beside the other preloads: calls all that they wrap, and
 * fills the limit, so that our own calls to the kernel happen as well.
 */
#include "check.h"
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <sys/mman.h>

static void *thread_body(void *unused)
{
	size_t i;

	for (i = 0; i < 2000; i++)
		free(malloc(i * 31));
	return unused;
}

static void hooked_functions(void)
{
	char text[100], *map;
	int i, fd;

	for (i = 0; i < 50; i++) {
		pthread_t thread;

		map = mmap(NULL, 8192, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		CHECK(map != MAP_FAILED);
		map[0] = 1;
		CHECK(madvise(map, 8192, MADV_DONTNEED) == 0);
		CHECK(munmap(map, 8192) == 0);
		fd = open("/dev/zero", O_RDONLY);
		CHECK(read(fd, text, 100) == 100);
		close(fd);
		CHECK(!pthread_create(&thread, NULL, thread_body, NULL));
		pthread_join(thread, NULL);
	}
	check_end();
}

static void at_the_limit(void)
{
	size_t size;

	for (size = 24; size < 20 << 20; size *= 13) {
		void *head = NULL;

		CHECK(fill(&head, size) > 0);
		drop(&head);
		malloc_trim(0);
	}
	check_end();
}

static const struct check_case cases[] = {
	{ "hooked_functions", hooked_functions },
	{ "at_the_limit", at_the_limit },
};

CHECK_MAIN(cases)
