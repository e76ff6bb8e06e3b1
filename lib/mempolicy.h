/* SPDX-License-Identifier: MIT */
/*
 * mempolicy.h - from which zones a request may be served, and in which order
 * (layer 5).
 *
 * The policy of a pool is one word, so that it changes live for everybody at
 * once:
 *
 *	63   62    56 55    48 47                                  0
 *	 0 [  kind  ] [ zone ] [ zones that may be used, a bit each ]
 *
 * A request goes through the zones in the order of distance from its first
 * one, and skips those that may not be used.
 */
#ifndef PP_MEMPOLICY_H
#define PP_MEMPOLICY_H

#include "node.h"

/* The zones of a request: those of row[0 .. nr - 1] whose bit is set. */
struct zone_choice {
	const uint8_t	*row;
	unsigned	nr;
	uint64_t	allowed;
};

/**
 * mempolicy_set() - make a setting the pool's policy.
 *
 * What cpuset and policy of the process allow is asked again; zones whose nodes
 * it may not use any more are left out.  By default the pool does what the
 * process was told (numactl --interleave, --preferred).
 *
 * Return: 0; -EINVAL if it names a node that the pool has no zone for, or none
 * that may be used.
 */
int mempolicy_set(struct nodes *nodes, const struct numa_setting *setting);

/*
 * The zone that a request without a wish of its own tries first.  @turn: the
 * caller's place in the round of interleaving; it is one behind the zone that
 * served the caller last.
 */
unsigned mempolicy_first(const struct nodes *nodes, uint32_t turn);

/* The zone that is the caller's own, whatever is preferred. */
unsigned mempolicy_here(const struct nodes *nodes);

/* Do requests go to all zones in turn? */
bool mempolicy_is_interleaved(const struct nodes *nodes);

/* The zones for a request that begins at @first; only that one if @strict. */
struct zone_choice mempolicy_choice(const struct nodes *nodes, unsigned first,
				    bool strict);

#define for_each_chosen(index, choice) \
	for (unsigned n_ = 0, index; n_ < (choice)->nr; n_++) \
		if (index = (choice)->row[n_], \
		    (choice)->allowed >> index & 1)

#endif
