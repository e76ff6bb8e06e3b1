/* SPDX-License-Identifier: MIT */
/*
 * Folders that look like /sys/devices/system/node, written by the test, and
 * what is read from them: nodes without memory, offline ones, those that the
 * process may not use, distances, sizes, and every kind of nonsense.  Lists of
 * nodes.  The order of fallback that follows from the distances.
 */
#include "../api/testing.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/fault.h"
#include "node.h"
#include "os/os.h"

static char root[64];
static struct topology topology;

static void write_file(const char *folder, const char *name, const char *text)
{
	char path[160];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", root, folder);
	mkdir(path, 0777);
	snprintf(path, sizeof(path), "%s/%s/%s", root, folder, name);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
}

static void begin(void)
{
	strcpy(root, "topology-test-XXXXXX");
	assert_non_null(mkdtemp(root));
	memset(&topology, 0xa5, sizeof(topology));
}

static void end(void)
{
	char command[96];

	snprintf(command, sizeof(command), "rm -r '%s'", root);
	assert_int_equal(system(command), 0);
	reached_end();
}

static struct nodemask mask_of(const char *list)
{
	struct nodemask mask;

	assert_int_equal(nodemask_parse(list, &mask), 0);
	return mask;
}

/* Four nodes: 2 is offline, 3 has CPUs only; 0, 1 and 5 have memory. */
static void write_machine(void)
{
	write_file(".", "online", "0-1,3,5\n");
	write_file(".", "has_memory", "0-1,5\n");
	write_file("node0", "distance", "10 21 31 12\n");
	write_file("node1", "distance", "21 10 15 31\n");
	write_file("node3", "distance", "31 15 10 22\n");
	write_file("node5", "distance", "12 31 22 10\n");
	write_file("node0", "meminfo",
		   "Node 0 MemFree: 7 kB\nNode 0 MemTotal:  1024 kB\n");
	write_file("node1", "meminfo", "Node 1 MemTotal:       2048 kB\n");
	write_file("node5", "meminfo", "Node 5 MemTotal: 4096 kB\n");
}

static void test_topology_nodes_with_memory_count(void **state)
{
	(void)state;
	begin();
	write_machine();
	topology_read(&topology, root, NULL);
	assert_int_equal(topology.nr, 3);
	assert_int_equal(topology.id[0], 0);
	assert_int_equal(topology.id[1], 1);
	assert_int_equal(topology.id[2], 5);
	assert_int_equal(topology.bytes[0], 1 << 20);
	assert_int_equal(topology.bytes[1], 2 << 20);
	assert_int_equal(topology.bytes[2], 4 << 20);
	assert_int_equal(topology.distance[0][2], 12);
	assert_int_equal(topology.distance[1][0], 21);
	assert_int_equal(topology.distance[2][1], 31);
	assert_int_equal(topology.distance[2][2], 10);
	/* The CPUs of node 3 are nearest to node 1. */
	assert_int_equal(topology.nearest[3], 1);
	assert_int_equal(topology.nearest[5], 2);
	end();
}

static void test_topology_respects_what_is_allowed(void **state)
{
	struct nodemask allowed = mask_of("0,2,5-7");

	(void)state;
	begin();
	write_machine();
	topology_read(&topology, root, &allowed);
	assert_int_equal(topology.nr, 2);
	assert_int_equal(topology.id[1], 5);
	assert_int_equal(topology.nearest[1], 0);
	assert_int_equal(topology.nearest[3], 1);
	allowed = mask_of("5");
	topology_read(&topology, root, &allowed);
	assert_int_equal(topology.nr, 1);
	assert_int_equal(topology.id[0], 5);
	allowed = mask_of("2-3");
	topology_read(&topology, root, &allowed);
	assert_int_equal(topology.nr, 1);
	end();
}

static void test_topology_nothing_there_is_one_node(void **state)
{
	(void)state;
	begin();
	topology_read(&topology, root, NULL);
	assert_int_equal(topology.nr, 1);
	assert_int_equal(topology.id[0], 0);
	write_file(".", "online", "nonsense\n");
	topology_read(&topology, root, NULL);
	assert_int_equal(topology.nr, 1);
	write_file(".", "online", "");
	topology_read(&topology, root, NULL);
	assert_int_equal(topology.nr, 1);
	topology_read(&topology, "/nowhere", NULL);
	assert_int_equal(topology.nr, 1);
	end();
}

/* Files are missing or cut off: equal sizes, equal distances. */
static void test_topology_what_is_missing_is_equal(void **state)
{
	(void)state;
	begin();
	write_file(".", "online", "0-2\n");
	write_file("node0", "meminfo", "Node 0 MemTotal: 1024 kB\n");
	write_file("node1", "distance", "20 10");
	write_file("node2", "distance", "x y z\n");
	topology_read(&topology, root, NULL);
	assert_int_equal(topology.nr, 3);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(topology.bytes[i], 1);
		for (unsigned k = 0; k < 3; k++)
			assert_int_equal(topology.distance[i][k],
					 i == k ? 10 : 20);
	}
	end();
}

static void test_topology_more_nodes_than_zones_is_one_node(void **state)
{
	(void)state;
	begin();
	write_file(".", "online", "0-63\n");
	topology_read(&topology, root, NULL);
	assert_int_equal(topology.nr, 1);
	write_file(".", "has_memory", "16-63\n");
	topology_read(&topology, root, NULL);
	assert_int_equal(topology.nr, TOPOLOGY_MAX_NODES);
	assert_int_equal(topology.id[0], 16);
	assert_int_equal(topology.id[47], 63);
	end();
}

static void test_topology_of_this_machine_can_be_read(void **state)
{
	(void)state;
	topology_read(&topology, TOPOLOGY_ROOT, NULL);
	assert_in_range(topology.nr, 1, TOPOLOGY_MAX_NODES);
	for (unsigned i = 0; i < topology.nr; i++)
		assert_true(topology.bytes[i] > 0);
	reached_end();
}

static void expect_list(const char *text, int err, unsigned nr)
{
	struct nodemask mask;

	assert_int_equal(nodemask_parse(text, &mask), err);
	if (!err)
		assert_int_equal(nodemask_count(&mask), nr);
}

static void test_nodemask_lists(void **state)
{
	struct nodemask mask = mask_of("0,2-3,64,1023\n");
	unsigned nr = 0;

	(void)state;
	for_each_node_in(node, &mask) {
		assert_true(node == 0 || node == 2 || node == 3 ||
			    node == 64 || node == 1023);
		nr++;
	}
	assert_int_equal(nr, 5);
	expect_list("", 0, 0);
	expect_list("\n", 0, 0);
	expect_list("7", 0, 1);
	expect_list("0-1023", 0, 1024);
	expect_list("3,3,2-4", 0, 3);
	expect_list("1024", -ERANGE, 0);
	expect_list("0-1024", -ERANGE, 0);
	expect_list("99999999999999999999", -ERANGE, 0);
	expect_list("3-2", -EINVAL, 0);
	expect_list("1,", -EINVAL, 0);
	expect_list(",1", -EINVAL, 0);
	expect_list("1-", -EINVAL, 0);
	expect_list("-1", -EINVAL, 0);
	expect_list("1 2", -EINVAL, 0);
	expect_list("0x1", -EINVAL, 0);
	reached_end();
}

/* The order of fallback */

static void expect_row(const struct nodes *nodes, unsigned row,
		       const unsigned *zones)
{
	for (unsigned i = 0; i < nodes->nr; i++)
		assert_int_equal(nodes->order[row][i], zones[i]);
}

static void test_nodes_fall_back_by_distance(void **state)
{
	static struct nodes nodes;

	(void)state;
	begin();
	write_machine();
	topology_read(&topology, root, NULL);
	nodes_take_topology(&nodes, &topology);
	assert_int_equal(nodes.nr, 3);
	expect_row(&nodes, 0, (unsigned[]){ 0, 2, 1 });
	expect_row(&nodes, 1, (unsigned[]){ 1, 0, 2 });
	expect_row(&nodes, 2, (unsigned[]){ 2, 0, 1 });
	assert_int_equal(nodes_index_of(&nodes, 5), 2);
	assert_int_equal(nodes_index_of(&nodes, 2), nodes.nr);
	end();
}

/* Of equal ones each is the second choice of one other. */
static void test_nodes_at_one_distance_share_the_load(void **state)
{
	static struct nodes nodes;

	(void)state;
	topology_fake(&topology, 4);
	nodes_take_topology(&nodes, &topology);
	expect_row(&nodes, 0, (unsigned[]){ 0, 1, 2, 3 });
	expect_row(&nodes, 1, (unsigned[]){ 1, 2, 3, 0 });
	expect_row(&nodes, 2, (unsigned[]){ 2, 3, 0, 1 });
	expect_row(&nodes, 3, (unsigned[]){ 3, 0, 1, 2 });
	reached_end();
}

static void test_nodes_divide_by_memory_to_the_page(void **state)
{
	static struct nodes nodes;
	uint64_t share[NODES_MAX];

	(void)state;
	begin();
	write_machine();
	topology_read(&topology, root, NULL);
	nodes_take_topology(&nodes, &topology);
	nodes_divide(&nodes, 7000, share);
	assert_int_equal(share[0], 1000);
	assert_int_equal(share[1], 2000);
	assert_int_equal(share[2], 4000);
	for (uint64_t pages = 0; pages < 3000; pages += 7) {
		nodes_divide(&nodes, pages, share);
		assert_int_equal(share[0] + share[1] + share[2], pages);
	}
	nodes_divide(&nodes, 1ull << 32, share);
	assert_true(share[0] + share[1] + share[2] == 1ull << 32);
	end();
}

/* Asking the kernel */

static void test_topology_memory_of_a_range_is_preferred(void **state)
{
	struct nodemask allowed;
	char line[512], word[32];
	bool found = false;
	unsigned node;
	void *memory;
	FILE *f;

	(void)state;
	if (topology_allowed(&allowed)) {
		test_skip("the kernel does not say which nodes there are");
		return;
	}
	node = nodemask_next(&allowed, 0);
	assert_true(node < NODEMASK_BITS);
	assert_int_equal(os_map_storage(64 * PAGE, &memory), 0);
	if (os_prefer_node(memory, 64 * PAGE, node)) {
		test_skip("mbind is refused here");
		return;
	}
	memset(memory, 1, 64 * PAGE);
	snprintf(word, sizeof(word), "%lx prefer:%u ",
		 (unsigned long)(uintptr_t)memory, node);
	f = fopen("/proc/self/numa_maps", "r");
	while (f && fgets(line, sizeof(line), f))
		found = found || strncmp(line, word, strlen(word)) == 0;
	assert_true(found || !f);
	if (f)
		fclose(f);
	assert_int_equal(os_prefer_node(memory, 64 * PAGE, 1000), -EINVAL);
	os_unreserve(memory, 64 * PAGE);
	reached_end();
}

/* Two zones, both of the node that is there; the second time mbind says no. */
static void test_nodes_zones_start_with_or_without_mbind(void **state)
{
	struct nodes *nodes = NULL;
	struct span span;

	(void)state;
	for (unsigned refuse = 0; refuse < 2; refuse++) {
		assert_int_equal(posix_memalign((void **)&nodes, 64,
						sizeof(*nodes)), 0);
		memset(nodes, 0, sizeof(*nodes));
		topology_fake(&topology, 2);
		topology.id[1] = 0;
		nodes_take_topology(nodes, &topology);
		assert_int_equal(posix_memalign((void **)&nodes->zones, 64,
						2 * sizeof(struct zone)), 0);
		memset(nodes->zones, 0, 2 * sizeof(struct zone));
		assert_int_equal(span_init_zones(&span, 64 << 20, 2), 0);
		assert_int_equal(span.nr_zones, 2);
		fault_arm(FAULT_BIND, refuse);
		nodes_start(nodes, &span, 16001);
		assert_int_equal(load_relaxed(&fault_countdown[FAULT_BIND]),
				 0);
		assert_true(load_relaxed(&nodes->nr_bind_refused) >= refuse);
		assert_int_equal(load_relaxed(&nodes->zones[0].managed_pages) +
				 load_relaxed(&nodes->zones[1].managed_pages),
				 16001);
		assert_int_equal(nodes->zones[1].range.first * 2,
				 nodes->zones[1].range.end);
		assert_int_equal(nodes->zones[1].range.first % 2048, 0);
		span_exit(&span);
		free(nodes->zones);
		free(nodes);
	}
	reached_end();
}

/* Under an address limit there is one zone in the end. */
static void test_span_is_not_divided_below_four_gibibytes(void **state)
{
	struct rlimit limit = { 12ull << 30, 12ull << 30 };
	int status;
	pid_t pid;

	(void)state;
	if (TEST_SANITIZED) {
		test_skip("a sanitizer's shadow needs the addresses");
		return;
	}
	pid = fork();
	if (pid == 0) {
		struct span span;

		if (setrlimit(RLIMIT_AS, &limit))
			_exit(1);
		if (span_init_zones(&span, 64 << 20, 4) || span.nr_zones != 1)
			_exit(2);
		span_exit(&span);
		if (span_init_zones(&span, 64 << 20, 2))
			_exit(3);
		_exit(span.nr_zones == 1 || span.zone_blocks == 2048 ? 0 : 4);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_topology_nodes_with_memory_count),
		TEST(test_topology_respects_what_is_allowed),
		TEST(test_topology_nothing_there_is_one_node),
		TEST(test_topology_what_is_missing_is_equal),
		TEST(test_topology_more_nodes_than_zones_is_one_node),
		TEST(test_topology_of_this_machine_can_be_read),
		TEST(test_nodemask_lists),
		TEST(test_nodes_fall_back_by_distance),
		TEST(test_nodes_at_one_distance_share_the_load),
		TEST(test_nodes_divide_by_memory_to_the_page),
		TEST(test_topology_memory_of_a_range_is_preferred),
		TEST(test_nodes_zones_start_with_or_without_mbind),
		TEST(test_span_is_not_divided_below_four_gibibytes),
	};

	test_clear_environment();
	return cmocka_run_group_tests_name("topology", tests, NULL, NULL);
}
