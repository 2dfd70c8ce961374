// SPDX-License-Identifier: BSD-2-Clause
//
// lwp::endpoint: no text is both an address and none; what an address is printed as is that address.
#include "fuzz.h"

#include <lwp/net.hpp>

#include <compare>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
	const std::string_view text(reinterpret_cast<const char *>(data), size);
	std::error_code error;
	const lwp::endpoint e = lwp::endpoint::parse(text, error);
	bool thrown = false;
	try {
		fuzz::require(lwp::endpoint::parse(text) == e);
	} catch (const lwp::io_error &) {
		thrown = true;
	}
	fuzz::require(thrown == static_cast<bool>(error) && thrown == (e.family() == AF_UNSPEC));
	if (!error) {
		const lwp::endpoint again = lwp::endpoint::parse(e.to_string());
		fuzz::require(again == e && (again <=> e) == 0 && again.port() == e.port() && again.to_string() == e.to_string());
		fuzz::require(e.with_port(7).with_port(e.port()) == e);
	}
	return 0;
}
