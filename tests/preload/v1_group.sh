# SPDX-License-Identifier: MIT
# v1_group.sh LIMIT SCRIPT [HARD]: runs a script of this folder in a memory group of
# version 1, below one with that limit, whose folder is in WATCH_GROUP.  HARD:
# the limit does not change, and there is no swap to go to.

: "${PP_SRC:?}"
[ -z "${PP_PLAIN-}" ] || {
	echo "1..0 # SKIP nothing to see on libc's malloc"
	exit 0
}
mount=$(sed -n 's/^[^ ]* [^ ]* [^ ]* [^ ]* \([^ ]*\) .* - cgroup [^ ]* .*memory.*/\1/p' \
	/proc/self/mountinfo | head -n 1)
own=$(sed -n 's/^[0-9]*:[^:]*memory[^:]*://p' /proc/self/cgroup | head -n 1)

group=
for above in "$mount$own" "$mount"; do
	[ -n "$mount" ] || break
	group=$above/pagepool-test.$$
	mkdir "$group" 2>/dev/null && break
	group=
done
[ -n "$group" ] || {
	echo "1..0 # SKIP no control group of version 1 can be made here"
	exit 0
}
# Those that were killed leave the group a moment later.
remove() {
	for try in 1 2 3 4 5 6 7 8 9 10; do
		rmdir "$group/inner" "$group" 2>/dev/null
		[ -d "$group" ] || return
		sleep 0.2
	done
}
trap 'status=$?; remove; exit $status' EXIT
trap 'exit 143' INT TERM HUP

echo "$1" 2>/dev/null >"$group/memory.limit_in_bytes" &&
	mkdir "$group/inner" || {
	echo "1..0 # SKIP $group cannot be limited"
	exit 0
}

[ -z "${3-}" ] || echo "$1" 2>/dev/null >"$group/memory.memsw.limit_in_bytes"
WATCH_GROUP=$group
export WATCH_GROUP
sh -c 'echo $$ >"$1/cgroup.procs" && exec sh "$2"' sh "$group/inner" \
	"$PP_SRC/tests/preload/$2"
