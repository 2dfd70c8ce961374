// SPDX-License-Identifier: BSD-2-Clause
//
// Frozen LWPs: those that were interrupted in the middle of the application's code, and wait in the signal handler that interrupted them.
//
// What such an LWP is in the middle of may be malloc or printf, whose locks, caches and thread-locals are its kernel thread's.  So it never runs on
// another one, and its kernel thread runs nothing else until then: it sleeps in the handler, on a futex.  Its vCPU goes away and a
// substitute takes the place (sched/spare.h), as if the LWP had made a blocking system call.
//
// To everybody else the LWP is an LWP like others: LSRUN and queued, or LSSUSPENDED, or LSSTOP, by the usual edges under the usual locks; it may be
// moved and stolen.  Only its context leads somewhere else: to its *landing*, a small stack of its vCPU.  Whoever dispatches it, T, lands
// there, in the name of the LWP, and brings it home: the LWP's own vCPU V gets its place back, or T's; the LWP is LSONPROC there;
// T goes to its idle LWP, and from there, off the landing, wakes V.
//
//   V, in the handler                        T, landed
//   1 gives up its place                     4 releases what T's last LWP has left locked (as after every switch)
//   2 makes the landing                      5 gives the place to V; T rests, or keeps its own and looks for work
//   3 publishes the LWP, sleeps              6 the LWP moves under V's vc_lwplock
//   8 wakes, LSONPROC, acting                7 switches to idle; that one sets vc_thawed
//
// Between 3 and 8 V's kernel thread touches nothing but its own handler's stack and vc_thawed, so it does not matter how far it has come when T lands:
// no lock needs to be held until it sleeps.  7 after the switch: V may freeze again at once, and makes its landing anew on the same stack.
// Nothing of this costs a switch anything that is not frozen.
//
// LWPs that compute in turns are all frozen but one.  Then V itself, in its handler, does what T would do for the next of them, W: it takes that LWP off its queue,
// gives its place to W in the place of 1, brings the LWP home (6), makes its own landing and publishes its own LWP (2, 3), and only then wakes W, and
// sleeps.  So W is woken by the kernel thread that it follows, not by one that had to be woken first.  Nobody lands: W's landing is made anew when it
// freezes again.  Until W wakes it is LSONPROC and acts, as between 6 and 8; V is away when its LWP is published, as ever.
//
// Takes sp_lock, vc_lwplock, vc_inlock.  Async-signal-safe where the interrupted code holds no lock of the library: no allocation, no libc.
#pragma once

#include "sched/vcpu.h"

namespace lwp::kern {

/// So many at once.  The other substitutes are for those that block in the kernel, perhaps for a lock of the C library that a frozen one has.
inline constexpr unsigned frozen_most = spare_max / 2;
/// With so many vCPUs off duty nobody is frozen any more: they may all be blocked by what the one that runs holds, and once no substitute is left only one
/// that runs can unlock it.
inline constexpr unsigned off_most_to_freeze = spare_max / 4 * 3;

/// What a landing needs of `vc`; before the first freeze there.  By the monitor.  0 | ENOMEM
[[nodiscard]] int frozen_prepare(vcpu_t *vc) noexcept;
/// Gives it back.  The vCPU has stopped.
void frozen_forget(vcpu_t *vc) noexcept;

/// One stay in the handler, by the LWP that was interrupted; on the handler's stack.
class freezer {
public:
	/// `sp`: where what the LWP keeps on its stack ends.
	freezer(vcpu_t *vc, lwp_t *l, const void *sp) noexcept;
	~freezer();
	freezer(const freezer &) = delete;
	freezer &operator=(const freezer &) = delete;
	/// Gives up the place of the vCPU, if it has one.  False: nobody can take it, or too many are off duty; nothing is done.
	[[nodiscard]] bool leave() noexcept;
	/// The same, if the LWP that is next here is a frozen one that is as good: the place goes to its vCPU, without a substitute in between.  False: nothing
	/// is done, but the vCPU may have lost its place meanwhile.
	[[nodiscard]] bool pass_on() noexcept;
	/// After leave() or pass_on(): LSRUN, until it is dispatched.
	void queue() noexcept;

private:
	void make_landing() noexcept;

	vcpu_t *vc_;
	lwp_t *l_;
	context saved_;
	vcpu_t *passed_to_ = nullptr;
};

/// The LWP has left LSONPROC under vc_lwplock, which is held and released; after freezer::leave().  Returns when it runs again.
void frozen_wait_and_unlock(lwp_t *l) noexcept;

/// By the monitor, of a vCPU that it is about to hand over because its kernel thread is blocked: what that waits for may be a lock of the application or the C
/// library that a frozen LWP has.  So those that are queued come there, and before all others, whatever their priorities, until they run.
void frozen_first(vcpu_t *blocked, vcpu_t *me) noexcept;

/// By an idle LWP: the LWP that landed here may go on.
void frozen_thaw(vcpu_t *vc) noexcept;

/// Whether one that runs would be better off behind others that are queued here, by class and priority; its slice is over.
[[nodiscard]] bool frozen_wanted(vcpu_t *vc, const lwp_t *l) noexcept;

}  // namespace lwp::kern
