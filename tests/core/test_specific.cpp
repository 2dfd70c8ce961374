// SPDX-License-Identifier: BSD-2-Clause
//
// LWP-specific data, both layers: what survives, what is destroyed, by whom and in which order.
// test_specific_race.cpp has key_delete against exit.
#include "core/specific.h"

#include "specific_support.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <functional>
#include <memory>
#include <new>
#include <vector>

using namespace lwp::kern;

namespace {

thread_local bool no_memory = false;

}  // namespace

// The allocations of src/core/specific.cpp, which all are of the kind that does not throw.  Weak: clang's sanitizers link their own,
// which then win, and the tests without memory are skipped.
__attribute__((weak)) void *operator new(std::size_t size, const std::nothrow_t &) noexcept {
	return no_memory ? nullptr : ::operator new(size);
}
__attribute__((weak)) void *operator new[](std::size_t size, const std::nothrow_t &) noexcept {
	return no_memory ? nullptr : ::operator new[](size);
}

namespace {

/// Values whose destructor appends their number to `destroyed`.
std::vector<int> destroyed;
struct numbered {
	int number;
	static void destroy(void *p) { destroyed.push_back(static_cast<numbered *>(p)->number); }
};

std::function<void(void *)> on_destroy;  // what `call_on_destroy` does
void call_on_destroy(void *p) { on_destroy(p); }

void *const something = &destroyed;

/// Whether `no_memory` works in this build.
bool can_refuse_memory() {
	no_memory = true;
	void *memory = ::operator new(1, std::nothrow);
	no_memory = false;
	::operator delete(memory);
	return memory == nullptr;
}

/// The test's own list of what was destroyed begins empty.
class Specific : public testing::Test {
	void SetUp() override { destroyed.clear(); }
	void TearDown() override { on_destroy = nullptr; }
};
using Tss = Specific;

// ---- NetBSD's layer ------------------------------------------------------------------------------------------------------

TEST_F(Specific, ALwpThatSetNothingHasNothing) {
	lwp_like l;
	const unsigned key = key_with(nullptr);
	EXPECT_TRUE(specific_empty(l.ref));
	EXPECT_EQ(specific_get(l.ref, key), nullptr);
	EXPECT_TRUE(specific_empty(l.ref));
	specific_key_delete(key);
}

TEST_F(Specific, EachLwpHasItsOwnValueForEachKey) {
	lwp_like a, b;
	int values[4];
	const unsigned k = key_with(nullptr), m = key_with(nullptr);
	ASSERT_EQ(specific_set(a.ref, k, &values[0]), 0);
	ASSERT_EQ(specific_set(a.ref, m, &values[1]), 0);
	ASSERT_EQ(specific_set(b.ref, k, &values[2]), 0);
	EXPECT_EQ(specific_get(a.ref, k), &values[0]);
	EXPECT_EQ(specific_get(a.ref, m), &values[1]);
	EXPECT_EQ(specific_get(b.ref, k), &values[2]);
	EXPECT_EQ(specific_get(b.ref, m), nullptr);
	specific_key_delete(k);
	specific_key_delete(m);
}

TEST_F(Specific, TheLowestFreeKeyIsReused) {
	unsigned keys[40];
	for (unsigned &key : keys) {
		key = key_with(nullptr);
	}
	EXPECT_TRUE(std::ranges::is_sorted(keys));
	specific_key_delete(keys[35]);
	specific_key_delete(keys[3]);
	specific_key_delete(keys[7]);
	EXPECT_EQ(key_with(nullptr), keys[3]);
	EXPECT_EQ(key_with(nullptr), keys[7]);
	EXPECT_EQ(key_with(nullptr), keys[35]);
	for (unsigned key : keys) {
		specific_key_delete(key);
	}
}

TEST_F(Specific, SetDoesNotDestroyTheOldValue) {
	counted first, second;
	const unsigned key = key_with(counted::destroy);
	{
		lwp_like l;
		ASSERT_EQ(specific_set(l.ref, key, &first), 0);
		ASSERT_EQ(specific_set(l.ref, key, &second), 0);
		EXPECT_EQ(specific_get(l.ref, key), &second);
	}
	EXPECT_EQ(first.destroyed, 0);
	EXPECT_EQ(second.destroyed, 1);
	specific_key_delete(key);
}

TEST_F(Specific, ExitDestroysWhatIsNotNullOnceInAscendingOrderOfKeys) {
	unsigned keys[100];
	numbered values[100];
	lwp_like l;
	for (int i = 0; i < 100; i++) {
		keys[i] = key_with(i % 10 == 9 ? nullptr : numbered::destroy);
		values[i].number = i;
	}
	std::vector<int> expected;
	for (int i = 99; i >= 0; i--) {
		if (i % 3 != 0) {
			ASSERT_EQ(specific_set(l.ref, keys[i], &values[i]), 0);
			if (i % 5 == 0) {
				ASSERT_EQ(specific_set(l.ref, keys[i], nullptr), 0);
			} else if (i % 10 != 9) {
				expected.insert(expected.begin(), i);
			}
		}
	}
	l.exit();
	EXPECT_EQ(destroyed, expected);
	l.exit();
	EXPECT_EQ(destroyed, expected);
	for (unsigned key : keys) {
		EXPECT_EQ(specific_get(l.ref, key), nullptr);
		specific_key_delete(key);
	}
}

TEST_F(Specific, ADestructorReadsNullForEveryKey) {
	lwp_like l;
	const unsigned k = key_with(call_on_destroy), m = key_with(call_on_destroy);
	int calls = 0;
	on_destroy = [&](void *) {
		calls++;
		EXPECT_EQ(specific_get(l.ref, k), nullptr);
		EXPECT_EQ(specific_get(l.ref, m), nullptr);
	};
	ASSERT_EQ(specific_set(l.ref, k, something), 0);
	ASSERT_EQ(specific_set(l.ref, m, something), 0);
	l.exit();
	EXPECT_EQ(calls, 2);
	specific_key_delete(k);
	specific_key_delete(m);
}

TEST_F(Specific, WhatADestructorSetsIsDroppedAfterTheOnePass) {
	lwp_like l;
	const unsigned key = key_with(call_on_destroy);
	int calls = 0;
	on_destroy = [&](void *) {
		calls++;
		EXPECT_EQ(specific_set(l.ref, key, something), 0);
	};
	ASSERT_EQ(specific_set(l.ref, key, something), 0);
	l.exit();
	EXPECT_EQ(calls, 1);
	EXPECT_EQ(specific_get(l.ref, key), nullptr);
	specific_key_delete(key);
	EXPECT_EQ(calls, 1);
}

TEST_F(Specific, KeyDeleteDestroysTheValueOfEveryLwpAndExitNothingMore) {
	constexpr std::size_t count = 1000;
	const unsigned key = key_with(counted::destroy), other = key_with(counted::destroy);
	std::vector<lwp_like> lwps(count);
	std::vector<counted> values(count), others(count);
	for (std::size_t i = 0; i < count; i++) {
		if (i % 4 != 0) {
			ASSERT_EQ(specific_set(lwps[i].ref, other, &others[i]), 0);
		}
		if (i % 3 != 0) {
			ASSERT_EQ(specific_set(lwps[i].ref, key, &values[i]), 0);
		}
	}
	specific_key_delete(key);
	for (std::size_t i = 0; i < count; i++) {
		ASSERT_EQ(values[i].destroyed, i % 3 != 0 ? 1 : 0) << i;
		ASSERT_EQ(others[i].destroyed, 0) << i;
		lwps[i].exit();
		ASSERT_EQ(values[i].destroyed, i % 3 != 0 ? 1 : 0) << i;
		ASSERT_EQ(others[i].destroyed, i % 4 != 0 ? 1 : 0) << i;
	}
	specific_key_delete(other);
}

TEST_F(Specific, ANewKeyWithAnOldNumberReadsNullEverywhere) {
	lwp_like a, b;
	for (auto dtor : {counted::destroy, static_cast<void (*)(void *)>(nullptr)}) {
		counted value;
		const unsigned key = key_with(dtor);
		ASSERT_EQ(specific_set(a.ref, key, &value), 0);
		ASSERT_EQ(specific_set(b.ref, key, &value), 0);
		specific_key_delete(key);
		EXPECT_EQ(value.destroyed, dtor == nullptr ? 0 : 2);
		ASSERT_EQ(key_with(counted::destroy), key);
		EXPECT_EQ(specific_get(a.ref, key), nullptr);
		EXPECT_EQ(specific_get(b.ref, key), nullptr);
		specific_key_delete(key);
	}
}

// No lock is held: otherwise each of these calls would wait for its own caller.
TEST_F(Specific, ADestructorMayMakeAndDeleteKeysAndSetValues) {
	lwp_like l, other;
	counted value;
	const unsigned key = key_with(call_on_destroy), victim = key_with(counted::destroy);
	int calls = 0;
	on_destroy = [&](void *) {
		calls++;
		const unsigned fresh = key_with(counted::destroy);
		EXPECT_EQ(specific_set(other.ref, fresh, &value), 0);
		specific_key_delete(fresh);
	};
	ASSERT_EQ(specific_set(l.ref, key, something), 0);
	l.exit();
	EXPECT_EQ(calls, 1);
	EXPECT_EQ(value.destroyed, 1);
	// The same while the values are destroyed by key_delete; and the destructor ends the very LWP that it came from.
	ASSERT_EQ(specific_set(l.ref, key, something), 0);
	ASSERT_EQ(specific_set(other.ref, key, something), 0);
	ASSERT_EQ(specific_set(l.ref, victim, &value), 0);
	on_destroy = [&, next = on_destroy](void *p) {
		next(p);
		l.exit();
	};
	specific_key_delete(key);
	EXPECT_EQ(calls, 3);
	EXPECT_EQ(value.destroyed, 4);
	specific_key_delete(victim);
}

// In the middle of an exit the LWP's values that are still to come belong to key_delete, as those of any other LWP do: when it
// returns they are destroyed, and the next key with that number finds nothing.
TEST_F(Specific, KeyDeleteInTheMiddleOfAnExitDestroysWhatIsStillToCome) {
	lwp_like l;
	counted value;
	const unsigned first = key_with(call_on_destroy), second = key_with(counted::destroy);
	on_destroy = [&](void *) {
		specific_key_delete(second);
		EXPECT_EQ(value.destroyed, 1);
		EXPECT_EQ(key_with(destroy_wrongly), second);
	};
	ASSERT_EQ(specific_set(l.ref, first, something), 0);
	ASSERT_EQ(specific_set(l.ref, second, &value), 0);
	l.exit();
	EXPECT_EQ(value.destroyed, 1);
	specific_key_delete(first);
	specific_key_delete(second);
}

TEST_F(Specific, WithoutMemorySetAndCreateFailAndChangeNothing) {
	if (!can_refuse_memory()) {
		GTEST_SKIP() << "the sanitizer brings its own operator new";
	}
	lwp_like l;
	std::vector<unsigned> keys;
	for (int i = 0; i < 10; i++) {
		keys.push_back(key_with(nullptr));
	}
	no_memory = true;
	EXPECT_EQ(specific_set(l.ref, keys[0], something), ENOMEM);
	no_memory = false;
	EXPECT_EQ(specific_get(l.ref, keys[0]), nullptr);
	ASSERT_EQ(specific_set(l.ref, keys[0], something), 0);
	no_memory = true;
	EXPECT_EQ(specific_set(l.ref, keys[9], something), ENOMEM);
	int error;
	unsigned key;
	while ((error = specific_key_create(&key, nullptr)) == 0) {
		keys.push_back(key);
	}
	no_memory = false;
	EXPECT_EQ(error, ENOMEM);
	EXPECT_EQ(specific_get(l.ref, keys[0]), something);
	EXPECT_EQ(specific_get(l.ref, keys[9]), nullptr);
	EXPECT_EQ(key_with(nullptr), keys.back() + 1);
	specific_key_delete(keys.back() + 1);
	for (unsigned k : keys) {
		specific_key_delete(k);
	}
}

TEST_F(Specific, KeysEndAtTheLimitWithEnomem) {
	std::vector<unsigned> keys;
	unsigned key;
	int error;
	while ((error = specific_key_create(&key, nullptr)) == 0) {
		keys.push_back(key);
		ASSERT_LE(keys.size(), specific_keys_max);
	}
	EXPECT_EQ(error, ENOMEM);
	EXPECT_EQ(keys.size(), specific_keys_max);
	{
		lwp_like l;
		ASSERT_EQ(specific_set(l.ref, keys.back(), something), 0);
		EXPECT_EQ(specific_get(l.ref, keys.back()), something);
	}
	for (unsigned k : keys) {
		specific_key_delete(k);
	}
	EXPECT_EQ(specific_get(specref(), ~0U), nullptr);
}

TEST_F(Specific, MisuseAbortsAndNamesTheCall) {
	testing::FLAGS_gtest_death_test_style = "threadsafe";
	lwp_like l;
	const unsigned key = key_with(call_on_destroy);
	EXPECT_DEATH((void)specific_set(l.ref, key + 1, something), "lwp_setspecific: key .* never made, or has been deleted");
	EXPECT_DEATH((void)specific_set(l.ref, ~0U, something), "lwp_setspecific");
	EXPECT_DEATH(specific_key_delete(key + 1), "lwp_specific_key_delete: key .* never made, or has been deleted");
	EXPECT_DEATH(specific_key_delete(~0U), "lwp_specific_key_delete");
	// A key that is being deleted is no key any more.
	ASSERT_EQ(specific_set(l.ref, key, something), 0);
	on_destroy = [&](void *) { (void)specific_set(l.ref, key, something); };
	EXPECT_DEATH(specific_key_delete(key), "lwp_setspecific");
	on_destroy = [&](void *) { specific_key_delete(key); };
	EXPECT_DEATH(specific_key_delete(key), "lwp_specific_key_delete");
	on_destroy = [](void *) {};
	specific_key_delete(key);
	EXPECT_DEATH((void)specific_set(l.ref, key, something), "lwp_setspecific");
	EXPECT_DEATH(specific_key_delete(key), "lwp_specific_key_delete");
}

// ---- C11's layer -----------------------------------------------------------------------------------------------------------

TEST_F(Tss, EachLwpHasItsOwnValueForEachKey) {
	lwp_like a, b;
	int values[3];
	const unsigned k = tss_with(nullptr), m = tss_with(nullptr);
	EXPECT_EQ(tss_get(a.ref, k), nullptr);
	ASSERT_EQ(tss_set(a.ref, k, &values[0]), 0);
	ASSERT_EQ(tss_set(a.ref, m, &values[1]), 0);
	ASSERT_EQ(tss_set(b.ref, k, &values[2]), 0);
	EXPECT_EQ(tss_get(a.ref, k), &values[0]);
	EXPECT_EQ(tss_get(a.ref, m), &values[1]);
	EXPECT_EQ(tss_get(b.ref, k), &values[2]);
	EXPECT_EQ(tss_get(b.ref, m), nullptr);
	EXPECT_EQ(tss_delete(k), 0);
	EXPECT_EQ(tss_delete(m), 0);
}

TEST_F(Tss, UnknownKeysAreRefused) {
	lwp_like l;
	const unsigned key = tss_with(nullptr);
	for (unsigned unknown : {0U, key + 1, key ^ 1U << 30, key ^ 1U << 20, ~0U}) {
		EXPECT_EQ(tss_get(l.ref, unknown), nullptr);
		EXPECT_EQ(tss_set(l.ref, unknown, something), EINVAL);
		EXPECT_EQ(tss_delete(unknown), EINVAL);
	}
	EXPECT_TRUE(specific_empty(l.ref));
	EXPECT_EQ(tss_delete(key), 0);
}

TEST_F(Tss, ADeletedKeyStaysUnknownWhenItsPlaceIsUsedAgain) {
	lwp_like l;
	const unsigned old = tss_with(nullptr);
	ASSERT_EQ(tss_set(l.ref, old, something), 0);
	ASSERT_EQ(tss_delete(old), 0);
	EXPECT_EQ(tss_get(l.ref, old), nullptr);
	EXPECT_EQ(tss_set(l.ref, old, something), EINVAL);
	EXPECT_EQ(tss_delete(old), EINVAL);
	const unsigned fresh = tss_with(nullptr);
	EXPECT_NE(fresh, old);
	EXPECT_EQ(tss_get(l.ref, fresh), nullptr);
	EXPECT_EQ(tss_get(l.ref, old), nullptr);
	EXPECT_EQ(tss_set(l.ref, old, something), EINVAL);
	EXPECT_EQ(tss_delete(old), EINVAL);
	ASSERT_EQ(tss_set(l.ref, fresh, &l), 0);
	EXPECT_EQ(tss_get(l.ref, fresh), &l);
	EXPECT_EQ(tss_get(l.ref, old), nullptr);
	EXPECT_EQ(tss_delete(fresh), 0);
}

// The number of a key has only some bits of its generation, so numbers do come again; a value knows all of them.
TEST_F(Tss, AValueIsNotMistakenForOneOfALaterKeyWithTheSameNumber) {
	counted value;
	lwp_like l;
	const unsigned old = tss_with(counted::destroy);
	ASSERT_EQ(tss_set(l.ref, old, &value), 0);
	ASSERT_EQ(tss_delete(old), 0);
	unsigned key;
	for (int i = 1; (key = tss_with(counted::destroy)) != old; i++) {
		ASSERT_LT(i, 100000);
		ASSERT_EQ(tss_delete(key), 0);
	}
	EXPECT_EQ(tss_get(l.ref, key), nullptr);
	l.exit();
	EXPECT_EQ(value.destroyed, 0);
	EXPECT_EQ(tss_delete(key), 0);
}

TEST_F(Tss, DeleteDestroysNothing) {
	counted value;
	lwp_like l;
	const unsigned key = tss_with(counted::destroy);
	ASSERT_EQ(tss_set(l.ref, key, &value), 0);
	ASSERT_EQ(tss_delete(key), 0);
	l.exit();
	EXPECT_EQ(value.destroyed, 0);
}

TEST_F(Tss, ExitDestroysEachValueOnceAndLeavesThoseWithoutADestructor) {
	lwp_like l;
	counted value;
	const unsigned k = tss_with(call_on_destroy), plain = tss_with(nullptr), m = tss_with(counted::destroy);
	on_destroy = [&](void *p) {
		EXPECT_EQ(p, something);
		EXPECT_EQ(tss_get(l.ref, k), nullptr);  // its own reads null by now,
		EXPECT_EQ(tss_get(l.ref, plain), &l);   // others live until their turn
		EXPECT_EQ(tss_get(l.ref, m), &value);
	};
	ASSERT_EQ(tss_set(l.ref, k, something), 0);
	ASSERT_EQ(tss_set(l.ref, plain, &l), 0);
	ASSERT_EQ(tss_set(l.ref, m, &value), 0);
	l.exit();
	EXPECT_EQ(value.destroyed, 1);
	EXPECT_EQ(tss_get(l.ref, plain), nullptr);
	for (unsigned key : {k, plain, m}) {
		EXPECT_EQ(tss_delete(key), 0);
	}
}

TEST_F(Tss, DestructorsThatGoOnSettingValuesGetFourRounds) {
	lwp_like l;
	int calls = 0;
	const unsigned key = tss_with(call_on_destroy);
	on_destroy = [&](void *) {
		calls++;
		EXPECT_EQ(tss_set(l.ref, key, something), 0);
	};
	ASSERT_EQ(tss_set(l.ref, key, something), 0);
	l.exit();
	EXPECT_EQ(calls, 4);
	EXPECT_EQ(tss_delete(key), 0);
}

// The later key needs a larger container than the LWP has: it moves while the exit walks along it.
TEST_F(Tss, AValueSetByADestructorIsDestroyedToo) {
	lwp_like l;
	counted early, late;
	const unsigned first = tss_with(counted::destroy), setter = tss_with(call_on_destroy);
	unsigned keys[50];
	for (unsigned &key : keys) {
		key = tss_with(counted::destroy);
	}
	on_destroy = [&](void *) {
		EXPECT_EQ(tss_set(l.ref, first, &early), 0);
		EXPECT_EQ(tss_set(l.ref, keys[49], &late), 0);
	};
	ASSERT_EQ(tss_set(l.ref, setter, something), 0);
	l.exit();
	EXPECT_EQ(early.destroyed, 1);
	EXPECT_EQ(late.destroyed, 1);
	for (unsigned key : keys) {
		EXPECT_EQ(tss_delete(key), 0);
	}
	EXPECT_EQ(tss_delete(first), 0);
	EXPECT_EQ(tss_delete(setter), 0);
}

TEST_F(Tss, TssValuesGoBeforeNetbsdsAndMaySetThem) {
	lwp_like l;
	numbered one{1}, two{2};
	const unsigned late = key_with(numbered::destroy), later = key_with(numbered::destroy);
	const unsigned early = tss_with(call_on_destroy);
	on_destroy = [&](void *) {
		destroyed.push_back(0);
		EXPECT_EQ(specific_get(l.ref, late), &one);
		EXPECT_EQ(specific_set(l.ref, later, &two), 0);
	};
	ASSERT_EQ(specific_set(l.ref, late, &one), 0);
	ASSERT_EQ(tss_set(l.ref, early, something), 0);
	l.exit();
	EXPECT_EQ(destroyed, (std::vector<int>{0, 1, 2}));
	specific_key_delete(late);
	specific_key_delete(later);
	EXPECT_EQ(tss_delete(early), 0);
}

TEST_F(Tss, AValueSetByANetbsdDestructorIsDestroyedToo) {
	lwp_like l;
	counted value;
	const unsigned key = key_with(call_on_destroy);
	const unsigned tss = tss_with(counted::destroy);
	on_destroy = [&](void *) { EXPECT_EQ(tss_set(l.ref, tss, &value), 0); };
	ASSERT_EQ(specific_set(l.ref, key, something), 0);
	l.exit();
	EXPECT_EQ(value.destroyed, 1);
	specific_key_delete(key);
	EXPECT_EQ(tss_delete(tss), 0);
}

TEST_F(Tss, WithoutMemorySetFailsAndChangesNothing) {
	if (!can_refuse_memory()) {
		GTEST_SKIP() << "the sanitizer brings its own operator new";
	}
	lwp_like l;
	unsigned keys[10];
	for (unsigned &key : keys) {
		key = tss_with(nullptr);
	}
	no_memory = true;
	EXPECT_EQ(tss_set(l.ref, keys[0], something), ENOMEM);
	no_memory = false;
	EXPECT_EQ(tss_get(l.ref, keys[0]), nullptr);
	ASSERT_EQ(tss_set(l.ref, keys[0], something), 0);
	no_memory = true;
	EXPECT_EQ(tss_set(l.ref, keys[9], something), ENOMEM);
	EXPECT_EQ(tss_set(l.ref, keys[0], &l), 0);
	no_memory = false;
	EXPECT_EQ(tss_get(l.ref, keys[0]), &l);
	EXPECT_EQ(tss_get(l.ref, keys[9]), nullptr);
	for (unsigned key : keys) {
		EXPECT_EQ(tss_delete(key), 0);
	}
}

}  // namespace
