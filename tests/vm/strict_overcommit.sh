#!/bin/sh
# SPDX-License-Identifier: MIT
# vm.overcommit_memory=2, for the whole machine.

. "$PP_SRC/tests/preload/rows.sh"
plan 5
prog=$BIN/row19_limits
echo 2 >/proc/sys/vm/overcommit_memory || bail "cannot be set"
run_program "whole limit" 64M "$prog" whole_limit
run_program "threads" 64M "$prog" threads_if_any
run_program "limit auto" auto "$prog" ordinary
run_program "a limit that cannot be committed" 1G "$prog" less_than_the_limit
"$PP_TOOL" doctor >"$TMP/out" 2>&1
like "$TMP/out" '^note +overcommit: mode 2, strict: [0-9]+ KiB of [0-9]+ ' \
	"doctor says so"
echo 0 >/proc/sys/vm/overcommit_memory
done_testing
