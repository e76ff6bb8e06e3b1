/* SPDX-License-Identifier: MIT */
/*
 * One worker of `compare`: a process of its own, with one allocator
 * preloaded and one workload.  It warms up, finds how many operations fill a
 * round, answers once to say so, and then answers every byte on its input
 * with one timed round, until the input ends.
 *
 * Between rounds it sleeps in read(), its second thread on a semaphore, so
 * that the other workers have the machine to themselves.  A worker with one
 * thread never creates a second one: some allocators are faster then.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <dlfcn.h>
#include <gnu/libc-version.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

enum {
	WARM_UP_MS = 40,
	MAX_OPS = 1 << 24,
};

static struct {
	struct job job;
	uint64_t nr_ops;			/* of the round in progress */
	uint64_t end_ns[BENCH_MAX_THREADS];	/* when each thread finished */
	sem_t start, finished;			/* of the second thread */
	_Atomic int xnr_ready;			/* both meet here, then start */
} worker;

/* Both threads leave together; the second one has just been woken. */
static void meet(void)
{
	unsigned int spins = 0;

	atomic_fetch_add(&worker.xnr_ready, 1);
	while (atomic_load(&worker.xnr_ready) < worker.job.nr_threads)
		if (++spins % 1000 == 0)
			sched_yield();
}

static void *second_thread(void *unused)
{
	struct job *job = &worker.job;

	pin_to_cpu(1);
	for (;;) {
		sem_wait(&worker.start);
		meet();
		job->workload->run(job, 1, worker.nr_ops);
		worker.end_ns[1] = now_ns();
		sem_post(&worker.finished);
	}
	return unused;
}

static uint64_t timed_round(uint64_t nr_ops)
{
	struct job *job = &worker.job;
	uint64_t start_ns;

	worker.nr_ops = nr_ops;
	worker.end_ns[1] = 0;
	atomic_store(&worker.xnr_ready, 0);
	if (job->nr_threads > 1)
		sem_post(&worker.start);
	meet();
	start_ns = now_ns();
	job->workload->run(job, 0, nr_ops);
	worker.end_ns[0] = now_ns();
	if (job->nr_threads > 1)
		sem_wait(&worker.finished);
	if (worker.end_ns[1] > worker.end_ns[0])
		return worker.end_ns[1] - start_ns;
	return worker.end_ns[0] - start_ns;
}

/* Doubles the work until a round is long enough, then lets it settle. */
static uint64_t calibrate(uint64_t round_ns)
{
	const struct job *job = &worker.job;
	uint64_t granule = 1, nr_ops, took_ns, warm_until_ns;

	if (job->workload->granule)
		granule = job->workload->granule(job);
	nr_ops = granule;
	while ((took_ns = timed_round(nr_ops)) < round_ns / 2 &&
	       nr_ops < MAX_OPS)
		nr_ops *= 2;
	if (nr_ops == granule)
		return nr_ops;
	warm_until_ns = now_ns() + WARM_UP_MS * 1000000u;
	do
		took_ns = timed_round(nr_ops);
	while (now_ns() < warm_until_ns);
	nr_ops = (uint64_t)((double)nr_ops * (double)round_ns /
			    (double)(took_ns ? took_ns : 1));
	return (nr_ops / granule + 1) * granule;
}

/*
 * Says which file malloc comes from and which version it calls itself, so
 * that a library that could not be preloaded is not mistaken for glibc.
 */
static int which(void)
{
	int (*mimalloc_version)(void);
	const char *(*tcmalloc_version)(int *, int *, const char **);
	int (*jemalloc_ctl)(const char *, void *, size_t *, void *, size_t);
	int major, minor;
	const char *text = NULL;
	Dl_info info = { 0 };
	size_t text_bytes = sizeof(text);

	*(void **)&mimalloc_version = dlsym(RTLD_DEFAULT, "mi_version");
	*(void **)&tcmalloc_version = dlsym(RTLD_DEFAULT, "tc_version");
	*(void **)&jemalloc_ctl = dlsym(RTLD_DEFAULT, "mallctl");
	dladdr((void *)(uintptr_t)malloc, &info);
	printf("%s\n", info.dli_fname ? info.dli_fname : "?");
	if (mimalloc_version)
		printf("%d.%d.%d\n", mimalloc_version() / 100,
		       mimalloc_version() / 10 % 10, mimalloc_version() % 10);
	else if (tcmalloc_version)
		printf("%.40s\n", tcmalloc_version(&major, &minor, &text));
	else if (jemalloc_ctl &&
		 jemalloc_ctl("version", &text, &text_bytes, NULL, 0) == 0)
		printf("%.*s\n", (int)strcspn(text, "-"), text);
	else
		printf("%s\n", gnu_get_libc_version());
	return 0;
}

static void answer(uint64_t nr_ops, uint64_t elapsed_ns)
{
	struct round_result result = { nr_ops, elapsed_ns };

	if (write(STDOUT_FILENO, &result, sizeof(result)) != sizeof(result))
		_exit(4);
}

/* Arguments: which | WORKLOAD SIZE THREADS ROUND_US */
int worker_main(int argc, char **argv)
{
	struct job *job = &worker.job;
	uint64_t nr_ops, round_ns;
	pthread_t thread;
	char byte;

	if (argc == 1 && strcmp(argv[0], "which") == 0)
		return which();
	if (argc != 4)
		return 5;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	job->workload = workload_find(argv[0]);
	job->size_bytes = strtoull(argv[1], NULL, 10);
	job->nr_threads = atoi(argv[2]);
	round_ns = strtoull(argv[3], NULL, 10) * 1000;
	if (!job->workload)
		return 5;
	pin_to_cpu(0);
	if (job->workload->setup)
		job->workload->setup(job);
	if (job->nr_threads > 1) {
		sem_init(&worker.start, 0, 0);
		sem_init(&worker.finished, 0, 0);
		if (pthread_create(&thread, NULL, second_thread, NULL))
			return 6;
	}
	nr_ops = calibrate(round_ns);
	answer(nr_ops, 0);
	while (read(STDIN_FILENO, &byte, 1) == 1)
		answer(nr_ops, timed_round(nr_ops));
	return 0;
}
