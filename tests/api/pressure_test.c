/* SPDX-License-Identifier: MIT */
/*
 * Pressure is told in time: each level once an episode, lower ones first, all
 * before a request fails, whatever the requests' lengths and however many
 * threads; by descriptors, which the program may close at any time, and by a
 * signal, which is never sent where it would kill.
 */
#include "testing_store.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/wait.h>

#define NR_LEVELS	3
#define MAX_HELD	20000

struct scene {
	struct pp_pool	*pool;
	int		fd[NR_LEVELS];
	void		*run[MAX_HELD];
	size_t		nr;
};

static struct scene *scene_make(const char *limit, const char *name,
				const char *value)
{
	struct scene *s = test_array(1, sizeof(*s));

	s->pool = pool_make_with(limit, name, value);
	for (int i = 0; i < NR_LEVELS; i++) {
		s->fd[i] = pp_pressure_fd(s->pool, (enum pp_pressure)i);
		assert_true(s->fd[i] >= 0);
	}
	return s;
}

static void drop_all(struct scene *s)
{
	pp_free_bulk(s->pool, s->nr, s->run);
	s->nr = 0;
	assert_int_equal(pp_pool_drain(s->pool), 0);
}

static void scene_end(struct scene *s)
{
	drop_all(s);
	for (int i = 0; i < NR_LEVELS; i++)
		close(s->fd[i]);
	pool_end(s->pool);
	free(s);
}

/* Episodes since the last look. */
static unsigned long long told(int fd)
{
	uint64_t n = 0;

	if (read(fd, &n, sizeof(n)) != sizeof(n)) {
		assert_int_equal(errno, EAGAIN);
		return 0;
	}
	return n;
}

static bool add(struct scene *s, size_t nr_pages)
{
	assert_true(s->nr < MAX_HELD);
	s->run[s->nr] = pp_alloc_pages(s->pool, nr_pages, PP_NOWARN);
	if (!s->run[s->nr])
		return false;
	s->nr++;
	return true;
}

static void test_pressure_arguments_are_checked(void **state)
{
	struct pp_pool *pool = pool_make("16M");
	int fd[PP_PRESSURE_MAX_FDS], flags;

	(void)state;
	assert_int_equal(pp_pressure_fd(NULL, PP_PRESSURE_LOW), -EINVAL);
	assert_int_equal(pp_pressure_fd(pool, (enum pp_pressure)3), -EINVAL);
	assert_int_equal(pp_pressure_fd(pool, (enum pp_pressure)-1), -EINVAL);
	for (size_t i = 0; i < COUNT_OF(fd); i++) {
		fd[i] = pp_pressure_fd(pool, (enum pp_pressure)(i % 3));
		assert_true(fd[i] >= 0);
		flags = fcntl(fd[i], F_GETFL);
		assert_true(flags & O_NONBLOCK);
		assert_true(fcntl(fd[i], F_GETFD) & FD_CLOEXEC);
		for (size_t k = 0; k < i; k++)
			assert_int_not_equal(fd[i], fd[k]);
	}
	assert_int_equal(pp_pressure_fd(pool, PP_PRESSURE_OOM), -ENOSPC);
	for (size_t i = 0; i < COUNT_OF(fd); i++)
		close(fd[i]);
	pool_end(pool);
	reached_end();
}

/* One episode: a fall to the first failure. */
static void play_fall(struct scene *s, size_t nr_pages)
{
	struct pp_stats st = pool_stats(s->pool);
	int64_t idle_drains = st.idle_drains;
	bool low = false;

	while (add(s, nr_pages)) {
		/* Not before it is so; but what was cached then is free by now
		 * if we did not run for so long that the cache was idle. */
		if (!low && told(s->fd[PP_PRESSURE_LOW])) {
			low = true;
			st = pool_stats(s->pool);
			assert_true(st.free_pages <= st.low_pages +
				    st.cached_pages ||
				    st.idle_drains != idle_drains);
		}
		if (!low)
			assert_int_equal(told(s->fd[PP_PRESSURE_MIN]), 0);
		assert_int_equal(told(s->fd[PP_PRESSURE_OOM]), 0);
	}
	/* When a request has failed all were told, once. */
	if (!low)
		assert_int_equal(told(s->fd[PP_PRESSURE_LOW]), 1);
	assert_int_equal(told(s->fd[PP_PRESSURE_MIN]), 1);
	assert_int_equal(told(s->fd[PP_PRESSURE_OOM]), 1);
	for (unsigned i = 0; i < 10; i++)
		assert_false(add(s, nr_pages));
	for (int i = 0; i < NR_LEVELS; i++)
		assert_int_equal(told(s->fd[i]), 0);
}

static void play_falls(const char *nodes, size_t nr_pages)
{
	struct scene *s = scene_make("16M", "fake_nodes", nodes);

	for (unsigned i = 0; i < 3; i++) {
		play_fall(s, nr_pages);
		drop_all(s);
	}
	scene_end(s);
}

static void test_pressure_levels_are_told_before_a_failure(void **state)
{
	static const size_t lengths[] = { 1, 2, 7, 16, 40, 100, 256 };

	(void)state;
	for (size_t i = 0; i < COUNT_OF(lengths); i++)
		play_falls("1", lengths[i]);
	reached_end();
}

static void test_pressure_of_several_nodes_is_that_of_all(void **state)
{
	static const size_t lengths[] = { 1, 7, 40 };

	(void)state;
	for (size_t i = 0; i < COUNT_OF(lengths); i++)
		play_falls("4", lengths[i]);
	reached_end();
}

/* Up and down below high: that is the same episode. */
static void test_pressure_episode_ends_above_high(void **state)
{
	struct scene *s = scene_make("32M", "fake_nodes", "1");
	struct pp_stats st;

	(void)state;
	do {
		assert_true(add(s, 1));
		st = pool_stats(s->pool);
	} while (st.free_pages > st.low_pages - 8);
	assert_int_equal(told(s->fd[PP_PRESSURE_LOW]), 1);
	for (unsigned i = 0; i < 20; i++) {
		for (unsigned k = 0; k < 16; k++)
			pp_free_pages(s->pool, s->run[--s->nr]);
		pp_pool_drain(s->pool);
		for (unsigned k = 0; k < 16; k++)
			assert_true(add(s, 1));
	}
	assert_int_equal(told(s->fd[PP_PRESSURE_LOW]), 0);
	while (st.free_pages <= st.high_pages + 32) {
		pp_free_pages(s->pool, s->run[--s->nr]);
		pp_pool_drain(s->pool);
		st = pool_stats(s->pool);
	}
	assert_int_equal(told(s->fd[PP_PRESSURE_LOW]), 0);
	do {
		assert_true(add(s, 1));
		st = pool_stats(s->pool);
	} while (st.free_pages > st.low_pages - 8);
	assert_int_equal(told(s->fd[PP_PRESSURE_LOW]), 1);
	assert_int_equal(told(s->fd[PP_PRESSURE_MIN]), 0);
	assert_int_equal(st.pressure_low, 2);
	assert_int_equal(st.pressure_min, 0);
	scene_end(s);
	reached_end();
}

/* A buffer that grows where it stands is a fall like any other. */
static void test_pressure_of_a_growing_buffer_is_told(void **state)
{
	struct scene *s = scene_make("16M", "fake_nodes", "1");
	struct pp_stats st = pool_stats(s->pool);
	size_t n = 600;
	void *run = pp_alloc_pages(s->pool, n, 0), *to;

	(void)state;
	while ((uint64_t)n + 16 < (uint64_t)(st.free_pages - st.low_pages)) {
		n += 16;
		to = pp_realloc_pages(s->pool, run, n, 0);
		assert_non_null(to);
		run = to;
		assert_int_equal(told(s->fd[PP_PRESSURE_LOW]), 0);
	}
	run = pp_realloc_pages(s->pool, run, n + 24, 0);
	assert_non_null(run);
	assert_true(pool_stats(s->pool).free_pages <= st.low_pages);
	assert_int_equal(told(s->fd[PP_PRESSURE_LOW]), 1);
	assert_int_equal(told(s->fd[PP_PRESSURE_OOM]), 0);
	pp_free_pages(s->pool, run);
	scene_end(s);
	reached_end();
}

/* Threads: whoever fails, the levels were told by then. */

struct faller {
	struct scene	  *scene;
	void		  *run[MAX_HELD];
	size_t		  nr, nr_pages;
	_Atomic bool	  *over;
	pthread_barrier_t *all_fell;
};

static bool is_readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

static void *fall(void *arg)
{
	struct faller *f = arg;
	struct scene *s = f->scene;

	while (!atomic_load(f->over)) {
		f->run[f->nr] = pp_alloc_pages(s->pool, f->nr_pages, PP_NOWARN);
		if (!f->run[f->nr])
			break;
		f->nr++;
	}
	atomic_store(f->over, true);
	/* A thread that ends gives back its cache: not while others fall. */
	pthread_barrier_wait(f->all_fell);
	return NULL;
}

/*
 * Somebody failed: that is told once.  A fall may begin anew before that, when
 * caches are drained that hid more than what lies between low and high: each
 * time that many pages came back.
 */
static void check_told(struct scene *s, int64_t flushed_pages)
{
	struct pp_stats st = pool_stats(s->pool);
	unsigned long long low = told(s->fd[PP_PRESSURE_LOW]);
	unsigned long long min = told(s->fd[PP_PRESSURE_MIN]);

	assert_int_equal(told(s->fd[PP_PRESSURE_OOM]), 1);
	assert_in_range(min, 1, low);
	assert_true((int64_t)(low - 1) * (st.high_pages - st.low_pages) <=
		    st.flush_pages - flushed_pages);
}

static void test_pressure_is_told_to_many_threads(void **state)
{
	struct scene *s = scene_make("32M", "fake_nodes", "1");
	struct faller *f = test_array(6, sizeof(*f));
	pthread_barrier_t all_fell;
	_Atomic bool over;
	pthread_t thread[6];

	(void)state;
	pthread_barrier_init(&all_fell, NULL, 6);
	for (unsigned round = 0; round < 20; round++) {
		int64_t flushed_pages = pool_stats(s->pool).flush_pages;

		atomic_store(&over, false);
		for (size_t i = 0; i < 6; i++) {
			f[i].scene = s;
			f[i].nr_pages = 1 + 3 * i;
			f[i].over = &over;
			f[i].all_fell = &all_fell;
			pthread_create(&thread[i], NULL, fall, &f[i]);
		}
		for (size_t i = 0; i < 6; i++)
			pthread_join(thread[i], NULL);
		check_told(s, flushed_pages);
		for (size_t i = 0; i < 6; i++) {
			pp_free_bulk(s->pool, f[i].nr, f[i].run);
			f[i].nr = 0;
		}
		pp_pool_drain(s->pool);
	}
	pthread_barrier_destroy(&all_fell);
	free(f);
	scene_end(s);
	reached_end();
}

static void *wait_in_poll(void *arg)
{
	struct pollfd p = { .fd = *(int *)arg, .events = POLLIN };

	thread_check(poll(&p, 1, 60000) == 1);
	return NULL;
}

static void test_pressure_wakes_poll_and_epoll(void **state)
{
	struct scene *s = scene_make("16M", "fake_nodes", "1");
	int ep = epoll_create1(0);
	struct epoll_event ev = { .events = EPOLLIN };
	pthread_t thread;

	(void)state;
	assert_int_equal(epoll_ctl(ep, EPOLL_CTL_ADD, s->fd[1], &ev), 0);
	assert_int_equal(epoll_wait(ep, &ev, 1, 0), 0);
	pthread_create(&thread, NULL, wait_in_poll, &s->fd[0]);
	while (add(s, 1))
		;
	pthread_join(thread, NULL);
	assert_int_equal(epoll_wait(ep, &ev, 1, 10000), 1);
	assert_true(is_readable(s->fd[2]));
	close(ep);
	scene_end(s);
	assert_threads_ok();
	reached_end();
}

/* The number is something else's by now: nothing is written there. */
static void test_pressure_closed_descriptor_is_left_alone(void **state)
{
	struct scene *s = scene_make("16M", "fake_nodes", "1");
	char path[] = "/tmp/pressure_test.XXXXXX";
	int file = mkstemp(path), pipes[2], ep = epoll_create1(0), kept;

	(void)state;
	assert_int_equal(pipe2(pipes, O_NONBLOCK), 0);
	kept = pp_pressure_fd(s->pool, PP_PRESSURE_OOM);
	assert_int_equal(dup2(pipes[1], s->fd[0]), s->fd[0]);
	assert_int_equal(dup2(file, s->fd[1]), s->fd[1]);
	assert_int_equal(dup2(ep, s->fd[2]), s->fd[2]);
	while (add(s, 1))
		;
	assert_false(is_readable(pipes[0]));
	assert_int_equal(lseek(file, 0, SEEK_END), 0);
	assert_int_equal(told(kept), 1);
	/* They were forgotten: there is room for others again. */
	for (unsigned i = 0; i < PP_PRESSURE_MAX_FDS - 1; i++)
		assert_true(pp_pressure_fd(s->pool, PP_PRESSURE_LOW) >= 0);
	assert_int_equal(pp_pressure_fd(s->pool, PP_PRESSURE_LOW), -ENOSPC);
	unlink(path);
	close(file);
	close(pipes[0]);
	close(pipes[1]);
	close(ep);
	scene_end(s);
	reached_end();
}

static void test_pressure_child_of_a_fork_tells_its_parent_nothing(void **state)
{
	struct scene *s = scene_make("16M", "fake_nodes", "1");
	int status, fd;
	pid_t child = fork();

	(void)state;
	if (!child) {
		alarm(60);
		fd = pp_pressure_fd(s->pool, PP_PRESSURE_OOM);
		while (add(s, 1))
			;
		_exit(told(fd) == 1 && pp_pool_check(s->pool) == 0 ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	for (int i = 0; i < NR_LEVELS; i++)
		assert_int_equal(told(s->fd[i]), 0);
	play_fall(s, 1);
	scene_end(s);
	reached_end();
}

/* The signal */

static _Atomic unsigned signals[NR_LEVELS], bad_signals;

static void on_signal(int signal, siginfo_t *info, void *context)
{
	int level = info->si_value.sival_int;

	(void)context;
	if (signal != SIGUSR2 || info->si_code != SI_QUEUE || level < 0 ||
	    level >= NR_LEVELS || info->si_pid != getpid())
		atomic_fetch_add(&bad_signals, 1);
	else
		atomic_fetch_add(&signals[level], 1);
}

static void fall_with_signal(struct scene *s, unsigned expected)
{
	for (int i = 0; i < NR_LEVELS; i++)
		atomic_store(&signals[i], 0);
	while (add(s, 1))
		;
	for (int i = 0; i < NR_LEVELS; i++)
		assert_true(wait_until(signals[i] >= expected, 10000));
	usleep(10000);
	for (int i = 0; i < NR_LEVELS; i++)
		assert_int_equal(signals[i], expected);
	drop_all(s);
}

static void test_pressure_signal_has_the_level_and_never_kills(void **state)
{
	struct scene *s = scene_make("16M", "pressure_signal", "USR2");
	struct sigaction sa = { .sa_sigaction = on_signal,
				.sa_flags = SA_SIGINFO | SA_RESTART };

	(void)state;
	fall_with_signal(s, 0);		/* the default would end us */
	signal(SIGUSR2, SIG_IGN);
	fall_with_signal(s, 0);
	sigaction(SIGUSR2, &sa, NULL);
	fall_with_signal(s, 1);
	fall_with_signal(s, 1);
	assert_int_equal(pp_pool_set(s->pool, "pressure_signal", "0"), 0);
	fall_with_signal(s, 0);
	assert_int_equal(pp_pool_set(s->pool, "pressure_signal", "SIGUSR2"), 0);
	fall_with_signal(s, 1);
	signal(SIGUSR2, SIG_DFL);
	fall_with_signal(s, 0);
	assert_int_equal(pp_pool_set(s->pool, "pressure_signal", "NOPE"),
			 -EINVAL);
	assert_int_equal(bad_signals, 0);
	scene_end(s);
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_pressure_arguments_are_checked),
		TEST(test_pressure_levels_are_told_before_a_failure),
		TEST(test_pressure_of_several_nodes_is_that_of_all),
		TEST(test_pressure_episode_ends_above_high),
		TEST(test_pressure_of_a_growing_buffer_is_told),
		TEST(test_pressure_is_told_to_many_threads),
		TEST(test_pressure_wakes_poll_and_epoll),
		TEST(test_pressure_closed_descriptor_is_left_alone),
		TEST(test_pressure_child_of_a_fork_tells_its_parent_nothing),
		TEST(test_pressure_signal_has_the_level_and_never_kills),
	};

	test_clear_environment();
	return cmocka_run_group_tests_name("pressure", tests, NULL, NULL);
}
