/* SPDX-License-Identifier: MIT */
/*
 * oom.h - the last resort: notifiers, and victims (layer 10).
 *
 * Source: Linux mm/oom_kill.c, out_of_memory() and select_bad_process().  A
 * victim is a part of the program that can be told to end.  The one with the
 * most memory is told, and whoever needs memory waits until it has ended.
 *
 *	ALIVE -----> CANCELLED ---------> FORCED ---------> SKIPPED
 *	  |  cancel()    |  grace: force()  |  grace again     |
 *	  +--------------+------ EXITED <---+------------------+
 *	                     pp_victim_exited(), unregistering
 *
 * No lock is held over a callback.  A step is done by a thread of
 * call_service.h, for whichever requester is there when its time has come; one
 * that is stuck in cancel() or force() holds nobody: after twice the grace the
 * next victim is chosen.  (force() is not called while cancel() runs.)
 *
 * Choosing means calling all notifiers and then usage() of all victims, by one
 * thread at a time, the chooser.  One that does not get on for the victims'
 * stuck_ns is replaced; what it chooses later counts for nothing.
 *
 * Who waits is one who waits for memory (memwait.h): it is counted and reads
 * the futex before it looks at the state under the victims' lock.  Each change
 * of that wakes after the hold, so that none in between is slept over; and so
 * does whatever else gives memory back.
 *
 * O1: current is in the list, and CANCELLED or FORCED; nobody else is
 * O2: nobody becomes CANCELLED while `nr_disabled` is not 0, nor with NOKILL or
 *     an adj of -1000
 * O3: current_number == current's, or 0
 */
#ifndef PP_OOM_H
#define PP_OOM_H

#include "callback.h"
#include "pagepool/reclaim.h"
#include "vmscan.h"

#define OOM_ADJ_NEVER	(-1000)
#define OOM_ADJ_MAX	1000

enum victim_state {
	VICTIM_ALIVE, VICTIM_CANCELLED, VICTIM_FORCED, VICTIM_SKIPPED,
	VICTIM_EXITED
};

struct victim {
	struct callback		cb;

	/* const after victim_add() */
	struct pp_victim	ops;
	struct oom		*oom;
	uint32_t		number;	/* of the process, in order; not 0 */

	/* oom->victims.lock */
	enum victim_state	state;
	uint64_t		cancelled_ns, forced_ns;
};

struct oom_notifier {
	struct callback		cb;

	/* const after oom_notifier_add() */
	struct pp_oom_notifier	ops;
};

struct oom {
	struct memwait		*memwait;	/* const: the pool's */
	struct callback_list	victims;	/* rank OOM, both */
	struct callback_list	notifiers;

	/* victims.lock */
	struct victim		*current;
	uintptr_t		chooser;	/* thread_identity() */
	uint64_t		chooser_since_ns;

	/* victims.lock to write; any thread reads */
	_Atomic uint32_t	nr_disabled;
	_Atomic uint32_t	current_number;
	_Atomic uint32_t	nr_released;	/* times that there may be more
						 * memory */
	/* any thread */
	_Atomic uint32_t	nr_killable;	/* ALIVE, and may be chosen;
						 * current */
};

/* The number of the victim that the thread works for; 0: none. */
#pragma GCC visibility push(hidden)
extern __thread uint32_t victim_of_thread;
#pragma GCC visibility pop

/* What a request wants of it. */
struct oom_want {
	struct vmscan_want want;	/* is it served by now? asked after
					 * each wait */
	uint64_t	grace_ns;	/* until force(), and once more */
};

enum oom_result {
	OOM_NONE,	/* nobody to ask: fail now */
	OOM_PROGRESS,	/* try again */
	OOM_LATE,	/* the deadline passed */
};

/* How bad a victim is: a sum of pages, with adj thousandths of what there
 * is. */
int64_t oom_badness(uint64_t usage_bytes, int adj, uint64_t managed_pages);

void oom_init(struct oom *oom, struct memwait *memwait);

/* @v: with ops and a name, zeroes else. */
void victim_add(struct oom *oom, struct victim *v);
void victim_exited(struct victim *v);
/* Waits until no callback runs; stops the program if the caller is in one. */
void victim_del(struct victim *v);

void oom_notifier_add(struct oom *oom, struct oom_notifier *n);
void oom_notifier_del(struct oom_notifier *n);

/* What is to be done about the victims at the moment. */
enum oom_todo {
	OOM_TODO_CHOOSE,	/* by the caller, who is the chooser now */
	OOM_TODO_FORCE,		/* the same, who is inside current now */
	OOM_TODO_WAIT,		/* until something moves, or @until_ns */
};

/* When the next step is due; 0: now. */
uint64_t oom_due_ns(struct oom *oom, uint64_t grace_ns);

/**
 * oom_look() - do the steps whose time has come, and say what remains.
 * @until_ns: receives when the next step is due.
 * @v: receives whom to force.
 */
enum oom_todo oom_look(struct oom *oom, uint64_t grace_ns, uint64_t now_ns,
		       uint64_t *until_ns, struct victim **v);

/**
 * oom_release() - have memory given up by notifiers, or by a victim.
 *
 * Context: no lock held, the thread's cache left; has callbacks run, in a scope
 * of PP_MEMALLOC, and waits.  Not for requests that no victim is to die for, or
 * in whose name nothing may be called.
 * Return: as above; OOM_PROGRESS without any if it is the caller's own victim
 * that is to end.
 */
enum oom_result oom_release(struct pcp_registry *reg,
			    const struct oom_want *want);

/* Could it do anything?  A look at a few words. */
static inline bool oom_is_possible(struct pcp_registry *reg)
{
	struct oom *oom = reg->oom;

	return oom && !load_relaxed(&oom->nr_disabled) &&
	       (load_relaxed(&oom->nr_killable) ||
		load_relaxed(&oom->notifiers.nr));
}

/* Is the thread's own victim the one that is to end? */
static inline bool oom_is_own(struct pcp_registry *reg)
{
	return unlikely(victim_of_thread) && reg->oom &&
	       load_relaxed(&reg->oom->current_number) == victim_of_thread;
}

/* Once no victim is under way; -ETIMEDOUT: it was not disabled. */
int oom_disable(struct oom *oom, uint64_t deadline_ns);
int oom_enable(struct oom *oom);	/* -EINVAL: it was not disabled */

/* In the child of a fork, while it is alone, with both locks held. */
void oom_forget_others(struct oom *oom);

/* O1 to O3, with the victims' lock held; stops the program. */
void oom_verify(struct oom *oom);

#endif
