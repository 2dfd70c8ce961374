// SPDX-License-Identifier: BSD-2-Clause
//
// The line of timers beside the heap, against a sorted model: order, first in first out among equals wherever each stands, removal from the middle, holes, memory.
#include "sched/callout_queue.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <fstream>
#include <memory>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include <sys/resource.h>

namespace {

using lwp::kern::callout;
using lwp::kern::callout_idle;
using lwp::kern::callout_queue;

struct timer : callout {
	std::uint64_t number = 0;  // the order in which the model saw them
	explicit timer(std::uint64_t deadline = 0) { co_deadline = deadline; }
};

std::size_t mapped_pages() {
	std::size_t pages = 0;
	std::ifstream("/proc/self/statm") >> pages;
	return pages;
}

TEST(CalloutQueue, WhoIsDueSoonerComesFirstWhereverItStands) {
	callout_queue q;
	timer a(100), b(200), c(150), d(200), e(50), f(100);
	for (timer *t : {&a, &b, &c, &d, &e, &f}) {
		EXPECT_EQ(t->co_index, callout_idle);
		ASSERT_EQ(q.insert(t), 0);
	}
	EXPECT_EQ(q.size(), 6U);
	for (timer *t : {&e, &a, &f, &c, &b, &d}) {
		EXPECT_EQ(q.top(), t);
		EXPECT_EQ(q.pop(), t);
		EXPECT_EQ(t->co_index, callout_idle);
	}
	EXPECT_EQ(q.pop(), nullptr);
	EXPECT_TRUE(q.empty());
}

TEST(CalloutQueue, OneThatIsDueLateDoesNotKeepTheLineFromOthers) {
	callout_queue q;
	timer late(UINT64_MAX), again(UINT64_MAX);
	std::vector<timer> many(5000);
	ASSERT_EQ(q.insert(&late), 0);
	for (std::size_t i = 0; i < many.size(); i++) {
		many[i].co_deadline = i / 2;
		ASSERT_EQ(q.insert(&many[i]), 0);
		EXPECT_NE(many[i].co_index & (1U << 31), 0U) << "in line";
	}
	ASSERT_EQ(q.insert(&again), 0);
	for (timer &t : many) {
		ASSERT_EQ(q.pop(), &t);
	}
	EXPECT_EQ(q.pop(), &late) << "first of the two";
	EXPECT_EQ(q.pop(), &again);
}

// Deadlines that rise, with some that do not; in phases that grow and that shrink; with positions that wrap around in rings of all sizes.
TEST(CalloutQueue, RandomOperationsMatchASortedModel) {
	std::mt19937_64 random(20261201);
	callout_queue q(UINT32_MAX - 50000);
	std::vector<std::unique_ptr<timer>> idle, waiting;
	std::set<std::pair<std::uint64_t, std::uint64_t>> model;
	for (int i = 0; i < 5000; i++) {
		idle.push_back(std::make_unique<timer>());
	}
	std::uint64_t number = 0, clock = 0;
	auto leaves = [&](std::size_t at) {
		model.erase({waiting[at]->co_deadline, waiting[at]->number});
		std::swap(waiting[at], waiting.back());
		idle.push_back(std::move(waiting.back()));
		waiting.pop_back();
	};
	for (int step = 0; step < 300000; step++) {
		const bool growing = step / 20000 % 2 == 0;
		const unsigned odd = step / 50000 % 3 == 0 ? 1 : step / 50000 % 3 == 1 ? 30 : 1000;  // one of so many is out of order
		const std::uint64_t what = random() % 10;
		if (what < (growing ? 7U : 3U)) {
			if (!idle.empty()) {
				timer *t = idle.back().get();
				clock += random() % 2;
				t->co_deadline = random() % odd == 0 ? clock + random() % 5000 : clock + 1000;
				t->number = number++;
				ASSERT_EQ(q.insert(t), 0);
				model.insert({t->co_deadline, t->number});
				waiting.push_back(std::move(idle.back()));
				idle.pop_back();
			}
		} else if (what < 8 && !waiting.empty()) {
			const std::size_t at = random() % waiting.size();
			q.remove(waiting[at].get());
			leaves(at);
		} else if (!waiting.empty()) {
			auto *t = static_cast<timer *>(q.pop());
			ASSERT_EQ(t->co_deadline, model.begin()->first);
			ASSERT_EQ(t->number, model.begin()->second);
			leaves(static_cast<std::size_t>(std::ranges::find(waiting, t, [](auto &p) { return p.get(); }) - waiting.begin()));
		}
		ASSERT_EQ(q.size(), model.size());
	}
	while (!model.empty()) {
		ASSERT_EQ(static_cast<timer *>(q.pop())->number, model.begin()->second);
		model.erase(model.begin());
	}
	EXPECT_EQ(q.pop(), nullptr);
}

TEST(CalloutQueue, HolesTakeNoMemory) {
	callout_queue q;
	timer first(1), last(UINT64_MAX - 1);
	std::vector<timer> many(1000);
	ASSERT_EQ(q.insert(&first), 0);
	const std::size_t before = mapped_pages();
	std::uint64_t deadline = 2;
	for (std::size_t i = 0; i < 2'000'000; i++) {  // waits with a deadline, each ended before, in another order
		timer &t = many[i % many.size()];
		if (i >= many.size()) {
			q.remove(&t);
		}
		t.co_deadline = deadline++;
		ASSERT_EQ(q.insert(&t), 0);
	}
	EXPECT_LT(mapped_pages() - before, 100U);
	ASSERT_EQ(q.insert(&last), 0);
	EXPECT_EQ(q.pop(), &first);
	for (timer &t : many) {
		ASSERT_EQ(q.pop(), &t);
	}
	EXPECT_EQ(q.pop(), &last);
}

TEST(CalloutQueue, OneThatEmptiesGivesItsMemoryBack) {
	constexpr std::size_t count = 1'000'000;
	std::vector<timer> timers(count);
	const std::size_t before = mapped_pages();
	callout_queue q;
	for (std::size_t i = 0; i < count; i++) {
		timers[i].co_deadline = i;
		ASSERT_EQ(q.insert(&timers[i]), 0);
	}
	EXPECT_GE(mapped_pages() - before, count * 16 / 4096);
	for (std::size_t i = 0; i < count; i++) {
		ASSERT_EQ(q.pop(), &timers[i]);
	}
	EXPECT_LE(mapped_pages() - before, 100U);
}

TEST(CalloutQueue, InsertWithoutMemoryChangesNothing) {
	std::vector<timer> timers(100000);
	for (std::size_t i = 0; i < timers.size(); i++) {
		timers[i].co_deadline = i;
	}
	callout_queue q;
	std::size_t inserted = 0;
	int error;
	rlimit before;
	getrlimit(RLIMIT_AS, &before);
	const rlimit none{1, before.rlim_max};
	errno = 0;
	setrlimit(RLIMIT_AS, &none);
	while ((error = q.insert(&timers[inserted])) == 0) {
		inserted++;
	}
	setrlimit(RLIMIT_AS, &before);
	EXPECT_EQ(error, ENOMEM);
	EXPECT_EQ(errno, 0);
	EXPECT_EQ(q.size(), inserted);
	EXPECT_EQ(timers[inserted].co_index, callout_idle);
	// With memory it goes on as if nothing had been; then without, until the heap is full, too.
	while (inserted < 1000) {
		ASSERT_EQ(q.insert(&timers[inserted++]), 0);
	}
	setrlimit(RLIMIT_AS, &none);
	while ((error = q.insert(&timers[inserted])) == 0) {
		inserted++;
	}
	setrlimit(RLIMIT_AS, &before);
	EXPECT_EQ(error, ENOMEM);
	EXPECT_GT(inserted, 1000U);
	while (inserted < timers.size()) {
		ASSERT_EQ(q.insert(&timers[inserted++]), 0);
	}
	for (timer &t : timers) {
		ASSERT_EQ(q.pop(), &t);
	}
}

}  // namespace
