// SPDX-License-Identifier: BSD-2-Clause
//
// ctx/context: what a switch keeps, what it takes along, and how a context begins.  Built once for each form of the switch.
#include "ctx/context.h"
#include "ctx/stack.h"

#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <cfenv>
#include <cstdint>
#include <cstring>
#include <exception>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <unwind.h>
#include <vector>

namespace {

using namespace lwp::kern;

constexpr std::size_t room = 256 * 1024;  // sanitizers and googletest's messages want more than the default

// errno's address must not be kept across a switch, and within one function the compiler keeps it.
LWP_NOINLINE int errno_now() {
	asm volatile("");
	return errno;
}
LWP_NOINLINE void errno_set(int value) {
	asm volatile("");
	errno = value;
}

/// A kernel thread: its own context and image.
struct kthread {
	context self;
	kthread_image image;
	kthread() {
		image.init();
		context_adopt(self);
	}
	~kthread() { context_destroy(self); }
};

/// A context that runs `body`, and the kernel thread that runs it now: set by whoever resumes it.
struct fiber {
	explicit fiber(std::size_t top_offset = 0, std::size_t size = room) {
		if (stack_alloc(where, size) != 0) {
			throw std::bad_alloc();
		}
		offset = top_offset;
	}
	virtual ~fiber() {
		context_destroy(self);
		stack_free(where);
	}
	fiber(const fiber &) = delete;
	fiber &operator=(const fiber &) = delete;

	void make() {
		done = false;
		context_make(self, where, offset, enter, this);
	}
	LWP_NOINLINE void resume(kthread &by) {
		on = &by;
		context_switch(by.self, self, by.image);
	}
	LWP_NOINLINE void yield() { context_switch(self, on->self, on->image); }

	virtual void body() = 0;

	static void enter(void *arg) {
		fiber *f = static_cast<fiber *>(arg);
		f->body();
		f->done = true;
		f->leave();
	}
	[[noreturn]] LWP_NOINLINE void leave() {
		context_switch_final(self, on->self, on->image);
		abort();
	}

	context self;
	stack where;
	std::size_t offset;
	kthread *on = nullptr;
	bool done = false;
};

template <class F>
struct fiber_of final : fiber {
	explicit fiber_of(F f, std::size_t top_offset = 0) : fiber(top_offset), f_(std::move(f)) {}
	void body() override { f_(*this); }
	F f_;
};

TEST(Context, PingPong) {
	kthread me;
	std::vector<int> order;
	fiber_of f([&](fiber &self) {
		for (int i = 0; i < 3; i++) {
			order.push_back(10 + i);
			self.yield();
		}
	});
	f.make();
	EXPECT_TRUE(order.empty()) << "making a context must not run it";
	for (int i = 0; i < 3; i++) {
		order.push_back(i);
		f.resume(me);
	}
	EXPECT_FALSE(f.done);
	f.resume(me);
	EXPECT_TRUE(f.done);
	EXPECT_EQ(order, (std::vector<int>{0, 10, 1, 11, 2, 12}));
}

// One context switches straight to the next; each must be stored where its own context says, not in that of the first resumer.
TEST(Context, RingOfManyComesBackInOrder) {
	constexpr std::size_t count = LWP_TSAN ? 50 : 1000;
	constexpr int rounds = 20;
	struct ring {
		kthread me;
		std::vector<std::unique_ptr<fiber>> members;
		std::vector<std::size_t> order;
	} r;
	for (std::size_t i = 0; i < count; i++) {
		auto body = [&r, i](fiber &self) {
			for (;;) {
				r.order.push_back(i);
				context &next = i + 1 == count ? r.me.self : r.members[i + 1]->self;
				context_switch(self.self, next, r.me.image);
			}
		};
		r.members.push_back(std::make_unique<fiber_of<decltype(body)>>(body));
		r.members.back()->make();
	}
	for (int k = 0; k < rounds; k++) {
		r.members[0]->resume(r.me);
		ASSERT_EQ(r.order.size(), count);
		for (std::size_t i = 0; i < count; i++) {
			ASSERT_EQ(r.order[i], i);
		}
		r.order.clear();
	}
}

TEST(Context, ErrnoBelongsToTheContext) {
	kthread me;
	fiber_of f([](fiber &self) {
		EXPECT_EQ(errno_now(), 0) << "a new context starts with none";
		errno_set(EBADF);
		self.yield();
		EXPECT_EQ(errno_now(), EBADF);
		errno_set(EPIPE);
	});
	f.make();
	errno_set(ERANGE);
	f.resume(me);
	EXPECT_EQ(errno_now(), ERANGE);
	errno_set(EDOM);
	f.resume(me);
	EXPECT_EQ(errno_now(), EDOM);
	errno_set(0);
}

/// Yields inside a catch block, inside another one, and while a destructor runs during unwinding.
struct exceptions {
	std::string name;
	std::vector<std::string> seen;

	struct yields_when_unwound {
		fiber &self;
		int *uncaught;
		~yields_when_unwound() {
			self.yield();
			*uncaught = std::uncaught_exceptions();
		}
	};

	static std::string current() {
		std::exception_ptr p = std::current_exception();
		if (!p) {
			return "none";
		}
		try {
			std::rethrow_exception(p);
		} catch (const std::exception &e) {
			return e.what();
		}
	}

	void operator()(fiber &self) {
		EXPECT_EQ(std::uncaught_exceptions(), 0);
		EXPECT_EQ(current(), "none");
		int uncaught = -1;
		try {
			yields_when_unwound y{self, &uncaught};
			throw std::runtime_error(name + " outer");
		} catch (const std::exception &e) {
			seen.push_back(e.what());
			self.yield();
			seen.push_back(current());
			try {
				throw std::logic_error(name + " inner");
			} catch (const std::exception &inner) {
				self.yield();
				seen.push_back(inner.what());
				seen.push_back(current());
			}
			self.yield();
			try {
				throw;
			} catch (const std::exception &again) {
				seen.push_back(again.what());
			}
		}
		EXPECT_EQ(uncaught, 1);
		EXPECT_EQ(current(), "none");
	}

	void expect_all_seen() const {
		std::string outer = name + " outer";
		std::string inner = name + " inner";
		EXPECT_EQ(seen, (std::vector<std::string>{outer, outer, inner, inner, outer}));
	}
};

TEST(Context, ExceptionsBelongToTheContext) {
	kthread me;
	fiber_of a(exceptions{"a", {}});
	fiber_of b(exceptions{"b", {}});
	a.make();
	b.make();
	try {
		throw std::runtime_error("mine");
	} catch (...) {
		// a and b end their exceptions in another order than they began them.
		while (!a.done || !b.done) {
			if (!a.done) {
				a.resume(me);
			}
			if (!b.done) {
				b.resume(me);
			}
			EXPECT_EQ(exceptions::current(), "mine");
			EXPECT_EQ(std::uncaught_exceptions(), 0);
		}
	}
	EXPECT_EQ(exceptions::current(), "none");
	a.f_.expect_all_seen();
	b.f_.expect_all_seen();
}

// Each step of `a` runs on a new kernel thread; the step before ended on one that is gone.
TEST(Context, ErrnoAndExceptionsMigrate) {
	fiber_of a(exceptions{"a", {}});
	fiber_of e([](fiber &self) {
		for (int i = 1; i < 6; i++) {
			errno_set(i);
			self.yield();
			EXPECT_EQ(errno_now(), i);
		}
	});
	a.make();
	e.make();
	while (!a.done || !e.done) {
		std::thread([&] {
			kthread me;
			errno_set(1000);
			if (!a.done) {
				a.resume(me);
			}
			if (!e.done) {
				e.resume(me);
			}
			EXPECT_EQ(errno_now(), 1000);
			EXPECT_EQ(exceptions::current(), "none");
			EXPECT_EQ(std::uncaught_exceptions(), 0);
		}).join();
	}
	a.f_.expect_all_seen();
}

TEST(Context, PayloadStaysAndTheStackBeginsBelowIt) {
	kthread me;
	for (std::size_t offset : {0UL, 1UL, 8UL, 24UL, 64UL, 100UL, 4096UL, 10000UL}) {
		std::uintptr_t frame = 0;
		auto body = [&](fiber &self) {
			frame = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
			self.yield();
		};
		fiber_of f(body, offset);
		std::byte *payload = stack_top(f.where) - offset;
		std::memset(payload, 0x5a, offset);
		f.make();
		f.resume(me);
		f.resume(me);
		EXPECT_LT(frame, reinterpret_cast<std::uintptr_t>(payload));
		EXPECT_GT(frame, reinterpret_cast<std::uintptr_t>(payload) - 4096);
		for (std::size_t i = 0; i < offset; i++) {
			ASSERT_EQ(payload[i], std::byte{0x5a}) << "offset " << offset << " byte " << i;
		}
	}
}

struct aligned_probe {
	kthread me;
	context self;
	std::uintptr_t frame = 1;
};

LWP_NOINLINE void aligned_entry(void *arg) {
	aligned_probe *p = static_cast<aligned_probe *>(arg);
	p->frame = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
	context_switch_final(p->self, p->me.self, p->me.image);
}

TEST(Context, TheEntryFunctionFindsTheStackAligned) {
	aligned_probe p;
	stack s;
	ASSERT_EQ(stack_alloc(s, room), 0);
	for (std::size_t offset = 0; offset < 130; offset++) {
		p.frame = 1;
		context_make(p.self, s, offset, aligned_entry, &p);
		context_switch(p.me.self, p.self, p.me.image);
		EXPECT_EQ(p.frame % 16, 0U) << "top_offset " << offset;
	}
	context_destroy(p.self);
	stack_free(s);
}

TEST(Context, FloatingPointControlBelongsToTheContext) {
	kthread me;
	ASSERT_EQ(std::fegetround(), FE_TONEAREST);
	fiber_of f([](fiber &self) {
		std::fesetround(FE_UPWARD);
		self.yield();
		EXPECT_EQ(std::fegetround(), FE_UPWARD);
	});
	f.make();
	f.resume(me);
	EXPECT_EQ(std::fegetround(), FE_TONEAREST);
	std::fesetround(FE_DOWNWARD);
	f.resume(me);
	EXPECT_EQ(std::fegetround(), FE_DOWNWARD);
	std::fesetround(FE_TONEAREST);
}

/// More live values than registers of either kind, over a switch that is inlined, in a function that calls nothing else (so that they may
/// lie below the stack pointer).
LWP_NOINLINE bool keeps_everything(fiber &self, kthread &me, std::uint64_t seed) {
	std::uint64_t i0 = seed * 3, i1 = seed * 5, i2 = seed * 7, i3 = seed * 11, i4 = seed * 13, i5 = seed * 17, i6 = seed * 19,
	              i7 = seed * 23;
	std::uint64_t i8 = seed ^ 1, i9 = seed ^ 2, ia = seed ^ 3, ib = seed ^ 4, ic = seed ^ 5, id = seed ^ 6, ie = seed ^ 7, jf = seed ^ 8;
	double d = static_cast<double>(seed);
	double d0 = d + 1, d1 = d + 2, d2 = d + 3, d3 = d + 4, d4 = d + 5, d5 = d + 6, d6 = d + 7, d7 = d + 8, d8 = d + 9, d9 = d + 10;
	double da = d * 2, db = d * 3, dc = d * 4, dd = d * 5, de = d * 6, df = d * 7, e0 = d * 8, e1 = d * 9;
	long double x = static_cast<long double>(seed) / 7;
	std::uint64_t array[12];
	for (std::size_t i = 0; i < 12; i++) {
		array[i] = seed + i;
	}
	// Opaque: what is compared after the switch must have lived through it.
#define LWP_HIDE_I(v) asm volatile("" : "+r"(v))
#if defined(__x86_64__)
#define LWP_HIDE_D(v) asm volatile("" : "+x"(v))
#else
#define LWP_HIDE_D(v) asm volatile("" : "+w"(v))
#endif
	LWP_HIDE_I(i0);
	LWP_HIDE_I(i1);
	LWP_HIDE_I(i2);
	LWP_HIDE_I(i3);
	LWP_HIDE_I(i4);
	LWP_HIDE_I(i5);
	LWP_HIDE_I(i6);
	LWP_HIDE_I(i7);
	LWP_HIDE_I(i8);
	LWP_HIDE_I(i9);
	LWP_HIDE_I(ia);
	LWP_HIDE_I(ib);
	LWP_HIDE_I(ic);
	LWP_HIDE_I(id);
	LWP_HIDE_I(ie);
	LWP_HIDE_I(jf);
	LWP_HIDE_D(d0);
	LWP_HIDE_D(d1);
	LWP_HIDE_D(d2);
	LWP_HIDE_D(d3);
	LWP_HIDE_D(d4);
	LWP_HIDE_D(d5);
	LWP_HIDE_D(d6);
	LWP_HIDE_D(d7);
	LWP_HIDE_D(d8);
	LWP_HIDE_D(d9);
	LWP_HIDE_D(da);
	LWP_HIDE_D(db);
	LWP_HIDE_D(dc);
	LWP_HIDE_D(dd);
	LWP_HIDE_D(de);
	LWP_HIDE_D(df);
	LWP_HIDE_D(e0);
	LWP_HIDE_D(e1);
	asm volatile("" : : "r"(array) : "memory");
	context_switch(self.self, me.self, me.image);
	asm volatile("" : : "r"(array) : "memory");
	bool ok = i0 == seed * 3 && i1 == seed * 5 && i2 == seed * 7 && i3 == seed * 11 && i4 == seed * 13 && i5 == seed * 17 &&
	    i6 == seed * 19 && i7 == seed * 23 && i8 == (seed ^ 1) && i9 == (seed ^ 2) && ia == (seed ^ 3) && ib == (seed ^ 4) &&
	    ic == (seed ^ 5) && id == (seed ^ 6) && ie == (seed ^ 7) && jf == (seed ^ 8);
	d = static_cast<double>(seed);
	ok = ok && d0 == d + 1 && d1 == d + 2 && d2 == d + 3 && d3 == d + 4 && d4 == d + 5 && d5 == d + 6 && d6 == d + 7 && d7 == d + 8;
	ok = ok && d8 == d + 9 && d9 == d + 10 && da == d * 2 && db == d * 3 && dc == d * 4 && dd == d * 5 && de == d * 6 && df == d * 7;
	ok = ok && e0 == d * 8 && e1 == d * 9 && x == static_cast<long double>(seed) / 7;
	for (std::size_t i = 0; i < 12; i++) {
		ok = ok && array[i] == seed + i;
	}
	return ok;
}

TEST(Context, LiveValuesSurviveASwitch) {
	kthread me;
	auto body = [&](fiber &self) {
		for (std::uint64_t i = 1; i <= 100; i++) {
			EXPECT_TRUE(keeps_everything(self, me, i + reinterpret_cast<std::uintptr_t>(&self) % 1009));
		}
	};
	fiber_of a(body);
	fiber_of b(body);
	a.make();
	b.make();
	while (!a.done) {
		a.resume(me);
		b.resume(me);
	}
	EXPECT_TRUE(b.done);
}

struct frames {
	const stack *where;
	int count = 0;
	bool inside = true;
	bool known = true;  // every frame belongs to a function with unwind information; the end of the stack may count as one at 0
	int end = 0;
};

_Unwind_Reason_Code count_frame(struct _Unwind_Context *frame, void *arg) {
	frames *f = static_cast<frames *>(arg);
	std::uintptr_t cfa = _Unwind_GetCFA(frame);
	std::uintptr_t base = reinterpret_cast<std::uintptr_t>(f->where->s_base);
	f->inside = f->inside && cfa >= base && cfa <= base + f->where->s_size;
	_Unwind_Ptr ip = _Unwind_GetIP(frame);
	f->known = f->known && (ip == 0 || _Unwind_FindEnclosingFunction(reinterpret_cast<void *>(ip)) != nullptr);
	f->count++;
	return f->count < 100 ? _URC_NO_REASON : _URC_NORMAL_STOP;
}

LWP_NOINLINE void walk(frames &f, int depth) {
	if (depth > 0) {
		walk(f, depth - 1);
		asm volatile("");
		return;
	}
	f.end = _Unwind_Backtrace(count_frame, &f);
}

TEST(Context, UnwindersStopAtTheEntry) {
	kthread me;
	frames first;
	frames later;
	fiber_of f([&](fiber &self) {
		first.where = &self.where;
		walk(first, 5);
		self.yield();
		later.where = &self.where;
		walk(later, 5);
	});
	f.make();
	f.resume(me);
	f.resume(me);
	for (const frames *w : {&first, &later}) {
		EXPECT_EQ(w->end, _URC_END_OF_STACK);
		EXPECT_TRUE(w->inside);
		EXPECT_TRUE(w->known) << "nothing beyond the entry frame: that would be a guess";
		EXPECT_GT(w->count, 6);
		EXPECT_LT(w->count, 20);
	}
}

void escapes() {
	kthread me;
	fiber_of f([](fiber &) { throw std::runtime_error("nobody catches me"); });
	f.make();
	try {
		f.resume(me);
	} catch (...) {
		std::_Exit(0);  // would be wrong: an exception must not cross over to another context
	}
}

TEST(ContextDeathTest, AnExceptionThatEscapesTerminates) {
	testing::FLAGS_gtest_death_test_style = "threadsafe";
	EXPECT_EXIT(escapes(), testing::KilledBySignal(SIGABRT), "");
}

// The dead LWP's last switch is final; its stack, with whatever the sanitizers remember of it, is then used from the top again.
TEST(Context, ADeadContextIsMadeAnew) {
	kthread me;
	int runs = 0;
	fiber_of f([&](fiber &self) {
		std::array<char, 2000> text;
		text.fill(static_cast<char>('a' + runs % 26));
		asm volatile("" : : "r"(text.data()) : "memory");
		EXPECT_EQ(errno_now(), 0);
		errno_set(EINTR);
		runs++;
		if (runs % 2 == 0) {
			self.yield();
		}
		EXPECT_EQ(text[1999], text[0]);
	});
	for (int i = 1; i <= 100; i++) {
		f.make();
		f.resume(me);
		EXPECT_EQ(runs, i);
		if (i % 2 == 0) {
			f.resume(me);
		}
		EXPECT_TRUE(f.done);
	}
}

TEST(Context, ASwitchedOutContextMayBeDropped) {
	kthread me;
	for (int i = 0; i < 10; i++) {
		fiber_of f([](fiber &self) { self.yield(); });
		f.make();
		f.resume(me);
		EXPECT_FALSE(f.done);
	}
}

/// Of address space.
std::size_t pages_mapped() {
	std::size_t pages = 0;
	std::ifstream("/proc/self/statm") >> pages;
	return pages;
}

// Where AddressSanitizer looks for use after return, each context with a frame has a mapping for locals: it goes with the context, whether that ended or not.
TEST(Context, ADroppedContextKeepsNothing) {
	kthread me;
	const auto one = [&me](bool ends) {
		fiber_of f([](fiber &self) {
			std::array<char, 200> text;
			text.fill('x');
			asm volatile("" : : "r"(text.data()) : "memory");
			self.yield();
			EXPECT_EQ(text[199], 'x');
		});
		f.make();
		f.resume(me);
		if (ends) {
			f.resume(me);
		}
		EXPECT_EQ(f.done, ends);
	};
	one(true);
	one(false);
	const std::size_t before = pages_mapped();
	for (int i = 0; i < 400; i++) {
		one(i % 2 == 0);
	}
	EXPECT_LT(pages_mapped(), before + 10'000);  // two hundred fake stacks are 25,000
}

TEST(Context, RunsOnForeignMemory) {
	kthread me;
	std::vector<std::byte> memory(room);
	struct state {
		kthread *me;
		context self;
		int runs;
	} st{&me, {}, 0};
	stack s;
	stack_foreign(s, memory.data() + 3, memory.size() - 5);
	auto entry = [](void *arg) {
		state *p = static_cast<state *>(arg);
		p->runs++;
		context_switch_final(p->self, p->me->self, p->me->image);
	};
	context_make(st.self, s, 0, entry, &st);
	context_switch(me.self, st.self, me.image);
	EXPECT_EQ(st.runs, 1);
	context_destroy(st.self);
	stack_free(s);
}

// Two kernel threads hand one context to and fro; the caller's flag is all the order between them, as the LWP's lock is in the scheduler.
TEST(Context, TwoKernelThreadsTakeTurns) {
	constexpr int turns = LWP_TSAN ? 2000 : 20000;
	std::atomic<int> turn{0};
	std::vector<int> plain;
	fiber_of f([&](fiber &self) {
		for (int i = 0; i < turns; i++) {
			plain.push_back(i);
			self.yield();
		}
	});
	f.make();
	auto run = [&](int mine) {
		kthread me;
		for (;;) {
			int now = turn.load(std::memory_order_acquire);
			if (now >= turns) {
				return;
			}
			if (now % 2 != mine) {
				std::this_thread::yield();
				continue;
			}
			f.resume(me);
			turn.store(now + 1, std::memory_order_release);
		}
	};
	std::thread other(run, 1);
	run(0);
	other.join();
	ASSERT_EQ(plain.size(), static_cast<std::size_t>(turns));
	EXPECT_EQ(plain.back(), turns - 1);
}

}  // namespace
