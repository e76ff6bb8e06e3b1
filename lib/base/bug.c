/* SPDX-License-Identifier: MIT */
/* bug.c - see bug.h. */
#include "base/bug.h"

#include <stdlib.h>

#include "base/strbuf.h"

#define BUG_LINE_BYTES 256
#define STDERR 2

__attribute__((noreturn)) static void bug_end(struct strbuf *sb)
{
	strbuf_str(sb, "\n");
	strbuf_write(sb, STDERR);
	abort();
}

void bug_at(const char *file, unsigned line, const char *what)
{
	char text[BUG_LINE_BYTES];
	struct strbuf sb = STRBUF(text);

	strbuf_str(&sb, "pagepool: BUG at ");
	strbuf_str(&sb, file);
	strbuf_str(&sb, ":");
	strbuf_u64(&sb, line);
	strbuf_str(&sb, ": ");
	strbuf_str(&sb, what);
	bug_end(&sb);
}

void bug_pointer(const char *entry, const char *before, uintptr_t addr,
		 const char *after)
{
	char text[BUG_LINE_BYTES];
	struct strbuf sb = STRBUF(text);

	strbuf_str(&sb, "pagepool: ");
	strbuf_str(&sb, entry);
	strbuf_str(&sb, "(): ");
	strbuf_str(&sb, before);
	strbuf_hex(&sb, addr);
	strbuf_str(&sb, after);
	bug_end(&sb);
}

void bug_two_pointers(const char *entry, uintptr_t addr, const char *between,
		      uintptr_t other)
{
	char text[BUG_LINE_BYTES];
	struct strbuf sb = STRBUF(text);

	strbuf_str(&sb, "pagepool: ");
	strbuf_str(&sb, entry);
	strbuf_str(&sb, "(): ");
	strbuf_hex(&sb, addr);
	strbuf_str(&sb, between);
	strbuf_hex(&sb, other);
	bug_end(&sb);
}
