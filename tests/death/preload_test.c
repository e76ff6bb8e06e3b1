/* SPDX-License-Identifier: MIT */
/*
 * The same under the preload library: this program runs itself once more for
 * each misuse of malloc's family, with LD_PRELOAD set, and reads the line.
 * The child writes what it expects to standard output.
 */
#include "../api/testing.h"

#include "dying.h"

#include <fcntl.h>
#include <malloc.h>
#include <spawn.h>

extern char **environ;

/* The compiler must neither see through a misuse nor warn of it. */
static void *hidden(void *p)
{
	__asm__ volatile("" : "+r"(p));
	return p;
}

static void say(const char *format, unsigned long a, unsigned long b)
{
	char line[DYING_LINE_BYTES];
	int len = snprintf(line, sizeof(line), format, a, b);

	if (write(1, line, (size_t)len) != len)
		_exit(2);
}

static unsigned long at(const void *p)
{
	return (unsigned long)(uintptr_t)p;
}

#define DOUBLE	"double free of %#lx\n"
#define INSIDE	"%#lx is inside the allocation at %#lx\n"
#define ODD	"%#lx is not aligned to 16 bytes\n"

static void double_free(size_t bytes)
{
	char *p = malloc(bytes);

	say("pagepool: free(): " DOUBLE, at(p), 0);
	free(hidden(p));
	free(hidden(p));
}

static void small_twice(void) { double_free(100); }
static void run_twice(void) { double_free(100000); }
static void long_run_twice(void) { double_free(5000000); }

static void small_twice_later(void)
{
	char *p[300];

	for (size_t i = 0; i < COUNT_OF(p); i++)
		p[i] = malloc(64);
	say("pagepool: free(): " DOUBLE, at(p[3]), 0);
	for (size_t i = 0; i < COUNT_OF(p); i++)
		if (i != 150)
			free(hidden(p[i]));
	free(hidden(p[3]));
}

static void inside(size_t bytes, size_t offset)
{
	char *p = malloc(bytes);

	say("pagepool: free(): " INSIDE, at(p + offset), at(p));
	free(hidden(p + offset));
}

static void small_inside(void) { inside(640, 16); }
static void run_inside(void) { inside(100000, 4096); }
static void run_inside_page(void) { inside(100000, 4096 + 64); }
static void long_run_inside(void) { inside(5000000, 3000000 / 16 * 16); }

static void unaligned(size_t bytes)
{
	char *p = malloc(bytes);

	say("pagepool: free(): " ODD, at(p + 8), 0);
	free(hidden(p + 8));
}

static void small_unaligned(void) { unaligned(100); }
static void run_unaligned(void) { unaligned(100000); }

static void *freeing_thread(void *arg)
{
	free(hidden(arg));
	return NULL;
}

static void twice_in_two_threads(void)
{
	void *p = malloc(1000), *keep = malloc(1000);
	pthread_t thread;

	memset(keep, 1, 1000);
	say("pagepool: free(): " DOUBLE, at(p), 0);
	if (pthread_create(&thread, NULL, freeing_thread, hidden(p)))
		_exit(3);
	pthread_join(thread, NULL);
	free(hidden(p));
}

static void realloc_freed(void)
{
	void *p = malloc(200);

	say("pagepool: realloc(): " DOUBLE, at(p), 0);
	free(hidden(p));
	p = realloc(hidden(p), 400);
	_exit(p ? 7 : 8);
}

static void realloc_inside(void)
{
	char *p = malloc(50000);

	say("pagepool: realloc(): " INSIDE, at(p + 4096), at(p));
	p = realloc(hidden(p + 4096), 400);
	_exit(p ? 7 : 8);
}

static void realloc_to_nothing_twice(void)
{
	char *p = malloc(500);

	say("pagepool: realloc(): " DOUBLE, at(p), 0);
	p = realloc(hidden(p), 0) ? hidden(p) : p;
	p = realloc(hidden(p), 0);
	_exit(p ? 7 : 8);
}

static void size_of_freed(void)
{
	char *p = malloc(3000);

	say("pagepool: malloc_usable_size(): " DOUBLE, at(p), 0);
	free(hidden(p));
	_exit(malloc_usable_size(hidden(p)) ? 7 : 8);
}

static void size_of_inside(void)
{
	char *p = malloc(30000);

	say("pagepool: malloc_usable_size(): " INSIDE, at(p + 16), at(p));
	_exit(malloc_usable_size(hidden(p + 16)) ? 7 : 8);
}

static const struct misuse {
	const char	*name;
	void		(*commit)(void);
} misuses[] = {
	{ "small_twice", small_twice },
	{ "small_twice_later", small_twice_later },
	{ "run_twice", run_twice },
	{ "long_run_twice", long_run_twice },
	{ "small_inside", small_inside },
	{ "run_inside", run_inside },
	{ "run_inside_page", run_inside_page },
	{ "long_run_inside", long_run_inside },
	{ "small_unaligned", small_unaligned },
	{ "run_unaligned", run_unaligned },
	{ "twice_in_two_threads", twice_in_two_threads },
	{ "realloc_freed", realloc_freed },
	{ "realloc_inside", realloc_inside },
	{ "realloc_to_nothing_twice", realloc_to_nothing_twice },
	{ "size_of_freed", size_of_freed },
	{ "size_of_inside", size_of_inside },
};

static int commit(const char *name)
{
	struct rlimit none = { 0, 0 };

	setrlimit(RLIMIT_CORE, &none);
	for (size_t i = 0; i < COUNT_OF(misuses); i++)
		if (strcmp(misuses[i].name, name) == 0)
			misuses[i].commit();
	return 9;	/* it lived */
}

static char preload[4096];

static void spawn_misuse(const char *name, int out, int err, pid_t *pid)
{
	posix_spawn_file_actions_t actions;
	char *argv[] = { (char *)"preload_test", (char *)(uintptr_t)name,
			 NULL };
	char *env[] = { preload, (char *)"PAGEPOOL_LIMIT=64M", NULL };

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, out, 1);
	posix_spawn_file_actions_adddup2(&actions, err, 2);
	assert_int_equal(posix_spawn(pid, "/proc/self/exe", &actions, NULL,
				     argv, env), 0);
	posix_spawn_file_actions_destroy(&actions);
}

static void check_misuse(const char *name)
{
	char expected[DYING_LINE_BYTES], said[4096];
	int out[2], err[2], status;
	pid_t pid;

	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	assert_int_equal(pipe2(err, O_CLOEXEC), 0);
	spawn_misuse(name, out[1], err[1], &pid);
	close(out[1]);
	close(err[1]);
	read_all(out[0], expected, sizeof(expected));
	read_all(err[0], said, sizeof(said));
	close(out[0]);
	close(err[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (!WIFSIGNALED(status) || strcmp(said, expected) != 0)
		print_message("# %s: status %#x\n", name, (unsigned)status);
	assert_string_not_equal(expected, "");
	assert_string_equal(said, expected);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
}

static void test_preload_misuse_dies_with_its_line(void **state)
{
	const char *library = getenv("PP_PRELOAD");

	(void)state;
	if (TEST_SANITIZED || !library || access(library, R_OK) != 0)
		test_skip("no preload library here");
	snprintf(preload, sizeof(preload), "LD_PRELOAD=%s", library);
	for (size_t i = 0; i < COUNT_OF(misuses); i++)
		check_misuse(misuses[i].name);
	reached_end();
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(test_preload_misuse_dies_with_its_line),
	};

	if (argc > 1)
		return commit(argv[1]);
	return cmocka_run_group_tests_name("preload death", tests, NULL, NULL);
}
