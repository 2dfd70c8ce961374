// SPDX-License-Identifier: BSD-2-Clause
#include "proc/outside.h"

#include "base/sys.h"
#include "sched/vcpu.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <dlfcn.h>
#include <fcntl.h>
#include <iterator>
#include <link.h>
#include <linux/hw_breakpoint.h>
#include <linux/perf_event.h>
#include <sys/auxv.h>
#include <unistd.h>
#include <utility>

namespace lwp::kern {
namespace {

constexpr std::uintptr_t scan_most = 16 * 1024;  // bytes of the stack: the frames of printf and of the unwinder take some three thousand
constexpr unsigned reads_most = 64;              // words that might be addresses of code
constexpr int fd_least = 128;
constexpr std::uintptr_t lowest = 0x10000;            // nothing is mapped below
constexpr std::uintptr_t highest = 0x7fff'ffff'ffff;  // nor above, for the application

struct range {
	std::uintptr_t low = 0;
	std::uintptr_t high = 0;
};
range libraries[11];  // all of these are fixed before the handler is installed
unsigned nlibraries;
bool libraries_apart;
range spins;             // AddressSanitizer's run-time, if it is one of the libraries
std::uintptr_t catches;  // __cxa_begin_catch, if it is in one of the libraries

atomic<bool> refused{false};  // no events here, for good
atomic<int> keeper{-1};       // an event that counts nothing, by the number of its descriptor

struct seeker {
	std::uintptr_t address;
	range found{};
	bool main_program = false;
	unsigned seen = 0;
};

int seek(dl_phdr_info *info, std::size_t, void *arg) {
	auto *s = static_cast<seeker *>(arg);
	const bool first = s->seen++ == 0;  // the program itself
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) &h = info->dlpi_phdr[i];
		const std::uintptr_t low = info->dlpi_addr + h.p_vaddr;
		if (h.p_type == PT_LOAD && (h.p_flags & PF_X) != 0 && s->address - low < h.p_memsz) {
			s->found = {low, low + h.p_memsz};
			s->main_program = first;
			return 1;
		}
	}
	return 0;
}

// ---- ways out ------------------------------------------------------------------------------------------------------

/// Whether the instruction before that address is a call.  Read by the kernel, since any word may look like an address.
bool after_call(std::uintptr_t at) noexcept {
	unsigned char code[7];
	const iovec here{code, sizeof code};
	const iovec there{reinterpret_cast<void *>(at - sizeof code), sizeof code};
	if (sys::call(SYS_process_vm_readv, ::getpid(), reinterpret_cast<long>(&here), 1, reinterpret_cast<long>(&there), 1) !=
	    static_cast<long>(sizeof code)) {
		return false;
	}
	const auto indirect = [&code](std::size_t length) {  // FF /2
		return code[sizeof code - length] == 0xff && (code[sizeof code - length + 1] >> 3 & 7) == 2;
	};
	return code[2] == 0xe8 || indirect(2) || indirect(3) || indirect(4) || indirect(6) || indirect(7);
}

/// The first return addresses into the application, from the innermost frame on; no two the same.
__attribute__((no_sanitize("address"))) unsigned ways_back(
    std::uintptr_t *ways, unsigned room, std::uintptr_t sp, std::uintptr_t top) noexcept {
	const std::uintptr_t word = sizeof(std::uintptr_t);
	const std::uintptr_t end = std::min(top, sp + scan_most);
	unsigned n = 0;
	unsigned reads = 0;
	for (std::uintptr_t p = (sp + word - 1) & ~(word - 1); p + word <= end && n < room && reads < reads_most; p += word) {
		const std::uintptr_t w = *reinterpret_cast<const volatile std::uintptr_t *>(p);
		if (w < lowest || w > highest || (w >= sp && w < top) || !outside(w) || std::find(ways, ways + n, w) != ways + n) {
			continue;
		}
		reads++;
		if (after_call(w)) {
			ways[n++] = w;
		}
	}
	return n;
}

long control(int fd, unsigned long request, long arg) noexcept { return sys::call(SYS_ioctl, fd, static_cast<long>(request), arg); }

/// One hit, from now on.  If nobody came by since the last time it is one more: all are of the same signal.
bool refresh(int fd) noexcept { return control(fd, PERF_EVENT_IOC_REFRESH, 1) == 0; }

/// An event of the calling kernel thread, which does not count yet: its number, a high one, or -1.
int open_event(perf_event_attr &attr) noexcept {
	attr.size = sizeof attr;
	attr.disabled = 1;
	attr.exclude_kernel = 1;
	attr.exclude_hv = 1;
	const long low = sys::call(SYS_perf_event_open, reinterpret_cast<long>(&attr), 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
	if (low < 0) {
		// ENOSPC: gdb has them; EMFILE, ENOMEM: another time.  EACCES, EPERM, ENOSYS and what else there is: never.
		if (low != -ENOSPC && low != -EMFILE && low != -ENFILE && low != -ENOMEM && low != -EINTR) {
			refused.store(true, std::memory_order_relaxed);  // relaxed: seen sooner or later
		}
		return -1;
	}
	const long fd = sys::call(SYS_fcntl, low, F_DUPFD_CLOEXEC, fd_least);
	(void)sys::call(SYS_close, low);
	return fd < 0 ? -1 : static_cast<int>(fd);
}

/// A breakpoint: its number, or -1.
int open_at(std::uintptr_t at, int signal, int tid) noexcept {
	perf_event_attr attr{};
	attr.type = PERF_TYPE_BREAKPOINT;
	attr.sample_period = 1;
	attr.wakeup_events = 1;
	attr.bp_type = HW_BREAKPOINT_X;
	attr.bp_addr = at;
	attr.bp_len = sizeof(long);
	const int fd = open_event(attr);
	const f_owner_ex owner{F_OWNER_TID, tid};
	if (fd >= 0 &&
	    (sys::call(SYS_fcntl, fd, F_SETFL, O_ASYNC | O_NONBLOCK) != 0 || sys::call(SYS_fcntl, fd, F_SETSIG, signal) != 0 ||
	        sys::call(SYS_fcntl, fd, F_SETOWN_EX, reinterpret_cast<long>(&owner)) != 0 || !refresh(fd))) {
		(void)sys::call(SYS_close, fd);
		return -1;
	}
	return fd;
}

/// Whoever takes it out of `w_open` closes it: the kernel thread, or its handler in the middle of that.
void close_way(way_out &w) noexcept {
	// relaxed: one kernel thread.  An error: the application has closed it, and whose number it is by now is not known.
	if (w.w_open.exchange(false, std::memory_order_relaxed) && control(w.w_fd, PERF_EVENT_IOC_DISABLE, 0) == 0) {
		(void)sys::call(SYS_close, w.w_fd);
	}
}

bool aim(way_out &w, std::uintptr_t at, int signal, int tid) noexcept {
	if (w.w_open.load(std::memory_order_relaxed) && w.w_at == at && refresh(w.w_fd)) {  // relaxed: our own
		return true;
	}
	close_way(w);
	const int fd = open_at(at, signal, tid);
	if (fd < 0) {
		return false;
	}
	w.w_fd = fd;
	w.w_at = at;
	w.w_open.store(true, std::memory_order_relaxed);
	return true;
}

}  // namespace

void outside_start() noexcept {
	nlibraries = 0;
	libraries_apart = true;
	catches = 0;
	spins = {};
	// The files that these functions are in: the C library, the loader, the unwinder, the C++ library, who stands in front of malloc, and the sanitizers' run-times.
	for (const char *name : {"malloc", "free", "fopen", "__libc_start_main", "_dl_find_object", "__tls_get_addr", "_Unwind_Resume",
	         "__cxa_begin_catch", "__asan_init", "__ubsan_handle_builtin_unreachable"}) {
		void *at = ::dlsym(RTLD_DEFAULT, name);
		const bool needed = std::strcmp(name, "malloc") == 0 || std::strcmp(name, "fopen") == 0;
		seeker s{reinterpret_cast<std::uintptr_t>(at)};
		if (at == nullptr || ::dl_iterate_phdr(seek, &s) == 0 || s.main_program) {
			libraries_apart = libraries_apart && !needed;
			continue;
		}
		if (nlibraries < std::size(libraries)) {
			libraries[nlibraries++] = s.found;
		}
		if (std::strcmp(name, "__cxa_begin_catch") == 0) {
			catches = s.address;
		} else if (std::strcmp(name, "__asan_init") == 0) {
			spins = s.found;
		}
	}
	// And the kernel's: some of these read the clock with a lock held.
	seeker kernel{::getauxval(AT_SYSINFO_EHDR)};
	if (kernel.address != 0 && ::dl_iterate_phdr(seek, &kernel) != 0 && !kernel.main_program && nlibraries < std::size(libraries)) {
		libraries[nlibraries++] = kernel.found;
	}
}

void outside_prepare(bool permitted) noexcept {
	perf_event_attr attr{};
	attr.type = PERF_TYPE_SOFTWARE;
	attr.config = PERF_COUNT_SW_DUMMY;
	// relaxed, all of these: only numbers; who finds none yet goes by looks
	if (!permitted) {
		refused.store(true, std::memory_order_relaxed);
	} else if (!outside_prepared()) {
		keeper.store(open_event(attr), std::memory_order_relaxed);
	}
}

bool outside_prepared() noexcept { return keeper.load(std::memory_order_relaxed) >= 0; }

bool outside_wanted() noexcept { return libraries_apart && !outside_prepared() && !refused.load(std::memory_order_relaxed); }

void outside_end() noexcept {
	if (const int fd = keeper.exchange(-1, std::memory_order_relaxed); fd >= 0 && control(fd, PERF_EVENT_IOC_DISABLE, 0) == 0) {
		(void)sys::call(SYS_close, fd);
	}
}

bool outside_is_known() noexcept { return libraries_apart; }

bool outside(std::uintptr_t pc) noexcept {
	return libraries_apart && std::none_of(libraries, libraries + nlibraries, [pc](const range &r) { return pc >= r.low && pc < r.high; });
}

bool outside_spins_is_known() noexcept { return spins.high != 0; }

bool outside_spins(std::uintptr_t pc) noexcept { return pc >= spins.low && pc < spins.high; }

__attribute__((no_sanitize("address"))) bool outside_or_catches(std::uintptr_t pc, std::uintptr_t sp) noexcept {
	return outside(pc) || (pc == catches && catches != 0 && outside(*reinterpret_cast<const volatile std::uintptr_t *>(sp)));
}

bool outside_watch(vcpu_t *vc, int signal, std::uintptr_t sp, std::uintptr_t top) noexcept {
	// relaxed: seen sooner or later
	if (!outside_prepared() || !vc->vc_watchable.load(std::memory_order_relaxed) || refused.load(std::memory_order_relaxed)) {
		return false;
	}
	// The most likely ones first: there may not be as many left.
	std::uintptr_t ways[ways_most] = {};
	unsigned n = ways_back(ways, ways_most - 1, sp, top);
	if (catches != 0) {
		ways[n] = catches;
		if (n > 1) {
			std::swap(ways[1], ways[n]);
		}
		n++;
	}
	const int tid = vc->vc_tid.load(std::memory_order_relaxed);  // relaxed: our own
	bool any = false;
	for (unsigned i = 0; i < ways_most; i++) {
		if (i >= n) {
			close_way(vc->vc_ways[i]);
		} else if (aim(vc->vc_ways[i], ways[i], signal, tid)) {
			any = true;
			vc->vc_watched.store(true, std::memory_order_relaxed);  // relaxed: our own
		}
	}
	return any;
}

bool outside_told(const vcpu_t *vc, const siginfo_t *info) noexcept {
	bool ours = false;
	if (info->si_code == POLL_IN || info->si_code == POLL_HUP) {
		// One that is closed by now, too: its signal may have been pending as that was done.  In these frames nothing may have an address (proc/preempt.cpp).
		for (const way_out &w : vc->vc_ways) {
			ours = ours || w.w_fd == info->si_fd;
		}
	}
	return ours;
}

void outside_forget(vcpu_t *vc) noexcept {
	if (vc->vc_watched.exchange(false, std::memory_order_relaxed)) {  // relaxed: our own
		for (way_out &w : vc->vc_ways) {
			close_way(w);
		}
	}
}

}  // namespace lwp::kern
