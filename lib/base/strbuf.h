/* SPDX-License-Identifier: MIT */
/*
 * strbuf.h - text without stdio and without allocation (layer 0).
 *
 * A strbuf is a cursor over the caller's array.  What does not fit is counted
 * and left out, as with snprintf: `len` goes on growing, and the array stays
 * a terminated string.
 */
#ifndef PP_BASE_STRBUF_H
#define PP_BASE_STRBUF_H

#include "base/compiler.h"

struct strbuf {
	char	*text;
	size_t	size_bytes;	/* of text; 0: only count */
	size_t	len;		/* what has been asked for, without the 0 */
};

#define STRBUF(array)	{ .text = (array), .size_bytes = sizeof(array) }

void strbuf_str(struct strbuf *sb, const char *s);
void strbuf_u64(struct strbuf *sb, uint64_t value);
void strbuf_i64(struct strbuf *sb, int64_t value);
void strbuf_hex(struct strbuf *sb, uint64_t value);	/* with 0x */

/* Writes what fitted to @fd, whole, without touching errno. */
void strbuf_write(const struct strbuf *sb, int fd);

#endif
