# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# Sourced by ./check and ./demo: from a bare Debian 12 to a configured build
# folder.  The caller has set top (the source tree) and stands in it.

die() {
	echo "${0##*/}: $*" >&2
	exit 1
}

as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	else
		sudo "$@"
	fi
}

# The packages among the arguments that are not installed, one a line.
missing_packages() {
	comm -23 <(printf '%s\n' "$@" | sort -u) \
		<(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "$@" 2>/dev/null |
			sed -n 's/ installed$//p' | sort -u)
}

# Installed servers stay off: while policy-rc.d says 101, Debian starts none.
policy=/usr/sbin/policy-rc.d
policy_is_ours=no
keep_services_off() {
	[ -e "$policy" ] && return
	policy_is_ours=yes
	printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null &&
		as_root chmod 755 "$policy"
}
allow_services() {
	[ "$policy_is_ours" = yes ] && as_root rm -f "$policy"
	policy_is_ours=no
}

install_packages() {
	local missing
	command -v dpkg-query >/dev/null || {
		echo "not a Debian system: these are expected to be there: $*"
		return
	}
	mapfile -t missing < <(missing_packages "$@")
	[ ${#missing[@]} = 0 ] && return
	echo "installing: ${missing[*]}"
	trap allow_services EXIT
	keep_services_off
	{
		as_root apt-get -q update &&
			as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y \
				--no-install-recommends install "${missing[@]}"
	} </dev/null >build/apt.log 2>&1 || {
		tail -n 20 build/apt.log
		die "apt-get failed; the whole log is build/apt.log"
	}
	allow_services
	trap - EXIT
}

# configure and the Makefile's template, when a source of theirs changed.
bootstrap() {
	[ -e config.status ] &&
		die "the source tree itself is configured; run 'make distclean' in it first"
	if [ -x configure ] && [ Makefile.in -nt Makefile.am ] &&
		[ configure -nt configure.ac ]; then
		return
	fi
	autoreconf -fi >build/autoreconf.log 2>&1 || {
		tail -n 20 build/autoreconf.log
		die "autoreconf failed"
	}
	touch configure Makefile.in
}

# configure_build FOLDER ARG...: configure build/FOLDER, unless it already is
# with the same arguments.
configure_build() {
	local dir=build/$1
	shift
	if [ "$dir/config.status" -nt configure ] &&
		[ "$(cat "$dir/.arguments" 2>/dev/null)" = "$*" ]; then
		return
	fi
	rm -rf "$dir" && mkdir -p "$dir" || return
	(cd "$dir" && "$top/configure" -q "$@") </dev/null >"$dir.configure.log" 2>&1 || return
	echo "$*" >"$dir/.arguments"
}
