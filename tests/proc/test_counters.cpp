// SPDX-License-Identifier: BSD-2-Clause
//
// The proc's counters at each step of a life, the invariant that ties them to the states, and ids when the numbers run out.
// vcpus: 1 2 8
#include "proc/lwp_life.h"
#include "proc/runtime.h"

#include "../support/support.h"

#include <algorithm>
#include <climits>
#include <ostream>
#include <thread>
#include <vector>

using namespace lwp::test;
using namespace lwp::kern;

namespace {

const bool touched = touch_runtime();

struct counters {
	long nlwps, nzlwps, nrlwps, ndlwps, nlwpwait;
	friend bool operator==(const counters &, const counters &) = default;
	friend std::ostream &operator<<(std::ostream &out, const counters &c) {
		return out << "nlwps " << c.nlwps << " nzlwps " << c.nzlwps << " nrlwps " << c.nrlwps << " ndlwps " << c.ndlwps << " nlwpwait "
		           << c.nlwpwait;
	}
};

/// The counters as they are, and what they should be by the states and flags of all LWPs.
struct survey {
	counters c{};
	long idl = 0, stop = 0, suspended = 0, zomb = 0, detached = 0, entries = 0;
};

survey look_around() {
	survey s;
	const proc_scope hold(&proc0, curlwp()->l_cpu);
	const auto number = [](std::size_t n) { return static_cast<long>(n); };
	const proc_counts c = proc_count(&proc0);
	s.c = {number(c.nlwps), number(c.nzlwps), number(c.nrlwps), number(c.ndlwps), number(c.nlwpwait)};
	proc_each_part(&proc0, [&s](procpart &pp) {
		pp.pp_lwps.for_each([&s, &pp](lid_node *node) {
			const auto *l = static_cast<const lwp_t *>(node);
			const lwp_stat state = lwp_state(l);
			EXPECT_EQ(l->l_part, &pp);
			EXPECT_EQ(proc_part(&proc0, lwp_lid(l)), &pp);
			s.entries++;
			s.idl += state == lwp_stat::idl;
			s.stop += state == lwp_stat::stop;
			s.suspended += state == lwp_stat::suspended;
			s.zomb += state == lwp_stat::zomb;
			s.detached += (l->l_prflag & LPR_DETACHED) != 0;
		});
	});
	return s;
}

/// Of a moment when nobody is being made: what spec section 0.4 asks for.
void expect_invariant(const survey &s) {
	EXPECT_EQ(s.c.nlwps, s.entries);
	EXPECT_EQ(s.c.nrlwps + s.idl + s.stop + s.suspended + s.zomb, s.c.nlwps) << s.c;
	EXPECT_GE(s.c.nzlwps, s.zomb) << s.c;
	EXPECT_EQ(s.c.ndlwps, s.detached) << s.c;
	EXPECT_LE(s.c.nlwpwait, s.c.nrlwps) << s.c;
}

/// Dead detached LWPs may lie in the slots of the parts; they are not what these tests count.
void empty_the_slot() {
	for (unsigned v = 0; v < lwp::runtime::vcpus(); v++) {
		// Making one takes the slot of that vCPU's part, being collected leaves it empty.
		lwp::thread({.vcpu = static_cast<int>(v)}, [] { collect(spawn([] {})); }).join();
	}
	const proc_scope hold(&proc0, curlwp()->l_cpu);
	proc_each_part(&proc0, [](const procpart &pp) { EXPECT_EQ(pp.pp_zomblwp.load(), nullptr); });
}

/// What has been added to the counters since `before`.
counters since(const counters &before) {
	const survey s = look_around();
	expect_invariant(s);
	return {s.c.nlwps - before.nlwps, s.c.nzlwps - before.nzlwps, s.c.nrlwps - before.nrlwps, s.c.ndlwps - before.ndlwps,
	    s.c.nlwpwait - before.nlwpwait};
}

void unpark(lwpid_t lid) { EXPECT_EQ(lwp_unpark(curlwp(), lid), 0); }

}  // namespace

TEST(Counters, OfTheFirstLwpAlone) {
	empty_the_slot();
	const survey s = look_around();
	EXPECT_EQ(s.c, (counters{1, 0, 1, 0, 0}));
	expect_invariant(s);
}

TEST(Counters, OfAJoinableLife) {
	empty_the_slot();
	const counters before = look_around().c;
	subject s([](subject &self) { self.park_once(); });
	EXPECT_EQ(since(before), (counters{1, 0, 1, 0, 0})) << "made";
	s.await_blocked();
	EXPECT_EQ(since(before), (counters{1, 0, 1, 0, 0})) << "asleep is likely to run";
	EXPECT_EQ(lwp_suspend(curlwp(), s.lid()), 0);
	EXPECT_EQ(since(before), (counters{1, 0, 0, 0, 0})) << "suspended";
	EXPECT_EQ(lwp_suspend(curlwp(), s.lid()), 0);
	EXPECT_EQ(since(before), (counters{1, 0, 0, 0, 0})) << "suspended again";
	EXPECT_EQ(lwp_continue(curlwp(), s.lid()), 0);
	EXPECT_EQ(since(before), (counters{1, 0, 1, 0, 0})) << "continued";
	EXPECT_EQ(lwp_continue(curlwp(), s.lid()), 0);
	await_end(s.lid());
	EXPECT_EQ(since(before), (counters{1, 1, 0, 0, 0})) << "a zombie";
	collect(s.lid());
	EXPECT_EQ(since(before), (counters{0, 0, 0, 0, 0})) << "collected";
}

TEST(Counters, OfALifeThatBeginsSuspended) {
	empty_the_slot();
	const counters before = look_around().c;
	std::atomic<bool> ran{false};
	const lwpid_t lid = spawn([&ran] { ran = true; }, LWP_SUSPENDED);
	EXPECT_EQ(since(before), (counters{1, 0, 0, 0, 0}));
	{
		const proc_scope hold(&proc0, curlwp()->l_cpu);
		lwp_t *l = lwp_find(&proc0, lid);
		ASSERT_NE(l, nullptr);
		EXPECT_EQ(lwp_state(l), lwp_stat::suspended);
		EXPECT_EQ(l->l_mutex.load()->rank(), lock_rank::vcpu_lwp) << "quirk Q2";
	}
	lwp_yield();
	EXPECT_FALSE(ran);
	EXPECT_EQ(lwp_continue(curlwp(), lid), 0);
	await_end(lid);
	EXPECT_TRUE(ran);
	EXPECT_EQ(since(before), (counters{1, 1, 0, 0, 0}));
	collect(lid);
	EXPECT_EQ(since(before), (counters{0, 0, 0, 0, 0}));
}

TEST(Counters, OfADetachedLife) {
	empty_the_slot();
	const counters before = look_around().c;
	for (const bool born_so : {true, false}) {
		subject s([](subject &self) { self.park_once(); }, born_so ? LWP_DETACHED : 0);
		if (!born_so) {
			EXPECT_EQ(since(before), (counters{1, 0, 1, 0, 0}));
			EXPECT_EQ(lwp_detach(curlwp(), s.lid()), 0);
		}
		EXPECT_EQ(since(before), (counters{1, 0, 1, 1, 0}));
		unpark(s.lid());
		await_end(s.lid());
		EXPECT_EQ(since(before), (counters{1, 1, 0, 1, 0})) << "it lies in the slot";
		empty_the_slot();
		EXPECT_EQ(since(before), (counters{0, 0, 0, 0, 0})) << "recycled";
	}
}

TEST(Counters, OfADetachedZombie) {
	empty_the_slot();
	const counters before = look_around().c;
	const lwpid_t lid = make_zombie();
	EXPECT_EQ(since(before), (counters{1, 1, 0, 0, 0}));
	EXPECT_EQ(lwp_detach(curlwp(), lid), 0);
	EXPECT_EQ(since(before), (counters{0, 0, 0, 0, 0}));
}

TEST(Counters, OfAWait) {
	empty_the_slot();
	const counters before = look_around().c;
	subject target([](subject &self) { self.park_once(); });
	target.await_blocked();
	for (const bool any : {false, true}) {
		// Told to wait for any, the waiters must not find each other: they are detached.
		subject waiter(
		    [&](subject &self) {
			    self.about_to_block();
			    lwpid_t departed = 0;
			    self.set_result(lwp_wait1(curlwp(), any ? 0 : target.lid(), &departed));
			    lwp_userret(curlwp());
		    },
		    LWP_DETACHED);
		waiter.await_blocked();
		EXPECT_EQ(since(before), (counters{2, 0, 2, 1, 1}));
		// A suspend takes it out of its wait.
		EXPECT_EQ(lwp_suspend(curlwp(), waiter.lid()), 0);
		EXPECT_EQ(since(before), (counters{2, 0, 1, 1, 0}));
		EXPECT_EQ(waiter.result(), ERESTART);
		EXPECT_EQ(lwp_continue(curlwp(), waiter.lid()), 0);
		await_end(waiter.lid());
		empty_the_slot();
	}
	EXPECT_EQ(since(before), (counters{1, 0, 1, 0, 0}));
	subject waiter(
	    [&](subject &self) {
		    self.about_to_block();
		    lwpid_t departed = 0;
		    self.set_result(lwp_wait1(curlwp(), target.lid(), &departed));
	    },
	    LWP_DETACHED);
	waiter.await_blocked();
	unpark(target.lid());
	await_end(waiter.lid());
	EXPECT_EQ(waiter.result(), 0);
	empty_the_slot();
	EXPECT_EQ(since(before), (counters{0, 0, 0, 0, 0}));
}

TEST(Counters, OfAKernelThreadFromOutside) {
	empty_the_slot();
	const counters before = look_around().c;
	gate adopted;
	std::atomic<bool> end{false};
	std::thread outside([&] {
		(void)_lwp_self();
		adopted.open();
		while (!end) {
			std::this_thread::yield();
		}
	});
	adopted.pass();
	EXPECT_EQ(since(before), (counters{1, 0, 1, 1, 0})) << "it runs and nobody waits for it";
	end = true;
	outside.join();
	EXPECT_EQ(since(before), (counters{0, 0, 0, 0, 0}));
}

TEST(Counters, RefusedCreationLeavesThemAsTheyWere) {
	empty_the_slot();
	const counters before = look_around().c;
	lwp_t *l = nullptr;
	EXPECT_EQ(newlwp(curlwp(), {.stack_size = 1}, &l), EINVAL);
	EXPECT_EQ(newlwp(curlwp(), {.vcpu = 100000}, &l), EINVAL);
	EXPECT_EQ(newlwp(curlwp(), {.priority = 64}, &l), EINVAL);
	EXPECT_EQ(newlwp(curlwp(), {.policy = 3}, &l), EINVAL);
	EXPECT_EQ(since(before), (counters{0, 0, 0, 0, 0}));
	ASSERT_EQ(newlwp(curlwp(), {}, &l), 0);
	EXPECT_EQ(since(before), (counters{0, 0, 0, 0, 0})) << "it is in no table yet";
	lwp_abandon(l);
	EXPECT_EQ(since(before), (counters{0, 0, 0, 0, 0}));
}

// Behaviour 11.
TEST(Counters, ComeBackAfterManyDetachedLives) {
	const std::size_t n = rounds(100000);
	std::atomic<std::size_t> ended{0};
	for (std::size_t k = 0; k < n; k++) {
		spawn([&ended] { ended++; }, LWP_DETACHED);
		if (k % 16 == 0) {
			lwp_yield();
		}
	}
	EXPECT_TRUE(wait_until([] { return look_around().c.nrlwps == 1; }));
	EXPECT_EQ(ended, n);
	EXPECT_LE(look_around().c.nlwps, 1 + static_cast<long>(proc_nparts(&proc0))) << "at most one lies in each slot";
	empty_the_slot();
	EXPECT_EQ(look_around().c, (counters{1, 0, 1, 0, 0}));
}

// While LWPs live and die on all vCPUs, one that looks on finds the counters in step with the states at every moment.  A creator counts before
// the state is set: of the LSIDL some may be counted as running already.
TEST(Counters, InvariantHoldsWhileLwpsComeAndGo) {
	std::atomic<bool> stop{false};
	std::vector<lwpid_t> busy;
	for (int i = 0; i < 4; i++) {
		busy.push_back(spawn([&stop, i] {
			dice r(static_cast<std::uint64_t>(i));
			while (!stop) {
				const lwpid_t lid = spawn([] { lwp_yield(); }, r.one_in(3) ? LWP_SUSPENDED : 0);
				if (r.one_in(3)) {
					EXPECT_EQ(error_of(_lwp_suspend(lid)) & ~ESRCH, 0);
				}
				EXPECT_EQ(error_of(_lwp_continue(lid)) & ~ESRCH, 0);
				if (r.one_in(3)) {
					EXPECT_EQ(error_of(_lwp_detach(lid)), 0);
				} else {
					collect(lid);
				}
				lwp_yield();
			}
		}));
	}
	const std::size_t n = rounds(5000);
	for (std::size_t k = 0; k < n; k++) {
		const survey s = look_around();
		ASSERT_EQ(s.c.nlwps, s.entries);
		const long counted = s.c.nrlwps + s.stop + s.suspended + s.zomb;
		ASSERT_LE(counted, s.c.nlwps) << s.c;
		ASSERT_GE(counted + s.idl, s.c.nlwps) << s.c;
		ASSERT_EQ(s.c.ndlwps, s.detached) << s.c;
		ASSERT_GE(s.c.nzlwps, s.zomb) << s.c;
		ASSERT_LE(s.c.nlwpwait, s.c.nrlwps) << s.c;
		lwp_yield();
	}
	stop = true;
	for (const lwpid_t lid : busy) {
		collect(lid);
	}
}

namespace {

/// From now on the numbers of all parts continue from `next`; the destructor puts the old places back.
class numbers_from {
public:
	explicit numbers_from(std::uint64_t next) {
		const proc_scope hold(&proc0, curlwp()->l_cpu);
		proc_each_part(&proc0, [&](procpart &pp) {
			before_.push_back(pp.pp_nextlid);
			pp.pp_nextlid = next + ((pp.pp_index - next) & (proc_nparts(&proc0) - 1));
		});
		made_ = curlwp()->l_made;
		curlwp()->l_made = 0;
	}
	~numbers_from() {
		const proc_scope hold(&proc0, curlwp()->l_cpu);
		proc_each_part(&proc0, [&](procpart &pp) { pp.pp_nextlid = before_[pp.pp_index]; });
		curlwp()->l_made = made_;
	}
	numbers_from(const numbers_from &) = delete;
	numbers_from &operator=(const numbers_from &) = delete;
	std::uint64_t before(unsigned part) const { return before_[part]; }

private:
	std::vector<std::uint64_t> before_;
	std::uint64_t made_;
};

}  // namespace

// Behaviour 31.
TEST(Ids, GoOnFromOneAfterTheLargestAndPassOverTheLiving) {
	// All in the last part, by an LWP that stays there.
	lwp::thread({.vcpu = static_cast<int>(lwp::runtime::vcpus()) - 1}, [] {
		const auto stride = static_cast<lwpid_t>(proc_nparts(&proc0));
		const procpart *pp = curlwp()->l_cpu->vc_part;
		const auto id = [&](lwpid_t k) { return static_cast<lwpid_t>(pp->pp_index) + 1 + k * stride; };
		// Some low ids that live: sleepers', a zombie's and a suspended one's.
		std::vector<lwpid_t> living;
		lwpid_t zombie = 0;
		{
			const numbers_from low(2 * static_cast<std::uint64_t>(stride));
			ASSERT_LT(id(6), low.before(pp->pp_index)) << "ids that were handed out already, so that nobody else has them";
			for (int i = 0; i < 2; i++) {
				living.push_back(spawn([] { (void)park(); }));
			}
			living.push_back(zombie = make_zombie());
			living.push_back(spawn([] { (void)park(); }, LWP_SUSPENDED));
		}
		ASSERT_EQ(living, (std::vector<lwpid_t>{id(2), id(3), id(4), id(5)}));

		// Of the last part the largest number of all is no id.
		const std::int64_t end = (std::int64_t{1} << 31) / stride;
		const bool none = pp->pp_index + 1 == proc_nparts(&proc0);
		const auto last = static_cast<lwpid_t>(none ? end - 2 : end - 1);
		std::vector<lwpid_t> wrapped;
		std::vector<lwpid_t> expected = {id(last - 1), id(last)};
		{
			const numbers_from high(static_cast<std::uint64_t>(id(last - 1)) - 1);
			for (int i = 0; i < 7; i++) {
				wrapped.push_back(spawn([] {}));
			}
		}
		// Ids 0 and 1 of this part may be those of LWPs that live: main's, or ours.
		for (lwpid_t k = 0; expected.size() < wrapped.size(); k++) {
			if (std::find(living.begin(), living.end(), id(k)) == living.end() && (id(k) == wrapped[expected.size()] || !alive(id(k)))) {
				expected.push_back(id(k));
			}
		}
		EXPECT_EQ(wrapped, expected) << "never 0, never negative, never one that lives";
		for (const lwpid_t lid : wrapped) {
			EXPECT_GT(lid, 0);
			collect(lid);
		}
		EXPECT_EQ(lwp_continue(curlwp(), living[3]), 0);
		for (const lwpid_t lid : living) {
			if (lid != zombie) {
				unpark(lid);
			}
			collect(lid);
		}
	}).join();
}

// A kernel thread keeps its id over runtimes with any number of parts: it is always one of part 0.
TEST(Ids, OfAKernelThreadFromOutsideIsOfTheFirstPartHoweverManyThereAre) {
	lwpid_t last = 0;
	for (int i = 0; i < 5; i++) {
		lwpid_t outside = 0;
		std::thread([&outside] { outside = _lwp_self(); }).join();
		EXPECT_EQ(outside % static_cast<lwpid_t>(part_max), 1);
		EXPECT_GT(outside, last);
		last = outside;
		collect(spawn([] {}));
	}
}

// An LWP that makes others on one vCPU and then on another gives them rising ids, all above its own.
TEST(Ids, OfOneCreatorRiseWhereverItRuns) {
	const unsigned n = lwp::runtime::vcpus();
	for (unsigned v = 0; v < n; v++) {  // so that the parts' counters are apart
		lwp::thread({.vcpu = static_cast<int>(v)}, [&, v] {
			for (unsigned k = 0; k < 100 * (n - v); k++) {
				collect(spawn([] {}));
			}
		}).join();
	}
	lwp::thread([&] {
		lwpid_t before = lwp_lid(curlwp());
		for (int k = 0; k < 1000; k++) {
			lwp_move_to(curlwp(), static_cast<std::int16_t>(static_cast<unsigned>(k * 5) % n));
			const lwpid_t lid = spawn([before] { EXPECT_GT(lwp_lid(curlwp()), before); });
			EXPECT_GT(lid, before);
			before = lid;
			collect(lid);
		}
	}).join();
}
