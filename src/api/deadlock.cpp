// SPDX-License-Identifier: BSD-2-Clause
#include "proc/report.h"
#include "proc/runtime.h"

#include <lwp/deadlock.hpp>

namespace lwp {

std::string deadlock_report() { return kern::report_all(kern::in_library()); }

}  // namespace lwp
