/* SPDX-License-Identifier: MIT */
/*
 * What the programs of this folder know about the machine that they run on.
 *
 * Its description says in the environment what the machine has:
 *
 *   VM_NODES  the nodes whose memory this process may use: "0,2-3"
 *   VM_ORDER  all of VM_NODES in the order of their distance from the first of
 *	       them: "0,3,2"
 *
 * The tests hold the kernel and libnuma to that before they hold the pool to
 * the kernel and to libnuma.
 */
#ifndef PP_TESTS_VM_MACHINE_H
#define PP_TESTS_VM_MACHINE_H

#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_NODES	16
#define MAX_HINTS	100	/* page_node() */

struct node_list {
	int	nr;
	int	id[MAX_NODES];
};

/* The numbers of a list like "0,2-3", in the order of the text. */
static inline struct node_list node_list_parse(const char *text)
{
	struct node_list list = { 0, { 0 } };
	char *end = NULL;

	for (; text && *text; text = *end ? end + 1 : end) {
		long from = strtol(text, &end, 10);
		long to = *end == '-' ? strtol(end + 1, &end, 10) : from;

		for (; from <= to && list.nr < MAX_NODES; from++)
			list.id[list.nr++] = (int)from;
	}
	return list;
}

static inline bool node_list_has(const struct node_list *list, int node)
{
	for (int i = 0; i < list->nr; i++)
		if (list->id[i] == node)
			return true;
	return false;
}

/* The node that has the page at @p, which was written before: move_pages(2)
 * tells without moving.
 *
 * The kernel's NUMA balancing takes a page's access away now and then, to see
 * who wants it, and Linux 6.1 says of such a page that it is not there
 * (-ENOENT).  A read gives the access back, and then the kernel knows. */
static inline int page_node(const char *p)
{
	void *page = (void *)((uintptr_t)p & ~(uintptr_t)4095);
	int node = -1;

	for (int i = 0; i < MAX_HINTS; i++) {
		(void)*(const volatile char *)p;
		if (syscall(SYS_move_pages, 0, 1ul, &page, NULL, &node, 0))
			return -1;
		if (node != -ENOENT)
			break;
	}
	return node;
}

/* Only on this CPU from now on. */
static inline bool pin(int cpu)
{
	cpu_set_t set;
	unsigned at = ~0u;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (syscall(SYS_sched_setaffinity, 0, sizeof(set), &set) < 0)
		return false;
	return syscall(SYS_getcpu, &at, NULL, NULL) == 0 && at == (unsigned)cpu;
}

/* Line by line through numa_maps: the one of the mapping that @p lies in. */
static inline bool numa_maps_line(const void *p, char *line, size_t size)
{
	FILE *f = fopen("/proc/self/numa_maps", "r");
	char text[1024];
	bool found = false;

	if (!f)
		return false;
	while (fgets(text, sizeof(text), f)) {
		if (strtoull(text, NULL, 16) > (uintptr_t)p)
			break;
		snprintf(line, size, "%s", text);
		found = true;
	}
	fclose(f);
	return found;
}

/* Pages of @node in such a line: " N1=23". */
static inline unsigned long numa_maps_pages(const char *line, int node)
{
	char word[16];
	const char *at;

	snprintf(word, sizeof(word), " N%d=", node);
	at = strstr(line, word);
	return at ? strtoul(at + strlen(word), NULL, 10) : 0;
}

#endif
