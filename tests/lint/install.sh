#!/bin/bash
# SPDX-License-Identifier: MIT
# `make install` puts everything where a user looks for it, and a program can
# be compiled, linked and run against the result.
. "$(dirname "$0")/tap.sh"
if [ "${PP_SANITIZER:-no}" != no ]; then
	echo "1..0 # SKIP a sanitized library is not for installing"
	exit 0
fi
root=$(mktemp -d) || exit 1
trap 'rm -rf "$root"' EXIT
unset MAKEFLAGS MAKELEVEL MFLAGS
{ make -C "$PP_BUILD" -s install DESTDIR="$root" >"$root/log" 2>&1 || cat "$root/log"; } |
	verdict "make install"
prefix=$root$(sed -n 's/^prefix *= *//p' "$PP_BUILD/Makefile")

for file in bin/pagepool lib/libpagepool.so lib/libpagepool.so.0 \
	lib/libpagepool-preload.so include/pagepool.h include/pagepool/stat.h \
	include/pagepool/cache.h include/pagepool/reserve.h lib/pkgconfig/pagepool.pc; do
	[ -e "$prefix/$file" ] || echo "missing: $file"
done | verdict "headers, libraries, command and pkg-config file are installed"
{ [ -e "$prefix/share/man/man1/pagepool.1" ] || echo "missing: pagepool.1"; } |
	verdict "the manual page of the command is installed"

cat >"$root/program.c" <<'END'
#include <pagepool.h>
#include <pagepool/cache.h>
#include <pagepool/stat.h>
int main(void)
{
	struct pp_pool *pool = pp_pool_default();
	void *run = pp_alloc_pages(pool, 3, 0);

	if (!run)
		return 1;
	pp_free_pages(pool, run);
	return pp_pool_check(pool) ? 2 : 0;
}
END
export PKG_CONFIG_SYSROOT_DIR=$root PKG_CONFIG_PATH=$prefix/lib/pkgconfig
use_it() {
	${CC:-cc} -std=c11 -Wall -Wextra -Wpedantic -Werror -o "$root/program" \
		"$root/program.c" $(pkg-config --cflags --libs pagepool) &&
		LD_LIBRARY_PATH=$prefix/lib "$root/program"
}
use_it >"$root/log" 2>&1
status=$?
{ [ $status = 0 ] || { cat "$root/log"; echo "exit status $status"; }; } |
	verdict "a program finds the library through pkg-config and runs"

if grep -q '^HAVE_JEMALLOC_FALSE = #' "$PP_BUILD/Makefile"; then
	cat >"$root/program.c" <<'END'
#include <jemalloc/jemalloc.h>
#include <pagepool/jemalloc.h>
int main(void)
{
	struct pp_jemalloc *je;
	unsigned ind;
	void *p;

	if (pp_jemalloc_arena(pp_pool_default(), &je, &ind))
		return 1;
	p = mallocx(100, MALLOCX_ARENA(ind) | MALLOCX_TCACHE_NONE);
	if (!p)
		return 2;
	dallocx(p, MALLOCX_TCACHE_NONE);
	return pp_jemalloc_destroy(je) ? 3 : 0;
}
END
	use_bridge() {
		${CC:-cc} -std=c11 -Wall -Wextra -Werror -o "$root/program" \
			"$root/program.c" \
			$(pkg-config --cflags --libs pagepool-jemalloc) &&
			LD_LIBRARY_PATH=$prefix/lib "$root/program"
	}
	use_bridge >"$root/log" 2>&1
	status=$?
	{ [ $status = 0 ] || { cat "$root/log"; echo "exit status $status"; }; } |
		verdict "a program finds the bridge to jemalloc and runs"
fi
plan
