// The kernel's function names, as this process may see them.
#pragma once

#include <memory>
#include <string>

#include "pmu/kernel.h"
#include "unwind/kernel_symbols.h"

namespace lbrd::daemon {

struct KernelNames {
  std::shared_ptr<const unwind::KernelSymbols> symbols;  // null: there are none
  std::string missing;                                   // why; empty: there are
};

// Reads /proc/kallsyms, each time: BPF programs come and go. Whoever finds the same text has the
// same names, which take some 5 MiB. Thread-safe.
KernelNames ReadKernelNames(pmu::Kernel& kernel);

// The running kernel's build ID in lower-case hex, from /sys/kernel/notes; empty: it has none.
std::string KernelBuildId(pmu::Kernel& kernel);

}  // namespace lbrd::daemon
