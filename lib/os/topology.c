/* SPDX-License-Identifier: MIT */
/* topology.c - see topology.h. */
#include "os/topology.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <string.h>

#include "base/fault.h"
#include "base/strbuf.h"
#include "os/os.h"
#include "os/syscall.h"

#define PATH_BYTES		256
#define DISTANCE_LOCAL		10u
#define DISTANCE_REMOTE		20u

/* What the kernel allows */

int topology_allowed(struct nodemask *allowed)
{
	struct nodemask bound;
	int mode, err;

	*allowed = (struct nodemask){ { 0 } };
	if (fault_hit(FAULT_POLICY))
		return -EPERM;
	err = (int)sys_call6(SYS_get_mempolicy, 0, (long)(uintptr_t)allowed,
			     NODEMASK_BITS, 0, MPOL_F_MEMS_ALLOWED, 0);
	if (err)
		return err;
	if (topology_process_policy(&mode, &bound) == 0 && mode == MPOL_BIND)
		nodemask_intersect(allowed, &bound);
	return 0;
}

int topology_process_policy(int *mode, struct nodemask *nodes)
{
	int err;

	*nodes = (struct nodemask){ { 0 } };
	err = fault_hit(FAULT_POLICY) ? -EPERM :
	      (int)sys_call6(SYS_get_mempolicy, (long)(uintptr_t)mode,
			     (long)(uintptr_t)nodes, NODEMASK_BITS, 0, 0, 0);
	*mode = err ? MPOL_DEFAULT : *mode & ~MPOL_MODE_FLAGS;
	return err;
}

int os_prefer_node(void *addr, size_t bytes, unsigned node)
{
	struct nodemask mask = { { 0 } };

	if (fault_hit(FAULT_BIND))
		return -EPERM;
	nodemask_add(&mask, node);
	/* The kernel takes one bit less than it is told of. */
	return (int)sys_call6(SYS_mbind, (long)(uintptr_t)addr, (long)bytes,
			      MPOL_PREFERRED, (long)(uintptr_t)&mask,
			      NODEMASK_BITS + 1, 0);
}

void os_where(unsigned *cpu, unsigned *node)
{
	*cpu = 0;
	*node = 0;
	sys_call3(SYS_getcpu, (long)(uintptr_t)cpu, (long)(uintptr_t)node, 0);
}

/* Files */

/* "ROOT/NAME" or "ROOT/node3/NAME" into t->text; "" if it cannot be read. */
static void read_file(struct topology *t, const char *root, int node,
		      const char *name)
{
	char path[PATH_BYTES];
	struct strbuf sb = STRBUF(path);
	size_t len = 0;
	long n = 1;
	int fd;

	strbuf_str(&sb, root);
	if (node >= 0) {
		strbuf_str(&sb, "/node");
		strbuf_i64(&sb, node);
	}
	strbuf_str(&sb, "/");
	strbuf_str(&sb, name);
	t->text[0] = '\0';
	if (sb.len >= sizeof(path))
		return;
	fd = os_open(path, O_RDONLY);
	if (fd < 0)
		return;
	/* Each round reads a byte at least, or is the last. */
	while (n > 0 && len < sizeof(t->text) - 1) {
		n = os_read(fd, t->text + len, sizeof(t->text) - 1 - len);
		len += n > 0 ? (size_t)n : 0;
	}
	t->text[len] = '\0';
	sys_close(fd);
}

static bool read_list(struct topology *t, const char *root, const char *name,
		      struct nodemask *nodes)
{
	read_file(t, root, -1, name);
	return nodemask_parse(t->text, nodes) == 0 &&
	       nodemask_count(nodes) > 0;
}

/* The number after @label and blanks; 0 if there is none. */
static uint64_t number_after(const char *text, const char *label)
{
	const char *s = strstr(text, label);
	uint64_t n = 0;

	if (!s)
		return 0;
	for (s += strlen(label); *s == ' ' || *s == '\t';)
		s++;
	for (; *s >= '0' && *s <= '9' && n < UINT64_MAX / 16; s++)
		n = n * 10 + (uint64_t)(*s - '0');
	return n;
}

/* Sizes and distances */

static void read_sizes(struct topology *t, const char *root)
{
	bool all = true;

	for (unsigned i = 0; i < t->nr; i++) {
		read_file(t, root, t->id[i], "meminfo");
		t->bytes[i] = number_after(t->text, "MemTotal:") << 10;
		all = all && t->bytes[i];
	}
	for (unsigned i = 0; i < t->nr && !all; i++)
		t->bytes[i] = 1;
}

static unsigned index_of(const struct topology *t, unsigned id)
{
	unsigned i = 0;

	while (i < t->nr && t->id[i] != id)
		i++;
	return i;
}

/*
 * The distances of one node to those that count, from a line that has one
 * number for each node that is online.
 */
static void read_row(struct topology *t, const char *root, unsigned from,
		     const struct nodemask *online, uint8_t *row)
{
	const char *s = t->text;

	for (unsigned i = 0; i < t->nr; i++)
		row[i] = t->id[i] == from ? DISTANCE_LOCAL : DISTANCE_REMOTE;
	read_file(t, root, (int)from, "distance");
	for_each_node_in(node, online) {
		unsigned n = 0, i = index_of(t, node);

		while (*s == ' ')
			s++;
		if (*s < '0' || *s > '9')
			break;
		for (; *s >= '0' && *s <= '9' && n < 1000; s++)
			n = n * 10 + (unsigned)(*s - '0');
		if (i < t->nr)
			row[i] = (uint8_t)(n < UINT8_MAX ? n : UINT8_MAX);
	}
}

static uint8_t nearest_in(const uint8_t *row, unsigned nr)
{
	unsigned best = 0;

	for (unsigned i = 1; i < nr; i++)
		if (row[i] < row[best])
			best = i;
	return (uint8_t)best;
}

static void read_distances(struct topology *t, const char *root,
			   const struct nodemask *online)
{
	uint8_t row[TOPOLOGY_MAX_NODES];

	for_each_node_in(node, online) {
		unsigned i = index_of(t, node);

		read_row(t, root, node, online, row);
		t->nearest[node] = i < t->nr ? (uint8_t)i :
				   nearest_in(row, t->nr);
		if (i < t->nr)
			memcpy(t->distance[i], row, sizeof(row));
	}
}

static void clear(struct topology *t)
{
	t->nr = 1;
	t->id[0] = 0;
	t->bytes[0] = 1;
	t->distance[0][0] = DISTANCE_LOCAL;
	memset(t->nearest, 0, sizeof(t->nearest));
}

void topology_read(struct topology *t, const char *root,
		   const struct nodemask *allowed)
{
	struct nodemask online, nodes;

	clear(t);
	if (!read_list(t, root, "online", &online))
		return;
	/* Kernels before 3.8 do not have the file. */
	if (!read_list(t, root, "has_memory", &nodes))
		nodes = online;
	nodemask_intersect(&nodes, &online);
	if (allowed)
		nodemask_intersect(&nodes, allowed);
	if (!nodemask_count(&nodes))
		return;
	t->id[0] = (uint16_t)nodemask_next(&nodes, 0);
	if (nodemask_count(&nodes) > TOPOLOGY_MAX_NODES)
		return;
	t->nr = 0;
	for_each_node_in(node, &nodes)
		t->id[t->nr++] = (uint16_t)node;
	read_sizes(t, root);
	read_distances(t, root, &online);
}

void topology_fake(struct topology *t, unsigned nr)
{
	clear(t);
	t->nr = nr;
	for (unsigned i = 0; i < nr; i++) {
		t->id[i] = (uint16_t)i;
		t->bytes[i] = 1;
		t->nearest[i] = (uint8_t)i;
		for (unsigned k = 0; k < nr; k++)
			t->distance[i][k] = i == k ? DISTANCE_LOCAL :
						     DISTANCE_REMOTE;
	}
}
