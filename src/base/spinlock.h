// SPDX-License-Identifier: BSD-2-Clause
//
// The lock behind every lock pointer: a spin lock that may be biased to one vCPU.
//
// A plain one is an exchange and a store.  A biased one costs its vCPU two plain stores and a load: the owner says "mine" and looks
// whether the bias was revoked.  Anybody else takes the plain word first, revokes the bias, makes the owner's kernel thread pass a
// barrier (membarrier(2): some microseconds) and waits until "mine" is gone.  From then on the lock is plain for everybody until the
// owner has taken it often enough in a row without meeting anybody; each revocation doubles what "often enough" means, so a lock that
// is really shared soon is a plain spin lock and a private one is free.
//
// Promises mutual exclusion and acquire/release order.  Holders never sleep in the kernel by their own will; a waiter gives its
// time slice away after a while, because the holder's kernel thread may have lost its CPU.  Takes nothing, allocates nothing.
#pragma once

#include "base/assert.h"
#include "base/atomic.h"
#include "base/config.h"
#include "base/cpu.h"
#include "base/lockrank.h"

#include <cstdint>

namespace lwp::kern {

class spinlock {
public:
	constexpr spinlock(lock_rank rank, const char *name) noexcept : rank_(rank), name_(name) {}
	spinlock(const spinlock &) = delete;
	spinlock &operator=(const spinlock &) = delete;

	/// From now on `owner` takes it by plain stores.  Before anybody uses the lock.  No effect where membarrier(2) does not work.
	void bias(vcpu_t *owner) noexcept;
	/// The same, but plain until `owner` has taken it often enough in a row: a lock that may be short-lived or shared pays no barrier.
	void bias_when_earned(vcpu_t *owner) noexcept;

	LWP_ALWAYS_INLINE void lock() noexcept { lock(curcpu_or_null()); }
	LWP_ALWAYS_INLINE void unlock() noexcept { unlock(curcpu_or_null()); }
	bool try_lock() noexcept { return try_lock(curcpu_or_null()); }

	/// `me` is the vCPU of the calling kernel thread, or null if it has none.
	LWP_ALWAYS_INLINE void lock(vcpu_t *me) noexcept {
#if LWP_DEBUG
		lockrank_wanted(this);
#endif
		if (LWP_UNLIKELY(!lock_biased(me))) {
			lock_plain(me);
		}
#if LWP_DEBUG
		lockrank_acquired(this);
#endif
	}

	/// The same for a lock that nobody ever biases, like those of a table.
	LWP_ALWAYS_INLINE void lock_unbiased(vcpu_t *me) noexcept {
		LWP_ASSERT(bias_ == nobody);
#if LWP_DEBUG
		lockrank_wanted(this);
#endif
		if (LWP_UNLIKELY(word_.exchange(1, std::memory_order_acquire) != 0)) {  // pairs with the release store in unlock()
			lock_plain(me);
		}
#if LWP_DEBUG
		lockrank_acquired(this);
#endif
	}

	/// Takes it if that is as good as free, as its own vCPU may: then true.  Calls nothing.
	[[nodiscard]] LWP_ALWAYS_INLINE bool lock_own(vcpu_t *me) noexcept {
#if LWP_DEBUG
		lockrank_wanted(this);
#endif
		if (!lock_biased(me)) {
			return false;
		}
#if LWP_DEBUG
		lockrank_acquired(this);
#endif
		return true;
	}

	/// By the kernel thread that locked it, not necessarily by the LWP that did.
	LWP_ALWAYS_INLINE void unlock(vcpu_t *me) noexcept {
#if LWP_DEBUG
		lockrank_released(this);
#endif
		if (LWP_LIKELY(bias_ == key(me)) && LWP_LIKELY(mine_.load(std::memory_order_relaxed) != 0)) {  // relaxed: only we write it
			mine_.store(0, std::memory_order_release);                                                 // pairs with the acquire in revoke()
			return;
		}
		word_.store(0, std::memory_order_release);  // pairs with the acquire exchange in lock_plain()
	}

	/// After lock_own(); unlock() does as well.
	LWP_ALWAYS_INLINE void unlock_own() noexcept {
#if LWP_DEBUG
		lockrank_released(this);
#endif
		mine_.store(0, std::memory_order_release);  // pairs with the acquire in revoke()
	}

	bool try_lock(vcpu_t *me) noexcept;

	/// Whether somebody holds it; debug builds: whether the calling kernel thread does.
	[[nodiscard]] bool held() const noexcept;
	[[nodiscard]] lock_rank rank() const noexcept { return rank_; }
	[[nodiscard]] const char *name() const noexcept { return name_; }

private:
	static constexpr std::uintptr_t nobody = 1;  // no vCPU has this address
	static std::uintptr_t key(vcpu_t *me) noexcept { return reinterpret_cast<std::uintptr_t>(me); }

	LWP_ALWAYS_INLINE bool lock_biased(vcpu_t *me) noexcept {
		if (LWP_UNLIKELY(bias_ != key(me))) {
			return false;
		}
		mine_.store(1, std::memory_order_relaxed);
		// Between this store and the load the CPU needs no barrier of ours: who revokes makes us pass one (membarrier) after it has
		// set revoked_ and before it reads mine_.  Either we see revoked_, or it sees mine_.
		fence_compiler(std::memory_order_seq_cst);
		if (LWP_LIKELY(revoked_.load(std::memory_order_acquire) == 0)) {  // pairs with the release in settle()
			return true;
		}
		mine_.store(0, std::memory_order_release);
		return false;
	}

	void lock_plain(vcpu_t *me) noexcept;
	void settle(vcpu_t *me) noexcept;
	void revoke() noexcept;

	std::uintptr_t bias_ = nobody;     // (: who may take it by plain stores
	atomic<std::uint8_t> mine_{0};     // written by that vCPU only: it holds the lock, or is about to look whether it may
	atomic<std::uint8_t> revoked_{0};  // written under word_: plain for everybody
	std::uint16_t quiet_ = 0;          // word_: times the owner took it in a row since somebody else did
	std::uint16_t enough_ = 64;        // word_: how often gives the bias back
	lock_rank rank_;
	atomic<std::uint32_t> word_{0};  // 1: held the plain way
	const char *name_;
};

/// Holds a lock for a scope, with the vCPU known: one address computation less than std::lock_guard.
class lock_scope {
public:
	lock_scope(spinlock &lock, vcpu_t *me) noexcept : lock_(lock), me_(me) { lock_.lock(me_); }
	~lock_scope() { lock_.unlock(me_); }
	lock_scope(const lock_scope &) = delete;
	lock_scope &operator=(const lock_scope &) = delete;

private:
	spinlock &lock_;
	vcpu_t *me_;
};

LWP_ALWAYS_INLINE void cpu_relax() noexcept {
#if LWP_EXPLORE
	explore::point(explore::op::relax, nullptr, __FILE__, __LINE__);
#elif defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	asm volatile("isb" ::: "memory");
#endif
}

}  // namespace lwp::kern
