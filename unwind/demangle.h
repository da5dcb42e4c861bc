// Names as people write them: C++ (Itanium ABI) and Rust (legacy and v0) demangling.
#pragma once

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"

namespace lbrd::unwind {

// Longest name that is given out; a mangled name can ask for exponentially more.
inline constexpr size_t kMaxDemangledBytes = 16384;

// The demangled name without parameters ("ns::Class::method"), or `mangled` itself when it is not a
// mangled name, is malformed, or would be longer than kMaxDemangledBytes. Thread-safe.
std::string Demangle(absl::string_view mangled);

}  // namespace lbrd::unwind
