// SPDX-License-Identifier: MIT
/*
 * prog_watch - run a command and measure the pools of its process tree.
 *
 *   prog_watch [-o REPORT] LIMIT -- command [argument...]
 *
 * While the command runs, /proc/PID/smaps of every descendant is read about
 * every 5 ms, and the resident bytes of the mappings that a pool owns are
 * added up.  Two ways to know those mappings:
 *
 *   - by name, [anon:pagepool...], where the kernel keeps names;
 *   - else by shape: neighbouring private anonymous mappings, not executable,
 *     all of them or none of them NORESERVE, that together span 4 GiB or more.
 *
 * A walk through smaps is not one moment: a pool that purges low addresses and
 * then backs high ones during the walk is counted twice.  So a sum above the
 * limit only makes a process suspect.  It is stopped (SIGSTOP), read again in
 * that one moment, and continued; only the second sum counts.
 *
 * The report is lines of "name value", then one line for each pool seen:
 *
 *   limit BYTES      what the pools were held against
 *   samples N        smaps read
 *   suspects N       sums above the limit before the process was stopped
 *   over N           sums above the limit of a stopped process
 *   pools N          processes in which a pool was seen
 *   max BYTES        the largest sum that counts
 *   left N           descendants killed because they outlived the command
 *   pool PID COMMAND BYTES
 *
 * The status is the command's, or 128 + its signal; 125 when the watch itself
 * failed.  SIGTERM, SIGINT, SIGHUP and the death of the parent kill
 * the whole tree.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	PERIOD_NS	= 5 * 1000 * 1000,
	STOP_TRIES	= 200,		/* of 1 ms: a stop takes effect */
	LEAVE_TRIES	= 150,		/* of 20 ms: descendants may finish */
	MAX_PROCS	= 16384,
	MAX_PID		= 4 << 20,	/* the kernel's own bound */
};

#define POOL_SPAN_MIN	(4ULL << 30)
#define STATUS_WATCH	125

struct proc {
	pid_t		pid, parent;
	bool		ours;
};

struct pool {
	struct pool	*next;
	pid_t		pid;
	char		command[32];
	uint64_t	max_bytes;
};

/* One walk through smaps: the mapping being read, its group, the sums. */
struct walk {
	uint64_t	from, to, rss_bytes;
	bool		anon, named, noreserve;

	uint64_t	group_from, group_to, group_bytes;
	bool		group_noreserve;

	uint64_t	named_bytes, shaped_bytes;
	bool		has_named, has_shaped;
};

static uint64_t limit_bytes, max_bytes;
static unsigned long nr_samples, nr_suspects, nr_over, nr_pools, nr_left;
static struct pool *pools;

/* Bit map of the pids that were there before the command: none can be ours. */
static uint8_t foreign[MAX_PID / 8 + 1];

static void die(const char *what)
{
	fprintf(stderr, "prog_watch: %s: %s\n", what, strerror(errno));
	exit(STATUS_WATCH);
}

static void pause_ns(long ns)
{
	struct timespec t = { .tv_nsec = ns };

	nanosleep(&t, NULL);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* The pools of one process. */

static void walk_end_group(struct walk *w)
{
	if (w->group_to - w->group_from >= POOL_SPAN_MIN) {
		w->has_shaped = true;
		w->shaped_bytes += w->group_bytes;
	}
	w->group_from = w->group_to = w->group_bytes = 0;
}

static void walk_end_mapping(struct walk *w)
{
	if (w->to == 0)
		return;
	if (w->named) {
		w->has_named = true;
		w->named_bytes += w->rss_bytes;
	}
	if (!w->anon || w->from != w->group_to ||
	    w->noreserve != w->group_noreserve)
		walk_end_group(w);
	if (!w->anon)
		return;
	if (w->group_to == 0)
		w->group_from = w->from;
	w->group_to = w->to;
	w->group_noreserve = w->noreserve;
	w->group_bytes += w->rss_bytes;
}

/* "7f0000000000-7f1000000000 rw-p 00000000 00:00 0    name" */
static void walk_begin_mapping(struct walk *w, const char *line)
{
	char *at, perms[5] = "";
	unsigned long inode = 1;
	int name = 0;

	walk_end_mapping(w);
	w->from = strtoull(line, &at, 16);
	w->to = strtoull(at + 1, &at, 16);
	w->rss_bytes = 0;
	w->noreserve = false;
	if (sscanf(at, " %4s %*x %*x:%*x %lu %n", perms, &inode, &name) < 2)
		perms[0] = '\0';
	at += name;
	w->named = strncmp(at, "[anon:pagepool", 14) == 0;
	w->anon = inode == 0 && (*at == '\0' || w->named) &&
		  strchr("r-", perms[0]) && perms[2] == '-' &&
		  perms[3] == 'p';
}

static void walk_line(struct walk *w, char *line)
{
	if (isdigit((unsigned char)*line) || islower((unsigned char)*line))
		walk_begin_mapping(w, line);
	else if (strncmp(line, "Rss:", 4) == 0)
		w->rss_bytes = strtoull(line + 4, NULL, 10) * 1024;
	else if (strncmp(line, "VmFlags:", 8) == 0)
		w->noreserve = strstr(line + 8, " nr") != NULL;
}

/* Returns false when the process has no pool, or is gone. */
static bool read_pool(pid_t pid, uint64_t *bytes)
{
	struct walk w = { .to = 0 };
	char path[64], line[4608];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/smaps", (int)pid);
	f = fopen(path, "re");
	if (!f)
		return false;
	while (fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		walk_line(&w, line);
	}
	fclose(f);
	walk_end_mapping(&w);
	walk_end_group(&w);
	nr_samples++;
	*bytes = w.has_named ? w.named_bytes : w.shaped_bytes;
	return w.has_named || w.has_shaped;
}

/* The process tree. */

/* State and parent from a stat file; '\0' when there is none. */
static char read_stat(const char *path, pid_t *parent)
{
	char text[512], state = '\0', *at;
	ssize_t got;
	int fd, ppid = 0;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return '\0';
	got = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (got <= 0)
		return '\0';
	text[got] = '\0';
	at = strrchr(text, ')');
	if (!at || sscanf(at + 1, " %c %d", &state, &ppid) != 2)
		return '\0';
	*parent = ppid;
	return state;
}

static size_t list_procs(struct proc *procs)
{
	size_t nr = 0;
	struct dirent *e;
	char path[64];
	DIR *dir;

	dir = opendir("/proc");
	if (!dir)
		die("/proc");
	while (nr < MAX_PROCS && (e = readdir(dir))) {
		struct proc *p = &procs[nr];
		char state;

		p->pid = atoi(e->d_name);
		if (p->pid <= 0 || p->pid > MAX_PID ||
		    foreign[p->pid / 8] >> p->pid % 8 & 1)
			continue;
		snprintf(path, sizeof(path), "/proc/%d/stat", (int)p->pid);
		state = read_stat(path, &p->parent);
		p->ours = state && p->parent == getpid();
		if (state && state != 'Z')
			nr++;
	}
	closedir(dir);
	return nr;
}

/* Before the command starts; a pid that is used again is missed, no more. */
static void note_foreign(struct proc *procs)
{
	size_t nr = list_procs(procs);

	for (size_t i = 0; i < nr; i++)
		foreign[procs[i].pid / 8] |= (uint8_t)(1 << procs[i].pid % 8);
}

static const struct proc *find_proc(const struct proc *procs, size_t nr,
				    pid_t pid)
{
	for (size_t i = 0; i < nr; i++)
		if (procs[i].pid == pid)
			return &procs[i];
	return NULL;
}

/* Marks our descendants; each pass reaches one generation further. */
static void mark_descendants(struct proc *procs, size_t nr)
{
	bool more = true;

	while (more) {
		more = false;
		for (size_t i = 0; i < nr; i++) {
			const struct proc *up;

			if (procs[i].ours)
				continue;
			up = find_proc(procs, nr, procs[i].parent);
			if (up && up->ours)
				procs[i].ours = more = true;
		}
	}
}

static size_t list_descendants(struct proc *procs)
{
	size_t nr = list_procs(procs);

	mark_descendants(procs, nr);
	return nr;
}

/* Sampling. */

static bool threads_stopped(pid_t pid)
{
	bool stopped = true;
	struct dirent *e;
	char path[300];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	dir = opendir(path);
	if (!dir)
		return true;
	while (stopped && (e = readdir(dir))) {
		pid_t parent;
		char state;

		if (!isdigit((unsigned char)*e->d_name))
			continue;
		snprintf(path, sizeof(path), "/proc/%d/task/%.12s/stat",
			 (int)pid, e->d_name);
		state = read_stat(path, &parent);
		stopped = state == '\0' || strchr("TtZX", state);
	}
	closedir(dir);
	return stopped;
}

/* Returns false when there was no moment to look at. */
static bool read_pool_stopped(pid_t pid, uint64_t *bytes)
{
	bool stopped = false;

	if (kill(pid, SIGSTOP) < 0)
		return false;
	for (int i = 0; i < STOP_TRIES && !stopped; i++) {
		pause_ns(1000 * 1000);
		stopped = threads_stopped(pid);
	}
	stopped = stopped && read_pool(pid, bytes);
	kill(pid, SIGCONT);
	return stopped;
}

static struct pool *find_pool(pid_t pid)
{
	struct pool *p;

	for (p = pools; p; p = p->next)
		if (p->pid == pid)
			return p;
	p = calloc(1, sizeof(*p));
	if (!p)
		die("calloc");
	p->pid = pid;
	p->next = pools;
	pools = p;
	nr_pools++;
	return p;
}

static void record_pool(pid_t pid, uint64_t bytes)
{
	struct pool *p = find_pool(pid);
	char path[64];
	FILE *f;

	if (bytes > max_bytes)
		max_bytes = bytes;
	if (bytes < p->max_bytes)
		return;
	p->max_bytes = bytes;
	snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	f = fopen(path, "re");
	if (!f)
		return;
	if (fscanf(f, "%31s", p->command) != 1)
		strcpy(p->command, "?");
	fclose(f);
}

static void sample_process(pid_t pid)
{
	uint64_t bytes;

	if (!read_pool(pid, &bytes))
		return;
	if (bytes > limit_bytes) {
		nr_suspects++;
		if (!read_pool_stopped(pid, &bytes))
			return;
		nr_over += bytes > limit_bytes;
	}
	record_pool(pid, bytes);
}

static void sample_all(struct proc *procs)
{
	size_t nr = list_descendants(procs);

	for (size_t i = 0; i < nr; i++)
		if (procs[i].ours)
			sample_process(procs[i].pid);
}

/* Running the command. */

static void start_signals(sigset_t *set, sigset_t *old)
{
	sigemptyset(set);
	sigaddset(set, SIGCHLD);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGHUP);
	if (sigprocmask(SIG_BLOCK, set, old) < 0)
		die("sigprocmask");
}

static pid_t start_command(char **argv, const sigset_t *mask)
{
	pid_t pid = fork();

	if (pid < 0)
		die("fork");
	if (pid > 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* A shell's background commands ignore these two. */
	signal(SIGINT, SIG_DFL);
	signal(SIGQUIT, SIG_DFL);
	sigprocmask(SIG_SETMASK, mask, NULL);
	execvp(argv[0], argv);
	fprintf(stderr, "prog_watch: %s: %s\n", argv[0], strerror(errno));
	_exit(errno == ENOENT ? 127 : 126);
}

/* Reaps what there is; true when the command itself was among it. */
static bool reap(pid_t command, int *status)
{
	bool ended = false;
	pid_t pid;
	int s;

	while ((pid = waitpid(-1, &s, WNOHANG)) > 0) {
		if (pid != command)
			continue;
		ended = true;
		*status = WIFSIGNALED(s) ? 128 + WTERMSIG(s) : WEXITSTATUS(s);
	}
	return ended;
}

static size_t kill_descendants(struct proc *procs, int sig)
{
	size_t nr = list_descendants(procs), nr_ours = 0;

	for (size_t i = 0; i < nr; i++) {
		if (!procs[i].ours)
			continue;
		nr_ours++;
		if (sig)
			kill(procs[i].pid, sig);
	}
	return nr_ours;
}

/* Orphans are ours, as the subreaper: give them time, then end them. */
static void end_descendants(struct proc *procs, bool now)
{
	int status, tries = now ? 0 : LEAVE_TRIES;

	while (tries-- > 0 && kill_descendants(procs, 0) > 0) {
		reap(-1, &status);
		pause_ns(20 * 1000 * 1000);
	}
	nr_left = kill_descendants(procs, SIGKILL);
	for (tries = STOP_TRIES; tries-- > 0; pause_ns(1000 * 1000)) {
		reap(-1, &status);
		if (kill_descendants(procs, SIGKILL) == 0)
			break;
	}
}

/* At most a fifth of one processor goes into watching. */
static int watch(pid_t command, const sigset_t *set, struct proc *procs)
{
	int status = STATUS_WATCH, sig = 0;

	while (!reap(command, &status)) {
		uint64_t start_ns = now_ns(), pause;
		struct timespec t = { .tv_sec = 0 };

		sample_all(procs);
		pause = 4 * (now_ns() - start_ns);
		if (pause < PERIOD_NS)
			pause = PERIOD_NS;
		if (pause > 100 * 1000 * 1000)
			pause = 100 * 1000 * 1000;
		t.tv_nsec = (long)pause;
		sig = sigtimedwait(set, NULL, &t);
		if (sig > 0 && sig != SIGCHLD) {
			status = 128 + sig;
			break;
		}
		sig = 0;
	}
	end_descendants(procs, sig != 0);
	return status;
}

static void report(FILE *f)
{
	fprintf(f, "limit %ju\nsamples %lu\nsuspects %lu\nover %lu\n",
		(uintmax_t)limit_bytes, nr_samples, nr_suspects, nr_over);
	fprintf(f, "pools %lu\nmax %ju\nleft %lu\n", nr_pools,
		(uintmax_t)max_bytes, nr_left);
	for (struct pool *p = pools; p; p = p->next)
		fprintf(f, "pool %d %s %ju\n", (int)p->pid, p->command,
			(uintmax_t)p->max_bytes);
	if (fflush(f) || ferror(f))
		die("report");
}

static bool parse_size(const char *text, uint64_t *bytes)
{
	static const char units[] = "KMGT";
	const char *unit;
	char *end;

	errno = 0;
	*bytes = strtoull(text, &end, 10);
	if (end == text || errno)
		return false;
	unit = *end ? strchr(units, *end) : NULL;
	if (unit) {
		*bytes <<= 10 * (unit - units + 1);
		end++;
	}
	return *end == '\0';
}

int main(int argc, char **argv)
{
	struct proc *procs = calloc(MAX_PROCS, sizeof(*procs));
	sigset_t set, old;
	FILE *out = stderr;
	int opt, status;

	while ((opt = getopt(argc, argv, "+o:")) == 'o')
		if (!(out = fopen(optarg, "we")))
			die(optarg);
	if (opt != -1 || argc - optind < 2 ||
	    !parse_size(argv[optind++], &limit_bytes)) {
		fprintf(stderr, "prog_watch: [-o REPORT] LIMIT -- command\n");
		return STATUS_WATCH;
	}
	if (strcmp(argv[optind], "--") == 0)
		optind++;
	if (optind >= argc || !procs)
		die("no command or no memory");
	/* A group of its own, for one kill to reach all of the tree. */
	setpgid(0, 0);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	start_signals(&set, &old);
	note_foreign(procs);
	status = watch(start_command(argv + optind, &old), &set, procs);
	report(out);
	return status;
}
