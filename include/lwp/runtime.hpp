// SPDX-License-Identifier: BSD-2-Clause
//
// The runtime: the virtual CPUs that LWPs run on.  Nobody has to name it: the first call of the library starts one with
// the defaults and it lasts as long as the process.  Name it to choose the number of vCPUs or to have an end.
#pragma once

#include <lwp/lwp.h>

#include <cstddef>
#include <cstdint>

namespace lwp {

/// How a runtime is started.
struct runtime_options {
	/// Virtual CPUs, 1 to 256.  0: LWP_VCPUS from the environment, else one for each CPU of the process's affinity
	/// mask, but no more than its cgroup's quota allows.
	unsigned vcpus = 0;
	/// Stack of an LWP that asks for none, in bytes, rounded up to whole pages.  0: 64 KiB.
	std::size_t stack_size = 0;
	/// Most LWPs that may exist at once; creation beyond it fails with EAGAIN.  0: 16 million.
	std::size_t max_lwps = 0;
	/// Whether the time that each LWP has a vCPU is counted (usage.h), from the start; LWP_ACCOUNT=1 in the environment says so too.  Then each
	/// switch reads the clock.
	bool accounting = false;
	/// Whether LWPs that compute are preempted, where that does no harm (preempt.hpp).  LWP_PREEMPT in the environment goes before.
	bool preemption = false;
	/// An LWP that has slept for so many milliseconds gives back the memory of its stack that it does not use; it may be a moment late when it is
	/// woken after that.  0: LWP_STACK_PAGER from the environment, in milliseconds, else never.
	unsigned stack_pager_ms = 0;
};

/// What the runtime holds and has done.  Counters only grow; the rest is a snapshot that may be torn while LWPs run.
struct runtime_stats {
	unsigned vcpus;                  ///< virtual CPUs
	std::size_t lwps;                ///< in whatever state, zombies included
	std::size_t zombies;             ///< ended, not yet collected
	std::size_t runnable;            ///< running, ready, or asleep: what NetBSD counts in p_nrlwps
	std::size_t waiting;             ///< inside _lwp_wait() or join()
	std::size_t detached;            ///< detached ones among `lwps`
	std::size_t stacks_in_use;       ///< stacks that belong to an LWP
	std::size_t stacks_cached;       ///< stacks kept for the next LWP
	std::uint64_t switches;          ///< context switches
	std::uint64_t steals;            ///< LWPs moved from another vCPU's queue by one without work
	std::uint64_t vcpu_wakeups;      ///< halted vCPUs woken
	std::uint64_t blocking_regions;  ///< regions entered by lwp::blocking() or lwp_blocking_enter()
	std::uint64_t blocked_found;     ///< vCPUs that were found blocked in the kernel by an LWP that had not said so
	std::uint64_t blocked_unhelped;  ///< times when all substitutes were in use and a vCPU stayed blocked
	std::uint64_t stacks_paged_out;  ///< LWPs whose stacks the pager took out of memory
	std::uint64_t stacks_paged_in;   ///< and brought back
	unsigned spare_vcpus;            ///< substitutes made, in use or not
	std::uint64_t preemptions;       ///< LWPs taken off their vCPUs in the middle of their code, see <lwp/preempt.hpp>
};

/// The scoped form.  The constructing kernel thread becomes vCPU 0 and its caller an LWP like any other, the first (LWP 1, unless kernel threads
/// that an earlier runtime adopted still live); it may come to run on another vCPU.
class LWP_API runtime {
public:
	/// Starts the vCPUs.  Throws std::system_error: EBUSY a runtime exists already in this process (also one that an earlier
	/// call of the library started), EINVAL an option out of range, EAGAIN a kernel thread could not be started, ENOMEM, EMFILE or ENFILE
	/// no descriptor could be had.  Then nothing of it is left, and another may be started.
	explicit runtime(const runtime_options &options = {});
	/// Waits until every other LWP has ended (collecting those that nobody waited for), then stops the vCPUs.  Must be
	/// destroyed by the LWP that constructed it.  A runtime may be started again afterwards.
	~runtime();
	runtime(const runtime &) = delete;
	runtime &operator=(const runtime &) = delete;

	/// Virtual CPUs of the running runtime (starts the default one if there is none).
	static unsigned vcpus();
	/// Looks at what all vCPUs count; never blocks for an LWP.  All 0 before the first runtime.
	static runtime_stats stats();
};

}  // namespace lwp
