// Any bytes as a jitdump, read whole and as it grows.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "tests/unit/unwind/memory_bytes.h"
#include "unwind/code_symbols.h"
#include "unwind/jitdump.h"

namespace {

using lbrd::unwind::CodeBudget;
using lbrd::unwind::CodeSymbol;
using lbrd::unwind::CodeSymbols;
using lbrd::unwind::JitDumpReader;
using lbrd::unwind::MemoryBytes;

constexpr size_t kBudget = 1 << 20;

void Check(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  CodeBudget budget(kBudget);
  CodeSymbols whole(&budget);
  JitDumpReader reader;
  reader.Read(MemoryBytes(data, size), &whole);
  Check(budget.used() <= kBudget + (64 << 10));

  CodeBudget grown_budget(kBudget);
  CodeSymbols grown(&grown_budget);
  JitDumpReader growing;
  for (size_t part = 0; part < 8; ++part) {
    growing.Read(MemoryBytes(data, size / 8 * part), &grown);
  }
  growing.Read(MemoryBytes(data, size), &grown);
  Check(grown.size() == whole.size());

  for (size_t at = 0; at + 8 <= size && at < 4096; at += 8) {
    uint64_t address;
    std::memcpy(&address, data + at, sizeof address);
    for (const uint64_t time_ns : {uint64_t{0}, address, UINT64_MAX}) {
      const std::optional<CodeSymbol> found = whole.Find(address, time_ns);
      if (found.has_value()) Check(address - found->start < found->size);
      Check(found.has_value() == grown.Find(address, time_ns).has_value());
    }
  }
  return 0;
}
