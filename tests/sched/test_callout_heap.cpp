// SPDX-License-Identifier: BSD-2-Clause
//
// The timer heap against a sorted model: order, FIFO among equals, removal from the middle, and what happens without memory.
#include "sched/callout_heap.h"

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
using lwp::kern::callout_heap;
using lwp::kern::callout_idle;

struct timer : callout {
	std::uint64_t number = 0;  // the order in which the model saw them
	explicit timer(std::uint64_t deadline = 0) { co_deadline = deadline; }
};

/// No new memory from the kernel while it exists.
class no_memory {
public:
	no_memory() {
		getrlimit(RLIMIT_AS, &before_);
		rlimit none{1, before_.rlim_max};
		setrlimit(RLIMIT_AS, &none);
	}
	~no_memory() { setrlimit(RLIMIT_AS, &before_); }
	no_memory(const no_memory &) = delete;
	no_memory &operator=(const no_memory &) = delete;

private:
	rlimit before_;
};

std::size_t mapped_pages() {
	std::size_t pages = 0;
	std::ifstream("/proc/self/statm") >> pages;
	return pages;
}

TEST(CalloutHeap, AnEmptyOneHasNoTop) {
	callout_heap heap;
	EXPECT_EQ(heap.top(), nullptr);
	EXPECT_EQ(heap.pop(), nullptr);
	EXPECT_EQ(heap.size(), 0U);
	EXPECT_EQ(heap.top_deadline(), UINT64_MAX);
}

TEST(CalloutHeap, TheEarliestComesFirst) {
	callout_heap heap;
	timer a(30), b(10), c(20);
	for (timer *t : {&a, &b, &c}) {
		ASSERT_EQ(heap.insert(t), 0);
	}
	EXPECT_EQ(heap.top_deadline(), 10U);
	EXPECT_EQ(heap.pop(), &b);
	EXPECT_EQ(heap.pop(), &c);
	EXPECT_EQ(heap.pop(), &a);
	EXPECT_EQ(heap.pop(), nullptr);
}

TEST(CalloutHeap, WhatIsOutIsIdleAndMayGoInAgain) {
	callout_heap heap;
	timer a(2), b(1);
	EXPECT_EQ(a.co_index, callout_idle);
	ASSERT_EQ(heap.insert(&a), 0);
	ASSERT_EQ(heap.insert(&b), 0);
	EXPECT_NE(a.co_index, callout_idle);
	heap.remove(&a);
	EXPECT_EQ(a.co_index, callout_idle);
	EXPECT_EQ(heap.pop(), &b);
	EXPECT_EQ(b.co_index, callout_idle);
	b.co_deadline = 3;
	ASSERT_EQ(heap.insert(&b), 0);
	ASSERT_EQ(heap.insert(&a), 0);
	EXPECT_EQ(heap.pop(), &a);
	EXPECT_EQ(heap.pop(), &b);
}

TEST(CalloutHeap, TheWholeRangeOfDeadlinesIsOrdered) {
	callout_heap heap;
	timer last(UINT64_MAX), middle(UINT64_MAX / 2 + 1), first(0);
	for (timer *t : {&last, &middle, &first}) {
		ASSERT_EQ(heap.insert(t), 0);
	}
	EXPECT_EQ(heap.pop(), &first);
	EXPECT_EQ(heap.pop(), &middle);
	EXPECT_EQ(heap.pop(), &last);
}

void expect_fifo(callout_heap &heap) {
	std::vector<timer> timers(10000);
	for (std::size_t i = 0; i < timers.size(); i++) {
		timers[i].co_deadline = i % 3;
		ASSERT_EQ(heap.insert(&timers[i]), 0);
	}
	// Entries that leave from the middle move others about; their order among equals must not change.
	for (std::size_t i = 0; i < timers.size(); i += 7) {
		heap.remove(&timers[i]);
	}
	for (std::size_t deadline = 0; deadline < 3; deadline++) {
		for (std::size_t i = deadline; i < timers.size(); i += 3) {
			if (i % 7 != 0) {
				ASSERT_EQ(heap.pop(), &timers[i]);
			}
		}
	}
	EXPECT_EQ(heap.size(), 0U);
}

TEST(CalloutHeap, EqualDeadlinesAreFirstInFirstOut) {
	callout_heap heap;
	expect_fifo(heap);
}

TEST(CalloutHeap, EqualDeadlinesAreFirstInFirstOutWhenTheCountWrapsAround) {
	callout_heap heap(UINT32_MAX - 5000);
	expect_fifo(heap);
}

// Random inserts, removals and pops, in phases that grow and that shrink; every answer is compared with a sorted set.
TEST(CalloutHeap, RandomOperationsMatchASortedModel) {
	std::mt19937_64 random(20071023);
	callout_heap heap;
	std::vector<std::unique_ptr<timer>> idle, waiting;
	std::set<std::pair<std::uint64_t, std::uint64_t>> model;
	for (int i = 0; i < 5000; i++) {
		idle.push_back(std::make_unique<timer>());
	}
	std::uint64_t number = 0;
	auto leaves = [&](std::size_t at) {
		model.erase({waiting[at]->co_deadline, waiting[at]->number});
		std::swap(waiting[at], waiting.back());
		idle.push_back(std::move(waiting.back()));
		waiting.pop_back();
	};
	for (int step = 0; step < 300000; step++) {
		const bool growing = step / 20000 % 2 == 0;
		const std::uint64_t range = step / 5000 % 2 == 0 ? 50 : UINT64_MAX;  // many equals, or hardly any
		const std::uint64_t what = random() % 10;
		if (what < (growing ? 7U : 3U)) {
			if (!idle.empty()) {
				timer *t = idle.back().get();
				t->co_deadline = random() % range;
				t->number = number++;
				ASSERT_EQ(heap.insert(t), 0);
				model.insert({t->co_deadline, t->number});
				waiting.push_back(std::move(idle.back()));
				idle.pop_back();
			}
		} else if (what < 9 && !waiting.empty()) {
			const std::size_t at = random() % waiting.size();
			heap.remove(waiting[at].get());
			leaves(at);
		} else if (!waiting.empty()) {
			auto *t = static_cast<timer *>(heap.pop());
			ASSERT_EQ(t->co_deadline, model.begin()->first);
			ASSERT_EQ(t->number, model.begin()->second);
			leaves(static_cast<std::size_t>(std::ranges::find(waiting, t, [](auto &p) { return p.get(); }) - waiting.begin()));
		}
		ASSERT_EQ(heap.size(), model.size());
		ASSERT_EQ(heap.top_deadline(), model.empty() ? UINT64_MAX : model.begin()->first);
	}
	while (!model.empty()) {
		auto *t = static_cast<timer *>(heap.pop());
		ASSERT_EQ(t->number, model.begin()->second);
		model.erase(model.begin());
	}
	EXPECT_EQ(heap.pop(), nullptr);
}

TEST(CalloutHeap, AMillionTimersComeOutInOrder) {
	constexpr std::size_t count = 1000000;
	std::mt19937_64 random(7);
	callout_heap heap;
	std::vector<timer> timers(count);
	std::vector<std::pair<std::uint64_t, std::size_t>> expected;
	for (std::size_t i = 0; i < count; i++) {
		timers[i].co_deadline = random() % (count * 2);  // some equals
		ASSERT_EQ(heap.insert(&timers[i]), 0);
	}
	ASSERT_EQ(heap.size(), count);
	for (std::size_t i = 0; i < count; i++) {
		if (random() % 3 == 0) {
			heap.remove(&timers[i]);
		} else {
			expected.emplace_back(timers[i].co_deadline, i);
		}
	}
	std::ranges::sort(expected);
	for (auto [deadline, i] : expected) {
		ASSERT_EQ(heap.pop(), &timers[i]);
	}
	EXPECT_EQ(heap.size(), 0U);
}

TEST(CalloutHeap, InsertWithoutMemoryChangesNothing) {
	std::vector<timer> timers(100000);
	for (std::size_t i = 0; i < timers.size(); i++) {
		timers[i].co_deadline = timers.size() - i;
	}
	callout_heap heap;
	std::size_t inserted = 0;
	int error = 0;
	errno = 0;
	{
		no_memory none;
		error = heap.insert(&timers[0]);
	}
	EXPECT_EQ(error, ENOMEM);
	EXPECT_EQ(heap.size(), 0U);
	EXPECT_EQ(timers[0].co_index, callout_idle);
	ASSERT_EQ(heap.insert(&timers[inserted++]), 0);
	{
		no_memory none;
		while ((error = heap.insert(&timers[inserted])) == 0) {
			inserted++;
		}
	}
	EXPECT_EQ(error, ENOMEM);
	EXPECT_EQ(errno, 0);
	EXPECT_EQ(heap.size(), inserted);
	EXPECT_EQ(timers[inserted].co_index, callout_idle);
	// With memory it goes on as if nothing had been.
	while (inserted < timers.size()) {
		ASSERT_EQ(heap.insert(&timers[inserted++]), 0);
	}
	for (std::size_t i = timers.size(); i-- > 0;) {
		ASSERT_EQ(heap.pop(), &timers[i]);
	}
}

TEST(CalloutHeap, AHeapThatEmptiesGivesItsMemoryBack) {
	constexpr std::size_t count = 1000000;
	std::vector<timer> timers(count);
	callout_heap heap;
	const std::size_t before = mapped_pages();
	for (timer &t : timers) {
		ASSERT_EQ(heap.insert(&t), 0);
	}
	const std::size_t full = mapped_pages();
	EXPECT_GE(full - before, count * 16 / 4096);
	for (std::size_t i = 10; i < count; i++) {
		heap.remove(&timers[i]);
	}
	EXPECT_LT(mapped_pages() - before, (full - before) / 100);
	for (std::size_t i = 0; i < 10; i++) {
		EXPECT_EQ(heap.pop(), &timers[i]);
	}
}

}  // namespace
