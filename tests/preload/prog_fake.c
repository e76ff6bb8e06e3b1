// SPDX-License-Identifier: MIT
/*
 * prog_fake - has mappings like a pool's, for the test of prog_watch.
 *
 *   prog_fake MIB [fork|exit|orphan|churn]
 *
 * Reserves 8 GiB, touches that many MiB, and waits until its standard input
 * ends.  "fork": a child touches twice as many.  "exit": status 7 at the end.
 * "orphan": a child stays behind for ever.  "churn": moves the touched memory
 * through the reservation, low addresses given back before high ones are
 * taken, so that a walk counts some pages twice.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define SPAN_BYTES	((size_t)8 << 30)
#define MIB		((size_t)1 << 20)
#define CHURN_MIB	512
#define CHURN_ROUNDS	4

static char *reserve(void)
{
	char *span = mmap(NULL, SPAN_BYTES, PROT_NONE, MAP_PRIVATE |
			  MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (span == MAP_FAILED || mprotect(span, SPAN_BYTES / 2,
					   PROT_READ | PROT_WRITE) < 0)
		exit(1);
	return span;
}

static void wait_for_end(void)
{
	char byte;

	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
}

/* Neighbours for the span that are no pool's: below it, and stack-like. */
static void add_neighbour(void)
{
	char *p = mmap(NULL, 32 * MIB, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		exit(1);
	memset(p, 1, 32 * MIB);
}

static void churn(char *span, size_t mib)
{
	for (unsigned round = 0; round < CHURN_ROUNDS; round++) {
		for (size_t at = 0; at + mib < CHURN_MIB; at++) {
			madvise(span + at * MIB, MIB, MADV_DONTNEED);
			memset(span + (at + mib) * MIB, 1, MIB);
		}
		madvise(span, CHURN_MIB * MIB, MADV_DONTNEED);
		memset(span, 1, mib * MIB);
	}
}

/* A file touched.PID says that all is there to be counted. */
static void say_touched(void)
{
	char name[32];

	snprintf(name, sizeof(name), "touched.%d", (int)getpid());
	close(open(name, O_CREAT | O_WRONLY, 0600));
}

static void live_on(void)
{
	for (;;)
		pause();
}

int main(int argc, char **argv)
{
	size_t mib = argc > 1 ? strtoul(argv[1], NULL, 10) : 1;
	const char *how = argc > 2 ? argv[2] : "";
	bool forks = !strcmp(how, "fork"), orphan = !strcmp(how, "orphan");
	char *span = reserve();
	pid_t child = -1;

	add_neighbour();
	memset(span, 1, mib * MIB);
	say_touched();
	if (forks || orphan)
		child = fork();
	if (child == 0 && orphan)
		live_on();
	if (child == 0) {
		memset(span + mib * MIB, 1, mib * MIB);
		say_touched();
	}
	if (strcmp(how, "churn") == 0)
		churn(span, mib);
	else
		wait_for_end();
	if (child > 0 && forks)
		waitpid(child, NULL, 0);
	return strcmp(how, "exit") == 0 ? 7 : 0;
}
