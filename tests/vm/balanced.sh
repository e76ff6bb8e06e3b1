#!/bin/sh
# SPDX-License-Identifier: MIT
# balanced.sh COMMAND...: run it while the kernel's NUMA balancing looks at its
# pages every millisecond, and not once in a second; from then on it looks so at
# all programs.  The exit status is the command's, or 99 if no page was looked
# at.

folder=/sys/kernel/debug/sched/numa_balancing
[ -d "$folder" ] || mount -t debugfs debugfs /sys/kernel/debug || exit 99
echo 1 >/proc/sys/kernel/numa_balancing &&
	echo 1 >"$folder/scan_delay_ms" &&
	echo 1 >"$folder/scan_period_min_ms" &&
	echo 2 >"$folder/scan_period_max_ms" || exit 99

looked_at() {
	sed -n 's/^numa_pte_updates //p' /proc/vmstat
}

before=$(looked_at)
"$@"
status=$?
[ "$(looked_at)" -gt "$before" ] || {
	echo "# NUMA balancing has looked at no page"
	exit 99
}
exit $status
