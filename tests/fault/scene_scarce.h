/* SPDX-License-Identifier: MIT */
/*
 * scene_scarce.h - scenes of the sweep (sweep_test.c) that live at the limit:
 * reserves and tickets, victims and notifiers, requests that do not fail, and
 * what is said when one does.
 *
 * What is promised there holds whatever fails: a point fails once, so that who
 * may wait, or tries again, is served.
 */
#ifndef PP_TESTS_FAULT_SCENE_SCARCE_H
#define PP_TESTS_FAULT_SCENE_SCARCE_H

#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "pagepool/reclaim.h"
#include "reserve.h"
#include "scene.h"

#define FILL_MAX	800	/* holdings; the rest is for the scene */

static inline void fill(struct owners *o, size_t pages, unsigned flags)
{
	while (o->nr < FILL_MAX && owners_take(o, pages, 1, flags))
		;
}

/* To the last page, whatever failed on the way. */
static inline void fill_all(struct owners *o)
{
	for (unsigned i = 0; i < 2; i++) {
		fill(o, 9, 0);
		fill(o, 3, PP_MEMALLOC);
		fill(o, 1, PP_MEMALLOC);
	}
	EXPECT(o->nr < FILL_MAX);
}

/* Reserves and tickets */

#define RESERVE_RUNS	4u
#define RESERVE_PAGES	3u
#define RESERVE_RETRY	1000000ull	/* ns */

/* What has failed does not fail again. */
static inline struct pp_reserve *make_reserve(struct owners *o)
{
	struct pp_reserve *r = NULL;
	int err = pp_reserve_create(o->pool, RESERVE_RUNS, RESERVE_PAGES, &r);

	EXPECT(err == 0 ? r != NULL : err == -ENOMEM && !r);
	owners_check(o);
	if (err)
		EXPECT(pp_reserve_create(o->pool, RESERVE_RUNS, RESERVE_PAGES,
					 &r) == 0);
	r->mempool.retry_ns = RESERVE_RETRY;
	return r;
}

/* Nobody else is using it. */
static inline void expect_reserved(struct owners *o, struct pp_reserve *r)
{
	struct mempool *mp = &r->mempool;

	EXPECT(owners_stats(o->pool).reserved_pages == (int64_t)
	       ((mp->nr_free + load_relaxed(&mp->nr_held)) * RESERVE_PAGES));
	owners_check(o);
}

static inline void take_reserved(struct owners *o, struct pp_reserve *r)
{
	void *p;

	for (unsigned i = 0; i < RESERVE_RUNS; i++) {
		p = pp_reserve_alloc(r, i ? PP_NOWARN : PP_ZERO | PP_NOWARN);
		EXPECT(p);
		for (size_t k = 0; !i && k < RESERVE_PAGES * PAGE / 8; k++)
			EXPECT(((uint64_t *)p)[k] == 0);
		owners_add_reserved(o, p, RESERVE_PAGES, r);
	}
	errno = 0;
	owners_add_reserved(o, pp_reserve_alloc(r, PP_NORETRY | PP_NOWARN),
			    RESERVE_PAGES, r);
	expect_reserved(o, r);
}

static inline void use_ticket(struct owners *o, struct pp_reserve *r)
{
	struct pp_ticket t, none;
	int err;

	EXPECT(pp_reserve_hold(r, 2, PP_NOWARN, &t) == 0);
	expect_reserved(o, r);
	EXPECT(owners_add_reserved(o, pp_reserve_draw(&t), RESERVE_PAGES, r));
	err = pp_reserve_hold(r, 3, PP_NOWAIT | PP_NOWARN, &none);
	EXPECT(err == 0 || err == -ENOMEM);
	pp_reserve_drop(&none);
	EXPECT(pp_reserve_destroy(r) == -EBUSY);
	expect_reserved(o, r);
	pp_reserve_drop(&t);
	EXPECT(!pp_reserve_draw(&t) && errno == EINVAL);
	expect_reserved(o, r);
}

/* A thread that comes too late for what is set aside. */
static inline void *wait_for_run(void *arg)
{
	struct pp_reserve *r = arg;
	void *p = pp_reserve_alloc(r, PP_NOWARN);

	EXPECT(p);
	memset(p, 0x77, RESERVE_PAGES * PAGE);
	pp_reserve_free(r, p);
	return NULL;
}

static inline void give_to_waiter(struct owners *o, struct pp_reserve *r,
				  size_t first, size_t end)
{
	pthread_t thread;

	EXPECT(!pthread_create(&thread, NULL, wait_for_run, r));
	for (size_t i = first; i < end; i++)
		owners_give(o, i);
	pthread_join(thread, NULL);
	expect_reserved(o, r);
}

static inline void scene_reserve(struct owners *o)
{
	struct pp_reserve *r;
	size_t first, end;

	if (!begin(o, "8M", "1"))
		return;
	r = make_reserve(o);
	fill_all(o);
	first = o->nr;
	take_reserved(o, r);
	end = o->nr;
	owners_give(o, first);
	owners_give(o, first + 1);
	use_ticket(o, r);
	EXPECT(pp_reserve_resize(r, RESERVE_RUNS + 2) >= 0);
	expect_reserved(o, r);
	give_to_waiter(o, r, first + 2, end);
	EXPECT(pp_reserve_resize(r, 1) >= 0);
	expect_reserved(o, r);
	owners_give_all(o);
	EXPECT(pp_reserve_destroy(r) == 0);
	owners_end(o);
}

/* Victims and notifiers */

#define TENANT_PAGES	200u

/* Holdings of a scene that can be given up. */
struct tenant {
	struct owners		*o;
	struct pp_victim_id	*id;
	struct pp_oom_notifier_id *notifier;
	size_t			from, to;
	unsigned		nr_calls;
};

static inline size_t tenant_end(struct tenant *t)
{
	size_t nr = 0;

	for (size_t i = t->from; i < t->to; i++) {
		nr += t->o->held[i].p != NULL;
		owners_give(t->o, i);
	}
	return nr;
}

static inline size_t tenant_usage(void *arg)
{
	struct tenant *t = arg;

	return (t->to - t->from) * PAGE;
}

static inline void tenant_cancel(void *arg)
{
	struct tenant *t = arg;

	EXPECT(!t->nr_calls++);
	tenant_end(t);
	pp_victim_exited(t->id);
}

static inline size_t tenant_notify(void *arg, size_t nr_pages)
{
	struct tenant *t = arg;

	EXPECT(nr_pages);
	t->nr_calls++;
	return tenant_end(t);
}

static inline void tenant_move_in(struct tenant *t, struct owners *o)
{
	*t = (struct tenant){ .o = o, .from = o->nr };
	while (o->nr < t->from + TENANT_PAGES && owners_take(o, 1, 1, 0))
		;
	t->to = o->nr;
}

/* It may be refused, and is nobody to be given up then. */
static inline void add_victim(struct tenant *t)
{
	const struct pp_victim ops = {
		.struct_bytes = sizeof(ops), .name = "tenant", .arg = t,
		.usage = tenant_usage, .cancel = tenant_cancel,
	};
	int err = pp_victim_register(t->o->pool, &ops, &t->id);

	EXPECT(err == 0 ? t->id != NULL : err == -ENOMEM && !t->id);
}

static inline void add_notifier(struct tenant *t)
{
	const struct pp_oom_notifier ops = {
		.struct_bytes = sizeof(ops), .name = "tenant", .arg = t,
		.notify = tenant_notify,
	};
	int err = pp_oom_notifier_register(t->o->pool, &ops, &t->notifier);

	EXPECT(err == 0 ? t->notifier != NULL : err == -ENOMEM &&
						!t->notifier);
}

/* Nothing fails for the limit while there is somebody to be given up. */
static inline void fill_and_evict(struct owners *o, const struct tenant *t)
{
	struct pp_stats s;

	for (unsigned i = 0; i < 2; i++) {
		fill(o, 12, 0);
		EXPECT(o->nr < FILL_MAX);
		if (pp_last_failure() != PP_FAILURE_LIMIT)
			continue;
		EXPECT(!t[0].notifier || t[0].nr_calls);
		EXPECT(!t[1].id || t[1].nr_calls);
		EXPECT(!t[2].id || t[2].nr_calls);
	}
	EXPECT(pp_last_failure() == PP_FAILURE_LIMIT);
	s = owners_stats(o->pool);
	EXPECT(s.oom_releases == t[1].nr_calls + t[2].nr_calls);
	owners_check(o);
}

static inline void refuse_when_disabled(struct owners *o, struct tenant *t)
{
	unsigned before = t->nr_calls, saved;

	EXPECT(pp_oom_disable(o->pool, 0) == 0);
	saved = pp_victim_enter(t->id);
	owners_take(o, 20, 1, 0);
	pp_victim_leave(saved);
	EXPECT(pp_oom_enable(o->pool) == 0);
	EXPECT(t->nr_calls == before);
}

static inline void scene_victims(struct owners *o)
{
	struct tenant t[3];

	if (!begin(o, "8M", "1"))
		return;
	/* Nobody is late, or stuck, who is just without a processor. */
	EXPECT(pp_pool_set(o->pool, "oom_timeout", "20s") == 0);
	for (size_t i = 0; i < COUNT_OF(t); i++)
		tenant_move_in(&t[i], o);
	add_notifier(&t[0]);
	add_victim(&t[1]);
	add_victim(&t[2]);
	refuse_when_disabled(o, &t[1]);
	fill_and_evict(o, t);
	refuse_when_disabled(o, &t[2]);
	EXPECT((!t[1].id && !t[2].id && !t[0].notifier) ||
	       pp_pool_destroy(o->pool) == -EBUSY);
	pp_oom_notifier_unregister(t[0].notifier);
	pp_victim_unregister(t[1].id);
	pp_victim_unregister(t[2].id);
	owners_end(o);
}

/* Requests that do not fail */

/* With books of its own, in a pool in which nothing is left. */
static inline void *take_nofail(void *arg)
{
	struct owners *o = test_array(1, sizeof(*o));

	o->pool = arg;
	for (size_t i = 0; i < 4; i++)
		EXPECT(owners_take(o, 1 + i, 1, PP_NOFAIL));
	EXPECT(pp_last_failure() == PP_FAILURE_NONE);
	owners_give_all(o);
	free(o);
	return NULL;
}

static inline void scene_nofail(struct owners *o)
{
	pthread_t thread;

	if (!begin(o, "8M", "1"))
		return;
	fill(o, 9, 0);
	fill(o, 9, PP_RETRY_MAYFAIL);
	EXPECT(owners_take(o, 2, 1, PP_NOFAIL));
	EXPECT(owners_take(o, 1, 1, PP_NOFAIL | PP_ZERO));
	fill_all(o);
	EXPECT(pp_last_failure() != PP_FAILURE_NONE);
	EXPECT(owners_stats(o->pool).failures == (int64_t)o->nr_refused);
	EXPECT(!pthread_create(&thread, NULL, take_nofail, o->pool));
	for (size_t i = 0; i < o->nr; i += 3)
		owners_give(o, i);
	pthread_join(thread, NULL);
	EXPECT(owners_stats(o->pool).failures == (int64_t)o->nr_refused);
	owners_end(o);
}

/* What is said */

static inline unsigned nr_said(const char *text, const char *what)
{
	unsigned n = 0;

	for (const char *at = text; (at = strstr(at, what)); at++)
		n++;
	return n;
}

/* One report and nothing else, from its first word to the last. */
static inline void expect_report(int fd)
{
	char text[16384];
	ssize_t len = pread(fd, text, sizeof(text) - 1, 0);

	EXPECT(len > 3);
	text[len] = '\0';
	EXPECT(strncmp(text, "pagepool: out of memory: asked ", 31) == 0);
	EXPECT(nr_said(text, "pagepool: out of memory: asked ") == 1);
	EXPECT(nr_said(text, "\npagepool: oom: {") == 1);
	EXPECT(strcmp(text + len - 3, "}}\n") == 0);
}

static inline void fail_and_listen(struct owners *o)
{
	int said = memfd_create("said", MFD_CLOEXEC), was = dup(2);
	void *p;

	EXPECT(said >= 0 && was >= 0);
	dup2(said, 2);
	p = pp_alloc_pages(o->pool, 64, 0);
	dup2(was, 2);
	if (!p)
		expect_report(said);
	owners_add(o, p, 64 * PAGE, NULL);
	close(was);
	close(said);
}

/* Ends by the signal, unless the request is served. */
static inline void child_that_aborts(struct owners *o, int said)
{
	struct rlimit none = { 0, 0 };

	setrlimit(RLIMIT_CORE, &none);
	dup2(said, 2);
	_exit(pp_alloc_pages(o->pool, 64, 0) ? 0 : FOUND_WRONG);
}

static inline void abort_in_child(struct owners *o)
{
	int said = memfd_create("said", MFD_CLOEXEC), status = -1;
	pid_t child;

	EXPECT(said >= 0);
	EXPECT(pp_pool_set(o->pool, "oom", "abort") == 0);
	owners_take(o, 64, 1, 0);
	child = fork();
	if (!child)
		child_that_aborts(o, said);
	EXPECT(waitpid(child, &status, 0) == child);
	if (status) {
		EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
		expect_report(said);
	}
	EXPECT(pp_pool_set(o->pool, "oom", "fail") == 0);
	close(said);
}

static inline void scene_report(struct owners *o)
{
	if (!begin(o, "8M", "2"))
		return;
	fill(o, 9, 0);
	fail_and_listen(o);
	fill(o, 9, 0);
	EXPECT(pp_last_failure() != PP_FAILURE_NONE);
	abort_in_child(o);
	EXPECT(pp_failure_name(pp_last_failure()));
	owners_end(o);
}

#endif
