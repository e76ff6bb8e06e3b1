/* SPDX-License-Identifier: MIT */
/* failure_report.c - see failure_report.h. */
#include "failure_report.h"

#include <errno.h>
#include <string.h>
#include <sys/prctl.h>

#include "os/syscall.h"
#include "tell.h"

/* A pipe takes so much in one piece. */
#define TEXT_BYTES		4096u
/* The longest line fits: that with the numbers. */
#define LINE_MAX_BYTES		3072u
#define NAME_MAX_CHARS		64u
#define KIB_PER_PAGE		(PP_PAGE_BYTES >> 10)

static_assert(LINE_MAX_BYTES < TEXT_BYTES, "a line is written whole");

/* Words */

static const struct {
	unsigned	flag;
	const char	*name;
} flag_names[] = {
	{ PP_NOWAIT, "PP_NOWAIT" },
	{ PP_HIGH, "PP_HIGH" },
	{ PP_MEMALLOC, "PP_MEMALLOC" },
	{ PP_NOMEMALLOC, "PP_NOMEMALLOC" },
	{ PP_NORETRY, "PP_NORETRY" },
	{ PP_ZERO, "PP_ZERO" },
	{ PP_NOWARN, "PP_NOWARN" },
	{ PP_THISNODE, "PP_THISNODE" },
	{ PP_NOIO, "PP_NOIO" },
	{ PP_NOFS, "PP_NOFS" },
	{ PP_RETRY_MAYFAIL, "PP_RETRY_MAYFAIL" },
	{ PP_NOFAIL, "PP_NOFAIL" },
};

#define NR_FLAG_NAMES	(sizeof(flag_names) / sizeof(flag_names[0]))

static const char *failure_words(enum failure why)
{
	static const char *const words[NR_FAILURES] = {
#define X(id, label, what) [FAILURE_##id] = what,
		PP_FAILURES(X)
#undef X
	};

	return words[why];
}

static void add_number(struct strbuf *sb, const char *label, uint64_t value)
{
	strbuf_str(sb, label);
	strbuf_u64(sb, value);
}

static uint64_t at_least_zero(int64_t n)
{
	return n > 0 ? (uint64_t)n : 0;
}

static void add_bytes(struct strbuf *sb, const char *label, int64_t pages)
{
	add_number(sb, label, pages_to_bytes(at_least_zero(pages)));
}

static void add_kib(struct strbuf *sb, const char *label, int64_t pages)
{
	add_number(sb, label, at_least_zero(pages) * KIB_PER_PAGE);
	strbuf_str(sb, "K");
}

static void add_plain(struct strbuf *sb, const char *name, bool escape)
{
	char c[2] = "";

	for (unsigned i = 0; name[i] && i < NAME_MAX_CHARS; i++) {
		c[0] = name[i];
		if (c[0] < ' ' || c[0] > '~')
			c[0] = '?';
		if (escape && (c[0] == '"' || c[0] == '\\'))
			strbuf_str(sb, "\\");
		strbuf_str(sb, c);
	}
}

/* A name in quotes, fit for a line and for JSON. */
static void add_name(struct strbuf *sb, const char *name)
{
	strbuf_str(sb, "\"");
	add_plain(sb, name, true);
	strbuf_str(sb, "\"");
}

/* The names of all flags, with the first behind @first and others behind
 * @between. */
static void add_flags(struct strbuf *sb, unsigned flags, const char *first,
		      const char *between, const char *last)
{
	const char *before = first;

	for (unsigned i = 0; i < NR_FLAG_NAMES; i++) {
		if (!(flags & flag_names[i].flag))
			continue;
		strbuf_str(sb, before);
		strbuf_str(sb, flag_names[i].name);
		before = between;
	}
	if (before == between)
		strbuf_str(sb, last);
}

/* Lines for people */

static void add_first_line(struct strbuf *sb, const struct failure_facts *f)
{
	const struct pp_stats *s = &f->stats;

	add_number(sb, "pagepool: out of memory: asked ", f->request.bytes);
	strbuf_str(sb, " bytes (reason: ");
	strbuf_str(sb, failure_name(f->request.why));
	add_bytes(sb, "; limit ", s->limit_pages);
	add_bytes(sb, " used ", s->used_pages);
	add_bytes(sb, " cached ", s->cached_pages);
	add_bytes(sb, " free ", s->free_pages);
	add_bytes(sb, " reserve ", s->min_pages);
	strbuf_str(sb, "; ");
	add_plain(sb, f->program, false);
	add_number(sb, "[", f->pid);
	strbuf_str(sb, "])\n");
}

void failure_add_head(struct strbuf *sb, const struct failure_facts *f)
{
	add_first_line(sb, f);
	strbuf_str(sb, "pagepool:   why: ");
	strbuf_str(sb, failure_words(f->request.why));
	add_number(sb, "\npagepool:   who: thread ", f->tid);
	strbuf_str(sb, " ");
	add_name(sb, f->thread);
	add_flags(sb, f->request.flags, ", flags ", " ", "");
	strbuf_str(sb, "\n");
}

void failure_add_zone(struct strbuf *sb, unsigned zone, unsigned node,
		      const struct pp_stats *s)
{
	add_number(sb, "pagepool:   zone ", zone);
	add_number(sb, " (node ", node);
	add_kib(sb, "): free ", s->free_pages);
	add_kib(sb, " min ", s->min_pages);
	add_kib(sb, " low ", s->low_pages);
	add_kib(sb, " high ", s->high_pages);
	add_kib(sb, " managed ", s->managed_pages);
	add_kib(sb, " used ", s->used_pages);
	add_kib(sb, " cached ", s->cached_pages);
	add_kib(sb, " backed ", s->backed_pages);
	add_kib(sb, " isolated ", s->isolated_pages);
	strbuf_str(sb, "\n");
}

static void add_classes(struct strbuf *sb, const struct failure_facts *f)
{
	for (unsigned i = 0; i < f->nr_classes; i++) {
		const struct failure_class *c = &f->class[i];

		add_number(sb, i ? ", " : "pagepool:   slabs: ",
			   c->object_bytes);
		add_kib(sb, " bytes ", (int64_t)c->usage.nr_pages);
		add_number(sb, " (", c->usage.nr_objects);
		strbuf_str(sb, " objects)");
	}
	if (f->nr_classes)
		strbuf_str(sb, "\n");
}

static void add_shrinkers(struct strbuf *sb, const struct failure_facts *f)
{
	unsigned nr = f->nr_shrinkers < FAILURE_MAX_SHRINKERS ?
		      f->nr_shrinkers : FAILURE_MAX_SHRINKERS;

	for (unsigned i = 0; i < nr; i++) {
		const struct shrinker_fact *s = &f->shrinker[i];

		strbuf_str(sb, i ? ", " : "pagepool:   shrinkers: ");
		add_name(sb, s->name);
		add_number(sb, " had ", s->last_count);
		add_number(sb, " objects, ", s->deferred);
		strbuf_str(sb, s->is_inside ? " put off, is at work" :
					      " put off");
	}
	if (nr < f->nr_shrinkers)
		add_number(sb, ", and more: ", f->nr_shrinkers - nr);
	if (nr)
		strbuf_str(sb, "\n");
}

void failure_add_users(struct strbuf *sb, const struct failure_facts *f)
{
	const struct pp_stats *s = &f->stats;

	add_kib(sb, "pagepool:   users: page runs ",
		s->used_pages - s->slab_pages);
	add_kib(sb, ", slabs ", s->slab_pages);
	add_number(sb, " (", at_least_zero(s->slab_free_bytes) >> 10);
	add_kib(sb, "K free), thread caches ", s->cached_pages);
	add_number(sb, " (", at_least_zero(s->nr_threads));
	add_kib(sb, " threads), reserves ", s->reserved_pages);
	add_kib(sb, ", tables ", s->metadata_pages);
	strbuf_str(sb, "\n");
	add_classes(sb, f);
	add_shrinkers(sb, f);
	if (f->stuck[0]) {
		strbuf_str(sb, "pagepool:   stuck: the callback ");
		add_name(sb, f->stuck);
		strbuf_str(sb, "\n");
	}
}

static void add_reason(struct strbuf *sb, const char **before,
		       const char *name, int64_t n)
{
	if (!n)
		return;
	strbuf_str(sb, *before);
	strbuf_str(sb, name);
	strbuf_str(sb, " ");
	strbuf_i64(sb, n);
	*before = ", ";
}

void failure_add_counts(struct strbuf *sb, const struct failure_facts *f)
{
	const char *before = "";

	strbuf_str(sb, "pagepool:   failures: ");
#define X(id, label, what) \
	add_reason(sb, &before, #label, f->stats.failures_##label);
	PP_FAILURES(X)
#undef X
	strbuf_str(sb, "\n");
	if (!f->nr_left_out)
		return;
	add_number(sb, "pagepool:   left out: ", f->nr_left_out);
	strbuf_str(sb, " failures since the last report\n");
}

/* The line for programs */

static void add_key_name(struct strbuf *sb, const char *key, const char *name)
{
	strbuf_str(sb, key);
	add_name(sb, name);
}

void failure_add_machine(struct strbuf *sb, const struct failure_facts *f)
{
	add_number(sb, "pagepool: oom: {\"asked_bytes\": ", f->request.bytes);
	add_key_name(sb, ", \"reason\": ", failure_name(f->request.why));
	add_key_name(sb, ", \"program\": ", f->program);
	add_number(sb, ", \"pid\": ", f->pid);
	add_number(sb, ", \"tid\": ", f->tid);
	add_key_name(sb, ", \"thread\": ", f->thread);
	strbuf_str(sb, ", \"flags\": [");
	add_flags(sb, f->request.flags, "\"", "\", \"", "\"");
	add_number(sb, "], \"left_out\": ", f->nr_left_out);
	if (f->stuck[0])
		add_key_name(sb, ", \"stuck\": ", f->stuck);
	else
		strbuf_str(sb, ", \"stuck\": null");
	strbuf_str(sb, ", \"stats\": ");
	show_add_json(sb, &f->stats);
	strbuf_str(sb, "}\n");
}

/* Facts */

static void collect_thread(struct failure_facts *f)
{
	f->program = program_invocation_short_name ?
		     program_invocation_short_name : "?";
	f->pid = (uint64_t)sys_getpid();
	f->tid = (uint64_t)sys_gettid();
	memset(f->thread, 0, sizeof(f->thread));
	sys_prctl(PR_GET_NAME, (long)(uintptr_t)f->thread, 0, 0, 0);
}

/* Keeps the largest, in order. */
static void note_class(struct failure_facts *f, uint32_t object_bytes,
		       struct slab_usage usage)
{
	unsigned at = f->nr_classes;

	if (!usage.nr_pages)
		return;
	while (at > 0 && f->class[at - 1].usage.nr_pages < usage.nr_pages) {
		if (at < FAILURE_MAX_CLASSES)
			f->class[at] = f->class[at - 1];
		at--;
	}
	if (at < FAILURE_MAX_CLASSES)
		f->class[at] = (struct failure_class){ object_bytes, usage };
	if (f->nr_classes < FAILURE_MAX_CLASSES)
		f->nr_classes++;
}

static void collect_users(struct pp_pool *pool, struct failure_facts *f)
{
	/* A handler on top of us keeps off the locks taken here. */
	pcp_enter_without();
	f->nr_classes = 0;
	for (unsigned i = 0; i < SLAB_NR_CLASSES; i++)
		note_class(f, slab_class[i].bytes,
			   slab_usage_of(&pool->heap, i));
	pcp_leave_without();
	f->nr_shrinkers = shrinker_list_facts(&pool->shrinkers, f->shrinker,
					      FAILURE_MAX_SHRINKERS);
}

/* A callback that a thread has been in for too long. */
static bool name_stuck(struct pp_pool *pool, char *name, size_t size)
{
	return callback_name_stuck(&pool->shrinkers, name, size) ||
	       callback_name_stuck(&pool->oom.victims, name, size) ||
	       callback_name_stuck(&pool->oom.notifiers, name, size);
}

/* Out */

static struct {
	char			text[TEXT_BYTES];
	struct failure_facts	facts;
	struct pp_stats		zone;
} report;	/* of the one thread that reports */

/* Makes room for another line. */
static void flush(struct strbuf *sb, size_t wanted_bytes)
{
	if (sb->len + wanted_bytes < sb->size_bytes)
		return;
	tell_stderr(sb);
	sb->len = 0;
}

static void add_zones(struct strbuf *sb, struct pp_pool *pool)
{
	for_each_zone(zone, pool->zones) {
		report.zone.struct_bytes = sizeof(report.zone);
		if (show_zone_snapshot(pool, zone, &report.zone))
			continue;
		flush(sb, LINE_MAX_BYTES / 2);
		failure_add_zone(sb, zone->index, pool->nodes ?
				 pool->nodes->id[zone->index] : pool->node_id,
				 &report.zone);
	}
}

void failure_report(struct pp_pool *pool,
		    const struct failure_request *request,
		    uint64_t nr_left_out)
{
	struct failure_facts *f = &report.facts;
	struct strbuf sb = STRBUF(report.text);

	f->request = *request;
	f->nr_left_out = nr_left_out;
	f->stats.struct_bytes = sizeof(f->stats);
	show_snapshot(pool, &f->stats);
	collect_thread(f);
	collect_users(pool, f);
	if (!name_stuck(pool, f->stuck, sizeof(f->stuck)))
		f->stuck[0] = '\0';
	failure_add_head(&sb, f);
	add_zones(&sb, pool);
	flush(&sb, LINE_MAX_BYTES / 2);
	failure_add_users(&sb, f);
	flush(&sb, LINE_MAX_BYTES / 2);
	failure_add_counts(&sb, f);
	flush(&sb, LINE_MAX_BYTES);
	failure_add_machine(&sb, f);
	tell_stderr(&sb);
}
