// What a simulated process has mapped. Immutable once a process runs in it: a change makes a copy,
// so that any number of forked processes share one.
//
// Thread rules: immutable values may be shared; building one is its owner's.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/sim/program.h"

namespace lbrd::sim {

struct SimMapping {
  uint64_t start = 0;
  uint64_t end = 0;  // exclusive
  uint64_t file_offset = 0;
  bool executable = false;
  bool writable = false;
  const Module* module = nullptr;  // null: anonymous
};

struct SimAddressSpace {
  std::shared_ptr<const Program> program;
  std::array<uint64_t, kModules> base{};  // 0: not mapped
  std::vector<SimMapping> mappings;       // by start, disjoint
  uint64_t stack_top = 0;                 // of the first thread

  uint64_t FunctionAddress(uint32_t function) const {
    const Function& f = program->function(function);
    return base[static_cast<size_t>(f.module)] + f.offset;
  }
  bool Mapped(uint32_t function) const {
    return base[static_cast<size_t>(program->function(function).module)] != 0;
  }
  uint64_t VariableAddress(uint32_t function) const {
    return base[0] + program->VariableOffset(function);
  }
  // Maps over whatever was there.
  void Map(const SimMapping& mapping);
  // Maps a module's code at its base.
  SimMapping MapModule(ModuleKind kind, uint64_t at);
  bool Unmap(uint64_t start, uint64_t end);
};

// A program as exec leaves it: executable, library, data, stack; at addresses drawn by chance.
std::shared_ptr<SimAddressSpace> LoadProgram(std::shared_ptr<const Program> program,
                                             Random& random);

// The text of /proc/PID/maps.
std::string MapsText(const SimAddressSpace& space);

}  // namespace lbrd::sim
