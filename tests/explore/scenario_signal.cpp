// SPDX-License-Identifier: BSD-2-Clause
//
// A signal ends a sleep that has a deadline.  If the deadline has passed, too, by the time the sleeper has its vCPU again, the sleep has timed out, whichever of the
// two came first; and the handler runs at the boundary, once, whatever the sleep says.
#include "explore/world.h"
#include "proc/lwp_life.h"
#include "proc/signal.h"

#include <cerrno>
#include <csignal>

using namespace lwp;
using namespace lwp::kern;
using namespace lwp::explore;

namespace {

constexpr nanotime soon = 1'000'000;

kern::atomic<int> handled;

void catch_signals() {
	struct sigaction act {};
	act.sa_handler = [](int) { handled.fetch_add(1); };
	EXPECT(signal_action(me(), SIGUSR1, &act, nullptr) == 0);
}

/// Which is there.
void send_signal(lwpid_t lid) { EXPECT(signal_send(me(), lid, SIGUSR1) == 0); }

}  // namespace

// Whoever sends it keeps the vCPU of the sleeper until the deadline has passed.  Meanwhile the other vCPU may fire the timer.
SCENARIO(signal_then_deadline_before_it_runs, 2) {
	catch_signals();
	int result = -1;
	const nanotime deadline = time_in(soon);
	lwpid_t sender = 0;
	lwpid_t sleeper = start(1,
	    [&] {
		    result = park(deadline);
		    join(sender);
		    userret();
		    EXPECT(handled.load() == 1);
	    },
	    {.pinned = true});
	sender = start(1,
	    [&] {
		    send_signal(sleeper);
		    advance_clock(static_cast<std::uint64_t>(deadline));
	    },
	    {.pinned = true});
	race();
	join(sleeper);
	EXPECT(result == ETIMEDOUT);
	EXPECT(handled.load() == 1);
}

// The other way round: it has timed out, and the signal comes before it runs.
SCENARIO(signal_after_deadline_before_it_runs, 2) {
	catch_signals();
	int result = -1;
	const nanotime deadline = time_in(soon);
	lwpid_t sender = 0;
	lwpid_t sleeper = start(1,
	    [&] {
		    result = park(deadline);
		    join(sender);
		    userret();
		    EXPECT(handled.load() == 1);
	    },
	    {.pinned = true});
	sender = start(1,
	    [&] {
		    advance_clock(static_cast<std::uint64_t>(deadline));
		    send_signal(sleeper);
	    },
	    {.pinned = true});
	race();
	join(sleeper);
	EXPECT(result == ETIMEDOUT);
	EXPECT(handled.load() == 1);
}

// At any moment: one of the two is what the sleep says.  One that was interrupted has passed its boundary with the handler, and the next sleep is whole.
SCENARIO(signal_against_deadline, 2) {
	catch_signals();
	kern::atomic<bool> sent{false};
	lwpid_t sleeper = start(1, [&] {
		const int result = park(time_in(soon));
		EXPECT(result == ETIMEDOUT || (result == EINTR && handled.load() == 1));
		while (!sent.load()) {
			cpu_relax();
		}
		userret();
		EXPECT(handled.load() == 1);
		EXPECT(park(time_in(soon)) == ETIMEDOUT);
	});
	race();
	send_signal(sleeper);
	sent.store(true);
	join(sleeper);
	EXPECT(handled.load() == 1);
}

// And an unpark: neither that nor the signal is lost.
SCENARIO(signal_against_deadline_and_unpark, 3) {
	catch_signals();
	kern::atomic<bool> sent{false};
	lwpid_t sleeper = start(1, [&] {
		int result = park(time_in(soon));
		while (!sent.load()) {
			cpu_relax();
		}
		userret();
		EXPECT(handled.load() == 1);
		while (result != 0 && result != EALREADY) {
			EXPECT(result == ETIMEDOUT || result == EINTR);
			result = park();
		}
	});
	lwpid_t waker = start(2, [&] { unpark(sleeper); });
	race();
	send_signal(sleeper);
	sent.store(true);
	join(waker);
	join(sleeper);
	EXPECT(handled.load() == 1);
}
