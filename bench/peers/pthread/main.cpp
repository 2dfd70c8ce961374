// SPDX-License-Identifier: BSD-2-Clause
//
// Kernel threads: pthreads for their making (std's have no stack size) and POSIX semaphores (std's wakes all waiters), std for the rest.
#include "../program.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <condition_variable>
#include <mutex>
#include <thread>

namespace {

template <class F>
pthread_t start(F f, int state) {
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, state);
	pthread_attr_setstacksize(&attr, peers::stack_size);
	pthread_t id;
	const int error = pthread_create(&id, &attr, peers::call_and_delete<F>, new F(std::move(f)));
	pthread_attr_destroy(&attr);
	peers::check(error == 0, "pthread_create failed");
	return id;
}

struct face {
	static constexpr unsigned workers_most = 256;  // the CPUs that it is confined to from outside

	template <class F>
	static void run(unsigned, F f) {
		f();
	}

	class thread {
	public:
		template <class F>
		explicit thread(F f) : id_(start(std::move(f), PTHREAD_CREATE_JOINABLE)) {}
		void join() { pthread_join(id_, nullptr); }

	private:
		pthread_t id_;
	};
	template <class F>
	static void detach(F f) {
		start(std::move(f), PTHREAD_CREATE_DETACHED);
	}
	static void yield() { sched_yield(); }
	static void sleep_until(peers::clock::time_point t) { std::this_thread::sleep_until(t); }

	class semaphore {
	public:
		explicit semaphore(unsigned units) { sem_init(&semaphore_, 0, units); }
		~semaphore() { sem_destroy(&semaphore_); }
		semaphore(const semaphore &) = delete;
		semaphore &operator=(const semaphore &) = delete;
		void acquire() {
			while (sem_wait(&semaphore_) != 0) {
			}
		}
		void release() { sem_post(&semaphore_); }

	private:
		sem_t semaphore_;
	};
	using mutex = std::mutex;
	using condition = std::condition_variable;

	class seat {
	public:
		void sit() {}
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
	static constexpr std::pair<std::string_view, const char *> notes[] = {
	    {"park", "a futex"}, {"memory", "without what the kernel keeps for a thread: a stack of 16 KiB and more"}};
};

}  // namespace

int main(int argc, char **argv) { return peers::main<face>(argc, argv); }
