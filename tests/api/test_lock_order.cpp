// SPDX-License-Identifier: BSD-2-Clause
// vcpus: 1 2
//
// The checker of lock orders in debug builds: orders that are told, once, and what only looks like one.  No case but `upgrade` could end in a deadlock,
// since its LWPs follow each other.  Each case is a program of its own: this one, run with the case's name.
#include "support/cases.h"
#include "support/support.h"

#include <lwp/lwp.hpp>

#include <array>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <ostream>
#include <shared_mutex>
#include <thread>
#include <vector>

using namespace lwp::test;
using namespace std::chrono_literals;

// To be found in the reports by name, so they are not in the namespace without one.
namespace order_test {

__attribute__((noinline)) void take_outer(lwp::mutex &m) {
	m.lock();
	asm volatile("");  // no tail call: it would take this frame away
}
__attribute__((noinline)) void take_inner(lwp::mutex &m) {
	m.lock();
	asm volatile("");
}

}  // namespace order_test

namespace {

// ---- the cases -----------------------------------------------------------------------------------------------------------------------------

/// In an LWP of its own, from beginning to end.
template <class F>
void alone(const char *name, F f) {
	lwp::thread({.name = name}, f).join();
}

/// A plain lock of each in turn, released backwards.
template <class Outer, class Inner>
void nest(Outer &outer, Inner &inner) {
	std::lock_guard first(outer);
	std::lock_guard second(inner);
}

void ab_ba() {
	lwp::mutex a, b;
	alone("one", [&] {
		order_test::take_outer(a);
		order_test::take_inner(b);
		b.unlock();
		a.unlock();
	});
	alone("two", [&] {
		order_test::take_outer(b);
		order_test::take_inner(a);
		a.unlock();
		b.unlock();
	});
}

void by_one_lwp() {
	lwp::mutex a, b;
	nest(a, b);
	nest(b, a);
}

void released_in_another_order() {
	lwp::mutex a, b;
	a.lock();
	b.lock();
	a.unlock();
	b.unlock();
	nest(b, a);
}

void three_in_a_circle() {
	lwp::mutex a, b, c;
	alone("one", [&] { nest(a, b); });
	alone("two", [&] { nest(b, c); });
	alone("three", [&] { nest(c, a); });
}

void again_and_again() {
	lwp::mutex a, b;
	for (int i = 0; i < 100; i++) {
		alone("one", [&] { nest(a, b); });
		alone("two", [&] { nest(b, a); });
	}
}

void two_pairs() {
	lwp::mutex a, b, c, d;
	nest(a, b);
	nest(c, d);
	nest(b, a);
	nest(d, c);
}

void after_try_lock() {
	lwp::mutex a, b;
	if (!a.try_lock()) {
		std::abort();
	}
	b.lock();
	b.unlock();
	a.unlock();
	nest(b, a);
}

void with_a_kernel_thread() {
	lwp::mutex a, b;
	std::thread([&] { nest(a, b); }).join();
	alone("two", [&] { nest(b, a); });
}

void reader_and_writer() {
	lwp::shared_mutex a;
	lwp::mutex b;
	alone("reader", [&] {
		std::shared_lock first(a);
		std::lock_guard second(b);
	});
	alone("writer", [&] { nest(b, a); });
}

void two_readers() {
	lwp::shared_mutex a, b;
	alone("one", [&] {
		std::shared_lock first(a);
		std::shared_lock second(b);
	});
	alone("two", [&] {
		std::shared_lock first(b);
		std::shared_lock second(a);
	});
}

void through_a_shared_one() {
	lwp::mutex a, c;
	lwp::shared_timed_mutex b;
	alone("one", [&] { nest(a, b); });
	alone("two", [&] {
		std::shared_lock first(b);
		std::lock_guard second(c);
	});
	alone("three", [&] { nest(c, a); });
}

/// Waits for itself: the report comes before that, and ends the program.
void upgrade() {
	lwp::shared_mutex m;
	m.lock_shared();
	m.lock();
}

void shared_once_more() {
	lwp::shared_mutex m;
	m.lock_shared();
	m.lock_shared();
	m.unlock_shared();
	m.unlock_shared();
}

void waits_with_another() {
	lwp::mutex a, b;
	lwp::condition_variable cv;
	std::unique_lock first(a);
	std::lock_guard second(b);
	(void)cv.wait_for(first, 0s);  // takes `a` again while it has `b`
}

void recursive_ones() {
	lwp::recursive_mutex a;
	lwp::mutex b;
	nest(a, b);
	nest(b, a);
}

void nine_at_once() {
	std::array<lwp::mutex, 9> all;
	for (auto &m : all) {
		m.lock();
	}
	for (auto &m : all) {
		m.unlock();
	}
	nest(all[8], all[0]);
}

// ---- what only looks like one -----------------------------------------------------------------------------------------------------------

void try_lock_makes_no_edge() {
	lwp::mutex a, b;
	lwp::shared_mutex c;
	a.lock();
	if (!b.try_lock() || !c.try_lock_shared()) {
		std::abort();
	}
	c.unlock_shared();
	b.unlock();
	a.unlock();
	nest(b, a);
	nest(c, a);
}

void timed_makes_no_edge() {
	lwp::timed_mutex a, b;
	a.lock();
	if (!b.try_lock_for(1h)) {
		std::abort();
	}
	b.unlock();
	a.unlock();
	nest(b, a);
}

template <class M>
void reuse() {
	lwp::mutex other;
	alignas(M) unsigned char room[sizeof(M)];
	M *m = ::new (static_cast<void *>(room)) M;
	nest(*m, other);
	m->~M();
	m = ::new (static_cast<void *>(room)) M;
	nest(other, *m);
	m->~M();
}

void destroyed_and_used_again() {
	reuse<lwp::mutex>();
	reuse<lwp::timed_mutex>();
	reuse<lwp::recursive_mutex>();
	reuse<lwp::recursive_timed_mutex>();
	reuse<lwp::shared_mutex>();
	reuse<lwp::shared_timed_mutex>();
}

/// The edge to a lock that is gone leads nowhere either.
void destroyed_in_the_middle() {
	lwp::mutex a, c;
	{
		lwp::mutex b;
		nest(a, b);
		nest(b, c);
	}
	nest(c, a);
}

void scoped_lock() {
	lwp::mutex a, b;
	lwp::shared_mutex c;
	for (int i = 0; i < 10; i++) {
		const std::scoped_lock one(a, b, c);
	}
	for (int i = 0; i < 10; i++) {
		const std::scoped_lock two(c, b, a);
	}
}

void recursive_once_more() {
	lwp::recursive_mutex a;
	lwp::mutex b;
	std::lock_guard first(a);
	std::lock_guard second(b);
	std::lock_guard third(a);
}

void caller_has_it() {
	lwp::mutex a;
	std::lock_guard hold(a);
	try {
		a.lock();
		std::abort();
	} catch (const std::system_error &) {
	}
}

void waits_with_one() {
	lwp::mutex a, b;
	lwp::condition_variable cv;
	nest(a, b);
	std::unique_lock first(a);
	(void)cv.wait_for(first, 0s);
	std::lock_guard second(b);
}

void in_order() {
	std::array<lwp::mutex, 200> all;
	for (std::size_t i = 0; i + 1 < all.size(); i++) {
		for (std::size_t k = i + 1; k < all.size(); k++) {
			nest(all[i], all[k]);
		}
	}
}

/// More locks and edges than there is room for.
void more_than_is_kept() {
	constexpr std::size_t n = 10'000;
	const auto all = std::make_unique<lwp::mutex[]>(n);
	for (std::size_t i = 0; i + 5 < n; i++) {
		for (std::size_t k = 1; k <= 5; k++) {
			nest(all[i], all[i + k]);
		}
	}
	nest(all[5], all[0]);  // forgotten long since
	nest(all[n - 1], all[n - 6]);
}

struct scenario {
	const char *name;
	void (*run)();
	std::size_t reports;
	std::vector<const char *> says;
};

const scenario scenarios[] = {
    {"ab_ba", ab_ba, 1, {"are taken in both orders", "LWP", "'one' has mutex", "'two' has mutex", "take_outer", "take_inner"}},
    {"by_one_lwp", by_one_lwp, 1, {"are taken in both orders"}},
    {"released_in_another_order", released_in_another_order, 1, {"are taken in both orders"}},
    {"three_in_a_circle", three_in_a_circle, 1, {"3 locks are taken in a circle", "'one'", "'two'", "'three'"}},
    {"again_and_again", again_and_again, 1, {"are taken in both orders"}},
    {"two_pairs", two_pairs, 2, {"are taken in both orders"}},
    {"after_try_lock", after_try_lock, 1, {"are taken in both orders"}},
    {"with_a_kernel_thread", with_a_kernel_thread, 1, {"are taken in both orders", "'two'"}},
    {"reader_and_writer", reader_and_writer, 1, {"'reader' shares shared mutex", "wants shared mutex", ", alone, at"}},
    {"two_readers", two_readers, 1, {"are taken in both orders", ", shared, at"}},
    {"through_a_shared_one", through_a_shared_one, 1, {"3 locks are taken in a circle", "has mutex", "shares shared mutex"}},
    {"upgrade", upgrade, 1, {"which it shares already", ", alone, at"}},
    {"shared_once_more", shared_once_more, 1, {"which it shares already", ", shared, at"}},
    {"waits_with_another", waits_with_another, 1, {"are taken in both orders"}},
    {"recursive_ones", recursive_ones, 1, {"are taken in both orders"}},
    {"nine_at_once", nine_at_once, 1, {"are taken in both orders"}},
    {"more_than_is_kept", more_than_is_kept, 1, {"are taken in both orders"}},

    {"try_lock_makes_no_edge", try_lock_makes_no_edge, 0, {}},
    {"timed_makes_no_edge", timed_makes_no_edge, 0, {}},
    {"destroyed_and_used_again", destroyed_and_used_again, 0, {}},
    {"destroyed_in_the_middle", destroyed_in_the_middle, 0, {}},
    {"scoped_lock", scoped_lock, 0, {}},
    {"recursive_once_more", recursive_once_more, 0, {}},
    {"caller_has_it", caller_has_it, 0, {}},
    {"waits_with_one", waits_with_one, 0, {}},
    {"in_order", in_order, 0, {}},
};

// ---- running them --------------------------------------------------------------------------------------------------------------------------

std::ostream &operator<<(std::ostream &out, const scenario &s) { return out << s.name; }

class LockOrder : public testing::TestWithParam<scenario> {
protected:
	void SetUp() override {
#if !LWP_DEBUG
		GTEST_SKIP() << "the checker of lock orders is in debug builds of the library only";
#endif
	}
};

TEST_P(LockOrder, IsToldOnceOrNotAtAll) {
	const scenario &s = GetParam();
	const bool ends = std::strcmp(s.name, "upgrade") != 0;
	const outcome o = run_case(s.name, {{"LWP_LOCK_ORDER", ends ? "report" : "abort"}});
	EXPECT_TRUE(ends ? o.ended_well() : o.aborted()) << o.status << '\n' << o.text;
	EXPECT_EQ(o.count("lwp: lock order:"), s.reports) << o.text;
	for (const char *part : s.says) {
		EXPECT_NE(o.count(part), 0U) << part << " is not in\n" << o.text;
	}
}

INSTANTIATE_TEST_SUITE_P(Catalogue, LockOrder, testing::ValuesIn(scenarios), [](const auto &i) { return std::string(i.param.name); });

using LockOrderMode = LockOrder;

TEST_P(LockOrderMode, AbortEndsTheProgramAndOffSaysNothing) {
	const outcome aborted = run_case(GetParam().name, {{"LWP_LOCK_ORDER", "abort"}});
	EXPECT_TRUE(aborted.aborted()) << aborted.status << '\n' << aborted.text;
	EXPECT_EQ(aborted.count("lwp: LWP_LOCK_ORDER=abort"), 1U) << aborted.text;
	const outcome off = run_case(GetParam().name, {{"LWP_LOCK_ORDER", "off"}});
	EXPECT_TRUE(off.ended_well()) << off.status << '\n' << off.text;
	EXPECT_EQ(off.count("lwp: lock order"), 0U) << off.text;
}

INSTANTIATE_TEST_SUITE_P(Modes, LockOrderMode, testing::Values(scenarios[0]), [](const auto &i) { return std::string(i.param.name); });

const bool cases = offer_cases([](const char *wanted) {
	for (const scenario &s : scenarios) {
		if (std::strcmp(s.name, wanted) == 0) {
			s.run();
			return true;
		}
	}
	return false;
});

}  // namespace
