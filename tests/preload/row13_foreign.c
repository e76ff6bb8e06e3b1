// SPDX-License-Identifier: MIT
/*
 * Row 13: blocks that glibc's own malloc gave, handed to the program's free,
 * realloc and malloc_usable_size.  They come from libc's symbols, looked up
 * in libc itself, as a library that was bound before the preload has them.
 */
#include "check.h"
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>

static void *(*libc_malloc)(size_t size);
static void *(*libc_calloc)(size_t nr, size_t size);
static void *(*libc_memalign)(size_t align, size_t size);

/* Fast bins, small and large bins, chunks of their own mapping. */
static const size_t sizes[] = {
	0, 1, 24, 100, 500, 1032, 1033, 5000, 40000, 131000, 200000, 3 << 20,
};

#define NR_SIZES (sizeof(sizes) / sizeof(sizes[0]))

static void find_libc(void)
{
	void *libc = dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD);

	REQUIRE(libc != NULL);
	*(void **)&libc_malloc = dlsym(libc, "malloc");
	*(void **)&libc_calloc = dlsym(libc, "calloc");
	*(void **)&libc_memalign = dlsym(libc, "memalign");
	REQUIRE(libc_malloc && libc_calloc && libc_memalign);
	CHECK(on_pagepool() == ((void *)libc_malloc != (void *)malloc));
}

static void freed(void)
{
	size_t i, round;
	void (*cfree_)(void *) = dlsym(RTLD_DEFAULT, "cfree");

	find_libc();
	errno = 1234;
	for (round = 0; round < 200; round++) {
		for (i = 0; i < NR_SIZES; i++) {
			free(libc_malloc(sizes[i]));
			free(libc_calloc(1, sizes[i]));
			free(libc_memalign(4096, sizes[i]));
			if (cfree_)
				cfree_(libc_malloc(sizes[i]));
		}
	}
	CHECK(errno == 1234);
	check_end();
}

static void reallocated(void)
{
	size_t i, j;

	find_libc();
	for (i = 0; i < NR_SIZES; i++) {
		for (j = 1; j < NR_SIZES; j++) {
			size_t both = sizes[i] < sizes[j] ? sizes[i] :
							    sizes[j];
			char *block = libc_malloc(sizes[i]);

			memset(block, 'f', sizes[i]);
			errno = 1234;
			block = realloc(block, sizes[j]);
			CHECK(errno == 1234);
			REQUIRE(block != NULL);
			CHECK(all_bytes(block, 'f', both));
			memset(block, 'g', sizes[j]);
			block = reallocarray(block, 2, sizes[j]);
			REQUIRE(block != NULL);
			CHECK(all_bytes(block, 'g', sizes[j]));
			free(block);
		}
		CHECK(realloc(libc_malloc(sizes[i]), opaque(0)) == NULL);
	}
	check_end();
}

static void measured(void)
{
	size_t i;

	find_libc();
	for (i = 0; i < NR_SIZES; i++) {
		char *block = libc_malloc(sizes[i]);
		size_t usable = malloc_usable_size(block);

		CHECK(usable >= sizes[i]);
		memset(block, 'u', usable);
		block = realloc(block, usable + 1);
		CHECK(all_bytes(block, 'u', usable));
		free(block);
	}
	check_end();
}

/* Growing past what can be had leaves the old block as it was. */
static void at_the_limit(void)
{
	size_t i, nr_grown = 0;
	void *head = NULL;

	find_libc();
	for (i = 1; i < NR_SIZES - 1; i++) {
		char *block = libc_malloc(sizes[i]), *more;

		memset(block, 'l', sizes[i]);
		CHECK_FAILS(realloc(block, opaque(PTRDIFF_MAX)), ENOMEM);
		CHECK_FAILS(realloc(block, opaque(SIZE_MAX)), ENOMEM);
		fill(&head, 1 << 20);
		fill(&head, 1 << 12);
		errno = 0;
		more = realloc(block, 2 << 20);
		if (more) {
			nr_grown++;
			block = more;
		} else {
			CHECK(errno == ENOMEM);
		}
		CHECK(all_bytes(block, 'l', sizes[i]));
		free(block);
		drop(&head);
	}
	check_say("%zu grew\n", nr_grown);
	check_end();
}

static void *free_all(void *head)
{
	drop(&head);
	return NULL;
}

static void freed_by_other_threads(void)
{
	pthread_t threads[4];
	void *heads[4] = { NULL };
	size_t i, t;

	find_libc();
	for (t = 0; t < 4; t++) {
		for (i = 0; i < 4000; i++) {
			void **block = libc_malloc(sizes[2 + i % 6]);

			*block = heads[t];
			heads[t] = block;
			/* One of ours between two of theirs. */
			block = malloc(sizes[2 + i % 6]);
			*block = heads[t];
			heads[t] = block;
		}
	}
	for (t = 0; t < 4; t++)
		REQUIRE(!pthread_create(&threads[t], NULL, free_all,
					heads[t]));
	for (t = 0; t < 4; t++)
		pthread_join(threads[t], NULL);
	check_end();
}

static const struct check_case cases[] = {
	{ "freed", freed },
	{ "reallocated", reallocated },
	{ "measured", measured },
	{ "at_the_limit", at_the_limit },
	{ "freed_by_other_threads", freed_by_other_threads },
};

CHECK_MAIN(cases)
