/* SPDX-License-Identifier: MIT */
/*
 * Between the two files of `scale`: scale.c starts the processes and prints,
 * scale_worker.c is what they run.
 */
#ifndef PP_SCALE_H
#define PP_SCALE_H

#include "bench.h"

struct scale_job {
	const char *load;	/* "pair" or "batch" */
	size_t size_bytes;
	int nr_threads;		/* at work */
	int nr_idle;		/* that have allocated, and sleep */
	unsigned int round_us;
};

/* Of one round: allocations with their frees, by all threads together. */
struct scale_answer {
	uint64_t nr_ops, elapsed_ns;
};

bool scale_load_exists(const char *name);

/* The command line after "--worker". */
int scale_worker(int argc, char **argv);

#endif
