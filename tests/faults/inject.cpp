// SPDX-License-Identifier: BSD-2-Clause
#include "faults/inject.h"

#include "base/sys.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <sys/syscall.h>
#include <unistd.h>

namespace lwp::faults {

shared *all;
report *now;

namespace {

struct row {
	long number;
	const char *name;
	int errors[6];  // ended by 0
	bool after;     // it is made all the same
};

// What each call can give on Linux 6, in the way the library makes it.  Not here, so never made to fail: what cannot (clocks, yields, futex wake-ups,
// munmap(2) of what was mapped) and what cannot be told from misuse (EBADF, EFAULT, EINVAL of arguments of ours).
constexpr row table[] = {
    {SYS_futex, "futex", {EINTR, EAGAIN}, false},
    {SYS_membarrier, "membarrier", {ENOMEM}, false},
    {SYS_mmap, "mmap", {ENOMEM, EAGAIN}, false},
    {SYS_mremap, "mremap", {ENOMEM}, false},
    {SYS_mprotect, "mprotect", {ENOMEM}, false},
    {SYS_madvise, "madvise", {EINVAL, ENOMEM, EAGAIN, EPERM}, false},
    {SYS_process_madvise, "process_madvise", {EBADF, EINVAL, EPERM, ENOSYS, ENOMEM}, false},
    {SYS_clone, "clone", {EAGAIN, ENOMEM, EPERM}, false},
    {SYS_sigaltstack, "sigaltstack", {ENOMEM, EPERM}, false},
    {SYS_sched_getaffinity, "sched_getaffinity", {EINVAL, ENOSYS}, false},
    {SYS_eventfd2, "eventfd2", {EMFILE, ENFILE, ENOMEM}, false},
    {SYS_epoll_create1, "epoll_create1", {EMFILE, ENFILE, ENOMEM}, false},
    {SYS_epoll_ctl, "epoll_ctl", {ENOMEM, ENOSPC}, false},
    {SYS_epoll_pwait, "epoll_pwait", {EINTR}, false},
    {SYS_epoll_pwait2, "epoll_pwait2", {EINTR, ENOSYS, EPERM}, false},
    {SYS_io_uring_setup, "io_uring_setup", {ENOSYS, EPERM, ENOMEM, EMFILE, EINVAL}, false},
    {SYS_io_uring_enter, "io_uring_enter", {EINTR, EAGAIN, EBUSY}, false},
    {SYS_io_uring_register, "io_uring_register", {EINVAL, ENOMEM, EPERM}, false},
    {SYS_ppoll, "ppoll", {EINTR, ENOMEM}, false},
    {SYS_read, "read", {EINTR, EAGAIN, EIO}, false},
    {SYS_write, "write", {EINTR, EAGAIN, EIO}, false},
    {SYS_pread64, "pread64", {EINTR, EIO}, false},
    {SYS_pwrite64, "pwrite64", {EINTR, EIO, ENOSPC}, false},
    {SYS_preadv2, "preadv2", {EINTR, EAGAIN, EOPNOTSUPP, EIO}, false},
    {SYS_pwritev2, "pwritev2", {EINTR, EAGAIN, EOPNOTSUPP, EIO, ENOSPC}, false},
    {SYS_recvfrom, "recvfrom", {EINTR, EAGAIN, ECONNRESET, ENOMEM}, false},
    {SYS_sendto, "sendto", {EINTR, EAGAIN, EPIPE, ENOBUFS}, false},
    {SYS_recvmsg, "recvmsg", {EINTR, EAGAIN, ECONNRESET}, false},
    {SYS_sendmsg, "sendmsg", {EINTR, EAGAIN, EPIPE}, false},
    {SYS_accept4, "accept4", {EINTR, EAGAIN, EMFILE, ENFILE, ECONNABORTED}, false},
    {SYS_connect, "connect", {EINTR, ECONNREFUSED, ENETUNREACH, EAGAIN}, false},
    {SYS_socket, "socket", {EMFILE, ENFILE, ENOBUFS}, false},
    {SYS_socketpair, "socketpair", {EMFILE, ENFILE, ENOMEM}, false},
    {SYS_bind, "bind", {EADDRINUSE, EACCES}, false},
    {SYS_listen, "listen", {EADDRINUSE}, false},
    {SYS_setsockopt, "setsockopt", {ENOMEM, ENOBUFS}, false},
    {SYS_getsockopt, "getsockopt", {ENOMEM, ENOBUFS}, false},
    {SYS_getsockname, "getsockname", {ENOBUFS}, false},
    {SYS_getpeername, "getpeername", {ENOTCONN, ENOBUFS}, false},
    {SYS_shutdown, "shutdown", {ENOTCONN}, false},
    {SYS_pipe2, "pipe2", {EMFILE, ENFILE}, false},
    {SYS_openat, "openat", {EMFILE, ENFILE, EINTR, ENOMEM}, false},
    {SYS_close, "close", {EINTR, EIO}, true},
    {SYS_fsync, "fsync", {EIO, EINTR}, false},
    {SYS_fdatasync, "fdatasync", {EIO, EINTR}, false},
    {SYS_fstat, "fstat", {ENOMEM}, false},
    {SYS_ftruncate, "ftruncate", {EINTR, EIO}, false},
    {SYS_lseek, "lseek", {ESPIPE, EINVAL}, false},
    {SYS_fcntl, "fcntl", {EMFILE, EPERM}, false},
    {SYS_newfstatat, "newfstatat", {ENOMEM, EACCES}, false},
    {SYS_unlinkat, "unlinkat", {EACCES, EBUSY}, false},
    {SYS_pidfd_open, "pidfd_open", {EMFILE, ENOSYS, ENOMEM}, false},
    {SYS_pidfd_send_signal, "pidfd_send_signal", {EPERM}, false},
    {SYS_kill, "kill", {EPERM}, false},
    {SYS_wait4, "wait4", {EINTR}, false},
};

const row *row_of(long number) {
	for (const row &r : table) {
		if (r.number == number) {
			return &r;
		}
	}
	return nullptr;
}

std::atomic<unsigned> counted{0};  // calls at the site of the plan
std::atomic<std::uint64_t> dice{0};
std::atomic<bool> active{false};

std::uint64_t mix(std::uint64_t z) {
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
	return z ^ (z >> 31);
}

/// Without a lock: it is called in the middle of anything.
unsigned site_of(long number, const char *file, int line) {
	const std::uint64_t key = mix(reinterpret_cast<std::uintptr_t>(file) * 31 + static_cast<std::uint64_t>(line) * 0x9e3779b97f4a7c15U +
	                              static_cast<std::uint64_t>(number)) |
	    1;
	for (unsigned k = 0; k < sites_most; k++) {
		const unsigned i = static_cast<unsigned>((key + k) % sites_most);
		site &s = all->sites[i];
		std::uint64_t there = s.key.load(std::memory_order_acquire);
		if (there == 0 && s.key.compare_exchange_strong(there, key, std::memory_order_acq_rel)) {
			s.file.store(file, std::memory_order_relaxed);
			s.line.store(line, std::memory_order_relaxed);
			s.number.store(number, std::memory_order_release);
			return i;
		}
		if (there == key) {
			return i;
		}
	}
	return 0;
}

kern::sys::fault hook(long number, const char *file, int line, long *result) noexcept {
	const row *r = row_of(number);
	if (r == nullptr || !active.load(std::memory_order_acquire)) {
		return kern::sys::fault::none;
	}
	const unsigned i = site_of(number, file, line);
	now->hits[i].fetch_add(1, std::memory_order_relaxed);
	const plan &p = now->p;
	int error = 0;
	if ((p.what == mode::nth || p.what == mode::from) && p.site == i) {
		const unsigned n = counted.fetch_add(1, std::memory_order_relaxed) + 1;
		error = n == p.nth || (p.what == mode::from && n > p.nth) ? p.error : 0;
	} else if (p.what == mode::from && number == SYS_mmap && all->sites[p.site].number.load(std::memory_order_relaxed) == SYS_mmap) {
		error = counted.load(std::memory_order_relaxed) >= p.nth ? p.error : 0;  // where there is no memory there is none for anybody
	} else if (p.what == mode::chaos) {
		const std::uint64_t roll = mix(dice.fetch_add(0x9e3779b97f4a7c15U, std::memory_order_relaxed));
		if (roll % p.one_in == 0) {
			unsigned n = 0;
			while (n < 6 && r->errors[n] != 0) {
				n++;
			}
			error = r->errors[(roll >> 32) % n];
		}
	}
	if (error == 0) {
		return kern::sys::fault::none;
	}
	now->fired.fetch_add(1, std::memory_order_release);
	*result = -error;
	return r->after ? kern::sys::fault::after : kern::sys::fault::instead;
}

void *allocate(std::size_t size) noexcept {
	if (now != nullptr && active.load(std::memory_order_acquire)) {
		const unsigned n = now->allocations.fetch_add(1, std::memory_order_relaxed) + 1;
		if (now->p.what == mode::alloc && n == now->p.nth) {
			now->fired.fetch_add(1, std::memory_order_release);
			return nullptr;
		}
	}
	return std::malloc(size);
}

}  // namespace

const int *errors_of(long number) {
	const row *r = row_of(number);
	return r != nullptr ? r->errors : nullptr;
}

const char *name_of(long number) {
	const row *r = row_of(number);
	return r != nullptr ? r->name : "?";
}

bool passing(long number, int error) {
	if (number == SYS_clone || number == SYS_mmap || number == SYS_madvise) {
		return false;  // there EAGAIN is a limit
	}
	return error == EINTR || error == EAGAIN || error == EBUSY || number == SYS_membarrier || (number == SYS_ppoll && error == ENOMEM) ||
	    error == ECONNABORTED;
}

void faults_begin() {
	now->fired.store(0);
	now->allocations.store(0);
	counted.store(0);
	dice.store(now->p.seed);
	for (auto &h : now->hits) {
		h.store(0);
	}
	active.store(true);
	kern::sys::fault_now.store(hook);
}

void faults_end() {
	active.store(false);
	kern::sys::fault_now.store(nullptr);
}

bool tolerated() { return active.load() && now->fired.load(std::memory_order_acquire) != 0; }

void refused() { now->refused.fetch_add(1, std::memory_order_relaxed); }

void broken(const char *file, int line, const char *what) {
	if (!now->failed.exchange(true)) {
		std::snprintf(now->why, sizeof(now->why), "%s:%d: %s (errno %d)", file, line, what, errno);
	}
	::_exit(3);
}

}  // namespace lwp::faults

// ---- allocation in this program and the library ----------------------------------------------------------------------------

void *operator new(std::size_t size) {
	void *memory = lwp::faults::allocate(size);
	if (memory == nullptr) {
		throw std::bad_alloc();
	}
	return memory;
}
void *operator new(std::size_t size, const std::nothrow_t &) noexcept { return lwp::faults::allocate(size); }
void *operator new[](std::size_t size) { return operator new(size); }
void *operator new[](std::size_t size, const std::nothrow_t &) noexcept { return lwp::faults::allocate(size); }
void operator delete(void *memory) noexcept { std::free(memory); }
void operator delete(void *memory, std::size_t) noexcept { operator delete(memory); }
void operator delete(void *memory, const std::nothrow_t &) noexcept { operator delete(memory); }
void operator delete[](void *memory) noexcept { operator delete(memory); }
void operator delete[](void *memory, std::size_t) noexcept { operator delete(memory); }
void operator delete[](void *memory, const std::nothrow_t &) noexcept { operator delete(memory); }

namespace {

// Over-aligned.
void *allocate_aligned(std::size_t size, std::align_val_t alignment) noexcept {
	using namespace lwp::faults;
	if (now != nullptr && active.load(std::memory_order_acquire)) {
		const unsigned n = now->allocations.fetch_add(1, std::memory_order_relaxed) + 1;
		if (now->p.what == mode::alloc && n == now->p.nth) {
			now->fired.fetch_add(1, std::memory_order_release);
			return nullptr;
		}
	}
	const auto align = static_cast<std::size_t>(alignment);
	return std::aligned_alloc(align, (size + align - 1) / align * align);
}

}  // namespace

void *operator new(std::size_t size, std::align_val_t alignment) {
	void *memory = allocate_aligned(size, alignment);
	if (memory == nullptr) {
		throw std::bad_alloc();
	}
	return memory;
}
void *operator new(std::size_t size, std::align_val_t alignment, const std::nothrow_t &) noexcept {
	return allocate_aligned(size, alignment);
}
void operator delete(void *memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void *memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void *memory, std::align_val_t, const std::nothrow_t &) noexcept { std::free(memory); }
