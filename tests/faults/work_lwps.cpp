// SPDX-License-Identifier: BSD-2-Clause
//
// The life of LWPs and procs, waits with a deadline, specific data.
#include "faults/common.h"

#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <ctime>

namespace lwp::faults {
namespace {

using namespace std::chrono_literals;

std::atomic<int> made;
std::atomic<int> destroyed;
std::atomic<int> begun;

void nap(void *) {
	timespec ts = {0, 200'000};
	_lwp_park(CLOCK_MONOTONIC, 0, &ts, 0, nullptr, nullptr);
	CHECK(errno == ETIMEDOUT);  // ENOMEM: no room for a timer
	lived++;
}

}  // namespace

void work_life() {
	on_runtime(2, [] {
		lived = made = 0;
		for (int round = 0; round < 3; round++) {
			lwpid_t lids[12];
			for (lwpid_t &lid : lids) {
				lid = spawn(round == 1 ? nap : count_life, nullptr, round == 2 ? LWP_SUSPENDED : 0);
				made += lid != 0 ? 1 : 0;
			}
			for (lwpid_t lid : lids) {
				if (lid != 0 && round == 2) {
					MUST(_lwp_continue(lid) == 0);
				}
			}
			for (lwpid_t lid : lids) {
				MUST(lid == 0 || _lwp_wait(lid, nullptr) == 0);
			}
		}
		MUST(lived == made);  // nobody is lost, and nobody who was refused runs
		static std::atomic<bool> ran;
		ran = false;
		if (spawn([](void *) { ran = true; }, nullptr, LWP_DETACHED) != 0) {
			while (!ran) {
				lwp_yield();
			}
		}
		(void)spawn(count_life, nullptr, LWP_DETACHED);
		lwpctl_t *control = nullptr;
		CHECK(_lwp_ctl(LWPCTL_FEATURE_CURCPU, &control) == 0);
		// Other sizes of stack; many LWPs at once, so that tables grow.
		const lwpid_t large = spawn(count_life, nullptr, 0, nullptr, 1U << 20);
		MUST(large == 0 || _lwp_wait(large, nullptr) == 0);
		constexpr int many = 600;
		static lwpid_t crowd[many];
		for (lwpid_t &lid : crowd) {
			lid = spawn([](void *) { _lwp_park(CLOCK_MONOTONIC, 0, nullptr, 0, nullptr, nullptr); }, nullptr);
		}
		for (lwpid_t lid : crowd) {
			MUST(lid == 0 || _lwp_unpark(lid, nullptr) == 0);
		}
		for (lwpid_t lid : crowd) {
			MUST(lid == 0 || _lwp_wait(lid, nullptr) == 0);
		}
	});
}

void work_procs() {
	on_runtime(2, [] {
		begun = 0;
		int given = 0;
		proc procs[4];
		for (int i = 0; i < 4; i++) {
			const auto body = [i] {
				begun++;
				all_of<3>(count_life, nullptr);
				return 10 + i;
			};
			given += attempt([&] { procs[i] = proc(body); }) ? 1 : 0;
		}
		for (int i = 0; i < 4; i++) {
			if (procs[i]) {
				MUST(procs[i].wait().code() == 10 + i);
			}
		}
		MUST(begun == given);  // whoever was refused has not run
		// It would sleep for ever.
		proc sleeper;
		const auto sleep = [] { return _lwp_park(CLOCK_MONOTONIC, 0, nullptr, 0, nullptr, nullptr); };
		if (attempt([&] { sleeper = proc(sleep); })) {
			sleeper.kill();
			MUST(sleeper.wait().signal() == SIGKILL);
		}
	});
}

/// On the only vCPU: whoever waits with a deadline, by a timer or, without room for one, by looking at the clock, lets others run.
void work_timers() {
	on_runtime(1, [] {
		static std::atomic<bool> ran;
		const auto until_it_ran = [](auto wait) {
			ran = false;
			const lwpid_t other = spawn([](void *) { ran = true; }, nullptr);
			while (other != 0 && !ran) {
				wait();
			}
			MUST(other == 0 || _lwp_wait(other, nullptr) == 0);
		};
		until_it_ran([] { lwp::this_thread::sleep_for(50us); });
		until_it_ran([] {
			const timespec ts = {0, 50'000};
			CHECK(lwp_nanosleep(&ts, nullptr) == 0);
		});
		lwp::mutex m;
		lwp::condition_variable cv;
		until_it_ran([&] {
			std::unique_lock hold(m);
			(void)cv.wait_for(hold, 50us);
		});
		lwp::condition_variable_any any;
		until_it_ran([&] {
			std::unique_lock hold(m);
			(void)any.wait_for(hold, 50us);
		});
		lwp::counting_semaphore<> none(0);
		until_it_ran([&] { MUST(!none.try_acquire_for(50us)); });
		lwp::event never_set;
		until_it_ran([&] { MUST(!never_set.wait_for(50us)); });
		lwp::wait_group all;
		all.add(1);
		until_it_ran([&] { MUST(!all.wait_for(50us)); });
		all.done();
		attempt([&] {
			lwp::channel<int> empty(1);
			until_it_ran([&] { MUST(!empty.receive_for(50us)); });
		});
		attempt([&] {
			std::stop_source stop;
			until_it_ran([&] { (void)lwp::this_thread::sleep_for(50us, stop.get_token()); });
		});
		// Held by one that sleeps: waited for with a deadline, again and again.
		lwp::timed_mutex held;
		lwp::shared_timed_mutex shared;
		static lwp::timed_mutex *first;
		static lwp::shared_timed_mutex *second;
		first = &held;
		second = &shared;
		static std::atomic<bool> locked;
		locked = false;
		const lwpid_t owner = spawn(
		    [](void *) {
			    const std::lock_guard hold_first(*first);
			    const std::lock_guard hold_second(*second);
			    locked = true;
			    lwp::this_thread::sleep_for(300us);
		    },
		    nullptr);
		if (owner != 0) {
			while (!locked) {
				lwp_yield();
			}
			while (!held.try_lock_for(50us)) {
			}
			held.unlock();
			while (!shared.try_lock_shared_for(50us)) {
			}
			shared.unlock_shared();
			while (!shared.try_lock_for(50us)) {
			}
			shared.unlock();
			MUST(_lwp_wait(owner, nullptr) == 0);
		}
	});
}

void work_specific() {
	on_runtime(1, [] {
		specificdata_key_t keys[3] = {};
		bool there[3];
		destroyed = 0;
		for (int i = 0; i < 3; i++) {
			there[i] = lwp_specific_key_create(&keys[i], [](void *) { destroyed++; }) == 0;
			CHECK(there[i]);
		}
		lwp_tss_t tss{};
		const bool has_tss = lwp_tss_create(&tss, nullptr) == 0;
		CHECK(has_tss);
		static lwp_tss_t shown;
		shown = tss;
		if (has_tss) {
			all_of<4>(
			    [](void *) {
				    static int value;
				    if (lwp_tss_set(shown, &value) == 0) {
					    MUST(lwp_tss_get(shown) == &value);
				    } else {
					    REFUSED("tss_set");
				    }
			    },
			    nullptr);
			(void)lwp_tss_delete(tss);
		}
		for (int i = 0; i < 3; i++) {
			if (there[i]) {
				lwp_specific_key_delete(keys[i]);
			}
		}
	});
}

}  // namespace lwp::faults
