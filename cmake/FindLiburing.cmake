# SPDX-License-Identifier: BSD-2-Clause
#
# Liburing::Liburing, 2.3 or newer (Debian: liburing-dev).
find_package(PkgConfig QUIET)
if(PkgConfig_FOUND)
	pkg_check_modules(PC_LIBURING QUIET liburing)
endif()
find_path(LIBURING_INCLUDE_DIR liburing.h HINTS ${PC_LIBURING_INCLUDE_DIRS})
find_library(LIBURING_LIBRARY uring HINTS ${PC_LIBURING_LIBRARY_DIRS})
mark_as_advanced(LIBURING_INCLUDE_DIR LIBURING_LIBRARY)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(Liburing REQUIRED_VARS LIBURING_LIBRARY LIBURING_INCLUDE_DIR VERSION_VAR PC_LIBURING_VERSION)

if(Liburing_FOUND AND NOT TARGET Liburing::Liburing)
	add_library(Liburing::Liburing UNKNOWN IMPORTED)
	set_target_properties(Liburing::Liburing PROPERTIES
		IMPORTED_LOCATION "${LIBURING_LIBRARY}"
		INTERFACE_INCLUDE_DIRECTORIES "${LIBURING_INCLUDE_DIR}")
endif()
