# SPDX-License-Identifier: MIT
# Shell side of the tests in this folder.  A test sources this file, says
# `plan N`, makes exactly N test points and ends with `done_testing`.
#
# From the makefile: PP_TOOL the pagepool command, PP_PRELOAD the preload
# library, PP_BUILD and PP_SRC the two top folders.  PP_PLAIN=1 runs the
# programs on libc's malloc instead: it tests what the tests expect.
#
# Nothing outlives a test: $TMP and all that `spawn` started go at exit.

set -u
LC_ALL=C
export LC_ALL

: "${PP_SRC:?}" "${PP_BUILD:?}" "${PP_PLAIN:=}"
[ -n "$PP_PLAIN" ] || : "${PP_TOOL:?}" "${PP_PRELOAD:?}"
unset LD_PRELOAD
for tap_var in $(env | sed -n 's/^\(PAGEPOOL_[A-Z_]*\)=.*/\1/p'); do
	unset "$tap_var"
done

tap_plan=0 tap_run=0 tap_failed=0 tap_ended= tap_spawned=

# Automake takes the points from the output, a person from the exit status.
tap_exit() {
	tap_status=$?
	trap - EXIT
	for tap_pid in $tap_spawned; do
		kill -s KILL -- "-$tap_pid" "$tap_pid" 2>/dev/null
		wait "$tap_pid" 2>/dev/null
	done
	rm -rf "$TMP"
	[ -n "$tap_ended" ] || [ "$tap_status" -ne 0 ] || tap_status=1
	exit "$tap_status"
}

TMP=$(mktemp -d "${TMPDIR:-/tmp}/pagepool-test.XXXXXX") || exit 1
chmod 755 "$TMP"
trap tap_exit EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# plan N: how many points this test makes.
plan() {
	tap_plan=$1
	echo "1..$1"
}

# diag TEXT...: a comment in the output.
diag() {
	printf '%s\n' "$*" | sed 's/^/# /'
}

# diag_file FILE: the end of a file as comments, for a point that failed.
diag_file() {
	[ ! -f "$1" ] || tail -n "${2:-30}" "$1" | cut -c 1-300 | sed 's/^/# /'
}

# ok STATUS NAME: passes when STATUS is 0; returns STATUS.
ok() {
	tap_run=$((tap_run + 1))
	if [ "$1" -eq 0 ]; then
		echo "ok $tap_run - $2"
		return 0
	fi
	tap_failed=$((tap_failed + 1))
	echo "not ok $tap_run - $2"
	return "$1"
}

# is GOT WANT NAME: two strings are equal.
is() {
	[ "$1" = "$2" ]
	ok $? "$3" || {
		diag "got:    $1"
		diag "wanted: $2"
		return 1
	}
}

# like FILE REGEX NAME: a line of the file matches the extended regex.
like() {
	grep -Eq -e "$2" "$1"
	ok $? "$3" || {
		diag "no line matches: $2"
		diag_file "$1"
		return 1
	}
}

# skip NAME REASON: the point cannot be tried here.
skip() {
	tap_run=$((tap_run + 1))
	echo "ok $tap_run - $1 # SKIP $2"
}

# skip_all REASON: nothing of this test can be tried here.
skip_all() {
	echo "1..0 # SKIP $*"
	tap_ended=1
	exit 0
}

# bail REASON: this test cannot go on.
bail() {
	echo "Bail out! $*"
	exit 1
}

# under LIMIT CMD...: run a command on a pool of that limit.
under() {
	tap_limit=$1
	shift
	if [ -n "$PP_PLAIN" ]; then
		"$@"
	else
		"$PP_TOOL" run --limit "$tap_limit" -- "$@"
	fi
}

# spawn CMD... or spawn under LIMIT CMD...: start a command in the background;
# $spawned is its pid and its process group.
spawn() {
	if [ "$1" = under ] && [ -z "$PP_PLAIN" ]; then
		tap_limit=$2
		shift 2
		set -- "$PP_TOOL" run --limit "$tap_limit" -- "$@"
	elif [ "$1" = under ]; then
		shift 2
	fi
	setsid "$@" &
	spawned=$!
	tap_spawned="$tap_spawned $spawned"
}

# wait_until SECONDS CMD...: poll until the command succeeds; 1 when it did not.
wait_until() {
	tap_deadline=$(($(date +%s) + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ "$(date +%s)" -lt "$tap_deadline" ] || return 1
		sleep 0.05
	done
}

# done_testing: the last line of a test.
done_testing() {
	tap_ended=1
	if [ "$tap_run" -ne "$tap_plan" ]; then
		diag "planned $tap_plan points but made $tap_run"
		exit 1
	fi
	[ "$tap_failed" -eq 0 ]
	exit
}
