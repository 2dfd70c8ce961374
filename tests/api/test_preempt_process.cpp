// SPDX-License-Identifier: BSD-2-Clause
//
// Preemption and the process: how it ends, what is not interrupted, whose the signal is.  Each case is a process of its own.
// vcpus: 1 2 4
#include "preempting.h"

#include <lwp/proc.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace lwp::test;

namespace {

void fail_case(const char *what) {
	std::fputs(what, stderr);
	std::_Exit(9);
}

/// As many as there are vCPUs, and one more, that never end.
void endless_hogs() {
	for (unsigned i = 0; i <= vcpus(); i++) {
		lwp::thread([] {
			for (;;) {
				asm volatile("");
			}
		}).detach();
	}
	others_run();
}

void ends_by_proc_exit() {
	endless_hogs();
	lwp_proc_exit(0, 50);
}

void ends_by_shutdown() {
	endless_hogs();
	if (lwp_proc_shutdown(60'000) != 0) {
		fail_case("not everybody stood still\n");
	}
	std::_Exit(0);
}

/// Others would have had three turns here.
void nobody_else_runs(const std::atomic<int> &turns) {
	const lwp::kern::vcpu_t *vc = lwp::kern::curcpu_or_null();
	const int before = turns;
	for (int refused = 0; refused < 3; refused++) {
		const_cast<lwp::kern::vcpu_t *>(vc)->vc_expired = 0;
		while (vc->vc_expired.load(std::memory_order_relaxed) == 0) {  // until somebody has left word
		}
	}
	if (turns != before) {
		fail_case("another LWP ran\n");
	}
}

/// Calls `hog` while another LWP wants that vCPU.
void beside_another(void (*hog)(const std::atomic<int> &turns)) {
	std::atomic<bool> stop{false};
	std::atomic<int> turns{0};
	lwp::thread other({.vcpu = 0}, [&] {
		while (!stop) {
			turns++;
			lwp_yield();
		}
	});
	lwp::thread one({.vcpu = 0}, [&] { hog(turns); });
	one.join();
	stop = true;
	other.join();
}

void no_preempt_holds() {
	beside_another([](const std::atomic<int> &turns) {
		const lwp::no_preempt here;
		nobody_else_runs(turns);
	});
}

const std::atomic<int> *fork_turns;

// A signal would make it begin again.  What is registered before the runtime starts is called in the middle.
void no_signal_in_fork() {
	(void)::pthread_atfork([] { nobody_else_runs(*fork_turns); }, nullptr, nullptr);
	beside_another([](const std::atomic<int> &turns) {
		fork_turns = &turns;
		const pid_t child = ::fork();
		if (child == 0) {
			::_exit(7);
		}
		int status = 0;
		while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
		}
		if (!WIFEXITED(status) || WEXITSTATUS(status) != 7) {
			fail_case("the child did not end as it should\n");
		}
	});
}

bool signal_is_taken() {
	struct sigaction now {};
	::sigaction(SIGURG, nullptr, &now);
	return now.sa_handler != SIG_DFL;
}

const lwp::runtime_options asks_for_it = {.preemption = true};

void on_if_asked_for() {
	const lwp::runtime rt(asks_for_it);
	std::deque<hog> hogs = hogs_of(hog_kind::loop, vcpus());
	others_run();
	end_all(hogs);
	if (!signal_is_taken()) {
		fail_case("it is off\n");
	}
}

void sigurg_is_left_alone() {
	if (signal_is_taken()) {
		fail_case("SIGURG was taken\n");
	}
}

void off() {
	const lwp::runtime rt(asks_for_it);
	sigurg_is_left_alone();
}

void off_if_blocked() {
	sigset_t set;
	::sigfillset(&set);
	::pthread_sigmask(SIG_BLOCK, &set, nullptr);
	off();
}

std::atomic<int> own_signals{0};

void handler_stays(const struct sigaction &act) {
	::sigaction(SIGURG, &act, nullptr);
	const std::uint64_t from = preemptions();
	std::deque<hog> hogs = hogs_of(hog_kind::loop, vcpus() + 1);
	if (!wait_until([&] { return preemptions() - from >= 5; })) {
		fail_case("nobody was preempted\n");
	}
	if (own_signals != 0) {
		fail_case("the handler was called for the monitor's signals\n");
	}
	::kill(::getpid(), SIGURG);
	if (!wait_until([] { return own_signals == 1; })) {
		fail_case("the handler was not called\n");
	}
	end_all(hogs);
}

void own_handler_stays() {
	struct sigaction act {};
	act.sa_handler = [](int) { own_signals++; };
	handler_stays(act);
}

std::atomic<pid_t> own_sender{0};

void own_handler_is_told_who() {
	struct sigaction act {};
	act.sa_flags = SA_SIGINFO;
	act.sa_sigaction = [](int, siginfo_t *info, void *) {
		own_sender = info->si_pid;
		own_signals++;
	};
	handler_stays(act);
	if (own_sender != ::getpid()) {
		fail_case("the handler was told of another sender\n");
	}
}

// By default SIGURG is ignored.  What the monitor uses in its place would have ended the process without us.
void others_signal_is_ignored() {
	(void)vcpus();
	::kill(::getpid(), SIGURG);
	std::deque<hog> hogs = hogs_of(hog_kind::loop, vcpus() + 1);
	others_run();
	end_all(hogs);
}

constexpr int chosen_signal = 40;

void others_signal_ends_it() {
	(void)vcpus();
	::kill(::getpid(), chosen_signal);
	for (;;) {
		lwp_yield();
	}
}

void another_signal() {
	const std::uint64_t from = preemptions();
	std::deque<hog> hogs = hogs_of(hog_kind::loop, vcpus() + 1);
	if (!wait_until([&] { return preemptions() - from >= 5; })) {
		fail_case("nobody was preempted\n");
	}
	sigurg_is_left_alone();
	end_all(hogs);
}

/// Of a signal that is queued each time: none is left over that would end the process.
void another_signal_meets_it() {
	std::atomic<bool> stop{false};
	std::atomic<std::uint64_t> turns{0};
	lwp::thread hog([&] { prints_until(stop, turns); });
	(void)suspended_again_and_again(hog, turns, 60);
	stop = true;
	hog.join();
	if (testing::Test::HasFailure()) {
		fail_case("it did not stand still\n");
	}
}

struct process_case {
	const char *name;
	void (*run)();
	const char *preempt;
	// The monitor takes a kernel thread that waits for a page for a blocked one, and lets others run: not what most of these look at.
	const char *blocking = "off";
};

const process_case process_cases[] = {
    {"EndsByProcExit", ends_by_proc_exit, "on"},
    {"EndsByShutdown", ends_by_shutdown, "on"},
    {"NoPreemptHolds", no_preempt_holds, "on"},
    {"OwnHandlerStays", own_handler_stays, "on"},
    {"OwnHandlerIsToldWho", own_handler_is_told_who, "on"},
    {"OthersSignalIsIgnored", others_signal_is_ignored, "on"},
    {"AnotherSignal", another_signal, "40"},
    {"AnotherSignalMeetsIt", another_signal_meets_it, "40"},
    {"NoSignalInFork", no_signal_in_fork, "on"},
    {"OnIfAskedFor", on_if_asked_for, "", ""},
    {"OffIfSwitchedOff", off, "off", ""},
    {"OffIfNobodyIsFoundBlocked", off, "", "off"},
    {"OffIfTheSignalIsBlocked", off_if_blocked, "", ""},
};

const process_case ends_by_signal = {"OthersSignalEndsIt", others_signal_ends_it, "40"};

class PreemptProcess : public testing::TestWithParam<process_case> {};

}  // namespace

TEST_P(PreemptProcess, EndsWell) {
	LWP_SKIP_WITHOUT_PREEMPTION();
	const outcome o = run_case(GetParam().name, {{"LWP_PREEMPT", GetParam().preempt}, {"LWP_BLOCKING", GetParam().blocking}});
	EXPECT_TRUE(o.ended_well()) << o.status << ' ' << o.text;
}

TEST(PreemptSignal, OneOfSomebodyElseEndsTheProcessAsEver) {
	LWP_SKIP_WITHOUT_PREEMPTION();
	const outcome o = run_case(ends_by_signal.name, {{"LWP_PREEMPT", ends_by_signal.preempt}, {"LWP_BLOCKING", ends_by_signal.blocking}});
	EXPECT_TRUE(WIFSIGNALED(o.status) && WTERMSIG(o.status) == chosen_signal) << o.status << ' ' << o.text;
}

INSTANTIATE_TEST_SUITE_P(Cases, PreemptProcess, testing::ValuesIn(process_cases),
    [](const testing::TestParamInfo<process_case> &c) { return std::string(c.param.name); });

const bool cases = offer_cases([](const char *wanted) {
	if (std::strcmp(ends_by_signal.name, wanted) == 0) {
		ends_by_signal.run();
		return true;
	}
	for (const process_case &c : process_cases) {
		if (std::strcmp(c.name, wanted) == 0) {
			c.run();
			return true;
		}
	}
	return false;
});
