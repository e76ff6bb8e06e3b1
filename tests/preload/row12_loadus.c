// SPDX-License-Identifier: MIT
/*
 * Row 12: a program that opens the preload library itself, late, by dlopen().
 * Its own memory comes from libc; the library's malloc is one more malloc.
 * PP_PRELOAD is the library.
 */
#include "check.h"
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <semaphore.h>

static void *(*pool_malloc)(size_t size);
static void *(*pool_calloc)(size_t nr, size_t size);
static void *(*pool_realloc)(void *block, size_t size);
static void (*pool_free)(void *block);
static size_t (*pool_usable)(void *block);

static sem_t loaded;

static void load(int flags)
{
	const char *path = getenv("PP_PRELOAD");
	void *handle;

	if (!path)
		check_skip("PP_PRELOAD is not set");
	handle = dlopen(path, flags);
	if (!handle)
		check_say("%s\n", dlerror());
	REQUIRE(handle != NULL);
	*(void **)&pool_malloc = dlsym(handle, "malloc");
	*(void **)&pool_calloc = dlsym(handle, "calloc");
	*(void **)&pool_realloc = dlsym(handle, "realloc");
	*(void **)&pool_free = dlsym(handle, "free");
	*(void **)&pool_usable = dlsym(handle, "malloc_usable_size");
	REQUIRE(pool_malloc && pool_calloc && pool_realloc && pool_free);
	CHECK((void *)pool_malloc != (void *)malloc);
}

static void use_pool(void)
{
	size_t size;

	for (size = 1; size < 8 << 20; size = size * 3 + 1) {
		char *block = pool_malloc(size);

		REQUIRE(block != NULL);
		CHECK(pool_usable(block) >= size);
		memset(block, 'l', size);
		block = pool_realloc(block, 2 * size);
		CHECK(all_bytes(block, 'l', size));
		pool_free(block);
		block = pool_calloc(1, size);
		CHECK(all_bytes(block, 0, size));
		pool_free(block);
		/* What libc gave, before and after. */
		block = malloc(size);
		memset(block, 'g', size);
		CHECK(pool_usable(block) >= size);
		block = pool_realloc(block, size + 100);
		CHECK(all_bytes(block, 'g', size));
		pool_free(block);
	}
}

static void local_symbols(void)
{
	load(RTLD_NOW | RTLD_LOCAL);
	use_pool();
	check_end();
}

static void global_symbols(void)
{
	load(RTLD_LAZY | RTLD_GLOBAL);
	use_pool();
	check_end();
}

static void deepbind(void)
{
	load(RTLD_NOW | RTLD_DEEPBIND);
	use_pool();
	check_end();
}

static void *wait_and_use(void *unused)
{
	sem_wait(&loaded);
	use_pool();
	return unused;
}

/* Threads that are older than the library: its thread-local storage has to
 * come from what the loader set aside for latecomers. */
static void loaded_after_threads_started(void)
{
	pthread_t threads[8];
	int i;

	sem_init(&loaded, 0, 0);
	for (i = 0; i < 8; i++)
		REQUIRE(!pthread_create(&threads[i], NULL, wait_and_use,
					NULL));
	load(RTLD_NOW | RTLD_LOCAL);
	for (i = 0; i < 8; i++)
		sem_post(&loaded);
	use_pool();
	for (i = 0; i < 8; i++)
		pthread_join(threads[i], NULL);
	check_end();
}

static void fork_and_close(void)
{
	const char *path = getenv("PP_PRELOAD");
	char *block;
	pid_t pid;

	load(RTLD_NOW | RTLD_LOCAL);
	use_pool();
	block = pool_malloc(100000);
	memset(block, 'b', 100000);
	pid = fork();
	if (pid == 0) {
		use_pool();
		pool_free(block);
		check_child_exit();
	}
	CHECK(check_child(pid));
	/* dlclose() may not take the pool away: blocks are still out. */
	CHECK(dlclose(dlopen(path, RTLD_NOW)) == 0);
	CHECK(dlclose(dlopen(path, RTLD_NOW | RTLD_NOLOAD)) == 0);
	CHECK(all_bytes(block, 'b', 100000));
	use_pool();
	pool_free(block);
	check_end();
}

static const struct check_case cases[] = {
	{ "local_symbols", local_symbols },
	{ "global_symbols", global_symbols },
	{ "deepbind", deepbind },
	{ "loaded_after_threads_started", loaded_after_threads_started },
	{ "fork_and_close", fork_and_close },
};

CHECK_MAIN(cases)
