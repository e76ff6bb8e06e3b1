/* SPDX-License-Identifier: MIT */
/* A reserve: messages that are sent whatever others have done to the memory.
 * Each takes a buffer, and another one later for the answer. */
#include <pagepool/reserve.h>
#include <stdio.h>

#define NEED	2	/* buffers of one message */

static int send_message(struct pp_reserve *buffers, int number)
{
	struct pp_ticket ticket;
	char *message, *answer;

	/* Both, or wait for both: two that wait for each other's second buffer
	 * would wait for ever. */
	if (pp_reserve_hold(buffers, NEED, 0, &ticket))
		return -1;
	message = pp_reserve_draw(&ticket);
	snprintf(message, PP_PAGE_SIZE, "message %d", number);

	/* What happens here does not matter. */

	answer = pp_reserve_draw(&ticket);
	snprintf(answer, PP_PAGE_SIZE, "answer to %s", message);
	if (number % 1000 == 0)
		puts(answer);
	pp_reserve_free(buffers, answer);
	pp_reserve_free(buffers, message);
	pp_reserve_drop(&ticket);
	return 0;
}

int main(void)
{
	struct pp_config *config;
	struct pp_reserve *buffers;
	struct pp_pool *pool;
	void *all = NULL, *next;

	if (pp_config_create(&config) ||
	    pp_config_set(config, "limit", "16M") ||
	    pp_pool_create(config, &pool) ||
	    pp_reserve_create(pool, NEED, 1, &buffers))
		return 1;
	pp_config_destroy(config);

	/* A stranger takes all there is. */
	while ((next = pp_alloc_pages(pool, 1, PP_NOWARN))) {
		*(void **)next = all;
		all = next;
	}

	for (int i = 0; i < 5000; i++)
		if (send_message(buffers, i))
			return 1;

	while ((next = all)) {
		all = *(void **)next;
		pp_free_pages(pool, next);
	}
	return pp_reserve_destroy(buffers) || pp_pool_destroy(pool) ? 1 : 0;
}
