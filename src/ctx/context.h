// SPDX-License-Identifier: BSD-2-Clause
//
// Contexts: a stack that is not running, and the switch between two of them.  Boost.Context makes and switches every one.
//
// A switch takes with it what belongs to an LWP: the registers and floating-point control words (Boost), errno and the C++ exception
// globals (here).  It promises nothing about anything else that is thread-local: who resumes may do so on another kernel thread, so no
// thread-local value or address may be kept across a call of context_switch().
//
// Two forms.  Fast: enters Boost's own jump_fcontext by push and jump, because a call would leave an entry in the CPU's return predictor
// that jump_fcontext, which leaves by a jump, never uses up: every switch would cost a mispredicted return.  Portable
// (LWP_PORTABLE_SWITCH=1): boost::context::fiber.  Both tell the sanitizers what happens.
//
// Takes no lock, allocates nothing, never throws.  The caller orders the two kernel threads: whoever resumes `from` must see everything
// up to the end of the switch that left it (the LWP's lock is held across the switch).  A context never moves in memory.
#pragma once

#include "base/config.h"
#include "ctx/stack.h"

#include <cstddef>
#include <cstdint>

#ifndef LWP_PORTABLE_SWITCH
#define LWP_PORTABLE_SWITCH 0
#endif

#if LWP_PORTABLE_SWITCH
#include <boost/context/fiber.hpp>
#include <boost/version.hpp>
#include <new>
#include <utility>
#else
#include <boost/context/detail/fcontext.hpp>
#endif
#if LWP_ASAN
#include <sanitizer/common_interface_defs.h>
#endif
#if LWP_TSAN
#include <sanitizer/tsan_interface.h>
#endif

// x86-64 with the System V convention and no registers beyond those that the asm below knows: entered by push and jump.
#if !LWP_PORTABLE_SWITCH && defined(__x86_64__) && defined(__LP64__) && defined(__ELF__) && !defined(__APX_F__)
#define LWP_BALANCED_JUMP 1
#else
#define LWP_BALANCED_JUMP 0
#endif

// From 1.88 on boost::context::fiber keeps the exception globals itself.
#if LWP_PORTABLE_SWITCH && BOOST_VERSION >= 108800
#define LWP_SWITCH_EXCEPTIONS 0
#else
#define LWP_SWITCH_EXCEPTIONS 1
#endif

namespace lwp::kern {

/// A switched-out execution state; all zero before context_make() or context_adopt().
/// Written by the kernel thread that runs it, until the end of the switch that leaves it; then by the one that resumes it.
struct context {
#if LWP_PORTABLE_SWITCH
	// A fiber that is never destroyed: that would unwind.
	alignas(boost::context::fiber) std::byte c_fiber[sizeof(boost::context::fiber)] = {};
	context *c_from = nullptr;  // who resumed us, told by the resumer
#else
	void *c_sp = nullptr;  // Boost's fcontext_t; x86-64: rbp is kept at c_sp + 0x30, the return address at c_sp + 0x38
#endif
	void *c_caught = nullptr;  // libstdc++'s and libc++abi's __cxa_eh_globals
	unsigned c_uncaught = 0;
	int c_errno = 0;
#if LWP_ASAN
	void *c_asan_fake = nullptr;  // its fake stack, where the locals are if use after return is looked for; while it is switched out
	const void *c_asan_bottom = nullptr;
	std::size_t c_asan_size = 0;
#endif
#if LWP_TSAN
	void *c_tsan_fiber = nullptr;
	bool c_tsan_own = false;  // made by context_make(), to be destroyed
#endif
#if LWP_VALGRIND
	unsigned c_valgrind_id = 0;  // Valgrind's number of the stack
	bool c_valgrind = false;
#endif
};

/// Where the stack of a context that does not run ends: all that it keeps, its registers too, is above.  Null if Boost does not say.
inline const void *context_sp([[maybe_unused]] const context &c) noexcept {
#if LWP_PORTABLE_SWITCH
	return nullptr;
#else
	return c.c_sp;
#endif
}

/// What __cxa_get_globals() points to, by the C++ ABI.
struct eh_globals_image {
	void *caught;
	unsigned uncaught;
};

/// Where the running kernel thread keeps what belongs to the LWP on it.  Taken once by that kernel thread itself.
struct kthread_image {
	int *errno_addr = nullptr;
	void *eh_globals = nullptr;

	void init();
};

using context_entry = void (*)(void *arg);  // never returns and lets nothing escape: an exception ends in std::terminate()

/// The next switch to `c` enters entry(arg) on `stack`, with errno 0 and no exception in flight; `top_offset` bytes below stack_top()
/// are left to the caller.  `c` is new, or switched out for ever: what ran on it is gone without a trace.  Whatever is on the stack dies.
void context_make(context &c, const stack &stack, std::size_t top_offset, context_entry entry, void *arg);

/// The calling kernel thread's own stack becomes a context, which runs.
void context_adopt(context &c);

/// `c` is switched out for ever (or an adopted one that never switches again): drops what the sanitizers know of it.
void context_destroy(context &c);

/// For its life the caller's frames, a signal's handler on the alternate stack, are a context of their own for AddressSanitizer: `handler`, which is what the same
/// kernel thread had for that before.  If they were of the one that is interrupted, they would have their locals on its fake stack.  That is swept after each
/// throw, by whoever makes the next frame: what lies below it is taken to be gone, and a handler on another stack may lie above all that was interrupted.
/// Nothing of the handler's may have an address before.  Not in the middle of a switch.
class context_aside {
public:
#if LWP_ASAN
	context_aside(context &handler, void *stack, std::size_t size) noexcept;
	~context_aside();
#else
	context_aside(context &, void *, std::size_t) noexcept {}
	~context_aside() {}  // NOLINT(modernize-use-equals-default): who makes one uses it
#endif
	context_aside(const context_aside &) = delete;
	context_aside &operator=(const context_aside &) = delete;

#if LWP_ASAN
private:
	context &handler_;
	context interrupted_;
#endif
};

/// Whether a dead LWP's entry function may loop and take the next function on the same context.  Under the sanitizers it is remade,
/// so that they see a new stack and a new thread.
constexpr bool context_may_loop() { return !LWP_ASAN && !LWP_TSAN; }

namespace context_detail {

LWP_ALWAYS_INLINE void context_leave([[maybe_unused]] context &from, [[maybe_unused]] context &to, [[maybe_unused]] bool final) {
#if LWP_ASAN
	// Nowhere to keep it: the fake stack is unmapped, and with it whatever locals the callers have there.  Their pointers are not looked at any more.
	__sanitizer_start_switch_fiber(final ? nullptr : &from.c_asan_fake, to.c_asan_bottom, to.c_asan_size);
#endif
#if LWP_TSAN
	__tsan_switch_to_fiber(to.c_tsan_fiber, 0);  // 0: what `from` did happened before what `to` does now, as one kernel thread did both
#endif
}

/// Runs on the stack of `self`, which `from` has just switched to.
LWP_ALWAYS_INLINE void context_arrive([[maybe_unused]] context &self, [[maybe_unused]] context &from) {
#if LWP_ASAN
	// ASan tells the bounds of the stack it saw us leave: that is how an adopted kernel thread's stack becomes known.
	__sanitizer_finish_switch_fiber(self.c_asan_fake, &from.c_asan_bottom, &from.c_asan_size);
	self.c_asan_fake = nullptr;  // the kernel thread has it
#endif
}

LWP_ALWAYS_INLINE void context_jump(context &from, context &to, bool final) {
	context_leave(from, to, final);
#if LWP_PORTABLE_SWITCH
	to.c_from = &from;
	boost::context::fiber left = std::move(*std::launder(reinterpret_cast<boost::context::fiber *>(to.c_fiber))).resume();
	// Running again, perhaps on another kernel thread: `left` is the context that resumed us.
	context *resumer = from.c_from;
	::new (resumer->c_fiber) boost::context::fiber(std::move(left));
#elif LWP_BALANCED_JUMP
	void *sp = to.c_sp;
	void *data = &from;
	void *left;
	void *resumed_by;
#if defined(__clang__)
#define LWP_ASM_NEEDS_FRAME
#else
	// gcc, told that the asm changes rsp, sets up the frame pointer that it leaves out of a function which calls nothing.
	register std::uintptr_t stack_pointer asm("rsp");
#define LWP_ASM_NEEDS_FRAME , "+r"(stack_pointer)
#endif
	// What a call of jump_fcontext(sp, data) does, except that the return address is pushed by hand.  It returns transfer_t in rax:rdx:
	// the stack pointer of the context that resumed us, and the data which that one passed.  First the red zone is stepped over.
	// jump_fcontext itself keeps rbx, rbp, r12 to r15, MXCSR and the x87 control word; nothing else survives.
	// clang-format off
	asm volatile(
	    "leaq -128(%%rsp), %%rsp\n\t"
	    "leaq 1f(%%rip), %%rcx\n\t"
	    "pushq %%rcx\n\t"
	    "jmp *%[jump]\n"
	    "1:\n\t"
	    "leaq 128(%%rsp), %%rsp"
	    : "=a"(left), "=d"(resumed_by), "+D"(sp), "+S"(data) LWP_ASM_NEEDS_FRAME
	    : [jump] "r"(&boost::context::detail::jump_fcontext)
	    : "rcx", "r8", "r9", "r10", "r11", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
	      "xmm12", "xmm13", "xmm14", "xmm15", "st", "st(1)", "st(2)", "st(3)", "st(4)", "st(5)", "st(6)", "st(7)",
#if defined(__AVX512F__)
	      "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25", "xmm26", "xmm27", "xmm28", "xmm29",
	      "xmm30", "xmm31", "k0", "k1", "k2", "k3", "k4", "k5", "k6", "k7",
#endif
	      "memory", "cc");
	// clang-format on
#undef LWP_ASM_NEEDS_FRAME
	context *resumer = static_cast<context *>(resumed_by);
	resumer->c_sp = left;
#else
	boost::context::detail::transfer_t t = boost::context::detail::jump_fcontext(to.c_sp, &from);
	context *resumer = static_cast<context *>(t.data);
	resumer->c_sp = t.fctx;
#endif
	context_arrive(from, *resumer);
}

/// errno and the exception globals of the running kernel thread: those of `from` out, those of `to` in.
LWP_ALWAYS_INLINE void context_swap_image(context &from, const context &to, const kthread_image &image) {
	from.c_errno = *image.errno_addr;
	*image.errno_addr = to.c_errno;
#if LWP_SWITCH_EXCEPTIONS
	eh_globals_image *eh = static_cast<eh_globals_image *>(image.eh_globals);
	// Most often all three are zero, and would be written over by the same.  A CPU writes one word to its cache at a time, and a switch has little else to
	// wait for, so it looks first.
	const auto caught = [](const void *p) { return reinterpret_cast<std::uintptr_t>(p); };
	if (LWP_UNLIKELY(
	        (caught(eh->caught) | caught(from.c_caught) | caught(to.c_caught) | eh->uncaught | from.c_uncaught | to.c_uncaught) != 0)) {
		from.c_caught = eh->caught;
		from.c_uncaught = eh->uncaught;
		eh->caught = to.c_caught;
		eh->uncaught = to.c_uncaught;
	}
#endif
}

}  // namespace context_detail

/// Leaves `from`, which runs, for `to`, which does not.  Returns when somebody switches to `from`, perhaps on another kernel thread.
/// `image` is that of the kernel thread which runs the switch; it is not used after the jump.
/// Compile the caller with -fno-omit-frame-pointer: without, all works, but a debugger cannot unwind `from` while it is switched out.
LWP_ALWAYS_INLINE void context_switch(context &from, context &to, const kthread_image &image) {
	context_detail::context_swap_image(from, to, image);
	context_detail::context_jump(from, to, false);
}

/// The same, but `from` will be made anew before it runs again, or never run.
LWP_ALWAYS_INLINE void context_switch_final(context &from, context &to, const kthread_image &image) {
	context_detail::context_swap_image(from, to, image);
	context_detail::context_jump(from, to, true);
}

}  // namespace lwp::kern
