// SPDX-License-Identifier: BSD-2-Clause
//
// The C++ face of places and usage, over the kernel's calls: an error number becomes an exception.
#include "proc/lwp_life.h"
#include "proc/runtime.h"

#include <lwp/affinity.hpp>
#include <lwp/usage.hpp>

#include <cerrno>
#include <cstring>
#include <system_error>

namespace lwp {

using namespace kern;

namespace {

void check(int error, const char *what) {
	if (error != 0) {
		throw std::system_error(error, std::generic_category(), what);
	}
}

/// The call, then the boundary, then its error.
template <class Call>
void call(const char *what, Call fn) {
	const in_library l;
	const int error = fn(l);
	lwp_userret(l);
	check(error, what);
}

/// 0 would be all LWPs, or the caller.
lwpid_t one(lwpid_t lid, const char *what) {
	check(lid == 0 ? ESRCH : 0, what);
	return lid;
}

double share(std::uint64_t of_one) noexcept { return static_cast<double>(of_one) / static_cast<double>(cpu_account::one); }

}  // namespace

vcpu_set affinity(lwpid_t lid) {
	vcpu_mask mask;
	check(lwp_getaffinity(in_library(), one(lid, "lwp::affinity"), &mask), "lwp::affinity");
	cpuset_t set;
	std::memcpy(set.cs_bits, mask.vm_word, sizeof(set.cs_bits));
	return vcpu_set(set);
}

void affinity(lwpid_t lid, const vcpu_set &vcpus) {
	vcpu_mask mask;
	std::memcpy(mask.vm_word, vcpus.native().cs_bits, sizeof(mask.vm_word));
	call("lwp::affinity", [&](lwp_t *l) { return lwp_setaffinity(l, one(lid, "lwp::affinity"), mask); });
}

processor_set::processor_set() { check(lwp_pset_create(in_library(), &id_), "lwp::processor_set"); }

processor_set::processor_set(const vcpu_set &vcpus) : processor_set() {  // delegated: what throws below destroys it
	for (unsigned v = 0; v < LWP_VCPU_MAX; v++) {
		if (vcpus.contains(v)) {
			assign(v);
		}
	}
}

processor_set::~processor_set() { (void)pset_destroy(id_); }

void processor_set::assign(unsigned vcpu) {
	call("lwp::processor_set::assign", [&](lwp_t *l) { return lwp_pset_assign(l, id_, vcpu, nullptr); });
}

void processor_set::release(unsigned vcpu) {
	call("lwp::processor_set::release", [&](lwp_t *l) {
		int now_in = PS_NONE;
		const int error = lwp_pset_assign(l, PS_QUERY, vcpu, &now_in);
		return error != 0 ? error : now_in != id_ ? EINVAL : lwp_pset_assign(l, PS_NONE, vcpu, nullptr);
	});
}

vcpu_set processor_set::vcpus() const {
	vcpu_set s;
	const in_library l;
	for (unsigned v = 0; v < LWP_VCPU_MAX; v++) {
		int now_in = PS_NONE;
		if (lwp_pset_assign(l, PS_QUERY, v, &now_in) == 0 && now_in == id_) {
			s.insert(v);
		}
	}
	return s;
}

void processor_set::bind(lwpid_t lid) {
	call("lwp::processor_set::bind", [&](lwp_t *l) { return lid == 0 ? ESRCH : lwp_pset_bind(l, id_, lid, nullptr); });
}

void processor_set::unbind(lwpid_t lid) {
	call("lwp::processor_set::unbind", [&](lwp_t *l) { return lid == 0 ? ESRCH : lwp_pset_bind(l, PS_NONE, lid, nullptr); });
}

usage usage_of(lwpid_t lid) {
	lwp_facts f;
	check(lwp_tell(in_library(), one(lid, "lwp::usage_of"), &f), "lwp::usage_of");
	return {std::chrono::nanoseconds(f.rtime), share(f.share), f.nvcsw, f.nivcsw};
}

usage usage_of_process() {
	proc_facts f;
	proc_tell(in_library(), &f);
	return {std::chrono::nanoseconds(f.rtime), share(f.share), f.nvcsw, f.nivcsw};
}

}  // namespace lwp
