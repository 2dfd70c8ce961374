// SPDX-License-Identifier: BSD-2-Clause
//
// Affinities and processor sets of random LWPs change at random, while those switch, sleep, wake each other, block their kernel threads, make others and
// end.  Whoever has an affinity that only it sets is never where it may not be; all come through; nothing is left.
// vcpus: 1 2 8
#include <lwp/affinity.hpp>

#include "../support/support.h"

#include <lwp/blocking.hpp>
#include <lwp/usage.hpp>

#include <thread>
#include <vector>

using namespace lwp::test;

namespace {

const bool touched = touch_runtime();

constexpr unsigned crowd = 16;

unsigned vcpus() { return lwp::runtime::vcpus(); }

__attribute__((noinline)) unsigned here() {
	lwpctl_t *block = nullptr;
	(void)_lwp_ctl(LWPCTL_FEATURE_CURCPU, &block);
	return static_cast<unsigned>(vcpu_of(block));
}

lwp::vcpu_set some(dice &d) {
	lwp::vcpu_set s;
	for (unsigned v = 0; v < vcpus(); v++) {
		if (d.one_in(3)) {
			s.insert(v);
		}
	}
	return s;
}

struct storm {
	std::atomic<lwpid_t> lids[crowd]{};
	std::atomic<bool> leave{false};
	std::atomic<std::size_t> strayed{0};
	std::atomic<std::size_t> refused{0};
	lwp::mutex mutex;

	lwpid_t any(dice &d) const { return lids[d.below(crowd)].load(); }

	void set(lwpid_t lid, const lwp::vcpu_set &s) {
		if (lid == 0) {  // that one has not begun; and 0 would be all of them
			return;
		}
		const int error = error_of(_sched_setaffinity(0, lid, sizeof(cpuset_t), &s.native()));
		EXPECT_TRUE(error == 0 || error == EPERM || error == ESRCH) << error;
		refused += error == EPERM ? 1U : 0U;
	}

	/// One thing that LWPs do.
	void act(dice &d) {
		switch (d.below(7)) {
		case 0:
		case 1:
			lwp_yield();
			break;
		case 2:
			(void)park_for(std::chrono::microseconds(d.below(200)));
			break;
		case 3: {
			const std::lock_guard hold(mutex);
			lwp_yield();
			break;
		}
		case 4:
			(void)_lwp_unpark(any(d), nullptr);
			break;
		case 5:
			lwp::blocking([] { std::this_thread::yield(); });
			break;
		default:
			lwp::thread([] { lwp_yield(); }).join();
		}
	}

	/// Is sent around by others.
	void live(unsigned me, std::uint64_t with) {
		dice d(with);
		lids[me] = _lwp_self();
		while (!leave) {
			act(d);
		}
	}

	/// Sets its own, which others leave alone.
	void stay(std::uint64_t with) {
		dice d(with);
		while (!leave) {
			const lwp::vcpu_set mine = some(d);
			const int error = error_of(_sched_setaffinity(0, _lwp_self(), sizeof(cpuset_t), &mine.native()));
			if (error == EPERM) {
				act(d);
				continue;
			}
			EXPECT_EQ(error, 0);
			for (int i = 0; i < 5; i++) {
				if (!mine.empty() && !mine.contains(here())) {
					strayed++;
				}
				act(d);
			}
			EXPECT_EQ(lwp::this_thread::affinity(), mine);
		}
	}

	/// Sends the others around.
	void send(std::uint64_t with, std::size_t n) {
		dice d(with);
		for (std::size_t i = 0; i < n; i++) {
			switch (d.below(8)) {
			case 0:
				(void)pset_bind(PS_NONE, P_LWPID, static_cast<id_t>(any(d)), nullptr);
				break;
			case 1: {
				lwpinfo info;
				const int error = error_of(lwp_info(any(d), &info));
				EXPECT_TRUE(error == 0 || error == ESRCH);
				break;
			}
			case 2:
				set(any(d), {});
				break;
			default:
				set(any(d), some(d));
			}
			lwp_yield();
		}
	}

	/// Makes a set now and then, of whatever vCPUs it gets, for whomever it gets.
	void group(std::uint64_t with) {
		dice d(with);
		while (!leave) {
			lwp::processor_set s;
			for (unsigned i = 0; i < 3; i++) {
				(void)pset_assign(s.native_handle(), d.below(vcpus()), nullptr);
				for (unsigned k = 0; k < 4; k++) {
					(void)pset_bind(s.native_handle(), P_LWPID, static_cast<id_t>(any(d)), nullptr);
					lwp_yield();
				}
				(void)pset_assign(PS_NONE, d.below(vcpus()), nullptr);
				(void)park_for(std::chrono::microseconds(d.below(300)));
			}
		}
	}
};

}  // namespace

TEST(AffinityStorm, NobodyIsLostAndNobodyStrays) {
	dice d(seed());
	storm s;
	std::vector<lwp::thread> all;
	for (unsigned i = 0; i < crowd; i++) {
		all.emplace_back([&s, i, with = d.next()] { s.live(i, with); });
	}
	for (unsigned i = 0; i < 4; i++) {
		all.emplace_back([&s, with = d.next()] { s.stay(with); });
	}
	all.emplace_back([&s, with = d.next()] { s.group(with); });
	std::vector<lwp::thread> senders;
	for (unsigned i = 0; i < 2; i++) {
		senders.emplace_back([&s, with = d.next()] { s.send(with, race_rounds(1'000)); });
	}
	std::thread outside([&s, with = d.next()] { s.send(with, race_rounds(1'000)); });
	for (lwp::thread &t : senders) {
		t.join();
	}
	outside.join();
	s.leave = true;
	for (lwp::thread &t : all) {
		t.join();
	}
	EXPECT_EQ(s.strayed, 0U);
}

// Births and deaths under an affinity that is set while they come and go: each runs once, wherever.
TEST(AffinityStorm, WhoEndsMeanwhileEndsOnce) {
	dice d(seed());
	std::atomic<lwpid_t> young{0};
	std::atomic<bool> leave{false};
	std::atomic<std::size_t> ran{0};
	lwp::thread setter([&, with = d.next()] {
		dice own(with);
		while (!leave) {
			const lwp::vcpu_set s = some(own);
			const lwpid_t lid = young;
			const int error = lid == 0 ? 0 : error_of(_sched_setaffinity(0, lid, sizeof(cpuset_t), &s.native()));
			EXPECT_TRUE(error == 0 || error == ESRCH) << error;
			lwp_yield();
		}
	});
	const std::size_t n = race_rounds(3'000);
	for (std::size_t i = 0; i < n; i++) {
		lwp::thread t([&] {
			young = _lwp_self();
			lwp_yield();
			ran++;
		});
		if (d.one_in(2)) {
			young = t.native_handle();
		}
		t.join();
	}
	leave = true;
	setter.join();
	EXPECT_EQ(ran, n);
}
