/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Processor sets: some virtual CPUs for some LWPs.  NetBSD's calls.
 *
 * Each vCPU belongs to one set, and so does each LWP; at first that is the default set, PS_NONE.  An LWP without an affinity (sched.h) runs on the vCPUs of
 * its set only, and is balanced among them; they run nobody else, but LWPs that have an affinity to them, and those cannot get one while they are in
 * a set.  What an LWP creates belongs to its creator's set.  Sets last until they are destroyed, or the runtime ends.
 *
 * LWPs move as after _sched_setaffinity(): one that is queued at once, one that runs at its next library call.  None of these calls blocks; all
 * return 0, or -1 with errno set.  All but queries need LWP_PRIV_AFFINITY (kauth.h), else EPERM.  They look at every LWP of the process.
 *
 * Source: NetBSD's pset(3).
 */
#ifndef LWP_PSET_H
#define LWP_PSET_H

#include <lwp/sched.h>

#include <sys/wait.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Names a processor set; greater than 0 for those that pset_create() makes. */
typedef int psetid_t;

#define PS_NONE 0     /**< the default set */
#define PS_MYID (-1)  /**< that of the caller */
#define PS_QUERY (-2) /**< none: only tell */

/** pset_bind(): what `id` is.  P_PID is the host's; this one is not among its idtype_t. */
#ifndef P_LWPID
#define P_LWPID 0x10000
#endif
/** pset_bind(): the caller, or its process. */
#ifndef P_MYID
#define P_MYID ((id_t)-1)
#endif

/** Makes a set, of no vCPUs, and stores its id, which is the lowest free one.  Errors: EINVAL null pointer | ENOMEM there are LWP_VCPU_MAX. */
LWP_API int pset_create(psetid_t *psid);

/** Its vCPUs and its LWPs become of the default set.  Errors: EINVAL no such set, or the default one. */
LWP_API int pset_destroy(psetid_t psid);

/**
 * Moves a vCPU to a set (PS_NONE: back to the default one; PS_QUERY: only tells) and stores the set that it was in in *former unless that is NULL.  LWPs that may
 * not run there any more move.
 * Errors: EINVAL no such set or vCPU | EBUSY it is the last one of the default set, or of a set that LWPs are bound to | EPERM an LWP has an affinity to
 * it.
 */
LWP_API int pset_assign(psetid_t psid, cpuid_t vcpu, psetid_t *former);

/**
 * Binds an LWP (P_LWPID), or every LWP of the process (P_PID; `id` 0, P_MYID or its id), to a set; PS_NONE: to the default one; PS_QUERY: only tells.
 * Stores in *former, unless that is NULL, the set that the LWP, or for P_PID the caller, was bound to.  One that has an affinity keeps that, and it goes before.
 * Kernel threads of the application stay where the OS runs them: named they are refused, among all they are left out.
 * Errors: EINVAL no such set, or an unknown `type` | ESRCH no such living LWP, or another process | EBUSY the set has no vCPU | EPERM a kernel thread of
 * the application.
 */
LWP_API int pset_bind(psetid_t psid, int type, id_t id, psetid_t *former);

#ifdef __cplusplus
}
#endif

#endif /* LWP_PSET_H */
