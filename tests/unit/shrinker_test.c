/* SPDX-License-Identifier: MIT */
/*
 * Shrinkers without a pool: how much is asked for, by the vectors of
 * doc/tuning.md's formulas and against a model; what a callback may answer;
 * who is not asked; and that nobody is called once it is unregistered, whatever
 * the threads do.
 *
 * PP_TEST_SHRINKER: rounds of the threads (3000).
 */
#include "../api/testing.h"

#include <sched.h>
#include <sys/wait.h>

#include "os/os.h"
#include "shrinker.h"

#define FAR_NS		(60 * 1000000000ull)
#define MAX_CALLS	64

/* A shrinker that does as it is told and takes notes. */
struct fake {
	struct shrinker	s;
	size_t		freeable;	/* count() */
	size_t		freed;		/* scan() */
	size_t		scanned;	/* 0: leaves it alone */
	bool		says_none_scanned;
	unsigned	nr_counts, nr_scans;
	size_t		asked[MAX_CALLS];
	unsigned	flags;		/* of the last call */
	void		(*inside)(struct fake *);
	void		*arg;
};

#define AS_ASKED	(SIZE_MAX - 2)

static size_t fake_count(void *arg, struct pp_shrink *shrink)
{
	struct fake *f = arg;

	f->nr_counts++;
	f->flags = shrink->flags;
	return f->freeable;
}

static size_t fake_scan(void *arg, struct pp_shrink *shrink)
{
	struct fake *f = arg;

	assert_true(f->nr_scans < MAX_CALLS);
	assert_int_equal(shrink->nr_scanned, shrink->nr_to_scan);
	f->asked[f->nr_scans++] = shrink->nr_to_scan;
	f->flags = shrink->flags;
	if (f->inside)
		f->inside(f);
	if (f->scanned || f->says_none_scanned)
		shrink->nr_scanned = f->scanned;
	return f->freed == AS_ASKED ? shrink->nr_to_scan : f->freed;
}

static bool no(void *arg)
{
	(void)arg;
	return false;
}

static bool yes(void *arg)
{
	(void)arg;
	return true;
}

static struct shrink_pass pass_of(unsigned priority)
{
	return (struct shrink_pass){
		.priority = priority,
		.deadline_ns = os_now_ns() + FAR_NS,
		.enough = no,
	};
}

static void fake_add(struct callback_list *list, struct fake *f,
		     size_t freeable)
{
	f->s.ops.arg = f;
	f->s.ops.count = fake_count;
	f->s.ops.scan = fake_scan;
	f->s.ops.seeks = PP_SHRINKER_SEEKS;
	f->freeable = freeable;
	f->freed = AS_ASKED;
	shrinker_add(list, &f->s);
}

/* Arithmetic */

static void test_shrinker_plan_follows_the_table(void **state)
{
	static const struct {
		uint64_t freeable;
		unsigned priority, seeks;
		uint64_t deferred, delta, total;
	} row[] = {
		{ 10000, 12, 2, 0, 4, 4 },
		{ 10000, 6, 2, 0, 312, 312 },
		{ 10000, 0, 2, 0, 20000, 20000 },
		{ 100, 12, 2, 0, 0, 0 },
		{ 100, 2, 2, 500, 50, 175 },
		{ 1000, 12, 0, 0, 500, 500 },
		{ 1000, 0, 8, 0, 500, 500 },
	};

	(void)state;
	for (size_t i = 0; i < COUNT_OF(row); i++) {
		struct shrink_plan p = shrink_plan(row[i].freeable,
						   row[i].priority,
						   row[i].seeks,
						   row[i].deferred);

		assert_int_equal(p.delta, row[i].delta);
		assert_int_equal(p.total, row[i].total);
	}
	reached_end();
}

/* I8.5, and a total of twice what there is at the most. */
static void test_shrinker_plan_is_bounded(void **state)
{
	struct rng r = rng_make(1);

	(void)state;
	for (unsigned i = 0; i < 100000; i++) {
		uint64_t freeable = 1 + rng_next(&r) % (1ull << rng_below(&r,
									  40));
		unsigned priority = (unsigned)rng_below(&r, 13);
		unsigned seeks = (unsigned)rng_below(&r, 10);
		uint64_t deferred = rng_next(&r) % (1ull << rng_below(&r, 40));
		struct shrink_plan p = shrink_plan(freeable, priority, seeks,
						   deferred);

		assert_true(p.total <= 2 * freeable);
		if (!priority && seeks && seeks <= 4)
			assert_true(p.total >= freeable);
	}
	reached_end();
}

static void test_shrinker_little_is_put_off_until_it_is_a_batch(void **state)
{
	struct callback_list list = { .nr = 0 };
	struct fake f = { .nr_scans = 0 };
	struct shrink_pass pass;

	(void)state;
	callback_list_init(&list, LOCK_RANK_SHRINKER);
	fake_add(&list, &f, 10000);
	/* 4 each time; of what is put off only 1/4096 comes back. */
	for (unsigned i = 1; i <= 10; i++) {
		pass = pass_of(12);
		shrinker_run_all(&list, &pass);
		assert_int_equal(f.s.deferred, 4 * i);
		assert_int_equal(pass.nr_scanned, 0);
		assert_int_equal(f.nr_scans, 0);
	}
	/* 312 + 40 / 64: two batches, the rest is put off. */
	pass = pass_of(6);
	shrinker_run_all(&list, &pass);
	assert_int_equal(f.nr_scans, 2);
	assert_int_equal(f.asked[0], 128);
	assert_int_equal(f.asked[1], 128);
	assert_int_equal(pass.nr_scanned, 256);
	assert_int_equal(pass.nr_freed, 256);
	assert_int_equal(f.s.deferred, 40 + 312 - 256);
	shrinker_del(&f.s);
	reached_end();
}

/* Less than a batch is scanned when it is all there is. */
static void test_shrinker_small_cache_is_scanned_whole(void **state)
{
	struct callback_list list = { .nr = 0 };
	struct fake f = { .nr_scans = 0 };
	struct shrink_pass pass = pass_of(1);

	(void)state;
	callback_list_init(&list, LOCK_RANK_SHRINKER);
	fake_add(&list, &f, 50);
	shrinker_run_all(&list, &pass);
	assert_int_equal(f.nr_scans, 1);
	assert_int_equal(f.asked[0], 50);
	pass = pass_of(0);
	shrinker_run_all(&list, &pass);
	assert_int_equal(f.nr_scans, 2);
	assert_int_equal(f.asked[1], 100);	/* twice of it */
	pass = pass_of(2);			/* 24 of 50 */
	shrinker_run_all(&list, &pass);
	assert_int_equal(f.nr_scans, 2);
	assert_int_equal(f.s.deferred, 24);
	shrinker_del(&f.s);
	reached_end();
}

static void test_shrinker_batches_are_its_own(void **state)
{
	struct callback_list list = { .nr = 0 };
	struct fake f = { .nr_scans = 0 };
	struct shrink_pass pass = pass_of(5);

	(void)state;
	callback_list_init(&list, LOCK_RANK_SHRINKER);
	f.s.ops.batch = 10;
	fake_add(&list, &f, 1000);
	shrinker_run_all(&list, &pass);		/* 62 */
	assert_int_equal(f.nr_scans, 6);
	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(f.asked[i], 10);
	assert_int_equal(f.s.deferred, 2);
	shrinker_del(&f.s);
	reached_end();
}

/* I8.1 and I8.2 at random, with a callee that says what it likes. */
static void test_shrinker_random_passes_match_the_model(void **state)
{
	struct callback_list list = { .nr = 0 };
	struct rng r = rng_make(2);
	uint64_t deferred = 0;

	(void)state;
	callback_list_init(&list, LOCK_RANK_SHRINKER);
	for (unsigned i = 0; i < 20000; i++) {
		struct fake f = { .nr_scans = 0 };
		struct shrink_pass pass = pass_of((unsigned)rng_below(&r, 13));
		size_t freeable = rng_below(&r, 3000);
		struct shrink_plan plan;
		uint64_t left;

		f.s.ops.batch = 100 + rng_below(&r, 300);
		f.scanned = rng_below(&r, 4) ? 0 : 90 + rng_below(&r, 600);
		fake_add(&list, &f, freeable);
		f.s.deferred = deferred;
		plan = shrink_plan(freeable, pass.priority, 2, deferred);
		shrinker_run_all(&list, &pass);
		assert_int_equal(f.nr_counts, 1);
		if (!freeable) {
			assert_int_equal(f.s.deferred, deferred);
			assert_int_equal(f.nr_scans, 0);
		} else {
			assert_true(f.s.deferred <= 2 * freeable);
			left = deferred + plan.delta;
			left -= pass.nr_scanned < left ? pass.nr_scanned : left;
			assert_int_equal(f.s.deferred, left < 2 * freeable ?
					 left : 2 * freeable);
			if (!f.scanned)
				assert_true(pass.nr_scanned <= plan.total);
			assert_true(pass.nr_scanned < plan.total +
				    (f.scanned ? f.scanned : f.s.ops.batch));
		}
		deferred = f.s.deferred;
		shrinker_del(&f.s);
	}
	reached_end();
}

/* What a callback answers */

static void test_shrinker_that_stops_is_called_once_a_pass(void **state)
{
	struct callback_list list = { .nr = 0 };
	struct fake f = { .nr_scans = 0 };
	struct shrink_pass pass = pass_of(0);

	(void)state;
	callback_list_init(&list, LOCK_RANK_SHRINKER);
	fake_add(&list, &f, 1000);
	f.freed = PP_SHRINK_STOP;
	shrinker_run_all(&list, &pass);
	assert_int_equal(f.nr_scans, 1);
	assert_int_equal(pass.nr_scanned, 0);
	assert_int_equal(pass.nr_freed, 0);
	assert_int_equal(f.s.deferred, 2000);	/* all of the work */
	pass = pass_of(0);
	shrinker_run_all(&list, &pass);
	assert_int_equal(f.nr_scans, 2);
	assert_int_equal(f.s.deferred, 2000);	/* and no more */
	shrinker_del(&f.s);
	reached_end();
}

static void test_shrinker_that_scans_nothing_ends_the_pass(void **state)
{
	struct callback_list list = { .nr = 0 };
	struct fake f = { .nr_scans = 0 };
	struct shrink_pass pass = pass_of(0);

	(void)state;
	callback_list_init(&list, LOCK_RANK_SHRINKER);
	fake_add(&list, &f, 1000);
	f.freed = 0;
	f.says_none_scanned = true;
	shrinker_run_all(&list, &pass);
	assert_int_equal(f.nr_scans, 1);
	assert_int_equal(f.s.deferred, 2000);
	shrinker_del(&f.s);
	reached_end();
}

static void test_shrinker_with_nothing_is_not_scanned(void **state)
{
	static const size_t none[] = { 0, PP_SHRINK_EMPTY, PP_SHRINK_STOP };
	struct callback_list list = { .nr = 0 };
	struct fake f = { .nr_scans = 0 };
	struct shrink_pass pass = pass_of(0);

	(void)state;
	callback_list_init(&list, LOCK_RANK_SHRINKER);
	fake_add(&list, &f, 0);
	f.s.deferred = 77;
	for (size_t i = 0; i < COUNT_OF(none); i++) {
		f.freeable = none[i];
		shrinker_run_all(&list, &pass);
		assert_false(pass.has_freeable);
	}
	assert_int_equal(f.nr_scans, 0);
	assert_int_equal(f.nr_counts, 3);
	assert_int_equal(f.s.deferred, 77);
	shrinker_del(&f.s);
	reached_end();
}

static void test_shrinker_says_itself_how_much_it_looked_at(void **state)
{
	struct callback_list list = { .nr = 0 };
	struct fake f = { .nr_scans = 0 };
	struct shrink_pass pass = pass_of(0);

	(void)state;
	callback_list_init(&list, LOCK_RANK_SHRINKER);
	fake_add(&list, &f, 1000);
	f.scanned = 700;
	shrinker_run_all(&list, &pass);
	assert_int_equal(f.nr_scans, 3);	/* 2000 / 700 */
	assert_int_equal(pass.nr_scanned, 2100);
	assert_int_equal(f.s.deferred, 0);
	f.scanned = SIZE_MAX;			/* nonsense does no harm */
	pass = pass_of(0);
	shrinker_run_all(&list, &pass);
	assert_int_equal(f.nr_scans, 4);
	assert_int_equal(f.s.deferred, 0);
	shrinker_del(&f.s);
	reached_end();
}

/* Ends */

static void test_shrinker_each_has_a_batch_before_it_is_enough(void **state)
{
	struct callback_list list = { .nr = 0 };
	struct fake f[3] = { { .nr_scans = 0 } };
	struct shrink_pass pass = pass_of(0);

	(void)state;
	callback_list_init(&list, LOCK_RANK_SHRINKER);
	for (size_t i = 0; i < COUNT_OF(f); i++)
		fake_add(&list, &f[i], 10000);
	pass.enough = yes;
	shrinker_run_all(&list, &pass);
	for (size_t i = 0; i < COUNT_OF(f); i++) {
		assert_int_equal(f[i].nr_scans, 1);
		assert_int_equal(f[i].asked[0], SHRINKER_BATCH);
		shrinker_del(&f[i].s);
	}
	reached_end();
}

static void test_shrinker_deadline_ends_between_batches(void **state)
{
	struct callback_list list = { .nr = 0 };
	struct fake f = { .nr_scans = 0 };
	struct shrink_pass pass = pass_of(0);

	(void)state;
	callback_list_init(&list, LOCK_RANK_SHRINKER);
	fake_add(&list, &f, 10000);
	pass.deadline_ns = os_now_ns();
	shrinker_run_all(&list, &pass);
	assert_true(f.nr_scans <= 1);
	assert_int_equal(f.s.deferred, 20000 - pass.nr_scanned);
	shrinker_del(&f.s);
	reached_end();
}

/* Who is not asked */

static void test_shrinker_flags_decide_who_is_asked(void **state)
{
	static const unsigned flags[] = {
		0, PP_SHRINKER_IO, PP_SHRINKER_CLEAN,
		PP_SHRINKER_IO | PP_SHRINKER_CLEAN,
	};
	static const struct {
		unsigned pass, expected;	/* bit i: flags[i] */
		bool clean;
	} row[] = {
		{ 0, 0xf, false }, { PP_NOIO, 0x5, false }, { 0, 0xc, true },
		{ PP_NOIO, 0x4, true },
	};
	struct callback_list list = { .nr = 0 };
	struct fake f[4] = { { .nr_scans = 0 } };

	(void)state;
	callback_list_init(&list, LOCK_RANK_SHRINKER);
	for (size_t i = 0; i < COUNT_OF(f); i++) {
		f[i].s.ops.flags = flags[i];
		fake_add(&list, &f[i], 100);
	}
	for (size_t k = 0; k < COUNT_OF(row); k++) {
		struct shrink_pass pass = pass_of(0);
		unsigned called = 0;

		pass.flags = row[k].pass;
		pass.clean_only = row[k].clean;
		for (size_t i = 0; i < COUNT_OF(f); i++)
			f[i].nr_scans = f[i].nr_counts = 0;
		shrinker_run_all(&list, &pass);
		for (size_t i = 0; i < COUNT_OF(f); i++) {
			assert_int_equal(!f[i].nr_scans, !f[i].nr_counts);
			if (f[i].nr_scans) {
				assert_int_equal(f[i].flags, row[k].pass);
				called |= 1u << i;
			}
		}
		assert_int_equal(called, row[k].expected);
	}
	for (size_t i = 0; i < COUNT_OF(f); i++)
		shrinker_del(&f[i].s);
	reached_end();
}

/* A pass within a callback calls the others, and not the one it is in. */
static void pass_within(struct fake *f)
{
	struct shrink_pass pass = pass_of(0);

	f->inside = NULL;
	assert_true(callback_is_inside(f->s.cb.list));
	shrinker_run_all(f->s.cb.list, &pass);
	assert_true(callback_is_inside(f->s.cb.list));
}

static void test_shrinker_is_not_entered_twice_by_a_thread(void **state)
{
	struct callback_list list = { .nr = 0 };
	struct fake f[2] = { { .nr_scans = 0 } };
	struct shrink_pass pass = pass_of(0);

	(void)state;
	callback_list_init(&list, LOCK_RANK_SHRINKER);
	fake_add(&list, &f[0], 100);
	fake_add(&list, &f[1], 100);
	f[0].inside = pass_within;
	assert_false(callback_is_inside(&list));
	shrinker_run_all(&list, &pass);
	assert_false(callback_is_inside(&list));
	/* 200: a batch of 128, and then less than there is. */
	assert_int_equal(f[0].nr_scans, 1);
	assert_int_equal(f[1].nr_scans, 2);
	assert_false(f[0].s.cb.inside);
	assert_false(f[1].s.cb.inside);
	shrinker_del(&f[0].s);
	shrinker_del(&f[1].s);
	assert_null(list.head);
	reached_end();
}

/* Threads */

struct gate {
	pthread_barrier_t	inside, leave;
};

static size_t gate_count(void *arg, struct pp_shrink *shrink)
{
	struct gate *g = arg;

	(void)shrink;
	pthread_barrier_wait(&g->inside);
	pthread_barrier_wait(&g->leave);
	return 0;
}

static void *run_pass(void *arg)
{
	struct shrink_pass pass = pass_of(0);

	shrinker_run_all(arg, &pass);
	return NULL;
}

/* One thread is inside; the second is told so, and asks the others. */
static void test_shrinker_that_is_busy_is_passed_over(void **state)
{
	struct callback_list list = { .nr = 0 };
	struct shrinker s = { .deferred = 0 };
	struct fake other = { .nr_scans = 0 };
	struct shrink_pass pass = pass_of(0);
	pthread_t thread;
	struct gate g;

	(void)state;
	callback_list_init(&list, LOCK_RANK_SHRINKER);
	pthread_barrier_init(&g.inside, NULL, 2);
	pthread_barrier_init(&g.leave, NULL, 2);
	s.ops.arg = &g;
	s.ops.count = gate_count;
	shrinker_add(&list, &s);
	pthread_create(&thread, NULL, run_pass, &list);
	pthread_barrier_wait(&g.inside);
	fake_add(&list, &other, 100);
	assert_false(callback_is_inside(&list));
	shrinker_run_all(&list, &pass);
	assert_int_equal(pass.nr_busy, 1);
	assert_int_equal(pass.nr_freed, 128);	/* a batch */
	/* One that is stuck is not worth a word. */
	store_relaxed(&list.stuck_ns, 0);
	shrinker_run_all(&list, &pass);
	assert_int_equal(pass.nr_busy, 0);
	pthread_barrier_wait(&g.leave);
	pthread_join(thread, NULL);
	shrinker_del(&other.s);
	shrinker_del(&s);
	reached_end();
}

static void *unregister(void *arg)
{
	shrinker_del(arg);
	return NULL;
}

/* S2: who unregisters waits for one callback, and not for ever new ones. */
static void test_shrinker_that_is_waited_for_is_not_entered(void **state)
{
	struct callback_list list = { .nr = 0 };
	struct shrinker s = { .deferred = 0 };
	pthread_t walker, owner;
	bool dead = false;
	struct gate g;

	(void)state;
	callback_list_init(&list, LOCK_RANK_SHRINKER);
	pthread_barrier_init(&g.inside, NULL, 2);
	pthread_barrier_init(&g.leave, NULL, 2);
	s.ops.arg = &g;
	s.ops.count = gate_count;
	shrinker_add(&list, &s);
	pthread_create(&walker, NULL, run_pass, &list);
	pthread_barrier_wait(&g.inside);
	pthread_create(&owner, NULL, unregister, &s);
	while (!dead) {
		sched_yield();
		lock_acquire(&list.lock);
		dead = s.cb.dead;
		lock_release(&list.lock);
	}
	alarm(60);	/* the gate would hold us */
	run_pass(&list);
	alarm(0);
	pthread_barrier_wait(&g.leave);
	pthread_join(walker, NULL);
	pthread_join(owner, NULL);
	assert_null(list.head);
	reached_end();
}

/* In the child of a fork frames of threads that are gone are not waited for. */
static void test_shrinker_child_forgets_the_frames_of_others(void **state)
{
	struct callback_list list = { .nr = 0 };
	struct shrinker s = { .deferred = 0 };
	pthread_t thread;
	struct gate g;
	int status;
	pid_t child;

	(void)state;
	callback_list_init(&list, LOCK_RANK_SHRINKER);
	pthread_barrier_init(&g.inside, NULL, 2);
	pthread_barrier_init(&g.leave, NULL, 2);
	s.ops.arg = &g;
	s.ops.count = gate_count;
	shrinker_add(&list, &s);
	pthread_create(&thread, NULL, run_pass, &list);
	pthread_barrier_wait(&g.inside);
	lock_fork_take(&list.lock);
	child = fork();
	if (!child) {
		alarm(60);
		callback_forget_others(&list);
		lock_fork_give(&list.lock);
		shrinker_del(&s);
		_exit(list.head || s.cb.inside ? 1 : 0);
	}
	lock_fork_give(&list.lock);
	assert_true(s.cb.inside);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	pthread_barrier_wait(&g.leave);
	pthread_join(thread, NULL);
	shrinker_del(&s);
	reached_end();
}

/*
 * Many threads walk; others register and unregister.  What is unregistered is
 * poisoned at once: a call after that is seen.
 */

#define NR_WALKERS	4
#define NR_OWNERS	4

struct mortal {
	struct shrinker		s;
	_Atomic uint64_t	alive;
	_Atomic unsigned	inside;
	struct rng		rng;
};

struct crowd {
	struct callback_list	list;
	_Atomic bool		over;
	_Atomic unsigned	calls, waits;
	unsigned		rounds;
};

static struct crowd crowd;

static void dawdle(struct mortal *m)
{
	thread_check(atomic_load(&m->alive) == 1);
	thread_check(atomic_fetch_add(&m->inside, 1) == 0);
	atomic_fetch_add(&crowd.calls, 1);
	for (unsigned i = atomic_load(&crowd.calls) % 4; i; i--)
		sched_yield();
	thread_check(atomic_load(&m->alive) == 1);
	atomic_fetch_sub(&m->inside, 1);
}

static size_t mortal_count(void *arg, struct pp_shrink *shrink)
{
	(void)shrink;
	dawdle(arg);
	return 200;
}

static size_t mortal_scan(void *arg, struct pp_shrink *shrink)
{
	dawdle(arg);
	return shrink->nr_to_scan % 3 ? shrink->nr_to_scan : PP_SHRINK_STOP;
}

static void *walk(void *arg)
{
	(void)arg;
	while (!atomic_load(&crowd.over)) {
		struct shrink_pass pass = pass_of(0);

		shrinker_run_all(&crowd.list, &pass);
	}
	return NULL;
}

static void *own(void *arg)
{
	struct rng r = rng_make((unsigned)(uintptr_t)arg);

	for (unsigned i = 0; i < crowd.rounds; i++) {
		struct mortal *m = test_array(1, sizeof(*m));

		m->s.ops.arg = m;
		m->s.ops.count = mortal_count;
		m->s.ops.scan = mortal_scan;
		m->s.ops.batch = 64;
		atomic_store(&m->alive, 1);
		shrinker_add(&crowd.list, &m->s);
		for (size_t k = rng_below(&r, 6); k; k--)
			sched_yield();
		if (atomic_load(&m->inside))
			atomic_fetch_add(&crowd.waits, 1);
		shrinker_del(&m->s);
		thread_check(!atomic_load(&m->inside));
		memset(m, 0x55, sizeof(*m));
		free(m);
	}
	return NULL;
}

static void test_shrinker_nobody_is_called_once_unregistered(void **state)
{
	pthread_t walker[NR_WALKERS], owner[NR_OWNERS];

	(void)state;
	callback_list_init(&crowd.list, LOCK_RANK_SHRINKER);
	crowd.rounds = (unsigned)test_number("PP_TEST_SHRINKER", 3000);
	for (size_t i = 0; i < NR_WALKERS; i++)
		pthread_create(&walker[i], NULL, walk, NULL);
	for (size_t i = 0; i < NR_OWNERS; i++)
		pthread_create(&owner[i], NULL, own, (void *)(i + 1));
	for (size_t i = 0; i < NR_OWNERS; i++)
		pthread_join(owner[i], NULL);
	atomic_store(&crowd.over, true);
	for (size_t i = 0; i < NR_WALKERS; i++)
		pthread_join(walker[i], NULL);
	assert_null(crowd.list.head);
	assert_int_equal(crowd.list.nr, 0);
	print_message("# %u calls, %u unregistered while one ran\n",
		      crowd.calls, crowd.waits);
	assert_true(crowd.waits > 0);
	assert_threads_ok();
	reached_end();
}

static uint64_t late_ns;

static void until_late(struct fake *f)
{
	(void)f;
	while (os_now_ns() < late_ns)
		sched_yield();
}

/* One that is slow has used up a request's time: the others are not asked.
 * Who has time again and again goes through all, or some would never be. */
static void test_shrinker_is_not_asked_for_a_request_that_is_late(void **state)
{
	struct callback_list list = { .head = NULL };
	struct fake slow = { .inside = until_late }, next = { .freed = 0 };
	struct shrink_pass pass;

	(void)state;
	callback_list_init(&list, LOCK_RANK_SHRINKER);
	fake_add(&list, &next, 1000);
	fake_add(&list, &slow, 1000);		/* the last comes first */
	for (unsigned i = 0; i < 2; i++) {
		pass = pass_of(0);
		pass.deadline_ns = late_ns = os_now_ns() + 1000000;
		pass.for_request = !i;
		shrinker_run_all(&list, &pass);
		assert_int_equal(slow.nr_scans, i + 1);
		assert_int_equal(next.nr_scans, i);
		assert_int_equal(next.nr_counts, i);
	}
	shrinker_del(&slow.s);
	shrinker_del(&next.s);
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_shrinker_plan_follows_the_table),
		TEST(test_shrinker_plan_is_bounded),
		TEST(test_shrinker_little_is_put_off_until_it_is_a_batch),
		TEST(test_shrinker_small_cache_is_scanned_whole),
		TEST(test_shrinker_batches_are_its_own),
		TEST(test_shrinker_random_passes_match_the_model),
		TEST(test_shrinker_that_stops_is_called_once_a_pass),
		TEST(test_shrinker_that_scans_nothing_ends_the_pass),
		TEST(test_shrinker_with_nothing_is_not_scanned),
		TEST(test_shrinker_says_itself_how_much_it_looked_at),
		TEST(test_shrinker_each_has_a_batch_before_it_is_enough),
		TEST(test_shrinker_deadline_ends_between_batches),
		TEST(test_shrinker_is_not_asked_for_a_request_that_is_late),
		TEST(test_shrinker_flags_decide_who_is_asked),
		TEST(test_shrinker_is_not_entered_twice_by_a_thread),
		TEST(test_shrinker_that_is_busy_is_passed_over),
		TEST(test_shrinker_that_is_waited_for_is_not_entered),
		TEST(test_shrinker_child_forgets_the_frames_of_others),
		TEST(test_shrinker_nobody_is_called_once_unregistered),
	};

	return cmocka_run_group_tests_name("shrinker", tests, NULL, NULL);
}
