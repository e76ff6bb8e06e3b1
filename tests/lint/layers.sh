#!/bin/bash
# SPDX-License-Identifier: MIT
# Calls go down the layers only, and an #include is where that shows: each
# file of lib/ may include headers of its own layer and of those below it.
# The table is the one of doc/design.md; a file that is not in it fails.  A name
# that ends in a slash stands for the folder, but for files named themselves.
. "$(dirname "$0")/tap.sh"

layers="
0	base/ os/syscall
1	os/ auto_limit tell inject config trace
2	blockmap span runs spare_window vmstat scope grace
3	pageblock
4	zone zone_place watermark thp backing
5	node mempolicy
6	pcp pcp_registry pcp_drain pcp_home
7	page_alloc
8	claim callback shrinker pressure purge helper_thread call_service
9	vmscan drain_service reclaimd show_waiting
10	oom inline_reclaim slowpath
11	slab slab_class slab_number slab_books mempool
12	pool pool_alloc pool_set watch show diagnose check cache api numa reclaim victim extent reserve
12	failure failure_report fault_hook
"

cd "$PP_SRC/lib" || exit 1

# "file included-header", both relative to lib/.
includes() {
	grep -H '^[ 	]*#[ 	]*include[ 	]*"' -r --include='*.[ch]' . |
		sed 's|^\./\([^:]*\):[^"]*"\([^"]*\)".*|\1 \2|' |
		while read -r file header; do
			# A header is named from lib/, or beside the file.
			[ -e "$header" ] || [ ! -e "$(dirname "$file")/$header" ] ||
				header=$(dirname "$file")/$header
			echo "$file ${header#./}"
		done
}

# Prints the faults in the list on its input.
judge() {
	awk -v table="$layers" '
	function layer(file,    name) {
		name = file
		sub(/\.[ch]$/, "", name)
		if (!(name in of) && name ~ /\//)
			sub(/\/.*/, "/", name)
		return name in of ? of[name] : -1
	}
	BEGIN {
		n = split(table, row, "\n")
		for (i = 1; i <= n; i++) {
			m = split(row[i], word, /[ \t]+/)
			for (j = 2; j <= m; j++)
				of[word[j]] = word[1] + 0
		}
	}
	$2 ~ /^pagepool(\/|\.h)/ { next }
	layer($1) < 0 { print $1 ": not in the layer table"; next }
	layer($2) < 0 { print $1 ": includes " $2 ", which is not in the layer table"; next }
	layer($2) > layer($1) {
		print $1 " (layer " layer($1) ") includes " $2 " (layer " layer($2) ")"
	}'
}

find . -name '*.[ch]' | sed 's|^\./||' | sed 's|.*|& base/bug.h|' | judge |
	verdict "every file of lib/ has a layer"
includes | judge | verdict "no file of lib/ includes a header of a higher layer"

# The lint itself must see an upward include when there is one.
{
	[ -n "$(echo 'base/bug.h zone.h' | judge)" ] ||
		echo "base/bug.h may include zone.h"
} | verdict "an upward include is noticed"

cd "$PP_SRC" || exit 1
grep -Hn '#[ 	]*include[ 	]*"' tests/api/*.[ch] 2>/dev/null | grep -v '"test' |
	verdict "tests/api includes public headers only"
plan
