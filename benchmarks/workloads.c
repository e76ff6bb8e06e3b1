/* SPDX-License-Identifier: MIT */
/*
 * The loops that `compare` times.  They call malloc, free and realloc by
 * name, so that the preloaded allocator answers; nothing here keeps its own
 * tables in allocated memory.
 *
 *   pair     one object is allocated and freed, again and again
 *   touch    the same, and its first and last byte are written
 *   lifo, fifo, shuffle
 *            a batch is allocated, then freed in that order
 *   mixed    a working set of 10,000 objects of 16 bytes to 8K (sizes with
 *            evenly spread logarithms); a random one is freed, a new one made
 *   xfree    thread 0 allocates, thread 1 frees; 0 means sizes 16 to 1K
 *   grow     a vector grows to the size by half of what it has, from 1K
 *   grow64k  a vector grows to the size in steps of 64K
 *
 * An operation is one allocation and one free of one object; for the last
 * two it is one whole growth, each new page being written once.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	NR_SIZES = 4096,		/* drawn beforehand, mixed and xfree */
	RING_SLOTS = 1024,		/* of xfree */
	SPINS_BEFORE_YIELD = 1000,
};

static void *alloc_or_exit(size_t bytes)
{
	void *p = malloc(bytes);

	if (!p)
		_exit(3);
	return opaque(p);
}

static void run_pair(const struct job *job, int thread, uint64_t nr_ops)
{
	size_t bytes = job->size_bytes;

	(void)thread;
	for (uint64_t i = 0; i < nr_ops; i++)
		free(alloc_or_exit(bytes));
}

static void run_touch(const struct job *job, int thread, uint64_t nr_ops)
{
	size_t bytes = job->size_bytes;

	(void)thread;
	for (uint64_t i = 0; i < nr_ops; i++) {
		char *p = alloc_or_exit(bytes);

		p[0] = 1;
		p[bytes - 1] = 1;
		free(opaque(p));
	}
}

/* batches */

static void *batch[BENCH_MAX_THREADS][BENCH_MAX_BATCH];
static uint16_t shuffled[BENCH_MAX_BATCH];

static size_t batch_objects(const struct job *job)
{
	size_t nr = BENCH_MAX_BATCH_BYTES / job->size_bytes;

	if (nr > BENCH_MAX_BATCH)
		return BENCH_MAX_BATCH;
	return nr ? nr : 1;
}

static void setup_shuffle(const struct job *job)
{
	uint64_t seed = 88172645463325252u;
	size_t nr = batch_objects(job);

	for (size_t i = 0; i < nr; i++)
		shuffled[i] = (uint16_t)i;
	for (size_t i = nr - 1; i > 0; i--) {
		size_t j = next_random(&seed) % (i + 1);
		uint16_t t = shuffled[i];

		shuffled[i] = shuffled[j];
		shuffled[j] = t;
	}
}

/* The first word is written, because a program would. */
static size_t batch_fill(const struct job *job, void **slots)
{
	size_t nr = batch_objects(job);

	for (size_t i = 0; i < nr; i++) {
		slots[i] = alloc_or_exit(job->size_bytes);
		*(uint64_t *)slots[i] = i;
	}
	return nr;
}

static void run_lifo(const struct job *job, int thread, uint64_t nr_ops)
{
	void **slots = batch[thread];

	for (uint64_t done = 0; done < nr_ops; ) {
		size_t nr = batch_fill(job, slots);

		for (size_t i = nr; i-- > 0; )
			free(slots[i]);
		done += nr;
	}
}

static void run_fifo(const struct job *job, int thread, uint64_t nr_ops)
{
	void **slots = batch[thread];

	for (uint64_t done = 0; done < nr_ops; ) {
		size_t nr = batch_fill(job, slots);

		for (size_t i = 0; i < nr; i++)
			free(slots[i]);
		done += nr;
	}
}

static void run_shuffle(const struct job *job, int thread, uint64_t nr_ops)
{
	void **slots = batch[thread];

	for (uint64_t done = 0; done < nr_ops; ) {
		size_t nr = batch_fill(job, slots);

		for (size_t i = 0; i < nr; i++)
			free(slots[shuffled[i]]);
		done += nr;
	}
}

/* mixed and xfree */

static uint32_t drawn_bytes[NR_SIZES];
static void *live[BENCH_MAX_THREADS][BENCH_MIXED_LIVE];

/* Sizes from 16 to 16 << doublings, as many in each doubling. */
static void draw_sizes(unsigned int doublings)
{
	uint64_t seed = 2463534242u;

	for (size_t i = 0; i < NR_SIZES; i++) {
		size_t low = (size_t)16 << next_random(&seed) % doublings;

		drawn_bytes[i] = (uint32_t)(low + next_random(&seed) % low);
	}
}

static void setup_mixed(const struct job *job)
{
	(void)job;
	draw_sizes(9);
}

static void run_mixed(const struct job *job, int thread, uint64_t nr_ops)
{
	static uint64_t seeds[BENCH_MAX_THREADS][8] = { { 12345 }, { 67891 } };
	uint64_t seed = seeds[thread][0];
	void **slots = live[thread];

	(void)job;
	for (uint64_t i = 0; i < nr_ops; i++) {
		uint64_t r = next_random(&seed);
		void **slot = &slots[(r >> 32) * BENCH_MIXED_LIVE >> 32];

		free(*slot);
		*slot = alloc_or_exit(drawn_bytes[r % NR_SIZES]);
		*(uint64_t *)*slot = i;
	}
	seeds[thread][0] = seed;
}

/* One producer, one consumer; both ends on lines of their own. */
static struct {
	_Alignas(64) _Atomic uint64_t xput;
	_Alignas(64) _Atomic uint64_t xtaken;
	_Alignas(64) void *slots[RING_SLOTS];
} ring;

static void setup_xfree(const struct job *job)
{
	if (job->size_bytes == 0) {
		draw_sizes(6);
		return;
	}
	for (size_t i = 0; i < NR_SIZES; i++)
		drawn_bytes[i] = (uint32_t)job->size_bytes;
}

/* Waits until *x reaches the value, and returns what it found. */
static uint64_t wait_at_least(const _Atomic uint64_t *x, uint64_t value)
{
	uint64_t found;
	unsigned int spins = 0;

	/* Acquire: pairs with the other end's release of the same counter. */
	while ((found = atomic_load_explicit(x, memory_order_acquire)) <
	       value) {
		spin_pause();
		if (++spins % SPINS_BEFORE_YIELD == 0)
			sched_yield();
	}
	return found;
}

static void produce(uint64_t nr_ops)
{
	uint64_t at = atomic_load(&ring.xput), end = at + nr_ops;
	uint64_t taken = atomic_load(&ring.xtaken);

	for (; at < end; at++) {
		void *p = alloc_or_exit(drawn_bytes[at % NR_SIZES]);

		*(uint64_t *)p = at;
		if (at - taken >= RING_SLOTS)
			taken = wait_at_least(&ring.xtaken,
					      at - RING_SLOTS + 1);
		ring.slots[at % RING_SLOTS] = p;
		/* Release: the slot, to consume(). */
		atomic_store_explicit(&ring.xput, at + 1,
				      memory_order_release);
	}
}

static void consume(uint64_t nr_ops)
{
	uint64_t at = atomic_load(&ring.xtaken), end = at + nr_ops;
	uint64_t put = at;

	for (; at < end; at++) {
		if (put <= at)
			put = wait_at_least(&ring.xput, at + 1);
		free(ring.slots[at % RING_SLOTS]);
		/* Release: the emptied slot, to produce(). */
		atomic_store_explicit(&ring.xtaken, at + 1,
				      memory_order_release);
	}
}

static void run_xfree(const struct job *job, int thread, uint64_t nr_ops)
{
	(void)job;
	if (thread == 0)
		produce(nr_ops);
	else
		consume(nr_ops);
}

/* growth */

static void write_pages(char *p, size_t from, size_t to)
{
	for (size_t at = (from + 4095) & ~(size_t)4095; at < to; at += 4096)
		p[at] = 1;
}

static void grow(size_t target_bytes, size_t step_bytes)
{
	size_t bytes = 1024;
	char *p = alloc_or_exit(bytes);

	p[0] = 1;
	while (bytes < target_bytes) {
		size_t more = step_bytes ? step_bytes : bytes / 2;
		char *q = realloc(p, bytes + more);

		if (!q)
			_exit(3);
		p = opaque(q);
		write_pages(p, bytes, bytes + more);
		bytes += more;
	}
	free(opaque(p));
}

static void run_grow(const struct job *job, int thread, uint64_t nr_ops)
{
	(void)thread;
	for (uint64_t i = 0; i < nr_ops; i++)
		grow(job->size_bytes, 0);
}

static void run_grow64k(const struct job *job, int thread, uint64_t nr_ops)
{
	(void)thread;
	for (uint64_t i = 0; i < nr_ops; i++)
		grow(job->size_bytes, 64 << 10);
}

static const struct workload workloads[] = {
	{ .name = "pair", .run = run_pair },
	{ .name = "touch", .run = run_touch },
	{ .name = "lifo", .run = run_lifo, .granule = batch_objects },
	{ .name = "fifo", .run = run_fifo, .granule = batch_objects },
	{ .name = "shuffle", .run = run_shuffle, .granule = batch_objects,
	  .setup = setup_shuffle },
	{ .name = "mixed", .run = run_mixed, .setup = setup_mixed },
	{ .name = "xfree", .run = run_xfree, .setup = setup_xfree },
	{ .name = "grow", .run = run_grow },
	{ .name = "grow64k", .run = run_grow64k },
};

const struct workload *workload_find(const char *name)
{
	for (size_t i = 0; i < sizeof(workloads) / sizeof(*workloads); i++)
		if (strcmp(workloads[i].name, name) == 0)
			return &workloads[i];
	return NULL;
}
