/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What an LWP did of late: a ring of its last stretches on virtual CPUs, and how often and for how long it was off them for what.  What NetBSD has in
 * ktrace(1) and in the times of system calls; here it is about the calls that block, since the others are over sooner than a look at a clock takes.
 *
 * An LWP is traced while somebody wants it.  While any is, each switch of every LWP reads the clock, as with lwp_account(); while none is, nothing is
 * paid for.  LWPs that a traced one makes are not traced.
 *
 * Any LWP may call.  None of these blocks.  `lid` 0 is the caller; one that has ended is found until it is collected.
 */
#ifndef LWP_TRACE_H
#define LWP_TRACE_H

#include <lwp/lwp.h>

#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Why an LWP left its virtual CPU. */
enum {
	LWP_WHY_SLEPT = 0, /**< a call blocked, in it the wait that is named */
	LWP_WHY_YIELDED,   /**< it let others run, or moved to another virtual CPU */
	LWP_WHY_PREEMPTED, /**< another was better, or its slice was over */
	LWP_WHY_STOPPED,   /**< it was suspended, or stopped with the proc or the world */
	LWP_WHY_ENDED
};

/** Most records that are kept of an LWP. */
#define LWP_TRACE_MOST 4096

/** Begins to trace it, with the last `records` kept, rounded up to a power of two.  Errors: EINVAL 0 or too many | ESRCH | EBUSY it is traced | ENOMEM. */
LWP_API int lwp_trace_start(lwpid_t lid, size_t records);
/** Ends that; what was kept is gone.  Errors: ESRCH | ENOENT it is not traced. */
LWP_API int lwp_trace_stop(lwpid_t lid);

/** One stretch on a virtual CPU. */
struct lwp_trace_record {
	uint64_t tr_number;         /**< from 0; who reads again sees by it what was lost meanwhile */
	uint64_t tr_since;          /**< when it came, in nanoseconds of CLOCK_MONOTONIC, */
	uint64_t tr_until;          /**< and when it left */
	int tr_cpu;                 /**< the virtual CPU; -1: it is a kernel thread of the application */
	int tr_why;                 /**< LWP_WHY_SLEPT and so on */
	char tr_wmesg[LWP_MAXNAME]; /**< of one that slept: what for, as in li_wmesg of usage.h */
};

/**
 * Fills in up to `room` of the newest records, the oldest of them first, and returns how many.  The stretch that is under way is in none of them.
 * Errors: EINVAL null pointer | ESRCH | ENOENT it is not traced.
 */
LWP_API ssize_t lwp_trace_read(lwpid_t lid, struct lwp_trace_record *records, size_t room);

/** How often it was away for one reason, and for how long. */
struct lwp_trace_sum {
	int ts_why;                 /**< as tr_why */
	char ts_wmesg[LWP_MAXNAME]; /**< as tr_wmesg */
	uint64_t ts_count;          /**< how often */
	uint64_t ts_time;           /**< nanoseconds, of all */
	uint64_t ts_longest;        /**< and of the longest */
};

/** Kinds of absences that are told apart; what comes later counts as "others". */
#define LWP_TRACE_KINDS 32

/**
 * Fills in up to `room` of the sums since the trace began, in the order in which their kinds first came, and returns how many there are.  An absence that lasts is
 * counted when it is over.
 * Errors: as of lwp_trace_read().
 */
LWP_API ssize_t lwp_trace_sums(lwpid_t lid, struct lwp_trace_sum *sums, size_t room);

#ifdef __cplusplus
}
#endif

#endif /* LWP_TRACE_H */
