#!/bin/bash
# SPDX-License-Identifier: MIT
# No function is longer than 70 lines and no file longer than 700.
. "$(dirname "$0")/tap.sh"
max_function=70
max_file=700

if ! ctags --version 2>/dev/null | grep -q Universal; then
	echo "1..0 # SKIP universal-ctags is not installed"
	exit 0
fi
cd "$PP_SRC" || exit 1
mapfile -t files < <(find lib preload jemalloc tools -name '*.[ch]' | sort)

functions() {
	ctags -f - --languages=C --langmap=C:.c.h --kinds-C=f --fields=ne \
		--excmd=number "${files[@]}"
}

{ [ "$(functions | wc -l)" -gt 0 ] || echo "no function listed"; } |
	verdict "ctags works"
functions | awk -F '\t' -v max=$max_function '{
	first = last = 0
	for (i = 4; i <= NF; i++) {
		if ($i ~ /^line:/)
			first = substr($i, 6)
		if ($i ~ /^end:/)
			last = substr($i, 5)
	}
	if (last - first + 1 > max)
		print $2 ":" first ": " $1 "() has " last - first + 1 " lines"
}' | verdict "no function is longer than $max_function lines"
wc -l "${files[@]}" | awk -v max=$max_file '$2 != "total" && $1 > max {
	print $2 " has " $1 " lines"
}' | verdict "no file is longer than $max_file lines"
plan
