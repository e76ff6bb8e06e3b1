/* SPDX-License-Identifier: MIT */
/*
 * A whole program on the pool: what it freed goes back to the kernel, what
 * tells it that memory is short comes in the middle of malloc, and a child
 * that makes a thread has a background thread again.
 */
#include "check.h"

#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

#define MAX_BLOCKS	400000

static void *block[MAX_BLOCKS];

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* VmRSS, in KiB. */
static long resident_kb(void)
{
	char text[128];
	int fd = open("/proc/self/statm", O_RDONLY);
	ssize_t n = read(fd, text, sizeof(text) - 1);
	long total = 0, rss = 0;

	close(fd);
	text[n > 0 ? n : 0] = '\0';
	sscanf(text, "%ld %ld", &total, &rss);
	return rss * 4;
}

static bool shrinks_to(long kb, uint64_t ms)
{
	uint64_t end = now_ms() + ms;

	while (resident_kb() > kb && now_ms() < end)
		usleep(5000);
	return CHECK(resident_kb() <= kb);
}

static void burst(size_t bytes)
{
	size_t n = 0;

	while (n < MAX_BLOCKS && n * bytes < 100u << 20 &&
	       (block[n] = malloc(bytes)))
		memset(block[n++], 1, bytes);
	while (n--)
		free(block[n]);
}

static void *sleep_long(void *arg)
{
	burst((size_t)(uintptr_t)arg);
	for (;;)
		pause();
	return NULL;
}

/* 8 MiB, and the caches of those who just freed are empty in a second. */
#define SLACK_KB	(8 << 10)

static void burst_in_a_thread(size_t bytes)
{
	long before;
	pthread_t thread;

	free(malloc(100000));
	before = resident_kb();
	REQUIRE(pthread_create(&thread, NULL, sleep_long,
			       (void *)(uintptr_t)bytes) == 0);
	usleep(300000);
	shrinks_to(before + SLACK_KB + 2048, 5000);
	check_end();
}

static void small_objects_of_a_sleeping_thread(void)
{
	burst_in_a_thread(300);
}

static void pages_of_a_sleeping_thread(void)
{
	burst_in_a_thread(20000);
}

static void buffers_of_a_sleeping_thread(void)
{
	burst_in_a_thread(3000000);
}

/* No thread of its own: calls of malloc and free do it. */
static void without_a_thread(void)
{
	long before = resident_kb();
	uint64_t end = now_ms() + 6000;

	burst(20000);
	while (resident_kb() > before + SLACK_KB + 2048 && now_ms() < end) {
		errno = EXDEV;
		free(malloc(5000000));
		free(malloc(40000));
		malloc_trim(1 << 30);	/* empties the cache, trims nothing */
		CHECK(errno == EXDEV);
		usleep(5000);
	}
	CHECK(resident_kb() <= before + SLACK_KB + 2048);
	check_end();
}

static volatile unsigned nr_signals, nr_allocated;

static void on_pressure(int signal)
{
	void *p = malloc(100);

	(void)signal;
	nr_signals++;
	if (p) {
		memset(p, 1, 100);
		nr_allocated++;
	}
	free(p);
}

static void handler_of_pressure_allocates(void)
{
	size_t n;

	signal(SIGUSR1, on_pressure);
	for (unsigned i = 0; i < 20; i++) {
		n = 0;
		while (n < MAX_BLOCKS && (block[n] = malloc(500 + i * 3000)))
			n++;
		while (n--)
			free(block[n]);
	}
	CHECK(nr_signals >= 20);
	CHECK(nr_allocated > 0);
	check_end();
}

static unsigned nr_reclaimds(void)
{
	DIR *dir = opendir("/proc/self/task");
	unsigned n = 0;
	struct dirent *d;

	while (dir && (d = readdir(dir))) {
		char path[300], name[16] = "";
		int fd;

		snprintf(path, sizeof(path), "/proc/self/task/%s/comm",
			 d->d_name);
		fd = open(path, O_RDONLY);
		if (fd < 0)
			continue;
		if (read(fd, name, sizeof(name) - 1) > 0)
			n += strncmp(name, "pp-reclaimd", 11) == 0;
		close(fd);
	}
	closedir(dir);
	return n;
}

static void *nothing(void *arg)
{
	return arg;
}

static void run_thread(void)
{
	pthread_t thread;

	REQUIRE(pthread_create(&thread, NULL, nothing, NULL) == 0);
	pthread_join(thread, NULL);
}

static void child_has_a_thread_when_it_makes_one(void)
{
	uint64_t end = now_ms() + 10000;
	int status = -1;
	pid_t child;

	CHECK(nr_reclaimds() == 0);
	run_thread();
	while (nr_reclaimds() != 1 && now_ms() < end)
		usleep(1000);
	CHECK(nr_reclaimds() == 1);
	child = fork();
	if (!child) {
		alarm(60);
		CHECK(nr_reclaimds() == 0);
		burst(20000);
		CHECK(nr_reclaimds() == 0);
		run_thread();
		end = now_ms() + 10000;
		while (nr_reclaimds() != 1 && now_ms() < end)
			usleep(1000);
		CHECK(nr_reclaimds() == 1);
		shrinks_to(resident_kb() / 2, 5000);
		_exit(check_nr_failed ? 1 : 0);
	}
	CHECK(waitpid(child, &status, 0) == child);
	CHECK(status == 0);
	CHECK(nr_reclaimds() == 1);
	check_end();
}

static const struct check_case cases[] = {
	{ "small_objects_of_a_sleeping_thread",
	  small_objects_of_a_sleeping_thread },
	{ "pages_of_a_sleeping_thread", pages_of_a_sleeping_thread },
	{ "buffers_of_a_sleeping_thread", buffers_of_a_sleeping_thread },
	{ "without_a_thread", without_a_thread },
	{ "handler_of_pressure_allocates", handler_of_pressure_allocates },
	{ "child_has_a_thread_when_it_makes_one",
	  child_has_a_thread_when_it_makes_one },
};

CHECK_MAIN(cases)
