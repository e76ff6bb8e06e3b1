# SPDX-License-Identifier: MIT
# Sourced by the tests of this folder.  Each of them is a machine: it says what
# the machine has (node, distance, memory_block, kernel_option), what runs in it
# (guest), and then boots it, in QEMU and without the help of hardware, on a
# Debian kernel whose root is busybox, this build's programs and the libraries
# that they need.  README.md tells how to add one.
#
# The machine has two serial lines: the kernel's console, which is shown when
# something goes wrong, and one that nothing but results go to.  Files have the
# same names inside as outside, so that run paths of libraries hold.

: "${PP_SRC:?}" "${PP_BUILD:?}"
: "${PP_TOOL:=$PP_BUILD/tools/pagepool}"
: "${PP_PRELOAD:=$PP_BUILD/.libs/libpagepool-preload.so}"
export PP_TOOL PP_PRELOAD

. "$PP_SRC/tests/preload/tap.sh"

vm_cache=$PP_BUILD/vm
vm_root=$TMP/root
vm_nodes=0 vm_cpus=0 vm_megabytes=0 vm_block_megabytes=0 vm_guests=0
vm_qemu= vm_append=
mkdir -p "$vm_root/vm"

# node MEGABYTES CPUS: the next node; either number may be 0.
node() {
	vm_node=node,nodeid=$vm_nodes
	[ "$2" = 0 ] || vm_node=$vm_node,cpus=$vm_cpus-$((vm_cpus + $2 - 1))
	if [ "$1" != 0 ]; then
		vm_node=$vm_node,memdev=ram$vm_nodes
		vm_qemu="$vm_qemu -object memory-backend-ram,id=ram$vm_nodes,size=$1M"
	fi
	vm_qemu="$vm_qemu -numa $vm_node"
	vm_nodes=$((vm_nodes + 1))
	vm_cpus=$((vm_cpus + $2))
	vm_megabytes=$((vm_megabytes + $1))
}

# distance A B VALUE: between two nodes, both ways.  All pairs or none.
distance() {
	vm_qemu="$vm_qemu -numa dist,src=$1,dst=$2,val=$3"
}

# memory_block MEGABYTES: memory of the last node that is there but offline
# until the guest puts it online (a multiple of 128).
memory_block() {
	vm_qemu="$vm_qemu -object memory-backend-ram,id=block,size=$1M"
	vm_qemu="$vm_qemu -device pc-dimm,memdev=block,node=$((vm_nodes - 1))"
	vm_block_megabytes=$1
}

# kernel_option WORD...: more of the kernel's command line.
kernel_option() {
	vm_append="$vm_append $*"
}

# guest NAME COMMAND: the next thing to run inside, a line for sh that prints
# TAP.  Programs and scripts of tests/vm are in its PATH.
guest() {
	vm_guests=$((vm_guests + 1))
	printf '%s\n' "$1" >"$vm_root/vm/$vm_guests.name"
	printf '%s\n' "$2" >"$vm_root/vm/$vm_guests.sh"
}

# ---- the kernel ---------------------------------------------------------------

# vm_fits CONFIG: does a kernel built like this do?
vm_fits() {
	for vm_option in NUMA CPUSETS MEMCG PSI MIGRATION BLK_DEV_INITRD \
		DEVTMPFS SERIAL_8250_CONSOLE; do
		grep -q "^CONFIG_$vm_option=y" "$1" 2>/dev/null || return
	done
}

# The newest kernel that is installed and fits.
vm_installed_kernel() {
	for vm_image in $(ls -t /boot/vmlinuz-* 2>/dev/null); do
		if [ -r "$vm_image" ] && vm_fits "/boot/config-${vm_image#*-}"; then
			echo "$vm_image"
			return
		fi
	done
}

# Take the kernel for virtual machines out of its package, without installing
# it.  The last step is a rename: two machines may do this at once.
vm_fetch_kernel() {
	vm_package=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null |
		sed -n 's/^ *Depends: *\(linux-image-[0-9].*\)/\1/p' | head -n 1)
	[ -n "$vm_package" ] || return
	mkdir -p "$vm_cache" "$TMP/kernel" &&
		(
			cd "$TMP/kernel" &&
				apt-get -q download "$vm_package" &&
				dpkg-deb --fsys-tarfile ./*.deb | tar -x ./boot
		) >"$TMP/kernel/log" 2>&1 &&
		vm_fits "$(echo "$TMP"/kernel/boot/config-*)" &&
		cp "$TMP"/kernel/boot/vmlinuz-* "$vm_cache/vmlinuz.$$" &&
		mv "$vm_cache/vmlinuz.$$" "$vm_cache/vmlinuz"
}

# Sets $vm_kernel; PP_VM_KERNEL names another one.
vm_find_kernel() {
	vm_kernel=${PP_VM_KERNEL:-$(vm_installed_kernel)}
	[ -n "$vm_kernel" ] || {
		vm_kernel=$vm_cache/vmlinuz
		[ -e "$vm_kernel" ] || vm_fetch_kernel
	}
	[ -r "$vm_kernel" ]
}

# Why no machine can be booted here; nothing if it can.
vm_missing() {
	if [ "$(uname -m)" != x86_64 ]; then
		echo "the machines are x86-64, this one is $(uname -m)"
	elif ! command -v qemu-system-x86_64 >/dev/null; then
		echo "qemu-system-x86_64 is missing (package qemu-system-x86)"
	elif ! command -v busybox >/dev/null; then
		echo "busybox is missing (package busybox-static)"
	elif ! command -v cpio >/dev/null; then
		echo "cpio is missing (package cpio)"
	elif [ ! -x "$PP_BUILD/tests/vm/numa_vm_test" ]; then
		echo "tests/vm/numa_vm_test is not built (package libnuma-dev)"
	elif ! vm_find_kernel; then
		echo "no kernel: none in /boot that fits, and apt-get cannot" \
			"download linux-image-cloud-amd64's"
	fi
}

# ---- what is inside -----------------------------------------------------------

# vm_add FILE: under the same name, and the libraries that it needs.
vm_add() {
	mkdir -p "$vm_root${1%/*}"
	cp -L "$1" "$vm_root$1" || bail "cannot copy $1"
	case $(head -c 4 "$1" | tail -c 3) in
	ELF) ;;
	*) return ;;
	esac
	for vm_library in $(ldd "$1" 2>/dev/null | grep -o '/[^ ]*'); do
		[ -e "$vm_root$vm_library" ] || {
			mkdir -p "$vm_root${vm_library%/*}"
			cp -L "$vm_library" "$vm_root$vm_library"
		}
	done
}

vm_make_root() {
	for vm_dir in bin dev proc sys tmp; do
		mkdir -p "$vm_root/$vm_dir"
	done
	vm_busybox=$(command -v busybox)
	vm_add "$vm_busybox"
	[ "$vm_busybox" = /bin/busybox ] ||
		ln -s "$vm_busybox" "$vm_root/bin/busybox"
	cp "$PP_SRC/tests/vm/init.sh" "$vm_root/init"
	chmod 755 "$vm_root/init"
	for vm_file in "$PP_BUILD"/tests/vm/* "$PP_SRC"/tests/vm/*.sh \
		"$PP_SRC"/tests/preload/*.sh "$PP_TOOL" "$PP_PRELOAD"; do
		case $vm_file in
		*.o | *.log | *.trs) continue ;;
		esac
		[ ! -f "$vm_file" ] || vm_add "$vm_file"
	done
	{
		echo "PP_SRC='$PP_SRC' PP_BUILD='$PP_BUILD'"
		echo "PP_TOOL='$PP_TOOL' PP_PRELOAD='$PP_PRELOAD'"
		echo "PATH=/bin:'$PP_BUILD/tests/vm':'$PP_SRC/tests/vm'"
	} >"$vm_root/vm/environment"
	(cd "$vm_root" && find . | cpio -o -H newc -R +0:+0 --quiet) >"$TMP/initrd" ||
		bail "cpio failed"
}

# ---- the machine --------------------------------------------------------------

vm_run_qemu() {
	vm_memory=$vm_megabytes
	[ "$vm_block_megabytes" = 0 ] ||
		vm_memory="$vm_memory,slots=1,maxmem=$((vm_megabytes + vm_block_megabytes))M"
	: >"$TMP/console"
	: >"$TMP/results"
	# In the foreground: a time limit on this test ends the machine too.
	timeout --foreground -k 5 "${PP_VM_TIMEOUT:-240}" \
		qemu-system-x86_64 -nodefaults -no-user-config -no-reboot \
		-display none -monitor none -accel "${PP_VM_ACCEL:-tcg}" \
		-cpu max -m "$vm_memory" -smp "$vm_cpus" $vm_qemu \
		-serial "file:$TMP/console" -serial "file:$TMP/results" \
		-kernel "$vm_kernel" -initrd "$TMP/initrd" \
		-append "console=ttyS0 panic=-1 quiet psi=1 mitigations=off$vm_append" \
		</dev/null >"$TMP/qemu" 2>&1
	vm_status=$?
}

# Make one stream of TAP out of what came over the line: each result with the
# name of its command, and for each command that did not do all it had planned
# a failure.
vm_judge() {
	for vm_i in $(seq "$vm_guests"); do
		cat "$vm_root/vm/$vm_i.name"
	done >"$TMP/names"
	tr -d '\r' <"$TMP/results" | awk -v names="$TMP/names" '
	function say(passed, text) {
		print (passed ? "ok " : "not ok ") ++results " - " text
	}
	function leave(status) {
		if (bailed || skipped)
			;
		else if (plan != made)
			say(0, name[at] ": planned " plan " results, made " \
				made ", exit status " status)
		else if (status != 0 && !failed)
			say(0, name[at] ": exit status " status)
		ended[at] = 1
		at = 0
	}
	BEGIN {
		while ((getline line <names) > 0)
			name[++nr_names] = line
	}
	/^@begin / {
		at = $2
		plan = "no"
		made = failed = bailed = skipped = 0
		next
	}
	/^@end / && at { leave($3); next }
	!at { next }
	/^1\.\.0/ {
		skipped = 1
		sub(/^1\.\.0[ #]*(SKIP)?/, "")
		say(1, name[at] " # SKIP" $0)
		next
	}
	/^1\.\.[0-9]+/ { plan = substr($1, 4) + 0; next }
	/^Bail out!/ { bailed = 1; say(0, name[at] ": " $0); next }
	/^(not )?ok [0-9]+/ {
		# cmocka writes a skipped test as one that is not ok.
		passed = /^ok/ || /^not ok [0-9]+ # SKIP/
		sub(/^(not )?ok [0-9]+ *-? */, "")
		made++
		failed += !passed
		say(passed, name[at] ": " $0)
		next
	}
	/./ { print (/^#/ ? "" : "# ") $0 }
	END {
		for (i = 1; i <= nr_names; i++)
			if (!ended[i])
				say(0, name[i] ": the machine stopped before its end")
		print "1.." results
	}' >"$TMP/tap"
}

# boot: run the machine and print what came of it.
boot() {
	vm_reason=$(vm_missing)
	[ -z "$vm_reason" ] || skip_all "$vm_reason"
	[ "${PP_SANITIZER:-no}" = no ] ||
		skip_all "a sanitizer's libraries are too large for the machine"
	vm_find_kernel
	vm_make_root
	vm_run_qemu
	vm_judge
	[ -z "${PP_VM_KEEP-}" ] || cp "$TMP/console" "$TMP/results" "$PP_VM_KEEP"
	cat "$TMP/tap"
	tap_ended=1
	grep -q '^not ok' "$TMP/tap" || exit 0
	diag "qemu: exit status $vm_status, kernel $vm_kernel"
	diag_file "$TMP/qemu"
	diag_file "$TMP/console"
	exit 1
}
