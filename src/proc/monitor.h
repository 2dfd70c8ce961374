// SPDX-License-Identifier: BSD-2-Clause
//
// The monitor: a kernel thread that sees to it that a vCPU whose kernel thread is blocked keeps nobody waiting.
//
// It looks at the acting vCPUs every half millisecond, less and less often while it finds nothing, down to every ten.  One that runs, has not
// switched between two looks, and has something waiting for it (LWPs, timers, I/O; or LWPs wait elsewhere and nobody halts) is looked up, by its CPU
// clock, and unless that has gone on under /proc/self/task: if its kernel thread sleeps there, the LWP is blocked in a system call that it made by itself, and a substitute takes over
// (sched/spare.h).  One that computes does not sleep, and is left alone.  Without /proc nobody is found.
//
// For vCPUs that are away, found out or said so, it fires their timers and takes the completions of their I/O.
//
// When everybody halts it sleeps without a limit, until a vCPU ends its halt (monitor_runs()).  It is a kernel thread with a vcpu_t of the bound
// kind, to have a name for locks; it runs no LWP.
#pragma once

namespace lwp::kern {

/// Before the first LWP and after the last.  0 | EAGAIN, ENOMEM, or what eventfd(2) says
[[nodiscard]] int monitor_start() noexcept;
void monitor_stop() noexcept;

/// Whether it will find those that are blocked without having said so: not without /proc, nor with LWP_BLOCKING=off.
[[nodiscard]] bool monitor_finds_out() noexcept;

/// It looks at everybody now, and again soon.
void monitor_hurry() noexcept;

/// One more substitute, soon; by the monitor.
void monitor_wants_spare() noexcept;

/// outside_prepare(), soon; by the monitor.
void monitor_wants_events() noexcept;

/// Whether a kernel thread of this process sleeps in the kernel, interruptibly or not.
[[nodiscard]] bool task_sleeps(int tid) noexcept;

/// Whether a filter of system calls (seccomp(2)) may look at what that kernel thread calls.
[[nodiscard]] bool task_filtered(int tid) noexcept;

}  // namespace lwp::kern
