// SPDX-License-Identifier: BSD-2-Clause
//
// The three kinds of specific data: lwp_specific_* (NetBSD's rules), lwp_tss_* (C11's and POSIX's), lwp::specific<T>.
// vcpus: 1 2 8
#include "../support/support.h"

#include <lwp/proc.h>

#include <csignal>
#include <memory>
#include <string>
#include <vector>

using namespace lwp::test;

namespace {

const bool touched = touch_runtime();

/// What destructors saw, in order.  One LWP at a time writes it: the one that ends, before anybody collects it.
struct call {
	int key;
	lwpid_t by;
	void *value;
	void *get;  // what the key read meanwhile
};
std::vector<call> calls;
specificdata_key_t keys[4];
lwp_tss_t tss[3];
std::atomic<int> counted{0};

template <int N>
void record_specific(void *value) {
	calls.push_back({N, _lwp_self(), value, lwp_getspecific(keys[N])});
}

template <int N>
void record_tss(void *value) {
	calls.push_back({N, _lwp_self(), value, lwp_tss_get(tss[N])});
}

void count(void *) { counted.fetch_add(1); }

char cell[8];  // addresses to store

specificdata_key_t make_key(specificdata_dtor_t destructor) {
	specificdata_key_t key{};
	EXPECT_EQ(lwp_specific_key_create(&key, destructor), 0);
	return key;
}

lwp_tss_t make_tss(lwp_tss_dtor_t destructor) {
	lwp_tss_t key{};
	EXPECT_EQ(lwp_tss_create(&key, destructor), 0);
	return key;
}

}  // namespace

TEST(Specific, IsNullUntilSetAndBelongsToTheLwp) {
	const specificdata_key_t key = make_key(nullptr);
	EXPECT_EQ(lwp_getspecific(key), nullptr);
	lwp_setspecific(key, &cell[0]);
	std::vector<lwpid_t> lids;
	for (int n = 1; n < 8; ++n) {
		lids.push_back(spawn([key, n] {
			EXPECT_EQ(lwp_getspecific(key), nullptr);
			lwp_setspecific(key, &cell[n]);
			for (int i = 0; i < 200; ++i) {
				lwp_yield();
				ASSERT_EQ(lwp_getspecific(key), &cell[n]);
			}
		}));
	}
	for (const lwpid_t lid : lids) {
		collect(lid);
		EXPECT_EQ(lwp_getspecific(key), &cell[0]);
	}
	lwp_setspecific(key, nullptr);
	lwp_specific_key_delete(key);
}

// Behaviour 32: ascending keys whatever the order of setting, once each, only values that are not null, in the LWP that ends, and null by then.
TEST(Specific, DestructorsRunInTheDyingLwpInAscendingOrder) {
	keys[0] = make_key(record_specific<0>);
	keys[1] = make_key(record_specific<1>);
	keys[2] = make_key(record_specific<2>);
	keys[3] = make_key(record_specific<3>);
	calls.clear();
	const lwpid_t lid = spawn([] {
		lwp_setspecific(keys[3], &cell[3]);
		lwp_setspecific(keys[0], &cell[0]);
		lwp_setspecific(keys[1], &cell[1]);
		lwp_setspecific(keys[1], nullptr);
		lwp_setspecific(keys[2], &cell[2]);
	});
	collect(lid);
	ASSERT_EQ(calls.size(), 3U);
	const int expected[] = {0, 2, 3};
	for (std::size_t i = 0; i < 3; ++i) {
		EXPECT_EQ(calls[i].key, expected[i]);
		EXPECT_EQ(calls[i].by, lid);
		EXPECT_EQ(calls[i].value, &cell[expected[i]]);
		EXPECT_EQ(calls[i].get, nullptr);
	}
	calls.clear();
	for (const specificdata_key_t key : keys) {
		lwp_specific_key_delete(key);
	}
	EXPECT_TRUE(calls.empty());
}

TEST(Specific, OfAnotherLwpThatSetsNothingMeanwhile) {
	specificdata_key_t key;
	ASSERT_EQ(lwp_specific_key_create(&key, nullptr), 0);
	int value = 0;
	subject other([&](subject &s) {
		lwp_setspecific(key, &value);
		s.park_once();
	});
	other.await_blocked();
	EXPECT_EQ(_lwp_getspecific_by_lwp(other.lid(), key), &value);
	EXPECT_EQ(_lwp_getspecific_by_lwp(_lwp_self(), key), nullptr);
	EXPECT_EQ(_lwp_getspecific_by_lwp(nobody, key), nullptr);
	EXPECT_EQ(_lwp_getspecific_by_lwp(0, key), nullptr);
	EXPECT_EQ(error_of(_lwp_unpark(other.lid(), nullptr)), 0);
	await_end(other.lid());
	EXPECT_EQ(_lwp_getspecific_by_lwp(other.lid(), key), nullptr) << "it is a zombie";
	collect(other.lid());
	lwp_specific_key_delete(key);
}

TEST(Specific, ReplacedValueIsNotDestroyed) {
	counted = 0;
	const specificdata_key_t key = make_key(count);
	collect(spawn([key] {
		lwp_setspecific(key, &cell[0]);
		lwp_setspecific(key, &cell[1]);
	}));
	EXPECT_EQ(counted.load(), 1);
	lwp_specific_key_delete(key);
}

TEST(Specific, NullDestructorIsNone) {
	const specificdata_key_t key = make_key(nullptr);
	collect(spawn([key] { lwp_setspecific(key, &cell[0]); }));
	lwp_specific_key_delete(key);
}

TEST(Specific, ExitFromNestedFramesRunsDestructorsToo) {
	counted = 0;
	const specificdata_key_t key = make_key(count);
	collect(spawn([key] {
		lwp_setspecific(key, &cell[0]);
		_lwp_exit();
	}));
	EXPECT_EQ(counted.load(), 1);
	const lwpid_t detached = spawn([key] { lwp_setspecific(key, &cell[0]); }, LWP_DETACHED);
	await_end(detached);
	EXPECT_EQ(counted.load(), 2);
	lwp_specific_key_delete(key);
}

// It ends once, and what it had besides is destroyed.
TEST(Specific, DestructorMayCallExit) {
	counted = 0;
	const auto exits = [](void *) {
		counted.fetch_add(1);
		_lwp_exit();
	};
	const specificdata_key_t first = make_key(exits);
	const specificdata_key_t second = make_key(exits);
	const specificdata_key_t third = make_key(count);
	const lwp_tss_t before = make_tss(exits);
	const auto set_all = [&] {
		EXPECT_EQ(lwp_tss_set(before, &cell[0]), 0);
		for (const specificdata_key_t key : {first, second, third}) {
			lwp_setspecific(key, &cell[0]);
		}
	};
	collect(spawn(set_all));
	EXPECT_EQ(counted.load(), 4);
	await_end(spawn(set_all, LWP_DETACHED));
	EXPECT_EQ(counted.load(), 8);
	EXPECT_EQ(lwp_proc_list(nullptr, 0), 1) << "who has ended is gone";
	for (const specificdata_key_t key : {first, second, third}) {
		lwp_specific_key_delete(key);
	}
	EXPECT_EQ(lwp_tss_delete(before), 0);
}

// Behaviour 32.
TEST(Specific, DeletingAKeyDestroysTheValueOfEveryLwp) {
	counted = 0;
	const specificdata_key_t key = make_key(count);
	lwp_setspecific(key, &cell[0]);
	std::vector<std::unique_ptr<subject>> holders;
	for (int n = 0; n < 5; ++n) {
		holders.push_back(std::make_unique<subject>([key, n](subject &s) {
			if (n != 0) {
				lwp_setspecific(key, &cell[n]);
			}
			s.park_once();
		}));
	}
	for (const auto &s : holders) {
		s->await_blocked();
	}
	lwp_specific_key_delete(key);
	EXPECT_EQ(counted.load(), 5) << "ours and those of four of the five";
	for (const auto &s : holders) {
		EXPECT_EQ(error_of(_lwp_unpark(s->lid(), nullptr)), 0);
		collect(s->lid());
	}
	EXPECT_EQ(counted.load(), 5) << "destroyed once";
}

TEST(Specific, LowestFreeKeyIsUsedAgainAndReadsNull) {
	const specificdata_key_t a = make_key(nullptr);
	const specificdata_key_t b = make_key(nullptr);
	const specificdata_key_t c = make_key(nullptr);
	EXPECT_LT(a, b);
	EXPECT_LT(b, c);
	lwp_setspecific(b, &cell[0]);
	lwp_specific_key_delete(b);
	EXPECT_EQ(make_key(nullptr), b);
	EXPECT_EQ(lwp_getspecific(b), nullptr);
	for (const specificdata_key_t key : {a, b, c}) {
		lwp_specific_key_delete(key);
	}
}

TEST(Specific, ManyKeys) {
	std::vector<specificdata_key_t> many;
	counted = 0;
	for (int i = 0; i < 200; ++i) {
		many.push_back(make_key(count));
	}
	collect(spawn([&many] {
		for (const specificdata_key_t key : many) {
			lwp_setspecific(key, &cell[key % 8]);
		}
		lwp_yield();
		for (const specificdata_key_t key : many) {
			EXPECT_EQ(lwp_getspecific(key), &cell[key % 8]);
		}
	}));
	EXPECT_EQ(counted.load(), 200);
	for (const specificdata_key_t key : many) {
		lwp_specific_key_delete(key);
	}
}

// A destructor runs in LWP context: it may block.
TEST(Specific, DestructorMayBlock) {
	static gate open;
	static std::atomic<bool> waiting;
	const specificdata_key_t key = make_key([](void *) {
		waiting = true;
		open.pass();
		(void)park_for(std::chrono::microseconds(10));
	});
	const lwpid_t lid = spawn([key] { lwp_setspecific(key, &cell[0]); });
	EXPECT_TRUE(wait_until([] { return waiting.load(); }));
	EXPECT_TRUE(alive(lid));
	open.open();
	collect(lid);
	lwp_specific_key_delete(key);
}

TEST(SpecificDeathTest, SettingAKeyThatWasNeverMadeAborts) {
	EXPECT_EXIT(lwp_setspecific(4711, &cell[0]), testing::KilledBySignal(SIGABRT), "lwp_setspecific");
}

TEST(Tss, IsNullUntilSetAndBelongsToTheLwp) {
	const lwp_tss_t key = make_tss(nullptr);
	EXPECT_EQ(lwp_tss_get(key), nullptr);
	EXPECT_EQ(lwp_tss_set(key, &cell[0]), 0);
	std::vector<lwpid_t> lids;
	for (int n = 1; n < 8; ++n) {
		lids.push_back(spawn([key, n] {
			EXPECT_EQ(lwp_tss_get(key), nullptr);
			EXPECT_EQ(lwp_tss_set(key, &cell[n]), 0);
			for (int i = 0; i < 200; ++i) {
				lwp_yield();
				ASSERT_EQ(lwp_tss_get(key), &cell[n]);
			}
		}));
	}
	for (const lwpid_t lid : lids) {
		collect(lid);
		EXPECT_EQ(lwp_tss_get(key), &cell[0]);
	}
	EXPECT_EQ(lwp_tss_delete(key), 0);
}

TEST(Tss, DestructorRunsInTheDyingLwpWithTheValueNull) {
	tss[0] = make_tss(record_tss<0>);
	tss[1] = make_tss(record_tss<1>);
	calls.clear();
	const lwpid_t lid = spawn([] { EXPECT_EQ(lwp_tss_set(tss[1], &cell[1]), 0); });
	collect(lid);
	ASSERT_EQ(calls.size(), 1U);
	EXPECT_EQ(calls[0].key, 1);
	EXPECT_EQ(calls[0].by, lid);
	EXPECT_EQ(calls[0].value, &cell[1]);
	EXPECT_EQ(calls[0].get, nullptr);
	EXPECT_EQ(lwp_tss_delete(tss[0]), 0);
	EXPECT_EQ(lwp_tss_delete(tss[1]), 0);
}

// Behaviour 33.
TEST(Tss, DestructorsRunAgainWhileValuesRemainFourTimesAtMost) {
	counted = 0;
	tss[0] = make_tss([](void *value) {
		counted.fetch_add(1);
		EXPECT_EQ(lwp_tss_set(tss[0], value), 0);
	});
	collect(spawn([] { EXPECT_EQ(lwp_tss_set(tss[0], &cell[0]), 0); }));
	EXPECT_EQ(counted.load(), LWP_TSS_DTOR_ITERATIONS);
	EXPECT_EQ(lwp_tss_delete(tss[0]), 0);
}

TEST(Tss, DestructorThatSetsAnotherKeyHasThatDestroyedToo) {
	counted = 0;
	tss[0] = make_tss([](void *value) { EXPECT_EQ(lwp_tss_set(tss[1], value), 0); });
	tss[1] = make_tss([](void *value) { EXPECT_EQ(lwp_tss_set(tss[2], value), 0); });
	tss[2] = make_tss(count);
	collect(spawn([] { EXPECT_EQ(lwp_tss_set(tss[0], &cell[0]), 0); }));
	EXPECT_EQ(counted.load(), 1);
	for (const lwp_tss_t key : tss) {
		EXPECT_EQ(lwp_tss_delete(key), 0);
	}
}

// Behaviour 33.
TEST(Tss, DeleteCallsNothing) {
	counted = 0;
	const lwp_tss_t key = make_tss(count);
	EXPECT_EQ(lwp_tss_set(key, &cell[0]), 0);
	subject holder([key](subject &s) {
		EXPECT_EQ(lwp_tss_set(key, &cell[1]), 0);
		s.park_once();
	});
	holder.await_blocked();
	EXPECT_EQ(lwp_tss_delete(key), 0);
	EXPECT_EQ(counted.load(), 0);
	EXPECT_EQ(error_of(_lwp_unpark(holder.lid(), nullptr)), 0);
	collect(holder.lid());
	EXPECT_EQ(counted.load(), 0) << "nor does the exit afterwards";
}

TEST(Tss, DeletedKeyIsEinvalAndReadsNull) {
	const lwp_tss_t key = make_tss(nullptr);
	EXPECT_EQ(lwp_tss_set(key, &cell[0]), 0);
	EXPECT_EQ(lwp_tss_delete(key), 0);
	EXPECT_EQ(lwp_tss_delete(key), EINVAL);
	EXPECT_EQ(lwp_tss_set(key, &cell[0]), EINVAL);
	EXPECT_EQ(lwp_tss_get(key), nullptr);
	for (const lwp_tss_t never : {4711U, UINT32_MAX}) {
		EXPECT_EQ(lwp_tss_delete(never), EINVAL);
		EXPECT_EQ(lwp_tss_set(never, &cell[0]), EINVAL);
		EXPECT_EQ(lwp_tss_get(never), nullptr);
	}
}

// POSIX: a new key reads null in every thread, whatever a deleted one left in its place.
TEST(Tss, NewKeyReadsNullEverywhere) {
	counted = 0;
	lwp_tss_t key = make_tss(nullptr);
	EXPECT_EQ(lwp_tss_set(key, &cell[0]), 0);
	subject holder([&](subject &s) {
		EXPECT_EQ(lwp_tss_set(key, &cell[1]), 0);
		s.park_once();
		EXPECT_EQ(lwp_tss_get(key), nullptr);
	});
	holder.await_blocked();
	EXPECT_EQ(lwp_tss_delete(key), 0);
	key = make_tss(count);
	EXPECT_EQ(lwp_tss_get(key), nullptr);
	EXPECT_EQ(error_of(_lwp_unpark(holder.lid(), nullptr)), 0);
	collect(holder.lid());
	EXPECT_EQ(counted.load(), 0) << "a stale value was destroyed";
	EXPECT_EQ(lwp_tss_delete(key), 0);
}

namespace {

struct counting {
	static inline std::atomic<int> alive{0};
	counting() { alive.fetch_add(1); }
	explicit counting(int v) : value(v) { alive.fetch_add(1); }
	counting(const counting &) = delete;
	counting &operator=(const counting &) = delete;
	~counting() { alive.fetch_sub(1); }
	int value = 7;
};

}  // namespace

TEST(SpecificOf, IsMadeAtFirstUseAndDestroyedAtExit) {
	lwp::specific<counting> s;
	collect(spawn([&s] {
		EXPECT_EQ(s.get_if(), nullptr);
		EXPECT_EQ(counting::alive.load(), 0);
		EXPECT_EQ(s->value, 7);
		EXPECT_EQ(s.get_if(), &s.get());
		EXPECT_EQ(&*s, &s.get());
		EXPECT_EQ(counting::alive.load(), 1);
	}));
	EXPECT_EQ(counting::alive.load(), 0);
}

TEST(SpecificOf, BelongsToTheLwp) {
	lwp::specific<int> s;
	std::vector<lwpid_t> lids;
	for (int n = 0; n < 8; ++n) {
		lids.push_back(spawn([&s, n] {
			EXPECT_EQ(s.get(), 0);
			for (int i = 1; i <= 100; ++i) {
				s.get() += n;
				lwp_yield();
				ASSERT_EQ(s.get(), n * i);
			}
		}));
	}
	for (const lwpid_t lid : lids) {
		collect(lid);
	}
	EXPECT_EQ(s.get_if(), nullptr);
}

TEST(SpecificOf, EmplaceReplacesAndResetDestroys) {
	lwp::specific<counting> s;
	EXPECT_EQ(s.emplace(1).value, 1);
	EXPECT_EQ(s.emplace(2).value, 2);
	EXPECT_EQ(counting::alive.load(), 1);
	EXPECT_EQ(s->value, 2);
	s.reset();
	EXPECT_EQ(counting::alive.load(), 0);
	EXPECT_EQ(s.get_if(), nullptr);
	s.reset();
	EXPECT_EQ(s->value, 7);
	s.reset();
}

TEST(SpecificOf, ThrowingConstructorLeavesNothing) {
	struct throws {
		throws() { throw std::string("no"); }
	};
	lwp::specific<throws> s;
	EXPECT_THROW((void)s.get(), std::string);
	EXPECT_EQ(s.get_if(), nullptr);
}

TEST(SpecificOf, FactoryMakesWhatHasNoDefault) {
	struct number {
		explicit number(int n) : value(n) {}
		number(const number &) = delete;
		number &operator=(const number &) = delete;
		int value;
	};
	std::atomic<int> made{0};
	lwp::specific<number> s([&made] { return number(++made); });
	EXPECT_EQ(s->value, 1);
	EXPECT_EQ(s->value, 1);
	lwp::thread t([&] {
		EXPECT_EQ(s.get_if(), nullptr);
		EXPECT_EQ(s->value, 2);
		EXPECT_EQ(s.emplace(7).value, 7);
		s.reset();
		EXPECT_EQ(s->value, 3);
	});
	t.join();
	s.reset();
	lwp::specific<number> none;
	EXPECT_THROW((void)none.get(), std::bad_function_call);
	EXPECT_EQ(none.emplace(1).value, 1);
	EXPECT_EQ(none->value, 1);
	none.reset();
	bool refuse = true;
	lwp::specific<std::string> tries([&refuse] {
		if (refuse) {
			throw std::runtime_error("not yet");
		}
		return std::string("made");
	});
	EXPECT_THROW((void)tries.get(), std::runtime_error);
	refuse = false;
	EXPECT_EQ(*tries, "made");
	tries.reset();
}
