/* SPDX-License-Identifier: MIT */
/* os.c - see os.h. */
#include "os/os.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/kcmp.h>
#include <linux/membarrier.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <time.h>

#include "base/bits.h"
#include "base/fault.h"
#include "base/strbuf.h"
#include "os/syscall.h"

#ifndef PR_SET_VMA
#define PR_SET_VMA		0x53564d41
#endif
#ifndef PR_SET_VMA_ANON_NAME
#define PR_SET_VMA_ANON_NAME	0
#endif
#ifndef SYS_close_range
#define SYS_close_range		436
#endif
#ifndef CLOSE_RANGE_UNSHARE
#define CLOSE_RANGE_UNSHARE	2
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED	24
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP	4
#endif

#define OWN_FD_LEAST	700
#define THP_PATH	"/sys/kernel/mm/transparent_hugepage/enabled"
#define THP_BYTES	64

#define RESERVE_FLAGS	(MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE)

int os_open(const char *path, int flags)
{
	if (fault_hit(FAULT_OPEN))
		return -EMFILE;
	return (int)sys_call6(SYS_openat, AT_FDCWD, (long)(uintptr_t)path,
			      flags | O_CLOEXEC, 0, 0, 0);
}

long os_read(int fd, void *buf, size_t bytes)
{
	if (fault_hit(FAULT_READ))
		return -EIO;
	return sys_read(fd, buf, bytes);
}

/*
 * A huge page behind a block that has one page in use would be memory that
 * nobody counted; where it is counted, thp.c says otherwise.  Names are for
 * people who read smaps.  Neither may fail us.
 */
static void os_dress(void *addr, size_t bytes, const char *name)
{
	sys_madvise(addr, bytes, MADV_NOHUGEPAGE);
	sys_prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, (long)(uintptr_t)addr,
		  (long)bytes, (long)(uintptr_t)name);
}

static void unmap_outside(char *base, size_t total, char *keep, size_t bytes)
{
	if (keep > base)
		sys_munmap(base, (size_t)(keep - base));
	if (base + total > keep + bytes)
		sys_munmap(keep + bytes,
			   (size_t)(base + total - (keep + bytes)));
}

int os_reserve(size_t bytes, size_t align_bytes, const char *name, void **out)
{
	size_t total = bytes + align_bytes;
	char *base, *aligned;
	long ret;

	if (fault_hit(FAULT_RESERVE))
		return -ENOMEM;
	if (total < bytes)
		return -ENOMEM;
	ret = sys_mmap(NULL, total, PROT_NONE, RESERVE_FLAGS);
	if (ret < 0 && ret > -4096)
		return (int)ret;
	base = (char *)(uintptr_t)ret;
	aligned = (char *)(uintptr_t)round_up_pow2((uintptr_t)base,
						   align_bytes);
	unmap_outside(base, total, aligned, bytes);
	os_dress(aligned, bytes, name);
	*out = aligned;
	return 0;
}

void os_unreserve(void *addr, size_t bytes)
{
	sys_munmap(addr, bytes);
}

int os_commit(void *addr, size_t bytes)
{
	if (fault_hit(FAULT_COMMIT))
		return -ENOMEM;
	sys_call3(SYS_munlock, (long)(uintptr_t)addr, (long)bytes, 0);
	return (int)sys_mprotect(addr, bytes, PROT_READ | PROT_WRITE);
}

int os_make_readable(void *addr, size_t bytes)
{
	if (fault_hit(FAULT_COMMIT))
		return -ENOMEM;
	return (int)sys_mprotect(addr, bytes, PROT_READ);
}

int os_purge(void *addr, size_t bytes)
{
	long ret;

	if (fault_hit(FAULT_PURGE))
		return -ENOMEM;
	ret = sys_madvise(addr, bytes, MADV_DONTNEED);
	/* Locked by mlock or mlockall; since Linux 5.18 it can be asked for. */
	if (ret == -EINVAL)
		ret = sys_madvise(addr, bytes, MADV_DONTNEED_LOCKED);
	return (int)ret;
}

int os_advise_huge(void *addr, size_t bytes, bool huge)
{
	if (fault_hit(FAULT_HUGE))
		return -ENOMEM;
	return (int)sys_madvise(addr, bytes, huge ? MADV_HUGEPAGE :
						    MADV_NOHUGEPAGE);
}

/* "always [madvise] never": the word in brackets holds. */
enum os_thp os_system_thp(void)
{
	char text[THP_BYTES];
	long got;
	int fd;

	if (sys_prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) > 0)
		return OS_THP_NEVER;
	fd = os_open(THP_PATH, O_RDONLY);
	if (fd < 0)
		return OS_THP_NEVER;
	got = os_read(fd, text, THP_BYTES - 1);
	sys_close(fd);
	text[got > 0 ? got : 0] = '\0';
	if (strstr(text, "[always]"))
		return OS_THP_ALWAYS;
	return strstr(text, "[madvise]") ? OS_THP_MADVISE : OS_THP_NEVER;
}

int os_move(void *from, void *to, size_t bytes)
{
	long ret;

	if (fault_hit(FAULT_MOVE))
		return -ENOMEM;
	ret = sys_mremap(from, bytes, bytes,
			 MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, to);
	return ret < 0 && ret > -4096 ? (int)ret : 0;
}

int os_reset(void *addr, size_t bytes, const char *name)
{
	long ret;

	if (fault_hit(FAULT_RESET))
		return -ENOMEM;
	ret = sys_mmap(addr, bytes, PROT_READ | PROT_WRITE,
		       RESERVE_FLAGS | MAP_FIXED);
	if (ret < 0 && ret > -4096)
		return (int)ret;
	/* mlockall(MCL_FUTURE) has filled it. */
	sys_call3(SYS_munlock, (long)(uintptr_t)addr, (long)bytes, 0);
	sys_madvise(addr, bytes, MADV_DONTNEED);
	os_dress(addr, bytes, name);
	return 0;
}

int os_map_storage(size_t bytes, void **out)
{
	long ret;

	if (fault_hit(FAULT_STORAGE))
		return -ENOMEM;
	ret = sys_mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS);
	if (ret < 0 && ret > -4096)
		return (int)ret;
	*out = (void *)(uintptr_t)ret;
	return 0;
}

int os_membarrier_register(void)
{
	if (fault_hit(FAULT_MEMBARRIER))
		return -ENOSYS;
	return (int)sys_membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
}

int os_membarrier(void)
{
	if (fault_hit(FAULT_BARRIER))
		return -EPERM;
	return (int)sys_membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED);
}

/* Without a descriptor: the folder has a link from each thread's. */
unsigned os_nr_threads(void)
{
	struct stat st;

	if (sys_call6(SYS_newfstatat, AT_FDCWD,
		      (long)(uintptr_t)"/proc/self/task",
		      (long)(uintptr_t)&st, 0, 0, 0) < 0)
		return 0;
	return st.st_nlink > 2 ? (unsigned)st.st_nlink - 2 : 0;
}

int os_own_descriptors(void)
{
	if (fault_hit(FAULT_UNSHARE))
		return -ENOSYS;
	return (int)sys_call3(SYS_close_range, 0, UINT_MAX,
			      CLOSE_RANGE_UNSHARE);
}

/* Without /proc: some anonymous inode, which is what the kernel gives no type
 * of file.  A descriptor that is a file of the program's own has one. */
bool os_is_eventfd(int fd)
{
	static const char eventfd[] = "anon_inode:[eventfd]";
	char path[32], link[sizeof(eventfd)];
	struct strbuf sb = STRBUF(path);
	struct stat st;
	long len;

	if (sys_call3(SYS_fstat, fd, (long)(uintptr_t)&st, 0) < 0 ||
	    st.st_mode & S_IFMT)
		return false;
	strbuf_str(&sb, "/proc/self/fd/");
	strbuf_u64(&sb, (uint64_t)fd);
	len = sys_call6(SYS_readlinkat, AT_FDCWD, (long)(uintptr_t)path,
			(long)(uintptr_t)link, sizeof(link), 0, 0);
	return len < 0 || (len == sizeof(eventfd) - 1 &&
			   memcmp(link, eventfd, sizeof(eventfd) - 1) == 0);
}

/* -EBADF: one of them is closed.  Otherwise kcmp is not there, or refused. */
bool os_is_same_eventfd(int fd, int other)
{
	long pid = sys_getpid();
	long order = sys_call6(SYS_kcmp, pid, pid, KCMP_FILE, fd, other, 0);

	if (order >= 0)
		return order == 0;
	return order != -EBADF && os_is_eventfd(fd) && os_is_eventfd(other);
}

/* Programs that look for a free number, or close all up to some, hardly come
 * that far; with fewer allowed, anywhere. */
int os_dup_away(int fd)
{
	long own;

	if (fault_hit(FAULT_DUP))
		return -EMFILE;
	own = sys_call3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, OWN_FD_LEAST);
	if (own == -EINVAL || own == -EMFILE)
		own = sys_call3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 0);
	return (int)own;
}

int os_eventfd(void)
{
	if (fault_hit(FAULT_EVENTFD))
		return -EMFILE;
	return (int)sys_call3(SYS_eventfd2, 0, EFD_NONBLOCK | EFD_CLOEXEC, 0);
}

/* Full is as good as readable. */
void os_eventfd_add(int fd, uint64_t n)
{
	sys_write(fd, &n, sizeof(n));
}

void os_close(int fd)
{
	sys_call3(SYS_close, fd, 0, 0);
}

/* As the kernel has it, whose mask is eight bytes long. */
struct kernel_sigaction {
	uintptr_t	handler;
	unsigned long	flags;
	uintptr_t	restorer;
	uint64_t	mask;
};

bool os_signal_is_caught(int signal)
{
	struct kernel_sigaction now;

	if (sys_call6(SYS_rt_sigaction, signal, 0, (long)(uintptr_t)&now,
		      sizeof(now.mask), 0, 0) < 0)
		return false;
	return now.handler != (uintptr_t)SIG_DFL &&
	       now.handler != (uintptr_t)SIG_IGN;
}

void os_queue_signal(int signal, int value)
{
	siginfo_t info;

	memset(&info, 0, sizeof(info));
	info.si_signo = signal;
	info.si_code = SI_QUEUE;
	info.si_pid = (pid_t)sys_getpid();
	info.si_uid = (uid_t)sys_call3(SYS_getuid, 0, 0, 0);
	info.si_value.sival_int = value;
	sys_call3(SYS_rt_sigqueueinfo, info.si_pid, signal,
		  (long)(uintptr_t)&info);
}

void os_yield(void)
{
	sys_call3(SYS_sched_yield, 0, 0, 0);
}

uint64_t os_now_ns(void)
{
	struct timespec ts = { 0, 0 };

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

uint64_t os_machine_bytes(void)
{
	struct sysinfo info;

	if (sys_call3(SYS_sysinfo, (long)(uintptr_t)&info, 0, 0) < 0)
		return 0;
	return (uint64_t)info.totalram * info.mem_unit;
}

uint64_t os_rlimit_bytes(int resource)
{
	struct rlimit64 now;

	if (sys_call6(SYS_prlimit64, 0, resource, 0, (long)(uintptr_t)&now, 0,
		      0) < 0 || now.rlim_cur == RLIM64_INFINITY)
		return UINT64_MAX;
	return now.rlim_cur;
}
