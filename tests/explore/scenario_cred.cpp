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

// Replaced between the look at it and the reference: nobody but the proc has it then.
SCENARIO(cred_replaced_before_it_is_had, 2) {
	watched first(1);
	watched second(2);
	lwpid_t a = start(1, [] {
		for (int i = 0; i < 3; i++) {
			(void)use();
		}
	});
	race();
	first.publish_and_forget();
	second.publish_and_forget();
	join(a);
	userret();
	EXPECT(first.destroyed == 1 && second.destroyed == 0);
	EXPECT(proc_setcred(me(), &cred0) == 0);
	userret();
	EXPECT(second.destroyed == 1);
}

// Replaced as it is taken: who took the first is told of the second.
SCENARIO(cred_replaced_as_it_is_taken, 2) {
	watched first(1);
	watched second(2);
	kern::atomic<bool> told{false};
	uid_t judged = 77;
	lwpid_t a = start(1, [&] {
		(void)use();
		if (told.load()) {
			judged = use();
		}
	});
	while (awaiting_arm() == 0) {
		let_others();
	}
	first.publish_and_forget();  // it has passed the boundary at its start, so it has to be told
	race();
	second.publish_and_forget();
	told.store(true);
	join(a);
	EXPECT(judged == 77 || judged == 2);
	EXPECT(proc_setcred(me(), &cred0) == 0);
	userret();
	EXPECT(first.destroyed == 1 && second.destroyed == 1);
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

// Born after it, of one that has not taken it yet: it has the new one, and nobody tells it.
SCENARIO(cred_of_one_born_after_it, 2) {
	watched w(1);
	kern::atomic<bool> told{false};
	bool was = false;
	uid_t has = 77;
	lwpid_t child = 0;
	lwpid_t a = start(1, [&] {
		was = told.load();
		child = start(anywhere, [&] { has = use(); }, {.waits = false});
	});
	race();
	w.publish_and_forget();
	told.store(true);
	join(a);
	join(child);
	EXPECT(was ? has == 1 : has <= 1);
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
