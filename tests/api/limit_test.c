/* SPDX-License-Identifier: MIT */
/*
 * P1: memory resident behind the pool's addresses never exceeds the limit, by
 * the kernel's own books.  P2: a request succeeds exactly if there are as many
 * pages above its floor, however they lie.  P4: nothing fails while memory is
 * hidden in this thread's cache; after everything is freed, any other length
 * can use it all.
 */
#include "testing.h"

#include <fcntl.h>

#define LIMIT		"64M"
#define LIMIT_PAGES	16384
#define MAX_RUNS	LIMIT_PAGES
#define MAX_VMAS	512
/* What tables for more blocks than the limit covers may take here. */
#define TABLE_PAGES	32
/* What VmHWM may have of the test's own: stacks, stdio, the counters' slack. */
#define OWN_KB		1024

/* What is resident */

struct vma {
	uintptr_t	start, end;
};

struct vmas {
	size_t		n;
	struct vma	vma[MAX_VMAS];
};

/* The resident kilobytes of mappings in [start, end), or -1. */
static long read_smaps(struct vmas *list, uintptr_t start, uintptr_t end)
{
	FILE *f = fopen("/proc/self/smaps", "r");
	bool inside = false;
	char line[512];
	long sum = 0;

	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f)) {
		unsigned long from, to;
		long kb;

		if (sscanf(line, "%lx-%lx ", &from, &to) == 2) {
			inside = from >= start && to <= end;
			if (list && list->n < MAX_VMAS)
				list->vma[list->n++] = (struct vma){ from, to };
		} else if (inside && sscanf(line, "Rss: %ld kB", &kb) == 1) {
			sum += kb;
		}
	}
	fclose(f);
	return sum;
}

static bool was_there(const struct vmas *list, uintptr_t at)
{
	for (size_t i = 0; i < list->n; i++)
		if (at >= list->vma[i].start && at < list->vma[i].end)
			return true;
	return false;
}

struct fixture {
	struct pp_pool	*pool;
	struct vma	range;		/* the pool's addresses */
	void		*run[MAX_RUNS];
	size_t		nr_runs;
	size_t		samples;
};

/* The pool's range: from the mapping of its first page up, what follows without
 * a gap and was not mapped before. */
static void find_range(struct fixture *f, const struct vmas *before,
		       const struct vmas *after)
{
	void *run = pp_alloc_pages(f->pool, 1, 0);
	uintptr_t at = (uintptr_t)run;

	for (size_t i = 0; i < after->n; i++) {
		const struct vma *v = &after->vma[i];

		if (at >= v->start && at < v->end)
			f->range = *v;
		else if (v->start == f->range.end && f->range.end &&
			 !was_there(before, v->start))
			f->range.end = v->end;
	}
	assert_true(f->range.end - f->range.start > 1ul << 32);
	pp_free_pages(f->pool, run);
}

static struct fixture *fixture_make(void)
{
	struct fixture *f = test_array(1, sizeof(*f));
	struct vmas *before = test_array(1, sizeof(*before));
	struct vmas *after = test_array(1, sizeof(*after));

	read_smaps(before, 0, 0);
	before->n = 0;
	read_smaps(before, 0, 0);
	f->pool = pool_make_one_zone(LIMIT);
	read_smaps(after, 0, 0);
	assert_true(before->n < MAX_VMAS && after->n < MAX_VMAS);
	find_range(f, before, after);
	free(before);
	free(after);
	return f;
}

static void fixture_end(struct fixture *f)
{
	pool_end(f->pool);
	free(f);
}

/* P1, where nothing moves while the kernel counts. */
static void check_resident(struct fixture *f)
{
	long kb = read_smaps(NULL, f->range.start, f->range.end);

	assert_true(kb >= 0);
	assert_true(kb <= LIMIT_PAGES * 4);
	f->samples++;
}

/* The most that was ever resident in the process, in kB: the kernel notes it
 * at every change, so it sees what no sample does. */
static long status_kb(const char *name)
{
	FILE *f = fopen("/proc/self/status", "r");
	char line[256];
	long kb = -1;
	size_t len = strlen(name);

	while (f && fgets(line, sizeof(line), f))
		if (strncmp(line, name, len) == 0)
			kb = strtol(line + len + 1, NULL, 10);
	if (f)
		fclose(f);
	return kb;
}

static long reset_peak_kb(void)
{
	int fd = open("/proc/self/clear_refs", O_WRONLY);

	if (fd < 0 || write(fd, "5", 1) != 1)
		print_message("# the peak cannot be reset\n");
	if (fd >= 0)
		close(fd);
	return status_kb("VmRSS");
}

static void check_peak(long before_kb)
{
	if (!TEST_SANITIZED)	/* whose shadow is resident too */
		assert_in_range(status_kb("VmHWM"), 1,
				before_kb + LIMIT_PAGES * 4 + OWN_KB);
}

/* Filling and freeing */

static void touch(void *run, size_t n)
{
	for (size_t i = 0; i < n; i++)
		*((volatile uint64_t *)run + i * 512) = i + 1;
}

/* What a request may have: free pages and this thread's cached ones, above
 * a floor. */
static int64_t available(struct pp_pool *pool, int64_t floor)
{
	struct pp_stats s = pool_stats(pool);

	return s.free_pages + s.cached_pages - floor;
}

static int64_t min_pages(struct pp_pool *pool)
{
	return pp_stat_read(pool, PP_STAT_MIN_PAGES);
}

/* Runs of @n pages until there are no more; all touched. */
static size_t fill(struct fixture *f, size_t n, unsigned flags)
{
	size_t before = f->nr_runs;
	void *run;

	while ((run = pp_alloc_pages(f->pool, n, flags | PP_NOWARN))) {
		touch(run, n);
		assert_true(f->nr_runs < MAX_RUNS);
		f->run[f->nr_runs++] = run;
	}
	assert_int_equal(errno, ENOMEM);
	return f->nr_runs - before;
}

static void free_from(struct fixture *f, size_t keep)
{
	while (f->nr_runs > keep)
		pp_free_pages(f->pool, f->run[--f->nr_runs]);
}

/* Frees the runs that @goes says; the others move to the front. */
static void free_some(struct fixture *f, bool (*goes)(void *run, void *arg),
		      void *arg)
{
	size_t kept = 0;

	for (size_t i = 0; i < f->nr_runs; i++) {
		if (goes(f->run[i], arg))
			pp_free_pages(f->pool, f->run[i]);
		else
			f->run[kept++] = f->run[i];
	}
	f->nr_runs = kept;
}

/* P1, P4 */

static void test_limit_every_length_can_use_it_all_at_once(void **state)
{
	static const size_t lengths[] = {
		1, 4000, 2, 2000, 3, 1000, 7, 513, 8, 512, 16, 511, 17, 300,
		31, 257, 64, 256, 100, 1, 15000, 5, 1025, 9, 12345, 33,
	};
	struct fixture *f = fixture_make();
	long before_kb = reset_peak_kb();
	int64_t min = min_pages(f->pool), could, left;

	(void)state;
	for (size_t i = 0; i < COUNT_OF(lengths); i++) {
		size_t n = lengths[i], got, pages = 0;

		could = available(f->pool, min);
		got = fill(f, n, 0);
		for (size_t k = 0; k < got; k++)
			pages += pp_run_pages(f->pool, f->run[k]);
		left = available(f->pool, min);
		/* The reserve may have paid for a few pages of tables. */
		assert_true(left < (int64_t)n && left > -TABLE_PAGES);
		assert_true((int64_t)pages <= could);
		assert_true((int64_t)pages > could - left - TABLE_PAGES);
		assert_true(got + 2 >= (size_t)could / run_length(n));
		check_resident(f);
		free_from(f, 0);
		check_resident(f);
		assert_int_equal(pp_pool_check(f->pool), 0);
	}
	check_peak(before_kb);
	assert_int_equal(f->samples, 2 * COUNT_OF(lengths));
	fixture_end(f);
	reached_end();
}

/* P2 */

static bool has_odd_page(void *run, void *arg)
{
	(void)arg;
	return (uintptr_t)run / PAGE % 2;
}

static void test_limit_every_second_page_free_is_half_for_eight(void **state)
{
	struct fixture *f = fixture_make();
	int64_t could;

	(void)state;
	fill(f, 1, 0);
	free_some(f, has_odd_page, NULL);
	could = available(f->pool, min_pages(f->pool));
	assert_true(could > LIMIT_PAGES / 2 - 500);
	assert_int_equal(fill(f, 8, 0), could / 8);
	check_resident(f);
	assert_int_equal(pp_pool_check(f->pool), 0);
	free_from(f, 0);
	fixture_end(f);
	reached_end();
}

static bool not_first_of_block(void *run, void *arg)
{
	bool *seen = arg;
	size_t block = (uintptr_t)run >> 21 & 65535, was = seen[block];

	seen[block] = true;
	return was;
}

static void test_limit_one_page_kept_of_each_block_hinders_none(void **state)
{
	static const size_t lengths[] = { 512, 1000, 511, 5000 };
	struct fixture *f = fixture_make();
	bool *seen = test_array(65536, sizeof(bool));
	size_t kept;

	(void)state;
	fill(f, 1, 0);
	free_some(f, not_first_of_block, seen);
	kept = f->nr_runs;
	assert_in_range(kept, 31, 34);
	for (size_t i = 0; i < COUNT_OF(lengths); i++) {
		int64_t could = available(f->pool, min_pages(f->pool));

		assert_int_equal(fill(f, lengths[i], 0),
				 could / lengths[i]);
		check_resident(f);
		free_from(f, kept);
		assert_int_equal(pp_pool_check(f->pool), 0);
	}
	free_from(f, 0);
	free(seen);
	fixture_end(f);
	reached_end();
}

static bool by_chance(void *run, void *arg)
{
	(void)run;
	return rng_below(arg, 3) != 0;
}

static void test_limit_exactly_what_is_free_can_be_had_in_one(void **state)
{
	struct fixture *f = fixture_make();
	long before_kb = reset_peak_kb();
	struct rng r = rng_make(1);
	size_t rounds = 0;
	int64_t could;
	void *run;

	(void)state;
	for (; rounds < test_load(30, 2); rounds++) {
		while (f->nr_runs < MAX_RUNS) {
			size_t n = 1 + rng_below(&r, rng_below(&r, 4) ? 9 :
						     800);

			run = pp_alloc_pages(f->pool, n, PP_NOWARN);
			if (!run)
				break;
			touch(run, n);
			f->run[f->nr_runs++] = run;
		}
		free_some(f, by_chance, &r);
		could = available(f->pool, min_pages(f->pool));
		assert_true(could > 100);
		errno = 0;
		assert_null(pp_alloc_pages(f->pool, (size_t)could + 1,
					   PP_NOWARN));
		assert_int_equal(errno, ENOMEM);
		assert_int_equal(available(f->pool, min_pages(f->pool)),
				 could);
		run = pp_alloc_pages(f->pool, (size_t)could, PP_NOWARN);
		assert_non_null(run);
		touch(run, (size_t)could);
		check_resident(f);
		assert_int_equal(pp_pool_check(f->pool), 0);
		pp_free_pages(f->pool, run);
	}
	check_peak(before_kb);
	free_from(f, 0);
	fixture_end(f);
	reached_end();
}

/* P5: how deep each kind of request goes */

static void test_limit_reserves_are_used_to_their_floors(void **state)
{
	struct fixture *f = fixture_make();
	int64_t min = min_pages(f->pool);
	const struct {
		unsigned	flags;
		int64_t		floor;
	} row[] = {
		{ 0, min },
		{ PP_NOWAIT, min },
		{ PP_NORETRY, min },
		{ PP_NOMEMALLOC | PP_MEMALLOC | PP_ATOMIC, min },
		{ PP_HIGH, min - min / 2 },
		{ PP_ATOMIC, min - min / 2 - (min - min / 2) / 4 },
		{ PP_MEMALLOC, 0 },
	};

	(void)state;
	assert_int_equal(min, 255);	/* of 64M less its tables */
	for (size_t i = 0; i < COUNT_OF(row); i++) {
		int64_t could = available(f->pool, row[i].floor);
		size_t got = fill(f, 1, row[i].flags);

		assert_int_equal(got, could);
		assert_int_equal(available(f->pool, row[i].floor), 0);
		/* What is below is not for those before. */
		for (size_t k = 0; k <= i; k++)
			assert_null(pp_alloc_pages(f->pool, 1, PP_NOWARN |
						   row[k].flags));
	}
	check_resident(f);
	assert_int_equal(pool_stats(f->pool).free_pages, 0);
	assert_int_equal(pp_pool_check(f->pool), 0);
	free_from(f, 0);
	assert_true(fill(f, 1, 0) > LIMIT_PAGES - 500);
	free_from(f, 0);
	fixture_end(f);
	reached_end();
}

/* P1 under threads */

#define THREADS		4
#define ROUNDS		25
#define OPS		400

struct worker {
	struct fixture		*f;
	pthread_barrier_t	*barrier;
	struct rng		rng;
	void			*run[300];
	size_t			failures;
};

static void worker_step(struct worker *w)
{
	size_t i = rng_below(&w->rng, COUNT_OF(w->run)), n;

	if (w->run[i]) {
		pp_free_pages(w->f->pool, w->run[i]);
		w->run[i] = NULL;
		return;
	}
	n = 1 + rng_below(&w->rng, rng_below(&w->rng, 8) ? 30 : 1500);
	w->run[i] = pp_alloc_pages(w->f->pool, n, PP_NOWARN);
	if (w->run[i])
		touch(w->run[i], n);
	else
		w->failures++;
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;

	for (unsigned round = 0; round < test_load(ROUNDS, 5); round++) {
		for (unsigned i = 0; i < OPS; i++)
			worker_step(w);
		pthread_barrier_wait(w->barrier);
		pthread_barrier_wait(w->barrier);	/* was counted */
	}
	pp_free_bulk(w->f->pool, COUNT_OF(w->run), w->run);
	return NULL;
}

static void test_limit_holds_under_threads(void **state)
{
	struct fixture *f = fixture_make();
	long before_kb = reset_peak_kb();
	struct worker *w = test_array(THREADS, sizeof(*w));
	pthread_barrier_t barrier;
	pthread_t thread[THREADS];
	size_t failures = 0;

	(void)state;
	pthread_barrier_init(&barrier, NULL, THREADS + 1);
	for (unsigned i = 0; i < THREADS; i++) {
		w[i].f = f;
		w[i].barrier = &barrier;
		w[i].rng = rng_make(10 + i);
		assert_int_equal(pthread_create(&thread[i], NULL, worker_main,
						&w[i]), 0);
	}
	for (unsigned round = 0; round < test_load(ROUNDS, 5); round++) {
		pthread_barrier_wait(&barrier);
		check_resident(f);
		assert_int_equal(pp_pool_check(f->pool), 0);
		pthread_barrier_wait(&barrier);
	}
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(thread[i], NULL);
		failures += w[i].failures;
	}
	check_peak(before_kb);
	assert_true(failures > 50);	/* it was at the limit */
	assert_int_equal(f->samples, test_load(ROUNDS, 5));
	pthread_barrier_destroy(&barrier);
	free(w);
	fixture_end(f);
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_limit_every_length_can_use_it_all_at_once),
		TEST(test_limit_every_second_page_free_is_half_for_eight),
		TEST(test_limit_one_page_kept_of_each_block_hinders_none),
		TEST(test_limit_exactly_what_is_free_can_be_had_in_one),
		TEST(test_limit_reserves_are_used_to_their_floors),
		TEST(test_limit_holds_under_threads),
	};

	test_clear_environment();
	return cmocka_run_group_tests_name("limit", tests, NULL, NULL);
}
