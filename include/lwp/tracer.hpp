// SPDX-License-Identifier: BSD-2-Clause
//
// A client that stops LWPs at events of their lives and lets them go on when it has looked: what ptrace(2) has in PTRACE_LWP_CREATE and PTRACE_LWP_EXIT, inside
// the process.
//
// While a tracer lives, every LWP but the one that constructed it stops as it begins, before any code of the application's runs in it, and as it ends, when
// nothing of that runs in it any more but its specific data is still there.  It sleeps there (LSSLEEP), whoever wakes it: nothing but the tracer lets it go on.
// What it did in between is told by others: lwp_info(), lwp_trace_read(), lwp::stop_the_world.
//
// LWPs that a call has made are meant, not kernel threads of the application.  One that lives already is told of as it ends.  When the process is ended in order
// (lwp_proc_exit()) those that are stopped stand still for good.  There is one tracer in a process at a time.
#pragma once

#include <lwp/lwp.h>

#include <chrono>
#include <optional>

namespace lwp {

/// Where an LWP has stopped: before any code of the application's runs in it, or when none does any more.
enum class tracer_event : unsigned char { begins, ends };

/// Which events stop an LWP.
struct tracer_events {
	bool begins = true;  ///< new ones, before they run
	bool ends = true;    ///< those that end
};

/// The process's one tracer, while it lives.
class LWP_API tracer {
public:
	/// An LWP that is stopped, and where.
	struct stop {
		tracer_event event;  ///< where
		lwpid_t lid;         ///< who
	};

	/// Throws std::system_error: EBUSY there is a tracer.
	explicit tracer(tracer_events events = {});
	/// Lets all that are stopped go on.  No LWP may be in a call of this object.
	~tracer();
	tracer(const tracer &) = delete;
	tracer &operator=(const tracer &) = delete;

	/// Waits for an LWP that has stopped and was not told of; first come, first told.  Any LWP but those that are traced may call this and the following.
	[[nodiscard]] stop wait();
	/// The same until a deadline; nothing if none came.
	[[nodiscard]] std::optional<stop> wait_for(std::chrono::nanoseconds);

	/// Lets one of which wait() has told go on.  Never blocks for long.  Throws std::system_error: ESRCH it is not stopped, or was not told of.
	void go_on(lwpid_t lid);
};

}  // namespace lwp
