/* SPDX-License-Identifier: MIT */
/* A cache that makes room: what it could hold is four times the limit. */
#include <pagepool/reclaim.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NR_ITEMS	2048		/* of 64 KiB: 128 MiB */
#define ITEM_PAGES	16
#define NR_READS	20000

struct cache {
	struct pp_pool	*pool;
	pthread_mutex_t	lock;			/* not held by who allocates */
	unsigned char	*item[NR_ITEMS];	/* lock; NULL: not there */
	size_t		hand;			/* lock; who goes next */
	atomic_size_t	nr;			/* items that are there */
};

static size_t count_items(void *arg, struct pp_shrink *shrink)
{
	struct cache *c = arg;

	(void)shrink;
	return c->nr ? c->nr : PP_SHRINK_EMPTY;
}

/* In threads of the pool's own. */
static size_t scan_items(void *arg, struct pp_shrink *shrink)
{
	struct cache *c = arg;
	size_t freed = 0;

	if (pthread_mutex_trylock(&c->lock))
		return PP_SHRINK_STOP;		/* some other time */
	for (size_t i = 0; i < NR_ITEMS && freed < shrink->nr_to_scan; i++) {
		unsigned char **item = &c->item[c->hand++ % NR_ITEMS];

		freed += *item != NULL;
		pp_free_pages(c->pool, *item);
		*item = NULL;
	}
	c->nr -= freed;
	pthread_mutex_unlock(&c->lock);
	return freed;
}

/* A byte of an item, which is made if it is not there.  Returns 1 if it was,
 * -1 if it could not be. */
static int read_item(struct cache *c, size_t i, unsigned char *byte)
{
	unsigned char *item;

	pthread_mutex_lock(&c->lock);
	item = c->item[i];
	if (item)
		*byte = item[0];
	pthread_mutex_unlock(&c->lock);
	if (item)
		return 1;

	/* This may wait for scan_items(): the lock is not held. */
	item = pp_alloc_pages(c->pool, ITEM_PAGES, 0);
	if (!item)
		return -1;
	memset(item, (int)(i % 256), ITEM_PAGES * PP_PAGE_SIZE);
	*byte = item[0];

	/* From here on it may be gone at any moment. */
	pthread_mutex_lock(&c->lock);
	c->item[i] = item;
	c->nr++;
	pthread_mutex_unlock(&c->lock);
	return 0;
}

static int read_many(struct cache *c)
{
	unsigned nr_hits = 0, nr_failed = 0;
	unsigned char byte;

	for (int n = 0; n < NR_READS; n++) {
		/* Some are read more often than others. */
		size_t i = (size_t)(rand() % NR_ITEMS) *
			   (size_t)(rand() % NR_ITEMS) / NR_ITEMS;
		int got = read_item(c, i, &byte);

		nr_hits += got > 0;
		nr_failed += got < 0 || byte != i % 256;
	}
	printf("%d reads, %u of them from the cache, %u failed\n", NR_READS,
	       nr_hits, nr_failed);
	return nr_failed != 0;
}

int main(void)
{
	static struct cache c = { .lock = PTHREAD_MUTEX_INITIALIZER };
	const struct pp_shrinker shrinker = {
		.struct_bytes = sizeof(shrinker),
		.name = "items",
		.arg = &c,
		.count = count_items,
		.scan = scan_items,
		.seeks = PP_SHRINKER_SEEKS,
		.batch = 16,			/* 1 MiB at a time */
	};
	struct pp_shrinker_id *id;
	struct pp_config *config;
	int err;

	if (pp_config_create(&config))
		return 1;
	err = pp_config_set(config, "limit", "32M");
	if (!err)
		err = pp_pool_create(config, &c.pool);
	pp_config_destroy(config);
	if (err || pp_shrinker_register(c.pool, &shrinker, &id))
		return 1;

	err = read_many(&c);

	/* No callback runs any more; the items are ours alone. */
	pp_shrinker_unregister(id);
	for (size_t i = 0; i < NR_ITEMS; i++)
		pp_free_pages(c.pool, c.item[i]);
	return pp_pool_destroy(c.pool) || err;
}
