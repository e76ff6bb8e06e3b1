/* SPDX-License-Identifier: MIT */
/*
 * pcp.h - what a thread keeps at hand (layer 6).
 *
 * Two kinds of stacks, last in first out: free small objects by size class,
 * linked through the objects themselves ("magazines", filled and emptied by
 * slab.c), and free page runs by length, named in arrays, because a run that
 * was never touched must not be touched for being cached.  The name is the
 * kernel's per-CPU pageset; a thread stands for the CPU.
 *
 * Who may do what.  The owner raises `busy` with a plain store, looks at
 * `drain`, works, and lowers it.  Everything else in the struct is the owner's
 * while busy is up.  A signal handler that finds busy up runs on top of the
 * owner and keeps its hands off: its allocations come from the early area, its
 * frees go to the `deferred` stack.  How a cache is emptied from outside is
 * told in pcp_drain.h.
 *
 * In front of each stack stands one place for what is freed right after it was
 * allocated, the commonest pattern of all.  Such a pair then passes through no
 * counter and no link, each of which would have to wait for the one before it.
 * Anything else goes to the stacks, so that either branch is easy to predict.
 *
 * What all caches may hide is bounded: an eighth of the zone while its free
 * pages are above high, low - min below, divided by the number of threads.
 * Each stack's `max` is granted out of the thread's share and grows with use.
 *
 * With several zones a cache has a home, the zone that it is filled from, and
 * base, map and span_bytes are those of the home's range: pointers of other
 * zones fail the fast paths' test for the range, and go back to where they
 * came from.  When pages are interleaved, the range is the whole span.  Either
 * way page numbers in a cache count from its base.
 *
 * I1: a cached run has MAP_CACHED in the map, and is used in its zone
 * I2: long_bytes == sum of the long runs
 * I3: 0 <= room <= max for every magazine, count <= max for every bin, when
 *     busy is down; what stands in front is one more, and none where max is 0
 * I4: granted_bytes == sum over all stacks of max * unit + long_granted_bytes,
 *     and long_bytes <= long_granted_bytes; a cache that was granted nothing
 *     holds nothing
 * I5: may_cache_pages == sum over bins with max > 0 of (max + 1) * pages +
 *     the pages of long_granted_bytes; cached, seen and published_pages <=
 *     that
 */
#ifndef PP_PCP_H
#define PP_PCP_H

#include "base/bug.h"
#include "base/delay.h"
#include "base/lock.h"
#include "vmstat.h"
#include "zone.h"

#define PCP_NR_SMALL		64	/* size classes of slab.h */
#define PCP_NR_BINS		64	/* RUN_NR_BINS, and some empty ones */
#define PCP_BIN_PAGES		512u	/* what one bin of runs may hold */
#define PCP_BIN_MAX_RUNS	48u
#define PCP_RUN_SLOTS		1014
#define PCP_NR_LONG		2
#define PCP_MAX_LONG_PAGES	(64u << 8)	/* 64 MiB */
#define PCP_PAGES		2
#define PCP_BYTES		(PCP_PAGES * PP_PAGE_BYTES)

/* How many objects a magazine may have, and how many more fit just now; -1
 * while it is over its max. */
struct magazine {
	int32_t		room;
	int32_t		max;
};

/* Free runs of one length: slots[first .. first + count - 1]. */
struct run_bin {
	_Atomic uint16_t	count;	/* others read it */
	uint16_t		max;
	uint16_t		first;
	uint16_t		pages;
};

/* struct pcp.busy: who is at the cache. */
enum {
	PCP_FREE,
	PCP_OWNER,
	PCP_DRAINER,		/* where busy is a lock, see pcp_drain.h */
	PCP_WAITING,		/* the owner, who has emptied it */
	PCP_UNLOCKED,		/* FREE, where busy is a lock */
};

/* struct pcp.drain: see pcp_drain.h. */
enum {
	DRAIN_NONE,
	DRAIN_WANTED,
	DRAIN_LIFE,
	DRAIN_TAKEN,
	DRAIN_MINE,
	DRAIN_LOCKED,
};

struct pcp {
	/* see pcp_drain.h for both */
	_Atomic uint32_t	busy;
	_Atomic uint32_t	drain;

	/* const while the thread lives; copied to be in this cache line.
	 * Before malloc.c is relocated it takes the thread's control block for
	 * a cache: there busy is not 0, and span_bytes is. */
	uintptr_t		base;		/* of the home's range */
	_Atomic uint32_t	*map;
	uint64_t		span_bytes;
	char			*slabs;
	struct pcp_registry	*registry;

	/* owner only; others read counts, long_run and stat */
	void			*last;	/* what was handed out last */
	_Atomic uint32_t	last_word; /* its word, a slab's w/o number */
	_Atomic uint64_t	granted_bytes;
	void			*front[PCP_NR_SMALL];
	_Atomic(void *)		front_run[PCP_NR_BINS];
	uint64_t		long_granted_bytes;
	uint64_t		long_bytes;	/* cached in long_run */
	void			*small_head[PCP_NR_SMALL];
	struct magazine		small[PCP_NR_SMALL];
	struct run_bin		bin[PCP_NR_BINS];
	uint32_t		slots[PCP_RUN_SLOTS];
	struct { uint32_t page; _Atomic uint32_t pages; } long_run[PCP_NR_LONG];
	uint32_t		long_victim;	/* the next to make room */
	/* for cheap reads: each bin's runs after its last slow path, the pages
	 * of these and of long_run, and what vmstat knows of that */
	uint8_t			seen_runs[RUN_NR_BINS];
	uint32_t		seen_pages;
	uint32_t		published_pages;
	uint32_t		may_cache_pages;
	uint32_t		nr_slow_steps;
	bool			is_flushing;
	_Atomic uint64_t	given_pages;	/* back to zones, so far */
	struct vmstat_delta	stat;		/* others fold */
	struct pcp		*next_pool;	/* same thread, other pool */
	_Atomic bool		inside;	/* working without its caches */
	_Atomic bool		alive;	/* used since reclaimd last looked */
	_Atomic bool		give_up;	/* wanted, if busy is a lock */

	/* owner only; others read home and is_shared.  These two change while
	 * the cache is empty, see pcp_home.c */
	_Atomic(struct zone *)	home;
	uint32_t		turn;	/* in the round of interleaving */
	_Atomic bool		is_shared;	/* by runs of all zones */
	struct zone		*payer;	/* const: of the cache's page */

	/* a signal handler on top of the owner pushes, the owner takes all */
	_Atomic(void *)		deferred;

	/* registry->lock */
	struct pcp		*prev, *next;
	bool			exiting;
	bool			orphan;	/* its thread is gone by fork */
};

static_assert(sizeof(struct pcp) <= PCP_BYTES, "a cache is two pages");
static_assert(offsetof(struct pcp, busy) == 0 &&
	      offsetof(struct pcp, span_bytes) == 24, "see above");

/* What a pool knows of its threads' caches. */
struct pcp_registry {
	/* const after pcp_registry_init() */
	struct zone	*zones;
	struct nodes	*nodes;	/* NULL: one zone; set by the pool */
	void		(*flush_small)(struct pcp *pcp, unsigned class,
				       uint32_t keep);
	void		(*drain_small)(struct pcp_registry *reg,
				       struct pcp *pcp);
	void		(*free_deferred)(struct pcp *pcp, void *p);
	/* what pool_follow_limit() does; NULL: no pool around it */
	int		(*follow_limit)(struct pcp_registry *reg);
	/* free memory in slabs and depots, an estimate from above */
	uint64_t	(*small_free_bytes)(struct pcp_registry *reg);
	struct slab_heap *heap;	/* for flush_small() */
	/* for those above */
	struct drain_service *drain_service;
	struct call_service *calls;	/* NULL: who wants a call makes it */
	struct callback_list *shrinkers;
	struct pressure	*pressure;
	struct oom	*oom;
	struct reclaimd	*reclaimd;	/* one a zone */
	struct vmstat	*vmstat;

	/* frees that no cache could take: handlers push, pool_enter() takes */
	_Atomic(void *)	deferred;

	/* any thread: there is something to do outside of the caches, such as
	 * to tell the program that memory is low; see inline_reclaim.h */
	_Atomic bool	work_due;
	_Atomic uint64_t purge_delay_ns;	/* settings */
	_Atomic uint64_t oom_timeout_ns, oom_reserve_bytes;
	/* claim_lock to write, any thread reads; rank LEAF */
	struct lock	claim_lock;
	_Atomic uint64_t claimant;	/* a thread's identity, see claim.h */
	_Atomic uint64_t claim_until_ns;
	/* any thread */
	struct memwait	memwait;	/* requests that wait for memory */
	/* watch to write, for reclaimd: how often memory was short outside of
	 * the pool; what the limit auto comes to by now, 0: as it was */
	_Atomic uint32_t outside_pressure;
	_Atomic uint64_t auto_limit_bytes;

	/* whoever drains; rank DRAIN */
	struct lock	drain_lock;

	/* pcp_registry_lock */
	struct pcp	*head;
	_Atomic uint32_t nr_pcps;	/* any thread reads */
	_Atomic bool	has_orphans;	/* after a fork, in the child */
};

/* Guards the lists of all pools' caches, and the storage of caches. */
extern struct lock pcp_registry_lock;

/*
 * Stand-ins for "this thread has no cache": none yet, or no more, because it
 * is exiting; each with a second one for "and it is inside one of our
 * functions", which a signal handler on top of it must know.  All are busy for
 * ever and own no addresses, so that the fast paths find out by the tests that
 * they make anyway.
 */
extern struct pcp pcp_none, pcp_none_inside, pcp_gone, pcp_gone_inside;

/* @zones: all of the pool's. */
void pcp_registry_init(struct pcp_registry *reg, struct zone *zones,
		       struct vmstat *vmstat);

/* Once, before the first pool: the hook that runs at thread exit.  -errno if
 * there is none to be had; threads then work without caches. */
int pcp_hook_thread_exit(void);

/* The calling thread has one even if it never gets a cache. */
bool pcp_watch_thread_exit(void);

/* Called when the program's first thread ends by pthread_exit() while others
 * go on; NULL: nobody wants to know. */
extern void (*pcp_main_exit_hook)(void);

/**
 * pcp_attach() - the calling thread's cache for a pool, made if need be.
 *
 * Return: the cache; NULL if the thread is exiting, is about to get one, or
 * there is no memory for one: the caller then works without.
 */
struct pcp *pcp_attach(struct pcp_registry *reg);

/* The same, but never made. */
struct pcp *pcp_find(struct pcp_registry *reg);

/* Enter and leave without a cache, see the stand-ins. */
void pcp_enter_without(void);
void pcp_leave_without(void);

/* A lock for who has not entered: inside meanwhile, so that a handler on top
 * keeps off it. */
void pcp_lock(struct lock *lock);
void pcp_unlock(struct lock *lock);

/* Is the thread inside one of our functions already? */
bool pcp_is_inside(void);

/* For a pool that goes away.  -EBUSY while a thread is exiting with one of its
 * caches; no other thread may be using the pool. */
int pcp_detach_all(struct pcp_registry *reg);

/* In the child of a fork, while it is alone: the others' caches have no owner
 * any more.  Later, by any thread: what is in them goes back. */
void pcp_mark_orphans(struct pcp_registry *reg);
void pcp_adopt_orphans(struct pcp_registry *reg);

/*
 * Enter and leave.  pcp_enter() is false if a handler interrupted the owner,
 * the thread has no cache, or a drainer wants it: pcp_enter_slow() then.
 */
static PP_ALWAYS_INLINE bool pcp_enter(struct pcp *pcp)
{
	/* Relaxed: only the owner writes busy, or it is never FREE (D5). */
	if (unlikely(load_relaxed(&pcp->busy)))
		return false;
	store_relaxed(&pcp->busy, PCP_OWNER);
	/* The drainer's membarrier stands between this store and load. */
	barrier();
	delay_at(DELAY_ENTER);
	/* Acquire: pairs with the release in drain_give_back(). */
	if (unlikely(load_acquire(&pcp->drain))) {
		store_release(&pcp->busy, PCP_FREE);
		return false;
	}
	delay_at(DELAY_INSIDE);
	return true;
}

/* After pcp_enter(). */
static PP_ALWAYS_INLINE void pcp_leave(struct pcp *pcp)
{
	VM_BUG_ON(load_relaxed(&pcp->drain) == DRAIN_TAKEN);	/* D3 */
	VM_BUG_ON(load_relaxed(&pcp->drain) == DRAIN_LOCKED);	/* D5 */
	/* Release: pairs with the acquire in drain_take(). */
	store_release(&pcp->busy, PCP_FREE);
}

/* At the end of slow paths: also frees what a handler could not. */
void pcp_leave_slow(struct pcp *pcp);
void pcp_free_deferred(struct pcp *pcp);
void pcp_defer_free(_Atomic(void *) *stack, void *p);

static inline uint32_t magazine_count(const struct magazine *m)
{
	return (uint32_t)(m->max - m->room);
}

static inline uint32_t pcp_bin_cap(uint32_t run_pages)
{
	uint32_t cap = PCP_BIN_PAGES / run_pages;

	return cap < 2 ? 2 : cap > PCP_BIN_MAX_RUNS ? PCP_BIN_MAX_RUNS : cap;
}

/* Takes a cached run whose word in the map is to be @word, or returns NULL.
 * Busy. */
static PP_ALWAYS_INLINE void *pcp_pop_run(struct pcp *pcp, uint32_t word)
{
	unsigned nr = run_word_bin(word);
	void *run = load_relaxed(&pcp->front_run[nr]);
	struct run_bin *bin;
	uint32_t count;
	uint64_t page;

	if (likely(run)) {
		store_relaxed(&pcp->front_run[nr], NULL);
		page = ((uintptr_t)run - pcp->base) >> PP_PAGE_SHIFT;
	} else {
		bin = &pcp->bin[nr];
		count = load_relaxed(&bin->count);
		if (unlikely(!count))
			return NULL;
		page = pcp->slots[bin->first + --count];
		store_relaxed(&bin->count, (uint16_t)count);
		run = (void *)(pcp->base + (page << PP_PAGE_SHIFT));
	}
	store_relaxed(&pcp->map[page], word);
	pcp->last = run;
	store_relaxed(&pcp->last_word, word);
	return run;
}

/*
 * Is it the live run that was handed out last?  Busy: a handler that allocates
 * changes what is last.
 */
static PP_ALWAYS_INLINE bool pcp_is_last_run(const struct pcp *pcp,
					     const void *run, uint32_t word)
{
	return likely(run == pcp->last) &&
	       likely(word == load_relaxed(&pcp->last_word));
}

/* Puts the run that was handed out last in front.  Busy. */
static PP_ALWAYS_INLINE void pcp_push_last_run(struct pcp *pcp, void *run,
					       uint64_t page, uint32_t word)
{
	store_relaxed(&pcp->map[page], word | MAP_CACHED);
	store_relaxed(&pcp->front_run[run_word_bin(word)], run);
}

/* Caches a live run if its bin, if it has one, has room.  Busy. */
static PP_ALWAYS_INLINE bool pcp_push_run(struct pcp *pcp, uint64_t page,
					  uint32_t word)
{
	struct run_bin *bin = &pcp->bin[run_word_bin(word)];
	uint32_t count = load_relaxed(&bin->count);

	if (unlikely(count >= bin->max))
		return false;
	store_relaxed(&pcp->map[page], word | MAP_CACHED);
	pcp->slots[bin->first + count] = (uint32_t)page;
	store_relaxed(&bin->count, (uint16_t)(count + 1));
	return true;
}

static inline struct zone *pcp_home(const struct pcp *pcp)
{
	return load_relaxed(&pcp->home);
}

/* Pages of the cache's range count from its base. */
static inline uint64_t pcp_first_page(const struct pcp *pcp)
{
	return span_page_of(pcp_home(pcp)->span, (const void *)pcp->base);
}

/* The zone of a run in the cache, by its page there. */
static inline struct zone *pcp_zone_of(const struct pcp *pcp, uint64_t page)
{
	if (likely(!load_relaxed(&pcp->is_shared)))
		return pcp_home(pcp);
	return zone_of_page(pcp->registry->zones, page);
}

/* May the run at @page of the span be cached here? */
static inline bool pcp_covers(const struct pcp *pcp, uint64_t page)
{
	return page - pcp_first_page(pcp) <
	       bytes_to_pages_down(pcp->span_bytes);
}

/* Finds a home for a new cache; and takes it from the list of those at home
 * there. */
void pcp_move_in(struct pcp *pcp);
void pcp_move_out(struct pcp *pcp);

/*
 * The zone to fill the cache from.  The owner's node or the policy may have
 * changed: then the cache is emptied, and has another home.  Busy.
 */
struct zone *pcp_refill_zone(struct pcp *pcp);

/* Zone @index served the owner: the next is next in turn. */
static inline void pcp_was_served(struct pcp *pcp, unsigned index)
{
	pcp->turn = index + 1;
}

/* May a request for zone @index, and no other, be served from the cache? */
bool pcp_is_home(const struct pcp *pcp, unsigned index);

/* The rest: what to do when a stack is empty or full.  All with busy up.  Pages
 * count from the cache's base. */
void *pcp_take_long(struct pcp *pcp, uint64_t nr_pages, uint64_t align_pages);
bool pcp_keep_long(struct pcp *pcp, uint64_t page, uint32_t word);
void pcp_free_run_slow(struct pcp *pcp, uint64_t page, uint32_t word);
bool pcp_grow_magazine(struct pcp *pcp, unsigned class, uint32_t by,
		       uint32_t cap, uint32_t object_bytes);
unsigned pcp_refill_runs(struct pcp *pcp, unsigned bin_nr, struct zone *zone,
			 uint64_t floor_pages, enum failure *why);
void pcp_flush(struct pcp *pcp);	/* everything */
uint64_t pcp_share_bytes(const struct pcp *pcp);

/* Wakes the background thread of the first zone, which does what is the whole
 * pool's, if there is one. */
void pcp_kick_reclaimd(struct pcp_registry *reg);

/* A zone's free pages are at low or below: wakes its reclaimd. */
void pcp_note_low(struct pcp_registry *reg, struct zone *zone);

/* After a claim of pages. */
static inline void pcp_note_claim(struct pcp_registry *reg, struct zone *zone)
{
	if (unlikely(zone_free_pages(zone) <= load_relaxed(&zone->low_pages)))
		pcp_note_low(reg, zone);
}

/* Pages that the thread's cache gave back to zones, once it is empty; 0 if it
 * has none.  Not entered. */
uint64_t pcp_given_pages(struct pcp_registry *reg);

/* Counts; with @pcp NULL, for a thread without a cache. */
static inline void pcp_count_in(struct pcp_registry *reg, struct pcp *pcp,
				enum vm_item what, int64_t n)
{
	if (likely(pcp))
		vmstat_mod(reg->vmstat, &pcp->stat, what, n);
	else
		vmstat_add(reg->vmstat, what, n);
}

static inline void pcp_count(struct pcp *pcp, enum vm_item what, int64_t n)
{
	pcp_count_in(pcp->registry, pcp, what, n);
}

/* The pages in one cache; and the sum over the live threads.  Exact when they
 * are at rest. */
int64_t pcp_cached_pages(const struct pcp *pcp);
int64_t pcp_sum_cached_pages(struct pcp_registry *reg);

/* The pages of one zone that are in caches.  Where pages are interleaved this
 * looks at the whole zone. */
int64_t pcp_sum_cached_pages_of(struct pcp_registry *reg, struct zone *zone);

/* Adds what all live threads have counted to vmstat's global words. */
void pcp_fold_all(struct pcp_registry *reg);

/* The zones' marks have changed; memory is short from now on, or no more. */
void pcp_update_thresholds(struct pcp_registry *reg);
void pcp_set_pressure(struct pcp_registry *reg, bool under_pressure);

/* Checks the caller's own cache; the number of the failed invariant or 0. */
int pcp_verify(const struct pcp *pcp);

#endif
