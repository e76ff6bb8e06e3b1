/* SPDX-License-Identifier: MIT */
/*
 * Does an allocation cost the same when there is more of everything?
 *
 * A set compares variants of one loop that differ in one thing: how many
 * threads work, what the limit is, how many other threads have a cache and
 * sleep.  Each variant is a process of its own; the rounds go round them in
 * turn, so that the drift of a virtual machine's speed meets all alike.  What
 * is printed is the median over the rounds, and the median over the rounds of
 * the ratio in one round to the variant that the set names, with what is asked
 * of it.
 */
#define _GNU_SOURCE
#include "scale.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	MAX_VARIANTS = 8,
	MAX_CASES = 4,
	ANSWER_TIMEOUT_MS = 60000,
};

struct variant {
	/* const */
	const char *label;
	int nr_threads, nr_idle;
	const char *limit;
	/* what is asked of the ratio to variant `base`; 0: nothing */
	int base;
	double at_least, at_most;
};

struct run_case {
	const char *load;
	size_t size_bytes;
	double at_most_ns;	/* 0: any */
};

/* Ratios are of throughput where threads differ, else of time. */
static const struct set {
	const char *name, *title;
	bool is_throughput;
	unsigned int round_us;
	struct run_case cases[MAX_CASES];
	struct variant variants[MAX_VARIANTS];
} sets[] = {
	{ "cached", "one thread, from its cache (ns)", false, 2000,
	  { { "pair", 64, 5 }, { "pair", 64 << 10, 5 } },
	  { { "1", 1, 0, "4G", 0, 0, 0 } } },
	{ "threads", "threads at work (million operations a second)", true,
	  50000,
	  { { "pair", 64, 0 }, { "pair", 64 << 10, 0 },
	    { "batch", 64, 0 }, { "batch", 64 << 10, 0 } },
	  { { "1", 1, 0, "8G", 0, 0, 0 },
	    /* Twice, less what the beginning and end of a round take. */
	    { "2", 2, 0, "8G", 0, 1.9, 0 },
	    { "256", 256, 0, "8G", 1, 0.8, 0 } } },
	{ "limit", "limits (ns)", false, 2000,
	  { { "pair", 64, 0 }, { "pair", 64 << 10, 0 },
	    { "batch", 64, 0 }, { "batch", 64 << 10, 0 } },
	  { { "64M", 1, 0, "64M", 0, 0, 0 },
	    { "256M", 1, 0, "256M", 0, 0, 1.2 },
	    { "1G", 1, 0, "1G", 0, 0, 1.2 }, { "16G", 1, 0, "16G", 0, 0, 1.2 },
	    { "256G", 1, 0, "256G", 0, 0, 1.2 },
	    { "1T", 1, 0, "1T", 0, 0, 1.2 } } },
	{ "registered", "other threads with a cache, asleep (ns)", false, 2000,
	  { { "pair", 64, 0 }, { "pair", 64 << 10, 0 },
	    { "batch", 64, 0 }, { "batch", 64 << 10, 0 } },
	  { { "1", 1, 1, "8G", 0, 0, 0 }, { "16", 1, 16, "8G", 0, 0, 1.2 },
	    { "128", 1, 128, "8G", 0, 0, 1.2 },
	    { "1024", 1, 1024, "8G", 0, 0, 1.2 } } },
};

enum { NR_SETS = sizeof(sets) / sizeof(*sets) };

/* The process of one variant, and what it took. */
struct worker {
	pid_t pid;
	int to_fd, from_fd;
	double ns_per_op[BENCH_MAX_ROUNDS];
	size_t nr_rounds;
};

static struct worker workers[MAX_VARIANTS];
static size_t nr_workers;

static struct {
	char *ours;
	size_t nr_rounds, nr_starts;
	unsigned int round_us;		/* 0: as the set says */
} opt = { .nr_rounds = 9, .nr_starts = 3 };

static unsigned int nr_missed;

/* Workers */

static void become_worker(const struct variant *v, const struct run_case *c,
			  unsigned int round_us)
{
	char size[24], threads[12], idle[12], round[12];

	snprintf(size, sizeof(size), "%zu", c->size_bytes);
	snprintf(threads, sizeof(threads), "%d", v->nr_threads);
	snprintf(idle, sizeof(idle), "%d", v->nr_idle);
	snprintf(round, sizeof(round), "%u", round_us);
	if (opt.ours)
		setenv("LD_PRELOAD", opt.ours, 1);
	setenv("PAGEPOOL_LIMIT", v->limit, 1);
	execl("/proc/self/exe", "scale", "--worker", c->load, size, threads,
	      idle, round, NULL);
	_exit(127);
}

static void worker_start(struct worker *w, const struct variant *v,
			 const struct run_case *c, unsigned int round_us)
{
	int to[2], from[2];

	if (pipe2(to, O_CLOEXEC) || pipe2(from, O_CLOEXEC))
		die("scale: pipe: %s", strerror(errno));
	fflush(NULL);
	w->pid = fork();
	if (w->pid < 0)
		die("scale: fork: %s", strerror(errno));
	if (w->pid == 0) {
		dup2(to[0], STDIN_FILENO);
		dup2(from[1], STDOUT_FILENO);
		become_worker(v, c, round_us);
	}
	close(to[0]);
	close(from[1]);
	w->to_fd = to[1];
	w->from_fd = from[0];
}

static void worker_stop(struct worker *w)
{
	close(w->to_fd);
	close(w->from_fd);
	kill(w->pid, SIGKILL);
	while (waitpid(w->pid, NULL, 0) < 0 && errno == EINTR)
		;
}

static struct scale_answer worker_answer(struct worker *w)
{
	struct pollfd ready = { .fd = w->from_fd, .events = POLLIN };
	struct scale_answer a;

	if (poll(&ready, 1, ANSWER_TIMEOUT_MS) != 1 ||
	    read(w->from_fd, &a, sizeof(a)) != sizeof(a))
		die("scale: a worker gives no answer");
	return a;
}

static void worker_round(struct worker *w, bool counts)
{
	struct scale_answer a;

	if (write(w->to_fd, "", 1) != 1)
		die("scale: a worker is gone");
	a = worker_answer(w);
	if (counts && w->nr_rounds < BENCH_MAX_ROUNDS)
		w->ns_per_op[w->nr_rounds++] = (double)a.elapsed_ns /
					       (double)a.nr_ops;
}

/* One start of every variant: they warm up, then take rounds in turn. */
static void run_start(const struct set *set, const struct run_case *c)
{
	unsigned int round_us = opt.round_us ? opt.round_us : set->round_us;

	for (size_t i = 0; i < nr_workers; i++) {
		worker_start(&workers[i], &set->variants[i], c, round_us);
		worker_answer(&workers[i]);
	}
	for (size_t round = 0; round <= opt.nr_rounds; round++)
		for (size_t i = 0; i < nr_workers; i++)
			worker_round(&workers[(i + round) % nr_workers],
				     round > 0);
	for (size_t i = 0; i < nr_workers; i++)
		worker_stop(&workers[i]);
}

/* Tables */

static double median_ns(const struct worker *w)
{
	static double ns[BENCH_MAX_ROUNDS];

	memcpy(ns, w->ns_per_op, w->nr_rounds * sizeof(*ns));
	return median(ns, w->nr_rounds);
}

static double median_ratio(const struct set *set, size_t i)
{
	static double ratios[BENCH_MAX_ROUNDS];
	const struct worker *w = &workers[i];
	const struct worker *base = &workers[set->variants[i].base];

	for (size_t k = 0; k < w->nr_rounds; k++) {
		ratios[k] = w->ns_per_op[k] / base->ns_per_op[k];
		if (set->is_throughput)
			ratios[k] = 1 / ratios[k];
	}
	return median(ratios, w->nr_rounds);
}

static bool is_asked(const struct variant *v)
{
	return v->at_least > 0 || v->at_most > 0;
}

/* A mark behind a number that is not what is asked. */
static char judge(bool passed)
{
	nr_missed += !passed;
	return passed ? ' ' : '!';
}

static void print_ratios(const struct set *set)
{
	printf("%-12s", "  ratio");
	for (size_t i = 0; i < nr_workers; i++) {
		const struct variant *v = &set->variants[i];
		double ratio = median_ratio(set, i);

		if (is_asked(v))
			printf("%9.3f%c", ratio,
			       judge(ratio >= v->at_least &&
				     (!v->at_most || ratio <= v->at_most)));
		else
			printf("%10s", "");
	}
	printf("\n");
}

static void print_case(const struct set *set, const struct run_case *c)
{
	char size[16], label[32];
	double ns = 0;

	size_text(size, sizeof(size), c->size_bytes);
	snprintf(label, sizeof(label), "%s %s", c->load, size);
	printf("%-12s", label);
	for (size_t i = 0; i < nr_workers; i++) {
		ns = median_ns(&workers[i]);
		printf("%9.2f%c", set->is_throughput ? 1000 / ns : ns,
		       judge(!c->at_most_ns || ns <= c->at_most_ns));
	}
	printf("\n");
	if (nr_workers > 1)
		print_ratios(set);
	fflush(stdout);
}

static void print_asked(const struct set *set, const struct variant *v)
{
	char text[32] = "";

	if (set->cases[0].at_most_ns > 0)
		snprintf(text, sizeof(text), "<=%.1f",
			 set->cases[0].at_most_ns);
	else if (is_asked(v))
		snprintf(text, sizeof(text), "/%s%s%.1f",
			 set->variants[v->base].label,
			 v->at_least > 0 ? ">=" : "<=",
			 v->at_least > 0 ? v->at_least : v->at_most);
	printf("%9s ", text);
}

static void print_head(const struct set *set)
{
	printf("\n%s: %s\n%-12s", set->name, set->title, "");
	for (size_t i = 0; i < nr_workers; i++)
		printf("%9s ", set->variants[i].label);
	printf("\n%-12s", "  asked");
	for (size_t i = 0; i < nr_workers; i++)
		print_asked(set, &set->variants[i]);
	printf("\n");
}

static void run_set(const struct set *set)
{
	nr_workers = 0;
	while (nr_workers < MAX_VARIANTS && set->variants[nr_workers].label)
		nr_workers++;
	print_head(set);
	for (size_t k = 0; k < MAX_CASES && set->cases[k].load; k++) {
		for (size_t i = 0; i < nr_workers; i++)
			workers[i].nr_rounds = 0;
		for (size_t start = 0; start < opt.nr_starts; start++)
			run_start(set, &set->cases[k]);
		print_case(set, &set->cases[k]);
	}
}

static bool run_named(const char *name)
{
	bool found = false;

	for (size_t i = 0; i < NR_SETS; i++) {
		if (strcmp(name, "all") && strcmp(name, sets[i].name))
			continue;
		run_set(&sets[i]);
		found = true;
	}
	return found;
}

/* Options */

static void usage(void)
{
	puts("usage: scale [option...] [SET...]\n"
	     "  --ours PATH       our preload library\n"
	     "  --starts N        processes of each, one after another (3)\n"
	     "  --rounds N        timed rounds of each process (9)\n"
	     "  --round-us N      length of a round, else as the set says\n"
	     "SET is all, or one of:");
	for (size_t i = 0; i < NR_SETS; i++)
		printf("  %-12s %s\n", sets[i].name, sets[i].title);
}

static size_t number(const char *text, size_t min, size_t max)
{
	size_t value;

	if (!size_parse(text, &value) || value < min || value > max)
		die("scale: %s: expected %zu to %zu", text, min, max);
	return value;
}

static void set_ours(const char *path)
{
	free(opt.ours);
	opt.ours = realpath(path, NULL);
	if (!opt.ours)
		die("scale: %s: not found", path);
}

static void parse_options(int argc, char **argv)
{
	static const struct option options[] = {
		{ "ours", required_argument, NULL, 'o' },
		{ "rounds", required_argument, NULL, 'r' },
		{ "starts", required_argument, NULL, 's' },
		{ "round-us", required_argument, NULL, 'u' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'o':
			set_ours(optarg);
			break;
		case 'r':
			opt.nr_rounds = number(optarg, 1, 100);
			break;
		case 's':
			opt.nr_starts = number(optarg, 1, 10);
			break;
		case 'u':
			opt.round_us = (unsigned int)number(optarg, 10,
							    1000000);
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
		return scale_worker(argc - 2, argv + 2);
	signal(SIGPIPE, SIG_IGN);
	parse_options(argc, argv);
	if (optind == argc)
		run_named("all");
	for (int i = optind; i < argc; i++)
		if (!run_named(argv[i]))
			die("scale: %s: no such set; try --help", argv[i]);
	printf("\n%u numbers are not what is asked (!)\n", nr_missed);
	return 0;
}
