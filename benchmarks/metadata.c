/* SPDX-License-Identifier: MIT */
/*
 * How much of the limit goes into the pool's own tables?
 *
 * Two tables, each line from a process of its own (this program again):
 *
 *   pages   a pool is filled with untouched runs of one page count through
 *           pp_alloc_pages(), so that all that becomes resident is metadata;
 *           the books' number and the kernel's stand side by side
 *   malloc  the preloaded heap is filled with objects of one size, the first
 *           word of each written: payload, metadata and what is resident, as
 *           parts of the limit
 */
#define _GNU_SOURCE
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pagepool.h>
#include <pagepool/stat.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* What a worker writes back. */
struct usage {
	double payload_bytes, metadata_bytes, managed_bytes;
	double resident_bytes;		/* more than before the fill */
};

static void answer(struct pp_pool *pool, struct usage *usage,
		   double before_kib)
{
	struct pp_stats stats = { .struct_bytes = sizeof(stats) };

	usage->resident_bytes =
		(resident_kib(getpid(), "Rss") - before_kib) * 1024;
	if (pp_stat_snapshot(pool, &stats))
		_exit(5);
	usage->metadata_bytes = (double)stats.metadata_pages * PP_PAGE_SIZE;
	usage->managed_bytes = (double)stats.managed_pages * PP_PAGE_SIZE;
	if (write(STDOUT_FILENO, usage, sizeof(*usage)) != sizeof(*usage))
		_exit(4);
	_exit(0);
}

/* Arguments: LIMIT PAGES */
static void pages_worker(const char *limit, size_t run_pages)
{
	struct usage usage = { 0 };
	struct pp_config *config;
	struct pp_pool *pool;
	double before_kib = resident_kib(getpid(), "Rss");

	if (pp_config_create(&config) ||
	    pp_config_set(config, "limit", limit) ||
	    pp_pool_create(config, &pool))
		_exit(6);
	while (pp_alloc_pages(pool, run_pages, PP_NOWARN))
		usage.payload_bytes += (double)run_pages * PP_PAGE_SIZE;
	answer(pool, &usage, before_kib);
}

static void malloc_worker(size_t object_bytes)
{
	struct usage usage = { 0 };
	double before_kib = resident_kib(getpid(), "Rss");
	char *p;

	while ((p = malloc(object_bytes)) != NULL) {
		*(void **)opaque(p) = p;
		usage.payload_bytes += (double)object_bytes;
	}
	answer(pp_pool_default(), &usage, before_kib);
}

static bool run_worker(const char *kind, const char *limit, size_t size,
		       const char *preload, struct usage *usage)
{
	int fds[2], status = 0;
	char text[32];
	bool ok;
	pid_t pid;

	snprintf(text, sizeof(text), "%zu", size);
	if (pipe2(fds, O_CLOEXEC))
		die("metadata: pipe: %s", strerror(errno));
	pid = fork();
	if (pid < 0)
		die("metadata: fork: %s", strerror(errno));
	if (pid == 0) {
		dup2(fds[1], STDOUT_FILENO);
		/* The heap reports the refusal that ends the fill. */
		dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), STDERR_FILENO);
		if (preload) {
			setenv("LD_PRELOAD", preload, 1);
			setenv("PAGEPOOL_LIMIT", limit, 1);
		}
		execl("/proc/self/exe", "metadata", "--worker", kind, limit,
		      text, (char *)NULL);
		_exit(127);
	}
	close(fds[1]);
	ok = read(fds[0], usage, sizeof(*usage)) == sizeof(*usage);
	close(fds[0]);
	waitpid(pid, &status, 0);
	return ok && status == 0;
}

static void print_line(const char *label, size_t limit_bytes,
		       const struct usage *usage, bool payload_untouched)
{
	double limit = (double)limit_bytes;
	double inside = usage->managed_bytes + usage->metadata_bytes;

	printf("%-20s%10.2f%12.3f%20.2f", label,
	       100 * usage->payload_bytes / limit,
	       100 * usage->metadata_bytes / limit, 100 * inside / limit);
	printf("%14.3f%s\n", 100 * usage->resident_bytes / limit,
	       payload_untouched ? "  (metadata alone)" : "");
	fflush(stdout);
}

static void print_head(const char *title)
{
	printf("\n%s\n%-20s%10s%12s%20s%14s\n", title, "% of the limit",
	       "payload", "metadata", "managed + metadata", "resident");
}

static void pages_table(void)
{
	static const char *const limits[] = { "64M", "256M", "1G", "16G" };
	static const size_t runs[] = { 1, 3, 16, 512, 5000 };
	struct usage usage;

	print_head("runs of untouched pages through pp_alloc_pages()");
	for (size_t l = 0; l < sizeof(limits) / sizeof(*limits); l++)
		for (size_t r = 0; r < sizeof(runs) / sizeof(*runs); r++) {
			char label[32];
			size_t limit_bytes;

			size_parse(limits[l], &limit_bytes);
			if (runs[r] * PP_PAGE_SIZE > limit_bytes / 4)
				continue;
			snprintf(label, sizeof(label), "%s, %zu pages",
				 limits[l], runs[r]);
			if (!run_worker("pages", limits[l], runs[r], NULL,
					&usage))
				printf("%-20s failed\n", label);
			else
				print_line(label, limit_bytes, &usage, true);
		}
}

static void malloc_table(const char *preload, const char *limit)
{
	static const size_t sizes[] = { 16, 64, 200, 1024, 3000, 8192, 20000,
					65536, 300000, 1 << 20, 5 << 20 };
	struct usage usage;
	size_t limit_bytes;

	if (!size_parse(limit, &limit_bytes))
		die("metadata: --limit %s: expected a size", limit);
	print_head("objects through malloc(), first word written");
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		char label[32], size[16];

		size_text(size, sizeof(size), sizes[i]);
		snprintf(label, sizeof(label), "%s, %s", limit, size);
		if (!run_worker("malloc", limit, sizes[i], preload, &usage))
			printf("%-20s failed\n", label);
		else
			print_line(label, limit_bytes, &usage, false);
	}
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "ours", required_argument, NULL, 'o' },
		{ "limit", required_argument, NULL, 'l' },
		{ 0 },
	};
	const char *limit = "256M";
	char *preload = NULL;
	int c;

	if (argc == 5 && strcmp(argv[1], "--worker") == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (strcmp(argv[2], "pages") == 0)
			pages_worker(argv[3], strtoull(argv[4], NULL, 10));
		malloc_worker(strtoull(argv[4], NULL, 10));
	}
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'o')
			preload = realpath(optarg, NULL);
		else if (c == 'l')
			limit = optarg;
		else
			die("usage: metadata [--ours LIBRARY] [--limit 256M]");
	}
	pages_table();
	if (preload)
		malloc_table(preload, limit);
	free(preload);
	return 0;
}
