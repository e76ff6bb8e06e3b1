/* SPDX-License-Identifier: MIT */
/*
 * What a request does at the limit before it gives up, and why it gives up:
 * each reason from outside, who is asked for whose request, the time that it
 * may take, and callbacks that never return.
 */
#include "testing.h"

#include <fcntl.h>
#include <sched.h>
#include <semaphore.h>
#include <sys/wait.h>

#include <pagepool/reclaim.h>

#define MAX_RUNS	5000
#define NR_THREADS	64
#define SPARE_PAGES	64
/* Beyond any timeout here, for machines that are busy. */
#define SLACK_NS	20000000000ll

struct runs {
	void	*run[MAX_RUNS];
	size_t	nr;
};

/* The pool, filled to the last page of the reserve, and what may help. */
struct scene {
	struct pp_pool		*pool;
	struct runs		ballast, spare;
	struct pp_shrinker_id	*shrinker;
	struct pp_victim_id	*victim;
	struct pp_oom_notifier_id *notifier;
	_Atomic unsigned	nr_asked, nr_cancels;
	bool			helps;
	_Atomic int		inner_why;	/* of a request in scan() */
	_Atomic bool		asks_inside;
};

static struct scene scene;

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static void fill(struct runs *r, unsigned flags)
{
	while ((r->run[r->nr] = pp_alloc_pages(scene.pool, 1,
					       flags | PP_NOWARN)))
		assert_in_range(++r->nr, 0, MAX_RUNS - 1);
}

static void drop(struct runs *r)
{
	pp_free_bulk(scene.pool, r->nr, r->run);
	r->nr = 0;
}

static void begin(void)
{
	memset(&scene, 0, sizeof(scene));
	scene.pool = pool_make_one_zone("16M");
	while (scene.spare.nr < SPARE_PAGES) {
		scene.spare.run[scene.spare.nr] =
			pp_alloc_pages(scene.pool, 1, 0);
		assert_non_null(scene.spare.run[scene.spare.nr++]);
	}
}

static void end(void)
{
	pp_shrinker_unregister(scene.shrinker);
	pp_victim_unregister(scene.victim);
	pp_oom_notifier_unregister(scene.notifier);
	drop(&scene.ballast);
	drop(&scene.spare);
	pool_end(scene.pool);
	alarm(0);
	assert_threads_ok();
}

/* Served?  It is given back at once. */
static bool ask(unsigned flags)
{
	void *run = pp_alloc_pages(scene.pool, 1, flags | PP_NOWARN);

	pp_free_pages(scene.pool, run);
	return run != NULL;
}

/* Helpers: a shrinker that has something, and frees it or does not, and a
 * victim that ends at once */

static size_t shrinker_count(void *arg, struct pp_shrink *shrink)
{
	(void)arg;
	(void)shrink;
	return 1000;
}

/* The pool's own thread comes, too; it does not count. */
static size_t shrinker_scan(void *arg, struct pp_shrink *shrink)
{
	(void)arg;
	(void)shrink;
	if (pagepool_call_is_background())
		return PP_SHRINK_STOP;
	atomic_fetch_add(&scene.nr_asked, 1);
	if (scene.asks_inside) {
		thread_check(!ask(0));
		atomic_store(&scene.inner_why, (int)pp_last_failure());
	}
	if (!scene.helps || !scene.spare.nr)
		return PP_SHRINK_STOP;
	pp_free_pages(scene.pool, scene.spare.run[--scene.spare.nr]);
	return 1;
}

static void add_shrinker(unsigned flags)
{
	const struct pp_shrinker ops = {
		.struct_bytes = sizeof(ops), .name = "shrinker",
		.count = shrinker_count, .scan = shrinker_scan,
		.seeks = PP_SHRINKER_SEEKS, .flags = flags,
	};

	assert_int_equal(pp_shrinker_register(scene.pool, &ops,
					      &scene.shrinker), 0);
}

static size_t victim_usage(void *arg)
{
	(void)arg;
	return SPARE_PAGES * PAGE;
}

static void victim_cancel(void *arg)
{
	(void)arg;
	atomic_fetch_add(&scene.nr_cancels, 1);
	drop(&scene.spare);
	pp_victim_exited(scene.victim);
}

static void add_victim(void)
{
	const struct pp_victim ops = {
		.struct_bytes = sizeof(ops), .name = "victim",
		.usage = victim_usage, .cancel = victim_cancel,
	};

	assert_int_equal(pp_victim_register(scene.pool, &ops, &scene.victim),
			 0);
}

/* Reasons */

enum { NOBODY = 0, SHRINKER = 1, IO_SHRINKER = 2, VICTIM = 4 };

static const struct {
	unsigned	helpers, flags;
	enum pp_failure	why;
	bool		asks;		/* the shrinker */
} reasons[] = {
	{ NOBODY, 0, PP_FAILURE_LIMIT, false },
	{ NOBODY, PP_NOFS, PP_FAILURE_LIMIT, false },
	{ NOBODY, PP_NOIO, PP_FAILURE_LIMIT, false },
	{ NOBODY, PP_RETRY_MAYFAIL, PP_FAILURE_LIMIT, false },
	{ NOBODY, PP_THISNODE, PP_FAILURE_LIMIT, false },
	{ NOBODY, PP_NOWAIT, PP_FAILURE_CANNOT_WAIT, false },
	{ NOBODY, PP_ATOMIC, PP_FAILURE_CANNOT_WAIT, false },
	{ NOBODY, PP_NORETRY, PP_FAILURE_CANNOT_WAIT, false },
	{ NOBODY, PP_MEMALLOC, PP_FAILURE_IN_RECLAIM, false },
	{ SHRINKER, 0, PP_FAILURE_LIMIT, true },
	{ SHRINKER, PP_NOIO, PP_FAILURE_LIMIT, true },
	{ SHRINKER, PP_RETRY_MAYFAIL, PP_FAILURE_LIMIT, true },
	{ SHRINKER, PP_THISNODE, PP_FAILURE_LIMIT, true },
	{ SHRINKER, PP_NOFS, PP_FAILURE_SCOPE, false },
	{ SHRINKER, PP_NOWAIT, PP_FAILURE_CANNOT_WAIT, false },
	{ SHRINKER, PP_NORETRY, PP_FAILURE_CANNOT_WAIT, false },
	{ SHRINKER, PP_MEMALLOC, PP_FAILURE_IN_RECLAIM, false },
	{ IO_SHRINKER, 0, PP_FAILURE_LIMIT, true },
	{ IO_SHRINKER, PP_NOIO, PP_FAILURE_SCOPE, false },
	{ IO_SHRINKER, PP_NOFS, PP_FAILURE_SCOPE, false },
	{ VICTIM, PP_RETRY_MAYFAIL, PP_FAILURE_SCOPE, false },
	{ VICTIM, PP_THISNODE, PP_FAILURE_SCOPE, false },
	{ VICTIM, PP_NOFS, PP_FAILURE_SCOPE, false },
	{ VICTIM, PP_NOIO, PP_FAILURE_SCOPE, false },
	{ VICTIM, PP_NOWAIT, PP_FAILURE_CANNOT_WAIT, false },
	{ VICTIM, PP_NORETRY, PP_FAILURE_CANNOT_WAIT, false },
	{ VICTIM, PP_MEMALLOC, PP_FAILURE_IN_RECLAIM, false },
	{ VICTIM | SHRINKER, PP_RETRY_MAYFAIL, PP_FAILURE_SCOPE, true },
};

static void expect_reason(size_t i, bool by_scope)
{
	unsigned flags = reasons[i].flags, before = scene.nr_asked;
	unsigned saved = pp_scope_enter(by_scope ? flags : 0);
	bool served = ask(by_scope ? 0 : flags);
	enum pp_failure why = pp_last_failure();

	pp_scope_leave(saved);
	if (served || why != reasons[i].why)
		print_message("# row %zu: %s\n", i, pp_failure_name(why));
	assert_false(served);
	assert_int_equal(why, reasons[i].why);
	assert_int_equal(scene.nr_asked != before, reasons[i].asks);
	assert_int_equal(scene.nr_cancels, 0);
}

static void test_slowpath_each_reason_has_its_cases(void **state)
{
	const unsigned scopes = PP_NOIO | PP_NOFS | PP_MEMALLOC;

	(void)state;
	alarm(120);
	for (size_t i = 0; i < COUNT_OF(reasons); i++) {
		unsigned helpers = reasons[i].helpers;

		begin();
		/* That time was short is none of them. */
		assert_int_equal(pp_pool_set(scene.pool, "oom_timeout", "20s"),
				 0);
		fill(&scene.ballast, PP_MEMALLOC);
		/* Their own memory is the last of the reserve. */
		if (helpers)
			pp_free_pages(scene.pool, scene.ballast.run[
				      --scene.ballast.nr]);
		if (helpers & (SHRINKER | IO_SHRINKER))
			add_shrinker(helpers & IO_SHRINKER ?
				     PP_SHRINKER_IO : 0);
		if (helpers & VICTIM)
			add_victim();
		fill(&scene.ballast, PP_MEMALLOC);
		expect_reason(i, false);
		if (!(reasons[i].flags & ~scopes))
			expect_reason(i, true);
		end();
	}
	reached_end();
}

static void test_slowpath_callbacks_requests_are_in_reclaim(void **state)
{
	(void)state;
	alarm(120);
	begin();
	add_shrinker(0);
	fill(&scene.ballast, PP_MEMALLOC);
	scene.asks_inside = true;
	assert_false(ask(0));
	assert_int_equal(scene.inner_why, PP_FAILURE_IN_RECLAIM);
	assert_int_equal(pp_last_failure(), PP_FAILURE_LIMIT);
	end();
	reached_end();
}

/* Help */

static void test_slowpath_shrinker_helps_who_may_be_helped(void **state)
{
	static const unsigned flags[] = { 0, PP_RETRY_MAYFAIL, PP_NOIO };

	(void)state;
	alarm(120);
	for (size_t i = 0; i < COUNT_OF(flags); i++) {
		begin();
		add_victim();
		add_shrinker(0);
		fill(&scene.ballast, PP_NOFS);
		scene.helps = true;
		assert_true(ask(flags[i]));
		assert_true(scene.nr_asked > 0);
		assert_int_equal(scene.nr_cancels, 0);
		end();
	}
	reached_end();
}

static void test_slowpath_nofail_gets_what_a_victim_gives_up(void **state)
{
	(void)state;
	alarm(120);
	begin();
	add_victim();
	/* The reserve, too: there is nothing else to be had. */
	fill(&scene.ballast, PP_MEMALLOC | PP_NOFS);
	/* More than ordinary requests leave comes free. */
	for (size_t i = 0; i < SPARE_PAGES * 4; i++)
		scene.spare.run[scene.spare.nr++] =
			scene.ballast.run[--scene.ballast.nr];
	assert_true(ask(PP_NOFAIL));
	assert_int_equal(scene.nr_cancels, 1);
	assert_int_equal(pp_stat_read(scene.pool, PP_STAT_FAILURES_TIMEOUT),
			 0);
	end();
	reached_end();
}

/* Time */

static size_t count_many(void *arg, struct pp_shrink *shrink)
{
	(void)arg;
	(void)shrink;
	return 1 << 20;
}

/* Its work takes time, and brings the pool nothing.  Whose call it is that
 * does it, the pool's own thread's or the request's, is all the same. */
static size_t scan_slowly(void *arg, struct pp_shrink *shrink)
{
	const struct timespec work = { 0, 2000000 };

	(void)arg;
	nanosleep(&work, NULL);
	return shrink->nr_to_scan;
}

static void add_slow_shrinker(void)
{
	const struct pp_shrinker ops = {
		.struct_bytes = sizeof(ops), .name = "slow",
		.count = count_many, .scan = scan_slowly,
		.seeks = PP_SHRINKER_SEEKS, .batch = 1024,
	};

	assert_int_equal(pp_shrinker_register(scene.pool, &ops,
					      &scene.shrinker), 0);
}

static void test_slowpath_slow_help_ends_at_the_timeout(void **state)
{
	int64_t before;

	(void)state;
	alarm(120);
	begin();
	add_slow_shrinker();
	assert_int_equal(pp_pool_set(scene.pool, "oom_timeout", "200ms"), 0);
	fill(&scene.ballast, PP_NOFS);
	before = now_ns();
	assert_false(ask(0));
	assert_true(now_ns() - before < SLACK_NS);
	assert_int_equal(pp_last_failure(), PP_FAILURE_TIMEOUT);
	assert_true(pp_stat_read(scene.pool, PP_STAT_FAILURES_TIMEOUT) > 0);
	end();
	reached_end();
}

static void test_slowpath_without_time_nothing_is_begun(void **state)
{
	(void)state;
	alarm(120);
	begin();
	add_victim();
	add_shrinker(0);
	assert_int_equal(pp_pool_set(scene.pool, "oom_timeout", "0"), 0);
	fill(&scene.ballast, 0);
	scene.helps = true;
	assert_false(ask(0));
	assert_int_equal(pp_last_failure(), PP_FAILURE_TIMEOUT);
	assert_int_equal(scene.nr_asked, 0);
	assert_int_equal(scene.nr_cancels, 0);
	/* Other reasons are the same. */
	assert_false(ask(PP_NOWAIT));
	assert_int_equal(pp_last_failure(), PP_FAILURE_CANNOT_WAIT);
	/* A change counts at once. */
	assert_int_equal(pp_pool_set(scene.pool, "oom_timeout", "60s"), 0);
	assert_true(ask(0));
	assert_true(scene.nr_asked > 0);
	end();
	reached_end();
}

/* Callbacks that do not return, in a child: its standard error tells */

enum where {
	IN_COUNT, IN_SCAN, IN_SCAN_SPINNING, IN_NOTIFY, IN_USAGE, IN_CANCEL,
	IN_FORCE,
	IN_SCAN_FOR_LOCK	/* that the only thread holds */
};

static struct {
	enum where		where;
	_Atomic bool		is_inside, may_return;
	_Atomic unsigned	nr_back, nr_served;
	_Atomic int64_t		longest_ns;
	sem_t			leave;
} stuck;

static pthread_mutex_t lock_of_program = PTHREAD_MUTEX_INITIALIZER;

static void be_stuck(void)
{
	atomic_store(&stuck.is_inside, true);
	switch (stuck.where) {
	case IN_SCAN_SPINNING:
		while (!atomic_load(&stuck.may_return))
			;
		break;
	case IN_SCAN_FOR_LOCK:
		pthread_mutex_lock(&lock_of_program);
		pthread_mutex_unlock(&lock_of_program);
		break;
	default:
		while (sem_wait(&stuck.leave))
			;
		/* For any who come later. */
		sem_post(&stuck.leave);
		break;
	}
}

static size_t count_and_stay(void *arg, struct pp_shrink *shrink)
{
	if (stuck.where == IN_COUNT)
		be_stuck();
	return shrinker_count(arg, shrink);
}

static size_t scan_and_stay(void *arg, struct pp_shrink *shrink)
{
	(void)arg;
	(void)shrink;
	if (stuck.where != IN_COUNT)
		be_stuck();
	return PP_SHRINK_STOP;
}

static size_t notify_and_stay(void *arg, size_t nr_pages)
{
	(void)arg;
	(void)nr_pages;
	be_stuck();
	return 0;
}

static size_t usage_and_stay(void *arg)
{
	(void)arg;
	if (stuck.where == IN_USAGE)
		be_stuck();
	return PAGE;
}

static void cancel_and_stay(void *arg)
{
	(void)arg;
	if (stuck.where == IN_CANCEL)
		be_stuck();
}

static void force_and_stay(void *arg)
{
	(void)arg;
	be_stuck();
}

static int add_stuck(void)
{
	const struct pp_shrinker shrinker = {
		.struct_bytes = sizeof(shrinker), .name = "never back",
		.count = count_and_stay, .scan = scan_and_stay,
		.seeks = PP_SHRINKER_SEEKS,
	};
	const struct pp_oom_notifier notifier = {
		.struct_bytes = sizeof(notifier), .name = "never back",
		.notify = notify_and_stay,
	};
	const struct pp_victim victim = {
		.struct_bytes = sizeof(victim), .name = "never back",
		.usage = usage_and_stay, .cancel = cancel_and_stay,
		.force = force_and_stay,
	};

	switch (stuck.where) {
	case IN_NOTIFY:
		return pp_oom_notifier_register(scene.pool, &notifier,
						&scene.notifier);
	case IN_USAGE:
	case IN_CANCEL:
	case IN_FORCE:
		return pp_victim_register(scene.pool, &victim, &scene.victim);
	default:
		return pp_shrinker_register(scene.pool, &shrinker,
					    &scene.shrinker);
	}
}

static void *ask_once(void *arg)
{
	int64_t before = now_ns(), took, longest;

	if (ask(0))
		atomic_fetch_add(&stuck.nr_served, 1);
	took = now_ns() - before;
	longest = atomic_load(&stuck.longest_ns);
	while (took > longest &&
	       !atomic_compare_exchange_weak(&stuck.longest_ns, &longest,
					     took))
		;
	atomic_fetch_add(&stuck.nr_back, 1);
	return arg;
}

/* A hundredth of a second, to look again: nothing wakes for those who fail. */
static void wait_until_back(unsigned nr)
{
	const struct timespec pause = { 0, 10000000 };

	while (atomic_load(&stuck.nr_back) < nr ||
	       !atomic_load(&stuck.is_inside))
		nanosleep(&pause, NULL);
}

static void begin_stuck(enum where where)
{
	memset(&stuck, 0, sizeof(stuck));
	stuck.where = where;
	sem_init(&stuck.leave, 0, 0);
	begin();
	fill(&scene.ballast, 0);
	if (pp_pool_set(scene.pool, "oom_timeout", "3s") || add_stuck())
		_exit(2);
}

static void ask_by_threads(pthread_t *thread)
{
	const unsigned nr = (unsigned)test_load(NR_THREADS, 4);

	for (size_t i = 0; i < nr; i++)
		if (pthread_create(&thread[i], NULL, ask_once, NULL))
			_exit(3);
	wait_until_back(nr);
	for (size_t i = 0; i < nr; i++)
		pthread_join(thread[i], NULL);
}

/* All come back with NULL; what is printed is the report of one request more.
 * Ends the process, with what went wrong. */
static void be_child(enum where where)
{
	pthread_t thread[NR_THREADS];

	alarm(100);
	begin_stuck(where);
	pthread_mutex_lock(&lock_of_program);
	if (where != IN_SCAN_FOR_LOCK)
		ask_by_threads(thread);
	else
		ask_once(NULL);
	if (pp_alloc_pages(scene.pool, 1, 0))
		_exit(4);
	if (!atomic_load(&stuck.is_inside))
		_exit(8);
	pthread_mutex_unlock(&lock_of_program);
	atomic_store(&stuck.may_return, true);
	sem_post(&stuck.leave);
	if (atomic_load(&stuck.nr_served))
		_exit(5);
	if (atomic_load(&stuck.longest_ns) > 3000000000ll + SLACK_NS)
		_exit(6);
	end();
	_exit(atomic_load(&thread_failures) ? 7 : 0);
}

static void expect_named(enum where where)
{
	static char said[65536];
	size_t len = 0;
	ssize_t got;
	int fd[2], status;
	pid_t pid;

	assert_int_equal(pipe(fd), 0);
	fflush(stdout);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		dup2(fd[1], 2);
		be_child(where);
	}
	close(fd[1]);
	while (len < sizeof(said) - 1 &&
	       (got = read(fd[0], said + len, sizeof(said) - 1 - len)) > 0)
		len += (size_t)got;
	said[len] = '\0';
	close(fd[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (status || !strstr(said, "\"stuck\": \"never back\""))
		print_message("# %d: status %#x: %s\n", (int)where,
			      (unsigned)status, said);
	assert_int_equal(status, 0);
	assert_non_null(strstr(said, "stuck: the callback \"never back\""));
	assert_non_null(strstr(said, "\"stuck\": \"never back\""));
}

static void test_slowpath_stuck_count_holds_nobody(void **state)
{
	(void)state;
	expect_named(IN_COUNT);
	reached_end();
}

static void test_slowpath_stuck_shrinker_holds_nobody(void **state)
{
	(void)state;
	expect_named(IN_SCAN);
	reached_end();
}

static void test_slowpath_spinning_shrinker_holds_nobody(void **state)
{
	(void)state;
	expect_named(IN_SCAN_SPINNING);
	reached_end();
}

static void test_slowpath_stuck_notifier_holds_nobody(void **state)
{
	(void)state;
	expect_named(IN_NOTIFY);
	reached_end();
}

static void test_slowpath_stuck_usage_holds_nobody(void **state)
{
	(void)state;
	expect_named(IN_USAGE);
	reached_end();
}

static void test_slowpath_stuck_cancel_holds_nobody(void **state)
{
	(void)state;
	expect_named(IN_CANCEL);
	reached_end();
}

static void test_slowpath_stuck_force_holds_nobody(void **state)
{
	(void)state;
	expect_named(IN_FORCE);
	reached_end();
}

static void test_slowpath_shrinker_may_want_the_callers_own_lock(void **state)
{
	(void)state;
	expect_named(IN_SCAN_FOR_LOCK);
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_slowpath_each_reason_has_its_cases),
		TEST(test_slowpath_callbacks_requests_are_in_reclaim),
		TEST(test_slowpath_shrinker_helps_who_may_be_helped),
		TEST(test_slowpath_nofail_gets_what_a_victim_gives_up),
		TEST(test_slowpath_slow_help_ends_at_the_timeout),
		TEST(test_slowpath_without_time_nothing_is_begun),
		TEST(test_slowpath_stuck_count_holds_nobody),
		TEST(test_slowpath_stuck_shrinker_holds_nobody),
		TEST(test_slowpath_spinning_shrinker_holds_nobody),
		TEST(test_slowpath_stuck_notifier_holds_nobody),
		TEST(test_slowpath_stuck_usage_holds_nobody),
		TEST(test_slowpath_stuck_cancel_holds_nobody),
		TEST(test_slowpath_stuck_force_holds_nobody),
		TEST(test_slowpath_shrinker_may_want_the_callers_own_lock),
	};

	test_clear_environment();
	return cmocka_run_group_tests_name("slowpath", tests, NULL, NULL);
}
