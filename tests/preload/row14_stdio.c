// SPDX-License-Identifier: MIT
/*
 * Row 14: fork beside stdio traffic.  stdio holds its list lock while it waits
 * for the lock of a stream, and the lock of a stream while it calls malloc; a
 * fork that takes malloc's locks before the list lock closes the circle.
 * The threads here keep all three busy.
 */
#include "check.h"
#include <pthread.h>
#include <sched.h>

enum { NR_READERS = 3, NR_WRITERS = 2, NR_FLUSHERS = 2, NR_FORKS = 60 };

static bool stop;

static bool stopped(void)
{
	return __atomic_load_n(&stop, __ATOMIC_RELAXED);
}

/* Lines of up to 200 KB: too large for the thread caches of any malloc. */
static char lines[1 << 20];

static void make_lines(void)
{
	size_t i, length = 10;

	memset(lines, 'l', sizeof(lines));
	for (i = length; i < sizeof(lines); i += length) {
		lines[i] = '\n';
		length = length * 7 % 199999 + 1;
	}
	lines[sizeof(lines) - 1] = '\n';
}

/* getline() grows its buffer under the lock of the stream. */
static void *reader(void *unused)
{
	while (!stopped()) {
		FILE *stream = fmemopen(lines, sizeof(lines), "r");
		char *line = NULL;
		size_t room = 0;
		ssize_t nr;

		while ((nr = getline(&line, &room, stream)) > 0) {
			CHECK(line[nr - 1] == '\n');
			free(line);
			line = NULL;
			room = 0;
		}
		free(line);
		fclose(stream);
	}
	return unused;
}

/* Memory streams grow inside printf(); wide conversions allocate as well. */
static void *writer(void *unused)
{
	FILE *null = fopen("/dev/null", "w");

	while (!stopped()) {
		char *text = NULL;
		size_t nr_bytes = 0, i;
		FILE *stream = open_memstream(&text, &nr_bytes);

		for (i = 0; i < 200; i++) {
			fprintf(stream, "%0*zu", (int)(i * 13 % 7000), i);
			fprintf(null, "%.2000f %ls\n", 1.0 / 3, L"wide");
		}
		fclose(stream);
		CHECK(nr_bytes == strlen(text));
		free(text);
	}
	fclose(null);
	return unused;
}

/* Walks the list of streams and waits for the lock of each. */
static void *flusher(void *unused)
{
	while (!stopped()) {
		fflush(NULL);
		/* Its locks are not fair: on a busy machine fork starves. */
		sched_yield();
	}
	return unused;
}

static void child(int how)
{
	char *text = NULL;

	CHECK(asprintf(&text, "%0*d", 3000, how) == 3000);
	free(text);
	reader(NULL);
	fflush(NULL);
	if (how % 2)
		check_child_exit();
	exit(check_nr_failed ? 1 : 0);
}

static void traffic(void)
{
	static void *(*const bodies[])(void *) = {
		reader, reader, reader, writer, writer, flusher, flusher,
	};
	pthread_t threads[NR_READERS + NR_WRITERS + NR_FLUSHERS];
	size_t i, nr = sizeof(threads) / sizeof(threads[0]);

	make_lines();
	for (i = 0; i < nr; i++)
		REQUIRE(!pthread_create(&threads[i], NULL, bodies[i], NULL));
	for (i = 0; i < NR_FORKS; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			stop = true;
			child((int)i);
		}
		CHECK(check_child(pid));
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (i = 0; i < nr; i++)
		pthread_join(threads[i], NULL);
	check_end();
}

static void *forker(void *unused)
{
	int i;

	for (i = 0; i < NR_FORKS / 3; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			stop = true;
			child(1);
		}
		CHECK(check_child(pid));
	}
	return unused;
}

static void two_threads_fork(void)
{
	static void *(*const bodies[])(void *) = {
		forker, forker, reader, writer, flusher,
	};
	pthread_t threads[5];
	int i;

	make_lines();
	for (i = 0; i < 5; i++)
		REQUIRE(!pthread_create(&threads[i], NULL, bodies[i], NULL));
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (i = 2; i < 5; i++)
		pthread_join(threads[i], NULL);
	check_end();
}

static const struct check_case cases[] = {
	{ "traffic", traffic },
	{ "two_threads_fork", two_threads_fork },
};

CHECK_MAIN(cases)
