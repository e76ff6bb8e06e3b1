/* SPDX-License-Identifier: MIT */
/*
 * The limit of a living pool: raised, all of it can be used at once; lowered,
 * no more than it is resident when the call returns, by the kernel's own books
 * (mincore); refused, nothing has changed.  Also while threads allocate.
 */
#include "testing.h"

#include <sys/mman.h>

#define MAX_RUNS	20000
#define LOOK_PAGES	131072ul	/* of the range, from its start */

struct fixture {
	struct pp_pool	*pool;
	char		*base;		/* the first page ever handed out */
	void		*run[MAX_RUNS];
	size_t		nr_runs;
	unsigned char	look[LOOK_PAGES];
};

static struct fixture *fixture_make(const char *limit)
{
	struct fixture *f = test_array(1, sizeof(*f));

	f->pool = pool_make_one_zone(limit);
	f->base = pp_alloc_aligned(f->pool, 1, 512, 0);
	assert_non_null(f->base);
	pp_free_pages(f->pool, f->base);
	return f;
}

static void give_all(struct fixture *f)
{
	pp_free_bulk(f->pool, f->nr_runs, f->run);
	f->nr_runs = 0;
}

static void fixture_end(struct fixture *f)
{
	give_all(f);
	pool_end(f->pool);
	free(f);
}

/* Up to @most pages, one by one, each touched. */
static size_t take(struct fixture *f, size_t most)
{
	size_t n = 0;

	for (; n < most && f->nr_runs < MAX_RUNS; n++) {
		uint64_t *p = pp_alloc_pages(f->pool, 1, PP_NOWARN);

		if (!p)
			break;
		*p = f->nr_runs;
		f->run[f->nr_runs++] = p;
	}
	return n;
}

static void check_contents(struct fixture *f)
{
	for (size_t i = 0; i < f->nr_runs; i++)
		assert_true(*(uint64_t *)f->run[i] == i);
}

static int64_t resident_pages(struct fixture *f)
{
	int64_t n = 0;

	assert_int_equal(mincore(f->base, LOOK_PAGES * PAGE, f->look), 0);
	for (size_t i = 0; i < LOOK_PAGES; i++)
		n += f->look[i] & 1;
	return n;
}

static int set(struct fixture *f, const char *limit)
{
	return pp_pool_set(f->pool, "limit", limit);
}

/* What the limit is made of, and P1. */
static struct pp_stats check_limit(struct fixture *f, int64_t limit_pages)
{
	struct pp_stats s = pool_stats(f->pool);

	assert_int_equal(s.limit_pages, limit_pages);
	assert_int_equal(s.managed_pages + s.metadata_pages, s.limit_pages);
	assert_true(s.backed_pages <= s.managed_pages);
	assert_true(resident_pages(f) <= s.managed_pages);
	assert_int_equal(pp_pool_check(f->pool), 0);
	return s;
}

static void test_set_limit_raised_can_be_used_at_once(void **state)
{
	struct fixture *f = fixture_make("16M");
	struct pp_stats s;

	(void)state;
	take(f, MAX_RUNS);
	s = check_limit(f, 4096);
	assert_int_equal(s.free_pages + s.cached_pages, s.min_pages);
	assert_int_equal(set(f, "64M"), 0);
	s = check_limit(f, 16384);
	/* As a pool that was made with this limit. */
	assert_int_equal(s.min_pages, 255);
	assert_int_equal(s.managed_pages, 16335);
	take(f, MAX_RUNS);
	s = check_limit(f, 16384);
	assert_int_equal(s.free_pages + s.cached_pages, s.min_pages);
	check_contents(f);
	fixture_end(f);
	reached_end();
}

static void test_set_limit_lowered_is_purged_at_once(void **state)
{
	struct fixture *f = fixture_make("64M");
	struct pp_stats s;

	(void)state;
	take(f, 16000);
	assert_true(resident_pages(f) >= 16000);
	give_all(f);
	take(f, 1000);
	assert_int_equal(set(f, "16M"), 0);
	s = check_limit(f, 4096);
	assert_true(s.purged_pages >= 16000 - 4096);
	check_contents(f);
	take(f, MAX_RUNS);
	s = check_limit(f, 4096);
	assert_int_equal(s.free_pages + s.cached_pages, s.min_pages);
	check_contents(f);
	fixture_end(f);
	reached_end();
}

/* Every second page is in use: holes are purged, not only whole blocks. */
static void test_set_limit_lowered_purges_holes(void **state)
{
	struct fixture *f = fixture_make("64M");
	size_t kept = 0;

	(void)state;
	take(f, 7800);
	for (size_t i = 0; i < f->nr_runs; i++)
		if (i % 2)
			pp_free_pages(f->pool, f->run[i]);
		else
			f->run[kept++] = f->run[i];
	f->nr_runs = kept;
	assert_int_equal(set(f, "16M"), 0);
	check_limit(f, 4096);
	for (size_t i = 0; i < f->nr_runs; i++)
		assert_true(*(uint64_t *)f->run[i] == 2 * i);
	fixture_end(f);
	reached_end();
}

static void test_set_limit_is_busy_by_the_page(void **state)
{
	struct fixture *f = fixture_make("64M");
	struct pp_pool *small = pool_make_one_zone("32M");
	int64_t fits = pool_stats(small).managed_pages - CACHE_PAGES;
	struct pp_stats before, after;

	(void)state;
	pool_end(small);
	assert_int_equal(take(f, (size_t)fits + 1), fits + 1);
	before = pool_stats(f->pool);
	assert_int_equal(set(f, "32M"), -EBUSY);
	after = check_limit(f, 16384);
	assert_int_equal(after.managed_pages, before.managed_pages);
	assert_int_equal(after.metadata_pages, before.metadata_pages);
	assert_int_equal(after.used_pages, before.used_pages);
	assert_int_equal(after.backed_pages, before.backed_pages);
	assert_int_equal(after.min_pages, before.min_pages);
	/* What was withheld meanwhile can be had again. */
	take(f, 100);
	pp_free_bulk(f->pool, 101, &f->run[f->nr_runs - 101]);
	f->nr_runs -= 101;
	/* The last one is in this thread's cache, which is given up. */
	assert_int_equal(set(f, "32M"), 0);
	after = check_limit(f, 8192);
	assert_int_equal(after.free_pages, 0);
	assert_int_equal(after.used_pages, fits + CACHE_PAGES);
	assert_null(pp_alloc_pages(f->pool, 1, PP_NOWARN | PP_MEMALLOC));
	check_contents(f);
	fixture_end(f);
	reached_end();
}

static void test_set_limit_up_to_the_span(void **state)
{
	struct fixture *f = fixture_make("16M");

	(void)state;
	assert_int_equal(set(f, "3M"), -ERANGE);
	assert_int_equal(set(f, "65G"), -ERANGE);
	assert_int_equal(set(f, "16T"), -ERANGE);
	assert_int_equal(set(f, "much"), -EINVAL);
	assert_int_equal(set(f, "101%"), -ERANGE);
	check_limit(f, 4096);
	assert_int_equal(set(f, "64G"), 0);
	check_limit(f, 64l << 18);
	take(f, MAX_RUNS);
	assert_int_equal(f->nr_runs, MAX_RUNS);
	assert_int_equal(set(f, "4M"), -EBUSY);
	give_all(f);
	assert_int_equal(set(f, "4M"), 0);
	check_limit(f, 1024);
	fixture_end(f);
	reached_end();
}

static void test_set_limit_of_the_machine(void **state)
{
	struct fixture *f = fixture_make("16M");
	int64_t machine = sysconf(_SC_PHYS_PAGES), limit;

	(void)state;
	assert_int_equal(set(f, "1%"), 0);
	limit = pp_stat_read(f->pool, PP_STAT_LIMIT_PAGES);
	assert_in_range(limit, machine / 105, machine / 95);
	/* The span is of 64 GiB. */
	if (machine < 60l << 18) {
		assert_int_equal(set(f, "auto"), 0);
		limit = pp_stat_read(f->pool, PP_STAT_LIMIT_PAGES);
		assert_in_range(limit, machine / 10 * 8, machine / 10 * 9);
	} else {
		assert_int_equal(set(f, "100%"), -ERANGE);
	}
	fixture_end(f);
	reached_end();
}

/*
 * A page in each of many blocks: their tables are more than a small limit
 * covers, and were charged.  A larger one covers them; and the small one has
 * to, afterwards.
 */
static void test_set_limit_pays_for_tables(void **state)
{
	struct fixture *f = fixture_make("4M");
	struct pp_stats s = pool_stats(f->pool);
	int64_t metadata = s.metadata_pages;

	(void)state;
	for (; f->nr_runs < 100; f->nr_runs++) {
		f->run[f->nr_runs] = pp_alloc_aligned(f->pool, 1, 512, 0);
		assert_non_null(f->run[f->nr_runs]);
	}
	s = check_limit(f, 1024);
	assert_int_equal(s.metadata_pages, metadata);
	assert_true(s.used_pages > 100 + CACHE_PAGES + 40);
	assert_int_equal(set(f, "64M"), 0);
	s = check_limit(f, 16384);
	assert_int_equal(s.used_pages, 100 + CACHE_PAGES);
	assert_true(s.metadata_pages > 16384 - 16335);
	assert_int_equal(set(f, "4M"), 0);
	s = check_limit(f, 1024);
	assert_int_equal(s.used_pages, 100 + CACHE_PAGES);
	assert_true(s.metadata_pages > metadata + 40);
	fixture_end(f);
	reached_end();
}

/* Threads that allocate all the time, while the limit goes up and down */

#define THREADS		6
#define CHANGES		400

struct load {
	struct fixture		*f;
	pthread_barrier_t	barrier;
	_Atomic unsigned	next;
	_Atomic bool		pause;
	bool			end;	/* written between the barriers */
};

static void touch(uint64_t *p, size_t pages, uint64_t tag)
{
	for (size_t i = 0; i < pages; i++)
		p[i * 512] = tag + i;
}

static void check_touched(const uint64_t *p, size_t pages, uint64_t tag)
{
	for (size_t i = 0; i < pages; i++)
		thread_check(p[i * 512] == tag + i);
}

struct held {
	uint64_t	*p;
	size_t		pages;
};

static void load_step(struct pp_pool *pool, struct rng *r, struct held *h)
{
	uint64_t tag = (uint64_t)(uintptr_t)h;

	if (h->p) {
		check_touched(h->p, h->pages, tag);
		pp_free_pages(pool, h->p);
		h->p = NULL;
		return;
	}
	h->pages = rng_below(r, 10) ? 1 + rng_below(r, 20) :
		   1 + rng_below(r, 700);
	h->p = pp_alloc_pages(pool, h->pages, PP_NOWARN);
	if (h->p)
		touch(h->p, h->pages, tag);
}

static void *load_thread(void *arg)
{
	struct load *load = arg;
	struct rng r = rng_make(100 + atomic_fetch_add(&load->next, 1));
	struct held held[40] = { { NULL, 0 } };

	for (;;) {
		pthread_barrier_wait(&load->barrier);
		if (load->end)
			break;
		while (!atomic_load(&load->pause))
			load_step(load->f->pool, &r,
				  &held[rng_below(&r, COUNT_OF(held))]);
		/* Sometimes next to nothing is used. */
		for (size_t i = rng_below(&r, 80); i < COUNT_OF(held); i++)
			if (held[i].p)
				load_step(load->f->pool, &r, &held[i]);
		pthread_barrier_wait(&load->barrier);
	}
	for (size_t i = 0; i < COUNT_OF(held); i++)
		if (held[i].p)
			load_step(load->f->pool, &r, &held[i]);
	return NULL;
}

/* While all run; the limit that is in force. */
static int64_t change_limit(struct fixture *f, struct rng *r, size_t *refused)
{
	int64_t limit = 0;

	for (size_t n = 1 + rng_below(r, 8); n; n--) {
		size_t mib = 4 + rng_below(r, 60);
		char value[32];
		int err;

		snprintf(value, sizeof(value), "%zuM", mib);
		err = set(f, value);
		assert_true(err == 0 || err == -EBUSY);
		if (err)
			++*refused;
		else
			limit = (int64_t)mib << 8;
		if (limit)
			assert_int_equal(pp_stat_read(f->pool,
					 PP_STAT_LIMIT_PAGES), limit);
		assert_true(pp_stat_read(f->pool, PP_STAT_BACKED_PAGES) <=
			    pp_stat_read(f->pool, PP_STAT_MANAGED_PAGES));
	}
	return limit ? limit : pp_stat_read(f->pool, PP_STAT_LIMIT_PAGES);
}

static void test_set_limit_holds_under_threads(void **state)
{
	struct load load = { .f = fixture_make("64M") };
	struct rng r = rng_make(1);
	pthread_t thread[THREADS];
	size_t changes = 0, refused = 0;
	struct pp_stats s;

	(void)state;
	pthread_barrier_init(&load.barrier, NULL, THREADS + 1);
	for (size_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, load_thread,
						&load), 0);
	for (; changes < test_load(CHANGES, 5); changes++) {
		int64_t limit;

		atomic_store(&load.pause, false);
		pthread_barrier_wait(&load.barrier);
		limit = change_limit(load.f, &r, &refused);
		atomic_store(&load.pause, true);
		pthread_barrier_wait(&load.barrier);
		check_limit(load.f, limit);
	}
	load.end = true;
	pthread_barrier_wait(&load.barrier);
	for (size_t i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	assert_threads_ok();
	assert_true(refused >= test_load(1, 0));
	assert_int_equal(set(load.f, "64M"), 0);
	s = check_limit(load.f, 16384);
	assert_int_equal(s.used_pages, s.nr_threads * CACHE_PAGES);
	take(load.f, MAX_RUNS);
	s = check_limit(load.f, 16384);
	assert_int_equal(s.free_pages + s.cached_pages, s.min_pages);
	pthread_barrier_destroy(&load.barrier);
	fixture_end(load.f);
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_set_limit_raised_can_be_used_at_once),
		TEST(test_set_limit_lowered_is_purged_at_once),
		TEST(test_set_limit_lowered_purges_holes),
		TEST(test_set_limit_is_busy_by_the_page),
		TEST(test_set_limit_up_to_the_span),
		TEST(test_set_limit_of_the_machine),
		TEST(test_set_limit_pays_for_tables),
		TEST(test_set_limit_holds_under_threads),
	};

	test_clear_environment();
	return cmocka_run_group_tests_name("set_limit", tests, NULL, NULL);
}
