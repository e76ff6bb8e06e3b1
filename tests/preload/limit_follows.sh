# SPDX-License-Identifier: MIT
# Run inside a control group whose memory is limited to 256 MiB; its folder is
# WATCH_GROUP.  The programs change the limit themselves.

. "$PP_SRC/tests/preload/rows.sh"
plan 4
prog=$BIN/watch
for case in limit_follows limit_below_what_is_used limit_that_is_set \
	limit_at_another_root; do
	run_program "$case" auto "$prog" "$case"
	grep '^# ' "$TMP/out"
done
done_testing
