// SPDX-License-Identifier: MIT
/*
 * Row 18: opens the library given as argument, which reads the environment,
 * and says whether a block of 32 MiB could be had.  The test installs copies
 * of it with the set-user-ID and set-group-ID bits.
 */
#include "check.h"
#include <dlfcn.h>
#include <sys/auxv.h>

int main(int argc, char **argv)
{
	void *(*pool_malloc)(size_t size);
	void *handle = argc > 1 ? dlopen(argv[1], RTLD_NOW) : NULL;

	if (!handle) {
		check_say("%s\n", argc > 1 ? dlerror() : "name a library");
		return 1;
	}
	*(void **)&pool_malloc = dlsym(handle, "malloc");
	if (!pool_malloc)
		return 1;
	check_say("secure %lu, 32 MiB: %s\n", getauxval(AT_SECURE),
		  pool_malloc(32 << 20) ? "yes" : "no");
	return 0;
}
