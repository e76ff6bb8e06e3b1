/* SPDX-License-Identifier: MIT */
/*
 * On a machine with several nodes: is every page of a pool on the node that
 * the policy says?  The pool's word (pp_numa_node_of) is compared with the
 * kernel's (move_pages, numa_maps), the order of fallback with libnuma's
 * distances.
 *
 * The same tests run in processes that may use some of the nodes only, be it
 * by a cpuset or by the memory policy that VM_MEMBIND gives to the process:
 * everything is told in terms of the nodes that may be used.
 */
#include "../api/testing.h"
#include "machine.h"

#include <pagepool/numa.h>
#include <pagepool/reclaim.h>

#include <numa.h>
#include <numaif.h>
#include <sys/wait.h>

#define LIMIT		"32M"
#define MAX_RUNS	4096
/* Longer than what threads keep, so that a run is placed when it is asked
 * for; and an ordinary length that many of fill a node closely. */
#define LONG_PAGES	300
#define FILL_PAGES	64

static struct node_list nodes;		/* that may be used */
static int nr_cpus, cpus[CPU_SETSIZE];	/* that may be used */

/* What the system says */

static int distance_to_nearest(int from)
{
	int nearest = 1000;

	for (int i = 0; i < nodes.nr; i++) {
		int distance = numa_distance(from, nodes.id[i]);

		nearest = distance < nearest ? distance : nearest;
	}
	return nearest;
}

/* Is no other node that may be used nearer to the CPU than this one?  A CPU
 * may belong to a node that has no memory, or none for this process. */
static bool is_local(int node, int cpu)
{
	int home = numa_node_of_cpu(cpu);

	return node_list_has(&nodes, node) &&
	       numa_distance(home, node) == distance_to_nearest(home);
}

/* A CPU of the node, or -1. */
static int cpu_of(int node)
{
	for (int i = 0; i < nr_cpus; i++)
		if (numa_node_of_cpu(cpus[i]) == node)
			return cpus[i];
	return -1;
}

/* A pool and what was taken from it */

struct taken {
	struct pp_pool	*pool;
	size_t		nr_runs;
	void		*run[MAX_RUNS];
	int		node[MAX_RUNS];
	size_t		pages_on[MAX_NODES];
};

static struct taken taken;

static struct taken *begin(const char *policy)
{
	struct pp_config *config = NULL;
	struct taken *t = &taken;

	memset(t, 0, sizeof(*t));
	assert_int_equal(pp_config_create(&config), 0);
	assert_int_equal(pp_config_set(config, "limit", LIMIT), 0);
	if (policy)
		assert_int_equal(pp_config_set(config, "numa", policy), 0);
	assert_int_equal(pp_pool_create(config, &t->pool), 0);
	pp_config_destroy(config);
	return t;
}

static void release(struct taken *t)
{
	pp_free_bulk(t->pool, t->nr_runs, t->run);
	t->nr_runs = 0;
	memset(t->pages_on, 0, sizeof(t->pages_on));
}

static void end(struct taken *t)
{
	release(t);
	pool_end(t->pool);
	reached_end();
}

/* The number of the system that the pool has for the zone of this page. */
static int pool_node(struct pp_pool *pool, const void *p)
{
	int index = pp_numa_node_of(pool, p);

	return index < 0 ? index : pp_numa_node_id(pool, (unsigned)index);
}

static unsigned index_of(struct pp_pool *pool, int node)
{
	for (int i = 0; i < pp_numa_nr_nodes(pool); i++)
		if (pp_numa_node_id(pool, (unsigned)i) == node)
			return (unsigned)i;
	fail_msg("no zone for node %d", node);
	return 0;
}

static struct pp_stats zone_stats(struct pp_pool *pool, int node)
{
	struct pp_stats s;

	memset(&s, 0, sizeof(s));
	s.struct_bytes = sizeof(s);
	assert_int_equal(pp_numa_snapshot(pool, index_of(pool, node), &s), 0);
	return s;
}

static void assert_pages_on(char *run, size_t nr_pages, int node)
{
	for (size_t i = 0; i < nr_pages; i++) {
		run[i * PAGE] = 1;
		assert_int_equal(page_node(run + i * PAGE), node);
	}
}

/* Note a run, or that there was none.  All of its pages have to be on the node
 * that the pool says, and that one this process may use. */
static bool note(struct taken *t, void *run, size_t nr_pages)
{
	int node;

	if (!run)
		return false;
	node = pool_node(t->pool, run);
	assert_true(node_list_has(&nodes, node));
	assert_pages_on(run, nr_pages, node);
	assert_true(t->nr_runs < MAX_RUNS);
	t->run[t->nr_runs] = run;
	t->node[t->nr_runs++] = node;
	t->pages_on[node] += nr_pages;
	return true;
}

static bool take(struct taken *t, size_t nr_pages, unsigned flags)
{
	return note(t, pp_alloc_pages(t->pool, nr_pages, flags), nr_pages);
}

static bool take_at(struct taken *t, unsigned index, size_t nr_pages,
		    unsigned flags)
{
	return note(t, pp_numa_alloc(t->pool, index, nr_pages, flags),
		    nr_pages);
}

static size_t pages_taken(const struct taken *t)
{
	size_t sum = 0;

	for (int i = 0; i < MAX_NODES; i++)
		sum += t->pages_on[i];
	return sum;
}

/* Has the node no run of FILL_PAGES left for an ordinary request? */
static bool is_full(struct pp_pool *pool, int node)
{
	struct pp_stats s = zone_stats(pool, node);

	if (s.free_pages < s.min_pages + FILL_PAGES)
		return true;
	print_error("node %d: %lld of %lld pages free, min %lld\n", node,
		    (long long)s.free_pages, (long long)s.managed_pages,
		    (long long)s.min_pages);
	return false;
}

/* Runs must have come from the nodes in the order of their distance. */
static void assert_nearest_first(const struct taken *t, int from)
{
	bool seen[MAX_NODES] = { false };
	int last = 0;

	for (size_t i = 0; i < t->nr_runs; i++) {
		int distance = numa_distance(from, t->node[i]);

		if (seen[t->node[i]])
			continue;
		seen[t->node[i]] = true;
		print_message("# from node %d: node %d, %d, after %zu runs\n",
			      from, t->node[i], distance, i);
		assert_true(distance >= last);
		last = distance;
	}
	for (int i = 0; i < nodes.nr; i++)
		assert_true(seen[nodes.id[i]]);
}

/* The tests */

static void test_numa_zones_are_the_nodes_that_may_be_used(void **state)
{
	struct taken *t = begin(NULL);
	bool seen[MAX_NODES] = { false };

	(void)state;
	assert_int_equal(pp_numa_nr_nodes(t->pool), nodes.nr);
	for (unsigned i = 0; i < (unsigned)nodes.nr; i++) {
		int node = pp_numa_node_id(t->pool, i);

		assert_true(node_list_has(&nodes, node));
		assert_false(seen[node]);
		seen[node] = true;
	}
	assert_int_equal(pp_numa_node_id(t->pool, (unsigned)nodes.nr), -ENOENT);
	assert_int_equal(pp_numa_node_of(t->pool, &nodes), -ENOENT);
	end(t);
}

static void test_numa_zones_add_up_to_the_pool(void **state)
{
	struct taken *t = begin("interleave");
	struct pp_stats all, s;
	int64_t managed = 0, used = 0, free_pages = 0, cached = 0;

	(void)state;
	for (int i = 0; i < 100; i++)
		assert_true(take(t, 1 + (size_t)i, 0));
	all = pool_stats(t->pool);
	for (int i = 0; i < nodes.nr; i++) {
		s = zone_stats(t->pool, nodes.id[i]);
		managed += s.managed_pages;
		used += s.used_pages;
		free_pages += s.free_pages;
		cached += s.cached_pages;
	}
	assert_int_equal(managed, all.managed_pages);
	assert_int_equal(used, all.used_pages);
	assert_int_equal(free_pages, all.free_pages);
	assert_int_equal(cached, all.cached_pages);
	s.struct_bytes = sizeof(s);
	assert_int_equal(pp_numa_snapshot(t->pool, (unsigned)nodes.nr, &s),
			 -ENOENT);
	end(t);
}

static void check_local(const char *policy)
{
	static const size_t lengths[] = { 1, 8, 16, LONG_PAGES, 600 };
	struct taken *t = begin(policy);

	for (int i = 0; i < nr_cpus; i++) {
		assert_true(pin(cpus[i]));
		for (size_t j = 0; j < COUNT_OF(lengths); j++) {
			/* What the cache has is of the last CPU's node. */
			assert_int_equal(pp_pool_drain(t->pool), 0);
			assert_true(take(t, lengths[j], 0));
			assert_true(is_local(t->node[j], cpus[i]));
		}
		release(t);
	}
	end(t);
}

static void test_numa_local_is_the_node_of_the_cpu(void **state)
{
	(void)state;
	check_local("local");
}

static void test_numa_local_is_the_default(void **state)
{
	(void)state;
	check_local(NULL);
}

static void test_numa_local_follows_the_thread(void **state)
{
	struct taken *t = begin("local");

	(void)state;
	for (int i = 0; i < 2 * nr_cpus; i++) {
		size_t cached, elsewhere = 0;
		int cpu = cpus[i % nr_cpus];

		assert_true(pin(cpu));
		cached = (size_t)pool_stats(t->pool).cached_pages;
		for (int j = 0; j < 512; j++) {
			assert_true(take(t, 1, 0));
			elsewhere += !is_local(t->node[j], cpu);
		}
		assert_true(elsewhere <= cached);
		release(t);
	}
	end(t);
}

static void test_numa_maps_name_the_node(void **state)
{
	struct taken *t = begin(NULL);

	(void)state;
	for (int i = 0; i < nodes.nr; i++) {
		char line[1024] = "", word[32];
		int node = nodes.id[i];

		assert_true(take_at(t, index_of(t->pool, node), LONG_PAGES,
				    PP_THISNODE));
		assert_true(numa_maps_line(t->run[t->nr_runs - 1], line,
					   sizeof(line)));
		print_message("# %s", line);
		/* "bind:1" or "prefer:1" */
		snprintf(word, sizeof(word), ":%d ", node);
		/* With one node to choose from nothing is to be bound. */
		if (nodes.nr > 1)
			assert_non_null(strstr(line, word));
		assert_true(numa_maps_pages(line, node) >= LONG_PAGES);
		for (int other = 0; other < MAX_NODES; other++)
			if (other != node)
				assert_int_equal(numa_maps_pages(line, other),
						 0);
	}
	end(t);
}

static void check_interleave(size_t nr_pages, int nr_runs)
{
	struct taken *t = begin("interleave");
	size_t even;

	for (int i = 0; i < nr_runs; i++)
		assert_true(take(t, nr_pages, 0));
	even = pages_taken(t) / (size_t)nodes.nr;
	for (int i = 0; i < nodes.nr; i++) {
		size_t here = t->pages_on[nodes.id[i]];

		print_message("# %zu pages of %zu on node %d\n", here,
			      pages_taken(t), nodes.id[i]);
		assert_in_range(here, even - even / 4, even + even / 4);
	}
	end(t);
}

static void test_numa_interleave_spreads_long_runs_evenly(void **state)
{
	(void)state;
	check_interleave(LONG_PAGES, 16);
}

/* They come out of a cache that is filled in batches. */
static void test_numa_interleave_spreads_pages_evenly(void **state)
{
	(void)state;
	check_interleave(1, MAX_RUNS);
}

static void test_numa_bind_uses_that_node_alone(void **state)
{
	char policy[32];

	(void)state;
	for (int i = 0; i < nodes.nr; i++) {
		struct taken *t;

		snprintf(policy, sizeof(policy), "bind:%d", nodes.id[i]);
		t = begin(policy);
		while (take(t, FILL_PAGES, 0))
			;
		assert_int_equal(errno, ENOMEM);
		assert_true(pages_taken(t) > 0);
		assert_int_equal(pages_taken(t), t->pages_on[nodes.id[i]]);
		assert_true(is_full(t->pool, nodes.id[i]));
		end(t);
	}
}

static void test_numa_bind_uses_all_nodes_of_the_list(void **state)
{
	char policy[32];
	int a = nodes.id[0], b = nodes.id[nodes.nr - 1];
	struct taken *t;

	(void)state;
	snprintf(policy, sizeof(policy), "bind:%d,%d", a, b);
	t = begin(policy);
	while (take(t, FILL_PAGES, 0))
		;
	assert_true(t->pages_on[a] > 0 && t->pages_on[b] > 0);
	assert_int_equal(pages_taken(t),
			 t->pages_on[a] + (a == b ? 0 : t->pages_on[b]));
	assert_true(is_full(t->pool, a) && is_full(t->pool, b));
	end(t);
}

/* From every CPU: first the node, then those that are nearest to it. */
static void test_numa_preferred_is_first_and_then_the_nearest(void **state)
{
	char policy[32];

	(void)state;
	for (int i = 0; i < nodes.nr; i++) {
		struct taken *t;

		snprintf(policy, sizeof(policy), "preferred:%d", nodes.id[i]);
		assert_true(pin(cpus[i % nr_cpus]));
		t = begin(policy);
		while (take(t, FILL_PAGES, 0))
			;
		assert_int_equal(errno, ENOMEM);
		assert_int_equal(t->node[0], nodes.id[i]);
		assert_nearest_first(t, nodes.id[i]);
		end(t);
	}
}

/* P4: nothing fails while another node has memory. */
static void test_numa_fallback_is_by_distance_to_the_last_page(void **state)
{
	(void)state;
	for (int i = 0; i < nodes.nr; i++) {
		struct taken *t = begin(NULL);
		unsigned index = index_of(t->pool, nodes.id[i]);

		while (take_at(t, index, FILL_PAGES, 0))
			;
		assert_int_equal(errno, ENOMEM);
		assert_int_equal(t->node[0], nodes.id[i]);
		assert_nearest_first(t, nodes.id[i]);
		for (int j = 0; j < nodes.nr; j++)
			assert_true(is_full(t->pool, nodes.id[j]));
		assert_true(nodes.nr == 1 ||
			    pool_stats(t->pool).node_fallback > 0);
		end(t);
	}
}

/* A local request, too, when the node of the CPU is full. */
static void test_numa_local_falls_back_by_distance(void **state)
{
	(void)state;
	for (int i = 0; i < nr_cpus; i++) {
		struct taken *t = begin("local");

		assert_true(pin(cpus[i]));
		while (take(t, FILL_PAGES, 0))
			;
		assert_true(is_local(t->node[0], cpus[i]));
		assert_nearest_first(t, numa_node_of_cpu(cpus[i]));
		end(t);
	}
}

/* The first node alone is used up; an ordinary request goes on elsewhere. */
static void test_numa_thisnode_is_strict(void **state)
{
	int nr_tried = 0;

	(void)state;
	for (int i = 0; i < nodes.nr; i++) {
		int node = nodes.id[i], cpu = cpu_of(node);
		struct taken *t;
		size_t here;

		if (cpu < 0)
			continue;
		nr_tried++;
		assert_true(pin(cpu));
		t = begin("local");
		while (take(t, FILL_PAGES, PP_THISNODE))
			;
		assert_int_equal(errno, ENOMEM);
		here = t->pages_on[node];
		assert_true(here > 0);
		assert_int_equal(pages_taken(t), here);
		assert_true(is_full(t->pool, node));
		if (nodes.nr > 1) {
			assert_true(take(t, LONG_PAGES, 0));
			assert_int_equal(t->pages_on[node], here);
		}
		end(t);
	}
	if (!nr_tried)
		test_skip("no CPU here belongs to a node with memory");
}

/* Wherever the thread runs, and whatever its cache has. */
static void test_numa_alloc_takes_the_node_that_it_is_told(void **state)
{
	struct taken *t = begin(NULL);

	(void)state;
	for (int i = 0; i < nr_cpus; i++) {
		assert_true(pin(cpus[i]));
		for (int j = 0; j < 64 * nodes.nr; j++) {
			int node = nodes.id[j % nodes.nr];
			unsigned flags = j & 32 ? PP_THISNODE : 0;

			assert_true(take_at(t, index_of(t->pool, node),
					    1 + (size_t)j / 5 % 16, flags));
			assert_int_equal(t->node[j], node);
		}
		release(t);
	}
	errno = 0;
	assert_null(pp_numa_alloc(t->pool, (unsigned)nodes.nr, 1, 0));
	assert_true(errno == ENOENT || errno == EINVAL);
	end(t);
}

/* A thread that has moved, and freed pages of elsewhere into its cache. */
static void test_numa_thisnode_ignores_pages_of_elsewhere(void **state)
{
	struct taken *t = begin("local");
	int cpu[MAX_NODES], nr = 0;

	(void)state;
	for (int i = 0; i < nodes.nr; i++)
		if (cpu_of(nodes.id[i]) >= 0)
			cpu[nr++] = cpu_of(nodes.id[i]);
	for (int i = 0; i < 4 * nr; i++) {
		size_t pages = i < 2 * nr ? 1 : 8;
		int node = numa_node_of_cpu(cpu[i % nr]);

		assert_true(pin(cpu[i % nr]));
		release(t);
		for (int j = 0; j < 64; j++) {
			assert_true(take(t, pages, PP_THISNODE));
			assert_int_equal(t->node[j], node);
		}
	}
	end(t);
}

static void test_numa_policy_can_be_changed_live(void **state)
{
	struct taken *t = begin("local");
	char policy[32];

	(void)state;
	for (int i = 0; i < 2 * nodes.nr; i++) {
		int node = nodes.id[i % nodes.nr];

		snprintf(policy, sizeof(policy), "bind:%d", node);
		assert_int_equal(pp_pool_set(t->pool, "numa", policy), 0);
		assert_int_equal(pp_pool_drain(t->pool), 0);
		for (int j = 0; j < 64; j++) {
			assert_true(take(t, j & 1 ? LONG_PAGES / 10 : 1, 0));
			assert_int_equal(t->node[j], node);
		}
		release(t);
	}
	assert_int_equal(pp_pool_set(t->pool, "numa", "bind:"), -EINVAL);
	end(t);
}

/* Fills a pool that has most of what the nodes have free together, though a
 * node may have less than its equal share.  Ends the process. */
static void fill_most_of_the_machine(void)
{
	struct pp_config *config = NULL;
	struct pp_pool *pool = NULL;
	long long free_bytes, sum = 0;
	char limit[32];
	char *run;

	for (int i = 0; i < nodes.nr; i++)
		if (numa_node_size64(nodes.id[i], &free_bytes) > 0)
			sum += free_bytes;
	snprintf(limit, sizeof(limit), "%lldK", sum / 1024 * 6 / 10);
	if (pp_config_create(&config) ||
	    pp_config_set(config, "limit", limit) ||
	    pp_pool_create(config, &pool))
		_exit(2);
	while ((run = pp_alloc_pages(pool, 512, 0)))
		for (size_t i = 0; i < 512; i++)
			run[i * PAGE] = 1;
	_exit(pp_pool_check(pool) ? 3 : 0);
}

/* P3: the kernel kills nobody for it, not even when a node is smaller. */
static void test_numa_a_share_larger_than_its_node_is_survived(void **state)
{
	pid_t pid;
	int status;

	(void)state;
	fflush(stdout);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		fill_most_of_the_machine();
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_false(WIFSIGNALED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	reached_end();
}

/* VM_MEMBIND: the policy of the process, as numactl --membind gives it. */
static void bind_process(const char *list)
{
	struct node_list bound = node_list_parse(list);
	unsigned long mask = 0;

	for (int i = 0; i < bound.nr; i++)
		mask |= 1ul << bound.id[i];
	if (mask && set_mempolicy(MPOL_BIND, &mask, sizeof(mask) * 8)) {
		perror("set_mempolicy");
		exit(99);
	}
}

static void find_cpus(void)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set)) {
		perror("sched_getaffinity");
		exit(99);
	}
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &set))
			cpus[nr_cpus++] = cpu;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_numa_zones_are_the_nodes_that_may_be_used),
		TEST(test_numa_zones_add_up_to_the_pool),
		TEST(test_numa_local_is_the_node_of_the_cpu),
		TEST(test_numa_local_is_the_default),
		TEST(test_numa_local_follows_the_thread),
		TEST(test_numa_maps_name_the_node),
		TEST(test_numa_interleave_spreads_long_runs_evenly),
		TEST(test_numa_interleave_spreads_pages_evenly),
		TEST(test_numa_bind_uses_that_node_alone),
		TEST(test_numa_bind_uses_all_nodes_of_the_list),
		TEST(test_numa_preferred_is_first_and_then_the_nearest),
		TEST(test_numa_fallback_is_by_distance_to_the_last_page),
		TEST(test_numa_local_falls_back_by_distance),
		TEST(test_numa_thisnode_is_strict),
		TEST(test_numa_alloc_takes_the_node_that_it_is_told),
		TEST(test_numa_thisnode_ignores_pages_of_elsewhere),
		TEST(test_numa_policy_can_be_changed_live),
		TEST(test_numa_a_share_larger_than_its_node_is_survived),
	};

	test_clear_environment();
	unsetenv("PAGEPOOL_NUMA");
	unsetenv("PAGEPOOL_FAKE_NODES");
	bind_process(getenv("VM_MEMBIND"));
	nodes = node_list_parse(getenv("VM_NODES"));
	find_cpus();
	return cmocka_run_group_tests_name("numa", tests, NULL, NULL);
}
