// SPDX-License-Identifier: BSD-2-Clause
//
// Regions in which an LWP is not interrupted to let others run.
#include "base/assert.h"
#include "proc/lwp_life.h"
#include "proc/runtime.h"

#include <lwp/lwp.h>

using namespace lwp::kern;

extern "C" {

void lwp_nopreempt_enter(void) {
	lwp_t *l = curlwp();
	l->l_nopreempt++;
	fence_compiler(std::memory_order_seq_cst);  // before all that follows, as a signal handler on this kernel thread sees it
}

void lwp_nopreempt_leave(void) {
	const in_library l;
	LWP_CHECK(l->l_nopreempt != 0, "lwp_nopreempt_leave: the LWP is in no region");
	if (--l->l_nopreempt == 0) {
		lwp_userret(l);
	}
}

}  // extern "C"
