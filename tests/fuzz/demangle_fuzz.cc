// Any bytes as a mangled name, as they are and behind each prefix that says of which kind.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "absl/strings/str_cat.h"
#include "unwind/demangle.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  for (const absl::string_view prefix : {"", "_Z1fI", "_ZN1acv", "_RINvC1a1b", "_RMNvC1a1b"}) {
    const std::string name = absl::StrCat(prefix, text);
    const std::string demangled = lbrd::unwind::Demangle(name);
    if (demangled.size() > std::max(lbrd::unwind::kMaxDemangledBytes, name.size())) std::abort();
  }
  return 0;
}
