// SPDX-License-Identifier: MIT
/*
 * Row 9, a shared library: its IFUNC resolvers allocate.  The loader calls
 * the inner one while it relocates this library, which is before it has
 * relocated the preload library and long before any constructor.
 */
#include <stdlib.h>
#include <string.h>

extern char *row09_resolver_block(int index);
extern int row09_answer(void);
extern int row09_inner_answer(void);

static char *found[4];

char *row09_resolver_block(int index)
{
	return found[index];
}

static int answer(void)
{
	return 42;
}

static int (*resolve(int first))(void)
{
	char *block = malloc(100);

	memset(block, 'i', 100);
	found[first] = block;
	block = calloc(1, 30000);
	block[29999] = 'j';
	found[first + 1] = block;
	free(malloc(50));
	block = realloc(malloc(10), 5000);
	free(block);
	return answer;
}

__attribute__((used)) static int (*resolve_outer(void))(void)
{
	return resolve(0);
}

__attribute__((used)) static int (*resolve_inner(void))(void)
{
	return resolve(2);
}

int row09_answer(void) __attribute__((ifunc("resolve_outer")));
static int inner(void) __attribute__((ifunc("resolve_inner")));

int row09_inner_answer(void)
{
	return inner();
}
