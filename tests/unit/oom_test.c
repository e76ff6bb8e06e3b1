/* SPDX-License-Identifier: MIT */
/*
 * Victims without requests: the sum that decides, the states with times that
 * the test makes up, and what one requester does that another one is stuck in.
 */
#include "../api/testing.h"

#include <sched.h>
#include <semaphore.h>

#include "os/os.h"
#include "pool.h"

#define FAR_NS		(60 * 1000000000ull)
#define GRACE_NS	1000u

struct fake {
	struct victim	v;
	size_t		bytes;
	_Atomic unsigned nr_usages, nr_cancels, nr_forces;
	bool		exits;		/* in cancel() */
	bool		blocks_usage, blocks_cancel;
	uint64_t	late_ns;	/* usage() takes until then */
	sem_t		inside, leave;
};

static void block(struct fake *f)
{
	sem_post(&f->inside);
	while (sem_wait(&f->leave))
		;
}

static size_t fake_usage(void *arg)
{
	struct fake *f = arg;

	atomic_fetch_add(&f->nr_usages, 1);
	while (os_now_ns() < f->late_ns)
		sched_yield();
	if (f->blocks_usage)
		block(f);
	return f->bytes;
}

static void fake_cancel(void *arg)
{
	struct fake *f = arg;

	atomic_fetch_add(&f->nr_cancels, 1);
	if (f->blocks_cancel)
		block(f);
	if (f->exits)
		victim_exited(&f->v);
}

static void fake_force(void *arg)
{
	struct fake *f = arg;

	atomic_fetch_add(&f->nr_forces, 1);
}

static void fake_add(struct oom *oom, struct fake *f, size_t pages, int adj)
{
	sem_init(&f->inside, 0, 0);
	sem_init(&f->leave, 0, 0);
	f->bytes = pages * PAGE;
	f->v.ops.arg = f;
	f->v.ops.usage = fake_usage;
	f->v.ops.cancel = fake_cancel;
	f->v.ops.adj = adj;
	victim_add(oom, &f->v);
}

/* For more than there is: it is never served. */
static struct oom_want want(uint64_t for_ns, uint64_t grace_ns)
{
	return (struct oom_want){
		.want = {
			.nr_pages = UINT32_MAX,
			.deadline_ns = os_now_ns() + for_ns,
		},
		.grace_ns = grace_ns,
	};
}

/* policy.md, the vectors for OOM */
static void test_oom_badness_follows_the_table(void **state)
{
	static const struct {
		uint64_t pages;
		int adj;
		int64_t badness;
	} row[] = {
		{ 300000, 0, 300000 },
		{ 100000, 300, 400000 },
		{ 10000, -500, -490000 },
		{ 0, 0, 0 },
		{ 0, 1000, 1000000 },
		{ 5, -999, 5 - 999000 },
	};

	(void)state;
	for (size_t i = 0; i < COUNT_OF(row); i++)
		assert_int_equal(oom_badness(row[i].pages * PAGE, row[i].adj,
					     1000000), row[i].badness);
	/* Nonsense is bad, and no more than that. */
	assert_true(oom_badness(UINT64_MAX, 1000, 1ull << 32) > 0);
	reached_end();
}

/* States */

static enum oom_todo look(struct oom *oom, uint64_t now)
{
	struct victim *v;
	uint64_t until;
	enum oom_todo todo = oom_look(oom, GRACE_NS, now, &until, &v);

	if (todo == OOM_TODO_WAIT)
		assert_true(until > now);
	return todo;
}

static void leave(struct fake *f)
{
	callback_hold(f->v.cb.list);
	callback_leave(&f->v.cb);
	callback_let_go(f->v.cb.list);
}

/* As choosing does it. */
static void cancel_at(struct oom *oom, struct fake *f, uint64_t now)
{
	callback_hold(&oom->victims);
	assert_int_equal(oom->chooser, thread_identity());
	oom->chooser = 0;
	f->v.state = VICTIM_CANCELLED;
	f->v.cancelled_ns = now;
	oom->current = &f->v;
	store_relaxed(&oom->current_number, f->v.number);
	oom_verify(oom);
	callback_let_go(&oom->victims);
}

static void test_oom_steps_are_done_when_they_are_due(void **state)
{
	struct oom oom = { .current = NULL };
	struct memwait memwait = { .nr = 0 };
	struct fake f[2] = { { .exits = false } };

	(void)state;
	oom_init(&oom, &memwait);
	fake_add(&oom, &f[0], 10, 0);
	f[0].v.ops.force = fake_force;
	fake_add(&oom, &f[1], 10, 0);
	assert_int_equal(oom.nr_killable, 2);
	assert_int_equal(look(&oom, 5000), OOM_TODO_CHOOSE);
	cancel_at(&oom, &f[0], 5000);
	assert_int_equal(look(&oom, 5999), OOM_TODO_WAIT);
	assert_int_equal(f[0].v.state, VICTIM_CANCELLED);
	/* Late, and still before it is skipped. */
	assert_int_equal(look(&oom, 7500), OOM_TODO_FORCE);
	assert_true(f[0].v.cb.inside);
	assert_int_equal(look(&oom, 7500), OOM_TODO_WAIT);
	leave(&f[0]);
	assert_int_equal(look(&oom, 8499), OOM_TODO_WAIT);
	assert_int_equal(f[0].v.state, VICTIM_FORCED);
	assert_int_equal(look(&oom, 8500), OOM_TODO_CHOOSE);
	assert_int_equal(f[0].v.state, VICTIM_SKIPPED);
	assert_int_equal(oom.nr_killable, 1);
	assert_null(oom.current);
	/* The next; without force() it has as long. */
	cancel_at(&oom, &f[1], 8500);
	assert_int_equal(look(&oom, 9500), OOM_TODO_WAIT);
	assert_int_equal(f[1].v.state, VICTIM_FORCED);
	victim_exited(&f[1].v);
	assert_int_equal(oom.nr_released, 1);
	assert_int_equal(oom.nr_killable, 0);
	assert_int_equal(f[1].v.state, VICTIM_EXITED);
	victim_exited(&f[1].v);		/* twice is once */
	assert_int_equal(oom.nr_released, 1);
	victim_exited(&f[0].v);		/* better late than never */
	assert_int_equal(oom.nr_released, 2);
	victim_del(&f[0].v);
	victim_del(&f[1].v);
	assert_null(oom.victims.head);
	reached_end();
}

/* Somebody is in cancel() for all that time: no force(), but the next. */
static void test_oom_stuck_cancel_is_skipped(void **state)
{
	struct oom oom = { .current = NULL };
	struct memwait memwait = { .nr = 0 };
	struct fake f = { .exits = false };

	(void)state;
	oom_init(&oom, &memwait);
	fake_add(&oom, &f, 10, 0);
	f.v.ops.force = fake_force;
	assert_int_equal(look(&oom, 5000), OOM_TODO_CHOOSE);
	cancel_at(&oom, &f, 5000);
	f.v.cb.inside = 1;	/* a thread that there is not */
	assert_int_equal(look(&oom, 6000), OOM_TODO_WAIT);
	assert_int_equal(look(&oom, 6999), OOM_TODO_WAIT);
	assert_int_equal(f.v.state, VICTIM_CANCELLED);
	assert_int_equal(look(&oom, 7000), OOM_TODO_CHOOSE);
	assert_int_equal(f.v.state, VICTIM_SKIPPED);
	f.v.cb.inside = 0;
	victim_del(&f.v);
	reached_end();
}

/* One chooser, until it does not get on. */
static void test_oom_chooser_is_replaced_when_it_is_stuck(void **state)
{
	struct oom oom = { .current = NULL };
	struct memwait memwait = { .nr = 0 };

	(void)state;
	oom_init(&oom, &memwait);
	store_relaxed(&oom.victims.stuck_ns, 100);
	assert_int_equal(look(&oom, 1000), OOM_TODO_CHOOSE);
	assert_int_equal(look(&oom, 1099), OOM_TODO_WAIT);
	assert_int_equal(look(&oom, 1100), OOM_TODO_CHOOSE);
	assert_int_equal(look(&oom, 1199), OOM_TODO_WAIT);
	oom_forget_others(&oom);	/* nobody else's */
	assert_int_equal(look(&oom, 1199), OOM_TODO_WAIT);
	reached_end();
}

/* Choosing */

static void test_oom_worst_is_cancelled_first_and_the_later_of_two(void **state)
{
	struct pp_pool *pool = pool_make_one_zone("16M");
	struct pcp_registry *reg = &pool->registry;
	struct fake f[6] = { { .exits = false } };
	/* Managed pages are about 4000: adj 100 is 400 of them. */
	static const struct { size_t pages; int adj; } row[6] = {
		{ 500, 0 }, { 500, 0 }, { 300, 100 }, { 9000, -1000 },
		{ 9000, 0 }, { 100, -500 },
	};
	static const unsigned order[] = { 2, 1, 0, 5 };
	struct oom_want w = want(FAR_NS, FAR_NS);

	(void)state;
	assert_false(oom_is_possible(reg));
	assert_int_equal(oom_release(reg, &w), OOM_NONE);
	for (unsigned i = 0; i < COUNT_OF(f); i++) {
		f[i].exits = true;
		f[i].v.ops.flags = i == 4 ? PP_VICTIM_NOKILL : 0;
		fake_add(&pool->oom, &f[i], row[i].pages, row[i].adj);
	}
	for (unsigned n = 0; n < COUNT_OF(order); n++) {
		assert_true(oom_is_possible(reg));
		assert_int_equal(oom_release(reg, &w), OOM_PROGRESS);
		for (unsigned i = 0; i < COUNT_OF(f); i++)
			assert_int_equal(f[i].nr_cancels,
					 f[i].v.state == VICTIM_EXITED);
		assert_int_equal(f[order[n]].v.state, VICTIM_EXITED);
	}
	assert_false(oom_is_possible(reg));
	assert_int_equal(oom_release(reg, &w), OOM_NONE);
	assert_int_equal(f[3].nr_usages + f[4].nr_usages, 0);
	for (unsigned i = 0; i < COUNT_OF(f); i++)
		victim_del(&f[i].v);
	assert_int_equal(pp_stat_read(pool, PP_STAT_OOM_RELEASES), 4);
	pool_end(pool);
	reached_end();
}

/* The thread that it is about, waits for nothing. */
static void test_oom_own_victim_is_not_waited_for(void **state)
{
	struct pp_pool *pool = pool_make_one_zone("16M");
	struct pcp_registry *reg = &pool->registry;
	struct fake f = { .exits = false };
	struct oom_want w = want(FAR_NS, FAR_NS);

	(void)state;
	alarm(50);
	fake_add(&pool->oom, &f, 10, 0);
	victim_of_thread = f.v.number;
	assert_false(oom_is_own(reg));
	assert_int_equal(oom_release(reg, &w), OOM_PROGRESS);
	assert_int_equal(f.nr_cancels, 1);
	assert_true(oom_is_own(reg));
	victim_exited(&f.v);
	assert_false(oom_is_own(reg));
	victim_of_thread = 0;
	victim_del(&f.v);
	pool_end(pool);
	alarm(0);
	reached_end();
}

/* Who is stuck */

struct requester {
	struct pp_pool	*pool;
	struct oom_want	want;
	enum oom_result	result;
	pthread_t	thread;
};

static void *request(void *arg)
{
	struct requester *r = arg;

	r->result = oom_release(&r->pool->registry, &r->want);
	return NULL;
}

static void start(struct requester *r, struct pp_pool *pool)
{
	r->pool = pool;
	r->want = want(FAR_NS, FAR_NS);
	pthread_create(&r->thread, NULL, request, r);
}

static void test_oom_stuck_callbacks_hold_nobody_and_are_named(void **state)
{
	struct pp_pool *pool = pool_make_one_zone("16M");
	struct pcp_registry *reg = &pool->registry;
	struct fake f[3] = { { .exits = false } };
	struct requester r[2];
	char name[CALLBACK_NAME_BYTES];
	struct oom_want w;

	(void)state;
	alarm(100);
	store_relaxed(&pool->oom.victims.stuck_ns, 20000000);
	/* One is in usage() for ever, one in cancel(). */
	fake_add(&pool->oom, &f[0], 100, 0);
	fake_add(&pool->oom, &f[1], 300, 0);
	fake_add(&pool->oom, &f[2], 200, 0);
	callback_set_name(&f[0].v.cb, "in usage");
	callback_set_name(&f[1].v.cb, "in cancel");
	f[0].blocks_usage = true;
	f[1].blocks_cancel = true;
	f[2].exits = true;
	start(&r[0], pool);
	while (sem_wait(&f[0].inside))
		;
	start(&r[1], pool);	/* takes over, and chooses f[1] */
	while (sem_wait(&f[1].inside))
		;
	assert_true(callback_name_stuck(&pool->oom.victims, name,
					sizeof(name)));
	assert_string_equal(name, "in usage");
	/* The third one chooses the third, after twice the grace. */
	w = want(FAR_NS, 5000000);
	assert_int_equal(oom_release(reg, &w), OOM_PROGRESS);
	assert_int_equal(f[1].v.state, VICTIM_SKIPPED);
	assert_int_equal(f[2].nr_cancels, 1);
	assert_int_equal(oom_release(reg, &w), OOM_NONE);
	/* They come back: the third one has given something up meanwhile. */
	for (unsigned i = 0; i < 2; i++) {
		sem_post(&f[i].leave);
		pthread_join(r[i].thread, NULL);
		assert_int_equal(r[i].result, OOM_PROGRESS);
	}
	/* And the first is as if nothing had been. */
	assert_int_equal(f[0].v.state, VICTIM_ALIVE);
	f[0].blocks_usage = false;
	f[0].exits = true;
	assert_int_equal(oom_release(reg, &w), OOM_PROGRESS);
	assert_int_equal(f[0].nr_cancels, 1);
	assert_false(callback_name_stuck(&pool->oom.victims, name,
					 sizeof(name)));
	for (unsigned i = 0; i < COUNT_OF(f); i++)
		victim_del(&f[i].v);
	pool_end(pool);
	alarm(0);
	reached_end();
}

static void test_oom_late_is_the_deadline(void **state)
{
	struct pp_pool *pool = pool_make_one_zone("16M");
	struct fake f = { .exits = false };
	struct oom_want w = want(0, FAR_NS);

	(void)state;
	alarm(50);
	fake_add(&pool->oom, &f, 10, 0);
	assert_int_equal(oom_release(&pool->registry, &w), OOM_LATE);
	assert_int_equal(f.nr_cancels, 0);
	w = want(50000000, FAR_NS);
	assert_int_equal(oom_release(&pool->registry, &w), OOM_LATE);
	assert_int_equal(f.nr_cancels, 1);
	assert_int_equal(f.v.state, VICTIM_CANCELLED);
	w = want(1000000, FAR_NS);
	assert_int_equal(oom_release(&pool->registry, &w), OOM_LATE);
	assert_int_equal(f.nr_cancels, 1);
	victim_del(&f.v);
	pool_end(pool);
	alarm(0);
	reached_end();
}

/* Choosing took all the time there was: nobody ends for a request that fails
 * in any case. */
static void test_oom_nobody_ends_for_who_is_late(void **state)
{
	struct pp_pool *pool = pool_make_one_zone("16M");
	struct fake f = { .exits = true };
	struct oom_want w = want(1000000, FAR_NS);

	(void)state;
	alarm(50);
	f.late_ns = w.want.deadline_ns;
	fake_add(&pool->oom, &f, 10, 0);
	assert_int_equal(oom_release(&pool->registry, &w), OOM_LATE);
	assert_int_equal(f.nr_cancels, 0);
	/* And the next one is the chooser at once. */
	w = want(FAR_NS, FAR_NS);
	assert_int_equal(oom_release(&pool->registry, &w), OOM_PROGRESS);
	assert_int_equal(f.nr_cancels, 1);
	victim_del(&f.v);
	pool_end(pool);
	alarm(0);
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_oom_badness_follows_the_table),
		TEST(test_oom_steps_are_done_when_they_are_due),
		TEST(test_oom_stuck_cancel_is_skipped),
		TEST(test_oom_chooser_is_replaced_when_it_is_stuck),
		TEST(test_oom_worst_is_cancelled_first_and_the_later_of_two),
		TEST(test_oom_own_victim_is_not_waited_for),
		TEST(test_oom_stuck_callbacks_hold_nobody_and_are_named),
		TEST(test_oom_late_is_the_deadline),
		TEST(test_oom_nobody_ends_for_who_is_late),
	};

	test_clear_environment();
	return cmocka_run_group_tests_name("oom", tests, NULL, NULL);
}
