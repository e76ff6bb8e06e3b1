/* SPDX-License-Identifier: MIT */
/*
 * idle.c - what a program with one thread does for its pool while it waits.
 *
 * It has no background thread, and one that has freed a lot and then waits for
 * its next request makes no call that could give memory back.  So the functions
 * in which programs wait are stood in front of: a wait is cut where something
 * is due, that is done, and the rest is waited for.  The program sees one wait:
 * between parts all signals are blocked, and each part is a call that lets in
 * those that the program does, so that a signal ends the wait whenever it
 * comes.
 *
 * With a background thread, or nothing to give back, it is a call of libc's
 * function after two loads.  What cannot be cut, a read or a wait for a child,
 * is not stood in front of, and neither is a sleep until a time of day, which
 * somebody may set.
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

/* Those that are called, by themselves or by what stands in front of them. */
#define IDLE_FUNCTIONS(X) \
	X(poll, (struct pollfd *fds, nfds_t nr, int timeout)) \
	X(__poll_chk, (struct pollfd *fds, nfds_t nr, int timeout, \
	  size_t bytes)) \
	X(ppoll, (struct pollfd *fds, nfds_t nr, \
	  const struct timespec *timeout, const sigset_t *mask)) \
	X(__ppoll_chk, (struct pollfd *fds, nfds_t nr, \
	  const struct timespec *timeout, const sigset_t *mask, \
	  size_t bytes)) \
	X(epoll_pwait, (int fd, struct epoll_event *events, int nr, \
	  int timeout, const sigset_t *mask)) \
	X(select, (int nr, fd_set *r, fd_set *w, fd_set *x, \
	  struct timeval *timeout)) \
	X(pselect, (int nr, fd_set *r, fd_set *w, fd_set *x, \
	  const struct timespec *timeout, const sigset_t *mask)) \
	X(nanosleep, (const struct timespec *want, struct timespec *left)) \
	X(clock_nanosleep, (clockid_t clock, int flags, \
	  const struct timespec *want, struct timespec *left))

#define X(name, params) \
	typedef int name##_fn params; \
	static name##_fn *real_##name; \
	PP_EXPORT name##_fn name;
IDLE_FUNCTIONS(X)
#undef X

/* Once, and again where another library was initialised before us. */
void preload_find_waits(void)
{
#define X(name, params) \
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

/* One part: waits for @timeout (NULL: for ever) with the signals of @mask
 * blocked.  As poll(2): 0 if nothing happened. */
typedef int wait_fn(void *arg, const struct timespec *timeout,
		    const sigset_t *mask);

/* The pool, if somebody has to look after it while the thread waits. */
static struct pp_pool *neglected_pool(void)
{
	struct pp_pool *pool = preload_pool_if_made();

	if (!pool || load_relaxed(&pool->zones->has_reclaimd) ||
	    pool_is_nested(pool))
		return NULL;
	return pool;
}

/* Is the wait to be cut?  Then by wait_in_parts(). */
static bool is_to_be_cut(struct wait *wait, uint64_t for_ns)
{
	wait->until_ns = FOREVER_NS;
	/* A look around is no wait. */
	wait->pool = for_ns ? neglected_pool() : NULL;
	if (!wait->pool || !inline_reclaim_has_idle_work(&wait->pool->registry))
		return false;
	if (for_ns != FOREVER_NS)
		wait->until_ns = os_now_ns() + for_ns;
	return true;
}

/* Does what is due.  Is there a part to wait before the rest?  Its end is when
 * there is something to do again. */
static bool is_due(struct wait *wait)
{
	uint64_t due_ns = inline_reclaim_idle(&wait->pool->registry);
	uint64_t now = os_now_ns();

	wait->part_ns = due_ns;
	return due_ns != FOREVER_NS && now < wait->until_ns &&
	       due_ns < wait->until_ns - now;
}

static uint64_t wait_left_ns(const struct wait *wait)
{
	uint64_t now;

	if (wait->until_ns == FOREVER_NS)
		return FOREVER_NS;
	now = os_now_ns();
	return wait->until_ns > now ? wait->until_ns - now : 0;
}

static struct timespec to_timespec(uint64_t ns)
{
	return (struct timespec){
		.tv_sec = (time_t)(ns / NS_PER_S),
		.tv_nsec = (long)(ns % NS_PER_S),
	};
}

static int wait_part(const struct wait *wait, bool is_last, wait_fn *fn,
		     void *arg, const sigset_t *mask)
{
	uint64_t for_ns = is_last ? wait_left_ns(wait) : wait->part_ns;
	struct timespec part = to_timespec(for_ns);

	return fn(arg, for_ns == FOREVER_NS ? NULL : &part, mask);
}

/* As many parts as the delay has slots, and some; then the rest.  @callers:
 * mask for the wait, or NULL: the thread's. */
static int wait_in_parts(struct wait *wait, wait_fn *fn, void *arg,
			 const sigset_t *callers)
{
	bool is_last;
	sigset_t all, own;
	int got, saved = errno;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &own);
	if (!callers)
		callers = &own;
	do {
		is_last = !is_due(wait);
		got = wait_part(wait, is_last, fn, arg, callers);
	} while (!got && !is_last);
	if (got >= 0)
		errno = saved;
	saved = errno;
	pthread_sigmask(SIG_SETMASK, &own, NULL);
	errno = saved;
	return got;
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

/* Waiting for descriptors */

struct poll_args {
	struct pollfd	*fds;
	nfds_t		nr;
};

static int poll_part(void *arg, const struct timespec *timeout,
		     const sigset_t *mask)
{
	struct poll_args *args = arg;

	return real_ppoll(args->fds, args->nr, timeout, mask);
}

int poll(struct pollfd *fds, nfds_t nr, int timeout)
{
	struct poll_args args = { fds, nr };
	struct wait wait;

	FIND_REAL(poll);
	if (!is_to_be_cut(&wait, from_ms(timeout)))
		return real_poll(fds, nr, timeout);
	return wait_in_parts(&wait, poll_part, &args, NULL);
}

int ppoll(struct pollfd *fds, nfds_t nr, const struct timespec *timeout,
	  const sigset_t *mask)
{
	struct poll_args args = { fds, nr };
	struct wait wait;

	FIND_REAL(ppoll);
	if (!is_to_be_cut(&wait, from_timespec(timeout)))
		return real_ppoll(fds, nr, timeout, mask);
	return wait_in_parts(&wait, poll_part, &args, mask);
}

/* Those that fail the check of the fortified form end the program there. */
int __poll_chk(struct pollfd *fds, nfds_t nr, int timeout, size_t bytes)
{
	FIND_REAL(__poll_chk);
	return nr > bytes / sizeof(*fds) ?
	       real___poll_chk(fds, nr, timeout, bytes) :
	       poll(fds, nr, timeout);
}

int __ppoll_chk(struct pollfd *fds, nfds_t nr, const struct timespec *timeout,
		const sigset_t *mask, size_t bytes)
{
	FIND_REAL(__ppoll_chk);
	return nr > bytes / sizeof(*fds) ?
	       real___ppoll_chk(fds, nr, timeout, mask, bytes) :
	       ppoll(fds, nr, timeout, mask);
}

struct epoll_args {
	int			fd, nr;
	struct epoll_event	*events;
};

/* By ppoll: a signal without a handler that came between two parts ends an
 * epoll_pwait, but not that. */
static int epoll_part(void *arg, const struct timespec *timeout,
		      const sigset_t *mask)
{
	struct epoll_args *args = arg;
	struct pollfd p = { .fd = args->fd, .events = POLLIN };
	int got = real_ppoll(&p, 1, timeout, mask);

	return got <= 0 ? got : real_epoll_pwait(args->fd, args->events,
						 args->nr, 0, NULL);
}

int epoll_pwait(int fd, struct epoll_event *events, int nr, int timeout,
		const sigset_t *mask)
{
	struct epoll_args args = { fd, nr, events };
	struct wait wait;
	int got;

	FIND_REAL(epoll_pwait);
	if (!is_to_be_cut(&wait, from_ms(timeout)))
		return real_epoll_pwait(fd, events, nr, timeout, mask);
	/* What is there, or wrong, already. */
	got = real_epoll_pwait(fd, events, nr, 0, mask);
	if (got)
		return got;
	return wait_in_parts(&wait, epoll_part, &args, mask);
}

PP_EXPORT int epoll_wait(int fd, struct epoll_event *events, int nr,
			 int timeout)
{
	return epoll_pwait(fd, events, nr, timeout, NULL);
}

/* The sets, which a part that ends without an event has emptied. */
struct select_args {
	int	nr;
	size_t	bytes;		/* of a set: what the kernel touches of it */
	fd_set	*set[3];
	fd_set	saved[3];
};

static int select_part(void *arg, const struct timespec *timeout,
		       const sigset_t *mask)
{
	struct select_args *args = arg;

	for (int i = 0; i < 3; i++)
		if (args->set[i])
			memcpy(args->set[i], &args->saved[i], args->bytes);
	return real_pselect(args->nr, args->set[0], args->set[1],
			    args->set[2], timeout, mask);
}

static int select_in_parts(struct wait *wait, int nr, fd_set **set,
			   const sigset_t *mask)
{
	struct select_args args = {
		.nr = nr,
		.bytes = ((size_t)nr + 63) / 64 * 8,
	};

	for (int i = 0; i < 3; i++) {
		args.set[i] = set[i];
		if (set[i])
			memcpy(&args.saved[i], set[i], args.bytes);
	}
	return wait_in_parts(wait, select_part, &args, mask);
}

/* Sets that are larger than libc's type says are left alone. */
static bool is_ordinary(int nr)
{
	return nr >= 0 && nr <= FD_SETSIZE;
}

int pselect(int nr, fd_set *r, fd_set *w, fd_set *x,
	    const struct timespec *timeout, const sigset_t *mask)
{
	fd_set *set[3] = { r, w, x };
	struct wait wait;

	FIND_REAL(pselect);
	if (!is_ordinary(nr) || !is_to_be_cut(&wait, from_timespec(timeout)))
		return real_pselect(nr, r, w, x, timeout, mask);
	return select_in_parts(&wait, nr, set, mask);
}

/* Microseconds may be more than a second's. */
static uint64_t from_timeval(const struct timeval *tv)
{
	struct timespec ts;
	uint64_t ns;

	if (!tv)
		return FOREVER_NS;
	if (tv->tv_sec < 0 || tv->tv_usec < 0)
		return 0;
	ts.tv_sec = tv->tv_sec;
	ts.tv_nsec = 0;
	ns = from_timespec(&ts);
	return ns == FOREVER_NS ? ns : ns + (uint64_t)tv->tv_usec * NS_PER_US;
}

/* Linux' select says how much of the time was left. */
int select(int nr, fd_set *r, fd_set *w, fd_set *x, struct timeval *timeout)
{
	fd_set *set[3] = { r, w, x };
	struct timespec left;
	struct wait wait;
	int got;

	FIND_REAL(select);
	if (!is_ordinary(nr) || !is_to_be_cut(&wait, from_timeval(timeout)))
		return real_select(nr, r, w, x, timeout);
	got = select_in_parts(&wait, nr, set, NULL);
	if (timeout && wait.until_ns != FOREVER_NS) {
		left = to_timespec(wait_left_ns(&wait));
		timeout->tv_sec = left.tv_sec;
		timeout->tv_usec = left.tv_nsec / (long)NS_PER_US;
	}
	return got;
}

/* Sleeping: waiting for no descriptor */

static int sleep_part(void *arg PP_UNUSED, const struct timespec *timeout,
		      const sigset_t *mask)
{
	return real_ppoll(NULL, 0, timeout, mask);
}

/* How long a sleep takes, if it may be cut; or 0. */
static uint64_t sleep_ns(clockid_t clock, int flags,
			 const struct timespec *want)
{
	uint64_t want_ns = from_timespec(want), now_ns = os_now_ns();

	if (!want ||
	    (clock != CLOCK_MONOTONIC && (clock != CLOCK_REALTIME || flags)))
		return 0;
	if (!flags || want_ns == FOREVER_NS)
		return want_ns;
	return want_ns > now_ns ? want_ns - now_ns : 0;
}

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *want,
		    struct timespec *left)
{
	int saved = errno, err = 0;
	struct wait wait;

	FIND_REAL(clock_nanosleep);
	if (!is_to_be_cut(&wait, sleep_ns(clock, flags, want)))
		return real_clock_nanosleep(clock, flags, want, left);
	if (wait_in_parts(&wait, sleep_part, NULL, NULL) < 0)
		err = errno;
	errno = saved;
	if (err && left && !flags)
		*left = to_timespec(wait_left_ns(&wait));
	return err;
}

int nanosleep(const struct timespec *want, struct timespec *left)
{
	struct wait wait;
	int got;

	FIND_REAL(nanosleep);
	if (!want || !is_to_be_cut(&wait, from_timespec(want)))
		return real_nanosleep(want, left);
	got = wait_in_parts(&wait, sleep_part, NULL, NULL);
	if (got && left)
		*left = to_timespec(wait_left_ns(&wait));
	return got;
}

PP_EXPORT unsigned int sleep(unsigned int seconds)
{
	struct timespec want = { .tv_sec = (time_t)seconds }, left = { 0, 0 };

	return nanosleep(&want, &left) ? (unsigned)left.tv_sec : 0;
}

PP_EXPORT int usleep(useconds_t us)
{
	struct timespec want = to_timespec(us * NS_PER_US);

	return nanosleep(&want, NULL);
}
