// SPDX-License-Identifier: BSD-2-Clause
//
// The C calls about scheduling: arguments are checked here, the work is done below, and a caller that is worse off gives way as it leaves.
#include "api/errno.h"
#include "proc/lwp_life.h"
#include "proc/runtime.h"

#include <lwp/sched.h>

#include <cerrno>
#include <unistd.h>

static_assert(SCHED_OTHER == static_cast<int>(lwp::kern::sched_class::other) &&
    SCHED_FIFO == static_cast<int>(lwp::kern::sched_class::fifo) && SCHED_RR == static_cast<int>(lwp::kern::sched_class::rr));

namespace lwp::kern {
namespace {

bool ours(pid_t pid) noexcept { return pid == 0 || pid == ::getpid(); }

}  // namespace
}  // namespace lwp::kern

using namespace lwp::kern;

extern "C" {

int _sched_setparam(pid_t pid, lwpid_t lid, int policy, const struct sched_param *param) {
	lwp_t *l = curlwp();
	if (param == nullptr) {
		return c_result(EINVAL);
	}
	const int error = ours(pid) ? lwp_setparam(l, lid, policy, param->sched_priority) : ESRCH;
	lwp_userret(l);
	return c_result(error);
}

int _sched_getparam(pid_t pid, lwpid_t lid, int *policy, struct sched_param *param) {
	lwp_t *l = curlwp();
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
	lwp_t *l = curlwp();
	if (priority == -2) {
		return l->l_protdepth == 0 ? c_result(ENOENT) : l->l_protpri - pri_user_rt;
	}
	const int error = lwp_protect(l, priority);
	lwp_userret(l);
	return c_result(error);
}

}  // extern "C"
