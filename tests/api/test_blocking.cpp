// SPDX-License-Identifier: BSD-2-Clause
//
// System calls that block the kernel thread: the other LWPs run on, whether the LWP says so beforehand or not.  Each test here ends only if they do:
// what ends the blocked call is done by another LWP.
// vcpus: 1 2 8
#include "../support/support.h"

#include "proc/runtime.h"
#include "sched/spare.h"

#include <array>
#include <fcntl.h>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <sys/file.h>
#include <thread>
#include <unistd.h>
#include <vector>

using namespace lwp::test;
using namespace std::chrono_literals;

namespace {

const bool touched = touch_runtime();

int vcpus() { return static_cast<int>(lwp::runtime::vcpus()); }

/// A pipe whose reader blocks its kernel thread.
class blocker {
public:
	blocker() { EXPECT_EQ(::pipe(fd_.data()), 0); }
	~blocker() {
		::close(fd_[0]);
		::close(fd_[1]);
	}
	blocker(const blocker &) = delete;
	blocker &operator=(const blocker &) = delete;
	/// One byte; blocks in the kernel until there is one.
	void block() {
		char c = 0;
		EXPECT_EQ(::read(fd_[0], &c, 1), 1);
	}
	void release(std::size_t readers = 1) {
		const std::vector<char> bytes(readers, 'x');
		EXPECT_EQ(::write(fd_[1], bytes.data(), readers), static_cast<ssize_t>(readers));
	}

private:
	std::array<int, 2> fd_{};
};

/// The kernel thread that runs the caller, read afresh.
__attribute__((noinline)) pthread_t kernel_thread() { return ::pthread_self(); }

}  // namespace

TEST(Blocking, OthersRunWhileOneBlocks) {
	blocker pipe;
	std::atomic<bool> inside{false};
	lwp::thread reader([&] {
		lwp::blocking([&] {
			inside = true;
			pipe.block();
		});
	});
	EXPECT_TRUE(wait_until([&] { return inside.load(); }));
	pipe.release();
	reader.join();
}

// The vCPU of the reader has LWPs queued when the region begins: the substitute takes them, whatever their number.
TEST(Blocking, WhatIsQueuedRunsOn) {
	constexpr int n = 500;
	blocker pipe;
	std::atomic<int> ran{0};
	lwp::thread reader({.vcpu = vcpus() - 1}, [&] {
		std::vector<lwp::thread> others;
		for (int i = 0; i < n; i++) {
			others.emplace_back(lwp::attributes{.vcpu = i % 2 == 0 ? vcpus() - 1 : -1}, [&] {
				if (++ran == n) {
					pipe.release();
				}
			});
		}
		lwp::blocking([&] { pipe.block(); });
		EXPECT_EQ(ran, n);
		for (lwp::thread &t : others) {
			t.join();
		}
	});
	reader.join();
}

TEST(Blocking, BoundLwpsOfTheBlockedVcpuRun) {
	for (int v = 0; v < vcpus(); v++) {
		blocker pipe;
		std::atomic<bool> inside{false};
		lwp::thread reader({.vcpu = v}, [&] {
			lwp::blocking([&] {
				inside = true;
				pipe.block();
			});
		});
		lwp::thread bound({.vcpu = v}, [&] {
			EXPECT_TRUE(wait_until([&] { return inside.load(); }));
			lwpctl_t *control = nullptr;
			EXPECT_EQ(error_of(_lwp_ctl(LWPCTL_FEATURE_CURCPU, &control)), 0);
			EXPECT_EQ(vcpu_of(control), v);
			pipe.release();
		});
		bound.join();
		reader.join();
	}
}

// A timer armed on the vCPU that blocks, and no other LWP that could see to it.
TEST(Blocking, TimersOfTheBlockedVcpuFire) {
	blocker pipe;
	std::atomic<bool> asleep{false};
	lwp::thread sleeper({.vcpu = 0}, [&] {
		asleep = true;
		lwp::this_thread::sleep_for(20ms);
		pipe.release();
	});
	lwp::thread reader({.vcpu = 0}, [&] {
		EXPECT_TRUE(wait_until([&] { return asleep.load(); }));
		lwp::blocking([&] { pipe.block(); });
	});
	reader.join();
	sleeper.join();
}

TEST(Blocking, ReturnsWhatTheCallableReturns) {
	int object = 1;
	EXPECT_EQ(lwp::blocking([] { return 42; }), 42);
	int &same = lwp::blocking([&]() -> int & { return object; });
	EXPECT_EQ(&same, &object);
	auto moved = lwp::blocking([] { return std::make_unique<int>(7); });
	EXPECT_EQ(*moved, 7);
	static_assert(std::is_void_v<decltype(lwp::blocking([] {}))>);
}

TEST(Blocking, ExceptionsPass) {
	for (int i = 0; i < 100; i++) {
		EXPECT_THROW(lwp::blocking([] { throw std::runtime_error("through"); }), std::runtime_error);
	}
	lwp_yield();
}

TEST(Blocking, KeepsErrno) {
	for (int i = 0; i < 100; i++) {
		set_errno(ENOTTY);
		lwp_blocking_enter();
		EXPECT_EQ(get_errno(), ENOTTY);
		set_errno(ENOSPC);
		lwp_blocking_leave();
		EXPECT_EQ(get_errno(), ENOSPC);
	}
}

TEST(Blocking, NestsAndOnlyTheOutermostCounts) {
	const auto before = lwp::runtime::stats().blocking_regions;
	blocker pipe;
	std::atomic<bool> inside{false};
	lwp::thread reader([&] {
		lwp::blocking([&] {
			const pthread_t here = kernel_thread();
			lwp::blocking([&] {
				inside = true;
				pipe.block();
			});
			lwp::blocking([&] { pipe.block(); });
			EXPECT_TRUE(pthread_equal(here, kernel_thread()));
		});
	});
	EXPECT_TRUE(wait_until([&] { return inside.load(); }));
	pipe.release(2);
	reader.join();
	EXPECT_EQ(lwp::runtime::stats().blocking_regions, before + 1);
}

TEST(Blocking, IsAPlainCallOnAKernelThreadOfTheApplication) {
	std::atomic<int> value{0};
	std::thread outside([&] {
		value = lwp::blocking([] { return lwp::blocking([] { return 5; }); });
		lwp_yield();
	});
	EXPECT_TRUE(wait_until([&] { return value.load() == 5; }));
	lwp::blocking([&] { outside.join(); });
}

TEST(Blocking, MutexHeldByAKernelThread) {
	std::mutex mutex;
	std::atomic<bool> held{false};
	std::atomic<bool> waits{false};
	gate give;
	std::thread holder([&] {
		std::lock_guard hold(mutex);
		held = true;
		give.pass();
	});
	EXPECT_TRUE(wait_until([&] { return held.load(); }));
	lwp::thread taker([&] {
		lwp::blocking([&] {
			waits = true;
			std::lock_guard hold(mutex);
		});
	});
	EXPECT_TRUE(wait_until([&] { return waits.load(); }));
	give.open();
	taker.join();
	lwp::blocking([&] { holder.join(); });
}

TEST(Blocking, FileLockHeldElsewhere) {
	char name[] = "/tmp/lwp_blocking_XXXXXX";
	const int one = ::mkstemp(name);
	const int two = ::open(name, O_RDWR | O_CLOEXEC);
	::unlink(name);
	ASSERT_EQ(::flock(one, LOCK_EX), 0);
	std::atomic<bool> waits{false};
	lwp::thread taker([&] {
		waits = true;
		EXPECT_EQ(lwp::blocking([&] { return ::flock(two, LOCK_EX); }), 0);
	});
	EXPECT_TRUE(wait_until([&] { return waits.load(); }));
	EXPECT_EQ(::flock(one, LOCK_UN), 0);
	taker.join();
	::close(one);
	::close(two);
}

// Inside a region the LWP does what it may not count on to keep its kernel thread: everything works all the same.
TEST(Blocking, CallsThatBlockTheLwpInsideARegion) {
	std::atomic<bool> over{false};
	lwp::thread sleeper([&] {
		lwp::blocking([&] {
			for (int i = 0; i < 20; i++) {
				lwp::this_thread::sleep_for(1ms);
				lwp_yield();
				lwp::thread([] { lwp_yield(); }).join();
			}
		});
		over = true;
	});
	EXPECT_TRUE(wait_until([&] { return over.load(); }));
	sleeper.join();
}

TEST(Blocking, AnLwpMayEndInsideARegion) {
	for (int i = 0; i < 50; i++) {
		collect(spawn([] {
			lwp_blocking_enter();
			lwp_blocking_enter();
			_lwp_exit();
		}));
		// A recycled one is in no region.
		blocker pipe;
		std::atomic<bool> inside{false};
		lwp::thread reader([&] {
			lwp::blocking([&] {
				inside = true;
				pipe.block();
			});
		});
		EXPECT_TRUE(wait_until([&] { return inside.load(); }));
		pipe.release();
		reader.join();
	}
}

TEST(Blocking, ASuspendTakesEffectAtTheEnd) {
	blocker pipe;
	std::atomic<int> stage{0};
	const lwpid_t lid = spawn([&] {
		lwp::blocking([&] {
			stage = 1;
			pipe.block();
			stage = 2;
		});
		stage = 3;
	});
	EXPECT_TRUE(wait_until([&] { return stage == 1; }));
	subject suspender([&](subject &s) {
		s.about_to_block();
		EXPECT_EQ(error_of(_lwp_suspend(lid)), 0);
		EXPECT_EQ(stage, 2);  // the end of the region is where it stopped
		EXPECT_EQ(error_of(_lwp_continue(lid)), 0);
	});
	suspender.await_blocked();  // it has asked, and waits for the other to stop
	EXPECT_EQ(stage, 1);
	pipe.release();
	collect(suspender.lid());
	collect(lid);
	EXPECT_EQ(stage, 3);
}

// ---- LWPs that do not say so

TEST(Blocking, TheMonitorFindsThoseThatDoNotSaySo) {
	const auto before = lwp::runtime::stats().blocked_found;
	const auto n = static_cast<std::size_t>(vcpus()) + 10;
	blocker pipe;
	std::vector<lwp::thread> readers;
	for (std::size_t i = 0; i < n; i++) {
		readers.emplace_back([&] { pipe.block(); });
	}
	lwp::thread ticker([&] {
		for (int i = 0; i < 50; i++) {
			lwp::this_thread::sleep_for(1ms);
		}
		pipe.release(n);
	});
	ticker.join();
	for (lwp::thread &t : readers) {
		t.join();
	}
	EXPECT_GT(lwp::runtime::stats().blocked_found, before);
}

// More than a batch is queued behind it, and those that were taken over wait, by yielding, for those that were not: the substitute is never idle.
TEST(Blocking, WhatIsQueuedRunsThoughTheSubstituteIsNeverIdle) {
	constexpr std::size_t n = 100;
	blocker pipe;
	std::atomic<std::size_t> ran{0};
	std::vector<lwp::thread> queued;
	lwp::thread reader({.vcpu = 0}, [&] {
		for (std::size_t i = 0; i < n; i++) {
			queued.emplace_back([&] {
				ran++;
				while (ran < n) {
					lwp_yield();
				}
			});
		}
		pipe.block();
	});
	EXPECT_TRUE(wait_until([&] { return ran == n; }));
	pipe.release();
	reader.join();
	for (lwp::thread &t : queued) {
		t.join();
	}
}

// Between two sleeps they call nothing of the library: whoever else runs does so because a substitute runs it.
TEST(Blocking, ATickerGoesOnBesideMoreSleepersThanVcpus) {
	const int n = vcpus() + 10;
	std::atomic<bool> enough{false};
	std::vector<lwp::thread> sleepers;
	for (int i = 0; i < n; i++) {
		sleepers.emplace_back([&] {
			while (!enough) {
				::sleep(1);
			}
		});
	}
	int ticks = 0;
	lwp::thread ticker([&] {
		for (; ticks < 50; ticks++) {
			lwp::this_thread::sleep_for(1ms);
		}
		enough = true;
	});
	ticker.join();
	for (lwp::thread &t : sleepers) {
		t.join();
	}
	EXPECT_EQ(ticks, 50);
}

TEST(Blocking, BoundLwpsBehindOneThatDoesNotSaySo) {
	for (int v = 0; v < vcpus(); v++) {
		blocker pipe;
		std::atomic<bool> inside{false};
		lwp::thread reader({.vcpu = v}, [&] {
			inside = true;
			pipe.block();
		});
		EXPECT_TRUE(wait_until([&] { return inside.load(); }));
		lwp::thread bound({.vcpu = v}, [&] { pipe.release(); });
		bound.join();
		reader.join();
	}
}

// ---- many

// Regions begin and end while others queue, steal, halt, end: nobody is lost, nobody runs twice.
TEST(Blocking, StormOfRegions) {
	const std::uint64_t s = seed();
	const auto n = static_cast<std::uint64_t>(rounds(400));
	std::atomic<std::uint64_t> done{0};
	std::vector<lwp::thread> all;
	for (unsigned k = 0; k < 24; k++) {
		all.emplace_back(lwp::attributes{.vcpu = k % 3 == 0 ? static_cast<int>(k) % vcpus() : -1}, [&, k] {
			dice r(s + k);
			for (std::uint64_t i = 0; i < n; i++) {
				switch (r.below(6)) {
				case 0:
					lwp::blocking([&] { std::this_thread::sleep_for(std::chrono::microseconds(r.below(50))); });
					break;
				case 1:
					lwp::blocking([] {});
					break;
				case 2:
					lwp::thread([&] { lwp::blocking([] { ::sched_yield(); }); }).join();
					break;
				case 3:
					(void)park_for(std::chrono::microseconds(r.below(100)));
					break;
				case 4:
					lwp::blocking([] { lwp::thread([] { lwp_yield(); }).join(); });
					break;
				default:
					lwp_yield();
					break;
				}
				done++;
			}
		});
	}
	for (lwp::thread &t : all) {
		t.join();
	}
	EXPECT_EQ(done, 24 * n);
}

// Pairs: one blocks until the other, bound to the same vCPU, has run.  Each round is a wake that may meet a region's begin or end.
TEST(Blocking, NoWakeIsLostAtEitherEndOfARegion) {
	const std::size_t n = rounds(2000);
	std::array<blocker, 4> pipes;
	std::vector<lwp::thread> all;
	for (std::size_t p = 0; p < pipes.size(); p++) {
		const int v = static_cast<int>(p) % vcpus();
		const auto partner = std::make_shared<std::atomic<lwpid_t>>(0);
		all.emplace_back(lwp::attributes{.vcpu = v}, [&, p, n, partner] {
			*partner = _lwp_self();
			for (std::size_t i = 0; i < n; i++) {
				while (park() == EINTR) {
				}
				pipes[p].release();
			}
		});
		all.emplace_back(lwp::attributes{.vcpu = v}, [&, p, n, partner] {
			EXPECT_TRUE(wait_until([&] { return *partner != 0; }));
			for (std::size_t i = 0; i < n; i++) {
				if (i % 2 == 0) {
					EXPECT_EQ(error_of(_lwp_unpark(*partner, nullptr)), 0);
					lwp::blocking([&] { pipes[p].block(); });
				} else {
					lwp::blocking([&] {
						EXPECT_EQ(error_of(_lwp_unpark(*partner, nullptr)), 0);
						pipes[p].block();
					});
				}
			}
		});
	}
	for (lwp::thread &t : all) {
		t.join();
	}
}

// All substitutes are in use: the next ones block their vCPUs, nothing worse, and go on as the first come back.
TEST(Blocking, MoreRegionsThanSubstitutes) {
	const std::size_t n = static_cast<std::size_t>(vcpus()) + lwp::kern::spare_max + 5;
	const auto before = lwp::runtime::stats().blocked_unhelped;
	blocker pipe;
	std::vector<lwp::thread> readers;
	std::thread outside([&] {
		const auto end = std::chrono::steady_clock::now() + 60s;
		while (lwp::kern::spares.sp_refused == before && std::chrono::steady_clock::now() < end) {
			std::this_thread::sleep_for(1ms);
		}
		pipe.release(n);
	});
	for (std::size_t i = 0; i < n; i++) {
		readers.emplace_back([&] { lwp::blocking([&] { pipe.block(); }); });
	}
	for (lwp::thread &t : readers) {
		t.join();
	}
	lwp::blocking([&] { outside.join(); });
	EXPECT_GT(lwp::runtime::stats().blocked_unhelped, before);
	EXPECT_EQ(lwp::runtime::stats().spare_vcpus, lwp::kern::spare_max);
}

// Nobody runs: the monitor sleeps without a limit.
TEST(Blocking, TheMonitorSleepsWhenEverybodyHalts) {
	std::atomic<bool> seen{false};
	std::atomic<bool> over{false};
	const lwpid_t me = _lwp_self();
	std::thread outside([&] {
		const auto end = std::chrono::steady_clock::now() + 60s;
		while (!seen && std::chrono::steady_clock::now() < end) {
			seen = lwp::kern::spares.sp_asleep.load();
			std::this_thread::sleep_for(1ms);
		}
		over = true;
		(void)_lwp_unpark(me, nullptr);
	});
	while (!over) {
		(void)park();
	}
	outside.join();
	EXPECT_TRUE(seen);
	// And it is there again.
	blocker pipe;
	std::atomic<bool> inside{false};
	lwp::thread reader({.vcpu = 0}, [&] {
		inside = true;
		pipe.block();
	});
	EXPECT_TRUE(wait_until([&] { return inside.load(); }));
	lwp::thread bound({.vcpu = 0}, [&] { pipe.release(); });
	bound.join();
	reader.join();
}

TEST(BlockingDeathTest, ALeaveWithoutAnEnter) { EXPECT_DEATH(lwp_blocking_leave(), "in no region"); }
