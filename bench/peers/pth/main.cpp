// SPDX-License-Identifier: BSD-2-Clause
//
// GNU Pth: one kernel thread; a scheduler that looks at every waiting thread in turn.
#include "../program.h"

#include <pth.h>

namespace {

template <class F>
pth_t start(F f, int joinable) {
	const pth_attr_t attr = pth_attr_new();
	pth_attr_set(attr, PTH_ATTR_JOINABLE, joinable);
	pth_attr_set(attr, PTH_ATTR_STACK_SIZE, static_cast<unsigned>(peers::stack_size));
	const pth_t id = pth_spawn(attr, peers::call_and_delete<F>, new F(std::move(f)));
	pth_attr_destroy(attr);
	peers::check(id != nullptr, "pth_spawn failed");
	return id;
}

struct face {
	static constexpr unsigned workers_most = 1;

	template <class F>
	static void run(unsigned, F f) {
		peers::check(pth_init() != 0, "pth_init failed");
		f();
	}

	class thread {
	public:
		template <class F>
		explicit thread(F f) : id_(start(std::move(f), 1)) {}
		void join() { pth_join(id_, nullptr); }

	private:
		pth_t id_;
	};
	template <class F>
	static void detach(F f) {
		start(std::move(f), 0);
	}
	static void yield() { pth_yield(nullptr); }
	static void sleep_until(peers::clock::time_point t) {
		for (;;) {  // its naps are of wall-clock microseconds
			const auto rest = std::chrono::ceil<std::chrono::microseconds>(t - peers::clock::now()).count();
			if (rest <= 0) {
				return;
			}
			pth_nap(pth_time(rest / 1'000'000, rest % 1'000'000));
		}
	}

	class mutex {
	public:
		mutex() { pth_mutex_init(&mutex_); }
		void lock() { pth_mutex_acquire(&mutex_, 0, nullptr); }
		void unlock() { pth_mutex_release(&mutex_); }

	private:
		friend face;
		pth_mutex_t mutex_;
	};
	class condition {
	public:
		condition() { pth_cond_init(&condition_); }
		template <class Holds>
		void wait(std::unique_lock<mutex> &hold, Holds holds) {
			while (!holds()) {
				pth_cond_await(&condition_, &native(*hold.mutex()), nullptr);
			}
		}
		void notify_one() { pth_cond_notify(&condition_, 0); }

	private:
		pth_cond_t condition_;
	};
	static pth_mutex_t &native(mutex &m) { return m.mutex_; }
	using semaphore = peers::made_semaphore<mutex, condition>;
	static constexpr std::pair<std::string_view, const char *> notes[] = {{"semaphore", "made of its mutex and condition variable"},
	    {"handover_latency", "through a semaphore made of its mutex and condition variable"},
	    {"wake_latency", "through a semaphore made of its mutex and condition variable"}};
};

}  // namespace

int main(int argc, char **argv) { return peers::main<face>(argc, argv); }
