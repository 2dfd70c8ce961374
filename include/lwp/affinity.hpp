// SPDX-License-Identifier: BSD-2-Clause
//
// Where LWPs run: sets of virtual CPUs, the affinity of living LWPs, processor sets.  <lwp/sched.h> and <lwp/pset.h> say what each does and when an LWP
// moves.
#pragma once

#include <lwp/pset.h>

#include <bit>
#include <cstdint>
#include <initializer_list>
#include <stdexcept>

namespace lwp {

/// Some of the virtual CPUs.  A value.
class vcpu_set {
public:
	/// None.
	constexpr vcpu_set() noexcept : set_{} {}
	/// Throws std::out_of_range for a number that no vCPU can have, LWP_VCPU_MAX up; so does whatever else takes one.
	constexpr vcpu_set(std::initializer_list<unsigned> vcpus) : vcpu_set() {
		for (unsigned v : vcpus) {
			insert(v);
		}
	}
	/// What calls of sched.h gave.
	explicit constexpr vcpu_set(const cpuset_t &set) noexcept : set_(set) {}
	/// Those from `first` on, up to but without `last`.
	static constexpr vcpu_set range(unsigned first, unsigned last) {
		vcpu_set s;
		for (unsigned v = first; v < last; v++) {
			s.insert(v);
		}
		return s;
	}

	/// Puts one in, takes one out, or all.  Throw as above.
	constexpr vcpu_set &insert(unsigned vcpu) {
		set_.cs_bits[word(vcpu)] |= bit(vcpu);
		return *this;
	}
	constexpr vcpu_set &erase(unsigned vcpu) {
		set_.cs_bits[word(vcpu)] &= ~bit(vcpu);
		return *this;
	}
	constexpr void clear() noexcept { set_ = {}; }
	/// Whether that one is in it; false for a number that no vCPU can have.
	[[nodiscard]] constexpr bool contains(unsigned vcpu) const noexcept {
		return vcpu < LWP_VCPU_MAX && (set_.cs_bits[vcpu / 64] & bit(vcpu)) != 0;
	}
	/// How many are in it.
	[[nodiscard]] constexpr bool empty() const noexcept { return size() == 0; }
	[[nodiscard]] constexpr unsigned size() const noexcept {
		int n = 0;
		for (std::uint64_t w : set_.cs_bits) {
			n += std::popcount(w);
		}
		return static_cast<unsigned>(n);
	}

	/// Those that are in one of the two, or in both.
	friend constexpr vcpu_set operator|(vcpu_set a, const vcpu_set &b) noexcept {
		for (unsigned i = 0; i < words; i++) {
			a.set_.cs_bits[i] |= b.set_.cs_bits[i];
		}
		return a;
	}
	/// Those that are in both.
	friend constexpr vcpu_set operator&(vcpu_set a, const vcpu_set &b) noexcept {
		for (unsigned i = 0; i < words; i++) {
			a.set_.cs_bits[i] &= b.set_.cs_bits[i];
		}
		return a;
	}
	/// Those of `a` that are not in `b`.
	friend constexpr vcpu_set operator-(vcpu_set a, const vcpu_set &b) noexcept {
		for (unsigned i = 0; i < words; i++) {
			a.set_.cs_bits[i] &= ~b.set_.cs_bits[i];
		}
		return a;
	}
	/// The same ones.
	friend constexpr bool operator==(const vcpu_set &a, const vcpu_set &b) noexcept {
		for (unsigned i = 0; i < words; i++) {
			if (a.set_.cs_bits[i] != b.set_.cs_bits[i]) {
				return false;
			}
		}
		return true;
	}

	/// For calls of sched.h.
	[[nodiscard]] constexpr const cpuset_t &native() const noexcept { return set_; }

private:
	static constexpr unsigned words = LWP_VCPU_MAX / 64;
	static constexpr unsigned word(unsigned vcpu) {
		if (vcpu >= LWP_VCPU_MAX) {
			throw std::out_of_range("lwp::vcpu_set");
		}
		return vcpu / 64;
	}
	static constexpr std::uint64_t bit(unsigned vcpu) noexcept { return std::uint64_t{1} << (vcpu % 64); }

	cpuset_t set_;
};

/// Where an LWP may run, named by its native_handle(); the empty set if it has no affinity.  Throws std::system_error: ESRCH no such living LWP, or 0.
LWP_API vcpu_set affinity(lwpid_t);
/// As _sched_setaffinity(); the empty set takes an affinity back.  Throws std::system_error: EINVAL | EPERM | ESRCH, also for 0.
LWP_API void affinity(lwpid_t, const vcpu_set &);

namespace this_thread {

/// The same of the caller, which runs on one of these vCPUs when the call returns.
inline vcpu_set affinity() { return lwp::affinity(_lwp_self()); }
inline void affinity(const vcpu_set &vcpus) { lwp::affinity(_lwp_self(), vcpus); }

/// Binds the caller to `vcpus` while it lives, then gives it back what it had.  What the LWP creates meanwhile inherits it for good.
class affinity_scope {
public:
	/// Throws as affinity().
	explicit affinity_scope(const vcpu_set &vcpus) : before_(this_thread::affinity()) { this_thread::affinity(vcpus); }
	~affinity_scope() { (void)_sched_setaffinity(0, _lwp_self(), sizeof(cpuset_t), &before_.native()); }
	affinity_scope(const affinity_scope &) = delete;
	affinity_scope &operator=(const affinity_scope &) = delete;

private:
	vcpu_set before_;
};

}  // namespace this_thread

/// A processor set, which lasts as long as this object.
class LWP_API processor_set {
public:
	/// Of no vCPUs.  Throws std::system_error: ENOMEM.
	processor_set();
	/// Of these.  Throws as assign().
	explicit processor_set(const vcpu_set &vcpus);
	/// Its vCPUs and its LWPs become of the default set.
	~processor_set();
	processor_set(const processor_set &) = delete;
	processor_set &operator=(const processor_set &) = delete;

	/// For calls of pset.h.
	[[nodiscard]] psetid_t native_handle() const noexcept { return id_; }
	/// As pset_assign(): to this set, and back to the default one.  Throws std::system_error: EINVAL | EBUSY | EPERM; release() for a vCPU of another set EINVAL.
	void assign(unsigned vcpu);
	void release(unsigned vcpu);
	/// Those that are in it now.
	[[nodiscard]] vcpu_set vcpus() const;
	/// As pset_bind(): to this set, and back to the default one.  Throws std::system_error: ESRCH | EBUSY | EPERM.
	void bind(lwpid_t);
	static void unbind(lwpid_t);

private:
	psetid_t id_;
};

}  // namespace lwp
