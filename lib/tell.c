/* SPDX-License-Identifier: MIT */
/* tell.c - see tell.h. */
#include "tell.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <time.h>

#include "base/bits.h"
#include "os/syscall.h"

#define STDERR		2
/* A pipe that is writable takes so much at once (POSIX: PIPE_BUF). */
#define PIECE_BYTES	4096u
#define SIGPIPE_BIT	(1ull << (SIGPIPE - 1))

void tell_program(struct strbuf *sb)
{
	strbuf_str(sb, program_invocation_short_name);
	strbuf_str(sb, "[");
	strbuf_u64(sb, (uint64_t)sys_getpid());
	strbuf_str(sb, "]");
}

/* The kernel's own set of signals: 64 bits. */
static uint64_t mask_signals(int how, uint64_t set)
{
	uint64_t old = 0;

	sys_call6(SYS_rt_sigprocmask, how, (long)(uintptr_t)&set,
		  (long)(uintptr_t)&old, sizeof(set), 0, 0);
	return old;
}

static bool is_pending(void)
{
	uint64_t set = 0;

	sys_call3(SYS_rt_sigpending, (long)(uintptr_t)&set, sizeof(set), 0);
	return set & SIGPIPE_BIT;
}

static void take_pending(void)
{
	uint64_t set = SIGPIPE_BIT;
	struct timespec none = { 0, 0 };

	sys_call6(SYS_rt_sigtimedwait, (long)(uintptr_t)&set, 0,
		  (long)(uintptr_t)&none, sizeof(set), 0, 0);
}

/* Or it is not known. */
static bool is_writable(void)
{
	struct pollfd p = { .fd = STDERR, .events = POLLOUT };
	struct timespec none = { 0, 0 };

	return sys_call6(SYS_ppoll, (long)(uintptr_t)&p, 1,
			 (long)(uintptr_t)&none, 0, sizeof(uint64_t), 0) != 0;
}

void tell_stderr(const struct strbuf *sb)
{
	uint64_t old = mask_signals(SIG_BLOCK, SIGPIPE_BIT);
	bool was_pending = is_pending();
	size_t done = 0, len;

	len = min_u64(sb->len, sb->size_bytes ? sb->size_bytes - 1 : 0);
	/* Each round writes at least one byte or is the last. */
	while (done < len && is_writable()) {
		long n = sys_write(STDERR, sb->text + done,
				   min_u64(len - done, PIECE_BYTES));

		if (n <= 0)
			break;
		done += (size_t)n;
	}
	if (!was_pending && is_pending())
		take_pending();
	mask_signals(SIG_SETMASK, old);
}
