#!/bin/bash
# SPDX-License-Identifier: MIT
# What can fail has a fault point (lib/base/fault.h): each function of lib/ and
# preload/ that makes a system call, a thread or a key asks fault_hit(), or
# stands in the table below with the reason why it need not; and each point is
# asked somewhere, and armed by some test.
. "$(dirname "$0")/tap.sh"
cd "$PP_SRC" || exit 1

# function: why a failure of its calls is no path of its own.
exempt="
os_dress: advice and a name; nothing looks at the result
unmap_outside: of what was just mapped, whole
os_unreserve: of what was mapped; there is nothing else to be done
os_system_thp: prctl cannot fail; the file is opened and read by os_open()
os_nr_threads: 0 is an answer
os_is_eventfd: a question, whose answer without the call is the careful one
os_is_same_eventfd: the same
os_close: of what is open
os_signal_is_caught: cannot fail but for a bad number
os_queue_signal: the kernel's queue is full: as good as a signal that is lost
os_yield: cannot fail
os_machine_bytes: cannot fail
os_rlimit_bytes: cannot fail
os_where: both answers are set before
close_file: of what is open
find_file: a question
look_up: a question
may_access: a question
discard: nothing to read is an answer
read_filters: the read is os_read()'s
show_prepare_exit: standard error itself then
open_exit_file: the last words are lost; nobody is left to be told
show_at_exit: closes what is open
pool_hook_fork: without handlers fork works as it did before there was a pool
make_thread: helper_thread_start() asks
preload_start: ends the process
close_fd: of what is open
thread_main: a name, for people
read_file: closes what is open; os_open() and os_read() ask
collect_thread: a name, for people; empty where the kernel has none
look_soon: nothing to read is an answer
await: a wait that ends early is one that ends
mask_signals: an unknown mask blocks nothing
is_pending: what is not known is not pending
take_pending: nothing to take is an answer
is_writable: who refuses to say is written to
"

# "file function" of each function with such a call and without fault_hit().
without_point() {
	awk '
	/^[A-Za-z_].*\(/ && !/;$/ { head = $0; sub(/^__attribute__\(\(.*\)\) /, "", head) }
	/^{/ { name = head; sub(/\(.*/, "", name); sub(/.*[ *]/, "", name)
	       called = asked = 0 }
	/^}/ { if (called && !asked) print FILENAME, name }
	/fault_hit\(/ { asked = 1 }
	/sys_(call[0-9]|mmap|mprotect|madvise|mremap|munmap|membarrier|prctl|read|close)\(|pthread_(create|key_create|setspecific|atfork)\(/ {
		called = 1 }' "$@"
}

is_exempt() {
	printf '%s\n' "$exempt" | grep -q "^$1: "
}

files() {
	find lib -name '*.c' ! -path 'lib/base/*' | sort
	echo preload/start.c
}

without_point $(files) | while read -r file name; do
	is_exempt "$name" || echo "$file: $name() makes a call that can fail, and has no fault point"
done | verdict "what can fail has a fault point, or a reason to have none"

printf '%s\n' "$exempt" | sed -n 's/^\([a-z_]*\): .*/\1/p' | while read -r name; do
	without_point $(files) | grep -q " $name\$" ||
		echo "$name: no such function makes such a call"
done | verdict "the reasons are those of functions that there are"

sed -n 's/^	X(\([A-Z]*\), .*/\1/p' lib/base/fault.h | while read -r point; do
	grep -rqw "FAULT_$point" lib --include='*.c' || echo "$point: no place asks for it"
	grep -rqw "FAULT_$point" tests || grep -qs PP_FAULT_POINTS tests/fault/sweep_test.c ||
		echo "$point: no test arms it"
done | verdict "each fault point is asked for, and armed by a test"

# The lint itself must see a call without a point when there is one.
{
	printf 'int os_new(void)\n{\n\treturn (int)sys_mmap(0, 0, 0, 0);\n}\n' |
		without_point | grep -q 'os_new$' ||
		echo "a call without a point is not seen"
} | verdict "a call without a point is noticed"
plan
