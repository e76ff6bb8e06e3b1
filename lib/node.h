/* SPDX-License-Identifier: MIT */
/*
 * node.h - the zones of a pool on a machine with several memory nodes
 * (layer 5).
 *
 * One zone a node that has memory and may be used; each owns a range of the
 * pool's span and a share of its limit.  A pool on a machine with one such node
 * has no struct nodes at all, and what it would be asked costs such a pool
 * one comparison in its slow paths.
 *
 *	      order[0]	  0 2 1 3	for a CPU of node 0: itself, then the
 *	      order[1]	  1 3 2 0	others by distance
 *
 * Zones at one distance come in a ring that begins behind the node itself, so
 * that the load of full nodes spreads (Linux mm/page_alloc.c,
 * find_next_best_node(), which counts the load).
 *
 * I1: each row of `order` is a permutation of 0 .. nr - 1 that begins with the
 *     row's number
 * I2: the sum of the zones' managed pages is the pool's
 */
#ifndef PP_NODE_H
#define PP_NODE_H

#include "config.h"
#include "os/topology.h"
#include "vmstat.h"
#include "zone.h"

#define NODES_MAX	TOPOLOGY_MAX_NODES

struct nodes {
	/* const after nodes_start() */
	struct zone	*zones;
	uint64_t	storage_bytes;	/* of this struct and what follows */
	unsigned	nr;
	bool		is_fake;	/* nodes do not exist */
	uint16_t	id[NODES_MAX];		/* the system's numbers */
	uint64_t	bytes[NODES_MAX];	/* physical memory */
	uint8_t		order[NODES_MAX][NODES_MAX];
	uint8_t		nearest[NODEMASK_BITS];	/* zone for a node's CPUs */

	/* any thread */
	_Atomic uint64_t policy;	/* see mempolicy.h */
	_Atomic uint32_t turn;		/* of threads without a cache */
	_Atomic uint32_t nr_bind_refused;
};

/**
 * nodes_find() - the nodes for a pool with these settings.
 * @extra_bytes: storage wanted for each zone, at nodes_extra().
 * @out: NULL if there is one node only.
 * @only_id: the number of that one.
 *
 * Return: 0, or -ENOMEM.
 */
int nodes_find(const struct pp_config *config, size_t extra_bytes,
	       struct nodes **out, uint16_t *only_id);
void nodes_free(struct nodes *nodes);

/* Fills in the nodes and the order of fallback between them. */
void nodes_take_topology(struct nodes *nodes, const struct topology *t);

/* Zeroed storage of the caller, one piece after the other. */
void *nodes_extra(struct nodes *nodes);

/*
 * Makes the zones, divides @managed_pages among them by the nodes' memory, and
 * tells the kernel where the ranges' memory is to come from.
 */
void nodes_start(struct nodes *nodes, struct span *span,
		 uint64_t managed_pages);

/* A part of @pages for each zone, by the nodes' memory; they add up. */
void nodes_divide(const struct nodes *nodes, uint64_t pages, uint64_t *share);

/* The zone that is nearest to the caller's CPU: a system call. */
unsigned nodes_local(const struct nodes *nodes);

/* The zone of a node, by the number that settings have; nodes->nr: none. */
unsigned nodes_index_of(const struct nodes *nodes, unsigned id);

/* Tells the kernel again where the memory of a range is to come from, which a
 * new mapping has forgotten. */
void nodes_prefer(struct nodes *nodes, const struct zone *zone, uint64_t page,
		  uint64_t nr_pages);

/* Computes the watermarks of all zones, with their locks taken one by one.
 * A zone's min is its share of the pool's.  Also for one zone. */
void zones_set_watermarks(struct zone *zones, uint64_t min_free_bytes,
			  unsigned scale);

/*
 * Counts pages outside the blocks, from the zone @first or else from any
 * other.  Return: the zone that pays, or NULL at the limit.  Also for one
 * zone.
 */
struct zone *zones_charge(struct zone *zones, unsigned first,
			  uint64_t nr_pages);

/* The same for a page of tables, which the limit may pay for later. */
bool zones_charge_table(struct zone *zones, unsigned first);

static inline unsigned zones_nr(const struct zone *zones)
{
	return zones->span->nr_zones;
}

#define for_each_zone(z, zones) \
	for (struct zone *z = (zones); z < (zones) + zones_nr(zones); z++)

#endif
