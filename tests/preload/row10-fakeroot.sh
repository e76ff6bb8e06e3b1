#!/bin/sh
# SPDX-License-Identifier: MIT
# Run by row10-other-preloads.test inside fakeroot: both preloads at work.
# $1 is a file that it may give away.

chown 1234:5678 "$1" || exit 1
if [ -n "${PP_PLAIN-}" ]; then
	owner=$(stat -c %u:%g "$1")
else
	owner=$("$PP_TOOL" run --limit 64M -- stat -c %u:%g "$1")
fi
if [ "$owner" != 1234:5678 ]; then
	echo "owner is $owner"
	exit 1
fi
echo "done: owner is $owner"
