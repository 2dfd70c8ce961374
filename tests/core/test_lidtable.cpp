// SPDX-License-Identifier: BSD-2-Clause
//
// The id table against a model, at a million entries, and with readers that take no lock.
#include "core/lidtable.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <thread>
#include <unordered_map>
#include <vector>

#include <sys/resource.h>

namespace {

using lwp::kern::lid_node;
using lwp::kern::lidtable;

struct node : lid_node {
	int payload = 0;
};

void set_lid(lid_node &n, int lid) { n.ln_lid.store(lid, std::memory_order_relaxed); }

[[nodiscard]] int enter(lidtable &table, lid_node &n, int lid) {
	set_lid(n, lid);
	return table.insert(&n);
}

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

TEST(Lidtable, AnEmptyTableFindsNothing) {
	lidtable table;
	for (int lid : {INT_MIN, -1, 0, 1, 512, INT_MAX}) {
		EXPECT_EQ(table.find(lid), nullptr);
		EXPECT_EQ(table.find_locked(lid), nullptr);
	}
	EXPECT_EQ(table.size(), 0U);
}

TEST(Lidtable, WhatIsInsertedIsFoundUntilItIsErased) {
	lidtable table;
	node a, b;
	ASSERT_EQ(enter(table, a, 1), 0);
	ASSERT_EQ(enter(table, b, INT_MAX), 0);
	EXPECT_EQ(table.find(1), &a);
	EXPECT_EQ(table.find(INT_MAX), &b);
	EXPECT_EQ(table.find(2), nullptr);
	EXPECT_EQ(table.size(), 2U);
	table.erase(&a);
	EXPECT_EQ(table.find(1), nullptr);
	EXPECT_EQ(table.find_locked(1), nullptr);
	EXPECT_EQ(table.find(INT_MAX), &b);
	EXPECT_EQ(table.size(), 1U);
	ASSERT_EQ(enter(table, a, 3), 0);
	EXPECT_EQ(table.find(3), &a);
}

TEST(Lidtable, AMillionIdsInRisingOrder) {
	constexpr int count = 1000000;
	lidtable table;
	std::unique_ptr<lid_node[]> nodes(new lid_node[count + 1]);
	for (int lid = 1; lid <= count; lid++) {
		ASSERT_EQ(enter(table, nodes[static_cast<unsigned>(lid)], lid), 0);
	}
	ASSERT_EQ(table.size(), static_cast<std::size_t>(count));
	for (int lid = 1; lid <= count; lid++) {
		ASSERT_EQ(table.find(lid), &nodes[static_cast<unsigned>(lid)]);
	}
	EXPECT_EQ(table.find(0), nullptr);
	EXPECT_EQ(table.find(count + 1), nullptr);
	for (int lid = 1; lid <= count; lid += 2) {
		table.erase(&nodes[static_cast<unsigned>(lid)]);
	}
	for (int lid = 1; lid <= count; lid++) {
		ASSERT_EQ(table.find_locked(lid), lid % 2 != 0 ? nullptr : &nodes[static_cast<unsigned>(lid)]);
	}
	EXPECT_EQ(table.size(), static_cast<std::size_t>(count / 2));
}

// One LWP in 2^n lives on: the low bits of the ids that remain are all the same.  find() gives up on long chains, so it tells.
// What walks over it at each exit (part_check() in debug builds) asks first: the buckets of many stay when few are left.
TEST(Lidtable, SaysThatItHasGrownEvenWhenItIsEmptyAgain) {
	lidtable table;
	std::vector<node> nodes(1000);
	ASSERT_EQ(enter(table, nodes[0], 1), 0);
	EXPECT_FALSE(table.grown());
	for (int lid = 2; lid <= 1000; lid++) {
		ASSERT_EQ(enter(table, nodes[static_cast<std::size_t>(lid) - 1], lid), 0);
	}
	EXPECT_TRUE(table.grown());
	for (node &n : nodes) {
		table.erase(&n);
	}
	EXPECT_EQ(table.size(), 0U);
	EXPECT_TRUE(table.grown());
}

TEST(Lidtable, IdsAtAnyPowerOfTwoStrideStayInShortChains) {
	for (int bit = 0; bit <= 20; bit++) {
		lidtable table;
		std::vector<std::unique_ptr<node>> nodes;
		for (int i = 1; i <= 20000 && i <= INT_MAX >> bit; i++) {
			nodes.push_back(std::make_unique<node>());
			ASSERT_EQ(enter(table, *nodes.back(), i << bit), 0);
		}
		for (auto &n : nodes) {
			ASSERT_EQ(table.find(n->ln_lid), n.get()) << "stride 2^" << bit;
		}
	}
}

TEST(Lidtable, RandomOperationsMatchAModel) {
	std::mt19937 random(173);
	lidtable table;
	std::unordered_map<int, std::unique_ptr<node>> model;
	std::vector<int> lids;
	for (int step = 0; step < 300000; step++) {
		const bool growing = step / 50000 % 2 == 0;
		const int lid = static_cast<int>(random() % (step % 2 == 0 ? 40000U : INT_MAX)) + 1;
		ASSERT_EQ(table.find_locked(lid), model.contains(lid) ? model[lid].get() : nullptr);
		if (random() % 10 < (growing ? 7U : 3U)) {
			if (!model.contains(lid)) {
				auto n = std::make_unique<node>();
				ASSERT_EQ(enter(table, *n, lid), 0);
				model[lid] = std::move(n);
				lids.push_back(lid);
			}
		} else if (!lids.empty()) {
			std::swap(lids[random() % lids.size()], lids.back());
			table.erase(model[lids.back()].get());
			model.erase(lids.back());
			lids.pop_back();
		}
		ASSERT_EQ(table.size(), model.size());
	}
	for (auto &[lid, n] : model) {
		ASSERT_EQ(table.find_locked(lid), n.get());
		ASSERT_EQ(table.find(lid), n.get());
	}
}

TEST(Lidtable, ForEachMeetsEveryEntryOnceAndMayEraseIt) {
	lidtable table;
	std::vector<std::unique_ptr<node>> nodes;
	for (int lid = 1; lid <= 5000; lid++) {
		nodes.push_back(std::make_unique<node>());
		ASSERT_EQ(enter(table, *nodes.back(), lid * 3), 0);
	}
	std::set<int> seen;
	table.for_each([&](lid_node *n) {
		EXPECT_TRUE(seen.insert(n->ln_lid).second);
		if (n->ln_lid % 2 == 0) {
			table.erase(n);
		}
	});
	EXPECT_EQ(seen.size(), 5000U);
	EXPECT_EQ(table.size(), 2500U);
	table.for_each([&](lid_node *n) { EXPECT_EQ(n->ln_lid % 2, 1); });
}

TEST(Lidtable, InsertWithoutMemoryChangesNothing) {
	constexpr unsigned count = 20000;
	lidtable table;
	std::unique_ptr<lid_node[]> nodes(new lid_node[count + 1]);
	unsigned lid = 1;
	int error = 0;
	errno = 0;
	{
		no_memory none;
		while (lid < count && (error = enter(table, nodes[lid], static_cast<int>(lid))) == 0) {
			lid++;
		}
	}
	EXPECT_EQ(error, ENOMEM);
	EXPECT_EQ(errno, 0);
	EXPECT_EQ(table.size(), lid - 1);
	EXPECT_EQ(table.find_locked(static_cast<int>(lid)), nullptr);
	// With memory it goes on as if nothing had been.
	for (; lid <= count; lid++) {
		ASSERT_EQ(enter(table, nodes[lid], static_cast<int>(lid)), 0);
	}
	for (lid = 1; lid <= count; lid++) {
		ASSERT_EQ(table.find(static_cast<int>(lid)), &nodes[lid]);
	}
}

TEST(LidtableDeath, EraseOfWhatIsNotInTheTableAborts) {
	testing::FLAGS_gtest_death_test_style = "threadsafe";
	lidtable table;
	node a, b;
	ASSERT_EQ(enter(table, a, 1), 0);
	set_lid(b, 2);
	EXPECT_DEATH(table.erase(&b), "erase of an LWP that is not in the table");
}

// A writer makes and ends LWPs as fast as it can, in recycled nodes and with rising ids, while the table grows under it; readers look
// for ids that are there all the time.  A reader may miss one, because a split or a recycled node leads it astray; with the lock it must
// find it.  What it is given is always a node of ours.
TEST(Lidtable, LocklessReadersSurviveGrowthAndRecycling) {
	constexpr int steady = 200;
	constexpr int recycled = 3000;
	constexpr int readers = 3;
	lidtable table;
	std::mutex lock;
	std::unique_ptr<node[]> pool(new node[steady + recycled]);
	std::vector<int> steady_lids;
	int next_lid = 1;
	for (int i = 0; i < steady; i++, next_lid += 37) {
		ASSERT_EQ(enter(table, pool[static_cast<unsigned>(i)], next_lid), 0);
		steady_lids.push_back(next_lid);
	}
	std::atomic<bool> stop{false};
	std::atomic<int> lost{0}, strangers{0}, started{0};
	std::atomic<long> hits{0};
	std::vector<std::thread> threads;
	for (int r = 0; r < readers; r++) {
		threads.emplace_back([&, r] {
			std::mt19937 random(static_cast<unsigned>(r));
			long found = 0;
			bool counted = false;
			while (!stop.load(std::memory_order_relaxed) || found == 0) {
				const std::size_t i = random() % steady;
				lid_node *n = table.find(steady_lids[i]);
				if (n == nullptr) {
					std::lock_guard guard(lock);
					n = table.find_locked(steady_lids[i]);
				}
				lost += n != &pool[i];
				found++;
				// Ids that come and go: any answer will do, as long as it is a node of the pool.
				lid_node *passing = table.find(static_cast<int>(random() % 400000) + 1);
				strangers += passing != nullptr && (passing < &pool[0] || passing >= &pool[steady + recycled]);
				if (!counted) {
					counted = true;
					started++;
				}
			}
			hits += found;
		});
	}
	while (started.load() < readers) {
		std::this_thread::yield();
	}
	std::mt19937 random(99);
	std::vector<unsigned> in, out;
	for (unsigned i = 0; i < recycled; i++) {
		out.push_back(steady + i);
	}
	int failed = 0;
	for (int step = 0; step < 400000; step++) {
		const bool growing = step / 20000 % 2 == 0;
		std::vector<unsigned> &from = (random() % 10 < (growing ? 7U : 3U) && !out.empty()) || in.empty() ? out : in;
		std::swap(from[random() % from.size()], from.back());
		const unsigned which = from.back();
		from.pop_back();
		std::lock_guard guard(lock);
		if (&from == &in) {
			table.erase(&pool[which]);
			out.push_back(which);
		} else {
			next_lid += next_lid % 37 == 36 ? 2 : 1;
			failed += enter(table, pool[which], next_lid + 37 * steady) != 0;
			in.push_back(which);
		}
	}
	stop = true;
	for (std::thread &t : threads) {
		t.join();
	}
	EXPECT_EQ(failed, 0);
	EXPECT_EQ(lost, 0);
	EXPECT_EQ(strangers, 0);
	EXPECT_GE(hits, readers);
	for (unsigned i = 0; i < steady; i++) {
		EXPECT_EQ(table.find(steady_lids[i]), &pool[i]);
	}
}

// The node is published by the insert: a reader that finds it without the lock sees what was written into it before.
TEST(Lidtable, AHitShowsWhatWasWrittenBeforeTheInsert) {
	constexpr unsigned count = 50000;
	lidtable table;
	std::unique_ptr<node[]> nodes(new node[count + 1]);
	std::atomic<bool> wrong{false};
	std::thread reader([&] {
		for (unsigned lid = 1; lid <= count; lid++) {
			lid_node *n;
			while ((n = table.find(static_cast<int>(lid))) == nullptr) {
				std::this_thread::yield();
			}
			if (static_cast<node *>(n)->payload != static_cast<int>(lid) * 2) {  // not atomic: the race detector looks here
				wrong = true;
			}
		}
	});
	for (unsigned lid = 1; lid <= count; lid++) {
		nodes[lid].payload = static_cast<int>(lid) * 2;
		EXPECT_EQ(enter(table, nodes[lid], static_cast<int>(lid)), 0);
	}
	reader.join();
	EXPECT_FALSE(wrong);
}

}  // namespace
