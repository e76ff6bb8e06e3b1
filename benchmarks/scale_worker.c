/* SPDX-License-Identifier: MIT */
/*
 * A worker of `scale`: a process with some threads at work and some asleep.
 *
 *   pair    one object is allocated and freed, again and again
 *   batch   4 MiB of objects, 1000 at the most, are allocated, the first word
 *           of each written, and freed: through the caches and back
 *
 * It finds how many operations fill a round, and then answers every byte on its
 * input with one round.  All threads begin together and do the same number of
 * operations; the round ends with the last of them.
 */
#define _GNU_SOURCE
#include "scale.h"

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

enum {
	MAX_BATCH = 1000,
	MAX_BATCH_BYTES = 4 << 20,
	MAX_THREADS = 4096,
	STACK_BYTES = 128 << 10,
	WARM_UP_ROUNDS = 5,
	MAX_OPS = 1 << 26,
};

static struct {
	struct scale_job job;
	uint64_t nr_ops;		/* of each thread in this round */
	pthread_barrier_t begin, end;
	sem_t asleep, never;
} worker;

static void *alloc_or_exit(size_t bytes)
{
	void *p = malloc(bytes);

	if (!p)
		_exit(3);
	return opaque(p);
}

/* In one line of the cache, or the loop itself costs half a nanosecond more. */
__attribute__((aligned(64)))
static void run_pair(size_t bytes, uint64_t nr_ops)
{
	for (uint64_t i = 0; i < nr_ops; i++)
		free(alloc_or_exit(bytes));
}

static size_t batch_objects(size_t bytes)
{
	size_t nr = MAX_BATCH_BYTES / bytes;

	return nr > MAX_BATCH ? MAX_BATCH : nr ? nr : 1;
}

static void run_batch(size_t bytes, uint64_t nr_ops)
{
	size_t nr = batch_objects(bytes);
	void *object[MAX_BATCH];

	for (uint64_t done = 0; done < nr_ops; done += nr) {
		for (size_t i = 0; i < nr; i++) {
			object[i] = alloc_or_exit(bytes);
			*(uint64_t *)object[i] = i;
		}
		for (size_t i = 0; i < nr; i++)
			free(object[i]);
	}
}

static const struct load {
	const char *name;
	void (*run)(size_t bytes, uint64_t nr_ops);
	size_t (*granule)(size_t bytes);
} loads[] = {
	{ "pair", run_pair, NULL },
	{ "batch", run_batch, batch_objects },
};

static const struct load *find_load(const char *name)
{
	for (size_t i = 0; i < sizeof(loads) / sizeof(*loads); i++)
		if (strcmp(loads[i].name, name) == 0)
			return &loads[i];
	return NULL;
}

bool scale_load_exists(const char *name)
{
	return find_load(name) != NULL;
}

static const struct load *load;

static void work(void)
{
	load->run(worker.job.size_bytes, worker.nr_ops);
}

static void *working_thread(void *nr)
{
	long nr_cpus = sysconf(_SC_NPROCESSORS_ONLN);

	pin_to_cpu((int)((long)(uintptr_t)nr % nr_cpus));
	for (;;) {
		pthread_barrier_wait(&worker.begin);
		work();
		pthread_barrier_wait(&worker.end);
	}
	return NULL;
}

/* It has a cache, with something in it, and is not heard of any more. */
static void *idle_thread(void *unused)
{
	run_pair(64, 100);
	run_batch(64, 100);
	run_pair(64 << 10, 100);
	sem_post(&worker.asleep);
	for (;;)
		sem_wait(&worker.never);
	return unused;
}

static uint64_t timed_round(uint64_t nr_ops)
{
	uint64_t start_ns;

	worker.nr_ops = nr_ops;
	start_ns = now_ns();
	if (worker.job.nr_threads > 1) {
		pthread_barrier_wait(&worker.begin);
		pthread_barrier_wait(&worker.end);
	} else {
		work();
	}
	return now_ns() - start_ns;
}

static uint64_t calibrate(void)
{
	uint64_t round_ns = (uint64_t)worker.job.round_us * 1000;
	uint64_t granule = 1, nr_ops, took_ns = 1;

	if (load->granule)
		granule = load->granule(worker.job.size_bytes);
	for (nr_ops = granule; nr_ops < MAX_OPS; nr_ops *= 2) {
		took_ns = timed_round(nr_ops);
		if (took_ns >= round_ns / 2)
			break;
	}
	for (int i = 0; i < WARM_UP_ROUNDS; i++)
		took_ns = timed_round(nr_ops);
	nr_ops = (uint64_t)((double)nr_ops * (double)round_ns /
			    (double)(took_ns ? took_ns : 1));
	return (nr_ops / granule + 1) * granule;
}

static void start_thread(void *(*body)(void *), uintptr_t nr)
{
	static pthread_attr_t attr;
	static bool ready;
	pthread_t thread;

	if (!ready) {
		pthread_attr_init(&attr);
		pthread_attr_setstacksize(&attr, STACK_BYTES);
		ready = true;
	}
	if (pthread_create(&thread, &attr, body, (void *)nr))
		_exit(6);
}

/* With one thread at work, that is the first; with more, it only waits. */
static void start_threads(void)
{
	unsigned int parties = (unsigned int)worker.job.nr_threads + 1;

	sem_init(&worker.asleep, 0, 0);
	sem_init(&worker.never, 0, 0);
	for (int i = 0; i < worker.job.nr_idle; i++)
		start_thread(idle_thread, (uintptr_t)i);
	for (int i = 0; i < worker.job.nr_idle; i++)
		sem_wait(&worker.asleep);
	pthread_barrier_init(&worker.begin, NULL, parties);
	pthread_barrier_init(&worker.end, NULL, parties);
	if (worker.job.nr_threads == 1)
		pin_to_cpu(0);
	for (int i = 0; worker.job.nr_threads > 1 &&
			i < worker.job.nr_threads; i++)
		start_thread(working_thread, (uintptr_t)i);
}

static void answer(uint64_t nr_ops, uint64_t elapsed_ns)
{
	struct scale_answer a = {
		nr_ops * (uint64_t)worker.job.nr_threads, elapsed_ns,
	};

	if (write(STDOUT_FILENO, &a, sizeof(a)) != sizeof(a))
		_exit(4);
}

/* Arguments: LOAD SIZE THREADS IDLE ROUND_US */
int scale_worker(int argc, char **argv)
{
	struct scale_job *job = &worker.job;
	uint64_t nr_ops;
	char byte;

	if (argc != 5)
		return 5;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	load = find_load(argv[0]);
	job->size_bytes = strtoull(argv[1], NULL, 10);
	job->nr_threads = atoi(argv[2]);
	job->nr_idle = atoi(argv[3]);
	job->round_us = (unsigned int)strtoul(argv[4], NULL, 10);
	if (!load || job->nr_threads < 1 || job->nr_threads > MAX_THREADS ||
	    job->nr_idle < 0 || job->nr_idle > MAX_THREADS)
		return 5;
	start_threads();
	nr_ops = calibrate();
	answer(nr_ops, 0);
	while (read(STDIN_FILENO, &byte, 1) == 1)
		answer(nr_ops, timed_round(nr_ops));
	return 0;
}
