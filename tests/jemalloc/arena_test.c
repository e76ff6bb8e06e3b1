/* SPDX-License-Identifier: MIT */
/*
 * An arena of jemalloc's on a pool.  The limit holds and the program lives;
 * what was freed in one size can be had in any other, by the arena, by another
 * one and as page runs; contents stay; nothing is lost, wherever a request
 * fails; fork works while others are inside.
 */
#include "../api/testing.h"

#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

#include <jemalloc/jemalloc.h>

#include <pagepool/jemalloc.h>
#include <pagepool/reclaim.h>

#define LIMIT		"64M"
#define LIMIT_BYTES	(64ul << 20)
/* Of what a fresh arena holds. */
#define ENOUGH(n)	((n) - (n) / 20)
/* What jemalloc keeps for itself, and what the test has of its own. */
#define OWN_BYTES	(LIMIT_BYTES / 10)
#define ROUNDS		20
#define WATCHDOG_S	120

struct fixture {
	struct pp_pool		*pool;
	struct pp_jemalloc	*je;
	unsigned		ind;
	int			flags;
};

static struct fixture fixture_make(const char *limit)
{
	struct fixture f = { .pool = pool_make(limit) };

	assert_int_equal(pp_jemalloc_arena(f.pool, &f.je, &f.ind), 0);
	f.flags = (int)MALLOCX_ARENA(f.ind) | MALLOCX_TCACHE_NONE;
	return f;
}

/* All is back once the arena has gone: a pool of which a page is out does not
 * end. */
static void fixture_end(struct fixture *f)
{
	assert_int_equal(pp_jemalloc_destroy(f->je), 0);
	pool_end(f->pool);
}

static size_t resident_bytes(void)
{
	FILE *file = fopen("/proc/self/statm", "r");
	unsigned long size = 0, resident = 0;

	if (file && fscanf(file, "%lu %lu", &size, &resident) != 2)
		resident = 0;
	if (file)
		fclose(file);
	return resident * PAGE;
}

/* Filling: blocks of one size in a list, touched all over */

struct block {
	struct block	*next;
};

static struct block *fill(struct fixture *f, size_t bytes, size_t *sum)
{
	struct block *head = NULL, *b;

	*sum = 0;
	while ((b = pp_jemalloc_mallocx(f->je, bytes, 0))) {
		memset(b, 0x5a, bytes);
		b->next = head;
		head = b;
		*sum += bytes;
	}
	assert_int_equal(errno, ENOMEM);
	return head;
}

static void drop(struct block *head)
{
	struct block *next;

	for (; head; head = next) {
		next = head->next;
		dallocx(head, MALLOCX_TCACHE_NONE);
	}
}

static const size_t classes[] = {
	64, 1000, 4096, 14336, 40000, 300000, 1 << 20, 5 << 20,
};

static size_t fresh[COUNT_OF(classes)];

static size_t fresh_bytes(size_t class)
{
	struct fixture f;

	if (!fresh[class]) {
		f = fixture_make(LIMIT);
		drop(fill(&f, classes[class], &fresh[class]));
		fixture_end(&f);
		printf("# fresh, blocks of %zu: %zu MiB\n", classes[class],
		       fresh[class] >> 20);
	}
	return fresh[class];
}

static void test_arena_full_returns_null_and_lives(void **state)
{
	size_t before, sum, floor = LIMIT_BYTES * 8 / 10;
	struct fixture f;
	struct block *head;
	(void)state;

	before = resident_bytes();
	f = fixture_make(LIMIT);
	head = fill(&f, 1000, &sum);
	assert_in_range(sum, floor, LIMIT_BYTES);
	assert_in_range(resident_bytes() - before, floor,
			LIMIT_BYTES + OWN_BYTES);
	assert_int_equal(pp_pool_check(f.pool), 0);
	assert_null(mallocx(1 << 20, f.flags));
	drop(head);
	fixture_end(&f);
	reached_end();
}

/* jemalloc's own function, without the way round: NULL, and no more. */
static void test_arena_plain_mallocx_returns_null(void **state)
{
	struct fixture f = fixture_make(LIMIT);
	struct block *head = NULL, *b;
	size_t sum = 0;
	(void)state;

	while ((b = mallocx(14336, f.flags))) {
		b->next = head;
		head = b;
		sum += 14336;
	}
	assert_in_range(sum, LIMIT_BYTES * 8 / 10, LIMIT_BYTES);
	drop(head);
	b = mallocx(1 << 20, f.flags);
	if (!b) {
		pp_pool_reclaim(f.pool, 300);
		b = mallocx(1 << 20, f.flags);
	}
	assert_non_null(b);
	dallocx(b, f.flags);
	fixture_end(&f);
	reached_end();
}

static void test_arena_freed_class_serves_any_other(void **state)
{
	struct fixture f;
	struct rng rng = rng_make(1);
	size_t from, to, sum, worst = 100;
	(void)state;

	for (to = 0; to < COUNT_OF(classes); to++)
		fresh_bytes(to);
	f = fixture_make(LIMIT);
	for (unsigned i = 0; i < ROUNDS; i++) {
		from = rng_below(&rng, COUNT_OF(classes));
		to = rng_below(&rng, COUNT_OF(classes));
		if (i < COUNT_OF(classes)) {
			from = i;
			to = COUNT_OF(classes) - 1 - i;
		}
		drop(fill(&f, classes[from], &sum));
		drop(fill(&f, classes[to], &sum));
		if (sum * 100 / fresh[to] < worst)
			worst = sum * 100 / fresh[to];
		if (sum < ENOUGH(fresh[to]))
			printf("# %zu after %zu: %zu of %zu MiB\n", classes[to],
			       classes[from], sum >> 20, fresh[to] >> 20);
		assert_true(sum >= ENOUGH(fresh[to]));
		assert_int_equal(pp_pool_check(f.pool), 0);
	}
	printf("# the worst of %u pairs: %zu %%\n", ROUNDS, worst);
	fixture_end(&f);
	reached_end();
}

/* Every second block of a class stays: the holes are for others. */
static void test_arena_holes_serve_page_runs(void **state)
{
	struct fixture f = fixture_make(LIMIT);
	struct block *head, *keep = NULL, *next;
	size_t sum, kept = 0, got = 0;
	void *runs[COUNT_OF(classes) * 4096];
	bool odd = false;
	(void)state;

	head = fill(&f, 4096, &sum);
	for (; head; head = next, odd = !odd) {
		next = head->next;
		if (odd) {
			dallocx(head, MALLOCX_TCACHE_NONE);
			continue;
		}
		head->next = keep;
		keep = head;
		kept += 4096;
	}
	while (got < COUNT_OF(runs) &&
	       (runs[got] = pp_alloc_pages(f.pool, 1, 0)))
		got++;
	printf("# %zu MiB of %zu in holes\n", got * PAGE >> 20,
	       (sum - kept) >> 20);
	assert_true(got * PAGE >= ENOUGH(sum - kept));
	assert_int_equal(pp_pool_check(f.pool), 0);
	pp_free_bulk(f.pool, got, runs);
	drop(keep);
	fixture_end(&f);
	reached_end();
}

/* All blocks are free, but dirty: a run that needs them has them purged. */
static void test_arena_dirty_serves_runs_and_another_arena(void **state)
{
	struct fixture f = fixture_make(LIMIT), other;
	size_t sum, second;
	struct block *head;
	void *run;
	(void)state;

	assert_int_equal(pp_jemalloc_arena(f.pool, &other.je, &other.ind), 0);
	for (unsigned i = 0; i < ROUNDS; i++) {
		drop(fill(&f, 14336, &sum));
		run = pp_alloc_pages(f.pool, sum / PAGE, 0);
		assert_non_null(run);
		pp_free_pages(f.pool, run);
		drop(fill(&f, 1000, &sum));
		head = fill(&other, 1000, &second);
		assert_true(second >= ENOUGH(sum));
		drop(head);
	}
	assert_int_equal(pp_jemalloc_destroy(other.je), 0);
	fixture_end(&f);
	reached_end();
}

/* Threads, each with a model of what it has */

#define MODEL_BLOCKS	256
#define MODEL_STEPS	20000
#define MODEL_THREADS	4

struct model_block {
	unsigned char	*at;
	size_t		bytes;
	unsigned char	mark;
};

struct worker {
	struct fixture		*f;
	pthread_t		thread;
	struct rng		rng;
	unsigned		nr_null;
	struct model_block	block[MODEL_BLOCKS];
};

/* Ends and some of the middle: enough to see an overlap. */
static void mark(struct model_block *b)
{
	for (size_t i = 0; i < b->bytes; i += 509)
		b->at[i] = b->mark;
	b->at[b->bytes - 1] = b->mark;
}

static bool is_marked(const struct model_block *b, size_t bytes)
{
	for (size_t i = 0; i < bytes; i += 509)
		if (b->at[i] != b->mark)
			return false;
	return true;
}

static size_t random_bytes(struct rng *rng)
{
	return 1 + rng_below(rng, 1ul << (4 + rng_below(rng, 17)));
}

static void block_new(struct worker *w, struct model_block *b)
{
	bool zero = !rng_below(&w->rng, 4);
	size_t align = 1ul << rng_below(&w->rng, 23);
	int flags = (zero ? MALLOCX_ZERO : 0) |
		    (rng_below(&w->rng, 8) ? 0 : MALLOCX_ALIGN(align));

	b->bytes = random_bytes(&w->rng);
	b->at = rng_below(&w->rng, 2) ?
		pp_jemalloc_mallocx(w->f->je, b->bytes, flags) :
		mallocx(b->bytes, flags | w->f->flags);
	if (!b->at) {
		w->nr_null++;
		return;
	}
	b->mark = 0;
	thread_check(!zero || is_marked(b, b->bytes));
	b->mark = (unsigned char)(1 + rng_below(&w->rng, 255));
	mark(b);
}

static void block_resize(struct worker *w, struct model_block *b)
{
	size_t bytes = random_bytes(&w->rng);
	void *to;

	if (rng_below(&w->rng, 2)) {
		if (xallocx(b->at, bytes, 0, w->f->flags) < bytes)
			return;
	} else {
		to = rallocx(b->at, bytes, w->f->flags);
		if (!to) {
			w->nr_null++;
			return;
		}
		b->at = to;
	}
	thread_check(is_marked(b, bytes < b->bytes ? bytes : b->bytes));
	b->bytes = bytes;
	mark(b);
}

static void block_end(struct worker *w, struct model_block *b)
{
	thread_check(is_marked(b, b->bytes));
	dallocx(b->at, w->f->flags);
	b->at = NULL;
}

static void *work(void *arg)
{
	struct worker *w = arg;
	size_t steps = test_number("PP_TEST_STEPS", MODEL_STEPS);

	for (size_t i = 0; i < steps; i++) {
		struct model_block *b =
			&w->block[rng_below(&w->rng, MODEL_BLOCKS)];

		if (!b->at)
			block_new(w, b);
		else if (!rng_below(&w->rng, 3))
			block_resize(w, b);
		else
			block_end(w, b);
	}
	for (size_t i = 0; i < MODEL_BLOCKS; i++)
		if (w->block[i].at)
			block_end(w, &w->block[i]);
	return NULL;
}

static _Atomic bool stop;

/* Takes page runs of the same pool, and gives them back. */
static void *take_runs(void *arg)
{
	struct fixture *f = arg;
	struct rng rng = rng_make(77);
	void *run[64] = { NULL };

	while (!atomic_load(&stop)) {
		size_t i = rng_below(&rng, COUNT_OF(run));

		pp_free_pages(f->pool, run[i]);
		run[i] = pp_alloc_pages(f->pool, 1 + rng_below(&rng, 600), 0);
	}
	pp_free_bulk(f->pool, COUNT_OF(run), run);
	return NULL;
}

static struct worker *workers_start(struct fixture *f, unsigned nr)
{
	struct worker *w = test_array(nr, sizeof(*w));

	for (unsigned i = 0; i < nr; i++) {
		w[i].f = f;
		w[i].rng = rng_make(i);
		assert_int_equal(pthread_create(&w[i].thread, NULL, work,
						&w[i]), 0);
	}
	return w;
}

static unsigned workers_join(struct worker *w, unsigned nr)
{
	unsigned nr_null = 0;

	for (unsigned i = 0; i < nr; i++) {
		pthread_join(w[i].thread, NULL);
		nr_null += w[i].nr_null;
	}
	free(w);
	return nr_null;
}

static void run_model(const char *limit)
{
	struct fixture f = fixture_make(limit);
	struct worker *w;
	unsigned nr_null;
	pthread_t taker;

	atomic_store(&stop, false);
	pthread_create(&taker, NULL, take_runs, &f);
	w = workers_start(&f, MODEL_THREADS);
	nr_null = workers_join(w, MODEL_THREADS);
	atomic_store(&stop, true);
	pthread_join(taker, NULL);
	printf("# limit %s: %u times NULL\n", limit, nr_null);
	assert_threads_ok();
	fixture_end(&f);
}

static void test_arena_random_operations_keep_contents(void **state)
{
	(void)state;
	run_model("512M");
	run_model(LIMIT);
	run_model("24M");
	reached_end();
}

static void set_arena_ms(unsigned ind, const char *name, ssize_t ms)
{
	char text[64];

	snprintf(text, sizeof(text), "arena.%u.%s", ind, name);
	assert_int_equal(mallctl(text, NULL, NULL, &ms, sizeof(ms)), 0);
}

/* fork, while threads are inside and jemalloc's own thread purges. */
static void child_works(struct fixture *f)
{
	struct worker *w = test_array(1, sizeof(*w));
	void *run;

	alarm(WATCHDOG_S);
	w->f = f;
	w->rng = rng_make(5);
	for (size_t i = 0; i < MODEL_BLOCKS; i++)
		block_new(w, &w->block[i]);
	for (size_t i = 0; i < MODEL_BLOCKS; i++)
		if (w->block[i].at)
			block_end(w, &w->block[i]);
	run = pp_alloc_pages(f->pool, 10, 0);
	pp_free_pages(f->pool, run);
	_exit(atomic_load(&thread_failures) || !run);
}

static void fork_storm(struct fixture *f)
{
	int status;
	pid_t pid;

	for (unsigned i = 0; i < 60; i++) {
		pid = fork();
		assert_true(pid >= 0);
		if (!pid)
			child_works(f);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(status, 0);
	}
}

static void *work_on(void *arg)
{
	while (!atomic_load(&stop))
		work(arg);
	return NULL;
}

static void test_arena_fork_with_threads_inside(void **state)
{
	struct fixture f = fixture_make("256M");
	struct worker *w = test_array(3, sizeof(*w));
	bool on = true;
	(void)state;

	setenv("PP_TEST_STEPS", "500", 1);
	mallctl("background_thread", NULL, NULL, &on, sizeof(on));
	set_arena_ms(f.ind, "dirty_decay_ms", 1);
	atomic_store(&stop, false);
	for (unsigned i = 0; i < 3; i++) {
		w[i].f = &f;
		w[i].rng = rng_make(i);
		pthread_create(&w[i].thread, NULL, work_on, &w[i]);
	}
	fork_storm(&f);
	atomic_store(&stop, true);
	workers_join(w, 3);
	on = false;
	mallctl("background_thread", NULL, NULL, &on, sizeof(on));
	unsetenv("PP_TEST_STEPS");
	assert_threads_ok();
	fixture_end(&f);
	reached_end();
}

/* The pool has just n pages left, for every n: whichever request it is that
 * fails, nothing is lost. */
static size_t use_a_little(struct fixture *f)
{
	static const size_t bytes[] = { 10, 3000, 20000, 70000, 150000 };
	void *p[COUNT_OF(bytes)];
	size_t nr = 0;

	for (size_t i = 0; i < COUNT_OF(bytes); i++) {
		p[i] = pp_jemalloc_mallocx(f->je, bytes[i], MALLOCX_ZERO);
		if (!p[i])
			continue;
		nr++;
		memset(p[i], 1, bytes[i]);
		xallocx(p[i], bytes[i] / 2 + 1, 0, f->flags);
		xallocx(p[i], bytes[i] * 3, 0, f->flags);
	}
	for (size_t i = 0; i < COUNT_OF(bytes); i++)
		if (p[i])
			dallocx(p[i], f->flags);
	return nr;
}

/* All but @nr_pages of what can be had; a list in the pages. */
static struct block *take_all_but(struct pp_pool *pool, size_t nr_pages)
{
	struct block *head = NULL, *b;

	while ((b = pp_alloc_pages(pool, 1, PP_NOWARN))) {
		b->next = head;
		head = b;
	}
	for (size_t i = 0; i < nr_pages && head; i++) {
		b = head;
		head = b->next;
		pp_free_pages(pool, b);
	}
	pp_pool_drain(pool);
	return head;
}

/* reclaimd, and those that call back. */
#define OWN_THREADS	4

static void test_arena_failure_of_any_request_loses_nothing(void **state)
{
	struct pp_pool *pool = pool_make_one_zone("4M");
	struct block *head, *next;
	size_t nr, least = SIZE_MAX, most = 0, used = 0;
	struct fixture f = { .pool = pool };
	(void)state;

	for (size_t left = 0; left < 150; left++) {
		head = take_all_but(pool, left);
		used = pool_stats(pool).used_pages;
		if (pp_jemalloc_arena(pool, &f.je, &f.ind)) {
			nr = 0;
		} else {
			f.flags = (int)MALLOCX_ARENA(f.ind) |
				  MALLOCX_TCACHE_NONE;
			nr = use_a_little(&f);
			assert_int_equal(pp_pool_check(pool), 0);
			assert_int_equal(pp_jemalloc_destroy(f.je), 0);
		}
		pp_pool_drain(pool);
		/* The pool's own threads may have caches by now. */
		assert_in_range(pool_stats(pool).used_pages, used,
				used + OWN_THREADS * CACHE_PAGES);
		least = nr < least ? nr : least;
		most = nr > most ? nr : most;
		for (; head; head = next) {
			next = head->next;
			pp_free_pages(pool, head);
		}
	}
	assert_int_equal(least, 0);
	assert_int_equal(most, 5);
	pool_end(pool);
	reached_end();
}

/* With thread.arena, and thread caches. */
static void test_arena_of_a_thread_is_busy(void **state)
{
	struct fixture f = fixture_make(LIMIT);
	struct block *head = NULL, *b;
	size_t sum = 0, len = sizeof(unsigned);
	unsigned before, ind = f.ind;
	(void)state;

	mallctl("thread.tcache.flush", NULL, NULL, NULL, 0);
	assert_int_equal(mallctl("thread.arena", &before, &len, &ind,
				 sizeof(ind)), 0);
	while ((b = mallocx(1000, 0))) {
		b->next = head;
		head = b;
		sum += 1000;
	}
	assert_in_range(sum, LIMIT_BYTES * 8 / 10, LIMIT_BYTES);
	for (; head; head = b) {
		b = head->next;
		dallocx(head, 0);
	}
	assert_int_equal(pp_jemalloc_destroy(f.je), -EBUSY);
	/* What the cache of this thread hides is emptied on the way. */
	b = pp_jemalloc_mallocx(f.je, 56 << 20, 0);
	assert_non_null(b);
	dallocx(b, MALLOCX_TCACHE_NONE);
	mallctl("thread.tcache.flush", NULL, NULL, NULL, 0);
	assert_int_equal(mallctl("thread.arena", NULL, NULL, &before,
				 sizeof(before)), 0);
	fixture_end(&f);
	reached_end();
}

static void test_arena_can_be_made_again_and_again(void **state)
{
	struct pp_pool *pool = pool_make(LIMIT);
	struct fixture f = { .pool = pool };
	size_t sum, first = 0;
	(void)state;

	for (unsigned i = 0; i < ROUNDS; i++) {
		assert_int_equal(pp_jemalloc_arena(pool, &f.je, &f.ind), 0);
		assert_int_equal(pp_pool_destroy(pool), -EBUSY);
		fill(&f, 4096 << i % 5, &sum);
		first = first ? first : sum;
		assert_true(sum >= ENOUGH(first) * 3 / 4);
		/* With all of its blocks. */
		assert_int_equal(pp_jemalloc_destroy(f.je), 0);
		assert_int_equal(pp_pool_check(pool), 0);
	}
	pool_end(pool);
	reached_end();
}

static uint64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void test_arena_failures_are_quick(void **state)
{
	struct fixture f = fixture_make(LIMIT);
	uint64_t start;
	size_t sum;
	(void)state;

	drop(fill(&f, 4096, &sum));
	fill(&f, 1000, &sum);
	start = now_us();
	for (unsigned i = 0; i < 100; i++)
		assert_null(pp_jemalloc_mallocx(f.je, 100000, 0));
	printf("# a failure takes %u us\n", (unsigned)(now_us() - start) / 100);
	assert_in_range(now_us() - start, 0, 10000000);
	assert_null(pp_jemalloc_mallocx(f.je, SIZE_MAX / 4, 0));
	fixture_end(&f);
	reached_end();
}

static void test_arena_wrong_arguments(void **state)
{
	struct pp_pool *pool = pool_make(LIMIT);
	struct pp_jemalloc *je;
	unsigned ind;
	void *p;
	(void)state;

	assert_int_equal(pp_jemalloc_arena(NULL, &je, &ind), -EINVAL);
	assert_int_equal(pp_jemalloc_arena(pool, NULL, &ind), -EINVAL);
	assert_int_equal(pp_jemalloc_arena(pool, &je, NULL), -EINVAL);
	assert_int_equal(pp_jemalloc_destroy(NULL), -EINVAL);
	assert_int_equal(pp_jemalloc_arena(pool, &je, &ind), 0);
	p = pp_jemalloc_mallocx(je, 0, 0);
	assert_non_null(p);
	dallocx(p, MALLOCX_TCACHE_NONE);
	assert_int_equal(pp_jemalloc_destroy(je), 0);
	pool_end(pool);
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_arena_full_returns_null_and_lives),
		TEST(test_arena_plain_mallocx_returns_null),
		TEST(test_arena_freed_class_serves_any_other),
		TEST(test_arena_holes_serve_page_runs),
		TEST(test_arena_dirty_serves_runs_and_another_arena),
		TEST(test_arena_random_operations_keep_contents),
		TEST(test_arena_fork_with_threads_inside),
		TEST(test_arena_failure_of_any_request_loses_nothing),
		TEST(test_arena_of_a_thread_is_busy),
		TEST(test_arena_can_be_made_again_and_again),
		TEST(test_arena_failures_are_quick),
		TEST(test_arena_wrong_arguments),
	};

	test_clear_environment();
	alarm(WATCHDOG_S);
	return cmocka_run_group_tests_name("arena", tests, NULL, NULL);
}
