#!/bin/sh
# SPDX-License-Identifier: MIT
# Runs every benchmark and keeps what it printed in results/<date>.txt, with
# notes on the machine.  Usage: run.sh BUILD_FOLDER [--quick]
# BUILD_FOLDER is where make was run (it has benchmarks/, tools/, .libs/).
set -eu

build=${1:?usage: run.sh BUILD_FOLDER [--quick]}
quick=${2:-}
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
build=$(CDPATH='' cd -- "$build" && pwd)
ours=$build/.libs/libpagepool-preload.so
tool=$build/tools/pagepool
programs=$build/benchmarks
results=$here/results
mkdir -p "$results"
out=$results/$(date -u +%Y-%m-%d).txt
[ ! -e "$out" ] || out=$results/$(date -u +%Y-%m-%d-%H%M).txt

version()
{
	dpkg-query -W -f='${Version}' "$1" 2>/dev/null || printf 'not installed'
}

machine()
{
	date -u '+date: %Y-%m-%d'
	printf 'processor: %s, %s in use\n' \
		"$(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo |
		   head -n 1)" "$(nproc)"
	printf 'memory: %s MiB\n' \
		"$(awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo)"
	grep -qw hypervisor /proc/cpuinfo && echo 'a virtual machine'
	printf 'kernel: %s\n' "$(uname -r)"
	printf 'huge pages: %s\n' \
		"$(cat /sys/kernel/mm/transparent_hugepage/enabled \
		   2>/dev/null || echo unknown)"
	printf 'load before: %s\n' "$(cut -d' ' -f1-3 /proc/loadavg)"
	printf 'compiler: %s\n' "$(${CC:-gcc} --version | head -n 1)"
	for package in libc6 libjemalloc2 libmimalloc2.0 \
		libtcmalloc-minimal4; do
		printf '%s: %s\n' "$package" "$(version "$package")"
	done
	printf 'pagepool: %s\n' \
		"$(git -C "$here" describe --always --dirty 2>/dev/null ||
		   echo unknown)"
}

run()
{
	name=$1
	shift
	printf '\n=== %s\n' "$name"
	"$programs/$name" "$@" || printf '%s: ended with %s\n' "$name" "$?"
}

all()
{
	machine
	if [ "$quick" = --quick ]; then
		run compare --ours "$ours" --starts 1 small large huge
		run start --ours "$ours" --tool "$tool" --laps 50
		return
	fi
	run compare --ours "$ours" small large huge touch-small touch-large
	run compare --ours "$ours" --resident \
		batch batch2 mixed xfree grow grow64k
	run start --ours "$ours" --tool "$tool"
	run create
	run pressure --quiet 60
	run pressure --passes 1
	run failing
	run refill --ours "$ours"
	run metadata --ours "$ours"
	run scale --ours "$ours"
}

all | tee "$out"
echo "kept in benchmarks/results/${out##*/}"
! grep -q ': ended with ' "$out"
