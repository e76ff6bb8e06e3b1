/* SPDX-License-Identifier: MIT */
/*
 * How long does an allocation take, against the best of the other
 * allocators?
 *
 * Every allocator runs the same loop in a process of its own.  The rounds,
 * of a few milliseconds each, go round the allocators in turn (A B C, B C A,
 * ...), so that the drift of a virtual machine's speed meets all of them
 * alike.  What is printed is the median over the rounds, and the ratio of
 * ours to the best peer: the median over the rounds of the ratio in one round,
 * which a change of the machine's speed half way leaves alone.  A set ends
 * with the geometric means of the ratios.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <getopt.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MIN_ROUNDS = 5 };

struct bench_case {
	const char *workload;
	size_t size_bytes;
	int nr_threads;
};

static struct {
	struct peer peers[BENCH_MAX_PEERS];
	size_t nr_peers;
	size_t nr_rounds;		/* timed, of each start */
	size_t nr_starts;
	unsigned int round_us;
	unsigned int budget_s;		/* of one line of a table */
	int threads;			/* 0: as the set says */
	bool resident;			/* print a line of it as well */
} opt = { .nr_rounds = 9, .nr_starts = 3, .round_us = 2000, .budget_s = 15 };

/* A set is workloads x sizes x threads; sizes end with 0. */
struct set {
	const char *name, *title;
	const char *workloads[4];
	size_t sizes[12];
	int max_threads, min_threads;
};

#define SMALL_SIZES \
	16, 32, 64, 128, 256, 512, 1 << 10, 2 << 10, 4 << 10, 8 << 10
#define LARGE_SIZES 16 << 10, 32 << 10, 64 << 10, 128 << 10, 256 << 10
#define HUGE_SIZES 1 << 20, 4 << 20, 16 << 20, 64 << 20

static const struct set sets[] = {
	{ "small", "alloc + free of one small object", { "pair" },
	  { SMALL_SIZES }, 2, 1 },
	{ "large", "alloc + free of one large buffer", { "pair" },
	  { LARGE_SIZES }, 2, 1 },
	{ "huge", "alloc + free of one huge buffer", { "pair" },
	  { HUGE_SIZES }, 2, 1 },
	{ "touch-small", "the same, first and last byte written",
	  { "touch" }, { SMALL_SIZES }, 1, 1 },
	{ "touch-large", "the same, first and last byte written",
	  { "touch" }, { LARGE_SIZES, HUGE_SIZES }, 1, 1 },
	{ "batch", "a batch of objects, freed in three orders",
	  { "lifo", "fifo", "shuffle" }, { SMALL_SIZES }, 1, 1 },
	{ "batch2", "a batch of objects, in each of two threads",
	  { "lifo", "fifo", "shuffle" }, { 64, 1 << 10, 8 << 10 }, 2, 2 },
	{ "mixed", "working set of 10,000 objects, 16 bytes to 8K",
	  { "mixed" }, { 8 << 10 }, 2, 1 },
	{ "xfree", "one thread allocates, the other frees", { "xfree" },
	  { 16, 64, 256, 1 << 10, 8 << 10, 64 << 10 }, 2, 2 },
	{ "grow", "a vector grows by half of itself, each page written",
	  { "grow" }, { 1 << 20, 64 << 20 }, 1, 1 },
	{ "grow64k", "a vector grows in steps of 64K, each page written",
	  { "grow64k" }, { 4 << 20, 64 << 20 }, 1, 1 },
};

enum { NR_SETS = sizeof(sets) / sizeof(*sets) };

static void print_head(const char *title)
{
	printf("\n%s (ns)\n%-18s", title, "");
	for (size_t i = 0; i < opt.nr_peers; i++)
		if (opt.peers[i].present)
			printf("%12s", opt.peers[i].name);
	printf("  %s\n", "ours/best peer");
}

/* One start of every worker: warm up each, then rounds in turn. */
static void run_start(const struct bench_case *c, uint64_t until_ns)
{
	for (size_t i = 0; i < opt.nr_peers; i++)
		if (opt.peers[i].present)
			peer_start(&opt.peers[i], c->workload, c->size_bytes,
				   c->nr_threads, opt.round_us);
	for (size_t round = 0; round <= opt.nr_rounds; round++) {
		if (round > MIN_ROUNDS && now_ns() > until_ns)
			break;
		for (size_t i = 0; i < opt.nr_peers; i++)
			peer_round(&opt.peers[(i + round) % opt.nr_peers],
				   round > 0);
	}
	for (size_t i = 0; i < opt.nr_peers; i++) {
		peer_resident(&opt.peers[i]);
		peer_stop(&opt.peers[i]);
	}
}

/* Where a process's pages and code lie is luck, so each starts afresh. */
static void run_case(const struct bench_case *c)
{
	uint64_t until_ns = now_ns() + (uint64_t)opt.budget_s * 1000000000u;

	for (size_t i = 0; i < opt.nr_peers; i++)
		peer_clear(&opt.peers[i]);
	for (size_t start = 0; start < opt.nr_starts; start++)
		if (start == 0 || now_ns() < until_ns)
			run_start(c, until_ns);
}

/* Logarithms of the ratios of one table, for its geometric means. */
struct sums {
	double log_ratio[BENCH_MAX_PEERS];
	size_t nr[BENCH_MAX_PEERS];
};

/* The allocator with the lowest median that is not ours; NULL if none. */
static const struct peer *best_peer(const double *ns)
{
	const struct peer *found = NULL;
	double best = 0;

	for (size_t i = 0; i < opt.nr_peers; i++) {
		if (opt.peers[i].ours || ns[i] <= 0)
			continue;
		if (best > 0 && ns[i] >= best)
			continue;
		best = ns[i];
		found = &opt.peers[i];
	}
	return found;
}

/* The median over the rounds of one allocator's time over the other's. */
static double median_ratio(const struct peer *a, const struct peer *b)
{
	static double ratios[BENCH_MAX_ROUNDS];
	size_t nr = a->nr_rounds < b->nr_rounds ? a->nr_rounds : b->nr_rounds;

	for (size_t i = 0; i < nr; i++)
		ratios[i] = a->ns_per_op[i] / b->ns_per_op[i];
	return median(ratios, nr);
}

static double median_ns(const struct peer *peer)
{
	static double ns[BENCH_MAX_ROUNDS];

	memcpy(ns, peer->ns_per_op, peer->nr_rounds * sizeof(*ns));
	return median(ns, peer->nr_rounds);
}

/* What the workers kept at the end of the case, in MiB. */
static void print_resident(void)
{
	printf("%-18s", "  resident MiB");
	for (size_t i = 0; i < opt.nr_peers; i++) {
		struct peer *peer = &opt.peers[i];

		if (peer->present)
			printf("%12.1f", median(peer->resident_bytes,
						peer->nr_starts) / (1 << 20));
	}
	printf("\n");
}

static void print_case(const struct bench_case *c, struct sums *sums)
{
	double ns[BENCH_MAX_PEERS] = { 0 }, ratio;
	const struct peer *best;
	char size[16], label[64];

	size_text(size, sizeof(size), c->size_bytes);
	snprintf(label, sizeof(label), "%s %s%s", c->workload, size,
		 c->nr_threads > 1 ? " x2" : "");
	printf("%-18s", label);
	for (size_t i = 0; i < opt.nr_peers; i++) {
		struct peer *peer = &opt.peers[i];

		if (!peer->present)
			continue;
		ns[i] = median_ns(peer);
		if (peer->failure[0])
			printf("%12s", peer->failure);
		else
			printf("%12.*f", ns[i] < 1000 ? 2 : 0, ns[i]);
		if (peer->failure[0])
			ns[i] = 0;
	}
	best = best_peer(ns);
	for (size_t i = 0; i < opt.nr_peers; i++) {
		if (ns[i] <= 0 || !best)
			continue;
		ratio = median_ratio(&opt.peers[i], best);
		sums->log_ratio[i] += log(ratio);
		sums->nr[i]++;
		if (opt.peers[i].ours)
			printf("  %8.3f", ratio);
	}
	printf("  %s\n", best ? best->name : "");
	if (opt.resident)
		print_resident();
	fflush(stdout);
}

static void print_means(const struct sums *sums)
{
	printf("%-18s", "geometric mean /");
	for (size_t i = 0; i < opt.nr_peers; i++) {
		if (!opt.peers[i].present)
			continue;
		if (sums->nr[i])
			printf("%12.3f", exp(sums->log_ratio[i] /
					     (double)sums->nr[i]));
		else
			printf("%12s", "-");
	}
	printf("  of the best peer\n");
	fflush(stdout);
}

static void run_set(const struct set *set, int nr_threads)
{
	struct sums sums = { 0 };
	char title[128];

	snprintf(title, sizeof(title), "%s: %s, %d thread%s", set->name,
		 set->title, nr_threads, nr_threads > 1 ? "s" : "");
	print_head(title);
	for (size_t w = 0; w < 4 && set->workloads[w]; w++) {
		for (size_t s = 0; s < 12 && set->sizes[s]; s++) {
			struct bench_case c = { set->workloads[w],
						set->sizes[s], nr_threads };

			run_case(&c);
			print_case(&c, &sums);
		}
	}
	print_means(&sums);
}

/* One case as WORKLOAD:SIZE, for looking closer. */
static void run_single(const char *text)
{
	struct bench_case c = { .nr_threads = opt.threads ? opt.threads : 1 };
	struct sums sums = { 0 };
	char workload[32], *colon;

	snprintf(workload, sizeof(workload), "%s", text);
	colon = strchr(workload, ':');
	if (!colon)
		die("compare: %s: no such set; try --help", text);
	*colon = '\0';
	c.workload = workload;
	if (!workload_find(workload) || !size_parse(colon + 1, &c.size_bytes))
		die("compare: %s: expected WORKLOAD:SIZE", text);
	if (strcmp(workload, "xfree") == 0)
		c.nr_threads = 2;
	print_head(text);
	run_case(&c);
	print_case(&c, &sums);
}

static void run_named(const char *name)
{
	bool found = false;

	for (size_t i = 0; i < NR_SETS; i++) {
		const struct set *set = &sets[i];

		if (strcmp(name, "all") && strcmp(name, set->name))
			continue;
		found = true;
		for (int t = set->min_threads; t <= set->max_threads; t++)
			if (!opt.threads || opt.threads == t)
				run_set(set, t);
	}
	if (!found)
		run_single(name);
}

static void usage(void)
{
	puts("usage: compare [option...] SET...\n"
	     "  --ours PATH       our preload library\n"
	     "  --also NAME=PATH  one more library, counted as a peer\n"
	     "  --without NAME    leave a peer out\n"
	     "  --threads 1|2     only that many threads\n"
	     "  --starts N        processes of each, one after another (3)\n"
	     "  --rounds N        timed rounds of each process (9)\n"
	     "  --round-us N      length of a round (2000)\n"
	     "  --budget N        seconds for a line, after 5 rounds (15)\n"
	     "  --resident        print what the processes keep, too\n"
	     "SET is all, WORKLOAD:SIZE (such as pair:64), or one of:");
	for (size_t i = 0; i < NR_SETS; i++)
		printf("  %-12s %s\n", sets[i].name, sets[i].title);
	puts("workloads: pair touch lifo fifo shuffle mixed xfree grow "
	     "grow64k");
}

static void add_ours(const char *path)
{
	char *full = realpath(path, NULL);

	if (!full)
		die("compare: %s: not found", path);
	peer_add(opt.peers, &opt.nr_peers, "ours", full, true);
	free(full);
}

static void add_also(char *text)
{
	char *path = strchr(text, '=');

	if (!path)
		die("compare: --also %s: expected NAME=PATH", text);
	*path++ = '\0';
	peer_add(opt.peers, &opt.nr_peers, text, path, false);
}

static void leave_out(const char *name)
{
	for (size_t i = 0; i < opt.nr_peers; i++)
		if (strcmp(opt.peers[i].name, name) == 0)
			memmove(&opt.peers[i], &opt.peers[i + 1],
				(--opt.nr_peers - i) * sizeof(*opt.peers));
}

static size_t number(const char *text, size_t min, size_t max)
{
	size_t value;

	if (!size_parse(text, &value) || value < min || value > max)
		die("compare: %s: expected %zu to %zu", text, min, max);
	return value;
}

static void parse_options(int argc, char **argv)
{
	static const struct option options[] = {
		{ "ours", required_argument, NULL, 'o' },
		{ "also", required_argument, NULL, 'a' },
		{ "without", required_argument, NULL, 'w' },
		{ "threads", required_argument, NULL, 't' },
		{ "rounds", required_argument, NULL, 'r' },
		{ "starts", required_argument, NULL, 's' },
		{ "resident", no_argument, NULL, 'R' },
		{ "round-us", required_argument, NULL, 'u' },
		{ "budget", required_argument, NULL, 'b' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'o':
			add_ours(optarg);
			break;
		case 'a':
			add_also(optarg);
			break;
		case 'w':
			leave_out(optarg);
			break;
		case 't':
			opt.threads = (int)number(optarg, 1, 2);
			break;
		case 'r':
			opt.nr_rounds = number(optarg, 1, 1000);
			break;
		case 's':
			opt.nr_starts = number(optarg, 1, 100);
			break;
		case 'R':
			opt.resident = true;
			break;
		case 'u':
			opt.round_us = (unsigned int)number(optarg, 10,
							    1000000);
			break;
		case 'b':
			opt.budget_s = (unsigned int)number(optarg, 0, 3600);
			break;
		case 'h':
			usage();
			exit(0);
		default:
			usage();
			exit(64);
		}
	}
}

int main(int argc, char **argv)
{
	if (argc > 2 && strcmp(argv[1], "--worker") == 0)
		return worker_main(argc - 2, argv + 2);
	signal(SIGPIPE, SIG_IGN);
	peers_default(opt.peers, &opt.nr_peers);
	parse_options(argc, argv);
	if (optind == argc) {
		usage();
		return 64;
	}
	for (size_t i = 0; i < opt.nr_peers; i++) {
		struct peer *peer = &opt.peers[i];

		peer_probe(peer);
		if (peer->present)
			printf("%s %s\n", peer->name, peer->version);
		else
			printf("%s: cannot be preloaded, left out\n",
			       peer->name);
	}
	for (int i = optind; i < argc; i++)
		run_named(argv[i]);
	return 0;
}
