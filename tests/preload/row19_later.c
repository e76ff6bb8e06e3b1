// SPDX-License-Identifier: MIT
/*
 * Row 19: a program with threads, from whom the kernel withholds something
 * after they have been at work for a while.  Nobody hangs or crashes, no byte
 * is lost, and what was freed can be used again.
 */
#include "filter.h"
#include <pthread.h>
#include <sys/mman.h>

enum { NR_THREADS = 6, NR_BLOCKS = 40, NR_STEPS = 4000 };

static const size_t sizes[] = {
	24, 500, 3000, 20000, 70000, 300000, 1200000,
};

#define NR_SIZES (sizeof(sizes) / sizeof(sizes[0]))

static pthread_barrier_t turn;
static unsigned nr_got, nr_refused;

struct block {
	unsigned char *start;
	size_t size;
	unsigned char byte;
};

static void drop_block(struct block *b)
{
	if (b->start)
		CHECK(all_bytes(b->start, b->byte, b->size));
	free(b->start);
	b->start = NULL;
}

static void make_block(struct block *b, size_t size, unsigned char byte)
{
	b->start = malloc(size);
	b->size = size;
	b->byte = byte;
	if (b->start)
		memset(b->start, byte, size);
	__atomic_add_fetch(b->start ? &nr_got : &nr_refused, 1,
			   __ATOMIC_RELAXED);
}

static void resize_block(struct block *b, size_t size)
{
	unsigned char *moved = b->start ? realloc(b->start, size) : NULL;

	if (!moved)
		return;
	b->start = moved;
	b->size = b->size < size ? b->size : size;
	CHECK(all_bytes(b->start, b->byte, b->size));
	memset(b->start, b->byte, size);
	b->size = size;
}

static void work(unsigned seed)
{
	struct block blocks[NR_BLOCKS] = { { NULL, 0, 0 } }, *b;
	int i;

	for (i = 0; i < NR_STEPS; i++) {
		seed = seed * 1103515245 + 12345;
		b = &blocks[(seed >> 16) % NR_BLOCKS];
		if ((seed >> 8) % 4 == 0) {
			resize_block(b, sizes[(seed >> 24) % NR_SIZES]);
			continue;
		}
		drop_block(b);
		make_block(b, sizes[(seed >> 24) % NR_SIZES],
			   (unsigned char)(seed >> 9));
	}
	for (i = 0; i < NR_BLOCKS; i++)
		drop_block(&blocks[i]);
}

/* Before, and once more after the call is refused. */
static void *worker(void *seed)
{
	work((unsigned)(uintptr_t)seed);
	pthread_barrier_wait(&turn);
	pthread_barrier_wait(&turn);
	work((unsigned)(uintptr_t)seed + 100);
	return NULL;
}

static void start_workers(pthread_t *threads)
{
	pthread_attr_t small;
	size_t i;

	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 128 << 10);
	pthread_barrier_init(&turn, NULL, NR_THREADS + 1);
	for (i = 0; i < NR_THREADS; i++)
		REQUIRE(!pthread_create(&threads[i], &small, worker,
					(void *)(uintptr_t)(i + 1)));
}

static size_t used_bytes(void)
{
	struct mallinfo2 info;

	malloc_trim(0);
	info = mallinfo2();
	return info.uordblks + info.hblkhd;
}

/* The threads at work before and after withhold(). */
static void with_threads(void (*withhold)(void))
{
	pthread_t threads[NR_THREADS];
	size_t i, before = used_bytes(), after;

	start_workers(threads);
	pthread_barrier_wait(&turn);
	withhold();
	nr_got = nr_refused = 0;
	pthread_barrier_wait(&turn);
	for (i = 0; i < NR_THREADS; i++)
		pthread_join(threads[i], NULL);
	CHECK(nr_got > nr_refused);
	after = used_bytes();
	if (!CHECK(after <= before + (1 << 20)))
		check_say("%zu bytes used, %zu before\n", after, before);
	/* What is committed and backed can be had in any size. */
	for (i = 0; i < NR_SIZES; i++)
		CHECK(fills_limit(sizes[i], 8));
	check_end();
}

static void refuse(const int *calls, size_t nr_calls, int error)
{
	if (!filter_calls(calls, nr_calls, error))
		check_skip("seccomp filters are not allowed here");
}

static void refuse_changes(void)
{
	static const int calls[] = { SYS_munmap, SYS_madvise, SYS_mprotect };

	refuse(calls, 3, ENOMEM);
}

static void no_changes_of_mappings(void)
{
	with_threads(refuse_changes);
}

static void refuse_madvise(void)
{
	static const int calls[] = { SYS_madvise };

	refuse(calls, 1, EPERM);
}

static void no_madvise(void)
{
	with_threads(refuse_madvise);
}

static void refuse_membarrier(void)
{
	static const int calls[] = { SYS_membarrier };

	refuse(calls, 1, ENOSYS);
}

static void no_membarrier(void)
{
	with_threads(refuse_membarrier);
}

static void refuse_new_things(void)
{
	static const int calls[] = {
		SYS_mbind, SYS_membarrier, SYS_mremap, SYS_io_uring_setup,
		SYS_memfd_create, SYS_clone, SYS_clone3, SYS_openat, SYS_prctl,
		SYS_sysinfo, SYS_getcpu,
	};

	refuse(calls, sizeof(calls) / sizeof(calls[0]), EPERM);
}

static void nothing_new(void)
{
	with_threads(refuse_new_things);
}

static void lower_address_space(void)
{
	struct rlimit now;

	now.rlim_cur = now.rlim_max = vsz_bytes() + 4096;
	REQUIRE(setrlimit(RLIMIT_AS, &now) == 0);
}

static void no_addresses(void)
{
	with_threads(lower_address_space);
}

static void lower_data(void)
{
	struct rlimit now = { 4096, 4096 };

	REQUIRE(setrlimit(RLIMIT_DATA, &now) == 0);
}

static void no_data(void)
{
	with_threads(lower_data);
}

/* Two mappings for each page whose neighbours have another protection. */
static void take_mappings(void)
{
	size_t nr = 300000, i;
	char *map = mmap(NULL, nr * 4096, PROT_READ, MAP_PRIVATE |
			 MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	REQUIRE(map != MAP_FAILED);
	for (i = 0; i + 1 < nr; i += 2)
		if (mprotect(map + i * 4096, 4096, PROT_NONE))
			return;
	check_skip("there is no end of mappings here");
}

static void no_mappings(void)
{
	with_threads(take_mappings);
}

/* No thread can be made when main() is gone: the program still ends. */
static void *last_thread(void *unused)
{
	pthread_barrier_wait(&turn);
	usleep(100000);
	free(malloc(100));
	check_say("done: by the last thread\n");
	return unused;
}

static void ends_without_new_threads(void)
{
	static const int calls[] = { SYS_clone, SYS_clone3 };
	pthread_t thread;

	pthread_barrier_init(&turn, NULL, 2);
	REQUIRE(!pthread_create(&thread, NULL, last_thread, NULL));
	refuse(calls, 2, EAGAIN);
	pthread_barrier_wait(&turn);
	pthread_exit(NULL);
}

/* RLIMIT_NPROC, which does not hold for root. */
static void *churn_thread(void *seed)
{
	work((unsigned)(uintptr_t)seed);
	return NULL;
}

static void process_limit(rlim_t nr)
{
	struct rlimit now = { nr, nr };
	unsigned nr_made = 0, i;
	pthread_t thread[8];
	int error;

	REQUIRE(setrlimit(RLIMIT_NPROC, &now) == 0);
	if (getuid() == 0 && setresuid(54321, 54321, 54321))
		check_skip("cannot become another user");
	for (i = 0; i < 8; i++) {
		error = pthread_create(&thread[nr_made], NULL, churn_thread,
				       (void *)(uintptr_t)i);
		CHECK(error == 0 || error == EAGAIN);
		nr_made += !error;
		work(i);
	}
	for (i = 0; i < nr_made; i++)
		pthread_join(thread[i], NULL);
	for (i = 0; i < NR_SIZES; i++)
		CHECK(fills_limit(sizes[i], on_pagepool() ? 90 : 8));
	check_end();
}

static void no_process_more(void)
{
	process_limit(0);
}

static void few_processes_more(void)
{
	process_limit(4);
}

static const struct check_case cases[] = {
	{ "no_changes_of_mappings", no_changes_of_mappings },
	{ "no_madvise", no_madvise },
	{ "no_membarrier", no_membarrier },
	{ "nothing_new", nothing_new },
	{ "no_addresses", no_addresses },
	{ "no_data", no_data },
	{ "no_mappings", no_mappings },
	{ "ends_without_new_threads", ends_without_new_threads },
	{ "no_process_more", no_process_more },
	{ "few_processes_more", few_processes_more },
};

CHECK_MAIN(cases)
