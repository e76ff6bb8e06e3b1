/* SPDX-License-Identifier: MIT */
/* slab_books.c - sums over slabs, and whether they are right (layer 11); see
 * slab.h. */
#include "slab.h"

int64_t slab_objects_out(struct slab_heap *heap, uint64_t *slab_pages)
{
	int64_t n = 0;

	*slab_pages = 0;
	for (unsigned i = 0; i < slab_nr_bins(heap); i++) {
		struct slab_bin *bin = slab_bin_at(heap, i);

		lock_acquire(&bin->lock);
		n += bin->nr_out;
		for (unsigned k = 0; k < bin->nr_chains; k++)
			n -= bin->chain[k].count;
		*slab_pages += bin->nr_pages;
		lock_release(&bin->lock);
	}
	lock_acquire(&pcp_registry_lock);
	for (struct pcp *pcp = heap->reg->head; pcp; pcp = pcp->next)
		for (unsigned i = 0; i < SLAB_NR_CLASSES; i++)
			n -= magazine_count(&pcp->small[i]) +
			     (pcp->front[i] != NULL);
	lock_release(&pcp_registry_lock);
	return n;
}

uint64_t slab_depot_bytes(struct slab_heap *heap)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < slab_nr_bins(heap); i++) {
		struct slab_bin *bin = slab_bin_at(heap, i);

		lock_acquire(&bin->lock);
		bytes += bin->depot_bytes;
		lock_release(&bin->lock);
	}
	return bytes;
}

uint64_t slab_free_bytes(struct slab_heap *heap)
{
	uint64_t bytes = 0, all, out;

	for (unsigned i = 0; i < slab_nr_bins(heap); i++) {
		struct slab_bin *bin = slab_bin_at(heap, i);

		lock_acquire(&bin->lock);
		all = pages_to_bytes(bin->nr_pages) + bin->depot_bytes;
		out = (uint64_t)bin->nr_out *
		      slab_class[i % SLAB_NR_CLASSES].bytes;
		bytes += all > out ? all - out : 0;
		lock_release(&bin->lock);
	}
	return bytes;
}

struct slab_usage slab_usage_of(struct slab_heap *heap, unsigned class)
{
	struct slab_usage usage = { .nr_pages = 0 };

	for (unsigned i = class; i < slab_nr_bins(heap); i += SLAB_NR_CLASSES) {
		struct slab_bin *bin = slab_bin_at(heap, i);

		lock_acquire(&bin->lock);
		usage.nr_pages += bin->nr_pages;
		usage.nr_objects += bin->nr_out > 0 ? (uint64_t)bin->nr_out : 0;
		lock_release(&bin->lock);
	}
	return usage;
}

/* Checks */

static int verify_slab(struct slab_heap *heap, unsigned class,
		       uint32_t number)
{
	struct slab *slab = slab_at(heap->span, number);
	uint32_t n = 0, word = slab_word(class, number);

	for (void *o = slab->free; o && n <= slab->nr_free; o = *(void **)o)
		n++;
	if (n != slab->nr_free)
		return 1;
	if (slab->nr_free > load_relaxed(&slab->nr_carved) ||
	    load_relaxed(&slab->nr_carved) > slab->nr_objects)
		return 2;
	if (!load_relaxed(&slab->nr_carved))
		return 4;
	for (unsigned i = 0; i < slab->nr_pages; i++)
		if (load_relaxed(&heap->span->map[slab->page + i]) != word)
			return 5;
	return 0;
}

static int verify_list(struct slab_heap *heap, struct slab_bin *bin,
		       unsigned class, unsigned which)
{
	uint32_t nr = bin->partial[which], n = 0;

	for (; nr != SLAB_NONE && n <= bin->nr_slabs; n++) {
		struct slab *slab = slab_at(heap->span, nr);
		int err = verify_slab(heap, class, nr);

		if (err)
			return err;
		if (!slab_has_to_give(slab) || slab->of_reserve != which)
			return 3;
		nr = slab->next;
	}
	return n > bin->nr_slabs ? 3 : 0;
}

static int verify_depot(const struct slab_bin *bin, unsigned class)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < bin->nr_chains; i++) {
		const struct slab_chain *c = &bin->chain[i];
		uint32_t n = 0;

		for (void *o = c->head; o && n <= c->count; o = *(void **)o)
			n++;
		if (!n || n != c->count)
			return 6;
		bytes += (uint64_t)n * slab_class[class].bytes;
	}
	return bytes == bin->depot_bytes ? 0 : 6;
}

static int verify_bin(struct slab_heap *heap, struct slab_bin *bin,
		      unsigned class)
{
	int err = verify_list(heap, bin, class, 0);

	if (!err)
		err = verify_list(heap, bin, class, 1);
	return err ? err : verify_depot(bin, class);
}

int slab_verify(struct slab_heap *heap)
{
	int err = 0;

	for (unsigned i = 0; i < slab_nr_bins(heap) && !err; i++) {
		struct slab_bin *bin = slab_bin_at(heap, i);

		lock_acquire(&bin->lock);
		err = verify_bin(heap, bin, i % SLAB_NR_CLASSES);
		lock_release(&bin->lock);
	}
	return err;
}
