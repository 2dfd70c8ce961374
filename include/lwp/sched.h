/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Scheduling of living LWPs: NetBSD's calls.  pset.h has those about processor sets.
 *
 * `pid` is 0 or the id of this process; any other is ESRCH.  Any LWP may call, none of these blocks unless it says so, and all of them
 * return 0, or -1 with errno set.  EPERM "privilege": the caller's credential lacks LWP_PRIV_SCHED (kauth.h); every process begins with one that has it.
 *
 * Priorities run from 0 to 63 within a class, higher is better, and each real-time LWP is better than each time-sharing one.  An LWP
 * of the best priority that is queued on a virtual CPU runs there next; a better one that comes runs when the one that runs now makes its next
 * library call.
 *   SCHED_OTHER   time-sharing.  Whoever computes a whole slice (20 to 150 ms) without a switch loses one priority; each sleep gives one back,
 *                 up to what it was given.  Whoever runs for longer than it sleeps, second after second, loses one in each and gets none back.
 *                 What its creator has lost a new LWP begins without; what it loses besides is lost by who joins it
 *   SCHED_FIFO    runs until it sleeps, yields, or a better one comes
 *   SCHED_RR      the same, and after 100 ms it goes behind its equals at its next library call
 * An LWP that has a mutex, or a shared mutex as its writer, runs with the priority of the best that waits for it, if that is better.  This goes on
 * along a chain of waits, and ends with each wait.
 *
 * Source: NetBSD's _sched_setaffinity(2) and its neighbours.
 */
#ifndef LWP_SCHED_H
#define LWP_SCHED_H

#include <lwp/lwp.h>

#include <sched.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/** _sched_setparam(): the class stays as it is. */
#define LWP_SCHED_NONE (-1)
/** _sched_setparam(): the priority stays as it is, or is the default of a new class. */
#define LWP_PRI_NONE (-1)

/**
 * Gives `lid` (0: every LWP of the process) a class and a priority.  `policy` is SCHED_OTHER, SCHED_FIFO, SCHED_RR or LWP_SCHED_NONE;
 * param->sched_priority is 0 to 63 for the real-time classes, or LWP_PRI_NONE.  What the LWP had used up of a time-sharing priority is
 * forgotten.  One that is queued goes to the end of its new line, one that sleeps among others to its new place.
 * Errors: EINVAL an unknown class, a priority out of range, a priority for SCHED_OTHER, or a null pointer | ESRCH no such living LWP | EPERM privilege,
 * for a real-time class that the LWP does not have or a better priority than it was given; of all LWPs (`lid` 0) none is changed then.
 */
LWP_API int _sched_setparam(pid_t pid, lwpid_t lid, int policy, const struct sched_param *param);

/**
 * Stores the class and the priority that `lid` (0: the caller) was given, 0 to 63 in any class; either pointer may be NULL.  What it has used up,
 * what is lent to it and what _sched_protect() asked for are not part of it.
 * Errors: ESRCH no such living LWP.
 */
LWP_API int _sched_getparam(pid_t pid, lwpid_t lid, int *policy, struct sched_param *param);

/**
 * Priority protection, for mutexes with a ceiling.  `priority` 0 to 63: the caller runs at least with this real-time priority until it has taken back
 * each of its protections; the best of them counts until the last is gone.  -1 takes one back.  -2 asks: returns the priority.
 * Errors: EPERM out of range, too many, or privilege for a better one than the caller was given | EINVAL nothing to take back | ENOENT asked, and not protected.
 */
LWP_API int _sched_protect(int priority);

/* ---- affinity ---------------------------------------------------------------------------------------------- */

/** Most virtual CPUs that a runtime can have. */
#define LWP_VCPU_MAX 256

/** Names a virtual CPU: 0 to one less than their number. */
typedef unsigned long cpuid_t;

/** A set of virtual CPUs.  NetBSD's is opaque and comes from cpuset_create(); this one may also be a variable, cleared by cpuset_zero(). */
typedef struct lwp_cpuset {
	uint64_t cs_bits[LWP_VCPU_MAX / 64]; /**< the vCPU n is bit n % 64 of word n / 64 */
} cpuset_t;

/** An empty set, or NULL: no memory.  cpuset_destroy() frees it. */
LWP_API cpuset_t *cpuset_create(void);
LWP_API void cpuset_destroy(cpuset_t *set);
LWP_API void cpuset_zero(cpuset_t *set);
/** 0, or -1 if there can be no such vCPU; errno is left alone. */
LWP_API int cpuset_set(cpuid_t vcpu, cpuset_t *set);
LWP_API int cpuset_clr(cpuid_t vcpu, cpuset_t *set);
/** 1 it is in the set, 0 it is not, -1 there can be no such vCPU. */
LWP_API int cpuset_isset(cpuid_t vcpu, const cpuset_t *set);
/** Bytes of a set. */
LWP_API size_t cpuset_size(const cpuset_t *set);

/**
 * From now on `lid` (0: every LWP of the process) runs on the virtual CPUs of `set` only; an empty set takes that back.  What it creates inherits
 * it, unless it is given a vCPU of its own.  By what the LWP does:
 *   it is queued     it moves at once
 *   it runs          it moves at its next library call, the caller before this one returns; in a region of lwp_blocking_enter() after that
 *   else             it is made runnable on one of them
 * An LWP with an affinity is balanced among the vCPUs of its set like others among all.  An affinity goes before a processor set.
 * Kernel threads of the application stay where the OS runs them: named they are refused, among all they are left out.
 * Errors: EINVAL a null pointer, `size` is not cpuset_size(), or no such vCPU | EPERM a vCPU of a processor set, a kernel thread of the application, or
 * the caller's credential lacks LWP_PRIV_AFFINITY (kauth.h) | ESRCH no such living LWP.
 */
LWP_API int _sched_setaffinity(pid_t pid, lwpid_t lid, size_t size, const cpuset_t *set);

/**
 * Stores where `lid` (0: the caller) may run, as it was set or inherited; the empty set if it was not.
 * Errors: EINVAL a null pointer, or `size` is not cpuset_size() | ESRCH no such living LWP.
 */
LWP_API int _sched_getaffinity(pid_t pid, lwpid_t lid, size_t size, cpuset_t *set);

#ifdef __cplusplus
}
#endif

#endif /* LWP_SCHED_H */
