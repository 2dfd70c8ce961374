// SPDX-License-Identifier: BSD-2-Clause
//
// Traces of LWPs: which stretches are written down and why each ended, sums that are those of the ring, and that nothing is left of them.
// vcpus: 1 2 8
#include <lwp/trace.h>

#include "sched/vcpu.h"

#include "../support/support.h"

#include <lwp/usage.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

using namespace lwp::test;
using namespace std::chrono_literals;

namespace {

const bool touched = touch_runtime();

std::vector<lwp_trace_record> ring(lwpid_t lid) {
	std::vector<lwp_trace_record> r(LWP_TRACE_MOST);
	const ssize_t n = lwp_trace_read(lid, r.data(), r.size());
	EXPECT_GE(n, 0);
	r.resize(n < 0 ? 0 : static_cast<std::size_t>(n));
	return r;
}

std::vector<lwp_trace_sum> sums(lwpid_t lid) {
	std::vector<lwp_trace_sum> s(LWP_TRACE_KINDS);
	const ssize_t n = lwp_trace_sums(lid, s.data(), s.size());
	EXPECT_GE(n, 0);
	s.resize(n < 0 ? 0 : static_cast<std::size_t>(n));
	return s;
}

lwp_trace_sum sum_of(lwpid_t lid, int why, const char *wmesg) {
	for (const lwp_trace_sum &s : sums(lid)) {
		if (s.ts_why == why && std::strcmp(s.ts_wmesg, wmesg) == 0) {
			return s;
		}
	}
	return {};
}

bool asleep(lwpid_t lid) {
	lwpinfo i;
	return lwp_info(lid, &i) == 0 && i.li_stat == LWP_LSSLEEP;
}

/// It parks `times` times, and goes on each time.
void unpark_it(lwpid_t lid, int times) {
	for (int i = 0; i < times; i++) {
		EXPECT_TRUE(wait_until([lid] { return asleep(lid); }));
		EXPECT_EQ(error_of(_lwp_unpark(lid, nullptr)), 0);
	}
}

/// Runs `body` in an LWP that is traced from before it begins; its id, uncollected.
template <class Body>
lwpid_t traced(Body body, std::size_t records = LWP_TRACE_MOST) {
	const lwpid_t lid = spawn(std::move(body), LWP_SUSPENDED);
	EXPECT_EQ(error_of(lwp_trace_start(lid, records)), 0);
	EXPECT_EQ(error_of(_lwp_continue(lid)), 0);
	return lid;
}

/// The order of the times, and that the sums are what is between the records.
void expect_consistent(lwpid_t lid) {
	const std::vector<lwp_trace_record> r = ring(lid);
	std::uint64_t away = 0;
	for (std::size_t i = 0; i < r.size(); i++) {
		EXPECT_EQ(r[i].tr_number, r[0].tr_number + i);
		EXPECT_LE(r[i].tr_since, r[i].tr_until);
		if (i != 0) {
			EXPECT_LE(r[i - 1].tr_until, r[i].tr_since);
			away += r[i].tr_since - r[i - 1].tr_until;
		}
	}
	ASSERT_FALSE(r.empty());
	if (r[0].tr_number == 0 && r.back().tr_why == LWP_WHY_ENDED) {
		std::uint64_t time = 0;
		std::uint64_t count = 0;
		for (const lwp_trace_sum &s : sums(lid)) {
			time += s.ts_time;
			count += s.ts_count;
			EXPECT_LE(s.ts_longest, s.ts_time);
		}
		EXPECT_EQ(time, away);
		EXPECT_EQ(count, r.size() - 1);
	}
}

bool nothing_is_watched() { return lwp::kern::sched.sd_account.load() == 0; }

}  // namespace

TEST(Trace, BadArgumentsAreRefused) {
	lwp_trace_record r;
	lwp_trace_sum s;
	EXPECT_EQ(error_of(lwp_trace_start(0, 0)), EINVAL);
	EXPECT_EQ(error_of(lwp_trace_start(0, LWP_TRACE_MOST + 1)), EINVAL);
	EXPECT_EQ(error_of(lwp_trace_start(nobody, 1)), ESRCH);
	EXPECT_EQ(error_of(lwp_trace_stop(nobody)), ESRCH);
	EXPECT_EQ(error_of(lwp_trace_stop(0)), ENOENT);
	EXPECT_EQ(error_of(static_cast<int>(lwp_trace_read(nobody, &r, 1))), ESRCH);
	EXPECT_EQ(error_of(static_cast<int>(lwp_trace_read(0, &r, 1))), ENOENT);
	EXPECT_EQ(error_of(static_cast<int>(lwp_trace_read(0, nullptr, 1))), EINVAL);
	EXPECT_EQ(error_of(static_cast<int>(lwp_trace_sums(nobody, &s, 1))), ESRCH);
	EXPECT_EQ(error_of(static_cast<int>(lwp_trace_sums(0, &s, 1))), ENOENT);
	EXPECT_EQ(error_of(static_cast<int>(lwp_trace_sums(0, nullptr, 1))), EINVAL);
	const lwpid_t dead = make_zombie();
	EXPECT_EQ(error_of(lwp_trace_start(dead, 1)), ESRCH);
	collect(dead);
	EXPECT_EQ(error_of(lwp_trace_start(0, 1)), 0);
	EXPECT_EQ(error_of(lwp_trace_start(0, 1)), EBUSY);
	EXPECT_EQ(lwp_trace_read(0, nullptr, 0), 0);
	EXPECT_EQ(error_of(lwp_trace_stop(0)), 0);
	EXPECT_EQ(error_of(lwp_trace_stop(0)), ENOENT);
	EXPECT_TRUE(nothing_is_watched());
}

TEST(Trace, SleepsAreCountedByWhatTheyAreFor) {
	lwp::mutex m;
	m.lock();
	std::atomic<bool> at_mutex{false};
	const lwpid_t lid = traced([&] {
		for (int i = 0; i < 3; i++) {
			EXPECT_EQ(park(), 0);
		}
		at_mutex = true;
		m.lock();
		m.unlock();
	});
	unpark_it(lid, 3);
	EXPECT_TRUE(wait_until([&] { return at_mutex && asleep(lid); }));
	lwpinfo i;
	ASSERT_EQ(error_of(lwp_info(lid, &i)), 0);
	const std::string for_mutex = i.li_wmesg;
	EXPECT_EQ(ring(lid).back().tr_why, LWP_WHY_SLEPT);
	EXPECT_EQ(ring(lid).back().tr_wmesg, for_mutex);
	EXPECT_EQ(sum_of(lid, LWP_WHY_SLEPT, for_mutex.c_str()).ts_count, 0U) << "it is not over";
	m.unlock();
	await_end(lid);
	EXPECT_EQ(sum_of(lid, LWP_WHY_SLEPT, "parked").ts_count, 3U);
	EXPECT_GT(sum_of(lid, LWP_WHY_SLEPT, "parked").ts_longest, 0U);
	EXPECT_EQ(sum_of(lid, LWP_WHY_SLEPT, for_mutex.c_str()).ts_count, 1U);
	expect_consistent(lid);
	collect(lid);
	EXPECT_EQ(error_of(static_cast<int>(lwp_trace_read(lid, nullptr, 0))), ESRCH);
	EXPECT_TRUE(nothing_is_watched());
}

TEST(Trace, EachRecordSaysWhyItEnded) {
	// All on one vCPU, with others beside it, so that it really goes.
	lwp::thread({.vcpu = static_cast<int>(lwp::runtime::vcpus()) - 1}, [] {
		std::atomic<bool> leave{false};
		lwp::thread beside([&leave] {
			while (!leave) {
				lwp_yield();
			}
		});
		std::atomic<bool> parked{false};
		lwp::thread better({.priority = 5, .policy = lwp::sched_policy::fifo}, [&parked] {
			parked = true;
			(void)park();
		});
		EXPECT_TRUE(wait_until([&] { return parked.load(); }));
		const lwpid_t lid = traced([&better] {
			(void)lwp_yield();
			EXPECT_EQ(error_of(_lwp_suspend(_lwp_self())), 0);
			(void)_lwp_unpark(better.native_handle(), nullptr);
			(void)park();
		});
		EXPECT_TRUE(wait_until([&] {
			lwpinfo i;
			return lwp_info(lid, &i) == 0 && i.li_stat == LWP_LSSUSPENDED;
		}));
		EXPECT_EQ(error_of(_lwp_continue(lid)), 0);
		unpark_it(lid, 1);
		await_end(lid);
		std::vector<int> whys;
		for (const lwp_trace_record &r : ring(lid)) {
			EXPECT_EQ(r.tr_cpu, static_cast<int>(lwp::runtime::vcpus()) - 1);
			whys.push_back(r.tr_why);
		}
		// It may be handed to a substitute besides, which is a switch like others: so these in this order, not these alone.
		const int expected[] = {LWP_WHY_YIELDED, LWP_WHY_STOPPED, LWP_WHY_PREEMPTED, LWP_WHY_SLEPT, LWP_WHY_ENDED};
		auto at = whys.begin();
		for (const int why : expected) {
			at = std::find(at, whys.end(), why);
			EXPECT_NE(at, whys.end()) << why;
		}
		expect_consistent(lid);
		collect(lid);
		leave = true;
		beside.join();
		better.join();
	}).join();
	EXPECT_TRUE(nothing_is_watched());
}

TEST(Trace, TheRingKeepsTheLast) {
	const lwpid_t lid = traced(
	    [] {
		    for (int i = 0; i < 100; i++) {
			    EXPECT_EQ(park(), 0);
		    }
	    },
	    5);
	unpark_it(lid, 100);
	await_end(lid);
	const std::vector<lwp_trace_record> all = ring(lid);
	ASSERT_EQ(all.size(), 8U) << "a power of two";
	EXPECT_GE(all.back().tr_number, 100U);
	EXPECT_EQ(all.back().tr_why, LWP_WHY_ENDED);
	expect_consistent(lid);
	lwp_trace_record last;
	EXPECT_EQ(lwp_trace_read(lid, &last, 1), 1);
	EXPECT_EQ(last.tr_number, all.back().tr_number);
	EXPECT_EQ(sum_of(lid, LWP_WHY_SLEPT, "parked").ts_count, 100U) << "the sums are of all";
	collect(lid);
}

TEST(Trace, GoesBesideTheCountOfTime) {
	EXPECT_EQ(lwp_account(0), 0);
	EXPECT_EQ(error_of(lwp_trace_start(0, 16)), 0);
	EXPECT_EQ(lwp_account(0), 0) << "to trace is not to count";
	lwpinfo was;
	ASSERT_EQ(error_of(lwp_info(0, &was)), 0);
	EXPECT_EQ(park_for(1us), ETIMEDOUT);
	lwpinfo now;
	ASSERT_EQ(error_of(lwp_info(0, &now)), 0);
	EXPECT_EQ(now.li_rtime, was.li_rtime) << "nothing is charged";
	EXPECT_EQ(lwp_account(1), 0);
	EXPECT_EQ(error_of(lwp_trace_stop(0)), 0);
	EXPECT_FALSE(nothing_is_watched()) << "it is counted on";
	EXPECT_EQ(lwp_account(0), 1);
	EXPECT_TRUE(nothing_is_watched());
}

TEST(Trace, OfAKernelThreadOfTheApplication) {
	std::atomic<bool> done{false};
	std::atomic<lwpid_t> lid{0};
	std::thread outside([&] {
		EXPECT_EQ(error_of(lwp_trace_start(0, 16)), 0);
		lid = _lwp_self();
		EXPECT_EQ(park(), 0);
		const std::vector<lwp_trace_record> r = ring(0);
		ASSERT_FALSE(r.empty());
		EXPECT_EQ(r.back().tr_cpu, -1);
		EXPECT_EQ(r.back().tr_why, LWP_WHY_SLEPT);
		EXPECT_EQ(sum_of(0, LWP_WHY_SLEPT, "parked").ts_count, 1U);
		done = true;
	});
	EXPECT_TRUE(wait_until([&] { return lid.load() != 0; }));
	unpark_it(lid, 1);
	EXPECT_TRUE(wait_until([&] { return done.load(); }));
	outside.join();
	EXPECT_TRUE(wait_until(nothing_is_watched)) << "it has ended, traced";
}

// Begun, read and ended by several while those it is about come and go, and are used again.
TEST(Trace, Storm) {
	const std::uint64_t first = seed();
	std::atomic<lwpid_t> young{0};
	std::atomic<bool> leave{false};
	std::vector<lwpid_t> tracers;
	for (std::uint64_t i = 0; i < 3; i++) {
		tracers.push_back(spawn([&, i] {
			dice d(first + i);
			std::vector<lwp_trace_record> r(8);
			std::vector<lwp_trace_sum> s(LWP_TRACE_KINDS);
			while (!leave) {
				const lwpid_t lid = young;
				if (lid == 0) {
					lwp_yield();
					continue;
				}
				switch (d.below(4)) {
				case 0: {
					const int error = error_of(lwp_trace_start(lid, 8));
					EXPECT_TRUE(error == 0 || error == ESRCH || error == EBUSY) << error;
					break;
				}
				case 1: {
					const int error = error_of(lwp_trace_stop(lid));
					EXPECT_TRUE(error == 0 || error == ESRCH || error == ENOENT) << error;
					break;
				}
				case 2: {
					const ssize_t n = lwp_trace_read(lid, r.data(), r.size());
					for (ssize_t k = 1; k < n; k++) {
						EXPECT_LE(r[static_cast<std::size_t>(k) - 1].tr_until, r[static_cast<std::size_t>(k)].tr_since);
					}
					break;
				}
				default:
					EXPECT_LE(lwp_trace_sums(lid, s.data(), s.size()), static_cast<ssize_t>(s.size()));
				}
				lwp_yield();
			}
		}));
	}
	const std::size_t n = rounds(3000);
	for (std::size_t i = 0; i < n; i++) {
		const lwpid_t lid = spawn(
		    [] {
			    lwp_yield();
			    (void)park_for(2us);
			    lwp_yield();
		    },
		    LWP_SUSPENDED);
		young = lid;
		lwp_yield();
		EXPECT_EQ(error_of(_lwp_continue(lid)), 0);
		if (i % 2 == 0) {
			EXPECT_EQ(error_of(_lwp_detach(lid)), 0);
			await_end(lid);
		} else {
			collect(lid);
		}
	}
	leave = true;
	for (const lwpid_t lid : tracers) {
		collect(lid);
	}
	EXPECT_TRUE(wait_until([] {
		for (unsigned v = 0; v < lwp::runtime::vcpus(); v++) {  // takes the dead out of the slots, of which each vCPU has one
			lwp::thread({.vcpu = static_cast<int>(v)}, [] { collect(spawn([] {})); }).join();
		}
		return nothing_is_watched();
	}));
}
