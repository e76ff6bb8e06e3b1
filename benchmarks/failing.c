/* SPDX-License-Identifier: MIT */
/*
 * How long does it take to learn that there is no memory?
 *
 * Many threads ask a pool that is full, and that nobody can make less full, and
 * every request is timed from the call to the NULL.  The shapes:
 *
 *   holder	one thread filled the pool, the others have nothing; all ask for
 *		runs of 1, 16 and 512 pages
 *   keepers	each thread took runs and objects until it got NULL; it keeps
 *		them, and asks for more of mixed sizes
 *   movers	as keepers, but before each request a thread frees one of what
 *		it has and takes another, so that memory moves between threads
 *
 * and each with no shrinker and with eight that have nothing to give.  The
 * threads meet at a barrier before each burst.  A request that is served, as
 * may be where memory moves, is kept (or freed, by those who have nothing) and
 * is not among the times.  With more threads than processors the times hold
 * what others did on the processor meanwhile; "on cpu" is the thread's own.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <pagepool.h>
#include <pagepool/cache.h>
#include <pagepool/reclaim.h>
#include <pagepool/stat.h>

enum {
	MAX_THREADS = 256,
	MAX_BURST = 64,
	MAX_SHRINKERS = 8,
	NR_CACHES = 4,
	NR_RUNS = 3,
	NR_KINDS = NR_CACHES + NR_RUNS,
};

static const size_t object_bytes[NR_CACHES] = { 48, 256, 1024, 4096 };
static const size_t run_pages[NR_RUNS] = { 1, 16, 512 };

/* What a thread has, linked through the memory itself. */
struct held {
	struct held *next;
	size_t kind;			/* an object's cache, or a run */
};

enum shape_kind { HOLDER, KEEPERS, MOVERS };

struct shape {
	const char *name;
	enum shape_kind kind;
	size_t nr_pages;		/* of a holder's requests */
};

static const struct shape shapes[] = {
	{ "holder, 1 page", HOLDER, 1 },
	{ "holder, 16 pages", HOLDER, 16 },
	{ "holder, 2 MiB", HOLDER, 512 },
	{ "keepers", KEEPERS, 0 },
	{ "movers", MOVERS, 0 },
};

static struct options {
	size_t limit_bytes, nr_threads, nr_rounds, nr_burst, seconds;
} options = { 256u << 20, 64, 100, 8, 20 };

struct worker {
	pthread_t thread;
	uint64_t random;
	struct held *held;
	double *wall_us, *cpu_us;	/* of the requests that failed */
	size_t nr_failed, nr_served;
};

/* One shape at a time. */
static const struct shape *shape;
static struct pp_pool *pool;
static struct pp_cache *caches[NR_CACHES];
static struct pp_shrinker_id *shrinkers[MAX_SHRINKERS];
static struct worker workers[MAX_THREADS];
static pthread_barrier_t barrier;
static _Atomic size_t last_round;
static uint64_t deadline_ns;
static struct pp_stats before;

/* Memory */

static struct held *take(size_t kind)
{
	struct held *held = kind < NR_CACHES ?
		pp_cache_alloc(caches[kind], 0) :
		pp_alloc_pages(pool, run_pages[kind - NR_CACHES], 0);

	if (held)
		held->kind = kind;
	return held;
}

static void give(struct held *held)
{
	if (held->kind < NR_CACHES)
		pp_cache_free(caches[held->kind], held);
	else
		pp_free_pages(pool, held);
}

static void keep(struct worker *w, struct held *held)
{
	held->next = w->held;
	w->held = held;
}

static void give_one(struct worker *w)
{
	struct held *held = w->held;

	if (held) {
		w->held = held->next;
		give(held);
	}
}

/* Ends at the pool's limit: until no kind is to be had, largest first. */
static void fill_whole(struct worker *w)
{
	struct held *held;

	for (size_t kind = NR_KINDS; kind-- > 0; )
		while ((held = take(kind)))
			keep(w, held);
}

/* Ends at the pool's limit: until each kind was refused once in a row. */
static void fill_mixed(struct worker *w)
{
	size_t nr_refused = 0, kind = next_random(&w->random) % NR_KINDS;

	while (nr_refused < NR_KINDS) {
		/* A huge run would leave the others little. */
		struct held *held = kind == NR_KINDS - 1 ? NULL : take(kind);

		if (held)
			keep(w, held);
		nr_refused = held ? 0 : nr_refused + 1;
		kind = (kind + 1) % NR_KINDS;
	}
}

/* A thread's requests */

static uint64_t cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static size_t kind_wanted(struct worker *w)
{
	if (shape->kind != HOLDER)
		return next_random(&w->random) % NR_KINDS;
	for (size_t i = 0; i < NR_RUNS; i++)
		if (run_pages[i] == shape->nr_pages)
			return NR_CACHES + i;
	return NR_CACHES;
}

static void ask(struct worker *w)
{
	size_t kind = kind_wanted(w);
	uint64_t cpu_from = cpu_ns(), from = now_ns(), took;
	struct held *held = take(kind);

	took = now_ns() - from;
	if (!held) {
		w->cpu_us[w->nr_failed] = (double)(cpu_ns() - cpu_from) / 1000;
		w->wall_us[w->nr_failed++] = (double)took / 1000;
		return;
	}
	w->nr_served++;
	if (shape->kind == HOLDER)
		give(held);
	else
		keep(w, held);
}

static void move_one(struct worker *w)
{
	struct held *held;

	give_one(w);
	held = take(next_random(&w->random) % (NR_KINDS - 1));
	if (held)
		keep(w, held);
}

/*
 * Waits for all; false: the rounds are over.  The one that the barrier picks
 * looks at the clock, and what it says holds from the next round on, which it
 * has yet to begin.
 */
static bool next_round(size_t round)
{
	if (pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD &&
	    now_ns() >= deadline_ns && atomic_load(&last_round) > round)
		atomic_store(&last_round, round);
	return round <= atomic_load(&last_round);
}

static void *work(void *arg)
{
	struct worker *w = arg;

	if (shape->kind != HOLDER)
		fill_mixed(w);
	if (pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD) {
		before.struct_bytes = sizeof(before);
		pp_stat_snapshot(pool, &before);
		deadline_ns = now_ns() + options.seconds * 1000000000u;
	}
	for (size_t round = 0; next_round(round); round++)
		for (size_t i = 0; i < options.nr_burst; i++) {
			if (shape->kind == MOVERS)
				move_one(w);
			ask(w);
		}
	return NULL;
}

/* The pool of one shape */

static size_t count_nothing(void *arg, struct pp_shrink *shrink)
{
	(void)arg;
	(void)shrink;
	return 0;
}

static size_t scan_nothing(void *arg, struct pp_shrink *shrink)
{
	(void)arg;
	(void)shrink;
	return PP_SHRINK_STOP;
}

static void make_pool(size_t nr_shrinkers)
{
	struct pp_shrinker nothing = {
		.struct_bytes = sizeof(nothing),
		.name = "nothing",
		.count = count_nothing,
		.scan = scan_nothing,
		.seeks = PP_SHRINKER_SEEKS,
	};
	struct pp_config *config;
	char text[32];

	snprintf(text, sizeof(text), "%zu", options.limit_bytes);
	if (pp_config_create(&config) ||
	    pp_config_set(config, "limit", text) ||
	    pp_pool_create(config, &pool))
		die("failing: no pool of %s bytes", text);
	pp_config_destroy(config);
	for (size_t i = 0; i < NR_CACHES; i++)
		if (pp_cache_create(pool, "objects", object_bytes[i], 0,
				    &caches[i]))
			die("failing: no cache");
	for (size_t i = 0; i < nr_shrinkers; i++)
		if (pp_shrinker_register(pool, &nothing, &shrinkers[i]))
			die("failing: no shrinker");
}

static void end_pool(size_t nr_shrinkers)
{
	for (size_t i = 0; i < nr_shrinkers; i++)
		pp_shrinker_unregister(shrinkers[i]);
	if (pp_pool_check(pool))
		die("failing: the books are wrong");
	for (size_t i = 0; i < NR_CACHES; i++)
		if (pp_cache_destroy(caches[i]))
			die("failing: an object is still out");
	if (pp_pool_destroy(pool))
		die("failing: a run is still out");
}

/* Results */

static int compare_times(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Of sorted times. */
static double percentile(const double *us, size_t nr, double share)
{
	size_t i = (size_t)(share * (double)nr);

	return nr ? us[i < nr ? i : nr - 1] : 0;
}

/* All threads' times behind those of the first, which has room for them. */
static size_t gather(double **wall_us, double **cpu_us, size_t *nr_served)
{
	size_t nr = 0;

	*wall_us = workers[0].wall_us;
	*cpu_us = workers[0].cpu_us;
	*nr_served = 0;
	for (size_t i = 0; i < options.nr_threads; i++) {
		struct worker *w = &workers[i];

		memmove(*wall_us + nr, w->wall_us,
			w->nr_failed * sizeof(double));
		memmove(*cpu_us + nr, w->cpu_us,
			w->nr_failed * sizeof(double));
		nr += w->nr_failed;
		*nr_served += w->nr_served;
	}
	qsort(*wall_us, nr, sizeof(double), compare_times);
	qsort(*cpu_us, nr, sizeof(double), compare_times);
	return nr;
}

static void report(size_t nr_shrinkers)
{
	struct pp_stats s = { .struct_bytes = sizeof(s) };
	double *wall_us, *cpu_us;
	size_t nr_served, nr;

	pp_stat_snapshot(pool, &s);
	nr = gather(&wall_us, &cpu_us, &nr_served);
	printf("%-17s%4zu%8zu%7zu%9.1f%9.1f%9.1f%9.0f%9.1f%8" PRId64
	       "%8" PRId64 "%8" PRId64 "\n",
	       shape->name, nr_shrinkers, nr, nr_served,
	       percentile(wall_us, nr, 0.5), percentile(wall_us, nr, 0.99),
	       percentile(wall_us, nr, 0.999), percentile(wall_us, nr, 1),
	       percentile(cpu_us, nr, 0.99), s.drains - before.drains,
	       s.drain_waits - before.drain_waits,
	       s.throttled - before.throttled);
	fflush(stdout);
}

static void run_shape(const struct shape *this, size_t nr_shrinkers)
{
	struct worker holder = { 0 };

	shape = this;
	make_pool(nr_shrinkers);
	atomic_store(&last_round, options.nr_rounds - 1);
	if (shape->kind == HOLDER)
		fill_whole(&holder);
	for (size_t i = 0; i < options.nr_threads; i++) {
		struct worker *w = &workers[i];

		w->random = 88172645463325252ull * (i + 1);
		w->nr_failed = w->nr_served = 0;
		if (pthread_create(&w->thread, NULL, work, w))
			die("failing: no thread");
	}
	for (size_t i = 0; i < options.nr_threads; i++)
		pthread_join(workers[i].thread, NULL);
	report(nr_shrinkers);
	for (size_t i = 0; i < options.nr_threads; i++)
		while (workers[i].held)
			give_one(&workers[i]);
	while (holder.held)
		give_one(&holder);
	end_pool(nr_shrinkers);
}

/* Room for the times; untouched until there are some. */
static void make_workers(void)
{
	size_t nr = options.nr_rounds * options.nr_burst;

	for (size_t i = 0; i < options.nr_threads; i++) {
		size_t nr_here = i ? nr : nr * options.nr_threads;

		workers[i].wall_us = calloc(nr_here, sizeof(double));
		workers[i].cpu_us = calloc(nr_here, sizeof(double));
		if (!workers[i].wall_us || !workers[i].cpu_us)
			die("failing: no memory for the times");
	}
	pthread_barrier_init(&barrier, NULL, (unsigned)options.nr_threads);
}

static void usage(void)
{
	die("usage: failing [--threads 1..%d] [--limit SIZE] [--rounds N] "
	    "[--burst 1..%d] [--seconds N]", MAX_THREADS, MAX_BURST);
}

static size_t number(const char *text, size_t most)
{
	size_t n = 0;

	if (!size_parse(text, &n) || n < 1 || n > most)
		usage();
	return n;
}

static void parse(int argc, char **argv)
{
	static const struct option names[] = {
		{ "threads", required_argument, NULL, 't' },
		{ "limit", required_argument, NULL, 'l' },
		{ "rounds", required_argument, NULL, 'r' },
		{ "burst", required_argument, NULL, 'b' },
		{ "seconds", required_argument, NULL, 's' },
		{ 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", names, NULL)) != -1) {
		if (c == 't')
			options.nr_threads = number(optarg, MAX_THREADS);
		else if (c == 'l')
			options.limit_bytes = number(optarg, SIZE_MAX);
		else if (c == 'r')
			options.nr_rounds = number(optarg, 100000);
		else if (c == 'b')
			options.nr_burst = number(optarg, MAX_BURST);
		else if (c == 's')
			options.seconds = number(optarg, 3600);
		else
			usage();
	}
}

int main(int argc, char **argv)
{
	cpu_set_t set;

	parse(argc, argv);
	make_workers();
	sched_getaffinity(0, sizeof(set), &set);
	printf("%zu threads, %zu MiB, %d CPUs, %zu rounds of %zu requests; "
	       "times to NULL in us\n", options.nr_threads,
	       options.limit_bytes >> 20, CPU_COUNT(&set), options.nr_rounds,
	       options.nr_burst);
	printf("%-17s%4s%8s%7s%9s%9s%9s%9s%9s%8s%8s%8s\n", "shape", "shr",
	       "failed", "served", "p50", "p99", "p99.9", "max", "on cpu",
	       "drains", "waits", "throttl");
	for (size_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++)
		for (size_t nr = 0; nr <= MAX_SHRINKERS; nr += MAX_SHRINKERS)
			run_shape(&shapes[i], nr);
	return 0;
}
