# SPDX-License-Identifier: MIT
# What the storms add to rows.sh: more time, for machines that do much else.
# A storm that hangs says so itself, long before (storm.h).

. "$PP_SRC/tests/preload/rows.sh"

STORM_SECONDS=270

# stormy NAME LIMIT COMMAND...: as run_program, with the time that it takes.
stormy() {
	row_name=$1 row_arg=$2
	shift 2
	if [ -n "$PP_PLAIN" ]; then
		PP_PLAIN_LIMIT=$row_arg timeout -s KILL $STORM_SECONDS "$@"
	else
		timeout -s KILL $STORM_SECONDS \
			"$PP_TOOL" run --limit "$row_arg" -- "$@"
	fi </dev/null >"$TMP/out" 2>&1
	verdict $? "$row_name"
	grep ' ms' "$TMP/out" | sed 's/^/# /'
}

# each_stormy LIMIT PROGRAM: one point for each case of the program.
each_stormy() {
	for row_case in $("$BIN/$2" --list); do
		stormy "$row_case" "$1" "$BIN/$2" "$row_case"
	done
}
