#include "daemon/kernel_names.h"

#include <elf.h>

#include <cstring>
#include <utility>

#include "absl/strings/escaping.h"

namespace lbrd::daemon {
namespace {

// Some 200,000 lines of 50 bytes; modules and BPF programs add to it.
constexpr uint64_t kMaxKallsymsBytes = uint64_t{256} << 20;

}  // namespace

KernelNames ReadKernelNames(pmu::Kernel& kernel) {
  const absl::StatusOr<std::string> text = kernel.ReadFile("/proc/kallsyms", kMaxKallsymsBytes);
  if (!text.ok()) return {nullptr, std::string(text.status().message())};
  absl::StatusOr<unwind::KernelSymbols> symbols = unwind::KernelSymbols::Parse(*text);
  if (!symbols.ok()) return {nullptr, std::string(symbols.status().message())};
  return {std::make_shared<unwind::KernelSymbols>(*std::move(symbols)), ""};
}

std::string KernelBuildId(pmu::Kernel& kernel) {
  const absl::StatusOr<std::string> notes = kernel.ReadFile("/sys/kernel/notes", 65536);
  if (!notes.ok()) return "";
  absl::string_view rest = *notes;
  while (rest.size() >= sizeof(Elf64_Nhdr)) {
    Elf64_Nhdr note;
    std::memcpy(&note, rest.data(), sizeof(note));
    rest.remove_prefix(sizeof(note));
    const uint64_t name_bytes = (uint64_t{note.n_namesz} + 3) / 4 * 4;
    const uint64_t bytes = (uint64_t{note.n_descsz} + 3) / 4 * 4;
    if (name_bytes > rest.size() || bytes > rest.size() - name_bytes) break;
    if (note.n_type == NT_GNU_BUILD_ID &&
        rest.substr(0, note.n_namesz) == absl::string_view("GNU", 4)) {
      return absl::BytesToHexString(rest.substr(name_bytes, note.n_descsz));
    }
    rest.remove_prefix(name_bytes + bytes);
  }
  return "";
}

}  // namespace lbrd::daemon
