#include "tests/sim/address_space.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace lbrd::sim {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kExecutableRegion = 0x5500'0000'0000;
constexpr uint64_t kLibraryRegion = 0x7f00'0000'0000;
constexpr uint64_t kStackRegion = 0x7ffc'0000'0000;
constexpr uint64_t kStackBytes = 132 * 1024;

uint64_t ChancePage(uint64_t region, Random& random) {
  return region + random.Below(uint64_t{1} << 26) * kPage * 4;
}

}  // namespace

bool SimAddressSpace::Unmap(uint64_t start, uint64_t end) {
  std::vector<SimMapping> kept;
  bool changed = false;
  for (const SimMapping& old : mappings) {
    if (old.end <= start || old.start >= end) {
      kept.push_back(old);
      continue;
    }
    changed = true;
    if (old.start < start) {
      kept.push_back(old);
      kept.back().end = start;
    }
    if (old.end > end) {
      kept.push_back(old);
      kept.back().file_offset += end - old.start;
      kept.back().start = end;
    }
  }
  mappings = std::move(kept);
  return changed;
}

void SimAddressSpace::Map(const SimMapping& mapping) {
  Unmap(mapping.start, mapping.end);
  const auto at =
      std::upper_bound(mappings.begin(), mappings.end(), mapping.start,
                       [](uint64_t start, const SimMapping& other) { return start < other.start; });
  mappings.insert(at, mapping);
}

SimMapping SimAddressSpace::MapModule(ModuleKind kind, uint64_t at) {
  const Module& module = program->module(kind);
  base[static_cast<size_t>(kind)] = at;
  const SimMapping mapping{.start = at,
                           .end = at + module.bytes,
                           .file_offset = 0,
                           .executable = true,
                           .writable = false,
                           .module = &module};
  Map(mapping);
  return mapping;
}

std::shared_ptr<SimAddressSpace> LoadProgram(std::shared_ptr<const Program> program,
                                             Random& random) {
  auto space = std::make_shared<SimAddressSpace>();
  space->program = std::move(program);
  space->MapModule(ModuleKind::kExecutable, ChancePage(kExecutableRegion, random));
  space->MapModule(ModuleKind::kLibrary, ChancePage(kLibraryRegion, random));
  const uint64_t variables = space->VariableAddress(0);
  space->Map({.start = variables,
              .end = variables + space->program->VariableBytes(),
              .file_offset = space->program->module(ModuleKind::kExecutable).bytes,
              .executable = false,
              .writable = true,
              .module = &space->program->module(ModuleKind::kExecutable)});
  space->stack_top = kStackRegion + random.Below(uint64_t{1} << 20) * kPage;
  space->Map({.start = space->stack_top - kStackBytes,
              .end = space->stack_top,
              .file_offset = 0,
              .executable = false,
              .writable = true,
              .module = nullptr});
  return space;
}

std::string MapsText(const SimAddressSpace& space) {
  std::string text;
  for (const SimMapping& mapping : space.mappings) {
    const Module* module = mapping.module;
    std::string line = absl::StrFormat("%x-%x r%c%cp %08x %s %d", mapping.start, mapping.end,
                                       mapping.writable ? 'w' : '-', mapping.executable ? 'x' : '-',
                                       mapping.file_offset, module != nullptr ? "fe:01" : "00:00",
                                       module != nullptr ? module->inode : 0);
    const std::string path = module != nullptr                ? module->path
                             : mapping.end == space.stack_top ? "[stack]"
                                                              : "";
    if (!path.empty()) absl::StrAppend(&line, " ", path);
    absl::StrAppend(&text, line, "\n");
  }
  return text;
}

}  // namespace lbrd::sim
