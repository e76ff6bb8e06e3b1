#!/bin/bash
# SPDX-License-Identifier: MIT
# The manual: each public function has a page, the examples in the pages are
# the compiled ones, and groff has nothing to complain of.
. "$(dirname "$0")/tap.sh"
cd "$PP_SRC" || exit 1

sed -n 's/^[a-z].*[ *]\(pp_[a-z_]*\)(.*/\1/p' include/pagepool.h include/pagepool/*.h |
	while read -r name; do
		[ -e "doc/man/$name.3" ] || echo "$name: no page"
	done | verdict "every public function has a manual page"

for page in doc/man/*.3; do
	sed -n 's/^\.so man3\///p' "$page" | while read -r target; do
		grep -q "${page##*/}" Makefile.am || echo "${page##*/}: not in Makefile.am"
		sed -n '/^\.SH NAME/,/^\.SH LIB/p' "doc/man/$target" 2>/dev/null |
			grep -qw "$(basename "$page" .3)" ||
			echo "$page: $target does not name it"
	done
done | verdict "the links lead to pages that name the function"

# As in a page: without the licence line, backslashes and hyphens for groff.
as_in_page() {
	sed -e 1d -e 's/\\/\\e/g' -e 's/-/\\-/g' -e "s/^\([.']\)/\\\\\&\1/" "$1"
}
for example in doc/examples/*.c; do
	page=$(grep -l "^\.\\\\\" $example\$" doc/man/*.3)
	[ -n "$page" ] || { echo "$example: in no page"; continue; }
	awk -v mark=".\\\\\" $example" '$0 == mark { on = 1; next }
		on && /^\.EE/ { exit } on && !/^\.EX/' "$page" |
		diff - <(as_in_page "$example") >/dev/null ||
		echo "$page: the example differs from $example"
done | verdict "the examples in the pages are the compiled ones"

if command -v groff >/dev/null; then
	for page in $(grep -L '^\.so' doc/man/*.[137]); do
		groff -man -Tutf8 -ww -z "$page" 2>&1
	done | verdict "groff has nothing to say about the pages"
fi
grep -q '^HAVE_JEMALLOC_TRUE = #' "$PP_BUILD/Makefile" &&
	echo "# doc/examples/jemalloc is not run: configured without jemalloc"
for example in doc/examples/*.c; do
	example=${example%.c}
	[ "${example##*/}" = jemalloc ] && ! [ -x "$PP_BUILD/$example" ] &&
		grep -q '^HAVE_JEMALLOC_TRUE = #' "$PP_BUILD/Makefile" && continue
	[ -x "$PP_BUILD/$example" ] || { echo "$example: not built"; continue; }
	"$PP_BUILD/$example" >/dev/null || echo "$example: exit status $?"
done | verdict "the examples run"

plan
