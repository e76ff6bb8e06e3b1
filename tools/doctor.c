/* SPDX-License-Identifier: MIT */
/*
 * doctor.c - pagepool doctor: would a program run under a pool here, what
 * would its limit be, and what does the system lack or forbid?
 *
 * One fact a line.  "ok" is as it should be, "note" works, with less than
 * there could be, "bad" means that no program runs under a pool here.  Each
 * thing is tried rather than looked up, where that is possible: a filter for
 * system calls shows in nothing else.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <pagepool.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "auto_limit.h"
#include "config.h"
#include "os/os.h"
#include "tool.h"

#define MAX_SOURCES	128
#define TEXT_BYTES	1024
#define TRIAL_PAGES	64
/* What a pool may take of the mappings; see doc/tuning.md. */
#define NEEDED_MAPPINGS	3000

#ifndef SYS_close_range
#define SYS_close_range	436
#endif
#ifndef CLOSE_RANGE_UNSHARE
#define CLOSE_RANGE_UNSHARE	2u
#endif

enum level { OK, NOTE, BAD };

static const char *const level_name[] = { "ok", "note", "bad" };

static bool json, any_bad, any_fact;

/* Output */

static void put_json_string(const char *s)
{
	putchar('"');
	for (; *s; s++)
		if (*s == '"' || *s == '\\')
			printf("\\%c", *s);
		else if ((unsigned char)*s < ' ')
			printf("\\u%04x", (unsigned)*s);
		else
			putchar(*s);
	putchar('"');
}

__attribute__((format(printf, 3, 4)))
static void fact(enum level level, const char *name, const char *format, ...)
{
	char text[PATH_BYTES + TEXT_BYTES];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	any_bad |= level == BAD;
	if (json) {
		printf("%s\n  {\"level\": \"%s\", \"name\": \"%s\", \"text\": ",
		       any_fact ? "," : "[", level_name[level], name);
		put_json_string(text);
		putchar('}');
	} else {
		printf("%-4s  %s: %s\n", level_name[level], name, text);
	}
	any_fact = true;
}

/* Works, or what follows if it does not; @err as the kernel has it. */
static void trial(const char *name, int err, const char *otherwise)
{
	if (err)
		fact(NOTE, name, "%s: %s", strerror(-err), otherwise);
	else
		fact(OK, name, "works");
}

/* Small files */

/* The beginning of a file as one line; false, with errno, if there is none. */
static bool read_text(const char *path, char *text, size_t size)
{
	FILE *file = fopen(path, "re");

	if (!file)
		return false;
	text[fread(text, 1, size - 1, file)] = '\0';
	fclose(file);
	return true;
}

static bool read_line(const char *path, char *text, size_t size)
{
	if (!read_text(path, text, size))
		return false;
	text[strcspn(text, "\n")] = '\0';
	return true;
}

/* The number behind "Name:" in a file of such lines; -1 if it is not there. */
static long long read_number(const char *path, const char *name)
{
	static char text[16384];
	const char *line;

	if (!read_text(path, text, sizeof(text)))
		return -1;
	line = strstr(text, name);
	return line ? strtoll(line + strlen(name), NULL, 10) : -1;
}

/* The limit */

struct source {
	char		name[TEXT_BYTES];
	uint64_t	bytes, headroom_bytes;
};

static struct source sources[MAX_SOURCES];
static unsigned nr_sources;

/* The path names most files already; a line of a file it does not. */
static void name_source(struct source *s, const struct auto_limit_source *found)
{
	const char *path = found->path ? found->path : found->name;
	size_t path_len = strlen(path), len = strlen(found->name);

	if (path_len >= len && strcmp(path + path_len - len, found->name) == 0)
		snprintf(s->name, sizeof(s->name), "%s", path);
	else
		snprintf(s->name, sizeof(s->name), "%s of %s", found->name,
			 path);
}

static void keep_source(void *arg, const struct auto_limit_source *found)
{
	struct source *s = &sources[nr_sources];

	(void)arg;
	if (nr_sources == MAX_SOURCES)
		return;
	nr_sources++;
	s->bytes = found->bytes;
	s->headroom_bytes = found->headroom_bytes;
	name_source(s, found);
}

static const struct source *deciding_source(uint64_t bytes)
{
	for (unsigned i = 0; i < nr_sources; i++)
		if (sources[i].bytes != AUTO_LIMIT_NONE &&
		    sources[i].bytes - sources[i].headroom_bytes == bytes)
			return &sources[i];
	return NULL;
}

static void look_at_limit(void)
{
	uint64_t bytes = auto_limit_bytes(keep_source, NULL);
	const struct source *deciding = deciding_source(bytes);
	const char *set = getenv("PAGEPOOL_LIMIT");

	fact(deciding ? OK : NOTE, "limit", "%llu bytes, decided by %s",
	     (unsigned long long)bytes,
	     deciding ? deciding->name : "nothing that could be found");
	for (unsigned i = 0; i < nr_sources; i++)
		if (sources[i].bytes == AUTO_LIMIT_NONE)
			fact(OK, "limit source", "%s: no limit",
			     sources[i].name);
		else
			fact(OK, "limit source", "%s: %llu bytes, less %llu "
			     "of headroom: %llu", sources[i].name,
			     (unsigned long long)sources[i].bytes,
			     (unsigned long long)sources[i].headroom_bytes,
			     (unsigned long long)(sources[i].bytes -
						  sources[i].headroom_bytes));
	if (set && strcmp(set, "auto") != 0)
		fact(NOTE, "limit setting", "PAGEPOOL_LIMIT=%s takes the "
		     "place of it", set);
}

/* The pool */

static void look_at_library(void)
{
	char path[PATH_BYTES];

	if (!find_library(path, sizeof(path)))
		fact(BAD, "library", "%s: %s", path, strerror(errno));
	else if (strpbrk(path, " :"))
		fact(BAD, "library", "%s: LD_PRELOAD takes no path with a "
		     "space or a colon", path);
	else
		fact(OK, "library", "%s", path);
}

static void look_at_pool(void)
{
	struct pp_pool *pool;
	int err = pp_pool_create(NULL, &pool);
	void *run;

	if (err) {
		fact(BAD, "pool", "cannot be made: %s", strerror(-err));
		return;
	}
	run = pp_alloc_pages(pool, TRIAL_PAGES, 0);
	if (run) {
		memset(run, 1, TRIAL_PAGES * (size_t)PP_PAGE_SIZE);
		pp_free_pages(pool, run);
		fact(OK, "pool", "can be made and used");
	} else {
		fact(BAD, "pool", "has no memory: %s", strerror(errno));
	}
	pp_pool_destroy(pool);
}

/* Calls that a filter may refuse, or an old kernel does not have */

static int minus_errno(long ret)
{
	return ret < 0 ? -errno : 0;
}

static void try_memory_calls(void)
{
	size_t page = (size_t)PP_PAGE_SIZE;
	unsigned long node_mask = 1;
	void *storage;
	char *pages;

	if (os_map_storage(4 * page, &storage)) {
		fact(BAD, "mmap", "no memory can be mapped");
		return;
	}
	pages = storage;
	memset(pages, 1, 4 * page);
	trial("madvise", os_purge(pages, page), "memory is never given back "
	      "to the kernel, only used again");
	trial("mremap", os_move(pages + page, pages + 3 * page, page),
	      "large blocks are copied when they grow");
	trial("mbind", minus_errno(syscall(SYS_mbind, pages, page,
					   MPOL_PREFERRED, &node_mask, 2ul, 0)),
	      "memory cannot be bound to nodes");
	os_unreserve(pages, 4 * page);
}

static int try_io_uring(void)
{
	int err = minus_errno(syscall(SYS_io_uring_setup, 0u, NULL));

	/* Without arguments it has nothing else to say. */
	return err == -EFAULT || err == -EINVAL ? 0 : err;
}

static int try_memfd(void)
{
	long fd = syscall(SYS_memfd_create, "pagepool", 1u);

	if (fd >= 0)
		close((int)fd);
	return minus_errno(fd);
}

static int try_membarrier(void)
{
	int err = os_membarrier_register();

	return err ? err : os_membarrier();
}

static void *do_nothing(void *arg)
{
	return arg;
}

static int try_thread(void)
{
	pthread_t thread;
	int err = pthread_create(&thread, NULL, do_nothing, NULL);

	if (!err)
		pthread_join(thread, NULL);
	return -err;
}

static void try_calls(void)
{
	trial("membarrier", try_membarrier(), "caches of threads take a lock, "
	      "and a malloc takes ten times as long");
	try_memory_calls();
	trial("io_uring", try_io_uring(), "nothing needs it yet");
	trial("memfd_create", try_memfd(), "nothing needs it yet");
	trial("threads", try_thread(), "no background thread, requests do "
	      "its work");
}

/* Limits */

static void look_at_rlimit(const char *name, int resource, uint64_t low,
			   const char *note)
{
	uint64_t value = os_rlimit_bytes(resource);

	if (value == UINT64_MAX)
		fact(OK, name, "unlimited");
	else
		fact(value < low ? NOTE : OK, name, "%llu%s%s",
		     (unsigned long long)value, value < low ? ": " : "",
		     value < low ? note : "");
}

static void look_at_rlimits(void)
{
	look_at_rlimit("RLIMIT_AS", RLIMIT_AS, UINT64_MAX,
		       "the pool has few addresses, a long block may fail");
	look_at_rlimit("RLIMIT_DATA", RLIMIT_DATA, UINT64_MAX,
		       "the pool and thread stacks count towards it");
	look_at_rlimit("RLIMIT_MEMLOCK", RLIMIT_MEMLOCK, 0, "");
	look_at_rlimit("RLIMIT_NPROC", RLIMIT_NPROC, 64,
		       "threads may be refused");
	look_at_rlimit("RLIMIT_NOFILE", RLIMIT_NOFILE, 16, "few descriptors");
}

static void look_at_overcommit(void)
{
	static const char path[] = "/proc/sys/vm/overcommit_memory";
	long long limit = read_number("/proc/meminfo", "CommitLimit:");
	long long used = read_number("/proc/meminfo", "Committed_AS:");
	char mode[32];

	if (!read_line(path, mode, sizeof(mode)))
		fact(NOTE, "overcommit", "%s: %s", path, strerror(errno));
	else if (strcmp(mode, "2") == 0)
		fact(NOTE, "overcommit", "mode 2, strict: %lld KiB of %lld "
		     "are left to commit", limit - used, limit);
	else
		fact(OK, "overcommit", "mode %s", mode);
}

static long count_mappings(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	long nr = 0;
	int c;

	if (!maps)
		return -1;
	while ((c = getc(maps)) != EOF)
		nr += c == '\n';
	fclose(maps);
	return nr;
}

static void look_at_mappings(void)
{
	static const char path[] = "/proc/sys/vm/max_map_count";
	long present = count_mappings();
	char text[32];
	long most;

	if (!read_line(path, text, sizeof(text)) || present < 0) {
		fact(NOTE, "max_map_count", "%s: %s", path, strerror(errno));
		return;
	}
	most = strtol(text, NULL, 10);
	fact(most - present < NEEDED_MAPPINGS ? NOTE : OK, "max_map_count",
	     "%ld, of which this process has %ld", most, present);
}

/* What is outside of the pool */

static const char *const source_name[] = {
	"named by MEMORY_PRESSURE_WATCH", "of the own control group",
	"of the system",
};

/* 0, or why pressure cannot be heard of there. */
static int try_source(enum psi_kind kind, struct psi_source *source)
{
	int err = psi_try("", config_pressure(), kind, source), fd;

	if (err)
		return err;
	fd = psi_open(source);
	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

/* One more reason behind the others. */
static void add_reason(char *why, size_t size, const struct psi_source *source,
		       int err)
{
	size_t len = strlen(why);

	if (err == -ECANCELED)
		snprintf(why, size, ": MEMORY_PRESSURE_WATCH is /dev/null");
	else if (err != -ENODATA)
		snprintf(why + len, size - len, ": %.250s: %s",
			 *source->path ? source->path :
			 "memory.pressure of the own group", strerror(-err));
}

static void look_at_pressure(int no_watch)
{
	static struct psi_source source;
	char why[TEXT_BYTES] = "";
	enum psi_kind kind;
	int err;

	if (no_watch) {
		fact(NOTE, "pressure", "is not heard of: close_range: %s",
		     strerror(-no_watch));
		return;
	}
	for (kind = PSI_SERVICE; kind < PSI_NONE; kind++) {
		err = try_source(kind, &source);
		if (!err) {
			fact(OK, "pressure", "is heard of by %s, %s",
			     source.path, source_name[kind]);
			return;
		}
		add_reason(why, sizeof(why), &source, err);
	}
	fact(NOTE, "pressure", "is not heard of%s", why);
}

static void watch_source(void *arg, const struct auto_limit_source *found)
{
	int *fd = arg;

	if (found->path && *fd >= 0 &&
	    inotify_add_watch(*fd, found->path, IN_MODIFY) < 0) {
		close(*fd);
		*fd = -errno;
	}
}

static void look_at_changes(int no_watch)
{
	int fd = inotify_init1(IN_CLOEXEC);

	fd = fd < 0 ? -errno : fd;
	auto_limit_bytes(watch_source, &fd);
	if (no_watch)
		fact(NOTE, "limit changes", "are not noticed: close_range: %s",
		     strerror(-no_watch));
	else if (fd < 0)
		fact(NOTE, "limit changes", "are looked for every 5 s: "
		     "inotify: %s", strerror(-fd));
	else
		fact(OK, "limit changes", "are noticed at once");
	if (fd >= 0)
		close(fd);
}

static void look_outside(void)
{
	/* Closes nothing that there is. */
	int no_watch = minus_errno(syscall(SYS_close_range, ~0u, ~0u,
					   CLOSE_RANGE_UNSHARE));

	look_at_pressure(no_watch);
	look_at_changes(no_watch);
}

/* The system */

static void look_at_file(const char *name, const char *path, bool show,
			 const char *without)
{
	char text[TEXT_BYTES];

	if (read_line(path, text, sizeof(text)))
		fact(OK, name, "%s", show ? text : "readable");
	else
		fact(NOTE, name, "%s: %s: %s", path, strerror(errno), without);
}

/* What the setting thp makes of the system's. */
static void look_at_huge_pages(void)
{
	static const char path[] =
		"/sys/kernel/mm/transparent_hugepage/enabled";
	static const char *const means[] = {
		[OS_THP_NEVER] = "none, whatever thp is set to",
		[OS_THP_MADVISE] = "none by default, with thp=always "
				   "everywhere",
		[OS_THP_ALWAYS] = "for runs of 4 MiB and more by default, "
				  "with thp=always everywhere",
	};
	char text[TEXT_BYTES];

	if (read_line(path, text, sizeof(text)))
		fact(OK, "huge pages", "%s: %s", text,
		     means[os_system_thp()]);
	else
		fact(NOTE, "huge pages", "%s: %s: no transparent huge pages",
		     path, strerror(errno));
}

static void look_at_seccomp(void)
{
	long long mode = read_number("/proc/self/status", "\nSeccomp:");

	if (mode < 0)
		fact(NOTE, "seccomp", "unknown, /proc/self/status does not "
		     "say");
	else if (mode)
		fact(NOTE, "seccomp", "mode %lld: calls may be refused, those "
		     "that matter are tried above", mode);
	else
		fact(OK, "seccomp", "no filter");
}

static void look_at_groups(void)
{
	char text[8192];
	bool v1, v2;

	if (!read_text("/proc/self/cgroup", text, sizeof(text))) {
		fact(NOTE, "control groups", "/proc/self/cgroup: %s: only the "
		     "customary places are looked at", strerror(errno));
		return;
	}
	v1 = strstr(text, ":memory:") || strstr(text, ",memory:") ||
	     strstr(text, ":memory,") || strstr(text, ",memory,");
	v2 = strncmp(text, "0::", 3) == 0 || strstr(text, "\n0::");
	fact(v1 || v2 ? OK : NOTE, "control groups", "%s",
	     v1 ? v2 ? "version 1 for memory, version 2 beside it" :
		       "version 1" :
	     v2 ? "version 2" : "none");
}

static void look_at_system(void)
{
	look_at_groups();
	look_at_huge_pages();
	look_at_file("nodes", "/sys/devices/system/node/online", true,
		     "taken as one node");
	look_at_seccomp();
	look_at_file("/proc", "/proc/self/statm", false,
		     "not all of the above could be looked at");
	if (access("/sys/kernel", R_OK | X_OK))
		fact(NOTE, "/sys", "%s: not all of the above could be looked "
		     "at", strerror(errno));
	else
		fact(OK, "/sys", "readable");
}

/* The command */

/* Along PATH, as execvp(3) does. */
static bool find_command(const char *command, char *path, size_t size)
{
	const char *at = getenv("PATH");
	struct stat st;

	if (strchr(command, '/')) {
		snprintf(path, size, "%s", command);
		return access(path, X_OK) == 0;
	}
	errno = ENOENT;
	for (at = at ? at : "/bin:/usr/bin"; at; at = strchr(at, ':')) {
		at += *at == ':';
		snprintf(path, size, "%.*s%s%s", (int)strcspn(at, ":"), at,
			 *at == ':' || !*at ? "./" : "/", command);
		if (access(path, X_OK) == 0 && stat(path, &st) == 0 &&
		    S_ISREG(st.st_mode))
			return true;
	}
	snprintf(path, size, "%s", command);
	return false;
}

static bool has_interpreter(int fd, const Elf64_Ehdr *head)
{
	Elf64_Phdr part;
	off_t at;

	for (unsigned i = 0; i < head->e_phnum; i++) {
		at = (off_t)(head->e_phoff + (uint64_t)i * head->e_phentsize);
		if (pread(fd, &part, sizeof(part), at) == sizeof(part) &&
		    part.p_type == PT_INTERP)
			return true;
	}
	return false;
}

static void look_into_program(const char *path, int fd)
{
	Elf64_Ehdr head = { .e_ident = { 0 } };
	struct stat st;

	if (fstat(fd, &st) || pread(fd, &head, sizeof(head), 0) < 4)
		fact(BAD, "command", "%s cannot be read", path);
	else if (st.st_mode & (S_ISUID | S_ISGID))
		fact(BAD, "command", "%s is set-user-ID: nothing is preloaded "
		     "into it", path);
	else if (memcmp(head.e_ident, "#!", 2) == 0)
		fact(OK, "command", "%s, a script: its interpreter runs under "
		     "the pool", path);
	else if (memcmp(head.e_ident, ELFMAG, SELFMAG) != 0)
		fact(NOTE, "command", "%s is no ELF program", path);
	else if (head.e_ident[EI_CLASS] != ELFCLASS64)
		fact(BAD, "command", "%s is a program of 32 bits, the library "
		     "has 64", path);
	else if (!has_interpreter(fd, &head))
		fact(BAD, "command", "%s is linked statically: nothing is "
		     "preloaded into it", path);
	else
		fact(OK, "command", "%s", path);
}

static void look_at_command(const char *command)
{
	char path[PATH_BYTES];
	int fd;

	if (!find_command(command, path, sizeof(path))) {
		fact(BAD, "command", "%s: %s", path, strerror(errno));
		return;
	}
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		/* May be executed and not read: nothing can be said. */
		fact(NOTE, "command", "%s: %s", path, strerror(errno));
		return;
	}
	look_into_program(path, fd);
	close(fd);
}

int doctor(char **argv)
{
	if (*argv && strcmp(*argv, "--json") == 0) {
		json = true;
		argv++;
	}
	if (*argv && strcmp(*argv, "--") == 0) {
		argv++;
	} else if (*argv && **argv == '-') {
		fprintf(stderr, "pagepool: doctor: %s: unknown option\n",
			*argv);
		return EXIT_USAGE;
	}
	look_at_limit();
	look_at_library();
	look_at_pool();
	if (*argv)
		look_at_command(*argv);
	try_calls();
	look_at_rlimits();
	look_at_overcommit();
	look_at_mappings();
	look_outside();
	look_at_system();
	if (json)
		puts("\n]");
	return any_bad ? 1 : 0;
}
