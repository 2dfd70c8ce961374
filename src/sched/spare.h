// SPDX-License-Identifier: BSD-2-Clause
//
// Substitutes: what keeps as many vCPUs running as there are places, while kernel threads of some are blocked in the kernel.
//
// An LWP that makes a blocking system call blocks its vCPU's kernel thread, and nothing can be moved off that: the ring, the biased locks, the
// thread-locals of what it calls are the kernel thread's.  So the vCPU goes *away*, and a spare one, a whole vcpu_t with a kernel thread of its own, takes
// its *place* in sd_vcpu: there are always as many acting vCPUs as the runtime was asked for, and whoever walks sd_vcpu, counts those that
// halt, or queues for an index finds those.  lwp_blocking_enter() says it beforehand; of LWPs that do not say it the monitor finds out
// (proc/monitor.h).
//
//   acts -> away      the kernel thread is blocked, or about to be          spare_hand_over(), by itself or by the monitor
//   away -> acts      it is back: it takes its place back                   spare_resume(), by itself
//   acts -> leaves    (spares only) the one that was away is back            its place is taken by that one
//   away -> leaves    (spares only) it is back, but the place is not free    spare_resume()
//   leaves -> rests   (spares only) what was queued on it has been given to who has the place    spare_off_duty()
//   rests -> acts     (spares only) a substitute is needed                   spare_hand_over()
//   leaves -> acts    (spares only) the same, none rests, and this one is still there
//   leaves -> away    (spares only) its LWP has entered a region             spare_blocks()
//   acts -> leaves    it was to run a frozen LWP, and gives its place to that one's kernel thread (sched/frozen.h)    spare_give_place()
//   away -> acts      the same, seen from that one
//
// One that is no spare and gives its place away like that rests as well, and acts again in its own place only: whoever needs a substitute there takes it.
//
// What the one that is away had queued goes on: first what others queued for it and a batch of its own queue, then more of it whenever the substitute has
// nothing else, or the monitor looks up.  Its timers and its operations in flight stay its own, and the monitor serves them meanwhile.  There are at most spare_max
// substitutes; when all are in use a vCPU stays blocked, with what is bound to it, until one comes back.
//
// Takes sp_lock, vc_rqlock, vc_inlock.  Keys: d  sp_lock     a  atomic     (  fixed
#pragma once

#include "sched/vcpu.h"

namespace lwp::kern {

struct spares_t {
	spinlock sp_lock{lock_rank::duty, "sp_lock"};
	vcpu_t *sp_free = nullptr;                  // d: those that rest, newest first
	atomic<unsigned> sp_nfree{0};               // a: how many; written under sp_lock, else a hint
	list<vcpu_t, &vcpu_t::vc_offlink> sp_off;   // d: those that are away or leave
	atomic<unsigned> sp_noff{0};                // a: how many; written under sp_lock, else a hint
	vcpu_t *(*sp_make)() = nullptr;             // (: makes one more and has it rest; null: no.  No lock held
	atomic<std::uint64_t> sp_stuck{0};          // a: vCPUs that the monitor found blocked
	atomic<std::uint64_t> sp_refused{0};        // a: times there was no substitute left
	atomic<unsigned> sp_nfrozen{0};             // a: frozen LWPs, sched/frozen.h
	atomic<std::uint64_t> sp_seq{0};            // a: grows when a vCPU goes away
	alignas(64) atomic<bool> sp_asleep{false};  // a: the monitor looks at nobody, because everybody halts
	atomic<nanotime> sp_until{0};               // a: when the monitor looks up; 0: it does now
	atomic<int> sp_wakefd{-1};                  // a: an eventfd: wakes the monitor
};
extern spares_t spares;

/// First thing on the kernel thread of a new one, which was made resting, asleep.
void spare_begin(vcpu_t *vc) noexcept;
/// A new one, which rests, can be had from now on.  No lock held.
void spare_add(vcpu_t *vc) noexcept;

/// The kernel thread of `vc` is blocked, or about to be: another acts for it from now on.  `me` is the caller's vCPU: `vc` itself, or the
/// monitor's.  No lock held.  False: it does not act, it halts, or no substitute is left; with spare_make::no, none rests.  While LWPs are frozen the
/// last that rests is left to the monitor: to make another one may take a lock of malloc that a frozen LWP has.
enum class spare_make : bool { no, yes };
bool spare_hand_over(vcpu_t *vc, vcpu_t *me, spare_make make = spare_make::yes) noexcept;

/// At the begin of a region, by a vCPU that is off duty already: it is not to be given a place back before it asks for it.
void spare_blocks(vcpu_t *vc) noexcept;

/// By a vCPU that is not on duty and stands at the boundary or at the end of a region with an LWP: whether it acts now.  If not, it leaves.
[[nodiscard]] bool spare_resume(vcpu_t *vc) noexcept;

/// `vc`, the caller, acts: from now on `to` does, which is away; its own place if it has one, else ours.  In the second case we leave, and rest until
/// we are needed: a spare one anywhere, another in its own place; or, `then`, are away ourselves.  False: we do not act.
[[nodiscard]] bool spare_give_place(vcpu_t *vc, vcpu_t *to, vcpu_duty then = vcpu_duty::leaves) noexcept;

/// By one that is off duty: all that is queued on it goes to who acts.
void spare_give_up_queue(vcpu_t *vc) noexcept;

/// `home`, no spare one, acts again, if it rests.
void spare_recall(vcpu_t *home, vcpu_t *me) noexcept;

/// By the idle LWP of a vCPU that is not on duty: returns when it acts or the runtime stops.  True: woken to search, and counted already.
bool spare_off_duty(vcpu_t *vc) noexcept;

/// By one that acts and has nothing to run: fetches a batch from those it acts for.  True: something came into our inbox.
bool spare_pull(vcpu_t *vc) noexcept;
[[nodiscard]] bool spare_pullable(const vcpu_t *vc) noexcept;

/// By the monitor, of one that acts and runs: the same, though it has something to run.  What is queued behind a blocked kernel thread may be what that waits
/// for, and who acts may never be idle.
void spare_feed(vcpu_t *vc, vcpu_t *me) noexcept;

/// Something was left for one that is off duty.
void spare_told(vcpu_t *vc) noexcept;

/// What is queued on one that is away, and may move: the watcher looks at it too.  Up to `most` of those that have such.
unsigned spare_list_off(vcpu_t **out, unsigned most) noexcept;

/// It has no place, and its kernel thread may be blocked: others fire its timers and poll its port.
inline bool is_off(const vcpu_t *vc) noexcept {
	const vcpu_duty duty = vc->vc_duty.load(std::memory_order_acquire);  // acquire: its port is there
	return duty == vcpu_duty::away || duty == vcpu_duty::leaves;
}

/// Has the monitor look up now.
void monitor_kick() noexcept;
/// After a halt: the monitor must not sleep while somebody runs.
LWP_ALWAYS_INLINE void monitor_runs() noexcept {
	if (LWP_UNLIKELY(
	        spares.sp_asleep.load(std::memory_order_seq_cst))) {  // seq_cst, as the end of the halt and both accesses of the monitor's
		monitor_kick();
	}
}

}  // namespace lwp::kern
