/* SPDX-License-Identifier: MIT */
/*
 * Clock, pinning, medians and sizes as text, for all benchmark programs.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* A machine with fewer processors runs the benchmark where it can. */
void pin_to_cpu(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	(void)sched_setaffinity(0, sizeof(set), &set);
}

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double median(double *values, size_t nr)
{
	if (nr == 0)
		return 0;
	qsort(values, nr, sizeof(*values), compare_doubles);
	if (nr % 2)
		return values[nr / 2];
	return (values[nr / 2 - 1] + values[nr / 2]) / 2;
}

/*
 * A field of /proc/PID/smaps_rollup, which is exact; -1 if unreadable.
 * Allocates nothing, since a worker asks when its heap is full.
 */
double resident_kib(pid_t pid, const char *field)
{
	char path[64], text[4096], name[64];
	const char *found;
	ssize_t got;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
	snprintf(name, sizeof(name), "\n%s:", field);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	got = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (got <= 0)
		return -1;
	text[got] = '\0';
	found = strstr(text, name);
	return found ? strtod(found + strlen(name), NULL) : -1;
}

void die(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
	exit(2);
}

void size_text(char *buf, size_t buf_bytes, size_t bytes)
{
	static const char unit[] = "BKMGT";
	int u = 0;

	while (bytes >= 1024 && bytes % 1024 == 0 && u < 4) {
		bytes /= 1024;
		u++;
	}
	if (u)
		snprintf(buf, buf_bytes, "%zu%c", bytes, unit[u]);
	else
		snprintf(buf, buf_bytes, "%zu", bytes);
}

/* Reads "64", "16K", "4M", "1G" or "1T". */
bool size_parse(const char *text, size_t *bytes)
{
	static const char unit[] = "KMGT";
	const char *found;
	char *end;

	*bytes = strtoull(text, &end, 10);
	if (end == text)
		return false;
	if (*end == '\0')
		return true;
	found = strchr(unit, *end);
	if (!found || end[1] != '\0')
		return false;
	*bytes <<= 10 * (found - unit + 1);
	return true;
}
