/* SPDX-License-Identifier: MIT */
/* Small objects of one size: a list of lines. */
#include <pagepool/cache.h>
#include <stdio.h>

struct line {
	struct line	*next;
	char		text[100];
};

int main(void)
{
	struct pp_pool *pool = pp_pool_default();
	struct line *head = NULL, *line;
	struct pp_cache *lines;

	if (!pool || pp_cache_create(pool, "lines", sizeof(*line), 0, &lines))
		return 1;

	for (int i = 0; i < 1000; i++) {
		line = pp_cache_alloc(lines, 0);
		if (!line) {
			perror("pp_cache_alloc");
			break;
		}
		snprintf(line->text, sizeof(line->text), "line %d", i);
		line->next = head;
		head = line;
	}
	printf("the last one: %s\n", head ? head->text : "none");

	/* With objects out, the cache stays. */
	if (head && pp_cache_destroy(lines) == 0)
		return 1;
	while ((line = head)) {
		head = line->next;
		pp_cache_free(lines, line);
	}
	return pp_cache_destroy(lines) ? 1 : 0;
}
