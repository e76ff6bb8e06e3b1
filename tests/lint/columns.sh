#!/bin/bash
# SPDX-License-Identifier: MIT
# 80 columns with tabs of 8, and no blanks at the end of a line.
. "$(dirname "$0")/tap.sh"
cd "$PP_SRC" || exit 1
mapfile -t files < <(find include lib preload jemalloc tools tests benchmarks \
	-name '*.[ch]' | sort)

for file in "${files[@]}"; do
	expand -t 8 "$file" | awk -v file="$file" 'length($0) > 80 {
		print file ":" NR ": " length($0) " columns"
	}'
done | verdict "no line is longer than 80 columns"
grep -Hn '[ 	]$' "${files[@]}" | cut -c 1-80 | verdict "no line ends in blanks"
plan
