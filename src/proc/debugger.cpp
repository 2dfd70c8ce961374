// SPDX-License-Identifier: BSD-2-Clause
#include "proc/debugger.h"

#include "core/lwp.h"
#include "proc/proc.h"
#include "sched/vcpu.h"

#include <cstddef>
#include <iterator>

namespace lwp::kern {

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Winvalid-offsetof"  // not of standard layout, but without virtual bases

/// To this one the id table shows where its fields are.
struct lidtable_layout {
	static constexpr std::size_t layout = offsetof(lidtable, layout_);
	static constexpr std::size_t segment = offsetof(lidtable, segment_);
	static constexpr std::size_t first_bits = lidtable::first_bits;
};

namespace {

#if LWP_PORTABLE_SWITCH
constexpr std::size_t saved_sp = offsetof(context, c_fiber);  // boost::context::fiber is an fcontext_t
#else
constexpr std::size_t saved_sp = offsetof(context, c_sp);
#endif

#define FIELD(prefix, type, field) \
	{ #prefix "." #field, offsetof(type, field) }
constexpr debug_word words[] = {
    {"part.size", sizeof(procpart)},
    {"part.layout", offsetof(procpart, pp_lwps) + lidtable_layout::layout},
    {"part.segment", offsetof(procpart, pp_lwps) + lidtable_layout::segment},
    {"part.first_bits", lidtable_layout::first_bits},
    {"lwp.size", sizeof(lwp_t)},
    {"lwp.name_size", LWP_MAXNAME},
    {"lwp.sp", offsetof(lwp_t, l_ctx) + saved_sp},
    FIELD(lwp, lwp_t, ln_next),
    FIELD(lwp, lwp_t, ln_lid),
    FIELD(lwp, lwp_t, l_stat),
    FIELD(lwp, lwp_t, l_name),
    FIELD(lwp, lwp_t, l_priority),
    FIELD(lwp, lwp_t, l_cpu),
    FIELD(lwp, lwp_t, l_ncsw),
    FIELD(lwp, lwp_t, l_slept),
    FIELD(lwp, lwp_t, l_wchan),
    FIELD(lwp, lwp_t, l_wmesg),
    FIELD(lwp, lwp_t, l_syncobj),
    FIELD(lwp, lwp_t, l_frozen),
    FIELD(lwp, lwp_t, l_proc),
    {"lwp.stack_base", offsetof(lwp_t, l_stack) + offsetof(stack, s_base)},
    {"lwp.stack_size", offsetof(lwp_t, l_stack) + offsetof(stack, s_size)},
    FIELD(vcpu, vcpu_t, vc_tid),
    FIELD(vcpu, vcpu_t, vc_index),
    FIELD(vcpu, vcpu_t, vc_frozen),
    FIELD(syncobj, syncobj, so_name),
    {"proc.pid", offsetof(proc_t, ln_lid)},
};
#undef FIELD
#pragma GCC diagnostic pop

}  // namespace
}  // namespace lwp::kern

// What is said to be a number is an atomic of one.
static_assert(sizeof(lwp::kern::proc0.p_nparts) == sizeof(std::uint32_t) || LWP_EXPLORE);

extern "C" constinit const lwp::kern::debug_info lwp_debug_info = {
    .di_magic = lwp::kern::debug_magic,
    .di_version = lwp::kern::debug_version,
    .di_words = static_cast<std::uint32_t>(std::size(lwp::kern::words)),
    .di_word = lwp::kern::words,
    .di_parts = &lwp::kern::proc0_parts,
    .di_nparts = &lwp::kern::proc0.p_nparts,
};
