#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Installs a build of the library into an empty prefix, moves the prefix, and builds and runs programs against it that know nothing
# of our tree: by find_package and by pkg-config, shared and static, C++ and C.
#     run.sh BUILD_DIR WORK_DIR        WORK_DIR is emptied.  CC, CXX, CMAKE, CMAKE_GENERATOR, LAUNCHER (words before a program) from
#     the environment
set -euo pipefail

build=$1
work=$2
here=$(cd "$(dirname "$0")" && pwd)
cmake=${CMAKE:-cmake}
cc=${CC:-cc}
cxx=${CXX:-c++}
read -ra launcher <<<"${LAUNCHER:-}"

say() { printf '== %s\n' "$*"; }
run() {
	printf '$ %s\n' "$*"
	"${launcher[@]}" "$@"
}

rm -rf "$work"
mkdir -p "$work"
say "install, then move what was installed"
"$cmake" --install "$build" --prefix "$work/first" >"$work/install.log"
mv "$work/first" "$work/prefix"
prefix=$work/prefix
# The sources too, so that no relative path leads back.
mkdir "$work/source"
cp "$here/CMakeLists.txt" "$here"/hello* "$work/source"

programs=(hello hello_c)
explored=hello_testing
if find "$prefix" -name lwp.pc -exec grep -q -e -fsanitize {} +; then
	say "built with a sanitizer: explored schedules are not tested"
	explored=
fi
if [ -e "$prefix/include/lwp/tls.hpp" ]; then
	programs+=(hello_tls)
else
	say "built without TLS streams: those are not tested"
fi

for shared in ON OFF; do
	say "find_package(lwp), BUILD_SHARED_LIBS=$shared"
	"$cmake" -S "$work/source" -B "$work/cmake-$shared" -DCMAKE_PREFIX_PATH="$prefix" \
		-DBUILD_SHARED_LIBS=$shared -DCMAKE_C_COMPILER="$cc" -DCMAKE_CXX_COMPILER="$cxx" >"$work/cmake-$shared.log"
	"$cmake" --build "$work/cmake-$shared" >>"$work/cmake-$shared.log"
	for program in "${programs[@]}" $explored; do
		run "$work/cmake-$shared/$program"
		needs_lwp=$(readelf -d "$work/cmake-$shared/$program" | grep -c 'NEEDED.*\[liblwp\.so\.0\]' || true)
		if [ "$shared" = ON ] && [ "$needs_lwp" = 0 ] || [ "$shared" = OFF ] && [ "$needs_lwp" != 0 ]; then
			echo "$program: linked to the wrong library (BUILD_SHARED_LIBS=$shared)" >&2
			exit 1
		fi
	done
	if [ "$shared" = OFF ] && readelf -d "$work/cmake-$shared"/hello* | grep 'NEEDED.*\[liblwp'; then
		echo "a static build needs a library of ours" >&2
		exit 1
	fi
done

if ! command -v pkg-config >/dev/null; then
	echo "pkg-config is not installed: that half was not tested" >&2
	exit 1
fi
pc=$(dirname "$(find "$prefix" -name lwp.pc)")
export PKG_CONFIG_PATH=$pc
libdir=$(dirname "$pc")
read -ra cflags <<<"$(pkg-config --cflags lwp)"

say "pkg-config, shared"
read -ra libs <<<"$(pkg-config --libs lwp)"
"$cxx" -std=c++20 "${cflags[@]}" "$here/hello.cpp" "${libs[@]}" -o "$work/pc_hello"
"$cc" "${cflags[@]}" "$here/hello_c.c" "${libs[@]}" -o "$work/pc_hello_c"
LD_LIBRARY_PATH=$libdir run "$work/pc_hello"
LD_LIBRARY_PATH=$libdir run "$work/pc_hello_c"

if [ -n "$explored" ] && command -v gdb >/dev/null && gdb --nx --batch -ex run /bin/true 2>&1 | grep -q 'exited normally'; then
	say "gdb finds its helper beside the shared library"
	LD_LIBRARY_PATH=$libdir gdb --nx --batch -iex "add-auto-load-safe-path $prefix" -ex 'break main' -ex run -ex 'info lwps' "$work/pc_hello" >"$work/gdb.log" 2>&1
	grep -x 'No LWPs.' "$work/gdb.log" || {
		cat "$work/gdb.log" >&2
		exit 1
	}
else
	say "gdb is not here, or may not debug: its helper was not tried"
fi

say "README's ten lines, by README's command"
awk '/^```/ { inside = $0 == "```cpp"; next } inside' "$here/../../README.md" >"$work/program.cpp"
"$cxx" -std=c++20 "$work/program.cpp" "${cflags[@]}" "${libs[@]}" -Wl,-rpath,"$libdir" -o "$work/program"
if [ -n "$explored" ]; then  # ten thousand LWPs are many for a sanitizer
	run "$work/program" | grep -x '10000 LWPs on [0-9]* virtual CPUs'
fi

if [ -n "$explored" ]; then
	say "pkg-config, testing"
	read -ra testing <<<"$(pkg-config --libs lwp-testing)"
	"$cxx" -std=c++20 "${cflags[@]}" "$here/hello_testing.cpp" "${testing[@]}" -o "$work/pc_hello_testing"
	LD_LIBRARY_PATH=$libdir run "$work/pc_hello_testing"
fi

say "pkg-config, static"
read -ra libs <<<"$(pkg-config --static --libs lwp)"
static=("${libs[@]/#-llwp/-l:liblwp.a}")
"$cxx" -std=c++20 "${cflags[@]}" "$here/hello.cpp" "${static[@]}" -o "$work/pc_hello_static"
"$cc" "${cflags[@]}" "$here/hello_c.c" "${static[@]}" -o "$work/pc_hello_c_static"
if [ ${#programs[@]} = 3 ]; then
	say "pkg-config, TLS streams"
	read -ra libs <<<"$(pkg-config --libs lwp-tls)"
	"$cxx" -std=c++20 "${cflags[@]}" "$here/hello_tls.cpp" "${libs[@]}" -o "$work/pc_hello_tls"
	LD_LIBRARY_PATH=$libdir run "$work/pc_hello_tls"
	read -ra libs <<<"$(pkg-config --static --libs lwp-tls)"
	static=("${libs[@]/#-llwp/-l:liblwp}")
	static=("${static[@]/%:liblwp/:liblwp.a}")
	static=("${static[@]/%:liblwp-tls/:liblwp-tls.a}")
	"$cxx" -std=c++20 "${cflags[@]}" "$here/hello_tls.cpp" "${static[@]}" -o "$work/pc_hello_tls_static"
	run "$work/pc_hello_tls_static"
fi
run "$work/pc_hello_static"
run "$work/pc_hello_c_static"
say "all programs ran"
