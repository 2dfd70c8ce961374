// SPDX-License-Identifier: BSD-2-Clause
//
// What LWPs have used, in the public form.
#include "api/errno.h"
#include "proc/lwp_life.h"
#include "proc/runtime.h"
#include "sched/load.h"

#include <lwp/usage.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>

using namespace lwp::kern;

namespace {

static_assert(LWP_LSIDL == static_cast<int>(lwp_stat::idl) && LWP_LSRUN == static_cast<int>(lwp_stat::run) &&
    LWP_LSSLEEP == static_cast<int>(lwp_stat::sleep) && LWP_LSSTOP == static_cast<int>(lwp_stat::stop) &&
    LWP_LSZOMB == static_cast<int>(lwp_stat::zomb) && LWP_LSONPROC == static_cast<int>(lwp_stat::onproc) &&
    LWP_LSSUSPENDED == static_cast<int>(lwp_stat::suspended));

unsigned pctcpu(std::uint64_t share) noexcept { return static_cast<unsigned>(share * LWP_FSCALE >> cpu_account::shift); }

timeval to_timeval(nanotime t) noexcept {
	return {static_cast<time_t>(t / 1'000'000'000U), static_cast<suseconds_t>(t % 1'000'000'000U / 1000)};
}

}  // namespace

extern "C" {

int lwp_info(lwpid_t lid, struct lwpinfo *info) {
	const in_library l;
	if (info == nullptr) {
		return c_result(EINVAL);
	}
	lwp_facts f;
	if (int error = lwp_tell(l, lid, &f)) {
		return c_result(error);
	}
	*info = {};
	info->li_lid = f.lid;
	info->li_stat = static_cast<int>(f.stat);
	info->li_cpu = f.vcpu;
	info->li_policy = static_cast<int>(f.policy);
	info->li_priority = f.given;
	info->li_cpriority = f.now;
	info->li_psid = f.psid;
	info->li_detached = f.detached ? 1 : 0;
	info->li_rtime = f.rtime;
	info->li_nvcsw = f.nvcsw;
	info->li_nivcsw = f.nivcsw;
	info->li_pctcpu = pctcpu(f.share);
	std::memcpy(info->li_name, f.name, sizeof(f.name));
	std::memcpy(info->li_wmesg, f.wmesg, sizeof(f.wmesg));
	return 0;
}

int lwp_proc_info(struct procinfo *info) {
	const in_library l;
	if (info == nullptr) {
		return c_result(EINVAL);
	}
	proc_facts f;
	proc_tell(l, &f);
	timespec ts{};
	(void)::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	*info = {};
	info->pi_nlwps = f.nlwps;
	info->pi_rtime = f.rtime;
	info->pi_cputime = static_cast<std::uint64_t>(ts.tv_sec) * 1'000'000'000U + static_cast<std::uint64_t>(ts.tv_nsec);
	info->pi_nvcsw = f.nvcsw;
	info->pi_nivcsw = f.nivcsw;
	info->pi_pctcpu = pctcpu(f.share);
	return 0;
}

int lwp_getrusage(int who, struct rusage *usage) {
	const in_library l;
	if (usage == nullptr || (who != LWP_RUSAGE_SELF && who != LWP_RUSAGE_LWP)) {
		return c_result(EINVAL);
	}
	*usage = {};
	if (who == LWP_RUSAGE_LWP) {
		lwp_facts f;
		if (int error = lwp_tell(l, 0, &f)) {
			return c_result(error);
		}
		usage->ru_utime = to_timeval(f.rtime);
		usage->ru_nvcsw = static_cast<long>(f.nvcsw);
		usage->ru_nivcsw = static_cast<long>(f.nivcsw);
		return 0;
	}
	(void)::getrusage(RUSAGE_SELF, usage);
	proc_facts f;
	proc_tell(l, &f);
	usage->ru_nvcsw = static_cast<long>(f.nvcsw);
	usage->ru_nivcsw = static_cast<long>(f.nivcsw);
	return 0;
}

int lwp_getloadavg(double loadavg[], int nelem) {
	const in_library l;
	if (loadavg == nullptr || nelem < 0) {
		return c_result(EINVAL);
	}
	const load_average load = sched_load(now());
	const int n = std::min(nelem, static_cast<int>(load_average::averages));
	for (int i = 0; i < n; i++) {
		loadavg[i] = static_cast<double>(load.la_load[i]) / static_cast<double>(load_average::one);
	}
	return n;
}

int lwp_account(int on) {
	const in_library l;
	return lwp::kern::lwp_account(on != 0) ? 1 : 0;
}

}  // extern "C"
