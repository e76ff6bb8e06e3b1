// SPDX-License-Identifier: MIT
/*
 * Row 16: many threads, that come and go, that idle, that are cancelled, that
 * free what others allocated; and programs that use up all thread keys.
 */
#include "check.h"
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <semaphore.h>

static size_t used_bytes(void)
{
	struct mallinfo2 info;

	malloc_trim(0);	/* what is kept for reuse is not used */
	info = mallinfo2();
	return info.uordblks + info.hblkhd;
}

static void churn(size_t max)
{
	void *head = NULL;
	size_t size;

	for (size = 24; size < max; size *= 3)
		if (fill_up_to(&head, size, 3) != 3)
			_exit(80);
	drop(&head);
}

static void start(pthread_t *thread, void *(*body)(void *), void *arg)
{
	static pthread_attr_t small;
	static bool ready;

	if (!ready) {
		pthread_attr_init(&small);
		pthread_attr_setstacksize(&small, 64 << 10);
		ready = true;
	}
	REQUIRE(!pthread_create(thread, &small, body, arg));
}

/* A leak of even a few bytes a thread or block adds up to more. */
static void check_used(size_t before)
{
	size_t now = used_bytes();

	if (!CHECK(now <= before + (1 << 20)))
		check_say("%zu bytes used, %zu before\n", now, before);
}

/* On libc's malloc there is nothing to compare the whole limit with. */
static void check_limit_usable(size_t percent)
{
	static const size_t sizes[] = { 64, 5000, 65536, 1 << 20 };
	size_t i;

	for (i = 0; on_pagepool() && i < 4; i++)
		CHECK(fills_limit(sizes[i], percent));
}

static void *short_life(void *unused)
{
	churn(40000);
	return unused;
}

static void short_lives(int nr)
{
	pthread_t threads[4];
	int i, j;

	for (i = 0; i < nr / 4; i++) {
		for (j = 0; j < 4; j++)
			start(&threads[j], short_life, NULL);
		for (j = 0; j < 4; j++)
			pthread_join(threads[j], NULL);
	}
}

static void twenty_thousand_short_lives(void)
{
	size_t used, resident;

	short_lives(2000);
	used = used_bytes();
	resident = resident_bytes();
	short_lives(18000);
	check_used(used);
	CHECK(resident_bytes() <= resident + (4 << 20));
	check_limit_usable(97);
	check_end();
}

static pthread_barrier_t gate;

static void *idle(void *unused)
{
	churn(300000);
	free(malloc(1 << 20));
	pthread_barrier_wait(&gate);
	pthread_barrier_wait(&gate);
	churn(3000);
	return unused;
}

/*
 * What idle threads keep in their caches is bounded, and is not lost: others
 * can have a good part of the limit meanwhile and all of it afterwards.
 */
static void a_thousand_idle_threads(void)
{
	enum { NR = 1000 };
	static pthread_t threads[NR];
	int i;

	pthread_barrier_init(&gate, NULL, NR + 1);
	for (i = 0; i < NR; i++)
		start(&threads[i], idle, NULL);
	pthread_barrier_wait(&gate);
	CHECK(fills_limit(5000, 15));
	CHECK(fills_limit(65536, 15));
	pthread_barrier_wait(&gate);
	for (i = 0; i < NR; i++)
		pthread_join(threads[i], NULL);
	/* libc keeps the stacks of hundreds, and a small block for each. */
	check_limit_usable(93);
	check_end();
}

enum { RING = 256, NR_PASSED = 100000 };

struct ring {
	void *blocks[RING];
	sem_t filled, empty;
};

static struct ring rings[2];

static void *producer(void *arg)
{
	struct ring *ring = arg;
	unsigned i;

	for (i = 0; i < NR_PASSED; i++) {
		size_t size = i % 1000 ? i % 3000 + 8 : 50000;
		unsigned char *block = malloc(size);

		REQUIRE(block != NULL);
		block[0] = block[7] = (unsigned char)i;
		sem_wait(&ring->empty);
		ring->blocks[i % RING] = block;
		sem_post(&ring->filled);
	}
	return NULL;
}

static void *consumer(void *arg)
{
	struct ring *ring = arg;
	unsigned i;

	for (i = 0; i < NR_PASSED; i++) {
		unsigned char *block;

		sem_wait(&ring->filled);
		block = ring->blocks[i % RING];
		sem_post(&ring->empty);
		CHECK(block[0] == (unsigned char)i &&
		      block[7] == (unsigned char)i);
		free(block);
	}
	return NULL;
}

static void producers_and_consumers(void)
{
	size_t used = 0, resident = 0, round;
	pthread_t threads[4];
	int i;

	for (round = 0; round < 3; round++) {
		for (i = 0; i < 2; i++) {
			sem_init(&rings[i].filled, 0, 0);
			sem_init(&rings[i].empty, 0, RING);
			start(&threads[2 * i], producer, &rings[i]);
			start(&threads[2 * i + 1], consumer, &rings[i]);
		}
		for (i = 0; i < 4; i++)
			pthread_join(threads[i], NULL);
		if (round == 0) {
			used = used_bytes();
			resident = resident_bytes();
		}
	}
	check_used(used);
	CHECK(resident_bytes() <= resident + (8 << 20));
	check_limit_usable(97);
	check_end();
}

static void *cancelled(void *unused)
{
	void *block = malloc(5000);

	pthread_cleanup_push(free, block);
	for (;;) {
		churn(100000);
		pthread_testcancel();
	}
	pthread_cleanup_pop(1);
	return unused;
}

static void cancelled_while_busy(void)
{
	size_t used = 0;
	int i;

	for (i = 0; i < 600; i++) {
		pthread_t threads[2];
		void *result;

		start(&threads[0], cancelled, NULL);
		start(&threads[1], cancelled, NULL);
		pthread_cancel(threads[0]);
		churn(50000);
		pthread_cancel(threads[1]);
		CHECK(!pthread_join(threads[0], &result));
		CHECK(result == PTHREAD_CANCELED);
		CHECK(!pthread_join(threads[1], &result));
		if (i == 100)
			used = used_bytes();
	}
	check_used(used);
	check_end();
}

static sem_t cancel_sent;
static bool came_back;

static void *fail_while_cancelled(void *limit)
{
	void *head = NULL, *block;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
	sem_wait(&cancel_sent);
	pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
	block = malloc((size_t)limit * 2);
	fill_up_to(&head, 1 << 20, SIZE_MAX);
	drop(&head);
	malloc_trim(0);
	came_back = true;
	free(block);
	pthread_testcancel();
	return NULL;
}

/* The failure report writes to stderr; write() is where cancellation acts,
 * malloc is not. */
static void malloc_is_no_cancellation_point(void)
{
	size_t limit = limit_bytes();
	pthread_t thread;
	void *result;

	sem_init(&cancel_sent, 0, 0);
	start(&thread, fail_while_cancelled, (void *)limit);
	pthread_cancel(thread);
	sem_post(&cancel_sent);
	pthread_join(thread, &result);
	CHECK(came_back);
	CHECK(result == PTHREAD_CANCELED);
	check_limit_usable(97);
	check_end();
}

static void *use_last_key(void *key)
{
	churn(100000);
	pthread_setspecific((pthread_key_t)(uintptr_t)key, malloc(3000));
	return NULL;
}

static void all_thread_keys_taken(void)
{
	pthread_key_t key, last = 0;
	size_t used = 0, nr = 0, i;
	pthread_t thread;

	while (pthread_key_create(&key, free) == 0) {
		last = key;
		nr++;
	}
	/* We may take one for ourselves. */
	CHECK(nr >= PTHREAD_KEYS_MAX - 2);
	for (i = 0; i < 3000; i++) {
		start(&thread, use_last_key, (void *)(uintptr_t)last);
		pthread_join(thread, NULL);
		if (i == 500)
			used = used_bytes();
	}
	check_used(used);
	check_limit_usable(97);
	check_end();
}

static const struct check_case cases[] = {
	{ "twenty_thousand_short_lives", twenty_thousand_short_lives },
	{ "a_thousand_idle_threads", a_thousand_idle_threads },
	{ "producers_and_consumers", producers_and_consumers },
	{ "cancelled_while_busy", cancelled_while_busy },
	{ "malloc_is_no_cancellation_point",
	  malloc_is_no_cancellation_point },
	{ "all_thread_keys_taken", all_thread_keys_taken },
};

CHECK_MAIN(cases)
