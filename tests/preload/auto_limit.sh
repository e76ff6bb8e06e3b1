#!/bin/sh
# SPDX-License-Identifier: MIT
# Run inside a control group whose memory is limited to 64 MiB: a program that
# allocates without end is killed on libc's malloc, and with the limit auto it
# gets NULL and lives, every time.  AUTO_LIMIT_KIND=high: the group has a limit
# that only slows processes down.

. "$PP_SRC/tests/preload/tap.sh"
plan 10
prog=$PP_BUILD/tests/preload/auto_limit
: "${AUTO_LIMIT_KIND:=max}" "${AUTO_LIMIT_ROUNDS:=20}"
rounds=$AUTO_LIMIT_ROUNDS

# alone CASE: on libc's malloc; until it is killed.
alone() {
	timeout -s INT 60 "$prog" "$1" >"$TMP/out" 2>&1
}

# nr_alive CASE: how many of the rounds live and do all they should.
nr_alive() {
	alive=0
	for round in $(seq $rounds); do
		timeout -s KILL 60 "$PP_TOOL" run --limit auto -- \
			"$prog" "$1" >"$TMP/out" 2>"$TMP/err"
		if [ $? = 0 ] && grep -q '^done: .* 0 failed' "$TMP/out"; then
			alive=$((alive + 1))
		else
			diag "round $round:"
			diag_file "$TMP/out"
			diag_file "$TMP/err"
		fi
	done
	echo "$alive"
}

for case in one_thread many_threads; do
	for round in 1 2; do
		name="$case: libc's malloc is killed, $round"
		if [ "$AUTO_LIMIT_KIND" != max ]; then
			skip "$name" "nothing kills it here"
			continue
		fi
		alone $case
		is $? 137 "$name"
	done
	nr_alive $case >"$TMP/alive"
	grep '^#' "$TMP/alive"
	is "$(tail -n 1 "$TMP/alive")" $rounds \
		"$case: lives $rounds times of $rounds with auto"
done

# A group of 64 MiB leaves 16 for what is not heap; half of it is 32.
limit_of() {
	"$PP_TOOL" run --limit "$1" --stats -- "$prog" one_thread 2>&1 |
		sed -n 's/^pagepool: .*limit \([0-9]*\).*/\1/p' | head -n 1
}
is "$(limit_of auto)" 50331648 "auto is three quarters of a small group"
is "$(limit_of 50%)" 33554432 "a percentage is one of the group"
is "$(limit_of 24M)" 25165824 "an explicit limit is taken as it is"
"$PP_TOOL" doctor >"$TMP/out" 2>&1
like "$TMP/out" '^ok +limit: 50331648 bytes, decided by .*/memory\.' \
	"doctor names what decides"
done_testing
