// SPDX-License-Identifier: BSD-2-Clause
//
// Everything the library offers.
#pragma once

#include <lwp/lwp.h>
#include <lwp/runtime.hpp>
#include <lwp/specific.hpp>
#include <lwp/thread.hpp>
