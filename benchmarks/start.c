/* SPDX-License-Identifier: MIT */
/*
 * What does it cost a program to start under the pool?
 *
 * `true` is started by itself, with each allocator preloaded, and through
 * `pagepool run` with several limits; all in turn, so that drift meets them
 * alike.  Time is from fork to the collected exit status.  Memory is measured
 * in runs of its own: the process is stopped at its exit by ptrace and
 * /proc/PID/smaps_rollup is read, because ru_maxrss is kept in per-processor
 * batches and is off by up to some hundred KiB.  Both are printed.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_ROWS = 12, MAX_LAPS = 2000, MEMORY_LAPS = 5, WARM_UP_LAPS = 5 };

struct row {
	const char *label;
	const char *preload;		/* or NULL */
	const char *limit;		/* for the environment, or NULL */
	char *argv[8];
	double ms[MAX_LAPS], over_ms[MAX_LAPS];
	double maxrss_kib[MAX_LAPS];
	double rss_kib[MEMORY_LAPS], anonymous_kib[MEMORY_LAPS];
};

static struct row rows[MAX_ROWS];
static size_t nr_rows, nr_laps = 200;

static struct row *row_add(const char *label, const char *preload)
{
	struct row *row = &rows[nr_rows++];

	row->label = label;
	row->preload = preload;
	row->argv[0] = (char *)"true";
	return row;
}

static void row_add_tool(const char *label, char *tool, const char *limit)
{
	struct row *row = row_add(label, NULL);
	size_t i = 0;

	row->argv[i++] = tool;
	row->argv[i++] = (char *)"run";
	if (limit) {
		row->argv[i++] = (char *)"--limit";
		row->argv[i++] = (char *)limit;
	}
	row->argv[i++] = (char *)"--";
	row->argv[i++] = (char *)"true";
}

/* Child: runs the row's command. */
static void exec_row(const struct row *row)
{
	unsetenv("LD_PRELOAD");
	unsetenv("PAGEPOOL_LIMIT");
	if (row->preload)
		setenv("LD_PRELOAD", row->preload, 1);
	if (row->limit)
		setenv("PAGEPOOL_LIMIT", row->limit, 1);
	execvp(row->argv[0], row->argv);
	_exit(127);
}

static void check_status(const struct row *row, int status)
{
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		die("start: %s: ended with status %#x", row->label, status);
}

static void time_row(struct row *row, size_t lap)
{
	uint64_t start_ns = now_ns();
	struct rusage usage;
	int status;
	pid_t pid = fork();

	if (pid < 0)
		die("start: fork: %s", strerror(errno));
	if (pid == 0)
		exec_row(row);
	if (wait4(pid, &status, 0, &usage) != pid)
		die("start: wait4: %s", strerror(errno));
	row->ms[lap] = (double)(now_ns() - start_ns) / 1e6;
	row->over_ms[lap] = row->ms[lap] - rows[0].ms[lap];
	row->maxrss_kib[lap] = (double)usage.ru_maxrss;
	check_status(row, status);
}

/* Lets the child run to its exit, and reads its memory there. */
static void measure_memory(struct row *row, size_t lap)
{
	int status;
	pid_t pid = fork();

	if (pid < 0)
		die("start: fork: %s", strerror(errno));
	if (pid == 0) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		exec_row(row);
	}
	while (waitpid(pid, &status, 0) == pid && WIFSTOPPED(status)) {
		int signal_nr = WSTOPSIG(status), event = status >> 16;

		if (event == PTRACE_EVENT_EXIT) {
			row->rss_kib[lap] = resident_kib(pid, "Rss");
			row->anonymous_kib[lap] = resident_kib(pid,
							       "Anonymous");
		}
		/* The stop after each exec is ours, not the program's. */
		if (signal_nr == SIGTRAP) {
			ptrace(PTRACE_SETOPTIONS, pid, NULL,
			       (void *)(PTRACE_O_TRACEEXIT |
					PTRACE_O_EXITKILL));
			signal_nr = 0;
		}
		ptrace(PTRACE_CONT, pid, NULL, (void *)(intptr_t)signal_nr);
	}
	check_status(row, status);
}

/* The loader only complains on stderr about a library that is missing. */
static bool can_preload(const char *library)
{
	struct row row = { .preload = library, .argv = { (char *)"true" } };
	char byte;
	int fds[2];
	bool silent;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC))
		die("start: pipe: %s", strerror(errno));
	pid = fork();
	if (pid == 0) {
		dup2(fds[1], STDERR_FILENO);
		exec_row(&row);
	}
	close(fds[1]);
	silent = read(fds[0], &byte, 1) == 0;
	close(fds[0]);
	waitpid(pid, NULL, 0);
	return silent;
}

static void add_peer(const char *label, const char *library)
{
	if (can_preload(library))
		row_add(label, library);
	else
		printf("%s: cannot be preloaded, left out\n", library);
}

static void print_rows(void)
{
	double base_rss, base_anonymous, base_max;

	printf("\n%zu starts of each, medians\n", nr_laps);
	printf("%-34s%8s%9s%12s%9s%12s%9s%12s%9s\n", "", "ms", "added",
	       "maxrss KiB", "added", "at exit", "added", "anonymous",
	       "added");
	base_max = median(rows[0].maxrss_kib, nr_laps);
	base_rss = median(rows[0].rss_kib, MEMORY_LAPS);
	base_anonymous = median(rows[0].anonymous_kib, MEMORY_LAPS);
	for (size_t i = 0; i < nr_rows; i++) {
		struct row *row = &rows[i];
		double max = median(row->maxrss_kib, nr_laps);
		double rss = median(row->rss_kib, MEMORY_LAPS);
		double anonymous = median(row->anonymous_kib, MEMORY_LAPS);

		printf("%-34s%8.3f%9.3f%12.0f%9.0f%12.0f%9.0f%12.0f%9.0f\n",
		       row->label, median(row->ms, nr_laps),
		       median(row->over_ms, nr_laps), max, max - base_max,
		       rss, rss - base_rss, anonymous,
		       anonymous - base_anonymous);
	}
}

static void run_rows(void)
{
	for (size_t lap = 0; lap < WARM_UP_LAPS; lap++)
		for (size_t i = 0; i < nr_rows; i++)
			time_row(&rows[i], 0);
	for (size_t lap = 0; lap < nr_laps; lap++)
		for (size_t i = 0; i < nr_rows; i++)
			time_row(&rows[i], lap);
	for (size_t lap = 0; lap < MEMORY_LAPS; lap++)
		for (size_t i = 0; i < nr_rows; i++)
			measure_memory(&rows[i], lap);
}

static char *full_path(const char *path)
{
	char *full = realpath(path, NULL);

	if (!full)
		die("start: %s: not found", path);
	return full;
}

static void add_ours(char *library)
{
	row_add("libpagepool-preload", library);
	row_add("libpagepool-preload, limit 64M", library)->limit = "64M";
	row_add("libpagepool-preload, limit 1T", library)->limit = "1T";
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "ours", required_argument, NULL, 'o' },
		{ "tool", required_argument, NULL, 't' },
		{ "laps", required_argument, NULL, 'l' },
		{ 0 },
	};
	char *ours = NULL, *tool = NULL;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'o')
			ours = full_path(optarg);
		else if (c == 't')
			tool = full_path(optarg);
		else if (c != 'l' || !size_parse(optarg, &nr_laps) ||
			 nr_laps < 1 || nr_laps > MAX_LAPS)
			die("usage: start [--ours LIBRARY] [--tool COMMAND] "
			    "[--laps 1..%d]", MAX_LAPS);
	}
	row_add("true", NULL);
	add_peer("jemalloc", "libjemalloc.so.2");
	add_peer("mimalloc", "libmimalloc.so.2");
	add_peer("tcmalloc", "libtcmalloc_minimal.so.4");
	if (ours)
		add_ours(ours);
	if (tool) {
		row_add_tool("pagepool run --", tool, NULL);
		row_add_tool("pagepool run --limit 64M --", tool, "64M");
		row_add_tool("pagepool run --limit 1T --", tool, "1T");
	}
	run_rows();
	print_rows();
	free(ours);
	free(tool);
	return 0;
}
