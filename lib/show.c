/* SPDX-License-Identifier: MIT */
/* show.c - see show.h. */
#include "show.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/strbuf.h"
#include "os/os.h"
#include "os/syscall.h"
#include "tell.h"
#include "reserve.h"

#define STDERR		2
#define LINE_BYTES	512
/* Drains end; the caches of threads that are busy may keep them up. */
#define SNAPSHOT_MAX_TRIES	100
/* Out of the way of programs that count on low descriptors. */
#define EXIT_FD_LEAST	200

/* name, field of struct pp_stats, enum, is it a level?, what it means */
#define SHOW_STATS(X) \
	X(limit_pages, LIMIT_PAGES, 1, "Limit of the pool") \
	X(managed_pages, MANAGED_PAGES, 1, "Pages that runs may use") \
	X(free_pages, FREE_PAGES, 1, "Free pages") \
	X(cached_pages, CACHED_PAGES, 1, "Pages in the caches of threads") \
	X(used_pages, USED_PAGES, 1, "Pages handed out") \
	X(isolated_pages, ISOLATED_PAGES, 1, "Pages being given back") \
	X(reserved_pages, RESERVED_PAGES, 1, "Pages set aside by reserves") \
	X(backed_pages, BACKED_PAGES, 1, "Pages that may hold memory") \
	X(metadata_pages, METADATA_PAGES, 1, "Pages of the pool's tables") \
	X(min_pages, MIN_PAGES, 1, "Watermark min") \
	X(low_pages, LOW_PAGES, 1, "Watermark low") \
	X(high_pages, HIGH_PAGES, 1, "Watermark high") \
	X(peak_pages, PEAK_PAGES, 1, "Most pages ever used and cached") \
	X(purged_pages, PURGED_PAGES, 0, "Pages given back to the kernel") \
	X(nr_threads, NR_THREADS, 1, "Threads with a cache") \
	X(failures, FAILURES, 0, "Requests that got NULL") \
	X(slowpath, SLOWPATH, 0, "Requests that were not served at once") \
	X(slowpath_ns, SLOWPATH_NS, 0, "Time those requests took") \
	X(refill_pages, REFILL_PAGES, 0, "Pages that caches took") \
	X(flush_pages, FLUSH_PAGES, 0, "Pages that caches gave back") \
	X(slab_new, SLAB_NEW, 0, "Slabs made") \
	X(slab_freed, SLAB_FREED, 0, "Slabs given back") \
	X(slab_pages, SLAB_PAGES, 1, "Pages in slabs") \
	X(slab_free_bytes, SLAB_FREE_BYTES, 1, "Free bytes in slabs") \
	X(drains, DRAINS, 0, "Drains of all caches") \
	X(drain_waits, DRAIN_WAITS, 0, "Requests that waited for a drain") \
	X(reclaimd_runs, RECLAIMD_RUNS, 0, "Times the background woke") \
	X(node_fallback, NODE_FALLBACK, 0, "Runs from another node") \
	X(idle_drains, IDLE_DRAINS, 0, "Caches of idle threads emptied") \
	X(reclaimd_pages, RECLAIMD_PAGES, 0, "Pages background reclaim got") \
	X(direct_reclaims, DIRECT_RECLAIMS, 0, "Requests that reclaimed") \
	X(direct_pages, DIRECT_PAGES, 0, "Pages that those got") \
	X(scanned, SCANNED, 0, "Objects that shrinkers looked at") \
	X(throttled, THROTTLED, 0, "Requests that waited for reclaim") \
	X(pressure_low, PRESSURE_LOW, 0, "Episodes of memory at low") \
	X(pressure_min, PRESSURE_MIN, 0, "Episodes of memory at min") \
	X(pressure_oom, PRESSURE_OOM, 0, "Episodes of failed requests") \
	X(pressure_events, PRESSURE_EVENTS, 0, "Times of outside pressure") \
	X(oom_releases, OOM_RELEASES, 0, "Victims that were cancelled") \
	X(oom_forced, OOM_FORCED, 0, "Victims that were forced") \
	X(oom_notified, OOM_NOTIFIED, 0, "Times that a notifier helped")

/* The rest are the reasons of PP_FAILURES: failures_limit and so on. */

/* Those that vmstat counts. */
#define SHOW_ITEMS(X) \
	X(slowpath, SLOWPATH, EVENT_SLOWPATH) \
	X(slowpath_ns, SLOWPATH_NS, EVENT_SLOWPATH_NS) \
	X(refill_pages, REFILL_PAGES, EVENT_REFILL_PAGES) \
	X(flush_pages, FLUSH_PAGES, EVENT_FLUSH_PAGES) \
	X(slab_new, SLAB_NEW, EVENT_SLAB_NEW) \
	X(slab_freed, SLAB_FREED, EVENT_SLAB_FREED) \
	X(slab_pages, SLAB_PAGES, LEVEL_SLAB_PAGES) \
	X(drains, DRAINS, EVENT_DRAINS) \
	X(drain_waits, DRAIN_WAITS, EVENT_DRAIN_WAITS) \
	X(reclaimd_runs, RECLAIMD_RUNS, EVENT_RECLAIMD_RUNS) \
	X(node_fallback, NODE_FALLBACK, EVENT_NODE_FALLBACK) \
	X(idle_drains, IDLE_DRAINS, EVENT_IDLE_DRAINS) \
	X(reclaimd_pages, RECLAIMD_PAGES, EVENT_RECLAIMD_PAGES) \
	X(direct_reclaims, DIRECT_RECLAIMS, EVENT_DIRECT_RECLAIMS) \
	X(direct_pages, DIRECT_PAGES, EVENT_DIRECT_PAGES) \
	X(scanned, SCANNED, EVENT_SCANNED) \
	X(throttled, THROTTLED, EVENT_THROTTLED) \
	X(pressure_low, PRESSURE_LOW, EVENT_PRESSURE_LOW) \
	X(pressure_min, PRESSURE_MIN, EVENT_PRESSURE_MIN) \
	X(pressure_oom, PRESSURE_OOM, EVENT_PRESSURE_OOM) \
	X(pressure_events, PRESSURE_EVENTS, EVENT_PRESSURE_EVENTS) \
	X(oom_releases, OOM_RELEASES, EVENT_OOM_RELEASES) \
	X(oom_forced, OOM_FORCED, EVENT_OOM_FORCED) \
	X(oom_notified, OOM_NOTIFIED, EVENT_OOM_NOTIFIED)

struct stat_name {
	const char	*name;
	size_t		offset;		/* in struct pp_stats */
	bool		is_level;
	const char	*help;
};

static const struct stat_name stat_names[PP_NR_STATS] = {
#define X(field, id, level, what) \
	[PP_STAT_##id] = { #field, offsetof(struct pp_stats, field), level, \
			   what },
	SHOW_STATS(X)
#undef X
#define X(id, label, what) \
	[PP_STAT_FAILURES_##id] = { "failures_" #label, \
		offsetof(struct pp_stats, failures_##label), false, \
		"Failures: " what },
	PP_FAILURES(X)
#undef X
};

#define X(id, label, what) \
	static_assert((int)PP_STAT_FAILURES_##id - PP_STAT_FAILURES_LIMIT == \
		      (int)FAILURE_##id, "one order of " #label);
PP_FAILURES(X)
#undef X

static int64_t sum_failures(struct pp_pool *pool)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < NR_FAILURES; i++)
		sum += load_relaxed(&pool->vmstat.failure[i]);
	return (int64_t)sum;
}

static void add_failures(struct pp_pool *pool, struct pp_stats *s)
{
#define X(id, label, what) \
	s->failures_##label = \
		(int64_t)load_relaxed(&pool->vmstat.failure[FAILURE_##id]); \
	s->failures += s->failures_##label;
	PP_FAILURES(X)
#undef X
}

/* Adds what one hold of a zone's lock sees. */
static void add_zone(struct zone *zone, struct pp_stats *s)
{
	uint64_t managed, used, isolated;

	lock_acquire(&zone->lock);
	managed = load_relaxed(&zone->managed_pages);
	used = load_relaxed(&zone->used_pages);
	s->managed_pages += (int64_t)managed;
	s->used_pages += (int64_t)used;
	/* Pages being purged are free ones, which others may have been granted
	 * by number already. */
	isolated = min_u64(zone->isolated_pages, managed - used);
	s->isolated_pages += (int64_t)isolated;
	s->free_pages += (int64_t)(managed - used - isolated);
	s->backed_pages += (int64_t)load_relaxed(&zone->backed_pages);
	s->min_pages += (int64_t)load_relaxed(&zone->min_pages);
	s->low_pages += (int64_t)load_relaxed(&zone->low_pages);
	s->high_pages += (int64_t)load_relaxed(&zone->high_pages);
	s->peak_pages += (int64_t)zone->peak_used_pages;
	s->purged_pages += (int64_t)zone->purged_pages;
	zone_unlock(zone);
}

static void add_zones(struct pp_pool *pool, struct pp_stats *s)
{
	for_each_zone(zone, pool->zones)
		add_zone(zone, s);
	s->limit_pages = (int64_t)load_relaxed(&pool->limit_pages);
	s->metadata_pages = (int64_t)load_relaxed(&pool->metadata_pages);
}

static void add_all(struct pp_pool *pool, struct pp_stats *s)
{
	struct pcp_registry *reg = &pool->registry;

	*s = (struct pp_stats){ .struct_bytes = sizeof(*s) };
	s->cached_pages = pcp_sum_cached_pages(reg);
	add_zones(pool, s);
	s->reserved_pages = reserved_pages_sum(pool);
	s->used_pages -= s->cached_pages + s->reserved_pages;
	s->nr_threads = load_relaxed(&reg->nr_pcps);
	add_failures(pool, s);
	s->slab_free_bytes = (int64_t)slab_free_bytes(&pool->heap);
	pcp_fold_all(reg);
#define X(field, id, item) s->field = vmstat_read(&pool->vmstat, item);
	SHOW_ITEMS(X)
#undef X
}

/* A drain of our own is not to disturb the sum of a pool that is quiet: then it
 * is added up again.  Acquire: pairs with the release at a drain's end. */
static int snapshot(struct pp_pool *pool, struct pp_stats *s)
{
	_Atomic uint32_t *sequence = &pool->drain_service.sequence;
	/* Entered: a handler's malloc keeps off the locks taken here. */
	struct pcp *pcp;
	uint32_t seen;

	if (pool_is_nested(pool)) {
		*s = (struct pp_stats){ .struct_bytes = sizeof(*s) };
		return -EDEADLK;
	}
	for (unsigned i = 0; i < SNAPSHOT_MAX_TRIES; i++) {
		pcp = pool_enter(pool);
		seen = load_acquire(sequence);
		add_all(pool, s);
		pool_leave(pcp);
		fence_acquire();
		if (seen % 2 == 0 && load_relaxed(sequence) == seen)
			break;
		os_yield();
	}
	return 0;
}

static int zone_snapshot(struct pp_pool *pool, struct zone *zone,
			 struct pp_stats *s)
{
	struct pcp *pcp;

	*s = (struct pp_stats){ .struct_bytes = sizeof(*s) };
	if (pool_is_nested(pool))
		return -EDEADLK;
	pcp = pool_enter(pool);
	s->cached_pages = pcp_sum_cached_pages_of(&pool->registry, zone);
	add_zone(zone, s);
	s->reserved_pages = reserved_pages_of(pool, zone);
	s->used_pages -= s->cached_pages + s->reserved_pages;
	pool_leave(pcp);
	return 0;
}

/* As many fields as the caller knows. */
static int copy_out(struct pp_stats *out, struct pp_stats *s, int err)
{
	size_t bytes = out->struct_bytes;

	if (bytes < sizeof(size_t) || bytes > sizeof(*s))
		return -EINVAL;
	if (err)
		return err;
	s->struct_bytes = bytes;
	memcpy(out, s, bytes);
	return 0;
}

int show_snapshot(struct pp_pool *pool, struct pp_stats *out)
{
	struct pp_stats s;

	return copy_out(out, &s, snapshot(pool, &s));
}

int show_zone_snapshot(struct pp_pool *pool, struct zone *zone,
		       struct pp_stats *out)
{
	struct pp_stats s;

	return copy_out(out, &s, zone_snapshot(pool, zone, &s));
}

static int64_t stat_value(const struct pp_stats *s, enum pp_stat stat)
{
	const char *field = (const char *)s + stat_names[stat].offset;

	return *(const int64_t *)(const void *)field;
}

/* Cheap reads */

static const uint8_t stat_items[PP_NR_STATS] = {
#define X(field, id, item) [PP_STAT_##id] = (item) + 1,
	SHOW_ITEMS(X)
#undef X
};

static int64_t not_below_zero(int64_t n)
{
	return n > 0 ? n : 0;
}

static bool is_failure(enum pp_stat stat)
{
	return stat >= PP_STAT_FAILURES_LIMIT &&
	       stat < PP_STAT_FAILURES_LIMIT + NR_FAILURES;
}

/* What more than one word has to be read for. */
static int64_t read_locked(struct pp_pool *pool, enum pp_stat stat)
{
	struct pp_stats s = { .struct_bytes = sizeof(s) };
	struct pcp *pcp;

	if (pool_is_nested(pool))
		return -EDEADLK;
	pcp = pool_enter(pool);
	if (stat == PP_STAT_SLAB_FREE_BYTES)
		s.slab_free_bytes = (int64_t)slab_free_bytes(&pool->heap);
	else
		add_zones(pool, &s);
	pool_leave(pcp);
	return stat_value(&s, stat);
}

/* @word: of the first zone. */
static int64_t sum_zones(struct pp_pool *pool, _Atomic uint64_t *word)
{
	size_t offset = (size_t)((char *)word - (char *)pool->zones);
	uint64_t sum = 0;

	for_each_zone(zone, pool->zones)
		sum += load_relaxed((_Atomic uint64_t *)(void *)
				    ((char *)zone + offset));
	return (int64_t)sum;
}

int64_t show_read(struct pp_pool *pool, enum pp_stat stat)
{
	struct zone *first = pool->zones;
	int64_t cached = load_relaxed(&pool->vmstat.cached_pages);

	if ((unsigned)stat >= PP_NR_STATS)
		return -EINVAL;
	if (stat_items[stat])
		return vmstat_read(&pool->vmstat, stat_items[stat] - 1u);
	if (is_failure(stat))
		return (int64_t)load_relaxed(&pool->vmstat.failure
					     [stat - PP_STAT_FAILURES_LIMIT]);
	switch (stat) {
	case PP_STAT_LIMIT_PAGES:
		return (int64_t)load_relaxed(&pool->limit_pages);
	case PP_STAT_MANAGED_PAGES:
		return sum_zones(pool, &first->managed_pages);
	case PP_STAT_CACHED_PAGES:
		return not_below_zero(cached);
	case PP_STAT_USED_PAGES:
		return not_below_zero(sum_zones(pool, &first->used_pages) -
				      reserved_pages_sum(pool) - cached);
	case PP_STAT_RESERVED_PAGES:
		return reserved_pages_sum(pool);
	case PP_STAT_BACKED_PAGES:
		return sum_zones(pool, &first->backed_pages);
	case PP_STAT_METADATA_PAGES:
		return (int64_t)load_relaxed(&pool->metadata_pages);
	case PP_STAT_MIN_PAGES:
		return sum_zones(pool, &first->min_pages);
	case PP_STAT_LOW_PAGES:
		return sum_zones(pool, &first->low_pages);
	case PP_STAT_HIGH_PAGES:
		return sum_zones(pool, &first->high_pages);
	case PP_STAT_NR_THREADS:
		return load_relaxed(&pool->registry.nr_pcps);
	case PP_STAT_FAILURES:
		return sum_failures(pool);
	default:
		return read_locked(pool, stat);
	}
}

/* Words of the zone are exact, and so is what is read under locks. */
int64_t show_bound(struct pp_pool *pool, enum pp_stat stat)
{
	int64_t managed = sum_zones(pool, &pool->zones->managed_pages);
	int64_t may = load_relaxed(&pool->vmstat.may_cache_pages);

	if ((unsigned)stat >= PP_NR_STATS)
		return -EINVAL;
	if (stat_items[stat])
		return vmstat_bound(&pool->vmstat,
				    load_relaxed(&pool->registry.nr_pcps));
	/* Between nothing and what may be cached lie both, the truth and what
	 * was published. */
	if (stat == PP_STAT_CACHED_PAGES || stat == PP_STAT_USED_PAGES)
		return may < managed ? not_below_zero(may) : managed;
	return 0;
}

/* Formats */

static void format_text(struct strbuf *sb, const struct pp_stats *s)
{
	for (unsigned i = 0; i < PP_NR_STATS; i++) {
		strbuf_str(sb, stat_names[i].name);
		strbuf_str(sb, " ");
		strbuf_i64(sb, stat_value(s, i));
		strbuf_str(sb, "\n");
	}
}

void show_add_json(struct strbuf *sb, const struct pp_stats *s)
{
	for (unsigned i = 0; i < PP_NR_STATS; i++) {
		strbuf_str(sb, i ? ", \"" : "{\"");
		strbuf_str(sb, stat_names[i].name);
		strbuf_str(sb, "\": ");
		strbuf_i64(sb, stat_value(s, i));
	}
	strbuf_str(sb, "}");
}

static void format_openmetrics(struct strbuf *sb, const struct pp_stats *s)
{
	for (unsigned i = 0; i < PP_NR_STATS; i++) {
		const struct stat_name *n = &stat_names[i];

		strbuf_str(sb, "# TYPE pagepool_");
		strbuf_str(sb, n->name);
		strbuf_str(sb, n->is_level ? " gauge\n" : " counter\n");
		strbuf_str(sb, "# HELP pagepool_");
		strbuf_str(sb, n->name);
		strbuf_str(sb, " ");
		strbuf_str(sb, n->help);
		strbuf_str(sb, ".\npagepool_");
		strbuf_str(sb, n->name);
		strbuf_str(sb, n->is_level ? " " : "_total ");
		strbuf_i64(sb, stat_value(s, i));
		strbuf_str(sb, "\n");
	}
	strbuf_str(sb, "# EOF\n");
}

int show_report(struct pp_pool *pool, enum pp_format format, char *buf,
		size_t size)
{
	struct strbuf sb = { .text = buf, .size_bytes = size };
	struct pp_stats s;
	int err;

	if (size)
		buf[0] = '\0';
	err = snapshot(pool, &s);
	if (err)
		return err;
	switch (format) {
	case PP_FORMAT_TEXT:
		format_text(&sb, &s);
		break;
	case PP_FORMAT_JSON:
		show_add_json(&sb, &s);
		strbuf_str(&sb, "\n");
		break;
	case PP_FORMAT_OPENMETRICS:
		format_openmetrics(&sb, &s);
		break;
	default:
		return -EINVAL;
	}
	return (int)sb.len;
}

/* At exit */

static void add_bytes(struct strbuf *sb, const char *label, int64_t pages)
{
	strbuf_str(sb, label);
	strbuf_u64(sb, pages_to_bytes((uint64_t)pages));
}

static void format_exit(struct pp_pool *pool, struct strbuf *sb)
{
	struct pp_stats s;

	snapshot(pool, &s);
	strbuf_str(sb, "pagepool: stats: ");
	tell_program(sb);
	add_bytes(sb, ": limit ", s.limit_pages);
	add_bytes(sb, " peak ", s.peak_pages + s.metadata_pages);
	add_bytes(sb, " used ", s.used_pages);
	add_bytes(sb, " resident ", s.backed_pages + s.metadata_pages);
	strbuf_str(sb, " (bytes)\npagepool: stats: failures ");
	strbuf_i64(sb, s.failures);
	strbuf_str(sb, ":");
	for (unsigned i = 0; i < NR_FAILURES; i++) {
		strbuf_str(sb, " ");
		strbuf_str(sb, failure_name(i));
		strbuf_str(sb, " ");
		strbuf_u64(sb, load_relaxed(&pool->vmstat.failure[i]));
	}
	strbuf_str(sb, "\npagepool: stats: slow path ");
	strbuf_i64(sb, s.slowpath);
	strbuf_str(sb, " entries ");
	strbuf_i64(sb, s.slowpath_ns / 1000);
	strbuf_str(sb, " us\n");
}

static long exit_pid;
static int exit_fd = STDERR;

void show_prepare_exit(struct pp_pool *pool)
{
	long fd;

	if (!pool->config.stats_at_exit)
		return;
	exit_pid = sys_getpid();
	if (pool->config.stats_path[0])
		return;
	fd = sys_call3(SYS_fcntl, STDERR, F_DUPFD_CLOEXEC, EXIT_FD_LEAST);
	if (fd >= 0)
		exit_fd = (int)fd;
}

static int open_exit_file(const char *path)
{
	return (int)sys_call6(SYS_openat, AT_FDCWD, (long)(uintptr_t)path,
			      O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666,
			      0, 0);
}

void show_at_exit(struct pp_pool *pool)
{
	const char *path = pool->config.stats_path;
	char text[2 * LINE_BYTES];
	struct strbuf sb = STRBUF(text);
	int fd = path[0] ? -1 : exit_fd;

	if (!pool->config.stats_at_exit || exit_pid != sys_getpid())
		return;
	format_exit(pool, &sb);
	if (path[0])
		fd = open_exit_file(path);
	if (fd < 0)
		return;
	strbuf_write(&sb, fd);
	if (path[0])
		sys_call3(SYS_close, fd, 0, 0);
}
