/* SPDX-License-Identifier: MIT */
/*
 * Is the machine what its description says, and do mbind, move_pages and
 * numa_maps tell the truth on it?  What the other programs find out about the
 * pool is worth no more than this.  Nothing here is pagepool.
 */
#include "../api/testing.h"
#include "machine.h"

#include <numa.h>
#include <numaif.h>
#include <sys/mman.h>

#define NR_PAGES	64

static struct node_list nodes;

static void test_machine_has_the_nodes_of_its_description(void **state)
{
	struct bitmask *allowed;

	(void)state;
	assert_true(nodes.nr >= 1);
	/* Those with memory, that is. */
	assert_int_equal(numa_num_configured_nodes(), nodes.nr);
	allowed = numa_get_mems_allowed();
	for (int i = 0; i <= numa_max_node(); i++)
		assert_int_equal(numa_bitmask_isbitset(allowed, (unsigned)i) &&
				 numa_node_size64(i, NULL) > 0,
				 node_list_has(&nodes, i));
	numa_bitmask_free(allowed);
	reached_end();
}

static void test_machine_has_the_distances_of_its_description(void **state)
{
	struct node_list order = node_list_parse(getenv("VM_ORDER"));

	(void)state;
	assert_int_equal(order.nr, nodes.nr);
	for (int i = 1; i < order.nr; i++) {
		int before = numa_distance(order.id[0], order.id[i - 1]);
		int after = numa_distance(order.id[0], order.id[i]);

		assert_true(before <= after);
	}
	reached_end();
}

static void test_machine_pages_are_where_mbind_wants_them(void **state)
{
	(void)state;
	for (int i = 0; i < nodes.nr; i++) {
		unsigned long mask = 1ul << nodes.id[i];
		char line[1024];
		char *p = mmap(NULL, NR_PAGES * PAGE, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		assert_true(p != MAP_FAILED);
		assert_int_equal(mbind(p, NR_PAGES * PAGE, MPOL_BIND, &mask,
				       sizeof(mask) * 8, 0), 0);
		memset(p, 1, NR_PAGES * PAGE);
		for (size_t j = 0; j < NR_PAGES; j++)
			assert_int_equal(page_node(p + j * PAGE), nodes.id[i]);
		assert_true(numa_maps_line(p, line, sizeof(line)));
		assert_int_equal(numa_maps_pages(line, nodes.id[i]), NR_PAGES);
		munmap(p, NR_PAGES * PAGE);
	}
	reached_end();
}

static void test_machine_cpus_can_be_pinned_to(void **state)
{
	int nr_cpus = numa_num_configured_cpus();

	(void)state;
	assert_true(nr_cpus >= 1);
	for (int cpu = 0; cpu < nr_cpus; cpu++) {
		unsigned node = ~0u;

		assert_true(pin(cpu));
		assert_int_equal(syscall(SYS_getcpu, NULL, &node, NULL), 0);
		assert_int_equal(numa_node_of_cpu(cpu), node);
	}
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_machine_has_the_nodes_of_its_description),
		TEST(test_machine_has_the_distances_of_its_description),
		TEST(test_machine_pages_are_where_mbind_wants_them),
		TEST(test_machine_cpus_can_be_pinned_to),
	};

	nodes = node_list_parse(getenv("VM_NODES"));
	return cmocka_run_group_tests_name("machine", tests, NULL, NULL);
}
