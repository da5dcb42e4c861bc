// The kernel's function names, as this process may see them.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "pmu/kernel.h"
#include "unwind/kernel_symbols.h"

namespace lbrd::daemon {

struct KernelNames {
  std::shared_ptr<const unwind::KernelSymbols> symbols;  // null: there are none
  std::string missing;                                   // why; empty: there are
};

// Names that are read when the first frame of the kernel's is to be named: the kernel takes a while
// to write them, and whoever opens a recording need not wait for that.
//
// Copies share what was read. Thread-safe; whoever asks while they are read waits.
class KernelNameSource {
 public:
  explicit KernelNameSource(KernelNames known = {});
  explicit KernelNameSource(std::function<KernelNames()> read);

  const KernelNames& Get() const;
  const KernelNames* known() const;  // nullptr: nobody has asked yet

 private:
  struct State;
  std::shared_ptr<State> state_;
};

// Reads /proc/kallsyms, each time: BPF programs come and go. Whoever finds the same text has the
// same names, which take some 5 MiB. Thread-safe.
KernelNames ReadKernelNames(pmu::Kernel& kernel);

// The running kernel's build ID in lower-case hex, from /sys/kernel/notes; empty: it has none.
std::string KernelBuildId(pmu::Kernel& kernel);

}  // namespace lbrd::daemon
