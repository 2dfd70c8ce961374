/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What LWPs are and what they have used.
 *
 * How often an LWP was switched out is counted always.  The time that it has a virtual CPU is counted while that is switched on, because it takes a look
 * at the clock at each switch: lwp_account(), runtime_options::accounting, or LWP_ACCOUNT=1 in the environment.  It is time on the vCPU, whatever the OS
 * does to the vCPU's kernel thread meanwhile, that of a blocking system call included; a kernel thread of the application has it between its calls too.
 *
 * Any LWP may call.  None of these blocks.
 */
#ifndef LWP_USAGE_H
#define LWP_USAGE_H

#include <lwp/pset.h>

#include <sys/resource.h>

#ifdef __cplusplus
extern "C" {
#endif

/** li_stat: NetBSD's numbers. */
#define LWP_LSIDL 1
#define LWP_LSRUN 2
#define LWP_LSSLEEP 3
#define LWP_LSSTOP 4
#define LWP_LSZOMB 5
#define LWP_LSONPROC 7
#define LWP_LSSUSPENDED 8

/** li_pctcpu, pi_pctcpu: a whole virtual CPU (NetBSD's FSCALE). */
#define LWP_FSCALE 2048

/** What is known of an LWP. */
struct lwpinfo {
	lwpid_t li_lid;             /**< its id */
	int li_stat;                /**< LWP_LSRUN and so on */
	int li_cpu;                 /**< the vCPU that it is on, is queued on, or was on last; -1: a kernel thread of the application */
	int li_policy;              /**< SCHED_OTHER, SCHED_FIFO, SCHED_RR */
	int li_priority;            /**< 0 to 63, as it was given */
	int li_cpriority;           /**< what counts now, with what is lent: 0 to 63 time-sharing, 128 to 191 real time */
	psetid_t li_psid;           /**< its processor set */
	int li_detached;            /**< 1 or 0 */
	uint64_t li_rtime;          /**< nanoseconds on vCPUs, as far as they were counted */
	uint64_t li_nvcsw;          /**< times it was switched out because it waited, stopped or yielded, */
	uint64_t li_nivcsw;         /**< and because another was better or its slice was over */
	unsigned li_pctcpu;         /**< its share of a vCPU of late, of LWP_FSCALE; 95 % of it is of the last minute */
	char li_name[LWP_MAXNAME];  /**< its name, "" if it has none */
	char li_wmesg[LWP_MAXNAME]; /**< what it sleeps for, "" if it does not */
};

/**
 * Stores what is known of `lid` (0: the caller), also of one that has ended and was not collected.  All of it is of one moment.
 * Returns 0, or -1: EINVAL null pointer | ESRCH no such LWP.
 */
LWP_API int lwp_info(lwpid_t lid, struct lwpinfo *info);

/** What a proc has used. */
struct procinfo {
	size_t pi_nlwps;     /**< LWPs of the proc that live */
	uint64_t pi_rtime;   /**< as li_rtime, of all, also those that are gone; never falls while it is counted */
	uint64_t pi_cputime; /**< CPU time of the process, by the OS, in nanoseconds; it needs no counting */
	uint64_t pi_nvcsw;   /**< as for an LWP, of all, also those that are gone; never fall */
	uint64_t pi_nivcsw;  /**< the same */
	unsigned pi_pctcpu;  /**< sum over those that live */
};

/** Stores what the proc (proc.h) has used; looks at every LWP of it.  Returns 0, or -1: EINVAL null pointer. */
LWP_API int lwp_proc_info(struct procinfo *info);

#define LWP_RUSAGE_SELF 0 /**< lwp_getrusage(): the process */
#define LWP_RUSAGE_LWP 1  /**< lwp_getrusage(): the calling LWP */

/**
 * As getrusage(2).  Of the process: what the OS says, with the switches of the caller's proc's LWPs in place of those of its kernel threads.  Of an
 * LWP: ru_utime is its li_rtime, and all but that and the switches is 0.
 * Returns 0, or -1: EINVAL null pointer, or an unknown `who`.
 */
LWP_API int lwp_getrusage(int who, struct rusage *usage);

/** Counts time from now on (1), or no longer (0).  Returns 1 if it was counted before, else 0. */
LWP_API int lwp_account(int on);

/**
 * As getloadavg(3): stores how many LWPs of the process have run or could have, on average over the last one, five and fifteen minutes, sampled each five
 * seconds; `nelem` of them, at most 3.  A kernel thread of the application is no part of it, nor an LWP that blocks its kernel thread.  Nothing need be
 * switched on, and an idle process is not woken.
 * Returns how many were stored, or -1: EINVAL null pointer, or `nelem` below 0.
 */
LWP_API int lwp_getloadavg(double loadavg[], int nelem);

#ifdef __cplusplus
}
#endif

#endif /* LWP_USAGE_H */
