/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Credentials: whose work the LWPs of this process do, and what they may.  After NetBSD's kauth(9).
 *
 * A credential is an object that never changes once others have it, counted by those who hold it.  The proc has one; lwp_proc_setcred() publishes
 * another.  Every LWP works with a copy of the proc's pointer, which it takes anew where its next call of the library returns, and before anything is
 * refused to it.  So after lwp_proc_setcred() has returned, whoever knows of that is judged by the new one.
 *
 * A process begins with a credential of the user's id that has every privilege: nothing is refused to those that never publish another.
 * Any LWP may call, none of these blocks.
 */
#ifndef LWP_KAUTH_H
#define LWP_KAUTH_H

#include <lwp/lwp.h>

#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/** A credential: an id, privileges and a pointer of the application, counted, and fixed from its publication on. */
typedef struct kauth_cred *kauth_cred_t;

/** Real-time classes, and a better priority than an LWP was given: _sched_setparam(), _sched_protect(), attributes of new LWPs. */
#define LWP_PRIV_SCHED 0x00000001U
/** To say which virtual CPUs an LWP runs on: attributes of new LWPs, _sched_setaffinity(), processor sets. */
#define LWP_PRIV_AFFINITY 0x00000002U
/** To publish a credential with another id, or with privileges that the proc's has not. */
#define LWP_PRIV_SETCRED 0x00000004U
/** The application's own, n from 0 to 15: the library asks about none of them. */
#define LWP_PRIV_USER(n) (0x00010000U << (n))
/** All of them. */
#define LWP_PRIV_ALL 0xffffffffU

/* ---- the object -------------------------------------------------------------------------------------------- */

/** A new one: id 0, no privileges, no data, one reference, the caller's.  NULL: no memory, errno is ENOMEM. */
LWP_API kauth_cred_t kauth_cred_alloc(void);

/** A new one like `cred`, but without its data.  NULL: ENOMEM. */
LWP_API kauth_cred_t kauth_cred_dup(kauth_cred_t cred);

/** One reference more. */
LWP_API void kauth_cred_hold(kauth_cred_t cred);

/** One less; with the last the object goes, and what kauth_cred_setdata() gave it is destroyed, in the calling LWP.  NULL does nothing. */
LWP_API void kauth_cred_free(kauth_cred_t cred);

/** How many there were a moment ago.  The first credential of the process is not counted: 1. */
LWP_API unsigned kauth_cred_getrefcnt(kauth_cred_t cred);

/** What it has.  Never fail, never block. */
LWP_API uid_t kauth_cred_getuid(kauth_cred_t cred);
LWP_API uint32_t kauth_cred_getprivs(kauth_cred_t cred);
LWP_API void *kauth_cred_getdata(kauth_cred_t cred);

/** These three change one that nobody else has: the caller's is its only reference and it was never published.  Errors: EBUSY it is not so. */
LWP_API int kauth_cred_setuid(kauth_cred_t cred, uid_t uid);
LWP_API int kauth_cred_setprivs(kauth_cred_t cred, uint32_t privs);
/** A pointer of the application's, and what destroys it (or NULL).  What was there before is destroyed. */
LWP_API int kauth_cred_setdata(kauth_cred_t cred, void *data, void (*destroy)(void *));

/* ---- whose ----------------------------------------------------------------------------------------------------- */

/** The calling LWP's, without a reference: kauth_cred_hold() it to keep it beyond the caller's next call of the library. */
LWP_API kauth_cred_t kauth_cred_get(void);

/**
 * Publishes `cred`: from now on it is the proc's, and each LWP's from its next boundary on, the caller's at the end of this call.  The proc has
 * a reference of its own.  Costs a look at every LWP.
 * Errors: EINVAL NULL | EPERM the proc's credential lacks LWP_PRIV_SETCRED, and this one has another id or a privilege more.  Nothing has changed.
 */
LWP_API int lwp_proc_setcred(kauth_cred_t cred);

/** 0 if the calling LWP has all of `privs`; else -1 with EPERM. */
LWP_API int kauth_authorize(uint32_t privs);

#ifdef __cplusplus
}
#endif

#endif /* LWP_KAUTH_H */
