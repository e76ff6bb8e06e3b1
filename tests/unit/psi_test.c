/* SPDX-License-Identifier: MIT */
/*
 * Where pressure is heard of, on trees as systems have them; what the service
 * manager's words mean; and each kind of source, with this program in the part
 * of the one who speaks.
 */
#include "../api/testing.h"

#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "os/psi.h"

#define V2		"/sys/fs/cgroup"
#define UNIFIED		"/sys/fs/cgroup/unified"
#define MOUNT_V2	"30 21 0:26 / " V2 " rw - cgroup2 cgroup2 rw\n"
#define MOUNT_UNIFIED	"31 21 0:26 / " UNIFIED " rw - cgroup2 cgroup2 rw\n"
#define MOUNT_V1	"32 21 0:27 / " V2 "/memory rw - cgroup cgroup " \
			"rw,memory\n"
#define SYSTEM		"/proc/pressure/memory"

static char root[64];
static struct psi_service service;
static struct psi_source source;

static void begin(void)
{
	strcpy(root, "/tmp/pagepool-psi.XXXXXX");
	assert_non_null(mkdtemp(root));
	memset(&service, 0, sizeof(service));
}

static int remove_one(const char *path, const struct stat *st, int type,
		      struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void end(void)
{
	assert_int_equal(nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
	reached_end();
}

/* The full path, with its folders made. */
static const char *place(const char *path)
{
	static char full[8192];

	snprintf(full, sizeof(full), "%s%s", root, path);
	for (char *p = strchr(full + strlen(root) + 1, '/'); p;
	     p = strchr(p + 1, '/')) {
		*p = '\0';
		mkdir(full, 0755);
		*p = '/';
	}
	return full;
}

static void file(const char *path, const char *content)
{
	int fd = open(place(path), O_WRONLY | O_CREAT | O_TRUNC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, content, strlen(content)), strlen(content));
	close(fd);
}

static void expect(enum psi_kind kind, const char *path)
{
	char full[8192];

	psi_find(root, &service, PSI_SERVICE, &source);
	assert_int_equal(source.kind, kind);
	if (kind == PSI_NONE)
		return;
	snprintf(full, sizeof(full), "%s%s", root, path);
	assert_string_equal(source.path, full);
}

/* Words */

static void decode(const char *text, const char *expected, long len)
{
	char out[16];

	assert_int_equal(psi_decode(text, out, sizeof(out)), len);
	if (len > 0)
		assert_memory_equal(out, expected, (size_t)len);
}

static void test_psi_base64(void **state)
{
	(void)state;
	/* RFC 4648, section 10. */
	decode("", "", 0);
	decode("Zg==", "f", 1);
	decode("Zm8=", "fo", 2);
	decode("Zm9v", "foo", 3);
	decode("Zm9vYg==", "foob", 4);
	decode("Zm9vYmE=", "fooba", 5);
	decode("Zm9vYmFy", "foobar", 6);
	decode("Zm9vYg", "foob", 4);
	decode("Zm9v\n YmFy\n", "foobar", 6);
	decode("AP+/", "\0\xff\xbf", 3);
	decode("Z", "", -EINVAL);
	decode("Zg=", "", -EINVAL);
	decode("Zg===", "", -EINVAL);
	decode("Zg==Zg==", "", -EINVAL);
	decode("Zm9v=", "", -EINVAL);
	decode("Zm_v", "", -EINVAL);
	decode("QUFBQUFBQUFBQUFBQUFBQQ==", "AAAAAAAAAAAAAAAA", 16);
	decode("QUFBQUFBQUFBQUFBQUFBQUE=", "", -ERANGE);
	reached_end();
}

/* What systemd writes: it ends in a 0. */
static void test_psi_words_of_systemd(void **state)
{
	(void)state;
	memset(&service, 0, sizeof(service));
	psi_parse_service(&service, "/sys/fs/cgroup/x/memory.pressure",
			  "c29tZSAyMDAwMDAgMjAwMDAwMAA=");
	assert_true(service.is_given && !service.is_off);
	assert_string_equal(service.path, "/sys/fs/cgroup/x/memory.pressure");
	assert_int_equal(service.write_bytes, 20);
	assert_memory_equal(service.write, "some 200000 2000000", 20);
	reached_end();
}

static bool is_given(const char *watch, const char *text)
{
	memset(&service, 0, sizeof(service));
	psi_parse_service(&service, watch, text);
	return service.is_given;
}

static void test_psi_words_that_are_not_followed(void **state)
{
	char *longest = calloc(1, PSI_PATH_BYTES + 1);

	(void)state;
	assert_false(is_given(NULL, NULL));
	assert_false(is_given(NULL, "Zm9v"));
	assert_false(is_given("", NULL));
	assert_false(is_given("relative/path", NULL));
	assert_false(is_given("/x", "not base64!"));
	memset(longest, '/', PSI_PATH_BYTES);
	assert_false(is_given(longest, NULL));
	longest[PSI_PATH_BYTES - 1] = '\0';
	assert_true(is_given(longest, NULL));
	assert_true(is_given("/x", NULL) && !service.write_bytes);
	assert_true(is_given("/x", "") && !service.write_bytes);
	free(longest);
	reached_end();
}

/* The kernel overwrites the last byte, and wants windows of 2 s. */
static void test_psi_trigger_text(void **state)
{
	unsigned long threshold_us, window_us;
	char last;

	(void)state;
	assert_int_equal(sscanf(PSI_TRIGGER, "some %lu %lu%c", &threshold_us,
				&window_us, &last), 3);
	assert_int_equal(last, '\n');
	assert_int_equal(window_us % 2000000, 0);
	assert_true(threshold_us >= 150000 && threshold_us <= 200000);
	reached_end();
}

/* Trees */

static void test_psi_own_group(void **state)
{
	(void)state;
	begin();
	file("/proc/self/mountinfo", MOUNT_V2);
	file("/proc/self/cgroup", "0::/system.slice/x.service\n");
	file(V2 "/system.slice/memory.pressure", "");
	file(SYSTEM, "");
	/* Not that of the slice: others stall there. */
	expect(PSI_SYSTEM, SYSTEM);
	file(V2 "/system.slice/x.service/memory.pressure", "");
	expect(PSI_GROUP, V2 "/system.slice/x.service/memory.pressure");
	assert_int_equal(source.form, PSI_FILE);
	assert_memory_equal(source.write, PSI_TRIGGER, source.write_bytes);
	psi_find(root, &service, PSI_SYSTEM, &source);
	assert_int_equal(source.kind, PSI_SYSTEM);
	end();
}

static void test_psi_hybrid(void **state)
{
	(void)state;
	begin();
	file("/proc/self/mountinfo", MOUNT_V1 MOUNT_UNIFIED);
	file("/proc/self/cgroup", "4:memory:/a\n0::/b\n");
	file(V2 "/memory/a/memory.limit_in_bytes", "1048576\n");
	file(V2 "/memory/a/memory.pressure", "");
	file(UNIFIED "/b/memory.pressure", "");
	expect(PSI_GROUP, UNIFIED "/b/memory.pressure");
	end();
}

/* The group lies outside of what the mount shows: that of the mount point. */
static void test_psi_namespace(void **state)
{
	(void)state;
	begin();
	file("/proc/self/mountinfo", MOUNT_V2);
	file("/proc/self/cgroup", "0::/../x\n");
	file(V2 "/memory.pressure", "");
	expect(PSI_GROUP, V2 "/memory.pressure");
	end();
}

static void test_psi_nothing_there(void **state)
{
	(void)state;
	begin();
	file("/proc/self/mountinfo", MOUNT_V2);
	file("/proc/self/cgroup", "0::/x\n");
	expect(PSI_NONE, "");
	assert_int_equal(psi_try(root, &service, PSI_SERVICE, &source),
			 -ENODATA);
	assert_int_equal(psi_try(root, &service, PSI_GROUP, &source), -ENOENT);
	assert_int_equal(psi_try(root, &service, PSI_SYSTEM, &source),
			 -ENOENT);
	mkdir(place(SYSTEM), 0755);
	assert_int_equal(psi_try(root, &service, PSI_SYSTEM, &source),
			 -EINVAL);
	end();
}

static void test_psi_service_first(void **state)
{
	(void)state;
	begin();
	file(SYSTEM, "");
	psi_parse_service(&service, "/run/x/pressure", "Zm9v");
	expect(PSI_SYSTEM, SYSTEM);
	file("/run/x/pressure", "");
	expect(PSI_SERVICE, "/run/x/pressure");
	assert_int_equal(source.write_bytes, 3);
	assert_memory_equal(source.write, "foo", 3);
	/* Nothing to write: nothing is written. */
	psi_parse_service(&service, "/run/x/pressure", NULL);
	expect(PSI_SERVICE, "/run/x/pressure");
	assert_int_equal(source.write_bytes, 0);
	end();
}

static void test_psi_service_wants_none(void **state)
{
	(void)state;
	begin();
	file(SYSTEM, "");
	psi_parse_service(&service, "/dev/null", NULL);
	expect(PSI_NONE, "");
	assert_int_equal(psi_try(root, &service, PSI_SYSTEM, &source),
			 -ECANCELED);
	assert_false(psi_may_exist(&service));
	end();
}

/* Listening */

static short poll_one(int fd, int timeout_ms)
{
	struct pollfd p = { .fd = fd, .events = psi_events(&source) };

	return poll(&p, 1, timeout_ms) > 0 ? p.revents : 0;
}

static enum psi_answer answer(int fd)
{
	return psi_answer(&source, fd, poll_one(fd, 0));
}

static void test_psi_fifo(void **state)
{
	char bytes[8];
	int fd, other;

	(void)state;
	begin();
	assert_int_equal(mkfifo(place("/fifo"), 0600), 0);
	psi_parse_service(&service, "/fifo", NULL);
	expect(PSI_SERVICE, "/fifo");
	fd = psi_open(&source);
	assert_true(fd >= 0);
	assert_int_equal(answer(fd), PSI_QUIET);
	for (int i = 0; i < 2; i++) {
		other = open(place("/fifo"), O_WRONLY | O_NONBLOCK);
		assert_int_equal(write(other, "xyz", 3), 3);
		close(other);
		assert_int_equal(answer(fd), PSI_EVENT);
		/* The text was thrown away, and there is no end. */
		assert_int_equal(answer(fd), PSI_QUIET);
	}
	close(fd);
	/* What is to be written comes to whoever reads there. */
	psi_parse_service(&service, "/fifo", "Zm9v");
	expect(PSI_SERVICE, "/fifo");
	fd = psi_open(&source);
	other = open(place("/fifo"), O_RDONLY | O_NONBLOCK);
	assert_int_equal(read(other, bytes, sizeof(bytes)), 3);
	assert_memory_equal(bytes, "foo", 3);
	close(other);
	close(fd);
	end();
}

/* May only be read: it ends when the last writer leaves. */
static void test_psi_fifo_that_ends(void **state)
{
	int fd, other;

	(void)state;
	begin();
	assert_int_equal(mkfifo(place("/fifo"), 0400), 0);
	psi_parse_service(&service, "/fifo", NULL);
	expect(PSI_SERVICE, "/fifo");
	fd = open(place("/fifo"), O_RDONLY | O_NONBLOCK);
	other = open(place("/fifo"), O_WRONLY | O_NONBLOCK);
	if (other < 0) {	/* not root */
		close(fd);
		end();
		return;
	}
	assert_int_equal(write(other, "x", 1), 1);
	close(other);
	assert_int_equal(answer(fd), PSI_EVENT);
	assert_int_equal(answer(fd), PSI_LOST);
	close(fd);
	end();
}

static int listen_at(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	assert_true(strlen(path) < sizeof(address.sun_path));
	strcpy(address.sun_path, path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address,
			      sizeof(address)), 0);
	assert_int_equal(listen(fd, 4), 0);
	return fd;
}

static void test_psi_socket(void **state)
{
	char bytes[8];
	int fd, listener, peer;

	(void)state;
	begin();
	listener = listen_at(place("/socket"));
	psi_parse_service(&service, "/socket", "AGEA");
	expect(PSI_SERVICE, "/socket");
	assert_int_equal(source.form, PSI_SOCKET);
	fd = psi_open(&source);
	assert_true(fd >= 0);
	peer = accept(listener, NULL, NULL);
	assert_int_equal(read(peer, bytes, sizeof(bytes)), 3);
	assert_memory_equal(bytes, "\0a\0", 3);
	assert_int_equal(answer(fd), PSI_QUIET);
	assert_int_equal(write(peer, "event", 5), 5);
	assert_int_equal(answer(fd), PSI_EVENT);
	assert_int_equal(answer(fd), PSI_QUIET);
	close(peer);
	assert_int_equal(answer(fd), PSI_LOST);
	close(fd);
	close(listener);
	assert_int_equal(psi_open(&source), -ECONNREFUSED);
	end();
}

/* The kernel takes our words, and says of a file without any that it is lost.
 * 150 ms of waiting are not expected of the machine. */
static void test_psi_kernel(void **state)
{
	int fd;

	(void)state;
	memset(&service, 0, sizeof(service));
	psi_find("", &service, PSI_SERVICE, &source);
	if (source.kind == PSI_NONE)
		test_skip("the kernel tells of no pressure");
	fd = psi_open(&source);
	/* Before Linux 6.5 for root alone. */
	if (fd == -EPERM || fd == -EOPNOTSUPP || fd == -EINVAL)
		test_skip("the kernel tells root alone");
	assert_true(fd >= 0);
	assert_int_equal(poll_one(fd, 100) & POLLERR, 0);
	assert_true(answer(fd) != PSI_LOST);
	close(fd);
	source.write_bytes = 0;
	fd = psi_open(&source);
	assert_true(fd >= 0);
	assert_int_equal(answer(fd), PSI_LOST);
	close(fd);
	reached_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_psi_base64),
		TEST(test_psi_words_of_systemd),
		TEST(test_psi_words_that_are_not_followed),
		TEST(test_psi_trigger_text),
		TEST(test_psi_own_group),
		TEST(test_psi_hybrid),
		TEST(test_psi_namespace),
		TEST(test_psi_nothing_there),
		TEST(test_psi_service_first),
		TEST(test_psi_service_wants_none),
		TEST(test_psi_fifo),
		TEST(test_psi_fifo_that_ends),
		TEST(test_psi_socket),
		TEST(test_psi_kernel),
	};

	return cmocka_run_group_tests_name("psi", tests, NULL, NULL);
}
