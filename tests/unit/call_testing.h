/* SPDX-License-Identifier: MIT */
/*
 * call_testing.h - what the tests of the threads that call back share: a pool,
 * its service, calls that stay inside until they may leave, and threads that
 * make calls.
 */
#ifndef PP_TESTS_CALL_TESTING_H
#define PP_TESTS_CALL_TESTING_H

#include "../api/testing.h"

#include <sched.h>
#include <semaphore.h>

#include "callback.h"
#include "helper_thread.h"
#include "os/os.h"
#include "pool.h"

#define FAR_NS		(600 * 1000000000ull)
#define MS		1000000ull
#define MIN_THREADS	3u	/* of one that is started */
/* As many as work, and one in reserve. */
#define MAX_UNSTUCK	(CALL_PARALLEL + 1)
#define POISON		0xa5

static struct pp_pool *pool;
static struct call_service *cs;
static unsigned nr_other_threads;

/* A run stays there until it may leave. */
struct gate {
	sem_t		inside, leave;
};

struct job {
	struct call	call;		/* first, and then: */
	struct {
		uint64_t	amount, deadline_ns, taken_ns;
		uintptr_t	by;
		unsigned	number;		/* of the run, from 1 */
		bool		is_posted;
	} result;
	_Atomic unsigned	*nr_runs;
	struct gate		*gate;
	uint64_t		mine;		/* changed in the copy */
};

CALL_ASSERT(struct job);

static inline void wait_at(struct gate *g)
{
	sem_post(&g->inside);
	while (sem_wait(&g->leave))
		;
}

static inline void run_job(struct call *call)
{
	struct job *j = container_of(call, struct job, call);

	j->mine = ~j->mine;
	j->result.number = atomic_fetch_add(j->nr_runs, 1) + 1;
	j->result.amount = call->amount;
	j->result.deadline_ns = call->deadline_ns;
	j->result.by = thread_identity();
	j->result.is_posted = call_is_posted();
	/* Nothing has got on since. */
	j->result.taken_ns = callback_got_on ? load_relaxed(callback_got_on) :
					       os_now_ns();
	if (j->gate)
		wait_at(j->gate);
}

static inline struct job job(_Atomic unsigned *nr_runs)
{
	return (struct job){
		.call = {
			.run = run_job,
			.bytes = sizeof(struct job),
			.result_bytes = sizeof(((struct job *)0)->result),
			.amount = 1,
		},
		.nr_runs = nr_runs,
	};
}

static inline void gate_init(struct gate *g)
{
	sem_init(&g->inside, 0, 0);
	sem_init(&g->leave, 0, 0);
}

static inline void gate_await(struct gate *g)
{
	while (sem_wait(&g->inside))
		;
}

static inline void gate_open(struct gate *g)
{
	sem_post(&g->leave);
}

/* The service, seen under its lock */

static inline void hold(void)
{
	pcp_lock(&cs->lock);
}

static inline void let_go(void)
{
	call_service_verify(cs);
	pcp_unlock(&cs->lock);
}

static inline unsigned nr_queued(void)
{
	unsigned n = 0;

	hold();
	for (struct call *c = cs->head; c; c = c->next)
		n++;
	let_go();
	return n;
}

static inline void await_queued(unsigned n)
{
	while (nr_queued() != n)
		sched_yield();
}

static inline unsigned nr_threads(void)
{
	return load_relaxed(&cs->nr_threads);
}

static inline void await_idle(void)
{
	bool is_idle;

	do {
		sched_yield();
		hold();
		is_idle = !cs->head && cs->nr_idle == nr_threads();
		let_go();
	} while (!is_idle);
}

static inline void begin_stopped(uint64_t stuck_ns)
{
	/* What waits in vain waits no longer. */
	alarm(120);
	pool = pool_make_one_zone("16M");
	cs = &pool->calls;
	call_service_set_stuck(cs, stuck_ns);
	nr_other_threads = helper_threads_running();
}

static inline void begin(uint64_t stuck_ns)
{
	begin_stopped(stuck_ns);
	call_service_start(cs);
	assert_int_equal(nr_threads(), MIN_THREADS);
}

static inline void end(void)
{
	await_idle();
	pool_end(pool);
	alarm(0);
	assert_threads_ok();
	reached_end();
}

/* Those who block, and those who make calls */

static _Atomic unsigned nr_blocked;

/* A thread is inside of @g when this returns. */
static inline void block(struct gate *g, uint32_t key)
{
	struct job j = job(&nr_blocked);

	gate_init(g);
	j.gate = g;
	j.call.key = key;
	j.call.result_bytes = 0;
	assert_true(call_post(cs, &j.call));
	gate_await(g);
}

/* As many as may make such calls at a time. */
static inline void block_all(struct gate g[CALL_PARALLEL], uint32_t key)
{
	for (unsigned i = 0; i < CALL_PARALLEL; i++)
		block(&g[i], key);
}

static inline void open_all(struct gate g[CALL_PARALLEL])
{
	for (unsigned i = 0; i < CALL_PARALLEL; i++)
		gate_open(&g[i]);
}

static inline bool make_for(struct job *j, uint64_t for_ns)
{
	return call_make(cs, &j->call, os_now_ns() + for_ns);
}

/* As requests do, for a thread may be without a processor for so long that it
 * passes for stuck. */
static inline void make_surely(struct job *j)
{
	while (!make_for(j, FAR_NS))
		;
}

/* What is abandoned is overwritten at once. */
static inline bool make_or_poison(struct job *j, uint64_t for_ns)
{
	bool ok = make_for(j, for_ns);

	if (!ok)
		memset(j, POISON, sizeof(*j));
	return ok;
}

static inline bool is_poison(const struct job *j)
{
	for (size_t i = 0; i < sizeof(*j); i++)
		if (((const unsigned char *)j)[i] != POISON)
			return false;
	return true;
}

struct maker {
	struct job	job;
	uint64_t	for_ns;
	bool		ok;
	_Atomic bool	is_back;
	pthread_t	thread;
};

static inline void *make(void *arg)
{
	struct maker *m = arg;

	m->ok = make_or_poison(&m->job, m->for_ns);
	atomic_store(&m->is_back, true);
	return NULL;
}

/* With m->job set. */
static inline void maker_start(struct maker *m, uint64_t for_ns)
{
	m->for_ns = for_ns;
	atomic_store(&m->is_back, false);
	pthread_create(&m->thread, NULL, make, m);
}

static inline void maker_end(struct maker *m)
{
	pthread_join(m->thread, NULL);
}

#endif
