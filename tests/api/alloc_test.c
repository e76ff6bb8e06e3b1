/* SPDX-License-Identifier: MIT */
/* Every way to get, change and give back a run, and every wrong one. */
#include "testing.h"

/* Each page of a run says which run and page it is. */
static void stamp(void *run, size_t from, size_t to, uint64_t id)
{
	for (size_t i = from; i < to; i++) {
		uint64_t *page = (uint64_t *)run + i * 512;

		page[0] = id << 32 | i;
		page[511] = ~page[0];
	}
}

static bool has_stamp(const void *run, size_t from, size_t to, uint64_t id)
{
	for (size_t i = from; i < to; i++) {
		const uint64_t *page = (const uint64_t *)run + i * 512;

		if (page[0] != (id << 32 | i) || page[511] != ~page[0])
			return false;
	}
	return true;
}

static bool is_zero(const void *run, size_t from, size_t to)
{
	const uint64_t *word = run;

	for (size_t i = from * 512; i < to * 512; i++)
		if (word[i])
			return false;
	return true;
}

static void expect_refusal(void *run, int err)
{
	assert_null(run);
	assert_int_equal(errno, err);
	errno = 0;
}

static void test_alloc_wrong_arguments_are_refused(void **state)
{
	struct pp_pool *pool = pool_make("32M");
	void *run = pp_alloc_pages(pool, 1, 0);

	(void)state;
	expect_refusal(pp_alloc_pages(pool, 0, 0), EINVAL);
	expect_refusal(pp_alloc_pages(NULL, 1, 0), EINVAL);
	for (unsigned bit = 12; bit < 32; bit++)
		expect_refusal(pp_alloc_pages(pool, 1, 1u << bit), EINVAL);
	expect_refusal(pp_alloc_pages(pool, 1, PP_NOFAIL | PP_NOWAIT), EINVAL);
	expect_refusal(pp_alloc_aligned(pool, 1, 0, 0), EINVAL);
	expect_refusal(pp_alloc_aligned(pool, 1, 3, 0), EINVAL);
	expect_refusal(pp_alloc_aligned(pool, 1, SIZE_MAX, 0), EINVAL);
	expect_refusal(pp_realloc_pages(pool, run, 0, 0), EINVAL);
	expect_refusal(pp_realloc_pages(pool, run, 1, 0x8000), EINVAL);
	expect_refusal(pp_realloc_pages(pool, NULL, 0, 0), EINVAL);
	pp_free_pages(pool, NULL);
	pp_free_pages(pool, run);
	pool_end(pool);
	reached_end();
}

static void test_alloc_every_flag_is_taken(void **state)
{
	struct pp_pool *pool = pool_make("32M");
	unsigned combinations = 0;

	(void)state;
	for (unsigned flags = 0; flags < 0x1000; flags++) {
		size_t n = 1 + flags % 0x400;
		void *run;

		if (flags & PP_NOFAIL && flags & PP_NOWAIT)
			continue;
		run = pp_alloc_pages(pool, n, flags);
		assert_non_null(run);
		if (flags & PP_ZERO)
			assert_true(is_zero(run, 0, n));
		stamp(run, 0, n, flags);
		pp_free_pages(pool, run);
		combinations++;
	}
	assert_int_equal(combinations, 4096 - 1024);
	pool_end(pool);
	reached_end();
}

static void test_alloc_too_big_fails_at_once_and_loses_nothing(void **state)
{
	static const size_t sizes[] = {
		8192, 8193, 1ul << 20, (1ul << 28) - 1, 1ul << 28, 1ul << 32,
		1ul << 40, SIZE_MAX / 4096, SIZE_MAX / 4096 + 1, SIZE_MAX - 1,
		SIZE_MAX,
	};
	struct pp_pool *pool = pool_make("32M");
	struct pp_stats before, after;
	void *run = pp_alloc_pages(pool, 1, 0), *same;

	(void)state;
	stamp(run, 0, 1, 7);
	before = pool_stats(pool);
	for (size_t i = 0; i < COUNT_OF(sizes); i++) {
		expect_refusal(pp_alloc_pages(pool, sizes[i], PP_NOWARN),
			       ENOMEM);
		expect_refusal(pp_alloc_aligned(pool, sizes[i], 512,
						PP_NOWARN), ENOMEM);
		same = pp_realloc_pages(pool, run, sizes[i], PP_NOWARN);
		expect_refusal(same, ENOMEM);
	}
	expect_refusal(pp_alloc_aligned(pool, 1, 1ul << 51, PP_NOWARN),
		       ENOMEM);
	assert_true(has_stamp(run, 0, 1, 7));
	after = pool_stats(pool);
	assert_int_equal(after.used_pages, before.used_pages);
	assert_true(after.failures >= before.failures + 2 *
		    (int64_t)COUNT_OF(sizes));
	pp_free_pages(pool, run);
	pool_end(pool);
	reached_end();
}

static void test_alloc_run_pages_covers_every_length(void **state)
{
	struct pp_pool *pool = pool_make("64M");
	size_t n;

	(void)state;
	for (n = 1; n <= 3000; n++) {
		void *run = pp_alloc_pages(pool, n, 0);

		assert_non_null(run);
		assert_int_equal((uintptr_t)run % PAGE, 0);
		/* A cached run may be an eighth longer. */
		assert_true(pp_run_pages(pool, run) >= n);
		assert_true(pp_run_pages(pool, run) <= n + n / 8);
		if (n <= 256)
			assert_int_equal(pp_run_pages(pool, run),
					 run_length(n));
		stamp(run, 0, pp_run_pages(pool, run), n);
		pp_free_pages(pool, run);
	}
	assert_int_equal(n, 3001);
	pool_end(pool);
	reached_end();
}

static void test_alloc_aligned_to_a_gibibyte(void **state)
{
	static const size_t lengths[] = { 1, 3, 16, 17, 511, 512, 513, 1500 };
	struct pp_pool *pool = pool_make("32M");
	unsigned done = 0;

	(void)state;
	for (size_t align = 1; align <= 262144; align *= 2)
		for (size_t i = 0; i < COUNT_OF(lengths); i++, done++) {
			void *odd = pp_alloc_pages(pool, 1, 0);
			void *run = pp_alloc_aligned(pool, lengths[i], align,
						     0);

			assert_non_null(odd);
			assert_non_null(run);
			assert_int_equal((uintptr_t)run % (align * PAGE), 0);
			assert_true(pp_run_pages(pool, run) >= lengths[i]);
			stamp(run, 0, lengths[i], align);
			assert_true(has_stamp(run, 0, lengths[i], align));
			pp_free_pages(pool, run);
			pp_free_pages(pool, odd);
		}
	assert_int_equal(done, 19 * COUNT_OF(lengths));
	pool_end(pool);
	reached_end();
}

static void test_alloc_bulk_gives_what_there_is(void **state)
{
	struct pp_pool *pool = pool_make("16M");
	void *run[5000];
	size_t n, again;

	(void)state;
	assert_int_equal(pp_alloc_bulk(pool, 0, 1, run, 0), 0);
	assert_int_equal(pp_alloc_bulk(pool, 100, 3, run, 0), 100);
	for (size_t i = 0; i < 100; i++)
		stamp(run[i], 0, 3, i);
	for (size_t i = 0; i < 100; i++)
		assert_true(has_stamp(run[i], 0, 3, i));
	pp_free_bulk(pool, 100, run);
	errno = 0;
	assert_int_equal(pp_alloc_bulk(pool, 10, 0, run, 0), 0);
	assert_int_equal(errno, EINVAL);
	n = pp_alloc_bulk(pool, COUNT_OF(run), 1, run, PP_NOWARN);
	assert_int_equal(errno, ENOMEM);
	assert_true(n > 3000 && n < 4096);
	run[0] = (pp_free_pages(pool, run[0]), NULL);
	errno = 0;
	pp_free_bulk(pool, n, run);	/* with a NULL among them */
	assert_int_equal(errno, 0);
	again = pp_alloc_bulk(pool, COUNT_OF(run), 1, run, PP_NOWARN);
	assert_int_equal(again, n);
	pp_free_bulk(pool, n, run);
	pool_end(pool);
	reached_end();
}

static void test_alloc_zero_reads_as_zeroes_after_reuse(void **state)
{
	struct pp_pool *pool = pool_make_one_zone("16M");
	struct rng r = rng_make(1);
	size_t rounds = 0;

	(void)state;
	for (; rounds < 3000; rounds++) {
		size_t n = 1 + rng_below(&r, rng_below(&r, 8) ? 40 : 1500);
		void *run = pp_alloc_pages(pool, n, rounds % 2 ? PP_ZERO : 0);

		assert_non_null(run);
		if (rounds % 2)
			assert_true(is_zero(run, 0, n));
		memset(run, 0xee, n * PAGE);
		pp_free_pages(pool, run);
	}
	assert_int_equal(rounds, 3000);
	pool_end(pool);
	reached_end();
}

static void test_realloc_in_place_where_pages_are_free(void **state)
{
	struct pp_pool *pool = pool_make("64M");
	void *run = pp_alloc_pages(pool, 1000, 0);

	(void)state;
	stamp(run, 0, 1000, 1);
	assert_ptr_equal(pp_realloc_pages(pool, run, 1024, 0), run);
	assert_int_equal(pp_run_pages(pool, run), 1024);
	stamp(run, 1000, 1024, 1);
	assert_ptr_equal(pp_realloc_pages(pool, run, 300, 0), run);
	assert_int_equal(pp_run_pages(pool, run), 300);
	assert_true(has_stamp(run, 0, 300, 1));
	assert_ptr_equal(pp_realloc_pages(pool, run, 5, 0), run);
	assert_int_equal(pp_run_pages(pool, run), 5);
	assert_true(has_stamp(run, 0, 5, 1));
	assert_int_equal(pool_stats(pool).used_pages >= 5, 1);
	pp_free_pages(pool, run);
	pool_end(pool);
	reached_end();
}

/* A page right behind the run, so that it has to go elsewhere. */
static void test_realloc_moves_and_copies_with_the_contents(void **state)
{
	static const size_t lengths[] = { 1, 5, 40, 256, 400, 512, 600, 2000 };
	struct pp_pool *pool = pool_make_one_zone("64M");
	unsigned moved = 0;

	(void)state;
	for (size_t i = 0; i < COUNT_OF(lengths); i++) {
		size_t n = lengths[i], more = n * 2 + 7;
		void *run = pp_alloc_pages(pool, n, 0), *wall, *to;

		stamp(run, 0, n, i);
		wall = pp_alloc_pages(pool, 1, 0);
		stamp(wall, 0, 1, 99);
		to = pp_realloc_pages(pool, run, more, PP_ZERO);
		assert_non_null(to);
		moved += to != run;
		assert_true(has_stamp(to, 0, n, i));
		assert_true(is_zero(to, run_length(n), more));
		assert_true(pp_run_pages(pool, to) >= more);
		stamp(to, n, more, i);
		assert_true(has_stamp(wall, 0, 1, 99));
		/* Again, and back: what was moved once too. */
		to = pp_realloc_pages(pool, to, more + 700, 0);
		assert_non_null(to);
		assert_true(has_stamp(to, 0, more, i));
		to = pp_realloc_pages(pool, to, n, 0);
		assert_non_null(to);
		assert_true(has_stamp(to, 0, n, i));
		pp_free_pages(pool, to);
		pp_free_pages(pool, wall);
		assert_int_equal(pp_pool_check(pool), 0);
	}
	assert_true(moved > 0);
	pool_end(pool);
	reached_end();
}

static void test_realloc_random_walk_keeps_contents(void **state)
{
	struct pp_pool *pool = pool_make("24M");
	struct rng r = rng_make(2);
	void *run[20] = { NULL };
	size_t len[20] = { 0 }, moves = 0, failures = 0;
	const size_t load = test_load(4000, 1000);

	(void)state;
	for (size_t step = 0; step < load; step++) {
		size_t i = rng_below(&r, COUNT_OF(run));
		size_t n = 1 + rng_below(&r, rng_below(&r, 3) ? 60 : 1400);
		void *to = pp_realloc_pages(pool, run[i], n,
					    PP_NOWARN |
					    (step & 1 ? PP_ZERO : 0));

		if (!to) {
			assert_int_equal(errno, ENOMEM);
			assert_true(n > len[i]);
			assert_true(has_stamp(run[i], 0, len[i], i));
			pp_free_pages(pool, run[i]);
			run[i] = NULL;
			len[i] = 0;
			failures++;
			continue;
		}
		moves += run[i] && to != run[i];
		assert_true(has_stamp(to, 0, n < len[i] ? n : len[i], i));
		if (step & 1 && !run[i])
			assert_true(is_zero(to, 0, pp_run_pages(pool, to)));
		stamp(to, 0, n, i);
		run[i] = to;
		len[i] = n;
		if (step % 200 == 0)
			assert_int_equal(pp_pool_check(pool), 0);
	}
	assert_true(moves > 100 && failures > 5);
	pp_free_bulk(pool, COUNT_OF(run), run);
	pool_end(pool);
	reached_end();
}

/* Fills the pool to the floor; all runs are linked in one chain. */
static void *fill(struct pp_pool *pool)
{
	void *chain = NULL, *run;

	while ((run = pp_alloc_pages(pool, 1, PP_NOWARN))) {
		*(void **)run = chain;
		chain = run;
	}
	return chain;
}

static void free_chain(struct pp_pool *pool, void *chain)
{
	while (chain) {
		void *next = *(void **)chain;

		pp_free_pages(pool, chain);
		chain = next;
	}
}

static void shrink_at_the_limit(struct pp_pool *pool, void *run, size_t n)
{
	void *chain;

	stamp(run, 0, n, 1);
	chain = fill(pool);
	for (n--; n; n = n * 2 / 3) {
		run = pp_realloc_pages(pool, run, n, PP_NOWARN);
		assert_non_null(run);
		assert_true(has_stamp(run, 0, n, 1));
	}
	pp_free_pages(pool, run);
	free_chain(pool, chain);
	assert_int_equal(pp_pool_check(pool), 0);
}

static void test_realloc_to_less_never_fails_at_the_limit(void **state)
{
	static const size_t lengths[] = { 19, 20, 300, 700, 1400 };
	struct pp_pool *pool = pool_make("24M");

	(void)state;
	for (size_t i = 0; i < COUNT_OF(lengths); i++)
		shrink_at_the_limit(pool, pp_alloc_pages(pool, lengths[i], 0),
				    lengths[i]);
	pool_end(pool);
	reached_end();
}

/* The same for a run whose memory has been moved to it. */
static void test_realloc_moved_to_less_never_fails_at_the_limit(void **state)
{
	struct pp_pool *pool = pool_make_one_zone("24M");
	void *run, *wall, *to;

	(void)state;
	run = pp_alloc_pages(pool, 1024, 0);
	wall = pp_alloc_pages(pool, 512, 0);	/* right behind it */
	stamp(run, 0, 1024, 1);
	to = pp_realloc_pages(pool, run, 1600, 0);
	assert_non_null(to);
	assert_ptr_not_equal(to, run);
	assert_true(has_stamp(to, 0, 1024, 1));
	shrink_at_the_limit(pool, to, 1600);
	pp_free_pages(pool, wall);
	pool_end(pool);
	reached_end();
}

/* At the limit a request may get its exact, odd length. */
static void test_realloc_to_the_same_length_never_fails(void **state)
{
	struct pp_pool *pool = pool_make_one_zone("16M");
	void *chain, *next, *run = NULL;
	size_t freed = 0;

	(void)state;
	chain = fill(pool);
	for (; freed < 19; freed++, chain = next) {
		next = *(void **)chain;
		pp_free_pages(pool, chain);
	}
	run = pp_alloc_pages(pool, 19, PP_NOWARN);	/* 20: no */
	assert_non_null(run);
	assert_int_equal(pp_run_pages(pool, run), 19);
	stamp(run, 0, 19, 5);
	run = pp_realloc_pages(pool, run, 19, PP_NOWARN);
	assert_non_null(run);
	run = pp_realloc_pages(pool, run, 18, PP_NOWARN);
	assert_non_null(run);
	assert_true(has_stamp(run, 0, 18, 5));
	pp_free_pages(pool, run);
	free_chain(pool, chain);
	pool_end(pool);
	reached_end();
}

static void test_success_and_free_keep_errno(void **state)
{
	struct pp_pool *pool = pool_make_one_zone("16M");
	struct rng r = rng_make(3);
	size_t rounds = 0;
	void *chain;

	(void)state;
	for (; rounds < 500; rounds++) {
		void *run;

		errno = ERANGE;
		run = pp_alloc_pages(pool, 1 + rng_below(&r, 1000), 0);
		assert_non_null(run);
		assert_int_equal(errno, ERANGE);
		run = pp_realloc_pages(pool, run, 1 + rng_below(&r, 1000), 0);
		assert_non_null(run);
		assert_int_equal(errno, ERANGE);
		pp_free_pages(pool, run);
		assert_int_equal(errno, ERANGE);
	}
	assert_int_equal(rounds, 500);
	chain = fill(pool);
	errno = EDOM;
	free_chain(pool, chain);
	assert_int_equal(errno, EDOM);
	pool_end(pool);
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_alloc_wrong_arguments_are_refused),
		TEST(test_alloc_every_flag_is_taken),
		TEST(test_alloc_too_big_fails_at_once_and_loses_nothing),
		TEST(test_alloc_run_pages_covers_every_length),
		TEST(test_alloc_aligned_to_a_gibibyte),
		TEST(test_alloc_bulk_gives_what_there_is),
		TEST(test_alloc_zero_reads_as_zeroes_after_reuse),
		TEST(test_realloc_in_place_where_pages_are_free),
		TEST(test_realloc_moves_and_copies_with_the_contents),
		TEST(test_realloc_random_walk_keeps_contents),
		TEST(test_realloc_to_less_never_fails_at_the_limit),
		TEST(test_realloc_moved_to_less_never_fails_at_the_limit),
		TEST(test_realloc_to_the_same_length_never_fails),
		TEST(test_success_and_free_keep_errno),
	};

	test_clear_environment();
	return cmocka_run_group_tests_name("alloc", tests, NULL, NULL);
}
