/* SPDX-License-Identifier: MIT */
/*
 * extent.h - pages for an allocator that cuts them up itself (layer 12).
 *
 * An extent is one or more runs that lie side by side.  Its user may cut it
 * where it likes, join neighbours, and give back any part that begins and ends
 * at a cut, so that a small rest keeps nobody from the remainder.  A cut is
 * written into the map alone, and joining needs nothing at all: who gives an
 * extent back gives back each run in it.
 *
 * For libpagepool-jemalloc.  The names are exported under PAGEPOOL_PRIVATE:
 * they change from one version to the next.
 */
#ifndef PP_EXTENT_H
#define PP_EXTENT_H

#include <stdbool.h>
#include <stddef.h>

struct pp_pool;

#pragma GCC visibility push(default)

/**
 * pagepool_extent_alloc() - a new extent.
 * @nr_pages: its length, not rounded.
 * @align_pages: a power of two.
 * @flags: PP_*.
 * @zeroed: set if it reads as zeroes; with PP_ZERO it does.
 *
 * Return: the extent, or NULL.
 */
void *pagepool_extent_alloc(struct pp_pool *pool, size_t nr_pages,
			    size_t align_pages, unsigned flags, bool *zeroed);

/**
 * pagepool_extent_cut() - make two extents out of one.
 * @nr_pages: of the first; less than the extent has.
 *
 * Takes no lock, so that it may be called where another thread holds the
 * pool's for fork and waits for what the caller holds.
 */
void pagepool_extent_cut(struct pp_pool *pool, void *extent, size_t nr_pages);

/**
 * pagepool_extent_free() - give one back.
 * @nr_pages: of the extent, which may consist of any number that were joined.
 *
 * Keeps errno.  Return: false if the caller is a handler, of a signal or of
 * fork, on top of a call of the pool: nothing has happened, try later.
 */
bool pagepool_extent_free(struct pp_pool *pool, void *extent, size_t nr_pages);

#pragma GCC visibility pop

#endif
