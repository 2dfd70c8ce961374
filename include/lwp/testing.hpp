// SPDX-License-Identifier: BSD-2-Clause
//
// Finds races in code that is written with this library: explore(body) runs `body` again and again, each time under another schedule and from the same
// memory, and stops at the first that ends badly.  That one is printed with its seed and its last steps; the seed repeats it exactly.
//
//     TEST(Cache, IsFilledOnce) {
//         EXPECT_TRUE(lwp::testing::explore([] {
//             cache c;
//             lwp::scope s;
//             s.spawn([&] { c.fill(); });
//             s.spawn([&] { c.fill(); });
//             s.join();
//             lwp::testing::check(c.filled() == 1, "filled once");
//         }));
//     }
//
// A component of its own, lwp::testing (CMake) or lwp-testing (pkg-config), for test programs: it puts its own clock_gettime() and its own names for some
// calls in front of the library's.  Programs that do not link it pay nothing.
//
// How.  Each schedule runs in a process of its own, forked from the caller, with one vCPU and one kernel thread; `body` is LWP 1.  Which LWP runs is
// decided by the seed, at each call of the library: of two seeds out of three by priorities that change at a few random steps, which finds bugs that need few
// changes in the right places soon; else by chance.  A woken LWP may so be late by any time.  The clock is the seed's too: each step takes a
// microsecond, it leaps to the next deadline when all sleep, and for half of the seeds also while others could run, as on a machine that is slow.
// steady_clock, system_clock, clock_gettime() and all timed calls of the library go by it.
//
// It fails when all LWPs sleep and none has a deadline (a lost wake-up, a deadlock; LWPs that still sleep when `body` has returned, too), when LWPs wait for
// each other in a circle, by an exception that leaves `body`, by check(), and by all that ends a process: assert(), a sanitizer's finding, a signal,
// std::terminate(); when it takes more steps or more of its own time than it may; and when it hangs outside the library.
//
// What it does not show.  Between two calls of the library nothing is interleaved: races of plain accesses and of atomics are ThreadSanitizer's.  One vCPU:
// nothing runs at the same time, no memory order is weaker than the program's.  Schedules are tried, not exhausted: that none fails is no proof.
// `body` must do the same for the same schedule: not look at addresses, random devices, time() or gettimeofday(); not start kernel threads, and sleep with
// this library's calls only.  I/O of the library fails with ENOTSUP there.  What it changes in memory is gone after each
// schedule, for its process is.
#pragma once

#include <lwp/lwp.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

namespace lwp::testing {

/// How a schedule ended.
enum class outcome : std::uint32_t {
	passed,
	deadlock,     ///< all LWPs sleep for ever, or some wait in a circle
	livelock,     ///< more steps, or more time of its own, than options allow
	exception,    ///< one left `body`
	check,        ///< check() was false, or options::failed said so
	died,         ///< its process ended: a signal, exit(), a sanitizer
	hung,         ///< no call of the library for longer than options::patience
	unsupported,  ///< the program's clock_gettime() is not that of the component
};

/// How to look.
struct options {
	std::uint64_t schedules = 1000;          ///< at most so many
	std::uint64_t seed = 1;                  ///< of the first; the next has the next number
	std::chrono::milliseconds budget{0};     ///< real time after which no other is begun; 0: none
	std::uint64_t steps = 100'000;           ///< of one schedule; more is a livelock
	std::chrono::seconds time{3600};         ///< of its own clock; more is a livelock
	std::chrono::seconds patience{60};       ///< real time for one schedule
	std::function<bool()> failed = nullptr;  ///< asked in its process after `body` and all LWPs have ended: a test library's verdict
	bool quiet = false;                      ///< prints nothing
};

/// What was found.
struct result {
	outcome how = outcome::passed;  ///< of the last one; passed: of all
	std::uint64_t schedules = 0;    ///< that were run, the failing one included
	std::uint64_t steps = 0;        ///< of all of them
	std::uint64_t seed = 0;         ///< of the last, which is the failing one if there is one
	std::uint64_t hash = 0;         ///< of what all of them did, step by step: the same for the same seeds
	bool repeated = false;          ///< the failing one was run again and did the same, step by step
	std::string text;               ///< what the failing one wrote to standard error, and its last steps
	/// Whether all passed.
	explicit operator bool() const noexcept { return how == outcome::passed; }
};

/// Runs `body` under options.schedules schedules or until one fails.  LWP_EXPLORE_SEED=N in the environment: only the one with that seed.
/// Blocks the calling kernel thread, which should be the only one of its process: fork(2) copies no other.  Throws std::system_error: device_or_resource_busy,
/// a runtime exists (call it before the first call of the library, or after ~runtime); or what fork(2) and the like say.
[[nodiscard]] result explore(const std::function<void()> &body, const options & = {});

/// In a body: ends the schedule, as failed, if `ok` is false.  Outside of one it ends the program.
void check(bool ok, const char *what = "", const char *file = __builtin_FILE(), int line = __builtin_LINE()) noexcept;

/// "passed", "deadlock", ...
[[nodiscard]] const char *to_string(outcome) noexcept;

namespace detail {

/// What a schedule's process leaves behind, in memory that it shares with explore().
struct ending {
	std::atomic<outcome> how;
	std::atomic<std::uint64_t> steps;
	std::atomic<std::uint64_t> hash;
};

struct schedule {
	std::uint64_t seed;
	std::uint64_t steps_most;
	std::uint64_t time_most;            // nanoseconds
	bool trace;                         // prints its last steps as it ends
	std::atomic<std::uint64_t> *clock;  // what this program's clock_gettime() shows, unless 0
	ending *end;
	const std::function<void()> *body;
	const std::function<bool()> *failed;
};

// What the library has for the component.

/// A runtime exists.
[[nodiscard]] LWP_API bool busy() noexcept;
/// Runs one schedule and ends the process.
[[noreturn]] LWP_API void play(const schedule &) noexcept;
/// A step: `call` is made on `object`, from `site`.  Nothing outside of play().
LWP_API void step(const char *call, const void *object, const void *site) noexcept;
/// Ends the process if it runs play().
LWP_API void end_if_played(outcome) noexcept;

}  // namespace detail
}  // namespace lwp::testing
