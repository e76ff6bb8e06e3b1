/* SPDX-License-Identifier: MIT */
/*
 * reserve.c - pagepool/reserve.h: mempools whose elements are runs (layer 12).
 *
 * Arguments are checked here; what happens is in mempool.h.
 */
#include "reserve.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "diagnose.h"

/* What a run that is set aside has in it, but for its first words, and what it
 * has when it is handed out; with --enable-debug=full. */
#define POISON_PARKED	0x55
#define POISON_NEW	0xaa
#define PARKED_BYTES	16	/* mempool_ops.park */

static_assert(sizeof(struct pp_reserve) <= SLAB_MAX_BYTES,
	      "it is an object of the pool");

static void *refuse(int err)
{
	errno = err;
	return NULL;
}

/* Runs as elements */

static size_t bytes_of(struct pp_reserve *r, const void *run)
{
	return pages_to_bytes(run_word_pages(pool_word(r->pool, run)));
}

/* One attempt, of which nobody is told that it failed: that is no reason to
 * worry yet. */
static void *alloc_softly(struct pp_pool *pool, struct page_request *req,
			  struct page_result *result)
{
	struct pcp *pcp = pool_enter(pool);
	void *run;

	req->flags = scope_add(req->flags);
	run = alloc_pages(&pool->registry, pcp, req, result);
	pool_leave(pcp);
	inline_reclaim_end(&pool->registry, req->flags);
	return run;
}

static void *run_alloc(void *arg, unsigned flags)
{
	struct pp_reserve *r = arg;
	struct page_request req = {
		.nr_pages = r->nr_pages,
		.align_pages = 1,
		.flags = flags,
	};
	struct page_result result;
	void *run;

	run = flags & PP_NORETRY ?
	      alloc_softly(r->pool, &req, &result) :
	      pool_alloc_run(r->pool, pool_enter(r->pool), &req, &result);
	if (run && flags & PP_ZERO && !result.zeroed)
		memset(run, 0, bytes_of(r, run));
	return run;
}

static void run_free(void *arg, void *run)
{
	struct pp_reserve *r = arg;
	struct pcp *pcp = pool_enter(r->pool);

	page_free(&r->pool->registry, pcp, span_page_of(&r->pool->span, run),
		  pool_word(r->pool, run));
	pool_leave(pcp);
	inline_reclaim_end(&r->pool->registry, INLINE_RECLAIM_FREE);
}

static void count_reserved(struct pp_pool *pool, const void *run, int64_t pages)
{
	struct zone *zone = zone_of_page(pool->zones,
					 span_page_of(&pool->span, run));

	add_relaxed(&pool->reserved_pages[zone->index], pages);
}

/* Only its owner changes a live run's word. */
static void set_word(struct pp_pool *pool, const void *run, uint32_t word)
{
	store_relaxed(&pool->span.map[span_page_of(&pool->span, run)], word);
}

static void run_park(void *arg, void *run)
{
	struct pp_reserve *r = arg;
	uint32_t word = pool_word(r->pool, run);

	if (PP_DEBUG > 1)
		memset(run, POISON_PARKED, bytes_of(r, run));
	set_word(r->pool, run, word | MAP_CACHED);
	count_reserved(r->pool, run, (int64_t)run_word_pages(word));
}

static PP_COLD void check_poison(struct pp_reserve *r, void *run)
{
	const unsigned char *p = run;
	size_t bytes = bytes_of(r, run);

	for (size_t i = PARKED_BYTES; i < bytes; i++)
		if (p[i] != POISON_PARKED)
			bug_pointer("pp_reserve_free", "", (uintptr_t)run,
				    " was written to after it was freed");
	memset(run, POISON_NEW, bytes);
}

static void run_unpark(void *arg, void *run, unsigned flags)
{
	struct pp_reserve *r = arg;
	uint32_t word = pool_word(r->pool, run);

	if (PP_DEBUG > 1)
		check_poison(r, run);
	count_reserved(r->pool, run, -(int64_t)run_word_pages(word));
	set_word(r->pool, run, word & ~MAP_CACHED);
	if (flags & PP_ZERO)
		memset(run, 0, bytes_of(r, run));
}

static bool run_is_parked(void *arg, const void *run)
{
	struct pp_reserve *r = arg;
	uint32_t word;

	if (!span_contains(&r->pool->span, run))
		return false;
	word = pool_word(r->pool, run);
	return word & MAP_RUN && word & MAP_CACHED;
}

static const struct mempool_ops run_ops = {
	.alloc = run_alloc,
	.free = run_free,
	.park = run_park,
	.unpark = run_unpark,
	.is_parked = run_is_parked,
};

/* The list of a pool's reserves */

static void list_add(struct pp_pool *pool, struct pp_reserve *r)
{
	struct pcp *pcp = pool_enter(pool);

	lock_acquire(&pool->config_lock);
	r->next = pool->reserves;
	pool->reserves = r;
	lock_release(&pool->config_lock);
	pool_leave(pcp);
}

static void list_del(struct pp_pool *pool, struct pp_reserve *r)
{
	struct pp_reserve **link = &pool->reserves;
	struct pcp *pcp = pool_enter(pool);

	lock_acquire(&pool->config_lock);
	while (*link != r)
		link = &(*link)->next;
	*link = r->next;
	lock_release(&pool->config_lock);
	pool_leave(pcp);
}

#define for_each_reserve(r, pool) \
	for (struct pp_reserve *r = (pool)->reserves; r; r = r->next)

int reserves_verify(struct pp_pool *pool)
{
	struct pcp *pcp = pool_enter(pool);
	int err = 0;

	lock_acquire(&pool->config_lock);
	for_each_reserve(r, pool) {
		lock_acquire(&r->mempool.lock);
		if (!err)
			err = mempool_verify(&r->mempool);
		lock_release(&r->mempool.lock);
	}
	lock_release(&pool->config_lock);
	pool_leave(pcp);
	return err;
}

void reserves_fork_take(struct pp_pool *pool)
{
	for_each_reserve(r, pool)
		lock_fork_take(&r->mempool.lock);
}

void reserves_fork_give(struct pp_pool *pool)
{
	for_each_reserve(r, pool)
		lock_fork_give(&r->mempool.lock);
}

void reserves_fork_child(struct pp_pool *pool)
{
	for_each_reserve(r, pool)
		mempool_forget_others(&r->mempool);
}

/* Making them */

/* Could it be, if there were nothing else? */
static bool fits(struct pp_pool *pool, size_t nr_runs, size_t nr_pages)
{
	uint64_t managed = 0;

	for_each_zone(zone, pool->zones)
		managed += load_relaxed(&zone->managed_pages);
	return nr_runs <= managed / nr_pages;
}

static void free_struct(struct pp_reserve *r)
{
	r->self = NULL;
	pool_free_own(r->pool, r);
}

int pp_reserve_create(struct pp_pool *pool, size_t nr_runs, size_t nr_pages,
		      struct pp_reserve **out)
{
	struct pp_reserve *r;
	size_t missing;

	if (!pool || !nr_runs || !nr_pages || !out)
		return -EINVAL;
	if (pool_is_nested(pool))
		return -EDEADLK;
	if (!fits(pool, nr_runs, nr_pages))
		return -ENOMEM;
	r = pool_alloc_own(pool, sizeof(*r), 0);
	if (!r)
		return -ENOMEM;
	*r = (struct pp_reserve){ .pool = pool, .nr_pages = nr_pages };
	mempool_init(&r->mempool, &run_ops, r);
	r->self = r;
	/* fork is to find it before it has anything that others wait for. */
	list_add(pool, r);
	missing = mempool_resize(&r->mempool, nr_runs);
	if (missing) {
		BUG_ON(!mempool_exit(&r->mempool));
		list_del(pool, r);
		free_struct(r);
		return -ENOMEM;
	}
	*out = r;
	return 0;
}

static struct pp_reserve *live(struct pp_reserve *r, const char *entry)
{
	if (r->self != r)
		bug_pointer(entry, "", (uintptr_t)r, " is not a reserve");
	return r;
}

int pp_reserve_resize(struct pp_reserve *reserve, size_t nr_runs)
{
	struct pp_pool *pool;

	if (!reserve || !nr_runs)
		return -EINVAL;
	pool = live(reserve, "pp_reserve_resize")->pool;
	if (pool_is_nested(pool))
		return -EDEADLK;
	if (!fits(pool, nr_runs, reserve->nr_pages))
		return -ENOMEM;
	return (int)min_u64(mempool_resize(&reserve->mempool, nr_runs),
			    INT_MAX);
}

int pp_reserve_destroy(struct pp_reserve *reserve)
{
	struct pp_pool *pool;

	if (!reserve)
		return -EINVAL;
	pool = live(reserve, "pp_reserve_destroy")->pool;
	if (pool_is_nested(pool))
		return -EDEADLK;
	if (!mempool_exit(&reserve->mempool))
		return -EBUSY;
	list_del(pool, reserve);
	free_struct(reserve);
	return 0;
}

/* Runs */

static int failed(struct pp_reserve *r, size_t nr_runs, unsigned flags,
		  enum failure why)
{
	pool_failed(r->pool, pages_to_bytes(r->nr_pages * nr_runs), flags, why);
	return -ENOMEM;
}

void *pp_reserve_alloc(struct pp_reserve *reserve, unsigned flags)
{
	enum failure why = FAILURE_CANNOT_WAIT;
	void *run = NULL;

	if (!reserve || flags & ~POOL_FLAGS_KNOWN)
		return refuse(EINVAL);
	live(reserve, "pp_reserve_alloc");
	if (pool_is_nested(reserve->pool))
		why = FAILURE_NESTED;
	else
		run = mempool_alloc(&reserve->mempool, flags);
	return run ? run : refuse(-failed(reserve, 1, flags, why));
}

/* Could the pool have given such a run to us?  It rounds by an eighth. */
static bool is_of_length(const struct pp_reserve *r, uint64_t pages)
{
	return pages >= r->nr_pages && pages <= r->nr_pages + r->nr_pages / 8;
}

void pp_reserve_free(struct pp_reserve *reserve, void *run)
{
	static const char entry[] = "pp_reserve_free";
	uint32_t word;
	bool was_out;

	if (!run)
		return;
	if (!reserve)
		bug_pointer(entry, "", (uintptr_t)run,
			    " is not of a reserve: that is NULL");
	live(reserve, entry);
	word = diagnose_live(reserve->pool, run, entry);
	if (word & MAP_SLAB)
		bug_pointer(entry, "", (uintptr_t)run,
			    " is not a run of pages");
	if (!is_of_length(reserve, run_word_pages(word)))
		bug_pointer(entry, "", (uintptr_t)run,
			    " is not of this reserve");
	if (pool_is_nested(reserve->pool)) {
		was_out = mempool_forget(&reserve->mempool);
		pool_defer_free(reserve->pool, run);
	} else {
		was_out = mempool_free(&reserve->mempool, run);
	}
	if (!was_out)
		bug_pointer(entry, "", (uintptr_t)run,
			    " is not of this reserve, of which none is out");
}

/* Tickets */

int pp_reserve_hold(struct pp_reserve *reserve, size_t nr_runs, unsigned flags,
		    struct pp_ticket *ticket)
{
	struct mempool_list list;
	int err;

	if (ticket)
		*ticket = (struct pp_ticket){ .reserve = NULL };
	if (!reserve || !nr_runs || flags & ~POOL_FLAGS_KNOWN || !ticket)
		return -EINVAL;
	live(reserve, "pp_reserve_hold");
	if (pool_is_nested(reserve->pool))
		return -EDEADLK;
	err = mempool_hold(&reserve->mempool, nr_runs, flags, &list);
	if (err == -ENOMEM)
		failed(reserve, nr_runs, flags, FAILURE_CANNOT_WAIT);
	if (!err)
		*ticket = (struct pp_ticket){
			.reserve = reserve,
			.first = list.first,
			.nr_runs = list.nr,
			.flags = flags,
		};
	return err;
}

void *pp_reserve_draw(struct pp_ticket *ticket)
{
	struct mempool_list list;
	void *run;

	if (!ticket || !ticket->reserve || !ticket->nr_runs)
		return refuse(EINVAL);
	list = (struct mempool_list){ ticket->first, ticket->nr_runs };
	run = mempool_draw(&ticket->reserve->mempool, &list, ticket->flags);
	ticket->first = list.first;
	ticket->nr_runs = list.nr;
	return run;
}

void pp_reserve_drop(struct pp_ticket *ticket)
{
	struct mempool_list list;
	struct pp_reserve *reserve;

	if (!ticket || !ticket->reserve)
		return;
	reserve = live(ticket->reserve, "pp_reserve_drop");
	list = (struct mempool_list){ ticket->first, ticket->nr_runs };
	*ticket = (struct pp_ticket){ .reserve = NULL };
	mempool_drop(&reserve->mempool, &list);
}
