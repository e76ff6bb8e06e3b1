/* SPDX-License-Identifier: MIT */
/* hooks.c - what jemalloc calls for its extents; see bridge.h. */
#include <errno.h>
#include <pthread.h>
#include <time.h>

#include "base/bits.h"
#include "base/compiler.h"
#include "bridge.h"
#include "extent.h"

/* What the handler of fork waits for hooks under way: a second. */
#define GATE_STEP_NS	100000l
#define GATE_MAX_STEPS	10000u

static pthread_mutex_t bridge_list_lock = PTHREAD_MUTEX_INITIALIZER;
static struct pp_jemalloc *bridges;		/* bridge_list_lock */

__thread uint64_t hooks_own_pages;

/* The gate */

static _Atomic unsigned nr_forks;	/* shut while there are any */
static _Atomic unsigned nr_inside;

/* Sequentially consistent here and in on_prepare(): either the hook sees that
 * the gate is shut, or the handler sees the hook. */
static bool gate_enter(void)
{
	atomic_fetch_add(&nr_inside, 1);
	if (!atomic_load(&nr_forks))
		return true;
	atomic_fetch_sub(&nr_inside, 1);
	return false;
}

static void gate_leave(void)
{
	atomic_fetch_sub(&nr_inside, 1);
}

/* Extents that come too late or too early */

static void put_off(struct pp_jemalloc *je, void *extent, size_t nr_pages)
{
	struct late_extent *late = extent;

	late->nr_pages = nr_pages;
	late->next = load_relaxed(&je->late);
	/* Release: pairs with the acquire in free_late(). */
	while (!atomic_compare_exchange_weak_explicit(&je->late, &late->next,
						      late,
						      memory_order_release,
						      memory_order_relaxed))
		;
}

/* With the gate passed, so that fork finds all in the list or with the pool. */
static void free_late(struct pp_jemalloc *je)
{
	struct late_extent *late, *next;
	size_t nr_pages;

	if (likely(!load_relaxed(&je->late)))
		return;
	/* Acquire: pairs with the release in put_off(). */
	late = atomic_exchange_explicit(&je->late, NULL, memory_order_acquire);
	for (; late; late = next) {
		next = late->next;
		nr_pages = late->nr_pages;
		if (!pagepool_extent_free(je->pool, late, nr_pages))
			put_off(je, late, nr_pages);
	}
}

void hooks_free_late(struct pp_jemalloc *je)
{
	if (likely(!load_relaxed(&je->late)) || !gate_enter())
		return;
	free_late(je);
	gate_leave();
}

/* The hooks */

/* Each bridge has hooks of its own: they are its first member. */
static struct pp_jemalloc *bridge_of(extent_hooks_t *hooks)
{
	return (struct pp_jemalloc *)(void *)hooks;
}

static void *alloc_hook(extent_hooks_t *hooks, void *new_addr, size_t size,
			size_t alignment, bool *zero, bool *commit,
			unsigned arena_ind PP_UNUSED)
{
	struct pp_jemalloc *je = bridge_of(hooks);
	size_t nr_pages = size / PP_PAGE_SIZE, align = alignment / PP_PAGE_SIZE;
	int saved = errno;
	bool zeroed;
	void *extent;

	/* At a certain place, or for the future: see bridge.h. */
	if (new_addr || !*commit)
		return NULL;
	hooks_free_late(je);
	extent = pagepool_extent_alloc(je->pool, nr_pages, align,
				       PP_NOFS | (*zero ? PP_ZERO : 0),
				       &zeroed);
	errno = saved;
	if (!extent)
		return NULL;
	*zero = zeroed;
	add_relaxed(&je->mapped_pages, nr_pages);
	return extent;
}

static bool dalloc_hook(extent_hooks_t *hooks, void *extent, size_t size,
			bool committed PP_UNUSED,
			unsigned arena_ind PP_UNUSED)
{
	struct pp_jemalloc *je = bridge_of(hooks);
	size_t nr_pages = size / PP_PAGE_SIZE;

	sub_relaxed(&je->mapped_pages, nr_pages);
	if (!gate_enter()) {
		put_off(je, extent, nr_pages);
		return false;
	}
	free_late(je);
	if (!pagepool_extent_free(je->pool, extent, nr_pages))
		put_off(je, extent, nr_pages);
	gate_leave();
	hooks_own_pages += nr_pages;
	add_relaxed(&je->returned_pages, nr_pages);
	return false;
}

static bool split_hook(extent_hooks_t *hooks, void *extent,
		       size_t size PP_UNUSED, size_t size_a,
		       size_t size_b PP_UNUSED, bool committed PP_UNUSED,
		       unsigned arena_ind PP_UNUSED)
{
	pagepool_extent_cut(bridge_of(hooks)->pool, extent,
			    size_a / PP_PAGE_SIZE);
	return false;
}

/* Runs side by side are as good as one. */
static bool merge_hook(extent_hooks_t *hooks PP_UNUSED, void *a PP_UNUSED,
		       size_t size_a PP_UNUSED, void *b PP_UNUSED,
		       size_t size_b PP_UNUSED, bool committed PP_UNUSED,
		       unsigned arena_ind PP_UNUSED)
{
	return false;
}

/* No decommit and no purge: an extent keeps its memory until it goes back, and
 * the pool decides then. */
void hooks_init(struct pp_jemalloc *je)
{
	je->hooks = (extent_hooks_t){
		.alloc = alloc_hook,
		.dalloc = dalloc_hook,
		.split = split_hook,
		.merge = merge_hook,
	};
}

/* fork */

static void on_prepare(void)
{
	const struct timespec step = { .tv_nsec = GATE_STEP_NS };

	pthread_mutex_lock(&bridge_list_lock);
	atomic_fetch_add(&nr_forks, 1);
	pthread_mutex_unlock(&bridge_list_lock);
	/* Bounded, for a handler of a signal on top of a hook that forks. */
	for (unsigned i = 0; i < GATE_MAX_STEPS && atomic_load(&nr_inside); i++)
		nanosleep(&step, NULL);
	pthread_mutex_lock(&bridge_list_lock);
}

static void open_gate(void)
{
	for (struct pp_jemalloc *je = bridges; je; je = je->next)
		hooks_free_late(je);
	pthread_mutex_unlock(&bridge_list_lock);
}

static void on_parent(void)
{
	atomic_fetch_sub(&nr_forks, 1);
	open_gate();
}

/* The other threads, and what they counted, are not there. */
static void on_child(void)
{
	atomic_store(&nr_forks, 0);
	atomic_store(&nr_inside, 0);
	open_gate();
}

int hooks_register(struct pp_jemalloc *je)
{
	static bool hooked;	/* bridge_list_lock */
	int err = 0;

	pthread_mutex_lock(&bridge_list_lock);
	/* After the pool's, to run before them; there is a pool. */
	if (!hooked)
		err = pthread_atfork(on_prepare, on_parent, on_child);
	if (!err) {
		hooked = true;
		je->next = bridges;
		bridges = je;
	}
	pthread_mutex_unlock(&bridge_list_lock);
	return -err;
}

void hooks_unregister(struct pp_jemalloc *je)
{
	struct pp_jemalloc **at = &bridges;

	pthread_mutex_lock(&bridge_list_lock);
	while (*at != je)
		at = &(*at)->next;
	*at = je->next;
	pthread_mutex_unlock(&bridge_list_lock);
}
