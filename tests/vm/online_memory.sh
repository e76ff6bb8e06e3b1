#!/bin/sh
# SPDX-License-Identifier: MIT
# online_memory.sh NODE: switch on all memory that is offline; is NODE there?

for block in /sys/devices/system/memory/memory*; do
	[ "$(cat "$block/state")" = online ] || echo online >"$block/state"
done
grep -q "MemTotal: *[1-9]" "/sys/devices/system/node/node$1/meminfo"
