// SPDX-License-Identifier: BSD-2-Clause
//
// How a proc ends, whatever its LWPs are at; and storms of procs that begin and end.  What is left is looked at after each test: a proc that has ended
// leaves nothing.
// vcpus: 1 2 8
#include "proc_support.h"

#include <lwp/io.hpp>

#include <csignal>
#include <list>
#include <new>
#include <span>
#include <stop_token>
#include <sys/wait.h>
#include <system_error>
#include <thread>
#include <unistd.h>
#include <vector>

using namespace lwp::test;
using namespace std::chrono_literals;

namespace {

const bool touched = touch_runtime();

/// Whose state outlives the frames of LWPs that were made to end: those that hold it are not unwound, so it is never freed.
std::stop_source &kept_stop() {
	static auto &all = *new std::list<std::stop_source>;
	return all.emplace_back();
}

}  // namespace

// ---- ended, whatever its LWPs are at -----------------------------------------------------------------------------------------

namespace {

/// Static: frames of LWPs that are made to end are not unwound.
struct stage {
	lwp::mutex mutex;
	lwp::shared_mutex shared;
	lwp::channel<int> empty;
	lwp::channel<int> other;
	lwp::condition_variable cond;
	lwp::condition_variable_any any;
	lwp::counting_semaphore<8> none{0};
	lwp::latch latch{1};
	lwp::barrier<> barrier{2};
	lwp::event event;
	lwp::wait_group group;
	lwpid_t peer = 0;
	int pipe[2] = {-1, -1};
};
stage *on;

struct pose {
	const char *name;
	void (*take)();
};

std::stop_token token() {
	static std::stop_source &never_requested = kept_stop();
	return never_requested.get_token();
}

void read_pipe(const lwp::io_limit &limit) {
	static char c;
	std::error_code error;
	lwp::pipe_read_end end(on->pipe[0]);
	(void)end.read(std::as_writable_bytes(std::span(&c, 1)), error, limit);
	(void)end.release();
}

const pose poses[] = {
    {"computes",
        [] {
	        for (;;) {
		        lwp_yield();
	        }
        }},
    {"parked", [] { (void)park(); }},
    {"parked for a time", [] { (void)park_for(1h); }},
    {"sleeps", [] { lwp::this_thread::sleep_for(1h); }},
    {"sleeps until it is asked to stop", [] { (void)lwp::this_thread::sleep_for(1h, token()); }},
    {"suspended", [] { (void)_lwp_suspend(_lwp_self()); }},
    {"waits for an LWP", [] { (void)_lwp_wait(on->peer, nullptr); }},
    {"waits for any LWP", [] { (void)_lwp_wait(0, nullptr); }},
    {"joins until it is asked to stop",
        [] {
	        lwp::thread t([] { (void)park_for_ever(nullptr); });
	        (void)t.join(token());
        }},
    {"mutex", [] { on->mutex.lock(); }},
    {"shared mutex", [] { on->shared.lock(); }},
    {"shared", [] { on->shared.lock_shared(); }},
    {"channel", [] { (void)on->empty.receive(); }},
    {"channel for a time", [] { (void)on->empty.receive_for(1h); }},
    {"channel until it is asked to stop", [] { (void)on->empty.receive(token()); }},
    {"sends", [] { on->empty.send(1); }},
    {"select", [] { lwp::select(lwp::on_receive(on->empty, [](auto &&) {}), lwp::on_receive(on->other, [](auto &&) {})); }},
    {"condition variable",
        [] {
	        lwp::mutex own;
	        std::unique_lock lock(own);
	        on->cond.wait(lock);
        }},
    {"condition variable, any",
        [] {
	        lwp::mutex own;
	        std::unique_lock lock(own);
	        on->any.wait(lock);
        }},
    {"condition variable, any, until it is asked to stop",
        [] {
	        lwp::mutex own;
	        std::unique_lock lock(own);
	        (void)on->any.wait(lock, token(), [] { return false; });
        }},
    {"semaphore", [] { on->none.acquire(); }},
    {"latch", [] { on->latch.wait(); }},
    {"barrier", [] { on->barrier.arrive_and_wait(); }},
    {"event", [] { on->event.wait(); }},
    {"wait group", [] { on->group.wait(); }},
    {"signal",
        [] {
	        sigset_t set;
	        sigemptyset(&set);
	        sigaddset(&set, SIGUSR2);
	        int sig;
	        (void)lwp_sigwait(&set, &sig);
        }},
    {"reads", [] { read_pipe({}); }},
    {"reads for a time", [] { read_pipe(lwp::within(1h)); }},
    {"reads until it is asked to stop", [] { read_pipe({.stop = token()}); }},
    {"waits for a proc", [] { (void)lwp_proc_wait(create(until_orphan), nullptr, 0); }},
    {"makes LWPs",
        [] {
	        for (;;) {
		        begin_detached([] { (void)park_for(1ms); });
		        lwp_yield();
	        }
        }},
    {"makes suspended LWPs",
        [] {
	        for (int i = 0;; i++) {
		        ucontext_t context;
		        lwpid_t lid;
		        _lwp_makecontext(
		            &context, [](void *) {}, nullptr, nullptr, nullptr, 64 * 1024);
		        (void)_lwp_create(&context, LWP_SUSPENDED, &lid);
		        for (int k = 0; k < i; k++) {
			        lwp_yield();
		        }
	        }
        }},
    {"makes procs",
        [] {
	        for (;;) {
		        lwp::proc([] { lwp_yield(); }).detach();
		        lwp_yield();
	        }
        }},
};

/// One LWP in this pose and one that is parked; then `end`.
template <class End>
void end_in(const pose &p, End end) {
	stage st;
	on = &st;
	ASSERT_EQ(::pipe(st.pipe), 0);
	st.mutex.lock();
	st.shared.lock();
	st.group.add(1);
	std::atomic<bool> posed{false};
	std::atomic<bool> ran_on{false};
	struct pair {
		const pose *p;
		std::atomic<bool> *posed, *ran_on;
	} both{&p, &posed, &ran_on};
	lwp::proc child([&both] {
		on->peer = begin([] { (void)park_for_ever(nullptr); });
		(void)begin([at = &both] {
			at->posed->store(true);
			at->p->take();
			at->ran_on->store(true);
			(void)park_for_ever(nullptr);
		});
		(void)park_for_ever(nullptr);
	});
	EXPECT_TRUE(wait_until([&] { return posed.load(); })) << p.name;
	for (int i = 0; i < 30; i++) {
		lwp_yield();
	}
	end(child);
	EXPECT_FALSE(child.is_open());
	EXPECT_FALSE(ran_on.load()) << p.name << ": it came out of the call and ran on";
	st.group.done();
	st.shared.unlock();
	st.mutex.unlock();
	::close(st.pipe[0]);
	::close(st.pipe[1]);
}

}  // namespace

TEST(ProcEnd, InEachPose) {
	for (const pose &p : poses) {
		end_in(p, [&p](lwp::proc &child) {
			child.kill();
			EXPECT_EQ(child.wait().signal(), SIGKILL) << p.name;
		});
	}
}

TEST(ProcEnd, InEachPoseWhileStopped) {
	for (const pose &p : poses) {
		end_in(p, [&p](lwp::proc &child) {
			child.stop();
			for (int i = 0; i < 10; i++) {
				lwp_yield();
			}
			child.kill();
			EXPECT_EQ(child.wait().signal(), SIGKILL) << p.name;
		});
	}
}

TEST(ProcEnd, ByDestructor) {
	for (const pose &p : poses) {
		end_in(p, [&p](lwp::proc &child) {
			const pid_t pid = child.id();
			child = lwp::proc();
			EXPECT_EQ(error_of(lwp_proc_signal(pid, 0)), ESRCH) << p.name;
		});
	}
}

// What others can reach was taken back before the stack went: whoever comes later finds nobody.
TEST(ProcEnd, RecordsAreTakenBack) {
	lwp::channel<int> ch;
	std::stop_source &stop = kept_stop();
	for (std::size_t i = 0; i < rounds(20); i++) {
		lwp::proc child([&] {
			(void)begin([&ch] { (void)ch.receive(); });
			(void)begin([&ch, &stop] { (void)ch.receive(stop.get_token()); });
			(void)ch.receive_for(1h);
		});
		for (std::size_t k = 0; k < i; k++) {
			lwp_yield();
		}
		child.kill();
		EXPECT_EQ(child.wait().signal(), SIGKILL);
		EXPECT_FALSE(ch.try_send(1)) << "somebody dead still waits";
	}
	stop.request_stop();
}

TEST(ProcEnd, WhatNobodyCollectedGoesWithIt) {
	lwp::proc p([] {
		for (int i = 0; i < 20; i++) {
			await_end(spawn([] {}, i % 2 == 0 ? 0UL : static_cast<unsigned long>(LWP_DETACHED)));
		}
		return 1;
	});
	EXPECT_EQ(p.wait().code(), 1);
}

TEST(ProcEnd, DestructorsOfSpecificDataRun) {
	static std::atomic<int> destroyed{0};
	specificdata_key_t key;
	ASSERT_EQ(lwp_specific_key_create(&key,
	              [](void *) {
		              lwp_yield();
		              destroyed.fetch_add(1);
	              }),
	    0);
	destroyed = 0;
	lwp::proc p([key] {
		for (int i = 0; i < 3; i++) {
			(void)begin([key] {
				lwp_setspecific(key, &destroyed);
				(void)park_for_ever(nullptr);
			});
		}
		lwp_setspecific(key, &destroyed);
		for (int i = 0; i < 50; i++) {
			lwp_yield();
		}
	});
	(void)wait_until([&] { return lwp::runtime::stats().lwps >= 4; });
	p.kill();
	(void)p.wait();
	EXPECT_GE(destroyed.load(), 1);
	lwp_specific_key_delete(key);
}

TEST(ProcEnd, DetachedOneIsCollectedByItself) {
	std::atomic<bool> leave{false};
	lwp::proc p([&leave] {
		while (!leave.load()) {
			lwp_yield();
		}
	});
	const pid_t pid = p.id();
	p.detach();
	EXPECT_FALSE(p.is_open());
	EXPECT_EQ(error_of(static_cast<int>(lwp_proc_wait(pid, nullptr, 0))), ECHILD);
	EXPECT_EQ(error_of(lwp_proc_signal(pid, 0)), 0);
	leave = true;
	EXPECT_TRUE(wait_until([pid] { return error_of(lwp_proc_signal(pid, 0)) == ESRCH; }));
	lwp::proc ended([] {});
	EXPECT_TRUE(wait_until([&ended] { return error_of(lwp_proc_signal(ended.id(), 0)) == ESRCH; }));
	ended.detach();  // a zombie goes at once
}

TEST(ProcEnd, WaiterIsToldOfADetach) {
	for (const bool any : {false, true}) {
		idler child;
		const pid_t pid = child.proc.id();
		subject s([which = any ? -1 : pid](subject &me) {
			me.about_to_block();
			me.set_result(error_of(static_cast<int>(lwp_proc_wait(which, nullptr, 0))));
		});
		s.await_blocked();
		child.proc.detach();
		collect(s.lid());
		EXPECT_EQ(s.result(), ECHILD);
		EXPECT_EQ(error_of(lwp_proc_signal(pid, SIGKILL)), 0);
		EXPECT_TRUE(wait_until([pid] { return error_of(lwp_proc_signal(pid, 0)) == ESRCH; }));
	}
}

TEST(ProcEnd, ChildrenLiveOnAsOrphans) {
	static std::atomic<pid_t> orphan{0};
	static std::atomic<pid_t> parent{0};
	static std::atomic<bool> leave{false};
	orphan = 0;
	leave = false;
	lwp::proc p([] {
		orphan = create([](void *) {
			while (!leave.load()) {
				lwp_yield();
			}
			parent = lwp_proc_parent();
			return 0;
		});
		(void)create(return_7);  // may be a zombie by then
		for (int i = 0; i < 20; i++) {
			lwp_yield();
		}
		return 2;
	});
	EXPECT_EQ(p.wait().code(), 2);
	EXPECT_EQ(error_of(lwp_proc_signal(orphan, 0)), 0);
	EXPECT_EQ(error_of(static_cast<int>(lwp_proc_wait(orphan, nullptr, 0))), ECHILD) << "no child of ours";
	leave = true;
	EXPECT_TRUE(wait_until([] { return error_of(lwp_proc_signal(orphan, 0)) == ESRCH; }));
	EXPECT_EQ(parent.load(), 1);
}

// A handler that runs in the middle of a wait with a record comes first, whatever it waits for; then the wait is taken back.
TEST(ProcEnd, HandlerInTheMiddleOfAWaitComesFirst) {
	static lwp::counting_semaphore<1> *through;
	static std::atomic<int> at;
	lwp::counting_semaphore<1> s{0};
	through = &s;
	at = 0;
	lwp::channel<int> ch;
	lwp::proc p([&ch] {
		handle(SIGUSR1, [](int) {
			at = 1;
			through->acquire();
			at = 2;
		});
		at = -1;
		(void)ch.receive();
		at = 3;
	});
	EXPECT_TRUE(wait_until([] { return at.load() == -1; }));
	for (int i = 0; i < 20; i++) {
		lwp_yield();
	}
	p.kill(SIGUSR1);
	EXPECT_TRUE(wait_until([] { return at.load() == 1; }));
	for (int i = 0; i < 20; i++) {
		lwp_yield();
	}
	p.kill();
	EXPECT_FALSE(p.try_wait_for(1ms).has_value());
	EXPECT_EQ(at.load(), 1);
	s.release();
	EXPECT_EQ(p.wait().signal(), SIGKILL);
	EXPECT_EQ(at.load(), 2);
}

// A mutex whose owner was made to end stays locked; whoever waits for it in another proc is not harmed by that otherwise, nor is who gets the dead
// LWP's struct.
TEST(ProcEnd, LocksOfTheDeadStayLocked) {
	lwp::mutex mutex;
	gate locked;
	lwp::proc p([&] {
		mutex.lock();
		locked.open();
		(void)park_for_ever(nullptr);
	});
	locked.pass();
	lwp::proc waiter({.first = {.name = "waiter"}}, [&] { mutex.lock(); });
	for (int i = 0; i < 20; i++) {
		lwp_yield();
	}
	p.kill();
	EXPECT_EQ(p.wait().signal(), SIGKILL);
	for (int i = 0; i < 50; i++) {
		collect(spawn([] { lwp_yield(); }));
	}
	EXPECT_FALSE(mutex.try_lock());
	waiter.kill();
	EXPECT_EQ(waiter.wait().signal(), SIGKILL);
	::new (static_cast<void *>(&mutex)) lwp::mutex;  // nobody will ever unlock it
}

// ---- storms --------------------------------------------------------------------------------------------------------------------

// Procs that make procs that make LWPs, ended by themselves, by their parent, by others and by nobody, all at once.
TEST(ProcStorm, ManyAtOnce) {
	static std::atomic<std::uint64_t> base{0};
	base = seed();
	static std::atomic<pid_t> known[16];
	struct actor {
		static void lwps(dice &d) {
			for (unsigned i = d.below(4); i > 0; i--) {
				switch (d.below(4)) {
				case 0:
					begin_detached([] { (void)park_for(std::chrono::microseconds(200)); });
					break;
				case 1:
					(void)begin([] {
						lwp::channel<int> none;
						(void)none.receive_for(std::chrono::microseconds(200));
					});
					break;
				case 2:
					(void)_lwp_wait(begin([] { lwp_yield(); }), nullptr);
					break;
				default:
					(void)begin([] { (void)park_for(1ms); });
					break;
				}
			}
		}
		static int live(unsigned depth) {
			dice d(base.fetch_add(0x9e3779b97f4a7c15U));
			known[d.below(16)] = lwp_proc_self();
			lwps(d);
			if (depth != 0 && d.one_in(2)) {
				lwp::proc child([depth] { return live(depth - 1); });
				switch (d.below(4)) {
				case 0:
					(void)child.wait();
					break;
				case 1:
					child.detach();
					break;
				case 2:
					(void)child.try_wait_for(std::chrono::microseconds(d.below(300)));
					break;  // and killed
				default:
					lwps(d);
					if (d.one_in(2)) {
						lwp::this_proc::exit(1);  // an orphan stays
					}
					break;
				}
			}
			if (d.one_in(3)) {
				const pid_t victim = known[d.below(16)].load();
				if (victim > 1) {
					(void)lwp_proc_signal(victim, d.one_in(3) ? SIGSTOP : d.one_in(2) ? SIGCONT : SIGKILL);
				}
			}
			if (d.one_in(20)) {
				lwp::stop_the_world world(std::chrono::milliseconds(1));
			}
			return static_cast<int>(d.below(3));
		}
	};
	std::atomic<bool> leave{false};
	const lwpid_t waker = spawn([&leave] {  // whoever was stopped goes on
		while (!leave.load()) {
			for (const std::atomic<pid_t> &k : known) {
				if (const pid_t pid = k.load(); pid > 1) {
					(void)lwp_proc_signal(pid, SIGCONT);
				}
			}
			(void)park_for(std::chrono::microseconds(100));
		}
	});
	std::vector<lwpid_t> makers;
	for (int m = 0; m < 4; m++) {
		makers.push_back(spawn([] {
			for (std::size_t i = 0; i < rounds(60); i++) {
				lwp::proc p([] { return actor::live(3); });
				(void)p.try_wait_for(2ms);
				if (p.is_open()) {
					(void)lwp_proc_signal(p.id(), SIGKILL);  // it may have ended
					(void)p.wait();
				}
			}
		}));
	}
	for (const lwpid_t lid : makers) {
		collect(lid);
	}
	// Orphans that were stopped are continued by the waker until none is left.
	EXPECT_TRUE(wait_until([] {
		for (const kinfo_lwp &k : lwp::every_lwp()) {
			if (k.l_pid != 1) {
				(void)lwp_proc_signal(k.l_pid, SIGKILL);
				return false;
			}
		}
		return true;
	}));
	leave = true;
	collect(waker);
}

// A proc that is killed just as it ends by itself and is waited for by two.
TEST(ProcStorm, EndMeetsKillAndWait) {
	for (std::size_t i = 0; i < rounds(300); i++) {
		const pid_t pid = create([](void *) {
			(void)_lwp_wait(begin([] { lwp_yield(); }), nullptr);
			return 1;
		});
		std::atomic<int> got{0};
		const auto waits = [&got, pid] {
			int status;
			if (lwp_proc_wait(pid, &status, 0) == pid) {
				EXPECT_TRUE(status == 0x100 || status == SIGKILL) << status;
				got.fetch_add(1);
			}
		};
		const lwpid_t a = spawn(waits);
		const lwpid_t b = spawn(waits);
		for (std::size_t k = 0; k < i % 12; k++) {
			lwp_yield();
		}
		(void)lwp_proc_signal(pid, SIGKILL);
		collect(a);
		collect(b);
		EXPECT_EQ(got.load(), 1);
	}
}

// From kernel threads of the application, which are LWPs of the first proc.
TEST(ProcStorm, FromOutside) {
	std::vector<std::thread> threads;
	for (int t = 0; t < 3; t++) {
		threads.emplace_back([] {
			for (std::size_t i = 0; i < rounds(50); i++) {
				lwp::proc p([] {
					(void)begin([] { (void)park(); });
					(void)park_for_ever(nullptr);
				});
				EXPECT_EQ(lwp_proc_self(), 1);
				p.kill();
				EXPECT_EQ(p.wait().signal(), SIGKILL);
			}
		});
	}
	for (std::thread &t : threads) {
		t.join();
	}
}
