// SPDX-License-Identifier: BSD-2-Clause
//
// Races of I/O: many LWPs at once, a close against those that are blocked, an end that is asked for against the completion, queues of
// every size that are too small, runtimes that come and go.
// vcpus: 1 2 8
// io: uring epoll denied
#include "io/port.h"
#include "proc/lwp_life.h"
#include "proc/runtime.h"

#include "io_support.h"

#include <csignal>
#include <fcntl.h>
#include <functional>
#include <map>
#include <memory>
#include <sys/time.h>
#include <thread>
#include <vector>

using namespace lwp::test;

namespace {

using lwp::kern::curlwp;
using lwp::kern::io_begin;
using lwp::kern::io_cancel;
using lwp::kern::io_end;
using lwp::kern::io_finish;
using lwp::kern::io_kind;
using lwp::kern::io_op;
using lwp::kern::io_wait;
using lwp::kern::lwp_t;
using lwp::kern::lwp_userret;
using lwp::kern::now;

const bool touched = touch_runtime();

long run(lwp_t *l, io_op &op) {
	if (io_begin(l, &op)) {
		while (io_wait(l, &op) == ERESTART) {
			lwp_userret(l);
		}
	}
	return io_finish(l, &op);
}

/// A read that ends at `deadline`.
long read_until(int fd, void *buffer, std::size_t size, lwp::kern::nanotime deadline) {
	lwp_t *l = curlwp();
	io_op op(l, io_kind::read, fd);
	op.o_addr = buffer;
	op.o_len = size;
	op.o_deadline = deadline;
	return run(l, op);
}

void echo(int fd) {
	char buffer[64];
	ssize_t n;
	while ((n = lwp_recv(fd, buffer, sizeof(buffer), 0)) > 0) {
		EXPECT_EQ(lwp_send(fd, buffer, static_cast<std::size_t>(n), 0), n);
	}
	EXPECT_EQ(n, 0);
}

/// `clients` LWPs talk over TCP to as many others.
void echo_storm(unsigned clients, unsigned turns) {
	listener server;
	std::vector<lwpid_t> all;
	std::atomic<unsigned> right{0};
	all.push_back(spawn([&] {
		std::vector<lwpid_t> servants;
		for (unsigned i = 0; i < clients; i++) {
			const int fd = lwp_accept4(server.fd, nullptr, nullptr, SOCK_CLOEXEC);
			EXPECT_GE(fd, 0);
			servants.push_back(spawn([fd] {
				echo(fd);
				EXPECT_EQ(lwp_close(fd), 0);
			}));
		}
		for (const lwpid_t lid : servants) {
			collect(lid);
		}
	}));
	for (unsigned i = 0; i < clients; i++) {
		all.push_back(spawn([&, i] {
			const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
			EXPECT_EQ(lwp_connect(fd, server.address(), server.length()), 0);
			for (unsigned k = 0; k < turns; k++) {
				const std::uint64_t sent = (std::uint64_t{i} << 32) + k;
				std::uint64_t got = 0;
				EXPECT_EQ(lwp_send(fd, &sent, sizeof(sent), 0), static_cast<ssize_t>(sizeof(sent)));
				EXPECT_EQ(lwp_recv(fd, &got, sizeof(got), MSG_WAITALL), static_cast<ssize_t>(sizeof(got)));
				right += got == sent;
			}
			EXPECT_EQ(lwp_close(fd), 0);
		}));
	}
	for (const lwpid_t lid : all) {
		collect(lid);
	}
	EXPECT_EQ(right, clients * turns);
}

/// One turn of close_storm(): who waits makes it, the other takes it.
struct close_turn {
	std::unique_ptr<pipe_pair> pipe;
	std::unique_ptr<socket_pair> pair;
	unsigned kind = 0;  // read, recv, lwp_poll() on it alone, and on it and another
	int fd = -1;        // is waited for, and closed by one of the two
	int feed = -1;      // the byte goes there
	bool closed = false;

	explicit close_turn(unsigned k) : kind(k) {
		if (kind == 0) {
			pipe = std::make_unique<pipe_pair>();
			fd = high(pipe->take_out());
			feed = pipe->in;
		} else {
			pair = std::make_unique<socket_pair>(SOCK_STREAM);
			fd = high(pair->take_a());
			feed = pair->b;
		}
	}

	/// A number that nobody else gets by chance, as a vCPU's first operation its ring's.
	static int high(int low) {
		const int fd = ::fcntl(low, F_DUPFD_CLOEXEC, 900);
		drop(low);
		return fd;
	}
};

/// How a wait on `fd` ended: 1 the byte, or errno.
int wait_on(const close_turn &t, int another) {
	char c = 0;
	if (t.kind < 2) {
		const ssize_t n = t.kind == 0 ? lwp_read(t.fd, &c, 1) : lwp_recv(t.fd, &c, 1, 0);
		const int error = errno_of(n);
		EXPECT_EQ(c, n == 1 ? 'x' : 0);
		return n == 1 ? 1 : error;
	}
	pollfd fds[2] = {{t.fd, POLLIN, 0}, {another, POLLIN, 0}};
	EXPECT_EQ(lwp_poll(fds, t.kind == 2 ? 1 : 2, -1), 1);
	EXPECT_EQ(fds[1].revents, 0);
	EXPECT_TRUE(fds[0].revents == POLLIN || fds[0].revents == POLLNVAL) << fds[0].revents;
	return fds[0].revents == POLLIN ? 1 : ECANCELED;
}

/// run(waiter) has somebody wait, turn for turn; an LWP sends the byte and closes, in either order or one of both.
void close_storm(const std::function<void(const std::function<void()> &)> &run_waiter) {
	const std::size_t n = rounds(10000);
	close_turn *turn = nullptr;  // null: no more come
	lwp::binary_semaphore begun(0), done(0);
	const lwpid_t other = spawn([&] {
		dice d(seed());
		for (;;) {
			begun.acquire();
			close_turn *t = turn;
			if (t == nullptr) {
				return;
			}
			for (unsigned k = d.below(3); k > 0; k--) {
				lwp_yield();
			}
			for (unsigned k = d.below(300); k > 0; k--) {
				lwp::kern::cpu_relax();
			}
			const unsigned what = d.below(3);
			if (what != 0) {
				EXPECT_EQ(::write(t->feed, "x", 1), 1);
			}
			if (what != 1) {
				EXPECT_EQ(lwp_close(t->fd), 0);
				t->closed = true;
			}
			done.release();
		}
	});
	std::map<int, std::size_t> results;
	run_waiter([&] {
		dice d(seed());
		pipe_pair another;
		for (std::size_t i = 0; i < n; i++) {
			close_turn t(d.below(4));
			turn = &t;
			begun.release();
			results[wait_on(t, another.out)]++;
			done.acquire();
			if (!t.closed) {
				EXPECT_EQ(lwp_close(t.fd), 0);
			}
		}
		turn = nullptr;
		begun.release();
	});
	collect(other);
	for (const auto &[result, count] : results) {
		EXPECT_TRUE(result == 1 || result == ECANCELED || result == EBADF) << result;
		std::printf("%d: %zu\n", result, count);
	}
}

std::atomic<unsigned> signals{0};

/// CPU time of all kernel threads, in milliseconds.
double cpu_ms() {
	timespec t{};
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return static_cast<double>(t.tv_sec) * 1e3 + static_cast<double>(t.tv_nsec) * 1e-6;
}

}  // namespace

// A handler without SA_RESTART interrupts whatever system call a vCPU is in, its ring's among them.  No call of ours ends by that.
TEST(IoStorm, SignalsInterruptNobody) {
	struct sigaction mine {
	}, old{};
	mine.sa_handler = [](int) { signals.fetch_add(1, std::memory_order_relaxed); };
	ASSERT_EQ(::sigaction(SIGALRM, &mine, &old), 0);
	const itimerval often{{0, 300}, {0, 300}}, off{};
	ASSERT_EQ(::setitimer(ITIMER_REAL, &often, nullptr), 0);
	for (int i = 0; i < 20 && signals.load(std::memory_order_relaxed) < 20; i++) {
		echo_storm(20, 20);
	}
	EXPECT_EQ(::setitimer(ITIMER_REAL, &off, nullptr), 0);
	EXPECT_NE(::signal(SIGALRM, SIG_IGN), SIG_ERR);  // which drops one that is pending: the default for that ends the process
	EXPECT_EQ(::sigaction(SIGALRM, &old, nullptr), 0);
}

TEST(IoStorm, AThousandEcho) { echo_storm(1000, LWP_TEST_ASAN || LWP_TEST_TSAN ? 3 : 20); }

// Each LWP is blocked, or on its way to be, or not yet begun.  It gets ECANCELED or EBADF soon, and never what a later owner of the number is
// sent.  The closer knows that nobody refers to the number any more.
TEST(IoStorm, CloseAgainstABlockedRead) {
	dice d(seed());
	const std::size_t n = rounds(10000);
	for (std::size_t i = 0; i < n; i++) {
		pipe_pair p;
		std::atomic<bool> begun{false};
		const bool whole = d.one_in(2);
		char c = 0;
		int error = 0;
		const lwpid_t reader = spawn([&] {
			begun = true;
			error = errno_of(lwp_read(p.out, &c, 1));
		});
		if (whole) {
			for (unsigned k = d.below(20); k > 0 || !begun; k -= k > 0) {
				lwp_yield();
			}
		}
		const int number = p.out;
		EXPECT_EQ(lwp_close(p.take_out()), 0);
		// Another file, with the same number, full of what the reader must not get.
		pipe_pair other;
		const int again = fcntl(other.out, F_DUPFD_CLOEXEC, number);
		EXPECT_EQ(::write(other.in, "B", 1), 1);
		if (again == number && begun) {
			EXPECT_TRUE(wait_until([&] { return !alive(reader) || error != 0; }));
		}
		collect(reader);
		if (begun && whole) {
			EXPECT_TRUE(error == ECANCELED || error == EBADF || (c == 'B' && error == -1)) << error;
		}
		if (error == ECANCELED) {
			EXPECT_EQ(c, 0);
		}
		drop(again);
	}
}

// The byte, the close and whoever waits meet in every order.  The wait ends once, by one of them; the byte is got whole or not at all.
TEST(IoStorm, CloseAgainstCompletion) {
	close_storm([](const std::function<void()> &waiter) { collect(spawn(waiter)); });
}

// A kernel thread from outside waits by itself, and is entered at the descriptor like all others.
TEST(IoStorm, CloseAgainstAKernelThreadsCompletion) {
	close_storm([](const std::function<void()> &waiter) {
		lwp::binary_semaphore through(0);
		std::thread outside([&] {
			waiter();
			through.release();
		});
		through.acquire();  // this LWP's vCPU is for the other one
		outside.join();
	});
}

TEST(IoStorm, CloseEndsAllThatAreBlockedSoon) {
	socket_pair s(SOCK_STREAM);
	listener server;
	std::vector<std::unique_ptr<subject>> all;
	std::atomic<unsigned> cancelled{0};
	for (unsigned i = 0; i < 20; i++) {
		all.push_back(std::make_unique<subject>([&, i](subject &self) {
			char c;
			self.about_to_block();
			const ssize_t n = i % 2 == 0 ? lwp_recv(s.a, &c, 1, 0) : lwp_accept4(server.fd, nullptr, nullptr, 0);
			cancelled += errno_of(n) == ECANCELED;
		}));
	}
	for (const auto &one : all) {
		one->await_blocked();
	}
	stopwatch w;
	EXPECT_EQ(lwp_close(s.take_a()), 0);
	EXPECT_EQ(lwp_close(take(server.fd)), 0);
	for (const auto &one : all) {
		collect(one->lid());
	}
	EXPECT_EQ(cancelled, 20U);
	EXPECT_LT(w.ms(), 5000);
}

// The deadline, a byte, and somebody who asks for an end come at the same moment.  Each read ends once; the byte is read or still there.
TEST(IoStorm, EndsAgainstCompletions) {
	dice d(seed());
	const std::size_t n = rounds(lwp::runtime::vcpus() == 1 ? 20000 : 10000);  // between two vCPUs each round wakes a kernel thread
	pipe_pair p;
	std::atomic<io_op *> op_now{nullptr};
	std::atomic<std::size_t> turn{0};
	std::atomic<bool> over{false};
	// Asks for an end of whatever operation is published, and says so before that may go away.
	const lwpid_t other = spawn([&] {
		dice e(2);
		std::size_t seen = 0;
		while (!over) {
			const std::size_t t = turn.load();
			if (t == seen) {
				lwp_yield();
				continue;
			}
			for (unsigned k = e.below(300); k > 0; k--) {
				lwp::kern::cpu_relax();
			}
			if (io_op *op = op_now.load()) {
				if (e.one_in(2)) {
					io_cancel(op, io_end::stopped);
				}
				if (e.one_in(2)) {
					EXPECT_EQ(::write(p.in, "x", 1), 1);
				}
			}
			seen = t;
			op_now = nullptr;
		}
	});
	std::map<long, std::size_t> results;
	for (std::size_t i = 0; i < n; i++) {
		lwp_t *l = curlwp();
		char c = 0;
		io_op op(l, io_kind::read, p.out);
		op.o_addr = &c;
		op.o_len = 1;
		op.o_deadline = d.one_in(3) ? now() + d.below(60000) : now() + 200000;
		const bool pending = io_begin(l, &op);
		if (pending) {
			op_now = &op;
			turn++;
			while (io_wait(l, &op) == ERESTART) {
				lwp_userret(l);
			}
			while (op_now != nullptr) {  // the other one may still look at it
				lwp_yield();
			}
		}
		const long result = io_finish(l, &op);
		EXPECT_EQ(c != 0, result == 1);
		results[result]++;
	}
	over = true;
	collect(other);
	for (const auto &[result, count] : results) {
		EXPECT_TRUE(result == 1 || result == -ETIMEDOUT || result == -ECANCELED) << result;
		std::printf("%ld: %zu\n", result, count);
	}
}

TEST(IoStorm, DeadlineIsNeverEarlyAndLeavesNothing) {
	pipe_pair p;
	char c = 0;
	for (int i = 0; i < 50; i++) {
		const auto deadline = now() + static_cast<lwp::kern::nanotime>(i) * 20000;
		EXPECT_EQ(read_until(p.out, &c, 1, deadline), -ETIMEDOUT);
		EXPECT_GE(now(), deadline);
	}
	EXPECT_EQ(lwp_write(p.in, "x", 1), 1);
	EXPECT_EQ(read_until(p.out, &c, 1, now() + 60'000'000'000), 1);
	// A kernel thread from outside keeps deadlines too.
	std::thread([&] { EXPECT_EQ(read_until(p.out, &c, 1, now() + 1000000), -ETIMEDOUT); }).join();
}

// LWPs that sleep for a time, LWPs that wait for bytes, and one that computes between yields: all of them come to their turn.
TEST(IoStorm, TimersAndComputingBesideIo) {
	std::vector<lwpid_t> all;
	std::atomic<bool> over{false};
	std::atomic<unsigned> slept{0}, passed{0};
	const lwpid_t busy = spawn([&] {
		while (!over) {
			for (int i = 0; i < 1000; i++) {
				lwp::kern::cpu_relax();
			}
			lwp_yield();
		}
	});
	std::vector<std::unique_ptr<socket_pair>> pairs;
	for (int i = 0; i < 20; i++) {
		pairs.push_back(std::make_unique<socket_pair>(SOCK_STREAM));
		socket_pair &s = *pairs.back();
		for (const bool first : {true, false}) {
			all.push_back(spawn([&, first] {
				char c = 'x';
				for (int k = 0; k < 50; k++) {
					if (first) {
						EXPECT_EQ(lwp_send(s.a, &c, 1, 0), 1);
						EXPECT_EQ(lwp_recv(s.a, &c, 1, 0), 1);
						passed++;
					} else {
						EXPECT_EQ(lwp_recv(s.b, &c, 1, 0), 1);
						EXPECT_EQ(lwp_send(s.b, &c, 1, 0), 1);
					}
				}
			}));
		}
		all.push_back(spawn([&] {
			for (int k = 0; k < 5; k++) {
				const timespec ms{0, 1000000};
				EXPECT_EQ(lwp_nanosleep(&ms, nullptr), 0);
				slept++;
			}
		}));
	}
	for (const lwpid_t lid : all) {
		collect(lid);
	}
	over = true;
	collect(busy);
	EXPECT_EQ(passed, 1000U);
	EXPECT_EQ(slept, 100U);
}

// Blocked LWPs cost nothing while nothing comes.
TEST(IoStorm, IdleUsesNoCpu) {
	std::vector<std::unique_ptr<pipe_pair>> pipes;
	std::vector<lwpid_t> all;
	for (int i = 0; i < 100; i++) {
		pipes.push_back(std::make_unique<pipe_pair>());
		all.push_back(spawn([p = pipes.back().get()] {
			char c;
			EXPECT_EQ(lwp_read(p->out, &c, 1), 1);
		}));
	}
	const timespec settle{0, 300000000}, watch{0, 500000000};
	EXPECT_EQ(lwp_nanosleep(&settle, nullptr), 0);
	const double before = cpu_ms();
	EXPECT_EQ(lwp_nanosleep(&watch, nullptr), 0);
	EXPECT_LT(cpu_ms() - before, 50.0);
	for (const auto &p : pipes) {
		EXPECT_EQ(lwp_write(p->in, "x", 1), 1);
	}
	for (const lwpid_t lid : all) {
		collect(lid);
	}
}

// Kernel threads from outside and LWPs in one conversation.
TEST(IoStorm, ForeignThreadsEcho) {
	std::vector<std::thread> threads;
	std::vector<lwpid_t> all;
	std::vector<std::unique_ptr<socket_pair>> pairs;
	for (int i = 0; i < 8; i++) {
		pairs.push_back(std::make_unique<socket_pair>(SOCK_STREAM));
		socket_pair &s = *pairs.back();
		threads.emplace_back([&s] {
			char c = 'x';
			for (int k = 0; k < 100; k++) {
				EXPECT_EQ(lwp_send(s.a, &c, 1, 0), 1);
				EXPECT_EQ(lwp_recv(s.a, &c, 1, 0), 1);
			}
			EXPECT_EQ(lwp_close(s.take_a()), 0);
		});
		all.push_back(spawn([&s] { echo(s.b); }));
	}
	for (const lwpid_t lid : all) {
		collect(lid);
	}
	for (std::thread &t : threads) {
		t.join();
	}
}
