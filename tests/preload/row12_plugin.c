// SPDX-License-Identifier: MIT
/*
 * Rows 12 and 13, a plugin: allocates, frees what others allocated, keeps
 * something in a thread-local block, and cleans up in its destructor.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

EXPORT char *row12_strdup(const char *text);
EXPORT void *row12_malloc(size_t size);
EXPORT void *row12_realloc(void *block, size_t size);
EXPORT void row12_free(void *block);
EXPORT size_t row12_usable(void *block);
EXPORT char *row12_getline(void);
EXPORT int row12_use_thread_block(void);

static __thread char thread_block[200];
static char *at_load;

__attribute__((constructor)) static void on_load(void)
{
	at_load = strdup("plugin loaded");
	free(malloc(100000));
}

__attribute__((destructor)) static void on_unload(void)
{
	if (strcmp(at_load, "plugin loaded"))
		abort();
	free(at_load);
}

char *row12_strdup(const char *text)
{
	return strdup(text);
}

void *row12_malloc(size_t size)
{
	return malloc(size);
}

void *row12_realloc(void *block, size_t size)
{
	return realloc(block, size);
}

void row12_free(void *block)
{
	free(block);
}

size_t row12_usable(void *block)
{
	return malloc_usable_size(block);
}

/* libc allocates, this library gets the pointer. */
char *row12_getline(void)
{
	static const char text[] = "a line\nanother\n";
	FILE *stream = fmemopen((void *)text, sizeof(text) - 1, "r");
	char *line = NULL;
	size_t room = 0;

	if (getline(&line, &room, stream) != 7)
		abort();
	fclose(stream);
	return line;
}

int row12_use_thread_block(void)
{
	int before = thread_block[199];

	memset(thread_block, 7, sizeof(thread_block));
	return before;
}
