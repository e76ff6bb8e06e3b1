/* SPDX-License-Identifier: MIT */
/*
 * hidden_sampler.h - the thread of hidden_test.c that reads every number
 * cheaply, and holds it against what it knows.
 *
 * The hungry thread says before each request that it asks, and after it that it
 * has got the run; so at any moment the truth lies between the two.
 */
#ifndef PP_TESTS_HIDDEN_SAMPLER_H
#define PP_TESTS_HIDDEN_SAMPLER_H

#include "hidden.h"

/* More than one thread ever has under way to the kernel at a time. */
#define MAX_ISOLATED	512
#define SAMPLES_A_TURN	8

static int64_t stat_field(const struct pp_stats *s, size_t i)
{
	/* The fields stand in the order of the enum. */
	return (&s->limit_pages)[i];
}

/* Never goes down: events, and what is counted since the pool was made. */
static bool is_counter(size_t i)
{
	return i == PP_STAT_PEAK_PAGES || i == PP_STAT_PURGED_PAGES ||
	       (i >= PP_STAT_FAILURES && i != PP_STAT_SLAB_PAGES &&
		i != PP_STAT_SLAB_FREE_BYTES);
}

static bool is_mark(size_t i)
{
	return i == PP_STAT_MIN_PAGES || i == PP_STAT_LOW_PAGES ||
	       i == PP_STAT_HIGH_PAGES;
}

struct range {
	int64_t	least, most;
};

/* Between what the hungry thread had at @got and had asked for at @asked. */
static struct range range_of(const struct hidden *h, size_t i, int64_t got,
			     int64_t asked)
{
	const struct pp_stats *b = &h->base;
	int64_t managed = b->managed_pages, rest;
	int64_t eaten_in_slabs = h->eats_objects ? asked : 0;

	rest = managed - h->in_use_pages - got;
	switch (i) {
	case PP_STAT_USED_PAGES:
		return (struct range){ h->in_use_pages + got,
				       b->used_pages + asked };
	case PP_STAT_FREE_PAGES:
		return (struct range){ b->min_pages - MAX_ISOLATED, rest };
	case PP_STAT_CACHED_PAGES:
	case PP_STAT_ISOLATED_PAGES:
		return (struct range){ 0, rest };
	case PP_STAT_BACKED_PAGES:
		return (struct range){ 0, managed };
	case PP_STAT_SLAB_PAGES:
		return (struct range){ 0, b->slab_pages + eaten_in_slabs };
	case PP_STAT_SLAB_FREE_BYTES:
		return (struct range){ 0, (b->slab_pages + eaten_in_slabs) *
					  (int64_t)PAGE };
	case PP_STAT_NR_THREADS:
		return (struct range){ h->nr_threads_least, b->nr_threads };
	}
	return (struct range){ stat_field(b, i), stat_field(b, i) };
}

static void check_range(struct hidden *h, size_t i, int64_t cheap,
			int64_t bound, struct range r)
{
	int64_t error = cheap < r.least ? r.least - cheap :
			cheap > r.most ? cheap - r.most : 0;

	if (error > bound && atomic_load(&thread_failures) < MAX_TOLD)
		fprintf(stderr, "stat %zu: %lld is not in %lld..%lld +- %lld\n",
			i, (long long)cheap, (long long)r.least,
			(long long)r.most, (long long)bound);
	sample_check(error <= bound);
	h->worst_error = error > h->worst_error ? error : h->worst_error;
}

/* The bound may change while we look: the larger one counts. */
static int64_t read_with_bound(struct hidden *h, size_t i, int64_t *bound)
{
	enum pp_stat stat = (enum pp_stat)i;
	int64_t before = pp_stat_bound(h->pool, stat), after, cheap;

	cheap = pp_stat_read(h->pool, stat);
	after = pp_stat_bound(h->pool, stat);
	*bound = before > after ? before : after;
	sample_check(*bound >= 0);
	return cheap;
}

/* What the counters were, exactly, before and after a few cheap reads. */
struct counters {
	int64_t	least[PP_NR_STATS], most[PP_NR_STATS], bound[PP_NR_STATS];
};

static void sample(struct hidden *h, struct counters *c)
{
	for (size_t i = 0; i < PP_NR_STATS; i++) {
		int64_t got = atomic_load(&h->got_pages), bound;
		int64_t cheap = read_with_bound(h, i, &bound);
		struct range r = range_of(h, i, got,
					  atomic_load(&h->asked_pages));

		if (is_counter(i)) {
			c->least[i] = cheap < c->least[i] ? cheap : c->least[i];
			c->most[i] = cheap > c->most[i] ? cheap : c->most[i];
			c->bound[i] = bound > c->bound[i] ? bound : c->bound[i];
		} else if (!is_mark(i) ||
			   h->nr_threads_least == h->base.nr_threads) {
			check_range(h, i, cheap, bound, r);
		}
	}
}

static struct pp_stats snapshot(struct hidden *h)
{
	struct pp_stats s = { .struct_bytes = sizeof(s) };

	sample_check(pp_stat_snapshot(h->pool, &s) == 0);
	/* Pages on their way to the kernel are free ones. */
	sample_check(s.free_pages + s.isolated_pages >= s.min_pages);
	sample_check(s.backed_pages <= s.managed_pages);
	return s;
}

/* Several reads between two snapshots: those fold, which would flatter. */
static void sample_often(struct hidden *h)
{
	struct pp_stats before = snapshot(h), after;
	struct counters c;

	memset(&c, 0, sizeof(c));
	for (size_t i = 0; i < PP_NR_STATS; i++) {
		c.least[i] = INT64_MAX;
		c.most[i] = INT64_MIN;
	}
	for (unsigned k = 0; k < SAMPLES_A_TURN; k++)
		sample(h, &c);
	after = snapshot(h);
	for (size_t i = 0; i < PP_NR_STATS; i++) {
		struct range r = { stat_field(&before, i),
				   stat_field(&after, i) };

		if (!is_counter(i))
			continue;
		check_range(h, i, c.least[i], c.bound[i], r);
		check_range(h, i, c.most[i], c.bound[i], r);
	}
}

static void *sampler_main(void *arg)
{
	struct hidden *h = arg;

	/* Its cache is there from the start. */
	pp_free_pages(h->pool, pp_alloc_pages(h->pool, 1, 0));
	pthread_mutex_lock(&h->sampler_lock);
	while (!h->sampler_ends) {
		if (!h->sampling) {
			h->sampler_idle = true;
			pthread_cond_broadcast(&h->sampler_wake);
			pthread_cond_wait(&h->sampler_wake, &h->sampler_lock);
			continue;
		}
		h->sampler_idle = false;
		pthread_mutex_unlock(&h->sampler_lock);
		sample_often(h);
		pthread_mutex_lock(&h->sampler_lock);
		h->nr_samples += SAMPLES_A_TURN;
		pthread_cond_broadcast(&h->sampler_wake);
	}
	pthread_mutex_unlock(&h->sampler_lock);
	return NULL;
}

/* Returns once the first sample is taken, or the last. */
static void set_sampling(struct hidden *h, bool on)
{
	pthread_mutex_lock(&h->sampler_lock);
	if (on)
		h->nr_samples = 0;
	h->sampling = on;
	pthread_cond_broadcast(&h->sampler_wake);
	while (on ? h->nr_samples == 0 : !h->sampler_idle)
		pthread_cond_wait(&h->sampler_wake, &h->sampler_lock);
	pthread_mutex_unlock(&h->sampler_lock);
}

#endif
