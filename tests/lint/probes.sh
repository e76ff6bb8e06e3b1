#!/bin/bash
# SPDX-License-Identifier: MIT
# The probes of the sources, of doc/tracing.md and of the library are the same.
. "$(dirname "$0")/tap.sh"

in_sources() {
	grep -ho '\<TRACE([a-z_]*' "$PP_SRC"/lib/*.c | sed 's/TRACE(//' | sort -u
}
in_doc() {
	sed -n 's/^| `\([a-z_]*\)` |.*/\1/p' "$PP_SRC/doc/tracing.md" | sort -u
}
in_library() {
	readelf -n "$PP_BUILD/.libs/libpagepool.so" 2>/dev/null |
		sed -n '/Provider: pagepool/{n;s/.*Name: //p}' | sort -u
}
differences() {
	diff "$1" "$2" | sed -n "s/^</only in $3:/p; s/^>/only in $4:/p"
}

{ [ "$(in_sources | wc -l)" -gt 5 ] || echo "$(in_sources | wc -l) probes"; } |
	verdict "there are probes"
differences <(in_sources) <(in_doc) "the sources" "doc/tracing.md" |
	verdict "doc/tracing.md lists all probes and no others"
if grep -q 'define HAVE_SYS_SDT_H 1' "$PP_BUILD/autoconf.h"; then
	differences <(in_sources) <(in_library) "the sources" "the library" |
		verdict "the library has them all"
fi
plan
