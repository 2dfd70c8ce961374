// SPDX-License-Identifier: BSD-2-Clause
//
// The fault handlers behind ctx/guard.h.  Async-signal-safe throughout: no lock, no allocation, no stdio.
#include "ctx/guard.h"

#include "base/assert.h"
#include "base/atomic.h"
#include "base/config.h"
#include "base/sys.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

namespace lwp::kern {
namespace {

/// A signal we stand in front of.
struct front {
	int f_signal;
	bool f_installed;
	struct sigaction f_previous;  // written before our handler is in place, read by it
	atomic<bool> f_spent;         // SA_RESETHAND: the previous handler has had its one call
};

front fronts[] = {{SIGSEGV, false, {}, false}, {SIGBUS, false, {}, false}};
atomic<guard_lookup> lookup_now{nullptr};

front &front_of(int signal) { return signal == fronts[0].f_signal ? fronts[0] : fronts[1]; }

/// One line on the handler's own stack.
class line {
public:
	line &text(const char *s, std::size_t most = sizeof(text_)) {
		for (; *s != '\0' && most != 0 && used_ < sizeof(text_); most--) {
			text_[used_++] = *s++;
		}
		return *this;
	}
	line &number(std::uint64_t n) {
		char digits[20];
		std::size_t count = 0;
		do {
			digits[count++] = static_cast<char>('0' + n % 10);
			n /= 10;
		} while (n != 0);
		while (count != 0 && used_ < sizeof(text_)) {
			text_[used_++] = digits[--count];
		}
		return *this;
	}
	void print() { sys::call(SYS_write, STDERR_FILENO, reinterpret_cast<long>(text_), static_cast<long>(used_)); }

private:
	char text_[256];
	std::size_t used_ = 0;
};

constexpr std::size_t name_most = 128;

void report(const guard_owner &owner, const stack &s) {
	line l;
	l.text("LWP ").number(static_cast<std::uint64_t>(owner.lid)).text(" '").text(owner.name == nullptr ? "" : owner.name, name_most);
	l.text("' overflowed its ").number(s.s_size / 1024).text(" KiB stack\n").print();
}

bool is_overflow(const siginfo_t *info, guard_owner &owner, stack &s) {
	// Positive: the kernel found a fault.  Somebody's kill() has no address.
	if (info->si_code <= 0 || info->si_code == SI_KERNEL) {
		return false;
	}
	guard_lookup lookup = lookup_now.load(std::memory_order_acquire);  // pairs with the release in guard_install()
	if (lookup == nullptr || !lookup(owner, s) || s.s_base == nullptr || s.s_foreign) {
		return false;
	}
	std::uintptr_t address = reinterpret_cast<std::uintptr_t>(info->si_addr);
	std::uintptr_t base = reinterpret_cast<std::uintptr_t>(s.s_base);
	std::uintptr_t page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
	// The page below the guard too: a frame that is probed page by page may step over the guard with a push.
	return address < base && address >= base - 2 * page;
}

/// The default action: a faulting instruction faults again when we return and so dies with its own registers in the core; a signal
/// that was sent is sent again, as it was, and stays pending until we return.
void die(int signal, siginfo_t *info) {
	struct sigaction fatal_action {};
	fatal_action.sa_handler = SIG_DFL;
	::sigaction(signal, &fatal_action, nullptr);
	if (info->si_code <= 0) {
		sys::call(SYS_rt_tgsigqueueinfo, ::getpid(), sys::call(SYS_gettid), signal, reinterpret_cast<long>(info));
	}
}

/// What the kernel would have done without us.
void pass_on(int signal, siginfo_t *info, void *machine) {
	front &f = front_of(signal);
	const struct sigaction &previous = f.f_previous;
	bool has_siginfo = (previous.sa_flags & SA_SIGINFO) != 0;
	if (!has_siginfo && previous.sa_handler == SIG_IGN && info->si_code <= 0) {
		return;  // sent by somebody, and ignored; a fault cannot be ignored
	}
	if (!has_siginfo && (previous.sa_handler == SIG_DFL || previous.sa_handler == SIG_IGN)) {
		die(signal, info);
		return;
	}
	if ((previous.sa_flags & static_cast<int>(SA_RESETHAND)) != 0 && f.f_spent.exchange(true, std::memory_order_relaxed)) {
		die(signal, info);
		return;
	}
	// Our caller's signal mask comes back when we return.
	::pthread_sigmask(SIG_BLOCK, &previous.sa_mask, nullptr);
	if ((previous.sa_flags & SA_NODEFER) != 0) {
		sigset_t self;
		sigemptyset(&self);
		sigaddset(&self, signal);
		::pthread_sigmask(SIG_UNBLOCK, &self, nullptr);
	}
	if (has_siginfo) {
		previous.sa_sigaction(signal, info, machine);
	} else {
		previous.sa_handler(signal);
	}
}

void on_fault(int signal, siginfo_t *info, void *machine) {
	int saved = errno;
	guard_owner owner;
	stack s;
	if (is_overflow(info, owner, s)) {
		report(owner, s);
		die(signal, info);
	} else {
		errno = saved;
		pass_on(signal, info, machine);
	}
	errno = saved;
}

bool is_ours(const struct sigaction &action) { return (action.sa_flags & SA_SIGINFO) != 0 && action.sa_sigaction == on_fault; }

// Enough for our handler and, on top of it, for an application's that expected a stack of its own.
constexpr std::size_t alternate_least = std::size_t{64} << 10;
thread_local void *alternate_base = nullptr;  // ours, if we gave this kernel thread one
thread_local std::size_t alternate_size = 0;

}  // namespace

void guard_install(guard_lookup lookup) {
	lookup_now.store(lookup, std::memory_order_release);  // pairs with the acquire in is_overflow()
	for (front &f : fronts) {
		if (f.f_installed) {
			continue;  // still there, behind somebody's handler
		}
		::sigaction(f.f_signal, nullptr, &f.f_previous);
		f.f_spent.store(false, std::memory_order_relaxed);
		struct sigaction ours {};
		ours.sa_sigaction = on_fault;
		ours.sa_flags = SA_SIGINFO | SA_ONSTACK;
		sigemptyset(&ours.sa_mask);
		::sigaction(f.f_signal, &ours, nullptr);
		f.f_installed = true;
	}
}

void guard_remove() {
	lookup_now.store(nullptr, std::memory_order_release);  // as in guard_install()
	for (front &f : fronts) {
		struct sigaction now;
		::sigaction(f.f_signal, nullptr, &now);
		if (f.f_installed && is_ours(now)) {
			::sigaction(f.f_signal, &f.f_previous, nullptr);
			f.f_installed = false;
		}
	}
}

int guard_thread_init() {
	stack_t now;
	if (::sigaltstack(nullptr, &now) == 0 && (now.ss_flags & SS_DISABLE) == 0) {
		return 0;
	}
	long page = ::sysconf(_SC_PAGESIZE);
	std::size_t guard = static_cast<std::size_t>(page);
	std::size_t asked = static_cast<std::size_t>(std::max(::sysconf(_SC_SIGSTKSZ), 0L));
	std::size_t size = (std::max(asked, alternate_least) + guard - 1) / guard * guard + guard;
	void *base = sys::map(size, MAP_NORESERVE | MAP_STACK);
	if (base == nullptr) {
		return ENOMEM;
	}
	stack_t ours{};
	ours.ss_sp = static_cast<std::byte *>(base) + guard;
	ours.ss_size = size - guard;
	if (sys::call(SYS_mprotect, reinterpret_cast<long>(base), static_cast<long>(guard), PROT_NONE) != 0 ||
	    sys::call(SYS_sigaltstack, reinterpret_cast<long>(&ours), 0) != 0) {
		sys::unmap(base, size);
		return ENOMEM;
	}
	alternate_base = base;
	alternate_size = size;
	return 0;
}

void guard_thread_fini() {
	if (alternate_base == nullptr) {
		return;
	}
	int saved = errno;
	stack_t now;
	std::byte *ours = static_cast<std::byte *>(alternate_base);
	if (::sigaltstack(nullptr, &now) == 0 && now.ss_sp > ours && now.ss_sp < ours + alternate_size) {
		stack_t none{};
		none.ss_flags = SS_DISABLE;
		::sigaltstack(&none, nullptr);
	}
	sys::unmap(alternate_base, alternate_size);
	alternate_base = nullptr;
	errno = saved;
}

}  // namespace lwp::kern
