#!/bin/sh
# SPDX-License-Identifier: MIT
# in_cgroup.sh FILE=VALUE... -- COMMAND...: run a command in a control group of
# its own, made with these settings: in_cgroup.sh cpuset.mems=1,3 -- prog.  Its
# folder is in WATCH_GROUP.

group=/sys/fs/cgroup/test.$$
mkdir "$group" || exit 99
while [ "$1" != -- ]; do
	echo "${1#*=}" >"$group/${1%%=*}" || {
		echo "Bail out! cannot set $1"
		exit 99
	}
	shift
done
shift
WATCH_GROUP=$group
export WATCH_GROUP
echo $$ >"$group/cgroup.procs" || exit 99
exec "$@"
