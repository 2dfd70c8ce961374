// SPDX-License-Identifier: BSD-2-Clause
//
// What of a stack is in memory while nobody runs on it.  Below its stack pointer a stack keeps nothing, so those pages can go, and come back as zeros; what
// is above keeps its contents, wherever the kernel puts it.
// Nobody may run on the stack meanwhile.  Takes no lock, never fails: memory that cannot be given back stays.
#pragma once

#include "ctx/stack.h"

namespace lwp::kern {

/// Gives the whole pages below `sp` back.  How many bytes those are.
std::size_t stack_give_back(const stack &, const void *sp) noexcept;
/// The rest will not be used for long: the kernel may write it to its swap space.
void stack_page_out(const stack &, const void *sp) noexcept;
/// What whoever runs on it next will touch first is in memory: all that it keeps, and a page below.
void stack_page_in(const stack &, const void *sp) noexcept;

}  // namespace lwp::kern
