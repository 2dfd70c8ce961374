// SPDX-License-Identifier: BSD-2-Clause
#include "proc/runtime.h"

#include "base/assert.h"
#include "base/sys.h"
#include "core/lwp_pool.h"
#include "core/lwpctl.h"
#include "ctx/guard.h"
#include "proc/cred.h"
#include "proc/debugger.h"
#include "proc/inside.h"
#include "proc/lwp_life.h"
#include "proc/monitor.h"
#include "proc/pager.h"
#include "proc/preempt.h"
#include "proc/report.h"
#include "proc/vcpus.h"
#include "sched/account.h"
#include "sched/idle.h"
#include "sched/linger.h"
#include "sched/load.h"
#include "sched/ncpu.h"
#include "sched/point.h"
#include "sched/spare.h"
#include "sched/switch.h"
#include "sched/trace.h"
#include "sync/condvar.h"
#include "sync/turnstile.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>
#include <unistd.h>
#include <utility>

namespace lwp::kern {

sched_t sched = {
    .sd_vcpu = {}, .sd_settle = turnstile_settle, .sd_letgo = biglock_let_go, .sd_bigyield = biglock_yield, .sd_leave = lwp_leave};
std::size_t runtime_stack = stack_default;

namespace {

constexpr std::size_t max_lwps_default = 16U << 20;

std::mutex runtime_lock;      // start, stop, adoption; taken by kernel threads, never with a lock of ours held
atomic<bool> running{false};  // written under runtime_lock
lwp_t *home_lwp;              // LWP 1, if vCPU 0 is the kernel thread that started the runtime
vcpu_t *bound_all;            // vCPUs of kernel threads of the application, also of those that have gone
vcpu_t *bound_free;           // vCPUs of kernel threads that have gone
pthread_key_t bound_key;
bool bound_key_made;

[[gnu::used]] const debug_info *const for_debuggers = &lwp_debug_info;  // so that it is in every program that has a runtime

bool who_runs(guard_owner &owner, stack &s) {
	const lwp_t *l = curlwp_or_null();
	if (l == nullptr || l->l_adopted || (lwp_flags(l) & LW_IDLE) != 0) {
		return false;
	}
	owner = {lwp_lid(l), l->l_name};
	s = l->l_stack;
	return true;
}

/// An LWP that its kernel thread is already running: LSONPROC from the start.
lwp_t *adopted_lwp(vcpu_t *vc) noexcept {
	lwp_t *l = lwp_pool_get();
	if (l == nullptr) {
		return nullptr;
	}
	l->l_adopted = true;
	l->l_kthread = ::pthread_self();
	l->l_cpu = vc;
	l->l_proc = &proc0;
	vc->vc_since = now();  // its first stretch does not begin before itself
	lwp_setstat(l, lwp_stat::onproc, &vc->vc_lwplock);
	return l;
}

/// Adds an LWP that runs already to the proc: to part 0, with a number that is part 0's however many parts there are, since it may see
/// several runtimes.  Lock of part 0 held.  0 | ENOMEM
int enter_proc(lwp_t *l) noexcept {
	procpart *pp = proc0_parts;
	std::uint64_t number;
	do {
		number = part_next_number(&proc0, pp, pp->pp_nextlid + (-pp->pp_nextlid & (part_max - 1)) - 1);
	} while (number % part_max != 0);
	l->ln_lid.store(number_lid(number), std::memory_order_relaxed);  // relaxed: published by the table
	if (int error = pp->pp_lwps.insert(l)) {
		return error;
	}
	l->l_made = number;
	l->l_part = pp;
	l->l_cred = cred_hold(proc0.p_cred);
	if (proc_holds(&proc0, l)) {
		l->l_flag.store(
		    LW_INMEM | LW_WSTOP, std::memory_order_relaxed);  // relaxed: nobody else knows it yet.  It stops at the end of this first call
	}
	pp->pp_nlwps++;
	pp->pp_allowance--;
	if ((l->l_prflag & LPR_DETACHED) != 0) {
		pp->pp_ndlwps++;
	}
	part_add(pp->pp_nrlwps, 1);
	return 0;
}

/// By the LWP itself.  Lock of part 0 held.
void leave_proc(lwp_t *l) noexcept {
	procpart *pp = l->l_part;
	spinlock *lock = lwp_lock(l, l->l_cpu);
	sched_charge_stretch(l->l_cpu, l);
	lock->unlock(l->l_cpu);
	part_keep_usage(pp, l);
	pp->pp_lwps.erase(l);
	pp->pp_nlwps--;
	pp->pp_allowance++;
	if ((l->l_prflag & LPR_DETACHED) != 0) {
		pp->pp_ndlwps--;
	}
	part_add(pp->pp_nrlwps, minus_one);
}

/// As many parts as `vcpus` ask for.  There is no runtime: no LWP lives but kernel threads from outside, in part 0.  0 | ENOMEM
int make_parts(unsigned vcpus, std::size_t max_lwps) noexcept {
	proc_t *p = &proc0;
	const std::uint32_t before = proc_nparts(p);
	const std::uint32_t parts = std::min(std::bit_ceil(vcpus), part_max);
	static std::uint32_t made;  // r
	for (; made < parts; made++) {
		if (sched.sd_all[made] == nullptr && (sched.sd_all[made] = vcpu_new()) == nullptr) {
			return ENOMEM;
		}
		auto *pp = ::new (proc0_parts + made) procpart;
		pp->pp_index = made;
		pp->pp_lock.bias(sched.sd_all[made]);  // once and for all: before anybody knows the part
	}
	vcpu_t *me = curcpu_or_null();
	if (before == 0) {
		p->p_nparts.store(1, std::memory_order_relaxed);  // relaxed, here and below: see proc_nparts()
	}
	proc_lock_all(p, me);
	const std::uint32_t locked = proc_nparts(p);
	std::uint64_t next = 0;
	std::size_t living = 0;
	proc_each_part(p, [&](const procpart &pp) {
		next = std::max(next, pp.pp_nextlid);
		living += pp.pp_nlwps;
	});
	LWP_ASSERT(living == proc0_parts[0].pp_nlwps);
	if (living == 0) {
		next = 0;
	}
	next += -next & (parts - 1);
	for (std::uint32_t i = 0; i < parts; i++) {
		proc0_parts[i].pp_nextlid = next + i;
		proc0_parts[i].pp_lwps.set_stride(static_cast<unsigned>(std::countr_zero(parts)));
		proc0_parts[i].pp_allowance = 0;  // shared out by the first that makes one
	}
	p->p_maxlwps = std::min<std::size_t>(max_lwps, INT64_MAX);
	proc0_parts[0].pp_allowance = static_cast<std::int64_t>(p->p_maxlwps) - static_cast<std::int64_t>(living);
	p->p_nparts.store(parts, std::memory_order_relaxed);
	for (std::uint32_t i = locked; i-- > 0;) {
		proc0_parts[i].pp_lock.unlock(me);
	}
	return 0;
}

/// LWP 1, on vCPU 0, which is the calling kernel thread.  0 | ENOMEM
int become_lwp1(vcpu_t *vc) noexcept {
	lwp_t *l = adopted_lwp(vc);
	if (l == nullptr) {
		return ENOMEM;
	}
	home_lwp = l;
	vc->vc_curlwp = l;
	vcpu_thread_init(vc);
	context_adopt(l->l_ctx);
	int error;
	{
		lock_scope hold(proc0_parts[0].pp_lock, vc);
		error = enter_proc(l);
	}
	if (error != 0) {
		guard_thread_fini();
		curcpu_set(nullptr);
		context_destroy(l->l_ctx);
		lwp_pool_put(l);
		home_lwp = nullptr;
	}
	return error;
}

bool account_wanted() noexcept {
	const char *text = std::getenv("LWP_ACCOUNT");
	return text != nullptr && std::strcmp(text, "1") == 0;
}

/// How long an LWP sleeps before the pager looks at its stack; 0: there is none.
nanotime pager_wanted(const runtime_options &o) noexcept {
	unsigned long ms = o.stack_pager_ms;
	if (ms == 0) {
		const char *text = std::getenv("LWP_STACK_PAGER");
		ms = text != nullptr ? std::strtoul(text, nullptr, 10) : 0;
	}
	return static_cast<nanotime>(std::min<unsigned long>(ms, 1'000'000'000)) * 1'000'000;
}

/// runtime_lock held.
int start(const runtime_options &o, bool home) noexcept {
	const unsigned count = o.vcpus != 0 ? o.vcpus : vcpus_wanted();
	const std::size_t wanted_stack = o.stack_size != 0 ? (o.stack_size + 4095) / 4096 * 4096 : stack_default;
	if (count > vcpu_max || wanted_stack < stack_min || wanted_stack > stack_max) {
		return EINVAL;
	}
	cred0.cr_uid = ::getuid();  // before the first LWP
	report_install();           // before the vCPUs that call it
	runtime_stack = wanted_stack;
	if (int error = make_parts(count, o.max_lwps != 0 ? o.max_lwps : max_lwps_default)) {
		return error;
	}
	home_lwp = nullptr;
	sched.sd_halted.store(0, std::memory_order_relaxed);
	sched.sd_searching.store(0, std::memory_order_relaxed);
	sched.sd_watcher.store(nullptr, std::memory_order_relaxed);
	pset_forget();
	linger_start(cpus_are_rationed());
	(void)lwp_account(o.accounting || account_wanted());
	const bool monitored = sched_point == nullptr;  // else all happens on this kernel thread
	vcpus_begin(monitored);
	unsigned made = 0;
	int error = 0;
	// A vCPU sees those before it only, until all are there.
	while (made < count && (error = vcpu_make(made, home && made == 0)) == 0) {
		sched.sd_nall.store(made + 1, std::memory_order_release);  // as for spares
		sched.sd_count.store(++made, std::memory_order_release);   // pairs with the acquires of who walks sd_vcpu
	}
	if (static bool biased = false; error == 0 && !std::exchange(biased, true)) {  // r
		condvar_bias(sched.sd_all, count);                                         // once and for all: there is no LWP yet, so nobody waits
	}
	if (error == 0 && monitored) {
		preempt_start(o.preemption);
		error = monitor_start();
	}
	if (error == 0 && monitored) {
		const nanotime asleep = pager_wanted(o);
		if (asleep != 0 && (error = pager_start(asleep)) != 0) {
			monitor_stop();
		}
	}
	if (error == 0 && home && (error = become_lwp1(sched.sd_vcpu[0])) != 0 && monitored) {
		pager_stop();
		monitor_stop();
	}
	if (error != 0) {
		vcpus_unmake(home ? 1 : 0);
		if (home && made != 0) {
			vcpu_drop_home_idle(sched.sd_all[0]);
		}
		sched.sd_count.store(0, std::memory_order_release);
		return error;
	}
	guard_install(who_runs);
	sched_load_begin(now());
	{
		const proc_scope hold(&proc0, curcpu_or_null());
		proc0.p_running = true;
		proc0.p_mainleft = false;
	}
	running.store(true, std::memory_order_release);  // pairs with the acquire in runtime_running()
	return 0;
}

/// A kernel thread that was adopted ends.
void bound_release(void *arg) noexcept {
	auto *vc = static_cast<vcpu_t *>(arg);
	lwp_t *l = vc->vc_curlwp;
	curcpu_set(vc);
	specific_fini(l->l_specific);
	lwp_drop_creds(l);
	biglock_drop(l);
	proc_t *p = &proc0;
	part_hold hold(p, l->l_part, vc);
	lwp_drainrefs(p, l);
	hold.widen(vc);
	leave_proc(l);
	p->p_nadopted--;
	const proc_counts c = proc_count(p);
	const bool last = c.nlwps == c.nzlwps && p->p_mainleft;
	wait_recheck(p, vc);
	proc_cv_broadcast(p, vc);
	vc->vc_lwplock.lock(vc);
	lwp_setstat(l, lwp_stat::zomb, &vc->vc_lwplock);
	vc->vc_lwplock.unlock(vc);
	hold.unlock(vc);
	lwpctl_put(l);
	trace_put(l);
	lwp_drop_dead(vc);
	curcpu_set(nullptr);
	context_destroy(l->l_ctx);
	lwp_pool_put(l);
	{
		std::lock_guard hold(runtime_lock);
		vc->vc_nextfree = bound_free;
		bound_free = vc;
	}
	if (last) {
		std::exit(0);  // as when any other LWP is the last one to end
	}
}

/// runtime_lock held.
lwp_t *adopt_bound() noexcept {
	if (!bound_key_made) {
		LWP_CHECK(::pthread_key_create(&bound_key, bound_release) == 0, "a kernel thread cannot be adopted: no pthread key left");
		bound_key_made = true;
	}
	vcpu_t *vc = bound_free;
	if (vc != nullptr) {
		bound_free = vc->vc_nextfree;
	} else {
		vc = vcpu_new();
		LWP_CHECK(vc != nullptr, "a kernel thread cannot be adopted: no memory");
		vc->vc_bound = true;
		vc->vc_duty.store(vcpu_duty::outside, std::memory_order_relaxed);  // relaxed: nobody knows it yet
		vc->vc_nextbound = bound_all;
		bound_all = vc;
	}
	lwp_t *l = adopted_lwp(vc);
	LWP_CHECK(l != nullptr, "a kernel thread cannot be adopted: no memory");
	vc->vc_curlwp = l;
	vcpu_looked(vc);
	curcpu_set(vc);
	vc->vc_tid.store(::gettid(), std::memory_order_relaxed);  // relaxed: for debuggers
	vc->vc_image.init();
	context_adopt(l->l_ctx);
	l->l_prflag = LPR_DETACHED;
	{
		const proc_scope hold(&proc0, vc);
		LWP_CHECK(enter_proc(l) == 0, "a kernel thread cannot be adopted: no memory");
		proc0.p_nadopted++;
	}
	LWP_CHECK(::pthread_setspecific(bound_key, vc) == 0, "a kernel thread cannot be adopted: no memory");
	return l;
}

/// One that has ended and that nobody has been given, now the caller's.  All locks held.
lwp_t *take_dead(const proc_t *p) noexcept {
	lwp_t *dead = nullptr;
	proc_each_part(p, [&dead](procpart &pp) {
		if (dead != nullptr) {
			return;
		}
		dead = pp.pp_zomblwp.load(std::memory_order_relaxed);  // relaxed, twice: pp_lock is held
		if (dead != nullptr) {
			pp.pp_zomblwp.store(nullptr, std::memory_order_relaxed);
		} else if ((dead = pp.pp_zombies.pop_front()) != nullptr) {
			dead->l_prflag |= LPR_CLAIMED;
		}
	});
	return dead;
}

/// Collects whoever has ended until the caller is the only one left, and no other proc.
void wait_for_all(proc_t *p, lwp_t *l) noexcept {
	atomic<std::uint32_t> &waits = l->l_part->pp_nlwpwait;
	proc_lock_all(p, l->l_cpu);
	for (;;) {
		if (lwp_t *dead = take_dead(p)) {
			lwp_forget(dead);
			wait_recheck(p, l->l_cpu);
			proc_cv_broadcast(p, l->l_cpu);
			proc_unlock_all(p, l->l_cpu);
			lwp_bury(dead, l->l_cpu);
			proc_lock_all(p, l->l_cpu);
			continue;
		}
		ended_lwps with_procs;
		procs_reap(with_procs);
		if (!with_procs.empty()) {
			wait_recheck(p, l->l_cpu);
			proc_cv_broadcast(p, l->l_cpu);
			proc_unlock_all(p, l->l_cpu);
			lwp_bury_all(with_procs, l->l_cpu);
			proc_lock_all(p, l->l_cpu);
			continue;
		}
		const proc_counts c = proc_count(nullptr);
		if (c.nlwps == 1 + p->p_nadopted) {
			LWP_ASSERT(procs_made.empty());
			p->p_running = false;  // in the same breath: from now on no LWP is started
			break;
		}
		bool held = false;
		procs_each([&held](const proc_t *each) { held = held || each->p_held; });
		if (c.nrlwps == 1 && p->p_nadopted == 0 && c.nzlwps == 0 && !held) {
			fatal("~runtime: %zu LWPs are suspended and nobody is left to continue them", c.nlwps - 1);
		}
		part_add(waits, 1);
		wait_recheck(p, l->l_cpu);
		(void)proc_cv_wait(p, nullptr, l, "runtime", sleep_catch::no);
		part_add(waits, minus_one);
	}
	proc_unlock_all(p, l->l_cpu);
}

}  // namespace

bool runtime_running() noexcept { return running.load(std::memory_order_acquire); }  // pairs with the release in start()

int runtime_start(const runtime_options &o) noexcept {
	std::lock_guard hold(runtime_lock);
	if (runtime_running() || curcpu_or_null() != nullptr) {
		return EBUSY;
	}
	const int error = start(o, true);
	if (error == 0) {
		outside_library_begin(home_lwp);  // it was born inside
	}
	return error;
}

void runtime_stop() noexcept {
	lwp_t *l = curlwp();
	proc_t *p = &proc0;
	l->l_depth++;
	fence_compiler(std::memory_order_seq_cst);  // as in_library, which cannot outlive the LWP
	if (proc_exiting(p, l->l_cpu)) {
		outside_library_begin(l);
		return;  // a static object, in exit(): the others stand still for good and their stacks are still theirs
	}
	LWP_CHECK(l == home_lwp, "~runtime: called by another LWP than LWP 1");
	specific_fini(l->l_specific);  // first: a destructor may start LWPs
	wait_for_all(p, l);
	// Back to the kernel thread that we came with: its stack is ours.  A substitute may have its place for a moment yet.
	vcpu_t *vc = sched.sd_all[0];
	for (lwp_move_to(l, 0); l->l_cpu != vc; lwp_userret(l)) {
		spare_recall(vc, l->l_cpu);
		sys::yield();  // it is on its way back; then the substitute gives us up at the boundary
	}
	if (sched_point == nullptr) {
		pager_stop();
		monitor_stop();
	}
	sched_load_end();
	vcpus_unmake(1);
	std::lock_guard hold(runtime_lock);
	vcpu_close_parker(vc);
	lwp_drop_dead(vc);
	{
		const proc_scope hold_proc(p, vc);
		while (l->l_waiters != nullptr) {
			wait_end(p, l->l_waiters, ESRCH, nullptr, vc);
		}
		leave_proc(l);
		wait_recheck(p, vc);
		proc_cv_broadcast(p, vc);
	}
	lwp_drop_creds(l);
	biglock_drop(l);
	lwpctl_put(l);
	trace_put(l);
	vcpu_drop_home_idle(vc);
	guard_remove();
	guard_thread_fini();
	curcpu_set(nullptr);
	context_destroy(l->l_ctx);
	lwp_pool_put(l);
	home_lwp = nullptr;
	sched.sd_count.store(0, std::memory_order_release);
	running.store(false, std::memory_order_release);
}

void runtime_ensure() noexcept {
	std::lock_guard hold(runtime_lock);
	if (!runtime_running()) {
		if (int error = start({}, false)) {
			fatal("the runtime cannot be started: error %d", error);
		}
	}
}

namespace {

lwp_t *adopt() noexcept {
	std::lock_guard hold(runtime_lock);
	if (!runtime_running()) {
		// Only the main thread is sure to last as long as the process: another does not become a vCPU without having asked for it.
		const bool main_thread = ::gettid() == ::getpid();
		const int error = start({}, main_thread);
		if (error != 0) {
			fatal("the runtime cannot be started: error %d", error);
		}
		if (main_thread) {
			return curlwp_or_null();
		}
	}
	return adopt_bound();
}

}  // namespace

LWP_NOINLINE lwp_t *runtime_adopt() noexcept {
	lwp_t *l = adopt();
	outside_library_begin(l);  // it was born inside
	return l;
}

runtime_stats runtime_statistics() noexcept {
	const perhaps_in_library here;
	runtime_stats s{};
	const stack_stats stacks = stack_statistics();
	vcpu_t *me = curcpu_or_null();
	std::size_t dead = 0;
	{
		proc_t *p = &proc0;
		if (proc_nparts(p) == 0) {
			return s;  // there has been no runtime yet
		}
		const proc_scope hold(p, me);
		proc_check(p);
		std::size_t counted = 0;
		proc_each_part(p, [&](const procpart &pp) {
			if (const lwp_t *slot = pp.pp_zomblwp.load(std::memory_order_relaxed); slot != nullptr) {  // relaxed: pp_lock is held
				dead++;
				counted += slot->l_proc->p_stat != proc_stat::dead ? 1U : 0U;  // else it is in no proc's counters
			}
		});
		const proc_counts c = proc_count(nullptr);
		s.lwps = c.nlwps - counted;  // those that wait to be recycled are not the application's any more
		s.runnable = c.nrlwps;
		s.waiting = c.nlwpwait;
		s.detached = c.ndlwps - counted;
		s.zombies = c.nzlwps - counted;
	}
	s.vcpus = sched.sd_count.load(std::memory_order_relaxed);
	sched_each_vcpu([&](const vcpu_t *vc) {
		s.switches += vc->vc_switches.load(std::memory_order_relaxed);  // relaxed: statistics
		s.steals += vc->vc_steals.load(std::memory_order_relaxed);
		s.vcpu_wakeups += vc->vc_wakeups.load(std::memory_order_relaxed);
		s.blocking_regions += vc->vc_regions.load(std::memory_order_relaxed);
		s.spare_vcpus += vc->vc_spare ? 1U : 0U;
		s.preemptions += vc->vc_preempted.load(std::memory_order_relaxed);
		dead += vc->vc_ndead.load(std::memory_order_relaxed);
	});
	const pager_stats paged = pager_statistics();
	s.stacks_paged_out = paged.out;
	s.stacks_paged_in = paged.in;
	s.blocked_found = spares.sp_stuck.load(std::memory_order_relaxed);
	s.blocked_unhelped = spares.sp_refused.load(std::memory_order_relaxed);
	{
		std::lock_guard hold(runtime_lock);
		for (const vcpu_t *vc = bound_all; vc != nullptr; vc = vc->vc_nextbound) {
			dead += vc->vc_ndead.load(std::memory_order_relaxed);
		}
	}
	std::size_t ours = dead + (home_lwp != nullptr ? 1 : 0);  // with vCPU 0's idle LWP
	sched_each_vcpu([&ours](const vcpu_t *vc) { ours += vc->vc_landing.s_base != nullptr ? 1U : 0U; });
	s.stacks_in_use = stacks.in_use > ours ? stacks.in_use - ours : 0;
	s.stacks_cached = stacks.cached + dead;
	return s;
}

}  // namespace lwp::kern
