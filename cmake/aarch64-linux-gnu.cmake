# Cross-compiles for 64-bit ARM with Debian's g++-aarch64-linux-gnu; the other libraries' packages of that architecture are
# unpacked in TIDAL_SYSROOT (scripts/test_aarch64.sh makes it). Programs run under qemu-user.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)

# A toolchain file is read again for each probe of the compiler, which knows only the variables named here.
set(TIDAL_SYSROOT "${CMAKE_CURRENT_LIST_DIR}/../build-aarch64/sysroot" CACHE PATH "Unpacked arm64 packages")
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES TIDAL_SYSROOT)
get_filename_component(sysroot "${TIDAL_SYSROOT}" ABSOLUTE)
set(sysroot_libraries ${sysroot}/usr/lib/aarch64-linux-gnu ${sysroot}/lib/aarch64-linux-gnu)
set(compiler_root /usr/aarch64-linux-gnu)

set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH ${sysroot} ${compiler_root})
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
set(ENV{PKG_CONFIG_SYSROOT_DIR} ${sysroot})
set(ENV{PKG_CONFIG_LIBDIR} ${sysroot}/usr/lib/aarch64-linux-gnu/pkgconfig)

# What a library of the sysroot needs in turn is found there too, when linking and when running.
list(JOIN sysroot_libraries ":" library_path)
set(CMAKE_EXE_LINKER_FLAGS_INIT "-Wl,-rpath-link,${library_path}")
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64-static -L ${compiler_root} -E LD_LIBRARY_PATH=${library_path})
