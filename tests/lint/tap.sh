# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# Sourced by the lints.  verdict NAME: one result of TAP, ok when nothing comes
# in on standard input, and otherwise each line of it as an explanation.
set -u
# The last command of a pipe runs in this shell, so that it can count.
shopt -s lastpipe
export LC_ALL=C
: "${PP_SRC:?is set by make check}" "${PP_BUILD:?is set by make check}"
nr_results=0
verdict() {
	local faults
	faults=$(cat)
	nr_results=$((nr_results + 1))
	if [ -z "$faults" ]; then
		echo "ok $nr_results - $1"
	else
		echo "not ok $nr_results - $1"
		sed 's/^/#   /' <<<"$faults"
	fi
}
plan() { echo "1..$nr_results"; }
