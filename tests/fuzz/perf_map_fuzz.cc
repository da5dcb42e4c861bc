// Any bytes as a perf map that is still being written.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "absl/strings/string_view.h"
#include "unwind/code_symbols.h"
#include "unwind/perf_map.h"

namespace {

void Check(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using lbrd::unwind::CodeBudget;
  using lbrd::unwind::CodeSymbol;
  using lbrd::unwind::CodeSymbols;
  using lbrd::unwind::PerfMapReader;
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  CodeBudget budget(1 << 20);
  CodeSymbols whole(&budget);
  PerfMapReader reader;
  reader.Feed(text, &whole);
  Check(budget.used() <= (1 << 20) + (64 << 10));
  // However it comes in pieces, it says the same.
  CodeBudget other_budget(1 << 20);
  CodeSymbols pieces(&other_budget);
  PerfMapReader piecewise;
  for (size_t at = 0; at < size; at += 5) piecewise.Feed(text.substr(at, 5), &pieces);
  Check(reader.malformed_lines() == piecewise.malformed_lines() && whole.size() == pieces.size());
  for (uint64_t address : {uint64_t{0}, uint64_t{0x1000}, UINT64_MAX}) {
    for (int bit = 0; bit < 64; ++bit) {
      const std::optional<CodeSymbol> found = whole.Find(address, 0);
      const std::optional<CodeSymbol> same = pieces.Find(address, 0);
      Check(found.has_value() == same.has_value());
      if (found.has_value()) {
        Check(address - found->start < found->size && found->name == same->name);
      }
      address ^= uint64_t{1} << bit;
    }
  }
  return 0;
}
