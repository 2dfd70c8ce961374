// SPDX-License-Identifier: BSD-2-Clause
#include "explore/engine.h"

#include "base/clock.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <sys/mman.h>

namespace lwp::explore {

bool delays;
kern::vcpu_t *current_vcpu;

namespace {

constexpr std::size_t stack_bytes = 256 * 1024;
constexpr unsigned points_fair = 20'000;   // from here on everybody has a turn: what does not end now is a livelock
constexpr unsigned points_most = 120'000;  // then it is one
constexpr unsigned leaps_most = 60;        // of the clock while somebody could run; more only when nobody can
constexpr unsigned leaps_idle_most = 4'000;
constexpr unsigned fair_turn = 50;
constexpr unsigned unarmed_most = 100'000;
constexpr unsigned buffer_most = 6;
constexpr std::uint8_t seen_most = 4;  // how often a loop went round is nothing new
constexpr std::uint64_t time_begins = 1'000'000'000;
constexpr std::uint64_t time_of_a_look = 50;

enum class state : std::uint8_t { runs, waits, at_gate, done };

struct delayed {
	void *address;
	std::uint64_t value;
	unsigned size;
};

struct kthread {
	kern::context ctx;
	kern::stack stack;
	state st = state::done;
	const void *word = nullptr;
	std::uint64_t deadline = UINT64_MAX;
	kern::vcpu_t *vcpu = nullptr;
	delayed buffer[buffer_most];
	unsigned buffered = 0;
	alignas(16) unsigned char storage[kthread_bytes];
};

class dice {
public:
	explicit dice(std::uint64_t seed) : state_(seed) {}
	std::uint64_t next() {
		std::uint64_t z = (state_ += 0x9e3779b97f4a7c15U);  // splitmix64
		z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
		z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
		return z ^ (z >> 31);
	}
	unsigned below(unsigned n) { return static_cast<unsigned>(((next() >> 32) * n) >> 32); }

private:
	std::uint64_t state_;
};

/// All that the explorer knows; in memory of its own, so that putting back the program's memory leaves it alone.
struct engine {
	kern::context driver;
	kern::kthread_image image;
	kthread threads[kthreads_most];
	const setup *set = nullptr;
	const schedule *plan = nullptr;
	outcome *result = nullptr;
	unsigned current = 0;
	bool armed = false;
	bool over = false;
	unsigned points = 0;
	unsigned next_choice = 0;  // the point at which the schedule is asked again
	std::uint64_t time = 0;
	unsigned leaps = 0;
	dice random{0};
	int priority[actors_most];
	int lowest = 0;
	unsigned change[2];  // pct: where the priorities change
	unsigned odds = 2;   // random: another one at one point in so many
	std::size_t next_forced = 0;
	unsigned unarmed = 0;  // asked before arm(), or after disarm()
	bool fair = false;
	unsigned fair_turns = 0;
	struct {
		std::uint64_t place;
		const void *address;
		int lid;
		unsigned actor;
	} before;  // the last point, if it is counted what was seen
};
engine *e;

kthread &self() noexcept { return e->threads[e->current]; }

void store_oldest(kthread &k) noexcept {
	std::memcpy(k.buffer[0].address, &k.buffer[0].value, k.buffer[0].size);
	k.buffered--;
	std::copy(k.buffer + 1, k.buffer + 1 + k.buffered, k.buffer);
}

void store_all(kthread &k) noexcept {
	while (k.buffered != 0) {
		store_oldest(k);
	}
}

// ---- who goes on -------------------------------------------------------------------------------------------------------

std::uint64_t next_deadline() noexcept {
	std::uint64_t first = e->set->next_timer != nullptr ? e->set->next_timer(e->time) : UINT64_MAX;
	for (unsigned i = 0; i < e->set->kthreads; i++) {
		if (e->threads[i].st == state::waits) {
			first = std::min(first, e->threads[i].deadline);
		}
	}
	return first;
}

/// The actors that could go on, as bits.
unsigned able() noexcept {
	unsigned could = 0;
	for (unsigned i = 0; i < e->set->kthreads; i++) {
		could |= e->threads[i].st == state::runs ? 1U << i : 0U;
		could |= e->threads[i].buffered != 0 ? 1U << (buffer_actor + i) : 0U;
	}
	const bool kthreads_can = (could & ((1U << kthreads_most) - 1)) != 0;
	if (e->leaps < (kthreads_can && !e->fair ? leaps_most : leaps_idle_most) && (!kthreads_can || e->armed)) {
		const std::uint64_t at = next_deadline();
		could |= at != UINT64_MAX ? 1U << clock_actor : 0U;
	}
	return could;
}

void leap() noexcept {
	e->time = std::max(e->time, next_deadline()) + 1;
	e->leaps++;
	for (unsigned i = 0; i < e->set->kthreads; i++) {
		kthread &k = e->threads[i];
		if (k.st == state::waits && k.deadline <= e->time) {
			k.st = state::runs;
		}
	}
}

void go_to(unsigned next) noexcept {
	if (next == e->current) {
		return;
	}
	kthread &from = self();
	e->current = next;
	current_vcpu = self().vcpu;
	kern::context_detail::context_jump(from.ctx, self().ctx, false);
}

void record(unsigned actor, op what, const void *address, const char *file, int line, unsigned at, unsigned could) noexcept {
	if (e->fair) {
		return;  // a livelock is shown up to here
	}
	const int lid = actor < kthreads_most && e->set->running_lid != nullptr ? e->set->running_lid() : 0;
	e->result->events.push_back(
	    {static_cast<std::uint8_t>(actor), what, static_cast<std::uint16_t>(could), at, line, lid, file, address, e->time});
}

void count(std::uint64_t what) noexcept {
	std::uint8_t &n = e->plan->seen[(dice(what ^ e->plan->seed).next() >> 32) % seen_bytes];
	n = static_cast<std::uint8_t>(n + (n != seen_most ? 1 : 0));
}

/// The place, and after which one of another LWP, or kthread, it comes; there it may have touched the same, or not.
void see(op what, const void *address, const char *file, int line) noexcept {
	if (e->fair) {
		return;
	}
	const int lid = e->set->running_lid != nullptr ? e->set->running_lid() : 0;
	// Literals of one program: their addresses are their names.
	const std::uint64_t place =
	    dice(reinterpret_cast<std::uintptr_t>(file) << 16 ^ static_cast<unsigned>(line) << 4 ^ static_cast<unsigned>(what)).next();
	count(place);
	if (e->before.place != 0 && (lid != e->before.lid || e->current != e->before.actor)) {
		count(place ^ (e->before.place << 1) ^ (address != nullptr && address == e->before.address ? 1 : 0));
	}
	e->before = {place, address, lid, e->current};
}

/// The next of those that can after `from`, by number; kthreads before all others.
unsigned next_around(unsigned could, unsigned from) noexcept {
	for (unsigned i = 1; i <= kthreads_most; i++) {
		const unsigned a = (from + i) % kthreads_most;
		if ((could >> a & 1) != 0) {
			return a;
		}
	}
	return static_cast<unsigned>(__builtin_ctz(could));
}

unsigned best(unsigned could) noexcept {
	unsigned b = static_cast<unsigned>(__builtin_ctz(could));
	for (unsigned a = b + 1; a < actors_most; a++) {
		if ((could >> a & 1) != 0 && e->priority[a] > e->priority[b]) {
			b = a;
		}
	}
	return b;
}

unsigned any(unsigned could) noexcept {
	for (unsigned n = e->random.below(static_cast<unsigned>(__builtin_popcount(could))); n != 0; n--) {
		could &= could - 1;
	}
	return static_cast<unsigned>(__builtin_ctz(could));
}

/// Why the schedule is asked.
enum class because : std::uint8_t { point, pause, stopped };

void sink(unsigned actor) noexcept { e->priority[actor] = --e->lowest; }

unsigned choose_pct(unsigned could, because why) noexcept {
	if (why == because::pause) {
		sink(e->current);
	} else if (e->points == e->change[0] || e->points == e->change[1]) {
		sink(e->current);
	}
	e->next_choice = UINT32_MAX;
	for (unsigned at : e->change) {
		if (at > e->points) {
			e->next_choice = std::min(e->next_choice, at);
		}
	}
	const unsigned a = best(could);
	if (a >= kthreads_most) {
		sink(a);  // a leap, or a store: once; then others first
		if (a > clock_actor) {
			e->priority[a] = static_cast<int>(e->random.below(2 * actors_most));
		}
	}
	return a;
}

unsigned choose_random(unsigned could, because why) noexcept {
	e->next_choice = e->points + 1 + (e->odds == 1 ? 0 : e->random.below(2 * e->odds));
	const unsigned others = could & ~(1U << e->current);
	if (others == 0) {
		return e->current;
	}
	if ((others >> clock_actor & 1) != 0 && others != 1U << clock_actor && e->random.below(4) != 0) {
		could &= ~(1U << clock_actor);  // it comes less often than they
	}
	return why == because::pause ? any(others) : any(could);
}

unsigned choose_forced(unsigned could, because why) noexcept {
	const auto &list = e->plan->preempted;
	while (e->next_forced < list.size() && list[e->next_forced].at < e->points) {
		e->next_forced++;
	}
	e->next_choice = e->next_forced < list.size() ? list[e->next_forced].at : UINT32_MAX;
	if (e->next_choice == e->points) {
		const unsigned to = list[e->next_forced++].to;
		e->next_choice = e->next_forced < list.size() ? list[e->next_forced].at : UINT32_MAX;
		if ((could >> to & 1) != 0) {
			return to;
		}
	}
	return why == because::point && (could >> e->current & 1) != 0 ? e->current : next_around(could, e->current);
}

unsigned choose(unsigned could, because why) noexcept {
	if (!e->armed) {
		if (++e->unarmed > unarmed_most) {
			fail("livelock before the scene was set, or after");
		}
		e->next_choice = UINT32_MAX;
		return why == because::point ? e->current : next_around(could, e->current);
	}
	if (e->fair) {
		for (kthread &k : e->threads) {
			store_all(k);
		}
		e->next_choice = e->points + fair_turn;
		const unsigned a = next_around(could, e->current);
		const bool its_turn = ++e->fair_turns % 8 == 0 || a == e->current;
		return its_turn && (could >> clock_actor & 1) != 0 ? clock_actor : a;
	}
	switch (e->plan->how) {
	case schedule::kind::pct:
		return choose_pct(could, why);
	case schedule::kind::random:
		return choose_random(could, why);
	case schedule::kind::forced:
		break;
	}
	return choose_forced(could, why);
}

/// Asks the schedule until it names a kthread, and goes on with that.
void ask(because why) noexcept {
	for (;;) {
		const unsigned could = able();
		if (could == 0) {
			fail("deadlock: every vCPU waits, and no timer is armed");
		}
		// What a forced schedule would do if it were not told, to know what to tell.
		unsigned untold = next_around(could, e->current);
		if (why == because::point && (could >> e->current & 1) != 0) {
			untold = e->current;
		}
		const unsigned to = choose(could, why);
		if (e->plan->record && e->armed && to != untold) {
			e->result->choices.push_back({e->points, to});
		}
		if (to < kthreads_most) {
			go_to(to);
			return;
		}
		if (to == clock_actor) {
			leap();
		} else {
			store_oldest(e->threads[to - buffer_actor]);
		}
		if (e->plan->record) {
			record(to, op::clock, nullptr, "", 0, e->points, could);
		}
		// Another actor at the same point would be a second choice there: it has a point of its own.
		e->points++;
		e->next_choice = std::max(e->next_choice, e->points);
		if (why == because::pause) {
			why = because::stopped;
		}
	}
}

// ---- the life of a schedule --------------------------------------------------------------------------------------------

void enter(void *arg) {
	const auto number = static_cast<unsigned>(reinterpret_cast<std::uintptr_t>(arg));
	e->set->entry(number);
	self().st = state::done;
	for (;;) {
		ask(because::stopped);
	}
}

[[noreturn]] void leave() noexcept {
	e->over = true;
	e->armed = false;
	kern::context nobody;
	kern::context_adopt(nobody);
	kern::context_detail::context_jump(nobody, e->driver, true);
	std::abort();
}

void on_fault(int signal, siginfo_t *info, void *) {
	if (e == nullptr || e->result == nullptr || e->over) {
		std::_Exit(128 + signal);
	}
	fail("signal %d (%s) at address %p", signal, strsignal(signal), info->si_addr);
}

void prepare() {
	void *memory = ::mmap(nullptr, sizeof(engine), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED) {
		std::abort();
	}
	e = ::new (memory) engine;
	e->image.init();
	for (unsigned i = 0; i < kthreads_most; i++) {
		// At the same place in each process: what is hashed by its address falls the same way.
		auto *wanted = reinterpret_cast<void *>(0x200000000000U + std::uintptr_t{i} * 16 * stack_bytes);
		void *base = ::mmap(wanted, stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
		if (base == MAP_FAILED) {
			std::abort();
		}
		e->threads[i].stack.s_base = static_cast<std::byte *>(base);
		e->threads[i].stack.s_size = stack_bytes;
	}
	constexpr std::size_t alternate_bytes = 64 * 1024;
	void *alternate = ::mmap(nullptr, alternate_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	stack_t stack{};
	stack.ss_sp = alternate;
	stack.ss_size = alternate_bytes;
	::sigaltstack(&stack, nullptr);
	struct sigaction act {};
	act.sa_sigaction = on_fault;
	act.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
#if !LWP_ASAN
	::sigaction(SIGSEGV, &act, nullptr);
	::sigaction(SIGBUS, &act, nullptr);
#endif
	::sigaction(SIGFPE, &act, nullptr);
}

}  // namespace

outcome run(const setup &set, const schedule &plan) {
	if (e == nullptr) {
		prepare();
	}
	outcome result;
	set.restore();
	e->set = &set;
	e->plan = &plan;
	e->result = &result;
	e->armed = e->over = e->fair = false;
	e->points = e->leaps = e->unarmed = e->fair_turns = 0;
	e->next_choice = UINT32_MAX;
	e->next_forced = 0;
	e->time = time_begins;
	e->before = {};
	e->random = dice(plan.seed);
	delays = false;
	for (unsigned i = 0; i < set.kthreads; i++) {
		kthread &k = e->threads[i];
		k.st = state::runs;
		k.word = nullptr;
		k.deadline = UINT64_MAX;
		k.vcpu = set.vcpus == nullptr ? nullptr : set.vcpus[i];
		k.buffered = 0;
		std::memset(k.storage, 0, sizeof(k.storage));
		kern::context_make(k.ctx, k.stack, 0, enter, reinterpret_cast<void *>(std::uintptr_t{i}));
	}
	e->current = 0;
	current_vcpu = self().vcpu;
	kern::context_adopt(e->driver);
	kern::context_detail::context_jump(e->driver, self().ctx, false);
	delays = false;
	current_vcpu = nullptr;
	result.points = e->points;
	e->result = nullptr;
	return result;
}

void arm() noexcept {
	e->armed = true;
	e->points = 0;
	e->leaps = 0;
	delays = e->plan->delays;
	// Priorities above those that change points and pauses give.
	e->lowest = 0;
	for (unsigned a = 0; a < actors_most; a++) {
		e->priority[a] = static_cast<int>(a) + 1;
	}
	for (unsigned a = actors_most - 1; a > 0; a--) {
		std::swap(e->priority[a], e->priority[e->random.below(a + 1)]);
	}
	// How long a schedule is: of most scenarios short, of some long.
	const unsigned long_ = 32U << e->random.below(6);
	e->change[0] = 1 + e->random.below(long_);
	e->change[1] = 1 + e->random.below(long_);
	e->odds = 1U << e->random.below(5);
	for (unsigned i = 0; i < e->set->kthreads; i++) {
		if (e->threads[i].st == state::at_gate) {
			e->threads[i].st = state::runs;
		}
	}
	e->next_choice = 1;
}

void disarm() noexcept {
	e->armed = false;
	e->next_choice = UINT32_MAX;
	for (kthread &k : e->threads) {
		store_all(k);
	}
	delays = false;
}

void await_arm() noexcept {
	if (e->armed) {
		return;
	}
	self().st = state::at_gate;
	ask(because::stopped);
}

unsigned awaiting_arm() noexcept {
	return static_cast<unsigned>(
	    std::count_if(e->threads, e->threads + e->set->kthreads, [](const kthread &k) { return k.st == state::at_gate; }));
}

void let_others() noexcept { ask(because::pause); }

void finish() noexcept { leave(); }

void fail(const char *format, ...) noexcept {
	char text[600];
	va_list args;
	va_start(args, format);
	std::vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	e->result->failed = true;
	e->result->why = text;
	leave();
}

void advance_clock(std::uint64_t to) noexcept { e->time = std::max(e->time, to); }

void note(const char *text) noexcept {
	if (e->plan->record) {
		record(e->current, op::note, nullptr, text, 0, 0, 0);
	}
}

unsigned running_kthread() noexcept { return e->current; }

// ---- what the library calls --------------------------------------------------------------------------------------------

void point(op what, const void *address, const char *file, int line) noexcept {
	if (e == nullptr || e->result == nullptr || e->over) {
		return;  // not in a schedule
	}
	const bool pause = what == op::relax || what == op::yield;
	if (!e->armed) {
		if (LWP_UNLIKELY(pause)) {
			ask(because::pause);
		}
		return;
	}
	const unsigned number = ++e->points;
	const unsigned could = LWP_UNLIKELY(e->plan->record) ? able() : 0;
	if (LWP_UNLIKELY(number >= points_fair)) {
		e->fair = true;
		e->next_choice = std::min(e->next_choice, e->points + fair_turn);
		if (e->points > points_most) {
			fail("livelock: %u points, and no end (at %s:%d)", e->points, file, line);
		}
	}
	if (LWP_UNLIKELY(pause)) {
		store_all(self());  // nothing waits in a buffer for ever
		ask(because::pause);
	} else if (LWP_UNLIKELY(e->points >= e->next_choice || what == op::clock)) {
		ask(because::point);
	}
	if (LWP_UNLIKELY(e->plan->record)) {
		record(e->current, what, address, file, line, number, could);
	}
	if (LWP_UNLIKELY(e->plan->seen != nullptr)) {
		see(what, address, file, line);
	}
}

void store_delayed(void *address, const void *value, unsigned size) noexcept {
	kthread &k = self();
	if (k.buffered == buffer_most) {
		store_oldest(k);
	}
	delayed &d = k.buffer[k.buffered++];
	d = {address, 0, size};
	std::memcpy(&d.value, value, size);
}

bool load_own(const void *address, void *value, unsigned size) noexcept {
	const kthread &k = self();
	for (unsigned i = k.buffered; i-- > 0;) {
		if (k.buffer[i].address == address) {
			std::memcpy(value, &k.buffer[i].value, size);
			return true;
		}
	}
	return false;
}

void drain_own() noexcept { store_all(self()); }

std::uint64_t clock_now() noexcept {
	if (e == nullptr || e->result == nullptr || e->over) {
		return time_begins;
	}
	point(op::clock, nullptr, __FILE__, __LINE__);
	return e->time += time_of_a_look;
}

long futex_wait(const void *word, std::uint32_t expected, const timespec *deadline) noexcept {
	point(op::futex_wait, word, __FILE__, __LINE__);
	kthread &k = self();
	store_all(k);  // the system call is a barrier
	std::uint32_t value;
	std::memcpy(&value, word, sizeof(value));
	if (value != expected) {
		return -EAGAIN;
	}
	k.deadline = deadline == nullptr
	    ? UINT64_MAX
	    : static_cast<std::uint64_t>(deadline->tv_sec) * 1'000'000'000U + static_cast<std::uint64_t>(deadline->tv_nsec);
	if (k.deadline <= e->time) {
		return -ETIMEDOUT;
	}
	k.word = word;
	k.st = state::waits;
	ask(because::stopped);
	return 0;
}

long futex_wake(const void *word, int count) noexcept {
	point(op::futex_wake, word, __FILE__, __LINE__);
	store_all(self());
	int woken = 0;
	for (unsigned i = 0; i < e->set->kthreads && woken < count; i++) {
		kthread &k = e->threads[i];
		if (k.st == state::waits && k.word == word) {
			k.st = state::runs;
			woken++;
			e->next_choice = std::min(e->next_choice, e->points + 1);  // a better one can run
		}
	}
	return woken;
}

long membarrier() noexcept {
	if (e == nullptr || e->result == nullptr) {
		return 0;
	}
	point(op::membarrier, nullptr, __FILE__, __LINE__);
	for (kthread &k : e->threads) {
		store_all(k);
	}
	return 0;
}

void set_current_vcpu(kern::vcpu_t *vc) noexcept {
	current_vcpu = vc;
	if (e != nullptr && e->result != nullptr) {
		self().vcpu = vc;
	}
}

void *kthread_storage() noexcept {
	static unsigned char outside[kthread_bytes];
	return e == nullptr || e->result == nullptr ? outside : self().storage;
}

}  // namespace lwp::explore
