// SPDX-License-Identifier: BSD-2-Clause
//
// Who waits on which descriptor: so that lwp_close() ends those waits before the number can name something else.
//
// A close has two phases.  *Ending*: operations in flight on the number, and those that watch it, are asked to end and waited for; the number is still
// taken, and whoever begins an operation on it gets EBADF.  *Closing*: the kernel's close(2) runs; the number may already name a new file, so whoever
// begins an operation now waits until that call is back.  Operations that a ring holds without having been submitted are in flight too,
// so none is ever submitted with the number of another file.  Those of kernel threads that have no port are entered here like all others.
//
// close(2) called by the application ends nothing: the kernel keeps the file until the operations on it are over.
//
// Locks: of rank sleepq, one for many descriptors; it is never held while another of that rank is taken.
#pragma once

#include "io/op.h"

namespace lwp::kern {

/// One of the descriptors that an operation on something else waits for, as lwp_poll() on several does.  On the stack of its LWP or in memory of its own.
struct fd_watch {
	io_op *w_op = nullptr;         // !: ended when lwp_close() closes w_fd
	int w_fd = -1;                 // !
	bool w_listed = false;         // !
	bool w_closed = false;         // f, then !: the close has begun
	list_link<fd_watch> w_link{};  // f
};

/// Before the operation is begun.  0 | EBADF the number is being closed | ENOMEM | EAGAIN close(2) runs: let others run and try again
[[nodiscard]] int descriptor_enter(io_op *, vcpu_t *me) noexcept;
/// After its end.
void descriptor_leave(io_op *, vcpu_t *me) noexcept;

/// The same for a watch; it may begin before its operation does, and ends after that.
[[nodiscard]] int descriptor_watch(fd_watch *, vcpu_t *me) noexcept;
void descriptor_unwatch(fd_watch *, vcpu_t *me) noexcept;

/// Whether `fd` was found without mode and timeouts of its own, not long before `when`.  Hints, by the ports' kernel threads.
[[nodiscard]] bool descriptor_plain(int fd, nanotime when) noexcept;
void descriptor_found_plain(int fd, nanotime when) noexcept;
constexpr nanotime plain_for = 10'000'000;

/// How many receives there will probably find nothing before they have waited; takes one.  Hints, by anybody.
[[nodiscard]] bool descriptor_take_early(int fd) noexcept;
void descriptor_set_early(int fd, unsigned count) noexcept;

/// The events that operations pending at `p` wait for on `fd`.  By the port's kernel thread, as the next one.
[[nodiscard]] short descriptor_wanted(int fd, const port *p) noexcept;
/// One of them that one of `events` is for, or null.
[[nodiscard]] io_op *descriptor_ready(int fd, const port *p, unsigned events) noexcept;

/// Ends what waits on `fd` and closes it.  Blocks the LWP.  0 | EBADF | whatever close(2) says
[[nodiscard]] int descriptor_close(lwp_t *l, int fd) noexcept;

}  // namespace lwp::kern
