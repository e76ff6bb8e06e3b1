/* SPDX-License-Identifier: MIT */
/*
 * The early area (preload/early.c is linked into this program): blocks do not
 * overlap, are zeroed and aligned, and the area fills, says so, and empties.
 */
#include "../api/testing.h"

#include "../../preload/early.h"

#define MAX_BLOCKS	8192	/* more than there is room for */
#define BLOCKS		1200	/* of random sizes: too many at times */

struct block {
	unsigned char	*p;
	size_t		bytes;
	unsigned char	tag;
};

static bool all_are(const unsigned char *p, size_t n, unsigned char value)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] != value)
			return false;
	return true;
}

static void check_fresh(unsigned char *p, size_t bytes, size_t align)
{
	assert_true(early_owns(p));
	assert_true(early_owns(p + (bytes ? bytes - 1 : 0)));
	assert_int_equal((uintptr_t)p % (align < 16 ? 16 : align), 0);
	assert_true(early_usable_bytes(p) >= bytes);
	assert_true(all_are(p, early_usable_bytes(p), 0));
}

static void test_early_sizes_and_alignments(void **state)
{
	size_t done = 0;

	(void)state;
	for (size_t align = 1; align <= 4096; align *= 2)
		for (size_t bytes = 0; bytes <= EARLY_MAX_BYTES;
		     bytes += bytes < 200 ? 7 : 509) {
			unsigned char *p = early_alloc(bytes, align);

			if (!p) {	/* does not fit beside its alignment */
				assert_true(bytes + align > EARLY_MAX_BYTES);
				continue;
			}
			check_fresh(p, bytes, align);
			memset(p, 0xa5, early_usable_bytes(p));
			early_free(p);
			done++;
		}
	assert_true(done > 1000);
	assert_null(early_alloc(EARLY_MAX_BYTES + 1, 16));
	assert_null(early_alloc(SIZE_MAX, 16));
	assert_null(early_alloc(SIZE_MAX - 15, 16));
	assert_null(early_alloc(1, EARLY_MAX_BYTES + 16));
	assert_null(early_alloc(1, (size_t)1 << 63));
	assert_false(early_owns(&done));
	assert_false(early_owns(NULL));
	reached_end();
}

static void test_early_fills_up_and_serves_again(void **state)
{
	static unsigned char *p[MAX_BLOCKS];
	size_t first = 0, n;

	(void)state;
	for (unsigned round = 0; round < 3; round++) {
		for (n = 0; n < MAX_BLOCKS; n++) {
			p[n] = early_alloc(100, 16);
			if (!p[n])
				break;
			check_fresh(p[n], 100, 16);
			memset(p[n], 0x5a, early_usable_bytes(p[n]));
		}
		assert_true(n > 1000 && n < MAX_BLOCKS);
		assert_true(round == 0 || n == first);	/* nothing is lost */
		first = n;
		assert_null(early_alloc(1, 16));
		/* One that is given back is the next one's. */
		early_free(p[n / 2]);
		assert_ptr_equal(early_alloc(100, 16), p[n / 2]);
		while (n--)
			early_free(p[n]);
	}
	reached_end();
}

static void test_early_blocks_never_overlap(void **state)
{
	struct block *b = test_array(BLOCKS, sizeof(*b));
	struct rng r = rng_make(1);
	size_t failures = 0, steps = 0;

	(void)state;
	for (; steps < 20000; steps++) {
		struct block *one = &b[rng_below(&r, BLOCKS)];
		size_t align = 1ul << rng_below(&r, 11);

		if (one->p) {
			assert_true(all_are(one->p, one->bytes, one->tag));
			early_free(one->p);
			one->p = NULL;
			continue;
		}
		one->bytes = rng_below(&r, rng_below(&r, 4) ? 300 :
							EARLY_MAX_BYTES);
		one->p = early_alloc(one->bytes, align);
		one->tag = (unsigned char)rng_next(&r);
		if (!one->p) {
			failures++;
			continue;
		}
		check_fresh(one->p, one->bytes, align);
		memset(one->p, one->tag, one->bytes);
	}
	assert_true(failures > 10);	/* it was full at times */
	for (size_t i = 0; i < BLOCKS; i++)
		if (b[i].p)
			early_free(b[i].p);
	free(b);
	reached_end();
}

static void test_early_realloc_keeps_contents(void **state)
{
	struct rng r = rng_make(2);
	unsigned char *p = early_alloc(10, 16), *to;
	size_t have = 10, refused = 0;

	(void)state;
	memset(p, 0x11, have);
	for (unsigned i = 0; i < 3000; i++) {
		size_t want = rng_below(&r, EARLY_MAX_BYTES + 2000);

		to = early_realloc(p, want);
		if (!to) {
			assert_true(want > EARLY_MAX_BYTES);
			assert_true(all_are(p, have, 0x11));
			refused++;
			continue;
		}
		assert_true(early_usable_bytes(to) >= want);
		assert_true(all_are(to, want < have ? want : have, 0x11));
		memset(to, 0x11, want);
		p = to;
		have = want;
	}
	assert_true(refused > 10);
	early_free(p);
	reached_end();
}

/* Handlers of several threads at once: claims are by compare-and-swap. */

#define THREADS	6

static void *claiming_thread(void *arg)
{
	unsigned char tag = (unsigned char)(uintptr_t)arg;
	unsigned char *p[40];

	for (unsigned round = 0; round < 400; round++) {
		for (size_t i = 0; i < COUNT_OF(p); i++) {
			p[i] = early_alloc(50 + i * 10, 16);
			if (p[i])
				memset(p[i], tag, 50 + i * 10);
		}
		for (size_t i = 0; i < COUNT_OF(p); i++) {
			if (!p[i])
				continue;
			thread_check(all_are(p[i], 50 + i * 10, tag));
			early_free(p[i]);
		}
	}
	return NULL;
}

static void test_early_serves_threads_at_once(void **state)
{
	pthread_t thread[THREADS];

	(void)state;
	for (uintptr_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL,
						claiming_thread,
						(void *)(i + 1)), 0);
	for (size_t i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	assert_threads_ok();
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_early_sizes_and_alignments),
		TEST(test_early_fills_up_and_serves_again),
		TEST(test_early_blocks_never_overlap),
		TEST(test_early_realloc_keeps_contents),
		TEST(test_early_serves_threads_at_once),
	};

	return cmocka_run_group_tests_name("early", tests, NULL, NULL);
}
