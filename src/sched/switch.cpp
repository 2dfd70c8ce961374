// SPDX-License-Identifier: BSD-2-Clause
#include "sched/switch.h"

#include "base/assert.h"
#include "core/lwpctl.h"
#include "sched/account.h"
#include "sched/callout.h"
#include "sched/frozen.h"
#include "sched/idle.h"
#include "sched/load.h"
#include "sched/place.h"
#include "sched/point.h"
#include "sched/priority.h"
#include "sched/spare.h"

#include <algorithm>

namespace lwp::kern {

void (*sched_point)(lwp_t *) = nullptr;

/// One look at an LWP, see lwp_look_at(); on the stack of who looks.
struct lwp_look {
	static constexpr std::size_t room = 16 * 1024;  // what unwinding may need

	lwp_t *lo_by;
	void (*lo_fn)(void *);
	void *lo_arg;
	bool lo_done = false;

	/// On the stack of `l`.
	void lo_run(const lwp_t *l) noexcept {
		const auto here = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
		if (here - reinterpret_cast<std::uintptr_t>(l->l_stack.s_base) >= room) {
			lo_fn(lo_arg);
			lo_done = true;
		}
	}
};

namespace {

// A look at the clock costs as much as a whole switch.  So it comes once in vc_ticks switches, and vc_ticks follows how long those
// took: a vCPU whose LWPs run long looks at every switch, one in a storm of yields every few microseconds.
constexpr nanotime poll_wanted = 10'000;
constexpr int poll_ticks_most = 512;
constexpr int poll_ticks_woken = 16;  // the first look after a halt comes sooner: LWPs may be of another kind now
// With a timer armed, or I/O under way, the CPU's counter is read at each switch, which costs less: it tells when a timer is due, to a switch or
// so, and when a look is due though the count is not over.
constexpr nanotime look_most = 2 * poll_wanted;  // a whole look, at the latest
constexpr nanotime look_apart = 500;             // between two looks for timers alone, when they come thick and fast
constexpr nanotime turn_after = 1'000'000;       // how long the newest may go first, see runq.h

/// So many cycles of the counter.  A little more, since a look that comes too early is one too many.
LWP_ALWAYS_INLINE std::uint64_t look_in(const vcpu_t *vc, nanotime in) noexcept { return cycles_in(vc, in + in / 256); }

LWP_ALWAYS_INLINE void ctl_switched_out(lwp_t *l) noexcept {
	if (lwpctl_t *ctl = l->l_ctl.load(std::memory_order_relaxed); LWP_UNLIKELY(ctl != nullptr)) {
		lwpctl_show(ctl, LWPCTL_CPU_NONE);
	}
}

LWP_ALWAYS_INLINE void ctl_switched_in(lwp_t *l, vcpu_t *vc) noexcept {
	if (lwpctl_t *ctl = l->l_ctl.load(std::memory_order_relaxed); LWP_UNLIKELY(ctl != nullptr)) {
		lwpctl_show(ctl, vc->vc_index);
		lwpctl_show_turns(ctl, ctl->lc_pctr + 1);  // only its vCPU writes it
	}
}

LWP_ALWAYS_INLINE void count_switch(vcpu_t *vc, lwp_t *to) noexcept {
	vc->vc_curlwp = to;
	// Only this kernel thread writes it; relaxed: others look whether it moves.
	vc->vc_switches.store(vc->vc_switches.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

/// The LWP that has left had the big lock.  No lock held.
LWP_ALWAYS_INLINE void let_go(vcpu_t *vc) noexcept {
	if (LWP_UNLIKELY(vc->vc_letgo != nullptr)) {
		biglock *b = vc->vc_letgo;
		vc->vc_letgo = nullptr;
		sched.sd_letgo(b, vc);
	}
}

void serve_look(lwp_t *l) noexcept;
void vcpu_look(vcpu_t *vc, bool arrived) noexcept;

/// First thing after a switch, by the one that arrives, `l`: releases what the one that left had locked, vc_lwplock and the lock that covers it
/// now.  Until then nobody can lock the one that left.  vc_dying is set only with a null vc_handoff.
LWP_ALWAYS_INLINE void arrive(lwp_t *l) noexcept {
	vcpu_t *vc = l->l_cpu;  // read here: it may not be the vCPU we left
	spinlock *handoff = vc->vc_handoff;
	if (LWP_LIKELY(handoff != nullptr)) {
		vc->vc_lwplock.unlock(vc);
		handoff->unlock(vc);
		return;
	}
	if (LWP_UNLIKELY(vc->vc_look != nullptr)) {
		serve_look(l);
		return;
	}
	lwp_t *dead = vc->vc_dying;
	vc->vc_dying = nullptr;
	vc->vc_lwplock.unlock(vc);
	if (dead != nullptr) {
		dead->l_oncpu.store(false, std::memory_order_release);  // pairs with the acquire in lwp_free(): we are off its stack
	}
}

/// `l` was switched to only to be looked at: does that, switches back, and arrives when it is switched to in earnest.
LWP_NOINLINE void serve_look(lwp_t *l) noexcept {
	for (;;) {
		vcpu_t *vc = l->l_cpu;
		lwp_look *look = vc->vc_look;
		vc->vc_look = nullptr;
		look->lo_run(l);
		context_switch(l->l_ctx, look->lo_by->l_ctx, vc->vc_image);
		vc = l->l_cpu;
		if (vc->vc_handoff != nullptr || vc->vc_look == nullptr) {
			arrive(l);
			return;
		}
	}
}

/// The one place where contexts change.  vc_lwplock held; `from` has been charged, if that is done.
LWP_ALWAYS_INLINE void switchto_charged(vcpu_t *vc, lwp_t *from, lwp_t *to, spinlock *handoff) noexcept {
	from->l_ncsw++;
	vc->vc_handoff = handoff;
	count_switch(vc, to);
	ctl_switched_out(from);
	ctl_switched_in(to, vc);
	context_switch(from->l_ctx, to->l_ctx, vc->vc_image);
	arrive(from);  // when somebody switches back to it, perhaps on another vCPU
}

LWP_ALWAYS_INLINE void cpu_switchto(vcpu_t *vc, lwp_t *from, lwp_t *to, spinlock *handoff) noexcept {
	sched_charge_stretch(vc, from);
	switchto_charged(vc, from, to, handoff);
}

/// `arrived`: after a switch.
LWP_ALWAYS_INLINE void tick(lwp_t *l, bool arrived = true) noexcept {
	vcpu_t *vc = l->l_cpu;
	if (LWP_UNLIKELY(--vc->vc_tick < 0)) {
		vcpu_poll(vc, arrived);
	} else if (LWP_UNLIKELY(
	               vc->vc_deadline.load(std::memory_order_relaxed) != never || vc->vc_pending.load(std::memory_order_relaxed) != 0) &&
	    static_cast<std::int64_t>(cycles() - vc->vc_look_cycles) > 0) {
		vcpu_look(vc, arrived);
	}
}

/// With vc_rqlock held: what others queued for us comes to our queue.  In their order: of what was stolen the oldest goes onto the stack first, so the
/// newest runs first, as where it was.
void drain_locked(vcpu_t *vc) noexcept {
	lock_scope hold(vc->vc_inlock, vc);
	while (lwp_t *l = vc->vc_inbox.pop_front()) {
		lwp_setstat(l, lwp_stat::run, &vc->vc_rqlock);
		vc->vc_rq.push(l, l->l_stacked && l->l_class == sched_class::other ? queue_end::newest_first : queue_end::line);
	}
	inbox_emptied(vc);
}

LWP_ALWAYS_INLINE bool inbox_waiting(const vcpu_t *vc) noexcept {
	return vc->vc_incount.load(std::memory_order_relaxed) !=
	    0;  // relaxed: exact under vc_inlock; before a halt idle.cpp looks with a fence
}

/// With vc_lwplock held: takes the best queued LWP and makes it LSONPROC, or returns null.
LWP_ALWAYS_INLINE lwp_t *take_next(vcpu_t *vc) noexcept {
	lock_scope hold(vc->vc_rqlock, vc);
	if (LWP_UNLIKELY(inbox_waiting(vc))) {
		drain_locked(vc);
	}
	lwp_t *next = vc->vc_rq.pop();
	if (next != nullptr) {
		lwp_setstat(next, lwp_stat::onproc, &vc->vc_lwplock);
		next->l_cpu = vc;
	}
	return next;
}

/// The same for one that was handed over to, if nothing is out of the ordinary; null: nothing is done.  It calls nothing, so a hand-over keeps next to
/// nothing on the stack: what it waits for is stores.
LWP_ALWAYS_INLINE lwp_t *take_handed_over(vcpu_t *vc) noexcept {
	if (LWP_UNLIKELY(vc->vc_bound || inbox_waiting(vc) ||
	        sched.sd_account.load(std::memory_order_relaxed) != 0) ||  // relaxed: as in sched_charge_stretch()
	    LWP_UNLIKELY(!vc->vc_rqlock.lock_own(vc))) {
		return nullptr;
	}
	lwp_t *next = vc->vc_rq.pop_next();
	if (LWP_LIKELY(next != nullptr)) {
		lwp_setstat(next, lwp_stat::onproc, &vc->vc_lwplock);
		next->l_cpu = vc;
	}
	vc->vc_rqlock.unlock_own();
	return next;
}

LWP_ALWAYS_INLINE lwp_t *take_next_or_idle(vcpu_t *vc) noexcept {
	lwp_t *next = take_next(vc);
	if (next == nullptr) {
		next = vc->vc_idle;
		lwp_setstat(next, lwp_stat::onproc, &vc->vc_lwplock);
	}
	return next;
}

/// What an ended LWP does before the switch; returns who is next.  LSZOMB, vc_lwplock held; what its control block shows was said by lwp_end().
LWP_ALWAYS_INLINE lwp_t *leave_dead(vcpu_t *vc, lwp_t *l) noexcept {
	LWP_ASSERT(!vc->vc_bound);
	lwp_t *next = take_next_or_idle(vc);
	vc->vc_dying = l;
	vc->vc_handoff = nullptr;
	count_switch(vc, next);
	ctl_switched_in(next, vc);
	return next;
}

/// Where the caller's stack ends now.
LWP_ALWAYS_INLINE const void *stack_pointer() noexcept {
#if defined(__x86_64__)
	const void *sp;
	asm volatile("movq %%rsp, %0" : "=r"(sp));
	return sp;
#else
	return nullptr;  // not known: all of the stack may be in use
#endif
}

/// An adopted kernel thread does not switch: it waits until somebody has queued its only LWP.
LWP_NOINLINE void bound_switch(vcpu_t *vc, lwp_t *l, spinlock *handoff) noexcept {
	ctl_switched_out(l);
	__builtin_unwind_init();  // every register that a caller may keep something in is on the stack above l_boundsp
	l->l_boundsp = stack_pointer();
	l->l_ncsw++;
	sched_charge_stretch(vc, l);
	vc->vc_lwplock.unlock(vc);
	if (handoff != nullptr) {
		handoff->unlock(vc);
	}
	sched_settle_owed(vc);
	let_go(vc);
	// From here on a waker may queue us; it does not matter that we still stand on our stack, since nobody else will run it.
	lwp_t *next;
	for (;;) {
		vc->vc_lwplock.lock(vc);
		next = take_next(vc);
		if (next != nullptr) {
			break;
		}
		vc->vc_lwplock.unlock(vc);
		vcpu_halt_bound(vc);
	}
	LWP_ASSERT(next == l);
	if (LWP_UNLIKELY(sched.sd_account.load(std::memory_order_relaxed) != 0)) {  // relaxed: as in sched_charge_stretch()
		vc->vc_since = now();
	}
	count_switch(vc, l);
	ctl_switched_in(l, vc);
	vc->vc_lwplock.unlock(vc);
}

}  // namespace

/// To whoever it may be.
LWP_NOINLINE static void switch_and_unlock(lwp_t *l, spinlock *handoff) noexcept {
	vcpu_t *vc = l->l_cpu;
	if (LWP_UNLIKELY(vc->vc_bound)) {
		bound_switch(vc, l, handoff);
		return;
	}
	lwp_t *next = take_next_or_idle(vc);
	cpu_switchto(vc, l, next, handoff);
	tick(l);
}

LWP_NOINLINE void mi_switch_and_unlock(lwp_t *l, spinlock *handoff) noexcept {
	vcpu_t *vc = l->l_cpu;
	lwp_t *next = take_handed_over(vc);
	if (LWP_UNLIKELY(next == nullptr)) {
		switch_and_unlock(l, handoff);
		return;
	}
	switchto_charged(vc, l, next, handoff);
	tick(l);
}

LWP_NOINLINE void mi_switch_dead(lwp_t *l) noexcept {
	vcpu_t *vc = l->l_cpu;
	lwp_t *next = leave_dead(vc, l);
	context_switch_final(l->l_ctx, next->l_ctx, vc->vc_image);
	fatal("LWP %d '%s': ran on after its end", lwp_lid(l), l->l_name);
}

void lwp_run_units(lwp_t *l, const lwp_hooks &hooks) noexcept {
	arrive(l);
	for (;;) {
		tick(l);  // a chain of LWPs that each make the next and end switches nowhere else
		hooks.begin(l);
		l->l_func(l->l_arg);
		hooks.end(l);
		vcpu_t *vc = l->l_cpu;
		lwp_t *next = leave_dead(vc, l);
		if (!context_may_loop()) {
			context_switch_final(l->l_ctx, next->l_ctx, vc->vc_image);
		}
		context_switch(l->l_ctx, next->l_ctx, vc->vc_image);
		arrive(l);
	}
}

LWP_NOINLINE bool lwp_look_at(lwp_t *me, lwp_t *target, void (*fn)(void *), void *arg) noexcept {
	LWP_ASSERT(lwp_locked(target));
	LWP_ASSERT(lwp_state(target) == lwp_stat::sleep || lwp_state(target) == lwp_stat::suspended || lwp_state(target) == lwp_stat::stop);
	if ((lwp_flags(target) & LW_PAGING) != 0) {
		return false;  // the pager takes away what is below its frames
	}
	if (target->l_cpu->vc_bound || target->l_frozen != nullptr) {
		return false;  // asleep in the kernel, on a stack that only its own kernel thread may run on
	}
	lwp_look look{me, fn, arg};
	vcpu_t *vc = me->l_cpu;
	vcpu_t *home = target->l_cpu;
	target->l_cpu = vc;  // where it arrives
	vc->vc_handoff = nullptr;
	vc->vc_look = &look;
	context_switch(me->l_ctx, target->l_ctx, vc->vc_image);
	target->l_cpu = home;
	return look.lo_done;
}

LWP_NOINLINE void lwp_yield_cpu(lwp_t *l) noexcept {
	if (LWP_UNLIKELY(l->l_bighas == big_hold::held)) {
		sched.sd_bigyield(l);
		return;
	}
	// Before the next one is chosen: a sleeper whose time is over goes first, else it would wait for as long as that one computes.
	tick(l, false);
	vcpu_t *vc = l->l_cpu;
	if (LWP_UNLIKELY(inbox_waiting(vc))) {
		vcpu_drain_inbox(vc);
	}
	if (vc->vc_rq.count() != 0) {  // an unlocked look: thieves only take, and only this vCPU puts in
		vc->vc_lwplock.lock(vc);
		vc->vc_rqlock.lock(vc);
		int top = vc->vc_rq.top();
		const int mine = l->l_priority.load(std::memory_order_relaxed);  // relaxed: locked
		const bool leaves = (lwp_flags(l) & LW_WMIGRATE) != 0;           // it must not be queued here
		if (LWP_LIKELY(top >= mine && !leaves)) {
			lwp_t *next;
			lwp_setstat(l, lwp_stat::run, &vc->vc_rqlock);
			if (LWP_LIKELY(top == mine)) {
				next = vc->vc_rq.rotate(l);
			} else {
				next = vc->vc_rq.pop();
				vc->vc_rq.push(l, queue_end::line);
			}
			lwp_setstat(next, lwp_stat::onproc, &vc->vc_lwplock);
			next->l_cpu = vc;
			cpu_switchto(vc, l, next, &vc->vc_rqlock);
			if (LWP_UNLIKELY(l->l_cpu->vc_tick == 0)) {
				tick(l);  // who left may have said so: whoever arrives has something to settle (vc_owed, vc_letgo)
			}
			return;
		}
		vc->vc_rqlock.unlock(vc);
		vc->vc_lwplock.unlock(vc);
		if (LWP_UNLIKELY(leaves)) {
			lwp_move_cpu(l);
			return;
		}
	} else if (vc->vc_bound) {
		sys_yield_bound();
	}
}

void lwp_arrived(lwp_t *l) noexcept { arrive(l); }

/// Leaves for the inbox of `to`, which covers it from then on.  vc_lwplock held, released when it goes on.  The idle LWP tells `to`, once we are off our stack:
/// it may halt, or have gone away meanwhile.
LWP_NOINLINE static void go_to_and_unlock(lwp_t *l, vcpu_t *vc, vcpu_t *to) noexcept {
	to->vc_inlock.lock(vc);
	inbox_put(to, l, false);
	to->vc_resched.store(true, std::memory_order_release);  // as in queue_there()
	vc->vc_gave = to;
	lwp_setstat(vc->vc_idle, lwp_stat::onproc, &vc->vc_lwplock);
	cpu_switchto(vc, l, vc->vc_idle, &to->vc_inlock);
	tick(l);
}

LWP_NOINLINE void lwp_to_duty(lwp_t *l) noexcept {
	vcpu_t *vc = l->l_cpu;
	if (vc->vc_bound || spare_resume(vc)) {
		return;
	}
	// To who has our place.
	vc->vc_lwplock.lock(vc);
	const auto index = static_cast<unsigned>(vc->vc_index.load(std::memory_order_relaxed));  // relaxed: ours
	vcpu_t *to = LWP_LIKELY(sched_may_run(l, index)) ? static_cast<vcpu_t *>(sched.sd_vcpu[index]) : sched_takecpu(l, vc);
	go_to_and_unlock(l, vc, to);
}

LWP_NOINLINE void lwp_move_cpu(lwp_t *l) noexcept {
	vcpu_t *vc = l->l_cpu;
	vc->vc_lwplock.lock(vc);
	lwp_flag_clear(l, LW_WMIGRATE);
	if (vc->vc_bound || sched_may_run(l, static_cast<unsigned>(vc->vc_index.load(std::memory_order_relaxed)))) {  // relaxed: ours
		vc->vc_lwplock.unlock(vc);
		return;
	}
	go_to_and_unlock(l, vc, sched_takecpu(l, vc));
}

LWP_NOINLINE void lwp_hand_to(lwp_t *l, lwp_t *to) noexcept {
	vcpu_t *vc = l->l_cpu;
	vc->vc_lwplock.lock(vc);
	vc->vc_rqlock.lock(vc);
	vc->vc_rq.remove(to);
	lwp_setstat(l, lwp_stat::run, &vc->vc_rqlock);
	vc->vc_rq.push(l, queue_end::line);
	lwp_setstat(to, lwp_stat::onproc, &vc->vc_lwplock);
	cpu_switchto(vc, l, to, &vc->vc_rqlock);
	tick(l);
}

LWP_NOINLINE void vcpu_put_first(vcpu_t *vc, lwp_t *l) noexcept {
	lock_scope hold(vc->vc_rqlock, vc);
	vc->vc_rq.remove(l);
	vc->vc_rq.push(l, queue_end::newest_first);
}

LWP_NOINLINE void lwp_preempt_cpu(lwp_t *l) noexcept {
	if (LWP_UNLIKELY(sched_point != nullptr)) {
		sched_point(l);
		return;
	}
	vcpu_t *vc = l->l_cpu;
	if (LWP_UNLIKELY(vc->vc_duty.load(std::memory_order_relaxed) != vcpu_duty::acts && !vc->vc_bound)) {  // relaxed: our own
		if (l->l_blocking == 0) {  // inside a region the LWP keeps its kernel thread
			lwp_to_duty(l);
		}
		return;
	}
	// Taken back before we look.  acquire: pairs with the release in queue_there(), so we see whoever was queued before it was set.  If our place was taken
	// away between the look at the duty and this, we miss the word for it, and run beside our substitute until the next switch: dear, but not wrong.
	(void)vc->vc_resched.exchange(false, std::memory_order_acquire);
	if (vc->vc_bound) {
		return;
	}
	if (inbox_waiting(vc)) {
		vcpu_drain_inbox(vc);
	}
	vc->vc_lwplock.lock(vc);
	vc->vc_rqlock.lock(vc);
	const int top = vc->vc_rq.top();
	const pri_t mine = l->l_priority.load(std::memory_order_relaxed);  // relaxed: locked
	const bool leaves = (lwp_flags(l) & LW_WMIGRATE) != 0;             // set since the boundary looked
	if (LWP_UNLIKELY(leaves) || top < mine || (top == mine && !sched_slice_over(vc, l))) {
		if (top >= pri_user_rt) {
			vcpu_need_resched(vc);  // asked again at each boundary: a slice will be over
		}
		vc->vc_rqlock.unlock(vc);
		vc->vc_lwplock.unlock(vc);
		if (LWP_UNLIKELY(leaves)) {
			lwp_move_cpu(l);
		}
		return;
	}
	lwp_setstat(l, lwp_stat::run, &vc->vc_rqlock);
	l->l_nivcsw++;
	lwp_t *next = vc->vc_rq.pop();
	vc->vc_rq.push(l, top > mine ? queue_end::head : queue_end::line);
	lwp_setstat(next, lwp_stat::onproc, &vc->vc_lwplock);
	next->l_cpu = vc;
	cpu_switchto(vc, l, next, &vc->vc_rqlock);
	tick(l);
}

LWP_NOINLINE void vcpu_drain_inbox(vcpu_t *vc) noexcept {
	lock_scope hold(vc->vc_rqlock, vc);
	drain_locked(vc);
}

namespace {

/// At a look at the clock, `took` after the last one: how many switches until the next.
LWP_ALWAYS_INLINE void set_ticks(vcpu_t *vc, nanotime took, bool halted) noexcept {
	int ticks = vc->vc_ticks.load(std::memory_order_relaxed);  // relaxed: only we write it, for others it is a hint
	if (halted) {
		// How long it slept says nothing of how long LWPs run, which is what thieves go by.
		vc->vc_tick = std::min(ticks, poll_ticks_woken);
		vc->vc_tick_short = vc->vc_tick < ticks;
		return;
	}
	const int count = vc->vc_tick_short ? poll_ticks_woken : ticks;
	if (took > poll_wanted) {
		ticks = std::min(ticks / 2, static_cast<int>(static_cast<nanotime>(count) * poll_wanted / took));
	} else if (!vc->vc_tick_short && took < poll_wanted / 2 && ticks < poll_ticks_most) {
		ticks = ticks * 2 + 1;
	}
	vc->vc_ticks.store(ticks, std::memory_order_relaxed);
	vc->vc_tick = ticks;
	vc->vc_tick_short = false;
}

/// What was measured just now is wrong by as much as the kernel thread was kept between the looks at the two, which happens; the truth seldom changes.  So it is
/// believed by half, and of what is far off only a little, once there have been a few.
LWP_ALWAYS_INLINE void set_speed(vcpu_t *vc, std::uint64_t measured) noexcept {
	const std::uint64_t was = vc->vc_speed;
	vc->vc_speeds += vc->vc_speeds < 64 ? 1 : 0;
	const std::uint64_t step = was / vc->vc_speeds + 1;
	vc->vc_speed = was == 0 ? measured : std::clamp((was + measured) / 2, was - step, was + step);
}

/// At a look at the clock: fires what is due, and says until when no other look is needed, in cycles.  `at`: of the CPU's counter, at `when`.  Only
/// after it has fired some are looks kept apart: one that came a little too early is not made up for by one that is late.
LWP_ALWAYS_INLINE void fire_and_set_look(vcpu_t *vc, nanotime when, std::uint64_t at) noexcept {
	const bool due = vc->vc_deadline.load(std::memory_order_relaxed) <= when;  // relaxed, here and below: only we arm timers here
	callout_run(vc, when);
	const nanotime first = std::max(vc->vc_deadline.load(std::memory_order_relaxed), when + (due ? look_apart : 0));
	vc->vc_look_cycles = at + look_in(vc, std::min(first, vc->vc_polled + look_most) - when);
}

/// vc_look_cycles are over.  A timer of ours is due, as far as the counter can tell; or LWPs run for long after a storm of yields, and
/// with a timer armed, or I/O under way, the next look must not wait for the count.
LWP_NOINLINE void vcpu_look(vcpu_t *vc, bool arrived) noexcept {
	const nanotime when = now();
	if (when >= vc->vc_polled + look_most) {
		vcpu_poll(vc, arrived);
		return;
	}
	const std::uint64_t at = cycles();
	fire_and_set_look(vc, when, at);
}

}  // namespace

void vcpu_look_by(vcpu_t *vc, nanotime deadline) noexcept {
	const nanotime in = deadline > vc->vc_polled ? deadline - vc->vc_polled : 0;
	if (in < look_most) {
		const std::uint64_t cycles_then = vc->vc_polled_cycles + look_in(vc, in);
		if (static_cast<std::int64_t>(cycles_then - vc->vc_look_cycles) < 0) {
			vc->vc_look_cycles = cycles_then;
		}
	}
}

LWP_NOINLINE void vcpu_poll(vcpu_t *vc, bool arrived) noexcept {
	sched_settle_owed(vc);
	let_go(vc);
	nanotime when = now();
	nanotime took = when - vc->vc_polled;
	const std::uint64_t switches = vc->vc_switches.load(std::memory_order_relaxed);       // relaxed: our own
	const bool halted = vc->vc_curlwp == vc->vc_idle && switches == vc->vc_ran_switches;  // since the last look it has only waited
	if (LWP_UNLIKELY(took >= slice_looked_at)) {
		sched_charge(vc, vc->vc_polled, when, cpu_time(), arrived);
	}
	vc->vc_ran = vc->vc_curlwp;
	vc->vc_ran_lid = lwp_lid(vc->vc_curlwp);
	vc->vc_ran_switches = switches;
	vc->vc_polled = when;
	std::uint64_t at = cycles();
	if (took > 1'000 && took < 1'000'000'000) {  // long enough to measure by
		set_speed(vc, (at - vc->vc_polled_cycles) * cycles_unit / took);
	}
	vc->vc_polled_cycles = at;
	set_ticks(vc, took, halted);
	if (LWP_UNLIKELY(when - vc->vc_turned >= turn_after)) {
		vc->vc_turned = when;
		sched_load_look(halted ? vc : nullptr, when);
		{
			lock_scope hold(vc->vc_rqlock, vc);
			vc->vc_rq.turn();
			sched_lift_locked(vc, when);
		}
		sched_look_over(vc, when);
	}
	if (LWP_UNLIKELY(sched.sd_asked.load(std::memory_order_relaxed)) && sched.sd_asked.exchange(false, std::memory_order_relaxed)) {
		sched.sd_standstill(vc, true);
	}
	// acquire: pairs with the release in sched_ask(): who is told finds what it is told of
	if (LWP_UNLIKELY(sched.sd_signalled.load(std::memory_order_relaxed)) && sched.sd_signalled.exchange(false, std::memory_order_acquire)) {
		sched.sd_signals(vc);
	}
	fire_and_set_look(vc, when, at);
	if (auto *poll = vc->vc_parker.load(std::memory_order_relaxed)->poll; poll != nullptr) {  // relaxed: our own
		poll(vc, when, vc->vc_curlwp != vc->vc_idle);
	}
}

void vcpu_idle_loop(vcpu_t *vc, bool entered_by_switch) noexcept {
	lwp_t *idle = vc->vc_idle;
	if (entered_by_switch) {
		arrive(idle);
	}
	bool searched = false;
	for (;;) {
		if (vcpu_t *to = vc->vc_gave; LWP_UNLIKELY(to != nullptr)) {
			vc->vc_gave = nullptr;
			vcpu_unhalt(to);
		}
		if (LWP_UNLIKELY(vc->vc_thaws != nullptr)) {
			frozen_thaw(vc);
		}
		if (LWP_UNLIKELY(vc->vc_duty.load(std::memory_order_relaxed) != vcpu_duty::acts)) {  // relaxed: asked again before a halt
			if (searched) {
				sched_search_end(vc, false);
			}
			sched_settle_owed(vc);  // it may rest for long
			let_go(vc);
			searched = spare_off_duty(vc);
		}
		vcpu_poll(vc, true);  // since the last time at most the idle LWP has run, or it has just been switched to
		vc->vc_lwplock.lock(vc);
		lwp_t *next = take_next(vc);
		if (next != nullptr) {
			if (searched) {
				sched_search_end(vc, true);
				searched = false;
			}
			lwp_setstat(idle, lwp_stat::idl, &vc->vc_lwplock);
			cpu_switchto(vc, idle, next, nullptr);
			continue;
		}
		vc->vc_lwplock.unlock(vc);
		if (vc->vc_stop.load(std::memory_order_acquire)) {  // pairs with the release in runtime_stop()
			if (searched) {
				sched_search_end(vc, false);
			}
			return;
		}
		if (spare_pull(vc)) {
			continue;
		}
		if (!searched) {
			sched_search_begin(vc);
			searched = true;
		}
		if (sched_steal(vc)) {
			continue;
		}
		if (sched_search_more(vc)) {
			continue;
		}
		sched_search_end(vc, false);
		searched = !sched_linger(vc) && vcpu_halt(vc);
	}
}

}  // namespace lwp::kern
