/* SPDX-License-Identifier: MIT */
/*
 * slab.h - small objects on page runs (layer 11).
 *
 * A slab is a run of 64 KiB or a little more, cut into objects of one of 64
 * size classes: 16 to 128 bytes in steps of 16, then eight to a doubling up to
 * 16 KiB.  Its descriptor is kept beside the span, so that objects start at
 * the run's first byte and are as aligned as their size is.
 *
 * Threads keep free objects in magazines (pcp.h) and come here for a batch of
 * them, under the lock of the class.  Slabs belong to no thread: 512 threads
 * that use 40 classes would otherwise hold 20,000 partly used slabs, over a
 * gigabyte, which nobody else could have at the limit.
 *
 * Between the two stands a depot for each class: chains of free objects as a
 * full magazine gave them up, which an empty one takes whole, without a look at
 * the slabs (J. Bonwick, J. Adams, "Magazines and Vmem", 2001).  It is bounded,
 * fills only while the zone has plenty, and is emptied before a request fails.
 *
 * With several zones each has its own depots and lists of slabs.  An object
 * goes back to the slab that it is of; a magazine, and so a chain, may have
 * objects of several zones when pages are interleaved, or the cache's home is
 * full.
 *
 * A slab without live objects goes back at once; the thread's cache of runs is
 * what keeps it near.
 *
 *	magazine of a thread		slabs of the class
 *	head -> o -> o -> o	<=>	[o.o..o][..oo..][oooo--]
 *					 free is linked, -- never touched yet
 *
 * A slab made of what only requests with PP_HIGH or PP_MEMALLOC may have is as
 * short as can be, fills no magazine, and gives what is left of it to such
 * requests only, until there is memory for all again (Linux mm/slab.c had that
 * as pfmemalloc, from C. Lameter's and P. Zijlstra's work of 2007).
 *
 * A free object carries a link in its first word and a mark, which is its own
 * address and a large odd number, in its second: a free that finds the mark is
 * a double free.  The mark is wiped when the object is handed out.
 *
 * For each slab, under the class's lock:
 * I1: nr_free == length of the list at free
 * I2: nr_free <= nr_carved <= nr_objects
 * I3: the slab is in the class's list partial[of_reserve] iff nr_free or
 *     uncarved objects are left
 * I4: every slab in the list has been handed objects: nr_carved > 0
 * I5: every page of the slab has MAP_SLAB, its class and its number in the map
 *
 * And for each depot:
 * I6: count == length of the chain, which is not 0; depot_bytes == the sum of
 *     count * the class's bytes over its chains
 */
#ifndef PP_SLAB_H
#define PP_SLAB_H

#include "page_alloc.h"

#define SLAB_NR_CLASSES		PCP_NR_SMALL
#define SLAB_MAX_BYTES		(16u << 10)
#define SLAB_MIN_BYTES		16u
#define SLAB_NONE		UINT32_MAX
#define SLAB_DEPOT_CHAINS	8u

struct slab {
	/* const while the slab exists */
	uint32_t	page;
	uint32_t	magic;		/* of its class, see slab_starts_at() */
	uint16_t	nr_objects;
	uint16_t	nr_pages : 15;	/* 0: the number is not in use */
	uint16_t	of_reserve : 1;	/* its pages were for a few only */

	/* the class's lock */
	uint16_t	nr_free;
	_Atomic uint16_t nr_carved;	/* objects from here up: never used;
					 * read without the lock */
	void		*free;
	uint32_t	prev, next;	/* in the class's list, by number */
};

static_assert(sizeof(struct slab) == SPAN_SLAB_BYTES, "span.c lays them out");

/* const after slab_heap_init() */
struct slab_class {
	uint32_t	bytes;
	uint32_t	magic;		/* 2^32 / bytes, rounded up */
	uint16_t	nr_objects;	/* in a slab of nr_pages */
	uint16_t	nr_pages;
	uint16_t	batch;		/* objects that a refill asks for */
	uint16_t	cap;		/* of a magazine */
};

#pragma GCC visibility push(hidden)
extern struct slab_class slab_class[SLAB_NR_CLASSES];
extern uint8_t slab_class_of[SLAB_MAX_BYTES / 16 + 1];
#pragma GCC visibility pop

/* Free objects, linked. */
struct slab_chain {
	void		*head;
	uint32_t	count;
};

/* The slabs of one class. */
struct slab_bin {
	struct lock	lock;		/* rank SLAB */
	uint32_t	partial[2];	/* slabs that have objects to give; [1]:
					 * those of the reserve */
	uint32_t	nr_slabs;
	uint32_t	nr_chains;	/* in the depot */
	uint64_t	depot_bytes;
	int64_t		nr_out;		/* objects that are not in slabs */
	uint64_t	nr_pages;	/* of the slabs */
	struct slab_chain chain[SLAB_DEPOT_CHAINS];
} PP_ALIGNED(PP_CACHELINE_BYTES);

struct slab_heap {
	/* const after slab_heap_init() */
	struct pcp_registry	*reg;
	struct span		*span;
	_Atomic uint64_t	depot_bytes;	/* most for one class */
	struct slab_bin		*more_bins;	/* of zones 1 and up */
	/* each its own lock */
	struct slab_bin		bin[SLAB_NR_CLASSES];	/* of zone 0 */
	/* lock (rank LEAF): numbers of slabs */
	struct lock		lock;
	uint32_t		free_number;
	uint32_t		nr_numbers;	/* ever used */
	uint32_t		paid_numbers;	/* whose memory is accounted */
};

/* Fills slab_class[] and slab_class_of[]; idempotent. */
void slab_classes_init(void);

/*
 * @paid_numbers: descriptors that the limit covers from the start.
 * @more_bins: SLAB_ZONE_BYTES of zeroes for each zone but the first.
 */
void slab_heap_init(struct slab_heap *heap, struct pcp_registry *reg,
		    uint32_t paid_numbers, void *more_bins);

#define SLAB_ZONE_BYTES	(SLAB_NR_CLASSES * sizeof(struct slab_bin))

/* All bins, of all zones: bin % SLAB_NR_CLASSES is the class. */
static inline unsigned slab_nr_bins(const struct slab_heap *heap)
{
	return heap->span->nr_zones * SLAB_NR_CLASSES;
}

static inline struct slab_bin *slab_bin_at(struct slab_heap *heap,
					   unsigned bin)
{
	return bin < SLAB_NR_CLASSES ? &heap->bin[bin] :
	       &heap->more_bins[bin - SLAB_NR_CLASSES];
}

/* The pages managed have changed: what a depot may hold, too. */
void slab_heap_size_depots(struct slab_heap *heap);

/* The class for an object of @bytes at @align_bytes (a power of two), or
 * SLAB_NR_CLASSES if there is none. */
unsigned slab_class_for(size_t bytes, size_t align_bytes);

static inline struct slab *slab_at(const struct span *span, uint32_t number)
{
	return (struct slab *)(void *)(span->slabs +
				       (size_t)number * SPAN_SLAB_BYTES);
}

static inline uint32_t slab_number(const struct span *span,
				   const struct slab *slab)
{
	return (uint32_t)(((const char *)slab - span->slabs) /
			  SPAN_SLAB_BYTES);
}

/* The index of the zone that the slab's pages are of. */
static inline unsigned slab_zone(const struct slab_heap *heap,
				 const struct slab *slab)
{
	return heap->reg->nodes ? span_zone_of(heap->span, slab->page) : 0;
}

/* Are there objects that were not handed out?  The class's lock is held. */
static inline bool slab_has_to_give(const struct slab *slab)
{
	return slab->nr_free ||
	       load_relaxed(&slab->nr_carved) < slab->nr_objects;
}

/*
 * Numbers of descriptors.  Those beyond what the limit covers are memory too:
 * @zone pays, or another.  False with @why.
 */
bool slab_number_take(struct slab_heap *heap, unsigned zone,
		      uint32_t *number, enum failure *why);
void slab_number_give(struct slab_heap *heap, uint32_t number);

static inline unsigned slab_word_class(uint32_t word)
{
	return word & MAP_SLAB_CLASS_MASK;
}

static inline uint32_t slab_word_number(uint32_t word)
{
	return (word & ~MAP_SLAB) >> MAP_SLAB_NUMBER_SHIFT;
}

/* Where the slab's descriptor lies among the others: number * 32. */
static inline uint32_t slab_word_bytes(uint32_t word)
{
	static_assert(SPAN_SLAB_BYTES << 1 == 1u << MAP_SLAB_NUMBER_SHIFT,
		      "the number's place in the word is half a product");
	return (word & ~MAP_SLAB & ~MAP_SLAB_CLASS_MASK) >> 1;
}

static inline uint32_t slab_word(unsigned class, uint32_t number)
{
	return MAP_SLAB | number << MAP_SLAB_NUMBER_SHIFT | class;
}

/*
 * Does an object start at @offset of its slab, one that was ever handed out?
 * One multiplication says whether the size divides it (D. Lemire, O. Kaser,
 * N. Kurz, "Faster remainder by direct computation", 2019): offset and size
 * take 31 bits together; the upper half of the product is the quotient.
 */
static inline bool slab_starts_at(const struct slab *slab, uint32_t offset)
{
	uint64_t product = (uint64_t)offset * slab->magic;

	/* Relaxed: who has an object has seen that it was carved. */
	return (uint32_t)product < slab->magic &&
	       product >> 32 < load_relaxed(&slab->nr_carved);
}

/* No pointer to anything, and in no program's data but by accident. */
#define SLAB_MARK		0x5b7a3e91ull

static inline uint64_t slab_mark(const void *object)
{
	return (uintptr_t)object + SLAB_MARK;
}

static inline uint64_t *slab_mark_of(void *object)
{
	return (uint64_t *)object + 1;
}

/* Takes an object from the magazine; NULL if it is empty.  Busy. */
static PP_ALWAYS_INLINE void *slab_pop(struct pcp *pcp, unsigned class)
{
	void *object = pcp->front[class];

	if (object) {
		pcp->front[class] = NULL;
	} else {
		object = pcp->small_head[class];
		if (unlikely(!object))
			return NULL;
		pcp->small_head[class] = *(void **)object;
		pcp->small[class].room++;
	}
	*slab_mark_of(object) = 0;
	pcp->last = object;
	store_relaxed(&pcp->last_word, MAP_SLAB | class);
	return object;
}

/* Is it the object that was handed out last, and live?  Then its class is
 * known without waiting for the map, which only confirms it.  Busy. */
static PP_ALWAYS_INLINE bool slab_is_last(const struct pcp *pcp, void *p,
					  uint32_t word)
{
	return likely(p == pcp->last) &&
	       likely((word & (MAP_SLAB | MAP_SLAB_CLASS_MASK)) ==
		      load_relaxed(&pcp->last_word)) &&
	       likely(*slab_mark_of(p) != slab_mark(p));
}

/* Puts the object that was handed out last in front.  Busy. */
static PP_ALWAYS_INLINE void slab_push_last(struct pcp *pcp, void *object)
{
	/* Loaded anew, lest the store waits for the map. */
	uint32_t word = load_relaxed(&pcp->last_word);

	*slab_mark_of(object) = slab_mark(object);
	pcp->front[slab_word_class(word)] = object;
}

/*
 * Is @p an object of the slab that @word names, and handed out as far as one
 * can see?  @offset is that of @p from the span's base.
 */
static PP_ALWAYS_INLINE bool slab_is_live(const struct pcp *pcp, void *p,
					  uintptr_t offset, uint32_t word)
{
	const struct slab *slab = (const struct slab *)(const void *)
		(pcp->slabs + slab_word_bytes(word));
	uint32_t at = (uint32_t)offset - (slab->page << PP_PAGE_SHIFT);

	return slab_starts_at(slab, at) &&
	       *slab_mark_of(p) != slab_mark(p);
}

/* Puts a live object into its magazine; false if that is too full now.
 * Busy. */
static PP_ALWAYS_INLINE bool slab_push(struct pcp *pcp, unsigned class,
				       void *object)
{
	*(void **)object = pcp->small_head[class];
	/* A forked child believes a link only if the mark beside it is there:
	 * link, mark, head, in this order. */
	barrier();
	*slab_mark_of(object) = slab_mark(object);
	barrier();
	pcp->small_head[class] = object;
	return likely(--pcp->small[class].room >= 0);
}

/* May the request be served from a magazine?  Not if it is particular about its
 * node and there are several. */
static inline bool slab_may_pop(const struct slab_heap *heap, unsigned flags)
{
	return !heap->reg->nodes || !(flags & PP_THISNODE);
}

/**
 * slab_alloc_slow() - an object, when the magazine is empty or there is none.
 * @pcp: entered, or NULL.
 * Return: the object; NULL with result->why.
 */
void *slab_alloc_slow(struct slab_heap *heap, struct pcp *pcp, unsigned class,
		      unsigned flags, struct page_result *result);

/* The magazine is over its max: grow that, or give some back.  Busy. */
void slab_overflow(struct slab_heap *heap, struct pcp *pcp, unsigned class);

/* Gives what the depots hold back to the slabs.  @pcp entered, or NULL. */
void slab_drain(struct slab_heap *heap, struct pcp *pcp);

/* Frees a live object without a magazine; @pcp entered, or NULL. */
void slab_free_direct(struct slab_heap *heap, struct pcp *pcp, void *object,
		      uint32_t word);

/* Objects handed out, exact while no other thread is in the pool; and the
 * pages of all slabs. */
int64_t slab_objects_out(struct slab_heap *heap, uint64_t *slab_pages);

/* Free memory in slabs and depots, more or less: each class at another moment.
 * The ends where no object fits count, objects in magazines do not. */
uint64_t slab_free_bytes(struct slab_heap *heap);

/* What the slabs of one class have in all zones.  Objects that threads cache
 * count as handed out. */
struct slab_usage {
	uint64_t	nr_pages, nr_objects;
};

struct slab_usage slab_usage_of(struct slab_heap *heap, unsigned class);

/* Free memory in the depots. */
uint64_t slab_depot_bytes(struct slab_heap *heap);

/* The number of the first invariant that does not hold, or 0. */
int slab_verify(struct slab_heap *heap);

#endif
