/* SPDX-License-Identifier: MIT */
/*
 * inject.h - which of the program's requests fail on purpose (layer 1).
 *
 * The setting `fault`: a program that handles a failed malloc is tested by
 * making one fail.  A rule is a way to choose, and what narrows it, joined by
 * commas:
 *
 *	nth:N		the N-th request, and no other
 *	every:N		each N-th
 *	share:P%	P in a hundred, by chance; percent:P is the same
 *	times:N		no more than N of them
 *	after:N		not as long as requests have not had N pages in all
 *	min_pages:N	requests of fewer pages pass, and do not count
 *	seed:N		for share: where chance begins
 *	quiet		say nothing
 *	off		alone: none fails
 *
 * The words are those of Linux' mm/fail_page_alloc.c and lib/fault-inject.c,
 * and so is the order of the questions; but requests of any size fail, also
 * those that may wait.  Whether one fails depends on its number and the seed
 * alone, so that a run can be repeated, in threads as far as their order can.
 *
 * I1: nth: exactly the n-th request that counts fails
 * I2: with times:k no more than k requests fail
 * I3: of the first n requests that count the same ones fail each time
 */
#ifndef PP_INJECT_H
#define PP_INJECT_H

#include <stdbool.h>

#include "base/atomic.h"

#define INJECT_SHARE_ONE	1000000u	/* a share of 100 % */

enum inject_kind { INJECT_OFF, INJECT_NTH, INJECT_EVERY, INJECT_SHARE };

struct inject_rule {
	enum inject_kind kind;
	uint64_t	nth;		/* NTH, EVERY: from 1 */
	uint64_t	share;		/* SHARE: of INJECT_SHARE_ONE */
	uint64_t	times;		/* 0: no bound */
	uint64_t	after_pages;
	uint64_t	min_pages;
	uint64_t	seed;		/* 0: to be chosen */
	bool		quiet;
};

struct inject {
	/* const while on */
	struct inject_rule	rule;

	/* any thread; relaxed: each stands for itself */
	_Atomic bool		on;
	_Atomic bool		announced;
	_Atomic uint64_t	passed_pages;	/* up to rule.after_pages */
	_Atomic uint64_t	nr_asked;	/* requests that counted */
	_Atomic uint64_t	nr_failed;
};

/* 0, -EINVAL or -ERANGE; *out is as before then. */
int inject_parse(const char *text, struct inject_rule *out);

/* Without a seed in @rule, chance begins at @seed. */
void inject_init(struct inject *inject, const struct inject_rule *rule,
		 uint64_t seed);

/* From here on requests count. */
void inject_start(struct inject *inject);

static inline bool inject_is_on(const struct inject *inject)
{
	return load_relaxed(&inject->on);
}

/**
 * inject_decide() - one more request: does it fail?
 * @pages: what it asks for, rounded up.
 *
 * Context: any thread, also in a signal handler; takes no lock.
 * Return: its number, from 1, if it is to fail; 0 if not.
 */
uint64_t inject_decide(struct inject *inject, uint64_t pages);

/* The line on standard error about the first request that failed; once. */
void inject_announce(struct inject *inject, uint64_t number, uint64_t bytes);

#endif
