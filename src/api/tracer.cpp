// SPDX-License-Identifier: BSD-2-Clause
//
// The client that stops LWPs at events.  An LWP that comes to an event hangs a record on its own stack into a list, tells the tracer, and waits until that gives
// it its unit; the tracer takes the record off first.  So a record is in the list exactly as long as its LWP waits, and an LWP does not end meanwhile: it is pinned.
//
// All is static, because an LWP may be on its way here when the tracer goes; it finds that nobody is there and goes on.
#include "base/list.h"
#include "proc/lwp_life.h"
#include "proc/runtime.h"

#include <lwp/condition_variable.hpp>
#include <lwp/mutex.hpp>
#include <lwp/semaphore.hpp>
#include <lwp/tracer.hpp>

#include <cerrno>
#include <mutex>
#include <system_error>

namespace lwp {
namespace {

struct stopped {
	tracer::stop what;
	bool told = false;
	binary_semaphore go{0};
	kern::list_link<stopped> link;
};

mutex tracer_lock;
condition_variable arrived;
kern::list<stopped, &stopped::link> all;  // tracer_lock: first come first
bool attached = false;                    // tracer_lock
tracer_events wanted;                     // tracer_lock
lwpid_t owner;                            // tracer_lock

void stop_at(kern::lwp_t *l, tracer_event event) noexcept {
	stopped here{.what = {event, kern::lwp_lid(l)}, .link = {}};
	l->l_pins++;
	bool stops;
	{
		const std::lock_guard hold(tracer_lock);
		stops = attached && here.what.lid != owner && (event == tracer_event::begins ? wanted.begins : wanted.ends);
		if (stops) {
			all.push_back(&here);
			arrived.notify_one();
		}
	}
	if (stops) {
		here.go.acquire();
	}
	l->l_pins--;
}

constexpr kern::lwp_event_calls calls = {
    [](kern::lwp_t *l) noexcept { stop_at(l, tracer_event::begins); },
    [](kern::lwp_t *l) noexcept { stop_at(l, tracer_event::ends); },
};

/// tracer_lock held: the first that was not told of.
stopped *first_untold() noexcept {
	stopped *s = all.front();
	while (s != nullptr && s->told) {
		s = all.next(s);
	}
	return s;
}

}  // namespace

tracer::tracer(tracer_events events) {
	const kern::in_library l;
	const std::lock_guard hold(tracer_lock);
	if (attached) {
		throw std::system_error(EBUSY, std::generic_category(), "lwp::tracer: there is one");
	}
	attached = true;
	wanted = events;
	owner = kern::lwp_lid(l);
	kern::lwp_events.store(&calls, std::memory_order_release);  // pairs with the acquire of who begins or ends
}

tracer::~tracer() {
	const kern::in_library l;
	kern::lwp_events.store(nullptr, std::memory_order_release);  // who comes before it sees that looks under the lock
	const std::lock_guard hold(tracer_lock);
	attached = false;
	while (stopped *s = all.pop_front()) {
		s->go.release();  // its record is gone
	}
}

tracer::stop tracer::wait() {
	const kern::in_library l;
	std::unique_lock hold(tracer_lock);
	stopped *s;
	while ((s = first_untold()) == nullptr) {
		arrived.wait(hold);
	}
	s->told = true;
	return s->what;
}

std::optional<tracer::stop> tracer::wait_for(std::chrono::nanoseconds limit) {
	const kern::in_library l;
	std::unique_lock hold(tracer_lock);
	if (!arrived.wait_for(hold, limit, [] { return first_untold() != nullptr; })) {
		return std::nullopt;
	}
	stopped *s = first_untold();
	s->told = true;
	return s->what;
}

void tracer::go_on(lwpid_t lid) {
	const kern::in_library l;
	const std::lock_guard hold(tracer_lock);
	for (stopped *s = all.front(); s != nullptr; s = all.next(s)) {
		if (s->told && s->what.lid == lid) {
			all.remove(s);
			s->go.release();  // its record is gone
			return;
		}
	}
	throw std::system_error(ESRCH, std::generic_category(), "lwp::tracer::go_on");
}

}  // namespace lwp
