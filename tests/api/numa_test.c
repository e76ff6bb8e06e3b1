/* SPDX-License-Identifier: MIT */
/*
 * Pools with fake nodes, against a model of who owns what: for each run the
 * zone that it lies in, for each zone the pages that were handed out there.  So
 * a run that is counted in another zone than it lies in is found, and one that
 * lies where it must not.  With the tests of tests/vm, which say that a zone's
 * memory is on its node, this says where memory comes from.
 */
#include "testing.h"

#include <pagepool/cache.h>
#include <pagepool/numa.h>
#include <pagepool/reclaim.h>

#include <sched.h>
#include <sys/wait.h>

#define MAX_NODES	16
#define MAX_RUNS	20000
#define LIMIT		"64M"
#define LIMIT_PAGES	16384
/* What a zone may need for tables beyond those that the limit covers. */
#define TABLE_PAGES	128
/* Longer than what caches keep in bins: placed when it is asked for. */
#define LONG_PAGES	300

static const unsigned node_counts[] = { 1, 2, 4 };

struct held {
	void	*run;
	size_t	nr_pages;
	int	zone;
};

struct model {
	struct pp_pool	*pool;
	unsigned	nr_nodes;
	size_t		nr_runs;
	struct held	held[MAX_RUNS];
	int64_t		pages_in[MAX_NODES];
	int64_t		base[MAX_NODES];	/* before the first run */
	int64_t		tables[MAX_NODES];	/* that were charged since */
};

static struct pp_stats zone_stats(struct pp_pool *pool, unsigned zone)
{
	struct pp_stats s;

	memset(&s, 0, sizeof(s));
	s.struct_bytes = sizeof(s);
	assert_int_equal(pp_numa_snapshot(pool, zone, &s), 0);
	assert_int_equal(s.free_pages + s.cached_pages + s.used_pages +
			 s.isolated_pages, s.managed_pages);
	assert_true(s.backed_pages <= s.managed_pages);
	return s;
}

static struct pp_pool *numa_pool(unsigned nr_nodes, const char *policy)
{
	struct pp_config *config = NULL;
	struct pp_pool *pool = NULL;
	char number[16];

	snprintf(number, sizeof(number), "%u", nr_nodes);
	assert_int_equal(pp_config_create(&config), 0);
	assert_int_equal(pp_config_set(config, "limit", LIMIT), 0);
	assert_int_equal(pp_config_set(config, "fake_nodes", number), 0);
	if (policy)
		assert_int_equal(pp_config_set(config, "numa", policy), 0);
	assert_int_equal(pp_pool_create(config, &pool), 0);
	pp_config_destroy(config);
	assert_int_equal(pp_numa_nr_nodes(pool), nr_nodes);
	return pool;
}

static struct model *begin(unsigned nr_nodes, const char *policy)
{
	struct model *m = test_array(1, sizeof(*m));

	m->pool = numa_pool(nr_nodes, policy);
	m->nr_nodes = nr_nodes;
	/* The cache's own page is there from now on. */
	pp_free_pages(m->pool, pp_alloc_pages(m->pool, 1, 0));
	assert_int_equal(pp_pool_drain(m->pool), 0);
	for (unsigned i = 0; i < nr_nodes; i++)
		m->base[i] = zone_stats(m->pool, i).used_pages;
	return m;
}

/* The pool's books, zone by zone, are the model's. */
static void check(struct model *m)
{
	struct pp_stats all = pool_stats(m->pool);
	int64_t managed = 0, cached = 0, free_pages = 0;

	for (unsigned i = 0; i < m->nr_nodes; i++) {
		struct pp_stats s = zone_stats(m->pool, i);

		int64_t tables = s.used_pages - m->base[i] - m->pages_in[i];

		/* Tables stay, once they are needed. */
		assert_in_range(tables, m->tables[i], TABLE_PAGES);
		m->tables[i] = tables;
		managed += s.managed_pages;
		cached += s.cached_pages;
		free_pages += s.free_pages;
	}
	assert_int_equal(managed, all.managed_pages);
	assert_int_equal(cached, all.cached_pages);
	assert_int_equal(free_pages, all.free_pages);
	assert_int_equal(pp_pool_check(m->pool), 0);
}

static uint64_t stamp_of(const struct held *h)
{
	return (uintptr_t)h->run ^ h->nr_pages << 48;
}

static int note(struct model *m, void *run)
{
	struct held *h = &m->held[m->nr_runs];

	if (!run)
		return -1;
	assert_true(m->nr_runs < MAX_RUNS);
	h->run = run;
	h->nr_pages = pp_run_pages(m->pool, run);
	h->zone = pp_numa_node_of(m->pool, run);
	assert_in_range(h->zone, 0, m->nr_nodes - 1);
	assert_int_equal(pp_numa_node_of(m->pool, (char *)run +
					 h->nr_pages * PAGE - 1), h->zone);
	*(uint64_t *)run = stamp_of(h);
	((uint64_t *)run)[h->nr_pages * 512 - 1] = stamp_of(h);
	m->pages_in[h->zone] += (int64_t)h->nr_pages;
	m->nr_runs++;
	return h->zone;
}

static int take(struct model *m, size_t nr_pages, unsigned flags)
{
	return note(m, pp_alloc_pages(m->pool, nr_pages, flags | PP_NOWARN));
}

static int take_at(struct model *m, unsigned zone, size_t nr_pages,
		   unsigned flags)
{
	return note(m, pp_numa_alloc(m->pool, zone, nr_pages,
				     flags | PP_NOWARN));
}

static void forget(struct model *m, size_t i)
{
	struct held *h = &m->held[i];

	assert_true(*(uint64_t *)h->run == stamp_of(h));
	assert_true(((uint64_t *)h->run)[h->nr_pages * 512 - 1] ==
		    stamp_of(h));
	m->pages_in[h->zone] -= (int64_t)h->nr_pages;
	*h = m->held[--m->nr_runs];
}

static void give(struct model *m, size_t i)
{
	void *run = m->held[i].run;

	forget(m, i);
	pp_free_pages(m->pool, run);
}

static void give_all(struct model *m)
{
	while (m->nr_runs)
		give(m, m->nr_runs - 1);
}

static void end(struct model *m)
{
	give_all(m);
	assert_int_equal(pp_pool_drain(m->pool), 0);
	check(m);
	pool_end(m->pool);
	free(m);
}

static bool pin(unsigned cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set) == 0;
}

/* The CPUs that the test may use. */
static cpu_set_t all_cpus;

static void unpin(void)
{
	sched_setaffinity(0, sizeof(all_cpus), &all_cpus);
}

#define for_each_cpu(cpu) \
	for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++) \
		if (CPU_ISSET(cpu, &all_cpus) && pin(cpu))

#define for_each_count(n, policy) \
	for (size_t i_ = 0; i_ < COUNT_OF(node_counts); i_++) \
		for (unsigned n = node_counts[i_], once_ = 1; once_; once_ = 0)

/* Names and numbers */

static void test_numa_zones_have_names(void **state)
{
	int on_stack;

	(void)state;
	for_each_count(n, NULL) {
		struct pp_pool *pool = numa_pool(n, NULL);
		struct pp_stats s = { .struct_bytes = sizeof(s) };

		for (unsigned i = 0; i < n; i++)
			assert_int_equal(pp_numa_node_id(pool, i), i);
		assert_int_equal(pp_numa_node_id(pool, n), -ENOENT);
		assert_int_equal(pp_numa_node_of(pool, &on_stack), -ENOENT);
		assert_int_equal(pp_numa_node_of(pool, NULL), -ENOENT);
		assert_int_equal(pp_numa_snapshot(pool, n, &s), -ENOENT);
		assert_int_equal(pp_numa_snapshot(pool, 0, NULL), -EINVAL);
		s.struct_bytes = 0;
		assert_int_equal(pp_numa_snapshot(pool, 0, &s), -EINVAL);
		errno = 0;
		assert_null(pp_numa_alloc(pool, n, 1, 0));
		assert_int_equal(errno, ENOENT);
		errno = 0;
		assert_null(pp_numa_alloc(pool, 0, 0, 0));
		assert_int_equal(errno, EINVAL);
		pool_end(pool);
	}
	assert_int_equal(pp_numa_nr_nodes(NULL), -EINVAL);
	assert_int_equal(pp_numa_node_id(NULL, 0), -EINVAL);
	assert_int_equal(pp_numa_node_of(NULL, &on_stack), -EINVAL);
	assert_null(pp_numa_alloc(NULL, 0, 1, 0));
	assert_int_equal(errno, EINVAL);
	reached_end();
}

static void test_numa_zones_share_limit_and_reserve(void **state)
{
	(void)state;
	for_each_count(n, NULL) {
		struct pp_pool *pool = numa_pool(n, NULL);
		struct pp_stats all = pool_stats(pool);
		int64_t min = 0;

		assert_true(all.managed_pages + all.metadata_pages ==
			    LIMIT_PAGES);
		for (unsigned i = 0; i < n; i++) {
			struct pp_stats s = zone_stats(pool, i);

			assert_in_range(s.managed_pages,
					all.managed_pages / n,
					all.managed_pages / n + 1);
			assert_true(s.min_pages < s.low_pages &&
				    s.low_pages < s.high_pages);
			min += s.min_pages;
		}
		assert_int_equal(min, all.min_pages);
		/* That of a pool of its size, not of n smaller ones. */
		assert_in_range(min, 254, 256);
		pool_end(pool);
	}
	reached_end();
}

/* Each zone gets its share of another limit, or none does. */
static void test_numa_limit_changes_live(void **state)
{
	(void)state;
	for_each_count(n, NULL) {
		struct model *m = begin(n, NULL);
		struct pp_stats all;

		assert_int_equal(pp_pool_set(m->pool, "limit", "128M"), 0);
		for (unsigned zone = 0; zone < n; zone++)
			while (take_at(m, zone, 64, PP_THISNODE) >= 0)
				;
		assert_in_range(m->nr_runs * 64, 2 * LIMIT_PAGES * 9 / 10,
				2 * LIMIT_PAGES);
		assert_int_equal(pp_pool_set(m->pool, "limit", "64M"), -EBUSY);
		check(m);
		/* The last zone alone uses more than it would have. */
		for (size_t i = m->nr_runs; i--;)
			if (m->held[i].zone != (int)n - 1)
				give(m, i);
		assert_int_equal(pp_pool_set(m->pool, "limit", "64M"), -EBUSY);
		all = pool_stats(m->pool);
		assert_int_equal(all.limit_pages, 2 * LIMIT_PAGES);
		assert_int_equal(all.managed_pages + all.metadata_pages,
				 all.limit_pages);
		check(m);
		give_all(m);
		assert_int_equal(pp_pool_set(m->pool, "limit", "64M"), 0);
		all = pool_stats(m->pool);
		assert_int_equal(all.limit_pages, LIMIT_PAGES);
		assert_int_equal(all.managed_pages + all.metadata_pages,
				 all.limit_pages);
		assert_true(all.backed_pages <= all.managed_pages);
		/* What was charged for tables is not any more. */
		memset(m->tables, 0, sizeof(m->tables));
		check(m);
		end(m);
	}
	reached_end();
}

static void test_numa_settings_are_checked(void **state)
{
	static const char *const good[] = {
		"local", "interleave", "bind:0", "bind:0,1", "bind:1-3",
		"preferred:3", "bind:3,0",
	};
	static const char *const bad[] = {
		"", "Local", "bind", "bind:", "bind:a", "bind:0-", "bind:2-1",
		"preferred:", "preferred:0,1", "interleave:0", "bind:0 ",
	};
	static const char *const absent[] = { "bind:4", "bind:0,7",
					      "preferred:4" };
	struct pp_pool *pool = numa_pool(4, NULL), *none = NULL;
	struct pp_config *config;

	(void)state;
	assert_int_equal(pp_config_create(&config), 0);
	for (size_t i = 0; i < COUNT_OF(good); i++) {
		assert_int_equal(pp_config_set(config, "numa", good[i]), 0);
		assert_int_equal(pp_pool_set(pool, "numa", good[i]), 0);
	}
	for (size_t i = 0; i < COUNT_OF(bad); i++) {
		assert_int_equal(pp_config_set(config, "numa", bad[i]),
				 -EINVAL);
		assert_int_equal(pp_pool_set(pool, "numa", bad[i]), -EINVAL);
	}
	assert_int_equal(pp_config_set(config, "numa", "bind:1024"), -ERANGE);
	assert_int_equal(pp_config_set(config, "fake_nodes", "0"), -ERANGE);
	assert_int_equal(pp_config_set(config, "fake_nodes", "17"), -ERANGE);
	assert_int_equal(pp_config_set(config, "fake_nodes", "16"), 0);
	assert_int_equal(pp_pool_set(pool, "fake_nodes", "2"), -EBUSY);
	assert_int_equal(pp_config_set(config, "fake_nodes", "4"), 0);
	for (size_t i = 0; i < COUNT_OF(absent); i++) {
		assert_int_equal(pp_pool_set(pool, "numa", absent[i]),
				 -EINVAL);
		assert_int_equal(pp_config_set(config, "numa", absent[i]), 0);
		assert_int_equal(pp_pool_create(config, &none), -EINVAL);
	}
	pp_config_destroy(config);
	pool_end(pool);
	reached_end();
}

/* Prints what is wrong, once, and works by default. */
static void test_numa_bad_environment_is_reported(void **state)
{
	char text[512] = "";
	int out[2], status;
	ssize_t len;
	pid_t pid;

	(void)state;
	assert_int_equal(pipe(out), 0);
	pid = fork();
	if (pid == 0) {
		struct pp_pool *pool, *second;

		dup2(out[1], 2);
		setenv("PAGEPOOL_FAKE_NODES", "2", 1);
		setenv("PAGEPOOL_NUMA", "bind:7", 1);
		if (pp_pool_create(NULL, &pool) ||
		    pp_pool_create(NULL, &second))
			_exit(1);
		_exit(pp_numa_nr_nodes(pool) != 2 ||
		      !pp_alloc_pages(pool, 10, 0));
	}
	close(out[1]);
	len = read(out[0], text, sizeof(text) - 1);
	close(out[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_true(len > 0);
	assert_string_equal(text, "pagepool: PAGEPOOL_NUMA: expected local, "
			    "interleave, bind:LIST or preferred:N with nodes "
			    "that this process may use; using the default\n");
	reached_end();
}

/* Where memory comes from */

static void test_numa_local_is_the_cpu_modulo_n(void **state)
{
	static const size_t lengths[] = { 1, 8, 64, LONG_PAGES, 700 };

	(void)state;
	for_each_count(n, NULL) {
		struct model *m = begin(n, NULL);

		for_each_cpu(cpu)
			for (size_t i = 0; i < COUNT_OF(lengths); i++) {
				assert_int_equal(pp_pool_drain(m->pool), 0);
				assert_int_equal(take(m, lengths[i], 0),
						 cpu % n);
				check(m);
			}
		unpin();
		end(m);
	}
	reached_end();
}

/* What the cache was filled with before is used up first, no more. */
static void test_numa_local_follows_a_thread_that_moves(void **state)
{
	struct model *m = begin(2, NULL);
	size_t moves = 0;

	(void)state;
	for (unsigned round = 0; round < 20; round++)
		for_each_cpu(cpu) {
			int64_t cached = pool_stats(m->pool).cached_pages;
			int64_t elsewhere = 0;

			for (int i = 0; i < 200; i++)
				elsewhere += take(m, 1, 0) != (int)(cpu % 2);
			assert_true(elsewhere <= cached);
			give_all(m);
			moves++;
		}
	unpin();
	assert_true(moves >= 20);
	end(m);
	reached_end();
}

static void expect_full(struct model *m, unsigned zone, size_t nr_pages)
{
	struct pp_stats s = zone_stats(m->pool, zone);

	assert_true(s.free_pages < s.min_pages + (int64_t)nr_pages);
	/* P5: an ordinary request leaves the reserve to others; but for what
	 * tables took of it. */
	assert_true(s.free_pages >= s.min_pages - 16);
}

static int64_t nr_elsewhere(const struct model *m, unsigned zone)
{
	int64_t n = 0;

	for (size_t i = 0; i < m->nr_runs; i++)
		n += m->held[i].zone != (int)zone;
	return n;
}

/* P4: in the order of distance, here that of a ring, to the last page. */
static void test_numa_fallback_order_to_the_last_page(void **state)
{
	static const size_t lengths[] = { 1, 64, LONG_PAGES };

	(void)state;
	for_each_count(n, NULL)
		for (size_t l = 0; l < COUNT_OF(lengths); l++) {
			struct model *m = begin(n, NULL);
			unsigned first = n / 2, seen = 0;
			bool has[MAX_NODES] = { false };
			int zone;

			while ((zone = take_at(m, first, lengths[l], 0)) >= 0) {
				if (has[zone])
					continue;
				assert_int_equal(zone, (first + seen) % n);
				has[zone] = true;
				seen++;
			}
			assert_int_equal(errno, ENOMEM);
			assert_int_equal(seen, n);
			/* Each run from elsewhere, once. */
			assert_int_equal(pool_stats(m->pool).node_fallback,
					 nr_elsewhere(m, first));
			for (unsigned i = 0; i < n; i++)
				expect_full(m, i, run_length(lengths[l]));
			check(m);
			end(m);
		}
	reached_end();
}

static void test_numa_thisnode_is_strict(void **state)
{
	(void)state;
	for_each_count(n, NULL) {
		struct model *m = begin(n, NULL);

		for (unsigned zone = 0; zone < n; zone++) {
			while (take_at(m, zone, 7, PP_THISNODE) >= 0)
				assert_int_equal(m->held[m->nr_runs - 1].zone,
						 zone);
			expect_full(m, zone, 7);
			for (unsigned i = zone + 1; i < n; i++)
				assert_int_equal(m->pages_in[i], 0);
			/* Elsewhere there is plenty, for others. */
			if (zone + 1 < n) {
				assert_true(take_at(m, zone, 7, 0) >= 0);
				give(m, m->nr_runs - 1);
			}
		}
		check(m);
		end(m);
	}
	reached_end();
}

static void test_numa_thisnode_of_the_caller(void **state)
{
	struct model *m = begin(2, NULL);

	(void)state;
	for (unsigned round = 0; round < 8; round++)
		for_each_cpu(cpu) {
			/* The cache is of the last CPU's node. */
			give_all(m);
			for (int i = 0; i < 40; i++)
				assert_int_equal(take(m, 1 + round,
						      PP_THISNODE), cpu % 2);
		}
	unpin();
	end(m);
	reached_end();
}

/* A run that no zone can hold fails, though the pool is larger. */
static void test_numa_a_run_fits_in_one_zone(void **state)
{
	struct model *m = begin(4, NULL);
	struct pp_stats s = zone_stats(m->pool, 0);
	size_t most = (size_t)(s.managed_pages - s.min_pages - m->base[0]);

	(void)state;
	assert_int_equal(take(m, LIMIT_PAGES / 2, 0), -1);
	assert_int_equal(take_at(m, 0, (size_t)s.managed_pages, 0), -1);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(take_at(m, i, most - 64, PP_THISNODE), i);
	check(m);
	end(m);
	reached_end();
}

static void check_interleave(unsigned n, size_t nr_pages, size_t nr_runs,
			     int64_t slack)
{
	struct model *m = begin(n, "interleave");
	int64_t even = (int64_t)(nr_pages * nr_runs / n);

	for (size_t i = 0; i < nr_runs; i++)
		assert_true(take(m, nr_pages, 0) >= 0);
	for (unsigned i = 0; i < n; i++)
		assert_in_range(m->pages_in[i], even - slack, even + slack);
	check(m);
	/* What is freed goes to one cache, whatever zone it is of. */
	while (m->nr_runs > nr_runs / 2)
		give(m, m->nr_runs / 3);
	check(m);
	end(m);
}

static void test_numa_interleave_is_even(void **state)
{
	(void)state;
	for_each_count(n, NULL) {
		check_interleave(n, LONG_PAGES, 32, 0);
		check_interleave(n, 64, 160, 128);
		check_interleave(n, 8, 1024, 64);
		check_interleave(n, 1, 8192, 64);
	}
	reached_end();
}

static void test_numa_bind_uses_those_nodes_only(void **state)
{
	struct model *m = begin(4, "bind:1,3");

	(void)state;
	while (take(m, 16, 0) >= 0)
		;
	assert_int_equal(errno, ENOMEM);
	assert_int_equal(m->pages_in[0], 0);
	assert_int_equal(m->pages_in[2], 0);
	expect_full(m, 1, 16);
	expect_full(m, 3, 16);
	/* Who asks for a node by name gets it. */
	assert_int_equal(take_at(m, 2, 5, 0), 2);
	check(m);
	end(m);
	reached_end();
}

static void test_numa_preferred_is_first(void **state)
{
	struct model *m = begin(4, "preferred:2");
	bool has[4] = { false };
	unsigned seen = 0;
	int zone;

	(void)state;
	while ((zone = take(m, 16, 0)) >= 0)
		if (!has[zone]) {
			assert_int_equal(zone, (2 + seen++) % 4);
			has[zone] = true;
		}
	assert_int_equal(seen, 4);
	for (unsigned i = 0; i < 4; i++)
		expect_full(m, i, 16);
	end(m);
	reached_end();
}

static void test_numa_policy_changes_live(void **state)
{
	static const char *const policies[] = {
		"bind:0", "bind:1", "interleave", "preferred:3", "bind:2",
	};
	static const int only[] = { 0, 1, -1, 3, 2 };
	struct model *m = begin(4, NULL);

	(void)state;
	for (unsigned round = 0; round < 3; round++)
		for (size_t i = 0; i < COUNT_OF(policies); i++) {
			assert_int_equal(pp_pool_set(m->pool, "numa",
						     policies[i]), 0);
			assert_int_equal(pp_pool_drain(m->pool), 0);
			for (int k = 0; k < 100; k++) {
				int zone = take(m, k & 1 ? LONG_PAGES : 1, 0);

				assert_true(zone >= 0);
				if (only[i] >= 0)
					assert_int_equal(zone, only[i]);
				give(m, m->nr_runs - 1 - (k & 1 ? 0 :
					rng_below(&(struct rng){ k + 1u },
						  m->nr_runs)));
			}
			check(m);
		}
	end(m);
	reached_end();
}

/* Lives of runs */

static void step(struct model *m, struct rng *r)
{
	unsigned zone = (unsigned)rng_below(r, m->nr_nodes);
	size_t n = 1 + rng_below(r, rng_below(r, 6) ? 20 : 900), i;
	int got;

	switch (rng_below(r, 8)) {
	case 0:
		got = take_at(m, zone, n, PP_THISNODE);
		assert_true(got < 0 || got == (int)zone);
		break;
	case 1:
		take_at(m, zone, n, 0);
		break;
	case 2: case 3: case 4:
		take(m, n, rng_below(r, 2) ? PP_ZERO : 0);
		break;
	case 5:
		if (m->nr_runs) {
			struct held old = m->held[i = rng_below(r,
							m->nr_runs)];
			void *to;

			forget(m, i);
			to = pp_realloc_pages(m->pool, old.run, n, PP_NOWARN);
			note(m, to ? to : old.run);
		}
		break;
	default:
		if (m->nr_runs)
			give(m, rng_below(r, m->nr_runs));
	}
}

static void test_numa_random_walk_against_the_model(void **state)
{
	static const char *const policies[] = {
		"local", "interleave", "bind:0", "preferred:0",
	};
	const size_t load = test_load(4000, 400);
	struct rng r = rng_make(1);
	size_t steps = 0;

	(void)state;
	for_each_count(n, NULL)
		for (size_t p = 0; p < COUNT_OF(policies); p++) {
			struct model *m = begin(n, policies[p]);

			for (size_t i = 0; i < load; i++, steps++) {
				step(m, &r);
				if (i % 500 == 0)
					check(m);
			}
			check(m);
			end(m);
		}
	assert_int_equal(steps, 12 * load);
	reached_end();
}

struct far {
	struct pp_pool	*pool;
	void		**run;
	size_t		nr_runs;
	unsigned	cpu;
};

static void *free_far_away(void *arg)
{
	struct far *f = arg;

	pin(f->cpu);
	/* A cache of its own, at home where it runs. */
	pp_free_pages(f->pool, pp_alloc_pages(f->pool, 1, 0));
	pp_free_bulk(f->pool, f->nr_runs, f->run);
	return NULL;
}

/* A thread of one node frees what another's has allocated: every page goes
 * back to where it is from, and can be had there at once. */
static void test_numa_freed_by_a_thread_of_another_node(void **state)
{
	static const size_t lengths[] = { 1, 5, 64, LONG_PAGES };
	struct model *m = begin(2, NULL);
	struct far f = { .pool = m->pool };
	unsigned last = 0;
	pthread_t thread;

	(void)state;
	f.run = test_array(MAX_RUNS, sizeof(void *));
	for_each_cpu(cpu)
		last = cpu;
	unpin();
	f.cpu = last;
	for (size_t l = 0; l < COUNT_OF(lengths); l++)
		for (unsigned zone = 0; zone < 2; zone++) {
			for (f.nr_runs = 0; take_at(m, zone, lengths[l],
						    PP_THISNODE) >= 0;)
				f.run[f.nr_runs++] =
					m->held[m->nr_runs - 1].run;
			assert_true(f.nr_runs > 20);
			while (m->nr_runs)
				forget(m, m->nr_runs - 1);
			assert_int_equal(pthread_create(&thread, NULL,
							free_far_away, &f),
					 0);
			pthread_join(thread, NULL);
			check(m);
		}
	free(f.run);
	end(m);
	reached_end();
}

/* Small objects */

static size_t fill_cache(struct pp_cache *cache, void **object, size_t max,
			 unsigned flags)
{
	size_t n = 0;

	while (n < max && (object[n] = pp_cache_alloc(cache, flags |
						       PP_NOWARN)))
		n++;
	return n;
}

/* P4 for small objects: all zones, to the last slab. */
static void test_numa_objects_use_all_zones(void **state)
{
	size_t max = 64u << 20 >> 8, nr, in[MAX_NODES];
	void **object = test_array(max, sizeof(*object));

	(void)state;
	for_each_count(n, NULL) {
		struct pp_pool *pool = numa_pool(n, NULL);
		struct pp_cache *cache;

		assert_int_equal(pp_cache_create(pool, "objects", 256, 0,
						 &cache), 0);
		nr = fill_cache(cache, object, max, 0);
		assert_int_equal(errno, ENOMEM);
		memset(in, 0, sizeof(in));
		for (size_t i = 0; i < nr; i++)
			in[pp_numa_node_of(pool, object[i])]++;
		for (unsigned i = 0; i < n; i++) {
			struct pp_stats s = zone_stats(pool, i);

			assert_true(s.free_pages <= s.min_pages);
			assert_true(in[i] > max / n * 9 / 10);
		}
		for (size_t i = 0; i < nr; i++)
			pp_cache_free(cache, object[i]);
		assert_int_equal(pp_cache_destroy(cache), 0);
		pool_end(pool);
	}
	free(object);
	reached_end();
}

static void test_numa_objects_of_this_node(void **state)
{
	size_t max = 64u << 20 >> 8, nr;
	void **object = test_array(max, sizeof(*object));
	struct pp_pool *pool = numa_pool(2, NULL);
	struct pp_cache *cache;

	(void)state;
	assert_int_equal(pp_cache_create(pool, "objects", 256, 0, &cache), 0);
	for_each_cpu(cpu) {
		nr = fill_cache(cache, object, max, PP_THISNODE);
		assert_int_equal(errno, ENOMEM);
		assert_in_range(nr, max / 2 * 9 / 10, max / 2);
		for (size_t i = 0; i < nr; i++)
			assert_int_equal(pp_numa_node_of(pool, object[i]),
					 cpu % 2);
		for (size_t i = 0; i < nr; i++)
			pp_cache_free(cache, object[i]);
		assert_int_equal(pp_pool_drain(pool), 0);
	}
	unpin();
	assert_int_equal(pp_cache_destroy(cache), 0);
	free(object);
	pool_end(pool);
	reached_end();
}

static void test_numa_objects_are_interleaved(void **state)
{
	static void *object[8192];
	struct pp_pool *pool = numa_pool(4, "interleave");
	struct pp_cache *cache;
	size_t in[4] = { 0 };

	(void)state;
	assert_int_equal(pp_cache_create(pool, "objects", 512, 0, &cache), 0);
	assert_int_equal(fill_cache(cache, object, COUNT_OF(object), 0),
			 COUNT_OF(object));
	for (size_t i = 0; i < COUNT_OF(object); i++)
		in[pp_numa_node_of(pool, object[i])]++;
	for (unsigned i = 0; i < 4; i++)
		assert_in_range(in[i], 2048 - 256, 2048 + 256);
	for (size_t i = 0; i < COUNT_OF(object); i++)
		pp_cache_free(cache, object[i]);
	assert_int_equal(pp_cache_destroy(cache), 0);
	pool_end(pool);
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_numa_zones_have_names),
		TEST(test_numa_zones_share_limit_and_reserve),
		TEST(test_numa_limit_changes_live),
		TEST(test_numa_settings_are_checked),
		TEST(test_numa_bad_environment_is_reported),
		TEST(test_numa_local_is_the_cpu_modulo_n),
		TEST(test_numa_local_follows_a_thread_that_moves),
		TEST(test_numa_fallback_order_to_the_last_page),
		TEST(test_numa_thisnode_is_strict),
		TEST(test_numa_thisnode_of_the_caller),
		TEST(test_numa_a_run_fits_in_one_zone),
		TEST(test_numa_interleave_is_even),
		TEST(test_numa_bind_uses_those_nodes_only),
		TEST(test_numa_preferred_is_first),
		TEST(test_numa_policy_changes_live),
		TEST(test_numa_random_walk_against_the_model),
		TEST(test_numa_freed_by_a_thread_of_another_node),
		TEST(test_numa_objects_use_all_zones),
		TEST(test_numa_objects_of_this_node),
		TEST(test_numa_objects_are_interleaved),
	};

	test_clear_environment();
	sched_getaffinity(0, sizeof(all_cpus), &all_cpus);
	return cmocka_run_group_tests_name("numa", tests, NULL, NULL);
}
