// SPDX-License-Identifier: BSD-2-Clause
//
// Everything the library offers.
#pragma once

#include <lwp/affinity.hpp>
#include <lwp/barrier.hpp>
#include <lwp/big_lock.hpp>
#include <lwp/blocking.hpp>
#include <lwp/channel.hpp>
#include <lwp/condition_variable.hpp>
#include <lwp/credential.hpp>
#include <lwp/deadlock.hpp>
#include <lwp/event.hpp>
#include <lwp/future.hpp>
#include <lwp/io.h>
#include <lwp/io.hpp>
#include <lwp/kauth.h>
#include <lwp/latch.hpp>
#include <lwp/lwp.h>
#include <lwp/mutex.hpp>
#include <lwp/net.hpp>
#include <lwp/parallel.hpp>
#include <lwp/preempt.hpp>
#include <lwp/proc.h>
#include <lwp/proc.hpp>
#include <lwp/process.hpp>
#include <lwp/pset.h>
#include <lwp/runtime.hpp>
#include <lwp/sched.h>
#include <lwp/scope.hpp>
#include <lwp/select.hpp>
#include <lwp/semaphore.hpp>
#include <lwp/shared_mutex.hpp>
#include <lwp/signal.h>
#include <lwp/specific.hpp>
#include <lwp/stop.hpp>
#include <lwp/thread.hpp>
#include <lwp/ticker.hpp>
#include <lwp/trace.h>
#include <lwp/tracer.hpp>
#include <lwp/usage.h>
#include <lwp/usage.hpp>
#include <lwp/wait_group.hpp>
