/* SPDX-License-Identifier: MIT */
/* arena.c - pagepool/jemalloc.h: an arena, its shrinker and its end. */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>

#include "base/bits.h"
#include "base/compiler.h"
#include "bridge.h"
#include "pagepool/stat.h"

#define MIN_MAJOR		5
#define MIN_MINOR		3
/* Linux: MAX_RECLAIM_RETRIES. */
#define MALLOCX_MAX_RETRIES	16u
/* Beside the block: a slab of jemalloc's, which has up to so many pages. */
#define SLAB_PAGES		32u
#define MIB_MAX			8u
/* What a scan waits for another thread's: a second; 2 ms without a page. */
#define PURGE_STEP_NS		100000l
#define PURGE_MAX_STEPS		10000u
#define PURGE_MAX_IDLE		20u

/* jemalloc's mallctl, with the arena's number in place of the 0 in @name */

static int ctl_mib(const char *name, unsigned ind, size_t at,
		   size_t *mib, size_t *len)
{
	int err = mallctlnametomib(name, mib, len);

	if (!err)
		mib[at] = ind;
	return -err;
}

static int set_hooks(struct pp_jemalloc *je)
{
	size_t mib[MIB_MAX], len = MIB_MAX;
	extent_hooks_t *hooks = &je->hooks;
	int err = ctl_mib("arena.0.extent_hooks", je->ind, 1, mib, &len);

	return err ? err : -mallctlbymib(mib, len, NULL, NULL, &hooks,
					 sizeof(hooks));
}

/* Where jemalloc counts the arena's active pages.  It knows the arena for this
 * purpose from the next epoch on. */
static int find_active(struct pp_jemalloc *je)
{
	size_t mib[MIB_MAX], len = MIB_MAX, old = sizeof(je->active_pages);
	uint64_t epoch = 1;
	int err;

	mallctl("epoch", NULL, NULL, &epoch, sizeof(epoch));
	err = ctl_mib("experimental.arenas.0.pactivep", je->ind, 2, mib, &len);
	return err ? err : -mallctlbymib(mib, len, &je->active_pages, &old,
					 NULL, 0);
}

static int destroy_arena(struct pp_jemalloc *je)
{
	size_t mib[MIB_MAX], len = MIB_MAX;
	int err = ctl_mib("arena.0.destroy", je->ind, 1, mib, &len);

	return err ? err : -mallctlbymib(mib, len, NULL, NULL, NULL, 0);
}

static bool is_new_enough(void)
{
	const char *version = NULL;
	size_t len = sizeof(version);
	char *dot;
	long major;

	if (mallctl("version", &version, &len, NULL, 0) || !version)
		return false;
	major = strtol(version, &dot, 10);
	return major > MIN_MAJOR ||
	       (major == MIN_MAJOR && *dot == '.' &&
		strtol(dot + 1, NULL, 10) >= MIN_MINOR);
}

/* The shrinker */

static size_t dirty_pages(const struct pp_jemalloc *je)
{
	size_t mapped = load_relaxed(&je->mapped_pages);
	size_t active = __atomic_load_n(je->active_pages, __ATOMIC_RELAXED);

	return mapped > active ? mapped - active : 0;
}

static size_t count(void *arg, struct pp_shrink *shrink PP_UNUSED)
{
	size_t n = dirty_pages(arg);

	return n ? n : PP_SHRINK_EMPTY;
}

/* Did the calling thread free anything? */
static bool purge(struct pp_jemalloc *je)
{
	uint64_t before = hooks_own_pages;

	mallctlbymib(je->purge_mib, ARRAY_SIZE(je->purge_mib), NULL, NULL,
		     NULL, 0);
	hooks_free_late(je);
	return hooks_own_pages != before;
}

/*
 * jemalloc purges an arena as a whole, and does nothing where another thread is
 * at it: that one's pages are as good, so wait for it as long as it frees some.
 */
static size_t scan(void *arg, struct pp_shrink *shrink)
{
	const struct timespec step = { .tv_nsec = PURGE_STEP_NS };
	struct pp_jemalloc *je = arg;
	uint64_t before = load_relaxed(&je->returned_pages);
	uint64_t seen = before, now;
	unsigned nr_idle = 0;

	for (unsigned i = 0; i < PURGE_MAX_STEPS && !purge(je) &&
	     dirty_pages(je) && nr_idle < PURGE_MAX_IDLE; i++) {
		nanosleep(&step, NULL);
		now = load_relaxed(&je->returned_pages);
		nr_idle = now == seen ? nr_idle + 1 : 0;
		seen = now;
	}
	now = load_relaxed(&je->returned_pages);
	if (now == before)
		return PP_SHRINK_STOP;
	shrink->nr_scanned = max_u64(now - before, shrink->nr_to_scan);
	return now - before;
}

static int add_shrinker(struct pp_jemalloc *je)
{
	const struct pp_shrinker shrinker = {
		.struct_bytes = sizeof(shrinker),
		.name = "jemalloc",
		.arg = je,
		.count = count,
		.scan = scan,
		.seeks = PP_SHRINKER_SEEKS,
	};

	return pp_shrinker_register(je->pool, &shrinker, &je->shrinker);
}

/* The arena */

static int create_arena(struct pp_jemalloc *je)
{
	size_t len = sizeof(je->ind);

	/* Without hooks at first: what jemalloc needs for its records, in steps
	 * of 2 MiB, is not to be the pool's. */
	return mallctl("arenas.create", &je->ind, &len, NULL, 0) ? -ENOMEM : 0;
}

static int prepare_arena(struct pp_jemalloc *je)
{
	size_t len = ARRAY_SIZE(je->purge_mib);

	hooks_init(je);
	if (set_hooks(je) || find_active(je) ||
	    ctl_mib("arena.0.purge", je->ind, 1, je->purge_mib, &len))
		return -ENOTSUP;
	if (hooks_register(je))
		return -ENOMEM;
	if (add_shrinker(je)) {
		hooks_unregister(je);
		return -ENOMEM;
	}
	return 0;
}

int pp_jemalloc_arena(struct pp_pool *pool, struct pp_jemalloc **out,
		      unsigned *arena_ind)
{
	struct pp_jemalloc *je;
	int err;

	if (!pool || !out || !arena_ind)
		return -EINVAL;
	if (!is_new_enough())
		return -ENOTSUP;
	je = pp_alloc_pages(pool, 1, PP_ZERO);
	if (!je)
		return -ENOMEM;
	je->pool = pool;
	err = create_arena(je);
	if (!err) {
		err = prepare_arena(je);
		if (err)
			destroy_arena(je);
	}
	if (err) {
		pp_free_pages(pool, je);
		return err;
	}
	*out = je;
	*arena_ind = je->ind;
	return 0;
}

int pp_jemalloc_destroy(struct pp_jemalloc *je)
{
	if (!je)
		return -EINVAL;
	mallctl("thread.tcache.flush", NULL, NULL, NULL, 0);
	/* The arena's number may be another's as soon as it is free. */
	pp_shrinker_unregister(je->shrinker);
	je->shrinker = NULL;
	if (destroy_arena(je)) {
		add_shrinker(je);
		return -EBUSY;
	}
	hooks_unregister(je);
	hooks_free_late(je);
	pp_free_pages(je->pool, je);
	return 0;
}

/* mallocx() with reclaim */

#define TCACHE_SHIFT	8
#define TCACHE_MASK	(0xfff << TCACHE_SHIFT)

static_assert(MALLOCX_TCACHE_NONE == 1 << TCACHE_SHIFT,
	      "the flags of jemalloc 5");

/* What the caller's thread cache holds may be all that keeps slabs in use. */
static void flush_own(int flags)
{
	unsigned tcache;

	if ((flags & TCACHE_MASK) == MALLOCX_TCACHE_NONE) {
		mallctl("thread.tcache.flush", NULL, NULL, NULL, 0);
		return;
	}
	tcache = (unsigned)((flags & TCACHE_MASK) >> TCACHE_SHIFT) - 2;
	mallctl("tcache.flush", NULL, NULL, &tcache, sizeof(tcache));
}

/* Is a second attempt worth while, if the one after this fails? */
static bool make_room(struct pp_jemalloc *je, uint64_t pages)
{
	if (pp_pool_reclaim(je->pool, pages) > 0)
		return true;
	/* Another thread may have freed it, and a third one taken it. */
	sched_yield();
	return dirty_pages(je) != 0;
}

static void *mallocx_hard(struct pp_jemalloc *je, size_t bytes, int flags)
{
	uint64_t pages = bytes / PP_PAGE_SIZE + SLAB_PAGES;
	bool again = true;
	void *p = NULL;

	if (pages > (uint64_t)pp_stat_read(je->pool, PP_STAT_MANAGED_PAGES))
		return NULL;
	flush_own(flags);
	for (unsigned i = 0; !p && again && i < MALLOCX_MAX_RETRIES; i++) {
		again = make_room(je, pages);
		p = mallocx(bytes, flags);
	}
	return p;
}

void *pp_jemalloc_mallocx(struct pp_jemalloc *je, size_t bytes, int flags)
{
	void *p;

	flags |= MALLOCX_ARENA(je->ind);
	if (!(flags & TCACHE_MASK))
		flags |= MALLOCX_TCACHE_NONE;
	bytes = bytes ? bytes : 1;
	p = mallocx(bytes, flags);
	if (unlikely(!p))
		p = mallocx_hard(je, bytes, flags);
	if (unlikely(!p))
		errno = ENOMEM;
	return p;
}
