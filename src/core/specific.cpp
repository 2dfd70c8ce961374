// SPDX-License-Identifier: BSD-2-Clause
//
// Why each value of a NetBSD key is destroyed exactly once, by specific_fini() or by specific_key_delete():
//
//   1. Whoever destroys a value has taken it by exchanging it for null.  Two cannot take the same one.
//   2. An exiting LWP's container leaves the LWP first (nobody sets in it again), but stays in `containers` until every value in it
//      has been taken.  So a key_delete that comes while the LWP exits still finds the rest, and when key_delete has been through the
//      list, no container holds a value of the key any more.  Only then is the key free for reuse.
//   3. specific_fini() reads the key's destructor before it takes the value.  If it reads the destructor of a later key with the same
//      number, then that key was created after key_delete had been through the list, and the acquire that read the destructor has made
//      the null there visible: nothing is taken, and the wrong destructor is not called.
//   4. key_delete leaves a cursor in the list while it calls destructors without the lock, so it neither starts again nor loses its
//      place when containers come and go.  New ones are put in at the front, behind the cursor, which is harmless: a set of a key that
//      is being deleted is refused.
//
// The tss layer needs none of this: deleting a key destroys nothing, it only makes the generation of all values wrong.  A container
// without NetBSD values is in no list, and its LWP exits without any lock.
#include "core/specific.h"

#include "base/assert.h"
#include "base/list.h"
#include "base/spinlock.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <new>
#include <utility>

namespace lwp::kern {
namespace {

using dtor_t = void (*)(void *);

struct tss_cell {
	std::uint64_t tc_generation = 0;  // of the key when the value was set; another one: there is no value
	void *tc_value = nullptr;
};

}  // namespace

// !: the owning LWP only | c: written by the owning LWP with specific_lock held, read by it without | v: see the top of this file
struct specdata {
	list_link<specdata> sd_link;                  // under specific_lock: containers with NetBSD values
	std::unique_ptr<atomic<void *>[]> sd_values;  // c: the array; v: the values, by key
	unsigned sd_nvalues = 0;                      // c
	unsigned sd_ncells = 0;                       // !
	std::unique_ptr<tss_cell[]> sd_cells;         // !: by the key's index
	bool sd_listed = false;                       // !
};

namespace {

constinit spinlock specific_lock{lock_rank::leaf, "specific"};
constinit list<specdata, &specdata::sd_link> containers;  // under specific_lock

struct key_slot {
	atomic<std::uint64_t> ks_generation{0};  // written under specific_lock, read without: odd while the key exists
	atomic<dtor_t> ks_dtor{nullptr};         // the same; of the last key that was here
	bool ks_taken = false;                   // under specific_lock: not to be handed out
};

/// The keys of one layer.  Slots are found without a lock: they stay where they are for ever, in segments that double.
class key_table {
public:
	/// The slot, null if there never was such a key.
	[[nodiscard]] key_slot *find(unsigned i) noexcept {
		if (i >= specific_keys_max) {
			return nullptr;
		}
		const unsigned s = segment_of(i);
		key_slot *segment = segment_[s].load(std::memory_order_acquire);  // pairs with the release in add_segment()
		return segment == nullptr ? nullptr : segment + (i - (s == 0 ? 0 : segment_size(s)));
	}
	[[nodiscard]] int create(dtor_t dtor, unsigned *index, std::uint64_t *generation) noexcept;
	void free_locked(unsigned i) noexcept {
		find(i)->ks_taken = false;
		lowest_ = std::min(lowest_, i);
	}

private:
	static constexpr unsigned first_bits = 5;
	static constexpr unsigned segments = 12;
	static constexpr unsigned segment_of(unsigned i) noexcept { return static_cast<unsigned>(std::bit_width(i >> first_bits)); }
	static constexpr unsigned segment_size(unsigned s) noexcept { return 1U << first_bits << (s == 0 ? 0 : s - 1); }
	static_assert(std::bit_width((specific_keys_max - 1) >> first_bits) == segments - 1);

	[[nodiscard]] key_slot *lowest_free_locked() noexcept;
	[[nodiscard]] int add_segment(unsigned s) noexcept;

	key_slot first_[1U << first_bits];
	atomic<key_slot *> segment_[segments] = {first_};  // written under specific_lock, once; read without
	unsigned lowest_ = 0;                              // under specific_lock: all below are taken
};

constinit key_table specific_keys;
constinit key_table tss_keys;

/// Null with lowest_ below the limit: that slot's segment is missing.
key_slot *key_table::lowest_free_locked() noexcept {
	key_slot *slot = nullptr;
	while ((slot = find(lowest_)) != nullptr && slot->ks_taken) {
		lowest_++;
	}
	return slot;
}

int key_table::create(dtor_t dtor, unsigned *index, std::uint64_t *generation) noexcept {
	for (;;) {
		unsigned wanted;
		{
			std::lock_guard guard(specific_lock);
			key_slot *slot = lowest_free_locked();
			wanted = lowest_;
			if (slot != nullptr) {
				slot->ks_taken = true;
				*index = wanted;
				*generation = slot->ks_generation.load(std::memory_order_relaxed) + 1;  // relaxed: written under the lock
				slot->ks_dtor.store(dtor, std::memory_order_release);                   // pairs with the acquires at the two exits
				slot->ks_generation.store(*generation, std::memory_order_release);      // pairs with the acquire in key_generation()
				return 0;
			}
		}
		if (wanted == specific_keys_max || add_segment(segment_of(wanted)) != 0) {
			return ENOMEM;
		}
	}
}

int key_table::add_segment(unsigned s) noexcept {
	std::unique_ptr<key_slot[]> fresh(new (std::nothrow) key_slot[segment_size(s)]);
	if (fresh == nullptr) {
		return ENOMEM;
	}
	std::lock_guard guard(specific_lock);
	if (segment_[s].load(std::memory_order_relaxed) == nullptr) {       // relaxed: written under the lock
		segment_[s].store(fresh.release(), std::memory_order_release);  // pairs with the acquire in find()
	}
	return 0;
}

bool exists(std::uint64_t generation) noexcept { return generation % 2 != 0; }

/// 0 if there never was such a key.
std::uint64_t key_generation(const key_slot *slot) noexcept {
	return slot == nullptr ? 0 : slot->ks_generation.load(std::memory_order_acquire);  // pairs with the release in create()
}

/// Ends the key, which must not be handed out yet.  False if there is none.
bool key_end_locked(key_slot *slot) noexcept {
	const std::uint64_t generation = key_generation(slot);
	if (!exists(generation)) {
		return false;
	}
	slot->ks_generation.store(generation + 1, std::memory_order_release);  // pairs with the acquire in key_generation()
	return true;
}

/// The owner's container, made if there is none.  Null: no memory.
specdata *container(specref &ref) noexcept {
	specdata *data = ref.sr_data.load(std::memory_order_relaxed);  // relaxed, here and below: the owner's own
	if (data == nullptr) {
		data = new (std::nothrow) specdata;
		ref.sr_data.store(data, std::memory_order_relaxed);
	}
	return data;
}

/// At least one above `key`, and so much more that setting n keys costs O(n).
unsigned grown(unsigned size, unsigned key) noexcept { return std::max({key + 1, size * 2, 4U}); }

[[nodiscard]] int grow_values(specdata *data, unsigned key) noexcept {
	const unsigned n = grown(data->sd_nvalues, key);
	std::unique_ptr<atomic<void *>[]> fresh(new (std::nothrow) atomic<void *>[n]);
	if (fresh == nullptr) {
		return ENOMEM;
	}
	std::lock_guard guard(specific_lock);
	for (unsigned i = 0; i < n; i++) {
		// relaxed: key_delete takes values with the lock held, so between copy and swap no value can be taken from the old array
		void *value = i < data->sd_nvalues ? data->sd_values[i].load(std::memory_order_relaxed) : nullptr;
		fresh[i].store(value, std::memory_order_relaxed);
	}
	data->sd_values.swap(fresh);  // the old array goes when the lock has gone: `fresh` was declared before it
	data->sd_nvalues = n;
	if (!std::exchange(data->sd_listed, true)) {
		containers.push_front(data);
	}
	return 0;
}

[[nodiscard]] int grow_cells(specdata *data, unsigned index) noexcept {
	const unsigned n = grown(data->sd_ncells, index);
	std::unique_ptr<tss_cell[]> fresh(new (std::nothrow) tss_cell[n]);
	if (fresh == nullptr) {
		return ENOMEM;
	}
	std::copy_n(data->sd_cells.get(), data->sd_ncells, fresh.get());
	data->sd_cells.swap(fresh);
	data->sd_ncells = n;
	return 0;
}

void free_container(specdata *data) noexcept {
	if (data->sd_listed) {
		std::lock_guard guard(specific_lock);
		containers.remove(data);
	}
	delete data;
}

/// Null if the container has none.  Everybody who takes a value takes it here.
void *take_value(specdata *data, unsigned key) noexcept {
	return key < data->sd_nvalues ? data->sd_values[key].exchange(nullptr) : nullptr;
}

/// Takes the key's value out of every container and destroys it, some at a time: the lock is never held for long.
void sweep(unsigned key, dtor_t dtor) noexcept {
	constexpr unsigned stride = 64;
	void *taken[stride];
	specdata cursor;  // a place in the list; it has no values, so others that sweep pass over it
	specific_lock.lock();
	containers.push_front(&cursor);
	for (specdata *next = &cursor; next != nullptr;) {
		unsigned n = 0;
		next = containers.next(&cursor);
		for (unsigned steps = 0; next != nullptr && steps < stride; steps++, next = containers.next(next)) {
			if (void *value = take_value(next, key); value != nullptr) {
				taken[n++] = value;
			}
		}
		containers.remove(&cursor);
		if (next != nullptr) {
			containers.insert(next, &cursor);
		}
		specific_lock.unlock();
		for (unsigned i = 0; i < n && dtor != nullptr; i++) {
			dtor(taken[i]);
		}
		specific_lock.lock();
	}
	specific_lock.unlock();
}

// ---- exit ------------------------------------------------------------------------------------------------------------------

/// The destructor of the tss key that had this generation; null if it has none or is gone.
dtor_t tss_destructor(unsigned index, std::uint64_t generation) noexcept {
	key_slot *slot = tss_keys.find(index);
	if (slot == nullptr) {
		return nullptr;  // there never was such a key
	}
	dtor_t dtor = slot->ks_dtor.load(std::memory_order_acquire);  // pairs with create(): a later key's destructor shows its generation
	return key_generation(slot) == generation ? dtor : nullptr;
}

/// One pass over the tss values.  False if there was nothing to destroy.
bool tss_pass(specdata *data) noexcept {
	bool called = false;
	for (unsigned i = 0; i < data->sd_ncells; i++) {  // a destructor may set values: the array may grow, and move, each time
		tss_cell &cell = data->sd_cells[i];
		dtor_t dtor = cell.tc_value == nullptr ? nullptr : tss_destructor(i, cell.tc_generation);
		if (dtor != nullptr) {
			called = true;
			dtor(std::exchange(cell.tc_value, nullptr));
		}
	}
	return called;
}

void tss_passes(specref &ref, unsigned &rounds) noexcept {
	specdata *data = ref.sr_data.load(std::memory_order_relaxed);
	while (data != nullptr && rounds < tss_rounds) {
		rounds++;  // before: a destructor may not return
		if (!tss_pass(data)) {
			rounds--;
			break;
		}
	}
}

/// Makes every read null from now on.
specdata *detach(specref &ref) noexcept {
	specdata *data = ref.sr_data.load(std::memory_order_relaxed);
	ref.sr_data.store(nullptr, std::memory_order_relaxed);
	return data;
}

void values_pass(specdata *data) noexcept {
	for (unsigned key = 0; key < data->sd_nvalues; key++) {
		key_slot *slot = specific_keys.find(key);
		if (slot == nullptr) {
			break;  // the array is longer than there ever were keys
		}
		dtor_t dtor = slot->ks_dtor.load(std::memory_order_acquire);  // pairs with create(); before the value is taken: 3. above
		void *value = take_value(data, key);
		if (value != nullptr && dtor != nullptr) {
			dtor(value);
		}
	}
}

}  // namespace

// ---- NetBSD's layer --------------------------------------------------------------------------------------------------------

int specific_key_create(unsigned *key, void (*dtor)(void *)) noexcept {
	std::uint64_t generation;
	return specific_keys.create(dtor, key, &generation);
}

void specific_key_delete(unsigned key) noexcept {
	key_slot *slot = specific_keys.find(key);
	specific_lock.lock();
	const bool existed = key_end_locked(slot);
	specific_lock.unlock();
	if (!existed) {
		fatal("lwp_specific_key_delete: key %u was never made, or has been deleted", key);
	}
	sweep(key, slot->ks_dtor.load(std::memory_order_relaxed));  // relaxed: ours to give away
	std::lock_guard guard(specific_lock);
	specific_keys.free_locked(key);
}

void *specific_get(const specref &ref, unsigned key) noexcept {
	const specdata *data = ref.sr_data.load(std::memory_order_relaxed);
	if (data == nullptr || key >= data->sd_nvalues) {
		return nullptr;
	}
	return data->sd_values[key].load(std::memory_order_relaxed);  // relaxed: what the owner itself set, or null
}

int specific_set(specref &ref, unsigned key, void *value) noexcept {
	if (!exists(key_generation(specific_keys.find(key)))) {
		fatal("lwp_setspecific: key %u was never made, or has been deleted", key);
	}
	specdata *data = container(ref);
	if (data == nullptr || (key >= data->sd_nvalues && grow_values(data, key) != 0)) {
		return ENOMEM;
	}
	data->sd_values[key].store(value, std::memory_order_release);  // pairs with the exchange in take_value(), by key_delete
	return 0;
}

// ---- C11's layer -----------------------------------------------------------------------------------------------------------

// A key is its index and the low bits of its generation, which are odd: so no key is 0, and a deleted one is told from the next one
// with its index, until that index was used 32768 times more.  Values keep the whole generation and are never mistaken.
namespace {

constexpr unsigned index_of(unsigned key) noexcept { return key % specific_keys_max; }
constexpr unsigned tag_of(unsigned key) noexcept { return key / specific_keys_max; }
constexpr unsigned tss_key(unsigned index, std::uint64_t generation) noexcept {
	return index + static_cast<unsigned>(generation) * specific_keys_max;
}

/// The generation of an existing key, 0 if there is no such key.
std::uint64_t tss_generation(const key_slot *slot, unsigned key) noexcept {
	const std::uint64_t generation = key_generation(slot);
	return exists(generation) && tag_of(tss_key(0, generation)) == tag_of(key) ? generation : 0;
}

}  // namespace

int tss_create(unsigned *key, void (*dtor)(void *)) noexcept {
	unsigned index;
	std::uint64_t generation;
	int error = tss_keys.create(dtor, &index, &generation);
	if (error == 0) {
		*key = tss_key(index, generation);
	}
	return error;
}

int tss_delete(unsigned key) noexcept {
	key_slot *slot = tss_keys.find(index_of(key));
	std::lock_guard guard(specific_lock);
	if (tss_generation(slot, key) == 0) {
		return EINVAL;
	}
	(void)key_end_locked(slot);
	tss_keys.free_locked(index_of(key));
	return 0;
}

void *tss_get(const specref &ref, unsigned key) noexcept {
	const specdata *data = ref.sr_data.load(std::memory_order_relaxed);
	if (data == nullptr || index_of(key) >= data->sd_ncells) {
		return nullptr;
	}
	const tss_cell &cell = data->sd_cells[index_of(key)];
	const std::uint64_t generation = tss_generation(tss_keys.find(index_of(key)), key);
	return generation != 0 && cell.tc_generation == generation ? cell.tc_value : nullptr;
}

int tss_set(specref &ref, unsigned key, void *value) noexcept {
	const unsigned index = index_of(key);
	const std::uint64_t generation = tss_generation(tss_keys.find(index), key);
	if (generation == 0) {
		return EINVAL;
	}
	specdata *data = container(ref);
	if (data == nullptr || (index >= data->sd_ncells && grow_cells(data, index) != 0)) {
		return ENOMEM;
	}
	data->sd_cells[index] = {generation, value};
	return 0;
}

void specific_fini(specref &ref) noexcept {
	tss_passes(ref, ref.sr_rounds);
	if (ref.sr_leaving == nullptr) {  // else a destructor of it has called us, and does not return
		ref.sr_leaving = detach(ref);
	}
	if (ref.sr_leaving != nullptr) {
		values_pass(ref.sr_leaving);
		free_container(std::exchange(ref.sr_leaving, nullptr));
	}
	tss_passes(ref, ref.sr_rounds);  // what destructors of NetBSD keys set, in a container of their own
	if (specdata *data = detach(ref); data != nullptr) {
		free_container(data);
	}
	ref.sr_rounds = 0;
}

}  // namespace lwp::kern
