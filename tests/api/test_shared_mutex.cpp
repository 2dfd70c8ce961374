// SPDX-License-Identifier: BSD-2-Clause
//
// [thread.sharedmutex.requirements], clause by clause, between LWPs and kernel threads.  Exclusive use is tested with the other mutexes.
// vcpus: 1 2 8
#include <lwp/shared_mutex.hpp>

#include "../support/support.h"
#include "lock_boundary.h"

#include <memory>
#include <thread>
#include <vector>

using namespace lwp::test;
using namespace std::chrono_literals;
using std::chrono::steady_clock;
using std::chrono::system_clock;

namespace {

const bool touched = touch_runtime();

static_assert(noexcept(std::declval<lwp::shared_mutex &>().try_lock_shared()));

template <class F>
void in_others(const F &f) {
	lwp::thread(f).join();
	gate over;
	std::thread kernel_thread([&] {
		f();
		over.open();
	});
	over.pass();
	kernel_thread.join();
}

template <class M>
struct Shared : testing::Test {};
using types = testing::Types<lwp::shared_mutex, lwp::shared_timed_mutex>;
TYPED_TEST_SUITE(Shared, types);

}  // namespace

TYPED_TEST(Shared, ReadersShareAndKeepWritersOut) {
	TypeParam m;
	m.lock_shared();
	in_others([&] {
		EXPECT_TRUE(m.try_lock_shared());
		m.unlock_shared();
		m.lock_shared();
		EXPECT_FALSE(m.try_lock());
		m.unlock_shared();
		EXPECT_FALSE(m.try_lock());
	});
	m.unlock_shared();
	in_others([&] {
		EXPECT_TRUE(m.try_lock());
		EXPECT_FALSE(m.try_lock_shared());
		m.unlock();
	});
}

TYPED_TEST(Shared, TheOnlyReaderIsUpgradedAndDowngraded) {
	TypeParam m;
	m.lock_shared();
	in_others([&] {
		m.lock_shared();
		EXPECT_FALSE(m.try_upgrade());  // and still shares it
		m.unlock_shared();
	});
	EXPECT_TRUE(m.try_upgrade());
	in_others([&] { EXPECT_FALSE(m.try_lock_shared()); });
	m.downgrade();
	in_others([&] {
		EXPECT_TRUE(m.try_lock_shared());
		EXPECT_FALSE(m.try_upgrade());
		m.unlock_shared();
		EXPECT_FALSE(m.try_lock());
	});
	m.unlock_shared();
	EXPECT_TRUE(m.try_lock());
	m.unlock();
}

// What each reads is what the last one wrote; who is not alone gives up and tries again.
TYPED_TEST(Shared, UpgradesOfManyLoseNothing) {
	TypeParam m;
	const int each = static_cast<int>(rounds(2000));
	int counter = 0;  // written by who has it alone
	const auto count = [&] {
		for (int done = 0; done < each;) {
			m.lock_shared();
			const int seen = counter;
			if (m.try_upgrade()) {
				EXPECT_EQ(counter, seen);
				counter++;
				done++;
				m.downgrade();
				EXPECT_EQ(counter, seen + 1);
			}
			m.unlock_shared();
			lwp::this_thread::yield();
		}
	};
	std::vector<lwp::thread> lwps;
	for (int i = 0; i < 4; i++) {
		lwps.emplace_back(count);
	}
	std::thread kernel_thread(count);
	for (auto &t : lwps) {
		t.join();
	}
	kernel_thread.join();
	EXPECT_EQ(counter, 5 * each);
}

// All of them inside at the same moment.
TYPED_TEST(Shared, ReadersRunInParallel) {
	TypeParam m;
	std::atomic<int> inside{0};
	const auto read = [&] {
		lwp::shared_lock hold(m);
		inside++;
		EXPECT_TRUE(wait_until([&] { return inside == 12; }));
	};
	std::vector<lwp::thread> lwps;
	std::vector<std::thread> kernel_threads;
	for (int i = 0; i < 10; i++) {
		lwps.emplace_back(read);
	}
	for (int i = 0; i < 2; i++) {
		kernel_threads.emplace_back(read);
	}
	for (auto &t : lwps) {
		t.join();
	}
	for (auto &t : kernel_threads) {
		t.join();
	}
	EXPECT_TRUE(m.try_lock());
	m.unlock();
}

// "Prior unlock() operations synchronize with" lock_shared(), prior unlock_shared() with lock().
TYPED_TEST(Shared, EachSeesWhatThoseBeforeDid) {
	TypeParam m;
	const std::size_t n = rounds(1000);
	std::size_t plain = 0;  // m
	std::atomic<std::size_t> seen{0};
	const auto work = [&](unsigned who) {
		for (std::size_t i = 0; i < n; i++) {
			if ((i + who) % 4 == 0) {
				std::lock_guard hold(m);
				const std::size_t was = plain;
				if (i % 8 == 0) {
					lwp_yield();
				}
				plain = was + 1;
			} else {
				lwp::shared_lock hold(m);
				const std::size_t was = plain;
				if (i % 8 == 0) {
					lwp_yield();
				}
				EXPECT_EQ(plain, was);
				seen += plain != 0 ? 1 : 0;
			}
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
	EXPECT_EQ(plain, 10 * n / 4);
	EXPECT_GT(seen, 0U);
}

TYPED_TEST(Shared, LockSharedByItsWriterIsAnError) {
	TypeParam m;
	std::lock_guard hold(m);
	EXPECT_FALSE(m.try_lock_shared());
	try {
		m.lock_shared();
		ADD_FAILURE() << "no exception";
	} catch (const std::system_error &e) {
		EXPECT_EQ(e.code(), std::errc::resource_deadlock_would_occur);
	}
}

// A stream of readers, one always inside.
TYPED_TEST(Shared, WriterIsNotStarvedByReaders) {
	TypeParam m;
	std::atomic<bool> stop{false};
	std::vector<lwp::thread> readers;
	for (int i = 0; i < 6; i++) {
		readers.emplace_back([&] {
			while (!stop) {
				lwp::shared_lock hold(m);
				lwp_yield();
				lwp_yield();
			}
		});
	}
	for (std::size_t i = 0; i < rounds(200); i++) {
		std::lock_guard hold(m);
		lwp_yield();
	}
	std::thread kernel_thread([&] {
		for (std::size_t i = 0; i < rounds(50); i++) {
			std::lock_guard hold(m);
		}
		stop = true;
	});
	EXPECT_TRUE(wait_until([&] { return stop.load(); }));
	kernel_thread.join();
	for (auto &t : readers) {
		t.join();
	}
}

TYPED_TEST(Shared, ReaderIsNotStarvedByWriters) {
	TypeParam m;
	std::atomic<bool> stop{false};
	std::vector<lwp::thread> writers;
	for (int i = 0; i < 6; i++) {
		writers.emplace_back([&] {
			while (!stop) {
				std::lock_guard hold(m);
				lwp_yield();
			}
		});
	}
	for (std::size_t i = 0; i < rounds(200); i++) {
		lwp::shared_lock hold(m);
		lwp_yield();
	}
	std::thread kernel_thread([&] {
		for (std::size_t i = 0; i < rounds(50); i++) {
			lwp::shared_lock hold(m);
		}
		stop = true;
	});
	EXPECT_TRUE(wait_until([&] { return stop.load(); }));
	kernel_thread.join();
	for (auto &t : writers) {
		t.join();
	}
}

TYPED_TEST(Shared, MayBeDestroyedByTheNextOne) {
	struct object {
		TypeParam m;
		std::atomic<int> users{4};
	};
	for (std::size_t i = 0; i < rounds(2000); i++) {
		auto *o = new object;
		const auto read = [o] {
			o->m.lock_shared();
			const bool last = o->users.fetch_sub(1) == 1;
			o->m.unlock_shared();
			if (last) {
				o->m.lock();  // the others have left, or are about to: after them
				o->m.unlock();
				delete o;
			}
		};
		lwp::thread a(read);
		lwp::thread b(read);
		lwp::thread c([o, read] {
			o->m.lock();
			lwp_yield();
			o->m.unlock();
			read();
		});
		read();
		a.join();
		b.join();
		c.join();
	}
}

TYPED_TEST(Shared, SuspendAndContinueOfAReaderThatWaits) {
	TypeParam m;
	m.lock();
	subject waiter([&](subject &s) {
		s.about_to_block();
		m.lock_shared();
		s.set_result(0);
		m.unlock_shared();
	});
	waiter.await_blocked();
	EXPECT_EQ(error_of(_lwp_suspend(waiter.lid())), 0);
	m.unlock();
	for (int i = 0; i < 50; i++) {
		lwp_yield();
	}
	EXPECT_EQ(waiter.result(), -1);
	EXPECT_TRUE(m.try_lock()) << "it does not share it";
	m.unlock();
	EXPECT_EQ(error_of(_lwp_continue(waiter.lid())), 0);
	collect(waiter.lid());
	EXPECT_EQ(waiter.result(), 0);
}

TYPED_TEST(Shared, AnUnlockIsABoundary) {
	TypeParam m;
	const auto round = [&m] {
		m.lock_shared();
		m.unlock_shared();
	};
	suspend_takes_effect_in_a_loop_of(round);
	a_better_one_runs_in_a_loop_of(round);
}

TYPED_TEST(Shared, SharedLock) {
	TypeParam m;
	lwp::shared_lock first(m);
	lwp::shared_lock second(m, std::try_to_lock);
	EXPECT_TRUE(second.owns_lock());
	lwp::shared_lock third(std::move(first));
	EXPECT_TRUE(third.owns_lock() && !first.owns_lock());
	in_others([&] { EXPECT_FALSE(m.try_lock()); });
	third.unlock();
	second.unlock();
	EXPECT_TRUE(m.try_lock());
	m.unlock();
}

// ---- [thread.sharedtimedmutex.requirements] -----------------------------------------------------------------------------

TEST(SharedTimed, GetsAFreeOrSharedOneWhateverTheTime) {
	lwp::shared_timed_mutex m;
	lwp::shared_lock other(m);
	const auto gets = [&](bool got) {
		EXPECT_TRUE(got);
		m.unlock_shared();
	};
	gets(m.try_lock_shared_for(0s));
	gets(m.try_lock_shared_for(-1h));
	gets(m.try_lock_shared_for(std::chrono::hours::max()));
	gets(m.try_lock_shared_until(steady_clock::time_point::min()));
	gets(m.try_lock_shared_until(steady_clock::time_point::max()));
	gets(m.try_lock_shared_until(system_clock::now() - 1s));
	gets(m.try_lock_shared_until(system_clock::now() + 1h));
}

TEST(SharedTimed, FailsNotBeforeItsTime) {
	lwp::shared_timed_mutex m;
	std::lock_guard hold(m);
	in_others([&] {
		EXPECT_FALSE(m.try_lock_shared_for(0s));
		EXPECT_FALSE(m.try_lock_shared_for(-1h));
		EXPECT_FALSE(m.try_lock_shared_until(steady_clock::time_point::min()));
		EXPECT_FALSE(m.try_lock_shared_until(system_clock::now() - 1s));
		const auto from = steady_clock::now();
		EXPECT_FALSE(m.try_lock_shared_for(3ms));
		EXPECT_GE(steady_clock::now() - from, 3ms);
		const auto steady = steady_clock::now() + 3ms;
		EXPECT_FALSE(m.try_lock_shared_until(steady));
		EXPECT_GE(steady_clock::now(), steady);
		const auto system = system_clock::now() + 3ms;
		EXPECT_FALSE(m.try_lock_shared_until(system));
		EXPECT_GE(system_clock::now(), system);
	});
	EXPECT_THROW((void)m.try_lock_shared_for(1h), std::system_error);
}

TEST(SharedTimed, WriterFailsNotBeforeItsTimeAmongReaders) {
	lwp::shared_timed_mutex m;
	m.lock_shared();
	in_others([&] {
		EXPECT_FALSE(m.try_lock_for(0s));
		const auto from = steady_clock::now();
		EXPECT_FALSE(m.try_lock_for(3ms));
		EXPECT_GE(steady_clock::now() - from, 3ms);
	});
	m.unlock_shared();
	EXPECT_TRUE(m.try_lock_for(0s));
	m.unlock();
}

TEST(SharedTimed, GetsItWhenItIsUnlockedInTime) {
	lwp::shared_timed_mutex m;
	for (int how = 0; how < 4; how++) {
		m.lock();
		subject waiter([&](subject &s) {
			s.about_to_block();
			const bool got = how == 0 ? m.try_lock_shared_for(1h)
			    : how == 1            ? m.try_lock_shared_until(steady_clock::now() + 1h)
			    : how == 2            ? m.try_lock_shared_until(system_clock::now() + 1h)
			                          : m.try_lock_shared_for(std::chrono::hours::max());
			if (got) {
				m.unlock_shared();
			}
			s.set_result(got ? 1 : 0);
		});
		waiter.await_blocked();
		m.unlock();
		collect(waiter.lid());
		EXPECT_EQ(waiter.result(), 1) << how;
	}
}

// A writer among readers gives up about when the readers leave; the reader that it held up must come in, whoever lets it.
TEST(SharedTimed, WriterThatGivesUpHoldsNobodyUp) {
	lwp::shared_timed_mutex m;
	for (std::size_t i = 0; i < rounds(1000); i++) {
		m.lock_shared();
		const auto deadline = steady_clock::now() + 30us;
		lwp::thread writer([&] {
			if (m.try_lock_until(deadline)) {
				m.unlock();
			}
		});
		lwp::thread reader([&] {
			m.lock_shared();
			m.unlock_shared();
		});
		if (i % 2 == 0) {
			reader.join();
			m.unlock_shared();
		} else {
			while (steady_clock::now() < deadline + std::chrono::microseconds(i % 16) - 8us) {
				lwp_yield();
			}
			m.unlock_shared();
			reader.join();
		}
		writer.join();
		EXPECT_TRUE(m.try_lock());
		m.unlock();
	}
}
