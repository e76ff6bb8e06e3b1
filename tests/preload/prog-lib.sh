# SPDX-License-Identifier: MIT
# What the prog-*.test share beyond tap.sh: real programs under prog_watch.
#
# Every program runs below prog_watch, which measures what the pools of its
# process tree hold and ends what outlives it.  With PP_PLAIN=1 the same
# programs run on libc's malloc, and RLIMIT_AS takes the place of the limit
# where a program is to meet one.

# shellcheck source=tests/preload/tap.sh
. "$PP_SRC/tests/preload/tap.sh"

PROG_WATCH=${PROG_WATCH:-$PP_BUILD/tests/preload/prog_watch}
PROG_SRC=$PP_SRC/tests/preload
HOME=$TMP
export HOME

# What a program maps apart from its heap, for RLIMIT_AS.
PROG_MAPPED_MIB=64

[ -x "$PROG_WATCH" ] || bail "no $PROG_WATCH"

# need CMD...: skip everything when a program is not installed.
need() {
	for prog_cmd in "$@"; do
		command -v "$prog_cmd" >/dev/null ||
			skip_all "$prog_cmd is not installed"
	done
}

# prog_start REPORT LIMIT CMD...: start CMD on a pool of LIMIT, watched, in the
# background with the caller's redirections; $prog_pid is the watch's.  The
# watch makes a process group of its own, which tap.sh kills at exit.
prog_start() {
	prog_report=$1 prog_limit=$2
	shift 2
	if [ -n "$PP_PLAIN" ]; then
		set -- "$PROG_WATCH" -o "$prog_report" "$prog_limit" -- "$@"
	else
		set -- "$PROG_WATCH" -o "$prog_report" "$prog_limit" -- \
			"$PP_TOOL" run --limit "$prog_limit" -- "$@"
	fi
	rm -f "$prog_report"
	"$@" <"${PROG_STDIN:-/dev/null}" &
	prog_pid=$!
	tap_spawned="$tap_spawned $prog_pid"
}

# prog_squeeze REPORT LIMIT CMD...: the same for one that is to meet the limit.
prog_squeeze() {
	if [ -n "$PP_PLAIN" ]; then
		prog_as=$((${2%M} + PROG_MAPPED_MIB))
		prog_report=$1 prog_limit=$2
		shift 2
		set -- "$prog_report" "$prog_limit" \
			prlimit --as=$((prog_as << 20)) --stack=1048576 -- \
			env MALLOC_ARENA_MAX=1 "$@"
	fi
	prog_start "$@"
}

# prog_wait [PID]: wait for what was started; returns its status.  The shell
# runs its traps while it waits, so a killed test ends at once.
prog_wait() {
	prog_waited=${1:-$prog_pid} prog_left=
	wait "$prog_waited"
	prog_status=$?
	for prog_one in $tap_spawned; do
		[ "$prog_one" = "$prog_waited" ] ||
			prog_left="$prog_left $prog_one"
	done
	tap_spawned=$prog_left
	return "$prog_status"
}

# watched REPORT LIMIT CMD...: run a command that the limit is ample for.
watched() {
	prog_start "$@"
	prog_wait
}

# squeezed REPORT LIMIT CMD...: run a command that is to meet the limit.
squeezed() {
	prog_squeeze "$@"
	prog_wait
}

# report_value REPORT NAME: a number from a report.
report_value() {
	sed -n "s/^$2 \([0-9]*\)\$/\1/p" "$1"
}

# ok_resident REPORT NAME: the watch saw a pool, it held memory, and no pool
# held more than the limit at any moment.
ok_resident() {
	if [ -n "$PP_PLAIN" ]; then
		skip "$2" "no pool with PP_PLAIN"
		return 0
	fi
	prog_max=$(report_value "$1" max)
	[ "${prog_max:-0}" -gt 0 ] &&
		[ "$prog_max" -le "$(report_value "$1" limit)" ] &&
		[ "$(report_value "$1" pools)" -gt 0 ] &&
		[ "$(report_value "$1" over)" -eq 0 ]
	ok $? "$2" || {
		diag_file "$1"
		return 1
	}
	diag "$(basename "$1"): $(grep -v '^pool ' "$1" | tr '\n' ' ')"
}

# ok_status GOT WANT LOG NAME: a program's status, with its output if not so.
ok_status() {
	[ "$1" -eq "$2" ]
	ok $? "$4" || {
		diag "status $1, wanted $2"
		diag_file "$3"
		return 1
	}
}
