#!/bin/sh
# SPDX-License-Identifier: MIT
# As in a container: the group is the root of a namespace, and mounted anew.
# Not by the unshare of busybox, which has no namespaces of groups.

. "$PP_SRC/tests/preload/tap.sh"
plan 2
/usr/bin/unshare -m -C sh -c 'umount /sys/fs/cgroup
	mount -t cgroup2 none /sys/fs/cgroup
	cat /proc/self/cgroup
	"$PP_TOOL" doctor' >"$TMP/out" 2>&1
like "$TMP/out" '^0::/$' "the group is the root"
like "$TMP/out" '^ok +limit: 50331648 bytes, decided by /sys/fs/cgroup/memory.max$' \
	"its limit decides"
done_testing
