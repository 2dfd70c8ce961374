// SPDX-License-Identifier: BSD-2-Clause
//
// What LWPs have used and what is told of them: switches exactly, time against a clock that the LWP reads itself, sums that never fall, states.
// Control blocks show each switch.
// vcpus: 1 2 8
#include <lwp/usage.hpp>

#include "../support/cases.h"
#include "../support/support.h"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <system_error>
#include <thread>
#include <vector>

using namespace lwp::test;
using namespace std::chrono_literals;

namespace {

const bool touched = touch_runtime();

using clock_type = std::chrono::steady_clock;

lwpinfo info(lwpid_t lid) {
	lwpinfo i{};
	EXPECT_EQ(error_of(lwp_info(lid, &i)), 0);
	return i;
}

procinfo process() {
	procinfo p{};
	EXPECT_EQ(error_of(lwp_proc_info(&p)), 0);
	return p;
}

/// Computes for that long, without a call of the library; returns how long it was, in nanoseconds.
std::uint64_t compute(std::chrono::nanoseconds time) {
	const auto begin = clock_type::now();
	auto end = begin;
	while (end - begin < time) {
		end = clock_type::now();
	}
	return static_cast<std::uint64_t>((end - begin).count());
}

/// Time is counted while it lives.
class counting {
public:
	counting() : before_(lwp::account(true)) {}
	~counting() { (void)lwp::account(before_); }
	counting(const counting &) = delete;
	counting &operator=(const counting &) = delete;

private:
	bool before_;
};

/// In a real-time LWP of this priority, with all that it makes, on the last vCPU.
template <class Body>
void direct(int priority, const Body &body) {
	lwp::thread({.priority = priority, .vcpu = static_cast<int>(lwp::runtime::vcpus()) - 1, .policy = lwp::sched_policy::fifo}, body)
	    .join();
}

/// Or a little more: when the OS has kept a vCPU's kernel thread for long its LWPs may be handed to a substitute, which is a switch.
void expect_about(std::uint64_t got, std::uint64_t wanted) {
	EXPECT_GE(got, wanted);
	EXPECT_LE(got, wanted + 9);
}

lwp::thread actor(int priority, std::function<void()> body) {
	return lwp::thread({.priority = priority, .policy = lwp::sched_policy::fifo}, std::move(body));
}

// ---- cases: each in a process of its own

void must(bool right) {
	if (!right) {
		std::abort();
	}
}

const bool cases = offer_cases([](const char *wanted) {
	const bool by_option = std::strcmp(wanted, "by_option") == 0;
	const lwp::runtime rt({.vcpus = 2, .accounting = by_option});
	must(lwp::account(true) == (std::strcmp(wanted, "not_counted") != 0));
	const std::uint64_t mine = compute(1ms);
	must(info(0).li_rtime >= mine);
	return true;
});

}  // namespace

TEST(Usage, TimeIsCountedFromTheStartIfThatIsWanted) {
	EXPECT_TRUE(run_case("by_option", {{"LWP_ACCOUNT", "0"}}).ended_well());
	EXPECT_TRUE(run_case("by_environment", {{"LWP_ACCOUNT", "1"}}).ended_well());
	EXPECT_TRUE(run_case("not_counted", {{"LWP_ACCOUNT", "yes"}}).ended_well()) << "1, and nothing else";
}

TEST(Usage, BadArgumentsAreRefused) {
	EXPECT_EQ(error_of(lwp_info(0, nullptr)), EINVAL);
	EXPECT_EQ(error_of(lwp_proc_info(nullptr)), EINVAL);
	lwpinfo i;
	EXPECT_EQ(error_of(lwp_info(nobody, &i)), ESRCH);
	EXPECT_EQ(error_of(lwp_info(-1, &i)), ESRCH);
	rusage r;
	EXPECT_EQ(error_of(lwp_getrusage(LWP_RUSAGE_LWP, nullptr)), EINVAL);
	EXPECT_EQ(error_of(lwp_getrusage(2, &r)), EINVAL);
	EXPECT_EQ(error_of(lwp_getrusage(-1, &r)), EINVAL);
	EXPECT_THROW((void)lwp::usage_of(nobody), std::system_error);
	EXPECT_THROW((void)lwp::usage_of(0), std::system_error);
}

TEST(Usage, LoadAveragesAsGetloadavg) {
	double load[5] = {-1, -1, -1, -1, -1};
	EXPECT_EQ(error_of(lwp_getloadavg(nullptr, 3)), EINVAL);
	EXPECT_EQ(error_of(lwp_getloadavg(load, -1)), EINVAL);
	EXPECT_EQ(lwp_getloadavg(load, 0), 0);
	EXPECT_EQ(load[0], -1);
	EXPECT_EQ(lwp_getloadavg(load, 2), 2);
	EXPECT_GE(load[1], 0);
	EXPECT_EQ(load[2], -1);
	EXPECT_EQ(lwp_getloadavg(load, 5), 3);
	EXPECT_GE(load[2], 0);
	EXPECT_EQ(load[3], -1) << "there are three";
	EXPECT_LE(load[0], 64) << "nothing like that many have run";
	EXPECT_GE(lwp::load_average()[2], 0);
}

TEST(Usage, AVoluntarySwitchIsOneThatItAskedFor) {
	direct(10, [] {
		// On a vCPU with nobody else each park of it is one switch, and a yield among two is one of each.
		const lwpinfo before = info(0);
		for (int i = 0; i < 20; i++) {
			EXPECT_EQ(error_of(_lwp_unpark(_lwp_self(), nullptr)), 0);
			EXPECT_EQ(park(), EALREADY) << "it does not wait";
		}
		EXPECT_EQ(info(0).li_nvcsw, before.li_nvcsw);
		bool stop = false;
		std::uint64_t its = 0;
		lwp::thread other = actor(10, [&] {
			while (!stop) {
				lwp_yield();
			}
			its = info(0).li_nvcsw;
		});
		for (int i = 0; i < 100; i++) {
			lwp_yield();
		}
		expect_about(info(0).li_nvcsw, before.li_nvcsw + 100);
		EXPECT_EQ(info(0).li_nivcsw, before.li_nivcsw);
		stop = true;
		other.join();
		expect_about(its, 100);
		expect_about(info(0).li_nvcsw, before.li_nvcsw + 101);  // the join waited
	});
}

TEST(Usage, AnInvoluntarySwitchIsOneThatABetterOneForced) {
	direct(10, [] {
		const lwpinfo before = info(0);
		for (int i = 0; i < 20; i++) {
			lwp::thread better = actor(20, [] {});  // it has run and ended when the constructor returns
			better.join();
		}
		expect_about(info(0).li_nivcsw, before.li_nivcsw + 20);
		expect_about(info(0).li_nvcsw, before.li_nvcsw);
		const lwp::usage u = lwp::this_thread::usage();
		expect_about(u.involuntary_switches, before.li_nivcsw + 20);
		expect_about(u.voluntary_switches, before.li_nvcsw);
		rusage r;
		EXPECT_EQ(error_of(lwp_getrusage(LWP_RUSAGE_LWP, &r)), 0);
		EXPECT_EQ(static_cast<std::uint64_t>(r.ru_nivcsw), u.involuntary_switches);
		EXPECT_EQ(static_cast<std::uint64_t>(r.ru_nvcsw), u.voluntary_switches);
	});
}

TEST(Usage, TimeIsCountedWhileThatIsOn) {
	if (lwp::account(false)) {
		(void)lwp::account(true);
		GTEST_SKIP() << "LWP_ACCOUNT is set";
	}
	lwp::thread([] {
		(void)compute(1ms);
		EXPECT_EQ(info(0).li_rtime, 0U) << "nobody counts";
		EXPECT_FALSE(lwp::account(true));
		EXPECT_TRUE(lwp::account(true)) << "it goes on";
		const std::uint64_t mine = compute(3ms);
		const std::uint64_t counted = info(0).li_rtime;
		EXPECT_GE(counted, mine);
		lwp_yield();
		(void)park_for(2ms);
		const std::uint64_t more = info(0).li_rtime;
		EXPECT_GE(more, counted);
		EXPECT_TRUE(lwp::account(false));
		const std::uint64_t end = info(0).li_rtime;
		(void)compute(1ms);
		EXPECT_EQ(info(0).li_rtime, end);
		EXPECT_FALSE(lwp::account(false));
	}).join();
}

// What it has used is at least what it has computed, and at most what has passed less the time in which another has seen it asleep.
TEST(Usage, TimeAsleepIsNotCounted) {
	const counting on;
	std::atomic<std::uint64_t> asleep{0};
	subject s([&](subject &me) {
		const auto begin = clock_type::now();
		const std::uint64_t before = info(0).li_rtime;
		const std::uint64_t computed = compute(500us);
		me.park_once();
		const std::uint64_t counted = info(0).li_rtime - before;
		const auto passed = static_cast<std::uint64_t>((clock_type::now() - begin).count());
		EXPECT_GE(counted, computed);
		EXPECT_LE(counted + asleep, passed);
	});
	s.await_blocked();
	asleep = compute(3ms);
	EXPECT_EQ(error_of(_lwp_unpark(s.lid(), nullptr)), 0);
	collect(s.lid());
}

// Two on one vCPU: each is charged its own.
TEST(Usage, EachIsChargedItsOwn) {
	const counting on;
	direct(10, [] {
		const auto begin = clock_type::now();
		std::uint64_t mine = 0;
		std::uint64_t others = 0;
		std::uint64_t others_counted = 0;
		bool stop = false;
		const std::uint64_t before = info(0).li_rtime;
		lwp::thread other = actor(10, [&] {
			while (!stop) {
				others += compute(100us);
				lwp_yield();
			}
			others_counted = info(0).li_rtime;
		});
		for (int i = 0; i < 20; i++) {
			mine += compute(300us);
			lwp_yield();
		}
		stop = true;
		other.join();
		const std::uint64_t counted = info(0).li_rtime - before;
		const auto passed = static_cast<std::uint64_t>((clock_type::now() - begin).count());
		EXPECT_GE(counted, mine);
		EXPECT_GE(others_counted, others);
		EXPECT_LE(counted + others_counted, passed) << "no time is charged twice";
	});
}

// LWPs come and go, read by others all the time: no sum falls, and none is less than what the dead have said of themselves.
TEST(Usage, SumsNeverFall) {
	const counting on;
	std::atomic<std::uint64_t> told{0};
	std::atomic<bool> done{false};
	const procinfo before = process();
	lwp::thread reader([&] {
		procinfo p = before;
		while (!done) {
			const procinfo next = process();
			EXPECT_GE(next.pi_rtime, p.pi_rtime);
			EXPECT_GE(next.pi_cputime, p.pi_cputime);
			EXPECT_GE(next.pi_nvcsw, p.pi_nvcsw);
			EXPECT_GE(next.pi_nivcsw, p.pi_nivcsw);
			p = next;
			(void)park_for(20us);
		}
	});
	const std::size_t n = rounds(400);
	std::vector<lwp::thread> makers;
	for (int m = 0; m < 4; m++) {
		makers.emplace_back([&, n] {
			for (std::size_t i = 0; i < n; i++) {
				const auto life = [&] {
					(void)compute(5us);
					lwp_yield();
					told += info(0).li_rtime;
				};
				if (i % 2 == 0) {
					lwp::thread(life).join();
				} else {
					gate ran;
					lwp::thread({.detached = true}, [&life, &ran] {
						life();
						ran.open();
					});
					ran.pass();
				}
			}
		});
	}
	for (lwp::thread &m : makers) {
		m.join();
	}
	done = true;
	reader.join();
	// Detached ones may be on their way out: their time is in the sum, as the living's or the dead's.
	const procinfo after = process();
	EXPECT_GE(after.pi_rtime - before.pi_rtime, told);
	EXPECT_GE(after.pi_nvcsw - before.pi_nvcsw, 0U);
	rusage r;
	EXPECT_EQ(error_of(lwp_getrusage(LWP_RUSAGE_SELF, &r)), 0);
	EXPECT_GE(static_cast<std::uint64_t>(r.ru_nvcsw), after.pi_nvcsw);
	const lwp::usage u = lwp::usage_of_process();
	EXPECT_GE(static_cast<std::uint64_t>(u.run_time.count()), after.pi_rtime);
}

// Behaviour 42.  While time is not counted all accounts stand still, so the sums are exact.
TEST(Usage, TheSumIsThatOfTheLwpsAndStaysWhenTheyEnd) {
	const bool was = lwp::account(false);
	const std::uint64_t of_the_dead = process().pi_rtime - info(0).li_rtime;
	std::vector<std::unique_ptr<subject>> some;
	{
		const counting on;
		for (int i = 0; i < 5; i++) {
			some.push_back(std::make_unique<subject>([i](subject &s) {
				(void)compute(std::chrono::microseconds(200 * (i + 1)));
				s.park_once();
			}));
		}
		for (const auto &s : some) {
			s->await_blocked();
		}
	}
	std::uint64_t sum = of_the_dead + info(0).li_rtime;
	for (const auto &s : some) {
		EXPECT_GE(info(s->lid()).li_rtime, 200'000U);
		sum += info(s->lid()).li_rtime;
	}
	EXPECT_EQ(process().pi_rtime, sum);
	for (const auto &s : some) {
		EXPECT_EQ(error_of(_lwp_unpark(s->lid(), nullptr)), 0);
		await_end(s->lid());
		EXPECT_EQ(process().pi_rtime, sum) << "one has ended";
		collect(s->lid());
		EXPECT_EQ(process().pi_rtime, sum) << "and is gone";
	}
	(void)lwp::account(was);
}

// The share of one that has computed is of the last minute; it is 0 for one that never did while it was counted.
TEST(Usage, AShareComesWithTheSeconds) {
	const counting on;
	lwp::thread([] {
		EXPECT_EQ(info(0).li_pctcpu, 0U);
		const auto begin = clock_type::now();
		const auto end = begin + 1100ms;  // a second of the clock ends meanwhile, of which it has used a part
		while (clock_type::now() < end) {
			(void)compute(1ms);
		}
		const unsigned share = info(0).li_pctcpu;
		EXPECT_GT(share, 0U);
		const double most = std::chrono::duration<double>(clock_type::now() - begin).count() + 1;
		EXPECT_LE(share, LWP_FSCALE * (1 - std::exp(-most / 20)) + 1) << "of a few seconds no more than their part of a minute";
		EXPECT_GT(lwp::this_thread::usage().share, 0.0);
		EXPECT_GE(process().pi_pctcpu, 1U);
	}).join();
}

TEST(Usage, StatesAreTold) {
	direct(10, [] {
		const auto state = [](lwpid_t lid) { return info(lid).li_stat; };
		const lwpid_t self = _lwp_self();
		EXPECT_EQ(state(0), LWP_LSONPROC);
		lwp::thread queued = actor(5, [] {});
		EXPECT_EQ(state(queued.native_handle()), LWP_LSRUN);
		const lwpid_t suspended = spawn([] {}, LWP_SUSPENDED | LWP_DETACHED);
		EXPECT_EQ(state(suspended), LWP_LSSUSPENDED);
		EXPECT_EQ(info(suspended).li_detached, 1);
		subject parked([](subject &s) { s.park_once(); });
		while (!parked.blocked()) {
			(void)lwp_yield();
		}
		const lwpinfo asleep = info(parked.lid());
		EXPECT_EQ(asleep.li_stat, LWP_LSSLEEP);
		EXPECT_STREQ(asleep.li_wmesg, "parked");
		EXPECT_EQ(asleep.li_lid, parked.lid());
		EXPECT_EQ(asleep.li_detached, 0);
		EXPECT_EQ(error_of(_lwp_setname(self, "director")), 0);
		const lwpinfo me = info(self);
		EXPECT_STREQ(me.li_name, "director");
		EXPECT_STREQ(me.li_wmesg, "");
		EXPECT_EQ(me.li_policy, SCHED_FIFO);
		EXPECT_EQ(me.li_priority, 10);
		EXPECT_EQ(me.li_cpriority, 128 + 10);
		EXPECT_EQ(me.li_cpu, static_cast<int>(lwp::runtime::vcpus()) - 1);
		EXPECT_EQ(me.li_psid, PS_NONE);
		EXPECT_EQ(error_of(_lwp_unpark(parked.lid(), nullptr)), 0);
		EXPECT_EQ(error_of(_lwp_continue(suspended)), 0);
		await_end(parked.lid());
		EXPECT_EQ(state(parked.lid()), LWP_LSZOMB) << "it may still be asked for";
		collect(parked.lid());
		lwpinfo gone;
		EXPECT_EQ(error_of(lwp_info(parked.lid(), &gone)), ESRCH);
		queued.join();
	});
}

TEST(Usage, KernelThreadsAreTold) {
	const counting on;
	std::thread([] {
		const lwpinfo me = info(0);
		EXPECT_EQ(me.li_cpu, -1);
		EXPECT_EQ(me.li_stat, LWP_LSONPROC);
		const std::uint64_t mine = compute(2ms);
		EXPECT_GE(info(0).li_rtime - me.li_rtime, mine);
		EXPECT_EQ(park_for(20ms), ETIMEDOUT);
		EXPECT_GE(info(0).li_nvcsw, me.li_nvcsw + 1);
	}).join();
}

// spec 3.10: it shows its vCPU while it runs, none while it does not, that it has ended; and it counts each time that it comes.
TEST(Usage, AControlBlockShowsEachSwitch) {
	direct(10, [] {
		lwpctl_t *mine = nullptr;
		ASSERT_EQ(error_of(_lwp_ctl(LWPCTL_FEATURE_CURCPU | LWPCTL_FEATURE_PCTR, &mine)), 0);
		lwpctl_t *again = nullptr;
		EXPECT_EQ(error_of(_lwp_ctl(LWPCTL_FEATURE_PCTR, &again)), 0);
		EXPECT_EQ(again, mine);
		EXPECT_EQ(error_of(_lwp_ctl(4, &again)), ENODEV);
		EXPECT_EQ(error_of(_lwp_ctl(0, nullptr)), EINVAL);
		const int vcpu = static_cast<int>(lwp::runtime::vcpus()) - 1;
		EXPECT_EQ(vcpu_of(mine), vcpu);
		int seen = 0;
		bool stop = false;
		lwp::thread other = actor(10, [&] {
			while (!stop) {
				seen += vcpu_of(mine) == LWPCTL_CPU_NONE ? 1 : 0;
				lwp_yield();
			}
		});
		const int before = mine->lc_pctr;
		for (int i = 0; i < 50; i++) {
			lwp_yield();
			EXPECT_EQ(vcpu_of(mine), vcpu);
		}
		expect_about(static_cast<std::uint64_t>(mine->lc_pctr - before), 50);
		EXPECT_GE(seen, 50);
		stop = true;
		other.join();
		expect_about(static_cast<std::uint64_t>(mine->lc_pctr - before), 51);
		subject ends([](subject &) {});
		await_end(ends.lid());
		EXPECT_EQ(vcpu_of(ends.control()), LWPCTL_CPU_EXITED);
		collect(ends.lid());
	});
}
