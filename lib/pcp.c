/* SPDX-License-Identifier: MIT */
/* pcp.c - the stacks of a thread's cache.  See pcp.h; pcp_registry.c has the
 * caches' coming and going. */
#include "pcp.h"

#include "backing.h"
#include "pcp_drain.h"
#include "thp.h"
#include "trace.h"

/* Runs that one refill asks for: up to 128 pages of them, 16 at the most. */
#define REFILL_PAGES		128u
#define REFILL_MAX_RUNS		16u
/* A cache may hide 1/8 of the zone, shared by all threads. */
#define SHARE_OF_ZONE		8
/* Slow steps between two looks at what a cheap read tells of this cache. */
#define PUBLISH_EVERY		8

/*
 * The bytes that this thread may keep, as things stand.  Below min nothing:
 * what is freed there goes back at once, so that one drain is enough for as
 * long as memory is that short.
 */
uint64_t pcp_share_bytes(const struct pcp *pcp)
{
	struct zone *zone = pcp_home(pcp);
	uint64_t free = zone_free_pages(zone), hide;
	uint64_t min = load_relaxed(&zone->min_pages);
	uint32_t nr = load_relaxed(&zone->nr_caches);

	/* And nothing that somebody else waits for. */
	if (free <= min + load_relaxed(&zone->claimed_pages))
		return 0;
	hide = load_relaxed(&zone->low_pages) - min;
	if (free > load_relaxed(&zone->high_pages))
		hide = load_relaxed(&zone->managed_pages) / SHARE_OF_ZONE;
	return pages_to_bytes(hide) / (nr ? nr : 1);
}

static bool grant(struct pcp *pcp, uint64_t bytes)
{
	uint64_t granted = load_relaxed(&pcp->granted_bytes);

	if (granted + bytes > pcp_share_bytes(pcp))
		return false;
	/* Full: pairs with rest() in reclaimd.c. */
	xchg_full(&pcp->granted_bytes, granted + bytes);
	if (unlikely(load_full(&pcp->registry->zones->resting)))
		pcp_kick_reclaimd(pcp->registry);
	return true;
}

/*
 * What a cheap read of cached_pages says, and how far it may be off: raised
 * before the stacks may hold more, lowered when they hold less.
 */
static void may_cache(struct pcp *pcp, uint64_t more_pages)
{
	pcp->may_cache_pages += (uint32_t)more_pages;
	add_relaxed(&pcp->registry->vmstat->may_cache_pages,
		    (int64_t)more_pages);
}

static void publish_cached(struct pcp *pcp)
{
	int64_t more = (int64_t)pcp->seen_pages - pcp->published_pages;

	if (more)
		add_relaxed(&pcp->registry->vmstat->cached_pages, more);
	pcp->published_pages = pcp->seen_pages;
}

/* Any number between 0 and may_cache_pages is within the bound, so this need
 * not be done each time. */
static void publish_sometimes(struct pcp *pcp)
{
	if (++pcp->nr_slow_steps % PUBLISH_EVERY == 0)
		publish_cached(pcp);
}

/* Counts pages of a bin that came or went, and looks how many there are. */
static void count_bin(struct pcp *pcp, const struct run_bin *bin,
		      enum vm_item what, uint32_t nr_runs)
{
	unsigned i = (unsigned)(bin - pcp->bin);
	uint32_t have = load_relaxed(&bin->count);

	have += load_relaxed(&pcp->front_run[i]) != NULL;
	pcp->seen_pages += (have - pcp->seen_runs[i]) * bin->pages;
	pcp->seen_runs[i] = (uint8_t)have;
	publish_sometimes(pcp);
	pcp_count(pcp, what, (int64_t)nr_runs * bin->pages);
}

/* Threads were added, or memory is short: start again from nothing. */
static void flush_if_over_share(struct pcp *pcp)
{
	/* Not within itself, for a slab that ends and finds no place: what the
	 * outer one has in hand is granted still. */
	if (!pcp->is_flushing &&
	    load_relaxed(&pcp->granted_bytes) > pcp_share_bytes(pcp))
		pcp_flush(pcp);
}

bool pcp_grow_magazine(struct pcp *pcp, unsigned class, uint32_t by,
		       uint32_t cap, uint32_t object_bytes)
{
	struct magazine *m = &pcp->small[class];

	if ((uint32_t)m->max + by > cap)
		return false;
	if (!grant(pcp, (uint64_t)by * object_bytes)) {
		flush_if_over_share(pcp);
		return false;
	}
	m->max += (int32_t)by;
	m->room += (int32_t)by;
	return true;
}

/* Runs with a bin */

static bool grow_bin(struct pcp *pcp, struct run_bin *bin, uint32_t by)
{
	uint32_t room = pcp_bin_cap(bin->pages) - bin->max;

	by = by < room ? by : room;
	if (!by || !grant(pcp, pages_to_bytes((uint64_t)by * bin->pages)))
		return false;
	may_cache(pcp, (uint64_t)(by + !bin->max) * bin->pages);
	bin->max = (uint16_t)(bin->max + by);
	return true;
}

unsigned pcp_refill_runs(struct pcp *pcp, unsigned bin_nr, struct zone *zone,
			 uint64_t floor_pages, enum failure *why)
{
	uint64_t first_page = pcp_first_page(pcp);
	struct run_bin *bin = &pcp->bin[bin_nr];
	struct zone_run runs[REFILL_MAX_RUNS];
	unsigned want = REFILL_PAGES / bin->pages, got;
	struct zone_request req = {
		.nr_pages = bin->pages,
		.align_pages = 1,
		.floor_pages = floor_pages,
		.map_flags = MAP_CACHED,
	};

	VM_BUG_ON(load_relaxed(&bin->count));
	want = want < 1 ? 1 : want > REFILL_MAX_RUNS ? REFILL_MAX_RUNS : want;
	if (bin->max < want)
		grow_bin(pcp, bin, want);
	if (want > bin->max)
		want = bin->max;
	if (!want)
		return 0;
	got = backing_claim(zone, &req, want, runs, why);
	for (unsigned i = 0; i < got; i++)
		pcp->slots[bin->first + i] =
			(uint32_t)(runs[i].page - first_page);
	store_relaxed(&bin->count, (uint16_t)got);
	if (got) {
		pcp_was_served(pcp, zone->index);
		pcp_note_claim(pcp->registry, zone);
	}
	count_bin(pcp, bin, EVENT_REFILL_PAGES, got);
	TRACE(pcp_refill, bin->pages, got);
	return got;
}

static void release_run(struct pcp *pcp, uint64_t page, uint64_t pages)
{
	struct zone *zone = pcp_zone_of(pcp, page);

	thp_retire(zone, pcp_first_page(pcp) + page, pages);
	lock_acquire(&zone->lock);
	zone_release(zone, pcp_first_page(pcp) + page, pages, true);
	zone_unlock_released(zone);
	add_single_writer(&pcp->given_pages, pages);
}

static void flush_front(struct pcp *pcp, const struct run_bin *bin)
{
	_Atomic(void *) *front = &pcp->front_run[bin - pcp->bin];
	void *run = load_relaxed(front);

	if (!run)
		return;
	store_relaxed(front, NULL);
	release_run(pcp, ((uintptr_t)run - pcp->base) >> PP_PAGE_SHIFT,
		    bin->pages);
	count_bin(pcp, bin, EVENT_FLUSH_PAGES, 1);
}

/* Up to @most of the oldest runs of a bin, in one hold: as many as are of one
 * zone. */
static uint32_t flush_oldest(struct pcp *pcp, struct run_bin *bin,
			     uint32_t most)
{
	uint32_t count = load_relaxed(&bin->count), n = 0;
	uint32_t *slot = &pcp->slots[bin->first];
	struct zone *zone = pcp_zone_of(pcp, slot[0]);
	uint64_t first_page = pcp_first_page(pcp);

	lock_acquire(&zone->lock);
	for (; n < most && pcp_zone_of(pcp, slot[n]) == zone; n++)
		zone_release(zone, first_page + slot[n], bin->pages, true);
	/* Before the lock goes, which a fork waits for: the child may believe
	 * these slots. */
	for (uint32_t i = n; i < count; i++)
		slot[i - n] = slot[i];
	store_relaxed(&bin->count, (uint16_t)(count - n));
	zone_unlock_released(zone);
	add_single_writer(&pcp->given_pages, (uint64_t)n * bin->pages);
	count_bin(pcp, bin, EVENT_FLUSH_PAGES, n);
	TRACE(pcp_flush, bin->pages, n);
	return n;
}

/* Gives the oldest runs of a bin back until @keep are left. */
static void flush_bin(struct pcp *pcp, struct run_bin *bin, uint32_t keep)
{
	uint32_t count = load_relaxed(&bin->count);
	uint32_t n = count > keep ? count - keep : 0;

	if (!keep)
		flush_front(pcp, bin);
	while (n)
		n -= flush_oldest(pcp, bin, n);
}

void pcp_free_run_slow(struct pcp *pcp, uint64_t page, uint32_t word)
{
	struct run_bin *bin = &pcp->bin[run_word_bin(word)];

	/* A length of its own, as growing in place leaves behind. */
	if (!bin->pages) {
		release_run(pcp, page, run_word_pages(word));
		return;
	}
	if (load_relaxed(&bin->count) >= bin->max &&
	    !grow_bin(pcp, bin, bin->max + 1u)) {
		flush_if_over_share(pcp);
		flush_bin(pcp, bin, bin->max / 2);
	}
	if (!pcp_push_run(pcp, page, word))
		release_run(pcp, page, run_word_pages(word));
}

/*
 * Long runs.  What was granted for them stays granted when one is taken, so
 * that a program which frees and allocates the same buffer does not pay for
 * the division in pcp_share_bytes().
 */

static void forget_long(struct pcp *pcp, unsigned i)
{
	uint32_t pages = load_relaxed(&pcp->long_run[i].pages);

	pcp->long_bytes -= pages_to_bytes(pages);
	pcp->seen_pages -= pages;
	store_relaxed(&pcp->long_run[i].pages, 0);
}

void *pcp_take_long(struct pcp *pcp, uint64_t nr_pages, uint64_t align_pages)
{
	for (unsigned i = 0; i < PCP_NR_LONG; i++) {
		uint32_t page = pcp->long_run[i].page;
		uint32_t pages = load_relaxed(&pcp->long_run[i].pages);
		uintptr_t addr = pcp->base + pages_to_bytes(page);

		if (pages < nr_pages || pages > nr_pages + nr_pages / 8 ||
		    addr & (pages_to_bytes(align_pages) - 1))
			continue;
		forget_long(pcp, i);
		store_relaxed(&pcp->map[page], run_word(pages));
		return (void *)addr;
	}
	return NULL;
}

static void drop_long(struct pcp *pcp, unsigned i)
{
	uint32_t pages = load_relaxed(&pcp->long_run[i].pages);

	if (!pages)
		return;
	forget_long(pcp, i);
	release_run(pcp, pcp->long_run[i].page, pages);
	pcp_count(pcp, EVENT_FLUSH_PAGES, pages);
}

/* An empty place, or the one that was filled longest ago. */
static unsigned place_for_long(struct pcp *pcp)
{
	for (unsigned i = 0; i < PCP_NR_LONG; i++)
		if (!load_relaxed(&pcp->long_run[i].pages))
			return i;
	pcp->long_victim = (pcp->long_victim + 1) % PCP_NR_LONG;
	drop_long(pcp, pcp->long_victim);
	return pcp->long_victim;
}

static bool grant_long(struct pcp *pcp, uint64_t bytes)
{
	uint64_t need = pcp->long_bytes + bytes;

	if (need <= pcp->long_granted_bytes)
		return true;
	if (!grant(pcp, need - pcp->long_granted_bytes))
		return false;
	may_cache(pcp, bytes_to_pages_down(need - pcp->long_granted_bytes));
	pcp->long_granted_bytes = need;
	return true;
}

bool pcp_keep_long(struct pcp *pcp, uint64_t page, uint32_t word)
{
	uint64_t pages = run_word_pages(word);
	unsigned i;

	if (pages > PCP_MAX_LONG_PAGES)
		return false;
	i = place_for_long(pcp);
	if (!grant_long(pcp, pages_to_bytes(pages)))
		return false;
	pcp->long_run[i].page = (uint32_t)page;
	store_relaxed(&pcp->long_run[i].pages, (uint32_t)pages);
	pcp->long_bytes += pages_to_bytes(pages);
	pcp->seen_pages += (uint32_t)pages;
	publish_sometimes(pcp);
	store_relaxed(&pcp->map[page], word | MAP_CACHED);
	return true;
}

void pcp_flush(struct pcp *pcp)
{
	VM_BUG_ON(pcp->is_flushing);
	pcp->is_flushing = true;
	for (unsigned i = 0; i < PCP_NR_SMALL; i++) {
		pcp->registry->flush_small(pcp, i, 0);
		pcp->small[i].max = 0;
		pcp->small[i].room = 0;
	}
	for (unsigned i = 0; i < PCP_NR_LONG; i++)
		drop_long(pcp, i);
	/* Last, for the slabs that became empty are runs now. */
	for (unsigned i = 0; i < RUN_NR_BINS; i++) {
		flush_bin(pcp, &pcp->bin[i], 0);
		pcp->bin[i].max = 0;
	}
	/* What is out now does not come back to a place in front. */
	pcp->last = NULL;
	pcp->long_granted_bytes = 0;
	for (unsigned i = 0; i < RUN_NR_BINS; i++)
		pcp->seen_runs[i] = 0;
	pcp->seen_pages = 0;
	publish_cached(pcp);
	if (pcp->may_cache_pages)
		add_relaxed(&pcp->registry->vmstat->may_cache_pages,
			    -(int64_t)pcp->may_cache_pages);
	pcp->may_cache_pages = 0;
	pcp->is_flushing = false;
	store_relaxed(&pcp->granted_bytes, 0);
}

void pcp_kick_reclaimd(struct pcp_registry *reg)
{
	zone_kick(reg->zones);
}

void pcp_note_low(struct pcp_registry *reg, struct zone *zone)
{
	/* Who found it set has kicked; reclaimd clears it before it looks. */
	if (!load_relaxed(&zone->reclaim_wanted) &&
	    !xchg_full(&zone->reclaim_wanted, true))
		zone_kick_balancer(zone);
	if (load_relaxed(&zone->above_high))
		store_relaxed(&reg->work_due, true);
}

uint64_t pcp_given_pages(struct pcp_registry *reg)
{
	struct pcp *pcp = pcp_find(reg);

	if (!pcp)
		return 0;
	/* Otherwise a drainer is just emptying it. */
	if (pcp_enter_slow(pcp)) {
		pcp_flush(pcp);
		pcp_leave_slow(pcp);
	}
	return load_relaxed(&pcp->given_pages);
}

/* What a handler could not free, because the owner was busy */

void pcp_defer_free(_Atomic(void *) *stack, void *p)
{
	void *head = load_relaxed(stack);

	do {
		*(void **)p = head;
	} while (!cas_weak_release(stack, &head, p));
}

void pcp_free_deferred(struct pcp *pcp)
{
	void *p, *next;

	/* Relaxed: handler and owner are one thread. */
	if (likely(!load_relaxed(&pcp->deferred)))
		return;
	/* As many rounds as handlers deferred; each is freed once. */
	for (p = xchg_relaxed(&pcp->deferred, NULL); p; p = next) {
		next = *(void **)p;
		pcp->registry->free_deferred(pcp, p);
	}
}

void pcp_leave_slow(struct pcp *pcp)
{
	pcp_free_deferred(pcp);
	if (load_relaxed(&pcp->drain) == DRAIN_LOCKED)
		/* Release: pairs with the acquire in busy_cas(). */
		store_release(&pcp->busy, PCP_UNLOCKED);
	else
		pcp_leave(pcp);
}

int64_t pcp_cached_pages(const struct pcp *pcp)
{
	int64_t pages = 0;

	for (unsigned i = 0; i < RUN_NR_BINS; i++)
		pages += (load_relaxed(&pcp->bin[i].count) +
			  (load_relaxed(&pcp->front_run[i]) != NULL)) *
			 run_bin_pages[i];
	for (unsigned i = 0; i < PCP_NR_LONG; i++)
		pages += load_relaxed(&pcp->long_run[i].pages);
	return pages;
}

static int verify_bin(const struct pcp *pcp, const struct run_bin *bin)
{
	uint32_t count = load_relaxed(&bin->count);

	if (count > bin->max)
		return 3;
	for (unsigned i = 0; i < count; i++)
		if (load_relaxed(&pcp->map[pcp->slots[bin->first + i]]) !=
		    (run_word(bin->pages) | MAP_CACHED))
			return 1;
	return 0;
}

int pcp_verify(const struct pcp *pcp)
{
	uint64_t long_bytes = 0;
	uint64_t may = bytes_to_pages_down(pcp->long_granted_bytes);

	for (unsigned i = 0; i < PCP_NR_BINS; i++) {
		const struct run_bin *bin = &pcp->bin[i];
		int err = verify_bin(pcp, bin);

		if (err)
			return err;
		may += bin->max ? (bin->max + 1ull) * bin->pages : 0;
	}
	for (unsigned i = 0; i < PCP_NR_LONG; i++)
		long_bytes += pages_to_bytes(
				load_relaxed(&pcp->long_run[i].pages));
	if (long_bytes != pcp->long_bytes)
		return 2;
	for (unsigned i = 0; i < PCP_NR_SMALL; i++)
		if (pcp->small[i].room < 0 ||
		    pcp->small[i].room > pcp->small[i].max)
			return 3;
	if (pcp->long_bytes > pcp->long_granted_bytes)
		return 4;
	return may != pcp->may_cache_pages ||
	       pcp->seen_pages > may || pcp->published_pages > may ||
	       pcp_cached_pages(pcp) > (int64_t)may ? 5 : 0;
}
