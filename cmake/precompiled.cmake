# What most files read again and again, read once: it halves a cold build. A file still includes what
# it uses: -DLBRD_PRECOMPILED=OFF shows where one does not (the clang preset builds so).
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
function(lbrd_test_options target)
  lbrd_precompile(${target} test)
  if(CMAKE_BUILD_TYPE STREQUAL "RelWithDebInfo")
    # At this level g++ 12 takes what std::string does for out of bounds.
    target_compile_options(${target} PRIVATE
      -O1 "$<$<CXX_COMPILER_ID:GNU>:-Wno-array-bounds;-Wno-stringop-overflow;-Wno-stringop-overread>")
  endif()
endfunction()

# The first target of a set compiles it; the others, which have the same options, use that.
function(lbrd_precompile target set)
  if(NOT LBRD_PRECOMPILED)
    return()
  endif()
  get_property(owner GLOBAL PROPERTY lbrd_precompiled_${set})
  if(owner)
    target_precompile_headers(${target} REUSE_FROM ${owner})
  else()
    target_precompile_headers(${target} PRIVATE ${precompiled_${set}})
    set_property(GLOBAL PROPERTY lbrd_precompiled_${set} ${target})
  endif()
endfunction()
