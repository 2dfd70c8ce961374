// SPDX-License-Identifier: BSD-2-Clause
//
// The big lock, behaviour 47: LWPs that are not MP-safe never run at once, and one that stops running lets others in, whatever it stops in; it has the lock
// again, as often as before, when that returns.
// vcpus: 1 2 8
#include <lwp/big_lock.hpp>

#include "../support/cases.h"
#include "../support/support.h"

#include <lwp/io.h>
#include <lwp/proc.h>
#include <lwp/proc.hpp>
#include <lwp/sched.h>

#include <algorithm>
#include <cstring>
#include <mutex>
#include <thread>
#include <unistd.h>
#include <vector>

using namespace lwp::test;
using namespace std::chrono_literals;

namespace {

const bool touched = touch_runtime();

constexpr lwp::attributes turn_taker{.mp = lwp::mp_safety::big_lock};

/// How many LWPs sleep for the big lock.
std::size_t waiting() {
	const auto all = lwp::every_lwp();
	return static_cast<std::size_t>(
	    std::count_if(all.begin(), all.end(), [](const kinfo_lwp &k) { return std::strcmp(k.l_wmesg, "biglock") == 0; }));
}

/// Written without a lock or an atomic: ThreadSanitizer, and the sum, tell if two write it at once.
struct shared {
	long n = 0;
	bool inside = false;

	void turn() {
		EXPECT_FALSE(inside);
		inside = true;
		for (int i = 0; i < 100; i++) {
			n++;
		}
		inside = false;
	}
};

bool run(const char *name) {
	const std::string what = name;
	if (what == "exit without") {
		lwp_big_lock_exit();
	} else if (what == "exit too often") {
		lwp_big_lock_enter();
		lwp_big_lock_exit();
		lwp_big_lock_exit();
	} else if (what == "enter in a region") {
		lwp_big_lock_enter();
		lwp_blocking_enter();
		lwp_big_lock_enter();
	} else if (what == "try in a region") {
		lwp_big_lock_enter();
		lwp_blocking_enter();
		(void)lwp_big_lock_try();
	} else if (what == "end of all") {
		// Waiters, sleepers with the lock and one that ends the process with it.
		lwp_big_lock_enter();
		for (int i = 0; i < 3; i++) {
			lwp::thread({.detached = true, .mp = lwp::mp_safety::big_lock}, [] {
				(void)park();
				std::_Exit(20);
			});
			lwp::thread({.detached = true, .mp = lwp::mp_safety::big_lock}, [] {
				for (;;) {
					lwp_yield();
				}
			});
		}
		lwp_yield();
		lwp_proc_exit(7, 600'000);
	} else {
		return false;
	}
	return true;
}

const bool cases = offer_cases(run);

}  // namespace

TEST(BigLock, NeverTwoAtOnce) {
	shared s;
	const std::size_t turns = rounds(200);
	std::vector<lwp::thread> all;
	for (int i = 0; i < 8; i++) {
		all.emplace_back(turn_taker, [&, i] {
			for (std::size_t k = 0; k < turns; k++) {
				s.turn();
				switch ((static_cast<std::size_t>(i) + k) % 4) {
				case 0:
					lwp_yield();
					break;
				case 1:
					(void)park_for(1us);
					break;
				case 2:
					lwp::blocking([] {});
					break;
				default:
					lwp::thread({.mp = lwp::mp_safety::safe}, [] {}).join();
				}
			}
		});
	}
	// One that is MP-safe, and takes turns with them.
	for (std::size_t k = 0; k < turns; k++) {
		{
			const std::lock_guard turn(lwp::the_big_lock);
			s.turn();
		}
		lwp_yield();
	}
	for (lwp::thread &t : all) {
		t.join();
	}
	EXPECT_EQ(s.n, 100L * 9 * static_cast<long>(turns));
}

TEST(BigLock, FlagsSayWhoRunsUnderIt) {
	const auto locks_of = [](unsigned long flags) {
		std::atomic<int> locks{-1};
		collect(spawn([&] { locks = static_cast<int>(lwp_big_locks()); }, flags));
		return locks.load();
	};
	EXPECT_EQ(lwp_big_locks(), 0U);
	EXPECT_EQ(locks_of(0), 0) << "as its creator";
	EXPECT_EQ(locks_of(LWP_MPSAFE), 0);
	EXPECT_EQ(locks_of(LWP_BIGLOCK), 1);
	ucontext_t context;
	_lwp_makecontext(
	    &context, [](void *) {}, nullptr, nullptr, nullptr, 0);
	lwpid_t lid;
	EXPECT_EQ(error_of(_lwp_create(&context, LWP_MPSAFE | LWP_BIGLOCK, &lid)), EINVAL);
	lwp::thread(turn_taker, [&] {
		EXPECT_EQ(lwp_big_locks(), 1U);
		EXPECT_EQ(locks_of(0), 1) << "as its creator";
		EXPECT_EQ(locks_of(LWP_MPSAFE), 0);
		lwp::thread([] { EXPECT_EQ(lwp_big_locks(), 1U); }).join();
		lwp::thread({.mp = lwp::mp_safety::safe}, [&] {
			EXPECT_EQ(lwp_big_locks(), 0U);
			EXPECT_EQ(locks_of(0), 0);
		}).join();
	}).join();
	// Who took it for a while is not one that runs under it.
	const std::lock_guard turn(lwp::the_big_lock);
	EXPECT_EQ(locks_of(0), 0);
}

TEST(BigLock, IsRecursiveAndOne) {
	lwp_big_lock_enter();
	lwp_big_lock_enter();
	EXPECT_EQ(lwp_big_lock_try(), 0);
	EXPECT_EQ(lwp_big_locks(), 3U);
	int other = -1;
	lwp::thread([&] { other = lwp_big_lock_try(); }).join();  // the join lets go of it, so it gets it, and ends with it
	EXPECT_EQ(other, 0);
	EXPECT_EQ(lwp_big_locks(), 3U);
	lwp_big_lock_exit();
	lwp_big_lock_exit();
	EXPECT_EQ(lwp_big_locks(), 1U);
	lwp_big_lock_exit();
	EXPECT_EQ(lwp_big_locks(), 0U);
	lwp::big_lock a;
	EXPECT_TRUE(a.try_lock());
	a.unlock();
}

// The LWP that waits does what ends the other's call only once it is in: so each of these calls has let it in.
TEST(BigLock, WhateverStopsItLetsOthersIn) {
	struct way {
		const char *name;
		std::function<void()> stops;        // in the one that has it, three times
		std::function<void(lwpid_t)> ends;  // in the one that gets in
	};
	lwp::event event;
	lwp::mutex mutex;
	lwp::channel<int> channel;
	lwp::counting_semaphore<> semaphore(0);
	gate woken;
	int fds[2];
	ASSERT_EQ(::pipe(fds), 0);
	char byte = 'x';
	std::atomic<lwpid_t> child{0};
	const way ways[] = {
	    {"park", [] { EXPECT_EQ(park(), 0); }, [](lwpid_t lid) { EXPECT_EQ(error_of(_lwp_unpark(lid, nullptr)), 0); }},
	    {"event", [&] { event.wait(); }, [&](lwpid_t) { event.set(); }},
	    {"semaphore", [&] { semaphore.acquire(); }, [&](lwpid_t) { semaphore.release(); }},
	    {"channel", [&] { EXPECT_EQ(channel.receive(), 5); }, [&](lwpid_t) { channel.send(5); }},
	    {"read", [&] { EXPECT_EQ(lwp_read(fds[0], &byte, 1), 1); }, [&](lwpid_t) { EXPECT_EQ(::write(fds[1], &byte, 1), 1); }},
	    {"blocking",
	        [&] {
		        char got = 0;  // what orders the two the kernel knows, and ThreadSanitizer does not
		        lwp::blocking([&] { EXPECT_EQ(::read(fds[0], &got, 1), 1); });
	        },
	        [&](lwpid_t) { EXPECT_EQ(::write(fds[1], &byte, 1), 1); }},
	    {"yield",
	        [&] {
		        while (!woken.is_open()) {
			        lwp_yield();
		        }
	        },
	        [&](lwpid_t) { woken.open(); }},
	    {"wait", [&] { collect(child); }, [&](lwpid_t) { EXPECT_EQ(error_of(_lwp_unpark(child, nullptr)), 0); }},
	    {"suspend", [] { EXPECT_EQ(error_of(_lwp_suspend(_lwp_self())), 0); },
	        [](lwpid_t lid) {
		        EXPECT_TRUE(wait_until([lid] {
			        for (const kinfo_lwp &k : lwp::every_lwp()) {
				        if (k.l_lid == lid) {
					        return k.l_stat == LSSUSPENDED;
				        }
			        }
			        return false;
		        }));
		        EXPECT_EQ(error_of(_lwp_continue(lid)), 0);
	        }},
	};
	for (const way &w : ways) {
		const bool had_failed = ::testing::Test::HasFailure();
		child = spawn([] { (void)park(); });
		gate has_it;
		std::atomic<bool> got_in{false};
		lwp::thread holder(turn_taker, [&] {
			lwp_big_lock_enter();
			lwp_big_lock_enter();
			has_it.open();
			w.stops();
			EXPECT_TRUE(got_in.load());
			EXPECT_EQ(lwp_big_locks(), 3U);
			EXPECT_EQ(lwp_big_lock_try(), 0) << "it has it";
		});
		has_it.pass();
		lwp_big_lock_enter();
		got_in = true;
		w.ends(holder.native_handle());
		lwp_big_lock_exit();
		holder.join();
		if (std::strcmp(w.name, "wait") != 0) {
			EXPECT_EQ(error_of(_lwp_unpark(child, nullptr)), 0);
			collect(child);
		}
		// Not by SCOPED_TRACE: that belongs to a kernel thread, and this LWP may have gone to another.
		EXPECT_EQ(::testing::Test::HasFailure(), had_failed) << w.name;
	}
	::close(fds[0]);
	::close(fds[1]);
}

// A mutex that one of its waiters has: neither hangs.
TEST(BigLock, AndAMutexInTheOtherOrder) {
	lwp::mutex mutex;
	shared s;
	lwp::thread inside_out(turn_taker, [&] {
		for (std::size_t i = rounds(200); i-- > 0;) {
			const std::lock_guard hold(mutex);
			s.turn();
		}
	});
	for (std::size_t i = rounds(200); i-- > 0;) {
		const std::lock_guard hold(mutex);
		const std::lock_guard turn(lwp::the_big_lock);
		s.turn();
	}
	inside_out.join();
}

// A better one takes the vCPU at the boundary, in the middle of a turn: the turn is not over.
TEST(BigLock, APreemptedOneKeepsIt) {
	const int vcpu = static_cast<int>(lwp::runtime::vcpus()) - 1;
	int tried = -1;
	lwp::thread({.vcpu = vcpu, .mp = lwp::mp_safety::big_lock}, [&] {
		lwp::thread better({.priority = 10, .vcpu = vcpu, .policy = lwp::sched_policy::fifo, .mp = lwp::mp_safety::safe},
		    [&] { tried = lwp_big_lock_try(); });
		EXPECT_EQ(tried, EBUSY) << "it has run already, at the boundary of its creation";
		better.join();
	}).join();
}

TEST(BigLock, EndsWithItsLwp) {
	specificdata_key_t last;
	ASSERT_EQ(lwp_specific_key_create(&last, [](void *) { EXPECT_NE(lwp_big_locks(), 0U) << "destructors are code of its own"; }), 0);
	for (int i = 0; i < 2; i++) {
		const lwpid_t leaves = spawn(
		    [&] {
			    static int data;
			    lwp_setspecific(last, &data);
			    lwp_big_lock_enter();
			    lwp_big_lock_enter();
			    _lwp_exit();
		    },
		    LWP_BIGLOCK);
		collect(leaves);
		EXPECT_EQ(lwp_big_lock_try(), 0);
		lwp_big_lock_exit();
	}
	lwp_specific_key_delete(last);
}

TEST(BigLock, OfAKernelThreadOfTheApplication) {
	shared s;
	gate first;
	std::thread outside([&] {
		lwp_big_lock_enter();
		s.turn();
		first.open();
		(void)park_for(1ms);  // lets go of it, and takes it again
		s.turn();
		EXPECT_EQ(lwp_big_locks(), 1U);
		// It ends with it.
	});
	first.pass();
	{
		const std::lock_guard turn(lwp::the_big_lock);
		s.turn();
	}
	lwp::blocking([&] { outside.join(); });
	const std::lock_guard turn(lwp::the_big_lock);
	s.turn();
	EXPECT_EQ(s.n, 400);
}

// Its waiters stand still meanwhile; it sleeps and goes on.
TEST(BigLock, TheWorldIsStoppedByWhoHasIt) {
	shared s;
	std::vector<lwp::thread> others;
	lwp_big_lock_enter();
	for (int i = 0; i < 4; i++) {
		others.emplace_back(turn_taker, [&] {
			for (int k = 0; k < 5; k++) {
				s.turn();
				lwp_yield();
			}
		});
	}
	for (int k = 0; k < 5; k++) {
		const lwp::stop_the_world world;
		s.turn();
		lwp::this_thread::sleep_for(1ms);
		s.turn();
	}
	lwp_big_lock_exit();
	for (lwp::thread &t : others) {
		t.join();
	}
	EXPECT_EQ(s.n, 100 * 30);
}

// Suspended, continued, stopped and let go on by others while they take turns.
TEST(BigLock, Storm) {
	shared s;
	std::atomic<bool> stop{false};
	std::atomic<std::size_t> turns{0};
	std::vector<lwp::thread> all;
	for (int i = 0; i < 6; i++) {
		all.emplace_back(turn_taker, [&] {
			while (!stop.load()) {
				s.turn();
				turns.fetch_add(1);
				(void)park_for(1us);
			}
		});
	}
	dice d(seed());
	for (std::size_t i = rounds(300); i-- > 0;) {
		const lwpid_t lid = all[d.below(6)].native_handle();
		switch (d.below(5)) {
		case 0:
			EXPECT_EQ(error_of(_lwp_suspend(lid)), 0);
			EXPECT_EQ(error_of(_lwp_continue(lid)), 0);
			break;
		case 1: {
			const lwp::stop_the_world world;
			break;
		}
		case 2:
			(void)_lwp_wakeup(lid);
			break;
		case 3: {
			const std::lock_guard turn(lwp::the_big_lock);
			s.turn();
			turns.fetch_add(1);
			break;
		}
		default:
			(void)_lwp_unpark(lid, nullptr);
		}
		lwp_yield();
	}
	stop = true;
	for (lwp::thread &t : all) {
		t.join();
	}
	EXPECT_EQ(s.n, 100L * static_cast<long>(turns.load()));
	EXPECT_EQ(waiting(), 0U);
}

TEST(BigLock, MisuseIsNamed) {
	for (const char *what : {"exit without", "exit too often", "enter in a region", "try in a region"}) {
		const outcome o = run_case(what, {});
		EXPECT_TRUE(o.aborted()) << what << ": " << o.text;
		EXPECT_NE(o.count("big lock"), 0U) << what << ": " << o.text;
	}
}

TEST(BigLock, TheProcessEndsThoughOthersWaitForIt) {
	const outcome o = run_case("end of all", {});
	EXPECT_EQ(o.status, 7 << 8) << o.text;
}
