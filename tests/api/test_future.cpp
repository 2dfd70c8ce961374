// SPDX-License-Identifier: BSD-2-Clause
//
// lwp's futures by the clauses of the C++20 standard ([futures]), between LWPs and kernel threads, and the races of a result with those who
// wait for it, give up, or let go of it.
// vcpus: 1 2 8
#include <lwp/future.hpp>
#include <lwp/specific.hpp>

#include "../support/support.h"

#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using namespace lwp::test;
using namespace std::chrono_literals;

namespace {

const bool touched = touch_runtime();

template <class F>
std::string error_thrown_by(F f) {
	try {
		f();
	} catch (const std::future_error &e) {
		EXPECT_EQ(e.code().category(), std::future_category());
		return e.code() == std::future_errc::broken_promise          ? "broken"
		    : e.code() == std::future_errc::no_state                 ? "no state"
		    : e.code() == std::future_errc::future_already_retrieved ? "retrieved"
		                                                             : "satisfied";
	}
	return "none";
}

/// Runs `body` in an LWP or in a kernel thread.
template <class Body>
void run_in(bool kernel_thread, Body body) {
	if (kernel_thread) {
		std::thread(std::move(body)).detach();
	} else {
		lwp::thread({.detached = true}, std::move(body));
	}
}

/// Counts living copies; moving keeps the number.
struct counted {
	static inline std::atomic<int> alive{0};
	int value = 0;
	explicit counted(int v) : value(v) { alive++; }
	counted(const counted &o) : value(o.value) { alive++; }
	counted(counted &&o) noexcept : value(o.value) { alive++; }
	counted &operator=(const counted &) = delete;
	~counted() { alive--; }
};

struct throws_when_copied {
	static inline bool armed = true;
	throws_when_copied() = default;
	throws_when_copied(const throws_when_copied &) {
		if (armed) {
			throw std::runtime_error("copied");
		}
	}
	throws_when_copied(throws_when_copied &&) noexcept {}
};

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

static_assert(!std::is_copy_constructible_v<lwp::future<int>> && std::is_nothrow_move_constructible_v<lwp::future<int>>);
static_assert(std::is_nothrow_default_constructible_v<lwp::future<int>> && std::is_nothrow_move_assignable_v<lwp::future<int>>);
static_assert(std::is_nothrow_copy_constructible_v<lwp::shared_future<int>> && std::is_nothrow_copy_assignable_v<lwp::shared_future<int>>);
static_assert(std::is_convertible_v<lwp::future<int>, lwp::shared_future<int>>, "implicit");
static_assert(!std::is_copy_constructible_v<lwp::promise<int>> && std::is_nothrow_move_constructible_v<lwp::promise<int>>);
static_assert(std::is_nothrow_swappable_v<lwp::promise<void>>);
static_assert(!std::is_copy_constructible_v<lwp::packaged_task<int()>> && std::is_nothrow_move_constructible_v<lwp::packaged_task<int()>>);
static_assert(!std::is_constructible_v<lwp::packaged_task<int(int)>, void (*)(std::string)>, "cannot be called so");
static_assert(std::is_same_v<decltype(std::declval<lwp::future<int>>().get()), int>);
static_assert(std::is_same_v<decltype(std::declval<lwp::future<int &>>().get()), int &>);
static_assert(std::is_same_v<decltype(std::declval<const lwp::shared_future<int>>().get()), const int &>);
static_assert(std::is_same_v<decltype(std::declval<const lwp::shared_future<int &>>().get()), int &>);
static_assert(std::is_same_v<decltype(std::declval<const lwp::shared_future<void>>().get()), void>);
static_assert(std::is_same_v<lwp::future_errc, std::future_errc>);

TEST(Promise, ValueOfEveryKindFromEveryKindOfThread) {
	for (const bool kernel : {false, true}) {
		lwp::promise<std::unique_ptr<int>> value;
		lwp::promise<int &> reference;
		lwp::promise<void> nothing;
		auto f = value.get_future();
		auto g = reference.get_future();
		auto h = nothing.get_future();
		int target = 0;
		run_in(kernel, [v = std::move(value), r = std::move(reference), n = std::move(nothing), &target]() mutable {
			v.set_value(std::make_unique<int>(7));
			r.set_value(target);
			n.set_value();
		});
		EXPECT_EQ(*f.get(), 7);
		EXPECT_EQ(&g.get(), &target);
		h.get();
		EXPECT_FALSE(f.valid() || g.valid() || h.valid());
	}
}

// [futures.unique.future], [futures.promise]: each error has its code.
TEST(Promise, ErrorsHaveStdsCodes) {
	lwp::promise<int> p;
	EXPECT_EQ(error_thrown_by([&] { p.set_value(1); }), "none");
	EXPECT_EQ(error_thrown_by([&] { p.set_value(2); }), "satisfied");
	EXPECT_EQ(error_thrown_by([&] { p.set_exception(std::make_exception_ptr(1)); }), "satisfied");
	EXPECT_EQ(error_thrown_by([&] { p.set_value_at_thread_exit(2); }), "satisfied");
	auto f = p.get_future();
	EXPECT_EQ(error_thrown_by([&] { (void)p.get_future(); }), "retrieved");
	EXPECT_EQ(f.get(), 1);
	EXPECT_EQ(error_thrown_by([&] { (void)f.get(); }), "no state");
	EXPECT_EQ(error_thrown_by([&] { f.wait(); }), "no state");
	EXPECT_EQ(error_thrown_by([&] { (void)f.wait_for(1s); }), "no state");
	lwp::promise<int> q(std::move(p));
	EXPECT_EQ(error_thrown_by([&] { p.set_value(1); }), "no state");
	EXPECT_EQ(error_thrown_by([&] { (void)p.get_future(); }), "no state");
	lwp::future<void> g;
	{
		lwp::promise<void> dropped;
		g = dropped.get_future();
		EXPECT_EQ(g.wait_for(0s), std::future_status::timeout);
	}
	EXPECT_EQ(error_thrown_by([&] { g.get(); }), "broken");
	{
		lwp::promise<void> assigned;
		g = assigned.get_future();
		assigned = lwp::promise<void>();
		EXPECT_EQ(error_thrown_by([&] { g.get(); }), "broken");
	}
	EXPECT_EQ(error_thrown_by([] { (void)lwp::packaged_task<int()>().get_future(); }), "no state");
	EXPECT_EQ(error_thrown_by([] { lwp::packaged_task<void()>()(); }), "no state");
	EXPECT_EQ(error_thrown_by([] { lwp::packaged_task<void()>().reset(); }), "no state");
}

TEST(Promise, ExceptionGoesToTheFuture) {
	lwp::promise<int> p;
	auto f = p.get_future();
	run_in(false, [&p] { p.set_exception(std::make_exception_ptr(std::runtime_error("no"))); });
	EXPECT_THROW((void)f.get(), std::runtime_error);
	EXPECT_FALSE(f.valid());
}

// [futures.promise]: what the copy throws is the caller's, and the promise is as before.
TEST(Promise, ThrowingCopyLeavesItUnset) {
	lwp::promise<throws_when_copied> p;
	auto f = p.get_future();
	const throws_when_copied value;
	throws_when_copied::armed = true;
	EXPECT_THROW(p.set_value(value), std::runtime_error);
	EXPECT_EQ(f.wait_for(0s), std::future_status::timeout);
	throws_when_copied::armed = false;
	p.set_value(value);
	EXPECT_EQ(f.wait_for(0s), std::future_status::ready);
	(void)f.get();
}

TEST(Promise, SwapAndMove) {
	lwp::promise<int> a;
	lwp::promise<int> b;
	auto f = a.get_future();
	swap(a, b);
	b.set_value(3);
	EXPECT_EQ(f.get(), 3);
	f = a.get_future();
	lwp::future<int> g(std::move(f));
	EXPECT_FALSE(f.valid());
	EXPECT_TRUE(g.valid());
}

TEST(Future, TimedWaitsOfEveryClockAreNeverEarly) {
	lwp::promise<void> p;
	auto f = p.get_future();
	auto body = [&f] {
		const auto steady = std::chrono::steady_clock::now() + 3ms;
		EXPECT_EQ(f.wait_until(steady), std::future_status::timeout);
		EXPECT_GE(std::chrono::steady_clock::now(), steady);
		const auto system = std::chrono::system_clock::now() + 3ms;
		EXPECT_EQ(f.wait_until(system), std::future_status::timeout);
		EXPECT_GE(std::chrono::system_clock::now(), system);
		EXPECT_EQ(f.wait_for(-1h), std::future_status::timeout);
		EXPECT_EQ(f.wait_until(std::chrono::steady_clock::time_point::min()), std::future_status::timeout);
	};
	collect(spawn(body));
	in_a_kernel_thread(body);
	subject waiter([&f](subject &s) {
		s.about_to_block();
		EXPECT_EQ(f.wait_for(std::chrono::hours::max()), std::future_status::ready);
	});
	waiter.await_blocked();
	p.set_value();
	collect(waiter.lid());
	EXPECT_EQ(f.wait_for(0s), std::future_status::ready);
	EXPECT_EQ(f.wait_until(std::chrono::system_clock::time_point::min()), std::future_status::ready);
}

TEST(Future, SuspendAndWakeupDoNotEndAWait) {
	lwp::promise<int> p;
	auto f = p.get_future();
	subject waiter([&f](subject &s) {
		s.about_to_block();
		s.set_result(f.get());
	});
	waiter.await_blocked();
	EXPECT_EQ(error_of(_lwp_suspend(waiter.lid())), 0);
	EXPECT_EQ(error_of(_lwp_continue(waiter.lid())), 0);
	waiter.await_blocked();
	EXPECT_TRUE(wait_until([&] { return _lwp_wakeup(waiter.lid()) == 0; }));
	EXPECT_EQ(waiter.result(), -1);
	p.set_value(5);
	collect(waiter.lid());
	EXPECT_EQ(waiter.result(), 5);
}

TEST(SharedFuture, AllWaitersSeeTheSameObject) {
	lwp::promise<std::string> p;
	lwp::shared_future<std::string> f = p.get_future();
	std::vector<lwp::thread> lwps;
	std::vector<std::thread> kernel;
	std::atomic<int> same{0};
	auto look = [f, &same] { same += f.get() == "here" && &f.get() == &f.get(); };
	for (int i = 0; i < 20; i++) {
		lwps.emplace_back(look);
	}
	kernel.emplace_back(look);
	kernel.emplace_back(look);
	lwp::shared_future<std::string> copy(f);
	EXPECT_EQ(copy.wait_for(0s), std::future_status::timeout);
	p.set_value("here");
	for (auto &t : lwps) {
		t.join();
	}
	for (auto &t : kernel) {
		t.join();
	}
	EXPECT_EQ(same, 22);
	EXPECT_EQ(&copy.get(), &f.get());
	lwp::promise<int> q;
	auto shared = q.get_future().share();
	q.set_exception(std::make_exception_ptr(1));
	EXPECT_THROW((void)shared.get(), int);
	EXPECT_THROW((void)shared.get(), int) << "again and again";
	EXPECT_TRUE(shared.valid());
}

// [futures.promise]/set_value_at_thread_exit: ready when the LWP's own data are gone, not before.
TEST(AtThreadExit, ReadyAfterSpecificDataIsDestroyed) {
	static std::atomic<bool> destroyed;
	struct slow {
		~slow() {
			lwp::this_thread::sleep_for(2ms);
			destroyed = true;
		}
	};
	for (const bool kernel : {false, true}) {
		destroyed = false;
		lwp::specific<slow> data;
		lwp::promise<int> p;
		lwp::promise<int &> r;
		lwp::promise<void> e;
		int target = 0;
		auto f = p.get_future();
		auto g = r.get_future();
		auto h = e.get_future();
		gate leave;
		run_in(kernel, [&, mine = std::move(p)]() mutable {
			(void)data.get();
			mine.set_value_at_thread_exit(4);
			r.set_value_at_thread_exit(target);
			e.set_exception_at_thread_exit(std::make_exception_ptr(1));
			EXPECT_EQ(error_thrown_by([&] { mine.set_value(1); }), "satisfied");
			leave.pass();
		});
		EXPECT_EQ(f.wait_for(3ms), std::future_status::timeout);
		leave.open();
		EXPECT_EQ(f.get(), 4);  // its promise has gone with the callable, unbroken
		EXPECT_TRUE(destroyed);
		EXPECT_EQ(&g.get(), &target);
		EXPECT_THROW(h.get(), int);
	}
}

TEST(PackagedTask, CallsOnceAndResets) {
	lwp::packaged_task<int(int, std::unique_ptr<int>)> t([n = 0](int a, std::unique_ptr<int> b) mutable { return ++n * 100 + a + *b; });
	EXPECT_TRUE(t.valid());
	auto f = t.get_future();
	t(1, std::make_unique<int>(2));
	EXPECT_EQ(f.get(), 103);
	EXPECT_EQ(error_thrown_by([&] { t(1, nullptr); }), "satisfied");
	EXPECT_EQ(error_thrown_by([&] { (void)t.get_future(); }), "retrieved");
	t.reset();
	f = t.get_future();
	t(2, std::make_unique<int>(2));
	EXPECT_EQ(f.get(), 204) << "the same function object";
	t.reset();
	f = t.get_future();
	t = lwp::packaged_task<int(int, std::unique_ptr<int>)>();
	EXPECT_EQ(error_thrown_by([&] { (void)f.get(); }), "broken");
	EXPECT_FALSE(t.valid());
}

TEST(PackagedTask, DeductionExceptionsAndThreadExit) {
	lwp::packaged_task lambda([](int a) noexcept { return a + 1; });
	static_assert(std::is_same_v<decltype(lambda), lwp::packaged_task<int(int)>>);
	lwp::packaged_task pointer(+[](const std::string &s) { return s.size(); });
	static_assert(std::is_same_v<decltype(pointer), lwp::packaged_task<std::size_t(const std::string &)>>);
	lwp::packaged_task<void()> thrower([] { throw 3; });
	auto f = thrower.get_future();
	auto g = lambda.get_future();
	gate leave;
	lwp::thread thread([&] {
		thrower();
		lambda.make_ready_at_thread_exit(1);
		leave.pass();
	});
	EXPECT_THROW(f.get(), int);
	EXPECT_EQ(g.wait_for(1ms), std::future_status::timeout);
	leave.open();
	EXPECT_EQ(g.get(), 2);
	thread.join();
}

TEST(Async, ResultsOfEveryKind) {
	auto f = lwp::async([](std::unique_ptr<int> p, int n) { return *p + n; }, std::make_unique<int>(1), 2);
	static_assert(std::is_same_v<decltype(f), lwp::future<int>>);
	int target = 0;
	auto r = lwp::async(lwp::launch::async, [&]() -> int & { return target; });
	auto v = lwp::async([] { throw std::runtime_error("no"); });
	std::string text = "x";
	auto c = lwp::async(&std::string::size, std::move(text));
	auto named = lwp::async({.name = "worker", .stack_size = 128 * 1024}, [] {
		char name[LWP_MAXNAME];
		EXPECT_EQ(error_of(_lwp_getname(0, name, sizeof(name))), 0);
		return std::string(name);
	});
	EXPECT_EQ(f.get(), 3);
	EXPECT_EQ(&r.get(), &target);
	EXPECT_THROW(v.get(), std::runtime_error);
	EXPECT_EQ(c.get(), 1U);
	EXPECT_EQ(named.get(), "worker");
	EXPECT_THROW((void)lwp::async(lwp::launch{}, [] {}), std::system_error);
	in_a_kernel_thread([] { EXPECT_EQ(lwp::async([] { return 9; }).get(), 9); });
}

// [futures.async]/3.2
TEST(Async, DeferredIsCalledByTheFirstThatWaits) {
	lwpid_t caller = 0;
	auto f = lwp::async(lwp::launch::deferred, [&] { caller = _lwp_self(); });
	EXPECT_EQ(f.wait_for(1h), std::future_status::deferred);
	EXPECT_EQ(f.wait_until(std::chrono::system_clock::now() + 1h), std::future_status::deferred);
	EXPECT_EQ(caller, 0);
	f.wait();
	EXPECT_EQ(caller, _lwp_self());
	EXPECT_EQ(f.wait_for(0s), std::future_status::ready);
	f.get();
	{
		auto never = lwp::async(lwp::launch::deferred, [] { ADD_FAILURE() << "nobody waited"; });
	}
	// While one calls it, it is no longer deferred, and others wait.
	gate go;
	std::atomic<int> calls{0};
	auto shared = lwp::async(lwp::launch::deferred, [&] {
		++calls;
		go.pass();
		return 5;
	}).share();
	std::vector<lwp::thread> waiters;
	for (int i = 0; i < 4; i++) {
		waiters.emplace_back([shared] { EXPECT_EQ(shared.get(), 5); });
	}
	EXPECT_TRUE(wait_until([&] { return calls == 1; }));
	EXPECT_EQ(shared.wait_for(1ms), std::future_status::timeout);
	go.open();
	for (auto &t : waiters) {
		t.join();
	}
	EXPECT_EQ(calls, 1);
}

// [futures.async]/5: the last future blocks until the LWP has ended, its own data included.
TEST(Async, DestructorWaitsForTheEndOfTheLwp) {
	static std::atomic<bool> destroyed;
	struct slow {
		~slow() {
			lwp::this_thread::sleep_for(2ms);
			destroyed = true;
		}
	};
	lwp::specific<slow> data;
	for (const bool assigned : {false, true}) {
		destroyed = false;
		std::atomic<bool> ran{false};
		{
			auto f = lwp::async(lwp::launch::async, [&] {
				(void)data.get();
				lwp::this_thread::sleep_for(2ms);
				ran = true;
			});
			if (assigned) {
				f = lwp::future<void>();
				EXPECT_TRUE(ran);
			}
		}
		EXPECT_TRUE(ran);
		EXPECT_TRUE(destroyed);
	}
	destroyed = false;
	lwp::async([&] { (void)data.get(); }).get();
	EXPECT_TRUE(destroyed) << "ended, as if joined, before its result is seen";
	// A shared one: the last.
	std::atomic<bool> ran{false};
	gate go;
	auto a = lwp::async(lwp::launch::async, [&] {
		go.pass();
		ran = true;
	}).share();
	auto b = a;
	a = {};
	EXPECT_FALSE(ran);
	go.open();
	b = {};
	EXPECT_TRUE(ran);
}

TEST(Async, ArgumentsAreGoneBeforeTheResultIsSeen) {
	for (std::size_t i = 0; i < rounds(500); i++) {
		auto f = lwp::async([](const counted &c) { return c.value; }, counted(static_cast<int>(i)));
		EXPECT_EQ(f.get(), static_cast<int>(i));
		ASSERT_EQ(counted::alive, 0);
	}
}

TEST(Async, RefusedAttributesLeaveNothing) {
	EXPECT_THROW((void)lwp::async(
	                 {.stack_size = 1}, [](const counted &) {}, counted(1)),
	    std::system_error);
	EXPECT_EQ(counted::alive, 0);
}

TEST(FutureStop, EndsAWaitAndLeavesTheFuture) {
	for (const bool before : {false, true}) {
		lwp::promise<int> p;
		auto f = p.get_future();
		std::stop_source source;
		if (before) {
			source.request_stop();
		}
		subject waiter([&](subject &s) {
			s.about_to_block();
			EXPECT_FALSE(f.wait(source.get_token()));
			EXPECT_EQ(f.wait_for(1h, source.get_token()), std::future_status::timeout);
			EXPECT_EQ(f.wait_until(std::chrono::system_clock::now() + 1h, source.get_token()), std::future_status::timeout);
			// Nothing of the request is left to hit the next sleep.
			EXPECT_EQ(park_for(1ms), ETIMEDOUT);
		});
		if (!before) {
			waiter.await_blocked();
			std::thread([&] { source.request_stop(); }).join();
		}
		collect(waiter.lid());
		p.set_value(1);
		EXPECT_TRUE(f.wait(source.get_token())) << "there is a result, whatever was requested";
		EXPECT_EQ(f.get(), 1);
	}
}

// set_value -> (the waiter gets it, and destroys future and promise here) -> set_value goes on: it must not touch either.
TEST(FutureRace, WaiterDestroysThePromiseThatIsBeingSet) {
	for (const bool kernel : {false, true}) {
		const std::size_t n = rounds(kernel ? 2000 : 20000);
		std::atomic<lwp::promise<counted> *> handed{nullptr};
		auto setter = [&] {
			for (std::size_t k = 0; k < n; k++) {
				lwp::promise<counted> *p = nullptr;
				EXPECT_TRUE(wait_until([&] { return (p = handed.exchange(nullptr)) != nullptr; }));
				p->set_value(counted(static_cast<int>(k)));
			}
		};
		auto run = [&] {
			dice d(seed());
			for (std::size_t k = 0; k < n; k++) {
				auto p = std::make_unique<lwp::promise<counted>>();
				auto f = p->get_future();
				handed = p.get();
				if (d.one_in(3)) {
					while (f.wait_for(0s) != std::future_status::ready) {
						lwp::this_thread::yield();
					}
				} else if (d.one_in(2)) {
					while (f.wait_for(std::chrono::microseconds(d.below(20))) != std::future_status::ready) {
					}
				}
				if (f.get().value != static_cast<int>(k)) {
					ADD_FAILURE() << "round " << k;
				}
			}
		};
		if (kernel) {
			std::thread t(setter);
			run();
			t.join();
		} else {
			lwp::thread t(setter);
			run();
			t.join();
		}
		EXPECT_EQ(counted::alive, 0);
	}
}

// The last reference goes on one side while the value is set on the other; nothing leaks and nothing is touched afterwards.
TEST(FutureRace, LastReferenceAgainstSetValue) {
	const std::size_t n = rounds(20000);
	std::atomic<lwp::future<counted> *> handed{nullptr};
	std::atomic<std::size_t> dropped{0};
	lwp::thread dropper([&] {
		for (std::size_t k = 0; k < n; k++) {
			lwp::future<counted> *f = nullptr;
			EXPECT_TRUE(wait_until([&] { return (f = handed.exchange(nullptr)) != nullptr; }));
			*f = lwp::future<counted>();
			dropped = k + 1;
		}
	});
	for (std::size_t k = 0; k < n; k++) {
		lwp::future<counted> f;
		{
			lwp::promise<counted> p;
			f = p.get_future();
			handed = &f;
			if (k % 3 != 0) {
				p.set_value(counted(1));
			}
		}
		EXPECT_TRUE(wait_until([&] { return dropped == k + 1; }));
	}
	dropper.join();
	EXPECT_EQ(counted::alive, 0);
}

// A stop, the deadline and the result come at about the same time: each wait ends, a result is never lost, and no request hits a later sleep.
TEST(FutureRace, StopAgainstDeadlineAgainstResult) {
	const std::size_t n = rounds(3000);
	dice d(seed());
	std::size_t ready = 0;
	for (std::size_t k = 0; k < n; k++) {
		lwp::promise<int> p;
		auto f = p.get_future();
		std::stop_source source;
		bool seen = false;
		lwp::thread waiter([&, limit = std::chrono::microseconds(d.below(60))] {
			seen = f.wait_for(limit, source.get_token()) == std::future_status::ready;
			EXPECT_EQ(f.get(), 1);
		});
		auto stop = [&source] { source.request_stop(); };
		lwp::thread stopper;
		std::thread outside;
		if (k % 16 == 0) {
			outside = std::thread(stop);
		} else {
			stopper = lwp::thread(stop);
		}
		for (unsigned spin = d.below(4); spin > 0; spin--) {
			lwp::this_thread::yield();
		}
		p.set_value(1);
		waiter.join();
		if (stopper.joinable()) {
			stopper.join();
		} else {
			outside.join();
		}
		ready += seen;
	}
	std::printf("%zu of %zu found a result\n", ready, n);
}

TEST(FutureRace, ManyAsyncsLeaveNothing) {
	std::vector<lwp::future<std::size_t>> all;
	for (std::size_t i = 0; i < rounds(20000); i++) {
		all.push_back(lwp::async([i] { return i; }));
	}
	std::size_t sum = 0;
	for (auto &f : all) {
		sum += f.get();
	}
	EXPECT_EQ(sum, all.size() * (all.size() - 1) / 2);
}
