/* SPDX-License-Identifier: MIT */
/* inject.c - see inject.h. */
#include "inject.h"

#include <errno.h>
#include <string.h>

#include "base/strbuf.h"
#include "tell.h"

#define LINE_BYTES	256
/* Digits after the point of a share. */
#define SHARE_DIGITS	4
#define SHARE_PERCENT	(INJECT_SHARE_ONE / 100)

enum word_kind { WORD_NTH, WORD_EVERY, WORD_SHARE, WORD_PERCENT, WORD_NUMBER };

struct word {
	const char	*name;		/* with the colon */
	enum word_kind	kind;
	size_t		offset;		/* in struct inject_rule */
	uint64_t	least;
};

#define FIELD(f)	offsetof(struct inject_rule, f)

static const struct word words[] = {
	{ "nth:", WORD_NTH, FIELD(nth), 1 },
	{ "every:", WORD_EVERY, FIELD(nth), 1 },
	{ "share:", WORD_SHARE, FIELD(share), 1 },
	{ "percent:", WORD_PERCENT, FIELD(share), 1 },
	{ "times:", WORD_NUMBER, FIELD(times), 1 },
	{ "after:", WORD_NUMBER, FIELD(after_pages), 0 },
	{ "min_pages:", WORD_NUMBER, FIELD(min_pages), 0 },
	{ "seed:", WORD_NUMBER, FIELD(seed), 1 },
};

/* Parsing */

static int take_number(const char **s, uint64_t *out)
{
	uint64_t n = 0;

	if (**s < '0' || **s > '9')
		return -EINVAL;
	for (; **s >= '0' && **s <= '9'; ++*s) {
		if (n > (UINT64_MAX - 9) / 10)
			return -ERANGE;
		n = n * 10 + (uint64_t)(**s - '0');
	}
	*out = n;
	return 0;
}

/* "12", "0.5": percent, to millionths. */
static int take_share(const char **s, uint64_t *out)
{
	uint64_t n, unit = SHARE_PERCENT;
	int err = take_number(s, &n);

	if (err)
		return err;
	if (n > 100)
		return -ERANGE;
	n *= SHARE_PERCENT;
	if (**s == '.') {
		++*s;
		if (**s < '0' || **s > '9')
			return -EINVAL;
		for (unsigned i = 0; i < SHARE_DIGITS && **s >= '0' &&
		     **s <= '9'; i++) {
			unit /= 10;
			n += unit * (uint64_t)(*(*s)++ - '0');
		}
	}
	*out = n;
	return n > INJECT_SHARE_ONE ? -ERANGE : 0;
}

static int set_kind(struct inject_rule *rule, enum word_kind kind)
{
	static const enum inject_kind of[] = {
		[WORD_NTH] = INJECT_NTH,
		[WORD_EVERY] = INJECT_EVERY,
		[WORD_SHARE] = INJECT_SHARE,
		[WORD_PERCENT] = INJECT_SHARE,
	};

	if (kind == WORD_NUMBER)
		return 0;
	if (rule->kind != INJECT_OFF)
		return -EINVAL;
	rule->kind = of[kind];
	return 0;
}

static int take_value(struct inject_rule *rule, const struct word *w,
		      const char **s)
{
	uint64_t *field = (uint64_t *)(void *)((char *)rule + w->offset);
	int err = set_kind(rule, w->kind);

	if (err)
		return err;
	if (w->kind == WORD_SHARE || w->kind == WORD_PERCENT)
		err = take_share(s, field);
	else
		err = take_number(s, field);
	if (!err && *field < w->least)
		err = -ERANGE;
	if (!err && w->kind == WORD_SHARE && *(*s)++ != '%')
		err = -EINVAL;
	return err;
}

/* One word; *@s points behind it. */
static int take_word(struct inject_rule *rule, const char **s)
{
	static const char quiet[] = "quiet";

	if (strncmp(*s, quiet, sizeof(quiet) - 1) == 0) {
		*s += sizeof(quiet) - 1;
		rule->quiet = true;
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (strncmp(*s, words[i].name, strlen(words[i].name)) == 0) {
			*s += strlen(words[i].name);
			return take_value(rule, &words[i], s);
		}
	return -EINVAL;
}

int inject_parse(const char *text, struct inject_rule *out)
{
	struct inject_rule rule = { .kind = INJECT_OFF };
	const char *s = text;
	int err;

	if (strcmp(text, "off") == 0) {
		*out = rule;
		return 0;
	}
	/* Each round takes a word. */
	for (;;) {
		err = take_word(&rule, &s);
		if (err)
			return err;
		if (*s != ',')
			break;
		s++;
	}
	/* What is exactly one needs no bound. */
	if (*s || rule.kind == INJECT_OFF ||
	    (rule.kind == INJECT_NTH && rule.times))
		return -EINVAL;
	*out = rule;
	return 0;
}

/* Deciding */

void inject_init(struct inject *inject, const struct inject_rule *rule,
		 uint64_t seed)
{
	inject->rule = *rule;
	if (!inject->rule.seed)
		inject->rule.seed = seed ? seed : 1;
	store_relaxed(&inject->on, false);
	store_relaxed(&inject->announced, false);
	store_relaxed(&inject->passed_pages, 0);
	store_relaxed(&inject->nr_asked, 0);
	store_relaxed(&inject->nr_failed, 0);
}

void inject_start(struct inject *inject)
{
	store_relaxed(&inject->on, inject->rule.kind != INJECT_OFF);
}

/* Counts up to @most, each step once; false: it is there. */
static bool count_to(_Atomic uint64_t *count, uint64_t step, uint64_t most)
{
	uint64_t now = load_relaxed(count);

	/* Each round that fails is another thread's step. */
	while (now < most)
		if (cas_relaxed(count, &now, step < most - now ? now + step :
								 most))
			return true;
	return false;
}

/* SplitMix64 (G. Steele, D. Lea, C. Flood, 2014): number @i of a stream. */
static uint64_t chance(uint64_t seed, uint64_t i)
{
	uint64_t z = seed + i * 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

static bool is_chosen(const struct inject_rule *rule, uint64_t number)
{
	switch (rule->kind) {
	case INJECT_NTH:
		return number == rule->nth;
	case INJECT_EVERY:
		return number % rule->nth == 0;
	case INJECT_SHARE:
		return chance(rule->seed, number) % INJECT_SHARE_ONE <
		       rule->share;
	case INJECT_OFF:
	default:
		return false;
	}
}

uint64_t inject_decide(struct inject *inject, uint64_t pages)
{
	const struct inject_rule *rule = &inject->rule;
	uint64_t number;

	if (pages < rule->min_pages ||
	    count_to(&inject->passed_pages, pages, rule->after_pages))
		return 0;
	number = add_relaxed(&inject->nr_asked, 1) + 1;
	if (!is_chosen(rule, number) ||
	    !count_to(&inject->nr_failed, 1,
		      rule->times ? rule->times : UINT64_MAX))
		return 0;
	return number;
}

void inject_announce(struct inject *inject, uint64_t number, uint64_t bytes)
{
	char text[LINE_BYTES];
	struct strbuf sb = STRBUF(text);

	if (inject->rule.quiet || xchg_relaxed(&inject->announced, true))
		return;
	strbuf_str(&sb, "pagepool: fault: request ");
	strbuf_u64(&sb, number);
	strbuf_str(&sb, ", of ");
	strbuf_u64(&sb, bytes);
	strbuf_str(&sb, " bytes, fails as the setting fault asks (seed ");
	strbuf_u64(&sb, inject->rule.seed);
	strbuf_str(&sb, "; ");
	tell_program(&sb);
	strbuf_str(&sb, ")\n");
	tell_stderr(&sb);
}
