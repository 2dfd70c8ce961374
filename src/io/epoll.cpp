// SPDX-License-Identifier: BSD-2-Clause
//
// The port as an epoll instance.  An operation is tried without blocking; if it would block, its descriptor is armed for one event
// (EPOLLONESHOT) and it is tried again after that.
//
// Armed anew for each wait, since then nothing must be remembered about a descriptor, and nothing can be wrong about it: not when its
// number names another file, closed by whomever, nor when a duplicate keeps the old file registered under the old number.  What such a
// leftover costs is one attempt in vain.  It is armed level-triggered, so nothing is lost between the attempt and the arming.
//
// One instance for each vCPU: its LWPs wait there, and events wake LWPs where they ran.
//
// An attempt in vain costs as much as the arming.  So where a receive had to wait, and then left room in its buffer, the next few are armed at once:
// they would probably find nothing.  If there is something the event comes at once.  If the descriptor has become nonblocking since, the port finds out
// as it does for a ring.
//
// What epoll cannot wait for (files) goes to the helper threads, unless the page cache has it at once.
#include "base/assert.h"
#include "base/sys.h"
#include "io/descriptor.h"
#include "io/direct.h"
#include "io/helper.h"
#include "io/port.h"
#include "sched/switch.h"

#include <algorithm>
#include <cerrno>
#include <iterator>

namespace lwp::kern {
namespace {

constexpr std::uint64_t wake_data = UINT64_MAX;
constexpr nanotime look_apart = 20'000;  // so long may LWPs whose operations succeed at once keep the kernel's events waiting

constexpr unsigned early_most = 15;  // so many receives are not tried, after one that was in vain

enum class verdict { over, wait, help };

bool over(io_op *op, long result) noexcept {
	op->o_result = result < 0 && op->o_before != 0 ? static_cast<long>(op->o_before) : result + static_cast<long>(op->o_before);
	return true;
}

bool is_file(const io_op *op) noexcept { return op->o_fd >= 0 && !io_of_socket(op->o_kind) && io_pollable(op->o_fd) == 0; }

/// A read of a file that got what the page cache had.  True: the rest is to be read.
bool short_of(io_op *op, long result) noexcept {
	if (op->o_kind != io_kind::read || result <= 0 || static_cast<std::size_t>(result) >= op->o_len || !is_file(op)) {
		return false;
	}
	const auto n = static_cast<std::size_t>(result);
	op->o_before += n;
	op->o_addr = static_cast<char *>(op->o_addr) + n;
	op->o_len -= n;
	if (op->o_off != io_here) {
		op->o_off += result;
	}
	return true;
}

bool plain_receive(const io_op *op) noexcept { return op->o_kind == io_kind::recv && op->o_flags == 0 && op->o_len != 0; }

/// A receive that is probably too early.
bool too_early(io_op *op) noexcept {
	op->o_unsure = plain_receive(op) && descriptor_take_early(op->o_fd);
	return op->o_unsure;
}

/// What a receive that got `result` says about the next ones.
void received(const io_op *op, long result, bool first) noexcept {
	if (result <= 0 || static_cast<std::size_t>(result) >= op->o_len) {
		descriptor_set_early(op->o_fd, 0);  // there may be more
	} else if (!first && !op->o_unsure) {
		descriptor_set_early(op->o_fd, early_most);
	}
}

/// One attempt.  `first`: nothing has been waited for yet.
verdict attempt(io_op *op, bool first) noexcept {
	if (op->o_kind == io_kind::connect && !first) {
		pollfd p{op->o_fd, POLLOUT, 0};
		const timespec zero{};
		if (sys::call(SYS_ppoll, reinterpret_cast<long>(&p), 1, reinterpret_cast<long>(&zero), 0, 8) == 0) {
			return verdict::wait;
		}
		over(op, io_connected(op->o_fd));
		return verdict::over;
	}
	if ((op->o_kind == io_kind::readv || op->o_kind == io_kind::writev) && first && is_file(op)) {
		return verdict::help;  // it would take what is there and not say that there is more
	}
	if (first && op->o_seekable && !op->o_cached) {
		return verdict::help;  // O_DIRECT: the attempt would wait for the device
	}
	long result;
	do {
		result = io_try(op);
	} while (short_of(op, result));
	if (result == -EOPNOTSUPP) {
		return op->o_fd < 0 || op->o_kind == io_kind::fsync || is_file(op) ? verdict::help : (over(op, result), verdict::over);
	}
	// A connect that is refused so is not under way (no port is left): the socket would be writable, and without an error.  AF_UNIX does not come here.
	const bool none_left = result == -EAGAIN && op->o_kind == io_kind::connect;
	if ((result != -EAGAIN && result != -EINPROGRESS) || none_left) {
		if (plain_receive(op)) {
			received(op, result, first);
		}
		over(op, result);
		return verdict::over;
	}
	if (is_file(op)) {
		return verdict::help;
	}
	if (first && io_no_wait(op)) {
		over(op, result);
		return verdict::over;
	}
	return verdict::wait;
}

/// Has the kernel report the next event on `fd` that somebody at `p` waits for, or `more`.  0 or -errno
long arm(const port *p, int fd, int more) noexcept {
	epoll_event event{};
	event.events = static_cast<std::uint32_t>(static_cast<unsigned short>(descriptor_wanted(fd, p) | more)) | EPOLLONESHOT;
	event.data.u64 = static_cast<std::uint64_t>(fd);
	long error = sys::call(SYS_epoll_ctl, p->po_epoll, EPOLL_CTL_MOD, fd, reinterpret_cast<long>(&event));
	if (error == -ENOENT) {
		error = sys::call(SYS_epoll_ctl, p->po_epoll, EPOLL_CTL_ADD, fd, reinterpret_cast<long>(&event));
	}
	return error;
}

/// Tries, and waits if it must.  True: over.
bool advance(lwp_t *l, io_op *op, bool first) noexcept {
	for (;;) {
		const verdict v = first && too_early(op) ? verdict::wait : attempt(op, first);
		if (v == verdict::over) {
			return true;
		}
		int error;
		port *p = port_here(l->l_cpu, &error);
		if (p == nullptr) {
			return over(op, -error);
		}
		if (v == verdict::help) {
			op->o_endless = op->o_kind == io_kind::openat && io_waits_for_other_end(op);
			return !helper_begin(p, op);
		}
		if (p->po_backend != &epoll_backend) {
			return !p->po_backend->b_begin(l, op);  // it has moved to a vCPU with a ring
		}
		long failed;
		{
			lock_scope hold(p->po_use, l->l_cpu);  // an event that comes at once finds the operation pending
			failed = arm(p, op->o_fd, op->o_kind == io_kind::poll ? op->o_flags : io_events(op->o_kind));
			if (failed >= 0) {
				port_began(p, op);
				return false;
			}
		}
		return failed == -EPERM ? !helper_begin(p, op) : over(op, failed);
	}
}

/// LWPs that find something whenever they ask never make the vCPU idle, so it would look in the rhythm of LWPs that compute.
void look(port *p) noexcept {
	lock_scope hold(p->po_use, p->po_vcpu);
	const nanotime when = now();
	if (p->po_backend == &epoll_backend && when > p->po_asked_kernel && when - p->po_asked_kernel >= look_apart) {
		(void)epoll_backend.b_poll(p, true);
		p->po_asked_kernel = when;
	}
}

bool epoll_begin(lwp_t *l, io_op *op) {
	if (!advance(l, op, true)) {
		return true;
	}
	auto *p = static_cast<port *>(l->l_cpu->vc_port.load(std::memory_order_relaxed));
	if (p != nullptr && LWP_UNLIKELY(port_turn_over(p, op))) {
		p->po_turn_began = cycles();  // if nobody else wants to run, a new turn
		look(p);
		lwp_yield_cpu(l);
	}
	return false;
}

bool epoll_again(lwp_t *l, io_op *op) {
	if (op->o_helped) {
		return over(op, op->o_result);
	}
	if (op->o_result < 0) {
		if (op->o_unsure) {
			descriptor_set_early(op->o_fd, 0);  // it may have been found nonblocking
		}
		return over(op, op->o_result);
	}
	return advance(l, op, false);
}

bool epoll_end(port *p, io_op *op) {
	if (!op->o_helped) {
		port_complete(p, op, -ECANCELED);
	}
	return true;
}

void event(port *p, const epoll_event &e) noexcept {
	if (e.data.u64 == wake_data) {
		return;
	}
	const int fd = static_cast<int>(e.data.u64);
	while (io_op *op = descriptor_ready(fd, p, e.events)) {
		port_complete(p, op, 0);
	}
	if (descriptor_wanted(fd, p) != 0 && arm(p, fd, 0) < 0) {
		// The number names nothing that can be waited for: let them find out by themselves.
		while (io_op *op = descriptor_ready(fd, p, ~0U)) {
			port_complete(p, op, 0);
		}
	}
}

bool epoll_poll(port *p, bool ask) {
	ask = ask && p->po_nevents == 0 && p->po_vcpu->vc_pending != 0;
	if (ask) {
		const long n = sys::call(SYS_epoll_pwait, p->po_epoll, reinterpret_cast<long>(p->po_events), std::ssize(p->po_events), 0, 0, 8);
		p->po_nevents = static_cast<int>(std::max(n, 0L));
	}
	for (int i = 0; i < p->po_nevents; i++) {
		event(p, p->po_events[i]);
	}
	p->po_nevents = 0;
	return ask;
}

bool epoll_park(port *p, nanotime deadline) {
	if (p->po_nevents != 0) {
		return true;  // those of the last park are not looked at yet: its vCPU lost its place meanwhile
	}
	const nanotime when = deadline == never ? 0 : now();
	const nanotime left = deadline > when ? deadline - when : 0;
	const timespec ts = to_timespec(left);
	long n = sys::call(SYS_epoll_pwait2, p->po_epoll, reinterpret_cast<long>(p->po_events), std::ssize(p->po_events),
	    deadline == never ? 0 : reinterpret_cast<long>(&ts), 0, 8);
	if (n == -ENOSYS || n == -EPERM) {  // before 5.11: milliseconds, rounded up, as timers may be late but not early
		const long ms = deadline == never ? -1 : static_cast<long>(std::min<nanotime>((left + 999'999) / 1'000'000, 1U << 30));
		n = sys::call(SYS_epoll_pwait, p->po_epoll, reinterpret_cast<long>(p->po_events), std::ssize(p->po_events), ms, 0, 8);
	}
	p->po_nevents = static_cast<int>(std::max(n, 0L));
	return p->po_nevents != 0;
}

int epoll_open(port *p) {
	const long fd = sys::call(SYS_epoll_create1, EPOLL_CLOEXEC);
	if (fd < 0) {
		return static_cast<int>(-fd);
	}
	epoll_event wake{};
	wake.events = EPOLLIN | EPOLLET;  // each write to the eventfd is an event, whatever its count is
	wake.data.u64 = wake_data;
	if (long error = sys::call(SYS_epoll_ctl, fd, EPOLL_CTL_ADD, p->po_wakefd, reinterpret_cast<long>(&wake)); error < 0) {
		(void)sys::call(SYS_close, fd);
		return static_cast<int>(-error);
	}
	p->po_epoll = static_cast<int>(fd);
	p->po_nevents = 0;
	return 0;
}

int epoll_awaited(const port *p) { return p->po_epoll; }

bool epoll_peek(port *p) {
	if (p->po_nevents == 0) {
		const long n = sys::call(SYS_epoll_pwait, p->po_epoll, reinterpret_cast<long>(p->po_events), std::ssize(p->po_events), 0, 0, 8);
		p->po_nevents = static_cast<int>(std::max(n, 0L));
	}
	return p->po_nevents != 0;
}

void epoll_close(port *p) {
	(void)sys::call(SYS_close, p->po_epoll);
	p->po_epoll = -1;
}

}  // namespace

const backend epoll_backend = {
    "epoll", false, epoll_open, epoll_close, epoll_begin, epoll_again, epoll_end, epoll_poll, epoll_park, epoll_awaited, epoll_peek};

}  // namespace lwp::kern
