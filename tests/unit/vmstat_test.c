/* SPDX-License-Identifier: MIT */
/*
 * Thresholds are those of the formulas; a cheap read is never further from what
 * was counted than its bound, whoever folds meanwhile; folding loses nothing;
 * and every failure has a name.
 */
#include "../api/testing.h"

#include <ctype.h>
#include <sched.h>

#include "vmstat.h"
#include "zone.h"

static void test_vmstat_every_failure_has_a_name_of_its_own(void **state)
{
	(void)state;
	for (unsigned i = 0; i < NR_FAILURES; i++) {
		const char *name = failure_name(i);

		assert_non_null(name);
		assert_true(strlen(name) > 1);
		for (const char *c = name; *c; c++)
			assert_true(islower((unsigned char)*c) || *c == '_');
		for (unsigned k = 0; k < i; k++)
			assert_string_not_equal(name, failure_name(k));
	}
	reached_end();
}

/* The formulas: rows of zone MiB, threads, and what follows from them */

static struct vmstat_basis basis_of(uint64_t mib, uint32_t nr_threads)
{
	struct zone zone = { .managed_pages = mib << 8 };

	zone_set_watermarks(&zone, 0, ZONE_DEFAULT_SCALE);
	return (struct vmstat_basis){
		.managed_pages = mib << 8,
		.min_pages = zone.min_pages,
		.low_pages = zone.low_pages,
		.high_pages = zone.high_pages,
		.nr_threads = nr_threads,
	};
}

static void test_vmstat_thresholds_follow_the_table(void **state)
{
	static const struct {
		uint64_t mib;
		uint32_t nr_threads;
		int normal, pressure;
		uint64_t drift, mark;	/* 0: none */
	} row[] = {
		{ 4, 4, 6, 4, 24, 120 },
		{ 16, 4, 6, 8, 24, 0 },
		{ 64, 4, 6, 16, 24, 0 },
		{ 128, 4, 12, 22, 48, 0 },
		{ 512, 4, 24, 45, 96, 0 },
		{ 1024, 4, 30, 65, 120, 0 },
		{ 4096, 4, 42, 125, 168, 0 },
		{ 16384, 4, 54, 125, 216, 0 },
		{ 16384, 256, 125, 16, 32000, 44484 },
		{ 1048576, 4, 90, 125, 360, 0 },
	};

	(void)state;
	for (size_t i = 0; i < COUNT_OF(row); i++) {
		struct vmstat_basis b = basis_of(row[i].mib,
						 row[i].nr_threads);
		int32_t t = vmstat_normal_threshold(&b);

		assert_int_equal(t, row[i].normal);
		assert_int_equal(vmstat_pressure_threshold(&b),
				 row[i].pressure);
		assert_int_equal((uint64_t)t * b.nr_threads, row[i].drift);
		assert_int_equal(vmstat_drift_mark(&b, t), row[i].mark);
	}
	reached_end();
}

static void test_vmstat_normal_thresholds_by_threads_and_size(void **state)
{
	static const struct {
		uint32_t nr_threads;
		uint64_t mib;
		int normal;
	} row[] = {
		{ 1, 512, 8 }, { 2, 1500, 20 }, { 4, 4096, 42 },
		{ 8, 1024, 40 }, { 16, 100, 10 }, { 64, 6000, 98 },
		{ 256, 16384, 125 },
	};
	struct vmstat_basis b;

	(void)state;
	for (size_t i = 0; i < COUNT_OF(row); i++) {
		b = basis_of(row[i].mib, row[i].nr_threads);
		assert_int_equal(vmstat_normal_threshold(&b), row[i].normal);
	}
	/* No thread yet counts as one; more than low - min get 1 each. */
	b = basis_of(512, 0);
	assert_int_equal(vmstat_normal_threshold(&b), 8);
	b = basis_of(16, 1000);
	assert_int_equal(vmstat_pressure_threshold(&b), 1);
	reached_end();
}

static void test_vmstat_pressure_counts_only_with_a_drift_mark(void **state)
{
	struct vmstat_basis many = basis_of(16384, 256), few;
	struct vmstat vs = { .threshold = 0 };

	(void)state;
	few = basis_of(16384, 4);
	vmstat_set_thresholds(&vs, &many);
	assert_int_equal(vs.threshold, 125);
	assert_int_equal(vs.drift_mark_pages, 44484);
	vs.under_pressure = true;
	vmstat_set_thresholds(&vs, &many);
	assert_int_equal(vs.threshold, 16);
	/* I3.3 */
	assert_true(16 * 256 <= many.low_pages - many.min_pages);
	/* The bound is the larger one's until all is folded: for each thread,
	 * and for whoever folds. */
	assert_int_equal(vmstat_bound(&vs, 256), 125 * 257);
	vmstat_all_folded(&vs);
	assert_int_equal(vmstat_bound(&vs, 256), 16 * 257);
	/* The mark goes when it is not needed, and with it the threshold. */
	vmstat_set_thresholds(&vs, &few);
	assert_int_equal(vs.drift_mark_pages, 0);
	assert_int_equal(vs.threshold, 54);
	assert_int_equal(vmstat_bound(&vs, 4), 54 * 5);
	reached_end();
}

/* One thread */

static int64_t random_change(struct rng *r)
{
	int64_t n = (int64_t)rng_below(r, 40) - 20;

	switch (rng_below(r, 50)) {
	case 0:
		return n * (VMSTAT_MAX_CHANGE / 20);
	case 1:
		return n * (1ll << 40);
	default:
		return n;
	}
}

static void test_vmstat_mod_is_within_the_threshold(void **state)
{
	struct rng r = rng_make(1);
	size_t steps = 0;

	(void)state;
	for (int32_t t = 0; t <= VMSTAT_MAX_THRESHOLD; t += 25) {
		struct vmstat vs = { .threshold = t };
		/* The words may wrap. */
		struct vmstat_delta d = {
			.count = { UINT32_MAX - 5 },
			.folded = { UINT32_MAX - 5 },
		};
		int64_t truth = 0, off;

		for (unsigned i = 0; i < 20000; i++, steps++) {
			int64_t change = random_change(&r);

			vmstat_mod(&vs, &d, 0, change);
			truth += change;
			off = load_relaxed(&vs.global[0]) - truth;
			assert_true(off <= t && off >= -t);
		}
		vmstat_fold(&vs, &d);
		assert_int_equal(load_relaxed(&vs.global[0]), truth);
		vmstat_fold(&vs, &d);
		assert_int_equal(load_relaxed(&vs.global[0]), truth);
	}
	assert_int_equal(steps, 120000);
	reached_end();
}

static void test_vmstat_read_is_never_below_zero(void **state)
{
	struct vmstat vs = { .threshold = 10 };
	struct vmstat_delta taker = { .count = { 0 } };
	struct vmstat_delta giver = { .count = { 0 } };

	(void)state;
	vmstat_mod(&vs, &giver, LEVEL_SLAB_PAGES, 8);
	vmstat_mod(&vs, &taker, LEVEL_SLAB_PAGES, -8);
	vmstat_mod(&vs, &taker, LEVEL_SLAB_PAGES, -8);
	assert_int_equal(load_relaxed(&vs.global[LEVEL_SLAB_PAGES]), -16);
	assert_int_equal(vmstat_read(&vs, LEVEL_SLAB_PAGES), 0);
	vmstat_add(&vs, LEVEL_SLAB_PAGES, 20);
	vmstat_fold(&vs, &giver);
	assert_int_equal(vmstat_read(&vs, LEVEL_SLAB_PAGES), 12);
	reached_end();
}

/*
 * Many threads.  In each round each counts for a while; then all rest, and the
 * cheap read is compared with what they say that they counted.  One more
 * thread folds everybody's deltas all the time, rounds or not.
 */

#define THREADS		16
#define ROUNDS		3000

struct crowd {
	struct vmstat		vs;
	struct vmstat_delta	delta[THREADS];
	int64_t			truth[THREADS][NR_VM_ITEMS];
	pthread_barrier_t	barrier;
	_Atomic unsigned	next;
	_Atomic bool		stop;
	bool			end;	/* written between the barriers */
};

static void *counting_thread(void *arg)
{
	struct crowd *c = arg;
	unsigned me = atomic_fetch_add(&c->next, 1);
	struct rng r = rng_make(10 + me);

	for (;;) {
		pthread_barrier_wait(&c->barrier);
		if (c->end)
			return NULL;
		for (size_t n = rng_below(&r, 30); n; n--) {
			enum vm_item item = rng_below(&r, NR_VM_ITEMS);
			int64_t change = (int64_t)rng_below(&r, 60) - 20;

			vmstat_mod(&c->vs, &c->delta[me], item, change);
			c->truth[me][item] += change;
		}
		pthread_barrier_wait(&c->barrier);
	}
}

static void *folding_thread(void *arg)
{
	struct crowd *c = arg;

	while (!atomic_load(&c->stop)) {
		for (unsigned i = 0; i < THREADS; i++)
			vmstat_fold(&c->vs, &c->delta[i]);
		sched_yield();
	}
	return NULL;
}

static int64_t crowd_error(struct crowd *c, enum vm_item item)
{
	int64_t sum = 0;

	for (unsigned i = 0; i < THREADS; i++)
		sum += c->truth[i][item];
	return load_relaxed(&c->vs.global[item]) - sum;
}

static void crowd_fold(struct crowd *c)
{
	for (unsigned i = 0; i < THREADS; i++)
		vmstat_fold(&c->vs, &c->delta[i]);
	vmstat_all_folded(&c->vs);
}

static void crowd_check(struct crowd *c)
{
	int64_t bound = vmstat_bound(&c->vs, THREADS);

	for (unsigned item = 0; item < NR_VM_ITEMS; item++) {
		int64_t error = crowd_error(c, item);

		assert_true(error <= bound && error >= -bound);
	}
}

/* A few threads of the many, sometimes under pressure. */
static void crowd_change_thresholds(struct crowd *c, struct rng *r)
{
	struct vmstat_basis b = basis_of(4, 1 + (uint32_t)rng_below(r, 64));

	c->vs.under_pressure = rng_below(r, 2);
	vmstat_set_thresholds(&c->vs, &b);
}

static void run_crowd(bool with_folder)
{
	struct crowd *c = test_array(1, sizeof(*c));
	pthread_t thread[THREADS], folder;
	struct rng r = rng_make(9);
	unsigned rounds = 0;

	pthread_barrier_init(&c->barrier, NULL, THREADS + 1);
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL,
						counting_thread, c), 0);
	if (with_folder)
		assert_int_equal(pthread_create(&folder, NULL, folding_thread,
						c), 0);
	for (; rounds < ROUNDS; rounds++) {
		if (rounds % 50 == 0)
			crowd_change_thresholds(c, &r);
		if (rounds % 70 == 0)
			crowd_fold(c);
		pthread_barrier_wait(&c->barrier);
		pthread_barrier_wait(&c->barrier);
		crowd_check(c);
	}
	c->end = true;
	pthread_barrier_wait(&c->barrier);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	atomic_store(&c->stop, true);
	if (with_folder)
		pthread_join(folder, NULL);
	/* I3.5: what the threads leave is folded, and nothing is lost. */
	crowd_fold(c);
	for (unsigned item = 0; item < NR_VM_ITEMS; item++)
		assert_int_equal(crowd_error(c, item), 0);
	assert_int_equal(rounds, ROUNDS);
	pthread_barrier_destroy(&c->barrier);
	free(c);
}

static void test_vmstat_threads_are_within_the_bound(void **state)
{
	(void)state;
	run_crowd(false);
	reached_end();
}

static void test_vmstat_threads_are_folded_while_they_count(void **state)
{
	(void)state;
	run_crowd(true);
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_vmstat_every_failure_has_a_name_of_its_own),
		TEST(test_vmstat_thresholds_follow_the_table),
		TEST(test_vmstat_normal_thresholds_by_threads_and_size),
		TEST(test_vmstat_pressure_counts_only_with_a_drift_mark),
		TEST(test_vmstat_mod_is_within_the_threshold),
		TEST(test_vmstat_read_is_never_below_zero),
		TEST(test_vmstat_threads_are_within_the_bound),
		TEST(test_vmstat_threads_are_folded_while_they_count),
	};

	return cmocka_run_group_tests_name("vmstat", tests, NULL, NULL);
}
