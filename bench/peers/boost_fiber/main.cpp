// SPDX-License-Identifier: BSD-2-Clause
//
// Boost.Fiber: round robin on one kernel thread; its work stealing on more, whose idle threads spin.
// Stacks come from malloc, as Boost has it by default; from its pool in the rows of creation on one kernel thread (it is not made for more), where
// that is faster.
#include "../program.h"

#include <boost/fiber/all.hpp>

#include <barrier>
#include <thread>

namespace {

namespace fibers = boost::fibers;

bool pooled = false;

template <class F>
fibers::fiber start(F f) {
	if (pooled) {
		static fibers::pooled_fixedsize_stack pool(peers::stack_size);
		return fibers::fiber(std::allocator_arg, pool, std::move(f));
	}
	return fibers::fiber(std::allocator_arg, fibers::fixedsize_stack(peers::stack_size), std::move(f));
}

struct face {
	static constexpr unsigned workers_most = 64;

	static void before(std::string_view row, unsigned workers) { pooled = workers == 1 && (row.starts_with("create") || row == "skynet"); }

	template <class F>
	static void run(unsigned workers, F f) {
		if (workers == 1) {
			f();
			return;
		}
		// Nobody may steal before all schedulers are there, nor leave while others may steal from it.
		std::barrier there(workers);
		std::barrier gone(workers);
		fibers::mutex mutex;
		fibers::condition_variable over;
		bool is_over = false;  // mutex
		std::vector<std::thread> helpers;
		for (unsigned i = 1; i < workers; ++i) {
			helpers.emplace_back([&] {
				fibers::use_scheduling_algorithm<fibers::algo::work_stealing>(workers);
				there.arrive_and_wait();
				{
					std::unique_lock hold(mutex);
					over.wait(hold, [&] { return is_over; });
				}
				gone.arrive_and_wait();
			});
		}
		fibers::use_scheduling_algorithm<fibers::algo::work_stealing>(workers);
		there.arrive_and_wait();
		f();
		{
			const std::lock_guard hold(mutex);
			is_over = true;
		}
		over.notify_all();
		gone.arrive_and_wait();
		for (std::thread &t : helpers) {
			t.join();
		}
	}

	class thread {
	public:
		template <class F>
		explicit thread(F f) : fiber_(start(std::move(f))) {}
		void join() { fiber_.join(); }

	private:
		fibers::fiber fiber_;
	};
	template <class F>
	static void detach(F f) {
		start(std::move(f)).detach();
	}
	static void yield() { boost::this_fiber::yield(); }
	static void sleep_until(peers::clock::time_point t) { boost::this_fiber::sleep_until(t); }

	using mutex = fibers::mutex;
	using condition = fibers::condition_variable;
	using semaphore = peers::made_semaphore<mutex, condition>;

	template <bool rendezvous>
	class channel {
	public:
		explicit channel(std::size_t capacity) : ch_(make(capacity)) {}
		void send(std::int64_t v) { ch_->push(v); }
		bool receive(std::int64_t &v) { return ch_->pop(v) == fibers::channel_op_status::success; }
		void close() { ch_->close(); }

	private:
		using kind = std::conditional_t<rendezvous, fibers::unbuffered_channel<std::int64_t>, fibers::buffered_channel<std::int64_t>>;
		static std::unique_ptr<kind> make([[maybe_unused]] std::size_t capacity) {
			if constexpr (rendezvous) {
				return std::make_unique<kind>();
			} else {
				return std::make_unique<kind>(capacity);
			}
		}
		std::unique_ptr<kind> ch_;
	};
	static constexpr std::pair<std::string_view, const char *> notes[] = {
	    {"semaphore", "made of its mutex and condition variable"},
	    {"memory", "no guard pages"},
	    {"sleepers", "of two kernel threads an idle one spins"},
	    {"timer_latency", "of two kernel threads an idle one spins"},
	    {"handover_latency", "through a semaphore made of its mutex and condition variable"},
	    {"wake_latency", "through a semaphore made of its mutex and condition variable; of two kernel threads an idle one spins"},
	};
};

}  // namespace

int main(int argc, char **argv) { return peers::main<face>(argc, argv); }
