/* SPDX-License-Identifier: MIT */
/*
 * testing_store.h - a program's cache for the tests of reclaim: keys with a
 * run of pages each, made again when they are missed, and a shrinker that drops
 * the oldest.  The contents of a run say whose it is, so that a run with two
 * owners, or one that was purged under its owner, is found at the next hit.
 *
 * The lock is never held across a request, but for one with PP_NOFS.
 */
#ifndef PP_TESTS_STORE_H
#define PP_TESTS_STORE_H

#include "testing.h"

#include <dirent.h>
#include <sys/syscall.h>

#include <pagepool/reclaim.h>

struct store_entry {
	uint64_t	*run;
	size_t		prev, next;	/* in the ring, oldest first */
};

struct store {
	struct pp_pool		*pool;
	struct pp_shrinker_id	*id;
	pthread_mutex_t		lock;
	size_t			nr_keys, run_pages, nr_held;
	struct store_entry	*entry;		/* the last: the ring */
	_Atomic size_t		hits, misses, failures, dropped;
	_Atomic unsigned	counts, scans;
	_Atomic unsigned	by_request, by_reclaimd;
};

static inline int thread_id(void)
{
	return (int)syscall(SYS_gettid);
}

/* Is the callback called for reclaimd, or for a request? */
static inline bool is_reclaimd(void)
{
	return pagepool_call_is_background();
}

static inline void store_unlink(struct store *s, size_t key)
{
	struct store_entry *e = &s->entry[key];

	s->entry[e->prev].next = e->next;
	s->entry[e->next].prev = e->prev;
}

static inline void store_link(struct store *s, size_t key)
{
	struct store_entry *e = &s->entry[key], *head = &s->entry[s->nr_keys];

	e->prev = head->prev;
	e->next = s->nr_keys;
	s->entry[head->prev].next = key;
	head->prev = key;
}

static inline uint64_t store_stamp(const struct store *s, size_t key, size_t i)
{
	return (uint64_t)(uintptr_t)s ^ (key << 20 | i) * 0x9e3779b97f4a7c15ull;
}

static inline void store_fill(const struct store *s, uint64_t *run, size_t key)
{
	for (size_t i = 0; i < s->run_pages; i++) {
		run[i * PAGE / 8] = store_stamp(s, key, i);
		run[i * PAGE / 8 + 511] = ~store_stamp(s, key, i);
	}
}

static inline void store_check(const struct store *s, const uint64_t *run,
			       size_t key)
{
	for (size_t i = 0; i < s->run_pages; i++) {
		thread_check(run[i * PAGE / 8] == store_stamp(s, key, i));
		thread_check(run[i * PAGE / 8 + 511] ==
			     ~store_stamp(s, key, i));
	}
}

/* Drops the oldest; lock held.  NULL: there is none. */
static inline uint64_t *store_drop(struct store *s)
{
	size_t key = s->entry[s->nr_keys].next;
	uint64_t *run;

	if (key == s->nr_keys)
		return NULL;
	run = s->entry[key].run;
	store_check(s, run, key);
	store_unlink(s, key);
	s->entry[key].run = NULL;
	s->nr_held--;
	return run;
}

static inline size_t store_count(void *arg, struct pp_shrink *shrink)
{
	struct store *s = arg;
	size_t n;

	(void)shrink;
	atomic_fetch_add(&s->counts, 1);
	atomic_fetch_add(is_reclaimd() ? &s->by_reclaimd : &s->by_request, 1);
	pthread_mutex_lock(&s->lock);
	n = s->nr_held;
	pthread_mutex_unlock(&s->lock);
	return n ? n : PP_SHRINK_EMPTY;
}

static inline size_t store_scan(void *arg, struct pp_shrink *shrink)
{
	struct store *s = arg;
	size_t n = 0;

	atomic_fetch_add(&s->scans, 1);
	for (; n < shrink->nr_to_scan; n++) {
		uint64_t *run;

		pthread_mutex_lock(&s->lock);
		run = store_drop(s);
		pthread_mutex_unlock(&s->lock);
		if (!run)
			break;
		pp_free_pages(s->pool, run);
	}
	atomic_fetch_add(&s->dropped, n);
	return n;
}

static inline void store_register(struct store *s, unsigned flags)
{
	const struct pp_shrinker ops = {
		.struct_bytes = sizeof(ops), .name = "store", .arg = s,
		.count = store_count, .scan = store_scan,
		.seeks = PP_SHRINKER_SEEKS, .flags = flags,
		.batch = 128 / s->run_pages + 1,
	};

	assert_int_equal(pp_shrinker_register(s->pool, &ops, &s->id), 0);
}

static inline struct store *store_make(struct pp_pool *pool, size_t nr_keys,
				       size_t run_pages)
{
	struct store *s = test_array(1, sizeof(*s));

	s->pool = pool;
	s->nr_keys = nr_keys;
	s->run_pages = run_pages;
	s->entry = test_array(nr_keys + 1, sizeof(*s->entry));
	s->entry[nr_keys].prev = s->entry[nr_keys].next = nr_keys;
	pthread_mutex_init(&s->lock, NULL);
	return s;
}

/* Was it there, or could it be made? */
static inline bool store_get(struct store *s, size_t key, unsigned flags)
{
	uint64_t *run;

	pthread_mutex_lock(&s->lock);
	if (s->entry[key].run) {
		store_check(s, s->entry[key].run, key);
		store_unlink(s, key);
		store_link(s, key);
		pthread_mutex_unlock(&s->lock);
		atomic_fetch_add(&s->hits, 1);
		return true;
	}
	pthread_mutex_unlock(&s->lock);
	atomic_fetch_add(&s->misses, 1);
	run = pp_alloc_pages(s->pool, s->run_pages, flags | PP_NOWARN);
	if (!run) {
		atomic_fetch_add(&s->failures, 1);
		return false;
	}
	store_fill(s, run, key);
	pthread_mutex_lock(&s->lock);
	if (!s->entry[key].run) {
		s->entry[key].run = run;
		store_link(s, key);
		s->nr_held++;
		run = NULL;
	}
	pthread_mutex_unlock(&s->lock);
	if (run)
		pp_free_pages(s->pool, run);	/* another was faster */
	return true;
}

static inline void store_end(struct store *s)
{
	uint64_t *run;

	pp_shrinker_unregister(s->id);
	while ((run = store_drop(s)))
		pp_free_pages(s->pool, run);
	assert_int_equal(s->nr_held, 0);
	pthread_mutex_destroy(&s->lock);
	free(s->entry);
	free(s);
}

/* Others */

static inline uint64_t test_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* Looks again and again, for @ms at the most. */
#define wait_until(cond, ms)						\
	({								\
		uint64_t end_ms_ = test_now_ms() + (ms);		\
		bool holds_;						\
									\
		while (!(holds_ = (cond)) && test_now_ms() < end_ms_)	\
			usleep(2000);					\
		holds_;							\
	})

/* Threads of the process called pp-reclaimd; @tids: theirs, or NULL. */
static inline unsigned count_reclaimds(int *tids, unsigned most)
{
	DIR *dir = opendir("/proc/self/task");
	unsigned n = 0;
	struct dirent *d;

	assert_non_null(dir);
	while ((d = readdir(dir))) {
		char path[300], name[32] = "";
		FILE *f;

		snprintf(path, sizeof(path), "/proc/self/task/%s/comm",
			 d->d_name);
		f = fopen(path, "r");
		if (!f)
			continue;
		if (fgets(name, sizeof(name), f) &&
		    strcmp(name, "pp-reclaimd\n") == 0 && n++ < most)
			tids[n - 1] = atoi(d->d_name);
		fclose(f);
	}
	closedir(dir);
	return n;
}

static inline struct pp_pool *pool_make_with(const char *limit,
					     const char *name,
					     const char *value)
{
	struct pp_config *config = NULL;
	struct pp_pool *pool = NULL;

	assert_int_equal(pp_config_create(&config), 0);
	assert_int_equal(pp_config_set(config, "limit", limit), 0);
	assert_int_equal(pp_config_set(config, name, value), 0);
	assert_int_equal(pp_pool_create(config, &pool), 0);
	pp_config_destroy(config);
	return pool;
}

#endif
