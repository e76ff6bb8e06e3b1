/* SPDX-License-Identifier: MIT */
/* runs.c - see runs.h. */
#include "runs.h"

#include "base/bug.h"
#include "base/lock.h"

uint16_t run_bin_pages[RUN_NR_BINS];
uint32_t run_bin_word[RUN_MAX_BIN_PAGES + 1];

static void fill_tables(void)
{
	unsigned bin = 0, pages = 1;

	for (unsigned i = 0; i < RUN_NR_BINS; i++) {
		run_bin_pages[i] = (uint16_t)pages;
		pages += pages < 16 ? 1 : 1u << (log2_down(pages) - 3);
	}
	BUG_ON(run_bin_pages[RUN_NR_BINS - 1] != RUN_MAX_BIN_PAGES);
	for (unsigned n = 1; n <= RUN_MAX_BIN_PAGES; n++) {
		if (n > run_bin_pages[bin])
			bin++;
		run_bin_word[n] = MAP_RUN | bin |
			(uint32_t)run_bin_pages[bin] << MAP_LENGTH_SHIFT;
	}
}

void runs_init(void)
{
	static struct once once = ONCE_INIT;

	once_run(&once, fill_tables);
}

uint64_t run_round_pages(uint64_t nr_pages)
{
	if (nr_pages <= RUN_MAX_BIN_PAGES)
		return run_word_pages(run_bin_word[nr_pages]);
	if (nr_pages <= RUN_MAX_EXACT_PAGES)
		return nr_pages;
	return round_up_pow2(nr_pages, RUN_UNIT_PAGES);
}

uint32_t run_word(uint64_t nr_pages)
{
	unsigned bin = RUN_BIN_NONE;

	VM_BUG_ON(!run_length_is_valid(nr_pages));
	if (nr_pages <= RUN_MAX_BIN_PAGES &&
	    run_word_pages(run_bin_word[nr_pages]) == nr_pages)
		return run_bin_word[nr_pages];
	if (nr_pages > RUN_MAX_EXACT_PAGES) {
		bin = RUN_BIN_UNITS;
		nr_pages /= RUN_UNIT_PAGES;
	}
	return MAP_RUN | (uint32_t)nr_pages << MAP_LENGTH_SHIFT | bin;
}
