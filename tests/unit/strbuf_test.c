/* SPDX-License-Identifier: MIT */
/* Text that fits, text that does not, and numbers at their ends. */
#include "../api/testing.h"

#include <fcntl.h>

#include "base/strbuf.h"

static void test_strbuf_numbers(void **state)
{
	char text[256], want[256];
	struct strbuf sb = STRBUF(text);

	(void)state;
	strbuf_u64(&sb, 0);
	strbuf_str(&sb, " ");
	strbuf_u64(&sb, UINT64_MAX);
	strbuf_str(&sb, " ");
	strbuf_i64(&sb, INT64_MIN);
	strbuf_str(&sb, " ");
	strbuf_i64(&sb, -1);
	strbuf_str(&sb, " ");
	strbuf_i64(&sb, INT64_MAX);
	strbuf_str(&sb, " ");
	strbuf_hex(&sb, 0);
	strbuf_str(&sb, " ");
	strbuf_hex(&sb, 0xdeadbeef01234567);
	strbuf_str(&sb, "");
	snprintf(want, sizeof(want), "0 %llu %lld -1 %lld 0x0 0x%llx",
		 (unsigned long long)UINT64_MAX, (long long)INT64_MIN,
		 (long long)INT64_MAX, 0xdeadbeef01234567ull);
	assert_string_equal(text, want);
	assert_int_equal(sb.len, strlen(want));
	reached_end();
}

static void test_strbuf_every_size_truncates_as_snprintf(void **state)
{
	static const char whole[] = "pagepool: -12345 0x1f end";
	char text[64];

	(void)state;
	for (size_t size = 0; size <= sizeof(whole) + 3; size++) {
		struct strbuf sb = { .text = text, .size_bytes = size };
		size_t fits = size < sizeof(whole) ? size : sizeof(whole);

		memset(text, '#', sizeof(text));
		strbuf_str(&sb, "pagepool: ");
		strbuf_i64(&sb, -12345);
		strbuf_str(&sb, " ");
		strbuf_hex(&sb, 31);
		strbuf_str(&sb, " end");
		assert_int_equal(sb.len, sizeof(whole) - 1);
		if (size > 1) {
			assert_memory_equal(text, whole, fits - 1);
			assert_int_equal(text[fits - 1], 0);
		}
		for (size_t i = size; i < sizeof(text); i++)
			assert_int_equal(text[i], '#');
	}
	reached_end();
}

static void test_strbuf_write_writes_what_fitted_and_keeps_errno(void **state)
{
	char text[8], got[32] = "";
	struct strbuf sb = STRBUF(text), count = { .size_bytes = 0 };
	int fd[2];

	(void)state;
	assert_int_equal(pipe(fd), 0);
	strbuf_str(&sb, "0123456789");
	errno = ERANGE;
	strbuf_write(&sb, fd[1]);
	strbuf_str(&count, "nothing");
	strbuf_write(&count, fd[1]);
	assert_int_equal(read(fd[0], got, sizeof(got)), 7);
	assert_string_equal(got, "0123456");
	/* A closed end, and no descriptor at all. */
	strbuf_write(&sb, -1);
	assert_int_equal(errno, ERANGE);
	close(fd[0]);
	close(fd[1]);
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_strbuf_numbers),
		TEST(test_strbuf_every_size_truncates_as_snprintf),
		TEST(test_strbuf_write_writes_what_fitted_and_keeps_errno),
	};

	return cmocka_run_group_tests_name("strbuf", tests, NULL, NULL);
}
