#!/bin/bash
# SPDX-License-Identifier: MIT
# What the objects need and what the libraries show to the world.
. "$(dirname "$0")/tap.sh"
if [ "${PP_SANITIZER:-no}" != no ]; then
	echo "1..0 # SKIP a sanitizer adds symbols of its own"
	exit 0
fi
cd "$PP_BUILD" || exit 1
core=.libs/libpagepool.so
preload=.libs/libpagepool-preload.so
mapfile -t objects < <(find lib -path '*/.libs/libpagepool_core_la-*.o' | sort)

# "object symbol" for what an object takes from elsewhere.
undefined() {
	nm -A -u "$@" | sed 's/:[^:]*U / /; s/@.*//; s|/\.libs/libpagepool_core_la-|/|'
}
# The defined dynamic symbols of a library: "name@@version" or "name".
exported() {
	nm -D --defined-only "$1" | awk '$2 != "A" { print $3 }' | sort
}
needed() {
	readelf -dW "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'
}
tls_bytes() {
	readelf -lW "$1" | awk '$1 == "TLS" { print $6 }'
}
# The functions of some headers whose names begin with PREFIX.
functions_of() {
	local prefix=$1
	shift
	cat "$@" | sed 's|//.*||; s|/\*.*\*/||; /^[ 	]*\*/d; /^[ 	]*\/\*/d' |
		grep -o "\<${prefix}_[a-z0-9_]* *(" | tr -d ' (' | sort -u
}
jemalloc_header=$PP_SRC/include/pagepool/jemalloc.h
declared() {
	functions_of pp "$PP_SRC"/include/pagepool.h \
		$(ls "$PP_SRC"/include/pagepool/*.h | grep -v -x "$jemalloc_header")
}
private() {
	functions_of pagepool "$PP_SRC"/lib/extent.h "$PP_SRC"/lib/fault_hook.h
}

{ [ ${#objects[@]} -gt 10 ] || echo "${#objects[@]} objects in $PP_BUILD/lib"; } |
	verdict "the core's objects are there"

undefined "${objects[@]}" | grep -E ' (malloc|calloc|realloc|reallocarray|free|cfree|posix_memalign|aligned_alloc|memalign|valloc|pvalloc|strdup|strndup|asprintf|vasprintf)$' |
	verdict "the core calls no malloc"
undefined "${objects[@]}" | grep -E ' (_*[a-z]*printf(_chk)?|f?puts(_unlocked)?|f?putc(har)?(_unlocked)?|_IO_putc|f(open|dopen|reopen|close|read|write|flush|gets|seek|tell)(64|_unlocked|_chk)?|perror|getline|getdelim|_*[a-z]*scanf|stdin|stdout|stderr|setvbuf|tmpfile)$' |
	verdict "the core uses no stdio"
undefined "${objects[@]}" | grep -E ' (secure_)?getenv$' | grep -v '^lib/config\.o ' |
	verdict "only config reads the environment"
undefined "${objects[@]}" | grep -E ' (exit|_exit|atexit|signal|sigaction|setlocale|pthread_atfork|dlopen|dlsym)$' |
	grep -v -E '^lib/(config|pool)\.o |^lib/reclaimd\.o exit$' |
	verdict "the core neither exits nor hooks into the process"

diff <(declared | sed 's/$/@@PAGEPOOL_0/') \
	<(exported $core | grep -v '@PAGEPOOL_PRIVATE$') | grep '^[<>]' |
	sed 's/^</declared, not exported:/; s/^>/exported, not declared:/' |
	verdict "libpagepool exports what its headers declare, under PAGEPOOL_0"
diff <(private | sed 's/$/@@PAGEPOOL_PRIVATE/') \
	<(exported $core | grep '@PAGEPOOL_PRIVATE$') | grep '^[<>]' |
	verdict "PAGEPOOL_PRIVATE is what other libraries and tests need of it"
readelf -dW $core | grep SONAME | grep -v '\[libpagepool\.so\.0\]' |
	verdict "the soname is libpagepool.so.0"
needed $core | grep -v -x 'libc\.so\.6' | verdict "libpagepool needs libc alone"
tls_bytes $core | while read -r bytes; do
	[ $((bytes)) -le 40 ] || echo "$((bytes)) bytes"
done | verdict "libpagepool has a few words of thread-local storage"

family="malloc calloc realloc reallocarray free cfree posix_memalign
	aligned_alloc memalign valloc pvalloc malloc_usable_size malloc_trim
	mallinfo mallinfo2 mallopt malloc_stats malloc_info free_sized
	free_aligned_sized __libc_malloc __libc_calloc __libc_realloc
	__libc_free __libc_memalign __libc_valloc __libc_pvalloc
	__posix_memalign"
# What it stands in front of beside the family, see preload/interpose.c and
# preload/idle.c.
may_wrap="dlopen __register_atfork pthread_create thrd_create poll __poll_chk
	ppoll __ppoll_chk epoll_wait epoll_pwait select pselect nanosleep
	clock_nanosleep sleep usleep"

comm -23 <(printf '%s\n' $family | sort) <(exported $preload) |
	sed 's/^/missing: /' | verdict "the preload library exports the whole malloc family"
comm -13 <(printf '%s\n' $family $may_wrap | sort) <(exported $preload) |
	grep -v '^pp_.*@@PAGEPOOL_0$\|^pagepool_.*@@PAGEPOOL_PRIVATE$' | verdict "the preload library exports nothing else"
comm -23 <(exported $core) <(exported $preload) |
	verdict "the preload library exports all of libpagepool too"
needed $preload | grep -v -x 'libc\.so\.6' | verdict "the preload library needs libc alone"
tls_bytes $preload | while read -r bytes; do
	[ $((bytes)) -le 40 ] || echo "$((bytes)) bytes"
done | verdict "the preload library has a few words of thread-local storage"

bridge=.libs/libpagepool-jemalloc.so
if grep -q '^HAVE_JEMALLOC_FALSE = #' Makefile; then
	diff <(functions_of pp "$jemalloc_header" | grep jemalloc |
		sed 's/$/@@PAGEPOOL_JEMALLOC_0/') <(exported $bridge) |
		grep '^[<>]' |
		verdict "libpagepool-jemalloc exports what its header declares"
	readelf -dW $bridge | grep SONAME |
		grep -v '\[libpagepool-jemalloc\.so\.0\]' |
		verdict "its soname is libpagepool-jemalloc.so.0"
	needed $bridge | grep -v -x 'lib\(c\.so\.6\|pagepool\.so\.0\|jemalloc\.so\.2\)' |
		verdict "it needs libc, libpagepool and jemalloc alone"
	undefined jemalloc/.libs/*.o | grep -E ' (malloc|calloc|realloc|free)$' |
		verdict "it calls no malloc"
fi
plan
