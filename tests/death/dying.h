/* SPDX-License-Identifier: MIT */
/*
 * dying.h - a misuse in a child, and the line it must die with.
 *
 * The misuse says beforehand what it expects, by expect_line(), for it alone
 * knows the address; it then commits its error and does not come back.
 */
#ifndef PP_TESTS_DYING_H
#define PP_TESTS_DYING_H

#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define DYING_LINE_BYTES	256

struct dying {
	char	expected[DYING_LINE_BYTES];	/* shared with the child */
	char	said[4096];
	int	status;
};

static struct dying *dying;

__attribute__((format(printf, 1, 2)))
static inline void expect_line(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(dying->expected, sizeof(dying->expected), format, args);
	va_end(args);
}

static inline void dying_init(void)
{
	if (dying)
		return;
	dying = mmap(NULL, sizeof(*dying), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(dying, MAP_FAILED);
}

static inline void dying_child(int err, void (*misuse)(void *), void *arg)
{
	struct rlimit none = { 0, 0 };

	setrlimit(RLIMIT_CORE, &none);
	signal(SIGABRT, SIG_DFL);
	dup2(err, 2);
	misuse(arg);
	_exit(0);	/* it lived */
}

static inline void read_all(int fd, char *text, size_t size)
{
	size_t len = 0;
	ssize_t got;

	while (len < size - 1 &&
	       (got = read(fd, text + len, size - 1 - len)) > 0)
		len += (size_t)got;
	text[len] = '\0';
}

/* SIGABRT, exactly that line, and nothing else. */
static inline void assert_dies(void (*misuse)(void *), void *arg)
{
	int fd[2];
	pid_t pid;

	dying_init();
	dying->expected[0] = '\0';
	fflush(stdout);
	assert_int_equal(pipe(fd), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		close(fd[0]);
		dying_child(fd[1], misuse, arg);
	}
	close(fd[1]);
	read_all(fd[0], dying->said, sizeof(dying->said));
	close(fd[0]);
	assert_int_equal(waitpid(pid, &dying->status, 0), pid);
	assert_string_not_equal(dying->expected, "");
	assert_string_equal(dying->said, dying->expected);
	assert_true(WIFSIGNALED(dying->status));
	assert_int_equal(WTERMSIG(dying->status), SIGABRT);
}

#endif
