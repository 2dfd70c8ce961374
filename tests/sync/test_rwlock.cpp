// SPDX-License-Identifier: BSD-2-Clause
//
// The kernel readers/writer lock: who goes in when, by the rules at the top of sync/rwlock.h; what those leave behind that go away; and that
// nobody waits for one who has gone.
// vcpus: 1 2 8
#include "sync/rwlock.h"

#include "proc/lwp_life.h"
#include "proc/runtime.h"

#include "../support/support.h"

#include <memory>
#include <string>
#include <thread>
#include <vector>

using namespace lwp::test;
using namespace lwp::kern;
using namespace std::chrono_literals;

namespace {

const bool touched = touch_runtime();

template <class Body>
void on_one_vcpu(const Body &body) {
	lwp::thread({.vcpu = static_cast<int>(lwp::runtime::vcpus()) - 1}, body).join();
}

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

int lock_until(krwlock &k, bool write, nanotime deadline) {
	lwp_t *l = curlwp();
	if (write ? rwlock_trywrlock(&k, l) : rwlock_rdtake(&k)) {
		return 0;
	}
	for (;;) {
		const int error = write ? rwlock_wrlock_slow(&k, l, deadline) : rwlock_rdlock_slow(&k, l, deadline);
		lwp_userret(l);
		if (error != ERESTART) {
			return error;
		}
	}
}

void lock(krwlock &k, bool write) { EXPECT_EQ(lock_until(k, write, never), 0); }

void unlock(krwlock &k, bool write) {
	lwp_t *l = curlwp();
	write ? rwlock_wrunlock(&k, l) : rwlock_rdunlock(&k, l);
	lwp_userret(l);
}

std::uintptr_t readers(const krwlock &k) {
	const std::uintptr_t word = k.rw_word.load();
	return (word & krwlock::writer) != 0 ? 0 : word / krwlock::reader;
}

lwpid_t writer_of(const krwlock &k) {
	const lwp_t *l = rwlock_owner(&k);
	return l != nullptr ? lwp_lid(l) : 0;
}

/// LWPs of one vCPU that go in, say so, and stay until told to leave.
struct scene {
	krwlock k{};
	std::string in;  // who has come in, in this order

	struct visitor {
		std::atomic<bool> has{false};
		std::atomic<bool> leave{false};
		std::unique_ptr<lwp::thread> thread;
		[[nodiscard]] lwpid_t lid() const { return thread->native_handle(); }
		void go() {
			leave = true;
			thread->join();
		}
	};
	std::vector<std::unique_ptr<visitor>> visitors;

	/// Upper case writes.  Waits until it is in or asleep.
	visitor &come(char name, int priority = 31) {
		visitors.push_back(std::make_unique<visitor>());
		visitor &v = *visitors.back();
		const bool write = name >= 'A' && name <= 'Z';
		v.thread = std::make_unique<lwp::thread>(
		    lwp::attributes{.priority = priority, .policy = lwp::sched_policy::fifo}, [this, &v, write, name] {
			    lock(k, write);
			    in += name;
			    v.has = true;
			    while (!v.leave) {
				    lwp::this_thread::sleep_for(200us);  // of any priority: the others run meanwhile
			    }
			    unlock(k, write);
		    });
		EXPECT_TRUE(wait_until([&] { return v.has || sleeps_on(v.lid(), &k); }));
		return v;
	}
	~scene() { EXPECT_EQ(k.rw_word.load(), 0U); }
};

}  // namespace

TEST(Rwlock, Words) {
	krwlock k{};
	lwp_t *l = curlwp();
	EXPECT_TRUE(rwlock_tryrdlock(&k, l));
	EXPECT_TRUE(rwlock_tryrdlock(&k, l));
	EXPECT_EQ(readers(k), 2U);
	EXPECT_EQ(rwlock_owner(&k), nullptr);
	EXPECT_FALSE(rwlock_trywrlock(&k, l));
	unlock(k, false);
	EXPECT_FALSE(rwlock_trywrlock(&k, l));
	unlock(k, false);
	EXPECT_EQ(k.rw_word.load(), 0U);
	EXPECT_TRUE(rwlock_trywrlock(&k, l));
	EXPECT_EQ(rwlock_owner(&k), l);
	EXPECT_FALSE(rwlock_trywrlock(&k, l));
	EXPECT_FALSE(rwlock_tryrdlock(&k, l));
	EXPECT_EQ(rwlock_wrlock_slow(&k, l, never), EDEADLK);
	EXPECT_EQ(rwlock_rdlock_slow(&k, l, never), EDEADLK);
	EXPECT_EQ(rwlock_write_syncobj.so_owner(&k), l);
	unlock(k, true);
	EXPECT_EQ(k.rw_word.load(), 0U);
}

TEST(Rwlock, TheOnlyReaderMayBecomeTheWriterAndBack) {
	krwlock k{};
	lwp_t *l = curlwp();
	EXPECT_TRUE(rwlock_tryrdlock(&k, l));
	EXPECT_TRUE(rwlock_tryrdlock(&k, l));
	EXPECT_FALSE(rwlock_tryupgrade(&k, l));
	EXPECT_EQ(readers(k), 2U);
	unlock(k, false);
	EXPECT_TRUE(rwlock_tryupgrade(&k, l));
	EXPECT_EQ(rwlock_owner(&k), l);
	EXPECT_FALSE(rwlock_tryrdlock(&k, l));
	rwlock_downgrade(&k, l);
	EXPECT_EQ(readers(k), 1U);
	EXPECT_TRUE(rwlock_tryrdlock(&k, l));
	unlock(k, false);
	unlock(k, false);
	EXPECT_EQ(k.rw_word.load(), 0U);
}

// A waits already, and b because of it.  The upgrade goes before both; the downgrade lets b in as an unlock would, and A not.
TEST(Rwlock, AnUpgradeGoesBeforeThoseThatWaitAndADowngradeLetsReadersIn) {
	on_one_vcpu([] {
		scene s;
		lock(s.k, false);
		scene::visitor &writer = s.come('A');
		scene::visitor &reader = s.come('b');
		EXPECT_TRUE(rwlock_tryupgrade(&s.k, curlwp()));
		EXPECT_EQ(writer_of(s.k), _lwp_self());
		lwp::this_thread::sleep_for(2ms);
		EXPECT_EQ(s.in, "");
		rwlock_downgrade(&s.k, curlwp());
		lwp_userret(curlwp());
		EXPECT_TRUE(wait_until([&] { return reader.has.load(); }));
		EXPECT_EQ(readers(s.k), 2U);
		EXPECT_FALSE(writer.has);
		unlock(s.k, false);
		reader.go();
		EXPECT_TRUE(wait_until([&] { return writer.has.load(); }));
		writer.go();
		EXPECT_EQ(s.in, "bA");
	});
}

// Readers that are worse than a waiting writer stay behind it.
TEST(Rwlock, ADowngradeLeavesReadersBehindABetterWriter) {
	on_one_vcpu([] {
		scene s;
		lock(s.k, true);
		scene::visitor &reader = s.come('b', 20);
		scene::visitor &writer = s.come('A', 40);  // now we are better than the reader
		rwlock_downgrade(&s.k, curlwp());
		lwp_userret(curlwp());
		lwp::this_thread::sleep_for(2ms);
		EXPECT_EQ(s.in, "");
		EXPECT_EQ(readers(s.k), 1U);
		unlock(s.k, false);
		EXPECT_TRUE(wait_until([&] { return writer.has.load(); }));
		writer.go();
		reader.go();
		EXPECT_EQ(s.in, "Ab");
	});
}

// Readers are lent nothing, a writer is: from the upgrade to the downgrade the caller runs with the priority of who waits.
TEST(Rwlock, WhoWaitsLendsFromTheUpgradeToTheDowngrade) {
	on_one_vcpu([] {
		scene s;
		const auto priority = [] { return curlwp()->l_priority.load(); };
		const pri_t own = priority();
		lock(s.k, false);
		scene::visitor &writer = s.come('A', 40);
		EXPECT_EQ(priority(), own);
		EXPECT_TRUE(rwlock_tryupgrade(&s.k, curlwp()));
		EXPECT_GT(priority(), own);
		rwlock_downgrade(&s.k, curlwp());
		lwp_userret(curlwp());
		EXPECT_EQ(priority(), own);
		unlock(s.k, false);
		EXPECT_TRUE(wait_until([&] { return writer.has.load(); }));
		writer.go();
	});
}

TEST(Rwlock, AWaitingWriterStopsNewReaders) {
	on_one_vcpu([] {
		scene s;
		auto &a = s.come('a');
		auto &w = s.come('W');
		auto &b = s.come('b');
		EXPECT_TRUE(a.has && !w.has && !b.has);
		EXPECT_FALSE(rwlock_tryrdlock(&s.k, curlwp()));
		a.leave = true;
		EXPECT_TRUE(wait_until([&] { return w.has.load(); }));
		EXPECT_FALSE(b.has);
		w.go();
		EXPECT_TRUE(wait_until([&] { return b.has.load(); }));
		b.go();
		a.go();
		EXPECT_EQ(s.in, "aWb");
	});
}

TEST(Rwlock, AWriterLetsAllWaitingReadersInThenTheyTheNextWriter) {
	on_one_vcpu([] {
		scene s;
		auto &v = s.come('V');
		auto &w = s.come('W');
		auto &a = s.come('a');
		auto &b = s.come('b');
		auto &x = s.come('X');
		EXPECT_EQ(lock_until(s.k, true, 1), ETIMEDOUT);  // a late one in between changes nothing
		v.go();
		EXPECT_EQ(readers(s.k), 2U) << "both at once, before they run";
		EXPECT_FALSE(rwlock_tryrdlock(&s.k, curlwp())) << "W waits";
		EXPECT_TRUE(wait_until([&] { return a.has && b.has; }));
		auto &c = s.come('c');
		a.go();
		EXPECT_FALSE(w.has || c.has);
		b.go();
		EXPECT_EQ(writer_of(s.k), w.lid()) << "handed over";
		w.go();
		EXPECT_EQ(readers(s.k), 1U) << "c, before X";
		c.go();
		x.go();
		EXPECT_EQ(s.in, "VabWcX");
	});
}

TEST(Rwlock, WritersByPriorityThenFirstComeFirstServed) {
	on_one_vcpu([] {
		scene s;
		auto &v = s.come('V');
		std::vector<scene::visitor *> all = {&s.come('A', 20), &s.come('B', 40), &s.come('C', 20), &s.come('D', 40)};
		for (auto *w : all) {
			w->leave = true;
		}
		v.go();
		for (auto *w : all) {
			w->go();
		}
		EXPECT_EQ(s.in, "VBDAC");
	});
}

TEST(Rwlock, PriorityComesBeforeTheTurns) {
	on_one_vcpu([] {
		scene s;
		auto &v = s.come('V');
		auto &low = s.come('l', 20);
		auto &w = s.come('W', 40);
		auto &high = s.come('h', 50);
		v.go();
		EXPECT_TRUE(wait_until([&] { return high.has.load(); }));
		EXPECT_FALSE(w.has || low.has) << "worse readers do not come in with the good ones";
		auto &best = s.come('b', 60);
		EXPECT_TRUE(best.has) << "better than the waiting writer";
		high.go();
		best.go();
		EXPECT_TRUE(wait_until([&] { return w.has.load(); }));
		EXPECT_FALSE(low.has);
		w.go();
		low.go();
		EXPECT_EQ(s.in, "VhbWl");
	});
}

TEST(Rwlock, AWriterThatIsLateLetsTheReadersBehindItGoOn) {
	on_one_vcpu([] {
		scene s;
		auto &a = s.come('a');
		std::atomic<int> result{-1};
		lwp::thread late([&] { result = lock_until(s.k, true, now() + 30'000'000); });
		EXPECT_TRUE(wait_until([&] { return result != -1 || sleeps_on(late.native_handle(), &s.k); }));
		auto &b = s.come('b');
		auto &c = s.come('c');
		EXPECT_TRUE(wait_until([&] { return result != -1; }));
		EXPECT_EQ(result, ETIMEDOUT);
		EXPECT_TRUE(wait_until([&] { return b.has && c.has; })) << "they wait for one who has gone";
		EXPECT_FALSE(a.leave);
		EXPECT_EQ(readers(s.k), 3U);
		late.join();
		a.go();
		b.go();
		c.go();
	});
}

TEST(Rwlock, AWriterThatIsSuspendedLetsTheReadersBehindItGoOn) {
	on_one_vcpu([] {
		scene s;
		auto &a = s.come('a');
		auto &w = s.come('W');
		auto &b = s.come('b');
		EXPECT_FALSE(b.has);
		EXPECT_EQ(lwp_suspend(curlwp(), w.lid()), 0);
		EXPECT_TRUE(wait_until([&] { return b.has.load(); }));
		a.go();
		b.go();
		EXPECT_EQ(s.k.rw_word.load(), 0U);
		EXPECT_EQ(lwp_continue(curlwp(), w.lid()), 0);
		w.go();
		EXPECT_EQ(s.in, "abW");
	});
}

TEST(Rwlock, ReaderThatIsLateOrSuspendedLeavesNothing) {
	on_one_vcpu([] {
		scene s;
		auto &v = s.come('V');
		EXPECT_EQ(lock_until(s.k, false, now() + 1'000'000), ETIMEDOUT);
		EXPECT_EQ(lock_until(s.k, true, now() + 1'000'000), ETIMEDOUT);
		auto &a = s.come('a');
		EXPECT_EQ(lwp_suspend(curlwp(), a.lid()), 0);
		EXPECT_TRUE(s.k.rw_readers.empty() && s.k.rw_writers.empty());
		v.go();
		EXPECT_EQ(s.k.rw_word.load(), 0U);
		EXPECT_EQ(lwp_continue(curlwp(), a.lid()), 0);
		a.go();
	});
}

// A waiter that has gone leaves `waited` behind with readers inside: new readers must not be stopped by it, and the last reader frees it.
TEST(Rwlock, StaleFlagStopsNobody) {
	krwlock k{};
	lock(k, false);
	EXPECT_EQ(lock_until(k, true, now() + 100'000), ETIMEDOUT);
	EXPECT_NE(k.rw_word.load() & krwlock::waited, 0U);
	EXPECT_TRUE(rwlock_tryrdlock(&k, curlwp()));
	lock(k, false);
	EXPECT_EQ(readers(k), 3U);
	unlock(k, false);
	unlock(k, false);
	unlock(k, false);
	EXPECT_EQ(k.rw_word.load(), 0U);
}

// A waiter has found it taken -> (the last one goes out, the short way: nobody waits yet) -> the waiter gets the lock, and must look again.
TEST(Rwlock, WhoGoesOutBeforeTheWaiterHasTheLockIsSeen) {
	for (int i = 0; i < 20; i++) {
		krwlock k{};
		gate go;
		std::atomic<bool> done{false};
		std::atomic<bool> ready{false};
		const bool owner_writes = i % 4 < 3;
		const bool waiter_writes = i % 2 == 0 || !owner_writes;
		lock(k, owner_writes);
		std::thread waiter([&] {
			(void)curlwp();
			ready = true;
			while (!go.is_open()) {
				cpu_relax();
			}
			lock(k, waiter_writes);
			unlock(k, waiter_writes);
			done = true;
		});
		EXPECT_TRUE(wait_until([&] { return ready.load(); }));
		spinlock *waiters_are = waiters_lock(&k.rw_writers);
		waiters_are->lock();
		go.open();
		for (const nanotime end = now() + 200'000; now() < end;) {
			cpu_relax();  // by now it stands before the lock, or is late: then this round shows nothing
		}
		owner_writes ? rwlock_wrunlock(&k, curlwp()) : rwlock_rdunlock(&k, curlwp());
		waiters_are->unlock();
		EXPECT_TRUE(wait_until([&] { return done.load(); })) << "asleep, with nobody to wake it";
		waiter.join();
		EXPECT_EQ(k.rw_word.load(), 0U);
	}
}

TEST(Rwlock, Storm) {
	const std::size_t n = rounds(2000);
	constexpr unsigned people = 12;
	krwlock k{};
	std::atomic<int> inside_readers{0};
	std::atomic<int> inside_writers{0};
	long count = 0;  // k, writers
	std::atomic<long> written{0};
	std::atomic<int> most_readers{0};
	std::atomic<unsigned> left{0};
	const std::uint64_t first_seed = seed();
	const auto work = [&](unsigned who) {
		dice r(first_seed + who);
		lwp_t *l = curlwp();
		for (std::size_t i = 0; i < n; i++) {
			const bool write = r.one_in(3);
			const unsigned how = r.below(8);
			bool got;
			if (how == 0) {
				got = write ? rwlock_trywrlock(&k, l) : rwlock_tryrdlock(&k, l);
			} else {
				got = lock_until(k, write, how <= 3 ? now() + r.below(20'000) : never) == 0;
			}
			if (!got) {
				continue;
			}
			if (write) {
				EXPECT_EQ(inside_writers.fetch_add(1), 0);
				EXPECT_EQ(inside_readers, 0);
				count++;
				written++;
			} else {
				const int readers_now = inside_readers.fetch_add(1) + 1;
				EXPECT_EQ(inside_writers, 0);
				EXPECT_GE(count, 0);
				if (readers_now > most_readers) {
					most_readers = readers_now;
				}
			}
			if (r.one_in(4)) {
				lwp_yield();
			}
			write ? inside_writers-- : inside_readers--;
			unlock(k, write);
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
	EXPECT_EQ(count, written);
	EXPECT_EQ(k.rw_word.load(), 0U);
	EXPECT_TRUE(k.rw_readers.empty() && k.rw_writers.empty());
	EXPECT_GT(most_readers, 1) << "readers share";
}
