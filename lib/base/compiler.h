/* SPDX-License-Identifier: MIT */
/*
 * compiler.h - the words that the compiler lends us (layer 0).
 *
 * Every other file of the library includes this one first, by way of some
 * header, and needs nothing from the compiler beyond it.
 */
#ifndef PP_BASE_COMPILER_H
#define PP_BASE_COMPILER_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

/* 0 release, 1 VM_BUG_ON, 2 also the walks that check whole structures. */
#ifndef PP_DEBUG
#define PP_DEBUG 0
#endif

#define likely(x)		__builtin_expect(!!(x), 1)
#define unlikely(x)		__builtin_expect(!!(x), 0)

#define PP_NOINLINE		__attribute__((noinline))
#define PP_COLD			__attribute__((cold, noinline))
#define PP_ALWAYS_INLINE	inline __attribute__((always_inline))
#define PP_ALIGNED(n)		__attribute__((aligned(n)))
#define PP_EXPORT		__attribute__((visibility("default")))
#define PP_UNUSED		__attribute__((unused))

#define PP_CACHELINE_BYTES	64

/* Sanitizers use much more stack. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define PP_SANITIZED		1
#else
#define PP_SANITIZED		0
#endif

#define ARRAY_SIZE(a)		(sizeof(a) / sizeof((a)[0]))

#define container_of(ptr, type, member) \
	((type *)((char *)(ptr) - offsetof(type, member)))

/* The compiler may not move memory accesses across; the processor may. */
#define barrier()		__asm__ __volatile__("" ::: "memory")

static inline void cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ __volatile__("yield");
#else
	barrier();
#endif
}

#endif
