/* SPDX-License-Identifier: MIT */
/*
 * Tenants that end, too late, never or at once, and come back under another
 * name, among threads that want more than there is; notifiers come and go, and
 * victims are disabled now and then.  A page has one holder at any time, which
 * its contents prove; at most one victim is under way; nobody is told to end
 * who is not registered; and in the end the books are exact.
 *
 * PP_TEST_VICTIM: lives of each tenant (40).
 */
#include "../api/testing.h"

#include <sched.h>
#include <semaphore.h>
#include <sys/wait.h>

#include "pool.h"

#define NR_TENANTS	6
#define NR_GREEDY	3
#define TENANT_PAGES	2000
#define GREEDY_PAGES	300

struct tenant {
	struct pp_victim_id	*id;
	_Atomic size_t		nr;
	_Atomic bool		is_registered, is_told, is_forced;
	void			*run[TENANT_PAGES];
	unsigned		stream;
	bool			is_deaf;	/* to cancel() */
};

struct storm {
	struct pp_pool	*pool;
	unsigned	nr_lives;
	_Atomic bool	over;
	_Atomic unsigned nr_done, told, forced, grown, missed, notified;
	_Atomic unsigned forks;
};

static struct storm storm;

static size_t usage(void *arg)
{
	struct tenant *t = arg;

	thread_check(atomic_load(&t->is_registered));
	return atomic_load(&t->nr) * PAGE;
}

static void cancel(void *arg)
{
	struct tenant *t = arg;

	thread_check(atomic_load(&t->is_registered));
	thread_check(!atomic_exchange(&t->is_told, true));
	atomic_fetch_add(&storm.told, 1);
}

static void force(void *arg)
{
	struct tenant *t = arg;

	thread_check(atomic_load(&t->is_registered));
	thread_check(atomic_load(&t->is_told));
	thread_check(!atomic_exchange(&t->is_forced, true));
	atomic_fetch_add(&storm.forced, 1);
}

static void *take(struct rng *r, void *owner)
{
	static const unsigned flags[] = {
		0, 0, 0, 0, PP_NOWAIT, PP_NORETRY, PP_RETRY_MAYFAIL, PP_NOFS,
	};
	void **run = pp_alloc_pages(storm.pool, 1, PP_NOWARN |
				    flags[rng_below(r, COUNT_OF(flags))]);

	if (run)
		*run = owner;
	return run;
}

static void give(void **run, void *owner)
{
	thread_check(*run == owner);
	*run = NULL;
	pp_free_pages(storm.pool, run);
}

/* One that is deaf waits for more, but not if nobody is in need any more. */
static bool has_to_end(struct tenant *t)
{
	if (!atomic_load(&t->is_told))
		return false;
	for (unsigned i = 0; i < 600 && t->is_deaf; i++) {
		if (atomic_load(&t->is_forced))
			break;
		usleep(1000);
	}
	return true;
}

/* Grows until it is told to end, or has enough of life. */
static void live(struct tenant *t, struct rng *r)
{
	const struct pp_victim ops = {
		.struct_bytes = sizeof(ops), .name = "tenant", .arg = t,
		.usage = usage, .cancel = cancel,
		.force = rng_below(r, 4) ? force : NULL,
		.adj = (int)rng_below(r, 400) - 200,
		.flags = rng_below(r, 8) ? 0 : PP_VICTIM_NOKILL,
	};
	size_t most = 500 + rng_below(r, TENANT_PAGES - 500), nr = 0;
	unsigned saved;

	t->is_deaf = ops.force && !rng_below(r, 8);
	t->is_told = t->is_forced = false;
	atomic_store(&t->is_registered, true);
	while (pp_victim_register(storm.pool, &ops, &t->id))
		sched_yield();
	saved = pp_victim_enter(t->id);
	for (unsigned i = 0; nr < most && i < 2 * TENANT_PAGES; i++) {
		if (has_to_end(t))
			break;
		t->run[nr] = take(r, t);
		nr += t->run[nr] != NULL;
		atomic_store(&t->nr, nr);
	}
	pp_victim_leave(saved);
	for (; nr; nr--)
		give(t->run[nr - 1], t);
	atomic_store(&t->nr, 0);
	if (rng_below(r, 2))
		pp_victim_exited(t->id);
	pp_victim_unregister(t->id);
	thread_check(ops.flags == 0 || !t->is_told);
	atomic_store(&t->is_registered, false);
}

static void *be_tenant(void *arg)
{
	struct tenant *t = arg;
	struct rng r = rng_make(t->stream);

	for (unsigned i = 0; i < storm.nr_lives; i++)
		live(t, &r);
	atomic_fetch_add(&storm.nr_done, 1);
	return NULL;
}

/* Nobody's victim. */
static void *be_greedy(void *arg)
{
	struct rng r = rng_make(100 + (unsigned)(uintptr_t)arg);
	void *run[GREEDY_PAGES];
	size_t nr = 0;

	while (!atomic_load(&storm.over)) {
		if (nr == GREEDY_PAGES || (nr && !rng_below(&r, 3))) {
			give(run[--nr], run);
			continue;
		}
		run[nr] = take(&r, run);
		atomic_fetch_add(run[nr] ? &storm.grown : &storm.missed, 1);
		nr += run[nr] != NULL;
	}
	while (nr)
		give(run[--nr], run);
	return NULL;
}

static size_t notify(void *arg, size_t nr_pages)
{
	(void)nr_pages;
	thread_check(atomic_load((_Atomic bool *)arg));
	atomic_fetch_add(&storm.notified, 1);
	return 0;
}

static void notifier_comes_and_goes(void)
{
	static _Atomic bool is_registered;
	const struct pp_oom_notifier ops = {
		.struct_bytes = sizeof(ops), .name = "storm",
		.arg = &is_registered, .notify = notify,
	};
	struct pp_oom_notifier_id *id;

	atomic_store(&is_registered, true);
	if (pp_oom_notifier_register(storm.pool, &ops, &id))
		return;
	usleep(2000);
	pp_oom_notifier_unregister(id);
	atomic_store(&is_registered, false);
}

static void fork_one(void)
{
	int status = -1;
	pid_t child = fork();

	if (!child) {
		alarm(60);
		for (unsigned i = 0; i < 50; i++)
			pp_free_pages(storm.pool,
				      pp_alloc_pages(storm.pool, 1,
						     PP_NOWARN | PP_NOFS));
		lock_acquire(&storm.pool->oom.victims.lock);
		oom_verify(&storm.pool->oom);
		lock_release(&storm.pool->oom.victims.lock);
		_exit(pp_pool_check(storm.pool) ? 1 : 0);
	}
	thread_check(child > 0);
	thread_check(waitpid(child, &status, 0) == child && status == 0);
	atomic_fetch_add(&storm.forks, 1);
}

static void *disturb(void *arg)
{
	struct rng r = rng_make(200);

	(void)arg;
	while (!atomic_load(&storm.over)) {
		switch (rng_below(&r, 4)) {
		case 0:
			notifier_comes_and_goes();
			break;
		case 1:
			if (pp_oom_disable(storm.pool, 20) == 0) {
				usleep(1000);
				thread_check(!pp_oom_enable(storm.pool));
			}
			break;
		case 2:
			if (!TEST_SANITIZED)
				fork_one();
			break;
		default:
			thread_check(pp_pool_check(storm.pool) == 0);
			break;
		}
		usleep(5000);
	}
	return NULL;
}

static void check_end(void)
{
	struct oom *oom = &storm.pool->oom;
	struct pp_stats st;

	pp_pool_drain(storm.pool);
	st = pool_stats(storm.pool);
	print_message("# told %u, forced %u, notified %u, forks %u; others: "
		      "%u served, %u not\n", storm.told, storm.forced,
		      storm.notified, storm.forks, storm.grown, storm.missed);
	assert_true(storm.told > 0);
	assert_int_equal(st.oom_releases, storm.told);
	assert_int_equal(st.oom_forced, storm.forced);
	assert_in_range(st.used_pages, 0, 300);
	assert_null(oom->current);
	assert_int_equal(oom->chooser, 0);
	assert_int_equal(oom->memwait->nr + oom->nr_killable +
			 oom->nr_disabled, 0);
}

static void test_victim_storm_tells_nobody_twice_or_in_vain(void **state)
{
	static struct tenant tenant[NR_TENANTS];
	pthread_t living[NR_TENANTS], greedy[NR_GREEDY], other;

	(void)state;
	alarm(250);
	test_seed();	/* before there are threads */
	storm.nr_lives = (unsigned)test_number("PP_TEST_VICTIM", 40);
	storm.pool = pool_make_one_zone("16M");
	for (unsigned i = 0; i < NR_TENANTS; i++) {
		tenant[i].stream = i;
		pthread_create(&living[i], NULL, be_tenant, &tenant[i]);
	}
	for (size_t i = 0; i < NR_GREEDY; i++)
		pthread_create(&greedy[i], NULL, be_greedy, (void *)i);
	pthread_create(&other, NULL, disturb, NULL);
	for (unsigned i = 0; i < NR_TENANTS; i++)
		pthread_join(living[i], NULL);
	atomic_store(&storm.over, true);
	for (size_t i = 0; i < NR_GREEDY; i++)
		pthread_join(greedy[i], NULL);
	pthread_join(other, NULL);
	check_end();
	pool_end(storm.pool);
	alarm(0);
	assert_threads_ok();
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_victim_storm_tells_nobody_twice_or_in_vain),
	};

	test_clear_environment();
	return cmocka_run_group_tests_name("victim storm", tests, NULL, NULL);
}
