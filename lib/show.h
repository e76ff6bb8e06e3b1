/* SPDX-License-Identifier: MIT */
/*
 * show.h - a pool's numbers, as a struct and as text (layer 12).
 *
 * One table (show.c) names every number once; the snapshot, the formats of
 * pp_report() and the lines on standard error are made from it.
 */
#ifndef PP_SHOW_H
#define PP_SHOW_H

#include "base/strbuf.h"
#include "pagepool/stat.h"
#include "pool.h"

/* Keeps a way to standard error, which many programs close before the end, if
 * the settings want numbers there. */
void show_prepare_exit(struct pp_pool *pool);

/* What the program used, where its settings want it, at exit.  A child that
 * was forked and did not exec says nothing. */
void show_at_exit(struct pp_pool *pool);

int show_snapshot(struct pp_pool *pool, struct pp_stats *out);
/* The numbers of one zone. */
int show_zone_snapshot(struct pp_pool *pool, struct zone *zone,
		       struct pp_stats *out);
int64_t show_read(struct pp_pool *pool, enum pp_stat stat);
int64_t show_bound(struct pp_pool *pool, enum pp_stat stat);
/* The numbers as one JSON object, without a newline. */
void show_add_json(struct strbuf *sb, const struct pp_stats *s);
int show_report(struct pp_pool *pool, enum pp_format format, char *buf,
		size_t size);

#endif
