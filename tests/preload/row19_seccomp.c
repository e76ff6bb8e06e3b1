// SPDX-License-Identifier: MIT
/*
 * Row 19, a launcher: row19_seccomp ERROR CALL... -- COMMAND...
 * The named system calls fail with ERROR in the command.
 */
#include "filter.h"

struct number {
	const char *name;
	int value;
};

static const struct number numbers[] = {
	{ "EPERM", EPERM }, { "ENOSYS", ENOSYS }, { "ENOMEM", ENOMEM },
	{ "mbind", SYS_mbind }, { "madvise", SYS_madvise },
	{ "membarrier", SYS_membarrier }, { "mremap", SYS_mremap },
	{ "io_uring_setup", SYS_io_uring_setup },
	{ "memfd_create", SYS_memfd_create }, { "prctl", SYS_prctl },
	{ "clone", SYS_clone }, { "clone3", SYS_clone3 },
	{ "getrandom", SYS_getrandom }, { "rseq", SYS_rseq },
	{ "sched_getaffinity", SYS_sched_getaffinity },
	{ "sysinfo", SYS_sysinfo }, { "getcpu", SYS_getcpu },
	{ "close_range", SYS_close_range },
	{ "inotify_init1", SYS_inotify_init1 },
	{ "faccessat", SYS_faccessat },
};

static int number_of(const char *name)
{
	size_t i;

	for (i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		if (!strcmp(numbers[i].name, name))
			return numbers[i].value;
	check_say("row19_seccomp: %s is not known\n", name);
	_exit(2);
}

int main(int argc, char **argv)
{
	int calls[FILTER_MAX_CALLS], error, i;
	size_t nr = 0;

	if (argc < 4)
		return 2;
	error = number_of(argv[1]);
	for (i = 2; i < argc && strcmp(argv[i], "--") &&
	     nr < FILTER_MAX_CALLS; i++)
		calls[nr++] = number_of(argv[i]);
	if (!filter_calls(calls, nr, error))
		check_skip("seccomp filters are not allowed here");
	if (i + 1 >= argc)
		return 2;
	execvp(argv[i + 1], argv + i + 1);
	check_say("row19_seccomp: %s: %s\n", argv[i + 1], strerror(errno));
	return 127;
}
