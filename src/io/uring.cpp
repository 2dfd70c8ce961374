// SPDX-License-Identifier: BSD-2-Clause
//
// The port as an io_uring.  An LWP writes its request into the submission queue and sleeps; the vCPU tells the kernel once for all of them, when it has
// nothing else to run, when many have gathered, or 50 us after the last time; before it waits one system call submits and waits.
//
// A request belongs to the kernel thread that submitted it, normally the vCPU's, and is finished in that one's name.  Of the ways in which the kernel
// may do that COOP_TASKRUN is taken: it sends no interrupt to a kernel thread that runs, but one that sleeps in a system call is made to
// finish it there, and sleeps on.  So while the vCPU is away its completions come into the queue by themselves, and the monitor reads them.  With
// DEFER_TASKRUN, which is no faster here (floor_uring oneshot, with and without coop), they would come when its own kernel thread asks for them,
// perhaps never.  It cannot lose a completion: what finds the completion queue full is kept by the kernel (FEAT_NODROP) until there is room, and
// meanwhile submissions fail with EBUSY and are repeated.  user_data is the operation's address, or one of the small numbers below.
#include "base/assert.h"
#include "base/sys.h"
#include "io/direct.h"
#include "io/helper.h"
#include "io/port.h"
#include "sched/switch.h"

#include <algorithm>
#include <cerrno>

namespace lwp::kern {
namespace {

constexpr std::uint64_t tag_wake = 1, tag_cancel = 2;
constexpr unsigned submit_at = 64;           // so many requests do not wait for the rhythm
constexpr unsigned most_bytes = 0x7ffff000;  // what read(2) takes at most

// Best first; a kernel that does not know a flag says EINVAL.
constexpr unsigned modes[] = {
    IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL,  // 5.19
    0,
};
constexpr unsigned needed = IORING_FEAT_NODROP | IORING_FEAT_EXT_ARG | IORING_FEAT_RW_CUR_POS | IORING_FEAT_FAST_POLL;

// Shared with the kernel: plain words to the compiler, so each access says what it is.
unsigned load_acquire(const unsigned *word) noexcept { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }
unsigned load_relaxed(const unsigned *word) noexcept { return __atomic_load_n(word, __ATOMIC_RELAXED); }
void store_release(unsigned *word, unsigned value) noexcept { __atomic_store_n(word, value, __ATOMIC_RELEASE); }

unsigned unsubmitted(const port *p) noexcept { return p->po_tail - load_acquire(p->po_ring.sq.khead); }

bool completed(const port *p) noexcept {
	return load_acquire(p->po_ring.cq.ktail) != load_relaxed(p->po_ring.cq.khead);  // acquire: the entries before it are written
}

/// Something of the kernel's waits for us to enter it.
bool wants_us(const port *p) noexcept { return (load_relaxed(p->po_ring.sq.kflags) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0; }

/// Submits, has the kernel finish what it can, and waits for `wait` completions or the deadline.  Errors are no news: what could not be submitted
/// still stands in the queue.
void enter(port *p, unsigned wait, nanotime deadline) noexcept {
	const bool registered = p->po_registered && curcpu_or_null() == p->po_vcpu;  // the index is its kernel thread's
	unsigned flags = IORING_ENTER_GETEVENTS | (registered ? IORING_ENTER_REGISTERED_RING : 0);
	const int fd = registered ? p->po_ring.enter_ring_fd : p->po_ring.ring_fd;
	__kernel_timespec ts{};
	io_uring_getevents_arg arg{};
	arg.sigmask_sz = 8;
	if (wait != 0 && deadline != never) {
		const nanotime when = now();
		const timespec left = to_timespec(deadline > when ? deadline - when : 0);
		ts.tv_sec = left.tv_sec;
		ts.tv_nsec = left.tv_nsec;
		arg.ts = reinterpret_cast<std::uint64_t>(&ts);
		flags |= IORING_ENTER_EXT_ARG;
		(void)sys::call(SYS_io_uring_enter, fd, unsubmitted(p), wait, flags, reinterpret_cast<long>(&arg), sizeof(arg));
		return;
	}
	(void)sys::call(SYS_io_uring_enter, fd, unsubmitted(p), wait, flags, 0, 0);
}

/// The next free place in the submission queue, or null.
io_uring_sqe *next_sqe(port *p) noexcept {
	io_uring_sq &sq = p->po_ring.sq;
	if (LWP_UNLIKELY(p->po_tail - load_acquire(sq.khead) == sq.ring_entries)) {  // acquire: the kernel has read what stood there
		return nullptr;
	}
	return &sq.sqes[p->po_tail & sq.ring_mask];
}

void push_sqe(port *p) noexcept { store_release(p->po_ring.sq.ktail, ++p->po_tail); }

/// As next_sqe(), after some trouble.
io_uring_sqe *any_sqe(port *p) noexcept {
	io_uring_sqe *sqe = next_sqe(p);
	if (LWP_UNLIKELY(sqe == nullptr)) {
		enter(p, 0, never);
		sqe = next_sqe(p);
	}
	return sqe;
}

void arm_wake(port *p) noexcept {
	io_uring_sqe *sqe = any_sqe(p);
	p->po_rearm = sqe == nullptr;
	if (sqe != nullptr) {
		// Each write to the eventfd completes it anew, whatever its count is.
		io_uring_prep_poll_multishot(sqe, p->po_wakefd, POLLIN);
		sqe->user_data = tag_wake;
		push_sqe(p);
	}
}

void woken(port *p, unsigned flags) noexcept {
	if ((flags & IORING_CQE_F_MORE) != 0) {
		return;
	}
	std::uint64_t count;
	(void)sys::call(SYS_read, p->po_wakefd, reinterpret_cast<long>(&count), sizeof(count));  // else the new one would fire at once
	arm_wake(p);
}

/// The next operation to complete: its LWP has slept, so it is in no near cache.  Perhaps it is none: a tag, or what an old entry had, or 0.  So a number is added to.
void prefetch(std::uint64_t op) noexcept {
	for (const std::uint64_t line : {0U, 64U, 128U}) {
		__builtin_prefetch(reinterpret_cast<const void *>(op + line), 1);
	}
}

void reap(port *p) noexcept {
	io_uring_cq &cq = p->po_ring.cq;
	unsigned head = load_relaxed(cq.khead);
	for (;;) {
		const unsigned tail = load_acquire(cq.ktail);  // pairs with the kernel's release: the entries are written
		if (head == tail) {
			return;
		}
		const io_uring_cqe cqe = cq.cqes[head & cq.ring_mask];
		prefetch(cq.cqes[(head + 1) & cq.ring_mask].user_data);  // if it is an old one, nothing is lost
		store_release(cq.khead, ++head);                         // we have read it
		if (cqe.user_data == tag_wake) {
			woken(p, cqe.flags);
		} else if (cqe.user_data != tag_cancel) {
			port_complete(p, reinterpret_cast<io_op *>(cqe.user_data), cqe.res);
		}
	}
}

unsigned length(const io_op *op) noexcept { return static_cast<unsigned>(std::min<std::size_t>(op->o_len, most_bytes)); }

void prepare(io_uring_sqe *sqe, io_op *op) noexcept {
	const auto offset = static_cast<std::uint64_t>(op->o_off);
	switch (op->o_kind) {
	case io_kind::read:
		io_uring_prep_read(sqe, op->o_fd, op->o_addr, length(op), offset);
		break;
	case io_kind::write:
		io_uring_prep_write(sqe, op->o_fd, op->o_addr, length(op), offset);
		break;
	case io_kind::readv:
		io_uring_prep_readv(sqe, op->o_fd, static_cast<iovec *>(op->o_addr), length(op), offset);
		break;
	case io_kind::writev:
		io_uring_prep_writev(sqe, op->o_fd, static_cast<iovec *>(op->o_addr), length(op), offset);
		break;
	case io_kind::recv:
		io_uring_prep_recv(sqe, op->o_fd, op->o_addr, length(op), op->o_flags);
		break;
	case io_kind::send:
		io_uring_prep_send(sqe, op->o_fd, op->o_addr, length(op), op->o_flags);
		break;
	case io_kind::recvmsg:
		io_uring_prep_recvmsg(sqe, op->o_fd, static_cast<msghdr *>(op->o_addr), static_cast<unsigned>(op->o_flags));
		break;
	case io_kind::sendmsg:
		io_uring_prep_sendmsg(sqe, op->o_fd, static_cast<msghdr *>(op->o_addr), static_cast<unsigned>(op->o_flags));
		break;
	case io_kind::accept:
		io_uring_prep_accept(sqe, op->o_fd, static_cast<sockaddr *>(op->o_addr), op->o_addrlen, op->o_flags);
		break;
	case io_kind::connect:
		io_uring_prep_connect(sqe, op->o_fd, static_cast<sockaddr *>(op->o_addr), static_cast<socklen_t>(op->o_len));
		break;
	case io_kind::poll:
		io_uring_prep_poll_add(sqe, op->o_fd, static_cast<unsigned>(op->o_flags));
		break;
	case io_kind::fsync:
		io_uring_prep_fsync(sqe, op->o_fd, static_cast<unsigned>(op->o_flags));
		break;
	case io_kind::openat:
		io_uring_prep_openat(
		    sqe, static_cast<int>(op->o_off), static_cast<const char *>(op->o_addr), op->o_flags, static_cast<mode_t>(op->o_len));
		break;
	case io_kind::call:
		break;  // a helper's
	}
	sqe->user_data = reinterpret_cast<std::uint64_t>(op);
}

/// One that accepts goes on for its turn, where that is longer than for one connection.
bool accepts_at_once(port *p, const io_op *op) noexcept {
	return op->o_kind == io_kind::accept && port_accept_turn(p->po_vcpu) != 0 && !port_turn_over(p, op);
}

bool uring_begin(lwp_t *l, io_op *op) {
	if (op->o_kind == io_kind::openat && io_waits_for_other_end(op)) {
		// A ring tries first with O_NONBLOCK, with which it would not wait.
		op->o_endless = true;
		return helper_begin(static_cast<port *>(l->l_cpu->vc_port.load(std::memory_order_relaxed)), op);  // relaxed: our own
	}
	if (op->o_off != io_here && op->o_kind <= io_kind::writev && !op->o_seekable) {
		// A ring ignores the offset of a pipe or socket where pread(2) says ESPIPE.
		if (const long error = sys::call(SYS_lseek, op->o_fd, 0, SEEK_CUR); error < 0) {
			op->o_result = error;
			return false;
		}
	}
	port *p;
	io_uring_sqe *sqe;
	for (;;) {
		p = static_cast<port *>(l->l_cpu->vc_port.load(std::memory_order_relaxed));
		p->po_use.lock(l->l_cpu);
		sqe = any_sqe(p);
		if (LWP_LIKELY(sqe != nullptr)) {
			break;
		}
		p->po_use.unlock(l->l_cpu);
		// The kernel takes no more: completions must be read first, which the vCPU does between two LWPs.
		vcpu_poll(l->l_cpu, false);
		lwp_yield_cpu(l);
		int error;
		if (port_here(l->l_cpu, &error) == nullptr) {
			op->o_result = -error;
			return false;
		}
		if (l->l_cpu->vc_port.load(std::memory_order_relaxed) != p) {  // relaxed, all: our own
			return static_cast<port *>(l->l_cpu->vc_port.load(std::memory_order_relaxed))
			    ->po_backend->b_begin(l, op);  // moved, perhaps to another kind
		}
	}
	prepare(sqe, op);
	push_sqe(p);
	port_began(p, op);
	if (LWP_UNLIKELY(accepts_at_once(p, op))) {
		// If there is a connection the kernel gives it now, and the LWP does not wait.
		enter(p, 0, never);
		reap(p);
	} else if (LWP_UNLIKELY(unsubmitted(p) >= submit_at)) {
		enter(p, 0, never);
	}
	p->po_use.unlock(l->l_cpu);
	return true;
}

bool uring_again(lwp_t *, io_op *) { return true; }

bool uring_end(port *p, io_op *op) {
	if (op->o_helped) {
		return true;  // the helper will be through some time
	}
	io_uring_sqe *sqe = any_sqe(p);
	if (LWP_UNLIKELY(sqe == nullptr)) {
		return false;
	}
	// Submitted after the operation and before any other at the same address, by the order of the queue.
	io_uring_prep_cancel(sqe, op, 0);
	sqe->user_data = tag_cancel;
	push_sqe(p);
	return true;
}

bool uring_poll(port *p, bool ask) {
	ask = ask && (unsubmitted(p) != 0 || wants_us(p));
	if (ask) {
		enter(p, 0, never);
	}
	reap(p);
	if (LWP_UNLIKELY(p->po_rearm)) {
		arm_wake(p);
	}
	return ask;
}

bool uring_park(port *p, nanotime deadline) {
	if (!completed(p)) {
		enter(p, 1, deadline);
	}
	return completed(p);
}

int uring_open(port *p) {
	int error = EINVAL;
	for (unsigned m = static_cast<unsigned>(io_tune.first_mode); m < std::size(modes); m++) {
		io_uring_params params{};
		params.flags = modes[m] | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
		params.cq_entries = io_tune.cq_entries;
		const auto result = static_cast<int>(sys::library(
		    SYS_io_uring_setup, [&]() noexcept -> long { return io_uring_queue_init_params(io_tune.sq_entries, &p->po_ring, &params); }));
		if (result == 0 && (params.features & needed) == needed) {
			error = 0;
			break;
		}
		if (result == 0) {
			io_uring_queue_exit(&p->po_ring);
			error = ENOSYS;
			continue;
		}
		error = -result;
		if (error != EINVAL) {
			return error;
		}
	}
	if (error != 0) {
		return error == EINVAL ? ENOSYS : error;
	}
	io_uring_sq &sq = p->po_ring.sq;
	for (unsigned i = 0; sq.array != nullptr && i < sq.ring_entries; i++) {
		sq.array[i] = i;
	}
	// A child must not write into our queues.
	(void)sys::library(SYS_madvise, [p]() noexcept -> long { return io_uring_ring_dontfork(&p->po_ring); });
	p->po_registered = sys::library(SYS_io_uring_register, [p]() noexcept -> long { return io_uring_register_ring_fd(&p->po_ring); }) == 1;
	p->po_tail = load_relaxed(sq.ktail);
	arm_wake(p);
	return 0;
}

int uring_awaited(const port *p) { return p->po_ring.ring_fd; }

bool uring_peek(port *p) { return completed(p) || wants_us(p); }

void uring_close(port *p) { io_uring_queue_exit(&p->po_ring); }

}  // namespace

const backend uring_backend = {
    "io_uring", true, uring_open, uring_close, uring_begin, uring_again, uring_end, uring_poll, uring_park, uring_awaited, uring_peek};

}  // namespace lwp::kern
