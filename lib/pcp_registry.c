/* SPDX-License-Identifier: MIT */
/*
 * pcp_registry.c - how threads' caches come and go (layer 6).
 *
 * A cache is two pages of storage that belongs to no pool, since it may outlive
 * one: a thread finds out that a pool is gone when it next looks.  The pool
 * pays for it as long as it is attached.
 *
 *	chunk of storage: 64 caches' worth
 *	+--------+-------+-------+-----+-------+
 *	| header | pcp 1 | pcp 2 | ... | pcp 63|
 *	+--------+-------+-------+-----+-------+
 */
#include <errno.h>
#include <pthread.h>

#include "base/fault.h"
#include "node.h"
#include "os/os.h"
#include "os/syscall.h"
#include "pcp_drain.h"
#include "scope.h"

#define CHUNK_PCPS	64
#define CHUNK_ALL_FREE	(~1ull)		/* all but the header's */

struct storage_chunk {
	struct storage_chunk	*next;
	uint64_t		free;	/* bit i: page i is */
};

struct lock pcp_registry_lock = LOCK_INIT(REGISTRY);
static struct storage_chunk *storage;	/* pcp_registry_lock */

struct pcp pcp_none = { .busy = PCP_OWNER };
struct pcp pcp_none_inside = { .busy = PCP_OWNER };
struct pcp pcp_gone = { .busy = PCP_OWNER };
struct pcp pcp_gone_inside = { .busy = PCP_OWNER };

__thread struct pcp *pp_self = &pcp_none;

void (*pcp_main_exit_hook)(void);

static pthread_key_t exit_key;
static bool exit_key_made;

static bool is_stand_in(const struct pcp *pcp)
{
	return pcp == &pcp_none || pcp == &pcp_none_inside ||
	       pcp == &pcp_gone || pcp == &pcp_gone_inside;
}

/* Storage */

static struct pcp *storage_take(void)
{
	struct storage_chunk *c = storage;
	unsigned page;

	while (c && !c->free)
		c = c->next;
	if (!c)
		return NULL;
	page = (unsigned)__builtin_ctzll(c->free);
	c->free &= ~(1ull << page);
	return (struct pcp *)(void *)((char *)c + page * PCP_BYTES);
}

static struct pcp *storage_alloc(void)
{
	struct storage_chunk *c;
	struct pcp *pcp;
	void *fresh = NULL;

	lock_acquire(&pcp_registry_lock);
	pcp = storage_take();
	lock_release(&pcp_registry_lock);
	if (pcp || os_map_storage(CHUNK_PCPS * PCP_BYTES, &fresh))
		return pcp;
	c = fresh;
	lock_acquire(&pcp_registry_lock);
	c->free = CHUNK_ALL_FREE;
	c->next = storage;
	storage = c;
	pcp = storage_take();
	lock_release(&pcp_registry_lock);
	return pcp;
}

static struct storage_chunk *chunk_of(struct pcp *pcp)
{
	struct storage_chunk *c = storage;

	while ((uintptr_t)pcp - (uintptr_t)c >= CHUNK_PCPS * PCP_BYTES)
		c = c->next;
	return c;
}

/* The memory goes back; a refusal costs a page and is no error of ours, but
 * the next user must find zeroes. */
static void storage_free(struct pcp *pcp)
{
	struct storage_chunk *c;

	if (os_purge(pcp, PCP_BYTES))
		*pcp = (struct pcp){ .busy = PCP_FREE };
	lock_acquire(&pcp_registry_lock);
	c = chunk_of(pcp);
	c->free |= 1ull << (((uintptr_t)pcp - (uintptr_t)c) / PCP_BYTES);
	lock_release(&pcp_registry_lock);
}

/* Attaching */

static void init_bins(struct pcp *pcp)
{
	unsigned first = 0;

	for (unsigned i = 0; i < RUN_NR_BINS; i++) {
		pcp->bin[i].pages = run_bin_pages[i];
		pcp->bin[i].first = (uint16_t)first;
		first += pcp_bin_cap(run_bin_pages[i]);
	}
	BUG_ON(first > PCP_RUN_SLOTS);
}

static struct pcp *pcp_create(struct pcp_registry *reg)
{
	struct pcp *pcp = storage_alloc();

	if (!pcp)
		return NULL;
	pcp->registry = reg;
	pcp->slabs = reg->zones->span->slabs;
	pcp_move_in(pcp);
	pcp->payer = zones_charge(reg->zones, pcp_home(pcp)->index, PCP_PAGES);
	if (!pcp->payer) {
		pcp_move_out(pcp);
		storage_free(pcp);
		return NULL;
	}
	store_relaxed(&pcp->drain, pcp_drain_initial());
	if (load_relaxed(&pcp->drain) == DRAIN_LOCKED)
		store_relaxed(&pcp->busy, PCP_UNLOCKED);
	init_bins(pcp);
	return pcp;
}

/* pcp_registry_lock held. */
static void update_thresholds(struct pcp_registry *reg)
{
	struct vmstat_basis basis = {
		.nr_threads = load_relaxed(&reg->nr_pcps),
	};

	for_each_zone(zone, reg->zones) {
		basis.managed_pages += load_relaxed(&zone->managed_pages);
		basis.min_pages += load_relaxed(&zone->min_pages);
		basis.low_pages += load_relaxed(&zone->low_pages);
		basis.high_pages += load_relaxed(&zone->high_pages);
	}
	vmstat_set_thresholds(reg->vmstat, &basis);
}

static void registry_add(struct pcp_registry *reg, struct pcp *pcp)
{
	lock_acquire(&pcp_registry_lock);
	pcp->prev = NULL;
	pcp->next = reg->head;
	if (reg->head)
		reg->head->prev = pcp;
	reg->head = pcp;
	add_relaxed(&reg->nr_pcps, 1);
	update_thresholds(reg);
	lock_release(&pcp_registry_lock);
}

/* pcp_registry_lock held. */
static void registry_del(struct pcp_registry *reg, struct pcp *pcp)
{
	if (pcp->prev)
		pcp->prev->next = pcp->next;
	else
		reg->head = pcp->next;
	if (pcp->next)
		pcp->next->prev = pcp->prev;
	vmstat_fold(reg->vmstat, &pcp->stat);
	sub_relaxed(&reg->nr_pcps, 1);
	pcp_move_out(pcp);
	update_thresholds(reg);
}

/* Gives one cache back: its contents, its page, its place in the list. */
static void pcp_destroy(struct pcp *pcp)
{
	struct pcp_registry *reg;

	lock_acquire(&pcp_registry_lock);
	reg = pcp->registry;
	pcp->exiting = true;
	lock_release(&pcp_registry_lock);
	if (reg) {
		if (!pcp->orphan) {
			pcp_enter_for_good(pcp);
			pcp_free_deferred(pcp);
		}
		pcp_flush(pcp);
		/* In one hold, lest a fork comes in between, whose child would
		 * uncharge it again.  Then the pool may go away. */
		lock_acquire(&pcp_registry_lock);
		lock_acquire(&pcp->payer->lock);
		zone_uncharge(pcp->payer, PCP_PAGES);
		zone_unlock(pcp->payer);
		registry_del(reg, pcp);
		lock_release(&pcp_registry_lock);
	}
	storage_free(pcp);
}

/*
 * At thread exit.  Other destructors and libc itself free after us: they find
 * pcp_gone and work without a cache, so nothing is made anew and leaks.
 */
static void on_thread_exit(void *key_value PP_UNUSED)
{
	struct pcp *pcp = pp_self, *next;

	if (pcp_main_exit_hook && sys_gettid() == sys_getpid())
		pcp_main_exit_hook();
	if (is_stand_in(pcp))
		return;
	pp_self = &pcp_gone_inside;
	barrier();
	for (; pcp; pcp = next) {
		next = pcp->next_pool;
		pcp_destroy(pcp);
	}
	barrier();
	pp_self = &pcp_gone;
}

int pcp_hook_thread_exit(void)
{
	int err = 0;

	if (exit_key_made)
		return 0;
	if (fault_hit(FAULT_KEY))
		return -EAGAIN;
	err = pthread_key_create(&exit_key, on_thread_exit);
	exit_key_made = err == 0;
	return -err;
}

/* Unlinks the caches of pools that are gone, from the thread's own chain. */
static struct pcp *drop_detached(struct pcp *head)
{
	struct pcp **link = &head, *pcp;

	while ((pcp = *link)) {
		if (pcp->registry) {
			link = &pcp->next_pool;
		} else {
			*link = pcp->next_pool;
			storage_free(pcp);
		}
	}
	return head;
}

/* The first stays first: the fast paths of malloc look no further. */
static struct pcp *append(struct pcp *head, struct pcp *pcp)
{
	struct pcp **link = &head;

	while (*link)
		link = &(*link)->next_pool;
	*link = pcp;
	return head;
}

static bool owner_is_inside(struct pcp *pcp)
{
	uint32_t busy = load_relaxed(&pcp->busy);

	return busy == PCP_OWNER || busy == PCP_WAITING ||
	       load_relaxed(&pcp->inside);
}

bool pcp_is_inside(void)
{
	struct pcp *pcp = pp_self;

	if (is_stand_in(pcp))
		return pcp == &pcp_none_inside || pcp == &pcp_gone_inside;
	/* As many as the thread uses pools.  The first may be of a pool that is
	 * gone, and says so all the same, see set_inside(). */
	while (pcp && !owner_is_inside(pcp))
		pcp = pcp->next_pool;
	return pcp != NULL;
}

/*
 * The thread's first cache says that it is inside, which is what a handler's
 * malloc looks at; whose pool it is of does not matter.  Where busy is a lock
 * that may be a drainer's, the fast paths fail anyway.
 */
static void set_inside(struct pcp *pcp, bool inside)
{
	store_relaxed(&pcp->inside, inside);
	/* Release: pairs with the acquire in drain_take(). */
	if (load_relaxed(&pcp->drain) != DRAIN_LOCKED)
		store_release(&pcp->busy, inside ? PCP_OWNER : PCP_FREE);
}

void pcp_enter_without(void)
{
	if (pp_self == &pcp_none)
		pp_self = &pcp_none_inside;
	else if (pp_self == &pcp_gone)
		pp_self = &pcp_gone_inside;
	else
		set_inside(pp_self, true);
	barrier();
}

void pcp_leave_without(void)
{
	barrier();
	if (pp_self == &pcp_none_inside)
		pp_self = &pcp_none;
	else if (pp_self == &pcp_gone_inside)
		pp_self = &pcp_gone;
	else if (!is_stand_in(pp_self))
		set_inside(pp_self, false);
}

void pcp_lock(struct lock *lock)
{
	pcp_enter_without();
	lock_acquire(lock);
}

void pcp_unlock(struct lock *lock)
{
	lock_release(lock);
	pcp_leave_without();
}

struct pcp *pcp_find(struct pcp_registry *reg)
{
	struct pcp *pcp = pp_self;

	if (is_stand_in(pcp))
		return NULL;
	while (pcp && pcp->registry != reg)
		pcp = pcp->next_pool;
	return pcp;
}

/* The value only has to be there: the destructor looks at pp_self. */
bool pcp_watch_thread_exit(void)
{
	unsigned scope = scope_enter_internal();
	bool watched = exit_key_made && !fault_hit(FAULT_KEY) &&
		       pthread_setspecific(exit_key, &exit_key) == 0;

	scope_leave(scope);
	return watched;
}

struct pcp *pcp_attach(struct pcp_registry *reg)
{
	struct pcp *pcp = pcp_find(reg), *head = pp_self;
	bool made;

	if (pcp || !exit_key_made ||
	    (is_stand_in(head) && head != &pcp_none))
		return pcp;
	/* A signal handler that allocates from here on is nested; one that came
	 * just before may have made what we look for. */
	head = __atomic_exchange_n(&pp_self, &pcp_none_inside,
				   __ATOMIC_RELAXED);
	barrier();
	head = drop_detached(head == &pcp_none ? NULL : head);
	for (pcp = head; pcp && pcp->registry != reg;)
		pcp = pcp->next_pool;
	made = !pcp;
	if (made)
		pcp = pcp_create(reg);
	if (made && pcp) {
		registry_add(reg, pcp);
		head = append(head, pcp);
	}
	barrier();
	pp_self = head ? head : &pcp_none;
	/* libc may allocate here: the cache is ready to serve that. */
	if (made && pcp && !pcp_watch_thread_exit()) {
		on_thread_exit(NULL);
		return NULL;
	}
	return pcp;
}

int pcp_detach_all(struct pcp_registry *reg)
{
	struct pcp *pcp, *next;
	int err = 0;

	lock_acquire(&pcp_registry_lock);
	for (pcp = reg->head; pcp; pcp = pcp->next)
		if (pcp->exiting)
			err = -EBUSY;
	for (pcp = err ? NULL : reg->head; pcp; pcp = next) {
		next = pcp->next;
		registry_del(reg, pcp);
		pcp->base = 0;
		pcp->span_bytes = 0;
		pcp->registry = NULL;
	}
	lock_release(&pcp_registry_lock);
	return err;
}

/* After fork */

/*
 * The other threads were stopped anywhere, and pages of a fork are copied one
 * by one, so an orphaned stack is believed only as far as the map confirms it:
 * what is not confirmed stays used, for ever, rather than being handed out
 * twice.  A magazine is walked by flush_small(), which checks the marks.
 */
static void confirm_bin(struct pcp *pcp, struct run_bin *bin)
{
	uint32_t *slot = &pcp->slots[bin->first];
	uint16_t kept = 0, count = load_relaxed(&bin->count);

	for (unsigned i = 0; i < count && i < bin->max; i++)
		if (load_relaxed(&pcp->map[slot[i]]) ==
		    (run_word(bin->pages) | MAP_CACHED))
			slot[kept++] = slot[i];
	store_relaxed(&bin->count, kept);
}

static void confirm_front(struct pcp *pcp, unsigned bin)
{
	uintptr_t run = (uintptr_t)load_relaxed(&pcp->front_run[bin]);

	if (run && load_relaxed(&pcp->map[(run - pcp->base) >>
	    PP_PAGE_SHIFT]) != (run_word(run_bin_pages[bin]) | MAP_CACHED))
		store_relaxed(&pcp->front_run[bin], NULL);
}

static void confirm_runs(struct pcp *pcp)
{
	for (unsigned i = 0; i < RUN_NR_BINS; i++) {
		confirm_bin(pcp, &pcp->bin[i]);
		confirm_front(pcp, i);
	}
	pcp->long_bytes = 0;
	for (unsigned i = 0; i < PCP_NR_LONG; i++) {
		uint32_t n = load_relaxed(&pcp->long_run[i].pages);

		if (n && load_relaxed(&pcp->map[pcp->long_run[i].page]) !=
			 (run_word(n) | MAP_CACHED))
			n = 0;
		store_relaxed(&pcp->long_run[i].pages, n);
		pcp->long_bytes += pages_to_bytes(n);
	}
}

/* A thread that is gone may have been between a sum and its own part of it.
 * Not if we are: then the sum has what our part will have. */
static void sum_up_parts(struct pcp_registry *reg)
{
	int64_t cached = 0, may_cache = 0;

	for (struct pcp *pcp = reg->head; pcp; pcp = pcp->next) {
		cached += pcp->published_pages;
		may_cache += pcp->may_cache_pages;
	}
	store_relaxed(&reg->vmstat->cached_pages, cached);
	store_relaxed(&reg->vmstat->may_cache_pages, may_cache);
}

void pcp_mark_orphans(struct pcp_registry *reg)
{
	struct pcp *mine = pcp_find(reg);

	if (!pcp_is_inside())
		sum_up_parts(reg);
	for (struct pcp *pcp = reg->head; pcp; pcp = pcp->next)
		if (pcp != mine) {
			pcp->orphan = true;
			pcp->exiting = false;
			/* Whoever was in the middle of it is not there. */
			pcp->is_flushing = false;
			store_relaxed(&pcp->drain, pcp_drain_initial());
			store_relaxed(&reg->has_orphans, true);
		}
}

/* One that nobody else is at; NULL if there is none. */
static struct pcp *next_orphan(struct pcp_registry *reg)
{
	struct pcp *pcp;

	lock_acquire(&pcp_registry_lock);
	for (pcp = reg->head; pcp; pcp = pcp->next)
		if (pcp->orphan && !pcp->exiting)
			break;
	if (pcp)
		pcp->exiting = true;
	else
		store_relaxed(&reg->has_orphans, false);
	lock_release(&pcp_registry_lock);
	return pcp;
}

void pcp_adopt_orphans(struct pcp_registry *reg)
{
	struct pcp *pcp;

	/* Each round ends one; none is added but by a fork. */
	while ((pcp = next_orphan(reg))) {
		confirm_runs(pcp);
		pcp_destroy(pcp);
	}
}

/* Bring-up, and sums */

void pcp_registry_init(struct pcp_registry *reg, struct zone *zones,
		       struct vmstat *vmstat)
{
	runs_init();
	reg->zones = zones;
	reg->vmstat = vmstat;
	reg->head = NULL;
	store_relaxed(&reg->nr_pcps, 0);
	for_each_zone(zone, zones) {
		zone->work_due = &reg->work_due;
		zone->memwait = &reg->memwait;
	}
	lock_init(&reg->drain_lock, LOCK_RANK_DRAIN);
	lock_init(&reg->claim_lock, LOCK_RANK_LEAF);
	pcp_drain_init();
	update_thresholds(reg);
}

int64_t pcp_sum_cached_pages(struct pcp_registry *reg)
{
	int64_t sum = 0;

	lock_acquire(&pcp_registry_lock);
	for (struct pcp *pcp = reg->head; pcp; pcp = pcp->next)
		sum += pcp_cached_pages(pcp);
	lock_release(&pcp_registry_lock);
	return sum;
}

/* pcp_registry_lock held. */
static void fold_all(struct pcp_registry *reg)
{
	for (struct pcp *pcp = reg->head; pcp; pcp = pcp->next)
		vmstat_fold(reg->vmstat, &pcp->stat);
	vmstat_all_folded(reg->vmstat);
}

void pcp_fold_all(struct pcp_registry *reg)
{
	lock_acquire(&pcp_registry_lock);
	fold_all(reg);
	lock_release(&pcp_registry_lock);
}

void pcp_update_thresholds(struct pcp_registry *reg)
{
	lock_acquire(&pcp_registry_lock);
	update_thresholds(reg);
	lock_release(&pcp_registry_lock);
}

void pcp_set_pressure(struct pcp_registry *reg, bool under_pressure)
{
	lock_acquire(&pcp_registry_lock);
	store_relaxed(&reg->vmstat->under_pressure, under_pressure);
	update_thresholds(reg);
	/* What was counted under a larger threshold is open no more. */
	if (under_pressure)
		fold_all(reg);
	lock_release(&pcp_registry_lock);
}
