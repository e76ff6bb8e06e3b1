/* SPDX-License-Identifier: MIT */
/*
 * failure_report.h - a failed request, told to people and programs (layer 12).
 *
 * A block of lines on standard error.  The first says what was asked and why
 * not, as it always did; the indented ones are for people, in KiB; the last is
 * one JSON object for programs, with the numbers of pp_report():
 *
 *	pagepool: out of memory: asked 3145729 bytes (reason: limit; ...)
 *	pagepool:   why: the limit, and nothing to be freed
 *	pagepool:   who: thread 4711 "worker", flags PP_NOFS PP_ZERO
 *	pagepool:   zone 0 (node 0): free 12K min 256K ...
 *	pagepool:   users: page runs 40960K, slabs 20480K (300K free), ...
 *	pagepool:   slabs: 4096 bytes 9000K (2250 objects), ...
 *	pagepool:   shrinkers: "page cache" had 300 objects, 20 put off
 *	pagepool:   stuck: the callback "page cache"
 *	pagepool:   failures: limit 3, too_big 1
 *	pagepool:   left out: 12 failures since the last report
 *	pagepool: oom: {"asked_bytes": 3145729, "reason": "limit", ...}
 *
 * Facts are collected first, each kind under a short hold of its own lock, and
 * written afterwards with no lock held.  Everything lies in static storage, of
 * which there is one: the caller sees to it that one thread reports at a time.
 * No callback runs: what a shrinker could free is what it said last.
 *
 * Names come from the program, and may hold anything: whatever is not a
 * printable character of ASCII is a question mark here.
 */
#ifndef PP_FAILURE_REPORT_H
#define PP_FAILURE_REPORT_H

#include "base/strbuf.h"
#include "pool.h"
#include "show.h"

#define FAILURE_NAME_BYTES	32
#define FAILURE_MAX_CLASSES	5u
#define FAILURE_MAX_SHRINKERS	5u

/* A request that failed. */
struct failure_request {
	size_t		bytes;
	unsigned	flags;		/* PP_*, the scope's included */
	enum failure	why;
};

struct failure_class {
	uint32_t	object_bytes;
	struct slab_usage usage;
};

struct failure_facts {
	struct failure_request	request;
	uint64_t		nr_left_out;	/* since the last report */
	const char		*program;
	uint64_t		pid, tid;
	char			thread[FAILURE_NAME_BYTES];
	char			stuck[FAILURE_NAME_BYTES];	/* or "" */
	struct pp_stats		stats;
	unsigned		nr_classes;	/* the largest first */
	struct failure_class	class[FAILURE_MAX_CLASSES];
	unsigned		nr_shrinkers;	/* all; the first of them: */
	struct shrinker_fact	shrinker[FAILURE_MAX_SHRINKERS];
};

/* The lines, from facts alone. */
void failure_add_head(struct strbuf *sb, const struct failure_facts *facts);
void failure_add_zone(struct strbuf *sb, unsigned zone, unsigned node,
		      const struct pp_stats *s);
void failure_add_users(struct strbuf *sb, const struct failure_facts *facts);
void failure_add_counts(struct strbuf *sb, const struct failure_facts *facts);
void failure_add_machine(struct strbuf *sb, const struct failure_facts *facts);

/**
 * failure_report() - all of it, on standard error.
 * @nr_left_out: failures that were not reported since the last report.
 *
 * Context: one thread at a time; not nested, no lock held, the thread's cache
 * left.  Takes the pool's locks one after the other; allocates nothing.
 */
void failure_report(struct pp_pool *pool, const struct failure_request *request,
		    uint64_t nr_left_out);

#endif
