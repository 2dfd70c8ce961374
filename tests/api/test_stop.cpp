// SPDX-License-Identifier: BSD-2-Clause
//
// Stop requests against sleeps and joins: each ends the wait it was made for, whenever it comes, and leaves nothing behind that would end another.
// vcpus: 1 2 8
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // gcc 12 with a sanitizer, about std::stop_source() itself
#endif
#include <lwp/stop.hpp>
#include <lwp/thread.hpp>

#include "api/stop_grant.h"
#include "proc/runtime.h"

#include "../support/support.h"

#include <memory>
#include <mutex>
#include <thread>
#include <vector>

using namespace lwp::test;
using namespace std::chrono_literals;

namespace {

const bool touched = touch_runtime();

/// No request that was not used up is left for the caller's next sleep.
void expect_nothing_left() { EXPECT_EQ(park_for(200us), ETIMEDOUT); }

/// Runs `body` in a kernel thread of its own and waits by yielding: it may need the caller's vCPU.
template <class Body>
void in_a_kernel_thread(const Body &body) {
	std::atomic<bool> done{false};
	std::thread t([&] {
		body();
		done = true;
	});
	EXPECT_TRUE(wait_until([&] { return done.load(); }));
	t.join();
}

}  // namespace

static_assert(std::is_same_v<lwp::stop_token, std::stop_token> && std::is_same_v<lwp::stop_source, std::stop_source>);

TEST(StopSleep, SleepsToTheEndWithoutARequest) {
	auto body = [] {
		std::stop_source source;
		const auto begin = std::chrono::steady_clock::now();
		EXPECT_TRUE(lwp::this_thread::sleep_for(3ms, source.get_token()));
		EXPECT_GE(std::chrono::steady_clock::now() - begin, 3ms);
		EXPECT_TRUE(lwp::this_thread::sleep_for(1ms, std::stop_token()));
		EXPECT_TRUE(lwp::this_thread::sleep_for(-1h, source.get_token()));
		const auto until = std::chrono::system_clock::now() + 3ms;
		EXPECT_TRUE(lwp::this_thread::sleep_until(until, source.get_token()));
		EXPECT_GE(std::chrono::system_clock::now(), until);
		EXPECT_TRUE(lwp::this_thread::sleep_until(std::chrono::steady_clock::time_point::min(), source.get_token()));
	};
	collect(spawn(body));
	in_a_kernel_thread(body);
}

TEST(StopSleep, RequestBeforeAndDuring) {
	std::stop_source early;
	early.request_stop();
	auto at_once = [&] {
		EXPECT_FALSE(lwp::this_thread::sleep_for(1h, early.get_token()));
		EXPECT_FALSE(lwp::this_thread::sleep_until(std::chrono::system_clock::now() + 1h, early.get_token()));
		EXPECT_FALSE(lwp::this_thread::sleep_for(std::chrono::hours::max(), early.get_token()));
		EXPECT_FALSE(lwp::this_thread::sleep_for(0s, early.get_token())) << "also of no length";
		expect_nothing_left();
	};
	collect(spawn(at_once));
	in_a_kernel_thread(at_once);
	for (const bool kernel : {false, true}) {
		std::stop_source source;
		subject sleeper([&](subject &s) {
			s.about_to_block();
			EXPECT_FALSE(lwp::this_thread::sleep_for(std::chrono::hours::max(), source.get_token()));
			expect_nothing_left();
		});
		sleeper.await_blocked();
		if (kernel) {
			std::thread([&] { source.request_stop(); }).join();
		} else {
			source.request_stop();
		}
		collect(sleeper.lid());
	}
	// A kernel thread sleeps, an LWP requests.
	std::stop_source source;
	std::atomic<bool> asleep{false};
	std::thread sleeper([&] {
		asleep = true;
		EXPECT_FALSE(lwp::this_thread::sleep_for(1h, source.get_token()));
	});
	EXPECT_TRUE(wait_until([&] { return asleep.load(); }));
	source.request_stop();
	sleeper.join();
}

TEST(StopSleep, SuspendAndWakeupDoNotEndIt) {
	std::stop_source source;
	subject sleeper([&](subject &s) {
		s.about_to_block();
		s.set_result(lwp::this_thread::sleep_for(1h, source.get_token()));
	});
	sleeper.await_blocked();
	EXPECT_EQ(error_of(_lwp_suspend(sleeper.lid())), 0);
	EXPECT_EQ(error_of(_lwp_continue(sleeper.lid())), 0);
	EXPECT_TRUE(wait_until([&] { return _lwp_wakeup(sleeper.lid()) == 0; }));
	EXPECT_EQ(sleeper.result(), -1);
	// One that comes while it is suspended is found at the continue.
	EXPECT_EQ(error_of(_lwp_suspend(sleeper.lid())), 0);
	source.request_stop();
	EXPECT_EQ(sleeper.result(), -1);
	EXPECT_EQ(error_of(_lwp_continue(sleeper.lid())), 0);
	collect(sleeper.lid());
	EXPECT_EQ(sleeper.result(), 0);
}

// The request comes anywhere between registration, sleep, timeout and the end of the call.
TEST(StopSleep, RequestAgainstTimeout) {
	const std::size_t n = rounds(3000);
	dice d(seed());
	std::size_t stopped = 0;
	for (std::size_t k = 0; k < n; k++) {
		std::stop_source source;
		const auto limit = std::chrono::microseconds(d.below(80));
		bool to_the_end = false;
		lwp::thread sleeper([&] {
			const auto begin = std::chrono::steady_clock::now();
			to_the_end = lwp::this_thread::sleep_for(limit, source.get_token());
			EXPECT_TRUE(!to_the_end || std::chrono::steady_clock::now() - begin >= limit);
			EXPECT_TRUE(to_the_end || source.stop_requested());
			if (k % 8 == 0) {
				expect_nothing_left();
			}
		});
		auto request = [&] { source.request_stop(); };
		for (unsigned spin = d.below(6); spin > 0; spin--) {
			lwp::this_thread::yield();
		}
		if (k % 16 == 0) {
			std::thread(request).join();
		} else {
			request();
		}
		sleeper.join();
		stopped += !to_the_end;
	}
	std::printf("%zu of %zu stopped\n", stopped, n);
}

TEST(StopSleep, OneRequestEndsManySleeps) {
	std::stop_source source;
	std::atomic<std::size_t> ended{0};
	const std::size_t n = rounds(2000);
	std::vector<lwp::thread> all;
	for (std::size_t i = 0; i < n; i++) {
		all.emplace_back([&] { ended += !lwp::this_thread::sleep_for(1h, source.get_token()); });
	}
	lwp::this_thread::yield();
	source.request_stop();
	for (auto &t : all) {
		t.join();
	}
	EXPECT_EQ(ended, n);
}

// The guide's rule: user callbacks that do not block may stand among ours.
TEST(StopSleep, CallbacksOfTheUserRunToo) {
	std::stop_source outer;
	std::stop_source inner;
	const std::stop_callback forward(outer.get_token(), [&] { inner.request_stop(); });
	subject sleeper([&](subject &s) {
		s.about_to_block();
		s.set_result(lwp::this_thread::sleep_for(1h, inner.get_token()));
	});
	sleeper.await_blocked();
	outer.request_stop();
	collect(sleeper.lid());
	EXPECT_EQ(sleeper.result(), 0);
}

TEST(StopJoin, JoinsOneThatHasEndedInAnyCase) {
	std::stop_source source;
	source.request_stop();
	lwp::thread a([] {});
	lwp::thread b([] {});
	lwp::jthread c([] {});
	EXPECT_TRUE(wait_until([&] { return !alive(a.native_handle()) && !alive(b.native_handle()) && !alive(c.native_handle()); }));
	EXPECT_TRUE(a.join(source.get_token()));
	EXPECT_TRUE(b.try_join_for(-1s));
	EXPECT_TRUE(c.try_join_until(std::chrono::system_clock::time_point::min(), source.get_token()));
	EXPECT_FALSE(a.joinable() || b.joinable() || c.joinable());
	expect_nothing_left();
}

TEST(StopJoin, GivesUpAndStaysJoinable) {
	auto body = [] {
		gate leave;
		lwp::thread t([&leave] { leave.pass(); });
		const auto id = t.get_id();
		auto begin = std::chrono::steady_clock::now();
		EXPECT_FALSE(t.try_join_for(2ms));
		EXPECT_GE(std::chrono::steady_clock::now() - begin, 2ms);
		EXPECT_FALSE(t.try_join_for(0s));
		const auto system = std::chrono::system_clock::now() + 2ms;
		EXPECT_FALSE(t.try_join_until(system));
		EXPECT_GE(std::chrono::system_clock::now(), system);
		std::stop_source source;
		source.request_stop();
		EXPECT_FALSE(t.join(source.get_token()));
		EXPECT_FALSE(t.try_join_for(1h, source.get_token()));
		EXPECT_FALSE(t.try_join_until(std::chrono::system_clock::now() + 1h, source.get_token()));
		EXPECT_EQ(t.get_id(), id);
		expect_nothing_left();
		leave.open();
		EXPECT_TRUE(t.try_join_for(1h));
		EXPECT_FALSE(t.joinable());
	};
	collect(spawn(body));
	in_a_kernel_thread(body);
}

TEST(StopJoin, SuspendAndWakeupDoNotEndIt) {
	gate leave;
	lwp::thread t([&leave] { leave.pass(); });
	std::stop_source source;
	subject joiner([&](subject &s) {
		s.about_to_block();
		s.set_result(t.try_join_for(1h, source.get_token()));
	});
	joiner.await_blocked();
	EXPECT_EQ(error_of(_lwp_suspend(joiner.lid())), 0);
	EXPECT_EQ(error_of(_lwp_continue(joiner.lid())), 0);
	EXPECT_TRUE(wait_until([&] { return _lwp_wakeup(joiner.lid()) == 0; }));
	EXPECT_TRUE(wait_until([&] { return joiner.result() != -1 || _lwp_wakeup(joiner.lid()) == 0; })) << "waits again";
	EXPECT_EQ(joiner.result(), -1);
	leave.open();
	collect(joiner.lid());
	EXPECT_EQ(joiner.result(), 1);
}

TEST(StopJoin, ErrorsAreThoseOfJoin) {
	lwp::thread none;
	EXPECT_THROW((void)none.try_join_for(1s), std::system_error);
	EXPECT_THROW((void)none.join(std::stop_token()), std::system_error);
	lwp::thread self;
	gate go;
	self = lwp::thread([&] {
		go.pass();
		EXPECT_THROW((void)self.try_join_for(1h), std::system_error);
	});
	go.open();
	EXPECT_TRUE(wait_until([lid = self.native_handle()] { return !alive(lid); }));
	self.join();
}

// End, deadline and stop come at about the same time: exactly one answer, and the thread is joined once.
TEST(StopJoin, EndAgainstDeadlineAgainstStop) {
	const std::size_t n = rounds(3000);
	dice d(seed());
	std::size_t joined = 0;
	for (std::size_t k = 0; k < n; k++) {
		std::stop_source source;
		lwp::thread t([spins = d.below(4)] {
			for (unsigned i = 0; i < spins; i++) {
				lwp::this_thread::yield();
			}
		});
		bool in_time = false;
		const auto limit = std::chrono::microseconds(d.below(40));
		lwp::thread joiner([&] {
			in_time = t.try_join_for(limit, source.get_token());
			EXPECT_NE(in_time, t.joinable());
			if (t.joinable()) {
				t.join();
			}
			if (k % 8 == 0) {
				expect_nothing_left();
			}
		});
		for (unsigned spin = d.below(4); spin > 0; spin--) {
			lwp::this_thread::yield();
		}
		source.request_stop();
		joiner.join();
		joined += in_time;
	}
	std::printf("%zu of %zu joined in time\n", joined, n);
}

// What other primitives build on.  A grant that a sender and a stop both want is one's, and the waiter learns whose.
TEST(StopGrant, RequestAgainstGiver) {
	using namespace lwp::kern;
	const std::size_t n = rounds(5000);
	dice d(seed());
	std::size_t given = 0;
	for (std::size_t k = 0; k < n; k++) {
		std::stop_source source;
		std::mutex m;  // the object's lock; nobody switches with it
		grant *hung = nullptr;
		bool came = false;
		bool gave = false;
		bool got = false;
		lwp::thread waiter([&] {
			grant g(curlwp());
			{
				std::lock_guard hold(m);
				hung = &g;
				came = true;
			}
			{
				const stop_grant ender(source.get_token(), &g);
				EXPECT_EQ(grant_wait_out(&g, "test"), 0);
			}
			std::lock_guard hold(m);
			hung = nullptr;
			got = g.g_by == 1;
			EXPECT_TRUE(got || g.g_by == stop_grant::stopped);
		});
		EXPECT_TRUE(wait_until([&] {
			std::lock_guard hold(m);
			return came;
		}));
		lwp::thread stopper([&, spins = d.below(3)] {
			for (unsigned i = 0; i < spins; i++) {
				lwp::this_thread::yield();
			}
			source.request_stop();
		});
		for (unsigned spins = d.below(3); spins > 0; spins--) {
			lwp::this_thread::yield();
		}
		{
			std::lock_guard hold(m);
			if (hung != nullptr && grant_take(hung, 1)) {
				gave = true;
				grant_give(hung, curlwp()->l_cpu);
			}
		}
		waiter.join();
		stopper.join();
		EXPECT_EQ(got, gave);
		given += got;
	}
	std::printf("%zu of %zu given\n", given, n);
}
