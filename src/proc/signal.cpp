// SPDX-License-Identifier: BSD-2-Clause
//
// The argument that none is lost.  LW_PENDSIG in an LWP says that it has to look.  It is set in the same section (pp_lock of its part, and its
// lock) in which a signal that it does not mask becomes pending, or its mask is opened; it is cleared in one in which there is nothing to take.
// A signal of the proc becomes pending under all locks, in which everybody who may take it is told or, asleep, one of them.  The one that is
// kicked cannot sleep again before it has looked; it hands on by signal_repost() when it masks the signal or ends instead.
#include "proc/signal.h"

#include "base/assert.h"
#include "proc/lwp_life.h"
#include "sched/idle.h"

#include <bit>
#include <cerrno>
#include <cstring>
#include <unistd.h>

namespace lwp::kern {
namespace {

// What a signal does that nobody has said anything about.
enum class deed : std::uint8_t { end, snapshot, ignore, stop, go_on };

constexpr sigbits of(std::initializer_list<int> sigs) noexcept {
	sigbits all = 0;
	for (int sig : sigs) {
		all |= sigbit(sig);
	}
	return all;
}
constexpr sigbits that_stop = of({SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU});
constexpr sigbits that_are_ignored = of({SIGCHLD, SIGURG, SIGWINCH});
constexpr sigbits that_snapshot = of({SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGSYS, SIGXCPU, SIGXFSZ});
constexpr sigbits cannot_be_caught = of({SIGKILL, SIGSTOP});
/// The program's own faults: of the OS they are for the instruction that made them, at once.
constexpr sigbits faults = of({SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGABRT, SIGSYS});

deed deed_of(int sig) noexcept {
	const sigbits b = sigbit(sig);
	return (b & that_stop) != 0       ? deed::stop
	    : sig == SIGCONT              ? deed::go_on
	    : (b & that_are_ignored) != 0 ? deed::ignore
	    : (b & that_snapshot) != 0    ? deed::snapshot
	                                  : deed::end;
}

atomic<sigbits> from_os{0};               // a: noted by the handler, posted by a vCPU
sigbits taken_over;                       // P: signals whose OS action we have replaced
sigbits caught;                           // P: of these, by os_signal()
struct sigaction os_before[signals + 1];  // P: what it was before
const syncobj sigwait_syncobj = {"signal"};

bool is_default(const proc_t *p, int sig) noexcept { return p->p_sigacts[sig].act_handler == SIG_DFL; }

/// Nothing would happen.
bool is_ignored(const proc_t *p, int sig) noexcept {
	return p->p_sigacts[sig].act_handler == SIG_IGN ||
	    (is_default(p, sig) && (deed_of(sig) == deed::ignore || deed_of(sig) == deed::go_on));
}

sigact sigact_of(const struct sigaction &act) noexcept { return {act.sa_handler, sigbits_of(act.sa_mask), act.sa_flags}; }

struct sigaction sigaction_of(const sigact &act) noexcept {
	struct sigaction out {};
	out.sa_handler = act.act_handler;
	out.sa_mask = sigset_of(act.act_mask);
	out.sa_flags = act.act_flags;
	return out;
}

int lowest(sigbits set) noexcept { return std::countr_zero(set) + 1; }

// ---- the OS ------------------------------------------------------------------------------------------------------

/// Entry of the handler: on whatever kernel thread, in the middle of anything.
void os_signal(int sig) noexcept {
	from_os.fetch_or(sigbit(sig), std::memory_order_relaxed);  // relaxed: sched_ask() releases
	sched_ask(sched.sd_signalled);
}

/// By a vCPU without locks.
void os_signals(vcpu_t *vc) noexcept {
	for (sigbits got = from_os.exchange(0, std::memory_order_relaxed); got != 0; got &= got - 1) {  // relaxed: sd_signalled was acquired
		signal_send_proc(&proc0, lowest(got), vc);
	}
}

/// What the OS does with it from now on: os_signal() or SIG_IGN.  All locks held.
void take_over(int sig, void (*how)(int)) noexcept {
	const sigbits b = sigbit(sig);
	if ((b & (faults | cannot_be_caught)) != 0) {
		return;
	}
	struct sigaction ours {};
	ours.sa_handler = how;
	ours.sa_flags = SA_RESTART | SA_ONSTACK;  // system calls of kernel threads are not disturbed; the stacks of LWPs may be small
	::sigfillset(&ours.sa_mask);
	sched.sd_signals = os_signals;
	struct sigaction before {};
	if (::sigaction(sig, &ours, &before) != 0) {
		return;  // one that the C library keeps for itself
	}
	if ((taken_over & b) == 0) {
		os_before[sig] = before;
	}
	taken_over |= b;
	caught = how == os_signal ? caught | b : caught & ~b;
}

/// The same for one that an LWP waits for, unless the application has a handler of its own.
void take_over_to_wait(int sig) noexcept {
	struct sigaction now {};
	if ((caught & sigbit(sig)) == 0 && ::sigaction(sig, nullptr, &now) == 0 && (now.sa_handler == SIG_DFL || now.sa_handler == SIG_IGN)) {
		take_over(sig, os_signal);
	}
}

void give_back(int sig) noexcept {
	if ((taken_over & sigbit(sig)) != 0) {
		::sigaction(sig, &os_before[sig], nullptr);
		taken_over &= ~sigbit(sig);
		caught &= ~sigbit(sig);
	}
}

// ---- sending -----------------------------------------------------------------------------------------------------

/// It waits for this signal and gets it.  Lock of its part held.
void give(lwp_t *t, int sig, vcpu_t *me) noexcept {
	t->l_sigwait = 0;
	t->l_sigwaited = sig;
	// It let go of pp_lock with its own lock held: so it sleeps, or is awake for good and will look under pp_lock.
	spinlock *lock = lwp_lock(t, me);
	if (lwp_asleep(t) && t->l_wchan == &t->l_sigwait) {
		sleepq_unsleep_and_unlock(t, lock, 0);
	} else {
		lock->unlock(me);
	}
}

bool takes_none(const lwp_t *t) noexcept {
	const lwp_stat s = lwp_state(t);
	return s == lwp_stat::zomb || s == lwp_stat::idl || (t->l_prflag & LPR_DRAINING) != 0;
}

/// Finds somebody for one that is pending for the proc.  All locks held.
void choose(proc_t *p, int sig, const part_hold &hold, vcpu_t *me) noexcept {
	lwp_t *waiter = nullptr;
	lwp_t *sleeper = nullptr;
	proc_each_lwp(p, [&](lwp_t *t) {
		if (waiter != nullptr || takes_none(t)) {
			return;
		}
		if ((t->l_sigwait & sigbit(sig)) != 0) {
			waiter = t;
		}
		if ((t->l_sigmask & sigbit(sig)) != 0 || is_ignored(p, sig)) {
			return;
		}
		spinlock *lock = lwp_lock(t, me);
		if (lwp_state(t) != lwp_stat::sleep) {
			lwp_flag_set(t, LW_PENDSIG);
		} else if (sleeper == nullptr && (lwp_flags(t) & LW_SINTR) != 0) {
			sleeper = t;
		}
		lock->unlock(me);
	});
	if (waiter != nullptr || is_ignored(p, sig)) {
		p->p_sigpend.fetch_and(~sigbit(sig), std::memory_order_relaxed);  // relaxed: under all locks
	}
	if (waiter != nullptr) {
		give(waiter, sig, me);
	} else if (sleeper != nullptr) {
		(void)lwp_post(p, sleeper, lwp_lock(sleeper, me), hold, LW_PENDSIG, ERESTART, me);  // all locks are held: it does not ask for more
	}
}

/// A stop signal undoes a SIGCONT that nobody has taken, and the other way round.  All locks held.
void drop_pending(proc_t *p, sigbits set) noexcept {
	p->p_sigpend.fetch_and(~set, std::memory_order_relaxed);  // relaxed: under all locks
	proc_each_lwp(p, [set](lwp_t *t) { t->l_sigpend &= ~set; });
}

/// The proc ends by a signal, but not proc0.  No lock held.
void end_proc(proc_t *p, int sig, vcpu_t *me) noexcept {
	part_hold hold(p, proc0_parts, me);
	hold.widen(me);
	proc_make_end(p, sig, hold, me);
	hold.unlock(me);
}

/// What has to be done at once, whatever the masks are.  No lock held.  True: nothing is left to do.
bool job_control(proc_t *p, lwp_t *l, int sig, vcpu_t *me) noexcept {
	if (sig == SIGKILL && p == &proc0) {
		proc_die(l, sig, false);
	}
	if (sig == SIGKILL) {
		end_proc(p, sig, me);
		return true;
	}
	if ((sigbit(sig) & (that_stop | sigbit(SIGCONT))) == 0) {
		return false;
	}
	{
		const proc_scope hold(p, me);
		drop_pending(p, sig == SIGCONT ? that_stop : sigbit(SIGCONT));
	}
	if (sig == SIGCONT) {
		proc_continue(p, me);
	} else if (sig == SIGSTOP) {
		proc_stop(p, me);
		return true;
	}
	return false;
}

/// One to take, or 0.  Lock of its part held.
int take(proc_t *p, lwp_t *l, sigbits among) noexcept {
	if (const sigbits own = l->l_sigpend & among; own != 0) {
		l->l_sigpend &= ~(own & -own);
		return lowest(own);
	}
	for (sigbits set; (set = p->p_sigpend.load(std::memory_order_relaxed) & among) != 0;) {  // relaxed: the exchange decides
		const sigbits b = set & -set;
		// Others take under the lock of another part.  relaxed: what goes with it is under pp_lock
		if ((p->p_sigpend.fetch_and(~b, std::memory_order_relaxed) & b) != 0) {
			return lowest(b);
		}
	}
	return 0;
}

/// Says in LW_PENDSIG whether there is something to take.  Lock of its part held; by the LWP itself.
void look_again(proc_t *p, lwp_t *l, vcpu_t *me) noexcept {
	const bool some = ((l->l_sigpend | p->p_sigpend.load(std::memory_order_relaxed)) & ~l->l_sigmask) != 0;
	spinlock *lock = lwp_lock(l, me);
	some ? lwp_flag_set(l, LW_PENDSIG) : lwp_flag_clear(l, LW_PENDSIG);
	lock->unlock(me);
}

// ---- taking ------------------------------------------------------------------------------------------------------

void call_handler(const sigact &act, int sig, bool own) noexcept {
	if ((act.act_flags & SA_SIGINFO) == 0) {
		act.act_handler(sig);
		return;
	}
	siginfo_t info{};
	info.si_signo = sig;
	info.si_code = own ? SI_TKILL : SI_USER;
	info.si_pid = ::getpid();
	info.si_uid = ::getuid();
	sigaction_of(act).sa_sigaction(sig, &info, nullptr);
}

void by_default(lwp_t *l, int sig) noexcept {
	switch (deed_of(sig)) {
	case deed::stop:
		proc_stop(l->l_proc, l->l_cpu);
		return;
	case deed::ignore:
	case deed::go_on:
		return;
	case deed::end:
	case deed::snapshot:
		if (l->l_proc != &proc0) {
			end_proc(l->l_proc, sig, l->l_cpu);  // and we with it, at this boundary
			return;
		}
		proc_die(l, sig, deed_of(sig) == deed::snapshot);
	}
}

}  // namespace

// The host's sigset_t begins with one word for the signals 1 to 64.
sigbits sigbits_of(const sigset_t &set) noexcept {
	sigbits b;
	std::memcpy(&b, &set, sizeof b);
	return b;
}

sigset_t sigset_of(sigbits b) noexcept {
	sigset_t set;
	::sigemptyset(&set);
	std::memcpy(&set, &b, sizeof b);
	return set;
}

int signal_send(lwp_t *l, lwpid_t lid, int sig) noexcept {
	if (sig < 0 || sig > signals) {
		return EINVAL;
	}
	proc_t *p = l->l_proc;
	{
		lock_scope hold(proc_part(p, lid)->pp_lock, l->l_cpu);
		if (lwp_find(p, lid) == nullptr) {
			return ESRCH;
		}
	}
	if (sig == 0 || job_control(p, l, sig, l->l_cpu)) {
		return 0;
	}
	vcpu_t *me = l->l_cpu;
	part_hold hold(p, proc_part(p, lid), me);
	int error = ESRCH;
	while (lwp_t *t = lwp_find(p, lid)) {
		error = 0;
		if ((t->l_sigwait & sigbit(sig)) != 0) {
			give(t, sig, me);
			break;
		}
		if (is_ignored(p, sig)) {
			break;
		}
		t->l_sigpend |= sigbit(sig);
		if ((t->l_sigmask & sigbit(sig)) != 0 || lwp_post(p, t, lwp_lock(t, me), hold, LW_PENDSIG, ERESTART, me)) {
			break;
		}
		hold.widen(me);
	}
	hold.unlock(me);
	return error;
}

void signal_send_proc(proc_t *p, int sig, vcpu_t *me) noexcept {
	if (job_control(p, me->vc_curlwp, sig, me)) {
		return;
	}
	part_hold hold(p, proc0_parts, me);
	hold.widen(me);
	p->p_sigpend.fetch_or(sigbit(sig), std::memory_order_relaxed);  // relaxed: under all locks
	choose(p, sig, hold, me);
	hold.unlock(me);
}

void signal_child_ended(proc_t *p, const part_hold &hold, vcpu_t *me) noexcept {
	if (p->p_stat != proc_stat::active || is_ignored(p, SIGCHLD)) {
		return;
	}
	p->p_sigpend.fetch_or(sigbit(SIGCHLD), std::memory_order_relaxed);  // relaxed: under all locks
	choose(p, SIGCHLD, hold, me);
}

void signal_repost(proc_t *p, vcpu_t *me) noexcept {
	if (p->p_sigpend.load(std::memory_order_relaxed) == 0) {  // relaxed: the caller had to look after one that it saw
		return;
	}
	part_hold hold(p, proc0_parts, me);
	hold.widen(me);
	for (sigbits set = p->p_sigpend.load(std::memory_order_relaxed); set != 0; set &= set - 1) {
		choose(p, lowest(set), hold, me);
	}
	hold.unlock(me);
}

void signal_deliver(lwp_t *l) noexcept {
	proc_t *p = l->l_proc;
	procpart *pp = l->l_part;
	for (;;) {
		vcpu_t *me = l->l_cpu;
		pp->pp_lock.lock(me);
		const sigbits own = l->l_sigpend;
		const int sig = (lwp_flags(l) & (LW_WSTOP | LW_WEXIT)) == 0 ? take(p, l, ~l->l_sigmask) : 0;
		if (sig == 0) {
			look_again(p, l, me);
			pp->pp_lock.unlock(me);
			return;
		}
		const sigact act = p->p_sigacts[sig];
		const sigbits mask = l->l_sigmask;
		const bool handled = act.act_handler != SIG_DFL && act.act_handler != SIG_IGN;
		if (handled) {
			l->l_sigmask = mask | act.act_mask | ((act.act_flags & SA_NODEFER) == 0 ? sigbit(sig) : 0);
			l->l_sigmask &= ~cannot_be_caught;
			p->p_siglwp.store(lwp_lid(l), std::memory_order_relaxed);  // relaxed: whoever asks has all pp_locks
			look_again(p, l, me);  // what stays for others is no reason to interrupt the handler's sleeps
		}
		pp->pp_lock.unlock(me);
		if (!handled) {
			if (act.act_handler == SIG_DFL) {
				by_default(l, sig);
			}
			continue;
		}
		if ((act.act_flags & static_cast<int>(SA_RESETHAND)) != 0) {
			const struct sigaction plain {};
			(void)signal_action(l, sig, &plain, nullptr);
		}
		const bool interrupted = l->l_interrupted;  // calls that the handler makes begin with false
		{
			const nested_call nested(l);
			const outside_library out(l);
			call_handler(act, sig, (own & sigbit(sig)) != 0);
		}
		l->l_handled++;
		l->l_interrupted = interrupted || (act.act_flags & SA_RESTART) == 0;
		(void)signal_mask(l, SIG_SETMASK, &mask, nullptr);
	}
}

int signal_action(lwp_t *l, int sig, const struct sigaction *act, struct sigaction *old) noexcept {
	if (!signal_valid(sig) || (act != nullptr && (sigbit(sig) & cannot_be_caught) != 0)) {
		return EINVAL;
	}
	proc_t *p = l->l_proc;
	const proc_scope hold(p, l->l_cpu);
	if (old != nullptr) {
		*old = sigaction_of(p->p_sigacts[sig]);
	}
	if (act == nullptr) {
		return 0;
	}
	p->p_sigacts[sig] = sigact_of(*act);
	if (p != &proc0) {
		// The OS's signals are for proc0.
	} else if (act->sa_handler == SIG_DFL) {
		give_back(sig);
	} else {
		take_over(sig, act->sa_handler == SIG_IGN ? SIG_IGN : os_signal);
	}
	if (is_ignored(p, sig)) {
		drop_pending(p, sigbit(sig));
	}
	return 0;
}

int signal_mask(lwp_t *l, int how, const sigbits *set, sigbits *old) noexcept {
	proc_t *p = l->l_proc;
	vcpu_t *me = l->l_cpu;
	sigbits closed;
	{
		lock_scope hold(l->l_part->pp_lock, me);
		const sigbits before = l->l_sigmask;
		if (old != nullptr) {
			*old = before;
		}
		if (set == nullptr) {
			return 0;
		}
		switch (how) {
		case SIG_BLOCK:
			l->l_sigmask = before | *set;
			break;
		case SIG_UNBLOCK:
			l->l_sigmask = before & ~*set;
			break;
		case SIG_SETMASK:
			l->l_sigmask = *set;
			break;
		default:
			return EINVAL;
		}
		l->l_sigmask &= ~cannot_be_caught;
		closed = l->l_sigmask & ~before;
		look_again(p, l, me);
	}
	if (LWP_UNLIKELY(
	        (p->p_sigpend.load(std::memory_order_relaxed) & closed) != 0)) {  // relaxed: it was sent before we closed, under our lock
		signal_repost(p, me);
	}
	return 0;
}

sigbits signal_pending(lwp_t *l) noexcept {
	lock_scope hold(l->l_part->pp_lock, l->l_cpu);
	return l->l_sigpend | l->l_proc->p_sigpend.load(std::memory_order_relaxed);  // relaxed: set under all locks
}

int signal_wait(lwp_t *l, sigbits set, nanotime deadline, int *sig) noexcept {
	proc_t *p = l->l_proc;
	procpart *pp = l->l_part;
	set &= ~cannot_be_caught;
	{
		const proc_scope hold(p, l->l_cpu);
		for (sigbits left = p == &proc0 ? set & ~(caught | faults) : 0; left != 0; left &= left - 1) {
			take_over_to_wait(lowest(left));
		}
	}
	pp->pp_lock.lock(l->l_cpu);
	int error = 0;
	*sig = take(p, l, set);
	if (*sig == 0 && deadline <= now()) {
		error = EAGAIN;
	} else if (*sig == 0) {
		l->l_sigwait = set;
		spinlock *lock = sleepq_enter_self(l);
		error = sleepq_block_self_and_unlock(l, lock,
		    {.wchan = &l->l_sigwait,
		        .wmesg = "sigwait",
		        .sobj = &sigwait_syncobj,
		        .interruptible = sleep_catch::yes,
		        .deadline = deadline,
		        .token = 0,
		        .interlock = &pp->pp_lock});
		pp->pp_lock.lock(l->l_cpu);
		l->l_sigwait = 0;
		*sig = l->l_sigwaited;
		l->l_sigwaited = 0;
		error = *sig != 0 ? 0 : error == ETIMEDOUT ? EAGAIN : error == EINTR ? EINTR : ERESTART;
	}
	look_again(p, l, l->l_cpu);  // we may have taken what the flag was for
	pp->pp_lock.unlock(l->l_cpu);
	return error;
}

int signal_suspend(lwp_t *l, sigbits mask) noexcept {
	sigbits before;
	(void)signal_mask(l, SIG_SETMASK, &mask, &before);
	const std::uint32_t handled = l->l_handled;
	int error = 0;
	while (l->l_handled == handled && error != EINTR) {
		spinlock *lock = sleepq_enter_self(l);
		// A signal that came before finds LW_PENDSIG, under the lock that is taken on the way to sleep.
		error = sleepq_block_self_and_unlock(l, lock, {&l->l_sigpend, "pause", &sigwait_syncobj, sleep_catch::yes});
		lwp_userret(l);
	}
	(void)signal_mask(l, SIG_SETMASK, &before, nullptr);
	return EINTR;
}

}  // namespace lwp::kern
