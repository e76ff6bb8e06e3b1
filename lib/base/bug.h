/* SPDX-License-Identifier: MIT */
/*
 * bug.h - three levels of assertion, and the line before the end (layer 0).
 *
 * BUG_ON	always compiled, O(1): memory would be corrupted if we went on
 * VM_BUG_ON	--enable-debug, O(1) even on the fast path
 * PP_DEBUG > 1	--enable-debug=full, walks that check whole structures
 *
 * A failure prints one line by write(2) and aborts.  Wrong use by the program
 * goes through bug_pointer(), whose lines are part of the documented surface:
 * tests/death asserts them to the letter.
 */
#ifndef PP_BASE_BUG_H
#define PP_BASE_BUG_H

#include "base/compiler.h"

__attribute__((noreturn)) PP_COLD
void bug_at(const char *file, unsigned line, const char *what);

/* "pagepool: ENTRY(): BEFORE 0xADDR AFTER", then abort. */
__attribute__((noreturn)) PP_COLD
void bug_pointer(const char *entry, const char *before, uintptr_t addr,
		 const char *after);

/* As bug_pointer(), ending in a second address. */
__attribute__((noreturn)) PP_COLD
void bug_two_pointers(const char *entry, uintptr_t addr, const char *between,
		      uintptr_t other);

#define BUG_ON(cond) \
	do { \
		if (unlikely(cond)) \
			bug_at(__FILE__, __LINE__, #cond); \
	} while (0)

#define VM_BUG_ON(cond) \
	do { \
		if (PP_DEBUG > 0) \
			BUG_ON(cond); \
	} while (0)

#endif
