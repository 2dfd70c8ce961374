// SPDX-License-Identifier: BSD-2-Clause
//
// lwp::scope: nobody outlives it, the first exception stops the others and comes out of join(), stops go inward and deadlines are stops.
// vcpus: 1 2 8
#include <lwp/scope.hpp>
#include <lwp/specific.hpp>

#include "../support/support.h"

#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using namespace lwp::test;
using namespace std::chrono_literals;

namespace {

const bool touched = touch_runtime();

/// Until a stop is requested; fails the test after an hour.
void sleep_till_stopped(const std::stop_token &stop) { EXPECT_FALSE(lwp::this_thread::sleep_for(1h, stop)); }

struct counted {
	static inline std::atomic<int> alive{0};
	counted() { alive++; }
	counted(const counted &) { alive++; }
	counted(counted &&) noexcept { alive++; }
	counted &operator=(const counted &) = delete;
	~counted() { alive--; }
};

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

TEST(Scope, JoinWaitsForAllAndCanBeUsedAgain) {
	auto body = [] {
		lwp::scope s;
		std::atomic<int> ran{0};
		for (int round = 1; round <= 3; round++) {
			for (int i = 0; i < 50; i++) {
				s.start([&ran, i] {
					if (i % 2 == 0) {
						lwp::this_thread::yield();
					}
					ran++;
				});
			}
			s.join();
			EXPECT_EQ(ran, 50 * round);
		}
		s.join();
		EXPECT_FALSE(s.stop_requested());
	};
	body();
	collect(spawn(body));
	in_a_kernel_thread(body);
}

// It runs before whoever starts it goes on: it is counted by then.
TEST(Scope, AChildMayEndWhileItIsStarted) {
	lwp::thread({.priority = 1, .vcpu = 0, .policy = lwp::sched_policy::fifo}, [] {
		lwp::scope s;
		int ran = 0;
		for (int i = 1; i <= 3; i++) {
			s.start({.priority = 2, .vcpu = 0, .policy = lwp::sched_policy::fifo}, [&ran] { ran++; });
			EXPECT_EQ(ran, i);
		}
		s.join();
		EXPECT_FALSE(s.stop_requested());
	}).join();
}

TEST(Scope, DestructorStopsAndWaits) {
	std::atomic<int> ended{0};
	{
		lwp::scope s;
		for (int i = 0; i < 20; i++) {
			s.start([&ended](const std::stop_token &stop) {
				sleep_till_stopped(stop);
				lwp::this_thread::sleep_for(1ms);
				ended++;
			});
		}
	}
	EXPECT_EQ(ended, 20);
	try {
		lwp::scope s;
		s.start([&](const std::stop_token &stop) {
			sleep_till_stopped(stop);
			ended++;
			throw 1;  // nobody joins: dropped
		});
		throw std::runtime_error("the owner's own");
	} catch (const std::runtime_error &) {
	}
	EXPECT_EQ(ended, 21);
}

// A child has ended when its specific data are gone: then only join() returns.
TEST(Scope, JoinWaitsForSpecificData) {
	static std::atomic<int> destroyed;
	struct slow {
		~slow() {
			lwp::this_thread::sleep_for(2ms);
			destroyed++;
		}
	};
	destroyed = 0;
	lwp::specific<slow> data;
	lwp::scope s;
	for (int i = 0; i < 5; i++) {
		s.start([&] { (void)data.get(); });
	}
	s.join();
	EXPECT_EQ(destroyed, 5);
}

TEST(Scope, FirstExceptionStopsTheSiblingsAndComesOutOfJoin) {
	lwp::scope s;
	std::atomic<int> stopped{0};
	for (int i = 0; i < 10; i++) {
		s.start([&stopped](const std::stop_token &stop) {
			sleep_till_stopped(stop);
			stopped++;
			throw std::logic_error("later: dropped");
		});
	}
	auto f = s.spawn([]() -> int { throw std::runtime_error("first"); });
	EXPECT_THROW((void)f.get(), std::runtime_error);
	EXPECT_TRUE(s.stop_requested()) << "before its future shows it";
	EXPECT_THROW(s.join(), std::runtime_error);
	EXPECT_EQ(stopped, 10);
	s.join();  // once
	s.start([] { throw 3; });
	EXPECT_THROW(s.join(), int) << "the first since the last join";
}

TEST(Scope, TokenArgumentsAttributesAndResults) {
	lwp::scope s;
	auto text = s.spawn([](const std::string &a, std::unique_ptr<int> b) { return a + std::to_string(*b); }, "x", std::make_unique<int>(1));
	auto token = s.spawn([](std::stop_token t, int n) { return t.stop_possible() ? n : 0; }, 2);
	auto name = s.spawn({.name = "child", .detached = true}, [] {
		char n[LWP_MAXNAME];
		EXPECT_EQ(error_of(_lwp_getname(0, n, sizeof(n))), 0);
		return std::string(n);
	});
	int target = 0;
	auto reference = s.spawn([&]() -> int & { return target; });
	s.spawn([&target](int n) { target = n; }, 9);  // the future need not be kept
	const auto [a, b, c] = s.join_all(text, token, name);
	EXPECT_EQ(a, "x1");
	EXPECT_EQ(b, 2);
	EXPECT_EQ(c, "child");
	EXPECT_EQ(&reference.get(), &target);
	EXPECT_EQ(target, 9);
	EXPECT_THROW((void)s.spawn({.stack_size = 1}, [] {}), std::system_error);
	EXPECT_THROW(s.start({.priority = 99}, [] {}), std::system_error);
	s.join();  // who was refused is not waited for
}

TEST(Scope, ResultsComeInTheOrderOfSpawning) {
	lwp::scope s;
	std::vector<lwp::future<std::size_t>> children;
	for (std::size_t i = 0; i < 100; i++) {
		children.push_back(s.spawn([i] {
			for (std::size_t k = 0; k < 100 - i; k++) {
				lwp::this_thread::yield();
			}
			return i;
		}));
	}
	const std::vector<std::size_t> out = s.results(children);
	ASSERT_EQ(out.size(), 100U);
	for (std::size_t i = 0; i < out.size(); i++) {
		EXPECT_EQ(out[i], i);
	}
	children.clear();
	children.push_back(s.spawn([]() -> std::size_t { throw 1; }));
	EXPECT_THROW((void)s.results(children), int);
}

TEST(Scope, SpawnAfterAStopRunsWithATokenThatSaysStop) {
	lwp::scope s;
	EXPECT_TRUE(s.request_stop());
	EXPECT_FALSE(s.request_stop());
	auto f = s.spawn([](const std::stop_token &t) { return t.stop_requested(); });
	EXPECT_TRUE(f.get());
	s.join();
}

TEST(Scope, ChildrenSpawnChildren) {
	lwp::scope s;
	std::atomic<int> leaves{0};
	struct tree {
		static void grow(lwp::scope &s, std::atomic<int> &leaves, int depth) {
			if (depth == 0) {
				leaves++;
				return;
			}
			for (int i = 0; i < 3; i++) {
				s.start(grow, std::ref(s), std::ref(leaves), depth - 1);
			}
		}
	};
	tree::grow(s, leaves, 6);
	s.join();
	EXPECT_EQ(leaves, 729);
}

TEST(Scope, StopGoesInwardNotOutward) {
	lwp::scope outer;
	std::atomic<int> ended{0};
	outer.start([&](const std::stop_token &stop) {
		lwp::scope inner(stop);
		inner.start([&](const std::stop_token &t) {
			lwp::scope innermost(t);
			innermost.start([&](const std::stop_token &u) {
				sleep_till_stopped(u);
				ended++;
			});
			innermost.join();
			ended++;
		});
		inner.join();
		ended++;
	});
	{
		lwp::scope other(outer.get_stop_token());
		other.request_stop();
	}
	EXPECT_FALSE(outer.stop_requested());
	lwp::this_thread::sleep_for(1ms);
	EXPECT_EQ(ended, 0);
	outer.request_stop();
	outer.join();
	EXPECT_EQ(ended, 3);
	const lwp::scope late(outer.get_stop_token());
	EXPECT_TRUE(late.stop_requested());
}

TEST(Scope, DeadlineIsAStop) {
	const auto begin = std::chrono::steady_clock::now();
	for (int kind = 0; kind < 3; kind++) {
		std::optional<lwp::scope> s;
		if (kind == 0) {
			s.emplace(2ms);
		} else if (kind == 1) {
			s.emplace(std::chrono::steady_clock::now() + 2ms);
		} else {
			s.emplace(std::chrono::system_clock::now() + 2ms);
		}
		s->start(sleep_till_stopped);
		s->join();
		EXPECT_TRUE(s->stop_requested());
	}
	EXPECT_GE(std::chrono::steady_clock::now() - begin, 6ms);
	// One that is over before its deadline leaves nobody behind to wait for that.
	lwp::scope early(1h);
	early.start([] {});
	early.join();
	EXPECT_FALSE(early.stop_requested());
	lwp::scope both(1h, early.get_stop_token());
	both.start(sleep_till_stopped);
	early.request_stop();
	both.join();
}

TEST(Scope, DestroysCallablesAndResults) {
	{
		lwp::scope s;
		for (int i = 0; i < 100; i++) {
			auto f = s.spawn([c = counted()](const counted &) { return counted(); }, counted());
			s.start([c = counted()] {});
		}
		s.join();
		EXPECT_EQ(counted::alive, 0);
	}
	EXPECT_EQ(counted::alive, 0);
}

// However many there were, only those alive at once take room.
TEST(Scope, ManyChildrenLeaveNothingBehind) {
	const std::size_t n = rounds(300000);
	lwp::scope s;
	std::atomic<std::size_t> ran{0};
	std::size_t most = 0;
	for (std::size_t i = 0; i < n; i++) {
		s.start([&ran] { ran++; });
		if (i % 64 == 63) {
			EXPECT_TRUE(wait_until([&] { return ran == i + 1; }));
			most = std::max(most, lwp::runtime::stats().lwps);
		}
	}
	s.join();
	EXPECT_EQ(ran, n);
	EXPECT_LT(most, 2000U);
}

// The last child ends while the owner goes to wait, or polls and destroys the scope at once: neither may be touched afterwards.
TEST(ScopeRace, LastEndAgainstJoinAndDestruction) {
	const std::size_t n = rounds(20000);
	dice d(seed());
	for (std::size_t k = 0; k < n; k++) {
		auto s = std::make_unique<lwp::scope>();
		std::atomic<int> ran{0};
		const unsigned children = 1 + d.below(3);
		for (unsigned i = 0; i < children; i++) {
			s->start([&ran] { ran++; });
		}
		for (unsigned spins = d.below(3); spins > 0; spins--) {
			lwp::this_thread::yield();
		}
		if (d.one_in(2)) {
			s->join();
		}
		s.reset();
		if (ran != static_cast<int>(children)) {
			ADD_FAILURE() << "round " << k;
		}
	}
}

// A child throws, another stops, the deadline of an outer scope comes: all at about the same time.
TEST(ScopeRace, StopAgainstExceptionAgainstEnd) {
	const std::size_t n = rounds(2000);
	dice d(seed());
	std::size_t thrown = 0;
	for (std::size_t k = 0; k < n; k++) {
		lwp::scope outer(std::chrono::microseconds(d.below(100)));
		lwp::scope inner(outer.get_stop_token());
		for (int i = 0; i < 3; i++) {
			inner.start(sleep_till_stopped);
		}
		inner.start([spins = d.below(6)] {
			for (unsigned i = 0; i < spins; i++) {
				lwp::this_thread::yield();
			}
			throw 1;
		});
		outer.start([&inner, spins = d.below(6)] {
			for (unsigned i = 0; i < spins; i++) {
				lwp::this_thread::yield();
			}
			inner.request_stop();
		});
		try {
			inner.join();
		} catch (int) {
			thrown++;
		}
		outer.join();
	}
	EXPECT_EQ(thrown, n);
}
