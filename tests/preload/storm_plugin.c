// SPDX-License-Identifier: MIT
/*
 * A plugin of the storm: allocates when it is loaded, when it is called and
 * when it goes, and takes a refusal for what it is.  No thread-local storage:
 * glibc ends the process when it has no memory for that.
 */
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

EXPORT int storm_plugin_work(unsigned size);

static char *at_load;

__attribute__((constructor)) static void on_load(void)
{
	at_load = strdup("plugin loaded");
	free(malloc(30000));
}

__attribute__((destructor)) static void on_unload(void)
{
	if (at_load && strcmp(at_load, "plugin loaded"))
		abort();
	free(at_load);
	free(malloc(3000));
}

/* How many of its blocks it got. */
int storm_plugin_work(unsigned size)
{
	char *block[8];
	int nr = 0;

	for (unsigned i = 0; i < 8; i++) {
		block[i] = malloc(size << i % 4);
		if (block[i])
			memset(block[i], (int)i, 16);
		nr += block[i] != NULL;
	}
	for (unsigned i = 0; i < 8; i++) {
		if (block[i] && block[i][15] != (char)i)
			abort();
		free(block[i]);
	}
	return nr;
}
