// SPDX-License-Identifier: MIT
/*
 * Rows 9 and 11, another preload: its constructor and destructor allocate and
 * free, before ours ran and after; ROW09_CLEAR makes the constructor take the
 * environment away from everyone after it.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NR_BLOCKS = 24 };

static char *blocks[NR_BLOCKS];
static char *text;

static void complain(const char *what)
{
	static const char prefix[] = "row09_ctor: wrong content: ";

	if (write(STDERR_FILENO, prefix, sizeof(prefix) - 1) < 0 ||
	    write(STDERR_FILENO, what, strlen(what)) < 0)
		_exit(98);
	_exit(97);
}

static void check_and_free(const char *when)
{
	int i;

	for (i = 0; i < NR_BLOCKS; i++) {
		if (!blocks[i] || blocks[i][0] != 'c' ||
		    blocks[i][(1UL << i) - 1] != 'c')
			complain(when);
		free(blocks[i]);
	}
	if (strcmp(text, "first of 12"))
		complain(when);
	free(text);
}

static void allocate(void)
{
	int i;

	for (i = 0; i < NR_BLOCKS; i++) {
		blocks[i] = i % 3 ? malloc(1UL << i) : calloc(1, 1UL << i);
		if (!blocks[i])
			complain("no memory");
		blocks[i][0] = 'c';
		blocks[i][(1UL << i) - 1] = 'c';
	}
	if (asprintf(&text, "first of %d", 12) < 0)
		complain("asprintf");
}

__attribute__((constructor)) static void on_load(void)
{
	char *value = getenv("ROW09_CLEAR");

	allocate();
	for (int i = 0; i < NR_BLOCKS; i += 4)
		blocks[i] = realloc(blocks[i], 2UL << i);
	check_and_free("at load");
	allocate();
	if (value && *value == '1')
		clearenv();
}

__attribute__((destructor)) static void on_unload(void)
{
	check_and_free("at exit");
	allocate();
	check_and_free("at exit, again");
	free(strdup("gone"));
}
