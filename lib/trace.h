/* SPDX-License-Identifier: MIT */
/*
 * trace.h - places where a tracer can look on (layer 1).
 *
 * Static probes of systemtap's <sys/sdt.h>: an instruction that does nothing,
 * and a note in the library that says where it is and where its arguments are.
 * gdb, bpftrace, perf and systemtap read them.  Without the header at build
 * time there are none.  The names follow the kernel's tracepoints where there
 * is one (include/trace/events/kmem.h, vmscan.h); doc/tracing.md lists them
 * with their arguments, and tests/lint/probes.sh compares.
 *
 * They stand outside of locks, but for the one for watermarks, and none is on
 * the path of a cached pair: who wants to see each malloc puts a probe on the
 * function.
 */
#ifndef PP_TRACE_H
#define PP_TRACE_H

#ifdef HAVE_SYS_SDT_H
#define SDT_USE_VARIADIC
#include <sys/sdt.h>
#define TRACE(name, ...)	STAP_PROBEV(pagepool, name, ##__VA_ARGS__)
#else
#define TRACE(name, ...)	trace_nothing(0, ##__VA_ARGS__)

static inline void trace_nothing(int unused, ...)
{
	(void)unused;
}
#endif

#endif
