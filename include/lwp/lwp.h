/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The C face: NetBSD's LWP calls, carried out in user space.
 *
 * Every call acts on LWPs of the caller's own process and may be made by any LWP and by any kernel
 * thread of the process: a kernel thread that the library does not know yet is adopted as an LWP by its
 * first call.  Unless its comment says otherwise a call returns 0, or -1 with errno set.  "Blocks" always means
 * that the calling LWP stops and its virtual CPU runs others; a call that says nothing of it does not block.
 *
 * errno belongs to the calling LWP and follows it from kernel thread to kernel thread.  Its address does not: a function that reads errno,
 * blocks, and reads errno again may look at the kernel thread it left, because compilers compute the address once (glibc declares it
 * `const`).  Read it in another function, or before the next call that can block.
 *
 * Sources: NetBSD's _lwp_create(2) and its neighbours; what differs is said at the call.
 */
#ifndef LWP_LWP_H
#define LWP_LWP_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include <ucontext.h>

/** What the shared library exports. */
#if defined(__GNUC__)
#define LWP_API __attribute__((visibility("default")))
#else
#define LWP_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Names an LWP of this process: greater than 0 and unique among the living.  Those that one LWP makes have rising ids, above its own, until
 * after 2^31 they begin again at the lowest; of LWPs made by different ones nothing is said.  With one vCPU they are 1, 2, 3...
 */
typedef int32_t lwpid_t;

/** _lwp_create(): nobody will wait for it; all it had is reclaimed when it exits. */
#define LWP_DETACHED 0x00000040UL
/** _lwp_create(): it does not run before _lwp_continue(). */
#define LWP_SUSPENDED 0x00000080UL
/** _lwp_create(): it runs without the big lock, or with it held (big_lock.hpp).  Neither: as its creator. */
#define LWP_MPSAFE 0x00000100UL
#define LWP_BIGLOCK 0x00000200UL

/** Longest name with its terminating NUL; _lwp_setname() cuts what is longer. */
#define LWP_MAXNAME 16
/** Most targets that one _lwp_unpark_all() takes. */
#define LWP_UNPARK_MAX 1024

/* ---- create, end, wait ----------------------------------------------------------------------------- */

/**
 * Prepares `context` so that _lwp_create() starts an LWP that calls start(arg) on the given stack, with `private_` as
 * its _lwp_getprivate().  Returning from `start` is _lwp_exit().  Never blocks.
 * `stack_base` NULL asks for a stack from the library (guarded, `stack_size` bytes or the default if 0);
 * otherwise the caller's memory is used, has no guard page, and must outlive the LWP.
 */
LWP_API void _lwp_makecontext(ucontext_t *context, void (*start)(void *), void *arg, void *private_, void *stack_base, size_t stack_size);

/**
 * Starts an LWP from a context made by _lwp_makecontext().  Its id is stored in *new_lwp before it can run.
 * It inherits scheduling class, priority, affinity and processor set from the caller.  Never blocks.
 * Errors (no LWP exists afterwards): EINVAL the context was not made by _lwp_makecontext(), its stack is smaller than 16 KiB
 * or larger than 1 GiB, an unknown flag, LWP_MPSAFE with LWP_BIGLOCK, or a null pointer | EAGAIN too many LWPs | ENOMEM no memory for the LWP or its stack.
 */
LWP_API int _lwp_create(const ucontext_t *context, unsigned long flags, lwpid_t *new_lwp);

/**
 * Ends the calling LWP; never returns.  Destructors of its specific data run first, in it; its C++ frames are not
 * unwound (those of a kernel thread that was adopted are: it ends by pthread_exit(3)).  An LWP that is not detached keeps its id until somebody waits for it.
 * When the last LWP of the process ends, the process exits with status 0.
 */
LWP_API void _lwp_exit(void) __attribute__((noreturn));

/** The id of the calling LWP.  Cannot fail. */
LWP_API lwpid_t _lwp_self(void);

/**
 * Waits until `lid`, or any undetached LWP if 0, has ended, collects it, and stores its id in *departed unless that
 * is NULL.  Blocks.  Of two that wait for the same LWP one collects it.
 * Errors: ESRCH no undetached LWP matches, or another waiter was first | EDEADLK the caller itself, an LWP that waits for
 * the caller (directly or along a chain), or nobody is left who could end | EINTR _lwp_wakeup(), or a signal (signal.h).
 */
LWP_API int _lwp_wait(lwpid_t lid, lwpid_t *departed);

/**
 * From now on nobody waits for `lid`; one that has already ended is reclaimed at once.  Never blocks.  May be the caller.
 * Errors: ESRCH no such LWP | EINVAL it is detached already.
 */
LWP_API int _lwp_detach(lwpid_t lid);

/* ---- suspend, continue ------------------------------------------------------------------------------- */

/**
 * Stops `lid` at the edge of the library: at once if it sleeps interruptibly, at its next library call if it runs.
 * Blocks until it has stopped, was continued, or has ended.  Suspends do not nest.  Locks that it holds stay held.
 * Errors: ESRCH no such living LWP, or it ended first | EDEADLK the caller itself, and nobody else could run | EINTR _lwp_wakeup(),
 * or a signal.
 */
LWP_API int _lwp_suspend(lwpid_t lid);

/** Undoes any number of suspends, also one that has not taken effect yet.  Never blocks.  Errors: ESRCH. */
LWP_API int _lwp_continue(lwpid_t lid);

/* ---- sleep and wake ------------------------------------------------------------------------------------ */

/**
 * Blocks until _lwp_unpark(), unless an unpark came first.  `unpark`, if not 0, is unparked before.
 * `ts` NULL waits for ever; else `clock_id` is CLOCK_MONOTONIC or CLOCK_REALTIME, and `flags` is TIMER_ABSTIME or 0 for a
 * relative time, whose rest is written back.  `hint` and `unparkhint` are accepted and not needed.  It never ends before its
 * deadline, but may return 0 without an unpark: loop.
 * Errors: EALREADY an unpark had come before | ETIMEDOUT (a deadline that has passed keeps a waiting unpark) | EINTR
 * _lwp_wakeup(), or a signal, whatever SA_RESTART says | EINVAL malformed time, unknown clock or flags | ESRCH no LWP `unpark`: did not park.
 */
LWP_API int _lwp_park(clockid_t clock_id, int flags, struct timespec *ts, lwpid_t unpark, const void *hint, const void *unparkhint);

/** Ends the park of `lid`, or the next one it begins: one token, not a count.  Never blocks.  Errors: ESRCH. */
LWP_API int _lwp_unpark(lwpid_t lid, const void *hint);

/**
 * _lwp_unpark() for `ntargets` ids; unknown ones are skipped.  `targets` NULL returns LWP_UNPARK_MAX.  Never blocks.
 * Returns 0, LWP_UNPARK_MAX, or -1: EINVAL `ntargets` is 0 or above LWP_UNPARK_MAX.
 */
LWP_API int _lwp_unpark_all(const lwpid_t *targets, size_t ntargets, const void *hint);

/**
 * Ends whatever interruptible sleep `lid` is in; that call fails with EINTR.  Never blocks.
 * Errors: ESRCH | ENODEV it does not sleep | EBUSY its sleep is not interruptible.  On error nothing is left behind.
 */
LWP_API int _lwp_wakeup(lwpid_t lid);

/**
 * Sends `sig`, one of the host's, to `lid`, which takes it at the edge of the library: signal.h says how.  0 only asks whether it lives.  SIGSTOP stops
 * the whole proc, SIGCONT continues it, and a signal that ends processes ends this one.  One to the caller is taken before the call returns.
 * Never blocks.
 * Errors: EINVAL `sig` is no signal number (tested first) | ESRCH no such living LWP.
 */
LWP_API int _lwp_kill(lwpid_t lid, int sig);

/** Lets other LWPs of the same or a higher priority run; the caller goes to the tail of its queue.  Returns 0. */
LWP_API int lwp_yield(void);

/* ---- system calls that block the kernel thread ------------------------------------------------------------ */

/**
 * Between the two the caller may make system calls that block its kernel thread: other LWPs of its virtual CPU run meanwhile, on a substitute.
 * They nest.  The caller keeps its kernel thread between them, unless it makes a call of this library that blocks it.  A suspend takes effect
 * at the outermost leave.  Both do nothing on a kernel thread that was adopted.  errno is kept.  See <lwp/blocking.hpp>.
 * A leave without an enter aborts with a message.
 */
LWP_API void lwp_blocking_enter(void);
LWP_API void lwp_blocking_leave(void);

/* ---- stacks in memory --------------------------------------------------------------------------------------- */

/**
 * While `lid` (0: the caller) is held its stack stays in memory, however long it sleeps (runtime_options::stack_pager_ms); if it is not there it is brought
 * back.  Holds are counted, and end with the LWP.  For LWPs that must not be late when they are woken.  Never blocks the caller for another LWP.
 * Errors: ESRCH no such living LWP | lwp_hold(): EAGAIN 65535 times already | lwp_rele(): EINVAL it is not held.
 */
LWP_API int lwp_hold(lwpid_t lid);
LWP_API int lwp_rele(lwpid_t lid);

/* ---- the big lock ------------------------------------------------------------------------------------------- */

/**
 * At most one LWP has the big lock.  Those made with LWP_BIGLOCK have it whenever they run; whoever else asks for it here has it until it has let go of
 * it as often.  It is let go of wherever its LWP stops running of its own accord, and taken again before that call returns: in every call that blocks,
 * in lwp_yield(), between lwp_blocking_enter() and _leave(), while it is suspended or stopped, and when it ends.  The first blocks.  Of those that wait
 * the best, and of equals the first, has it next.
 * lwp_big_lock_try() returns 0 or EBUSY.  One exit more than enters, or either between lwp_blocking_enter() and _leave(), aborts with a message.
 */
LWP_API void lwp_big_lock_enter(void);
LWP_API int lwp_big_lock_try(void);
LWP_API void lwp_big_lock_exit(void);
/** How often the caller has it; 0: not.  An LWP made with LWP_BIGLOCK begins with 1. */
LWP_API unsigned lwp_big_locks(void);

/* ---- preemption ------------------------------------------------------------------------------------------- */

/**
 * Between the two the caller is not taken off its virtual CPU, nor stopped or suspended, in the middle of its own code; calls of this library that
 * block it, and boundaries, work as ever.  They nest.  The outermost leave is a boundary: what came meanwhile is honoured there.
 * See <lwp/preempt.hpp>.  A leave without an enter aborts with a message.
 */
LWP_API void lwp_nopreempt_enter(void);
LWP_API void lwp_nopreempt_leave(void);

/* ---- name, private pointer, control block ---------------------------------------------------------------- */

/** Names `lid` (0: the caller); more than LWP_MAXNAME - 1 bytes are cut.  Errors: ESRCH | EINVAL null name. */
LWP_API int _lwp_setname(lwpid_t lid, const char *name);

/** Stores the name of `lid` (0: the caller), "" if it has none.  Errors: ESRCH | ENAMETOOLONG `len` too small | EINVAL null buffer. */
LWP_API int _lwp_getname(lwpid_t lid, char *name, size_t len);

/** The calling LWP's private pointer, as set by _lwp_makecontext() or _lwp_setprivate(); NULL at first.  Cannot fail. */
LWP_API void *_lwp_getprivate(void);
LWP_API void _lwp_setprivate(void *private_);

#define LWPCTL_CPU_NONE (-1)      /**< lc_curcpu: not on a vCPU just now */
#define LWPCTL_CPU_EXITED (-2)    /**< lc_curcpu: it has ended */
#define LWPCTL_FEATURE_CURCPU 0x1 /**< _lwp_ctl(): lc_curcpu is wanted */
#define LWPCTL_FEATURE_PCTR 0x2   /**< _lwp_ctl(): lc_pctr is wanted; both are there whatever is asked for */

/** What the scheduler tells about an LWP while it runs; read only. */
typedef struct lwpctl {
	volatile int lc_curcpu; /**< index of the vCPU it is on, or LWPCTL_CPU_NONE, LWPCTL_CPU_EXITED */
	volatile int lc_pctr;   /**< grows each time it is switched in */
} lwpctl_t;

/**
 * Stores the address of the caller's control block, the same at each call; it is the caller's until the
 * LWP has been collected and may be looked at even later, when it may show another LWP.
 * Errors: ENODEV an unknown feature bit | ENOMEM | EINVAL null pointer.
 */
LWP_API int _lwp_ctl(int features, struct lwpctl **address);

/* ---- specific data ------------------------------------------------------------------------------------------ */

/** A key to one pointer in each LWP, NetBSD's kind: see specificdata(9). */
typedef unsigned specificdata_key_t;
typedef void (*specificdata_dtor_t)(void *);

/**
 * Makes a key, the lowest free one.  At the exit of an LWP the destructor (may be NULL) is called in it for a value that is
 * not NULL, keys in ascending order, once; the value reads NULL by then.  Returns 0, or an error number: ENOMEM.
 */
LWP_API int lwp_specific_key_create(specificdata_key_t *key, specificdata_dtor_t destructor);

/** Calls the key's destructor for the value of every LWP, then frees the key.  No LWP may use the key meanwhile. */
LWP_API void lwp_specific_key_delete(specificdata_key_t key);

/** The caller's value, NULL if never set. */
LWP_API void *lwp_getspecific(specificdata_key_t key);

/**
 * The value of `lid`, an LWP of the caller's proc; NULL if it has none, has begun to end, or is not there.  The caller sees to it that the LWP sets no value
 * meanwhile: it is suspended, say, or waits for the caller.
 */
LWP_API void *_lwp_getspecific_by_lwp(lwpid_t lid, specificdata_key_t key);

/** Replaces the caller's value; the old one is not destroyed.  A key that was never made aborts with a message; so does no memory. */
LWP_API void lwp_setspecific(specificdata_key_t key, void *value);

/** A key with the rules of C11's tss_t and pthread_key_t. */
typedef unsigned lwp_tss_t;
typedef void (*lwp_tss_dtor_t)(void *);

/** Most rounds of destructors at exit while destructors go on setting values (TSS_DTOR_ITERATIONS). */
#define LWP_TSS_DTOR_ITERATIONS 4

/** As pthread_key_create(): destructors run at exit while values remain, LWP_TSS_DTOR_ITERATIONS rounds at most.  Returns 0 or ENOMEM. */
LWP_API int lwp_tss_create(lwp_tss_t *key, lwp_tss_dtor_t destructor);
/** As pthread_key_delete(): calls no destructor.  Returns 0 or EINVAL. */
LWP_API int lwp_tss_delete(lwp_tss_t key);
/** The caller's value, NULL if never set or no such key. */
LWP_API void *lwp_tss_get(lwp_tss_t key);
/** Sets the caller's value.  Returns 0, EINVAL no such key, or ENOMEM. */
LWP_API int lwp_tss_set(lwp_tss_t key, void *value);

#ifdef __cplusplus
}
#endif

#endif /* LWP_LWP_H */
