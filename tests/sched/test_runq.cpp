// SPDX-License-Identifier: BSD-2-Clause
//
// The run queue against a plain model, and the order it promises: best priority first, the newest before those who stand in line, and nobody
// who stands in line for ever.
#include "sched/runq.h"

#include "core/lwp_pool.h"

#include "../support/support.h"

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <vector>

namespace {

using namespace lwp::kern;

constexpr auto anywhere = [](const lwp_t *) { return true; };

/// Time for run queues.
class standing_clock {
public:
	standing_clock() {
		runq::clock = []() noexcept { return now; };
	}
	~standing_clock() { runq::clock = cycles; }
	standing_clock(const standing_clock &) = delete;
	standing_clock &operator=(const standing_clock &) = delete;
	static inline std::uint64_t now = 0;
};

/// LWPs that nobody runs.
class some_lwps {
public:
	explicit some_lwps(std::size_t n) {
		for (std::size_t i = 0; i < n; i++) {
			all_.push_back(lwp_pool_get());
			all_.back()->l_priority = pri_default;
		}
	}
	~some_lwps() {
		for (lwp_t *l : all_) {
			lwp_pool_put(l);
		}
	}
	some_lwps(const some_lwps &) = delete;
	some_lwps &operator=(const some_lwps &) = delete;
	lwp_t *operator[](std::size_t i) const { return all_[i]; }
	[[nodiscard]] const std::vector<lwp_t *> &all() const { return all_; }

private:
	std::vector<lwp_t *> all_;
};

std::vector<lwp_t *> pop_all(runq &q) {
	std::vector<lwp_t *> out;
	while (lwp_t *l = q.pop()) {
		out.push_back(l);
	}
	return out;
}

/// What the queue is, without turn(): written as plainly as can be.
class model {
public:
	void push(lwp_t *l, queue_end end) {
		level &v = levels_[l->l_priority];
		if (end == queue_end::newest_first || (end == queue_end::handed_over && v.stack.empty())) {
			v.stack.push_front(l);
			if (end == queue_end::handed_over && ++handed_ % 4 == 0 && !v.line.empty()) {
				auto &[served, seen] = served_[l->l_priority];
				if (served == seen) {
					v.stack.push_front(v.line.front());
					v.line.pop_front();
					served++;
				}
				seen = served;
			}
		} else {
			v.line.push_back(l);
		}
	}
	[[nodiscard]] int top() const { return levels_.empty() ? runq::none : levels_.rbegin()->first; }
	[[nodiscard]] unsigned count() const {
		std::size_t n = 0;
		for (const auto &[priority, v] : levels_) {
			n += v.line.size() + v.stack.size();
		}
		return static_cast<unsigned>(n);
	}
	[[nodiscard]] lwp_t *next() const {
		if (levels_.empty()) {
			return nullptr;
		}
		const level &v = levels_.rbegin()->second;
		return v.stack.empty() ? v.line.front() : v.stack.front();
	}
	[[nodiscard]] lwp_t *best_movable() const {
		const auto movable = [](const lwp_t *l) { return l->l_bound < 0 && anywhere(l); };
		for (auto at = levels_.rbegin(); at != levels_.rend(); ++at) {
			for (const std::deque<lwp_t *> &from : {at->second.stack, at->second.line}) {
				const auto found = std::find_if(from.rbegin(), from.rend(), movable);
				if (found != from.rend()) {
					return *found;
				}
			}
		}
		return nullptr;
	}
	void remove(lwp_t *l) {
		level &v = levels_.at(l->l_priority);
		std::erase(v.line, l);
		std::erase(v.stack, l);
		if (v.line.empty() && v.stack.empty()) {
			levels_.erase(l->l_priority);
		}
	}
	/// next() leaves to run.
	void pop(lwp_t *l) {
		if (levels_.at(l->l_priority).stack.empty()) {
			served_[l->l_priority].first++;
		}
		remove(l);
	}

private:
	struct level {
		std::deque<lwp_t *> line, stack;
	};
	std::map<int, std::pair<unsigned, unsigned>>
	    served_;  // what line_share sees, where time stands still: how many left the line to run, now and then
	std::map<int, level> levels_;
	unsigned handed_ = 0;
};

}  // namespace

TEST(Runq, EmptyOneHasNothing) {
	const auto q = std::make_unique<runq>();
	EXPECT_EQ(q->top(), runq::none);
	EXPECT_EQ(q->count(), 0U);
	EXPECT_EQ(q->pop(), nullptr);
	EXPECT_EQ(q->find_movable(anywhere), nullptr);
	q->turn();
	EXPECT_EQ(q->pop(), nullptr);
}

// Every one of the 224 priorities alone and with every other one: the bitmap's words and their edges.
TEST(Runq, BestOfAnyTwoPrioritiesComesFirst) {
	const auto q = std::make_unique<runq>();
	const some_lwps l(2);
	for (pri_t a = 0; a < pri_count; a++) {
		for (pri_t b = 0; b < pri_count; b++) {
			l[0]->l_priority = a;
			l[1]->l_priority = b;
			q->push(l[0], queue_end::line);
			q->push(l[1], queue_end::line);
			ASSERT_EQ(q->top(), std::max(a, b));
			ASSERT_EQ(q->pop(), b > a ? l[1] : l[0]);
			ASSERT_EQ(q->top(), std::min(a, b));
			ASSERT_EQ(q->pop(), b > a ? l[0] : l[1]);
			ASSERT_EQ(q->top(), runq::none);
		}
	}
}

TEST(Runq, LineIsFirstInFirstOut) {
	const auto q = std::make_unique<runq>();
	const some_lwps l(100);
	for (lwp_t *each : l.all()) {
		q->push(each, queue_end::line);
	}
	EXPECT_EQ(q->count(), 100U);
	EXPECT_EQ(pop_all(*q), l.all());
}

TEST(Runq, NewestGoBeforeTheLineOfTheirPriorityAndBeforeNobodyBetter) {
	const auto q = std::make_unique<runq>();
	const some_lwps l(5);
	l[4]->l_priority = pri_default + 1;
	q->push(l[0], queue_end::line);
	q->push(l[1], queue_end::newest_first);
	q->push(l[2], queue_end::newest_first);
	q->push(l[3], queue_end::line);
	q->push(l[4], queue_end::line);
	EXPECT_EQ(pop_all(*q), (std::vector<lwp_t *>{l[4], l[2], l[1], l[0], l[3]}));
}

TEST(Runq, OneThatIsHandedOverToIsNextAndOfSeveralTheFirstIs) {
	const auto q = std::make_unique<runq>();
	const some_lwps l(5);
	q->push(l[0], queue_end::line);
	q->push(l[1], queue_end::handed_over);
	q->push(l[2], queue_end::handed_over);
	q->push(l[3], queue_end::handed_over);
	EXPECT_EQ(pop_all(*q), (std::vector<lwp_t *>{l[1], l[0], l[2], l[3]}));
	q->push(l[0], queue_end::newest_first);
	q->push(l[1], queue_end::handed_over);
	EXPECT_EQ(pop_all(*q), (std::vector<lwp_t *>{l[0], l[1]})) << "behind a new one";
}

// Two hand over to and fro beside some that yield: these have each fifth turn, in their order.  And whoever waits keeps its place among those woken.
TEST(Runq, HandOversLetEachFifthTurnToTheLine) {
	const standing_clock time;
	const auto q = std::make_unique<runq>();
	const some_lwps l(5);
	const std::vector<lwp_t *> yielders{l[2], l[3], l[4]};
	for (lwp_t *y : yielders) {
		q->push(y, queue_end::line);
	}
	std::size_t turns = 0;
	std::size_t between = 0;
	lwp_t *running = l[0];
	for (std::size_t k = 0; k < 1000; k++) {
		lwp_t *other = running == l[0] ? l[1] : l[0];
		q->push(other, queue_end::handed_over);
		running = q->pop();  // the one that handed over sleeps now
		while (running != other) {
			ASSERT_EQ(running, yielders[turns++ % yielders.size()]);
			ASSERT_LT(++between, 2U) << "one at a time";
			running = q->rotate(running);
		}
		between = 0;
	}
	EXPECT_EQ(turns, 250U);
}

// Each of those in line computes for long, for `cycles`: the pair has about as much time between two of them, and each has its turn.
TEST(Runq, HandOversHaveAsMuchTimeAsTheLineComputes) {
	constexpr std::uint64_t hand_over = 100;
	constexpr std::uint64_t long_one = 10 * line_share::brief;
	const standing_clock time;
	const auto q = std::make_unique<runq>();
	const some_lwps l(4);
	q->push(l[2], queue_end::line);
	q->push(l[3], queue_end::line);
	std::uint64_t computed = 0, handed = 0;
	std::size_t turns[2] = {};
	lwp_t *running = l[0];
	for (std::size_t k = 0; k < 100'000; k++) {
		standing_clock::now += hand_over;
		handed += hand_over;
		lwp_t *other = running == l[0] ? l[1] : l[0];
		q->push(other, queue_end::handed_over);
		running = q->pop();
		while (running != other) {
			turns[running == l[2] ? 0 : 1]++;
			standing_clock::now += long_one;
			computed += long_one;
			running = q->rotate(running);
		}
	}
	EXPECT_GT(computed, handed / 2);
	EXPECT_LT(computed, handed * 2);
	EXPECT_LE(std::max(turns[0], turns[1]) - std::min(turns[0], turns[1]), 1U);
}

// A pair hands over now and then only: those in line run all the time, so no hand-over waits for them, at a turn() neither.
TEST(Runq, HandOversDoNotWaitForALineThatRunsAnyway) {
	const standing_clock time;
	const auto q = std::make_unique<runq>();
	const some_lwps l(6);
	for (std::size_t i = 2; i < 6; i++) {
		q->push(l[i], queue_end::line);
	}
	lwp_t *computing = q->pop();
	q->turn();  // the first finds everybody neglected
	for (std::size_t k = 0; k < 1000; k++) {
		for (int i = 0; i < 13; i++) {
			standing_clock::now += 10 * line_share::brief;
			computing = q->rotate(computing);
		}
		q->turn();
		q->push(l[k % 2], queue_end::handed_over);  // by a timer, say
		ASSERT_EQ(q->rotate(computing), l[k % 2]);
		computing = q->pop();  // it sleeps again
	}
}

TEST(Runq, RotateSendsTheYieldingOneToTheEndOfTheLine) {
	const auto q = std::make_unique<runq>();
	const some_lwps l(4);
	q->push(l[1], queue_end::line);
	q->push(l[2], queue_end::line);
	lwp_t *running = l[0];
	for (std::size_t turn = 1; turn < 100; turn++) {
		running = q->rotate(running);
		ASSERT_EQ(running, l[turn % 3]);
		ASSERT_EQ(q->count(), 2U);
	}
	// One that came by the stack stands in line once it has yielded, and is found there.
	q->push(l[3], queue_end::newest_first);
	lwp_t *newest = q->rotate(running);
	EXPECT_EQ(newest, l[3]);
	q->push(running = q->rotate(newest), queue_end::line);
	q->remove(newest);
	EXPECT_EQ(q->count(), 3U);
}

TEST(Runq, RandomOperationsMatchAModel) {
	lwp::test::dice r(lwp::test::seed());
	const standing_clock time;
	const auto q = std::make_unique<runq>();
	model m;
	const some_lwps l(300);
	std::vector<lwp_t *> out = l.all();
	std::vector<lwp_t *> in;
	const auto take = [&r](std::vector<lwp_t *> &from) {
		std::swap(from[r.below(static_cast<unsigned>(from.size()))], from.back());
		lwp_t *e = from.back();
		from.pop_back();
		return e;
	};
	const std::size_t n = lwp::test::rounds(100000);
	for (std::size_t k = 0; k < n; k++) {
		const unsigned what = r.below(10);
		if (what < 5 && !out.empty()) {
			lwp_t *e = take(out);
			e->l_priority = static_cast<pri_t>(r.one_in(2) ? r.below(pri_count) : r.below(4) * 63);
			const int bound = static_cast<int>(r.below(4));
			e->l_bound = bound == 0 ? std::int16_t{0} : bound == 1 ? bound_several : bound_none;
			const queue_end end = r.one_in(2) ? queue_end::line : r.one_in(2) ? queue_end::newest_first : queue_end::handed_over;
			q->push(e, end);
			m.push(e, end);
			in.push_back(e);
		} else if (what < 7) {
			lwp_t *e = q->pop();
			ASSERT_EQ(e, m.next());
			if (e != nullptr) {
				m.pop(e);
				std::erase(in, e);
				out.push_back(e);
			}
		} else if (what < 8 && !in.empty()) {
			lwp_t *e = take(in);
			q->remove(e);
			m.remove(e);
			out.push_back(e);
		} else if (what < 9 && !in.empty() && !out.empty()) {
			lwp_t *running = take(out);
			running->l_priority = static_cast<pri_t>(q->top());
			lwp_t *next = q->rotate(running);
			ASSERT_EQ(next, m.next());
			m.push(running, queue_end::line);
			m.pop(next);
			std::erase(in, next);
			in.push_back(running);
			out.push_back(next);
		} else {
			ASSERT_EQ(q->find_movable(anywhere), m.best_movable());
		}
		ASSERT_EQ(q->top(), m.top());
		ASSERT_EQ(q->count(), m.count());
		ASSERT_EQ(q->movable(),
		    static_cast<unsigned>(std::count_if(in.begin(), in.end(), [](const lwp_t *e) { return e->l_bound == bound_none; })));
		ASSERT_EQ(q->several(),
		    static_cast<unsigned>(std::count_if(in.begin(), in.end(), [](const lwp_t *e) { return e->l_bound == bound_several; })));
	}
	while (lwp_t *e = q->pop()) {
		ASSERT_EQ(e, m.next());
		m.remove(e);
	}
	EXPECT_EQ(m.count(), 0U);
}

TEST(Runq, ThiefGetsTheOldestOfTheStackThenTheLastInLine) {
	const auto q = std::make_unique<runq>();
	const some_lwps l(6);
	for (std::size_t i : {0U, 1U, 2U}) {
		q->push(l[i], queue_end::line);
	}
	for (std::size_t i : {3U, 4U, 5U}) {
		q->push(l[i], queue_end::newest_first);
	}
	std::vector<lwp_t *> stolen;
	while (lwp_t *e = q->find_movable(anywhere)) {
		q->remove(e);
		stolen.push_back(e);
	}
	EXPECT_EQ(stolen, (std::vector<lwp_t *>{l[3], l[4], l[5], l[2], l[1], l[0]}));
}

// Those that may not move are passed over, also a whole priority of them.
TEST(Runq, ThiefGetsTheBestThatMayMove) {
	const auto q = std::make_unique<runq>();
	const some_lwps l(6);
	for (std::size_t i : {0U, 1U, 2U}) {
		l[i]->l_priority = pri_default + 1;
		l[i]->l_bound = 0;
		q->push(l[i], i == 1 ? queue_end::line : queue_end::newest_first);
	}
	l[4]->l_bound = 1;
	for (std::size_t i : {3U, 4U, 5U}) {
		q->push(l[i], queue_end::line);
	}
	EXPECT_EQ(q->count(), 6U);
	EXPECT_EQ(q->movable(), 2U);
	EXPECT_EQ(q->find_movable(anywhere), l[5]);
	EXPECT_EQ(q->count(), 6U) << "looking takes nothing";
	q->remove(l[5]);
	EXPECT_EQ(q->find_movable(anywhere), l[3]);
	q->remove(l[3]);
	EXPECT_EQ(q->movable(), 0U);
	EXPECT_EQ(q->find_movable(anywhere), nullptr);
	EXPECT_EQ(q->count(), 4U);
}

// A thief takes of those that have chosen several vCPUs the ones that may come to it, and none that is bound to one.
TEST(Runq, ThiefAsksWhoMayCome) {
	const auto q = std::make_unique<runq>();
	const some_lwps l(5);
	for (std::size_t i : {0U, 1U, 2U, 3U, 4U}) {
		l[i]->l_bound = i == 0 ? std::int16_t{3} : bound_several;
		l[i]->l_affinity.set(static_cast<unsigned>(i));
		q->push(l[i], queue_end::line);
	}
	EXPECT_EQ(q->movable(), 0U);
	EXPECT_EQ(q->several(), 4U);
	const auto to = [](unsigned vcpu) { return [vcpu](const lwp_t *e) { return e->l_affinity.test(vcpu); }; };
	EXPECT_EQ(q->find_movable(to(2)), l[2]);
	EXPECT_EQ(q->find_movable(to(9)), nullptr);
	EXPECT_EQ(q->find_movable(to(0)), nullptr) << "it is bound to one: it is not asked about";
	q->bound_changes(l[2]);
	l[2]->l_bound = 1;
	q->bound_changed(l[2]);
	EXPECT_EQ(q->several(), 3U);
	EXPECT_EQ(q->count(), 5U);
	EXPECT_EQ(q->find_movable(to(2)), nullptr);
	q->bound_changes(l[3]);
	l[3]->l_bound = bound_none;
	q->bound_changed(l[3]);
	EXPECT_EQ(q->movable(), 1U);
	EXPECT_EQ(q->find_movable(anywhere), l[4]) << "the last in line";
	while (q->pop() != nullptr) {
	}
	EXPECT_EQ(q->several(), 0U);
	EXPECT_EQ(q->movable(), 0U);
}

TEST(Runq, TurnLetsEverybodyInLineGoFirstOnce) {
	const auto q = std::make_unique<runq>();
	const some_lwps l(7);
	for (std::size_t i : {0U, 1U, 2U}) {
		q->push(l[i], queue_end::line);
	}
	for (std::size_t i : {3U, 4U, 5U}) {
		q->push(l[i], queue_end::newest_first);
	}
	q->turn();
	EXPECT_EQ(q->count(), 6U);
	EXPECT_EQ(q->pop(), l[0]);
	q->push(l[6], queue_end::newest_first);  // news do not get between
	EXPECT_EQ(q->pop(), l[1]);
	EXPECT_EQ(q->pop(), l[2]);
	EXPECT_EQ(q->pop(), l[3]) << "the oldest of the stack was sent to the end of the line";
	EXPECT_EQ(pop_all(*q), (std::vector<lwp_t *>{l[6], l[5], l[4]})) << "and then the stack again";
}

// Of a chain of LWPs that each make the next there is never more than one, and none at the moment of the turn.
TEST(Runq, TurnWithoutAStackLetsTheLineGoBeforeWhatIsStackedAfterwards) {
	const auto q = std::make_unique<runq>();
	const some_lwps l(5);
	for (std::size_t i : {0U, 1U, 2U}) {
		q->push(l[i], queue_end::line);
	}
	q->turn();
	q->push(l[3], queue_end::newest_first);
	EXPECT_EQ(pop_all(*q), (std::vector<lwp_t *>{l[0], l[1], l[2], l[3]}));
	q->push(l[0], queue_end::line);
	q->push(l[4], queue_end::newest_first);
	EXPECT_EQ(pop_all(*q), (std::vector<lwp_t *>{l[4], l[0]})) << "once";
}

// One that is handed over to is kept beside the lists.  A turn puts it where it belongs: it is the oldest of its stack.
TEST(Runq, TurnSendsOneThatWasHandedOverToToTheEndOfTheLine) {
	const auto q = std::make_unique<runq>();
	const some_lwps l(4);
	q->push(l[0], queue_end::line);
	q->push(l[1], queue_end::handed_over);
	q->turn();
	q->push(l[2], queue_end::handed_over);
	EXPECT_EQ(pop_all(*q), (std::vector<lwp_t *>{l[0], l[1], l[2]}));
	q->push(l[3], queue_end::handed_over);
	q->turn();
	EXPECT_EQ(q->count(), 1U);
	EXPECT_EQ(q->top(), pri_default);
	EXPECT_EQ(q->pop(), l[3]);
	EXPECT_EQ(q->top(), runq::none);
}

// A turn that came while nobody was handed over to: whoever stands in line then goes before the next hand-over, once.
TEST(Runq, TurnLetsTheLineGoBeforeAHandOver) {
	const auto q = std::make_unique<runq>();
	const some_lwps l(3);
	q->push(l[0], queue_end::line);
	q->push(l[1], queue_end::line);
	q->turn();
	q->push(l[2], queue_end::handed_over);
	EXPECT_EQ(pop_all(*q), (std::vector<lwp_t *>{l[0], l[1], l[2]}));
}

// Among LWPs that only yield nobody waits for a turn to be over.  It is, once everybody has had it: who is handed over to then is next.
TEST(Runq, ATurnIsOverThoughNobodyWaitedForIt) {
	const auto q = std::make_unique<runq>();
	const some_lwps l(4);
	for (std::size_t i : {0U, 1U, 2U}) {
		q->push(l[i], queue_end::line);
	}
	q->turn();
	lwp_t *running = q->pop();
	for (int i = 0; i < 2; i++) {
		running = q->rotate(running);
	}
	q->push(l[3], queue_end::handed_over);
	EXPECT_EQ(q->rotate(running), l[3]);
}

// However often there is a turn: also if the line, of LWPs that always come back, is never through with one before the next.
TEST(Runq, TheStackIsServedBesideALineThatIsNeverThroughWithItsTurn) {
	constexpr std::size_t stacked = 1000;
	for (const std::size_t in_line : {1U, 2U, 10U, 1000U}) {
		for (const std::size_t switches_of_a_turn : {1U, 2U, 3U, 10U, 100U, 999U}) {
			const std::size_t most = in_line + 3 * stacked + 2 * switches_of_a_turn;
			const auto q = std::make_unique<runq>();
			const some_lwps l(in_line + stacked);
			std::set<const lwp_t *> not_begun;
			for (std::size_t i = 0; i < in_line; i++) {
				q->push(l[i], queue_end::line);
			}
			for (std::size_t i = in_line; i < in_line + stacked; i++) {
				q->push(l[i], queue_end::newest_first);
				not_begun.insert(l[i]);
			}
			lwp_t *running = q->pop();
			std::size_t switches = 0;
			while (!not_begun.empty() && switches <= most) {
				not_begun.erase(running);
				if (switches++ % switches_of_a_turn == 0) {
					q->turn();
				}
				running = q->rotate(running);
			}
			EXPECT_LE(switches, most) << in_line << " in line, a turn each " << switches_of_a_turn;
			q->push(running, queue_end::line);
			pop_all(*q);
		}
	}
}

// Nor does it wait for what a line leaves over that is through with its turn just before the next one: here new ones end, so the line does not become longer.
TEST(Runq, TheStackIsServedBesideALineThatTakesNearlyAllOfATurn) {
	constexpr std::size_t stacked = 1000;
	constexpr std::size_t switches_of_a_turn = 200;
	for (const std::size_t in_line : {1U, 50U, 99U, 100U, 101U, 150U, 190U, 197U, 198U, 199U, 200U}) {
		const std::size_t most = in_line + 3 * stacked + 2 * switches_of_a_turn;
		const auto q = std::make_unique<runq>();
		const some_lwps l(in_line + stacked);
		std::set<const lwp_t *> always_there;
		for (std::size_t i = 0; i < in_line; i++) {
			q->push(l[i], queue_end::line);
			always_there.insert(l[i]);
		}
		for (std::size_t i = in_line; i < in_line + stacked; i++) {
			q->push(l[i], queue_end::newest_first);
		}
		std::size_t ended = 0;
		std::size_t switches = 0;
		for (; ended < stacked && switches <= most; switches++) {
			if (switches % switches_of_a_turn == 0) {
				q->turn();
			}
			if (lwp_t *running = q->pop(); always_there.contains(running)) {
				q->push(running, queue_end::line);
			} else {
				ended++;
			}
		}
		EXPECT_LE(switches, most) << in_line << " in line";
		pop_all(*q);
	}
}

// A chain of LWPs that each make the next and end, and chains of several that each make as many: who stands in line goes once in each turn.
TEST(Runq, TheLineIsServedBesideAStackThatIsNeverEmpty) {
	constexpr std::size_t in_line = 100;
	constexpr std::size_t switches_of_a_turn = 150;
	for (const std::size_t chains : {1U, 2U, 40U}) {
		const auto q = std::make_unique<runq>();
		const some_lwps l(in_line + chains + 1);
		std::vector<std::size_t> last(in_line, 0);
		for (std::size_t i = 0; i < in_line; i++) {
			q->push(l[i], queue_end::line);
		}
		for (std::size_t i = 0; i <= chains; i++) {
			q->push(l[in_line + i], queue_end::newest_first);
		}
		for (std::size_t switches = 1; switches < 10'000; switches++) {
			if (switches % switches_of_a_turn == 0) {
				q->turn();
			}
			lwp_t *running = q->pop();
			const auto who = static_cast<std::size_t>(std::find(l.all().begin(), l.all().end(), running) - l.all().begin());
			if (who < in_line) {
				ASSERT_LE(switches - last[who], 2 * switches_of_a_turn + in_line) << chains << " chains";
				last[who] = switches;
				q->push(running, queue_end::line);
			} else {
				q->push(running, queue_end::newest_first);  // the next of its chain
			}
		}
		for (const std::size_t then : last) {
			EXPECT_GE(then, 10'000 - 2 * switches_of_a_turn - in_line) << chains << " chains";
		}
		pop_all(*q);
	}
}

// It is found by those who look through the lists, and better ones go before it.
TEST(Runq, OneThatIsHandedOverToIsFoundWhereItBelongs) {
	const auto q = std::make_unique<runq>();
	const some_lwps l(3);
	q->push(l[0], queue_end::handed_over);
	EXPECT_EQ(q->find_below(pri_count, 64, [](const lwp_t *) { return true; }), l[0]);
	EXPECT_EQ(q->pop(), l[0]);
	l[1]->l_priority = pri_default + 1;
	q->push(l[0], queue_end::handed_over);
	q->push(l[1], queue_end::handed_over);
	EXPECT_EQ(q->top(), pri_default + 1);
	EXPECT_EQ(pop_all(*q), (std::vector<lwp_t *>{l[1], l[0]}));
	q->push(l[0], queue_end::handed_over);
	q->remove(l[0]);
	EXPECT_EQ(q->count(), 0U);
	EXPECT_EQ(q->top(), runq::none);
	EXPECT_EQ(q->pop(), nullptr);
}

// One that had to give way to a better one goes on where it was.
TEST(Runq, HeadIsBeforeTheLineAndBehindTheStack) {
	const auto q = std::make_unique<runq>();
	const some_lwps l(4);
	q->push(l[0], queue_end::line);
	q->push(l[1], queue_end::line);
	q->push(l[2], queue_end::head);
	EXPECT_EQ(q->pop(), l[2]);
	q->push(l[2], queue_end::head);
	q->push(l[3], queue_end::newest_first);
	EXPECT_EQ(pop_all(*q), (std::vector<lwp_t *>{l[3], l[2], l[0], l[1]}));
}

// A chain of LWPs that each make the next, with a turn() now and then: everybody in line and in the depth of the stack comes to run, and the
// wait is bounded by the number of turns it takes to empty the stack.
TEST(Runq, NobodyStarvesBehindAChainOfNewOnes) {
	const auto q = std::make_unique<runq>();
	constexpr std::size_t old = 40;
	const some_lwps l(old + 1);
	for (std::size_t i = 0; i < old; i++) {
		q->push(l[i], i % 2 == 0 ? queue_end::line : queue_end::newest_first);
	}
	std::vector<bool> ran(old, false);
	std::size_t served = 0;
	lwp_t *link = l[old];
	q->push(link, queue_end::newest_first);
	unsigned turns = 0;
	for (unsigned k = 1; served < old && turns < 2 * old; k++) {
		lwp_t *next = q->pop();
		if (next == link) {
			q->push(link, queue_end::newest_first);  // its successor
		} else {
			for (std::size_t i = 0; i < old; i++) {
				if (l[i] == next && !ran[i]) {
					ran[i] = true;
					served++;
				}
			}
		}
		if (k % 100 == 0) {
			q->turn();
			turns++;
		}
	}
	EXPECT_EQ(served, old) << "after " << turns << " turns";
}
