/* SPDX-License-Identifier: MIT */
/* api.c - the public functions of pagepool.h and pagepool/stat.h: arguments
 * are checked here, and errno is set (layer 12). */
#include <errno.h>
#include <string.h>

#include "diagnose.h"
#include "os/os.h"
#include "show.h"
#include "slowpath.h"
#include "watch.h"

/* There is no pool that could count it. */
static int no_pool(enum failure why)
{
	pool_failed(NULL, 0, 0, why);
	return -ENOMEM;
}

/* Settings */

int pp_config_create(struct pp_config **out)
{
	void *memory;

	if (!out)
		return -EINVAL;
	if (os_map_storage(sizeof(struct pp_config), &memory))
		return no_pool(FAILURE_OS);
	*out = memory;
	config_defaults(*out);
	config_from_environment(*out);
	return 0;
}

int pp_config_set(struct pp_config *config, const char *name,
		  const char *value)
{
	if (!config || !name || !value)
		return -EINVAL;
	return config_set(config, name, value);
}

void pp_config_destroy(struct pp_config *config)
{
	if (config)
		os_unreserve(config, sizeof(*config));
}

/* Pools */

int pp_pool_create(const struct pp_config *config, struct pp_pool **out)
{
	struct pp_config defaults;
	void *memory;
	int err;

	if (!out)
		return -EINVAL;
	if (!config) {
		config_defaults(&defaults);
		config_from_environment(&defaults);
		config = &defaults;
	}
	if (os_map_storage(sizeof(struct pp_pool), &memory))
		return no_pool(FAILURE_OS);
	err = pool_init(memory, config);
	if (err) {
		os_unreserve(memory, sizeof(struct pp_pool));
		return err == -ENOMEM ? no_pool(FAILURE_ADDRESS_SPACE) : err;
	}
	pool_hook_fork();
	*out = memory;
	pool_start_threads(memory);
	return 0;
}

int pp_pool_destroy(struct pp_pool *pool)
{
	int err;

	if (!pool)
		return -EINVAL;
	if (pool == &pool_of_process)
		return -EBUSY;
	err = pool_exit(pool);
	if (!err)
		os_unreserve(pool, sizeof(*pool));
	return err;
}

struct pp_pool *pp_pool_default(void)
{
	struct pp_pool *pool = pool_default();

	if (!pool)
		errno = -no_pool(FAILURE_ADDRESS_SPACE);
	else
		pool_start_own_threads(pool);
	return pool;
}

int pp_pool_set(struct pp_pool *pool, const char *name, const char *value)
{
	int err;

	if (!pool || !name || !value)
		return -EINVAL;
	pool_start_own_threads(pool);
	err = pool_set(pool, name, value);
	/* The limit may follow from now on. */
	if (!err)
		watch_start(pool);
	return err;
}

/* Runs */

static void *refuse(int err)
{
	errno = err;
	return NULL;
}

static void *refuse_run(struct pp_pool *pool, const struct page_request *req,
			enum failure why)
{
	size_t bytes = req->nr_pages > SIZE_MAX / PP_PAGE_BYTES ? SIZE_MAX :
		       pages_to_bytes(req->nr_pages);

	pool_failed(pool, bytes, req->flags, why);
	return refuse(ENOMEM);
}

/* NULL with @why, which is not counted yet. */
static void *try_run(struct pp_pool *pool, const struct page_request *req,
		     enum failure *why)
{
	struct page_result result = { .why = FAILURE_TOO_BIG };
	void *run = NULL;

	if (pool_is_nested(pool))
		result.why = FAILURE_NESTED;
	else if (req->nr_pages <= RUN_MAX_PAGES &&
		 req->align_pages <= RUN_MAX_PAGES)
		run = pool_alloc_run(pool, pool_enter(pool), req, &result);
	/* All that pp_run_pages() will say, not only what was asked for. */
	if (run && req->flags & PP_ZERO && !result.zeroed)
		memset(run, 0, pages_to_bytes(run_word_pages(
						pool_word(pool, run))));
	*why = result.why;
	return run;
}

static bool is_injected(struct pp_pool *pool, size_t nr_pages, unsigned flags)
{
	return nr_pages <= RUN_MAX_PAGES &&
	       pool_injects(pool, pages_to_bytes(nr_pages), flags);
}

void *api_alloc_run(struct pp_pool *pool, const struct page_request *req)
{
	enum failure why;
	void *run;

	if (is_injected(pool, req->nr_pages, req->flags))
		return refuse(ENOMEM);
	run = try_run(pool, req, &why);
	return run ? run : refuse_run(pool, req, why);
}

void *pp_alloc_aligned(struct pp_pool *pool, size_t nr_pages,
		       size_t align_pages, unsigned flags)
{
	struct page_request req = {
		.nr_pages = nr_pages,
		.align_pages = align_pages,
		.flags = flags,
	};

	if (!pool || !nr_pages || !is_pow2(align_pages) ||
	    !pool_flags_are_valid(flags))
		return refuse(EINVAL);
	return api_alloc_run(pool, &req);
}

void *pp_alloc_pages(struct pp_pool *pool, size_t nr_pages, unsigned flags)
{
	return pp_alloc_aligned(pool, nr_pages, 1, flags);
}

size_t pp_alloc_bulk(struct pp_pool *pool, size_t nr_runs, size_t nr_pages,
		     void **out, unsigned flags)
{
	size_t n = 0;

	if (nr_runs && !out) {
		errno = EINVAL;
		return 0;
	}
	while (n < nr_runs) {
		out[n] = pp_alloc_pages(pool, nr_pages, flags);
		if (!out[n])
			break;
		n++;
	}
	return n;
}

/* The word of a live run; stops the program for anything else. */
static uint32_t live_run(struct pp_pool *pool, const void *run,
			 const char *entry)
{
	uint32_t word;

	if (!pool)
		bug_pointer(entry, "", (uintptr_t)run,
			    " is not in a pool: that is NULL");
	word = diagnose_live(pool, run, entry);
	if (word & MAP_SLAB)
		bug_pointer(entry, "", (uintptr_t)run,
			    " is not a run of pages");
	return word;
}

static void free_run(struct pp_pool *pool, void *run, const char *entry)
{
	uint32_t word;
	struct pcp *pcp;

	if (!run)
		return;
	word = live_run(pool, run, entry);
	if (pool_is_nested(pool)) {
		pool_defer_free(pool, run);
		return;
	}
	pcp = pool_enter(pool);
	page_free(&pool->registry, pcp, span_page_of(&pool->span, run), word);
	pool_leave(pcp);
	inline_reclaim_end(&pool->registry, INLINE_RECLAIM_FREE);
}

void pp_free_pages(struct pp_pool *pool, void *run)
{
	free_run(pool, run, "pp_free_pages");
}

void pp_free_bulk(struct pp_pool *pool, size_t nr_runs, void **runs)
{
	for (size_t i = 0; i < nr_runs; i++)
		free_run(pool, runs[i], "pp_free_bulk");
}

size_t pp_run_pages(struct pp_pool *pool, const void *run)
{
	return run_word_pages(live_run(pool, run, "pp_run_pages"));
}

static void *realloc_by_copy(struct pp_pool *pool, void *run, uint32_t word,
			     const struct page_request *req,
			     enum failure *why)
{
	uint64_t have = run_word_pages(word);
	void *to = try_run(pool, req, why);

	if (!to)
		return NULL;
	memcpy(to, run, pages_to_bytes(min_u64(have, req->nr_pages)));
	free_run(pool, run, "pp_realloc_pages");
	return to;
}

/* In place, or moved; NULL: copy it. */
static void *realloc_by_remap(struct pp_pool *pool, void *run, uint32_t word,
			      uint64_t nr_pages, unsigned flags)
{
	uint64_t page = span_page_of(&pool->span, run);
	uint64_t floor = page_floor_pages(zone_of_page(pool->zones, page),
					  scope_add(flags));
	struct pcp *pcp = pool_enter(pool);

	if (!page_resize(&pool->registry, page, word, nr_pages, floor))
		run = page_move(&pool->registry, page, word, nr_pages, floor);
	pool_leave(pcp);
	inline_reclaim_end(&pool->registry, flags);
	return run;
}

void *pp_realloc_pages(struct pp_pool *pool, void *run, size_t nr_pages,
		       unsigned flags)
{
	struct page_request req = {
		.nr_pages = nr_pages,
		.align_pages = 1,
		.flags = flags & ~PP_ZERO,
		.may_grow = true,
	};
	enum failure why = FAILURE_TOO_BIG;
	uint64_t have, now;
	uint32_t word;
	void *to;

	if (!run)
		return pp_alloc_pages(pool, nr_pages, flags);
	if (!pool || !nr_pages || !pool_flags_are_valid(flags))
		return refuse(EINVAL);
	word = live_run(pool, run, "pp_realloc_pages");
	have = run_word_pages(word);
	if (pool_is_nested(pool))
		return refuse_run(pool, &req, FAILURE_NESTED);
	if (nr_pages > RUN_MAX_PAGES)
		return refuse_run(pool, &req, FAILURE_TOO_BIG);
	if (nr_pages > have && is_injected(pool, nr_pages, flags))
		return refuse(ENOMEM);
	to = realloc_by_remap(pool, run, word, nr_pages, flags);
	if (!to)
		to = realloc_by_copy(pool, run, word, &req, &why);
	/* To become smaller needs no memory. */
	if (!to && nr_pages <= have)
		to = run;
	if (!to)
		return refuse_run(pool, &req, why);
	if (flags & PP_ZERO) {
		now = run_word_pages(pool_word(pool, to));
		if (now > have)
			memset((char *)to + pages_to_bytes(have), 0,
			       pages_to_bytes(now - have));
	}
	return to;
}

/* Numbers */

int64_t pp_stat_read(struct pp_pool *pool, enum pp_stat stat)
{
	return pool ? show_read(pool, stat) : -EINVAL;
}

int64_t pp_stat_bound(struct pp_pool *pool, enum pp_stat stat)
{
	return pool ? show_bound(pool, stat) : -EINVAL;
}

int pp_stat_snapshot(struct pp_pool *pool, struct pp_stats *out)
{
	if (!pool || !out)
		return -EINVAL;
	return show_snapshot(pool, out);
}

int pp_report(struct pp_pool *pool, enum pp_format format, char *buf,
	      size_t size)
{
	if (!pool || (!buf && size))
		return -EINVAL;
	return show_report(pool, format, buf, size);
}
