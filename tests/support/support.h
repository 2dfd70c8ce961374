// SPDX-License-Identifier: BSD-2-Clause
//
// What every test binary shares.  support.cpp holds main(): it runs the tests and, after each of them, fails the test if an
// LWP, a stack or a file descriptor is left over.  The helpers below wait by yielding, never by sleeping, so that they
// work on one vCPU.  They take no locks.
//
// errno: the compiler may keep the address of errno across a call, and an LWP may come back from a call on another kernel
// thread.  So tests read it through error_of() only, which lives in another translation unit.
#pragma once

#include <lwp/lwp.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#if defined(__has_feature)
#define LWP_TEST_HAS_FEATURE(x) __has_feature(x)
#else
#define LWP_TEST_HAS_FEATURE(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || LWP_TEST_HAS_FEATURE(address_sanitizer)
#define LWP_TEST_ASAN 1
#else
#define LWP_TEST_ASAN 0
#endif
#if defined(__SANITIZE_THREAD__) || LWP_TEST_HAS_FEATURE(thread_sanitizer)
#define LWP_TEST_TSAN 1
#else
#define LWP_TEST_TSAN 0
#endif

namespace lwp::test {

/// An id that no LWP ever gets here: ids rise from 1.
inline constexpr lwpid_t nobody = INT32_MAX;

/// Says that tests of this binary use the runtime: from the next test on it is started before the test and checked for leaks after it.
/// Returns true, so that a file can say `const bool touched = touch_runtime();` at namespace scope.
bool touch_runtime();

/// Says that tests of this binary are about preemption.  All others run without: they tell from outside when an LWP blocks, and an LWP that is taken off its
/// vCPU between two lines of theirs looks as if it did.  Returns true, as touch_runtime().
bool with_preemption();

/// 0 for 0, errno for -1, and -1 for a result that no `_lwp_*` call may return.
[[nodiscard]] int error_of(int result);

/// errno of the calling LWP, read and written afresh.
[[nodiscard]] int get_errno();
void set_errno(int value);

/// LWP_STRESS from the environment, at least 1: how much longer than usual random tests run.
unsigned stress();

/// `n` times stress(); a tenth of that under a sanitizer.
std::size_t rounds(std::size_t n);

/// The same for a loop that is aimed at one race: with LWP_STRESS 100,000 at least, in every build.
std::size_t race_rounds(std::size_t n);

/// LWP_SEED from the environment, else one from the clock.  Printed, so that a failure can be run again.
std::uint64_t seed();

/// Small and fast (splitmix64); the same numbers everywhere for the same seed.
class dice {
public:
	explicit dice(std::uint64_t seed) : state_(seed) {}
	std::uint64_t next();
	/// In [0, n).
	unsigned below(unsigned n) { return static_cast<unsigned>(next() % n); }
	bool one_in(unsigned n) { return below(n) == 0; }

private:
	std::uint64_t state_;
};

/// Lets other LWPs run, and now and then other kernel threads.  False after a minute: then something hangs.
class patience {
public:
	bool yield();

private:
	unsigned turns_ = 0;
	std::chrono::steady_clock::time_point end_{};
};

/// Yields until `ready()`; false if it did not come true within a minute.
template <class Predicate>
[[nodiscard]] bool wait_until(Predicate ready) {
	patience p;
	while (!ready()) {
		if (!p.yield()) {
			return ready();
		}
	}
	return true;
}

/// Opens once; LWPs and kernel threads wait for it by yielding.
class gate {
public:
	void open() { open_.store(true, std::memory_order_release); }
	[[nodiscard]] bool is_open() const { return open_.load(std::memory_order_acquire); }
	/// Fails the test if it does not open within a minute.
	void pass() const {
		EXPECT_TRUE(wait_until([this] { return is_open(); })) << "a gate stayed shut";
	}

private:
	std::atomic<bool> open_{false};
};

/// Starts an LWP by the C calls and returns its id; fails the test and returns 0 if that is refused.
lwpid_t spawn(std::function<void()> body, unsigned long flags = 0);

/// There is such an LWP and it has not ended.
[[nodiscard]] bool alive(lwpid_t lid);

/// Waits until `lid` has ended; it may still have to be collected.
void await_end(lwpid_t lid);

/// Waits for `lid` with _lwp_wait() and fails the test if that does not collect exactly it.
void collect(lwpid_t lid);

/// The id of a joinable LWP that has ended and that nobody has collected.
[[nodiscard]] lwpid_t make_zombie();

/// Waits until nothing is left but the caller: one LWP, no zombie, no stack but that of one.  Says what else is left, "" if nothing.
[[nodiscard]] std::string what_is_left();

/// Parks the caller for ever or for a relative time; the error of _lwp_park().
int park();
int park_for(std::chrono::nanoseconds);

/// An LWP whose going to sleep can be seen from outside.  Must outlive the LWP.
class subject {
public:
	using body = std::function<void(subject &)>;

	explicit subject(body, unsigned long flags = 0);
	subject(const subject &) = delete;
	subject &operator=(const subject &) = delete;

	[[nodiscard]] lwpid_t lid() const { return lid_; }
	/// The LWP says: my next library call is the one that has to block.
	void about_to_block();
	/// It is off its vCPU in that call.  Nothing but blocking takes it off, as nothing preempts it between the two.
	[[nodiscard]] bool blocked() const;
	/// Waits until blocked().
	void await_blocked() const;
	/// Its control block, once it runs.
	[[nodiscard]] lwpctl_t *control() const { return control_.load(std::memory_order_acquire); }
	/// Marks it and calls park(); stores the result for result().
	void park_once();
	/// What the body stored last; -1 before.
	void set_result(int r) { result_.store(r, std::memory_order_release); }
	[[nodiscard]] int result() const { return result_.load(std::memory_order_acquire); }

private:
	body body_;
	std::atomic<lwpctl_t *> control_{nullptr};
	std::atomic<bool> marked_{false};
	std::atomic<int> result_{-1};
	lwpid_t lid_ = 0;
};

/// The index of the vCPU an LWP is on, as its control block says.
[[nodiscard]] int vcpu_of(const lwpctl_t *);

/// Kibibytes behind `key` ("VmRSS:", "VmSize:") in /proc/self/status.
[[nodiscard]] std::size_t status_kib(const char *key);

}  // namespace lwp::test
