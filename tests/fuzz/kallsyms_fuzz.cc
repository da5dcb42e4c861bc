// Any bytes as the text of /proc/kallsyms.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "absl/strings/string_view.h"
#include "unwind/kernel_symbols.h"

namespace {

void Check(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using lbrd::unwind::KernelSymbol;
  using lbrd::unwind::KernelSymbols;
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const absl::StatusOr<KernelSymbols> symbols = KernelSymbols::Parse(text);
  if (!symbols.ok()) return 0;
  Check(symbols->size() > 0);
  for (uint64_t address : {uint64_t{0}, uint64_t{1}, UINT64_MAX, UINT64_MAX << 31}) {
    for (int step = 0; step < 64; ++step) {
      if (const std::optional<KernelSymbol> symbol = symbols->Find(address)) {
        Check(symbol->start <= address && address - symbol->start < (1 << 20));
        Check(!symbol->name.empty());
      }
      address += uint64_t{1} << step;
    }
  }
  return 0;
}
