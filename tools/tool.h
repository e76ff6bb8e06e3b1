/* SPDX-License-Identifier: MIT */
/* tool.h - what the parts of the command share. */
#ifndef PP_TOOLS_TOOL_H
#define PP_TOOLS_TOOL_H

#include <stdbool.h>
#include <stddef.h>

#define PATH_BYTES	4096

enum {
	EXIT_USAGE = 64,	/* sysexits.h EX_USAGE */
	EXIT_NO_LIBRARY = 69,	/* EX_UNAVAILABLE */
	EXIT_NOT_EXECUTABLE = 126,	/* as the shell and env(1) have it */
	EXIT_NOT_FOUND = 127,
};

/* The preload library: beside the command as built, or where it is installed.
 * False, with errno, if there is none at @path, the last place. */
bool find_library(char *path, size_t size);

/* pagepool doctor [--json] [-- COMMAND...]: the exit status. */
int doctor(char **argv);

#endif
