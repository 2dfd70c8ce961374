// SPDX-License-Identifier: BSD-2-Clause
#include "base/spinlock.h"

#include "base/assert.h"
#include "base/sys.h"

namespace lwp::kern {
namespace {

constexpr unsigned pauses_most = 64;         // about a microsecond
constexpr unsigned rounds_before_yield = 8;  // longer than any section of ours: the holder has lost its CPU
constexpr std::uint16_t enough_most = 1U << 15;

bool barrier_works() noexcept {
	// ThreadSanitizer sees no order through membarrier(2): there every lock is plain.
	if (LWP_TSAN) {
		return false;
	}
	static const bool works = sys::membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) == 0;
	return works;
}

// Looks at the lock ever less often.  A waiter that keeps looking takes the lock's cache line, and with it those that the lock covers, from
// the holder at each release; one that stays away lets the holder's vCPU do many short sections in a row at full speed.  What it
// loses by coming late is less than one such transfer saves.
class backoff {
public:
	void wait() noexcept {
		for (unsigned i = 0; i < pauses_; i++) {
			cpu_relax();
		}
		if (pauses_ < pauses_most) {
			pauses_ *= 2;
		} else if (++rounds_ % rounds_before_yield == 0) {
			sys::yield();
		}
	}

private:
	unsigned pauses_ = 4;
	unsigned rounds_ = 0;
};

}  // namespace

void spinlock::bias(vcpu_t *owner) noexcept {
	if (barrier_works()) {
		bias_ = key(owner);
		revoked_.store(0, std::memory_order_relaxed);  // nobody uses the lock yet
		quiet_ = 0;
		enough_ = 64;
	}
}

void spinlock::bias_when_earned(vcpu_t *owner) noexcept {
	bias(owner);
	revoked_.store(1, std::memory_order_relaxed);  // nobody uses the lock yet
}

LWP_NOINLINE void spinlock::lock_plain(vcpu_t *me) noexcept {
	backoff b;
	// acquire: pairs with the release store in unlock()
	while (word_.load(std::memory_order_relaxed) != 0 || word_.exchange(1, std::memory_order_acquire) != 0) {
		b.wait();
	}
	settle(me);
}

bool spinlock::try_lock(vcpu_t *me) noexcept {
	if (bias_ == key(me) && mine_.load(std::memory_order_relaxed) != 0) {  // relaxed: only we write it
		return false;
	}
	if (!lock_biased(me)) {
		if (word_.load(std::memory_order_relaxed) != 0 || word_.exchange(1, std::memory_order_acquire) != 0) {
			return false;
		}
		if (bias_ != nobody && bias_ != key(me)) {
			revoke();
			// The owner may hold it since before; whoever locks next will wait for that, we do not.  acquire: pairs with unlock()
			if (mine_.load(std::memory_order_acquire) != 0) {
				word_.store(0, std::memory_order_release);
				return false;
			}
		}
		settle(me);
	}
#if LWP_DEBUG
	lockrank_acquired(this);
#endif
	return true;
}

/// With word_ held: makes sure that the bias' owner does not hold the lock too.
void spinlock::settle(vcpu_t *me) noexcept {
	if (bias_ == nobody) {
		return;
	}
	if (bias_ != key(me)) {
		quiet_ = 0;
		revoke();
		backoff b;
		while (mine_.load(std::memory_order_acquire) != 0) {  // pairs with the release in unlock() and lock_biased()
			b.wait();
		}
		return;
	}
	if (revoked_.load(std::memory_order_relaxed) != 0 && ++quiet_ >= enough_) {  // relaxed: written under word_, which we hold
		quiet_ = 0;
		enough_ = enough_ >= enough_most ? enough_most : static_cast<std::uint16_t>(enough_ * 2);
		revoked_.store(0, std::memory_order_release);  // pairs with the acquire in lock_biased(): what others did under word_ is seen
	}
}

/// After this the owner takes no other way than ours; it may still hold the lock by its own.
void spinlock::revoke() noexcept {
	if (revoked_.load(std::memory_order_relaxed) != 0) {  // relaxed: written under word_, which we hold
		return;
	}
	revoked_.store(1, std::memory_order_relaxed);  // ordered by the barrier
	long result = sys::membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED);
	for (; result == -ENOMEM; result = sys::membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED)) {
		sys::yield();  // the kernel wanted a few bytes for it and has none at the moment; there is no other way to go on
	}
	LWP_CHECK(result == 0, "membarrier(2) worked at first and now fails");
}

bool spinlock::held() const noexcept {
#if LWP_DEBUG
	return lockrank_holds(this);
#else
	return word_.load(std::memory_order_relaxed) != 0 || mine_.load(std::memory_order_relaxed) != 0;  // relaxed: a hint
#endif
}

}  // namespace lwp::kern
