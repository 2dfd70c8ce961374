// SPDX-License-Identifier: BSD-2-Clause
// vcpus: 1 2
//
// What the clauses of the C++20 standard ask of the types' interfaces, most of it by the compiler; and each type between an LWP and a std::thread.
// What they do is tested by type, see docs/std.md.
#include "support/support.h"

#include <lwp/lwp.hpp>

#include <atomic>
#include <compare>
#include <memory>
#include <mutex>
#include <set>
#include <shared_mutex>
#include <string>
#include <thread>
#include <type_traits>
#include <unordered_set>
#include <utility>

using namespace lwp::test;
using namespace std::chrono_literals;

namespace {

const bool touched = touch_runtime();

template <class T>
constexpr bool stays = !std::is_copy_constructible_v<T> && !std::is_copy_assignable_v<T> && !std::is_move_constructible_v<T> &&
    !std::is_move_assignable_v<T> && std::is_nothrow_destructible_v<T>;
template <class T>
constexpr bool moves_only = !std::is_copy_constructible_v<T> && !std::is_copy_assignable_v<T> && std::is_nothrow_move_constructible_v<T> &&
    std::is_nothrow_move_assignable_v<T> && std::is_nothrow_destructible_v<T>;
/// Only by an explicit constructor.
template <class T, class... Args>
constexpr bool explicitly = std::is_constructible_v<T, Args...> && !(std::is_convertible_v<Args, T> && ...);

// ---- [thread.threads] ------------------------------------------------------------------------------------------------------

// [thread.thread.class.general], [thread.thread.constr], [thread.thread.assign]
static_assert(moves_only<lwp::thread> && std::is_nothrow_default_constructible_v<lwp::thread>);
static_assert(explicitly<lwp::thread, void (*)()> && !std::is_constructible_v<lwp::thread, const lwp::thread &>);
static_assert(std::is_constructible_v<lwp::thread, void (*)(int, long), int, long>);
static_assert(std::is_nothrow_swappable_v<lwp::thread>);
static_assert(noexcept(std::declval<const lwp::thread &>().joinable()) &&noexcept(std::declval<const lwp::thread &>().get_id()));
static_assert(noexcept(lwp::thread::hardware_concurrency()));
static_assert(std::is_same_v<decltype(lwp::thread::hardware_concurrency()), unsigned>);
static_assert(std::is_same_v<lwp::thread::native_handle_type, decltype(std::declval<lwp::thread &>().native_handle())>);

// [thread.thread.id]
using id = lwp::thread::id;
static_assert(std::is_trivially_copyable_v<id> && std::is_nothrow_default_constructible_v<id>);
static_assert(std::is_same_v<std::compare_three_way_result_t<id>, std::strong_ordering>);
static_assert(noexcept(id() == id()) &&noexcept(id() <=> id()) && id() == id() && !(id() < id()));
static_assert(std::is_default_constructible_v<std::hash<id>> && std::is_copy_assignable_v<std::hash<id>>);
static_assert(std::is_same_v<decltype(std::hash<id>()(id())), std::size_t>);

// [thread.jthread.class]
static_assert(
    moves_only<lwp::jthread> && std::is_nothrow_default_constructible_v<lwp::jthread> && std::is_nothrow_swappable_v<lwp::jthread>);
static_assert(explicitly<lwp::jthread, void (*)()> && explicitly<lwp::jthread, void (*)(lwp::stop_token)>);
static_assert(std::is_same_v<lwp::jthread::id, id> && std::is_same_v<lwp::jthread::native_handle_type, lwp::thread::native_handle_type>);
static_assert(noexcept(std::declval<lwp::jthread &>().get_stop_source()) &&noexcept(std::declval<const lwp::jthread &>().get_stop_token()));
static_assert(noexcept(std::declval<lwp::jthread &>().request_stop()) &&noexcept(lwp::jthread::hardware_concurrency()));

// [thread.thread.this]
static_assert(noexcept(lwp::this_thread::get_id()) &&noexcept(lwp::this_thread::yield()));

// ---- [thread.mutex], [thread.lock], [thread.once] ----------------------------------------------------------------------------

static_assert(stays<lwp::mutex> && stays<lwp::timed_mutex> && stays<lwp::recursive_mutex> && stays<lwp::recursive_timed_mutex>);
static_assert(stays<lwp::shared_mutex> && stays<lwp::shared_timed_mutex> && stays<lwp::once_flag>);
static_assert(std::is_nothrow_default_constructible_v<lwp::mutex> && std::is_nothrow_default_constructible_v<lwp::once_flag>);
static_assert(std::is_same_v<std::unique_lock<lwp::mutex>::mutex_type, lwp::mutex>);
static_assert(std::is_same_v<std::shared_lock<lwp::shared_mutex>::mutex_type, lwp::shared_mutex>);
static_assert(std::is_same_v<lwp::unique_lock<lwp::mutex>, std::unique_lock<lwp::mutex>>);
static_assert(std::is_standard_layout_v<lwp::mutex> && std::is_standard_layout_v<lwp::shared_mutex>);

// ---- [thread.condition] ------------------------------------------------------------------------------------------------------

static_assert(stays<lwp::condition_variable> && stays<lwp::condition_variable_any>);
static_assert(std::is_default_constructible_v<lwp::condition_variable> && std::is_default_constructible_v<lwp::condition_variable_any>);
static_assert(
    noexcept(std::declval<lwp::condition_variable &>().notify_one()) &&noexcept(std::declval<lwp::condition_variable &>().notify_all()));
static_assert(noexcept(std::declval<lwp::condition_variable_any &>().notify_one()) &&noexcept(
    std::declval<lwp::condition_variable_any &>().notify_all()));
static_assert(std::is_same_v<lwp::cv_status, std::cv_status>);

// ---- [thread.sema], [thread.coord] -------------------------------------------------------------------------------------------

static_assert(stays<lwp::binary_semaphore> && stays<lwp::counting_semaphore<>> && stays<lwp::latch> && stays<lwp::barrier<>>);
static_assert(explicitly<lwp::binary_semaphore, std::ptrdiff_t> && !std::is_default_constructible_v<lwp::binary_semaphore>);
static_assert(explicitly<lwp::latch, std::ptrdiff_t> && !std::is_default_constructible_v<lwp::latch>);
static_assert(explicitly<lwp::barrier<>, std::ptrdiff_t> && !std::is_default_constructible_v<lwp::barrier<>>);
static_assert(std::is_same_v<lwp::binary_semaphore, lwp::counting_semaphore<1>>);
static_assert(
    lwp::binary_semaphore::max() >= 1 && lwp::counting_semaphore<1000>::max() >= 1000 &&noexcept(lwp::counting_semaphore<>::max()));
static_assert(lwp::latch::max() > 0 &&noexcept(lwp::latch::max()) && lwp::barrier<>::max() > 0 &&noexcept(lwp::barrier<>::max()));
static_assert(noexcept(std::declval<lwp::binary_semaphore &>().try_acquire()) &&noexcept(std::declval<const lwp::latch &>().try_wait()));
using token = lwp::barrier<>::arrival_token;
static_assert(std::is_move_constructible_v<token> && std::is_move_assignable_v<token> && std::is_destructible_v<token>);
static_assert(!std::is_copy_constructible_v<token>);
struct completion {
	void operator()() noexcept {}
};
static_assert(std::is_same_v<decltype(lwp::barrier(1, completion())), lwp::barrier<completion>>);
static_assert(std::is_same_v<decltype(lwp::barrier(1)), lwp::barrier<>>);

// ---- [futures] ---------------------------------------------------------------------------------------------------------------

template <class R>
constexpr bool like_a_promise = moves_only<lwp::promise<R>> &&std::is_default_constructible_v<lwp::promise<R>>
    &&std::is_constructible_v<lwp::promise<R>, std::allocator_arg_t, std::allocator<char>> &&std::is_nothrow_swappable_v<lwp::promise<R>>
        &&std::uses_allocator_v<lwp::promise<R>, std::allocator<R *>>;
static_assert(like_a_promise<int> && like_a_promise<std::unique_ptr<int>>);
static_assert(
    std::uses_allocator_v<lwp::promise<void>, std::allocator<char>> && std::uses_allocator_v<lwp::promise<int &>, std::allocator<char>>);
static_assert(moves_only<lwp::promise<void>> && moves_only<lwp::promise<int &>> && std::is_nothrow_swappable_v<lwp::promise<void>>);

static_assert(moves_only<lwp::future<int>> && moves_only<lwp::future<int &>> && moves_only<lwp::future<void>>);
static_assert(
    std::is_nothrow_default_constructible_v<lwp::future<int>> && std::is_nothrow_default_constructible_v<lwp::shared_future<int>>);
static_assert(std::is_same_v<decltype(std::declval<lwp::future<int> &>().get()), int>);
static_assert(std::is_same_v<decltype(std::declval<lwp::future<int &> &>().get()), int &>);
static_assert(std::is_same_v<decltype(std::declval<lwp::future<void> &>().get()), void>);
static_assert(noexcept(std::declval<lwp::future<int> &>().share()) &&noexcept(std::declval<const lwp::future<int> &>().valid()));

static_assert(std::is_nothrow_copy_constructible_v<lwp::shared_future<int>> && std::is_nothrow_copy_assignable_v<lwp::shared_future<int>>);
static_assert(std::is_nothrow_constructible_v<lwp::shared_future<int>, lwp::future<int>> &&
    std::is_convertible_v<lwp::future<int>, lwp::shared_future<int>>);
static_assert(std::is_same_v<decltype(std::declval<const lwp::shared_future<int> &>().get()), const int &>);
static_assert(std::is_same_v<decltype(std::declval<const lwp::shared_future<int &> &>().get()), int &>);
static_assert(std::is_same_v<decltype(std::declval<const lwp::shared_future<void> &>().get()), void>);

int plain(long n) noexcept { return static_cast<int>(n); }
static_assert(moves_only<lwp::packaged_task<int(long)>> && std::is_nothrow_default_constructible_v<lwp::packaged_task<int(long)>>);
static_assert(std::is_nothrow_swappable_v<lwp::packaged_task<int(long)>>);
static_assert(explicitly<lwp::packaged_task<int(long)>, int (*)(long)>);
static_assert(!std::is_constructible_v<lwp::packaged_task<int(long)>, int (*)(std::string)>);
static_assert(!std::is_constructible_v<lwp::packaged_task<int(long)>, const lwp::packaged_task<int(long)> &>);
static_assert(std::is_same_v<decltype(lwp::packaged_task(plain)), lwp::packaged_task<int(long)>>);
static_assert(
    std::is_same_v<decltype(lwp::packaged_task([](int, char) mutable noexcept { return 1.5; })), lwp::packaged_task<double(int, char)>>);
static_assert(std::is_same_v<decltype(lwp::async(plain, 1)), lwp::future<int>>);
static_assert(std::is_same_v<decltype(lwp::async(std::launch::async, plain, 1)), lwp::future<int>>);

TEST(PackagedTask, OfAFunctionThatIsNoexcept) {
	lwp::packaged_task task(plain);
	auto f = task.get_future();
	task(7);
	EXPECT_EQ(f.get(), 7);
}

// ---- [futures.promise]: with an allocator --------------------------------------------------------------------------------------

struct counts {
	std::atomic<int> allocated{0};
	std::atomic<int> freed{0};
};

template <class T>
struct counting_allocator {
	using value_type = T;
	counts *to;
	explicit counting_allocator(counts *c) : to(c) {}
	template <class U>
	counting_allocator(const counting_allocator<U> &other) : to(other.to) {}  // NOLINT: as the requirements have it
	T *allocate(std::size_t n) {
		to->allocated++;
		return std::allocator<T>().allocate(n);
	}
	void deallocate(T *p, std::size_t n) {
		to->freed++;
		std::allocator<T>().deallocate(p, n);
	}
	friend bool operator==(const counting_allocator &, const counting_allocator &) = default;
};

TEST(PromiseWithAllocator, AllocatesTheStateAndGivesItBackWithTheLastReference) {
	counts c;
	const counting_allocator<char> a(&c);
	{
		lwp::promise<std::string> p(std::allocator_arg, a);
		EXPECT_EQ(c.allocated, 1);
		lwp::shared_future<std::string> f = p.get_future().share();
		lwp::promise<std::string>(std::move(p)).set_value(std::string(100, 'x'));
		EXPECT_EQ(f.get().size(), 100U);
		EXPECT_EQ(c.freed, 0) << "a future refers to it";
	}
	EXPECT_EQ(c.freed, 1);
	int place = 0;
	{
		lwp::promise<int &> r(std::allocator_arg, a);
		lwp::promise<void> v(std::allocator_arg, a);
		auto rf = r.get_future();
		auto vf = v.get_future();
		std::thread([&] { r.set_value(place); }).join();
		lwp::thread([&] { v.set_value_at_thread_exit(); }).join();
		EXPECT_EQ(&rf.get(), &place);
		vf.get();
		lwp::promise<int> broken(std::allocator_arg, a);
		auto bf = broken.get_future();
		broken = lwp::promise<int>();
		EXPECT_THROW(bf.get(), std::future_error);
	}
	EXPECT_EQ(c.allocated, 4);
	EXPECT_EQ(c.freed, 4);
}

template <class T>
struct refusing_allocator {
	using value_type = T;
	refusing_allocator() = default;
	template <class U>
	refusing_allocator(const refusing_allocator<U> &) {}  // NOLINT: as the requirements have it
	T *allocate(std::size_t) { throw std::bad_alloc(); }
	void deallocate(T *, std::size_t) {}
};

TEST(PromiseWithAllocator, ThrowsWhatItThrows) {
	EXPECT_THROW(lwp::promise<int>(std::allocator_arg, refusing_allocator<char>()), std::bad_alloc);
}

// ---- between an LWP and a std::thread --------------------------------------------------------------------------------------------

/// `f` in a std::thread while the caller lets others run: on one vCPU that kernel thread may need them.
template <class F>
void in_kernel_thread(F f) {
	gate over;
	std::thread t([&] {
		f();
		over.open();
	});
	over.pass();
	t.join();
}

TEST(BetweenLwpAndKernelThread, ThreadAndJthread) {
	in_kernel_thread([] {
		std::atomic<int> ran{0};
		lwp::thread made([&] { ran++; });
		EXPECT_NE(made.get_id(), lwp::this_thread::get_id());
		made.join();
		lwp::jthread stopped([&](const lwp::stop_token &stop) {
			EXPECT_FALSE(lwp::this_thread::sleep_for(1h, stop));
			ran++;
		});
		stopped.request_stop();
		stopped.join();
		EXPECT_EQ(ran, 2);
	});
	lwp::jthread sleeper([](const lwp::stop_token &stop) { EXPECT_FALSE(lwp::this_thread::sleep_for(1h, stop)); });
	in_kernel_thread([&] {
		EXPECT_TRUE(sleeper.request_stop());
		sleeper.join();
		EXPECT_FALSE(sleeper.joinable());
	});
	lwp::thread::id other;
	in_kernel_thread([&] { other = lwp::this_thread::get_id(); });
	EXPECT_NE(other, lwp::this_thread::get_id());
	EXPECT_NE(other, lwp::thread::id());
	EXPECT_EQ(std::hash<lwp::thread::id>()(other), std::hash<lwp::thread::id>()(lwp::thread::id(other)));
}

/// Each takes it and gives way to the other by it, so that both have waited and both have been let in.
template <class M>
void take_turns() {
	M m;
	int turn = 0;  // m
	constexpr int turns = 100;
	const auto play = [&](int me) {
		for (int i = 0; i < turns;) {
			m.lock();
			if (turn % 2 == me) {
				turn++;
				i++;
			}
			m.unlock();
			lwp::this_thread::yield();
		}
	};
	lwp::thread lwp_player(play, 0);
	in_kernel_thread([&] { play(1); });
	lwp_player.join();
	EXPECT_EQ(turn, 2 * turns);
}

TEST(BetweenLwpAndKernelThread, Mutexes) {
	take_turns<lwp::mutex>();
	take_turns<lwp::timed_mutex>();
	take_turns<lwp::recursive_mutex>();
	take_turns<lwp::recursive_timed_mutex>();
	take_turns<lwp::shared_mutex>();
	take_turns<lwp::shared_timed_mutex>();
}

TEST(BetweenLwpAndKernelThread, SharedMutexIsSharedByBoth) {
	lwp::shared_mutex m;
	std::shared_lock here(m);
	in_kernel_thread([&] {
		std::shared_lock there(m);
		EXPECT_FALSE(m.try_lock());
	});
	here.unlock();
	in_kernel_thread([&] {
		std::lock_guard alone(m);
		lwp::thread([&] { EXPECT_FALSE(m.try_lock_shared()); }).join();
	});
}

TEST(BetweenLwpAndKernelThread, CallOnce) {
	for (int i = 0; i < 50; i++) {
		lwp::once_flag flag;
		int calls = 0;
		const auto call = [&] { lwp::call_once(flag, [&] { calls++; }); };
		lwp::thread other(call);
		in_kernel_thread(call);
		other.join();
		EXPECT_EQ(calls, 1);
	}
}

template <class CV>
void ping_pong() {
	lwp::mutex m;
	CV cv;
	int turn = 0;  // m
	const auto play = [&](int me) {
		for (int i = 0; i < 100; i++) {
			std::unique_lock hold(m);
			cv.wait(hold, [&] { return turn % 2 == me; });
			turn++;
			i % 2 == 0 ? cv.notify_one() : cv.notify_all();
		}
	};
	lwp::thread lwp_player(play, 0);
	in_kernel_thread([&] { play(1); });
	lwp_player.join();
	EXPECT_EQ(turn, 200);
}

TEST(BetweenLwpAndKernelThread, ConditionVariables) {
	ping_pong<lwp::condition_variable>();
	ping_pong<lwp::condition_variable_any>();
}

TEST(BetweenLwpAndKernelThread, SemaphoreLatchBarrier) {
	lwp::binary_semaphore there(0), back(0);
	lwp::latch both(2);
	int phases = 0;
	lwp::barrier all(2, [&]() noexcept { phases++; });
	lwp::thread other([&] {
		there.acquire();
		back.release();
		both.arrive_and_wait();
		for (int i = 0; i < 50; i++) {
			all.arrive_and_wait();
		}
		all.arrive_and_drop();
	});
	in_kernel_thread([&] {
		there.release();
		back.acquire();
		both.count_down();
		both.wait();
		EXPECT_TRUE(both.try_wait());
		for (int i = 0; i < 51; i++) {
			all.wait(all.arrive());
		}
		all.arrive_and_wait();  // alone by now
	});
	other.join();
	EXPECT_EQ(phases, 52);
}

TEST(BetweenLwpAndKernelThread, Futures) {
	lwp::promise<int> p;
	auto f = p.get_future();
	lwp::thread setter([&] { p.set_value(1); });
	in_kernel_thread([&] { EXPECT_EQ(f.get(), 1); });
	setter.join();

	lwp::packaged_task<int(int)> task([](int i) { return i + 1; });
	auto result = task.get_future();
	in_kernel_thread([&] { task(1); });
	EXPECT_EQ(result.get(), 2);

	in_kernel_thread([] {
		EXPECT_EQ(lwp::async(std::launch::async, [] { return 3; }).get(), 3);
		EXPECT_EQ(lwp::async(std::launch::deferred, [] { return 4; }).get(), 4);
	});
	auto made_here = lwp::async(std::launch::deferred, [] { return lwp::this_thread::get_id(); });
	lwp::thread::id caller;
	in_kernel_thread([&] {
		caller = lwp::this_thread::get_id();
		EXPECT_EQ(made_here.get(), caller) << "a deferred function is called by who waits";
	});
}

}  // namespace
