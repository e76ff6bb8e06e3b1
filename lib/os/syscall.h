/* SPDX-License-Identifier: MIT */
/*
 * syscall.h - the system calls that the library makes, raw (layer 0).
 *
 * Raw for three reasons.  A free that purges must leave errno alone, and
 * libc's wrappers write it.  Other preloaded libraries interpose mmap, madvise
 * and write, and may allocate there.  And calls can come before libc is
 * relocated.  Each returns the kernel's value: -errno on failure.
 */
#ifndef PP_OS_SYSCALL_H
#define PP_OS_SYSCALL_H

#include <errno.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

#include "base/atomic.h"

#if defined(__x86_64__)

static inline long sys_call6(long nr, long a, long b, long c, long d, long e,
			     long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long ret;

	__asm__ __volatile__("syscall"
			     : "=a"(ret)
			     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10),
			       "r"(r8), "r"(r9)
			     : "rcx", "r11", "memory");
	return ret;
}

#elif defined(__aarch64__)

static inline long sys_call6(long nr, long a, long b, long c, long d, long e,
			     long f)
{
	register long x8 __asm__("x8") = nr;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;

	__asm__ __volatile__("svc 0"
			     : "+r"(x0)
			     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4),
			       "r"(x5)
			     : "memory");
	return x0;
}

#else
#error "pagepool knows the system call instruction of x86-64 and arm64 only"
#endif

static inline long sys_call3(long nr, long a, long b, long c)
{
	return sys_call6(nr, a, b, c, 0, 0, 0);
}

static inline long sys_write(int fd, const void *buf, size_t len)
{
	return sys_call3(SYS_write, fd, (long)(uintptr_t)buf, (long)len);
}

static inline long sys_mmap(void *addr, size_t bytes, int prot, int flags)
{
	return sys_call6(SYS_mmap, (long)(uintptr_t)addr, (long)bytes, prot,
			 flags, -1, 0);
}

#if defined(__SANITIZE_THREAD__)

/* The sanitizer has to see it: else what the next thread maps there is taken
 * for the same memory.  Of a page that is not named whole, unlike the kernel,
 * it forgets nothing. */
static inline long sys_munmap(void *addr, size_t bytes)
{
	return munmap(addr, (bytes + 4095) & ~(size_t)4095) ? -EINVAL : 0;
}

#else

static inline long sys_munmap(void *addr, size_t bytes)
{
	return sys_call3(SYS_munmap, (long)(uintptr_t)addr, (long)bytes, 0);
}

#endif

static inline long sys_mprotect(void *addr, size_t bytes, int prot)
{
	return sys_call3(SYS_mprotect, (long)(uintptr_t)addr, (long)bytes,
			 prot);
}

static inline long sys_madvise(void *addr, size_t bytes, int advice)
{
	return sys_call3(SYS_madvise, (long)(uintptr_t)addr, (long)bytes,
			 advice);
}

static inline long sys_mremap(void *from, size_t from_bytes, size_t to_bytes,
			      int flags, void *to)
{
	return sys_call6(SYS_mremap, (long)(uintptr_t)from, (long)from_bytes,
			 (long)to_bytes, flags, (long)(uintptr_t)to, 0);
}

static inline long sys_prctl(long option, long a, long b, long c, long d)
{
	return sys_call6(SYS_prctl, option, a, b, c, d, 0);
}

/* @timeout: relative; NULL: none. */
static inline long sys_futex_wait(_Atomic uint32_t *word, uint32_t seen,
				  const struct timespec *timeout)
{
	return sys_call6(SYS_futex, (long)(uintptr_t)word, FUTEX_WAIT_PRIVATE,
			 (long)seen, (long)(uintptr_t)timeout, 0, 0);
}

static inline long sys_futex_wake(_Atomic uint32_t *word, int nr_wake)
{
	return sys_call6(SYS_futex, (long)(uintptr_t)word, FUTEX_WAKE_PRIVATE,
			 nr_wake, 0, 0, 0);
}

static inline long sys_close(int fd)
{
	return sys_call3(SYS_close, fd, 0, 0);
}

static inline long sys_read(int fd, void *buf, size_t len)
{
	return sys_call3(SYS_read, fd, (long)(uintptr_t)buf, (long)len);
}

static inline long sys_membarrier(int command)
{
	return sys_call3(SYS_membarrier, command, 0, 0);
}

static inline long sys_gettid(void)
{
	return sys_call3(SYS_gettid, 0, 0, 0);
}

static inline long sys_getpid(void)
{
	return sys_call3(SYS_getpid, 0, 0, 0);
}

#endif
