// SPDX-License-Identifier: BSD-2-Clause
//
// Kernel threads that the library did not make: the first call makes each of them an LWP, which can do and suffer what others can.
// These tests make their own runtimes, as those of test_runtime.cpp.
#include "../support/support.h"

#include <algorithm>
#include <memory>
#include <string>
#include <thread>
#include <vector>

using namespace lwp::test;
using namespace std::chrono_literals;

namespace {

class Foreign : public testing::TestWithParam<unsigned> {
protected:
	/// Runs `body` on a kernel thread of its own while this LWP yields, so that others may run on its vCPU too.
	template <class Body>
	static void on_kernel_thread(Body body) {
		std::atomic<bool> done{false};
		std::thread t([&] {
			body();
			done = true;
		});
		EXPECT_TRUE(wait_until([&done] { return done.load(); }));
		t.join();
	}
	void TearDown() override { EXPECT_EQ(what_is_left(), ""); }

private:
	lwp::runtime runtime_{{.vcpus = GetParam()}};
};

}  // namespace

INSTANTIATE_TEST_SUITE_P(Runtime, Foreign, testing::Values(1U, 2U, 8U));

TEST_P(Foreign, IsAnLwpOfItsOwn) {
	std::atomic<lwpid_t> ids[4] = {};
	std::vector<std::thread> threads;
	for (auto &id : ids) {
		threads.emplace_back([&id] {
			id = _lwp_self();
			EXPECT_EQ(_lwp_self(), id.load());
			EXPECT_TRUE(alive(id.load()));
		});
	}
	for (auto &t : threads) {
		t.join();
	}
	std::vector<lwpid_t> all{_lwp_self()};
	for (const auto &id : ids) {
		EXPECT_GT(id.load(), 0);
		all.push_back(id.load());
		EXPECT_FALSE(alive(id.load())) << "its LWP ends with it";
	}
	std::sort(all.begin(), all.end());
	EXPECT_EQ(std::adjacent_find(all.begin(), all.end()), all.end());
}

TEST_P(Foreign, CreatesAndJoins) {
	on_kernel_thread([] {
		for (int i = 0; i < 200; ++i) {
			int ran = 0;
			lwp::thread t([&ran] {
				lwp_yield();
				++ran;
			});
			t.join();
			ASSERT_EQ(ran, 1);
			collect(spawn([] {}));
		}
		const lwpid_t detached = spawn([] {}, LWP_DETACHED);
		await_end(detached);
	});
}

TEST_P(Foreign, UnparksAnLwpAndIsUnparkedByOne) {
	constexpr int turns = 2000;
	std::atomic<int> ball{0};
	std::atomic<lwpid_t> kernel_thread{0};
	auto play = [&ball](int parity, const std::atomic<lwpid_t> &other) {
		for (int turn = parity; turn < turns; turn += 2) {
			while (ball.load() != turn) {
				(void)park();
			}
			ball.store(turn + 1);
			(void)_lwp_unpark(other.load(), nullptr);
		}
	};
	std::atomic<lwpid_t> green{0};
	gate go;
	lwp::thread t([&] {
		go.pass();
		play(1, kernel_thread);
	});
	green = t.native_handle();
	on_kernel_thread([&] {
		kernel_thread = _lwp_self();
		go.open();
		play(0, green);
	});
	t.join();
	EXPECT_EQ(ball.load(), turns);
}

TEST_P(Foreign, TwoOfThemPlayWithoutAnyLwp) {
	constexpr int turns = 2000;
	std::atomic<int> ball{0};
	std::atomic<lwpid_t> ids[2] = {};
	std::vector<std::thread> threads;
	std::atomic<int> done{0};
	for (int parity = 0; parity < 2; ++parity) {
		threads.emplace_back([&, parity] {
			ids[parity] = _lwp_self();
			EXPECT_TRUE(wait_until([&] { return ids[1 - parity].load() != 0; }));
			for (int turn = parity; turn < turns; turn += 2) {
				while (ball.load() != turn) {
					(void)park();
				}
				ball.store(turn + 1);
				(void)_lwp_unpark(ids[1 - parity].load(), nullptr);
			}
			done.fetch_add(1);
		});
	}
	EXPECT_TRUE(wait_until([&done] { return done.load() == 2; }));
	for (auto &t : threads) {
		t.join();
	}
	EXPECT_EQ(ball.load(), turns);
}

TEST_P(Foreign, TokenTimeoutAndErrors) {
	on_kernel_thread([] {
		EXPECT_EQ(error_of(_lwp_unpark(_lwp_self(), nullptr)), 0);
		EXPECT_EQ(park(), EALREADY);
		const auto begin = std::chrono::steady_clock::now();
		EXPECT_EQ(park_for(1ms), ETIMEDOUT);
		EXPECT_GE(std::chrono::steady_clock::now() - begin, 1ms);
		EXPECT_EQ(error_of(_lwp_wait(nobody, nullptr)), ESRCH);
		EXPECT_EQ(error_of(_lwp_wait(_lwp_self(), nullptr)), EDEADLK);
		EXPECT_EQ(error_of(_lwp_unpark(nobody, nullptr)), ESRCH);
		EXPECT_EQ(error_of(_lwp_wakeup(_lwp_self())), ENODEV);
		EXPECT_EQ(lwp_yield(), 0);
	});
}

TEST_P(Foreign, Sleeps) {
	on_kernel_thread([] {
		const auto begin = std::chrono::steady_clock::now();
		lwp::this_thread::sleep_for(2ms);
		EXPECT_GE(std::chrono::steady_clock::now() - begin, 2ms);
		lwp::this_thread::sleep_for(-1ms);
	});
}

TEST_P(Foreign, SuspendsAndContinuesAnLwp) {
	std::atomic<bool> stop{false};
	std::atomic<std::size_t> turns{0};
	lwp::thread t([&] {
		while (!stop.load()) {
			turns.fetch_add(1);
			lwp_yield();
		}
	});
	on_kernel_thread([&] {
		for (int i = 0; i < 100; ++i) {
			ASSERT_EQ(error_of(_lwp_suspend(t.native_handle())), 0);
			const std::size_t before = turns.load();
			for (int n = 0; n < 20; ++n) {
				lwp_yield();
			}
			ASSERT_EQ(turns.load(), before);
			ASSERT_EQ(error_of(_lwp_continue(t.native_handle())), 0);
			ASSERT_TRUE(wait_until([&] { return turns.load() != before; }));
		}
	});
	stop = true;
	t.join();
}

TEST_P(Foreign, IsSuspendedAndContinued) {
	std::atomic<lwpid_t> id{0};
	std::atomic<bool> stop{false};
	std::atomic<bool> done{false};
	std::atomic<std::size_t> turns{0};
	std::thread t([&] {
		id = _lwp_self();
		while (!stop.load()) {
			turns.fetch_add(1);
			lwp_yield();
		}
		done = true;
	});
	EXPECT_TRUE(wait_until([&] { return turns.load() > 0; }));
	for (int i = 0; i < 100; ++i) {
		ASSERT_EQ(error_of(_lwp_suspend(id.load())), 0);
		const std::size_t before = turns.load();
		for (int n = 0; n < 20; ++n) {
			lwp_yield();
		}
		EXPECT_EQ(turns.load(), before);
		EXPECT_EQ(error_of(_lwp_continue(id.load())), 0);
		EXPECT_TRUE(wait_until([&] { return turns.load() != before; }));
	}
	stop = true;
	EXPECT_TRUE(wait_until([&] { return done.load(); }));
	t.join();
}

TEST_P(Foreign, SuspendedWhileParkedComesBackFromPark) {
	std::atomic<lwpid_t> id{0};
	std::atomic<int> result{-1};
	std::thread t([&] {
		id = _lwp_self();
		result = park();
	});
	EXPECT_TRUE(wait_until([&] { return id.load() != 0; }));
	ASSERT_EQ(error_of(_lwp_suspend(id.load())), 0);
	EXPECT_EQ(result.load(), -1);
	EXPECT_EQ(error_of(_lwp_continue(id.load())), 0);
	// If the suspend met it before it parked, it parks now.
	EXPECT_TRUE(wait_until([&] {
		if (result.load() == -1) {
			(void)_lwp_unpark(id.load(), nullptr);
		}
		return result.load() != -1;
	}));
	t.join();
	EXPECT_TRUE(result.load() == 0 || result.load() == EALREADY) << result.load();
}

TEST_P(Foreign, HasNamePrivatePointerAndControlBlock) {
	on_kernel_thread([] {
		char name[LWP_MAXNAME] = "?";
		EXPECT_EQ(error_of(_lwp_setname(0, "foreign")), 0);
		EXPECT_EQ(error_of(_lwp_getname(0, name, sizeof(name))), 0);
		EXPECT_STREQ(name, "foreign");
		EXPECT_EQ(_lwp_getprivate(), nullptr);
		_lwp_setprivate(name);
		EXPECT_EQ(_lwp_getprivate(), name);
		lwpctl_t *a = nullptr;
		lwpctl_t *b = nullptr;
		EXPECT_EQ(error_of(_lwp_ctl(LWPCTL_FEATURE_CURCPU, &a)), 0);
		EXPECT_EQ(error_of(_lwp_ctl(LWPCTL_FEATURE_CURCPU, &b)), 0);
		EXPECT_EQ(a, b);
	});
}

// _lwp_exit() on a kernel thread of the application is pthread_exit(3): unlike those of other LWPs its frames are unwound.
TEST_P(Foreign, ExitEndsTheKernelThread) {
	static std::atomic<int> unwound;
	static std::atomic<lwpid_t> id;
	static std::atomic<bool> came_back;
	unwound = 0;
	id = 0;
	came_back = false;
	pthread_t thread{};
	ASSERT_EQ(pthread_create(
	              &thread, nullptr,
	              [](void *) -> void * {
		              struct frame {
			              frame() = default;
			              frame(const frame &) = delete;
			              frame &operator=(const frame &) = delete;
			              ~frame() { unwound.fetch_add(1); }
		              } f;
		              id = _lwp_self();
		              _lwp_exit();
		              came_back = true;
		              return nullptr;
	              },
	              nullptr),
	    0);
	EXPECT_TRUE(wait_until([] { return unwound.load() == 1; }));
	ASSERT_EQ(pthread_join(thread, nullptr), 0);
	EXPECT_FALSE(came_back);
	EXPECT_FALSE(alive(id.load()));
}

// Its specific data ends with it, as an LWP's does.
TEST_P(Foreign, SpecificDataIsDestroyedWithIt) {
	static std::atomic<int> living;
	struct counted {
		counted() { living.fetch_add(1); }
		counted(const counted &) = delete;
		counted &operator=(const counted &) = delete;
		~counted() { living.fetch_sub(1); }
	};
	lwp::specific<counted> s;
	living = 0;
	on_kernel_thread([&s] {
		(void)s.get();
		EXPECT_EQ(living.load(), 1);
	});
	EXPECT_EQ(living.load(), 0);
}

TEST_P(Foreign, ManyAtOnceDoEverything) {
	std::vector<std::thread> threads;
	std::atomic<int> done{0};
	for (int n = 0; n < 8; ++n) {
		threads.emplace_back([&done, n] {
			for (int i = 0; i < 50; ++i) {
				std::vector<lwp::thread> children;
				for (int c = 0; c < 4; ++c) {
					children.emplace_back([] {
						lwp_yield();
						(void)park_for(std::chrono::microseconds(20));
					});
				}
				(void)park_for(std::chrono::microseconds(n));
				for (auto &t : children) {
					t.join();
				}
			}
			done.fetch_add(1);
		});
	}
	EXPECT_TRUE(wait_until([&done] { return done.load() == 8; }));
	for (auto &t : threads) {
		t.join();
	}
}

// While every LWP waits, one kernel thread that is outside the library may still end it: no deadlock is seen where there is none.
TEST_P(Foreign, KernelThreadOutsideTheLibraryCountsAsHope) {
	std::atomic<lwpid_t> target{0};
	std::atomic<bool> known{false};
	std::atomic<bool> waiting{false};
	std::thread t([&] {
		(void)_lwp_self();
		known = true;
		while (!waiting.load()) {
			std::this_thread::yield();
		}
		EXPECT_EQ(error_of(_lwp_continue(target.load())), 0);
	});
	EXPECT_TRUE(wait_until([&] { return known.load(); }));
	target = spawn([] {}, LWP_SUSPENDED);
	waiting = true;
	collect(target.load());
	t.join();
}
