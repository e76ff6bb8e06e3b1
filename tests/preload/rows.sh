# SPDX-License-Identifier: MIT
# What the row tests add to tap.sh: running the compiled programs, each case
# in a process of its own and within a time that only a hang exceeds.

. "$PP_SRC/tests/preload/tap.sh"

BIN=$PP_BUILD/tests/preload
PLUGINS=$BIN/.libs
export PLUGINS

# On libc's malloc the programs find the limit here; see check.h.
under_bounded() {
	if [ -n "$PP_PLAIN" ]; then
		PP_PLAIN_LIMIT=$1
		export PP_PLAIN_LIMIT
		shift
		timeout -s KILL 100 "$@"
	else
		row_limit=$1
		shift
		timeout -s KILL 100 "$PP_TOOL" run --limit "$row_limit" -- "$@"
	fi
}

# verdict STATUS NAME: a program that wrote to $TMP/out ended with STATUS.
verdict() {
	case $1 in
	77)
		skip "$2" "$(sed -n 's/^skip: //p' "$TMP/out")"
		;;
	0)
		grep -q '^done: ' "$TMP/out"
		ok $? "$2" || {
			diag "it never said that it was done"
			diag_file "$TMP/out"
			false
		}
		;;
	*)
		ok "$1" "$2"
		diag "exit status $1"
		diag_file "$TMP/out"
		false
		;;
	esac
}

# run_program NAME LIMIT PROGRAM ARGS...: one point.
run_program() {
	row_name=$1 row_arg=$2
	shift 2
	under_bounded "$row_arg" "$@" </dev/null >"$TMP/out" 2>&1
	verdict $? "$row_name"
}

# each_case LIMIT PROGRAM: one point for each case of the program.
each_case() {
	for row_case in $("$BIN/$2" --list); do
		run_program "$row_case" "$1" "$BIN/$2" "$row_case"
	done
}

# needs_pool NAME: false, and a skipped point, on libc's malloc.
needs_pool() {
	[ -n "$PP_PLAIN" ] || return 0
	skip "$1" "nothing to see on libc's malloc"
	return 1
}

# preloading LIST LIMIT PROGRAM ARGS...: with these libraries preloaded in this
# order; the word `pool` in the list stands for ours.
preloading() {
	row_list=
	for row_lib in $1; do
		if [ "$row_lib" != pool ]; then
			row_list="$row_list $PLUGINS/$row_lib.so"
		elif [ -z "$PP_PLAIN" ]; then
			row_list="$row_list $PP_PRELOAD"
		fi
	done
	row_limit=$2
	shift 2
	if [ -n "$PP_PLAIN" ]; then
		timeout -s KILL 100 env LD_PRELOAD="${row_list# }" \
			PP_PLAIN_LIMIT="$row_limit" "$@"
	else
		timeout -s KILL 100 env LD_PRELOAD="${row_list# }" \
			PAGEPOOL_LIMIT="$row_limit" "$@"
	fi
}

# run_preloading NAME LIST LIMIT PROGRAM ARGS...: one point.
run_preloading() {
	row_name=$1 row_libs=$2 row_arg=$3
	shift 3
	preloading "$row_libs" "$row_arg" "$@" </dev/null >"$TMP/out" 2>&1
	verdict $? "$row_name"
}
