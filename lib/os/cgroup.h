/* SPDX-License-Identifier: MIT */
/*
 * cgroup.h - what the control groups of the process allow (layer 1).
 *
 * The group of the process is found in /proc/self/cgroup, and where it lies in
 * the file system in /proc/self/mountinfo.  From there the walk goes up to the
 * mount point; each file that limits memory is told to a visitor:
 *
 *	version 2	memory.max, memory.high
 *	version 1	memory.limit_in_bytes, and in the process's own group
 *			hierarchical_memory_limit of memory.stat, which knows
 *			of groups above the mount point
 *
 * On hybrid systems both versions are mounted and one of them has the memory
 * controller; the files of the other are not there.  In a container the mount
 * often shows a part of the tree only: its root (a field of mountinfo) is cut
 * off the group's path.  Where the path does not lie under the root of any
 * mount, as with a group outside of the cgroup namespace ("/../x"), or where
 * /proc is missing, the group at the mount point counts: a limit that is too
 * small is survived.
 *
 * memory.high counts as a limit: a process above it is slowed down until it
 * hardly runs.  memory.soft_limit_in_bytes and what limits swap or the kernel's
 * own memory do not count: none of them stops a heap from growing.
 *
 * By raw system calls, without allocation, so that the first malloc may do it.
 * Opens one file at a time.
 */
#ifndef PP_OS_CGROUP_H
#define PP_OS_CGROUP_H

#include <stdbool.h>

#include "base/compiler.h"

#define CGROUP_UNLIMITED	UINT64_MAX

struct cgroup_limit {
	unsigned	version;	/* 1 or 2 */
	bool		is_own;		/* of the process's own group */
	uint64_t	bytes;		/* or CGROUP_UNLIMITED */
	const char	*file;		/* "memory.max" */
	const char	*path;	/* with the file; gone after the visit */
};

typedef void cgroup_visit_fn(void *arg, const struct cgroup_limit *limit);

/*
 * Tells @visit each limit that applies, of the process's own group first.  A
 * file may be told twice if the hierarchy is mounted twice.  @root is put in
 * front of all paths: "" but for tests.  Nothing is told where nothing can be
 * read.
 */
void cgroup_walk(const char *root, cgroup_visit_fn *visit, void *arg);

/**
 * cgroup_find_file() - a file of the process's own group of version 2.
 * @path: the file, with @root in front.
 *
 * Also on hybrid systems, where it has no memory controller and may still tell
 * of pressure.  Return: 0; -ENOENT if there is no such file; -ENAMETOOLONG,
 * -ENOMEM.
 */
int cgroup_find_file(const char *root, const char *file, char *path,
		     size_t size);

/* The smallest of them, or CGROUP_UNLIMITED. */
uint64_t cgroup_limit_bytes(const char *root);

#endif
