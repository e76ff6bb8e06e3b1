# SPDX-License-Identifier: MIT
# Run inside a control group whose memory is limited to 12 MiB: writers of files
# that are larger wait for memory, since what they wrote has to reach the disk
# first.  The program, which is beside them, is told.

. "$PP_SRC/tests/preload/rows.sh"
plan 1
some=/proc/pressure/memory

stalled() {
	sed -n 's/^some .*total=//p' $some 2>/dev/null
}

if ! [ -w $some ] || [ -z "$(stalled)" ]; then
	skip "pressure is heard of" "$some is not there, or not to be written"
	done_testing
	exit 0
fi
before=$(stalled)
for writer in 1 2; do
	spawn sh -c "while :; do
		dd if=/dev/zero of='$TMP/$writer' bs=1M count=64 2>/dev/null
	done"
done
run_program "pressure is heard of" 4M "$BIN/watch" hears
diag "tasks waited for $(($(stalled) - before)) us"
done_testing
