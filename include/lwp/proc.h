/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The proc: all LWPs of this process together.  Stopped and continued, told of births and deaths, ended.
 *
 * Unless its comment says otherwise a call returns 0, or -1 with errno set.  Calls that say "stands still" mean: it has left its last call of the
 * library or sleeps in one, and runs no code.  An LWP that computes stands still from its next call on; a kernel thread of the application
 * likewise, and only if it has called the library before.
 */
#ifndef LWP_PROC_H
#define LWP_PROC_H

#include <lwp/lwp.h>

#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Stops all LWPs, as SIGSTOP does (NetBSD's LSSTOP): sleepers where they are, others at their next call, the caller at the end of this one.  New
 * ones are born stopped.  Sleeps end meanwhile as ever, by a wake-up or their deadline, and the LWP learns of it when it is continued; nothing is lost
 * and nothing is made up.  Who continues the proc is a kernel thread that has not come here yet, an LWP that computes and has not, or SIGCONT
 * of the OS if lwp_sigaction() has given that a handler.  Returns when the caller goes on.  Never fails.
 */
LWP_API int lwp_proc_stop(void);
/** Undoes it, however often it was said.  Never blocks, never fails. */
LWP_API int lwp_proc_continue(void);
/** 1 if the proc is stopped, or some of it still on its way; else 0. */
LWP_API int lwp_proc_stopped(void);

/* ---- who there is -------------------------------------------------------------------------------------------- */

/** States, by NetBSD's names and numbers. */
enum { LSIDL = 1, LSRUN = 2, LSSLEEP = 3, LSSTOP = 4, LSZOMB = 5, LSONPROC = 7, LSSUSPENDED = 8 };

#define KI_WMESGLEN 16

/** One LWP as it was when it was looked at (NetBSD's struct kinfo_lwp). */
struct kinfo_lwp {
	lwpid_t l_lid;
	int l_stat;  /**< LSRUN and so on; LSZOMB: ended, and nobody has waited for it */
	int l_cpuid; /**< LSRUN, LSONPROC: index of its virtual CPU; LWPCTL_CPU_NONE: it is on none, or is a kernel thread of the application */
	int l_class; /**< SCHED_OTHER, SCHED_FIFO, SCHED_RR */
	int l_priority;            /**< what it runs and waits with, 0 to 223 */
	int l_usrpri;              /**< what it was given, on the same scale */
	int l_detached;            /**< nobody can wait for it */
	int l_inmem;               /**< its stack is in memory */
	int l_holdcnt;             /**< and is held there so often, by lwp_hold() */
	uint32_t l_slptime;        /**< how long it has slept, in seconds; 0 if it does not */
	uint64_t l_wchan;          /**< what it sleeps on, as a number; 0 if it does not */
	char l_wmesg[KI_WMESGLEN]; /**< why, in one word */
	char l_name[LWP_MAXNAME];
};

/**
 * Looks at every LWP, the caller and kernel threads that have called the library among them; fills in up to `room` of `lwps`, in no order, and returns how
 * many there are.  Looked at one by one, while none is made nor ends.  Costs a look at each; never blocks.
 * Errors: EINVAL NULL with a `room` other than 0.
 */
LWP_API ssize_t lwp_proc_list(struct kinfo_lwp *lwps, size_t room);

/**
 * The LWP that stands for the process: the one that ran the last signal handler, if it lives; else one that is LSONPROC, or if there is none LSRUN, LSSLEEP,
 * LSSTOP, LSSUSPENDED (NetBSD's proc_representative_lwp).  *nrlwps, unless that is NULL: how many are LSONPROC or LSRUN.  Never fails: the
 * caller lives.
 */
LWP_API lwpid_t lwp_proc_representative(unsigned *nrlwps);

/**
 * Calls fn(arg) once in the LWP `lid` (0: the caller), where that leaves its next call of the library; a sleeper is woken for it and sleeps on
 * after.  `fn` may call whatever any code may.  If the LWP ends first `fn` is not called.  Never blocks.
 * Errors: EINVAL NULL | ESRCH | EBUSY one is waiting to be called already.
 */
LWP_API int lwp_need_userret(lwpid_t lid, void (*fn)(void *), void *arg);

/** What the proc calls; either may be NULL. */
struct lwp_proc_ops {
	void (*on_lwp_fork)(lwpid_t parent, lwpid_t child); /**< in `parent`; `child` may have run, and ended, already */
	void (*on_lwp_exit)(lwpid_t lid);                   /**< in `lid`, its specific data still there */
};

/** Sets the table, which must outlive the process; NULL: none.  They may block.  Never fails. */
LWP_API int lwp_proc_setops(const struct lwp_proc_ops *ops);

/**
 * Ends the process in order: every other LWP ends at its boundary as by _lwp_exit(), wherever it waits, is suspended or stopped; then exit(status)
 * runs in the caller.  Those that are in the middle of a wait whose record others can reach (channels, select, waits with a stop token) and
 * kernel threads of the application, the main thread among them, stand still for good instead.  LWPs that never call the library are left
 * alone after `grace_ms` milliseconds.  C++ frames are not unwound, and locks of LWPs that ended stay locked: what exit() runs must not need them.
 * Of several callers the first one's status counts.  Never returns.
 */
LWP_API void lwp_proc_exit(int status, unsigned grace_ms) __attribute__((noreturn));

/**
 * Suspends every other LWP for good, and every one that is made from now on: no _lwp_continue() helps.  Returns when they stand still; the caller then
 * does what is left to do, alone, and ends the process by exit(3) or _exit(2).  Errors: ETIMEDOUT some did not come within `grace_ms`.
 */
LWP_API int lwp_proc_shutdown(unsigned grace_ms);

/**
 * Stops the world (proc.hpp) and writes on standard error what every LWP is: id, name, state, what it waits for and why, who holds that, and its
 * backtrace.  Then the process dies of `sig`, whatever is set for that.  Never returns.  An invalid number is taken as SIGABRT.
 */
LWP_API void lwp_proc_abort(int sig) __attribute__((noreturn));

#ifdef __cplusplus
}
#endif

#endif /* LWP_PROC_H */
