# SPDX-License-Identifier: BSD-2-Clause
#
# What `cmake --install` puts where: libraries, headers, the CMake package, the pkg-config files.  All of it may be moved to
# another prefix afterwards.
include(CMakePackageConfigHelpers)

set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/lwp")

install(DIRECTORY "${PROJECT_SOURCE_DIR}/include/lwp" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" PATTERN "tls.hpp" EXCLUDE)

# Two export sets: whoever links the shared library needs no Boost and no liburing on his machine.
foreach(kind IN ITEMS shared static)
	install(TARGETS lwp_${kind} EXPORT lwp_${kind}
		ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}"
		LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}"
		RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
	install(EXPORT lwp_${kind} NAMESPACE lwp:: FILE lwp-${kind}.cmake DESTINATION "${package_dir}")
	if(LWP_WITH_TLS)
		install(TARGETS lwp_tls_${kind} EXPORT lwp_tls_${kind}
			ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}"
			LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}"
			RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
		install(EXPORT lwp_tls_${kind} NAMESPACE lwp:: FILE lwp-tls-${kind}.cmake DESTINATION "${package_dir}")
	endif()
endforeach()
if(LWP_WITH_TLS)
	install(FILES "${PROJECT_SOURCE_DIR}/include/lwp/tls.hpp" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/lwp")
endif()

install(TARGETS lwp_ps RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")

# gdb's helper, and what gdb loads beside the shared library (where its auto-load safe path lets it), which loads that.
set(lwp_gdb_dir "${CMAKE_INSTALL_DATADIR}/lwp/gdb")
install(FILES "${PROJECT_SOURCE_DIR}/tools/gdb/lwp.py" DESTINATION "${lwp_gdb_dir}")
cmake_path(ABSOLUTE_PATH CMAKE_INSTALL_LIBDIR BASE_DIRECTORY "${CMAKE_INSTALL_PREFIX}" OUTPUT_VARIABLE lwp_gdb_libdir)
cmake_path(ABSOLUTE_PATH lwp_gdb_dir BASE_DIRECTORY "${CMAKE_INSTALL_PREFIX}" OUTPUT_VARIABLE lwp_gdb_path)
cmake_path(RELATIVE_PATH lwp_gdb_path BASE_DIRECTORY "${lwp_gdb_libdir}")
configure_file("${PROJECT_SOURCE_DIR}/cmake/lwp-gdb.py.in" "${PROJECT_BINARY_DIR}/lwp-gdb.py" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/lwp-gdb.py" DESTINATION "${CMAKE_INSTALL_LIBDIR}" RENAME "liblwp.so.${PROJECT_VERSION}-gdb.py")

# One archive for both kinds: what it needs of the library is the library's public face.
install(TARGETS lwp_testing EXPORT lwp_testing ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}")
install(EXPORT lwp_testing NAMESPACE lwp:: FILE lwp-testing.cmake DESTINATION "${package_dir}")

configure_package_config_file("${PROJECT_SOURCE_DIR}/cmake/lwpConfig.cmake.in" "${PROJECT_BINARY_DIR}/lwpConfig.cmake"
	INSTALL_DESTINATION "${package_dir}" NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file("${PROJECT_BINARY_DIR}/lwpConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/lwpConfig.cmake" "${PROJECT_BINARY_DIR}/lwpConfigVersion.cmake"
	"${PROJECT_SOURCE_DIR}/cmake/FindLiburing.cmake" DESTINATION "${package_dir}")

# The prefix as seen from the .pc file, so that `cmake --install --prefix` and a later move are both right.
set(lwp_pc_dir "${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig")
cmake_path(RELATIVE_PATH CMAKE_INSTALL_PREFIX BASE_DIRECTORY "${lwp_pc_dir}" OUTPUT_VARIABLE lwp_pc_prefix)
cmake_path(RELATIVE_PATH CMAKE_INSTALL_FULL_LIBDIR BASE_DIRECTORY "${CMAKE_INSTALL_PREFIX}" OUTPUT_VARIABLE lwp_pc_libdir)
cmake_path(RELATIVE_PATH CMAKE_INSTALL_FULL_INCLUDEDIR BASE_DIRECTORY "${CMAKE_INSTALL_PREFIX}" OUTPUT_VARIABLE lwp_pc_includedir)
list(JOIN LWP_SANITIZE_FLAGS " " lwp_pc_sanitize)
list(JOIN lwp_testing_link_options " " lwp_pc_testing)
set(lwp_pc_files lwp lwp-testing)
if(LWP_WITH_TLS)
	list(APPEND lwp_pc_files lwp-tls)
endif()
foreach(name IN LISTS lwp_pc_files)
	configure_file("${PROJECT_SOURCE_DIR}/cmake/${name}.pc.in" "${PROJECT_BINARY_DIR}/${name}.pc" @ONLY)
	install(FILES "${PROJECT_BINARY_DIR}/${name}.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
endforeach()
