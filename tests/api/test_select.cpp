// SPDX-License-Identifier: BSD-2-Clause
//
// lwp::select: which case it takes and how often, that it takes one and only one, and that it leaves nothing behind in the others.
// vcpus: 1 2 8
#include <lwp/select.hpp>

#include "../support/support.h"

#include <lwp/thread.hpp>

#include <array>
#include <list>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <vector>

using namespace lwp::test;
using namespace std::chrono_literals;
using lwp::channel, lwp::select;
using lwp::on_default, lwp::on_deadline, lwp::on_receive, lwp::on_send, lwp::on_stop, lwp::on_timeout;

namespace {

const bool touched = touch_runtime();

/// A kernel thread of the application.  To join one outright would block the vCPU, and with it all that it may be waiting for.
class foreign_thread {
public:
	template <class F>
	explicit foreign_thread(F f)
	    : thread_([this, f] {
		      f();
		      done_ = true;
	      }) {}
	void join() {
		EXPECT_TRUE(wait_until([this] { return done_.load(); })) << "a kernel thread did not end";
		thread_.join();
	}

private:
	std::atomic<bool> done_{false};
	std::thread thread_;
};

const auto ignore = [](auto &&) {};

/// A sender or receiver would find nobody: nothing of a select hangs there.
void expect_nobody(channel<int> &ch) {
	EXPECT_FALSE(ch.try_send(0));
	EXPECT_FALSE(ch.try_receive());
}

}  // namespace

TEST(Select, TakesTheCaseThatCanGoOnAndTellsWhich) {
	channel<int> empty;
	channel<int> full(1);
	channel<int> room(1);
	full.send(4);
	int got = 0;
	bool sent = false;
	EXPECT_EQ(select(on_receive(empty, ignore), on_receive(full, [&](std::optional<int> v) { got = *v; }), on_timeout(1h)), 1U);
	EXPECT_EQ(got, 4);
	EXPECT_EQ(select(on_timeout(1h), on_receive(empty, ignore), on_send(room, 5, [&] { sent = true; })), 2U);
	EXPECT_TRUE(sent);
	EXPECT_EQ(room.receive(), 5);
	expect_nobody(empty);
}

TEST(Select, OnDefaultMakesItNotBlock) {
	channel<int> ch;
	int defaults = 0;
	EXPECT_EQ(select(on_receive(ch, ignore), on_send(ch, 1), on_default([&] { defaults++; })), 2U);
	EXPECT_EQ(defaults, 1);
	channel<int> full(1);
	full.send(1);
	EXPECT_EQ(select(on_default([&] { defaults++; }), on_receive(full, ignore)), 1U);
	EXPECT_EQ(defaults, 1);
	expect_nobody(ch);
}

TEST(Select, TimesOutAndNoSooner) {
	channel<int> ch;
	const auto begin = std::chrono::steady_clock::now();
	EXPECT_EQ(select(on_timeout(1h), on_receive(ch, ignore), on_timeout(20ms), on_deadline(begin + 2h)), 2U) << "the earliest counts";
	EXPECT_GE(std::chrono::steady_clock::now() - begin, 20ms);
	EXPECT_EQ(select(on_receive(ch, ignore), on_deadline(begin)), 1U);
	EXPECT_EQ(select(on_deadline(std::chrono::system_clock::now() + 1ms)), 0U);
	channel<int> full(1);
	full.send(1);
	EXPECT_EQ(select(on_deadline(begin), on_receive(full, ignore)), 1U) << "the channels are looked at first";
	expect_nobody(ch);
}

TEST(Select, AStopRequestGoesFirstIfItWasBeforeAndEndsTheWaitIfItComesLater) {
	channel<int> full(1);
	full.send(1);
	channel<int> empty;
	std::stop_source never;
	std::stop_source source;
	std::atomic<std::size_t> taken{99};
	subject s([&](subject &me) {
		me.about_to_block();
		taken = select(on_receive(empty, ignore), on_stop(never.get_token()), on_stop(source.get_token()));
	});
	s.await_blocked();
	source.request_stop();
	collect(s.lid());
	EXPECT_EQ(taken, 2U);
	EXPECT_EQ(select(on_receive(full, ignore), on_stop(source.get_token())), 1U);
	EXPECT_EQ(full.size(), 1U);
	EXPECT_EQ(select(on_receive(full, ignore), on_stop(std::stop_token())), 0U);
	expect_nobody(empty);
}

TEST(Select, AClosedChannelIsReadyToReceiveAndAnErrorToSend) {
	channel<std::unique_ptr<int>> ch;
	auto value = std::make_unique<int>(1);
	subject blocked([&](subject &me) {
		auto own = std::make_unique<int>(2);
		channel<int> other;
		me.about_to_block();
		EXPECT_THROW(select(on_receive(other, ignore), on_send(ch, std::move(own))), std::system_error);
		EXPECT_TRUE(own);
		expect_nobody(other);
	});
	blocked.await_blocked();
	ch.close();
	collect(blocked.lid());
	bool empty = false;
	EXPECT_EQ(select(on_receive(ch, [&](auto v) { empty = !v; })), 0U);
	EXPECT_TRUE(empty);
	try {
		select(on_send(ch, std::move(value)));
		ADD_FAILURE() << "no exception";
	} catch (const std::system_error &e) {
		EXPECT_EQ(e.code(), std::errc::broken_pipe);
	}
	EXPECT_TRUE(value);
}

TEST(Select, ABlockedOneGetsWhatComesFirstAndHangsNowhereAfter) {
	channel<int> a;
	channel<int> b;
	channel<int> c;
	for (const int turn : {0, 1, 2}) {
		std::atomic<std::size_t> taken{99};
		subject s([&](subject &me) {
			me.about_to_block();
			taken = select(on_receive(a, [](std::optional<int> v) { EXPECT_EQ(v, 10); }), on_send(b, 20),
			    on_receive(c, [](auto v) { EXPECT_EQ(v, 30); }));
		});
		s.await_blocked();
		if (turn == 0) {
			EXPECT_TRUE(a.try_send(10));
		} else if (turn == 1) {
			EXPECT_EQ(b.try_receive(), 20);
		} else {
			EXPECT_TRUE(c.try_send(30));
		}
		collect(s.lid());
		EXPECT_EQ(taken, static_cast<std::size_t>(turn));
		expect_nobody(a);
		expect_nobody(b);
		expect_nobody(c);
	}
}

TEST(Select, ABlockedOneThatWasTakenIsNotTakenAgainBeforeItRuns) {
	channel<int> a;
	channel<int> b;
	int got = 0;
	subject s([&](subject &me) {
		me.about_to_block();
		select(on_receive(a, [&](auto v) { got += *v; }), on_receive(b, [&](auto v) { got += *v; }));
	});
	s.await_blocked();
	EXPECT_EQ(error_of(_lwp_suspend(s.lid())), 0);  // so it cannot run and take itself off
	EXPECT_TRUE(a.try_send(1));
	EXPECT_FALSE(b.try_send(10));
	EXPECT_FALSE(a.try_send(100));
	EXPECT_EQ(error_of(_lwp_continue(s.lid())), 0);
	collect(s.lid());
	EXPECT_EQ(got, 1);
}

TEST(Select, TheSameChannelMayStandInSeveralCases) {
	channel<int> ch;
	std::atomic<std::size_t> taken{99};
	subject s([&](subject &me) {
		me.about_to_block();
		taken = select(on_receive(ch, ignore), on_send(ch, 3), on_receive(ch, ignore), on_send(ch, 4));
	});
	s.await_blocked();  // it does not serve itself
	const auto got = ch.try_receive();
	EXPECT_TRUE(got == 3 || got == 4);
	collect(s.lid());
	EXPECT_EQ(taken, got == 3 ? 1U : 3U);
	expect_nobody(ch);
}

TEST(Select, AMoveOnlyValueGoesOnlyIfItsCaseIsTaken) {
	channel<std::unique_ptr<int>> a(1);
	channel<std::unique_ptr<int>> b;
	auto to_a = std::make_unique<int>(1);
	auto to_b = std::make_unique<int>(2);
	EXPECT_EQ(select(on_send(a, std::move(to_a)), on_send(b, std::move(to_b))), 0U);
	EXPECT_FALSE(to_a);
	EXPECT_TRUE(to_b);
	EXPECT_EQ(**a.receive(), 1);
	channel<std::string> words(1);
	const std::string word = "copied";
	EXPECT_EQ(select(on_send(words, word)), 0U);
	EXPECT_EQ(words.receive(), word);
	EXPECT_EQ(select(on_send(words, "converted")), 0U);
	EXPECT_EQ(words.receive(), "converted");
}

// The taken case is not touched after its value has gone; the other one is.
TEST(Select, TheReceiverOfTheLastValueMayDestroyItsChannel) {
	for (std::size_t n = rounds(5000); n != 0; n--) {
		channel<int> other;
		auto ch = std::make_unique<channel<int>>();
		const lwpid_t lid = spawn([&other, raw = ch.get()] { EXPECT_EQ(select(on_receive(other, ignore), on_send(*raw, 1)), 1U); });
		if (n % 2 == 0) {
			lwp_yield();
		}
		EXPECT_EQ(ch->receive(), 1);
		ch.reset();
		collect(lid);
	}
}

TEST(Select, HandlersMayThrowAndUseTheSameChannels) {
	channel<int> a(1);
	channel<int> b;
	a.send(1);
	EXPECT_THROW(select(on_receive(b, ignore),
	                 on_receive(a,
	                     [&](auto v) {
		                     a.send(*v + 1);
		                     EXPECT_EQ(select(on_receive(b, ignore), on_default()), 1U);
		                     throw std::runtime_error("from a handler");
	                     })),
	    std::runtime_error);
	EXPECT_EQ(a.receive(), 2);
	expect_nobody(b);
}

// 80000 draws of one in eight: the mean is 10000, the standard deviation 94.  Ten of those are no accident.
TEST(Select, OfThoseReadyEachIsTakenAboutEquallyOften) {
	struct one : channel<std::size_t> {
		one() : channel(1) {}
	};
	std::array<one, 8> ch;
	const auto share = [&](std::size_t ready, std::size_t step, std::size_t draws) {
		std::array<std::size_t, 8> count{};
		for (std::size_t i = 0; i < ready; i++) {
			ch[i * step].send(i * step);
		}
		for (std::size_t n = 0; n < draws; n++) {
			const auto f = [&](std::optional<std::size_t> v) {
				count[*v]++;
				ch[*v].send(*v);
			};
			select(on_receive(ch[0], f), on_receive(ch[1], f), on_receive(ch[2], f), on_receive(ch[3], f), on_receive(ch[4], f),
			    on_receive(ch[5], f), on_receive(ch[6], f), on_receive(ch[7], f));
		}
		for (std::size_t i = 0; i < ready; i++) {
			EXPECT_EQ(ch[i * step].receive(), i * step);
		}
		return count;
	};
	for (const std::size_t n : share(8, 1, 80000)) {
		EXPECT_NEAR(static_cast<double>(n), 10000, 940);
	}
	const auto neighbours = share(2, 1, 20000);  // a random start alone would give 1:7
	EXPECT_NEAR(static_cast<double>(neighbours[0]), 10000, 710);
	EXPECT_NEAR(static_cast<double>(neighbours[1]), 10000, 710);
}

// Both sides are selects over the same channels, named in opposite orders: neither waits for a lock the other holds, and each value goes once.
TEST(Select, BothSidesInOppositeOrder) {
	const std::size_t n = rounds(20000);
	channel<std::size_t> a;
	channel<std::size_t> b;
	std::size_t sum = 0;
	std::array<std::atomic<std::size_t>, 2> through{};
	const auto send = [&](std::size_t count) {
		for (std::size_t i = 1; i <= count; i++) {
			select(on_send(a, i), on_send(b, i));
		}
	};
	const auto receive = [&](std::size_t count) {
		std::size_t mine = 0;
		for (std::size_t i = 0; i < count; i++) {
			through[select(on_receive(b, [&](auto v) { mine += *v; }), on_receive(a, [&](auto v) { mine += *v; }))]++;
		}
		return mine;
	};
	const lwpid_t s1 = spawn([&] { send(n); });
	foreign_thread s2([&] { send(n); });
	std::size_t other = 0;
	foreign_thread r2([&] { other = receive(n); });
	const lwpid_t r1 = spawn([&] { sum = receive(n); });
	collect(s1);
	collect(r1);
	s2.join();
	r2.join();
	EXPECT_EQ(sum + other, n * (n + 1));
	EXPECT_EQ(through[0] + through[1], 2 * n);
	EXPECT_GT(through[0], 0U);
	EXPECT_GT(through[1], 0U);
}

// A ring of LWPs that each send to one neighbour and receive from the other, whichever comes first: nobody can go on unless both ends may be
// claimed while they hang.  The tokens stay as many as they were.
TEST(Select, ARingWhereEverybodyBothSendsAndReceives) {
	constexpr std::size_t size = 5;
	const std::size_t turns = rounds(3000);
	std::array<channel<std::size_t>, size> ch;
	std::array<std::size_t, size> in{};
	std::array<std::size_t, size> out{};
	std::vector<lwp::thread> ring;
	std::atomic<std::size_t> busy{size};
	for (std::size_t i = 0; i < size; i++) {
		ring.emplace_back([&, i] {
			std::size_t done = 0;
			const auto turn = [&] { busy -= ++done == turns; };
			while (busy != 0) {
				select(on_receive(ch[i],
				           [&](auto v) {
					           in[i] += *v;
					           turn();
				           }),
				    on_send(ch[(i + 1) % size], i,
				        [&] {
					        out[i] += i;
					        turn();
				        }),
				    on_timeout(1ms));
			}
		});
	}
	for (auto &t : ring) {
		t.join();
	}
	EXPECT_EQ(std::accumulate(in.begin(), in.end(), std::size_t{0}), std::accumulate(out.begin(), out.end(), std::size_t{0}));
}

// Selects and plain calls on both sides, timeouts, stop requests and a close in the middle.
TEST(Select, StormLosesAndDoublesNothing) {
	const std::uint64_t base = seed();
	constexpr unsigned each_side = 8;
	const std::size_t each = rounds(4000);
	channel<std::size_t> unbuffered;
	channel<std::size_t> buffered(3);
	channel<std::size_t> another;
	std::vector<std::atomic<unsigned char>> sent(each_side * each);
	std::vector<std::atomic<unsigned char>> received(each_side * each);
	std::atomic<unsigned> senders_left{each_side};
	std::atomic<std::size_t> begun{0};

	const auto send = [&](unsigned who) {
		dice d(base + who);
		for (std::size_t i = 0; i < each; i++) {
			const std::size_t id = who * each + i;
			const auto took = [&] { sent[id]++; };
			begun++;
			std::stop_source source;
			lwp::thread stopper;
			if (d.one_in(8)) {
				stopper = lwp::thread([&] { source.request_stop(); });
			}
			bool closed = false;
			try {
				switch (d.below(4)) {
				case 0:
					select(on_send(another, id, took), on_send(unbuffered, id, took), on_send(buffered, id, took),
					    on_stop(source.get_token()));
					break;
				case 1:
					select(on_send(unbuffered, id, took), on_send(another, id, took), on_timeout(std::chrono::microseconds(d.below(30))));
					break;
				case 2:
					select(on_send(unbuffered, id, took), on_send(unbuffered, id, took), on_default());
					break;
				default:
					if (another.send_for(id, 10us)) {
						took();
					}
				}
			} catch (const std::system_error &) {
				closed = true;
			}
			if (stopper.joinable()) {
				stopper.join();
			}
			if (closed) {
				break;
			}
		}
		if (--senders_left == 0) {
			unbuffered.close();
			buffered.close();
			another.close();
		}
	};
	const auto receive = [&](unsigned who) {
		dice d(base + 100 + who);
		bool open[3] = {true, true, true};
		const auto from = [&](int which) {
			return [&, which](std::optional<std::size_t> v) { v ? void(received[*v]++) : void(open[which] = false); };
		};
		while (open[0] || open[1] || open[2]) {
			std::stop_source source;
			lwp::thread stopper;
			if (d.one_in(8)) {
				stopper = lwp::thread([&] { source.request_stop(); });
			}
			switch (d.below(4)) {
			case 0:
				select(on_receive(unbuffered, from(0)), on_receive(buffered, from(1)), on_receive(another, from(2)),
				    on_stop(source.get_token()));
				break;
			case 1:
				select(on_receive(buffered, from(1)), on_receive(another, from(2)), on_receive(unbuffered, from(0)),
				    on_timeout(std::chrono::microseconds(d.below(30))));
				break;
			case 2:
				select(on_receive(another, from(2)), on_receive(another, from(2)), on_default(lwp_yield));
				break;
			default:
				if (const auto v = unbuffered.receive_for(10us)) {
					received[*v]++;
				}
			}
			if (stopper.joinable()) {
				stopper.join();
			}
		}
	};
	std::vector<lwp::thread> lwps;
	std::list<foreign_thread> foreign;
	for (unsigned i = 0; i < each_side; i++) {
		if (i % 4 == 3) {
			foreign.emplace_back([&send, i] { send(i); });
			foreign.emplace_back([&receive, i] { receive(i); });
		} else {
			lwps.emplace_back(send, i);
			lwps.emplace_back(receive, i);
		}
	}
	dice d(base);
	const std::size_t close_at = d.below(static_cast<unsigned>(each_side * each));
	EXPECT_TRUE(wait_until([&] { return begun > close_at || senders_left == 0; }));
	another.close();
	for (auto &t : lwps) {
		t.join();
	}
	for (auto &t : foreign) {
		t.join();
	}
	std::size_t wrong = 0, through = 0;
	for (std::size_t i = 0; i < sent.size(); i++) {
		wrong += sent[i] != received[i] || sent[i] > 1;
		through += received[i];
	}
	EXPECT_EQ(wrong, 0U) << "values lost or doubled";
	std::printf("%zu of %zu values went through\n", through, sent.size());
}
