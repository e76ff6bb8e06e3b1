// SPDX-License-Identifier: MIT
/*
 * The thread that watches what is outside: pressure, by the protocol of
 * systemd with this program in its part, and the limit of the container.
 *
 * WATCH_GROUP: the folder of the program's memory group, whose limit the cases
 * limit_* may change; it is 256M when they begin.  The other cases find in the
 * environment what watch.test gave them.
 */
#include "filter.h"
#include "storm.h"
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define MIB		(1024l * 1024)
/* A changed limit is to be noticed at once; this is for a busy machine. */
#define SOON_NS		3000000000u
#define LIMIT_PAGES(mib) ((mib) * MIB / 4096)

static pthread_t sleeper;
static int sleeper_pipe[2];

static void *sleep_there(void *arg)
{
	char byte;

	if (read(sleeper_pipe[0], &byte, 1) < 0)
		return arg;
	return NULL;
}

/* With the program's first thread come the pool's. */
static void make_thread(void)
{
	REQUIRE(pipe2(sleeper_pipe, O_CLOEXEC) == 0);
	REQUIRE(pthread_create(&sleeper, NULL, sleep_there, NULL) == 0);
}

/* Until it is so, or too late. */
#define SOON(cond) do { \
	uint64_t deadline_ns = storm_now_ns() + SOON_NS; \
	while (!(cond) && storm_now_ns() < deadline_ns) \
		storm_nap_us(5000); \
	CHECK(cond); \
} while (0)

static long events(void)
{
	return (long)storm_stats().pressure_events;
}

/* The watch has looked for the first time, a tenth of a second after its
 * start. */
static void await_watch(void)
{
	SOON(storm_find(STORM_WATCH).nr == 1);
	storm_nap_us(300000);
}

/* Pressure */

static const char *watched_path(void)
{
	const char *path = getenv("MEMORY_PRESSURE_WATCH");

	storm_needs_pool();
	if (!path)
		check_skip("nobody says what is to be watched");
	return path;
}

static void open_fifo_for(int *fd)
{
	*fd = open(watched_path(), O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	CHECK(*fd >= 0);
}

static void fifo(void)
{
	uint64_t until_ns;
	int fd;

	watched_path();
	make_thread();
	await_watch();
	CHECK(events() == 0);
	open_fifo_for(&fd);
	CHECK(write(fd, "x", 1) == 1);
	SOON(events() == 1);
	/* Over and over: one a second, and what comes between is one. */
	until_ns = storm_now_ns() + 2500000000u;
	while (storm_now_ns() < until_ns) {
		CHECK(write(fd, "x", 1) == 1);
		storm_nap_us(20000);
	}
	CHECK(events() >= 3 && events() <= 4);
	close(fd);
	/* Whoever writes has gone, and another comes. */
	storm_nap_us(1500000);
	CHECK(events() <= 5);
	until_ns = (uint64_t)events();
	open_fifo_for(&fd);
	CHECK(write(fd, "x", 1) == 1);
	SOON((uint64_t)events() == until_ns + 1);
	check_end();
}

/* What the FIFO at its end costs: the case before has a writer. */
static void fifo_costs_nothing(void)
{
	struct timespec before, after;
	int fd;

	watched_path();
	make_thread();
	await_watch();
	open_fifo_for(&fd);
	CHECK(write(fd, "x", 1) == 1);
	close(fd);
	SOON(events() == 1);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
	storm_nap_us(2000000);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
	CHECK((after.tv_sec - before.tv_sec) * 1000 +
	      (after.tv_nsec - before.tv_nsec) / 1000000 < 20);
	CHECK(events() == 1);
	check_end();
}

static int listener = -1;

static void listen_there(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	REQUIRE(strlen(watched_path()) < sizeof(address.sun_path));
	strcpy(address.sun_path, watched_path());
	unlink(address.sun_path);
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	REQUIRE(bind(listener, (struct sockaddr *)&address,
		     sizeof(address)) == 0);
	REQUIRE(listen(listener, 8) == 0);
}

/* Somebody has come, and said what MEMORY_PRESSURE_WRITE says. */
static int accept_watch(void)
{
	struct pollfd p = { .fd = listener, .events = POLLIN };
	char text[8] = "";
	int fd;

	REQUIRE(poll(&p, 1, 4000) == 1);
	fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	CHECK(fd >= 0);
	CHECK(read(fd, text, sizeof(text)) == 5);
	CHECK(memcmp(text, "a\0b\0c", 5) == 0);
	return fd;
}

static void unix_socket(void)
{
	int fd;

	listen_there();
	make_thread();
	fd = accept_watch();
	CHECK(events() == 0);
	CHECK(write(fd, "x", 1) == 1);
	SOON(events() == 1);
	storm_nap_us(1200000);
	CHECK(events() == 1);
	CHECK(write(fd, "hello", 5) == 5);
	SOON(events() == 2);
	/* The other side comes back. */
	close(fd);
	fd = accept_watch();
	CHECK(write(fd, "x", 1) == 1);
	SOON(events() == 3);
	close(fd);
	check_end();
}

/* The program may do no more than it needs, or it is killed: that holds for its
 * other threads too. */
static void confined(void)
{
	static const int calls[] = {
		SYS_openat, SYS_socket, SYS_connect, SYS_faccessat,
		SYS_newfstatat, SYS_inotify_init1,
	};
	int fd;

	listen_there();
	make_thread();
	fd = accept_watch();
	if (!filter_calls_by(calls, sizeof(calls) / sizeof(calls[0]),
			     SECCOMP_RET_KILL_PROCESS))
		check_skip("seccomp filters are not allowed here");
	/* What is open is heard; what is gone is not looked for. */
	CHECK(write(fd, "x", 1) == 1);
	SOON(events() == 1);
	close(fd);
	storm_nap_us(3000000);
	check_end();
}

static void child_hears(void)
{
	make_thread();
	SOON(events() == 2);
	CHECK(storm_find(STORM_WATCH).nr == 1);
	check_child_exit();
}

/* The child has no thread of ours; with its first it listens by itself. */
static void fork_hears(void)
{
	int fd, child_fd;
	pid_t child;

	listen_there();
	make_thread();
	fd = accept_watch();
	CHECK(write(fd, "x", 1) == 1);
	SOON(events() == 1);
	child = fork();
	if (!child)
		check_child_exit();
	CHECK(check_child(child));
	child = fork();
	if (!child) {
		CHECK(storm_find(STORM_WATCH).nr == 0);
		CHECK(events() == 1);
		child_hears();
	}
	child_fd = accept_watch();
	CHECK(write(child_fd, "x", 1) == 1);
	CHECK(check_child(child));
	CHECK(events() == 1);
	CHECK(write(fd, "x", 1) == 1);
	SOON(events() == 2);
	close(child_fd);
	check_end();
}

static void nothing_to_watch(void)
{
	watched_path();
	CHECK(storm_find(STORM_WATCH).nr == 0);
	make_thread();
	storm_nap_us(200000);
	CHECK(storm_find_reclaimd().nr == 1);
	CHECK(storm_find(STORM_WATCH).nr == 0);
	CHECK(events() == 0);
	check_end();
}

/* Somebody else makes memory short.  WATCH_LOAD: this program does, in a group
 * that slows it down. */
static void hears(void)
{
	uint64_t deadline_ns = storm_now_ns() + 20000000000u;
	bool load = getenv("WATCH_LOAD") != NULL;
	char *block;

	storm_needs_pool();
	make_thread();
	await_watch();
	while (!events() && storm_now_ns() < deadline_ns) {
		storm_nap_us(load ? 1000 : 50000);
		block = load ? malloc(100000) : NULL;
		if (block)
			memset(opaque_ptr(block), 1, 100000);
	}
	CHECK(events() > 0);
	check_end();
}

/* Descriptors */

/* As a daemon does.  It gets the numbers that it counts on, and the watch goes
 * on. */
static void daemon_closes_all(void)
{
	int fd, log_fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 1024), i;

	watched_path();
	if (log_fd < 0)
		check_skip("too few descriptors");
	make_thread();
	await_watch();
	for (i = 0; i < 1024; i++)
		close(i);
	for (i = 0; i < 3; i++)
		if (open("/dev/null", O_RDWR) != i)
			_exit(3);
	dup2(log_fd, STDOUT_FILENO);
	open_fifo_for(&fd);
	CHECK(fd == 3);
	CHECK(write(fd, "x", 1) == 1);
	SOON(events() == 1);
	check_end();
}

/* The last writer is the program's: its end is the end. */
static void pipe_ends(void)
{
	struct pollfd p = { .events = POLLIN };
	int fds[2];
	char byte;

	storm_needs_pool();
	REQUIRE(pipe2(fds, O_CLOEXEC) == 0);
	make_thread();
	await_watch();
	p.fd = fds[0];
	CHECK(poll(&p, 1, 0) == 0);
	close(fds[1]);
	CHECK(poll(&p, 1, 1000) == 1 && p.revents == POLLHUP);
	CHECK(read(fds[0], &byte, 1) == 0);
	/* And the next numbers are the lowest. */
	close(fds[0]);
	CHECK(dup(STDOUT_FILENO) == fds[0]);
	check_end();
}

/* Exit */

static void *return_at_once(void *arg)
{
	return arg;
}

static void exits_at_once(void)
{
	pthread_t thread;
	int i, way;
	pid_t child;

	storm_needs_pool();
	for (i = 0; i < 300; i++) {
		way = i % 3;
		child = fork();
		if (!child) {
			CHECK(!pthread_create(&thread, NULL, return_at_once,
					      NULL));
			if (way == 1)
				pthread_exit(NULL);
			if (way == 2)
				exit(0);
			_exit(0);
		}
		CHECK(check_child(child));
	}
	check_end();
}

/* The last of the program's threads ends long after main() and the start of
 * ours: they do not count. */
static void main_leaves(void)
{
	uint64_t begin_ns = storm_now_ns();
	pid_t child = fork();

	storm_needs_pool();
	if (!child) {
		make_thread();
		await_watch();
		CHECK(write(sleeper_pipe[1], "x", 1) == 1);
		pthread_exit(NULL);
	}
	CHECK(check_child(child));
	CHECK(storm_now_ns() - begin_ns < 2 * SOON_NS);
	check_end();
}

/* The container's limit */

static int open_limit(void)
{
	static const char *const name[] = { "memory.max",
					    "memory.limit_in_bytes" };
	const char *group = getenv("WATCH_GROUP");
	char path[4200];
	int fd = -1;
	size_t i;

	if (!group)
		check_skip("no control group to change");
	for (i = 0; i < 2 && fd < 0; i++) {
		snprintf(path, sizeof(path), "%s/%s", group, name[i]);
		fd = open(path, O_WRONLY | O_CLOEXEC);
	}
	REQUIRE(fd >= 0);
	return fd;
}

static void write_limit_to(int fd, long mib)
{
	char text[32];

	snprintf(text, sizeof(text), "%ldM\n", mib);
	CHECK(pwrite(fd, text, strlen(text), 0) == (ssize_t)strlen(text));
}

static void write_limit(long mib)
{
	int fd = open_limit();

	write_limit_to(fd, mib);
	close(fd);
}

static long limit_pages(void)
{
	return (long)storm_stats().limit_pages;
}

/* An eighth is left to others, at least 16M. */
static long auto_pages(long mib)
{
	long others = mib / 8 > 16 ? mib / 8 : 16;

	return LIMIT_PAGES(mib - others);
}

/* Writes it, and says how long the pool takes. */
static void change_limit(long mib)
{
	uint64_t begin_ns = storm_now_ns();

	write_limit(mib);
	SOON(limit_pages() == auto_pages(mib));
	check_say("# %ld MiB after %llu ms\n", mib, (unsigned long long)
		  (storm_now_ns() - begin_ns) / 1000000);
}

static void set(const char *name, const char *value, int expected)
{
	int (*pool_set)(struct pp_pool *, const char *, const char *);

	*(void **)&pool_set = storm_symbol("pp_pool_set");
	CHECK(pool_set(storm_pool(), name, value) == expected);
}

static void limit_follows(void)
{
	size_t i;

	storm_needs_pool();
	write_limit(256);
	CHECK(limit_pages() == auto_pages(256));
	make_thread();
	await_watch();
	CHECK(limit_pages() == auto_pages(256));
	for (i = 0; i < 3; i++) {
		change_limit(384);
		change_limit(160);
	}
	change_limit(256);
	check_end();
}

/* More is used than the new limit allows. */
static void limit_below_what_is_used(void)
{
	enum { NR_BLOCKS = 150, NR_FREED = 15 };
	static void *block[NR_BLOCKS];
	long low, used;
	size_t i;

	storm_needs_pool();
	write_limit(256);
	make_thread();
	await_watch();
	/* Not touched: the group has room. */
	for (i = 0; i < NR_BLOCKS; i++)
		CHECK((block[i] = malloc(MIB)));
	used = (long)storm_stats().used_pages;
	write_limit(128);
	SOON(limit_pages() < used + LIMIT_PAGES(2));
	low = limit_pages();
	CHECK(low > auto_pages(128));
	CHECK_FAILS(malloc(4 * MIB), ENOMEM);
	/* What is freed does not come back. */
	for (i = 0; i < NR_FREED; i++)
		free(block[i]);
	SOON(limit_pages() <= low - LIMIT_PAGES(NR_FREED - 1));
	CHECK_FAILS(malloc(4 * MIB), ENOMEM);
	CHECK(limit_pages() > auto_pages(128));
	for (; i < NR_BLOCKS; i++)
		free(block[i]);
	SOON(limit_pages() == auto_pages(128));
	free(malloc(90 * MIB));
	change_limit(256);
	check_end();
}

/* A limit that somebody has set is not the container's. */
static void limit_that_is_set(void)
{
	storm_needs_pool();
	write_limit(256);
	make_thread();
	await_watch();
	set("limit", "64M", 0);
	write_limit(384);
	storm_nap_us(500000);
	CHECK(limit_pages() == LIMIT_PAGES(64));
	set("limit", "auto", 0);
	CHECK(limit_pages() == auto_pages(384));
	change_limit(320);
	set("limit", "64M", 0);
	set("limit", "auto", 0);
	CHECK(limit_pages() == auto_pages(320));
	change_limit(256);
	check_end();
}

/* At another root there are no groups: that is not to have no limit. */
static void limit_at_another_root(void)
{
	int fd;

	storm_needs_pool();
	write_limit(256);
	fd = open_limit();
	make_thread();
	await_watch();
	if (chroot("/dev"))
		check_skip("chroot is not permitted");
	write_limit_to(fd, 384);
	storm_nap_us(500000);
	CHECK(limit_pages() == auto_pages(256));
	write_limit_to(fd, 256);
	check_end();
}

static const struct check_case cases[] = {
	{ "fifo", fifo },
	{ "fifo_costs_nothing", fifo_costs_nothing },
	{ "daemon_closes_all", daemon_closes_all },
	{ "unix_socket", unix_socket },
	{ "confined", confined },
	{ "fork_hears", fork_hears },
	{ "nothing_to_watch", nothing_to_watch },
	{ "hears", hears },
	{ "pipe_ends", pipe_ends },
	{ "exits_at_once", exits_at_once },
	{ "main_leaves", main_leaves },
	{ "limit_follows", limit_follows },
	{ "limit_below_what_is_used", limit_below_what_is_used },
	{ "limit_that_is_set", limit_that_is_set },
	{ "limit_at_another_root", limit_at_another_root },
};

CHECK_MAIN(cases)
