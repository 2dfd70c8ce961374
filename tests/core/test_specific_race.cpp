// SPDX-License-Identifier: BSD-2-Clause
//
// LWP-specific data from several kernel threads at once: the end of a key against exits, keys made and deleted at once.  The rules themselves are in
// test_specific.cpp.
#include "core/specific.h"

#include "specific_support.h"

#include <algorithm>
#include <atomic>
#include <barrier>
#include <set>
#include <thread>
#include <vector>

using namespace lwp::kern;

namespace {

int place;
void *const something = &place;

// LWPs exit on two kernel threads while a third deletes one of their keys and makes the next key with its number, whose destructor
// would be the wrong one.  Whoever comes first to a value destroys it, once.
TEST(SpecificRace, KeyDeleteAgainstExitDestroysEachValueOnce) {
	constexpr int rounds = 300;
	constexpr std::size_t lwps = 150;
	const unsigned low = key_with(counted::destroy);
	struct one {
		lwp_like l;
		counted kept, deleted;
	};
	std::vector<one> all[2] = {std::vector<one>(lwps), std::vector<one>(lwps)};
	unsigned key = key_with(counted::destroy);
	std::barrier start(3), end(3);
	auto exits = [&](std::vector<one> &mine) {
		for (int round = 1; round <= rounds; round++) {
			for (one &o : mine) {
				EXPECT_EQ(specific_set(o.l.ref, low, &o.kept), 0);
				EXPECT_EQ(specific_set(o.l.ref, key, &o.deleted), 0);
			}
			start.arrive_and_wait();
			for (one &o : mine) {
				o.l.exit();
			}
			end.arrive_and_wait();
			for (one &o : mine) {
				EXPECT_EQ(o.kept.destroyed, round);
				EXPECT_EQ(o.deleted.destroyed, round);
			}
			end.arrive_and_wait();
		}
	};
	std::thread a(exits, std::ref(all[0])), b(exits, std::ref(all[1]));
	for (int round = 1; round <= rounds; round++) {
		start.arrive_and_wait();
		specific_key_delete(key);
		const unsigned wrong = key_with(destroy_wrongly);
		EXPECT_EQ(wrong, key);
		end.arrive_and_wait();
		specific_key_delete(wrong);
		key = key_with(counted::destroy);
		end.arrive_and_wait();
	}
	a.join();
	b.join();
	specific_key_delete(key);
	specific_key_delete(low);
}

// Two keys are deleted at once, by two cursors in one list, while a third kernel thread's LWPs come, let their containers grow, and go.
TEST(SpecificRace, TwoDeletesAtOnceWhileContainersComeGrowAndGo) {
	constexpr int rounds = 100;
	constexpr std::size_t lwps = 300;
	std::vector<unsigned> filler;
	for (int i = 0; i < 40; i++) {
		filler.push_back(key_with(nullptr));
	}
	unsigned keys[2] = {key_with(counted::destroy), key_with(counted::destroy)};
	const unsigned last = key_with(counted::destroy);
	std::barrier start(3), end(3);
	std::vector<counted> values[2] = {std::vector<counted>(lwps), std::vector<counted>(lwps)};
	auto deletes = [&](int which) {
		for (int round = 0; round < rounds; round++) {
			start.arrive_and_wait();
			specific_key_delete(keys[which]);
			end.arrive_and_wait();
		}
	};
	std::thread a(deletes, 0), b(deletes, 1);
	for (int round = 1; round <= rounds; round++) {
		counted grown;
		{
			std::vector<lwp_like> standing(lwps);
			for (std::size_t i = 0; i < lwps; i++) {
				EXPECT_EQ(specific_set(standing[i].ref, keys[0], &values[0][i]), 0);
				EXPECT_EQ(specific_set(standing[i].ref, keys[1], &values[1][i]), 0);
			}
			start.arrive_and_wait();
			for (std::size_t i = 0; i < lwps; i++) {
				EXPECT_EQ(specific_set(standing[i].ref, last, &grown), 0);  // the array moves
				lwp_like passing;
				EXPECT_EQ(specific_set(passing.ref, filler[i % filler.size()], something), 0);
				if (i % 3 == 0) {
					standing[i].exit();
				}
			}
			end.arrive_and_wait();
		}
		EXPECT_EQ(grown.destroyed, static_cast<int>(lwps));
		for (std::size_t i = 0; i < lwps; i++) {
			EXPECT_EQ(values[0][i].destroyed, round);
			EXPECT_EQ(values[1][i].destroyed, round);
		}
		keys[0] = key_with(counted::destroy);
		keys[1] = key_with(counted::destroy);
	}
	a.join();
	b.join();
	for (unsigned key : {keys[0], keys[1], last}) {
		specific_key_delete(key);
	}
	for (unsigned key : filler) {
		specific_key_delete(key);
	}
}

TEST(SpecificRace, KeysMadeAtOnceAreDifferent) {
	constexpr int threads = 3;
	constexpr int count = 2000;
	std::vector<unsigned> made[threads], tss[threads];
	std::barrier start(threads);
	std::vector<std::thread> makers;
	for (int t = 0; t < threads; t++) {
		makers.emplace_back([&, t] {
			start.arrive_and_wait();
			for (int i = 0; i < count; i++) {
				made[t].push_back(key_with(nullptr));
				tss[t].push_back(tss_with(nullptr));
			}
		});
	}
	for (std::thread &t : makers) {
		t.join();
	}
	std::set<unsigned> keys, tss_keys;
	for (int t = 0; t < threads; t++) {
		keys.insert(made[t].begin(), made[t].end());
		tss_keys.insert(tss[t].begin(), tss[t].end());
	}
	EXPECT_EQ(keys.size(), static_cast<std::size_t>(threads * count));
	EXPECT_EQ(tss_keys.size(), static_cast<std::size_t>(threads * count));
	for (unsigned key : keys) {
		specific_key_delete(key);
	}
	for (unsigned key : tss_keys) {
		EXPECT_EQ(tss_delete(key), 0);
	}
}

// A tss key is deleted and made again while LWPs exit: a value is destroyed by its own key's destructor or not at all.
TEST(SpecificRace, TssDeleteAgainstExitNeverCallsAnotherKeysDestructor) {
	constexpr int laps = 20000;
	std::atomic<unsigned> current{tss_with(counted::destroy)};
	std::atomic<bool> stop{false};
	std::thread other([&] {
		while (!stop) {
			const unsigned key = current;
			const unsigned deleted = tss_with(destroy_wrongly);
			EXPECT_EQ(tss_delete(key), 0);
			const unsigned wrong = tss_with(destroy_wrongly);  // in the place of `key`
			current = tss_with(counted::destroy);
			EXPECT_EQ(tss_delete(deleted), 0);
			EXPECT_EQ(tss_delete(wrong), 0);
		}
	});
	int set = 0, right = 0;
	for (int lap = 0; lap < laps || right == 0; lap++) {
		counted value;
		lwp_like l;
		set += tss_set(l.ref, current, &value) == 0;  // EINVAL if it was deleted just now
		l.exit();
		ASSERT_LE(value.destroyed, 1);
		right += value.destroyed;
	}
	EXPECT_LE(right, set);
	stop = true;
	other.join();
	EXPECT_EQ(tss_delete(current), 0);
}

}  // namespace
