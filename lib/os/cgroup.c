/* SPDX-License-Identifier: MIT */
/* cgroup.c - see cgroup.h. */
#include "os/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "os/os.h"
#include "os/syscall.h"

#define PATH_BYTES	4096
#define CHUNK_BYTES	2048
#define WORD_BYTES	256
#define MAX_LEVELS	256
/* Version 1 writes "none" as the largest number of pages, in bytes. */
#define NO_LIMIT_FROM	(1ull << 62)

/* A file, character by character: lines are as long as they like. */
struct reader {
	int		fd;
	size_t		at, len;
	char		chunk[CHUNK_BYTES];
};

struct walk;

/* What to do in a group; false if those above it do not matter. */
typedef bool group_fn(struct walk *w, unsigned version, bool is_own);

/* Mapped for the time of a walk, because stacks may be small. */
struct walk {
	const char	*root;
	group_fn	*do_group;
	cgroup_visit_fn	*visit;
	void		*arg;
	const char	*wanted;		/* a file, see find_file() */
	char		*found;			/* and its path */
	size_t		found_bytes;
	int		find_err;
	bool		has_group[3];		/* by version */
	bool		has_mount[3];		/* one that shows the group */
	char		group[3][PATH_BYTES];
	char		mount_root[PATH_BYTES];
	char		mount_point[PATH_BYTES];
	char		path[2 * PATH_BYTES];
	char		word[WORD_BYTES];
	struct reader	list;			/* of groups, or of mounts */
	struct reader	file;			/* of a group */
};

#define END	(-1)

/* Reading */

static bool open_at(struct reader *in, const char *path)
{
	in->fd = os_open(path, O_RDONLY);
	in->at = in->len = 0;
	return in->fd >= 0;
}

static void close_file(struct reader *in)
{
	sys_call3(SYS_close, in->fd, 0, 0);
}

static int next_char(struct reader *in)
{
	long got;

	if (in->at == in->len) {
		got = os_read(in->fd, in->chunk, CHUNK_BYTES);
		if (got <= 0)
			return END;
		in->at = 0;
		in->len = (size_t)got;
	}
	return (unsigned char)in->chunk[in->at++];
}

/*
 * The next field of a line whose last one ended in @c, up to @stop or the end
 * of the line; returns which it was.  What is missing, or does not fit into
 * @to, is "".
 */
static int read_field(struct reader *in, int c, char stop, char *to,
		      size_t size)
{
	size_t len = 0;

	if (c == '\n' || c == END)
		size = 0;
	while (c != '\n' && c != END) {
		c = next_char(in);
		if (c == stop || c == '\n' || c == END)
			break;
		if (len < size)
			to[len++] = (char)c;
	}
	to[len < size ? len : 0] = '\0';
	return c;
}

static bool skip_line(struct reader *in, int c)
{
	while (c != '\n' && c != END)
		c = next_char(in);
	return c == '\n';
}

/* Is @word one of those in @list, which commas part? */
static bool has_word(const char *list, const char *word)
{
	size_t len = strlen(word);

	for (; list; list = strchr(list, ',')) {
		list += *list == ',';
		if (strncmp(list, word, len) == 0 &&
		    (list[len] == ',' || !list[len]))
			return true;
	}
	return false;
}

static bool is_octal(const char *s)
{
	for (int i = 0; i < 3; i++)
		if (s[i] < '0' || s[i] > '7')
			return false;
	return true;
}

/* In mountinfo a blank is \040. */
static void unescape(char *s)
{
	char *to = s;

	while (*s) {
		if (*s == '\\' && is_octal(s + 1)) {
			*to++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 |
				       (s[3] - '0'));
			s += 4;
		} else {
			*to++ = *s++;
		}
	}
	*to = '\0';
}

/* False if it is not a number, nor a word for "none". */
static bool parse_bytes(const char *s, uint64_t *out)
{
	uint64_t n = 0;

	*out = CGROUP_UNLIMITED;
	if (strcmp(s, "max") == 0 || strcmp(s, "-1") == 0)
		return true;
	if (!*s)
		return false;
	for (; *s >= '0' && *s <= '9'; s++)
		n = n < NO_LIMIT_FROM / 10 ? n * 10 + (uint64_t)(*s - '0') :
					     NO_LIMIT_FROM;
	if (n < NO_LIMIT_FROM)
		*out = n;
	return !*s;
}

/* The files of one group */

/* Puts @file behind the group in @w->path; the length to cut it off again. */
static size_t add_file(struct walk *w, const char *file)
{
	size_t len = strlen(w->path), file_len = strlen(file) + 1;

	if (len + 1 + file_len > sizeof(w->path))
		return len;
	w->path[len] = '/';
	memcpy(w->path + len + 1, file, file_len);
	return len;
}

static void tell(struct walk *w, unsigned version, const char *file,
		 bool is_own, uint64_t bytes)
{
	const struct cgroup_limit limit = {
		version, is_own, bytes, file, w->path + strlen(w->root),
	};

	w->visit(w->arg, &limit);
}

/* The first word of a file; "" if there is none. */
static void read_word(struct walk *w, const char *file)
{
	size_t len = add_file(w, file);

	w->word[0] = '\0';
	if (open_at(&w->file, w->path)) {
		read_field(&w->file, ' ', ' ', w->word, WORD_BYTES);
		close_file(&w->file);
	}
	w->path[len] = '\0';
}

static void visit_file(struct walk *w, unsigned version, const char *file,
		       bool is_own)
{
	uint64_t bytes;
	size_t len;

	read_word(w, file);
	if (!parse_bytes(w->word, &bytes))
		return;
	len = add_file(w, file);
	tell(w, version, file, is_own, bytes);
	w->path[len] = '\0';
}

/* The line of memory.stat that counts all groups above in. */
static void find_hierarchical(struct walk *w)
{
	static const char name[] = "hierarchical_memory_limit";
	uint64_t bytes;
	int c;

	do {
		c = read_field(&w->file, ' ', ' ', w->word, WORD_BYTES);
		if (strcmp(w->word, name) == 0) {
			read_field(&w->file, c, ' ', w->word, WORD_BYTES);
			if (parse_bytes(w->word, &bytes))
				tell(w, 1, name, true, bytes);
			return;
		}
	} while (skip_line(&w->file, c));
}

static void visit_stat(struct walk *w)
{
	size_t len = add_file(w, "memory.stat");

	if (open_at(&w->file, w->path)) {
		find_hierarchical(w);
		close_file(&w->file);
	}
	w->path[len] = '\0';
}

/* Does what is charged to the groups below count in this one as well? */
static bool counts_children(struct walk *w)
{
	read_word(w, "memory.use_hierarchy");
	return strcmp(w->word, "0") != 0;
}

static bool visit_group(struct walk *w, unsigned version, bool is_own)
{
	if (version == 2) {
		visit_file(w, 2, "memory.max", is_own);
		visit_file(w, 2, "memory.high", is_own);
		return true;
	}
	if (!is_own && !counts_children(w))
		return false;
	visit_file(w, 1, "memory.limit_in_bytes", is_own);
	if (is_own)
		visit_stat(w);
	return true;
}

/* The wanted file of the process's own group of version 2. */
static bool find_file(struct walk *w, unsigned version, bool is_own PP_UNUSED)
{
	size_t len, path_len;

	if (version != 2 || w->find_err != -ENOENT)
		return false;
	len = add_file(w, w->wanted);
	path_len = strlen(w->path);
	if (sys_call3(SYS_faccessat, AT_FDCWD, (long)(uintptr_t)w->path,
		      F_OK) == 0) {
		w->find_err = path_len < w->found_bytes ? 0 : -ENAMETOOLONG;
		if (!w->find_err)
			memcpy(w->found, w->path, path_len + 1);
	}
	w->path[len] = '\0';
	return false;
}

/* From the group to the mount point */

/* What is left of @group below @root: "" or "/...".  NULL: it is elsewhere. */
static const char *below(const char *group, const char *root)
{
	size_t len = strlen(root);

	if (len && root[len - 1] == '/')
		len--;
	if (strncmp(group, root, len) != 0 || (group[len] && group[len] != '/'))
		return NULL;
	group += len;
	if (strncmp(group, "/..", 3) == 0 && (!group[3] || group[3] == '/'))
		return NULL;
	return strcmp(group, "/") == 0 ? "" : group;
}

/* Sets @w->path to a group; false if it is too long. */
static bool set_path(struct walk *w, const char *group)
{
	const char *part[] = { w->root, w->mount_point, group };
	size_t at = 0, len;

	for (unsigned i = 0; i < ARRAY_SIZE(part); i++) {
		len = strlen(part[i]);
		if (at + len >= sizeof(w->path))
			return false;
		memcpy(w->path + at, part[i], len);
		at += len;
	}
	w->path[at] = '\0';
	return true;
}

static void visit_mount(struct walk *w, unsigned version, const char *group)
{
	size_t top = strlen(w->root) + strlen(w->mount_point);
	bool is_own = true;
	char *slash;

	if (!set_path(w, group))
		return;
	for (unsigned i = 0; i < MAX_LEVELS; i++) {
		if (!w->do_group(w, version, is_own))
			return;
		slash = strrchr(w->path, '/');
		if (!slash || (size_t)(slash - w->path) < top)
			return;
		*slash = '\0';
		is_own = false;
	}
}

/* What the process and its mounts say */

/*
 * One line of mountinfo:
 *	id parent device ROOT POINT options [tag...] - TYPE source SUPER-OPTIONS
 * Says which version of the hierarchy is mounted there, or 0.
 */
static unsigned parse_mount(struct walk *w, int *end)
{
	struct reader *in = &w->list;
	int c = ' ';

	for (int i = 0; i < 3; i++)
		c = read_field(in, c, ' ', w->word, WORD_BYTES);
	c = read_field(in, c, ' ', w->mount_root, PATH_BYTES);
	c = read_field(in, c, ' ', w->mount_point, PATH_BYTES);
	do
		c = read_field(in, c, ' ', w->word, WORD_BYTES);
	while (c == ' ' && strcmp(w->word, "-") != 0);
	*end = c = read_field(in, c, ' ', w->word, WORD_BYTES);
	if (!w->mount_root[0] || !w->mount_point[0])
		return 0;
	if (strcmp(w->word, "cgroup2") == 0)
		return 2;
	if (strcmp(w->word, "cgroup") != 0)
		return 0;
	c = read_field(in, c, ' ', w->word, WORD_BYTES);	/* source */
	*end = read_field(in, c, ' ', w->word, WORD_BYTES);
	return has_word(w->word, "memory") ? 1 : 0;
}

/* Mounts that show the group; or strays, of versions for which none did. */
static void visit_fitting(struct walk *w, unsigned version, bool strays)
{
	const char *group = below(w->group[version], w->mount_root);

	if (!w->has_group[version])
		return;
	if (!strays && group) {
		w->has_mount[version] = true;
		visit_mount(w, version, group);
	} else if (strays && !w->has_mount[version]) {
		visit_mount(w, version, "");
	}
}

static bool open_proc(struct walk *w, const char *file)
{
	set_path(w, file);
	return open_at(&w->list, w->path);
}

static bool visit_mounts(struct walk *w, bool strays)
{
	unsigned version;
	int c;

	w->mount_point[0] = '\0';
	if (!open_proc(w, "/proc/self/mountinfo"))
		return false;
	do {
		version = parse_mount(w, &c);
		unescape(w->mount_root);
		unescape(w->mount_point);
		if (version)
			visit_fitting(w, version, strays);
	} while (skip_line(&w->list, c));
	close_file(&w->list);
	return true;
}

static bool has_strays(const struct walk *w)
{
	return (w->has_group[1] && !w->has_mount[1]) ||
	       (w->has_group[2] && !w->has_mount[2]);
}

/* Where the hierarchies are mounted by custom. */
static void visit_customary(struct walk *w)
{
	memcpy(w->mount_point, "/sys/fs/cgroup", 15);
	visit_mount(w, 2, "");
	visit_mount(w, 1, "/memory");
}

/* Lines are id:controllers:path, in version 2 0::path.  Without the file the
 * groups are somewhere: paths that lie under no root. */
static void read_groups(struct walk *w)
{
	struct reader *in = &w->list;
	unsigned version;
	int c;

	if (!open_proc(w, "/proc/self/cgroup")) {
		w->has_group[1] = w->has_group[2] = true;
		return;
	}
	do {
		c = read_field(in, ' ', ':', w->word, WORD_BYTES);
		version = strcmp(w->word, "0") == 0 ? 2 : 0;
		c = read_field(in, c, ':', w->word, WORD_BYTES);
		if (has_word(w->word, "memory"))
			version = 1;
		else if (w->word[0])
			version = 0;
		if (!version || c != ':')
			continue;
		c = read_field(in, c, '\n', w->group[version], PATH_BYTES);
		w->has_group[version] = true;
	} while (skip_line(in, c));
	close_file(in);
}

static struct walk *make_walk(const char *root, group_fn *do_group)
{
	struct walk *w;
	void *storage;

	if (os_map_storage(sizeof(*w), &storage))
		return NULL;
	w = storage;
	w->root = root;
	w->do_group = do_group;
	return w;
}

static void walk_groups(struct walk *w)
{
	read_groups(w);
	if (!visit_mounts(w, false))
		visit_customary(w);
	else if (has_strays(w))
		visit_mounts(w, true);
}

void cgroup_walk(const char *root, cgroup_visit_fn *visit, void *arg)
{
	struct walk *w = make_walk(root, visit_group);

	if (!w)
		return;
	w->visit = visit;
	w->arg = arg;
	walk_groups(w);
	os_unreserve(w, sizeof(*w));
}

int cgroup_find_file(const char *root, const char *file, char *path,
		     size_t size)
{
	struct walk *w = make_walk(root, find_file);
	int err;

	if (!w)
		return -ENOMEM;
	w->wanted = file;
	w->found = path;
	w->found_bytes = size;
	w->find_err = -ENOENT;
	walk_groups(w);
	err = w->find_err;
	os_unreserve(w, sizeof(*w));
	return err;
}

static void keep_smallest(void *arg, const struct cgroup_limit *limit)
{
	uint64_t *smallest = arg;

	*smallest = min_u64(*smallest, limit->bytes);
}

uint64_t cgroup_limit_bytes(const char *root)
{
	uint64_t smallest = CGROUP_UNLIMITED;

	cgroup_walk(root, keep_smallest, &smallest);
	return smallest;
}
