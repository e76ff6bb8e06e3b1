/* SPDX-License-Identifier: MIT */
/*
 * atomic.h - atomic accesses whose order is part of their name (layer 0).
 *
 * A release is worth something only with its acquire: each use names its
 * partner in a comment.  Relaxed is the default of thought, not of spelling:
 * there is no accessor without an order.
 */
#ifndef PP_BASE_ATOMIC_H
#define PP_BASE_ATOMIC_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/compiler.h"

#define load_relaxed(p)		atomic_load_explicit(p, memory_order_relaxed)
#define load_acquire(p)		atomic_load_explicit(p, memory_order_acquire)
#define store_relaxed(p, v)	\
	atomic_store_explicit(p, v, memory_order_relaxed)
#define store_release(p, v)	\
	atomic_store_explicit(p, v, memory_order_release)
#define add_relaxed(p, v)	\
	atomic_fetch_add_explicit(p, v, memory_order_relaxed)
#define add_release(p, v)	\
	atomic_fetch_add_explicit(p, v, memory_order_release)
#define sub_relaxed(p, v)	\
	atomic_fetch_sub_explicit(p, v, memory_order_relaxed)
#define and_release(p, v)	\
	atomic_fetch_and_explicit(p, v, memory_order_release)
#define xchg_acquire(p, v)	\
	atomic_exchange_explicit(p, v, memory_order_acquire)
#define xchg_release(p, v)	\
	atomic_exchange_explicit(p, v, memory_order_release)
#define xchg_relaxed(p, v)	\
	atomic_exchange_explicit(p, v, memory_order_relaxed)
/* For two sides that each store one word and then load the other's: with
 * these accesses at least one of them sees the other, where the
 * compare-and-swap has succeeded. */
#define xchg_full(p, v)		\
	atomic_exchange_explicit(p, v, memory_order_seq_cst)
#define load_full(p)		atomic_load_explicit(p, memory_order_seq_cst)
#define cas_full(p, old, new)						\
	atomic_compare_exchange_strong_explicit(p, old, new,		\
			memory_order_seq_cst, memory_order_seq_cst)
/* What was loaded before is older than what is loaded after; what is stored
 * before is seen before what is stored after. */
#define fence_acquire()		atomic_thread_fence(memory_order_acquire)
#define fence_release()		atomic_thread_fence(memory_order_release)
#define cas_acquire(p, old, new)					\
	atomic_compare_exchange_strong_explicit(p, old, new,		\
			memory_order_acquire, memory_order_relaxed)
#define cas_weak_acquire(p, old, new)					\
	atomic_compare_exchange_weak_explicit(p, old, new,		\
			memory_order_acquire, memory_order_relaxed)
#define cas_weak_release(p, old, new)					\
	atomic_compare_exchange_weak_explicit(p, old, new,		\
			memory_order_release, memory_order_relaxed)
#define cas_release(p, old, new)					\
	atomic_compare_exchange_strong_explicit(p, old, new,		\
		memory_order_release, memory_order_relaxed)
#define cas_relaxed(p, old, new)					\
	atomic_compare_exchange_strong_explicit(p, old, new,		\
			memory_order_relaxed, memory_order_relaxed)

/*
 * A counter with one writer: readers in other threads see some value that it
 * had, and the writer pays for no locked instruction.
 */
#define add_single_writer(p, v)	store_relaxed(p, load_relaxed(p) + (v))

#endif
