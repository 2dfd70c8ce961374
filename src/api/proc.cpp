// SPDX-License-Identifier: BSD-2-Clause
//
// The out-of-line half of lwp::proc.
#include "api/deadline.h"
#include "api/wait_out.h"
#include "proc/lwp_life.h"
#include "proc/runtime.h"
#include "proc/signal.h"

#include <lwp/proc.hpp>

#include <cerrno>
#include <memory>
#include <system_error>

namespace lwp {

using namespace kern;

namespace {

[[noreturn]] void fail(int error, const char *what) { throw std::system_error(error, std::generic_category(), what); }

/// 0 | ECHILD | ETIMEDOUT | ECANCELED
int waited(lwp_t *l, pid_t pid, nanotime deadline, const std::stop_token *stop, int *status) noexcept {
	pid_t which;
	int error = proc_wait1(l, pid, false, never, &which, status);  // first: one that has ended is collected in any case
	if (error == EAGAIN) {
		error = deadline <= now() ? ETIMEDOUT : wait_out(l, deadline, stop, [&] {
			const int e = proc_wait1(l, pid, true, deadline, &which, status);
			return e == EINTR ? ERESTART : e;  // as std's join(), it is not interrupted
		});
	}
	lwp_userret(l);
	return error;
}

}  // namespace

namespace detail {

nascent proc_prepare(const proc_options &options, std::size_t size, std::size_t align) {
	attributes first = options.first;
	first.detached = false;
	const nascent n = thread_prepare(first, size, align);
	const in_library l;
	proc_t *p;
	if (int error = proc_make(l, options.max_lwps, &p)) {
		lwp_abandon(static_cast<lwp_t *>(n.lwp));
		proc_failed(error);
	}
	lwp_into(p, static_cast<lwp_t *>(n.lwp));
	return n;
}

void proc_abandon(const nascent &n) noexcept {
	const in_library l;
	auto *first = static_cast<lwp_t *>(n.lwp);
	proc_unmake(first->l_proc, l->l_cpu);
	lwp_abandon(first);
}

pid_t proc_launch(const nascent &n, void (*run)(void *)) noexcept {
	const in_library l;
	auto *first = static_cast<lwp_t *>(n.lwp);
	const pid_t pid = proc_pid(first->l_proc);  // once it runs it may end, and be collected by another
	lwpid_t lid;
	if (int error = lwp_start(l, first, run, n.payload, false, &lid)) {
		return -error;
	}
	lwp_userret(l);
	return pid;
}

void proc_failed(int error) { fail(error, "lwp::proc"); }

}  // namespace detail

proc &proc::operator=(proc &&other) noexcept {
	if (this != &other) {
		end();
		pid_ = std::exchange(other.pid_, 0);
		status_ = other.status_;
	}
	return *this;
}

std::optional<exit_status> proc::wait_until_steady(detail::steady_time deadline, const std::stop_token *stop) {
	if (pid_ < 0) {
		return status_;
	}
	int status = 0;
	const int error = pid_ == 0 ? ECHILD : waited(in_library(), pid_, to_nanotime(deadline), stop, &status);
	if (error == ETIMEDOUT || error == ECANCELED) {
		return std::nullopt;
	}
	if (error != 0) {
		fail(error, "lwp::proc::wait");
	}
	pid_ = -1;
	status_ = exit_status(status);
	return status_;
}

std::optional<exit_status> proc::try_wait() { return wait_until_steady(detail::steady_time::min(), nullptr); }

void proc::kill(int signal) {
	const in_library l;
	int error;
	do {
		error = pid_ > 0 ? proc_signal(l, pid_, signal) : ESRCH;
		lwp_userret(l);
	} while (error == ERESTART);
	if (error != 0) {
		fail(error, "lwp::proc::kill");
	}
}

bool proc::stopped() const noexcept {
	const in_library l;
	return pid_ > 0 && proc_stopped_by_number(l, pid_) == 1;
}

void proc::detach() {
	const in_library l;
	const int error = pid_ > 0 ? proc_detach(l, pid_) : ECHILD;
	lwp_userret(l);
	if (error != 0) {
		fail(error, "lwp::proc::detach");
	}
	pid_ = 0;
}

void proc::end() noexcept {
	if (pid_ <= 0) {
		return;
	}
	const in_library l;
	pid_t which;
	int status;
	// A static object, in exit(): by an LWP of another proc than its parent there is nothing to be done; and when the process ends in order those that could
	// not end stand still for good.
	if (proc_wait1(l, pid_, false, never, &which, &status) == EAGAIN && !proc_exiting(&proc0, l->l_cpu)) {
		(void)proc_signal(l, pid_, SIGKILL);
		(void)waited(l, pid_, never, nullptr, &status);
	}
	pid_ = 0;
}

}  // namespace lwp
