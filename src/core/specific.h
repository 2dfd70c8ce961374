// SPDX-License-Identifier: BSD-2-Clause
//
// LWP-specific data: one pointer for each key and LWP, in two layers with different rules.
//
//              specific_*: NetBSD's specificdata(9)            tss_*: C11's tss_t, pthread_key_t
//   key        a small number, the lowest free one             names its generation: a deleted one stays unknown
//   delete     destroys the value of every LWP                 destroys nothing
//   exit       one pass, keys ascending, all reads NULL        tss_rounds passes at most, while values remain
//   bad key    set: fatal; get: NULL                           set, delete: EINVAL; get: NULL
//
// get and set are for the LWP that owns the specref, or who knows that it sets nothing meanwhile, and take no lock.  Destructors are called without any lock held, so they may
// block, and may call everything here; not to return is to call specific_fini() once more, which goes on with what is left.  No exceptions.  Takes: specific_lock (leaf), for keys and the list
// of containers, never while it allocates or calls out.  Blocks nowhere by itself, never throws.
#pragma once

#include "base/atomic.h"

namespace lwp::kern {

/// What one LWP keeps: allocated at its first set.
struct specdata;

/// What every LWP embeds.
struct specref {
	atomic<specdata *> sr_data{nullptr};  // !: read and written by the LWP itself only, all orders relaxed
	specdata *sr_leaving = nullptr;       // !: what specific_fini() is in the middle of
	unsigned sr_rounds = 0;               // !: and how many passes it has made
};

/// Destructor passes over the tss values of an exiting LWP (LWP_TSS_DTOR_ITERATIONS).
inline constexpr unsigned tss_rounds = 4;

/// Keys of one layer that can exist at a time; more of them is ENOMEM.
inline constexpr unsigned specific_keys_max = 1U << 16;

/// Makes the lowest free key.  `dtor` may be null.  Returns 0 | ENOMEM
[[nodiscard]] int specific_key_create(unsigned *key, void (*dtor)(void *)) noexcept;

/// Calls the destructor for the value of every LWP, in the caller, then frees the key.  Nobody may set it meanwhile.
/// A value that an exiting LWP took first is destroyed by that LWP, maybe after this has returned.
void specific_key_delete(unsigned key) noexcept;

/// The value, null if never set or no such key.
[[nodiscard]] void *specific_get(const specref &, unsigned key) noexcept;

/// Replaces the value; the old one is not destroyed.  Fatal if there is no such key.  Returns 0 | ENOMEM, the old value stays
[[nodiscard]] int specific_set(specref &, unsigned key, void *value) noexcept;

/// Returns 0 | ENOMEM.  No key is 0.
[[nodiscard]] int tss_create(unsigned *key, void (*dtor)(void *)) noexcept;

/// All values of the key are forgotten, none is destroyed.  Returns 0 | EINVAL no such key
[[nodiscard]] int tss_delete(unsigned key) noexcept;

/// The value, null if never set or no such key.
[[nodiscard]] void *tss_get(const specref &, unsigned key) noexcept;

/// Returns 0 | EINVAL no such key | ENOMEM, the old value stays
[[nodiscard]] int tss_set(specref &, unsigned key, void *value) noexcept;

/// Destroys everything: tss values first, then the others.  In the exiting LWP; destructors may block.  Empty afterwards.
/// What a destructor sets after the last pass that would destroy it is dropped.
void specific_fini(specref &) noexcept;

/// Whether specific_fini() has nothing to do.
[[nodiscard]] inline bool specific_empty(const specref &ref) noexcept {
	return ref.sr_data.load(std::memory_order_relaxed) == nullptr && ref.sr_leaving == nullptr;  // relaxed: only the LWP itself writes it
}

}  // namespace lwp::kern
