/* SPDX-License-Identifier: MIT */
/* vmstat.c - see vmstat.h. */
#include "vmstat.h"

#include "base/bits.h"

#define ZONE_STEP_PAGES		bytes_to_pages_down(128ull << 20)

static_assert(VMSTAT_MAX_CHANGE < INT32_MAX - VMSTAT_MAX_THRESHOLD,
	      "I3.6: a delta cannot overflow");

const char *failure_name(enum failure why)
{
	static const char *const name[NR_FAILURES] = {
#define X(id, label, what) [FAILURE_##id] = #label,
		PP_FAILURES(X)
#undef X
	};

	return name[why];
}

/* Thresholds */

static uint32_t threads_of(const struct vmstat_basis *basis)
{
	return basis->nr_threads ? basis->nr_threads : 1;
}

int32_t vmstat_normal_threshold(const struct vmstat_basis *basis)
{
	uint64_t steps = basis->managed_pages / ZONE_STEP_PAGES;

	return (int32_t)min_u64(2 * fls_u64(threads_of(basis)) *
				(1 + fls_u64(steps)), VMSTAT_MAX_THRESHOLD);
}

int32_t vmstat_pressure_threshold(const struct vmstat_basis *basis)
{
	uint64_t gap = basis->low_pages - basis->min_pages;

	return (int32_t)min_u64(max_u64(gap / threads_of(basis), 1),
				VMSTAT_MAX_THRESHOLD);
}

uint64_t vmstat_drift_mark(const struct vmstat_basis *basis,
			   int32_t threshold)
{
	uint64_t drift = (uint64_t)threads_of(basis) * (uint32_t)threshold;

	return drift > basis->low_pages - basis->min_pages ?
	       basis->high_pages + drift : 0;
}

void vmstat_set_thresholds(struct vmstat *vs,
			   const struct vmstat_basis *basis)
{
	int32_t t = vmstat_normal_threshold(basis);
	uint64_t mark = vmstat_drift_mark(basis, t);

	if (mark && load_relaxed(&vs->under_pressure))
		t = vmstat_pressure_threshold(basis);
	store_relaxed(&vs->drift_mark_pages, mark);
	/* The bound first: it covers what is counted from here on. */
	if (t > load_relaxed(&vs->max_threshold))
		store_relaxed(&vs->max_threshold, t);
	store_relaxed(&vs->threshold, t);
}

void vmstat_all_folded(struct vmstat *vs)
{
	store_relaxed(&vs->max_threshold, load_relaxed(&vs->threshold));
}

int64_t vmstat_bound(struct vmstat *vs, uint32_t nr_threads)
{
	return ((int64_t)nr_threads + 1) * load_relaxed(&vs->max_threshold);
}

/* Folding */

void vmstat_fold_item(struct vmstat *vs, struct vmstat_delta *delta,
		      enum vm_item item)
{
	uint32_t folded = load_relaxed(&delta->folded[item]), count;

	/* Each failure means that somebody else folded.  No order: the sum is
	 * the same whichever comes first. */
	do {
		count = load_relaxed(&delta->count[item]);
		if (count == folded)
			return;
	} while (!cas_relaxed(&delta->folded[item], &folded, count));
	vmstat_add(vs, item, (int32_t)(count - folded));
}

void vmstat_fold(struct vmstat *vs, struct vmstat_delta *delta)
{
	for (unsigned i = 0; i < NR_VM_ITEMS; i++)
		vmstat_fold_item(vs, delta, i);
}
