// SPDX-License-Identifier: MIT
/*
 * What the storms share: the pool's own numbers, by dlsym, because a program
 * of others is not linked with us; the threads that the kernel knows; and a
 * watchdog, which says where everybody is when nothing happens any more.
 *
 * PP_TEST_SCALE: percent of the full size, for a quick run (100).
 */
#ifndef STORM_H
#define STORM_H

#include "check.h"
#include <dlfcn.h>
#include <execinfo.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>

#include <pagepool/stat.h>

#define STORM_RECLAIMD "pp-reclaimd"
#define STORM_WATCH "pp-watch"
/* Two drains are at least 1 ms apart. */
#define STORM_DRAINS_PER_S 1000

static inline size_t storm_scale(size_t full)
{
	const char *text = getenv("PP_TEST_SCALE");
	size_t percent = text && *text ? strtoull(text, NULL, 10) : 100;
	size_t n = full * percent / 100;

	return n ? n : 1;
}

static inline uint64_t storm_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline void storm_nap_us(unsigned us)
{
	struct timespec t = { us / 1000000, us % 1000000 * 1000L };

	while (nanosleep(&t, &t) && errno == EINTR)
		;
}

/* xorshift64; a state is never 0 */
static inline uint64_t storm_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* Printed once, and taken from PP_TEST_SEED to repeat a run. */
static inline uint64_t storm_seed(void)
{
	const char *given = getenv("PP_TEST_SEED");
	uint64_t seed = given ? strtoull(given, NULL, 0) : storm_now_ns();

	check_say("PP_TEST_SEED=%llu\n", (unsigned long long)seed);
	return seed ? seed : 1;
}

/* The pool */

/* For cases about what only the pool promises. */
static inline void storm_needs_pool(void)
{
	if (!on_pagepool())
		check_skip("libc promises nothing of the kind");
}

static inline void *storm_symbol(const char *name)
{
	void *found = dlsym(RTLD_DEFAULT, name);

	if (!found)
		check_say("%s is not there\n", name);
	REQUIRE(found != NULL);
	return found;
}

static inline struct pp_pool *storm_pool(void)
{
	struct pp_pool *(*get)(void);

	*(void **)&get = storm_symbol("pp_pool_default");
	return get();
}

static inline struct pp_stats storm_stats(void)
{
	struct pp_stats s = { .struct_bytes = sizeof(s) };
	int (*snapshot)(struct pp_pool *, struct pp_stats *);

	if (!on_pagepool())
		return s;
	*(void **)&snapshot = storm_symbol("pp_stat_snapshot");
	CHECK(snapshot(storm_pool(), &s) == 0);
	return s;
}

static inline int storm_pool_call(const char *name)
{
	int (*call)(struct pp_pool *);

	if (!on_pagepool())
		return 0;
	*(void **)&call = storm_symbol(name);
	return call(storm_pool());
}

/* Pages that are neither free nor cached, with the caches of all threads
 * emptied. */
static inline int64_t storm_used_pages(void)
{
	struct pp_stats s;

	if (!on_pagepool())
		return 0;
	CHECK(storm_pool_call("pp_pool_drain") == 0);
	s = storm_stats();
	CHECK(s.cached_pages == 0);
	CHECK(s.free_pages + s.used_pages + s.isolated_pages +
	      s.reserved_pages == s.managed_pages);
	return s.used_pages;
}

/* The kernel's threads; nothing here allocates */

struct storm_dirent {
	uint64_t ino;
	int64_t off;
	unsigned short reclen;
	unsigned char type;
	char name[];
};

/* Calls @each for every thread of this process; how many there are. */
static inline unsigned storm_each_task(void (*each)(pid_t, void *), void *arg)
{
	int fd = open("/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_Alignas(8) char buf[2048];
	unsigned nr = 0;
	long got;

	if (fd < 0)
		return 0;
	while ((got = syscall(SYS_getdents64, fd, buf, sizeof(buf))) > 0) {
		for (long at = 0; at < got;) {
			struct storm_dirent *d = (void *)(buf + at);

			at += d->reclen;
			if (d->name[0] == '.')
				continue;
			nr++;
			if (each)
				each((pid_t)strtol(d->name, NULL, 10), arg);
		}
	}
	close(fd);
	return nr;
}

static inline unsigned storm_nr_tasks(void)
{
	return storm_each_task(NULL, NULL);
}

/* A file of one thread in /proc/self/task, without its last newline. */
static inline bool storm_task_file(pid_t tid, const char *name, char *text,
				   size_t size)
{
	char path[64];
	ssize_t got;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/task/%d/%s", (int)tid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	got = fd < 0 ? -1 : read(fd, text, size - 1);
	if (fd >= 0)
		close(fd);
	text[got > 0 ? got : 0] = '\0';
	if (got > 0 && text[got - 1] == '\n')
		text[got - 1] = '\0';
	return got > 0;
}

struct storm_found {
	const char *name;
	unsigned nr;
	pid_t tid;
};

static inline void storm_is_named(pid_t tid, void *arg)
{
	struct storm_found *found = arg;
	char comm[32];

	if (storm_task_file(tid, "comm", comm, sizeof(comm)) &&
	    !strcmp(comm, found->name)) {
		found->nr++;
		found->tid = tid;
	}
}

static inline struct storm_found storm_find(const char *name)
{
	struct storm_found found = { name, 0, 0 };

	storm_each_task(storm_is_named, &found);
	return found;
}

static inline struct storm_found storm_find_reclaimd(void)
{
	return storm_find(STORM_RECLAIMD);
}

/* But for the one that watches: whether there is one depends on the system. */
static inline unsigned storm_nr_others(void)
{
	return storm_nr_tasks() - storm_find(STORM_WATCH).nr;
}

/* Threads that were joined may be listed for a moment longer, and one that was
 * just made has not named itself: within five seconds it must be so.  The watch
 * does not count. */
static inline bool storm_tasks_become(unsigned nr_tasks, unsigned nr_reclaimd)
{
	uint64_t deadline = storm_now_ns() + 5000000000ull;

	while (storm_nr_others() != nr_tasks ||
	       storm_find_reclaimd().nr != nr_reclaimd) {
		if (storm_now_ns() > deadline) {
			check_say("%u threads, %u of them reclaimd\n",
				  storm_nr_others(), storm_find_reclaimd().nr);
			return false;
		}
		storm_nap_us(1000);
	}
	return true;
}

/* The watchdog */

#define STORM_CHILD_S	60	/* a child that hangs */
#define STORM_STALL_S	90	/* nothing happened for so long */
#define STORM_END_S	240	/* less than the scripts allow */
#define STORM_LOOK_MS	250

static unsigned long storm_progress;	/* things done, by anybody */
static sem_t storm_over, storm_rate_over, storm_told;
static pthread_t storm_watcher, storm_rate_watcher;

static inline void storm_done_one(void)
{
	__atomic_add_fetch(&storm_progress, 1, __ATOMIC_RELAXED);
}

static inline void storm_print_stack(int signal)
{
	void *frame[40];
	int saved = errno;

	(void)signal;
	backtrace_symbols_fd(frame, backtrace(frame, 40), STDOUT_FILENO);
	sem_post(&storm_told);
	errno = saved;
}

/* A child has no watchdog: its alarm is one. */
static inline void storm_child_hangs(int signal)
{
	check_say("child %d is not done after %d s\n", (int)getpid(),
		  STORM_CHILD_S);
	storm_print_stack(signal);
	_exit(82);
}

/* The first thing that a child does. */
static inline void storm_child_begin(void)
{
	struct sigaction action = { .sa_handler = storm_child_hangs };

	__atomic_store_n(&check_nr_failed, 0, __ATOMIC_RELAXED);
	sigaction(SIGALRM, &action, NULL);
	alarm(STORM_CHILD_S);
	CHECK(storm_nr_tasks() == 1);
}

static inline void storm_tell_one(pid_t tid, void *unused)
{
	char comm[32], call[128], wchan[64];
	struct timespec soon;

	(void)unused;
	storm_task_file(tid, "comm", comm, sizeof(comm));
	storm_task_file(tid, "syscall", call, sizeof(call));
	storm_task_file(tid, "wchan", wchan, sizeof(wchan));
	check_say("--- %d %s, in %s, system call %s\n", (int)tid, comm, wchan,
		  call);
	if (!strcmp(comm, STORM_RECLAIMD) || !strcmp(comm, STORM_WATCH) ||
	    tid == syscall(SYS_gettid))
		return;
	syscall(SYS_tgkill, getpid(), tid, SIGUSR2);
	clock_gettime(CLOCK_REALTIME, &soon);
	soon.tv_sec++;
	while (sem_timedwait(&storm_told, &soon) && errno == EINTR)
		;
	/* Its children, who have the same handler. */
	storm_task_file(tid, "children", call, sizeof(call));
	for (char *at = call; *at;) {
		long child = strtol(at, &at, 10);

		at += *at == ' ';
		check_say("--- its child %ld\n", child);
		if (child <= 0)
			break;
		kill((pid_t)child, SIGUSR2);
		storm_nap_us(300000);
	}
}

/* In any window, one drain that began before it may end in it. */
static inline void storm_check_rate(int64_t nr_drains, uint64_t ns)
{
	int64_t most = (int64_t)(ns * STORM_DRAINS_PER_S / 1000000000u) + 2;

	if (!CHECK(nr_drains <= most))
		check_say("%lld drains in %llu ns\n", (long long)nr_drains,
			  (unsigned long long)ns);
}

static inline bool storm_is_over(sem_t *over)
{
	struct timespec then;

	clock_gettime(CLOCK_REALTIME, &then);
	then.tv_nsec += STORM_LOOK_MS * 1000000L;
	then.tv_sec += then.tv_nsec / 1000000000L;
	then.tv_nsec %= 1000000000L;
	return sem_timedwait(over, &then) == 0;
}

static inline void *storm_watch_rate(void *unused)
{
	uint64_t looked = storm_now_ns(), before, after;
	int64_t drains = storm_stats().drains, seen;

	while (!storm_is_over(&storm_rate_over)) {
		/* From before the first look until after the second. */
		before = storm_now_ns();
		seen = storm_stats().drains;
		after = storm_now_ns();
		storm_check_rate(seen - drains, after - looked);
		drains = seen;
		looked = before;
	}
	return unused;
}

/* Asks the pool nothing: that may be what hangs. */
static inline void *storm_watch(void *unused)
{
	uint64_t start = storm_now_ns(), moved = start, now;
	unsigned long progress = __atomic_load_n(&storm_progress,
						 __ATOMIC_RELAXED);

	while (!storm_is_over(&storm_over)) {
		now = storm_now_ns();
		if (storm_progress != progress)
			moved = now;
		progress = storm_progress;
		if (now - moved < STORM_STALL_S * 1000000000ull &&
		    now - start < STORM_END_S * 1000000000ull)
			continue;
		check_say("nothing done for %llu s, started %llu s ago\n",
			  (unsigned long long)((now - moved) / 1000000000u),
			  (unsigned long long)((now - start) / 1000000000u));
		storm_each_task(storm_tell_one, NULL);
		_exit(1);
	}
	return unused;
}

static inline void storm_watch_start(void)
{
	struct sigaction action = { .sa_handler = storm_print_stack };
	void *frame[2];

	/* The first call loads a library. */
	backtrace(frame, 2);
	action.sa_flags = SA_RESTART;
	sigaction(SIGUSR2, &action, NULL);
	sem_init(&storm_over, 0, 0);
	sem_init(&storm_rate_over, 0, 0);
	sem_init(&storm_told, 0, 0);
	REQUIRE(!pthread_create(&storm_watcher, NULL, storm_watch, NULL));
	REQUIRE(!pthread_create(&storm_rate_watcher, NULL, storm_watch_rate,
				NULL));
}

static inline void storm_watch_end(void)
{
	sem_post(&storm_rate_over);
	pthread_join(storm_rate_watcher, NULL);
	sem_post(&storm_over);
	pthread_join(storm_watcher, NULL);
}

#endif /* STORM_H */
