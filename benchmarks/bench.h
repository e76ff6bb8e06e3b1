/* SPDX-License-Identifier: MIT */
/*
 * What the benchmark programs share: a clock, pinning, medians, and the
 * interface between `compare` (which talks to one worker process for each
 * allocator) and the loops that the workers run.
 *
 *   compare.c    options, sets of workloads, interleaving, tables
 *   peers.c      the allocators, their worker processes and pipes
 *   worker.c     one worker: warm up, calibrate, timed rounds, two threads
 *   workloads.c  the loops that are timed
 *   common.c     clock, pinning, statistics; used by every program here
 */
#ifndef PP_BENCH_H
#define PP_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
	BENCH_MAX_THREADS = 2,
	BENCH_MAX_PEERS = 8,
	BENCH_MAX_ROUNDS = 1000,
	BENCH_MAX_STARTS = 100,
	BENCH_MAX_BATCH = 4096,		/* objects of one `batch` */
	BENCH_MAX_BATCH_BYTES = 4 << 20,
	BENCH_MIXED_LIVE = 10000,	/* live objects of `mixed`, a thread */
};

/* common.c */
uint64_t now_ns(void);
void pin_to_cpu(int cpu);
double median(double *values, size_t nr);	/* sorts the array */
double resident_kib(pid_t pid, const char *field);	/* "Rss", ... */
void die(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));
void size_text(char *buf, size_t buf_bytes, size_t bytes);
bool size_parse(const char *text, size_t *bytes);

/* Keeps the compiler from seeing what becomes of a pointer. */
static inline void *opaque(void *p)
{
	__asm__ volatile("" : "+r"(p) : : "memory");
	return p;
}

/* One turn of a spinning loop. */
static inline void spin_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#else
	__asm__ volatile("" : : : "memory");
#endif
}

/* A small generator, good enough to pick slots and sizes. */
static inline uint64_t next_random(uint64_t *state)
{
	uint64_t x = *state;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	*state = x;
	return x;
}

/* workloads.c: what a worker can run. */
struct job {
	const struct workload *workload;
	size_t size_bytes;		/* 0 where the workload has its own */
	int nr_threads;
};

struct workload {
	const char *name;
	/* Runs nr_ops operations as thread 0 or 1 of the job. */
	void (*run)(const struct job *job, int thread, uint64_t nr_ops);
	/* Once, before the warm-up, in thread 0; may be NULL. */
	void (*setup)(const struct job *job);
	/* Operations come in multiples of this; NULL means of one. */
	size_t (*granule)(const struct job *job);
};

const struct workload *workload_find(const char *name);

/* worker.c: the command line after "--worker"; never returns to compare. */
int worker_main(int argc, char **argv);

/* The answer to every byte that compare writes to a worker. */
struct round_result {
	uint64_t nr_ops;		/* by each thread */
	uint64_t elapsed_ns;		/* wall time of the slowest thread */
};

/* peers.c: one allocator under comparison. */
struct peer {
	/* const after peers_probe() */
	char name[32];
	char path[512];			/* empty: the program's own (glibc) */
	char version[64];
	bool present;
	bool ours;

	/* the running worker, if any */
	pid_t pid;
	int to_fd, from_fd;
	char failure[32];		/* why it gave no number, or empty */
	double ns_per_op[BENCH_MAX_ROUNDS];
	size_t nr_rounds;
	double resident_bytes[BENCH_MAX_STARTS];
	size_t nr_starts;
};

void peers_default(struct peer *peers, size_t *nr);
void peer_add(struct peer *peers, size_t *nr, const char *name,
	      const char *path, bool ours);
void peer_probe(struct peer *peer);
void peer_start(struct peer *peer, const char *workload, size_t size_bytes,
		int nr_threads, unsigned int round_us);
void peer_round(struct peer *peer, bool counts);
void peer_clear(struct peer *peer);	/* before the first start of a case */
void peer_resident(struct peer *peer);
void peer_stop(struct peer *peer);

#endif
