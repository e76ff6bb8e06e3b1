/* SPDX-License-Identifier: MIT */
/* Objects of one size: every size and alignment, at the limit, and wrongly. */
#include "testing.h"

#include <sched.h>

#include <pagepool/cache.h>

struct object {
	unsigned char	*p;
	size_t		tag;
};

static struct pp_cache *cache_make(struct pp_pool *pool, size_t bytes,
				   size_t align)
{
	struct pp_cache *cache = NULL;

	assert_int_equal(pp_cache_create(pool, "test", bytes, align, &cache),
			 0);
	assert_non_null(cache);
	return cache;
}

static void fill_object(unsigned char *p, size_t bytes, size_t tag)
{
	memset(p, (int)(tag * 31 + 7) & 0xff, bytes);
}

static bool object_is(const unsigned char *p, size_t bytes, size_t tag)
{
	unsigned char want = (unsigned char)(tag * 31 + 7);

	for (size_t i = 0; i < bytes; i++)
		if (p[i] != want)
			return false;
	return true;
}

static void test_cache_arguments_are_checked(void **state)
{
	struct pp_pool *pool = pool_make("16M");
	struct pp_cache *cache = NULL;

	(void)state;
	assert_int_equal(pp_cache_create(NULL, "x", 1, 0, &cache), -EINVAL);
	assert_int_equal(pp_cache_create(pool, NULL, 1, 0, &cache), -EINVAL);
	assert_int_equal(pp_cache_create(pool, "x", 1, 0, NULL), -EINVAL);
	assert_int_equal(pp_cache_create(pool, "x", 0, 0, &cache), -EINVAL);
	assert_int_equal(pp_cache_create(pool, "x", 16385, 0, &cache),
			 -EINVAL);
	assert_int_equal(pp_cache_create(pool, "x", SIZE_MAX, 0, &cache),
			 -EINVAL);
	assert_int_equal(pp_cache_create(pool, "x", 8, 3, &cache), -EINVAL);
	assert_int_equal(pp_cache_create(pool, "x", 8, 8192, &cache),
			 -EINVAL);
	assert_int_equal(pp_cache_create(pool,
			 "a name of thirty-two characters!", 8, 0, &cache),
			 -EINVAL);
	assert_null(cache);
	assert_int_equal(pp_cache_create(pool,
			 "a name of thirty-one characters", 8, 0, &cache), 0);
	for (unsigned bit = 12; bit < 32; bit++) {
		errno = 0;
		assert_null(pp_cache_alloc(cache, 1u << bit));
		assert_int_equal(errno, EINVAL);
	}
	pp_cache_free(cache, NULL);
	assert_int_equal(pp_cache_destroy(cache), 0);
	pool_end(pool);
	reached_end();
}

static void check_objects(struct pp_pool *pool, size_t bytes, size_t align)
{
	struct pp_cache *cache = cache_make(pool, bytes, align);
	unsigned char *p[60];

	for (size_t i = 0; i < COUNT_OF(p); i++) {
		p[i] = pp_cache_alloc(cache, i % 2 ? PP_ZERO : 0);
		assert_non_null(p[i]);
		assert_int_equal((uintptr_t)p[i] % (align ? align : 16), 0);
		if (i % 2)
			for (size_t k = 0; k < bytes; k++)
				assert_int_equal(p[i][k], 0);
		fill_object(p[i], bytes, i);
	}
	for (size_t i = 0; i < COUNT_OF(p); i++) {
		assert_true(object_is(p[i], bytes, i));
		pp_cache_free(cache, p[i]);
	}
	assert_int_equal(pp_cache_destroy(cache), 0);
}

static void test_cache_every_size_and_alignment(void **state)
{
	struct pp_pool *pool = pool_make("64M");
	size_t done = 0;

	(void)state;
	for (size_t bytes = 1; bytes <= 16384; bytes += bytes < 300 ? 3 : 397)
		for (size_t align = 0; align <= 4096;
		     align = align ? align * 8 : 1, done++)
			check_objects(pool, bytes, align);
	check_objects(pool, 16384, 4096);
	assert_int_equal(pp_pool_check(pool), 0);
	assert_true(done > 800);
	pool_end(pool);
	reached_end();
}

/* What is left in an object that nobody writes to is no sign of a free one. */
static void test_cache_untouched_objects_can_be_freed_again(void **state)
{
	static const size_t sizes[] = { 16, 100, 1000, 16384 };
	struct pp_pool *pool = pool_make("16M");
	void *p[200];

	(void)state;
	for (size_t i = 0; i < COUNT_OF(sizes); i++) {
		struct pp_cache *cache = cache_make(pool, sizes[i], 0);

		for (unsigned round = 0; round < 4; round++) {
			/* One by one, and all together. */
			for (size_t k = 0; k < COUNT_OF(p); k++)
				pp_cache_free(cache, pp_cache_alloc(cache, 0));
			for (size_t k = 0; k < COUNT_OF(p); k++)
				p[k] = pp_cache_alloc(cache, 0);
			for (size_t k = 0; k < COUNT_OF(p); k++)
				pp_cache_free(cache, p[k]);
		}
		assert_int_equal(pp_cache_destroy(cache), 0);
	}
	pool_end(pool);
	reached_end();
}

static void test_cache_destroy_is_busy_while_objects_are_out(void **state)
{
	struct pp_pool *pool = pool_make("16M");
	struct pp_cache *cache = cache_make(pool, 100, 0);
	void *p = pp_cache_alloc(cache, 0);

	(void)state;
	assert_int_equal(pp_cache_destroy(cache), -EBUSY);
	assert_int_equal(pp_pool_destroy(pool), -EBUSY);
	pp_cache_free(cache, p);
	assert_int_equal(pp_pool_destroy(pool), -EBUSY);	/* the cache */
	assert_int_equal(pp_cache_destroy(cache), 0);
	pool_end(pool);
	reached_end();
}

static void test_caches_of_one_size_share_slabs_and_not_counts(void **state)
{
	struct pp_pool *pool = pool_make("16M");
	struct pp_cache *a = cache_make(pool, 100, 0);
	struct pp_cache *b = cache_make(pool, 112, 0);
	void *in_a = pp_cache_alloc(a, 0), *in_b = pp_cache_alloc(b, 0);

	(void)state;
	assert_non_null(in_a);
	assert_non_null(in_b);
	pp_cache_free(b, in_b);
	assert_int_equal(pp_cache_destroy(b), 0);
	assert_int_equal(pp_cache_destroy(a), -EBUSY);
	pp_cache_free(a, in_a);
	assert_int_equal(pp_cache_destroy(a), 0);
	pool_end(pool);
	reached_end();
}

/* P4: what one size leaves, another can have at once, and so can runs. */
static void test_cache_sizes_follow_each_other_at_the_limit(void **state)
{
	static const size_t sizes[] = { 16, 16384, 48, 5000, 1024, 208, 64 };
	struct pp_pool *pool = pool_make_one_zone("8M");
	size_t max = 8u << 20, n;
	void **p = test_array(max / 16, sizeof(*p));

	(void)state;
	for (size_t i = 0; i < COUNT_OF(sizes); i++) {
		struct pp_cache *cache = cache_make(pool, sizes[i], 0);

		for (n = 0; n < max / 16; n++) {
			p[n] = pp_cache_alloc(cache, PP_NOWARN);
			if (!p[n])
				break;
			fill_object(p[n], sizes[i], n);
		}
		assert_int_equal(errno, ENOMEM);
		/* All but the reserve and a slab's end, in objects. */
		assert_true(n * sizes[i] > max * 8 / 10);
		assert_int_equal(pp_pool_check(pool), 0);
		while (n--) {
			assert_true(object_is(p[n], sizes[i], n));
			pp_cache_free(cache, p[n]);
		}
		assert_int_equal(pp_cache_destroy(cache), 0);
		assert_int_equal(pp_pool_check(pool), 0);
	}
	p[0] = pp_alloc_pages(pool, 1700, 0);
	assert_non_null(p[0]);
	pp_free_pages(pool, p[0]);
	free(p);
	pool_end(pool);
	reached_end();
}

static void test_cache_random_lives_keep_their_contents(void **state)
{
	static const size_t sizes[] = { 24, 100, 640, 3000, 9000 };
	struct pp_pool *pool = pool_make("16M");
	struct pp_cache *cache[COUNT_OF(sizes)];
	struct rng r = rng_make(1);
	struct object *o = test_array(4000, sizeof(*o));
	size_t failures = 0;

	(void)state;
	for (size_t i = 0; i < COUNT_OF(sizes); i++)
		cache[i] = cache_make(pool, sizes[i], 0);
	for (size_t step = 1; step < 60000; step++) {
		size_t i = rng_below(&r, 4000), c = i % COUNT_OF(sizes);

		if (o[i].p) {
			assert_true(object_is(o[i].p, sizes[c], o[i].tag));
			pp_cache_free(cache[c], o[i].p);
			o[i].p = NULL;
			continue;
		}
		o[i].p = pp_cache_alloc(cache[c], PP_NOWARN);
		o[i].tag = step;
		if (o[i].p)
			fill_object(o[i].p, sizes[c], step);
		else
			failures++;
		if (step % 5000 == 0)
			assert_int_equal(pp_pool_check(pool), 0);
	}
	print_message("# %zu failures\n", failures);
	for (size_t i = 0; i < 4000; i++)
		pp_cache_free(cache[i % COUNT_OF(sizes)], o[i].p);
	for (size_t i = 0; i < COUNT_OF(sizes); i++)
		assert_int_equal(pp_cache_destroy(cache[i]), 0);
	free(o);
	pool_end(pool);
	reached_end();
}

/* What is freed here and there of full slabs is used before new pages are. */
static void test_cache_holes_of_full_slabs_are_used_again(void **state)
{
	struct pp_pool *pool = pool_make("16M");
	struct pp_cache *cache = cache_make(pool, 320, 0);
	static void *p[20000];
	int64_t full;

	(void)state;
	for (size_t i = 0; i < COUNT_OF(p); i++) {
		p[i] = pp_cache_alloc(cache, 0);
		assert_non_null(p[i]);
	}
	full = pool_stats(pool).used_pages;
	for (unsigned round = 0; round < 3; round++) {
		for (size_t i = round; i < COUNT_OF(p); i += 3)
			pp_cache_free(cache, p[i]);
		for (size_t i = round; i < COUNT_OF(p); i += 3) {
			p[i] = pp_cache_alloc(cache, 0);
			assert_non_null(p[i]);
		}
		assert_true(pool_stats(pool).used_pages <= full + 24);
	}
	for (size_t i = 0; i < COUNT_OF(p); i++)
		pp_cache_free(cache, p[i]);
	assert_int_equal(pp_cache_destroy(cache), 0);
	pool_end(pool);
	reached_end();
}

/* One thread allocates, the other frees. */

struct hand_over {
	struct pp_cache		*cache;
	_Atomic(void *)		slot[64];
	size_t			count;
};

static void *freeing_thread(void *arg)
{
	struct hand_over *h = arg;
	size_t done = 0;

	while (done < h->count) {
		size_t before = done;

		for (size_t i = 0; i < COUNT_OF(h->slot); i++) {
			void *p = atomic_exchange(&h->slot[i], NULL);

			if (!p)
				continue;
			thread_check(object_is(p, 200, 3));
			pp_cache_free(h->cache, p);
			done++;
		}
		if (done == before)
			sched_yield();
	}
	return NULL;
}

static void test_cache_objects_may_be_freed_by_others(void **state)
{
	struct pp_pool *pool = pool_make("16M");
	struct hand_over h = { .cache = cache_make(pool, 200, 0),
			       .count = TEST_SANITIZED ? 20000 : 200000 };
	pthread_t thread;
	size_t i = 0;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, freeing_thread, &h),
			 0);
	for (size_t n = 0; n < h.count; n++) {
		void *p = pp_cache_alloc(h.cache, 0), *none = NULL;

		assert_non_null(p);
		fill_object(p, 200, 3);
		do {
			i = (i + 1) % COUNT_OF(h.slot);
			if (none && i == 0)
				sched_yield();
			none = NULL;
		} while (!atomic_compare_exchange_strong(&h.slot[i], &none,
							 p));
	}
	pthread_join(thread, NULL);
	assert_threads_ok();
	assert_int_equal(pp_cache_destroy(h.cache), 0);
	pool_end(pool);
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_cache_arguments_are_checked),
		TEST(test_cache_every_size_and_alignment),
		TEST(test_cache_untouched_objects_can_be_freed_again),
		TEST(test_cache_destroy_is_busy_while_objects_are_out),
		TEST(test_caches_of_one_size_share_slabs_and_not_counts),
		TEST(test_cache_sizes_follow_each_other_at_the_limit),
		TEST(test_cache_random_lives_keep_their_contents),
		TEST(test_cache_holes_of_full_slabs_are_used_again),
		TEST(test_cache_objects_may_be_freed_by_others),
	};

	test_clear_environment();
	return cmocka_run_group_tests_name("cache", tests, NULL, NULL);
}
