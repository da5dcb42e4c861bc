// What a process has mapped where: executable mappings only, in address order.
//
// Thread rules: one owner at a time (the worker of the process's group leader).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "unwind/binary.h"

namespace lbrd::unwind {

struct Mapping {
  uint64_t start = 0;
  uint64_t end = 0;  // exclusive
  uint64_t file_offset = 0;
  std::shared_ptr<const Binary> binary;

  // An address of this mapping in the file's own terms; nullopt: the file does not say.
  std::optional<uint64_t> FileAddress(uint64_t address) const {
    return binary->AddressOfOffset(address - start + file_offset);
  }
};

class AddressSpace {
 public:
  // Beyond this many mappings new ones are not taken (the kernel's own default limit): 2.5 MiB.
  static constexpr size_t kMaxMappings = 65530;

  // Maps [start, end), over whatever was there. False: full, or empty.
  bool Map(Mapping mapping);
  void Clear();
  const Mapping* Find(uint64_t address) const;
  const std::vector<Mapping>& mappings() const { return mappings_; }
  // Names the content: changes with it, and is shared only by copies. What was derived from another
  // generation is void, even where a process ID is used again.
  uint64_t generation() const { return generation_; }

 private:
  std::vector<Mapping> mappings_;  // by start, disjoint
  uint64_t generation_ = 1;        // that of every empty space
};

}  // namespace lbrd::unwind
