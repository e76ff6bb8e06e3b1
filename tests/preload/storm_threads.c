// SPDX-License-Identifier: MIT
/*
 * The storm: threads come and go by the tens of thousands, 64 of them alive at
 * a time, each allocating and freeing what others allocated, while one keeps
 * the pool at its limit so that requests fail; meanwhile others fork children
 * that use the pool, load and unload a plugin, and the threads cancel each
 * other where they wait.
 *
 * In the end the books are as they were: every page that is neither free nor
 * in use by what was there before is a leak.  Nothing may take the threads that
 * drain caches more than twenty times a second.
 */
#include "storm.h"
#include <sched.h>
#include <sys/mman.h>

enum {
	NR_ALIVE = 64,
	NR_THREADS = 20000,
	NR_WARM_UP = 300,
	NR_FORKERS = 2,
	NR_QUEUE = 256,
	NR_OWN = 6,
	STACK_BYTES = 64 << 10,
};

/* What is handed over.  Its first and last words tell whether it is whole. */
struct item {
	uint64_t tag;
	size_t size;
};

struct place {
	pthread_mutex_t lock;
	pthread_t thread;	/* lock */
	bool alive;		/* lock: may be cancelled */
	char *stack;
	sem_t go;
	uint64_t random;
};

static struct place places[NR_ALIVE];
static struct item *queue[NR_QUEUE];
static pthread_key_t key;
static bool storm_is_ending;
static uint64_t seed;

static unsigned long nr_cancelled, nr_refused, nr_not_created, nr_forked,
		     nr_loaded, nr_not_loaded;

static void count(unsigned long *what)
{
	__atomic_add_fetch(what, 1, __ATOMIC_RELAXED);
}

static bool is_ending(void)
{
	return __atomic_load_n(&storm_is_ending, __ATOMIC_ACQUIRE);
}

/* Items */

static uint64_t *last_word(struct item *item)
{
	return (uint64_t *)((char *)item + item->size) - 1;
}

static size_t draw_size(uint64_t *random)
{
	static const size_t most[] = {
		200, 200, 200, 1000, 1000, 5000, 30000, 200000,
	};
	uint64_t r = storm_random(random);

	return (32 + r / 8 % most[r % 8]) & ~(size_t)7;
}

static struct item *make(uint64_t *random)
{
	size_t size = draw_size(random);
	struct item *item = malloc(size);

	if (!item) {
		CHECK(errno == ENOMEM);
		count(&nr_refused);
		return NULL;
	}
	item->tag = storm_random(random);
	item->size = size;
	*last_word(item) = ~item->tag;
	return item;
}

static void unmake(void *thing)
{
	struct item *item = thing;

	if (!item)
		return;
	CHECK(*last_word(item) == ~item->tag);
	free(item);
}

/* Leaves one for others, and frees what one of them left. */
static void hand_over(uint64_t *random)
{
	struct item *mine = make(random);

	unmake(__atomic_exchange_n(&queue[storm_random(random) % NR_QUEUE],
				   mine, __ATOMIC_ACQ_REL));
}

static void empty_queue(void)
{
	for (size_t i = 0; i < NR_QUEUE; i++)
		unmake(__atomic_exchange_n(&queue[i], NULL, __ATOMIC_ACQ_REL));
}

/* The threads that come and go */

/* Somebody, perhaps oneself. */
static void cancel_one(uint64_t *random)
{
	struct place *victim = &places[storm_random(random) % NR_ALIVE];

	pthread_mutex_lock(&victim->lock);
	if (victim->alive)
		pthread_cancel(victim->thread);
	pthread_mutex_unlock(&victim->lock);
}

static void drop_own(void *thing)
{
	struct item **own = thing;

	for (size_t i = 0; i < NR_OWN; i++)
		unmake(own[i]);
}

static void work(struct place *place, struct item **own)
{
	uint64_t *random = &place->random;

	for (size_t i = 0; i < NR_OWN; i++) {
		own[i] = make(random);
		hand_over(random);
		if (storm_random(random) % 16 == 0)
			pthread_testcancel();
	}
	if (storm_random(random) % 8 == 0)
		cancel_one(random);
	/* Until others have come after it; may be cancelled here. */
	while (sem_wait(&place->go) && errno == EINTR)
		;
	hand_over(random);
}

static void *life(void *arg)
{
	struct item *own[NR_OWN] = { NULL };
	struct place *place = arg;

	/* Freed by its destructor, which comes after ours at times. */
	pthread_setspecific(key, make(&place->random));
	pthread_cleanup_push(drop_own, own);
	work(place, own);
	pthread_cleanup_pop(1);
	storm_done_one();
	return NULL;
}

/* libc may get no memory for a thread; then it says so. */
static void start(struct place *place)
{
	pthread_attr_t attr;
	pthread_t thread;
	int err;

	pthread_attr_init(&attr);
	pthread_attr_setstack(&attr, place->stack, STACK_BYTES);
	while ((err = pthread_create(&thread, &attr, life, place))) {
		REQUIRE(err == EAGAIN || err == ENOMEM);
		count(&nr_not_created);
		storm_nap_us(1000);
	}
	pthread_attr_destroy(&attr);
	pthread_mutex_lock(&place->lock);
	place->thread = thread;
	place->alive = true;
	pthread_mutex_unlock(&place->lock);
}

static void finish(struct place *place)
{
	pthread_t thread;
	void *result;

	pthread_mutex_lock(&place->lock);
	place->alive = false;
	thread = place->thread;
	pthread_mutex_unlock(&place->lock);
	sem_post(&place->go);
	REQUIRE(!pthread_join(thread, &result));
	CHECK(result == NULL || result == PTHREAD_CANCELED);
	if (result == PTHREAD_CANCELED)
		count(&nr_cancelled);
	/* A cancelled one did not wait for it. */
	while (sem_trywait(&place->go) == 0)
		;
}

static void come_and_go(size_t nr_threads)
{
	for (size_t i = 0; i < nr_threads + NR_ALIVE; i++) {
		struct place *place = &places[i % NR_ALIVE];

		if (i >= NR_ALIVE && i - NR_ALIVE < nr_threads)
			finish(place);
		if (i < nr_threads)
			start(place);
	}
}

/* What goes on beside them */

/* Takes all there is, and gives an eighth of it back. */
static void *keep_at_limit(void *unused)
{
	static const size_t sizes[] = { 300, 4000, 64 << 10, 1 << 20 };
	void *head[4] = { NULL };
	size_t nr[4] = { 0 }, lap = 0;

	for (; !is_ending(); lap++) {
		size_t k = lap % 4;

		nr[k] += fill_up_to(&head[k], sizes[k], SIZE_MAX);
		count(&nr_refused);
		for (size_t i = nr[k] / 8; i; i--, nr[k]--) {
			void **next = *(void **)head[k];

			free(head[k]);
			head[k] = next;
		}
		storm_nap_us(2000);
	}
	for (size_t k = 0; k < 4; k++)
		drop(&head[k]);
	return unused;
}

static void *child_thread(void *random)
{
	for (size_t i = 0; i < 50; i++)
		unmake(make(random));
	return NULL;
}

/* A child has one thread, and a second one only if it makes it. */
static void child_with_thread(uint64_t *random)
{
	pthread_t thread;
	unsigned nr;

	if (pthread_create(&thread, NULL, child_thread, random))
		return;
	nr = storm_find_reclaimd().nr;
	CHECK(nr <= 1);
	pthread_join(thread, NULL);
	CHECK(storm_tasks_become(2, 1));
}

static void child(unsigned long lap, uint64_t random)
{
	struct item *item[40];

	storm_child_begin();
	for (size_t i = 0; i < 40; i++)
		item[i] = make(&random);
	CHECK(storm_pool_call("pp_pool_check") == 0);
	if (lap % 4 == 0)
		child_with_thread(&random);
	if (lap % 4 == 1) {
		pid_t pid = fork();

		if (pid == 0) {
			child_thread(&random);
			check_child_exit();
		}
		CHECK(check_child(pid));
	}
	for (size_t i = 0; i < 40; i++)
		unmake(item[i]);
	CHECK(storm_pool_call("pp_pool_check") == 0);
	check_child_exit();
}

static void *fork_often(void *arg)
{
	uint64_t random = seed ^ (uintptr_t)arg;
	unsigned long lap;

	for (lap = 0; !is_ending(); lap++) {
		pid_t pid = fork();

		if (pid == 0)
			child(lap, random);
		CHECK(pid > 0 && check_child(pid));
		storm_random(&random);
		count(&nr_forked);
		storm_done_one();
		storm_nap_us(10000);
	}
	return NULL;
}

/* True if there was memory for it. */
static bool load_once(unsigned size)
{
	int (*plugin_work)(unsigned);
	void *plugin;

	plugin = dlopen("storm_plugin.so", RTLD_NOW | RTLD_LOCAL);
	if (!plugin)
		return false;
	*(void **)&plugin_work = dlsym(plugin, "storm_plugin_work");
	if (CHECK(plugin_work != NULL))
		CHECK(plugin_work(size) >= 0);
	CHECK(dlclose(plugin) == 0);
	return true;
}

static void *load_often(void *unused)
{
	unsigned size = 0;

	for (; !is_ending(); size++) {
		count(load_once(16 + size % 5000) ? &nr_loaded :
						    &nr_not_loaded);
		storm_done_one();
		storm_nap_us(3000);
	}
	return unused;
}

/* All of it */

static void make_places(void)
{
	char *stacks = mmap(NULL, (size_t)NR_ALIVE * STACK_BYTES,
			    PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	REQUIRE(stacks != MAP_FAILED);
	for (size_t i = 0; i < NR_ALIVE; i++) {
		places[i].stack = stacks + i * STACK_BYTES;
		places[i].random = seed + i + 1;
		pthread_mutex_init(&places[i].lock, NULL);
		sem_init(&places[i].go, 0, 0);
	}
	REQUIRE(!pthread_key_create(&key, unmake));
}

static void blow(size_t nr_threads)
{
	pthread_t others[NR_FORKERS + 2];

	storm_is_ending = false;
	REQUIRE(!pthread_create(&others[0], NULL, keep_at_limit, NULL));
	REQUIRE(!pthread_create(&others[1], NULL, load_often, NULL));
	for (uintptr_t i = 0; i < NR_FORKERS; i++)
		REQUIRE(!pthread_create(&others[2 + i], NULL, fork_often,
					(void *)(i + 1)));
	come_and_go(nr_threads);
	__atomic_store_n(&storm_is_ending, true, __ATOMIC_RELEASE);
	for (size_t i = 0; i < NR_FORKERS + 2; i++)
		pthread_join(others[i], NULL);
	empty_queue();
	/* With memory to be had, nothing stands in its way. */
	CHECK(load_once(100));
}

static void tell(uint64_t start_ns, struct pp_stats before)
{
	struct pp_stats after = storm_stats();
	uint64_t ns = storm_now_ns() - start_ns;

	check_say("%lu cancelled, %lu not created, %lu refused, %lu forked, "
		  "%lu loaded, %lu not\n", nr_cancelled, nr_not_created,
		  nr_refused, nr_forked, nr_loaded, nr_not_loaded);
	check_say("%llu ms, %lld drains, %lld requests waited for one\n",
		  (unsigned long long)ns / 1000000,
		  (long long)(after.drains - before.drains),
		  (long long)(after.drain_waits - before.drain_waits));
	storm_check_rate(after.drains - before.drains, ns);
}

/* Tables of blocks that came into use while those of the limit had holes only,
 * half a page each: of 48 blocks more, twice the limit.  They stay. */
#define TABLES_PAGES 24

static void threads_come_and_go(void)
{
	struct pp_stats before;
	int64_t used, used_after;
	uint64_t start_ns;

	storm_needs_pool();
	seed = storm_seed();
	make_places();
	storm_watch_start();
	/* What libc and the loader keep once and for all. */
	blow(NR_WARM_UP);
	used = storm_used_pages();
	start_ns = storm_now_ns();
	before = storm_stats();
	blow(storm_scale(NR_THREADS));
	tell(start_ns, before);
	CHECK(nr_cancelled > 0);
	CHECK(nr_forked > 0);
	CHECK(nr_refused > storm_scale(NR_THREADS) / 100);
	CHECK(nr_loaded > 0);
	CHECK(storm_pool_call("pp_pool_check") == 0);
	used_after = storm_used_pages();
	if (!CHECK(used_after >= used && used_after <= used + TABLES_PAGES))
		check_say("%lld pages used, %lld before\n",
			  (long long)used_after, (long long)used);
	storm_watch_end();
	CHECK(fills_limit(65536, 90));
	CHECK(fills_limit(100, 90));
	check_end();
}

static const struct check_case cases[] = {
	{ "threads_come_and_go", threads_come_and_go },
};

CHECK_MAIN(cases)
