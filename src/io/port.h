// SPDX-License-Identifier: BSD-2-Clause
//
// A port: where one vCPU's LWPs wait for the world outside, and the parker of that vCPU.  It is an io_uring, or an epoll instance where
// the kernel has or allows none.  It is made by the vCPU's first operation; a vCPU without I/O keeps its futex.
//
// A port is worked in by its vCPU's kernel thread: the LWP that begins an operation runs there, and completions are taken by poll(), which
// makes the LWPs runnable.  While the vCPU is away (sched/spare.h) the monitor polls in its stead; po_use, biased to the vCPU, keeps the two apart.
// Others only leave messages in it, under po_lock: operations that are to end, and what helper threads have finished.  Then they wake the vCPU if it halts; a busy one looks in vcpu_poll()'s rhythm.  No message is lost: who leaves one
// stores it, fences (in vcpu_unhalt()) and looks whether the vCPU halts; who halts says so, fences, and looks for messages in park().
//
// A vCPU that halts is woken through an eventfd, which is written only then, and never read while a notification is armed on it.
//
// Keys: p  po_use     o  the vCPU's kernel thread only     c  po_lock     a  atomic, rule beside it     (  fixed once made
#pragma once

#include "io/op.h"
#include "sched/vcpu.h"

#include <liburing.h>
#include <sys/epoll.h>

namespace lwp::kern {

struct backend {
	const char *b_name;
	bool b_waits_always;  // also on a descriptor in nonblocking mode
	/// 0 or an errno value; then nothing is left.
	int (*b_open)(port *);
	void (*b_close)(port *);
	/// As io_begin(), po_use not held; the operation is entered at its descriptor.
	bool (*b_begin)(lwp_t *, io_op *);
	/// After a wake-up: true if the operation is over, false if it waits again.
	bool (*b_again)(lwp_t *, io_op *);
	/// Asks the kernel to end an operation that this port holds.  False: not possible just now.
	bool (*b_end)(port *, io_op *);
	/// `ask`: by a system call if that can bring anything; else only what has come already.  Whether it made one.
	bool (*b_poll)(port *, bool ask);
	/// Until something comes or the deadline; whether something came.  By the vCPU, without po_use: nobody else polls for one that halts.
	bool (*b_park)(port *, nanotime deadline);
	/// What becomes readable when there is something to poll.
	int (*b_awaited)(const port *);
	/// Whether b_poll() would find something.
	bool (*b_peek)(port *);
};

extern const backend uring_backend, epoll_backend;

struct port {
	vcpu_t *po_vcpu = nullptr;             // (
	const backend *po_backend = nullptr;   // p: null while there is none
	int po_wakefd = -1;                    // (: an eventfd; kept for ever, since whoever wakes us may be late
	nanotime po_swept = 0;                 // p: when po_fresh was last looked through
	nanotime po_asked_kernel = 0;          // p: when the kernel was last asked, or its vCPU last had nothing to run
	list<io_op, &io_op::o_link> po_fresh;  // p: begun since then; their sockets may have timeouts
	list<io_op, &io_op::o_link> po_later;  // p: the same, on descriptors that had none a moment ago
	nanotime po_later_since = 0;           // p: when the first of those came there
	bool po_rearm = false;                 // p: the eventfd must be armed again
	bool po_parked = false;                // p: its kernel thread waits in it, and will look by itself

	io_uring po_ring{};               // p
	unsigned po_tail = 0;             // p: of the submission queue
	bool po_registered = false;       // p: the kernel knows the ring by an index
	int po_epoll = -1;                // p
	int po_nevents = 0;               // p: in po_events, not looked at
	std::uint64_t po_turn = 0;        // o: vc_switches when an operation last succeeded at once,
	std::uint64_t po_turn_began = 0;  // o: and the CPU's counter when the first did in that turn
	epoll_event po_events[64];        // p

	spinlock po_use{lock_rank::port, "po_use"};

	alignas(64) spinlock po_lock{lock_rank::leaf, "po_lock"};
	list<io_op, &io_op::o_asklink> po_asked;  // c: to be ended
	list<io_op, &io_op::o_link> po_helped;    // c: ended by helper threads
	atomic<bool> po_mail{false};              // a: there is something in one of them; written under po_lock
};

static_assert(alignof(port) > io_state_bits);

/// The port of the caller's vCPU, made if there is none.  Null: it cannot be made, *error says why.
port *port_here(vcpu_t *vc, int *error) noexcept;

/// With po_use held: the operation is over.  It may be gone on return.
void port_complete(port *, io_op *, long result) noexcept;

/// What an LWP does once its operation is with `p`, before it sleeps.  po_use held.
void port_began(port *, io_op *) noexcept;

/// An operation of the LWP that runs has succeeded at once, or can be tried at once; whether the LWP has had its turn.  Counted from the first such one
/// since the vCPU switched.
bool port_turn_over(port *, const io_op *) noexcept;
/// How long one that accepts may go on at once; 0: no longer than any other.
nanotime port_accept_turn(const vcpu_t *) noexcept;

/// Leaves a message and sees to it that it is read.
void port_helped(port *, io_op *) noexcept;

/// For tests: before the first operation of a runtime.
struct io_tuning {
	unsigned sq_entries = 256;
	unsigned cq_entries = 2048;
	int first_mode = 0;  // the first of the ring's modes to try
	int deny = 0;        // an error that making a ring shall fail with
};
extern io_tuning io_tune;

}  // namespace lwp::kern
