// SPDX-License-Identifier: BSD-2-Clause
//
// Sleep queues: who is woken, in which order, by whom and with what result, and that of all who would end a sleep exactly one does.
// vcpus: 1 2 8
#include "sync/sleepq.h"

#include "proc/lwp_life.h"
#include "proc/runtime.h"

#include "../support/support.h"

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <thread>
#include <vector>

using namespace lwp::test;
using namespace lwp::kern;

namespace {

const bool touched = touch_runtime();

constexpr sleep_catch yes = sleep_catch::yes;
constexpr sleep_catch no = sleep_catch::no;

/// The caller sleeps on `wchan` in `q`.
int sleep_in(sleepq &q, const void *wchan, sleep_catch interruptible = no, nanotime deadline = never, std::uint32_t token = 0) {
	lwp_t *l = curlwp();
	q.sq_lock.lock();
	return sleepq_block_and_unlock(l, &q, {wchan, "test", &sleep_syncobj, interruptible, deadline, token});
}

/// The caller sleeps on itself.
int sleep_alone(sleep_catch interruptible = no, nanotime deadline = never, std::uint32_t token = 0) {
	lwp_t *l = curlwp();
	spinlock *lock = sleepq_enter_self(l);
	return sleepq_block_self_and_unlock(l, lock, {l, "test", &self_syncobj, interruptible, deadline, token});
}

unsigned wake(sleepq &q, const void *wchan, unsigned count = ~0U) {
	lock_scope hold(q.sq_lock, curcpu_or_null());
	return sleepq_wake(&q, wchan, count);
}

std::vector<lwpid_t> queued(sleepq &q) {
	lock_scope hold(q.sq_lock, curcpu_or_null());
	std::vector<lwpid_t> out;
	for (lwp_t *l = q.sq_list.front(); l != nullptr; l = decltype(q.sq_list)::next(l)) {
		EXPECT_EQ(lwp_state(l), lwp_stat::sleep);
		EXPECT_EQ(l->l_mutex.load(), &q.sq_lock);
		out.push_back(lwp_lid(l));
	}
	return out;
}

/// Locks a living LWP, tells `look` about it, and lets it go; false if there is none.
template <class Look>
bool with_locked(lwpid_t lid, const Look &look) {
	vcpu_t *me = curlwp()->l_cpu;
	spinlock *lock = nullptr;
	lwp_t *l = lwp_find_and_lock(&proc0, lid, me, &lock);
	if (l == nullptr) {
		return false;
	}
	look(l);
	lock->unlock(me);
	return true;
}

bool asleep(lwpid_t lid) {
	bool yes_it_is = false;
	with_locked(lid, [&](lwp_t *l) { yes_it_is = lwp_state(l) == lwp_stat::sleep && l->l_wchan != nullptr; });
	return yes_it_is;
}

void await_sleep(lwpid_t lid) {
	EXPECT_TRUE(wait_until([lid] { return asleep(lid); })) << "LWP " << lid << " did not fall asleep";
}

void set_own_flags(std::uint32_t set, std::uint32_t clear) {
	lwp_t *l = curlwp();
	spinlock *lock = lwp_lock(l, l->l_cpu);
	lwp_flag_clear(l, clear);
	lwp_flag_set(l, set);
	lock->unlock();
}

/// Runs `body` in an LWP of its own and waits for it.
template <class Body>
void in_an_lwp(const Body &body) {
	collect(spawn(body));
}

}  // namespace

TEST(Sleepq, WokenSleepReturnsZeroAndLeavesNothing) {
	sleepq q;
	char wchan = 0;
	std::atomic<int> result{-1};
	const lwpid_t lid = spawn([&] {
		const int r = sleep_in(q, &wchan, yes);
		lwp_t *l = curlwp();
		EXPECT_EQ(l->l_wchan, nullptr);
		EXPECT_EQ(lwp_flags(l) & LW_SINTR, 0U);
		EXPECT_EQ(lwp_state(l), lwp_stat::onproc);
		result = r;
	});
	await_sleep(lid);
	with_locked(lid, [&](lwp_t *l) {
		EXPECT_EQ(l->l_wchan, &wchan);
		EXPECT_STREQ(l->l_wmesg, "test");
		EXPECT_NE(lwp_flags(l) & LW_SINTR, 0U);
		EXPECT_TRUE(lwp_locked(l, &q.sq_lock)) << "a sleeper is covered by its queue";
	});
	EXPECT_EQ(queued(q), std::vector<lwpid_t>{lid});
	EXPECT_EQ(result, -1);
	EXPECT_EQ(wake(q, &wchan), 1U);
	EXPECT_TRUE(queued(q).empty());
	collect(lid);
	EXPECT_EQ(result, 0);
	EXPECT_EQ(wake(q, &wchan), 0U);
}

// enqueue -> (the waker comes here) -> switch: it waits for the queue's lock, which the sleeper holds until it is off its stack.  In every
// round the two make for that lock at the same moment: either the waker is first, and the sleeper sees what it did, or it finds a sleeper.
TEST(Sleepq, WakeBetweenEnqueueAndSwitchIsNotLost) {
	const std::size_t n = race_rounds(100000);
	sleepq q;
	char wchan = 0;
	std::size_t done_for = 0;  // under q.sq_lock
	std::atomic<std::size_t> at_the_lock{0};
	std::size_t slept = 0;
	std::size_t woken = 0;
	const lwpid_t lid = spawn([&] {
		for (std::size_t k = 1; k <= n; k++) {
			lwp_t *l = curlwp();
			at_the_lock = k;
			q.sq_lock.lock();
			if (done_for == k) {
				q.sq_lock.unlock();
				continue;
			}
			slept++;
			EXPECT_EQ(sleepq_block_and_unlock(l, &q, {&wchan, "test", &sleep_syncobj, no}), 0);
		}
	});
	std::thread waker([&] {
		(void)curlwp();  // internal calls are for LWPs: it becomes one
		for (std::size_t k = 1; k <= n; k++) {
			for (unsigned spins = 0; at_the_lock != k; spins++) {
				spins % 1000 == 999 ? std::this_thread::yield() : cpu_relax();
			}
			for (std::size_t spin = k % 64; spin > 0; spin--) {
				cpu_relax();
			}
			q.sq_lock.lock();
			done_for = k;
			woken += sleepq_wake(&q, &wchan, 1);
			q.sq_lock.unlock();
		}
	});
	collect(lid);
	waker.join();
	EXPECT_EQ(woken, slept);
	std::printf("%zu of %zu rounds slept\n", slept, n);
}

TEST(Sleepq, IsSortedByPriorityAndFirstInFirstOutAmongEquals) {
	sleepq q;
	char wchan = 0;
	const std::vector<int> priorities = {20, 40, 20, 63, 0, 40, 20, 63, 0};
	std::vector<lwpid_t> woken_order;
	std::vector<lwp::thread> threads;
	std::multimap<int, lwpid_t, std::greater<>> expected;  // equals stay in the order in which they come
	for (const int priority : priorities) {
		// Below main's own priority a sleeper would not run while we yield: so all are of the real-time class.
		threads.emplace_back(lwp::attributes{.priority = priority, .policy = lwp::sched_policy::fifo}, [&] {
			EXPECT_EQ(sleep_in(q, &wchan), 0);
			lock_scope hold(q.sq_lock, curcpu_or_null());
			woken_order.push_back(lwp_lid(curlwp()));
		});
		const lwpid_t lid = threads.back().native_handle();
		await_sleep(lid);
		expected.emplace(priority, lid);
	}
	std::vector<lwpid_t> order;
	for (const auto &[priority, lid] : expected) {
		order.push_back(lid);
	}
	EXPECT_EQ(queued(q), order);
	for (std::size_t k = 1; k <= order.size(); k++) {
		EXPECT_EQ(wake(q, &wchan, 1), 1U);
		EXPECT_TRUE(wait_until([&] {
			lock_scope hold(q.sq_lock, curcpu_or_null());
			return woken_order.size() == k;
		}));
	}
	for (lwp::thread &t : threads) {
		t.join();
	}
	EXPECT_EQ(woken_order, order);
}

TEST(Sleepq, WakesAsManyAsAskedForOnTheChannelNamed) {
	sleepq q;
	std::array<char, 2> wchan{};
	std::array<std::atomic<unsigned>, 2> awake{};
	std::vector<lwpid_t> lids;
	for (std::size_t i = 0; i < 10; i++) {
		lids.push_back(spawn([&, which = i % 2] {
			EXPECT_EQ(sleep_in(q, &wchan[which]), 0);
			awake[which]++;
		}));
		await_sleep(lids.back());
	}
	char nobodys = 0;
	EXPECT_EQ(wake(q, &nobodys), 0U);
	EXPECT_EQ(wake(q, &wchan[0], 0), 0U);
	EXPECT_EQ(queued(q), lids);
	EXPECT_EQ(wake(q, &wchan[0], 2), 2U);
	collect(lids[0]);  // the first two that came for it
	collect(lids[2]);
	EXPECT_EQ(queued(q).size(), 8U);
	EXPECT_EQ(awake[0], 2U);
	EXPECT_EQ(wake(q, &wchan[1]), 5U);
	EXPECT_EQ(wake(q, &wchan[0], 100), 3U) << "no more than there are";
	EXPECT_TRUE(queued(q).empty());
	for (std::size_t i : {1U, 3U, 4U, 5U, 6U, 7U, 8U, 9U}) {
		collect(lids[i]);
	}
	EXPECT_EQ(awake[0], 5U);
	EXPECT_EQ(awake[1], 5U);
}

TEST(Sleepq, TableIsByChannel) {
	// Two channels that share a queue of the table, and one that has another.
	constexpr std::size_t far = 128 * 256;
	const auto memory = std::make_unique<char[]>(far + 512);
	const char *a = memory.get();
	const char *same = a + far;
	const char *other = a + 256;
	ASSERT_EQ(sleeptab_lookup(a), sleeptab_lookup(same));
	ASSERT_NE(sleeptab_lookup(a), sleeptab_lookup(other));
	const lwpid_t on_a = spawn([&] { EXPECT_EQ(sleep_in(*sleeptab_lookup(a), a), 0); });
	const lwpid_t on_same = spawn([&] { EXPECT_EQ(sleep_in(*sleeptab_lookup(same), same), 0); });
	await_sleep(on_a);
	await_sleep(on_same);
	sleeptab_wake(other);
	EXPECT_TRUE(asleep(on_a));
	sleeptab_wake(a);
	collect(on_a);
	EXPECT_TRUE(asleep(on_same)) << "woken by another channel of the same queue";
	sleeptab_wake(same, 1);
	collect(on_same);
}

TEST(Sleepq, TimeoutIsNeverEarlyAndLeavesTheQueue) {
	sleepq q;
	char wchan = 0;
	in_an_lwp([&] {
		for (const sleep_catch interruptible : {no, yes}) {
			for (const nanotime ns : {nanotime{0}, nanotime{1}, nanotime{50'000}, nanotime{2'000'000}}) {
				const nanotime deadline = now() + ns;
				EXPECT_EQ(sleep_in(q, &wchan, interruptible, deadline), ETIMEDOUT);
				EXPECT_GE(now(), deadline);
				EXPECT_TRUE(queued(q).empty());
				const nanotime alone = now() + ns;
				EXPECT_EQ(sleep_alone(interruptible, alone), ETIMEDOUT);
				EXPECT_GE(now(), alone);
			}
		}
		EXPECT_EQ(sleep_in(q, &wchan, no, 1), ETIMEDOUT) << "a deadline that has passed long ago";
	});
}

TEST(Sleepq, TimeoutOfOneLeavesTheOthersInOrder) {
	sleepq q;
	char wchan = 0;
	std::vector<lwpid_t> lids;
	std::atomic<int> middle{-1};
	const nanotime deadline = now() + 20'000'000;
	for (int i = 0; i < 5; i++) {
		lids.push_back(spawn([&, i] {
			const int r = sleep_in(q, &wchan, no, i == 2 ? deadline : never);
			if (i == 2) {
				middle = r;
			} else {
				EXPECT_EQ(r, 0);
			}
		}));
		// The one with the deadline may be gone by the time we look.
		EXPECT_TRUE(wait_until([&] { return asleep(lids.back()) || middle == ETIMEDOUT; }));
	}
	collect(lids[2]);
	EXPECT_EQ(middle, ETIMEDOUT);
	EXPECT_EQ(queued(q), (std::vector<lwpid_t>{lids[0], lids[1], lids[3], lids[4]}));
	EXPECT_EQ(wake(q, &wchan), 4U);
	for (std::size_t i : {0U, 1U, 3U, 4U}) {
		collect(lids[i]);
	}
}

// The waker comes close to the deadline.  Whoever takes the sleeper off the queue is the one who ended its sleep, and both know it.
TEST(Sleepq, TimeoutAgainstWakeIsExactlyOneOfThem) {
	const std::size_t n = race_rounds(5000);
	sleepq q;
	char wchan = 0;
	std::atomic<std::size_t> round{0};
	std::atomic<nanotime> deadline{0};
	std::size_t woken = 0;
	std::size_t slept_zero = 0;
	std::size_t timed_out = 0;
	const lwpid_t lid = spawn([&] {
		for (std::size_t k = 1; k <= n; k++) {
			const nanotime until = now() + 30'000;
			deadline = until;
			round = k;
			const int r = sleep_in(q, &wchan, k % 2 == 0 ? yes : no, until);
			slept_zero += r == 0;
			timed_out += r == ETIMEDOUT;
			EXPECT_TRUE(r == 0 || now() >= until);
		}
		round = n + 1;
	});
	std::thread waker([&] {
		(void)curlwp();
		dice r(lwp::test::seed());
		std::size_t last = 0;
		for (;;) {
			const std::size_t k = round;
			if (k > n) {
				return;
			}
			if (k == last) {
				std::this_thread::yield();
				continue;
			}
			last = k;
			const nanotime when = deadline.load() - 5'000 + r.below(15'000);
			while (now() < when) {
				cpu_relax();
			}
			q.sq_lock.lock();
			woken += sleepq_wake(&q, &wchan, 1);
			q.sq_lock.unlock();
		}
	});
	collect(lid);
	waker.join();
	EXPECT_EQ(woken, slept_zero);
	EXPECT_EQ(slept_zero + timed_out, n);
	std::printf("%zu woken, %zu timed out\n", slept_zero, timed_out);
	EXPECT_TRUE(queued(q).empty());
}

TEST(Sleepq, InterruptEndsOnlyAnInterruptibleSleep) {
	sleepq q;
	char wchan = 0;
	for (const bool in_queue : {true, false}) {
		std::atomic<int> soft{-1};
		std::atomic<int> hard{-1};
		const lwpid_t s = spawn([&] { soft = in_queue ? sleep_in(q, &wchan, yes) : sleep_alone(yes); });
		const lwpid_t h = spawn([&] { hard = in_queue ? sleep_in(q, &wchan, no) : sleep_alone(no); });
		await_sleep(s);
		await_sleep(h);
		EXPECT_EQ(lwp_wakeup(curlwp(), h), EBUSY);
		EXPECT_TRUE(asleep(h));
		EXPECT_EQ(lwp_wakeup(curlwp(), s), 0);
		collect(s);
		EXPECT_EQ(soft, EINTR);
		EXPECT_EQ(hard, -1);
		vcpu_t *me = curlwp()->l_cpu;
		spinlock *lock = nullptr;
		lwp_t *l = lwp_find_and_lock(&proc0, h, me, &lock);
		ASSERT_NE(l, nullptr);
		sleepq_unsleep_and_unlock(l, lock, EIO);  // whoever ends it says how
		collect(h);
		EXPECT_EQ(hard, EIO);
		EXPECT_TRUE(queued(q).empty());
	}
}

// A signal ends the sleep, and before the sleeper has its vCPU again the deadline passes, too.
TEST(Sleepq, TimeoutWinsOverASignalWhenBothHaveHappened) {
	for (const bool passes : {true, false}) {
		lwp::thread({.priority = 10, .vcpu = 0, .policy = lwp::sched_policy::fifo}, [passes] {
			bool posted_in_time = false;
			while (!posted_in_time) {
				const nanotime deadline = passes ? now() + 50'000'000 : now() + 3'600'000'000'000;
				int result = -1;
				lwp::thread sleeper({.priority = 5}, [&] { result = sleep_alone(yes, deadline); });
				while (!asleep(sleeper.native_handle())) {
					(void)park_for(std::chrono::microseconds(100));
				}
				lwp_t *l = curlwp();
				{
					part_hold hold(&proc0, proc_part(&proc0, sleeper.native_handle()), l->l_cpu);
					hold.widen(l->l_cpu);
					if (lwp_t *t = lwp_find(&proc0, sleeper.native_handle()); t != nullptr) {  // it may have ended by its deadline
						posted_in_time = lwp_state(t) == lwp_stat::sleep;
						EXPECT_TRUE(lwp_post(&proc0, t, lwp_lock(t, l->l_cpu), hold, LW_PENDSIG, ERESTART, l->l_cpu));
					}
					hold.unlock(l->l_cpu);
				}
				posted_in_time = posted_in_time && now() < deadline;
				while (passes && now() < deadline) {
				}
				sleeper.join();
				if (posted_in_time) {
					EXPECT_EQ(result, passes ? ETIMEDOUT : ERESTART);
				}
			}
		}).join();
	}
}

TEST(Sleepq, SuspendEndsAnInterruptibleSleepWithZero) {
	sleepq q;
	char wchan = 0;
	std::atomic<int> result{-1};
	std::atomic<bool> past_the_boundary{false};
	const lwpid_t lid = spawn([&] {
		result = sleep_in(q, &wchan, yes);
		lwp_userret(curlwp());
		past_the_boundary = true;
	});
	await_sleep(lid);
	EXPECT_EQ(lwp_suspend(curlwp(), lid), 0);
	EXPECT_EQ(result, 0) << "woken for no reason of its own: it looks again";
	with_locked(lid, [](lwp_t *l) { EXPECT_EQ(lwp_state(l), lwp_stat::suspended); });
	EXPECT_TRUE(queued(q).empty());
	EXPECT_FALSE(past_the_boundary);
	EXPECT_EQ(lwp_continue(curlwp(), lid), 0);
	collect(lid);
	EXPECT_TRUE(past_the_boundary);
}

// Behaviour 17.
TEST(Sleepq, SuspendWaitsForTheEndOfAnUninterruptibleSleep) {
	sleepq q;
	char wchan = 0;
	std::atomic<bool> past_the_boundary{false};
	std::atomic<int> suspended{-1};
	const lwpid_t lid = spawn([&] {
		EXPECT_EQ(sleep_in(q, &wchan, no), 0);
		lwp_userret(curlwp());
		past_the_boundary = true;
	});
	await_sleep(lid);
	const lwpid_t suspender = spawn([&] { suspended = lwp_suspend(curlwp(), lid); });
	await_sleep(suspender);
	with_locked(lid, [](lwp_t *l) {
		EXPECT_EQ(lwp_state(l), lwp_stat::sleep);
		EXPECT_NE(lwp_flags(l) & LW_WSUSPEND, 0U);
	});
	EXPECT_EQ(suspended, -1);
	EXPECT_EQ(wake(q, &wchan), 1U);
	collect(suspender);
	EXPECT_EQ(suspended, 0);
	EXPECT_FALSE(past_the_boundary);
	EXPECT_EQ(lwp_continue(curlwp(), lid), 0);
	collect(lid);
	EXPECT_TRUE(past_the_boundary);
}

// What was asked for before the sleep began ends it before it begins.
TEST(Sleepq, FlagsThatEndASleepBeforeItBegins) {
	sleepq q;
	char wchan = 0;
	in_an_lwp([&] {
		const nanotime soon = now() + 1'000'000;
		set_own_flags(LW_WSUSPEND, 0);
		EXPECT_EQ(sleep_in(q, &wchan, yes), 0) << "to be suspended: look again";
		EXPECT_EQ(sleep_in(q, &wchan, no, soon), ETIMEDOUT) << "an uninterruptible sleep takes no notice";
		EXPECT_NE(lwp_flags(curlwp()) & LW_WSUSPEND, 0U) << "still to be suspended";
		set_own_flags(LW_CANCELLED, LW_WSUSPEND);
		EXPECT_EQ(sleep_in(q, &wchan, no, soon), ETIMEDOUT);
		EXPECT_EQ(sleep_in(q, &wchan, yes), EINTR);
		EXPECT_EQ(sleep_in(q, &wchan, yes, soon), ETIMEDOUT) << "cancelled once";
		EXPECT_TRUE(queued(q).empty());
		EXPECT_FALSE(q.sq_lock.held());
	});
}

TEST(Sleepq, TokenEndsOneSleepBeforeItBegins) {
	sleepq q;
	char wchan = 0;
	in_an_lwp([&] {
		for (const sleep_catch interruptible : {no, yes}) {
			const nanotime soon = now() + 1'000'000;
			set_own_flags(LW_UNPARKED, 0);
			EXPECT_EQ(sleep_in(q, &wchan, interruptible, soon), ETIMEDOUT) << "a sleep that does not ask for it leaves it";
			EXPECT_EQ(sleep_in(q, &wchan, interruptible, never, LW_UNPARKED), EALREADY);
			EXPECT_EQ(lwp_flags(curlwp()) & LW_UNPARKED, 0U) << "taken";
			EXPECT_EQ(sleep_in(q, &wchan, interruptible, now() + 1000, LW_UNPARKED), ETIMEDOUT);
			set_own_flags(LW_UNPARKED, 0);
			EXPECT_EQ(sleep_alone(interruptible, never, LW_UNPARKED), EALREADY);
			EXPECT_EQ(sleep_alone(interruptible, now() + 1000, LW_UNPARKED), ETIMEDOUT);
		}
		// Both: the token is the news, the suspend comes at the boundary anyway.
		set_own_flags(LW_UNPARKED | LW_WSUSPEND, 0);
		EXPECT_EQ(sleep_in(q, &wchan, yes, never, LW_UNPARKED), EALREADY);
		EXPECT_NE(lwp_flags(curlwp()) & LW_WSUSPEND, 0U);
		set_own_flags(0, LW_WSUSPEND);
	});
}

// A thousand on one queue, each once woken goes back: nobody is lost, nobody is woken twice for one wake.
TEST(Sleepq, EveryWakeIsForExactlyOneSleep) {
	const std::size_t lwps = 100;
	const std::size_t wakes = race_rounds(20000);
	sleepq q;
	char wchan = 0;
	bool stop = false;         // under q.sq_lock
	std::size_t returned = 0;  // same
	std::vector<lwpid_t> lids;
	for (std::size_t i = 0; i < lwps; i++) {
		lids.push_back(spawn([&] {
			q.sq_lock.lock();
			while (!stop) {
				lwp_t *l = curlwp();
				EXPECT_EQ(sleepq_block_and_unlock(l, &q, {&wchan, "test", &sleep_syncobj, no}), 0);
				q.sq_lock.lock();
				returned++;
			}
			q.sq_lock.unlock();
		}));
	}
	dice r(1);
	std::size_t given = 0;
	while (given < wakes) {
		given += wake(q, &wchan, 1 + r.below(5));
		lwp_yield();
	}
	{
		lock_scope hold(q.sq_lock, curcpu_or_null());
		stop = true;
		given += sleepq_wake(&q, &wchan, ~0U);
	}
	for (const lwpid_t lid : lids) {
		collect(lid);
	}
	EXPECT_EQ(returned, given);
	EXPECT_TRUE(queued(q).empty());
}
