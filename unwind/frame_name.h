// Addresses -> names, for people.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "unwind/address_space.h"
#include "unwind/kernel_symbols.h"
#include "unwind/stack_resolver.h"

namespace lbrd::unwind {

struct FrameName {
  std::string symbol;  // demangled; empty: unknown
  uint64_t offset =
      0;  // from the symbol's start; with no symbol, the address in the file's own terms
};

// Names a user frame within its mapping (null: in none; then nothing is known but the address).
FrameName NameUserFrame(const Mapping* mapping, const ResolvedFrame& frame);

// Names a kernel frame. `symbols` may be null. *module: the module it is in; empty: the kernel
// itself.
FrameName NameKernelFrame(const KernelSymbols* symbols, const ResolvedFrame& frame,
                          std::string* module);

}  // namespace lbrd::unwind
