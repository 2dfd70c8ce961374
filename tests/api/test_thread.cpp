// SPDX-License-Identifier: BSD-2-Clause
//
// lwp::thread, lwp::jthread, lwp::this_thread by the clauses of the C++20 standard ([thread.threads], [thread.thread.this]), and the
// attributes that std does not have.
// vcpus: 1 2 8
#include "../support/support.h"

#include <compare>
#include <csignal>
#include <cstdlib>
#include <functional>
#include <memory>
#include <set>
#include <sstream>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <system_error>
#include <type_traits>
#include <unordered_set>
#include <vector>

using namespace lwp::test;
using namespace std::chrono_literals;

namespace {

const bool touched = touch_runtime();

template <class F>
int error_thrown_by(F f) {
	try {
		f();
	} catch (const std::system_error &e) {
		EXPECT_EQ(e.code().category(), std::generic_category());
		return e.code().value();
	}
	return 0;
}

}  // namespace

// [thread.thread.class], [thread.jthread.class]
static_assert(!std::is_copy_constructible_v<lwp::thread> && !std::is_copy_assignable_v<lwp::thread>);
static_assert(std::is_nothrow_move_constructible_v<lwp::thread> && std::is_nothrow_move_assignable_v<lwp::thread>);
static_assert(std::is_nothrow_default_constructible_v<lwp::thread>);
static_assert(!std::is_copy_constructible_v<lwp::jthread> && !std::is_copy_assignable_v<lwp::jthread>);
static_assert(std::is_nothrow_move_constructible_v<lwp::jthread> && std::is_nothrow_move_assignable_v<lwp::jthread>);
static_assert(std::is_nothrow_default_constructible_v<lwp::jthread>);
static_assert(!std::is_convertible_v<void (*)(), lwp::thread>, "explicit");
static_assert(!std::is_constructible_v<lwp::thread, int>, "not callable");
static_assert(!std::is_constructible_v<lwp::thread, void (*)(int)>, "an argument is missing");
static_assert(!std::is_constructible_v<lwp::thread, const lwp::thread &>);
static_assert(std::is_nothrow_swappable_v<lwp::thread> && std::is_nothrow_swappable_v<lwp::jthread>);
// [thread.thread.id]
static_assert(std::is_trivially_copyable_v<lwp::thread::id> && std::is_nothrow_default_constructible_v<lwp::thread::id>);
static_assert(std::three_way_comparable<lwp::thread::id, std::strong_ordering>);
static_assert(std::is_same_v<lwp::thread::id, lwp::jthread::id>);

TEST(Thread, DefaultOneNamesNobody) {
	const lwp::thread t;
	EXPECT_FALSE(t.joinable());
	EXPECT_EQ(t.get_id(), lwp::thread::id());
}

TEST(Thread, RunsTheCallableAndJoinSynchronizes) {
	int value = 0;
	lwp::thread t([&value] {
		lwp_yield();
		value = 1;
	});
	EXPECT_TRUE(t.joinable());
	EXPECT_NE(t.get_id(), lwp::thread::id());
	EXPECT_NE(t.get_id(), lwp::this_thread::get_id());
	t.join();
	EXPECT_EQ(value, 1);
	EXPECT_FALSE(t.joinable());
	EXPECT_EQ(t.get_id(), lwp::thread::id());
}

TEST(Thread, CallableOfEveryKind) {
	struct object {
		int sum = 0;
		void add(int a, int b) { sum = a + b; }
		void operator()(int &out) const { out = 5; }
	};
	object o;
	lwp::thread member(&object::add, &o, 2, 3);
	member.join();
	EXPECT_EQ(o.sum, 5);
	lwp::thread by_reference(&object::add, std::ref(o), 4, 5);
	by_reference.join();
	EXPECT_EQ(o.sum, 9);
	int out = 0;
	lwp::thread function_object(object{}, std::ref(out));
	function_object.join();
	EXPECT_EQ(out, 5);
	std::function<void()> f = [&out] { out = 6; };
	lwp::thread wrapped(f);
	wrapped.join();
	EXPECT_EQ(out, 6);
}

TEST(Thread, MovedOnlyCallableAndArguments) {
	auto number = std::make_unique<int>(3);
	int seen = 0;
	lwp::thread t([held = std::make_unique<int>(4), &seen](std::unique_ptr<int> given) { seen = *held * *given; }, std::move(number));
	EXPECT_EQ(number, nullptr);
	t.join();
	EXPECT_EQ(seen, 12);
}

// Decay copies are made by the creator: what it does to its own afterwards is not seen.
TEST(Thread, ArgumentsAreDecayedAndCopied) {
	std::string text = "before";
	char array[] = "array";
	std::string seen;
	std::string seen_array;
	gate go;
	lwp::thread t(
	    [&](const std::string &s, const char *p, int n) {
		    go.pass();
		    seen = s + std::to_string(n);
		    seen_array = p;
	    },
	    text, array, short{7});
	text = "after";
	go.open();
	t.join();
	EXPECT_EQ(seen, "before7");
	EXPECT_EQ(seen_array, "array");
}

TEST(Thread, ArgumentsArePassedAsRvalues) {
	bool rvalue = false;
	struct overloaded {
		bool *rvalue;
		void operator()(const std::string &) const { *rvalue = false; }
		void operator()(std::string &&) const { *rvalue = true; }
	};
	const std::string text = "x";
	lwp::thread t(overloaded{&rvalue}, text);
	t.join();
	EXPECT_TRUE(rvalue);
}

TEST(Thread, LargeAndOveralignedPayload) {
	struct alignas(64) big {
		char data[4000] = {};
	};
	big b;
	b.data[3999] = 42;
	char seen = 0;
	bool aligned = false;
	lwp::thread t(
	    [&](const big &mine) {
		    seen = mine.data[3999];
		    aligned = reinterpret_cast<std::uintptr_t>(&mine) % 64 == 0;
	    },
	    b);
	t.join();
	EXPECT_EQ(seen, 42);
	EXPECT_TRUE(aligned);
}

namespace {

/// Counts living copies and throws at the n-th copy or move.
struct fragile {
	static inline int alive = 0;
	static inline int until_throw = 0;
	static void step() {
		if (--until_throw == 0) {
			throw std::runtime_error("fragile");
		}
	}
	fragile() { ++alive; }
	fragile(const fragile &) {
		step();
		++alive;
	}
	fragile(fragile &&) noexcept(false) {
		step();
		++alive;
	}
	~fragile() { --alive; }
};

}  // namespace

// However far the copying came, neither an LWP nor a stack nor an argument is left when it throws.
TEST(Thread, ExceptionWhileCopyingArgumentsLeavesNothing) {
	const fragile original;
	const auto before = lwp::runtime::stats();
	bool through = false;
	int refused = 0;
	while (!through) {
		fragile::until_throw = refused + 1;
		try {
			lwp::thread t([](const fragile &) {}, original);
			fragile::until_throw = 0;
			t.join();
			through = true;
		} catch (const std::runtime_error &) {
			++refused;
			ASSERT_LT(refused, 50);
			const auto after = lwp::runtime::stats();
			EXPECT_EQ(after.lwps, before.lwps);
			EXPECT_EQ(after.stacks_in_use, before.stacks_in_use);
		}
		EXPECT_EQ(fragile::alive, 1);
	}
	EXPECT_GE(refused, 2) << "at least the copy and the move onto the new stack";
}

TEST(Thread, CallableAndArgumentsAreDestroyedBeforeJoinReturns) {
	struct counted {
		std::atomic<int> *n;
		explicit counted(std::atomic<int> *c) : n(c) { n->fetch_add(1); }
		counted(const counted &o) : n(o.n) { n->fetch_add(1); }
		counted(counted &&o) noexcept : n(o.n) { n->fetch_add(1); }
		counted &operator=(const counted &) = delete;
		~counted() { n->fetch_sub(1); }
	};
	std::atomic<int> n{0};
	for (int i = 0; i < 100; ++i) {
		lwp::thread t([held = counted(&n)](const counted &) { EXPECT_GE(held.n->load(), 2); }, counted(&n));
		t.join();
		ASSERT_EQ(n.load(), 0);
	}
}

TEST(Thread, MoveHandsItOn) {
	lwp::thread a([] {});
	const auto id = a.get_id();
	lwp::thread b(std::move(a));
	EXPECT_FALSE(a.joinable());
	EXPECT_EQ(b.get_id(), id);
	lwp::thread c;
	c = std::move(b);
	EXPECT_FALSE(b.joinable());
	EXPECT_EQ(c.get_id(), id);
	c.join();
}

TEST(Thread, Swap) {
	lwp::thread a([] {});
	lwp::thread b([] {});
	lwp::thread none;
	const auto a_id = a.get_id();
	const auto b_id = b.get_id();
	a.swap(b);
	EXPECT_EQ(a.get_id(), b_id);
	EXPECT_EQ(b.get_id(), a_id);
	swap(a, none);
	EXPECT_FALSE(a.joinable());
	EXPECT_EQ(none.get_id(), b_id);
	none.join();
	b.join();
}

TEST(Thread, JoinOfNobodyIsEinval) {
	lwp::thread t;
	EXPECT_EQ(error_thrown_by([&t] { t.join(); }), EINVAL);
	EXPECT_EQ(error_thrown_by([&t] { t.detach(); }), EINVAL);
	lwp::thread once([] {});
	once.join();
	EXPECT_EQ(error_thrown_by([&once] { once.join(); }), EINVAL);
}

TEST(Thread, JoinOfOneselfIsEdeadlk) {
	int error = 0;
	gate go;
	lwp::thread t;
	t = lwp::thread([&] {
		go.pass();
		error = error_thrown_by([&t] { t.join(); });
	});
	go.open();
	EXPECT_TRUE(wait_until([lid = t.native_handle()] { return !alive(lid); }));
	EXPECT_EQ(error, EDEADLK);
	EXPECT_TRUE(t.joinable());
	t.join();
}

TEST(Thread, JoinThatWouldCloseACycleIsEdeadlk) {
	std::atomic<int> refused{0};
	lwp::thread a;
	lwp::thread b;
	gate go;
	b = lwp::thread([&] {
		go.pass();
		if (error_thrown_by([&a] { a.join(); }) == EDEADLK) {
			refused.fetch_add(1);
		}
	});
	a = lwp::thread([&] {
		go.pass();
		if (error_thrown_by([&b] { b.join(); }) == EDEADLK) {
			refused.fetch_add(1);
		}
	});
	const lwpid_t a_lid = a.native_handle();
	const lwpid_t b_lid = b.native_handle();
	go.open();
	EXPECT_TRUE(wait_until([=] { return !alive(a_lid) && !alive(b_lid); }));
	EXPECT_EQ(refused.load(), 1);
	// The one that was not refused has collected the other.
	EXPECT_NE(a.joinable(), b.joinable());
	(a.joinable() ? a : b).join();
}

TEST(Thread, JoinOfOneThatWasCollectedIsEsrch) {
	lwp::thread t([] {});
	collect(t.native_handle());
	EXPECT_EQ(error_thrown_by([&t] { t.join(); }), ESRCH);
	EXPECT_EQ(error_thrown_by([&t] { t.detach(); }), ESRCH);
	EXPECT_TRUE(t.joinable());
	// Its destructor would terminate, and nothing else gets rid of the name: the object is left behind on purpose.
	static std::unique_ptr<lwp::thread> *const kept = new std::unique_ptr<lwp::thread>;
	kept->reset(new lwp::thread(std::move(t)));
}

TEST(Thread, Detach) {
	std::atomic<bool> ran{false};
	gate leave;
	lwp::thread t([&] {
		leave.pass();
		ran = true;
	});
	const lwpid_t lid = t.native_handle();
	t.detach();
	EXPECT_FALSE(t.joinable());
	EXPECT_EQ(t.get_id(), lwp::thread::id());
	leave.open();
	await_end(lid);
	EXPECT_TRUE(ran);
}

TEST(Thread, HardwareConcurrencyIsTheNumberOfVcpus) {
	EXPECT_EQ(lwp::thread::hardware_concurrency(), lwp::runtime::vcpus());
	EXPECT_EQ(lwp::jthread::hardware_concurrency(), lwp::runtime::vcpus());
}

TEST(Thread, NativeHandleIsTheLwpId) {
	lwpid_t seen = 0;
	lwp::thread t([&seen] { seen = _lwp_self(); });
	const lwpid_t handle = t.native_handle();
	t.join();
	EXPECT_EQ(seen, handle);
}

namespace {

[[noreturn]] void let_an_exception_escape() {
	lwp::thread t([] { throw std::runtime_error("nobody catches this"); });
	t.join();
	std::_Exit(0);
}

[[noreturn]] void destroy_a_joinable_one() {
	{
		lwp::thread t([] { (void)park(); });
	}
	std::_Exit(0);
}

[[noreturn]] void assign_to_a_joinable_one() {
	lwp::thread t([] { (void)park(); });
	t = lwp::thread();
	std::_Exit(0);
}

}  // namespace

// [thread.thread.constr], [thread.thread.destr], [thread.thread.assign]
TEST(ThreadDeathTest, EscapingExceptionTerminates) {
	EXPECT_EXIT(let_an_exception_escape(), testing::KilledBySignal(SIGABRT), "nobody catches this");
}
TEST(ThreadDeathTest, DestroyingAJoinableOneTerminates) {
	EXPECT_EXIT(destroy_a_joinable_one(), testing::KilledBySignal(SIGABRT), "terminate");
}
TEST(ThreadDeathTest, AssigningToAJoinableOneTerminates) {
	EXPECT_EXIT(assign_to_a_joinable_one(), testing::KilledBySignal(SIGABRT), "terminate");
}

// [thread.thread.id]
TEST(ThreadId, OrderHashAndText) {
	std::vector<lwp::thread> threads;
	std::set<lwp::thread::id> ordered{lwp::thread::id(), lwp::this_thread::get_id()};
	std::unordered_set<lwp::thread::id> hashed(ordered.begin(), ordered.end());
	std::set<std::string> texts;
	gate leave;
	for (int i = 0; i < 10; ++i) {
		threads.emplace_back([&leave] { leave.pass(); });
		EXPECT_TRUE(ordered.insert(threads.back().get_id()).second);
		EXPECT_TRUE(hashed.insert(threads.back().get_id()).second);
	}
	for (const auto id : ordered) {
		std::ostringstream out;
		out << id;
		EXPECT_TRUE(texts.insert(out.str()).second) << "two ids print as " << out.str();
		std::wostringstream wide;
		wide << id;
		EXPECT_FALSE(wide.str().empty());
		EXPECT_EQ(hashed.count(id), 1U);
	}
	const lwp::thread::id none;
	const lwp::thread::id self = lwp::this_thread::get_id();
	EXPECT_TRUE(none == lwp::thread::id() && none != self);
	EXPECT_TRUE((none < self) != (self < none));
	EXPECT_EQ(std::hash<lwp::thread::id>()(self), std::hash<lwp::thread::id>()(lwp::this_thread::get_id()));
	leave.open();
	for (auto &t : threads) {
		t.join();
	}
}

TEST(ThreadId, SameInsideAndOutside) {
	lwp::thread::id seen;
	lwp::thread t([&seen] { seen = lwp::this_thread::get_id(); });
	const auto outside = t.get_id();
	t.join();
	EXPECT_EQ(seen, outside);
}

// [thread.jthread.class]
TEST(Jthread, StopsAndJoinsWhenDestroyed) {
	bool stopped = false;
	{
		lwp::jthread t([&stopped](std::stop_token token) {
			while (!token.stop_requested()) {
				lwp_yield();
			}
			stopped = true;
		});
		EXPECT_TRUE(t.joinable());
	}
	EXPECT_TRUE(stopped);
}

TEST(Jthread, StopTokenIsPassedBeforeTheArguments) {
	int sum = 0;
	bool possible = false;
	lwp::jthread t(
	    [&](std::stop_token token, int a, int b) {
		    possible = token.stop_possible();
		    sum = a + b;
	    },
	    1, 2);
	t.join();
	EXPECT_EQ(sum, 3);
	EXPECT_TRUE(possible);
}

TEST(Jthread, CallableThatTakesNoTokenGetsNone) {
	int value = 0;
	{
		lwp::jthread t([&value](int v) { value = v; }, 4);
	}
	EXPECT_EQ(value, 4);
}

TEST(Jthread, MoveAssignmentStopsAndJoinsTheOldOne) {
	std::atomic<int> stopped{0};
	auto until_stopped = [&stopped](std::stop_token token) {
		while (!token.stop_requested()) {
			lwp_yield();
		}
		stopped.fetch_add(1);
	};
	lwp::jthread t(until_stopped);
	const auto first = t.get_id();
	t = lwp::jthread(until_stopped);
	EXPECT_EQ(stopped.load(), 1);
	EXPECT_NE(t.get_id(), first);
	t = lwp::jthread();
	EXPECT_EQ(stopped.load(), 2);
	EXPECT_FALSE(t.joinable());
}

TEST(Jthread, SelfMoveAssignmentKeepsIt) {
	std::atomic<bool> stopped{false};
	lwp::jthread t([&stopped](std::stop_token token) {
		while (!token.stop_requested()) {
			lwp_yield();
		}
		stopped = true;
	});
	lwp::jthread &same = t;
	t = std::move(same);
	EXPECT_TRUE(t.joinable());
	EXPECT_FALSE(stopped);
}

TEST(Jthread, StopSourceTokenAndRequest) {
	lwp::jthread none;
	EXPECT_FALSE(none.get_stop_source().stop_possible());
	EXPECT_FALSE(none.get_stop_token().stop_possible());
	EXPECT_FALSE(none.request_stop());

	std::atomic<bool> called{false};
	lwp::jthread t([&called](std::stop_token token) {
		std::stop_callback callback(token, [&called] { called = true; });
		while (!token.stop_requested()) {
			lwp_yield();
		}
	});
	EXPECT_TRUE(t.get_stop_token().stop_possible());
	EXPECT_FALSE(t.get_stop_token().stop_requested());
	EXPECT_EQ(t.get_stop_source(), t.get_stop_source());
	EXPECT_TRUE(t.request_stop());
	EXPECT_FALSE(t.request_stop());
	EXPECT_TRUE(t.get_stop_token().stop_requested());
	t.join();
	EXPECT_FALSE(t.joinable());
}

TEST(Jthread, SwapDetachAndMove) {
	std::atomic<bool> leave{false};
	lwp::jthread a([&leave] {
		while (!leave.load()) {
			lwp_yield();
		}
	});
	lwp::jthread b;
	const auto id = a.get_id();
	const lwpid_t lid = a.native_handle();
	swap(a, b);
	EXPECT_EQ(b.get_id(), id);
	EXPECT_FALSE(a.joinable());
	EXPECT_FALSE(a.get_stop_token().stop_possible());
	lwp::jthread c(std::move(b));
	EXPECT_FALSE(b.joinable());
	EXPECT_EQ(c.get_id(), id);
	c.detach();
	EXPECT_FALSE(c.joinable());
	leave = true;
	await_end(lid);
	EXPECT_EQ(error_thrown_by([&c] { c.join(); }), EINVAL);
}

// [thread.thread.this]
TEST(ThisThread, SleepForIsNeverEarly) {
	using clock = std::chrono::steady_clock;
	for (const auto time : {std::chrono::nanoseconds(1), std::chrono::nanoseconds(1000), std::chrono::nanoseconds(700000)}) {
		for (int i = 0; i < 20; ++i) {
			const auto begin = clock::now();
			lwp::this_thread::sleep_for(time);
			ASSERT_GE(clock::now() - begin, time);
		}
	}
	const auto begin = clock::now();
	lwp::this_thread::sleep_for(std::chrono::duration<double, std::milli>(0.25));
	EXPECT_GE(clock::now() - begin, std::chrono::microseconds(250));
}

TEST(ThisThread, SleepUntilIsNeverEarlyByItsClock) {
	for (int i = 0; i < 20; ++i) {
		const auto steady = std::chrono::steady_clock::now() + 300us;
		lwp::this_thread::sleep_until(steady);
		ASSERT_GE(std::chrono::steady_clock::now(), steady);
		const auto system = std::chrono::system_clock::now() + 300us;
		lwp::this_thread::sleep_until(system);
		ASSERT_GE(std::chrono::system_clock::now(), system);
	}
}

TEST(ThisThread, SleepOfNothingOrLessReturns) {
	lwp::this_thread::sleep_for(0s);
	lwp::this_thread::sleep_for(-1s);
	lwp::this_thread::sleep_for(std::chrono::nanoseconds::min());
	lwp::this_thread::sleep_for(std::chrono::hours::min());
	lwp::this_thread::sleep_for(std::chrono::duration<double>(-1e300));
	lwp::this_thread::sleep_until(std::chrono::steady_clock::time_point::min());
	lwp::this_thread::sleep_until(std::chrono::steady_clock::time_point{});
	lwp::this_thread::sleep_until(std::chrono::system_clock::time_point::min());
	lwp::this_thread::sleep_until(std::chrono::steady_clock::now() - 1h);
}

TEST(ThisThread, SleepsOverlap) {
	std::vector<lwp::thread> threads;
	std::atomic<int> order{0};
	std::atomic<int> shortest{0};
	std::atomic<int> longest{0};
	for (int i = 0; i < 100; ++i) {
		threads.emplace_back([&, i] {
			lwp::this_thread::sleep_for(std::chrono::milliseconds(i == 0 ? 1 : 20));
			const int place = order.fetch_add(1) + 1;
			if (i == 0) {
				shortest = place;
			} else {
				longest = place;
			}
		});
	}
	for (auto &t : threads) {
		t.join();
	}
	EXPECT_EQ(order.load(), 100);
	EXPECT_GT(shortest.load(), 0);
	EXPECT_GT(longest.load(), 0);
}

namespace {

// All of them must sleep until the process ends: none may come back for an overflow.
[[noreturn]] void sleep_for_ever() {
	std::atomic<int> back{0};
	auto start = [&back](auto sleep) {
		lwp::thread({.detached = true}, [&back, sleep] {
			sleep();
			back.fetch_add(1);
		});
	};
	start([] { lwp::this_thread::sleep_for(std::chrono::hours::max()); });
	start([] { lwp::this_thread::sleep_for(std::chrono::nanoseconds::max()); });
	start([] { lwp::this_thread::sleep_for(std::chrono::seconds::max()); });
	start([] { lwp::this_thread::sleep_for(std::chrono::duration<double>(1e300)); });
	start([] { lwp::this_thread::sleep_for(std::chrono::duration<double>::max()); });
	start([] { lwp::this_thread::sleep_until(std::chrono::steady_clock::time_point::max()); });
	start([] { lwp::this_thread::sleep_until(std::chrono::system_clock::time_point::max()); });
	for (int i = 0; i < 10; ++i) {
		lwp::this_thread::sleep_for(1ms);
	}
	std::exit(back.load() == 0 ? 0 : 10);
}

}  // namespace

TEST(ThisThreadDeathTest, LongestSleepsDoNotOverflow) { EXPECT_EXIT(sleep_for_ever(), testing::ExitedWithCode(0), ""); }

TEST(ThisThread, YieldLetsAnotherRun) {
	std::atomic<bool> ran{false};
	lwp::thread t([&ran] { ran = true; });
	EXPECT_TRUE(wait_until([&ran] {
		lwp::this_thread::yield();
		return ran.load();
	}));
	t.join();
}

// [thread.jthread.cons]/13: what it had is stopped and joined before it takes over the other's.
TEST(Jthread, AssignmentStopsAndJoinsWhatItHadFirst) {
	std::atomic<bool> ended{false};
	lwp::jthread a([&ended](std::stop_token stop) {
		EXPECT_TRUE(wait_until([&] { return stop.stop_requested(); }));
		ended = true;
	});
	std::atomic<bool> stopped{false};
	lwp::jthread b([&stopped](std::stop_token stop) {
		EXPECT_TRUE(wait_until([&] { return stop.stop_requested(); }));
		stopped = true;
	});
	const auto id = b.get_id();
	const auto source = b.get_stop_source();
	a = std::move(b);
	EXPECT_TRUE(ended);
	EXPECT_FALSE(stopped);
	EXPECT_EQ(a.get_id(), id);
	EXPECT_TRUE(a.get_stop_source() == source);
	EXPECT_FALSE(b.joinable());
	EXPECT_FALSE(b.get_stop_source().stop_possible()) << "moved from: no stop state";
	auto &same = a;
	a = std::move(same);
	EXPECT_TRUE(a.joinable()) << "nothing happens to itself";
	EXPECT_FALSE(stopped);
	a = lwp::jthread();
	EXPECT_TRUE(stopped);
	EXPECT_FALSE(a.get_stop_token().stop_possible());
}

// A callback that a jthread's function registers runs in whoever requests the stop.
TEST(Jthread, StopCallbackWakesAWait) {
	std::atomic<lwpid_t> asleep{0};
	lwp::jthread t([&](const std::stop_token &stop) {
		const std::stop_callback wake(stop, [lid = _lwp_self()] { _lwp_unpark(lid, nullptr); });
		asleep = _lwp_self();
		while (!stop.stop_requested()) {
			(void)park();
		}
	});
	EXPECT_TRUE(wait_until([&] { return asleep != 0; }));
	EXPECT_TRUE(t.request_stop());
	t.join();
}

TEST(SpecificOf, FactoryMakesWhatHasNoDefault) {
	struct number {
		explicit number(int n) : value(n) {}
		number(const number &) = delete;
		number &operator=(const number &) = delete;
		int value;
	};
	std::atomic<int> made{0};
	lwp::specific<number> s([&made] { return number(++made); });
	EXPECT_EQ(s->value, 1);
	EXPECT_EQ(s->value, 1);
	lwp::thread t([&] {
		EXPECT_EQ(s.get_if(), nullptr);
		EXPECT_EQ(s->value, 2);
		EXPECT_EQ(s.emplace(7).value, 7);
		s.reset();
		EXPECT_EQ(s->value, 3);
	});
	t.join();
	s.reset();
	lwp::specific<number> none;
	EXPECT_THROW((void)none.get(), std::bad_function_call);
	EXPECT_EQ(none.emplace(1).value, 1);
	EXPECT_EQ(none->value, 1);
	none.reset();
	bool refuse = true;
	lwp::specific<std::string> tries([&refuse] {
		if (refuse) {
			throw std::runtime_error("not yet");
		}
		return std::string("made");
	});
	EXPECT_THROW((void)tries.get(), std::runtime_error);
	refuse = false;
	EXPECT_EQ(*tries, "made");
	tries.reset();
}

TEST(Attributes, Name) {
	auto named = [](const char *given) {
		char name[LWP_MAXNAME] = "?";
		lwp::thread t({.name = given}, [&name] { EXPECT_EQ(error_of(_lwp_getname(0, name, sizeof(name))), 0); });
		t.join();
		return std::string(name);
	};
	EXPECT_EQ(named("worker"), "worker");
	EXPECT_EQ(named(nullptr), "");
	EXPECT_EQ(named("a name of more than fifteen bytes"), "a name of more ");
}

TEST(Attributes, StackSize) {
	std::size_t touched_bytes = 0;
	lwp::thread t({.stack_size = 2 * 1024 * 1024}, [&touched_bytes] {
		volatile char big[1900 * 1024];
		for (std::size_t i = 0; i < sizeof(big); i += 1024) {
			big[i] = 1;
			touched_bytes += 1024;
		}
	});
	t.join();
	EXPECT_EQ(touched_bytes, 1900U * 1024);
	lwp::thread smallest({.stack_size = 16 * 1024}, [] { lwp_yield(); });
	smallest.join();
	lwp::thread odd({.stack_size = 50001}, [] { lwp_yield(); });
	odd.join();
}

TEST(Attributes, Detached) {
	gate leave;
	std::atomic<lwpid_t> lid{0};
	lwp::thread t({.detached = true}, [&] {
		lid = _lwp_self();
		leave.pass();
	});
	EXPECT_FALSE(t.joinable());
	EXPECT_EQ(t.get_id(), lwp::thread::id());
	EXPECT_TRUE(wait_until([&lid] { return lid.load() != 0; }));
	EXPECT_EQ(error_of(_lwp_detach(lid.load())), EINVAL);
	EXPECT_EQ(error_of(_lwp_wait(lid.load(), nullptr)), ESRCH);
	leave.open();
	await_end(lid.load());
}

// An LWP bound to a vCPU is seen there only, and so are those that it creates.
TEST(Attributes, VcpuIsKeptAndInherited) {
	const auto vcpus = static_cast<int>(lwp::runtime::vcpus());
	for (int v = 0; v < vcpus; ++v) {
		lwp::thread t({.vcpu = v}, [v] {
			auto stay = [v] {
				lwpctl_t *block = nullptr;
				ASSERT_EQ(error_of(_lwp_ctl(LWPCTL_FEATURE_CURCPU, &block)), 0);
				for (int i = 0; i < 200; ++i) {
					ASSERT_EQ(vcpu_of(block), v);
					lwp_yield();
				}
				(void)park_for(10us);
				ASSERT_EQ(vcpu_of(block), v);
			};
			stay();
			lwp::thread child(stay);
			child.join();
		});
		t.join();
	}
}

TEST(Attributes, PolicyAndPriorityAreAccepted) {
	for (const auto policy : {lwp::sched_policy::inherit, lwp::sched_policy::other, lwp::sched_policy::fifo, lwp::sched_policy::rr}) {
		for (const int priority : {-1, 0, 31, 63}) {
			std::atomic<bool> ran{false};
			lwp::thread t({.priority = priority, .policy = policy}, [&ran] {
				lwp_yield();
				ran = true;
			});
			t.join();
			EXPECT_TRUE(ran);
		}
	}
}

TEST(Attributes, OutOfRangeIsEinvalAndLeavesNothing) {
	const auto before = lwp::runtime::stats();
	std::atomic<bool> ran{false};
	auto refused = [&ran](const lwp::attributes &attr) {
		return error_thrown_by([&] {
			lwp::thread t(attr, [&ran] { ran = true; });
			t.join();
		});
	};
	EXPECT_EQ(refused({.stack_size = 1}), EINVAL);
	EXPECT_EQ(refused({.stack_size = 16 * 1024 - 1}), EINVAL);
	EXPECT_EQ(refused({.stack_size = std::size_t{1} << 50}), EINVAL);
	EXPECT_EQ(refused({.stack_size = SIZE_MAX}), EINVAL);
	EXPECT_EQ(refused({.priority = 64}), EINVAL);
	EXPECT_EQ(refused({.priority = -2}), EINVAL);
	EXPECT_EQ(refused({.priority = INT32_MAX}), EINVAL);
	EXPECT_EQ(refused({.vcpu = static_cast<int>(lwp::runtime::vcpus())}), EINVAL);
	EXPECT_EQ(refused({.vcpu = -2}), EINVAL);
	EXPECT_EQ(refused({.vcpu = INT32_MAX}), EINVAL);
	EXPECT_EQ(refused({.policy = static_cast<lwp::sched_policy>(77)}), EINVAL);
	const auto after = lwp::runtime::stats();
	EXPECT_EQ(after.lwps, before.lwps);
	EXPECT_EQ(after.stacks_in_use, before.stacks_in_use);
	EXPECT_FALSE(ran);
}

TEST(Attributes, Jthread) {
	char name[LWP_MAXNAME] = "?";
	bool possible = false;
	{
		lwp::jthread t({.name = "jt"}, [&](std::stop_token token) {
			possible = token.stop_possible();
			EXPECT_EQ(error_of(_lwp_getname(0, name, sizeof(name))), 0);
		});
	}
	EXPECT_STREQ(name, "jt");
	EXPECT_TRUE(possible);
}
