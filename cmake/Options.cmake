# SPDX-License-Identifier: BSD-2-Clause
#
# The choices of a build.  Sets, from the LWP_* cache variables:
#   LWP_WITH_TESTS, LWP_WITH_BENCH, LWP_WITH_EXAMPLES   what to build besides the library
#   LWP_WITH_TLS                                        the library of TLS streams, on OpenSSL
#   LWP_SANITIZE_FLAGS                                  compiler and linker flags of the sanitizer, empty without one
#   LWP_HAVE_VALGRIND                                   tell Valgrind about stacks

set(auto "AUTO: if this is the top-level project and the libraries it needs are installed")
set(LWP_BUILD_TESTS AUTO CACHE STRING "Build the tests (GoogleTest): ON, OFF or ${auto}")
set(LWP_BUILD_BENCH AUTO CACHE STRING "Build the benchmarks (Google Benchmark): ON, OFF or ${auto}")
set(LWP_BUILD_EXAMPLES AUTO CACHE STRING "Build the examples: ON, OFF or ${auto}")
set(LWP_TLS AUTO CACHE STRING "Build TLS streams, lwp::tls (OpenSSL 3: libssl-dev): ON, OFF or AUTO: if OpenSSL is installed")
set_property(CACHE LWP_BUILD_TESTS LWP_BUILD_BENCH LWP_BUILD_EXAMPLES LWP_TLS PROPERTY STRINGS AUTO ON OFF)
set(LWP_SANITIZE "" CACHE STRING "Build everything with a sanitizer: address (with undefined), thread, undefined, or empty")
set_property(CACHE LWP_SANITIZE PROPERTY STRINGS "" address thread undefined)
option(LWP_DEBUG "Check the library's invariants and lock ranks at run time" OFF)
option(LWP_FAULTS "Let tests make system calls fail (tests/faults)" OFF)
option(LWP_WERROR "Warnings are errors" OFF)
option(LWP_PORTABLE_SWITCH "Switch with the public boost::context::fiber only" OFF)
option(LWP_COVERAGE "Count what of the library is executed (tools/coverage.py; gcc)" OFF)
option(LWP_VALGRIND "Tell Valgrind about LWP stacks if its header is installed" OFF)

set(LWP_TEST_FLAGS "" CACHE STRING "Compiler flags of all in tests/, after the others")

# The heavy headers of the tests are compiled once, if nothing else is said.  ccache keeps no object that such headers went into, unless its
# owner lets it be less exact (CCACHE_SLOPPINESS=pch_defines,time_macros): what it finds is worth more.
if(NOT DEFINED CMAKE_DISABLE_PRECOMPILE_HEADERS AND CMAKE_CXX_COMPILER_LAUNCHER)
	set(CMAKE_DISABLE_PRECOMPILE_HEADERS ON)
endif()

if(PROJECT_IS_TOP_LEVEL AND NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
	set(CMAKE_BUILD_TYPE Release CACHE STRING "Debug, Release, RelWithDebInfo or MinSizeRel" FORCE)
endif()

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_C_STANDARD 11)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_COLOR_DIAGNOSTICS ON)

# lwp_choose(<result> <choice> [package]): what ON, OFF or AUTO comes to.  ON without the package is an error.
function(lwp_choose result choice)
	set(answer OFF)
	if(choice STREQUAL "AUTO")
		set(answer ${PROJECT_IS_TOP_LEVEL})
		if(answer AND ARGC GREATER 2)
			find_package(${ARGV2} QUIET)
			if(NOT ${ARGV2}_FOUND)
				message(STATUS "${result}: OFF, ${ARGV2} is not installed")
				set(answer OFF)
			endif()
		endif()
	elseif(choice)
		set(answer ON)
	endif()
	if(answer AND ARGC GREATER 2)
		find_package(${ARGV2} REQUIRED)
	endif()
	set(${result} ${answer} PARENT_SCOPE)
endfunction()

lwp_choose(LWP_WITH_TESTS "${LWP_BUILD_TESTS}" GTest)
lwp_choose(LWP_WITH_BENCH "${LWP_BUILD_BENCH}" benchmark)
lwp_choose(LWP_WITH_EXAMPLES "${LWP_BUILD_EXAMPLES}")

set(LWP_WITH_TLS OFF)
if(LWP_TLS STREQUAL "AUTO")
	find_package(OpenSSL 3.0 QUIET COMPONENTS SSL)
	if(OPENSSL_FOUND)
		set(LWP_WITH_TLS ON)
	else()
		message(STATUS "LWP_WITH_TLS: OFF, OpenSSL 3 (libssl-dev) is not installed")
	endif()
elseif(LWP_TLS)
	find_package(OpenSSL 3.0 REQUIRED COMPONENTS SSL)
	set(LWP_WITH_TLS ON)
endif()

if(LWP_SANITIZE STREQUAL "address")
	set(LWP_SANITIZE_FLAGS -fsanitize=address,undefined)
elseif(LWP_SANITIZE MATCHES "^(thread|undefined)$")
	set(LWP_SANITIZE_FLAGS -fsanitize=${LWP_SANITIZE})
elseif(LWP_SANITIZE STREQUAL "")
	set(LWP_SANITIZE_FLAGS "")
else()
	message(FATAL_ERROR "LWP_SANITIZE=${LWP_SANITIZE}: address, thread, undefined or empty")
endif()
if(LWP_SANITIZE_FLAGS)
	# The first finding ends the program: a test that prints an error and passes would be worth nothing.
	add_compile_options(${LWP_SANITIZE_FLAGS} -fno-sanitize-recover=all -fno-omit-frame-pointer)
	add_link_options(${LWP_SANITIZE_FLAGS})
endif()

set(LWP_HAVE_VALGRIND OFF)
if(LWP_VALGRIND)
	include(CheckIncludeFile)
	check_include_file(valgrind/valgrind.h LWP_VALGRIND_HEADER)
	if(LWP_VALGRIND_HEADER)
		set(LWP_HAVE_VALGRIND ON)
	endif()
endif()
