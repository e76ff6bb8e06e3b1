/* SPDX-License-Identifier: MIT */
/*
 * blockmap.h - a set of blocks, one bit each, with a summary (layer 2).
 *
 * A span may have millions of blocks of which few are in the set.  One bit of
 * the summary stands for 64 words, so that finding the first member costs a
 * few words whatever the size.  The memory is the caller's and starts zeroed.
 * Members have numbers from `first` on.
 *
 * I1: summary bit i is set iff words[i] != 0
 */
#ifndef PP_BLOCKMAP_H
#define PP_BLOCKMAP_H

#include <stdbool.h>

#include "base/bits.h"

#define BLOCKMAP_NONE	UINT32_MAX

struct blockmap {
	uint64_t	*words;
	uint64_t	*summary;	/* one bit per word */
	uint32_t	first;
	uint32_t	nr_blocks;	/* a multiple of 4096 */
	uint32_t	nr_set;
};

/* Bytes that blockmap_init() wants for @nr_blocks. */
size_t blockmap_bytes(uint32_t nr_blocks);
void blockmap_init(struct blockmap *bm, uint32_t first, uint32_t nr_blocks,
		   void *memory);

void blockmap_add(struct blockmap *bm, uint32_t block);
void blockmap_del(struct blockmap *bm, uint32_t block);

static inline bool blockmap_has(const struct blockmap *bm, uint32_t block)
{
	block -= bm->first;
	return bm->words[block / PP_WORD_BITS] >> (block % PP_WORD_BITS) & 1;
}

/* The lowest member at or above @from, which is not below bm->first;
 * BLOCKMAP_NONE if there is none. */
uint32_t blockmap_next(const struct blockmap *bm, uint32_t from);

/* The highest member; BLOCKMAP_NONE if there is none. */
uint32_t blockmap_last(const struct blockmap *bm);

/*
 * The lowest @nr members in a row that begin at a multiple of @align, counted
 * from @bias; BLOCKMAP_NONE if there are none.
 */
uint32_t blockmap_find_run(const struct blockmap *bm, uint32_t nr,
			   uint32_t align, uint32_t bias);

/* The first of the members that stand in a row just below @end; @end if the
 * block below it is not a member. */
uint32_t blockmap_run_before(const struct blockmap *bm, uint32_t end);

#endif
