// SPDX-License-Identifier: MIT
/*
 * Row 12: a program that uses jemalloc by its own names beside malloc.  Under
 * the preload malloc is the pool's, mallocx() stays jemalloc's, and a block
 * goes back to where it came from.
 */
#include "check.h"
#include <dlfcn.h>
#include <pthread.h>

static void *(*mallocx_)(size_t size, int flags);
static void *(*rallocx_)(void *block, size_t size, int flags);
static void (*dallocx_)(void *block, int flags);
static size_t (*sallocx_)(const void *block, int flags);
static int (*mallctl_)(const char *name, void *old, size_t *old_bytes,
		       void *new, size_t new_bytes);

static void find_jemalloc(void)
{
	/* Linked or preloaded by the test; opened otherwise. */
	void *handle = RTLD_DEFAULT;

	if (!dlsym(handle, "mallocx") &&
	    !(handle = dlopen("libjemalloc.so.2", RTLD_NOW)))
		check_skip("libjemalloc.so.2 is not installed or too late "
			   "for its thread-local storage");
	*(void **)&mallocx_ = dlsym(handle, "mallocx");
	*(void **)&rallocx_ = dlsym(handle, "rallocx");
	*(void **)&dallocx_ = dlsym(handle, "dallocx");
	*(void **)&sallocx_ = dlsym(handle, "sallocx");
	*(void **)&mallctl_ = dlsym(handle, "mallctl");
	REQUIRE(mallocx_ && rallocx_ && dallocx_ && sallocx_ && mallctl_);
}

static void *use_both(void *unused)
{
	size_t size;

	for (size = 1; size < 6 << 20; size = size * 2 + 1) {
		char *theirs = mallocx_(size, 0), *ours = malloc(size);

		REQUIRE(theirs && ours);
		CHECK(sallocx_(theirs, 0) >= size);
		memset(theirs, 'j', size);
		memset(ours, 'p', size);
		theirs = rallocx_(theirs, 2 * size, 0);
		ours = realloc(ours, 2 * size);
		CHECK(all_bytes(theirs, 'j', size));
		CHECK(all_bytes(ours, 'p', size));
		dallocx_(theirs, 0);
		free(ours);
	}
	return unused;
}

static void both_side_by_side(void)
{
	pthread_t threads[4];
	int i;

	find_jemalloc();
	use_both(NULL);
	for (i = 0; i < 4; i++)
		REQUIRE(!pthread_create(&threads[i], NULL, use_both, NULL));
	for (i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	check_end();
}

static void the_limit_is_for_malloc(void)
{
	void *head = NULL, *theirs;

	find_jemalloc();
	if (!on_pagepool())
		check_skip("jemalloc's malloc is not limited");
	CHECK(fill(&head, 1 << 20) >= limit_bytes() * 9 / 10 >> 20);
	theirs = mallocx_(100 << 20, 0);
	CHECK(theirs != NULL);
	dallocx_(theirs, 0);
	drop(&head);
	check_end();
}

static void forks(void)
{
	int i;

	find_jemalloc();
	for (i = 0; i < 20; i++) {
		void *theirs = mallocx_(5000, 0), *ours = malloc(5000);
		pid_t pid = fork();

		if (pid == 0) {
			use_both(NULL);
			dallocx_(theirs, 0);
			free(ours);
			check_child_exit();
		}
		CHECK(check_child(pid));
		dallocx_(theirs, 0);
		free(ours);
	}
	check_end();
}

static const struct check_case cases[] = {
	{ "both_side_by_side", both_side_by_side },
	{ "the_limit_is_for_malloc", the_limit_is_for_malloc },
	{ "forks", forks },
};

CHECK_MAIN(cases)
