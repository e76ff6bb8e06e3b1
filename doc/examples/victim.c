/* SPDX-License-Identifier: MIT */
/* Sessions that together want more than there is: the largest ones end. */
#include <pagepool/reclaim.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define NR_SESSIONS	4
#define RUN_PAGES	16		/* 64 KiB */
#define MAX_RUNS	512		/* 32 MiB */

struct session {
	struct pp_pool		*pool;
	struct pp_victim_id	*id;
	pthread_t		thread;
	size_t			wants;	/* runs */
	atomic_size_t		nr;	/* that it has */
	atomic_bool		cancelled;
	void			*run[MAX_RUNS];
	int			completed;
};

static pthread_barrier_t start;

static size_t usage(void *arg)
{
	struct session *s = arg;

	return s->nr * RUN_PAGES * PP_PAGE_SIZE;
}

/* In a thread of the pool's own: says so, and returns. */
static void cancel(void *arg)
{
	struct session *s = arg;

	s->cancelled = 1;
}

static void *run_session(void *arg)
{
	struct session *s = arg;
	unsigned saved = pp_victim_enter(s->id);

	pthread_barrier_wait(&start);
	while (s->nr < s->wants && !s->cancelled) {
		void *run = pp_alloc_pages(s->pool, RUN_PAGES, 0);

		if (!run)
			break;
		memset(run, 1, RUN_PAGES * PP_PAGE_SIZE);
		s->run[s->nr] = run;
		s->nr++;
	}
	s->completed = s->nr == s->wants;
	pp_victim_leave(saved);

	/* Whoever waits goes on when this is done. */
	pp_free_bulk(s->pool, s->nr, s->run);
	s->nr = 0;
	pp_victim_exited(s->id);
	return NULL;
}

static int begin(struct session *s, struct pp_pool *pool, size_t wants)
{
	const struct pp_victim victim = {
		.struct_bytes = sizeof(victim),
		.name = "session",
		.arg = s,
		.usage = usage,
		.cancel = cancel,
	};

	s->pool = pool;
	s->wants = wants;
	if (pp_victim_register(pool, &victim, &s->id))
		return -1;
	return pthread_create(&s->thread, NULL, run_session, s) ? -1 : 0;
}

int main(void)
{
	static struct session session[NR_SESSIONS];
	struct pp_config *config;
	struct pp_pool *pool;
	int err;

	if (pp_config_create(&config))
		return 1;
	err = pp_config_set(config, "limit", "32M");
	if (!err)
		err = pp_pool_create(config, &pool);
	pp_config_destroy(config);
	if (err)
		return 1;

	pthread_barrier_init(&start, NULL, NR_SESSIONS);
	for (size_t i = 0; i < NR_SESSIONS; i++)
		if (begin(&session[i], pool, 96 * (i + 1)))
			return 1;
	for (size_t i = 0; i < NR_SESSIONS; i++) {
		pthread_join(session[i].thread, NULL);
		pp_victim_unregister(session[i].id);
		printf("%zu MiB: %s\n", session[i].wants / 16,
		       session[i].completed ? "completed" :
		       session[i].cancelled ? "cancelled" : "failed");
	}
	return pp_pool_destroy(pool) ? 1 : 0;
}
