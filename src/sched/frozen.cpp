// SPDX-License-Identifier: BSD-2-Clause
#include "sched/frozen.h"

#include "base/assert.h"
#include "base/sys.h"
#include "core/lwp_lock.h"
#include "core/lwp_state.h"
#include "core/lwpctl.h"
#include "sched/account.h"
#include "sched/idle.h"
#include "sched/place.h"
#include "sched/priority.h"
#include "sched/spare.h"
#include "sched/switch.h"

#include <utility>

namespace lwp::kern {
namespace {

// The frames of landed() and of what it calls; the sanitizers' are larger.
constexpr std::size_t landing_size = stack_default;

void count_switch(vcpu_t *vc, lwp_t *to) noexcept {
	vc->vc_curlwp = to;
	vc->vc_switches.store(vc->vc_switches.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);  // relaxed: only we write it
}

/// It leaves its vCPU, as in a switch.  vc_lwplock held, and the lock that covers it next.
void count_leaving(vcpu_t *vc, lwp_t *l) noexcept {
	l->l_ncsw++;
	sched_charge_stretch(vc, l);
}

/// The LWP is LSONPROC there, and acts.
void thaw(vcpu_t *home) noexcept {
	home->vc_thawed.store(1, std::memory_order_release);  // pairs with the acquire in sleep()
	(void)sys::futex_wake(&home->vc_thawed, 1);           // it is never unmapped, should that one be gone meanwhile
}

/// Locked by vc_lwplock of `vc`, LSONPROC: it is on its own vCPU from now on, whose kernel thread sleeps yet, which is like one that has lost its CPU.
void bring_home_locked(lwp_t *l, vcpu_t *home, vcpu_t *vc) noexcept {
	// Of the same rank.  Whoever has it waits for no vc_lwplock: it is wanted for LWPs that stand still, or to peek.
	while (!home->vc_lwplock.try_lock(vc)) {
		cpu_relax();
	}
	l->l_cpu = home;
	if (LWP_UNLIKELY(sched.sd_account.load(std::memory_order_relaxed) != 0)) {  // relaxed: as in sched_charge_stretch()
		home->vc_since = now();
	}
	lwp_setlock(l, &home->vc_lwplock);
	home->vc_lwplock.unlock(vc);
}

/// On the landing of `arg`, in the name of the LWP that waits there, on whatever vCPU has dispatched it.
void landed(void *arg) noexcept {
	auto *home = static_cast<vcpu_t *>(arg);
	lwp_t *l = home->vc_curlwp;  // its kernel thread sleeps, and had it until then
	lwp_arrived(l);
	vcpu_t *vc = l->l_cpu;
	while (!spare_give_place(vc, home)) {
		lwp_to_duty(l);  // like any LWP on a vCPU that is off duty: queued for who acts, and lands there
		vc = l->l_cpu;
	}
	vc->vc_lwplock.lock(vc);
	bring_home_locked(l, home, vc);
	// Nobody runs it before we are off its landing.
	lwp_t *idle = vc->vc_idle;
	lwp_setstat(idle, lwp_stat::onproc, &vc->vc_lwplock);
	vc->vc_thaws = home;
	vc->vc_handoff = nullptr;
	count_switch(vc, idle);
	context_switch_final(home->vc_landed, idle->l_ctx, vc->vc_image);
	fatal("a landing was entered again");
}

/// Above all that an LWP can be given or lent.
constexpr pri_t pri_first = pri_kernel_rt;

/// `l`, frozen on `home`, if it is queued: before all others, and on `to` if it may run there, else on who acts where it is.
void put_first(lwp_t *l, const vcpu_t *home, vcpu_t *to, vcpu_t *me) noexcept {
	spinlock *lock = lwp_lock(l, me);
	vcpu_t *from = l->l_cpu;
	// l_frozen is written by an LWP that runs; this one is queued, and locked.
	if (lwp_state(l) != lwp_stat::run || l->l_frozen != home || (lock != &from->vc_rqlock && lock != &from->vc_inlock)) {
		lock->unlock(me);
		return;
	}
	sched_changepri_locked(l, lock, pri_first);
	// relaxed: a hint, whoever dispatches it looks where it is
	if (const auto index = static_cast<unsigned>(to->vc_index.load(std::memory_order_relaxed)); !sched_may_run(l, index)) {
		to = sched.sd_vcpu[static_cast<unsigned>(from->vc_index.load(std::memory_order_relaxed))];
	}
	if (to == from) {
		lock->unlock(me);
		return;
	}
	if (lock == &from->vc_rqlock) {
		to->vc_inlock.lock(me);
		from->vc_rq.remove(l);
	} else if (to->vc_inlock.try_lock(me)) {  // of the same rank: never wait for it
		inbox_take(from, l);
	} else {
		lock->unlock(me);  // the next one that is blocked brings it
		return;
	}
	inbox_put(to, l, false);
	to->vc_resched.store(true, std::memory_order_release);  // as in queue_there()
	to->vc_inlock.unlock(me);
	lock->unlock(me);
	vcpu_unhalt(to);
}

/// Sleeps until it is thawed.  Nobody else writes l_cpu or l_ctx from then on.
void sleep(vcpu_t *vc) noexcept {
	// acquire: pairs with the release in frozen_thaw(): what was done to the LWP on its way here is seen
	while (vc->vc_thawed.load(std::memory_order_acquire) == 0) {
		(void)sys::futex_wait(&vc->vc_thawed, 0, nullptr);
	}
	vc->vc_frozen.store(false, std::memory_order_relaxed);  // relaxed: a hint for the monitor
}

}  // namespace

int frozen_prepare(vcpu_t *vc) noexcept { return vc->vc_landing.s_base != nullptr ? 0 : stack_alloc(vc->vc_landing, landing_size); }

void frozen_forget(vcpu_t *vc) noexcept {
	if (vc->vc_landing.s_base != nullptr) {
		stack_free(vc->vc_landing);
	}
}

freezer::freezer(vcpu_t *vc, lwp_t *l, const void *sp) noexcept : vc_(vc), l_(l), saved_(l->l_ctx) {
	LWP_ASSERT(vc->vc_curlwp == l && l->l_cpu == vc && vc->vc_landing.s_base != nullptr);
	l->l_boundsp = sp;
}

freezer::~freezer() {
	if (l_->l_frozen == nullptr) {
		return;
	}
	spares.sp_nfrozen.fetch_sub(1, std::memory_order_relaxed);  // relaxed: a bound
	context_destroy(l_->l_ctx);                                 // the landing
	l_->l_ctx = saved_;
	l_->l_frozen = nullptr;
	vc_->vc_tick = 0;
	if (l_->l_priority.load(std::memory_order_relaxed) >=
	    pri_first) {  // relaxed: at worst it stays first until it is frozen again, or settled
		sched.sd_settle(l_, vc_);
	}
}

bool freezer::leave() noexcept {
	if (spares.sp_noff.load(std::memory_order_relaxed) >= off_most_to_freeze) {  // relaxed: a bound
		return false;
	}
	unsigned counted = l_->l_frozen != nullptr ? 1 : 0;  // in sp_nfrozen
	for (;;) {
		const vcpu_duty duty = vc_->vc_duty.load(std::memory_order_relaxed);  // relaxed: our own
		if (duty == vcpu_duty::away) {
			break;
		}
		if (duty == vcpu_duty::acts) {
			if (vc_->vc_pending.load(std::memory_order_relaxed) != 0) {
				// What our LWPs have asked for is given to the kernel now; then the monitor sees to it.
				vc_->vc_parker.load(std::memory_order_relaxed)->poll(vc_, now(), false);  // relaxed: our own
			}
			// relaxed, all: bounds.  Counted before, so that nobody takes the last substitute once this one is off; sp_lock orders the two.
			if (counted == 0) {
				spares.sp_nfrozen.fetch_add(1, std::memory_order_relaxed);
				counted = 1;
			}
			if (spares.sp_nfrozen.load(std::memory_order_relaxed) > frozen_most || !spare_hand_over(vc_, vc_, spare_make::no)) {
				if (l_->l_frozen == nullptr) {
					spares.sp_nfrozen.fetch_sub(1, std::memory_order_relaxed);
				}
				return false;
			}
		} else {
			spare_blocks(vc_);  // not to be given a place back while it is frozen
		}
	}
	if (counted == 0) {
		spares.sp_nfrozen.fetch_add(1, std::memory_order_relaxed);
	}
	make_landing();
	return true;
}

void freezer::make_landing() noexcept {
	if (l_->l_frozen != nullptr) {
		context_destroy(l_->l_ctx);  // that of the stay before
	}
	l_->l_frozen = vc_;
	l_->l_ctx = context{};
	context_make(l_->l_ctx, vc_->vc_landing, 0, landed, vc_);
	vc_->vc_thawed.store(0, std::memory_order_relaxed);  // relaxed, both: published with the LWP's state
	vc_->vc_frozen.store(true, std::memory_order_relaxed);
}

bool freezer::pass_on() noexcept {
	// relaxed, all: bounds, as in leave(); our own duty
	if (vc_->vc_duty.load(std::memory_order_relaxed) != vcpu_duty::acts ||
	    spares.sp_noff.load(std::memory_order_relaxed) >= off_most_to_freeze ||
	    spares.sp_nfrozen.load(std::memory_order_relaxed) >= frozen_most || vc_->vc_rq.count() == 0) {
		return false;
	}
	if (vc_->vc_pending.load(std::memory_order_relaxed) != 0) {
		vc_->vc_parker.load(std::memory_order_relaxed)->poll(vc_, now(), false);  // as in leave(), and before we choose
	}
	vc_->vc_lwplock.lock(vc_);
	vc_->vc_rqlock.lock(vc_);
	sched_lift_locked(vc_, now());  // no vCPU comes by its idle LWP here, where that is done else
	lwp_t *next = vc_->vc_rq.first_in_line();
	vcpu_t *home = next != nullptr ? next->l_frozen : nullptr;
	// relaxed, all: locked; the index of one that is away stays what it is.  One whose own place is elsewhere goes there, and we would keep ours.
	if (home == nullptr || next->l_priority.load(std::memory_order_relaxed) < l_->l_priority.load(std::memory_order_relaxed) ||
	    (!home->vc_spare && home->vc_index.load(std::memory_order_relaxed) != vc_->vc_index.load(std::memory_order_relaxed))) {
		vc_->vc_rqlock.unlock(vc_);
		vc_->vc_lwplock.unlock(vc_);
		return false;
	}
	vc_->vc_rq.remove(next);
	lwp_setstat(next, lwp_stat::onproc, &vc_->vc_lwplock);
	next->l_cpu = vc_;
	vc_->vc_rqlock.unlock(vc_);
	if (!spare_give_place(vc_, home, vcpu_duty::away)) {
		// The monitor was first: we are away, and what is queued here is fetched by who acts.
		vc_->vc_rqlock.lock(vc_);
		lwp_setstat(next, lwp_stat::run, &vc_->vc_rqlock);
		vc_->vc_rq.push(next, queue_end::head);
		vc_->vc_rqlock.unlock(vc_);
		vc_->vc_lwplock.unlock(vc_);
		return false;
	}
	if (lwpctl_t *ctl = next->l_ctl.load(std::memory_order_relaxed); ctl != nullptr) {  // relaxed: its own, and it stands
		lwpctl_show_turns(ctl, ctl->lc_pctr + 1);                                       // only who dispatches it writes it
	}
	bring_home_locked(next, home, vc_);
	vc_->vc_lwplock.unlock(vc_);
	if (l_->l_frozen == nullptr) {
		spares.sp_nfrozen.fetch_add(1, std::memory_order_relaxed);
	}
	make_landing();
	spare_give_up_queue(vc_);
	passed_to_ = home;
	return true;
}

void freezer::queue() noexcept {
	lwp_t *l = l_;
	if (lwpctl_t *ctl = l->l_ctl.load(std::memory_order_relaxed); ctl != nullptr) {  // relaxed: our own
		lwpctl_show(ctl, LWPCTL_CPU_NONE);
	}
	vc_->vc_lwplock.lock(vc_);
	vcpu_t *to = sched.sd_vcpu[static_cast<unsigned>(vc_->vc_index.load(std::memory_order_relaxed))];  // relaxed: ours
	to->vc_inlock.lock(vc_);
	inbox_put(to, l, false);  // in line: it has had its turn
	l->l_nivcsw++;
	count_leaving(vc_, l);
	to->vc_resched.store(true, std::memory_order_release);  // as in queue_there()
	vc_->vc_lwplock.unlock(vc_);
	to->vc_inlock.unlock(vc_);
	// From here on it may land, and run again as soon as we sleep, or before.
	vcpu_unhalt(to);
	if (passed_to_ != nullptr) {
		thaw(std::exchange(passed_to_, nullptr));
	}
	sleep(vc_);
	count_switch(vc_, l);
	if (lwpctl_t *ctl = l->l_ctl.load(std::memory_order_relaxed); ctl != nullptr) {
		lwpctl_show(ctl, vc_->vc_index.load(std::memory_order_relaxed));
	}
}

void frozen_wait_and_unlock(lwp_t *l) noexcept {
	vcpu_t *vc = l->l_frozen;
	count_leaving(vc, l);
	lwpctl_t *ctl = l->l_ctl.load(std::memory_order_relaxed);  // relaxed: our own
	if (ctl != nullptr) {
		lwpctl_show(ctl, LWPCTL_CPU_NONE);
	}
	vc->vc_lwplock.unlock(vc);
	sleep(vc);
	count_switch(vc, l);
	if (ctl != nullptr) {
		lwpctl_show(ctl, vc->vc_index.load(std::memory_order_relaxed));
	}
}

void frozen_thaw(vcpu_t *vc) noexcept {
	vcpu_t *home = vc->vc_thaws;
	vc->vc_thaws = nullptr;
	thaw(home);
}

void frozen_first(vcpu_t *blocked, vcpu_t *me) noexcept {
	// relaxed, both: the next look finds it.  Without a substitute nobody would run them there.
	if (spares.sp_nfrozen.load(std::memory_order_relaxed) == 0 || spares.sp_nfree.load(std::memory_order_relaxed) == 0) {
		return;
	}
	sched_each_vcpu([blocked, me](const vcpu_t *home) {
		// relaxed: a hint.  The LWP is type-stable, whoever it is by now.
		lwp_t *l = home->vc_frozen.load(std::memory_order_relaxed) ? __atomic_load_n(&home->vc_curlwp, __ATOMIC_RELAXED) : nullptr;
		if (l != nullptr) {
			put_first(l, home, blocked, me);
		}
	});
}

bool frozen_wanted(vcpu_t *vc, const lwp_t *l) noexcept {
	if (vc->vc_incount.load(std::memory_order_relaxed) != 0) {  // relaxed: a hint
		vcpu_drain_inbox(vc);
	}
	const int top = vc->vc_rq.top();
	const pri_t mine = l->l_priority.load(std::memory_order_relaxed);  // relaxed: a hint
	return top > mine || (top == mine && (l->l_class == sched_class::other || sched_slice_over(vc, l)));
}

}  // namespace lwp::kern
