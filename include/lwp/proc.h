/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Procs: LWPs that belong together.  Stopped and continued, told of births and deaths, ended.  The first one is the process, and most programs have no
 * other; the last section makes more.  "The proc" is the caller's.
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
 * Stops all LWPs of the proc, as SIGSTOP does (NetBSD's LSSTOP): sleepers where they are, others at their next call, the caller at the end of this one.  New
 * ones are born stopped.  Sleeps end meanwhile as ever, by a wake-up or their deadline, and the LWP learns of it when it is continued; nothing is lost
 * and nothing is made up.  Who continues the proc is a kernel thread that has not come here yet, an LWP that computes and has not, or SIGCONT
 * of the OS if lwp_sigaction() has given that a handler.  Returns when the caller goes on; one that has stopped the world (lwp::stop_the_world) runs on, and
 * stops when it lets that go on.  Never fails.
 */
LWP_API int lwp_proc_stop(void);
/** Undoes it, however often it was said.  Never blocks, never fails. */
LWP_API int lwp_proc_continue(void);
/** 1 if the proc is stopped, or some of it still on its way; else 0. */
LWP_API int lwp_proc_stopped(void);

/* ---- who there is -------------------------------------------------------------------------------------------- */

/** States, by NetBSD's names and numbers. */
enum { LSIDL = 1, LSRUN = 2, LSSLEEP = 3, LSSTOP = 4, LSZOMB = 5, LSONPROC = 7, LSSUSPENDED = 8 };

/** Size of l_wmesg. */
#define KI_WMESGLEN 16

/** One LWP as it was when it was looked at (NetBSD's struct kinfo_lwp). */
struct kinfo_lwp {
	lwpid_t l_lid; /**< its id */
	int l_stat;    /**< LSRUN and so on; LSZOMB: ended, and nobody has waited for it */
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
	char l_name[LWP_MAXNAME];  /**< its name, "" if it has none */
	pid_t l_pid;               /**< its proc (lwp_proc_self()) */
};

/**
 * Looks at every LWP of all procs, the caller and kernel threads that have called the library among them; fills in up to `room` of `lwps`, in no
 * order, and returns how many there are.  Looked at one by one, while none is made nor ends.  Costs a look at each; never blocks.
 * Errors: EINVAL NULL with a `room` other than 0.
 */
LWP_API ssize_t lwp_proc_list(struct kinfo_lwp *lwps, size_t room);

/**
 * The LWP that stands for the proc: the one that ran the last signal handler, if it lives; else one that is LSONPROC, or if there is none LSRUN, LSSLEEP,
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

/** Sets the proc's table, which must outlive the process; NULL: none.  Children begin with their parent's.  They may block.  Never fails. */
LWP_API int lwp_proc_setops(const struct lwp_proc_ops *ops);

/**
 * In the first proc: ends the process in order.  Every other LWP, of all procs, ends at its boundary as by _lwp_exit(), wherever it waits, is
 * suspended or stopped; then exit(status) runs in the caller.  Those that are in the middle of a wait whose record others can reach (channels,
 * select, waits with a stop token) and kernel threads of the application, the main thread among them, stand still for good instead.  LWPs that
 * never call the library are left alone after `grace_ms` milliseconds.  C++ frames are not unwound, and locks of LWPs that ended stay locked:
 * what exit() runs must not need them.  Of several callers the first one's status counts.  Never returns.
 *
 * In another proc: ends that.  Its LWPs end at their boundaries, the caller now, and with the last of them the proc; its parent learns the lowest 8 bits of
 * `status`.  Waits whose record others can reach are taken back first, so none stands still for good; `grace_ms` means nothing.  Not to be called by a
 * handler that interrupted such a wait, nor by a destructor at the end of an LWP: the process aborts.
 */
LWP_API void lwp_proc_exit(int status, unsigned grace_ms) __attribute__((noreturn));

/**
 * Suspends every other LWP of all procs for good, and every one that is made from now on: no _lwp_continue() helps.  Returns when they stand
 * still; the caller then does what is left to do, alone, and ends the process by exit(3) or _exit(2).  Errors: ETIMEDOUT some did not come
 * within `grace_ms`.
 */
LWP_API int lwp_proc_shutdown(unsigned grace_ms);

/**
 * Stops the world (proc.hpp) and writes on standard error what every LWP is: id, name, state, what it waits for and why, who holds that, and its
 * backtrace.  Then the process dies of `sig`, whatever is set for that.  Never returns.  An invalid number is taken as SIGABRT.
 */
LWP_API void lwp_proc_abort(int sig) __attribute__((noreturn));

/* ---- several procs ------------------------------------------------------------------------------------------- */

/*
 * A proc is what NetBSD's process is to its LWPs: their ids are waited for, killed, suspended, detached, parked for and counted among themselves, and
 * it ends as a whole.  Memory, descriptors and virtual CPUs are the process's, so mutexes, channels and all other objects work across procs.
 *
 * Its own are: whom _lwp_wait() and other calls that take an id reach (ESRCH for an LWP of another proc; _lwp_unpark() too), the deadlock
 * rule of _lwp_wait(), signals (what is pending for the proc, and lwp_sigaction(); signals of the OS are for the first proc), lwp_proc_stop() and
 * lwp_proc_continue(), the credential, what LWPs have used (usage.h), the big lock, lwp_proc_setops(), and the limit of its LWPs.  A child begins with its
 * parent's actions, table and credential, and its first LWP with its creator's mask, class, priority and places.  LWPs make LWPs of their own proc.
 *
 * Ids of LWPs are one row through all procs, unlike NetBSD's: an id, and so a lwp::thread::id, names one LWP of the process, in tables of the
 * application and in reports, and an id of another proc can be told from one's own.
 *
 * The end: a proc ends with its last LWP.  Its status is 0, or what lwp_proc_exit() or the signal that ended it said.  What LWPs of it leave
 * behind that nobody has waited for goes with it; what they own does not: C++ frames are not unwound, locks stay locked.  Its children live on as
 * orphans.  The end of the first proc ends the process.
 *
 * Numbers of procs are this process's own, and no pids of the OS: the first is 1.
 */

/** How a proc is made. */
struct lwp_proc_attr {
	const char *pa_name; /**< of the first LWP, or NULL */
	size_t pa_stacksize; /**< of the first LWP; 0: the runtime's default */
	size_t pa_maxlwps;   /**< LWPs that it may have at once; 0: no limit but the runtime's.  One more is refused with EAGAIN */
};

/**
 * Makes a proc, the caller's child, whose first LWP runs fn(arg).  When `fn` returns the proc ends with that status, as with main(); _lwp_exit() ends only
 * that LWP.  `attr` may be NULL.  Returns its number, or -1.  Never blocks; takes the locks of all virtual CPUs for a moment, as lwp_proc_wait() does.
 * Errors: EINVAL NULL `fn`, or the size of the stack | EAGAIN too many LWPs | ENOMEM | EPERM as thread attributes.
 */
LWP_API pid_t lwp_proc_create(int (*fn)(void *), void *arg, const struct lwp_proc_attr *attr);

/** The caller's proc, and its parent; 1 for the parent of an orphan, 0 for that of the first proc.  Never fail. */
LWP_API pid_t lwp_proc_self(void);
LWP_API pid_t lwp_proc_parent(void);

/**
 * Waits for a child of the caller's proc to end and collects it: waitpid(2).  `pid` is a number, or -1 for any; `options` 0, or WNOHANG: 0 is returned
 * if none has ended.  *status, unless NULL, is as waitpid's: WIFEXITED() and the others take it apart.  Blocks the LWP only; any LWP of the parent
 * may call it, and of several that wait for one child one gets it.  Goes on after a handler with SA_RESTART.  Returns the child's number, or -1.
 * Errors: ECHILD no such child, or it was detached or collected | EINVAL | EINTR | ENOMEM.
 */
LWP_API pid_t lwp_proc_wait(pid_t pid, int *status, int options);

/** Nobody will wait for this child: it is collected when it ends, whenever that is.  Never blocks.  Errors: ECHILD as above. */
LWP_API int lwp_proc_detach(pid_t pid);

/**
 * kill(2): sends `sig` to a proc, as lwp_proc_kill() does to the caller's; any proc may.  0 only asks whether it is there.  SIGKILL ends it, whatever it
 * does, each LWP at its boundary; SIGSTOP and SIGCONT stop and continue it; for others it may have handlers, and else they do what lwp_sigaction() says, but
 * end that proc where they would end the process, without a snapshot.  To the first proc it is a signal to the process.  Never blocks.
 * Errors: ESRCH none, or it has ended | EINVAL.
 */
LWP_API int lwp_proc_signal(pid_t pid, int sig);

#ifdef __cplusplus
}
#endif

#endif /* LWP_PROC_H */
