// SPDX-License-Identifier: BSD-2-Clause
//
// Procs as objects, and the world stopped by one LWP: what a garbage collector, a profiler or a debugger needs.  proc.h says what a proc is, what is its
// own, and how one is stopped as a whole.
//
//   lwp::proc p([] { serve(); });   // LWPs that serve() makes are of this proc
//   ...
//   p.kill();                       // all of them end
//   lwp::exit_status how = p.wait();
#pragma once

#include <lwp/exit_status.hpp>
#include <lwp/lwp.h>
#include <lwp/proc.h>
#include <lwp/thread.hpp>

#include <chrono>
#include <csignal>
#include <optional>
#include <stop_token>
#include <string>
#include <sys/types.h>
#include <type_traits>
#include <utility>
#include <vector>

namespace lwp {

/// How a proc is made: lwp::proc p({.first = {.name = "worker"}, .max_lwps = 100}, f);
struct proc_options {
	attributes first = {};  ///< of its first LWP.  It is not detached: others of the proc may wait for it, and if none does that is no leak
	std::size_t max_lwps = 0;  ///< LWPs that it may have at once; 0: no limit but the runtime's
};

namespace detail {

LWP_API nascent proc_prepare(const proc_options &, std::size_t size, std::size_t align);  // throws system_error
LWP_API void proc_abandon(const nascent &) noexcept;
LWP_API pid_t proc_launch(const nascent &, void (*run)(void *)) noexcept;  // its number, or a negative error number: it does not run
[[noreturn]] LWP_API void proc_failed(int error);                          // throws system_error

template <class Result, class Call>
pid_t proc_start(const proc_options &options, Call &&call) {
	using payload = std::decay_t<Call>;
	const nascent n = proc_prepare(options, sizeof(payload), alignof(payload));
	try {
		::new (n.payload) payload(std::forward<Call>(call));
	} catch (...) {
		proc_abandon(n);
		throw;
	}
	const pid_t pid = proc_launch(n, [](void *p) {
		// noexcept: as a thread's
		[](payload *call_) noexcept {
			struct guard {
				payload *p_;
				~guard() { std::destroy_at(p_); }
			};
			if constexpr (std::is_same_v<Result, int>) {
				const int status = [call_] {
					const guard destroy{call_};
					return (*call_)();
				}();
				lwp_proc_exit(status, 0);
			} else {
				const guard destroy{call_};
				(*call_)();
			}
		}(static_cast<payload *>(p));
	});
	if (pid < 0) {
		std::destroy_at(static_cast<payload *>(n.payload));
		proc_abandon(n);
		proc_failed(-pid);
	}
	return pid;
}

}  // namespace detail

/// A proc, a child of the proc that made it.  Shaped like lwp::process, which is a child of the OS.  The object is for one LWP at a time, of the parent.
class LWP_API proc {
public:
	/// None.
	proc() noexcept = default;

	/// Makes a proc whose first LWP calls `f` with `args`, copied as std::thread does.  If that returns an int the proc ends with this status, as with
	/// main(), and takes its other LWPs along; with any other result only the LWP ends.  Throws std::system_error: EAGAIN too many LWPs | ENOMEM | EINVAL
	/// callable and arguments take more than half of the stack | EPERM; and what copying the arguments throws.
	template <class F, class... Args>
		requires(!std::is_same_v<std::remove_cvref_t<F>, proc> && !std::is_same_v<std::remove_cvref_t<F>, proc_options> &&
		    std::is_invocable_v<std::decay_t<F>, std::decay_t<Args>...>)
	explicit proc(F &&f, Args &&...args) : proc(proc_options{}, std::forward<F>(f), std::forward<Args>(args)...) {}

	/// The same with options; EINVAL one of them is out of range.
	template <class F, class... Args>
		requires(std::is_invocable_v<std::decay_t<F>, std::decay_t<Args>...>)
	proc(const proc_options &options, F &&f, Args &&...args)
	    : pid_(detail::proc_start<std::invoke_result_t<std::decay_t<F>, std::decay_t<Args>...>>(options,
	          [call = std::tuple<std::decay_t<F>, std::decay_t<Args>...>(std::forward<F>(f), std::forward<Args>(args)...)]() mutable {
		          return std::apply([](auto &&...part) { return std::invoke(std::move(part)...); }, std::move(call));
	          })) {}

	proc(proc &&other) noexcept : pid_(std::exchange(other.pid_, 0)), status_(other.status_) {}
	/// What was there before is killed and collected.
	proc &operator=(proc &&other) noexcept;
	/// One that was not collected is killed (SIGKILL) and collected; blocks for that, until the last of its LWPs has come to its boundary.  In another proc than
	/// its parent, and when lwp_proc_exit() ends the process, does nothing.
	~proc() { end(); }

	/// Whether there is one that has not been collected.
	[[nodiscard]] bool is_open() const noexcept { return pid_ > 0; }
	explicit operator bool() const noexcept { return is_open(); }
	/// Its number (proc.h), 0 if there is none.  No other proc gets it before 2^31 others have been made.
	[[nodiscard]] pid_t id() const noexcept { return pid_ > 0 ? pid_ : 0; }

	/// Waits until its last LWP has ended and collects it: how it ended.  Blocks the LWP only.  Called again, says the same.
	/// Throws std::system_error: ECHILD there is none, the caller is of another proc than its parent, or somebody else has collected it.
	exit_status wait() { return *wait_until_steady(detail::steady_time::max(), nullptr); }
	/// wait() until a stop is requested at most: then nothing is returned, and it may be called again.  One that has ended is collected in any case.
	std::optional<exit_status> wait(const std::stop_token &stop) { return wait_until_steady(detail::steady_time::max(), &stop); }
	/// Collects it if it has ended.  Never blocks.  Throws as wait().
	std::optional<exit_status> try_wait();
	/// wait() for `duration` at most, or until a stop is requested.
	template <class Rep, class Period>
	std::optional<exit_status> try_wait_for(const std::chrono::duration<Rep, Period> &duration, const std::stop_token &stop = {}) {
		return wait_until_steady(detail::deadline_after(duration), &stop);
	}
	/// wait() until `deadline` at most, or until a stop is requested.
	template <class Clock, class Duration>
	std::optional<exit_status> try_wait_until(const std::chrono::time_point<Clock, Duration> &deadline, const std::stop_token &stop = {}) {
		std::optional<exit_status> how;
		(void)detail::attempt_until(deadline, [&](detail::steady_time t) {
			how = wait_until_steady(t, &stop);
			return how.has_value() || stop.stop_requested();
		});
		return how;
	}

	/// Sends a signal: lwp_proc_signal().  Never blocks.  Throws std::system_error: ESRCH there is none, or it has ended | EINVAL.
	void kill(int signal = SIGKILL);
	/// Stops all its LWPs, and lets them go on: SIGSTOP and SIGCONT.  Throws as kill().
	void stop() { kill(SIGSTOP); }
	void resume() { kill(SIGCONT); }
	/// Whether it is stopped, or some of it still on its way.  False if there is none.
	[[nodiscard]] bool stopped() const noexcept;

	/// Lets it go: it is collected whenever it ends.  Throws as wait().
	void detach();

private:
	std::optional<exit_status> wait_until_steady(detail::steady_time, const std::stop_token *);
	void end() noexcept;

	pid_t pid_ = 0;  // 0 none, -1 collected
	exit_status status_;
};

namespace this_proc {

/// The number of the caller's proc.
[[nodiscard]] inline pid_t id() noexcept { return lwp_proc_self(); }
/// lwp_proc_exit(): of the first proc it ends the process.
[[noreturn]] inline void exit(int status, unsigned grace_ms = 1000) { lwp_proc_exit(status, grace_ms); }

}  // namespace this_proc

/// Every LWP of all procs, by rising id: lwp_proc_list().  Throws std::bad_alloc.
LWP_API std::vector<kinfo_lwp> every_lwp();

/// One LWP of a stopped world.
struct stopped_lwp {
	lwpid_t lid;       ///< its id
	std::string name;  ///< its name, empty if it has none
	/// NetBSD's name of its state: "LSSTOP", "LSSUSPENDED", "LSONPROC" the caller; "LSSLEEP" one that sleeps and is not woken before the world goes on.
	const char *state;
	/// Its whole stack, lowest byte and one beyond the highest.
	const void *stack_low;
	const void *stack_high;
	/// What it keeps there is in [sp, stack_high): its frames, and above them nothing; its saved registers are in it too.  At most lower than need be.
	/// Of the caller: about where it called lwps().
	const void *sp;
};

/// While it lives the calling LWP runs alone: all others, of all procs, are off their vCPUs and stand still, in their own code or its last call of
/// the library, not inside malloc or any lock of the C library (one that computes: <lwp/preempt.hpp>).  Sleeps end meanwhile and deadlines pass; who
/// is woken so runs when the world goes on.  LWPs made meanwhile are born stopped.
///
/// The caller must not wait for another LWP: it would wait for ever.  May be nested.  Two that stop the world at once take turns.
///
/// Kernel threads of the application that have called the library stop at their next call: the constructor waits for them.
/// Kernel threads that have not are not part of this world.
class LWP_API stop_the_world {
public:
	/// Blocks until everybody stands still.
	stop_the_world();
	/// The same for at most `limit`: then nobody is stopped and stopped() is false.
	explicit stop_the_world(std::chrono::nanoseconds limit);
	~stop_the_world();
	stop_the_world(const stop_the_world &) = delete;
	stop_the_world &operator=(const stop_the_world &) = delete;

	/// Whether the world is stopped by this object: false only after a limit that was too short.
	[[nodiscard]] bool stopped() const noexcept { return stopped_; }
	/// Every LWP, the caller too, in no order.  Throws std::bad_alloc, or std::system_error: EPERM the world is not stopped.
	[[nodiscard]] std::vector<stopped_lwp> lwps() const;

private:
	bool stopped_ = false;
};

}  // namespace lwp
