// SPDX-License-Identifier: BSD-2-Clause
//
// LWPs that a tracer stops as they begin and end: where they stand, that only the tracer lets them go on, and that each event is told once, in order.
// vcpus: 1 2 8
#include <lwp/tracer.hpp>

#include "../support/support.h"

#include <lwp/proc.h>
#include <lwp/usage.h>

#include <map>
#include <system_error>
#include <thread>
#include <vector>

using namespace lwp::test;
using namespace std::chrono_literals;
using lwp::tracer_event;

namespace {

const bool touched = touch_runtime();

int state_of(lwpid_t lid) {
	lwpinfo i{};
	EXPECT_EQ(error_of(lwp_info(lid, &i)), 0);
	return i.li_stat;
}

bool asleep(lwpid_t lid) { return state_of(lid) == LWP_LSSLEEP; }

/// Lets LWPs have their turns.
void others_run() {
	for (int i = 0; i < 50; i++) {
		lwp_yield();
	}
}

int error_code(const std::function<void()> &call) {
	try {
		call();
	} catch (const std::system_error &e) {
		return e.code().value();
	}
	return 0;
}

[[noreturn]] void exit_with_stopped_ones() {
	static lwp::tracer t;
	const lwpid_t begins = spawn([] { std::_Exit(20); });
	EXPECT_TRUE(t.wait().lid == begins);
	const lwpid_t ends = spawn([] {}, LWP_DETACHED);
	while (t.wait().lid != ends) {
	}
	t.go_on(ends);
	EXPECT_TRUE(t.wait().event == tracer_event::ends);
	lwp_proc_exit(3, 1000);
}

}  // namespace

TEST(Tracer, AnLwpStopsBeforeItsFirstAndAfterItsLastStep) {
	static lwp_tss_t key;
	std::atomic<int> ran{0};
	static std::atomic<int> destroyed{0};
	destroyed = 0;
	ASSERT_EQ(lwp_tss_create(&key, [](void *) { destroyed++; }), 0);
	lwp::tracer t;
	const lwpid_t lid = spawn([&ran] {
		(void)lwp_tss_set(key, &ran);
		ran = 1;
	});
	const lwp::tracer::stop first = t.wait();
	EXPECT_EQ(first.event, tracer_event::begins);
	EXPECT_EQ(first.lid, lid);
	EXPECT_TRUE(wait_until([lid] { return asleep(lid); }));
	(void)_lwp_wakeup(lid);  // only the tracer lets it go on, whoever wakes it
	EXPECT_EQ(error_of(_lwp_unpark(lid, nullptr)), 0);
	EXPECT_EQ(error_of(_lwp_suspend(lid)), 0);
	EXPECT_EQ(error_of(_lwp_continue(lid)), 0);
	others_run();
	EXPECT_EQ(ran, 0);
	EXPECT_EQ(t.wait_for(0s), std::nullopt) << "told once";
	t.go_on(lid);
	EXPECT_EQ(error_code([&] { t.go_on(lid); }), ESRCH);
	const lwp::tracer::stop second = t.wait();
	EXPECT_EQ(second.event, tracer_event::ends);
	EXPECT_EQ(second.lid, lid);
	others_run();
	EXPECT_EQ(ran, 1);
	EXPECT_EQ(destroyed, 0) << "its specific data is still there";
	EXPECT_TRUE(alive(lid));
	t.go_on(lid);
	collect(lid);
	EXPECT_EQ(destroyed, 1);
	lwp_tss_delete(key);
}

TEST(Tracer, OneThatIsCreatedSuspendedStopsWhenItIsContinued) {
	lwp::tracer t;
	const lwpid_t lid = spawn([] {}, LWP_SUSPENDED);
	others_run();
	EXPECT_EQ(t.wait_for(0s), std::nullopt);
	EXPECT_EQ(state_of(lid), LWP_LSSUSPENDED);
	EXPECT_EQ(error_of(_lwp_continue(lid)), 0);
	EXPECT_EQ(t.wait().lid, lid);
	t.go_on(lid);
	EXPECT_EQ(t.wait().event, tracer_event::ends);
	t.go_on(lid);
	collect(lid);
}

TEST(Tracer, OnlyTheEventsThatAreWanted) {
	std::atomic<bool> leave{false};
	gate began;
	const lwpid_t before = spawn([&] {
		began.open();
		while (!leave) {
			lwp_yield();
		}
	});
	began.pass();
	{
		lwp::tracer t({.ends = false});
		const lwpid_t lid = spawn([] {});
		EXPECT_EQ(t.wait().lid, lid);
		t.go_on(lid);
		collect(lid);
		EXPECT_EQ(t.wait_for(0s), std::nullopt);
	}
	{
		lwp::tracer t({.begins = false});
		leave = true;
		const lwp::tracer::stop s = t.wait();
		EXPECT_EQ(s.event, tracer_event::ends);
		EXPECT_EQ(s.lid, before) << "it lived already";
		t.go_on(before);
		collect(before);
	}
}

TEST(Tracer, ThereIsOneAndItLetsAllGoOnAsItEnds) {
	std::atomic<int> ran{0};
	std::vector<lwpid_t> lids;
	{
		lwp::tracer t;
		EXPECT_EQ(error_code([] { const lwp::tracer second; }), EBUSY);
		EXPECT_EQ(error_code([&] { t.go_on(_lwp_self()); }), ESRCH);
		for (int i = 0; i < 10; i++) {
			lids.push_back(spawn([&ran] { ran++; }));
		}
		for (int i = 0; i < 5; i++) {
			EXPECT_EQ(t.wait().event, tracer_event::begins);
		}
		EXPECT_EQ(error_code([&] { t.go_on(nobody); }), ESRCH);
		EXPECT_EQ(ran, 0);
	}
	for (const lwpid_t lid : lids) {
		collect(lid);
	}
	EXPECT_EQ(ran, 10);
	const lwp::tracer again;
}

TEST(Tracer, ByAKernelThreadOfTheApplication) {
	std::atomic<bool> attached{false};
	std::atomic<bool> leave{false};
	std::atomic<unsigned> stops{0};
	std::thread outside([&] {
		lwp::tracer t;
		attached = true;
		while (!leave) {
			if (const auto s = t.wait_for(1ms); s.has_value()) {
				stops++;
				t.go_on(s->lid);
			}
		}
	});
	EXPECT_TRUE(wait_until([&] { return attached.load(); }));
	for (int i = 0; i < 20; i++) {
		collect(spawn([] { lwp_yield(); }));
	}
	EXPECT_EQ(stops, 40U);
	leave = true;
	EXPECT_TRUE(wait_until([] { return lwp::runtime::stats().lwps == 1; }));  // without stopping our vCPU
	outside.join();
}

// Each LWP is told of twice, first as it begins; whatever the vCPUs do meanwhile, and though tracers come and go.
TEST(Tracer, Storm) {
	constexpr int makers = 4;
	std::atomic<std::size_t> made{0};
	std::atomic<int> done{0};
	const std::size_t each = rounds(500);
	std::map<lwpid_t, int> seen;
	std::vector<lwpid_t> lids;
	{
		lwp::tracer t;
		for (int i = 0; i < makers; i++) {
			lids.push_back(spawn([&] {
				for (std::size_t k = 0; k < each; k++) {
					collect(spawn([] { lwp_yield(); }));
					made++;
				}
				done++;
			}));
		}
		while (done < makers) {
			if (const auto s = t.wait_for(1ms); s.has_value()) {
				int &steps = seen[s->lid];
				EXPECT_EQ(s->event, steps == 0 ? tracer_event::begins : tracer_event::ends);
				steps++;
				t.go_on(s->lid);
			}
		}
	}
	for (const lwpid_t lid : lids) {
		collect(lid);
		seen.erase(lid);  // perhaps after the tracer
	}
	EXPECT_EQ(made, makers * each);
	EXPECT_EQ(seen.size(), makers * each);
	for (const auto &[lid, steps] : seen) {
		EXPECT_EQ(steps, 2) << lid;
	}
	// And now without looking, by tracers that soon go.
	std::atomic<bool> leave{false};
	const lwpid_t maker = spawn([&leave] {
		while (!leave) {
			collect(spawn([] { lwp_yield(); }));
		}
	});
	for (std::size_t i = 0; i < each; i++) {
		lwp::tracer t({.begins = i % 2 == 0, .ends = i % 3 != 0});
		if (i % 4 == 0) {
			(void)t.wait_for(100us);
		}
		lwp_yield();
	}
	leave = true;
	collect(maker);
}

TEST(TracerDeathTest, TheProcessEndsThoughSomeAreStopped) { EXPECT_EXIT(exit_with_stopped_ones(), testing::ExitedWithCode(3), ""); }
