/* SPDX-License-Identifier: MIT */
/*
 * The public headers alone, each by itself and all together, with the
 * compilers' strictest settings: as C++ and as plain C.  The flags are the
 * ones that documents and other languages' bindings rely on.
 */
#include "testing.h"

#include <pagepool/cache.h>
#include <spawn.h>
#include <sys/wait.h>

extern char **environ;

static const char *const headers[] = {
	"#include <pagepool.h>\n",
	"#include <pagepool/stat.h>\n",
	"#include <pagepool/cache.h>\n",
	"#include <pagepool/reserve.h>\n",
	"#include <pagepool/cache.h>\n#include <pagepool/stat.h>\n"
	"#include <pagepool.h>\n#include <pagepool.h>\n"
	"int probe(struct pp_pool *p) {\n"
	"  struct pp_stats s; s.struct_bytes = sizeof(s);\n"
	"  void *run = pp_alloc_pages(p, 1, PP_ATOMIC | PP_ZERO);\n"
	"  pp_free_pages(p, run);\n"
	"  return pp_stat_snapshot(p, &s) + pp_pool_check(p);\n}\n",
};

/* The exit status of a compiler that reads @source from a pipe; 127: there is
 * no such compiler. */
static int compile(char *const argv[], const char *source)
{
	posix_spawn_file_actions_t actions;
	int fd[2], status, err;
	pid_t pid;

	assert_int_equal(pipe(fd), 0);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, fd[0], 0);
	posix_spawn_file_actions_addclose(&actions, fd[0]);
	posix_spawn_file_actions_addclose(&actions, fd[1]);
	err = posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	close(fd[0]);
	if (err) {
		close(fd[1]);
		return 127;
	}
	assert_int_equal(write(fd[1], source, strlen(source)),
			 strlen(source));
	close(fd[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static void check_headers(const char *compiler, const char *language,
			  const char *standard)
{
	const char *src = getenv("PP_SRC");
	char include[4096];
	const char *argv[] = {
		compiler, "-x", language, standard, include, "-Wall",
		"-Wextra", "-Wpedantic", "-Wshadow", "-Wundef", "-Werror",
		"-fsyntax-only", "-", NULL,
	};

	snprintf(include, sizeof(include), "-I%s/include", src ? src : ".");
	if (compile((char *const *)argv, "int probe;\n") != 0)
		test_skip("no such compiler or standard here");
	for (size_t i = 0; i < COUNT_OF(headers); i++)
		assert_int_equal(compile((char *const *)argv, headers[i]), 0);
	/* And it can tell: a header that is not there is an error. */
	assert_int_not_equal(compile((char *const *)argv,
				     "#include <pagepool/none.h>\n"), 0);
	reached_end();
}

static const char *c_compiler(void)
{
	const char *cc = getenv("CC");

	/* Not one with arguments of its own. */
	return cc && *cc && !strchr(cc, ' ') ? cc : "cc";
}

static const char *cxx_compiler(void)
{
	const char *cxx = getenv("CXX");

	return cxx && *cxx && !strchr(cxx, ' ') ? cxx : "c++";
}

static void test_headers_are_cxx98(void **state)
{
	(void)state;
	check_headers(cxx_compiler(), "c++", "-std=gnu++98");
}

static void test_headers_are_cxx20(void **state)
{
	(void)state;
	check_headers(cxx_compiler(), "c++", "-std=c++20");
}

static void test_headers_are_c99(void **state)
{
	(void)state;
	check_headers(c_compiler(), "c", "-std=c99");
}

static void test_headers_are_c11(void **state)
{
	(void)state;
	check_headers(c_compiler(), "c", "-std=c11");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_headers_are_cxx98),
		TEST(test_headers_are_cxx20),
		TEST(test_headers_are_c99),
		TEST(test_headers_are_c11),
	};

	return cmocka_run_group_tests_name("header", tests, NULL, NULL);
}
