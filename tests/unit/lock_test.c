/* SPDX-License-Identifier: MIT */
/* The lock excludes, wakes its sleepers, and knows its holder and rank. */
#include "../api/testing.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "base/lock.h"

#define THREADS	12	/* more than there are processors, so that some sleep */
#define ROUNDS	(TEST_SANITIZED ? 4000 : 40000)

struct shared {
	struct lock		lock;
	uint64_t		count, inside;	/* lock */
	pthread_barrier_t	barrier;
};

static void *counting_thread(void *arg)
{
	struct shared *s = arg;

	pthread_barrier_wait(&s->barrier);
	for (unsigned i = 0; i < ROUNDS; i++) {
		lock_acquire(&s->lock);
		thread_check(s->inside == 0);
		thread_check(lock_held_by_me(&s->lock));
		s->inside = thread_identity();
		s->count++;
		/* Now and then the holder loses its processor. */
		if (i % 500 == 0)
			sched_yield();
		thread_check(s->inside == thread_identity());
		s->inside = 0;
		lock_release(&s->lock);
	}
	return NULL;
}

static void test_lock_excludes_all_but_one(void **state)
{
	struct shared s = { .count = 0 };
	pthread_t thread[THREADS];

	(void)state;
	lock_init(&s.lock, LOCK_RANK_LEAF);
	pthread_barrier_init(&s.barrier, NULL, THREADS);
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL,
						counting_thread, &s), 0);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	assert_threads_ok();
	assert_int_equal(s.count, (uint64_t)THREADS * ROUNDS);
	assert_false(lock_held_by_me(&s.lock));
	pthread_barrier_destroy(&s.barrier);
	reached_end();
}

struct waiting {
	struct lock	lock;
	_Atomic int	arrived, passed;
};

static void *waiting_thread(void *arg)
{
	struct waiting *w = arg;

	atomic_fetch_add(&w->arrived, 1);
	lock_acquire(&w->lock);
	atomic_fetch_add(&w->passed, 1);
	lock_release(&w->lock);
	return NULL;
}

/* Sleepers are all woken, one by the other, and none gets in before. */
static void test_lock_wakes_every_sleeper(void **state)
{
	struct waiting w = { .arrived = 0 };
	pthread_t thread[THREADS];

	(void)state;
	lock_init(&w.lock, LOCK_RANK_ZONE);
	for (unsigned round = 0; round < 30; round++) {
		atomic_store(&w.arrived, 0);
		atomic_store(&w.passed, 0);
		lock_acquire(&w.lock);
		for (unsigned i = 0; i < THREADS; i++)
			assert_int_equal(pthread_create(&thread[i], NULL,
							waiting_thread, &w),
					 0);
		while (atomic_load(&w.arrived) < THREADS)
			sched_yield();
		/* Let them spin to their end and go to sleep. */
		for (unsigned i = 0; i < 50; i++)
			sched_yield();
		assert_int_equal(atomic_load(&w.passed), 0);
		lock_release(&w.lock);
		for (unsigned i = 0; i < THREADS; i++)
			pthread_join(thread[i], NULL);
		assert_int_equal(atomic_load(&w.passed), THREADS);
	}
	reached_end();
}

static void *other_holder(void *arg)
{
	struct lock *l = arg;

	thread_check(!lock_held_by_me(l));
	return NULL;
}

static void test_lock_knows_its_holder(void **state)
{
	pthread_t thread;
	struct lock l;

	(void)state;
	lock_init(&l, LOCK_RANK_CONFIG);
	assert_false(lock_held_by_me(&l));
	lock_acquire(&l);
	assert_true(lock_held_by_me(&l));
	assert_int_equal(pthread_create(&thread, NULL, other_holder, &l), 0);
	pthread_join(thread, NULL);
	assert_threads_ok();
	lock_release(&l);
	assert_false(lock_held_by_me(&l));
	reached_end();
}

/* What fork does: takes what is free, leaves what the caller holds. */
static void test_lock_fork_takes_and_gives_what_it_took(void **state)
{
	struct lock mine, idle;

	(void)state;
	lock_init(&mine, LOCK_RANK_SLAB);
	lock_init(&idle, LOCK_RANK_ZONE);
	lock_acquire(&mine);
	lock_fork_take(&mine);
	lock_fork_take(&idle);
	assert_true(lock_held_by_me(&mine) && lock_held_by_me(&idle));
	lock_fork_give(&mine);
	lock_fork_give(&idle);
	assert_true(lock_held_by_me(&mine));
	assert_false(lock_held_by_me(&idle));
	lock_release(&mine);
	lock_acquire(&idle);
	lock_release(&idle);
	reached_end();
}

/* Ranks */

static bool dies(void (*misuse)(void))
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		struct rlimit none = { 0, 0 };

		setrlimit(RLIMIT_CORE, &none);
		signal(SIGABRT, SIG_DFL);
		/* The line is expected, and no news. */
		if (!freopen("/dev/null", "w", stderr))
			_exit(2);
		misuse();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static struct lock low, high, high_too;

static void init_ranks(void)
{
	lock_init(&low, LOCK_RANK_SLAB);
	lock_init(&high, LOCK_RANK_ZONE);
	lock_init(&high_too, LOCK_RANK_ZONE);
}

static void in_order(void)
{
	init_ranks();
	lock_acquire(&low);
	lock_acquire(&high);
	lock_release(&low);	/* the order of releases is free */
	lock_release(&high);
	lock_acquire(&high);
	lock_release(&high);
	lock_acquire(&low);
	lock_release(&low);
}

static void against_the_order(void)
{
	init_ranks();
	lock_acquire(&high);
	lock_acquire(&low);
}

static void two_of_a_rank(void)
{
	init_ranks();
	lock_acquire(&high);
	lock_acquire(&high_too);
}

static void twice_the_same(void)
{
	init_ranks();
	lock_acquire(&low);
	lock_acquire(&low);
}

static void release_of_a_free_one(void)
{
	init_ranks();
	lock_release(&low);
}

static void test_lock_order_is_checked_in_debug_builds(void **state)
{
	(void)state;
	assert_false(dies(in_order));
	if (!PP_DEBUG)
		test_skip("ranks are checked with --enable-debug only");
	assert_true(dies(against_the_order));
	assert_true(dies(two_of_a_rank));
	assert_true(dies(twice_the_same));
	assert_true(dies(release_of_a_free_one));
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_lock_excludes_all_but_one),
		TEST(test_lock_wakes_every_sleeper),
		TEST(test_lock_knows_its_holder),
		TEST(test_lock_fork_takes_and_gives_what_it_took),
		TEST(test_lock_order_is_checked_in_debug_builds),
	};

	return cmocka_run_group_tests_name("lock", tests, NULL, NULL);
}
