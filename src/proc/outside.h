// SPDX-License-Identifier: BSD-2-Clause
//
// Where the C library is, and how an LWP that is in it is met as it comes out.
//
// Who is to stand still must not do so inside of the C library, with a lock that others would wait for.  A look now and then (proc/preempt.h) finds one outside
// that computes there; one that does nothing but call the C library is outside for a few thousandths of its time, and one whose calls are long for next
// to none of it.  Its *ways out* are known, though: the return addresses on its stack.  So the handler that met it inside sets breakpoints of the CPU there,
// by perf_event_open(2), for its own kernel thread: the LWP runs at full speed until it comes by one, and is interrupted before the instruction there.
//
//   what can go wrong                        and why it does no harm
//   a word on the stack is no return         it is never come by, or by code of the application, which is as good a place as any: whoever is interrupted
//   address, or one of a call that is over    is judged by where it is, not by what was wanted
//   the way out is not among the first       it is looked up now and then all the same, as before; and each look chooses anew
//   a throw does not return                  whoever catches calls __cxa_begin_catch first: that is a way out, too, see outside_or_catches()
//   a frame of the application below         a hit there is outside, but the C library may be further up (a comparison called by qsort): as for any look
//   the LWP blocks, or makes system calls    a breakpoint interrupts no system call
//   another LWP comes by, or nobody waits    the signal finds nothing to do, and takes the breakpoints away; each ends with its first hit
//   not permitted, none left (gdb), an       then there are none, and looks alone have to do.  Where a filter of system calls is installed, which may
//   old kernel, no such CPU                   kill whoever makes one that it does not know, it is not tried
//   descriptors                              high numbers, for moments: who interrupts close() and open() must not take the number between.  Gone when the LWP
//                                            stands still, and before fork(2).  One that the application closed is not closed again
//
// Nothing is written into anybody's code or stack, so unwinders, debuggers and shadow stacks see what they always see.  The signal is that of the
// monitor: no other handler is needed.
#pragma once

#include <csignal>
#include <cstddef>
#include <cstdint>

namespace lwp::kern {

struct vcpu_t;

/// Before the handler is installed.
void outside_start() noexcept;

/// The first event of a system takes ten milliseconds to make, until all CPUs are known to look at events; others are made in as many microseconds.  So
/// one that counts nothing is made first, by a kernel thread that may wait, when one is wanted, and kept until the runtime ends.
[[nodiscard]] bool outside_wanted() noexcept;
void outside_prepare(bool permitted) noexcept;
[[nodiscard]] bool outside_prepared() noexcept;
void outside_end() noexcept;

/// False: the C library is in the same file as the application, and cannot be told from it.
[[nodiscard]] bool outside_is_known() noexcept;

/// Whether what was interrupted there holds no lock of the C library.
[[nodiscard]] bool outside(std::uintptr_t pc) noexcept;

/// AddressSanitizer's run-time has locks that others wait for without sleeping, in the middle of calls of ours too: to them nobody would let its owner run again.
/// So who is met there is not taken off at all.  False: it cannot be told from the application, or there is none.
[[nodiscard]] bool outside_spins_is_known() noexcept;
[[nodiscard]] bool outside_spins(std::uintptr_t pc) noexcept;

/// The same as outside(), or it is about to call __cxa_begin_catch() from outside: nothing of that has been done, and the unwinder is through.
[[nodiscard]] bool outside_or_catches(std::uintptr_t pc, std::uintptr_t sp) noexcept;

/// In the handler, of an LWP that is inside: `signal` will come as it comes out.  Its stack goes from `sp` up to `top`.  False: perhaps not.
[[nodiscard]] bool outside_watch(vcpu_t *vc, int signal, std::uintptr_t sp, std::uintptr_t top) noexcept;

/// Whether that signal is what a breakpoint of `vc` has sent.
[[nodiscard]] bool outside_told(const vcpu_t *vc, const siginfo_t *info) noexcept;

/// The breakpoints are not wanted any more.  By the kernel thread of `vc`, in its handler or not, or when that has stopped.
void outside_forget(vcpu_t *vc) noexcept;

}  // namespace lwp::kern
