// SPDX-License-Identifier: BSD-2-Clause
//
// Operations by plain system calls: one that may block, for kernel threads that have nothing else to do, and an attempt that does not.
#pragma once

#include "io/op.h"

namespace lwp::kern {

/// The operation by an adopted kernel thread, which waits by itself: for the descriptor, and for the eventfd by which io_cancel() reaches it.  Deadlines and
/// timeouts of sockets are kept.  A file is not waited for: that call takes what it takes.
long io_direct(io_op *) noexcept;

/// The call as it is made, blocking or not.
long io_call(io_op *) noexcept;

/// What the kernel can do at once.  -EAGAIN: not ready | -EOPNOTSUPP: only a call that blocks can tell
long io_try(io_op *) noexcept;
/// Calls that only sockets know.
inline bool io_of_socket(io_kind kind) noexcept { return kind >= io_kind::recv && kind <= io_kind::connect; }
/// Whether the call is to answer EAGAIN in place of waiting.
bool io_no_wait(const io_op *) noexcept;

/// Whether O_NONBLOCK is set, other than by io_try() for a moment: then EAGAIN is the answer.
bool io_nonblocking(int fd) noexcept;

/// Whether it opens one end of a FIFO, which waits for the other end, perhaps for ever.
bool io_waits_for_other_end(const io_op *) noexcept;
/// AF_INET and so on; below 0 if it is no socket.
int io_family(int fd) noexcept;

/// SO_RCVTIMEO or SO_SNDTIMEO of its socket in nanoseconds, whichever it is that binds this call; 0 without one.
nanotime io_socket_timeout(const io_op *) noexcept;

/// 1: readiness means something there | 0: a file, which is always ready and yet may block | -EBADF
int io_pollable(int fd) noexcept;

/// How a connect ended that went on in the background: 0 or -errno.
long io_connected(int fd) noexcept;

}  // namespace lwp::kern
