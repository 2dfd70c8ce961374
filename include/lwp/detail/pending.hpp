// SPDX-License-Identifier: BSD-2-Clause
//
// What futures, scopes and parallel loops wait by: a number of things still to be done, and notes of what is to be done once an LWP has ended.
#pragma once

#include <lwp/detail/storage.hpp>
#include <lwp/detail/time.hpp>
#include <lwp/lwp.h>

#include <stop_token>

namespace lwp::detail {

class LWP_API pending {
public:
	explicit pending(unsigned count = 0) noexcept { add(count); }
	pending(const pending &) = delete;
	pending &operator=(const pending &) = delete;

	/// By whoever keeps the number above 0 meanwhile, or by the only one who waits.
	void add(unsigned count = 1) noexcept;
	/// Once it was the last, whoever waits may destroy the object: it is not touched any more.
	void done() noexcept;
	[[nodiscard]] bool none() noexcept;
	/// `what` is one word for reports.
	void wait(const char *what) noexcept;
	/// Whether none is pending; false: the deadline or the stop came first.
	bool wait(const char *what, steady_time deadline, const std::stop_token &stop) noexcept;
	bool wait(const char *what, steady_time deadline) noexcept;

private:
	storage<24> kernel_;
};

/// Something to be done once an LWP has destroyed its specific data.  Lives until then.
struct exit_note {
	void (*en_run)(exit_note *) noexcept = nullptr;
	exit_note *en_next = nullptr;
};

/// Runs it at the end of the calling LWP.  Throws std::bad_alloc.
LWP_API void at_lwp_exit(exit_note *);
/// The same, by an LWP that has nothing else to do: at once if it has no specific data, or no memory to wait for their end.
LWP_API void at_lwp_end(exit_note *) noexcept;

}  // namespace lwp::detail
