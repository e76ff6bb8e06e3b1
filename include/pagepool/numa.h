/* SPDX-License-Identifier: MIT */
/*
 * pagepool/numa.h - the memory nodes of a pool.
 *
 * On a machine with several memory nodes a pool has one zone for each node that
 * the process may use, with a share of the limit.  Zones are named by an index
 * from 0.  What the setting `numa` says (pagepool(7)) decides which zone a
 * request tries first; with PP_THISNODE it gets memory of the caller's node or
 * NULL.
 */
#ifndef PAGEPOOL_NUMA_H
#define PAGEPOOL_NUMA_H

#include <pagepool/stat.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

/* How many zones the pool has, 1 or more; -EINVAL without a pool. */
int pp_numa_nr_nodes(struct pp_pool *pool);

/* The system's number of the node of zone @index; the index itself where nodes
 * are fake.  -ENOENT for no such zone. */
int pp_numa_node_id(struct pp_pool *pool, unsigned index);

/* The index of the zone that the address @p belongs to, handed out or not;
 * -ENOENT if it is not in the pool. */
int pp_numa_node_of(struct pp_pool *pool, const void *p);

/**
 * pp_numa_snapshot() - the numbers of one zone, as pp_stat_snapshot().
 * @out: limit_pages and metadata_pages, the number of threads and what counts
 *	 requests are the pool's and not a zone's: 0.
 *
 * Return: 0; -ENOENT for no such zone; -EINVAL, -EDEADLK as
 * pp_stat_snapshot().
 */
int pp_numa_snapshot(struct pp_pool *pool, unsigned index,
		     struct pp_stats *out);

/**
 * pp_numa_alloc() - a run of zone @index, or else of the nearest that has one.
 * @flags: PP_*; with PP_THISNODE of that zone or none.
 *
 * Return: as pp_alloc_pages(); NULL with errno = ENOENT for no such zone.
 */
void *pp_numa_alloc(struct pp_pool *pool, unsigned index, size_t nr_pages,
		    unsigned flags);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
