/* SPDX-License-Identifier: MIT */
/*
 * Reserves as a program sees them: what is set aside is there when strangers
 * have taken all the rest, comes back to it first, and is in the books to the
 * page; who waits is served in turn; tickets; other sizes; fork.  A model of
 * who holds which run is kept beside random operations.
 *
 * PP_TEST_RESERVE: operations of the random test (20000).
 */
#include "../api/testing.h"

#include <sched.h>
#include <sys/wait.h>

#include <pagepool/numa.h>
#include <pagepool/reclaim.h>
#include <pagepool/reserve.h>

#include "base/fault.h"
#include "reserve.h"

#define MAX_HELD	5000
#define NR_THREADS	5

/* A stranger, who takes whatever the pool gives. */
struct stranger {
	struct pp_pool	*pool;
	void		*run[MAX_HELD];
	size_t		nr;
};

static struct stranger *stranger_make(struct pp_pool *pool)
{
	struct stranger *s = test_array(1, sizeof(*s));

	s->pool = pool;
	return s;
}

/* To the last page, with PP_MEMALLOC. */
static size_t stranger_takes(struct stranger *s, unsigned flags)
{
	size_t before = s->nr;

	for (;;) {
		void *run = pp_alloc_pages(s->pool, 1, flags | PP_NOWARN);

		if (!run)
			return s->nr - before;
		assert_true(s->nr < MAX_HELD);
		s->run[s->nr++] = run;
	}
}

static void stranger_gives(struct stranger *s, size_t nr)
{
	assert_true(nr <= s->nr);
	s->nr -= nr;
	pp_free_bulk(s->pool, nr, s->run + s->nr);
}

static void stranger_end(struct stranger *s)
{
	stranger_gives(s, s->nr);
	free(s);
}

static int64_t reserved(struct pp_pool *pool)
{
	int64_t n = pool_stats(pool).reserved_pages;

	assert_int_equal(pp_stat_read(pool, PP_STAT_RESERVED_PAGES), n);
	return n;
}

static struct pp_reserve *reserve_make(struct pp_pool *pool, size_t nr_runs,
				       size_t nr_pages)
{
	struct pp_reserve *r = NULL;

	assert_int_equal(pp_reserve_create(pool, nr_runs, nr_pages, &r), 0);
	assert_non_null(r);
	return r;
}

static void reserve_end(struct pp_reserve *r, struct pp_pool *pool)
{
	assert_int_equal(pp_pool_check(pool), 0);
	assert_int_equal(pp_reserve_destroy(r), 0);
	assert_int_equal(reserved(pool), 0);
	pool_end(pool);
}

static void test_reserve_arguments_are_checked(void **state)
{
	struct pp_pool *pool = pool_make("16M");
	struct pp_reserve *r = NULL;
	struct pp_ticket t = { .nr_runs = 7 };

	(void)state;
	assert_int_equal(pp_reserve_create(NULL, 1, 1, &r), -EINVAL);
	assert_int_equal(pp_reserve_create(pool, 0, 1, &r), -EINVAL);
	assert_int_equal(pp_reserve_create(pool, 1, 0, &r), -EINVAL);
	assert_int_equal(pp_reserve_create(pool, 1, 1, NULL), -EINVAL);
	assert_int_equal(pp_reserve_create(pool, 5000, 1, &r), -ENOMEM);
	assert_int_equal(pp_reserve_create(pool, 1, 5000, &r), -ENOMEM);
	assert_int_equal(pp_reserve_create(pool, 1, SIZE_MAX, &r), -ENOMEM);
	assert_int_equal(pp_reserve_create(pool, SIZE_MAX, 2, &r), -ENOMEM);
	assert_int_equal(pp_reserve_create(pool, SIZE_MAX, SIZE_MAX, &r),
			 -ENOMEM);
	assert_null(r);
	assert_int_equal(pp_pool_check(pool), 0);

	r = reserve_make(pool, 2, 3);
	errno = 0;
	assert_null(pp_reserve_alloc(NULL, 0));
	assert_int_equal(errno, EINVAL);
	errno = 0;
	assert_null(pp_reserve_alloc(r, 0x80000000u));
	assert_int_equal(errno, EINVAL);
	assert_int_equal(pp_reserve_resize(NULL, 1), -EINVAL);
	assert_int_equal(pp_reserve_resize(r, 0), -EINVAL);
	assert_int_equal(pp_reserve_resize(r, 5000), -ENOMEM);
	assert_int_equal(pp_reserve_hold(NULL, 1, 0, &t), -EINVAL);
	assert_int_equal(pp_reserve_hold(r, 0, 0, &t), -EINVAL);
	assert_int_equal(pp_reserve_hold(r, 1, 0x80000000u, &t), -EINVAL);
	assert_int_equal(pp_reserve_hold(r, 1, 0, NULL), -EINVAL);
	assert_int_equal(pp_reserve_hold(r, 3, 0, &t), -EINVAL);
	/* Void: nothing to draw, and to drop it does nothing. */
	assert_int_equal(t.nr_runs, 0);
	errno = 0;
	assert_null(pp_reserve_draw(&t));
	assert_int_equal(errno, EINVAL);
	assert_null(pp_reserve_draw(NULL));
	pp_reserve_drop(&t);
	pp_reserve_drop(NULL);
	pp_reserve_free(r, NULL);
	pp_reserve_free(NULL, NULL);
	assert_int_equal(pp_reserve_destroy(NULL), -EINVAL);
	reserve_end(r, pool);
	reached_end();
}

/* Every length, with the pages that it really has. */
static void test_reserve_is_in_the_books_to_the_page(void **state)
{
	static const size_t lengths[] = {
		1, 2, 16, 17, 33, 100, 255, 257, 511, 512, 513, 1000,
	};

	(void)state;
	for (size_t i = 0; i < COUNT_OF(lengths); i++) {
		struct pp_pool *pool = pool_make_one_zone("32M");
		size_t n = lengths[i], real = run_length(n);
		struct pp_stats before = pool_stats(pool), now;
		struct pp_reserve *r = reserve_make(pool, 3, n);
		struct pp_ticket t;
		void *run;

		now = pool_stats(pool);
		assert_int_equal(reserved(pool), 3 * real);
		/* The reserve itself is a small object. */
		assert_in_range(now.used_pages, before.used_pages,
				before.used_pages + 32);
		assert_int_equal(pp_reserve_hold(r, 2, 0, &t), 0);
		assert_int_equal(reserved(pool), 3 * real);
		run = pp_reserve_draw(&t);
		assert_int_equal(pp_run_pages(pool, run), real);
		assert_int_equal(reserved(pool), 2 * real);
		assert_int_equal(pool_stats(pool).used_pages,
				 now.used_pages + (int64_t)real);
		pp_reserve_drop(&t);
		assert_int_equal(reserved(pool), 2 * real);
		pp_reserve_free(r, run);
		assert_int_equal(reserved(pool), 3 * real);
		assert_int_equal(pool_stats(pool).used_pages, now.used_pages);
		reserve_end(r, pool);
	}
	reached_end();
}

static void test_reserve_is_in_the_books_of_its_node(void **state)
{
	struct pp_config *config = NULL;
	struct pp_pool *pool = NULL;
	struct pp_reserve *r;
	int64_t sum = 0;

	(void)state;
	assert_int_equal(pp_config_create(&config), 0);
	assert_int_equal(pp_config_set(config, "limit", "64M"), 0);
	assert_int_equal(pp_config_set(config, "fake_nodes", "3"), 0);
	assert_int_equal(pp_config_set(config, "numa", "interleave"), 0);
	assert_int_equal(pp_pool_create(config, &pool), 0);
	pp_config_destroy(config);
	r = reserve_make(pool, 30, 10);
	for (unsigned i = 0; i < 3; i++) {
		struct pp_stats s = { .struct_bytes = sizeof(s) };

		assert_int_equal(pp_numa_snapshot(pool, i, &s), 0);
		assert_int_equal(s.free_pages + s.cached_pages + s.used_pages +
				 s.isolated_pages + s.reserved_pages,
				 s.managed_pages);
		sum += s.reserved_pages;
	}
	assert_int_equal(sum, 300);
	assert_int_equal(reserved(pool), 300);
	reserve_end(r, pool);
	reached_end();
}

/* The promise: all of them, with nothing else left at all. */
static void test_reserve_is_there_when_the_pool_is_at_zero(void **state)
{
	static const size_t lengths[] = { 1, 7, 20, 300 };

	(void)state;
	for (size_t i = 0; i < COUNT_OF(lengths); i++) {
		struct pp_pool *pool = pool_make_one_zone("16M");
		size_t n = lengths[i];
		struct pp_reserve *r = reserve_make(pool, 6, n);
		struct stranger *s = stranger_make(pool);
		int64_t at_first = reserved(pool);
		void *run[6];

		stranger_takes(s, PP_MEMALLOC);
		assert_int_equal(pool_stats(pool).free_pages, 0);
		assert_int_equal(reserved(pool), at_first);
		for (size_t k = 0; k < 6; k++) {
			run[k] = pp_reserve_alloc(r, k % 2 ? PP_NOWAIT : 0);
			assert_non_null(run[k]);
			memset(run[k], (int)k, n * PAGE);
		}
		assert_int_equal(reserved(pool), 0);
		errno = 0;
		assert_null(pp_reserve_alloc(r, PP_NOWAIT | PP_NOWARN));
		assert_int_equal(errno, ENOMEM);
		assert_null(pp_reserve_alloc(r, PP_NORETRY | PP_NOWARN));
		assert_int_equal(pp_reserve_destroy(r), -EBUSY);
		/* What is freed is not for strangers. */
		for (size_t k = 0; k < 6; k++) {
			for (size_t b = 0; b < n * PAGE; b += 512)
				assert_int_equal(((char *)run[k])[b], k);
			errno = 77;
			pp_reserve_free(r, run[k]);
			assert_int_equal(errno, 77);
			assert_int_equal(stranger_takes(s, PP_MEMALLOC), 0);
			assert_int_equal(reserved(pool),
					 at_first / 6 * (int64_t)(k + 1));
		}
		assert_int_equal(pp_pool_check(pool), 0);
		stranger_end(s);
		reserve_end(r, pool);
	}
	reached_end();
}

/* The pool has memory below min, which is for others, whatever the flags. */
static void test_reserve_leaves_the_pools_own_reserve_alone(void **state)
{
	static const unsigned flags[] = {
		0, PP_HIGH, PP_ATOMIC, PP_MEMALLOC, PP_NOFAIL, PP_NOMEMALLOC,
	};
	struct pp_pool *pool = pool_make_one_zone("16M");
	struct pp_reserve *r = reserve_make(pool, COUNT_OF(flags) + 1, 1);
	struct stranger *s = stranger_make(pool);
	void *run[COUNT_OF(flags)];
	unsigned saved;
	int64_t left;

	(void)state;
	stranger_takes(s, 0);
	assert_int_equal(pp_pool_drain(pool), 0);
	stranger_takes(s, 0);
	left = pool_stats(pool).free_pages;
	assert_true(left > 0);
	for (size_t i = 0; i < COUNT_OF(flags); i++) {
		run[i] = pp_reserve_alloc(r, flags[i]);
		assert_non_null(run[i]);
		assert_int_equal(reserved(pool), COUNT_OF(flags) - i);
	}
	saved = pp_scope_enter(PP_MEMALLOC);
	pp_reserve_free(r, pp_reserve_alloc(r, 0));
	pp_scope_leave(saved);
	assert_int_equal(pool_stats(pool).free_pages, left);
	for (size_t i = 0; i < COUNT_OF(flags); i++)
		pp_reserve_free(r, run[i]);
	stranger_end(s);
	reserve_end(r, pool);
	reached_end();
}

/* As long as the pool has memory, the reserve stays whole. */
static void test_reserve_prefers_the_pool(void **state)
{
	struct pp_pool *pool = pool_make("16M");
	struct pp_reserve *r = reserve_make(pool, 2, 2);
	void *run[100];

	(void)state;
	for (size_t i = 0; i < COUNT_OF(run); i++) {
		run[i] = pp_reserve_alloc(r, 0);
		assert_non_null(run[i]);
		assert_int_equal(reserved(pool), 4);
	}
	for (size_t i = 0; i < COUNT_OF(run); i++) {
		pp_reserve_free(r, run[i]);
		assert_int_equal(reserved(pool), 4);
	}
	reserve_end(r, pool);
	reached_end();
}

static bool is_zero(const void *run, size_t nr_pages)
{
	const char *p = run;

	for (size_t i = 0; i < nr_pages * PAGE; i++)
		if (p[i])
			return false;
	return true;
}

static void test_reserve_zeroes_if_asked(void **state)
{
	struct pp_pool *pool = pool_make_one_zone("16M");
	struct pp_reserve *r = reserve_make(pool, 2, 5);
	struct stranger *s = stranger_make(pool);
	struct pp_ticket t;
	void *run, *second;

	(void)state;
	for (unsigned full = 0; full < 2; full++) {
		if (full)
			stranger_takes(s, PP_MEMALLOC);
		run = pp_reserve_alloc(r, 0);
		second = pp_reserve_alloc(r, 0);
		memset(run, 0x77, 5 * PAGE);
		memset(second, 0x77, 5 * PAGE);
		pp_reserve_free(r, run);
		pp_reserve_free(r, second);
		run = pp_reserve_alloc(r, PP_ZERO);
		assert_true(is_zero(run, 5));
		assert_int_equal(pp_reserve_hold(r, 1, PP_ZERO, &t), 0);
		second = pp_reserve_draw(&t);
		assert_true(is_zero(second, 5));
		pp_reserve_drop(&t);
		memset(second, 0x77, 5 * PAGE);
		pp_reserve_free(r, second);
		pp_reserve_free(r, run);
	}
	stranger_end(s);
	reserve_end(r, pool);
	reached_end();
}

static void test_reserve_is_a_reason_not_to_destroy_the_pool(void **state)
{
	struct pp_pool *pool = pool_make("16M");
	struct pp_reserve *a = reserve_make(pool, 2, 1);
	struct pp_reserve *b = reserve_make(pool, 1, 40);
	struct pp_ticket t;

	(void)state;
	assert_int_equal(pp_pool_destroy(pool), -EBUSY);
	assert_int_equal(pp_reserve_hold(a, 1, 0, &t), 0);
	assert_int_equal(pp_reserve_destroy(a), -EBUSY);
	pp_reserve_free(a, pp_reserve_draw(&t));
	/* A ticket that is used up is still held. */
	assert_int_equal(pp_reserve_destroy(a), -EBUSY);
	assert_int_equal(reserved(pool), 42);
	pp_reserve_drop(&t);
	assert_int_equal(pp_reserve_destroy(a), 0);
	assert_int_equal(pp_pool_destroy(pool), -EBUSY);
	assert_int_equal(reserved(pool), 40);
	reserve_end(b, pool);
	reached_end();
}

/* For every amount of memory that is left, whether it is enough or not. */
static void test_reserve_that_cannot_be_made_takes_nothing(void **state)
{
	struct pp_pool *pool = pool_make_one_zone("16M");
	struct stranger *s = stranger_make(pool);
	size_t made = 0, refused = 0;
	struct pp_stats before, after;
	struct pp_reserve *r;
	int err;

	(void)state;
	/* The objects' slab, once and for all. */
	r = reserve_make(pool, 1, 1);
	assert_int_equal(pp_reserve_destroy(r), 0);
	stranger_takes(s, 0);
	for (size_t left = 0; left < 60; left++) {
		assert_int_equal(pp_pool_drain(pool), 0);
		before = pool_stats(pool);
		r = NULL;
		err = pp_reserve_create(pool, 4, 5, &r);
		made += !err;
		refused += err == -ENOMEM;
		if (!err) {
			assert_int_equal(reserved(pool), 20);
			assert_int_equal(pp_reserve_destroy(r), 0);
		} else {
			assert_int_equal(err, -ENOMEM);
			assert_null(r);
		}
		assert_int_equal(pp_pool_drain(pool), 0);
		after = pool_stats(pool);
		assert_int_equal(after.reserved_pages, 0);
		assert_true(after.used_pages <= before.used_pages);
		assert_int_equal(pp_pool_check(pool), 0);
		stranger_gives(s, 1);
	}
	assert_true(made > 0 && refused > 0);
	assert_int_equal(made + refused, 60);
	stranger_end(s);
	pool_end(pool);
	reached_end();
}

/* The limit would allow it, but the kernel does not. */
static void test_reserve_that_the_kernel_refuses_takes_nothing(void **state)
{
	struct pp_pool *pool = pool_make_one_zone("64M");
	struct pp_reserve *r = reserve_make(pool, 2, 300), *second = NULL;
	int64_t at_first = reserved(pool);
	int missing;

	(void)state;
	fault_arm(FAULT_COMMIT, FAULT_ALWAYS);
	assert_int_equal(pp_reserve_create(pool, 45, 300, &second), -ENOMEM);
	assert_null(second);
	assert_int_equal(reserved(pool), at_first);
	missing = pp_reserve_resize(r, 45);
	assert_true(missing > 0);
	assert_int_equal(reserved(pool), (45 - missing) * 300);
	assert_int_equal(pp_pool_check(pool), 0);
	fault_arm(FAULT_COMMIT, 0);
	assert_int_equal(pp_reserve_resize(r, 45), 0);
	assert_int_equal(reserved(pool), 45 * 300);
	reserve_end(r, pool);
	reached_end();
}

/* Sizes */

static void test_reserve_can_be_resized(void **state)
{
	struct pp_pool *pool = pool_make_one_zone("16M");
	struct pp_reserve *r = reserve_make(pool, 4, 3);
	struct stranger *s = stranger_make(pool);
	void *run[10];

	(void)state;
	assert_int_equal(pp_reserve_resize(r, 10), 0);
	assert_int_equal(reserved(pool), 30);
	assert_int_equal(pp_reserve_resize(r, 2), 0);
	assert_int_equal(reserved(pool), 6);
	/* Two fresh ones out, and no memory: what cannot be had comes later,
	 * before the stranger gets anything. */
	run[0] = pp_reserve_alloc(r, 0);
	run[1] = pp_reserve_alloc(r, 0);
	stranger_takes(s, PP_MEMALLOC);
	assert_int_equal(pp_reserve_resize(r, 5), 3);
	assert_int_equal(reserved(pool), 6);
	pp_reserve_free(r, run[0]);
	assert_int_equal(reserved(pool), 9);
	pp_reserve_free(r, run[1]);
	assert_int_equal(reserved(pool), 12);
	assert_int_equal(stranger_takes(s, PP_MEMALLOC), 0);
	assert_int_equal(pp_reserve_resize(r, 5), 1);
	/* What is out when it shrinks goes to the pool. */
	for (size_t i = 0; i < 4; i++)
		run[i] = pp_reserve_alloc(r, 0);
	assert_int_equal(pp_reserve_resize(r, 1), 1);
	for (size_t i = 0; i < 4; i++)
		pp_reserve_free(r, run[i]);
	assert_int_equal(reserved(pool), 3);
	assert_int_equal(stranger_takes(s, PP_MEMALLOC), 9);
	stranger_gives(s, s->nr);
	assert_int_equal(pp_reserve_resize(r, 5), 0);
	assert_int_equal(reserved(pool), 15);
	stranger_end(s);
	reserve_end(r, pool);
	reached_end();
}

/* Waiting */

struct waiter {
	struct pp_reserve	*r;
	pthread_t		thread;
	size_t			hold;
	struct pp_ticket	ticket;
	void			*run;
	int			err;
	_Atomic bool		done;
};

static void *wait_for_run(void *arg)
{
	struct waiter *w = arg;

	if (w->hold)
		w->err = pp_reserve_hold(w->r, w->hold, 0, &w->ticket);
	else
		w->run = pp_reserve_alloc(w->r, 0);
	atomic_store(&w->done, true);
	return NULL;
}

static size_t nr_waiting(struct pp_reserve *r)
{
	size_t n;

	lock_acquire(&r->mempool.lock);
	n = mempool_nr_waiting(&r->mempool);
	lock_release(&r->mempool.lock);
	return n;
}

/* Returns when it is the last in the queue. */
static void waiter_start(struct waiter *w)
{
	size_t before = nr_waiting(w->r);

	assert_int_equal(pthread_create(&w->thread, NULL, wait_for_run, w), 0);
	while (nr_waiting(w->r) == before)
		sched_yield();
}

static void test_reserve_who_waits_is_served_in_turn(void **state)
{
	struct pp_pool *pool = pool_make_one_zone("16M");
	struct pp_reserve *r = reserve_make(pool, 1, 4);
	struct stranger *s = stranger_make(pool);
	struct waiter w[NR_THREADS];
	void *run;

	(void)state;
	alarm(100);
	r->mempool.retry_ns = 3600000000000ull;	/* by wake-ups alone */
	stranger_takes(s, PP_MEMALLOC);
	run = pp_reserve_alloc(r, 0);
	for (size_t i = 0; i < NR_THREADS; i++) {
		w[i] = (struct waiter){ .r = r, .hold = i % 2 };
		waiter_start(&w[i]);
	}
	for (size_t i = 0; i < NR_THREADS; i++) {
		for (size_t k = i; k < NR_THREADS; k++)
			assert_false(w[k].done);
		assert_null(pp_reserve_alloc(r, PP_NOWAIT | PP_NOWARN));
		pp_reserve_free(r, run);
		pthread_join(w[i].thread, NULL);
		run = w[i].hold ? pp_reserve_draw(&w[i].ticket) : w[i].run;
		pp_reserve_drop(&w[i].ticket);
		assert_non_null(run);
	}
	pp_reserve_free(r, run);
	assert_int_equal(reserved(pool), 4);
	stranger_end(s);
	reserve_end(r, pool);
	alarm(0);
	reached_end();
}

static void test_reserve_resize_ends_a_wait_for_too_much(void **state)
{
	struct pp_pool *pool = pool_make_one_zone("16M");
	struct pp_reserve *r = reserve_make(pool, 3, 1);
	struct stranger *s = stranger_make(pool);
	struct waiter w = { .r = r, .hold = 3 };
	void *run;

	(void)state;
	alarm(100);
	stranger_takes(s, PP_MEMALLOC);
	run = pp_reserve_alloc(r, 0);
	waiter_start(&w);
	assert_false(w.done);
	assert_true(pp_reserve_resize(r, 2) >= 0);
	pthread_join(w.thread, NULL);
	assert_int_equal(w.err, -EINVAL);
	assert_int_equal(w.ticket.nr_runs, 0);
	pp_reserve_free(r, run);
	assert_int_equal(reserved(pool), 2);
	stranger_end(s);
	reserve_end(r, pool);
	alarm(0);
	reached_end();
}

/* Tickets */

static void test_reserve_ticket_never_fails_to_draw(void **state)
{
	struct pp_pool *pool = pool_make_one_zone("16M");
	struct pp_reserve *r = reserve_make(pool, 5, 2);
	struct stranger *s = stranger_make(pool);
	struct pp_ticket a, b;
	void *run[3], *other;

	(void)state;
	assert_int_equal(pp_reserve_hold(r, 3, 0, &a), 0);
	stranger_takes(s, PP_MEMALLOC);
	assert_int_equal(pp_reserve_hold(r, 3, PP_NOWAIT | PP_NOWARN, &b),
			 -ENOMEM);
	assert_int_equal(pp_reserve_hold(r, 2, PP_NOWAIT, &b), 0);
	assert_null(pp_reserve_alloc(r, PP_NOWAIT | PP_NOWARN));
	for (size_t i = 0; i < 3; i++) {
		run[i] = pp_reserve_draw(&a);
		assert_non_null(run[i]);
		memset(run[i], 1, 2 * PAGE);
		assert_int_equal(a.nr_runs, 2 - i);
	}
	errno = 0;
	assert_null(pp_reserve_draw(&a));
	assert_int_equal(errno, EINVAL);
	/* The rest of the other serves anybody. */
	other = pp_reserve_draw(&b);
	pp_reserve_drop(&b);
	pp_reserve_free(r, other);
	assert_int_equal(reserved(pool), 4);
	other = pp_reserve_alloc(r, PP_NOWAIT);
	assert_non_null(other);
	pp_reserve_free(r, other);
	for (size_t i = 0; i < 3; i++)
		pp_reserve_free(r, run[i]);
	pp_reserve_drop(&a);
	assert_int_equal(reserved(pool), 10);
	stranger_end(s);
	reserve_end(r, pool);
	reached_end();
}

/* fork */

static int use_in_child(struct pp_pool *pool, struct pp_reserve *r,
			struct pp_ticket *t)
{
	void *run, *second;

	alarm(60);
	run = pp_reserve_draw(t);
	second = pp_reserve_alloc(r, PP_NOWAIT | PP_NOWARN);
	if (!run || second)
		return 1;
	memset(run, 3, PAGE);
	pp_reserve_free(r, run);
	/* Nobody here waits for it. */
	run = pp_reserve_alloc(r, PP_NOWAIT);
	if (!run)
		return 2;
	pp_reserve_free(r, run);
	pp_reserve_drop(t);
	if (pp_pool_check(pool) || pp_reserve_resize(r, 1) < 0)
		return 3;
	return 0;
}

static void test_reserve_child_of_a_fork_goes_on(void **state)
{
	struct pp_pool *pool = pool_make_one_zone("16M");
	struct pp_reserve *r = reserve_make(pool, 2, 1);
	struct stranger *s = stranger_make(pool);
	struct waiter w[2] = { { .r = r }, { .r = r, .hold = 2 } };
	struct pp_ticket t;
	int status = -1;
	void *run;
	pid_t pid;

	(void)state;
	alarm(100);
	stranger_takes(s, PP_MEMALLOC);
	assert_int_equal(pp_reserve_hold(r, 1, 0, &t), 0);
	run = pp_reserve_alloc(r, 0);
	waiter_start(&w[0]);
	waiter_start(&w[1]);
	fflush(stdout);
	pid = fork();
	if (!pid)
		_exit(use_in_child(pool, r, &t));
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_false(w[0].done || w[1].done);
	pp_reserve_drop(&t);
	pthread_join(w[0].thread, NULL);
	pp_reserve_free(r, w[0].run);
	pp_reserve_free(r, run);
	pthread_join(w[1].thread, NULL);
	assert_int_equal(w[1].err, 0);
	pp_reserve_drop(&w[1].ticket);
	stranger_end(s);
	reserve_end(r, pool);
	alarm(0);
	reached_end();
}

/* A model beside it */

#define MAX_OUT		64
#define MAX_TICKETS	8

struct model {
	struct pp_pool		*pool;
	struct pp_reserve	*r;
	struct stranger		*s;
	size_t			nr_pages, nr_min, nr_out, nr_tickets, held;
	uint64_t		*out[MAX_OUT];
	struct pp_ticket	ticket[MAX_TICKETS];
	bool			short_of;	/* a growth was not filled */
	uint64_t		tag;
};

/* Who gets it writes its number into each page, beginning and end. */
static void model_add(struct model *m, void *run)
{
	uint64_t *p = run;

	for (size_t i = 0; i < m->nr_out; i++)
		assert_ptr_not_equal(m->out[i], run);
	for (size_t k = 0; k < m->nr_pages; k++)
		p[k * 512] = p[k * 512 + 511] = m->nr_out + k * 1000;
	m->out[m->nr_out++] = p;
}

static void model_del(struct model *m, size_t i)
{
	uint64_t *p = m->out[i];

	for (size_t k = 0; k < m->nr_pages; k++) {
		assert_true(p[k * 512] % 1000 == p[k * 512 + 511] % 1000);
		assert_true(p[k * 512] / 1000 == k);
	}
	pp_reserve_free(m->r, p);
	m->out[i] = m->out[--m->nr_out];
}

static void model_hold(struct model *m, size_t nr)
{
	struct pp_ticket *t = &m->ticket[m->nr_tickets];
	int err = pp_reserve_hold(m->r, nr, PP_NOWAIT | PP_NOWARN, t);

	assert_int_equal(err == -EINVAL, nr > m->nr_min);
	if (err)
		return;
	assert_int_equal(t->nr_runs, nr);
	m->held += nr;
	m->nr_tickets++;
}

static void model_ticket(struct model *m, size_t i, bool drop)
{
	struct pp_ticket *t = &m->ticket[i];

	if (!drop && t->nr_runs && m->nr_out < MAX_OUT) {
		m->held--;
		model_add(m, pp_reserve_draw(t));
		return;
	}
	m->held -= t->nr_runs;
	pp_reserve_drop(t);
	m->ticket[i] = m->ticket[--m->nr_tickets];
}

static void model_resize(struct model *m, size_t nr)
{
	int missing = pp_reserve_resize(m->r, nr);

	assert_true(missing >= 0 && (size_t)missing <= nr);
	m->nr_min = nr;
	m->short_of = missing > 0;
}

static void model_stranger(struct model *m, struct rng *r)
{
	size_t nr = rng_below(r, m->s->nr + 1);

	if (rng_below(r, 3) && nr)
		stranger_gives(m->s, nr < 40 ? nr : 40);
	else
		stranger_takes(m->s, rng_below(r, 2) ? PP_MEMALLOC : 0);
}

static void model_step(struct model *m, struct rng *r)
{
	void *run;

	switch (rng_below(r, 8)) {
	case 0:
	case 1:
		run = m->nr_out == MAX_OUT ? NULL :
		      pp_reserve_alloc(m->r, PP_NOWAIT | PP_NOWARN);
		if (run)
			model_add(m, run);
		break;
	case 2:
	case 3:
		if (m->nr_out)
			model_del(m, rng_below(r, m->nr_out));
		break;
	case 4:
		if (m->nr_tickets < MAX_TICKETS)
			model_hold(m, 1 + rng_below(r, 5));
		break;
	case 5:
		if (m->nr_tickets)
			model_ticket(m, rng_below(r, m->nr_tickets),
				     rng_below(r, 3) == 0);
		break;
	case 6:
		if (!rng_below(r, 10))
			model_resize(m, 1 + rng_below(r, 16));
		break;
	default:
		if (!rng_below(r, 10))
			model_stranger(m, r);
		break;
	}
}

static void model_check(struct model *m)
{
	size_t n = (size_t)reserved(m->pool) / m->nr_pages;

	/* What is promised, and no more than that. */
	assert_true(n >= m->held);
	assert_true(m->short_of || n + m->nr_out >= m->nr_min);
	assert_true(n <= (m->held > m->nr_min ? m->held : m->nr_min));
}

static void test_reserve_random_operations_match_the_model(void **state)
{
	static const size_t lengths[] = { 1, 3, 16 };
	size_t nr = test_number("PP_TEST_RESERVE", 20000);

	(void)state;
	for (size_t l = 0; l < COUNT_OF(lengths); l++) {
		struct pp_pool *pool = pool_make_one_zone("8M");
		struct rng r = rng_make((unsigned)l);
		struct model m = {
			.pool = pool, .nr_pages = lengths[l], .nr_min = 6,
			.r = reserve_make(pool, 6, lengths[l]),
			.s = stranger_make(pool),
		};

		for (size_t i = 0; i < nr; i++) {
			model_step(&m, &r);
			model_check(&m);
			if (i % 1000 == 0)
				assert_int_equal(pp_pool_check(pool), 0);
		}
		while (m.nr_tickets)
			model_ticket(&m, 0, true);
		while (m.nr_out)
			model_del(&m, 0);
		stranger_end(m.s);
		reserve_end(m.r, pool);
	}
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_reserve_arguments_are_checked),
		TEST(test_reserve_is_in_the_books_to_the_page),
		TEST(test_reserve_is_in_the_books_of_its_node),
		TEST(test_reserve_is_there_when_the_pool_is_at_zero),
		TEST(test_reserve_leaves_the_pools_own_reserve_alone),
		TEST(test_reserve_prefers_the_pool),
		TEST(test_reserve_zeroes_if_asked),
		TEST(test_reserve_is_a_reason_not_to_destroy_the_pool),
		TEST(test_reserve_that_cannot_be_made_takes_nothing),
		TEST(test_reserve_that_the_kernel_refuses_takes_nothing),
		TEST(test_reserve_can_be_resized),
		TEST(test_reserve_who_waits_is_served_in_turn),
		TEST(test_reserve_resize_ends_a_wait_for_too_much),
		TEST(test_reserve_ticket_never_fails_to_draw),
		TEST(test_reserve_child_of_a_fork_goes_on),
		TEST(test_reserve_random_operations_match_the_model),
	};

	test_clear_environment();
	return cmocka_run_group_tests_name("reserve", tests, NULL, NULL);
}
