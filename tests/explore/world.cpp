// SPDX-License-Identifier: BSD-2-Clause
//
// The runtime of a scenario: what proc/runtime.cpp makes of kernel threads, made of the explorer's; and the memory that is put back before
// each schedule: the program's own variables, the vCPUs, the LWPs that stand at the beginning.
#include "explore/world.h"

#include "base/assert.h"
#include "core/lwp_pool.h"
#include "ctx/residence.h"
#include "proc/outside.h"
#include "proc/preempt.h"
#include "proc/report.h"
#include "sched/spare.h"
#include "sched/switch.h"
#include "sync/turnstile.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>

extern "C" {
extern char __data_start;
extern char _end;
}

// ---- what the library asks for and proc/runtime.cpp, ctx/stack.cpp and base/assert.cpp are for otherwise ----------------

namespace lwp::kern {

sched_t sched;

void fatal(const char *format, ...) {
	char text[500];
	va_list args;
	va_start(args, format);
	std::vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	explore::fail("%s", text);
}

std::size_t runtime_stack = stack_default;
void runtime_ensure() noexcept { fatal("a runtime is started"); }
lwp_t *runtime_adopt() noexcept { fatal("a kernel thread is adopted"); }
std::string report_every(lwp_t *) { fatal("a snapshot is made"); }
void preempt_hurry() noexcept {}  // nobody computes for long
void outside_forget(vcpu_t *) noexcept {}

namespace {

constexpr unsigned stacks_most = 40;
constexpr std::uintptr_t stacks_at = 0x210000000000U;
std::uint32_t free_stacks[stacks_most];
unsigned free_count;
unsigned stacks_made;

}  // namespace

int stack_alloc(stack &s, std::size_t) {
	if (free_count == 0 && stacks_made == stacks_most) {
		return ENOMEM;
	}
	const std::uint32_t n = free_count != 0 ? free_stacks[--free_count] : stacks_made++;
	s = {};
	s.s_base = reinterpret_cast<std::byte *>(stacks_at + n * 2 * stack_default);
	s.s_size = stack_default;
	s.s_slot = n + 1;
	return 0;
}

void stack_free(stack &s) {
	if (s.s_slot != 0) {
		free_stacks[free_count++] = s.s_slot - 1;
	}
	s = {};
}

namespace {

enum class residence : std::uint8_t { in_memory, on_its_way_out, out, on_its_way_in };
residence stack_is[stacks_most];

/// Takes a while: two points.
void move_stack(const stack &s, residence by, residence to) noexcept {
	stack_is[s.s_slot - 1] = by;
	explore::point(explore::op::yield, nullptr, __FILE__, __LINE__);
	explore::point(explore::op::yield, nullptr, __FILE__, __LINE__);
	stack_is[s.s_slot - 1] = to;
}

}  // namespace

std::size_t stack_give_back(const stack &s, const void *) noexcept {
	move_stack(s, residence::on_its_way_out, residence::out);
	return s.s_size;
}
void stack_page_out(const stack &, const void *) noexcept {}
void stack_page_in(const stack &s, const void *) noexcept { move_stack(s, residence::on_its_way_in, residence::in_memory); }

void stack_foreign(stack &, void *, std::size_t) { fatal("a foreign stack"); }
stack_stats stack_statistics() { return {}; }

}  // namespace lwp::kern

namespace lwp::explore {
namespace {

using namespace kern;

// ---- memory ------------------------------------------------------------------------------------------------------------

/// A range and what it is put back to.
struct range {
	char *begin;
	std::size_t size;
	char *copy;
};

/// Plain bytes, red zones of sanitizers and all.
[[gnu::noinline]] void copy_raw(char *to, const char *from, std::size_t n) noexcept {
#if defined(__x86_64__)
	asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
#else
	for (std::size_t i = 0; i < n; i++) {
		const_cast<volatile char *>(to)[i] = from[i];
	}
#endif
}

/// What a scenario's world is: in memory of its own, like the engine.
struct world {
	setup how{};
	const scenario *what = nullptr;
	vcpu_t *vcpus[kthreads_most] = {};
	lwp_t *idle[kthreads_most] = {};
	lwp_t *home = nullptr;
	stack idle_stack;
	std::vector<range> ranges;
	std::vector<range> pristine;  // before any world
	char *copies = nullptr;
	std::size_t copied = 0;
};
world *w;

constexpr std::size_t copies_bytes = 8U << 20;
constexpr std::uintptr_t vcpus_at = 0x220000000000U;
constexpr std::size_t vcpu_bytes = 64 * 1024;

void *memory_at(std::uintptr_t where, std::size_t bytes) {
	void *m = ::mmap(reinterpret_cast<void *>(where), bytes, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (where != 0 ? MAP_FIXED_NOREPLACE : 0), -1, 0);
	if (m == MAP_FAILED) {
		std::perror("explore: mmap");
		std::exit(2);
	}
	return m;
}

void keep(std::vector<range> &in, void *begin, std::size_t size) {
	if (w->copied + size > copies_bytes) {
		std::fputs("explore: too much to keep\n", stderr);
		std::exit(2);
	}
	in.push_back({static_cast<char *>(begin), size, w->copies + w->copied});
	copy_raw(in.back().copy, in.back().begin, size);
	w->copied += size;
}

/// The program's variables, but the parts of the proc that are not used.
void keep_variables(std::vector<range> &in) {
	auto *parts_end = reinterpret_cast<char *>(proc0_parts + kthreads_most);
	auto *rest = reinterpret_cast<char *>(proc0_parts + part_max);
	keep(in, &__data_start, static_cast<std::size_t>(parts_end - &__data_start));
	keep(in, rest, static_cast<std::size_t>(&_end - rest));
}

void put_back(const std::vector<range> &ranges) noexcept {
	for (const range &r : ranges) {
		copy_raw(r.begin, r.copy, r.size);
	}
}

// ---- kthreads ------------------------------------------------------------------------------------------------------------

void idle_entry(void *arg) {
	vcpu_idle_loop(static_cast<vcpu_t *>(arg), true);
	fatal("vCPU 0 was stopped");
}

/// Nobody is left but LWP 1, and no other proc, and the counters say so.
bool alone() {
	vcpu_t *here = w->home->l_cpu;
	const proc_scope hold(&proc0, here);
	proc_check(&proc0);
	const proc_counts c = proc_count(&proc0);
	return c.nlwps - c.nzlwps == 1 && c.nlwpwait == 0 && procs_made.empty();
}

void vcpu_entry(unsigned i) {
	vcpu_t *vc = w->vcpus[i];
	vc->vc_image.init();
	if (i != 0) {
		context_adopt(vc->vc_idle->l_ctx);
		vc->vc_curlwp = vc->vc_idle;
		if (vc->vc_spare) {
			spare_begin(vc);
		}
		vcpu_idle_loop(vc, false);
		return;
	}
	vc->vc_idle->l_ctx = context{};
	context_make(vc->vc_idle->l_ctx, w->idle_stack, 0, idle_entry, vc);
	context_adopt(w->home->l_ctx);
	w->what->body();
	judge();
	if (!alone()) {
		lwp_sleep_until(w->home, time_in(10'000'000'000));  // whoever is detached ends meanwhile
	}
	EXPECT(alone());
	finish();
}

void raw_entry(unsigned i) {
	if (i == 0) {
		if (w->what->raw_set != nullptr) {
			w->what->raw_set();
		}
		while (awaiting_arm() + 1 != w->what->kthreads) {
			let_others();
		}
		arm();
	} else {
		await_arm();
	}
	w->what->raw_body(i);
	static unsigned through;
	if (++through == w->what->kthreads) {
		judge();
		if (w->what->raw_judge != nullptr) {
			w->what->raw_judge();
		}
		finish();
	}
}

/// Read without a point: these are asked within one.
template <class T>
T plain(const kern::atomic<T> &a) noexcept {
	T value;
	std::memcpy(&value, &a, sizeof(value));
	return value;
}

int running_lid() {
	const lwp_t *l = current_vcpu == nullptr ? nullptr : current_vcpu->vc_curlwp;
	return l == nullptr ? 0 : plain(l->ln_lid);
}

std::uint64_t next_timer(std::uint64_t after) {
	std::uint64_t first = UINT64_MAX;
	for (unsigned i = 0; i < w->what->kthreads; i++) {
		const std::uint64_t due = plain(w->vcpus[i]->vc_deadline);
		first = due > after ? std::min(first, due) : first;
	}
	return first;
}

void must(bool ok) {
	if (!ok) {
		std::fputs("explore: a world cannot be made\n", stderr);
		std::exit(2);
	}
}

lwp_t *first_lwp(vcpu_t *vc) {
	lwp_t *l = lwp_pool_get();
	must(l != nullptr);
	l->l_adopted = true;
	l->l_cpu = vc;
	l->l_proc = &proc0;
	return l;
}

vcpu_t *first_vcpu(unsigned i) {
	auto *vc = ::new (reinterpret_cast<void *>(vcpus_at + i * vcpu_bytes)) vcpu_t;
	static_assert(sizeof(vcpu_t) <= vcpu_bytes);
	vc->vc_part = proc0_parts + i;
	vc->vc_index.store(static_cast<std::int16_t>(i));
	vc->vc_lwplock.bias(vc);
	vc->vc_rqlock.bias(vc);
	vc->vc_slplock.bias(vc);
	vc->vc_colock.bias(vc);
	// The heap's memory, once: it stays when all is put back.
	callout first;
	must(vc->vc_callouts.insert(&first) == 0);
	vc->vc_callouts.remove(&first);
	return vc;
}

void make_vcpus(unsigned n) {
	for (unsigned i = 0; i < n; i++) {
		w->vcpus[i] = first_vcpu(i);
	}
}

void make_spare(vcpu_t *vc) {
	vc->vc_spare = true;
	vc->vc_duty.store(vcpu_duty::rests);
	vc->vc_halted.store(vc_rests);
	vc->vc_index.store(0);
	vc->vc_nextspare = spares.sp_free;
	spares.sp_free = vc;
	spares.sp_nfree.store(spares.sp_nfree.load() + 1);
}

void make_runtime(unsigned n, unsigned substitutes) {
	const unsigned parts = std::bit_ceil(n);
	for (unsigned i = 0; i < parts; i++) {
		vcpu_t *vc = i < n ? w->vcpus[i] : w->vcpus[0];
		auto *pp = ::new (proc0_parts + i) procpart;
		pp->pp_index = i;
		pp->pp_lock.bias(vc);
		pp->pp_nextlid = i;
		pp->pp_lwps.set_stride(static_cast<unsigned>(std::countr_zero(parts)));
	}
	proc0.p_nparts.store(parts);
	proc0.p_maxlwps = 1000;
	proc0.p_running = true;
	proc0_parts[0].pp_allowance = 1000;
	for (unsigned i = 0; i < n; i++) {
		vcpu_t *vc = w->vcpus[i];
		if (i < n - substitutes) {
			sched.sd_vcpu[i] = vc;
		} else {
			make_spare(vc);
		}
		sched.sd_all[i] = vc;
		lwp_t *idle = w->idle[i] = vc->vc_idle = first_lwp(vc);
		idle->l_priority.store(pri_count);
		idle->l_bound = vc->vc_index;
		idle->l_flag.store(LW_IDLE | LW_SYSTEM | LW_BOUND);
		lwp_setstat(idle, i == 0 ? lwp_stat::idl : lwp_stat::onproc, &vc->vc_lwplock);
	}
	sched.sd_nall.store(n);
	sched.sd_settle = turnstile_settle;
	sched.sd_letgo = biglock_let_go;
	sched.sd_bigyield = biglock_yield;
	sched.sd_leave = lwp_leave;
	sched.sd_count.store(n - substitutes);
	must(stack_alloc(w->idle_stack, stack_default) == 0);

	lwp_t *l = w->home = first_lwp(w->vcpus[0]);
	lwp_setstat(l, lwp_stat::onproc, &w->vcpus[0]->vc_lwplock);
	w->vcpus[0]->vc_curlwp = l;
	procpart *pp = proc0_parts;
	pp->pp_nextlid = parts;
	l->ln_lid.store(1);
	must(pp->pp_lwps.insert(l) == 0);
	l->l_part = pp;
	pp->pp_nlwps++;
	pp->pp_allowance--;
	part_add(pp->pp_nrlwps, 1);
}

void make_world(const scenario &s) {
	if (w == nullptr) {
		w = ::new (memory_at(0, sizeof(world))) world;
		w->copies = static_cast<char *>(memory_at(0, copies_bytes));
		(void)memory_at(stacks_at, stacks_most * 2 * stack_default);
		(void)memory_at(vcpus_at, kthreads_most * vcpu_bytes);
		// Registers for membarrier(2), makes the explorer's own memory: before anything is kept.
		spinlock lock(lock_rank::leaf, "first");
		lock.bias(nullptr);
		setup none{1, [](unsigned) { finish(); }, nullptr, [] {}, nullptr, nullptr};
		(void)run(none, {});
		keep_variables(w->pristine);
	}
	put_back(w->pristine);
	w->copied = 0;
	for (const range &r : w->pristine) {
		w->copied += r.size;
	}
	w->ranges.clear();
	w->what = &s;
	make_vcpus(s.kthreads);
	if (!s.raw) {
		make_runtime(s.kthreads, s.spares);
		for (unsigned i = 0; i < s.kthreads; i++) {
			keep(w->ranges, w->idle[i], sizeof(lwp_t));
		}
		keep(w->ranges, w->home, sizeof(lwp_t));
	}
	for (unsigned i = 0; i < s.kthreads; i++) {
		keep(w->ranges, w->vcpus[i], sizeof(vcpu_t));
	}
	keep_variables(w->ranges);
	w->how = {s.kthreads, s.raw ? raw_entry : vcpu_entry, w->vcpus, [] { put_back(w->ranges); }, running_lid, next_timer};
}

std::vector<scenario> &all() {
	static std::vector<scenario> list;
	return list;
}

// ---- LWPs of a scenario --------------------------------------------------------------------------------------------------

constexpr unsigned slots_most = 16;
struct slot {
	alignas(16) std::byte fn[slot_bytes];
	void (*call)(void *);
	bool pinned;
	bool waits;
};
slot slots[slots_most];
unsigned slots_used;
bool given[kthreads_most];  // a vCPU that an LWP which waits was started on
bool racing;

void run_slot(void *arg) {
	auto *s = static_cast<slot *>(arg);
	if (!s->pinned) {
		me()->l_bound = -1;
	}
	if (s->waits && !racing) {
		await_arm();
	}
	s->call(s->fn);
}

}  // namespace

void add_scenario(const scenario &s) {
	std::uint64_t hash = 0xcbf29ce484222325U;  // FNV-1a
	for (const char *c = s.name; *c != '\0'; c++) {
		hash = (hash ^ static_cast<unsigned char>(*c)) * 0x100000001b3U;
	}
	all().push_back(s);
	all().back().number = static_cast<std::uint32_t>(hash ^ hash >> 32) % scenario_numbers;
}
const std::vector<scenario> &scenarios() { return all(); }

const setup &setup_of(const scenario &s) {
	if (w == nullptr || w->what != &s) {
		make_world(s);
	}
	return w->how;
}

void *new_slot() {
	if (slots_used == slots_most) {
		fail("too many LWPs for a scenario");
	}
	return slots[slots_used].fn;
}

lwpid_t start_slot(int vcpu, void *fn, void (*call)(void *), const flags &f) {
	slot *s = &slots[slots_used++];
	s->call = call;
	s->pinned = f.pinned || vcpu == anywhere;
	// Only the first that comes to its vCPU can wait there, and none on that of LWP 1.
	s->waits = f.waits && !racing && vcpu > 0 && !given[vcpu] && !f.suspended;
	if (s->waits) {
		given[vcpu] = true;
	}
	(void)fn;
	lwp_options o;
	o.vcpu = vcpu;
	o.detached = f.detached;
	o.suspended = f.suspended;
	o.priority = f.priority;
	lwp_t *l;
	lwpid_t lid;
	lwp_t *creator = me();
	if (int error = newlwp(creator, o, &l); error != 0) {
		fail("newlwp: error %d", error);
	}
	if (f.into != nullptr) {
		lwp_into(f.into, l);
	}
	if (int error = lwp_start(creator, l, run_slot, s, o, &lid); error != 0) {
		fail("lwp_start: error %d", error);
	}
	return lid;
}

void race() {
	const auto wanted = static_cast<unsigned>(std::count(given, given + kthreads_most, true));
	while (awaiting_arm() < wanted) {
		let_others();
	}
	racing = true;
	arm();
}

void judge() {
	racing = true;
	disarm();
}

lwp_t *me() noexcept { return curlwp_or_null(); }

int wait_for(lwpid_t lid, lwpid_t *departed) {
	lwpid_t who = 0;
	int error;
	while ((error = lwp_wait1(me(), lid, &who)) == ERESTART) {
		lwp_userret(me());
	}
	if (departed != nullptr) {
		*departed = who;
	}
	return error;
}

void join(lwpid_t lid) {
	if (int error = wait_for(lid); error != 0) {
		fail("wait for LWP %d: error %d", lid, error);
	}
}

int park(nanotime deadline) {
	const int error = lwp_park(me(), deadline);
	lwp_userret(me());
	return error;
}

void unpark(lwpid_t lid) {
	if (int error = lwp_unpark(me(), lid); error != 0) {
		fail("unpark of LWP %d: error %d", lid, error);
	}
}

void userret() { lwp_userret(me()); }

int suspend(lwpid_t lid) {
	int error;
	while ((error = lwp_suspend(me(), lid)) == ERESTART) {
		lwp_userret(me());
	}
	return error;
}

void cont(lwpid_t lid) {
	if (int error = lwp_continue(me(), lid); error != 0) {
		fail("continue of LWP %d: error %d", lid, error);
	}
}

void yield() { lwp_yield_cpu(me()); }
nanotime time_in(nanotime delta) { return clock_now() + delta; }
bool stack_in_memory() noexcept { return stack_is[me()->l_stack.s_slot - 1] == residence::in_memory; }

void only_one::enter() noexcept {
	if (inside_.fetch_add(1) != 0) {
		fail("two are in where only one may be");
	}
}
void only_one::leave() noexcept { inside_.fetch_sub(1); }

}  // namespace lwp::explore
