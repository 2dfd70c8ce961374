// SPDX-License-Identifier: BSD-2-Clause
//
// What nearly every test program includes, compiled once for all of them (tests/CMakeLists.txt).  Nothing includes this file by itself, and no
// header of src/ is here: those change while one works.
#pragma once

#include <lwp/lwp.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <shared_mutex>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>
