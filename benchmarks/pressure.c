/* SPDX-License-Identifier: MIT */
/*
 * What does it cost that a cache does not fit into its limit?
 *
 * One workload runs in turn on two pools: one with a limit that all of its data
 * would fill four times, one that it fits into twice over.  An operation
 * computes a new value, as somebody had to who wants it cached, stores it under
 * a random key and frees the one that was there; and reads and checks the value
 * of a key that was stored a short while ago.  Nine tenths of the values may be
 * evicted: a shrinker drops the ones that were stored longest ago.  Every
 * allocation is timed.  In the end everything stops, and reclaimd's wake-ups
 * are counted.
 *
 * A value never stays locked while memory is allocated, so the shrinker may
 * run in the thread that allocates.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <pagepool.h>
#include <pagepool/cache.h>
#include <pagepool/reclaim.h>
#include <pagepool/stat.h>

enum {
	NR_SHARDS = 64,
	NR_SIZES = 12,		/* 512 bytes to 64 KiB, two to a doubling */
	MAX_THREADS = 16,
	RECENT = 64,		/* a read is of one of the last so many keys */
	PINNED_ONE_IN = 10,
	EVICT_AT_ONCE = 16,	/* in one hold of a shard's lock */
	NR_BUCKETS = 64 * 16,	/* of the histogram: 16 to a doubling */
};

static const size_t value_bytes[NR_SIZES] = {
	512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 16384, 32768,
	65536,
};

struct value {
	uint32_t key;
	uint32_t size;			/* index into value_bytes */
	uint64_t sum;			/* of the words */
	uint64_t word[];
};

/* One key.  What is evicted is not touched for it. */
struct entry {
	struct value *value;		/* NULL: not cached */
	uint32_t prev, next;		/* cached keys of the shard, newest
					 * first */
};

struct shard {
	pthread_mutex_t lock;
	uint32_t head;			/* an entry that is no key's */
	size_t nr_evictable;
} __attribute__((aligned(64)));

struct side {
	const char *name;
	size_t limit_bytes;
	struct pp_pool *pool;
	struct pp_cache *cache[NR_SIZES];
	struct pp_shrinker_id *shrinker;
	struct shard shard[NR_SHARDS];
	struct entry *table;		/* by key, and the shards' heads */
	_Atomic uint32_t next_shard;
	_Atomic uint64_t nr_evicted;
	double ops_per_s[BENCH_MAX_ROUNDS];
	uint64_t nr_ops, nr_reads, nr_hits, nr_allocs, nr_failed;
	uint64_t histogram[NR_BUCKETS], most_ns;
};

static struct options {
	size_t limit_bytes;
	int nr_threads, nr_rounds, round_ms, nr_passes, quiet_s;
} options = { 256u << 20, 2, 15, 200, 4, 0 };

static uint32_t nr_keys;

static bool is_evictable(uint32_t key)
{
	return key % PINNED_ONE_IN != 0;
}

/* The size goes with the key, so both sides hold the same data. */
static uint32_t size_of_key(uint32_t key)
{
	return (key * 2654435761u >> 16) % NR_SIZES;
}

/* Memory: small values are objects, large ones runs of pages. */

static bool is_small(uint32_t size)
{
	return value_bytes[size] <= 8192;
}

static void *value_memory(struct side *side, uint32_t size)
{
	return is_small(size) ? pp_cache_alloc(side->cache[size], 0) :
	       pp_alloc_pages(side->pool, value_bytes[size] / PP_PAGE_SIZE, 0);
}

/* The size is in the key: the value, which is cold, is not read for it. */
static void value_free(struct side *side, uint32_t key, struct value *v)
{
	uint32_t size = size_of_key(key);

	if (is_small(size))
		pp_cache_free(side->cache[size], v);
	else
		pp_free_pages(side->pool, v);
}

static size_t nr_words(const struct value *v)
{
	return (value_bytes[v->size] - sizeof(*v)) / sizeof(v->word[0]);
}

/* What the value is, is a question of its key.  One pass makes 5 GB a second;
 * four make 1.2, and so are faster than what compresses fast. */
static void compute(struct value *v)
{
	uint64_t random = 0x9e3779b97f4a7c15ull * (v->key + 1), sum = 0;

	for (int pass = 0; pass < options.nr_passes; pass++)
		for (size_t i = 0; i < nr_words(v); i++)
			v->word[i] = next_random(&random);
	for (size_t i = 0; i < nr_words(v); i++)
		sum += v->word[i];
	v->sum = sum;
}

static bool is_right(const struct value *v)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < nr_words(v); i++)
		sum += v->word[i];
	return sum == v->sum;
}

/* The cache */

static struct shard *shard_of(struct side *side, uint32_t key)
{
	return &side->shard[key % NR_SHARDS];
}

static struct value *unlink_key(struct side *side, struct shard *shard,
				uint32_t key)
{
	struct entry *e = &side->table[key];
	struct value *v = e->value;

	side->table[e->prev].next = e->next;
	side->table[e->next].prev = e->prev;
	shard->nr_evictable -= is_evictable(key);
	e->value = NULL;
	return v;
}

static void link_key(struct side *side, struct shard *shard, uint32_t key,
		     struct value *v)
{
	struct entry *e = &side->table[key], *head = &side->table[shard->head];

	e->value = v;
	e->prev = shard->head;
	e->next = head->next;
	side->table[e->next].prev = key;
	head->next = key;
	shard->nr_evictable += is_evictable(key);
}

struct taken {
	uint32_t key;
	struct value *value;
};

/* Up to @most of the oldest values that may go, off all lists.  Pinned ones
 * become the newest, so that they are not passed each time. */
static size_t take_oldest(struct side *side, struct shard *shard,
			  struct taken *taken, size_t most)
{
	size_t n = 0;

	pthread_mutex_lock(&shard->lock);
	while (n < most && shard->nr_evictable) {
		uint32_t key = side->table[shard->head].prev;
		struct value *v = unlink_key(side, shard, key);

		if (is_evictable(key))
			taken[n++] = (struct taken){ key, v };
		else
			link_key(side, shard, key, v);
	}
	pthread_mutex_unlock(&shard->lock);
	return n;
}

static size_t count_values(void *arg, struct pp_shrink *shrink)
{
	struct side *side = arg;
	size_t n = 0;

	(void)shrink;
	for (int i = 0; i < NR_SHARDS; i++)
		n += __atomic_load_n(&side->shard[i].nr_evictable,
				     __ATOMIC_RELAXED);
	return n;
}

static size_t evict_values(void *arg, struct pp_shrink *shrink)
{
	struct side *side = arg;
	struct taken taken[EVICT_AT_ONCE];
	size_t freed = 0, n;

	for (size_t i = 0; i < shrink->nr_to_scan; i += EVICT_AT_ONCE) {
		uint32_t nr = __atomic_fetch_add(&side->next_shard, 1,
						 __ATOMIC_RELAXED);

		n = take_oldest(side, &side->shard[nr % NR_SHARDS], taken,
				EVICT_AT_ONCE);
		for (size_t k = 0; k < n; k++)
			value_free(side, taken[k].key, taken[k].value);
		freed += n;
	}
	__atomic_fetch_add(&side->nr_evicted, freed, __ATOMIC_RELAXED);
	return freed;
}

/* One thread of one round */

struct run {
	struct side *side;
	uint64_t random, until_ns, nr_ops, nr_hits, nr_failed, most_ns;
	uint32_t recent[RECENT];
	uint64_t histogram[NR_BUCKETS];
	pthread_t thread;
};

static unsigned bucket_of(uint64_t ns)
{
	unsigned log = ns < 16 ? 0 : 59u - (unsigned)__builtin_clzll(ns);

	return log * 16 + (unsigned)(ns >> log);
}

static uint64_t bucket_ns(unsigned bucket)
{
	unsigned log = bucket < 32 ? 0 : bucket / 16 - 1;

	return (uint64_t)(bucket - log * 16) << log;
}

static void *timed_memory(struct run *run, uint32_t size)
{
	uint64_t from = now_ns(), took;
	void *memory = value_memory(run->side, size);

	took = now_ns() - from;
	run->histogram[bucket_of(took)]++;
	if (took > run->most_ns)
		run->most_ns = took;
	return memory;
}

static void store(struct run *run, uint32_t key)
{
	struct side *side = run->side;
	struct shard *shard = shard_of(side, key);
	uint32_t size = size_of_key(key);
	struct value *v = timed_memory(run, size), *old;

	if (!v) {
		run->nr_failed++;
		return;
	}
	v->key = key;
	v->size = size;
	compute(v);
	pthread_mutex_lock(&shard->lock);
	old = side->table[key].value;
	if (old)
		unlink_key(side, shard, key);
	link_key(side, shard, key, v);
	pthread_mutex_unlock(&shard->lock);
	if (old)
		value_free(side, key, old);
}

static bool read_value(struct side *side, uint32_t key)
{
	struct shard *shard = shard_of(side, key);
	struct value *v;

	pthread_mutex_lock(&shard->lock);
	v = side->table[key].value;
	if (v && !is_right(v))
		die("the value of %u is wrong", key);
	pthread_mutex_unlock(&shard->lock);
	return v != NULL;
}

static void *run_ops(void *arg)
{
	struct run *run = arg;

	pthread_setname_np(pthread_self(), run->side->name);

	while (run->nr_ops % 16 || now_ns() < run->until_ns) {
		uint32_t key = (uint32_t)(next_random(&run->random) %
					  nr_keys);
		uint64_t r = next_random(&run->random);

		store(run, key);
		run->nr_hits += read_value(run->side, run->recent[r % RECENT]);
		run->recent[run->nr_ops % RECENT] = key;
		run->nr_ops++;
	}
	return NULL;
}

static struct run runs[MAX_THREADS];

static void one_round(struct side *side, uint64_t for_ns, int round)
{
	uint64_t from = now_ns(), nr_ops = 0;

	for (int i = 0; i < options.nr_threads; i++) {
		struct run *run = &runs[i];

		memset(run, 0, sizeof(*run));
		run->side = side;
		/* The same keys on both sides. */
		run->random = 88172645463325252ull * (uint64_t)(i + 1) +
			      (uint64_t)(round + 1);
		run->until_ns = from + for_ns;
		if (pthread_create(&run->thread, NULL, run_ops, run))
			die("no thread");
	}
	for (int i = 0; i < options.nr_threads; i++) {
		struct run *run = &runs[i];

		pthread_join(run->thread, NULL);
		nr_ops += run->nr_ops;
		side->nr_hits += run->nr_hits;
		side->nr_failed += run->nr_failed;
		if (run->most_ns > side->most_ns)
			side->most_ns = run->most_ns;
		for (int b = 0; b < NR_BUCKETS; b++)
			side->histogram[b] += run->histogram[b];
	}
	side->nr_ops += nr_ops;
	if (round >= 0)
		side->ops_per_s[round] = (double)nr_ops * 1e9 /
					 (double)(now_ns() - from);
}

/* The two sides */

static void side_make(struct side *side, const char *name, size_t limit_bytes)
{
	struct pp_shrinker shrinker = {
		.struct_bytes = sizeof(shrinker),
		.name = "values",
		.arg = side,
		.count = count_values,
		.scan = evict_values,
		.seeks = PP_SHRINKER_SEEKS,
	};
	struct pp_config *config;
	char text[32];

	side->name = name;
	side->limit_bytes = limit_bytes;
	snprintf(text, sizeof(text), "%zu", limit_bytes);
	side->table = mmap(NULL, (nr_keys + NR_SHARDS) * sizeof(*side->table),
			   PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (side->table == MAP_FAILED || pp_config_create(&config) ||
	    pp_config_set(config, "limit", text) ||
	    pp_pool_create(config, &side->pool))
		die("%s: no pool of %zu bytes", name, limit_bytes);
	pp_config_destroy(config);
	for (int i = 0; i < NR_SHARDS; i++) {
		pthread_mutex_init(&side->shard[i].lock, NULL);
		side->shard[i].head = nr_keys + (uint32_t)i;
		side->table[nr_keys + (uint32_t)i].prev = side->shard[i].head;
		side->table[nr_keys + (uint32_t)i].next = side->shard[i].head;
	}
	for (uint32_t i = 0; i < NR_SIZES && is_small(i); i++)
		if (pp_cache_create(side->pool, "values", value_bytes[i], 0,
				    &side->cache[i]))
			die("no cache");
	if (pp_shrinker_register(side->pool, &shrinker, &side->shrinker))
		die("no shrinker");
}

static struct pp_stats stats_of(const struct side *side)
{
	struct pp_stats s = { .struct_bytes = sizeof(s) };

	pp_stat_snapshot(side->pool, &s);
	return s;
}

/* Each key once, which fills the roomy side for good. */
static void fill(struct side *side)
{
	memset(&runs[0], 0, sizeof(runs[0]));
	runs[0].side = side;
	for (uint32_t key = 0; key < nr_keys; key++)
		store(&runs[0], key);
}

/* The warm-up does not count. */
static void forget(struct side *side, struct pp_stats *before)
{
	side->nr_ops = side->nr_hits = side->nr_failed = 0;
	side->most_ns = 0;
	memset(side->histogram, 0, sizeof(side->histogram));
	*before = stats_of(side);
}

static double percentile_us(const struct side *side, double share)
{
	uint64_t sum = 0, all = 0;

	for (int b = 0; b < NR_BUCKETS; b++)
		all += side->histogram[b];
	for (unsigned b = 0; b < NR_BUCKETS; b++) {
		sum += side->histogram[b];
		if ((double)sum >= share * (double)all)
			return (double)bucket_ns(b + 1) / 1000;
	}
	return 0;
}

static void report(struct side *side, const struct pp_stats *before)
{
	struct pp_stats s = stats_of(side);
	int64_t direct = s.direct_reclaims - before->direct_reclaims;
	double copy[BENCH_MAX_ROUNDS];

	memcpy(copy, side->ops_per_s, sizeof(copy));
	printf("%-7s %5zu MiB  %8.0f op/s  allocation "
	       "p50 %.2f p99 %.2f p99.9 %.2f max %.0f us\n",
	       side->name, side->limit_bytes >> 20,
	       median(copy, (size_t)options.nr_rounds),
	       percentile_us(side, 0.5), percentile_us(side, 0.99),
	       percentile_us(side, 0.999), (double)side->most_ns / 1000);
	printf("        %" PRIu64 " allocations, %" PRIu64 " failed, %" PRId64
	       " reclaimed themselves (%.4f %%), %" PRId64
	       " throttled, %.1f %% of reads hit\n",
	       side->nr_ops, side->nr_failed, direct,
	       100.0 * (double)direct / (double)side->nr_ops,
	       s.throttled - before->throttled,
	       100.0 * (double)side->nr_hits / (double)side->nr_ops);
	printf("        %" PRIu64 " values evicted, reclaimd woke %" PRId64
	       " times, freed %" PRId64 " MiB, purged %" PRId64 " MiB\n",
	       side->nr_evicted, s.reclaimd_runs - before->reclaimd_runs,
	       (s.reclaimd_pages - before->reclaimd_pages) >> 8,
	       (s.purged_pages - before->purged_pages) >> 8);
}

static void report_quiet(struct side *side)
{
	int64_t last = -1, now = pp_stat_read(side->pool,
					      PP_STAT_RECLAIMD_RUNS);
	struct pp_stats s;
	int waited_s = 0;

	/* Until its caches are drained and its purging is done. */
	for (; now != last && waited_s < 60; waited_s += 4) {
		last = now;
		sleep(4);
		now = pp_stat_read(side->pool, PP_STAT_RECLAIMD_RUNS);
	}
	sleep((unsigned)options.quiet_s);
	s = stats_of(side);
	printf("%-7s quiet: after %d s reclaimd woke %" PRId64
	       " times in %d s; free %" PRId64 " pages, high %" PRId64
	       ", backed %" PRId64 " MiB\n", side->name, waited_s,
	       pp_stat_read(side->pool, PP_STAT_RECLAIMD_RUNS) - now,
	       options.quiet_s, s.free_pages, s.high_pages,
	       s.backed_pages >> 8);
}

static double ratio_of_medians(struct side *a, struct side *b)
{
	double ratio[BENCH_MAX_ROUNDS];

	for (int i = 0; i < options.nr_rounds; i++)
		ratio[i] = a->ops_per_s[i] / b->ops_per_s[i];
	return median(ratio, (size_t)options.nr_rounds);
}

static void usage(void)
{
	die("usage: pressure [--limit SIZE] [--threads N] [--rounds N] "
	    "[--ms N] [--passes N] [--quiet SECONDS]");
}

static int number(const char *text, int most)
{
	int n = text ? atoi(text) : 0;

	if (n < 1 || n > most)
		usage();
	return n;
}

static void parse(char **argv)
{
	for (char **arg = argv + 1; *arg; arg += 2) {
		if (strcmp(*arg, "--limit") == 0 && arg[1]) {
			if (!size_parse(arg[1], &options.limit_bytes))
				usage();
		} else if (strcmp(*arg, "--threads") == 0) {
			options.nr_threads = number(arg[1], MAX_THREADS);
		} else if (strcmp(*arg, "--rounds") == 0) {
			options.nr_rounds = number(arg[1], BENCH_MAX_ROUNDS);
		} else if (strcmp(*arg, "--ms") == 0) {
			options.round_ms = number(arg[1], 100000);
		} else if (strcmp(*arg, "--passes") == 0) {
			options.nr_passes = number(arg[1], 1000);
		} else if (strcmp(*arg, "--quiet") == 0) {
			options.quiet_s = number(arg[1], 3600);
		} else {
			usage();
		}
	}
}

static size_t mean_bytes(void)
{
	size_t sum = 0;

	for (int i = 0; i < NR_SIZES; i++)
		sum += value_bytes[i];
	return sum / NR_SIZES;
}

int main(int argc, char **argv)
{
	static struct side tight, roomy;
	uint64_t round_ns;
	struct pp_stats before_tight, before_roomy;

	(void)argc;
	parse(argv);
	round_ns = (uint64_t)options.round_ms * 1000000;
	nr_keys = (uint32_t)(4 * options.limit_bytes / mean_bytes());
	side_make(&tight, "tight", options.limit_bytes);
	side_make(&roomy, "roomy", 8 * options.limit_bytes);
	fill(&tight);
	fill(&roomy);
	one_round(&tight, round_ns, -1);
	one_round(&roomy, round_ns, -1);
	forget(&tight, &before_tight);
	forget(&roomy, &before_roomy);
	for (int i = 0; i < options.nr_rounds; i++) {
		one_round(i % 2 ? &tight : &roomy, round_ns, i);
		one_round(i % 2 ? &roomy : &tight, round_ns, i);
	}
	printf("%u keys, %zu MiB of values, %d threads, %d rounds of %d ms\n",
	       nr_keys, nr_keys * mean_bytes() >> 20, options.nr_threads,
	       options.nr_rounds, options.round_ms);
	report(&tight, &before_tight);
	report(&roomy, &before_roomy);
	printf("ratio   tight / roomy %.3f\n",
	       ratio_of_medians(&tight, &roomy));
	if (options.quiet_s)
		report_quiet(&tight);
	return 0;
}
