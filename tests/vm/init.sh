#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# The first process of a machine: mounts what programs expect, runs each command
# of /vm with its output on the second serial line, and ends the machine.

/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
mount -t cgroup2 none /sys/fs/cgroup
echo "+cpuset +cpu +memory" >/sys/fs/cgroup/cgroup.subtree_control
stty -F /dev/ttyS1 raw -echo
ip link set lo up 2>/dev/null

set -a
. /vm/environment
CMOCKA_MESSAGE_OUTPUT=TAP
HOME=/tmp
LC_ALL=C
set +a
cd /tmp || exit

run_all() {
	i=1
	while [ -e "/vm/$i.sh" ]; do
		echo "@begin $i"
		timeout -s KILL "${VM_GUEST_TIMEOUT:-100}" sh "/vm/$i.sh" </dev/null
		echo "
@end $i $?"
		i=$((i + 1))
	done
}
run_all >/dev/ttyS1 2>&1
# What the line still holds is sent before this returns.
stty -F /dev/ttyS1 sane
reboot -f
