# What most files read again and again, read once. A file still includes what it
# uses: -DLBRD_PRECOMPILED=OFF shows where one does not (the clang preset builds so).
option(LBRD_PRECOMPILED "Precompile the standard library's, abseil's, gRPC's and GoogleTest's headers" ON)

set(precompiled_base <algorithm> <array> <atomic> <cerrno> <cstddef> <cstdint> <cstring> <functional> <limits> <map>
    <memory> <mutex> <optional> <span> <string> <thread> <utility> <variant> <vector>
    <absl/container/flat_hash_map.h> <absl/container/flat_hash_set.h> <absl/status/status.h> <absl/status/statusor.h>
    <absl/strings/numbers.h> <absl/strings/str_cat.h> <absl/strings/str_split.h> <absl/strings/string_view.h>
    <absl/synchronization/mutex.h> <absl/time/time.h>)
set(precompiled_service ${precompiled_base} <grpcpp/grpcpp.h>)
set(precompiled_command ${precompiled_service} <CLI/CLI.hpp>)
set(precompiled_test ${precompiled_base} <gmock/gmock.h> <gtest/gtest.h>)

# A test's own code is compiled for a fast build: what it tests is compiled as users get it.
function(lbrd_fast_build target)
  if(CMAKE_BUILD_TYPE STREQUAL "RelWithDebInfo")
    target_compile_options(${target} PRIVATE -O0)
  endif()
endfunction()

function(lbrd_test_options target)
  lbrd_fast_build(${target})
  lbrd_precompile(${target} test)
endfunction()

# The way of a sample, which each of them takes: its loops are short, and gain some 4 %
# by -O3 (docs/benchmarks.md, lbr_rate_bench).
function(lbrd_hot)
  if(CMAKE_BUILD_TYPE STREQUAL "RelWithDebInfo" AND NOT LBRD_SANITIZE)
    set_source_files_properties(${ARGN} PROPERTIES COMPILE_OPTIONS -O3)
  endif()
endfunction()

# What reads a command line: CLI11 is all in its headers, and sanitized it takes the optimizer longer
# than everything else together.
function(lbrd_command_options target)
  if(LBRD_SANITIZE)
    lbrd_fast_build(${target})
  endif()
  lbrd_precompile(${target} command)
endfunction()

# Each set is compiled once, for a library of its own, which has the options of all that use it.
function(lbrd_precompile target set)
  if(NOT LBRD_PRECOMPILED)
    return()
  endif()
  set(owner lbrd_precompiled_${set})
  if(NOT TARGET ${owner})
    file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/${owner}.cc CONTENT "")
    add_library(${owner} OBJECT ${PROJECT_BINARY_DIR}/${owner}.cc)
    target_link_libraries(${owner} PRIVATE lbrd_options absl::statusor absl::synchronization)
    if(set MATCHES "service|command")
      target_link_libraries(${owner} PRIVATE gRPC::grpc++)
    elseif(set STREQUAL "test")
      target_link_libraries(${owner} PRIVATE GTest::gmock)
    endif()
    if(set STREQUAL "test" OR (set STREQUAL "command" AND LBRD_SANITIZE))
      lbrd_fast_build(${owner})
    endif()
    target_precompile_headers(${owner} PRIVATE ${precompiled_${set}})
  endif()
  target_precompile_headers(${target} REUSE_FROM ${owner})
endfunction()
