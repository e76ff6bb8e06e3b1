/* SPDX-License-Identifier: MIT */
/*
 * slab_number.c - the numbers of slabs, by which the map names their
 * descriptors (layer 11); see slab.h.
 */
#include "base/fault.h"
#include "node.h"
#include "slab.h"

/* Tries at a descriptor, see slab_number_take(). */
#define SLAB_MAX_COMMITS	64

static bool number_try(struct slab_heap *heap, uint32_t *number)
{
	bool ok = true;

	lock_acquire(&heap->lock);
	if (heap->free_number != SLAB_NONE) {
		*number = heap->free_number;
		heap->free_number = slab_at(heap->span, *number)->next;
	} else if (heap->nr_numbers <
		   load_relaxed(&heap->span->committed_slabs)) {
		*number = heap->nr_numbers++;
	} else {
		*number = heap->nr_numbers;
		ok = false;
	}
	lock_release(&heap->lock);
	return ok;
}

/* Descriptors beyond those that the limit covers are memory too. */
static bool number_pay(struct slab_heap *heap, uint32_t nr_numbers,
		       unsigned zone)
{
	const uint32_t per_page = PP_PAGE_BYTES / SPAN_SLAB_BYTES;
	bool pay;

	lock_acquire(&heap->lock);
	pay = nr_numbers > heap->paid_numbers;
	if (pay)
		heap->paid_numbers += per_page;
	lock_release(&heap->lock);
	if (!pay || zones_charge_table(heap->reg->zones, zone))
		return true;
	lock_acquire(&heap->lock);
	heap->paid_numbers -= per_page;
	lock_release(&heap->lock);
	return false;
}

void slab_number_give(struct slab_heap *heap, uint32_t number)
{
	struct slab *slab = slab_at(heap->span, number);

	lock_acquire(&heap->lock);
	slab->nr_pages = 0;
	slab->next = heap->free_number;
	heap->free_number = number;
	lock_release(&heap->lock);
}

bool slab_number_take(struct slab_heap *heap, unsigned zone,
		      uint32_t *number, enum failure *why)
{
	*why = FAILURE_LIMIT;
	if (fault_hit(FAULT_NUMBER))
		return false;
	/* Others may take what was committed; then they have slabs to use. */
	for (unsigned i = 0; i < SLAB_MAX_COMMITS; i++) {
		if (number_try(heap, number)) {
			*why = FAILURE_LIMIT;
			if (number_pay(heap, *number + 1, zone))
				return true;
			slab_number_give(heap, *number);
			return false;
		}
		*why = FAILURE_OS;
		if (span_commit_slabs(heap->span, *number + 1))
			return false;
	}
	return false;
}
