// SPDX-License-Identifier: BSD-2-Clause
//
// The life of an operation, whatever carries it out.
#include "base/assert.h"
#include "base/sys.h"
#include "io/descriptor.h"
#include "io/direct.h"
#include "io/helper.h"
#include "io/port.h"
#include "sched/switch.h"

#include <algorithm>
#include <cerrno>

namespace lwp::kern {
namespace {

struct kind_info {
	const char *wmesg;
	short events;
	int option;
};
constexpr kind_info kinds[] = {
#define X(kind, wmesg, events, option) {wmesg, events, option},
    LWP_IO_KINDS(X)
#undef X
};

const kind_info &info(io_kind kind) noexcept { return kinds[static_cast<unsigned>(kind)]; }

int error_of(const io_op *op, io_end why) noexcept {
	switch (why) {
	case io_end::deadline:
		return ETIMEDOUT;
	case io_end::socket_timeout:
		return op->o_kind == io_kind::connect ? EINPROGRESS : EAGAIN;
	case io_end::interrupted:
		return EINTR;
	case io_end::no_timer:
		return ENOMEM;
	case io_end::nonblocking:
		return EAGAIN;
	default:
		return ECANCELED;
	}
}

bool over(io_op *op, long result) noexcept {
	op->o_result = result;
	return false;
}

// Connecting a unix socket to a listener whose backlog is full.  The kernel tells nobody when there is room again: such a socket polls as writable, a
// ring tries some times and then leaves a kernel thread of its own in connect(2), where a cancel does not always reach it.  So no port gets
// the operation; its LWP tries now and then.  It is entered at its descriptor meanwhile, so lwp_close() waits for it as for others, and whoever
// asks for an end (it is idle) is seen before the next attempt.
constexpr nanotime backlog_again = 1'000'000;

bool connect_unix(io_op *op) noexcept {
	const bool nonblocking = io_nonblocking(op->o_fd);
	op->o_result = io_try(op);
	if (op->o_result != -EAGAIN || nonblocking) {
		return false;
	}
	const nanotime timeout = io_socket_timeout(op);
	op->o_give_up = timeout == 0 ? never : after(now(), timeout);
	op->o_later = true;
	return true;
}

/// 0: over | ERESTART
int await_backlog(lwp_t *l, io_op *op) noexcept {
	for (;;) {
		const nanotime when = now();
		if (op->o_end.load(std::memory_order_relaxed) != io_end::none) {  // relaxed: io_finish() acquires
			op->o_result = -ECANCELED;
			return 0;
		}
		if (when >= std::min(op->o_deadline, op->o_give_up)) {
			op->o_result = when >= op->o_deadline ? -ETIMEDOUT : -EAGAIN;
			return 0;
		}
		spinlock *lock = sleepq_enter_self(l);
		const int error = sleepq_block_self_and_unlock(l, lock,
		    {.wchan = &op->o_grant,
		        .wmesg = "connect",
		        .sobj = &io_syncobj,
		        .interruptible = sleep_catch::yes,
		        .deadline = std::min({when + backlog_again, op->o_deadline, op->o_give_up})});
		if (error == EINTR) {
			io_cancel(op, io_end::interrupted);
			continue;
		}
		if (error == 0 || error == ERESTART) {
			return ERESTART;  // to be suspended, say
		}
		if (error == ENOMEM) {
			lwp_yield_cpu(l);  // no room for a timer
		}
		op->o_result = io_try(op);
		if (op->o_result != -EAGAIN) {
			return 0;
		}
	}
}

}  // namespace

const syncobj io_syncobj = {"io"};

const char *io_wmesg(io_kind kind) noexcept { return info(kind).wmesg; }
short io_events(io_kind kind) noexcept { return info(kind).events; }
int io_timeout_option(io_kind kind) noexcept { return info(kind).option; }

bool io_begin(lwp_t *l, io_op *op) noexcept {
	const bool bound = l->l_cpu->vc_bound;  // it has its kernel thread for itself, and for good
	int error;
	if (!bound && port_here(l->l_cpu, &error) == nullptr) {
		return over(op, -error);
	}
	if (op->o_fd >= 0) {
		while ((error = descriptor_enter(op, l->l_cpu)) == EAGAIN) {
			lwp_yield_cpu(l);
		}
		if (error != 0) {
			return over(op, -error);
		}
	}
	if (LWP_UNLIKELY(bound)) {
		return over(op, io_direct(op));
	}
	if (op->o_kind == io_kind::connect && io_family(op->o_fd) == AF_UNIX) {
		return connect_unix(op);
	}
	port *p = port_here(l->l_cpu, &error);  // we may have moved
	if (p != nullptr && op->o_kind == io_kind::call) {
		return helper_begin(p, op);
	}
	return p != nullptr ? p->po_backend->b_begin(l, op) : over(op, -error);
}

bool io_begin_next(lwp_t *l, io_op *op) noexcept {
	if (op->o_timed && op->o_deadline == never) {
		callout_halt(&op->o_timer);  // SO_RCVTIMEO and SO_SNDTIMEO bind each call
		op->o_timed = false;
	}
	if (op->o_end.load(std::memory_order_relaxed) != io_end::none) {  // relaxed: io_finish() acquires
		return over(op, -ECANCELED);
	}
	// Parts that end at once arm no timer, however many there are.
	if (op->o_deadline != never && now() >= op->o_deadline) {
		return over(op, -ETIMEDOUT);
	}
	if (LWP_UNLIKELY(l->l_cpu->vc_bound)) {
		return over(op, io_direct(op));
	}
	LWP_ASSERT(op->o_listed);
	op->o_before = 0;
	op->o_helped = false;
	int error;
	port *p = port_here(l->l_cpu, &error);
	return p != nullptr ? p->po_backend->b_begin(l, op) : over(op, -error);
}

int io_wait(lwp_t *l, io_op *op) noexcept {
	if (LWP_UNLIKELY(op->o_later)) {
		return await_backlog(l, op);
	}
	for (;;) {
		// What has been asked to end ends soon, and cannot be left before.
		if (op->o_grant.g_given.load(std::memory_order_acquire)) {        // pairs with the release in grant_give()
			op->o_grant.g_given.store(false, std::memory_order_relaxed);  // relaxed: nobody gives it again before it has begun again
			if (io_port_of(op->o_at.load(std::memory_order_relaxed))->po_backend->b_again(l, op)) {  // relaxed: the port is fixed meanwhile
				return 0;
			}
		}
		const bool asked = op->o_end.load(std::memory_order_relaxed) != io_end::none;  // relaxed: ordered by the give, else a hint
		spinlock *lock = sleepq_enter_self(l);
		const int error = sleepq_block_self_and_unlock(l, lock,
		    {.wchan = &op->o_grant,
		        .wmesg = io_wmesg(op->o_kind),
		        .sobj = &io_syncobj,
		        .interruptible = asked ? sleep_catch::no : sleep_catch::yes,
		        .token = LW_GRANTED});
		// The flag is one for all waits of this LWP (see grant_wait()): whether it was for this one the record says.
		if (error == EALREADY || op->o_grant.g_given.load(std::memory_order_relaxed)) {  // relaxed: asked again above
			continue;
		}
		if (error == EINTR) {
			io_cancel(op, io_end::interrupted);
		} else if (!asked) {
			return ERESTART;  // to be suspended, say: the operation goes on meanwhile
		}
	}
}

long io_finish(lwp_t *l, io_op *op) noexcept {
	if (op->o_timed) {
		callout_halt(&op->o_timer);
	}
	if (op->o_listed) {
		descriptor_leave(op, l->l_cpu);
	}
	const long result = op->o_result;
	const io_end why = op->o_end.load(std::memory_order_acquire);  // acquire: whatever who asked did before
	if (why != io_end::none && (result == -ECANCELED || result == -EINTR)) {
		return -error_of(op, why);
	}
	return result;
}

}  // namespace lwp::kern
