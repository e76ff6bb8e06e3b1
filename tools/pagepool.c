/* SPDX-License-Identifier: MIT */
/*
 * pagepool.c - the command.
 *
 *	pagepool run [--limit SIZE] [--stats] [--NAME VALUE] -- COMMAND [ARG...]
 *	pagepool doctor [--json] [-- COMMAND [ARG...]]
 *
 * `run` checks the settings, puts them into the environment with the preload
 * library, and becomes the command: the same process, so that signals, job
 * control and the exit status are the command's own.
 */
#include <errno.h>
#include <pagepool.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "tool.h"

#define PRELOAD_NAME	"libpagepool-preload.so"

static const char usage_text[] =
	"usage: pagepool run [--limit SIZE] [--stats] [--NAME VALUE] "
	"-- COMMAND [ARG...]\n"
	"       pagepool doctor [--json] [-- COMMAND]\n"
	"       pagepool --version | --help\n"
	"\n"
	"Runs COMMAND with a heap that never exceeds SIZE bytes (suffixes K, M,"
	" G, T,\nor % of the memory; or auto): at the limit malloc returns "
	"NULL.\n"
	"  --stats       print at its exit what the command used\n"
	"  --NAME VALUE  any setting of pagepool(7): min-free, "
	"watermark-scale,\n"
	"                purge-delay, pressure-signal, numa, fake-nodes, "
	"thp,\n"
	"                stats, strict, verbose, fault\n"
	"doctor says what auto comes to here, and what the system lacks.\n";

__attribute__((noreturn, format(printf, 2, 3)))
static void die(int status, const char *format, ...)
{
	va_list args;

	fputs("pagepool: run: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(status);
}

/* "min-free" or "min_free" to "min_free". */
static void setting_name(char *to, size_t size, const char *option)
{
	size_t i;

	for (i = 0; option[i] && option[i] != '=' && i + 1 < size; i++)
		to[i] = option[i] == '-' ? '_' : option[i];
	to[i] = '\0';
}

static void put_setting(const char *name, const char *value)
{
	char variable[64] = "PAGEPOOL_";
	size_t at = strlen(variable);

	for (; *name && at + 1 < sizeof(variable); name++, at++)
		variable[at] = *name >= 'a' && *name <= 'z' ?
			       (char)(*name - 'a' + 'A') : *name;
	variable[at] = '\0';
	if (setenv(variable, value, 1))
		die(EXIT_USAGE, "%s: %s", variable, strerror(errno));
}

static void check_setting(struct pp_config *config, const char *option,
			  const char *name, const char *value)
{
	int err = pp_config_set(config, name, value);

	if (err == -ENOENT)
		die(EXIT_USAGE, "--%s: unknown setting, see pagepool(7)",
		    option);
	if (err == -ERANGE)
		die(EXIT_USAGE, "--%s %s: out of range, see pagepool(7)",
		    option, value);
	if (err)
		die(EXIT_USAGE, "--%s %s: not a value for it, see pagepool(7)",
		    option, value);
}

/* Returns the number of arguments taken: 1 or 2. */
static int take_option(struct pp_config *config, char **argv)
{
	const char *option = argv[0] + 2, *value = strchr(option, '=');
	char name[64];

	setting_name(name, sizeof(name), option);
	if (strcmp(option, "stats") == 0) {
		put_setting("stats", "exit");
		return 1;
	}
	if (!value)
		value = argv[1];
	else
		value++;
	if (!value)
		die(EXIT_USAGE, "--%s wants a value", option);
	check_setting(config, option, name, value);
	put_setting(name, value);
	return value == argv[1] ? 2 : 1;
}

/* The path of this program, or "". */
static void own_path(char *self, size_t size)
{
	const char *started_as = (const char *)getauxval(AT_EXECFN);
	ssize_t len = readlink("/proc/self/exe", self, size - 1);

	if (len < 0) {	/* no /proc */
		len = started_as ? (ssize_t)strlen(started_as) : 0;
		if ((size_t)len >= size)
			len = 0;
		memcpy(self, started_as, (size_t)len);
	}
	self[len] = '\0';
}

bool find_library(char *path, size_t size)
{
	static const char *const beside[] = {
		"/../.libs/" PRELOAD_NAME, "/../lib/" PRELOAD_NAME,
	};
	char self[PATH_BYTES / 2], *slash;

	own_path(self, sizeof(self));
	slash = strrchr(self, '/');
	if (slash) {
		*slash = '\0';
		for (size_t i = 0; i < 2; i++) {
			snprintf(path, size, "%s%s", self, beside[i]);
			if (access(path, R_OK) == 0)
				return true;
		}
	}
	snprintf(path, size, "%s/%s", PP_LIBDIR, PRELOAD_NAME);
	return access(path, R_OK) == 0;
}

static void put_preload(void)
{
	const char *others = getenv("LD_PRELOAD");
	char path[PATH_BYTES], *both;
	size_t size;

	if (!find_library(path, sizeof(path)))
		die(EXIT_NO_LIBRARY, "%s: %s", path, strerror(errno));
	if (strpbrk(path, " :"))
		die(EXIT_NO_LIBRARY,
		    "%s: LD_PRELOAD takes no path with a space or a colon",
		    path);
	if (others && *others) {
		size = strlen(path) + strlen(others) + 2;
		both = malloc(size);
		if (!both)
			die(EXIT_USAGE, "%s", strerror(ENOMEM));
		snprintf(both, size, "%s:%s", path, others);
		setenv("LD_PRELOAD", both, 1);
		free(both);
	} else {
		setenv("LD_PRELOAD", path, 1);
	}
}

/* The command itself reads the environment, and says once what is wrong. */
static struct pp_config *config_without_environment(void)
{
	char **environment = environ;
	struct pp_config *config;
	int err;

	environ = NULL;
	err = pp_config_create(&config);
	environ = environment;
	if (err)
		die(EXIT_USAGE, "%s", strerror(-err));
	return config;
}

static int run(char **argv)
{
	struct pp_config *config = config_without_environment();
	int err;

	while (*argv && strncmp(*argv, "--", 2) == 0 && (*argv)[2])
		argv += take_option(config, argv);
	if (*argv && strcmp(*argv, "--") == 0)
		argv++;
	else if (*argv && **argv == '-')
		die(EXIT_USAGE, "%s: unknown option", *argv);
	if (!*argv)
		die(EXIT_USAGE, "no command given, see pagepool --help");
	put_preload();
	execvp(argv[0], argv);
	err = errno;
	fprintf(stderr, "pagepool: run: %s: %s\n", argv[0], strerror(err));
	return err == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE;
}

int main(int argc, char **argv)
{
	if (argc >= 2 && strcmp(argv[1], "run") == 0)
		return run(argv + 2);
	if (argc >= 2 && strcmp(argv[1], "doctor") == 0)
		return doctor(argv + 2);
	if (argc == 2 && strcmp(argv[1], "--version") == 0) {
		puts("pagepool " PACKAGE_VERSION);
		return 0;
	}
	if (argc == 2 && strcmp(argv[1], "--help") == 0) {
		fputs(usage_text, stdout);
		return 0;
	}
	fputs(usage_text, stderr);
	return EXIT_USAGE;
}
