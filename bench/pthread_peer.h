// SPDX-License-Identifier: BSD-2-Clause
//
// For the rows that do the same with pthreads: confinement to as many CPUs as the LWP row has vCPUs, threads, and park/unpark by
// futex.  A row's peer has the row's name and "/pthread" behind it.  No library here.
#pragma once

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <new>
#include <system_error>
#include <utility>
#include <vector>

namespace bench {

/// While it lives the calling thread, and every thread that it starts, stays on `count` CPUs of its mask from the `first`-th on
/// (counted round, so that a machine with fewer CPUs still runs every row).
class confined {
public:
	explicit confined(unsigned count, unsigned first = 0) {
		must(pthread_getaffinity_np(pthread_self(), sizeof before_, &before_));
		std::vector<int> cpus;
		for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
			if (CPU_ISSET(cpu, &before_)) {
				cpus.push_back(cpu);
			}
		}
		cpu_set_t now;
		CPU_ZERO(&now);
		for (unsigned i = first; i < first + count; ++i) {
			CPU_SET(cpus[i % cpus.size()], &now);
		}
		must(pthread_setaffinity_np(pthread_self(), sizeof now, &now));
	}
	~confined() { pthread_setaffinity_np(pthread_self(), sizeof before_, &before_); }
	confined(const confined &) = delete;
	confined &operator=(const confined &) = delete;

private:
	static void must(int error) {
		if (error != 0) {
			throw std::system_error(error, std::generic_category(), "CPU affinity");
		}
	}
	cpu_set_t before_;
};

/// Starts a pthread that calls `f` (copied to the heap: the price of any typed face over pthread_create()).
/// Returns 0 or an error number.
template <class F>
int start_pthread(pthread_t *thread, const pthread_attr_t *attr, F f) {
	F *copy = new F(std::move(f));
	const int error = pthread_create(
	    thread, attr,
	    [](void *p) -> void * {
		    F *call = static_cast<F *>(p);
		    (*call)();
		    delete call;
		    return nullptr;
	    },
	    copy);
	if (error != 0) {
		delete copy;
	}
	return error;
}

/// Several pthreads that end with the scope.
class pthreads {
public:
	template <class F>
	void start(F f) {
		pthread_t thread;
		if (const int error = start_pthread(&thread, nullptr, std::move(f))) {
			throw std::system_error(error, std::generic_category(), "pthread_create");
		}
		threads_.push_back(thread);
	}
	void join() {
		for (pthread_t thread : threads_) {
			pthread_join(thread, nullptr);
		}
		threads_.clear();
	}
	pthreads() = default;
	~pthreads() { join(); }
	pthreads(const pthreads &) = delete;
	pthreads &operator=(const pthreads &) = delete;

private:
	std::vector<pthread_t> threads_;
};

/// One thread's token, as _lwp_park() has it: unpark() sets it, park() blocks until it is set and takes it.
class parking {
public:
	void park() {
		while (token_.exchange(0, std::memory_order_acquire) == 0) {  // pairs with the release in unpark()
			syscall(SYS_futex, &token_, FUTEX_WAIT_PRIVATE, 0, nullptr, nullptr, 0);
		}
	}
	void unpark() {
		token_.store(1, std::memory_order_release);
		syscall(SYS_futex, &token_, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
	}

private:
	std::atomic<std::uint32_t> token_{0};
};

}  // namespace bench
