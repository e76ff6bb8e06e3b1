/* SPDX-License-Identifier: MIT */
/*
 * The threads that call back, without anything to be called back: who makes a
 * call and for whom, what is left of one that is abandoned, and how many
 * threads there are when they are stuck.
 */
#include "call_testing.h"

#include "base/fault.h"
#include "reclaimd.h"

static void run_other(struct call *call)
{
	run_job(call);
}

/* Who makes it */

/* The struct is the caller's again: nobody writes there after that. */
static void test_call_is_made_by_a_thread_on_a_copy(void **state)
{
	_Atomic unsigned nr_runs = 0;
	struct job j[2];

	(void)state;
	begin(FAR_NS);
	for (unsigned i = 1; i <= 1000; i++) {
		struct job *now = &j[i % 2], *before = &j[1 - i % 2];

		*now = job(&nr_runs);
		now->call.amount = now->mine = i;
		assert_true(make_for(now, FAR_NS));
		assert_int_equal(now->result.number, i);
		assert_int_equal(now->result.amount, i);
		assert_true(now->result.by != thread_identity());
		assert_false(now->result.is_posted);
		assert_int_equal(now->mine, i);
		assert_int_equal(now->call.amount, i);
		assert_true(i == 1 || is_poison(before));
		memset(now, POISON, sizeof(*now));
	}
	/* The one that is coming back is not yet there for the next. */
	await_idle();
	assert_in_range(nr_threads(), MIN_THREADS, MAX_UNSTUCK);
	assert_int_equal(helper_threads_running(),
			 nr_other_threads + nr_threads());
	end();
}

static void assert_made_by_caller(void)
{
	_Atomic unsigned nr_runs = 0;
	struct job j = job(&nr_runs);

	assert_false(call_service_has_threads(cs));
	assert_true(make_for(&j, 0));
	assert_int_equal(j.result.number, 1);
	assert_true(j.result.by == thread_identity());
	assert_false(j.result.is_posted);
	j.call.result_bytes = 0;
	assert_false(call_post(cs, &j.call));
	assert_int_equal(nr_runs, 1);
	assert_false(call_is_posted());
	assert_int_equal(helper_threads_running(), nr_other_threads);
}

static void test_call_without_threads_is_made_by_the_caller(void **state)
{
	_Atomic unsigned nr_runs = 0;
	struct job j = job(&nr_runs);

	(void)state;
	begin_stopped(FAR_NS);
	/* It makes threads that are wanting, too. */
	reclaimd_stop_all(&pool->registry);
	nr_other_threads = helper_threads_running();
	assert_made_by_caller();
	fault_arm(FAULT_STORAGE, FAULT_ALWAYS);
	call_service_start(cs);
	fault_arm(FAULT_STORAGE, 0);
	assert_int_equal(cs->nr_places, 0);
	assert_made_by_caller();
	/* The n-th thread fails: those before it do, and the rest is made the
	 * next time. */
	for (unsigned n = 1; n <= MIN_THREADS; n++) {
		fault_arm(FAULT_THREAD, n);
		call_service_start(cs);
		assert_int_equal(load_relaxed(&fault_countdown[FAULT_THREAD]),
				 0);
		assert_int_equal(nr_threads(), n - 1);
		if (n == 1)
			assert_made_by_caller();
		else
			assert_true(make_for(&j, FAR_NS));
		if (n > 1)
			assert_true(j.result.by != thread_identity());
		call_service_start(cs);
		assert_in_range(nr_threads(), MIN_THREADS, MAX_UNSTUCK);
		call_service_stop(cs);
		assert_made_by_caller();
	}
	end();
}

/* Merging */

/* Those that are not equal wait neither for them nor for their thread. */
static void make_others(void)
{
	static const struct {
		uint32_t key;
		void (*run)(struct call *call);
	} other[] = { { 0, run_job }, { 8, run_job }, { 7, run_other } };
	_Atomic unsigned nr_runs = 0;
	struct job j;

	for (unsigned i = 0; i < COUNT_OF(other); i++) {
		j = job(&nr_runs);
		j.call.key = other[i].key;
		j.call.run = other[i].run;
		assert_true(make_for(&j, FAR_NS));
		assert_int_equal(j.result.number, i + 1);
		assert_int_equal(j.result.amount, 1);
	}
}

static void test_call_equal_ones_are_made_once_for_all(void **state)
{
	_Atomic unsigned nr_runs = 0;
	struct gate g[CALL_PARALLEL];
	struct maker equal[5];

	(void)state;
	begin(FAR_NS);
	block_all(g, 7);
	for (unsigned i = 0; i < COUNT_OF(equal); i++) {
		equal[i].job = job(&nr_runs);
		equal[i].job.call.key = 7;
		maker_start(&equal[i], FAR_NS);
		await_queued(i + 1);
	}
	make_others();
	assert_int_equal(nr_runs, 0);
	gate_open(&g[0]);
	for (unsigned i = 0; i < COUNT_OF(equal); i++) {
		maker_end(&equal[i]);
		assert_true(equal[i].ok);
		assert_int_equal(equal[i].job.result.number, 1);
		assert_int_equal(equal[i].job.result.amount, COUNT_OF(equal));
		/* What the caller said it wants, for when it asks again. */
		assert_int_equal(equal[i].job.call.amount, 1);
	}
	/* The first one's deadline is not the others'. */
	assert_true(equal[0].job.result.deadline_ns ==
		    equal[4].job.call.deadline_ns);
	assert_true(equal[0].job.call.deadline_ns <
		    equal[4].job.call.deadline_ns);
	assert_int_equal(nr_runs, 1);
	for (unsigned i = 1; i < CALL_PARALLEL; i++)
		gate_open(&g[i]);
	end();
}

/* A word of its own for each few: a thread took a call in between whose key has
 * the same slot.  A wake-up that is lost is waited for until the alarm. */
static void test_call_equal_ones_are_woken_on_whatever_word(void **state)
{
	_Atomic unsigned nr_runs = 0, nr_others = 0;
	struct gate g[CALL_PARALLEL];
	struct maker equal[9];
	struct job other;

	(void)state;
	begin(FAR_NS);
	block_all(g, 7);
	for (unsigned i = 0; i < COUNT_OF(equal); i++) {
		if (i && i % 3 == 0) {
			other = job(&nr_others);
			other.call.key = 7 + CALL_SLOTS;
			assert_true(make_for(&other, FAR_NS));
		}
		equal[i].job = job(&nr_runs);
		equal[i].job.call.key = 7;
		maker_start(&equal[i], FAR_NS);
		await_queued(i + 1);
	}
	assert_true(equal[0].job.call.ended != equal[3].job.call.ended);
	assert_true(equal[0].job.call.ended == equal[6].job.call.ended);
	gate_open(&g[0]);
	for (unsigned i = 0; i < COUNT_OF(equal); i++) {
		maker_end(&equal[i]);
		assert_true(equal[i].ok);
	}
	assert_int_equal(nr_runs, 1);
	for (unsigned i = 1; i < CALL_PARALLEL; i++)
		gate_open(&g[i]);
	end();
}

/* One that does not come back is waited for, but not for long. */
static void test_call_equal_one_begins_beside_a_long_one(void **state)
{
	_Atomic unsigned nr_runs = 0;
	struct gate g[2];
	struct job j, first;

	(void)state;
	begin(FAR_NS);
	for (unsigned i = 0; i < 50; i++) {
		struct maker m;

		gate_init(&g[0]);
		gate_init(&g[1]);
		m.job = job(&nr_runs);
		m.job.call.key = 7;
		m.job.gate = &g[0];
		j = m.job;
		maker_start(&m, FAR_NS);
		gate_await(&g[0]);
		j.gate = NULL;
		assert_true(make_for(&j, FAR_NS));
		gate_open(&g[0]);
		maker_end(&m);
		first = m.job;
		assert_true(m.ok);
		assert_int_equal(first.result.number, 2 * i + 1);
		assert_int_equal(j.result.number, 2 * i + 2);
		assert_true(j.result.by != first.result.by);
		assert_true(j.result.taken_ns >=
			    first.result.taken_ns + CALL_MERGE_NS);
	}
	end();
}

/* Whoever waits for a moment to begin with one begins with another: the next is
 * another thread's that is idle, though nobody posts anything more. */
static void test_call_is_not_left_by_who_looked_after_it(void **state)
{
	struct gate idle[3], g[4];
	struct job j[4];

	(void)state;
	begin(FAR_NS);
	/* As many threads as are to be in it. */
	for (unsigned i = 0; i < COUNT_OF(idle); i++)
		block(&idle[i], 0);
	for (unsigned i = 0; i < COUNT_OF(idle); i++)
		gate_open(&idle[i]);
	for (unsigned round = 0; round < 50; round++) {
		await_idle();
		for (unsigned i = 0; i < COUNT_OF(g); i++) {
			gate_init(&g[i]);
			j[i] = job(&nr_blocked);
			j[i].gate = &g[i];
			j[i].call.key = 1 + i % 2;
			j[i].call.result_bytes = 0;
		}
		/* Two that block, and two that wait for them. */
		for (unsigned i = 0; i < COUNT_OF(g); i++) {
			assert_true(call_post(cs, &j[i].call));
			while (i < 2 && sem_trywait(&g[i].inside))
				sched_yield();
		}
		gate_await(&g[2]);
		gate_await(&g[3]);
		for (unsigned i = 0; i < COUNT_OF(g); i++)
			gate_open(&g[i]);
	}
	end();
}

/* Posting */

struct again {
	struct job	job;
	unsigned	nr_left;
	struct again	*self;
};

static void run_again(struct call *call)
{
	struct again *a = container_of(call, struct again, job.call);
	struct again *self = a->self;

	thread_check(call_is_posted());
	atomic_fetch_add(a->job.nr_runs, 1);
	if (!a->nr_left)
		return;
	/* Nobody's but ours, from here on. */
	*self = *a;
	self->nr_left--;
	thread_check(call_post(cs, &self->job.call));
}

static void test_call_posted_is_made_once_and_may_be_posted_inside(void **state)
{
	_Atomic unsigned nr_runs = 0, nr_others = 0;
	struct again a[3];
	struct job j;

	(void)state;
	begin(FAR_NS);
	for (unsigned i = 0; i < COUNT_OF(a); i++) {
		a[i] = (struct again){
			.job = job(&nr_runs), .nr_left = 999, .self = &a[i],
		};
		a[i].job.call.run = run_again;
		a[i].job.call.bytes = sizeof(a[i]);
		a[i].job.call.result_bytes = 0;
		assert_true(call_post(cs, &a[i].job.call));
	}
	while (nr_runs < 1000 * COUNT_OF(a)) {
		j = job(&nr_others);
		assert_true(make_for(&j, FAR_NS));
		assert_false(j.result.is_posted);
		assert_false(call_is_posted());
	}
	await_idle();
	assert_int_equal(nr_runs, 1000 * COUNT_OF(a));
	end();
}

/* Abandoning */

/* Enough for all to be in the queue together. */
#define SOON_NS		(300 * MS)

/* On a machine too slow for that, some have been abandoned already. */
static void await_queued_or_back(struct maker *m, unsigned nr)
{
	unsigned nr_back;

	do {
		sched_yield();
		nr_back = 0;
		for (unsigned i = 0; i < nr; i++)
			nr_back += atomic_load(&m[i].is_back);
	} while (nr_queued() + nr_back != nr);
}

static void test_call_abandoned_in_the_queue_is_never_made(void **state)
{
	_Atomic unsigned nr_runs = 0;
	struct gate g[CALL_PARALLEL];
	struct maker m[3];
	struct job j;

	(void)state;
	begin(FAR_NS);
	block_all(g, 7);
	/* The only one, then the first, the last and the one between. */
	j = job(&nr_runs);
	j.call.key = 7;
	assert_false(make_or_poison(&j, 5 * MS));
	assert_int_equal(nr_queued(), 0);
	for (unsigned gone = 0; gone < COUNT_OF(m); gone++) {
		for (unsigned i = 0; i < COUNT_OF(m); i++) {
			m[i].job = job(&nr_runs);
			m[i].job.call.key = 7;
			maker_start(&m[i], i == gone ? SOON_NS : FAR_NS);
			await_queued_or_back(m, i + 1);
		}
		maker_end(&m[gone]);
		assert_false(m[gone].ok);
		await_queued(2);
		gate_open(&g[0]);
		for (unsigned i = 0; i < COUNT_OF(m); i++) {
			if (i == gone)
				continue;
			maker_end(&m[i]);
			assert_true(m[i].ok);
			assert_int_equal(m[i].job.result.number, gone + 1);
			assert_int_equal(m[i].job.result.amount, 2);
		}
		assert_true(is_poison(&m[gone].job));
		block(&g[0], 7);
	}
	open_all(g);
	await_idle();
	assert_true(is_poison(&j));
	assert_int_equal(nr_runs, 3);
	end();
}

/* While it runs: the thread knows nothing of the struct any more, and goes on
 * to the next when it is back.  Who waits for the same run gets the result. */
static void test_call_abandoned_while_it_runs_is_left_alone(void **state)
{
	_Atomic unsigned nr_runs = 0;
	struct gate block_gate[CALL_PARALLEL], g;
	struct maker m[3];

	(void)state;
	begin(FAR_NS);
	gate_init(&g);
	block_all(block_gate, 7);
	for (unsigned i = 0; i < COUNT_OF(m); i++) {
		m[i].job = job(&nr_runs);
		m[i].job.call.key = 7;
		m[i].job.gate = &g;
		maker_start(&m[i], i == 1 ? FAR_NS : SOON_NS);
	}
	await_queued_or_back(m, COUNT_OF(m));
	gate_open(&block_gate[0]);
	gate_await(&g);
	maker_end(&m[0]);
	maker_end(&m[2]);
	gate_open(&g);
	maker_end(&m[1]);
	assert_false(m[0].ok || m[2].ok);
	assert_true(m[1].ok);
	assert_int_equal(m[1].job.result.number, 1);
	for (unsigned i = 1; i < CALL_PARALLEL; i++)
		gate_open(&block_gate[i]);
	await_idle();
	assert_true(is_poison(&m[0].job));
	assert_true(is_poison(&m[2].job));
	assert_int_equal(nr_runs, 1);
	/* And the thread works. */
	block_all(block_gate, 7);
	open_all(block_gate);
	end();
}

/* How many */

static void test_call_no_more_than_a_few_work_at_a_time(void **state)
{
	_Atomic unsigned nr_runs = 0;
	struct gate g[CALL_PARALLEL], last;
	struct maker m[6];

	(void)state;
	begin(FAR_NS);
	gate_init(&last);
	block_all(g, 0);
	for (unsigned i = 0; i < COUNT_OF(m); i++) {
		m[i].job = job(&nr_runs);
		m[i].job.gate = &last;
		maker_start(&m[i], FAR_NS);
	}
	await_queued(COUNT_OF(m));
	/* One leaves, one enters. */
	for (unsigned i = 0; i < COUNT_OF(m); i++) {
		assert_int_equal(nr_queued(), COUNT_OF(m) - i);
		assert_int_equal(nr_runs, i);
		gate_open(i < CALL_PARALLEL ? &g[i] : &last);
		gate_await(&last);
	}
	for (unsigned i = 0; i < CALL_PARALLEL; i++)
		gate_open(&last);
	for (unsigned i = 0; i < COUNT_OF(m); i++) {
		maker_end(&m[i]);
		assert_true(m[i].ok);
	}
	assert_in_range(nr_threads(), MIN_THREADS, MAX_UNSTUCK);
	end();
}

static void run_resting(struct call *call)
{
	struct job *j = container_of(call, struct job, call);

	wait_at(j->gate);
	call_rest();
	wait_at(j->gate);
}

static void await_watch(void)
{
	bool is_watched;

	do {
		sched_yield();
		hold();
		is_watched = cs->watch_until_ns != UINT64_MAX;
		let_go();
	} while (!is_watched);
}

/* What is queued is begun with at once. */
static void test_call_that_rests_does_not_count_as_work(void **state)
{
	_Atomic unsigned nr_runs = 0;
	struct gate g[CALL_PARALLEL + 1];
	struct job j[CALL_PARALLEL];
	struct maker m = { .job = job(&nr_runs) };

	(void)state;
	begin(FAR_NS);
	for (unsigned i = 0; i <= CALL_PARALLEL; i++)
		gate_init(&g[i]);
	for (unsigned i = 0; i < CALL_PARALLEL; i++) {
		j[i] = job(&nr_runs);
		j[i].gate = &g[i];
		j[i].call.run = run_resting;
		j[i].call.result_bytes = 0;
		assert_true(call_post(cs, &j[i].call));
		gate_await(&g[i]);
	}
	m.job.gate = &g[CALL_PARALLEL];
	m.job.call.run = run_resting;
	maker_start(&m, FAR_NS);
	await_queued(1);
	await_watch();
	gate_open(&g[0]);
	gate_await(&g[CALL_PARALLEL]);
	for (unsigned i = 0; i <= CALL_PARALLEL; i++) {
		gate_open(&g[i]);
		gate_open(&g[i]);
	}
	maker_end(&m);
	assert_true(m.ok);
	end();
}

/* Held by who is stuck: @nr threads, which is all that there are. */
static void hold_threads(struct gate *g, unsigned nr, bool with_others)
{
	static _Atomic unsigned nr_runs;
	struct job j;

	for (unsigned i = 0; i < nr; i++) {
		gate_init(&g[i]);
		j = job(&nr_runs);
		j.gate = &g[i];
		/* It is stuck, which is before the deadline. */
		assert_false(make_or_poison(&j, FAR_NS));
		gate_await(&g[i]);
		j = job(&nr_runs);
		if (with_others && i + 1 < nr)
			make_surely(&j);
	}
}

/* @nth: the thread that cannot be made, after the first three; 0: all can. */
static void play_stuck(unsigned nth)
{
	struct gate g[CALL_MAX_THREADS];
	unsigned nr = nth ? MIN_THREADS - 1 + nth : CALL_MAX_THREADS;
	_Atomic unsigned nr_runs = 0;
	struct job j = job(&nr_runs);

	call_service_start(cs);
	fault_arm(FAULT_THREAD, nth);
	hold_threads(g, nr, !nth);
	assert_int_equal(load_relaxed(&fault_countdown[FAULT_THREAD]), 0);
	if (!nth) {
		assert_int_equal(nr_threads(), nr);
		assert_false(make_for(&j, 30 * MS));
		assert_int_equal(nr_queued(), 0);
		assert_int_equal(nr_runs, 0);
	}
	/* One comes back, and is as good as any; else reclaimd makes the one
	 * that can be made by now. */
	if (!nth)
		gate_open(&g[nr / 2]);
	make_surely(&j);
	assert_true(nr_runs > 0);
	if (nth) {
		assert_true(nr_threads() > nr);
		gate_open(&g[nr / 2]);
	}
	for (unsigned i = 0; i < nr; i++)
		if (i != nr / 2)
			gate_open(&g[i]);
	await_idle();
	call_service_stop(cs);
	assert_int_equal(helper_threads_running(), nr_other_threads);
}

static void test_call_stuck_threads_are_replaced_up_to_a_limit(void **state)
{
	(void)state;
	begin(0);	/* the least there is */
	for (unsigned nth = 0; nth <= CALL_MAX_THREADS - MIN_THREADS; nth++)
		play_stuck(nth);
	end();
}

static struct callback_list got_on_list;
static struct callback got_on;

static void run_long(struct call *call)
{
	struct job *j = container_of(call, struct job, call);
	uint64_t until = os_now_ns() + 3 * load_relaxed(&cs->stuck_ns);

	atomic_fetch_add(j->nr_runs, 1);
	callback_hold(&got_on_list);
	callback_enter(&got_on);
	callback_let_go(&got_on_list);
	while (os_now_ns() < until) {
		callback_progress(&got_on, 0);
		sched_yield();
	}
	callback_hold(&got_on_list);
	callback_leave(&got_on);
	callback_let_go(&got_on_list);
}

/* Again, for that one gets no processor for so long may happen. */
static void test_call_that_gets_on_is_waited_for(void **state)
{
	_Atomic unsigned nr_runs = 0;
	struct job j = job(&nr_runs);

	(void)state;
	begin(500 * MS);
	callback_list_init(&got_on_list, LOCK_RANK_SHRINKER);
	callback_set_name(&got_on, "on");
	callback_add(&got_on_list, &got_on);
	j.call.run = run_long;
	/* Else this hangs. */
	while (!make_for(&j, FAR_NS))
		await_idle();
	callback_del(&got_on, "on");
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_call_is_made_by_a_thread_on_a_copy),
		TEST(test_call_without_threads_is_made_by_the_caller),
		TEST(test_call_equal_ones_are_made_once_for_all),
		TEST(test_call_equal_ones_are_woken_on_whatever_word),
		TEST(test_call_equal_one_begins_beside_a_long_one),
		TEST(test_call_is_not_left_by_who_looked_after_it),
		TEST(test_call_posted_is_made_once_and_may_be_posted_inside),
		TEST(test_call_abandoned_in_the_queue_is_never_made),
		TEST(test_call_abandoned_while_it_runs_is_left_alone),
		TEST(test_call_no_more_than_a_few_work_at_a_time),
		TEST(test_call_that_rests_does_not_count_as_work),
		TEST(test_call_stuck_threads_are_replaced_up_to_a_limit),
		TEST(test_call_that_gets_on_is_waited_for),
	};

	test_clear_environment();
	return cmocka_run_group_tests_name("call_service", tests, NULL, NULL);
}
