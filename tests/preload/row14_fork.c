// SPDX-License-Identifier: MIT
/*
 * Row 14: fork and its relatives while other threads are inside malloc.
 */
#include "check.h"
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <sys/mman.h>

static const size_t sizes[] = {
	24, 100, 1000, 5000, 12000, 40000, 300000, 2 << 20,
};

#define NR_SIZES (sizeof(sizes) / sizeof(sizes[0]))
#define NR_LOAD 3

static pthread_t load[NR_LOAD];
static bool stop_load;

static void churn(void)
{
	size_t i;

	for (i = 0; i < NR_SIZES; i++) {
		char *block = malloc(sizes[i]), *zeroed = calloc(1, sizes[i]);

		if (block)
			memset(block, 'c', 24);
		if (zeroed && !all_bytes(zeroed, 0, 24))
			_exit(80);
		block = realloc(block, sizes[i] + 3000);
		if (block && !all_bytes(block, 'c', 24))
			_exit(81);
		free(zeroed);
		free(block);
	}
}

static void *load_body(void *unused)
{
	while (!__atomic_load_n(&stop_load, __ATOMIC_RELAXED))
		churn();
	return unused;
}

static void start_load(void)
{
	int i;

	stop_load = false;
	for (i = 0; i < NR_LOAD; i++)
		REQUIRE(!pthread_create(&load[i], NULL, load_body, NULL));
}

static void end_load(void)
{
	int i;

	__atomic_store_n(&stop_load, true, __ATOMIC_RELAXED);
	for (i = 0; i < NR_LOAD; i++)
		pthread_join(load[i], NULL);
}

static void under_load(void)
{
	int i;

	start_load();
	for (i = 0; i < 200; i++) {
		char *block = malloc(100000);
		pid_t pid;

		memset(block, 'b', 100000);
		pid = fork();
		if (pid == 0) {
			churn();
			CHECK(all_bytes(block, 'b', 100000));
			free(block);
			check_child_exit();
		}
		CHECK(all_bytes(block, 'b', 100000));
		free(block);
		CHECK(check_child(pid));
	}
	end_load();
	check_end();
}

static void *forking_body(void *unused)
{
	int i;

	for (i = 0; i < 50; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			churn();
			check_child_exit();
		}
		churn();
		CHECK(check_child(pid));
	}
	return unused;
}

static void from_threads(void)
{
	pthread_t threads[4];
	int i;

	start_load();
	for (i = 0; i < 4; i++)
		REQUIRE(!pthread_create(&threads[i], NULL, forking_body,
					NULL));
	for (i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	end_load();
	check_end();
}

/* Each level frees what its parent had, starts threads and forks on. */
static void descend(int levels, char *inherited)
{
	char *own;
	pid_t pid;

	if (!levels)
		return;
	CHECK(all_bytes(inherited, 'x', 60000));
	free(inherited);
	own = malloc(60000);
	memset(own, 'x', 60000);
	start_load();
	pid = fork();
	if (pid == 0) {
		churn();
		descend(levels - 1, own);
		check_child_exit();
	}
	end_load();
	CHECK(check_child(pid));
	free(own);
}

static void nested_five_deep(void)
{
	int i;

	for (i = 0; i < 10; i++) {
		char *block = malloc(60000);

		memset(block, 'x', 60000);
		descend(5, block);
	}
	check_end();
}

static pthread_barrier_t gate;
static void *heads[4];

/* Leaves something in its caches as well, and idles while others fork. */
static void *fill_thread(void *head)
{
	size_t i, share = limit_bytes() / 100;

	for (i = 0; i < NR_SIZES; i++)
		fill_up_to(head, sizes[i], share / sizes[i] + 1);
	churn();
	pthread_barrier_wait(&gate);
	pthread_barrier_wait(&gate);
	return NULL;
}

/* Memory in the caches and slabs of threads that the child does not have. */
static void drop_and_fill(void)
{
	size_t i;

	for (i = 0; i < 4; i++)
		drop(&heads[i]);
	for (i = 0; on_pagepool() && i < NR_SIZES; i++)
		CHECK(fills_limit(sizes[i], 97));
}

static void child_frees_what_others_allocated(void)
{
	pthread_t threads[4];
	pid_t pid;
	int i;

	limit_bytes();
	pthread_barrier_init(&gate, NULL, 5);
	for (i = 0; i < 4; i++)
		REQUIRE(!pthread_create(&threads[i], NULL, fill_thread,
					&heads[i]));
	pthread_barrier_wait(&gate);
	pid = fork();
	if (pid == 0) {
		drop_and_fill();
		check_child_exit();
	}
	CHECK(check_child(pid));
	pthread_barrier_wait(&gate);
	for (i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	pid = fork();
	if (pid == 0) {
		drop_and_fill();
		check_child_exit();
	}
	CHECK(check_child(pid));
	drop_and_fill();
	check_end();
}

static void the_limit_holds_in_the_child(void)
{
	size_t limit = limit_bytes(), round;
	void *head = NULL, *mine = malloc(limit / 4);
	pid_t pid;

	for (round = 0; round < 3; round++) {
		pid = fork();
		if (pid == 0) {
			CHECK_FAILS(malloc(limit), ENOMEM);
			CHECK(fill(&head, 65536) * 65536 <= limit * 3 / 4);
			free(mine);
			CHECK(fill(&head, 65536) * 65536 >= limit / 5);
			drop(&head);
			churn();
			check_child_exit();
		}
		CHECK(check_child(pid));
	}
	/* What the children did is not the parent's. */
	CHECK(fill(&head, 65536) * 65536 >= limit / 2);
	drop(&head);
	free(mine);
	check_end();
}

static void vfork_and_exec(void)
{
	char *const words[] = { (char *)"true", NULL };
	int i;

	start_load();
	for (i = 0; i < 100; i++) {
		pid_t pid = vfork();

		if (pid == 0) {
			execvp(words[0], words);
			_exit(82);
		}
		churn();
		CHECK(check_child(pid));
	}
	end_load();
	check_end();
}

static void spawn_and_system(void)
{
	char *const words[] = { (char *)"sh", (char *)"-c",
				(char *)"exit 0", NULL };
	posix_spawn_file_actions_t actions;
	int i;

	start_load();
	for (i = 0; i < 50; i++) {
		pid_t pid;

		posix_spawn_file_actions_init(&actions);
		posix_spawn_file_actions_addopen(&actions, 0, "/dev/null",
						 O_RDONLY, 0);
		CHECK(!posix_spawnp(&pid, words[0], &actions, NULL, words,
				    environ));
		posix_spawn_file_actions_destroy(&actions);
		CHECK(check_child(pid));
	}
	for (i = 0; i < 10; i++) {
		FILE *pipe = popen("echo x", "r");

		CHECK(pipe && fgetc(pipe) == 'x');
		CHECK(pclose(pipe) == 0);
		CHECK(system("exit 3") == 3 << 8);
	}
	end_load();
	check_end();
}

static int clone_body(void *arg)
{
	char **block = arg;

	free(block[0]);
	block[0] = strdup("by the clone");
	churn();
	return 0;
}

/* The same memory and the same thread pointer, in a second process. */
static void clone_that_shares_memory(void)
{
	size_t stack_bytes = 256 << 10;
	char *stack = mmap(NULL, stack_bytes, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int i;

	start_load();
	for (i = 0; i < 100; i++) {
		char *block = strdup("by the parent");
		pid_t pid = clone(clone_body, stack + stack_bytes,
				  CLONE_VM | CLONE_VFORK | SIGCHLD, &block);

		CHECK(check_child(pid));
		CHECK(!strcmp(block, "by the clone"));
		free(block);
		churn();
	}
	end_load();
	munmap(stack, stack_bytes);
	check_end();
}

static unsigned nr_handled[3];

static void handler_at(int when)
{
	nr_handled[when]++;
	churn();
}

static void at_prepare(void)
{
	handler_at(0);
}

static void at_parent(void)
{
	handler_at(1);
}

static void at_child(void)
{
	handler_at(2);
}

static void handlers_that_allocate(void)
{
	int i;

	CHECK(pthread_atfork(at_prepare, at_parent, at_child) == 0);
	start_load();
	for (i = 0; i < 100; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			CHECK(nr_handled[2] == 1);
			check_child_exit();
		}
		CHECK(check_child(pid));
	}
	CHECK(nr_handled[0] == 100 && nr_handled[1] == 100);
	end_load();
	check_end();
}

static const struct check_case cases[] = {
	{ "under_load", under_load },
	{ "from_threads", from_threads },
	{ "nested_five_deep", nested_five_deep },
	{ "child_frees_what_others_allocated",
	  child_frees_what_others_allocated },
	{ "the_limit_holds_in_the_child", the_limit_holds_in_the_child },
	{ "vfork_and_exec", vfork_and_exec },
	{ "spawn_and_system", spawn_and_system },
	{ "clone_that_shares_memory", clone_that_shares_memory },
	{ "handlers_that_allocate", handlers_that_allocate },
};

CHECK_MAIN(cases)
