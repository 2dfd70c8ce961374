// SPDX-License-Identifier: BSD-2-Clause
//
// Stops, worlds, signals, suspends, births and deaths at random, all at once: behaviour 43's storm with what test_storm.cpp has not.  Checked are
// the counters (one LWP of the storm does nothing else), that all come through, and that every hand-over and every wait has exactly its result.
// vcpus: 1 2 8
// computes: one looks at the counters all the time, others come from outside
#include "proc/proc.h"
#include "proc/runtime.h"

#include "../support/support.h"

#include <lwp/proc.h>
#include <lwp/proc.hpp>
#include <lwp/signal.h>

#include <csignal>
#include <thread>
#include <vector>

using namespace lwp::test;

namespace {

const bool touched = touch_runtime();

std::atomic<std::size_t> handled{0};

/// The counters of the proc against the states that they count, as they are at any moment (spec section 0.4).  False: they do not agree.
bool counters_are_right() {
	using namespace lwp::kern;
	std::size_t all = 0;
	std::size_t born = 0;
	std::size_t still = 0;
	std::size_t dead = 0;
	std::size_t detached = 0;
	const proc_scope hold(&proc0, curlwp()->l_cpu);
	proc_each_part(&proc0, [&](procpart &pp) {
		pp.pp_lwps.for_each([&](lid_node *node) {
			const auto *l = static_cast<const lwp_t *>(node);
			const lwp_stat state = lwp_state(l);
			all++;
			born += state == lwp_stat::idl ? 1U : 0U;
			still += state == lwp_stat::stop || state == lwp_stat::suspended ? 1U : 0U;
			dead += state == lwp_stat::zomb ? 1U : 0U;
			detached += (l->l_prflag & LPR_DETACHED) != 0 ? 1U : 0U;
		});
	});
	const proc_counts c = proc_count(&proc0);
	const std::size_t counted = c.nrlwps + still + dead;
	// Who is LSIDL may be counted as running already, or not yet.
	return c.nlwps == all && counted <= all && counted + born >= all && c.ndlwps == detached && c.nzlwps >= dead && c.nlwpwait <= c.nrlwps;
}

constexpr int crowd = 12;

struct storm {
	std::atomic<lwpid_t> lids[crowd]{};
	std::atomic<bool> leave{false};
	std::atomic<std::size_t> sent{0};
	std::atomic<std::size_t> received{0};
	std::atomic<std::size_t> born{0};
	std::atomic<std::size_t> collected{0};
	lwp::channel<int> channel{2};
	lwp::mutex mutex;
	std::size_t guarded = 0;

	lwpid_t any(dice &d) const { return lids[d.below(crowd)].load(); }

	/// One of the crowd: sleeps in every way there is, and is done all kinds of things to.
	void live(std::uint64_t seed) {
		dice d(seed);
		while (!leave.load()) {
			switch (d.below(7)) {
			case 0:
				(void)park_for(std::chrono::microseconds(d.below(300)));
				break;
			case 1: {
				const std::lock_guard lock(mutex);
				guarded++;
				lwp_yield();
				break;
			}
			case 2:
				if (channel.try_send(1)) {
					sent.fetch_add(1);
				}
				break;
			case 3:
				if (channel.try_receive()) {
					received.fetch_add(1);
				}
				break;
			case 4: {
				const lwpid_t child = spawn([this] { born.fetch_add(1); });
				(void)_lwp_continue(child);  // one that is to be suspended itself makes suspended ones; it may have ended
				int error;
				while ((error = error_of(_lwp_wait(child, nullptr))) == EINTR) {
				}
				EXPECT_EQ(error, 0);
				collected.fetch_add(1);
				break;
			}
			case 5:
				lwp::this_thread::sleep_for(std::chrono::microseconds(d.below(200)));
				break;
			default:
				lwp_yield();
			}
		}
	}

	/// What is done to them.
	void blow(dice &d) {
		switch (d.below(6)) {
		case 0:
			(void)_lwp_kill(any(d), SIGUSR1);
			break;
		case 1:
			(void)lwp_proc_kill(SIGUSR2);
			break;
		case 2: {
			const lwpid_t lid = any(d);
			(void)_lwp_suspend(lid);
			lwp_yield();
			(void)_lwp_continue(lid);
			break;
		}
		case 3:
			(void)_lwp_unpark(any(d), nullptr);
			break;
		case 4: {
			const lwp::stop_the_world world;
			const std::size_t before = received.load();
			lwp_yield();
			EXPECT_EQ(received.load(), before);
			break;
		}
		default:
			(void)_lwp_wakeup(any(d));
		}
	}
};

}  // namespace

TEST(StopStorm, EverythingAtOnce) {
	struct sigaction act {};
	act.sa_handler = [](int) {
		handled.fetch_add(1);
		lwp_yield();
	};
	act.sa_flags = SA_RESTART;
	for (const int sig : {SIGUSR1, SIGUSR2}) {
		ASSERT_EQ(error_of(lwp_sigaction(sig, &act, nullptr)), 0);
	}
	const std::uint64_t first = seed();
	storm s;
	for (int i = 0; i < crowd; i++) {
		s.lids[i] = spawn([&s, first, i] { s.live(first + static_cast<std::uint64_t>(i)); });
	}
	std::atomic<std::size_t> looks{0};
	std::atomic<std::size_t> wrong{0};
	const lwpid_t checker = spawn([&] {
		while (!s.leave.load()) {
			wrong.fetch_add(counters_are_right() ? 0 : 1);
			looks.fetch_add(1);
			lwp_yield();
		}
	});
	// From outside: the proc is stopped and continued.
	// Each on a kernel thread that has not come here yet.  The next stop may catch it at its own boundary: so nobody waits for one.
	std::atomic<bool> enough{false};
	std::atomic<int> helpers{0};
	std::thread outside([&] {
		while (!enough.load() || helpers.load() != 0) {
			helpers.fetch_add(1);
			std::thread([&helpers] {
				(void)lwp_proc_continue();
				helpers.fetch_sub(1);
			}).detach();
			// The more have not come through, the fewer follow: where they come faster than they are adopted, each makes all the others slower.
			std::this_thread::sleep_for(std::chrono::milliseconds(1 + helpers.load() / 8));
			if (enough.load()) {  // no more stops: they come through
				while (helpers.load() != 0) {
					std::this_thread::yield();
				}
			}
		}
	});
	dice d(first ^ 0xabcdef);
	for (std::size_t i = race_rounds(lwp::runtime::vcpus() > 2 ? 1000 : 3000); i > 0; i--) {
		d.one_in(20) ? (void)lwp_proc_stop() : s.blow(d);
	}
	s.leave = true;
	for (auto &lid : s.lids) {
		(void)_lwp_continue(lid.load());
		collect(lid.load());
	}
	collect(checker);
	enough = true;
	outside.join();
	while (s.channel.try_receive()) {
		s.received.fetch_add(1);
	}
	EXPECT_EQ(wrong.load(), 0U) << "of " << looks.load() << " looks at the counters";
	EXPECT_GT(looks.load(), 0U);
	EXPECT_EQ(s.sent.load(), s.received.load());
	EXPECT_EQ(s.born.load(), s.collected.load());
	EXPECT_GT(handled.load(), 0U);
	const struct sigaction plain {};
	for (const int sig : {SIGUSR1, SIGUSR2}) {
		EXPECT_EQ(error_of(lwp_sigaction(sig, &plain, nullptr)), 0);
	}
}
