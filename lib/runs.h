/* SPDX-License-Identifier: MIT */
/*
 * runs.h - the lengths that page runs come in, and their words in the map
 * (layer 2).
 *
 * Up to 256 pages there are 48 lengths, the bins of the threads' caches: exact
 * up to 16 pages, then eight to a doubling, so that rounding costs an eighth
 * at the most.  Above, runs have the length that was asked for; above 16 GiB a
 * multiple of 64 pages, so that a word holds it.
 */
#ifndef PP_RUNS_H
#define PP_RUNS_H

#include "base/bits.h"
#include "base/compiler.h"
#include "span.h"

#define RUN_NR_BINS		48u
#define RUN_MAX_BIN_PAGES	256u
/* In place of a bin: the word counts in 64 pages, or is of another length. */
#define RUN_BIN_UNITS		62u
#define RUN_BIN_NONE		63u
#define RUN_UNIT_PAGES		64u
#define RUN_MAX_EXACT_PAGES	((uint64_t)MAP_LENGTH_MAX)
#define RUN_MAX_PAGES		(RUN_MAX_EXACT_PAGES * RUN_UNIT_PAGES)

#pragma GCC visibility push(hidden)
extern uint16_t run_bin_pages[RUN_NR_BINS];
/* What the map says of a live run that was asked for with so many pages. */
extern uint32_t run_bin_word[RUN_MAX_BIN_PAGES + 1];
#pragma GCC visibility pop

void runs_init(void);	/* idempotent; before the first pool */

/* The length that a request for @nr_pages, up to RUN_MAX_PAGES, gets. */
uint64_t run_round_pages(uint64_t nr_pages);

/* Is @nr_pages a length that a run can have? */
static inline int run_length_is_valid(uint64_t nr_pages)
{
	return nr_pages && nr_pages <= RUN_MAX_PAGES &&
	       (nr_pages <= RUN_MAX_EXACT_PAGES ||
		nr_pages % RUN_UNIT_PAGES == 0);
}

/* The word of a live run of a valid length. */
uint32_t run_word(uint64_t nr_pages);

static inline unsigned run_word_bin(uint32_t word)
{
	return word & MAP_BIN_MASK;
}

static inline uint64_t run_word_pages(uint32_t word)
{
	uint64_t n = word >> MAP_LENGTH_SHIFT & MAP_LENGTH_MAX;

	return run_word_bin(word) == RUN_BIN_UNITS ? n * RUN_UNIT_PAGES : n;
}

#endif
