// SPDX-License-Identifier: BSD-2-Clause
//
// Room for a private type inside a public object.  All zeros is a valid state of every such type, so construction is constant initialization
// and needs no runtime; the library checks size and alignment where it knows the type.
#pragma once

#include <cstddef>

namespace lwp::detail {

template <std::size_t Size, std::size_t Align = alignof(void *)>
struct storage {
	alignas(Align) unsigned char bytes[Size]{};
};

}  // namespace lwp::detail
