// SPDX-License-Identifier: BSD-2-Clause
//
// lwp::process: how children start, what they get, how they end, and that nobody is left.
// vcpus: 1 2 8
// io: uring epoll denied
#include "io_support.h"

#include <csignal>
#include <sys/wait.h>
#include <thread>

using namespace lwp::test;
using namespace std::chrono_literals;

namespace {

const bool touched = touch_runtime();

using lwp::process;
using lwp::stdio;
using lwp::within;

lwp::io_limit far() { return within(10min); }

std::vector<std::string> shell(const std::string &script) { return {"sh", "-c", script}; }

std::string all_of(lwp::pipe_read_end &from) {
	std::string all;
	char buffer[1000];
	for (std::size_t n; (n = from.read(buffer, far())) != 0;) {
		all.append(buffer, n);
	}
	return all;
}

template <class Call>
std::error_code thrown_by(Call call) {
	try {
		call();
	} catch (const std::system_error &e) {
		return e.code();
	}
	return {};
}

/// No child is left, ended or not.
bool childless() { return ::waitpid(-1, nullptr, WNOHANG) == -1; }

/// One that ends when we say so, or never.
process sleeper() {
	process p(shell("echo up; read x; exit 7"), {.in = stdio::pipe(), .out = stdio::pipe()});
	char up[3];
	EXPECT_EQ(p.standard_output().read_exactly(up, far()), 3U);
	return p;
}

struct Process : testing::Test {
	void TearDown() override { EXPECT_TRUE(wait_until(childless)); }
};

}  // namespace

TEST_F(Process, ExitStatus) {
	process p(shell("exit 3"));
	EXPECT_TRUE(p.is_open());
	EXPECT_GT(p.id(), 0);
	const lwp::exit_status s = p.wait();
	EXPECT_TRUE(s.exited());
	EXPECT_EQ(s.code(), 3);
	EXPECT_EQ(s.signal(), 0);
	EXPECT_FALSE(s.success());
	EXPECT_FALSE(p.is_open());
	EXPECT_EQ(p.id(), 0);
	EXPECT_EQ(p.wait(), s);
	EXPECT_EQ(p.try_wait(), s);
	EXPECT_EQ(thrown_by([&] { p.kill(); }), std::errc::no_such_process);
	EXPECT_TRUE(process({"true"}).wait(far()).success());
	EXPECT_TRUE(process({"/bin/true"}, {.search_path = false}).wait().success());
}

TEST_F(Process, EndedByASignal) {
	process p = sleeper();
	p.kill(SIGTERM);
	const lwp::exit_status s = p.wait(far());
	EXPECT_TRUE(s.signaled());
	EXPECT_FALSE(s.exited());
	EXPECT_EQ(s.signal(), SIGTERM);
	EXPECT_EQ(s.code(), -1);
	EXPECT_FALSE(s.success());
	process q = sleeper();
	EXPECT_EQ(thrown_by([&] { q.kill(12345); }), std::errc::invalid_argument);
	q.kill(0);
	q.kill();
	EXPECT_EQ(q.wait().signal(), SIGKILL);
}

TEST_F(Process, TalksThroughPipes) {
	process p({"cat"}, {.in = stdio::pipe(), .out = stdio::pipe()});
	const std::string sent(300'000, 'x');  // more than both pipes hold
	const lwpid_t feeder = spawn([&] {
		EXPECT_EQ(p.standard_input().write_all(sent, far()), sent.size());
		p.standard_input().close();
	});
	EXPECT_TRUE(all_of(p.standard_output()) == sent);
	collect(feeder);
	EXPECT_TRUE(p.wait().success());
	EXPECT_FALSE(p.standard_error().is_open());
}

TEST_F(Process, Redirections) {
	process p(shell("echo out; echo error >&2"), {.in = stdio::null(), .out = stdio::pipe(), .error = stdio::to_out()});
	EXPECT_EQ(all_of(p.standard_output()), "out\nerror\n");
	p.wait();
	process q(shell("echo out; echo error >&2"), {.out = stdio::null(), .error = stdio::pipe()});
	EXPECT_EQ(all_of(q.standard_error()), "error\n");
	q.wait();
	lwp::pipe ours;
	process r(shell("echo here"), {.out = stdio::from(ours.write_end.native_handle())});
	ours.write_end.close();
	EXPECT_EQ(all_of(ours.read_end), "here\n");
	r.wait();
	// The child's first two change places: each is copied before it is overwritten.
	process t(shell("test -t 0; true"), {.in = stdio::from(1), .out = stdio::from(0), .error = stdio::from(2)});
	EXPECT_TRUE(t.wait().success());
	EXPECT_EQ(thrown_by([] { process u({"true"}, {.in = stdio::from(-1)}); }), std::errc::bad_file_descriptor);
	EXPECT_EQ(thrown_by([] { process u({"true"}, {.in = stdio::to_out()}); }), std::errc::invalid_argument);
}

TEST_F(Process, EnvironmentDirectoryAndDescriptors) {
	const lwp::pipe ours;
	const std::string number = std::to_string(ours.read_end.native_handle());
	process p(shell("echo $LWP_X; pwd; test -e /proc/self/fd/" + number + " || echo not ours"),
	    {.in = stdio::null(), .out = stdio::pipe(), .environment = {{"LWP_X=yes", "PATH=/usr/bin:/bin"}}, .directory = "/"});
	EXPECT_EQ(all_of(p.standard_output()), "yes\n/\nnot ours\n");
	EXPECT_TRUE(p.wait().success());
	EXPECT_EQ(thrown_by([] { process q({"true"}, {.directory = "/no/such/place"}); }), std::errc::no_such_file_or_directory);
}

// An LWP's vCPU and a helper thread both block signals; the child does not, and SIGPIPE ends it.
TEST_F(Process, SignalsAreAsByDefault) {
	process p(shell("grep -E 'SigBlk' /proc/self/status"), {.out = stdio::pipe()});
	EXPECT_EQ(all_of(p.standard_output()), "SigBlk:\t0000000000000000\n");
	p.wait();
	process q({"yes"}, {.out = stdio::pipe()});
	q.standard_output().close();
	EXPECT_EQ(q.wait(far()).signal(), SIGPIPE);
}

TEST_F(Process, WhatCannotStart) {
	std::error_code error;
	const process p({"/no/such/program"}, {}, error);
	EXPECT_EQ(error, std::errc::no_such_file_or_directory);
	EXPECT_FALSE(p.is_open());
	EXPECT_EQ(thrown_by([] { process q({"no such program"}, {.in = stdio::pipe(), .out = stdio::pipe()}); }),
	    std::errc::no_such_file_or_directory);
	EXPECT_EQ(thrown_by([] { process q({"/etc/passwd"}); }), std::errc::permission_denied);
	EXPECT_EQ(thrown_by([] { process q(std::vector<std::string>{}); }), std::errc::invalid_argument);
	EXPECT_EQ(thrown_by([] { process q({std::string("a\0b", 3)}); }), std::errc::invalid_argument);
	EXPECT_EQ(thrown_by([] { process q({"true"}, {.environment = {{std::string("a\0b", 3)}}}); }), std::errc::invalid_argument);
	process none;
	EXPECT_EQ(thrown_by([&] { none.wait(); }), std::errc::no_child_process);
	EXPECT_EQ(thrown_by([&] { (void)none.try_wait(); }), std::errc::no_child_process);
	EXPECT_EQ(thrown_by([&] { none.kill(); }), std::errc::no_such_process);
	EXPECT_EQ(thrown_by([&] { none.kill_group(); }), std::errc::no_such_process);
	none.detach();
}

TEST_F(Process, WaitWithALimit) {
	process p = sleeper();
	std::error_code error;
	EXPECT_EQ(p.try_wait(), std::nullopt);
	p.wait(error, within(2ms));
	EXPECT_EQ(error, std::errc::timed_out);
	EXPECT_EQ(thrown_by([&] { p.wait(within(1ms)); }), std::errc::timed_out);
	std::stop_source stop;
	subject s([&](subject &self) {
		self.about_to_block();
		p.wait(error, {.stop = stop.get_token()});
	});
	s.await_blocked();
	stop.request_stop();
	collect(s.lid());
	EXPECT_EQ(error, std::errc::operation_canceled);
	p.standard_input().write_all("\n");
	EXPECT_EQ(p.wait(far()).code(), 7);
}

// Another LWP may kill what one waits for.
TEST_F(Process, KillWhileWaiting) {
	process p = sleeper();
	int signal = 0;
	subject s([&](subject &self) {
		self.about_to_block();
		signal = p.wait().signal();
	});
	s.await_blocked();
	p.kill(SIGKILL);
	collect(s.lid());
	EXPECT_EQ(signal, SIGKILL);
}

TEST_F(Process, KernelThreadsFromOutside) {
	std::thread([] {
		process p = sleeper();
		std::error_code error;
		p.wait(error, within(1ms));
		EXPECT_EQ(error, std::errc::timed_out);
		p.standard_input().write_all("\n");
		EXPECT_EQ(p.wait().code(), 7);
	}).join();
}

TEST_F(Process, TheDestructorKillsAndCollects) {
	{ process p = sleeper(); }
	EXPECT_TRUE(childless());
	process p = sleeper();
	process q(std::move(p));
	EXPECT_FALSE(p.is_open());
	EXPECT_TRUE(q.is_open());
	q = process();
	EXPECT_TRUE(childless());
}

TEST_F(Process, ADetachedOneIsCollected) {
	process p = sleeper();
	const pid_t pid = p.id();
	p.detach();
	EXPECT_FALSE(p.is_open());
	EXPECT_EQ(::kill(pid, 0), 0);
	EXPECT_EQ(::kill(pid, SIGKILL), 0);
	EXPECT_TRUE(wait_until([pid] { return ::kill(pid, 0) == -1; }));
}

// The library waits for its end and does not bring it about.
TEST_F(Process, ADetachedOneLives) {
	lwp::pipe says;
	auto [ours, childs] = lwp::unix_stream::pair();
	process p(shell("cat; echo closed; read x <&2; echo $x"),
	    {.in = stdio::pipe(), .out = stdio::from(says.write_end.native_handle()), .error = stdio::from(childs)});
	says.write_end.close();
	childs.close();
	const pid_t pid = p.id();
	p.detach();
	lwp::reader out(says.read_end);
	EXPECT_EQ(out.read_line(far()), "closed");  // the library's LWP has begun, and closed its input
	for (int i = 0; i < 100; i++) {
		lwp_yield();
	}
	ours.write_all("alive\n");
	EXPECT_EQ(out.read_line(far()), "alive");
	EXPECT_FALSE(out.read_line(far()).has_value());
	EXPECT_TRUE(wait_until([pid] { return ::kill(pid, 0) == -1; }));  // a zombie would still be there
}

TEST_F(Process, AGroupIsKilledAsOne) {
	process p(shell("sleep 1000 & echo $!; wait"), {.in = stdio::null(), .out = stdio::pipe(), .new_group = true});
	lwp::reader out(p.standard_output());
	EXPECT_TRUE(out.read_line(far()).has_value());
	p.kill_group();
	EXPECT_EQ(p.wait(far()).signal(), SIGKILL);
	EXPECT_FALSE(out.read_line(far()).has_value());  // its grandchild has let go of the pipe
}

// Also what happens with SIGCHLD ignored: nobody has the status.
TEST_F(Process, SomebodyElseCollects) {
	process p = sleeper();
	p.kill();
	int status = 0;
	EXPECT_EQ(::waitpid(p.id(), &status, 0), p.id());
	std::error_code error;
	p.wait(error);
	EXPECT_EQ(error, std::errc::no_child_process);
	EXPECT_FALSE(p.is_open());
}

TEST_F(Process, ManyAtOnce) {
	std::vector<lwpid_t> all;
	std::atomic<int> sum{0};
	for (int i = 0; i < 20; i++) {
		all.push_back(
		    spawn([&, i] { sum += process(shell("exit " + std::to_string(i))).wait(i % 2 == 0 ? lwp::io_limit{} : far()).code(); }));
	}
	for (const lwpid_t lid : all) {
		collect(lid);
	}
	EXPECT_EQ(sum, 190);
}
