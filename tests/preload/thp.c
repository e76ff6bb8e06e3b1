// SPDX-License-Identifier: MIT
/*
 * Transparent huge pages: whatever the setting and the system's, what is
 * resident stays within the limit.  Threads allocate and free at random with
 * the pool full most of the time; now and then all of them stop, blocks are
 * made huge as khugepaged might (MADV_COLLAPSE), and the kernel's own books
 * (smaps) are added up.
 *
 * PP_EXPECT_HUGE: none, long (runs only) or all.
 */
#include "check.h"
#include <malloc.h>
#include <pthread.h>
#include <sys/mman.h>
#include <time.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define MIB		((size_t)1 << 20)
#define BLOCK		(2 * MIB)
#define NR_THREADS	4
#define NR_SLOTS	4000
#define NR_ROUNDS	25
#define STEPS_A_ROUND	3000
#define MAX_SMALL	10000
/* Neighbours of the pool's addresses, and stacks. */
#define SLACK_BYTES	MIB

/* The kernel's books, without an allocation */

struct books {
	size_t all_bytes, pool_bytes, huge_bytes, pool_end;
};

static char *pool_base;

static size_t number_after(const char *line, const char *name)
{
	size_t len = strlen(name);

	return strncmp(line, name, len) ? 0 :
	       strtoull(line + len, NULL, 10) * 1024;
}

/* A line of smaps: of a mapping, or a number of the last one.  The pool's are
 * those in a row from its base on. */
static void read_books_line(struct books *b, const char *line, bool *of_pool)
{
	size_t start, end, rss;

	if (sscanf(line, "%zx-%zx ", &start, &end) == 2) {
		*of_pool = start == b->pool_end;
		if (*of_pool)
			b->pool_end = end;
		return;
	}
	rss = number_after(line, "Rss:");
	b->all_bytes += rss;
	if (*of_pool) {
		b->pool_bytes += rss;
		b->huge_bytes += number_after(line, "AnonHugePages:");
	}
}

static struct books read_books(void)
{
	struct books b = { .pool_end = (size_t)pool_base };
	static char text[65536];
	size_t have = 0;
	bool of_pool = false;
	ssize_t got;
	char *line, *end;
	int fd = open("/proc/self/smaps", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		check_skip("no /proc/self/smaps");
	while ((got = read(fd, text + have, sizeof(text) - 1 - have)) > 0) {
		have += (size_t)got;
		text[have] = '\0';
		for (line = text; (end = strchr(line, '\n')); line = end + 1) {
			*end = '\0';
			read_books_line(&b, line, &of_pool);
		}
		have -= (size_t)(line - text);
		memmove(text, line, have);
	}
	close(fd);
	return b;
}

/* The first block of the pool is its base: nothing was freed there yet. */
static void find_pool(void)
{
	void *first = malloc(64);

	pool_base = (char *)((uintptr_t)first & ~(BLOCK - 1));
	free(first);
	REQUIRE(read_books().pool_end > (size_t)pool_base);
}

static bool has_memory(char *block)
{
	unsigned char resident[BLOCK / 4096];

	if (mincore(block, BLOCK, resident))
		return false;
	for (size_t i = 0; i < sizeof(resident); i++)
		if (resident[i] & 1)
			return true;
	return false;
}

/* Blocks that were used at some time stand in a row from the base on. */
static size_t collapse_all(size_t nr_blocks)
{
	size_t nr = 0;

	for (char *at = pool_base; nr_blocks--; at += BLOCK)
		if (has_memory(at) && !madvise(at, BLOCK, MADV_COLLAPSE))
			nr++;
	return nr;
}

/* Threads at the limit */

struct worker {
	pthread_t thread;
	unsigned number;
	uint64_t random;
	char *slot[NR_SLOTS];
	size_t size[NR_SLOTS];
};

static struct worker worker[NR_THREADS];
static pthread_barrier_t stop, go;
static size_t refusals, dirty;

static size_t random_below(struct worker *w, size_t n)
{
	w->random ^= w->random << 13;
	w->random ^= w->random >> 7;
	w->random ^= w->random << 17;
	return (size_t)(w->random >> 8) % n;
}

static size_t random_size(struct worker *w)
{
	switch (random_below(w, 64)) {
	case 0:
		return 1 + random_below(w, 12 * MIB);
	case 1: case 2:
		return 1 + random_below(w, MIB);
	case 3: case 4: case 5: case 6: case 7: case 8:
		return 1 + random_below(w, 64 * 1024);
	}
	return 1 + random_below(w, 8192);
}

static void take(struct worker *w, size_t i)
{
	size_t size = random_size(w);
	bool zero = random_below(w, 4) == 0;
	char *p = (char *)(zero ? calloc(1, size) : malloc(size));

	if (!p) {
		__atomic_add_fetch(&refusals, 1, __ATOMIC_RELAXED);
		return;
	}
	if (zero && !all_bytes(p, 0, size))
		__atomic_add_fetch(&dirty, 1, __ATOMIC_RELAXED);
	memset(p, (int)(i & 127) + 1, size);
	w->slot[i] = p;
	w->size[i] = size;
}

static void resize(struct worker *w, size_t i)
{
	size_t size = random_size(w), kept;
	char *p = (char *)realloc(w->slot[i], size);

	if (!p)
		return;
	kept = size < w->size[i] ? size : w->size[i];
	if (!all_bytes(p, (int)(i & 127) + 1, kept))
		__atomic_add_fetch(&dirty, 1, __ATOMIC_RELAXED);
	memset(p, (int)(i & 127) + 1, size);
	w->slot[i] = p;
	w->size[i] = size;
}

static void drop_slot(struct worker *w, size_t i)
{
	if (!all_bytes(w->slot[i], (int)(i & 127) + 1, w->size[i]))
		__atomic_add_fetch(&dirty, 1, __ATOMIC_RELAXED);
	free(w->slot[i]);
	w->slot[i] = NULL;
}

static void step(struct worker *w, bool fill)
{
	size_t i = random_below(w, NR_SLOTS);

	if (!w->slot[i])
		take(w, i);
	else if (random_below(w, 8) == 0)
		resize(w, i);
	else if (!fill || random_below(w, 2))
		drop_slot(w, i);
}

static void *work(void *arg)
{
	struct worker *w = (struct worker *)arg;

	for (unsigned round = 0; round < NR_ROUNDS; round++) {
		for (unsigned n = 0; n < STEPS_A_ROUND; n++)
			step(w, round % 4 != 3);
		if (round % 8 == 7)
			for (size_t i = 0; i < NR_SLOTS; i += 2)
				if (w->slot[i])
					drop_slot(w, i);
		pthread_barrier_wait(&stop);
		pthread_barrier_wait(&go);
	}
	for (size_t i = 0; i < NR_SLOTS; i++)
		if (w->slot[i])
			drop_slot(w, i);
	return NULL;
}

static void test_within_limit(void)
{
	size_t limit = limit_bytes(), collapsed = 0, most = 0, huge = 0;
	struct books before, now;

	if (!on_pagepool())
		check_skip("libc's malloc has no limit for what is resident");
	find_pool();
	before = read_books();
	pthread_barrier_init(&stop, NULL, NR_THREADS + 1);
	pthread_barrier_init(&go, NULL, NR_THREADS + 1);
	for (unsigned i = 0; i < NR_THREADS; i++) {
		worker[i].number = i;
		worker[i].random = 88172645463325252ull + i * 1234567;
		REQUIRE(!pthread_create(&worker[i].thread, NULL, work,
					&worker[i]));
	}
	for (unsigned round = 0; round < NR_ROUNDS; round++) {
		pthread_barrier_wait(&stop);
		now = read_books();
		CHECK(now.pool_bytes <= limit);
		huge = now.huge_bytes > huge ? now.huge_bytes : huge;
		collapsed += collapse_all(2 * limit / BLOCK);
		now = read_books();
		if (!CHECK(now.pool_bytes <= limit + SLACK_BYTES / 4) ||
		    !CHECK(now.all_bytes <= before.all_bytes + limit +
					    SLACK_BYTES + sizeof(worker)))
			check_say("round %u: pool %zu all %zu before %zu\n",
				  round, now.pool_bytes, now.all_bytes,
				  before.all_bytes);
		most = now.pool_bytes > most ? now.pool_bytes : most;
		pthread_barrier_wait(&go);
	}
	for (unsigned i = 0; i < NR_THREADS; i++)
		pthread_join(worker[i].thread, NULL);
	CHECK(dirty == 0);
	CHECK(refusals > 0);
	CHECK(most > limit / 2);
	check_say("most %zu KiB, huge %zu KiB, %zu collapsed, %zu refusals\n",
		  most / 1024, huge / 1024, collapsed, refusals);
	check_end();
}

/* Which of a program's memory gets huge pages */

static bool expects(const char *what)
{
	const char *text = getenv("PP_EXPECT_HUGE");

	return text && !strcmp(text, what);
}

static void test_huge_pages_where_expected(void)
{
	struct books b;
	void *head = NULL;
	char *p;

	if (!on_pagepool() || !getenv("PP_EXPECT_HUGE"))
		check_skip("expects nothing");
	find_pool();
	fill_up_to(&head, 1000, 20000);
	b = read_books();
	check_say("small: %zu KiB huge\n", b.huge_bytes / 1024);
	CHECK((b.huge_bytes > 0) == expects("all"));
	drop(&head);
	malloc_trim(0);
	p = (char *)opaque_ptr(malloc(64 * MIB));
	REQUIRE(p);
	memset(p, 1, 64 * MIB);
	b = read_books();
	check_say("64 MiB: %zu KiB huge\n", b.huge_bytes / 1024);
	if (expects("none"))
		CHECK(b.huge_bytes == 0);
	else
		CHECK(b.huge_bytes >= 32 * MIB);
	free(p);
	check_end();
}

/* After a long run with huge pages, small ones everywhere in its addresses:
 * and half of them freed, and what that leaves for others. */
static void test_long_runs_become_small_ones(void)
{
	size_t limit = limit_bytes(), nr = 0, most = 0;
	static void *small[MAX_SMALL];
	struct books b;
	char *p;

	if (!on_pagepool())
		check_skip("libc's malloc has no limit for what is resident");
	find_pool();
	for (unsigned round = 0; round < 3; round++) {
		p = (char *)opaque_ptr(malloc(limit / 10 * 9));
		REQUIRE(p);
		memset(p, 1, limit / 10 * 9);
		p = (char *)realloc(p, limit / 2);
		free(p);
		/* Runs of their own, so that each is memory for others. */
		while (nr < MAX_SMALL && (small[nr] = malloc(20000))) {
			memset(small[nr], 1, 20000);
			nr++;
		}
		for (size_t i = 0; i < nr; i += 2)
			free(small[i]);
		p = (char *)calloc(1, limit / 10 * 4);
		REQUIRE(p);
		CHECK(all_bytes(p, 0, limit / 10 * 4));
		memset(p, 1, limit / 10 * 4);
		collapse_all(2 * limit / BLOCK);
		b = read_books();
		CHECK(b.pool_bytes <= limit + SLACK_BYTES / 4);
		most = b.pool_bytes > most ? b.pool_bytes : most;
		free(p);
		for (size_t i = 1; i < nr; i += 2)
			free(small[i]);
		nr = 0;
		CHECK(fills_limit(100000, 95));
	}
	check_say("most %zu KiB\n", most / 1024);
	check_end();
}

/* What a setting gives: 64 MiB that are fresh from the kernel. */

static unsigned long now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (unsigned long)now.tv_sec * 1000000 +
	       (unsigned long)now.tv_nsec / 1000;
}

static int by_number(const void *a, const void *b)
{
	const unsigned long *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

#define NR_TOUCHES 21

static void test_first_touch(void)
{
	unsigned long one[NR_TOUCHES], many[NR_TOUCHES];
	void *head = NULL;

	for (unsigned i = 0; i < NR_TOUCHES; i++) {
		unsigned long start = now_us();
		char *p = (char *)opaque_ptr(malloc(64 * MIB));

		REQUIRE(p);
		for (size_t at = 0; at < 64 * MIB; at += 4096)
			p[at] = 1;
		one[i] = now_us() - start;
		free(p);
		malloc_trim(0);
		start = now_us();
		fill_up_to(&head, 1024, 64 * MIB / 1024);
		many[i] = now_us() - start;
		drop(&head);
		malloc_trim(0);
	}
	qsort(one, NR_TOUCHES, sizeof(*one), by_number);
	qsort(many, NR_TOUCHES, sizeof(*many), by_number);
	check_say("64 MiB in one block: %lu us, in blocks of 1 KiB: %lu us\n",
		  one[NR_TOUCHES / 2], many[NR_TOUCHES / 2]);
	check_end();
}

static const struct check_case cases[] = {
	{ "first_touch", test_first_touch },
	{ "within_limit", test_within_limit },
	{ "huge_pages_where_expected", test_huge_pages_where_expected },
	{ "long_runs_become_small_ones", test_long_runs_become_small_ones },
};

CHECK_MAIN(cases)
