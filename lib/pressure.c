/* SPDX-License-Identifier: MIT */
/* pressure.c - see pressure.h. */
#include "pressure.h"

#include <errno.h>

#include "node.h"
#include "os/os.h"
#include "trace.h"

static_assert(EVENT_PRESSURE_OOM - EVENT_PRESSURE_LOW ==
	      PP_PRESSURE_OOM - PP_PRESSURE_LOW, "one event a level");

void pressure_init(struct pressure *p, int signal)
{
	lock_init(&p->lock, LOCK_RANK_LEAF);
	store_relaxed(&p->signal, signal);
}

static bool is_new_episode(struct pcp_registry *reg)
{
	bool is_new = false;

	/* All are asked, so that none starts another one at once. */
	for_each_zone(zone, reg->zones)
		if (zone_was_above_high(zone))
			is_new = true;
	return is_new;
}

static bool is_alive(struct pressure *p, unsigned i)
{
	return os_is_same_eventfd(p->fds[i].fd, p->fds[i].own);
}

/* Forgets those that the program has closed.  Ours is closed only if it still
 * is ours.  Lock held. */
static void forget_closed(struct pressure *p)
{
	unsigned i = 0;

	while (i < p->nr_fds)
		if (is_alive(p, i)) {
			i++;
		} else {
			if (os_is_eventfd(p->fds[i].own))
				os_close(p->fds[i].own);
			p->fds[i] = p->fds[--p->nr_fds];
		}
}

static void tell_fds(struct pressure *p, enum pp_pressure level)
{
	forget_closed(p);
	for (unsigned i = 0; i < p->nr_fds; i++)
		if (p->fds[i].level == level)
			os_eventfd_add(p->fds[i].own, 1);
}

/*
 * Tells the levels up to @level that were not, this episode; returns them as
 * bits.  All in one hold: another thread that is about to fail waits until they
 * are told, and none closes a descriptor between the look at it and the write.
 * No call can wait.
 */
static unsigned tell_untold(struct pcp_registry *reg, enum pp_pressure level)
{
	unsigned wanted = (2u << level) - 1, told;
	struct pressure *p = reg->pressure;

	pcp_lock(&p->lock);
	told = is_new_episode(reg) ? 0 : load_relaxed(&p->told);
	for (unsigned i = 0; i < PRESSURE_NR_LEVELS; i++)
		if (wanted & ~told & 1u << i)
			tell_fds(p, (enum pp_pressure)i);
	/* Release: pairs with the acquire in is_told(). */
	store_release(&p->told, told | wanted);
	pcp_unlock(&p->lock);
	return wanted & ~told;
}

/* A look without the lock: of threads that fail all the time, only the first
 * has something to tell. */
static bool is_told(struct pcp_registry *reg, enum pp_pressure level)
{
	for_each_zone(zone, reg->zones)
		if (load_relaxed(&zone->above_high))
			return false;
	return load_acquire(&reg->pressure->told) >> level & 1;
}

/* Not under the lock: a handler may run at once, on top of us. */
static void tell_rest(struct pcp_registry *reg, enum pp_pressure level)
{
	int signal = load_relaxed(&reg->pressure->signal);

	vmstat_add(reg->vmstat, (enum vm_item)(EVENT_PRESSURE_LOW + level), 1);
	TRACE(pressure, (int)level);
	if (signal && os_signal_is_caught(signal))
		os_queue_signal(signal, (int)level);
}

void pressure_raise(struct pcp_registry *reg, enum pp_pressure level)
{
	unsigned untold;

	if (is_told(reg, level))
		return;
	untold = tell_untold(reg, level);
	for (unsigned i = 0; i < PRESSURE_NR_LEVELS; i++)
		if (untold & 1u << i)
			tell_rest(reg, (enum pp_pressure)i);
}

void pressure_look(struct pcp_registry *reg)
{
	uint64_t free = 0, low = 0;

	for_each_zone(zone, reg->zones) {
		free += zone_free_pages(zone);
		low += load_relaxed(&zone->low_pages);
	}
	/* One zone that is low is no shortage while another has plenty. */
	if (free <= low)
		pressure_raise(reg, PP_PRESSURE_LOW);
}

/* Both descriptors of a new eventfd; -errno. */
static int make_fds(int *own)
{
	int fd = os_eventfd();

	if (fd < 0)
		return fd;
	*own = os_dup_away(fd);
	if (*own >= 0)
		return fd;
	os_close(fd);
	return *own;
}

int pressure_add_fd(struct pressure *p, enum pp_pressure level)
{
	int own = -1, fd = make_fds(&own);
	bool has_room;

	if (fd < 0)
		return fd;
	pcp_lock(&p->lock);
	forget_closed(p);
	has_room = p->nr_fds < PP_PRESSURE_MAX_FDS;
	if (has_room) {
		p->fds[p->nr_fds].fd = fd;
		p->fds[p->nr_fds].own = own;
		p->fds[p->nr_fds++].level = level;
	}
	pcp_unlock(&p->lock);
	if (has_room)
		return fd;
	os_close(fd);
	os_close(own);
	return -ENOSPC;
}

void pressure_exit(struct pressure *p)
{
	pcp_lock(&p->lock);
	for (unsigned i = 0; i < p->nr_fds; i++)
		if (os_is_eventfd(p->fds[i].own))
			os_close(p->fds[i].own);
	p->nr_fds = 0;
	pcp_unlock(&p->lock);
}

void pressure_forget(struct pressure *p)
{
	for (unsigned i = 0; i < p->nr_fds; i++)
		if (is_alive(p, i))
			os_close(p->fds[i].own);
	p->nr_fds = 0;
	store_relaxed(&p->told, 0);
	lock_init(&p->lock, LOCK_RANK_LEAF);
}
