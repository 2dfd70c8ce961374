// SPDX-License-Identifier: BSD-2-Clause
//
// Grants, channels, select.
#include "explore/world.h"
#include "sync/channel.h"
#include "sync/grant.h"

using namespace lwp;
using namespace lwp::kern;
using namespace lwp::explore;

namespace {

constexpr nanotime soon = 1'000'000;

}  // namespace

// ---- grants --------------------------------------------------------------------------------------------------------------------

// The take against the deadline: one of them, and a taken one waits for the give.
SCENARIO(grant_against_timeout, 2) {
	kern::atomic<grant *> place{nullptr};
	int got = 0;
	int error = -1;
	bool through = false;
	lwpid_t a = start(1, [&] {
		grant g(me());
		place.store(&g);
		error = restart([&] { return grant_wait(&g, "test", time_in(soon)); });
		through = true;
		EXPECT(error == 0 ? got == 7 : error == ETIMEDOUT);
	});
	race();
	while (place.load() == nullptr) {
		cpu_relax();
	}
	if (!through && grant_take(place.load(), 1)) {
		got = 7;
		grant_give(place.load(), me()->l_cpu);
		join(a);
		EXPECT(error == 0);
		return;
	}
	join(a);
	EXPECT(error == ETIMEDOUT);
}

// Two takers: one gives.
SCENARIO(grant_two_takers, 3) {
	grant g(me());
	kern::atomic<int> takers{0};
	int gift = 0;
	auto take = [&](int by) {
		if (grant_take(&g, by)) {
			takers.fetch_add(1);
			gift = by;
			grant_give(&g, me()->l_cpu);
		}
	};
	lwpid_t a = start(1, [&] { take(1); });
	lwpid_t b = start(2, [&] { take(2); });
	race();
	EXPECT(restart([&] { return grant_wait(&g, "test"); }) == 0);
	EXPECT(g.g_by.load() == gift);
	join(a);
	join(b);
	EXPECT(takers.load() == 1);
}

// The give finds it on its way to sleep, kicked out of it, or asleep.
SCENARIO(grant_against_interrupt, 3) {
	kern::atomic<grant *> place{nullptr};
	lwpid_t a = start(1, [&] {
		grant g(me());
		place.store(&g);
		EXPECT(restart([&] { return grant_wait(&g, "test"); }) == 0);
	});
	lwpid_t b = start(2, [&] { (void)lwp_wakeup(me(), a); });
	race();
	while (place.load() == nullptr) {
		cpu_relax();
	}
	grant *g = place.load();
	EXPECT(grant_take(g, 1));
	grant_give(g, me()->l_cpu);
	join(a);
	join(b);
}

SCENARIO(grant_against_suspend, 3) {
	kern::atomic<grant *> place{nullptr};
	lwpid_t a = start(1, [&] {
		grant g(me());
		place.store(&g);
		EXPECT(restart([&] { return grant_wait(&g, "test"); }) == 0);
		// What was given to that one is not taken for another's.
		grant h(me());
		EXPECT(restart([&] { return grant_wait(&h, "test", time_in(soon)); }) == ETIMEDOUT);
	});
	lwpid_t b = start(2, [&] {
		while (place.load() == nullptr) {
			cpu_relax();
		}
		grant *g = place.load();
		EXPECT(grant_take(g, 1));
		grant_give(g, me()->l_cpu);
	});
	race();
	if (suspend(a) == 0) {
		cont(a);
	}
	join(a);
	join(b);
}

// ---- channels ------------------------------------------------------------------------------------------------------------------

namespace {

/// What the application does with a value takes a while: others go on meanwhile.
void move_value(void *to, void *from) noexcept {
	(void)now();
	*static_cast<int *>(to) = *static_cast<int *>(from);
}

constexpr channel_type int_type = {
    .size = sizeof(int),
    .word = 0,
    .put = [](void *slot, void *from) noexcept { move_value(slot, from); },
    .take = [](void *to, void *slot) noexcept { move_value(to, slot); },
    .hand = [](void *to, void *from) noexcept { move_value(to, from); },
    .drop = [](void *) noexcept {},
};

template <std::size_t Capacity>
struct chan {
	int ring[Capacity == 0 ? 1 : Capacity];
	kchannel c{int_type, ring, Capacity, nullptr};

	/// 0 | EPIPE | ETIMEDOUT
	int move(chan_end end, int *value, nanotime deadline = never) {
		lwp_t *l = me();
		if (const int error = channel_try_fast(&c, end, value, l->l_cpu); error != EAGAIN) {
			return error;
		}
		grant g(l, &c);
		chan_waiter w{};
		w.cw_grant = &g;
		w.cw_place = value;
		w.cw_by = 1;
		if (const int error = channel_try_or_hang(&c, end, &w, l->l_cpu); error != EINPROGRESS) {
			return error;
		}
		if (restart([&] { return grant_wait(&g, "test", deadline); }) == ETIMEDOUT) {
			channel_unhang(&c, end, &w, l->l_cpu);
			return ETIMEDOUT;
		}
		return w.cw_closed ? EPIPE : 0;
	}
	int send(int value, nanotime deadline = never) { return move(chan_end::send, &value, deadline); }
	int receive(int *value, nanotime deadline = never) { return move(chan_end::receive, value, deadline); }
	void close() { (void)channel_close(&c, me()->l_cpu); }
};

template <std::size_t Capacity>
void in_order() {
	chan<Capacity> c;
	lwpid_t a = start(1, [&] {
		for (int i = 1; i <= 3; i++) {
			EXPECT(c.send(i) == 0);
		}
	});
	race();
	for (int i = 1; i <= 3; i++) {
		int value = 0;
		EXPECT(c.receive(&value) == 0 && value == i);
	}
	join(a);
}

}  // namespace

// Try against hang-up; values in their order, none twice.
SCENARIO(channel_unbuffered_in_order, 2) { in_order<0>(); }
SCENARIO(channel_of_one_in_order, 2) { in_order<1>(); }
SCENARIO(channel_of_two_in_order, 2) { in_order<2>(); }

SCENARIO(channel_two_senders_two_receivers, 4) {
	chan<0> c;
	int got[2] = {};
	lwpid_t a = start(1, [&] { EXPECT(c.send(1) == 0); });
	lwpid_t b = start(2, [&] { EXPECT(c.send(2) == 0); });
	lwpid_t d = start(3, [&] { EXPECT(c.receive(&got[0]) == 0); });
	race();
	EXPECT(c.receive(&got[1]) == 0);
	join(a);
	join(b);
	join(d);
	EXPECT(got[0] + got[1] == 3 && got[0] != got[1]);
}

SCENARIO(channel_full_with_two_senders, 3) {
	chan<1> c;
	lwpid_t a = start(1, [&] { EXPECT(c.send(1) == 0); });
	lwpid_t b = start(2, [&] { EXPECT(c.send(2) == 0); });
	race();
	int first = 0;
	int second = 0;
	EXPECT(c.receive(&first) == 0);
	join(a);  // who waited for room has it now
	join(b);
	EXPECT(c.receive(&second) == 0);
	EXPECT(first + second == 3);
}

// A close tells everybody that waits; what was sent is received.
SCENARIO(channel_close_against_receive, 3) {
	chan<0> c;
	auto receive = [&] {
		int value;
		EXPECT(c.receive(&value) == EPIPE);
	};
	lwpid_t a = start(1, receive);
	lwpid_t b = start(2, receive);
	race();
	c.close();
	join(a);
	join(b);
}

// A try says "would wait" of a channel that was open and empty at some moment; this one is closed before it is emptied.
SCENARIO(channel_close_and_empty_against_try, 2) {
	chan<1> c;
	EXPECT(c.send(1) == 0);
	int error = -1;
	lwpid_t a = start(1, [&] {
		int value;
		error = channel_try_fast(&c.c, chan_end::receive, &value, me()->l_cpu);
	});
	race();
	c.close();
	int value;
	const int ours = c.receive(&value);
	join(a);
	EXPECT(ours == 0 ? error == EPIPE : ours == EPIPE && error == 0);
}

// The same without a ring: a sender that waits is told of the end.
SCENARIO(channel_close_with_sender_against_try, 3) {
	chan<0> c;
	int sent = -1;
	int error = -1;
	int value = 0;
	lwpid_t a = start(1, [&] { sent = c.send(7); });
	lwpid_t b = start(2, [&] {
		while (!c.c.ch_waited[1].load() && sent == -1) {
			cpu_relax();
		}
		error = channel_try_fast(&c.c, chan_end::receive, &value, me()->l_cpu);
	});
	race();
	while (!c.c.ch_waited[1].load() && sent == -1) {
		cpu_relax();
	}
	c.close();
	join(a);
	join(b);
	EXPECT(sent == 0 ? error == 0 && value == 7 : sent == EPIPE && error == EPIPE);
}

SCENARIO(channel_close_against_send, 3) {
	chan<1> c;
	int errors[2] = {-1, -1};
	lwpid_t a = start(1, [&] { errors[0] = c.send(1); });
	lwpid_t b = start(2, [&] { errors[1] = c.send(2); });
	race();
	c.close();
	join(a);
	join(b);
	int received = 0;
	int value;
	while (c.receive(&value) == 0) {
		received++;
	}
	int sent = 0;
	for (int e : errors) {
		EXPECT(e == 0 || e == EPIPE);
		sent += e == 0 ? 1 : 0;
	}
	EXPECT(sent == received);
}

// A value given as the receiver's deadline comes is received or still the sender's.
SCENARIO(channel_receive_against_timeout, 2) {
	chan<0> c;
	int got = 0;
	int error = -1;
	lwpid_t a = start(1, [&] { error = c.receive(&got, time_in(soon)); });
	race();
	const int sent = c.send(5, time_in(2 * soon));
	join(a);
	EXPECT((error == 0 && sent == 0 && got == 5) || (error == ETIMEDOUT && sent == ETIMEDOUT));
}

SCENARIO(channel_both_time_out, 3) {
	chan<0> c;
	int errors[3] = {-1, -1, -1};
	int got = 0;
	lwpid_t a = start(1, [&] { errors[0] = c.receive(&got, time_in(soon)); });
	lwpid_t b = start(2, [&] { errors[1] = c.send(1, time_in(soon)); });
	race();
	errors[2] = c.send(1, time_in(soon));
	join(a);
	join(b);
	const int sent = (errors[1] == 0 ? 1 : 0) + (errors[2] == 0 ? 1 : 0);
	EXPECT(sent == (errors[0] == 0 ? 1 : 0));
}

SCENARIO(channel_suspended_receiver, 3) {
	chan<0> c;
	int got = 0;
	lwpid_t a = start(1, [&] { EXPECT(c.receive(&got) == 0); });
	lwpid_t b = start(2, [&] { EXPECT(c.send(4) == 0); });
	race();
	if (suspend(a) == 0) {
		cont(a);
	}
	join(a);
	join(b);
	EXPECT(got == 4);
}

// ---- words, the usual way first ---------------------------------------------------------------------------------------------------

namespace {

using int_place = lwp::detail::word_place<int>;
static_assert(lwp::detail::word_of<int> == sizeof(int));

/// A channel of ints as lwp::channel<int> uses it; its lock is biased to the vCPU of who makes it.
struct word_chan {
	int ring[2];
	kchannel c{lwp::detail::channel_type_of<int>, ring, 2, nullptr};
	unsigned usual = 0;

	word_chan() { c.ch_lock.bias(me()->l_cpu); }
	/// 0 | EPIPE
	int move(chan_end end, void *place) {
		lwp_t *l = me();
		if (channel_move_own(&c, end, place, l->l_cpu)) {
			usual++;
			return 0;
		}
		const int error = channel_try_or_keep(&c, end, place, l->l_cpu);
		if (error != EAGAIN) {
			return error;
		}
		grant g(l, &c, grant::takers::one_lock);
		chan_waiter w{};
		w.cw_grant = &g;
		w.cw_place = place;
		w.cw_by = 1;
		channel_hang_and_unlock(&c, end, &w, l->l_cpu);
		EXPECT(restart([&] { return grant_wait(&g, grant_sleep("test")); }) == 0);
		return w.cw_closed ? EPIPE : 0;
	}
	int send(int value) { return move(chan_end::send, &value); }
	void receive(int expected) {
		int_place place;
		EXPECT(move(chan_end::receive, &place) == 0 && place.full && place.get() == expected);
	}
	void close() { (void)channel_close(&c, me()->l_cpu); }
};

constexpr int words = 4;  // more than there is room for

void words_received(int by) {
	word_chan c;
	lwpid_t a = start(by, [&] {
		for (int i = 1; i <= words; i++) {
			EXPECT(c.send(i) == 0);
		}
	});
	race();
	for (int i = 1; i <= words; i++) {
		c.receive(i);
	}
	join(a);
	EXPECT(c.c.ch_count.load() == 0);
}

void words_sent(int to) {
	word_chan c;
	lwpid_t a = start(to, [&] {
		for (int i = 1; i <= words; i++) {
			c.receive(i);
		}
		int_place nothing;
		EXPECT(c.move(chan_end::receive, &nothing) == EPIPE && !nothing.full);
	});
	race();
	for (int i = 1; i <= words; i++) {
		EXPECT(c.send(i) == 0);
	}
	c.close();
	EXPECT(c.send(0) == EPIPE);
	join(a);
}

}  // namespace

// From another vCPU, which takes the bias away; and on the same one, where who waits finds the usual way open.
SCENARIO(channel_words_received_the_usual_way, 2) { words_received(1); }
SCENARIO(channel_words_received_on_one_vcpu, 2) { words_received(0); }
SCENARIO(channel_words_sent_the_usual_way, 2) { words_sent(1); }
SCENARIO(channel_words_sent_on_one_vcpu, 2) { words_sent(0); }

// Closed with values in it: they are received, no more are sent.
SCENARIO(channel_words_left_at_close, 2) {
	word_chan c;
	lwpid_t a = start(1, [&] {
		c.receive(1);
		c.receive(2);
	});
	race();
	EXPECT(c.send(1) == 0);
	EXPECT(c.send(2) == 0);
	c.close();
	EXPECT(c.send(3) == EPIPE);
	join(a);
	EXPECT(c.c.ch_count.load() == 0);
}

// ---- select --------------------------------------------------------------------------------------------------------------------

namespace {

struct choice {
	select_case cases[2] = {};
	int again = 0;  // so often it found something as it hung, and began anew

	choice(kchannel *a, chan_end ae, int *av, kchannel *b, chan_end be, int *bv) {
		cases[0].sc_channel = a;
		cases[0].sc_end = ae;
		cases[0].sc_waiter.cw_place = av;
		cases[1].sc_channel = b;
		cases[1].sc_end = be;
		cases[1].sc_waiter.cw_place = bv;
	}
	/// Which case went on, -1 for the deadline; EPIPE in *error.
	int run(int *error, nanotime deadline = never) {
		for (;;) {
			lwp_t *l = me();
			unsigned taken = 0;
			*error = select_try(cases, 2, &taken, l->l_cpu);
			if (*error != EAGAIN) {
				return static_cast<int>(taken);
			}
			grant g(l);
			const int hung = select_hang(cases, 2, &g, l->l_cpu);
			if (hung == EAGAIN && grant_take(&g, grant::timed_out)) {
				select_unhang(cases, 2, grant::timed_out, l->l_cpu);
				again++;
				continue;
			}
			if (restart([&] { return grant_wait(&g, "test", hung == EAGAIN ? never : deadline); }) == ETIMEDOUT) {
				select_unhang(cases, 2, grant::timed_out, me()->l_cpu);
				return -1;
			}
			const int by = g.g_by.load();
			select_unhang(cases, 2, by, me()->l_cpu);
			*error = cases[by - 1].sc_waiter.cw_closed ? EPIPE : 0;
			return by - 1;
		}
	}
};

}  // namespace

SCENARIO(select_one_sender, 2) {
	chan<0> c;
	chan<0> d;
	int v = 0;
	int w = 0;
	lwpid_t a = start(1, [&] {
		choice s(&c.c, chan_end::receive, &v, &d.c, chan_end::receive, &w);
		int error;
		EXPECT(s.run(&error) == 1 && error == 0 && w == 3);
	});
	race();
	EXPECT(d.send(3) == 0);
	join(a);
}

// Two senders claim one select: one sends, the other waits for the next receiver.
SCENARIO(select_two_senders, 3) {
	chan<0> c;
	chan<0> d;
	lwpid_t a = start(1, [&] { EXPECT(c.send(1) == 0); });
	lwpid_t b = start(2, [&] { EXPECT(d.send(2) == 0); });
	race();
	int got = 0;
	for (int i = 0; i < 2; i++) {
		int v = 0;
		int w = 0;
		choice s(&c.c, chan_end::receive, &v, &d.c, chan_end::receive, &w);
		int error;
		EXPECT(s.run(&error) >= 0 && error == 0);
		got += v + w;
	}
	EXPECT(got == 3);
	join(a);
	join(b);
}

// Two selects that meet on the same two channels, one sends and one receives: they find each other.
SCENARIO(select_against_select, 2) {
	chan<0> c;
	chan<0> d;
	int v = 0;
	int w = 0;
	lwpid_t a = start(1, [&] {
		int x = 1;
		int y = 2;
		choice s(&c.c, chan_end::send, &x, &d.c, chan_end::send, &y);
		int error;
		EXPECT(s.run(&error) >= 0 && error == 0);
	});
	race();
	choice s(&d.c, chan_end::receive, &w, &c.c, chan_end::receive, &v);
	int error;
	EXPECT(s.run(&error) >= 0 && error == 0);
	EXPECT(v + w == 1 || v + w == 2);
	join(a);
}

// Crossed: each sends on the one and receives on the other.  Both go through the channels in the same order, so the first one hangs in both: not
// each of them finds the other and begins anew, which they might go on doing for ever.
SCENARIO(select_crossed, 2) {
	chan<0> c;
	chan<0> d;
	int again[2];
	auto body = [](chan<0> &out, chan<0> &in, int *times) {
		int x = 9;
		int y = 0;
		choice s(&out.c, chan_end::send, &x, &in.c, chan_end::receive, &y);
		int error;
		EXPECT(s.run(&error) >= 0 && error == 0);
		*times = s.again;
	};
	lwpid_t a = start(1, [&] { body(c, d, &again[1]); });
	race();
	body(d, c, &again[0]);
	join(a);
	EXPECT(again[0] + again[1] <= 1);
}

SCENARIO(select_against_close, 3) {
	chan<0> c;
	chan<0> d;
	int sent = -1;
	int v = 0;
	int w = 0;
	lwpid_t a = start(1, [&] { sent = d.send(2, time_in(soon)); });
	lwpid_t b = start(2, [&] { c.close(); });
	race();
	choice s(&c.c, chan_end::receive, &v, &d.c, chan_end::receive, &w);
	int error = 0;
	const int which = s.run(&error);
	EXPECT(which == 0 ? error == EPIPE : error == 0 && w == 2);
	join(a);
	join(b);
	EXPECT(which == 1 ? sent == 0 : sent == ETIMEDOUT);
}

SCENARIO(select_against_timeout, 2) {
	chan<0> c;
	chan<0> d;
	int which = -2;
	int v = 0;
	int w = 0;
	lwpid_t a = start(1, [&] {
		choice s(&c.c, chan_end::receive, &v, &d.c, chan_end::receive, &w);
		int error = 0;
		which = s.run(&error, time_in(soon));
	});
	race();
	const int sent = c.send(6, time_in(3 * soon));
	join(a);
	EXPECT((which == 0 && sent == 0 && v == 6) || (which == -1 && sent == ETIMEDOUT));
}

// The channel that gave the value is freed at once by who got it: the select does not touch it any more.
SCENARIO(select_taken_channel_is_not_touched, 2) {
	chan<0> c;
	alignas(chan<0>) static std::byte memory[sizeof(chan<0>)];
	auto *d = ::new (memory) chan<0>;
	lwpid_t a = start(1, [&] {
		EXPECT(d->send(2) == 0);
		std::memset(memory, 0xa5, sizeof(memory));  // its one value is received
	});
	race();
	int v = 0;
	int w = 0;
	choice s(&c.c, chan_end::receive, &v, &d->c, chan_end::receive, &w);
	int error = 0;
	EXPECT(s.run(&error) == 1 && error == 0);
	join(a);
	for (std::byte b : memory) {
		EXPECT(b == std::byte{0xa5});
	}
}
