/* SPDX-License-Identifier: MIT */
/*
 * pool.h - a pool: its span, zones, caches and slabs, put together (layer 12).
 *
 * The limit covers the tables of twice the blocks of a full zone, so that a
 * zone in any but an adversary's state of fragmentation needs nothing more;
 * managed = limit - what those take.
 */
#ifndef PP_POOL_H
#define PP_POOL_H

#include "mempolicy.h"
#include "oom.h"
#include "pagepool.h"
#include "pressure.h"
#include "reclaimd.h"
#include "shrinker.h"
#include "slab.h"
#include "slowpath.h"

#define POOL_FLAGS_KNOWN \
	(PP_NOWAIT | PP_HIGH | PP_MEMALLOC | PP_NOMEMALLOC | PP_NORETRY | \
	 PP_ZERO | PP_NOWARN | PP_THISNODE | PP_NOIO | PP_NOFS | \
	 PP_RETRY_MAYFAIL | PP_NOFAIL)

/* What cannot wait can fail. */
static inline bool pool_flags_are_valid(unsigned flags)
{
	return !(flags & ~POOL_FLAGS_KNOWN) &&
	       !(flags & PP_NOFAIL && flags & PP_NOWAIT);
}

struct pp_reserve;

struct pp_pool {
	struct zone		*zones;		/* const: all of them */
	struct nodes		*nodes;		/* const; NULL: one zone */
	uint16_t		node_id;	/* of the one zone */
	struct zone		one_zone;
	struct span		span;
	struct pcp_registry	registry;
	struct vmstat		vmstat;
	struct slab_heap	heap;
	struct drain_service	drain_service;
	struct call_service	calls;
	struct callback_list	shrinkers;
	struct oom		oom;
	struct pressure		pressure;
	struct reclaimd		one_reclaimd;	/* where there is one zone */

	/* zone.lock to write; any thread reads */
	_Atomic uint64_t	limit_pages;
	_Atomic uint64_t	metadata_pages;

	/* config_lock */
	struct lock		config_lock;
	struct pp_config	config;
	struct pp_reserve	*reserves;	/* see reserve.h */

	/* any thread */
	_Atomic bool		verbose;
	_Atomic bool		limit_is_auto;
	_Atomic uint64_t	next_report_ns;
	_Atomic uint64_t	nr_unreported;	/* failures since then */
	_Atomic bool		oom_aborts;	/* the setting oom */
	_Atomic int64_t		reserved_pages[NODES_MAX];	/* by zone */
	struct inject		inject;		/* see there */

	/* pool_list_lock */
	struct pp_pool		*next;
};

/* The pool of the process; only pool_default() may assume that it is made. */
extern struct pp_pool pool_of_process;

/**
 * pool_default() - the pool of the process, made if need be.
 * Return: the pool, or NULL if there is no address space for it.
 */
struct pp_pool *pool_default(void);

/* Is it made?  Acquire: if so, all of it is visible. */
bool pool_default_is_ready(void);

/* Problems that the environment of the default pool had. */
unsigned pool_default_bad_settings(void);

int pool_init(struct pp_pool *pool, const struct pp_config *config);
int pool_exit(struct pp_pool *pool);

/* What a limit pays for besides the pages managed. */
struct pool_tables {
	uint32_t	nr_blocks[NODES_MAX];	/* by zone, whose tables it
						 * covers */
	uint32_t	nr_slabs;	/* whose descriptors it covers */
	uint64_t	metadata_pages;	/* both, and the pool itself */
};

/* @least: blocks and slabs that must be covered; NULL: none. */
struct pool_tables pool_tables_for(const struct nodes *nodes,
				   uint64_t limit_pages,
				   const struct pool_tables *least);

/**
 * pool_set() - change a live setting: what pp_pool_set() documents.
 *
 * Context: entered by nobody; purges, when the limit is lowered.
 */
int pool_set(struct pp_pool *pool, const char *name, const char *value);

/**
 * pool_follow_limit() - make reg->auto_limit_bytes the limit, if it is auto.
 *
 * An explicit limit stays what it is.  Raises at once, as far as the span has
 * room.  Lowers as far as what is used allows.
 *
 * Context: a thread of the pool's own; drains.
 * Return: 0; -EAGAIN if more is used than that: to be called again.
 */
int pool_follow_limit(struct pcp_registry *reg);

/**
 * pool_start_threads() - make the pool's own threads, if there are none yet.
 * Context: not from inside an allocation; no lock held.
 */
void pool_start_threads(struct pp_pool *pool);

/* The same for calls of a user of the library that are no allocations: in the
 * child of a fork a pool has no threads until there is one of these.  Those of
 * the preload library's pool come with the program's own. */
void pool_start_own_threads(struct pp_pool *pool);

/* Calls @visit for each pool, with the lock of their list held. */
void pools_visit(void (*visit)(struct pp_pool *pool, void *arg), void *arg);

/* The thread's cache for the pool, entered; NULL: work without.  Each is left
 * by pool_leave().  Not when nested. */
struct pcp *pool_enter(struct pp_pool *pool);
static inline void pool_leave(struct pcp *pcp)
{
	if (pcp)
		pcp_leave_slow(pcp);
	else
		pcp_leave_without();
}

/*
 * May the caller take the pool's locks?  Not a signal handler on top of one of
 * our own functions in the same thread.
 */
bool pool_is_nested(struct pp_pool *pool);

/* Frees @p later: the caller is nested. */
void pool_defer_free(struct pp_pool *pool, void *p);

/* Counts a failure, notes it as the thread's last one, and reports it or stops
 * the program as the settings say: see failure.h.  @pool may be NULL, if there
 * is none. */
void pool_failed(struct pp_pool *pool, size_t bytes, unsigned flags,
		 enum failure why);

/**
 * pool_injects() - does this request of the program's fail on purpose?
 * @bytes: what is asked for.
 *
 * Asked once for each request that the program makes, before anything is done
 * for it; never for what the pool needs itself.  If it fails it is counted, and
 * the caller says ENOMEM.  PP_NOFAIL never does, and neither does a request of
 * a signal handler on top of a call.
 */
bool pool_injects_now(struct pp_pool *pool, size_t bytes, unsigned flags);
static inline bool pool_injects(struct pp_pool *pool, size_t bytes,
				unsigned flags)
{
	return unlikely(inject_is_on(&pool->inject)) &&
	       pool_injects_now(pool, bytes, flags);
}

/* Frees any live pointer of the pool, which the caller has looked up.  @pcp is
 * entered, or NULL. */
void pool_free(struct pp_pool *pool, struct pcp *pcp, void *p, uint32_t word);

/* Sets what `numa` says.  -EINVAL: it names nodes that are not there. */
int pool_set_numa(struct pp_pool *pool, const struct numa_setting *setting);

/* What waits how long, and for how much. */
void pool_set_waits(struct pp_pool *pool, const struct pp_config *config);

/* A run for the public functions, whose arguments are checked: sets errno and
 * counts failures.  In api.c. */
void *api_alloc_run(struct pp_pool *pool, const struct page_request *req);

/* A run, whatever it takes: attempts, and what lies between them.  @pcp, from
 * pool_enter(), is left.  NULL with result->why. */
void *pool_alloc_run(struct pp_pool *pool, struct pcp *pcp,
		     const struct page_request *req,
		     struct page_result *result);

/* The same for an object of a size class. */
void *pool_alloc_object(struct pp_pool *pool, struct pcp *pcp, unsigned class,
			unsigned flags, struct page_result *result);

/* An object for the pool's own use, of zeroes; NULL: there is no memory, or the
 * caller is nested. */
void *pool_alloc_own(struct pp_pool *pool, size_t bytes, unsigned flags);
/* And back.  Not when nested. */
void pool_free_own(struct pp_pool *pool, void *object);

/**
 * pool_prepare_callback() - what it takes to register one: an object of zeroes,
 * and threads that call it.
 *
 * Context: as pool_start_threads().
 * Return: the object, which is pool_alloc_own()'s; NULL with *@err, -EDEADLK if
 * the caller is nested, or -ENOMEM.
 */
void *pool_prepare_callback(struct pp_pool *pool, size_t bytes, int *err);

/* What the allocation of a map word may hold. */
size_t pool_usable_bytes(uint32_t word);

/* The map's word for an address in the span. */
static inline uint32_t pool_word(const struct pp_pool *pool, const void *p)
{
	return load_relaxed(&pool->span.map[span_page_of(&pool->span, p)]);
}

/**
 * pool_drain() - give all that threads cache back to the zone.
 * Context: not nested; waits for threads that are inside slow paths.
 * Return: 0; -EBUSY if one of them stayed there for PCP_DRAIN_MAX_NS.
 */
int pool_drain(struct pp_pool *pool);

/* Once a pool exists, with no lock held: registers the handlers below. */
void pool_hook_fork(void);

/* Set by the preload library before the first pool: it brings handlers for fork
 * that know about stdio too, and knows when the program makes threads. */
extern bool pool_is_preloaded;

/* fork: all locks of all pools, in the order of their ranks. */
void pool_fork_prepare(void);
void pool_fork_parent(void);
void pool_fork_child(void);

#endif
