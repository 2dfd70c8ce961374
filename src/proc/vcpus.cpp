// SPDX-License-Identifier: BSD-2-Clause
#include "proc/vcpus.h"

#include "base/assert.h"
#include "base/sys.h"
#include "core/lwp_pool.h"
#include "ctx/guard.h"
#include "proc/lwp_life.h"
#include "proc/preempt.h"
#include "proc/proc.h"
#include "sched/frozen.h"
#include "sched/idle.h"
#include "sched/spare.h"
#include "sched/switch.h"

#include <cerrno>
#include <csignal>
#include <mutex>
#include <new>
#include <pthread.h>
#include <sys/prctl.h>
#include <unistd.h>

namespace lwp::kern {

namespace {

std::mutex spare_lock;  // makes spares, one at a time; taken by kernel threads, never with a lock of ours held
sigset_t signal_mask;   // of the kernel thread that started the runtime, for spares whoever makes them; written before there is a vCPU
stack idle_stack;       // of vCPU 0's idle LWP: the kernel thread's own belongs to LWP 1

lwp_t *idle_lwp(vcpu_t *vc) noexcept {
	lwp_t *l = lwp_pool_get();
	if (l != nullptr) {
		l->l_adopted = true;
		l->l_cpu = vc;
		l->l_priority = pri_count;  // whoever is queued, it is not better than an idle vCPU: that one looks by itself
		l->l_bound = vc->vc_index.load(std::memory_order_relaxed);
		l->l_proc = &proc0;
		l->l_flag.store(LW_INMEM | LW_IDLE | LW_SYSTEM | LW_BOUND, std::memory_order_relaxed);
	}
	return l;
}

}  // namespace

vcpu_t *vcpu_new() noexcept {
	auto *vc = new (std::nothrow) vcpu_t;
	if (vc != nullptr) {
		vc->vc_part = proc0_parts;  // that of a kernel thread from outside
		vc->vc_lwplock.bias(vc);
		vc->vc_rqlock.bias(vc);
		vc->vc_slplock.bias(vc);
		vc->vc_colock.bias(vc);
	}
	return vc;
}

void vcpu_thread_init(vcpu_t *vc) noexcept {
	curcpu_set(vc);
	vc->vc_tid.store(::gettid(), std::memory_order_relaxed);  // relaxed: for the monitor
	vc->vc_image.init();
	(void)guard_thread_init();              // without it an overflow still ends in SIGSEGV, only without our line
	(void)::prctl(PR_SET_TIMERSLACK, 1UL);  // a vCPU that halts for a timer wants it on time
}

namespace {

void *vcpu_main(void *arg) noexcept {
	auto *vc = static_cast<vcpu_t *>(arg);
	vcpu_thread_init(vc);
	context_adopt(vc->vc_idle->l_ctx);
	vc->vc_curlwp = vc->vc_idle;
	if (vc->vc_spare) {
		spare_begin(vc);
	}
	vcpu_idle_loop(vc, false);
	vcpu_close_parker(vc);
	guard_thread_fini();
	lwp_drop_dead(vc);
	curcpu_set(nullptr);
	return nullptr;
}

void idle_entry(void *arg) noexcept {
	auto *vc = static_cast<vcpu_t *>(arg);
	vcpu_idle_loop(vc, true);
	fatal("vCPU 0 was stopped while it had nothing to run");  // it is stopped by LWP 1, which it runs
}

/// 0 | EAGAIN
int start_thread(vcpu_t *vc) noexcept {
	lwp_setstat(vc->vc_idle, lwp_stat::onproc, &vc->vc_lwplock);
	const int error = sys::thread_create(
	    &vc->vc_thread, nullptr, [](void *a) -> void * { return vcpu_main(a); }, vc);
	if (error != 0) {
		lwp_pool_put(vc->vc_idle);
		vc->vc_idle = nullptr;
	}
	return error;
}

/// sd_all[i], new or of an earlier runtime, with an idle LWP.  Null: no memory.
vcpu_t *prepare_vcpu(unsigned i, bool spare) noexcept {
	vcpu_t *&vc = sched.sd_all[i];
	if (vc == nullptr && (vc = vcpu_new()) == nullptr) {
		return nullptr;
	}
	vc->vc_spare = spare;
	vc->vc_duty.store(
	    spare ? vcpu_duty::rests : vcpu_duty::acts, std::memory_order_relaxed);  // relaxed, here and below: nobody knows it yet
	vc->vc_stop.store(false, std::memory_order_relaxed);
	vc->vc_halted.store(spare ? vc_rests : vc_running, std::memory_order_relaxed);
	vc->vc_resched.store(false, std::memory_order_relaxed);
	vc->vc_index.store(static_cast<std::int16_t>(spare ? 0 : i), std::memory_order_relaxed);
	vc->vc_part = proc0_parts + (i & (proc_nparts(&proc0) - 1));
	vc->vc_asked.store(false, std::memory_order_relaxed);
	vc->vc_unswitched = 0;
	vc->vc_preempted.store(0, std::memory_order_relaxed);  // else those of earlier runtimes come into the sum as substitutes are made again
	vcpu_looked(vc);
	vc->vc_idle = idle_lwp(vc);
	return vc->vc_idle != nullptr ? vc : nullptr;
}

/// One more spare vCPU, that rests.  By any kernel thread of the runtime, no lock held.  Null: all are there, or no memory, or no kernel thread.
vcpu_t *make_spare() noexcept {
	std::lock_guard hold(spare_lock);
	const unsigned i = sched.sd_nall.load(std::memory_order_relaxed);  // relaxed: written under spare_lock once the runtime runs
	if (i - sched.sd_count.load(std::memory_order_relaxed) >= spare_max) {
		return nullptr;
	}
	vcpu_t *vc = prepare_vcpu(i, true);
	if (vc == nullptr) {
		return nullptr;
	}
	// Signals as elsewhere, whoever makes it; vcpu_main() runs with them.
	sigset_t mine;
	::pthread_sigmask(SIG_SETMASK, &signal_mask, &mine);
	const int error = start_thread(vc);
	::pthread_sigmask(SIG_SETMASK, &mine, nullptr);
	if (error != 0) {
		return nullptr;
	}
	sched.sd_helpers.fetch_add(1, std::memory_order_relaxed);  // relaxed: a count
	sched.sd_nall.store(i + 1, std::memory_order_release);     // pairs with the acquire in sched_each_vcpu()
	spare_add(vc);
	return vc;
}

}  // namespace

void vcpus_begin(bool with_spares) noexcept {
	::pthread_sigmask(SIG_SETMASK, nullptr, &signal_mask);
	spares.sp_make = with_spares ? make_spare : nullptr;
}

int vcpu_make(unsigned i, bool home) noexcept {
	vcpu_t *vc = prepare_vcpu(i, false);
	if (vc == nullptr) {
		return ENOMEM;
	}
	sched.sd_vcpu[i] = vc;
	if (!home) {
		return start_thread(vc);
	}
	if (int error = stack_alloc(idle_stack, stack_default)) {
		lwp_pool_put(vc->vc_idle);
		vc->vc_idle = nullptr;
		return error;
	}
	vc->vc_idle->l_ctx = context{};
	context_make(vc->vc_idle->l_ctx, idle_stack, 0, idle_entry, vc);
	lwp_setstat(vc->vc_idle, lwp_stat::idl, &vc->vc_lwplock);
	return 0;
}

void vcpus_unmake(unsigned first) noexcept {
	const unsigned all = sched.sd_nall.load(std::memory_order_acquire);  // pairs with the release of who made it; nobody makes one any more
	for (unsigned i = first; i < all; i++) {
		sched.sd_all[i]->vc_stop.store(
		    true, std::memory_order_release);  // pairs with the acquires in vcpu_idle_loop() and spare_off_duty()
		vcpu_unhalt(sched.sd_all[i]);
	}
	for (unsigned i = first; i < all; i++) {
		vcpu_t *vc = sched.sd_all[i];
		::pthread_join(vc->vc_thread, nullptr);
		lwp_pool_put(vc->vc_idle);
		vc->vc_idle = nullptr;
		frozen_forget(vc);
		preempt_forget(vc);
		if (vc->vc_spare) {
			sched.sd_helpers.fetch_sub(1, std::memory_order_relaxed);  // relaxed: a count
		}
	}
	sched.sd_nall.store(0, std::memory_order_release);
	spares.sp_free = nullptr;
	spares.sp_nfree.store(0, std::memory_order_relaxed);  // relaxed: nobody is left to look
	spares.sp_off = {};
	spares.sp_noff.store(0, std::memory_order_relaxed);  // relaxed: nobody is left to look
}

void vcpu_drop_home_idle(vcpu_t *vc) noexcept {
	frozen_forget(vc);
	preempt_forget(vc);
	context_destroy(vc->vc_idle->l_ctx);
	stack_free(idle_stack);
	lwp_pool_put(vc->vc_idle);
	vc->vc_idle = nullptr;
}

}  // namespace lwp::kern
