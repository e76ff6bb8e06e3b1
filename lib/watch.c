/* SPDX-License-Identifier: MIT */
/* watch.c - see watch.h. */
#include "watch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "auto_limit.h"
#include "base/bits.h"
#include "base/fault.h"
#include "os/os.h"
#include "os/syscall.h"

#define THREAD_NAME		"pp-watch"
#define SECOND_NS		1000000000ull
#define LOOK_NS			(60 * SECOND_NS)
/* Many programs are over by then, and a program's first thread is not kept
 * waiting for a processor: what the pool began with is news no older. */
#define FIRST_LOOK_NS		(SECOND_NS / 10)
/* Where nobody tells us. */
#define BLIND_LOOK_NS		(5 * SECOND_NS)
/* However often the files are written. */
#define LEAST_LOOK_NS		(SECOND_NS / 20)
/* However often a source has something to say. */
#define EVENT_NS		SECOND_NS
/* A source that is lost so often, without an event, is given up. */
#define MAX_LOSSES		3
#define STATUS_BYTES		4096

struct watch {
	_Atomic int		state;

	/* who takes the state from NONE or IDLE to STARTING */
	struct helper_thread	thread;
	bool			is_joinable;

	/* the thread */
	int			psi_fd, notify_fd, status_fd;	/* -1: none */
	enum psi_kind		from;	/* kinds below were given up */
	unsigned		nr_losses;
	uint64_t		next_event_ns;
	uint64_t		last_look_ns, next_look_ns;
	uint64_t		filters;	/* of system calls, at first */
	bool			has_seen_groups;
	struct psi_source	source;
	struct psi_source	found;
	char			text[STATUS_BYTES];
};

static struct watch the_watch;

static void close_fd(int *fd)
{
	if (*fd >= 0)
		sys_close(*fd);
	*fd = -1;
}

static uint64_t until(uint64_t then_ns, uint64_t now_ns)
{
	return then_ns > now_ns ? then_ns - now_ns : 0;
}

/* Filters of system calls */

/* Of /proc: which filters this thread is under; 0: none. */
#define UNREADABLE	UINT64_MAX

static uint64_t read_filters(struct watch *w)
{
	static const char *const name[] = { "\nSeccomp:\t",
					    "\nSeccomp_filters:\t" };
	uint64_t filters = 0;
	const char *line;
	long len;

	if (sys_call3(SYS_lseek, w->status_fd, 0, SEEK_SET) < 0)
		return UNREADABLE;
	len = os_read(w->status_fd, w->text, STATUS_BYTES - 1);
	if (len <= 0)
		return UNREADABLE;
	w->text[len] = '\0';
	for (unsigned i = 0; i < ARRAY_SIZE(name); i++) {
		line = strstr(w->text, name[i]);
		filters = filters << 16;
		if (line)
			filters += strtoul(line + strlen(name[i]), NULL, 10);
	}
	return filters;
}

/* Without /proc there is nothing to look at either. */
static bool is_confined(struct watch *w)
{
	uint64_t filters = w->status_fd < 0 ? UNREADABLE : read_filters(w);

	return filters == UNREADABLE || filters != w->filters;
}

/* Pressure */

static void tell_pressure(struct pp_pool *pool, void *unused PP_UNUSED)
{
	add_relaxed(&pool->registry.outside_pressure, 1);
	vmstat_add(&pool->vmstat, EVENT_PRESSURE_EVENTS, 1);
	pcp_kick_reclaimd(&pool->registry);
}

static bool is_source(const struct watch *w, const struct psi_source *other)
{
	return other->kind == w->source.kind &&
	       strcmp(other->path, w->source.path) == 0;
}

static void take_source(struct watch *w, int fd)
{
	if (!is_source(w, &w->found))
		w->nr_losses = 0;
	close_fd(&w->psi_fd);
	w->psi_fd = fd;
	w->source = w->found;
}

/* The first that can be opened.  If that is the one that is listened to, or
 * there is none any more, all stays as it is. */
static void find_source(struct watch *w)
{
	enum psi_kind kind;
	int fd;

	for (kind = w->from; kind < PSI_NONE; kind = w->found.kind + 1) {
		psi_find("", config_pressure(), kind, &w->found);
		if (w->found.kind == PSI_NONE ||
		    (w->psi_fd >= 0 && is_source(w, &w->found)))
			return;
		fd = psi_open(&w->found);
		if (fd >= 0) {
			take_source(w, fd);
			return;
		}
	}
}

/* Looked for again a second later, the next kind if need be. */
static void lose_source(struct watch *w, uint64_t now)
{
	close_fd(&w->psi_fd);
	if (++w->nr_losses == MAX_LOSSES) {
		w->nr_losses = 0;
		w->from = w->source.kind + 1;
	}
	if (w->from < PSI_NONE)
		w->next_look_ns = now + EVENT_NS;
}

/* Once a second at the most, also of a source that has always something. */
static void hear(struct watch *w, short revents, uint64_t now)
{
	if (!revents)
		return;
	w->next_event_ns = now + EVENT_NS;
	switch (psi_answer(&w->source, w->psi_fd, revents)) {
	case PSI_EVENT:
		w->nr_losses = 0;
		pools_visit(tell_pressure, NULL);
		break;
	case PSI_LOST:
		lose_source(w, now);
		break;
	case PSI_QUIET:
		break;
	}
}

/* Limits */

struct limit_files {
	int		fd;
	bool		are_watched;
	unsigned	nr;
};

static int add_watch(int fd, const char *path)
{
	if (fault_hit(FAULT_NOTIFY))
		return -ENOSPC;
	return (int)sys_call3(SYS_inotify_add_watch, fd,
			      (long)(uintptr_t)path, IN_MODIFY);
}

static void watch_file(void *arg, const struct auto_limit_source *source)
{
	struct limit_files *files = arg;

	if (!source->path)
		return;
	files->nr++;
	if (files->fd < 0 || add_watch(files->fd, source->path) < 0)
		files->are_watched = false;
}

/* All files anew: the process may be in another group.  True if whoever writes
 * one will wake us. */
static bool watch_files(struct watch *w, unsigned *nr_files)
{
	struct limit_files files = { .are_watched = true };

	close_fd(&w->notify_fd);
	if (!fault_hit(FAULT_NOTIFY))
		w->notify_fd = (int)sys_call3(SYS_inotify_init1,
					      IN_NONBLOCK | IN_CLOEXEC, 0, 0);
	files.fd = w->notify_fd;
	auto_limit_bytes(watch_file, &files);
	*nr_files = files.nr;
	return files.fd >= 0 && files.are_watched;
}

static void tell_limit(struct pp_pool *pool, void *bytes)
{
	struct pcp_registry *reg = &pool->registry;

	if (load_relaxed(&reg->auto_limit_bytes) == *(uint64_t *)bytes)
		return;
	store_relaxed(&reg->auto_limit_bytes, *(uint64_t *)bytes);
	pcp_kick_reclaimd(reg);
}

/*
 * A program that has gone to another root has no groups there.  What limits it
 * is the same as before; without that file auto would be the whole machine.
 */
static void look_at_limits(struct watch *w, uint64_t now)
{
	unsigned nr_files;
	bool is_told = watch_files(w, &nr_files);
	uint64_t bytes;

	w->next_look_ns = now + (is_told ? LOOK_NS : BLIND_LOOK_NS);
	if (!nr_files && w->has_seen_groups)
		return;
	w->has_seen_groups = nr_files != 0;
	/* After the files are watched: no change is missed. */
	bytes = config_auto_limit_bytes();
	pools_visit(tell_limit, &bytes);
}

/* Both */

static void look(struct watch *w, uint64_t now)
{
	if (is_confined(w)) {
		w->next_look_ns = UINT64_MAX;
		return;
	}
	w->last_look_ns = now;
	look_at_limits(w, now);
	find_source(w);
}

static void look_soon(struct watch *w)
{
	/* What the events say does not matter. */
	while (sys_read(w->notify_fd, w->text, sizeof(w->text)) > 0)
		;
	w->next_look_ns = min_u64(w->next_look_ns,
				  w->last_look_ns + LEAST_LOOK_NS);
}

/* Sleeps until something happens, or it is time to look. */
/* False: waiting itself is refused, by a filter. */
static bool await(struct watch *w, uint64_t now)
{
	bool may_hear = now >= w->next_event_ns;
	struct pollfd fds[] = {
		{ .fd = may_hear ? w->psi_fd : -1,
		  .events = psi_events(&w->source) },
		{ .fd = w->notify_fd, .events = POLLIN },
	};
	uint64_t wait_ns = until(w->next_look_ns, now);
	struct timespec ts;
	long nr;

	if (!may_hear)
		wait_ns = min_u64(wait_ns, w->next_event_ns - now);
	ts.tv_sec = (time_t)(wait_ns / SECOND_NS);
	ts.tv_nsec = (long)(wait_ns % SECOND_NS);
	nr = sys_call6(SYS_ppoll, (long)(uintptr_t)fds, ARRAY_SIZE(fds),
		       (long)(uintptr_t)&ts, 0, 0, 0);
	if (nr <= 0)
		return nr == 0 || nr == -EINTR;
	hear(w, fds[0].revents, os_now_ns());
	if (fds[1].revents)
		look_soon(w);
	return true;
}

/* Whether to go on */

struct interest {
	unsigned	nr_pools;
	bool		any_auto;
};

static void find_interest(struct pp_pool *pool, void *arg)
{
	struct interest *found = arg;

	found->nr_pools++;
	found->any_auto = found->any_auto || load_relaxed(&pool->limit_is_auto);
}

static bool has_work(struct watch *w)
{
	struct interest found = { 0, false };

	pools_visit(find_interest, &found);
	return found.nr_pools && (found.any_auto || w->psi_fd >= 0 ||
				  w->nr_losses);
}

/* What a program says that changes that is either seen here, or sees that the
 * state is IDLE. */
static bool may_go_on(struct watch *w)
{
	int idle = WATCH_IDLE;

	if (has_work(w))
		return true;
	xchg_full(&w->state, WATCH_IDLE);
	return has_work(w) && cas_relaxed(&w->state, &idle, WATCH_RUNNING);
}

static void watch_loop(struct watch *w)
{
	uint64_t now;

	do {
		now = os_now_ns();
		if (now >= w->next_look_ns) {
			look(w, now);
			if (!may_go_on(w))
				return;
		}
	} while (await(w, now) &&
		 (w->next_look_ns != UINT64_MAX || w->psi_fd >= 0));
	store_relaxed(&w->state, WATCH_REFUSED);
}

static void begin(struct watch *w)
{
	w->psi_fd = w->notify_fd = w->status_fd = -1;
	w->from = PSI_SERVICE;
	w->nr_losses = 0;
	w->next_event_ns = w->last_look_ns = 0;
	w->next_look_ns = os_now_ns() + FIRST_LOOK_NS;
	w->has_seen_groups = false;
	w->source.form = PSI_FILE;
}

static void watch_main(void *arg)
{
	struct watch *w = arg;

	begin(w);
	if (os_own_descriptors()) {
		store_relaxed(&w->state, WATCH_REFUSED);
	} else {
		w->status_fd = os_open("/proc/thread-self/status", O_RDONLY);
		if (w->status_fd >= 0)
			w->filters = read_filters(w);
		watch_loop(w);
	}
	helper_thread_leave();
}

/* Starting */

/* A quick look, by the program's own thread. */
static bool may_have_work(void)
{
	struct interest found = { 0, false };

	pools_visit(find_interest, &found);
	return found.any_auto || psi_may_exist(config_pressure());
}

static bool claim_start(struct watch *w)
{
	/* Acquire: pairs with the exchange in may_go_on(). */
	int state = load_acquire(&w->state);

	if (state != WATCH_NONE && state != WATCH_IDLE)
		return false;
	/* The thread has found nothing: what can be new is a pool. */
	if (state == WATCH_IDLE && !has_work(w))
		return false;
	return cas_acquire(&w->state, &state, WATCH_STARTING);
}

/* The state is STARTING, by us. */
static void start_claimed(struct watch *w)
{
	if (w->is_joinable)
		helper_thread_rejoin(&w->thread);
	w->is_joinable = false;
	w->psi_fd = -1;
	if (!may_have_work()) {
		store_release(&w->state, WATCH_IDLE);
		return;
	}
	w->thread.name = THREAD_NAME;
	w->thread.body = watch_main;
	w->thread.arg = w;
	/* Before it runs: it may find that it is idle at once. */
	w->is_joinable = true;
	store_relaxed(&w->state, WATCH_RUNNING);
	if (helper_thread_start(&w->thread)) {
		w->is_joinable = false;
		store_release(&w->state, WATCH_NONE);
	}
}

void watch_start(struct pp_pool *pool)
{
	struct watch *w = &the_watch;

	if (reclaimd_is_running(&pool->registry) && claim_start(w))
		start_claimed(w);
}

void watch_reap(void)
{
	struct watch *w = &the_watch;
	int state = load_acquire(&w->state), as_it_was = state;

	if ((state != WATCH_IDLE && state != WATCH_REFUSED) ||
	    !cas_acquire(&w->state, &state, WATCH_STARTING))
		return;
	if (as_it_was == WATCH_IDLE && has_work(w)) {
		start_claimed(w);
		return;
	}
	if (w->is_joinable)
		helper_thread_rejoin(&w->thread);
	w->is_joinable = false;
	store_release(&w->state, as_it_was);
}

void watch_forget(void)
{
	/* The stack is used again if the child makes threads of its own. */
	the_watch.is_joinable = false;
	store_relaxed(&the_watch.state, WATCH_NONE);
}

enum watch_state watch_state(void)
{
	return (enum watch_state)load_relaxed(&the_watch.state);
}
