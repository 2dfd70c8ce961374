// SPDX-License-Identifier: BSD-2-Clause
//
// lwp::channel: what arrives, in which order, who waits and how a wait ends, and that a value is neither lost nor doubled.
// vcpus: 1 2 8
#include <lwp/channel.hpp>

#include "../support/support.h"

#include <lwp/thread.hpp>

#include <algorithm>
#include <array>
#include <list>
#include <memory>
#include <numeric>
#include <ranges>
#include <system_error>
#include <thread>
#include <vector>

using namespace lwp::test;
using namespace std::chrono_literals;
using lwp::channel;
using lwp::channel_status;

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

template <class Call>
void expect_broken_pipe(const Call &call) {
	try {
		call();
		ADD_FAILURE() << "no exception";
	} catch (const std::system_error &e) {
		EXPECT_EQ(e.code(), std::errc::broken_pipe);
	}
}

/// Counts how often it was moved, and how many live.
struct traveller {
	static inline std::atomic<int> alive{0};
	int id;
	int moves = 0;
	explicit traveller(int i) : id(i) { alive++; }
	traveller(traveller &&other) noexcept : id(std::exchange(other.id, -1)), moves(other.moves + 1) { alive++; }
	~traveller() { alive--; }
};

static_assert(std::input_iterator<channel<int>::iterator>);
static_assert(std::ranges::input_range<channel<int>>);
static_assert(std::ranges::input_range<channel<std::unique_ptr<int>>>);
static_assert(!std::is_copy_constructible_v<channel<int>> && !std::is_move_constructible_v<channel<int>>);

/// What went in and what came out, by number.
class ledger {
public:
	explicit ledger(std::size_t n) : sent_(n), received_(n) {}
	void sent(std::size_t id) { sent_[id]++; }
	void received(std::size_t id) { received_[id]++; }
	void check() const {
		std::size_t wrong = 0, through = 0;
		for (std::size_t i = 0; i < sent_.size(); i++) {
			wrong += sent_[i] != received_[i] || sent_[i] > 1;
			through += received_[i];
		}
		EXPECT_EQ(wrong, 0U) << "values lost or doubled";
		std::printf("%zu of %zu values went through\n", through, sent_.size());
	}

private:
	std::vector<std::atomic<unsigned char>> sent_;
	std::vector<std::atomic<unsigned char>> received_;
};

}  // namespace

TEST(Channel, BufferedTakesAsManyAsItsCapacityAndGivesThemInOrder) {
	channel<int> ch(3);
	EXPECT_EQ(ch.capacity(), 3U);
	for (int round = 0; round < 5; round++) {  // round the ring
		for (int i = 0; i < 3; i++) {
			EXPECT_EQ(ch.size(), static_cast<std::size_t>(i));
			EXPECT_TRUE(ch.try_send(10 * round + i));
		}
		EXPECT_FALSE(ch.try_send(99));
		EXPECT_EQ(ch.size(), 3U);
		EXPECT_EQ(ch.receive(), 10 * round);
		ch.send(10 * round + 3);
		for (int i = 1; i < 4; i++) {
			EXPECT_EQ(ch.receive(), 10 * round + i);
		}
		const auto nothing = ch.try_receive();
		EXPECT_FALSE(nothing);
		EXPECT_EQ(nothing.status(), channel_status::empty);
	}
}

TEST(Channel, UnbufferedHasNoRoom) {
	channel<int> ch;
	EXPECT_EQ(ch.capacity(), 0U);
	EXPECT_EQ(ch.size(), 0U);
	EXPECT_FALSE(ch.try_send(1));
	EXPECT_FALSE(ch.try_receive());
	EXPECT_FALSE(ch.send_for(1, 1ms));
	EXPECT_EQ(ch.receive_for(1ms).status(), channel_status::timeout);
}

TEST(Channel, AWaitingReceiverGetsTheValueFromATrySend) {
	channel<int> ch;
	std::optional<int> got;
	subject receiver([&](subject &me) {
		me.about_to_block();
		got = ch.receive();
	});
	receiver.await_blocked();
	EXPECT_TRUE(ch.try_send(5));
	collect(receiver.lid());
	EXPECT_EQ(got, 5);
}

TEST(Channel, AWaitingSenderReturnsOnceItsValueIsTaken) {
	channel<int> ch;
	std::atomic<bool> returned{false};
	subject sender([&](subject &me) {
		me.about_to_block();
		ch.send(6);
		returned = true;
	});
	sender.await_blocked();
	EXPECT_FALSE(returned);
	EXPECT_EQ(ch.try_receive(), 6);
	collect(sender.lid());
	EXPECT_TRUE(returned);
}

TEST(Channel, AValueIsMovedOnceFromHandToHandAndTwiceThroughABuffer) {
	{
		channel<traveller> ch;
		subject sender([&](subject &me) {
			me.about_to_block();
			ch.send(traveller(1));
		});
		sender.await_blocked();
		EXPECT_EQ(ch.receive()->moves, 1);
		collect(sender.lid());
		subject receiver([&](subject &me) {
			me.about_to_block();
			EXPECT_EQ(ch.receive()->moves, 1);
		});
		receiver.await_blocked();
		ch.send(traveller(2));
		collect(receiver.lid());
		channel<traveller> buffered(1);
		buffered.send(traveller(3));
		EXPECT_EQ(buffered.receive()->moves, 2);
	}
	EXPECT_EQ(traveller::alive, 0);
}

TEST(Channel, WhatIsLeftInItIsDestroyedWithIt) {
	{
		channel<traveller> ch(5);
		for (int i = 0; i < 4; i++) {
			ch.send(traveller(i));
		}
		EXPECT_EQ(ch.receive()->id, 0);
		ch.send(traveller(4));
		ch.send(traveller(5));  // round the end of the ring
		EXPECT_EQ(traveller::alive, 5);
	}
	EXPECT_EQ(traveller::alive, 0);
}

TEST(Channel, CarriesMoveOnlyLargeAndAlignedValues) {
	channel<std::unique_ptr<int>> pointers(1);
	pointers.send(std::make_unique<int>(3));
	EXPECT_EQ(**pointers.receive(), 3);
	struct alignas(128) big {
		std::array<char, 4000> bytes;
	};
	for (const std::size_t capacity : {0U, 2U}) {
		channel<big> ch(capacity);
		const lwpid_t lid = spawn([&] {
			big b{};
			b.bytes.fill('x');
			ch.send(b);
			ch.send(std::move(b));
		});
		for (int i = 0; i < 2; i++) {
			const auto got = ch.receive();
			EXPECT_EQ(reinterpret_cast<std::uintptr_t>(&*got) % 128, 0U);
			EXPECT_EQ(std::count(got->bytes.begin(), got->bytes.end(), 'x'), 4000);
		}
		collect(lid);
	}
}

namespace {

struct pair_of_shorts {  // four bytes, no default constructor, and neither a number nor a pointer
	short a, b;
	pair_of_shorts(int x, int y) : a(static_cast<short>(x)), b(static_cast<short>(y)) {}
	friend bool operator==(pair_of_shorts, pair_of_shorts) = default;
};
struct with_constant {
	const int x;
	const float y;
	friend bool operator==(const with_constant &, const with_constant &) = default;
};

/// In and out: tried, blocked, through the buffer, from hand to hand, left behind.
template <class T>
void carry(const T &one, const T &two) {
	static_assert(lwp::detail::word_of<T> != 0);
	const auto is = [](const std::optional<T> &got, const T &value) { return got.has_value() && *got == value; };
	channel<T> buffered(2);
	for (int i = 0; i < 100; i++) {  // more often than its lock waits to be its vCPU's
		buffered.send(one);
		EXPECT_TRUE(buffered.try_send(two));
		EXPECT_FALSE(buffered.try_send(two));
		EXPECT_TRUE(is(buffered.try_receive(), one));
		EXPECT_TRUE(is(buffered.receive(), two));
		EXPECT_FALSE(buffered.try_receive().has_value());
	}
	buffered.send(two);
	buffered.close();
	EXPECT_TRUE(is(buffered.receive_for(1h), two));
	EXPECT_FALSE(buffered.receive().has_value());
	expect_broken_pipe([&] { buffered.send(one); });
	channel<T> direct;
	lwp::thread sender([&] {
		direct.send(one);
		direct.send(two);
		direct.close();
	});
	EXPECT_TRUE(is(direct.receive(), one));
	EXPECT_TRUE(is(direct.receive_for(1h), two));
	EXPECT_EQ(direct.receive_for(1h).status(), channel_status::closed);
	sender.join();
}

}  // namespace

// What is copied as one word is a value like any other.
TEST(Channel, CarriesWords) {
	static_assert(
	    lwp::detail::word_of<traveller> == 0 && lwp::detail::word_of<std::unique_ptr<int>> == 0 && lwp::detail::word_of<char> == 0);
	int here = 0;
	carry<std::int64_t>(-1, 1);
	carry<int>(-1, 0);
	carry<float>(0.5F, -2);
	carry<double>(0.5, -2);
	carry<int *>(&here, nullptr);
	carry<pair_of_shorts>({1, 2}, {-3, 4});
	carry<with_constant>({1, 2}, {3, 4});
	carry<std::optional<int>>(std::nullopt, 5);
	carry<std::array<char, 8>>({'a'}, {'b', 'c'});
}

TEST(Channel, ASendThatFailsLeavesTheValue) {
	channel<std::unique_ptr<int>> ch;
	auto value = std::make_unique<int>(1);
	EXPECT_FALSE(ch.try_send(std::move(value)));
	EXPECT_TRUE(value);
	EXPECT_FALSE(ch.send_for(std::move(value), 1ms));
	EXPECT_TRUE(value);
	EXPECT_FALSE(ch.send_until(std::move(value), std::chrono::system_clock::now() + 1ms));
	EXPECT_TRUE(value);
	std::stop_source source;
	source.request_stop();
	EXPECT_FALSE(ch.send(std::move(value), source.get_token()));
	EXPECT_TRUE(value);
	ch.close();
	expect_broken_pipe([&] { ch.send(std::move(value)); });
	EXPECT_TRUE(value);
	expect_broken_pipe([&] { (void)ch.try_send(std::move(value)); });
	expect_broken_pipe([&] { (void)ch.send_for(std::move(value), 1h); });
	EXPECT_TRUE(value);
}

TEST(Channel, CloseWakesSendersWhoKeepTheirValuesAndReceiversWhoGetNothing) {
	for (const std::size_t capacity : {0U, 1U}) {
		channel<std::unique_ptr<int>> ch(capacity);
		if (capacity == 1) {
			ch.send(std::make_unique<int>(0));
		}
		subject sender([&](subject &me) {
			auto value = std::make_unique<int>(1);
			me.about_to_block();
			expect_broken_pipe([&] { ch.send(std::move(value)); });
			EXPECT_TRUE(value);
		});
		sender.await_blocked();
		EXPECT_TRUE(ch.close());
		EXPECT_FALSE(ch.close());
		EXPECT_TRUE(ch.closed());
		collect(sender.lid());
		EXPECT_EQ(ch.receive().has_value(), capacity == 1) << "what is in it comes out first";
		EXPECT_FALSE(ch.receive());
		EXPECT_EQ(ch.try_receive().status(), channel_status::closed);
		EXPECT_EQ(ch.receive_for(1h).status(), channel_status::closed);
	}
	channel<int> ch(2);
	std::vector<std::unique_ptr<subject>> receivers;
	for (int i = 0; i < 5; i++) {
		receivers.push_back(std::make_unique<subject>([&](subject &me) {
			me.about_to_block();
			EXPECT_FALSE(ch.receive());
		}));
		receivers.back()->await_blocked();
	}
	ch.close();
	for (const auto &r : receivers) {
		collect(r->lid());
	}
}

TEST(Channel, WaitersAreServedFirstComeFirstServed) {
	channel<int> ch;
	std::array<int, 6> got{};
	std::vector<std::unique_ptr<subject>> waiters;
	for (std::size_t i = 0; i < got.size(); i++) {
		waiters.push_back(std::make_unique<subject>([&, i](subject &me) {
			me.about_to_block();
			got[i] = *ch.receive();
		}));
		waiters.back()->await_blocked();
	}
	for (int i = 0; i < 6; i++) {
		ch.send(i);
	}
	for (const auto &w : waiters) {
		collect(w->lid());
	}
	EXPECT_EQ(got, (std::array{0, 1, 2, 3, 4, 5}));

	waiters.clear();
	channel<int> two(2);
	two.send(0);
	two.send(1);
	for (int i = 2; i < 6; i++) {
		waiters.push_back(std::make_unique<subject>([&, i](subject &me) {
			me.about_to_block();
			two.send(i);
		}));
		waiters.back()->await_blocked();
	}
	for (int i = 0; i < 6; i++) {
		EXPECT_EQ(two.receive(), i);
		if (i < 4) {
			EXPECT_EQ(two.size(), 2U) << "the room goes to who has waited for it";
			EXPECT_FALSE(two.try_send(99)) << "and not to who comes by";
		}
	}
	for (const auto &w : waiters) {
		collect(w->lid());
	}
}

TEST(Channel, RangeForReceivesUntilItIsClosed) {
	channel<std::unique_ptr<int>> ch(2);
	const lwpid_t lid = spawn([&] {
		for (int i = 0; i < 100; i++) {
			ch.send(std::make_unique<int>(i));
		}
		ch.close();
	});
	int next = 0;
	for (auto &&v : ch) {
		EXPECT_EQ(*v, next++);
	}
	EXPECT_EQ(next, 100);
	collect(lid);
}

TEST(Channel, TimedFormsWaitNoLessAndTakeWhatComes) {
	channel<int> ch;
	const auto begin = std::chrono::steady_clock::now();
	EXPECT_EQ(ch.receive_for(20ms).status(), channel_status::timeout);
	EXPECT_GE(std::chrono::steady_clock::now() - begin, 20ms);
	EXPECT_EQ(ch.receive_until(begin).status(), channel_status::timeout);
	EXPECT_EQ(ch.receive_for(-1s).status(), channel_status::timeout);
	const lwpid_t lid = spawn([&] {
		EXPECT_TRUE(ch.send_for(7, std::chrono::hours::max()));
		EXPECT_TRUE(ch.send_until(8, std::chrono::system_clock::now() + 1h));
	});
	const auto got = ch.receive_for(1h);
	EXPECT_EQ(got, 7);
	EXPECT_EQ(got.status(), channel_status::success);
	EXPECT_EQ(ch.receive_until(std::chrono::system_clock::now() + 1h), 8);
	collect(lid);
	EXPECT_FALSE(ch.try_send(1)) << "a receiver that timed out hangs no more";
	EXPECT_FALSE(ch.try_receive());
}

TEST(Channel, AStopRequestEndsAWait) {
	channel<int> ch(1);
	std::stop_source source;
	EXPECT_TRUE(ch.send(1, source.get_token()));
	EXPECT_EQ(ch.receive(source.get_token()), 1);
	subject receiver([&](subject &me) {
		me.about_to_block();
		EXPECT_EQ(ch.receive(source.get_token()).status(), channel_status::stopped);
	});
	receiver.await_blocked();
	source.request_stop();
	collect(receiver.lid());
	EXPECT_TRUE(ch.try_send(2)) << "into the buffer";
	EXPECT_EQ(ch.receive(source.get_token()).status(), channel_status::stopped) << "requested before: goes first";
	EXPECT_EQ(ch.receive(std::stop_token()), 2) << "no state: never stopped";

	std::stop_source another;
	ch.send(3);
	subject sender([&](subject &me) {
		me.about_to_block();
		EXPECT_FALSE(ch.send(4, another.get_token()));
	});
	sender.await_blocked();
	another.request_stop();
	collect(sender.lid());
	EXPECT_EQ(ch.receive(), 3);
	EXPECT_FALSE(ch.try_receive());
}

TEST(Channel, AKernelThreadThatTheLibraryHasNotMetMayRequestTheStop) {
	channel<int> ch;
	std::stop_source source;
	subject receiver([&](subject &me) {
		me.about_to_block();
		EXPECT_EQ(ch.receive(source.get_token()).status(), channel_status::stopped);
	});
	receiver.await_blocked();
	std::thread([&] { source.request_stop(); }).join();
	collect(receiver.lid());
}

TEST(Channel, ASuspendedReceiverKeepsItsPlaceAndAWakeupDoesNotEndItsWait) {
	channel<int> ch;
	std::array<int, 2> got{};
	std::vector<std::unique_ptr<subject>> receivers;
	for (std::size_t i = 0; i < 2; i++) {
		receivers.push_back(std::make_unique<subject>([&, i](subject &me) {
			me.about_to_block();
			got[i] = *ch.receive();
		}));
		receivers.back()->await_blocked();
	}
	EXPECT_EQ(error_of(_lwp_wakeup(receivers[0]->lid())), 0);
	EXPECT_EQ(error_of(_lwp_suspend(receivers[0]->lid())), 0);
	EXPECT_TRUE(ch.try_send(1));
	EXPECT_TRUE(ch.try_send(2));
	collect(receivers[1]->lid());
	EXPECT_EQ(got, (std::array{0, 2}));
	EXPECT_EQ(error_of(_lwp_continue(receivers[0]->lid())), 0);
	collect(receivers[0]->lid());
	EXPECT_EQ(got, (std::array{1, 2}));
}

// The last value is out, so its receiver may destroy the channel, though the sender's call has not returned.
TEST(Channel, TheReceiverOfTheLastValueMayDestroyIt) {
	for (const std::size_t capacity : {0U, 1U}) {
		for (std::size_t n = rounds(5000); n != 0; n--) {
			auto ch = std::make_unique<channel<int>>(capacity);
			const lwpid_t lid = spawn([raw = ch.get()] { raw->send(1); });
			if (n % 2 == 0) {
				lwp_yield();
			}
			EXPECT_EQ(ch->receive(), 1);
			ch.reset();
			collect(lid);
		}
	}
}

TEST(Channel, IsUsableFromKernelThreadsOnBothEnds) {
	const int n = static_cast<int>(rounds(5000));
	channel<int> there;
	channel<int> back(3);
	foreign_thread echo([&] {
		for (const int v : there) {
			back.send(v);
		}
		back.close();
	});
	const lwpid_t lid = spawn([&] {
		for (int i = 0; i < n; i++) {
			there.send(i);
		}
		there.close();
	});
	foreign_thread last([&] {
		int next = 0;
		for (const int v : back) {
			EXPECT_EQ(v, next++);
		}
		EXPECT_EQ(next, n);
	});
	last.join();
	echo.join();
	collect(lid);
}

// Senders and receivers, LWPs and kernel threads, by every form, until somebody closes the channel in the middle of it.
TEST(Channel, StormLosesAndDoublesNothing) {
	const std::uint64_t base = seed();
	for (const std::size_t capacity : {0U, 1U, 7U}) {
		constexpr unsigned senders = 8, receivers = 8;
		const std::size_t each = rounds(4000);
		channel<std::unique_ptr<std::size_t>> ch(capacity);
		ledger book(senders * each);
		std::atomic<unsigned> senders_left{senders};
		std::atomic<std::size_t> begun{0};
		const auto send = [&](unsigned who) {
			dice d(base + who);
			bool open = true;
			for (std::size_t i = 0; i < each && open; i++) {
				const std::size_t id = who * each + i;
				auto value = std::make_unique<std::size_t>(id);
				begun++;
				std::stop_source source;
				bool sent = false;
				try {
					switch (d.below(5)) {
					case 0:
						sent = ch.try_send(std::move(value));
						break;
					case 1:
						sent = ch.send_for(std::move(value), std::chrono::microseconds(d.below(30)));
						break;
					case 2: {
						lwp::thread stopper([&] { source.request_stop(); });
						try {
							sent = ch.send(std::move(value), source.get_token());
						} catch (const std::system_error &) {
							open = false;
						}
						stopper.join();
						break;
					}
					default:
						ch.send(std::move(value));
						sent = true;
					}
				} catch (const std::system_error &) {
					open = false;
				}
				if (sent) {
					book.sent(id);
				}
				EXPECT_EQ(value == nullptr, sent) << "the value goes if and only if it was sent";
			}
			if (--senders_left == 0) {
				ch.close();
			}
		};
		const auto receive = [&](unsigned who) {
			dice d(base + 100 + who);
			for (;;) {
				std::stop_source source;
				lwp::received<std::unique_ptr<std::size_t>> got;
				switch (d.below(5)) {
				case 0:
					got = ch.try_receive();
					lwp_yield();
					break;
				case 1:
					got = ch.receive_for(std::chrono::microseconds(d.below(30)));
					break;
				case 2: {
					lwp::thread stopper([&] { source.request_stop(); });
					got = ch.receive(source.get_token());
					stopper.join();
					break;
				}
				default:
					if (auto v = ch.receive()) {
						book.received(**v);
						continue;
					}
					got = ch.try_receive();
				}
				EXPECT_EQ(got.has_value(), got.status() == channel_status::success);
				if (got) {
					book.received(**got);
				} else if (got.status() == channel_status::closed) {
					return;
				}
			}
		};
		std::vector<lwp::thread> lwps;
		std::list<foreign_thread> foreign;
		for (unsigned i = 0; i < senders; i++) {
			i % 4 == 3 ? void(foreign.emplace_back([&send, i] { send(i); })) : void(lwps.emplace_back(send, i));
		}
		for (unsigned i = 0; i < receivers; i++) {
			i % 4 == 3 ? void(foreign.emplace_back([&receive, i] { receive(i); })) : void(lwps.emplace_back(receive, i));
		}
		if (capacity == 7) {
			dice d(base);
			const std::size_t close_at = d.below(static_cast<unsigned>(senders * each));
			EXPECT_TRUE(wait_until([&] { return begun > close_at; }));
			ch.close();
		}
		for (auto &t : lwps) {
			t.join();
		}
		for (auto &t : foreign) {
			t.join();
		}
		EXPECT_EQ(ch.size(), 0U);
		book.check();
	}
}

// A value and a stop request make for the same wait: either the value comes, or it is still with its sender.
TEST(Channel, AValueAgainstAStopRequest) {
	const std::size_t n = rounds(3000);
	std::size_t stopped = 0;
	for (std::size_t k = 0; k < n; k++) {
		channel<int> ch;
		std::stop_source source;
		lwp::received<int> got;
		lwp::thread receiver([&] { got = ch.receive(source.get_token()); });
		const auto stop = [&, k] {
			for (std::size_t turns = k % 6; turns != 0; turns--) {
				sched_yield();
				if (k % 2 == 0) {
					lwp_yield();
				}
			}
			source.request_stop();
		};
		lwp::thread stopper;
		std::thread foreign;  // one that the library has never met
		k % 2 == 0 ? void(stopper = lwp::thread(stop)) : void(foreign = std::thread(stop));
		for (std::size_t turns = k % 4; turns != 0; turns--) {
			lwp_yield();
		}
		const bool sent = ch.send(1, source.get_token());
		receiver.join();
		k % 2 == 0 ? stopper.join() : foreign.join();
		EXPECT_EQ(sent, got.has_value());
		stopped += !sent;
	}
	std::printf("%zu of %zu stopped\n", stopped, n);
}

TEST(ChannelDeathTest, IsNotDestroyedWhileSomebodyWaitsInIt) {
	EXPECT_DEATH(
	    {
		    auto ch = std::make_unique<channel<int>>();
		    subject receiver([&](subject &me) {
			    me.about_to_block();
			    (void)ch->receive();
		    });
		    receiver.await_blocked();
		    ch.reset();
	    },
	    "destroyed while somebody waits");
}

TEST(Channel, ACapacityThatNoMemoryHoldsIsRefused) {
	const volatile long minus_one = -1;
	const auto none = static_cast<std::size_t>(minus_one);
	EXPECT_THROW(lwp::channel<int> c(none), std::bad_alloc);
	EXPECT_THROW(lwp::channel<char> c(none), std::bad_alloc);
	using line = std::array<char, 64>;
	EXPECT_THROW(lwp::channel<line> c(none / sizeof(line)), std::bad_alloc);
	EXPECT_THROW(lwp::channel<line> c(none / sizeof(line) + 2), std::bad_array_new_length);
}
