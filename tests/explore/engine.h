// SPDX-License-Identifier: BSD-2-Clause
//
// The explorer: runs a scenario again and again on one kernel thread, each time under another schedule.
//
// A *kthread* is a virtual kernel thread: a context that executes whatever its vCPU runs.  At each point (hooks.h) the schedule says who goes
// on: a kthread, the clock (the next deadline comes), or, with delayed stores, a store buffer that lets its oldest store go.  Everything else is
// a function of that: a schedule is repeated by repeating its choices.  Before each one all memory of the library is put back as it was.
//
//   pct      the best by random priorities that change at two points at random: a bug that needs d orderings is found with a chance of
//            at least 1 / (n * k^(d-1)) in each schedule (n who run, k points)
//   random   at each point somebody else with a certain chance
//   forced   goes on with who runs, but for preemptions that are listed: what the search with a bound, the shrinker and `--schedule` use
//
// Sequentially consistent, and, with delayed stores, total store order (x86): no weaker machine.
#pragma once

#include "ctx/context.h"
#include "explore/hooks.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace lwp::explore {

constexpr unsigned kthreads_most = 4;
// Who may be chosen at a point: a kthread, the clock, the buffer of a kthread.
constexpr unsigned clock_actor = kthreads_most;
constexpr unsigned buffer_actor = kthreads_most + 1;
constexpr unsigned actors_most = 2 * kthreads_most + 1;

struct preemption {
	unsigned at;  // before this point, counted from 1
	unsigned to;  // goes on with this actor
};

struct schedule {
	enum class kind : std::uint8_t { pct, random, forced } how = kind::forced;
	std::uint64_t seed = 0;
	bool delays = false;                // stores may wait in their CPU's buffer
	std::vector<preemption> preempted;  // forced
	bool record = false;                // keep what happens, for the search, the shrinker and the eye
	// For who looks for schedules that do something new: counts of places, and of pairs of places where one LWP went on after another, each in a
	// counter that is found by hashing them, and the seed if the schedule is forced.  Null: nobody wants to know.
	std::uint8_t *seen = nullptr;
};

constexpr std::size_t seen_bytes = 128 * 1024;

/// What happened at a point.
struct event {
	std::uint8_t actor;
	op what;
	std::uint16_t could;  // which actors could have gone on then, as bits
	unsigned at;          // the number of the point; one that had to wait there comes later in the list
	int line;
	int lid;  // of the LWP that ran; 0: none
	const char *file;
	const void *address;
	std::uint64_t value;  // in the clock's: the time
};

struct outcome {
	bool failed = false;
	std::string why;
	unsigned points = 0;
	std::vector<preemption> choices;  // what a forced schedule must be told to do the same; if recorded
	std::vector<event> events;        // the same
};

struct setup {
	unsigned kthreads;
	void (*entry)(unsigned kthread);  // on each one's own stack; returns if it has nothing more to do
	kern::vcpu_t *const *vcpus;       // what each says it is; null: none
	void (*restore)();                // puts all memory back
	int (*running_lid)();             // whose code runs
	/// When the first timer is due after that time, whether or not a kthread waits for it; UINT64_MAX if none is.
	std::uint64_t (*next_timer)(std::uint64_t after);
};

/// Runs one schedule to its end.
outcome run(const setup &, const schedule &);

// Within a schedule.

/// Until arm() nobody is preempted: the scene is set.  From then on the schedule decides.
void arm() noexcept;
/// From now on nobody is preempted: the result is looked at.
void disarm() noexcept;
/// Waits, as the kernel thread that it is, until arm().  How many wait there.
void await_arm() noexcept;
unsigned awaiting_arm() noexcept;
/// Lets other kthreads go on.
void let_others() noexcept;
/// The schedule is over.
[[noreturn]] void finish() noexcept;
[[noreturn]] void fail(const char *format, ...) noexcept __attribute__((format(printf, 1, 2)));
/// It is at least this late.
void advance_clock(std::uint64_t to) noexcept;
/// Says something in the columns of a failing schedule.  A literal.
void note(const char *text) noexcept;
/// Which kthread runs.
unsigned running_kthread() noexcept;

}  // namespace lwp::explore
