/* SPDX-License-Identifier: MIT */
/* slab_class.c - the sizes that small objects come in; see slab.h. */
#include "slab.h"

/* A slab is 16 pages, or up to 24 where that wastes less at its end. */
#define SLAB_MIN_PAGES		16u
#define SLAB_MAX_PAGES		24u
/* What a batch moves, and what a magazine may hold. */
#define SLAB_BATCH_BYTES	8192u
#define SLAB_MAX_BATCH		64u
#define SLAB_MAGAZINE_BYTES	(32u << 10)
#define SLAB_MIN_CAP		8u
#define SLAB_MAX_CAP		1024u

struct slab_class slab_class[SLAB_NR_CLASSES];
uint8_t slab_class_of[SLAB_MAX_BYTES / 16 + 1];

static uint32_t class_bytes(unsigned class)
{
	unsigned above = class - 8;

	if (class < 8)
		return (class + 1) * 16;
	return (128u << above / 8) + (above % 8 + 1) * (16u << above / 8);
}

static uint32_t least_waste(uint32_t bytes)
{
	uint32_t best = SLAB_MIN_PAGES;

	for (uint32_t n = SLAB_MIN_PAGES; n <= SLAB_MAX_PAGES; n += 2) {
		uint64_t waste = pages_to_bytes(n) % bytes;

		if (waste * best < pages_to_bytes(best) % bytes * n)
			best = n;
	}
	return best;
}

static uint32_t clamp_u32(uint32_t n, uint32_t least, uint32_t most)
{
	return n < least ? least : n > most ? most : n;
}

static void init_class(struct slab_class *sc, uint32_t bytes)
{
	sc->bytes = bytes;
	sc->magic = (uint32_t)div_up(1ull << 32, bytes);
	sc->nr_pages = (uint16_t)least_waste(bytes);
	sc->nr_objects = (uint16_t)(pages_to_bytes(sc->nr_pages) / bytes);
	sc->batch = (uint16_t)clamp_u32(SLAB_BATCH_BYTES / bytes, 1,
					SLAB_MAX_BATCH);
	sc->cap = (uint16_t)clamp_u32(SLAB_MAGAZINE_BYTES / bytes,
				      SLAB_MIN_CAP, SLAB_MAX_CAP);
}

static void fill_tables(void)
{
	unsigned class = 0;

	for (unsigned i = 0; i < SLAB_NR_CLASSES; i++)
		init_class(&slab_class[i], class_bytes(i));
	BUG_ON(slab_class[SLAB_NR_CLASSES - 1].bytes != SLAB_MAX_BYTES);
	for (unsigned i = 0; i <= SLAB_MAX_BYTES / 16; i++) {
		if (i * 16 > slab_class[class].bytes)
			class++;
		slab_class_of[i] = (uint8_t)class;
	}
}

void slab_classes_init(void)
{
	static struct once once = ONCE_INIT;

	once_run(&once, fill_tables);
}

unsigned slab_class_for(size_t bytes, size_t align_bytes)
{
	unsigned class;

	if (bytes > SLAB_MAX_BYTES || align_bytes > SLAB_MAX_BYTES)
		return SLAB_NR_CLASSES;
	class = slab_class_of[(bytes + 15) / 16];
	/* An object is as aligned as its size, from the slab's page on. */
	while (class < SLAB_NR_CLASSES &&
	       slab_class[class].bytes & (align_bytes - 1))
		class++;
	return align_bytes > PP_PAGE_BYTES ? SLAB_NR_CLASSES : class;
}
