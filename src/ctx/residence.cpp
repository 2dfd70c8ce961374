// SPDX-License-Identifier: BSD-2-Clause
#include "ctx/residence.h"

#include "base/sys.h"

#include <algorithm>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

namespace lwp::kern {
namespace {

std::size_t page_size() noexcept {
	static const std::size_t size = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
	return size;
}

/// The lowest byte of the page that `sp` is in, as an offset from s_base, which begins a page.
std::size_t used_from(const stack &s, const void *sp) noexcept {
	const auto offset = static_cast<std::size_t>(static_cast<const std::byte *>(sp) - s.s_base);
	return offset & ~(page_size() - 1);
}

long advise(std::byte *from, std::size_t bytes, int advice) noexcept {
	return bytes == 0 ? 0 : sys::call(SYS_madvise, reinterpret_cast<long>(from), static_cast<long>(bytes), advice);
}

}  // namespace

std::size_t stack_give_back(const stack &s, const void *sp) noexcept {
	const std::size_t below = used_from(s, sp);
	return advise(s.s_base, below, MADV_DONTNEED) == 0 ? below : 0;
}

void stack_page_out(const stack &s, const void *sp) noexcept {
	const std::size_t below = used_from(s, sp);
	(void)advise(s.s_base + below, s.s_size - below, MADV_PAGEOUT);  // Linux 5.4; without it, or without swap space, nothing happens
}

void stack_page_in(const stack &s, const void *sp) noexcept {
	const std::size_t from = used_from(s, sp);
	const std::size_t low = from - std::min(from, page_size());
	// Linux 5.14; without it the first touch of each page waits for it, as ever
	(void)advise(s.s_base + low, s.s_size - low, MADV_POPULATE_WRITE);
}

}  // namespace lwp::kern
