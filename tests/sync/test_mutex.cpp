// SPDX-License-Identifier: BSD-2-Clause
//
// The kernel mutex: who is woken and when, who is handed the mutex, what is left behind by waiters that leave, and that no wake is lost.
// Most of it runs on one vCPU, where a woken LWP does not run before we let it.
// vcpus: 1 2 8
#include "sync/mutex.h"

#include "proc/lwp_life.h"
#include "proc/runtime.h"

#include "../support/support.h"

#include <lwp/mutex.hpp>

#include <memory>
#include <thread>
#include <vector>

using namespace lwp::test;
using namespace lwp::kern;
using namespace std::chrono_literals;

namespace {

const bool touched = touch_runtime();

/// Runs `body` in an LWP that stays on one vCPU; so do those that it makes.
template <class Body>
void on_one_vcpu(const Body &body) {
	lwp::thread({.vcpu = static_cast<int>(lwp::runtime::vcpus()) - 1}, body).join();
}

std::uintptr_t flags_of(const kmutex &m) { return m.mtx_owner.load() & kmutex::flags; }
lwpid_t owner_of(const kmutex &m) {
	const lwp_t *l = mutex_owner(&m);
	return l != nullptr ? lwp_lid(l) : 0;
}
kmutex *kernel(lwp::mutex &m) { return reinterpret_cast<kmutex *>(&m); }

/// Whether `lid` sleeps on `wchan`.
bool sleeps_on(lwpid_t lid, const void *wchan) {
	vcpu_t *me = curlwp()->l_cpu;
	spinlock *lock = nullptr;
	lwp_t *l = lwp_find_and_lock(&proc0, lid, me, &lock);
	if (l == nullptr) {
		return false;
	}
	const bool yes = l->l_wchan == wchan;
	lock->unlock(me);
	return yes;
}

void await_sleep_on(lwpid_t lid, const void *wchan) {
	EXPECT_TRUE(wait_until([=] { return sleeps_on(lid, wchan); })) << "LWP " << lid << " does not wait";
}

void lock(kmutex &m) {
	lwp_t *l = curlwp();
	if (!mutex_trylock(&m, l)) {
		while (mutex_lock_slow(&m, l, never) != 0) {
			lwp_userret(l);
		}
	}
}

void unlock(kmutex &m) {
	lwp_t *l = curlwp();
	mutex_unlock(&m, l);
	lwp_userret(l);
}

/// An LWP that takes the mutex, says so, and gives it back when told to.
struct taker {
	taker(kmutex &m, const lwp::attributes &attr, std::vector<int> &order, int name)
	    : thread(attr, [&m, &order, name, this] {
		      lock(m);
		      order.push_back(name);
		      has = true;
		      EXPECT_TRUE(wait_until([this] { return leave.load(); }));
		      unlock(m);
	      }) {}
	std::atomic<bool> has{false};
	std::atomic<bool> leave{true};
	lwp::thread thread;
	lwpid_t lid() { return thread.native_handle(); }
};

}  // namespace

TEST(KMutex, FreeWordIsZero) {
	kmutex m{};
	lock(m);
	EXPECT_EQ(mutex_owner(&m), curlwp());
	EXPECT_FALSE(mutex_trylock(&m, curlwp()));
	EXPECT_EQ(mutex_lock_slow(&m, curlwp(), never), EDEADLK);
	unlock(m);
	EXPECT_EQ(m.mtx_owner.load(), 0U);
	EXPECT_TRUE(mutex_trylock(&m, curlwp()));
	unlock(m);
	EXPECT_EQ(m.mtx_owner.load(), 0U);
}

TEST(KMutex, WakesByPriorityThenFirstComeFirstServed) {
	on_one_vcpu([] {
		kmutex m{};
		std::vector<int> order;
		std::vector<std::unique_ptr<taker>> takers;
		lock(m);
		const int priorities[] = {20, 40, 20, 60, 40, 0};
		for (int i = 0; i < 6; i++) {
			takers.push_back(
			    std::make_unique<taker>(m, lwp::attributes{.priority = priorities[i], .policy = lwp::sched_policy::fifo}, order, i));
			// Asleep meanwhile: we own it, so we run with the priority of the best that waits, and yielding lets no worse one run.
			while (!sleeps_on(takers.back()->lid(), &m)) {
				(void)park_for(1ms);
			}
		}
		unlock(m);
		for (auto &t : takers) {
			t->thread.join();
		}
		EXPECT_EQ(order, (std::vector<int>{3, 1, 4, 0, 2, 5}));
		EXPECT_EQ(m.mtx_owner.load(), 0U);
	});
}

// unlock -> (we take it again before the woken one looks) -> it looks, and is handed the mutex by the next unlock.
TEST(KMutex, PassesOverAWokenWaiterOnlyOnce) {
	on_one_vcpu([] {
		kmutex m{};
		std::vector<int> order;
		lock(m);
		taker a(m, {}, order, 0);
		await_sleep_on(a.lid(), &m);
		taker b(m, {}, order, 1);
		await_sleep_on(b.lid(), &m);
		a.leave = false;
		mutex_unlock(&m, curlwp());
		EXPECT_EQ(m.mtx_owner.load(), kmutex::waited | kmutex::woken) << "free, one on its way, one asleep";
		EXPECT_TRUE(mutex_trylock(&m, curlwp()));
		mutex_unlock(&m, curlwp());
		EXPECT_TRUE(mutex_trylock(&m, curlwp()));
		EXPECT_TRUE(sleeps_on(b.lid(), &m)) << "one is on its way: no need to wake another";
		EXPECT_FALSE(sleeps_on(a.lid(), &m));
		await_sleep_on(a.lid(), &m);
		EXPECT_EQ(flags_of(m), kmutex::waited | kmutex::starved);
		EXPECT_EQ(lwp_lid(m.mtx_waiters.front()), a.lid()) << "before its equals";
		mutex_unlock(&m, curlwp());
		EXPECT_EQ(owner_of(m), a.lid()) << "handed over";
		EXPECT_FALSE(mutex_trylock(&m, curlwp()));
		EXPECT_EQ(flags_of(m), kmutex::waited);
		EXPECT_TRUE(wait_until([&] { return a.has.load(); }));
		a.leave = true;
		a.thread.join();
		b.thread.join();
		EXPECT_EQ(order, (std::vector<int>{0, 1}));
		EXPECT_EQ(m.mtx_owner.load(), 0U);
	});
}

// One of low priority was woken and does not get its vCPU; a better one that comes later must not wait for it.
TEST(KMutex, BetterLatecomerDoesNotWaitForTheOneThatWasWoken) {
	on_one_vcpu([] {
		kmutex m{};
		std::vector<int> order;
		lock(m);
		taker low(m, {.priority = 10}, order, 0);
		while (!sleeps_on(low.lid(), &m)) {
			lwp::this_thread::sleep_for(1ms);  // it is worse than we are: yielding does not let it run
		}
		mutex_unlock(&m, curlwp());
		EXPECT_TRUE(mutex_trylock(&m, curlwp()));
		taker high(m, {.priority = 60}, order, 1);
		await_sleep_on(high.lid(), &m);
		EXPECT_EQ(flags_of(m), kmutex::waited | kmutex::starved) << "it lends: the unlock hands over";
		mutex_unlock(&m, curlwp());
		EXPECT_FALSE(sleeps_on(high.lid(), &m));
		EXPECT_TRUE(wait_until([&] { return high.has.load(); }));
		EXPECT_FALSE(low.has);
		high.thread.join();
		low.thread.join();
		EXPECT_EQ(m.mtx_owner.load(), 0U);
	});
}

TEST(KMutex, WaiterThatIsLateLeavesNothing) {
	on_one_vcpu([] {
		kmutex m{};
		std::vector<int> order;
		lock(m);
		std::atomic<int> result{-1};
		lwp::thread late([&] { result = mutex_lock_slow(&m, curlwp(), now() + 1'000'000); });
		EXPECT_TRUE(wait_until([&] { return result != -1; }));
		EXPECT_EQ(result, ETIMEDOUT);
		EXPECT_TRUE(m.mtx_waiters.empty());
		taker next(m, {}, order, 0);
		await_sleep_on(next.lid(), &m);
		unlock(m);
		next.thread.join();
		late.join();
		EXPECT_EQ(m.mtx_owner.load(), 0U);
	});
}

// Woken, and its time is over before it looks: it loses, and the next waiter must not wait for it for ever.
TEST(KMutex, WokenWaiterThatIsLatePassesTheWakeOn) {
	on_one_vcpu([] {
		kmutex m{};
		std::vector<int> order;
		lock(m);
		std::atomic<int> result{-1};
		const nanotime deadline = now() + 2'000'000;
		lwp::thread late([&] { result = mutex_lock_slow(&m, curlwp(), deadline); });
		if (wait_until([&] { return result != -1 || sleeps_on(late.native_handle(), &m); }) && result == -1) {
			taker next(m, {}, order, 0);
			await_sleep_on(next.lid(), &m);
			mutex_unlock(&m, curlwp());
			EXPECT_TRUE(mutex_trylock(&m, curlwp()));
			while (now() < deadline) {
			}
			EXPECT_TRUE(wait_until([&] { return result != -1; }));
			EXPECT_EQ(result, ETIMEDOUT);
			EXPECT_EQ(flags_of(m) & kmutex::woken, 0U);
			unlock(m);
			next.thread.join();
		} else {
			unlock(m);
		}
		late.join();
		EXPECT_EQ(m.mtx_owner.load(), 0U);
	});
}

TEST(KMutex, SuspendedWaiterIsOutOfTheLine) {
	on_one_vcpu([] {
		kmutex m{};
		std::vector<int> order;
		lock(m);
		taker a(m, {}, order, 0);
		await_sleep_on(a.lid(), &m);
		taker b(m, {}, order, 1);
		await_sleep_on(b.lid(), &m);
		EXPECT_EQ(lwp_suspend(curlwp(), a.lid()), 0);
		EXPECT_EQ(lwp_lid(m.mtx_waiters.front()), b.lid());
		unlock(m);
		b.thread.join();
		EXPECT_FALSE(a.has);
		EXPECT_EQ(m.mtx_owner.load(), 0U) << "nobody waits";
		lock(m);
		EXPECT_EQ(lwp_continue(curlwp(), a.lid()), 0);
		await_sleep_on(a.lid(), &m);
		unlock(m);
		a.thread.join();
		EXPECT_EQ(order, (std::vector<int>{1, 0}));
	});
}

// unlock wakes the first -> (a suspend comes before it looks) -> it must look, lose, and take its mark back before it stops.
TEST(KMutex, SuspendOfTheWokenOneDoesNotLoseTheWake) {
	on_one_vcpu([] {
		kmutex m{};
		std::vector<int> order;
		lock(m);
		taker a(m, {}, order, 0);
		await_sleep_on(a.lid(), &m);
		taker b(m, {}, order, 1);
		await_sleep_on(b.lid(), &m);
		mutex_unlock(&m, curlwp());
		EXPECT_TRUE(mutex_trylock(&m, curlwp()));
		int error;
		while ((error = lwp_suspend(curlwp(), a.lid())) == ERESTART) {
		}
		EXPECT_EQ(error, 0);
		EXPECT_EQ(flags_of(m) & kmutex::woken, 0U);
		unlock(m);
		EXPECT_TRUE(wait_until([&] { return b.has.load(); })) << "the wake went to one that is suspended";
		b.thread.join();
		EXPECT_EQ(lwp_continue(curlwp(), a.lid()), 0);
		a.thread.join();
		EXPECT_EQ(m.mtx_owner.load(), 0U);
	});
}

// A waiter has found it taken -> (unlock, the short way: nobody waits yet) -> the waiter gets the waiters' lock, and must look again.
TEST(KMutex, UnlockBeforeTheWaiterHasTheLockIsSeen) {
	for (int i = 0; i < 20; i++) {
		kmutex m{};
		gate go;
		std::atomic<bool> done{false};
		std::atomic<bool> ready{false};
		lock(m);
		std::thread waiter([&] {
			(void)curlwp();
			ready = true;
			while (!go.is_open()) {
				cpu_relax();
			}
			lock(m);
			unlock(m);
			done = true;
		});
		EXPECT_TRUE(wait_until([&] { return ready.load(); }));
		spinlock *waiters_are = waiters_lock(&m.mtx_waiters);
		waiters_are->lock();
		go.open();
		for (const nanotime end = now() + 200'000; now() < end;) {
			cpu_relax();  // by now it stands before the lock, or is late: then this round shows nothing
		}
		mutex_unlock(&m, curlwp());
		waiters_are->unlock();
		EXPECT_TRUE(wait_until([&] { return done.load(); })) << "asleep, with nobody to wake it";
		waiter.join();
		EXPECT_EQ(m.mtx_owner.load(), 0U);
	}
}

// Everything at once, on purpose near each other: waits, tries, deadlines that pass about when the mutex is free, suspends, _lwp_wakeup(),
// yields inside, kernel threads.  Exclusion holds, everybody comes through, and nothing is left in the word.
TEST(KMutex, Storm) {
	const std::size_t n = rounds(2000);
	constexpr unsigned people = 12;
	lwp::mutex pub;
	kmutex &m = *kernel(pub);
	std::atomic<int> inside{0};
	long count = 0;  // m
	std::atomic<long> entered{0};
	std::atomic<unsigned> left{0};
	const std::uint64_t first_seed = seed();
	const auto work = [&](unsigned who) {
		dice r(first_seed + who);
		lwp_t *l = curlwp();
		for (std::size_t i = 0; i < n; i++) {
			const unsigned how = r.below(8);
			bool got = true;
			if (how == 0) {
				got = mutex_trylock(&m, l);
			} else if (how <= 3) {
				const nanotime deadline = now() + r.below(20'000);
				got = mutex_trylock(&m, l);
				while (!got) {
					const int error = mutex_lock_slow(&m, l, deadline);
					lwp_userret(l);
					got = error == 0;
					if (error != 0 && error != ERESTART) {
						break;
					}
				}
			} else {
				lock(m);
			}
			if (!got) {
				continue;
			}
			EXPECT_EQ(inside.fetch_add(1), 0);
			EXPECT_EQ(mutex_owner(&m), l);
			count++;
			entered++;
			if (r.one_in(4)) {
				lwp_yield();
			}
			EXPECT_EQ(inside.fetch_sub(1), 1);
			unlock(m);
			if (r.one_in(16)) {
				lwp_yield();
			}
		}
		left++;
	};
	std::vector<lwp::thread> lwps;
	std::vector<lwpid_t> lids;
	for (unsigned i = 0; i < people; i++) {
		lwps.emplace_back(work, i);
		lids.push_back(lwps.back().native_handle());
	}
	std::vector<std::thread> kernel_threads;
	for (unsigned i = 0; i < 2; i++) {
		kernel_threads.emplace_back(work, people + i);
	}
	lwp::thread pest([&] {
		dice r(first_seed + 99);
		while (left < people) {
			const lwpid_t lid = lids[r.below(people)];
			(void)_lwp_wakeup(lid);
			if (r.one_in(4) && _lwp_suspend(lid) == 0) {
				lwp_yield();
				(void)_lwp_continue(lid);
			}
			lwp_yield();
		}
	});
	pest.join();
	for (auto &t : lwps) {
		t.join();
	}
	for (auto &t : kernel_threads) {
		t.join();
	}
	EXPECT_EQ(count, entered);
	EXPECT_EQ(m.mtx_owner.load(), 0U);
	EXPECT_TRUE(m.mtx_waiters.empty());
}

// Two of them hand a mutex back and forth as fast as they can: each time the one that comes finds the other about to leave.
TEST(KMutex, NoWakeIsLostBetweenLwpAndKernelThread) {
	const std::size_t n = rounds(100'000);
	kmutex m{};
	std::size_t count = 0;
	const auto work = [&] {
		for (std::size_t i = 0; i < n; i++) {
			lock(m);
			count++;
			unlock(m);
		}
	};
	lwp::thread green(work);
	lwp::thread second(work);
	std::thread kernel_thread(work);
	green.join();
	second.join();
	kernel_thread.join();
	EXPECT_EQ(count, 3 * n);
	EXPECT_EQ(m.mtx_owner.load(), 0U);
}
