/* SPDX-License-Identifier: MIT */
/*
 * What the C and C++ programs of this folder share.
 *
 * A program is a table of cases.  Without an argument it runs them all, with
 * one it runs the case of that name, with --list it names them; rows.sh runs
 * each in a process of its own.  A case ends with check_end(), so that a
 * stray return is a failure and not a pass.  Exit status: 0 passed, 1 failed,
 * 77 cannot be tried here.
 *
 * Nothing here allocates: the checks are made at the limit too.
 */
#ifndef CHECK_H
#define CHECK_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK_SKIPPED 77

struct check_case {
	const char *name;
	void (*body)(void);
};

static unsigned check_nr_checks, check_nr_failed;
static bool check_ended;

static inline void check_say(const char *format, ...)
	__attribute__((format(printf, 1, 2)));

static inline void check_say(const char *format, ...)
{
	char line[512];
	int saved = errno, nr_bytes;
	va_list args;

	va_start(args, format);
	nr_bytes = vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	if (nr_bytes > (int)sizeof(line) - 1)
		nr_bytes = (int)sizeof(line) - 1;
	if (write(STDOUT_FILENO, line, (size_t)nr_bytes) < 0)
		_exit(1);
	errno = saved;
}

static inline bool check_at(bool passed, const char *file, int line,
			    const char *text)
{
	__atomic_add_fetch(&check_nr_checks, 1, __ATOMIC_RELAXED);
	if (passed)
		return true;
	/* The first few tell the story; a loop may fail a million times. */
	if (__atomic_add_fetch(&check_nr_failed, 1, __ATOMIC_RELAXED) <= 20)
		check_say("%s:%d: failed: %s (errno %d)\n", file, line, text,
			  errno);
	return false;
}

/* CHECK goes on after a failure, REQUIRE ends the process. */
#define CHECK(cond) check_at(!!(cond), __FILE__, __LINE__, #cond)
#define REQUIRE(cond) \
	((void)(CHECK(cond) || (_exit(1), false)))

/* An allocation that has to succeed, and one that has to fail like this. */
#define CHECK_FAILS(expr, error) do { \
	errno = 0; \
	CHECK((expr) == NULL); \
	CHECK(errno == (error)); \
} while (0)

static inline void check_end(void)
{
	check_ended = true;
}

static inline void check_skip(const char *reason)
{
	check_say("skip: %s\n", reason);
	_exit(CHECK_SKIPPED);
}

/* What a child reports to the check_child() of its parent. */
static inline void check_child_exit(void)
{
	_exit(check_nr_failed ? 1 : 0);
}

static inline bool check_child(pid_t pid)
{
	int status = -1;

	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* Keep the compiler from knowing what a size or pointer is. */
static inline size_t opaque(size_t value)
{
	__asm__ volatile("" : "+r"(value));
	return value;
}

static inline void *opaque_ptr(void *pointer)
{
	__asm__ volatile("" : "+r"(pointer) : : "memory");
	return pointer;
}

static inline bool on_pagepool(void)
{
	return getenv("PAGEPOOL_LIMIT") != NULL;
}

static inline size_t size_from_text(const char *text)
{
	char *unit;
	size_t value = strtoull(text, &unit, 10);

	switch (*unit) {
	case 'G':
		return value << 30;
	case 'M':
		return value << 20;
	case 'K':
		return value << 10;
	}
	return value;
}

static inline size_t statm_bytes(int field)
{
	char text[128] = "";
	int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	char *word = text;

	if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0)
		return 0;
	close(fd);
	while (field--)
		word = strchr(word, ' ') + 1;
	return strtoull(word, NULL, 10) * 4096;
}

static inline size_t vsz_bytes(void)
{
	return statm_bytes(0);
}

static inline size_t resident_bytes(void)
{
	return statm_bytes(1);
}

/*
 * The limit of the pool.  On libc's malloc an address-space limit takes its
 * place, so that the expectations of a case can be tried there too.
 */
static inline size_t limit_bytes(void)
{
	const char *text = getenv("PAGEPOOL_LIMIT");
	const char *plain = getenv("PP_PLAIN_LIMIT");
	struct rlimit as;

	if (text)
		return size_from_text(text);
	if (!plain)
		check_skip("needs a limit");
	getrlimit(RLIMIT_AS, &as);
	if (as.rlim_cur == RLIM_INFINITY) {
		as.rlim_cur = vsz_bytes() + size_from_text(plain);
		setrlimit(RLIMIT_AS, &as);
	}
	return size_from_text(plain);
}

/* The blocks of one size, linked through their first word. */
static inline size_t fill_up_to(void **head, size_t size, size_t max_blocks)
{
	size_t nr_blocks = 0;
	void **block;

	while (nr_blocks < max_blocks && (block = (void **)malloc(size))) {
		*block = *head;
		*head = block;
		nr_blocks++;
	}
	return nr_blocks;
}

static inline size_t fill(void **head, size_t size)
{
	limit_bytes();
	return fill_up_to(head, size, SIZE_MAX);
}

static inline void drop(void **head)
{
	void **block = (void **)*head;

	*head = NULL;
	while (block) {
		void **next = (void **)*block;

		free(block);
		block = next;
	}
}

/*
 * Fill with blocks of one size and free them: were there as many of them as
 * this share of the limit can hold?  malloc_usable_size() is what one takes.
 */
static inline bool fills_limit(size_t size, size_t percent)
{
	size_t nr, want, usable;
	void *head = NULL;

	if (!fill_up_to(&head, size, 1))
		return false;
	usable = malloc_usable_size(head);
	nr = 1 + fill(&head, size);
	drop(&head);
	want = limit_bytes() / 100 * percent / usable;
	if (nr < want)
		check_say("size %zu (%zu usable): %zu blocks, %zu wanted\n",
			  size, usable, nr, want);
	return nr >= want;
}

static inline bool all_bytes(const void *start, int byte, size_t nr_bytes)
{
	const unsigned char *bytes = (const unsigned char *)start;

	return nr_bytes == 0 ||
	       (bytes[0] == (unsigned char)byte &&
		memcmp(bytes, bytes + 1, nr_bytes - 1) == 0);
}

static inline bool aligned_to(const void *pointer, size_t align)
{
	return (uintptr_t)pointer % align == 0;
}

static inline int check_main(int argc, char **argv,
			     const struct check_case *cases, size_t nr_cases)
{
	size_t i, nr_run = 0;

	for (i = 0; i < nr_cases; i++) {
		if (argc > 1 && !strcmp(argv[1], "--list")) {
			check_say("%s\n", cases[i].name);
			continue;
		}
		if (argc > 1 && strcmp(argv[1], cases[i].name))
			continue;
		nr_run++;
		check_ended = false;
		cases[i].body();
		if (!check_ended) {
			check_nr_failed++;
			check_say("%s: did not reach its end\n",
				  cases[i].name);
		}
	}
	if (argc > 1 && !strcmp(argv[1], "--list"))
		return 0;
	check_say("done: %zu cases, %u checks, %u failed\n", nr_run,
		  check_nr_checks, check_nr_failed);
	return nr_run == 0 || check_nr_failed ? 1 : 0;
}

#define CHECK_MAIN(table) \
int main(int argc, char **argv) \
{ \
	return check_main(argc, argv, table, \
			  sizeof(table) / sizeof((table)[0])); \
}

#endif /* CHECK_H */
