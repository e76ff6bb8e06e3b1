/* SPDX-License-Identifier: MIT */
/*
 * auto_limit.h - how much a heap may grow here (layer 1).
 *
 * Each source gives a number of bytes and takes headroom off it, for what is
 * not heap and counts towards the same number:
 *
 *	control groups	code, stacks, page tables, the kernel's buffers, other
 *	and machine	processes: an eighth, but at least 16 MiB, which is
 *			what a small program has beside its heap, and at most
 *			a quarter, so that a small group is still of use
 *	RLIMIT_DATA	a quarter: thread stacks count with all of their size
 *	RLIMIT_AS	a half: the same, and the pool wants to have more
 *			addresses than memory
 *
 * The smallest remainder is the answer.  It follows from settings alone, not
 * from how much others hold at the moment: the same container gives the same
 * limit, whichever process starts first.
 */
#ifndef PP_AUTO_LIMIT_H
#define PP_AUTO_LIMIT_H

#include "base/compiler.h"

#define AUTO_LIMIT_NONE	UINT64_MAX

struct auto_limit_source {
	const char	*name;		/* "memory.max", "RLIMIT_AS" */
	const char	*path;		/* of the file, or NULL */
	uint64_t	bytes;		/* AUTO_LIMIT_NONE: no limit there */
	uint64_t	headroom_bytes;
};

typedef void auto_limit_visit_fn(void *arg,
				 const struct auto_limit_source *source);

/*
 * Works the limit out; @visit, if there is one, is told each source as it is
 * found.  Raw system calls, no allocation, a few dozen microseconds.
 */
uint64_t auto_limit_bytes(auto_limit_visit_fn *visit, void *arg);

/* The memory of the machine or of the container, whichever is smaller, and no
 * headroom; 0: not known. */
uint64_t auto_limit_memory_bytes(void);

/* What a limit of a control group or of the machine keeps for others. */
uint64_t auto_limit_headroom_bytes(uint64_t bytes);

#endif
