/* SPDX-License-Identifier: MIT */
/* show_waiting.c - see show_waiting.h. */
#include "show_waiting.h"

#include "base/strbuf.h"
#include "tell.h"

#define LINE_BYTES	256

void show_waiting(uint64_t bytes, uint64_t waited_ns, enum failure why)
{
	char text[LINE_BYTES];
	struct strbuf sb = STRBUF(text);

	strbuf_str(&sb, "pagepool: a request that must not fail, for ");
	strbuf_u64(&sb, bytes);
	strbuf_str(&sb, " bytes, has waited ");
	strbuf_u64(&sb, waited_ns / 1000000000u);
	strbuf_str(&sb, " s (reason: ");
	strbuf_str(&sb, failure_name(why));
	strbuf_str(&sb, "; ");
	tell_program(&sb);
	strbuf_str(&sb, ")\n");
	tell_stderr(&sb);
}
