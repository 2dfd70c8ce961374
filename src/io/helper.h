// SPDX-License-Identifier: BSD-2-Clause
//
// Helper threads: a few kernel threads for calls that can only block (regular files under epoll, getaddrinfo(3), waiting for any child).
// They start when they are needed, end after some idle seconds, and know nothing of LWPs: a finished operation goes back to its port.
#pragma once

#include "io/port.h"

namespace lwp::kern {

/// Hands `op` over; its o_call (or, if that is null, io_call()) runs on a helper.  As io_begin().
bool helper_begin(port *, io_op *) noexcept;

}  // namespace lwp::kern
