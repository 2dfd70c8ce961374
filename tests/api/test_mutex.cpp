// SPDX-License-Identifier: BSD-2-Clause
//
// [thread.mutex.requirements], clause by clause, for every exclusive lock, between LWPs and kernel threads.
// vcpus: 1 2 8
#include <lwp/mutex.hpp>
#include <lwp/shared_mutex.hpp>

#include "../support/support.h"
#include "lock_boundary.h"

#include <memory>
#include <thread>
#include <type_traits>
#include <vector>

using namespace lwp::test;
using namespace std::chrono_literals;
using std::chrono::steady_clock;
using std::chrono::system_clock;

namespace {

const bool touched = touch_runtime();

// ---- what the compiler can say ------------------------------------------------------------------------------------------

template <class M>
concept basic_lockable = requires(M &m) {
	m.lock();
	m.unlock();
};
template <class M>
concept lockable = basic_lockable<M> && requires(M &m) {
	{ m.try_lock() } -> std::same_as<bool>;
};
template <class M>
concept timed_lockable = lockable<M> && requires(M &m) {
	{ m.try_lock_for(1ms) } -> std::same_as<bool>;
	{ m.try_lock_for(std::chrono::duration<double>(0.1)) } -> std::same_as<bool>;
	{ m.try_lock_until(steady_clock::now()) } -> std::same_as<bool>;
	{ m.try_lock_until(system_clock::now()) } -> std::same_as<bool>;
};

// [thread.mutex.requirements.mutex.general]: default constructible, destructible, neither copied nor moved.
template <class M>
constexpr bool like_a_mutex = std::is_default_constructible_v<M> &&std::is_nothrow_destructible_v<M> && !std::is_copy_constructible_v<M> &&
    !std::is_copy_assignable_v<M> && !std::is_move_constructible_v<M> && !std::is_move_assignable_v<M> && lockable<M> &&
    std::is_nothrow_default_constructible_v<M> && std::is_standard_layout_v<M>;

template <class M>
constexpr bool works_with_std = requires(M &m, lwp::mutex &other) {
	std::lock_guard<M>(m);
	std::unique_lock<M>(m, std::defer_lock);
	std::scoped_lock<M, lwp::mutex>(m, other);
	std::lock(m, other);
	std::try_lock(m, other);
};

static_assert(like_a_mutex<lwp::mutex> && !timed_lockable<lwp::mutex> && works_with_std<lwp::mutex>);
static_assert(like_a_mutex<lwp::timed_mutex> && timed_lockable<lwp::timed_mutex> && works_with_std<lwp::timed_mutex>);
static_assert(like_a_mutex<lwp::recursive_mutex> && !timed_lockable<lwp::recursive_mutex> && works_with_std<lwp::recursive_mutex>);
static_assert(like_a_mutex<lwp::recursive_timed_mutex> && timed_lockable<lwp::recursive_timed_mutex>);
static_assert(works_with_std<lwp::recursive_timed_mutex>);
static_assert(like_a_mutex<lwp::shared_mutex> && !timed_lockable<lwp::shared_mutex> && works_with_std<lwp::shared_mutex>);
static_assert(like_a_mutex<lwp::shared_timed_mutex> && timed_lockable<lwp::shared_timed_mutex> && works_with_std<lwp::shared_timed_mutex>);
static_assert(noexcept(std::declval<lwp::mutex &>().try_lock()) &&noexcept(std::declval<lwp::recursive_mutex &>().try_lock()));
static_assert(sizeof(lwp::mutex) <= sizeof(std::mutex) && sizeof(lwp::shared_mutex) <= sizeof(std::shared_mutex));

// [thread.mutex.class]: the constructor is constexpr, so before any dynamic initialization they are ready.
constinit lwp::mutex constant_mutex;
constinit lwp::timed_mutex constant_timed;
constinit lwp::recursive_mutex constant_recursive;
constinit lwp::recursive_timed_mutex constant_recursive_timed;
constinit lwp::shared_mutex constant_shared;
constinit lwp::shared_timed_mutex constant_shared_timed;

template <class M>
constexpr bool recursive = std::is_same_v<M, lwp::recursive_mutex> || std::is_same_v<M, lwp::recursive_timed_mutex>;

/// Runs `f` in an LWP and in a kernel thread, one after the other, and waits.
template <class F>
void in_others(const F &f) {
	lwp::thread(f).join();
	gate over;
	std::thread kernel_thread([&] {
		f();
		over.open();
	});
	over.pass();  // not join() alone: that would stop our vCPU
	kernel_thread.join();
}

template <class M>
struct Exclusive : testing::Test {};
using exclusive_types = testing::Types<lwp::mutex, lwp::timed_mutex, lwp::recursive_mutex, lwp::recursive_timed_mutex, lwp::shared_mutex,
    lwp::shared_timed_mutex>;
TYPED_TEST_SUITE(Exclusive, exclusive_types);

template <class M>
struct Timed : testing::Test {};
using timed_types = testing::Types<lwp::timed_mutex, lwp::recursive_timed_mutex, lwp::shared_timed_mutex>;
TYPED_TEST_SUITE(Timed, timed_types);

}  // namespace

// ---- [thread.mutex.requirements.mutex] ----------------------------------------------------------------------------------

TYPED_TEST(Exclusive, TryLockFailsWhileAnotherHasItAndOnlyThen) {
	TypeParam m;
	m.lock();
	in_others([&] { EXPECT_FALSE(m.try_lock()); });
	m.unlock();
	in_others([&] {
		EXPECT_TRUE(m.try_lock());
		m.unlock();
	});
	EXPECT_TRUE(m.try_lock());
	m.unlock();
}

// "Blocks the calling thread until ownership of the mutex can be obtained"; the unlock happens before the lock that gets it.
TYPED_TEST(Exclusive, LockBlocksUntilTheUnlock) {
	TypeParam m;
	int plain = 0;  // m
	m.lock();
	subject waiter([&](subject &s) {
		s.about_to_block();
		m.lock();
		s.set_result(plain);
		m.unlock();
	});
	std::thread kernel_thread([&] {
		m.lock();
		EXPECT_EQ(plain, 1);
		m.unlock();
	});
	waiter.await_blocked();
	EXPECT_EQ(waiter.result(), -1);
	plain = 1;
	m.unlock();
	collect(waiter.lid());
	EXPECT_EQ(waiter.result(), 1);
	while (!m.try_lock()) {
		lwp_yield();
	}
	m.unlock();
	kernel_thread.join();
}

TYPED_TEST(Exclusive, OneAtATime) {
	TypeParam m;
	const std::size_t n = rounds(2000);
	std::size_t count = 0;  // m
	const auto work = [&](unsigned who) {
		for (std::size_t i = 0; i < n; i++) {
			std::lock_guard hold(m);
			const std::size_t was = count;
			if ((i + who) % 16 == 0) {
				lwp::this_thread::yield();
			}
			count = was + 1;
		}
	};
	std::vector<lwp::thread> lwps;
	std::vector<std::thread> kernel_threads;
	for (unsigned i = 0; i < 8; i++) {
		lwps.emplace_back(work, i);
	}
	for (unsigned i = 0; i < 2; i++) {
		kernel_threads.emplace_back(work, i);
	}
	for (auto &t : lwps) {
		t.join();
	}
	for (auto &t : kernel_threads) {
		t.join();
	}
	EXPECT_EQ(count, 10 * n);
}

// "resource_deadlock_would_occur -- if the implementation detects that a deadlock would occur"; a recursive one counts.
TYPED_TEST(Exclusive, LockByItsOwner) {
	TypeParam m;
	m.lock();
	if constexpr (recursive<TypeParam>) {
		m.lock();
		EXPECT_TRUE(m.try_lock());
		m.unlock();
		m.unlock();
		in_others([&] { EXPECT_FALSE(m.try_lock()) << "one level is left"; });
	} else {
		EXPECT_FALSE(m.try_lock());
		try {
			m.lock();
			ADD_FAILURE() << "no exception";
		} catch (const std::system_error &e) {
			EXPECT_EQ(e.code(), std::errc::resource_deadlock_would_occur);
		}
		in_others([&] { EXPECT_FALSE(m.try_lock()) << "it has lost the mutex"; });
	}
	m.unlock();
	in_others([&] {
		EXPECT_TRUE(m.try_lock());
		m.unlock();
	});
}

// The last user frees the memory: whoever had it before must not touch it any more.
TYPED_TEST(Exclusive, MayBeDestroyedByTheNextOwner) {
	struct object {
		TypeParam m;
		int users = 3;  // m
	};
	for (std::size_t i = 0; i < rounds(3000); i++) {
		auto *o = new object;
		const auto leave = [o] {
			o->m.lock();
			const bool last = --o->users == 0;
			o->m.unlock();
			if (last) {
				delete o;
			}
		};
		lwp::thread a(leave);
		lwp::thread b(leave);
		if (i % 16 == 0) {
			std::thread(leave).join();
		} else {
			leave();
		}
		a.join();
		b.join();
	}
}

// Two that take it again and again, giving way in between; a third one must have its turn.
TYPED_TEST(Exclusive, NobodyIsPassedOverForEver) {
	TypeParam m;
	std::atomic<bool> stop{false};
	std::vector<lwp::thread> greedy;
	for (int i = 0; i < 2; i++) {
		greedy.emplace_back([&] {
			while (!stop) {
				m.lock();
				lwp_yield();
				m.unlock();
				lwp_yield();
			}
		});
	}
	for (std::size_t i = 0; i < rounds(200); i++) {
		m.lock();
		m.unlock();
		lwp_yield();
	}
	std::thread kernel_thread([&] {
		for (std::size_t i = 0; i < rounds(50); i++) {
			m.lock();
			m.unlock();
		}
		stop = true;
	});
	EXPECT_TRUE(wait_until([&] { return stop.load(); }));
	kernel_thread.join();
	for (auto &t : greedy) {
		t.join();
	}
}

TYPED_TEST(Exclusive, SuspendAndContinueOfAWaiter) {
	TypeParam m;
	m.lock();
	subject waiter([&](subject &s) {
		s.about_to_block();
		m.lock();
		s.set_result(0);
		m.unlock();
	});
	waiter.await_blocked();
	EXPECT_EQ(error_of(_lwp_suspend(waiter.lid())), 0);
	m.unlock();
	for (int i = 0; i < 50; i++) {
		lwp_yield();
	}
	EXPECT_EQ(waiter.result(), -1) << "it is suspended";
	EXPECT_TRUE(m.try_lock()) << "and does not keep the mutex";
	m.unlock();
	EXPECT_EQ(error_of(_lwp_continue(waiter.lid())), 0);
	collect(waiter.lid());
	EXPECT_EQ(waiter.result(), 0);
}

TYPED_TEST(Exclusive, AnUnlockIsABoundary) {
	TypeParam m;
	const auto round = [&m] {
		m.lock();
		m.unlock();
	};
	suspend_takes_effect_in_a_loop_of(round);
	a_better_one_runs_in_a_loop_of(round);
}

TYPED_TEST(Exclusive, WakeupDoesNotEndAWait) {
	TypeParam m;
	m.lock();
	subject waiter([&](subject &s) {
		s.about_to_block();
		m.lock();
		s.set_result(0);
		m.unlock();
	});
	waiter.await_blocked();
	for (int i = 0; i < 10; i++) {
		const int error = error_of(_lwp_wakeup(waiter.lid()));
		EXPECT_TRUE(error == 0 || error == ENODEV) << error;
		lwp_yield();
	}
	EXPECT_EQ(waiter.result(), -1);
	m.unlock();
	collect(waiter.lid());
}

TYPED_TEST(Exclusive, MillionRoundsByAKernelThread) {
	TypeParam m;
	std::size_t count = 0;
	gate over;
	std::thread kernel_thread([&] {
		for (std::size_t i = 0; i < rounds(1'000'000); i++) {
			m.lock();
			count++;
			m.unlock();
		}
		over.open();
	});
	over.pass();
	kernel_thread.join();
	EXPECT_EQ(count, rounds(1'000'000));
}

TYPED_TEST(Exclusive, StdsAdaptors) {
	TypeParam a;
	lwp::mutex b;
	{
		lwp::scoped_lock both(a, b);
		in_others([&] { EXPECT_FALSE(a.try_lock()); });
	}
	{
		lwp::unique_lock first(a, lwp::defer_lock);
		lwp::unique_lock second(b, lwp::defer_lock);
		lwp::lock(first, second);
		EXPECT_TRUE(first.owns_lock() && second.owns_lock());
	}
	{
		lwp::unique_lock hold(a, lwp::try_to_lock);
		EXPECT_TRUE(hold.owns_lock());
	}
	EXPECT_EQ(lwp::try_lock(a, b), -1);
	lwp::lock_guard first(a, lwp::adopt_lock);
	lwp::lock_guard second(b, lwp::adopt_lock);
}

// ---- [thread.timedmutex.requirements] -----------------------------------------------------------------------------------

TYPED_TEST(Timed, GetsAFreeOneWhateverTheTime) {
	TypeParam m;
	const auto gets = [&](bool got) {
		EXPECT_TRUE(got);
		m.unlock();
	};
	gets(m.try_lock_for(0s));
	gets(m.try_lock_for(-1h));
	gets(m.try_lock_for(std::chrono::hours::max()));
	gets(m.try_lock_for(std::chrono::duration<double>(1e30)));
	gets(m.try_lock_until(steady_clock::time_point::min()));
	gets(m.try_lock_until(steady_clock::time_point::max()));
	gets(m.try_lock_until(steady_clock::now() - 1s));
	gets(m.try_lock_until(system_clock::now() - 1s));
	gets(m.try_lock_until(system_clock::now() + 1h));
}

TYPED_TEST(Timed, FailsNotBeforeItsTime) {
	TypeParam m;
	m.lock();
	in_others([&] {
		EXPECT_FALSE(m.try_lock_for(0s));
		EXPECT_FALSE(m.try_lock_for(-1h));
		EXPECT_FALSE(m.try_lock_until(steady_clock::time_point::min()));
		EXPECT_FALSE(m.try_lock_until(steady_clock::now() - 1s));
		EXPECT_FALSE(m.try_lock_until(system_clock::now() - 1s));
		const auto from = steady_clock::now();
		EXPECT_FALSE(m.try_lock_for(3ms));
		EXPECT_GE(steady_clock::now() - from, 3ms);
		const auto steady = steady_clock::now() + 3ms;
		EXPECT_FALSE(m.try_lock_until(steady));
		EXPECT_GE(steady_clock::now(), steady);
		const auto system = system_clock::now() + 3ms;
		EXPECT_FALSE(m.try_lock_until(system));
		EXPECT_GE(system_clock::now(), system);
	});
	m.unlock();
}

TYPED_TEST(Timed, GetsItWhenItIsUnlockedInTime) {
	TypeParam m;
	for (int how = 0; how < 5; how++) {
		m.lock();
		subject waiter([&](subject &s) {
			s.about_to_block();
			const bool got = how == 0 ? m.try_lock_for(1h)
			    : how == 1            ? m.try_lock_until(steady_clock::now() + 1h)
			    : how == 2            ? m.try_lock_until(system_clock::now() + 1h)
			    : how == 3            ? m.try_lock_for(std::chrono::hours::max())
			                          : m.try_lock_until(steady_clock::time_point::max());
			if (got) {
				m.unlock();
			}
			s.set_result(got ? 1 : 0);
		});
		waiter.await_blocked();
		m.unlock();
		collect(waiter.lid());
		EXPECT_EQ(waiter.result(), 1) << how;
	}
}

// The unlock comes close to the deadline: it is got or not, and if not the next one gets it.
TYPED_TEST(Timed, UnlockAgainstTimeout) {
	TypeParam m;
	std::size_t got = 0;
	const std::size_t n = rounds(1000);
	for (std::size_t i = 0; i < n; i++) {
		m.lock();
		const auto deadline = steady_clock::now() + 30us;
		bool late = false;
		lwp::thread waiter([&] {
			if (m.try_lock_until(deadline)) {
				late = true;
				m.unlock();
			}
		});
		while (steady_clock::now() < deadline + std::chrono::microseconds(i % 16) - 8us) {
			lwp_yield();
		}
		m.unlock();
		waiter.join();
		got += late ? 1 : 0;
		EXPECT_TRUE(m.try_lock());
		m.unlock();
	}
	std::printf("%zu of %zu got it\n", got, n);
}

TYPED_TEST(Timed, LockByItsOwner) {
	TypeParam m;
	m.lock();
	if constexpr (recursive<TypeParam>) {
		EXPECT_TRUE(m.try_lock_for(1ms));
		EXPECT_TRUE(m.try_lock_until(steady_clock::now() - 1s));
		m.unlock();
		m.unlock();
	} else {
		EXPECT_THROW((void)m.try_lock_for(1ms), std::system_error);
		EXPECT_THROW((void)m.try_lock_until(system_clock::now() + 1h), std::system_error);
	}
	m.unlock();
	EXPECT_TRUE(m.try_lock());
	m.unlock();
}

// ---- [thread.mutex.recursive] -------------------------------------------------------------------------------------------

TEST(Recursive, FreeAfterAsManyUnlocks) {
	lwp::recursive_mutex m;
	for (int i = 0; i < 1000; i++) {
		m.lock();
	}
	for (int i = 0; i < 1000; i++) {
		if (i % 100 == 0) {
			in_others([&, i] { EXPECT_FALSE(m.try_lock()) << i; });
		}
		m.unlock();
	}
	in_others([&] {
		EXPECT_TRUE(m.try_lock());
		m.unlock();
	});
}

// "a program that exceeds the number of levels": lock() throws, try_lock() fails, and nothing is lost.
template <class M>
void exceed_the_levels() {
	M m;
	m.lock();
	std::uint32_t *const levels = reinterpret_cast<std::uint32_t *>(reinterpret_cast<char *>(&m) + sizeof(lwp::mutex));
	ASSERT_EQ(*levels, 1U);
	*levels = UINT32_MAX - 1;
	m.lock();
	EXPECT_FALSE(m.try_lock());
	try {
		m.lock();
		ADD_FAILURE() << "no exception";
	} catch (const std::system_error &e) {
		EXPECT_EQ(e.code(), std::errc::resource_unavailable_try_again);
	}
	if constexpr (timed_lockable<M>) {
		EXPECT_FALSE(m.try_lock_for(1ms));
	}
	EXPECT_EQ(*levels, UINT32_MAX);
	*levels = 1;
	m.unlock();
	in_others([&] {
		EXPECT_TRUE(m.try_lock());
		m.unlock();
	});
}
TEST(Recursive, TooManyLevels) { exceed_the_levels<lwp::recursive_mutex>(); }
TEST(Recursive, TooManyLevelsTimed) { exceed_the_levels<lwp::recursive_timed_mutex>(); }

// ---- constant initialization, misuse ------------------------------------------------------------------------------------

TEST(Mutexes, ThoseOfStaticStorageWork) {
	std::scoped_lock hold(
	    constant_mutex, constant_timed, constant_recursive, constant_recursive_timed, constant_shared, constant_shared_timed);
	in_others([] { EXPECT_FALSE(constant_mutex.try_lock()); });
}

#if !LWP_TEST_TSAN
TEST(MutexesDeathTest, UnlockByAnotherIsNamed) {
	lwp::mutex m;
	lwp::recursive_mutex r;
	lwp::shared_mutex s;
	EXPECT_DEATH(m.unlock(), "a mutex is unlocked by an LWP that does not own it");
	EXPECT_DEATH(r.unlock(), "a recursive mutex is unlocked by an LWP that does not own it");
	EXPECT_DEATH(s.unlock(), "a shared mutex is unlocked by an LWP that does not own it");
	EXPECT_DEATH(s.unlock_shared(), "a shared mutex is unlocked by an LWP that does not share it");
	std::lock_guard hold(s);
	EXPECT_DEATH(s.unlock_shared(), "a shared mutex is unlocked by an LWP that does not share it");
}

#if LWP_DEBUG
template <class M, class Lock>
void destroy_locked(const Lock &lock) {
	M m;
	lock(m);
}

TEST(MutexesDeathTest, DestroyedInUseIsNamed) {
	const auto exclusive = [](auto &m) { m.lock(); };
	const char *message = "lwp::mutex at 0x[0-9a-f]+ is destroyed while LWP [0-9]+ '.*' owns it";
	EXPECT_DEATH(destroy_locked<lwp::mutex>(exclusive), message);
	EXPECT_DEATH(destroy_locked<lwp::timed_mutex>(exclusive), message);
	EXPECT_DEATH(destroy_locked<lwp::recursive_mutex>(exclusive), message);
	EXPECT_DEATH(destroy_locked<lwp::recursive_timed_mutex>(exclusive), message);
	EXPECT_DEATH(
	    destroy_locked<lwp::shared_mutex>(exclusive), "lwp::shared_mutex at 0x[0-9a-f]+ is destroyed while LWP [0-9]+ '.*' owns it");
	EXPECT_DEATH(destroy_locked<lwp::shared_timed_mutex>([](auto &m) { m.lock_shared(); }), "is destroyed while 1 LWP\\(s\\) share it");
}

TEST(MutexesDeathTest, LwpThatEndsAsAnOwnerIsNamed) {
	if (lwp::runtime::vcpus() != 1) {
		GTEST_SKIP() << "the child of a fork has one kernel thread";
	}
	static lwp::mutex m;
	static lwp::shared_mutex s;
	const char *message = "LWP [0-9]+ 'forgetful' ends and still owns 1 mutex\\(es\\): one is at 0x";
	EXPECT_DEATH(lwp::thread({.name = "forgetful"}, [] { m.lock(); }).join(), message);
	EXPECT_DEATH(lwp::thread({.name = "forgetful"}, [] { s.lock(); }).join(), message);
}
#endif
#endif
