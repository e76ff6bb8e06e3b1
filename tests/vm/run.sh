#!/bin/sh
# SPDX-License-Identifier: MIT
# run.sh [MACHINE...]: boot the named machines (nodes4), or all, one after the
# other, by hand; `make check-vm` runs them under automake's driver.
# run.sh --missing: why no machine can be booted here; nothing if it can.
#
# PP_BUILD is the folder of the build.  PP_VM_KEEP=FOLDER keeps the output of
# the console there, PP_VM_KERNEL=FILE boots another kernel, PP_VM_TIMEOUT=120
# changes the seconds that a machine may take, PP_VM_ACCEL=kvm has the
# processor's help.

: "${PP_SRC:=$(cd "$(dirname "$0")/../.." && pwd)}" "${PP_BUILD:=$PWD}"
export PP_SRC PP_BUILD

missing() {
	(
		. "$PP_SRC/tests/vm/vm.sh"
		vm_missing
		tap_ended=1
	)
}

reason=$(missing)
if [ "${1-}" = --missing ]; then
	[ -z "$reason" ] || echo "$reason"
	exit 0
fi
if [ -n "$reason" ]; then
	echo "check-vm: skipped: $reason"
	exit 0
fi
[ $# -gt 0 ] || set -- $(cd "$PP_SRC/tests/vm" && ls ./*.test |
	sed 's|^\./||; s|\.test$||')
failed=0
for machine; do
	echo "# $machine"
	sh "$PP_SRC/tests/vm/$machine.test" || failed=1
done
exit $failed
