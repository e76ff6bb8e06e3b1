/* SPDX-License-Identifier: MIT */
/*
 * Extents: a part that was given back is free for others at once, whatever
 * becomes of the rest; contents stay where nothing was given back.  Against a
 * model: an array of parts.
 */
#include "../api/testing.h"

#include "extent.h"

#define LIMIT		"64M"
#define MAX_PARTS	512
#define ROUNDS		4000
/* Longer than a block, so that cuts fall into several. */
#define LONG_PAGES	1500
/* What tables for more blocks than the limit covers may take here. */
#define TABLE_PAGES	32

struct part {
	char	*at;
	size_t	nr_pages;
	char	mark;
};

struct model {
	struct pp_pool	*pool;
	struct part	part[MAX_PARTS];
	size_t		nr;
	size_t		nr_pages;
	struct rng	rng;
};

/* The first and the last word of each page. */
static void part_mark(struct part *p)
{
	for (size_t i = 0; i < p->nr_pages; i++) {
		p->at[i * PAGE] = p->mark;
		p->at[(i + 1) * PAGE - 1] = p->mark;
	}
}

static void part_check(const struct part *p)
{
	for (size_t i = 0; i < p->nr_pages; i++) {
		assert_int_equal(p->at[i * PAGE], p->mark);
		assert_int_equal(p->at[(i + 1) * PAGE - 1], p->mark);
	}
}

static void model_alloc(struct model *m, size_t nr_pages, size_t align_pages)
{
	struct part *p = &m->part[m->nr];
	bool zeroed;

	p->at = pagepool_extent_alloc(m->pool, nr_pages, align_pages, PP_ZERO,
				      &zeroed);
	if (!p->at)
		return;
	assert_true(zeroed);
	assert_int_equal((uintptr_t)p->at % (align_pages * PAGE), 0);
	p->nr_pages = nr_pages;
	p->mark = 0;
	part_check(p);
	p->mark = (char)(1 + rng_below(&m->rng, 100));
	part_mark(p);
	m->nr++;
	m->nr_pages += nr_pages;
}

static void model_free(struct model *m, size_t i)
{
	struct part *p = &m->part[i];

	part_check(p);
	assert_true(pagepool_extent_free(m->pool, p->at, p->nr_pages));
	m->nr_pages -= p->nr_pages;
	*p = m->part[--m->nr];
}

static void model_cut(struct model *m, size_t i)
{
	struct part *p = &m->part[i], *rest = &m->part[m->nr];
	size_t keep;

	if (p->nr_pages < 2)
		return;
	keep = 1 + rng_below(&m->rng, p->nr_pages - 1);
	pagepool_extent_cut(m->pool, p->at, keep);
	*rest = *p;
	rest->at += keep * PAGE;
	rest->nr_pages -= keep;
	p->nr_pages = keep;
	m->nr++;
}

/* Joins part @i with the one behind it, if there is one. */
static void model_join(struct model *m, size_t i)
{
	char *end = m->part[i].at + m->part[i].nr_pages * PAGE;

	for (size_t j = 0; j < m->nr; j++) {
		if (m->part[j].at != end)
			continue;
		part_check(&m->part[j]);
		m->part[i].nr_pages += m->part[j].nr_pages;
		part_mark(&m->part[i]);
		m->part[j] = m->part[--m->nr];
		return;
	}
}

static size_t random_pages(struct model *m)
{
	return 1 + rng_below(&m->rng, rng_below(&m->rng, 8) ? 40 : LONG_PAGES);
}

static void step(struct model *m)
{
	size_t i = m->nr ? rng_below(&m->rng, m->nr) : 0;

	if (!m->nr || (m->nr < MAX_PARTS / 2 && !rng_below(&m->rng, 3)))
		model_alloc(m, random_pages(m),
			    1u << rng_below(&m->rng, 11));
	else if (m->nr < MAX_PARTS && !rng_below(&m->rng, 2))
		model_cut(m, i);
	else if (!rng_below(&m->rng, 2))
		model_join(m, i);
	else
		model_free(m, i);
}

static void test_extent_random_operations_keep_the_books(void **state)
{
	struct model *m = test_array(1, sizeof(*m));
	size_t base;
	(void)state;

	m->pool = pool_make(LIMIT);
	m->rng = rng_make(1);
	base = pool_stats(m->pool).used_pages;
	for (unsigned i = 0; i < ROUNDS; i++) {
		step(m);
		if (i % 16 == 0) {
			assert_int_equal(pp_pool_check(m->pool), 0);
			assert_in_range(pool_stats(m->pool).used_pages,
					base + m->nr_pages, base + m->nr_pages +
					CACHE_PAGES + TABLE_PAGES);
		}
	}
	while (m->nr)
		model_free(m, m->nr - 1);
	pool_end(m->pool);
	free(m);
	reached_end();
}

/* All but one page of an extent that is the whole pool: all of it can be had,
 * in runs of another length. */
static void test_extent_rest_keeps_nobody_from_the_remainder(void **state)
{
	struct pp_pool *pool = pool_make_one_zone(LIMIT);
	struct pp_stats s = pool_stats(pool);
	size_t n = s.free_pages - s.min_pages - CACHE_PAGES, got = 0;
	char *all;
	bool zeroed;
	void *run[2];
	(void)state;

	all = pagepool_extent_alloc(pool, n, 1, 0, &zeroed);
	assert_non_null(all);
	pagepool_extent_cut(pool, all, n / 2);
	pagepool_extent_cut(pool, all + n / 2 * PAGE, 1);
	pagepool_extent_free(pool, all, n / 2);
	pagepool_extent_free(pool, all + (n / 2 + 1) * PAGE, n - n / 2 - 1);
	assert_int_equal(pp_pool_check(pool), 0);
	for (; got < 2; got++) {
		run[got] = pp_alloc_pages(pool, (n - 16) / 2, 0);
		assert_non_null(run[got]);
	}
	pp_free_bulk(pool, got, run);
	pagepool_extent_free(pool, all + n / 2 * PAGE, 1);
	pool_end(pool);
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_extent_random_operations_keep_the_books),
		TEST(test_extent_rest_keeps_nobody_from_the_remainder),
	};

	test_clear_environment();
	return cmocka_run_group_tests_name("extent", tests, NULL, NULL);
}
