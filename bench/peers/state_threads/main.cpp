// SPDX-License-Identifier: BSD-2-Clause
//
// State Threads: one kernel thread and no lock anywhere, so its mutex and its hand-overs are a few plain stores.
#include "../program.h"

extern "C" {
#include <st.h>
}

namespace {

template <class F>
st_thread_t start(F f, int joinable) {
	const st_thread_t id = st_thread_create(peers::call_and_delete<F>, new F(std::move(f)), joinable, static_cast<int>(peers::stack_size));
	peers::check(id != nullptr, "st_thread_create failed");
	return id;
}

struct face {
	static constexpr unsigned workers_most = 1;

	template <class F>
	static void run(unsigned, F f) {
		st_set_eventsys(ST_EVENTSYS_ALT);  // epoll, if it was built with it
		peers::check(st_init() == 0, "st_init failed");
		f();
	}

	class thread {
	public:
		template <class F>
		explicit thread(F f) : id_(start(std::move(f), 1)) {}
		void join() { st_thread_join(id_, nullptr); }

	private:
		st_thread_t id_;
	};
	template <class F>
	static void detach(F f) {
		start(std::move(f), 0);
	}
	static void yield() { st_sleep(0); }  // it has no other; its timers are looked at, too
	static void sleep_until(peers::clock::time_point t) {
		for (;;) {  // its clock is of wall-clock microseconds, read once a turn of its scheduler
			const auto rest = std::chrono::ceil<std::chrono::microseconds>(t - peers::clock::now()).count();
			if (rest <= 0) {
				return;
			}
			st_usleep(static_cast<st_utime_t>(rest));
		}
	}

	class mutex {
	public:
		mutex() : mutex_(st_mutex_new()) {}
		~mutex() { st_mutex_destroy(mutex_); }
		mutex(const mutex &) = delete;
		mutex &operator=(const mutex &) = delete;
		void lock() { st_mutex_lock(mutex_); }
		void unlock() { st_mutex_unlock(mutex_); }

	private:
		st_mutex_t mutex_;
	};
	class condition {
	public:
		condition() : condition_(st_cond_new()) {}
		~condition() { st_cond_destroy(condition_); }
		condition(const condition &) = delete;
		condition &operator=(const condition &) = delete;
		template <class Holds>
		void wait(std::unique_lock<mutex> &hold, Holds holds) {
			while (!holds()) {  // nothing runs between the unlock and the wait: one kernel thread, no preemption
				hold.unlock();
				st_cond_wait(condition_);
				hold.lock();
			}
		}
		void notify_one() { st_cond_signal(condition_); }

	private:
		st_cond_t condition_;
	};

	// Its condition variable needs no mutex, which makes it a park.
	class seat {
	public:
		seat() : condition_(st_cond_new()) {}
		~seat() { st_cond_destroy(condition_); }
		seat(const seat &) = delete;
		seat &operator=(const seat &) = delete;
		void sit() {}
		void park() {
			while (!token_) {
				st_cond_wait(condition_);
			}
			token_ = false;
		}
		void unpark() {
			token_ = true;
			st_cond_signal(condition_);
		}

	private:
		st_cond_t condition_;
		bool token_ = false;
	};

	class semaphore {
	public:
		explicit semaphore(std::ptrdiff_t units) : condition_(st_cond_new()), units_(units) {}
		~semaphore() { st_cond_destroy(condition_); }
		semaphore(const semaphore &) = delete;
		semaphore &operator=(const semaphore &) = delete;
		void acquire() {
			while (units_ == 0) {
				st_cond_wait(condition_);
			}
			--units_;
		}
		void release() {
			++units_;
			st_cond_signal(condition_);
		}

	private:
		st_cond_t condition_;
		std::ptrdiff_t units_;
	};
	static constexpr std::pair<std::string_view, const char *> notes[] = {{"semaphore", "a count and its condition variable, no lock"},
	    {"park", "its condition variable, no lock"}, {"yield", "st_sleep(0)"}, {"mutex_alone", "no lock: one kernel thread"},
	    {"memory", "no guard pages"}};
};

}  // namespace

int main(int argc, char **argv) { return peers::main<face>(argc, argv); }
