/* SPDX-License-Identifier: MIT */
/* A program that is told before memory runs out, and makes room itself. */
#include <pagepool/reclaim.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#define NR_LEVELS	3
#define NR_ROUNDS	5
#define RUN_PAGES	16
#define MAX_RUNS	1024

static const char *const name[NR_LEVELS] = { "low", "min", "oom" };
static struct pollfd level[NR_LEVELS];
static void *runs[MAX_RUNS];
static size_t nr;

/* A descriptor for each level.  An event loop waits for them beside others. */
static int watch(struct pp_pool *pool)
{
	for (int i = 0; i < NR_LEVELS; i++) {
		level[i].fd = pp_pressure_fd(pool, (enum pp_pressure)i);
		level[i].events = POLLIN;
		if (level[i].fd < 0)
			return -1;
	}
	return 0;
}

/* The highest level that began since the last call, or -1. */
static int look(void)
{
	uint64_t episodes;
	int highest = -1;

	if (poll(level, NR_LEVELS, 0) <= 0)
		return -1;
	for (int i = 0; i < NR_LEVELS; i++)
		if (level[i].revents & POLLIN &&
		    read(level[i].fd, &episodes, sizeof(episodes)) > 0)
			highest = i;
	return highest;
}

/* Allocates until it is told to stop, or fails. */
static int grow(struct pp_pool *pool)
{
	int told = look();

	while (told < 0) {
		if (nr == MAX_RUNS)
			return -1;
		runs[nr] = pp_alloc_pages(pool, RUN_PAGES, 0);
		if (!runs[nr])
			return -1;
		nr++;
		told = look();
	}
	printf("%s at %zu runs\n", name[told], nr);
	return told;
}

static void shrink_to(struct pp_pool *pool, size_t keep)
{
	while (nr > keep)
		pp_free_pages(pool, runs[--nr]);
}

int main(void)
{
	struct pp_config *config;
	struct pp_pool *pool;
	int err, told = 0;

	if (pp_config_create(&config))
		return 1;
	err = pp_config_set(config, "limit", "32M");
	if (!err)
		err = pp_pool_create(config, &pool);
	pp_config_destroy(config);
	if (err || watch(pool))
		return 1;

	/* Each round is an episode: half is freed, more than up to high. */
	for (int i = 0; i < NR_ROUNDS && told >= 0; i++) {
		told = grow(pool);
		shrink_to(pool, nr / 2);
	}
	shrink_to(pool, 0);
	for (int i = 0; i < NR_LEVELS; i++)
		close(level[i].fd);
	return pp_pool_destroy(pool) || told < 0;
}
