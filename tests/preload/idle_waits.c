/* SPDX-License-Identifier: MIT */
/*
 * A program with one thread that freed a lot and waits: in each function that
 * programs wait in, its memory goes back while it does, and the function does
 * what it does without the pool.  PAGEPOOL_PURGE_DELAY is 1s.
 */
#include "check.h"

#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/time.h>
#include <time.h>

enum {
	BURST_BYTES = 96 << 20,
	CHUNK_BYTES = 20000,
	NR_CHUNKS = BURST_BYTES / CHUNK_BYTES,
	MARGIN_KB = 8 << 10,
	/* The delay, and two seconds more. */
	WAIT_MS = 3000,
	EVENT_MS = 1700,
};

static void *chunk[NR_CHUNKS];

static long resident_kb(void)
{
	char text[4096], *found;
	int fd = open("/proc/self/status", O_RDONLY);
	ssize_t got = read(fd, text, sizeof(text) - 1);

	close(fd);
	REQUIRE(got > 0);
	text[got] = '\0';
	found = strstr(text, "VmRSS:");
	REQUIRE(found);
	return strtol(found + 6, NULL, 10);
}

static double now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Returns what was resident before. */
static long burst(void)
{
	long before_kb = resident_kb();

	for (int i = 0; i < NR_CHUNKS; i++) {
		chunk[i] = malloc(CHUNK_BYTES);
		REQUIRE(chunk[i]);
		memset(chunk[i], 1, CHUNK_BYTES);
	}
	CHECK(resident_kb() > before_kb + (BURST_BYTES >> 10) * 9 / 10);
	for (int i = 0; i < NR_CHUNKS; i++)
		free(chunk[i]);
	CHECK(resident_kb() > before_kb + (BURST_BYTES >> 11));
	return before_kb;
}

/* The ways to wait for WAIT_MS; a descriptor that has nothing to say. */

static void wait_poll(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	CHECK(poll(&p, 1, WAIT_MS) == 0);
}

static void wait_ppoll(int fd)
{
	struct timespec t = { .tv_sec = WAIT_MS / 1000 };
	struct pollfd p = { .fd = fd, .events = POLLIN };
	sigset_t none;

	sigemptyset(&none);
	CHECK(ppoll(&p, 1, &t, &none) == 0);
	CHECK(t.tv_sec == WAIT_MS / 1000 && t.tv_nsec == 0);
}

static void wait_epoll(int fd)
{
	struct epoll_event event = { .events = EPOLLIN };
	int epfd = epoll_create1(EPOLL_CLOEXEC);

	CHECK(epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event) == 0);
	CHECK(epoll_wait(epfd, &event, 1, WAIT_MS) == 0);
	close(epfd);
}

static void wait_epoll_mask(int fd)
{
	struct epoll_event event = { .events = EPOLLIN };
	int epfd = epoll_create1(EPOLL_CLOEXEC);
	sigset_t none;

	sigemptyset(&none);
	CHECK(epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event) == 0);
	CHECK(epoll_pwait(epfd, &event, 1, WAIT_MS, &none) == 0);
	close(epfd);
}

static void wait_select(int fd)
{
	struct timeval t = { .tv_sec = WAIT_MS / 1000 };
	fd_set r;

	FD_ZERO(&r);
	FD_SET(fd, &r);
	CHECK(select(fd + 1, &r, NULL, NULL, &t) == 0);
	CHECK(!FD_ISSET(fd, &r));
	CHECK(t.tv_sec == 0 && t.tv_usec == 0);
}

static void wait_pselect(int fd)
{
	struct timespec t = { .tv_sec = WAIT_MS / 1000 };
	fd_set r;

	FD_ZERO(&r);
	FD_SET(fd, &r);
	CHECK(pselect(fd + 1, &r, NULL, NULL, &t, NULL) == 0);
	CHECK(!FD_ISSET(fd, &r));
	CHECK(t.tv_sec == WAIT_MS / 1000);
}

static void wait_nanosleep(int fd)
{
	struct timespec t = { .tv_sec = WAIT_MS / 1000 };

	(void)fd;
	CHECK(nanosleep(&t, NULL) == 0);
}

static void wait_clock(int fd)
{
	struct timespec t = { .tv_sec = WAIT_MS / 1000 };

	(void)fd;
	CHECK(clock_nanosleep(CLOCK_REALTIME, 0, &t, NULL) == 0);
}

static void wait_until(int fd)
{
	struct timespec t;

	(void)fd;
	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_sec += WAIT_MS / 1000;
	CHECK(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == 0);
}

static void wait_sleep(int fd)
{
	(void)fd;
	CHECK(sleep(WAIT_MS / 1000) == 0);
}

static void wait_usleep(int fd)
{
	(void)fd;
	CHECK(usleep(WAIT_MS * 1000) == 0);
}

/* A service that looks around twenty times a second. */
static void wait_often(int fd)
{
	double until = now_s() + WAIT_MS / 1000;
	struct pollfd p = { .fd = fd, .events = POLLIN };

	while (now_s() < until)
		CHECK(poll(&p, 1, 50) == 0);
}

static void gives_back(const char *name, void (*wait)(int fd))
{
	long before_kb = burst(), after_kb;
	double from = now_s(), took;
	int fds[2];

	REQUIRE(pipe(fds) == 0);
	errno = 77;
	wait(fds[0]);
	CHECK(errno == 77);
	took = now_s() - from;
	CHECK(took >= WAIT_MS / 1000 - 0.0001);
	after_kb = resident_kb();
	if (!CHECK(after_kb <= before_kb + MARGIN_KB))
		check_say("%s: %ld KiB before, %ld after\n", name, before_kb,
			  after_kb);
}

static const struct {
	const char *name;
	void (*wait)(int fd);
} waits[] = {
	{ "poll", wait_poll }, { "ppoll", wait_ppoll },
	{ "epoll_wait", wait_epoll }, { "epoll_pwait", wait_epoll_mask },
	{ "select", wait_select }, { "pselect", wait_pselect },
	{ "nanosleep", wait_nanosleep }, { "clock_nanosleep", wait_clock },
	{ "absolute", wait_until }, { "sleep", wait_sleep },
	{ "usleep", wait_usleep }, { "often", wait_often },
};

#define NR_WAITS ((int)(sizeof(waits) / sizeof(waits[0])))

static void memory_goes_back_while_waiting(void)
{
	pid_t pid[NR_WAITS];

	for (int i = 0; i < NR_WAITS; i++) {
		pid[i] = fork();
		if (!pid[i]) {
			gives_back(waits[i].name, waits[i].wait);
			check_child_exit();
		}
	}
	for (int i = 0; i < NR_WAITS; i++)
		if (!CHECK(check_child(pid[i])))
			check_say("in %s\n", waits[i].name);
	check_end();
}

/* Writes a byte, or sends a signal, while the parent waits. */
static pid_t event_after(int ms, int fd, int signal)
{
	pid_t parent = getpid(), pid = fork();
	struct timespec t = {
		.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000l,
	};

	if (pid)
		return pid;
	nanosleep(&t, NULL);
	if (signal)
		kill(parent, signal);
	else if (write(fd, "", 1) != 1)
		_exit(1);
	_exit(0);
}

static void an_event_ends_the_wait(void)
{
	struct timeval t = { .tv_sec = 60 };
	struct pollfd p = { .events = POLLIN };
	fd_set r, w;
	int fds[2];
	pid_t pid;
	char byte;

	REQUIRE(pipe(fds) == 0);
	p.fd = fds[0];
	burst();
	pid = event_after(EVENT_MS, fds[1], 0);
	CHECK(poll(&p, 1, -1) == 1 && p.revents == POLLIN);
	CHECK(check_child(pid));
	CHECK(read(fds[0], &byte, 1) == 1);

	burst();
	pid = event_after(EVENT_MS, fds[1], 0);
	FD_ZERO(&r);
	FD_ZERO(&w);
	FD_SET(fds[0], &r);
	CHECK(select(fds[1] + 1, &r, &w, NULL, &t) == 1);
	CHECK(FD_ISSET(fds[0], &r));
	CHECK(t.tv_sec >= 50 && t.tv_sec < 60);
	CHECK(check_child(pid));
	check_end();
}

static void on_signal(int signal)
{
	(void)signal;
}

static void a_signal_ends_the_wait(void)
{
	struct sigaction action = { .sa_handler = on_signal };
	struct timespec t = { .tv_sec = 60 }, left = { 0, 0 };
	struct pollfd p = { .fd = -1 };
	sigset_t usr1, before;
	pid_t pid;

	REQUIRE(sigaction(SIGUSR1, &action, NULL) == 0);
	burst();
	pid = event_after(EVENT_MS, -1, SIGUSR1);
	errno = 0;
	CHECK(nanosleep(&t, &left) == -1 && errno == EINTR);
	CHECK(left.tv_sec >= 50 && left.tv_sec < 60);
	CHECK(check_child(pid));

	burst();
	pid = event_after(EVENT_MS, -1, SIGUSR1);
	CHECK(sleep(60) >= 50);
	CHECK(check_child(pid));

	/* Blocked but for the wait, which it must not miss between parts. */
	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	CHECK(sigprocmask(SIG_BLOCK, &usr1, &before) == 0);
	burst();
	pid = event_after(EVENT_MS, -1, SIGUSR1);
	errno = 0;
	CHECK(ppoll(&p, 1, NULL, &before) == -1 && errno == EINTR);
	CHECK(check_child(pid));
	check_end();
}

/* What the functions refuse, they refuse as before. */
static void wrong_arguments_are_refused(void)
{
	struct timespec bad = { .tv_nsec = -1 };
	struct timeval never = { .tv_sec = -1 };
	struct pollfd p = { .fd = 9999, .events = POLLIN };
	struct epoll_event event;

	burst();
	errno = 0;
	CHECK(nanosleep(&bad, NULL) == -1 && errno == EINVAL);
	CHECK(clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &bad, NULL) ==
	      EINVAL);
	errno = 0;
	CHECK(select(0, NULL, NULL, NULL, &never) == -1 && errno == EINVAL);
	errno = 0;
	CHECK(pselect(0, NULL, NULL, NULL, &bad, NULL) == -1 &&
	      errno == EINVAL);
	errno = 0;
	CHECK(ppoll(&p, 1, &bad, NULL) == -1 && errno == EINVAL);
	CHECK(poll(&p, 1, WAIT_MS) == 1 && p.revents == POLLNVAL);
	errno = 0;
	CHECK(epoll_wait(-1, &event, 1, WAIT_MS) == -1 && errno == EBADF);
	check_end();
}

static const struct check_case cases[] = {
	{ "memory-goes-back-while-waiting", memory_goes_back_while_waiting },
	{ "an-event-ends-the-wait", an_event_ends_the_wait },
	{ "a-signal-ends-the-wait", a_signal_ends_the_wait },
	{ "wrong-arguments-are-refused", wrong_arguments_are_refused },
};

CHECK_MAIN(cases)
