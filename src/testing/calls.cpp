// SPDX-License-Identifier: BSD-2-Clause
//
// The calls at which an explored schedule takes a step before they are made.  The linker (--wrap, see CMakeLists.txt) has a program's references to the
// mangled names below come here, and from here to the library's own.  After a call there is a step at its boundary, if it passes one; those
// that need no wait often do not, and would be no steps at all: two mutexes could not be taken in two orders.
//
// Each line: what it returns, a name for people, the types of its arguments behind the object, and the linker's name.  A symbol that the library does not
// have (any more) is found by tests/testing/check_calls.py: the linker would say nothing.
#include <lwp/channel.hpp>
#include <lwp/testing.hpp>

#include <chrono>

namespace {
using steady_time = std::chrono::steady_clock::time_point;
using status = lwp::channel_status;
using lwp_function = void (*)(void *);
}  // namespace

#define LWP_STEP(name, object) lwp::testing::detail::step(name, object, __builtin_return_address(0))

// A member function: the object is its first argument.
#define MEMBER(result, name, symbol)                \
	extern "C" result __real_##symbol(void *);      \
	extern "C" result __wrap_##symbol(void *self) { \
		LWP_STEP(name, self);                       \
		return __real_##symbol(self);               \
	}
#define MEMBER1(result, name, type, symbol)                 \
	extern "C" result __real_##symbol(void *, type);        \
	extern "C" result __wrap_##symbol(void *self, type a) { \
		LWP_STEP(name, self);                               \
		return __real_##symbol(self, a);                    \
	}
#define MEMBER2(result, name, type_a, type_b, symbol)                   \
	extern "C" result __real_##symbol(void *, type_a, type_b);          \
	extern "C" result __wrap_##symbol(void *self, type_a a, type_b b) { \
		LWP_STEP(name, self);                                           \
		return __real_##symbol(self, a, b);                             \
	}

#define MEMBER3(result, name, type_a, type_b, type_c, symbol)                     \
	extern "C" result __real_##symbol(void *, type_a, type_b, type_c);            \
	extern "C" result __wrap_##symbol(void *self, type_a a, type_b b, type_c c) { \
		LWP_STEP(name, self);                                                     \
		return __real_##symbol(self, a, b, c);                                    \
	}
#define FREE(result, name, symbol)        \
	extern "C" result __real_##symbol();  \
	extern "C" result __wrap_##symbol() { \
		LWP_STEP(name, nullptr);          \
		return __real_##symbol();         \
	}
#define FREE1(result, name, type, symbol)       \
	extern "C" result __real_##symbol(type);    \
	extern "C" result __wrap_##symbol(type a) { \
		LWP_STEP(name, nullptr);                \
		return __real_##symbol(a);              \
	}
#define FREE2(result, name, type_a, type_b, symbol)         \
	extern "C" result __real_##symbol(type_a, type_b);      \
	extern "C" result __wrap_##symbol(type_a a, type_b b) { \
		LWP_STEP(name, nullptr);                            \
		return __real_##symbol(a, b);                       \
	}

/// Named on the linker's command line, so that this file is linked whatever else is.
extern "C" void lwp_testing_calls() {}

// clang-format off

// mutex
MEMBER(void, "mutex::lock", _ZN3lwp5mutex9lock_callEv)
MEMBER(bool, "mutex::try_lock", _ZN3lwp5mutex13try_lock_callEv)
MEMBER2(bool, "mutex::try_lock_until", steady_time, const void *, _ZN3lwp5mutex21try_lock_until_steadyENSt6chrono10time_pointINS1_3_V212steady_clockENS1_8durationIlSt5ratioILl1ELl1000000000EEEEEEPKSt10stop_token)
MEMBER(void, "mutex::unlock", _ZN3lwp5mutex11unlock_callEv)

// recursive_mutex
MEMBER(void, "recursive_mutex::lock", _ZN3lwp15recursive_mutex9lock_callEv)
MEMBER(bool, "recursive_mutex::try_lock", _ZN3lwp15recursive_mutex13try_lock_callEv)
MEMBER2(bool, "recursive_mutex::try_lock_until", steady_time, const void *, _ZN3lwp15recursive_mutex21try_lock_until_steadyENSt6chrono10time_pointINS1_3_V212steady_clockENS1_8durationIlSt5ratioILl1ELl1000000000EEEEEEPKSt10stop_token)
MEMBER(void, "recursive_mutex::unlock", _ZN3lwp15recursive_mutex11unlock_callEv)

// shared_mutex
MEMBER(void, "shared_mutex::lock", _ZN3lwp12shared_mutex9lock_callEv)
MEMBER(bool, "shared_mutex::try_lock", _ZN3lwp12shared_mutex13try_lock_callEv)
MEMBER2(bool, "shared_mutex::try_lock_until", steady_time, const void *, _ZN3lwp12shared_mutex21try_lock_until_steadyENSt6chrono10time_pointINS1_3_V212steady_clockENS1_8durationIlSt5ratioILl1ELl1000000000EEEEEEPKSt10stop_token)
MEMBER(void, "shared_mutex::unlock", _ZN3lwp12shared_mutex11unlock_callEv)
MEMBER(void, "shared_mutex::lock_shared", _ZN3lwp12shared_mutex16lock_shared_callEv)
MEMBER(bool, "shared_mutex::try_lock_shared", _ZN3lwp12shared_mutex20try_lock_shared_callEv)
MEMBER2(bool, "shared_mutex::try_lock_shared_until", steady_time, const void *, _ZN3lwp12shared_mutex28try_lock_shared_until_steadyENSt6chrono10time_pointINS1_3_V212steady_clockENS1_8durationIlSt5ratioILl1ELl1000000000EEEEEEPKSt10stop_token)
MEMBER(void, "shared_mutex::unlock_shared", _ZN3lwp12shared_mutex18unlock_shared_callEv)

// condition variables
MEMBER(void, "condition_variable::notify_one", _ZN3lwp18condition_variable10notify_oneEv)
MEMBER(void, "condition_variable::notify_all", _ZN3lwp18condition_variable10notify_allEv)
MEMBER(void, "condition_variable_any::notify_one", _ZN3lwp22condition_variable_any10notify_oneEv)
MEMBER(void, "condition_variable_any::notify_all", _ZN3lwp22condition_variable_any10notify_allEv)
MEMBER2(bool, "condition_variable::wait_until", void *, steady_time, _ZN3lwp18condition_variable17wait_until_steadyERSt11unique_lockINS_5mutexEENSt6chrono10time_pointINS5_3_V212steady_clockENS5_8durationIlSt5ratioILl1ELl1000000000EEEEEE)
MEMBER1(bool, "any_wait::sleep", steady_time, _ZN3lwp6detail8any_wait5sleepENSt6chrono10time_pointINS2_3_V212steady_clockENS2_8durationIlSt5ratioILl1ELl1000000000EEEEEE)
MEMBER2(bool, "any_wait::sleep", steady_time, const void *, _ZN3lwp6detail8any_wait5sleepENSt6chrono10time_pointINS2_3_V212steady_clockENS2_8durationIlSt5ratioILl1ELl1000000000EEEEEERKSt10stop_token)

// semaphores, events, latches and wait groups, call_once
MEMBER(void, "semaphore::acquire", _ZN3lwp6detail9semaphore7acquireEv)
MEMBER(bool, "semaphore::try_acquire", _ZN3lwp6detail9semaphore11try_acquireEv)
MEMBER2(bool, "semaphore::try_acquire_until", steady_time, const void *, _ZN3lwp6detail9semaphore17try_acquire_untilENSt6chrono10time_pointINS2_3_V212steady_clockENS2_8durationIlSt5ratioILl1ELl1000000000EEEEEEPKSt10stop_token)
MEMBER1(void, "semaphore::release", long, _ZN3lwp6detail9semaphore7releaseEl)
MEMBER(void, "event::set", _ZN3lwp5event3setEv)
MEMBER(void, "event::reset", _ZN3lwp5event5resetEv)
MEMBER(void, "event::wait", _ZN3lwp5event4waitEv)
MEMBER2(bool, "event::wait_until", steady_time, const void *, _ZN3lwp5event17wait_until_steadyENSt6chrono10time_pointINS1_3_V212steady_clockENS1_8durationIlSt5ratioILl1ELl1000000000EEEEEEPKSt10stop_token)
MEMBER2(void, "latch::up", long, const char *, _ZN3lwp6detail9countdown2upElPKc)
MEMBER2(void, "latch::down", long, const char *, _ZN3lwp6detail9countdown4downElPKc)
MEMBER1(void, "latch::wait", const char *, _ZN3lwp6detail9countdown4waitEPKc)
MEMBER3(bool, "latch::wait_until", const char *, steady_time, const void *, _ZN3lwp6detail9countdown10wait_untilEPKcNSt6chrono10time_pointINS4_3_V212steady_clockENS4_8durationIlSt5ratioILl1ELl1000000000EEEEEEPKSt10stop_token)
MEMBER(bool, "once_flag::begin", _ZN3lwp9once_flag5beginEv)
MEMBER1(void, "once_flag::end", bool, _ZN3lwp9once_flag3endEb)

// channels
MEMBER1(status, "channel::try_send", void *, _ZN3lwp6detail12channel_base13try_send_fromEPv)
MEMBER1(status, "channel::send", void *, _ZN3lwp6detail12channel_base9send_fromEPv)
MEMBER1(status, "channel::try_receive", void *, _ZN3lwp6detail12channel_base16try_receive_intoEPv)
MEMBER1(status, "channel::receive", void *, _ZN3lwp6detail12channel_base12receive_intoEPv)
MEMBER(bool, "channel::close", _ZN3lwp6detail12channel_base5closeEv)

// LWPs
FREE(int, "yield", lwp_yield)
FREE2(lwpid_t, "thread", const void *, lwp_function, _ZN3lwp6detail13thread_launchERKNS0_7nascentEPFvPvE)
FREE1(void, "thread::join", lwpid_t, _ZN3lwp6detail11thread_joinEi)
FREE1(void, "sleep_until", steady_time, _ZN3lwp6detail18sleep_until_steadyENSt6chrono10time_pointINS1_3_V212steady_clockENS1_8durationIlSt5ratioILl1ELl1000000000EEEEEE)
FREE2(int, "_lwp_unpark", lwpid_t, const void *, _lwp_unpark)
