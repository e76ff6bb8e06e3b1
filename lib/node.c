/* SPDX-License-Identifier: MIT */
/* node.c - see node.h. */
#include "node.h"

#include <errno.h>
#include <string.h>

#include "backing.h"
#include "base/fault.h"
#include "os/os.h"

/* Finding the nodes */

/* The next zone after the first @done of a row: the nearest that is not among
 * them, the first of those in the ring behind the row's own. */
static uint8_t next_nearest(const struct topology *t, unsigned row,
			    const uint8_t *order, unsigned done)
{
	unsigned best = row, best_distance = UINT32_MAX;

	for (unsigned step = 1; step < t->nr; step++) {
		unsigned i = (row + step) % t->nr;

		if (!memchr(order, (int)i, done) &&
		    t->distance[row][i] < best_distance) {
			best = i;
			best_distance = t->distance[row][i];
		}
	}
	return (uint8_t)best;
}

void nodes_take_topology(struct nodes *nodes, const struct topology *t)
{
	nodes->nr = t->nr;
	memcpy(nodes->id, t->id, sizeof(nodes->id));
	memcpy(nodes->bytes, t->bytes, sizeof(nodes->bytes));
	memcpy(nodes->nearest, t->nearest, sizeof(nodes->nearest));
	for (unsigned i = 0; i < t->nr; i++) {
		nodes->order[i][0] = (uint8_t)i;
		for (unsigned n = 1; n < t->nr; n++)
			nodes->order[i][n] = next_nearest(t, i,
							  nodes->order[i], n);
	}
}

static size_t zones_offset(void)
{
	return round_up_pow2(sizeof(struct nodes), PP_CACHELINE_BYTES);
}

static size_t extra_offset(unsigned nr)
{
	return zones_offset() + nr * sizeof(struct zone);
}

static int make_nodes(const struct topology *t, size_t extra_bytes,
		      struct nodes **out)
{
	size_t bytes = round_up_pow2(extra_offset(t->nr) +
				     t->nr * extra_bytes, PP_PAGE_BYTES);
	void *memory;

	if (os_map_storage(bytes, &memory))
		return -ENOMEM;
	*out = memory;
	nodes_take_topology(*out, t);
	(*out)->storage_bytes = bytes;
	(*out)->zones = (struct zone *)(void *)((char *)memory +
						zones_offset());
	return 0;
}

void *nodes_extra(struct nodes *nodes)
{
	return (char *)nodes + extra_offset(nodes->nr);
}

void nodes_free(struct nodes *nodes)
{
	if (nodes)
		os_unreserve(nodes, nodes->storage_bytes);
}

/* One node is the common case: two system calls find it. */
static bool is_single(const struct pp_config *config,
		      struct nodemask *allowed, bool *known, uint16_t *id)
{
	*id = 0;
	if (config->fake_nodes)
		return config->fake_nodes == 1;
	*known = topology_allowed(allowed) == 0;
	if (!*known || nodemask_count(allowed) > 1)
		return false;
	if (nodemask_count(allowed))
		*id = (uint16_t)nodemask_next(allowed, 0);
	return true;
}

int nodes_find(const struct pp_config *config, size_t extra_bytes,
	       struct nodes **out, uint16_t *only_id)
{
	struct nodemask allowed;
	struct topology *t;
	void *memory;
	bool known = false;
	int err = 0;

	*out = NULL;
	if (is_single(config, &allowed, &known, only_id))
		return 0;
	if (os_map_storage(sizeof(*t), &memory))
		return -ENOMEM;
	t = memory;
	if (config->fake_nodes)
		topology_fake(t, (unsigned)config->fake_nodes);
	else
		topology_read(t, TOPOLOGY_ROOT, known ? &allowed : NULL);
	*only_id = t->id[0];
	if (t->nr > 1)
		err = make_nodes(t, extra_bytes, out);
	if (*out)
		(*out)->is_fake = config->fake_nodes != 0;
	os_unreserve(t, sizeof(*t));
	return err;
}

/* Starting the zones */

void nodes_divide(const struct nodes *nodes, uint64_t pages, uint64_t *share)
{
	uint64_t mib, sum = 0, left = pages;

	/* In MiB, so that the product fits. */
	for (unsigned i = 0; i < nodes->nr; i++)
		sum += div_up(nodes->bytes[i], 1ull << 20);
	for (unsigned i = 0; i < nodes->nr; i++) {
		mib = div_up(nodes->bytes[i], 1ull << 20);
		share[i] = left * mib / sum;
		left -= share[i];
		sum -= mib;
	}
}

void nodes_prefer(struct nodes *nodes, const struct zone *zone, uint64_t page,
		  uint64_t nr_pages)
{
	if (!nodes->is_fake &&
	    os_prefer_node(span_page_address(zone->span, page),
			   pages_to_bytes(nr_pages), nodes->id[zone->index]))
		add_relaxed(&nodes->nr_bind_refused, 1);
}

void nodes_start(struct nodes *nodes, struct span *span,
		 uint64_t managed_pages)
{
	uint64_t share[NODES_MAX];

	nodes_divide(nodes, managed_pages, share);
	for (unsigned i = 0; i < nodes->nr; i++) {
		struct zone *zone = &nodes->zones[i];

		zone_init_range(zone, span, i, share[i]);
		nodes_prefer(nodes, zone, zone_first_page(zone),
			     (uint64_t)span->zone_blocks * PAGEBLOCK_PAGES);
	}
}

/* Asking */

unsigned nodes_local(const struct nodes *nodes)
{
	unsigned cpu, node;

	os_where(&cpu, &node);
	if (nodes->is_fake)
		return cpu % nodes->nr;
	return node < NODEMASK_BITS ? nodes->nearest[node] : 0;
}

unsigned nodes_index_of(const struct nodes *nodes, unsigned id)
{
	unsigned i = 0;

	while (i < nodes->nr && nodes->id[i] != id)
		i++;
	return i;
}

/* For pools of one zone as well */

/* A zone's part of what the pool keeps free; 0: by the formula. */
static uint64_t min_share_bytes(struct zone *zones, const struct zone *zone,
				uint64_t min_free_bytes)
{
	uint64_t all = 0, below = 0, upto, pages;

	if (zones_nr(zones) == 1)
		return min_free_bytes;
	for_each_zone(other, zones) {
		if (other == zone)
			below = all;
		all += load_relaxed(&other->managed_pages);
	}
	upto = below + load_relaxed(&zone->managed_pages);
	pages = min_free_bytes ? bytes_to_pages_up(min_free_bytes) :
		bytes_to_pages_down(watermark_min_bytes(all));
	pages = min_u64(pages, all);
	/* What is rounded off here, the next zone has. */
	return max_u64(1, pages_to_bytes(pages * upto / all -
					 pages * below / all));
}

void zones_set_watermarks(struct zone *zones, uint64_t min_free_bytes,
			  unsigned scale)
{
	for_each_zone(zone, zones) {
		uint64_t bytes = min_share_bytes(zones, zone, min_free_bytes);

		lock_acquire(&zone->lock);
		zone_set_watermarks(zone, bytes, scale);
		zone_unlock(zone);
	}
}

struct zone *zones_charge(struct zone *zones, unsigned first,
			  uint64_t nr_pages)
{
	unsigned nr = zones_nr(zones);

	if (fault_hit(FAULT_CHARGE))
		return NULL;
	for (unsigned i = 0; i < nr; i++) {
		struct zone *zone = &zones[(first + i) % nr];

		if (backing_charge(zone, nr_pages, 0))
			return zone;
	}
	return NULL;
}

bool zones_charge_table(struct zone *zones, unsigned first)
{
	struct zone *zone = zones_charge(zones, first, 1);

	if (!zone)
		return false;
	lock_acquire(&zone->lock);
	zone->tables_pages++;
	zone_unlock(zone);
	return true;
}
