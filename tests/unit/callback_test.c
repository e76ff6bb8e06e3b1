/* SPDX-License-Identifier: MIT */
/*
 * The program's functions without the program: one thread is inside an object,
 * who comes second passes it over; what is stuck is named, and nobody waits
 * for it; a wait ends with what it waits for, also when both happen at the
 * same time; the child of a fork is not held by threads that it has not.
 *
 * PP_TEST_CALLBACK: rounds of the threads (20000).
 */
#include "../api/testing.h"

#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

#include "callback.h"
#include "os/os.h"

#define FAR_NS		(60 * 1000000000ull)
#define NR_OBJECTS	3

static struct callback_list list;
static struct callback object[NR_OBJECTS];

static bool any(const struct callback *cb, const void *arg)
{
	(void)cb;
	(void)arg;
	return true;
}

static bool is_arg(const struct callback *cb, const void *arg)
{
	return cb == arg;
}

static void begin(uint64_t stuck_ns)
{
	static const char *const names[NR_OBJECTS] = { "one", "two", "three" };

	memset(&list, 0, sizeof(list));
	memset(object, 0, sizeof(object));
	callback_list_init(&list, LOCK_RANK_SHRINKER);
	store_relaxed(&list.stuck_ns, stuck_ns);
	/* The last that is added comes first. */
	for (unsigned i = NR_OBJECTS; i--;) {
		callback_set_name(&object[i], names[i]);
		callback_add(&list, &object[i]);
	}
}

static void end(void)
{
	for (unsigned i = 0; i < NR_OBJECTS; i++)
		callback_del(&object[i], "end");
	assert_null(list.head);
	assert_int_equal(list.nr, 0);
	assert_int_equal(list.nr_waiters, 0);
}

static uint64_t far(void)
{
	return os_now_ns() + FAR_NS;
}

static enum callback_wait wait_until_ns(uint64_t deadline_ns)
{
	return callback_list_wait(&list, load_relaxed(&list.nr_done),
				  deadline_ns);
}

/* A thread that goes inside, and does as it is told. */
struct guest {
	struct callback	*cb;
	pthread_t	thread;
	_Atomic bool	is_inside, leave, get_on;
	_Atomic unsigned nr_batches;
};

static void *be_inside(void *arg)
{
	struct guest *g = arg;
	struct callback_walk walk = { .may_enter = is_arg, .arg = g->cb };

	for_each_callback(cb, &list, &walk) {
		thread_check(cb == g->cb);
		atomic_store(&g->is_inside, true);
		while (!atomic_load(&g->leave)) {
			if (atomic_load(&g->get_on)) {
				callback_progress(cb, 1);
				atomic_fetch_add(&g->nr_batches, 1);
			}
			sched_yield();
		}
	}
	return NULL;
}

static void guest_enter(struct guest *g, struct callback *cb)
{
	g->cb = cb;
	pthread_create(&g->thread, NULL, be_inside, g);
	while (!atomic_load(&g->is_inside))
		sched_yield();
}

static void guest_leave(struct guest *g)
{
	atomic_store(&g->leave, true);
	pthread_join(g->thread, NULL);
}

/* The objects that a walk enters, as bits. */
static unsigned walk_all(unsigned *nr_busy)
{
	struct callback_walk walk = { .may_enter = any };
	unsigned bits = 0;

	for_each_callback(cb, &list, &walk) {
		assert_true(callback_is_inside(&list));
		bits |= 1u << (cb - object);
	}
	*nr_busy = walk.nr_busy;
	return bits;
}

static void test_callback_walk_enters_each_but_the_busy(void **state)
{
	struct guest g = { .leave = false };
	unsigned nr_busy;

	(void)state;
	begin(FAR_NS);
	assert_int_equal(walk_all(&nr_busy), 7);
	assert_int_equal(nr_busy, 0);
	guest_enter(&g, &object[1]);
	assert_int_equal(walk_all(&nr_busy), 5);
	assert_int_equal(nr_busy, 1);
	assert_false(callback_is_inside(&list));
	guest_leave(&g);
	assert_int_equal(walk_all(&nr_busy), 7);
	assert_int_equal(nr_busy, 0);
	end();
	reached_end();
}

/* A walk within a walk: the object that the thread is in is not busy, but is
 * not entered. */
static void test_callback_is_not_entered_twice_by_a_thread(void **state)
{
	struct callback_walk walk = { .may_enter = is_arg, .arg = &object[1] };
	unsigned nr_busy;

	(void)state;
	begin(FAR_NS);
	for_each_callback(cb, &list, &walk) {
		assert_int_equal(walk_all(&nr_busy), 5);
		assert_int_equal(nr_busy, 0);
		assert_int_equal(wait_until_ns(far()),
				 CALLBACK_NONE_BUSY);
	}
	end();
	reached_end();
}

static void test_callback_stuck_is_named_and_passed_over(void **state)
{
	struct guest g = { .leave = false };
	unsigned nr_busy;
	char name[4];

	(void)state;
	begin(FAR_NS);
	guest_enter(&g, &object[2]);
	assert_false(callback_name_stuck(&list, name, sizeof(name)));
	store_relaxed(&list.stuck_ns, 0);
	assert_true(callback_name_stuck(&list, name, sizeof(name)));
	assert_string_equal(name, "thr");
	assert_true(callback_is_any_stuck(&list));
	assert_int_equal(walk_all(&nr_busy), 3);
	assert_int_equal(nr_busy, 0);
	assert_int_equal(wait_until_ns(far()), CALLBACK_NONE_BUSY);
	guest_leave(&g);
	assert_false(callback_name_stuck(&list, name, sizeof(name)));
	assert_false(callback_is_any_stuck(&list));
	assert_int_equal(walk_all(&nr_busy), 7);
	end();
	reached_end();
}

static void *leave_when_waited_for(void *arg)
{
	struct guest *g = arg;

	while (!load_relaxed(&list.nr_waiters))
		sched_yield();
	atomic_store(g->cb ? &g->leave : &g->get_on, true);
	return NULL;
}

static void test_callback_wait_says_what_it_was_for(void **state)
{
	struct guest g = { .leave = false };
	pthread_t other;

	(void)state;
	alarm(60);
	begin(FAR_NS);
	assert_int_equal(wait_until_ns(far()), CALLBACK_NONE_BUSY);
	guest_enter(&g, &object[0]);
	assert_int_equal(wait_until_ns(os_now_ns()),
			 CALLBACK_LATE);
	assert_int_equal(wait_until_ns(os_now_ns() + 2000000),
			 CALLBACK_LATE);
	atomic_store(&g.get_on, true);
	assert_int_equal(wait_until_ns(far()), CALLBACK_PROGRESS);
	atomic_store(&g.get_on, false);
	/* What was done before the wait counts. */
	assert_int_equal(callback_list_wait(&list, 0, far()),
			 CALLBACK_PROGRESS);
	pthread_create(&other, NULL, leave_when_waited_for, &g);
	/* The last batch may come in between. */
	while (wait_until_ns(far()) == CALLBACK_PROGRESS)
		;
	pthread_join(other, NULL);
	pthread_join(g.thread, NULL);
	assert_int_equal(wait_until_ns(far()), CALLBACK_NONE_BUSY);
	end();
	alarm(0);
	reached_end();
}

/* Nobody says so: the sleep itself must end. */
static void test_callback_wait_ends_when_it_is_stuck(void **state)
{
	struct guest g = { .leave = false };
	enum callback_wait result;

	(void)state;
	alarm(60);
	begin(20000000);
	guest_enter(&g, &object[0]);
	/* NONE_BUSY: it took so long to get here. */
	result = wait_until_ns(far());
	assert_true(result == CALLBACK_STUCK || result == CALLBACK_NONE_BUSY);
	assert_int_equal(wait_until_ns(far()), CALLBACK_NONE_BUSY);
	/* It gets on, and is busy again. */
	store_relaxed(&list.stuck_ns, FAR_NS);
	atomic_store(&g.get_on, true);
	assert_int_equal(wait_until_ns(far()), CALLBACK_PROGRESS);
	guest_leave(&g);
	end();
	alarm(0);
	reached_end();
}

/* No wake-up is lost: with a far deadline and limit, one that is would hang. */
struct visitor {
	unsigned	rounds;
};

static void *visit(void *arg)
{
	struct visitor *v = arg;
	unsigned turn = 0;

	for (unsigned i = 0; i < v->rounds; i++) {
		struct callback_walk walk = { .may_enter = any };

		for_each_callback(cb, &list, &walk) {
			thread_check(cb->inside == thread_identity());
			if (turn++ % 3 == 0)
				callback_progress(cb, turn % 2);
			if (turn % 5 == 0)
				sched_yield();
		}
		if (walk.nr_busy)
			thread_check(wait_until_ns(far()) <=
				     CALLBACK_ENDED);
	}
	return NULL;
}

static void test_callback_waits_lose_no_wake_up(void **state)
{
	struct visitor v = {
		.rounds = (unsigned)test_number("PP_TEST_CALLBACK", 20000),
	};
	pthread_t thread[4];

	(void)state;
	alarm(120);
	begin(FAR_NS);
	for (unsigned i = 0; i < COUNT_OF(thread); i++)
		pthread_create(&thread[i], NULL, visit, &v);
	for (unsigned i = 0; i < COUNT_OF(thread); i++)
		pthread_join(thread[i], NULL);
	end();
	alarm(0);
	assert_threads_ok();
	reached_end();
}

static void test_callback_child_forgets_who_is_gone(void **state)
{
	struct guest g = { .leave = false };
	struct callback_walk walk = { .may_enter = is_arg, .arg = &object[0] };
	int status;
	pid_t child;

	(void)state;
	begin(FAR_NS);
	guest_enter(&g, &object[1]);
	/* Its own place it keeps. */
	for_each_callback(cb, &list, &walk) {
		lock_fork_take(&list.lock);
		child = fork();
		if (!child) {
			alarm(60);
			callback_forget_others(&list);
			lock_fork_give(&list.lock);
			callback_del(&object[1], "child");
			_exit(cb->inside == thread_identity() &&
			      wait_until_ns(far()) ==
			      CALLBACK_NONE_BUSY ? 0 : 1);
		}
		lock_fork_give(&list.lock);
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_int_equal(status, 0);
	}
	guest_leave(&g);
	end();
	reached_end();
}

/* A handler on top of who waits forks: the child comes back to the wait, with
 * nobody there who would end it. */

static _Atomic pid_t forked;

static void fork_on_top(int sig)
{
	pid_t child;

	(void)sig;
	lock_fork_take(&list.lock);
	child = fork();
	if (!child) {
		alarm(20);
		callback_forget_others(&list);
	}
	lock_fork_give(&list.lock);
	atomic_store(&forked, child);
}

/* The first thread sleeps. */
static void await_asleep(void)
{
	char path[64], line[128], *state;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", getpid());
	do {
		sched_yield();
		f = fopen(path, "r");
		state = f && fgets(line, sizeof(line), f) ?
			strrchr(line, ')') : NULL;
		if (f)
			fclose(f);
		thread_check(state);
	} while (state && state[2] != 'S');
}

struct interruption {
	struct guest	guest;
	pthread_t	first;
	int		status;		/* of the child */
};

static void *interrupt(void *arg)
{
	struct interruption *in = arg;
	pid_t child;

	await_asleep();
	pthread_kill(in->first, SIGUSR1);
	while (!(child = atomic_load(&forked)))
		sched_yield();
	thread_check(waitpid(child, &in->status, 0) == child);
	guest_leave(&in->guest);
	return NULL;
}

/* @wait returns in the parent, and in the child, which ends there. */
static void wait_interrupted(void (*wait)(void))
{
	struct sigaction sa = {
		.sa_handler = fork_on_top,
		.sa_flags = SA_RESTART,
	};
	struct interruption in = { .first = pthread_self() };
	pid_t me = getpid();
	pthread_t thread;

	sigaction(SIGUSR1, &sa, NULL);
	atomic_store(&forked, 0);
	guest_enter(&in.guest, &object[1]);
	pthread_create(&thread, NULL, interrupt, &in);
	wait();
	if (getpid() != me)
		_exit(list.nr_waiters ? 1 : 0);
	pthread_join(thread, NULL);
	assert_int_equal(in.status, 0);
	assert_threads_ok();
}

static void wait_to_delete(void)
{
	callback_del(&object[1], "wait");
}

static void wait_for_progress(void)
{
	wait_until_ns(far());
}

static void test_callback_child_forked_on_top_of_a_wait_goes_on(void **state)
{
	(void)state;
	if (TEST_SANITIZED)
		test_skip("a sanitizer keeps signals back from who sleeps");
	begin(FAR_NS);
	wait_interrupted(wait_for_progress);
	wait_interrupted(wait_to_delete);
	memset(&object[1], 0, sizeof(object[1]));
	callback_add(&list, &object[1]);
	end();
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_callback_walk_enters_each_but_the_busy),
		TEST(test_callback_is_not_entered_twice_by_a_thread),
		TEST(test_callback_stuck_is_named_and_passed_over),
		TEST(test_callback_wait_says_what_it_was_for),
		TEST(test_callback_wait_ends_when_it_is_stuck),
		TEST(test_callback_waits_lose_no_wake_up),
		TEST(test_callback_child_forgets_who_is_gone),
		TEST(test_callback_child_forked_on_top_of_a_wait_goes_on),
	};

	return cmocka_run_group_tests_name("callback", tests, NULL, NULL);
}
