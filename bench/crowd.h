// SPDX-License-Identifier: BSD-2-Clause
//
// A crowd: many undetached LWPs blocked in _lwp_park(), for rows that measure something beside or about them.
// Made and ended by the same LWP; the destructor unparks and collects every one.  Needs a runtime.
#pragma once

#include "bench.h"

#include <lwp/lwp.h>

#include <algorithm>
#include <atomic>
#include <vector>

namespace bench {

class crowd {
public:
	enum class park { for_ever, with_deadline };  // the deadline is an hour away

	/// Returns when all `size` have begun and, on one vCPU, are blocked.  Fails the row if one cannot be created.
	crowd(State &state, std::size_t size, park how) : state_(state), how_(how) {
		ucontext_t context;
		_lwp_makecontext(&context, run, this, nullptr, nullptr, 0);
		lids_.reserve(size);
		while (lids_.size() < size) {
			lwpid_t lid = 0;
			if (!check(state, _lwp_create(&context, 0, &lid) == 0, "_lwp_create failed")) {
				break;
			}
			lids_.push_back(lid);
			if (lids_.size() % 256 == 0) {
				lwp_yield();
			}
		}
		while (begun_.load(std::memory_order_relaxed) < lids_.size()) {
			lwp_yield();
		}
	}
	~crowd() {
		over_.store(true, std::memory_order_relaxed);
		for (std::size_t i = 0; i < lids_.size(); i += LWP_UNPARK_MAX) {
			_lwp_unpark_all(&lids_[i], std::min<std::size_t>(LWP_UNPARK_MAX, lids_.size() - i), nullptr);
		}
		for (std::size_t i = 0; i < lids_.size(); ++i) {
			check(state_, _lwp_wait(0, nullptr) == 0, "an LWP of the crowd could not be collected");
		}
	}
	crowd(const crowd &) = delete;
	crowd &operator=(const crowd &) = delete;

	[[nodiscard]] std::size_t size() const { return lids_.size(); }

private:
	static void run(void *arg) {
		crowd &self = *static_cast<crowd *>(arg);
		self.begun_.fetch_add(1, std::memory_order_relaxed);
		timespec hour{.tv_sec = 3600, .tv_nsec = 0};
		// Relaxed: the unpark that ends the park comes after the store, and a park that is not ended looks again later.
		while (!self.over_.load(std::memory_order_relaxed)) {
			_lwp_park(CLOCK_MONOTONIC, 0, self.how_ == park::with_deadline ? &hour : nullptr, 0, nullptr, nullptr);
		}
	}

	State &state_;
	const park how_;
	std::vector<lwpid_t> lids_;
	std::atomic<std::size_t> begun_{0};
	std::atomic<bool> over_{false};
};

}  // namespace bench
