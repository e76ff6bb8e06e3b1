/* SPDX-License-Identifier: MIT */
/* start.c - the library's beginning and end in a process; see preload.h. */
#include <dlfcn.h>
#include <malloc.h>
#include <stdlib.h>
#include <unistd.h>

#include "os/syscall.h"
#include "preload.h"
#include "show.h"

struct libc_malloc libc_malloc;

/* Points to itself once the dynamic linker has relocated the library. */
static const void *const volatile relocated = (const void *)&relocated;
static bool constructed;

bool preload_is_relocated(void)
{
	return relocated == (const void *)&relocated;
}

/* The kernel's own array, behind the arguments.  ld.so keeps the address. */
extern void *__libc_stack_end __attribute__((weak));

static char **early_environ(void)
{
	uintptr_t *argc = &__libc_stack_end ? __libc_stack_end : NULL;

	return argc ? (char **)(void *)(argc + 1 + *argc + 1) : NULL;
}

struct pp_pool *preload_pool(void)
{
	if (!preload_is_relocated())
		return NULL;
	if (!pool_default_is_ready()) {
		pool_is_preloaded = true;
		config_early_environ = constructed ? NULL : early_environ();
	}
	return pool_default();
}

/*
 * Another library may stand in front of dlsym, and what comes next after that
 * one is ourselves.  dlvsym is asked then, which nobody has thought of.
 */
void *preload_next_symbol(const char *name, const void *own)
{
	static const char *const versions[] = {
		"GLIBC_2.34", "GLIBC_2.2.5", "GLIBC_2.3.2", "GLIBC_2.17",
	};
	void *found = dlsym(RTLD_NEXT, name);

	for (size_t i = 0; i < ARRAY_SIZE(versions) && found == own; i++) {
		found = dlvsym(RTLD_NEXT, name, versions[i]);
		found = found ? found : (void *)(uintptr_t)own;
	}
	return found == own ? NULL : found;
}

/* dlsym returns an object pointer; POSIX says that it converts. */
static void find_libc(void)
{
	*(void **)&libc_malloc.free =
		preload_next_symbol("__libc_free", (void *)free);
	*(void **)&libc_malloc.usable_size =
		preload_next_symbol("malloc_usable_size",
				    (void *)malloc_usable_size);
}

__attribute__((constructor(101))) static void preload_start(void)
{
	struct pp_pool *pool;

	constructed = true;
	pool = preload_pool();
	if (pool && pool->config.strict && pool_default_bad_settings())
		sys_call3(SYS_exit_group, CONFIG_EXIT_STATUS, 0, 0);
	if (pool)
		show_prepare_exit(pool);
	preload_interpose();
	preload_hook_fork();
	find_libc();
	if (pool)
		inject_start(&pool->inject);
}

/* Nothing is torn down: others' destructors free after us. */
__attribute__((destructor)) static void preload_end(void)
{
	struct pp_pool *pool = preload_pool_if_made();

	if (pool)
		show_at_exit(pool);
}
