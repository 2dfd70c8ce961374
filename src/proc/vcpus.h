// SPDX-License-Identifier: BSD-2-Clause
//
// The vCPUs are made, with their idle LWPs and kernel threads, and unmade: those of a runtime, and spares while it runs.
// runtime.cpp calls it, with its lock held where vCPUs come or go.  Any kernel thread of the runtime makes spares, one at a time, under a lock of
// vcpus.cpp.  A vCPU struct is used again by the next runtime and never freed.
#pragma once

#include "sched/vcpu.h"

namespace lwp::kern {

/// A struct, and nothing that runs.  Null: no memory.
[[nodiscard]] vcpu_t *vcpu_new() noexcept;

/// Before the first vCPU of a runtime: vCPUs made later have the caller's signal mask.
void vcpus_begin(bool with_spares) noexcept;

/// vCPU `i` and what runs it: a kernel thread of its own, or the caller's if this is its `home`.  0 | ENOMEM | EAGAIN
/// What was made stays for vcpus_unmake().
[[nodiscard]] int vcpu_make(unsigned i, bool home) noexcept;

/// The calling kernel thread is this vCPU from now on.
void vcpu_thread_init(vcpu_t *) noexcept;

/// Stops the runtime's vCPUs from `first` on, and then the spares, and waits for their kernel threads.
void vcpus_unmake(unsigned first) noexcept;

/// What vcpu_make() made for the home vCPU.
void vcpu_drop_home_idle(vcpu_t *) noexcept;

}  // namespace lwp::kern
