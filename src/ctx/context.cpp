// SPDX-License-Identifier: BSD-2-Clause
//
// Making contexts.  A new one is entered once right away, to carry the entry function and its argument over to its own stack, and jumps
// straight back: so the first real switch to it is like any other, and nothing here knows how Boost lays out a context.
#include "ctx/context.h"

#include "base/assert.h"

#include <cerrno>
#include <cxxabi.h>
#if LWP_ASAN
#include <sanitizer/asan_interface.h>
#endif
#if LWP_VALGRIND
#include <valgrind/memcheck.h>
#endif

namespace lwp::kern {
namespace {

/// On the maker's stack for the moment of the making.
struct birth {
	context maker;
	context *child;
	context_entry entry;
	void *arg;
};

/// The first frame of every LWP; debuggers and unwinders stop here, because it says that it has no caller: the one in its unwind information, those
/// that follow frame pointers by a null pointer where the caller's would be (make_fcontext leaves the address of code there).
[[noreturn]] LWP_NOINLINE void context_begin(birth *b) {
	*static_cast<void *volatile *>(__builtin_frame_address(0)) = nullptr;  // we never return
#if defined(__x86_64__)
	asm volatile(".cfi_undefined rip");
#elif defined(__aarch64__)
	asm volatile(".cfi_undefined x30");
#endif
	context &self = *b->child;
	context_entry entry = b->entry;
	void *arg = b->arg;
	context_detail::context_arrive(self, b->maker);
	context_detail::context_jump(self, b->maker, false);
	// From here on `b` is gone, and this may be another kernel thread.
	entry(arg);
	fatal("the entry function of a context returned");
}

#if LWP_ASAN

/// Only who leaves it for ever can drop a fake stack.  So the caller takes that of `c` for its own for a moment, without a jump.
__attribute__((no_sanitize("address"))) void drop_fake_stack(context &c) {
	if (c.c_asan_fake == nullptr) {
		return;
	}
	void *own = nullptr;
	const void *bottom = nullptr;
	std::size_t size = 0;
	__sanitizer_start_switch_fiber(&own, c.c_asan_bottom, c.c_asan_size);
	__sanitizer_finish_switch_fiber(c.c_asan_fake, &bottom, &size);
	c.c_asan_fake = nullptr;
	__sanitizer_start_switch_fiber(nullptr, bottom, size);
	__sanitizer_finish_switch_fiber(own, nullptr, nullptr);
}

#endif

#if LWP_PORTABLE_SWITCH

/// Boost asks for an allocator to free the stack with; ours belongs to the caller.
struct callers_stack {
	boost::context::stack_context allocate() { return {}; }
	void deallocate(boost::context::stack_context &) noexcept {}
};

void context_enter(birth &b, std::byte *top, std::size_t size) {
	boost::context::stack_context where;
	where.sp = top;
	where.size = size;
	birth *in = &b;
	::new (b.child->c_fiber) boost::context::fiber(std::allocator_arg, boost::context::preallocated(top, size, where), callers_stack{},
	    [in](boost::context::fiber &&left) -> boost::context::fiber {
		    ::new (in->maker.c_fiber) boost::context::fiber(std::move(left));
		    context_begin(in);
	    });
	context_detail::context_jump(b.maker, *b.child, false);
}

#else

[[noreturn]] void context_entered(boost::context::detail::transfer_t t) {
	birth *b = reinterpret_cast<birth *>(t.data);  // &b->maker, its first member
	b->maker.c_sp = t.fctx;
	context_begin(b);
}

void context_enter(birth &b, std::byte *top, std::size_t size) {
	b.child->c_sp = boost::context::detail::make_fcontext(top, size, context_entered);
	context_detail::context_jump(b.maker, *b.child, false);
}

#endif

}  // namespace

// Out of line: an inlined &errno would be an address of whatever kernel thread the caller was on when the compiler took it.
LWP_NOINLINE void kthread_image::init() {
	errno_addr = &errno;
	eh_globals = abi::__cxa_get_globals();
}

void context_make(context &c, const stack &stack, std::size_t top_offset, context_entry entry, void *arg) {
	LWP_ASSERT(top_offset + stack.s_colour < stack.s_size);
	context_destroy(c);
	c = context();
#if LWP_ASAN
	__asan_unpoison_memory_region(stack.s_base, stack.s_size);
	c.c_asan_bottom = stack.s_base;
	c.c_asan_size = stack.s_size;
#endif
#if LWP_TSAN
	c.c_tsan_fiber = __tsan_create_fiber(0);
	c.c_tsan_own = true;
#endif
#if LWP_VALGRIND
	VALGRIND_MAKE_MEM_UNDEFINED(stack.s_base, static_cast<std::size_t>(stack_top(stack) - stack.s_base) - top_offset);
	c.c_valgrind_id = static_cast<unsigned>(VALGRIND_STACK_REGISTER(stack.s_base, stack.s_base + stack.s_size));
	c.c_valgrind = true;
#endif
	birth b{context(), &c, entry, arg};
	context_adopt(b.maker);
	std::byte *top = stack_top(stack) - top_offset;
	context_enter(b, top, static_cast<std::size_t>(top - stack.s_base));
}

#if LWP_ASAN

__attribute__((no_sanitize("address"))) context_aside::context_aside(context &handler, void *stack, std::size_t size) noexcept
    : handler_(handler) {
	__sanitizer_start_switch_fiber(&interrupted_.c_asan_fake, stack, size);
	__sanitizer_finish_switch_fiber(handler.c_asan_fake, &interrupted_.c_asan_bottom, &interrupted_.c_asan_size);
	handler.c_asan_fake = nullptr;
	handler.c_asan_bottom = stack;
	handler.c_asan_size = size;
}

__attribute__((no_sanitize("address"))) context_aside::~context_aside() {
	// 1: it is being made, by whom we have interrupted, who looks at nothing else when it is there.
	const bool whole = reinterpret_cast<std::uintptr_t>(interrupted_.c_asan_fake) > 1;
	__sanitizer_start_switch_fiber(&handler_.c_asan_fake, interrupted_.c_asan_bottom, interrupted_.c_asan_size);
	__sanitizer_finish_switch_fiber(whole ? interrupted_.c_asan_fake : nullptr, nullptr, nullptr);
}

#endif

void context_adopt(context &c) {
	c = context();
#if LWP_TSAN
	c.c_tsan_fiber = __tsan_get_current_fiber();
#endif
}

void context_destroy([[maybe_unused]] context &c) {
#if LWP_ASAN
	drop_fake_stack(c);
#endif
#if LWP_TSAN
	if (c.c_tsan_own) {
		__tsan_destroy_fiber(c.c_tsan_fiber);
		c.c_tsan_own = false;
	}
	c.c_tsan_fiber = nullptr;
#endif
#if LWP_VALGRIND
	if (c.c_valgrind) {
		VALGRIND_STACK_DEREGISTER(c.c_valgrind_id);
		c.c_valgrind = false;
	}
#endif
}

}  // namespace lwp::kern
