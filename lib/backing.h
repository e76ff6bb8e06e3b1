/* SPDX-License-Identifier: MIT */
/*
 * backing.h - runs with room for their memory (layer 4).
 *
 * The zone grants and places runs under its lock.  What may not happen under
 * a lock happens here: committing more of the span, and giving spare memory
 * back to the kernel where the limit leaves no room for a run's fresh pages.
 * What is used and spare together is all that is backed (zone.h, I3 and I4), so
 * a run that was granted finds spare pages enough, but for those that another
 * thread takes beyond its own need, a batch at the most, and has not purged
 * yet: then it yields until they are.  Where huge pages hold on to spare ones,
 * they are given up (thp.h).
 */
#ifndef PP_BACKING_H
#define PP_BACKING_H

#include "vmstat.h"
#include "zone.h"

/**
 * backing_claim() - runs of one length, ready to be touched.
 * @req: what is wanted.
 * @nr_runs: how many at the most, 1 or more.
 * @runs: filled in; fresh_pages == nr_pages means that a run reads as zeroes.
 * @why: set when nothing could be had.
 *
 * Context: no lock held; makes system calls at the limit.
 * Return: the number of runs; 0 with @why, and nothing changed.
 */
unsigned backing_claim(struct zone *zone, const struct zone_request *req,
		       unsigned nr_runs, struct zone_run *runs,
		       enum failure *why);

/* Commits the first blocks of the zone, so that it can be used however few
 * mappings are left later.  A refusal is none here. */
void backing_open(struct zone *zone);

/* Makes room for a run that was claimed, extended or charged: returns false,
 * and takes the claim back, if the kernel did not take memory. */
bool backing_finish(struct zone *zone, struct zone_run *run);

/* Counts memory outside the blocks; false at the limit. */
bool backing_charge(struct zone *zone, uint64_t nr_pages,
		    uint64_t floor_pages);

/* Gives up to @nr_pages of spare memory back; returns how many pages. */
uint64_t backing_purge(struct zone *zone, enum zone_spare which,
		       uint64_t nr_pages);

/* Lets backing_purge() have holes in blocks that may get huge pages, at the
 * price of these.  False if that yields nothing. */
bool backing_make_holes(struct zone *zone);

#endif
