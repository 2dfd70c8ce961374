// SPDX-License-Identifier: BSD-2-Clause
//
// lwp::thread by the clauses of the C++20 standard ([thread.thread.class]).  jthread and this_thread are in test_jthread.cpp.
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

// [thread.thread.class]
static_assert(!std::is_copy_constructible_v<lwp::thread> && !std::is_copy_assignable_v<lwp::thread>);
static_assert(std::is_nothrow_move_constructible_v<lwp::thread> && std::is_nothrow_move_assignable_v<lwp::thread>);
static_assert(std::is_nothrow_default_constructible_v<lwp::thread>);
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
