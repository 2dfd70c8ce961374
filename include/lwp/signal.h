/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Signals for LWPs: POSIX's calls, with the host's numbers, sets and structs, for one LWP where POSIX says thread.
 *
 * A handler set here runs in the LWP that the signal is for, where that LWP leaves a call of the library, or enters the application for the
 * first time; not in the middle of other code.  So it may call whatever any code may, also what blocks: it is not a handler of the OS.  An LWP
 * that sleeps in a call of the library is woken for it.  What then becomes of that call:
 *
 *   _lwp_wait(), _lwp_suspend(), lwp_sigwait(), lwp_sigtimedwait()    go on with SA_RESTART, else fail with EINTR
 *   I/O of io.h and its C++ face                                      the same; what has been done meanwhile is reported as a success
 *   _lwp_park(), lwp_nanosleep(), lwp_sigsuspend()                    fail with EINTR
 *   everything shaped like std (mutexes, joins, channels, sleeps)     goes on
 *
 * An LWP that computes takes signals at its next call.  One that is suspended takes them when it is continued; in a stopped proc nobody takes any.
 *
 * Signals of the OS (kill(2), SIGINT from a terminal, SIGCHLD...) for which a handler is set here, or which an LWP waits for, come to the proc: one
 * LWP takes them.  Others do what they did before.  SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGABRT and SIGSYS of the OS never come here.
 * Standard signals do not queue, nor do any here.
 *
 * Sources: POSIX sigaction(2) and its neighbours; NetBSD's kern_sig.c.
 */
#ifndef LWP_SIGNAL_H
#define LWP_SIGNAL_H

#include <lwp/lwp.h>

#include <signal.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * What the proc does with `sig`; stores in *old, unless NULL, what it did.  `act` NULL only asks.  sa_mask, SA_RESTART, SA_NODEFER,
 * SA_RESETHAND and SA_SIGINFO are honoured (si_signo; si_code SI_TKILL if it was sent to the LWP, SI_USER if to the proc; no context).
 * SIG_DFL: SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU sent by these calls stop the proc and SIGCONT continues it (proc.h); SIGCHLD, SIGURG, SIGWINCH
 * do nothing; others end the process, those that dump core after a snapshot (lwp_proc_abort()).  The action of the OS for `sig` is replaced
 * while a handler or SIG_IGN is set, and put back by SIG_DFL.  Never blocks.
 * Errors: EINVAL no such signal, or SIGKILL or SIGSTOP with `act`.
 */
LWP_API int lwp_sigaction(int sig, const struct sigaction *act, struct sigaction *old);

/**
 * The calling LWP's mask, inherited by the LWPs it makes: SIG_BLOCK, SIG_UNBLOCK, SIG_SETMASK.  NULL for `set` only asks.  What was opened is
 * taken before it returns.  SIGKILL and SIGSTOP stay open.  Errors: EINVAL `how`.
 */
LWP_API int lwp_sigprocmask(int how, const sigset_t *set, sigset_t *old);

/** What is pending for the caller and for the proc.  Errors: EINVAL NULL. */
LWP_API int lwp_sigpending(sigset_t *set);

/**
 * Sends `sig` to the proc: one LWP that does not mask it takes it; 0 does nothing.  To one LWP: _lwp_kill().  Never blocks.
 * Errors: EINVAL.
 */
LWP_API int lwp_proc_kill(int sig);

/**
 * Blocks until a signal of `set` is pending for the caller or the proc, takes it and stores its number in *sig.  It should be masked: else a
 * handler may be first.  Returns 0 or an error number, errno is untouched: EINVAL NULL | EINTR.
 */
LWP_API int lwp_sigwait(const sigset_t *set, int *sig);

/**
 * The same with a relative time (NULL: for ever), and *info filled in unless NULL.  Returns the signal, or -1: EAGAIN the time is over |
 * EINVAL malformed time, or NULL set | EINTR.
 */
LWP_API int lwp_sigtimedwait(const sigset_t *set, siginfo_t *info, const struct timespec *timeout);

/** Blocks, with `mask` instead of the caller's, until a handler has run in it.  Always -1: EINTR, or EINVAL NULL. */
LWP_API int lwp_sigsuspend(const sigset_t *mask);

#ifdef __cplusplus
}
#endif

#endif /* LWP_SIGNAL_H */
