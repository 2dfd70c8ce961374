// SPDX-License-Identifier: BSD-2-Clause
//
// The C calls about scheduling: arguments are checked here, the work is done below, and a caller that is worse off gives way as it leaves.
#include "api/errno.h"
#include "proc/lwp_life.h"
#include "proc/runtime.h"

#include <lwp/pset.h>
#include <lwp/sched.h>

#include <cerrno>
#include <cstring>
#include <new>
#include <unistd.h>

static_assert(PS_NONE == lwp::kern::pset_none && PS_MYID == lwp::kern::pset_mine && PS_QUERY == lwp::kern::pset_query);
static_assert(SCHED_OTHER == static_cast<int>(lwp::kern::sched_class::other) &&
    SCHED_FIFO == static_cast<int>(lwp::kern::sched_class::fifo) && SCHED_RR == static_cast<int>(lwp::kern::sched_class::rr));

namespace lwp::kern {
namespace {

bool ours(pid_t pid) noexcept { return pid == 0 || pid == ::getpid(); }

static_assert(LWP_VCPU_MAX == vcpu_max && sizeof(cpuset_t) == sizeof(vcpu_mask));

}  // namespace
}  // namespace lwp::kern

using namespace lwp::kern;

extern "C" {

int _sched_setparam(pid_t pid, lwpid_t lid, int policy, const struct sched_param *param) {
	const in_library l;
	if (param == nullptr) {
		return c_result(EINVAL);
	}
	const int error = ours(pid) ? lwp_setparam(l, lid, policy, param->sched_priority) : ESRCH;
	lwp_userret(l);
	return c_result(error);
}

int _sched_getparam(pid_t pid, lwpid_t lid, int *policy, struct sched_param *param) {
	const in_library l;
	int its_policy = 0;
	int its_priority = 0;
	const int error = ours(pid) ? lwp_getparam(l, lid, &its_policy, &its_priority) : ESRCH;
	if (error == 0 && policy != nullptr) {
		*policy = its_policy;
	}
	if (error == 0 && param != nullptr) {
		param->sched_priority = its_priority;
	}
	return c_result(error);
}

int _sched_protect(int priority) {
	const in_library l;
	if (priority == -2) {
		return l->l_protdepth == 0 ? c_result(ENOENT) : l->l_protpri - pri_user_rt;
	}
	const int error = lwp_protect(l, priority);
	lwp_userret(l);
	return c_result(error);
}

cpuset_t *cpuset_create(void) { return new (std::nothrow) cpuset_t{}; }

void cpuset_destroy(cpuset_t *set) { delete set; }

void cpuset_zero(cpuset_t *set) { *set = {}; }

int cpuset_set(cpuid_t vcpu, cpuset_t *set) {
	if (vcpu >= LWP_VCPU_MAX) {
		return -1;
	}
	set->cs_bits[vcpu / 64] |= uint64_t{1} << (vcpu % 64);
	return 0;
}

int cpuset_clr(cpuid_t vcpu, cpuset_t *set) {
	if (vcpu >= LWP_VCPU_MAX) {
		return -1;
	}
	set->cs_bits[vcpu / 64] &= ~(uint64_t{1} << (vcpu % 64));
	return 0;
}

int cpuset_isset(cpuid_t vcpu, const cpuset_t *set) {
	return vcpu >= LWP_VCPU_MAX ? -1 : static_cast<int>(set->cs_bits[vcpu / 64] >> (vcpu % 64) & 1);
}

size_t cpuset_size(const cpuset_t *) { return sizeof(cpuset_t); }

int _sched_setaffinity(pid_t pid, lwpid_t lid, size_t size, const cpuset_t *set) {
	const in_library l;
	if (set == nullptr || size != sizeof(*set)) {
		return c_result(EINVAL);
	}
	vcpu_mask mask;
	std::memcpy(mask.vm_word, set->cs_bits, sizeof(mask.vm_word));
	const int error = ours(pid) ? lwp_setaffinity(l, lid, mask) : ESRCH;
	lwp_userret(l);
	return c_result(error);
}

int _sched_getaffinity(pid_t pid, lwpid_t lid, size_t size, cpuset_t *set) {
	const in_library l;
	if (set == nullptr || size != sizeof(*set)) {
		return c_result(EINVAL);
	}
	vcpu_mask mask;
	const int error = ours(pid) ? lwp_getaffinity(l, lid, &mask) : ESRCH;
	if (error == 0) {
		std::memcpy(set->cs_bits, mask.vm_word, sizeof(mask.vm_word));
	}
	return c_result(error);
}

int pset_create(psetid_t *psid) { return c_result(lwp_pset_create(in_library(), psid)); }

int pset_destroy(psetid_t psid) {
	const in_library l;
	const int error = lwp_pset_destroy(l, psid);
	lwp_userret(l);
	return c_result(error);
}

int pset_assign(psetid_t psid, cpuid_t vcpu, psetid_t *former) {
	const in_library l;
	const int error = lwp_pset_assign(l, psid, vcpu < vcpu_max ? static_cast<unsigned>(vcpu) : vcpu_max, former);
	lwp_userret(l);
	return c_result(error);
}

int pset_bind(psetid_t psid, int type, id_t id, psetid_t *former) {
	const in_library l;
	int error = EINVAL;
	if (type == P_PID) {
		error = id == P_MYID || ours(static_cast<pid_t>(id)) ? lwp_pset_bind(l, psid, 0, former) : ESRCH;
	} else if (type == P_LWPID) {
		// 0 is nobody's id; below it stands for all.
		const lwpid_t lid = id == P_MYID ? lwp_lid(l) : static_cast<lwpid_t>(id);
		error = lid <= 0 ? ESRCH : lwp_pset_bind(l, psid, lid, former);
	}
	lwp_userret(l);
	return c_result(error);
}

}  // extern "C"
