// SPDX-License-Identifier: BSD-2-Clause
//
// ctx/guard: an overflow names its LWP and dies of SIGSEGV; every other fault goes where it would have gone without us.
// Each test is a child process; the parent looks at how it died and at what it wrote.
#include "base/config.h"
#include "ctx/context.h"
#include "ctx/guard.h"
#include "ctx/stack.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace {

using namespace lwp::kern;

struct ending {
	int signal;  // that killed it, or 0
	int status;
	std::string said;
};

ending in_child(const std::function<int()> &body) {
	std::fflush(nullptr);
	int out[2];
	if (::pipe(out) != 0) {
		std::abort();
	}
	pid_t pid = ::fork();
	if (pid == 0) {
		rlimit none{0, 0};
		::setrlimit(RLIMIT_CORE, &none);
		::dup2(out[1], STDERR_FILENO);
		::close(out[0]);
		::close(out[1]);
		std::_Exit(body());
	}
	::close(out[1]);
	ending e{};
	char text[4096];
	for (ssize_t n; (n = ::read(out[0], text, sizeof(text))) > 0;) {
		e.said.append(text, static_cast<std::size_t>(n));
	}
	::close(out[0]);
	int status = 0;
	::waitpid(pid, &status, 0);
	e.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
	e.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	return e;
}

/// A sanitizer's own handler ends the process by exit(), after its report.
void expect_died_of_a_fault(const ending &e) {
	if (LWP_ASAN || LWP_TSAN) {
		EXPECT_TRUE(e.signal == SIGSEGV || e.status > 0) << e.signal << " " << e.status << " " << e.said;
	} else {
		EXPECT_EQ(e.signal, SIGSEGV) << e.said;
	}
}

// What runs on this kernel thread, as the scheduler would know.
thread_local const stack *running = nullptr;
thread_local int running_lid = 0;
const char *running_name = "worker";

bool look_up(guard_owner &owner, stack &s) {
	if (running == nullptr) {
		return false;
	}
	owner = {running_lid, running_name};
	s = *running;
	return true;
}

LWP_NOINLINE int eat(volatile char *above, int depth) {
	volatile char frame[512];
	frame[0] = static_cast<char>(depth);
	if (depth < 0) {
		return 0;
	}
	return eat(frame, depth + 1) + frame[0] + above[0];
}

void overflow(void *) {
	volatile char none = 0;
	std::_Exit(eat(&none, 1) == 12345 ? 1 : 2);
}

/// Enters `entry` on a stack of `size` bytes; it does not come back.
int run_on_stack(std::size_t size, context_entry entry) {
	if (guard_thread_init() != 0) {
		return 90;
	}
	kthread_image image;
	image.init();
	context self;
	context_adopt(self);
	context c;
	stack s;
	if (stack_alloc(s, size) != 0) {
		return 91;
	}
	context_make(c, s, 0, entry, nullptr);
	running = &s;
	running_lid = 7;
	context_switch(self, c, image);
	return 92;
}

TEST(Guard, AnOverflowNamesTheLwpAndDiesOfSigsegv) {
	for (std::size_t size : {stack_min, stack_default, std::size_t{1} << 20}) {
		ending e = in_child([size] {
			guard_install(look_up);
			return run_on_stack(size, overflow);
		});
		EXPECT_EQ(e.signal, SIGSEGV) << e.status << e.said;
		EXPECT_EQ(e.said, "LWP 7 'worker' overflowed its " + std::to_string(size / 1024) + " KiB stack\n");
	}
}

TEST(Guard, ALongNameIsCutAndNoNameIsEmpty) {
	ending e = in_child([] {
		running_name = nullptr;
		guard_install(look_up);
		return run_on_stack(stack_min, overflow);
	});
	EXPECT_EQ(e.said, "LWP 7 '' overflowed its 16 KiB stack\n");
	std::string name(1000, 'x');
	e = in_child([&] {
		running_name = name.c_str();
		guard_install(look_up);
		return run_on_stack(stack_min, overflow);
	});
	EXPECT_EQ(e.said.find("LWP 7 'xxx"), 0U);
	EXPECT_NE(e.said.find("x' overflowed its 16 KiB stack\n"), std::string::npos) << "the name is cut, not the rest";
	EXPECT_EQ(e.signal, SIGSEGV);
}

// The second kernel thread has an alternate stack of its own.
TEST(Guard, WorksOnEveryKernelThread) {
	ending e = in_child([] {
		guard_install(look_up);
		int status = 0;
		std::thread([&] { status = run_on_stack(stack_default, overflow); }).join();
		return status;
	});
	EXPECT_EQ(e.signal, SIGSEGV);
	EXPECT_EQ(e.said, "LWP 7 'worker' overflowed its 64 KiB stack\n");
}

void null_write(void *) {
	volatile int *volatile nowhere = nullptr;
	*nowhere = 1;
}

TEST(Guard, AnotherFaultHasTheDefaultEnd) {
	ending e = in_child([] {
		guard_install(look_up);
		return run_on_stack(stack_default, null_write);
	});
	expect_died_of_a_fault(e);
	EXPECT_EQ(e.said.find("overflowed"), std::string::npos);
}

TEST(Guard, AFaultInAnotherStacksGuardIsNoOverflow) {
	ending e = in_child([] {
		guard_install(look_up);
		static stack other;
		if (stack_alloc(other, stack_default) != 0) {
			return 91;
		}
		return run_on_stack(stack_default, [](void *) { *static_cast<volatile std::byte *>(other.s_base - 1) = std::byte{1}; });
	});
	expect_died_of_a_fault(e);
	EXPECT_EQ(e.said.find("overflowed"), std::string::npos);
}

TEST(Guard, OnForeignMemoryNothingIsClaimed) {
	ending e = in_child([] {
		guard_install(look_up);
		static stack own;
		if (stack_alloc(own, stack_default) != 0) {
			return 91;
		}
		own.s_foreign = true;
		running = &own;
		*static_cast<volatile std::byte *>(own.s_base - 1) = std::byte{1};
		return 0;
	});
	expect_died_of_a_fault(e);
	EXPECT_EQ(e.said.find("overflowed"), std::string::npos);
}

// The application's own handler, there before us.
void *volatile strange_address = reinterpret_cast<void *>(0x10);

void applications_handler(int signal, siginfo_t *info, void *machine) {
	sigset_t blocked;
	::pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
	bool right = signal == SIGSEGV && info->si_addr == strange_address && info->si_code == SEGV_MAPERR && machine != nullptr;
	std::_Exit(right && sigismember(&blocked, SIGUSR1) == 1 && sigismember(&blocked, SIGSEGV) == 1 ? 33 : 34);
}

void write_strange_address(void *) { *static_cast<volatile int *>(strange_address) = 1; }

int install_applications_handler() {
	struct sigaction a {};
	a.sa_sigaction = applications_handler;
	a.sa_flags = SA_SIGINFO | SA_ONSTACK;
	sigaddset(&a.sa_mask, SIGUSR1);
	return ::sigaction(SIGSEGV, &a, nullptr);
}

TEST(Guard, AnotherFaultGoesToTheHandlerThatWasThere) {
	ending e = in_child([] {
		install_applications_handler();
		guard_install(look_up);
		return run_on_stack(stack_default, write_strange_address);
	});
	EXPECT_EQ(e.status, 33) << "signal " << e.signal << e.said;
	EXPECT_EQ(e.said, "");
}

TEST(Guard, AnOverflowDoesNotGoToTheHandlerThatWasThere) {
	ending e = in_child([] {
		install_applications_handler();
		guard_install(look_up);
		return run_on_stack(stack_default, overflow);
	});
	EXPECT_EQ(e.signal, SIGSEGV);
	EXPECT_EQ(e.said, "LWP 7 'worker' overflowed its 64 KiB stack\n");
}

TEST(Guard, ASentSignalIsPassedOnAsItWas) {
	ending e = in_child([] {
		::signal(SIGSEGV, SIG_IGN);
		guard_install(look_up);
		::raise(SIGSEGV);
		return 5;
	});
	EXPECT_EQ(e.status, 5) << "ignored before, ignored now";
	e = in_child([] {
		::signal(SIGSEGV, SIG_DFL);
		guard_install(look_up);
		::raise(SIGSEGV);
		return 5;
	});
	EXPECT_EQ(e.signal, SIGSEGV);
	e = in_child([] {
		::signal(SIGBUS, SIG_DFL);
		guard_install(look_up);
		::kill(::getpid(), SIGBUS);  // to the only kernel thread there is: delivered before kill() returns
		return 5;
	});
	EXPECT_EQ(e.signal, SIGBUS);
}

TEST(Guard, AOneShotHandlerHasOneShot) {
	ending e = in_child([] {
		static int shots = 0;
		struct sigaction a {};
		a.sa_handler = [](int) { shots++; };
		a.sa_flags = static_cast<int>(SA_RESETHAND);
		::sigaction(SIGSEGV, &a, nullptr);
		guard_install(look_up);
		::raise(SIGSEGV);
		if (shots != 1) {
			return 1;
		}
		::raise(SIGSEGV);
		return 2;
	});
	EXPECT_EQ(e.signal, SIGSEGV) << e.status;
}

TEST(Guard, RemovePutsThePreviousHandlersBack) {
	ending e = in_child([] {
		install_applications_handler();
		guard_install(look_up);
		guard_remove();
		struct sigaction now;
		::sigaction(SIGSEGV, nullptr, &now);
		if (now.sa_sigaction != applications_handler || sigismember(&now.sa_mask, SIGUSR1) != 1) {
			return 1;
		}
		guard_install(look_up);  // and again
		return run_on_stack(stack_default, overflow);
	});
	EXPECT_EQ(e.signal, SIGSEGV) << e.status;
	EXPECT_EQ(e.said, "LWP 7 'worker' overflowed its 64 KiB stack\n");
}

TEST(Guard, RemoveLeavesAHandlerThatCameLaterAlone) {
	ending e = in_child([] {
		::signal(SIGSEGV, SIG_DFL);
		guard_install(look_up);
		install_applications_handler();
		guard_remove();
		struct sigaction now;
		::sigaction(SIGSEGV, nullptr, &now);
		return now.sa_sigaction == applications_handler ? 11 : 12;
	});
	EXPECT_EQ(e.status, 11);
}

TEST(Guard, AnAlternateStackThatIsThereStays) {
	ending e = in_child([] {
		static char memory[1 << 16];
		stack_t mine{};
		mine.ss_sp = memory;
		mine.ss_size = sizeof(memory);
		stack_t now{};
		if (::sigaltstack(&mine, nullptr) != 0 || guard_thread_init() != 0 || ::sigaltstack(nullptr, &now) != 0 || now.ss_sp != memory) {
			return 1;
		}
		guard_thread_fini();
		return ::sigaltstack(nullptr, &now) == 0 && now.ss_sp == memory ? 11 : 2;
	});
	EXPECT_EQ(e.status, 11);
}

TEST(Guard, TheAlternateStackIsTakenBack) {
	ending e = in_child([] {
		stack_t none{};
		none.ss_flags = SS_DISABLE;
		stack_t now{};
		if (::sigaltstack(&none, nullptr) != 0 || guard_thread_init() != 0 || ::sigaltstack(nullptr, &now) != 0) {
			return 1;
		}
		if ((now.ss_flags & SS_DISABLE) != 0 || now.ss_size < 65536) {
			return 2;
		}
		guard_thread_fini();
		if (::sigaltstack(nullptr, &now) != 0 || (now.ss_flags & SS_DISABLE) == 0) {
			return 3;
		}
		return guard_thread_init() == 0 && ::sigaltstack(nullptr, &now) == 0 && (now.ss_flags & SS_DISABLE) == 0 ? 11 : 4;
	});
	EXPECT_EQ(e.status, 11);
}

}  // namespace
