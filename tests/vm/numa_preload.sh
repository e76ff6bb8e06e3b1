#!/bin/sh
# SPDX-License-Identifier: MIT
# A program that knows of no pool, under the preload library: malloc's memory is
# where PAGEPOOL_NUMA says.  Needs two nodes, 0 and 1; CPU 0 belongs to node 0.

. "$PP_SRC/tests/preload/tap.sh"
plan 14

# where POLICY CPU MEGABYTES BYTES: its output in $TMP/out.
where() {
	PAGEPOOL_NUMA=$1 PAGEPOOL_LIMIT=64M LD_PRELOAD=$PP_PRELOAD \
		"$PP_BUILD/tests/vm/where" "$2" "$3" "$4" >"$TMP/out" 2>&1
}

# pages NODE: how many pages of it the program saw.
pages() {
	sed -n "s/^move_pages.* $1=\([0-9]*\).*/\1/p" "$TMP/out"
}

# only NODE NAME: all pages are there, and numa_maps names the node.
only() {
	like "$TMP/out" "^move_pages $1=[0-9]+\$" "$2"
	like "$TMP/out" "^numa_maps [a-z]+( [(]many[)])?:$1\$" "$2: numa_maps"
}

where local 0 8 65536
only 0 "local, on node 0"
where local 1 8 65536
only 1 "local, on node 1"
where bind:1 0 8 65536
only 1 "bind:1, on node 0"
where preferred:1 0 8 65536
only 1 "preferred:1, on node 0"
where bind:1 0 8 256
only 1 "bind:1, small blocks"

where interleave 0 16 65536
zero=$(pages 0) one=$(pages 1)
[ "${zero:-0}" -gt 1536 ] && [ "${one:-0}" -gt 1536 ]
ok $? "interleave: both nodes have their part" || diag_file "$TMP/out"

where preferred:1 0 48 65536
zero=$(pages 0) one=$(pages 1)
[ "${zero:-0}" -gt 0 ] && [ "${one:-0}" -gt "${zero:-0}" ]
ok $? "preferred:1: node 0 has what node 1 cannot take" || diag_file "$TMP/out"

where bind:1 0 48 65536
is $? 1 "bind:1: malloc fails when the node is full"

# The library is loaded, not linked.
libnuma=$(find / -xdev -name libnuma.so.1)
mv "$libnuma" "$TMP"
where local 0 8 65536
is $? 0 "a system without libnuma: the program runs" || diag_file "$TMP/out"
mv "$TMP/libnuma.so.1" "$libnuma"
done_testing
