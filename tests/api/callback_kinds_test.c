/* SPDX-License-Identifier: MIT */
/*
 * Requests that have shrinkers called at the same time: those of one kind, of
 * which only some are worked for at a time, and those of several, which do not
 * wait for each other.
 *
 * All begin with four requests of a kind inside shrinkers that wait at a gate.
 */
#include "testing_callback.h"

/* How many are worked for, of one kind. */
#define PARALLEL	4
/* Many, so that it is another kind than one page. */
#define LARGE_PAGES	1000
#define LUMP_PAGES	64

/* By a thread of its own. */
struct request {
	pthread_t	thread;
	size_t		nr_pages;
	unsigned	flags;
	_Atomic pid_t	tid;
	void		*run;		/* when it is back */
	sem_t		back;
};

static struct {
	struct request	first[PARALLEL], small, large;
	struct pp_shrinker_id *blocker[PARALLEL], *helper;
	_Atomic unsigned nr_blocked, nr_let_go, nr_background;
	_Atomic bool	all_may_go;
	sem_t		block, lump_entered, lump_go;
	_Atomic bool	helper_may_free, lump_is_armed;
	void		*lump;
} k;

/* Requests */

static void *request_run(void *arg)
{
	struct request *r = arg;

	atomic_store(&r->tid, gettid());
	r->run = pp_alloc_pages(scene.pool, r->nr_pages, r->flags | PP_NOWARN);
	sem_post(&r->back);
	return arg;
}

static void request_start(struct request *r, size_t nr_pages, unsigned flags)
{
	r->nr_pages = nr_pages;
	r->flags = flags;
	sem_init(&r->back, 0, 0);
	assert_int_equal(pthread_create(&r->thread, NULL, request_run, r), 0);
}

static void request_end(struct request *r)
{
	if (!r->nr_pages)
		return;
	pthread_join(r->thread, NULL);
	pp_free_pages(scene.pool, r->run);
	sem_destroy(&r->back);
}

/* Of /proc/self/task/TID/stat, the letter after the name. */
static char thread_state(pid_t tid)
{
	char path[64], text[256] = "", *p;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", (int)tid);
	f = fopen(path, "re");
	if (!f)
		return '\0';
	if (!fgets(text, sizeof(text), f))
		text[0] = '\0';
	fclose(f);
	p = strrchr(text, ')');
	return p && p[1] ? p[2] : '\0';
}

static bool is_back(struct request *r)
{
	int nr = 0;

	sem_getvalue(&r->back, &nr);
	return nr > 0;
}

/* Until it waits for what it has asked for. */
static void wait_until_asleep(struct request *r)
{
	while ((!r->tid || thread_state(r->tid) != 'S') && !is_back(r) &&
	       has_time())
		pause_shortly();
}

/* Shrinkers */

/* Frees one page once it is let go, and then nothing more. */
static size_t blocker_count(void *arg, struct pp_shrink *shrink)
{
	const _Atomic bool *is_done = arg;

	if (pagepool_call_is_background())
		atomic_fetch_add(&k.nr_background, 1);
	return *is_done || k.all_may_go ? PP_SHRINK_EMPTY :
	       count_many(arg, shrink);
}

static size_t blocker_scan(void *arg, struct pp_shrink *shrink)
{
	_Atomic bool *is_done = arg;
	unsigned n;

	(void)shrink;
	if (pagepool_call_is_background() || *is_done)
		return PP_SHRINK_STOP;
	atomic_fetch_add(&k.nr_blocked, 1);
	gate_pass(&k.block);
	*is_done = true;
	n = atomic_fetch_add(&k.nr_let_go, 1);
	pp_free_pages(scene.pool, scene.spare.run[n]);
	scene.spare.run[n] = NULL;
	return 1;
}

static _Atomic bool is_done[PARALLEL];

static void add_blockers(unsigned flags)
{
	for (unsigned i = 0; i < PARALLEL; i++) {
		atomic_store(&is_done[i], false);
		k.blocker[i] = add_shrinker(&(struct pp_shrinker){
			.name = "blocker", .count = blocker_count,
			.scan = blocker_scan, .arg = &is_done[i],
			.flags = flags,
		});
	}
}

/* One after the other, from the end of what the blockers do not free. */
static size_t helper_scan(void *arg, struct pp_shrink *shrink)
{
	(void)arg;
	(void)shrink;
	if (pagepool_call_is_background() || !k.helper_may_free ||
	    scene.spare.nr <= PARALLEL)
		return PP_SHRINK_STOP;
	pp_free_pages(scene.pool, scene.spare.run[--scene.spare.nr]);
	return 1;
}

/* Enough for who wants little, and then it waits for that to be back. */
static size_t lump_scan(void *arg, struct pp_shrink *shrink)
{
	(void)arg;
	(void)shrink;
	if (pagepool_call_is_background() ||
	    !atomic_exchange(&k.lump_is_armed, false))
		return PP_SHRINK_STOP;
	pp_free_pages(scene.pool, k.lump);
	k.lump = NULL;
	sem_post(&k.lump_entered);
	gate_pass(&k.lump_go);
	return LUMP_PAGES;
}

/* The scene */

static void begin_kinds(void)
{
	memset(&k, 0, sizeof(k));
	sem_init(&k.block, 0, 0);
	sem_init(&k.lump_entered, 0, 0);
	sem_init(&k.lump_go, 0, 0);
	begin();
	k.lump = pp_alloc_pages(scene.pool, LUMP_PAGES, 0);
	assert_non_null(k.lump);
}

/* Until the pool's own thread has given up.  While it is inside a shrinker,
 * who comes passes over that, and comes again as another kind. */
static void wait_until_calm(void)
{
	unsigned before, nr_calm = 0;

	while (nr_calm < 20 && has_time()) {
		before = k.nr_background;
		pause_shortly();
		nr_calm = before == k.nr_background ? nr_calm + 1 : 0;
	}
}

/* One by one: two that come at the same time are one call. */
static void block_four(void)
{
	fill(0);
	wait_until_calm();
	for (unsigned i = 0; i < PARALLEL; i++) {
		request_start(&k.first[i], 1, 0);
		while (atomic_load(&k.nr_blocked) <= i && has_time())
			pause_shortly();
	}
}

static void let_all_go(void)
{
	atomic_store(&k.all_may_go, true);
	for (unsigned i = 0; i < PARALLEL; i++)
		sem_post(&k.block);
	sem_post(&k.lump_go);
}

static void end_kinds(void)
{
	let_all_go();
	for (unsigned i = 0; i < PARALLEL; i++)
		request_end(&k.first[i]);
	request_end(&k.small);
	request_end(&k.large);
	for (unsigned i = 0; i < PARALLEL; i++)
		pp_shrinker_unregister(k.blocker[i]);
	pp_shrinker_unregister(k.helper);
	pp_free_pages(scene.pool, k.lump);
	end();
}

static void test_callback_slow_ones_of_a_kind_hold_no_other(void **state)
{
	bool was_in_time, was_served;

	(void)state;
	begin_kinds();
	k.helper = add_shrinker(&(struct pp_shrinker){
		.name = "helper", .count = count_many, .scan = helper_scan,
	});
	add_blockers(PP_SHRINKER_IO);
	block_four();
	k.helper_may_free = true;
	request_start(&k.small, 1, PP_NOIO);
	was_in_time = gate_pass(&k.small.back);
	was_served = k.small.run != NULL;
	end_kinds();
	assert_int_equal(k.nr_blocked, PARALLEL);
	assert_true(was_in_time);
	assert_true(was_served);
	reached_end();
}

/* What the large one's shrinker has freed so far is enough for the small
 * one. */
static void test_callback_for_little_does_not_wait_for_much(void **state)
{
	bool was_in_time, was_served;

	(void)state;
	begin_kinds();
	add_blockers(0);
	k.helper = add_shrinker(&(struct pp_shrinker){
		.name = "lump", .count = count_many, .scan = lump_scan,
	});
	block_four();
	k.lump_is_armed = true;
	request_start(&k.small, 1, 0);
	wait_until_asleep(&k.small);
	request_start(&k.large, LARGE_PAGES, 0);
	wait_until_asleep(&k.large);
	was_in_time = gate_pass(&k.lump_entered);
	sem_post(&k.block);
	was_in_time = was_in_time && gate_pass(&k.small.back);
	was_served = k.small.run != NULL;
	end_kinds();
	assert_true(was_in_time);
	assert_true(was_served);
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_callback_slow_ones_of_a_kind_hold_no_other),
		TEST(test_callback_for_little_does_not_wait_for_much),
	};

	test_clear_environment();
	return cmocka_run_group_tests_name("callback_kinds", tests, NULL, NULL);
}
