/* SPDX-License-Identifier: MIT */
/*
 * The failure sweep: for each scene, each point of base/fault.h, and n = 1, 2,
 * ... the n-th call of the point fails, until n is past its last call.  The
 * scenes call every public function and put up with any refusal.  Whatever
 * fails, no page has two holders and none is lost (owners.h), the books are
 * exact, all pools can be destroyed, and descriptors are as many
 * as before, and mappings no more.
 *
 * Each n twice, in a process of its own: in a fresh one, where also what is
 * done once in a process can fail, and which then plays the scene again, with
 * nothing failing; and in one that has played it before, where what is mapped
 * can be compared.  Points are swept at once, by two processes for each CPU.
 *
 * PP_TEST_SWEEP=all tries every n, and a number the first so many.  Otherwise n
 * grows by a quarter from 8 on; under a sanitizer it is one of the first four,
 * and a fresh process must do.
 */
#include "scene_scarce.h"

#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/fault.h"
#include "os/os.h"
#include "pagepool/numa.h"
#include "pagepool/reclaim.h"
#include "thp.h"

#define SECOND_NS	1000000000ull
#define STUCK_S		60u
#define MAX_CALLS	20000u		/* of one point in one scene */
#define SANITIZED_TRIES	4u		/* of a point, where all is slow */
#define LEAVE_S		10u		/* for threads that end by themselves */
#define EVENT_NS	500000000ull	/* for an event that may not come */
#define AFTER_NS	20000000ull	/* the same, once something failed */

/* How a child ends. */
enum { FIRED, NOT_FIRED, FOUND_MORE = FOUND_WRONG + 1 };

static const char *const point_names[] = {
#define X(name, what) #name,
	PP_FAULT_POINTS(X)
#undef X
};

static enum fault_point swept_point;

/* Scenes */

static void scene_runs(struct owners *o)
{
	static const size_t lengths[] = { 1, 9, 100, 300, 520, 40 };
	void *bulk[20];
	size_t n;

	if (!begin(o, "8M", "1"))
		return;
	for (size_t i = 0; o->nr < 600 &&
	     owners_take(o, lengths[i % 6], 1, 0); i++)
		;
	for (size_t i = 0; i < o->nr; i += 2)
		owners_give(o, i);
	owners_check(o);
	owners_take(o, 600, 1, 0);
	owners_take(o, 50, 1, PP_ZERO);
	owners_take(o, 3, 1024, 0);
	owners_take(o, 1, 1, PP_ATOMIC);
	owners_take(o, 1, 1, PP_MEMALLOC);
	owners_take(o, 2, 1, PP_NORETRY);
	owners_check(o);
	owners_give_all(o);
	n = pp_alloc_bulk(o->pool, COUNT_OF(bulk), 3, bulk, PP_NOWARN);
	EXPECT(n == COUNT_OF(bulk) || errno == ENOMEM);
	for (size_t i = 0; i < n; i++)
		owners_expect_new(o, bulk[i], 3 * PAGE);
	pp_free_bulk(o->pool, n, bulk);
	owners_end(o);
}

static void scene_realloc(struct owners *o)
{
	static const size_t to[] = { 1100, 1300, 700, 1, 3, 17, 1030, 2, 600 };

	/* Huge pages where programs that say nothing get them. */
	store_relaxed(&thp_system, THP_SYSTEM_ALWAYS);
	if (!begin(o, "16M", "1"))
		return;
	owners_take(o, 1200, 1, 0);
	owners_give_all(o);
	owners_take(o, 600, 1, 0);
	owners_take(o, 600, 1, 0);
	owners_take(o, 1, 1, 0);
	for (size_t i = 0; i < COUNT_OF(to); i++) {
		owners_resize(o, i % 3, to[i]);
		owners_resize(o, 2, 1 + i * 5);
	}
	owners_check(o);
	owners_end(o);
}

static struct pp_cache *make_cache(struct owners *o, size_t bytes,
				   size_t align)
{
	struct pp_cache *cache = NULL;
	int err = pp_cache_create(o->pool, "objects", bytes, align, &cache);

	EXPECT(err == 0 ? cache != NULL : err == -ENOMEM);
	return cache;
}

static bool is_holding(const struct owners *o, const struct pp_cache *cache)
{
	for (size_t i = 0; i < o->nr; i++)
		if (o->held[i].p && o->held[i].cache == cache)
			return true;
	return false;
}

static void scene_caches(struct owners *o)
{
	static const size_t bytes[] = { 16, 704, 4096, 14336 };
	struct pp_cache *cache[COUNT_OF(bytes)];

	if (!begin(o, "8M", "2"))
		return;
	for (size_t k = 0; k < COUNT_OF(bytes); k++)
		cache[k] = make_cache(o, bytes[k], k == 2 ? 4096 : 0);
	for (size_t i = 0; i < 400; i++)
		if (cache[i % 4])
			owners_take_object(o, cache[i % 4], bytes[i % 4]);
	for (size_t i = 0; i < o->nr; i += 3)
		owners_give(o, i);
	owners_check(o);
	for (size_t k = 0; k < COUNT_OF(bytes); k++)
		EXPECT(!cache[k] || !is_holding(o, cache[k]) ||
		       pp_cache_destroy(cache[k]) == -EBUSY);
	owners_give_all(o);
	for (size_t k = 0; k < COUNT_OF(bytes); k++)
		EXPECT(!cache[k] || pp_cache_destroy(cache[k]) == 0);
	owners_end(o);
}

static void scene_nodes(struct owners *o)
{
	struct pp_stats s = { .struct_bytes = sizeof(s) };
	void *p;
	int nr;

	if (!begin(o, "24M", "3"))
		return;
	nr = pp_numa_nr_nodes(o->pool);
	EXPECT(nr == 1 || nr == 3);
	for (int i = 0; i < 30; i++) {
		errno = 0;
		p = pp_numa_alloc(o->pool, (unsigned)(i % nr), 20 + i,
				  (i & 4 ? PP_THISNODE : 0) | PP_NOWARN);
		EXPECT(!p || pp_numa_node_of(o->pool, p) >= 0);
		owners_add(o, p, (20 + (size_t)i) * PAGE, NULL);
	}
	EXPECT(pp_pool_set(o->pool, "numa", "interleave") == 0);
	for (int i = 0; i < 30; i++)
		owners_take(o, 1 + i % 7, 1, 0);
	for (int i = 0; i < nr; i++) {
		EXPECT(pp_numa_node_id(o->pool, (unsigned)i) >= 0);
		EXPECT(pp_numa_snapshot(o->pool, (unsigned)i, &s) == 0);
	}
	owners_check(o);
	owners_end(o);
}

static void scene_limit(struct owners *o)
{
	static const char *const limits[] = { "8M", "32M", "5M", "16M" };
	int err;

	if (!begin(o, "16M", "2"))
		return;
	while (o->nr < 250 && owners_take(o, 8, 1, 0))
		;
	for (size_t i = 0; i < o->nr; i++)
		if (i % 3)
			owners_give(o, i);
	for (size_t i = 0; i < COUNT_OF(limits); i++) {
		err = pp_pool_set(o->pool, "limit", limits[i]);
		EXPECT(err == 0 || err == -EBUSY);
		owners_take(o, 30, 1, 0);
		owners_check(o);
	}
	EXPECT(pp_pool_set(o->pool, "purge_delay", "0") == 0);
	EXPECT(pp_pool_reclaim(o->pool, 100) >= 0);
	owners_end(o);
}

/* Shrinkers that give what the scene has; this thread asks for it alone. */

static size_t count_held(void *arg, struct pp_shrink *shrink)
{
	struct owners *o = arg;

	(void)shrink;
	return o->nr ? o->nr : PP_SHRINK_EMPTY;
}

static size_t give_held(void *arg, struct pp_shrink *shrink)
{
	struct owners *o = arg;
	size_t n = 0;

	for (; n < shrink->nr_to_scan && o->nr; n++)
		owners_give(o, --o->nr);
	return n;
}

static void scene_reclaim(struct owners *o)
{
	const struct pp_shrinker ops = {
		.struct_bytes = sizeof(ops), .name = "held", .arg = o,
		.count = count_held, .scan = give_held, .batch = 8, .seeks = 2,
	};
	struct pp_shrinker_id *id[2] = { NULL, NULL };
	int fd[3], err;

	if (!begin(o, "8M", "1"))
		return;
	for (unsigned level = 0; level < COUNT_OF(fd); level++) {
		fd[level] = pp_pressure_fd(o->pool, (enum pp_pressure)level);
		EXPECT(fd[level] >= 0 || fd[level] == -EMFILE);
	}
	for (unsigned i = 0; i < 20; i++)
		owners_take(o, 20, 1, 0);
	for (unsigned i = 0; i < 2; i++) {
		err = pp_shrinker_register(o->pool, &ops, &id[i]);
		EXPECT(err == 0 ? id[i] != NULL : err == -ENOMEM && !id[i]);
	}
	EXPECT(pp_pool_reclaim(o->pool, 100000) >= 0);
	EXPECT(o->nr == 0 || (!id[0] && !id[1]));
	EXPECT(!id[0] && !id[1] ? true : pp_pool_destroy(o->pool) == -EBUSY);
	pp_shrinker_unregister(id[0]);
	pp_shrinker_unregister(id[1]);
	while (o->nr < 600 && owners_take(o, 5, 1, 0))
		;
	while (o->nr < OWNERS_MAX && owners_take(o, 1, 1, PP_MEMALLOC))
		;
	owners_check(o);
	for (unsigned level = 0; level < COUNT_OF(fd); level++)
		if (fd[level] >= 0)
			close(fd[level]);
	owners_end(o);
}

/* Threads at once, each with a model of its own; then a child of a fork, with
 * what the others had in their caches. */

static void *thread_main(void *arg)
{
	struct owners *o = test_array(1, sizeof(*o));

	o->pool = arg;
	for (size_t i = 0; i < 60; i++) {
		owners_take(o, 1 + i % 20, 1, 0);
		owners_resize(o, i / 2, 1 + i % 30);
		if (i % 3 == 0)
			owners_give(o, i / 3);
	}
	owners_give_all(o);
	free(o);
	return NULL;
}

static void child_of_fork(struct owners *o)
{
	for (size_t i = 0; i < 20; i++)
		owners_take(o, 1 + i, 1, 0);
	owners_end(o);
	_exit(0);
}

static void scene_threads(struct owners *o)
{
	pthread_t thread[3];
	int status = -1;
	pid_t child;

	if (!begin(o, "16M", "2"))
		return;
	for (size_t i = 0; i < 10; i++)
		owners_take(o, 10, 1, 0);
	for (size_t i = 0; i < COUNT_OF(thread); i++)
		EXPECT(!pthread_create(&thread[i], NULL, thread_main,
				       o->pool));
	for (size_t i = 0; i < COUNT_OF(thread); i++)
		pthread_join(thread[i], NULL);
	child = fork();
	if (!child)
		child_of_fork(o);
	EXPECT(waitpid(child, &status, 0) == child && status == 0);
	owners_end(o);
}

/* A pool whose limit follows, and a service manager to listen to: what is to be
 * written to its FIFO first is what is read there then.  Each play has one of
 * its own. */

static char fifo_folder[] = "/tmp/pagepool-sweep.XXXXXX";

static void make_fifo(char *path, size_t size)
{
	snprintf(path, size, "%s/%d", fifo_folder, (int)getpid());
	EXPECT(mkfifo(path, 0600) == 0);
	setenv("MEMORY_PRESSURE_WATCH", path, 1);
	setenv("MEMORY_PRESSURE_WRITE", "eA==", 1);
}

/* It may not come where something has failed, and in a second play. */
static void wait_for_event(struct pp_pool *pool)
{
	uint64_t now_ns = os_now_ns(), end_ns = now_ns + EVENT_NS;

	while (!pp_stat_read(pool, PP_STAT_PRESSURE_EVENTS) &&
	       now_ns < end_ns) {
		usleep(1000);
		now_ns = os_now_ns();
		if (!load_relaxed(&fault_countdown[swept_point]) &&
		    now_ns + AFTER_NS < end_ns)
			end_ns = now_ns + AFTER_NS;
	}
}

static void play_watch(struct owners *o)
{
	char text[6000];
	int err;

	if (!begin(o, "auto", "1"))
		return;
	wait_for_event(o->pool);
	for (size_t i = 0; i < 10; i++)
		owners_take(o, 10, 1, 0);
	for (unsigned format = 0; format < 3; format++)
		EXPECT(pp_report(o->pool, (enum pp_format)format, text,
				 sizeof(text)) > 0);
	for (unsigned stat = 0; stat < PP_NR_STATS; stat++)
		EXPECT(pp_stat_read(o->pool, (enum pp_stat)stat) >= 0 &&
		       pp_stat_bound(o->pool, (enum pp_stat)stat) >= 0);
	err = pp_pool_set(o->pool, "limit", "64M");
	EXPECT(err == 0 || err == -EBUSY);
	EXPECT(pp_pool_set(o->pool, "limit", "auto") <= 0);
	owners_end(o);
}

static void scene_watch(struct owners *o)
{
	char path[64];

	make_fifo(path, sizeof(path));
	play_watch(o);
	unlink(path);
}

static void scene_default(struct owners *o)
{
	memset(o, 0, sizeof(*o));
	errno = 0;
	o->pool = pp_pool_default();
	if (!o->pool) {
		EXPECT(errno == ENOMEM);
		return;
	}
	for (size_t i = 0; i < 20; i++)
		owners_take(o, 1 + i * 10, 1, 0);
	owners_check(o);
	owners_give_all(o);
	EXPECT(pp_pool_destroy(o->pool) == -EBUSY);
}

/* What a process has */

static size_t nr_fds(void)
{
	size_t nr = 0;

	for (int fd = 0; fd < 1024; fd++)
		nr += fcntl(fd, F_GETFD) >= 0;
	return nr;
}

/* Without what is libc's: its heap and the stack.  A sanitizer maps what it
 * likes: there only descriptors are compared. */
static size_t mapped_bytes(void)
{
	unsigned long from, to;
	char line[512];
	FILE *maps = fopen("/proc/self/maps", "re");
	size_t sum = 0;

	EXPECT(maps);
	while (fgets(line, sizeof(line), maps))
		if (!strstr(line, "[heap]") && !strstr(line, "[stack]") &&
		    sscanf(line, "%lx-%lx", &from, &to) == 2)
			sum += to - from;
	fclose(maps);
	return sum;
}

static void show_maps(void)
{
	char line[512];
	FILE *maps = fopen("/proc/self/maps", "re");

	while (maps && fgets(line, sizeof(line), maps))
		fprintf(stderr, "# %s", line);
}

/* No more than before, 0: any; once threads of the pool's own that nobody joins
 * have ended.  Before, such a thread may have been there still. */
static bool are_as_before(size_t fds, size_t bytes)
{
	uint64_t end_ns = os_now_ns() + LEAVE_S * SECOND_NS;

	while ((nr_fds() != fds || (bytes && mapped_bytes() > bytes)) &&
	       os_now_ns() < end_ns)
		usleep(1000);
	if (nr_fds() == fds && (!bytes || mapped_bytes() <= bytes))
		return true;
	fprintf(stderr, "# %zu descriptors were %zu, %zu bytes %zu\n",
		nr_fds(), fds, mapped_bytes(), bytes);
	show_maps();
	return false;
}

/* The sweep */

typedef void scene_fn(struct owners *o);

/* Of one point in one scene: one try at a time, in a fresh process as long as
 * anything fires, then in one that has played the scene before. */
struct sweep {
	const char		*name;
	scene_fn		*scene;
	enum fault_point	point;
	bool			warm;		/* played before */
	bool			is_over, went_wrong;
	uint32_t		n;		/* to be tried */
	uint32_t		fired[2];	/* fresh, warm */
	unsigned		nr_more;	/* tries of it that left more */
	pid_t			child;		/* that tries it, or 0 */
};

/* libc keeps a stack for later, one more if a thread began before another was
 * quite gone.  What leaks at a failure does so each time. */
#define MORE_TRIES	2

static void *play(void *arg)
{
	struct sweep *s = arg;
	struct owners *o = test_array(1, sizeof(*o));

	s->scene(o);
	free(o);
	return NULL;
}

/* In a thread of its own: its cache, and its exit, are part of the play. */
static void play_in_thread(struct sweep *s)
{
	pthread_t thread;

	EXPECT(!pthread_create(&thread, NULL, play, s));
	pthread_join(thread, NULL);
}

static void child_main(struct sweep *s)
{
	size_t fds = nr_fds(), bytes = 0;
	bool fired;

	test_fault_let_die();
	alarm(STUCK_S);
	for (unsigned i = 0; s->warm && i < 2; i++) {
		play_in_thread(s);
		EXPECT(are_as_before(fds, 0));
		if (!TEST_SANITIZED && mapped_bytes() > bytes)
			bytes = mapped_bytes();
	}
	swept_point = s->point;
	fault_arm(s->point, s->n);
	play_in_thread(s);
	fired = !load_relaxed(&fault_countdown[s->point]);
	fault_arm(s->point, 0);
	if (!are_as_before(fds, bytes))
		_exit(FOUND_MORE);
	if (!s->warm && fired)
		play_in_thread(s);
	_exit(fired ? FIRED : NOT_FIRED);
}

/* PP_TEST_SWEEP: all, or how many tries there are of each point. */
static uint32_t most_tries(void)
{
	const char *given = getenv("PP_TEST_SWEEP");

	if (given && strcmp(given, "all") == 0)
		return MAX_CALLS;
	return (uint32_t)test_number("PP_TEST_SWEEP",
				     TEST_SANITIZED ? SANITIZED_TRIES : 0);
}

static uint32_t next_nth(uint32_t n)
{
	return n + (most_tries() || n < 8 ? 1 : n / 4);
}

static bool is_last(uint32_t n)
{
	return most_tries() && n > most_tries();
}

static void start_try(struct sweep *s)
{
	fflush(NULL);
	s->child = fork();
	if (!s->child)
		child_main(s);
	assert_true(s->child > 0);
}

static void note_result(struct sweep *s, int status)
{
	bool ok = WIFEXITED(status) && WEXITSTATUS(status) < FOUND_WRONG;
	bool fired = ok && WEXITSTATUS(status) == FIRED;

	s->child = 0;
	if (WIFEXITED(status) && WEXITSTATUS(status) == FOUND_MORE &&
	    s->nr_more++ < MORE_TRIES)
		return;
	s->nr_more = 0;
	if (!ok)
		print_message("# scene %s, %s process: call %u of %s fails: "
			      "status %#x\n", s->name,
			      s->warm ? "warm" : "fresh", s->n,
			      point_names[s->point], status);
	s->went_wrong = s->went_wrong || !ok;
	s->fired[s->warm] += fired;
	s->n = next_nth(s->n);
	/* The last one was past them all. */
	s->went_wrong = s->went_wrong || s->n >= MAX_CALLS;
	if (fired && !s->went_wrong && !is_last(s->n))
		return;
	s->is_over = s->went_wrong || s->warm || !s->fired[0] ||
		     (TEST_SANITIZED && most_tries() < MAX_CALLS);
	s->warm = true;
	s->n = 1;
}

/* The next to try something; those that have many tries before them are
 * last in the list of points. */
static struct sweep *find_idle(struct sweep *sweeps)
{
	for (unsigned p = NR_FAULT_POINTS; p--;)
		if (!sweeps[p].is_over && !sweeps[p].child)
			return &sweeps[p];
	return NULL;
}

static void wait_for_one(struct sweep *sweeps)
{
	int status = -1;
	pid_t child = waitpid(-1, &status, 0);

	assert_true(child > 0);
	for (unsigned p = 0; p < NR_FAULT_POINTS; p++)
		if (sweeps[p].child == child)
			note_result(&sweeps[p], status);
}

/* Most of what a try does is to wait for threads and for drains. */
static unsigned max_children(void)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	return cpus < 1 ? 2 : cpus > 8 ? 16 : (unsigned)cpus * 2;
}

static void sweep_all(struct sweep *sweeps)
{
	struct sweep *idle;
	unsigned nr = 0;

	/* Ends, for each point ends. */
	do {
		while (nr < max_children() && (idle = find_idle(sweeps))) {
			start_try(idle);
			nr++;
		}
		if (nr) {
			wait_for_one(sweeps);
			nr--;
		}
	} while (nr || find_idle(sweeps));
}

/* Which points fired in any scene. */
static bool has_fired[NR_FAULT_POINTS];

static void sweep_scene(const char *name, scene_fn *scene)
{
	struct sweep sweeps[NR_FAULT_POINTS];
	unsigned nr_wrong = 0;

	for (unsigned p = 0; p < NR_FAULT_POINTS; p++)
		sweeps[p] = (struct sweep){
			.name = name,
			.scene = scene,
			.point = (enum fault_point)p,
			.n = 1,
		};
	sweep_all(sweeps);
	for (unsigned p = 0; p < NR_FAULT_POINTS; p++) {
		const uint32_t *fired = sweeps[p].fired;

		if (fired[0])
			print_message("# %s: %s fired %u + %u times\n", name,
				      point_names[p], fired[0], fired[1]);
		has_fired[p] = has_fired[p] || fired[0];
		nr_wrong += sweeps[p].went_wrong;
	}
	assert_int_equal(nr_wrong, 0);
}

static void test_sweep_runs(void **state)
{
	(void)state;
	sweep_scene("runs", scene_runs);
	reached_end();
}

static void test_sweep_realloc(void **state)
{
	(void)state;
	sweep_scene("realloc", scene_realloc);
	reached_end();
}

static void test_sweep_caches(void **state)
{
	(void)state;
	sweep_scene("caches", scene_caches);
	reached_end();
}

static void test_sweep_nodes(void **state)
{
	(void)state;
	sweep_scene("nodes", scene_nodes);
	reached_end();
}

static void test_sweep_limit(void **state)
{
	(void)state;
	sweep_scene("limit", scene_limit);
	reached_end();
}

static void test_sweep_reclaim(void **state)
{
	(void)state;
	sweep_scene("reclaim", scene_reclaim);
	reached_end();
}

static void test_sweep_threads(void **state)
{
	(void)state;
	sweep_scene("threads", scene_threads);
	reached_end();
}

static void test_sweep_reserve(void **state)
{
	(void)state;
	sweep_scene("reserve", scene_reserve);
	reached_end();
}

static void test_sweep_victims(void **state)
{
	(void)state;
	sweep_scene("victims", scene_victims);
	reached_end();
}

static void test_sweep_nofail(void **state)
{
	(void)state;
	sweep_scene("nofail", scene_nofail);
	reached_end();
}

static void test_sweep_report(void **state)
{
	(void)state;
	sweep_scene("report", scene_report);
	reached_end();
}

static void test_sweep_watch(void **state)
{
	(void)state;
	assert_non_null(mkdtemp(fifo_folder));
	sweep_scene("watch", scene_watch);
	rmdir(fifo_folder);
	reached_end();
}

static void test_sweep_default(void **state)
{
	(void)state;
	sweep_scene("default", scene_default);
	reached_end();
}

/* What no scene reaches is not swept; but mbind is called on a machine with
 * nodes of its own alone, and tests/unit/topology_test.c refuses it. */
static void test_sweep_reaches_every_point(void **state)
{
	unsigned nr = 0;

	(void)state;
	for (unsigned p = 0; p < NR_FAULT_POINTS; p++) {
		if (!has_fired[p])
			print_message("# never fired: %s\n", point_names[p]);
		nr += has_fired[p] || p == FAULT_BIND;
	}
	assert_int_equal(nr, NR_FAULT_POINTS);
	reached_end();
}

#ifdef __SANITIZE_THREAD__
const char *__tsan_default_options(void);

/* Its processes sleep for a second otherwise before they end. */
const char *__tsan_default_options(void)
{
	return "atexit_sleep_ms=0";
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_sweep_runs),
		TEST(test_sweep_realloc),
		TEST(test_sweep_caches),
		TEST(test_sweep_nodes),
		TEST(test_sweep_limit),
		TEST(test_sweep_reclaim),
		TEST(test_sweep_threads),
		TEST(test_sweep_reserve),
		TEST(test_sweep_victims),
		TEST(test_sweep_nofail),
		TEST(test_sweep_report),
		TEST(test_sweep_watch),
		TEST(test_sweep_default),
		TEST(test_sweep_reaches_every_point),
	};

	test_clear_environment();
	if (most_tries())
		print_message("# n is 1 to %u (%s)\n", most_tries(),
			      getenv("PP_TEST_SWEEP") ? "PP_TEST_SWEEP" :
			      "a sanitizer makes each try slow");
	/* What libc maps is to be the same each time. */
	mallopt(M_ARENA_MAX, 1);
	return cmocka_run_group_tests_name("sweep", tests, NULL, NULL);
}
