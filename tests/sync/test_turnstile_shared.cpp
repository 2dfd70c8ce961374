// SPDX-License-Identifier: BSD-2-Clause
//
// Turnstiles of what is no mutex: a shared mutex has one to lend to only while it is written, a function that runs once while somebody runs it.
// vcpus: 1 2 8
#include "sync/turnstile.h"

#include "lending.h"

#include <lwp/mutex.hpp>
#include <lwp/sched.h>
#include <lwp/shared_mutex.hpp>

#include <array>
#include <shared_mutex>

using namespace lwp::test;
using namespace lwp::kern;

namespace {

const bool touched = touch_runtime();

}  // namespace

TEST(Turnstile, AWriterIsLentToByReadersAndWriters) {
	direct([] {
		lwp::shared_mutex m;
		holder owner(10, m);
		lwp::thread reader = actor(30, [&] { std::shared_lock hold(m); });
		ASSERT_TRUE(nap_until([&] { return sleeps_on(lid_of(reader), &m); }));
		EXPECT_TRUE(gets(lid_of(owner.thread), rt(30)));
		wanter writer(50, m);
		EXPECT_TRUE(gets(lid_of(owner.thread), rt(50)));
		owner.release.open();
		EXPECT_TRUE(nap_until([&] { return writer.had.is_open(); }));
		EXPECT_TRUE(gets(lid_of(owner.thread), rt(10)));
		reader.join();
	});
}

TEST(Turnstile, AWriterThatLetsReadersInGivesBackWhatWaitingWritersLent) {
	direct([] {
		lwp::shared_mutex m;
		holder owner(10, m);
		wanter writer(30, m);
		gate reads;
		gate leave;
		lwp::thread reader = actor(40, [&] {
			std::shared_lock hold(m);
			reads.open();
			stay(leave);
		});
		ASSERT_TRUE(nap_until([&] { return sleeps_on(lid_of(reader), &m); }));
		EXPECT_TRUE(gets(lid_of(owner.thread), rt(40)));
		owner.release.open();
		ASSERT_TRUE(nap_until([&] { return reads.is_open(); }));
		EXPECT_TRUE(gets(lid_of(owner.thread), rt(10)));
		EXPECT_TRUE(sleeps_on(lid_of(writer.thread), &m));
		leave.open();
		reader.join();
	});
}

// low runs the function, high waits for its end; it fails, and the next one, which mid is, has what the others lend.
TEST(Turnstile, WhoRunsAFunctionOnceIsLentTo) {
	direct([] {
		lwp::once_flag flag;
		gate low_runs, low_fails, mid_runs, mid_ends, leave;
		lwp::thread low = actor(10, [&] {
			try {
				lwp::call_once(flag, [&] {
					low_runs.open();
					stay(low_fails);
					throw 1;
				});
			} catch (int) {
			}
			stay(leave);
		});
		EXPECT_TRUE(nap_until([&] { return low_runs.is_open(); }));
		lwp::thread mid = actor(30, [&] {
			lwp::call_once(flag, [&] {
				mid_runs.open();
				stay(mid_ends);
			});
			stay(leave);
		});
		EXPECT_TRUE(nap_until([&] { return sleeps_on(lid_of(mid), &flag); }));
		EXPECT_TRUE(gets(lid_of(low), rt(30)));
		low_fails.open();
		EXPECT_TRUE(nap_until([&] { return mid_runs.is_open(); }));
		EXPECT_TRUE(gets(lid_of(low), rt(10)));
		lwp::thread high = actor(40, [&] {
			lwp::call_once(flag, [] { ADD_FAILURE() << "it is being run"; });
			stay(leave);
		});
		EXPECT_TRUE(nap_until([&] { return sleeps_on(lid_of(high), &flag); }));
		EXPECT_TRUE(gets(lid_of(mid), rt(40)));
		mid_ends.open();
		EXPECT_TRUE(gets(lid_of(mid), rt(30)));
		EXPECT_TRUE(gets(lid_of(high), rt(40)));
		leave.open();
		low.join();
		mid.join();
		high.join();
	});
}

// low runs the function and fails while two wait: the one that runs it next has what the other lends.
TEST(Turnstile, TheNextThatRunsItIsLentToByThoseWhoStillWait) {
	direct([] {
		lwp::once_flag flag;
		gate low_runs, low_fails, leave;
		std::array<gate, 2> runs;
		gate ends;
		lwp::thread low = actor(10, [&] {
			try {
				lwp::call_once(flag, [&] {
					low_runs.open();
					stay(low_fails);
					throw 1;
				});
			} catch (int) {
			}
			stay(leave);
		});
		EXPECT_TRUE(nap_until([&] { return low_runs.is_open(); }));
		// The better one is woken first and runs it; the other lends it nothing, until it becomes better.
		const auto wait = [&](std::size_t i) {
			lwp::call_once(flag, [&] {
				runs[i].open();
				stay(ends);
			});
			stay(leave);
		};
		lwp::thread one = actor(20, [&] { wait(0); });
		EXPECT_TRUE(nap_until([&] { return sleeps_on(lid_of(one), &flag); }));
		lwp::thread two = actor(35, [&] { wait(1); });
		EXPECT_TRUE(nap_until([&] { return sleeps_on(lid_of(two), &flag); }));
		EXPECT_TRUE(gets(lid_of(low), rt(35)));
		low_fails.open();
		EXPECT_TRUE(nap_until([&] { return runs[1].is_open(); }));
		EXPECT_TRUE(gets(lid_of(low), rt(10)));
		EXPECT_TRUE(gets(lid_of(two), rt(35)));
		const sched_param better{.sched_priority = 45};
		EXPECT_EQ(error_of(_sched_setparam(0, lid_of(one), SCHED_FIFO, &better)), 0);
		EXPECT_TRUE(gets(lid_of(two), rt(45)));
		ends.open();
		EXPECT_TRUE(gets(lid_of(two), rt(35)));
		leave.open();
		low.join();
		one.join();
		two.join();
	});
}

// Readers are many: the last one out lets the writer in, whoever that will be.
TEST(Turnstile, ReadersAreNotLentTo) {
	direct([] {
		lwp::shared_mutex m;
		gate reads;
		gate leave;
		lwp::thread reader = actor(10, [&] {
			std::shared_lock hold(m);
			reads.open();
			stay(leave);
		});
		ASSERT_TRUE(nap_until([&] { return reads.is_open(); }));
		{
			wanter writer(50, m);
			EXPECT_EQ(look_at(lid_of(reader)).runs_with, rt(10));
			leave.open();
			EXPECT_TRUE(nap_until([&] { return writer.had.is_open(); }));
		}
		reader.join();
	});
}
