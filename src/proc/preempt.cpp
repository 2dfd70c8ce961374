// SPDX-License-Identifier: BSD-2-Clause
#include "proc/preempt.h"

#include "base/assert.h"
#include "base/sys.h"
#include "proc/lwp_life.h"
#include "proc/monitor.h"
#include "proc/outside.h"
#include "sched/callout.h"
#include "sched/frozen.h"
#include "sched/spare.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <pthread.h>
#include <ucontext.h>
#include <unistd.h>
#include <utility>

namespace lwp::kern {
namespace {

constexpr nanotime slice = 10'000'000;        // how long an LWP may run while others wait
constexpr nanotime again = 2'000'000;         // until one that could not be taken off is asked again
constexpr nanotime again_still = 50'000;      // the same, if somebody waits for it to stand still
constexpr nanotime hurry_least = 1'000'000;   // between two times that the monitor is woken for that
constexpr std::uint32_t probe_least = 1'000;  // until a probe
constexpr std::uint32_t probe_most = 64'000;  // the same
constexpr nanotime still_most = 10 * slice;   // between two times that the monitor asks one that cannot be brought to stand still
constexpr unsigned probes_most = 400;         // by the handler's timer, until the monitor asks again
// Those of them at which it is arranged that it is met as it comes out of the C library (proc/outside.h).  The first few are quicker if it does anything of its own;
// and if it does not come out by any way that could be guessed, the others must do.
constexpr unsigned watch_first = 4;
constexpr unsigned watch_last = 10;
constexpr std::uint32_t watch_least = 100'000;               // until the probe after the first of them; then twice as long each time
constexpr std::size_t stack_wanted = std::size_t{24} << 10;  // of the alternate stack, by our frames and the kernel's

// ThreadSanitizer holds signals back until the next call that it intercepts: a loop that makes none is never interrupted.  boost::context::fiber cannot be put
// aside for a landing.
#if defined(__x86_64__) && !LWP_TSAN && !LWP_PORTABLE_SWITCH
constexpr bool possible = true;
#else
constexpr bool possible = false;
#endif

int signal_used;  // fixed before the monitor runs; 0: no preemption
struct sigaction before;
bool installed;

struct range {
	std::uintptr_t low = 0;
	std::uintptr_t high = 0;
};
range home_stack;  // of the kernel thread that started the runtime, which is LWP 1's; fixed before the handler is installed

void find_home_stack() noexcept {
	static bool of_main = false;  // asked once: the C library reads all of /proc/self/maps for it
	const bool main_thread = ::gettid() == ::getpid();
	if (main_thread && of_main) {
		return;
	}
	of_main = main_thread;
	pthread_attr_t attr;
	home_stack = {};
	if (::pthread_getattr_np(::pthread_self(), &attr) == 0) {
		void *low = nullptr;
		std::size_t size = 0;
		::pthread_attr_getstack(&attr, &low, &size);
		::pthread_attr_destroy(&attr);
		home_stack = {reinterpret_cast<std::uintptr_t>(low), reinterpret_cast<std::uintptr_t>(low) + size};
	}
}

// ---- in the handler ------------------------------------------------------------------------------------------------
//
// Until interrupted() has said so, AddressSanitizer takes its frames for those of whoever was interrupted (context_aside), perhaps in the middle of a switch:
// nothing that has an address may be theirs.

struct machine_state {
	std::uintptr_t pc;
	std::uintptr_t sp;
	const void *registers;
	std::size_t size;
};

machine_state machine_of(const ucontext_t *uc) noexcept {
#if defined(__x86_64__)
	return {static_cast<std::uintptr_t>(uc->uc_mcontext.gregs[REG_RIP]), static_cast<std::uintptr_t>(uc->uc_mcontext.gregs[REG_RSP]),
	    uc->uc_mcontext.gregs, sizeof(uc->uc_mcontext.gregs)};
#else
	(void)uc;
	return {};
#endif
}

constexpr std::size_t red_zone = 128;
constexpr std::size_t vectors = 512;  // FXSAVE's image: a compiler may keep a pointer in a vector register

/// Copies the registers below the frames of the LWP, where whoever looks for pointers on its stack finds them.  Not by memcpy: what is
/// below the stack pointer belongs to nobody, as AddressSanitizer sees it.
__attribute__((no_sanitize("address"))) void copy_out(std::uintptr_t to, const void *from, std::size_t size) noexcept {
	auto *out = reinterpret_cast<volatile std::uint64_t *>(to);
	const auto *in = static_cast<const volatile std::uint64_t *>(from);
	for (std::size_t i = 0; i < size / sizeof(std::uint64_t); i++) {
		out[i] = in[i];
	}
}

range stack_of(const lwp_t *l) noexcept {
	const auto base = reinterpret_cast<std::uintptr_t>(l->l_stack.s_base);
	return l->l_adopted ? home_stack : range{base, base + l->l_stack.s_size};
}

/// Where what the LWP keeps on its stack ends, its registers included; 0: it does not run on its stack, or has no room for them.
std::uintptr_t keep_registers(const lwp_t *l, const machine_state &m, [[maybe_unused]] const ucontext_t *uc) noexcept {
	const std::uintptr_t end = (m.sp - red_zone - m.size - vectors) & ~std::uintptr_t{63};
	const range s = stack_of(l);
	if (m.sp < s.low || m.sp >= s.high || end < s.low || end > m.sp) {
		return 0;
	}
	copy_out(end, m.registers, m.size);
#if defined(__x86_64__)
	if (uc->uc_mcontext.fpregs != nullptr) {
		copy_out(end + m.size, uc->uc_mcontext.fpregs, vectors);
	}
#endif
	return end;
}

/// At its next boundary it looks who else is there, and lets equals go first.
void leave_word(vcpu_t *vc) noexcept {
	vc->vc_expired.store(vc->vc_switches.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);  // relaxed, both: our own
	vcpu_need_resched(vc);
}

// ---- probes: in the handler ----------------------------------------------------------------------------------------

// Its address is what our signals carry.  Only one of them is pending at a time, the monitor's or a probe, and stands for both.
const char mark = 0;

/// Whether the interrupted system call would be interrupted again by a probe: it is about to begin, again or for the first time, or has failed with EINTR.  Of
/// what the C library makes it is known to be mapped there.
bool at_system_call([[maybe_unused]] const ucontext_t *uc, [[maybe_unused]] std::uintptr_t pc) noexcept {
#if defined(__x86_64__)
	const auto is_one = [](std::uintptr_t at) {
		const auto *code = reinterpret_cast<const unsigned char *>(at);
		return !outside(at) && !outside(at + 1) && code[0] == 0x0f && code[1] == 0x05;
	};
	return is_one(pc) || (uc->uc_mcontext.gregs[REG_RAX] == -EINTR && is_one(pc - 2));
#else
	return true;
#endif
}

void set_probe(int timer, std::uint32_t in) noexcept {
	itimerspec t{};
	t.it_value.tv_nsec = static_cast<long>(in);
	(void)sys::call(SYS_timer_settime, timer, 0, reinterpret_cast<long>(&t), 0);
}

/// The LWP is to stand still, and is in the C library: asks again in a moment, or as it comes out.
void probe_soon(vcpu_t *vc, const lwp_t *l, const ucontext_t *uc, const machine_state &m) noexcept {
	const std::uintptr_t pc = m.pc;
	const int timer = vc->vc_prober.load(std::memory_order_acquire);  // pairs with the release in probe_prepare()
	if (timer < 0 || vc->vc_probes == 0 || !outside_is_known()) {
		return;
	}
	const unsigned probe = probes_most - vc->vc_probes--;
	const bool watched = probe >= watch_first && probe < watch_last && outside_watch(vc, signal_used, m.sp, stack_of(l).high);
	if (at_system_call(uc, pc)) {
		return;
	}
	if (watched) {
		// It is left alone meanwhile; but perhaps it does not come out by one of these ways, and then the next probe looks for others.
		set_probe(timer, watch_least << (probe - watch_first));
		return;
	}
	// As soon as the LWP makes any progress at all between two of them.  How long that is depends on the machine: a virtual one may take twenty microseconds
	// for the interrupt alone, and one that is set for earlier comes before the LWP's first instruction.
	const std::uint32_t gap = vc->vc_probe_gap;
	vc->vc_probe_gap = std::clamp(vc->vc_probe_pc == pc ? gap + gap / 2 : gap - gap / 16, probe_least, probe_most);
	vc->vc_probe_pc = pc;
	// And never the same for long: a loop that takes as much would be met in the same place each time.
	const std::uint32_t some = (vc->vc_probes * 2654435761U) >> 22U;  // below 1024
	set_probe(timer, vc->vc_probe_gap + (vc->vc_probe_gap * some >> 11U));
}

/// Whether nothing may be done but leave word.
bool left_alone(const vcpu_t *vc) noexcept {
	const lwp_t *l = vc->vc_curlwp;
	return vc->vc_bound || l == nullptr || (lwp_flags(l) & LW_IDLE) != 0 || l->l_depth != 0 || l->l_nopreempt != 0 || l->l_blocking != 0 ||
	    l->l_biglocks != 0;
}

/// See interrupted().
void take_off(vcpu_t *vc, const ucontext_t *uc, bool turn) noexcept {
	lwp_t *l = vc->vc_curlwp;
	const machine_state m = machine_of(uc);
	const auto alternate = reinterpret_cast<std::uintptr_t>(uc->uc_stack.ss_sp);
	const bool on_alternate = m.sp - alternate < uc->uc_stack.ss_size;
	if ((uc->uc_stack.ss_flags & SS_DISABLE) != 0 || uc->uc_stack.ss_size < stack_wanted || on_alternate) {
		leave_word(vc);
		return;
	}
	const std::uintptr_t end = keep_registers(l, m, uc);
	if (end == 0) {
		leave_word(vc);
		return;
	}
	if (outside_spins(m.pc)) {
		leave_word(vc);
		if (lwp_to_stand_still(l) != 0) {
			probe_soon(vc, l, uc, m);
		}
		return;
	}
	const bool may_stand = outside_or_catches(m.pc, m.sp);
	if (may_stand || lwp_to_stand_still(l) == 0) {
		outside_forget(vc);  // it may stand still for hours
	}
	l->l_depth = 1;
	fence_compiler(std::memory_order_seq_cst);
	if (!lwp_give_way(vc, l, reinterpret_cast<const void *>(end), may_stand, turn)) {
		leave_word(vc);
	}
	fence_compiler(std::memory_order_seq_cst);
	l->l_depth = 0;
	if (!may_stand && lwp_to_stand_still(l) != 0) {
		probe_soon(vc, l, uc, m);
	}
}

/// `turn`: its slice is over, and others may have their turn.
__attribute__((no_sanitize("address"))) void interrupted(vcpu_t *vc, const ucontext_t *uc, bool turn) noexcept {
	if (left_alone(vc)) {
		leave_word(vc);
		return;
	}
	const context_aside here(vc->vc_handler, uc->uc_stack.ss_sp, uc->uc_stack.ss_size);
	take_off(vc, uc, turn);
}

/// A probe: it comes late, perhaps, to an LWP that nobody waits for any more, or to another one.
__attribute__((no_sanitize("address"))) void probed(vcpu_t *vc, const ucontext_t *uc) noexcept {
	const lwp_t *l = vc->vc_curlwp;
	if (!vc->vc_bound && l != nullptr && lwp_to_stand_still(l) != 0) {
		interrupted(vc, uc, false);  // else each of them would cost it its turn
	} else {
		outside_forget(vc);
	}
}

void pass_on(int sig, siginfo_t *info, void *context) noexcept {
	if ((before.sa_flags & SA_SIGINFO) != 0) {
		before.sa_sigaction(sig, info, context);
	} else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
		before.sa_handler(sig);
	} else if (before.sa_handler == SIG_DFL && sig != SIGURG) {
		struct sigaction plain {};
		::sigaction(sig, &plain, nullptr);
		::raise(sig);  // pending until we return
	}
}

__attribute__((no_sanitize("address"))) void handler(int sig, siginfo_t *info, void *context) {
	const int saved = errno;  // the kernel thread's, which is the LWP's now and stays so
	vcpu_t *vc = curcpu_or_null();
	const bool marked = ((info->si_code == SI_QUEUE || info->si_code == SI_TIMER) && info->si_value.sival_ptr == &mark) ||
	    (vc != nullptr && outside_told(vc, info));
	// acquire: pairs with the release in ask(): the landing is there
	if (vc != nullptr && (marked || info->si_code == SI_TKILL) && vc->vc_asked.exchange(false, std::memory_order_acquire)) {
		vc->vc_probes = probes_most;
		interrupted(
		    vc, static_cast<const ucontext_t *>(context), vc->vc_slice_over.load(std::memory_order_relaxed));  // relaxed: said before
	} else if (marked) {
		if (vc != nullptr) {
			probed(vc, static_cast<const ucontext_t *>(context));
		}
	} else {
		pass_on(sig, info, context);
	}
	errno = saved;
}

#if LWP_DEBUG
/// Every public function that takes a lock says first that it is one of the library (in_library).
void depth_watch() noexcept {
	const vcpu_t *vc = curcpu_or_null();
	const lwp_t *l = vc != nullptr && !vc->vc_bound ? vc->vc_curlwp : nullptr;
	LWP_CHECK(l == nullptr || l->l_depth != 0 || (lwp_flags(l) & LW_IDLE) != 0,
	    "a lock of the library is wanted by an LWP that may be interrupted: a public function lacks its in_library");
}
#endif

bool ours(const struct sigaction &action) noexcept { return (action.sa_flags & SA_SIGINFO) != 0 && action.sa_sigaction == handler; }

/// Unless it is asked for by name.  An LWP that is taken off may hold a lock that others wait for in the kernel: somebody must find them there.  And who blocks
/// the signal before the runtime starts wants to take it by sigwait(3) or signalfd(2).
bool harmless() noexcept {
	sigset_t blocked;
	return monitor_finds_out() && ::pthread_sigmask(SIG_BLOCK, nullptr, &blocked) == 0 && ::sigismember(&blocked, SIGURG) == 0;
}

int wanted_signal(bool wanted) noexcept {
	const char *text = std::getenv("LWP_PREEMPT");
	if (text == nullptr || *text == '\0') {
		return wanted && harmless() ? SIGURG : 0;
	}
	if (std::strcmp(text, "on") == 0) {
		return SIGURG;
	}
	char *rest;
	const long number = std::strtol(text, &rest, 10);
	return *rest == '\0' && number > 0 && number <= SIGRTMAX && number != SIGKILL && number != SIGSTOP ? static_cast<int>(number) : 0;
}

// ---- around fork(2) ------------------------------------------------------------------------------------------------

// A signal makes fork(2) begin again, and in a large process it takes longer than a slice: it would never end.
thread_local lwp_t *forks;

void before_fork() noexcept {
	forks = curlwp_or_null();
	if (forks != nullptr) {
		forks->l_nopreempt++;
		outside_forget(forks->l_cpu);
	}
}

void after_fork() noexcept {  // in both; no boundary, because the C library is in the middle of it
	if (lwp_t *l = std::exchange(forks, nullptr); l != nullptr) {
		l->l_nopreempt--;
	}
}

// ---- by the monitor ------------------------------------------------------------------------------------------------

/// The same as leave_word(), from outside.
void leave_word_to(vcpu_t *vc, std::uint64_t switches) noexcept {
	vc->vc_expired.store(switches + 1, std::memory_order_relaxed);  // relaxed: ordered by the next line
	vcpu_need_resched(vc);
}

/// What the handler needs to ask again by itself: the timer of its kernel thread; without one the monitor asks again.
void probe_prepare(vcpu_t *vc) noexcept {
	if (outside_wanted()) {
		monitor_wants_events();
	}
	// relaxed, both: fixed while it runs; a hint.  A filter of system calls may have come since the last time.
	vc->vc_watchable.store(!task_filtered(vc->vc_tid.load(std::memory_order_relaxed)), std::memory_order_relaxed);
	if (vc->vc_prober.load(std::memory_order_relaxed) >= 0) {  // relaxed: our own
		return;
	}
	sigevent event{};
	event.sigev_notify = SIGEV_THREAD_ID;
	event.sigev_signo = signal_used;
	event.sigev_value.sival_ptr = const_cast<char *>(&mark);
	event._sigev_un._tid = vc->vc_tid.load(std::memory_order_relaxed);  // relaxed: fixed while it runs
	int timer = -1;
	if (sys::call(SYS_timer_create, CLOCK_MONOTONIC, reinterpret_cast<long>(&event), reinterpret_cast<long>(&timer)) == 0) {
		vc->vc_prober.store(timer, std::memory_order_release);  // pairs with the acquire in probe_soon()
	}
}

/// Sends the signal.  False: something that its handler needs is not there.
bool ask(vcpu_t *vc, bool acts, bool slice_over) noexcept {
	struct sigaction now {};
	if (::sigaction(signal_used, nullptr, &now) != 0 || !ours(now)) {
		return false;  // the application has the signal for itself
	}
	if (frozen_prepare(vc) != 0) {
		return false;
	}
	if (acts) {
		const unsigned rest = spares.sp_nfree.load(std::memory_order_relaxed);  // relaxed: a hint
		if (rest < 2) {
			monitor_wants_spare();  // one to act, and one in reserve
		}
		if (rest < 2) {
			return false;  // the last one is not for this (spare_hand_over())
		}
	}
	vc->vc_slice_over.store(slice_over, std::memory_order_relaxed);  // relaxed: published by the next line
	vc->vc_asked.store(true, std::memory_order_release);
	const int tid = vc->vc_tid.load(std::memory_order_relaxed);  // relaxed: fixed while it runs
	siginfo_t info{};
	info.si_signo = signal_used;
	info.si_code = SI_QUEUE;
	info.si_value.sival_ptr = const_cast<char *>(&mark);
	if (sys::call(SYS_rt_tgsigqueueinfo, ::getpid(), tid, signal_used, reinterpret_cast<long>(&info)) != 0) {
		(void)sys::call(SYS_tgkill, ::getpid(), tid, signal_used);  // not allowed here, perhaps: then vc_asked says whose it is
	}
	return true;
}

/// How long each vCPU, by its place in sd_all, may go without a switch before it is looked up: longer each time it sleeps in the kernel.
nanotime patience[vcpu_max + spare_max];
constexpr nanotime patience_most = 64 * slice;

/// Until when it need not be looked at.  Everything read here is a hint: the handler asks again.
nanotime look_at(vcpu_t *vc, nanotime &longest, nanotime when) noexcept {
	const vcpu_duty duty = vc->vc_duty.load(std::memory_order_acquire);  // acquire: as in is_off()
	const bool acts = duty == vcpu_duty::acts;
	if (duty == vcpu_duty::rests || vc->vc_frozen.load(std::memory_order_relaxed) ||
	    (acts && vc->vc_halted.load(std::memory_order_relaxed) != vc_running)) {
		vc->vc_unswitched = 0;
		return never;
	}
	const lwp_t *l = __atomic_load_n(&vc->vc_curlwp, __ATOMIC_RELAXED);  // type-stable, whoever it is by now
	if (l == nullptr || (lwp_flags(l) & LW_IDLE) != 0) {
		vc->vc_unswitched = 0;
		return when + slice;
	}
	const bool still = lwp_to_stand_still(l) != 0;
	const std::uint64_t switches = vc->vc_switches.load(std::memory_order_relaxed);  // relaxed: seen sooner or later
	if (vc->vc_unswitched == 0 || vc->vc_seen_switches != switches) {
		vc->vc_unswitched = when;
		vc->vc_seen_switches = switches;
		longest = slice;
	}
	if (!still || vc->vc_unswitched == when) {
		vc->vc_still = when;
	}
	// Who is to stand still has had a whole slice before, perhaps, and was in the C library when it was asked.
	if (const nanotime wait = still && longest == slice ? again_still : longest; when - vc->vc_unswitched < wait) {
		return vc->vc_unswitched + wait;
	}
	if (__atomic_load_n(&l->l_blocking, __ATOMIC_RELAXED) != 0) {
		return when + slice;
	}
	if (acts) {
		// It does not look at its clock or its port, and perhaps nobody else does.
		if (vc->vc_deadline.load(std::memory_order_relaxed) <= when) {
			callout_run(vc, when);
		}
		if (const parker *p = vc->vc_parker.load(std::memory_order_acquire);  // pairs with the release in port_make()
		    p->poll_away != nullptr && vc->vc_pending.load(std::memory_order_relaxed) != 0) {
			p->poll_away(vc, when);
		}
	}
	const bool waited_for = vc->vc_rq.count() != 0 || vc->vc_incount.load(std::memory_order_relaxed) != 0;
	if (!still && acts && !waited_for) {
		return when + slice;
	}
	if (vc->vc_asked.load(std::memory_order_relaxed)) {
		return when + (still ? again : slice);  // blocked by the application, or not yet delivered
	}
	if (__atomic_load_n(&l->l_nopreempt, __ATOMIC_RELAXED) != 0) {
		leave_word_to(vc, switches);  // the handler could do no more, and would disturb a system call: fork(2) begins again
		return when + slice;
	}
	if (task_sleeps(vc->vc_tid.load(std::memory_order_relaxed))) {
		vc->vc_unswitched = when;  // in the kernel: that is look()'s business, and a signal would only disturb it
		longest = std::min(longest * 2, patience_most);
		return when + longest;
	}
	if (still) {
		probe_prepare(vc);
	}
	if (!ask(vc, acts, when - vc->vc_unswitched >= slice)) {
		leave_word_to(vc, switches);
		return when + (still ? again_still : again);
	}
	if (!still) {
		return when + again;
	}
	// Probes slow it down.  If it is in a call of the C library that takes long, they are to come to an end; it may take so much longer than it has taken.
	return when +
	    (vc->vc_prober.load(std::memory_order_relaxed) < 0 ? again_still  // relaxed: our own
	                                                       : std::clamp<nanotime>((when - vc->vc_still) / 8, again, still_most));
}

}  // namespace

void preempt_start(bool wanted) noexcept {
	signal_used = possible ? wanted_signal(wanted) : 0;
	if (signal_used == 0) {
		return;
	}
	find_home_stack();
	static int last;
	struct sigaction now {};
	if (installed && last == signal_used && ::sigaction(last, nullptr, &now) == 0 && ours(now)) {
		return;
	}
#if LWP_DEBUG
	lockrank_watch = depth_watch;
#endif
	outside_start();
	if (LWP_ASAN && !outside_spins_is_known()) {
		signal_used = 0;  // who is interrupted in the run-time cannot be told from others
		return;
	}
	if (static bool registered = false; !std::exchange(registered, true)) {
		(void)::pthread_atfork(before_fork, after_fork, after_fork);
	}
	struct sigaction action {};
	action.sa_sigaction = handler;
	// System calls that may be are restarted.  All signals are held back while the LWP is off: they are for whoever runs.
	action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
	::sigfillset(&action.sa_mask);
	for (const int fault : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGABRT}) {
		::sigdelset(&action.sa_mask, fault);
	}
	if (::sigaction(signal_used, nullptr, &before) != 0 || ours(before) || ::sigaction(signal_used, &action, nullptr) != 0) {
		signal_used = ours(before) ? signal_used : 0;
		return;
	}
	installed = true;
	last = signal_used;
}

void preempt_hurry() noexcept {
	static atomic<nanotime> last{0};
	if (signal_used == 0) {
		return;
	}
	// relaxed, both: a hint.  Who comes too soon after another is seen by the looks that follow that one's, which are as close as that at first.
	if (const nanotime when = now(); when - last.load(std::memory_order_relaxed) >= hurry_least) {
		last.store(when, std::memory_order_relaxed);
		monitor_hurry();
	}
}

void preempt_forget(vcpu_t *vc) noexcept {
	outside_forget(vc);
	const int timer = vc->vc_prober.exchange(-1, std::memory_order_relaxed);  // relaxed: nobody else is there
	if (timer >= 0) {
		(void)sys::call(SYS_timer_delete, timer);
	}
	context_destroy(vc->vc_handler);
}

nanotime preempt_look(nanotime when) noexcept {
	nanotime next = never;
	if (signal_used != 0) {
		for (unsigned i = 0, n = sched.sd_nall.load(std::memory_order_acquire); i < n; i++) {  // acquire: as in sched_each_vcpu()
			next = std::min(next, look_at(sched.sd_all[i], patience[i], when));
		}
	}
	return next;
}

}  // namespace lwp::kern
