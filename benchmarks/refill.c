/* SPDX-License-Identifier: MIT */
/*
 * After everything of one size has been freed, how much of the limit can
 * another size use, and how long does the slowest call take?
 *
 * A worker (this program again, with the allocator preloaded and its limit
 * set) fills its heap with objects of size A until malloc says no, frees them
 * all, fills it with size B, and reports the bytes of B.  Three histories:
 *
 *   same   one thread does everything
 *   idle   two threads fill and free, then sleep while a third fills with B:
 *          what their caches hide is missing
 *   cross  two threads fill and sleep, a third frees everything and fills
 *
 * Only allocators with a limit of their own take part: ours and tcmalloc.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static const size_t sizes[] = {
	16, 64, 200, 1024, 3000, 8192, 20000, 65536, 300000, 1 << 20, 5 << 20,
};

enum {
	NR_SIZES = sizeof(sizes) / sizeof(*sizes),
	NR_FILLERS = 2,
	NR_HISTORIES = 3,
	MISSING_PER_MILLE = 10,		/* what counts as not refilled */
	NR_FRESH = NR_SIZES,		/* the row that nothing went before */
};

static const char *const histories[NR_HISTORIES] = { "same", "idle", "cross" };

/* What a worker writes back. */
struct refill {
	size_t first_bytes, bytes;	/* of the first and the second size */
	uint64_t slowest_ns;		/* successful call of the second fill */
	uint64_t failing_ns;		/* the call that said no */
};

/* worker */

/* Every object holds the pointer to the one before it. */
static size_t fill(size_t bytes, size_t at_most, void **list,
		   struct refill *timing)
{
	uint64_t start_ns = now_ns();
	size_t filled = 0;

	while (filled + bytes <= at_most) {
		void **p = malloc(bytes);
		uint64_t end_ns = now_ns();

		if (timing && !p)
			timing->failing_ns = end_ns - start_ns;
		if (!p)
			break;
		if (timing && end_ns - start_ns > timing->slowest_ns)
			timing->slowest_ns = end_ns - start_ns;
		*p = *list;
		*list = p;
		filled += bytes;
		start_ns = end_ns;
	}
	return filled;
}

static void free_list(void **list)
{
	while (*list) {
		void **p = *list;

		*list = *p;
		free(p);
	}
}

struct filler {
	size_t size, at_most, filled;
	bool frees;
	void *list;
	sem_t done, leave;
};

static void *filler_thread(void *argument)
{
	struct filler *filler = argument;

	filler->filled = fill(filler->size, filler->at_most, &filler->list,
			      NULL);
	if (filler->frees)
		free_list(&filler->list);
	sem_post(&filler->done);
	sem_wait(&filler->leave);
	return NULL;
}

/* Fills from threads that stay alive; returns the bytes. */
static size_t fill_in_threads(size_t size, size_t limit_bytes, bool frees)
{
	static struct filler fillers[NR_FILLERS];
	size_t filled = 0;
	pthread_t thread;

	for (int i = 0; i < NR_FILLERS; i++) {
		fillers[i].size = size;
		fillers[i].frees = frees;
		/* Half each, or the first one leaves nothing to the second. */
		fillers[i].at_most = limit_bytes / NR_FILLERS;
		sem_init(&fillers[i].done, 0, 0);
		sem_init(&fillers[i].leave, 0, 0);
		if (pthread_create(&thread, NULL, filler_thread, &fillers[i]))
			_exit(6);
	}
	for (int i = 0; i < NR_FILLERS; i++) {
		sem_wait(&fillers[i].done);
		filled += fillers[i].filled;
	}
	for (int i = 0; i < NR_FILLERS; i++)
		free_list(&fillers[i].list);
	return filled;
}

/* Arguments: HISTORY A B LIMIT; A of 0 means a fresh heap. */
static int worker(char **argv)
{
	const char *history = argv[0];
	size_t first = strtoull(argv[1], NULL, 10);
	size_t second = strtoull(argv[2], NULL, 10);
	size_t limit_bytes = strtoull(argv[3], NULL, 10);
	struct refill refill = { 0 };
	void *list = NULL;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (first && strcmp(history, "same") == 0) {
		refill.first_bytes = fill(first, SIZE_MAX, &list, NULL);
		free_list(&list);
	} else if (first) {
		refill.first_bytes = fill_in_threads(first, limit_bytes,
					     strcmp(history, "idle") == 0);
	}
	refill.bytes = fill(second, SIZE_MAX, &list, &refill);
	if (write(STDOUT_FILENO, &refill, sizeof(refill)) != sizeof(refill))
		return 4;
	/* The answer is out; there is no point in freeing. */
	_exit(0);
}

/* driver */

struct limited {
	const char *name, *library, *variable;
	char value[32];
	bool present;
	struct refill cell[NR_SIZES + 1][NR_SIZES];	/* [first][second] */
};

static size_t limit_bytes = 64 << 20;

static void become_worker(const struct limited *limited, int out_fd,
			  const char *history, size_t first, size_t second)
{
	char a[32], b[32], c[32];

	snprintf(a, sizeof(a), "%zu", first);
	snprintf(b, sizeof(b), "%zu", second);
	snprintf(c, sizeof(c), "%zu", limit_bytes);
	dup2(out_fd, STDOUT_FILENO);
	/* Allocators may report the failures that this is all about. */
	dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), STDERR_FILENO);
	setenv("LD_PRELOAD", limited->library, 1);
	setenv(limited->variable, limited->value, 1);
	execl("/proc/self/exe", "refill", "--worker", history, a, b, c,
	      (char *)NULL);
	_exit(127);
}

static bool run_worker(const struct limited *limited, const char *history,
		       size_t first, size_t second, struct refill *refill)
{
	int fds[2], status = 0;
	bool ok;
	pid_t pid;

	memset(refill, 0, sizeof(*refill));
	if (pipe2(fds, O_CLOEXEC))
		die("refill: pipe: %s", strerror(errno));
	pid = fork();
	if (pid < 0)
		die("refill: fork: %s", strerror(errno));
	if (pid == 0)
		become_worker(limited, fds[1], history, first, second);
	close(fds[1]);
	ok = read(fds[0], refill, sizeof(*refill)) == sizeof(*refill);
	close(fds[0]);
	waitpid(pid, &status, 0);
	return ok && status == 0;
}

static double percent(size_t bytes)
{
	return 100.0 * (double)bytes / (double)limit_bytes;
}

static void print_matrix(const struct limited *limited, const char *history)
{
	char text[16];

	printf("\n%s, %s: %% of the limit (rows: first size; columns: "
	       "second)\n%8s", limited->name, history, "");
	for (size_t b = 0; b < NR_SIZES; b++) {
		size_text(text, sizeof(text), sizes[b]);
		printf("%8s", text);
	}
	for (size_t a = 0; a <= NR_SIZES; a++) {
		size_text(text, sizeof(text), a < NR_SIZES ? sizes[a] : 0);
		printf("\n%8s", a < NR_SIZES ? text : "fresh");
		for (size_t b = 0; b < NR_SIZES; b++)
			printf("%8.1f", percent(limited->cell[a][b].bytes));
	}
	printf("\n");
}

/* One line that says how the matrix came out, against a fresh heap. */
static void print_summary(const struct limited *limited, const char *history)
{
	size_t missing = 0, worst_a = 0, worst_b = 0;
	uint64_t slowest_ns = 0, failing_ns = 0;
	double worst = 1e9;
	char a_text[16], b_text[16];

	for (size_t a = 0; a < NR_SIZES; a++) {
		for (size_t b = 0; b < NR_SIZES; b++) {
			const struct refill *cell = &limited->cell[a][b];
			double share = (double)cell->bytes /
				(double)limited->cell[NR_FRESH][b].bytes;

			missing += share < 1 - MISSING_PER_MILLE / 1000.0;
			if (share < worst) {
				worst = share;
				worst_a = a;
				worst_b = b;
			}
			if (cell->slowest_ns > slowest_ns)
				slowest_ns = cell->slowest_ns;
			if (cell->failing_ns > failing_ns)
				failing_ns = cell->failing_ns;
		}
	}
	size_text(a_text, sizeof(a_text), sizes[worst_a]);
	size_text(b_text, sizeof(b_text), sizes[worst_b]);
	printf("%s, %s: worst pair %s then %s reaches %.1f %% of a fresh "
	       "heap; %zu of %d pairs below 99 %%; slowest call %.2f ms, "
	       "slowest refusal %.2f ms\n", limited->name, history, a_text,
	       b_text, 100 * worst, missing, NR_SIZES * NR_SIZES,
	       (double)slowest_ns / 1e6, (double)failing_ns / 1e6);
	fflush(stdout);
}

static void run_history(struct limited *allocators, size_t nr,
			const char *history)
{
	for (size_t a = 0; a <= NR_SIZES; a++)
		for (size_t b = 0; b < NR_SIZES; b++)
			for (size_t i = 0; i < nr; i++) {
				struct limited *l = &allocators[i];

				if (!l->present)
					continue;
				if (!run_worker(l, history,
						a < NR_SIZES ? sizes[a] : 0,
						sizes[b], &l->cell[a][b]))
					printf("%s: %zu then %zu: died\n",
					       l->name,
					       a < NR_SIZES ? sizes[a] : 0,
					       sizes[b]);
			}
	for (size_t i = 0; i < nr; i++)
		if (allocators[i].present)
			print_matrix(&allocators[i], history);
	for (size_t i = 0; i < nr; i++)
		if (allocators[i].present)
			print_summary(&allocators[i], history);
}

/* Present if the limit works: twice the limit must be refused. */
static void probe(struct limited *limited)
{
	struct refill refill;

	limited->present = limited->library &&
		run_worker(limited, "same", 0, limit_bytes / 8, &refill) &&
		refill.bytes <= limit_bytes;
	if (!limited->present)
		printf("%s: not installed or without a limit, left out\n",
		       limited->name);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "ours", required_argument, NULL, 'o' },
		{ "limit", required_argument, NULL, 'l' },
		{ 0 },
	};
	static struct limited allocators[] = {
		{ .name = "tcmalloc", .library = "libtcmalloc_minimal.so.4",
		  .variable = "TCMALLOC_HEAP_LIMIT_MB" },
		{ .name = "ours", .variable = "PAGEPOOL_LIMIT" },
	};
	int c;

	if (argc == 6 && strcmp(argv[1], "--worker") == 0)
		return worker(argv + 2);
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'o')
			allocators[1].library = realpath(optarg, NULL);
		else if (c != 'l' || !size_parse(optarg, &limit_bytes))
			die("usage: refill [--ours LIBRARY] [--limit 64M]");
	}
	snprintf(allocators[0].value, sizeof(allocators[0].value), "%zu",
		 limit_bytes >> 20);
	snprintf(allocators[1].value, sizeof(allocators[1].value), "%zu",
		 limit_bytes);
	probe(&allocators[0]);
	probe(&allocators[1]);
	for (int i = 0; i < NR_HISTORIES; i++)
		run_history(allocators, 2, histories[i]);
	return 0;
}
