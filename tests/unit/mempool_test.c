/* SPDX-License-Identifier: MIT */
/*
 * The mempool on a source that gives as much as a test says: the order of its
 * steps and the flags of each, who gets what comes back, tickets, other sizes,
 * and what a fork leaves.  Elements know where they are, so that one that is in
 * two places is found and not only a wrong sum.
 */
#include "../api/testing.h"

#include <sched.h>
#include <sys/wait.h>

#include "mempool.h"
#include "scope.h"

#define MAX_ELEMENTS	64
#define MAX_CALLS	512
#define NR_THREADS	6

enum place { IN_SOURCE, IN_USE, IS_PARKED };

struct element {
	uint64_t	words[8];	/* the mempool's, while parked */
	_Atomic int	place;
};

struct source {
	struct mempool	mp;
	struct element	element[MAX_ELEMENTS];
	_Atomic size_t	left;		/* how many more it gives */
	_Atomic size_t	nr_calls, nr_asked;
	unsigned	flags[MAX_CALLS];
	size_t		fail_at;	/* this call fails; 0: none */
};

static void move_element(struct element *e, int from, int to)
{
	int seen = from;

	thread_check(atomic_compare_exchange_strong(&e->place, &seen, to));
}

static bool may_give(struct source *s, unsigned flags)
{
	size_t left = atomic_load(&s->left);
	size_t call = atomic_fetch_add(&s->nr_calls, 1);

	if (call < MAX_CALLS)
		s->flags[call] = flags;
	if (s->fail_at && call + 1 == s->fail_at)
		return false;
	while (left && !atomic_compare_exchange_weak(&s->left, &left, left - 1))
		;
	return left != 0;
}

static void *source_alloc(void *arg, unsigned flags)
{
	struct source *s = arg;

	if (!may_give(s, flags))
		return NULL;
	for (size_t i = 0; i < MAX_ELEMENTS; i++) {
		int seen = IN_SOURCE;

		if (atomic_compare_exchange_strong(&s->element[i].place, &seen,
						   IN_USE))
			return &s->element[i];
	}
	thread_check(false);
	return NULL;
}

static void source_free(void *arg, void *element)
{
	struct source *s = arg;

	move_element(element, IN_USE, IN_SOURCE);
	atomic_fetch_add(&s->left, 1);
}

static void source_park(void *arg, void *element)
{
	(void)arg;
	move_element(element, IN_USE, IS_PARKED);
}

static void source_unpark(void *arg, void *element, unsigned flags)
{
	struct element *e = element;

	(void)arg;
	move_element(e, IS_PARKED, IN_USE);
	if (flags & PP_ZERO)
		memset(e->words, 0, sizeof(e->words));
}

static bool source_is_parked(void *arg, const void *element)
{
	const struct element *e = element;

	(void)arg;
	return atomic_load(&e->place) == IS_PARKED;
}

static const struct mempool_ops source_ops = {
	.alloc = source_alloc, .free = source_free, .park = source_park,
	.unpark = source_unpark, .is_parked = source_is_parked,
};

static size_t count_at(struct source *s, int place)
{
	size_t n = 0;

	for (size_t i = 0; i < MAX_ELEMENTS; i++)
		n += atomic_load(&s->element[i].place) == place;
	return n;
}

/* @nr set aside, and nothing more to be had. */
static struct source *source_make(size_t nr)
{
	struct source *s = test_array(1, sizeof(*s));

	mempool_init(&s->mp, &source_ops, s);
	s->left = nr;
	assert_int_equal(mempool_resize(&s->mp, nr), 0);
	s->nr_calls = 0;
	assert_int_equal(count_at(s, IS_PARKED), nr);
	return s;
}

static int verify(struct source *s)
{
	int err;

	lock_acquire(&s->mp.lock);
	err = mempool_verify(&s->mp);
	lock_release(&s->mp.lock);
	return err;
}

static void source_end(struct source *s)
{
	assert_int_equal(verify(s), 0);
	assert_true(mempool_exit(&s->mp));
	assert_int_equal(count_at(s, IN_SOURCE), MAX_ELEMENTS);
	assert_threads_ok();
	free(s);
}

static void test_mempool_asks_the_source_first(void **state)
{
	struct source *s = source_make(3);
	void *e;

	(void)state;
	s->left = 1;
	e = mempool_alloc(&s->mp, PP_ZERO);
	assert_non_null(e);
	assert_int_equal(s->mp.nr_free, 3);
	assert_int_equal(s->nr_calls, 1);
	/* All that is out goes back to the source, as nothing is missing. */
	assert_true(mempool_free(&s->mp, e));
	assert_int_equal(s->left, 1);
	assert_int_equal(s->mp.nr_free, 3);
	s->left = 1;
	source_end(s);
	reached_end();
}

/* The flags of the steps, for each that a caller may have. */
static void test_mempool_steps_have_their_flags(void **state)
{
	static const unsigned callers[] = {
		0, PP_NOFAIL, PP_HIGH, PP_MEMALLOC, PP_ZERO, PP_NOIO | PP_NOFS,
		PP_NOWAIT, PP_NORETRY, PP_ATOMIC, PP_NOFAIL | PP_THISNODE,
	};
	const unsigned soft = PP_NOWAIT | PP_NORETRY | PP_NOMEMALLOC |
			      PP_NOWARN;
	const unsigned full = PP_NOMEMALLOC | PP_RETRY_MAYFAIL | PP_NOWARN;

	(void)state;
	for (size_t i = 0; i < COUNT_OF(callers); i++) {
		struct source *s = source_make(1);
		unsigned kept = callers[i] & ~PP_NOFAIL;
		bool waits = !(callers[i] & (PP_NOWAIT | PP_NORETRY));
		void *e = mempool_alloc(&s->mp, callers[i]);

		assert_non_null(e);	/* the one that is set aside */
		assert_int_equal(s->nr_calls, 1);
		assert_int_equal(s->flags[0], kept | soft);
		s->left = 1;
		s->fail_at = 2;
		if (waits) {
			void *second = mempool_alloc(&s->mp, callers[i]);

			assert_int_equal(s->nr_calls, 3);
			assert_int_equal(s->flags[2], kept | full);
			assert_true(mempool_free(&s->mp, second));
		} else {
			assert_null(mempool_alloc(&s->mp, callers[i]));
			assert_int_equal(s->nr_calls, 2);
		}
		assert_true(mempool_free(&s->mp, e));
		source_end(s);
	}
	reached_end();
}

static void test_mempool_frees_fill_it_first(void **state)
{
	struct source *s = source_make(4);
	void *e[4];

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		e[i] = mempool_alloc(&s->mp, PP_NOWAIT);
		assert_non_null(e[i]);
		assert_int_equal(s->mp.nr_free, 3 - i);
	}
	assert_null(mempool_alloc(&s->mp, PP_NOWAIT));
	assert_null(mempool_alloc(&s->mp, PP_NORETRY));
	assert_false(mempool_exit(&s->mp));
	for (size_t i = 0; i < 4; i++) {
		assert_true(mempool_free(&s->mp, e[i]));
		assert_int_equal(s->mp.nr_free, i + 1);
		assert_int_equal(s->left, 0);
		assert_int_equal(verify(s), 0);
	}
	source_end(s);
	reached_end();
}

static void test_mempool_free_of_what_is_not_out_is_noticed(void **state)
{
	struct source *s = source_make(1);

	(void)state;
	s->left = 1;
	assert_false(mempool_free(&s->mp, source_alloc(s, 0)));
	assert_false(mempool_forget(&s->mp));
	s->element[1].place = IN_SOURCE;
	source_end(s);
	reached_end();
}

/* Threads that wait */

struct asker {
	struct source	*s;
	pthread_t	thread;
	size_t		nr;		/* 0: an element; else a ticket */
	unsigned	flags;
	void		*element;
	struct mempool_list list;
	int		err;
	size_t		turn;
	_Atomic size_t	*turns;
	_Atomic bool	done;
};

static void *ask(void *arg)
{
	struct asker *a = arg;

	if (a->nr)
		a->err = mempool_hold(&a->s->mp, a->nr, a->flags, &a->list);
	else
		a->element = mempool_alloc(&a->s->mp, a->flags);
	if (a->turns)
		a->turn = atomic_fetch_add(a->turns, 1);
	atomic_store(&a->done, true);
	return NULL;
}

static size_t queue_length(struct mempool *mp);

/* Returns when it stands in the queue as the last of @nr. */
static void asker_start(struct asker *a, size_t nr)
{
	assert_int_equal(pthread_create(&a->thread, NULL, ask, a), 0);
	while (queue_length(&a->s->mp) != nr)
		sched_yield();
}

static void asker_wait(struct asker *a)
{
	pthread_join(a->thread, NULL);
	assert_true(a->done);
}

/* Those who were not granted anything yet. */
static size_t queue_length(struct mempool *mp)
{
	size_t n;

	lock_acquire(&mp->lock);
	n = mempool_nr_waiting(mp);
	lock_release(&mp->lock);
	return n;
}

static void test_mempool_wakes_in_turn(void **state)
{
	struct source *s = source_make(1);
	_Atomic size_t turns = 0;
	struct asker a[NR_THREADS];
	void *e = mempool_alloc(&s->mp, 0);

	(void)state;
	alarm(100);
	for (size_t i = 0; i < NR_THREADS; i++) {
		a[i] = (struct asker){ .s = s, .turns = &turns };
		asker_start(&a[i], i + 1);
	}
	/* Whoever comes now does not get ahead of them, nor takes long. */
	assert_null(mempool_alloc(&s->mp, PP_NOWAIT));
	for (size_t i = 0; i < NR_THREADS; i++) {
		assert_true(mempool_free(&s->mp, e));
		assert_null(mempool_alloc(&s->mp, PP_NOWAIT));
		asker_wait(&a[i]);
		assert_int_equal(a[i].turn, i);
		e = a[i].element;
		assert_int_equal(queue_length(&s->mp), NR_THREADS - i - 1);
		assert_int_equal(verify(s), 0);
	}
	assert_true(mempool_free(&s->mp, e));
	source_end(s);
	alarm(0);
	reached_end();
}

/* The first in the queue wants much: what comes back gathers for it, and those
 * behind it and those who come have to wait, even if there is one for them. */
static void test_mempool_large_ticket_does_not_starve(void **state)
{
	struct source *s = source_make(3);
	_Atomic size_t turns = 0;
	struct asker large = { .s = s, .nr = 3, .turns = &turns };
	struct asker small = { .s = s, .turns = &turns };
	void *e[3];

	(void)state;
	alarm(100);
	for (size_t i = 0; i < 3; i++)
		e[i] = mempool_alloc(&s->mp, 0);
	asker_start(&large, 1);
	asker_start(&small, 2);
	for (size_t i = 0; i < 3; i++) {
		assert_null(mempool_alloc(&s->mp, PP_NOWAIT));
		assert_false(large.done || small.done);
		assert_true(mempool_free(&s->mp, e[i]));
	}
	asker_wait(&large);
	assert_int_equal(large.err, 0);
	assert_int_equal(large.list.nr, 3);
	assert_false(small.done);
	e[0] = mempool_draw(&s->mp, &large.list, 0);
	mempool_drop(&s->mp, &large.list);
	asker_wait(&small);
	assert_int_equal(small.turn, 1);
	assert_true(mempool_free(&s->mp, e[0]));
	assert_true(mempool_free(&s->mp, small.element));
	source_end(s);
	alarm(0);
	reached_end();
}

/* Nothing comes back, but the source has something again. */
static void test_mempool_who_waits_asks_the_source_again(void **state)
{
	struct source *s = source_make(2);
	struct asker one = { .s = s }, two = { .s = s, .nr = 2 };
	void *e[2];

	(void)state;
	alarm(100);
	s->mp.retry_ns = 1000000;
	for (size_t i = 0; i < 2; i++)
		e[i] = mempool_alloc(&s->mp, 0);
	asker_start(&one, 1);
	asker_start(&two, 2);
	atomic_fetch_add(&s->left, 3);
	asker_wait(&one);
	asker_wait(&two);
	assert_int_equal(two.err, 0);
	assert_int_equal(two.list.nr, 2);
	assert_int_equal(queue_length(&s->mp), 0);
	mempool_drop(&s->mp, &two.list);
	assert_true(mempool_free(&s->mp, one.element));
	for (size_t i = 0; i < 2; i++)
		assert_true(mempool_free(&s->mp, e[i]));
	assert_int_equal(s->mp.nr_free, 2);
	source_end(s);
	alarm(0);
	reached_end();
}

/* Tickets */

static void test_mempool_ticket_is_all_or_nothing(void **state)
{
	struct source *s = source_make(4);
	struct mempool_list a, b;
	void *e;

	(void)state;
	assert_int_equal(mempool_hold(&s->mp, 0, 0, &a), -EINVAL);
	assert_int_equal(mempool_hold(&s->mp, 5, 0, &a), -EINVAL);
	assert_int_equal(mempool_hold(&s->mp, 3, 0, &a), 0);
	assert_int_equal(s->mp.nr_held, 3);
	assert_int_equal(mempool_hold(&s->mp, 2, PP_NOWAIT, &b), -ENOMEM);
	assert_int_equal(mempool_hold(&s->mp, 2, PP_NORETRY, &b), -ENOMEM);
	assert_int_equal(s->mp.nr_tickets, 1);
	assert_int_equal(s->mp.nr_free, 1);
	assert_int_equal(s->mp.nr_held, 3);
	assert_int_equal(b.nr, 0);
	/* Part of it from the source. */
	s->left = 1;
	assert_int_equal(mempool_hold(&s->mp, 2, PP_NOWAIT, &b), 0);
	assert_int_equal(s->left, 0);
	assert_int_equal(s->mp.nr_held, 5);
	assert_false(mempool_exit(&s->mp));
	for (size_t i = 0; i < 3; i++) {
		e = mempool_draw(&s->mp, &a, 0);
		assert_int_equal(s->mp.nr_held, 4 - i);
		assert_true(mempool_free(&s->mp, e));
	}
	mempool_drop(&s->mp, &a);
	assert_false(mempool_exit(&s->mp));
	mempool_drop(&s->mp, &b);
	assert_int_equal(s->mp.nr_free, 4);
	assert_int_equal(s->left, 1);
	source_end(s);
	reached_end();
}

static void test_mempool_drop_wakes_all_whom_it_serves(void **state)
{
	struct source *s = source_make(NR_THREADS);
	struct asker a[NR_THREADS];
	struct mempool_list list;

	(void)state;
	alarm(100);
	assert_int_equal(mempool_hold(&s->mp, NR_THREADS, 0, &list), 0);
	for (size_t i = 0; i < NR_THREADS; i++) {
		a[i] = (struct asker){ .s = s };
		asker_start(&a[i], i + 1);
	}
	mempool_drop(&s->mp, &list);
	for (size_t i = 0; i < NR_THREADS; i++)
		asker_wait(&a[i]);
	for (size_t i = 0; i < NR_THREADS; i++)
		assert_true(mempool_free(&s->mp, a[i].element));
	source_end(s);
	alarm(0);
	reached_end();
}

/* Sizes */

static void test_mempool_shrinks_at_once(void **state)
{
	struct source *s = source_make(6);
	void *e = mempool_alloc(&s->mp, 0), *f = mempool_alloc(&s->mp, 0);

	(void)state;
	assert_int_equal(mempool_resize(&s->mp, 3), 0);
	assert_int_equal(s->mp.nr_free, 3);
	assert_int_equal(s->left, 1);
	assert_true(mempool_free(&s->mp, e));
	assert_true(mempool_free(&s->mp, f));
	assert_int_equal(s->left, 3);
	assert_int_equal(s->mp.nr_free, 3);
	source_end(s);
	reached_end();
}

static void test_mempool_growth_is_filled_by_frees(void **state)
{
	struct source *s = source_make(2);
	void *e[6];

	(void)state;
	s->left = 4;
	for (size_t i = 0; i < 6; i++)
		e[i] = mempool_alloc(&s->mp, 0);
	assert_int_equal(s->mp.nr_free, 0);
	assert_int_equal(mempool_resize(&s->mp, 5), 5);
	s->left = 2;
	assert_int_equal(mempool_resize(&s->mp, 5), 3);
	for (size_t i = 0; i < 6; i++) {
		assert_true(mempool_free(&s->mp, e[i]));
		assert_int_equal(s->mp.nr_free, i < 3 ? i + 3 : 5);
	}
	assert_int_equal(s->left, 3);
	source_end(s);
	reached_end();
}

static void test_mempool_growth_serves_who_waits(void **state)
{
	struct source *s = source_make(1);
	struct asker a = { .s = s };
	void *e = mempool_alloc(&s->mp, 0);

	(void)state;
	alarm(100);
	asker_start(&a, 1);
	s->left = 1;
	mempool_resize(&s->mp, 2);
	asker_wait(&a);
	assert_true(mempool_free(&s->mp, a.element));
	assert_true(mempool_free(&s->mp, e));
	assert_int_equal(s->mp.nr_free, 2);
	source_end(s);
	alarm(0);
	reached_end();
}

static void test_mempool_ticket_that_will_never_be_is_refused(void **state)
{
	struct source *s = source_make(4);
	struct asker large = { .s = s, .nr = 4 }, small = { .s = s, .nr = 2 };
	void *e[4];

	(void)state;
	alarm(100);
	for (size_t i = 0; i < 4; i++)
		e[i] = mempool_alloc(&s->mp, 0);
	asker_start(&large, 1);
	asker_start(&small, 2);
	assert_int_equal(mempool_resize(&s->mp, 2), 2);
	asker_wait(&large);
	assert_int_equal(large.err, -EINVAL);
	assert_int_equal(s->mp.nr_tickets, 1);
	for (size_t i = 0; i < 4; i++)
		assert_true(mempool_free(&s->mp, e[i]));
	asker_wait(&small);
	assert_int_equal(small.err, 0);
	mempool_drop(&s->mp, &small.list);
	source_end(s);
	alarm(0);
	reached_end();
}

/* For each call of the source: if that one fails, nothing is lost. */
static void test_mempool_any_refusal_leaves_it_as_it_was(void **state)
{
	(void)state;
	for (size_t n = 1; n <= 14; n++) {
		struct source *s = source_make(4);
		struct mempool_list list;
		size_t missing;
		void *e[4];
		int err;

		for (size_t i = 0; i < 4; i++)
			e[i] = mempool_alloc(&s->mp, 0);
		s->nr_calls = 0;
		s->left = 4;
		s->fail_at = n;
		err = mempool_hold(&s->mp, 4, PP_NOWAIT, &list);
		assert_int_equal(err, n <= 4 ? -ENOMEM : 0);
		assert_int_equal(s->mp.nr_tickets, !err);
		if (err) {
			assert_int_equal(s->mp.nr_held, 0);
			assert_int_equal(s->mp.nr_free, n - 1);
		} else {
			mempool_drop(&s->mp, &list);
		}
		for (size_t i = 0; i < 4; i++)
			assert_true(mempool_free(&s->mp, e[i]));
		assert_int_equal(s->mp.nr_free, 4);
		assert_int_equal(s->left, 4);
		s->nr_calls = 0;
		missing = mempool_resize(&s->mp, 8);
		assert_int_equal(missing, n <= 4 ? 5 - n : 0);
		assert_int_equal(s->mp.nr_free, 8 - missing);
		source_end(s);
	}
	reached_end();
}

/* Links that were written over */

static void test_mempool_verify_finds_a_broken_link(void **state)
{
	struct source *s = source_make(3);
	struct element *e = s->mp.free;

	(void)state;
	assert_int_equal(verify(s), 0);
	e->words[0] ^= 8;
	assert_int_equal(verify(s), 4);
	e->words[0] ^= 8;
	s->mp.nr_free++;
	assert_int_equal(verify(s), 1);
	s->mp.nr_free--;
	s->mp.nr_granted++;
	assert_int_equal(verify(s), 2);
	s->mp.nr_granted--;
	source_end(s);
	reached_end();
}

/* fork */

/* In the child nobody waits, and what others were granted is there. */
static void test_mempool_child_forgets_who_waits(void **state)
{
	struct source *s = source_make(2);
	struct asker a = { .s = s }, b = { .s = s, .nr = 2 };
	void *e = mempool_alloc(&s->mp, 0), *f = mempool_alloc(&s->mp, 0);
	int status;
	pid_t child;

	(void)state;
	alarm(100);
	asker_start(&a, 1);
	asker_start(&b, 2);
	lock_fork_take(&s->mp.lock);
	child = fork();
	if (!child) {
		alarm(60);
		mempool_forget_others(&s->mp);
		lock_fork_give(&s->mp.lock);
		if (s->mp.head || s->mp.tail || s->mp.nr_granted)
			_exit(1);
		mempool_free(&s->mp, e);
		e = mempool_alloc(&s->mp, 0);
		_exit(e && !s->mp.nr_free && !verify(s) ? 0 : 2);
	}
	lock_fork_give(&s->mp.lock);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_true(mempool_free(&s->mp, e));
	asker_wait(&a);
	assert_true(mempool_free(&s->mp, a.element));
	assert_true(mempool_free(&s->mp, f));
	asker_wait(&b);
	mempool_drop(&s->mp, &b.list);
	source_end(s);
	alarm(0);
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_mempool_asks_the_source_first),
		TEST(test_mempool_steps_have_their_flags),
		TEST(test_mempool_frees_fill_it_first),
		TEST(test_mempool_free_of_what_is_not_out_is_noticed),
		TEST(test_mempool_wakes_in_turn),
		TEST(test_mempool_large_ticket_does_not_starve),
		TEST(test_mempool_who_waits_asks_the_source_again),
		TEST(test_mempool_ticket_is_all_or_nothing),
		TEST(test_mempool_drop_wakes_all_whom_it_serves),
		TEST(test_mempool_shrinks_at_once),
		TEST(test_mempool_growth_is_filled_by_frees),
		TEST(test_mempool_growth_serves_who_waits),
		TEST(test_mempool_ticket_that_will_never_be_is_refused),
		TEST(test_mempool_any_refusal_leaves_it_as_it_was),
		TEST(test_mempool_verify_finds_a_broken_link),
		TEST(test_mempool_child_forgets_who_waits),
	};

	return cmocka_run_group_tests_name("mempool", tests, NULL, NULL);
}
