/* SPDX-License-Identifier: MIT */
/*
 * The allocators under comparison and the processes that run them.
 *
 * A worker is this program again with LD_PRELOAD set, two pipes, and the
 * arguments of one workload.  Each byte written to it asks for one round.  A
 * worker that dies, answers nothing for a minute or runs out of memory costs
 * its own cell of the table and nothing else.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ANSWER_TIMEOUT_MS = 60000 };

void peer_add(struct peer *peers, size_t *nr, const char *name,
	      const char *path, bool ours)
{
	struct peer *peer;

	if (*nr == BENCH_MAX_PEERS)
		die("compare: at most %d allocators", BENCH_MAX_PEERS);
	peer = &peers[(*nr)++];
	memset(peer, 0, sizeof(*peer));
	snprintf(peer->name, sizeof(peer->name), "%s", name);
	snprintf(peer->path, sizeof(peer->path), "%s", path);
	peer->ours = ours;
}

/* The loader finds these by name, wherever the distribution keeps them. */
void peers_default(struct peer *peers, size_t *nr)
{
	peer_add(peers, nr, "glibc", "", false);
	peer_add(peers, nr, "jemalloc", "libjemalloc.so.2", false);
	peer_add(peers, nr, "mimalloc", "libmimalloc.so.2", false);
	peer_add(peers, nr, "tcmalloc", "libtcmalloc_minimal.so.4", false);
}

/* Child: becomes a worker on the two descriptors. */
static void become_worker(const struct peer *peer, int in_fd, int out_fd,
			  char *const argv[])
{
	dup2(in_fd, STDIN_FILENO);
	dup2(out_fd, STDOUT_FILENO);
	if (peer->path[0])
		setenv("LD_PRELOAD", peer->path, 1);
	else
		unsetenv("LD_PRELOAD");
	execv("/proc/self/exe", argv);
	_exit(127);
}

static void spawn(struct peer *peer, char *const argv[], bool quiet)
{
	int to[2], from[2];

	if (pipe2(to, O_CLOEXEC) || pipe2(from, O_CLOEXEC))
		die("compare: pipe: %s", strerror(errno));
	fflush(NULL);
	peer->pid = fork();
	if (peer->pid < 0)
		die("compare: fork: %s", strerror(errno));
	if (peer->pid == 0) {
		/* The loader complains about a library that is missing. */
		if (quiet)
			dup2(open("/dev/null", O_WRONLY | O_CLOEXEC),
			     STDERR_FILENO);
		become_worker(peer, to[0], from[1], argv);
	}
	close(to[0]);
	close(from[1]);
	peer->to_fd = to[1];
	peer->from_fd = from[0];
}

void peer_clear(struct peer *peer)
{
	peer->failure[0] = '\0';
	peer->nr_rounds = 0;
	peer->nr_starts = 0;
}

/* Notes what the idle worker keeps resident. */
void peer_resident(struct peer *peer)
{
	double kib;

	if (peer->pid <= 0 || peer->nr_starts == BENCH_MAX_STARTS)
		return;
	kib = resident_kib(peer->pid, "Rss");
	if (kib > 0)
		peer->resident_bytes[peer->nr_starts++] = kib * 1024;
}

/* Ends the worker, whatever state it is in. */
void peer_stop(struct peer *peer)
{
	int status = 0;

	if (peer->pid <= 0)
		return;
	close(peer->to_fd);
	close(peer->from_fd);
	kill(peer->pid, SIGKILL);
	while (waitpid(peer->pid, &status, 0) < 0 && errno == EINTR)
		;
	peer->pid = 0;
}

static void fail(struct peer *peer)
{
	int status;

	if (waitpid(peer->pid, &status, WNOHANG) == 0) {
		snprintf(peer->failure, sizeof(peer->failure), "hung");
		peer_stop(peer);
		return;
	}
	if (WIFSIGNALED(status))
		snprintf(peer->failure, sizeof(peer->failure), "signal %d",
			 WTERMSIG(status));
	else if (WEXITSTATUS(status) == 3)
		snprintf(peer->failure, sizeof(peer->failure), "no memory");
	else
		snprintf(peer->failure, sizeof(peer->failure), "exit %d",
			 WEXITSTATUS(status));
	close(peer->to_fd);
	close(peer->from_fd);
	peer->pid = 0;
}

static bool read_answer(struct peer *peer, struct round_result *result)
{
	struct pollfd poll_fd = { .fd = peer->from_fd, .events = POLLIN };
	siginfo_t info;

	if (poll(&poll_fd, 1, ANSWER_TIMEOUT_MS) != 1)
		return false;
	if (read(peer->from_fd, result, sizeof(*result)) == sizeof(*result))
		return true;
	/* The pipe's end was seen: the exit status is there, or soon. */
	(void)waitid(P_PID, (id_t)peer->pid, &info, WEXITED | WNOWAIT);
	return false;
}

/* Starts a worker and returns when it has warmed up. */
void peer_start(struct peer *peer, const char *workload, size_t size_bytes,
		int nr_threads, unsigned int round_us)
{
	struct round_result result;
	char size[32], threads[16], round[16], name[32];
	char *argv[] = { "compare", "--worker", name, size, threads, round,
			 NULL };

	snprintf(name, sizeof(name), "%s", workload);
	snprintf(size, sizeof(size), "%zu", size_bytes);
	snprintf(threads, sizeof(threads), "%d", nr_threads);
	snprintf(round, sizeof(round), "%u", round_us);
	if (peer->failure[0])
		return;
	spawn(peer, argv, false);
	if (!read_answer(peer, &result))
		fail(peer);
}

/* One round; a round that does not count only brings the caches back. */
void peer_round(struct peer *peer, bool counts)
{
	struct round_result result;
	char byte = 'r';

	if (peer->pid <= 0)
		return;
	if (write(peer->to_fd, &byte, 1) != 1 || !read_answer(peer, &result)) {
		fail(peer);
		return;
	}
	if (counts && peer->nr_rounds < BENCH_MAX_ROUNDS)
		peer->ns_per_op[peer->nr_rounds++] =
			(double)result.elapsed_ns / (double)result.nr_ops;
}

/* Runs a worker that only tells which file its malloc comes from. */
void peer_probe(struct peer *peer)
{
	char *argv[] = { "compare", "--worker", "which", NULL };
	char file[512] = "", wanted[512];
	FILE *from;

	spawn(peer, argv, true);
	from = fdopen(dup(peer->from_fd), "r");
	if (from && fgets(file, sizeof(file), from) &&
	    fgets(peer->version, sizeof(peer->version), from)) {
		file[strcspn(file, "\n")] = '\0';
		peer->version[strcspn(peer->version, "\n")] = '\0';
	}
	if (from)
		fclose(from);
	peer_stop(peer);
	if (!peer->path[0]) {
		peer->present = strstr(file, "libc.so") != NULL;
		return;
	}
	snprintf(wanted, sizeof(wanted), "%s", peer->path);
	peer->present = strcmp(basename(file), basename(wanted)) == 0;
	/* glibc's version would be printed for a library that tells none. */
	if (peer->ours || peer->path[0] == '/')
		snprintf(peer->version, sizeof(peer->version), "this build");
}
