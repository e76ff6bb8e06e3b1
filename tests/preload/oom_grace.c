// SPDX-License-Identifier: MIT
/*
 * A thread that was just told that there is no memory gets a little: enough
 * for the message, the exception or the reply that say so, for 100 ms or until
 * it is served as usual.  Others get nothing of it, large requests neither,
 * and there is an end to it.
 *
 * Each case first fills the pool down to its min mark, pages and every size
 * used here, and waits after each failure: what is served then comes out of the
 * reserve.  A thread that was not in time, as on a busy machine, tries again.
 */
#include "check.h"
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <time.h>

#define NS_PER_MS	1000000ull
#define GRACE_NS	(100 * NS_PER_MS)
#define IN_TIME_NS	(80 * NS_PER_MS)
#define OVER_NS		(130 * NS_PER_MS)
#define LARGE_BYTES	(1u << 20)
#define SPARE_BYTES	(64u << 10)
/* More than lies between min and low. */
#define MUCH_BYTES (1u << 20)
#define MAX_ATTEMPTS	30
#define NR_PAIRS	2000

static const size_t small_sizes[] = { 100, 250, 500, 1000, 1500, 2000 };
#define NR_SIZES (sizeof(small_sizes) / sizeof(small_sizes[0]))
#define NR_SMALL (4 * NR_SIZES)

/* Requests of a thread in its grace, and what it got. */
struct small {
	unsigned char *block[NR_SMALL];
	unsigned nr;
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void wait_until_ns(uint64_t until)
{
	struct timespec ts = {
		.tv_sec = (time_t)(until / 1000000000u),
		.tv_nsec = (long)(until % 1000000000u),
	};

	while (now_ns() < until)
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
}

/* Whatever failed before this was called is forgotten when it returns. */
static void let_it_pass(void)
{
	wait_until_ns(now_ns() + OVER_NS);
}

/* From the largest size down, so that no hole is left for another. */
static void fill_up(void **head)
{
	static const size_t pages[] = { LARGE_BYTES, SPARE_BYTES, 20000 };

	if (!on_pagepool())
		check_skip("libc's malloc has no reserve");
	for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++) {
		CHECK(fill(head, pages[i]) > 0 || pages[i] == 20000);
		let_it_pass();
	}
	for (size_t i = NR_SIZES; i-- > 0; let_it_pass())
		fill(head, small_sizes[i]);
}

static bool large_fails(void)
{
	void *block;

	errno = 0;
	block = malloc(opaque(LARGE_BYTES));
	free(block);
	return !block && errno == ENOMEM;
}

/* Nothing of this size, to a thread that has no grace; it has one then. */
static bool is_refused(size_t size)
{
	void *block;

	errno = 0;
	block = malloc(opaque(size));
	free(block);
	return !block && errno == ENOMEM;
}

static bool take(struct small *small)
{
	for (small->nr = 0; small->nr < NR_SMALL; small->nr++) {
		size_t size = small_sizes[small->nr % NR_SIZES];
		unsigned char *block = malloc(opaque(size));

		if (!block)
			return false;
		memset(block, (int)small->nr + 1, size);
		small->block[small->nr] = block;
	}
	return true;
}

/* All of them, each still what was written to it. */
static void give(struct small *small)
{
	for (unsigned i = 0; i < small->nr; i++) {
		CHECK(all_bytes(small->block[i], (int)i + 1,
				small_sizes[i % NR_SIZES]));
		free(small->block[i]);
	}
	small->nr = 0;
}

/*
 * Lets a request fail and makes the small ones.  True: they were served, and
 * @small has them.  Late is not wrong: then once more.
 */
static bool served_after(bool (*fails)(void), struct small *small)
{
	for (unsigned i = 0; i < MAX_ATTEMPTS; i++) {
		uint64_t start = now_ns();

		if (!CHECK(fails()))
			return false;
		if (take(small))
			return true;
		if (now_ns() - start < IN_TIME_NS) {
			check_say("%u of %zu small ones were served\n",
				  small->nr, NR_SMALL);
			give(small);
			return false;
		}
		give(small);
	}
	check_say("never in time\n");
	return false;
}

static void small_requests_after_a_large_one(void)
{
	void *head = NULL;
	struct small small;

	fill_up(&head);
	for (unsigned round = 0; round < 5; round++) {
		CHECK(served_after(large_fails, &small));
		give(&small);
		let_it_pass();
	}
	drop(&head);
	check_end();
}

static bool small_fails(void)
{
	let_it_pass();
	return is_refused(500);
}

/* A thread's own small requests begin it as well, and again and again. */
static void small_requests_after_a_small_one(void)
{
	void *head = NULL;
	struct small small;

	fill_up(&head);
	for (unsigned round = 0; round < 3; round++) {
		/* The wait is in it, so no time is to be kept here. */
		CHECK(small_fails());
		CHECK(take(&small));
		give(&small);
	}
	drop(&head);
	check_end();
}

static bool calloc_fails(void)
{
	return !calloc(opaque(LARGE_BYTES / 16), 16);
}

/* Allocated before the pool was full; it stays. */
static void *to_grow;

static bool realloc_fails(void)
{
	return !realloc(to_grow, opaque(LARGE_BYTES));
}

static bool memalign_fails(void)
{
	void *block;

	return posix_memalign(&block, 64, opaque(LARGE_BYTES)) == ENOMEM;
}

static void after_every_function(void)
{
	static bool (*const fails[])(void) = {
		calloc_fails, realloc_fails, memalign_fails,
	};
	struct small small;
	void *head = NULL;

	to_grow = malloc(100);
	REQUIRE(to_grow != NULL);
	fill_up(&head);
	for (size_t i = 0; i < sizeof(fails) / sizeof(fails[0]); i++) {
		CHECK(served_after(fails[i], &small));
		give(&small);
		let_it_pass();
	}
	free(to_grow);
	drop(&head);
	check_end();
}

/* What writes a message: every function that allocates, and stdio. */
static bool message_is_made(void)
{
	char *text = NULL, *copy, *more, *zeroes;
	FILE *log = fopen("/dev/null", "w");
	void *aligned = NULL;
	bool made = false;

	zeroes = calloc(3, 100);
	if (asprintf(&text, "%s: %0300d", "out of memory", 1) < 0)
		text = NULL;
	copy = text ? strdup(text) : NULL;
	more = copy ? realloc(copy, 2000) : NULL;
	if (log && zeroes && more && all_bytes(zeroes, 0, 300) &&
	    !posix_memalign(&aligned, 64, 500))
		made = fprintf(log, "%s\n", more) > 300;
	if (log)
		made = !fclose(log) && made;
	free(aligned);
	free(more ? more : copy);
	free(text);
	free(zeroes);
	return made;
}

static void a_message_can_be_made(void)
{
	bool made = false, late = true;
	void *head = NULL;

	fill_up(&head);
	for (unsigned i = 0; i < MAX_ATTEMPTS && late && !made; i++) {
		uint64_t start = now_ns();

		CHECK(large_fails());
		made = message_is_made();
		late = now_ns() - start > IN_TIME_NS;
	}
	CHECK(made);
	drop(&head);
	check_end();
}

static void nothing_when_the_time_is_over(void)
{
	void *head = NULL;

	fill_up(&head);
	for (size_t i = 0; i < NR_SIZES; i++) {
		CHECK(large_fails());
		let_it_pass();
		CHECK(is_refused(small_sizes[i]));
	}
	drop(&head);
	check_end();
}

/* Nor from the slabs that the reserve's pages have become. */
static void nothing_of_what_is_left_of_it(void)
{
	void *head = NULL;
	struct small small;

	fill_up(&head);
	CHECK(served_after(large_fails, &small));
	for (size_t i = 0; i < NR_SIZES; i++) {
		let_it_pass();
		if (!CHECK(is_refused(small_sizes[i])))
			check_say("size %zu\n", small_sizes[i]);
	}
	give(&small);
	drop(&head);
	check_end();
}

/* A run that was served while there is more than the low mark: memory is there
 * again, even if it is gone soon after. */
static void a_success_ends_it(void)
{
	void *spare = malloc(SPARE_BYTES), *much = malloc(MUCH_BYTES);
	void *head = NULL;
	struct small small;

	fill_up(&head);
	for (size_t i = 0; i < NR_SIZES; i++) {
		CHECK(served_after(large_fails, &small));
		give(&small);
		CHECK(large_fails());
		free(spare);
		free(much);
		spare = malloc(opaque(SPARE_BYTES));
		much = malloc(opaque(MUCH_BYTES));
		CHECK(spare && much);
		if (!CHECK(is_refused(small_sizes[i])))
			check_say("size %zu\n", small_sizes[i]);
		let_it_pass();
	}
	free(spare);
	free(much);
	drop(&head);
	check_end();
}

/* A message takes objects of many sizes.  That one of them happens to be left
 * in some slab does not say that there is memory again for the others. */
static void an_object_left_over_does_not_end_it(void)
{
	void *left[NR_SIZES], *head = NULL;
	struct small small;

	for (size_t i = 0; i < NR_SIZES; i++)
		left[i] = malloc(small_sizes[i]);
	fill_up(&head);
	for (size_t i = 0; i < NR_SIZES; i++) {
		free(left[i]);
		REQUIRE(served_after(large_fails, &small));
		/* Full again, as it was. */
		left[i] = small.block[i];
		small.block[i] = NULL;
		for (unsigned k = 0; k < small.nr; k++)
			free(small.block[k]);
		let_it_pass();
	}
	for (size_t i = 0; i < NR_SIZES; i++)
		free(left[i]);
	drop(&head);
	check_end();
}

static bool pairs_are_served(void)
{
	for (unsigned i = 0; i < NR_PAIRS; i++) {
		char *block = malloc(opaque(small_sizes[i % NR_SIZES]));

		if (!block)
			return false;
		memset(block, 1, small_sizes[i % NR_SIZES]);
		free(block);
	}
	return true;
}

/* An interpreter takes and frees hundreds of objects for one message. */
static void what_is_freed_may_be_taken_again(void)
{
	bool served = false, late = true;
	void *head = NULL;

	fill_up(&head);
	for (unsigned i = 0; i < MAX_ATTEMPTS && late && !served; i++) {
		uint64_t start = now_ns();

		CHECK(large_fails());
		served = pairs_are_served();
		late = now_ns() - start > IN_TIME_NS;
	}
	CHECK(served);
	drop(&head);
	check_end();
}

static void only_small_ones(void)
{
	void *head = NULL;

	fill_up(&head);
	for (unsigned i = 0; i < 1000; i++)
		CHECK(large_fails());
	drop(&head);
	check_end();
}

/* All that a thread can have of it; it is there again for the next time. */
static void it_has_an_end_and_comes_back(void)
{
	size_t most = limit_bytes() / 8, start = resident_bytes();
	void *head = NULL, *grace;
	struct small small;

	fill_up(&head);
	for (unsigned round = 0; round < 5; round++) {
		grace = NULL;
		CHECK(large_fails());
		CHECK(fill_up_to(&grace, 1000, most / 1000) < most / 1000);
		CHECK(resident_bytes() <=
		      start + limit_bytes() + (256 << 10));
		drop(&grace);
		let_it_pass();
		CHECK(served_after(large_fails, &small));
		give(&small);
		let_it_pass();
	}
	drop(&head);
	check_end();
}

/* A thread that waits to be asked, and its answer. */
static struct {
	pthread_t thread;
	sem_t asked, answered;
	size_t size;			/* 0: end */
	bool refused;
} stranger;

static void *stranger_main(void *unused)
{
	for (;;) {
		while (sem_wait(&stranger.asked))
			;
		if (!stranger.size)
			return unused;
		stranger.refused = is_refused(stranger.size);
		sem_post(&stranger.answered);
	}
}

static void stranger_start(void)
{
	sem_init(&stranger.asked, 0, 0);
	sem_init(&stranger.answered, 0, 0);
	REQUIRE(!pthread_create(&stranger.thread, NULL, stranger_main, NULL));
}

static bool stranger_is_refused(size_t size)
{
	stranger.size = size;
	sem_post(&stranger.asked);
	while (sem_wait(&stranger.answered))
		;
	return stranger.refused;
}

static void stranger_end(void)
{
	stranger.size = 0;
	sem_post(&stranger.asked);
	pthread_join(stranger.thread, NULL);
}

/* Before the thread that failed took anything, and when it has. */
static void nothing_for_a_stranger(void)
{
	void *head = NULL;
	struct small small;

	if (on_pagepool())
		stranger_start();
	fill_up(&head);
	for (size_t i = 0; i < NR_SIZES; i++) {
		CHECK(large_fails());
		CHECK(stranger_is_refused(small_sizes[i]));
		let_it_pass();
		CHECK(served_after(large_fails, &small));
		if (!CHECK(stranger_is_refused(small_sizes[i])))
			check_say("size %zu\n", small_sizes[i]);
		give(&small);
		let_it_pass();
	}
	stranger_end();
	drop(&head);
	check_end();
}

enum { NR_THREADS = 4 };

static pthread_barrier_t barrier;

static void *fail_and_take(void *unused)
{
	struct small small;

	pthread_barrier_wait(&barrier);
	/* All of them have what they took at one time. */
	for (unsigned round = 0; round < 20; round++) {
		pthread_barrier_wait(&barrier);
		CHECK(served_after(large_fails, &small));
		pthread_barrier_wait(&barrier);
		give(&small);
	}
	return unused;
}

static void many_threads_at_once(void)
{
	pthread_t threads[NR_THREADS];
	void *head = NULL;

	pthread_barrier_init(&barrier, NULL, NR_THREADS + 1);
	for (unsigned i = 0; on_pagepool() && i < NR_THREADS; i++)
		REQUIRE(!pthread_create(&threads[i], NULL, fail_and_take,
					NULL));
	fill_up(&head);
	pthread_barrier_wait(&barrier);
	for (unsigned round = 0; round < 20; round++) {
		pthread_barrier_wait(&barrier);
		pthread_barrier_wait(&barrier);
	}
	for (unsigned i = 0; i < NR_THREADS; i++)
		pthread_join(threads[i], NULL);
	drop(&head);
	check_end();
}

static void *give_them(void *small)
{
	give(small);
	return NULL;
}

/* What was taken is memory like any other, also for who frees it. */
static void what_was_taken_may_be_kept(void)
{
	struct small small;
	pthread_t thread;
	void *head = NULL;

	fill_up(&head);
	CHECK(served_after(large_fails, &small));
	drop(&head);
	CHECK(fills_limit(1500, 90));
	REQUIRE(!pthread_create(&thread, NULL, give_them, &small));
	pthread_join(thread, NULL);
	CHECK(fills_limit(100, 90));
	CHECK(fills_limit(LARGE_BYTES, 90));
	check_end();
}

static const struct check_case cases[] = {
	{ "small_requests_after_a_large_one",
	  small_requests_after_a_large_one },
	{ "small_requests_after_a_small_one",
	  small_requests_after_a_small_one },
	{ "after_every_function", after_every_function },
	{ "a_message_can_be_made", a_message_can_be_made },
	{ "nothing_when_the_time_is_over", nothing_when_the_time_is_over },
	{ "nothing_of_what_is_left_of_it", nothing_of_what_is_left_of_it },
	{ "a_success_ends_it", a_success_ends_it },
	{ "an_object_left_over_does_not_end_it",
	  an_object_left_over_does_not_end_it },
	{ "what_is_freed_may_be_taken_again",
	  what_is_freed_may_be_taken_again },
	{ "only_small_ones", only_small_ones },
	{ "it_has_an_end_and_comes_back", it_has_an_end_and_comes_back },
	{ "nothing_for_a_stranger", nothing_for_a_stranger },
	{ "many_threads_at_once", many_threads_at_once },
	{ "what_was_taken_may_be_kept", what_was_taken_may_be_kept },
};

CHECK_MAIN(cases)
