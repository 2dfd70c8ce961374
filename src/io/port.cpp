// SPDX-License-Identifier: BSD-2-Clause
#include "io/port.h"

#include "base/assert.h"
#include "base/sys.h"
#include "io/descriptor.h"
#include "io/direct.h"
#include "sched/idle.h"
#include "sched/point.h"
#include "sched/spare.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <sys/eventfd.h>

namespace lwp::kern {

io_tuning io_tune;

namespace {

constexpr nanotime sweep_after = 2'000'000;  // how late a timeout of a socket may be noticed on a busy vCPU
constexpr nanotime turn_most = 5'000;        // so long may an LWP go on whose operations succeed at once, before others have their turn
constexpr nanotime accept_share = 500;       // and one that accepts so long for each that waits behind it
constexpr nanotime ask_apart = 50'000;       // how long a busy vCPU gathers requests, and lets completions wait, for one system call

atomic<bool> ring_refused{false};  // nobody needs to ask the kernel again

port *port_of(const vcpu_t *vc) noexcept {
	return static_cast<port *>(vc->vc_port.load(std::memory_order_acquire));  // pairs with the release in port_make()
}

bool wanted(const char *variable, const char *value) noexcept {
	const char *text = std::getenv(variable);
	return text != nullptr && std::strstr(text, value) != nullptr;
}

/// One line for who asks by LWP_DEBUG=io.
void tell(const port *p, const char *why, int error) noexcept {
	if (wanted("LWP_DEBUG", "io")) {
		std::fprintf(stderr, "lwp: vCPU %d: I/O by %s%s%s\n", p->po_vcpu->vc_index.load(std::memory_order_relaxed), p->po_backend->b_name,
		    why, error != 0 ? std::strerror(error) : "");
	}
}

int open_backend(port *p) noexcept {
	const bool only_ring = wanted("LWP_IO", "uring");
	const bool only_epoll = wanted("LWP_IO", "epoll");
	int error = 0;
	if (!only_epoll && (only_ring || !ring_refused.load(std::memory_order_relaxed))) {  // relaxed: a hint
		error = io_tune.deny != 0 ? io_tune.deny : uring_backend.b_open(p);
		if (error == 0) {
			p->po_backend = &uring_backend;
			tell(p, "", 0);
			return 0;
		}
		if (only_ring) {
			fatal("LWP_IO=uring, but io_uring_setup(2) says: %s", std::strerror(error));
		}
		if (error == EPERM || error == ENOSYS) {
			ring_refused.store(true, std::memory_order_relaxed);
		}
	}
	const int refused = error;
	error = epoll_backend.b_open(p);
	if (error == 0) {
		p->po_backend = &epoll_backend;
		tell(p, only_epoll ? ", as LWP_IO says" : refused != 0 ? ", because io_uring_setup(2) says: " : ", as on other vCPUs", refused);
	}
	return error;
}

void arm_timer(port *p, io_op *op, nanotime deadline, void (*fn)(void *)) noexcept {
	op->o_timer.tm_fn = fn;
	op->o_timer.tm_arg = op;
	if (callout_schedule(p->po_vcpu, &op->o_timer, deadline) != 0) {
		io_cancel(op, io_end::no_timer);
		return;
	}
	op->o_timed = true;
}

void arm_deadline(port *p, io_op *op) noexcept {
	arm_timer(p, op, op->o_deadline, [](void *arg) { io_cancel(static_cast<io_op *>(arg), io_end::deadline); });
}

/// Has the port end the operation, if it is pending: once.
void ask(io_op *op) noexcept {
	std::uintptr_t at = op->o_at.load(std::memory_order_seq_cst);
	if (io_state_of(at) != io_state::pending) {
		// It looks at o_end before it waits, or is over; or its kernel thread waits by itself.  That one has stored o_wakefd before it looked: seq_cst, as
		// o_end, so it has seen our reason or we see the eventfd.
		if (const int fd = op->o_wakefd.load(std::memory_order_seq_cst); LWP_UNLIKELY(fd >= 0)) {
			sys::signal_eventfd(fd);
		}
		return;
	}
	port *p = io_port_of(at);
	vcpu_t *me = curcpu_or_null();
	{
		lock_scope hold(p->po_lock, me);
		// acquire, release: the exchange in port_complete() comes before, or finds this and waits for po_lock.  If it came before and the operation was
		// begun again elsewhere, that was after we looked, thus after o_end was set, which port_began() sees.
		if (!op->o_at.compare_exchange_strong(at, io_at(p, io_state::cancelling), std::memory_order_acq_rel, std::memory_order_relaxed)) {
			return;
		}
		op->o_queued = true;
		p->po_asked.push_back(op);
		p->po_mail.store(true, std::memory_order_relaxed);  // relaxed: vcpu_unhalt() has the fence
	}
	if (me != p->po_vcpu || me->vc_duty.load(std::memory_order_relaxed) != vcpu_duty::acts) {  // relaxed: our own
		vcpu_unhalt(p->po_vcpu);
	}
}

void ask_kernel(port *p, io_op *op, nanotime when) noexcept {
	op->o_unasked = 0;
	if (op->o_deadline != never && !op->o_timed) {
		arm_deadline(p, op);
	}
	if ((p->po_backend->b_waits_always || op->o_unsure) && io_nonblocking(op->o_fd)) {
		io_cancel(op, io_end::nonblocking);
	} else if (const nanotime time = op->o_timed || op->o_deadline != never ? 0 : io_socket_timeout(op); time != 0) {
		arm_timer(p, op, after(when, time), [](void *arg) { io_cancel(static_cast<io_op *>(arg), io_end::socket_timeout); });
	} else {
		descriptor_found_plain(op->o_fd, when);
	}
}

bool any_unasked(const port *p) noexcept { return !p->po_fresh.empty() || !p->po_later.empty(); }

/// SO_RCVTIMEO and SO_SNDTIMEO bind the kernel's own waits only, and a ring waits also where O_NONBLOCK is set.  To ask for them costs as much
/// as a tenth of a message, so it is done when the vCPU has nothing else to do, or after some milliseconds, and for those that still wait.
/// Where the answer was no a moment ago it is asked after another moment: most operations are over by then.
void sweep(port *p, nanotime when, bool all = false) noexcept {
	p->po_swept = when;
	if (!p->po_later.empty() && (all || when - p->po_later_since >= plain_for)) {
		while (io_op *op = p->po_later.pop_front()) {
			ask_kernel(p, op, when);
		}
	}
	while (io_op *op = p->po_fresh.pop_front()) {
		if (all || !descriptor_plain(op->o_fd, when)) {
			ask_kernel(p, op, when);
			continue;
		}
		if (p->po_later.empty()) {
			p->po_later_since = when;
		}
		op->o_unasked = 2;
		p->po_later.push_back(op);
	}
}

/// Messages of others.  po_use held.
void read_mail(port *p) noexcept {
	vcpu_t *me = curcpu_or_null();
	list<io_op, &io_op::o_asklink> asked;
	list<io_op, &io_op::o_link> helped;
	{
		lock_scope hold(p->po_lock, me);
		asked = p->po_asked;
		helped = p->po_helped;
		p->po_asked = {};
		p->po_helped = {};
		p->po_mail.store(false, std::memory_order_relaxed);  // relaxed: under po_lock
		for (io_op *op = asked.front(); op != nullptr; op = list<io_op, &io_op::o_asklink>::next(op)) {
			op->o_queued = false;  // only we complete it, so it stays until we have dealt with it
		}
	}
	// First those that are to end: one of them may be among those that have.
	while (io_op *op = asked.pop_front()) {
		if (!p->po_backend->b_end(p, op)) {
			lock_scope hold(p->po_lock, me);
			op->o_queued = true;
			p->po_asked.push_back(op);
			p->po_mail.store(true, std::memory_order_relaxed);  // relaxed: for ourselves, next time
		}
	}
	while (io_op *op = helped.pop_front()) {
		port_complete(p, op, op->o_result);
	}
}

bool port_park(vcpu_t *vc, nanotime deadline) {
	port *p = port_of(vc);
	{
		lock_scope hold(p->po_use, vc);
		if (any_unasked(p)) {
			sweep(p, now());
		}
		if (!p->po_later.empty()) {
			deadline = std::min(deadline, p->po_later_since + plain_for);  // then we come here again
		}
		p->po_parked = true;  // the monitor, if it has polled for us, is through, and does not begin again even if it takes us for blocked
		deadline = std::min(deadline, vc->vc_deadline.load(std::memory_order_relaxed));  // relaxed: only we arm timers here
	}
	// relaxed: after the fence of the halt, see port.h
	const bool arrived =
	    p->po_mail.load(std::memory_order_relaxed) || p->po_backend->b_park(p, deadline) || p->po_mail.load(std::memory_order_relaxed);
	lock_scope hold(p->po_use, vc);
	p->po_parked = false;
	return arrived;
}

void port_unpark(vcpu_t *vc) { sys::signal_eventfd(port_of(vc)->po_wakefd); }

/// po_use held.  A busy vCPU has LWPs to run whose requests can go to the kernel together with those that are there; and what has ended there would
/// only queue behind them.  To ask at each look cost an echo server one system call for each request in place of one for ten.
void poll_locked(port *p, nanotime when, bool busy) noexcept {
	if (LWP_UNLIKELY(p->po_mail.load(std::memory_order_relaxed))) {  // relaxed: read under po_lock; what we miss we see next time
		read_mail(p);
	}
	if (p->po_backend->b_poll(p, !busy || (when > p->po_asked_kernel && when - p->po_asked_kernel >= ask_apart))) {
		p->po_asked_kernel = now();  // that call may have taken longer than what we gather for
	} else if (!busy) {
		p->po_asked_kernel = when;
	}
	if (LWP_UNLIKELY(any_unasked(p) && when - p->po_swept > sweep_after)) {
		sweep(p, when);
	}
}

void port_poll(vcpu_t *vc, nanotime when, bool busy) {
	port *p = port_of(vc);
	lock_scope hold(p->po_use, vc);
	poll_locked(p, when, busy);
}

/// By the monitor, for one that is off duty or computes.  Asked with po_use held: a vCPU that waits in its port has said so with po_use held, and polls
/// by itself when it is through.
void port_poll_away(vcpu_t *vc, nanotime when) {
	port *p = port_of(vc);
	lock_scope hold(p->po_use, curcpu_or_null());
	if (!p->po_parked && p->po_backend != nullptr) {
		poll_locked(p, when, false);
		if (any_unasked(p)) {
			sweep(p, when, true);  // no more come there meanwhile, and the monitor waits for timers and completions only
		}
	}
}

int port_awaited(const vcpu_t *vc) {
	port *p = port_of(vc);
	lock_scope hold(p->po_use, curcpu_or_null());
	return p->po_backend != nullptr && !p->po_parked && vc->vc_pending.load(std::memory_order_relaxed) != 0 ? p->po_backend->b_awaited(p)
	                                                                                                        : -1;
}

/// With po_use, though its vCPU has nothing else to do: the monitor may take it for one that computes, and poll.
bool port_peek(vcpu_t *vc) {
	port *p = port_of(vc);
	lock_scope hold(p->po_use, vc);
	return p->po_mail.load(std::memory_order_relaxed) || p->po_backend->b_peek(p);  // relaxed: read under po_lock
}

void port_close(vcpu_t *vc) {
	port *p = port_of(vc);
	LWP_ASSERT(vc->vc_pending == 0);
	p->po_backend->b_close(p);
	p->po_backend = nullptr;
}

const parker port_parker = {port_park, port_unpark, port_poll, port_close, port_poll_away, port_awaited, port_peek};

LWP_NOINLINE port *port_make(vcpu_t *vc, int *error) noexcept {
	if (sched_point != nullptr) {  // time is not real there, nor is anything that would come from outside
		*error = ENOTSUP;
		return nullptr;
	}
	port *p = port_of(vc);
	if (p == nullptr) {
		p = new (std::nothrow) port;
		if (p == nullptr) {
			*error = ENOMEM;
			return nullptr;
		}
		p->po_vcpu = vc;
		p->po_use.bias(vc);
		const long fd = sys::call(SYS_eventfd2, 0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (fd < 0) {
			*error = static_cast<int>(-fd);
			delete p;
			return nullptr;
		}
		p->po_wakefd = static_cast<int>(fd);
		vc->vc_port.store(p, std::memory_order_release);  // pairs with the acquire in port_of(): whoever wakes this vCPU, too
	}
	*error = open_backend(p);
	if (*error != 0) {
		return nullptr;
	}
	// Who wakes us has seen a later store to vc_halted; release: pairs with the acquire of the monitor, which may not have.
	vc->vc_parker.store(&port_parker, std::memory_order_release);
	return p;
}

/// A deadline for which the timer may be armed when the operation is asked about: most are over before that.  Nobody but this vCPU could end the
/// operation, so nobody needs to see its timer while the vCPU is busy.
bool far_away(const port *p, nanotime deadline) noexcept {
	constexpr nanotime far = 5 * plain_for;
	return deadline > p->po_vcpu->vc_polled && deadline - p->po_vcpu->vc_polled > far;
}

}  // namespace

port *port_here(vcpu_t *vc, int *error) noexcept {
	port *p = port_of(vc);
	return LWP_LIKELY(p != nullptr && p->po_backend != nullptr) ? p : port_make(vc, error);
}

void port_complete(port *p, io_op *op, long result) noexcept {
	vcpu_t *me = curcpu_or_null();
	LWP_ASSERT(io_port_of(op->o_at.load(std::memory_order_relaxed)) == p);  // relaxed: the port is fixed meanwhile
	if (op->o_unasked != 0) {
		(op->o_unasked == 1 ? p->po_fresh : p->po_later).remove(op);
		op->o_unasked = 0;
	}
	atomic<unsigned> &pending = p->po_vcpu->vc_pending;
	pending.store(pending.load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);  // relaxed: under po_use, else a hint
	// acquire, release: who asks for an end finds it done, or we find that he has asked and wait for him below
	if (LWP_UNLIKELY(io_state_of(op->o_at.exchange(io_at(p, io_state::done), std::memory_order_acq_rel)) == io_state::cancelling)) {
		lock_scope hold(p->po_lock, me);
		if (op->o_queued) {
			p->po_asked.remove(op);
			op->o_queued = false;
		}
	}
	op->o_result = result;
	grant_give(&op->o_grant, me);
}

// A round of a server with a thousand busy connections takes milliseconds.  One that accepts a single one in each keeps those that come waiting for as many
// rounds as there are before them, so its turn is in proportion: a twelfth of the round, about.  Where few wait it is as short as any: connections
// that come by the hundred, and are reset, must not keep those waiting.
nanotime port_accept_turn(const vcpu_t *vc) noexcept {
	const nanotime share = vc->vc_rq.count() * accept_share;
	return share > turn_most ? share : 0;
}

bool port_turn_over(port *p, const io_op *op) noexcept {
	const std::uint64_t at = cycles(), switches = p->po_vcpu->vc_switches.load(std::memory_order_relaxed);  // relaxed: our own
	if (p->po_turn != switches) {
		p->po_turn = switches;
		p->po_turn_began = at;
		return false;
	}
	const nanotime longer = op->o_kind == io_kind::accept ? port_accept_turn(p->po_vcpu) : 0;
	return at - p->po_turn_began > cycles_in(p->po_vcpu, longer != 0 ? longer : turn_most);
}

void port_began(port *p, io_op *op) noexcept {
	atomic<unsigned> &pending = p->po_vcpu->vc_pending;
	pending.store(pending.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);  // relaxed: under po_use, else a hint
	// seq_cst, as in io_cancel(): either it sees that we are pending, or we see below that it came
	op->o_at.store(io_at(p, io_state::pending), std::memory_order_seq_cst);
	const bool unasked = io_timeout_option(op->o_kind) != 0 && !op->o_helped && !op->o_stored;
	if (unasked) {
		p->po_fresh.push_back(op);
		op->o_unasked = 1;
	}
	if (op->o_deadline != never && !op->o_timed && !(unasked && far_away(p, op->o_deadline))) {
		arm_deadline(p, op);
	}
	if (LWP_UNLIKELY(op->o_end.load(std::memory_order_seq_cst) != io_end::none)) {
		ask(op);
	}
}

void port_helped(port *p, io_op *op) noexcept {
	{
		lock_scope hold(p->po_lock, nullptr);
		p->po_helped.push_back(op);
		p->po_mail.store(true, std::memory_order_relaxed);  // relaxed: vcpu_unhalt() has the fence
	}
	vcpu_unhalt(p->po_vcpu);
}

void io_cancel(io_op *op, io_end why) noexcept {
	io_end none = io_end::none;
	if (op->o_end.compare_exchange_strong(none, why, std::memory_order_seq_cst)) {
		ask(op);
	}
}

}  // namespace lwp::kern
