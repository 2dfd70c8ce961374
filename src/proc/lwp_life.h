// SPDX-License-Identifier: BSD-2-Clause
//
// The life of an LWP: made, started, ended, waited for, recycled; suspended and continued; parked.
// Errors are returned as errno values.  Unless said otherwise no lock is held on entry or return, and `me`/`l` is the calling LWP.
#pragma once

#include "proc/proc.h"

struct lwp_trace_record;
struct lwp_trace_sum;

namespace lwp::kern {

// ---- create.cpp

struct lwp_options {
	const char *name = nullptr;
	std::size_t stack_size = 0;  // 0: the runtime's default
	void *stack_base = nullptr;  // the caller's own stack
	int vcpu = -1;               // bound to this one, or -1: as the creator
	int priority = -1;           // within its class, or -1: as the creator
	int policy = -1;             // a sched_class, or -1: as the creator
	int mpsafe = -1;             // runs without the big lock: 1, 0, or -1: as the creator
	bool detached = false;
	bool suspended = false;
	std::size_t room = 0;  // bytes on its stack for the creator's use, 64-aligned
	void *private_ = nullptr;
};

/// Builds an LWP from the template `l1`: LSIDL, in no table.  Its memory is the dead detached LWP's that waits in the slot of this vCPU's
/// part, or that of one that ended on this vCPU, or new.  0 | EINVAL | ENOMEM | EPERM
[[nodiscard]] int newlwp(lwp_t *l1, const lwp_options &, lwp_t **out) noexcept;
/// Where its creator's bytes are.
void *lwp_room(const lwp_t *) noexcept;
/// Gives up one that was not started.
void lwp_abandon(lwp_t *) noexcept;
/// Numbers it, stores the id in *lid, and lets it run func(arg) (or stand suspended).  0 | EAGAIN too many | ENOMEM | EPERM its vCPU is of a processor
/// set: then it is as before.
[[nodiscard]] int lwp_start(lwp_t *l1, lwp_t *l2, void (*func)(void *), void *arg, bool suspended, lwpid_t *lid) noexcept;
[[nodiscard]] inline int lwp_start(lwp_t *l1, lwp_t *l2, void (*func)(void *), void *arg, const lwp_options &o, lwpid_t *lid) noexcept {
	return lwp_start(l1, l2, func, arg, o.suspended, lid);
}

// ---- exit.cpp

/// Ends the calling LWP wherever it stands; the last one ends the process.
[[noreturn]] void lwp_exit(lwp_t *l) noexcept;
/// The same up to the last switch: LSZOMB, vc_lwplock held.
void lwp_end(lwp_t *l) noexcept;
/// Takes a dead LWP out of the table and the counters.  Lock of its part held.
void lwp_forget(lwp_t *dead) noexcept;
/// Waits until it is off its stack; then what is left is the caller's.
void lwp_lay_out(lwp_t *dead) noexcept;
/// The same, and keeps or releases what is left.
void lwp_bury(lwp_t *dead, vcpu_t *me) noexcept;
/// The same for all of a list.
using ended_lwps = list<lwp_t, &lwp_t::l_link>;
void lwp_bury_all(ended_lwps &, vcpu_t *me) noexcept;
/// Both, between which the lock of its part is released.
void lwp_free_and_unlock(proc_t *, lwp_t *dead, vcpu_t *me) noexcept;
/// Keeps a dead one, off its stack and in no table, for the next newlwp() on this vCPU.
void lwp_keep_dead(lwp_t *dead, vcpu_t *me) noexcept;
void lwp_drop_dead(vcpu_t *) noexcept;  ///< gives all that were kept back

// ---- wait.cpp

/// Collects a dead LWP.  0 | ESRCH | EDEADLK | EINTR | ERESTART pass the boundary and call again
[[nodiscard]] int lwp_wait1(lwp_t *l, lwpid_t lid, lwpid_t *departed) noexcept;
[[nodiscard]] int lwp_detach(lwp_t *l, lwpid_t lid) noexcept;
extern const syncobj wait_syncobj;  // asleep in lwp_wait1()
/// Ends a wait.  What covers it is held.
void wait_end(proc_t *, waitrec *, int error, lwp_t *departed, vcpu_t *me) noexcept;
/// The same without waking it: the caller is about to.
void wait_take_back(proc_t *, waitrec *, int error) noexcept;
/// After an LWP stopped running or a candidate went away: ends waits that nobody can satisfy any more.  All locks held.
void wait_recheck(proc_t *, vcpu_t *me) noexcept;
/// The same after a candidate went away, if it may matter.  No lock held.
void wait_candidate_gone_slow(proc_t *, vcpu_t *me) noexcept;
LWP_ALWAYS_INLINE void wait_candidate_gone(proc_t *p, vcpu_t *me) noexcept {
	// relaxed: who entered before the candidate went is seen, since we held one of its locks then; who enters later looks itself
	if (LWP_UNLIKELY(p->p_nanywaits.load(std::memory_order_relaxed) != 0)) {
		wait_candidate_gone_slow(p, me);
	}
}
/// The deadlock rule of rev 1.73 as written there, kept to compare (quirk Q9).
constexpr bool wait_deadlock_1_73(long nrlwps, long nzlwps, long ndlwps, long nlwpwait) noexcept {
	return nrlwps + nzlwps - ndlwps <= nlwpwait;
}

/// Its LWP is stopped in its sleep, or no longer.  All locks held.
void wait_stand_still(waitrec *, bool stopped) noexcept;

// ---- suspend.cpp

/// Until the target has stopped.  0 | ESRCH | EDEADLK | EINTR | ERESTART
[[nodiscard]] int lwp_suspend(lwp_t *l, lwpid_t lid) noexcept;
[[nodiscard]] int lwp_continue(lwp_t *l, lwpid_t lid) noexcept;
[[nodiscard]] int lwp_wakeup(lwp_t *l, lwpid_t lid) noexcept;
/// Sets `bits` of LW_USERRET in a locked LWP; one whose sleep may be interrupted goes at once, with `error`, and its wait is taken back.  One that
/// stands still only has the bits.  Lock of its part held.  Releases the LWP.  False, and nothing done but that, if all locks are needed.
[[nodiscard]] bool lwp_post(proc_t *, lwp_t *t, spinlock *lock, const part_hold &, std::uint32_t bits, int error, vcpu_t *me) noexcept;

// ---- boundary.cpp

/// Leaves LSONPROC for `to`, LSSUSPENDED or LSSTOP; the lock of its part is held and released.  Returns when it goes on.  False, and nothing done but
/// all locks taken, if they are needed.
[[nodiscard]] bool lwp_halt_and_unlock(proc_t *, lwp_t *l, part_hold &, lwp_stat to) noexcept;
/// fn(arg) is called once in the LWP with this id, at its next boundary.  0 | ESRCH | EBUSY one is waiting to be called already
[[nodiscard]] int lwp_need_userret(lwp_t *l, lwpid_t lid, void (*fn)(void *), void *arg) noexcept;
void lwp_userret_slow(lwp_t *l) noexcept;
/// sched.sd_leave: the last record of a wait is off, and the LWP was told to take it back and end.
void lwp_leave(lwp_t *l) noexcept;
/// Around a handler or hook: one that runs in the middle of a wait with records that others can reach is not made to end before that.
class nested_call {
public:
	explicit nested_call(lwp_t *l) noexcept : l_(l->l_pins != 0 ? l : nullptr) {
		if (LWP_UNLIKELY(l_ != nullptr)) {
			l_->l_nested++;
		}
	}
	~nested_call() {
		if (LWP_UNLIKELY(l_ != nullptr)) {
			end();
		}
	}
	nested_call(const nested_call &) = delete;
	nested_call &operator=(const nested_call &) = delete;

private:
	void end() noexcept;
	lwp_t *l_;
};
/// Stands still, in state `to`, as long as one of `bits` is set.
void lwp_stand_still(lwp_t *l, std::uint32_t bits, lwp_stat to) noexcept;
/// Whether it is to stand still: bits of l_flag.  To end comes first.
std::uint32_t lwp_to_stand_still(const lwp_t *l) noexcept;
/// By an LWP that was interrupted in the application, in the signal handler, which it does not leave: it lets others run, if they are as good and it is
/// their `turn`, or, if it `may_stand`, stands still, if it is to; sched/frozen.h.  `sp`: what it keeps on its stack ends there.  False: it should have, and
/// cannot.
[[nodiscard]] bool lwp_give_way(vcpu_t *vc, lwp_t *l, const void *sp, bool may_stand, bool turn) noexcept;

/// Whether there is something to do at the boundary.
LWP_ALWAYS_INLINE bool lwp_userret_due(const lwp_t *l) noexcept {
	// relaxed: set under our lock; what matters is that it is seen at some boundary
	return (lwp_flags(l) & LW_BOUNDARY) != 0 || l->l_cpu->vc_resched.load(std::memory_order_relaxed);
}

/// The boundary: where the library returns to the application.  No lock held.
LWP_ALWAYS_INLINE void lwp_userret(lwp_t *l) noexcept {
	if (LWP_UNLIKELY(lwp_userret_due(l))) {
		lwp_userret_slow(l);
	}
}

// ---- where an LWP is: in the application, or in this library (preempt.h)

/// The caller enters the application.
LWP_ALWAYS_INLINE void outside_library_begin(lwp_t *l) noexcept {
	fence_compiler(std::memory_order_seq_cst);  // a signal handler that finds 0 finds nothing of ours half done
	l->l_depth = 0;
}

/// For a scope in which the library calls the application: no lock is held, nothing of ours is half done.
class outside_library {
public:
	explicit outside_library(lwp_t *l) noexcept : l_(l), depth_(l->l_depth) { outside_library_begin(l_); }
	~outside_library() {
		l_->l_depth = depth_;
		fence_compiler(std::memory_order_seq_cst);
	}
	outside_library(const outside_library &) = delete;
	outside_library &operator=(const outside_library &) = delete;

private:
	lwp_t *l_;
	std::uint32_t depth_;
};

// ---- priority.cpp

/// `policy` a sched_class or -1, `priority` 0 to 63 or -1, `lid` 0: all.  0 | EINVAL | ESRCH | EPERM
[[nodiscard]] int lwp_setparam(lwp_t *l, lwpid_t lid, int policy, int priority) noexcept;
/// 0 | ESRCH
[[nodiscard]] int lwp_getparam(lwp_t *l, lwpid_t lid, int *policy, int *priority) noexcept;
/// One more protection of the caller, or with -1 one less.  0 | EPERM | EINVAL
[[nodiscard]] int lwp_protect(lwp_t *l, int priority) noexcept;

// ---- affinity.cpp

/// Where `lid` (0: all but kernel threads from outside) may run: on these vCPUs; with none of them, wherever its processor set says.
/// 0 | EINVAL no such vCPU | EPERM one of a processor set, or a kernel thread from outside | ESRCH
[[nodiscard]] int lwp_setaffinity(lwp_t *l, lwpid_t lid, const vcpu_mask &) noexcept;
/// None of them: it has no affinity.  0: the caller.  0 | ESRCH
[[nodiscard]] int lwp_getaffinity(lwp_t *l, lwpid_t lid, vcpu_mask *) noexcept;

// ---- pset.cpp, which says what each returns

inline constexpr int pset_none = 0, pset_mine = -1, pset_query = -2;

[[nodiscard]] int lwp_pset_create(lwp_t *l, int *psid) noexcept;
[[nodiscard]] int lwp_pset_destroy(lwp_t *l, int psid) noexcept;
[[nodiscard]] int lwp_pset_assign(lwp_t *l, int psid, unsigned index, int *former) noexcept;
/// `lid` 0: all but kernel threads from outside.
[[nodiscard]] int lwp_pset_bind(lwp_t *l, int psid, lwpid_t lid, int *former) noexcept;
/// All vCPUs are of the default set again.  There is no runtime.
void pset_forget() noexcept;

// ---- usage.cpp

/// What is told of an LWP.
struct lwp_facts {
	lwpid_t lid;
	lwp_stat stat;
	int vcpu;  // that it is on or was on last; -1: a kernel thread of its own
	sched_class policy;
	int given, now;  // priorities
	std::int16_t psid;
	bool detached, adopted;
	std::uint64_t rtime, nvcsw, nivcsw;
	std::uint32_t share;  // of cpu_account::one
	char name[LWP_MAXNAME];
	char wmesg[LWP_MAXNAME];
};
/// Also of one that has ended and was not collected.  `lid` 0: the caller.  0 | ESRCH
[[nodiscard]] int lwp_tell(lwp_t *l, lwpid_t lid, lwp_facts *) noexcept;

/// Events of an LWP's life, in that LWP, with no lock held: before any code of the application's runs in it, and as it ends, its id and all that it has still
/// there.  They may sleep.
struct lwp_event_calls {
	void (*begins)(lwp_t *) noexcept;
	void (*ends)(lwp_t *) noexcept;
};
extern atomic<const lwp_event_calls *> lwp_events;  // null: nobody wants to know

/// Traces; for the errors see <lwp/trace.h>.
[[nodiscard]] int lwp_trace_begin(lwp_t *l, lwpid_t lid, std::size_t room) noexcept;
[[nodiscard]] int lwp_trace_end(lwp_t *l, lwpid_t lid) noexcept;
[[nodiscard]] int lwp_trace_tell(lwp_t *l, lwpid_t lid, lwp_trace_record *, std::size_t room, std::size_t *count) noexcept;
[[nodiscard]] int lwp_trace_tell_sums(lwp_t *l, lwpid_t lid, lwp_trace_sum *, std::size_t room, std::size_t *count) noexcept;

struct proc_facts {
	std::size_t nlwps;
	std::uint64_t rtime, nvcsw, nivcsw;
	std::uint64_t share;  // of cpu_account::one, of all that live
};
/// What all LWPs have used, also those that are gone.
void proc_tell(lwp_t *l, proc_facts *) noexcept;
/// Counts the time from now on, or no longer.  Returns whether it did.
bool lwp_account(bool on) noexcept;

// ---- procs.cpp, which says how a proc ends

/// A proc without LWPs, a child of the caller's; newlwp() makes it an LWP, lwp_into() puts that there, and lwp_start() starts it.
/// 0 | EAGAIN there is no runtime | ENOMEM
[[nodiscard]] int proc_make(lwp_t *l, std::size_t max_lwps, proc_t **out) noexcept;
/// Memory for the next one that is made.
void proc_keep(proc_t *) noexcept;
/// Gives up one that has no LWP.
void proc_unmake(proc_t *, vcpu_t *me) noexcept;
/// Before it is started.
inline void lwp_into(proc_t *p, lwp_t *l) noexcept {
	l->l_proc = p;
	l->l_biglock = &p->p_biglock;
}
/// One more LWP, of another proc than proc0; the lock of its part held.  False: it has as many as it may, or has ended.
[[nodiscard]] bool proc_admit(proc_t *) noexcept;
/// It was not started after all.
void proc_refuse(proc_t *) noexcept;
/// Gives a reference back.  Locks of parts may be held.
void proc_rele(proc_t *) noexcept;
/// By the last LWP of a proc: gives the proc's credential back.  No lock held.
void proc_last_begin(proc_t *, vcpu_t *me) noexcept;
/// By the same, all locks held: its proc ends.  What goes with it is put on the list, to be buried when they are released.  True: the LWP stays with the
/// proc until somebody has waited for that; false: it is detached now, and of no proc that could be found.
[[nodiscard]] bool proc_last_exit(proc_t *, lwp_t *l, ended_lwps &, part_hold &, vcpu_t *me) noexcept;

/// Its number; proc0's is 1.
pid_t proc_pid(const proc_t *) noexcept;
/// Waits for a child of the caller's proc to end and collects it; `pid` -1: for any.  `which` and `status` are set on 0.
/// 0 | ECHILD | EAGAIN it has not ended, and not `block` | ETIMEDOUT | EINTR | ENOMEM | ERESTART pass the boundary and call again
[[nodiscard]] int proc_wait1(lwp_t *l, pid_t pid, bool block, nanotime deadline, pid_t *which, int *status) noexcept;
/// Nobody will wait for this child.  0 | ECHILD
[[nodiscard]] int proc_detach(lwp_t *l, pid_t pid) noexcept;
/// Sends a signal to a proc by number.  0 | ESRCH | EINVAL | ERESTART pass the boundary and call again
[[nodiscard]] int proc_signal(lwp_t *l, pid_t pid, int sig) noexcept;
/// 1 it is stopped | 0 it is not | -1 there is none
int proc_stopped_by_number(lwp_t *l, pid_t pid) noexcept;
/// Collects all that have ended: the runtime ends.  All locks held.
void procs_reap(ended_lwps &) noexcept;
/// An LWP was made to end, so mutexes of the dead may have waiters.
extern atomic<bool> procs_made_to_end;

// ---- stop.cpp

/// LSSTOP for all LWPs of the proc, in their sleep or at the boundary, the caller's included.  Returns at once.
void proc_stop(proc_t *, vcpu_t *me) noexcept;
/// Undoes it.
void proc_continue(proc_t *, vcpu_t *me) noexcept;
/// The same with all locks held: the proc ends.
void proc_unstop_locked(proc_t *, vcpu_t *me) noexcept;
/// Undoes that for all procs, and whoever has stopped the world: the process ends.
void proc_let_go(proc_t *, vcpu_t *me) noexcept;
bool proc_is_stopped(const proc_t *, vcpu_t *me) noexcept;
/// Stops everybody but the caller and waits until they stand still, or the deadline.  0 | ETIMEDOUT nobody is stopped
[[nodiscard]] int world_stop(lwp_t *l, nanotime deadline) noexcept;
/// By who stopped it, as often as it did; or once for `all`.
void world_continue(lwp_t *l, bool all = false) noexcept;

/// An LWP that stands still, or is the one that has stopped the world.
struct world_member {
	lwpid_t lid;
	char name[LWP_MAXNAME];
	lwp_stat stat;
	bool adopted;
	pthread_t kthread;                   // of an adopted one
	const void *stack_low, *stack_high;  // all of it
	const void *sp;                      // what it uses is from here to stack_high
};
/// Fills in up to `room` of them; returns how many there are.  The world is stopped, by the caller.  Then world_stack() for each, which asks the C
/// library for the stacks of kernel threads.
std::size_t world_members(lwp_t *l, world_member *, std::size_t room) noexcept;
void world_stack(world_member *) noexcept;

// ---- terminate.cpp

/// By an LWP of proc0 ends the process: every other LWP, of all procs, ends at its boundary, or stands still for good, or is left alone when `grace` is
/// over; then exit(status).  By another only its proc: all its LWPs end at their boundaries, the caller now.
[[noreturn]] void proc_exit(lwp_t *l, int status, nanotime grace) noexcept;
/// Every LWP of a proc, not proc0, is to end at its boundary; the last one ends the proc, with this status (waitpid's).  The first one counts.  All locks
/// held, by `hold`.
void proc_make_end(proc_t *, int xstat, const part_hold &hold, vcpu_t *me) noexcept;
/// Whether somebody has begun to end the process.
bool proc_exiting(const proc_t *, vcpu_t *me) noexcept;
/// Suspends every other LWP for good (LW_WREBOOT); waits until they stand still, or the deadline.  0 | ETIMEDOUT
[[nodiscard]] int proc_shutdown(lwp_t *l, nanotime deadline) noexcept;
/// Ends the process as signal `sig` does; `snapshot`: says first what every LWP was at.
[[noreturn]] void proc_die(lwp_t *l, int sig, bool snapshot) noexcept;

// ---- park.cpp

/// 0 | EALREADY | ETIMEDOUT | EINTR | ENOMEM
[[nodiscard]] int lwp_park(lwp_t *l, nanotime deadline) noexcept;
[[nodiscard]] int lwp_unpark(lwp_t *l, lwpid_t lid) noexcept;
/// Moves the calling LWP to one vCPU and binds it there.
void lwp_move_to(lwp_t *l, std::int16_t vcpu) noexcept;
/// Sleeps until the deadline; suspends and interrupts do not shorten it.
void lwp_sleep_until(lwp_t *l, nanotime deadline) noexcept;

}  // namespace lwp::kern
