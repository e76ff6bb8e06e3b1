/* SPDX-License-Identifier: MIT */
/* nodemask.c - see nodemask.h. */
#include "base/nodemask.h"

#include <errno.h>

unsigned nodemask_next(const struct nodemask *mask, unsigned from)
{
	while (from < NODEMASK_BITS && !nodemask_has(mask, from))
		from++;
	return from;
}

unsigned nodemask_count(const struct nodemask *mask)
{
	unsigned n = 0;

	for (unsigned i = 0; i < NODEMASK_WORDS; i++)
		n += (unsigned)__builtin_popcountll(mask->word[i]);
	return n;
}

void nodemask_intersect(struct nodemask *mask, const struct nodemask *other)
{
	for (unsigned i = 0; i < NODEMASK_WORDS; i++)
		mask->word[i] &= other->word[i];
}

/* One number; *@text points behind it. */
static int parse_node(const char **text, unsigned *node)
{
	const char *s = *text;

	if (*s < '0' || *s > '9')
		return -EINVAL;
	for (*node = 0; *s >= '0' && *s <= '9'; s++) {
		*node = *node * 10 + (unsigned)(*s - '0');
		if (*node >= NODEMASK_BITS)
			return -ERANGE;
	}
	*text = s;
	return 0;
}

/* "2" or "2-5". */
static int parse_range(const char **text, struct nodemask *mask)
{
	unsigned from, to;
	int err = parse_node(text, &from);

	to = from;
	if (!err && **text == '-') {
		++*text;
		err = parse_node(text, &to);
	}
	if (!err && to < from)
		err = -EINVAL;
	for (; !err && from <= to; from++)
		nodemask_add(mask, from);
	return err;
}

int nodemask_parse(const char *text, struct nodemask *mask)
{
	int err = 0;

	*mask = (struct nodemask){ { 0 } };
	if (!*text || *text == '\n')
		return 0;
	for (;;) {
		err = parse_range(&text, mask);
		if (err || *text != ',')
			break;
		text++;
	}
	return err ? err : *text && *text != '\n' ? -EINVAL : 0;
}
