// SPDX-License-Identifier: BSD-2-Clause
//
// A random storm of everything that LWPs can do to each other.  Loops that are each aimed at one race are in test_race.cpp.
// LWP_SEED repeats a storm's choices (not its timing), LWP_STRESS makes everything that many times longer.
// A debug build checks the process counters and the lock ranks all along; here we check results and that nothing is left.
// vcpus: 1 2 8
#include "../support/support.h"

#include <algorithm>
#include <memory>
#include <thread>
#include <vector>

using namespace lwp::test;
using namespace std::chrono_literals;

namespace {

const bool touched = touch_runtime();

int create(void (*start)(void *), void *argument, unsigned long flags, lwpid_t *lid) {
	ucontext_t context;
	_lwp_makecontext(&context, start, argument, nullptr, nullptr, 0);
	return error_of(_lwp_create(&context, flags, lid));
}

int wait_for(lwpid_t lid, lwpid_t *departed = nullptr) { return error_of(_lwp_wait(lid, departed)); }

// ---- the storm ---------------------------------------------------------------------------------------------------------

constexpr unsigned actors = 24;                                // LWPs that do things to others
constexpr unsigned foreign_actors = 3;                         // kernel threads that do
constexpr std::size_t most_living = LWP_TEST_TSAN ? 60 : 300;  // ThreadSanitizer keeps a history of each

struct storm;

/// One short-lived LWP.
struct mayfly {
	storm *world = nullptr;
	std::uint64_t seed = 0;
	std::atomic<lwpid_t> lid{0};
	std::atomic<int> runs{0};
	std::atomic<bool> ended{false};
};

struct actor {
	storm *world = nullptr;
	std::uint64_t seed = 0;
	std::atomic<lwpid_t> lid{0};
	std::atomic<bool> ended{false};
};

struct storm {
	explicit storm(std::uint64_t s, std::size_t n) : seed(s), flies(n), collected(16 * n) {}
	std::uint64_t seed;
	std::vector<mayfly> flies;
	std::vector<std::atomic<int>> collected;  // times, by id less the first
	lwpid_t first = 0;
	std::atomic<std::size_t> made{0};     // flies handed out to creators
	std::atomic<std::size_t> created{0};  // those that became LWPs
	std::atomic<std::size_t> ended{0};
	std::atomic<std::size_t> reaped{0};  // detached or collected
	std::atomic<std::size_t> set_values{0};
	std::atomic<std::size_t> destroyed_values{0};
	std::atomic<std::size_t> operations{0};
	std::atomic<bool> stop{false};
	std::vector<actor> green = std::vector<actor>(actors);
	std::vector<actor> foreign = std::vector<actor>(foreign_actors);
	lwp_tss_t key{};

	std::size_t living() const { return created.load() - ended.load(); }
	/// Any fly made lately, or an actor; 0 if there is none.
	lwpid_t anybody(dice &r) {
		if (r.one_in(8)) {
			return r.one_in(4) ? foreign[r.below(foreign_actors)].lid.load() : green[r.below(actors)].lid.load();
		}
		mayfly *fly = any_fly(r);
		return fly != nullptr ? fly->lid.load() : 0;
	}
	mayfly *any_fly(dice &r) {
		const std::size_t n = std::min(made.load(), flies.size());
		const std::size_t window = std::min<std::size_t>(n, 2 * most_living);
		return n == 0 ? nullptr : &flies[n - 1 - r.next() % window];
	}
};

storm *the_storm;  // for destructors of specific data

template <class... Errors>
void expect_one_of(const char *call, int got, Errors... allowed) {
	EXPECT_TRUE(((got == allowed) || ...)) << call << ": " << got;
}

void fly(void *argument) {
	auto &self = *static_cast<mayfly *>(argument);
	storm &world = *self.world;
	dice r(self.seed);
	self.runs.fetch_add(1);
	EXPECT_GT(_lwp_self(), 0);
	if (r.one_in(2)) {
		world.set_values.fetch_add(1);
		EXPECT_EQ(lwp_tss_set(world.key, &self), 0);
	}
	for (unsigned n = r.below(6); n > 0; --n) {
		switch (r.below(5)) {
		case 0:
			lwp_yield();
			break;
		case 1:
			expect_one_of("park", park_for(std::chrono::nanoseconds(r.below(100000))), 0, EALREADY, ETIMEDOUT, EINTR);
			break;
		case 2:
			expect_one_of("park for ever", park(), 0, EALREADY, EINTR);
			break;
		case 3:
			lwp::this_thread::sleep_for(std::chrono::nanoseconds(r.below(50000)));
			break;
		case 4:
			expect_one_of("suspend oneself", error_of(_lwp_suspend(_lwp_self())), 0, EDEADLK, EINTR);
			break;
		}
	}
	self.ended.store(true);
	world.ended.fetch_add(1);
	if (r.one_in(3)) {
		_lwp_exit();
	}
}

int wait_and_check(storm &world, lwpid_t lid) {
	lwpid_t departed = 0;
	const int error = wait_for(lid, &departed);
	expect_one_of("wait", error, 0, ESRCH, EDEADLK, EINTR);
	if (error != 0) {
		return error;
	}
	world.reaped.fetch_add(1);
	EXPECT_TRUE(lid == 0 || departed == lid);
	const auto at = static_cast<std::size_t>(departed - world.first);
	EXPECT_LT(at, world.collected.size());
	EXPECT_EQ(world.collected[at % world.collected.size()].fetch_add(1), 0) << "LWP " << departed << " was collected twice";
	return 0;
}

void create_fly(storm &world, dice &r) {
	if (world.living() >= most_living) {
		lwp_yield();
		return;
	}
	if (world.created.load() - world.reaped.load() >= 2 * most_living) {
		(void)wait_and_check(world, 0);
		return;
	}
	const std::size_t at = world.made.fetch_add(1);
	if (at >= world.flies.size()) {
		world.made.store(world.flies.size());
		lwp_yield();
		return;
	}
	mayfly &f = world.flies[at];
	f.world = &world;
	f.seed = r.next();
	const unsigned long flags = (r.one_in(3) ? LWP_DETACHED : 0) | (r.one_in(4) ? LWP_SUSPENDED : 0);
	if ((flags & LWP_DETACHED) != 0) {
		world.reaped.fetch_add(1);
	}
	lwpid_t lid = 0;
	world.created.fetch_add(1);
	EXPECT_EQ(create(fly, &f, flags, &lid), 0);
	f.lid.store(lid);
}

void act_once(storm &world, dice &r, bool foreign) {
	const lwpid_t target = world.anybody(r);
	if (target == 0) {
		create_fly(world, r);
		return;
	}
	switch (r.below(16)) {
	case 0:
	case 1:
	case 2:
	case 3:
		create_fly(world, r);
		break;
	case 4: {
		mayfly *f = world.any_fly(r);
		(void)wait_and_check(world, r.one_in(4) || f == nullptr ? 0 : f->lid.load());
		break;
	}
	case 5:
		if (mayfly *f = world.any_fly(r); f != nullptr && f->lid.load() != 0) {
			const int error = error_of(_lwp_detach(f->lid.load()));
			expect_one_of("detach", error, 0, ESRCH, EINVAL);
			if (error == 0) {
				world.reaped.fetch_add(1);
			}
		}
		break;
	case 6:
	case 7:
		expect_one_of("suspend", error_of(_lwp_suspend(target)), 0, ESRCH, EDEADLK, EINTR);
		break;
	case 8:
	case 9:
		expect_one_of("continue", error_of(_lwp_continue(target)), 0, ESRCH);
		break;
	case 10:
	case 11:
		expect_one_of("unpark", error_of(_lwp_unpark(target, nullptr)), 0, ESRCH);
		break;
	case 12:
		expect_one_of("wakeup", error_of(_lwp_wakeup(target)), 0, ESRCH, ENODEV, EBUSY);
		break;
	case 13: {
		timespec ts{0, static_cast<long>(r.below(60000))};
		const lwpid_t unparked = r.one_in(2) ? 0 : target;
		expect_one_of(
		    "park", error_of(_lwp_park(CLOCK_MONOTONIC, 0, &ts, unparked, nullptr, nullptr)), 0, EALREADY, ETIMEDOUT, EINTR, ESRCH);
		break;
	}
	case 14: {
		char name[LWP_MAXNAME];
		expect_one_of("kill", error_of(_lwp_kill(target, 0)), 0, ESRCH);
		expect_one_of("setname", error_of(_lwp_setname(target, "stormy")), 0, ESRCH);
		expect_one_of("getname", error_of(_lwp_getname(target, name, sizeof(name))), 0, ESRCH);
		break;
	}
	default:
		lwp_yield();
		if (foreign) {
			std::this_thread::yield();
		}
		break;
	}
	world.operations.fetch_add(1, std::memory_order_relaxed);
}

void act(actor &self, bool foreign) {
	self.lid.store(_lwp_self());
	dice r(self.seed);
	while (!self.world->stop.load()) {
		act_once(*self.world, r, foreign);
	}
	self.ended.store(true);
}

/// Keeps the storm alive: continues, unparks and interrupts whoever may be stuck; all of them when `everybody`.
class healer {
public:
	explicit healer(storm &world) : world_(world), r_(world.seed ^ 0x1234) {}
	void heal(bool everybody) {
		const std::size_t n = std::min(world_.made.load(), world_.flies.size());
		while (low_ < n && world_.flies[low_].ended.load()) {
			++low_;
		}
		for (std::size_t i = low_; i < n; ++i) {
			if (!world_.flies[i].ended.load() && (everybody || r_.one_in(4))) {
				heal_one(world_.flies[i].lid.load(), everybody || r_.one_in(2));
			}
		}
		for (auto *group : {&world_.green, &world_.foreign}) {
			for (actor &a : *group) {
				if (everybody || r_.one_in(4)) {
					heal_one(a.lid.load(), everybody || r_.one_in(8));
				}
			}
		}
	}

private:
	static void heal_one(lwpid_t lid, bool wake) {
		if (lid == 0) {
			return;
		}
		expect_one_of("continue", error_of(_lwp_continue(lid)), 0, ESRCH);
		if (wake) {
			expect_one_of("unpark", error_of(_lwp_unpark(lid, nullptr)), 0, ESRCH);
			expect_one_of("wakeup", error_of(_lwp_wakeup(lid)), 0, ESRCH, ENODEV, EBUSY);
		}
	}
	storm &world_;
	dice r_;
	std::size_t low_ = 0;
};

bool all_ended(const std::vector<actor> &group) {
	return std::all_of(group.begin(), group.end(), [](const actor &a) { return a.ended.load(); });
}

}  // namespace

// Behaviour 43.
TEST(Storm, EverybodyDoesEverythingToEverybody) {
	auto world = std::make_unique<storm>(seed(), 400000U * stress());
	the_storm = world.get();
	ASSERT_EQ(lwp_tss_create(&world->key, [](void *) { the_storm->destroyed_values.fetch_add(1); }), 0);
	dice r(world->seed);
	for (actor &a : world->green) {
		a.world = world.get();
		a.seed = r.next();
		lwpid_t lid = 0;
		ASSERT_EQ(create([](void *p) { act(*static_cast<actor *>(p), false); }, &a, LWP_SUSPENDED, &lid), 0);
		a.lid.store(lid);
		world->first = world->first == 0 ? lid : world->first;
	}
	for (const actor &a : world->green) {
		ASSERT_EQ(error_of(_lwp_continue(a.lid.load())), 0);
	}
	std::vector<std::thread> kernel_threads;
	for (actor &a : world->foreign) {
		a.world = world.get();
		a.seed = r.next();
		kernel_threads.emplace_back([&a] { act(a, true); });
	}

	healer h(*world);
	const auto end = std::chrono::steady_clock::now() + 2s * stress();
	while (std::chrono::steady_clock::now() < end) {
		h.heal(false);
		for (int i = 0; i < 20; ++i) {
			lwp_yield();
		}
	}
	world->stop.store(true);
	// Actors first: then nobody does anything to anybody any more, and what we undo stays undone.
	EXPECT_TRUE(wait_until([&] {
		h.heal(true);
		return all_ended(world->green) && all_ended(world->foreign);
	})) << "an actor hangs";
	EXPECT_TRUE(wait_until([&] {
		h.heal(true);
		return world->living() == 0;
	})) << world->living()
	    << " LWPs hang";
	EXPECT_TRUE(wait_until([&] {
		h.heal(true);
		return std::none_of(world->green.begin(), world->green.end(), [](const actor &a) { return alive(a.lid.load()); });
	}));
	for (std::thread &t : kernel_threads) {
		t.join();
	}
	// All have done their work, some may still be on their way out: they are waited for.
	int error = 0;
	while (error == 0) {
		error = wait_and_check(*world, 0);
	}
	EXPECT_EQ(error, ESRCH);

	std::size_t born = 0;
	for (const mayfly &f : world->flies) {
		born += f.lid.load() != 0;
		ASSERT_EQ(f.runs.load(), f.lid.load() != 0 ? 1 : 0);
	}
	EXPECT_EQ(born, world->created.load());
	EXPECT_TRUE(wait_until([] { return lwp::runtime::stats().lwps == 1; }));
	EXPECT_EQ(world->set_values.load(), world->destroyed_values.load());
	std::printf("%zu operations, %zu LWPs\n", world->operations.load(), born);
	EXPECT_GT(born, 0U);
	EXPECT_EQ(lwp_tss_delete(world->key), 0);
}
