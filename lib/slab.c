/* SPDX-License-Identifier: MIT */
/* slab.c - see slab.h. */
#include "slab.h"

#include "mempolicy.h"
#include "slowpath.h"

/* One class' depot may hide this share of the zone, and this much. */
#define SLAB_DEPOT_SHARE	512
#define SLAB_DEPOT_BYTES	(128u << 10)
/* Objects given back in one hold of a class's lock. */
#define SLAB_GIVE_MAX		64u

/* What is wanted, and from which zone; that may become another. */
struct slab_want {
	unsigned	class;
	unsigned	flags;		/* PP_* */
	unsigned	zone;
};

static struct slab_bin *bin_of(struct slab_heap *heap, unsigned zone,
			       unsigned class)
{
	return slab_bin_at(heap, zone * SLAB_NR_CLASSES + class);
}

/* The list of a class */

static void partial_add(struct slab_heap *heap, struct slab_bin *bin,
			uint32_t number)
{
	struct slab *slab = slab_at(heap->span, number);
	uint32_t *head = &bin->partial[slab->of_reserve];

	slab->prev = SLAB_NONE;
	slab->next = *head;
	if (*head != SLAB_NONE)
		slab_at(heap->span, *head)->prev = number;
	*head = number;
}

static void partial_del(struct slab_heap *heap, struct slab_bin *bin,
			uint32_t number)
{
	struct slab *slab = slab_at(heap->span, number);

	if (slab->prev != SLAB_NONE)
		slab_at(heap->span, slab->prev)->next = slab->next;
	else
		bin->partial[slab->of_reserve] = slab->next;
	if (slab->next != SLAB_NONE)
		slab_at(heap->span, slab->next)->prev = slab->prev;
}

/* Taking objects */

static void *link_object(void *object, void *next)
{
	*(void **)object = next;
	*slab_mark_of(object) = slab_mark(object);
	return object;
}

/* Up to @want objects of one slab, in front of @chain. */
static uint32_t slab_take(struct slab_heap *heap, struct slab *slab,
			  uint32_t object_bytes, uint32_t want, void **chain)
{
	char *base = span_page_address(heap->span, slab->page);
	uint32_t n = 0, listed = want < slab->nr_free ? want : slab->nr_free;
	uint16_t carved;
	void *object;

	for (; n < listed; n++) {
		object = slab->free;
		slab->free = *(void **)object;
		*chain = link_object(object, *chain);
	}
	slab->nr_free = (uint16_t)(slab->nr_free - listed);
	for (carved = load_relaxed(&slab->nr_carved);
	     n < want && carved < slab->nr_objects; n++) {
		object = base + (size_t)carved++ * object_bytes;
		*chain = link_object(object, *chain);
	}
	store_relaxed(&slab->nr_carved, carved);
	return n;
}

/* The depot */

/* The newest chain, if it is no longer than @most.  Lock held. */
static uint32_t depot_take(struct slab_bin *bin, uint32_t object_bytes,
			   uint32_t most, void **head)
{
	struct slab_chain *c;

	lock_assert_held(&bin->lock);
	if (!bin->nr_chains || bin->chain[bin->nr_chains - 1].count > most)
		return 0;
	c = &bin->chain[--bin->nr_chains];
	bin->depot_bytes -= (uint64_t)c->count * object_bytes;
	*head = c->head;
	return c->count;
}

static bool depot_put(struct slab_heap *heap, struct zone *zone,
		      unsigned class, void *head, uint32_t count)
{
	struct slab_bin *bin = bin_of(heap, zone->index, class);
	uint64_t bytes = (uint64_t)count * slab_class[class].bytes;
	bool fits;

	VM_BUG_ON(!head || !count);	/* I6 */
	if (zone_free_pages(zone) <= load_relaxed(&zone->high_pages))
		return false;
	lock_acquire(&bin->lock);
	fits = bin->nr_chains < SLAB_DEPOT_CHAINS &&
	       bin->depot_bytes + bytes <= load_relaxed(&heap->depot_bytes);
	if (fits) {
		bin->chain[bin->nr_chains].head = head;
		bin->chain[bin->nr_chains++].count = count;
		bin->depot_bytes += bytes;
	}
	lock_release(&bin->lock);
	return fits;
}

/* Taking from the depot, or else from slabs */

/* May a request have a page of the zone, as things stand? */
static bool may_have(struct slab_heap *heap, const struct slab_want *want)
{
	struct zone *zone = &heap->reg->zones[want->zone];

	return want->flags & PAGE_OF_RESERVE ||
	       zone_free_pages(zone) > page_floor_pages(zone, want->flags);
}

/* From the slabs of one list. */
static uint32_t take_listed(struct slab_heap *heap, struct slab_bin *bin,
			    unsigned which, uint32_t object_bytes,
			    uint32_t want, void **chain)
{
	uint32_t n = 0;

	/* Each round takes an object at least. */
	while (n < want && bin->partial[which] != SLAB_NONE) {
		uint32_t number = bin->partial[which];
		struct slab *slab = slab_at(heap->span, number);

		n += slab_take(heap, slab, object_bytes, want - n, chain);
		if (!slab_has_to_give(slab))
			partial_del(heap, bin, number);
	}
	return n;
}

/* Into an empty magazine: a chain of the depot of up to @most objects, or else
 * @want, which is no more, from slabs.  Returns how many. */
static uint32_t bin_take(struct slab_heap *heap, const struct slab_want *from,
			 uint32_t want, uint32_t most, void **chain)
{
	struct slab_bin *bin = bin_of(heap, from->zone, from->class);
	uint32_t bytes = slab_class[from->class].bytes, n;

	lock_acquire(&bin->lock);
	n = depot_take(bin, bytes, most, chain);
	bin->nr_out -= n;	/* was counted when it left its slab */
	if (n < want)
		n += take_listed(heap, bin, 0, bytes, want - n, chain);
	if (n < want && bin->partial[1] != SLAB_NONE && may_have(heap, from))
		n += take_listed(heap, bin, 1, bytes, want - n, chain);
	bin->nr_out += n;
	lock_release(&bin->lock);
	return n;
}

/* Making and ending slabs */

/* Would so many pages be of what only such requests may have?  With 0: were
 * those that it got? */
static bool is_in_reserve(struct slab_heap *heap, const struct slab_want *want,
			  uint64_t nr_pages)
{
	struct zone *zone = &heap->reg->zones[want->zone];

	return want->flags & PAGE_OF_RESERVE &&
	       zone_free_pages(zone) < nr_pages + page_floor_pages(zone, 0);
}

static void *slab_pages(struct slab_heap *heap, struct pcp *pcp,
			const struct slab_want *want,
			struct page_result *result)
{
	const struct slab_class *sc = &slab_class[want->class];
	struct page_request req = {
		.nr_pages = sc->nr_pages,
		.align_pages = 1,
		.flags = want->flags,
		.node = heap->reg->nodes ? want->zone + 1 : 0,
	};
	void *run = NULL;

	result->why = FAILURE_LIMIT;
	if (!is_in_reserve(heap, want, sc->nr_pages))
		run = alloc_pages(heap->reg, pcp, &req, result);
	/* Near the limit one object is better than none. */
	if (!run && result->why == FAILURE_LIMIT) {
		req.nr_pages = bytes_to_pages_up(sc->bytes);
		run = alloc_pages(heap->reg, pcp, &req, result);
	}
	return run;
}

/* In no list yet: nobody else knows of it.  want->zone is where it is; NULL
 * with result->why. */
static struct slab *slab_new(struct slab_heap *heap, struct pcp *pcp,
			     struct slab_want *want,
			     struct page_result *result)
{
	const struct slab_class *sc = &slab_class[want->class];
	void *run = slab_pages(heap, pcp, want, result);
	uint64_t page, nr_pages;
	struct zone *zone;
	struct slab *slab;
	uint32_t number, word;

	if (!run)
		return NULL;
	page = span_page_of(heap->span, run);
	word = load_relaxed(&heap->span->map[page]);
	nr_pages = run_word_pages(word);
	zone = zone_of_page(heap->reg->zones, page);
	if (!slab_number_take(heap, zone->index, &number, &result->why)) {
		page_free(heap->reg, pcp, page, word);
		return NULL;
	}
	slab = slab_at(heap->span, number);
	*slab = (struct slab){
		.page = (uint32_t)page,
		.nr_pages = (uint16_t)(nr_pages & 0x7fff),
		.of_reserve = is_in_reserve(heap, want, 0),
		.nr_objects = (uint16_t)(pages_to_bytes(nr_pages) / sc->bytes),
		.magic = sc->magic,
	};
	word = slab_word(want->class, number);
	lock_acquire(&zone->lock);
	zone_set_map(zone, page, nr_pages, word, word);
	zone_unlock(zone);
	want->zone = zone->index;
	pcp_count_in(heap->reg, pcp, EVENT_SLAB_NEW, 1);
	pcp_count_in(heap->reg, pcp, LEVEL_SLAB_PAGES, (int64_t)nr_pages);
	return slab;
}

/*
 * Up to @most objects of a slab made for them.  It is listed only after that,
 * so that none is ever without a live object: such a slab would stay for ever,
 * since it is the last free that ends one.
 */
static uint32_t slab_take_first(struct slab_heap *heap,
				const struct slab_want *want,
				struct slab *slab, uint32_t most, void **chain)
{
	struct slab_bin *bin = bin_of(heap, want->zone, want->class);
	uint32_t n;

	lock_acquire(&bin->lock);
	n = slab_take(heap, slab, slab_class[want->class].bytes, most, chain);
	if (slab_has_to_give(slab))
		partial_add(heap, bin, slab_number(heap->span, slab));
	bin->nr_slabs++;
	bin->nr_pages += slab->nr_pages;
	bin->nr_out += n;
	lock_release(&bin->lock);
	return n;
}

/* The slab is in no list, and nothing in it is live. */
static void slab_end(struct slab_heap *heap, struct pcp *pcp, uint32_t number)
{
	struct slab *slab = slab_at(heap->span, number);
	uint64_t page = slab->page;
	struct zone *zone = &heap->reg->zones[slab_zone(heap, slab)];
	uint32_t word = run_word(slab->nr_pages);

	pcp_count_in(heap->reg, pcp, LEVEL_SLAB_PAGES,
		     -(int64_t)slab->nr_pages);
	lock_acquire(&zone->lock);
	zone_set_map(zone, page, slab->nr_pages, word, 0);
	zone_unlock(zone);
	slab_number_give(heap, number);
	page_free(heap->reg, pcp, page, word);
	pcp_count_in(heap->reg, pcp, EVENT_SLAB_FREED, 1);
}

/* Giving objects back */

static uint32_t slab_word_of(struct slab_heap *heap, const void *object)
{
	if (!span_contains(heap->span, object))
		return 0;
	return load_relaxed(&heap->span->map[span_page_of(heap->span,
							   object)]);
}

/* One object; the slab's number if it has no live ones left. */
static uint32_t bin_give_one(struct slab_heap *heap, struct slab_bin *bin,
			     void *object, uint32_t word)
{
	uint32_t number = slab_word_number(word);
	struct slab *slab = slab_at(heap->span, number);
	uint32_t offset = (uint32_t)((char *)object - (char *)
				     span_page_address(heap->span, slab->page));

	/* A pointer that was never handed out. */
	BUG_ON(!slab_starts_at(slab, offset));
	if (!slab_has_to_give(slab))
		partial_add(heap, bin, number);
	slab->free = link_object(object, slab->free);
	bin->nr_out--;
	if (++slab->nr_free < load_relaxed(&slab->nr_carved))
		return SLAB_NONE;
	BUG_ON(slab->nr_free > load_relaxed(&slab->nr_carved));
	partial_del(heap, bin, number);
	bin->nr_slabs--;
	bin->nr_pages -= slab->nr_pages;
	return number;
}

/* The word of a free object; stops the program if the link to it was written to
 * after its predecessor was freed. */
static uint32_t linked_word(struct slab_heap *heap, const void *object,
			    unsigned class)
{
	uint32_t word = slab_word_of(heap, object);

	BUG_ON(!(word & MAP_SLAB) || slab_word_class(word) != class);
	return word;
}

static unsigned word_zone(struct slab_heap *heap, uint32_t word)
{
	return slab_zone(heap, slab_at(heap->span, slab_word_number(word)));
}

/*
 * Up to SLAB_GIVE_MAX objects of @chain in one hold, as far as they are of one
 * zone; slabs that became empty are ended after it.  Returns what is left of
 * the chain.
 */
static void *bin_give(struct slab_heap *heap, struct pcp *pcp, unsigned class,
		      void *chain)
{
	uint32_t ended = SLAB_NONE, number;
	unsigned zone = word_zone(heap, linked_word(heap, chain, class));
	struct slab_bin *bin = bin_of(heap, zone, class);

	lock_acquire(&bin->lock);
	for (unsigned i = 0; chain && i < SLAB_GIVE_MAX; i++) {
		void *object = chain;
		uint32_t word = linked_word(heap, object, class);

		if (word_zone(heap, word) != zone)
			break;
		chain = *(void **)object;
		number = bin_give_one(heap, bin, object, word);
		if (number != SLAB_NONE) {
			slab_at(heap->span, number)->next = ended;
			ended = number;
		}
	}
	lock_release(&bin->lock);
	while (ended != SLAB_NONE) {
		number = ended;
		ended = slab_at(heap->span, number)->next;
		slab_end(heap, pcp, number);
	}
	return chain;
}

/* After a fork: as much of a dead thread's magazine as is certain. */
static void trim_orphan(struct slab_heap *heap, struct pcp *pcp,
			unsigned class)
{
	void **link = &pcp->small_head[class];
	struct magazine *m = &pcp->small[class];
	void *front = pcp->front[class];
	int32_t n = 0;

	if (front && (!span_contains(heap->span, front) ||
		      *slab_mark_of(front) != slab_mark(front)))
		pcp->front[class] = NULL;
	while (*link && n < m->max) {
		void *object = *link;
		uint32_t word = slab_word_of(heap, object);

		if (!(word & MAP_SLAB) || slab_word_class(word) != class ||
		    *slab_mark_of(object) != slab_mark(object))
			break;
		link = (void **)object;
		n++;
	}
	*link = NULL;
	m->room = m->max - n;
}

/* Cuts all but the @keep newest objects off a magazine. */
static void *magazine_cut(struct pcp *pcp, unsigned class, uint32_t keep)
{
	struct magazine *m = &pcp->small[class];
	void **link = &pcp->small_head[class], *chain;

	for (uint32_t i = 0; i < keep; i++)
		link = (void **)*link;
	chain = *link;
	*link = NULL;
	m->room = m->max - (int32_t)keep;
	return chain;
}

static void give_chain(struct slab_heap *heap, struct pcp *pcp, unsigned class,
		       void *chain)
{
	/* Each round gives SLAB_GIVE_MAX objects back, or the rest. */
	while (chain)
		chain = bin_give(heap, pcp, class, chain);
}

/* Gives all but the @keep newest objects of a magazine back. */
static void slab_flush(struct pcp *pcp, unsigned class, uint32_t keep)
{
	struct slab_heap *heap = pcp->registry->heap;
	void *chain;

	if (unlikely(pcp->orphan))
		trim_orphan(heap, pcp, class);
	if (!keep && pcp->front[class]) {
		chain = link_object(pcp->front[class], NULL);
		pcp->front[class] = NULL;
		bin_give(heap, pcp, class, chain);
	}
	if (magazine_count(&pcp->small[class]) > keep)
		give_chain(heap, pcp, class, magazine_cut(pcp, class, keep));
}

void slab_drain(struct slab_heap *heap, struct pcp *pcp)
{
	for (unsigned i = 0; i < slab_nr_bins(heap); i++) {
		struct slab_bin *bin = slab_bin_at(heap, i);
		unsigned class = i % SLAB_NR_CLASSES;

		/* As many rounds as a depot has chains. */
		for (unsigned k = 0; k < SLAB_DEPOT_CHAINS; k++) {
			void *chain = NULL;

			lock_acquire(&bin->lock);
			depot_take(bin, slab_class[class].bytes, UINT32_MAX,
				   &chain);
			lock_release(&bin->lock);
			if (!chain)
				break;
			give_chain(heap, pcp, class, chain);
		}
	}
}

static void drain_small(struct pcp_registry *reg, struct pcp *pcp)
{
	slab_drain(reg->heap, pcp);
}

/* What the magazines ask for */

/* An empty magazine takes a chain of what it may hold, or a batch; who has no
 * magazine takes one. */
static uint32_t magazine_most(const struct magazine *m)
{
	return m && m->max ? (uint32_t)m->max : 1;
}

static uint32_t magazine_want(const struct magazine *m,
			      const struct slab_class *sc)
{
	return magazine_most(m) < sc->batch ? magazine_most(m) : sc->batch;
}

/* Of what is there in a zone. */
static uint32_t take_there(struct slab_heap *heap, const struct slab_want *want,
			   const struct magazine *m, void **chain)
{
	return bin_take(heap, want, magazine_want(m, &slab_class[want->class]),
			magazine_most(m), chain);
}

/* Of what is there in the nearest zone that the request may use. */
static uint32_t take_anywhere(struct slab_heap *heap, struct slab_want *want,
			      const struct magazine *m, void **chain)
{
	struct slab_want from = *want;
	struct zone_choice choice;
	uint32_t n;

	if (!heap->reg->nodes)
		return take_there(heap, want, m, chain);
	choice = mempolicy_choice(heap->reg->nodes, want->zone,
				  want->flags & PP_THISNODE);
	for_each_chosen(i, &choice) {
		from.zone = i;
		n = take_there(heap, &from, m, chain);
		if (n) {
			want->zone = i;
			return n;
		}
	}
	return 0;
}

static uint32_t take_new(struct slab_heap *heap, struct pcp *pcp,
			 struct slab_want *want, const struct magazine *m,
			 void **chain, struct page_result *result)
{
	struct slab *slab = slab_new(heap, pcp, want, result);

	/* Making a slab at the limit empties the cache and its max. */
	return slab ? slab_take_first(heap, want, slab, magazine_want(m,
			&slab_class[want->class]), chain) : 0;
}

/*
 * Objects, for the magazine @m or, if that is NULL, one.  Free pages of the
 * first choice are better than objects of another zone, and those better than
 * another zone's pages.
 */
static uint32_t take_objects(struct slab_heap *heap, struct pcp *pcp,
			     struct slab_want *want, const struct magazine *m,
			     void **chain, struct page_result *result)
{
	struct slab_want strict = *want;
	uint32_t n = take_there(heap, want, m, chain);

	if (n)
		return n;
	if (heap->reg->nodes && !(want->flags & PP_THISNODE)) {
		strict.flags |= PP_THISNODE | PP_NORETRY;
		n = take_new(heap, pcp, &strict, m, chain, result);
		if (!n)
			n = take_anywhere(heap, want, m, chain);
	}
	if (!n)
		n = take_new(heap, pcp, want, m, chain, result);
	/* What was tried for it may have emptied the depots. */
	return n ? n : take_anywhere(heap, want, m, chain);
}

static void *slab_refill(struct slab_heap *heap, struct pcp *pcp,
			 struct slab_want *want, struct page_result *result)
{
	const struct slab_class *sc = &slab_class[want->class];
	struct magazine *m = &pcp->small[want->class];
	uint32_t got;
	void *object;

	pcp_grow_magazine(pcp, want->class, sc->batch, sc->cap, sc->bytes);
	got = take_objects(heap, pcp, want, m, &pcp->small_head[want->class],
			   result);
	if (!got)
		return NULL;
	pcp_was_served(pcp, want->zone);
	m->room = m->max - (int32_t)got;
	object = slab_pop(pcp, want->class);
	/* Without a share nothing may stay in front either. */
	if (!m->max)
		pcp->last = NULL;
	return object;
}

static void *slab_alloc_direct(struct slab_heap *heap, struct pcp *pcp,
			       struct slab_want *want,
			       struct page_result *result)
{
	void *object = NULL;

	if (!take_objects(heap, pcp, want, NULL, &object, result))
		return NULL;
	*slab_mark_of(object) = 0;
	return object;
}

static unsigned direct_zone(struct slab_heap *heap, unsigned flags)
{
	struct nodes *nodes = heap->reg->nodes;

	if (!nodes)
		return 0;
	return flags & PP_THISNODE ? mempolicy_here(nodes) :
	       mempolicy_first(nodes, add_relaxed(&nodes->turn, 1));
}

void *slab_alloc_slow(struct slab_heap *heap, struct pcp *pcp, unsigned class,
		      unsigned flags, struct page_result *result)
{
	struct slab_want want = { class, flags, 0 };

	result->why = FAILURE_LIMIT;
	if (pcp && slab_may_pop(heap, flags)) {
		want.zone = pcp_refill_zone(pcp)->index;
		if (!is_in_reserve(heap, &want, slab_class[class].nr_pages))
			return slab_refill(heap, pcp, &want, result);
	} else {
		want.zone = direct_zone(heap, flags);
	}
	return slab_alloc_direct(heap, pcp, &want, result);
}

void slab_overflow(struct slab_heap *heap, struct pcp *pcp, unsigned class)
{
	const struct slab_class *sc = &slab_class[class];
	struct magazine *m = &pcp->small[class];
	uint32_t keep, n;
	void *chain;

	if (pcp_grow_magazine(pcp, class, sc->batch, sc->cap, sc->bytes) &&
	    m->room >= 0)
		return;
	/* Who had more than its share has nothing now. */
	if (!magazine_count(m))
		return;
	keep = (uint32_t)m->max / 2;
	n = magazine_count(m) - keep;
	chain = magazine_cut(pcp, class, keep);
	if (!depot_put(heap, pcp_home(pcp), class, chain, n))
		give_chain(heap, pcp, class, chain);
}

void slab_free_direct(struct slab_heap *heap, struct pcp *pcp, void *object,
		      uint32_t word)
{
	*(void **)object = NULL;
	bin_give(heap, pcp, slab_word_class(word), object);
}

static uint64_t small_free_bytes(struct pcp_registry *reg)
{
	return slab_free_bytes(reg->heap);
}

/* Bring-up */

void slab_heap_init(struct slab_heap *heap, struct pcp_registry *reg,
		    uint32_t paid_numbers, void *more_bins)
{
	slab_classes_init();
	heap->reg = reg;
	heap->span = reg->zones->span;
	heap->more_bins = more_bins;
	for (unsigned i = 0; i < slab_nr_bins(heap); i++) {
		struct slab_bin *bin = slab_bin_at(heap, i);

		lock_init(&bin->lock, LOCK_RANK_SLAB);
		bin->partial[0] = bin->partial[1] = SLAB_NONE;
		bin->nr_slabs = 0;
		bin->nr_chains = 0;
		bin->depot_bytes = 0;
	}
	lock_init(&heap->lock, LOCK_RANK_LEAF);
	heap->free_number = SLAB_NONE;
	heap->nr_numbers = 0;
	heap->paid_numbers = paid_numbers;
	reg->heap = heap;
	reg->flush_small = slab_flush;
	reg->drain_small = drain_small;
	reg->small_free_bytes = small_free_bytes;
	slab_heap_size_depots(heap);
}

void slab_heap_size_depots(struct slab_heap *heap)
{
	uint64_t managed = load_relaxed(&heap->reg->zones->managed_pages);

	store_relaxed(&heap->depot_bytes,
		      min_u64(SLAB_DEPOT_BYTES, pages_to_bytes(managed) /
						SLAB_DEPOT_SHARE));
}
