/* SPDX-License-Identifier: MIT */
/*
 * os.h - what the library wants of the kernel (layer 1).
 *
 * The only user of mmap, mprotect, madvise and mremap.  A range is reserved
 * first: without access, so that it counts towards neither RLIMIT_DATA nor a
 * strict commit limit (vm.overcommit_memory=2), and mlockall(2) does not fill
 * it.  Parts of it are then committed, from the bottom up, so that the
 * reservation stays two mappings however far it grows.
 *
 * All return 0 or -errno and leave errno alone.
 */
#ifndef PP_OS_OS_H
#define PP_OS_OS_H

#include <stdbool.h>

#include "base/compiler.h"

/*
 * A file of the system's, such as in /proc or of a control group; with
 * O_CLOEXEC.  The descriptor, or how many bytes.
 */
int os_open(const char *path, int flags);
long os_read(int fd, void *buf, size_t bytes);

/* A range of address space, aligned to @align_bytes (a power of two). */
int os_reserve(size_t bytes, size_t align_bytes, const char *name,
	       void **out);
void os_unreserve(void *addr, size_t bytes);

/* Makes [addr, addr + bytes) usable; it reads as zeroes.  It is not locked,
 * whatever mlockall(2) said before: that would fill it at once. */
int os_commit(void *addr, size_t bytes);

/* Makes it readable: it reads as zeroes, and still counts as nothing. */
int os_make_readable(void *addr, size_t bytes);

/* Gives the memory behind the range back; it reads as zeroes afterwards. */
int os_purge(void *addr, size_t bytes);

/*
 * May the kernel put huge pages there?  A range that was reserved is without.
 * On error a part of the range may have been told.
 */
int os_advise_huge(void *addr, size_t bytes, bool huge);

/* What the system does about huge pages for this process; NEVER where it does
 * not tell.  Opens a file. */
enum os_thp { OS_THP_NEVER, OS_THP_MADVISE, OS_THP_ALWAYS };
enum os_thp os_system_thp(void);

/*
 * Moves the pages behind [from, from + bytes) to @to, both committed and in
 * whole pages.  @from stays mapped and reads as zeroes.  -ENOSYS where the
 * kernel is older than 5.7.  Nothing has moved on error.
 */
int os_move(void *from, void *to, size_t bytes);

/*
 * Undoes what os_move() left in the kernel's books at the range: purges it and
 * makes it one mapping with its neighbours, which have that name, again.
 */
int os_reset(void *addr, size_t bytes, const char *name);

/* Committed memory for thread caches, counted by who asks. */
int os_map_storage(size_t bytes, void **out);

/*
 * A full memory barrier in every running thread of the process, for one side
 * of a protocol whose other side has a compiler barrier only.  Registering
 * comes first, once; -ENOSYS or -EPERM where the kernel or a filter refuses.
 */
int os_membarrier_register(void);
int os_membarrier(void);

/* Threads of the process, those that have exited but are still there included;
 * 0: not known (no /proc). */
unsigned os_nr_threads(void);

/* Is it a descriptor of the process, and an eventfd, as far as can be seen? */
bool os_is_eventfd(int fd);
bool os_is_same_eventfd(int fd, int other);
int os_dup_away(int fd);		/* where programs have no descriptors */
int os_eventfd(void);			/* non-blocking, closed on exec */
void os_eventfd_add(int fd, uint64_t n);
void os_close(int fd);

/* A signal that has a handler, for the process, with a value.  Nothing is sent
 * where there is none: it might end the program. */
bool os_signal_is_caught(int signal);
void os_queue_signal(int signal, int value);
/*
 * Gives the calling thread a table of descriptors of its own, which is empty.
 * -ENOSYS where the kernel is older than 5.9, -EPERM where a filter refuses.
 */
int os_own_descriptors(void);

void os_yield(void);
uint64_t os_now_ns(void);
uint64_t os_machine_bytes(void);	/* physical memory; 0: not known */
uint64_t os_rlimit_bytes(int resource);	/* the soft one; UINT64_MAX: none */

#endif
