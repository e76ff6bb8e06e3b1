/* SPDX-License-Identifier: MIT */
/*
 * Slabs of every class: their objects are distinct, aligned and inside, and
 * nothing else is taken for one.  The calls under test are those that work
 * without a thread's cache.
 */
#include "../api/testing.h"

#include "diagnose.h"
#include "pool.h"

#define MAX_OBJECTS	20000

struct fixture {
	struct pp_pool	pool;
	void		*object[MAX_OBJECTS];
};

static struct fixture *fixture_make(void)
{
	struct pp_config config;
	struct fixture *f = NULL;

	assert_int_equal(posix_memalign((void **)&f, 64, sizeof(*f)), 0);
	memset(f, 0, sizeof(*f));
	config_defaults(&config);
	assert_int_equal(config_set(&config, "limit", "32M"), 0);
	assert_int_equal(pool_init(&f->pool, &config), 0);
	return f;
}

static void fixture_end(struct fixture *f)
{
	assert_int_equal(pp_pool_check(&f->pool), 0);
	assert_int_equal(pool_exit(&f->pool), 0);
	free(f);
}

static void *object_alloc(struct fixture *f, unsigned class)
{
	struct page_result result;

	return slab_alloc_slow(&f->pool.heap, NULL, class, 0, &result);
}

static void object_free(struct fixture *f, void *p)
{
	slab_free_direct(&f->pool.heap, NULL, p, pool_word(&f->pool, p));
}

static void test_slab_classes_grow_by_an_eighth_at_most(void **state)
{
	struct fixture *f = fixture_make();

	(void)state;
	assert_int_equal(slab_class[0].bytes, 16);
	assert_int_equal(slab_class[SLAB_NR_CLASSES - 1].bytes, 16384);
	for (unsigned i = 0; i < SLAB_NR_CLASSES; i++) {
		const struct slab_class *sc = &slab_class[i];

		assert_int_equal(sc->bytes % 16, 0);
		assert_int_equal(sc->nr_objects,
				 sc->nr_pages * 4096u / sc->bytes);
		assert_true(sc->batch >= 1 && sc->cap >= sc->batch);
		if (i >= 8)
			assert_true((sc->bytes - slab_class[i - 1].bytes) * 8
				    <= sc->bytes);
		if (i)
			assert_true(sc->bytes > slab_class[i - 1].bytes);
	}
	fixture_end(f);
	reached_end();
}

/* The right class is the smallest one that is long and aligned enough. */
static unsigned model_class(size_t bytes, size_t align)
{
	unsigned class = 0;

	while (class < SLAB_NR_CLASSES &&
	       (slab_class[class].bytes < bytes ||
		slab_class[class].bytes % align))
		class++;
	return align > 4096 ? SLAB_NR_CLASSES : class;
}

static void test_slab_class_for_is_the_smallest_that_fits(void **state)
{
	struct fixture *f = fixture_make();

	(void)state;
	for (size_t bytes = 0; bytes <= 16400; bytes++)
		for (size_t align = 1; align <= 32768; align *= 2)
			assert_int_equal(slab_class_for(bytes, align),
					 model_class(bytes, align));
	assert_int_equal(slab_class_for(SIZE_MAX, 1), SLAB_NR_CLASSES);
	assert_int_equal(slab_class_for(SIZE_MAX - 14, 16), SLAB_NR_CLASSES);
	assert_int_equal(slab_class_for(1, (size_t)1 << 63), SLAB_NR_CLASSES);
	fixture_end(f);
	reached_end();
}

/* The multiplication against the division that it stands for, to the end of
 * the slab's last page. */
static void check_starts(const struct slab_class *sc, uint16_t nr_carved)
{
	struct slab slab = { .magic = sc->magic, .nr_carved = nr_carved };
	uint32_t end = sc->nr_pages * 4096u, starts = 0;

	for (uint32_t at = 0; at < end; at++) {
		bool is = at % sc->bytes == 0 && at / sc->bytes < nr_carved;

		if (slab_starts_at(&slab, at) != is)
			fail_msg("offset %u of %u bytes", at, sc->bytes);
		starts += is;
	}
	assert_int_equal(starts, nr_carved);
}

static void test_slab_starts_at_is_exact_for_every_offset(void **state)
{
	struct fixture *f = fixture_make();

	(void)state;
	for (unsigned i = 0; i < SLAB_NR_CLASSES; i++) {
		check_starts(&slab_class[i], slab_class[i].nr_objects);
		check_starts(&slab_class[i], slab_class[i].nr_objects / 2);
		check_starts(&slab_class[i], 0);
	}
	fixture_end(f);
	reached_end();
}

static int by_address(const void *a, const void *b)
{
	uintptr_t x = *(const uintptr_t *)a, y = *(const uintptr_t *)b;

	return x < y ? -1 : x > y;
}

/* All of three slabs: apart from each other, aligned, inside their pages. */
static void check_class(struct fixture *f, unsigned class)
{
	uint32_t bytes = slab_class[class].bytes;
	unsigned n = 3u * slab_class[class].nr_objects;
	uint32_t align = bytes & -bytes;

	assert_true(n <= MAX_OBJECTS);
	for (unsigned i = 0; i < n; i++) {
		char *p = f->object[i] = object_alloc(f, class);
		uint32_t word, last;

		assert_non_null(p);
		assert_int_equal((uintptr_t)p & (align - 1) & 4095, 0);
		word = pool_word(&f->pool, p);
		last = pool_word(&f->pool, p + bytes - 1);
		assert_true(word & MAP_SLAB);
		assert_int_equal(word, last);
		assert_int_equal(slab_word_class(word), class);
		memset(p, (int)(i & 127), bytes);
	}
	assert_int_equal(f->pool.heap.bin[class].nr_slabs, 3);
	for (unsigned i = 0; i < n; i++)
		for (unsigned k = 0; k < bytes; k++)
			if (((char *)f->object[i])[k] != (char)(i & 127))
				fail_msg("object %u of class %u", i, class);
	qsort(f->object, n, sizeof(void *), by_address);
	for (unsigned i = 1; i < n; i++)
		assert_true((char *)f->object[i] -
			    (char *)f->object[i - 1] >= (ptrdiff_t)bytes);
	assert_int_equal(slab_verify(&f->pool.heap), 0);
	for (unsigned i = 0; i < n; i++)
		object_free(f, f->object[i]);
	assert_int_equal(f->pool.heap.bin[class].nr_slabs, 0);
}

static void test_slab_objects_of_every_class_are_apart(void **state)
{
	struct fixture *f = fixture_make();

	(void)state;
	for (unsigned i = 0; i < SLAB_NR_CLASSES; i++)
		check_class(f, i);
	fixture_end(f);
	reached_end();
}

/* Random lives; what is free carries its mark, what is live does not. */
static void test_slab_random_lives_leave_no_slab_behind(void **state)
{
	struct fixture *f = fixture_make();
	struct rng r = rng_make(1);
	unsigned live = 0;

	(void)state;
	for (unsigned step = 0; step < 40000; step++) {
		unsigned i = (unsigned)rng_below(&r, 3000), class = i % 48;

		if (f->object[i]) {
			object_free(f, f->object[i]);
			assert_true(*slab_mark_of(f->object[i]) ==
				    slab_mark(f->object[i]) ||
				    !(pool_word(&f->pool, f->object[i]) &
				      MAP_SLAB));
			f->object[i] = NULL;
			live--;
			continue;
		}
		f->object[i] = object_alloc(f, class);
		if (!f->object[i])
			continue;
		live++;
		assert_int_equal(*slab_mark_of(f->object[i]), 0);
		memset(f->object[i], 0x77, slab_class[class].bytes);
		if (step % 4000 == 0)
			assert_int_equal(pp_pool_check(&f->pool), 0);
	}
	assert_true(live > 1000);
	for (unsigned i = 0; i < 3000; i++)
		if (f->object[i])
			object_free(f, f->object[i]);
	for (unsigned i = 0; i < SLAB_NR_CLASSES; i++)
		assert_int_equal(f->pool.heap.bin[i].nr_slabs, 0);
	fixture_end(f);
	reached_end();
}

/* The checks themselves */

static void test_slab_verify_names_what_is_broken(void **state)
{
	struct fixture *f = fixture_make();
	void *a = object_alloc(f, 5), *b = object_alloc(f, 5), *first;
	struct slab_heap *heap = &f->pool.heap;
	struct slab *slab = slab_at(&f->pool.span,
			slab_word_number(pool_word(&f->pool, a)));
	_Atomic uint32_t *word = &f->pool.span.map[slab->page + 1];
	uint32_t was = load_relaxed(word);

	(void)state;
	object_free(f, a);
	first = slab->free;
	assert_int_equal(slab_verify(heap), 0);
	slab->nr_free++;
	assert_int_equal(slab_verify(heap), 1);
	slab->nr_free--;
	slab->free = NULL;
	assert_int_equal(slab_verify(heap), 1);
	slab->free = first;
	store_relaxed(&slab->nr_carved, 0);
	assert_int_equal(slab_verify(heap), 2);
	slab->nr_free = 0;
	slab->free = NULL;
	assert_int_equal(slab_verify(heap), 4);
	slab->nr_free = 1;
	slab->free = first;
	store_relaxed(&slab->nr_carved, 2);
	store_relaxed(word, was + 64);
	assert_int_equal(slab_verify(heap), 5);
	store_relaxed(word, was);
	assert_int_equal(slab_verify(heap), 0);
	/* A chain without an object, and bytes without a chain. */
	slab_bin_at(heap, 5)->nr_chains = 1;
	assert_int_equal(slab_verify(heap), 6);
	slab_bin_at(heap, 5)->nr_chains = 0;
	slab_bin_at(heap, 5)->depot_bytes = 96;
	assert_int_equal(slab_verify(heap), 6);
	slab_bin_at(heap, 5)->depot_bytes = 0;
	assert_int_equal(slab_verify(heap), 0);
	object_free(f, b);
	fixture_end(f);
	reached_end();
}

/* Through the thread's magazine. */
static void thread_free(struct fixture *f, void *p)
{
	struct pcp *pcp = pool_enter(&f->pool);

	assert_non_null(pcp);
	pool_free(&f->pool, pcp, p, pool_word(&f->pool, p));
	pool_leave(pcp);
}

/* A thread that has more than its share, for there are more threads now, gives
 * all back when its magazine overflows.  To the depot, where what came last is
 * taken first, goes nothing that is empty. */
static void test_slab_overflow_beyond_the_share_leaves_no_chain(void **state)
{
	struct fixture *f = fixture_make();
	struct pp_pool *pool = &f->pool;
	struct slab_bin *bin = slab_bin_at(&pool->heap, 20);
	unsigned n = slab_class[20].batch * 3;
	struct magazine *m;
	struct pcp *pcp;

	(void)state;
	for (unsigned i = 0; i < n; i++)
		assert_non_null(f->object[i] = object_alloc(f, 20));
	thread_free(f, f->object[--n]);
	pcp = pcp_find(&pool->registry);
	m = &pcp->small[20];
	/* Until one more would have it grow. */
	while (m->room || !m->max)
		thread_free(f, f->object[--n]);
	assert_in_range(m->max + slab_class[20].batch, 1, slab_class[20].cap);
	add_relaxed(&pool->zones->nr_caches, 100000);
	thread_free(f, f->object[--n]);
	assert_int_equal(load_relaxed(&pcp->granted_bytes), 0);
	assert_int_equal(bin->nr_chains, 0);
	assert_int_equal(pp_pool_check(pool), 0);
	sub_relaxed(&pool->zones->nr_caches, 100000);
	while (n)
		thread_free(f, f->object[--n]);
	assert_int_equal(pp_pool_drain(pool), 0);
	assert_int_equal(slab_depot_bytes(&pool->heap), 0);
	fixture_end(f);
	reached_end();
}

/* In the middle of a flush the thread has things in hand. */
static void (*flush_small)(struct pcp *pcp, unsigned class, uint32_t keep);
static unsigned flush_depth, flush_deepest;

static void flush_and_count(struct pcp *pcp, unsigned class, uint32_t keep)
{
	if (++flush_depth > flush_deepest)
		flush_deepest = flush_depth;
	flush_small(pcp, class, keep);
	flush_depth--;
}

/* Slabs that end in it find no place in the thread's cache of runs, which may
 * have nothing any more: that is no reason to begin another. */
static void test_slab_flush_beyond_the_share_is_one(void **state)
{
	struct fixture *f = fixture_make();
	struct pp_pool *pool = &f->pool;
	unsigned n = 0;

	(void)state;
	for (unsigned class = 0; class < SLAB_NR_CLASSES; class += 4)
		for (unsigned i = 0; i < slab_class[class].batch * 2; i++)
			f->object[n++] = object_alloc(f, class);
	while (n)
		thread_free(f, f->object[--n]);
	flush_small = pool->registry.flush_small;
	pool->registry.flush_small = flush_and_count;
	add_relaxed(&pool->zones->nr_caches, 100000);
	assert_int_equal(pp_pool_drain(pool), 0);
	assert_int_equal(flush_deepest, 1);
	sub_relaxed(&pool->zones->nr_caches, 100000);
	fixture_end(f);
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_slab_classes_grow_by_an_eighth_at_most),
		TEST(test_slab_class_for_is_the_smallest_that_fits),
		TEST(test_slab_starts_at_is_exact_for_every_offset),
		TEST(test_slab_objects_of_every_class_are_apart),
		TEST(test_slab_random_lives_leave_no_slab_behind),
		TEST(test_slab_verify_names_what_is_broken),
		TEST(test_slab_overflow_beyond_the_share_leaves_no_chain),
		TEST(test_slab_flush_beyond_the_share_is_one),
	};

	return cmocka_run_group_tests_name("slab", tests, NULL, NULL);
}
