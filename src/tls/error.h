// SPDX-License-Identifier: BSD-2-Clause
//
// OpenSSL's errors as std::error_code.
// Its queue of errors belongs to the kernel thread.  So it is emptied before a call of OpenSSL and read right after it, and between the two no
// LWP gives up its vCPU: OpenSSL's calls do not, as its I/O is memory and its own locks are held for moments.
#pragma once

#include <lwp/tls.hpp>

#include <openssl/ssl.h>

namespace lwp::detail {

/// What the last call on this kernel thread has left in the queue, which is empty afterwards.  A refused certificate is told by `ssl`, if there is one.
[[nodiscard]] std::error_code tls_take_error(const SSL *ssl = nullptr) noexcept;

/// Throws io_error if there is an error.
void tls_throw_if(const std::error_code &error, const char *what, std::size_t transferred = 0);

}  // namespace lwp::detail
