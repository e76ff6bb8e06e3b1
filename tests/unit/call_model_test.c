/* SPDX-License-Identifier: MIT */
/*
 * The threads that call back, with all that happens at the same time.  What
 * makers are told is held against a log that the runs write: each maker has one
 * byte of the amount, so that a run says for whom it is made.
 *
 * PP_TEST_CALLS: calls of each maker (3000).
 */
#include "call_testing.h"

#include "base/delay.h"

#define NR_MAKERS	8
#define NR_KEYS		3

/* What a run has been told and has said. */
struct entry {
	uint64_t	amount, value;
	uint32_t	key;
	_Atomic uint64_t told;		/* as the amount: who has it */
};

static struct entry *run_log;
static _Atomic unsigned nr_logged, nr_inside;

struct logged_call {
	struct call	call;		/* first, and then: */
	struct {
		uint64_t	value;
		unsigned	number;
	} result;
	uint64_t	value;
	unsigned	sleep_us;
};

CALL_ASSERT(struct logged_call);

struct model_maker {
	unsigned	index;
	uint64_t	nr_calls, nr_done, nr_abandoned;
	pthread_t	thread;
};

static void run_logged(struct call *call)
{
	struct logged_call *c = container_of(call, struct logged_call, call);
	unsigned number = atomic_fetch_add(&nr_logged, 1);
	struct entry *e = &run_log[number];

	thread_check(!call_is_posted());
	e->amount = call->amount;
	e->value = c->value ^ number;
	e->key = call->key;
	if (c->sleep_us)
		usleep(c->sleep_us);
	c->result.value = e->value;
	c->result.number = number;
	/* For who is tempted to look at the arguments again. */
	c->value = 0;
}

static void run_logged_otherwise(struct call *call)
{
	run_logged(call);
}

static uint64_t random_wait_ns(struct rng *rng)
{
	switch (rng_below(rng, 8)) {
	case 0:
		return 0;
	case 1:
		return rng_below(rng, 200000);
	case 2:
		return rng_below(rng, 3 * MS);
	default:
		return FAR_NS;
	}
}

static unsigned random_sleep_us(struct rng *rng)
{
	size_t n = rng_below(rng, 400);

	/* Stuck is who takes 10 ms. */
	return n == 0 ? 15000 : n < 20 ? (unsigned)rng_below(rng, 2500) : 0;
}

static struct logged_call random_call(struct model_maker *m, struct rng *rng)
{
	return (struct logged_call){
		.call = {
			.run = rng_below(rng, 4) ? run_logged :
						   run_logged_otherwise,
			.bytes = sizeof(struct logged_call),
			.result_bytes =
				sizeof(((struct logged_call *)0)->result),
			.key = (uint32_t)rng_below(rng, NR_KEYS),
			.amount = 1ull << 8 * m->index,
		},
		.value = rng_next(rng),
		.sleep_us = random_sleep_us(rng),
	};
}

/* It is of one run, which was made for us, and has told us nothing before. */
static void check_told(struct model_maker *m, const struct logged_call *c)
{
	uint64_t mine = c->call.amount;
	struct entry *e = &run_log[c->result.number];

	if (c->result.number >= atomic_load(&nr_logged)) {
		thread_check(!"a result of no run");
		return;
	}
	thread_check((e->amount >> 8 * m->index & 0xff) == 1);
	thread_check(e->value == c->result.value);
	thread_check(e->key == c->call.key);
	thread_check(c->call.key || e->amount == mine);
	thread_check(!(atomic_fetch_or(&e->told, mine) & mine));
}

static bool is_all_poison(const void *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (((const unsigned char *)p)[i] != POISON)
			return false;
	return true;
}

static void *make_random_calls(void *arg)
{
	struct model_maker *m = arg;
	struct rng rng = rng_make(m->index);
	struct logged_call slot[4];

	memset(slot, POISON, sizeof(slot));
	for (uint64_t i = 0; i < m->nr_calls; i++) {
		struct logged_call *c = &slot[i % COUNT_OF(slot)];
		uint64_t for_ns = random_wait_ns(&rng);

		/* As it was left, three calls ago. */
		thread_check(is_all_poison(c, sizeof(*c)));
		*c = random_call(m, &rng);
		if (call_make(cs, &c->call, os_now_ns() + for_ns)) {
			check_told(m, c);
			m->nr_done++;
		} else {
			m->nr_abandoned++;
		}
		memset(c, POISON, sizeof(*c));
		if (i % 64 == 0)
			nr_queued();	/* looks at the invariants */
	}
	atomic_fetch_sub(&nr_inside, 1);
	return NULL;
}

/* For each maker: as many runs as it was told of, or more, but none for which
 * it made no call. */
static void check_log(struct model_maker *m)
{
	uint64_t nr_runs = 0, nr_told = 0, n;

	for (unsigned i = 0; i < nr_logged; i++) {
		n = run_log[i].amount >> 8 * m->index & 0xff;
		assert_true(n <= 1);
		nr_runs += n;
		nr_told += run_log[i].told >> 8 * m->index & 1;
		assert_true(run_log[i].amount);
	}
	assert_int_equal(nr_told, m->nr_done);
	assert_int_equal(m->nr_done + m->nr_abandoned, m->nr_calls);
	assert_in_range(nr_runs, m->nr_done, m->nr_calls);
}

static _Atomic unsigned nr_posted;
static struct job posted;

static void run_posted(struct call *call)
{
	(void)call;
	thread_check(call_is_posted());
	atomic_fetch_add(&nr_posted, 1);
	usleep(100);
	if (atomic_load(&nr_inside))
		thread_check(call_post(cs, &posted.call));
}

static void play_model(uint64_t nr_calls)
{
	struct model_maker m[NR_MAKERS];
	uint64_t nr_done = 0;

	run_log = test_array(NR_MAKERS * nr_calls, sizeof(*run_log));
	nr_logged = nr_posted = 0;
	atomic_store(&nr_inside, NR_MAKERS);
	posted = job(&nr_posted);
	posted.call.run = run_posted;
	posted.call.result_bytes = 0;
	assert_true(call_post(cs, &posted.call));
	for (unsigned i = 0; i < NR_MAKERS; i++) {
		m[i] = (struct model_maker){ .index = i, .nr_calls = nr_calls };
		pthread_create(&m[i].thread, NULL, make_random_calls, &m[i]);
	}
	for (unsigned i = 0; i < NR_MAKERS; i++)
		pthread_join(m[i].thread, NULL);
	await_idle();
	for (unsigned i = 0; i < NR_MAKERS; i++) {
		check_log(&m[i]);
		nr_done += m[i].nr_done;
	}
	print_message("# %u threads, %llu of %llu calls made by %u runs; %u "
		      "posted\n", nr_threads(), (unsigned long long)nr_done,
		      (unsigned long long)(NR_MAKERS * nr_calls), nr_logged,
		      nr_posted);
	free(run_log);
}

static void delay_one_of(uint32_t one_in)
{
	store_relaxed(&delay_one_in[DELAY_CALL], one_in);
	store_relaxed(&delay_one_in[DELAY_REST], one_in);
}

static void test_calls_of_many_are_as_the_runs_say(void **state)
{
	uint64_t nr_calls = test_number("PP_TEST_CALLS", 3000);

	(void)state;
	test_seed();	/* before there are threads */
	begin(0);
	play_model(nr_calls);
	delay_one_of(2);
	play_model(nr_calls / 4 + 1);
	delay_one_of(0);
	end();
}

/* At any time, also while threads make others: nothing is left. */
static void test_call_threads_stop_whenever_they_are_told(void **state)
{
	_Atomic unsigned nr_runs = 0;
	struct job j[4];

	(void)state;
	begin_stopped(FAR_NS);
	delay_one_of(1);
	for (unsigned i = 0; i < 1000; i++) {
		call_service_start(cs);
		assert_int_equal(nr_threads(), MIN_THREADS);
		for (unsigned k = 0; k < i % (COUNT_OF(j) + 1); k++) {
			j[k] = job(&nr_runs);
			j[k].call.result_bytes = 0;
			assert_true(call_post(cs, &j[k].call));
		}
		for (unsigned k = 0; k < i % 7; k++)
			sched_yield();
		call_service_stop(cs);
		assert_int_equal(helper_threads_running(), nr_other_threads);
		assert_int_equal(nr_threads(), 0);
		assert_int_equal(cs->nr_idle, 0);
		assert_int_equal(cs->nr_places, 0);
		assert_null(cs->head);
		/* What was not made is not made later. */
		memset(j, POISON, sizeof(j));
	}
	delay_one_of(0);
	assert_true(nr_runs > 0);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_call_threads_stop_whenever_they_are_told),
		TEST(test_calls_of_many_are_as_the_runs_say),
	};

	test_clear_environment();
	return cmocka_run_group_tests_name("call_model", tests, NULL, NULL);
}
