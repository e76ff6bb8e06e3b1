// SPDX-License-Identifier: MIT
/*
 * Row 19, a launcher: row19_seccomp ERROR CALL... -- COMMAND...
 * The named system calls fail with ERROR in the command.
 */
#include "check.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

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
};

static unsigned number_of(const char *name)
{
	size_t i;

	for (i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		if (!strcmp(numbers[i].name, name))
			return (unsigned)numbers[i].value;
	check_say("row19_seccomp: %s is not known\n", name);
	_exit(2);
}

int main(int argc, char **argv)
{
	struct sock_filter filter[64];
	struct sock_fprog program = { .filter = filter };
	unsigned short nr = 0;
	unsigned error;
	int i;

	if (argc < 4)
		return 2;
	error = number_of(argv[1]);
	filter[nr++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			offsetof(struct seccomp_data, nr));
	for (i = 2; i < argc && strcmp(argv[i], "--") && i < 30; i++) {
		filter[nr++] = (struct sock_filter)BPF_JUMP(
			BPF_JMP | BPF_JEQ | BPF_K, number_of(argv[i]), 0, 1);
		filter[nr++] = (struct sock_filter)BPF_STMT(
			BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error);
	}
	filter[nr++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K,
						    SECCOMP_RET_ALLOW);
	program.len = nr;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		check_skip("seccomp filters are not allowed here");
	if (i + 1 >= argc)
		return 2;
	execvp(argv[i + 1], argv + i + 1);
	check_say("row19_seccomp: %s: %s\n", argv[i + 1], strerror(errno));
	return 127;
}
