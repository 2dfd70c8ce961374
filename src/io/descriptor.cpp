// SPDX-License-Identifier: BSD-2-Clause
#include "io/descriptor.h"

#include "base/assert.h"
#include "base/sys.h"
#include "io/port.h"
#include "sched/switch.h"

#include <new>

namespace lwp::kern {
namespace {

struct closer {
	grant c_grant;
	int c_fd;
};

struct entry {
	list<io_op, &io_op::o_fdlink> e_ops;          // f: in flight
	list<fd_watch, &fd_watch::w_link> e_watches;  // f: of operations on something else
	closer *e_closer = nullptr;                   // f: waits for both to end
	bool e_closing = false;                       // f: close(2) runs
	atomic<std::uint32_t> e_plain{0};             // a: when it was found plain, in units of plain_unit; a hint
	atomic<unsigned> e_early{0};                  // a: receives that need not be tried; a hint
};

// Descriptors are small numbers: a table of tables.  Beyond a million they share entries, so an operation's own number counts.
constexpr unsigned entries = 4096, chunks = 256;
constexpr nanotime plain_unit = 1 << 20;  // 1 ms
struct chunk {
	entry c_entry[entries];
};
atomic<chunk *> table[chunks];

struct alignas(64) lock_line {
	spinlock lock{lock_rank::sleepq, "descriptor"};
};
lock_line locks[64];

spinlock &lock_of(int fd) noexcept { return locks[static_cast<unsigned>(fd) % 64].lock; }

/// Null: no memory.
entry *entry_of(int fd) noexcept {
	const unsigned n = static_cast<unsigned>(fd) % (entries * chunks);
	atomic<chunk *> &slot = table[n / entries];
	chunk *c = slot.load(std::memory_order_acquire);  // pairs with the release below: it is built
	if (LWP_UNLIKELY(c == nullptr)) {
		auto *fresh = new (std::nothrow) chunk;
		if (fresh == nullptr) {
			return nullptr;
		}
		if (slot.compare_exchange_strong(c, fresh, std::memory_order_acq_rel, std::memory_order_acquire)) {
			c = fresh;
		} else {
			delete fresh;
		}
	}
	return &c->c_entry[n % entries];
}

/// f held.  Asks those on `fd` to end; whether there are any.
bool end_all(const entry *e, int fd) noexcept {
	bool any = false;
	for (io_op *op = e->e_ops.front(); op != nullptr; op = list<io_op, &io_op::o_fdlink>::next(op)) {
		if (op->o_fd == fd) {
			any = true;
			io_cancel(op, io_end::closed);
		}
	}
	for (fd_watch *w = e->e_watches.front(); w != nullptr; w = list<fd_watch, &fd_watch::w_link>::next(w)) {
		if (w->w_fd == fd) {
			any = true;
			w->w_closed = true;
			io_cancel(w->w_op, io_end::closed);
		}
	}
	return any;
}

bool any_on(const entry *e, int fd) noexcept {
	for (const io_op *op = e->e_ops.front(); op != nullptr; op = list<io_op, &io_op::o_fdlink>::next(op)) {
		if (op->o_fd == fd) {
			return true;
		}
	}
	for (const fd_watch *w = e->e_watches.front(); w != nullptr; w = list<fd_watch, &fd_watch::w_link>::next(w)) {
		if (w->w_fd == fd) {
			return true;
		}
	}
	return false;
}

/// f held.  0 | EBADF | EAGAIN: whether something may begin on `fd`.
int may_begin(const entry *e, int fd) noexcept {
	if (LWP_UNLIKELY(e->e_closing)) {
		return EAGAIN;
	}
	return LWP_UNLIKELY(e->e_closer != nullptr && e->e_closer->c_fd == fd) ? EBADF : 0;
}

/// f held.  The closer, if what has just left `e` was the last that it waits for: to be given its grant without the lock.
closer *closer_of(const entry *e) noexcept {
	closer *c = e->e_closer;
	return LWP_UNLIKELY(c != nullptr && !any_on(e, c->c_fd)) && grant_take(&c->c_grant, 1) ? c : nullptr;
}

void go_on(closer *waiting, vcpu_t *me) noexcept {
	if (LWP_UNLIKELY(waiting != nullptr)) {
		grant_give(&waiting->c_grant, me);
	}
}

short events_of(const io_op *op) noexcept { return op->o_kind == io_kind::poll ? static_cast<short>(op->o_flags) : io_events(op->o_kind); }

/// Whether it waits at `p`.  Ours change under our hands alone.
bool waits_at(const io_op *op, int fd, const port *p) noexcept {
	if (op->o_fd != fd) {
		return false;
	}
	const std::uintptr_t at = op->o_at.load(std::memory_order_acquire);  // pairs with the store in port_began()
	return (at == io_at(p, io_state::pending) || at == io_at(p, io_state::cancelling)) && !op->o_helped;
}

}  // namespace

int descriptor_enter(io_op *op, vcpu_t *me) noexcept {
	entry *e = entry_of(op->o_fd);
	if (LWP_UNLIKELY(e == nullptr)) {
		return ENOMEM;
	}
	lock_scope hold(lock_of(op->o_fd), me);
	if (const int error = may_begin(e, op->o_fd); LWP_UNLIKELY(error != 0)) {
		return error;
	}
	e->e_ops.push_back(op);
	op->o_listed = true;
	return 0;
}

void descriptor_leave(io_op *op, vcpu_t *me) noexcept {
	entry *e = entry_of(op->o_fd);
	closer *waiting = nullptr;
	{
		lock_scope hold(lock_of(op->o_fd), me);
		e->e_ops.remove(op);
		op->o_listed = false;
		waiting = closer_of(e);
	}
	go_on(waiting, me);
}

int descriptor_watch(fd_watch *w, vcpu_t *me) noexcept {
	entry *e = entry_of(w->w_fd);
	if (e == nullptr) {
		return ENOMEM;
	}
	lock_scope hold(lock_of(w->w_fd), me);
	if (const int error = may_begin(e, w->w_fd); error != 0) {
		return error;
	}
	e->e_watches.push_back(w);
	w->w_listed = true;
	return 0;
}

void descriptor_unwatch(fd_watch *w, vcpu_t *me) noexcept {
	entry *e = entry_of(w->w_fd);
	closer *waiting = nullptr;
	{
		lock_scope hold(lock_of(w->w_fd), me);
		e->e_watches.remove(w);
		w->w_listed = false;
		waiting = closer_of(e);
	}
	go_on(waiting, me);
}

bool descriptor_plain(int fd, nanotime when) noexcept {
	const auto then = entry_of(fd)->e_plain.load(std::memory_order_relaxed);  // relaxed: a hint
	return static_cast<std::uint32_t>(when / plain_unit) - then < plain_for / plain_unit;
}

void descriptor_found_plain(int fd, nanotime when) noexcept {
	entry_of(fd)->e_plain.store(static_cast<std::uint32_t>(when / plain_unit), std::memory_order_relaxed);  // relaxed: a hint
}

// relaxed, all: a hint.  Of two who take at the same moment both may take the same.
bool descriptor_take_early(int fd) noexcept {
	atomic<unsigned> &hint = entry_of(fd)->e_early;
	const unsigned count = hint.load(std::memory_order_relaxed);
	if (count == 0) {
		return false;
	}
	hint.store(count - 1, std::memory_order_relaxed);  // relaxed: a hint
	return true;
}

void descriptor_set_early(int fd, unsigned count) noexcept {
	atomic<unsigned> &hint = entry_of(fd)->e_early;
	if (hint.load(std::memory_order_relaxed) != count) {  // relaxed, both: a hint
		hint.store(count, std::memory_order_relaxed);
	}
}

short descriptor_wanted(int fd, const port *p) noexcept {
	const entry *e = entry_of(fd);
	lock_scope hold(lock_of(fd), curcpu_or_null());
	int wanted = 0;
	for (const io_op *op = e->e_ops.front(); op != nullptr; op = list<io_op, &io_op::o_fdlink>::next(op)) {
		if (waits_at(op, fd, p)) {
			wanted |= events_of(op);
		}
	}
	return static_cast<short>(wanted);
}

io_op *descriptor_ready(int fd, const port *p, unsigned events) noexcept {
	const entry *e = entry_of(fd);
	lock_scope hold(lock_of(fd), curcpu_or_null());
	for (io_op *op = e->e_ops.front(); op != nullptr; op = list<io_op, &io_op::o_fdlink>::next(op)) {
		if (waits_at(op, fd, p) && ((static_cast<unsigned>(events_of(op)) | POLLERR | POLLHUP) & events) != 0) {
			return op;  // only we complete it, so it stays
		}
	}
	return nullptr;
}

int descriptor_close(lwp_t *l, int fd) noexcept {
	if (fd < 0) {
		return EBADF;
	}
	entry *e = entry_of(fd);
	if (LWP_UNLIKELY(e == nullptr)) {
		// No memory, so nobody has ever been entered there: nobody to end, and the number must go all the same.
		return static_cast<int>(-sys::call(SYS_close, fd));
	}
	spinlock &lock = lock_of(fd);
	closer mine{grant(l), fd};
	lock.lock(l->l_cpu);
	while (e->e_closing || (e->e_closer != nullptr && e->e_closer->c_fd != fd)) {
		// close(2) runs for another.  The kernel has freed the number at its beginning, so it may name a new file already, and that is what we are
		// to close: wait until that call is back.  If there is no new file, close(2) will say so to us.
		lock.unlock(l->l_cpu);
		lwp_yield_cpu(l);
		lock.lock(l->l_cpu);
	}
	if (e->e_closer != nullptr) {  // the number is taken still: two close one open file, and one of them is wrong
		lock.unlock(l->l_cpu);
		return EBADF;
	}
	if (end_all(e, fd)) {
		e->e_closer = &mine;
		lock.unlock(l->l_cpu);
		// Nobody but the last operation ends this wait, which is short, since all of them have been asked to end.
		do {
			spinlock *self = sleepq_enter_self(l);
			(void)sleepq_block_self_and_unlock(l, self,
			    {.wchan = &mine.c_grant, .wmesg = "close", .sobj = &io_syncobj, .interruptible = sleep_catch::no, .token = LW_GRANTED});
		} while (!mine.c_grant.g_given.load(std::memory_order_acquire));  // pairs with the release in grant_give()
		lock.lock(l->l_cpu);
		e->e_closer = nullptr;
	}
	e->e_closing = true;
	e->e_plain.store(0, std::memory_order_relaxed);  // relaxed, both: hints
	e->e_early.store(0, std::memory_order_relaxed);
	lock.unlock(l->l_cpu);
	const long result = sys::call(SYS_close, fd);
	lock.lock(l->l_cpu);
	e->e_closing = false;
	lock.unlock(l->l_cpu);
	return static_cast<int>(-result);
}

}  // namespace lwp::kern
