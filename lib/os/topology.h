/* SPDX-License-Identifier: MIT */
/*
 * topology.h - the memory nodes that this process may use (layer 1).
 *
 * Read from /sys with raw system calls and no allocation: a pool is made
 * inside of the first malloc, where libnuma, which allocates and would have to
 * be loaded, cannot be asked.  tests/vm compares what is found here with what
 * libnuma says.
 *
 * A node counts if it has memory (one that was taken offline has none) and if
 * cpuset and memory policy of the process allow it.  All other nodes have only
 * CPUs as far as we are concerned: they use the nearest node that counts.
 */
#ifndef PP_OS_TOPOLOGY_H
#define PP_OS_TOPOLOGY_H

#include "base/nodemask.h"

/* On a machine with more, the pool has one zone. */
#define TOPOLOGY_MAX_NODES	48u
#define TOPOLOGY_ROOT		"/sys/devices/system/node"
#define TOPOLOGY_TEXT_BYTES	8192

struct topology {
	unsigned	nr;		/* nodes that count */
	uint16_t	id[TOPOLOGY_MAX_NODES];		/* ascending */
	uint64_t	bytes[TOPOLOGY_MAX_NODES];	/* 1: not known */
	uint8_t		distance[TOPOLOGY_MAX_NODES][TOPOLOGY_MAX_NODES];
	uint8_t		nearest[NODEMASK_BITS];	/* index, for every id */
	char		text[TOPOLOGY_TEXT_BYTES];	/* of a file */
};

/*
 * The nodes that cpuset and policy of the process leave it, with memory or
 * not.  -errno where the kernel does not say: it has no NUMA, or a filter
 * refuses.
 */
int topology_allowed(struct nodemask *allowed);

/*
 * The policy that the process was started with (numactl): its mode, MPOL_*
 * without flags, and its nodes.
 */
int topology_process_policy(int *mode, struct nodemask *nodes);

/**
 * topology_read() - what the system says of its nodes.
 * @root: TOPOLOGY_ROOT, or a folder like it.
 * @allowed: nodes that may be used; NULL: all.
 *
 * What cannot be read is left at one node, or at equal distances and sizes.
 */
void topology_read(struct topology *t, const char *root,
		   const struct nodemask *allowed);

/* @nr nodes of one size, equally far from each other. */
void topology_fake(struct topology *t, unsigned nr);

/*
 * Pages of the range come from this node, and from others when it has no more.
 * MPOL_PREFERRED: with MPOL_BIND the kernel would kill the process then.
 */
int os_prefer_node(void *addr, size_t bytes, unsigned node);

/* Where the calling thread runs just now; 0 where the kernel does not say. */
void os_where(unsigned *cpu, unsigned *node);

#endif
