#!/bin/sh
# SPDX-License-Identifier: MIT
# In a group whose memory.high is 32 MiB, a program that wants 60 is slowed down
# by the kernel, which is pressure of the group, and hears of it.

. "$PP_SRC/tests/preload/rows.sh"
plan 2
if [ ! -w "$WATCH_GROUP/memory.pressure" ]; then
	skip "doctor names the group's file" "the kernel has no PSI"
	skip "pressure is heard of" "the kernel has no PSI"
	done_testing
	exit 0
fi
"$PP_TOOL" doctor >"$TMP/out" 2>&1
like "$TMP/out" "^ok +pressure: is heard of by $WATCH_GROUP/memory.pressure, " \
	"doctor names the group's file"
WATCH_LOAD=1
export WATCH_LOAD
run_program "pressure is heard of" 60M "$BIN/watch" hears
done_testing
