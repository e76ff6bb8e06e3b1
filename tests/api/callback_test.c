/* SPDX-License-Identifier: MIT */
/*
 * Callbacks as a program sees them: in which thread they run, and with which
 * signals; how many such threads there are; and what they may register.
 */
#include "testing_callback.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#define FIRST_THREADS	3

static __thread bool is_requester;

/* Served?  It is given back at once. */
static bool ask(unsigned flags)
{
	bool was_requester = is_requester;
	void *run;

	is_requester = true;
	run = pp_alloc_pages(scene.pool, 1, flags | PP_NOWARN);
	is_requester = was_requester;
	pp_free_pages(scene.pool, run);
	return run != NULL;
}

static struct pp_victim_id *add_victim(const struct pp_victim *like)
{
	struct pp_victim_id *id = NULL;
	struct pp_victim ops = *like;

	ops.struct_bytes = sizeof(ops);
	thread_check(!pp_victim_register(scene.pool, &ops, &id));
	return id;
}

static struct pp_oom_notifier_id *add_notifier(
	size_t (*notify)(void *arg, size_t nr_pages), void *arg)
{
	const struct pp_oom_notifier ops = {
		.struct_bytes = sizeof(ops), .name = "notifier",
		.notify = notify, .arg = arg,
	};
	struct pp_oom_notifier_id *id = NULL;

	thread_check(!pp_oom_notifier_register(scene.pool, &ops, &id));
	return id;
}

static size_t scan_nothing(void *arg, struct pp_shrink *shrink)
{
	(void)arg;
	(void)shrink;
	return PP_SHRINK_STOP;
}

static size_t use_a_page(void *arg)
{
	(void)arg;
	return PAGE;
}

static size_t use_pages(void *arg)
{
	(void)arg;
	return SPARE_PAGES * PAGE;
}

static void cancel_nothing(void *arg)
{
	(void)arg;
}

static size_t notify_nothing(void *arg, size_t nr_pages)
{
	(void)arg;
	(void)nr_pages;
	return 0;
}

/* Whose thread */

enum { COUNT, SCAN, USAGE, CANCEL, FORCE, NOTIFY, NR_WHAT };

static struct {
	_Atomic unsigned	nr[NR_WHAT];
	struct pp_victim_id	*victim;
} told;

static void expect_thread_of_pool(unsigned what)
{
	char name[16] = "";

	prctl(PR_GET_NAME, name);
	thread_check(strcmp(name, "pp-callback") == 0);
	thread_check(!is_requester);
	if (!pagepool_call_is_background())
		atomic_fetch_add(&told.nr[what], 1);
}

static size_t told_count(void *arg, struct pp_shrink *shrink)
{
	expect_thread_of_pool(COUNT);
	return count_many(arg, shrink);
}

static size_t told_scan(void *arg, struct pp_shrink *shrink)
{
	(void)arg;
	(void)shrink;
	expect_thread_of_pool(SCAN);
	return PP_SHRINK_STOP;
}

static size_t told_usage(void *arg)
{
	expect_thread_of_pool(USAGE);
	return use_pages(arg);
}

static void told_cancel(void *arg)
{
	(void)arg;
	expect_thread_of_pool(CANCEL);
}

static void told_force(void *arg)
{
	(void)arg;
	expect_thread_of_pool(FORCE);
	drop(&scene.spare);
	pp_victim_exited(told.victim);
}

static size_t told_notify(void *arg, size_t nr_pages)
{
	(void)arg;
	(void)nr_pages;
	expect_thread_of_pool(NOTIFY);
	return 0;
}

/* A request that goes as far as force(), by which alone it is served. */
static void test_callback_none_runs_in_the_requesters_thread(void **state)
{
	struct pp_oom_notifier_id *notifier;
	struct pp_shrinker_id *shrinker;

	(void)state;
	memset(&told, 0, sizeof(told));
	begin();
	shrinker = add_shrinker(&(struct pp_shrinker){
		.name = "shrinker", .count = told_count, .scan = told_scan,
	});
	told.victim = add_victim(&(struct pp_victim){
		.name = "victim", .usage = told_usage, .cancel = told_cancel,
		.force = told_force,
	});
	notifier = add_notifier(told_notify, NULL);
	fill(PP_MEMALLOC);
	assert_int_equal(pp_pool_set(scene.pool, "oom_timeout", "2s"), 0);
	/* Else it would wait without an end. */
	assert_threads_ok();
	assert_true(ask(PP_NOFAIL));
	for (unsigned i = 0; i < NR_WHAT; i++)
		assert_true(told.nr[i] > 0);
	pp_oom_notifier_unregister(notifier);
	pp_victim_unregister(told.victim);
	pp_shrinker_unregister(shrinker);
	end();
	reached_end();
}

static struct {
	_Atomic unsigned	nr_here, nr_elsewhere;	/* requests' calls */
	_Atomic bool		counts;
	_Atomic unsigned	nr_served;
} clean;

static void clean_note(void)
{
	if (atomic_load(&clean.counts))
		atomic_fetch_add(is_requester ? &clean.nr_here :
				 &clean.nr_elsewhere, 1);
}

static size_t clean_scan(void *arg, struct pp_shrink *shrink)
{
	(void)arg;
	(void)shrink;
	if (pagepool_call_is_background())
		return PP_SHRINK_STOP;
	clean_note();
	return is_requester ? free_spare() : PP_SHRINK_STOP;
}

static struct pp_shrinker_id *add_clean(void)
{
	return add_shrinker(&(struct pp_shrinker){
		.name = "clean", .count = count_many, .scan = clean_scan,
		.flags = PP_SHRINKER_CLEAN,
	});
}

/* Until the clean one was called: the pool's own thread may be inside. */
static void ask_for_clean(void)
{
	atomic_store(&clean.counts, true);
	while (!clean.nr_here && !clean.nr_elsewhere && has_time())
		if (ask(0))
			atomic_fetch_add(&clean.nr_served, 1);
	atomic_store(&clean.counts, false);
}

static void expect_clean_was_called_here(void)
{
	assert_true(clean.nr_here > 0);
	assert_int_equal(clean.nr_elsewhere, 0);
	assert_int_equal(clean.nr_served, 1);
}

static void test_callback_clean_is_called_in_place_for_memalloc(void **state)
{
	struct pp_shrinker_id *id;
	unsigned saved;

	(void)state;
	memset(&clean, 0, sizeof(clean));
	begin();
	id = add_clean();
	fill(PP_MEMALLOC);
	saved = pp_scope_enter(PP_MEMALLOC);
	ask_for_clean();
	pp_scope_leave(saved);
	pp_shrinker_unregister(id);
	end();
	expect_clean_was_called_here();
	reached_end();
}

static size_t scan_that_allocates(void *arg, struct pp_shrink *shrink)
{
	_Atomic bool *has_asked = arg;

	(void)shrink;
	if (pagepool_call_is_background() || atomic_exchange(has_asked, true))
		return PP_SHRINK_STOP;
	thread_check(!is_requester);
	ask_for_clean();
	return PP_SHRINK_STOP;
}

/* The request finds the pool full, and has nobody else called. */
static void test_callback_that_allocates_calls_clean_in_place(void **state)
{
	static _Atomic bool has_asked;
	struct pp_shrinker_id *id[2];

	(void)state;
	memset(&clean, 0, sizeof(clean));
	atomic_store(&has_asked, false);
	begin();
	id[0] = add_clean();
	id[1] = add_shrinker(&(struct pp_shrinker){
		.name = "allocates", .count = count_many,
		.scan = scan_that_allocates, .arg = &has_asked,
	});
	fill(PP_MEMALLOC);
	while (!atomic_load(&has_asked) && has_time())
		ask(0);
	pp_shrinker_unregister(id[1]);
	pp_shrinker_unregister(id[0]);
	end();
	expect_clean_was_called_here();
	reached_end();
}

/* Signals */

static char *guarded;
static _Atomic unsigned nr_caught;
static _Atomic bool has_written;

static void make_writable(int signal)
{
	(void)signal;
	atomic_fetch_add(&nr_caught, 1);
	mprotect(guarded, PAGE, PROT_READ | PROT_WRITE);
}

static void cancel_by_a_write(void *arg)
{
	struct pp_victim_id **id = arg;

	*(volatile char *)guarded = 1;
	atomic_store(&has_written, true);
	drop(&scene.spare);
	pp_victim_exited(*id);
}

static void test_callback_may_need_its_sigsegv_handler(void **state)
{
	struct sigaction action = { .sa_handler = make_writable }, saved;
	struct pp_victim_id *id;

	(void)state;
	nr_caught = 0;
	has_written = false;
	guarded = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		       0);
	assert_true(guarded != MAP_FAILED);
	begin();
	id = add_victim(&(struct pp_victim){
		.name = "writes", .usage = use_pages,
		.cancel = cancel_by_a_write, .arg = &id,
	});
	fill(0);
	assert_int_equal(sigaction(SIGSEGV, &action, &saved), 0);
	assert_true(ask(0));
	assert_int_equal(sigaction(SIGSEGV, &saved, NULL), 0);
	assert_true(has_written);
	assert_int_equal(nr_caught, 1);
	pp_victim_unregister(id);
	end();
	munmap(guarded, PAGE);
	reached_end();
}

/* Threads */

static bool is_named(const char *task, const char *name)
{
	char path[300], text[32] = "";
	int fd;

	snprintf(path, sizeof(path), "/proc/self/task/%s/comm", task);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	if (read(fd, text, sizeof(text) - 1) < 0)
		text[0] = '\0';
	close(fd);
	return strncmp(text, name, strlen(name)) == 0;
}

static unsigned nr_threads(void)
{
	DIR *dir = opendir("/proc/self/task");
	struct dirent *d;
	unsigned n = 0;

	assert_non_null(dir);
	while ((d = readdir(dir)))
		n += is_named(d->d_name, "pp-callback");
	closedir(dir);
	return n;
}

/* They give themselves their names, and the kernel has them a little longer
 * than whoever joins them. */
static void expect_threads(unsigned nr)
{
	while (nr_threads() != nr && has_time())
		pause_shortly();
	assert_int_equal(nr_threads(), nr);
}

static void test_callback_threads_are_three_and_end_with_the_pool(void **state)
{
	struct pp_oom_notifier_id *notifier;
	struct pp_shrinker_id *shrinker;
	struct pp_victim_id *victim;

	(void)state;
	begin();
	assert_int_equal(nr_threads(), 0);
	shrinker = add_shrinker(&(struct pp_shrinker){
		.name = "first", .count = count_many, .scan = scan_nothing,
	});
	expect_threads(FIRST_THREADS);
	victim = add_victim(&(struct pp_victim){
		.name = "second", .usage = use_a_page, .cancel = cancel_nothing,
	});
	assert_int_equal(nr_threads(), FIRST_THREADS);
	notifier = add_notifier(notify_nothing, NULL);
	assert_int_equal(nr_threads(), FIRST_THREADS);
	drop(&scene.spare);
	assert_int_equal(pp_pool_destroy(scene.pool), -EBUSY);
	pp_shrinker_unregister(shrinker);
	assert_int_equal(pp_pool_destroy(scene.pool), -EBUSY);
	pp_victim_unregister(victim);
	assert_int_equal(pp_pool_destroy(scene.pool), -EBUSY);
	assert_int_equal(nr_threads(), FIRST_THREADS);
	pp_oom_notifier_unregister(notifier);
	end();
	expect_threads(0);
	reached_end();
}

/* Registering inside */

static struct {
	struct pp_shrinker_id		*old_shrinker, *new_shrinker;
	struct pp_victim_id		*changer, *old_victim, *new_victim;
	struct pp_oom_notifier_id	*old_notifier, *new_notifier;
	_Atomic bool			has_changed;
	_Atomic unsigned		nr_old, nr_new;	/* after that */
} inside;

static size_t old_scan(void *arg, struct pp_shrink *shrink)
{
	(void)arg;
	(void)shrink;
	if (atomic_load(&inside.has_changed))
		atomic_fetch_add(&inside.nr_old, 1);
	return PP_SHRINK_STOP;
}

static size_t new_scan(void *arg, struct pp_shrink *shrink)
{
	(void)arg;
	(void)shrink;
	if (pagepool_call_is_background())
		return PP_SHRINK_STOP;
	atomic_fetch_add(&inside.nr_new, 1);
	return free_spare();
}

/* One of each.  Nobody is to wait for a victim that does not exit, where the
 * shrinker could not be registered. */
static void change_all(void)
{
	pp_shrinker_unregister(inside.old_shrinker);
	pp_victim_unregister(inside.old_victim);
	pp_oom_notifier_unregister(inside.old_notifier);
	atomic_store(&inside.has_changed, true);
	inside.new_shrinker = add_shrinker(&(struct pp_shrinker){
		.name = "new", .count = count_many, .scan = new_scan,
	});
	inside.new_victim = add_victim(&(struct pp_victim){
		.name = "new", .usage = use_a_page, .cancel = cancel_nothing,
		.flags = PP_VICTIM_NOKILL,
	});
	inside.new_notifier = add_notifier(notify_nothing, NULL);
}

static size_t scan_that_changes(void *arg, struct pp_shrink *shrink)
{
	(void)arg;
	(void)shrink;
	if (!pagepool_call_is_background() && !inside.has_changed)
		change_all();
	return PP_SHRINK_STOP;
}

/* The request that it is cancelled for goes on with what is new. */
static void cancel_that_changes(void *arg)
{
	(void)arg;
	change_all();
	pp_victim_exited(inside.changer);
}

static size_t notify_that_changes(void *arg, size_t nr_pages)
{
	(void)arg;
	(void)nr_pages;
	if (!inside.has_changed)
		change_all();
	return 1;
}

static void begin_change(void)
{
	memset(&inside, 0, sizeof(inside));
	begin();
	inside.old_shrinker = add_shrinker(&(struct pp_shrinker){
		.name = "old", .count = count_many, .scan = old_scan,
	});
	inside.old_victim = add_victim(&(struct pp_victim){
		.name = "old", .usage = use_a_page, .cancel = cancel_nothing,
		.flags = PP_VICTIM_NOKILL,
	});
	inside.old_notifier = add_notifier(notify_nothing, NULL);
}

/* What is unregistered may leave a page free. */
static void end_change(void)
{
	while (!inside.nr_new && has_time()) {
		fill(0);
		ask(0);
	}
	assert_true(inside.has_changed);
	assert_true(inside.nr_new > 0);
	assert_int_equal(inside.nr_old, 0);
	pp_oom_notifier_unregister(inside.new_notifier);
	pp_victim_unregister(inside.new_victim);
	pp_shrinker_unregister(inside.new_shrinker);
}

static void test_callback_of_a_shrinker_may_register_others(void **state)
{
	struct pp_shrinker_id *id;

	(void)state;
	begin_change();
	id = add_shrinker(&(struct pp_shrinker){
		.name = "changes", .count = count_many,
		.scan = scan_that_changes,
	});
	end_change();
	pp_shrinker_unregister(id);
	end();
	reached_end();
}

static void test_callback_of_a_victim_may_register_others(void **state)
{
	(void)state;
	begin_change();
	inside.changer = add_victim(&(struct pp_victim){
		.name = "changes", .usage = use_pages,
		.cancel = cancel_that_changes,
	});
	end_change();
	pp_victim_unregister(inside.changer);
	end();
	reached_end();
}

static void test_callback_of_a_notifier_may_register_others(void **state)
{
	struct pp_oom_notifier_id *id;

	(void)state;
	begin_change();
	id = add_notifier(notify_that_changes, NULL);
	end_change();
	pp_oom_notifier_unregister(id);
	end();
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_callback_none_runs_in_the_requesters_thread),
		TEST(test_callback_clean_is_called_in_place_for_memalloc),
		TEST(test_callback_that_allocates_calls_clean_in_place),
		TEST(test_callback_may_need_its_sigsegv_handler),
		TEST(test_callback_threads_are_three_and_end_with_the_pool),
		TEST(test_callback_of_a_shrinker_may_register_others),
		TEST(test_callback_of_a_victim_may_register_others),
		TEST(test_callback_of_a_notifier_may_register_others),
	};

	test_clear_environment();
	return cmocka_run_group_tests_name("callback", tests, NULL, NULL);
}
