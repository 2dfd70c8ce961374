// SPDX-License-Identifier: BSD-2-Clause
//
// One I/O operation: what the LWP wants, who may end it, how it ended.  It lives on the stack of the LWP that waits for it.
//
// An operation that has begun ends once, by its *completion*: what the kernel says through the port that holds it.  Whoever wants it to end
// earlier (its deadline, a close of its descriptor, _lwp_wakeup(), a stop request) asks for that with io_cancel(); the LWP still waits for
// the completion.  So the memory that the kernel may write to stays valid until it is done with it, and no late completion can meet another
// operation.  Of several that ask the first gives the reason, and if the operation succeeds all the same, its result counts.
//
// Keys: !  the LWP, before it begins and after it was woken     p  the kernel thread of its port
//       f  the lock of its descriptor (descriptor.h)              c  po_lock of its port
//       a  atomic, rule beside it
#pragma once

#include "sched/callout.h"
#include "sync/grant.h"

#include <cstddef>
#include <poll.h>
#include <sys/socket.h>
#include <sys/types.h>

// X(kind, wmesg, what it polls for, the socket option with its timeout or 0)
#define LWP_IO_KINDS(X)                         \
	X(read, "read", POLLIN, SO_RCVTIMEO)        \
	X(write, "write", POLLOUT, SO_SNDTIMEO)     \
	X(readv, "readv", POLLIN, SO_RCVTIMEO)      \
	X(writev, "writev", POLLOUT, SO_SNDTIMEO)   \
	X(recv, "recv", POLLIN, SO_RCVTIMEO)        \
	X(send, "send", POLLOUT, SO_SNDTIMEO)       \
	X(recvmsg, "recvmsg", POLLIN, SO_RCVTIMEO)  \
	X(sendmsg, "sendmsg", POLLOUT, SO_SNDTIMEO) \
	X(accept, "accept", POLLIN, SO_RCVTIMEO)    \
	X(connect, "connect", POLLOUT, SO_SNDTIMEO) \
	X(poll, "poll", 0, 0)                       \
	X(fsync, "fsync", 0, 0)                     \
	X(openat, "openat", 0, 0)                   \
	X(call, "helper", 0, 0)

namespace lwp::kern {

struct port;
struct io_op;

enum class io_kind : std::uint8_t {
#define X(kind, wmesg, events, option) kind,
	LWP_IO_KINDS(X)
#undef X
};

/// Why an operation was asked to end, and the error that makes of it.
enum class io_end : std::uint8_t {
	none,
	deadline,        // ETIMEDOUT
	socket_timeout,  // EAGAIN; EINPROGRESS of a connect
	interrupted,     // EINTR
	stopped,         // ECANCELED
	closed,          // ECANCELED
	no_timer,        // ENOMEM
	nonblocking,     // EAGAIN: its descriptor is in nonblocking mode
};

enum class io_state : std::uint8_t { idle, pending, cancelling, done };

/// State and port in one word.  An operation may be begun again, at another port, while somebody who asks for its end looks at the old one: he
/// exchanges what he has seen, so he never takes one port's lock for another's operation.
constexpr std::uintptr_t io_state_bits = 3;
inline std::uintptr_t io_at(const port *p, io_state s) noexcept {
	return reinterpret_cast<std::uintptr_t>(p) | static_cast<std::uintptr_t>(s);
}
inline port *io_port_of(std::uintptr_t at) noexcept { return reinterpret_cast<port *>(at & ~io_state_bits); }
inline io_state io_state_of(std::uintptr_t at) noexcept { return static_cast<io_state>(at & io_state_bits); }

inline constexpr off_t io_here = -1;  ///< the file's own position

/// Closes its o_wakefd.
void io_unreachable(io_op *) noexcept;

struct io_op {
	io_op(lwp_t *l, io_kind kind, int fd) noexcept : o_grant(l), o_kind(kind), o_fd(fd) {}
	io_op(const io_op &) = delete;
	io_op &operator=(const io_op &) = delete;
	~io_op() {
		if (LWP_UNLIKELY(o_wakefd.load(std::memory_order_relaxed) >= 0)) {  // relaxed: our own
			io_unreachable(this);
		}
	}

	grant o_grant;                      // wakes the LWP
	io_kind o_kind;                     // !
	int o_fd;                           // !: -1 if it has none
	int o_flags = 0;                    // !: of the call; of a poll: its events
	void *o_addr = nullptr;             // !: buffer, iovec array, msghdr, sockaddr, path
	std::size_t o_len = 0;              // !: bytes, or how many iovecs; of openat: the mode
	off_t o_off = io_here;              // !
	socklen_t *o_addrlen = nullptr;     // !: accept
	long (*o_call)(io_op *) = nullptr;  // !: what a helper thread does: 0 or more, or -errno
	nanotime o_deadline = never;        // !
	long o_result = 0;                  // p, then !: 0 or more, or -errno

	atomic<io_end> o_end{io_end::none};  // a: the first reason to end it
	atomic<std::uintptr_t> o_at{
	    0};  // a: io_at(): to cancelling under po_lock by who asks, to done by who completes it; the port is fixed meanwhile
	atomic<int> o_wakefd{-1};    // a: an eventfd by which io_cancel() reaches a kernel thread that waits by itself; stored by that one
	std::uint8_t o_unasked = 0;  // p: 1 on po_fresh, 2 on po_later, 0 on neither
	bool o_queued = false;       // c: on po_asked
	bool o_listed = false;       // f: on its descriptor's list
	bool o_timed = false;        // p, !: o_timer is armed or was
	bool o_helped = false;       // !: a helper thread carries it out
	bool o_stored = false;       // !: it is of a file on a disk, the caller knows: nothing to ask about its descriptor
	bool o_seekable = false;     // !: its file has positions, the caller knows
	bool o_cached = false;       // !: and is read through the page cache
	bool o_endless = false;      // !: what a helper thread waits for may never come
	bool o_unsure = false;       // !: nobody has asked whether its descriptor is in nonblocking mode
	bool o_later = false;        // !: no port has it; io_wait() tries it now and then
	nanotime o_give_up = never;  // !: when its socket's timeout ends that
	std::size_t o_before = 0;    // !: bytes of it that are done already
	timer o_timer;
	list_link<io_op> o_link;     // p: po_fresh, po_later; of a helper's: the helpers' lock, then c
	list_link<io_op> o_asklink;  // c
	list_link<io_op> o_fdlink;   // f
};

extern const syncobj io_syncobj;

/// What the table says.
const char *io_wmesg(io_kind) noexcept;
short io_events(io_kind) noexcept;
int io_timeout_option(io_kind) noexcept;

/// Begins.  False: it is over already and o_result is valid.  By the LWP that owns it.
[[nodiscard]] bool io_begin(lwp_t *, io_op *) noexcept;
/// Begins another part of what has ended, as io_begin(): o_addr, o_len and o_off say which.  The descriptor is not left in between, so all parts
/// are one operation to whoever closes it; a request to end it that came in between is kept.
[[nodiscard]] bool io_begin_next(lwp_t *, io_op *) noexcept;
/// Waits for what has begun.  0 | ERESTART: pass the boundary and call again.
[[nodiscard]] int io_wait(lwp_t *, io_op *) noexcept;
/// After either: its result, 0 or more or -errno.  Nobody refers to it any more.
[[nodiscard]] long io_finish(lwp_t *, io_op *) noexcept;
/// Asks for an end.  By anybody who knows that it is there still: its timer, who holds the lock of its descriptor or of one where it is watched, a stop
/// callback.
void io_cancel(io_op *, io_end why) noexcept;

}  // namespace lwp::kern
