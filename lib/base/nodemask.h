/* SPDX-License-Identifier: MIT */
/*
 * nodemask.h - a set of NUMA nodes, by the system's numbers (layer 0).
 *
 * As wide as the kernel's widest (MAX_NUMNODES), in the form that get_mempolicy
 * and mbind take, and with the text that /sys and the settings have: "0,2-3".
 */
#ifndef PP_BASE_NODEMASK_H
#define PP_BASE_NODEMASK_H

#include <stdbool.h>

#include "base/compiler.h"

#define NODEMASK_BITS	1024u
#define NODEMASK_WORDS	(NODEMASK_BITS / 64)

struct nodemask {
	uint64_t	word[NODEMASK_WORDS];
};

static inline void nodemask_add(struct nodemask *mask, unsigned node)
{
	mask->word[node / 64] |= 1ull << (node % 64);
}

static inline bool nodemask_has(const struct nodemask *mask, unsigned node)
{
	return node < NODEMASK_BITS &&
	       (mask->word[node / 64] >> (node % 64) & 1);
}

/* The lowest member at or above @from; NODEMASK_BITS if there is none. */
unsigned nodemask_next(const struct nodemask *mask, unsigned from);

unsigned nodemask_count(const struct nodemask *mask);

/* Takes what is not in @other out. */
void nodemask_intersect(struct nodemask *mask, const struct nodemask *other);

/*
 * Reads a list like "0,2-3", up to its end or a newline.  0; -EINVAL if it is
 * none, -ERANGE for a number that no node can have.  No list is no node.
 */
int nodemask_parse(const char *text, struct nodemask *mask);

#define for_each_node_in(node, mask) \
	for (unsigned node = nodemask_next(mask, 0); node < NODEMASK_BITS; \
	     node = nodemask_next(mask, node + 1))

#endif
