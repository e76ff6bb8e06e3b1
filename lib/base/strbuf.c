/* SPDX-License-Identifier: MIT */
/* strbuf.c - see strbuf.h. */
#include "base/strbuf.h"

#include "os/syscall.h"

static void strbuf_char(struct strbuf *sb, char c)
{
	if (sb->len + 1 < sb->size_bytes) {
		sb->text[sb->len] = c;
		sb->text[sb->len + 1] = '\0';
	}
	sb->len++;
}

void strbuf_str(struct strbuf *sb, const char *s)
{
	while (*s)
		strbuf_char(sb, *s++);
}

static void strbuf_digits(struct strbuf *sb, uint64_t value, unsigned base)
{
	char digits[20];
	unsigned n = 0;

	do {
		digits[n++] = "0123456789abcdef"[value % base];
		value /= base;
	} while (value);
	while (n)
		strbuf_char(sb, digits[--n]);
}

void strbuf_u64(struct strbuf *sb, uint64_t value)
{
	strbuf_digits(sb, value, 10);
}

void strbuf_i64(struct strbuf *sb, int64_t value)
{
	if (value < 0)
		strbuf_char(sb, '-');
	strbuf_digits(sb, value < 0 ? -(uint64_t)value : (uint64_t)value, 10);
}

void strbuf_hex(struct strbuf *sb, uint64_t value)
{
	strbuf_str(sb, "0x");
	strbuf_digits(sb, value, 16);
}

void strbuf_write(const struct strbuf *sb, int fd)
{
	size_t done = 0, len = sb->len;

	if (sb->size_bytes == 0)
		return;
	if (len >= sb->size_bytes)
		len = sb->size_bytes - 1;
	/* Each round writes at least one byte or gives up. */
	while (done < len) {
		long n = sys_write(fd, sb->text + done, len - done);

		if (n <= 0)
			return;
		done += (size_t)n;
	}
}
