/* SPDX-License-Identifier: MIT */
/*
 * Wrong use of the library's calls stops the program with one line that names
 * the call and the address: each misuse in a child of its own, the line to the
 * letter.
 */
#include "../api/testing.h"

#include "dying.h"
#include "pagepool/cache.h"
#include "reserve.h"
#include "pagepool/reclaim.h"
#include "pool.h"

static struct pp_pool *pool;
static struct pp_cache *cache;

static void *run_of(size_t n)
{
	void *run = pp_alloc_pages(pool, n, 0);

	if (!run)
		_exit(3);
	return run;
}

static void *object(void)
{
	void *p = pp_cache_alloc(cache, 0);

	if (!p)
		_exit(3);
	return p;
}

static unsigned long at(const void *p)
{
	return (unsigned long)(uintptr_t)p;
}

static void expect_double_free(const char *entry, const void *p)
{
	expect_line("pagepool: %s(): double free of %#lx\n", entry, at(p));
}

static void expect_inside(const char *entry, const void *p, const void *base)
{
	expect_line("pagepool: %s(): %#lx is inside the allocation at %#lx\n",
		    entry, at(p), at(base));
}

static void expect_foreign(const char *entry, const void *p)
{
	expect_line("pagepool: %s(): %#lx is not in this pool\n", entry,
		    at(p));
}

static void expect_unaligned(const char *entry, const void *p)
{
	expect_line("pagepool: %s(): %#lx is not aligned to 16 bytes\n", entry,
		    at(p));
}

/* A thread of its own for part of a misuse. */

static void *run_in_thread(void *arg)
{
	void (*f)(void) = *(void (**)(void))arg;

	f();
	return NULL;
}

static void in_thread(void (*f)(void))
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, run_in_thread, &f))
		_exit(4);
	pthread_join(thread, NULL);
}

/* Double frees of runs */

static void free_twice(void *arg)
{
	size_t n = *(size_t *)arg;
	void *run = run_of(n);

	expect_double_free("pp_free_pages", run);
	pp_free_pages(pool, run);
	pp_free_pages(pool, run);
}

static void test_double_free_of_a_cached_run(void **state)
{
	static size_t lengths[] = { 1, 16, 17, 256, 257, 512, 1000 };

	(void)state;
	for (size_t i = 0; i < COUNT_OF(lengths); i++)
		assert_dies(free_twice, &lengths[i]);
	reached_end();
}

static void free_twice_flushed(void *arg)
{
	size_t n = *(size_t *)arg;
	void *run = run_of(n);

	expect_double_free("pp_free_pages", run);
	pp_free_pages(pool, run);
	pool_drain(pool);
	pp_free_pages(pool, run);
}

static void test_double_free_of_a_flushed_run(void **state)
{
	static size_t lengths[] = { 1, 64, 400, 1000 };

	(void)state;
	for (size_t i = 0; i < COUNT_OF(lengths); i++)
		assert_dies(free_twice_flushed, &lengths[i]);
	reached_end();
}

static void free_twice_with_others_between(void *arg)
{
	void *run[50];

	(void)arg;
	for (size_t i = 0; i < COUNT_OF(run); i++)
		run[i] = run_of(3);
	expect_double_free("pp_free_pages", run[10]);
	for (size_t i = 0; i < COUNT_OF(run); i++)
		pp_free_pages(pool, run[i]);
	pp_free_pages(pool, run[10]);
}

static void test_double_free_after_other_frees(void **state)
{
	(void)state;
	assert_dies(free_twice_with_others_between, NULL);
	reached_end();
}

static void *shared_run;

static void alloc_and_free_shared(void)
{
	shared_run = run_of(5);
	pp_free_pages(pool, shared_run);
}

static void free_after_thread_exit(void *arg)
{
	(void)arg;
	in_thread(alloc_and_free_shared);
	expect_double_free("pp_free_pages", shared_run);
	pp_free_pages(pool, shared_run);
}

static void free_twice_in_bulk(void *arg)
{
	void *run[3] = { run_of(1), run_of(2), NULL };

	(void)arg;
	run[2] = run[0];
	expect_double_free("pp_free_bulk", run[0]);
	pp_free_bulk(pool, 3, run);
}

static void free_after_move(void *arg)
{
	void *run = run_of(1024), *wall = run_of(512), *to;

	(void)arg;
	memset(run, 1, 1024 * PAGE);
	to = pp_realloc_pages(pool, run, 2048, 0);
	if (!to || to == run || !wall)
		_exit(5);
	expect_double_free("pp_free_pages", run);
	pp_free_pages(pool, run);
}

static void realloc_after_free(void *arg)
{
	void *run = run_of(20);

	(void)arg;
	pp_free_pages(pool, run);
	expect_double_free("pp_realloc_pages", run);
	pp_realloc_pages(pool, run, 40, 0);
}

static void length_after_free(void *arg)
{
	void *run = run_of(2);

	(void)arg;
	pp_free_pages(pool, run);
	expect_double_free("pp_run_pages", run);
	pp_run_pages(pool, run);
}

static void test_use_of_a_freed_run(void **state)
{
	(void)state;
	assert_dies(free_after_thread_exit, NULL);
	assert_dies(free_twice_in_bulk, NULL);
	assert_dies(free_after_move, NULL);
	assert_dies(realloc_after_free, NULL);
	assert_dies(length_after_free, NULL);
	reached_end();
}

/* Runs: addresses that are not their starts */

struct inside {
	size_t	nr_pages, offset;
};

static void free_inside(void *arg)
{
	const struct inside *in = arg;
	char *run = run_of(in->nr_pages);

	expect_inside("pp_free_pages", run + in->offset, run);
	pp_free_pages(pool, run + in->offset);
}

static void test_free_inside_a_run(void **state)
{
	static struct inside cases[] = {
		{ 1, 16 }, { 1, 4080 }, { 5, 4096 }, { 5, 4 * 4096 },
		{ 5, 4096 + 32 }, { 300, 299 * 4096 },
		{ 2000, 512 * 4096 }, { 2000, 1999 * 4096 + 2048 },
	};

	(void)state;
	for (size_t i = 0; i < COUNT_OF(cases); i++)
		assert_dies(free_inside, &cases[i]);
	reached_end();
}

static void free_unaligned(void *arg)
{
	char *run = run_of(4);
	size_t off = *(size_t *)arg;

	expect_unaligned("pp_free_pages", run + off);
	pp_free_pages(pool, run + off);
}

static void test_free_unaligned(void **state)
{
	static size_t offsets[] = { 1, 8, 15, 4097, 16383 };

	(void)state;
	for (size_t i = 0; i < COUNT_OF(offsets); i++)
		assert_dies(free_unaligned, &offsets[i]);
	reached_end();
}

/* Addresses that were never handed out */

static void free_foreign(void *arg)
{
	expect_foreign("pp_free_pages", arg);
	pp_free_pages(pool, arg);
}

static void free_of_other_pool(void *arg)
{
	struct pp_pool *other = pool_make("16M");
	void *run = run_of(1);

	(void)arg;
	expect_foreign("pp_free_pages", run);
	pp_free_pages(other, run);
}

static void free_not_committed(void *arg)
{
	size_t blocks = *(size_t *)arg;
	char *p = pool->span.base + (blocks << 21);

	expect_double_free("pp_free_pages", p);
	pp_free_pages(pool, p);
}

static void free_past_the_end(void *arg)
{
	char *p = pool->span.base + (pool->span.nr_pages << 12);

	(void)arg;
	expect_foreign("pp_free_pages", p);
	pp_free_pages(pool, p);
}

static void length_of_null(void *arg)
{
	(void)arg;
	expect_line("pagepool: pp_run_pages(): 0x0 is not in this pool\n");
	pp_run_pages(pool, NULL);
}

static void test_free_of_what_is_not_ours(void **state)
{
	static char mine[64] __attribute__((aligned(64)));
	static size_t far[] = { 1000, 30000, 0 };
	void *heap = malloc(100);

	(void)state;
	assert_dies(free_foreign, mine);
	assert_dies(free_foreign, &state);
	assert_dies(free_foreign, heap);
	assert_dies(free_foreign, (void *)16);
	assert_dies(free_of_other_pool, NULL);
	far[2] = pool->span.nr_blocks - 1;
	for (size_t i = 0; i < COUNT_OF(far); i++)
		assert_dies(free_not_committed, &far[i]);
	assert_dies(free_past_the_end, NULL);
	assert_dies(length_of_null, NULL);
	free(heap);
	reached_end();
}

/* Objects */

static void free_object_twice(void *arg)
{
	void *p = object();

	(void)arg;
	expect_double_free("pp_cache_free", p);
	pp_cache_free(cache, p);
	pp_cache_free(cache, p);
}

static void free_object_twice_later(void *arg)
{
	void *p[400];

	(void)arg;
	for (size_t i = 0; i < COUNT_OF(p); i++)
		p[i] = object();
	expect_double_free("pp_cache_free", p[7]);
	for (size_t i = 0; i < COUNT_OF(p); i++)
		if (i != 300)
			pp_cache_free(cache, p[i]);
	pp_cache_free(cache, p[7]);
}

static void free_object_twice_flushed(void *arg)
{
	void *p = object(), *keep = object();

	(void)arg;
	memset(keep, 1, 16);
	expect_double_free("pp_cache_free", p);
	pp_cache_free(cache, p);
	pool_drain(pool);
	pp_cache_free(cache, p);
}

static void *shared_object;

static void alloc_and_free_object(void)
{
	shared_object = object();
	pp_cache_free(cache, shared_object);
}

static void free_object_after_thread_exit(void *arg)
{
	void *keep = object();

	(void)arg;
	memset(keep, 1, 16);
	in_thread(alloc_and_free_object);
	expect_double_free("pp_cache_free", shared_object);
	pp_cache_free(cache, shared_object);
}

static void test_double_free_of_an_object(void **state)
{
	(void)state;
	assert_dies(free_object_twice, NULL);
	assert_dies(free_object_twice_later, NULL);
	assert_dies(free_object_twice_flushed, NULL);
	assert_dies(free_object_after_thread_exit, NULL);
	reached_end();
}

static void free_inside_object(void *arg)
{
	char *p = object();
	size_t off = *(size_t *)arg;

	expect_inside("pp_cache_free", p + off, p);
	pp_cache_free(cache, p + off);
}

static void free_unaligned_object(void *arg)
{
	char *p = object();
	size_t off = *(size_t *)arg;

	expect_unaligned("pp_cache_free", p + off);
	pp_cache_free(cache, p + off);
}

static void test_free_inside_an_object(void **state)
{
	static size_t inside[] = { 16, 96, 176 }, unaligned[] = { 1, 8, 191 };

	(void)state;
	for (size_t i = 0; i < COUNT_OF(inside); i++)
		assert_dies(free_inside_object, &inside[i]);
	for (size_t i = 0; i < COUNT_OF(unaligned); i++)
		assert_dies(free_unaligned_object, &unaligned[i]);
	reached_end();
}

/* Whatever the line is called: it is the address of no live object, and says
 * so at once, for later another would get it. */
static void expect_dead(const void *p)
{
	expect_line("pagepool: pp_cache_free(): double free of %#lx\n", at(p));
}

static struct slab *slab_of(const void *p)
{
	return slab_at(&pool->span, slab_word_number(pool_word(pool, p)));
}

/* A class whose objects do not fill its slabs. */
static const struct slab_class *class_with_tail(void)
{
	const struct slab_class *sc = slab_class;

	while (sc->nr_pages * PAGE - (size_t)sc->nr_objects * sc->bytes < 32)
		sc++;
	return sc;
}

static void free_slab_tail(void *arg)
{
	const struct slab_class *sc = class_with_tail();
	struct pp_cache *other = NULL;
	char *p, *base, *tail;

	(void)arg;
	if (pp_cache_create(pool, "tail", sc->bytes, 0, &other))
		_exit(3);
	p = pp_cache_alloc(other, 0);
	base = span_page_address(&pool->span, slab_of(p)->page);
	tail = base + (size_t)slab_of(p)->nr_objects * sc->bytes;
	expect_dead(tail);
	pp_cache_free(other, tail);
}

static void free_never_handed_out(void *arg)
{
	char *p = object(), *base, *last;
	struct slab *slab = slab_of(p);

	(void)arg;
	base = span_page_address(&pool->span, slab->page);
	last = base + (size_t)(slab->nr_objects - 1) * 192;
	expect_dead(last);
	pp_cache_free(cache, last);
}

static void test_free_of_what_a_slab_never_gave(void **state)
{
	(void)state;
	assert_dies(free_slab_tail, NULL);
	assert_dies(free_never_handed_out, NULL);
	reached_end();
}

/* The right pointer for the wrong call */

static void free_object_as_pages(void *arg)
{
	void *p = object();

	(void)arg;
	expect_line("pagepool: pp_free_pages(): %#lx is not a run of pages\n",
		    at(p));
	pp_free_pages(pool, p);
}

static void length_of_object(void *arg)
{
	void *p = object();

	(void)arg;
	expect_line("pagepool: pp_run_pages(): %#lx is not a run of pages\n",
		    at(p));
	pp_run_pages(pool, p);
}

static void realloc_object_as_pages(void *arg)
{
	void *p = object();

	(void)arg;
	expect_line("pagepool: pp_realloc_pages(): %#lx is not a run of "
		    "pages\n", at(p));
	pp_realloc_pages(pool, p, 3, 0);
}

static void free_in_wrong_cache(void *arg)
{
	struct pp_cache *other = NULL;
	void *p = object();

	(void)arg;
	if (pp_cache_create(pool, "other", 1000, 0, &other))
		_exit(3);
	expect_line("pagepool: pp_cache_free(): %#lx is not of this cache\n",
		    at(p));
	pp_cache_free(other, p);
}

static void free_run_in_cache(void *arg)
{
	void *run = run_of(3);

	(void)arg;
	expect_line("pagepool: pp_cache_free(): %#lx is not of this cache\n",
		    at(run));
	pp_cache_free(cache, run);
}

static void free_foreign_in_cache(void *arg)
{
	(void)arg;
	expect_foreign("pp_cache_free", &pool);
	pp_cache_free(cache, &pool);
}

static void test_free_by_the_wrong_call(void **state)
{
	(void)state;
	assert_dies(free_object_as_pages, NULL);
	assert_dies(length_of_object, NULL);
	assert_dies(realloc_object_as_pages, NULL);
	assert_dies(free_in_wrong_cache, NULL);
	assert_dies(free_run_in_cache, NULL);
	assert_dies(free_foreign_in_cache, NULL);
	reached_end();
}

/* Reserves */

#define RESERVE_PAGES	17

static struct pp_reserve *reserve(void)
{
	struct pp_reserve *r = NULL;

	if (pp_reserve_create(pool, 2, RESERVE_PAGES, &r))
		_exit(3);
	return r;
}

static void free_to_reserve_twice(void *arg)
{
	struct pp_reserve *r = reserve();
	void *run[3] = { NULL };
	size_t n = *(size_t *)arg;

	for (size_t i = 0; i < n; i++)
		run[i] = pp_reserve_alloc(r, 0);
	/* One is there, so the second is set aside again. */
	pp_reserve_resize(r, n);
	expect_double_free("pp_reserve_free", run[0]);
	for (size_t i = 0; i < n; i++)
		pp_reserve_free(r, run[i]);
	pp_reserve_free(r, run[0]);
}

static void free_what_is_set_aside(void *arg)
{
	struct pp_reserve *r = reserve();
	void *run = r->mempool.free;

	(void)arg;
	expect_double_free("pp_free_pages", run);
	pp_free_pages(pool, run);
}

static void realloc_what_a_ticket_has(void *arg)
{
	struct pp_reserve *r = reserve();
	struct pp_ticket t;

	(void)arg;
	if (pp_reserve_hold(r, 1, 0, &t))
		_exit(3);
	expect_double_free("pp_realloc_pages", t.first);
	pp_realloc_pages(pool, t.first, 100, 0);
}

static void free_of_other_length(void *arg)
{
	struct pp_reserve *r = reserve();
	void *run = run_of(*(size_t *)arg);

	expect_line("pagepool: pp_reserve_free(): %#lx is not of this "
		    "reserve\n", at(run));
	pp_reserve_free(r, run);
}

static void free_of_no_reserve(void *arg)
{
	struct pp_reserve *r = reserve();
	void *run = run_of(RESERVE_PAGES);

	(void)arg;
	expect_line("pagepool: pp_reserve_free(): %#lx is not of this "
		    "reserve, of which none is out\n", at(run));
	pp_reserve_free(r, run);
}

static void free_object_to_reserve(void *arg)
{
	struct pp_reserve *r = reserve();
	void *p = object();

	(void)arg;
	expect_line("pagepool: pp_reserve_free(): %#lx is not a run of "
		    "pages\n", at(p));
	pp_reserve_free(r, p);
}

static void free_inside_to_reserve(void *arg)
{
	struct pp_reserve *r = reserve();
	char *run = pp_reserve_alloc(r, 0);

	(void)arg;
	expect_inside("pp_reserve_free", run + PAGE, run);
	pp_reserve_free(r, run + PAGE);
}

static void free_foreign_to_reserve(void *arg)
{
	struct pp_reserve *r = reserve();

	(void)arg;
	expect_foreign("pp_reserve_free", &pool);
	pp_reserve_free(r, &pool);
}

static void free_without_reserve(void *arg)
{
	void *run = run_of(1);

	(void)arg;
	expect_line("pagepool: pp_reserve_free(): %#lx is not of a reserve: "
		    "that is NULL\n", at(run));
	pp_reserve_free(NULL, run);
}

static void test_free_of_what_a_reserve_never_gave(void **state)
{
	static size_t twice[] = { 1, 2, 3 };
	static size_t lengths[] = { 1, 16, 20, 1000 };

	(void)state;
	for (size_t i = 0; i < COUNT_OF(twice); i++)
		assert_dies(free_to_reserve_twice, &twice[i]);
	assert_dies(free_what_is_set_aside, NULL);
	assert_dies(realloc_what_a_ticket_has, NULL);
	for (size_t i = 0; i < COUNT_OF(lengths); i++)
		assert_dies(free_of_other_length, &lengths[i]);
	assert_dies(free_of_no_reserve, NULL);
	assert_dies(free_object_to_reserve, NULL);
	assert_dies(free_inside_to_reserve, NULL);
	assert_dies(free_foreign_to_reserve, NULL);
	assert_dies(free_without_reserve, NULL);
	reached_end();
}

static void use_of_no_reserve(void *arg)
{
	static struct pp_reserve none;

	(void)arg;
	expect_line("pagepool: pp_reserve_alloc(): %#lx is not a reserve\n",
		    at(&none));
	pp_reserve_alloc(&none, 0);
}

/* What lies in a reserve is written to by who had it before. */
static void write_after_free(void *arg)
{
	struct pp_reserve *r = reserve();
	char *run = r->mempool.free;
	struct pp_ticket t;

	expect_line("pagepool: pp_reserve_free(): %#lx was written to after "
		    "it was freed\n", at(run));
	run[*(size_t *)arg] ^= 1;
	if (!pp_reserve_hold(r, 1, 0, &t))
		pp_reserve_draw(&t);
}

static void test_use_of_what_a_reserve_has(void **state)
{
	/* The link of the list; the rest is looked at in full debug builds. */
	static size_t at_link[] = { 0, 7, 8, 15 };
	static size_t behind[] = { 16, 4096, RESERVE_PAGES * PAGE - 1 };

	(void)state;
	assert_dies(use_of_no_reserve, NULL);
	for (size_t i = 0; i < COUNT_OF(at_link); i++)
		assert_dies(write_after_free, &at_link[i]);
	for (size_t i = 0; PP_DEBUG > 1 && i < COUNT_OF(behind); i++)
		assert_dies(write_after_free, &behind[i]);
	reached_end();
}

static int group_setup(void **state)
{
	(void)state;
	pool = pool_make("64M");
	assert_int_equal(pp_cache_create(pool, "mine", 190, 0, &cache), 0);
	return 0;
}

/* Victims and notifiers */

static struct pp_victim_id *victim;
static struct pp_oom_notifier_id *notifier;

static size_t no_usage(void *arg)
{
	(void)arg;
	return 0;
}

static void cancel_unregisters(void *arg)
{
	(void)arg;
	expect_line("pagepool: pp_victim_unregister(): %#lx is unregistered by "
		    "its own callback\n", at(victim));
	pp_victim_unregister(victim);
}

static size_t notify_unregisters(void *arg, size_t nr_pages)
{
	(void)arg;
	(void)nr_pages;
	expect_line("pagepool: pp_oom_notifier_unregister(): %#lx is "
		    "unregistered by its own callback\n", at(notifier));
	pp_oom_notifier_unregister(notifier);
	return 0;
}

/* Until somebody has to help. */
static void fill(void)
{
	while (pp_alloc_pages(pool, 1, PP_NOWARN))
		;
}

static void unregister_in_cancel(void *arg)
{
	const struct pp_victim ops = {
		.struct_bytes = sizeof(ops), .name = "hasty",
		.usage = no_usage, .cancel = cancel_unregisters,
	};

	(void)arg;
	if (pp_victim_register(pool, &ops, &victim))
		_exit(3);
	fill();
}

static void unregister_in_notify(void *arg)
{
	const struct pp_oom_notifier ops = {
		.struct_bytes = sizeof(ops), .name = "hasty",
		.notify = notify_unregisters,
	};

	(void)arg;
	if (pp_oom_notifier_register(pool, &ops, &notifier))
		_exit(3);
	fill();
}

static char no_id[1024] __attribute__((aligned(16)));

static void exit_of_nobody(void *arg)
{
	expect_line("pagepool: pp_victim_exited(): %#lx is not registered\n",
		    at(arg));
	pp_victim_exited(arg);
}

static void unregister_nobody(void *arg)
{
	expect_line("pagepool: pp_victim_unregister(): %#lx is not "
		    "registered\n", at(arg));
	pp_victim_unregister(arg);
}

static void test_victims_that_are_none_or_hasty(void **state)
{
	(void)state;
	assert_dies(unregister_in_cancel, NULL);
	assert_dies(unregister_in_notify, NULL);
	assert_dies(exit_of_nobody, no_id);
	assert_dies(unregister_nobody, no_id);
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_double_free_of_a_cached_run),
		TEST(test_double_free_of_a_flushed_run),
		TEST(test_double_free_after_other_frees),
		TEST(test_use_of_a_freed_run),
		TEST(test_free_inside_a_run),
		TEST(test_free_unaligned),
		TEST(test_free_of_what_is_not_ours),
		TEST(test_double_free_of_an_object),
		TEST(test_free_inside_an_object),
		TEST(test_free_of_what_a_slab_never_gave),
		TEST(test_free_by_the_wrong_call),
		TEST(test_free_of_what_a_reserve_never_gave),
		TEST(test_use_of_what_a_reserve_has),
		TEST(test_victims_that_are_none_or_hasty),
	};

	test_clear_environment();
	return cmocka_run_group_tests_name("death", tests, group_setup, NULL);
}
