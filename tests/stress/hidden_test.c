/* SPDX-License-Identifier: MIT */
/*
 * P4: memory is there, but hidden.  Hundreds of threads fill their caches with
 * every class of objects and every length of runs, and go to sleep.  One thread
 * then allocates until NULL, and must get all that is free above its floor, to
 * the page:
 *
 *	managed - min - in use,  in use = the pages of each thread's cache
 *				 + the slabs that hold live objects
 *
 * where the slabs are found by looking up every live object.  Meanwhile another
 * thread reads all numbers cheaply and holds them against what it knows: the
 * hungry thread says before each request that it has begun and after it that it
 * has got the run, so at any moment the truth lies between the two.
 *
 * Built three times: with membarrier, with a fault in its place, and with a
 * filter of system calls that refuses it (HIDDEN_REFUSED_BY).
 *
 * PP_TEST_THREADS (512), PP_TEST_SEED.
 */
#include "hidden_sampler.h"

#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <linux/filter.h>
#include <linux/seccomp.h>

#include "base/fault.h"
#include "pagepool/numa.h"

#define REFUSED_BY_NOTHING	0
#define REFUSED_BY_FAULT	1
#define REFUSED_BY_FILTER	2
#ifndef HIDDEN_REFUSED_BY
#define HIDDEN_REFUSED_BY	REFUSED_BY_NOTHING
#endif

#define MAX_REST_MS	20000u	/* until nothing is on its way to the kernel */
/* Two drains begin at least so far apart. */
#define DRAIN_GAP_NS	1000000ull

/* Bring-up and end */

static void start_sleeper(struct hidden *h, size_t nr, pthread_attr_t *attr)
{
	struct sleeper *s = &h->sleeper[nr];

	s->h = h;
	s->nr = nr;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->wake, NULL);
	assert_int_equal(pthread_create(&s->thread, attr, sleeper_main, s), 0);
}

static void start_threads(struct hidden *h, size_t nr)
{
	pthread_attr_t attr;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	h->sleeper = test_array(nr, sizeof(*h->sleeper));
	h->nr = nr;
	for (size_t i = 0; i < nr; i++)
		start_sleeper(h, i, &attr);
	assert_int_equal(pthread_create(&h->sampler, &attr, sampler_main, h),
			 0);
	pthread_attr_destroy(&attr);
}

static struct pp_pool *make_pool(const char *nodes)
{
	struct pp_config *config = NULL;
	struct pp_pool *pool = NULL;

	assert_int_equal(pp_config_create(&config), 0);
	assert_int_equal(pp_config_set(config, "limit", LIMIT), 0);
	if (nodes)
		assert_int_equal(pp_config_set(config, "fake_nodes", nodes),
				 0);
	assert_int_equal(pp_pool_create(config, &pool), 0);
	pp_config_destroy(config);
	return pool;
}

/* @nodes: as the setting fake_nodes, or NULL. */
static struct hidden *hidden_make_on(const char *nodes, size_t nr, bool keepers)
{
	struct hidden *h = test_array(1, sizeof(*h));

	test_seed();
	h->pool = make_pool(nodes);
	h->keepers = keepers;
	h->run = test_array(MAX_RUNS, sizeof(*h->run));
	pthread_mutex_init(&h->lock, NULL);
	pthread_cond_init(&h->all_done, NULL);
	pthread_mutex_init(&h->sampler_lock, NULL);
	pthread_cond_init(&h->sampler_wake, NULL);
	for (size_t i = 0; i < NR_SMALL; i++)
		assert_int_equal(pp_cache_create(h->pool, "hidden",
						 small_bytes(i), 0,
						 &h->cache[i]), 0);
	start_threads(h, nr);
	set_sampling(h, false);
	return h;
}

static struct hidden *hidden_make(size_t nr, bool keepers)
{
	return hidden_make_on(NULL, nr, keepers);
}

static void end_sleeper(struct sleeper *s, bool by_cancel)
{
	void *result = NULL;

	if (s->gone)
		return;
	if (by_cancel)
		pthread_cancel(s->thread);
	else
		tell(s, ORDER_EXIT);
	pthread_join(s->thread, &result);
	thread_check(result == (by_cancel ? PTHREAD_CANCELED : NULL));
	s->gone = true;
}

static void end_threads(struct hidden *h)
{
	pthread_mutex_lock(&h->sampler_lock);
	h->sampler_ends = true;
	pthread_cond_broadcast(&h->sampler_wake);
	pthread_mutex_unlock(&h->sampler_lock);
	pthread_join(h->sampler, NULL);
	for (size_t i = 0; i < h->nr; i++) {
		struct sleeper *s = &h->sleeper[i];

		end_sleeper(s, false);
		for (size_t k = 0; k < s->nr_kept; k++)
			pp_cache_free(h->cache[s->kept_in[k]], s->kept[k]);
		pthread_cond_destroy(&s->wake);
		pthread_mutex_destroy(&s->lock);
	}
}

/* Nothing is left but the cache of this thread. */
static void hidden_end(struct hidden *h)
{
	struct pp_stats s;

	end_threads(h);
	assert_threads_ok();
	for (size_t i = 0; i < NR_SMALL; i++)
		assert_int_equal(pp_cache_destroy(h->cache[i]), 0);
	assert_int_equal(pp_pool_drain(h->pool), 0);
	/* reclaimd gives back what was free for long. */
	for (unsigned i = 0; i < MAX_REST_MS; i++) {
		s = pool_stats(h->pool);
		if (!s.isolated_pages)
			break;
		usleep(1000);
	}
	assert_int_equal(s.isolated_pages, 0);
	assert_int_equal(s.nr_threads, 1);
	assert_int_equal(s.cached_pages, 0);
	assert_int_equal(s.slab_pages, 0);
	assert_int_equal(s.used_pages, overhead_pages(h));
	pool_end(h->pool);
	free(h->sleeper);
	free(h->run);
	free(h);
}

/* The hungry thread */

/* Is there something to be found?  Not if the filling took so long that caches
 * were given up as idle: after a second, or a tenth where memory was short. */
static void check_hidden(struct hidden *h, int64_t in_use)
{
	struct pp_stats s = pool_stats(h->pool);
	int64_t hidden = s.managed_pages - s.free_pages - in_use;
	int64_t nr_idle = s.idle_drains - h->idle_drains;

	if (nr_idle <= (int64_t)h->nr / 4)
		assert_true(hidden >= s.managed_pages / 128);
	else
		print_message("# %lld were idle before all had filled theirs\n",
			      (long long)nr_idle);
	print_message("# %lld pages are hidden, %lld of them in slabs\n",
		      (long long)hidden,
		      (long long)(hidden - s.cached_pages));
}

static void meal_begin(struct hidden *h, bool objects)
{
	int64_t in_use = in_use_pages(h);

	check_hidden(h, in_use);
	atomic_store(&h->asked_pages, 0);
	atomic_store(&h->got_pages, 0);
	atomic_store(&h->nr_runs, 0);
	h->base = pool_stats(h->pool);
	h->in_use_pages = in_use;
	h->room = objects ? live_slab_room(h) : 0;
	h->nr_threads_least = h->base.nr_threads;
	h->eats_objects = objects;
	set_sampling(h, true);
}

/* Up to @most runs of @pages, or objects of a page for 0. */
static size_t eat(struct hidden *h, size_t pages, size_t most)
{
	size_t n = 0, cost = pages ? pages : 1;

	errno = 0;
	while (n < most) {
		size_t at = atomic_load(&h->nr_runs);
		void *p;

		assert_true(at < MAX_RUNS);
		/* A slab of objects of a page comes as a whole. */
		atomic_fetch_add(&h->asked_pages, (int64_t)cost +
				 (pages ? 0 : n % 16 ? 0 : 16));
		p = pages ? pp_alloc_pages(h->pool, pages, PP_NOWARN) :
			    pp_cache_alloc(h->cache[47], PP_NOWARN);
		if (!p)
			break;
		if (pages)
			atomic_fetch_add(&h->got_pages, (int64_t)cost);
		h->run[at] = p;
		atomic_store(&h->nr_runs, at + 1);
		n++;
	}
	return n;
}

/* What is free in all zones; above its floor, each has less than @cost. */
static int64_t free_at_the_end(struct hidden *h, size_t cost)
{
	int nr = pp_numa_nr_nodes(h->pool);
	int64_t sum = 0;

	assert_true(nr >= 1);
	for (unsigned i = 0; i < (unsigned)nr; i++) {
		struct pp_stats s = { .struct_bytes = sizeof(s) };

		assert_int_equal(pp_numa_snapshot(h->pool, i, &s), 0);
		assert_in_range(s.free_pages, s.min_pages,
				s.min_pages + (int64_t)cost - 1);
		sum += s.free_pages;
	}
	return sum;
}

/* It got all there was, and stopped at the floor. */
static void meal_check(struct hidden *h, size_t n, size_t cost)
{
	int64_t in_use, want, left;
	struct pp_stats s;

	assert_int_equal(errno, ENOMEM);
	set_sampling(h, false);
	assert_threads_ok();
	s = pool_stats(h->pool);
	in_use = in_use_pages(h);
	want = s.managed_pages - s.min_pages - in_use;
	print_message("# %zu * %zu of %lld pages, %lld in use, %lld drains, "
		      "%llu samples, off by %lld at most\n", n, cost,
		      (long long)want, (long long)in_use,
		      (long long)(s.drains - h->base.drains),
		      (unsigned long long)h->nr_samples,
		      (long long)h->worst_error);
	/* Zones round apart; what they leave, nobody can have. */
	left = free_at_the_end(h, cost);
	assert_int_equal(s.free_pages, left);
	assert_int_equal(((int64_t)n - h->room) * (int64_t)cost,
			 s.managed_pages - in_use - left);
	if (pp_numa_nr_nodes(h->pool) == 1)
		assert_int_equal((int64_t)n - h->room, want / (int64_t)cost);
	assert_int_equal(s.cached_pages, 0);
	assert_int_equal(pp_pool_check(h->pool), 0);
}

static void meal_end(struct hidden *h, bool objects)
{
	size_t n = atomic_load(&h->nr_runs);

	for (size_t i = 0; i < n && objects; i++)
		pp_cache_free(h->cache[47], h->run[i]);
	if (!objects)
		pp_free_bulk(h->pool, n, h->run);
	atomic_store(&h->nr_runs, 0);
}

static void meal(struct hidden *h, size_t pages)
{
	size_t n;

	meal_begin(h, !pages);
	n = eat(h, pages, SIZE_MAX);
	meal_check(h, n, pages ? pages : 1);
	meal_end(h, !pages);
}

/* The tests */

static size_t nr_sleepers(void)
{
	return test_number("PP_TEST_THREADS", TEST_SANITIZED ? 128 : 512);
}

static void test_hidden_all_of_it_is_found(void **state)
{
	static const size_t lengths[] = { 1, 8, 300, 0 };
	struct hidden *h = hidden_make(nr_sleepers(), false);

	(void)state;
	assert_int_equal(small_bytes(47), PAGE);
	assert_int_equal(small_bytes(NR_SMALL - 1), 16384);
	assert_int_equal(length_pages(NR_LENGTHS - 1), 256);
	for (size_t i = 0; i < COUNT_OF(lengths); i++) {
		fill_together(h);
		meal(h, lengths[i]);
	}
	hidden_end(h);
	reached_end();
}

/* Slabs with live objects are in use, and only those. */
static void test_hidden_partly_used_slabs_are_in_use(void **state)
{
	static const size_t lengths[] = { 1, 8, 0 };
	struct hidden *h = hidden_make(nr_sleepers(), true);

	(void)state;
	for (size_t i = 0; i < COUNT_OF(lengths); i++) {
		fill_together(h);
		assert_int_not_equal(h->sleeper[1].nr_kept, 0);
		meal(h, lengths[i]);
	}
	hidden_end(h);
	reached_end();
}

/* The same where memory is in several zones. */
static void test_hidden_in_all_nodes(void **state)
{
	static const size_t lengths[] = { 1, 8, 0 };
	struct hidden *h = hidden_make_on("3", nr_sleepers(), true);

	(void)state;
	assert_int_equal(pp_numa_nr_nodes(h->pool), 3);
	for (size_t i = 0; i < COUNT_OF(lengths); i++) {
		fill_together(h);
		meal(h, lengths[i]);
	}
	hidden_end(h);
	reached_end();
}

/* The first have a large share and keep it in their sleep, long runs too. */
static void test_hidden_by_threads_that_came_first(void **state)
{
	struct hidden *h = hidden_make(nr_sleepers(), false);

	(void)state;
	fill_begin(h);
	for (size_t i = 0; i < h->nr; i++) {
		tell(&h->sleeper[i], ORDER_FILL);
		await_all(h);
	}
	meal(h, 1);
	hidden_end(h);
	reached_end();
}

/* A quarter is cancelled, a quarter exits, in their sleep and meanwhile. */
static void test_hidden_by_threads_that_end_meanwhile(void **state)
{
	struct hidden *h = hidden_make(nr_sleepers(), true);
	size_t n, nr_ended = 0;

	(void)state;
	fill_together(h);
	meal_begin(h, false);
	set_sampling(h, false);
	h->nr_threads_least -= (int64_t)(h->nr / 2);
	h->in_use_pages -= (int64_t)(h->nr / 2) * CACHE_PAGES;
	set_sampling(h, true);
	n = eat(h, 1, 1000);
	for (size_t i = 0; i + 1 < h->nr / 2 * 2; i += 2) {
		end_sleeper(&h->sleeper[i], i % 4 == 0);
		nr_ended++;
		n += eat(h, 1, 300);
	}
	assert_int_equal(nr_ended, h->nr / 2);
	n += eat(h, 1, SIZE_MAX);
	meal_check(h, n, 1);
	meal_end(h, false);
	hidden_end(h);
	reached_end();
}

/* None of them takes from the other what it then has to give up. */
static void test_hidden_several_that_are_hungry_share_it(void **state)
{
	struct hidden *h = hidden_make(nr_sleepers(), false);
	struct pp_stats s;
	int64_t in_use, got;

	(void)state;
	fill_together(h);
	in_use = in_use_pages(h);
	check_hidden(h, in_use);
	for (size_t i = 0; i < 3; i++)
		tell(&h->sleeper[i], ORDER_EAT);
	await_all(h);
	assert_threads_ok();
	s = pool_stats(h->pool);
	got = (int64_t)atomic_load(&h->nr_runs);
	print_message("# %lld of %lld; %lld free, min %lld, %lld cached\n",
		      (long long)got,
		      (long long)(s.managed_pages - s.min_pages - in_use),
		      (long long)s.free_pages, (long long)s.min_pages,
		      (long long)s.cached_pages);
	assert_int_equal(got, s.managed_pages - s.min_pages - in_use);
	meal_end(h, false);
	hidden_end(h);
	reached_end();
}

static void test_hidden_nothing_to_find_needs_no_drain(void **state)
{
	struct hidden *h = hidden_make(64, true);
	uint64_t start;
	int64_t drains;

	(void)state;
	fill_together(h);
	eat(h, 1, SIZE_MAX);
	drains = pool_stats(h->pool).drains;
	start = now_ns();
	for (unsigned i = 0; i < 1000; i++)
		assert_null(pp_alloc_pages(h->pool, 1 + i % 9, PP_NOWARN));
	assert_true(pool_stats(h->pool).drains - drains <= 1);
	print_message("# a refusal takes %llu ns\n",
		      (unsigned long long)(now_ns() - start) / 1000);
	meal_end(h, false);
	hidden_end(h);
	reached_end();
}

/* Draining on request */

static void check_all_drained(struct hidden *h)
{
	struct pp_stats s;

	assert_int_equal(pp_pool_drain(h->pool), 0);
	s = pool_stats(h->pool);
	assert_int_equal(s.cached_pages, 0);
	assert_int_equal(s.used_pages, in_use_pages(h));
	assert_int_equal(s.slab_pages, live_slab_pages(h));
	assert_int_equal(pp_pool_check(h->pool), 0);
}

static void test_hidden_drain_leaves_nothing(void **state)
{
	struct hidden *h = hidden_make(nr_sleepers(), true);

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		fill_together(h);
		check_hidden(h, in_use_pages(h));
		check_all_drained(h);
		check_all_drained(h);
	}
	hidden_end(h);
	reached_end();
}

static void test_hidden_drain_beside_busy_threads(void **state)
{
	struct hidden *h = hidden_make(8, false);
	size_t nr_complete = 0;

	(void)state;
	atomic_store(&h->stop, false);
	for (size_t i = 0; i < 4; i++)
		tell(&h->sleeper[i], ORDER_HOT);
	for (size_t i = 4; i < 8; i++)
		tell(&h->sleeper[i], ORDER_DRAIN);
	for (unsigned i = 0; i < 100; i++)
		nr_complete += drain_beside_others(h);
	assert_true(nr_complete > 0);
	atomic_store(&h->stop, true);
	await_all(h);
	assert_threads_ok();
	check_all_drained(h);
	hidden_end(h);
	reached_end();
}

/* Nobody asks for it, and it is given back all the same, in a few seconds. */
static void test_hidden_idle_caches_are_given_up(void **state)
{
	struct hidden *h = hidden_make(32, true);
	struct pp_stats s, before;
	uint64_t start;

	(void)state;
	/* This thread, which goes on looking, has nothing cached. */
	assert_int_equal(pp_pool_drain(h->pool), 0);
	fill_together(h);
	start = now_ns();
	before = pool_stats(h->pool);
	do {
		usleep(10000);
		s = pool_stats(h->pool);
	} while (s.used_pages + s.cached_pages > in_use_pages(h) &&
		 now_ns() - start < 30 * DECAY_NS);
	print_message("# after %llu ms\n", (unsigned long long)
		      (now_ns() - start) / 1000000);
	assert_int_equal(s.cached_pages, 0);
	assert_int_equal(s.used_pages, in_use_pages(h));
	assert_true(s.idle_drains - h->idle_drains >= 32);
	assert_int_equal(s.drains, before.drains);
	hidden_end(h);
	reached_end();
}

/*
 * Threads that fail all the time, beside one that caches all the time: the
 * rule is 1 ms between two drains, and more if they take long.
 */
static void test_hidden_drains_are_bounded(void **state)
{
	struct hidden *h = hidden_make(8, false);
	int64_t before, most;
	uint64_t start;

	(void)state;
	fill_together(h);
	/* Less than 256 pages are left above the floor, whoever has them. */
	eat(h, 1, SIZE_MAX);
	for (unsigned i = 0; i < 200; i++)
		pp_free_pages(h->pool,
			      h->run[atomic_fetch_sub(&h->nr_runs, 1) - 1]);
	atomic_store(&h->stop, false);
	start = now_ns();
	before = pool_stats(h->pool).drains;
	for (size_t i = 0; i < 8; i++)
		tell(&h->sleeper[i], i ? ORDER_FAIL : ORDER_HOT);
	while (now_ns() - start < 1500000000ull)
		sched_yield();
	atomic_store(&h->stop, true);
	await_all(h);
	/* One may have begun before, and one ends after. */
	most = (int64_t)((now_ns() - start) / DRAIN_GAP_NS) + 2;
	before = pool_stats(h->pool).drains - before;
	print_message("# %lld drains for %zu refusals, %lld at most\n",
		      (long long)before, atomic_load(&h->nr_refused),
		      (long long)most);
	assert_in_range(before, 1, most);
	assert_true(atomic_load(&h->nr_refused) > 0);
	assert_threads_ok();
	meal_end(h, false);
	hidden_end(h);
	reached_end();
}

/* Without membarrier */

static bool refuse_membarrier(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_membarrier, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {
		.len = COUNT_OF(filter), .filter = filter,
	};

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/* Before the first pool, which finds out. */
static bool prepare(void)
{
	if (HIDDEN_REFUSED_BY == REFUSED_BY_FAULT)
		fault_arm(FAULT_MEMBARRIER, 1);
	return HIDDEN_REFUSED_BY != REFUSED_BY_FILTER || refuse_membarrier();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_hidden_all_of_it_is_found),
		TEST(test_hidden_partly_used_slabs_are_in_use),
		TEST(test_hidden_in_all_nodes),
		TEST(test_hidden_by_threads_that_came_first),
		TEST(test_hidden_by_threads_that_end_meanwhile),
		TEST(test_hidden_several_that_are_hungry_share_it),
		TEST(test_hidden_nothing_to_find_needs_no_drain),
		TEST(test_hidden_drain_leaves_nothing),
		TEST(test_hidden_drain_beside_busy_threads),
		TEST(test_hidden_idle_caches_are_given_up),
		TEST(test_hidden_drains_are_bounded),
	};

	test_clear_environment();
	if (!prepare()) {
		printf("1..0 # SKIP filters of system calls are not allowed\n");
		return 0;
	}
	return cmocka_run_group_tests_name("stress hidden", tests, NULL, NULL);
}
