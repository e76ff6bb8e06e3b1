/* SPDX-License-Identifier: MIT */
/*
 * idle.c - what a program with one thread does for its pool while it waits.
 *
 * It has no background thread, and one that has freed a lot and then waits for
 * its next request makes no call that could give memory back.  So the functions
 * in which programs wait are stood in front of: a wait is cut where something
 * is due, that is done, and the rest is waited for.  The program sees one wait.
 * A signal ends it as before, since each part is a call of libc's function
 * with the caller's mask.
 *
 * With a background thread, or nothing to give back, it is a call of libc's
 * function after two loads.  What cannot be cut, a read or a wait for a child,
 * is not stood in front of.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <time.h>
#include <unistd.h>

#include "os/os.h"
#include "preload.h"

#define FOREVER_NS	UINT64_MAX
#define NS_PER_MS	1000000ull
#define NS_PER_US	1000ull
#define NS_PER_S	1000000000ull

/* name, result, parameters, arguments */
#define IDLE_FUNCTIONS(X) \
	X(poll, int, (struct pollfd *fds, nfds_t nr, int timeout), \
	  (fds, nr, timeout)) \
	X(__poll_chk, int, (struct pollfd *fds, nfds_t nr, int timeout, \
	  size_t bytes), (fds, nr, timeout, bytes)) \
	X(ppoll, int, (struct pollfd *fds, nfds_t nr, \
	  const struct timespec *timeout, const sigset_t *mask), \
	  (fds, nr, timeout, mask)) \
	X(__ppoll_chk, int, (struct pollfd *fds, nfds_t nr, \
	  const struct timespec *timeout, const sigset_t *mask, \
	  size_t bytes), (fds, nr, timeout, mask, bytes)) \
	X(epoll_wait, int, (int fd, struct epoll_event *events, int nr, \
	  int timeout), (fd, events, nr, timeout)) \
	X(epoll_pwait, int, (int fd, struct epoll_event *events, int nr, \
	  int timeout, const sigset_t *mask), (fd, events, nr, timeout, mask)) \
	X(select, int, (int nr, fd_set *r, fd_set *w, fd_set *x, \
	  struct timeval *timeout), (nr, r, w, x, timeout)) \
	X(pselect, int, (int nr, fd_set *r, fd_set *w, fd_set *x, \
	  const struct timespec *timeout, const sigset_t *mask), \
	  (nr, r, w, x, timeout, mask)) \
	X(nanosleep, int, (const struct timespec *want, \
	  struct timespec *left), (want, left)) \
	X(clock_nanosleep, int, (clockid_t clock, int flags, \
	  const struct timespec *want, struct timespec *left), \
	  (clock, flags, want, left))

#define X(name, result, params, args) \
	typedef result name##_fn params; \
	static name##_fn *real_##name; \
	PP_EXPORT name##_fn name;
IDLE_FUNCTIONS(X)
#undef X

/* Once, and again where another library was initialised before us. */
void preload_find_waits(void)
{
#define X(name, result, params, args) \
	*(void **)&real_##name = preload_next_symbol(#name, (void *)name);
	IDLE_FUNCTIONS(X)
#undef X
}

#define FIND_REAL(name) \
	do { \
		if (unlikely(!real_##name)) \
			preload_find_waits(); \
	} while (0)

/* A wait that is cut into parts */

struct wait {
	struct pp_pool	*pool;		/* NULL: nothing is due, ever */
	uint64_t	until_ns;	/* or FOREVER_NS */
	uint64_t	part_ns;	/* of what comes next */
};

/* The pool, if somebody has to look after it while the thread waits. */
static struct pp_pool *neglected_pool(void)
{
	struct pp_pool *pool = preload_pool_if_made();

	if (!pool || load_relaxed(&pool->zones->has_reclaimd) ||
	    pool_is_nested(pool))
		return NULL;
	return pool;
}

static struct wait wait_begin(uint64_t for_ns)
{
	struct wait wait = { .until_ns = FOREVER_NS };

	/* A look around is no wait. */
	wait.pool = for_ns ? neglected_pool() : NULL;
	if (wait.pool && for_ns != FOREVER_NS)
		wait.until_ns = os_now_ns() + for_ns;
	return wait;
}

/*
 * Is there a part to wait before the rest?  Its end is when there is something
 * to do again.  As many parts as the delay has slots, and some.
 */
static bool wait_part(struct wait *wait)
{
	uint64_t now, due_ns;

	if (!wait->pool)
		return false;
	due_ns = slowpath_idle(&wait->pool->registry);
	now = os_now_ns();
	wait->part_ns = due_ns;
	return due_ns != FOREVER_NS && now < wait->until_ns &&
	       due_ns < wait->until_ns - now;
}

#define for_each_part(wait)	while (wait_part(wait))

/* Is the rest what the caller asked for? */
static bool is_as_it_is(const struct wait *wait)
{
	return !wait->pool || wait->until_ns == FOREVER_NS;
}

/* What is left after the parts; @for_ns if there were none. */
static uint64_t wait_rest_ns(const struct wait *wait, uint64_t for_ns)
{
	uint64_t now;

	if (is_as_it_is(wait))
		return for_ns;
	now = os_now_ns();
	return wait->until_ns > now ? wait->until_ns - now : 0;
}

static int ms_up(uint64_t ns)
{
	return (int)((ns + NS_PER_MS - 1) / NS_PER_MS);
}

static uint64_t from_ms(int ms)
{
	return ms < 0 ? FOREVER_NS : (uint64_t)ms * NS_PER_MS;
}

/* What libc refuses is no wait: it is passed on as it is. */
static uint64_t from_timespec(const struct timespec *ts)
{
	if (!ts)
		return FOREVER_NS;
	if (ts->tv_sec < 0 || ts->tv_nsec < 0 || ts->tv_nsec >= 1000000000)
		return 0;
	if ((uint64_t)ts->tv_sec > FOREVER_NS / NS_PER_S / 2)
		return FOREVER_NS;
	return (uint64_t)ts->tv_sec * NS_PER_S + (uint64_t)ts->tv_nsec;
}

static struct timespec to_timespec(uint64_t ns)
{
	return (struct timespec){
		.tv_sec = (time_t)(ns / NS_PER_S),
		.tv_nsec = (long)(ns % NS_PER_S),
	};
}

/* Waiting for descriptors */

int poll(struct pollfd *fds, nfds_t nr, int timeout)
{
	struct wait wait = wait_begin(from_ms(timeout));
	int got;

	FIND_REAL(poll);
	for_each_part(&wait) {
		got = real_poll(fds, nr, ms_up(wait.part_ns));
		if (got)
			return got;
	}
	return real_poll(fds, nr, timeout < 0 ? timeout :
			 ms_up(wait_rest_ns(&wait, from_ms(timeout))));
}

/* What the fortified form checks was checked when it was called first. */
int __poll_chk(struct pollfd *fds, nfds_t nr, int timeout, size_t bytes)
{
	FIND_REAL(__poll_chk);
	return nr * sizeof(*fds) > bytes ?
	       real___poll_chk(fds, nr, timeout, bytes) :
	       poll(fds, nr, timeout);
}

int ppoll(struct pollfd *fds, nfds_t nr, const struct timespec *timeout,
	  const sigset_t *mask)
{
	uint64_t for_ns = from_timespec(timeout);
	struct wait wait = wait_begin(for_ns);
	struct timespec part;
	int got;

	FIND_REAL(ppoll);
	for_each_part(&wait) {
		part = to_timespec(wait.part_ns);
		got = real_ppoll(fds, nr, &part, mask);
		if (got)
			return got;
	}
	part = to_timespec(wait_rest_ns(&wait, for_ns));
	return real_ppoll(fds, nr, is_as_it_is(&wait) ? timeout : &part, mask);
}

int __ppoll_chk(struct pollfd *fds, nfds_t nr, const struct timespec *timeout,
		const sigset_t *mask, size_t bytes)
{
	FIND_REAL(__ppoll_chk);
	return nr * sizeof(*fds) > bytes ?
	       real___ppoll_chk(fds, nr, timeout, mask, bytes) :
	       ppoll(fds, nr, timeout, mask);
}

int epoll_pwait(int fd, struct epoll_event *events, int nr, int timeout,
		const sigset_t *mask)
{
	struct wait wait = wait_begin(from_ms(timeout));
	int got;

	FIND_REAL(epoll_pwait);
	for_each_part(&wait) {
		got = real_epoll_pwait(fd, events, nr, ms_up(wait.part_ns),
				       mask);
		if (got)
			return got;
	}
	return real_epoll_pwait(fd, events, nr, timeout < 0 ? timeout :
				ms_up(wait_rest_ns(&wait, from_ms(timeout))),
				mask);
}

int epoll_wait(int fd, struct epoll_event *events, int nr, int timeout)
{
	return epoll_pwait(fd, events, nr, timeout, NULL);
}

/* The sets, which a part that ends without an event has emptied. */
struct sets {
	fd_set	*set[3];
	fd_set	saved[3];
};

/* False if they are larger than libc's type says. */
static bool sets_save(struct sets *s, int nr)
{
	if (nr < 0 || nr > FD_SETSIZE)
		return false;
	for (int i = 0; i < 3; i++)
		if (s->set[i])
			memcpy(&s->saved[i], s->set[i], sizeof(fd_set));
	return true;
}

static void sets_restore(struct sets *s)
{
	for (int i = 0; i < 3; i++)
		if (s->set[i])
			memcpy(s->set[i], &s->saved[i], sizeof(fd_set));
}

int pselect(int nr, fd_set *r, fd_set *w, fd_set *x,
	    const struct timespec *timeout, const sigset_t *mask)
{
	uint64_t for_ns = from_timespec(timeout);
	struct sets sets = { .set = { r, w, x } };
	struct wait wait = wait_begin(for_ns);
	struct timespec part;
	int got;

	FIND_REAL(pselect);
	if (!sets_save(&sets, nr))
		wait.pool = NULL;
	for_each_part(&wait) {
		part = to_timespec(wait.part_ns);
		got = real_pselect(nr, r, w, x, &part, mask);
		if (got)
			return got;
		sets_restore(&sets);
	}
	part = to_timespec(wait_rest_ns(&wait, for_ns));
	return real_pselect(nr, r, w, x, is_as_it_is(&wait) ? timeout : &part,
			    mask);
}

/* Linux' select says how much of the time was left. */
int select(int nr, fd_set *r, fd_set *w, fd_set *x, struct timeval *timeout)
{
	struct timespec want;
	uint64_t for_ns = FOREVER_NS, left_ns;
	struct wait wait;
	int got;

	FIND_REAL(select);
	if (timeout && (timeout->tv_sec < 0 || timeout->tv_usec < 0))
		return real_select(nr, r, w, x, timeout);
	if (timeout) {
		want = to_timespec((uint64_t)timeout->tv_usec * NS_PER_US);
		want.tv_sec += timeout->tv_sec;
		for_ns = from_timespec(&want);
	}
	wait = wait_begin(for_ns);
	if (!wait.pool)
		return real_select(nr, r, w, x, timeout);
	got = pselect(nr, r, w, x, timeout ? &want : NULL, NULL);
	if (timeout && for_ns != FOREVER_NS) {
		left_ns = wait_rest_ns(&wait, for_ns);
		timeout->tv_sec = (time_t)(left_ns / NS_PER_S);
		timeout->tv_usec = (suseconds_t)(left_ns % NS_PER_S /
						 NS_PER_US);
	}
	return got;
}

/* Sleeping */

/* How long a sleep takes, if parts can be measured on its clock; or
 * FOREVER_NS. */
static uint64_t sleep_ns(clockid_t clock, int flags,
			 const struct timespec *want)
{
	uint64_t want_ns = from_timespec(want), now_ns;
	struct timespec now;

	if (clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC)
		return FOREVER_NS;
	if (want_ns == FOREVER_NS || !flags)
		return want_ns;
	clock_gettime(clock, &now);
	now_ns = from_timespec(&now);
	return want_ns > now_ns ? want_ns - now_ns : 0;
}

/* Parts are by the clock that nobody sets. */
static int sleep_parts(struct wait *wait)
{
	struct timespec part;
	int err;

	for_each_part(wait) {
		part = to_timespec(wait->part_ns);
		err = real_clock_nanosleep(CLOCK_MONOTONIC, 0, &part, NULL);
		if (err)
			return err;
	}
	return 0;
}

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *want,
		    struct timespec *left)
{
	uint64_t for_ns = sleep_ns(clock, flags, want);
	struct timespec rest;
	struct wait wait;
	int err;

	FIND_REAL(clock_nanosleep);
	wait = wait_begin(for_ns);
	if (!wait.pool || for_ns == FOREVER_NS)
		return real_clock_nanosleep(clock, flags, want, left);
	err = sleep_parts(&wait);
	rest = to_timespec(wait_rest_ns(&wait, for_ns));
	if (err) {
		if (left && !flags)
			*left = rest;
		return err;
	}
	return flags ? real_clock_nanosleep(clock, flags, want, left) :
		       real_clock_nanosleep(CLOCK_MONOTONIC, 0, &rest, left);
}

int nanosleep(const struct timespec *want, struct timespec *left)
{
	int err;

	FIND_REAL(nanosleep);
	if (!neglected_pool())
		return real_nanosleep(want, left);
	err = clock_nanosleep(CLOCK_REALTIME, 0, want, left);
	if (err)
		errno = err;
	return err ? -1 : 0;
}

PP_EXPORT unsigned int sleep(unsigned int seconds)
{
	struct timespec want = { .tv_sec = (time_t)seconds }, left = { 0, 0 };

	if (!nanosleep(&want, &left))
		return 0;
	return (unsigned)left.tv_sec + (left.tv_nsec >= 500000000);
}

PP_EXPORT int usleep(useconds_t us)
{
	struct timespec want = to_timespec(us * NS_PER_US);

	return nanosleep(&want, NULL);
}
