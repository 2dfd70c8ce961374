// SPDX-License-Identifier: BSD-2-Clause
//
// What an LWP is: the struct, and nothing that happens to it.
//
// Each field carries the key of what covers it:
//   l  the LWP's lock: whatever l_mutex points to now (core/lwp_lock.h); the LWP itself may read such a field while it runs
//   p  pp_lock of its part of the proc, l_part (proc/proc.h)
//   !  the LWP itself, while it runs; or whoever builds or recycles it
//   (  fixed from the moment others can find it
//   a  atomic, the rule stands beside it
//   T  a turnstile lock (sync/turnstile.cpp)
// An LWP struct is type-stable: memory that was one stays one for the life of the process, so that chasing a lock pointer or an id may
// look at a dead one.
#pragma once

#include <lwp/lwp.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "base/list.h"
#include "base/spinlock.h"
#include "core/cpu_account.h"
#include "core/cred.h"
#include "core/lidtable.h"
#include "core/specific.h"
#include "core/vcpu_mask.h"
#include "ctx/context.h"
#include "ctx/stack.h"

#include <cstddef>
#include <cstdint>
#include <pthread.h>

namespace lwp::kern {

struct biglock;
struct lwp_t;
struct proc_t;
struct procpart;
struct trace;
struct vcpu_t;
struct waitrec;

/// NetBSD's numbers; 6 was LSDEAD.
enum class lwp_stat : std::uint8_t { none = 0, idl = 1, run = 2, sleep = 3, stop = 4, zomb = 5, onproc = 7, suspended = 8 };

enum class sched_class : std::uint8_t { other = 0, fifo = 1, rr = 2 };

/// Priorities, higher is better (NetBSD 5's bands).
using pri_t = std::int16_t;
inline constexpr pri_t pri_user = 0, pri_kernel = 64, pri_kthread = 96, pri_user_rt = 128, pri_kernel_rt = 192, pri_count = 224;
inline constexpr pri_t pri_default = 31;  ///< a time-sharing LWP that nobody gave another
inline constexpr pri_t pri_none = -1;
inline constexpr pri_t pri_span = 64;  ///< priorities of a class: pri_user and pri_user_rt begin theirs

/// l_flag.  Written with the LWP locked; LW_USERRET is also tested without a lock at the boundary.
enum : std::uint32_t {
	LW_IDLE = 0x00000001,       // a vCPU's idle LWP
	LW_INMEM = 0x00000004,      // its stack is in memory: it may run (proc/pager.h)
	LW_SINTR = 0x00000080,      // its sleep may be interrupted
	LW_TIMED = 0x00000100,      // its sleep has a deadline
	LW_SYSTEM = 0x00000200,     // not the application's
	LW_BATCH = 0x00001000,      // in its last second it ran for longer than it slept (sched/priority.h)
	LW_PAGING = 0x00000800,     // somebody works on what of its stack is in memory
	LW_CRMOD = 0x00000400,      // its credential is no longer the proc's: no reason to end a sleep
	LW_WSTOP = 0x00010000,      // to stand still: its proc is stopped, or another stops the world
	LW_WSUSPEND = 0x00020000,   // to be suspended at the boundary
	LW_WMIGRATE = 0x00040000,   // to look, at the boundary, whether it may be on this vCPU, and else to leave (sched/place.h)
	LW_WCORE = 0x00080000,      // to stop for a snapshot
	LW_WEXIT = 0x00100000,      // to exit at the boundary
	LW_WLEAVE = 0x00200000,     // with it: the process goes on, so waits with records are taken back for that
	LW_PENDSIG = 0x01000000,    // a signal that it does not mask waits for it
	LW_CANCELLED = 0x02000000,  // its next interruptible sleep fails
	LW_WUSERRET = 0x04000000,   // its return hook is to be called
	LW_WREBOOT = 0x08000000,    // the runtime is ending
	LW_UNPARKED = 0x10000000,   // an unpark came before its park
	LW_GRANTED = 0x20000000,    // what it waits for was given before it slept (sync/rendezvous.h)
	LW_BOUND = 0x80000000,      // runs on one vCPU only
	LW_USERRET = LW_WSTOP | LW_WSUSPEND | LW_WEXIT | LW_WCORE | LW_WREBOOT | LW_PENDSIG | LW_WUSERRET,
	// What the boundary looks at.  For the last two a sleep needs not end: who wakes it queues it where it may be, and nothing waits for the credential.
	LW_BOUNDARY = LW_USERRET | LW_WMIGRATE | LW_CRMOD,
};

/// l_pflag, written by the LWP itself; before it runs, by its creator.
enum : std::uint8_t {
	LP_MPSAFE = 0x01,  // runs without the big lock
};

/// What an LWP with l_biglocks has of the big lock (sync/biglock.h).
enum class big_hold : std::uint8_t {
	none,  // nothing: it waits for it, or is asleep
	held,
	kept,  // held, and not let go of in sleeps
	away,  // let go of while it blocks its kernel thread: sleeps meanwhile do not bring it back
};

/// l_bound, where it is not the index of a vCPU.
inline constexpr std::int16_t bound_none = -1;     // it has no affinity: its processor set says where it may run
inline constexpr std::int16_t bound_several = -2;  // l_affinity does

/// l_prflag, under pp_lock.
enum : std::uint8_t {
	LPR_DETACHED = 0x01,  // nobody will wait for it
	LPR_DRAINING = 0x02,  // it is on its way out: no new references
	LPR_CLAIMED = 0x04,   // a zombie that a waiter has been given
	LPR_ENDING = 0x08,    // it ends: nobody need tell it to
	LPR_TOLD = 0x10,      // those that trace ends have been told of it
	LPR_COUNTED = 0x20,   // it is in pp_nzlwps
};

/// A kind of sleep, for whoever looks at sleepers: a value handed down, so that the scheduler need not know its users.
struct syncobj {
	const char *so_name;
	lwp_t *(*so_owner)(const void *wchan) = nullptr;  // l: who must act before it goes on; null: nobody in particular
	/// l: from now on `owner` gives the thing back with the list's lock held; false if it is the owner no more.  Null: sleepers do not lend.
	bool (*so_lend)(const void *wchan, const lwp_t *owner) = nullptr;
	/// l: what reports call it by, if that is not the wait channel itself; may return null.
	const void *(*so_thing)(const void *wchan) = nullptr;
};

/// How an LWP has a lock of the application's, for the checker of their order (sync/lockorder.h).
enum class lock_hold : std::uint8_t { mutex, write, read };

struct held_lock {
	const void *hl_lock;     // null: no such lock
	std::uint32_t hl_place;  // where it was taken
	lock_hold hl_how;
};

/// What an LWP that runs for a millisecond and more at a time has done of late (sched/priority.cpp).
struct run_account {
	lwpid_t ra_lid = 0;      // whose this is: another's is left as it was when the struct is used again
	nanotime ra_second = 0;  // when its second began
	nanotime ra_since = 0;   // its last such stretch,
	nanotime ra_until = 0;   // and when that was looked at
	nanotime ra_ran = 0;     // CPU time in this second
	nanotime ra_slept = 0;   // what was between stretches in it, if it slept there
};

// What a switch touches comes first: two cache lines, which lwp_layout below holds the compiler to.
struct alignas(64) lwp_t : lid_node {  // lid_node: l_lid and the id table's link, p
	context l_ctx;                     // l: where it goes on; valid while off its vCPU, stored by the one that runs next
	atomic<spinlock *> l_mutex;        // l: the lock that covers it; read without it by who wants to take it
	vcpu_t *l_cpu;                     // l: the vCPU it runs on, is queued on, or ran on last; anew after each switch
	atomic<lwp_stat> l_stat;   // l: written by lwp_setstat() alone; into and out of IDL, SUSPENDED, ZOMB p too, so p can test for these
	sched_class l_class;       // l
	atomic<pri_t> l_priority;  // a: what it runs and waits with: its own, or a better one that was lent; written locked
	std::int16_t
	    l_bound;  // l: index of the only vCPU it may run on, or bound_none, bound_several (kernel threads from outside: always the first)
	bool l_stacked;                // l: on the stack of its run queue, not in its line; in an inbox: will be
	std::uint8_t l_decay;          // l: how much of l_basepri it has used up (time-sharing only, sched/priority.h)
	list_link<lwp_t> l_link;       // l: run queue, inbox, sleep queue; p: zombie list; !: dead cache; l_stat says which
	std::uint64_t l_ncsw;          // l: how often it was switched out
	atomic<lwpctl_t *> l_ctl;      // a: set by the LWP; its block is written by its vCPU at each switch
	atomic<std::uint32_t> l_flag;  // l, see above; what is in LW_USERRET p too: the boundary tests it under pp_lock
	std::uint32_t l_depth;         // !: calls of this library that it is in; read by a signal handler in it (proc/preempt.h)
	const void *l_wchan;           // l: what it sleeps on, null if it does not
	const syncobj *l_syncobj;      // l: what kind of thing that is
	struct waiters *l_sleepq;      // l: the list it sleeps on, null if on none

	nanotime l_slept;                           // l: about when its sleep began (as of its vCPU's last look at the clock)
	const char *l_wmesg;                        // l: why, in one word
	atomic<pri_t> l_ownpri;                     // a: what it would have without loans; written locked
	pri_t l_basepri;                            // l: what it was given
	pri_t l_protpri;                            // l: at least this until the last _sched_protect() is taken back, or pri_none
	std::uint16_t l_protdepth;                  // !: how many those are
	lwp_t *l_lendsto;                           // l: who has its priority while it sleeps, or null (sync/turnstile.h)
	list_link<lwp_t> l_lendlink;                // T: turnstile lock of l_lendsto
	list<lwp_t, &lwp_t::l_lendlink> l_lenders;  // T: of its own: who lends to it, one for each thing that others wait for
	int l_error;                                // l: how its sleep ended; the LWP reads it after
	atomic<std::uint32_t> l_blocks{0};          // a: a wait_phase, and how many waits on an owner it has begun (sync/waitgraph.h)
	std::int16_t l_psid;                        // l: its processor set; 0: the default one
	std::uint16_t l_holdcnt;                    // l: its stack stays in memory (uvm_lwp_hold())
	std::uint16_t l_biglocks;                   // !: how often it has the big lock, also while it sleeps
	big_hold l_bighas;                          // !; whoever hands the lock over, to one that sleeps for it: l
	std::uint8_t l_pflag;                       // !
	std::uint8_t l_prflag;                      // p
	atomic<bool> l_oncpu;                       // a: its stack may be in use: from building until whoever runs after its end has left it
	bool l_fresh;                               // !: l_ctx must be made anew before it runs
	bool l_adopted;                             // (: a kernel thread's own stack; never recycled with it
	bool l_farwait;                             // p: with an l_wait: not pp_lock but that of another part, or all of them, cover the wait
	std::uint8_t l_nested;                      // !: handlers and hooks that run in it in the middle of a wait with l_pins
	bool l_interrupted;                         // !: a handler without SA_RESTART has run in it since its call began
	std::uint8_t l_borndecay;                   // (: what l_decay was when it was made: of who made it
	std::uint16_t l_pins;      // !: records on its stack that others can reach (waits under way): it cannot end before they are off
	std::uint32_t l_blocking;  // !: regions of lwp_blocking_enter() that it is in
	std::uint32_t l_room;      // !: bytes free for the creator's use above the frames of l_ctx

	std::uint32_t l_refcnt;    // p: its own, and those that look at it; its end waits for 1
	proc_t *l_proc;            // (
	procpart *l_part;          // (: the part of the proc that it belongs to, from its start to its end
	atomic<waitrec *> l_wait;  // a: what it waits for in lwp_wait1(), null if it does not; see l_farwait
	waitrec *l_waiters;        // p: who waits for it, first come first served
	std::uint64_t l_made;      // !: number of the last LWP it made, or its own
	void (*l_func)(void *);    // !
	void *l_arg;               // !
	void *l_private;           // !
	biglock *l_biglock;        // !: with l_biglocks: which
	kauth_cred *l_cred;        // !: what it works with (proc/cred.h)
	specref l_specific;        // !: see core/specific.h for key_delete
	stack l_stack;             // !
	char l_name[LWP_MAXNAME];  // p
	pthread_t l_kthread;       // (: of an adopted one
	std::uint64_t l_nivcsw;    // l: of the times it was switched out, those when it could have run on
	run_account l_run;         // l: what it has done of late, if it is time-sharing
	cpu_account l_account;     // l: what it has used, if that is counted (sched/account.h)
	trace *l_trace;            // l: what it did of late, if somebody wants to know (sched/trace.h)
	vcpu_mask l_affinity;      // l: with bound_several: where it may run
	list_link<lwp_t> l_own;    // p: LWPs of its proc in its part, if that is not proc0
	const void *l_boundsp;     // l: where the stack of one on a bound vCPU, or of a frozen one, ends while it does not run

	std::uint32_t l_nopreempt;  // !: regions of lwp_nopreempt_enter() that it is in; read by a signal handler in it
	vcpu_t *l_frozen;           // l: its kernel thread's, in whose signal handler it waits; l_ctx leads there (sched/frozen.h)

	std::uint64_t l_sigmask;  // p, written by itself: signals that it does not take now, as bits
	std::uint64_t l_sigpend;  // p: sent to it and not taken yet; they die with it
	std::uint64_t l_sigwait;  // p: those that it waits for
	int l_sigwaited;          // p: the one that it was given
	std::uint32_t l_handled;  // !: handlers that have run in it
	void (*l_hook)(void *);   // p: called once at its next boundary; see LW_WUSERRET
	void *l_hookarg;          // p
#if LWP_DEBUG
	const void *l_held[8];  // !: mutexes it owns, some of them
	unsigned l_nheld;       // !: how many
	held_lock l_order[8];   // !: locks it has, alone or shared: the first ones
	unsigned l_ordermore;   // !: how many others
#endif
};

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Winvalid-offsetof"  // not of standard layout, but without virtual bases
/// A switch touches two cache lines of an LWP.  (The sanitizers and the portable switch have larger contexts.)
struct lwp_layout {
	static constexpr bool usual = sizeof(context) == 24 && !LWP_EXPLORE;
	static_assert(!usual || (offsetof(lwp_t, l_decay) == 63 && offsetof(lwp_t, l_link) == 64));
	static_assert(!usual || offsetof(lwp_t, l_slept) == 128);
};
#pragma GCC diagnostic pop

/// Shows as l_lid what the id table calls ln_lid.
inline lwpid_t lwp_lid(const lwp_t *l) noexcept { return l->ln_lid.load(std::memory_order_relaxed); }

/// With the LWP locked: nobody else writes, so no read-modify-write is needed.
inline void lwp_flag_set(lwp_t *l, std::uint32_t bits) noexcept {
	l->l_flag.store(l->l_flag.load(std::memory_order_relaxed) | bits, std::memory_order_relaxed);
}
inline void lwp_flag_clear(lwp_t *l, std::uint32_t bits) noexcept {
	l->l_flag.store(l->l_flag.load(std::memory_order_relaxed) & ~bits, std::memory_order_relaxed);
}
inline std::uint32_t lwp_flags(const lwp_t *l) noexcept { return l->l_flag.load(std::memory_order_relaxed); }

/// By itself, in the middle of a wait whose record others can reach: it is to take that back, and ends when it is off.
inline bool lwp_leaving(const lwp_t *l) noexcept { return (lwp_flags(l) & LW_WLEAVE) != 0 && l->l_nested == 0; }

}  // namespace lwp::kern
