// SPDX-License-Identifier: BSD-2-Clause
//
// Credentials: one is published while others read theirs, take it at their boundary, are born and end.
#include "explore/world.h"
#include "proc/cred.h"

using namespace lwp;
using namespace lwp::kern;
using namespace lwp::explore;

namespace {

/// On the scenario's stack, so that whoever looks at one that is gone can tell.
struct watched {
	kauth_cred *cr = cred_alloc();
	int destroyed = 0;

	explicit watched(uid_t uid) {
		cr->cr_uid = uid;
		cr->cr_privs = ~0U;
		cr->cr_data = this;
		cr->cr_destroy = [](void *w) { static_cast<watched *>(w)->destroyed++; };
	}
	void publish_and_forget() {
		EXPECT(proc_setcred(me(), cr) == 0);
		cred_free(cr);
	}
};

/// What an LWP does with its own: as long as it has it, it is there.
uid_t use() {
	const kauth_cred *cr = lwp_cred(me());
	if (const auto *w = static_cast<const watched *>(cr->cr_data); w != nullptr) {
		now();  // a point
		EXPECT(w->destroyed == 0);
	}
	return cr->cr_uid;
}

}  // namespace

// Replaced while another takes it at its boundary: what an LWP has stays until it lets go, and each goes once.
SCENARIO(cred_replaced_while_taken, 3) {
	watched first(1);
	watched second(2);
	first.publish_and_forget();
	lwpid_t a = start(1, [] {
		for (int i = 0; i < 3; i++) {
			(void)use();
			userret();
		}
	});
	lwpid_t b = start(2, [] {
		(void)use();
		userret();
		(void)use();
	});
	race();
	second.publish_and_forget();
	userret();
	(void)use();
	join(a);
	join(b);
	EXPECT(first.destroyed == 1 && second.destroyed == 0);
	EXPECT(proc_setcred(me(), &cred0) == 0);
	userret();
	EXPECT(second.destroyed == 1);
}

// Two publish: the last is the proc's and everybody's, and nobody keeps the other one.
SCENARIO(cred_two_publish, 3) {
	watched first(1);
	watched second(2);
	uid_t seen = 0;
	lwpid_t a = start(1, [&] { first.publish_and_forget(); });
	lwpid_t b = start(2, [&] {
		(void)use();
		seen = use();
	});
	race();
	second.publish_and_forget();
	join(a);
	join(b);
	userret();
	EXPECT(seen <= 2);
	EXPECT(use() == proc0.p_cred->cr_uid);
	EXPECT(first.destroyed + second.destroyed == 1);
	EXPECT(proc_setcred(me(), &cred0) == 0);
	userret();
	EXPECT(first.destroyed == 1 && second.destroyed == 1);
}

// Published while one is born: it has the old one and is told, or has the new one.
SCENARIO(cred_against_birth, 2) {
	watched w(1);
	uid_t born_with = 77;
	lwpid_t child = 0;
	lwpid_t a = start(1, [&] { child = start(anywhere, [&] { born_with = use(); }, {.waits = false}); });
	race();
	w.publish_and_forget();
	join(a);
	join(child);
	userret();
	EXPECT(born_with == 0 || born_with == 1);
	EXPECT(use() == 1);
	EXPECT(proc_setcred(me(), &cred0) == 0);
	userret();
	EXPECT(w.destroyed == 1);
}

// Who learns of it is judged by it, without a boundary between.
SCENARIO(cred_who_knows_is_judged, 2) {
	watched w(1);
	kern::atomic<bool> told{false};
	uid_t judged = 77;
	lwpid_t a = start(1, [&] {
		(void)use();
		if (told.load()) {
			judged = use();
		}
	});
	race();
	w.publish_and_forget();
	told.store(true);
	join(a);
	EXPECT(judged == 77 || judged == 1);
	EXPECT(proc_setcred(me(), &cred0) == 0);
	userret();
}

// An LWP that ends lets go, whenever it is published.
SCENARIO(cred_against_exit, 3) {
	watched first(1);
	watched second(2);
	first.publish_and_forget();
	lwpid_t a = start(1, [] {});
	lwpid_t b = start(2, [] { userret(); });
	race();
	second.publish_and_forget();
	join(a);
	join(b);
	userret();
	EXPECT(first.destroyed == 1);
	EXPECT(proc_setcred(me(), &cred0) == 0);
	userret();
	EXPECT(second.destroyed == 1);
}
