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

/* The levels up to @level that were not told yet, as bits; from here on they
 * are. */
static unsigned take_untold(struct pcp_registry *reg, enum pp_pressure level)
{
	unsigned wanted = (2u << level) - 1, untold;
	struct pressure *p = reg->pressure;
	bool is_new = is_new_episode(reg);

	if (!is_new && !(wanted & ~load_relaxed(&p->told)))
		return 0;
	lock_acquire(&p->lock);
	untold = is_new ? wanted : wanted & ~load_relaxed(&p->told);
	store_relaxed(&p->told, is_new ? wanted :
				load_relaxed(&p->told) | wanted);
	lock_release(&p->lock);
	return untold;
}

static void forget_fd(struct pressure *p, int fd, enum pp_pressure level)
{
	lock_acquire(&p->lock);
	for (unsigned i = 0; i < p->nr_fds; i++)
		if (p->fds[i].fd == fd && p->fds[i].level == level) {
			p->fds[i] = p->fds[--p->nr_fds];
			break;
		}
	lock_release(&p->lock);
}

/* Returns how many there are.  Copied, since writing is a system call. */
static unsigned fds_of(struct pressure *p, enum pp_pressure level, int *fds)
{
	unsigned n = 0;

	lock_acquire(&p->lock);
	for (unsigned i = 0; i < p->nr_fds; i++)
		if (p->fds[i].level == level)
			fds[n++] = p->fds[i].fd;
	lock_release(&p->lock);
	return n;
}

static void tell(struct pcp_registry *reg, enum pp_pressure level)
{
	struct pressure *p = reg->pressure;
	int fds[PP_PRESSURE_MAX_FDS], signal = load_relaxed(&p->signal);
	unsigned nr = fds_of(p, level, fds);

	vmstat_add(reg->vmstat, (enum vm_item)(EVENT_PRESSURE_LOW + level), 1);
	TRACE(pressure, (int)level);
	for (unsigned i = 0; i < nr; i++)
		if (os_is_eventfd(fds[i]))
			os_eventfd_add(fds[i], 1);
		else
			forget_fd(p, fds[i], level);
	if (signal && os_signal_is_caught(signal))
		os_queue_signal(signal, (int)level);
}

void pressure_raise(struct pcp_registry *reg, enum pp_pressure level)
{
	unsigned untold = take_untold(reg, level);

	for (unsigned i = 0; i < PRESSURE_NR_LEVELS; i++)
		if (untold & 1u << i)
			tell(reg, (enum pp_pressure)i);
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

int pressure_add_fd(struct pressure *p, enum pp_pressure level)
{
	bool has_room;
	int fd = os_eventfd();

	if (fd < 0)
		return fd;
	lock_acquire(&p->lock);
	has_room = p->nr_fds < PP_PRESSURE_MAX_FDS;
	if (has_room) {
		p->fds[p->nr_fds].fd = fd;
		p->fds[p->nr_fds++].level = level;
	}
	lock_release(&p->lock);
	if (has_room)
		return fd;
	os_close(fd);
	return -ENOSPC;
}

void pressure_forget(struct pressure *p)
{
	p->nr_fds = 0;
	store_relaxed(&p->told, 0);
	lock_init(&p->lock, LOCK_RANK_LEAF);
}
