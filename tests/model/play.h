// SPDX-License-Identifier: BSD-2-Clause
//
// What the parts of the driver share: who is there, which step is to be done, and by whom.  Put back before each sequence, like all else.
//
//   driver.cpp    whose turn it is, and which step comes next
//   calls.cpp     does it in the library
//   compare.cpp   does it in the model, and compares the two
#pragma once

#include "explore/world.h"
#include "model/driver.h"
#include "model/model.h"
#include "proc/proc.h"

#include <cstddef>

namespace lwp::model {

constexpr lwpid_t nobody = 0x3fffffff;

inline exchange *x;  // set again by each sequence

struct member {
	lwpid_t lid = 0;
	bool at_mailbox = false;
	unsigned done = 0;
	int result = 0;
	lwpid_t departed = 0;
	unsigned handled[3] = {};
	unsigned hooks = 0;
	int slot = 0;
};
inline member members[lwps_most];
alignas(proc) inline std::byte model_memory[sizeof(proc)];

inline proc &m() { return *reinterpret_cast<proc *>(model_memory); }

inline unsigned next;         // step to be done
inline int actor;             // by this slot, or outside
inline step now_step;         // the chosen one,
inline lwpid_t target;        // about whom,
inline int fresh;             // into which slot the new one goes
inline kern::nanotime until;  // its deadline
inline int outcome;           // of one done outside

inline const operation &about(op o) { return operations[static_cast<std::size_t>(o)]; }

inline kern::vcpu_t *here() { return kern::curcpu_or_null(); }

inline kern::lwp_t *real(lwpid_t lid) { return kern::lwp_find_any(&kern::proc0, lid); }

/// What an LWP of the library is in; null: nobody.
row row_of(const kern::lwp_t *);
/// Everybody who can run stands at his mailbox.
bool at_rest();
/// Does the step in the model, as that slot.
void apply(int slot);
/// The two say the same, or the sequence has failed.
void compare();

/// Does what does not block; `l` may be an idle LWP.
int call_now(kern::lwp_t *l);
/// Does any of them, by an LWP.  Its results are what the application sees.
int call_as(member *who);

/// Where an LWP stands that has nothing to do; returns when it is to end.
void mailbox(member *who);

}  // namespace lwp::model
