/* SPDX-License-Identifier: MIT */
/*
 * Trees as systems have them, written into a folder of their own, and all that
 * the walk tells about them, in order.
 */
#include "../api/testing.h"

#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>

#include "os/cgroup.h"

#define NONE	"9223372036854771712\n"
#define V2	"/sys/fs/cgroup"
#define V1	"/sys/fs/cgroup/memory"

static char root[64];

/* A fresh tree. */
static void begin(void)
{
	strcpy(root, "/tmp/pagepool-cgroup.XXXXXX");
	assert_non_null(mkdtemp(root));
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

static void make_folders(char *path)
{
	for (char *p = strchr(path + strlen(root) + 1, '/'); p;
	     p = strchr(p + 1, '/')) {
		*p = '\0';
		mkdir(path, 0755);
		*p = '/';
	}
}

static void file(const char *path, const char *content)
{
	char full[8192];
	int fd;

	snprintf(full, sizeof(full), "%s%s", root, path);
	make_folders(full);
	fd = open(full, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, content, strlen(content)), strlen(content));
	close(fd);
}

/* Lines of mountinfo that every system has, around those that matter. */
static void mounts(const char *lines)
{
	char text[16384];

	snprintf(text, sizeof(text),
		 "21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
		 "22 21 0:20 / /proc rw,nosuid shared:12 - proc proc rw\n"
		 "%s"
		 "99 21 0:99 / /dev/shm rw - tmpfs tmpfs rw,size=64k\n",
		 lines);
	file("/proc/self/mountinfo", text);
}

static void groups(const char *lines)
{
	file("/proc/self/cgroup", lines);
}

static char told[16384];

static void tell(void *arg, const struct cgroup_limit *limit)
{
	char bytes[32] = "none";
	size_t len = strlen(told);

	(void)arg;
	if (limit->bytes != CGROUP_UNLIMITED)
		snprintf(bytes, sizeof(bytes), "%llu",
			 (unsigned long long)limit->bytes);
	snprintf(told + len, sizeof(told) - len, "%s%s %s %s\n",
		 limit->is_own ? "own " : "", limit->path, limit->file, bytes);
	assert_int_equal(limit->version,
			 strcmp(limit->file, "memory.max") == 0 ||
			 strcmp(limit->file, "memory.high") == 0 ? 2 : 1);
}

static void expect(const char *lines, uint64_t smallest)
{
	told[0] = '\0';
	cgroup_walk(root, tell, NULL);
	assert_string_equal(told, lines);
	assert_true(cgroup_limit_bytes(root) == smallest);
}

#define UNLIMITED	CGROUP_UNLIMITED
#define MOUNT_V2	"30 21 0:26 / " V2 " rw,nosuid shared:4 - " \
			"cgroup2 cgroup2 rw,nsdelegate\n"
#define MOUNT_V1	"31 21 0:27 / " V1 " rw shared:5 - " \
			"cgroup cgroup rw,memory\n"

/* Version 2: a service of systemd, in a slice with a limit. */
static void test_cgroup_v2_slices(void **state)
{
	(void)state;
	begin();
	mounts(MOUNT_V2);
	groups("0::/system.slice/redis.service\n");
	file(V2 "/system.slice/redis.service/memory.max", "max\n");
	file(V2 "/system.slice/redis.service/memory.high", "402653184\n");
	file(V2 "/system.slice/memory.max", "536870912\n");
	file(V2 "/system.slice/memory.high", "max\n");
	expect("own " V2 "/system.slice/redis.service/memory.max memory.max "
	       "none\n"
	       "own " V2 "/system.slice/redis.service/memory.high memory.high "
	       "402653184\n"
	       V2 "/system.slice/memory.max memory.max 536870912\n"
	       V2 "/system.slice/memory.high memory.high none\n",
	       402653184);
	end();
}

/* The smallest counts, be it above or below. */
static void test_cgroup_v2_any_level_may_be_the_smallest(void **state)
{
	static const char *const level[] = {
		V2 "/a/memory.max", V2 "/a/b/memory.max",
		V2 "/a/b/c/memory.max",
	};

	(void)state;
	begin();
	mounts(MOUNT_V2);
	groups("0::/a/b/c\n");
	for (unsigned least = 0; least < COUNT_OF(level); least++) {
		for (unsigned i = 0; i < COUNT_OF(level); i++)
			file(level[i], i == least ? "1000000\n" : "2000000\n");
		assert_true(cgroup_limit_bytes(root) == 1000000);
	}
	/* A sibling and a child are nobody's limit. */
	file(V2 "/a/b/c/d/memory.max", "5\n");
	file(V2 "/a/x/memory.max", "5\n");
	assert_true(cgroup_limit_bytes(root) == 1000000);
	end();
}

/* docker run: a cgroup namespace, "/" everywhere. */
static void test_cgroup_v2_namespace(void **state)
{
	(void)state;
	begin();
	mounts(MOUNT_V2);
	groups("0::/\n");
	file(V2 "/memory.max", "268435456\n");
	file(V2 "/memory.high", "max\n");
	expect("own " V2 "/memory.max memory.max 268435456\n"
	       "own " V2 "/memory.high memory.high none\n", 268435456);
	end();
}

/* docker run --cgroupns=host: the mount shows a part of the tree. */
static void test_cgroup_v2_mount_of_a_part(void **state)
{
	(void)state;
	begin();
	mounts("30 21 0:26 /system.slice/docker-1f.scope " V2
	       " ro - cgroup2 cgroup rw\n");
	groups("0::/system.slice/docker-1f.scope/inner\n");
	file(V2 "/inner/memory.max", "max\n");
	file(V2 "/memory.max", "134217728\n");
	expect("own " V2 "/inner/memory.max memory.max none\n"
	       V2 "/memory.max memory.max 134217728\n", 134217728);
	/* A root that is the beginning of the name only is another group. */
	groups("0::/system.slice/docker-1f.scopes\n");
	file(V2 "s/memory.max", "5\n");
	expect("own " V2 "/memory.max memory.max 134217728\n", 134217728);
	end();
}

/* Moved out of the namespace's root: what the mount shows counts. */
static void test_cgroup_v2_outside_of_the_namespace(void **state)
{
	(void)state;
	begin();
	mounts(MOUNT_V2);
	groups("0::/../../other.slice\n");
	file(V2 "/memory.max", "100000000\n");
	file("/sys/other.slice/memory.max", "5\n");
	expect("own " V2 "/memory.max memory.max 100000000\n", 100000000);
	groups("0::/..\n");
	expect("own " V2 "/memory.max memory.max 100000000\n", 100000000);
	/* "..x" is a name like any other. */
	groups("0::/..x\n");
	file(V2 "/..x/memory.max", "70000000\n");
	expect("own " V2 "/..x/memory.max memory.max 70000000\n"
	       V2 "/memory.max memory.max 100000000\n", 70000000);
	end();
}

/* The host's tree is bound into the container beside its own. */
static void test_cgroup_v2_two_mounts(void **state)
{
	(void)state;
	begin();
	mounts("40 21 0:26 /../.. /host" V2 " ro - cgroup2 cgroup rw\n"
	       MOUNT_V2);
	groups("0::/\n");
	file("/host" V2 "/memory.max", "5\n");
	file(V2 "/memory.max", "300000000\n");
	expect("own " V2 "/memory.max memory.max 300000000\n", 300000000);
	end();
}

/* Version 1: what is above the mount point shows in memory.stat. */
static void test_cgroup_v1_docker(void **state)
{
	(void)state;
	begin();
	mounts("30 21 0:25 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755\n"
	       "31 30 0:27 /docker/ab " V1 " ro master:9 - cgroup cgroup "
	       "rw,memory\n"
	       "32 30 0:28 /docker/ab /sys/fs/cgroup/cpu,cpuacct ro - cgroup "
	       "cgroup rw,cpu,cpuacct\n");
	groups("12:cpu,cpuacct:/docker/ab\n11:memory:/docker/ab\n"
	       "1:name=systemd:/docker/ab\n");
	file(V1 "/memory.limit_in_bytes", "536870912\n");
	file(V1 "/memory.use_hierarchy", "1\n");
	file(V1 "/memory.stat", "cache 0\nrss 4096\n"
	     "hierarchical_memory_limit 419430400\n"
	     "hierarchical_memsw_limit 5\ntotal_cache 0\n");
	expect("own " V1 "/memory.limit_in_bytes memory.limit_in_bytes "
	       "536870912\n"
	       "own " V1 "/memory.stat hierarchical_memory_limit 419430400\n",
	       419430400);
	end();
}

/* kubernetes on version 1, without a namespace: three levels. */
static void test_cgroup_v1_kubepods(void **state)
{
	static const char pod[] = V1 "/kubepods/burstable/pod7c";
	char path[256], expected[2048];

	(void)state;
	begin();
	mounts(MOUNT_V1);
	groups("9:memory:/kubepods/burstable/pod7c/0123\n");
	snprintf(path, sizeof(path), "%s/0123/memory.limit_in_bytes", pod);
	file(path, NONE);
	snprintf(path, sizeof(path), "%s/memory.limit_in_bytes", pod);
	file(path, "200000000\n");
	file(V1 "/kubepods/memory.limit_in_bytes", "8000000000\n");
	file(V1 "/memory.limit_in_bytes", NONE);
	snprintf(expected, sizeof(expected),
		 "own %s/0123/memory.limit_in_bytes memory.limit_in_bytes "
		 "none\n"
		 "%s/memory.limit_in_bytes memory.limit_in_bytes 200000000\n"
		 V1 "/kubepods/memory.limit_in_bytes memory.limit_in_bytes "
		 "8000000000\n"
		 V1 "/memory.limit_in_bytes memory.limit_in_bytes none\n",
		 pod, pod);
	expect(expected, 200000000);
	end();
}

/* A group that does not count its children says nothing about them. */
static void test_cgroup_v1_without_hierarchy(void **state)
{
	(void)state;
	begin();
	mounts(MOUNT_V1);
	groups("4:memory:/a/b\n");
	file(V1 "/a/b/memory.limit_in_bytes", "90000000\n");
	file(V1 "/a/memory.limit_in_bytes", "5000000\n");
	file(V1 "/a/memory.use_hierarchy", "0\n");
	expect("own " V1 "/a/b/memory.limit_in_bytes memory.limit_in_bytes "
	       "90000000\n", 90000000);
	file(V1 "/a/memory.use_hierarchy", "1\n");
	assert_true(cgroup_limit_bytes(root) == 5000000);
	end();
}

/* Hybrid: the controller is in one of the two. */
static void test_cgroup_hybrid(void **state)
{
	(void)state;
	begin();
	mounts("35 21 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
	       MOUNT_V1);
	groups("5:memory:/user.slice\n1:name=systemd:/user.slice\n"
	       "0::/user.slice\n");
	file("/sys/fs/cgroup/unified/user.slice/cgroup.procs", "1\n");
	file(V1 "/user.slice/memory.limit_in_bytes", "700000000\n");
	expect("own " V1 "/user.slice/memory.limit_in_bytes "
	       "memory.limit_in_bytes 700000000\n", 700000000);
	end();
}

/* LXC: controllers that share a hierarchy, a group below an unseen one. */
static void test_cgroup_lxc(void **state)
{
	(void)state;
	begin();
	mounts("50 21 0:33 /lxc.payload.web /sys/fs/cgroup/cpuset,memory rw - "
	       "cgroup cgroup rw,cpuset,memory,clone_children\n");
	groups("8:cpuset,memory:/lxc.payload.web/init.scope\n");
	file("/sys/fs/cgroup/cpuset,memory/init.scope/memory.limit_in_bytes",
	     NONE);
	file("/sys/fs/cgroup/cpuset,memory/memory.limit_in_bytes",
	     "1073741824\n");
	expect("own /sys/fs/cgroup/cpuset,memory/init.scope/"
	       "memory.limit_in_bytes memory.limit_in_bytes none\n"
	       "/sys/fs/cgroup/cpuset,memory/memory.limit_in_bytes "
	       "memory.limit_in_bytes 1073741824\n", 1073741824);
	end();
}

/* The group's path says nothing about the mount: the nearest one counts. */
static void test_cgroup_v1_stray(void **state)
{
	(void)state;
	begin();
	mounts("31 21 0:27 /kubepods/pod1 " V1
	       " ro - cgroup cgroup rw,memory\n");
	groups("4:memory:/system.slice/containerd.service\n");
	file(V1 "/memory.limit_in_bytes", "64000000\n");
	expect("own " V1 "/memory.limit_in_bytes memory.limit_in_bytes "
	       "64000000\n", 64000000);
	end();
}

/* Names with blanks, colons and backslashes; tags, or none. */
static void test_cgroup_odd_names(void **state)
{
	(void)state;
	begin();
	mounts("30 21 0:26 / /my\\040groups\\134x rw master:1 propagate_from:2 "
	       "unbindable - cgroup2 a\\040b rw\n");
	groups("0::/system.slice:docker:ab/a b\n");
	file("/my groups\\x/system.slice:docker:ab/a b/memory.max",
	     "1234567\n");
	expect("own /my groups\\x/system.slice:docker:ab/a b/memory.max "
	       "memory.max 1234567\n", 1234567);
	end();
}

/* The group was removed while the process lives on in it. */
static void test_cgroup_deleted(void **state)
{
	(void)state;
	begin();
	mounts(MOUNT_V2);
	groups("0::/a/gone (deleted)\n");
	file(V2 "/a/memory.max", "99000000\n");
	expect(V2 "/a/memory.max memory.max 99000000\n", 99000000);
	end();
}

/* Without /proc the customary places are looked at. */
static void test_cgroup_no_proc(void **state)
{
	(void)state;
	begin();
	expect("", UNLIMITED);
	file(V2 "/memory.max", "88000000\n");
	expect("own " V2 "/memory.max memory.max 88000000\n", 88000000);
	file(V1 "/memory.limit_in_bytes", "77000000\n");
	assert_true(cgroup_limit_bytes(root) == 77000000);
	end();
}

/* mountinfo alone: no group is named, those at the mount points count. */
static void test_cgroup_no_groups_file(void **state)
{
	(void)state;
	begin();
	mounts(MOUNT_V2);
	file(V2 "/memory.max", "66000000\n");
	expect("own " V2 "/memory.max memory.max 66000000\n", 66000000);
	mounts("30 21 0:26 /docker/x " V2 " rw - cgroup2 cgroup2 rw\n");
	expect("own " V2 "/memory.max memory.max 66000000\n", 66000000);
	/* A file that is there and names none is another thing. */
	groups("");
	expect("", UNLIMITED);
	end();
}

static void test_cgroup_numbers(void **state)
{
	static const struct {
		const char	*text;
		uint64_t	bytes;
	} number[] = {
		{ "0\n", 0 }, { "1\n", 1 }, { "4096", 4096 },
		{ "17592186044416\n", 1ull << 44 },
		{ "max\n", UNLIMITED }, { "-1\n", UNLIMITED },
		{ NONE, UNLIMITED },
		{ "9223372036854775807\n", UNLIMITED },
		{ "9223372036854710272\n", UNLIMITED },	/* pages of 64 KiB */
		{ "18446744073709551615\n", UNLIMITED },
		{ "18446744073709551617\n", UNLIMITED },
		{ "99999999999999999999999999999999999\n", UNLIMITED },
		/* Not a number: as if the file were not there. */
		{ "", UNLIMITED }, { "\n", UNLIMITED },
		{ "maximum\n", UNLIMITED }, { "12x\n", UNLIMITED },
		{ "-5\n", UNLIMITED }, { "0x10\n", UNLIMITED },
	};

	(void)state;
	begin();
	mounts(MOUNT_V2);
	groups("0::/\n");
	for (size_t i = 0; i < COUNT_OF(number); i++) {
		file(V2 "/memory.max", number[i].text);
		if (cgroup_limit_bytes(root) != number[i].bytes)
			print_message("# %s\n", number[i].text);
		assert_true(cgroup_limit_bytes(root) == number[i].bytes);
	}
	end();
}

/* Whatever stands there, nothing is overrun, and good lines still count. */
static void test_cgroup_garbage(void **state)
{
	static const char *const bad[] = {
		"\n", "\n\n\n", "x\n", "1 2 3\n", "1 2 3 /\n", "1 2 3 / /m\n",
		"1 2 3 / /m rw -\n", "1 2 3 / /m rw - cgroup2\n",
		"1 2 3 / /m rw - cgroup\n", "1 2 3 / /m rw shared:1 cgroup2\n",
		"1 2 3 / /m rw - cgroup x\n", "- - - - - - - - - -\n",
		"           - cgroup2 x y\n", "\xff\x01\n",
		"1 2 3 \\ \\04 rw - cgroup2 x y\n",
	};

	(void)state;
	begin();
	groups("garbage\n:\n::\n:::\n0:\n0::\n4:memory\n7::/x\n\n"
	       "4:memories:/y\n0::/a\n");
	file(V2 "/a/memory.max", "55000000\n");
	for (size_t i = 0; i < COUNT_OF(bad); i++) {
		mounts(bad[i]);
		cgroup_limit_bytes(root);
		file("/proc/self/mountinfo", bad[i]);
		cgroup_limit_bytes(root);
	}
	mounts(MOUNT_V2);
	assert_true(cgroup_limit_bytes(root) == 55000000);
	end();
}

/* Lines longer than any buffer, as overlays have them. */
static void test_cgroup_long_lines(void **state)
{
	static char text[20000], name[9000];

	(void)state;
	begin();
	groups("0::/a\n");
	file(V2 "/a/memory.max", "44000000\n");
	memset(name, 'd', sizeof(name) - 1);
	snprintf(text, sizeof(text), "23 1 0:9 / /merged rw - overlay overlay "
		 "rw,lowerdir=%s\n24 1 0:9 /%s /x rw - cgroup2 y z\n"
		 MOUNT_V2, name, name);
	file("/proc/self/mountinfo", text);
	expect("own " V2 "/a/memory.max memory.max 44000000\n", 44000000);
	/* A group with such a name is somewhere below the mount. */
	snprintf(text, sizeof(text), "0::/%s\n", name);
	groups(text);
	file(V2 "/memory.max", "43000000\n");
	assert_true(cgroup_limit_bytes(root) == 43000000);
	end();
}

/* As many levels as there may be. */
static void test_cgroup_many_levels(void **state)
{
	char group[1100] = "0::", path[1200] = V2;

	(void)state;
	begin();
	mounts(MOUNT_V2);
	for (int i = 0; i < 200; i++) {
		strcat(group, "/abc");
		strcat(path, "/abc");
	}
	strcat(group, "\n");
	strcat(path, "/memory.max");
	groups(group);
	file(path, "50000000\n");
	file(V2 "/abc/memory.max", "40000000\n");
	assert_true(cgroup_limit_bytes(root) == 40000000);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_cgroup_v2_slices),
		TEST(test_cgroup_v2_any_level_may_be_the_smallest),
		TEST(test_cgroup_v2_namespace),
		TEST(test_cgroup_v2_mount_of_a_part),
		TEST(test_cgroup_v2_outside_of_the_namespace),
		TEST(test_cgroup_v2_two_mounts),
		TEST(test_cgroup_v1_docker),
		TEST(test_cgroup_v1_kubepods),
		TEST(test_cgroup_v1_without_hierarchy),
		TEST(test_cgroup_hybrid),
		TEST(test_cgroup_lxc),
		TEST(test_cgroup_v1_stray),
		TEST(test_cgroup_odd_names),
		TEST(test_cgroup_deleted),
		TEST(test_cgroup_no_proc),
		TEST(test_cgroup_no_groups_file),
		TEST(test_cgroup_numbers),
		TEST(test_cgroup_garbage),
		TEST(test_cgroup_long_lines),
		TEST(test_cgroup_many_levels),
	};

	return cmocka_run_group_tests_name("cgroup", tests, NULL, NULL);
}
