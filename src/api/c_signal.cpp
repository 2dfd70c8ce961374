// SPDX-License-Identifier: BSD-2-Clause
//
// The C calls on signals: arguments, results and errno.  The work is done in proc/signal.cpp.
#include "api/errno.h"
#include "api/restart.h"
#include "proc/runtime.h"
#include "proc/signal.h"

#include <lwp/signal.h>

using namespace lwp::kern;

extern "C" {

int lwp_sigaction(int sig, const struct sigaction *act, struct sigaction *old) {
	const in_library l;
	const int error = signal_action(l, sig, act, old);
	lwp_userret(l);
	return c_result(error);
}

int lwp_sigprocmask(int how, const sigset_t *set, sigset_t *old) {
	const in_library l;
	const sigbits wanted = set != nullptr ? sigbits_of(*set) : 0;
	sigbits before = 0;
	const int error = signal_mask(l, how, set != nullptr ? &wanted : nullptr, &before);
	if (error == 0 && old != nullptr) {
		*old = sigset_of(before);
	}
	lwp_userret(l);
	return c_result(error);
}

int lwp_sigpending(sigset_t *set) {
	const in_library l;
	if (set == nullptr) {
		return c_result(EINVAL);
	}
	*set = sigset_of(signal_pending(l));
	lwp_userret(l);
	return 0;
}

int lwp_proc_kill(int sig) {
	const in_library l;
	if (sig != 0 && !signal_valid(sig)) {
		return c_result(EINVAL);
	}
	if (sig != 0) {
		signal_send_proc(l->l_proc, sig, l->l_cpu);
	}
	lwp_userret(l);
	return 0;
}

int lwp_sigwait(const sigset_t *set, int *sig) {
	const in_library l;
	if (set == nullptr || sig == nullptr) {
		return EINVAL;
	}
	return restarted(l, [&] { return signal_wait(l, sigbits_of(*set), never, sig); });
}

int lwp_sigtimedwait(const sigset_t *set, siginfo_t *info, const struct timespec *timeout) {
	const in_library l;
	nanotime deadline = never;
	if (set == nullptr || (timeout != nullptr && deadline_of(CLOCK_MONOTONIC, 0, *timeout, &deadline) != 0)) {
		return c_result(EINVAL);
	}
	int sig = 0;
	if (int error = restarted(l, [&] { return signal_wait(l, sigbits_of(*set), deadline, &sig); })) {
		return c_result(error);
	}
	if (info != nullptr) {
		*info = siginfo_t{};
		info->si_signo = sig;
		info->si_code = SI_USER;
	}
	return sig;
}

int lwp_sigsuspend(const sigset_t *mask) {
	const in_library l;
	const int error = mask != nullptr ? signal_suspend(l, sigbits_of(*mask)) : EINVAL;
	lwp_userret(l);
	return c_result(error);
}

}  // extern "C"
