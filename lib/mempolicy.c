/* SPDX-License-Identifier: MIT */
/* mempolicy.c - see mempolicy.h. */
#include "mempolicy.h"

#include <errno.h>
#include <linux/mempolicy.h>

#define POLICY_ZONE_SHIFT	48
#define POLICY_KIND_SHIFT	56
#define POLICY_ALLOWED		((1ull << POLICY_ZONE_SHIFT) - 1)

static_assert(NODES_MAX <= POLICY_ZONE_SHIFT, "a bit for each zone");

static enum numa_kind policy_kind(uint64_t policy)
{
	return (enum numa_kind)(policy >> POLICY_KIND_SHIFT);
}

static unsigned policy_zone(uint64_t policy)
{
	return (unsigned)(policy >> POLICY_ZONE_SHIFT & 0xff);
}

/* Setting it */

/* Zones of nodes in @mask; false if it names one that has no zone. */
static bool zones_in(const struct nodes *nodes, const struct nodemask *mask,
		     uint64_t *zones)
{
	bool all = true;

	*zones = 0;
	for_each_node_in(node, mask) {
		unsigned i = nodes_index_of(nodes, node);

		if (i < nodes->nr)
			*zones |= 1ull << i;
		else
			all = false;
	}
	return all;
}

static uint64_t zones_allowed(const struct nodes *nodes)
{
	uint64_t all = ~0ull >> (64 - nodes->nr), zones;
	struct nodemask allowed;

	if (nodes->is_fake || topology_allowed(&allowed))
		return all;
	zones_in(nodes, &allowed, &zones);
	return zones;
}

/* What numactl, or who else started the process, wanted. */
static void default_setting(const struct nodes *nodes,
			    struct numa_setting *setting)
{
	struct nodemask mask;
	int mode;

	if (nodes->is_fake || topology_process_policy(&mode, &mask))
		return;
	if (mode == MPOL_INTERLEAVE)
		setting->kind = NUMA_INTERLEAVE;
	else if (mode == MPOL_PREFERRED &&
		 nodes_index_of(nodes, nodemask_next(&mask, 0)) < nodes->nr)
		setting->kind = NUMA_PREFERRED;
	setting->nodes = mask;
}

int mempolicy_set(struct nodes *nodes, const struct numa_setting *setting)
{
	uint64_t allowed = zones_allowed(nodes), named, zone = 0;
	struct numa_setting s = *setting;
	bool all;

	if (!s.is_given)
		default_setting(nodes, &s);
	all = zones_in(nodes, &s.nodes, &named) &&
	      (named & allowed) == named;
	if (s.kind == NUMA_BIND || s.kind == NUMA_PREFERRED) {
		if (!all || !named)
			return -EINVAL;
		zone = (uint64_t)__builtin_ctzll(named);
	}
	if (s.kind == NUMA_BIND || (s.kind == NUMA_INTERLEAVE && named))
		allowed &= named;
	if (!allowed)
		return -EINVAL;
	store_relaxed(&nodes->policy,
		      (uint64_t)s.kind << POLICY_KIND_SHIFT |
		      zone << POLICY_ZONE_SHIFT | allowed);
	return 0;
}

/* Following it */

bool mempolicy_is_interleaved(const struct nodes *nodes)
{
	return policy_kind(load_relaxed(&nodes->policy)) == NUMA_INTERLEAVE;
}

static unsigned in_turn(const struct nodes *nodes, uint64_t allowed,
			uint32_t turn)
{
	unsigned zone = turn % nodes->nr;

	while (!(allowed >> zone & 1))
		zone = (zone + 1) % nodes->nr;
	return zone;
}

/* The nearest to the CPU of those that may be used. */
static unsigned nearest_allowed(const struct nodes *nodes, uint64_t allowed)
{
	const uint8_t *row = nodes->order[nodes_local(nodes)];
	unsigned i = 0;

	while (!(allowed >> row[i] & 1))
		i++;
	return row[i];
}

unsigned mempolicy_here(const struct nodes *nodes)
{
	return nearest_allowed(nodes, load_relaxed(&nodes->policy) &
				      POLICY_ALLOWED);
}

unsigned mempolicy_first(const struct nodes *nodes, uint32_t turn)
{
	uint64_t policy = load_relaxed(&nodes->policy);
	uint64_t allowed = policy & POLICY_ALLOWED;

	switch (policy_kind(policy)) {
	case NUMA_INTERLEAVE:
		return in_turn(nodes, allowed, turn);
	case NUMA_PREFERRED:
		return policy_zone(policy);
	default:
		return nearest_allowed(nodes, allowed);
	}
}

struct zone_choice mempolicy_choice(const struct nodes *nodes, unsigned first,
				    bool strict)
{
	struct zone_choice choice = {
		.row = nodes->order[first],
		.nr = nodes->nr,
		.allowed = load_relaxed(&nodes->policy) & POLICY_ALLOWED,
	};

	choice.allowed |= 1ull << first;
	if (strict)
		choice.nr = 1;
	return choice;
}
