/* SPDX-License-Identifier: MIT */
/*
 * pagepool/stat.h - what a pool has, and whether its books are right.
 */
#ifndef PAGEPOOL_STAT_H
#define PAGEPOOL_STAT_H

#include <stdint.h>

#include <pagepool.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

/* Levels are in pages of 4 KiB; the rest counts since the pool was made. */
enum pp_stat {
	PP_STAT_LIMIT_PAGES,		/* managed + metadata */
	PP_STAT_MANAGED_PAGES,		/* that runs may use */
	PP_STAT_FREE_PAGES,		/* managed - used - cached - isolated */
	PP_STAT_CACHED_PAGES,		/* in threads' caches */
	PP_STAT_USED_PAGES,		/* handed out; slabs count whole */
	PP_STAT_ISOLATED_PAGES,		/* being given back to the kernel */
	PP_STAT_RESERVED_PAGES,		/* set aside by pp_reserve_create() */
	PP_STAT_BACKED_PAGES,		/* may hold memory: <= managed */
	PP_STAT_METADATA_PAGES,		/* the pool's own tables */
	PP_STAT_MIN_PAGES,		/* watermarks */
	PP_STAT_LOW_PAGES,
	PP_STAT_HIGH_PAGES,
	PP_STAT_PEAK_PAGES,		/* most ever used and cached */
	PP_STAT_PURGED_PAGES,		/* given back to the kernel so far */
	PP_STAT_NR_THREADS,		/* with a cache, pp-callback too */
	PP_STAT_FAILURES,		/* requests that got NULL */
	PP_STAT_SLOWPATH,		/* attempts not served at once */
	PP_STAT_SLOWPATH_NS,		/* the time they and waits took */
	PP_STAT_REFILL_PAGES,		/* that caches took from the zone */
	PP_STAT_FLUSH_PAGES,		/* that caches gave back */
	PP_STAT_SLAB_NEW,		/* slabs made */
	PP_STAT_SLAB_FREED,		/* slabs whose pages went back */
	PP_STAT_SLAB_PAGES,		/* in slabs now */
	PP_STAT_SLAB_FREE_BYTES,	/* free in slabs and depots, bytes */
	PP_STAT_DRAINS,			/* of all threads' caches */
	PP_STAT_DRAIN_WAITS,		/* requests that waited for one */
	PP_STAT_RECLAIMD_RUNS,		/* the background thread woke */
	PP_STAT_NODE_FALLBACK,		/* runs from another node */
	PP_STAT_IDLE_DRAINS,		/* caches of idle threads emptied */
	PP_STAT_RECLAIMD_PAGES,		/* that its shrinking gave back */
	PP_STAT_DIRECT_RECLAIMS,	/* requests that had shrinkers called */
	PP_STAT_DIRECT_PAGES,		/* that this gave back */
	PP_STAT_SCANNED,		/* objects shrinkers looked at */
	PP_STAT_THROTTLED,		/* requests that waited for reclaimd */
	PP_STAT_PRESSURE_LOW,		/* episodes */
	PP_STAT_PRESSURE_MIN,
	PP_STAT_PRESSURE_OOM,
	PP_STAT_PRESSURE_EVENTS,	/* memory was short outside the pool */
	PP_STAT_OOM_RELEASES,		/* victims that were cancelled */
	PP_STAT_OOM_FORCED,		/* and those that were forced */
	PP_STAT_OOM_NOTIFIED,		/* times that a notifier helped */
	PP_STAT_FAILURES_LIMIT,		/* PP_STAT_FAILURES by reason, in the */
	PP_STAT_FAILURES_TOO_BIG,	/* order of enum pp_failure */
	PP_STAT_FAILURES_ADDRESS_SPACE,
	PP_STAT_FAILURES_OS,
	PP_STAT_FAILURES_PURGE,
	PP_STAT_FAILURES_NESTED,
	PP_STAT_FAILURES_CANNOT_WAIT,
	PP_STAT_FAILURES_IN_RECLAIM,
	PP_STAT_FAILURES_SCOPE,
	PP_STAT_FAILURES_TIMEOUT,
	PP_STAT_FAILURES_INJECTED,
	PP_NR_STATS
};

/* Why a request got NULL, or -ENOMEM. */
enum pp_failure {
	PP_FAILURE_NONE,		/* there was none yet */
	PP_FAILURE_LIMIT,		/* the limit, nothing to be freed */
	PP_FAILURE_TOO_BIG,		/* more than the limit ever holds */
	PP_FAILURE_ADDRESS_SPACE,	/* no run of addresses that long */
	PP_FAILURE_OS,			/* the kernel refused memory */
	PP_FAILURE_PURGE,		/* it did not take memory back */
	PP_FAILURE_NESTED,		/* signal handlers have no more */
	PP_FAILURE_CANNOT_WAIT,		/* the limit, and it does not wait */
	PP_FAILURE_IN_RECLAIM,		/* the limit, asked by what frees */
	PP_FAILURE_SCOPE,		/* the limit, and no help allowed */
	PP_FAILURE_TIMEOUT,		/* the limit, and help took too long */
	PP_FAILURE_INJECTED,		/* the setting fault */
	PP_NR_FAILURES
};

enum pp_format { PP_FORMAT_TEXT, PP_FORMAT_JSON, PP_FORMAT_OPENMETRICS };

/* All at one moment.  The caller sets struct_bytes = sizeof(struct pp_stats);
 * later versions append fields. */
struct pp_stats {
	size_t	struct_bytes;
	int64_t	limit_pages, managed_pages, free_pages, cached_pages;
	int64_t	used_pages, isolated_pages, reserved_pages, backed_pages;
	int64_t	metadata_pages, min_pages, low_pages, high_pages;
	int64_t	peak_pages, purged_pages, nr_threads;
	int64_t	failures, slowpath, slowpath_ns;
	int64_t	refill_pages, flush_pages, slab_new, slab_freed;
	int64_t	slab_pages, slab_free_bytes;
	int64_t	drains, drain_waits, reclaimd_runs, node_fallback;
	int64_t	idle_drains;
	int64_t	reclaimd_pages, direct_reclaims, direct_pages, scanned;
	int64_t	throttled, pressure_low, pressure_min, pressure_oom;
	int64_t	pressure_events;
	int64_t	oom_releases, oom_forced, oom_notified;
	int64_t	failures_limit, failures_too_big, failures_address_space;
	int64_t	failures_os, failures_purge, failures_nested;
	int64_t	failures_cannot_wait, failures_in_reclaim, failures_scope;
	int64_t	failures_timeout, failures_injected;
};

/**
 * pp_stat_read() - one number, cheaply.
 *
 * Most are one word, read without a lock; free, isolated, peak and purged
 * pages and slab_free_bytes take locks.
 *
 * Return: the number, at most pp_stat_bound() away from the truth; -EINVAL for
 * no such number; for those with locks -EDEADLK in a signal handler on top of
 * a call.
 */
int64_t pp_stat_read(struct pp_pool *pool, enum pp_stat stat);

/* How far pp_stat_read() may be off just now, besides what each thread is just
 * counting: what threads may have counted and not added yet, or what their
 * caches may hold.  0: exact.  -EINVAL for no such number. */
int64_t pp_stat_bound(struct pp_pool *pool, enum pp_stat stat);

/**
 * pp_stat_snapshot() - all numbers, exact when the pool is quiet.
 *
 * free + cached + used + isolated + reserved = managed.
 * Return: 0; -EINVAL if struct_bytes is not set; -EDEADLK in a signal handler
 * on top of a call.
 */
int pp_stat_snapshot(struct pp_pool *pool, struct pp_stats *out);

/**
 * pp_pool_check() - walk everything and compare it with the books.
 *
 * For tests and doubt: takes the pool's locks for as long as it takes to look
 * at every block.  Other threads may go on, and wait.
 *
 * Return: 0; -EUCLEAN after a line on standard error that names the invariant
 * that does not hold; -EDEADLK in a signal handler on top of a call.
 */
int pp_pool_check(struct pp_pool *pool);

/**
 * pp_report() - all numbers as text for people or programs.
 *
 * As snprintf: writes at most @size bytes, with a terminating 0, and returns
 * the length of the whole text.  -EINVAL for an unknown format,
 * -EDEADLK in a signal handler on top of a call.
 */
int pp_report(struct pp_pool *pool, enum pp_format format, char *buf,
	      size_t size);

/**
 * pp_last_failure() - why the calling thread's last failed request failed.
 *
 * Whatever the pool and the function were, malloc() of the preload library
 * included; requests that succeed leave it alone.  In a signal handler too.
 * Return: the reason; PP_FAILURE_NONE if no request of the thread has failed.
 */
enum pp_failure pp_last_failure(void);

/* The name that statistics and reports have for it: "limit"; "none" for
 * PP_FAILURE_NONE, NULL for what is no reason. */
const char *pp_failure_name(enum pp_failure why);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
