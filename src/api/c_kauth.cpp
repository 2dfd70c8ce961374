// SPDX-License-Identifier: BSD-2-Clause
//
// The calls of lwp/kauth.h.
#include "api/errno.h"
#include "proc/cred.h"
#include "proc/lwp_life.h"
#include "proc/runtime.h"

#include <lwp/credential.hpp>
#include <lwp/kauth.h>

#include <cerrno>

using namespace lwp::kern;

static_assert(LWP_PRIV_SCHED == priv_sched && LWP_PRIV_AFFINITY == priv_affinity && LWP_PRIV_SETCRED == priv_setcred);

namespace {

/// Whether nobody but the caller can see it.
bool private_yet(const kauth_cred *cr) noexcept {
	// acquire: pairs with the release of who gave the last other reference back
	return !cr->cr_published.load(std::memory_order_relaxed) && cr->cr_refcnt.load(std::memory_order_acquire) == 1;
}

}  // namespace

extern "C" {

kauth_cred_t kauth_cred_alloc(void) {
	kauth_cred *cr = cred_alloc();
	if (cr == nullptr) {
		set_errno(ENOMEM);
	}
	return cr;
}

kauth_cred_t kauth_cred_dup(kauth_cred_t cred) {
	kauth_cred *cr = kauth_cred_alloc();
	if (cr != nullptr) {
		cr->cr_uid = cred->cr_uid;
		cr->cr_privs = cred->cr_privs;
	}
	return cr;
}

void kauth_cred_hold(kauth_cred_t cred) { (void)cred_hold(cred); }

void kauth_cred_free(kauth_cred_t cred) {
	if (cred != nullptr) {
		cred_free(cred);
	}
}

unsigned kauth_cred_getrefcnt(kauth_cred_t cred) { return cred->cr_refcnt.load(std::memory_order_relaxed); }  // relaxed: a number
uid_t kauth_cred_getuid(kauth_cred_t cred) { return cred->cr_uid; }
uint32_t kauth_cred_getprivs(kauth_cred_t cred) { return cred->cr_privs; }
void *kauth_cred_getdata(kauth_cred_t cred) { return cred->cr_data; }

int kauth_cred_setuid(kauth_cred_t cred, uid_t uid) {
	if (!private_yet(cred)) {
		return c_result(EBUSY);
	}
	cred->cr_uid = uid;
	return 0;
}

int kauth_cred_setprivs(kauth_cred_t cred, uint32_t privs) {
	if (!private_yet(cred)) {
		return c_result(EBUSY);
	}
	cred->cr_privs = privs;
	return 0;
}

int kauth_cred_setdata(kauth_cred_t cred, void *data, void (*destroy)(void *)) {
	if (!private_yet(cred)) {
		return c_result(EBUSY);
	}
	if (cred->cr_destroy != nullptr) {
		cred->cr_destroy(cred->cr_data);
	}
	cred->cr_data = data;
	cred->cr_destroy = destroy;
	return 0;
}

kauth_cred_t kauth_cred_get(void) { return lwp_cred(in_library()); }

int lwp_proc_setcred(kauth_cred_t cred) {
	const in_library l;
	const int error = cred == nullptr ? EINVAL : proc_setcred(l, cred);
	lwp_userret(l);
	return c_result(error);
}

int kauth_authorize(uint32_t privs) { return c_result(lwp_authorize(in_library(), privs)); }

}  // extern "C"

namespace lwp {

int credential::publish_error() const noexcept {
	const in_library l;
	const int error = proc_setcred(l, cred_);
	lwp_userret(l);
	return error;
}

}  // namespace lwp
