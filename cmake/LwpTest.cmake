# SPDX-License-Identifier: BSD-2-Clause
#
# How tests are registered: at several vCPU counts, and with what the sanitizers have to be told.

# 16: each LWP has a fake stack for its locals, which AddressSanitizer would else make as large as eleven of the largest stacks, and poison at its end.
set(LWP_TEST_ENVIRONMENT
	"ASAN_OPTIONS=detect_stack_use_after_return=1:max_uar_stack_size_log=16:detect_leaks=1:abort_on_error=0"
	"TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1"
	"UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1")

# ThreadSanitizer's fixed memory layout does not fit the address randomization of newer kernels: run without, where that is allowed.
set(LWP_TEST_LAUNCHER "")
if(LWP_SANITIZE STREQUAL "thread")
	execute_process(COMMAND setarch --addr-no-randomize true RESULT_VARIABLE failed OUTPUT_QUIET ERROR_QUIET)
	if(failed EQUAL 0)
		set(LWP_TEST_LAUNCHER setarch --addr-no-randomize)
	endif()
endif()

# lwp_vcpu_counts(<result> <file>): the counts that a line "vcpus: 1 2 8" (in a comment, if the file is a program) within the file's
# first 30 lines asks for; empty without one.
function(lwp_vcpu_counts result file)
	set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${file}")
	file(STRINGS "${file}" lines LIMIT_COUNT 30)
	set(counts "")
	foreach(line IN LISTS lines)
		if(line MATCHES "^(// *|/?[ ]?[*] *)?vcpus: *([0-9 ]+)")
			separate_arguments(counts UNIX_COMMAND "${CMAKE_MATCH_2}")
		endif()
	endforeach()
	set(${result} ${counts} PARENT_SCOPE)
endfunction()

# lwp_io_kinds(<result> <file>): likewise what a line "io: uring epoll" asks for.
function(lwp_io_kinds result file)
	file(STRINGS "${file}" lines LIMIT_COUNT 30)
	set(kinds "")
	foreach(line IN LISTS lines)
		if(line MATCHES "^// *io: *([a-z ]+)")
			separate_arguments(kinds UNIX_COMMAND "${CMAKE_MATCH_1}")
		endif()
	endforeach()
	set(${result} ${kinds} PARENT_SCOPE)
endfunction()

# lwp_test_computes(<result> <file>): not empty if a line "computes: ..." says that its LWPs keep all CPUs busy.  Such tests have as many of ctest's
# processors for themselves as there are vCPUs, two at least: beside each other they take many times as long.  They come first.
function(lwp_test_computes result file)
	file(STRINGS "${file}" lines LIMIT_COUNT 30 REGEX "^// *computes: ")
	set(${result} "${lines}" PARENT_SCOPE)
endfunction()

function(lwp_test_uses_cpus test count)
	if(count LESS 2)
		set(count 2)
	endif()
	set_tests_properties(${test} PROPERTIES PROCESSORS ${count} COST 60)
endfunction()

# lwp_add_io_tests(<name> <counts> <kinds> <command>...): each count with each way of I/O, as <name>@<count>-<kind>, with LWP_IO=<kind>; "any" is
# the library's own choice, "denied" is that where io_uring_setup(2) fails with EPERM.  With LWP_TEST_COMPUTES set they have CPUs for themselves.
function(lwp_add_io_tests name counts kinds)
	foreach(kind IN LISTS kinds)
		set(variable "LWP_IO=${kind}")
		if(kind STREQUAL "any")
			set(variable "LWP_IO=")
		elseif(kind STREQUAL "denied")
			set(variable "LWP_TEST_DENY_URING=1")
		endif()
		foreach(count IN LISTS counts)
			add_test(NAME ${name}@${count}-${kind} COMMAND ${LWP_TEST_LAUNCHER} ${ARGN})
			set_tests_properties(${name}@${count}-${kind} PROPERTIES
				ENVIRONMENT "${LWP_TEST_ENVIRONMENT};LWP_VCPUS=${count};${variable}")
			if(LWP_TEST_COMPUTES)
				lwp_test_uses_cpus(${name}@${count}-${kind} ${count})
			endif()
		endforeach()
	endforeach()
endfunction()

# lwp_add_tests(<name> <counts> <command>...): one test for each count, or one with the default number of vCPUs.
function(lwp_add_tests name counts)
	if(NOT counts)
		add_test(NAME ${name} COMMAND ${LWP_TEST_LAUNCHER} ${ARGN})
		set_tests_properties(${name} PROPERTIES ENVIRONMENT "${LWP_TEST_ENVIRONMENT}")
	endif()
	foreach(count IN LISTS counts)
		add_test(NAME ${name}@${count} COMMAND ${LWP_TEST_LAUNCHER} ${ARGN})
		set_tests_properties(${name}@${count} PROPERTIES ENVIRONMENT "${LWP_TEST_ENVIRONMENT};LWP_VCPUS=${count}")
		if(LWP_TEST_COMPUTES)
			lwp_test_uses_cpus(${name}@${count} ${count})
		endif()
	endforeach()
endfunction()
